#include "harness/measure/composed.h"
#include "harness/measure/machine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB             ((double)(1 << 30))
#define DEFAULT_MEMORY  (2 * GIB)
#define PACKING_MARGIN  1.06 /* resident over canonical bytes, with workspace */
#define PROBE_BYTES     (256.0 * (1 << 20))
#define MEMORY_HEADROOM 1.2 /* of the machine, beside what we take */

enum { PATTERN_MOST = 16 }; /* layers in which a pattern is looked for */

/* Sets of layer counts, from the one that leans the furthest to the smallest. */
static const int64_t count_sets[][ANEMO_COMPOSED_COUNTS] = {
    {1, 4, 8}, {1, 3, 6}, {1, 2, 4}, {1, 2, 3}};

typedef struct session {
    const anemo_composed_options *options;
    anemo_device *device;
    anemo_record_sink *sink;
    anemo_composed_report *report;
    bench_engine *engine[ANEMO_COMPOSED_COUNTS];
    bench_gpu gpu;
    anemo_probe *probe;
    bench_ceilings ceilings;
    bench_decode *decode; /* [counts][n_batch] */
    anemo_sampling how;
    anemo_samples samples;  /* arm c * (1 + n_batch) + i: count c, line i */
    anemo_samples composed; /* arm i: totals of line i; batch is that of `samples` */
    double *scratch;        /* [n] */
    anemo_arm arms[ANEMO_COMPOSED_COUNTS * (1 + ANEMO_BENCH_BATCHES)];
    anemo_error *err;
} session;

/* ---------------------------------------------------------------- the arithmetic */

bool anemo_is_composable(const char *path) {
    return strncmp(path, "synth:", 6) == 0 && !strstr(path, ":layers=");
}

double anemo_composed_total(const int64_t *counts, const double *t, int64_t layers) {
    const double slope = (t[2] - t[0]) / (double)(counts[2] - counts[0]);
    return t[0] + (double)(layers - counts[0]) * slope;
}

double anemo_composed_error(const int64_t *counts, const double *t) {
    const double slope = (t[1] - t[0]) / (double)(counts[1] - counts[0]);
    return (t[0] + (double)(counts[2] - counts[0]) * slope) / t[2] - 1;
}

/* ---------------------------------------------------------------- what fits */

static anemo_status describe(const char *path, int64_t layers, anemo_model_info *info,
                             anemo_error *err) {
    char uri[256];
    const anemo_model_options options = {.window = -1};
    anemo_model *model;
    if (layers > 0) {
        snprintf(uri, sizeof uri, "%s:layers=%lld", path, (long long)layers);
    } else {
        snprintf(uri, sizeof uri, "%s", path);
    }
    const anemo_status status = anemo_model_open(uri, &options, &model, err);
    if (!status) {
        *info = *anemo_model_describe(model);
        anemo_model_close(model);
    }
    return status;
}

/* What one layer and all else take; a synthetic embedding is made row by row and takes nothing. */
typedef struct sizes {
    double layer_bytes, rest_bytes;
} sizes;

static anemo_status find_sizes(const session *s, sizes *out) {
    const char *path = s->options->model.spec.path;
    anemo_model_info one, two;
    anemo_status status = describe(path, 1, &one, s->err);
    status = status ? status : describe(path, 2, &two, s->err);
    if (!status) {
        out->layer_bytes = two.weight_bytes - one.weight_bytes;
        const double idle_experts =
            out->layer_bytes - (two.active_weight_bytes - one.active_weight_bytes);
        const double embedding = one.weight_bytes - one.active_weight_bytes - idle_experts;
        out->rest_bytes = one.weight_bytes - out->layer_bytes - embedding;
    }
    return status;
}

int64_t anemo_composed_period(const bool *full, int64_t n) {
    for (int64_t period = 1; period < n; period++) {
        bool repeats = true;
        for (int64_t i = 0; i + period < n; i++) {
            repeats = repeats && full[i] == full[i + period];
        }
        if (repeats) {
            return period;
        }
    }
    return n;
}

void anemo_composed_spread(const int64_t *set, int64_t period, int64_t layers, int64_t *counts) {
    const int64_t first = (layers - 1) % period + 1;
    for (int c = 0; c < ANEMO_COMPOSED_COUNTS; c++) {
        counts[c] = first + (set[c] - 1) * period;
    }
}

