/* swa over a paged KV as an engine leaves it: pages of 64 positions in random order, written by the
 * reference of rope_append, so that their form is nobody's guess. Scores have a standard deviation
 * of 3: softmax is neither flat nor one-hot, and wrong keys change the result.
 *
 * The truth is the reference on a few rows. A row of a longer sequence is asked for as a sequence
 * of its own that ends there and shares the pages. */
#include "harness/check/op.h"
#include "harness/measure/bench_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_TOKENS = 64, PICKED = 4 };
#define SCORE_SD 3.0

typedef struct swa_case {
    bench_case base;
    anemo_swa_problem problem;
    int64_t heads, kv_heads, head_dim, sequences, rows_each;
    int64_t first, pages_each; /* of every sequence: first position held, pages from there */
    size_t page_bytes;
    float *q;                      /* [m, heads, head_dim] */
    int32_t *row_start;            /* [sequences + 1] */
    int64_t *first_of, *length_of; /* [sequences] */
    int32_t *table_start;          /* [sequences] */
    int32_t *pages;                /* [sequences * pages_each]: a permutation */
    char *pool;                    /* filled once; arms copy it */
    int64_t n_picked, picked[PICKED];
    float *truth; /* [n_picked, heads, head_dim]; NULL until asked for */
} swa_case;

typedef struct swa_arm {
    bench_arm base;
    char *pools;      /* [n_args] pools */
    bench_output out; /* float [m, heads, head_dim] */
} swa_arm;

static size_t pool_bytes(const swa_case *c) {
    return (size_t)(c->sequences * c->pages_each) * c->page_bytes;
}

static anemo_kv_view view_of(const swa_case *c, void *pool) {
    return (anemo_kv_view){.size = sizeof(anemo_kv_view),
                           .n_sequences = (int32_t)c->sequences,
                           .row_start = c->row_start,
                           .first = c->first_of,
                           .length = c->length_of,
                           .table_start = c->table_start,
                           .pages = c->pages,
                           .pool = pool};
}

/* ---------------------------------------------------------------- the case */

static void destroy(bench_case *base) {
    swa_case *c = (swa_case *)base;
    free(c->q);
    free(c->row_start);
    free(c->first_of);
    free(c->length_of);
    free(c->table_start);
    free(c->pages);
    free(c->truth);
    if (c->pool) {
        anemo_device_dealloc(bench_setup_host(&base->setup), ANEMO_MEM_KV, c->pool, pool_bytes(c));
    }
    free(c);
}

static void choose_rows(swa_case *c) {
    const int64_t m = c->base.m;
    const int64_t wanted[PICKED] = {0, m - 1, m / 3, (int64_t)(bench_hash(7) % (uint64_t)m)};
    for (int i = 0; i < PICKED; i++) {
        bool there = false;
        for (int64_t j = 0; j < c->n_picked; j++) {
            there = there || c->picked[j] == wanted[i];
        }
        if (!there) {
            c->picked[c->n_picked++] = wanted[i];
        }
    }
}

/* Keys and values of one sequence, written by rope_append's reference. Its own rows count as well:
 * swa reads K and V that are already in the pages. */
static anemo_status fill_sequence(swa_case *c, int64_t sequence, float *k, float *v,
                                  anemo_error *err) {
    const int64_t positions = c->base.context - c->first, width = c->kv_heads * c->head_dim;
    const int32_t row_start[] = {0, (int32_t)positions};
    const uint64_t seed = bench_hash(c->base.setup.seed + 100 + (uint64_t)sequence);
    const float inv_freq[] = {1};
    anemo_rope_problem problem = {.size = sizeof problem,
                                  .rows_max = positions,
                                  .sequences_max = 1,
                                  .kv = c->problem.kv,
                                  .rotary_dims = 2,
                                  .pairing = ANEMO_ROPE_HALF,
                                  .magnitude = 1};
    problem.kv.n_heads = (int32_t)c->kv_heads; /* q is not of interest: K passes for it */
    anemo_rope_args args = {.size = sizeof args, .rows = positions, .v = v, .inv_freq = inv_freq};
    float *q = calloc((size_t)(positions * width), sizeof *q);
    if (!q) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the keys");
    }
    args.q = q;
    args.k = k;
    bench_fill_uniform(k, positions * width, seed);
    bench_fill_uniform(v, positions * width, ~seed);
    args.kv = view_of(c, c->pool);
    args.kv.n_sequences = 1;
    args.kv.row_start = row_start;
    args.kv.first += sequence;
    args.kv.length += sequence;
    args.kv.table_start += sequence;
    const anemo_status status =
        bench_run_reference(&c->base.setup, ANEMO_OP_ROPE_APPEND, &problem, &args, err);
    free(q);
    return status;
}

