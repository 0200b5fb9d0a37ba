/* 6-bit weights (Q6_K) times 8-bit activations, 6 x 32 tiles of vpdpbusd (tile_avx512vnni.h): three
 * vectors are the low six bits of three, and their high bits the fourth. */
#include "kernels/qgemm/qgemm_avx512vnni.h"

ANEMO_VNNI_VARIANT(qgemm_w6a8_tile_avx512vnni, w6, 6, g32, 32, "w6_n32k8",
                   "u6 x s8 dot products, 6x32 tile, one scale per 32 activations")
