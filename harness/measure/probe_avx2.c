#include "anemo_config.h"
#include "harness/measure/probe_form.h"

#include <immintrin.h>

#define VECTOR_BYTES    32
#define READ_NAME(form) read_avx2_##form
#include "harness/measure/probe_read.inc"

enum { CHAINS = 12, PREADD8_CHAINS = 4 };

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

/* u8 x s8: maddubs gives 16-bit pairs, madd widens them. Any 7-bit code; 8-bit codes saturate. */
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

/* Indeed, to add eight of them: 9 multiplier operations for 256 products. A few chains at a time,
 * so that none of it needs memory. */
static bool int8_avx2_preadd8(int64_t iterations) {
    const __m256i three = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    __m256i s[PREADD8_CHAINS], x = three;
    for (int c = 0; c < PREADD8_CHAINS; c++) {
        s[c] = _mm256_set1_epi32(c);
    }
    for (int64_t i = 0; i < iterations; i++) {
        __m256i sum[PREADD8_CHAINS];
#pragma GCC unroll 8
        for (int pair = 0; pair < 8; pair++) {
#pragma GCC unroll 4
            for (int c = 0; c < PREADD8_CHAINS; c++) {
                ANEMO_OPAQUE(x);
                const __m256i pairs = _mm256_maddubs_epi16(x, three);
                sum[c] = pair == 0 ? pairs : _mm256_add_epi16(sum[c], pairs);
                ANEMO_OPAQUE(sum[c]); /* a chain, which compilers would make a tree */
            }
        }
#pragma GCC unroll 4
        for (int c = 0; c < PREADD8_CHAINS; c++) {
            s[c] = _mm256_add_epi32(s[c], _mm256_madd_epi16(sum[c], ones));
        }
    }
    bool right = true;
    for (int c = 0; c < PREADD8_CHAINS; c++) {
        right = right && all_equal(s[c], c + (int32_t)(288 * iterations));
    }
    return right;
}

/* 8-bit codes, which maddubs would saturate, as words. */
static bool int8_avx2_words(int64_t iterations) {
    const __m256i three = _mm256_set1_epi16(3);
    __m256i s[CHAINS];
#pragma GCC unroll 12 /* else the sums live in memory, and its one store a cycle decides */
    for (int c = 0; c < CHAINS; c++) {
        s[c] = _mm256_set1_epi32(c);
    }
    for (int64_t i = 0; i < iterations; i++) {
        __m256i x = three;
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) {
            ANEMO_OPAQUE(x);
            s[c] = _mm256_add_epi32(s[c], _mm256_madd_epi16(x, three));
        }
    }
    bool right = true;
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++) {
        right = right && all_equal(s[c], c + (int32_t)(18 * iterations));
    }
    return right;
}

#define INT8_FORM(form, of, products)                                                              \
    {                                                                                              \
        .name = #form, .ceiling = (of), .needs = ANEMO_CPU_AVX2, .compute = form,                  \
        .ops_per_iteration = 2 * (products)                                                        \
    }

const anemo_probe_form anemo_probe_forms_avx2[] = {
    READ_FORMS("avx2", ANEMO_CPU_AVX2),
    {.name = "fp32_avx2",
     .ceiling = ANEMO_CEILING_FP32,
     .needs = ANEMO_CPU_AVX2,
     .compute = fp32_avx2,
     .ops_per_iteration = 2 * 8 * CHAINS},
    /* The best there is of each kind; and INT8 is the best of all where there is no VNNI. */
    INT8_FORM(int8_avx2_pairs, ANEMO_CEILING_INT8, 32 * CHAINS),
    INT8_FORM(int8_avx2_preadd, ANEMO_CEILING_INT8, 64 * CHAINS),
    INT8_FORM(int8_avx2_preadd8, ANEMO_CEILING_INT8, 256 * PREADD8_CHAINS),
    INT8_FORM(int8_avx2_preadd, ANEMO_CEILING_INT8_AVX2_U4, 64 * CHAINS),
    INT8_FORM(int8_avx2_preadd8, ANEMO_CEILING_INT8_AVX2_U4, 256 * PREADD8_CHAINS),
    INT8_FORM(int8_avx2_words, ANEMO_CEILING_INT8_AVX2_U8, 16 * CHAINS),
    {.name = NULL},
};
