/* GEMV on the matrix unit: up to 8 tokens in one pass over the weights.
 *
 * A thread block has 16 weight rows, its eight warps a piece of the columns each. A warp streams
 * its fragments straight from memory into registers, four 16-byte loads ahead of the four it
 * multiplies, and sums for all 8 tokens at once; where there are fewer, columns of the product
 * stay unused, which costs nothing while memory is the limit. Warps meet once, in shared memory,
 * in the order of k. With few rows several thread blocks share a block of rows (schedule.h:
 * slices): each leaves its sums in the workspace, and a second kernel adds them up. No locks, no
 * atomics: the same bits every time, whatever m is.
 *
 * More than 8 rows are done in passes of 8. Rejected: dot products in the CUDA cores (16
 * multiply-adds and as many conversions per loaded 16-byte piece and token: at 4 tokens they, and
 * not memory, are the limit); x in shared memory (one token's x is smaller than what L1 holds). */
#ifndef ANEMO_GEMV_CUH
#define ANEMO_GEMV_CUH

#include "kernels/qgemm/fragment.cuh"

namespace gpu {

constexpr int GEMV_TOKENS = 8, GEMV_BATCH = 4; /* units that a warp loads at once */

/* Sums of steps [begin, end) of a block, tokens token0 .. token0 + 7. */
template <int BITS>
__device__ void gemv_piece(const qgemm_call &c, int part, int64_t row_block, anemo_piece piece,
                           int64_t token0, float (&total)[4]) {
    constexpr int TILES = 16 / BITS;               /* of a unit */
    constexpr int UNITS = BITS / 4;                /* of a step */
    constexpr int CHUNKS = GEMV_BATCH * TILES / 2; /* of a batch */
    const anemo_fragment_shape &s = c.shape[part];
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const unsigned char *block = c.weight[part] + row_block * (int64_t)s.block_bytes;
    const unsigned char *units = block + lane * ANEMO_FRAGMENT_LANE_BYTES;
    const int64_t end = piece.end * UNITS;
    sums<BITS, 1> sum;
    uint4 next[GEMV_BATCH];
    auto load = [&](int64_t unit) {
#pragma unroll
        for (int i = 0; i < GEMV_BATCH; i++) {
            next[i] = unit + i < end ? load_stream(units + (unit + i) * ANEMO_FRAGMENT_UNIT_BYTES)
                                     : make_uint4(0, 0, 0, 0);
        }
    };
    sum.begin(s, block, piece.begin * 2, g);
    load(piece.begin * UNITS);
    for (int64_t unit = piece.begin * UNITS; unit < end; unit += GEMV_BATCH) {
        const int64_t chunk0 = unit * TILES / 2;
        uint4 now[GEMV_BATCH], x[CHUNKS][1];
#pragma unroll
        for (int i = 0; i < GEMV_BATCH; i++) {
            now[i] = next[i];
        }
        load(unit + GEMV_BATCH);
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            x[i][0] = load_x(c, token0 + g, chunk0 + i, t);
        }
#pragma unroll
        for (int i = 0; i < GEMV_BATCH * TILES; i++) {
            if (unit + i / TILES < end) { /* the same for the whole warp */
                if (i % 2 == 0) {
                    sum.enter(s, block, chunk0 + i / 2, g);
                }
                sum.multiply(s, now[i / TILES], i % TILES, i % 2, x[i / 2]);
            }
        }
    }
    sum.close_group();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        total[i] = sum.total[0][i];
    }
}

/* results[slice][block][gate, up][token][row], when there are several slices. */
__device__ inline int64_t gemv_result_at(int64_t blocks, int halves, int64_t slice, int64_t block,
                                         int half) {
    return ((slice * blocks + block) * halves + half) * GEMV_TOKENS * ANEMO_FRAGMENT_ROWS;
}

