/* qgemm, many rows, Hopper alone: bf16 weights from the fragment layout, bf16 activations
 * (wgmma.cuh). */
#include "kernels/qgemm/variant.cuh"
#include "kernels/qgemm/wgmma.cuh"

GPU_QGEMM_VARIANT_FOR(90, 90, qgemm_w16a16_wgmma_sm90, "w16_fragment", 0, 32,
                      "wgmma with weights in registers, stream-K", gpu::wgmma_workspace,
                      gpu::wgmma_run<16>)
