/* A case at a time: make its inputs, set up every variant that is to run, check each on this very
 * problem, drop what is wrong or hopelessly slow, then sample the rest in rounds with the probes in
 * between. All variants of a case are arms of one run: what is compared was measured together. */
#include "harness/measure/bench_kernel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LINES = 64 };
#define TOO_SLOW    8.0 /* an unnamed variant this many times slower than the fastest is not timed */
#define COLD_CACHES 2

typedef struct session {
    anemo_device *device;
    const anemo_bench_kernel_options *options;
    anemo_record_sink *sink;
    anemo_bench_observer observer;
    void *ctx;
    bench_setup setup;
    anemo_clock clock;
    anemo_probe *probe;
    bench_ceilings ceilings;
    int32_t done, total;
    int32_t n_incorrect, n_measured; /* lines of all cases */
    char last_refusal[400];
    anemo_error *err;
} session;

/* What is under way in one case. */
typedef struct case_run {
    bench_case *c;
    anemo_bench_line lines[MOST_LINES];
    bench_arm *arms[MOST_LINES];
    int32_t n_lines;
    anemo_samples samples;
} case_run;

/* ---------------------------------------------------------------- what to measure */

static const bench_op *const bench_ops[] = {
    &bench_op_qgemm,       &bench_op_moe,          &bench_op_swa,   &bench_op_add_rmsnorm,
    &bench_op_rope_append, &bench_op_quantize_act, &bench_op_embed, &bench_op_sample,
    &bench_op_moe_route,   &bench_op_moe_combine};

static const bench_op *find_op(anemo_op op) {
    for (size_t i = 0; i < sizeof bench_ops / sizeof *bench_ops; i++) {
        if (bench_ops[i]->op == op) {
            return bench_ops[i];
        }
    }
    return NULL;
}

/* Every name must be an op or a variant, and a variant must run here. */
static anemo_status check_names(const session *s) {
    const int32_t capability = anemo_device_capability(s->device);
    for (int32_t i = 0; i < s->options->n_names; i++) {
        const char *name = s->options->names[i];
        char why[160];
        anemo_op op;
        const anemo_variant *v = anemo_variant_find(name);
        if (!v && !anemo_op_from_name(name, &op)) {
            return anemo_fail(s->err, ANEMO_E_INPUT,
                              "'%s' is neither an op nor a variant; `anemo list` shows both", name);
        }
        if (v && !anemo_variant_runs_here(v, capability, why, sizeof why)) {
            return anemo_fail(s->err, ANEMO_E_INPUT, "%s cannot run here: %s", name, why);
        }
    }
    return ANEMO_OK;
}

static bool op_wanted(const session *s, anemo_op op) {
    for (int32_t i = 0; i < s->options->n_names; i++) {
        const anemo_variant *v = anemo_variant_find(s->options->names[i]);
        if (v ? v->op == op : strcmp(s->options->names[i], anemo_op_name(op)) == 0) {
            return true;
        }
    }
    return s->options->n_names == 0;
}

static bool shape_wanted(const session *s, const bench_shape *shape) {
    if (!op_wanted(s, shape->op)) {
        return false;
    }
    if (s->options->shape) {
        return anemo_shape_matches(shape, s->options->shape);
    }
    return s->options->n_names > 0 || shape->is_short;
}

static bool is_named(const session *s, const anemo_variant *v) {
    for (int32_t i = 0; i < s->options->n_names; i++) {
        if (strcmp(s->options->names[i], v->name) == 0) {
            return true;
        }
    }
    return false;
}

/* Are there names of single variants of this op? Then only those run. */
static bool names_variants(const session *s, anemo_op op) {
    for (int32_t i = 0; i < s->options->n_names; i++) {
        const anemo_variant *v = anemo_variant_find(s->options->names[i]);
        if (v && v->op == op) {
            return true;
        }
    }
    return false;
}

static bool is_plain_c(const anemo_variant *v) {
    const size_t bytes = strlen(v->name);
    return bytes > 2 && strcmp(v->name + bytes - 2, "_c") == 0;
}

