/* Who computes what in the GPU's qgemm kernels: plain integer functions of the problem, so that
 * they can be tested one by one on the host, and so that a workspace has its size at plan time.
 *
 * Blocks. The weight rows of all parts in blocks of 16, part after part; with ACT_MUL a block is
 * one of gate and the same of up, and only gate's are counted.
 *
 * Slices (GEMV). A block's columns are cut for the warps of its thread blocks: `slices` of them, 8
 * warps each. More than one slice only where there are fewer blocks than a large GPU has places
 * for; the number depends on the problem alone, never on m or on the GPU, so that a row's result
 * does not either.
 *
 * Stream-K (tiles). Tiles of rows x tokens, each `steps` long, lie one behind the other on a line;
 * worker w does the piece [w L / W, (w + 1) L / W) of it, L steps in all. Every worker has the same
 * work within a step, whatever the number of tiles. A tile that one worker does whole is finished
 * there. Of others each worker writes a partial sum to a place of its own, at most two per worker
 * (where its piece begins, where it ends), and a second kernel adds them in the order of k:
 * nothing waits for anything, and the sum does not depend on who came first. */
#ifndef ANEMO_QGEMM_SCHEDULE_H
#define ANEMO_QGEMM_SCHEDULE_H

#include "kernels/host_device.h"
#include "kernels/kernel.h"

enum {
    ANEMO_GEMV_WARPS = 8,
    ANEMO_GEMV_PLACES = 264, /* thread blocks that fill a GPU: 2 on each of 132 multiprocessors */
    ANEMO_GEMV_LEAST_STEPS = 4, /* of 64 columns, that a warp should have */
    ANEMO_GEMV_MOST_SLICES = 8,
    ANEMO_STREAM_WORKERS = 264,
    ANEMO_STREAM_LEAST_STEPS = 8
};

static ANEMO_HOST_DEVICE inline int64_t anemo_up_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* ---------------------------------------------------------------- blocks of rows */

typedef struct anemo_row_block {
    int32_t part;
    int64_t block; /* of the part */
} anemo_row_block;

static ANEMO_HOST_DEVICE inline int32_t anemo_counted_parts(const anemo_qgemm_problem *p) {
    return p->epilogue == ANEMO_EPI_ACT_MUL ? 1 : p->n_parts;
}

/* Blocks of `rows` weight rows. */
static ANEMO_HOST_DEVICE inline int64_t anemo_row_blocks(const anemo_qgemm_problem *p,
                                                         int64_t rows) {
    int64_t blocks = 0;
    for (int32_t i = 0; i < anemo_counted_parts(p); i++) {
        blocks += anemo_up_div(p->n[i], rows);
    }
    return blocks;
}

static ANEMO_HOST_DEVICE inline anemo_row_block anemo_row_block_at(const anemo_qgemm_problem *p,
                                                                   int64_t rows, int64_t index) {
    anemo_row_block at = {0, index};
    while (at.part + 1 < anemo_counted_parts(p) && at.block >= anemo_up_div(p->n[at.part], rows)) {
        at.block -= anemo_up_div(p->n[at.part], rows);
        at.part++;
    }
    return at;
}

/* ---------------------------------------------------------------- slices */

static ANEMO_HOST_DEVICE inline int32_t anemo_gemv_slices(int64_t blocks, int64_t steps) {
    int32_t slices = 1;
    while (slices < ANEMO_GEMV_MOST_SLICES && blocks * slices < ANEMO_GEMV_PLACES &&
           steps >= (int64_t)2 * slices * ANEMO_GEMV_WARPS * ANEMO_GEMV_LEAST_STEPS) {
        slices *= 2;
    }
    return slices;
}

/* Piece `index` of `count` nearly equal ones of [0, n). */
typedef struct anemo_piece {
    int64_t begin, end;
} anemo_piece;

static ANEMO_HOST_DEVICE inline anemo_piece anemo_piece_of(int64_t n, int64_t count,
                                                           int64_t index) {
    const anemo_piece piece = {n * index / count, n * (index + 1) / count};
    return piece;
}

/* ---------------------------------------------------------------- stream-K */

typedef struct anemo_stream {
    int64_t tiles, steps; /* steps of each tile */
    int64_t workers;
} anemo_stream;

/* At most `most` workers. */
static ANEMO_HOST_DEVICE inline anemo_stream anemo_stream_among(int64_t most, int64_t tiles,
                                                                int64_t steps) {
    anemo_stream s = {tiles, steps, tiles * steps / ANEMO_STREAM_LEAST_STEPS};
    s.workers = s.workers > most ? most : s.workers < 1 ? 1 : s.workers;
    return s;
}

static ANEMO_HOST_DEVICE inline anemo_stream anemo_stream_of(int64_t tiles, int64_t steps) {
    return anemo_stream_among(ANEMO_STREAM_WORKERS, tiles, steps);
}

/* A run of steps within one tile, and where its sum goes. */
typedef struct anemo_stretch {
    int64_t tile, begin, end; /* steps of the tile; begin == end: there is none */
    int64_t slot;             /* of partial sums; -1: the tile is whole */
} anemo_stretch;

/* The stretch of worker w that begins at `from`, a place on the line. */
static ANEMO_HOST_DEVICE inline anemo_stretch anemo_stretch_at(const anemo_stream *s, int64_t w,
                                                               int64_t from) {
    const anemo_piece piece = anemo_piece_of(s->tiles * s->steps, s->workers, w);
    const int64_t tile = from / s->steps, tile_end = (tile + 1) * s->steps;
    const int64_t end = piece.end < tile_end ? piece.end : tile_end;
    anemo_stretch stretch = {tile, from - tile * s->steps, end - tile * s->steps, -1};
    if (stretch.begin > 0) {
        stretch.slot = 2 * w; /* continues a tile that another worker began */
    } else if (end < tile_end) {
        stretch.slot = 2 * w + 1; /* begins a tile that another worker continues */
    }
    return stretch;
}

/* The worker that does step `at` of the line. */
static ANEMO_HOST_DEVICE inline int64_t anemo_stream_worker(const anemo_stream *s, int64_t at) {
    const int64_t n = s->tiles * s->steps;
    int64_t w = at * s->workers / n;
    while (anemo_piece_of(n, s->workers, w).end <= at) {
        w++;
    }
    return w;
}

#endif
