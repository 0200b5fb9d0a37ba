/* Steps of the demo that need no model: doctor, check, kernels, cost, report. See demo.h. */
#include "harness/check/check.h"
#include "harness/cli/demo.h"
#include "harness/cli/doctor.h"
#include "harness/measure/bench_kernel.h"
#include "harness/measure/capability.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- doctor */

/* What is missing goes into the records, so that the report can say so. */
static anemo_status record_missing(demo *d, anemo_error *err) {
    anemo_capability list[ANEMO_CAPABILITIES_MAX];
    int32_t n = anemo_capabilities(list, ANEMO_CAPABILITIES_MAX);
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0; i < n && status == ANEMO_OK; i++) {
        char text[400];
        if (list[i].available)
            continue;
        anemo_record *r = anemo_record_create(ANEMO_RECORD_PROBE);
        snprintf(text, sizeof text, "%s/%s", list[i].group, list[i].name);
        anemo_record_text(r, "case", "name", text);
        anemo_record_text(r, NULL, "status", "unsupported");
        snprintf(text, sizeof text, "%s; costs: %s", list[i].detail, list[i].costs);
        anemo_record_text(r, NULL, "why", text);
        anemo_record_text(r, NULL, "suite", "demo");
        anemo_record_text(r, NULL, "repro", "anemo doctor");
        status = anemo_record_write(d->sink, r, err);
        anemo_record_free(r);
    }
    return status;
}

demo_fate demo_doctor(demo *d) {
    anemo_error err = {0};
    anemo_doctor_summary(d->cli->out);
    anemo_status status = record_missing(d, &err);
    return status == ANEMO_OK ? DEMO_OK : demo_fail(d, status, &err);
}

/* ---------------------------------------------------------------- check */

static bool watch_check(void *ctx, const anemo_check_case *result) {
    anemo_progress_show(ctx, result->done, result->subject);
    return !anemo_cli_interrupted();
}

demo_fate demo_check(demo *d) {
    anemo_error err = {0};
    anemo_check_report report;
    const anemo_check_options options = {.seed = d->cli->seed};
    anemo_progress progress = anemo_progress_start(d->cli, "check", 1);
    anemo_status status =
        anemo_check_run(d->device, &options, watch_check, &progress, &report, &err);
    anemo_progress_end(&progress);
    if (status != ANEMO_OK) {
        anemo_check_report_free(&report);
        return demo_fail(d, status, &err);
    }
    double worst = 0;
    const char *wrong = "";
    for (int32_t i = 0; i < report.n_lines; i++) {
        worst = fmax(worst, report.lines[i].error);
        if (report.lines[i].verdict == ANEMO_CHECK_FAIL && !*wrong)
            wrong = report.lines[i].name;
    }
    fprintf(d->cli->out,
            "  %d variants and layouts right, %d wrong, %d not for here; %lld cases, worst %.2f of "
            "its bound\n",
            report.passed, report.failed, report.skipped, (long long)report.cases_run, worst);
    demo_fate fate = DEMO_OK;
    if (report.failed > 0) {
        snprintf(d->why, sizeof d->why, "%d wrong, the first: %s ('anemo check' shows where)",
                 report.failed, wrong);
        d->code = anemo_cli_worse(d->code, ANEMO_EXIT_INCORRECT);
        fate = DEMO_FAILED;
    }
    anemo_check_report_free(&report);
    return fate;
}

/* ---------------------------------------------------------------- kernels */

typedef struct kernel_watch {
    demo *d;
    anemo_progress progress;
    int32_t lines, invalid;
} kernel_watch;

