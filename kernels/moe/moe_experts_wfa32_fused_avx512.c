/* Experts of float weights on AVX-512: a 6 x 32 tile, 12 sums of 16 lanes (experts_float.h). */
#include <immintrin.h>

#define LANES             16
#define TILE_SUMS         12
#define vec_broadcast(at) ((vec)_mm512_set1_ps(*(at)))
#define vec_fma(a, b, c)  ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define vec_from_f16(at)  ((vec)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)(at))))

#include "kernels/moe/experts_float.h"

ANEMO_EXPERTS_FLOAT(moe_experts_wfa32_fused_avx512, ANEMO_CPU_AVX2 | ANEMO_CPU_AVX512,
                    "float weights as they are, 6x32 tile, one task per expert and column slice")
