/* A group of targets at a time: its cases are made, for each arm every variant that fits is checked
 * on its case and the fastest kept, all arms take turns in one run with the probes in between, and
 * each target is judged from that run alone. Ratios between arms are paired round by round, so that
 * what the machine does to one it does to the other. */
#include "harness/measure/bench_targets.h"
#include "harness/measure/machine.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RIVALS = 32 };

static const char *const verdicts[] = {"met", "missed", "undecided", "not measured"};

const char *anemo_target_verdict_name(anemo_target_verdict verdict) {
    return verdicts[verdict];
}

anemo_target_verdict anemo_target_judge(const anemo_target *target, const anemo_estimate *value) {
    if (value->needs || !isfinite(value->value)) {
        return ANEMO_TARGET_UNDECIDED;
    }
    const double worse = target->at_most ? value->hi : value->lo;
    const double better = target->at_most ? value->lo : value->hi;
    if (target->at_most ? worse <= target->bound : worse >= target->bound) {
        return ANEMO_TARGET_MET;
    }
    const bool reaches = target->at_most ? better <= target->bound : better >= target->bound;
    return reaches ? ANEMO_TARGET_UNDECIDED : ANEMO_TARGET_MISSED;
}

/* ---------------------------------------------------------------- a group under way */

typedef struct group_arm {
    bench_case *c; /* shared with other arms of the group */
    bench_arm *arm;
    double error, fastest_ns;
    int32_t at; /* place in the run; -1: nothing fits */
    bench_result result;
    char why[256];   /* no variant fits */
    char wrong[256]; /* of the last variant whose check failed */
} group_arm;

typedef struct session {
    anemo_device *device;
    const anemo_target_file *file;
    const anemo_targets_options *options;
    anemo_record_sink *sink;
    anemo_target_observer observer;
    void *ctx;
    bench_gpu gpu;
    anemo_clock clock;
    anemo_probe *probe;
    bench_ceilings ceilings;
    int32_t done, total, n_incorrect;
    anemo_error *err;
} session;

typedef struct group_run {
    const anemo_target_group *group;
    group_arm arms[ANEMO_TARGET_ARMS];
    bench_case *cases[ANEMO_TARGET_ARMS];
    anemo_custom_shape custom[ANEMO_TARGET_ARMS];
    bench_routing routing[ANEMO_TARGET_ARMS];
    int32_t n_cases;
    anemo_sampling how;
    anemo_samples samples;
} group_run;

static const bench_shape *find_shape(const anemo_target_arm *arm, anemo_custom_shape *custom,
                                     anemo_error *err) {
    for (int32_t i = 0; i < anemo_shape_count(); i++) {
        const bench_shape *shape = anemo_shape_at(i);
        if (shape->op == arm->op && strcmp(shape->name, arm->shape) == 0) {
            return shape;
        }
    }
    return anemo_shape_custom(arm->op, arm->shape, custom, err) ? NULL : &custom->shape;
}

/* The case of arm i: that of an arm before it, or a new one. */
static anemo_status find_case(session *s, group_run *run, int32_t i) {
    const anemo_target_arm *arms = run->group->arms;
    for (int32_t j = 0; j < i; j++) {
        if (arms[j].op == arms[i].op && arms[j].m == arms[i].m &&
            strcmp(arms[j].shape, arms[i].shape) == 0 &&
            strcmp(arms[j].routing, arms[i].routing) == 0 &&
            strcmp(arms[j].weights, arms[i].weights) == 0) {
            run->arms[i].c = run->arms[j].c;
            return ANEMO_OK;
        }
    }
    bench_setup setup = {.device = s->device,
                         .host = s->gpu.host,
                         .weights = arms[i].weights,
                         .seed = s->options->seed,
                         .cold_bytes = bench_cold_bytes(s->device)};
    (void)bench_weight_type(arms[i].weights, &setup.type); /* the file was checked */
    const bench_shape *shape = find_shape(&arms[i], &run->custom[i], s->err);
    anemo_status status = shape ? ANEMO_OK : ANEMO_E_INPUT;
    if (!status && arms[i].routing[0]) {
        status = bench_routing_create(arms[i].routing, &run->routing[i], s->err);
        setup.routing = &run->routing[i];
    }
    if (!status) {
        status = bench_op_find(arms[i].op)
                     ->create(shape, arms[i].m, &setup, &run->cases[run->n_cases], s->err);
    }
    if (!status) {
        run->arms[i].c = run->cases[run->n_cases++];
    }
    return status;
}

static bool is_plain_c(const anemo_variant *v) {
    const size_t bytes = strlen(v->name);
    return bytes > 2 && strcmp(v->name + bytes - 2, "_c") == 0;
}

