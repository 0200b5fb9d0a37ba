/* Stands in for CUDA's header where kernels are compiled for the emulator (emulator.h). */
#ifndef ANEMO_EMULATE_CUDA_RUNTIME_H
#define ANEMO_EMULATE_CUDA_RUNTIME_H

#include "emulator.h"

#include <cstdint>
#include <cstring>
#include <math.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __restrict__
#define __shared__ static thread_local /* blocks of a grid run one after the other */
#define threadIdx  (emulator::here->thread)
#define blockIdx   (emulator::here->block_at)
#define blockDim   (emulator::running.block)
#define gridDim    (emulator::running.grid)

struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline float2 make_float2(float x, float y) {
    return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
    return {x, y, z, w};
}
using dim3 = emulator::dim3;

using cudaStream_t = void *;
enum cudaError_t { cudaSuccess, cudaErrorUnknown };

inline void __syncthreads() {
    emulator::block_barrier();
}
inline int __syncthreads_or(int predicate) {
    return emulator::block_any(predicate != 0);
}
inline void __syncwarp(unsigned = 0xffffffffu) {
    emulator::exchange(nullptr, 0);
}
template <class T> T __shfl_sync(unsigned, T value, int lane, int width = 32) {
    const auto *all = emulator::exchange(&value, sizeof value);
    const int mine = emulator::here->lane;
    return emulator::get<T>(all, mine / width * width + (lane & (width - 1)));
}
template <class T> T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
    const auto *all = emulator::exchange(&value, sizeof value);
    return emulator::get<T>(all, emulator::here->lane ^ mask);
}
template <class T> T __shfl_down_sync(unsigned, T value, int step, int width = 32) {
    const auto *all = emulator::exchange(&value, sizeof value);
    const int mine = emulator::here->lane;
    return emulator::get<T>(all, mine % width + step < width ? mine + step : mine);
}
template <class T> T __shfl_up_sync(unsigned, T value, int step, int width = 32) {
    const auto *all = emulator::exchange(&value, sizeof value);
    const int mine = emulator::here->lane;
    return emulator::get<T>(all, mine % width >= step ? mine - step : mine);
}
inline unsigned __ballot_sync(unsigned, int predicate) {
    const auto *all = emulator::exchange(&predicate, sizeof predicate);
    unsigned bits = 0;
    for (int l = 0; l < 32; l++) {
        bits |= emulator::get<int>(all, l) != 0 ? 1u << l : 0;
    }
    return bits;
}
inline int __any_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) == 0xffffffffu;
}
inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
inline int __ffs(int x) {
    return __builtin_ffs(x);
}
/* Threads of the emulator take turns: what happens between two barriers is not interrupted. */
template <class T> T atomicAdd(T *at, T value) {
    const T before = *at;
    *at = before + value;
    return before;
}
template <class T> T atomicMax(T *at, T value) {
    const T before = *at;
    *at = before > value ? before : value;
    return before;
}
inline void __threadfence() {
}
template <class T> T __ldg(const T *at) {
    return *at;
}
inline uint32_t __float_as_uint(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline float __uint_as_float(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
inline int __float2int_rn(float x) {
    return (int)nearbyintf(x);
}
inline float __fmul_rn(float a, float b) {
    return a * b;
}
inline float __fadd_rn(float a, float b) {
    return a + b;
}
inline float __fdiv_rn(float a, float b) {
    return a / b;
}
inline float __expf(float x) {
    return expf(x);
}
inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
template <class T> T min(T a, T b) {
    return b < a ? b : a;
}
template <class T> T max(T a, T b) {
    return a < b ? b : a;
}

#endif
