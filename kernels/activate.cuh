/* The activation between gate and up, for every CUDA kernel that ends in one. */
#ifndef ANEMO_ACTIVATE_CUH
#define ANEMO_ACTIVATE_CUH

#include "kernels/gpu.cuh"

namespace gpu {

__device__ inline float activate(int activation, float g, float u) {
    if (activation == ANEMO_ACT_SILU_CLAMPED) {
        g = g > 7.0f ? 7.0f : g; /* written so that NaN stays NaN */
        u = u > 7.0f ? 7.0f : u < -7.0f ? -7.0f : u;
        return (u + 1.0f) * g / (1.0f + expf(-1.702f * g));
    }
    return g / (1.0f + expf(-g)) * u;
}

} // namespace gpu

#endif