/* Which layers see everything follows from how many of the first k do. */
static anemo_status find_period(const session *s, int64_t *period) {
    const int64_t layers = s->report->info.layers;
    const int64_t n = layers < PATTERN_MOST ? layers : PATTERN_MOST;
    bool full[PATTERN_MOST];
    int64_t before = 0;
    for (int64_t k = 1; k <= n; k++) {
        anemo_model_info info;
        const anemo_status status = describe(s->options->model.spec.path, k, &info, s->err);
        if (status) {
            return status;
        }
        full[k - 1] = info.full_layers > before;
        before = info.full_layers;
    }
    *period = anemo_composed_period(full, n);
    return ANEMO_OK;
}

/* Three plans of these layers: weights as packed and workspace, KV of all sessions, the probes. */
static double bytes_needed(const session *s, const int64_t *counts, sizes size) {
    const anemo_model_info *info = &s->report->info;
    const bench_engine_spec *spec = &s->options->model.spec;
    const double layers = (double)(counts[0] + counts[1] + counts[2]);
    anemo_kv_type kv_type = ANEMO_KV_F16;
    anemo_kv_type_from_name(spec->kv_type ? spec->kv_type : "f16", &kv_type);
    const double kv = 2.0 * (double)info->kv_heads * layers * (double)bench_engine_kv_tokens(spec) *
                      (double)anemo_kv_vector_bytes(kv_type, (int32_t)info->head_dim);
    return PACKING_MARGIN * (ANEMO_COMPOSED_COUNTS * size.rest_bytes + layers * size.layer_bytes) +
           kv + PROBE_BYTES;
}

/* Those that were asked for: memory is the asker's business, but not beyond what there is. */
static anemo_status take_counts(session *s, sizes size) {
    const int64_t *c = s->options->counts;
    const double needed = bytes_needed(s, c, size);
    const double available = (double)anemo_available_memory_bytes();
    if (!(c[0] >= 1 && c[0] < c[1] && c[1] < c[2] && c[2] <= s->report->info.layers)) {
        return anemo_fail(s->err, ANEMO_E_INPUT,
                          "layers %lld, %lld and %lld: expected three ascending numbers up to the "
                          "%lld of %s",
                          (long long)c[0], (long long)c[1], (long long)c[2],
                          (long long)s->report->info.layers, s->report->info.name);
    }
    if (needed > available) {
        return anemo_fail(s->err, ANEMO_E_MEMORY,
                          "%s: plans of %lld, %lld and %lld layers need %.1f GiB; %.1f GiB are "
                          "free on this machine",
                          s->options->model.spec.path, (long long)c[0], (long long)c[1],
                          (long long)c[2], needed / GIB, available / GIB);
    }
    memcpy(s->report->counts, c, sizeof s->report->counts);
    return ANEMO_OK;
}

static anemo_status choose_counts(session *s) {
    const char *path = s->options->model.spec.path;
    int64_t period = 1, counts[ANEMO_COMPOSED_COUNTS];
    sizes size;
    anemo_status status = describe(path, 0, &s->report->info, s->err);
    status = status ? status : find_sizes(s, &size);
    status = status ? status : find_period(s, &period);
    if (status) {
        return status;
    }
    if (s->options->counts[0] != 0) {
        return take_counts(s, size);
    }
    const double limit = s->options->memory_bytes > 0 ? s->options->memory_bytes : DEFAULT_MEMORY;
    const double available = (double)anemo_available_memory_bytes();
    double needed = 0;
    for (size_t i = 0; i < sizeof count_sets / sizeof *count_sets; i++) {
        anemo_composed_spread(count_sets[i], period, s->report->info.layers, counts);
        needed = bytes_needed(s, counts, size);
        if (needed <= limit && needed * MEMORY_HEADROOM <= available &&
            counts[2] < s->report->info.layers) {
            memcpy(s->report->counts, counts, sizeof s->report->counts);
            return ANEMO_OK;
        }
    }
    return anemo_fail(
        s->err, ANEMO_E_MEMORY,
        "%s: plans of %lld, %lld and %lld layers side by side need %.1f GiB; the limit is %.1f "
        "GiB and %.1f GiB are free on this machine",
        path, (long long)counts[0], (long long)counts[1], (long long)counts[2], needed / GIB,
        limit / GIB, available / GIB);
}

