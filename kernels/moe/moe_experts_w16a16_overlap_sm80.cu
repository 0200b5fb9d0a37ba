/* moe_experts, very many rows: put an expert's bf16 weights in rows in the workspace while cuBLAS
 * multiplies the matrix before it (experts_cublas.cuh). */
#include "kernels/moe/experts_cublas.cuh"

GPU_EXPERTS_CUBLAS_VARIANT(moe_experts_w16a16_overlap_sm80, "w16_fragment", 16, 2, 2048,
                           "per expert: rows out of fragments beside cuBLAS, on a second stream")
