/* What the matrix tiles of split_amx.h multiply in swa_a16_split_amxbf16: bf16.
 *
 * bf16 and the codes of q8's keys are bf16 numbers, and f16 is the sum of two, so that it takes two
 * terms, each with its products (f32, and q8's values with their scale, become 16 bits in two).
 * Queries and weights are rounded once. Included after vec_avx512.h, before split_amx.h. */
#ifndef ANEMO_SWA_SPLIT_AMX_BF16_H
#define ANEMO_SWA_SPLIT_AMX_BF16_H

#include "kernels/swa/amx_block.h"

enum {
    QUERY_TERMS = 1, /* of queries and weights */
    LARGEST = 0      /* exponent that a row of them begins with: bf16 reaches as far as float */
};

static int key_terms(int type) {
    return type == ANEMO_KV_BF16 || type == ANEMO_KV_Q8 ? 1 : 2;
}
static int value_terms(int type) {
    return type == ANEMO_KV_BF16 ? 1 : 2;
}

/* 32 floats as bf16, in order. */
SWA_INLINE __m512i amx_row(vf low, vf high) {
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

#define AMX_DP(sum, a, b) _tile_dpbf16ps(sum, a, b)

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

SWA_INLINE vf amx_rest(vf x, __m256i numbers) {
    return rest_of(x, _mm512_cvtepu16_epi32(numbers));
}

/* The same of 32 floats, rounded in its turn. */
SWA_INLINE __m512i amx_rest_row(vf low, vf high, __m512i row) {
    return amx_row(amx_rest(low, _mm512_castsi512_si256(row)),
                   amx_rest(high, _mm512_extracti64x4_epi64(row, 1)));
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
                    __m512i row = amx_row(low, high);
                    if (term > 0)
                        row = amx_rest_row(low, high, row);
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

#endif
