/* moe_experts, very many rows: put an expert's bf16 weights in rows in the workspace, matrix by
 * matrix, then cuBLAS (experts_cublas.cuh). */
#include "kernels/moe/experts_cublas.cuh"

GPU_EXPERTS_CUBLAS_VARIANT(moe_experts_w16a16_cublas_sm80, "w16_fragment", 16, 1, 2048,
                           "per expert: rows out of fragments, then cuBLAS")
