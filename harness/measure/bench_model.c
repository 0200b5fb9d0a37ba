/* One arm for the prefill and one per batch size, all in turn in every round, so that batch 1 and
 * batch 16 saw the same machine. */
#include "harness/measure/bench_model.h"
#include "harness/gate/code_hash.h"
#include "harness/measure/machine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

typedef struct session {
    const anemo_bench_model_options *options;
    anemo_record_sink *sink;
    anemo_bench_model_report *report;
    bench_engine *engine;
    bench_gpu gpu;
    anemo_probe *probe;
    bench_ceilings ceilings;
    bench_decode *decode; /* [n_batch] */
    anemo_energy *meter;  /* NULL: none */
    anemo_sampling how;
    anemo_arm arms[1 + ANEMO_BENCH_BATCHES];
    anemo_samples samples;
    anemo_error *err;
} session;

/* ---------------------------------------------------------------- small things */

anemo_estimate anemo_rate_of(const anemo_estimate *time, double amount) {
    anemo_estimate rate = *time;
    rate.value = amount / time->value;
    rate.lo = amount / time->hi;
    rate.hi = amount / time->lo;
    return rate;
}

char *anemo_plan_choices(const anemo_plan *plan) {
    size_t bytes = 1;
    const char *choice;
    for (int32_t i = 0; (choice = anemo_plan_choice(plan, i)); i++) {
        bytes += strlen(choice) + 2;
    }
    char *text = calloc(1, bytes);
    for (int32_t i = 0; text && (choice = anemo_plan_choice(plan, i)); i++) {
        if (i > 0) {
            strcat(text, "; ");
        }
        strcat(text, choice);
    }
    return text;
}

double anemo_peak_rss_bytes(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (double)usage.ru_maxrss * 1024 : NAN;
}

/* ---------------------------------------------------------------- results */

/* Gaps of the kept rounds are the last n (tokens - 1) ones: warm-up came before. */
static anemo_status token_gaps(session *s, const bench_decode *d, anemo_bench_model_line *line) {
    const int64_t n = s->samples.n * (s->engine->spec.generated_tokens - 1);
    double *gaps = malloc((size_t)n * sizeof *gaps);
    if (!gaps) {
        return anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for token times");
    }
    for (int64_t i = 0; i < n; i++) {
        gaps[i] = d->gap_ns[d->n_gaps - n + i] * 1e-9;
    }
    anemo_stats_sort(gaps, n);
    line->itl_s[0] = anemo_stats_percentile(gaps, n, 0.95);
    line->itl_s[1] = anemo_stats_percentile(gaps, n, 0.99);
    free(gaps);
    return ANEMO_OK;
}

/* Samples of a decode arm last n - 1 steps: divides, so that all below is per step. */
static void to_steps(session *s, int32_t arm) {
    for (int64_t i = 0; i < s->samples.n; i++) {
        s->samples.ns[arm][i] /= (double)(s->engine->spec.generated_tokens - 1);
    }
}

/* Median of the samples' joules for each token. A sample must be long against the counter's step,
 * else its reading is noise: then, and without a counter, NaN. */
static anemo_estimate joules_per_token(const session *s, int32_t arm, double tokens,
                                       double sample_ns) {
    anemo_estimate none = {.value = NAN, .lo = NAN, .hi = NAN};
    double *values = s->samples.joules && sample_ns >= ANEMO_ENERGY_SPAN_NS
                         ? malloc((size_t)s->samples.n * sizeof *values)
                         : NULL;
    for (int64_t i = 0; values && i < s->samples.n; i++) {
        values[i] = s->samples.joules[arm][i] / tokens;
        if (!(values[i] > 0)) { /* one that cannot be read spoils the median, and says so */
            free(values);
            return none;
        }
    }
    const anemo_estimate e = values ? anemo_stats_median(values, s->samples.n, 0.95) : none;
    free(values);
    return e;
}

static anemo_status evaluate_arm(session *s, int32_t arm) {
    const bench_engine *e = s->engine;
    anemo_bench_model_line *line = &s->report->line[arm];
    line->batch = arm == 0 ? 0 : (int32_t)s->options->batch[arm - 1];
    const bench_roof roof = arm == 0 ? bench_prefill_roof(e) : bench_decode_roof(e, line->batch);
    anemo_status status = ANEMO_OK;
    if (arm > 0) {
        to_steps(s, arm);
        status = token_gaps(s, &s->decode[arm - 1], line);
    }
    const bench_roof binding = bench_binding_roof(e, roof);
    status = status
                 ? status
                 : bench_evaluate(&s->samples, arm, &s->ceilings, &binding, &line->result, s->err);
    const double tokens = arm == 0 ? (double)e->spec.prompt_tokens : line->batch;
    const double steps = arm == 0 ? 1 : (double)(e->spec.generated_tokens - 1);
    line->joules_per_token =
        joules_per_token(s, arm, tokens * steps, line->result.time_s.value * steps * 1e9);
    line->tokens_per_s = anemo_rate_of(&line->result.time_s, tokens);
    line->bytes_per_s = roof.bytes / line->result.time_s.value;
    line->ops_per_s = roof.ops / line->result.time_s.value;
    return status;
}

