/* 4-bit weights times 8-bit activations, 8 x 32 tiles of sdot (tile_neondot.h, around it
 * tile_neon.h). */
#include "kernels/qgemm/tile_neondot.h"

#include "kernels/qgemm/qgemm_neon.h"

ANEMO_NEON_TILE(4)
ANEMO_NEON_VARIANT(qgemm_w4a8g128_tile_neondot, 128, "w4_n32k8", 0,
                   "sdot by element, 8x32 tile, one scale per 128 activations")
ANEMO_NEON_VARIANT(qgemm_w4a8_tile_neondot, 32, "w4_n32k8", 0,
                   "sdot by element, 8x32 tile, one scale per 32 activations")
