/* moe_route over the lanes of lanes.h: a lane is a token, 8 of them (AVX2: 4) side by side.
 *
 * Experts pass one after the other; a lane keeps its best top_k so far as an ordered list of values
 * and expert numbers (both double: the lists are compared and exchanged in one kind of register).
 * An expert that beats no lane's last entry costs one gather and one comparison. Strictly larger
 * moves up, so ties keep index order. With 8 experts the list of 2 lives in registers or L1 and a
 * token costs a tenth of what insertion with its unforeseeable branches does.
 *
 * All in double, as in moe_route_c.c and for its reason: a choice or a weight that differs in the
 * last bit from another variant's may send a token elsewhere. Exponentials only where they are
 * needed: without a bias the choice compares logits, and a renormalised softmax cancels its
 * denominator. Refusals are the reference's (moe_route_ref.c). A lane without a token repeats the
 * last token, and is not stored.
 *
 * Rejected: lanes as experts (a reduction over lanes per choice; 8 experts fill one vector and 60
 * do not fill eight). Limit: the gathers, 8 loads each. */
#ifndef ANEMO_MOE_ROUTE_LANES_H
#define ANEMO_MOE_ROUTE_LANES_H

#include <math.h>
#include <stdatomic.h>

#include "kernels/dense/lanes.h"
#include "kernels/moe/moe.h"

typedef struct route_job {
    const anemo_moe_route_problem *p;
    const anemo_moe_route_args *a;
    char *memory; /* per thread: double value[top_k][HALF_LANES], expert[...], logit[...] */
    size_t thread_bytes;
    atomic_int refused;
} route_job;

#if defined(__AVX512F__)
typedef __m256i lane_places;
#else
typedef __m128i lane_places;
#endif

/* Up to HALF_LANES tokens from `logits` on. */
typedef struct group_of_tokens {
    const float *logits;
    lane_places places;
    double *value, *expert, *logit; /* [top_k][HALF_LANES], best first */
} group_of_tokens;

static inline bool any_lane(vl mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#else
    return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#endif
}

static inline vd logits_of(const group_of_tokens *g, int64_t expert) {
#if defined(__AVX512F__)
    return vd_from_f32(_mm256_i32gather_ps(g->logits + expert, g->places, 4));
#else
    return vd_from_f32(_mm_i32gather_ps(g->logits + expert, g->places, 4));
#endif
}

/* Distances from the first token's logits to those of each lane's token. */
static inline lane_places places_of(int64_t n, int64_t n_experts) {
    int32_t place[HALF_LANES];
    lane_places places;
    for (int64_t t = 0; t < HALF_LANES; t++)
        place[t] = (int32_t)(min_i64(t, n - 1) * n_experts);
    memcpy(&places, place, sizeof places);
    return places;
}

static inline vd larger(vd a, vd b) {
    return vd_select((vl)(a > b), a, b);
}

/* The largest logit of each lane; false where one is NaN or +infinity or a lane has none. */
static bool find_largest(const group_of_tokens *g, int32_t n_experts, vd *largest) {
    vl bad = {0};
    *largest = vd_splat(-INFINITY);
    for (int32_t e = 0; e < n_experts; e++) {
        const vd logit = logits_of(g, e);
        bad |= ~(vl)(logit < vd_splat(INFINITY));
        *largest = larger(logit, *largest);
    }
    return !any_lane(bad | (vl)(*largest == vd_splat(-INFINITY)));
}

/* Before it is divided by the sum, for softmax. */
static inline vd score_of(const anemo_moe_route_problem *p, vd logit, vd largest) {
    if (p->score == ANEMO_MOE_SOFTMAX)
        return vd_exp(logit - largest);
    return vd_splat(1) / (vd_splat(1) + vd_exp(-logit));
}

/* Puts an expert into the lists of n entries, from the best down: what is displaced moves on. With
 * `grow` the last one out becomes entry n. */
static inline void insert(const group_of_tokens *g, int64_t n, bool grow, vd value, vd expert,
                          vd logit) {
    double *values = g->value, *experts = g->expert, *logits = g->logit;
    vl beats = {0}; /* for good once true: what is displaced comes before all behind it, ties too */
    for (; n > 0; n--, values += HALF_LANES, experts += HALF_LANES, logits += HALF_LANES) {
        const vd v = vd_load(values), e = vd_load(experts), l = vd_load(logits);
        beats |= (vl)(value > v);
        vd_store(values, vd_select(beats, value, v));
        vd_store(experts, vd_select(beats, expert, e));
        vd_store(logits, vd_select(beats, logit, l));
        value = vd_select(beats, v, value);
        expert = vd_select(beats, e, expert);
        logit = vd_select(beats, l, logit);
    }
    if (grow) {
        vd_store(values, value);
        vd_store(experts, expert);
        vd_store(logits, logit);
    }
}

