#include "anemo_config.h"
#include "harness/measure/probe_form.h"

#include <immintrin.h>

#define VECTOR_BYTES    32
#define READ_NAME(form) read_avx2_##form
#include "harness/measure/probe_read.inc"

enum { CHAINS = 12 };

static bool fp32_avx2(int64_t iterations) {
    __m256 one = _mm256_set1_ps(1), s[CHAINS];
    for (int c = 0; c < CHAINS; c++) {
        s[c] = _mm256_set1_ps((float)c);
    }
    for (int64_t i = 0; i < iterations; i++) {
        ANEMO_OPAQUE(one);
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) {
            s[c] = _mm256_fmadd_ps(one, one, s[c]);
        }
    }
    bool right = true;
    for (int c = 0; c < CHAINS; c++) {
        const __m256 must = _mm256_set1_ps((float)(c + iterations));
        right = right && _mm256_movemask_ps(_mm256_cmp_ps(s[c], must, _CMP_EQ_OQ)) == 0xff;
    }
    return right;
}

static bool all_equal(__m256i sum, int32_t must) {
    return _mm256_movemask_epi8(_mm256_cmpeq_epi32(sum, _mm256_set1_epi32(must))) == -1;
}

/* u8 x s8: maddubs gives 16-bit pairs, madd widens them. Any 7-bit code. */
static bool int8_avx2_pairs(int64_t iterations) {
    const __m256i three = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    __m256i s[CHAINS];
    for (int c = 0; c < CHAINS; c++) {
        s[c] = _mm256_set1_epi32(c);
    }
    for (int64_t i = 0; i < iterations; i++) {
        __m256i x = three;
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) {
            ANEMO_OPAQUE(x);
            const __m256i pairs = _mm256_maddubs_epi16(x, three);
            s[c] = _mm256_add_epi32(s[c], _mm256_madd_epi16(pairs, ones));
        }
    }
    bool right = true;
    for (int c = 0; c < CHAINS; c++) {
        right = right && all_equal(s[c], c + (int32_t)(36 * iterations));
    }
    return right;
}

/* 4-bit codes leave room to add two 16-bit pairs before widening: 3 multiplier operations for 64
 * products instead of 4. */
static bool int8_avx2_preadd(int64_t iterations) {
    const __m256i three = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    __m256i s[CHAINS];
    for (int c = 0; c < CHAINS; c++) {
        s[c] = _mm256_set1_epi32(c);
    }
    for (int64_t i = 0; i < iterations; i++) {
        __m256i x = three, y = three;
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) {
            ANEMO_OPAQUE(x);
            ANEMO_OPAQUE(y);
            const __m256i pairs =
                _mm256_add_epi16(_mm256_maddubs_epi16(x, three), _mm256_maddubs_epi16(y, three));
            s[c] = _mm256_add_epi32(s[c], _mm256_madd_epi16(pairs, ones));
        }
    }
    bool right = true;
    for (int c = 0; c < CHAINS; c++) {
        right = right && all_equal(s[c], c + (int32_t)(72 * iterations));
    }
    return right;
}

const anemo_probe_form anemo_probe_forms_avx2[] = {
    READ_FORMS("avx2", ANEMO_CPU_AVX2),
    {.name = "fp32_avx2",
     .ceiling = ANEMO_CEILING_FP32,
     .needs = ANEMO_CPU_AVX2,
     .compute = fp32_avx2,
     .ops_per_iteration = 2 * 8 * CHAINS},
    {.name = "int8_avx2_pairs",
     .ceiling = ANEMO_CEILING_INT8,
     .needs = ANEMO_CPU_AVX2,
     .compute = int8_avx2_pairs,
     .ops_per_iteration = 2 * 32 * CHAINS},
    {.name = "int8_avx2_preadd",
     .ceiling = ANEMO_CEILING_INT8,
     .needs = ANEMO_CPU_AVX2,
     .compute = int8_avx2_preadd,
     .ops_per_iteration = 2 * 64 * CHAINS},
    {.name = NULL},
};
