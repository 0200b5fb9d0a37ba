/* One row against one block of keys, for swa_f32_split: scores, softmax and the mix of values
 * straight from the pages. Lanes lie along head_dim: an element is read and converted once for up
 * to four query heads and never stored. Included after vec_<isa>.h. */
#ifndef ANEMO_SWA_SPLIT_ROWS_H
#define ANEMO_SWA_SPLIT_ROWS_H

#include "kernels/dense/common.h"
#include "kernels/swa/kv_page.h"

enum {
    KEY_BLOCK = 64,
    NEAR_KEYS = 4 /* values asked for into the L1 cache so many keys ahead */
};

/* Keys [lo, hi) of the block that begins at position `begin`, a multiple of KEY_BLOCK. */
typedef struct key_block {
    int64_t begin;
    int lo, hi;
    const char *key[KEY_BLOCK]; /* the elements (q8: behind the scale); outside [lo, hi) the
                                   nearest of the others, so that pieces of a row may be whole */
    float key_scale[KEY_BLOCK], value_scale[KEY_BLOCK]; /* q8 only */
} key_block;

/* What the loops over a block need to know of the pages. */
typedef struct vectors {
    int type; /* anemo_kv_type */
    int64_t d;
    size_t value_offset; /* from a key's elements to its value's */
    size_t bytes;        /* of a vector */
} vectors;

SWA_INLINE int element_bytes(int type) {
    return type == ANEMO_KV_F32 ? 4 : type == ANEMO_KV_Q8 ? 1 : 2;
}

/* ---------------------------------------------------------------- scores */

/* s[h * KEY_BLOCK + j] = query h . key j for j in [from, to), heads <= 4; q[h * dq + i], zero
 * behind d. Each of the VL lanes is a chain of fused multiply-adds over the elements lane, lane +
 * VL, ...; v_store_scores joins the chains as a tree. `next`: the block to prefetch, or NULL. */
SWA_INLINE void score_heads(int type, int heads, const vectors *x, const key_block *b,
                            const key_block *next, int from, int to, const float *q, int64_t dq,
                            float *s) {
    for (int j = from / ROW_KEYS * ROW_KEYS; j < to; j += ROW_KEYS) {
        const char *key[ROW_KEYS];
        vf sum[4][ROW_KEYS];
        SWA_UNROLL
        for (int i = 0; i < ROW_KEYS; i++) {
            key[i] = b->key[j + i];
            SWA_UNROLL
            for (int h = 0; h < 4; h++)
                sum[h][i] = v_zero();
        }
        int64_t c = 0;
        for (; c + VL <= x->d; c += VL) {
            vf k[ROW_KEYS];
            SWA_UNROLL
            for (int i = 0; i < ROW_KEYS; i++)
                k[i] = v_elements(type, key[i], c);
            if (next) /* each line once: all the keys' at c, or those whose turn it is */
                for (int i = 0; i < ROW_KEYS; i++)
                    if ((c / VL + i) % (64 / (VL * element_bytes(type))) == 0)
                        _mm_prefetch(next->key[j + i] + c * element_bytes(type), _MM_HINT_T1);
            SWA_UNROLL
            for (int h = 0; h < heads; h++) {
                const vf a = v_load(q + h * dq + c);
                SWA_UNROLL
                for (int i = 0; i < ROW_KEYS; i++)
                    sum[h][i] = v_fma(a, k[i], sum[h][i]);
            }
        }
        if (c < x->d) {
            SWA_UNROLL
            for (int i = 0; i < ROW_KEYS; i++) {
                const vf k = v_elements_part(type, key[i], c, x->d - c);
                SWA_UNROLL
                for (int h = 0; h < heads; h++)
                    sum[h][i] = v_fma(v_load(q + h * dq + c), k, sum[h][i]);
            }
        }
        v_store_scores(sum, heads, s + j, KEY_BLOCK);
    }
}

/* ---------------------------------------------------------------- softmax */

/* Scores of [lo, hi) to weights: the running maximum rises to theirs, s becomes 2^(s - max), 0
 * outside, and the running sum takes them in. Returns what earlier sums must be multiplied with. */
