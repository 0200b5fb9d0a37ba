/* The bound of a percentile under load: requests wait for each other, so that neighbours tell the
 * same story twice. The run is cut into blocks of as many requests as one percentile needs; the
 * blocks' percentiles are nearly independent, and the bound is the upper end of the 90 %
 * order-statistic interval of their median (5 % on the other side). Five blocks are the fewest. */
#include "harness/measure/bench_load.h"

#include "harness/measure/bench_model.h"
#include "harness/measure/bench_weight.h"
#include "harness/measure/machine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS_FEWEST = 5, BLOCKS_MOST = 20 };

const double anemo_load_share[ANEMO_LOAD_PERCENTILES] = {0.5, 0.95, 0.99};

typedef struct session {
    const anemo_load_options *options;
    anemo_device *device;
    anemo_record_sink *sink;
    anemo_load_report *report;
    anemo_model *model;
    anemo_plan *plan;
    anemo_session *prefix;
    anemo_clock clock;
    anemo_probe *probe;
    anemo_request *request; /* [load.requests] */
    int32_t *tokens;        /* prefix, then prompts, then outputs */
    double *token_s, *a;
    anemo_steps steps;
    bool out_of_memory;
    anemo_error *err;
} session;

/* ---------------------------------------------------------------- percentiles */

anemo_load_percentile anemo_load_percentile_of(const double *values, int64_t n, double p) {
    anemo_load_percentile out = {.value = NAN, .upper = NAN, .n = n};
    const int64_t each = (int64_t)ceil(log(0.05) / log(p));
    double *sorted = malloc((size_t)(n > 0 ? n : 1) * sizeof *sorted), block[BLOCKS_MOST];
    int64_t blocks = n / each;
    blocks = blocks > BLOCKS_MOST ? BLOCKS_MOST : blocks;
    out.needs = each * BLOCKS_FEWEST;
    out.known = sorted && n >= each;
    out.bounded = sorted && blocks >= BLOCKS_FEWEST;
    for (int64_t b = 0; out.bounded && b < blocks; b++) {
        const int64_t from = n * b / blocks, to = n * (b + 1) / blocks;
        memcpy(sorted, values + from, (size_t)(to - from) * sizeof *sorted);
        anemo_stats_sort(sorted, to - from);
        block[b] = anemo_stats_quantile(sorted, to - from, p);
    }
    if (out.bounded) {
        out.upper = anemo_stats_median(block, blocks, 0.90).hi;
    }
    if (out.known) {
        memcpy(sorted, values, (size_t)n * sizeof *sorted);
        anemo_stats_sort(sorted, n);
        out.value = anemo_stats_quantile(sorted, n, p);
    }
    free(sorted);
    return out;
}

static void percentiles(const double *values, int64_t n, anemo_load_percentile *out) {
    for (int i = 0; i < ANEMO_LOAD_PERCENTILES; i++) {
        out[i] = anemo_load_percentile_of(values, n, anemo_load_share[i]);
    }
}

/* ---------------------------------------------------------------- making ready */

static int32_t random_token(const session *s, int64_t i) {
    const int64_t vocab = s->report->info.vocab, lowest = vocab > 16 ? 8 : 0;
    const uint64_t bits = bench_hash(bench_hash(s->options->load.seed) + (uint64_t)i);
    return (int32_t)(lowest + (int64_t)(bits % (uint64_t)(vocab - lowest)));
}

