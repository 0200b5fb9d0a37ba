/* qgemm at the size of real layers.
 *
 * The truth is the reference, run as plain STORE on two subsets that together meet every tile of
 * any variant: two whole rows (the last and one in between, over all columns), and one column of
 * each 64 and the last eight (over all rows). The epilogue is then taken in double with its error
 * bound (check_act_mul). What a variant is fed has passed through its activation format, and so has
 * what the reference is fed: the qgemm is judged, not the rounding of its input. */
#include "harness/check/estimate.h"
#include "harness/check/op.h"
#include "harness/measure/bench_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMN_STEP = 64, LAST_COLUMNS = 8, FEEDS = 6 };
#define SMALL_OPS 2e8 /* up to here the truth is the whole output */

/* What the reference says for one activation format. */
typedef struct truth {
    char feed[16];
    double *x_norm;                    /* [m] */
    float *full[ANEMO_QGEMM_PARTS];    /* [full_rows, n_p] */
    float *columns[ANEMO_QGEMM_PARTS]; /* [m, n_columns[p]] */
} truth;

typedef struct qgemm_case {
    bench_case base;
    anemo_qgemm_problem problem;
    bench_weight *weight[ANEMO_QGEMM_PARTS];
    float *x;                           /* [m, k] */
    float *residual[ANEMO_QGEMM_PARTS]; /* [m, n_p] for ADD */
    int64_t full_rows, *full_row;
    int64_t n_columns[ANEMO_QGEMM_PARTS];
    int64_t *column[ANEMO_QGEMM_PARTS]; /* the same for gate and up */
    truth truths[FEEDS];
    int n_truths;
} qgemm_case;

typedef struct qgemm_arm {
    bench_arm base;
    bench_copies copies[ANEMO_QGEMM_PARTS];
    void *x;                           /* records */
    bench_output y[ANEMO_QGEMM_PARTS]; /* float [m, n_p] */
} qgemm_arm;

static int32_t written_parts(const anemo_qgemm_problem *p) {
    return p->epilogue == ANEMO_EPI_ACT_MUL ? 1 : p->n_parts;
}

/* ---------------------------------------------------------------- the case */

static void choose_subset(qgemm_case *c) {
    const int64_t m = c->base.m;
    if (m <= 2 || c->base.work.ops <= SMALL_OPS) {
        for (c->full_rows = 0; c->full_rows < m; c->full_rows++) {
            c->full_row[c->full_rows] = c->full_rows;
        }
    } else {
        c->full_row[c->full_rows++] = m - 1;
        c->full_row[c->full_rows++] = (int64_t)(bench_hash(c->base.setup.seed) % (uint64_t)(m - 1));
    }
    for (int p = 0; p < c->problem.n_parts; p++) {
        const int64_t n = c->problem.n[p];
        for (int64_t j = 0; j < n; j++) {
            const int64_t block = j / COLUMN_STEP;
            const int64_t in_block = (int64_t)(bench_hash((uint64_t)block) % COLUMN_STEP);
            if (j % COLUMN_STEP == in_block || j >= n - LAST_COLUMNS) {
                c->column[p][c->n_columns[p]++] = j;
            }
        }
    }
}

static void destroy(bench_case *base) {
    qgemm_case *c = (qgemm_case *)base;
    for (int p = 0; p < ANEMO_QGEMM_PARTS; p++) {
        bench_weight_free(c->weight[p]);
        free(c->residual[p]);
        free(c->column[p]);
    }
    for (int t = 0; t < c->n_truths; t++) {
        for (int p = 0; p < ANEMO_QGEMM_PARTS; p++) {
            free(c->truths[t].full[p]);
            free(c->truths[t].columns[p]);
        }
        free(c->truths[t].x_norm);
    }
    free(c->x);
    free(c->full_row);
    free(c);
}