static bool fits(const session *s, const group_arm *arm, const anemo_target_arm *wanted,
                 const anemo_variant *v, char *why, size_t why_bytes) {
    return v->op == wanted->op && v->backend == anemo_device_backend(s->device) &&
           !(v->traits & ANEMO_TRAIT_REFERENCE) && fnmatch(wanted->variant, v->name, 0) == 0 &&
           fnmatch(wanted->act, v->act ? v->act : "f32", 0) == 0 &&
           anemo_variant_supports(v, anemo_device_capability(s->device), arm->c->problem, why,
                                  why_bytes);
}

/* Sets the variant up and checks it; keeps it when it is right and, if it has rivals, faster than
 * the one that is there. */
static anemo_status try_variant(session *s, group_arm *into, const anemo_target_arm *wanted,
                                const anemo_variant *v, bool rivals) {
    bench_arm *arm;
    bench_verdict verdict;
    double best_ns = 0;
    const bench_op *ops = into->c->ops;
    anemo_status status = ops->arm_create(into->c, v, &arm, s->err);
    if (status) {
        return status;
    }
    status = ops->check(arm, &verdict, s->err);
    const bool right = !status && verdict.error <= 1;
    if (right && wanted->quantise) {
        status = ops->quantise(arm, s->err);
    }
    if (right && !status && rivals) {
        status = bench_best_call(&s->clock, bench_gpu_timer(&s->gpu), arm, &best_ns, s->err);
    }
    if (!status && !right) {
        s->n_incorrect++;
        snprintf(into->wrong, sizeof into->wrong, "%s: wrong: error %.3g times its bound at %s",
                 v->name, verdict.error, verdict.detail);
    }
    if (status || !right || !(best_ns < into->fastest_ns)) {
        ops->arm_destroy(arm);
        return status;
    }
    if (into->arm) {
        ops->arm_destroy(into->arm);
    }
    into->arm = arm;
    into->error = verdict.error;
    into->fastest_ns = best_ns;
    return ANEMO_OK;
}

/* Plain C counts only where nothing else fits: it may take minutes for what others do at once. */
static anemo_status choose_variant(session *s, group_arm *into, const anemo_target_arm *wanted) {
    into->fastest_ns = INFINITY;
    for (int plain = 0; plain < 2; plain++) {
        const anemo_variant *fitting[MOST_RIVALS];
        int n = 0;
        for (int32_t i = 0; i < anemo_variant_count() && n < MOST_RIVALS; i++) {
            const anemo_variant *v = anemo_variant_at(i);
            char why[160] = "";
            if (is_plain_c(v) == plain && fits(s, into, wanted, v, why, sizeof why)) {
                fitting[n++] = v;
            } else if (why[0] && !into->why[0]) {
                snprintf(into->why, sizeof into->why, "%s: %s", v->name, why);
            }
        }
        for (int i = 0; i < n; i++) {
            const anemo_status status = try_variant(s, into, wanted, fitting[i], n > 1);
            if (status) {
                return status;
            }
        }
        if (into->arm) {
            return ANEMO_OK;
        }
    }
    if (!into->why[0] && into->wrong[0]) {
        memcpy(into->why, into->wrong, sizeof into->why);
    } else if (!into->why[0]) {
        snprintf(into->why, sizeof into->why, "no variant of %s is named %s and reads %s",
                 anemo_op_name(wanted->op), wanted->variant, wanted->act);
    }
    return ANEMO_OK;
}

static anemo_status prepare(session *s, group_run *run) {
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0; !status && i < run->group->n_arms; i++) {
        status = find_case(s, run, i);
        status = status ? status : choose_variant(s, &run->arms[i], &run->group->arms[i]);
    }
    return status;
}

/* ---------------------------------------------------------------- timing */

static anemo_status sample(session *s, group_run *run) {
    anemo_arm arms[ANEMO_TARGET_ARMS];
    int32_t n = 0;
    bench_ceilings_reset(&s->ceilings);
    for (int32_t i = 0; i < run->group->n_arms; i++) {
        group_arm *arm = &run->arms[i];
        arm->at = -1;
        if (arm->arm) {
            bench_ceilings_want(&s->ceilings, bench_arithmetic_of(arm->arm->variant));
            arms[n] = bench_sampled_arm(arm->arm);
            arm->at = n++;
        }
    }
    for (int32_t i = 0; i < run->group->n_targets; i++) {
        if (run->group->targets[i].kind == ANEMO_TARGET_CEILING) {
            bench_ceilings_want(&s->ceilings, run->group->targets[i].ceiling);
        }
    }
    const anemo_stop *own = &run->group->stop;
    run->how = (anemo_sampling){.clock = s->clock,
                                .timer = bench_gpu_timer(&s->gpu),
                                .watch = s->gpu.watch,
                                .stop = s->options->stop_given ||
                                                (own->kind == ANEMO_STOP_COUNT && !own->count)
                                            ? s->options->stop
                                            : *own,
                                .caches = ANEMO_CACHES_COLD_WEIGHTS,
                                .evict = bench_ceilings_evict,
                                .between = bench_ceilings_measure,
                                .hooks_ctx = &s->ceilings,
                                .interrupted = s->options->interrupted};
    return n ? anemo_sample(arms, n, &run->how, &run->samples, s->err) : ANEMO_OK;
}

