/* moe_experts, very many rows: dequantise an expert's 4-bit weights in the workspace, matrix by
 * matrix, then cuBLAS (experts_cublas.cuh). */
#include "kernels/moe/experts_cublas.cuh"

GPU_EXPERTS_CUBLAS_VARIANT(moe_experts_w4a16_cublas_sm80, "w4_fragment", 4, 1, 2048,
                           "per expert: dequantise to bf16, then cuBLAS")