static anemo_status make_requests(session *s, int64_t *longest) {
    const anemo_load_options *o = s->options;
    const int64_t n = o->load.requests, copied = o->prefix_copied ? o->prefix_tokens : 0;
    anemo_load_request *drawn = malloc((size_t)n * sizeof *drawn);
    int64_t prompts = 0, outputs = 0;
    *longest = 0;
    s->request = calloc((size_t)n, sizeof *s->request);
    if (!drawn || !s->request) {
        free(drawn);
        return anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for %lld requests", (long long)n);
    }
    anemo_load_draw(&o->load, drawn);
    for (int64_t i = 0; i < n; i++) {
        const int64_t length = o->prefix_tokens + drawn[i].prompt + drawn[i].output;
        prompts += copied + drawn[i].prompt;
        outputs += drawn[i].output;
        *longest = length > *longest ? length : *longest;
    }
    s->tokens = malloc((size_t)(o->prefix_tokens + prompts + outputs) * sizeof *s->tokens);
    s->token_s = malloc((size_t)outputs * sizeof *s->token_s);
    s->a = malloc((size_t)(outputs > n ? outputs : n) * sizeof *s->a);
    if (s->tokens && s->token_s && s->a) {
        int32_t *prompt = s->tokens + o->prefix_tokens, *output = prompt + prompts;
        double *token_s = s->token_s;
        for (int64_t i = 0; i < o->prefix_tokens + prompts; i++) {
            s->tokens[i] = random_token(s, i);
        }
        for (int64_t i = 0; i < n; i++) {
            s->request[i] = (anemo_request){.arrival_s = drawn[i].arrival_s,
                                            .prompt = prompt,
                                            .n_prompt = copied + drawn[i].prompt,
                                            .n_output = drawn[i].output,
                                            .output = output,
                                            .token_s = token_s};
            memcpy(prompt, s->tokens, (size_t)copied * sizeof *prompt);
            prompt += s->request[i].n_prompt;
            output += drawn[i].output;
            token_s += drawn[i].output;
        }
    }
    free(drawn);
    return s->tokens && s->token_s && s->a
               ? ANEMO_OK
               : anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for the tokens of %lld requests",
                            (long long)n);
}

static anemo_status make_plan(session *s, int64_t longest) {
    const anemo_load_options *o = s->options;
    const char *type = o->spec.kv_type ? o->spec.kv_type : "f16";
    anemo_kv_type kv_type;
    if (!anemo_kv_type_from_name(type, &kv_type)) {
        return anemo_fail(s->err, ANEMO_E_INPUT, "KV type '%s': expected f32, f16, bf16 or q8",
                          type);
    }
    if (longest > s->report->info.context_max) {
        return anemo_fail(s->err, ANEMO_E_INPUT,
                          "%s: a request of %lld tokens is more than its context of %lld; shorter "
                          "lengths are accepted",
                          s->report->info.name, (long long)longest,
                          (long long)s->report->info.context_max);
    }
    const int64_t page = anemo_plan_page_tokens(), shared = o->prefix_copied ? 0 : o->prefix_tokens;
    const int64_t each = (longest + page - 1) / page + 1;
    const int64_t pages = o->kv_tokens > 0 ? (o->kv_tokens + page - 1) / page
                                           : each * o->sessions + (shared + page - 1) / page;
    const char *const *choices;
    int32_t n_choices;
    const anemo_status fits =
        anemo_choices_for(o->spec.choices, &s->report->info, anemo_kv_type_name(kv_type), &choices,
                          &n_choices, s->err);
    if (fits) {
        return fits;
    }
    const anemo_plan_options options = {.limits = {.tokens_per_step = o->step_tokens,
                                                   .sessions = o->sessions + 1,
                                                   .context = longest,
                                                   .kv_tokens = pages * page,
                                                   .kv_type = kv_type,
                                                   .logits_rows = o->sessions},
                                        .with = o->spec.with,
                                        .n_with = o->spec.n_with,
                                        .choices = choices,
                                        .n_choices = n_choices};
    const anemo_status status = anemo_plan_create(s->model, s->device, &options, &s->plan, s->err);
    s->report->choices = status ? NULL : anemo_plan_choices(s->plan);
    return status;
}

static anemo_status feed(session *s, anemo_session *into, const int32_t *tokens, int64_t n) {
    anemo_status status = ANEMO_OK;
    for (int64_t at = 0; !status && at < n; at += s->options->step_tokens) {
        const int64_t rows = n - at < s->options->step_tokens ? n - at : s->options->step_tokens;
        const anemo_step_entry entry = {
            .session = into, .tokens = tokens + at, .n_tokens = (int32_t)rows};
        anemo_step_result result;
        status = anemo_step_submit(s->plan, &entry, 1, s->err);
        status = status ? status : anemo_step_wait(s->plan, &result, s->err);
    }
    return status;
}

