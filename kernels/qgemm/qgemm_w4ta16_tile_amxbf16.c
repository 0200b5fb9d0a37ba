/* 4-bit codes of a 16-entry table (IQ4_NL, MXFP4, NF4) times bf16 activations, 32 x 32 tiles of AMX
 * (tile_amxbf16.h). */
#include "kernels/qgemm/tile_amxbf16.h"

ANEMO_AMX_BF16_FORM(VNNI_TABLE)
ANEMO_N32_VARIANT(qgemm_w4ta16_tile_amxbf16, form, bf16, ANEMO_AMX_BF16_NEEDS, "w4t_n32k8",
                  ANEMO_AMX_BF16_FROM,
                  "table codes rounded to bf16 once per chunk, bf16 matrix tiles, 32x32")
