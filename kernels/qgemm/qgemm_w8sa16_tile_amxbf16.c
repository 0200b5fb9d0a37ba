/* 8-bit weights with two-level scales, e8m0 scales or groups of 16 times bf16 activations, 32 x 32
 * tiles of AMX (tile_amxbf16.h). */
#include "kernels/qgemm/tile_amxbf16.h"

ANEMO_AMX_BF16_FORM(8)
ANEMO_N32_VARIANT(
    qgemm_w8sa16_tile_amxbf16, form, bf16, ANEMO_AMX_BF16_NEEDS, "w8s_n32k4", ANEMO_AMX_BF16_FROM,
    "weights of small scales and groups rounded to bf16 once per chunk, bf16 matrix tiles")
