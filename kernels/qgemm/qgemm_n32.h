/* The qgemm around register tiles of 32 weight rows with float or bf16 activations: who computes
 * what, in which order, and the epilogue. The variants bring the tile.
 *
 * An item of the parallel loop is one block of 32 rows of W times a stretch of rows of x. The block
 * is walked in chunks of columns, and for each chunk all rows of the stretch pass through the tile,
 * so that a chunk is read from memory once and then stays in L2 whatever k is; the sums wait in
 * the workspace between chunks. Where tiles multiply faster than the last cache delivers x, an item
 * is several blocks: the chunk of x, which L2 holds, serves them all. A variant may decode a chunk
 * into a panel first, where that costs less than decoding it for each tile. Chunks begin at
 * multiples of a constant and every tile height sums a row alike, so a row's result depends on
 * nothing else.
 *
 * Where several tiles share a chunk, each asks for the next chunk while it multiplies: without, the
 * first tile waits for memory and the others leave it idle (Zen 4, 16 rows, 4096 x 4096: bf16 dot
 * products 71 -> 86 % of the roof, f32 65 -> 85 %). All tiles ask, as telling them apart gains
 * nothing. One tile alone does not on Zen: the stream is sequential, and the hardware reads it
 * better. On Granite Rapids it asks 4 KiB ahead of itself (f16, one row, 14336 x 4096, part of the
 * read bandwidth: nothing asked 65 %, 2 KiB ahead 80, 4 KiB 88, 8 and 16 KiB 87).
 *
 * Rejected: the whole block without chunks (32 rows of f32 at k = 14336 are 1.8 MB, L2 is 1 MB);
 * asking for a tile's share in one go before it starts (no gain: it waits for free line buffers).
 */
#ifndef ANEMO_QGEMM_N32_H
#define ANEMO_QGEMM_N32_H

#include "anemo_config.h"
#include "kernels/qgemm/epilogue.h"
#include "kernels/qgemm/layout_n32.h"
#include "kernels/qgemm/qgemm_internal.h"

enum {
    ANEMO_N32_COLUMNS = 32,
    ANEMO_N32_STRETCH = 512,
    ANEMO_N32_BLOCKS = 16, /* of an item at most */
    ANEMO_N32_NEAR = 4096,
    N32_PIECES = 4 /* of the loop per thread where memory is the limit (qgemm_avx512vnni.h) */
};

/* Every tile height is its own unrolled copy: unless the loops over rows unroll, the accumulators
 * live in memory. Under the sanitizers one general copy is enough, and compiles ten times faster.
 */
#if ANEMO_SANITIZE
#define ANEMO_N32_INLINE static __attribute__((noinline, unused))
#define ANEMO_N32_UNROLL
#elif defined __clang__
#define ANEMO_N32_INLINE static inline __attribute__((always_inline))
#define ANEMO_N32_UNROLL _Pragma("unroll")
#else
#define ANEMO_N32_INLINE static inline __attribute__((always_inline))
#define ANEMO_N32_UNROLL _Pragma("GCC unroll 16")
#endif

/* Keeps a vector that was loaded in its register: GCC would rather load it again for each use. */
#define ANEMO_N32_KEEP(v) __asm__("" : "+v"(v))

/* sum[rows][32] += x[rows, columns] W[32, columns]^T for columns [column, column + columns). */
typedef struct anemo_n32_tile {
    const anemo_weight_type *type;
    const anemo_n32_shape *shape; /* of codes; NULL for floats */
    int64_t k;
    const uint8_t *block; /* 32 packed rows of W, from column 0 */
    const uint8_t *panel; /* the chunk decoded, or NULL: the tile reads the block */
    int64_t column, columns;
    int64_t ahead;         /* bytes to the chunk that is next, to be prefetched; 0: nothing to */
    const uint8_t *ask[2]; /* what to prefetch meanwhile instead, where blocks take turns */
    size_t ask_bytes[2];
    const uint8_t
        *x; /* first row of the tile, from column 0; where a form packs x: this chunk of it */
    size_t x_row_bytes, x_chunk_bytes; /* from row to row, from chunk to chunk of x */
    int64_t x_columns;                 /* of such a chunk */
    const float
        *x_sums; /* of its rows, [k / 32 rounded up] each; NULL where no weight needs them */
    float (*sum)[ANEMO_N32_COLUMNS];
} anemo_n32_tile;

