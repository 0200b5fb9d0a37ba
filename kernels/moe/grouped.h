/* Who computes what in a grouped kernel of experts, from the dispatch plan alone, on the device:
 * plain integer functions, the same on the host, where tests walk them.
 *
 * A tile is 8 warps' weight rows of one expert times some of its sorted rows ("tokens"), `steps` of
 * 64 columns long. An expert's tokens are cut into full tiles, `widest` blocks of 8, and one tile
 * for the rest, as wide as that needs: 1, 2, 3, 4, 6 or 8 blocks. A step of a tile has a cost that
 * depends on its width (moe_grouped_cost), so that a narrow tile counts as what it takes.
 *
 * Full tiles come first, in waves: in wave i worker w does tile i W + w, W workers. What does not
 * fill a wave, and all the rests, lie one behind the other on a line of costs, and worker w does
 * the steps that begin in [w L / V, (w + 1) L / V) of it, for V <= W workers: stream-K with a
 * data-parallel part, Osama et al. 2023 (arXiv 2301.03598). So the work of two workers differs by
 * less than one step beside the rounding of L / V, however the rows fall on the experts, and an
 * expert without rows costs nothing. V < W where pieces would become shorter than LEAST_COST.
 *
 * In a wave tokens run before rows: neighbours read the same weights, or the same tokens. A tile on
 * the line may be cut between workers; each leaves a partial sum in a slot of its own, 2 w where it
 * goes on with a tile that another began, 2 w + 1 where it begins one that another goes on with,
 * and a second grid adds them in the order of k. Nothing waits for anything, no sum depends on who
 * came first, and the plan's counts never go to the host.
 *
 * Rejected: whole tiles to workers by size, largest first (one token of a Mixtral has 32 tiles of
 * `down` for 132 multiprocessors; 256 tokens have 1.2 waves of them); a lock per tile (thread
 * blocks would wait for thread blocks); counters in memory (atomics, and memory to clear). */
#ifndef ANEMO_MOE_GROUPED_H
#define ANEMO_MOE_GROUPED_H

#include "kernels/moe/tiles.h"

enum {
    MOE_GROUPED_STEP = 64,         /* columns */
    MOE_GROUPED_EXPERTS_MAX = 256, /* of a range: one thread each makes the table */
    MOE_GROUPED_WORKERS = 132,     /* multiprocessors of an H100 or H200 */
    MOE_GROUPED_LEAST_COST = 16    /* of a worker's piece of the line: at least one step, always */
};

/* One launch, as far as the host knows it. */
typedef struct moe_grouped {
    int32_t expert_begin, n_experts; /* the range */
    int32_t widest;                  /* of a tile, in blocks of 8 tokens: 2, 4 or 8 */
    int32_t workers;                 /* thread blocks */
    int32_t row_tiles, steps;        /* of one expert's matrix */
} moe_grouped;

/* Width that holds so many tokens, 1 .. 64, in blocks of 8. */
static ANEMO_HOST_DEVICE inline int32_t moe_grouped_width(int32_t tokens) {
    const int32_t blocks = (tokens + 7) / 8;
    return blocks <= 4 ? blocks : blocks <= 6 ? 6 : 8;
}

/* Of a step, in quarters of what its weights alone take from memory. By the count of instructions
 * (moe_experts_grouped.cuh); to be measured. */
static ANEMO_HOST_DEVICE inline int32_t moe_grouped_cost(int32_t width) {
    return width <= 2 ? 4 : width <= 4 ? 5 : width <= 6 ? 7 : 8;
}

/* `most` workers, or fewer where there cannot be work for them, however the rows fall. */
static ANEMO_HOST_DEVICE inline moe_grouped moe_grouped_of(const anemo_moe_experts_problem *p,
                                                           int64_t tokens, int32_t widest,
                                                           int64_t most, int64_t rows_of_tile,
                                                           int64_t n, int64_t k) {
    moe_grouped g = {p->expert_begin, p->expert_end - p->expert_begin, widest, 1, 0, 0};
    g.row_tiles = (int32_t)anemo_ceil_div(n, rows_of_tile);
    g.steps = (int32_t)anemo_ceil_div(k, MOE_GROUPED_STEP);
    const int64_t tiles =
        moe_tiles_max(tokens * p->top_k, g.n_experts, (int64_t)8 * widest) * g.row_tiles;
    const int64_t cost = tiles * g.steps * moe_grouped_cost(widest);
    g.workers = (int32_t)max_i64(1, min_i64(most, cost / MOE_GROUPED_LEAST_COST));
    return g;
}

/* ---------------------------------------------------------------- the table */

/* Before each expert of the range, and behind the last: full tiles of tokens, and the cost of a
 * step of all rests. */
typedef struct moe_grouped_table {
    int32_t full[MOE_GROUPED_EXPERTS_MAX + 1], rest[MOE_GROUPED_EXPERTS_MAX + 1];
} moe_grouped_table;

