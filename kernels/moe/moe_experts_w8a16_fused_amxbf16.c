/* Experts of 8-bit weights on bf16 activations, in matrix tiles (experts_fused_amxbf16.h). */
#include "kernels/qgemm/tile_amxbf16.h"

#define EXPERTS_AMX_PUT(to, low, high) _mm512_storeu_si512(to, codes16_x_of(low, high))
#include "kernels/moe/experts_fused_amxbf16.h"

ANEMO_AMX_BF16_FORM(8)
ANEMO_EXPERTS_AMX_BF16(
    moe_experts_w8a16_fused_amxbf16, form, bf16, ANEMO_TRAIT_ROW_INVARIANT,
    anemo_moe_experts_accepts, "w8_n32k4", 64,
    "bf16 matrix tiles, one task per expert and column slice, rows gathered once")
