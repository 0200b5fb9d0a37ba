/* qgemm, few rows: 4-bit weights from the fragment layout, bf16 activations (gemv.cuh). */
#include "kernels/qgemm/gemv.cuh"
#include "kernels/qgemm/variant.cuh"

GPU_QGEMM_VARIANT(qgemm_w4a16_gemv_sm80, "w4_fragment", ANEMO_TRAIT_ROW_INVARIANT, 0,
                  "8 tokens per pass, warps split k, no locks", gpu::gemv_workspace,
                  gpu::gemv_run<4>)