/* ---------------------------------------------------------------- sampling */

static int32_t lines_of(const session *s) {
    return 1 + s->options->model.n_batch;
}

static anemo_status open_engines(session *s) {
    for (int c = 0; c < ANEMO_COMPOSED_COUNTS; c++) {
        char uri[256];
        bench_engine_spec spec = s->options->model.spec;
        snprintf(uri, sizeof uri, "%s:layers=%lld", spec.path, (long long)s->report->counts[c]);
        spec.path = uri;
        const anemo_status status = bench_engine_open(s->device, &spec, &s->engine[c], s->err);
        if (status) {
            return status;
        }
        s->engine[c]->spec.path = s->options->model.spec.path; /* outlives uri */
    }
    s->report->resident_bytes = bench_resident_bytes(s->device);
    s->report->choices = anemo_plan_choices(s->engine[0]->plan);
    s->report->prompt_tokens = s->engine[0]->spec.prompt_tokens;
    s->report->generated_tokens = s->engine[0]->spec.generated_tokens;
    return ANEMO_OK;
}

static anemo_status sample_all(session *s) {
    const anemo_bench_model_options *o = &s->options->model;
    anemo_arm *arms = s->arms;
    const int32_t lines = lines_of(s);
    for (int c = 0; c < ANEMO_COMPOSED_COUNTS; c++) {
        arms[c * lines] = bench_prefill_arm(s->engine[c]);
        for (int32_t i = 0; i < o->n_batch; i++) {
            arms[c * lines + 1 + i] = bench_decode_arm(&s->decode[c * o->n_batch + i], s->engine[c],
                                                       (int32_t)o->batch[i]);
        }
    }
    s->ceilings = bench_ceilings_of(s->probe);
    bench_ceilings_want(&s->ceilings, bench_prefill_roof(s->engine[0]).arithmetic);
    for (int32_t i = 0; i < o->n_batch; i++) {
        bench_ceilings_want(&s->ceilings, bench_engine_arithmetic(s->engine[0], o->batch[i]));
    }
    bench_gpu_limit(&s->gpu, &s->ceilings);
    s->how = (anemo_sampling){.clock = s->engine[0]->clock,
                              .stop = o->stop,
                              .between = bench_ceilings_measure,
                              .hooks_ctx = &s->ceilings,
                              .calls_per_sample = 1,
                              .interrupted = o->interrupted};
    return anemo_sample(arms, ANEMO_COMPOSED_COUNTS * lines, &s->how, &s->samples, s->err);
}

/* ---------------------------------------------------------------- adding up */

/* Times of round i of line `line` at the three counts, in nanoseconds per step or prefill. */
static void times_of(const session *s, int32_t line, int64_t i, double *t) {
    const double steps = line == 0 ? 1 : (double)(s->report->generated_tokens - 1);
    for (int c = 0; c < ANEMO_COMPOSED_COUNTS; c++) {
        t[c] = s->samples.ns[c * lines_of(s) + line][i] / steps;
    }
}

typedef enum quantity { TOTAL, LAYER, REST, ERROR } quantity;

static double quantity_of(const session *s, quantity q, const double *t) {
    const int64_t *counts = s->report->counts;
    const double layer = (t[2] - t[0]) / (double)(counts[2] - counts[0]);
    switch (q) {
    case TOTAL:
        return anemo_composed_total(counts, t, s->report->info.layers);
    case LAYER:
        return layer * 1e-9;
    case REST:
        return (t[0] - (double)counts[0] * layer) * 1e-9;
    case ERROR:
        break;
    }
    return anemo_composed_error(counts, t);
}

static anemo_estimate estimate(session *s, int32_t line, quantity q) {
    for (int64_t i = 0; i < s->samples.n; i++) {
        double t[ANEMO_COMPOSED_COUNTS];
        times_of(s, line, i, t);
        s->scratch[i] = quantity_of(s, q, t);
    }
    return anemo_stats_median(s->scratch, s->samples.n, 0.95);
}

