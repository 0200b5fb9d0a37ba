/* How fast can this GPU multiply and add? Loops without memory: each warp keeps independent sums in
 * registers, enough of them that the units never wait for a result (4 cycles for fp32, some 20 to
 * 35 for a matrix instruction), and a grid that fills every scheduler.
 *
 *   fp32_fma   8 chains per thread, 8 warps per scheduler
 *   bf16_mma   mma.sync m16n8k16, 8 accumulators per warp, 4 warps per scheduler. What sm_80 to
 *              sm_89 can do; sm_90 reaches about six tenths of its peak so, the rest needs wgmma,
 *              for which bf16_cublas (cublas_sm80.cu) stands
 *
 * Factors are small whole numbers in no order (all ones would draw less power and let the clock
 * rise), and every sum is exact: element (i, j) of a product is s_i u_j times the sum of t_k^2. */
#include "kernels/probe/probe.cuh"

namespace {

using probe::THREADS;
using probe::uneven;

/* ---------------------------------------------------------------- fp32 */

constexpr int CHAINS = 8, FMA_BLOCKS = 8;

/* `one` is an argument: a constant would be folded into an addition. */
__global__ void __launch_bounds__(THREADS) fp32_fma(float one, int64_t size, uint64_t *result) {
    float sum[CHAINS];
#pragma unroll
    for (int c = 0; c < CHAINS; c++) {
        sum[c] = (float)c;
    }
#pragma unroll 16
    for (int64_t i = 0; i < size; i++) {
#pragma unroll
        for (int c = 0; c < CHAINS; c++) {
            sum[c] = fmaf(one, one, sum[c]);
        }
    }
    bool right = true;
#pragma unroll
    for (int c = 0; c < CHAINS; c++) {
        right = right && sum[c] == (float)(c + size);
    }
    probe::store_count(right, result);
}

double fma_ops(const anemo_exercise_args *args) {
    return 2.0 * CHAINS * THREADS * FMA_BLOCKS * args->multiprocessors * (double)args->size;
}

anemo_status run_fma(const anemo_exec *exec, const anemo_exercise_args *args) {
    return gpu::launch(fp32_fma, dim3((unsigned)args->multiprocessors * FMA_BLOCKS), dim3(THREADS),
                       0, exec, 1.0f, args->size, args->result);
}

uint64_t fma_right(const anemo_exercise_args *args) {
    return (uint64_t)args->multiprocessors * FMA_BLOCKS * THREADS;
}

/* ---------------------------------------------------------------- bf16 */

constexpr int SUMS = 8, MMA_BLOCKS = 2, DEPTH = 16;

/* Lane 4 g + t of a fragment: gpu_emulated.h and PTX ISA, "Matrix fragments for mma.m16n8k16". */
__global__ void __launch_bounds__(THREADS) bf16_mma(int64_t size, uint64_t *result) {
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    uint32_t a[4], b[2];
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const int row = g + 8 * (r % 2), k = 2 * t + 8 * (r / 2);
        a[r] = gpu::pack_bf16x2(uneven(row) * uneven(100 + k), uneven(row) * uneven(101 + k));
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int k = 2 * t + 8 * r;
        b[r] =
            gpu::pack_bf16x2(uneven(100 + k) * uneven(200 + g), uneven(101 + k) * uneven(200 + g));
    }
    float d[SUMS][4] = {};
#pragma unroll 4
    for (int64_t i = 0; i < size; i++) {
#pragma unroll
        for (int s = 0; s < SUMS; s++) {
            gpu::mma_bf16(d[s], a, b);
        }
    }
    float squares = 0.0f;
    for (int k = 0; k < DEPTH; k++) {
        squares += uneven(100 + k) * uneven(100 + k);
    }
    bool right = true;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
        const float one = uneven(row) * uneven(200 + column) * squares;
#pragma unroll
        for (int s = 0; s < SUMS; s++) {
            right = right && d[s][i] == one * (float)size;
        }
    }
    probe::store_count(right, result);
}

double mma_ops(const anemo_exercise_args *args) {
    return 2.0 * 16 * 8 * DEPTH * SUMS * (THREADS / WARP) * MMA_BLOCKS * args->multiprocessors *
           (double)args->size;
}

anemo_status run_mma(const anemo_exec *exec, const anemo_exercise_args *args) {
    return gpu::launch(bf16_mma, dim3((unsigned)args->multiprocessors * MMA_BLOCKS), dim3(THREADS),
                       0, exec, args->size, args->result);
}

uint64_t mma_right(const anemo_exercise_args *args) {
    return (uint64_t)args->multiprocessors * MMA_BLOCKS * THREADS;
}

} // namespace

extern "C" const anemo_exercise anemo_exercise_fp32_fma_sm80, anemo_exercise_bf16_mma_sm80;

const anemo_exercise anemo_exercise_fp32_fma_sm80 = {.name = "fp32_fma_sm80",
                                                     .kind = ANEMO_EXERCISE_FP32,
                                                     .min_capability = 80,
                                                     .least = 1,
                                                     .most = 1 << 23, /* sums below 2^24 */
                                                     .ops = fma_ops,
                                                     .scratch_bytes = nullptr,
                                                     .prepare = nullptr,
                                                     .run = run_fma,
                                                     .verify = nullptr,
                                                     .right = fma_right};

const anemo_exercise anemo_exercise_bf16_mma_sm80 = {.name = "bf16_mma_sm80",
                                                     .kind = ANEMO_EXERCISE_BF16,
                                                     .min_capability = 80,
                                                     .least = 1,
                                                     .most = 1 << 15, /* 256 a step, below 2^24 */
                                                     .ops = mma_ops,
                                                     .scratch_bytes = nullptr,
                                                     .prepare = nullptr,
                                                     .run = run_mma,
                                                     .verify = nullptr,
                                                     .right = mma_right};
