/* qgemm, very many rows: dequantise a part's weights to bf16 in the workspace, row by row, then
 * cuBLAS (dequantise.cuh). */
#include "kernels/qgemm/dequantise.cuh"
#include "kernels/qgemm/variant.cuh"

GPU_QGEMM_VARIANT(qgemm_w8a16_cublas_sm80, "w8_fragment", 0, 1024,
                  "dequantise to bf16, then cuBLAS", gpu::dequantise_workspace,
                  gpu::dequantise_run<8>)
