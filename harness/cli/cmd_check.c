/* anemo check: is every kernel here right? */
#include "harness/check/check.h"
#include "harness/check/signature.h"
#include "harness/cli/common.h"
#include "harness/cli/table.h"

#include <math.h>
#include <string.h>

typedef struct choices {
    anemo_check_options check;
    bool verbose, signature;
} choices;

static const struct argp_option own_options[] = {
    {"case", ANEMO_CLI_KEY(0), "TEXT", 0, "only cases with TEXT in their name (see --verbose)", 0},
    {"quick", ANEMO_CLI_KEY(1), NULL, 0, "a quarter of the cases", 0},
    {"verbose", ANEMO_CLI_KEY(2), NULL, 0, "one line per case", 0},
    {"signature", ANEMO_CLI_KEY(3), NULL, 0,
     "only print the accuracy signature: a hash of the experts and tokens that the definitions "
     "choose in the embedded model; the same on every instruction set",
     0},
    {0}};

static bool option(int key, const char *value, void *context) {
    choices *c = context;
    if (key == ANEMO_CLI_KEY(0))
        c->check.case_filter = value;
    else if (key == ANEMO_CLI_KEY(1))
        c->check.quick = true;
    else if (key == ANEMO_CLI_KEY(2))
        c->verbose = true;
    else if (key == ANEMO_CLI_KEY(3))
        c->signature = true;
    else
        return false;
    return true;
}

static const char *const verdicts[] = {"ok", "WRONG", "refused", "skipped"};

/* ---------------------------------------------------------------- one line per case */

typedef struct watcher {
    anemo_progress progress;
    anemo_table *cases; /* NULL without --verbose */
} watcher;

static bool watch(void *ctx, const anemo_check_case *result) {
    watcher *w = ctx;
    anemo_progress_show(&w->progress, result->done, result->subject);
    if (w->cases) {
        anemo_table_text(w->cases, "%s", result->subject);
        anemo_table_text(w->cases, "%s", result->case_name);
        anemo_table_text(w->cases, "%s", verdicts[result->verdict]);
        if (result->verdict == ANEMO_CHECK_REFUSED || !isfinite(result->error))
            anemo_table_absent(w->cases);
        else
            anemo_table_number(w->cases, result->error, "%.3g");
        anemo_table_text(w->cases, "%s", result->detail);
    }
    return !anemo_cli_interrupted();
}

static anemo_table *case_table(void) {
    anemo_table *table = anemo_table_create("cases", "Cases (error as a fraction of its bound)");
    anemo_table_column(table, "name", "name");
    anemo_table_column(table, "case", "case");
    anemo_table_column(table, "verdict", "verdict");
    anemo_table_column(table, "error_of_bound", "error");
    anemo_table_column(table, "detail", "detail");
    return table;
}

/* ---------------------------------------------------------------- the report */

static anemo_table *line_table(const anemo_check_report *report, bool details) {
    anemo_table *table = anemo_table_create("checks", "Worst error as a fraction of its bound");
    anemo_table_column(table, "name", "name");
    anemo_table_column(table, "kind", "kind");
    anemo_table_column(table, "cases", "cases");
    anemo_table_column(table, "refused", "refused");
    anemo_table_column(table, "error_of_bound", "worst");
    anemo_table_column(table, "verdict", "verdict");
    if (details) {
        anemo_table_column(table, "failed", "failed");
        anemo_table_column(table, "worst_case", "worst case");
        anemo_table_column(table, "detail", "detail");
        anemo_table_column(table, "refusal", "first refusal");
    }
    for (int32_t i = 0; i < report->n_lines; i++) {
        const anemo_check_line *line = &report->lines[i];
        anemo_table_text(table, "%s", line->name);
        anemo_table_text(table, "%s%s", line->kind, line->reference ? " (reference)" : "");
        anemo_table_number(table, line->run, "%.0f");
        anemo_table_number(table, line->refused, "%.0f");
        if (line->run && isfinite(line->error))
            anemo_table_number(table, line->error, "%.3g");
        else
            anemo_table_absent(table);
        anemo_table_text(table, "%s", verdicts[line->verdict]);
        if (details) {
            anemo_table_number(table, line->failed, "%.0f");
            anemo_table_text(table, "%s", line->worst);
            anemo_table_text(table, "%s", line->detail);
            anemo_table_text(table, "%s", line->refusal);
        }
    }
    return table;
}

static anemo_table *summary_table(const anemo_check_report *report, const anemo_cli *cli) {
    anemo_table *table = anemo_table_create("summary", NULL);
    const struct {
        const char *key;
        double value;
    } cells[] = {{"right", report->passed},
                 {"wrong", report->failed},
                 {"skipped", report->skipped},
                 {"cases_run", (double)report->cases_run},
                 {"cases_wrong", (double)report->cases_failed},
                 {"cases_refused", (double)report->cases_refused},
                 {"seed", (double)cli->seed}};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        anemo_table_column(table, cells[i].key, cells[i].key);
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        anemo_table_number(table, cells[i].value, "%.0f");
    return table;
}

/* What a person needs beside the table: what is wrong and how to see it again, what was left out
 * and why. */
