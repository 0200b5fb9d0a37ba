/* quantize_act with AVX-512: a group's magnitudes are compared as integers (see quantize_act_c.c),
 * rounding to nearest even is that of the conversion to int32, and codes leave as 16 bytes per
 * vector. Masked loads make the last columns zeros. */
#include "kernels/qgemm/quantize_act.h"

#include <immintrin.h>

static inline __mmask16 mask_of(int64_t left) {
    return left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1u);
}

static inline uint32_t largest_magnitude_bits(const float *x, int64_t count) {
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff);
    __m512i largest = _mm512_setzero_si512();
    for (int64_t i = 0; i < count; i += 16) {
        const __m512i bits = _mm512_maskz_loadu_epi32(mask_of(count - i), x + i);
        largest = _mm512_max_epu32(largest, _mm512_and_si512(bits, no_sign));
    }
    return _mm512_reduce_max_epu32(largest);
}

static inline int32_t encode(const float *x, int64_t count, float inverse, int8_t *codes) {
    const __m512 scale = _mm512_set1_ps(inverse);
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 mask = mask_of(count - i);
        const __m512i code =
            _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), scale));
        _mm512_mask_cvtepi32_storeu_epi8(codes + i, mask, code);
        sum = _mm512_add_epi32(sum, code);
    }
    return _mm512_reduce_add_epi32(sum);
}

static void a8_record(const float *x, int64_t k, int32_t group, void *record) {
    const int64_t kp = anemo_a8_padded_k(k), groups = anemo_a8_groups(group, k);
    const int64_t columns = kp / groups;
    int8_t *codes = record;
    float *scales = (float *)(void *)(codes + kp);
    int32_t *sums = (int32_t *)(void *)(scales + groups);
    memset(codes + k, 0, anemo_a8_bytes(group, k) - (size_t)k);
    for (int64_t g = 0; g < groups && g * columns < k; g++) {
        const float *xg = x + g * columns;
        const int64_t count = k - g * columns < columns ? k - g * columns : columns;
        const uint32_t bits = largest_magnitude_bits(xg, count);
        float largest;
        memcpy(&largest, &bits, sizeof largest);
        const float inverse = 127.0f / largest;
        if (bits >= 0x7f800000u) { /* NaN or infinity inside */
            scales[g] = __builtin_nanf("");
            memset(codes + g * columns, 0, (size_t)count);
        } else if (inverse > 0x1.fffffep127f) { /* zeros, or as good as */
            memset(codes + g * columns, 0, (size_t)count);
        } else {
            scales[g] = largest / 127.0f;
            sums[g] = encode(xg, count, inverse, codes + g * columns);
        }
    }
}

/* Rounds to nearest even in integers: the baseline AVX-512 has no conversion to bfloat16. */
static void bf16_record(const float *x, int64_t k, int32_t group, void *record) {
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff), half = _mm512_set1_epi32(0x7fff);
    const __m512i infinity = _mm512_set1_epi32(0x7f800000), one = _mm512_set1_epi32(1);
    const __m512i quiet = _mm512_set1_epi32(0x400000);
    uint16_t *out = record;
    (void)group;
    for (int64_t i = 0; i < k; i += 16) {
        const __mmask16 mask = mask_of(k - i);
        const __m512i bits = _mm512_maskz_loadu_epi32(mask, x + i);
        const __mmask16 nan = _mm512_cmpgt_epu32_mask(_mm512_and_si512(bits, no_sign), infinity);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
        const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(half, odd));
        const __m512i value = _mm512_mask_or_epi32(rounded, nan, bits, quiet);
        _mm512_mask_cvtepi32_storeu_epi16(out + i, mask, _mm512_srli_epi32(value, 16));
    }
    memset(out + k, 0, (size_t)(anemo_round_up(2 * k, 64) - 2 * k));
}

static void f16_row_record(const float *x, int64_t k, int32_t group, void *record) {
    (void)group;
    uint16_t *out = record;
    const float inverse = anemo_f16_row_begin(largest_magnitude_bits(x, k), k, record);
    for (int64_t i = 0; inverse != 0.0f && i < k; i += 16) {
        const __mmask16 mask = mask_of(k - i);
        const __m512 code =
            _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), _mm512_set1_ps(inverse));
        _mm256_mask_storeu_epi16(
            out + i, mask, _mm512_cvtps_ph(code, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}

ANEMO_QUANTIZE_ACT_VARIANT(bf16, avx512, bf16_record, ANEMO_CPU_AVX512, 0, "16 at a time")
ANEMO_QUANTIZE_ACT_VARIANT(f16_row, avx512, f16_row_record, ANEMO_CPU_AVX512, 0, "16 at a time")
ANEMO_QUANTIZE_ACT_VARIANT(a8_row, avx512, a8_record, ANEMO_CPU_AVX512, 0, "16 at a time")
ANEMO_QUANTIZE_ACT_VARIANT(a8_g32, avx512, a8_record, ANEMO_CPU_AVX512, 0, "16 at a time")
ANEMO_QUANTIZE_ACT_VARIANT(a8_g128, avx512, a8_record, ANEMO_CPU_AVX512, 0, "16 at a time")
