#include "harness/measure/bench_ledger.h"

#include "harness/measure/machine.h"
#include "harness/measure/placement.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLANS = 2, LINES = 1 + ANEMO_BENCH_BATCHES, ROW = ANEMO_PHASES + 1 };

/* An arm that runs another one with the ledger, and keeps a row of it: all phases and the total. */
typedef struct watched {
    bench_engine *engine;
    anemo_arm inner;
    anemo_ledger ledger;
    double *row;   /* [n][ROW], warm-up included */
    int64_t every; /* one step in how many is watched, after the first sample */
    double read_ns;
    int64_t n, capacity;
} watched;

typedef struct session {
    const anemo_bench_model_options *options;
    const char *rule;
    anemo_record_sink *sink;
    anemo_ledger_report *report;
    bench_engine *engine[PLANS];
    bench_decode *decode; /* [PLANS][n_batch][2] */
    watched watched[PLANS][LINES];
    int32_t n_plans, n_lines;
    anemo_samples samples; /* arm (plan * n_lines + line) * 2 + with ledger */
    anemo_sampling how;
    double *a, *b, *c; /* [samples.n] */
    anemo_error *err;
} session;

/* ---------------------------------------------------------------- arms */

static anemo_status prepare_watched(void *ctx, anemo_error *err) {
    watched *w = ctx;
    if (w->n == w->capacity) {
        const int64_t capacity = 2 * w->capacity + 16;
        double *row = realloc(w->row, (size_t)capacity * ROW * sizeof *row);
        if (!row) {
            return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a ledger");
        }
        w->row = row;
        w->capacity = capacity;
    }
    return w->inner.prepare(w->inner.ctx, err);
}

static anemo_status run_watched(void *ctx, int64_t call, anemo_error *err) {
    watched *w = ctx;
    anemo_ledger_begin(&w->ledger, &w->engine->clock, w->engine->plan, w->every);
    const anemo_status status = w->inner.run(w->inner.ctx, call, err);
    anemo_ledger_end(&w->ledger, w->engine->plan);
    if (w->n == 0) { /* the warm-up */
        w->every = anemo_ledger_every(&w->ledger, w->read_ns);
    }
    double *row = w->row + w->n++ * ROW;
    memcpy(row, w->ledger.ns, sizeof w->ledger.ns);
    row[ANEMO_PHASES] = w->ledger.total_ns;
    return status;
}

static anemo_arm inner_arm(session *s, int32_t plan, int32_t line, int32_t twin) {
    const anemo_bench_model_options *o = s->options;
    if (line == 0) {
        return bench_prefill_arm(s->engine[plan]);
    }
    return bench_decode_arm(&s->decode[(plan * o->n_batch + line - 1) * 2 + twin], s->engine[plan],
                            (int32_t)o->batch[line - 1]);
}

static anemo_status sample_all(session *s) {
    anemo_arm arms[PLANS * LINES * 2];
    int32_t n = 0;
    for (int32_t p = 0; p < s->n_plans; p++) {
        for (int32_t l = 0; l < s->n_lines; l++) {
            watched *w = &s->watched[p][l];
            *w = (watched){.engine = s->engine[p], .inner = inner_arm(s, p, l, 1), .every = 1};
            w->read_ns = anemo_clock_measure(&w->engine->clock).overhead_ns;
            arms[n++] = inner_arm(s, p, l, 0);
            arms[n++] = (anemo_arm){.run = run_watched, .ctx = w, .prepare = prepare_watched};
        }
    }
    s->how = (anemo_sampling){.clock = s->engine[0]->clock,
                              .stop = s->options->stop,
                              .calls_per_sample = 1,
                              .interrupted = s->options->interrupted};
    return anemo_sample(arms, n, &s->how, &s->samples, s->err);
}

/* ---------------------------------------------------------------- evaluating */

static const double *times_of(const session *s, int32_t plan, int32_t line, int with_ledger) {
    return s->samples.ns[(plan * s->n_lines + line) * 2 + with_ledger];
}

/* The ledger of kept round i: warm-up came before. */
static const double *row_of(const session *s, int32_t plan, int32_t line, int64_t i) {
    const watched *w = &s->watched[plan][line];
    return w->row + (w->n - s->samples.n + i) * ROW;
}

