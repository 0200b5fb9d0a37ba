/* moe_combine, the definition: one double sum per element, in this order: the old y when
 * `accumulate`, the shared expert when given, then j = 0 .. top_k-1, best expert first. y must not
 * overlap rows; it may be the same memory as shared. */
#include "kernels/dense/common.h"
#include "kernels/moe/moe.h"

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_moe_combine_problem *p = problem;
    const anemo_moe_combine_args *a = args;
    (void)exec;
    if (a->tokens < 0 || a->tokens > p->tokens_max)
        return ANEMO_E_INPUT;
    for (int64_t t = 0; t < a->tokens; t++)
        for (int64_t i = 0; i < p->d; i++) {
            double sum = p->accumulate ? a->y[t * p->d + i] : 0;
            if (a->shared)
                sum += a->shared[t * p->d + i];
            for (int32_t j = 0; j < p->top_k; j++) {
                const int64_t row = a->plan.row_of[t * p->top_k + j];
                sum += (double)a->plan.weight[t * p->top_k + j] * a->rows[row * p->d + i];
            }
            a->y[t * p->d + i] = (float)sum;
        }
    return ANEMO_OK;
}

const anemo_variant anemo_moe_combine_ref = {
    .size = sizeof(anemo_variant),
    .name = "moe_combine_ref",
    .op = ANEMO_OP_MOE_COMBINE,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_REFERENCE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "the definition: one double sum per element, in a fixed order",
    .accepts = anemo_moe_combine_accepts,
    .workspace_bytes = no_workspace,
    .run = run,
};
