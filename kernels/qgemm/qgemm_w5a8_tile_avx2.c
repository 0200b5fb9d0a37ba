/* 5-bit weights (Q5_0, Q5_1, Q5_K) times 8-bit activations, 6 x 16 tiles of vpmaddubsw with 16-bit
 * sums of 16 columns (tile_small_avx2.h). */
#include "kernels/qgemm/qgemm_avx2.h"

ANEMO_AVX2_SMALL_VARIANT(qgemm_w5a8_tile_avx2, w5, 5, "w5_n32k8",
                         "u5 x s8 in 16-bit sums of 16 columns, one scale per 32 activations")
