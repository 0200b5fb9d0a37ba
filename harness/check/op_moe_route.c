/* moe_route: which experts, with which weights, and the dispatch plan.
 *
 * The choice is exact, so no two values that compete may be nearly equal: logits are multiples of
 * 1/64, which makes ties exact and gaps clear; with a selection bias, where scores are compared, a
 * token is drawn again until the gaps around its chosen experts are clear.
 *
 * Second formulation: an expert is chosen at the place that equals the number of experts that beat
 * it; the plan by counting (dispatch.c). */
#include "harness/check/dispatch.h"
#include "harness/check/op.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum pattern {
    SPREAD,
    TIES,
    EQUAL,
    ONE_EXPERT,
    ONE_EMPTY,
    SWITCHED_OFF, /* a third of the experts, by -inf */
    BROKEN,       /* a token without meaning: run must say so */
    PATTERNS
} pattern;
static const char *const pattern_names[PATTERNS] = {
    "spread", "ties", "all equal", "all to expert 1", "expert 0 empty", "some off", "broken"};

typedef struct route_fixture {
    anemo_moe_route_problem problem;
    int64_t tokens;
    float *logits; /* [tokens, n_experts] */
    float *bias;   /* [n_experts] or NULL */
    bool broken;
} route_fixture;

static const struct {
    int32_t n_experts, top_k;
} sizes[] = {{8, 2}, {8, 1}, {4, 4}, {5, 3}, {1, 1}, {16, 4}, {64, 6}, {128, 8}, {2, 1}, {60, 4}};
enum { SIZES = sizeof sizes / sizeof *sizes, FORMS = 8 }; /* score x renormalise x bias */

static int32_t count(void) {
    return SIZES * FORMS * PATTERNS;
}

/* ---------------------------------------------------------------- inputs */

/* BROKEN is spread first, and spoilt at the end. */
static double draw_logit(pattern p, check_random *random, int32_t expert) {
    const double wide = rint(64 * 2 * check_random_normal(random)) / 64;
    switch (p) {
    case TIES:
        return (double)check_random_below(random, 3) - 1;
    case EQUAL:
        return 0.5;
    case ONE_EXPERT:
        return expert == 1 ? wide + 12 : wide;
    case ONE_EMPTY:
        return expert == 0 ? wide - 30 : wide;
    case SWITCHED_OFF:
        return expert % 3 == 1 ? -INFINITY : wide;
    default:
        return wide;
    }
}

static double score_of(const route_fixture *f, const float *logits, int32_t expert) {
    if (f->problem.score == ANEMO_MOE_SIGMOID)
        return 1 / (1 + exp(-(double)logits[expert]));
    if (logits[expert] == -INFINITY)
        return 0;
    double sum = 0;
    for (int32_t e = 0; e < f->problem.n_experts; e++)
        sum += exp((double)logits[e] - logits[expert]);
    return 1 / sum;
}

static double value_of(const route_fixture *f, const float *logits, int32_t expert) {
    return f->bias ? score_of(f, logits, expert) + f->bias[expert] : logits[expert];
}

/* How many experts come before this one. */
static int32_t rank_of(const double *value, int32_t n, int32_t expert) {
    int32_t rank = 0;
    for (int32_t e = 0; e < n; e++)
        rank += value[e] > value[expert] || (value[e] == value[expert] && e < expert);
    return rank;
}

/* With a bias: are the values of the chosen apart from each other and from the rest, or tied in
 * logit and bias both? And is one of the chosen switched on? */
static bool clear(const route_fixture *f, const float *logits, const double *value) {
    const int32_t n = f->problem.n_experts;
    bool on = false;
    for (int32_t e = 0; e < n; e++)
        on = on || (rank_of(value, n, e) < f->problem.top_k && logits[e] > -INFINITY);
    if (!on)
        return false;
    for (int32_t a = 0; f->bias && a < n; a++) {
        if (rank_of(value, n, a) >= f->problem.top_k)
            continue;
        for (int32_t b = 0; b < n; b++)
            if (fabs(value[a] - value[b]) < 2e-5 &&
                (logits[a] != logits[b] || f->bias[a] != f->bias[b]))
                return false;
    }
    return true;
}

static void draw_token(route_fixture *f, pattern p, check_random *random, float *logits,
                       double *value) {
    bool done = false;
    for (int tries = 0; tries < 10000 && !done; tries++) {
        for (int32_t e = 0; e < f->problem.n_experts; e++)
            logits[e] = (float)draw_logit(p, random, e);
        for (int32_t e = 0; e < f->problem.n_experts; e++)
            value[e] = value_of(f, logits, e);
        done = clear(f, logits, value);
    }
}

