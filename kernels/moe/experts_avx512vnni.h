/* The two halves of an expert on the VNNI tile (qgemm/tile_avx512vnni.h), for a range of its sorted
 * rows and a range of its columns. Who calls them, for which ranges and in which order, is what
 * moe_experts_w?a8_fused_avx512vnni.c and moe_experts_w4a8_naive_avx512vnni.c differ in.
 *
 *   x       a8 records of the tokens; row r of an expert is record row_token[r]: the tile takes six
 *           pointers, so rows are gathered without a copy
 *   hidden  [R] a8 records of h = act(gate x) up(x), in sorted order: the second half reads them in
 *           sequence. Same format as x; coded here, exactly as quantize_act would
 *
 * The first half works on whole groups of 32 or 128 hidden units, so that whoever computes a group
 * also codes it: no float row of h ever reaches memory, and there is no third pass. A weight block
 * meets all rows before the next one: it is read from memory once, and from L2 once per six rows.
 * Groups of 128 are four blocks; their floats wait in 48 KiB on the stack, so rows go in pieces of
 * CHUNK. */
#ifndef ANEMO_MOE_EXPERTS_AVX512VNNI_H
#define ANEMO_MOE_EXPERTS_AVX512VNNI_H

#include "kernels/dense/common.h"
#include "kernels/moe/hidden_avx512.h"
#include "kernels/moe/moe.h"
#include "kernels/qgemm/tile_avx512vnni.h"

enum { EXPERTS_CHUNK = 16 * ANEMO_TILE_ROWS, EXPERTS_GROUP_MAX = 128 };

/* vnni_tile_rows of fixed width and group */
typedef void (*experts_tile_fn)(int64_t mr, const anemo_vnni_tile *t,
                                float out[][ANEMO_TILE_COLUMNS]);

typedef struct experts_job {
    const anemo_moe_experts_problem *p;
    const anemo_moe_experts_args *a;
    experts_tile_fn tile;
    anemo_n32_shape gate, up, down;
    int64_t group;           /* of the activation format */
    size_t x_bytes, h_bytes; /* of a record */
    uint8_t *hidden;
} experts_job;

static inline experts_job experts_job_of(const anemo_moe_experts_problem *p,
                                         const anemo_moe_experts_args *a, const anemo_act *act,
                                         experts_tile_fn tile, void *hidden) {
    return (experts_job){.p = p,
                         .a = a,
                         .tile = tile,
                         .gate = anemo_n32_shape_of(&p->gate, p->d),
                         .up = anemo_n32_shape_of(&p->up, p->d),
                         .down = anemo_n32_shape_of(&p->down, p->ffn),
                         .group = act->group,
                         .x_bytes = act->row_bytes(p->d),
                         .h_bytes = act->row_bytes(p->ffn),
                         .hidden = hidden};
}

/* Groups of hidden units, and blocks of output columns: what the two halves are cut into. */
static inline int64_t experts_groups(const experts_job *j) {
    return anemo_ceil_div(j->p->ffn, j->group);
}

static inline int64_t experts_down_blocks(const experts_job *j) {
    return anemo_ceil_div(j->p->d, ANEMO_N32_ROWS);
}

static inline const uint8_t *experts_block(const void *packed, const anemo_n32_shape *s,
                                           int64_t block) {
    return (const uint8_t *)packed + (size_t)block * s->block_bytes;
}

/* Rows [row, row + n) in tiles of nearly equal height: tile i begins here. */
static inline int64_t experts_tile_at(int64_t row, int64_t n, int64_t i) {
    return row + i * n / anemo_ceil_div(n, ANEMO_TILE_ROWS);
}

/* The 16 or fewer biases of expert e at `column` of n, or zeros. */
static inline __m512 experts_bias(const float *bias, int64_t e, int64_t n, int64_t column) {
    return bias ? _mm512_maskz_loadu_ps(hidden_mask(n - column), bias + e * n + column)
                : _mm512_setzero_ps();
}

/* out[i][0..32) = h of block `block` for rows [row, row + mr), out rows `stride` floats apart. */
static inline void experts_gate_up_tile(const experts_job *j, int32_t e, int64_t row, int64_t mr,
                                        int64_t block, float *out, int64_t stride) {
    const anemo_moe_experts_args *a = j->a;
    const float *gate_bias = j->p->has_bias & 1 ? a->gate_bias : NULL;
    const float *up_bias = j->p->has_bias & 2 ? a->up_bias : NULL;
    float g[ANEMO_TILE_ROWS][ANEMO_TILE_COLUMNS], u[ANEMO_TILE_ROWS][ANEMO_TILE_COLUMNS];
    anemo_vnni_tile t = {.shape = &j->gate, .block = experts_block(a->gate[e], &j->gate, block)};
    for (int64_t i = 0; i < mr; i++) {
        t.row[i] = (const int8_t *)a->x + (size_t)a->plan.row_token[row + i] * j->x_bytes;
    }
    j->tile(mr, &t, g);
    t.shape = &j->up;
    t.block = experts_block(a->up[e], &j->up, block);
    j->tile(mr, &t, u);
    for (int64_t c = 0; c < ANEMO_TILE_COLUMNS; c += 16) {
        const int64_t column = block * ANEMO_N32_ROWS + c;
        const __m512 gb = experts_bias(gate_bias, e, j->p->ffn, column);
        const __m512 ub = experts_bias(up_bias, e, j->p->ffn, column);
        for (int64_t i = 0; i < mr; i++) {
            const __m512 gate = _mm512_add_ps(_mm512_loadu_ps(&g[i][c]), gb);
            const __m512 up = _mm512_add_ps(_mm512_loadu_ps(&u[i][c]), ub);
            _mm512_storeu_ps(out + i * stride + c, hidden_activate(j->p->activation, gate, up));
        }
    }
}

