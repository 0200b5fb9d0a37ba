/* The moe ops with faults. */
#include "tests/plugins/wrong.h"

typedef enum fault {
    NOTHING,
    /* route */
    HIGHER_INDEX,
    UNNORMALISED,
    SOFTMAX_OF_CHOSEN,
    UNSTABLE_SORT,
    WRONG_COUNT,
    BIAS_IN_WEIGHT,
    HIDES_NAN,
    /* experts */
    EXPERTS_NOTHING,
    SWAPPED_EXPERTS,
    SWAPPED_GATE_UP,
    UNSORTED_ROWS,
    OUTSIDE_RANGE,
    NO_CLAMP,
    LAST_ROW_FORGOTTEN,
    /* combine */
    COMBINE_NOTHING,
    FIRST_ONLY,
    UNWEIGHTED,
    NO_SHARED,
    FORGETS_OLD
} fault;

/* ---------------------------------------------------------------- route */

static void sort_plan(const anemo_moe_route_problem *p, const anemo_moe_route_args *a, fault f) {
    const anemo_moe_plan *plan = &a->plan;
    const int32_t k = p->top_k;
    int32_t row = 0;
    for (int32_t e = 0; e < p->n_experts; e++) {
        plan->offset[e] = row;
        for (int64_t n = 0; n < a->tokens; n++)
            for (int32_t j = 0; j < k; j++) {
                const int64_t t = f == UNSTABLE_SORT ? a->tokens - 1 - n : n;
                if (plan->expert[t * k + j] == e) {
                    plan->row_token[row] = (int32_t)t;
                    plan->row_of[t * k + j] = row++;
                }
            }
        plan->count[e] = row - plan->offset[e] + (f == WRONG_COUNT && e == 0);
    }
    plan->offset[p->n_experts] = row;
}

static void route_token(const anemo_moe_route_problem *p, const anemo_moe_route_args *a, int64_t t,
                        fault f) {
    const float *logits = a->logits + t * p->n_experts;
    int32_t *expert = a->plan.expert + t * p->top_k;
    bool taken[256] = {false};
    double score[256], value[256], all = 0, chosen = 0, most = -INFINITY;
    for (int32_t e = 0; e < p->n_experts; e++)
        most = logits[e] > most ? logits[e] : most; /* fmax crashes GCC 12 for AArch64 */
    for (int32_t e = 0; e < p->n_experts; e++)
        all += score[e] =
            p->score ? 1 / (1 + exp(-(double)logits[e])) : exp((double)logits[e] - most);
    for (int32_t e = 0; e < p->n_experts; e++) {
        score[e] /= p->score ? 1 : all;
        value[e] = a->selection_bias ? score[e] + a->selection_bias[e] : logits[e];
    }
    for (int32_t j = 0; j < p->top_k; j++) {
        int32_t best = -1;
        for (int32_t e = 0; e < p->n_experts; e++)
            if (!taken[e] && (best < 0 || value[e] > value[best] ||
                              (f == HIGHER_INDEX && value[e] == value[best])))
                best = e;
        expert[j] = best;
        if (f == BIAS_IN_WEIGHT && a->selection_bias)
            score[best] = value[best];
        taken[best] = true;
        chosen += score[best];
    }
    const bool divide = f == SOFTMAX_OF_CHOSEN || (p->renormalise && f != UNNORMALISED);
    for (int32_t j = 0; j < p->top_k; j++)
        a->plan.weight[t * p->top_k + j] =
            (float)(score[expert[j]] / (divide ? chosen : 1) * p->scale);
}

/* Every row must have a finite logit, no NaN and no +inf. */
static bool meaningful(const anemo_moe_route_problem *p, const anemo_moe_route_args *a) {
    for (int64_t t = 0; t < a->tokens; t++) {
        float most = -INFINITY;
        for (int32_t e = 0; e < p->n_experts; e++) {
            const float x = a->logits[t * p->n_experts + e];
            if (isnan(x) || (a->selection_bias && isnan(a->selection_bias[e])))
                return false;
            most = fmaxf(most, x);
        }
        if (isinf(most))
            return false;
    }
    return true;
}