/* ---------------------------------------------------------------- records */

void bench_record_model(anemo_record *record, const bench_engine *engine, const char *choices,
                        double resident_bytes) {
    const anemo_model_info *info = engine->info;
    anemo_record_text(record, "case", "model", info->name);
    anemo_record_text(record, "case", "model_sha256", info->source_sha256);
    anemo_record_text(record, "case", "architecture", info->architecture);
    anemo_record_number(record, "case", "parameters", info->parameters);
    anemo_record_number(record, "case", "active_parameters", info->active_parameters);
    anemo_record_number(record, "case", "weight_bytes", info->weight_bytes);
    anemo_record_number(record, "case", "active_weight_bytes", info->active_weight_bytes);
    anemo_record_integer(record, "case", "layers", info->layers);
    anemo_record_integer(record, "case", "window", info->window);
    anemo_record_integer(record, "case", "prompt_tokens", engine->spec.prompt_tokens);
    anemo_record_integer(record, "case", "generated_tokens", engine->spec.generated_tokens);
    if (engine->spec.depth_tokens) {
        anemo_record_integer(record, "case", "context", engine->spec.depth_tokens);
    }
    anemo_record_integer(record, "case", "chunk_tokens", engine->spec.chunk_tokens);
    anemo_record_integer(record, "case", "seed", (int64_t)engine->spec.seed);
    anemo_record_text(record, "case", "kv_type", engine->spec.kv_type);
    anemo_record_text(
        record, "case", "cache",
        anemo_caches_name(engine->cold ? ANEMO_CACHES_COLD_WEIGHTS : ANEMO_CACHES_WARM));
    anemo_record_text(record, "case", "inputs", "random ids from the seed, greedy, end ignored");
    anemo_record_device(record, engine->device);
    anemo_record_text(record, "solution", "weights", info->weights);
    anemo_record_text(record, "solution", "choices", choices);
    anemo_choices_record(engine->spec.choices, record);
    const anemo_code_entry *engine_code = anemo_code_entry_of("engine");
    anemo_record_text(record, "solution", "code_hash", engine_code ? engine_code->hash : NULL);
    anemo_record_number(record, "solution", "resident_bytes", resident_bytes);
}

static void record_estimate(anemo_record *record, const char *name, const char *unit, bool lower,
                            const anemo_estimate *e) {
    anemo_record_metric(record, name, unit, lower, e->value, e->lo, e->hi, e->n);
}

void bench_record_load(anemo_record *record, const anemo_model_info *info,
                       const anemo_route_load *load) {
    if (load->calls > 0) {
        anemo_record_integer(record, "case", "experts", info->experts);
        anemo_record_integer(record, "case", "top_k", info->experts_per_token);
        anemo_record_metric(record, "experts_touched", "1", true, load->touched, load->touched,
                            load->touched, load->calls);
        anemo_record_metric(record, "load_max_over_mean", "1", true, load->imbalance,
                            load->imbalance, load->imbalance, load->calls);
    }
}

static void record_itl(anemo_record *record, const anemo_bench_model_line *line) {
    static const char *const names[] = {"itl_p95", "itl_p99"};
    for (int i = 0; i < 2; i++) {
        const anemo_percentile *p = &line->itl_s[i];
        if (p->known) { /* lo is the estimate itself: the bound is one-sided */
            anemo_record_metric(record, names[i], "s", true, p->value, p->value, p->upper, p->n);
        }
    }
}

static void record_metrics(const session *s, const anemo_bench_model_line *line, int32_t arm,
                           anemo_record *record) {
    bench_record_result(record, &s->samples, arm, &s->how, &line->result);
    if (line->batch == 0) {
        record_estimate(record, "ttft", "s", true, &line->result.time_s);
        record_estimate(record, "prefill_rate", "token/s", false, &line->tokens_per_s);
    } else {
        record_estimate(record, "tpot", "s", true, &line->result.time_s);
        record_estimate(record, "throughput", "token/s", false, &line->tokens_per_s);
        record_itl(record, line);
    }
    anemo_record_metric(record, "bandwidth", "byte/s", false, line->bytes_per_s, line->bytes_per_s,
                        line->bytes_per_s, line->result.time_s.n);
    anemo_record_metric(record, "arithmetic", "op/s", false, line->ops_per_s, line->ops_per_s,
                        line->ops_per_s, line->result.time_s.n);
    if (isfinite(line->joules_per_token.value)) {
        record_estimate(record, "energy_per_token", "J/token", true, &line->joules_per_token);
        anemo_record_text(record, "sampling", "energy_source", s->report->energy_source);
    } else {
        anemo_record_reason(record, s->meter ? "too-short-for-energy" : "no-energy-counter", false);
    }
    anemo_record_metric(record, "peak_rss", "byte", true, s->report->peak_rss_bytes,
                        s->report->peak_rss_bytes, s->report->peak_rss_bytes, 1);
}

