/* The qgemm around the AVX2 tiles: who computes which block, and the epilogue. Included by the
 * variants, which fix the code.
 *
 * An item of the parallel loop is one block of 32 rows of W times a stretch of rows of x. Normally
 * the stretch is all of x, so that every weight is read from memory once; only when there are fewer
 * blocks than would fill the threads is x cut as well. */
#ifndef ANEMO_QGEMM_AVX2_H
#define ANEMO_QGEMM_AVX2_H

#include "kernels/qgemm/epilogue.h"
#include "kernels/qgemm/kernels_avx2.h"
#include "kernels/qgemm/qgemm_internal.h"
#include "kernels/qgemm/tile_small_avx2.h"

enum { ANEMO_AVX2_BLOCKS_BYTES = 512 * 1024 };

typedef struct anemo_avx2_job {
    const anemo_qgemm_problem *p;
    const anemo_qgemm_args *a;
    anemo_n32_shape shape[ANEMO_QGEMM_PARTS];
    size_t row_bytes;  /* of the a8 record */
    int64_t tiles;     /* ceil(m / 6): rows of x are spread evenly over them */
    int64_t stretches; /* pieces x is cut into */
    const anemo_avx2_kernel *kernel;
    const int8_t *digits; /* of x: m = 1, where the kernel wants them */
    bool alike;           /* all parts have the same type */
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
        j->kernel->rows(mr, &t, out[act_mul ? part : 0]);
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
    j->kernel->gemv(streams, &g, out);
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
            j->kernel->gemv(1, &g, out + part);
        }
    }
    if (j->alike) {
        j->kernel->gemv(2, &g, out);
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

/* Layout and act_group must fit: weight groups are multiples of the activation group, or 16 where
 * `sixteens`. */
static inline bool anemo_avx2_accepts(const anemo_qgemm_problem *p, int32_t act_group,
                                      bool sixteens, char *why, size_t why_bytes) {
    if (!anemo_qgemm_valid(p, why, why_bytes)) {
        return false;
    }
    for (int32_t i = 0; i < p->n_parts; i++) {
        const int32_t group = p->type[i].group;
        if (group % act_group != 0 && !(sixteens && group == 16)) {
            return anemo_refuse(why, why_bytes,
                                "weight group %d; multiples of %d or one per row are accepted",
                                (int)group, (int)act_group);
        }
    }
    return true;
}

/* The digits of one row of x. */
static inline size_t anemo_avx2_workspace(const anemo_qgemm_problem *p,
                                          const anemo_avx2_kernel *kernel) {
    return kernel->digits ? avx2_digits_bytes(p->k) : 0;
}

static inline anemo_status anemo_avx2_run(const anemo_exec *exec, const anemo_qgemm_problem *p,
                                          const anemo_qgemm_args *a, const anemo_act *act,
                                          const anemo_avx2_kernel *kernel) {
    anemo_avx2_job j = {.p = p, .a = a, .row_bytes = act->row_bytes(p->k), .kernel = kernel};
    j.alike = true;
    for (int32_t i = 0; i < p->n_parts; i++) {
        j.shape[i] = anemo_n32_shape_of(&p->type[i], p->k);
        j.alike = j.alike && memcmp(&p->type[i], &p->type[0], sizeof p->type[0]) == 0;
    }
    const int64_t blocks = anemo_qgemm_blocks(p, ANEMO_N32_ROWS);
    if (exec->workspace_bytes < anemo_avx2_workspace(p, kernel)) {
        return ANEMO_E_MEMORY;
    }
    if (a->m == 1) {
        if (kernel->digits) {
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

/* Defines the variant `id` reading a8_gGROUP, and its anemo_avx2_KERNEL of rows_GROUP and
 * gemv_GROUP; `sixteens`: also for weight groups of 16. */
#define ANEMO_AVX2_DEFINE(id, kernel_, group_, sixteens, digits_, layout_, idea_)                  \
    const anemo_avx2_kernel anemo_avx2_##kernel_ = {rows_##group_, gemv_##group_, digits_};        \
    extern const anemo_act anemo_act_a8_g##group_;                                                 \
    static bool accepts_##group_(const void *problem, char *why, size_t why_bytes) {               \
        return anemo_avx2_accepts(problem, group_, sixteens, why, why_bytes);                      \
    }                                                                                              \
    static anemo_status run_##group_(const anemo_exec *exec, const void *problem,                  \
                                     const void *args) {                                           \
        return anemo_avx2_run(exec, problem, args, &anemo_act_a8_g##group_,                        \
                              &anemo_avx2_##kernel_);                                              \
    }                                                                                              \
    static size_t workspace_##group_(const void *problem, int32_t n_threads) {                     \
        (void)n_threads;                                                                           \
        return anemo_avx2_workspace(problem, &anemo_avx2_##kernel_);                               \
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

/* Plain codes of `width` bits. */
#define ANEMO_AVX2_VARIANT(id, kernel_, width, group_, layout_, idea_)                             \
    static void rows_##group_(int64_t mr, const anemo_avx2_tile *t,                                \
                              float out[][ANEMO_AVX2_COLUMNS]) {                                   \
        avx2_tile_rows(width, group_, mr, t, out);                                                 \
    }                                                                                              \
    static void gemv_##group_(int streams, const anemo_avx2_gemv *g,                               \
                              float out[][ANEMO_AVX2_COLUMNS]) {                                   \
        avx2_gemv_streams(width, group_, streams, g, out);                                         \
    }                                                                                              \
    ANEMO_AVX2_DEFINE(id, kernel_, group_, false, (width) == 8, layout_, idea_)

/* The others (tile_small_avx2.h). */
#define ANEMO_AVX2_SMALL_VARIANT(id, kernel_, code, layout_, idea_)                                \
    static void rows_32(int64_t mr, const anemo_avx2_tile *t, float out[][ANEMO_AVX2_COLUMNS]) {   \
        avx2_small_rows(code, mr, t, out);                                                         \
    }                                                                                              \
    static void gemv_32(int streams, const anemo_avx2_gemv *g, float out[][ANEMO_AVX2_COLUMNS]) {  \
        avx2_small_streams(code, streams, g, out);                                                 \
    }                                                                                              \
    ANEMO_AVX2_DEFINE(id, kernel_, 32, (code) != 5, false, layout_, idea_)

#endif
