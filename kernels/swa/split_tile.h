/* Many queries against one block of keys, for swa_f32_split: keys and values are packed as floats
 * once for all of them and multiplied in register tiles of TILE_ROWS queries x 2 VL columns.
 *
 *   q       [query / TILE_ROWS][chain][vector][TILE_ROWS]   element vector * VL + chain
 *   keys    [chain][vector][2 VL keys]                      a strip of keys, in the same order
 *   values  [panel of 2 VL columns][KEY_BLOCK][2 VL]
 *
 * Bits are those of split_rows.h: a score is VL chains over the elements lane, lane + VL, ...,
 * joined as the tree that v_store_scores makes. Chains come in bit-reversed order, so that the tree
 * is a binary counter: after chain t, as many partial sums join it as t has trailing ones. Included
 * after split_rows.h. */
#ifndef ANEMO_SWA_SPLIT_TILE_H
#define ANEMO_SWA_SPLIT_TILE_H

#include "kernels/swa/split_rows.h"

enum {
    QUERIES = 96, /* of a tile, where the group of heads allows it */
    MANY_PAD = TILE_ROWS,
    STRIP = 2 * VL,
    STASH_FLOATS = VL_LOG2 * TILE_ROWS * STRIP
};

/* Floats of a block of packed keys. */
static int64_t keys_floats(int64_t dq, int64_t dp) {
    (void)dp;
    return dq * STRIP;
}

/* Floats of n packed queries, n rounded up to MANY_PAD. */
static int64_t packed_floats(int64_t n, int64_t dq, int64_t dp) {
    (void)dp;
    return n * dq;
}

/* Where chain c stands in the order of summation. */
static int chain_place(int c) {
    int place = 0;
    for (int bit = 1; bit < VL; bit *= 2)
        place = place * 2 + (c & bit ? 1 : 0);
    return place;
}

/* q[n][dq] to the layout above; queries behind n are 0. */
static void pack_queries(const float *q, int64_t n, int64_t dq, float *packed) {
    const int64_t n_vectors = dq / VL;
    for (int64_t g = 0; g * TILE_ROWS < n; g++, packed += dq * TILE_ROWS)
        for (int64_t e = 0; e < dq; e++) {
            float *to = packed + (chain_place((int)(e % VL)) * n_vectors + e / VL) * TILE_ROWS;
            for (int64_t i = 0; i < TILE_ROWS; i++)
                to[i] = g * TILE_ROWS + i < n ? q[(g * TILE_ROWS + i) * dq + e] : 0;
        }
}

/* ---------------------------------------------------------------- packing */

/* Keys of slots first .. first + 2 VL - 1; slots outside [lo, hi) become 0. */
SWA_INLINE void pack_strip(int type, const vectors *x, const key_block *b, int first,
                           float *packed) {
    const int64_t n_vectors = anemo_ceil_div(x->d, VL);
    for (int half = 0; half < 2; half++)
        for (int64_t v = 0; v < n_vectors; v++) {
            vf row[VL];
            SWA_UNROLL
            for (int i = 0; i < VL; i++) {
                const int slot = first + half * VL + i;
                const int64_t left = x->d - v * VL;
                row[i] = slot < b->lo || slot >= b->hi ? v_zero()
                         : left < VL ? v_elements_part(type, b->key[slot], v * VL, left)
                                     : v_elements(type, b->key[slot], v * VL);
            }
            v_transpose(row);
            SWA_UNROLL
            for (int c = 0; c < VL; c++)
                v_store(packed + (chain_place(c) * n_vectors + v) * STRIP + half * VL, row[c]);
        }
}

SWA_INLINE void pack_panels(int type, const vectors *x, const key_block *b, float *packed) {
    for (int j = b->lo; j < b->hi; j++) {
        const char *value = b->key[j] + x->value_offset;
        for (int64_t c = 0; c < x->d; c += VL) {
            float *to = packed + c / STRIP * KEY_BLOCK * STRIP + j * STRIP + c % STRIP;
            v_store(to, x->d - c < VL ? v_elements_part(type, value, c, x->d - c)
                                      : v_elements(type, value, c));
        }
    }
}

