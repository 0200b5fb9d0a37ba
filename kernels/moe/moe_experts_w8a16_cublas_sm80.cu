/* moe_experts, very many rows: dequantise an expert's 8-bit weights in the workspace, matrix by
 * matrix, then cuBLAS (experts_cublas.cuh). */
#include "kernels/moe/experts_cublas.cuh"

GPU_EXPERTS_CUBLAS_VARIANT(moe_experts_w8a16_cublas_sm80, "w8_fragment", 8, 1, 2048,
                           "per expert: dequantise to bf16, then cuBLAS")
