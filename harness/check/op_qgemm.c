/* qgemm: y_p = x W_p^T (+ bias_p), then store, add or act_mul. Second formulation: estimate.h. */
#include "harness/check/estimate.h"
#include "harness/check/op.h"
#include "harness/check/weight.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct qgemm_case {
    int64_t m, m_max, k;
    int32_t n_parts;
    int64_t n[ANEMO_QGEMM_PARTS];
    anemo_weight_type type[ANEMO_QGEMM_PARTS];
    int32_t has_bias, epilogue, activation;
    int64_t stride_pad;
} qgemm_case;

typedef struct qgemm_fixture {
    qgemm_case c;
    anemo_qgemm_problem problem;
    float *x; /* [m, k] */
    check_weight *weight[ANEMO_QGEMM_PARTS];
    float *bias[ANEMO_QGEMM_PARTS];     /* [n_p] or NULL */
    float *residual[ANEMO_QGEMM_PARTS]; /* [m, n_p], for ADD */
} qgemm_fixture;

/* ---------------------------------------------------------------- grid */

enum { GRID = 1024 };
static qgemm_case grid[GRID];
static int32_t n_grid, n_wanted;

static qgemm_case *put(int64_t m, int64_t k, int64_t n, anemo_weight_type type) {
    static qgemm_case spare;
    n_wanted++;
    qgemm_case *c = n_grid < GRID ? &grid[n_grid++] : &spare;
    *c = (qgemm_case){.m = m, .m_max = m, .k = k, .n_parts = 1};
    for (int p = 0; p < ANEMO_QGEMM_PARTS; p++) {
        c->n[p] = n;
        c->type[p] = type;
    }
    return c;
}

enum { COMMON = 12 };
static anemo_weight_type common_type(int i) {
    switch (i) {
    case 0:
        return check_weight_type_float(ANEMO_CODE_F32);
    case 1:
        return check_weight_type_float(ANEMO_CODE_BF16);
    case 2: /* Q4_0 */
        return check_weight_type_linear(4, 32, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE);
    case 3: /* Q8_0 */
        return check_weight_type_linear(8, 32, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE);
    case 4: /* AWQ, GPTQ */
        return check_weight_type_linear(4, 128, ANEMO_SCALE_F16, ANEMO_OFFSET_ZERO_POINT);
    case 5: /* W8A8 */
        return check_weight_type_linear(8, 0, ANEMO_SCALE_F32, ANEMO_OFFSET_NONE);
    case 6: /* Q4_K */
        return check_weight_type_linear(4, 32, ANEMO_SCALE_TWO_LEVEL, ANEMO_OFFSET_MINIMUM);
    case 7: /* Q5_K */
        return check_weight_type_linear(5, 32, ANEMO_SCALE_TWO_LEVEL, ANEMO_OFFSET_MINIMUM);
    case 8: /* Q6_K */
        return check_weight_type_linear(6, 16, ANEMO_SCALE_TWO_LEVEL, ANEMO_OFFSET_NONE);
    case 9:
        return check_weight_type_linear(8, 16, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE);
    case 10: /* IQ4_NL */
        return check_weight_type_table(32, ANEMO_SCALE_F16);
    default:
        return check_weight_type_float(ANEMO_CODE_F16);
    }
}

static void put_types(void) {
    for (int32_t t = 0; t < check_weight_type_count(); t++) {
        put(3, 256, 19, check_weight_type_at(t))->has_bias = t & 1;
        if (t % 3 == 0) /* the last group is cut short, or the row is shorter than a group */
            put(2, t % 2 ? 81 : 24, 33, check_weight_type_at(t));
    }
}

static void put_tails(void) {
    static const int64_t ns[] = {1, 2, 3, 5, 7, 8, 9, 15, 17, 31, 33, 63, 65, 130};
    static const int64_t ks[] = {1,  2,   7,   16,  31,  32,  33,  64,
                                 96, 127, 128, 129, 160, 384, 512, 640};
    for (int i = 0; i < COMMON; i++) {
        const anemo_weight_type type = common_type(i);
        for (int64_t m = 1; m <= 18; m++) {
            qgemm_case *c = put(m <= 17 ? m : 33, 256, m % 2 ? 48 : 37, type);
            c->m_max = m % 3 ? c->m : c->m + 7;
            c->stride_pad = m % 4 == 1 ? 5 : 0;
        }
        for (size_t j = 0; j < sizeof ns / sizeof *ns; j++)
            put(j % 2 ? 4 : 7, 128, ns[j], type)->stride_pad = j % 3 == 2;
        for (size_t j = 0; j < sizeof ks / sizeof *ks; j++)
            put(j % 2 ? 1 : 6, ks[j], 34, type)->has_bias = j % 3 == 0;
        put(2, 4160, 18, type)->has_bias = 1; /* so long that a GPU cuts a row into slices */
        qgemm_case *c = put(9, 8256, 17, type);
        c->n_parts = 2;
        c->epilogue = ANEMO_EPI_ACT_MUL;
    }
}

