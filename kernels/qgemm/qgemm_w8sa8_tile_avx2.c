/* 8-bit weights with two-level scales, e8m0 scales or groups of 16 times 8-bit activations, 6 x 16
 * tiles of vpmaddwd (tile_small_avx2.h). */
#include "kernels/qgemm/qgemm_avx2.h"

ANEMO_AVX2_SMALL_VARIANT(qgemm_w8sa8_tile_avx2, w8s, 8, "w8s_n32k4",
                         "u8 x s8 as words, small scales and groups, one scale per 32 activations")
