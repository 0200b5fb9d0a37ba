/* Stands in for CUDA's header of this name when a kernel's source is compiled for the processor at
 * hand, so that it can be held against its definition where there is no GPU (emulate.cc). Only what
 * anemo's kernels use; what needs PTX is in gpu_emulated.h. */
#ifndef ANEMO_EMULATED_CUDA_RUNTIME_H
#define ANEMO_EMULATED_CUDA_RUNTIME_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>

#define __global__
#define __device__
#define __host__
#define __shared__ static /* blocks run one after the other */
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {
    }
};

struct alignas(8) float2 {
    float x, y;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
inline uint2 make_uint2(unsigned x, unsigned y) {
    return {x, y};
}
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}

typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
typedef enum cudaError_t {
    cudaSuccess,
    cudaErrorInvalidValue = 1,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorStreamCaptureUnsupported = 900
} cudaError_t;
typedef enum cudaMemcpyKind { cudaMemcpyDeviceToHost = 2 } cudaMemcpyKind;
typedef enum cudaStreamCaptureStatus {
    cudaStreamCaptureStatusNone,
    cudaStreamCaptureStatusActive
} cudaStreamCaptureStatus;
typedef enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8
} cudaFuncAttribute;

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {

/* Puts the work behind what the stream holds (NULL: the device's own stream; streams.cc says when
 * it runs), or records it while a graph is captured. */
void in_stream(cudaStream_t stream, std::function<void()> work);
/* Runs the grid in the stream; a launch that no GPU accepts is the last error instead. */
void launch(const void *kernel, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            std::function<void()> thread);
void allow_shared(const void *kernel, int bytes);
cudaError_t last_error();

/* Shared memory whose size the launch names; poisoned for each block, a fence behind it. */
unsigned char *dynamic_shared();
/* Waits for all threads of the block; the sum of `value` over them. */
int block_barrier(int value);
/* What each lane of the warp hands over, `bytes` each; to be read before the next warp operation.
 */
const unsigned char *exchange(const void *mine, size_t bytes);
int lane();

/* A copy (from NULL: zeros) that arrives with the wait that covers it and no sooner: groups as
 * cp.async has them. */
void copy_later(void *to, const void *from, size_t bytes);
void commit_copies();
void wait_copies(int newest);

/* wgmma.cc: an instruction of the thread's warpgroup, done when a wait covers it. */
uint32_t shared_address(const void *shared);
void fence_async_proxy();
void wgmma_fence(const uint32_t *a);
void wgmma(float *d, int tokens, const uint32_t *a, uint64_t descriptor);
void wgmma_commit();
void wgmma_wait(int newest);
void wgmma_settle(const float *d);

/* `at`, which a vector access of so many bytes may have. */
const void *aligned(const void *at, size_t bytes);

template <class T> T shuffle(T x, int from) {
    T got;
    memcpy(&got, exchange(&x, sizeof x) + (size_t)from * sizeof x, sizeof got);
    return got;
}

} // namespace emulated

/* Streams and events: streams.cc. The copy is in device.cc, which knows whose memory it is. */
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);

inline cudaError_t cudaPeekAtLastError() {
    return emulated::last_error();
}
template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute, int bytes) {
    emulated::allow_shared(reinterpret_cast<const void *>(kernel), bytes);
    return cudaSuccess;
}

inline void __syncthreads() {
    emulated::block_barrier(0);
}
inline int __syncthreads_or(int predicate) {
    return emulated::block_barrier(predicate != 0) != 0;
}
inline void __syncwarp(unsigned = 0xffffffffu) {
    emulated::shuffle(0, 0);
}
template <class T> T __shfl_xor_sync(unsigned, T x, int mask) {
    return emulated::shuffle(x, emulated::lane() ^ mask);
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
    const unsigned char mine = predicate;
    const unsigned char *all = emulated::exchange(&mine, 1);
    unsigned bits = 0;
    for (int i = 0; i < 32; i++) {
        bits |= (unsigned)(all[i] != 0) << i;
    }
    return bits;
}
inline bool __any_sync(unsigned mask, bool predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
/* Rounded once each: compiled without contraction. */
inline float __fmul_rn(float a, float b) {
    return a * b;
}
inline float __fdiv_rn(float a, float b) {
    return a / b;
}
inline int __float2int_rn(float x) {
    return (int)nearbyintf(x);
}
template <class T> T max(T a, T b) {
    return a < b ? b : a;
}

#endif