/* One request's prompt, forgotten again; and the prefix. */
static anemo_status warm_up(session *s) {
    const anemo_load_options *o = s->options;
    anemo_session *first;
    anemo_status status = anemo_session_create(s->plan, &first, s->err);
    if (!status) {
        status = feed(s, first, s->request[0].prompt, s->request[0].n_prompt);
        anemo_session_free(first);
    }
    if (!status && o->prefix_tokens > 0 && !o->prefix_copied) {
        status = anemo_session_create(s->plan, &s->prefix, s->err);
        status = status ? status : feed(s, s->prefix, s->tokens, o->prefix_tokens);
        for (int32_t i = 0; !status && i < o->load.requests; i++) {
            s->request[i].prefix = s->prefix;
        }
    }
    return status;
}

/* ---------------------------------------------------------------- the run */

static void see_step(void *ctx, const anemo_drive_step *step) {
    session *s = ctx;
    int64_t held;
    anemo_plan_kv_pages(s->plan, &held);
    s->report->kv_pages_most = held > s->report->kv_pages_most ? held : s->report->kv_pages_most;
    s->out_of_memory = !anemo_steps_add(&s->steps, step) || s->out_of_memory;
}

static anemo_status probe_read(session *s, double *bytes_per_s) {
    anemo_probe_value value;
    const anemo_status status = anemo_probe_measure(s->probe, ANEMO_CEILING_READ, &value, s->err);
    *bytes_per_s = value.per_second;
    return status;
}

static anemo_status drive(session *s) {
    const anemo_load_options *o = s->options;
    const int64_t page = anemo_plan_page_tokens();
    int64_t held, pages = anemo_plan_kv_pages(s->plan, &held);
    double before, after;
    s->report->kv_pages = pages;
    const anemo_drive how = {
        .plan = s->plan,
        .limits = {.step_tokens = o->step_tokens,
                   .sessions = o->sessions,
                   .kv_pages = pages - held - (s->prefix ? o->sessions : 0), /* copied tails */
                   .page_tokens = (int32_t)page,
                   .window = s->report->info.full_layers > 0 ? 0 : s->report->info.window},
        .clock = s->clock,
        .on_step = see_step,
        .interrupted = o->interrupted,
        .ctx = s};
    anemo_status status = probe_read(s, &before);
    if (!status) {
        status = anemo_drive_run(&how, s->request, o->load.requests, &s->report->totals, s->err);
    }
    status = status ? status : probe_read(s, &after);
    if (!status && s->out_of_memory) {
        status = anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for the steps of the run");
    }
    if (!status) {
        s->report->probe_bytes_per_s = s->steps.probe_bytes_per_s = (before + after) / 2;
    }
    return status;
}

/* ---------------------------------------------------------------- what came of it */

static double ttft_of(const anemo_request *r) {
    return r->token_s[0] - r->arrival_s;
}

static double tpot_of(const anemo_request *r) {
    return r->n_output < 2
               ? 0
               : (r->token_s[r->n_output - 1] - r->token_s[0]) / (double)(r->n_output - 1);
}

static void evaluate_times(session *s) {
    anemo_load_report *out = s->report;
    const int32_t n = s->options->load.requests;
    int64_t gaps = 0, with_tpot = 0;
    for (int32_t i = 0; i < n; i++) {
        s->a[i] = ttft_of(&s->request[i]);
    }
    percentiles(s->a, n, out->ttft);
    for (int32_t i = 0; i < n; i++) {
        s->a[i] = s->request[i].token_s[0] - s->request[i].sent_s;
    }
    percentiles(s->a, n, out->service);
    for (int32_t i = 0; i < n; i++) {
        s->a[i] = s->request[i].token_s[s->request[i].n_output - 1] - s->request[i].arrival_s;
    }
    percentiles(s->a, n, out->e2e);
    for (int32_t i = 0; i < n; i++) {
        if (s->request[i].n_output > 1) {
            s->a[with_tpot++] = tpot_of(&s->request[i]);
        }
    }
    percentiles(s->a, with_tpot, out->tpot);
    for (int32_t i = 0; i < n; i++) {
        for (int64_t t = 1; t < s->request[i].n_output; t++) {
            s->a[gaps++] = s->request[i].token_s[t] - s->request[i].token_s[t - 1];
        }
    }
    percentiles(s->a, gaps, out->itl);
}

