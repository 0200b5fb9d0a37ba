/* Stands in for cuBLASLt: descriptions, the choice of an algorithm and the product, for what the
 * kernels ask: int8 operands, int32 sums, plain column order. What its manual demands
 * (cublasLtMatmul, "to use IMMA kernels") is demanded here, and 17 tokens, below which PyTorch
 * found none. The chosen algorithm takes workspace and spoils it, and is refused for any other
 * problem. */
#ifndef ANEMO_EMULATED_CUBLASLT_H
#define ANEMO_EMULATED_CUBLASLT_H

#include <cublas_v2.h>

using cublasLtHandle_t = void *;

/* ---------------------------------------------------------------- descriptions */

struct cublasLtMatmulDescOpaque_t {
    cublasComputeType_t compute;
    cudaDataType scale;
    cublasOperation_t op_a, op_b;
};
struct cublasLtMatrixLayoutOpaque_t {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
    bool operator==(const cublasLtMatrixLayoutOpaque_t &) const = default;
};
struct cublasLtMatmulPreferenceOpaque_t {
    size_t workspace_bytes;
    uint32_t alignment[4]; /* of A, B, C, D */
};
using cublasLtMatmulDesc_t = cublasLtMatmulDescOpaque_t *;
using cublasLtMatrixLayout_t = cublasLtMatrixLayoutOpaque_t *;
using cublasLtMatmulPreference_t = cublasLtMatmulPreferenceOpaque_t *;

enum cublasLtMatmulDescAttributes_t { CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB };
enum cublasLtMatmulPreferenceAttributes_t {
    CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES
};

