/* Between the two halves of an expert, sixteen lanes at a time: the activation, and coding the
 * hidden row as an a8 record.
 *
 * A group's code, scale and sum are those of quantize_act, bit for bit (kernel.h: "The a8 record"):
 * magnitudes are compared as integers, 127 / max and max / 127 are the same two divisions, and the
 * conversion to int32 rounds half to even. The activation's exponential is a polynomial,
 * sixteen at a time, where libm is a call for each. */
#ifndef ANEMO_MOE_HIDDEN_AVX512_H
#define ANEMO_MOE_HIDDEN_AVX512_H

#include "kernels/internal.h"

#include <immintrin.h>

static inline __mmask16 hidden_mask(int64_t left) {
    return left >= 16 ? 0xffff : left > 0 ? (__mmask16)((1u << left) - 1u) : 0;
}

/* The 16 or fewer biases of expert e at `column` of n, or zeros. */
static inline __m512 hidden_bias(const float *bias, int64_t e, int64_t n, int64_t column) {
    return bias ? _mm512_maskz_loadu_ps(hidden_mask(n - column), bias + e * n + column)
                : _mm512_setzero_ps();
}

/* exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2) / 2, Taylor to r^7 (relative 5e-9 there).
 * Overflows to infinity and underflows to 0 as it should; NaN stays NaN (min and max return their
 * second operand then). */
static inline __m512 hidden_exp(__m512 x) {
    const __m512 at_most = _mm512_set1_ps(105.0f), at_least = _mm512_set1_ps(-105.0f);
    x = _mm512_max_ps(at_least, _mm512_min_ps(at_most, x));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p0f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62ep-1f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.0bfbe8p-15f), r);
    __m512 y = _mm512_set1_ps(1.0f / 5040);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 720));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 120));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 24));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 6));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.5f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, n);
}

/* act(g) u as in moe_experts_ref.c */
static inline __m512 hidden_activate(int32_t activation, __m512 g, __m512 u) {
    const __m512 one = _mm512_set1_ps(1.0f), seven = _mm512_set1_ps(7.0f);
    __m512 slope = _mm512_set1_ps(-1.0f);
    if (activation == ANEMO_ACT_SILU_CLAMPED) {
        g = _mm512_min_ps(seven, g);
        u = _mm512_add_ps(_mm512_max_ps(_mm512_set1_ps(-7.0f), _mm512_min_ps(seven, u)), one);
        slope = _mm512_set1_ps(-1.702f);
    }
    const __m512 below = _mm512_add_ps(one, hidden_exp(_mm512_mul_ps(slope, g)));
    return _mm512_mul_ps(_mm512_div_ps(g, below), u);
}

/* One group of `count` <= `group` numbers; codes[group] is filled, the rest with zeros. h is
 * readable up to `group`. */
static inline void hidden_quantise(const float *h, int64_t count, int64_t group, int8_t *codes,
                                   float *scale, int32_t *sum) {
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff);
    __m512i most = _mm512_setzero_si512(), total = _mm512_setzero_si512();
    for (int64_t i = 0; i < group; i += 16) {
        const __m512i bits = _mm512_maskz_loadu_epi32(hidden_mask(count - i), h + i);
        most = _mm512_max_epu32(most, _mm512_and_si512(bits, no_sign));
    }
    const uint32_t bits = _mm512_reduce_max_epu32(most);
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    float inverse = 127.0f / largest;
    *scale = largest / 127.0f;
    if (bits >= 0x7f800000u) { /* NaN or infinity inside */
        *scale = __builtin_nanf("");
        count = 0;
    } else if (inverse > 0x1.fffffep127f) { /* zeros, or as good as */
        *scale = 0.0f;
        count = 0;
    }
    for (int64_t i = 0; i < group; i += 16) {
        const __m512 x = _mm512_maskz_loadu_ps(hidden_mask(count - i), h + i);
        const __m512i code = _mm512_maskz_cvtps_epi32(hidden_mask(count - i),
                                                      _mm512_mul_ps(x, _mm512_set1_ps(inverse)));
        _mm_storeu_si128((__m128i *)(void *)(codes + i), _mm512_cvtepi32_epi8(code));
        total = _mm512_add_epi32(total, code);
    }
    *sum = _mm512_reduce_add_epi32(total);
}

#endif
