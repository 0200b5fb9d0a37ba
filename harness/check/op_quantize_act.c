/* quantize_act: bit-exact. Second formulation: act.c. A case runs through every format; only the
 * bytes that mean something are compared, not the padding behind them. */
#include "harness/check/op.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum pattern { NORMAL, OUTLIERS, TIES, ZEROS, TINY, LARGE, BROKEN, PATTERNS } pattern;

static const char *const pattern_names[PATTERNS] = {"normal", "outliers", "ties",  "zeros",
                                                    "tiny",   "large",    "broken"};

typedef struct quantize_fixture {
    anemo_quantize_act_problem problem;
    int64_t m;
    float *x;
} quantize_fixture;

static const int64_t ks[] = {1, 2, 31, 32, 33, 64, 100, 127, 128, 129, 255, 256, 384};
enum { KS = sizeof ks / sizeof *ks };

static int32_t count(void) {
    return KS * PATTERNS;
}

/* Values that are exactly half way between two codes: the largest is 127 n, the others n (c + 1/2).
 */
static float tie(check_random *random, int64_t column) {
    const double c = (double)check_random_below(random, 253) - 126;
    return column == 0 ? 127 * 0.25f : (float)(0.25 * (c + 0.5));
}

static float value(pattern p, check_random *random, int64_t row, int64_t column) {
    const double x = check_random_normal(random);
    switch (p) {
    case OUTLIERS:
        return (float)(check_random_below(random, 40) == 0 ? 50 * x : x);
    case TIES:
        return tie(random, column);
    case ZEROS: /* rows of zeros of either sign, and groups of zeros */
        return row % 2 == 0 ? (column & 1 ? -0.0f : 0.0f) : column / 32 % 2 ? (float)x : 0.0f;
    case TINY: /* down to where 127 / max overflows */
        return (float)ldexp(x, row % 2 ? -126 : -118);
    case LARGE:
        return (float)ldexp(x, 120);
    case BROKEN: /* one NaN or infinity spoils its group, and only that */
        return column == 40 % (row + 41) ? (row % 2 ? INFINITY : NAN) : (float)x;
    default:
        return (float)x;
    }
}

static void destroy(void *fixture) {
    quantize_fixture *f = fixture;
    free(f->x);
    free(f);
}

static void *create(int32_t index, check_random *random, char *name, size_t name_bytes) {
    quantize_fixture *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    const int64_t k = ks[index % KS];
    const pattern p = (pattern)(index / KS);
    f->m = 1 + index % 5;
    f->problem =
        (anemo_quantize_act_problem){.size = sizeof f->problem, .m_max = f->m + index % 2, .k = k};
    snprintf(name, name_bytes, "m=%lld k=%lld %s", (long long)f->m, (long long)k, pattern_names[p]);
    f->x = malloc((size_t)(f->m * k) * sizeof *f->x);
    for (int64_t i = 0; f->x && i < f->m * k; i++)
        f->x[i] = value(p, random, i / k, i % k);
    if (!f->x) {
        destroy(f);
        return NULL;
    }
    return f;
}

static const void *problem(const void *fixture) {
    return &((const quantize_fixture *)fixture)->problem;
}

static int64_t rows(const void *fixture) {
    return ((const quantize_fixture *)fixture)->m;
}

/* The parts of a record that are defined. */
static anemo_status cut(const char *format, const unsigned char *records, int64_t m, int64_t k,
                        check_result *result) {
    const anemo_act *act = anemo_act_find(format);
    const size_t stride = act->row_bytes(k);
    bool ok;
    if (act->code_bits == 8) {
        const int64_t padded = anemo_a8_padded_k(k), groups = anemo_a8_groups(act->group, k);
        const unsigned char *scales = records + padded, *sums = scales + groups * 4;
        ok = check_result_copy(result, "codes", CHECK_BYTES, true, m, padded, records, stride) &&
             check_result_copy(result, "scales", CHECK_FLOAT, true, m, groups, scales, stride) &&
             check_result_copy(result, "sums", CHECK_INT32, true, m, groups, sums, stride);
    } else if (act->group == 0) {
        ok = check_result_copy(result, "codes", CHECK_BYTES, true, m, 2 * k, records, stride) &&
             check_result_copy(result, "scales", CHECK_FLOAT, true, m, 1,
                               records + (2 * k + 63) / 64 * 64, stride);
    } else {
        ok = check_result_copy(result, "codes", CHECK_BYTES, true, m, k * act->code_bits / 8,
                               records, stride);
    }
    return ok ? ANEMO_OK : ANEMO_E_MEMORY;
}

static anemo_status execute(void *fixture, const check_run *run, check_result *result, char *fault,
                            size_t fault_bytes) {
    const quantize_fixture *f = fixture;
    const int64_t m = run->end - run->begin, k = f->problem.k;
    const anemo_act *act = anemo_act_find(run->feed);
    if (!act)
        return ANEMO_E_UNSUPPORTED;
    check_trial trial;
    check_trial_begin(&trial, run->device);
    trial.mark = run->mark;
    anemo_quantize_act_args args = {.size = sizeof args, .m = m};
    args.x = check_trial_in(&trial, "x", f->x + run->begin * k, (size_t)(m * k) * sizeof(float));
    args.out = check_trial_out(&trial, "out", (size_t)m * act->row_bytes(k));
    anemo_status status = check_trial_run(&trial, run->variant, &f->problem, &args);
    if (status == ANEMO_OK)
        status = cut(run->feed, check_trial_after(&trial, args.out), m, k, result);
    else
        snprintf(fault, fault_bytes, "%s", trial.fault);
    check_trial_end(&trial);
    return status;
}

static anemo_status oracle(void *fixture, const char *feed, check_result *result) {
    const quantize_fixture *f = fixture;
    size_t bytes;
    void *records = check_act_encode(feed, f->x, f->m, f->problem.k, &bytes);
    if (!records)
        return ANEMO_E_UNSUPPORTED;
    const anemo_status status = cut(feed, records, f->m, f->problem.k, result);
    free(records);
    return status;
}

const check_op check_op_quantize_act = {.op = ANEMO_OP_QUANTIZE_ACT,
                                        .count = count,
                                        .create = create,
                                        .destroy = destroy,
                                        .problem = problem,
                                        .rows = rows,
                                        .execute = execute,
                                        .oracle = oracle};
