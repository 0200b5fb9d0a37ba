/* The qgemm around the AVX2 tile: who computes which block, and the epilogue. Included by
 * qgemm_w4a8_tile_avx2.c and qgemm_w8a8_tile_avx2.c, which fix `bits`.
 *
 * An item of the parallel loop is one block of 32 rows of W times a stretch of rows of x. Normally
 * the stretch is all of x, so that every weight is read from memory once; only when there are fewer
 * blocks than would fill the threads is x cut as well. */
#ifndef ANEMO_QGEMM_AVX2_H
#define ANEMO_QGEMM_AVX2_H

#include "kernels/qgemm/epilogue.h"
#include "kernels/qgemm/qgemm_internal.h"
#include "kernels/qgemm/tile_avx2.h"

typedef void (*anemo_avx2_rows_fn)(int64_t mr, const anemo_avx2_tile *t,
                                   float out[][ANEMO_AVX2_COLUMNS]);

typedef struct anemo_avx2_job {
    const anemo_qgemm_problem *p;
    const anemo_qgemm_args *a;
    anemo_n32_shape shape[ANEMO_QGEMM_PARTS];
    size_t row_bytes;  /* of the a8 record */
    int64_t tiles;     /* ceil(m / 6): rows of x are spread evenly over them */
    int64_t stretches; /* pieces x is cut into */
    anemo_avx2_rows_fn tile;
} anemo_avx2_job;

static inline void avx2_one_tile(const anemo_avx2_job *j, anemo_qgemm_block b, int64_t row,
                                 int64_t mr) {
    const bool act_mul = j->p->epilogue == ANEMO_EPI_ACT_MUL;
    float out[2][ANEMO_AVX2_ROWS][ANEMO_AVX2_COLUMNS];
    anemo_avx2_tile t;
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

static inline void avx2_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const anemo_avx2_job *j = ctx;
    (void)thread;
    for (int64_t item = begin; item < end; item++) {
        const anemo_qgemm_block b = anemo_qgemm_block_at(j->p, ANEMO_N32_ROWS, item / j->stretches);
        const int64_t stretch = item % j->stretches;
        const int64_t first = stretch * j->tiles / j->stretches;
        const int64_t last = (stretch + 1) * j->tiles / j->stretches;
        for (int64_t tile = first; tile < last; tile++) {
            const int64_t row = tile * j->a->m / j->tiles;
            avx2_one_tile(j, b, row, (tile + 1) * j->a->m / j->tiles - row);
        }
    }
}

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

static inline anemo_status anemo_avx2_run(const anemo_exec *exec, const anemo_qgemm_problem *p,
                                          const anemo_qgemm_args *a, const anemo_act *act,
                                          anemo_avx2_rows_fn tile) {
    anemo_avx2_job j = {.p = p, .a = a, .row_bytes = act->row_bytes(p->k), .tile = tile};
    for (int32_t i = 0; i < p->n_parts; i++) {
        j.shape[i] = anemo_n32_shape_of(&p->type[i], p->k);
    }
    const int64_t blocks = anemo_qgemm_blocks(p, ANEMO_N32_ROWS);
    const int64_t wanted = anemo_ceil_div(4 * (int64_t)exec->n_threads, blocks);
    j.tiles = anemo_ceil_div(a->m, ANEMO_AVX2_ROWS);
    j.stretches = exec->n_threads == 1 ? 1 : wanted < j.tiles ? wanted : j.tiles;
    exec->parallel(exec, blocks * j.stretches, 0, avx2_items, &j);
    return ANEMO_OK;
}

static inline size_t anemo_avx2_workspace(const void *problem, int32_t n_threads) {
    (void)problem, (void)n_threads;
    return 0;
}

/* Defines the variant NAME reading a8_gGROUP. */
#define ANEMO_AVX2_VARIANT(id, width, group_, layout_, idea_)                                      \
    extern const anemo_act anemo_act_a8_g##group_;                                                 \
    static void rows_##group_(int64_t mr, const anemo_avx2_tile *t,                                \
                              float out[][ANEMO_AVX2_COLUMNS]) {                                   \
        avx2_tile_rows(width, group_, mr, t, out);                                                 \
    }                                                                                              \
    static bool accepts_##group_(const void *problem, char *why, size_t why_bytes) {               \
        return anemo_avx2_accepts(problem, group_, why, why_bytes);                                \
    }                                                                                              \
    static anemo_status run_##group_(const anemo_exec *exec, const void *problem,                  \
                                     const void *args) {                                           \
        return anemo_avx2_run(exec, problem, args, &anemo_act_a8_g##group_, rows_##group_);        \
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
        .workspace_bytes = anemo_avx2_workspace,                                                   \
        .run = run_##group_,                                                                       \
    };

#endif
