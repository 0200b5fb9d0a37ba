/* Many queries against one block of keys in the matrix tiles of AMX on bf16, in the place of
 * split_tile.h: what swa_a16_split_amxbf16 brings.
 *
 *   q       [query][dp] bf16: rows of the first operand; a block of 64 keys takes its tiles of 16
 *   keys    [term][16 keys][dp / 32] tiles [16 pairs of elements][16 keys][2]
 *   values  [term][32 keys][dp / 16] tiles [16 pairs of keys][16 columns][2]
 *
 * Queries and the weights of the softmax are rounded to bf16 once, with the row's largest weight as
 * 1; scores, sums and the mix are float. Keys and values stay as they are: bf16 and the codes of
 * q8's keys are bf16 numbers, and f16 is the sum of two, so that it takes two terms, each with its
 * products (f32, and q8's values with their scale, become 16 bits in two). The softmax is that of
 * split_rows.h.
 *
 * Tiles of up to 192 queries share the packing of a block.
 *
 * Granite Rapids, 2 cores, d 128, f16 pages, times swa_f32_split_avx512: 16/4 heads, 512 rows 1.9;
 * 32/8 heads, W = 4096, 64 and 256 rows 1.9 and 2.1. Of the time the softmax takes a half, packing
 * an eighth; the products, of two terms each, are the smaller part. Several rows' maxima, weights
 * and sums at a time took the softmax from 41 to some 30 % (each alone waits for its own).
 *
 * Where a query sees a key is decided by its weight, which is 0 elsewhere: an infinite or undefined
 * value of a later key of the same block would make it undefined. Included after vec_avx512.h. */
#ifndef ANEMO_SWA_SPLIT_AMX_H
#define ANEMO_SWA_SPLIT_AMX_H

#include "kernels/amx.h"
#include "kernels/swa/split_rows.h"

enum {
    QUERIES = 192, /* of a tile, where the group of heads allows it */
    MANY_PAD = 32,
    STRIP = 2 * VL,
    HALF = 16, /* queries, keys or columns of a tile register */
    AMX_TILE_BYTES = 1024,
    AMX_D_MAX = 256,
    STASH_FLOATS = 2 * HALF * AMX_D_MAX,
    AMX_SHAPE = 1 /* there is but one */
};

/* Floats of a block of packed keys. */
static int64_t keys_floats(int64_t dq, int64_t dp) {
    (void)dq;
    return KEY_BLOCK * dp; /* two terms of half a float */
}

static int key_terms(int type) {
    return type == ANEMO_KV_BF16 || type == ANEMO_KV_Q8 ? 1 : 2;
}
static int value_terms(int type) {
    return type == ANEMO_KV_BF16 ? 1 : 2;
}

/* ---------------------------------------------------------------- packing */

/* 32 floats as bf16, in order. */
SWA_INLINE __m512i bf16_row(vf low, vf high) {
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* Rows of q as bf16, zeros up to 16 rows and dp. */
static void pack_queries(const float *q, int64_t n, int64_t dq, float *packed) {
    char *to = (char *)packed;
    for (int64_t i = 0; i < anemo_round_up(n, HALF); i++)
        for (int64_t c = 0; c < dq; c += STRIP, to += 64) {
            const vf low = i < n ? v_load(q + i * dq + c) : v_zero();
            const vf high = i < n && c + VL < dq ? v_load(q + i * dq + c + VL) : v_zero();
            _mm512_storeu_si512(to, bf16_row(low, high));
        }
}

/* Elements c .. c + 15 of a vector of d, zeros behind; of no vector (NULL), zeros. */
SWA_INLINE vf elements_or_zero(int type, const char *x, int64_t c, int64_t d) {
    if (x == NULL || c >= d)
        return v_zero();
    return d - c < VL ? v_elements_part(type, x, c, d - c) : v_elements(type, x, c);
}

/* What bf16 leaves of x, where `rounded` are its 16 numbers in the low halves of lanes. */
SWA_INLINE vf rest_of(vf x, __m512i rounded) {
    return v_sub(x, _mm512_castsi512_ps(_mm512_slli_epi32(rounded, 16)));
}

SWA_INLINE const char *key_of(const key_block *b, int slot) {
    return slot < b->lo || slot >= b->hi ? NULL : b->key[slot];
}

SWA_INLINE void pack_keys(int type, const vectors *x, const key_block *b, int64_t dp, char *to) {
    for (int term = 0; term < key_terms(type); term++)
        for (int first = 0; first < KEY_BLOCK; first += HALF)
            for (int64_t c = 0; c < dp; c += STRIP, to += AMX_TILE_BYTES) {
                vf pairs[VL];
                SWA_UNROLL
                for (int i = 0; i < HALF; i++) {
                    const char *key = key_of(b, first + i);
                    const vf low = elements_or_zero(type, key, c, x->d);
                    const vf high = elements_or_zero(type, key, c + VL, x->d);
                    __m512i row = bf16_row(low, high);
                    if (term > 0)
                        row = bf16_row(
                            rest_of(low, _mm512_cvtepu16_epi32(_mm512_castsi512_si256(row))),
                            rest_of(high,
                                    _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(row, 1))));
                    pairs[i] = _mm512_castsi512_ps(row);
                }
                v_transpose(pairs);
                SWA_UNROLL
                for (int i = 0; i < VL; i++)
                    v_store((float *)(void *)(to + 64 * i), pairs[i]);
            }
}

