/* 8-bit weights (stored unsigned, as their codes are) times 8-bit activations, 6 x 16 tiles of
 * vpmaddwd on words (tile_avx2.h); one row as two digits by vpmaddubsw (gemv_avx2.h). */
#include "kernels/qgemm/qgemm_avx2.h"

ANEMO_AVX2_VARIANT(qgemm_w8a8_tile_avx2, w8, 8, 32, "w8_n32k4",
                   "bytes widened to words, 6x16 tile, one scale per 32 activations")
ANEMO_AVX2_VARIANT(qgemm_w8a8g128_tile_avx2, w8g128, 8, 128, "w8_n32k4",
                   "bytes widened to words, 6x16 tile, one scale per 128 activations")