/* "  CASE  VARIANT  12.3 us [12.1, 12.6], 71 % of read; OpenBLAS 3.2x" (as long) */
static void show_case(void *ctx, const anemo_bench_table *t) {
    kernel_watch *w = ctx;
    const anemo_bench_line *best = NULL, *yardstick = NULL;
    char time[120], case_name[64];
    snprintf(case_name, sizeof case_name, "%s m=%lld", t->c->shape->name, (long long)t->c->m);
    for (int32_t i = 0; i < t->n_lines; i++) {
        if (t->lines[i].fate != ANEMO_BENCH_MEASURED)
            continue;
        w->invalid += t->lines[i].result.invalid;
        best = t->lines[i].best ? &t->lines[i] : best;
        yardstick = t->lines[i].yardstick ? &t->lines[i] : yardstick;
    }
    anemo_progress_end(&w->progress);
    if (best) {
        const bench_result *r = &best->result;
        const anemo_metric m = {.name = "time",
                                .unit = "s",
                                .value = r->time_s.value,
                                .lo = r->time_s.lo,
                                .hi = r->time_s.hi};
        anemo_metric_text(&m, time, sizeof time);
        fprintf(w->d->cli->out, "  %-25s %-26s %s", case_name, best->variant->name, time);
        if (isfinite(r->roof.value))
            fprintf(w->d->cli->out, ", %.0f %% of %s", 100 * r->roof.value,
                    anemo_ceiling_name(r->binding));
        if (yardstick && yardstick != best)
            fprintf(w->d->cli->out, "; OpenBLAS %.2gx", yardstick->ratio.value);
        fputc('\n', w->d->cli->out);
        fflush(w->d->cli->out);
        w->lines++;
    }
    w->progress = anemo_progress_start(w->d->cli, "kernels", t->total);
    anemo_progress_show(&w->progress, t->done, "");
}

demo_fate demo_kernels(demo *d) {
    static const struct {
        const char *op, *shape;
        int64_t m[2];
        int32_t n_m;
    } families[] = {{"qgemm", "mistral-7b/gate_up", {1, 16}, 2},
                    {"moe_experts", "mixtral-half/uniform", {16}, 1},
                    {"swa", "mistral-7b/decode", {4}, 1}};
    kernel_watch w = {.d = d, .progress = anemo_progress_start(d->cli, "kernels", 4)};
    anemo_error err = {0};
    int32_t n_incorrect = 0;
    anemo_status status = ANEMO_OK;
    for (int f = 0; f < 3 && status == ANEMO_OK; f++) {
        int32_t wrong = 0;
        anemo_bench_kernel_options options = {.names = &families[f].op,
                                              .n_names = 1,
                                              .shape = families[f].shape,
                                              .m = families[f].m,
                                              .n_m = families[f].n_m,
                                              .weights = "q4_0",
                                              .caches = ANEMO_CACHES_COLD_WEIGHTS,
                                              .seed = d->cli->seed,
                                              .interrupted = anemo_cli_interrupted};
        status = anemo_stop_parse("ci:3%,cap:1s", &options.stop, &err);
        if (status == ANEMO_OK)
            status = anemo_bench_kernel(d->device, &options, d->sink, show_case, &w, &wrong, &err);
        n_incorrect += wrong;
    }
    anemo_progress_end(&w.progress);
    if (status != ANEMO_OK)
        return demo_fail(d, status, &err);
    if (n_incorrect > 0) {
        snprintf(d->why, sizeof d->why, "%d variants were wrong and not timed", n_incorrect);
        d->code = anemo_cli_worse(d->code, ANEMO_EXIT_INCORRECT);
        return DEMO_FAILED;
    }
    if (w.invalid > 0) {
        snprintf(d->why, sizeof d->why, "%d figures lie above this machine's ceiling", w.invalid);
        d->code = anemo_cli_worse(d->code, ANEMO_EXIT_NOT_MEASURED);
        return DEMO_FAILED;
    }
    return DEMO_OK;
}

/* ---------------------------------------------------------------- cost and report */

static anemo_status read_records(demo *d, anemo_report *report, anemo_error *err) {
    char path[4096];
    const cost_question question = cost_question_default();
    anemo_status status = anemo_cli_defaults("cost.json", path, sizeof path, err);
    if (status == ANEMO_OK)
        status = anemo_cost_assumptions_read(path, &report->assumptions, err);
    report->has_assumptions = status == ANEMO_OK;
    if (status == ANEMO_OK)
        status = anemo_report_read(report, anemo_record_sink_path(d->sink), &question, err);
    return status;
}

