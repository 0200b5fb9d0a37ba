/* Dequantise + cuBLAS, for so many rows that the matrix product outweighs writing the weights once
 * more: bf16 W[n, k_padded] in the workspace, one part at a time, then a bf16 product with float
 * sums. It is the yardstick of the tile kernels, and their better where m is large.
 *
 * In cuBLAS's columns, Y^T[n, m] = W[k, n]^T X[k, m]: all three are our rows as they lie. A store
 * without bias is written by cuBLAS itself, an ADD too (beta = 1); with ACT_MUL the two results go
 * to the workspace, and a small kernel ends the work. */
#ifndef ANEMO_DEQUANTISE_CUH
#define ANEMO_DEQUANTISE_CUH

#include "kernels/device_cuda.h"
#include "kernels/qgemm/fragment.cuh"

namespace gpu {

/* Grid: x over blocks of 16 rows, y over groups of 8 steps; a warp per step. */
template <int BITS>
__global__ void __launch_bounds__(WARP * 8)
    dequantise(const __grid_constant__ qgemm_call c, int part, uint16_t *rows) {
    constexpr int TILES = 16 / BITS, UNITS = BITS / 4;
    const anemo_fragment_shape &s = c.shape[part];
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const int64_t step = (int64_t)blockIdx.y * 8 + threadIdx.x / WARP;
    const unsigned char *block = c.weight[part] + blockIdx.x * (int64_t)s.block_bytes;
    if (step * ANEMO_FRAGMENT_K_STEP >= s.k_padded) {
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) { /* tiles of a step */
        const int64_t chunk = step * 2 + i / 2;
        const uint4 unit =
            load_stream(block + (step * UNITS + i / TILES) * ANEMO_FRAGMENT_UNIT_BYTES +
                        lane * ANEMO_FRAGMENT_LANE_BYTES);
        group_numbers n = {};
        uint32_t a[4];
        if constexpr (BITS < 16) {
            n = numbers_of<BITS>(s, block, chunk * ANEMO_FRAGMENT_CHUNK / s.group, g);
        }
        tile_registers<BITS>(unit, i % TILES, n, a);
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const int64_t row = blockIdx.x * (int64_t)ANEMO_FRAGMENT_ROWS + g + r % 2 * 8;
            const int64_t column = chunk * ANEMO_FRAGMENT_CHUNK + 8 * t + i % 2 * 4 + r / 2 * 2;
            uint32_t pair = a[r];
            if constexpr (BITS < 16) {
                pair = scaled_pair(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u),
                                   n.scale[r % 2], n.minimum[r % 2]);
            }
            if (row < s.n) {
                *reinterpret_cast<uint32_t *>(rows + row * s.k_padded + column) = pair;
            }
        }
    }
}

/* Bias, or the activation: y, gate and up are float[m, stride]. Grid: x over columns, y over rows.
 */
static __global__ void __launch_bounds__(256)
    end_of_product(const __grid_constant__ qgemm_call c, int part, const float *gate,
                   const float *up, int64_t stride) {
    const int64_t column = (int64_t)blockIdx.x * 256 + threadIdx.x, token = blockIdx.y;
    if (column >= c.problem.n[part]) {
        return;
    }
    if (c.problem.epilogue == ANEMO_EPI_ACT_MUL) {
        finish(c, part, token, column, gate[token * stride + column], up[token * stride + column]);
    } else {
        c.y[part][token * c.y_stride[part] + column] += c.bias[part][column];
    }
}

struct dequantised {
    size_t rows_bytes, half_bytes, bytes; /* weights of the widest part; one result of ACT_MUL */
};