/* 16 columns of two values, next to each other. */
SWA_INLINE __m512i bf16_columns(vf even, vf odd) {
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(even));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

SWA_INLINE void pack_values(int type, const vectors *x, const key_block *b, int64_t dp, char *to) {
    for (int first = 0; first < KEY_BLOCK; first += 2) {
        const char *even_key = key_of(b, first), *odd_key = key_of(b, first + 1);
        const char *even_value = even_key ? even_key + x->value_offset : NULL;
        const char *odd_value = odd_key ? odd_key + x->value_offset : NULL;
        for (int64_t c = 0; c < dp; c += HALF) {
            vf even = elements_or_zero(type, even_value, c, x->d);
            vf odd = elements_or_zero(type, odd_value, c, x->d);
            if (type == ANEMO_KV_Q8) {
                even = v_mul(even, v_splat(b->value_scale[first]));
                odd = v_mul(odd, v_splat(b->value_scale[first + 1]));
            }
            const __m512i pair = bf16_columns(even, odd);
            char *at =
                to + (first / 32 * (dp / HALF) + c / HALF) * AMX_TILE_BYTES + first % 32 / 2 * 64;
            _mm512_storeu_si512(at, pair);
            if (value_terms(type) > 1) {
                at += KEY_BLOCK / 32 * (dp / HALF) * AMX_TILE_BYTES;
                _mm512_storeu_si512(at, bf16_columns(rest_of(even, pair),
                                                     rest_of(odd, _mm512_srli_epi32(pair, 16))));
            }
        }
    }
}

#define SWA_PACK(name, type)                                                                       \
    static void pack_keys_##name(const vectors *x, const key_block *b, int64_t dp, char *to) {     \
        pack_keys(type, x, b, dp, to);                                                             \
    }                                                                                              \
    static void pack_values_##name(const vectors *x, const key_block *b, int64_t dp, char *to) {   \
        pack_values(type, x, b, dp, to);                                                           \
    }
SWA_PACK(f32, ANEMO_KV_F32)
SWA_PACK(f16, ANEMO_KV_F16)
SWA_PACK(bf16, ANEMO_KV_BF16)
SWA_PACK(q8, ANEMO_KV_Q8)

typedef void (*pack_function)(const vectors *x, const key_block *b, int64_t dp, char *to);
static const pack_function pack_keys_of[4] = {
    [ANEMO_KV_F32] = pack_keys_f32,
    [ANEMO_KV_F16] = pack_keys_f16,
    [ANEMO_KV_BF16] = pack_keys_bf16,
    [ANEMO_KV_Q8] = pack_keys_q8,
};
static const pack_function pack_values_of[4] = {
    [ANEMO_KV_F32] = pack_values_f32,
    [ANEMO_KV_F16] = pack_values_f16,
    [ANEMO_KV_BF16] = pack_values_bf16,
    [ANEMO_KV_Q8] = pack_values_q8,
};

/* ---------------------------------------------------------------- tiles */

/* All tiles: 16 rows of 64 bytes. 0 to 3: sums of two times two; 4, 5: the first operand; 6, 7: the
 * second. */
static void configure(void) {
    anemo_amx_config c = {.palette = 1};
    if (anemo_amx_shape == AMX_SHAPE)
        return;
    anemo_amx_shape = AMX_SHAPE;
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = HALF;
    }
    anemo_amx_load_config(&c);
}

