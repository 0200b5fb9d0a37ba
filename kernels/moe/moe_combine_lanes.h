/* moe_combine over the lanes of lanes.h: tokens in parallel, each element summed in the
 * definition's order (old y, shared, best expert first), with FMA.
 *
 * A strip of four vectors of y stays in registers while the chosen rows pass, so that a row's
 * address and weight are looked up once per 64 (AVX2: 32) elements instead of once per vector. y
 * may be the same memory as shared. Limit: reading top_k rows, from L2 or L3 where the experts left
 * them. */
#ifndef ANEMO_MOE_COMBINE_LANES_H
#define ANEMO_MOE_COMBINE_LANES_H

#include "kernels/dense/lanes.h"
#include "kernels/moe/moe.h"

enum { STRIP = 4 };

typedef struct combine_job {
    const anemo_moe_combine_problem *p;
    const anemo_moe_combine_args *a;
} combine_job;

/* n_vectors vectors of y[t] from column i on, of which the last may be partial: inlined with a
 * constant count. */
static inline void combine_strip(const combine_job *job, int64_t t, int64_t i, int n_vectors) {
    const anemo_moe_combine_args *a = job->a;
    const int64_t d = job->p->d, top_k = job->p->top_k, left = d - i;
    float *y = a->y + t * d + i;
    vf sum[STRIP];
    for (int v = 0; v < n_vectors; v++) {
        const int64_t at = v * LANES;
        sum[v] = job->p->accumulate ? vf_load_part(y + at, left - at) : vf_splat(0);
        if (a->shared)
            sum[v] += vf_load_part(a->shared + t * d + i + at, left - at);
    }
    for (int64_t j = t * top_k; j < (t + 1) * top_k; j++) {
        const vf weight = vf_splat(a->plan.weight[j]);
        const float *row = a->rows + a->plan.row_of[j] * d + i;
        for (int v = 0; v < n_vectors; v++)
            sum[v] = vf_fma(weight, vf_load_part(row + v * LANES, left - v * LANES), sum[v]);
    }
    for (int v = 0; v < n_vectors; v++)
        vf_store_part(y + v * LANES, sum[v], left - v * LANES);
}

static void combine_tokens(void *ctx, int64_t begin, int64_t end, int thread) {
    const combine_job *job = ctx;
    const int64_t d = job->p->d;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        int64_t i = 0;
        for (; i + STRIP * LANES <= d; i += STRIP * LANES)
            combine_strip(job, t, i, STRIP);
        for (; i < d; i += LANES)
            combine_strip(job, t, i, 1);
    }
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_moe_combine_problem *p = problem;
    const anemo_moe_combine_args *a = args;
    if (a->tokens < 0 || a->tokens > p->tokens_max)
        return ANEMO_E_INPUT;
    combine_job job = {.p = p, .a = a};
    exec->parallel(exec, a->tokens, lanes_grain(p->d * (p->top_k + 1) / 2), combine_tokens, &job);
    return ANEMO_OK;
}

#define MOE_COMBINE_LANES(name, what)                                                              \
    LANES_VARIANT(name, ANEMO_OP_MOE_COMBINE, anemo_moe_combine_accepts, no_workspace, run, what)

#endif