static anemo_status fill_pool(swa_case *c, anemo_error *err) {
    const size_t floats = (size_t)((c->base.context - c->first) * c->kv_heads * c->head_dim);
    float *k = malloc(floats * sizeof *k), *v = malloc(floats * sizeof *v);
    anemo_status status =
        k && v ? ANEMO_OK : anemo_fail(err, ANEMO_E_MEMORY, "no memory for the keys");
    for (int64_t s = 0; !status && s < c->sequences; s++) {
        status = fill_sequence(c, s, k, v, err);
    }
    free(k);
    free(v);
    return status;
}

static void shuffle_pages(int32_t *pages, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) {
        pages[i] = (int32_t)i;
    }
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = (int64_t)(bench_hash(seed + (uint64_t)i) % (uint64_t)(i + 1));
        const int32_t kept = pages[i];
        pages[i] = pages[j];
        pages[j] = kept;
    }
}

static anemo_status make_inputs(swa_case *c, anemo_error *err) {
    const int64_t n = c->sequences, width = c->heads * c->head_dim;
    c->q = malloc((size_t)(c->base.m * width) * sizeof *c->q);
    c->row_start = malloc((size_t)(n + 1) * sizeof *c->row_start);
    c->first_of = malloc((size_t)n * sizeof *c->first_of);
    c->length_of = malloc((size_t)n * sizeof *c->length_of);
    c->table_start = malloc((size_t)n * sizeof *c->table_start);
    c->pages = malloc((size_t)(n * c->pages_each) * sizeof *c->pages);
    c->pool = anemo_device_alloc(bench_setup_host(&c->base.setup), ANEMO_MEM_KV, pool_bytes(c));
    if (!c->q || !c->row_start || !c->first_of || !c->length_of || !c->table_start || !c->pages ||
        !c->pool) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %zu bytes of KV", pool_bytes(c));
    }
    bench_fill_normal(c->q, c->base.m * width, SCORE_SD, c->base.setup.seed);
    for (int64_t s = 0; s < n; s++) {
        c->row_start[s] = (int32_t)(s * c->rows_each);
        c->first_of[s] = c->first;
        c->length_of[s] = c->base.context;
        c->table_start[s] = (int32_t)(s * c->pages_each);
    }
    c->row_start[n] = (int32_t)c->base.m;
    shuffle_pages(c->pages, n * c->pages_each, c->base.setup.seed);
    return fill_pool(c, err);
}

/* numbers: heads, kv_heads, head_dim, window, context, decode, KV type */
static void set_shape(swa_case *c) {
    const int64_t *number = c->base.shape->number, m = c->base.m;
    const bool decode = number[5] != 0;
    c->heads = number[0];
    c->kv_heads = number[1];
    c->head_dim = number[2];
    c->sequences = decode ? m : 1;
    c->rows_each = decode ? 1 : m;
    c->base.context = number[4] < c->rows_each ? c->rows_each : number[4];
    const int64_t window = number[3];
    const int64_t oldest = window > 0 ? c->base.context - c->rows_each - window + 1 : 0;
    c->first = oldest > 0 ? oldest / PAGE_TOKENS * PAGE_TOKENS : 0;
    c->pages_each = (c->base.context - c->first + PAGE_TOKENS - 1) / PAGE_TOKENS;
    c->problem = (anemo_swa_problem){.size = sizeof c->problem,
                                     .rows_max = m,
                                     .sequences_max = (int32_t)c->sequences,
                                     .context_max = c->base.context,
                                     .window = window,
                                     .scale = (float)(1 / sqrt((double)c->head_dim))};
    c->problem.kv = (anemo_kv_shape){.n_heads = (int32_t)c->heads,
                                     .n_kv_heads = (int32_t)c->kv_heads,
                                     .head_dim = (int32_t)c->head_dim,
                                     .page_tokens = PAGE_TOKENS,
                                     .type = (int32_t)number[6]};
    c->page_bytes = anemo_kv_page_bytes((anemo_kv_type)number[6], (int32_t)c->kv_heads,
                                        (int32_t)c->head_dim, PAGE_TOKENS);
}