/* Codes group g of rows [row, row + n) from h[n][group]; after a row's last group come the zeros up
 * to the record's padding. */
static inline void experts_code_group(const experts_job *j, int64_t row, int64_t n, int64_t g,
                                      const float *h) {
    const int64_t ffn = j->p->ffn, group = j->group, kp = anemo_a8_padded_k(ffn);
    const int64_t groups = kp / group, left = ffn - g * group;
    for (int64_t i = 0; i < n; i++) {
        int8_t *codes = (int8_t *)(j->hidden + (size_t)(row + i) * j->h_bytes);
        float *scales = (float *)(void *)(codes + kp);
        int32_t *sums = (int32_t *)(void *)(scales + groups);
        hidden_quantise(h + i * group, min_i64(left, group), group, codes + g * group, scales + g,
                        sums + g);
        for (int64_t pad = g + 1; left <= group && pad < groups; pad++) {
            memset(codes + pad * group, 0, (size_t)group);
            scales[pad] = 0.0f;
            sums[pad] = 0;
        }
    }
}

/* hidden[row_begin .. row_end), groups [group_begin, group_end) */
static inline void experts_gate_up(const void *ctx, int32_t e, int64_t row_begin, int64_t row_end,
                                   int64_t group_begin, int64_t group_end) {
    const experts_job *j = ctx;
    float h[EXPERTS_CHUNK * EXPERTS_GROUP_MAX];
    const int64_t blocks = j->group / ANEMO_N32_ROWS;
    const int64_t all_blocks = anemo_ceil_div(j->p->ffn, ANEMO_N32_ROWS);
    for (int64_t g = group_begin; g < group_end; g++) {
        for (int64_t row = row_begin; row < row_end; row += EXPERTS_CHUNK) {
            const int64_t n = min_i64(EXPERTS_CHUNK, row_end - row);
            const int64_t tiles = anemo_ceil_div(n, ANEMO_TILE_ROWS);
            for (int64_t b = g * blocks; b < min_i64((g + 1) * blocks, all_blocks); b++) {
                float *at = h + (b - g * blocks) * ANEMO_N32_ROWS;
                for (int64_t i = 0; i < tiles; i++) {
                    const int64_t from = experts_tile_at(row, n, i);
                    experts_gate_up_tile(j, e, from, experts_tile_at(row, n, i + 1) - from, b,
                                         at + (from - row) * j->group, j->group);
                }
            }
            experts_code_group(j, row, n, g, h);
        }
    }
}

/* rows[row_begin .. row_end), blocks [block_begin, block_end) of 32 columns */
static inline void experts_down(const void *ctx, int32_t e, int64_t row_begin, int64_t row_end,
                                int64_t block_begin, int64_t block_end) {
    const experts_job *j = ctx;
    const float *bias = j->p->has_bias & 4 ? j->a->down_bias : NULL;
    const int64_t d = j->p->d, n = row_end - row_begin, tiles = anemo_ceil_div(n, ANEMO_TILE_ROWS);
    float out[ANEMO_TILE_ROWS][ANEMO_TILE_COLUMNS];
    for (int64_t b = block_begin; b < block_end; b++) {
        anemo_vnni_tile t = {.shape = &j->down, .block = experts_block(j->a->down[e], &j->down, b)};
        for (int64_t tile = 0; tile < tiles; tile++) {
            const int64_t row = experts_tile_at(row_begin, n, tile);
            const int64_t mr = experts_tile_at(row_begin, n, tile + 1) - row;
            for (int64_t i = 0; i < mr; i++) {
                t.row[i] = (const int8_t *)(j->hidden + (size_t)(row + i) * j->h_bytes);
            }
            j->tile(mr, &t, out);
            for (int64_t c = 0; c < ANEMO_TILE_COLUMNS; c += 16) {
                const int64_t column = b * ANEMO_N32_ROWS + c;
                const __m512 shift = experts_bias(bias, e, d, column);
                for (int64_t i = 0; i < mr; i++) {
                    _mm512_mask_storeu_ps(j->a->rows + (row + i) * d + column,
                                          hidden_mask(d - column),
                                          _mm512_add_ps(_mm512_loadu_ps(&out[i][c]), shift));
                }
            }
        }
    }
}

/* Weight groups must be multiples of the activation group; the layout checks the rest. */
static inline bool experts_accepts(const anemo_moe_experts_problem *p, int32_t act_group, char *why,
                                   size_t why_bytes) {
    if (!anemo_moe_experts_accepts(p, why, why_bytes)) {
        return false;
    }
    const anemo_weight_type *types[] = {&p->gate, &p->up, &p->down};
    for (int i = 0; i < 3; i++) {
        if (types[i]->group % act_group != 0) {
            return anemo_refuse(why, why_bytes,
                                "weight group %d; multiples of %d or one per row are accepted",
                                (int)types[i]->group, (int)act_group);
        }
    }
    return true;
}

static inline size_t experts_hidden_bytes(const anemo_moe_experts_problem *p,
                                          const anemo_act *act) {
    return (size_t)p->tokens_max * (size_t)p->top_k * act->row_bytes(p->ffn);
}

#endif
