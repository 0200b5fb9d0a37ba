/* moe_route, the definition. Per token, in double:
 *
 *   score[e]  = exp(logit[e]) / sum over all experts of exp(logit), or 1 / (1 + exp(-logit[e]))
 *   value[e]  = score[e] + selection_bias[e] where a bias is given, else logit[e]
 *   chosen    = the top_k experts of largest value, best first, ties to the lower index
 *   weight[j] = score[chosen[j]] (without the bias), divided by the sum of the chosen scores when
 *               `renormalise`, times `scale`
 *
 * Without a bias the choice is made on the logits: both scores grow with the logit, so in exact
 * arithmetic it is the same choice, and rounding cannot make two different logits tie. Softmax over
 * all experts, then top-k, then renormalising equals top-k, then softmax over the chosen: Mixtral
 * in either of its published forms.
 *
 * A logit of -inf is an expert that is switched off (score 0). A NaN or +inf logit, a row without a
 * finite logit, a NaN bias, and chosen scores that are all 0 under `renormalise` give
 * ANEMO_E_NUMERIC: a router that says nothing must not pick experts 0 and 1 in silence. The plan is
 * then unspecified.
 *
 * The plan: rows sorted by expert, within an expert by token. A token never chooses an expert
 * twice.
 */
#include <math.h>

#include "kernels/dense/common.h"
#include "kernels/moe/moe.h"

static bool score_experts(const anemo_moe_route_problem *p, const float *logits, double *score) {
    double largest = -INFINITY;
    for (int32_t e = 0; e < p->n_experts; e++) {
        if (isnan(logits[e]) || logits[e] == INFINITY)
            return false;
        largest = fmax(largest, logits[e]);
    }
    if (largest == -INFINITY)
        return false;

    double sum = 0;
    for (int32_t e = 0; e < p->n_experts; e++) {
        score[e] = p->score == ANEMO_MOE_SIGMOID ? 1 / (1 + exp(-(double)logits[e]))
                                                 : exp(logits[e] - largest);
        sum += score[e];
    }
    if (p->score == ANEMO_MOE_SOFTMAX)
        for (int32_t e = 0; e < p->n_experts; e++)
            score[e] /= sum;
    return true;
}

static bool is_chosen(const int32_t *chosen, int32_t n, int32_t expert) {
    for (int32_t j = 0; j < n; j++)
        if (chosen[j] == expert)
            return true;
    return false;
}

static bool route_token(const anemo_moe_route_problem *p, const float *logits, const float *bias,
                        double *score, int32_t *chosen, float *weight) {
    if (!score_experts(p, logits, score))
        return false;
    for (int32_t e = 0; bias && e < p->n_experts; e++)
        if (isnan(bias[e]))
            return false;

    double sum = 0;
    for (int32_t j = 0; j < p->top_k; j++) {
        int32_t best = -1;
        double best_value = 0;
        for (int32_t e = 0; e < p->n_experts; e++) {
            const double value = bias ? score[e] + bias[e] : logits[e];
            if (!is_chosen(chosen, j, e) && (best < 0 || value > best_value)) {
                best = e;
                best_value = value;
            }
        }
        chosen[j] = best;
        sum += score[best];
    }
    if (p->renormalise && !(sum > 0))
        return false;
    for (int32_t j = 0; j < p->top_k; j++) {
        const double share = p->renormalise ? score[chosen[j]] / sum : score[chosen[j]];
        weight[j] = (float)(share * p->scale);
    }
    return true;
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    const anemo_moe_route_problem *p = problem;
    (void)n_threads;
    return (size_t)p->n_experts * sizeof(double);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_moe_route_problem *p = problem;
    const anemo_moe_route_args *a = args;
    const int32_t k = p->top_k;
    if (a->tokens < 0 || a->tokens > p->tokens_max)
        return ANEMO_E_INPUT;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    for (int64_t t = 0; t < a->tokens; t++)
        if (!route_token(p, a->logits + t * p->n_experts, a->selection_bias, exec->workspace,
                         a->plan.expert + t * k, a->plan.weight + t * k))
            return ANEMO_E_NUMERIC;

    int32_t row = 0;
    for (int32_t e = 0; e < p->n_experts; e++) {
        a->plan.offset[e] = row;
        for (int64_t t = 0; t < a->tokens; t++)
            for (int32_t j = 0; j < k; j++)
                if (a->plan.expert[t * k + j] == e) {
                    a->plan.row_token[row] = (int32_t)t;
                    a->plan.row_of[t * k + j] = row++;
                }
        a->plan.count[e] = row - a->plan.offset[e];
    }
    a->plan.offset[p->n_experts] = row;
    return ANEMO_OK;
}

const anemo_variant anemo_moe_route_ref = {
    .size = sizeof(anemo_variant),
    .name = "moe_route_ref",
    .op = ANEMO_OP_MOE_ROUTE,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_REFERENCE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "the definition: double scores, top_k passes over the experts",
    .accepts = anemo_moe_route_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
