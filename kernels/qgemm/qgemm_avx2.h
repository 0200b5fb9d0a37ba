/* The qgemm around the AVX2 tile: who computes which block, and the epilogue. Included by
 * qgemm_w4a8_tile_avx2.c and qgemm_w8a8_tile_avx2.c, which fix `bits`.
 *
 * An item of the parallel loop is one block of 32 rows of W times a stretch of rows of x. Normally
 * the stretch is all of x, so that every weight is read from memory once; only when there are fewer
 * blocks than would fill the threads is x cut as well. */
#ifndef ANEMO_QGEMM_AVX2_H
#define ANEMO_QGEMM_AVX2_H

#include "kernels/qgemm/epilogue.h"
#include "kernels/qgemm/gemv_avx2.h"
#include "kernels/qgemm/qgemm_internal.h"

enum { ANEMO_AVX2_BLOCKS_BYTES = 512 * 1024 };

typedef void (*anemo_avx2_rows_fn)(int64_t mr, const anemo_avx2_tile *t,
                                   float out[][ANEMO_AVX2_COLUMNS]);
typedef void (*anemo_avx2_gemv_fn)(int streams, const anemo_avx2_gemv *g,
                                   float out[][ANEMO_AVX2_COLUMNS]);

typedef struct anemo_avx2_job {
    const anemo_qgemm_problem *p;
    const anemo_qgemm_args *a;
    anemo_n32_shape shape[ANEMO_QGEMM_PARTS];
    size_t row_bytes;  /* of the a8 record */
    int64_t tiles;     /* ceil(m / 6): rows of x are spread evenly over them */
    int64_t stretches; /* pieces x is cut into */
    anemo_avx2_rows_fn tile;
    anemo_avx2_gemv_fn gemv; /* m = 1 */
    const int8_t *digits;    /* of x: m = 1, w8 */
    bool alike;              /* all parts have the same type */
} anemo_avx2_job;

static inline void avx2_one_tile(const anemo_avx2_job *j, anemo_qgemm_block b, int64_t row,
                                 int64_t mr) {
    const bool act_mul = j->p->epilogue == ANEMO_EPI_ACT_MUL;
    float out[2][ANEMO_AVX2_ROWS][ANEMO_AVX2_COLUMNS];
    anemo_avx2_tile t = {.alone = j->tiles == 1};
    for (int64_t i = 0; i < mr; i++) {
        t.row[i] = (const int8_t *)j->a->x + (size_t)(row + i) * j->row_bytes;
    }
    for (int part = b.part; part <= (act_mul ? 1 : b.part); part++) {
        t.shape = &j->shape[part];
        t.block = (const uint8_t *)j->a->weight[part] +
                  (size_t)(b.row / ANEMO_N32_ROWS) * t.shape->block_bytes;
        j->tile(mr, &t, out[act_mul ? part : 0]);
    }
    for (int64_t i = 0; i < mr; i++) {
        if (act_mul) {
            anemo_epilogue_act_mul(j->p, j->a, row + i, b.row, b.rows, out[0][i], out[1][i]);
        } else {
            anemo_epilogue_row(j->p, j->a, b.part, row + i, b.row, b.rows, out[0][i]);
        }
    }
}

/* Several blocks go over x together, as many as leave half of a typical second-level cache to them:
 * a tile's rows of x come from there for all but the first. */
static inline int64_t avx2_together(const anemo_avx2_job *j, anemo_qgemm_block b) {
    const int64_t fit = ANEMO_AVX2_BLOCKS_BYTES / (int64_t)j->shape[b.part].block_bytes;
    return j->stretches > 1 || fit < 1 ? 1 : fit;
}