static void evaluate_rates(session *s) {
    const anemo_load_options *o = s->options;
    anemo_load_report *out = s->report;
    double input = 0, output = 0, good = 0, waited = 0;
    for (int32_t i = 0; i < o->load.requests; i++) {
        const anemo_request *r = &s->request[i];
        input += (double)(r->n_prompt + (r->prefix ? o->prefix_tokens : 0));
        output += (double)r->n_output;
        waited += r->waited;
        good += (o->ttft_s <= 0 || ttft_of(r) <= o->ttft_s) &&
                (o->tpot_s <= 0 || tpot_of(r) <= o->tpot_s);
    }
    const double seconds = out->totals.duration_s, n = o->load.requests;
    out->requests_per_s = n / seconds;
    out->input_tokens_per_s = input / seconds;
    out->output_tokens_per_s = output / seconds;
    out->goodput_per_s = good / seconds;
    out->good_share = good / n;
    out->waited_share = waited / n;
    out->busy_share = out->totals.busy_s / seconds;
    out->resident_bytes = bench_resident_bytes(s->device);
    out->peak_rss_bytes = anemo_peak_rss_bytes();
}

static anemo_status write_requests(const session *s) {
    const char *path = s->options->requests_path;
    FILE *f = path ? fopen(path, "w") : NULL;
    bool good = !path || f;
    if (f) {
        fputs("request,arrival_s,sent_s,first_s,last_s,prompt_tokens,output_tokens,ttft_s,tpot_s,"
              "waited\n",
              f);
        for (int32_t i = 0; i < s->options->load.requests; i++) {
            const anemo_request *r = &s->request[i];
            fprintf(f, "%d,%.9f,%.9f,%.9f,%.9f,%lld,%lld,%.9f,%.9f,%d\n", i, r->arrival_s,
                    r->sent_s, r->token_s[0], r->token_s[r->n_output - 1], (long long)r->n_prompt,
                    (long long)r->n_output, ttft_of(r), tpot_of(r), r->waited);
        }
        good = !ferror(f);
        good = fclose(f) == 0 && good;
    }
    return good ? ANEMO_OK
                : anemo_fail(s->err, ANEMO_E_IO, "%s: requests could not be written", path);
}

/* ---------------------------------------------------------------- record */

static void record_percentiles(anemo_record *record, const char *name,
                               const anemo_load_percentile *p) {
    static const char *const suffix[] = {"p50", "p95", "p99"};
    for (int i = 0; i < ANEMO_LOAD_PERCENTILES; i++) {
        char full[48];
        snprintf(full, sizeof full, "%s_%s", name, suffix[i]);
        if (p[i].bounded) { /* lo is the value itself: the bound is one-sided */
            anemo_record_metric(record, full, "s", true, p[i].value, fmin(p[i].value, p[i].upper),
                                fmax(p[i].value, p[i].upper), p[i].n);
        } else if (p[i].known) {
            anemo_record_metric(record, full, "s", true, p[i].value, p[i].value, p[i].value,
                                p[i].n);
        }
    }
}

static void record_rate(anemo_record *record, const char *name, const char *unit, double value,
                        int64_t n) {
    anemo_record_metric(record, name, unit, false, value, value, value, n);
}

static int load_text(const anemo_load_options *o, char *text, size_t text_bytes) {
    return snprintf(text, text_bytes,
                    "--load poisson:%g --requests %d --in-tokens %g:%g --out-tokens %g:%g "
                    "--sessions %d --step-tokens %d --prefix %lld%s",
                    o->load.requests_per_s, o->load.requests, o->load.in_mean, o->load.in_sd_log,
                    o->load.out_mean, o->load.out_sd_log, o->sessions, o->step_tokens,
                    (long long)o->prefix_tokens, o->prefix_copied ? " --copy-prefix" : "");
}

static void record_identity(const session *s, anemo_record *record) {
    const anemo_load_options *o = s->options;
    const bench_engine engine = {.spec = o->spec,
                                 .device = s->device,
                                 .info = &s->report->info,
                                 .cold = s->report->info.active_weight_bytes >
                                         2.0 * (double)anemo_device_cache_bytes(s->device)};
    char load[256], name[512], repro[640], device[96];
    bench_device_option(s->device, device, sizeof device);
    load_text(o, load, sizeof load);
    snprintf(name, sizeof name, "model/%s/weights=%s/%s", s->report->info.name,
             s->report->info.weights, load);
    anemo_record_text(record, NULL, "suite", "bench model");
    anemo_record_text(record, NULL, "status", "passed");
    anemo_record_flag(record, NULL, "demo", o->demo);
    anemo_record_text(record, "case", "name", name);
    bench_record_model(record, &engine, s->report->choices, s->report->resident_bytes);
    anemo_record_number(record, "case", "load_requests_per_s", o->load.requests_per_s);
    anemo_record_integer(record, "case", "sequences", o->sessions);
    snprintf(repro, sizeof repro, "anemo bench model %s %s --seed %llu%s", o->spec.path, load,
             (unsigned long long)o->load.seed, device);
    anemo_record_text(record, NULL, "repro", repro);
}

