/* The qgemm around the VNNI tile: who computes which block, and the epilogue. Included by
 * qgemm_w4a8_tile_avx512vnni.c and qgemm_w8a8_tile_avx512vnni.c, which fix `bits`.
 *
 * An item of the parallel loop is one block of 32 rows of W times a stretch of rows of x: as many
 * as stay in the L2 cache, fewer when there are not enough blocks to fill the threads. All blocks
 * go by before the next stretch begins, so x comes from L2 and each stretch reads W once more, at
 * 2 * (rows of the stretch) operations per weight: less than a tenth of the memory bandwidth.
 * Inside a block the tiles share the work of fetching the next block to L2; so even with a few
 * tiles (m = 7..16) the weights arrive while the dot products run. */
#ifndef ANEMO_QGEMM_AVX512VNNI_H
#define ANEMO_QGEMM_AVX512VNNI_H

#include "kernels/qgemm/epilogue.h"
#include "kernels/qgemm/qgemm_internal.h"
#include "kernels/qgemm/tile_avx512vnni.h"

typedef void (*anemo_vnni_rows_fn)(int64_t mr, const anemo_vnni_tile *t, anemo_vnni_ahead ahead,
                                   float out[][ANEMO_TILE_COLUMNS]);

/* So much of x stays in the L2 cache (1 MiB on Zen 4) beside two blocks of W. */
enum { VNNI_STRETCH_BYTES = 384 * 1024 };

typedef struct anemo_vnni_job {
    const anemo_qgemm_problem *p;
    const anemo_qgemm_args *a;
    anemo_n32_shape shape[ANEMO_QGEMM_PARTS];
    size_t row_bytes;  /* of the a8 record */
    int64_t blocks;    /* of 32 rows of W, over all parts */
    int64_t tiles;     /* ceil(m / 6): rows of x are spread evenly over them */
    int64_t stretches; /* pieces x is cut into */
    anemo_vnni_rows_fn tile;
} anemo_vnni_job;

/* What one of the tiles over a block fetches: an equal share of the next block, which lies right
 * behind (behind the last one this asks for memory that nobody reads, which is harmless). A single
 * tile fetches nothing: it reads at memory speed, and a second stream only disturbs the first. */
static inline anemo_vnni_ahead vnni_ahead(const uint8_t *block, const anemo_n32_shape *s,
                                          int64_t tile, int64_t tiles) {
    const int64_t quads = s->k_padded / 32, lines = (int64_t)s->block_bytes / 64;
    const int64_t each = tiles > 1 ? anemo_ceil_div(lines, quads * tiles) : 0;
    return (anemo_vnni_ahead){block + s->block_bytes + 64 * each * quads * tile, each};
}

/* anemo_epilogue_row for a whole tile, in vectors: the same additions in the same order. */
static inline void vnni_store(const anemo_vnni_job *j, anemo_qgemm_block b, int64_t row, int64_t mr,
                              float out[][ANEMO_TILE_COLUMNS]) {
    const bool add = j->p->epilogue == ANEMO_EPI_ADD;
    for (int v = 0; v < 2 && 16 * v < b.rows; v++) {
        const int64_t count = b.rows - 16 * v;
        const __mmask16 mask = count < 16 ? (__mmask16)((1u << count) - 1) : 0xffff;
        const bool has_bias = j->p->has_bias >> b.part & 1;
        const __m512 bias = has_bias
                                ? _mm512_maskz_loadu_ps(mask, j->a->bias[b.part] + b.row + 16 * v)
                                : _mm512_setzero_ps();
        float *y = j->a->y[b.part] + row * j->a->y_stride[b.part] + b.row + 16 * v;
        for (int64_t i = 0; i < mr; i++, y += j->a->y_stride[b.part]) {
            __m512 r = _mm512_loadu_ps(out[i] + 16 * v);
            r = has_bias ? _mm512_add_ps(r, bias) : r;
            r = add ? _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), r) : r;
            _mm512_mask_storeu_ps(y, mask, r);
        }
    }
}