#define SWA_PACK(name, type)                                                                       \
    static void pack_strip_##name(const vectors *x, const key_block *b, int first, float *to) {    \
        pack_strip(type, x, b, first, to);                                                         \
    }                                                                                              \
    static void pack_panels_##name(const vectors *x, const key_block *b, float *to) {              \
        pack_panels(type, x, b, to);                                                               \
    }
SWA_PACK(f32, ANEMO_KV_F32)
SWA_PACK(f16, ANEMO_KV_F16)
SWA_PACK(bf16, ANEMO_KV_BF16)
SWA_PACK(q8, ANEMO_KV_Q8)

typedef void (*pack_strip_function)(const vectors *x, const key_block *b, int first, float *to);
typedef void (*pack_panels_function)(const vectors *x, const key_block *b, float *to);
static const pack_strip_function pack_strips[4] = {pack_strip_f32, pack_strip_f16, pack_strip_bf16,
                                                   pack_strip_q8};
static const pack_panels_function pack_panels_of[4] = {pack_panels_f32, pack_panels_f16,
                                                       pack_panels_bf16, pack_panels_q8};

/* ---------------------------------------------------------------- register tiles */

/* s[i * KEY_BLOCK + column] = query i . key column, i < n (a constant), 2 VL columns. */
SWA_INLINE void score_tile(int n, const float *q, const float *keys, int64_t n_vectors,
                           float *stash, float *s) {
    for (int t = 0; t < VL; t++) {
        vf sum[TILE_ROWS][2];
        SWA_UNROLL
        for (int i = 0; i < n; i++)
            sum[i][0] = sum[i][1] = v_zero();
        for (int64_t v = 0; v < n_vectors; v++, keys += STRIP, q += TILE_ROWS) {
            const vf k0 = v_load(keys), k1 = v_load(keys + VL);
            SWA_UNROLL
            for (int i = 0; i < n; i++) {
                const vf a = v_splat(q[i]);
                sum[i][0] = v_fma(a, k0, sum[i][0]);
                sum[i][1] = v_fma(a, k1, sum[i][1]);
            }
        }
        float *level = stash;
        for (int bit = 1; t & bit; bit *= 2, level += TILE_ROWS * STRIP) {
            SWA_UNROLL
            for (int i = 0; i < n; i++) {
                sum[i][0] = v_add(sum[i][0], v_load(level + i * STRIP));
                sum[i][1] = v_add(sum[i][1], v_load(level + i * STRIP + VL));
            }
        }
        const int64_t stride = t + 1 < VL ? STRIP : KEY_BLOCK;
        float *to = t + 1 < VL ? level : s;
        SWA_UNROLL
        for (int i = 0; i < n; i++) {
            v_store(to + i * stride, sum[i][0]);
            v_store(to + i * stride + VL, sum[i][1]);
        }
    }
}

/* out[i * dp ..] = that * shrink[i] + sum over j in [from, to) of s[i][j] values[j], i < n, 2 VL
 * columns */
SWA_INLINE void mix_tile(int n, const float *s, const float *values, int from, int to,
                         const float *shrink, float *out, int64_t dp) {
    vf sum[TILE_ROWS][2];
    SWA_UNROLL
    for (int i = 0; i < n; i++) {
        const vf a = v_splat(shrink[i]);
        sum[i][0] = v_mul(v_load(out + i * dp), a);
        sum[i][1] = v_mul(v_load(out + i * dp + VL), a);
    }
    for (int j = from; j < to; j++) {
        const vf v0 = v_load(values + j * STRIP), v1 = v_load(values + j * STRIP + VL);
        SWA_UNROLL
        for (int i = 0; i < n; i++) {
            const vf w = v_splat(s[i * KEY_BLOCK + j]);
            sum[i][0] = v_fma(w, v0, sum[i][0]);
            sum[i][1] = v_fma(w, v1, sum[i][1]);
        }
    }
    SWA_UNROLL
    for (int i = 0; i < n; i++) {
        v_store(out + i * dp, sum[i][0]);
        v_store(out + i * dp + VL, sum[i][1]);
    }
}

