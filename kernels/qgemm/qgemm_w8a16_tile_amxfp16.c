/* 8-bit weights times f16 activations, 32 x 32 tiles of AMX (tile_amxfp16.h). */
#include "kernels/qgemm/tile_amxfp16.h"

ANEMO_AMX_FP16_FORM(8)
ANEMO_N32_VARIANT(qgemm_w8a16_tile_amxfp16, form, f16_row, ANEMO_AMX_FP16_NEEDS, "w8_n32k4",
                  ANEMO_AMX_FP16_FROM,
                  "weights rounded to f16 as they are read, f16 matrix tiles, 32x32")