static void put_epilogues(void) {
    for (int i = 0; i < COMMON; i++) {
        const anemo_weight_type type = common_type(i), other = common_type(i < 2 ? 1 - i : i);
        for (int parts = 1; parts <= 3; parts++)
            for (int epilogue = ANEMO_EPI_STORE; epilogue <= ANEMO_EPI_ADD; epilogue++) {
                qgemm_case *c = put(parts == 2 ? 1 : 5, 128, 40, type);
                c->n_parts = parts;
                c->epilogue = epilogue;
                c->n[1] = 16;
                c->n[2] = 23;
                c->has_bias = (parts * 3 + epilogue) & ((1 << parts) - 1);
                c->stride_pad = epilogue ? 3 : 0;
            }
        for (int form = 0; form < 8; form++) { /* activation x bias x rows */
            qgemm_case *c = put(form & 1 ? 1 : 9, 128, 35, type);
            c->n_parts = 2;
            c->type[1] = form & 4 ? type : other;
            c->epilogue = ANEMO_EPI_ACT_MUL;
            c->activation = form & 2 ? ANEMO_ACT_SILU_CLAMPED : ANEMO_ACT_SILU;
            c->has_bias = form & 4 ? 3 : form & 1 ? 2 : 0;
        }
    }
    qgemm_case *mixed = put(4, 128, 24, common_type(2)); /* q, k and v need not share a type */
    mixed->n_parts = 3;
    mixed->type[1] = common_type(3);
    mixed->type[2] = common_type(0);
}

/* More rows than any tile has, so deep that a GPU cuts tiles, too. */
static void put_many_rows(void) {
    const anemo_weight_type minimum =
        check_weight_type_linear(4, 32, ANEMO_SCALE_F16, ANEMO_OFFSET_MINIMUM);
    for (int i = 1; i <= 7; i++) {
        const anemo_weight_type type = common_type(i == 7 ? COMMON - 1 : i);
        qgemm_case *c = put(150, 832, 40, i == 6 ? minimum : type);
        c->n_parts = i % 2 ? 1 : 2;
        c->epilogue = i % 2 ? ANEMO_EPI_ADD : ANEMO_EPI_ACT_MUL;
        c->has_bias = 1;
    }
}

static int32_t count(void) {
    if (n_grid == 0) {
        put_types();
        put_tails();
        put_epilogues();
        put_many_rows();
    }
    return n_wanted == n_grid ? n_grid : 0; /* a grid that lost cases is none */
}

static void name_case(const qgemm_case *c, char *name, size_t name_bytes) {
    static const char *const epilogues[] = {"", " add", " act_mul"};
    char types[96] = "", one[48];
    for (int p = 0; p < c->n_parts; p++) {
        const size_t at = strlen(types);
        snprintf(types + at, sizeof types - at, "%s%s:n%lld", p ? "+" : "",
                 anemo_weight_type_name(&c->type[p], one, sizeof one), (long long)c->n[p]);
    }
    snprintf(name, name_bytes, "m=%lld k=%lld %s%s%s%s%s", (long long)c->m, (long long)c->k, types,
             epilogues[c->epilogue],
             c->epilogue == ANEMO_EPI_ACT_MUL && c->activation ? " clamped" : "",
             c->has_bias ? " bias" : "", c->stride_pad ? " stride" : "");
}

/* ---------------------------------------------------------------- fixture */

static void destroy(void *fixture) {
    qgemm_fixture *f = fixture;
    for (int p = 0; p < ANEMO_QGEMM_PARTS; p++) {
        check_weight_free(f->weight[p]);
        free(f->bias[p]);
        free(f->residual[p]);
    }
    free(f->x);
    free(f);
}