/* Asks for the same bytes of the next chunk: while several tiles multiply one chunk, nobody else
 * reads memory. */
ANEMO_N32_INLINE void anemo_n32_ahead(const anemo_n32_tile *t, const uint8_t *at, size_t bytes) {
    if (t->ahead != 0) {
        for (size_t b = 0; b < bytes; b += 64) {
            __builtin_prefetch(at + t->ahead + b, 0, 2);
        }
    }
}

/* Asks for part `step` of `steps` of the tile's share. */
ANEMO_N32_INLINE void anemo_n32_ask(const anemo_n32_tile *t, size_t step, size_t steps) {
    for (int i = 0; i < 2; i++) {
        const uint8_t *end = t->ask[i] + t->ask_bytes[i] * (step + 1) / steps;
        for (const uint8_t *at = t->ask[i] + t->ask_bytes[i] * step / steps; at < end; at += 64) {
            __builtin_prefetch(at, 0, 2);
        }
    }
}

/* What a variant brings. */
typedef struct anemo_n32_form {
    const struct anemo_n32_form
        *few;                 /* instead, where all rows fit into one of its tiles; or NULL */
    bool whole;               /* a tile walks through all columns; a chunk is of x alone */
    int64_t tile_rows;        /* rows of x in a tile at most */
    int64_t chunk;            /* columns */
    int64_t blocks;           /* of 32 rows that take turns at a chunk of x; 0: 1 */
    int64_t stretch;          /* rows of x in an item at most; 0: 512 */
    int64_t stream_rows;      /* up to so many rows are multiplied without decoding, */
    int64_t stream_tile_rows; /* in tiles of so many */
    size_t panel_bytes;       /* of a decoded chunk; 0: never decoded */
    bool wants_x_sums;        /* of 32 columns each, for weights with an offset */
    bool of_codes;            /* its weights lie as in layout_n32.h */
    bool starts_sums;         /* its tiles take the sums of the first chunk for 0 */
    size_t (*block_bytes)(const anemo_weight_type *type, int64_t k);
    void (*decode)(const anemo_n32_tile *t, uint8_t *panel);
    void (*tile)(int64_t rows, const anemo_n32_tile *t);
    void (*leave)(void); /* after a thread's last tile; or NULL */
    void (*x_sums)(const uint8_t *row, int64_t k, float *sums);
    /* Where rows far apart hurt: x is copied chunk by chunk first, [chunks][m][x_chunk_bytes]. */
    size_t x_chunk_bytes;
    void (*x_chunk)(const uint8_t *row, int64_t k, int64_t column, float scale, uint8_t *to);
    float (*x_scale)(const uint8_t *row, int64_t k); /* what a row's sums are times; NULL: 1 */
    bool (*accepts)(const anemo_qgemm_problem *p, char *why, size_t why_bytes); /* or NULL */
} anemo_n32_form;

typedef struct anemo_n32_job {
    const anemo_n32_form *form;
    const anemo_qgemm_problem *p;
    const anemo_qgemm_args *a;
    size_t x_row_bytes;
    int64_t stretches; /* pieces x is cut into */
    int64_t blocks;    /* of an item */
    float *x_sums;     /* [m, ceil(k / 32)] or NULL */
    uint8_t *x_chunks; /* or NULL */
    float *x_scales;   /* [m] or NULL */
    uint8_t *workspace;
    size_t thread_bytes;
    int64_t near; /* bytes that a single tile asks for ahead of itself; 0: the hardware does */
} anemo_n32_job;

static inline bool n32_act_mul(const anemo_qgemm_problem *p) {
    return p->epilogue == ANEMO_EPI_ACT_MUL;
}

static inline bool n32_has_offset(const anemo_qgemm_problem *p) {
    bool any = false;
    for (int32_t i = 0; i < p->n_parts; i++) {
        any |= p->type[i].offset != ANEMO_OFFSET_NONE;
    }
    return any;
}

static inline int64_t n32_stretch_most(const anemo_n32_form *form) {
    return form->stretch > 0 ? form->stretch : ANEMO_N32_STRETCH;
}

static inline int64_t n32_stretch_rows(const anemo_n32_form *form, const anemo_qgemm_problem *p) {
    const int64_t most = n32_stretch_most(form);
    return p->m_max < most ? p->m_max : most;
}

static inline int64_t n32_blocks_max(const anemo_n32_form *form) {
    return form->blocks > 1 ? form->blocks : 1;
}