static float soften(float *s, int lo, int hi, const key_block *b, bool scaled, float *max,
                    float *sum) {
    vf x[KEY_BLOCK / VL], top = v_splat(*max), total = v_zero();
    SWA_UNROLL
    for (int i = 0; i < KEY_BLOCK / VL; i++) {
        x[i] = v_load(s + i * VL);
        if (scaled)
            x[i] = v_mul(x[i], v_load(b->key_scale + i * VL));
        if (hi - lo < KEY_BLOCK)
            x[i] = v_within(x[i], i * VL, lo, hi);
        top = v_max(x[i], top);
    }
    const float largest = v_largest(top);
    top = v_splat(largest);
    SWA_UNROLL
    for (int i = 0; i < KEY_BLOCK / VL; i++) {
        vf w = v_exp2(v_sub(x[i], top));
        total = v_add(total, w);
        if (scaled)
            w = v_mul(w, v_load(b->value_scale + i * VL));
        v_store(s + i * VL, w);
    }
    const float shrink = largest > *max ? v_first(v_exp2(v_splat(*max - largest))) : 1;
    *sum = *sum * shrink + v_sum(total);
    *max = largest;
    return shrink;
}

/* ---------------------------------------------------------------- mix */

SWA_INLINE void prefetch_near(const char *vector, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64)
        _mm_prefetch(vector + at, _MM_HINT_T0);
}

/* out[h * dp + c ..] = that * shrink[h] + sum over j in [from, to) of s[h][j] value[j][c ..], the
 * sums of `heads` x `cols` vectors in registers, each in the order of j. */
SWA_INLINE void mix_columns(int type, int heads, int cols, const vectors *x, const key_block *b,
                            const key_block *next, int from, int to, const float *s,
                            const float *shrink, float *out, int64_t dp, int64_t c) {
    const bool part = c + cols * VL > x->d; /* then cols is 1 */
    vf sum[4][ROW_COLS];
    SWA_UNROLL
    for (int h = 0; h < heads; h++) {
        SWA_UNROLL
        for (int i = 0; i < cols; i++)
            sum[h][i] = v_mul(v_load(out + h * dp + c + i * VL), v_splat(shrink[h]));
    }
    for (int j = from; j < to; j++) {
        const char *value = b->key[j] + x->value_offset;
        vf v[ROW_COLS];
        if (next)
            for (int at = 0; at < cols * VL * element_bytes(type); at += 64)
                _mm_prefetch(next->key[j] + x->value_offset + c * element_bytes(type) + at,
                             _MM_HINT_T1);
        if (c == 0)
            prefetch_near(b->key[j + NEAR_KEYS < KEY_BLOCK ? j + NEAR_KEYS : j] + x->value_offset,
                          x->bytes);
        SWA_UNROLL
        for (int i = 0; i < cols; i++)
            v[i] = part ? v_elements_part(type, value, c, x->d - c)
                        : v_elements(type, value, c + i * VL);
        SWA_UNROLL
        for (int h = 0; h < heads; h++) {
            const vf w = v_splat(s[h * KEY_BLOCK + j]);
            SWA_UNROLL
            for (int i = 0; i < cols; i++)
                sum[h][i] = v_fma(w, v[i], sum[h][i]);
        }
    }
    SWA_UNROLL
    for (int h = 0; h < heads; h++) {
        SWA_UNROLL
        for (int i = 0; i < cols; i++)
            v_store(out + h * dp + c + i * VL, sum[h][i]);
    }
}

SWA_INLINE void mix_heads(int type, int heads, const vectors *x, const key_block *b,
                          const key_block *next, int from, int to, const float *s,
                          const float *shrink, float *out, int64_t dp) {
    int64_t c = 0;
    for (; c + ROW_COLS * VL <= x->d; c += ROW_COLS * VL)
        mix_columns(type, heads, ROW_COLS, x, b, next, from, to, s, shrink, out, dp, c);
    for (; c < x->d; c += VL)
        mix_columns(type, heads, 1, x, b, next, from, to, s, shrink, out, dp, c);
}

