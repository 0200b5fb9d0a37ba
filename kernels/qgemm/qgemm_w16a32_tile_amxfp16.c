/* f16 weights times float activations, 32 x 32 tiles of AMX (tile_amx16.h), over float_n32.
 *
 * Weights are multiplied as they are. An activation becomes two terms of f16, the second being what
 * the first leaves: 22 bits of it, after its row was scaled by a power of two as in f16_row
 * (kernel.h). Products are exact, and sums are of float, so the result is as good as a float
 * tile's, but not its bits: a plan that may not depend on the batch leaves it out. Granite Rapids,
 * 14336 x 4096, speed times qgemm_wfa32_tile_avx512: 16 rows 1.35, 32 1.97, 64 2.64, 512 4.7; error
 * 0.13 of the bound of a float product, where that has 0.37. */
#include "kernels/qgemm/layout_float_n32.h"
#include "kernels/qgemm/quantize_act.h"

#define AMX16_BF16  0
#define AMX16_TERMS 2
#include "kernels/qgemm/tile_amx16.h"

enum { ROUND = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };

/* ---------------------------------------------------------------- W */

/* Columns become pairs of columns; an odd one gets a neighbour of zeros, and zeros fill 32. */
static void decode(const anemo_n32_tile *t, uint8_t *panel) {
    const uint8_t *at = t->block + anemo_float_n32_bytes(t->type, t->column);
    const __m512i upper =
        _mm512_set_epi16(63, 31, 62, 30, 61, 29, 60, 28, 59, 27, 58, 26, 57, 25, 56, 24, 55, 23, 54,
                         22, 53, 21, 52, 20, 51, 19, 50, 18, 49, 17, 48, 16);
    const __m512i lower = _mm512_sub_epi16(upper, _mm512_set1_epi16(16));
    for (int64_t column = 0; column < anemo_round_up(t->columns, AMX16_DEPTH); column += 2) {
        const __m512i even =
            column < t->columns ? _mm512_loadu_si512(at + 64 * column) : _mm512_setzero_si512();
        const __m512i odd = column + 1 < t->columns ? _mm512_loadu_si512(at + 64 * (column + 1))
                                                    : _mm512_setzero_si512();
        uint8_t *to = panel + column / 2 * AMX16_PAIR_BYTES;
        _mm512_store_si512(to, _mm512_permutex2var_epi16(even, lower, odd));
        _mm512_store_si512(to + 64, _mm512_permutex2var_epi16(even, upper, odd));
    }
}

static void tile(int64_t rows, const anemo_n32_tile *t) {
    amx16_tile_rows(rows, t, t->panel);
}

/* ---------------------------------------------------------------- x */

static __mmask16 mask_of(int64_t left) {
    return left >= 16 ? (__mmask16)0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
}

static float x_scale(const uint8_t *row, int64_t k) {
    __m512i largest = _mm512_setzero_si512();
    for (int64_t i = 0; i < k; i += 16) {
        const __m512i bits = _mm512_maskz_loadu_epi32(mask_of(k - i), row + 4 * i);
        largest = _mm512_max_epu32(largest, _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)));
    }
    const uint32_t bits = _mm512_reduce_max_epu32(largest);
    float scale = __builtin_nanf(""), inverse;
    if (bits < 0x7f800000u) {
        anemo_f16_row_scale_of(bits, &scale, &inverse);
    }
    return scale;
}

/* A chunk of x from `column` on, divided by its row's scale: [term][columns], zeros up to 32. */
static void x_chunk(const uint8_t *row, int64_t k, int64_t column, float scale, uint8_t *to) {
    const __m512 inverse = _mm512_set1_ps(1.0f / scale);
    const int64_t filled = anemo_round_up(k - column, 32);
    for (int64_t i = 0; i < AMX16_CHUNK && i < filled; i += 16) {
        const __m512 x = _mm512_mul_ps(
            _mm512_maskz_loadu_ps(mask_of(k - column - i), row + 4 * (column + i)), inverse);
        const __m256i first = _mm512_cvtps_ph(x, ROUND);
        const __m512 rest = _mm512_sub_ps(x, _mm512_cvtph_ps(first));
        _mm256_storeu_si256((void *)(to + 2 * i), first);
        _mm256_storeu_si256((void *)(to + AMX16_TERM_BYTES + 2 * i), _mm512_cvtps_ph(rest, ROUND));
    }
}

/* ---------------------------------------------------------------- the variant */

static bool accepts_form(const anemo_qgemm_problem *p, char *why, size_t why_bytes) {
    for (int32_t i = 0; i < p->n_parts; i++) {
        if (p->type[i].code != ANEMO_CODE_F16) {
            return anemo_refuse(why, why_bytes, "f16 weights are accepted");
        }
    }
    return true;
}

static const anemo_n32_form form = {
    .tile_rows = ANEMO_AMX_ROWS,
    .chunk = AMX16_CHUNK,
    .blocks = AMX16_BLOCKS,
    .starts_sums = true,
    .panel_bytes = AMX16_PANEL_BYTES,
    .block_bytes = anemo_float_n32_bytes,
    .decode = decode,
    .tile = tile,
    .leave = anemo_amx_leave,
    .x_chunk_bytes = AMX16_X_BYTES,
    .x_chunk = x_chunk,
    .x_scale = x_scale,
    .accepts = accepts_form,
};

ANEMO_N32_VARIANT_OF(qgemm_w16a32_tile_amxfp16, form, f32, 0, ANEMO_CPU_AVX512 | ANEMO_CPU_AMX_FP16,
                     "float_n32", 16,
                     "f16 weights as they are, floats in two f16 terms, f16 matrix tiles, 32x32")
