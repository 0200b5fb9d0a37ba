/* moe_experts for float weights (f32, f16, bf16) and float activations, from the packed form
 * float_n32 (qgemm/layout_float_n32.h). Included by moe_experts_wfa32_fused_avx2.c and _avx512.c,
 * which first define LANES (8 or 16), TILE_SUMS (vectors of sums that fit) and the few operations
 * on vectors of so many floats that C does not have: the compiler makes of the rest what it needs.
 *
 * A tile is up to 6 gathered rows of x times a block of 32 weight rows, its sums in registers, each
 * weight converted once per tile, each activation broadcast from memory. AVX2 has 16 registers:
 * 6 x 16 sums (12), two vectors of weights, an activation and the mask of bf16; so from 3 rows on
 * it goes through a block twice, half of the weight rows each time. A result is the sum over the
 * columns from left to right, whatever the tile's height (ROW_INVARIANT). h stays float, one row of
 * ffn per sorted row; dispatch.h says who does what.
 *
 * Beside moe_experts_c, which decodes canonical rows for each call: no decoding (a bf16 is a float
 * after a shift or a mask), no horizontal sums, 2 to 4 times the lanes. Rejected: chunks of columns
 * as in qgemm_n32.h, for blocks larger than L2: only the down matrix of a large model is one, and
 * the last cache still delivers twice what the multiplications take. */
#ifndef ANEMO_MOE_EXPERTS_FLOAT_H
#define ANEMO_MOE_EXPERTS_FLOAT_H

#include "anemo_config.h"
#include "kernels/dense/common.h"
#include "kernels/moe/activate_lanes.h"
#include "kernels/moe/dispatch.h"
#include "kernels/moe/moe.h"
#include "kernels/qgemm/layout_float_n32.h"

#include <immintrin.h>

enum { TILE_ROWS = 6, COLUMNS = 32, VECTORS = COLUMNS / LANES };

/* Every height is its own unrolled copy: unless the loops over rows unroll, the sums live in
 * memory.
 */
#if ANEMO_SANITIZE
#define TILE_INLINE static __attribute__((noinline, unused))
#define TILE_UNROLL
#elif defined __clang__
#define TILE_INLINE static inline __attribute__((always_inline))
#define TILE_UNROLL _Pragma("unroll")
#else
#define TILE_INLINE static inline __attribute__((always_inline))
#define TILE_UNROLL _Pragma("GCC unroll 8")
#endif

/* ---------------------------------------------------------------- tile */

typedef struct float_tile {
    anemo_weight_type type;
    int64_t k;
    const uint8_t *block;
    const float *x[TILE_ROWS];
} float_tile;

/* Weight rows LANES v .. of the next column; `odd`: of the second of a pair of columns. */
TILE_INLINE vec weights(anemo_code code, const uint8_t *at, int odd, int v) {
    if (code == ANEMO_CODE_BF16) {
        const uvec pair = uvec_load(at + 4 * LANES * v);
        return odd ? (vec)(pair & 0xffff0000u) : (vec)(pair << 16);
    }
    if (code == ANEMO_CODE_F16) {
        return vec_from_f16(at + 64 * odd + 2 * LANES * v);
    }
    return vec_load(at + 128 * odd + 4 * LANES * v);
}

/* Adds a column: `n` vectors of weights from vector `first` on. */
TILE_INLINE void multiply(anemo_code code, int mr, int first, int n, const float_tile *t,
                          int64_t column, const uint8_t *at, int odd, vec sum[TILE_ROWS][VECTORS]) {
    vec w[VECTORS];
    TILE_UNROLL
    for (int v = 0; v < n; v++) {
        w[v] = weights(code, at, odd, first + v);
    }
    TILE_UNROLL
    for (int i = 0; i < mr; i++) {
        const vec a = vec_broadcast(t->x[i] + column);
        TILE_UNROLL
        for (int v = 0; v < n; v++) {
            sum[i][v] = vec_fma(a, w[v], sum[i][v]);
        }
    }
}

