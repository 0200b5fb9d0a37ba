/* swa, the simple CUDA variant: one warp per row and query head, one key after the other, online
 * softmax. Lanes stride over head_dim: each multiplies its elements of the key, a butterfly sums
 * the score, every lane then knows it and updates the running maximum, the denominator and its
 * elements of the output. Every KV type, window, sinks and page size; obviously right, and slow:
 * query heads that share a KV head read it again each, and a long context is one warp's work. The
 * yardstick of correctness for the fast variants. */
#include "kernels/dense/common.h"
#include "kernels/swa/kv_page.h"
#include "kernels/swa/swa.h"
#include "kernels/warp.cuh"

namespace {

constexpr int WARPS = 4;
constexpr int HEAD_DIM_MAX = 256, PER_LANE = HEAD_DIM_MAX / WARP;

struct launch {
    anemo_swa_args a;
    kv_pages pages;
    int64_t window;
    float scale;
    bool has_sinks;
};

__device__ float score_of(const launch &l, const float *q, const char *key) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < l.pages.shape.head_dim; i += WARP) {
        sum = fmaf(q[i], kv_element(l.pages.shape.type, key, i), sum);
    }
    return l.scale * warp_sum(sum);
}

__device__ void attend(const launch &l, int64_t row, int head) {
    const anemo_kv_shape &shape = l.pages.shape;
    const int d = shape.head_dim, kv_head = head / (shape.n_heads / shape.n_kv_heads);
    const int32_t sequence = kv_sequence_of_row(&l.a.kv, row);
    const int64_t position = kv_position(&l.a.kv, sequence, row);
    const int64_t begin = kv_first_visible(&l.a.kv, sequence, position, l.window);
    const float *q = l.a.q + (row * shape.n_heads + head) * d;
    float *out = l.a.out + (row * shape.n_heads + head) * d;
    float mixed[PER_LANE] = {};
    float most = l.has_sinks ? l.a.sinks[head] : -INFINITY, sum = l.has_sinks ? 1.0f : 0.0f;
    for (int64_t j = begin; j <= position; j++) {
        const char *key = kv_key(&l.pages, sequence, j, kv_head);
        const float score = score_of(l, q, key), larger = score > most ? score : most;
        const float kept = expf(most - larger), weight = expf(score - larger);
        most = larger;
        sum = sum * kept + weight;
        for (int c = 0, i = threadIdx.x; c < PER_LANE; c++, i += WARP) {
            const float v = i < d ? kv_element(shape.type, key + l.pages.value_offset, i) : 0.0f;
            mixed[c] = fmaf(weight, v, mixed[c] * kept);
        }
    }
    for (int c = 0, i = threadIdx.x; c < PER_LANE; c++, i += WARP) {
        if (i < d) {
            out[i] = mixed[c] / sum;
        }
    }
}

__global__ void __launch_bounds__(WARP *WARPS) one_warp_per_head(const __grid_constant__ launch l) {
    const int64_t n_heads = l.pages.shape.n_heads;
    const int64_t index = (int64_t)blockIdx.x * WARPS + threadIdx.y;
    if (index < l.a.rows * n_heads) {
        attend(l, index / n_heads, (int)(index % n_heads));
    }
}

bool accepts(const void *problem, char *why, size_t why_bytes) {
    const auto *p = static_cast<const anemo_swa_problem *>(problem);
    if (!anemo_swa_accepts(problem, why, why_bytes)) {
        return false;
    }
    if (p->kv.head_dim > HEAD_DIM_MAX) {
        return anemo_refuse(why, why_bytes, "head_dim %d is above %d", p->kv.head_dim,
                            HEAD_DIM_MAX);
    }
    return grid_fits(anemo_ceil_div(p->rows_max * p->kv.n_heads, WARPS), why, why_bytes);
}

anemo_status run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const auto *p = static_cast<const anemo_swa_problem *>(problem);
    const auto *a = static_cast<const anemo_swa_args *>(arguments);
    if (a->rows < 0 || a->rows > p->rows_max || (p->has_sinks && a->sinks == nullptr)) {
        return ANEMO_E_INPUT;
    }
    if (a->rows == 0) {
        return ANEMO_OK;
    }
    const launch l = {*a, kv_pages_of(&p->kv, &a->kv), p->window, p->scale, p->has_sinks != 0};
    const int64_t blocks = anemo_ceil_div(a->rows * p->kv.n_heads, WARPS);
    return gpu::launch(one_warp_per_head, (unsigned)blocks, dim3(WARP, WARPS), 0, exec, l);
}

} // namespace

extern "C" {
extern const anemo_variant anemo_swa_warp_sm80;
const anemo_variant anemo_swa_warp_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "swa_warp_sm80",
    .op = ANEMO_OP_SWA,
    .backend = ANEMO_CUDA,
    .needs = {.min_capability = 80},
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "one warp per query head, one key after the other: obvious, slow",
    .accepts = accepts,
    .workspace_bytes = no_workspace,
    .run = run,
};
}
