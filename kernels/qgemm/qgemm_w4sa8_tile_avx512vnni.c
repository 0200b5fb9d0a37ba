/* 4-bit weights with two-level scales (Q4_K), e8m0 scales or groups of 16 times 8-bit activations,
 * 6 x 32 tiles of vpdpbusd (tile_avx512vnni.h). */
#include "kernels/qgemm/qgemm_avx512vnni.h"

ANEMO_VNNI_VARIANT(qgemm_w4sa8_tile_avx512vnni, w4s, 4, g32, 32, "w4s_n32k8",
                   "u4 x s8 dot products, small scales and groups, one scale per 32 activations")
