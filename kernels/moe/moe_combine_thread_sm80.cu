/* moe_combine on a GPU: a thread per element, the sum in the definition's order. Limit: bandwidth,
 * top_k rows read for one written. */
#include "kernels/dense/common.h"
#include "kernels/moe/moe.h"
#include "kernels/warp.cuh"

namespace {

constexpr int THREADS = 256;

struct launch {
    anemo_moe_combine_args a;
    int64_t d;
    int top_k;
    bool accumulate;
};

__global__ void __launch_bounds__(THREADS) one_element(const __grid_constant__ launch l) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= l.a.tokens * l.d) {
        return;
    }
    const int64_t choice = i / l.d * l.top_k, column = i % l.d;
    float sum = l.accumulate ? l.a.y[i] : 0.0f;
    if (l.a.shared != nullptr) {
        sum += l.a.shared[i];
    }
    for (int j = 0; j < l.top_k; j++) {
        const int64_t row = l.a.plan.row_of[choice + j];
        sum = fmaf(l.a.plan.weight[choice + j], l.a.rows[row * l.d + column], sum);
    }
    l.a.y[i] = sum;
}

bool accepts(const void *problem, char *why, size_t why_bytes) {
    const auto *p = static_cast<const anemo_moe_combine_problem *>(problem);
    return anemo_moe_combine_accepts(problem, why, why_bytes) &&
           grid_fits(anemo_ceil_div(p->tokens_max * p->d, THREADS), why, why_bytes);
}

anemo_status run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const auto *p = static_cast<const anemo_moe_combine_problem *>(problem);
    const auto *a = static_cast<const anemo_moe_combine_args *>(arguments);
    if (a->tokens < 0 || a->tokens > p->tokens_max) {
        return ANEMO_E_INPUT;
    }
    if (a->tokens == 0) {
        return ANEMO_OK;
    }
    const int64_t blocks = anemo_ceil_div(a->tokens * p->d, THREADS);
    return gpu::launch(one_element, (unsigned)blocks, THREADS, 0, exec,
                       launch{*a, p->d, p->top_k, p->accumulate != 0});
}

} // namespace

extern "C" {
extern const anemo_variant anemo_moe_combine_thread_sm80;
const anemo_variant anemo_moe_combine_thread_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "moe_combine_thread_sm80",
    .op = ANEMO_OP_MOE_COMBINE,
    .backend = ANEMO_CUDA,
    .needs = {.min_capability = 80},
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "a thread per element",
    .accepts = accepts,
    .workspace_bytes = no_workspace,
    .run = run,
};
}
