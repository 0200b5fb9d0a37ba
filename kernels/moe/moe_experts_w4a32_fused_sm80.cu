/* moe_experts for decode with 4-bit weights: gate, up and activation in one launch, down in a
 * second, no word to the host between them.
 *
 * A block takes one tile of up to 8 rows of one expert (tiles.h) and 32 rows of its weights, a
 * block of layout w4_n32k8: a lane is a weight row, so that a warp's load of codes is one line of
 * memory, no shuffle ends a sum, and scales are read by the lane that needs them. Four warps take
 * every fourth run of 32 columns each and are joined in shared memory, in order. A weight is read
 * once per tile, and each row of the tile costs one fused multiply-add on it; with one row (a
 * single sequence) the others are not computed: padding would triple the work there. Activations
 * are read as floats, the same address on all lanes, through L1.
 *
 * A code becomes a float by setting it into the mantissa of 2^23, exact and without a conversion.
 * Every row is summed in the same order whatever tile it is in. Rejected for decode: tensor cores
 * (they want activations in 16 bits, and at 8 rows there is nothing to win over bandwidth), tiles
 * of 16 rows (registers). Limit: bandwidth of the weights. */
#include "kernels/activate.cuh"
#include "kernels/dense/common.h"
#include "kernels/moe/moe.h"
#include "kernels/moe/tiles.h"
#include "kernels/qgemm/layout_n32.h"
#include "kernels/warp.cuh"

