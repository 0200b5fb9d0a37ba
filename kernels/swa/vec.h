/* What vec_avx2.h and vec_avx512.h share. */
#ifndef ANEMO_SWA_VEC_H
#define ANEMO_SWA_VEC_H

#include "anemo_config.h"
#include "kernels/kernel.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

/* Unless loops over constants unroll, the sums live in memory instead of registers. Under the
 * sanitizers that does not matter, and compiling is quicker. */
#if ANEMO_SANITIZE
#define SWA_INLINE static __attribute__((noinline, unused))
#define SWA_UNROLL
#elif defined __clang__
#define SWA_INLINE static inline __attribute__((always_inline))
#define SWA_UNROLL _Pragma("unroll")
#else
#define SWA_INLINE static inline __attribute__((always_inline))
#define SWA_UNROLL _Pragma("GCC unroll 16")
#endif

/* 2^f on [-1/2, 1/2]: 1 + f g(f), g through the Chebyshev points of (2^f - 1) / f; relative error
 * 5e-9. C(x) makes a vector of a number, FMA(a, b, c) is a b + c. */
#define SWA_EXP2_FRACTION(y, f, FMA, C)                                                            \
    do {                                                                                           \
        (y) = C(0x1.441388p-13f);                                                                  \
        (y) = FMA((y), (f), C(0x1.5f0890p-10f));                                                   \
        (y) = FMA((y), (f), C(0x1.3b2a54p-7f));                                                    \
        (y) = FMA((y), (f), C(0x1.c6af6cp-5f));                                                    \
        (y) = FMA((y), (f), C(0x1.ebfbe0p-3f));                                                    \
        (y) = FMA((y), (f), C(0x1.62e430p-1f));                                                    \
        (y) = FMA((y), (f), C(1.0f));                                                              \
    } while (0)

#endif
