/* anemo export: records in the forms of other tools. */
#include "harness/cli/common.h"
#include "harness/cli/report.h"
#include "harness/cli/table.h"
#include "harness/record/export.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { KEY_TO = ANEMO_CLI_KEY(0) };

/* Those of the tables first, then harness/record's. */
static const char *const forms[] = {"csv", "md", "llama-bench", "google-benchmark", "junit", NULL};
enum { FORM_CSV, FORM_MD, FORM_OTHER };
static const anemo_exporter exporters[] = {anemo_export_llama_bench, anemo_export_google_benchmark,
                                           anemo_export_junit};

static bool export_option(int key, const char *value, void *context) {
    if (key != KEY_TO) {
        return false;
    }
    *(int *)context = anemo_cli_choice("--to", value, forms);
    return true;
}

/* ---------------------------------------------------------------- tables */

static const char *text_of(const anemo_record *record, const char *section, const char *key) {
    const char *text = anemo_record_get_text(record, section, key);
    return text ? text : "";
}

static void put(anemo_table *table, const char *text) {
    if (*text) {
        anemo_table_text(table, "%s", text);
    } else {
        anemo_table_absent(table);
    }
}

/* "one-occasion noisy": no comma, so that a spreadsheet keeps it in one cell anyhow. */
static void put_reasons(anemo_table *table, const anemo_record *record) {
    char text[400] = "";
    const char *reason;
    for (size_t i = 0; (reason = anemo_record_get_reason(record, i)); i++) {
        const size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%s", used ? " " : "", reason);
    }
    put(table, text);
}

static void columns_of(anemo_table *table, const char *const *names) {
    for (int i = 0; names[i]; i++) {
        anemo_table_column(table, names[i], names[i]);
    }
}

/* A line for each metric; one without metrics for a record that has none, which says why. */
static void csv_rows(anemo_table *table, const anemo_record *record) {
    static const char *const before[][2] = {
        {NULL, "id"},   {NULL, "time"},   {NULL, "kind"},          {NULL, "suite"},
        {"case", "op"}, {"case", "name"}, {"solution", "variant"}, {NULL, "status"},
        {NULL, "why"}};
    anemo_metric metric;
    for (size_t i = 0; anemo_record_get_metric(record, i, &metric) || i == 0; i++) {
        const bool any = anemo_record_get_metric(record, i, &metric);
        for (size_t f = 0; f < sizeof before / sizeof *before; f++) {
            put(table, text_of(record, before[f][0], before[f][1]));
        }
        put(table, any ? metric.name : "");
        put(table, any ? metric.unit : "");
        put(table, !any ? "" : metric.lower_is_better ? "lower" : "higher");
        anemo_table_number(table, any ? metric.value : NAN, "%g");
        anemo_table_number(table, any ? metric.lo : NAN, "%g");
        anemo_table_number(table, any ? metric.hi : NAN, "%g");
        anemo_table_number(table, any ? (double)metric.n : NAN, "%.0f");
        put(table, text_of(record, "validity", "verdict"));
        put_reasons(table, record);
        put(table, text_of(record, "machine", "id"));
        put(table, text_of(record, "build", "version"));
        put(table, text_of(record, NULL, "repro"));
    }
}

/* The ceilings beside a figure, and what follows from it, are left to those who read records. */
static bool is_shown(const anemo_metric *metric) {
    return strncmp(metric->name, "ceiling_", 8) != 0 && strcmp(metric->name, "bandwidth") != 0 &&
           strcmp(metric->name, "arithmetic") != 0;
}

static void markdown_rows(anemo_table *table, const anemo_record *record) {
    anemo_metric metric;
    char text[160];
    for (size_t i = 0; anemo_record_get_metric(record, i, &metric); i++) {
        if (is_shown(&metric)) {
            put(table, text_of(record, "case", "name"));
            put(table, text_of(record, "solution", "variant"));
            put(table, metric.name);
            anemo_metric_text(&metric, text, sizeof text);
            put(table, text);
            anemo_table_number(table, (double)metric.n, "%.0f");
            put(table, text_of(record, "validity", "verdict"));
            put_reasons(table, record);
        }
    }
    if (!anemo_record_get_metric(record, 0, &metric)) {
        put(table, text_of(record, "case", "name"));
        put(table, text_of(record, "solution", "variant"));
        put(table, text_of(record, NULL, "status"));
        put(table, text_of(record, NULL, "why"));
        anemo_table_absent(table);
        anemo_table_absent(table);
        anemo_table_absent(table);
    }
}

