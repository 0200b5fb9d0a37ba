/* One row against one block of keys, for swa_f32_split: scores, softmax and the mix of values
 * straight from the pages. Lanes lie along head_dim: an element is read and converted once for up
 * to four query heads and never stored. Included after vec_<isa>.h. */
#ifndef ANEMO_SWA_SPLIT_ROWS_H
#define ANEMO_SWA_SPLIT_ROWS_H

#include "kernels/dense/common.h"
#include "kernels/prefetch.h"
#include "kernels/swa/kv_page.h"

enum {
    KEY_BLOCK = 64,
    AHEAD = 72, /* keys, from which on a line is asked for, */
    AGAIN = 24  /* and after so many keys again: prefetches get lost */
};

/* Keys [lo, hi) of the block that begins at position `begin`, a multiple of KEY_BLOCK. */
typedef struct key_block {
    int64_t begin;
    int lo, hi;
    const char *key[KEY_BLOCK + AHEAD]; /* the elements (q8: behind the scale); where there is no
                                           key the nearest one, so that pieces of a row may be
                                           whole and prefetches ask for what exists */
    float key_scale[KEY_BLOCK], value_scale[KEY_BLOCK]; /* q8 only */
} key_block;

/* What the loops over a block need to know of the pages. */
typedef struct vectors {
    int type; /* anemo_kv_type */
    int64_t d;
    size_t value_offset; /* from a key's elements to its value's */
    size_t bytes;        /* of a vector */
} vectors;

/* Many queries of one KV head against a block: query i is a head of row i / group. */
typedef struct many_queries {
    int64_t rows, group, n; /* n = rows * group */
    int64_t dq, dp;         /* head_dim rounded up to VL, and to 2 VL */
    const int *from, *to;   /* of each row: the slots that it sees, possibly none */
    const float *packed;    /* pack_queries */
    float *s, *shrink;      /* scratch, [n rounded up to MANY_PAD][KEY_BLOCK] and [n] */
    float *keys, *values, *stash;
    float *max, *sum, *out; /* states, out[n][dp] */
} many_queries;

SWA_INLINE int element_bytes(int type) {
    return type == ANEMO_KV_F32 ? 4 : type == ANEMO_KV_Q8 ? 1 : 2;
}

/* Where a piece of `heads` heads of a row keeps the score, then weight, of head h and slot j. Four
 * heads: as v_join makes them, [KEY_BLOCK / ROW_KEYS][4][ROW_KEYS]. */
SWA_INLINE size_t score_at(int heads, int h, int j) {
    const size_t n = ROW_KEYS, slot = (size_t)j;
    return heads == 4 ? (slot / n * 4 + (size_t)h) * n + slot % n : (size_t)h * KEY_BLOCK + slot;
}

/* What a walk over a block asks for: nothing, or the same of keys further on, into a level of cache
 * (kernels/prefetch.h). */
typedef enum fetch { FETCH_NOTHING, FETCH_FIRST_LEVEL, FETCH_SECOND_LEVEL } fetch;

/* Asks for a line of some keys ahead of *key. */
SWA_INLINE void prefetch_ahead(const char *const *key, size_t offset, fetch ahead) {
    SWA_UNROLL
    for (int i = AHEAD; i > 0; i -= AGAIN)
        anemo_prefetch_far(key[i] + offset, ahead == FETCH_SECOND_LEVEL);
}

/* ---------------------------------------------------------------- scores */

/* sum[h][i] += q[h][c ..] key[i][c ..], VL elements */
SWA_INLINE void score_step(int type, int heads, const char *const *key, const float *q, int64_t dq,
                           int64_t c, vf sum[4][ROW_KEYS]) {
    vf k[ROW_KEYS];
    SWA_UNROLL
    for (int i = 0; i < ROW_KEYS; i++)
        k[i] = v_elements(type, key[i], c);
    SWA_UNROLL
    for (int h = 0; h < heads; h++) {
        const vf a = v_load(q + h * dq + c);
        SWA_UNROLL
        for (int i = 0; i < ROW_KEYS; i++)
            sum[h][i] = v_fma(a, k[i], sum[h][i]);
    }
}

