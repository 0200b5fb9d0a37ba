/* moe_experts, very many rows: dequantise an expert's 8-bit weights in the workspace while cuBLAS
 * multiplies the matrix before it (experts_cublas.cuh). */
#include "kernels/moe/experts_cublas.cuh"

GPU_EXPERTS_CUBLAS_VARIANT(moe_experts_w8a16_overlap_sm80, "w8_fragment", 8, 2, 2048,
                           "per expert: dequantise to bf16 beside cuBLAS, on a second stream")
