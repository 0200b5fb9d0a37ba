/* 4-bit codes of a 16-entry table (IQ4_NL, MXFP4, NF4) times f16 activations, 32 x 32 tiles of AMX
 * (tile_amxfp16.h). */
#include "kernels/qgemm/tile_amxfp16.h"

ANEMO_AMX_FP16_FORM(VNNI_TABLE)
ANEMO_N32_VARIANT(qgemm_w4ta16_tile_amxfp16, form, f16_row, ANEMO_AMX_FP16_NEEDS, "w4t_n32k8",
                  ANEMO_AMX_FP16_FROM_OTHER,
                  "table codes rounded to f16 as they are read, f16 matrix tiles, 32x32")