/* The score of query h and key j, j in [from, to), heads <= 4, to score_at; q[h * dq + i], zero
 * behind d. Each of the VL lanes is a chain of fused multiply-adds over the elements lane, lane +
 * VL, ...; v_join and v_store_scores join the chains as a tree. */
SWA_INLINE void score_heads(int type, int heads, int64_t d, const key_block *b, fetch ahead,
                            int from, int to, const float *q, float *s) {
    const int64_t dq = anemo_round_up(d, VL);
    const int line = 64 / element_bytes(type); /* elements */
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
        for (; c + line <= d; c += line) {
            SWA_UNROLL
            for (int v = 0; v < line; v += VL) {
                if (ahead) { /* each line once, its turn spread over the steps */
                    SWA_UNROLL
                    for (int i = v / VL; i < ROW_KEYS; i += line / VL)
                        prefetch_ahead(b->key + j + i, (size_t)(c * element_bytes(type)), ahead);
                }
                score_step(type, heads, key, q, dq, c + v, sum);
            }
        }
        for (int i = 0; ahead && c < d && i < ROW_KEYS; i++)
            prefetch_ahead(b->key + j + i, (size_t)(c * element_bytes(type)), ahead);
        for (; c + VL <= d; c += VL)
            score_step(type, heads, key, q, dq, c, sum);
        if (c < d) {
            SWA_UNROLL
            for (int i = 0; i < ROW_KEYS; i++) {
                const vf k = v_elements_part(type, key[i], c, d - c);
                SWA_UNROLL
                for (int h = 0; h < heads; h++)
                    sum[h][i] = v_fma(v_load(q + h * dq + c), k, sum[h][i]);
            }
        }
        if (heads == 4)
            v_store(s + score_at(4, 0, j), v_join(sum));
        else
            v_store_scores(sum, heads, s + j, KEY_BLOCK);
    }
}

/* ---------------------------------------------------------------- softmax */

/* Scores of [lo, hi) to weights: the running maximum rises to theirs, s becomes 2^(s - max), 0
 * outside, and the running sum takes them in. Scales of q8's keys and values, or NULL. Returns what
 * earlier sums must be multiplied with. */
static float soften(float *s, int lo, int hi, const float *key_scale, const float *value_scale,
                    float *max, float *sum) {
    vf x[KEY_BLOCK / VL], top = v_splat(*max), total = v_zero();
    SWA_UNROLL
    for (int i = 0; i < KEY_BLOCK / VL; i++) {
        x[i] = v_load(s + i * VL);
        if (key_scale)
            x[i] = v_mul(x[i], v_load(key_scale + i * VL));
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
        if (value_scale)
            w = v_mul(w, v_load(value_scale + i * VL));
        v_store(s + i * VL, w);
    }
    const float shrink = largest > *max ? v_first(v_exp2(v_splat(*max - largest))) : 1;
    *sum = *sum * shrink + v_sum(total);
    *max = largest;
    return shrink;
}

/* soften() for four heads at once, whose scores lie as v_join makes them: the same sums in the same
 * order. */
