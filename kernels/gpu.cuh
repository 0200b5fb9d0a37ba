/* What the CUDA kernels are made of, beside CUDA's own words: the few instructions that need PTX,
 * and the launch. Kernels write no PTX themselves, so that each of these has one form for a GPU,
 * here, and one for the emulated GPU (tests/emulated), on which every kernel is run by a CPU. */
#ifndef ANEMO_GPU_CUH
#define ANEMO_GPU_CUH

#include "kernels/kernel.h"

#include <cuda_runtime.h>

namespace gpu {

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr size_t PLAIN_SHARED_BYTES = 48u << 10; /* more has to be asked for */

} // namespace gpu

#ifdef __CUDACC__

/* T *name: the block's dynamic shared memory, 16-byte aligned. One per kernel. */
#define GPU_SHARED(T, name)                                                                        \
    extern __shared__ __align__(16) unsigned char gpu_dynamic_shared[];                            \
    T *const name = reinterpret_cast<T *>(gpu_dynamic_shared)

namespace gpu {

/* d[16 x 8] += a[16 x 16] b[16 x 8], bf16 products, float sums: mma.sync m16n8k16. */
__device__ inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* The same of f16 numbers. */
__device__ inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* d[16 x 8] += a[16 x 32] b[32 x 8], unsigned bytes times signed ones: mma.sync m16n8k32. */
__device__ inline void mma_u8s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four matrices of 8 x 8 16-bit numbers from shared memory, ldmatrix: `row` of lane 8 i + j is row
 * j of matrix i, 16 bytes. Lane 4 g + t gets of matrix i, in r[i], row g, columns 2 t and 2 t + 1;
 * transposed: rows 2 t and 2 t + 1 of column g. */
__device__ inline void load_matrix(uint32_t (&r)[4], const void *row) {
    const unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}
__device__ inline void load_matrix_transposed(uint32_t (&r)[4], const void *row) {
    const unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}

/* a + b of two bf16 numbers each, rounded to nearest even; by fma, which sm_80 has. */
__device__ inline uint32_t add_bf16x2(uint32_t a, uint32_t b) {
    uint32_t sum;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(0x3f803f80u), "r"(b));
    return sum;
}

/* Two floats to bf16, rounded to nearest even: lo in the low half. */
__device__ inline uint32_t pack_bf16x2(float lo, float hi) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(hi), "f"(lo));
    return pair;
}

/* The same to f16; beyond 65504 becomes infinity. */
__device__ inline uint32_t pack_f16x2(float lo, float hi) {
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(hi), "f"(lo));
    return pair;
}

/* 2^x to about 2^-22 of itself; below 2^-126 it is 0. */
__device__ inline float exp2_approximate(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

__device__ inline float float_of_half(uint16_t half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}

/* 16 bytes that are read once: past L1. */
__device__ inline uint4 load_stream(const void *at) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(at));
    return v;
}

/* 16 bytes from global to shared memory behind the thread's back: cp.async. Copies made since the
 * last commit are a group; wait_copies<N> returns when all but the newest N groups of this thread
 * are there. Others see them after a barrier. */
__device__ inline void copy_async(void *shared, const void *global) {
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}
__device__ inline void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N> __device__ inline void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

template <class... Parameters, class... Arguments>
void start(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
           cudaStream_t stream, const Arguments &...arguments) {
    kernel<<<grid, block, shared_bytes, stream>>>(arguments...);
}

} // namespace gpu

#else
#include <gpu_emulated.h>
#endif

namespace gpu {

/* Errors of the kernel itself show when the device is synchronised. */
template <class... Parameters, class... Arguments>
anemo_status launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                    const anemo_exec *exec, const Arguments &...arguments) {
    if (shared_bytes > PLAIN_SHARED_BYTES &&
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared_bytes)) != cudaSuccess) {
        return ANEMO_E_DEVICE;
    }
    start(kernel, grid, block, shared_bytes, static_cast<cudaStream_t>(exec->stream), arguments...);
    return cudaPeekAtLastError() == cudaSuccess ? ANEMO_OK : ANEMO_E_DEVICE;
}

} // namespace gpu

#endif
