/* 8-bit weights with two-level scales, e8m0 scales or groups of 16 times 8-bit activations, 6 x 32
 * tiles of vpdpbusd (tile_avx512vnni.h). */
#include "kernels/qgemm/qgemm_avx512vnni.h"

ANEMO_VNNI_VARIANT(qgemm_w8sa8_tile_avx512vnni, w8s, 8, g32, 32, "w8s_n32k4",
                   "u8 x s8 dot products, small scales and groups, one scale per 32 activations")
