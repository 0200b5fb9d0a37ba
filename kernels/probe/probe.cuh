/* What the exercises share: numbers whose products are exact, and counting what came out right. */
#ifndef ANEMO_PROBE_CUH
#define ANEMO_PROBE_CUH

#include "kernels/device.h"
#include "kernels/warp.cuh"

namespace probe {

constexpr int THREADS = 256;

/* 1, 2, -1 or -2, in no order: exact in every format, and busy bits. */
__device__ inline float uneven(int64_t i) {
    const uint32_t bits = static_cast<uint32_t>(i + 1) * 2654435761u >> 30;
    const float size = (bits & 1) != 0 ? 2.0f : 1.0f;
    return (bits & 2) != 0 ? -size : size;
}

/* The block's threads that are right; every thread of the block calls it. */
__device__ inline void store_count(bool right, uint64_t *result) {
    __shared__ int room[THREADS / WARP];
    const int n = block_sum<THREADS>(right ? 1 : 0, room);
    if (threadIdx.x == 0) {
        result[blockIdx.x] = static_cast<uint64_t>(n);
    }
}

} // namespace probe

#endif