static void destroy(void *fixture) {
    route_fixture *f = fixture;
    free(f->logits);
    free(f->bias);
    free(f);
}

/* NaN, +inf, nobody switched on, or a NaN bias. */
static void spoil(route_fixture *f, check_random *random) {
    const int32_t n = f->problem.n_experts;
    float *logits = f->logits + check_random_below(random, f->tokens) * n;
    const int64_t expert = check_random_below(random, n);
    f->broken = true;
    switch (check_random_below(random, f->bias ? 4 : 3)) {
    case 0:
        logits[expert] = NAN;
        break;
    case 1:
        logits[expert] = INFINITY;
        break;
    case 2:
        for (int32_t e = 0; e < n; e++)
            logits[e] = -INFINITY;
        break;
    default:
        f->bias[expert] = NAN;
    }
}

static bool fill(route_fixture *f, pattern p, bool bias, check_random *random) {
    const int32_t n = f->problem.n_experts;
    f->logits = malloc((size_t)(f->tokens * n) * sizeof *f->logits);
    f->bias = bias ? malloc((size_t)n * sizeof *f->bias) : NULL;
    double *value = malloc((size_t)n * sizeof *value);
    const bool ok = f->logits && value && (!bias || f->bias);
    for (int32_t e = 0; ok && bias && e < n; e++)
        f->bias[e] = (float)((double)check_random_below(random, 17) / 16 - 0.5);
    for (int64_t t = 0; ok && t < f->tokens; t++)
        draw_token(f, p, random, f->logits + t * n, value);
    free(value);
    if (ok && p == BROKEN)
        spoil(f, random);
    return ok;
}

static void *create(int32_t index, check_random *random, char *name, size_t name_bytes) {
    static const int64_t tokens[] = {1, 2, 7, 33, 16};
    route_fixture *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    const int32_t size = index % SIZES, form = index / SIZES % FORMS;
    const pattern p = (pattern)(index / SIZES / FORMS);
    const bool bias = form & 4;
    f->tokens = tokens[(size + form + (int)p) % 5];
    f->problem =
        (anemo_moe_route_problem){.size = sizeof f->problem,
                                  .tokens_max = f->tokens + form % 2,
                                  .n_experts = sizes[size].n_experts,
                                  .top_k = sizes[size].top_k,
                                  .score = form & 1 ? ANEMO_MOE_SIGMOID : ANEMO_MOE_SOFTMAX,
                                  .renormalise = form >> 1 & 1,
                                  .scale = form == 5 ? 2.5f : 1};
    snprintf(name, name_bytes, "tokens=%lld experts=%d top=%d %s%s%s %s", (long long)f->tokens,
             f->problem.n_experts, f->problem.top_k, form & 1 ? "sigmoid" : "softmax",
             f->problem.renormalise ? " renormalised" : "", bias ? " bias" : "", pattern_names[p]);
    if (!fill(f, p, bias, random)) {
        destroy(f);
        return NULL;
    }
    return f;
}

static const void *problem(const void *fixture) {
    return &((const route_fixture *)fixture)->problem;
}

static int64_t rows(const void *fixture) {
    return ((const route_fixture *)fixture)->tokens;
}

static bool must_refuse(const void *fixture) {
    return ((const route_fixture *)fixture)->broken;
}

/* ---------------------------------------------------------------- execute and oracle */

static anemo_status collect(const check_trial *trial, const anemo_moe_plan *plan, int64_t tokens,
                            const anemo_moe_route_problem *p, check_result *result) {
    const int64_t k = p->top_k, n = p->n_experts, choices = tokens * k;
    const struct {
        const char *name;
        const void *at;
        check_kind kind;
        bool per_row;
        int64_t rows, columns;
    } fields[] = {{"expert", plan->expert, CHECK_INT32, true, tokens, k},
                  {"weight", plan->weight, CHECK_FLOAT, true, tokens, k},
                  {"count", plan->count, CHECK_INT32, false, 1, n},
                  {"offset", plan->offset, CHECK_INT32, false, 1, n + 1},
                  {"row_token", plan->row_token, CHECK_INT32, false, 1, choices},
                  {"row_of", plan->row_of, CHECK_INT32, false, 1, choices}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!check_result_copy(result, fields[i].name, fields[i].kind, fields[i].per_row,
                               fields[i].rows, fields[i].columns,
                               check_trial_after(trial, fields[i].at),
                               (size_t)fields[i].columns * 4))
            return ANEMO_E_MEMORY;
    return ANEMO_OK;
}