/* Of all blocks of an item, side by side. */
static inline size_t n32_sums_bytes(const anemo_n32_form *form, const anemo_qgemm_problem *p) {
    const int64_t products = (n32_act_mul(p) ? 2 : 1) * n32_blocks_max(form);
    return (size_t)(products * n32_stretch_rows(form, p)) * 32 * sizeof(float);
}

static inline size_t n32_x_sums_bytes(const anemo_n32_form *form, const anemo_qgemm_problem *p) {
    const bool needed = form->wants_x_sums && n32_has_offset(p);
    return needed ? (size_t)anemo_round_up(4 * p->m_max * anemo_ceil_div(p->k, 32), 64) : 0;
}

static inline size_t n32_x_chunks_bytes(const anemo_n32_form *form, const anemo_qgemm_problem *p) {
    return form->x_chunk
               ? (size_t)(anemo_ceil_div(p->k, form->chunk) * p->m_max) * form->x_chunk_bytes
               : 0;
}

static inline size_t n32_x_scales_bytes(const anemo_n32_form *form, const anemo_qgemm_problem *p) {
    return form->x_scale ? (size_t)anemo_round_up(4 * p->m_max, 64) : 0;
}

/* Per thread sums[1 or 2][blocks][stretch][32] and a panel; once the sums of x, its scales and its
 * chunks. */
static inline size_t n32_form_bytes(const anemo_n32_form *form, const anemo_qgemm_problem *p,
                                    int32_t n_threads) {
    return (size_t)n_threads * (n32_sums_bytes(form, p) + form->panel_bytes) +
           n32_x_sums_bytes(form, p) + n32_x_scales_bytes(form, p) + n32_x_chunks_bytes(form, p);
}

static inline size_t n32_workspace_bytes(const anemo_n32_form *form, const anemo_qgemm_problem *p,
                                         int32_t n_threads) {
    const size_t many = n32_form_bytes(form, p, n_threads);
    const size_t few = form->few ? n32_form_bytes(form->few, p, n_threads) : 0;
    return few > many ? few : many;
}

static inline const uint8_t *n32_x_at(const anemo_n32_job *j, int64_t column, int64_t row) {
    if (j->x_chunks) {
        const int64_t chunk = column / j->form->chunk;
        return j->x_chunks + (size_t)(chunk * j->a->m + row) * j->form->x_chunk_bytes;
    }
    return (const uint8_t *)j->a->x + (size_t)row * j->x_row_bytes;
}

/* Of a product: its part, blocks and rows of x. */
typedef struct anemo_n32_piece {
    int32_t part;
    int64_t block, blocks, row, rows;
} anemo_n32_piece;

/* Where blocks take turns, tiles share the asking: of the chunk of W that is next, and, over all
 * blocks, of the next chunk of x (after the last one the first, for the next item). */
typedef struct anemo_n32_share {
    const uint8_t *w; /* the next chunk, and what of it goes with a row of x */
    size_t w_bytes;
    int64_t x_column, x_from, x_to; /* rows of a tile whose next chunk this block asks for */
} anemo_n32_share;

static inline anemo_n32_share n32_share_of(const anemo_n32_job *j, const anemo_n32_piece *p,
                                           const anemo_n32_tile *t, int64_t b) {
    const int64_t block_bytes = (int64_t)j->form->block_bytes(t->type, t->k);
    const int64_t rows = j->form->tile_rows, end = t->column + t->columns;
    return (anemo_n32_share){
        .w = t->block + block_bytes * t->column / t->k + t->ahead,
        .w_bytes = (size_t)(block_bytes * t->columns / t->k / p->rows),
        .x_column = end < t->k ? end : 0,
        .x_from = rows * b / p->blocks,
        .x_to = rows * (b + 1) / p->blocks,
    };
}

static inline void n32_share(const anemo_n32_job *j, const anemo_n32_piece *p,
                             const anemo_n32_share *share, int64_t begin, int64_t end,
                             anemo_n32_tile *t) {
    const int64_t from = begin + share->x_from < end ? begin + share->x_from : end;
    const int64_t to = begin + share->x_to < end ? begin + share->x_to : end;
    t->ask[0] = share->w + (size_t)begin * share->w_bytes;
    t->ask_bytes[0] = (size_t)(end - begin) * share->w_bytes;
    t->ask[1] = n32_x_at(j, share->x_column, p->row + from);
    t->ask_bytes[1] = (size_t)(to - from) * t->x_row_bytes;
}

