/* quantize_act with AVX2, 32 columns at a time: as in quantize_act_avx512.c, magnitudes are
 * compared as integers and rounding to nearest even is that of the conversion to int32; two packs
 * and a permutation make 32 bytes of four vectors, which nothing saturates (codes lie in -127 ..
 * 127).
 *
 * The last columns are copied to a block of zeros first: their codes are zeros, too, and belong to
 * the record's padding, so every store is a whole one. AVX2 has masked loads, but no masked stores
 * of bytes. */
#include "kernels/qgemm/quantize_act.h"

#include <immintrin.h>

enum { STEP = 32 };

/* x[0 .. left), or a copy with zeros behind it. */
static inline const float *whole_step(const float *x, int64_t left, float zeros_behind[STEP]) {
    if (left >= STEP) {
        return x;
    }
    memset(zeros_behind, 0, STEP * sizeof *x);
    memcpy(zeros_behind, x, (size_t)left * sizeof *x);
    return zeros_behind;
}

static inline __m256i magnitude_bits(const float *x) {
    const __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)x);
    return _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
}

/* Without their sign bits, floats order like signed integers as well. */
static inline uint32_t largest_magnitude_bits(const float *x, int64_t count) {
    float copy[STEP];
    __m256i largest = _mm256_setzero_si256(), second = largest;
    for (int64_t i = 0; i < count; i += STEP) {
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
    float copy[STEP];
    __m256i sum = _mm256_setzero_si256();
    for (int64_t i = 0; i < count; i += STEP) {
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
    float copy[STEP];
    (void)group;
    for (int64_t i = 0; i < k; i += STEP) { /* a record is a whole number of steps: 64 bytes */
        const float *at = whole_step(x + i, k - i, copy);
        for (int half = 0; half < STEP; half += 16) {
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
    float copy[STEP];
    const float inverse = anemo_f16_row_begin(largest_magnitude_bits(x, k), k, record);
    for (int64_t i = 0; inverse != 0.0f && i < k; i += STEP) { /* codes fill whole steps */
        const float *at = whole_step(x + i, k - i, copy);
        for (int part = 0; part < STEP; part += 8) {
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
