/* moe_experts, the simple CUDA variant: one warp per result, two launches (gate, up and activation;
 * then down). Any weight (layout "rows"), float activations, both activations, biases, expert
 * ranges. Each weight row is read once per sorted row of its expert, and 4-bit codes take a byte:
 * obviously right and slow, the yardstick of correctness for the fast variants. */
#include "kernels/activate.cuh"
#include "kernels/dense/common.h"
#include "kernels/moe/moe.h"
#include "kernels/qgemm/layout_rows.h"
#include "kernels/warp.cuh"

namespace {

constexpr int WARPS = 8;

struct matrix {
    const void *const *weight; /* [n_experts] */
    const float *bias;         /* [n_experts, n] or NULL */
    int64_t n, k;
    anemo_weight_type type;
    anemo_rows_shape shape;
};

struct launch {
    anemo_moe_experts_problem p;
    anemo_moe_experts_args a;
    matrix gate, up, down;
    float *hidden; /* [R, ffn] */
};

/* The expert of a sorted row; experts without rows are passed over. */
__device__ int expert_of_row(const launch &l, int64_t row) {
    int expert = 0;
    while (l.a.plan.offset[expert + 1] <= row) {
        expert++;
    }
    return expert;
}

/* W_expert[column] . x + bias, the same on all lanes. */
__device__ float dot(const matrix &m, int expert, int64_t column, const float *x) {
    const unsigned char *record =
        static_cast<const unsigned char *>(m.weight[expert]) + column * m.shape.row_bytes;
    float sum = 0.0f;
    for (int64_t i = threadIdx.x; i < m.k; i += WARP) {
        sum = fmaf(x[i], anemo_rows_value(&m.type, &m.shape, record, i), sum);
    }
    sum = warp_sum(sum);
    return m.bias != nullptr ? sum + m.bias[expert * m.n + column] : sum;
}

/* Row and column of a warp's result, and the row's expert; false: nothing to do. */
__device__ bool place(const launch &l, int64_t columns, int64_t *row, int64_t *column,
                      int *expert) {
    const int64_t index = (int64_t)blockIdx.x * WARPS + threadIdx.y;
    *row = index / columns;
    *column = index % columns;
    if (*row >= l.a.tokens * l.p.top_k) {
        return false;
    }
    *expert = expert_of_row(l, *row);
    return *expert >= l.p.expert_begin && *expert < l.p.expert_end;
}

__global__ void __launch_bounds__(WARP *WARPS) gate_up(const __grid_constant__ launch l) {
    int64_t row, column;
    int expert;
    if (!place(l, l.p.ffn, &row, &column, &expert)) {
        return;
    }
    const float *x = static_cast<const float *>(l.a.x) + l.a.plan.row_token[row] * l.p.d;
    const float g = dot(l.gate, expert, column, x), u = dot(l.up, expert, column, x);
    if (threadIdx.x == 0) {
        l.hidden[row * l.p.ffn + column] = gpu::activate(l.p.activation, g, u);
    }
}

__global__ void __launch_bounds__(WARP *WARPS) down(const __grid_constant__ launch l) {
    int64_t row, column;
    int expert;
    if (!place(l, l.p.d, &row, &column, &expert)) {
        return;
    }
    const float y = dot(l.down, expert, column, l.hidden + row * l.p.ffn);
    if (threadIdx.x == 0) {
        l.a.rows[row * l.p.d + column] = y;
    }
}

bool accepts(const void *problem, char *why, size_t why_bytes) {
    const auto *p = static_cast<const anemo_moe_experts_problem *>(problem);
    if (!anemo_moe_experts_accepts(problem, why, why_bytes)) {
        return false;
    }
    const int64_t rows = p->tokens_max * p->top_k;
    return grid_fits(anemo_ceil_div(rows * max_i64(p->ffn, p->d), WARPS), why, why_bytes);
}

size_t workspace_bytes(const void *problem, int32_t) {
    const auto *p = static_cast<const anemo_moe_experts_problem *>(problem);
    return (size_t)(p->tokens_max * p->top_k) * (size_t)p->ffn * sizeof(float);
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
    const launch l = {
        *p,
        *a,
        {a->gate, a->gate_bias, p->ffn, p->d, p->gate, anemo_rows_shape_of(&p->gate, p->d)},
        {a->up, a->up_bias, p->ffn, p->d, p->up, anemo_rows_shape_of(&p->up, p->d)},
        {a->down, a->down_bias, p->d, p->ffn, p->down, anemo_rows_shape_of(&p->down, p->ffn)},
        static_cast<float *>(exec->workspace)};
    const int64_t rows = a->tokens * p->top_k;
    if (rows == 0) {
        return ANEMO_OK;
    }
    const dim3 block(WARP, WARPS);
    const anemo_status status =
        gpu::launch(gate_up, (unsigned)anemo_ceil_div(rows * p->ffn, WARPS), block, 0, exec, l);
    return status == ANEMO_OK
               ? gpu::launch(down, (unsigned)anemo_ceil_div(rows * p->d, WARPS), block, 0, exec, l)
               : status;
}

} // namespace

extern "C" {
extern const anemo_variant anemo_moe_experts_wxa32_warp_sm80;
const anemo_variant anemo_moe_experts_wxa32_warp_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "moe_experts_wxa32_warp_sm80",
    .op = ANEMO_OP_MOE_EXPERTS,
    .backend = ANEMO_CUDA,
    .needs = {.min_capability = 80},
    .layout = "rows",
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "one warp per result, any weight: obvious, slow",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
}
