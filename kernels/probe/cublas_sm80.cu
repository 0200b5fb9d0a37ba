/* The matrix peak as the vendor's library reaches it: C = A B^T of square bf16 matrices with float
 * sums, size by size, by cuBLAS. On sm_90 it uses wgmma, which mma.sync (arithmetic_sm80.cu) cannot
 * keep up with; for whoever judges a kernel it is the yardstick anyway.
 *
 * A[i, k] = s_i t_k and B[j, k] = t_k u_j from small whole numbers, so C[i, j] = s_i u_j times the
 * sum of t_k^2, exactly, in whatever order it is summed: every element is compared. */
#include "kernels/device_cuda.h"
#include "kernels/probe/probe.cuh"

namespace {

using probe::THREADS;
using probe::uneven;

constexpr int VERIFY_BLOCKS = 1024;

struct matrices {
    uint16_t *a, *b; /* [size, size] */
    float *c;
};

matrices matrices_of(const anemo_exercise_args *args) {
    auto *a = static_cast<uint16_t *>(args->scratch);
    const int64_t cells = args->size * args->size;
    return {a, a + cells, reinterpret_cast<float *>(a + 2 * cells)};
}

__global__ void __launch_bounds__(THREADS) fill(uint16_t *a, uint16_t *b, int64_t size) {
    const int64_t row = blockIdx.x;
    for (int64_t k = threadIdx.x; k < size; k += THREADS) {
        a[row * size + k] = anemo_bf16_from_f32(uneven(row) * uneven(size + k));
        b[row * size + k] = anemo_bf16_from_f32(uneven(size + k) * uneven(2 * size + row));
    }
}

/* c[j, i]: cuBLAS writes columns. Every thread counts for 1 in each of its turns. */
__global__ void __launch_bounds__(THREADS) count(const float *c, int64_t size, uint64_t *result) {
    __shared__ float of_warp[THREADS / WARP];
    __shared__ int room[THREADS / WARP];
    float squares = 0.0f;
    for (int64_t k = threadIdx.x; k < size; k += THREADS) {
        squares += uneven(size + k) * uneven(size + k);
    }
    squares = block_sum<THREADS>(squares, of_warp);
    int right = 0;
    for (int64_t j = blockIdx.x; j < size; j += gridDim.x) {
        for (int64_t i = threadIdx.x; i < size; i += THREADS) {
            right += c[j * size + i] == uneven(i) * uneven(2 * size + j) * squares ? 1 : 0;
        }
    }
    right = block_sum<THREADS>(right, room);
    if (threadIdx.x == 0) {
        result[blockIdx.x] = static_cast<uint64_t>(right);
    }
}

size_t scratch_bytes(int64_t size) {
    return (size_t)(size * size) * (2 * sizeof(uint16_t) + sizeof(float));
}

double ops(const anemo_exercise_args *args) {
    return 2.0 * (double)args->size * (double)args->size * (double)args->size;
}

anemo_status prepare(const anemo_exec *exec, const anemo_exercise_args *args) {
    const matrices m = matrices_of(args);
    return gpu::launch(fill, dim3((unsigned)args->size), dim3(THREADS), 0, exec, m.a, m.b,
                       args->size);
}

anemo_status run(const anemo_exec *exec, const anemo_exercise_args *args) {
    const auto *libraries = static_cast<const anemo_cuda_libraries *>(exec->libraries);
    const matrices m = matrices_of(args);
    const int n = (int)args->size;
    const float alpha = 1.0f, beta = 0.0f;
    const cublasStatus_t status = cublasGemmEx(
        libraries->cublas, CUBLAS_OP_T, CUBLAS_OP_N, n, n, n, &alpha, m.a, CUDA_R_16BF, n, m.b,
        CUDA_R_16BF, n, &beta, m.c, CUDA_R_32F, n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    return status == CUBLAS_STATUS_SUCCESS ? ANEMO_OK : ANEMO_E_DEVICE;
}

anemo_status verify(const anemo_exec *exec, const anemo_exercise_args *args) {
    const int64_t blocks = args->size < VERIFY_BLOCKS ? args->size : VERIFY_BLOCKS;
    return gpu::launch(count, dim3((unsigned)blocks), dim3(THREADS), 0, exec,
                       static_cast<const float *>(matrices_of(args).c), args->size, args->result);
}

uint64_t right(const anemo_exercise_args *args) {
    return (uint64_t)(args->size * args->size);
}

} // namespace

extern "C" const anemo_exercise anemo_exercise_bf16_cublas_sm80;

const anemo_exercise anemo_exercise_bf16_cublas_sm80 = {.name = "bf16_cublas_sm80",
                                                        .kind = ANEMO_EXERCISE_BF16,
                                                        .min_capability = 80,
                                                        .least = 64,
                                                        .most = 8192, /* sums below 2^24 */
                                                        .ops = ops,
                                                        .scratch_bytes = scratch_bytes,
                                                        .prepare = prepare,
                                                        .run = run,
                                                        .verify = verify,
                                                        .right = right};
