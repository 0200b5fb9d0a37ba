/* Experts of 4-bit weights on 8-bit activations (experts_fused_avx512vnni.h). h is coded as x is,
 * one scale per 32 or per 128 hidden units. */
#include "kernels/moe/experts_fused_avx512vnni.h"

ANEMO_EXPERTS_FUSED(moe_experts_w4a8_fused_avx512vnni, 4, 32, "w4_n32k8",
                    "u4 x s8 tiles, one task per expert and column slice, h coded in the task")
ANEMO_EXPERTS_FUSED(moe_experts_w4a8g128_fused_avx512vnni, 4, 128, "w4_n32k8",
                    "the same, one scale per 128 activations")
