/* moe_route on a GPU, two launches and no word to the host.
 *
 *   choose   a warp per token, lanes stride over the experts; double, as the CPU's. The j-th choice
 *            is the largest (value, lower index first) that comes after the choice before it, so no
 *            list of taken experts is kept.
 *   sort     a block per expert reads all choices once. How many belong to experts below its own is
 *            its first row; a second pass hands rows to its own choices in their order, 256 at a
 *            time: ballots rank the lanes of a warp, a sum over the warps before them the warps.
 * The sort is stable and needs no atomics; the n_experts passes read from L2.
 *
 * A router that says nothing (moe_route_ref.c) cannot stop a stream: its token gets experts 0 ..
 * top_k-1 with weights NaN (kernel.h). Rejected: one block that sorts by a histogram in shared
 * memory (fewer reads, but a chain of barriers on one SM, and n_experts up to 65536 do not fit). */
#include "kernels/dense/common.h"
#include "kernels/moe/moe.h"
#include "kernels/warp.cuh"

namespace {

constexpr int CHOOSE_WARPS = 4;
constexpr int SORT_THREADS = 256, SORT_WARPS = SORT_THREADS / WARP;

struct launch {
    anemo_moe_route_problem p;
    anemo_moe_route_args a;
};

/* A candidate of the choice. */
struct candidate {
    double value;
    int expert; /* -1: none */
};

__device__ bool before(candidate a, candidate b) {
    return a.expert >= 0 &&
           (b.expert < 0 || a.value > b.value || (a.value == b.value && a.expert < b.expert));
}

/* What all lanes know of a token's logits. */
struct scores {
    const float *logits, *bias;
    bool softmax;
    double largest, sum;
};

__device__ double score_of(const scores &s, int expert) {
    const double logit = s.logits[expert];
    return s.softmax ? exp(logit - s.largest) / s.sum : 1 / (1 + exp(-logit));
}

__device__ double value_of(const scores &s, int expert) {
    return s.bias != nullptr ? score_of(s, expert) + s.bias[expert] : (double)s.logits[expert];
}

/* Largest logit and denominator; false when the router says nothing. */
__device__ bool survey(const launch &l, scores *s) {
    bool refused = false;
    float largest = -INFINITY;
    for (int e = threadIdx.x; e < l.p.n_experts; e += WARP) {
        const float logit = s->logits[e];
        refused |= isnan(logit) || logit == INFINITY || (s->bias != nullptr && isnan(s->bias[e]));
        largest = fmaxf(largest, logit);
    }
    s->largest = warp_max(largest);
    double sum = 0;
    for (int e = threadIdx.x; e < l.p.n_experts; e += WARP) {
        sum += exp(s->logits[e] - s->largest);
    }
    s->sum = warp_sum(sum);
    return !__any_sync(ALL_LANES, refused) && s->largest > -INFINITY;
}

/* The first of the order that comes after `last`. */
__device__ candidate next_choice(const scores &s, int n_experts, candidate last) {
    candidate best = {0, -1};
    for (int e = threadIdx.x; e < n_experts; e += WARP) {
        const candidate c = {value_of(s, e), e};
        if ((last.expert < 0 || before(last, c)) && before(c, best)) {
            best = c;
        }
    }
    for (int step = WARP / 2; step > 0; step /= 2) {
        const candidate other = {__shfl_xor_sync(ALL_LANES, best.value, step),
                                 __shfl_xor_sync(ALL_LANES, best.expert, step)};
        best = before(other, best) ? other : best;
    }
    return best;
}

__device__ void route_token(const launch &l, int64_t token) {
    int32_t *expert = l.a.plan.expert + token * l.p.top_k;
    float *weight = l.a.plan.weight + token * l.p.top_k;
    scores s = {l.a.logits + token * l.p.n_experts, l.a.selection_bias,
                l.p.score == ANEMO_MOE_SOFTMAX, 0, 0};
    bool good = survey(l, &s);
    candidate last = {0, -1};
    double sum = 0;
    for (int j = 0; j < l.p.top_k; j++) {
        last = good ? next_choice(s, l.p.n_experts, last) : candidate{0, j};
        sum += good ? score_of(s, last.expert) : 0;
        if (threadIdx.x == 0) {
            expert[j] = last.expert;
        }
    }
    good = good && (!l.p.renormalise || sum > 0);
    __syncwarp();
    for (int j = threadIdx.x; j < l.p.top_k; j += WARP) {
        const double score = good ? score_of(s, expert[j]) : NAN;
        weight[j] = (float)((l.p.renormalise ? score / sum : score) * l.p.scale);
    }
}

__global__ void __launch_bounds__(WARP *CHOOSE_WARPS) choose(const __grid_constant__ launch l) {
    const int64_t token = (int64_t)blockIdx.x * CHOOSE_WARPS + threadIdx.y;
    if (token < l.a.tokens) {
        route_token(l, token);
    }
}

/* How many of `mine` lie before this thread in its block; *all: how many there are. */
__device__ int rank_in_block(bool mine, int *room, int *all) {
    const unsigned lanes = __ballot_sync(ALL_LANES, mine);
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (lane == 0) {
        room[warp] = __popc(lanes);
    }
    __syncthreads();
    int rank = __popc(lanes & ((1u << lane) - 1));
    *all = 0;
    for (int w = 0; w < SORT_WARPS; w++) {
        rank += w < warp ? room[w] : 0;
        *all += room[w];
    }
    __syncthreads();
    return rank;
}

__global__ void __launch_bounds__(SORT_THREADS) sort(const __grid_constant__ launch l) {
    __shared__ int room[SORT_WARPS];
    const anemo_moe_plan &plan = l.a.plan;
    const int own = blockIdx.x, choices = (int)(l.a.tokens * l.p.top_k);
    int below = 0;
    for (int i = threadIdx.x; i < choices; i += SORT_THREADS) {
        below += plan.expert[i] < own;
    }
    const int first = block_sum<SORT_THREADS>(below, room);
    int row = first;
    for (int begin = 0; begin < choices; begin += SORT_THREADS) {
        const int i = begin + threadIdx.x;
        const bool mine = i < choices && plan.expert[i] == own;
        int all;
        const int at = row + rank_in_block(mine, room, &all);
        if (mine) {
            plan.row_token[at] = i / l.p.top_k;
            plan.row_of[i] = at;
        }
        row += all;
    }
    if (threadIdx.x == 0) {
        plan.offset[own] = first;
        plan.count[own] = row - first;
        if (own == l.p.n_experts - 1) {
            plan.offset[own + 1] = row;
        }
    }
}

anemo_status run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const launch l = {*static_cast<const anemo_moe_route_problem *>(problem),
                      *static_cast<const anemo_moe_route_args *>(arguments)};
    if (l.a.tokens < 0 || l.a.tokens > l.p.tokens_max) {
        return ANEMO_E_INPUT;
    }
    anemo_status status = ANEMO_OK;
    if (l.a.tokens > 0) {
        const int64_t blocks = anemo_ceil_div(l.a.tokens, CHOOSE_WARPS);
        status = gpu::launch(choose, (unsigned)blocks, dim3(WARP, CHOOSE_WARPS), 0, exec, l);
    }
    return status == ANEMO_OK ? gpu::launch(sort, (unsigned)l.p.n_experts, SORT_THREADS, 0, exec, l)
                              : status;
}

} // namespace

extern "C" {
extern const anemo_variant anemo_moe_route_warp_sm80;
const anemo_variant anemo_moe_route_warp_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "moe_route_warp_sm80",
    .op = ANEMO_OP_MOE_ROUTE,
    .backend = ANEMO_CUDA,
    .needs = {.min_capability = 80},
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "a warp per token, then a block per expert for the stable sort",
    .accepts = anemo_moe_route_accepts,
    .workspace_bytes = no_workspace,
    .run = run,
};
}
