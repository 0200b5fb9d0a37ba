/* The steps of the demo that time models: the embedded one, and a true-shape Mistral 7B. */
#include "harness/cli/demo.h"
#include "harness/measure/composed.h"
#include "harness/measure/machine.h"

#include <math.h>

#define TRUE_SHAPE     "synth:mistral-7b:q4_0"
#define COMPOSED_BYTES (2.0 * (1 << 30))

/* "1.52 ms [1.49, 1.60]" */
static const char *estimate_text(const anemo_estimate *e, const char *unit, char text[120]) {
    const anemo_metric metric = {.unit = unit, .value = e->value, .lo = e->lo, .hi = e->hi};
    anemo_metric_text(&metric, text, 120);
    return text;
}

static void print_line(FILE *out, int32_t batch, int64_t prompt_tokens, const bench_result *result,
                       const anemo_estimate *tokens_per_s) {
    char time[120], rate[120];
    estimate_text(&result->time_s, "s", time);
    estimate_text(tokens_per_s, "token/s", rate);
    if (batch == 0)
        fprintf(out, "  prompt of %lld tokens: TTFT %s, %s", (long long)prompt_tokens, time, rate);
    else
        fprintf(out, "  batch %d: TPOT %s, throughput %s", (int)batch, time, rate);
    if (isfinite(result->roof.value))
        fprintf(out, ", %.0f %% of %s", 100 * result->roof.value,
                anemo_ceiling_name(result->binding));
    fputs(result->invalid ? "; INVALID: above the ceiling\n" : "\n", out);
}

static demo_fate judge(demo *d, int32_t invalid) {
    if (invalid == 0)
        return DEMO_OK;
    snprintf(d->why, sizeof d->why, "%d figures lie above this machine's ceiling", (int)invalid);
    d->code = anemo_cli_worse(d->code, ANEMO_EXIT_NOT_MEASURED);
    return DEMO_FAILED;
}

/* The other forms whose accuracy the next step measures: decoding only, for the figure of accuracy
 * against cost, and not printed. */
static anemo_status record_other_forms(demo *d, const anemo_bench_model_options *like,
                                       anemo_error *err) {
    static const char *const forms[] = {NULL, "q8_0"};
    anemo_bench_model_options options = *like;
    anemo_bench_model_report report;
    options.batch[0] = like->batch[like->n_batch - 1];
    options.n_batch = 1;
    anemo_status status = anemo_stop_parse("ci:2%,cap:3s", &options.stop, err);
    for (int f = 0; f < 2 && status == ANEMO_OK; f++) {
        options.spec.requantise = forms[f];
        status = anemo_bench_model(d->device, &options, d->sink, &report, err);
        if (status == ANEMO_OK)
            anemo_bench_model_report_free(&report);
    }
    return status;
}

demo_fate demo_model(demo *d) {
    anemo_bench_model_options options = {.spec = {.path = d->model,
                                                  .requantise = "q4_0",
                                                  .prompt_tokens = 64,
                                                  .generated_tokens = 64,
                                                  .seed = d->cli->seed},
                                         .batch = {1, 4, 16},
                                         .n_batch = 3,
                                         .demo = true,
                                         .interrupted = anemo_cli_interrupted};
    anemo_bench_model_report report;
    anemo_error err = {0};
    int32_t invalid = 0;
    if (!d->model[0])
        return demo_fail(d, ANEMO_E_INPUT, &d->no_model);
    anemo_status status = anemo_stop_parse("ci:2%,cap:6s", &options.stop, &err);
    if (status == ANEMO_OK)
        status = anemo_bench_model(d->device, &options, d->sink, &report, &err);
    if (status != ANEMO_OK)
        return demo_fail(d, status, &err);
    fprintf(d->cli->out,
            "  %.1f million parameters, %.1f used per token; demo: no basis for money\n",
            1e-6 * report.info.parameters, 1e-6 * report.info.active_parameters);
    for (int32_t i = 0; i < report.n_lines; i++) {
        const anemo_bench_model_line *line = &report.line[i];
        print_line(d->cli->out, line->batch, report.prompt_tokens, &line->result,
                   &line->tokens_per_s);
        invalid += line->result.invalid;
    }
    anemo_bench_model_report_free(&report);
    status = record_other_forms(d, &options, &err);
    return status == ANEMO_OK ? judge(d, invalid) : demo_fail(d, status, &err);
}

/* Two GiB, or less where the machine or its cgroup has less to give. */
static double memory_to_use(void) {
    const anemo_machine *m = anemo_machine_get();
    double free_bytes = 0.75 * (double)m->memory_available_bytes;
    if (m->memory_limit_bytes > 0)
        free_bytes = fmin(free_bytes, 0.75 * (double)m->memory_limit_bytes);
    return free_bytes > 0 ? fmin(free_bytes, COMPOSED_BYTES) : COMPOSED_BYTES;
}

demo_fate demo_composed(demo *d) {
    anemo_composed_options options = {.model = {.spec = {.path = TRUE_SHAPE,
                                                         .prompt_tokens = 128,
                                                         .generated_tokens = 16,
                                                         .seed = d->cli->seed},
                                                .batch = {1, 16},
                                                .n_batch = 2,
                                                .interrupted = anemo_cli_interrupted},
                                      .memory_bytes = memory_to_use()};
    anemo_composed_report report;
    anemo_error err = {0};
    int32_t invalid = 0;
    double error = 0;
    anemo_status status = anemo_stop_parse("n:7,cap:20s", &options.model.stop, &err);
    if (status == ANEMO_OK)
        status = anemo_composed_run(d->device, &options, d->sink, &report, &err);
    if (status == ANEMO_E_MEMORY)
        return demo_skip(d, "%.390s", err.text);
    if (status != ANEMO_OK)
        return demo_fail(d, status, &err);
    for (int32_t i = 0; i < report.n_lines; i++) {
        const anemo_composed_line *line = &report.line[i];
        print_line(d->cli->out, line->batch, report.prompt_tokens, &line->result,
                   &line->tokens_per_s);
        invalid += line->result.invalid;
        error = fmax(error, fabs(line->error.value));
    }
    fprintf(d->cli->out,
            "  from %lld, %lld and %lld of %lld layers in %.1f GiB; composition error at most %.1f "
            "%%; speed only\n",
            (long long)report.counts[0], (long long)report.counts[1], (long long)report.counts[2],
            (long long)report.info.layers, report.resident_bytes / (1 << 30), 100 * error);
    anemo_composed_report_free(&report);
    return judge(d, invalid);
}
