/* moe_experts for any number of tokens: 8-bit weights from the fragment layout, bf16 activations
 * (moe_experts_grouped.cuh). */
#include "kernels/moe/moe_experts_grouped.cuh"

GPU_MOE_EXPERTS_GROUPED(moe_experts_w8a16_grouped_sm80, 8, "w8_fragment",
                        "mma.sync tiles of 8 to 64 rows, balanced from the plan on the device")
