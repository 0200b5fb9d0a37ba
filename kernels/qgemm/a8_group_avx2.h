/* A group of an a8 record with AVX2, 32 columns at a time: as in quantize_act_avx512.c, magnitudes
 * are compared as integers and rounding to nearest even is that of the conversion to int32; two
 * packs and a permutation make 32 bytes of four vectors, which nothing saturates (codes lie in -127
 * .. 127).
 *
 * The last columns are copied to a block of zeros first: their codes are zeros, too, and belong to
 * the record's padding, so every store is a whole one. AVX2 has masked loads, but no masked stores
 * of bytes. */
#ifndef ANEMO_A8_GROUP_AVX2_H
#define ANEMO_A8_GROUP_AVX2_H

#include "kernels/internal.h"

#include <immintrin.h>

enum { A8_STEP = 32 };

/* x[0 .. left), or a copy with zeros behind it. */
static inline const float *whole_step(const float *x, int64_t left, float zeros_behind[A8_STEP]) {
    if (left >= A8_STEP) {
        return x;
    }
    memset(zeros_behind, 0, A8_STEP * sizeof *x);
    memcpy(zeros_behind, x, (size_t)left * sizeof *x);
    return zeros_behind;
}

static inline __m256i magnitude_bits(const float *x) {
    const __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)x);
    return _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
}

/* Without their sign bits, floats order like signed integers as well. */
static inline uint32_t largest_magnitude_bits(const float *x, int64_t count) {
    float copy[A8_STEP];
    __m256i largest = _mm256_setzero_si256(), second = largest;
    for (int64_t i = 0; i < count; i += A8_STEP) {
        const float *at = whole_step(x + i, count - i, copy);
        const __m256i a = _mm256_max_epi32(magnitude_bits(at), magnitude_bits(at + 8));
        const __m256i b = _mm256_max_epi32(magnitude_bits(at + 16), magnitude_bits(at + 24));
        largest = _mm256_max_epi32(largest, a);
        second = _mm256_max_epi32(second, b);
    }
    largest = _mm256_max_epi32(largest, second);
    __m128i m =
        _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

static inline __m256i codes_of(const float *x, __m256 inverse) {
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
}

/* Writes a whole number of steps: the padding behind `count` becomes zeros. */
static inline int32_t encode(const float *x, int64_t count, float inverse, int8_t *codes) {
    const __m256 scale = _mm256_set1_ps(inverse);
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i ones = _mm256_set1_epi16(1);
    float copy[A8_STEP];
    __m256i sum = _mm256_setzero_si256();
    for (int64_t i = 0; i < count; i += A8_STEP) {
        const float *at = whole_step(x + i, count - i, copy);
        const __m256i low = _mm256_packs_epi32(codes_of(at, scale), codes_of(at + 8, scale));
        const __m256i high = _mm256_packs_epi32(codes_of(at + 16, scale), codes_of(at + 24, scale));
        const __m256i bytes = _mm256_packs_epi16(low, high);
        _mm256_storeu_si256((__m256i *)(void *)(codes + i),
                            _mm256_permutevar8x32_epi32(bytes, in_order));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(low, high), ones));
    }
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

/* Code, scale and sum of a group of `count` numbers; its codes are filled up to a step with zeros.
 */
static inline void a8_group(const float *x, int64_t count, int8_t *codes, float *scale,
                            int32_t *sum) {
    const uint32_t bits = largest_magnitude_bits(x, count);
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    const float inverse = 127.0f / largest;
    if (bits >= 0x7f800000u) { /* NaN or infinity inside */
        *scale = __builtin_nanf("");
        memset(codes, 0, (size_t)anemo_round_up(count, A8_STEP));
        *sum = 0;
    } else if (inverse > 0x1.fffffep127f) { /* zeros, or as good as */
        *scale = 0.0f;
        memset(codes, 0, (size_t)anemo_round_up(count, A8_STEP));
        *sum = 0;
    } else {
        *scale = largest / 127.0f;
        *sum = encode(x, count, inverse, codes);
    }
}

#endif
