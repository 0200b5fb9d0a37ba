/* A case at a time: make its inputs, set up every variant that is to run, check each on this very
 * problem, drop what is wrong or hopelessly slow, then sample the rest in rounds with the probes in
 * between. All variants of a case are arms of one run: what is compared was measured together. */
#include "harness/measure/bench_kernel.h"

#include "harness/gate/code_hash.h"
#include "harness/measure/machine.h"
#include "harness/measure/placement.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LINES = 64 };
#define TOO_SLOW 8.0 /* an unnamed variant this many times slower than the fastest is not timed */

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
    anemo_custom_shape custom; /* shape.name NULL: named shapes */
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

const bench_op *bench_op_find(anemo_op op) {
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

static bool has_short_shape(anemo_op op) {
    for (int32_t i = 0; i < anemo_shape_count(); i++) {
        if (anemo_shape_at(i)->op == op && anemo_shape_at(i)->is_short) {
            return true;
        }
    }
    return false;
}

static bool shape_wanted(const session *s, const bench_shape *shape) {
    if (!op_wanted(s, shape->op)) {
        return false;
    }
    const char *name = s->options->shape;
    if (s->options->routing && shape->op == ANEMO_OP_MOE_EXPERTS &&
        shape->number[4] != BENCH_ROUTING_UNIFORM && !(name && strcmp(name, shape->name) == 0)) {
        return false; /* with a routing of its own it would be the uniform shape once more */
    }
    if (name) {
        return anemo_shape_matches(shape, name);
    }
    return shape->is_short || (s->options->n_names > 0 && !has_short_shape(shape->op));
}

static bool is_named(const session *s, const anemo_variant *v) {
    for (int32_t i = 0; i < s->options->n_names; i++) {
        if (strcmp(s->options->names[i], v->name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_baseline(const session *s, const anemo_variant *v) {
    return s->options->baseline && strcmp(s->options->baseline, v->name) == 0;
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
        anemo_bench_line line = {
            .variant = v, .ratio = {.value = NAN}, .speedup = {.value = NAN}, .error = NAN};
        line.yardstick = strstr(v->name, "blas") != NULL;
        if (v->op != c->ops->op || (only_named && !is_named(s, v) && !is_baseline(s, v)) ||
            (!only_named && v->traits & ANEMO_TRAIT_REFERENCE && !is_baseline(s, v)) ||
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
        if (!only_named && !s->options->all && better_than_c &&
            line->fate == ANEMO_BENCH_MEASURED && is_plain_c(line->variant) &&
            !is_baseline(s, line->variant)) {
            line->fate = ANEMO_BENCH_LEFT_OUT;
            snprintf(line->why, sizeof line->why, "plain C beside faster ones: name it to time it");
        }
    }
}

/* ---------------------------------------------------------------- correct before fast */

/* A kernel that is content with AVX2 is held against what AVX2 can do with codes of its width. */
anemo_ceiling bench_arithmetic_of(const anemo_variant *v) {
    if (v->act && strncmp(v->act, "a8", 2) == 0) {
        if (v->needs.cpu_features & ANEMO_CPU_AMX_INT8) {
            return ANEMO_CEILING_INT8_AMX;
        }
        if ((v->needs.cpu_features & ~ANEMO_CPU_AVX2) || !v->needs.cpu_features) {
            return ANEMO_CEILING_INT8;
        }
        return v->layout && strncmp(v->layout, "w4", 2) == 0 ? ANEMO_CEILING_INT8_AVX2_U4
                                                             : ANEMO_CEILING_INT8_AVX2_U8;
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
anemo_status bench_best_call(const anemo_clock *clock, bench_arm *arm, double *best_ns,
                             anemo_error *err) {
    *best_ns = INFINITY;
    for (int i = 0; i < 3; i++) {
        const uint64_t start = anemo_clock_now(clock);
        const anemo_status status = bench_arm_run(arm, 1 + i, err);
        if (status) {
            return status;
        }
        *best_ns = fmin(*best_ns, (double)(anemo_clock_now(clock) - start));
    }
    return ANEMO_OK;
}

/* Sets up and checks every line; then leaves out unnamed ones that are far too slow. */
static anemo_status prepare_arms(session *s, case_run *run) {
    double call_ns[MOST_LINES], fastest_ns = INFINITY;
    const bool keep = s->options->all || names_variants(s, run->c->ops->op);
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
        status = bench_best_call(&s->clock, run->arms[i], &call_ns[i], s->err);
        if (status) {
            return status;
        }
        fastest_ns = fmin(fastest_ns, call_ns[i]);
        line->packed_bytes = run->arms[i]->packed_bytes;
    }
    for (int32_t i = 0; i < run->n_lines; i++) {
        anemo_bench_line *line = &run->lines[i];
        if (line->fate == ANEMO_BENCH_MEASURED && !keep && !line->yardstick &&
            !is_baseline(s, line->variant) && call_ns[i] > TOO_SLOW * fastest_ns) {
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

size_t bench_cool_bytes(void) {
    return 2 * anemo_last_cache_bytes();
}

size_t bench_cold_bytes(void) {
    enum { CACHES = 16, MEMORY_SHARE = 32 };
    const size_t share = anemo_available_memory_bytes() / MEMORY_SHARE;
    const size_t most = CACHES * anemo_last_cache_bytes(), least = bench_cool_bytes();
    return share && share < most ? (share > least ? share : least) : most;
}

bench_roof bench_roof_of(const bench_case *c, const anemo_variant *v, anemo_caches caches) {
    const anemo_work *w = &c->work;
    bench_roof roof = {.ops = w->ops, .arithmetic = bench_arithmetic_of(v)};
    if (c->resident && caches != ANEMO_CACHES_COLD) {
        return (bench_roof){.arithmetic = roof.arithmetic}; /* none: no ceiling binds it */
    }
    if (caches != ANEMO_CACHES_WARM) {
        roof.bytes = w->weight_bytes + w->kv_bytes;
    }
    if (caches == ANEMO_CACHES_COLD) {
        roof.bytes += w->act_bytes;
    }
    return roof;
}

static anemo_status evaluate_line(session *s, const case_run *run, anemo_bench_line *line,
                                  int32_t arm) {
    const anemo_work *w = &run->c->work;
    const bench_roof roof = bench_roof_of(run->c, line->variant, s->options->caches);
    const anemo_status status =
        bench_evaluate(&run->samples, arm, &s->ceilings, &roof, &line->result, s->err);
    line->bytes_per_s = bench_case_bytes(run->c) / line->result.time_s.value;
    line->ops_per_s = w->ops / line->result.time_s.value;
    return status;
}

static anemo_status evaluate(session *s, case_run *run) {
    int32_t arm = 0, best_arm = 0, baseline_arm = -1;
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
        baseline_arm = is_baseline(s, line->variant) ? arm : baseline_arm;
        arm++;
    }
    arm = 0;
    for (int32_t i = 0; i < run->n_lines; i++) {
        anemo_bench_line *line = &run->lines[i];
        if (line->fate != ANEMO_BENCH_MEASURED) {
            continue;
        }
        double *const *ns = run->samples.ns;
        line->best = line == best;
        line->ratio = anemo_stats_paired_ratio(ns[best_arm], ns[arm], run->samples.n, 0.95);
        if (baseline_arm >= 0) {
            line->speedup =
                anemo_stats_paired_ratio(ns[arm], ns[baseline_arm], run->samples.n, 0.95);
        }
        arm++;
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
            bench_ceilings_want(&s->ceilings, bench_arithmetic_of(line->variant));
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
    if (s->options->baseline) {
        at += snprintf(text + at, sizeof text - (size_t)at, " --baseline %s", s->options->baseline);
    }
    if (s->options->routing && at < (int)sizeof text) {
        at += snprintf(text + at, sizeof text - (size_t)at, " --routing %s", s->options->routing);
    }
    at = at < (int)sizeof text ? at : (int)sizeof text - 1;
    snprintf(text + at, sizeof text - (size_t)at,
             " --shape %s --m %lld --weights %s --caches %s --stop %s --seed %llu --threads %d%s",
             run->c->shape->name, (long long)run->c->m, s->setup.weights,
             anemo_caches_name(s->options->caches), stop, (unsigned long long)s->setup.seed,
             anemo_device_exec(s->device).n_threads, anemo_machine_option());
    anemo_record_text(record, NULL, "repro", text);
}

void bench_record_arm(anemo_record *record, const bench_case *c, const anemo_variant *variant,
                      anemo_caches caches, double error, double packed_bytes) {
    char type[32];
    anemo_record_text(record, "case", "name", c->name);
    anemo_record_text(record, "case", "op", anemo_op_name(c->ops->op));
    anemo_record_text(record, "case", "shape", c->shape->name);
    anemo_record_text(record, "case", "weight_type",
                      anemo_weight_type_name(&c->setup.type, type, sizeof type));
    anemo_record_text(record, "case", "cache", anemo_caches_name(caches));
    anemo_record_text(record, "case", "inputs", "activations normal, weight codes uniform");
    anemo_record_integer(record, "case", "seed", (int64_t)c->setup.seed);
    anemo_record_number(record, "case", "weight_bytes", c->work.weight_bytes);
    c->ops->record(c, record);
    anemo_record_device(record, c->setup.device);
    anemo_record_text(record, "solution", "variant", variant->name);
    anemo_record_text(record, "solution", "layout", variant->layout);
    anemo_record_text(record, "solution", "act", variant->act);
    const anemo_code_entry *code = anemo_code_entry_of(variant->name);
    anemo_record_text(record, "solution", "code_hash", code ? code->hash : NULL);
    anemo_record_flag(record, "solution", "reference", variant->traits & ANEMO_TRAIT_REFERENCE);
    if (isfinite(error)) {
        anemo_record_number(record, "solution", "error", error);
        anemo_record_number(record, "solution", "error_bound", 1);
    }
    if (packed_bytes > 0) {
        anemo_record_number(record, "solution", "packed_bytes", packed_bytes);
    }
}

/* Canonical bytes and operations per second, from the time. */
void bench_record_rates(anemo_record *record, const bench_case *c, const anemo_estimate *t) {
    const double bytes = bench_case_bytes(c), ops = c->work.ops;
    anemo_record_metric(record, "bandwidth", "byte/s", false, bytes / t->value, bytes / t->hi,
                        bytes / t->lo, t->n);
    anemo_record_metric(record, "arithmetic", "op/s", false, ops / t->value, ops / t->hi,
                        ops / t->lo, t->n);
}

static anemo_status record_line(session *s, const case_run *run, const anemo_bench_line *line,
                                int32_t arm) {
    anemo_record *record = anemo_record_create(ANEMO_RECORD_KERNEL);
    anemo_record_text(record, NULL, "suite", "bench kernel");
    bench_record_arm(record, run->c, line->variant, s->options->caches, line->error,
                     line->packed_bytes);
    record_repro(s, run, record);
    if (line->fate == ANEMO_BENCH_INCORRECT) {
        anemo_record_text(record, NULL, "status", "incorrect");
        anemo_record_text(record, NULL, "why", line->why);
    } else {
        const bench_result *r = &line->result;
        const anemo_sampling how = sampling_of(s);
        anemo_record_text(record, NULL, "status", "passed");
        bench_record_result(record, &run->samples, arm, &how, r);
        bench_record_rates(record, run->c, &r->time_s);
        anemo_record_metric(record, "ratio_to_best", "1", true, line->ratio.value, line->ratio.lo,
                            line->ratio.hi, line->ratio.n);
        if (isfinite(line->speedup.value)) {
            anemo_record_text(record, "sampling", "baseline", s->options->baseline);
            anemo_record_metric(record, "speedup", "1", false, line->speedup.value,
                                line->speedup.lo, line->speedup.hi, line->speedup.n);
        }
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
    anemo_status status = bench_op_find(shape->op)->create(shape, m, &s->setup, &run.c, s->err);
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
    const bool custom = s->custom.shape.name != NULL;
    for (int32_t i = 0; i < (custom ? 1 : anemo_shape_count()); i++) {
        const bench_shape *shape = custom ? &s->custom.shape : anemo_shape_at(i);
        int64_t rows[ANEMO_SHAPE_ROWS];
        const int32_t n = anemo_shape_rows(shape->rows, rows, ANEMO_SHAPE_ROWS);
        const int64_t *m = s->options->n_m ? s->options->m : rows;
        const int32_t n_m = s->options->n_m ? s->options->n_m : n;
        for (int32_t j = 0; (custom || shape_wanted(s, shape)) && j < n_m; j++) {
            const anemo_status status = count_only ? ANEMO_OK : run_case(s, shape, m[j]);
            s->total += count_only;
            if (status) {
                return status;
            }
        }
    }
    return ANEMO_OK;
}

/* "n=..,k=.." is a shape of the one op that the names are of. */
static anemo_status read_custom(session *s) {
    const char *text = s->options->shape;
    if (!text || !strchr(text, '=')) {
        return ANEMO_OK;
    }
    const bench_op *op = NULL;
    for (size_t i = 0; i < sizeof bench_ops / sizeof *bench_ops; i++) {
        if (op_wanted(s, bench_ops[i]->op)) {
            if (op) {
                return anemo_fail(s->err, ANEMO_E_INPUT,
                                  "--shape %s: numbers need one op; name it or its variants", text);
            }
            op = bench_ops[i];
        }
    }
    return anemo_shape_custom(op->op, text, &s->custom, s->err);
}

static anemo_status check_baseline(const session *s) {
    const char *name = s->options->baseline;
    char why[160];
    const anemo_variant *v = name ? anemo_variant_find(name) : NULL;
    if (name && (!v || !op_wanted(s, v->op))) {
        return anemo_fail(s->err, ANEMO_E_INPUT, "--baseline %s: no variant of what is measured",
                          name);
    }
    if (v && !anemo_variant_runs_here(v, anemo_device_capability(s->device), why, sizeof why)) {
        return anemo_fail(s->err, ANEMO_E_INPUT, "--baseline %s cannot run here: %s", name, why);
    }
    return ANEMO_OK;
}

static anemo_status read_routing(session *s, bench_routing *routing) {
    const char *text = s->options->routing;
    if (text && !op_wanted(s, ANEMO_OP_MOE_EXPERTS)) {
        return anemo_fail(s->err, ANEMO_E_INPUT,
                          "--routing %s: concerns moe_experts, which is not measured", text);
    }
    s->setup.routing = text ? routing : NULL;
    return text ? bench_routing_create(text, routing, s->err) : ANEMO_OK;
}

static anemo_status all_cases(session *s) {
    anemo_status status = check_names(s);
    status = status ? status : check_baseline(s);
    status = status ? status : read_custom(s);
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
        s.setup.cold_bytes = bench_cold_bytes();
    }
    bench_routing routing = {0};
    anemo_status status = read_routing(&s, &routing);
    status = status ? status : all_cases(&s);
    bench_routing_free(&routing);
    *n_incorrect = s.n_incorrect;
    return status;
}