static anemo_status execute(void *fixture, const check_run *run, check_result *result, char *fault,
                            size_t fault_bytes) {
    const route_fixture *f = fixture;
    const anemo_moe_route_problem *p = &f->problem;
    const int64_t tokens = run->end - run->begin, n = p->n_experts;
    const size_t choices = (size_t)(tokens * p->top_k) * 4, experts = (size_t)n * 4;
    check_trial trial;
    check_trial_begin(&trial, run->device);
    trial.mark = run->mark;
    anemo_moe_route_args args = {.size = sizeof args, .tokens = tokens};
    args.logits =
        check_trial_in(&trial, "logits", f->logits + run->begin * n, (size_t)tokens * experts);
    args.selection_bias = check_trial_in(&trial, "selection_bias", f->bias, experts);
    args.plan = (anemo_moe_plan){.size = sizeof args.plan,
                                 .expert = check_trial_out(&trial, "plan.expert", choices),
                                 .weight = check_trial_out(&trial, "plan.weight", choices),
                                 .count = check_trial_out(&trial, "plan.count", experts),
                                 .offset = check_trial_out(&trial, "plan.offset", experts + 4),
                                 .row_token = check_trial_out(&trial, "plan.row_token", choices),
                                 .row_of = check_trial_out(&trial, "plan.row_of", choices)};
    anemo_status status = check_trial_run(&trial, run->variant, p, &args);
    if (status == ANEMO_OK)
        status = collect(&trial, &args.plan, tokens, p, result);
    else
        snprintf(fault, fault_bytes, "%s", trial.fault);
    check_trial_end(&trial);
    return status;
}

/* exp of a difference D of logits is off by u |D|. */
static void choose(const route_fixture *f, int64_t t, double *value, double *score,
                   check_dispatch *plan, check_scale *scale) {
    const anemo_moe_route_problem *p = &f->problem;
    const float *logits = f->logits + t * p->n_experts;
    double sum = 0, least = INFINITY, most = -INFINITY;
    for (int32_t e = 0; e < p->n_experts; e++) {
        value[e] = value_of(f, logits, e);
        score[e] = score_of(f, logits, e);
        least = logits[e] > -INFINITY ? fmin(least, logits[e]) : least;
        most = fmax(most, logits[e]);
    }
    for (int32_t e = 0; e < p->n_experts; e++) {
        const int32_t rank = rank_of(value, p->n_experts, e);
        if (rank < p->top_k) {
            plan->expert[t * p->top_k + rank] = e;
            sum += score[e];
        }
    }
    for (int32_t j = 0; j < p->top_k; j++) {
        const double share = score[plan->expert[t * p->top_k + j]];
        const double weight = (p->renormalise ? share / sum : share) * p->scale;
        plan->weight[t * p->top_k + j] = (float)weight;
        scale[t * p->top_k + j] = (check_scale){weight * (1 + most - least), p->n_experts, weight};
    }
}

static anemo_status oracle(void *fixture, const char *feed, check_result *result) {
    const route_fixture *f = fixture;
    const anemo_moe_route_problem *p = &f->problem;
    const int64_t k = p->top_k, n = p->n_experts, choices = f->tokens * k;
    (void)feed;
    int32_t *expert = check_result_add(result, "expert", CHECK_INT32, true, f->tokens, k);
    float *weight = check_result_add(result, "weight", CHECK_FLOAT, true, f->tokens, k);
    check_scale *scale = weight ? check_result_scale(result) : NULL;
    check_dispatch plan = {.tokens = f->tokens,
                           .n_experts = p->n_experts,
                           .top_k = p->top_k,
                           .expert = expert,
                           .weight = weight};
    plan.count = check_result_add(result, "count", CHECK_INT32, false, 1, n);
    plan.offset = check_result_add(result, "offset", CHECK_INT32, false, 1, n + 1);
    plan.row_token = check_result_add(result, "row_token", CHECK_INT32, false, 1, choices);
    plan.row_of = check_result_add(result, "row_of", CHECK_INT32, false, 1, choices);
    double *value = malloc(2 * (size_t)n * sizeof *value);
    const bool ok = value && scale && result->n_fields == 6;
    for (int64_t t = 0; ok && t < f->tokens; t++)
        choose(f, t, value, value + n, &plan, scale);
    if (ok)
        check_dispatch_sort(&plan);
    free(value);
    return ok ? ANEMO_OK : ANEMO_E_MEMORY;
}

const check_op check_op_moe_route = {.op = ANEMO_OP_MOE_ROUTE,
                                     .count = count,
                                     .create = create,
                                     .destroy = destroy,
                                     .problem = problem,
                                     .rows = rows,
                                     .must_refuse = must_refuse,
                                     .execute = execute,
                                     .oracle = oracle};
