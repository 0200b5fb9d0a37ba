/* quantize_act with AVX2, 32 columns at a time (a8_group_avx2.h). */
#include "kernels/qgemm/a8_group_avx2.h"
#include "kernels/qgemm/quantize_act.h"

static void a8_record(const float *x, int64_t k, int32_t group, void *record) {
    const int64_t kp = anemo_a8_padded_k(k), groups = anemo_a8_groups(group, k);
    const int64_t columns = kp / groups;
    int8_t *codes = record;
    float *scales = (float *)(void *)(codes + kp);
    int32_t *sums = (int32_t *)(void *)(scales + groups);
    memset(codes + k, 0, anemo_a8_bytes(group, k) - (size_t)k);
    for (int64_t g = 0; g < groups && g * columns < k; g++) {
        const int64_t left = k - g * columns;
        a8_group(x + g * columns, left < columns ? left : columns, codes + g * columns, scales + g,
                 sums + g);
    }
}

/* To nearest even, in integers; a NaN keeps its upper bits and becomes quiet. */
static inline __m256i bf16_in_low_halves(const float *x) {
    const __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)x);
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
    const __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
}

static void bf16_record(const float *x, int64_t k, int32_t group, void *record) {
    uint16_t *out = record;
    float copy[A8_STEP];
    (void)group;
    for (int64_t i = 0; i < k; i += A8_STEP) { /* a record is a whole number of steps: 64 bytes */
        const float *at = whole_step(x + i, k - i, copy);
        for (int half = 0; half < A8_STEP; half += 16) {
            const __m256i words = _mm256_packus_epi32(bf16_in_low_halves(at + half),
                                                      bf16_in_low_halves(at + half + 8));
            _mm256_storeu_si256((__m256i *)(void *)(out + i + half),
                                _mm256_permute4x64_epi64(words, 0xd8));
        }
    }
}

static void f16_row_record(const float *x, int64_t k, int32_t group, void *record) {
    (void)group;
    uint16_t *out = record;
    float copy[A8_STEP];
    const float inverse = anemo_f16_row_begin(largest_magnitude_bits(x, k), k, record);
    for (int64_t i = 0; inverse != 0.0f && i < k; i += A8_STEP) { /* codes fill whole steps */
        const float *at = whole_step(x + i, k - i, copy);
        for (int part = 0; part < A8_STEP; part += 8) {
            const __m256 code = _mm256_mul_ps(_mm256_loadu_ps(at + part), _mm256_set1_ps(inverse));
            _mm_storeu_si128((__m128i *)(void *)(out + i + part),
                             _mm256_cvtps_ph(code, _MM_FROUND_TO_NEAREST_INT));
        }
    }
}

ANEMO_QUANTIZE_ACT_VARIANT(bf16, avx2, bf16_record, ANEMO_CPU_AVX2, 0, "32 at a time")
ANEMO_QUANTIZE_ACT_VARIANT(f16_row, avx2, f16_row_record, ANEMO_CPU_AVX2, 0, "32 at a time")
ANEMO_QUANTIZE_ACT_VARIANT(a8_row, avx2, a8_record, ANEMO_CPU_AVX2, 0, "32 at a time")
ANEMO_QUANTIZE_ACT_VARIANT(a8_g32, avx2, a8_record, ANEMO_CPU_AVX2, 0, "32 at a time")
ANEMO_QUANTIZE_ACT_VARIANT(a8_g128, avx2, a8_record, ANEMO_CPU_AVX2, 0, "32 at a time")
