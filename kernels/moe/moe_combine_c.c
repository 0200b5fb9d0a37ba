/* moe_combine in plain C: tokens in parallel, four elements at a time, each element summed in the
 * definition's order. y may be the same memory as shared. */
#include "kernels/dense/common.h"
#include "kernels/dense/f32x4.h"
#include "kernels/moe/moe.h"

typedef struct combine_job {
    const anemo_moe_combine_problem *p;
    const anemo_moe_combine_args *a;
} combine_job;

static void combine_token(const anemo_moe_combine_problem *p, const anemo_moe_combine_args *a,
                          int64_t t) {
    const float *weight = a->plan.weight + t * p->top_k;
    const int32_t *row_of = a->plan.row_of + t * p->top_k;
    const float *shared = a->shared ? a->shared + t * p->d : NULL;
    float *y = a->y + t * p->d;
    int64_t i = 0;
    for (; i + 4 <= p->d; i += 4) {
        f32x4 sum = p->accumulate ? f4_load(y + i) : (f32x4){0};
        if (shared)
            sum += f4_load(shared + i);
        for (int32_t j = 0; j < p->top_k; j++)
            sum += f4_splat(weight[j]) * f4_load(a->rows + row_of[j] * p->d + i);
        f4_store(y + i, sum);
    }
    for (; i < p->d; i++) {
        float sum = p->accumulate ? y[i] : 0;
        if (shared)
            sum += shared[i];
        for (int32_t j = 0; j < p->top_k; j++)
            sum += weight[j] * a->rows[row_of[j] * p->d + i];
        y[i] = sum;
    }
}

static void combine_tokens(void *ctx, int64_t begin, int64_t end, int thread) {
    const combine_job *job = ctx;
    (void)thread;
    for (int64_t t = begin; t < end; t++)
        combine_token(job->p, job->a, t);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_moe_combine_problem *p = problem;
    const anemo_moe_combine_args *a = args;
    if (a->tokens < 0 || a->tokens > p->tokens_max)
        return ANEMO_E_INPUT;
    combine_job job = {.p = p, .a = a};
    exec->parallel(exec, a->tokens, 16, combine_tokens, &job);
    return ANEMO_OK;
}

const anemo_variant anemo_moe_combine_c = {
    .size = sizeof(anemo_variant),
    .name = "moe_combine_c",
    .op = ANEMO_OP_MOE_COMBINE,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "tokens in parallel, four elements at a time",
    .accepts = anemo_moe_combine_accepts,
    .workspace_bytes = no_workspace,
    .run = run,
};
