/* vpdpbusd: four u8 x s8 products added to each 32-bit lane. The 32-byte form is here because some
 * processors do two of them where they do one of 64 bytes, and clock higher. */
#include "anemo_config.h"
#include "harness/measure/probe_form.h"

#include <immintrin.h>

enum { CHAINS = 12 };

/* Written out, because GCC 12 puts two register moves beside each of the intrinsic's instructions:
 * free on Zen, but on Cascade Lake, where four instructions start a cycle, 0.65 of the rate. */
#define ADD_DOTS(s, x, y) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(x), "v"(y))

static bool int8_vnni_zmm(int64_t iterations) {
    __m512i x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(5), s[CHAINS];
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++) {
        s[c] = _mm512_set1_epi32(c);
    }
    for (int64_t i = 0; i < iterations; i++) {
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) {
            ADD_DOTS(s[c], x, y);
        }
    }
    bool right = true;
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++) {
        const __m512i must = _mm512_set1_epi32(c + (int32_t)(60 * iterations));
        right = right && _mm512_cmpeq_epi32_mask(s[c], must) == 0xffff;
    }
    return right;
}

static bool int8_vnni_ymm(int64_t iterations) {
    __m256i x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(5), s[CHAINS];
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++) {
        s[c] = _mm256_set1_epi32(c);
    }
    for (int64_t i = 0; i < iterations; i++) {
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) {
            ADD_DOTS(s[c], x, y);
        }
    }
    bool right = true;
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++) {
        const __m256i must = _mm256_set1_epi32(c + (int32_t)(60 * iterations));
        right = right && _mm256_cmpeq_epi32_mask(s[c], must) == 0xff;
    }
    return right;
}

const anemo_probe_form anemo_probe_forms_avx512vnni[] = {
    {.name = "int8_vnni_zmm",
     .ceiling = ANEMO_CEILING_INT8,
     .needs = ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VNNI,
     .compute = int8_vnni_zmm,
     .ops_per_iteration = 2 * 64 * CHAINS,
     .vectors_per_iteration = CHAINS},
    {.name = "int8_vnni_ymm",
     .ceiling = ANEMO_CEILING_INT8,
     .needs = ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VNNI,
     .compute = int8_vnni_ymm,
     .ops_per_iteration = 2 * 32 * CHAINS,
     .vectors_per_iteration = CHAINS},
    {.name = NULL},
};