template <int BITS>
__global__ void __launch_bounds__(WARP *ANEMO_GEMV_WARPS)
    gemv(const __grid_constant__ qgemm_call c, int64_t token0, int slices, float *results) {
    __shared__ float shared[ANEMO_GEMV_WARPS][WARP][4];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int token = threadIdx.x / ANEMO_FRAGMENT_ROWS, row = threadIdx.x % ANEMO_FRAGMENT_ROWS;
    const int64_t index = blockIdx.x / slices, slice = blockIdx.x % slices;
    const anemo_row_block at = anemo_row_block_at(&c.problem, ANEMO_FRAGMENT_ROWS, index);
    const int halves = c.problem.epilogue == ANEMO_EPI_ACT_MUL ? 2 : 1;
    const int64_t steps = c.shape[at.part].k_padded / ANEMO_FRAGMENT_K_STEP;
    float result[2] = {0.0f, 0.0f};
    for (int half = 0; half < halves; half++) {
        float total[4];
        gemv_piece<BITS>(
            c, at.part + half, at.block,
            anemo_piece_of(steps, slices * ANEMO_GEMV_WARPS, slice * ANEMO_GEMV_WARPS + warp),
            token0, total);
        __syncthreads(); /* the sums of the half before have been read */
        for (int i = 0; i < 4; i++) {
            shared[warp][lane][i] = total[i];
        }
        __syncthreads();
        if (token < GEMV_TOKENS) {
            for (int w = 0; w < ANEMO_GEMV_WARPS; w++) {
                result[half] += shared[w][row % 8 * 4 + token / 2][row / 8 * 2 + token % 2];
            }
        }
    }
    if (token >= GEMV_TOKENS) {
        return;
    }
    if (slices == 1) {
        finish(c, at.part, token0 + token, at.block * ANEMO_FRAGMENT_ROWS + row, result[0],
               result[1]);
        return;
    }
    const int64_t blocks = gridDim.x / slices;
    for (int half = 0; half < halves; half++) {
        results[gemv_result_at(blocks, halves, slice, index, half) + threadIdx.x] = result[half];
    }
}

/* Adds up the slices: a thread block of 128 for each block of rows. */
static __global__ void __launch_bounds__(GEMV_TOKENS *ANEMO_FRAGMENT_ROWS)
    gemv_finish(const __grid_constant__ qgemm_call c, int64_t token0, int slices,
                const float *results) {
    const anemo_row_block at = anemo_row_block_at(&c.problem, ANEMO_FRAGMENT_ROWS, blockIdx.x);
    const int halves = c.problem.epilogue == ANEMO_EPI_ACT_MUL ? 2 : 1;
    const int token = threadIdx.x / ANEMO_FRAGMENT_ROWS, row = threadIdx.x % ANEMO_FRAGMENT_ROWS;
    float result[2] = {0.0f, 0.0f};
    for (int half = 0; half < halves; half++) {
        for (int slice = 0; slice < slices; slice++) {
            result[half] +=
                results[gemv_result_at(gridDim.x, halves, slice, blockIdx.x, half) + threadIdx.x];
        }
    }
    finish(c, at.part, token0 + token, at.block * ANEMO_FRAGMENT_ROWS + row, result[0], result[1]);
}

/* ---------------------------------------------------------------- the host's side */

inline int32_t gemv_slices_of(const anemo_qgemm_problem *p) {
    return anemo_gemv_slices(anemo_row_blocks(p, ANEMO_FRAGMENT_ROWS),
                             anemo_up_div(p->k, ANEMO_FRAGMENT_K_STEP));
}

inline size_t gemv_workspace(const void *problem, int32_t) {
    const auto *p = static_cast<const anemo_qgemm_problem *>(problem);
    const int32_t slices = gemv_slices_of(p), halves = p->epilogue == ANEMO_EPI_ACT_MUL ? 2 : 1;
    return slices == 1 ? 0
                       : sizeof(float) * (size_t)(slices * halves) * GEMV_TOKENS *
                             ANEMO_FRAGMENT_ROWS * (size_t)anemo_row_blocks(p, ANEMO_FRAGMENT_ROWS);
}

template <int BITS>
anemo_status gemv_run(const anemo_exec *exec, const void *problem, const void *args) {
    const auto *p = static_cast<const anemo_qgemm_problem *>(problem);
    const auto *a = static_cast<const anemo_qgemm_args *>(args);
    const int32_t slices = gemv_slices_of(p);
    const qgemm_call c = qgemm_call_of(p, a, (size_t)anemo_fragment_up(2 * p->k, 64));
    const unsigned blocks = (unsigned)anemo_row_blocks(p, ANEMO_FRAGMENT_ROWS);
    auto *results = static_cast<float *>(exec->workspace);
    anemo_status status =
        exec->workspace_bytes < gemv_workspace(problem, 1) ? ANEMO_E_MEMORY : ANEMO_OK;
    for (int64_t token = 0; token < a->m && status == ANEMO_OK; token += GEMV_TOKENS) {
        status = launch(gemv<BITS>, dim3(blocks * slices), dim3(WARP * ANEMO_GEMV_WARPS), 0, exec,
                        c, token, slices, results);
        if (status == ANEMO_OK && slices > 1) {
            status = launch(gemv_finish, dim3(blocks), dim3(GEMV_TOKENS * ANEMO_FRAGMENT_ROWS), 0,
                            exec, c, token, slices, static_cast<const float *>(results));
        }
    }
    return status;
}

} // namespace gpu

#endif
