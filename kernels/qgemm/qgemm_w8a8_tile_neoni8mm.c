/* 8-bit weights times 8-bit activations, 8 x 32 tiles of usmmla (tile_neoni8mm.h, around it
 * tile_neon.h). */
#include "kernels/qgemm/tile_neoni8mm.h"

#include "kernels/qgemm/qgemm_neon.h"

ANEMO_NEON_TILE(8)
ANEMO_NEON_VARIANT(qgemm_w8a8g128_tile_neoni8mm, 128, "w8_n32k4", 2,
                   "usmmla, two rows at a time, 8x32 tile, one scale per 128 activations")
ANEMO_NEON_VARIANT(qgemm_w8a8_tile_neoni8mm, 32, "w8_n32k4", 2,
                   "usmmla, two rows at a time, 8x32 tile, one scale per 32 activations")
