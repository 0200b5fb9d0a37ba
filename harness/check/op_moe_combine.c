/* moe_combine: weighted sum of expert rows in a fixed order. Second formulation: one long double
 * sum per element, last term first. */
#include "harness/check/dispatch.h"
#include "harness/check/op.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct combine_fixture {
    anemo_moe_combine_problem problem;
    check_dispatch *dispatch;
    float *rows;   /* [R, d] */
    float *shared; /* [tokens, d] or NULL */
    float *y;      /* [tokens, d] before the run; NULL: nothing to add to */
} combine_fixture;

static const int64_t ds[] = {1, 3, 4, 17, 64, 100, 257};
enum { DS = sizeof ds / sizeof *ds, FORMS = 4, TOP = 4 };

static int32_t count(void) {
    return DS * FORMS * TOP;
}

static void destroy(void *fixture) {
    combine_fixture *f = fixture;
    check_dispatch_free(f->dispatch);
    free(f->rows);
    free(f->shared);
    free(f->y);
    free(f);
}

static void *create(int32_t index, check_random *random, char *name, size_t name_bytes) {
    static const int64_t token_counts[] = {1, 2, 5, 19};
    combine_fixture *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    const int64_t d = ds[index % DS], tokens = token_counts[(index + index / DS) % 4];
    const int32_t form = index / DS % FORMS, top_k = 1 + index / DS / FORMS;
    const bool shared = form & 1, accumulate = form & 2;
    f->problem = (anemo_moe_combine_problem){.size = sizeof f->problem,
                                             .tokens_max = tokens + index % 3,
                                             .d = d,
                                             .top_k = top_k,
                                             .accumulate = accumulate};
    snprintf(name, name_bytes, "tokens=%lld d=%lld top=%d%s%s", (long long)tokens, (long long)d,
             top_k, shared ? " shared" : "", accumulate ? " accumulate" : "");
    f->dispatch = check_dispatch_create(random, CHECK_ROUTE_SKEWED, tokens, 6, top_k);
    f->rows = check_random_floats(random, tokens * top_k * d, 1);
    f->shared = shared ? check_random_floats(random, tokens * d, 1) : NULL;
    f->y = accumulate ? check_random_floats(random, tokens * d, 1) : NULL;
    if (!f->dispatch || !f->rows || (shared && !f->shared) || (accumulate && !f->y)) {
        destroy(f);
        return NULL;
    }
    return f;
}

static const void *problem(const void *fixture) {
    return &((const combine_fixture *)fixture)->problem;
}

static int64_t rows(const void *fixture) {
    return ((const combine_fixture *)fixture)->dispatch->tokens;
}

/* The rows of some tokens, in the order of their own plan. NULL: no memory. */
static float *part_rows(const combine_fixture *f, const check_dispatch *part, int64_t begin) {
    const int64_t d = f->problem.d, k = f->problem.top_k;
    float *x = malloc((size_t)(part->tokens * k * d) * sizeof *x);
    for (int64_t i = 0; x && i < part->tokens * k; i++)
        for (int64_t j = 0; j < d; j++)
            x[part->row_of[i] * d + j] = f->rows[f->dispatch->row_of[begin * k + i] * d + j];
    return x;
}

static anemo_status execute(void *fixture, const check_run *run, check_result *result, char *fault,
                            size_t fault_bytes) {
    const combine_fixture *f = fixture;
    const int64_t tokens = run->end - run->begin, d = f->problem.d, from = run->begin * d;
    const size_t bytes = (size_t)(tokens * d) * sizeof(float);
    check_dispatch *part = check_dispatch_part(f->dispatch, run->begin, run->end);
    float *x = part ? part_rows(f, part, run->begin) : NULL;
    if (!x) {
        check_dispatch_free(part);
        return ANEMO_E_MEMORY;
    }
    check_trial trial;
    check_trial_begin(&trial, run->device);
    trial.mark = run->mark;
    anemo_moe_combine_args args = {.size = sizeof args, .tokens = tokens};
    args.rows = check_trial_in(&trial, "rows", x, bytes * (size_t)f->problem.top_k);
    args.shared = check_trial_in(&trial, "shared", f->shared ? f->shared + from : NULL, bytes);
    args.plan = check_dispatch_bind(part, &trial);
    args.y = f->y ? check_trial_inout(&trial, "y", f->y + from, bytes)
                  : check_trial_out(&trial, "y", bytes);
    anemo_status status = check_trial_run(&trial, run->variant, &f->problem, &args);
    if (status != ANEMO_OK)
        snprintf(fault, fault_bytes, "%s", trial.fault);
    else if (!check_result_copy(result, "y", CHECK_FLOAT, true, tokens, d,
                                check_trial_after(&trial, args.y), (size_t)d * sizeof(float)))
        status = ANEMO_E_MEMORY;
    check_trial_end(&trial);
    check_dispatch_free(part);
    free(x);
    return status;
}

static anemo_status oracle(void *fixture, const char *feed, check_result *result) {
    const combine_fixture *f = fixture;
    const check_dispatch *plan = f->dispatch;
    const int64_t d = f->problem.d, k = plan->top_k;
    (void)feed;
    float *y = check_result_add(result, "y", CHECK_FLOAT, true, plan->tokens, d);
    check_scale *scale = y ? check_result_scale(result) : NULL;
    for (int64_t i = 0; scale && i < plan->tokens * d; i++) {
        const int64_t t = i / d, column = i % d;
        const double first = (f->shared ? f->shared[i] : 0.0) + (f->y ? f->y[i] : 0.0);
        long double sum = 0;
        double size = (f->shared ? fabs(f->shared[i]) : 0) + (f->y ? fabs(f->y[i]) : 0);
        for (int64_t j = k - 1; j >= 0; j--) {
            const double term =
                (double)plan->weight[t * k + j] * f->rows[plan->row_of[t * k + j] * d + column];
            sum += term;
            size += fabs(term);
        }
        y[i] = (float)(sum + first);
        scale[i] = (check_scale){size, (double)k + 2, size};
    }
    return scale ? ANEMO_OK : ANEMO_E_MEMORY;
}

const check_op check_op_moe_combine = {.op = ANEMO_OP_MOE_COMBINE,
                                       .count = count,
                                       .create = create,
                                       .destroy = destroy,
                                       .problem = problem,
                                       .rows = rows,
                                       .execute = execute,
                                       .oracle = oracle};
