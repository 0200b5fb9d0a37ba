/* qgemm, very many rows: put a part's bf16 weights in rows in the workspace, then
 * cuBLAS (dequantise.cuh). */
#include "kernels/qgemm/dequantise.cuh"
#include "kernels/qgemm/variant.cuh"

GPU_QGEMM_VARIANT(qgemm_w16a16_cublas_sm80, "w16_fragment", 0, 1024,
                  "rows out of fragments, then cuBLAS", gpu::dequantise_workspace,
                  gpu::dequantise_run<16>)