static anemo_status create(const bench_shape *shape, int64_t m, const bench_setup *setup,
                           bench_case **out, anemo_error *err) {
    swa_case *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a case");
    }
    c->base = (bench_case){.ops = &bench_op_swa, .setup = *setup, .shape = shape, .m = m};
    c->base.problem = &c->problem;
    set_shape(c);
    choose_rows(c);
    const anemo_status status = make_inputs(c, err);
    if (status) {
        destroy(&c->base);
        return status;
    }
    snprintf(c->base.name, sizeof c->base.name, "swa/%s/m=%lld/kv=%s", shape->name, (long long)m,
             anemo_kv_type_name((anemo_kv_type)c->problem.kv.type));
    c->base.work = anemo_op_work(ANEMO_OP_SWA, &c->problem, m, c->base.context);
    *out = &c->base;
    return ANEMO_OK;
}

static void record(const bench_case *base, anemo_record *r) {
    const swa_case *c = (const swa_case *)base;
    anemo_record_integer(r, "case", "m", base->m);
    anemo_record_integer(r, "case", "heads", c->heads);
    anemo_record_integer(r, "case", "kv_heads", c->kv_heads);
    anemo_record_integer(r, "case", "head_dim", c->head_dim);
    anemo_record_integer(r, "case", "window", c->problem.window);
    anemo_record_integer(r, "case", "context", base->context - c->rows_each);
    anemo_record_integer(r, "case", "sequences", c->sequences);
    anemo_record_integer(r, "case", "rows_per_sequence", c->rows_each);
    anemo_record_text(r, "case", "kv_type", anemo_kv_type_name((anemo_kv_type)c->problem.kv.type));
}

/* ---------------------------------------------------------------- arms */

static void arm_destroy(bench_arm *base) {
    bench_arm_release(base);
    free((void *)base->args);
    free(base);
}

/* The view without its pool, for the arm's device to read. */
static anemo_kv_view place_view(swa_arm *arm, bool *good) {
    const swa_case *c = (const swa_case *)arm->base.c;
    const size_t n = (size_t)c->sequences;
    anemo_kv_view view = view_of(c, NULL);
    view.row_start = bench_arm_put(&arm->base, c->row_start, (n + 1) * sizeof(int32_t), good);
    view.first = bench_arm_put(&arm->base, c->first_of, n * sizeof(int64_t), good);
    view.length = bench_arm_put(&arm->base, c->length_of, n * sizeof(int64_t), good);
    view.table_start = bench_arm_put(&arm->base, c->table_start, n * sizeof(int32_t), good);
    view.pages =
        bench_arm_put(&arm->base, c->pages, n * (size_t)c->pages_each * sizeof(int32_t), good);
    return view;
}

static anemo_status make_args(swa_arm *arm, anemo_error *err) {
    swa_case *c = (swa_case *)arm->base.c;
    const size_t bytes = pool_bytes(c);
    const size_t row_bytes = (size_t)(c->base.m * c->heads * c->head_dim) * sizeof(float);
    arm->base.n_args = (int64_t)((c->base.setup.cold_bytes + bytes - 1) / bytes);
    arm->base.n_args = arm->base.n_args < 1 ? 1 : arm->base.n_args;
    arm->base.args_bytes = sizeof(anemo_swa_args);
    anemo_swa_args *args = calloc((size_t)arm->base.n_args, sizeof *args);
    arm->base.args = (const char *)args;
    arm->pools = bench_arm_alloc(&arm->base, ANEMO_MEM_KV, (size_t)arm->base.n_args * bytes);
    bool good = args && arm->pools;
    good = good && bench_arm_output(&arm->base, ANEMO_MEM_STEP, row_bytes, &arm->out);
    const anemo_kv_view view = good ? place_view(arm, &good) : view_of(c, NULL);
    const float *q = good ? bench_arm_put(&arm->base, c->q, row_bytes, &good) : NULL;
    for (int64_t i = 0; good && i < arm->base.n_args; i++) {
        char *pool = arm->pools + (size_t)i * bytes;
        good = anemo_device_upload(arm->base.device, pool, c->pool, bytes) == ANEMO_OK;
        args[i] = (anemo_swa_args){
            .size = sizeof *args, .rows = c->base.m, .q = q, .kv = view, .out = arm->out.device};
        args[i].kv.pool = pool;
    }
    if (!good || anemo_device_synchronise(arm->base.device, NULL) != ANEMO_OK) {
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for %lld copies of the KV",
                          arm->base.variant->name, (long long)arm->base.n_args);
    }
    return ANEMO_OK;
}