static double steps_of(const session *s, int32_t line) {
    return line == 0 ? 1 : (double)(s->engine[0]->spec.generated_tokens - 1);
}

static anemo_estimate scaled_median(session *s, const double *ns, double divisor) {
    for (int64_t i = 0; i < s->samples.n; i++) {
        s->c[i] = ns[i] / divisor;
    }
    return anemo_stats_median(s->c, s->samples.n, 0.95);
}

static void evaluate_phases(session *s, int32_t line, anemo_ledger_line *out) {
    double total = 0;
    for (int64_t i = 0; i < s->samples.n; i++) {
        const double *row = row_of(s, 0, line, i);
        total += row[ANEMO_PHASES];
        s->a[i] = anemo_ledger_unattributed(row, row[ANEMO_PHASES]);
    }
    out->unattributed = anemo_stats_median(s->a, s->samples.n, 0.95);
    out->open = !(fabs(out->unattributed.value) <= ANEMO_LEDGER_OPEN);
    for (int32_t p = 0; p < ANEMO_PHASES; p++) {
        double sum = 0;
        for (int64_t i = 0; i < s->samples.n; i++) {
            s->a[i] = row_of(s, 0, line, i)[p];
            sum += s->a[i];
        }
        out->share[p] = sum / total;
        out->phase_s[p] = sum > 0 ? scaled_median(s, s->a, 1e9 * steps_of(s, line)).value : 0;
    }
}

static void evaluate_line(session *s, int32_t line) {
    anemo_ledger_line *out = &s->report->line[line];
    const double *plain = times_of(s, 0, line, 0), *with = times_of(s, 0, line, 1);
    out->batch = line == 0 ? 0 : (int32_t)s->options->batch[line - 1];
    out->plain_s = scaled_median(s, plain, 1e9 * steps_of(s, line));
    out->ledger_s = scaled_median(s, with, 1e9 * steps_of(s, line));
    out->ratio = anemo_stats_paired_ratio(plain, with, s->samples.n, 0.95);
    out->every = s->watched[0][line].every;
    evaluate_phases(s, line, out);
}

static double calls_of(const session *s, const double *row) {
    double sum = 0;
    for (int32_t p = 0; p < ANEMO_PHASES; p++) {
        sum += anemo_ledger_meets(p, s->rule) ? row[p] : 0;
    }
    return sum;
}

