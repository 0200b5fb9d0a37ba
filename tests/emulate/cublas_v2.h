/* Stands in for cuBLAS: the product, as its documentation defines it. */
#ifndef ANEMO_EMULATE_CUBLAS_H
#define ANEMO_EMULATE_CUBLAS_H

#include "kernels/internal.h"

using cublasHandle_t = void *;
enum cublasStatus_t { CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_INVALID_VALUE };
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cudaDataType { CUDA_R_32F, CUDA_R_16BF };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F };
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT };

/* C[m, n] = alpha op(A)[m, k] op(B)[k, n] + beta C in columns ld apart. Only what the kernels ask
 * for: bf16 operands, A transposed, float result. C is not read when beta is 0. */
inline cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b,
                                   int m, int n, int k, const float *alpha, const void *a,
                                   cudaDataType type_a, int lda, const void *b, cudaDataType type_b,
                                   int ldb, const float *beta, void *c, cudaDataType type_c,
                                   int ldc, cublasComputeType_t, cublasGemmAlgo_t) {
    const auto *x = static_cast<const uint16_t *>(a), *y = static_cast<const uint16_t *>(b);
    auto *z = static_cast<float *>(c);
    if (op_a != CUBLAS_OP_T || op_b != CUBLAS_OP_N || type_a != CUDA_R_16BF ||
        type_b != CUDA_R_16BF || type_c != CUDA_R_32F || lda < k || ldb < k || ldc < m) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = 0; i < m; i++) {
            float sum = 0;
            for (int64_t l = 0; l < k; l++) {
                sum += anemo_f32_from_bf16(x[i * lda + l]) * anemo_f32_from_bf16(y[j * ldb + l]);
            }
            float *at = z + j * ldc + i;
            *at = *beta == 0 ? *alpha * sum : *alpha * sum + *beta * *at;
        }
    }
    return CUBLAS_STATUS_SUCCESS;
}

#endif
