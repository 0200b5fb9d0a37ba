/* bf16 weights times float activations, 32 x 32 tiles of AMX (float_amxbf16.h).
 *
 * Weights are multiplied as they are. An activation becomes three terms of bf16, each what those
 * before it leave: 24 bits, all that a float has, down to 2^-126, where bf16 tiles count nothing.
 * Products are exact, and sums are of float, so the result is as good as a float tile's, but not
 * its bits: a plan that may not depend on the batch leaves it out. An infinite activation makes its
 * row NaN, as what it leaves is. */
#define AMX16_TERMS 3
#include "kernels/qgemm/float_amxbf16.h"

/* The floats of 16 bf16. */
static __m512 floats_of(__m256bh x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)x), 16));
}

/* A chunk of x from `column` on: [term][columns], zeros up to 32. */
static void x_chunk(const uint8_t *row, int64_t k, int64_t column, float scale, uint8_t *to) {
    (void)scale;
    const int64_t filled = anemo_round_up(k - column, 32);
    for (int64_t i = 0; i < AMX16_CHUNK && i < filled; i += 16) {
        const int64_t left = k - column - i;
        const __mmask16 mask = left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
        __m512 rest = _mm512_maskz_loadu_ps(mask, row + 4 * (column + i));
        for (int term = 0; term < AMX16_TERMS; term++) {
            const __m256bh rounded = _mm512_cvtneps_pbh(rest);
            rest = _mm512_sub_ps(rest, floats_of(rounded));
            _mm256_storeu_si256((void *)(to + term * AMX16_TERM_BYTES + 2 * i), (__m256i)rounded);
        }
    }
}

static bool accepts_form(const anemo_qgemm_problem *p, char *why, size_t why_bytes) {
    for (int32_t i = 0; i < p->n_parts; i++) {
        if (p->type[i].code != ANEMO_CODE_BF16) {
            return anemo_refuse(why, why_bytes, "bf16 weights are accepted");
        }
    }
    return true;
}

ANEMO_FLOAT_AMX_BF16_FORM(x_chunk, accepts_form)
ANEMO_N32_VARIANT_OF(qgemm_w16a32_tile_amxbf16, form, f32, 0, ANEMO_FLOAT_AMX_BF16_NEEDS,
                     "float_n32", 16,
                     "bf16 weights as they are, floats in three bf16 terms, bf16 tiles, 32x32")
