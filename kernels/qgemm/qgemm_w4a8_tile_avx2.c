/* 4-bit weights times 8-bit activations, 6 x 16 tiles of vpmaddubsw with 16-bit sums (tile_avx2.h);
 * one row, where the memory is the limit, reads three streams (gemv_avx2.h). */
#include "kernels/qgemm/qgemm_avx2.h"

ANEMO_AVX2_VARIANT(qgemm_w4a8_tile_avx2, w4, 4, 32, "w4_n32k8",
                   "u4 x s8 in 16-bit sums, 6x16 tile, one scale per 32 activations")
ANEMO_AVX2_VARIANT(qgemm_w4a8g128_tile_avx2, w4g128, 4, 128, "w4_n32k8",
                   "u4 x s8 in 16-bit sums, 6x16 tile, one scale per 128 activations")
