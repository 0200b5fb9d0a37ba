/* sample on a GPU: a block per row, no sort and no heap; the definition's stream of draws
 * (sample_ref.c), weights in double.
 *
 *   greedy   one pass: each thread the largest of its tokens, ties to the lower index
 *   cut      the last token of the order that is kept. Logits become unsigned keys of the same
 *            order; a bisection of the key's 32 bits finds the largest key at which the tokens from
 *            it on reach the goal, in number (top_k), then, among what top_k left, in mass (top_p).
 *            Tokens with just that key are kept by index as far as the goal needs them.
 *   draw     a thread sums the masses of a contiguous run of tokens, thread 0 finds the run in
 * which the running mass passes u * total, and walks it token by token
 *
 * 33 passes per cut over logits that lie in L2. Rejected: a sort (a vocabulary does not fit in
 * shared memory), a histogram per byte of the key (4 passes instead of 32, atomics; for when a
 * profile shows it). */
#include "kernels/dense/common.h"
#include "kernels/dense/dense.h"
#include "kernels/philox.h"
#include "kernels/warp.cuh"

namespace {

constexpr int THREADS = 512;

struct launch {
    anemo_sample_args a;
    int vocab;
};

/* The kept tokens: all whose key is above `key`, and those at `key` up to index `last`. */
struct cut {
    unsigned key;
    int last;
};

struct row {
    const float *logits;
    int vocab;
    float largest;
    double temperature;
    double *room; /* shared, THREADS */
};

/* Unsigned numbers in the order of the floats; -0 and +0 are one. No NaN. */
__device__ unsigned key_of(float logit) {
    const unsigned bits = __float_as_uint(logit + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ bool kept(const cut &c, unsigned key, int index) {
    return key > c.key || (key == c.key && index <= c.last);
}

__device__ double mass_of(const row &r, int i) {
    const float logit = r.logits[i];
    return logit == r.largest ? 1 : exp(((double)logit - r.largest) / r.temperature);
}

/* Tokens of a thread: a contiguous run, so that runs are in index order. */
__device__ int run_begin(const row &r, int thread) {
    return (int)((int64_t)r.vocab * thread / THREADS);
}

/* What a token counts towards the goal. */
__device__ double share_of(const row &r, bool by_mass, int i) {
    return by_mass ? mass_of(r, i) : 1;
}

/* Sum of the shares of the tokens within `within` whose key is at least `key`; on all threads. */
__device__ double reach(const row &r, const cut &within, bool by_mass, unsigned key) {
    double sum = 0;
    for (int i = threadIdx.x; i < r.vocab; i += THREADS) {
        const unsigned own = key_of(r.logits[i]);
        sum += own >= key && kept(within, own, i) ? share_of(r, by_mass, i) : 0;
    }
    return block_sum<THREADS>(sum, r.room);
}

/* Of the tokens at `key` and within `within`, the index of the one that brings `sum` to the goal;
 * each counts the same. */
__device__ int last_of_ties(const row &r, const cut &within, bool by_mass, unsigned key, double sum,
                            double goal) {
    __shared__ int last;
    const int begin = run_begin(r, threadIdx.x), end = run_begin(r, threadIdx.x + 1);
    int ties = 0;
    for (int i = begin; i < end; i++) {
        ties += key_of(r.logits[i]) == key && kept(within, key, i);
    }
    r.room[threadIdx.x] = ties;
    __syncthreads();
    if (threadIdx.x == 0) {
        last = -1;
        bool reached = false;
        for (int t = 0; t < THREADS && !reached; t++) {
            for (int i = run_begin(r, t); r.room[t] > 0 && i < run_begin(r, t + 1) && !reached;
                 i++) {
                if (key_of(r.logits[i]) == key && kept(within, key, i)) {
                    last = i;
                    sum += share_of(r, by_mass, i);
                    reached = sum >= goal;
                }
            }
        }
    }
    __syncthreads();
    const int found = last;
    __syncthreads();
    return found;
}

/* The shortest beginning of the order, within `within`, whose shares reach the goal. */
__device__ cut shorten(const row &r, const cut &within, bool by_mass, double goal) {
    unsigned key = 0; /* largest key from which on the goal is reached */
    for (unsigned bit = 0x80000000u; bit != 0; bit >>= 1) {
        if (reach(r, within, by_mass, key | bit) >= goal) {
            key |= bit;
        }
    }
    const double above = key == 0xffffffffu ? 0 : reach(r, within, by_mass, key + 1);
    return {key, last_of_ties(r, within, by_mass, key, above, goal)};
}

__device__ cut find_cut(const row &r, const anemo_sample_params &s) {
    cut c = {0, r.vocab};
    if (s.top_k > 0 && s.top_k < r.vocab) {
        c = shorten(r, c, false, s.top_k);
    }
    if (s.top_p < 1) {
        const double goal = s.top_p * reach(r, c, true, 0);
        /* At least one token: the first of the order has a mass of 1. */
        c = shorten(r, c, true, goal > 0 ? goal : 1e-300);
    }
    return c;
}

/* The first kept token at which the running mass passes u * total; thread 0 knows it. */
__device__ int draw(const row &r, const cut &c, double u) {
    const int begin = run_begin(r, threadIdx.x), end = run_begin(r, threadIdx.x + 1);
    double mass = 0;
    for (int i = begin; i < end; i++) {
        mass += kept(c, key_of(r.logits[i]), i) ? mass_of(r, i) : 0;
    }
    r.room[threadIdx.x] = mass;
    __syncthreads();
    int id = -1;
    if (threadIdx.x == 0) {
        double total = 0, running = 0;
        for (int t = 0; t < THREADS; t++) {
            total += r.room[t];
        }
        int t = 0;
        for (; t < THREADS - 1 && !(running + r.room[t] > u * total); t++) {
            running += r.room[t];
        }
        for (int i = run_begin(r, t); i < r.vocab; i++) {
            const double own = kept(c, key_of(r.logits[i]), i) ? mass_of(r, i) : 0;
            running += own;
            id = own > 0 ? i : id; /* the last one, should rounding pass them all by */
            if (own > 0 && running > u * total) {
                break;
            }
        }
    }
    return id;
}

/* The largest logit and its lowest index on all threads; -1: a NaN, or nothing above -infinity. */
__device__ int find_largest(const row &r) {
    __shared__ int best;
    unsigned key = 0;
    int at = -1;
    bool has_nan = false;
    for (int i = threadIdx.x; i < r.vocab; i += THREADS) {
        const float logit = r.logits[i];
        has_nan |= isnan(logit);
        if (logit > -INFINITY && key_of(logit) > key) {
            key = key_of(logit);
            at = i;
        }
    }
    unsigned *keys = reinterpret_cast<unsigned *>(r.room);
    int *indices = reinterpret_cast<int *>(keys + THREADS);
    keys[threadIdx.x] = key;
    indices[threadIdx.x] = at;
    if (__syncthreads_or(has_nan)) {
        return -1;
    }
    if (threadIdx.x == 0) {
        for (int t = 1; t < THREADS; t++) {
            if (keys[t] > key || (keys[t] == key && indices[t] < at)) {
                key = keys[t];
                at = indices[t];
            }
        }
        best = at;
    }
    __syncthreads();
    return best;
}

__device__ bool good(const anemo_sample_params &s) {
    return s.temperature >= 0 && s.temperature <= 3.4e38f && s.top_k >= 0 && s.top_p >= 0 &&
           s.top_p <= 1;
}

__global__ void __launch_bounds__(THREADS) sample_row(const __grid_constant__ launch l) {
    __shared__ double room[THREADS];
    const anemo_sample_params s = l.a.params[blockIdx.x];
    row r = {l.a.logits + (int64_t)blockIdx.x * l.vocab, l.vocab, 0, s.temperature, room};
    int id = good(s) ? find_largest(r) : -1;
    if (id >= 0 && s.temperature > 0) {
        r.largest = r.logits[id];
        id = draw(r, find_cut(r, s), philox_uniform(s.seed, s.counter));
    }
    if (threadIdx.x == 0) {
        l.a.ids[blockIdx.x] = id;
    }
}

anemo_status run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const auto *p = static_cast<const anemo_sample_problem *>(problem);
    const auto *a = static_cast<const anemo_sample_args *>(arguments);
    if (a->m < 0 || a->m > p->m_max) {
        return ANEMO_E_INPUT;
    }
    if (a->m == 0) {
        return ANEMO_OK;
    }
    return gpu::launch(sample_row, (unsigned)a->m, THREADS, 0, exec, launch{*a, (int)p->vocab});
}

} // namespace

extern "C" {
extern const anemo_variant anemo_sample_block_sm80;
const anemo_variant anemo_sample_block_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "sample_block_sm80",
    .op = ANEMO_OP_SAMPLE,
    .backend = ANEMO_CUDA,
    .needs = {.min_capability = 80},
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "a block per row; cuts by bisection of the key, weights in double",
    .accepts = anemo_sample_accepts,
    .workspace_bytes = no_workspace,
    .run = run,
};
}