static inline void avx2_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const anemo_avx2_job *j = ctx;
    (void)thread;
    while (begin < end) {
        const int64_t stretch = begin % j->stretches;
        const int64_t first = stretch * j->tiles / j->stretches;
        const int64_t last = (stretch + 1) * j->tiles / j->stretches;
        const int64_t wanted = begin + avx2_together(j, anemo_qgemm_block_at(j->p, ANEMO_N32_ROWS,
                                                                             begin / j->stretches));
        const int64_t stop = wanted < end ? wanted : end;
        for (int64_t tile = first; tile < last; tile++) {
            const int64_t row = tile * j->a->m / j->tiles;
            for (int64_t item = begin; item < stop; item++) {
                avx2_one_tile(j, anemo_qgemm_block_at(j->p, ANEMO_N32_ROWS, item / j->stretches),
                              row, (tile + 1) * j->a->m / j->tiles - row);
            }
        }
        begin = stop;
    }
}

/* ---------------------------------------------------------------- one row of x */

static inline const uint8_t *avx2_block(const anemo_avx2_job *j, int32_t part, int64_t row) {
    return (const uint8_t *)j->a->weight[part] +
           (size_t)(row / ANEMO_N32_ROWS) * j->shape[part].block_bytes;
}

/* Items first, first + step, ...: as many as there are streams, of one shape. */
static inline void avx2_gemv_items(const anemo_avx2_job *j, int64_t first, int64_t step,
                                   int streams) {
    anemo_qgemm_block b[ANEMO_AVX2_STREAMS];
    float out[ANEMO_AVX2_STREAMS][ANEMO_AVX2_COLUMNS];
    anemo_avx2_gemv g = {.row = j->a->x, .digits = j->digits};
    for (int i = 0; i < streams; i++) {
        b[i] = anemo_qgemm_block_at(j->p, ANEMO_N32_ROWS, first + step * i);
        g.block[i] = avx2_block(j, b[i].part, b[i].row);
        g.shape = &j->shape[b[i].part];
    }
    j->gemv(streams, &g, out);
    for (int i = 0; i < streams; i++) {
        anemo_epilogue_row(j->p, j->a, b[i].part, 0, b[i].row, b[i].rows, out[i]);
    }
}

/* Gate and up are two streams by themselves. */
static inline void avx2_gemv_act_mul(const anemo_avx2_job *j, int64_t item) {
    const anemo_qgemm_block b = anemo_qgemm_block_at(j->p, ANEMO_N32_ROWS, item);
    float out[2][ANEMO_AVX2_COLUMNS];
    anemo_avx2_gemv g = {.row = j->a->x, .digits = j->digits};
    for (int part = 0; part < 2; part++) {
        g.shape = &j->shape[part];
        g.block[j->alike ? part : 0] = avx2_block(j, part, b.row);
        if (!j->alike) {
            j->gemv(1, &g, out + part);
        }
    }
    if (j->alike) {
        j->gemv(2, &g, out);
    }
    anemo_epilogue_act_mul(j->p, j->a, 0, b.row, b.rows, out[0], out[1]);
}

static inline void avx2_gemv_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const anemo_avx2_job *j = ctx;
    (void)thread;
    if (j->p->epilogue == ANEMO_EPI_ACT_MUL) {
        for (int64_t item = begin; item < end; item++) {
            avx2_gemv_act_mul(j, item);
        }
        return;
    }
    const int streams = j->alike ? avx2_streams(j->shape[0].bits, end - begin) : 1;
    const int64_t each = (end - begin) / streams;
    for (int64_t item = begin; item < begin + each; item++) {
        avx2_gemv_items(j, item, each, streams);
    }
    for (int64_t item = begin + each * streams; item < end; item++) {
        avx2_gemv_items(j, item, 0, 1);
    }
}

/* ---------------------------------------------------------------- the variant */

/* Layout and act_group must fit: weight groups are multiples of the activation group. */
static inline bool anemo_avx2_accepts(const anemo_qgemm_problem *p, int32_t act_group, char *why,
                                      size_t why_bytes) {
    if (!anemo_qgemm_valid(p, why, why_bytes)) {
        return false;
    }
    for (int32_t i = 0; i < p->n_parts; i++) {
        if (p->type[i].group % act_group != 0) {
            return anemo_refuse(why, why_bytes,
                                "weight group %d; multiples of %d or one per row are accepted",
                                (int)p->type[i].group, act_group);
        }
    }
    return true;
}

