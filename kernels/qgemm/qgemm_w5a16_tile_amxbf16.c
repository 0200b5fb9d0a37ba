/* 5-bit weights (Q5_0, Q5_1, Q5_K) times bf16 activations, 32 x 32 tiles of AMX (tile_amxbf16.h).
 */
#include "kernels/qgemm/tile_amxbf16.h"

ANEMO_AMX_BF16_FORM(5)
ANEMO_N32_VARIANT(qgemm_w5a16_tile_amxbf16, form, bf16, ANEMO_AMX_BF16_NEEDS, "w5_n32k8",
                  ANEMO_AMX_BF16_FROM,
                  "5-bit weights rounded to bf16 once per chunk, bf16 matrix tiles, 32x32")