/* ---------------------------------------------------------------- every type, 4, 2 or 1 heads */

typedef void (*score_function)(const vectors *x, const key_block *b, const key_block *next,
                               int from, int to, const float *q, int64_t dq, float *s);
typedef void (*mix_function)(const vectors *x, const key_block *b, const key_block *next, int from,
                             int to, const float *s, const float *shrink, float *out, int64_t dp);

#define SWA_ROW_KERNELS(name, type, heads)                                                         \
    static void score_##name(const vectors *x, const key_block *b, const key_block *next,          \
                             int from, int to, const float *q, int64_t dq, float *s) {             \
        score_heads(type, heads, x, b, next, from, to, q, dq, s);                                  \
    }                                                                                              \
    static void mix_##name(const vectors *x, const key_block *b, const key_block *next, int from,  \
                           int to, const float *s, const float *shrink, float *out, int64_t dp) {  \
        mix_heads(type, heads, x, b, next, from, to, s, shrink, out, dp);                          \
    }
#define SWA_ROW_KERNELS_OF(name, type)                                                             \
    SWA_ROW_KERNELS(name##_1, type, 1)                                                             \
    SWA_ROW_KERNELS(name##_2, type, 2)                                                             \
    SWA_ROW_KERNELS(name##_4, type, 4)
SWA_ROW_KERNELS_OF(f32, ANEMO_KV_F32)
SWA_ROW_KERNELS_OF(f16, ANEMO_KV_F16)
SWA_ROW_KERNELS_OF(bf16, ANEMO_KV_BF16)
SWA_ROW_KERNELS_OF(q8, ANEMO_KV_Q8)

/* [type][log2 heads] */
static const score_function score_functions[4][3] = {
    [ANEMO_KV_F32] = {score_f32_1, score_f32_2, score_f32_4},
    [ANEMO_KV_F16] = {score_f16_1, score_f16_2, score_f16_4},
    [ANEMO_KV_BF16] = {score_bf16_1, score_bf16_2, score_bf16_4},
    [ANEMO_KV_Q8] = {score_q8_1, score_q8_2, score_q8_4},
};
static const mix_function mix_functions[4][3] = {
    [ANEMO_KV_F32] = {mix_f32_1, mix_f32_2, mix_f32_4},
    [ANEMO_KV_F16] = {mix_f16_1, mix_f16_2, mix_f16_4},
    [ANEMO_KV_BF16] = {mix_bf16_1, mix_bf16_2, mix_bf16_4},
    [ANEMO_KV_Q8] = {mix_q8_1, mix_q8_2, mix_q8_4},
};

/* log2 of how many of the `left` heads the next call takes. */
static int heads_log2(int64_t left) {
    return left >= 4 ? 2 : left >= 2 ? 1 : 0;
}

/* Slots [from, to) of a block for the `group` queries of one row; their states are max[group],
 * sum[group], out[group][dp]. s is scratch for group * KEY_BLOCK floats, shrink for group. */
static void attend_row(const vectors *x, const key_block *b, const key_block *next, int from,
                       int to, int64_t group, const float *q, int64_t dq, float *s, float *shrink,
                       float *max, float *sum, float *out, int64_t dp) {
    for (int64_t h = 0, n; h < group; h += n) {
        const int log2 = heads_log2(group - h);
        n = (int64_t)1 << log2;
        score_functions[x->type][log2](x, b, h == 0 ? next : NULL, from, to, q + h * dq, dq,
                                       s + h * KEY_BLOCK);
    }
    for (int64_t h = 0; h < group; h++)
        shrink[h] =
            soften(s + h * KEY_BLOCK, from, to, b, x->type == ANEMO_KV_Q8, max + h, sum + h);
    for (int64_t h = 0, n; h < group; h += n) {
        const int log2 = heads_log2(group - h);
        n = (int64_t)1 << log2;
        mix_functions[x->type][log2](x, b, h == 0 ? next : NULL, from, to, s + h * KEY_BLOCK,
                                     shrink + h, out + h * dp, dp);
    }
}

#endif