/* A chunk of block b of a piece. */
static inline void n32_chunk(const anemo_n32_job *j, const anemo_n32_piece *p, anemo_n32_tile *t,
                             int64_t b, float (*sum)[32], uint8_t *panel) {
    const anemo_n32_form *form = j->form;
    const bool stream = p->rows <= form->stream_rows, shared = !form->whole && form->blocks > 1;
    const int64_t tiles =
        anemo_ceil_div(p->rows, stream ? form->stream_tile_rows : form->tile_rows);
    const int64_t each = p->rows / tiles, taller = p->rows % tiles;
    t->ahead = tiles > 1 || shared ? t->ahead : j->near;
    t->panel = NULL;
    if (!stream && form->decode) {
        form->decode(t, panel);
        t->panel = panel;
    }
    const anemo_n32_share share = shared ? n32_share_of(j, p, t, b) : (anemo_n32_share){0};
    for (int64_t tile = 0, begin = 0, end; tile < tiles; tile++, begin = end) {
        end = begin + each + (tile < taller);
        t->x = n32_x_at(j, t->column, p->row + begin);
        t->x_sums = j->x_sums ? j->x_sums + (p->row + begin) * anemo_ceil_div(t->k, 32) : NULL;
        t->sum = sum + begin;
        if (shared) {
            n32_share(j, p, &share, begin, end, t);
        }
        form->tile(end - begin, t);
    }
}

/* sum[blocks][rows][32] of a piece: all blocks at a chunk of columns, then the next. */
static inline void n32_product(const anemo_n32_job *j, anemo_n32_piece p, float (*sum)[32],
                               uint8_t *panel) {
    const anemo_n32_form *form = j->form;
    const int64_t k = j->p->k;
    anemo_n32_tile t = {.type = &j->p->type[p.part], .k = k};
    anemo_n32_shape shape;
    if (form->of_codes) {
        shape = anemo_n32_shape_of(t.type, k);
        t.shape = &shape;
    }
    const int64_t block_bytes = (int64_t)form->block_bytes(t.type, k);
    const uint8_t *first = (const uint8_t *)j->a->weight[p.part] + p.block * block_bytes;
    t.x_row_bytes = j->x_chunks ? form->x_chunk_bytes : j->x_row_bytes;
    if (!form->starts_sums) {
        memset(sum, 0, (size_t)(p.blocks * p.rows) * sizeof *sum);
    }
    t.x_chunk_bytes = (size_t)j->a->m * form->x_chunk_bytes;
    t.x_columns = form->chunk;
    const int64_t chunk = form->whole ? k : form->chunk;
    for (t.column = 0; t.column < k; t.column += chunk) {
        t.columns = k - t.column < chunk ? k - t.column : chunk;
        for (int64_t b = 0; b < p.blocks; b++) {
            t.block = first + b * block_bytes;
            t.ahead = b + 1 < p.blocks ? block_bytes : block_bytes * chunk / k - b * block_bytes;
            n32_chunk(j, &p, &t, b, sum + b * p.rows, panel);
        }
    }
}

static inline void n32_epilogue(const anemo_n32_job *j, const anemo_qgemm_block *b, int64_t row,
                                float *sum, float *up) {
    if (n32_act_mul(j->p)) {
        anemo_epilogue_act_mul(j->p, j->a, row, b->row, b->rows, sum, up);
    } else {
        anemo_epilogue_row(j->p, j->a, b->part, row, b->row, b->rows, sum);
    }
}

/* The sums of a piece times their rows' scales. */
static inline void n32_scale(const anemo_n32_job *j, const anemo_n32_piece *p, float (*sum)[32]) {
    for (int64_t i = 0; i < p->rows; i++) {
        const float scale = j->x_scales[p->row + i];
        for (int64_t block = 0; block < p->blocks; block++) {
            float *at = sum[block * p->rows + i];
            for (int c = 0; c < 32; c++) {
                at[c] *= scale;
            }
        }
    }
}