/* One line for each variant that is asked for: those that refuse stay as lines with the reason. */
static void choose_lines(session *s, case_run *run) {
    const bench_case *c = run->c;
    const int32_t capability = anemo_device_capability(s->device);
    const bool only_named = names_variants(s, c->ops->op);
    bool better_than_c = false;
    for (int32_t i = 0; i < anemo_variant_count() && run->n_lines < MOST_LINES; i++) {
        const anemo_variant *v = anemo_variant_at(i);
        anemo_bench_line line = {.variant = v, .ratio = {.value = NAN}, .error = NAN};
        line.yardstick = strstr(v->name, "blas") != NULL;
        if (v->op != c->ops->op || (only_named && !is_named(s, v)) ||
            (!only_named && v->traits & ANEMO_TRAIT_REFERENCE) ||
            !anemo_variant_runs_here(v, capability, line.why, sizeof line.why)) {
            continue;
        }
        if (!anemo_variant_supports(v, capability, c->problem, line.why, sizeof line.why)) {
            line.fate = ANEMO_BENCH_REFUSED;
            snprintf(s->last_refusal, sizeof s->last_refusal, "%s: %s", v->name, line.why);
        } else {
            better_than_c = better_than_c || !is_plain_c(v);
        }
        run->lines[run->n_lines++] = line;
    }
    for (int32_t i = 0; i < run->n_lines; i++) {
        anemo_bench_line *line = &run->lines[i];
        if (!only_named && better_than_c && line->fate == ANEMO_BENCH_MEASURED &&
            is_plain_c(line->variant)) {
            line->fate = ANEMO_BENCH_LEFT_OUT;
            snprintf(line->why, sizeof line->why, "plain C beside faster ones: name it to time it");
        }
    }
}

/* ---------------------------------------------------------------- correct before fast */

static anemo_ceiling arithmetic_of(const anemo_variant *v) {
    if (v->act && strncmp(v->act, "a8", 2) == 0) {
        return ANEMO_CEILING_INT8;
    }
    if ((v->act && strcmp(v->act, "bf16") == 0) || v->needs.cpu_features & ANEMO_CPU_AVX512_BF16) {
        return ANEMO_CEILING_BF16;
    }
    return ANEMO_CEILING_FP32;
}

static anemo_status check_line(session *s, anemo_bench_line *line, bench_arm *arm) {
    bench_verdict verdict;
    const anemo_status status = arm->c->ops->check(arm, &verdict, s->err);
    if (status) {
        return status;
    }
    line->error = verdict.error;
    if (!(verdict.error <= 1)) {
        line->fate = ANEMO_BENCH_INCORRECT;
        snprintf(line->why, sizeof line->why, "error %.3g times its bound at %s", verdict.error,
                 verdict.detail);
    }
    return ANEMO_OK;
}

/* The best of three calls: one alone may have met another process. */
static anemo_status best_call(const session *s, bench_arm *arm, double *best_ns) {
    *best_ns = INFINITY;
    for (int i = 0; i < 3; i++) {
        const uint64_t start = anemo_clock_now(&s->clock);
        const anemo_status status = bench_arm_run(arm, 1 + i, s->err);
        if (status) {
            return status;
        }
        *best_ns = fmin(*best_ns, (double)(anemo_clock_now(&s->clock) - start));
    }
    return ANEMO_OK;
}