static anemo_status evaluate_what_if(session *s, int32_t line) {
    anemo_what_if_line *out = &s->report->what_if[line];
    const double *base = times_of(s, 0, line, 0), *other = times_of(s, 1, line, 0);
    const int64_t n = s->samples.n;
    for (int64_t i = 0; i < n; i++) {
        s->a[i] = calls_of(s, row_of(s, 0, line, i));
        s->b[i] = calls_of(s, row_of(s, 1, line, i));
        const double total = row_of(s, 0, line, i)[ANEMO_PHASES];
        s->c[i] = base[i] * (total - s->a[i] + s->b[i]) / total;
        if (!(s->a[i] > 0 && s->b[i] > 0)) {
            return anemo_fail(s->err, ANEMO_E_INPUT,
                              "--what-if %s: no call of this model's steps is changed by it",
                              s->rule);
        }
    }
    out->calls = anemo_stats_paired_ratio(s->a, s->b, n, 0.95);
    out->foretold = anemo_stats_paired_ratio(base, s->c, n, 0.95);
    out->measured = anemo_stats_paired_ratio(base, other, n, 0.95);
    out->error = anemo_stats_paired_ratio(other, s->c, n, 0.95);
    out->error.value -= 1;
    out->error.lo -= 1;
    out->error.hi -= 1;
    const double tokens =
        line == 0 ? (double)s->engine[0]->spec.prompt_tokens : (double)s->options->batch[line - 1];
    out->tokens_per_s[0] = tokens / s->report->line[line].plain_s.value;
    out->tokens_per_s[1] = out->tokens_per_s[0] / out->foretold.value;
    out->tokens_per_s[2] = out->tokens_per_s[0] / out->measured.value;
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- records */

static void record_estimate(anemo_record *record, const char *name, const char *unit,
                            const anemo_estimate *e) {
    anemo_record_metric(record, name, unit, true, e->value, e->lo, e->hi, e->n);
}

static void record_classes(const anemo_ledger_line *line, int64_t n, anemo_record *record) {
    double class_s[ANEMO_PHASE_CLASS_COUNT] = {0};
    for (int32_t p = 0; p < ANEMO_PHASES; p++) {
        class_s[anemo_phase_describe(p).class] += line->phase_s[p];
    }
    for (int c = 0; c < ANEMO_PHASE_CLASS_COUNT; c++) {
        char name[48];
        snprintf(name, sizeof name, "ledger/%s", anemo_phase_class_name((anemo_phase_class)c));
        if (class_s[c] > 0) {
            anemo_record_metric(record, name, "s", true, class_s[c], class_s[c], class_s[c], n);
        }
    }
}

static void record_what_if(const session *s, int32_t i, anemo_record *record) {
    const anemo_what_if_line *w = &s->report->what_if[i];
    anemo_record_text(record, "solution", "what_if", s->rule);
    record_estimate(record, "what_if_calls", "1", &w->calls);
    record_estimate(record, "what_if_foretold", "1", &w->foretold);
    record_estimate(record, "what_if_measured", "1", &w->measured);
    record_estimate(record, "what_if_error", "1", &w->error);
}

static void record_repro(const session *s, anemo_record *record) {
    const bench_engine_spec *spec = &s->engine[0]->spec;
    char text[1024];
    int at = snprintf(text, sizeof text,
                      "anemo bench model %s --prompt %lld --tokens %lld --threads %d --seed %llu%s",
                      spec->path, (long long)spec->prompt_tokens, (long long)spec->generated_tokens,
                      anemo_device_exec(s->engine[0]->device).n_threads,
                      (unsigned long long)spec->seed, anemo_machine_option());
    for (int32_t i = 0; i < spec->n_with && at < (int)sizeof text - 200; i++) {
        at += snprintf(text + at, sizeof text - (size_t)at, " --with '%s'", spec->with[i]);
    }
    if (spec->choices && at < (int)sizeof text - 400) {
        at += snprintf(text + at, sizeof text - (size_t)at, " --choices '%.150s'",
                       spec->choices->path);
    }
    if (at < (int)sizeof text) {
        snprintf(text + at, sizeof text - (size_t)at, s->rule ? " --what-if '%s'" : " --ledger%s",
                 s->rule ? s->rule : "");
    }
    anemo_record_text(record, NULL, "repro", text);
}

static anemo_status record_line(session *s, int32_t i) {
    const anemo_ledger_line *line = &s->report->line[i];
    const bench_engine *e = s->engine[0];
    char name[256];
    snprintf(name, sizeof name, "model/%s/ledger/%s/weights=%s/prompt=%lld/tokens=%lld/batch=%d",
             e->info->name, line->batch ? "decode" : "prefill", e->info->weights,
             (long long)e->spec.prompt_tokens, (long long)e->spec.generated_tokens,
             line->batch ? line->batch : 1);
    anemo_record *record = anemo_record_create(ANEMO_RECORD_MODEL);
    anemo_record_text(record, NULL, "suite", "bench model");
    anemo_record_text(record, NULL, "status", "passed");
    anemo_record_flag(record, NULL, "demo", s->options->demo);
    anemo_record_text(record, "case", "name", name);
    anemo_record_integer(record, "case", "batch", line->batch ? line->batch : 1);
    bench_record_model(record, e, s->report->choices[0], bench_resident_bytes(e->device));
    record_estimate(record, line->batch ? "tpot" : "ttft", "s", &line->plain_s);
    record_estimate(record, "ledger_time", "s", &line->ledger_s);
    record_estimate(record, "ledger_ratio", "1", &line->ratio);
    anemo_record_integer(record, "sampling", "ledger_every", line->every);
    record_estimate(record, "unattributed", "1", &line->unattributed);
    record_classes(line, s->samples.n, record);
    bench_record_noise(record, &s->samples.noise);
    if (line->open) {
        anemo_record_reason(record, "ledger-open", false);
    }
    if (line->plain_s.needs) {
        anemo_record_reason(record, "too-few-samples", false);
    }
    if (s->report->has_what_if) {
        record_what_if(s, i, record);
    }
    record_repro(s, record);
    const anemo_status status = anemo_record_write(s->sink, record, s->err);
    anemo_record_free(record);
    return status;
}

/* ---------------------------------------------------------------- the run */

static anemo_status open_plan(session *s, anemo_device *device, int32_t plan) {
    bench_engine_spec spec = s->options->spec;
    const char **with = calloc((size_t)spec.n_with + 1, sizeof *with);
    if (!with) {
        return anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for a ledger");
    }
    for (int32_t i = 0; i < spec.n_with; i++) {
        with[i] = spec.with[i];
    }
    spec.batch_max = anemo_bench_model_batch_max(s->options);
    if (plan > 0) {
        with[spec.n_with++] = s->rule;
    }
    spec.with = with;
    anemo_status status = bench_engine_open(device, &spec, &s->engine[plan], s->err);
    if (!status) {
        s->engine[plan]->spec.with = s->options->spec.with; /* outlives `with` */
        s->engine[plan]->spec.n_with = s->options->spec.n_with;
        s->report->choices[plan] = anemo_plan_choices(s->engine[plan]->plan);
    }
    free(with);
    return status;
}

static anemo_status measure(session *s) {
    anemo_status status = sample_all(s);
    const size_t bytes = (size_t)(s->samples.n > 0 ? s->samples.n : 1) * sizeof(double);
    s->a = malloc(bytes);
    s->b = malloc(bytes);
    s->c = malloc(bytes);
    if (!status && !(s->a && s->b && s->c)) {
        status = anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for a ledger");
    }
    for (int32_t l = 0; !status && l < s->n_lines; l++) {
        evaluate_line(s, l);
        status = s->rule ? evaluate_what_if(s, l) : ANEMO_OK;
    }
    s->report->has_what_if = s->rule != NULL;
    s->report->n_lines = status ? 0 : s->n_lines;
    for (int32_t l = 0; !status && l < s->n_lines; l++) {
        status = record_line(s, l);
    }
    return !status && s->samples.interrupted ? ANEMO_E_CANCELLED : status;
}

static void release(session *s) {
    for (int32_t p = 0; p < PLANS; p++) {
        for (int32_t l = 0; l < s->n_lines; l++) {
            free(s->watched[p][l].row);
        }
        bench_engine_close(s->engine[p]);
    }
    for (int32_t i = 0; s->decode && i < PLANS * s->options->n_batch * 2; i++) {
        bench_decode_end(&s->decode[i]);
    }
    free(s->decode);
    free(s->a);
    free(s->b);
    free(s->c);
    anemo_samples_free(&s->samples);
}

anemo_status anemo_bench_ledger(anemo_device *device, const anemo_bench_model_options *options,
                                const char *rule, anemo_record_sink *sink, anemo_ledger_report *out,
                                anemo_error *err) {
    *out = (anemo_ledger_report){0};
    anemo_status status = anemo_bench_model_check(options, err);
    if (!status && anemo_device_backend(device) != ANEMO_CPU) {
        status = anemo_fail(err, ANEMO_E_UNSUPPORTED,
                            "the time ledger reads the CPU's clock around each call; on CUDA, "
                            "where calls return before they are done, it is not there yet");
    }
    if (status) {
        return status;
    }
    session *s = calloc(1, sizeof *s);
    if (!s) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a ledger");
    }
    *s = (session){.options = options, .rule = rule, .sink = sink, .report = out, .err = err};
    s->n_plans = rule ? 2 : 1;
    s->n_lines = 1 + options->n_batch;
    s->decode = calloc((size_t)(PLANS * options->n_batch * 2), sizeof *s->decode);
    status = s->decode ? ANEMO_OK : anemo_fail(err, ANEMO_E_MEMORY, "no memory for a ledger");
    for (int32_t p = 0; !status && p < s->n_plans; p++) {
        status = open_plan(s, device, p);
    }
    if (!status) {
        out->info = *s->engine[0]->info;
        out->prompt_tokens = s->engine[0]->spec.prompt_tokens;
        out->generated_tokens = s->engine[0]->spec.generated_tokens;
        out->chunk_tokens = s->engine[0]->spec.chunk_tokens;
        status = measure(s);
    }
    release(s);
    free(s);
    return status;
}

void anemo_ledger_report_free(anemo_ledger_report *report) {
    free(report->choices[0]);
    free(report->choices[1]);
    *report = (anemo_ledger_report){0};
}
