/* Experts of float weights on AVX2: tiles of 2 x 32 or 6 x 16, 12 sums of 8 lanes at most
 * (experts_float.h). */
#include <immintrin.h>

#define LANES             8
#define TILE_SUMS         8
#define vec_broadcast(at) ((vec)_mm256_set1_ps(*(at)))
#define vec_fma(a, b, c)  ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define vec_from_f16(at)  ((vec)_mm256_cvtph_ps(_mm_loadu_si128((const void *)(at))))

#include "kernels/moe/experts_float.h"

ANEMO_EXPERTS_FLOAT(
    moe_experts_wfa32_fused_avx2, ANEMO_CPU_AVX2,
    "float weights as they are, tiles of 2x32 or 6x16, one task per expert and column slice")