/* out[mr][..] = x[mr, k] . W^T for n vectors of the block's rows */
TILE_INLINE void tile_part(anemo_code code, int mr, int first, int n, const float_tile *t,
                           float out[][COLUMNS]) {
    const uint8_t *at = t->block;
    vec sum[TILE_ROWS][VECTORS];
    TILE_UNROLL
    for (int i = 0; i < mr; i++) {
        TILE_UNROLL
        for (int v = 0; v < n; v++) {
            sum[i][v] = vec_splat(0);
        }
    }
    int64_t c = 0;
    for (; c + 2 <= t->k; c += 2) {
        multiply(code, mr, first, n, t, c, at, 0, sum);
        multiply(code, mr, first, n, t, c + 1, at, 1, sum);
        at += code == ANEMO_CODE_F32 ? 256 : 128;
    }
    if (c < t->k) {
        multiply(code, mr, first, n, t, c, at, 0, sum);
    }
    TILE_UNROLL
    for (int i = 0; i < mr; i++) {
        TILE_UNROLL
        for (int v = 0; v < n; v++) {
            memcpy(out[i] + LANES * (first + v), &sum[i][v], sizeof sum[i][v]);
        }
    }
}

/* out[mr][32]; where sums, weights and one activation do not fit the registers, half of the block's
 * rows after the other. */
TILE_INLINE void tile(anemo_code code, int mr, const float_tile *t, float out[][COLUMNS]) {
    if (mr * VECTORS <= TILE_SUMS) {
        tile_part(code, mr, 0, VECTORS, t, out);
    } else {
        tile_part(code, mr, 0, VECTORS / 2, t, out);
        tile_part(code, mr, VECTORS / 2, VECTORS / 2, t, out);
    }
}

#define TILE_CASE(rows)                                                                            \
    case rows:                                                                                     \
        if (code == ANEMO_CODE_BF16) {                                                             \
            tile(ANEMO_CODE_BF16, rows, t, out);                                                   \
        } else if (code == ANEMO_CODE_F16) {                                                       \
            tile(ANEMO_CODE_F16, rows, t, out);                                                    \
        } else {                                                                                   \
            tile(ANEMO_CODE_F32, rows, t, out);                                                    \
        }                                                                                          \
        break;

static void tile_of_code(anemo_code code, int64_t mr, const float_tile *t, float out[][COLUMNS]) {
    switch (mr) {
        TILE_CASE(1)
        TILE_CASE(2)
        TILE_CASE(3)
        TILE_CASE(4)
        TILE_CASE(5)
        TILE_CASE(6)
    }
}

/* ---------------------------------------------------------------- the two halves */

typedef struct float_job {
    const anemo_moe_experts_problem *p;
    const anemo_moe_experts_args *a;
    float *hidden; /* [R, ffn], sorted order */
} float_job;

static inline void run_tile(const anemo_weight_type *type, const void *packed, int64_t block,
                            int64_t k, int64_t mr, float_tile *t, float out[][COLUMNS]) {
    t->k = k;
    t->block = (const uint8_t *)packed + (size_t)block * anemo_float_n32_bytes(type, k);
    tile_of_code((anemo_code)type->code, mr, t, out);
}

static inline int64_t tile_at(int64_t row_begin, int64_t n, int64_t tiles, int64_t i) {
    return row_begin + i * n / tiles;
}

static inline void add_bias(float *y, const float *bias, int64_t n) {
    for (int64_t i = 0; bias && i < n; i++) {
        y[i] += bias[i];
    }
}

static void gate_up_tile(const float_job *j, int32_t e, int64_t block, int64_t row, int64_t mr) {
    const anemo_moe_experts_problem *p = j->p;
    const anemo_moe_experts_args *a = j->a;
    const int64_t column = block * COLUMNS, n = min_i64(COLUMNS, p->ffn - column);
    const float *gate_bias = p->has_bias & 1 ? a->gate_bias + e * p->ffn + column : NULL;
    const float *up_bias = p->has_bias & 2 ? a->up_bias + e * p->ffn + column : NULL;
    float g[TILE_ROWS][COLUMNS], u[TILE_ROWS][COLUMNS];
    float_tile t;
    for (int64_t i = 0; i < mr; i++) {
        t.x[i] = (const float *)a->x + a->plan.row_token[row + i] * p->d;
    }
    run_tile(&p->gate, a->gate[e], block, p->d, mr, &t, g);
    run_tile(&p->up, a->up[e], block, p->d, mr, &t, u);
    for (int64_t i = 0; i < mr; i++) {
        add_bias(g[i], gate_bias, n);
        add_bias(u[i], up_bias, n);
        for (int64_t c = 0; c < COLUMNS; c += LANES) {
            const vec h = vec_activate(p->activation, vec_load(g[i] + c), vec_load(u[i] + c));
            memcpy(g[i] + c, &h, sizeof h);
        }
        memcpy(j->hidden + (row + i) * p->ffn + column, g[i], (size_t)n * sizeof(float));
    }
}

