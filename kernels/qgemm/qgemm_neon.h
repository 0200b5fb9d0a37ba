/* The qgemm around the NEON tile: who computes which block, and the epilogue. Included by the
 * qgemm_w?a8_tile_neon*.c after the header that defines neon_group for their instruction; they fix
 * `bits`. Work is cut as in qgemm_avx2.h: a block of 32 rows of W times all of x, so that
 * weights are read from memory once; x is cut as well only when there are too few blocks. */
#ifndef ANEMO_QGEMM_NEON_H
#define ANEMO_QGEMM_NEON_H

#include "kernels/qgemm/epilogue.h"
#include "kernels/qgemm/qgemm_internal.h"
#include "kernels/qgemm/tile_neon.h"

typedef void (*anemo_neon_rows_fn)(int64_t mr, const anemo_neon_tile *t,
                                   float out[][ANEMO_NEON_COLUMNS]);

typedef struct anemo_neon_job {
    const anemo_qgemm_problem *p;
    const anemo_qgemm_args *a;
    anemo_n32_shape shape[ANEMO_QGEMM_PARTS];
    int32_t act_group;
    size_t row_bytes;  /* of the a8 record */
    int64_t tiles;     /* ceil(m / 8): rows of x are spread evenly over them */
    int64_t stretches; /* pieces x is cut into */
    anemo_neon_rows_fn tile;
} anemo_neon_job;

static inline void neon_one_tile(const anemo_neon_job *j, anemo_qgemm_block b, int64_t row,
                                 int64_t mr) {
    const bool act_mul = j->p->epilogue == ANEMO_EPI_ACT_MUL;
    float out[2][ANEMO_NEON_ROWS][ANEMO_NEON_COLUMNS];
    anemo_neon_tile t = {.act_group = j->act_group};
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

static inline void neon_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const anemo_neon_job *j = ctx;
    (void)thread;
    for (int64_t item = begin; item < end; item++) {
        const anemo_qgemm_block b = anemo_qgemm_block_at(j->p, ANEMO_N32_ROWS, item / j->stretches);
        const int64_t stretch = item % j->stretches;
        const int64_t first = stretch * j->tiles / j->stretches;
        const int64_t last = (stretch + 1) * j->tiles / j->stretches;
        for (int64_t tile = first; tile < last; tile++) {
            const int64_t row = tile * j->a->m / j->tiles;
            neon_one_tile(j, b, row, (tile + 1) * j->a->m / j->tiles - row);
        }
    }
}

/* Weight groups are multiples of the activation group. */
static inline bool neon_accepts(const anemo_qgemm_problem *p, int32_t act_group, char *why,
                                size_t why_bytes) {
    if (!anemo_qgemm_valid(p, why, why_bytes)) {
        return false;
    }
    for (int32_t i = 0; i < p->n_parts; i++) {
        if (p->type[i].group % act_group != 0) {
            return anemo_refuse(why, why_bytes,
                                "weight group %d; multiples of %d or one per row are accepted",
                                (int)p->type[i].group, (int)act_group);
        }
    }
    return true;
}

static inline size_t neon_workspace(const void *problem, int32_t n_threads) {
    (void)problem, (void)n_threads;
    return 0;
}

static inline anemo_status neon_run(const anemo_exec *exec, const anemo_qgemm_problem *p,
                                    const anemo_qgemm_args *a, const anemo_act *act,
                                    anemo_neon_rows_fn tile) {
    anemo_neon_job j = {
        .p = p, .a = a, .act_group = act->group, .row_bytes = act->row_bytes(p->k), .tile = tile};
    for (int32_t i = 0; i < p->n_parts; i++) {
        j.shape[i] = anemo_n32_shape_of(&p->type[i], p->k);
    }
    const int64_t blocks = anemo_qgemm_blocks(p, ANEMO_N32_ROWS);
    const int64_t wanted = anemo_ceil_div(4 * (int64_t)exec->n_threads, blocks);
    j.tiles = anemo_ceil_div(a->m, ANEMO_NEON_ROWS);
    j.stretches = exec->n_threads == 1 ? 1 : wanted < j.tiles ? wanted : j.tiles;
    exec->parallel(exec, blocks * j.stretches, 0, neon_items, &j);
    return ANEMO_OK;
}

/* `width`-bit weights through neon_group. */
#define ANEMO_NEON_TILE(width)                                                                     \
    static void neon_rows(int64_t mr, const anemo_neon_tile *t, float out[][ANEMO_NEON_COLUMNS]) { \
        neon_tile_rows(width, mr, t, neon_group, out);                                             \
    }

/* Defines the variant `id` reading a8_gGROUP; needs an ANEMO_NEON_TILE before it. */
#define ANEMO_NEON_VARIANT(id, group_, layout_, rows_from, idea_)                                  \
    extern const anemo_act anemo_act_a8_g##group_;                                                 \
    static bool accepts_##group_(const void *problem, char *why, size_t why_bytes) {               \
        return neon_accepts(problem, group_, why, why_bytes);                                      \
    }                                                                                              \
    static anemo_status run_##group_(const anemo_exec *exec, const void *problem,                  \
                                     const void *args) {                                           \
        return neon_run(exec, problem, args, &anemo_act_a8_g##group_, neon_rows);                  \
    }                                                                                              \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_QGEMM,                                                                      \
        .backend = ANEMO_CPU,                                                                      \
        .needs = {.cpu_features = ANEMO_NEON_NEEDS},                                               \
        .layout = layout_,                                                                         \
        .act = "a8_g" #group_,                                                                     \
        .traits = ANEMO_TRAIT_ROW_INVARIANT,                                                       \
        .m_from = rows_from,                                                                       \
        .idea = idea_ "; not yet run on hardware",                                                 \
        .accepts = accepts_##group_,                                                               \
        .workspace_bytes = neon_workspace,                                                         \
        .run = run_##group_,                                                                       \
    };

#endif
