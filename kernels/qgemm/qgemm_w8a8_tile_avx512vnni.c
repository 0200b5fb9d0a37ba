/* 8-bit weights (stored unsigned, as their codes are) times 8-bit activations, 6 x 32 tiles of
 * vpdpbusd (tile_avx512vnni.h). */
#include "kernels/qgemm/qgemm_avx512vnni.h"

ANEMO_VNNI_VARIANT(qgemm_w8a8_tile_avx512vnni, w8, 8, g32, 32, "w8_n32k4",
                   "u8 x s8 dot products, 6x32 tile, one scale per 32 activations")
ANEMO_VNNI_VARIANT(qgemm_w8a8g128_tile_avx512vnni, w8g128, 8, g128, 128, "w8_n32k4",
                   "u8 x s8 dot products, 6x32 tile, one scale per 128 activations")
ANEMO_VNNI_VARIANT(qgemm_w8a8row_tile_avx512vnni, w8row, 8, row, 0, "w8_n32k4",
                   "u8 x s8 dot products, 6x32 tile, one scale per row of activations")