static bool make_inputs(qgemm_case *c) {
    const anemo_qgemm_problem *p = &c->problem;
    const uint64_t seed = bench_hash(c->base.setup.seed);
    c->x = malloc((size_t)(c->base.m * p->k) * sizeof *c->x);
    c->full_row = malloc((size_t)c->base.m * sizeof *c->full_row);
    bool good = c->x && c->full_row;
    if (good) {
        bench_fill_normal(c->x, c->base.m * p->k, 1, seed);
    }
    for (int i = 0; good && i < p->n_parts; i++) {
        const size_t cells = (size_t)(c->base.m * p->n[i]);
        c->weight[i] = bench_weight_create(bench_setup_host(&c->base.setup), &p->type[i], p->n[i],
                                           p->k, seed + 1 + (uint64_t)i);
        c->column[i] = malloc((size_t)p->n[i] * sizeof *c->column[i]);
        good = c->weight[i] && c->column[i];
        if (good && p->epilogue == ANEMO_EPI_ADD) {
            good = (c->residual[i] = malloc(cells * sizeof(float))) != NULL;
            if (good) {
                bench_fill_normal(c->residual[i], (int64_t)cells, 1, seed + 11 + (uint64_t)i);
            }
        }
    }
    return good;
}

static anemo_status create(const bench_shape *shape, int64_t m, const bench_setup *setup,
                           bench_case **out, anemo_error *err) {
    qgemm_case *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a case");
    }
    c->base = (bench_case){.ops = &bench_op_qgemm, .setup = *setup, .shape = shape, .m = m};
    c->base.problem = &c->problem;
    c->problem = (anemo_qgemm_problem){.size = sizeof c->problem,
                                       .m_max = m,
                                       .k = shape->number[0],
                                       .epilogue = (int32_t)shape->number[4]};
    for (int p = 0; p < ANEMO_QGEMM_PARTS && shape->number[1 + p] > 0; p++) {
        c->problem.n[p] = shape->number[1 + p];
        c->problem.type[p] = setup->type;
        c->problem.n_parts++;
    }
    if (!make_inputs(c)) {
        destroy(&c->base);
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the inputs of %s", shape->name);
    }
    c->base.work = anemo_op_work(ANEMO_OP_QGEMM, &c->problem, m, 0);
    choose_subset(c);
    snprintf(c->base.name, sizeof c->base.name, "qgemm/%s/m=%lld/w=%s", shape->name, (long long)m,
             setup->weights);
    *out = &c->base;
    return ANEMO_OK;
}

static void record(const bench_case *base, anemo_record *r) {
    static const char *const epilogues[] = {"store", "add", "act_mul"};
    const anemo_qgemm_problem *p = base->problem;
    anemo_record_integer(r, "case", "m", base->m);
    anemo_record_integer(r, "case", "k", p->k);
    anemo_record_integer(r, "case", "n", p->n[0] + p->n[1] + p->n[2]);
    anemo_record_integer(r, "case", "parts", p->n_parts);
    anemo_record_text(r, "case", "epilogue", epilogues[p->epilogue]);
}

/* ---------------------------------------------------------------- arms */

static void arm_destroy(bench_arm *base) {
    qgemm_arm *arm = (qgemm_arm *)base;
    for (int p = 0; p < ANEMO_QGEMM_PARTS; p++) {
        bench_copies_free(&arm->copies[p]);
    }
    bench_arm_release(base);
    free((void *)base->args);
    free(arm);
}

/* Packs the weights into so many copies that a round through them leaves no cache warm. */
static anemo_status pack_weights(qgemm_arm *arm, anemo_error *err) {
    qgemm_case *c = (qgemm_case *)arm->base.c;
    const char *name = arm->base.variant->layout;
    const anemo_layout *layout = name ? anemo_layout_find(name) : NULL;
    size_t bytes = 0;
    for (int p = 0; p < c->problem.n_parts; p++) {
        bytes += bench_copy_bytes(c->weight[p], layout);
    }
    arm->base.packed_bytes = layout ? (double)bytes : 0;
    arm->base.n_args = (int64_t)((c->base.setup.cold_bytes + bytes - 1) / bytes);
    if (arm->base.n_args < 1) {
        arm->base.n_args = 1;
    }
    anemo_status status = ANEMO_OK;
    for (int p = 0; !status && p < c->problem.n_parts; p++) {
        status = bench_copies_create(arm->base.device, bench_setup_host(&c->base.setup),
                                     c->weight[p], layout, arm->base.n_args, &arm->copies[p], err);
    }
    return status;
}

