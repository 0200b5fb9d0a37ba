/* What the matrix tiles of split_amx.h multiply where they know f16: keys and values of f16 as they
 * are, and queries and weights in SWA_QUERY_TERMS terms, the second being what the first leaves:
 * rounded once to 11 bits, or 22 bits of every number. f16 is not as wide as float: a query is
 * scaled, and weights are, to begin below 2^LARGEST, so that small ones keep their bits. The
 * products of f16 are exact in float, and summed there.
 *
 * Included after vec_avx512.h, before split_amx.h. */
#ifndef ANEMO_SWA_SPLIT_AMX_F16_H
#define ANEMO_SWA_SPLIT_AMX_F16_H

#include "kernels/swa/amx_block.h"

#define AMX_DP ANEMO_AMX_DPFP16PS

enum {
    QUERY_TERMS = SWA_QUERY_TERMS, /* of queries and weights */
    LARGEST = 14                   /* f16 ends below 2^16 */
};

static int key_terms(int type) {
    (void)type;
    return 1;
}
static int value_terms(int type) {
    (void)type;
    return 1;
}

/* 32 floats as f16, in order. */
SWA_INLINE __m512i amx_row(vf low, vf high) {
    enum { ROUND = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtps_ph(low, ROUND)),
                              _mm512_cvtps_ph(high, ROUND), 1);
}

/* What the f16 of `row` leave of them, as f16. */
SWA_INLINE __m512i amx_rest_row(vf low, vf high, __m512i row) {
    return amx_row(v_sub(low, _mm512_cvtph_ps(_mm512_castsi512_si256(row))),
                   v_sub(high, _mm512_cvtph_ps(_mm512_extracti64x4_epi64(row, 1))));
}

/* Elements c .. c + 31 of a vector of d, zeros behind; of no vector, zeros. */
SWA_INLINE __m512i elements_32(const char *x, int64_t c, int64_t d) {
    if (x == NULL || c >= d)
        return _mm512_setzero_si512();
    return d - c < STRIP ? _mm512_maskz_loadu_epi16((__mmask32)((1ull << (d - c)) - 1), x + 2 * c)
                         : _mm512_loadu_si512(x + 2 * c);
}

static void pack_keys(const vectors *x, const key_block *b, int64_t dp, char *to) {
    for (int first = 0; first < KEY_BLOCK; first += HALF)
        for (int64_t c = 0; c < dp; c += STRIP, to += AMX_TILE_BYTES) {
            vf pairs[VL];
            SWA_UNROLL
            for (int i = 0; i < HALF; i++)
                pairs[i] = _mm512_castsi512_ps(elements_32(key_of(b, first + i), c, x->d));
            v_transpose(pairs);
            SWA_UNROLL
            for (int i = 0; i < VL; i++)
                v_store((float *)(void *)(to + 64 * i), pairs[i]);
        }
}

/* Columns 4 i .. 4 i + 3 and 16 + 4 i .. 16 + 4 i + 3 into 128-bit lane i. */
SWA_INLINE __m512i spread_columns(__m512i x) {
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), x);
}

static void pack_values(const vectors *x, const key_block *b, int64_t dp, char *to) {
    const int64_t tiles = dp / HALF * AMX_TILE_BYTES; /* of 32 keys */
    for (int first = 0; first < KEY_BLOCK; first += 2) {
        const char *key[2], *value[2];
        SWA_UNROLL
        for (int i = 0; i < 2; i++) {
            key[i] = key_of(b, first + i);
            value[i] = key[i] ? key[i] + x->value_offset : NULL;
        }
        char *at = to + first / 32 * tiles + first % 32 / 2 * 64;
        for (int64_t c = 0; c < dp; c += STRIP, at += 2 * AMX_TILE_BYTES) {
            const __m512i even = spread_columns(elements_32(value[0], c, x->d));
            const __m512i odd = spread_columns(elements_32(value[1], c, x->d));
            _mm512_storeu_si512(at, _mm512_unpacklo_epi16(even, odd));
            _mm512_storeu_si512(at + AMX_TILE_BYTES, _mm512_unpackhi_epi16(even, odd));
        }
    }
}

typedef void (*pack_function)(const vectors *x, const key_block *b, int64_t dp, char *to);
static const pack_function pack_keys_of[4] = {[ANEMO_KV_F16] = pack_keys};
static const pack_function pack_values_of[4] = {[ANEMO_KV_F16] = pack_values};

#endif
