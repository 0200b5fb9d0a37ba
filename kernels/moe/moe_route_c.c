/* moe_route in plain C: tokens in parallel, one pass over the experts per token, a counting sort.
 *
 * Scores stay in double although every other plain C variant computes in float: routing is a ten
 * thousandth of a layer's work, and in double the choice and the weights come out as the
 * reference's to the last bit, so that a model routes the same tokens to the same experts whichever
 * of the two it runs. What is saved is exponentials: without a bias the choice needs none, and a
 * renormalised softmax needs those of the chosen only, because the denominator cancels.
 *
 * Rejected: vectors, tried with AVX2 and AVX-512 in both directions. A lane per token: gathers of
 * logits cost more than the choice, one token pays for eight, and of 128 experts nearly every one
 * enters some lane's list; 1.0 (8 experts, 512 tokens) to 5 times (128 experts, 1 token) this time.
 * A lane per expert, a maximum per choice: 1.6 to 2 times at 8 experts, where two insertions are
 * shorter than two maxima over lanes; 0.6 times at 128 experts and 512 tokens, which saves 70 us of
 * a layer that takes a thousand times that. One token of 8 experts takes 0.08 us here.
 *
 * Refusals (ANEMO_E_NUMERIC) are the reference's, see moe_route_ref.c.
 */
#include <math.h>
#include <stdatomic.h>

#include "kernels/dense/common.h"
#include "kernels/moe/moe.h"

typedef struct route_job {
    const anemo_moe_route_problem *p;
    const anemo_moe_route_args *a;
    char *memory; /* per thread: double value[n_experts] */
    size_t thread_bytes;
    atomic_int refused;
} route_job;

/* value[e] = what the choice compares; false when the row cannot be routed. *largest gets the
 * largest logit, *sum the softmax denominator where `need_sum`. */
static bool value_experts(const anemo_moe_route_problem *p, const float *logits, const float *bias,
                          bool need_sum, double *value, double *largest, double *sum) {
    double top = -INFINITY;
    for (int32_t e = 0; e < p->n_experts; e++) {
        if (isnan(logits[e]) || logits[e] == INFINITY)
            return false;
        value[e] = logits[e];
        top = value[e] > top ? value[e] : top;
    }
    *largest = top;
    *sum = 0;
    for (int32_t e = 0; need_sum && e < p->n_experts; e++)
        *sum += exp(value[e] - top);
    for (int32_t e = 0; bias && e < p->n_experts; e++) {
        const double score =
            p->score == ANEMO_MOE_SIGMOID ? 1 / (1 + exp(-value[e])) : exp(value[e] - top) / *sum;
        value[e] = score + bias[e];
        if (isnan(value[e]))
            return false;
    }
    return top > -INFINITY;
}

/* Insertion into the list of the best so far: strictly larger moves up, so ties keep index order.
 */
static void choose(const double *value, int32_t n_experts, int32_t top_k, int32_t *chosen) {
    int32_t n = 0;
    for (int32_t e = 0; e < n_experts; e++) {
        if (n == top_k && !(value[e] > value[chosen[n - 1]]))
            continue;
        int32_t j = n < top_k ? n++ : n - 1;
        for (; j > 0 && value[e] > value[chosen[j - 1]]; j--)
            chosen[j] = chosen[j - 1];
        chosen[j] = e;
    }
}

static bool route_token(const anemo_moe_route_problem *p, const float *logits, const float *bias,
                        double *value, int32_t *chosen, float *weight) {
    const bool softmax = p->score == ANEMO_MOE_SOFTMAX;
    const bool need_sum = softmax && (bias || !p->renormalise);
    double largest, all;
    if (!value_experts(p, logits, bias, need_sum, value, &largest, &all))
        return false;
    choose(value, p->n_experts, p->top_k, chosen);

    double sum = 0;
    for (int32_t j = 0; j < p->top_k; j++) {
        const double logit = logits[chosen[j]];
        value[j] = softmax ? exp(logit - largest) : 1 / (1 + exp(-logit));
        if (need_sum)
            value[j] /= all;
        sum += value[j];
    }
    if (p->renormalise && !(sum > 0))
        return false;
    for (int32_t j = 0; j < p->top_k; j++)
        weight[j] = (float)((p->renormalise ? value[j] / sum : value[j]) * p->scale);
    return true;
}

static void route_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    route_job *job = ctx;
    const anemo_moe_route_problem *p = job->p;
    const anemo_moe_route_args *a = job->a;
    double *value = (double *)(job->memory + (size_t)thread * job->thread_bytes);
    for (int64_t t = begin; t < end; t++)
        if (!route_token(p, a->logits + t * p->n_experts, a->selection_bias, value,
                         a->plan.expert + t * p->top_k, a->plan.weight + t * p->top_k))
            atomic_store_explicit(&job->refused, 1, memory_order_relaxed);
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    const anemo_moe_route_problem *p = problem;
    return (size_t)n_threads * align64((size_t)p->n_experts * sizeof(double));
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_moe_route_problem *p = problem;
    const anemo_moe_route_args *a = args;
    if (a->tokens < 0 || a->tokens > p->tokens_max)
        return ANEMO_E_INPUT;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    route_job job = {.p = p,
                     .a = a,
                     .memory = exec->workspace,
                     .thread_bytes = align64((size_t)p->n_experts * sizeof(double))};
    exec->parallel(exec, a->tokens, 32, route_rows, &job);
    if (atomic_load(&job.refused))
        return ANEMO_E_NUMERIC;
    anemo_moe_plan plan = a->plan;
    anemo_moe_plan_sort(&plan, a->tokens, p->n_experts, p->top_k);
    return ANEMO_OK;
}

const anemo_variant anemo_moe_route_c = {
    .size = sizeof(anemo_variant),
    .name = "moe_route_c",
    .op = ANEMO_OP_MOE_ROUTE,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "tokens in parallel, one pass per token, counting sort",
    .accepts = anemo_moe_route_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