static void record_repro(const session *s, anemo_record *record) {
    const bench_engine_spec *spec = &s->engine->spec;
    char text[1024], stop[48], device[96];
    anemo_stop_format(&s->options->stop, stop, sizeof stop);
    bench_device_option(s->engine->device, device, sizeof device);
    int at =
        snprintf(text, sizeof text, "anemo bench model %s --prompt %lld --tokens %lld --batch ",
                 spec->path, (long long)spec->prompt_tokens, (long long)spec->generated_tokens);
    for (int32_t i = 0; i < s->options->n_batch && at < (int)sizeof text - 32; i++) {
        at += snprintf(text + at, sizeof text - (size_t)at, "%s%lld", i ? "," : "",
                       (long long)s->options->batch[i]);
    }
    if (spec->depth_tokens && at < (int)sizeof text - 32) {
        at += snprintf(text + at, sizeof text - (size_t)at, " --depth %lld",
                       (long long)spec->depth_tokens);
    }
    for (int32_t i = 0; i < spec->n_with && at < (int)sizeof text - 200; i++) {
        at += snprintf(text + at, sizeof text - (size_t)at, " --with '%s'", spec->with[i]);
    }
    if (spec->choices && at < (int)sizeof text - 200) {
        at += snprintf(text + at, sizeof text - (size_t)at, " --choices '%.150s'",
                       spec->choices->path);
    }
    if (at < (int)sizeof text) {
        snprintf(text + at, sizeof text - (size_t)at, "%s%s --stop %s --seed %llu%s",
                 spec->requantise ? " --weights " : "", spec->requantise ? spec->requantise : "",
                 stop, (unsigned long long)spec->seed, device);
    }
    anemo_record_text(record, NULL, "repro", text);
}

static anemo_status record_line(session *s, int32_t arm) {
    const anemo_bench_model_line *line = &s->report->line[arm];
    const bench_engine_spec *spec = &s->engine->spec;
    char name[256], depth[32] = "";
    if (spec->depth_tokens && line->batch) {
        snprintf(depth, sizeof depth, "/depth=%lld", (long long)spec->depth_tokens);
    }
    snprintf(name, sizeof name, "model/%s/%s/weights=%s/prompt=%lld/tokens=%lld/batch=%d%s",
             s->engine->info->name, line->batch ? "decode" : "prefill", s->engine->info->weights,
             (long long)spec->prompt_tokens, (long long)spec->generated_tokens,
             line->batch ? line->batch : 1, depth);
    anemo_record *record = anemo_record_create(ANEMO_RECORD_MODEL);
    anemo_record_text(record, NULL, "suite", "bench model");
    anemo_record_text(record, NULL, "status", "passed");
    anemo_record_flag(record, NULL, "demo", s->options->demo);
    anemo_record_text(record, "case", "name", name);
    anemo_record_integer(record, "case", "batch", line->batch ? line->batch : 1);
    bench_record_model(record, s->engine, s->report->choices, s->report->resident_bytes);
    bench_record_load(record, s->engine->info, &line->load);
    bench_gpu_record(record, &s->gpu);
    record_metrics(s, line, arm, record);
    record_repro(s, record);
    const anemo_status status = anemo_record_write(s->sink, record, s->err);
    anemo_record_free(record);
    return status;
}

/* ---------------------------------------------------------------- the run */

static double read_meter(void *ctx) {
    return anemo_energy_joules(ctx);
}

static anemo_status sample_all(session *s) {
    const int32_t n = 1 + s->options->n_batch;
    s->arms[0] = bench_prefill_arm(s->engine);
    for (int32_t i = 1; i < n; i++) {
        s->arms[i] =
            bench_decode_arm(&s->decode[i - 1], s->engine, (int32_t)s->options->batch[i - 1]);
    }
    s->ceilings = bench_ceilings_of(s->probe);
    bench_ceilings_want(&s->ceilings, bench_prefill_roof(s->engine).arithmetic);
    for (int32_t i = 1; i < n; i++) {
        bench_ceilings_want(&s->ceilings,
                            bench_engine_arithmetic(s->engine, s->options->batch[i - 1]));
    }
    bench_gpu_limit(&s->gpu, &s->ceilings);
    s->how = (anemo_sampling){.clock = s->engine->clock,
                              .watch = s->gpu.watch,
                              .stop = s->options->stop,
                              .between = bench_ceilings_measure,
                              .hooks_ctx = &s->ceilings,
                              .joules = s->meter ? read_meter : NULL,
                              .joules_ctx = s->meter,
                              .calls_per_sample = 1,
                              .interrupted = s->options->interrupted};
    return anemo_sample(s->arms, n, &s->how, &s->samples, s->err);
}

