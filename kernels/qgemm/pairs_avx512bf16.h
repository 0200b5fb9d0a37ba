/* Weights as pairs of bf16: what vdpbf16ps and tdpbf16ps multiply with two activations. A panel
 * [columns / 2][32 rows][2] is float_n32 of bf16 weights; f16 and f32 become one by rounding. */
#ifndef ANEMO_PAIRS_AVX512BF16_H
#define ANEMO_PAIRS_AVX512BF16_H

#include "kernels/qgemm/layout_float_n32.h"
#include "kernels/qgemm/qgemm_n32.h"

#include <immintrin.h>

enum { BF16_PAIR_BYTES = 128 }; /* two columns of 32 rows */

/* Two columns of 16 rows, rounded to pairs. */
ANEMO_N32_INLINE __m512i bf16_pair(__m512 even, __m512 odd) {
    const __m512i apart = (__m512i)_mm512_cvtne2ps_pbh(odd, even); /* all even ones, all odd ones */
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, apart);
}

/* 16 rows of a column of f16 or f32. */
static inline __m512 bf16_numbers(int32_t code, const uint8_t *at, int half) {
    if (code == ANEMO_CODE_F16) {
        return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(at + 32 * half)));
    }
    return _mm512_loadu_ps(at + 64 * half);
}

/* The chunk of a float weight to a panel; an odd column gets a neighbour of zeros. Returns the
 * pairs. */
static inline int64_t bf16_pairs_of(const anemo_n32_tile *t, uint8_t *panel) {
    const uint8_t *at = t->block + anemo_float_n32_bytes(t->type, t->column);
    const int64_t pairs = anemo_ceil_div(t->columns, 2);
    const size_t column_bytes = anemo_float_n32_bytes(t->type, 2) / 2;
    if (t->type->code == ANEMO_CODE_BF16) {
        memcpy(panel, at, (size_t)pairs * BF16_PAIR_BYTES);
        return pairs;
    }
    for (int64_t pair = 0; pair < pairs; pair++) {
        const uint8_t *even = at + 2 * (size_t)pair * column_bytes;
        const bool alone = 2 * pair + 1 == t->columns;
        for (int v = 0; v < 2; v++) {
            const __m512 odd =
                alone ? _mm512_setzero_ps() : bf16_numbers(t->type->code, even + column_bytes, v);
            _mm512_store_si512(panel + pair * BF16_PAIR_BYTES + 64 * v,
                               bf16_pair(bf16_numbers(t->type->code, even, v), odd));
        }
    }
    return pairs;
}

#endif
