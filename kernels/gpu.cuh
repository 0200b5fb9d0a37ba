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

/* Is code for wgmma made in this pass? A target that has none makes a kernel that ends in
 * no_such_instruction(); `needs` keeps it from being launched. */
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define GPU_HAS_WGMMA 0
#else
#define GPU_HAS_WGMMA 1
#endif

#ifdef __CUDACC__

/* T *name: the block's dynamic shared memory, 16-byte aligned. One per kernel. */
#define GPU_SHARED(T, name)                                                                        \
    extern __shared__ __align__(16) unsigned char gpu_dynamic_shared[];                            \
    T *const name = reinterpret_cast<T *>(gpu_dynamic_shared)
/* The same for matrices with a 128-byte swizzle, whose pattern repeats every 1024 bytes. */
#define GPU_SHARED_SWIZZLED(name)                                                                  \
    extern __shared__ __align__(1024) unsigned char gpu_swizzled_shared[];                         \
    unsigned char *const name = gpu_swizzled_shared

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

/* a & mask | bits in one instruction, which the compiler makes two of when both are constants. */
__device__ inline uint32_t and_or(uint32_t a, uint32_t mask, uint32_t bits) {
    uint32_t result;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(a), "r"(mask), "r"(bits));
    return result;
}

/* a b + c of two bf16 numbers each, rounded once, to nearest even. */
__device__ inline uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t sum;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
}

/* a + b of two bf16 numbers each, rounded to nearest even; by fma, which sm_80 has. */
__device__ inline uint32_t add_bf16x2(uint32_t a, uint32_t b) {
    return fma_bf16x2(a, 0x3f803f80u, b);
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
/* The same of 4 bytes; zeros where they are not there, and `global` is not read. */
__device__ inline void copy_async_4(void *shared, const void *global, bool there) {
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(global),
                 "r"(there ? 4 : 0)
                 : "memory");
}
__device__ inline void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N> __device__ inline void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

__device__ inline void no_such_instruction() {
    asm volatile("trap;");
}

/* ---------------------------------------------------------------- wgmma: sm_90a alone
 * PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions". Four warps
 * multiply together and go on while it is done. The order that must be kept:
 *     shared memory written, fence_async_proxy() by who wrote, a barrier;
 *     registers of a and d written, wgmma_fence(a);
 *     wgmma_bf16(d, a, ..) once or more, wgmma_commit(): a group;
 *     wgmma_wait<N>(): all but the newest N groups are done, a may be written;
 *     with N = 0, wgmma_settle(d): d may be read, or written. */
#if GPU_HAS_WGMMA

/* Where shared memory is for a matrix descriptor. */
__device__ inline uint32_t shared_address(const void *shared) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

/* Writes to shared memory so far, those of cp.async that were waited for too, stand before what
 * wgmma reads. */
__device__ inline void fence_async_proxy() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Takes the registers, so that the compiler cannot write them behind the fence. */
__device__ inline void wgmma_fence(uint32_t (&a)[4]) {
    asm volatile("wgmma.fence.sync.aligned;"
                 : "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3])::"memory");
}
__device__ inline void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N> __device__ inline void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* The compiler moves no access of d over this place. */
template <int N> __device__ inline void wgmma_settle(float (&d)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) {
        asm volatile("" : "+f"(d[i])::"memory");
    }
}

/* d[64 x N] += a[64 x 16] b[16 x N]: bf16 products, float sums. Warp w of the four has rows 16 w ..
 * 16 w + 15 in the form of mma_bf16, N / 8 times; b is K-major in shared memory. */
#define GPU_D4(i)      "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define GPU_D16(i)     GPU_D4(i), GPU_D4(i + 4), GPU_D4(i + 8), GPU_D4(i + 12)
#define GPU_D_NAMES_16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define GPU_D_NAMES_32                                                                             \
    GPU_D_NAMES_16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define GPU_D_NAMES_64                                                                             \
    GPU_D_NAMES_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,"     \
                   "%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define GPU_WGMMA(n, names, a0, a1, a2, a3, b)                                                     \
    "{.reg .pred add; setp.eq.u32 add, 0, 0; wgmma.mma_async.sync.aligned.m64n" n                  \
    "k16.f32.bf16.bf16 {" names "}, {" a0 "," a1 "," a2 "," a3 "}, " b ", add, 1, 1, 0;}"
#define GPU_WGMMA_INPUTS "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(descriptor)

template <int N>
__device__ inline void wgmma_bf16(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t descriptor) {
    static_assert(N == 32 || N == 64 || N == 128, "no form for so many tokens");
    if constexpr (N == 32) {
        asm volatile(GPU_WGMMA("32", GPU_D_NAMES_16, "%16", "%17", "%18", "%19", "%20")
                     : GPU_D16(0)
                     : GPU_WGMMA_INPUTS);
    } else if constexpr (N == 64) {
        asm volatile(GPU_WGMMA("64", GPU_D_NAMES_32, "%32", "%33", "%34", "%35", "%36")
                     : GPU_D16(0), GPU_D16(16)
                     : GPU_WGMMA_INPUTS);
    } else {
        asm volatile(GPU_WGMMA("128", GPU_D_NAMES_64, "%64", "%65", "%66", "%67", "%68")
                     : GPU_D16(0), GPU_D16(16), GPU_D16(32), GPU_D16(48)
                     : GPU_WGMMA_INPUTS);
    }
}

#undef GPU_WGMMA_INPUTS
#undef GPU_WGMMA
#undef GPU_D_NAMES_64
#undef GPU_D_NAMES_32
#undef GPU_D_NAMES_16
#undef GPU_D16
#undef GPU_D4

#endif

/* ---------------------------------------------------------------- launch */

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