static void gate_up(const void *job, int32_t e, int64_t row_begin, int64_t row_end, int64_t begin,
                    int64_t end, int thread) {
    (void)thread;
    const int64_t n = row_end - row_begin, tiles = anemo_ceil_div(n, TILE_ROWS);
    for (int64_t block = begin; block < end; block++) {
        for (int64_t i = 0; i < tiles; i++) {
            const int64_t row = tile_at(row_begin, n, tiles, i);
            gate_up_tile(job, e, block, row, tile_at(row_begin, n, tiles, i + 1) - row);
        }
    }
}

static void down_tile(const float_job *j, int32_t e, int64_t block, int64_t row, int64_t mr) {
    const anemo_moe_experts_problem *p = j->p;
    const int64_t column = block * COLUMNS, n = min_i64(COLUMNS, p->d - column);
    const float *bias = p->has_bias & 4 ? j->a->down_bias + e * p->d + column : NULL;
    float out[TILE_ROWS][COLUMNS];
    float_tile t;
    for (int64_t i = 0; i < mr; i++) {
        t.x[i] = j->hidden + (row + i) * p->ffn;
    }
    run_tile(&p->down, j->a->down[e], block, p->ffn, mr, &t, out);
    for (int64_t i = 0; i < mr; i++) {
        add_bias(out[i], bias, n);
        memcpy(j->a->rows + (row + i) * p->d + column, out[i], (size_t)n * sizeof(float));
    }
}

static void down(const void *job, int32_t e, int64_t row_begin, int64_t row_end, int64_t begin,
                 int64_t end, int thread) {
    (void)thread;
    const int64_t n = row_end - row_begin, tiles = anemo_ceil_div(n, TILE_ROWS);
    for (int64_t block = begin; block < end; block++) {
        for (int64_t i = 0; i < tiles; i++) {
            const int64_t row = tile_at(row_begin, n, tiles, i);
            down_tile(job, e, block, row, tile_at(row_begin, n, tiles, i + 1) - row);
        }
    }
}

/* ---------------------------------------------------------------- the variant */

static size_t hidden_bytes(const anemo_moe_experts_problem *p) {
    return align64((size_t)p->tokens_max * (size_t)p->top_k * (size_t)p->ffn * sizeof(float));
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    const anemo_moe_experts_problem *p = problem;
    (void)n_threads;
    return hidden_bytes(p) + moe_dispatch_bytes(p);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_moe_experts_problem *p = problem;
    const anemo_moe_experts_args *a = args;
    if (a->tokens < 0 || a->tokens > p->tokens_max) {
        return ANEMO_E_INPUT;
    }
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads)) {
        return ANEMO_E_MEMORY;
    }
    char *memory = exec->workspace;
    const float_job job = {.p = p, .a = a, .hidden = (float *)(void *)memory};
    moe_dispatch d = moe_dispatch_of(p, &a->plan, memory + hidden_bytes(p));
    moe_dispatch_run(exec, &d, gate_up, &job, anemo_ceil_div(p->ffn, COLUMNS), 1);
    moe_dispatch_run(exec, &d, down, &job, anemo_ceil_div(p->d, COLUMNS), 1);
    return ANEMO_OK;
}

#define ANEMO_EXPERTS_FLOAT(id, features, idea_)                                                   \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_MOE_EXPERTS,                                                                \
        .backend = ANEMO_CPU,                                                                      \
        .needs = {.cpu_features = features},                                                       \
        .layout = "float_n32",                                                                     \
        .traits = ANEMO_TRAIT_ROW_INVARIANT,                                                       \
        .idea = idea_,                                                                             \
        .accepts = anemo_moe_experts_accepts,                                                      \
        .workspace_bytes = workspace_bytes,                                                        \
        .run = run,                                                                                \
    };

#endif
