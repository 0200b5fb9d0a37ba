/* The instructions of kernels/gpu.cuh for the emulated GPU, from what PTX defines. */
#ifndef ANEMO_GPU_EMULATED_H
#define ANEMO_GPU_EMULATED_H

#include "kernels/internal.h"

#include <cuda_runtime.h>

#define GPU_SHARED(T, name)       T *const name = reinterpret_cast<T *>(emulated::dynamic_shared())
#define GPU_SHARED_SWIZZLED(name) unsigned char *const name = emulated::dynamic_shared()

namespace gpu {

struct operands {
    uint32_t a[4], b[2];
};

inline float half_of(uint32_t pair, int half) {
    return anemo_f32_from_bf16((uint16_t)(pair >> 16 * half));
}
inline float f16_of(uint32_t pair, int half) {
    return anemo_f32_from_f16((uint16_t)(pair >> 16 * half));
}

/* Lane 4 g + t: register r of a is row g + 8 (r % 2), columns 2 t + half + 8 (r / 2); register r of
 * b is rows 2 t + half + 8 r, column g; d is rows g, g, g + 8, g + 8, columns 2 t, 2 t + 1, twice.
 */
template <float number(uint32_t, int)>
void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    const operands mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    operands of[WARP];
    memcpy(of, emulated::exchange(&mine, sizeof mine), sizeof of);
    const int g = emulated::lane() / 4, t = emulated::lane() % 4;
    for (int i = 0; i < 4; i++) {
        const int row = g + i / 2 * 8, column = 2 * t + i % 2;
        float sum = 0;
        for (int k = 0; k < 16; k++) {
            const int pair = k / 8, lane = k % 8 / 2, half = k % 2;
            sum += number(of[row % 8 * 4 + lane].a[row / 8 + 2 * pair], half) *
                   number(of[column * 4 + lane].b[pair], half);
        }
        d[i] += sum;
    }
}
inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply<half_of>(d, a, b);
}
inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply<f16_of>(d, a, b);
}

/* Each lane hands over its row of 16 bytes. */
inline void load_matrix(uint32_t (&r)[4], const void *row) {
    const unsigned char *rows = emulated::exchange(emulated::aligned(row, 16), 16);
    const int lane = emulated::lane();
    for (int i = 0; i < 4; i++) {
        memcpy(&r[i], rows + (8 * i + lane / 4) * 16 + lane % 4 * 4, 4);
    }
}
inline void load_matrix_transposed(uint32_t (&r)[4], const void *row) {
    const unsigned char *rows = emulated::exchange(emulated::aligned(row, 16), 16);
    const int g = emulated::lane() / 4, t = emulated::lane() % 4;
    for (int i = 0; i < 4; i++) {
        uint16_t half[2];
        memcpy(&half[0], rows + (8 * i + 2 * t) * 16 + 2 * g, 2);
        memcpy(&half[1], rows + (8 * i + 2 * t + 1) * 16 + 2 * g, 2);
        r[i] = half[0] | (uint32_t)half[1] << 16;
    }
}

/* Lane 4 g + t: byte i of register r of a is row g + 8 (r % 2), column 4 t + i + 16 (r / 2); of b
 * it is row 4 t + i + 16 r, column g; d as above. */
inline void mma_u8s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    const operands mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    operands of[WARP];
    memcpy(of, emulated::exchange(&mine, sizeof mine), sizeof of);
    const int g = emulated::lane() / 4, t = emulated::lane() % 4;
    for (int i = 0; i < 4; i++) {
        const int row = g + i / 2 * 8, column = 2 * t + i % 2;
        for (int k = 0; k < 32; k++) {
            const int lane = k % 16 / 4, shift = 8 * (k % 4);
            d[i] += (uint8_t)(of[row % 8 * 4 + lane].a[row / 8 + k / 16 * 2] >> shift) *
                    (int8_t)(of[column * 4 + lane].b[k / 16] >> shift);
        }
    }
}

inline uint32_t pack_bf16x2(float lo, float hi) {
    return anemo_bf16_from_f32(lo) | (uint32_t)anemo_bf16_from_f32(hi) << 16;
}

inline uint32_t pack_f16x2(float lo, float hi) {
    return anemo_f16_from_f32(lo) | (uint32_t)anemo_f16_from_f32(hi) << 16;
}

inline float exp2_approximate(float x) {
    return x < -126 ? 0 : exp2f(x);
}

inline uint32_t and_or(uint32_t a, uint32_t mask, uint32_t bits) {
    return (a & mask) | bits;
}

/* The product is exact in float, so the sum is rounded once to float, then to bf16. */
inline uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
    return pack_bf16x2(half_of(a, 0) * half_of(b, 0) + half_of(c, 0),
                       half_of(a, 1) * half_of(b, 1) + half_of(c, 1));
}

inline uint32_t add_bf16x2(uint32_t a, uint32_t b) {
    return fma_bf16x2(a, 0x3f803f80u, b);
}

inline float float_of_half(uint16_t half) {
    return anemo_f32_from_f16(half);
}

inline uint4 load_stream(const void *at) {
    return *static_cast<const uint4 *>(emulated::aligned(at, sizeof(uint4)));
}

inline void copy_async(void *shared, const void *global) {
    emulated::copy_later(shared, global, 16);
}
inline void copy_async_4(void *shared, const void *global, bool there) {
    emulated::copy_later(shared, there ? global : nullptr, 4);
}
inline void commit_copies() {
    emulated::commit_copies();
}
template <int N> void wait_copies() {
    emulated::wait_copies(N);
}

inline uint32_t shared_address(const void *shared) {
    return emulated::shared_address(shared);
}
inline void fence_async_proxy() {
    emulated::fence_async_proxy();
}
inline void wgmma_fence(uint32_t (&a)[4]) {
    emulated::wgmma_fence(a);
}
template <int N> void wgmma_bf16(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t descriptor) {
    emulated::wgmma(d, N, a, descriptor);
}
inline void wgmma_commit() {
    emulated::wgmma_commit();
}
template <int N> void wgmma_wait() {
    emulated::wgmma_wait(N);
}
template <int N> void wgmma_settle(float (&d)[N]) {
    emulated::wgmma_settle(d);
}

template <class... Parameters, class... Arguments>
void start(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
           cudaStream_t stream, const Arguments &...arguments) {
    emulated::launch(reinterpret_cast<const void *>(kernel), grid, block, shared_bytes, stream,
                     [=] { kernel(arguments...); });
}

} // namespace gpu

#endif