inline cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t desc, cublasComputeType_t compute,
                                             cudaDataType scale) {
    *desc = {compute, scale, CUBLAS_OP_N, CUBLAS_OP_N};
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                                     cublasLtMatmulDescAttributes_t attribute,
                                                     const void *value, size_t bytes) {
    if (value == nullptr || bytes != sizeof(cublasOperation_t)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    memcpy(attribute == CUBLASLT_MATMUL_DESC_TRANSA ? &desc->op_a : &desc->op_b, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType type,
                                               uint64_t rows, uint64_t cols, int64_t ld) {
    *layout = {type, rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t preference) {
    *preference = {0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t
cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                     cublasLtMatmulPreferenceAttributes_t attribute,
                                     const void *value, size_t bytes) {
    const bool workspace = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
    if (value == nullptr || bytes != (workspace ? sizeof(size_t) : sizeof(uint32_t))) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    void *to = &preference->workspace_bytes;
    if (!workspace) {
        to = &preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES];
    }
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

/* ---------------------------------------------------------------- the choice */

struct cublasLtMatmulAlgo_t {
    cublasLtMatrixLayoutOpaque_t a, b, c, d; /* of the problem for which it was chosen */
    uint32_t alignment[4];
    size_t workspace_bytes;
};

struct cublasLtMatmulHeuristicResult_t {
    cublasLtMatmulAlgo_t algo;
    size_t workspaceSize;
    cublasStatus_t state;
    float wavesCount;
};

namespace emulated {

constexpr size_t LT_WORKSPACE_BYTES = 4096; /* of the one algorithm, if so much is allowed */

/* D[m, n] = op(A) op(B): impossible, beyond the library, or fine. */
inline cublasStatus_t lt_problem(const cublasLtMatmulDescOpaque_t &desc,
                                 const cublasLtMatrixLayoutOpaque_t &a,
                                 const cublasLtMatrixLayoutOpaque_t &b,
                                 const cublasLtMatrixLayoutOpaque_t &c,
                                 const cublasLtMatrixLayoutOpaque_t &d) {
    const bool a_turned = desc.op_a == CUBLAS_OP_T, b_turned = desc.op_b == CUBLAS_OP_T;
    const uint64_t m = a_turned ? a.cols : a.rows, k = a_turned ? a.rows : a.cols;
    const uint64_t n = b_turned ? b.rows : b.cols, b_k = b_turned ? b.cols : b.rows;
    if (k != b_k || d.rows != m || d.cols != n || c.rows != m || c.cols != n || c.type != d.type ||
        a.ld < (int64_t)a.rows || b.ld < (int64_t)b.rows || c.ld < (int64_t)c.rows ||
        d.ld < (int64_t)d.rows || m == 0 || n == 0 || k == 0) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    const bool integers = desc.compute == CUBLAS_COMPUTE_32I && desc.scale == CUDA_R_32I &&
                          a.type == CUDA_R_8I && b.type == CUDA_R_8I && d.type == CUDA_R_32I;
    const bool fours = (m | k | a.ld | b.ld | c.ld | d.ld) % 4 == 0;
    return integers && a_turned && !b_turned && fours && n > 16 ? CUBLAS_STATUS_SUCCESS
                                                                : CUBLAS_STATUS_NOT_SUPPORTED;
}

inline bool lt_aligned(const void *at, uint32_t bytes) {
    return at != nullptr && reinterpret_cast<uintptr_t>(at) % bytes == 0;
}

} // namespace emulated

inline cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                               cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                               cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                               cublasLtMatmulPreference_t preference, int requested,
                               cublasLtMatmulHeuristicResult_t *results, int *returned) {
    *returned = 0;
    if (handle == nullptr) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    if (requested < 1) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    const cublasStatus_t status = emulated::lt_problem(*desc, *a, *b, *c, *d);
    const uint32_t *alignment = preference->alignment;
    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    if (((alignment[0] | alignment[1] | alignment[2] | alignment[3]) & 3) != 0) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    const size_t bytes = preference->workspace_bytes < emulated::LT_WORKSPACE_BYTES
                             ? 0
                             : emulated::LT_WORKSPACE_BYTES;
    results[0] = {{*a, *b, *c, *d, {alignment[0], alignment[1], alignment[2], alignment[3]}, bytes},
                  bytes,
                  CUBLAS_STATUS_SUCCESS,
                  1.0f};
    *returned = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---------------------------------------------------------------- the product */

/* D = alpha A^T B + beta C in the stream's order; scalars of the host, read at the call; C is not
 * read when beta is 0. No algorithm (the library would choose one) is refused: the kernels choose.
 */
inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                     const void *alpha, const void *a, cublasLtMatrixLayout_t a_is,
                                     const void *b, cublasLtMatrixLayout_t b_is, const void *beta,
                                     const void *c, cublasLtMatrixLayout_t c_is, void *d,
                                     cublasLtMatrixLayout_t d_is, const cublasLtMatmulAlgo_t *algo,
                                     void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    if (handle == nullptr) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    const cublasStatus_t status = emulated::lt_problem(*desc, *a_is, *b_is, *c_is, *d_is);
    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    int32_t factor, keep;
    memcpy(&factor, alpha, sizeof factor);
    memcpy(&keep, beta, sizeof keep);
    if (algo == nullptr || algo->a != *a_is || algo->b != *b_is || algo->c != *c_is ||
        algo->d != *d_is || !emulated::lt_aligned(a, algo->alignment[0]) ||
        !emulated::lt_aligned(b, algo->alignment[1]) ||
        !emulated::lt_aligned(c, algo->alignment[2]) ||
        !emulated::lt_aligned(d, algo->alignment[3]) || workspace_bytes < algo->workspace_bytes ||
        (algo->workspace_bytes > 0 && !emulated::lt_aligned(workspace, 256))) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if ((factor | 1) != 1 || (keep | 1) != 1) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    emulated::in_stream(
        stream, [=, w = *a_is, x = *b_is, old = *c_is, y = *d_is, spoilt = algo->workspace_bytes] {
            const auto *p = static_cast<const int8_t *>(a), *q = static_cast<const int8_t *>(b);
            memset(workspace, 0xff, spoilt);
            for (uint64_t j = 0; j < y.cols; j++) {
                for (uint64_t i = 0; i < y.rows; i++) {
                    int32_t sum = 0;
                    for (uint64_t l = 0; l < w.rows; l++) {
                        sum += p[i * w.ld + l] * q[j * x.ld + l];
                    }
                    const int32_t before =
                        keep == 0 ? 0 : static_cast<const int32_t *>(c)[j * old.ld + i];
                    static_cast<int32_t *>(d)[j * y.ld + i] = factor * sum + before;
                }
            }
        });
    return CUBLAS_STATUS_SUCCESS;
}

#endif