/* n <= TILE_ROWS queries; what is computed beyond n is of no use to anybody. */
static void score_queries(int64_t n, const float *q, const float *keys, int64_t n_vectors,
                          float *stash, float *s) {
    enum { THIRD = TILE_ROWS / 3 };
    if (n > 2 * THIRD)
        score_tile(TILE_ROWS, q, keys, n_vectors, stash, s);
    else if (n > THIRD)
        score_tile(2 * THIRD, q, keys, n_vectors, stash, s);
    else
        score_tile(THIRD, q, keys, n_vectors, stash, s);
}

static void mix_queries(int64_t n, const float *s, const float *values, int from, int to,
                        const float *shrink, float *out, int64_t dp) {
    enum { THIRD = TILE_ROWS / 3 };
    int64_t step;
    for (int64_t i = 0; i < n; i += step) {
        const float *w = s + i * KEY_BLOCK;
        const int64_t left = n - i;
        step = left >= TILE_ROWS   ? TILE_ROWS
               : left >= 2 * THIRD ? 2 * THIRD
               : left >= THIRD     ? THIRD
                                   : 1;
        if (step == TILE_ROWS)
            mix_tile(TILE_ROWS, w, values, from, to, shrink + i, out + i * dp, dp);
        else if (step == 2 * THIRD)
            mix_tile(2 * THIRD, w, values, from, to, shrink + i, out + i * dp, dp);
        else if (step == THIRD)
            mix_tile(THIRD, w, values, from, to, shrink + i, out + i * dp, dp);
        else
            mix_tile(1, w, values, from, to, shrink + i, out + i * dp, dp);
    }
}

/* Scores of all queries with the block: strip by strip, skipping tiles that see none of a strip. */
static void score_block(const vectors *x, const key_block *b, const many_queries *q) {
    for (int first = 0; first < KEY_BLOCK; first += STRIP) {
        if (b->hi <= first || b->lo >= first + STRIP)
            continue;
        pack_strips[x->type](x, b, first, q->keys);
        for (int64_t i = 0; i < q->n; i += TILE_ROWS) {
            const int64_t n = min_i64(TILE_ROWS, q->n - i);
            if (q->to[(i + n - 1) / q->group] > first && q->from[i / q->group] < first + STRIP)
                score_queries(n, q->packed + i * q->dq, q->keys, q->dq / VL, q->stash,
                              q->s + i * KEY_BLOCK + first);
        }
    }
}

/* States take in the block. */
static void attend_many(const vectors *x, const key_block *b, const many_queries *q) {
    const int64_t group = q->group, dp = q->dp;
    const bool scaled = x->type == ANEMO_KV_Q8;
    score_block(x, b, q);
    pack_panels_of[x->type](x, b, q->values);
    for (int64_t i = 0; i < q->n; i++) {
        const int from = q->from[i / group], to = q->to[i / group];
        if (from < to)
            q->shrink[i] = soften(q->s + i * KEY_BLOCK, from, to, scaled ? b->key_scale : NULL,
                                  scaled ? b->value_scale : NULL, q->max + i, q->sum + i);
    }
    for (int64_t r = 0, stop; r < q->rows; r = stop) { /* rows that see the same slots together */
        const int from = q->from[r], to = q->to[r];
        for (stop = r + 1; stop < q->rows && q->from[stop] == from && q->to[stop] == to; stop++)
            ;
        const int64_t i = r * group;
        for (int64_t c = 0; from < to && c < dp; c += STRIP)
            mix_queries((stop - r) * group, q->s + i * KEY_BLOCK, q->values + c * KEY_BLOCK, from,
                        to, q->shrink + i, q->out + i * dp + c, dp);
    }
}

static void leave_many(void) {
}

#endif
