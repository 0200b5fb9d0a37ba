/* Arithmetic of AVX512-FP16 on vectors of 32 f16, as assembly: compilers know it from GCC 12 on,
 * assemblers from binutils 2.38, and only a handful of it is needed. Subnormal numbers are taken
 * and given as they are.
 *
 * Source: Intel AVX512-FP16 Architecture Specification. */
#ifndef ANEMO_FP16_AVX512_H
#define ANEMO_FP16_AVX512_H

#include <immintrin.h>

static inline __m512i fp16_mul(__m512i a, __m512i b) {
    __asm__("vmulph %2, %1, %0" : "=v"(a) : "v"(a), "v"(b));
    return a;
}

static inline __m512i fp16_sub(__m512i a, __m512i b) {
    __asm__("vsubph %2, %1, %0" : "=v"(a) : "v"(a), "v"(b));
    return a;
}

/* a b - c, rounded once. */
static inline __m512i fp16_fmsub(__m512i a, __m512i b, __m512i c) {
    __asm__("vfmsub213ph %2, %1, %0" : "+v"(a) : "v"(b), "v"(c));
    return a;
}

/* Of unsigned integers. */
static inline __m512i fp16_of_u16(__m512i a) {
    __asm__("vcvtuw2ph %1, %0" : "=v"(a) : "v"(a));
    return a;
}

#endif