static anemo_status measure(session *s) {
    anemo_status status = sample_all(s);
    const int32_t n = status ? 0 : 1 + s->options->n_batch;
    s->report->peak_rss_bytes = anemo_peak_rss_bytes();
    for (int32_t arm = 0; !status && arm < n; arm++) {
        status = evaluate_arm(s, arm);
        if (!status && !s->samples.interrupted) {
            status = bench_route_load(s->engine, &s->arms[arm], &s->report->line[arm].load, s->err);
        }
    }
    s->report->n_lines = status ? 0 : n;
    for (int32_t arm = 0; !status && arm < n; arm++) {
        status = record_line(s, arm);
    }
    if (!status && s->samples.interrupted) {
        status = ANEMO_E_CANCELLED;
    }
    anemo_samples_free(&s->samples);
    bench_ceilings_free(&s->ceilings);
    for (int32_t i = 0; i < s->options->n_batch; i++) {
        bench_decode_end(&s->decode[i]);
    }
    return status;
}

anemo_status anemo_bench_model_check(const anemo_bench_model_options *o, anemo_error *err) {
    if (o->spec.prompt_tokens < 1 || o->spec.generated_tokens < 2) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%lld prompt and %lld generated tokens: at least 1 and 2 are needed",
                          (long long)o->spec.prompt_tokens, (long long)o->spec.generated_tokens);
    }
    for (int32_t i = 0; i < o->n_batch; i++) {
        if (o->batch[i] < 1 || o->batch[i] > BENCH_BATCH_MAX) {
            return anemo_fail(err, ANEMO_E_INPUT, "batch %lld: expected 1 to %d",
                              (long long)o->batch[i], BENCH_BATCH_MAX);
        }
    }
    return o->n_batch >= 1 && o->n_batch <= ANEMO_BENCH_BATCHES
               ? ANEMO_OK
               : anemo_fail(err, ANEMO_E_INPUT, "%d batch sizes: expected 1 to %d", o->n_batch,
                            ANEMO_BENCH_BATCHES);
}

int32_t anemo_bench_model_batch_max(const anemo_bench_model_options *options) {
    int64_t most = 1;
    for (int32_t i = 0; i < options->n_batch; i++) {
        most = options->batch[i] > most ? options->batch[i] : most;
    }
    return (int32_t)most;
}

anemo_status anemo_bench_model(anemo_device *device, const anemo_bench_model_options *options,
                               anemo_record_sink *sink, anemo_bench_model_report *out,
                               anemo_error *err) {
    *out = (anemo_bench_model_report){0};
    anemo_status status = anemo_bench_model_check(options, err);
    if (status) {
        return status;
    }
    session s = {.options = options, .sink = sink, .report = out, .err = err};
    bench_engine_spec spec = options->spec;
    spec.batch_max = anemo_bench_model_batch_max(options);
    const anemo_clock clock = anemo_clock_raw();
    s.decode = calloc((size_t)options->n_batch, sizeof *s.decode);
    status = s.decode ? bench_engine_open(device, &spec, &s.engine, err)
                      : anemo_fail(err, ANEMO_E_MEMORY, "no memory for a model bench");
    status = status ? status : bench_gpu_open(device, options->energy.nvml, &s.gpu, err);
    status = status ? status : anemo_probe_create(device, &clock, 0, &s.probe, err);
    if (!status) {
        out->on_gpu = s.gpu.host != NULL;
        snprintf(out->gpu_lack, sizeof out->gpu_lack, "%s", s.gpu.lack);
        out->info = *s.engine->info;
        out->prompt_tokens = s.engine->spec.prompt_tokens;
        out->generated_tokens = s.engine->spec.generated_tokens;
        out->chunk_tokens = s.engine->spec.chunk_tokens;
        out->resident_bytes = bench_resident_bytes(device);
        out->choices = anemo_plan_choices(s.engine->plan);
        s.meter = anemo_energy_open(anemo_device_backend(device), options->ordinal,
                                    &options->energy, &out->energy_lack);
        snprintf(out->energy_source, sizeof out->energy_source, "%s",
                 s.meter ? anemo_energy_source(s.meter) : "");
        status = measure(&s);
    }
    anemo_energy_close(s.meter);
    anemo_probe_free(s.probe);
    bench_engine_close(s.engine);
    bench_gpu_close(&s.gpu);
    free(s.decode);
    return status;
}

void anemo_bench_model_report_free(anemo_bench_model_report *report) {
    free(report->choices);
    *report = (anemo_bench_model_report){0};
}