static anemo_status evaluate_line(session *s, int32_t line) {
    anemo_composed_line *out = &s->report->line[line];
    bench_engine whole = *s->engine[0];
    whole.info = &s->report->info;
    out->batch = line == 0 ? 0 : (int32_t)s->options->model.batch[line - 1];
    for (int64_t i = 0; i < s->samples.n; i++) {
        double t[ANEMO_COMPOSED_COUNTS];
        times_of(s, line, i, t);
        s->composed.ns[line][i] = quantity_of(s, TOTAL, t);
    }
    const bench_roof roof =
        line == 0 ? bench_prefill_roof(&whole) : bench_decode_roof(&whole, out->batch);
    const bench_roof binding = bench_binding_roof(&whole, roof);
    const anemo_status status =
        bench_evaluate(&s->composed, line, &s->ceilings, &binding, &out->result, s->err);
    const double tokens = line == 0 ? (double)s->report->prompt_tokens : out->batch;
    out->tokens_per_s = anemo_rate_of(&out->result.time_s, tokens);
    out->layer_s = estimate(s, line, LAYER);
    out->rest_s = estimate(s, line, REST);
    out->error = estimate(s, line, ERROR);
    return status;
}

/* Room for the totals; all but the times is that of `samples`. */
static anemo_status make_composed(session *s) {
    s->composed = s->samples;
    s->composed.n_arms = lines_of(s);
    s->composed.ns = calloc((size_t)s->composed.n_arms, sizeof *s->composed.ns);
    s->scratch = malloc((size_t)s->samples.n * sizeof *s->scratch);
    bool good = s->composed.ns && s->scratch;
    for (int32_t i = 0; good && i < s->composed.n_arms; i++) {
        s->composed.ns[i] = malloc((size_t)s->samples.n * sizeof(double));
        good = s->composed.ns[i] != NULL;
    }
    return good ? ANEMO_OK : anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for composed samples");
}

/* ---------------------------------------------------------------- records */

static void record_estimate(anemo_record *record, const char *name, const char *unit, bool lower,
                            const anemo_estimate *e) {
    anemo_record_metric(record, name, unit, lower, e->value, e->lo, e->hi, e->n);
}

static void record_case(const session *s, const anemo_composed_line *line, anemo_record *record) {
    const anemo_model_info *info = &s->report->info;
    bench_engine whole = *s->engine[0];
    whole.info = info;
    char name[256];
    snprintf(name, sizeof name, "model/%s/composed/%s/prompt=%lld/batch=%d", info->name,
             line->batch ? "decode" : "prefill", (long long)s->report->prompt_tokens,
             line->batch ? line->batch : 1);
    anemo_record_text(record, NULL, "suite", "bench model");
    anemo_record_text(record, NULL, "status", "passed");
    anemo_record_text(record, "case", "name", name);
    anemo_record_integer(record, "case", "batch", line->batch ? line->batch : 1);
    anemo_record_flag(record, "case", "composed", true);
    anemo_record_integer(record, "case", "layers_measured", s->report->counts[2]);
    bench_record_model(record, &whole, s->report->choices, s->report->resident_bytes);
    bench_record_load(record, info, &line->load);
}