static void print_cost(const anemo_cost_line *line, const anemo_cost_assumptions *a, FILE *out) {
    char text[200], range[200];
    anemo_cost_text(line, a, text, sizeof text);
    anemo_cost_range_text(line, a, range, sizeof range);
    fprintf(out, "  %s, batch %lld at %.1f token/s\n  %s\n", text, (long long)line->batch,
            line->tokens_per_s, range);
    fprintf(out, "  assumes %.0f %s for %lld cores, %g years at %g %%, used %g %% of the time,\n",
            line->price, a->currency, (long long)line->cores, a->input[ANEMO_COST_YEARS].value,
            100 * a->input[ANEMO_COST_RATE].value, 100 * a->input[ANEMO_COST_UTILISATION].value);
    fprintf(out, "    %.0f W, %g %s, PUE %g; prompts free; no staff, space, maintenance\n",
            line->watts, a->input[ANEMO_COST_KWH].value, a->input[ANEMO_COST_KWH].unit,
            a->input[ANEMO_COST_PUE].value);
    fputs("    (assumed or published figures of results/defaults/cost.json, not yours)\n", out);
}

demo_fate demo_cost(demo *d) {
    anemo_report report = {0};
    anemo_error err = {0}, refused = {0};
    anemo_cost_line line, cheapest = {0};
    anemo_status status = read_records(d, &report, &err);
    for (size_t i = 0; i < report.n && status == ANEMO_OK; i++) {
        const anemo_record *r = report.records[i];
        if (!anemo_record_get_flag(r, "case", "composed"))
            continue;
        if (anemo_cost_line_make(r, &report.assumptions, &line, &refused) == ANEMO_OK &&
            (cheapest.per_million == 0 || line.per_million < cheapest.per_million))
            cheapest = line;
    }
    demo_fate fate = DEMO_OK;
    if (status != ANEMO_OK) {
        fate = demo_fail(d, status, &err);
    } else if (cheapest.per_million == 0) {
        fate = demo_skip(d, "%s", refused.text[0] ? refused.text : "there is no composed run");
    } else {
        print_cost(&cheapest, &report.assumptions, d->cli->out);
    }
    anemo_report_free(&report);
    return fate;
}

/* The page beside the records, in one of its two forms. */
static anemo_status write_page(const demo *d, const anemo_report *report, page_form form,
                               const char *suffix, int32_t *placeholders, anemo_error *err) {
    char path[sizeof d->report_path + 8];
    snprintf(path, sizeof path, "%s%s", d->report_path, suffix);
    FILE *file = fopen(path, "w");
    if (!file)
        return anemo_fail(err, ANEMO_E_IO, "%s: cannot be written", path);
    *placeholders = anemo_report_write(report, form, file);
    bool written = fflush(file) == 0 && !ferror(file);
    if (fclose(file) != 0 || !written)
        return anemo_fail(err, ANEMO_E_IO, "%s: cannot be written whole", path);
    return ANEMO_OK;
}

demo_fate demo_report(demo *d) {
    anemo_report report = {0};
    anemo_error err = {0};
    int32_t placeholders = 0, none = 0;
    anemo_status status = read_records(d, &report, &err);
    if (status == ANEMO_OK)
        status = write_page(d, &report, PAGE_MD, ".md", &none, &err);
    if (status == ANEMO_OK)
        status = write_page(d, &report, PAGE_HTML, ".html", &placeholders, &err);
    if (status == ANEMO_OK && placeholders)
        fprintf(d->cli->out,
                "  %zu records on one page; %d figures not drawn (gnuplot?), their "
                "numbers are there\n",
                report.n, placeholders);
    else if (status == ANEMO_OK)
        fprintf(d->cli->out, "  %zu records on one page, also as Markdown\n", report.n);
    anemo_report_free(&report);
    return status == ANEMO_OK ? DEMO_OK : demo_fail(d, status, &err);
}