/* Sets up and checks every line; then leaves out unnamed ones that are far too slow. */
static anemo_status prepare_arms(session *s, case_run *run) {
    double call_ns[MOST_LINES], fastest_ns = INFINITY;
    const bool only_named = names_variants(s, run->c->ops->op);
    for (int32_t i = 0; i < run->n_lines; i++) {
        anemo_bench_line *line = &run->lines[i];
        if (line->fate != ANEMO_BENCH_MEASURED) {
            continue;
        }
        anemo_status status = run->c->ops->arm_create(run->c, line->variant, &run->arms[i], s->err);
        status = status ? status : check_line(s, line, run->arms[i]);
        if (status || line->fate != ANEMO_BENCH_MEASURED) {
            s->n_incorrect += !status;
            if (status) {
                return status;
            }
            continue;
        }
        status = best_call(s, run->arms[i], &call_ns[i]);
        if (status) {
            return status;
        }
        fastest_ns = fmin(fastest_ns, call_ns[i]);
        line->packed_bytes = run->arms[i]->packed_bytes;
    }
    for (int32_t i = 0; i < run->n_lines; i++) {
        anemo_bench_line *line = &run->lines[i];
        if (line->fate == ANEMO_BENCH_MEASURED && !only_named && !line->yardstick &&
            call_ns[i] > TOO_SLOW * fastest_ns) {
            line->fate = ANEMO_BENCH_LEFT_OUT;
            snprintf(line->why, sizeof line->why,
                     "a call takes %.0f times the fastest: name it to time it",
                     call_ns[i] / fastest_ns);
        }
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- timing */

static anemo_status run_arm(void *ctx, int64_t call, anemo_error *err) {
    return bench_arm_run(ctx, call, err);
}

static bench_roof roof_of(const session *s, const bench_case *c, const anemo_variant *v) {
    const anemo_work *w = &c->work;
    bench_roof roof = {.ops = w->ops, .arithmetic = arithmetic_of(v)};
    if (c->resident && s->options->caches != ANEMO_CACHES_COLD) {
        return (bench_roof){.arithmetic = arithmetic_of(v)}; /* none: no ceiling binds it */
    }
    if (s->options->caches != ANEMO_CACHES_WARM) {
        roof.bytes = w->weight_bytes + w->kv_bytes;
    }
    if (s->options->caches == ANEMO_CACHES_COLD) {
        roof.bytes += w->act_bytes;
    }
    return roof;
}

static anemo_status evaluate_line(session *s, const case_run *run, anemo_bench_line *line,
                                  int32_t arm) {
    const anemo_work *w = &run->c->work;
    const bench_roof roof = roof_of(s, run->c, line->variant);
    const anemo_status status =
        bench_evaluate(&run->samples, arm, &s->ceilings, &roof, &line->result, s->err);
    line->bytes_per_s = bench_case_bytes(run->c) / line->result.time_s.value;
    line->ops_per_s = w->ops / line->result.time_s.value;
    return status;
}

static anemo_status evaluate(session *s, case_run *run) {
    int32_t arm = 0, best_arm = 0;
    const anemo_bench_line *best = NULL;
    for (int32_t i = 0; i < run->n_lines; i++) {
        anemo_bench_line *line = &run->lines[i];
        if (line->fate != ANEMO_BENCH_MEASURED) {
            continue;
        }
        const anemo_status status = evaluate_line(s, run, line, arm);
        if (status) {
            return status;
        }
        if (!best || line->result.time_s.value < best->result.time_s.value) {
            best = line;
            best_arm = arm;
        }
        arm++;
    }
    arm = 0;
    for (int32_t i = 0; i < run->n_lines; i++) {
        anemo_bench_line *line = &run->lines[i];
        if (line->fate == ANEMO_BENCH_MEASURED) {
            line->best = line == best;
            line->ratio = anemo_stats_paired_ratio(run->samples.ns[best_arm],
                                                   run->samples.ns[arm++], run->samples.n, 0.95);
        }
    }
    return ANEMO_OK;
}

static anemo_sampling sampling_of(session *s) {
    return (anemo_sampling){.clock = s->clock,
                            .stop = s->options->stop,
                            .caches = s->options->caches,
                            .evict = bench_ceilings_evict,
                            .between = bench_ceilings_measure,
                            .hooks_ctx = &s->ceilings,
                            .interrupted = s->options->interrupted};
}

static anemo_status time_arms(session *s, case_run *run) {
    anemo_arm arms[MOST_LINES];
    int32_t n = 0;
    bench_ceilings_reset(&s->ceilings);
    for (int32_t i = 0; i < run->n_lines; i++) {
        const anemo_bench_line *line = &run->lines[i];
        if (line->fate == ANEMO_BENCH_MEASURED) {
            bench_ceilings_want(&s->ceilings, arithmetic_of(line->variant));
            s->n_measured++;
            arms[n++] = (anemo_arm){.run = run_arm, .ctx = run->arms[i]};
        }
    }
    if (n == 0) {
        return ANEMO_OK;
    }
    const anemo_sampling how = sampling_of(s);
    const anemo_status status = anemo_sample(arms, n, &how, &run->samples, s->err);
    return status ? status : evaluate(s, run);
}

/* ---------------------------------------------------------------- records */

static void record_repro(const session *s, const case_run *run, anemo_record *record) {
    char text[1024], stop[48];
    int at = snprintf(text, sizeof text, "anemo bench kernel");
    for (int32_t i = 0; i < run->n_lines; i++) {
        if (run->lines[i].fate == ANEMO_BENCH_MEASURED && at < (int)sizeof text - 320) {
            at += snprintf(text + at, sizeof text - (size_t)at, " %s", run->lines[i].variant->name);
        }
    }
    anemo_stop_format(&s->options->stop, stop, sizeof stop);
    snprintf(text + at, sizeof text - (size_t)at,
             " --shape %s --m %lld --weights %s --caches %s --stop %s --seed %llu --threads %d",
             run->c->shape->name, (long long)run->c->m, s->setup.weights,
             anemo_caches_name(s->options->caches), stop, (unsigned long long)s->setup.seed,
             anemo_device_exec(s->device).n_threads);
    anemo_record_text(record, NULL, "repro", text);
}

static void record_case(const session *s, const case_run *run, const anemo_bench_line *line,
                        anemo_record *record) {
    const bench_case *c = run->c;
    char type[32];
    anemo_record_text(record, NULL, "suite", "bench kernel");
    anemo_record_text(record, "case", "name", c->name);
    anemo_record_text(record, "case", "op", anemo_op_name(c->ops->op));
    anemo_record_text(record, "case", "shape", c->shape->name);
    anemo_record_text(record, "case", "weight_type",
                      anemo_weight_type_name(&s->setup.type, type, sizeof type));
    anemo_record_text(record, "case", "cache", anemo_caches_name(s->options->caches));
    anemo_record_text(record, "case", "inputs", "activations normal, weight codes uniform");
    anemo_record_integer(record, "case", "seed", (int64_t)s->setup.seed);
    anemo_record_number(record, "case", "weight_bytes", c->work.weight_bytes);
    c->ops->record(c, record);
    anemo_record_device(record, s->device);
    anemo_record_text(record, "solution", "variant", line->variant->name);
    anemo_record_text(record, "solution", "layout", line->variant->layout);
    anemo_record_text(record, "solution", "act", line->variant->act);
    anemo_record_flag(record, "solution", "reference",
                      line->variant->traits & ANEMO_TRAIT_REFERENCE);
    if (isfinite(line->error)) {
        anemo_record_number(record, "solution", "error", line->error);
        anemo_record_number(record, "solution", "error_bound", 1);
    }
    if (line->packed_bytes > 0) {
        anemo_record_number(record, "solution", "packed_bytes", line->packed_bytes);
    }
}

static anemo_status record_line(session *s, const case_run *run, const anemo_bench_line *line,
                                int32_t arm) {
    anemo_record *record = anemo_record_create(ANEMO_RECORD_KERNEL);
    record_case(s, run, line, record);
    record_repro(s, run, record);
    if (line->fate == ANEMO_BENCH_INCORRECT) {
        anemo_record_text(record, NULL, "status", "incorrect");
        anemo_record_text(record, NULL, "why", line->why);
    } else {
        const bench_result *r = &line->result;
        const double bytes = bench_case_bytes(run->c);
        const anemo_sampling how = sampling_of(s);
        anemo_record_text(record, NULL, "status", "passed");
        bench_record_result(record, &run->samples, arm, &how, r);
        anemo_record_metric(record, "bandwidth", "byte/s", false, bytes / r->time_s.value,
                            bytes / r->time_s.hi, bytes / r->time_s.lo, r->time_s.n);
        anemo_record_metric(record, "arithmetic", "op/s", false, run->c->work.ops / r->time_s.value,
                            run->c->work.ops / r->time_s.hi, run->c->work.ops / r->time_s.lo,
                            r->time_s.n);
        anemo_record_metric(record, "ratio_to_best", "1", true, line->ratio.value, line->ratio.lo,
                            line->ratio.hi, line->ratio.n);
    }
    const anemo_status status = anemo_record_write(s->sink, record, s->err);
    anemo_record_free(record);
    return status;
}

static anemo_status record_lines(session *s, const case_run *run) {
    int32_t arm = 0;
    for (int32_t i = 0; i < run->n_lines; i++) {
        const anemo_bench_line *line = &run->lines[i];
        const bool measured = line->fate == ANEMO_BENCH_MEASURED;
        if (measured || line->fate == ANEMO_BENCH_INCORRECT) {
            const anemo_status status = record_line(s, run, line, arm);
            if (status) {
                return status;
            }
        }
        arm += measured;
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- the run */

static bool interrupted(const session *s) {
    return s->options->interrupted && s->options->interrupted();
}

static anemo_status run_case(session *s, const bench_shape *shape, int64_t m) {
    case_run run = {0};
    anemo_status status = find_op(shape->op)->create(shape, m, &s->setup, &run.c, s->err);
    if (status) {
        return status;
    }
    choose_lines(s, &run);
    status = prepare_arms(s, &run);
    status = status ? status : time_arms(s, &run);
    status = status ? status : record_lines(s, &run);
    s->done++;
    if (!status) {
        const anemo_bench_table table = {.c = run.c,
                                         .lines = run.lines,
                                         .n_lines = run.n_lines,
                                         .done = s->done,
                                         .total = s->total};
        s->observer(s->ctx, &table);
    }
    anemo_samples_free(&run.samples);
    for (int32_t i = 0; i < run.n_lines; i++) {
        if (run.arms[i]) {
            run.c->ops->arm_destroy(run.arms[i]);
        }
    }
    run.c->ops->destroy(run.c);
    return status ? status : interrupted(s) ? ANEMO_E_CANCELLED : ANEMO_OK;
}

/* Calls run_case for each wanted shape and number of rows; with `count_only`, counts them. */
static anemo_status each_case(session *s, bool count_only) {
    for (int32_t i = 0; i < anemo_shape_count(); i++) {
        const bench_shape *shape = anemo_shape_at(i);
        int64_t rows[ANEMO_SHAPE_ROWS];
        const int32_t n = anemo_shape_rows(shape->rows, rows, ANEMO_SHAPE_ROWS);
        const int64_t *m = s->options->n_m ? s->options->m : rows;
        for (int32_t j = 0; shape_wanted(s, shape) && j < (s->options->n_m ? s->options->n_m : n);
             j++) {
            const anemo_status status = count_only ? ANEMO_OK : run_case(s, shape, m[j]);
            s->total += count_only;
            if (status) {
                return status;
            }
        }
    }
    return ANEMO_OK;
}

static anemo_status all_cases(session *s) {
    anemo_status status = check_names(s);
    status = status ? status : each_case(s, true);
    if (!status && s->total == 0) {
        return anemo_fail(s->err, ANEMO_E_INPUT,
                          "no bench shape '%s' for this op; `anemo bench` "
                          "lists them",
                          s->options->shape ? s->options->shape : "");
    }
    status = status ? status : anemo_probe_create(s->device, &s->clock, 0, &s->probe, s->err);
    if (status) {
        return status;
    }
    s->ceilings = bench_ceilings_of(s->probe);
    status = each_case(s, false);
    bench_ceilings_free(&s->ceilings);
    anemo_probe_free(s->probe);
    if (!status && s->n_measured + s->n_incorrect == 0) { /* a forced name is never dropped */
        return anemo_fail(s->err, ANEMO_E_INPUT, "nothing to measure: %s",
                          s->last_refusal[0] ? s->last_refusal : "no variant of this op runs here");
    }
    return status;
}

anemo_status anemo_bench_kernel(anemo_device *device, const anemo_bench_kernel_options *options,
                                anemo_record_sink *sink, anemo_bench_observer observer, void *ctx,
                                int32_t *n_incorrect, anemo_error *err) {
    session s = {.device = device,
                 .options = options,
                 .sink = sink,
                 .observer = observer,
                 .ctx = ctx,
                 .clock = anemo_clock_raw(),
                 .err = err};
    *n_incorrect = 0;
    s.setup = (bench_setup){.device = device, .weights = options->weights, .seed = options->seed};
    if (!bench_weight_type(options->weights, &s.setup.type)) {
        return anemo_fail(err, ANEMO_E_INPUT, "weights '%s': expected " BENCH_WEIGHT_TYPES,
                          options->weights);
    }
    if (options->caches == ANEMO_CACHES_COLD_WEIGHTS) {
        s.setup.cold_bytes = COLD_CACHES * anemo_last_cache_bytes();
    }
    const anemo_status status = all_cases(&s);
    *n_incorrect = s.n_incorrect;
    return status;
}