/* Fills the lists; `all` is the softmax denominator, if a bias needs it. False: a NaN bias. */
static bool choose(const anemo_moe_route_problem *p, const group_of_tokens *g, const float *bias,
                   vd largest, vd all) {
    const int32_t k = p->top_k;
    for (int32_t e = 0; e < p->n_experts; e++) {
        const vd logit = logits_of(g, e);
        vd value = logit;
        if (bias) {
            value = score_of(p, logit, largest) / all + vd_splat(bias[e]);
            if (any_lane((vl)(value != value)))
                return false;
        }
        const double *last = g->value + (k - 1) * HALF_LANES;
        if (e < k || any_lane((vl)(value > vd_load(last))))
            insert(g, e < k ? e : k, e < k, value, vd_splat(e), logit);
    }
    return true;
}

/* value[j] = the weight of choice j; false where weights to renormalise sum to 0. */
static bool weigh(const anemo_moe_route_problem *p, const group_of_tokens *g, vd largest, vd all) {
    vd sum = vd_splat(0);
    for (int32_t j = 0; j < p->top_k; j++) {
        const vd score = score_of(p, vd_load(g->logit + j * HALF_LANES), largest) / all;
        vd_store(g->value + j * HALF_LANES, score);
        sum += score;
    }
    if (p->renormalise && any_lane(~(vl)(sum > vd_splat(0))))
        return false;
    const vd divisor = p->renormalise ? sum : vd_splat(1);
    for (int32_t j = 0; j < p->top_k; j++) {
        const vd share = vd_load(g->value + j * HALF_LANES) / divisor;
        vd_store(g->value + j * HALF_LANES, share * vd_splat(p->scale));
    }
    return true;
}

static bool route_group(const anemo_moe_route_problem *p, const group_of_tokens *g,
                        const float *bias) {
    vd largest, all = vd_splat(1);
    if (!find_largest(g, p->n_experts, &largest))
        return false;
    if (p->score == ANEMO_MOE_SOFTMAX && (bias || !p->renormalise)) {
        all = vd_splat(0);
        for (int32_t e = 0; e < p->n_experts; e++)
            all += score_of(p, logits_of(g, e), largest);
    }
    return choose(p, g, bias, largest, all) && weigh(p, g, largest, all);
}

static void route_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    route_job *job = ctx;
    const anemo_moe_route_problem *p = job->p;
    const anemo_moe_route_args *a = job->a;
    const int64_t k = p->top_k;
    double *memory = (double *)(void *)(job->memory + (size_t)thread * job->thread_bytes);
    for (int64_t t = begin; t < end; t += HALF_LANES) {
        const int64_t n = min_i64(HALF_LANES, end - t);
        const group_of_tokens g = {.logits = a->logits + t * p->n_experts,
                                   .places = places_of(n, p->n_experts),
                                   .value = memory,
                                   .expert = memory + k * HALF_LANES,
                                   .logit = memory + 2 * k * HALF_LANES};
        if (!route_group(p, &g, a->selection_bias)) {
            atomic_store_explicit(&job->refused, 1, memory_order_relaxed);
            return;
        }
        for (int64_t i = 0; i < n * k; i++) {
            const int64_t from = i % k * HALF_LANES + i / k;
            a->plan.expert[t * k + i] = (int32_t)g.expert[from];
            a->plan.weight[t * k + i] = (float)g.value[from];
        }
    }
}

static size_t thread_bytes(const anemo_moe_route_problem *p) {
    return align64(3 * (size_t)p->top_k * HALF_LANES * sizeof(double));
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    return (size_t)n_threads * thread_bytes(problem);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_moe_route_problem *p = problem;
    const anemo_moe_route_args *a = args;
    if (a->tokens < 0 || a->tokens > p->tokens_max)
        return ANEMO_E_INPUT;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    route_job job = {.p = p, .a = a, .memory = exec->workspace, .thread_bytes = thread_bytes(p)};
    const int64_t grain = anemo_round_up(lanes_grain(25 * (int64_t)p->n_experts), HALF_LANES);
    exec->parallel(exec, a->tokens, grain, route_rows, &job);
    if (atomic_load(&job.refused))
        return ANEMO_E_NUMERIC;
    anemo_moe_plan plan = a->plan;
    anemo_moe_plan_sort(&plan, a->tokens, p->n_experts, p->top_k);
    return ANEMO_OK;
}

#define MOE_ROUTE_LANES(name, what)                                                                \
    LANES_VARIANT(name, ANEMO_OP_MOE_ROUTE, anemo_moe_route_accepts, workspace_bytes, run, what)

#endif
