/* Beds of the self-test, and what the harness's own clock reads and records cost. */
#include "harness/compare/selftest.h"
#include "harness/compare/side.h"

#include "harness/measure/bench_kernel.h"
#include "harness/record/record.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- a kernel */

/* Whole blocks of 16 rows, or what is left over costs more than its share: with 100 rows of 512, 2
 * % more rows were 5 % more time. */
enum { ROWS = 800, ROWS_MOST = 848, WIDTH = 64 };
#define KERNEL_TURN_NS 1.5e5

static const bench_shape norm_shape = {.op = ANEMO_OP_ADD_RMSNORM,
                                       .name = "selftest/norm",
                                       .rows = "848",
                                       .what = "of the self-test",
                                       .number = {WIDTH, 1}};

typedef struct kernel_bed {
    anemo_clock clock;
    bench_setup setup;
    bench_case *c;
    bench_arm *arm;
    int64_t calls;
} kernel_bed;

static anemo_status sample_rows(void *ctx, int64_t rows, double *ns, anemo_error *err) {
    kernel_bed *bed = ctx;
    const anemo_variant *v = bed->arm->variant;
    anemo_add_rmsnorm_args args;
    memcpy(&args, bed->arm->args, sizeof args);
    args.m = rows; /* more rows: more turns of the variant's own loop */
    anemo_status status = ANEMO_OK;
    const uint64_t start = anemo_clock_now(&bed->clock);
    for (int64_t i = 0; !status && i < bed->calls; i++) {
        status = v->run(&bed->arm->exec, bed->c->problem, &args);
    }
    *ns = (double)(anemo_clock_now(&bed->clock) - start) / (double)bed->calls;
    return status ? anemo_fail(err, status, "%s: %s", v->name, anemo_status_name(status))
                  : ANEMO_OK;
}

static void close_kernel(anemo_selftest_bed *bed) {
    kernel_bed *k = bed->ctx;
    if (k->arm) {
        k->c->ops->arm_destroy(k->arm);
    }
    if (k->c) {
        k->c->ops->destroy(k->c);
    }
    free(k);
}

/* The last that supports the problem: ladders end with the best. */
static const anemo_variant *best_variant(anemo_device *device, const bench_case *c) {
    const anemo_variant *best = NULL;
    for (int32_t i = 0; i < anemo_variant_count(); i++) {
        const anemo_variant *v = anemo_variant_at(i);
        if (v->op == ANEMO_OP_ADD_RMSNORM &&
            anemo_variant_supports(v, anemo_device_capability(device), c->problem, NULL, 0)) {
            best = v;
        }
    }
    return best;
}

static anemo_status open_kernel(kernel_bed *k, anemo_error *err) {
    const bench_op *op = bench_op_find(ANEMO_OP_ADD_RMSNORM);
    bench_verdict verdict = {0};
    anemo_status status = op->create(&norm_shape, ROWS_MOST, &k->setup, &k->c, err);
    const anemo_variant *v = status ? NULL : best_variant(k->setup.device, k->c);
    if (!status && !v) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED, "no variant of add_rmsnorm runs here");
    }
    status = status ? status : op->arm_create(k->c, v, &k->arm, err);
    status = status ? status : op->check(k->arm, &verdict, err);
    if (!status && !(verdict.error <= 1)) {
        return anemo_fail(err, ANEMO_E_NUMERIC, "%s is wrong: error %.3g times its bound", v->name,
                          verdict.error);
    }
    double best_ns = INFINITY;
    for (int i = 0; !status && i < 9; i++) {
        double ns = INFINITY;
        status = sample_rows(k, ROWS, &ns, err);
        best_ns = fmin(best_ns, ns);
    }
    k->calls = (int64_t)fmax(1, ceil(KERNEL_TURN_NS / best_ns));
    return status;
}