/* Each arm by itself: its time, and whether it lies above what the machine can do. */
static anemo_status evaluate_arms(session *s, group_run *run) {
    for (int32_t i = 0; i < run->group->n_arms; i++) {
        group_arm *arm = &run->arms[i];
        if (arm->at < 0) {
            continue;
        }
        const bench_roof roof = bench_roof_of(arm->c, arm->arm->variant, ANEMO_CACHES_COLD_WEIGHTS);
        const anemo_status status =
            bench_evaluate(&run->samples, arm->at, &s->ceilings, &roof, &arm->result, s->err);
        if (status) {
            return status;
        }
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- targets */

static anemo_status evaluate_share(session *s, const group_run *run, const anemo_target *target,
                                   anemo_estimate *out) {
    const group_arm *arm = &run->arms[target->arm];
    bench_roof roof = bench_roof_of(arm->c, arm->arm->variant, ANEMO_CACHES_COLD_WEIGHTS);
    if (target->kind == ANEMO_TARGET_CEILING && target->ceiling == ANEMO_CEILING_READ) {
        roof.ops = 0;
    } else if (target->kind != ANEMO_TARGET_ROOF) {
        roof.bytes = roof.certain_bytes = 0;
    }
    if (target->kind == ANEMO_TARGET_CEILING && target->ceiling != ANEMO_CEILING_READ) {
        roof.arithmetic = target->ceiling;
    }
    bench_result result;
    const anemo_status status =
        bench_evaluate(&run->samples, arm->at, &s->ceilings, &roof, &result, s->err);
    *out = result.roof;
    return status;
}

/* Seconds (or seconds per operation) of round i of these arms one after another. */
static double cost_of(const group_run *run, const anemo_target *target, const int32_t *arms, int n,
                      int64_t i) {
    double time_ns = 0, ops = 0;
    for (int a = 0; a < n && arms[a] >= 0; a++) {
        time_ns += run->samples.ns[run->arms[arms[a]].at][i];
        ops += run->arms[arms[a]].c->work.ops;
    }
    return target->kind == ANEMO_TARGET_TIME ? time_ns : time_ns / ops;
}

static anemo_status evaluate_ratio(session *s, const group_run *run, const anemo_target *target,
                                   anemo_estimate *out) {
    const int64_t n = run->samples.n;
    double *own = malloc((size_t)(n + 1) * sizeof *own);
    double *others = malloc((size_t)(n + 1) * sizeof *others);
    const bool good = own && others;
    for (int64_t i = 0; good && i < n; i++) {
        own[i] = cost_of(run, target, &target->arm, 1, i);
        others[i] = cost_of(run, target, target->against, 2, i);
    }
    if (good) { /* a rate is the higher the less its arm costs */
        *out = target->kind == ANEMO_TARGET_RATE ? anemo_stats_paired_ratio(own, others, n, 0.95)
                                                 : anemo_stats_paired_ratio(others, own, n, 0.95);
    }
    free(own);
    free(others);
    return good ? ANEMO_OK : anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for the ratios");
}

/* Microseconds of a call, or 10^12 operations per second. */
static anemo_estimate absolute(const group_run *run, const anemo_target *target) {
    const group_arm *arm = &run->arms[target->arm];
    const anemo_estimate *t = &arm->result.time_s;
    anemo_estimate e = *t;
    if (target->kind == ANEMO_TARGET_US) {
        e.value = t->value * 1e6;
        e.lo = t->lo * 1e6;
        e.hi = t->hi * 1e6;
    } else {
        const double tops = arm->c->work.ops * 1e-12;
        e.value = tops / t->value;
        e.lo = tops / t->hi;
        e.hi = tops / t->lo;
    }
    return e;
}

/* Is there a figure for this arm? Else why not. */
static bool measured(const group_run *run, int32_t i, anemo_target_line *line) {
    const group_arm *arm = &run->arms[i];
    if (arm->at < 0) {
        snprintf(line->why, sizeof line->why, "%s", arm->why);
        return false;
    }
    if (arm->result.impossible) {
        snprintf(line->why, sizeof line->why, "%.239s", arm->result.defect);
        return false;
    }
    if (arm->result.invalid) {
        snprintf(line->why, sizeof line->why, "%s lies above its ceiling", arm->arm->variant->name);
        return false;
    }
    return true;
}

static anemo_status evaluate_target(session *s, const group_run *run, const anemo_target *target,
                                    anemo_target_line *line) {
    const group_arm *arm = &run->arms[target->arm];
    *line = (anemo_target_line){.group = run->group,
                                .target = target,
                                .case_name = arm->c->name,
                                .variant = arm->at < 0 ? NULL : arm->arm->variant->name,
                                .value = {.value = NAN, .lo = NAN, .hi = NAN},
                                .verdict = ANEMO_TARGET_NOT_MEASURED,
                                .done = s->done,
                                .total = s->total};
    bool all = measured(run, target->arm, line);
    for (int i = 0; i < 2 && target->against[i] >= 0; i++) {
        all = all && measured(run, target->against[i], line);
    }
    if (!all) {
        return ANEMO_OK;
    }
    anemo_status status = ANEMO_OK;
    if (target->kind >= ANEMO_TARGET_US) {
        line->value = absolute(run, target);
    } else {
        status = target->kind >= ANEMO_TARGET_RATE ? evaluate_ratio(s, run, target, &line->value)
                                                   : evaluate_share(s, run, target, &line->value);
    }
    if (status) {
        return status;
    }
    line->verdict = anemo_target_judge(target, &line->value);
    if (!isfinite(line->value.value)) {
        line->verdict = ANEMO_TARGET_NOT_MEASURED;
        snprintf(line->why, sizeof line->why, "this machine has no such ceiling");
    } else if (line->value.needs) {
        snprintf(line->why, sizeof line->why, "%lld samples, an interval needs %lld",
                 (long long)line->value.n, (long long)line->value.needs);
    } else if (arm->wrong[0]) { /* a rival of the one that was measured */
        memcpy(line->why, arm->wrong, sizeof line->why);
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- records */

static void repro_of(const session *s, const group_run *run, char *text, size_t text_bytes) {
    char stop[48], device[96];
    anemo_stop_format(&run->how.stop, stop, sizeof stop);
    bench_device_option(s->device, device, sizeof device);
    snprintf(text, text_bytes, "anemo bench kernel --targets %s --group %s --stop %s --seed %llu%s",
             s->file->path, run->group->name, stop, (unsigned long long)s->options->seed, device);
}

static anemo_status record_arm(session *s, const group_run *run, int32_t i) {
    const group_arm *arm = &run->arms[i];
    const bench_first *first = &arm->arm->first;
    char repro[512];
    anemo_record *record = anemo_record_create(ANEMO_RECORD_KERNEL);
    repro_of(s, run, repro, sizeof repro);
    anemo_record_text(record, NULL, "suite", "bench kernel");
    anemo_record_text(record, NULL, "repro", repro);
    bench_record_arm(record, arm->c, arm->arm->variant, ANEMO_CACHES_COLD_WEIGHTS, arm->error,
                     arm->arm->packed_bytes);
    if (first->variant) {
        char name[256];
        snprintf(name, sizeof name, "%s/quantise", arm->c->name);
        anemo_record_text(record, "case", "name", name);
        anemo_record_text(record, "solution", "quantise", first->variant->name);
    }
    bench_gpu_record(record, &s->gpu);
    anemo_record_text(record, "sampling", "launch", bench_launch_name(arm->arm));
    anemo_record_text(record, NULL, "status", arm->result.impossible ? "failed" : "passed");
    if (arm->result.impossible) {
        anemo_record_text(record, NULL, "why", arm->result.defect);
    } else {
        bench_record_result(record, &run->samples, arm->at, &run->how, &arm->result);
        bench_record_rates(record, arm->c, &arm->result.time_s);
    }
    const anemo_status status = anemo_record_write(s->sink, record, s->err);
    anemo_record_free(record);
    return status;
}

/* Of what was measured: what was to be reached, and whether it was. */
static anemo_status record_target(session *s, const group_run *run, const anemo_target_line *line) {
    const anemo_target *target = line->target;
    char text[512];
    anemo_record *record = anemo_record_create(ANEMO_RECORD_KERNEL);
    repro_of(s, run, text, sizeof text);
    anemo_record_text(record, NULL, "suite", "kernel targets");
    anemo_record_text(record, NULL, "repro", text);
    snprintf(text, sizeof text, "target/%s/%s", run->group->name, target->measure);
    anemo_record_text(record, "case", "name", text);
    anemo_record_text(record, "case", "op", anemo_op_name(run->group->arms[target->arm].op));
    anemo_record_text(record, "case", "target", target->text);
    anemo_record_number(record, "case", target->at_most ? "at_most" : "at_least", target->bound);
    anemo_record_device(record, s->device);
    anemo_record_text(record, "solution", "variant", line->variant);
    const bool there = line->verdict != ANEMO_TARGET_NOT_MEASURED;
    anemo_record_text(record, NULL, "status", there ? "passed" : "skipped");
    if (there) {
        const anemo_estimate *v = &line->value;
        anemo_record_text(record, NULL, "judged", anemo_target_verdict_name(line->verdict));
        const char *unit = target->kind == ANEMO_TARGET_US     ? "us"
                           : target->kind == ANEMO_TARGET_TOPS ? "Top/s"
                                                               : "1";
        anemo_record_metric(record, "measured", unit, target->at_most, v->value, v->lo, v->hi,
                            v->n);
        anemo_record_reason(record, "one-occasion", false);
    } else {
        anemo_record_text(record, NULL, "why", line->why);
    }
    const anemo_status status = anemo_record_write(s->sink, record, s->err);
    anemo_record_free(record);
    return status;
}

/* ---------------------------------------------------------------- the run */

static anemo_status report(session *s, group_run *run) {
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0; !status && i < run->group->n_arms; i++) {
        status = run->arms[i].at < 0 ? ANEMO_OK : record_arm(s, run, i);
    }
    for (int32_t i = 0; !status && i < run->group->n_targets; i++) {
        anemo_target_line line;
        status = evaluate_target(s, run, &run->group->targets[i], &line);
        status = status ? status : record_target(s, run, &line);
        if (!status) {
            s->observer(s->ctx, &line);
        }
    }
    return status;
}

static anemo_status run_group(session *s, const anemo_target_group *group) {
    group_run *run = calloc(1, sizeof *run);
    if (!run) {
        return anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for a group of targets");
    }
    run->group = group;
    anemo_status status = prepare(s, run);
    status = status ? status : sample(s, run);
    status = status ? status : evaluate_arms(s, run);
    s->done++;
    status = status ? status : report(s, run);
    anemo_samples_free(&run->samples);
    for (int32_t i = 0; i < group->n_arms; i++) {
        if (run->arms[i].arm) {
            run->arms[i].c->ops->arm_destroy(run->arms[i].arm);
        }
    }
    for (int32_t i = 0; i < run->n_cases; i++) {
        run->cases[i]->ops->destroy(run->cases[i]);
    }
    for (int32_t i = 0; i < group->n_arms; i++) {
        bench_routing_free(&run->routing[i]);
    }
    free(run);
    const bool stop = s->options->interrupted && s->options->interrupted();
    return status ? status : stop ? ANEMO_E_CANCELLED : ANEMO_OK;
}

static bool group_wanted(const session *s, int32_t i) {
    return !s->options->filter || strstr(s->file->groups[i].name, s->options->filter);
}

anemo_status anemo_bench_targets(anemo_device *device, const anemo_target_file *file,
                                 const anemo_targets_options *options, anemo_record_sink *sink,
                                 anemo_target_observer observer, void *ctx, int32_t *n_incorrect,
                                 anemo_error *err) {
    session s = {.device = device,
                 .file = file,
                 .options = options,
                 .sink = sink,
                 .observer = observer,
                 .ctx = ctx,
                 .clock = anemo_clock_raw(),
                 .err = err};
    *n_incorrect = 0;
    for (int32_t i = 0; i < file->n_groups; i++) {
        s.total += group_wanted(&s, i);
    }
    if (s.total == 0) {
        return anemo_fail(err, ANEMO_E_INPUT, "no group of targets has '%s' in its name",
                          options->filter);
    }
    anemo_status status = bench_gpu_open(device, NULL, &s.gpu, err);
    status = status ? status : anemo_probe_create(device, &s.clock, 0, &s.probe, err);
    s.ceilings = bench_ceilings_of(s.probe);
    bench_gpu_limit(&s.gpu, &s.ceilings);
    for (int32_t i = 0; !status && i < file->n_groups; i++) {
        status = group_wanted(&s, i) ? run_group(&s, &file->groups[i]) : ANEMO_OK;
    }
    bench_ceilings_free(&s.ceilings);
    anemo_probe_free(s.probe);
    bench_gpu_close(&s.gpu);
    *n_incorrect = s.n_incorrect;
    return status;
}
