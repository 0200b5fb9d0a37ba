/* 4-bit weights with two-level scales (Q4_K), e8m0 scales or groups of 16 times 8-bit activations,
 * 6 x 16 tiles of vpmaddubsw with 16-bit sums (tile_small_avx2.h). */
#include "kernels/qgemm/qgemm_avx2.h"

ANEMO_AVX2_SMALL_VARIANT(qgemm_w4sa8_tile_avx2, w4s, 4, "w4s_n32k8",
                         "u4 x s8 in 16-bit sums, small scales and groups, one scale per 32 "
                         "activations")