static anemo_status make_args(qgemm_arm *arm, anemo_error *err) {
    const qgemm_case *c = (const qgemm_case *)arm->base.c;
    anemo_qgemm_args *args = calloc((size_t)arm->base.n_args, sizeof *args);
    arm->base.args = (const char *)args;
    arm->base.args_bytes = sizeof *args;
    arm->x = bench_arm_records(&arm->base, c->x, c->base.m, c->problem.k);
    bool good = args && arm->x;
    for (int p = 0; good && p < written_parts(&c->problem); p++) {
        good = bench_arm_output(&arm->base, ANEMO_MEM_STEP,
                                (size_t)(c->base.m * c->problem.n[p]) * sizeof(float), &arm->y[p]);
    }
    if (!good) {
        return anemo_fail(err, ANEMO_E_MEMORY,
                          "%s: no memory for arguments, or activation format "
                          "'%s' is unknown",
                          arm->base.variant->name,
                          arm->base.variant->act ? arm->base.variant->act : "f32");
    }
    for (int64_t i = 0; i < arm->base.n_args; i++) {
        args[i] = (anemo_qgemm_args){.size = sizeof *args, .m = c->base.m, .x = arm->x};
        for (int p = 0; p < c->problem.n_parts; p++) {
            args[i].weight[p] = arm->copies[p].argument[i];
            args[i].y[p] = arm->y[p].device;
            args[i].y_stride[p] = c->problem.n[p];
        }
    }
    return ANEMO_OK;
}

static anemo_status arm_create(bench_case *base, const anemo_variant *variant, bench_arm **out,
                               anemo_error *err) {
    qgemm_arm *arm = calloc(1, sizeof *arm);
    *out = NULL;
    if (!arm) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %s", variant->name);
    }
    anemo_status status = bench_arm_begin(&arm->base, base, variant, err);
    status = status ? status : pack_weights(arm, err);
    status = status ? status : make_args(arm, err);
    if (status) {
        arm_destroy(&arm->base);
        return status;
    }
    *out = &arm->base;
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- the truth */

/* Some rows of another weight. */
typedef struct picked_rows {
    const anemo_weight *from;
    const int64_t *row;
} picked_rows;

static void read_picked_row(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                            float *scales, float *offsets) {
    const picked_rows *picked = weight->reader_data;
    picked->from->read_row(picked->from, picked->row[row], values, codes, scales, offsets);
}

static double norm_of(const float *x, int64_t k) {
    double sum = 0;
    for (int64_t i = 0; i < k; i++) {
        sum += (double)x[i] * x[i];
    }
    return sqrt(sum);
}

/* y_p[m, n of weight p] = x W_p^T by the reference. */
static anemo_status reference_store(const qgemm_case *c, const anemo_weight *const *weights,
                                    const float *x, int64_t m, float *const *y, anemo_error *err) {
    anemo_qgemm_problem problem = c->problem;
    problem.epilogue = ANEMO_EPI_STORE;
    problem.m_max = m;
    anemo_qgemm_args args = {.size = sizeof args, .m = m, .x = x};
    for (int p = 0; p < problem.n_parts; p++) {
        problem.n[p] = weights[p]->n;
        args.weight[p] = weights[p];
        args.y[p] = y[p];
        args.y_stride[p] = weights[p]->n;
    }
    return bench_run_reference(&c->base.setup, ANEMO_OP_QGEMM, &problem, &args, err);
}