/* A piece, and what comes after the product. Gate and up: p is gate's. */
static inline void n32_run_piece(const anemo_n32_job *j, anemo_n32_piece p, int64_t first_block,
                                 uint8_t *workspace) {
    float(*sum)[32] = (float(*)[32])(void *)workspace, (*up)[32] = sum + p.blocks * p.rows;
    uint8_t *panel = workspace + n32_sums_bytes(j->form, j->p);
    n32_product(j, p, sum, panel);
    if (n32_act_mul(j->p)) {
        anemo_n32_piece other = p;
        other.part = 1;
        n32_product(j, other, up, panel);
    }
    anemo_qgemm_block b[ANEMO_N32_BLOCKS];
    for (int64_t block = 0; block < p.blocks; block++) {
        b[block] = anemo_qgemm_block_at(j->p, 32, first_block + block);
    }
    if (j->x_scales) {
        n32_scale(j, &p, sum);
        if (n32_act_mul(j->p)) {
            n32_scale(j, &p, up);
        }
    }
    for (int64_t i = 0; i < p.rows; i++) { /* a row of y is some lines of one page */
        for (int64_t block = 0; block < p.blocks; block++) {
            n32_epilogue(j, &b[block], p.row + i, sum[block * p.rows + i], up[block * p.rows + i]);
        }
    }
}

static inline void n32_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const anemo_n32_job *j = ctx;
    uint8_t *workspace = j->workspace + (size_t)thread * j->thread_bytes;
    const int64_t blocks = anemo_qgemm_blocks(j->p, 32);
    for (int64_t item = begin; item < end; item++) {
        const int64_t stretch = item % j->stretches, last = (item / j->stretches + 1) * j->blocks;
        anemo_n32_piece p = {.row = stretch * j->a->m / j->stretches};
        p.rows = (stretch + 1) * j->a->m / j->stretches - p.row;
        int64_t block = item / j->stretches * j->blocks;
        for (; block < last && block < blocks; block += p.blocks) { /* they may be of two parts */
            const anemo_qgemm_block b = anemo_qgemm_block_at(j->p, 32, block);
            const int64_t left = anemo_ceil_div(j->p->n[b.part] - b.row, 32);
            p.part = b.part;
            p.block = b.row / 32;
            p.blocks = left < last - block ? left : last - block;
            n32_run_piece(j, p, block, workspace);
        }
    }
    if (j->form->leave) {
        j->form->leave();
    }
}

static inline void n32_x_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const anemo_n32_job *j = ctx;
    const int64_t k = j->p->k;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const uint8_t *row = (const uint8_t *)j->a->x + (size_t)i * j->x_row_bytes;
        if (j->x_sums) {
            j->form->x_sums(row, k, j->x_sums + i * anemo_ceil_div(k, 32));
        }
        const float scale = j->x_scales ? j->form->x_scale(row, k) : 1.0f;
        if (j->x_scales) {
            j->x_scales[i] = scale;
        }
        for (int64_t column = 0; j->x_chunks && column < k; column += j->form->chunk) {
            uint8_t *to = j->x_chunks + (n32_x_at(j, column, i) - j->x_chunks);
            j->form->x_chunk(row, k, column, scale, to);
        }
    }
}

/* Bytes that a single tile asks for ahead of itself here. */
static inline int64_t n32_near(void) {
    return anemo_cpu_reads() == ANEMO_READS_IN_STREAMS ? ANEMO_N32_NEAR : 0;
}

static inline anemo_status n32_run(const anemo_exec *exec, const anemo_n32_form *form,
                                   const anemo_act *act, const anemo_qgemm_problem *p,
                                   const anemo_qgemm_args *a) {
    if (a->m < 0 || a->m > p->m_max) {
        return ANEMO_E_INPUT;
    }
    if (exec->workspace_bytes < n32_workspace_bytes(form, p, exec->n_threads)) {
        return ANEMO_E_MEMORY;
    }
    form = form->few && a->m <= form->few->tile_rows ? form->few : form;
    anemo_n32_job j = {.form = form, .p = p, .a = a, .x_row_bytes = act->row_bytes(p->k)};
    j.near = n32_near();
    j.workspace = exec->workspace;
    j.thread_bytes = n32_sums_bytes(form, p) + form->panel_bytes;
    uint8_t *shared = j.workspace + (size_t)exec->n_threads * j.thread_bytes;
    j.x_sums = n32_x_sums_bytes(form, p) > 0 ? (float *)(void *)shared : NULL;
    shared += n32_x_sums_bytes(form, p);
    j.x_scales = form->x_scale ? (float *)(void *)shared : NULL;
    j.x_chunks = form->x_chunk ? shared + n32_x_scales_bytes(form, p) : NULL;
    if (j.x_sums || j.x_chunks) {
        exec->parallel(exec, a->m, 0, n32_x_rows, &j);
    }
    /* x is cut where a stretch is full, and where there are too few blocks to fill the threads. */
    const int64_t blocks = anemo_qgemm_blocks(p, 32), tiles = anemo_ceil_div(a->m, form->tile_rows);
    const int64_t full = anemo_ceil_div(a->m, n32_stretch_most(form));
    const int64_t filling = anemo_ceil_div(4 * (int64_t)exec->n_threads, blocks);
    const int64_t wanted = exec->n_threads == 1 ? 1 : filling < tiles ? filling : tiles;
    j.stretches = wanted > full ? wanted : full;
    /* Several blocks are an item where enough items are left, and every thread gets as many. */
    const int64_t most = n32_blocks_max(form);
    const int64_t fair = blocks * j.stretches / (4 * (int64_t)exec->n_threads);
    const int64_t fit = fair < 1 ? 1 : fair < most ? fair : most;
    const int64_t items = anemo_round_up(anemo_ceil_div(blocks, fit), exec->n_threads);
    j.blocks = anemo_ceil_div(blocks, items);
    const int64_t all = anemo_ceil_div(blocks, j.blocks) * j.stretches;
    const int64_t piece =
        form->whole ? anemo_ceil_div(all, (int64_t)N32_PIECES * exec->n_threads) : 0;
    exec->parallel(exec, all, piece, n32_items, &j);
    return ANEMO_OK;
}