static bool fill_part(qgemm_fixture *f, int p, check_random *random) {
    const qgemm_case *c = &f->c;
    /* Results of sd 1; for the clamped activation of sd 4, so that its limit of 7 is met. */
    const double sd = c->epilogue == ANEMO_EPI_ACT_MUL && c->activation ? 4 : 1;
    f->weight[p] = check_weight_create(random, &c->type[p], c->n[p], c->k, sd / sqrt((double)c->k));
    bool ok = f->weight[p] != NULL;
    if (c->has_bias >> p & 1)
        ok = (f->bias[p] = check_random_floats(random, c->n[p], 1)) && ok;
    if (c->epilogue == ANEMO_EPI_ADD)
        ok = (f->residual[p] = check_random_floats(random, c->m * c->n[p], 1)) && ok;
    return ok;
}

static void *create(int32_t index, check_random *random, char *name, size_t name_bytes) {
    count();
    qgemm_fixture *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    const qgemm_case *c = &grid[index];
    f->c = *c;
    f->problem = (anemo_qgemm_problem){.size = sizeof f->problem,
                                       .n_parts = c->n_parts,
                                       .m_max = c->m_max,
                                       .k = c->k,
                                       .has_bias = c->has_bias,
                                       .epilogue = c->epilogue,
                                       .activation = c->activation};
    name_case(c, name, name_bytes);
    bool ok = (f->x = check_random_floats(random, c->m * c->k, 1)) != NULL;
    /* Rows of different size: a row taken for its neighbour shows. */
    for (int64_t i = 0; ok && i < c->m * c->k; i++)
        f->x[i] *= (float)ldexp(1, (int)(i / c->k % 3) - 1);
    for (int p = 0; p < c->n_parts; p++) {
        f->problem.n[p] = c->n[p];
        f->problem.type[p] = c->type[p];
        ok = fill_part(f, p, random) && ok;
    }
    if (!ok) {
        destroy(f);
        return NULL;
    }
    return f;
}

static const void *problem(const void *fixture) {
    return &((const qgemm_fixture *)fixture)->problem;
}

static int64_t rows(const void *fixture) {
    return ((const qgemm_fixture *)fixture)->c.m;
}

/* ---------------------------------------------------------------- execute */

static int32_t written_parts(const qgemm_case *c) {
    return c->epilogue == ANEMO_EPI_ACT_MUL ? 1 : c->n_parts;
}

/* y_p of rows [begin, end) before the run: the residual or poison, poison between the rows. */
static float *bind_y(const qgemm_fixture *f, int p, const check_run *run, check_trial *trial) {
    static const char *const names[] = {"y0", "y1", "y2"};
    const int64_t n = f->c.n[p], stride = n + f->c.stride_pad, m = run->end - run->begin;
    const size_t bytes = (size_t)((m - 1) * stride + n) * sizeof(float);
    if (f->c.epilogue != ANEMO_EPI_ADD)
        return check_trial_out(trial, names[p], bytes);
    float *before = malloc(bytes);
    if (!before) {
        trial->no_memory = true;
        return NULL;
    }
    check_poison(before, bytes);
    for (int64_t i = 0; i < m; i++)
        memcpy(before + i * stride, f->residual[p] + (run->begin + i) * n,
               (size_t)n * sizeof(float));
    float *y = check_trial_inout(trial, names[p], before, bytes);
    free(before);
    return y;
}

static bool gaps_whole(const float *y, int64_t m, int64_t n, int64_t stride) {
    const uint32_t poison = CHECK_POISON_WORD;
    for (int64_t i = 0; i + 1 < m; i++)
        for (int64_t j = n; j < stride; j++)
            if (memcmp(y + i * stride + j, &poison, sizeof poison) != 0)
                return false;
    return true;
}

static anemo_status collect(const qgemm_fixture *f, const check_run *run, const check_trial *trial,
                            float *const *y, check_result *result, char *fault,
                            size_t fault_bytes) {
    static const char *const names[] = {"y0", "y1", "y2"};
    const int64_t m = run->end - run->begin;
    for (int p = 0; p < written_parts(&f->c); p++) {
        const int64_t n = f->c.n[p], stride = n + f->c.stride_pad;
        const float *after = check_trial_after(trial, y[p]);
        if (!gaps_whole(after, m, n, stride)) {
            snprintf(fault, fault_bytes, "wrote between the rows of %s (stride %lld, n %lld)",
                     names[p], (long long)stride, (long long)n);
            return ANEMO_E_NUMERIC;
        }
        if (!check_result_copy(result, names[p], CHECK_FLOAT, true, m, n, after,
                               (size_t)stride * sizeof(float)))
            return ANEMO_E_MEMORY;
    }
    return ANEMO_OK;
}