inline dequantised dequantised_of(const anemo_qgemm_problem *p) {
    int64_t n = 0;
    for (int i = 0; i < p->n_parts; i++) {
        n = p->n[i] > n ? p->n[i] : n;
    }
    dequantised d = {};
    d.rows_bytes =
        (size_t)anemo_fragment_up(2 * n * anemo_fragment_up(p->k, ANEMO_FRAGMENT_K_STEP), 256);
    d.half_bytes = p->epilogue == ANEMO_EPI_ACT_MUL
                       ? (size_t)anemo_fragment_up(4 * p->m_max * p->n[0], 256)
                       : 0;
    d.bytes = d.rows_bytes + 2 * d.half_bytes;
    return d;
}

inline size_t dequantise_workspace(const void *problem, int32_t) {
    return dequantised_of(static_cast<const anemo_qgemm_problem *>(problem)).bytes;
}

/* One part's product into y[m, stride]; beta 1 adds. */
template <int BITS>
anemo_status dequantise_part(const anemo_exec *exec, const qgemm_call &c, int part, uint16_t *rows,
                             float *y, int64_t stride, float beta) {
    const auto *libraries = static_cast<const anemo_cuda_libraries *>(exec->libraries);
    const anemo_fragment_shape &s = c.shape[part];
    const unsigned groups = (unsigned)anemo_up_div(s.k_padded / ANEMO_FRAGMENT_K_STEP, 8);
    const float alpha = 1.0f;
    const anemo_status status = launch(dequantise<BITS>, dim3((unsigned)s.blocks, groups),
                                       dim3(WARP * 8), 0, exec, c, part, rows);
    if (status != ANEMO_OK) {
        return status;
    }
    const cublasStatus_t blas = cublasGemmEx(
        libraries->cublas, CUBLAS_OP_T, CUBLAS_OP_N, (int)s.n, (int)c.m, (int)s.k, &alpha, rows,
        CUDA_R_16BF, (int)s.k_padded, c.x, CUDA_R_16BF, (int)(c.x_row_bytes / 2), &beta, y,
        CUDA_R_32F, (int)stride, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    return blas == CUBLAS_STATUS_SUCCESS ? ANEMO_OK : ANEMO_E_DEVICE;
}

template <int BITS>
anemo_status dequantise_run(const anemo_exec *exec, const void *problem, const void *args) {
    const auto *p = static_cast<const anemo_qgemm_problem *>(problem);
    const auto *a = static_cast<const anemo_qgemm_args *>(args);
    const dequantised d = dequantised_of(p);
    const qgemm_call c = qgemm_call_of(p, a, (size_t)anemo_fragment_up(2 * p->k, 64));
    auto *memory = static_cast<unsigned char *>(exec->workspace);
    auto *rows = reinterpret_cast<uint16_t *>(memory);
    float *halves[2] = {reinterpret_cast<float *>(memory + d.rows_bytes),
                        reinterpret_cast<float *>(memory + d.rows_bytes + d.half_bytes)};
    const bool act_mul = p->epilogue == ANEMO_EPI_ACT_MUL;
    if (exec->workspace_bytes < d.bytes) {
        return ANEMO_E_MEMORY;
    }
    anemo_status status = ANEMO_OK;
    for (int i = 0; a->m > 0 && i < p->n_parts && status == ANEMO_OK; i++) {
        const dim3 grid((unsigned)anemo_up_div(p->n[i], 256), (unsigned)a->m);
        status = act_mul ? dequantise_part<BITS>(exec, c, i, rows, halves[i], p->n[0], 0.0f)
                         : dequantise_part<BITS>(exec, c, i, rows, c.y[i], c.y_stride[i],
                                                 p->epilogue == ANEMO_EPI_ADD ? 1.0f : 0.0f);
        const bool ends = act_mul ? i == 1 : c.bias[i] != nullptr;
        if (status == ANEMO_OK && ends) {
            status = launch(end_of_product, grid, dim3(256), 0, exec, c, act_mul ? 0 : i,
                            static_cast<const float *>(halves[0]),
                            static_cast<const float *>(halves[1]), p->n[0]);
        }
    }
    return status;
}

} // namespace gpu

#endif