anemo_status anemo_selftest_kernel_bed(anemo_device *device, anemo_selftest_bed *out,
                                       anemo_error *err) {
    static const int64_t units[ANEMO_SELFTEST_EFFECTS][2] = {
        {ROWS, ROWS}, {ROWS, ROWS + 16}, {ROWS, ROWS + 32}, {ROWS, ROWS + 48}};
    *out = (anemo_selftest_bed){
        .unit = "rows", .turns = ANEMO_PAIR_TURNS, .sample = sample_rows, .close = close_kernel};
    kernel_bed *k = calloc(1, sizeof *k);
    if (!k) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the self-test");
    }
    k->clock = anemo_clock_raw();
    k->calls = 1;
    k->setup = (bench_setup){.device = device, .weights = "q4_0", .seed = 1};
    bench_weight_type("q4_0", &k->setup.type);
    out->ctx = k;
    memcpy(out->units, units, sizeof units);
    const anemo_status status = open_kernel(k, err);
    if (status) {
        anemo_selftest_bed_close(out);
        return status;
    }
    snprintf(out->name, sizeof out->name, "kernel %s, rows of %d, %d turns of %lld calls",
             k->arm->variant->name, WIDTH, out->turns, (long long)k->calls);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- a model */

enum { PROMPT = 8, TOKENS_MOST = 51 };

typedef struct model_bed {
    bench_engine *engine;
    bench_decode decode;
    anemo_arm arm;
} model_bed;

static anemo_status sample_tokens(void *ctx, int64_t tokens, double *ns, anemo_error *err) {
    model_bed *bed = ctx;
    bed->engine->spec.generated_tokens = tokens + 1; /* the first came with the prompt */
    bed->decode.n_gaps = 0;
    anemo_status status = bed->arm.prepare(bed->arm.ctx, err);
    const uint64_t start = anemo_clock_now(&bed->engine->clock);
    status = status ? status : bed->arm.run(bed->arm.ctx, 0, err);
    *ns = (double)(anemo_clock_now(&bed->engine->clock) - start);
    return status;
}

static void close_model(anemo_selftest_bed *bed) {
    model_bed *m = bed->ctx;
    bench_decode_end(&m->decode);
    bench_engine_close(m->engine);
    free(m);
}

anemo_status anemo_selftest_model_bed(anemo_device *device, const char *path,
                                      anemo_selftest_bed *out, anemo_error *err) {
    static const int64_t units[ANEMO_SELFTEST_EFFECTS][2] = {{8, 8}, {50, 51}, {25, 26}, {33, 35}};
    const bench_engine_spec spec = {.path = path,
                                    .prompt_tokens = PROMPT,
                                    .generated_tokens = TOKENS_MOST + 1,
                                    .batch_max = 1,
                                    .seed = 1};
    *out = (anemo_selftest_bed){
        .unit = "tokens", .turns = ANEMO_PAIR_TURNS, .sample = sample_tokens, .close = close_model};
    model_bed *m = calloc(1, sizeof *m);
    if (!m) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the self-test");
    }
    const anemo_status status = bench_engine_open(device, &spec, &m->engine, err);
    if (status) {
        free(m);
        return status;
    }
    m->arm = bench_decode_arm(&m->decode, m->engine, 1);
    out->ctx = m;
    memcpy(out->units, units, sizeof units);
    snprintf(out->name, sizeof out->name, "decode of the model %.60s, %d turns",
             m->engine->info->name, out->turns);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- what measuring costs */

enum { COST_STEPS = 8, COST_SAMPLES = 20, RECORDS = 11 };

typedef struct cost_run {
    bench_engine *engine;
    bench_decode decode;
    anemo_arm arm;
} cost_run;

/* Side 1 is what `bench model` runs, a read behind every step; side 0 the same steps without. */
static anemo_status sample_steps(void *ctx, int32_t side, double *ns, anemo_error *err) {
    cost_run *run = ctx;
    bench_engine *e = run->engine;
    anemo_status status = run->arm.prepare(run->arm.ctx, err);
    run->decode.n_gaps = 0;
    const uint64_t start = anemo_clock_now(&e->clock);
    if (side == 1) {
        status = status ? status : run->arm.run(run->arm.ctx, 0, err);
    }
    for (int i = 0; side == 0 && !status && i < COST_STEPS; i++) {
        status = anemo_step_submit(e->plan, run->decode.entry, 1, err);
        status = status ? status : anemo_step_wait(e->plan, run->decode.result, err);
    }
    *ns = (double)(anemo_clock_now(&e->clock) - start);
    return status;
}

