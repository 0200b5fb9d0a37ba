/* Scales and offsets of 32 rows of w4_n32k8 and w8_n32k4 (layout_n32.h), sixteen at a time. */
#ifndef ANEMO_NUMBERS_AVX512_H
#define ANEMO_NUMBERS_AVX512_H

#include "kernels/qgemm/layout_n32.h"
#include "kernels/qgemm/qgemm_n32.h"

#include <immintrin.h>

/* 16 of the 32 floats or halves at `at`. */
ANEMO_N32_INLINE __m512 anemo_n32_numbers(const anemo_n32_shape *s, const uint8_t *at, int half) {
    if (s->scale_bytes == 2) {
        return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(at + 32 * half)));
    }
    return _mm512_loadu_ps(at + 64 * half);
}

/* o of w = s c - o: the minimum, or s times the zero point; zeros without either. `header` is the
 * group's, `scale` its 16 scales. */
ANEMO_N32_INLINE __m512 anemo_n32_offsets(const anemo_n32_shape *s, const uint8_t *block,
                                          const uint8_t *header, int64_t group, int half,
                                          __m512 scale) {
    if (s->has_minimum) {
        return anemo_n32_numbers(s, header + 32 * s->scale_bytes, half);
    }
    if (s->has_zero) {
        const uint8_t *zero = block + 32 * group + 16 * half;
        const __m512i z = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)zero));
        return _mm512_mul_ps(_mm512_cvtepi32_ps(z), scale);
    }
    return _mm512_setzero_ps();
}

#endif