namespace {

constexpr int TILE_ROWS = 8;
constexpr int WARPS = 4, THREADS = WARP * WARPS;
constexpr int RUN = 32, STEP = 8; /* columns that a warp takes at a time; in a word of codes */

struct matrix {
    const void *const *packed; /* [n_experts] */
    const float *bias;         /* [n_experts, n] or NULL */
    int64_t n;
    anemo_n32_shape shape;
};

struct launch {
    anemo_moe_experts_problem p;
    anemo_moe_experts_args a;
    matrix gate, up, down;
    float *hidden; /* [R, ffn] */
};

/* 4-bit code in bits shift .. shift+3, as a float. */
__device__ float code_at(unsigned word, int shift) {
    return __uint_as_float(0x4b000000u | (word >> shift & 15u)) - 8388608.0f;
}

/* x[column .. column + 8), 0 from k on. */
__device__ void load_step(const float *x, int64_t column, int64_t k, float out[STEP]) {
    if (column + STEP <= k && k % 4 == 0) {
        const float4 *from = reinterpret_cast<const float4 *>(x + column);
        const float4 low = from[0], high = from[1];
        const float both[STEP] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int i = 0; i < STEP; i++) {
            out[i] = both[i];
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < STEP; i++) {
        out[i] = column + i < k ? x[column + i] : 0.0f;
    }
}

__device__ float number_at(const unsigned char *at, int bytes, int index) {
    return bytes == 2 ? anemo_f32_from_f16(reinterpret_cast<const uint16_t *>(at)[index])
                      : reinterpret_cast<const float *>(at)[index];
}

/* sum[r] += x_r . (this lane's weight row) over one run of 32 columns. */
template <int ROWS>
__device__ void take_run(const anemo_n32_shape &s, const unsigned char *block, int64_t run,
                         const float *const (&x)[ROWS], float (&sum)[ROWS]) {
    const int lane = threadIdx.x % WARP;
    const int64_t group = run * RUN / s.group, into = run * RUN - group * s.group;
    const unsigned char *header = block + anemo_n32_group_at(&s, group);
    const unsigned *codes =
        reinterpret_cast<const unsigned *>(header + s.header_bytes) + into / STEP * WARP + lane;
    unsigned word[RUN / STEP];
#pragma unroll
    for (int i = 0; i < RUN / STEP; i++) {
        word[i] = codes[i * WARP];
    }
    const float scale = number_at(header, s.scale_bytes, lane);
    const float minimum =
        s.has_minimum ? number_at(header + 32 * s.scale_bytes, s.scale_bytes, lane) : 0.0f;
    const float zero = s.has_zero ? (float)block[32 * group + lane] : s.has_minimum ? 0.0f : 8.0f;
    float products[ROWS] = {}, inputs[ROWS] = {};
#pragma unroll
    for (int i = 0; i < RUN / STEP; i++) {
        float weight[STEP];
#pragma unroll
        for (int j = 0; j < STEP; j++) { /* low nibbles: columns 0-3, high ones: 4-7 */
            weight[j] = code_at(word[i], 8 * (j % 4) + 4 * (j / 4)) - zero;
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float value[STEP];
            load_step(x[r], run * RUN + i * STEP, s.k, value);
#pragma unroll
            for (int j = 0; j < STEP; j++) {
                products[r] = fmaf(weight[j], value[j], products[r]);
                inputs[r] += s.has_minimum ? value[j] : 0.0f;
            }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        sum[r] = fmaf(-minimum, inputs[r], fmaf(scale, products[r], sum[r]));
    }
}

/* Sums of the block's four warps, by warp, row and weight row. */
struct shared_sums {
    float of[WARPS][TILE_ROWS][WARP];
};

/* One block of 32 weight rows times ROWS rows of x; leaves the sums of the warps in `room`. */
template <int ROWS>
__device__ void multiply(const matrix &m, int expert, int64_t block_index,
                         const float *const (&x)[ROWS], shared_sums *room) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const unsigned char *block = static_cast<const unsigned char *>(m.packed[expert]) +
                                 (size_t)block_index * m.shape.block_bytes;
    float sum[ROWS] = {};
    for (int64_t run = warp; run < m.shape.k_padded / RUN; run += WARPS) {
        take_run<ROWS>(m.shape, block, run, x, sum);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        room->of[warp][r][lane] = sum[r];
    }
}

__device__ float joined(const matrix &m, int expert, int64_t column, const shared_sums &room,
                        int row) {
    float sum = 0.0f;
    for (int w = 0; w < WARPS; w++) {
        sum += room.of[w][row][column % WARP];
    }
    return m.bias != nullptr ? sum + m.bias[expert * m.n + column] : sum;
}

/* Rows beyond the tile's last are that row again; nobody stores what they give. */
template <int ROWS>
__device__ void gate_up_tile(const launch &l, const moe_tile &tile, shared_sums *gates,
                             shared_sums *ups) {
    const float *x[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int32_t row = tile.row_begin + r < tile.row_end ? tile.row_begin + r : tile.row_begin;
        x[r] = static_cast<const float *>(l.a.x) + l.a.plan.row_token[row] * l.p.d;
    }
    multiply<ROWS>(l.gate, tile.expert, blockIdx.x, x, gates);
    multiply<ROWS>(l.up, tile.expert, blockIdx.x, x, ups);
}

template <int ROWS>
__device__ void down_tile(const launch &l, const moe_tile &tile, shared_sums *room) {
    const float *x[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int32_t row = tile.row_begin + r < tile.row_end ? tile.row_begin + r : tile.row_begin;
        x[r] = l.hidden + row * l.p.ffn;
    }
    multiply<ROWS>(l.down, tile.expert, blockIdx.x, x, room);
}

__device__ moe_tile own_tile(const launch &l) {
    return moe_tile_at(l.a.plan.offset, l.p.expert_begin, l.p.expert_end, TILE_ROWS, blockIdx.y);
}

__global__ void __launch_bounds__(THREADS) gate_up(const __grid_constant__ launch l) {
    __shared__ shared_sums gates, ups;
    const moe_tile tile = own_tile(l);
    if (tile.expert < 0) {
        return;
    }
    const int rows = tile.row_end - tile.row_begin;
    if (rows == 1) {
        gate_up_tile<1>(l, tile, &gates, &ups);
    } else if (rows <= 4) {
        gate_up_tile<4>(l, tile, &gates, &ups);
    } else {
        gate_up_tile<TILE_ROWS>(l, tile, &gates, &ups);
    }
    __syncthreads();
    const int64_t column = (int64_t)blockIdx.x * WARP + threadIdx.x % WARP;
    for (int r = threadIdx.x / WARP; r < rows && column < l.p.ffn; r += WARPS) {
        l.hidden[(tile.row_begin + r) * l.p.ffn + column] =
            gpu::activate(l.p.activation, joined(l.gate, tile.expert, column, gates, r),
                          joined(l.up, tile.expert, column, ups, r));
    }
}

__global__ void __launch_bounds__(THREADS) down(const __grid_constant__ launch l) {
    __shared__ shared_sums room;
    const moe_tile tile = own_tile(l);
    if (tile.expert < 0) {
        return;
    }
    const int rows = tile.row_end - tile.row_begin;
    if (rows == 1) {
        down_tile<1>(l, tile, &room);
    } else if (rows <= 4) {
        down_tile<4>(l, tile, &room);
    } else {
        down_tile<TILE_ROWS>(l, tile, &room);
    }
    __syncthreads();
    const int64_t column = (int64_t)blockIdx.x * WARP + threadIdx.x % WARP;
    for (int r = threadIdx.x / WARP; r < rows && column < l.p.d; r += WARPS) {
        l.a.rows[(tile.row_begin + r) * l.p.d + column] =
            joined(l.down, tile.expert, column, room, r);
    }
}

/* ---------------------------------------------------------------- launching */

int64_t tiles_of(const anemo_moe_experts_problem &p, int64_t tokens) {
    return moe_tiles_max(tokens * p.top_k, p.expert_end - p.expert_begin, TILE_ROWS);
}

bool accepts(const void *problem, char *why, size_t why_bytes) {
    const auto *p = static_cast<const anemo_moe_experts_problem *>(problem);
    if (!anemo_moe_experts_accepts(problem, why, why_bytes)) {
        return false;
    }
    if (tiles_of(*p, p->tokens_max) > 65535) {
        return anemo_refuse(why, why_bytes, "%lld tiles of 8 rows are more than a launch takes",
                            (long long)tiles_of(*p, p->tokens_max));
    }
    return true;
}

size_t workspace_bytes(const void *problem, int32_t) {
    const auto *p = static_cast<const anemo_moe_experts_problem *>(problem);
    return (size_t)(p->tokens_max * p->top_k) * (size_t)p->ffn * sizeof(float);
}

matrix matrix_of(const void *const *packed, const float *bias, int64_t n, int64_t k,
                 const anemo_weight_type *type) {
    return {packed, bias, n, anemo_n32_shape_of(type, k)};
}

anemo_status run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const auto *p = static_cast<const anemo_moe_experts_problem *>(problem);
    const auto *a = static_cast<const anemo_moe_experts_args *>(arguments);
    if (a->tokens < 0 || a->tokens > p->tokens_max) {
        return ANEMO_E_INPUT;
    }
    if (exec->workspace_bytes < workspace_bytes(p, 1)) {
        return ANEMO_E_MEMORY;
    }
    const int64_t tiles = tiles_of(*p, a->tokens);
    if (tiles == 0) {
        return ANEMO_OK;
    }
    const launch l = {*p,
                      *a,
                      matrix_of(a->gate, a->gate_bias, p->ffn, p->d, &p->gate),
                      matrix_of(a->up, a->up_bias, p->ffn, p->d, &p->up),
                      matrix_of(a->down, a->down_bias, p->d, p->ffn, &p->down),
                      static_cast<float *>(exec->workspace)};
    const dim3 inner((unsigned)anemo_ceil_div(p->ffn, WARP), (unsigned)tiles);
    const dim3 outer((unsigned)anemo_ceil_div(p->d, WARP), (unsigned)tiles);
    const anemo_status status = gpu::launch(gate_up, inner, THREADS, 0, exec, l);
    return status == ANEMO_OK ? gpu::launch(down, outer, THREADS, 0, exec, l) : status;
}

} // namespace

extern "C" {
extern const anemo_variant anemo_moe_experts_w4a32_fused_sm80;
const anemo_variant anemo_moe_experts_w4a32_fused_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "moe_experts_w4a32_fused_sm80",
    .op = ANEMO_OP_MOE_EXPERTS,
    .backend = ANEMO_CUDA,
    .needs = {.min_capability = 80},
    .layout = "w4_n32k8",
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "decode: gate, up and activation in one launch, down in another; tiles of 8 rows",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
}
