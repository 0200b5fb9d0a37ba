/* 4-bit weights times 8-bit activations, 6 x 32 tiles of vpdpbusd (tile_avx512vnni.h). The same
 * code serves decode, where it reads the weights at memory speed, and prefill. */
#include "kernels/qgemm/qgemm_avx512vnni.h"

ANEMO_VNNI_VARIANT(qgemm_w4a8_tile_avx512vnni, w4, 4, g32, 32, "w4_n32k8",
                   "u4 x s8 dot products, 6x32 tile, one scale per 32 activations")
ANEMO_VNNI_VARIANT(qgemm_w4a8g128_tile_avx512vnni, w4g128, 4, g128, 128, "w4_n32k8",
                   "u4 x s8 dot products, 6x32 tile, one scale per 128 activations")
ANEMO_VNNI_VARIANT(qgemm_w4a8row_tile_avx512vnni, w4row, 4, row, 0, "w4_n32k8",
                   "u4 x s8 dot products, 6x32 tile, one scale per row of activations")
