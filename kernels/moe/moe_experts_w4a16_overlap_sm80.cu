/* moe_experts, very many rows: dequantise an expert's 4-bit weights in the workspace while cuBLAS
 * multiplies the matrix before it (experts_cublas.cuh). */
#include "kernels/moe/experts_cublas.cuh"

GPU_EXPERTS_CUBLAS_VARIANT(moe_experts_w4a16_overlap_sm80, "w4_fragment", 4, 2, 2048,
                           "per expert: dequantise to bf16 beside cuBLAS, on a second stream")
