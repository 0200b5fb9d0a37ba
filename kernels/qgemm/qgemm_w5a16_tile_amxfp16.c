/* 5-bit weights (Q5_0, Q5_1, Q5_K) times f16 activations, 32 x 32 tiles of AMX (tile_amxfp16.h).
 */
#include "kernels/qgemm/tile_amxfp16.h"

ANEMO_AMX_FP16_FORM(5)
ANEMO_N32_VARIANT(qgemm_w5a16_tile_amxfp16, form, f16_row, ANEMO_AMX_FP16_NEEDS, "w5_n32k8",
                  ANEMO_AMX_FP16_FROM_OTHER,
                  "5-bit weights rounded to f16 as they are read, f16 matrix tiles, 32x32")
