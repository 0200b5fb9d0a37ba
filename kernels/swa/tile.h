/* Index arithmetic of the CUDA variants of swa that work in tiles (tile.cuh): which query rows and
 * which keys meet in a thread block, and where 16 bytes of a vector stand in shared memory.
 *
 * Query heads that share a KV head are rows of one matrix: *packed row* p of a sequence is query
 * head p % group of its token p / group in this step. A query tile is tile_rows packed rows, cut
 * without regard to tokens, so that any group fits any tile. Key tiles begin at multiples of
 * SWA_TILE_KEYS, whoever asks: the order in which a row adds its keys depends on the row alone. */
#ifndef ANEMO_SWA_TILE_H
#define ANEMO_SWA_TILE_H

#include "kernels/dense/common.h"

enum {
    SWA_TILE_KEYS = 64,
    SWA_PIECE_BYTES = 16, /* what cp.async and a row of ldmatrix take */
    SWA_QUERY_EXPONENT = 14
};

/* ---------------------------------------------------------------- query tiles */

/* Packed rows [begin, end) of a sequence; sequence < 0: there is no such tile. */
typedef struct swa_query_tile {
    int32_t sequence;
    int64_t begin, end;
} swa_query_tile;

static ANEMO_HOST_DEVICE inline swa_query_tile swa_query_tile_at(const int32_t *row_start,
                                                                 int32_t n_sequences, int32_t group,
                                                                 int32_t tile_rows, int64_t index) {
    swa_query_tile tile = {-1, 0, 0};
    for (int32_t s = 0; s < n_sequences; s++) {
        const int64_t rows = (int64_t)(row_start[s + 1] - row_start[s]) * group;
        const int64_t tiles = anemo_ceil_div(rows, tile_rows);
        if (index < tiles) {
            tile.sequence = s;
            tile.begin = index * tile_rows;
            tile.end = min_i64(rows, tile.begin + tile_rows);
            break;
        }
        index -= tiles;
    }
    return tile;
}

/* No step of so many rows in so many sequences has more tiles. */
static ANEMO_HOST_DEVICE inline int64_t swa_query_tiles_max(int64_t rows, int32_t n_sequences,
                                                            int32_t group, int32_t tile_rows) {
    return (rows * group + min_i64(rows, n_sequences) * (tile_rows - 1)) / tile_rows;
}

/* ---------------------------------------------------------------- key tiles */

/* What the rows at positions from .. to (in steps of one) of a sequence see: a key in [begin, end)
 * is seen by one of them, a key in [all_begin, all_end) by all. */
typedef struct swa_keys {
    int32_t begin, end, all_begin, all_end;
} swa_keys;

/* The first position that the row at `position` sees. */
static ANEMO_HOST_DEVICE inline int32_t swa_first_seen(int32_t first, int32_t window,
                                                       int32_t position) {
    const int32_t begin = window > 0 ? position - window + 1 : first;
    return begin > first ? begin : first;
}

static ANEMO_HOST_DEVICE inline swa_keys swa_keys_of(int32_t first, int32_t window, int32_t from,
                                                     int32_t to) {
    const swa_keys keys = {swa_first_seen(first, window, from), to + 1,
                           swa_first_seen(first, window, to), from + 1};
    return keys;
}

/* Key tiles [swa_tile_begin, swa_tile_end) hold the keys that are seen. */
static ANEMO_HOST_DEVICE inline int32_t swa_tile_begin(const swa_keys *keys) {
    return keys->begin / SWA_TILE_KEYS;
}
static ANEMO_HOST_DEVICE inline int32_t swa_tile_end(const swa_keys *keys) {
    return (keys->end + SWA_TILE_KEYS - 1) / SWA_TILE_KEYS;
}

/* Does every row see every key of the tile, so that it needs no mask? Is every key of it seen? */
static ANEMO_HOST_DEVICE inline bool swa_tile_is_open(const swa_keys *keys, int32_t tile) {
    return tile * SWA_TILE_KEYS >= keys->all_begin && (tile + 1) * SWA_TILE_KEYS <= keys->all_end;
}
static ANEMO_HOST_DEVICE inline bool swa_tile_is_full(const swa_keys *keys, int32_t tile) {
    return tile * SWA_TILE_KEYS >= keys->begin && (tile + 1) * SWA_TILE_KEYS <= keys->end;
}

/* ---------------------------------------------------------------- shared memory */

/* A vector is a row of `pieces` pieces of 16 bytes. ldmatrix reads the same piece of eight rows,
 * whose numbers begin at a multiple of eight, at once, and so much is a line of all 32 banks: those
 * eight must stand in different eighths of a line. Rows that are a multiple of a line long would
 * put them into one, half and quarter lines into two and four; so the lowest bits of the piece's
 * number are turned by bits of the row's. What is added depends on row % 8 only. */
static ANEMO_HOST_DEVICE inline int32_t swa_turn(int32_t pieces, int32_t row) {
    return pieces % 8 == 0   ? row % 8
           : pieces % 4 == 0 ? row / 2 % 4
           : pieces % 2 == 0 ? row / 4 % 2
                             : 0;
}

/* In bytes. */
static ANEMO_HOST_DEVICE inline int32_t swa_piece_at(int32_t pieces, int32_t row, int32_t piece) {
    return (row * pieces + (piece ^ swa_turn(pieces, row))) * SWA_PIECE_BYTES;
}

/* For a lane that reads piece even + odd of a row, with the same odd (0 or 1) and the same row % 8
 * each time: what it needs is swa_lane_piece ^ even * SWA_PIECE_BYTES bytes behind the row's
 * beginning. */
static ANEMO_HOST_DEVICE inline int32_t swa_lane_piece(int32_t pieces, int32_t row, int32_t odd) {
    return (odd ^ swa_turn(pieces, row)) * SWA_PIECE_BYTES;
}

/* ---------------------------------------------------------------- f16 queries */

/* A query row is multiplied by a power of two, which brings its largest element to 2^14 .. 2^15 and
 * so keeps what f16 can hold of the others; scores are multiplied by the inverse. Both as the bits
 * of floats; of a row that is zero or tiny, of what is left. */
static ANEMO_HOST_DEVICE inline uint32_t swa_query_power(uint32_t largest_bits) {
    const uint32_t exponent = largest_bits >> 23 & 255u;
    const uint32_t power = 254u + SWA_QUERY_EXPONENT - exponent;
    return (power < 253u ? power : 253u) << 23;
}
static ANEMO_HOST_DEVICE inline uint32_t swa_query_inverse(uint32_t power_bits) {
    return (254u << 23) - power_bits;
}

#endif
