/* 4-bit codes of a 16-entry table (IQ4_NL, MXFP4, NF4) times 8-bit activations, 6 x 16 tiles of
 * vpmaddwd (tile_small_avx2.h): vpshufb looks the nibbles up, in the table plus 128. */
#include "kernels/qgemm/qgemm_avx2.h"

ANEMO_AVX2_SMALL_VARIANT(qgemm_w4ta8_tile_avx2, w4t, AVX2_TABLE, "w4t_n32k8",
                         "table codes by vpshufb, as words, one scale per 32 activations")
