/* What the CUDA kernels of all ops share: sums over the lanes of a warp and the warps of a block,
 * always in the same order, so that a result does not change from run to run. */
#ifndef ANEMO_WARP_CUH
#define ANEMO_WARP_CUH

#include "kernels/gpu.cuh"
#include "kernels/internal.h"

using gpu::ALL_LANES;
using gpu::WARP;

template <typename T> __device__ inline T warp_sum(T x) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(ALL_LANES, x, step);
    }
    return x;
}

template <typename T> __device__ inline T warp_max(T x) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        const T other = __shfl_xor_sync(ALL_LANES, x, step);
        x = other > x ? other : x;
    }
    return x;
}

/* The sum over a block of THREADS threads (one dimension), on every one of them. `room` is shared
 * memory of THREADS / WARP values; it may be used again at once. */
template <int THREADS, typename T> __device__ inline T block_sum(T x, T *room) {
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0) {
        room[threadIdx.x / WARP] = x;
    }
    __syncthreads();
    T sum = 0;
    for (int i = 0; i < THREADS / WARP; i++) {
        sum += room[i];
    }
    __syncthreads();
    return sum;
}

/* For `accepts`: may a launch have so many blocks in its first dimension? */
inline bool grid_fits(int64_t blocks, char *why, size_t why_bytes) {
    return blocks <= INT32_MAX ||
           anemo_refuse(why, why_bytes, "%lld blocks are more than a launch may have, 2^31 - 1",
                        (long long)blocks);
}

#endif
