/* Dispatch plans by counting: the row of a choice is the number of choices that come before it. */
#include "harness/check/dispatch.h"

#include <stdlib.h>
#include <string.h>

const char *const check_routing_names[4] = {"random", "skewed", "all to the same",
                                            "expert 0 empty"};

static check_dispatch *allocate(int64_t tokens, int32_t n_experts, int32_t top_k) {
    check_dispatch *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    const size_t choices = (size_t)(tokens * top_k), experts = (size_t)n_experts;
    d->tokens = tokens;
    d->n_experts = n_experts;
    d->top_k = top_k;
    d->expert = calloc(choices, sizeof *d->expert);
    d->weight = calloc(choices, sizeof *d->weight);
    d->count = calloc(experts, sizeof *d->count);
    d->offset = calloc(experts + 1, sizeof *d->offset);
    d->row_token = calloc(choices, sizeof *d->row_token);
    d->row_of = calloc(choices, sizeof *d->row_of);
    if (!d->expert || !d->weight || !d->count || !d->offset || !d->row_token || !d->row_of) {
        check_dispatch_free(d);
        return NULL;
    }
    return d;
}

void check_dispatch_free(check_dispatch *dispatch) {
    if (!dispatch)
        return;
    free(dispatch->expert);
    free(dispatch->weight);
    free(dispatch->count);
    free(dispatch->offset);
    free(dispatch->row_token);
    free(dispatch->row_of);
    free(dispatch);
}

void check_dispatch_sort(check_dispatch *d) {
    const int64_t choices = d->tokens * d->top_k;
    for (int32_t e = 0; e <= d->n_experts; e++) {
        int32_t below = 0, equal = 0;
        for (int64_t i = 0; i < choices; i++) {
            below += d->expert[i] < e;
            equal += d->expert[i] == e;
        }
        d->offset[e] = below;
        if (e < d->n_experts)
            d->count[e] = equal;
    }
    for (int64_t i = 0; i < choices; i++) {
        int32_t before = 0; /* of the same expert */
        for (int64_t j = 0; j < i; j++)
            before += d->expert[j] == d->expert[i];
        d->row_of[i] = d->offset[d->expert[i]] + before;
        d->row_token[d->row_of[i]] = (int32_t)(i / d->top_k);
    }
}

static int32_t pick(check_random *random, check_routing routing, int32_t n_experts) {
    if (routing == CHECK_ROUTE_SKEWED) {
        const double u = check_random_uniform(random);
        return (int32_t)(u * u * u * n_experts);
    }
    const int32_t first = routing == CHECK_ROUTE_WITHOUT_FIRST ? 1 : 0;
    return first + (int32_t)check_random_below(random, n_experts - first);
}

static void choose(check_dispatch *d, check_random *random, check_routing routing, int64_t token) {
    int32_t *expert = d->expert + token * d->top_k;
    float *weight = d->weight + token * d->top_k;
    double sum = 0;
    for (int32_t j = 0; j < d->top_k; j++) {
        bool taken = true;
        while (taken) {
            expert[j] = pick(random, routing, d->n_experts);
            taken = false;
            for (int32_t i = 0; i < j; i++)
                taken = taken || expert[i] == expert[j];
        }
        weight[j] = (float)(0.1 + check_random_uniform(random));
        sum += weight[j];
    }
    for (int32_t j = 0; j < d->top_k; j++)
        weight[j] = (float)(weight[j] / sum);
    if (routing == CHECK_ROUTE_SAME && token > 0)
        memcpy(expert, d->expert, (size_t)d->top_k * sizeof *expert);
}

check_dispatch *check_dispatch_create(check_random *random, check_routing routing, int64_t tokens,
                                      int32_t n_experts, int32_t top_k) {
    check_dispatch *d = allocate(tokens, n_experts, top_k);
    if (!d)
        return NULL;
    for (int64_t t = 0; t < tokens; t++)
        choose(d, random, routing, t);
    check_dispatch_sort(d);
    return d;
}

check_dispatch *check_dispatch_part(const check_dispatch *whole, int64_t begin, int64_t end) {
    const int32_t top_k = whole->top_k;
    check_dispatch *d = allocate(end - begin, whole->n_experts, top_k);
    if (!d)
        return NULL;
    const size_t choices = (size_t)((end - begin) * top_k);
    memcpy(d->expert, whole->expert + begin * top_k, choices * sizeof *d->expert);
    memcpy(d->weight, whole->weight + begin * top_k, choices * sizeof *d->weight);
    check_dispatch_sort(d);
    return d;
}

anemo_moe_plan check_dispatch_bind(const check_dispatch *d, check_trial *trial) {
    const size_t choices = (size_t)(d->tokens * d->top_k) * 4, experts = (size_t)d->n_experts * 4;
    return (anemo_moe_plan){.size = sizeof(anemo_moe_plan),
                            .expert = check_trial_in(trial, "plan.expert", d->expert, choices),
                            .weight = check_trial_in(trial, "plan.weight", d->weight, choices),
                            .count = check_trial_in(trial, "plan.count", d->count, experts),
                            .offset = check_trial_in(trial, "plan.offset", d->offset, experts + 4),
                            .row_token =
                                check_trial_in(trial, "plan.row_token", d->row_token, choices),
                            .row_of = check_trial_in(trial, "plan.row_of", d->row_of, choices)};
}
