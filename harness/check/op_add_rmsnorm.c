/* add_rmsnorm: x += delta, y = x / sqrt(mean(x^2) + eps) * weight. Second formulation: long double,
 * last element first. x + delta is one float addition and compared bit for bit. */
#include "harness/check/op.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct rmsnorm_fixture {
    anemo_add_rmsnorm_problem problem;
    int64_t m, x_rows; /* x has more rows than y when rows are gathered */
    float *x, *delta, *weight;
    int32_t *gather; /* [m] or NULL */
} rmsnorm_fixture;

typedef enum pattern { NORMAL, SMALL, BIG, ZEROS, PATTERNS } pattern;
static const char *const pattern_names[PATTERNS] = {"normal", "below eps", "large", "zeros"};

static const int64_t ds[] = {1, 2, 3, 7, 16, 31, 64, 100, 257, 1024};
enum { DS = sizeof ds / sizeof *ds, FORMS = 3 }; /* plain, add, gather */

static int32_t count(void) {
    return DS * FORMS * PATTERNS;
}

static void destroy(void *fixture) {
    rmsnorm_fixture *f = fixture;
    free(f->x);
    free(f->delta);
    free(f->weight);
    free(f->gather);
    free(f);
}

static bool fill(rmsnorm_fixture *f, int32_t form, pattern p, check_random *random) {
    static const double sd[PATTERNS] = {1, 1e-4, 1e6, 0};
    const int64_t d = f->problem.d;
    f->x = check_random_floats(random, f->x_rows * d, sd[p]);
    f->weight = check_random_floats(random, d, 1);
    f->delta = form == 1 ? check_random_floats(random, f->m * d, sd[p]) : NULL;
    f->gather = form == 2 ? malloc((size_t)f->m * sizeof *f->gather) : NULL;
    if (!f->x || !f->weight || (form == 1 && !f->delta) || (form == 2 && !f->gather))
        return false;
    for (int64_t i = 0; f->gather && i < f->m; i++)
        f->gather[i] = (int32_t)check_random_below(random, f->x_rows);
    return true;
}

static void *create(int32_t index, check_random *random, char *name, size_t name_bytes) {
    static const int64_t ms[] = {1, 2, 5, 17};
    static const char *const form_names[FORMS] = {"", " add", " gather"};
    rmsnorm_fixture *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    const int32_t form = index / DS % FORMS;
    const pattern p = (pattern)(index / DS / FORMS);
    f->m = ms[(index + index / DS) % 4];
    f->x_rows = form == 2 ? f->m + 3 : f->m;
    f->problem = (anemo_add_rmsnorm_problem){.size = sizeof f->problem,
                                             .m_max = f->m + index % 2,
                                             .d = ds[index % DS],
                                             .eps = index % 2 ? 1e-5f : 1e-6f,
                                             .add = form == 1};
    snprintf(name, name_bytes, "m=%lld d=%lld%s %s", (long long)f->m, (long long)f->problem.d,
             form_names[form], pattern_names[p]);
    if (!fill(f, form, p, random)) {
        destroy(f);
        return NULL;
    }
    return f;
}

static const void *problem(const void *fixture) {
    return &((const rmsnorm_fixture *)fixture)->problem;
}

static int64_t rows(const void *fixture) {
    return ((const rmsnorm_fixture *)fixture)->m;
}

static anemo_status execute(void *fixture, const check_run *run, check_result *result, char *fault,
                            size_t fault_bytes) {
    const rmsnorm_fixture *f = fixture;
    const int64_t d = f->problem.d, m = run->end - run->begin;
    const size_t row = (size_t)d * sizeof(float), bytes = (size_t)m * row;
    check_trial trial;
    check_trial_begin(&trial, run->device);
    trial.mark = run->mark;
    anemo_add_rmsnorm_args args = {.size = sizeof args, .m = m};
    if (f->delta) {
        args.x = check_trial_inout(&trial, "x", f->x + run->begin * d, bytes);
        args.delta = check_trial_in(&trial, "delta", f->delta + run->begin * d, bytes);
    } else if (f->gather) {
        args.x = check_trial_in(&trial, "x", f->x, (size_t)f->x_rows * row);
        args.rows =
            check_trial_in(&trial, "rows", f->gather + run->begin, (size_t)m * sizeof(int32_t));
    } else {
        args.x = check_trial_in(&trial, "x", f->x + run->begin * d, bytes);
    }
    args.weight = check_trial_in(&trial, "weight", f->weight, row);
    args.y = check_trial_out(&trial, "y", bytes);
    anemo_status status = check_trial_run(&trial, run->variant, &f->problem, &args);
    bool ok = true;
    if (status != ANEMO_OK)
        snprintf(fault, fault_bytes, "%s", trial.fault);
    else
        ok = check_result_copy(result, "y", CHECK_FLOAT, true, m, d,
                               check_trial_after(&trial, args.y), row) &&
             (!f->delta || check_result_copy(result, "x", CHECK_FLOAT, true, m, d,
                                             check_trial_after(&trial, args.x), row));
    check_trial_end(&trial);
    return ok ? status : ANEMO_E_MEMORY;
}

static void one_row(const rmsnorm_fixture *f, int64_t i, float *sum, float *y, check_scale *scale) {
    const int64_t d = f->problem.d, from = f->gather ? f->gather[i] : i;
    long double squares = 0;
    for (int64_t j = d - 1; j >= 0; j--) {
        sum[j] = f->x[from * d + j];
        if (f->delta)
            sum[j] += f->delta[i * d + j];
        squares += (long double)sum[j] * sum[j];
    }
    const long double inverse = 1 / sqrtl(squares / d + f->problem.eps);
    for (int64_t j = 0; j < d; j++) {
        y[j] = (float)(sum[j] * inverse * f->weight[j]);
        scale[j] = (check_scale){fabs(y[j]), (double)d, fabs(y[j])};
    }
}

static anemo_status oracle(void *fixture, const char *feed, check_result *result) {
    const rmsnorm_fixture *f = fixture;
    const int64_t d = f->problem.d;
    (void)feed;
    float *y = check_result_add(result, "y", CHECK_FLOAT, true, f->m, d);
    check_scale *scale = y ? check_result_scale(result) : NULL;
    float *x = f->delta ? check_result_add(result, "x", CHECK_FLOAT, true, f->m, d) : NULL;
    float *scratch = malloc((size_t)d * sizeof *scratch);
    const bool ok = scale && scratch && (!f->delta || x);
    for (int64_t i = 0; ok && i < f->m; i++)
        one_row(f, i, x ? x + i * d : scratch, y + i * d, scale + i * d);
    free(scratch);
    return ok ? ANEMO_OK : ANEMO_E_MEMORY;
}

const check_op check_op_add_rmsnorm = {.op = ANEMO_OP_ADD_RMSNORM,
                                       .count = count,
                                       .create = create,
                                       .destroy = destroy,
                                       .problem = problem,
                                       .rows = rows,
                                       .execute = execute,
                                       .oracle = oracle};
