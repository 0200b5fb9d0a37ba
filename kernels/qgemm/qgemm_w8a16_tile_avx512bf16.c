/* 8-bit weights times bf16 activations, 6 x 32 tiles of vdpbf16ps (tile_avx512bf16.h). */
#include "kernels/qgemm/tile_avx512bf16.h"

ANEMO_BF16_VARIANT(qgemm_w8a16_tile_avx512bf16, 8, "w8_n32k4",
                   "exact codes in bf16 dot products, 6x32 tile, scaled per group")
