#include "kernels/moe/moe.h"

#include <math.h>

#include "kernels/dense/common.h"

static bool accepts_dispatch(int64_t tokens_max, int32_t n_experts, int32_t top_k, char *why,
                             size_t why_bytes) {
    if (n_experts < 1 || n_experts > 65536)
        return anemo_refuse(why, why_bytes, "n_experts %d is not in 1 .. 65536", n_experts);
    if (top_k < 1 || top_k > n_experts)
        return anemo_refuse(why, why_bytes, "top_k %d is not in 1 .. n_experts (%d)", top_k,
                            n_experts);
    if (tokens_max < 1 || tokens_max > INT32_MAX / top_k)
        return anemo_refuse(why, why_bytes,
                            "tokens_max %lld times top_k %d is not in 1 .. 2^31 - 1",
                            (long long)tokens_max, top_k);
    return true;
}

bool anemo_moe_route_accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_moe_route_problem *p = problem;
    if (!accepts_dispatch(p->tokens_max, p->n_experts, p->top_k, why, why_bytes))
        return false;
    if (p->score != ANEMO_MOE_SOFTMAX && p->score != ANEMO_MOE_SIGMOID)
        return anemo_refuse(why, why_bytes, "score %d is neither softmax (0) nor sigmoid (1)",
                            p->score);
    if (!isfinite(p->scale))
        return anemo_refuse(why, why_bytes, "scale is not finite");
    return true;
}

bool anemo_moe_experts_accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_moe_experts_problem *p = problem;
    if (!accepts_dispatch(p->tokens_max, p->n_experts, p->top_k, why, why_bytes))
        return false;
    if (p->expert_begin < 0 || p->expert_begin > p->expert_end || p->expert_end > p->n_experts)
        return anemo_refuse(why, why_bytes, "experts %d .. %d are no range within 0 .. %d",
                            p->expert_begin, p->expert_end, p->n_experts);
    if (p->d < 1 || p->d > ANEMO_DIM_MAX || p->ffn < 1 || p->ffn > ANEMO_DIM_MAX)
        return anemo_refuse(why, why_bytes, "d %lld or ffn %lld is not in 1 .. 2^24",
                            (long long)p->d, (long long)p->ffn);
    const bool types_valid = anemo_weight_type_valid(&p->gate, p->d, why, why_bytes) &&
                             anemo_weight_type_valid(&p->up, p->d, why, why_bytes) &&
                             anemo_weight_type_valid(&p->down, p->ffn, why, why_bytes);
    if (!types_valid)
        return false;
    if (p->activation != ANEMO_ACT_SILU && p->activation != ANEMO_ACT_SILU_CLAMPED)
        return anemo_refuse(why, why_bytes,
                            "activation %d is neither silu (0) nor silu_clamped (1)",
                            p->activation);
    return true;
}

bool anemo_moe_combine_accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_moe_combine_problem *p = problem;
    if (p->top_k < 1 || p->tokens_max < 1 || p->tokens_max > INT32_MAX / p->top_k)
        return anemo_refuse(why, why_bytes,
                            "tokens_max %lld times top_k %d is not in 1 .. 2^31 - 1",
                            (long long)p->tokens_max, p->top_k);
    if (p->d < 1 || p->d > ANEMO_DIM_MAX)
        return anemo_refuse(why, why_bytes, "d %lld is not in 1 .. 2^24", (long long)p->d);
    return true;
}

void anemo_moe_plan_sort(anemo_moe_plan *plan, int64_t tokens, int32_t n_experts, int32_t top_k) {
    const int64_t n_rows = tokens * top_k;
    int32_t *next =
        plan->count; /* first the counts, then each expert's next free row, then counts */
    for (int32_t e = 0; e < n_experts; e++)
        next[e] = 0;
    for (int64_t i = 0; i < n_rows; i++)
        next[plan->expert[i]]++;
    plan->offset[0] = 0;
    for (int32_t e = 0; e < n_experts; e++) {
        plan->offset[e + 1] = plan->offset[e] + next[e];
        next[e] = plan->offset[e];
    }
    for (int64_t i = 0; i < n_rows; i++) {
        const int32_t row = next[plan->expert[i]]++;
        plan->row_token[row] = (int32_t)(i / top_k);
        plan->row_of[i] = row;
    }
    for (int32_t e = 0; e < n_experts; e++)
        plan->count[e] = plan->offset[e + 1] - plan->offset[e];
}