static anemo_status arm_create(bench_case *base, const anemo_variant *variant, bench_arm **out,
                               anemo_error *err) {
    swa_arm *arm = calloc(1, sizeof *arm);
    *out = NULL;
    if (!arm) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %s", variant->name);
    }
    anemo_status status = bench_arm_begin(&arm->base, base, variant, err);
    status = status ? status : make_args(arm, err);
    if (status) {
        arm_destroy(&arm->base);
        return status;
    }
    *out = &arm->base;
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- check */

static anemo_status find_truth(swa_case *c, anemo_error *err) {
    if (c->truth) {
        return ANEMO_OK;
    }
    const int64_t width = c->heads * c->head_dim;
    float *q = malloc((size_t)(c->n_picked * width) * sizeof *q);
    float *truth = malloc((size_t)(c->n_picked * width) * sizeof *truth);
    int32_t row_start[PICKED + 1], table_start[PICKED];
    int64_t first[PICKED], length[PICKED];
    for (int64_t i = 0; q && i < c->n_picked; i++) {
        const int64_t row = c->picked[i], sequence = row / c->rows_each;
        memcpy(q + i * width, c->q + row * width, (size_t)width * sizeof *q);
        row_start[i] = (int32_t)i;
        table_start[i] = c->table_start[sequence];
        first[i] = c->first;
        length[i] = c->base.context - (c->rows_each - 1 - row % c->rows_each);
    }
    row_start[c->n_picked] = (int32_t)c->n_picked;
    anemo_swa_problem problem = c->problem;
    problem.rows_max = c->n_picked;
    problem.sequences_max = (int32_t)c->n_picked;
    anemo_swa_args args = {.size = sizeof args, .rows = c->n_picked, .q = q, .out = truth};
    args.kv = view_of(c, c->pool);
    args.kv.n_sequences = (int32_t)c->n_picked;
    args.kv.row_start = row_start;
    args.kv.first = first;
    args.kv.length = length;
    args.kv.table_start = table_start;
    const anemo_status status =
        q && truth ? bench_run_reference(&c->base.setup, ANEMO_OP_SWA, &problem, &args, err)
                   : anemo_fail(err, ANEMO_E_MEMORY, "no memory for the reference");
    free(q);
    if (status) {
        free(truth);
        return status;
    }
    c->truth = truth;
    return ANEMO_OK;
}

/* An error e of the scores changes a softmax weight by 1 + e, above and below the line; values are
 * at most sqrt(3) by construction, keys' norm about sqrt(head_dim). Rounded queries and weights
 * count for as much as if one weight were nearly all (op_swa.c, spread). */
static void judge(const swa_case *c, const float *out, bench_verdict *verdict, bench_judge *judge) {
    const int64_t width = c->heads * c->head_dim;
    const double magnitude = sqrt(3.0) * (1 + 2 * SCORE_SD), spread = 1 + SCORE_SD;
    for (int64_t i = 0; i < c->n_picked; i++) {
        for (int64_t j = 0; j < width; j++) {
            bench_judge_take(judge, "out", c->picked[i], j, out[c->picked[i] * width + j],
                             c->truth[i * width + j], magnitude,
                             (double)(c->base.context - c->first), spread);
        }
    }
    for (int64_t i = 0; i < c->base.m * width; i++) {
        if (!isfinite(out[i])) { /* also in rows that were not picked */
            bench_judge_take(judge, "out", i / width, i % width, out[i], 0, magnitude, 1, 1);
        }
    }
    bench_judge_end(judge, verdict);
}

static anemo_status check(bench_arm *base, bench_verdict *out, anemo_error *err) {
    swa_arm *arm = (swa_arm *)base;
    swa_case *c = (swa_case *)base->c;
    anemo_status status = find_truth(c, err);
    memset(arm->out.host, 0xff, arm->out.bytes);
    status = status ? status : bench_output_push(base, &arm->out, err);
    status = status ? status : bench_arm_run(base, 0, err);
    status = status ? status : bench_output_pull(base, &arm->out, err);
    if (!status) {
        bench_judge j = bench_judge_of(base->variant);
        judge(c, arm->out.host, out, &j);
    }
    return status;
}

const bench_op bench_op_swa = {
    .op = ANEMO_OP_SWA,
    .create = create,
    .destroy = destroy,
    .arm_create = arm_create,
    .arm_destroy = arm_destroy,
    .check = check,
    .record = record,
};