static anemo_status record_line(session *s, int32_t i) {
    const anemo_composed_line *line = &s->report->line[i];
    const anemo_bench_model_options *o = &s->options->model;
    anemo_record *record = anemo_record_create(ANEMO_RECORD_MODEL);
    record_case(s, line, record);
    bench_gpu_record(record, &s->gpu);
    bench_record_result(record, &s->composed, i, &s->how, &line->result);
    if (!s->engine[0]->cold) { /* the whole model reads from memory, the smallest part did not */
        anemo_record_reason(record, "not-cold", false);
    }
    record_estimate(record, line->batch ? "tpot" : "ttft", "s", true, &line->result.time_s);
    record_estimate(record, line->batch ? "throughput" : "prefill_rate", "token/s", false,
                    &line->tokens_per_s);
    record_estimate(record, "layer_time", "s", true, &line->layer_s);
    record_estimate(record, "rest_time", "s", true, &line->rest_s);
    record_estimate(record, "composition_error", "1", true, &line->error);
    char repro[512], stop[48], device[96];
    bench_device_option(s->device, device, sizeof device);
    anemo_stop_format(&o->stop, stop, sizeof stop);
    int at = snprintf(repro, sizeof repro,
                      "anemo bench model %s --composed --prompt %lld "
                      "--tokens %lld --batch ",
                      o->spec.path, (long long)o->spec.prompt_tokens,
                      (long long)o->spec.generated_tokens);
    for (int32_t b = 0; b < o->n_batch && at < (int)sizeof repro - 160; b++) {
        at += snprintf(repro + at, sizeof repro - (size_t)at, "%s%lld", b ? "," : "",
                       (long long)o->batch[b]);
    }
    at += snprintf(repro + at, sizeof repro - (size_t)at, " --layers %lld,%lld,%lld",
                   (long long)s->report->counts[0], (long long)s->report->counts[1],
                   (long long)s->report->counts[2]);
    snprintf(repro + at, sizeof repro - (size_t)at, " --stop %s --seed %llu%s", stop,
             (unsigned long long)o->spec.seed, device);
    anemo_record_text(record, NULL, "repro", repro);
    const anemo_status status = anemo_record_write(s->sink, record, s->err);
    anemo_record_free(record);
    return status;
}

/* ---------------------------------------------------------------- the run */

static anemo_status measure(session *s) {
    anemo_status status = sample_all(s);
    status = status ? status : make_composed(s);
    for (int32_t i = 0; !status && i < lines_of(s); i++) {
        status = evaluate_line(s, i);
        if (!status && !s->samples.interrupted) { /* of the most layers */
            const int last = ANEMO_COMPOSED_COUNTS - 1;
            status = bench_route_load(s->engine[last], &s->arms[last * lines_of(s) + i],
                                      &s->report->line[i].load, s->err);
        }
    }
    s->report->n_lines = status ? 0 : lines_of(s);
    for (int32_t i = 0; !status && i < lines_of(s); i++) {
        status = record_line(s, i);
    }
    return !status && s->samples.interrupted ? ANEMO_E_CANCELLED : status;
}

static void release(session *s) {
    for (int32_t i = 0; s->composed.ns && i < s->composed.n_arms; i++) {
        free(s->composed.ns[i]);
    }
    free(s->composed.ns);
    free(s->scratch);
    anemo_samples_free(&s->samples);
    bench_ceilings_free(&s->ceilings);
    for (int c = 0; c < ANEMO_COMPOSED_COUNTS; c++) {
        for (int32_t i = 0; i < s->options->model.n_batch; i++) {
            bench_decode_end(&s->decode[c * s->options->model.n_batch + i]);
        }
        bench_engine_close(s->engine[c]);
    }
    free(s->decode);
    anemo_probe_free(s->probe);
    bench_gpu_close(&s->gpu);
}

anemo_status anemo_composed_run(anemo_device *device, const anemo_composed_options *options,
                                anemo_record_sink *sink, anemo_composed_report *out,
                                anemo_error *err) {
    *out = (anemo_composed_report){0};
    anemo_composed_options own = *options;
    anemo_status status = anemo_bench_model_check(&own.model, err);
    if (status) {
        return status;
    }
    own.model.spec.batch_max = anemo_bench_model_batch_max(&own.model);
    session s = {.options = &own, .device = device, .sink = sink, .report = out, .err = err};
    s.decode = calloc((size_t)(ANEMO_COMPOSED_COUNTS * own.model.n_batch), sizeof *s.decode);
    if (!s.decode) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a composed run");
    }
    const anemo_clock clock = anemo_clock_raw();
    status = own.model.spec.requantise
                 ? anemo_fail(err, ANEMO_E_INPUT,
                              "%s: the type of the weights stands in the name; "
                              "requantising to %s is not for composed runs",
                              own.model.spec.path, own.model.spec.requantise)
                 : choose_counts(&s);
    status = status ? status : open_engines(&s);
    status = status ? status : bench_gpu_open(device, NULL, &s.gpu, err);
    status = status ? status : anemo_probe_create(device, &clock, 0, &s.probe, err);
    status = status ? status : measure(&s);
    release(&s);
    return status;
}

void anemo_composed_report_free(anemo_composed_report *report) {
    free(report->choices);
    *report = (anemo_composed_report){0};
}
