/* 6-bit weights (Q6_K) times 8-bit activations, 6 x 16 tiles of vpmaddubsw with 16-bit sums of 8
 * columns (tile_small_avx2.h). */
#include "kernels/qgemm/qgemm_avx2.h"

ANEMO_AVX2_SMALL_VARIANT(qgemm_w6a8_tile_avx2, w6, 6, "w6_n32k8",
                         "u6 x s8 in 16-bit sums of 8 columns, one scale per 32 activations")
