/* add_rmsnorm on a GPU: a block per row, threads stride over d, one reduction. The sum of squares
 * runs in 256 partial sums, so that its rounding error stays that of d / 256 terms. A row is read
 * twice; the second time it comes from L1. Limit: launch latency at a few rows, bandwidth beyond.
 */
#include "kernels/dense/common.h"
#include "kernels/dense/dense.h"
#include "kernels/warp.cuh"

namespace {

constexpr int THREADS = 256;

struct launch {
    anemo_add_rmsnorm_args a;
    int64_t d;
    float eps;
    bool add;
};

__global__ void __launch_bounds__(THREADS) norm_row(const __grid_constant__ launch l) {
    __shared__ float room[THREADS / WARP];
    const int64_t row = blockIdx.x;
    float *x = l.a.x + (l.a.rows != nullptr ? l.a.rows[row] : row) * l.d;
    float *y = l.a.y + row * l.d;
    float squares = 0.0f;
    for (int64_t i = threadIdx.x; i < l.d; i += THREADS) {
        if (l.add) {
            x[i] += l.a.delta[row * l.d + i];
        }
        squares = fmaf(x[i], x[i], squares);
    }
    const float sum = block_sum<THREADS>(squares, room);
    const float scale = 1.0f / sqrtf(sum / (float)l.d + l.eps);
    for (int64_t i = threadIdx.x; i < l.d; i += THREADS) {
        y[i] = x[i] * scale * l.a.weight[i];
    }
}

anemo_status run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const auto *p = static_cast<const anemo_add_rmsnorm_problem *>(problem);
    const auto *a = static_cast<const anemo_add_rmsnorm_args *>(arguments);
    const anemo_status status = anemo_add_rmsnorm_check(p, a);
    if (status != ANEMO_OK || a->m == 0) {
        return status;
    }
    return gpu::launch(norm_row, (unsigned)a->m, THREADS, 0, exec,
                       launch{*a, p->d, p->eps, p->add != 0});
}

} // namespace

extern "C" {
extern const anemo_variant anemo_add_rmsnorm_block_sm80;
const anemo_variant anemo_add_rmsnorm_block_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "add_rmsnorm_block_sm80",
    .op = ANEMO_OP_ADD_RMSNORM,
    .backend = ANEMO_CUDA,
    .needs = {.min_capability = 80},
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "a block per row, 256 partial sums",
    .accepts = anemo_add_rmsnorm_accepts,
    .workspace_bytes = no_workspace,
    .run = run,
};
}
