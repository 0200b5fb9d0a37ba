/* 5-bit weights (Q5_0, Q5_1, Q5_K) times 8-bit activations, 6 x 32 tiles of vpdpbusd
 * (tile_avx512vnni.h): nibbles as with 4 bits, and a fifth bit by shift and ternary logic. */
#include "kernels/qgemm/qgemm_avx512vnni.h"

ANEMO_VNNI_VARIANT(qgemm_w5a8_tile_avx512vnni, w5, 5, g32, 32, "w5_n32k8",
                   "u5 x s8 dot products, 6x32 tile, one scale per 32 activations")