static anemo_status execute(void *fixture, const check_run *run, check_result *result, char *fault,
                            size_t fault_bytes) {
    const qgemm_fixture *f = fixture;
    const qgemm_case *c = &f->c;
    size_t x_bytes;
    void *x = check_act_input(run, f->x + run->begin * c->k, run->end - run->begin, c->k, &x_bytes);
    if (!x)
        return ANEMO_E_UNSUPPORTED;
    check_trial trial;
    check_trial_begin(&trial, run->device);
    trial.mark = run->mark;
    anemo_qgemm_args args = {.size = sizeof args, .m = run->end - run->begin};
    args.x = check_trial_in(&trial, "x", x, x_bytes);
    for (int p = 0; p < c->n_parts; p++) {
        args.weight[p] = check_trial_weight(&trial, run->variant->layout, &f->weight[p]->canonical);
        args.bias[p] = check_trial_in(&trial, "bias", f->bias[p], (size_t)c->n[p] * sizeof(float));
        if (p < written_parts(c)) {
            args.y[p] = bind_y(f, p, run, &trial);
            args.y_stride[p] = c->n[p] + c->stride_pad;
        }
    }
    anemo_status status = check_trial_run(&trial, run->variant, &f->problem, &args);
    if (status == ANEMO_OK)
        status = collect(f, run, &trial, args.y, result, fault, fault_bytes);
    else
        snprintf(fault, fault_bytes, "%s", trial.fault);
    check_trial_end(&trial);
    free(x);
    return status;
}

/* ---------------------------------------------------------------- oracle */

static void store(check_field *field, int64_t at, const check_estimate *e, double terms) {
    ((float *)field->data)[at] = (float)e->value;
    field->scale[at] = (check_scale){e->magnitude, terms, e->spread};
}

static check_estimate dot(const qgemm_fixture *f, int p, int64_t j, const double *x) {
    return check_dot(f->weight[p], j, x, NULL, f->bias[p] ? f->bias[p][j] : 0);
}

static void one_row(const qgemm_fixture *f, const double *x, int64_t i, check_result *result) {
    const qgemm_case *c = &f->c;
    for (int p = 0; p < written_parts(c); p++)
        for (int64_t j = 0; j < c->n[p]; j++) {
            check_estimate e = dot(f, p, j, x);
            if (c->epilogue == ANEMO_EPI_ACT_MUL) {
                e = check_act_mul((anemo_activation)c->activation, e, dot(f, 1, j, x));
            } else if (c->epilogue == ANEMO_EPI_ADD) {
                const double residual = f->residual[p][i * c->n[p] + j];
                e.value += residual;
                e.magnitude += fabs(residual) + fabs(e.value);
            }
            store(&result->fields[p], i * c->n[p] + j, &e, (double)c->k);
        }
}

static anemo_status oracle(void *fixture, const char *feed, check_result *result) {
    static const char *const names[] = {"y0", "y1", "y2"};
    const qgemm_fixture *f = fixture;
    float *x = check_act_through(feed, f->x, f->c.m, f->c.k);
    double *row = malloc((size_t)f->c.k * sizeof *row);
    bool ok = x && row;
    for (int p = 0; ok && p < written_parts(&f->c); p++)
        ok = check_result_add(result, names[p], CHECK_FLOAT, true, f->c.m, f->c.n[p]) &&
             check_result_scale(result);
    for (int64_t i = 0; ok && i < f->c.m; i++) {
        for (int64_t j = 0; j < f->c.k; j++)
            row[j] = x[i * f->c.k + j];
        one_row(f, row, i, result);
    }
    free(row);
    free(x);
    return ok ? ANEMO_OK : ANEMO_E_UNSUPPORTED;
}

const check_op check_op_qgemm = {.op = ANEMO_OP_QGEMM,
                                 .count = count,
                                 .create = create,
                                 .destroy = destroy,
                                 .problem = problem,
                                 .rows = rows,
                                 .execute = execute,
                                 .oracle = oracle};