/* A record as `bench model` writes it: one line, flushed to the file, with its raw samples. */
static anemo_status write_record(anemo_record_sink *sink, anemo_error *err) {
    double raw[COST_SAMPLES];
    for (int i = 0; i < COST_SAMPLES; i++) {
        raw[i] = 1e-3 * (1 + 1e-4 * i);
    }
    anemo_record *record = anemo_record_create(ANEMO_RECORD_MODEL);
    anemo_record_text(record, NULL, "status", "passed");
    anemo_record_text(record, "case", "name", "selftest/cost");
    anemo_record_metric(record, "tpot", "s", true, raw[10], raw[5], raw[15], COST_SAMPLES);
    anemo_record_samples(record, raw, COST_SAMPLES);
    const anemo_status status = anemo_record_write(sink, record, err);
    anemo_record_free(record);
    return status;
}

static anemo_status time_records(const anemo_clock *clock, const char *path, double *median_ns,
                                 anemo_error *err) {
    anemo_record_sink *sink = NULL;
    double ns[RECORDS];
    anemo_status status = anemo_record_sink_open(path, &sink, err);
    for (int i = 0; !status && i < RECORDS; i++) {
        const uint64_t start = anemo_clock_now(clock);
        status = write_record(sink, err);
        ns[i] = (double)(anemo_clock_now(clock) - start);
    }
    if (sink) {
        const anemo_status closed = anemo_record_sink_close(sink, err);
        status = status ? status : closed;
    }
    *median_ns = status ? NAN : anemo_stats_median(ns, RECORDS, 0.95).value;
    return status;
}

static anemo_status measure_cost(cost_run *run, int64_t pairs, anemo_selftest_overhead *out,
                                 anemo_error *err) {
    const anemo_compare_rule rule = anemo_compare_rule_fixed(0.005, pairs);
    const anemo_compare_case c = {.name = "steps", .sample = sample_steps, .ctx = run};
    anemo_compare_result r;
    double ns;
    anemo_status status = sample_steps(run, 0, &ns, err); /* warm */
    status = status ? status : sample_steps(run, 1, &ns, err);
    if (status) {
        return status;
    }
    status = anemo_compare_run(&c, 1, &rule, NULL, &r, err);
    if (!status && r.status) {
        status = anemo_fail(err, r.status, "%s", r.error.text);
    }
    out->step_ns = r.time_ns[0].value / COST_STEPS;
    out->on_off = r.ratio;
    anemo_compare_results_free(&r, 1);
    return status;
}

anemo_status anemo_selftest_cost(anemo_device *device, const char *path, const char *record_path,
                                 int64_t pairs, anemo_selftest_overhead *out, anemo_error *err) {
    const bench_engine_spec spec = {.path = path,
                                    .prompt_tokens = PROMPT,
                                    .generated_tokens = COST_STEPS + 1,
                                    .batch_max = 1,
                                    .seed = 1};
    *out = (anemo_selftest_overhead){.steps = COST_STEPS, .samples = COST_SAMPLES};
    cost_run run = {.engine = NULL};
    anemo_status status = bench_engine_open(device, &spec, &run.engine, err);
    if (status) {
        return status;
    }
    run.arm = bench_decode_arm(&run.decode, run.engine, 1);
    snprintf(out->model, sizeof out->model, "%.90s", run.engine->info->name);
    out->parameters = run.engine->info->parameters;
    out->clock = anemo_clock_measure(&run.engine->clock);
    status = measure_cost(&run, pairs, out, err);
    status = status ? status : time_records(&run.engine->clock, record_path, &out->record_ns, err);
    /* Of n steps in a sample: one read before, n behind them, and the sampler's own two. */
    out->reads_per_step = 1 + 3.0 / COST_STEPS;
    out->share = (out->reads_per_step * out->clock.overhead_ns +
                  out->record_ns / (COST_STEPS * COST_SAMPLES)) /
                 out->step_ns;
    bench_decode_end(&run.decode);
    bench_engine_close(run.engine);
    return status;
}
