/* A case at a time: make its inputs, set up every variant that is to run, check each on this very
 * problem, drop what is wrong or hopelessly slow, then sample the rest in rounds with the probes in
 * between. All variants of a case are arms of one run: what is compared was measured together. */
#include "harness/measure/bench_kernel.h"

#include "harness/gate/code_hash.h"
#include "harness/measure/machine.h"

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
    bench_gpu gpu;
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

/* Does it run on this device? */
static bool runs_here(const session *s, const anemo_variant *v, char *why, size_t why_bytes) {
    if (v->backend != anemo_device_backend(s->device)) {
        snprintf(why, why_bytes, "it is for %s", v->backend == ANEMO_CPU ? "CPUs" : "CUDA");
        return false;
    }
    return anemo_variant_runs_here(v, anemo_device_capability(s->device), why, why_bytes);
}

/* Every name must be an op or a variant, and a variant must run here. */
static anemo_status check_names(const session *s) {
    for (int32_t i = 0; i < s->options->n_names; i++) {
        const char *name = s->options->names[i];
        char why[160];
        anemo_op op;
        const anemo_variant *v = anemo_variant_find(name);
        if (!v && !anemo_op_from_name(name, &op)) {
            return anemo_fail(s->err, ANEMO_E_INPUT,
                              "'%s' is neither an op nor a variant; `anemo list` shows both", name);
        }
        if (v && !runs_here(s, v, why, sizeof why)) {
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
        line.arm = -1;
        line.yardstick = strstr(v->name, "blas") != NULL;
        if (v->op != c->ops->op || (only_named && !is_named(s, v) && !is_baseline(s, v)) ||
            (!only_named && v->traits & ANEMO_TRAIT_REFERENCE && !is_baseline(s, v)) ||
            !runs_here(s, v, line.why, sizeof line.why)) {
            continue;
        }
        line.why[0] = '\0';
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

/* A kernel that is content with AVX2 is held against what AVX2 can do with codes of its width, one
 * that takes codes of any width with the narrowest; on a GPU every kernel may use the matrix units,
 * with float activations in parts of bf16. */
anemo_ceiling bench_arithmetic_of(const anemo_variant *v) {
    if (v->backend == ANEMO_CUDA) {
        return v->act && strncmp(v->act, "a8", 2) == 0 ? ANEMO_CEILING_INT8 : ANEMO_CEILING_BF16;
    }
    if (v->act && strncmp(v->act, "a8", 2) == 0) {
        if (v->needs.cpu_features & ANEMO_CPU_AMX_INT8) {
            return ANEMO_CEILING_INT8_AMX;
        }
        if ((v->needs.cpu_features & ~ANEMO_CPU_AVX2) || !v->needs.cpu_features) {
            return ANEMO_CEILING_INT8;
        }
        const bool as_words = !v->layout || strncmp(v->layout, "w8", 2) == 0; /* codes_avx2.h */
        return as_words ? ANEMO_CEILING_INT8_AVX2_U8 : ANEMO_CEILING_INT8_AVX2_U4;
    }
    if (v->needs.cpu_features & (ANEMO_CPU_AMX_BF16 | ANEMO_CPU_AMX_FP16)) {
        return ANEMO_CEILING_BF16_AMX;
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

/* A sample of n calls by the timer, per call. */
static anemo_status time_queue(const anemo_timer *timer, bench_arm *arm, int64_t n, double *ns,
                               anemo_error *err) {
    const anemo_arm sampled = bench_sampled_arm(arm);
    anemo_status status = sampled.ready(sampled.ctx, 0, n, err);
    status = status ? status : timer->begin(timer->ctx, err);
    status = status ? status : sampled.queue(sampled.ctx, 0, n, err);
    status = status ? status : timer->end(timer->ctx, ns, err);
    *ns /= (double)n;
    return status;
}

/* The best of three calls: one alone may have met another process. On a GPU of three samples that
 * are long enough to be told apart. */
anemo_status bench_best_call(const anemo_clock *clock, const anemo_timer *timer, bench_arm *arm,
                             double *best_ns, anemo_error *err) {
    enum { SHORT_CALLS = 16 };
    int64_t n = 1;
    anemo_status status = ANEMO_OK;
    *best_ns = INFINITY;
    for (int i = 0; !status && i < 3; i++) {
        double ns = 0;
        if (timer) {
            status = time_queue(timer, arm, n, &ns, err);
            n = i == 0 && ns * SHORT_CALLS < timer->least_ns ? SHORT_CALLS : n;
        } else {
            const uint64_t start = anemo_clock_now(clock);
            status = bench_arm_run(arm, 1 + i, err);
            ns = (double)(anemo_clock_now(clock) - start);
        }
        *best_ns = fmin(*best_ns, ns);
    }
    arm->call_ns = *best_ns;
    return status;
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
        status =
            bench_best_call(&s->clock, bench_gpu_timer(&s->gpu), run->arms[i], &call_ns[i], s->err);
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

size_t bench_cool_bytes(const anemo_device *device) {
    return 2 * anemo_device_cache_bytes(device);
}

size_t bench_cold_bytes(const anemo_device *device) {
    enum { CACHES = 16, MEMORY_SHARE = 32 };
    const bool gpu = anemo_device_backend(device) == ANEMO_CUDA;
    const size_t memory =
        gpu ? anemo_device_gpu(device).memory_bytes : anemo_available_memory_bytes();
    const size_t share = memory / MEMORY_SHARE;
    const size_t most = CACHES * anemo_device_cache_bytes(device), least = bench_cool_bytes(device);
    return share && share < most ? (share > least ? share : least) : most;
}

bench_roof bench_roof_of(const bench_case *c, const anemo_variant *v, anemo_caches caches) {
    const anemo_work *w = &c->work;
    bench_roof roof = {.ops = w->ops, .arithmetic = bench_arithmetic_of(v)};
    if (c->resident && caches != ANEMO_CACHES_COLD) {
        return (bench_roof){.arithmetic = roof.arithmetic}; /* none: no ceiling binds it */
    }
    if (caches != ANEMO_CACHES_WARM) {
        const double least = c->least_weight_bytes > 0 ? c->least_weight_bytes : w->weight_bytes;
        roof.bytes = w->weight_bytes + w->kv_bytes;
        roof.certain_bytes = least + w->kv_bytes;
    }
    if (caches == ANEMO_CACHES_COLD) {
        roof.bytes += w->act_bytes;
    }
    return roof;
}

static anemo_status evaluate_line(session *s, const case_run *run, anemo_bench_line *line) {
    const anemo_work *w = &run->c->work;
    const bench_roof roof = bench_roof_of(run->c, line->variant, s->options->caches);
    const anemo_status status =
        bench_evaluate(&run->samples, line->arm, &s->ceilings, &roof, &line->result, s->err);
    line->bytes_per_s = bench_case_bytes(run->c) / line->result.time_s.value;
    line->ops_per_s = w->ops / line->result.time_s.value;
    if (!status && line->result.impossible) {
        line->fate = ANEMO_BENCH_IMPOSSIBLE;
        memcpy(line->why, line->result.defect, sizeof line->result.defect);
    }
    return status;
}

static anemo_status evaluate(session *s, case_run *run) {
    const anemo_bench_line *best = NULL, *baseline = NULL;
    for (int32_t i = 0; i < run->n_lines; i++) {
        anemo_bench_line *line = &run->lines[i];
        const anemo_status status = line->arm < 0 ? ANEMO_OK : evaluate_line(s, run, line);
        if (status) {
            return status;
        }
        if (line->fate != ANEMO_BENCH_MEASURED) {
            continue;
        }
        if (!best || line->result.time_s.value < best->result.time_s.value) {
            best = line;
        }
        baseline = is_baseline(s, line->variant) ? line : baseline;
    }
    for (int32_t i = 0; i < run->n_lines; i++) {
        anemo_bench_line *line = &run->lines[i];
        if (line->fate != ANEMO_BENCH_MEASURED) {
            continue;
        }
        double *const *ns = run->samples.ns;
        const int64_t n = run->samples.n;
        line->best = line == best;
        line->ratio = anemo_stats_paired_ratio(ns[best->arm], ns[line->arm], n, 0.95);
        if (baseline) {
            line->speedup = anemo_stats_paired_ratio(ns[line->arm], ns[baseline->arm], n, 0.95);
        }
    }
    return ANEMO_OK;
}

static anemo_sampling sampling_of(const session *s) {
    return (anemo_sampling){.clock = s->clock,
                            .timer = bench_gpu_timer(&s->gpu),
                            .watch = s->gpu.watch,
                            .stop = s->options->stop,
                            .caches = s->options->caches,
                            .evict = bench_ceilings_evict,
                            .between = bench_ceilings_measure,
                            .hooks_ctx = (void *)&s->ceilings,
                            .interrupted = s->options->interrupted};
}

static anemo_status time_arms(session *s, case_run *run) {
    anemo_arm arms[MOST_LINES];
    int32_t n = 0;
    bench_ceilings_reset(&s->ceilings);
    for (int32_t i = 0; i < run->n_lines; i++) {
        anemo_bench_line *line = &run->lines[i];
        if (line->fate == ANEMO_BENCH_MEASURED) {
            bench_ceilings_want(&s->ceilings, bench_arithmetic_of(line->variant));
            s->n_measured++;
            line->arm = n;
            arms[n++] = bench_sampled_arm(run->arms[i]);
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
    char text[1024], stop[48], device[96];
    int at = snprintf(text, sizeof text, "anemo bench kernel");
    bench_device_option(s->device, device, sizeof device);
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
             " --shape %s --m %lld --weights %s --caches %s --stop %s --seed %llu%s",
             run->c->shape->name, (long long)run->c->m, s->setup.weights,
             anemo_caches_name(s->options->caches), stop, (unsigned long long)s->setup.seed,
             device);
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

static void record_measured(const session *s, const case_run *run, const anemo_bench_line *line,
                            anemo_record *record) {
    const bench_result *r = &line->result;
    const anemo_sampling how = sampling_of(s);
    anemo_record_text(record, NULL, "status", "passed");
    bench_record_result(record, &run->samples, line->arm, &how, r);
    bench_record_rates(record, run->c, &r->time_s);
    anemo_record_metric(record, "ratio_to_best", "1", true, line->ratio.value, line->ratio.lo,
                        line->ratio.hi, line->ratio.n);
    if (isfinite(line->speedup.value)) {
        anemo_record_text(record, "sampling", "baseline", s->options->baseline);
        anemo_record_metric(record, "speedup", "1", false, line->speedup.value, line->speedup.lo,
                            line->speedup.hi, line->speedup.n);
    }
}

static anemo_status record_line(session *s, const case_run *run, int32_t i) {
    const anemo_bench_line *line = &run->lines[i];
    anemo_record *record = anemo_record_create(ANEMO_RECORD_KERNEL);
    anemo_record_text(record, NULL, "suite", "bench kernel");
    bench_record_arm(record, run->c, line->variant, s->options->caches, line->error,
                     line->packed_bytes);
    bench_gpu_record(record, &s->gpu);
    anemo_record_text(record, "sampling", "launch", bench_launch_name(run->arms[i]));
    record_repro(s, run, record);
    if (line->fate == ANEMO_BENCH_MEASURED) {
        record_measured(s, run, line, record);
    } else {
        anemo_record_text(record, NULL, "status",
                          line->fate == ANEMO_BENCH_INCORRECT ? "incorrect" : "failed");
        anemo_record_text(record, NULL, "why", line->why);
    }
    const anemo_status status = anemo_record_write(s->sink, record, s->err);
    anemo_record_free(record);
    return status;
}

static anemo_status record_lines(session *s, const case_run *run) {
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0; !status && i < run->n_lines; i++) {
        const anemo_bench_fate fate = run->lines[i].fate;
        if (fate != ANEMO_BENCH_REFUSED && fate != ANEMO_BENCH_LEFT_OUT) {
            status = record_line(s, run, i);
        }
    }
    return status;
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
                                         .gpu = &s->gpu,
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
    if (v && !runs_here(s, v, why, sizeof why)) {
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
    bench_gpu_limit(&s->gpu, &s->ceilings);
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
        s.setup.cold_bytes = bench_cold_bytes(device);
    }
    bench_routing routing = {0};
    anemo_status status = bench_gpu_open(device, options->nvml, &s.gpu, err);
    s.setup.host = s.gpu.host;
    status = status ? status : read_routing(&s, &routing);
    status = status ? status : all_cases(&s);
    bench_routing_free(&routing);
    bench_gpu_close(&s.gpu);
    *n_incorrect = s.n_incorrect;
    return status;
}
