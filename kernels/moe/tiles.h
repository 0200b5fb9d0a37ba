/* Which rows a block of a grouped kernel takes, from the dispatch plan alone, on the device: the
 * host does not know how many rows an expert got. The sorted rows of each expert are cut into tiles
 * of `tile_rows`; tiles are numbered expert after expert. No row is padded, the last tile of an
 * expert is short. The host launches moe_tiles_max blocks, and those beyond the last tile leave. */
#ifndef ANEMO_MOE_TILES_H
#define ANEMO_MOE_TILES_H

#include "kernels/dense/common.h"

typedef struct moe_tile {
    int32_t expert; /* -1: there is no such tile */
    int32_t row_begin, row_end;
} moe_tile;

/* offset[n_experts + 1] is the plan's. */
static ANEMO_HOST_DEVICE inline moe_tile moe_tile_at(const int32_t *offset, int32_t expert_begin,
                                                     int32_t expert_end, int32_t tile_rows,
                                                     int64_t index) {
    for (int32_t e = expert_begin; e < expert_end; e++) {
        const int32_t rows = offset[e + 1] - offset[e];
        const int64_t tiles = (rows + (int64_t)tile_rows - 1) / tile_rows;
        if (index < tiles) {
            const int32_t begin = offset[e] + (int32_t)index * tile_rows;
            const moe_tile tile = {e, begin,
                                   (int32_t)min_i64((int64_t)begin + tile_rows, offset[e + 1])};
            return tile;
        }
        index -= tiles;
    }
    const moe_tile none = {-1, 0, 0};
    return none;
}

/* Tiles at most, however `rows` rows fall on `experts` experts: every expert that has a row may end
 * in a short tile. */
static ANEMO_HOST_DEVICE inline int64_t moe_tiles_max(int64_t rows, int64_t experts,
                                                      int64_t tile_rows) {
    const int64_t short_tiles = min_i64(rows, experts);
    return short_tiles + (rows - short_tiles) / tile_rows;
}

#endif