static void soften_four(float *s, int lo, int hi, const key_block *b, bool scaled, float *max,
                        float *sum, float *shrink) {
    enum { VECTORS = KEY_BLOCK / ROW_KEYS };
    const vf old = v_heads(max);
    vf top[4] = {old, old, old, old}, total[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    const bool part = hi - lo < KEY_BLOCK;
    SWA_UNROLL
    for (int i = 0; i < VECTORS; i++) {
        vf x = v_load(s + i * VL);
        if (scaled)
            x = v_mul(x, v_keys(b->key_scale + i * ROW_KEYS));
        if (part)
            x = v_within_keys(x, i * ROW_KEYS, lo, hi);
        if (scaled || part)
            v_store(s + i * VL, x);
        top[i % 4] = v_max(x, top[i % 4]);
    }
    const vf largest = v_heads_max(v_max(v_max(top[0], top[1]), v_max(top[2], top[3])));
    SWA_UNROLL
    for (int i = 0; i < VECTORS; i++) {
        vf w = v_exp2(v_sub(v_load(s + i * VL), largest));
        total[i % 4] = v_add(total[i % 4], w);
        if (scaled)
            w = v_mul(w, v_keys(b->value_scale + i * ROW_KEYS));
        v_store(s + i * VL, w);
    }
    const vf all = v_heads_sum(v_add(v_add(total[0], total[2]), v_add(total[1], total[3])));
    const vf less = v_exp2_or_one(old, largest);
    v_heads_store(sum, v_add(v_mul(v_heads(sum), less), all));
    v_heads_store(max, largest);
    v_heads_store(shrink, less);
}

/* ---------------------------------------------------------------- mix */

/* out[h * dp + c ..] = that * shrink[h] + sum over j in [from, to) of weight (h, j) times
 * value[j][c ..], the sums of `heads` x `cols` vectors in registers, each in the order of j. `left`
 * elements are there from c on, if they are fewer than VL. */
SWA_INLINE void mix_columns(int type, int heads, int cols, int64_t left, size_t value_offset,
                            const key_block *b, fetch ahead, int from, int to, const float *s,
                            const float *shrink, float *out, int64_t dp, int64_t c) {
    const size_t offset = value_offset + (size_t)(c * element_bytes(type));
    vf sum[4][ROW_COLS];
    SWA_UNROLL
    for (int h = 0; h < heads; h++) {
        SWA_UNROLL
        for (int i = 0; i < cols; i++)
            sum[h][i] = v_mul(v_load(out + h * dp + c + i * VL), v_splat(shrink[h]));
    }
    for (int j = from; j < to; j++) {
        const char *value = b->key[j] + offset;
        const float *weight = s + score_at(heads, 0, j);
        vf v[ROW_COLS];
        if (ahead && c * element_bytes(type) % 64 == 0) {
            SWA_UNROLL
            for (int at = 0; at < cols * VL * element_bytes(type); at += 64)
                prefetch_ahead(b->key + j, offset + (size_t)at, ahead);
        }
        SWA_UNROLL
        for (int i = 0; i < cols; i++)
            v[i] =
                left < VL ? v_elements_part(type, value, 0, left) : v_elements(type, value, i * VL);
        SWA_UNROLL
        for (int h = 0; h < heads; h++) {
            const vf w = v_splat(weight[score_at(heads, h, 0)]);
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

SWA_INLINE void mix_heads(int type, int heads, int64_t d, size_t value_offset, const key_block *b,
                          fetch ahead, int from, int to, const float *s, const float *shrink,
                          float *out) {
    const int64_t dp = anemo_round_up(d, 2 * VL);
    int64_t c = 0;
    for (; c + ROW_COLS * VL <= d; c += ROW_COLS * VL)
        mix_columns(type, heads, ROW_COLS, VL, value_offset, b, ahead, from, to, s, shrink, out, dp,
                    c);
    for (; c + VL <= d; c += VL)
        mix_columns(type, heads, 1, VL, value_offset, b, ahead, from, to, s, shrink, out, dp, c);
    if (c < d)
        mix_columns(type, heads, 1, d - c, value_offset, b, ahead, from, to, s, shrink, out, dp, c);
}

/* ------------------------------------------- every type, 4, 2 or 1 heads, some head_dims apart */

typedef void (*score_function)(const vectors *x, const key_block *b, fetch ahead, int from, int to,
                               const float *q, float *s);
typedef void (*mix_function)(const vectors *x, const key_block *b, fetch ahead, int from, int to,
                             const float *s, const float *shrink, float *out);

#define SWA_ROW_KERNELS(name, type, heads, d)                                                      \
    static void score_##name(const vectors *x, const key_block *b, fetch ahead, int from, int to,  \
                             const float *q, float *s) {                                           \
        (void)x;                                                                                   \
        score_heads(type, heads, d, b, ahead, from, to, q, s);                                     \
    }                                                                                              \
    static void mix_##name(const vectors *x, const key_block *b, fetch ahead, int from, int to,    \
                           const float *s, const float *shrink, float *out) {                      \
        mix_heads(type, heads, d, x->value_offset, b, ahead, from, to, s, shrink, out);            \
    }
#define SWA_ROW_KERNELS_OF(name, type)                                                             \
    SWA_ROW_KERNELS(name##_1, type, 1, x->d)                                                       \
    SWA_ROW_KERNELS(name##_2, type, 2, x->d)                                                       \
    SWA_ROW_KERNELS(name##_4, type, 4, x->d)                                                       \
    SWA_ROW_KERNELS(name##_4_64, type, 4, 64)                                                      \
    SWA_ROW_KERNELS(name##_4_128, type, 4, 128)
SWA_ROW_KERNELS_OF(f32, ANEMO_KV_F32)
SWA_ROW_KERNELS_OF(f16, ANEMO_KV_F16)
SWA_ROW_KERNELS_OF(bf16, ANEMO_KV_BF16)
SWA_ROW_KERNELS_OF(q8, ANEMO_KV_Q8)

/* [type][log2 heads], then four heads of 64 and of 128 */
#define SWA_ROW_TABLE(f, name)                                                                     \
    { f##_##name##_1, f##_##name##_2, f##_##name##_4, f##_##name##_4_64, f##_##name##_4_128 }
static const score_function score_functions[4][5] = {
    [ANEMO_KV_F32] = SWA_ROW_TABLE(score, f32),
    [ANEMO_KV_F16] = SWA_ROW_TABLE(score, f16),
    [ANEMO_KV_BF16] = SWA_ROW_TABLE(score, bf16),
    [ANEMO_KV_Q8] = SWA_ROW_TABLE(score, q8),
};
static const mix_function mix_functions[4][5] = {
    [ANEMO_KV_F32] = SWA_ROW_TABLE(mix, f32),
    [ANEMO_KV_F16] = SWA_ROW_TABLE(mix, f16),
    [ANEMO_KV_BF16] = SWA_ROW_TABLE(mix, bf16),
    [ANEMO_KV_Q8] = SWA_ROW_TABLE(mix, q8),
};

/* How many of the `left` heads the next call takes, and its place in the tables. */
static int64_t heads_of(int64_t left) {
    return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}
static int kernel_of(const vectors *x, int64_t heads) {
    return heads < 4 ? (int)heads - 1 : x->d == 64 ? 3 : x->d == 128 ? 4 : 2;
}

/* Slots [from, to) of a block for the `group` queries of one row; their states are max[group],
 * sum[group], out[group][dp]. s is scratch for group * KEY_BLOCK floats, shrink for group. */
static void attend_row(const vectors *x, const key_block *b, fetch ahead, int from, int to,
                       int64_t group, const float *q, int64_t dq, float *s, float *shrink,
                       float *max, float *sum, float *out, int64_t dp) {
    const bool scaled = x->type == ANEMO_KV_Q8;
    for (int64_t h = 0, n; h < group; h += n) {
        n = heads_of(group - h);
        score_functions[x->type][kernel_of(x, n)](x, b, h == 0 ? ahead : FETCH_NOTHING, from, to,
                                                  q + h * dq, s + h * KEY_BLOCK);
    }
    for (int64_t h = 0, n; h < group; h += n) {
        n = heads_of(group - h);
        if (n == 4)
            soften_four(s + h * KEY_BLOCK, from, to, b, scaled, max + h, sum + h, shrink + h);
        else
            for (int64_t i = h; i < h + n; i++)
                shrink[i] = soften(s + i * KEY_BLOCK, from, to, scaled ? b->key_scale : NULL,
                                   scaled ? b->value_scale : NULL, max + i, sum + i);
    }
    for (int64_t h = 0, n; h < group; h += n) {
        n = heads_of(group - h);
        mix_functions[x->type][kernel_of(x, n)](x, b, h == 0 ? ahead : FETCH_NOTHING, from, to,
                                                s + h * KEY_BLOCK, shrink + h, out + h * dp);
    }
}

#endif