static anemo_status truth_of_rows(const qgemm_case *c, truth *t, const float *x, anemo_error *err) {
    const int64_t k = c->problem.k;
    float *rows = malloc((size_t)(c->full_rows * k) * sizeof *rows);
    if (!rows) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the reference");
    }
    const anemo_weight *weights[ANEMO_QGEMM_PARTS] = {0};
    for (int64_t r = 0; r < c->full_rows; r++) {
        memcpy(rows + r * k, x + c->full_row[r] * k, (size_t)k * sizeof *rows);
    }
    for (int p = 0; p < c->problem.n_parts; p++) {
        weights[p] = &c->weight[p]->canonical;
    }
    const anemo_status status = reference_store(c, weights, rows, c->full_rows, t->full, err);
    free(rows);
    return status;
}

static anemo_status truth_of_columns(const qgemm_case *c, truth *t, const float *x,
                                     anemo_error *err) {
    anemo_weight picked[ANEMO_QGEMM_PARTS];
    picked_rows rows[ANEMO_QGEMM_PARTS];
    const anemo_weight *weights[ANEMO_QGEMM_PARTS] = {0};
    for (int p = 0; p < c->problem.n_parts; p++) {
        rows[p] = (picked_rows){&c->weight[p]->canonical, c->column[p]};
        picked[p] = c->weight[p]->canonical;
        picked[p].n = c->n_columns[p];
        picked[p].reader_data = &rows[p];
        picked[p].read_row = read_picked_row;
        weights[p] = &picked[p];
    }
    return reference_store(c, weights, x, c->base.m, t->columns, err);
}

/* The truth for this activation format, computed at the first variant that asks. */
static anemo_status find_truth(qgemm_case *c, const char *feed, const truth **out,
                               anemo_error *err) {
    for (int i = 0; i < c->n_truths; i++) {
        if (strcmp(c->truths[i].feed, feed) == 0) {
            *out = &c->truths[i];
            return ANEMO_OK;
        }
    }
    if (c->n_truths == FEEDS) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED, "more than %d activation formats in one case",
                          FEEDS);
    }
    truth *t = &c->truths[c->n_truths++]; /* destroy() frees what it gets, whatever happens here */
    const int64_t m = c->base.m, k = c->problem.k;
    snprintf(t->feed, sizeof t->feed, "%s", feed);
    float *x = check_act_through(feed, c->x, m, k);
    bool good = x && (t->x_norm = malloc((size_t)m * sizeof *t->x_norm));
    for (int p = 0; good && p < c->problem.n_parts; p++) {
        t->full[p] = malloc((size_t)(c->full_rows * c->problem.n[p]) * sizeof(float));
        t->columns[p] = malloc((size_t)(m * c->n_columns[p]) * sizeof(float));
        good = t->full[p] && t->columns[p];
    }
    for (int64_t i = 0; good && i < m; i++) {
        t->x_norm[i] = norm_of(x + i * k, k);
    }
    anemo_status status = good ? truth_of_rows(c, t, x, err)
                               : anemo_fail(err, ANEMO_E_MEMORY,
                                            "no memory for the reference, or "
                                            "activation format '%s' is unknown",
                                            feed);
    status = status ? status : truth_of_columns(c, t, x, err);
    free(x);
    if (status) {
        t->feed[0] = '\0'; /* found by nobody */
    }
    *out = t;
    return status;
}

/* ---------------------------------------------------------------- judging */

/* A plain dot product of K terms of random sign has standard deviation |x| |w| / sqrt(K). */
static check_estimate estimate(const qgemm_case *c, int part, int64_t column, double value,
                               double x_norm) {
    const double scale = x_norm / sqrt((double)c->problem.k);
    return (check_estimate){.value = value,
                            .magnitude = fabs(value) + scale * c->weight[part]->part_norm[column],
                            .spread = scale * c->weight[part]->norm[column]};
}

