/* Stands in for cuBLAS: the product, as its documentation defines it. */
#ifndef ANEMO_EMULATED_CUBLAS_H
#define ANEMO_EMULATED_CUBLAS_H

#include "kernels/internal.h"

#include <cuda_runtime.h>

using cublasHandle_t = void *;
enum cublasStatus_t {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_NOT_INITIALIZED = 1,
    CUBLAS_STATUS_INVALID_VALUE = 7,
    CUBLAS_STATUS_NOT_SUPPORTED = 15
};
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cudaDataType { CUDA_R_32F, CUDA_R_16BF, CUDA_R_8I, CUDA_R_32I };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32I };
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT };

namespace emulated {
extern int multiprocessors_for_cublas; /* 0: all */
} // namespace emulated

/* How many multiprocessors cuBLAS should reckon with; 0: all. */
inline cublasStatus_t cublasSetSmCountTarget(cublasHandle_t handle, int target) {
    if (handle == nullptr) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    if (target < 0) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    emulated::multiprocessors_for_cublas = target;
    return CUBLAS_STATUS_SUCCESS;
}

/* C[m, n] = alpha op(A)[m, k] op(B)[k, n] + beta C in columns ld apart, on the device's own stream.
 * Only what the kernels ask for: bf16 operands, A transposed, float result, and scalars of the
 * host, read at the call. C is not read when beta is 0. */
inline cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a,
                                   cublasOperation_t op_b, int m, int n, int k, const float *alpha,
                                   const void *a, cudaDataType type_a, int lda, const void *b,
                                   cudaDataType type_b, int ldb, const float *beta, void *c,
                                   cudaDataType type_c, int ldc, cublasComputeType_t,
                                   cublasGemmAlgo_t) {
    if (handle == nullptr) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    if (op_a != CUBLAS_OP_T || op_b != CUBLAS_OP_N || type_a != CUDA_R_16BF ||
        type_b != CUDA_R_16BF || type_c != CUDA_R_32F || m < 0 || n < 0 || k < 0 || lda < k ||
        ldb < k || ldc < m) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    emulated::in_stream(nullptr, [=, factor = *alpha, keep = *beta] {
        const auto *x = static_cast<const uint16_t *>(a), *y = static_cast<const uint16_t *>(b);
        auto *z = static_cast<float *>(c);
        for (int64_t j = 0; j < n; j++) {
            for (int64_t i = 0; i < m; i++) {
                float sum = 0;
                for (int64_t l = 0; l < k; l++) {
                    sum +=
                        anemo_f32_from_bf16(x[i * lda + l]) * anemo_f32_from_bf16(y[j * ldb + l]);
                }
                float *at = z + j * ldc + i;
                *at = keep == 0 ? factor * sum : factor * sum + keep * *at;
            }
        }
    });
    return CUBLAS_STATUS_SUCCESS;
}

#endif