/* Calls tile_(code, rows, t) with constants for the code of a float weight and up to 6 rows. */
#define ANEMO_N32_FLOAT_TILE(n, t, tile_)                                                          \
    case n:                                                                                        \
        if ((t)->type->code == ANEMO_CODE_F32) {                                                   \
            tile_(ANEMO_CODE_F32, n, t);                                                           \
        } else if ((t)->type->code == ANEMO_CODE_F16) {                                            \
            tile_(ANEMO_CODE_F16, n, t);                                                           \
        } else {                                                                                   \
            tile_(ANEMO_CODE_BF16, n, t);                                                          \
        }                                                                                          \
        break;
#define ANEMO_N32_FLOAT_TILES(rows, t, tile_)                                                      \
    switch (rows) {                                                                                \
        ANEMO_N32_FLOAT_TILE(1, t, tile_)                                                          \
        ANEMO_N32_FLOAT_TILE(2, t, tile_)                                                          \
        ANEMO_N32_FLOAT_TILE(3, t, tile_)                                                          \
        ANEMO_N32_FLOAT_TILE(4, t, tile_)                                                          \
        ANEMO_N32_FLOAT_TILE(5, t, tile_)                                                          \
        ANEMO_N32_FLOAT_TILE(6, t, tile_)                                                          \
    }

/* Defines the variant `id` of the anemo_n32_form `form_`, whose rows do not depend on m. */
#define ANEMO_N32_VARIANT(id, form_, act_, cpu_needs, layout_, m_from_, idea_)                     \
    ANEMO_N32_VARIANT_OF(id, form_, act_, ANEMO_TRAIT_ROW_INVARIANT, cpu_needs, layout_, m_from_,  \
                         idea_)
#define ANEMO_N32_VARIANT_OF(id, form_, act_, traits_, cpu_needs, layout_, m_from_, idea_)         \
    extern const anemo_act anemo_act_##act_;                                                       \
    static bool accepts_##id(const void *problem, char *why, size_t why_bytes) {                   \
        return anemo_qgemm_valid(problem, why, why_bytes) &&                                       \
               ((form_).accepts == NULL || (form_).accepts(problem, why, why_bytes));              \
    }                                                                                              \
    static size_t workspace_##id(const void *problem, int32_t n_threads) {                         \
        return n32_workspace_bytes(&(form_), problem, n_threads);                                  \
    }                                                                                              \
    static anemo_status run_##id(const anemo_exec *exec, const void *problem, const void *args) {  \
        return n32_run(exec, &(form_), &anemo_act_##act_, problem, args);                          \
    }                                                                                              \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_QGEMM,                                                                      \
        .backend = ANEMO_CPU,                                                                      \
        .needs = {.cpu_features = cpu_needs},                                                      \
        .layout = layout_,                                                                         \
        .act = #act_,                                                                              \
        .traits = traits_,                                                                         \
        .m_from = m_from_,                                                                         \
        .idea = idea_,                                                                             \
        .accepts = accepts_##id,                                                                   \
        .workspace_bytes = workspace_##id,                                                         \
        .run = run_##id,                                                                           \
    };

#endif
