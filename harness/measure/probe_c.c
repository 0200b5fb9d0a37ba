/* Ceilings in portable C: vector extensions of 16 bytes, which any 64-bit target has. */
#include "anemo_config.h"
#include "harness/measure/probe_form.h"

#if ANEMO_X86
#include <emmintrin.h>
#endif

#define VECTOR_BYTES    16
#define READ_NAME(form) read_c_##form
#include "harness/measure/probe_read.inc"

typedef float float4 __attribute__((vector_size(16)));
enum { CHAINS = 8 }; /* independent sums: latency times width of the units */

/* Multiply and add, apart: what a target without fused operations can do. */
static bool fp32_c(int64_t iterations) {
    float4 one = {1, 1, 1, 1}, s0 = {0}, s1 = one, s2 = s0, s3 = s1, s4 = s0, s5 = s1, s6 = s0,
           s7 = s1;
    ANEMO_OPAQUE(s0);
    for (int64_t i = 0; i < iterations; i++) {
        float4 x = one;
        ANEMO_OPAQUE(x);
        s0 += x * x, s1 += x * one, s2 += x * x, s3 += x * one;
        ANEMO_OPAQUE(x);
        s4 += x * x, s5 += x * one, s6 += x * x, s7 += x * one;
    }
    const float4 zeros = (s0 + s2 + s4 + s6), ones = (s1 + s3 + s5 + s7);
    const float n = 4 * (float)iterations;
    bool right = true;
    for (int i = 0; i < 4; i++) {
        right = right && zeros[i] == n && ones[i] == n + 4;
    }
    return right;
}

#if ANEMO_X86
/* pmaddwd: 8 products of 16 bits, added in pairs. The widest integer multiply of the baseline. */
static bool int8_sse2(int64_t iterations) {
    const __m128i three = _mm_set1_epi16(3);
    __m128i s[CHAINS];
    for (int c = 0; c < CHAINS; c++) {
        s[c] = _mm_set1_epi32(c);
    }
    for (int64_t i = 0; i < iterations; i++) {
        __m128i x = three;
#pragma GCC unroll 8
        for (int c = 0; c < CHAINS; c++) {
            ANEMO_OPAQUE(x);
            s[c] = _mm_add_epi32(s[c], _mm_madd_epi16(x, three));
        }
    }
    bool right = true;
    for (int c = 0; c < CHAINS; c++) {
        const __m128i must = _mm_set1_epi32(c + (int)(18 * iterations));
        right = right && _mm_movemask_epi8(_mm_cmpeq_epi32(s[c], must)) == 0xffff;
    }
    return right;
}
#endif

/* In general registers: their adder has a latency of one cycle everywhere. */
#define ADDS 32
static bool adds(int64_t iterations) {
    int64_t x = 0, one = 1;
    __asm__ volatile("" : "+r"(one));
    for (int64_t i = 0; i < iterations; i++) {
#pragma GCC unroll 32
        for (int a = 0; a < ADDS; a++) {
            x += one;
            __asm__ volatile("" : "+r"(x));
        }
    }
    return x == ADDS * iterations;
}

const anemo_probe_form anemo_probe_adds = {
    .name = "adds", .compute = adds, .ops_per_iteration = ADDS, .vectors_per_iteration = ADDS};

const anemo_probe_form anemo_probe_forms_c[] = {
    READ_FORMS("c", 0),
    {.name = "fp32_c",
     .ceiling = ANEMO_CEILING_FP32,
     .compute = fp32_c,
     .ops_per_iteration = 2 * 4 * CHAINS},
#if ANEMO_X86
    {.name = "int8_sse2",
     .ceiling = ANEMO_CEILING_INT8,
     .compute = int8_sse2,
     .ops_per_iteration = 2 * 8 * CHAINS},
#endif
    {.name = NULL},
};