/* The digits of one row of x. */
static inline size_t anemo_avx2_workspace(const anemo_qgemm_problem *p) {
    return p->type[0].bits == 8 ? avx2_digits_bytes(p->k) : 0;
}

static inline anemo_status anemo_avx2_run(const anemo_exec *exec, const anemo_qgemm_problem *p,
                                          const anemo_qgemm_args *a, const anemo_act *act,
                                          anemo_avx2_rows_fn tile, anemo_avx2_gemv_fn gemv) {
    anemo_avx2_job j = {.p = p, .a = a, .row_bytes = act->row_bytes(p->k), .tile = tile};
    j.alike = true;
    for (int32_t i = 0; i < p->n_parts; i++) {
        j.shape[i] = anemo_n32_shape_of(&p->type[i], p->k);
        j.alike = j.alike && memcmp(&p->type[i], &p->type[0], sizeof p->type[0]) == 0;
    }
    const int64_t blocks = anemo_qgemm_blocks(p, ANEMO_N32_ROWS);
    if (exec->workspace_bytes < anemo_avx2_workspace(p)) {
        return ANEMO_E_MEMORY;
    }
    if (a->m == 1) {
        j.gemv = gemv;
        if (p->type[0].bits == 8) {
            avx2_digits(a->x, p->k, exec->workspace);
            j.digits = exec->workspace;
        }
        exec->parallel(exec, blocks, 0, avx2_gemv_range, &j);
        return ANEMO_OK;
    }
    const int64_t wanted = anemo_ceil_div(4 * (int64_t)exec->n_threads, blocks);
    j.tiles = anemo_ceil_div(a->m, ANEMO_AVX2_ROWS);
    j.stretches = exec->n_threads == 1 ? 1 : wanted < j.tiles ? wanted : j.tiles;
    exec->parallel(exec, blocks * j.stretches, 0, avx2_items, &j);
    return ANEMO_OK;
}

/* Defines the variant NAME reading a8_gGROUP. */
#define ANEMO_AVX2_VARIANT(id, width, group_, layout_, idea_)                                      \
    extern const anemo_act anemo_act_a8_g##group_;                                                 \
    static void rows_##group_(int64_t mr, const anemo_avx2_tile *t,                                \
                              float out[][ANEMO_AVX2_COLUMNS]) {                                   \
        avx2_tile_rows(width, group_, mr, t, out);                                                 \
    }                                                                                              \
    static void gemv_##group_(int streams, const anemo_avx2_gemv *g,                               \
                              float out[][ANEMO_AVX2_COLUMNS]) {                                   \
        avx2_gemv_streams(width, group_, streams, g, out);                                         \
    }                                                                                              \
    static bool accepts_##group_(const void *problem, char *why, size_t why_bytes) {               \
        return anemo_avx2_accepts(problem, group_, why, why_bytes);                                \
    }                                                                                              \
    static anemo_status run_##group_(const anemo_exec *exec, const void *problem,                  \
                                     const void *args) {                                           \
        return anemo_avx2_run(exec, problem, args, &anemo_act_a8_g##group_, rows_##group_,         \
                              gemv_##group_);                                                      \
    }                                                                                              \
    static size_t workspace_##group_(const void *problem, int32_t n_threads) {                     \
        (void)n_threads;                                                                           \
        return anemo_avx2_workspace(problem);                                                      \
    }                                                                                              \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_QGEMM,                                                                      \
        .backend = ANEMO_CPU,                                                                      \
        .needs = {.cpu_features = ANEMO_CPU_AVX2},                                                 \
        .layout = layout_,                                                                         \
        .act = "a8_g" #group_,                                                                     \
        .traits = ANEMO_TRAIT_ROW_INVARIANT,                                                       \
        .idea = idea_,                                                                             \
        .accepts = accepts_##group_,                                                               \
        .workspace_bytes = workspace_##group_,                                                     \
        .run = run_##group_,                                                                       \
    };

#endif