static void print_table(anemo_record *const *records, int64_t n, int form, FILE *out) {
    static const char *const csv[] = {"id",      "time",   "kind",  "suite",  "op",       "case",
                                      "variant", "status", "why",   "metric", "unit",     "better",
                                      "value",   "lo",     "hi",    "n",      "validity", "reasons",
                                      "machine", "build",  "repro", NULL};
    static const char *const md[] = {"case", "variant",  "metric",  "value",
                                     "n",    "validity", "reasons", NULL};
    anemo_table *table = anemo_table_create("records", NULL);
    const anemo_table *const one = table;
    columns_of(table, form == FORM_CSV ? csv : md);
    anemo_table_strict_csv(table);
    for (int64_t i = 0; i < n; i++) {
        (form == FORM_CSV ? csv_rows : markdown_rows)(table, records[i]);
    }
    anemo_table_print(&one, 1, form == FORM_CSV ? ANEMO_FORMAT_CSV : ANEMO_FORMAT_MD, out);
    anemo_table_free(table);
}

/* ---------------------------------------------------------------- the command */

/* Moves the records without `filter` in their case's name behind the others; how many stay. */
static int64_t filtered(anemo_report *report, const char *filter) {
    int64_t n = 0;
    for (size_t i = 0; i < report->n; i++) {
        if (!filter || strstr(text_of(report->records[i], "case", "name"), filter)) {
            anemo_record *kept = report->records[i];
            report->records[i] = report->records[n];
            report->records[n++] = kept;
        }
    }
    return n;
}

static anemo_status export_records(const anemo_cli *cli, int form, anemo_report *report,
                                   anemo_error *err) {
    anemo_export_report what = {0};
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0; !status && i < cli->n_arguments; i++) {
        const char *path = cli->arguments[i], *dot = strrchr(path, '.');
        status = dot && strcmp(dot, ".json") == 0
                     ? anemo_fail(err, ANEMO_E_INPUT, "%s: a scenario; expected records", path)
                     : anemo_report_read(report, path, NULL, err);
    }
    const int64_t n = filtered(report, cli->filter);
    if (!status && n == 0) {
        status =
            anemo_fail(err, ANEMO_E_INPUT, "%s: no records%s%s", cli->arguments[0],
                       cli->filter ? " with a case named " : "", cli->filter ? cli->filter : "");
    }
    if (!status && form < FORM_OTHER) {
        print_table(report->records, n, form, cli->out);
    } else if (!status) {
        status = exporters[form - FORM_OTHER](report->records, n, cli->out, &what, err);
    }
    if (!status && what.left_out) {
        anemo_cli_warn("%" PRId64 " of %" PRId64 " records left out, the first: %s", what.left_out,
                       n, what.why);
    }
    return status;
}

int anemo_cmd_export(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"to", KEY_TO, "FORM", 0, "llama-bench, google-benchmark, junit, csv or md", 0}, {0}};
    static const anemo_cli_spec spec = {
        .arguments = "FILE|DIR...",
        .min_arguments = 1,
        .max_arguments = 100,
        .about = "Writes records as other tools have them: the newest of each case and solution. "
                 "llama-bench: the JSON of `llama-bench -o json`, prefill and decode of one "
                 "session. google-benchmark: the JSON for tools/compare.py, raw samples as "
                 "repetitions. junit: a test case each. csv: RFC 4180, a line for each metric. md: "
                 "a table. What a form has no place for is left out, and said.",
        .example = "  anemo export results/ --to csv --output all.csv\n"
                   "  anemo export run.jsonl --to llama-bench --output ours.json\n"
                   "  anemo export run.jsonl --to google-benchmark --filter qgemm",
        .shared = ANEMO_CLI_OUTPUT | ANEMO_CLI_FILTER,
        .options = options,
        .option = export_option,
    };
    int form = -1;
    anemo_report report = {0};
    anemo_error err = {{0}};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &form, &cli);
    if (form < 0) {
        anemo_cli_usage("--to is missing: llama-bench, google-benchmark, junit, csv or md");
    }
    const anemo_status status = export_records(&cli, form, &report, &err);
    anemo_report_free(&report);
    return anemo_cli_close(&cli, status ? anemo_cli_fail(status, &err) : ANEMO_EXIT_OK);
}