static inline void vnni_one_tile(const anemo_vnni_job *j, anemo_qgemm_block b, int64_t tile,
                                 int64_t first, int64_t last) {
    const bool act_mul = j->p->epilogue == ANEMO_EPI_ACT_MUL;
    const int64_t row = tile * j->a->m / j->tiles, mr = (tile + 1) * j->a->m / j->tiles - row;
    float out[2][ANEMO_TILE_ROWS][ANEMO_TILE_COLUMNS];
    anemo_vnni_tile t;
    for (int64_t i = 0; i < mr; i++) {
        t.row[i] = (const int8_t *)j->a->x + (size_t)(row + i) * j->row_bytes;
    }
    for (int part = b.part; part <= (act_mul ? 1 : b.part); part++) {
        t.shape = &j->shape[part];
        t.block = (const uint8_t *)j->a->weight[part] +
                  (size_t)(b.row / ANEMO_N32_ROWS) * t.shape->block_bytes;
        j->tile(mr, &t, vnni_ahead(t.block, t.shape, tile - first, last - first),
                out[act_mul ? part : 0]);
    }
    if (!act_mul) {
        vnni_store(j, b, row, mr, out[0]);
        return;
    }
    for (int64_t i = 0; i < mr; i++) {
        anemo_epilogue_act_mul(j->p, j->a, row + i, b.row, b.rows, out[0][i], out[1][i]);
    }
}

static inline void vnni_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const anemo_vnni_job *j = ctx;
    (void)thread;
    for (int64_t item = begin; item < end; item++) {
        const anemo_qgemm_block b = anemo_qgemm_block_at(j->p, ANEMO_N32_ROWS, item % j->blocks);
        const int64_t stretch = item / j->blocks;
        const int64_t first = stretch * j->tiles / j->stretches;
        const int64_t last = (stretch + 1) * j->tiles / j->stretches;
        for (int64_t tile = first; tile < last; tile++) {
            vnni_one_tile(j, b, tile, first, last);
        }
    }
}

/* Layout and act_group must fit: weight groups are multiples of the activation group. */
static inline bool anemo_vnni_accepts(const anemo_qgemm_problem *p, int32_t act_group, char *why,
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

static inline anemo_status anemo_vnni_run(const anemo_exec *exec, const anemo_qgemm_problem *p,
                                          const anemo_qgemm_args *a, const anemo_act *act,
                                          anemo_vnni_rows_fn tile) {
    anemo_vnni_job j = {.p = p, .a = a, .row_bytes = act->row_bytes(p->k), .tile = tile};
    for (int32_t i = 0; i < p->n_parts; i++) {
        j.shape[i] = anemo_n32_shape_of(&p->type[i], p->k);
    }
    j.blocks = anemo_qgemm_blocks(p, ANEMO_N32_ROWS);
    j.tiles = anemo_ceil_div(a->m, ANEMO_TILE_ROWS);
    const int64_t fit = VNNI_STRETCH_BYTES / (ANEMO_TILE_ROWS * (int64_t)j.row_bytes);
    const int64_t for_cache = anemo_ceil_div(j.tiles, fit < 1 ? 1 : fit);
    const int64_t for_threads =
        exec->n_threads == 1 ? 1 : anemo_ceil_div(4 * (int64_t)exec->n_threads, j.blocks);
    j.stretches = for_cache > for_threads ? for_cache : for_threads;
    j.stretches = j.stretches < j.tiles ? j.stretches : j.tiles;
    exec->parallel(exec, j.blocks * j.stretches, 0, vnni_items, &j);
    return ANEMO_OK;
}

static inline size_t anemo_vnni_workspace(const void *problem, int32_t n_threads) {
    (void)problem, (void)n_threads;
    return 0;
}

/* Defines the variant NAME reading a8_gGROUP. */
#define ANEMO_VNNI_VARIANT(id, width, group_, layout_, idea_)                                      \
    extern const anemo_act anemo_act_a8_g##group_;                                                 \
    static void rows_##group_(int64_t mr, const anemo_vnni_tile *t, anemo_vnni_ahead ahead,        \
                              float out[][ANEMO_TILE_COLUMNS]) {                                   \
        vnni_tile_rows_ahead(width, group_, mr, t, ahead, out);                                    \
    }                                                                                              \
    static bool accepts_##group_(const void *problem, char *why, size_t why_bytes) {               \
        return anemo_vnni_accepts(problem, group_, why, why_bytes);                                \
    }                                                                                              \
    static anemo_status run_##group_(const anemo_exec *exec, const void *problem,                  \
                                     const void *args) {                                           \
        return anemo_vnni_run(exec, problem, args, &anemo_act_a8_g##group_, rows_##group_);        \
    }                                                                                              \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_QGEMM,                                                                      \
        .backend = ANEMO_CPU,                                                                      \
        .needs = {.cpu_features = ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VNNI},                       \
        .layout = layout_,                                                                         \
        .act = "a8_g" #group_,                                                                     \
        .traits = ANEMO_TRAIT_ROW_INVARIANT,                                                       \
        .idea = idea_,                                                                             \
        .accepts = accepts_##group_,                                                               \
        .workspace_bytes = anemo_vnni_workspace,                                                   \
        .run = run_##group_,                                                                       \
    };

#endif
