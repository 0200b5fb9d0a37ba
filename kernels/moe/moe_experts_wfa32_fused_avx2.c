/* Experts of float weights on AVX2: a 3 x 32 tile, 12 sums of 8 lanes (experts_float.h). A fourth
 * row would leave no register for the weights. */
#include <immintrin.h>

enum { TILE_ROWS = 3 };
#define LANES             8
#define vec_broadcast(at) ((vec)_mm256_set1_ps(*(at)))
#define vec_fma(a, b, c)  ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define vec_from_f16(at)  ((vec)_mm256_cvtph_ps(_mm_loadu_si128((const void *)(at))))

#include "kernels/moe/experts_float.h"

static void tile_of_code(anemo_code code, int64_t mr, const float_tile *t, float out[][COLUMNS]) {
    switch (mr) {
        TILE_CASE(1)
        TILE_CASE(2)
        TILE_CASE(3)
    }
}

ANEMO_EXPERTS_FLOAT(moe_experts_wfa32_fused_avx2, ANEMO_CPU_AVX2,
                    "float weights as they are, 3x32 tile, one task per expert and column slice")