static void print_remarks(const anemo_check_report *report, const anemo_cli *cli) {
    for (int32_t i = 0; i < report->n_lines; i++) {
        const anemo_check_line *line = &report->lines[i];
        if (line->verdict == ANEMO_CHECK_FAIL)
            fprintf(cli->out, "\nWRONG %s (%d of %d cases)\n  %s\n", line->name, line->failed,
                    line->run, line->detail);
        if (line->failed)
            fprintf(cli->out, "  again: anemo check --filter %s --case '%s' --seed %llu\n",
                    line->name, line->worst, (unsigned long long)cli->seed);
    }
    bool titled = false;
    for (int32_t i = 0; i < report->n_lines; i++) {
        const anemo_check_line *line = &report->lines[i];
        if (line->verdict == ANEMO_CHECK_SKIPPED || line->refused) {
            fprintf(cli->out, "%s  %s: %s\n", titled ? "" : "\nLeft out, for example because\n",
                    line->name,
                    line->verdict == ANEMO_CHECK_SKIPPED ? line->detail : line->refusal);
            titled = true;
        }
    }
}

static void print_report(const anemo_check_report *report, const anemo_cli *cli,
                         const anemo_table *cases) {
    const bool text = cli->format == ANEMO_FORMAT_TEXT;
    anemo_table *lines = line_table(report, !text), *summary = summary_table(report, cli);
    const anemo_table *tables[3] = {lines, summary, cases};
    if (text) {
        if (cases)
            anemo_table_print(&cases, 1, cli->format, cli->out);
        anemo_table_print(tables, 1, cli->format, cli->out);
        print_remarks(report, cli);
        fprintf(cli->out,
                "\ncheck: %d variants and layouts right, %d wrong, %d skipped; %lld cases run, "
                "%lld refused (seed %llu)\n",
                report->passed, report->failed, report->skipped, (long long)report->cases_run,
                (long long)report->cases_refused, (unsigned long long)cli->seed);
    } else {
        anemo_table_print(tables, cases ? 3 : 2, cli->format, cli->out);
    }
    anemo_table_free(lines);
    anemo_table_free(summary);
}

static int print_signature(anemo_cli *cli, anemo_device *device) {
    char path[4096];
    bool embedded;
    anemo_error err = {{0}};
    anemo_signature signature;
    anemo_status status = anemo_cli_find_model(NULL, path, sizeof path, &embedded, &err);
    status = status ? status : anemo_signature_make(device, path, &signature, &err);
    if (status != ANEMO_OK)
        return anemo_cli_fail(status, &err);
    anemo_table *table = anemo_table_create("signature", NULL);
    anemo_table_column(table, "signature", "signature");
    anemo_table_column(table, "decisions", "decisions");
    anemo_table_column(table, "experts", "of them experts");
    anemo_table_text(table, "%s", signature.hex);
    anemo_table_number(table, (double)signature.decisions, "%.0f");
    anemo_table_number(table, (double)signature.experts, "%.0f");
    anemo_table_print((const anemo_table *const *)&table, 1, cli->format, cli->out);
    anemo_table_free(table);
    return ANEMO_EXIT_OK;
}

int anemo_cmd_check(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .about = "Holds every kernel variant and weight layout that runs here against its "
                 "definition, on a grid of small problems with all the edges; the definitions are "
                 "held against a second formulation.",
        .example = "anemo check\nanemo check --filter qgemm --plugin ./mine.so --verbose",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED | ANEMO_CLI_THREADS |
                  ANEMO_CLI_ISA | ANEMO_CLI_DEVICE | ANEMO_CLI_FILTER | ANEMO_CLI_PLUGIN |
                  ANEMO_CLI_QUIET,
        .options = own_options,
        .option = option};
    choices own = {0};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &own, &cli);
    own.check.filter = cli.filter;
    own.check.seed = cli.seed;
    own.check.threads = cli.threads;
    anemo_error err = {{0}};
    anemo_device *device = NULL;
    anemo_status status = anemo_cli_open_device(&cli, &device, &err);
    if (status != ANEMO_OK)
        return anemo_cli_close(&cli, anemo_cli_fail(status, &err));
    if (own.signature) {
        const int code = print_signature(&cli, device);
        anemo_device_free(device);
        return anemo_cli_close(&cli, code);
    }
    watcher w = {.progress = anemo_progress_start(&cli, "check", 1),
                 .cases = own.verbose ? case_table() : NULL};
    anemo_check_report report;
    status = anemo_check_run(device, &own.check, watch, &w, &report, &err);
    anemo_progress_end(&w.progress);
    int code = ANEMO_EXIT_OK;
    if (status == ANEMO_OK || status == ANEMO_E_CANCELLED) {
        print_report(&report, &cli, w.cases);
        code = report.failed ? ANEMO_EXIT_INCORRECT : ANEMO_EXIT_OK;
    }
    if (status != ANEMO_OK)
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    if (w.cases)
        anemo_table_free(w.cases);
    anemo_check_report_free(&report);
    anemo_device_free(device);
    return anemo_cli_close(&cli, code);
}