static anemo_status route(const anemo_moe_route_problem *p, const anemo_moe_route_args *a,
                          fault f) {
    if (f != HIDES_NAN && !meaningful(p, a))
        return ANEMO_E_NUMERIC;
    for (int64_t t = 0; t < a->tokens; t++)
        route_token(p, a, t, f);
    sort_plan(p, a, f);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- experts */

static float bias_at(const float *bias, int32_t row, int64_t n, int64_t i) {
    return bias ? bias[row * n + i] : 0;
}

/* The three matrices of an expert. */
typedef struct expert {
    float *gate, *up, *down;
} expert;

static expert expert_of(const anemo_moe_experts_args *a, int32_t e, fault f) {
    expert x = {.gate = wrong_matrix(a->gate[e]), wrong_matrix(a->up[e]), wrong_matrix(a->down[e])};
    if (f == SWAPPED_GATE_UP)
        x = (expert){x.up, x.gate, x.down};
    return x;
}

static void expert_row(const anemo_moe_experts_problem *p, const anemo_moe_experts_args *a,
                       int32_t e, const expert *w, const float *x, float *y, fault f) {
    const int64_t d = p->d, ffn = p->ffn;
    float *h = malloc((size_t)ffn * sizeof *h);
    for (int64_t j = 0; j < ffn; j++) {
        const float g = wrong_dot(x, w->gate + j * d, d, false) + bias_at(a->gate_bias, e, ffn, j);
        const float u = wrong_dot(x, w->up + j * d, d, false) + bias_at(a->up_bias, e, ffn, j);
        h[j] = f == NO_CLAMP && p->activation ? (u + 1) * g / (1 + expf(-1.702f * g))
                                              : wrong_act_mul(p->activation, g, u);
    }
    for (int64_t i = 0; i < d; i++)
        y[i] = wrong_dot(h, w->down + i * ffn, ffn, false) + bias_at(a->down_bias, e, d, i);
    free(h);
}

static anemo_status experts(const anemo_moe_experts_problem *p, const anemo_moe_experts_args *a,
                            fault f) {
    for (int32_t e = p->expert_begin; e < p->expert_end; e++) {
        const int32_t end = a->plan.offset[e + 1] - (f == LAST_ROW_FORGOTTEN);
        const int32_t other = e > p->expert_begin ? e - 1 : p->expert_end - 1;
        const int32_t own = f == SWAPPED_EXPERTS ? other : e;
        const expert w = expert_of(a, own, f);
        for (int32_t r = a->plan.offset[e]; r < end; r++) {
            const int64_t token = f == UNSORTED_ROWS ? r / p->top_k : a->plan.row_token[r];
            expert_row(p, a, own, &w, (const float *)a->x + token * p->d, a->rows + r * p->d, f);
        }
        free(w.gate);
        free(w.up);
        free(w.down);
    }
    const int64_t all = a->tokens * p->top_k;
    for (int64_t r = 0; f == OUTSIDE_RANGE && r < all; r++) {
        const bool inside =
            r >= a->plan.offset[p->expert_begin] && r < a->plan.offset[p->expert_end];
        if (!inside)
            a->rows[r * p->d] = 0;
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- combine */

static anemo_status combine(const anemo_moe_combine_problem *p, const anemo_moe_combine_args *a,
                            fault f) {
    for (int64_t i = 0; i < a->tokens * p->d; i++) {
        const int64_t t = i / p->d, column = i % p->d;
        float sum = p->accumulate && f != FORGETS_OLD ? a->y[i] : 0;
        if (a->shared && f != NO_SHARED)
            sum += a->shared[i];
        for (int32_t j = 0; j < (f == FIRST_ONLY ? 1 : p->top_k); j++) {
            const float weight =
                f == UNWEIGHTED ? 1.0f / (float)p->top_k : a->plan.weight[t * p->top_k + j];
            sum += weight * a->rows[a->plan.row_of[t * p->top_k + j] * p->d + column];
        }
        a->y[i] = sum;
    }
    return ANEMO_OK;
}

/* The faults of all three ops lie in one enumeration, one op behind the other. */
static anemo_status compute(const anemo_exec *exec, const void *problem, const void *args,
                            fault f) {
    (void)exec;
    return f < EXPERTS_NOTHING   ? route(problem, args, f)
           : f < COMBINE_NOTHING ? experts(problem, args, f)
                                 : combine(problem, args, f);
}

#define ROUTE(name, fault) WRONG_VARIANT(moe_route, MOE_ROUTE, name, fault, 0, wrong_no_workspace)
#define EXPERTS(name, fault)                                                                       \
    WRONG_VARIANT(moe_experts, MOE_EXPERTS, name, fault, 0, wrong_no_workspace)
#define COMBINE(name, fault)                                                                       \
    WRONG_VARIANT(moe_combine, MOE_COMBINE, name, fault, 0, wrong_no_workspace)
ROUTE(nothing, NOTHING) /* the control: right */
ROUTE(higher_index, HIGHER_INDEX)
ROUTE(unnormalised, UNNORMALISED)
ROUTE(softmax_of_chosen, SOFTMAX_OF_CHOSEN)
ROUTE(unstable_sort, UNSTABLE_SORT)
ROUTE(wrong_count, WRONG_COUNT)
ROUTE(bias_in_weight, BIAS_IN_WEIGHT)
ROUTE(hides_nan, HIDES_NAN)
EXPERTS(experts_nothing, EXPERTS_NOTHING)
EXPERTS(swapped_experts, SWAPPED_EXPERTS)
EXPERTS(swapped_gate_up, SWAPPED_GATE_UP)
EXPERTS(unsorted_rows, UNSORTED_ROWS)
EXPERTS(outside_range, OUTSIDE_RANGE)
EXPERTS(no_clamp, NO_CLAMP)
EXPERTS(last_row_forgotten, LAST_ROW_FORGOTTEN)
COMBINE(combine_nothing, COMBINE_NOTHING)
COMBINE(first_only, FIRST_ONLY)
COMBINE(unweighted, UNWEIGHTED)
COMBINE(no_shared, NO_SHARED)
COMBINE(forgets_old, FORGETS_OLD)

WRONG_PLUGIN("wrong_moe", &variant_nothing, &variant_higher_index, &variant_unnormalised,
             &variant_softmax_of_chosen, &variant_unstable_sort, &variant_wrong_count,
             &variant_bias_in_weight, &variant_hides_nan, &variant_experts_nothing,
             &variant_combine_nothing, &variant_swapped_experts, &variant_swapped_gate_up,
             &variant_unsorted_rows, &variant_outside_range, &variant_no_clamp,
             &variant_last_row_forgotten, &variant_first_only, &variant_unweighted,
             &variant_no_shared, &variant_forgets_old)
