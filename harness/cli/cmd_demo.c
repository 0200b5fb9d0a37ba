/* anemo demo: the main job from end to end on the embedded model, in two minutes and one screen.
 * This file runs the steps and counts; what they do is in demo_steps.c, demo_model.c and
 * demo_accuracy.c. A step that fails does not stop the others, but the exit code tells. */
#include "harness/cli/demo.h"

#include "anemo_config.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *title;
    demo_fate (*run)(demo *d);
} steps[] = {
    {"doctor: this machine", demo_doctor},
    {"check: every kernel against its definition", demo_check},
    {"kernels: the fastest of each case, and how far from this machine's limit", demo_kernels},
    {"model: the embedded one in q4_0 (TTFT: to the first token; TPOT: per token after it)",
     demo_model},
    {"accuracy: the embedded model, stored, q8_0, q4_0 on the same held-out cases", demo_accuracy},
    {"true shape: Mistral 7B in q4_0, composed from measured layers", demo_composed},
    {"cost: the first line", demo_cost},
    {"report", demo_report},
};
#define N_STEPS (int)(sizeof steps / sizeof *steps)

demo_fate demo_fail(demo *d, anemo_status status, const anemo_error *err) {
    snprintf(d->why, sizeof d->why, "%.390s", err->text[0] ? err->text : anemo_status_name(status));
    d->code = anemo_cli_worse(d->code, anemo_cli_exit_code(status));
    return DEMO_FAILED;
}

demo_fate demo_skip(demo *d, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(d->why, sizeof d->why, format, list);
    va_end(list);
    return DEMO_SKIPPED;
}

/* Records go to ./out unless --record says otherwise; the report lies beside them. */
static anemo_status open_records(demo *d, anemo_error *err) {
    if (d->cli->record) {
        anemo_status status = anemo_cli_open_sink(d->cli, "demo", &d->sink, err);
        if (status == ANEMO_OK) {
            const char *path = anemo_record_sink_path(d->sink), *dot = strrchr(path, '.');
            int stem = dot && !strchr(dot, '/') ? (int)(dot - path) : (int)strlen(path);
            snprintf(d->report_path, sizeof d->report_path, "%.*s", stem, path);
        }
        return status;
    }
    char stamp[32], path[64];
    time_t now = time(NULL);
    struct tm utc;
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &utc));
    snprintf(path, sizeof path, "out/demo-%s.jsonl", stamp);
    snprintf(d->report_path, sizeof d->report_path, "out/demo-%s", stamp);
    return anemo_record_sink_open(path, &d->sink, err);
}

/* Runs every step; the last line says what came of them. */
static void run_steps(demo *d) {
    int count[3] = {0}, done = 0;
    char skipped[1200] = "";
    FILE *out = d->cli->out;
    for (; done < N_STEPS && !anemo_cli_interrupted(); done++) {
        d->why[0] = 0;
        fprintf(out, "%d/%d %s\n", done + 1, N_STEPS, steps[done].title);
        fflush(out);
        demo_fate fate = steps[done].run(d);
        if (anemo_cli_interrupted())
            break;
        count[fate]++;
        if (fate != DEMO_OK)
            fprintf(out, "  %s: %s\n", fate == DEMO_SKIPPED ? "skipped" : "FAILED", d->why);
        if (fate == DEMO_SKIPPED && strlen(skipped) + 2 < sizeof skipped)
            snprintf(skipped + strlen(skipped), sizeof skipped - strlen(skipped), "%s%.*s",
                     *skipped ? "; " : "", (int)strcspn(steps[done].title, ":"), steps[done].title);
    }
    fprintf(out, "demo: %d steps, %d ok, %d skipped", done, count[DEMO_OK], count[DEMO_SKIPPED]);
    if (*skipped)
        fprintf(out, " (%s)", skipped);
    if (count[DEMO_FAILED])
        fprintf(out, ", %d FAILED", count[DEMO_FAILED]);
    if (done < N_STEPS) {
        fprintf(out, ", interrupted");
        d->code = ANEMO_EXIT_INTERRUPTED;
    }
    if (done < N_STEPS)
        fprintf(out, " → %s\n", anemo_record_sink_path(d->sink));
    else
        fprintf(out, " → %s.html\n", d->report_path);
}

int anemo_cmd_demo(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .about = "Does the main job from end to end in about two minutes: what this machine "
                 "offers, every kernel against its definition, speed of kernels and of the "
                 "embedded model, its accuracy in three forms, a true-shape Mistral 7B, the first "
                 "cost line, and a report. Records go to ./out unless --record is given.",
        .example = "  anemo demo\n  anemo demo --record results/",
        .shared = ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED | ANEMO_CLI_THREADS | ANEMO_CLI_DEVICE |
                  ANEMO_CLI_RECORD | ANEMO_CLI_QUIET,
    };
    anemo_cli cli;
    anemo_error err = {0};
    demo *d = calloc(1, sizeof *d);
    if (!d)
        abort();
    anemo_cli_parse(&spec, argc, argv, NULL, &cli);
    d->cli = &cli;
    if (anemo_cli_default_model(d->model, sizeof d->model, &d->no_model) != ANEMO_OK)
        d->model[0] = 0;
    anemo_status status = anemo_cli_open_device(&cli, &d->device, &err);
    if (status == ANEMO_OK)
        status = open_records(d, &err);
    if (status == ANEMO_OK) {
        fprintf(cli.out, "anemo %s; records go to %s\n", ANEMO_VERSION,
                anemo_record_sink_path(d->sink));
        run_steps(d);
        status = anemo_record_sink_close(d->sink, &err);
    }
    int code = d->code;
    if (status != ANEMO_OK)
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    anemo_device_free(d->device);
    free(d);
    return anemo_cli_close(&cli, code);
}
