/* From fragments to rows of bf16 in memory, and cuBLAS over those: what the variants of qgemm and
 * moe_experts share that multiply dequantised weights. */
#ifndef ANEMO_DEQUANTISED_CUH
#define ANEMO_DEQUANTISED_CUH

#include "kernels/device_cuda.h"
#include "kernels/qgemm/fragment.cuh"

namespace gpu {

/* A warp's share: 16 rows x 64 columns of a weight. A lane's two tiles of a chunk hold columns 8 t
 * .. 8 t + 7 of rows g and g + 8 (fragment.h), so it stores 16 bytes per row and chunk, and the
 * four lanes of a row two full sectors of memory. All loads come before the first store. */
template <int BITS> struct dequantised_step {
    static constexpr int TILES = 16 / BITS, UNITS = BITS / 4;
    uint4 unit[UNITS];
    group_numbers numbers[2]; /* of the chunks */

    __device__ void load(const anemo_fragment_shape &s, const unsigned char *block, int64_t step) {
        const int lane = threadIdx.x % WARP;
#pragma unroll
        for (int u = 0; u < UNITS; u++) {
            unit[u] = load_stream(block + (step * UNITS + u) * ANEMO_FRAGMENT_UNIT_BYTES +
                                  lane * ANEMO_FRAGMENT_LANE_BYTES);
        }
#pragma unroll
        for (int chunk = 0; chunk < 2 && BITS < 16; chunk++) {
            numbers[chunk] = numbers_of<BITS>(
                s, block, (step * 2 + chunk) * ANEMO_FRAGMENT_CHUNK / s.group, lane / 4);
        }
    }

    __device__ uint32_t scaled(uint32_t pair, const group_numbers &n, int row) const {
        if constexpr (BITS < 16) {
            pair = scaled_pair(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u),
                               n.scale[row], n.minimum[row]);
        }
        return pair;
    }

    /* rows: bf16[n, k_padded]. */
    __device__ void store(const anemo_fragment_shape &s, int64_t block, int64_t step,
                          uint16_t *rows) const {
        const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
#pragma unroll
        for (int chunk = 0; chunk < 2; chunk++) {
            uint32_t a[2][4];
            tile_registers<BITS>(unit[2 * chunk / TILES], 2 * chunk % TILES, numbers[chunk], a[0]);
            tile_registers<BITS>(unit[(2 * chunk + 1) / TILES], (2 * chunk + 1) % TILES,
                                 numbers[chunk], a[1]);
#pragma unroll
            for (int i = 0; i < 2; i++) { /* rows g and g + 8 */
                const int64_t row = block * ANEMO_FRAGMENT_ROWS + g + 8 * i;
                const int64_t column = (step * 2 + chunk) * ANEMO_FRAGMENT_CHUNK + 8 * t;
                const group_numbers &n = numbers[chunk];
                if (row < s.n) {
                    *reinterpret_cast<uint4 *>(rows + row * s.k_padded + column) =
                        make_uint4(scaled(a[0][i], n, i), scaled(a[0][i + 2], n, i),
                                   scaled(a[1][i], n, i), scaled(a[1][i + 2], n, i));
                }
            }
        }
    }
};

/* y[m, y_stride] = x[m, x_stride] W^T (+ y with beta 1), W as `store` leaves it, on the stream of
 * the cuBLAS handle. */
inline anemo_status cublas_product(const anemo_cuda_libraries *libraries, const uint16_t *rows,
                                   const anemo_fragment_shape &s, const void *x, int64_t x_stride,
                                   int64_t m, float *y, int64_t y_stride, float beta) {
    const float alpha = 1.0f;
    const cublasStatus_t blas =
        cublasGemmEx(libraries->cublas, CUBLAS_OP_T, CUBLAS_OP_N, (int)s.n, (int)m, (int)s.k,
                     &alpha, rows, CUDA_R_16BF, (int)s.k_padded, x, CUDA_R_16BF, (int)x_stride,
                     &beta, y, CUDA_R_32F, (int)y_stride, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    return blas == CUBLAS_STATUS_SUCCESS ? ANEMO_OK : ANEMO_E_DEVICE;
}

} // namespace gpu

#endif