/* Slots [*from, *to) are what one of the queries i .. i + n - 1 sees. */
static void seen_by(const many_queries *q, int64_t i, int64_t n, int *from, int *to) {
    *from = q->from[i / q->group];
    *to = q->to[(i + n - 1) / q->group];
}

/* Sums 0 to 3 += the first operand's rows a and a + 16 strides times tiles w and w + apart, of each
 * term; `lower`: there are rows from 16 on. */
SWA_INLINE void multiply(bool lower, const char *a, int64_t stride, const char *w, int64_t apart,
                         int terms, int64_t term_bytes) {
    _tile_loadd(4, a, stride);
    if (lower)
        _tile_loadd(5, a + HALF * stride, stride);
    for (int term = 0; term < terms; term++, w += term_bytes) {
        _tile_loadd(6, w, 64);
        _tile_loadd(7, w + apart, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (lower) {
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
}

/* Scores of queries i .. i + 31 (lower: more than 16 of them) with 32 keys from `first` on. */
SWA_INLINE void score_pair(bool lower, const vectors *x, const many_queries *q, int64_t i,
                           int first) {
    const int64_t row_bytes = 2 * q->dp, tiles = q->dp / 32 * AMX_TILE_BYTES; /* of 16 keys */
    const char *a = (const char *)q->packed + i * row_bytes;
    const char *w = (const char *)q->keys + first / HALF * tiles;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t c = 0; c < q->dp; c += 32)
        multiply(lower, a + 2 * c, row_bytes, w + c / 32 * AMX_TILE_BYTES, tiles,
                 key_terms(x->type), KEY_BLOCK / HALF * tiles);
    float *s = q->s + i * KEY_BLOCK + first;
    _tile_stored(0, s, 4 * KEY_BLOCK);
    _tile_stored(1, s + HALF, 4 * KEY_BLOCK);
    if (lower) {
        _tile_stored(2, s + HALF * KEY_BLOCK, 4 * KEY_BLOCK);
        _tile_stored(3, s + HALF * KEY_BLOCK + HALF, 4 * KEY_BLOCK);
    }
}

/* out[32][dp] += weights values, of the queries from i on; columns c .. c + 31. */
SWA_INLINE void mix_pair(bool lower, const vectors *x, const many_queries *q, int64_t i, int from,
                         int to, int64_t c, float *upper_out, float *lower_out) {
    const int64_t stride = 4 * q->dp, tiles = q->dp / HALF * AMX_TILE_BYTES; /* of 32 keys */
    _tile_loadd(0, upper_out + c, stride);
    _tile_loadd(1, upper_out + c + HALF, stride);
    if (lower) {
        _tile_loadd(2, lower_out + c, stride);
        _tile_loadd(3, lower_out + c + HALF, stride);
    }
    for (int first = 0; first < KEY_BLOCK; first += 32) {
        const char *a = (const char *)(q->s + i * KEY_BLOCK) + 2 * first;
        const char *w = (const char *)q->values + first / 32 * tiles + c / HALF * AMX_TILE_BYTES;
        if (from < first + 32 && to > first)
            multiply(lower, a, 4 * KEY_BLOCK, w, AMX_TILE_BYTES, value_terms(x->type),
                     KEY_BLOCK / 32 * tiles);
    }
    _tile_stored(0, upper_out + c, stride);
    _tile_stored(1, upper_out + c + HALF, stride);
    if (lower) {
        _tile_stored(2, lower_out + c, stride);
        _tile_stored(3, lower_out + c + HALF, stride);
    }
}

/* ---------------------------------------------------------------- the block */

/* Scores of SOFT queries from i on to weights, and those to bf16 at the front of their rows; none
 * where a row sees nothing. soften() of split_rows.h, several rows at a time: alone, a row would
 * wait for its maximum and its sum. */
enum { SOFT = 4, BLOCK_VECTORS = KEY_BLOCK / VL };

SWA_INLINE void weigh(const float *key_scale, const many_queries *q, int64_t i, int n) {
    vf x[SOFT][BLOCK_VECTORS], shrink;
    float old[VL] = {0}, top[VL] = {0}, sum[SOFT], factor[VL];
    SWA_UNROLL
    for (int r = 0; r < n; r++) {
        const int64_t row = (i + r) / q->group;
        const bool sees = q->from[row] < q->to[row];
        const int from = sees ? q->from[row] : 0, to = sees ? q->to[row] : 0;
        const float *s = q->s + (i + r) * KEY_BLOCK;
        vf most = v_splat(q->max[i + r]);
        SWA_UNROLL
        for (int v = 0; v < BLOCK_VECTORS; v++) {
            x[r][v] = v_load(s + v * VL);
            if (key_scale)
                x[r][v] = v_mul(x[r][v], v_load(key_scale + v * VL));
            if (to - from < KEY_BLOCK)
                x[r][v] = v_within(x[r][v], v * VL, from, to);
            most = v_max(x[r][v], most);
        }
        old[r] = q->max[i + r];
        top[r] = v_largest(most);
    }
    shrink = v_exp2_or_one(v_load(old), v_load(top)); /* 1 where a row has seen nothing yet */
    v_store(factor, shrink);
    SWA_UNROLL
    for (int r = 0; r < n; r++) {
        const vf largest = v_splat(top[r] == -INFINITY ? 0 : top[r]);
        vf total = v_zero();
        SWA_UNROLL
        for (int v = 0; v < BLOCK_VECTORS; v++) {
            x[r][v] = v_exp2(v_sub(x[r][v], largest));
            total = v_add(total, x[r][v]);
        }
        sum[r] = v_sum(total);
    }
    SWA_UNROLL
    for (int r = 0; r < n; r++) {
        float *s = q->s + (i + r) * KEY_BLOCK, *out = q->out + (i + r) * q->dp;
        _mm512_storeu_si512(s, bf16_row(x[r][0], x[r][1]));
        _mm512_storeu_si512(s + VL, bf16_row(x[r][2], x[r][3]));
        q->sum[i + r] = q->sum[i + r] * factor[r] + sum[r];
        q->max[i + r] = top[r];
        for (int64_t c = 0; factor[r] != 1 && c < q->dp; c += VL)
            v_store(out + c, v_mul(v_load(out + c), v_splat(factor[r])));
    }
}

static void weigh_all(const float *key_scale, const many_queries *q, int64_t i, int64_t n) {
    int64_t k = 0;
    for (; k + SOFT <= n; k += SOFT)
        weigh(key_scale, q, i + k, SOFT);
    for (; k < n; k++)
        weigh(key_scale, q, i + k, 1);
}

/* All columns of queries i .. i + n - 1, n <= 32. Rows that do not fill a tile pass through the
 * stash. */
static void mix_queries(const vectors *x, const many_queries *q, int64_t i, int64_t n) {
    const size_t row_bytes = (size_t)q->dp * sizeof(float);
    float *out = q->out + i * q->dp, *upper = out, *lower = out + HALF * q->dp;
    int from, to;
    seen_by(q, i, n, &from, &to);
    if (from >= to)
        return;
    const int64_t last = n > HALF ? n - HALF : n;
    float *tail = n > HALF ? lower : upper;
    if (last < HALF) {
        memcpy(q->stash, tail, (size_t)last * row_bytes);
        *(n > HALF ? &lower : &upper) = q->stash;
    }
    for (int64_t c = 0; c < q->dp; c += STRIP) {
        if (n > HALF)
            mix_pair(true, x, q, i, from, to, c, upper, lower);
        else
            mix_pair(false, x, q, i, from, to, c, upper, lower);
    }
    if (last < HALF)
        memcpy(tail, q->stash, (size_t)last * row_bytes);
}

/* States take in the block. */
static void attend_many(const vectors *x, const key_block *b, const many_queries *q) {
    pack_keys_of[x->type](x, b, q->dp, (char *)q->keys);
    pack_values_of[x->type](x, b, q->dp, (char *)q->values);
    configure();
    for (int64_t i = 0; i < q->n; i += 2 * HALF) {
        const int64_t n = min_i64(2 * HALF, q->n - i);
        int from, to;
        seen_by(q, i, n, &from, &to);
        for (int first = 0; first < KEY_BLOCK; first += 32) {
            if (from >= first + 32 || to <= first)
                continue;
            if (n > HALF)
                score_pair(true, x, q, i, first);
            else
                score_pair(false, x, q, i, first);
        }
        weigh_all(x->type == ANEMO_KV_Q8 ? b->key_scale : NULL, q, i, n);
        mix_queries(x, q, i, n);
    }
}

static void leave_many(void) {
    anemo_amx_leave();
}

#endif