/* Element (row, column) of written part p; stored[] are the reference's STORE values of it. */
static void judge_element(const qgemm_case *c, const qgemm_arm *arm, bench_judge *judge, int p,
                          int64_t row, int64_t column, double x_norm, const double *stored) {
    static const char *const names[] = {"y0", "y1", "y2"};
    const anemo_qgemm_problem *problem = &c->problem;
    const int64_t at = row * problem->n[p] + column;
    check_estimate e = estimate(c, p, column, stored[0], x_norm);
    if (problem->epilogue == ANEMO_EPI_ACT_MUL) {
        e = check_act_mul((anemo_activation)problem->activation, e,
                          estimate(c, 1, column, stored[1], x_norm));
    } else if (problem->epilogue == ANEMO_EPI_ADD) {
        e.value += c->residual[p][at];
        e.magnitude += fabs((double)c->residual[p][at]);
    }
    bench_judge_take(judge, names[p], row, column, ((const float *)arm->y[p].host)[at], e.value,
                     e.magnitude, (double)problem->k, e.spread);
}

static void judge_part(const qgemm_case *c, const qgemm_arm *arm, const truth *t, int p,
                       bench_judge *judge) {
    const int second = c->problem.epilogue == ANEMO_EPI_ACT_MUL ? 1 : p;
    const int64_t n = c->problem.n[p], picked = c->n_columns[p];
    for (int64_t r = 0; r < c->full_rows; r++) {
        for (int64_t j = 0; j < n; j++) {
            const double stored[] = {t->full[p][r * n + j], t->full[second][r * n + j]};
            judge_element(c, arm, judge, p, c->full_row[r], j, t->x_norm[c->full_row[r]], stored);
        }
    }
    for (int64_t i = 0; i < c->base.m; i++) {
        for (int64_t j = 0; j < picked; j++) {
            const double stored[] = {t->columns[p][i * picked + j],
                                     t->columns[second][i * picked + j]};
            judge_element(c, arm, judge, p, i, c->column[p][j], t->x_norm[i], stored);
        }
    }
}

static anemo_status check(bench_arm *base, bench_verdict *out, anemo_error *err) {
    qgemm_arm *arm = (qgemm_arm *)base;
    qgemm_case *c = (qgemm_case *)base->c;
    const bool reference = base->variant->traits & ANEMO_TRAIT_REFERENCE;
    const truth *t = NULL;
    const char *feed = base->variant->act && !reference ? base->variant->act : "f32";
    anemo_status status = find_truth(c, feed, &t, err);
    for (int p = 0; !status && p < written_parts(&c->problem); p++) {
        if (c->residual[p]) {
            memcpy(arm->y[p].host, c->residual[p], arm->y[p].bytes);
        } else {
            memset(arm->y[p].host, 0xff, arm->y[p].bytes); /* NaN: what is not written shows */
        }
        status = bench_output_push(base, &arm->y[p], err);
    }
    status = status ? status : bench_arm_run(base, 0, err);
    for (int p = 0; !status && p < written_parts(&c->problem); p++) {
        status = bench_output_pull(base, &arm->y[p], err);
    }
    if (status) {
        return status;
    }
    bench_judge judge = bench_judge_of(base->variant);
    for (int p = 0; p < written_parts(&c->problem); p++) {
        judge_part(c, arm, t, p, &judge);
    }
    bench_judge_end(&judge, out);
    return ANEMO_OK;
}

static anemo_status quantise(bench_arm *base, anemo_error *err) {
    const qgemm_case *c = (const qgemm_case *)base->c;
    return bench_arm_quantises(base, c->x, ((qgemm_arm *)base)->x, c->base.m, c->problem.k, err);
}

const bench_op bench_op_qgemm = {
    .op = ANEMO_OP_QGEMM,
    .create = create,
    .destroy = destroy,
    .arm_create = arm_create,
    .arm_destroy = arm_destroy,
    .check = check,
    .record = record,
    .quantise = quantise,
};