/* What expert e of the range adds to the table. */
typedef struct moe_grouped_share {
    int32_t full, rest;
} moe_grouped_share;

static ANEMO_HOST_DEVICE inline moe_grouped_share
moe_grouped_share_of(const moe_grouped *g, const int32_t *offset, int32_t e) {
    const int32_t *at = offset + g->expert_begin + e;
    const int32_t rows = at[1] - at[0], wide = 8 * g->widest, rest = rows % wide;
    const moe_grouped_share share = {rows / wide,
                                     rest > 0 ? moe_grouped_cost(moe_grouped_width(rest)) : 0};
    return share;
}

/* The last expert of [0, n) before which there are no more than `index`: that of the index. */
static ANEMO_HOST_DEVICE inline int32_t moe_grouped_find(const int32_t *before, int32_t n,
                                                         int64_t index) {
    int32_t low = 0, high = n;
    while (high - low > 1) {
        const int32_t middle = (low + high) / 2;
        if (before[middle] <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* ---------------------------------------------------------------- tiles */

/* Steps [begin, end) of a tile, and where their sum goes. */
typedef struct moe_grouped_item {
    int32_t expert, row_begin, rows; /* sorted rows of the plan */
    int32_t width;                   /* blocks of 8 tokens */
    int32_t row_tile, begin, end;
    int32_t slot; /* of partial sums; -1: the tile is whole */
} moe_grouped_item;

/* Whole full tile `index` of the range. */
static ANEMO_HOST_DEVICE inline moe_grouped_item moe_grouped_full(const moe_grouped *g,
                                                                  const moe_grouped_table *t,
                                                                  const int32_t *offset,
                                                                  int64_t index) {
    const int32_t e = moe_grouped_find(t->full, g->n_experts, index / g->row_tiles);
    const int32_t wide = 8 * g->widest, tiles = t->full[e + 1] - t->full[e];
    const int64_t own = index - (int64_t)t->full[e] * g->row_tiles;
    const moe_grouped_item item = {g->expert_begin + e,
                                   offset[g->expert_begin + e] + (int32_t)(own % tiles) * wide,
                                   wide,
                                   g->widest,
                                   (int32_t)(own / tiles),
                                   0,
                                   g->steps,
                                   -1};
    return item;
}

/* The rest of expert e of the range. */
static ANEMO_HOST_DEVICE inline moe_grouped_item
moe_grouped_rest(const moe_grouped *g, const int32_t *offset, int32_t e, int32_t row_tile) {
    const int32_t *at = offset + g->expert_begin + e;
    const int32_t rows = (at[1] - at[0]) % (8 * g->widest);
    const moe_grouped_item item = {g->expert_begin + e,
                                   at[1] - rows,
                                   rows,
                                   rows > 0 ? moe_grouped_width(rows) : 0,
                                   row_tile,
                                   0,
                                   g->steps,
                                   -1};
    return item;
}

/* ---------------------------------------------------------------- the line */

typedef struct moe_grouped_line {
    int64_t first;      /* full tile; those before it are done in waves */
    int64_t full, cost; /* costs of the full tiles on it, and of all */
    int32_t waves, workers;
} moe_grouped_line;

static ANEMO_HOST_DEVICE inline moe_grouped_line moe_grouped_line_of(const moe_grouped *g,
                                                                     const moe_grouped_table *t) {
    const int64_t full = (int64_t)t->full[g->n_experts] * g->row_tiles;
    moe_grouped_line line;
    line.waves = (int32_t)(full / g->workers);
    line.first = (int64_t)line.waves * g->workers;
    line.full = (full - line.first) * g->steps * moe_grouped_cost(g->widest);
    line.cost = line.full + (int64_t)t->rest[g->n_experts] * g->row_tiles * g->steps;
    line.workers = (int32_t)max_i64(1, min_i64(g->workers, line.cost / MOE_GROUPED_LEAST_COST));
    return line;
}

/* Where worker w's piece begins: behind the last one's, where the line ends. */
static ANEMO_HOST_DEVICE inline int64_t moe_grouped_piece(const moe_grouped_line *line, int32_t w) {
    return w >= line->workers ? line->cost : line->cost * w / line->workers;
}

/* The tile in which `at` lies, where it begins, and what a step of it costs. */
typedef struct moe_grouped_spot {
    moe_grouped_item item;
    int64_t from;
    int32_t cost;
} moe_grouped_spot;

static ANEMO_HOST_DEVICE inline moe_grouped_spot
moe_grouped_spot_of(const moe_grouped *g, const moe_grouped_table *t, const int32_t *offset,
                    const moe_grouped_line *line, int64_t at) {
    moe_grouped_spot spot;
    if (at < line->full) {
        spot.cost = moe_grouped_cost(g->widest);
        const int64_t tile = at / ((int64_t)g->steps * spot.cost);
        spot.item = moe_grouped_full(g, t, offset, line->first + tile);
        spot.from = tile * g->steps * spot.cost;
        return spot;
    }
    const int64_t all = (int64_t)g->row_tiles * g->steps, rest = at - line->full;
    const int32_t e = moe_grouped_find(t->rest, g->n_experts, rest / all);
    spot.cost = t->rest[e + 1] - t->rest[e];
    const int64_t first = t->rest[e] * all, tile_cost = (int64_t)g->steps * spot.cost;
    const int64_t row_tile = (rest - first) / tile_cost;
    spot.item = moe_grouped_rest(g, offset, e, (int32_t)row_tile);
    spot.from = line->full + first + row_tile * tile_cost;
    return spot;
}

/* First step of a tile that begins at or behind `at`. */
static ANEMO_HOST_DEVICE inline int32_t moe_grouped_step(const moe_grouped_spot *spot, int64_t at) {
    return at <= spot->from ? 0 : (int32_t)anemo_ceil_div(at - spot->from, spot->cost);
}

/* ---------------------------------------------------------------- a worker's list */

typedef struct moe_grouped_cursor {
    moe_grouped_line line;
    int64_t at, end; /* on the line */
    int32_t worker, wave;
} moe_grouped_cursor;

static ANEMO_HOST_DEVICE inline moe_grouped_cursor
moe_grouped_start(const moe_grouped *g, const moe_grouped_table *t, int32_t worker) {
    moe_grouped_cursor c;
    c.line = moe_grouped_line_of(g, t);
    c.at = moe_grouped_piece(&c.line, worker);
    c.end = moe_grouped_piece(&c.line, worker + 1);
    c.worker = worker;
    c.wave = 0;
    return c;
}

/* The worker's next item; false: there is none. */
static ANEMO_HOST_DEVICE inline bool moe_grouped_next(const moe_grouped *g,
                                                      const moe_grouped_table *t,
                                                      const int32_t *offset, moe_grouped_cursor *c,
                                                      moe_grouped_item *item) {
    if (c->wave < c->line.waves) {
        *item = moe_grouped_full(g, t, offset, (int64_t)c->wave++ * g->workers + c->worker);
        return true;
    }
    while (c->at < c->end) {
        const moe_grouped_spot spot = moe_grouped_spot_of(g, t, offset, &c->line, c->at);
        const int64_t tile_end = spot.from + (int64_t)g->steps * spot.cost;
        const int64_t stop = min_i64(c->end, tile_end);
        *item = spot.item;
        item->begin = moe_grouped_step(&spot, c->at);
        item->end = moe_grouped_step(&spot, stop);
        item->slot = item->begin > 0        ? 2 * c->worker
                     : item->end < g->steps ? 2 * c->worker + 1
                                            : -1;
        c->at = stop;
        if (item->begin < item->end) {
            return true;
        }
    }
    return false;
}

/* ---------------------------------------------------------------- joining */

/* A tile that several workers did: the first began it (slot 2 first + 1), the others went on (slot
 * 2 w), in the order of k. */
typedef struct moe_grouped_cut {
    moe_grouped_item item; /* the whole tile */
    int32_t first, last;   /* workers */
} moe_grouped_cut;

/* The tile in which worker w >= 1 is the first to go on; false: there is none. Each cut tile is
 * that of one worker. */
static ANEMO_HOST_DEVICE inline bool moe_grouped_cut_of(const moe_grouped *g,
                                                        const moe_grouped_table *t,
                                                        const int32_t *offset, int32_t w,
                                                        moe_grouped_cut *cut) {
    const moe_grouped_line line = moe_grouped_line_of(g, t);
    const int64_t at = moe_grouped_piece(&line, w);
    if (at >= line.cost) {
        return false;
    }
    const moe_grouped_spot spot = moe_grouped_spot_of(g, t, offset, &line, at);
    const int32_t step = moe_grouped_step(&spot, at);
    if (step == 0 || step == g->steps || moe_grouped_piece(&line, w - 1) > spot.from) {
        return false;
    }
    cut->item = spot.item;
    cut->first = w - 1;
    cut->last = w;
    const int64_t tile_end = spot.from + (int64_t)g->steps * spot.cost;
    for (int64_t next = moe_grouped_piece(&line, w + 1);
         next < tile_end && moe_grouped_step(&spot, next) < g->steps;
         next = moe_grouped_piece(&line, cut->last + 1)) {
        cut->last++;
    }
    return true;
}

/* ---------------------------------------------------------------- tokens in shared memory */

/* Where 16 bytes of a token stand in a stage of `chunks` times 32 columns (64 bytes): odd tokens
 * have the halves of each 128 bytes exchanged. Eight lanes that are served at once read 64 bytes
 * each of two neighbouring tokens, from 32 different banks, and no byte is spent on padding. */
static ANEMO_HOST_DEVICE inline int32_t moe_grouped_token_at(int32_t chunks, int32_t token,
                                                             int32_t byte) {
    return token * chunks * 64 + (chunks > 1 ? byte ^ (token % 2 * 64) : byte);
}

#endif
