/* 8-bit weights times 8-bit activations, 16 x 16 tiles of AMX (tile_amxint8.h). */
#include "kernels/qgemm/tile_amxint8.h"

ANEMO_AMX_VARIANT(qgemm_w8a8_tile_amxint8, 8, g32, 32, "w8_n32k4",
                  "s8 x s8 matrix tiles, 16x16, one scale per 32 activations")
ANEMO_AMX_VARIANT(qgemm_w8a8g128_tile_amxint8, 8, g128, 128, "w8_n32k4",
                  "s8 x s8 matrix tiles, 16x16, one scale per 128 activations")
ANEMO_AMX_VARIANT(qgemm_w8a8row_tile_amxint8, 8, row, 0, "w8_n32k4",
                  "s8 x s8 matrix tiles, 16x16, one scale per row of activations")