static anemo_status write_record(const session *s) {
    const anemo_load_report *r = s->report;
    const int64_t n = s->options->load.requests;
    anemo_record *record = anemo_record_create(ANEMO_RECORD_MODEL);
    record_identity(s, record);
    record_percentiles(record, "ttft", r->ttft);
    record_percentiles(record, "ttft_service", r->service);
    record_percentiles(record, "tpot", r->tpot);
    record_percentiles(record, "itl", r->itl);
    record_percentiles(record, "e2e", r->e2e);
    record_rate(record, "request_rate", "1/s", r->requests_per_s, n);
    record_rate(record, "throughput", "token/s", r->output_tokens_per_s, n);
    record_rate(record, "goodput", "1/s", r->goodput_per_s, n);
    record_rate(record, "busy_share", "1", r->busy_share, r->totals.steps);
    record_rate(record, "waited_share", "1", r->waited_share, n);
    record_rate(record, "ceiling_read", "byte/s", r->probe_bytes_per_s, 2);
    if (!r->ttft[ANEMO_LOAD_P95].bounded) {
        anemo_record_reason(record, "too-few-samples", false);
    }
    const anemo_status status = anemo_record_write(s->sink, record, s->err);
    anemo_record_free(record);
    return status;
}

/* ---------------------------------------------------------------- all of it */

static anemo_status check(const anemo_load_options *o, anemo_error *err) {
    const anemo_load *l = &o->load;
    if (l->requests < 1 || !(l->requests_per_s > 0) || !(l->in_mean >= 1) || !(l->out_mean >= 1) ||
        o->sessions < 1 || o->step_tokens < o->sessions) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "load: %d requests at %g/s, %g input and %g output tokens, %d sessions, "
                          "steps of %d tokens; accepted: all above 0, and no more sessions than a "
                          "step has tokens",
                          l->requests, l->requests_per_s, l->in_mean, l->out_mean, o->sessions,
                          o->step_tokens);
    }
    return ANEMO_OK;
}

static anemo_status measure(session *s) {
    int64_t longest;
    anemo_status status = make_requests(s, &longest);
    status = status ? status : make_plan(s, longest);
    status = status ? status : warm_up(s);
    status = status ? status : anemo_probe_create(s->device, &s->clock, 0, &s->probe, s->err);
    status = status ? status : drive(s);
    if (!status) {
        evaluate_times(s);
        evaluate_rates(s);
        status = write_requests(s);
    }
    if (!status && s->options->steps_path) {
        status = anemo_steps_write(&s->steps, s->options->steps_path, s->err);
    }
    return status ? status : write_record(s);
}

anemo_status anemo_bench_load(anemo_device *device, const anemo_load_options *options,
                              anemo_record_sink *sink, anemo_load_report *out, anemo_error *err) {
    session s = {.options = options,
                 .device = device,
                 .sink = sink,
                 .report = out,
                 .clock = anemo_clock_raw(),
                 .err = err};
    const anemo_model_options model = {.requantise = options->spec.requantise,
                                       .window =
                                           options->spec.window_given ? options->spec.window : -1};
    *out = (anemo_load_report){0};
    anemo_status status = check(options, err);
    status = status ? status : anemo_model_open(options->spec.path, &model, &s.model, err);
    if (!status) {
        out->info = *anemo_model_describe(s.model);
        status = measure(&s);
    }
    anemo_probe_free(s.probe);
    anemo_session_free(s.prefix);
    anemo_plan_free(s.plan);
    anemo_model_close(s.model);
    anemo_steps_free(&s.steps);
    free(s.request);
    free(s.tokens);
    free(s.token_s);
    free(s.a);
    return status;
}

void anemo_load_report_free(anemo_load_report *report) {
    free(report->choices);
    *report = (anemo_load_report){0};
}
