/* Reading records for a report, and its frame: machine, validity, what was not measured. See
 * report.h; the tables of kernels, models, accuracy and cost are in report_tables.c. */
#include "harness/cli/report_internal.h"

#include "anemo_config.h"
#include "harness/cli/figure.h"
#include "models/engine.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---------------------------------------------------------------- small helpers */

const char *report_text(const anemo_record *record, const char *section, const char *key) {
    const char *text = anemo_record_get_text(record, section, key);
    return text ? text : "";
}

bool report_is(const anemo_record *record, const char *kind) {
    return strcmp(report_text(record, NULL, "kind"), kind) == 0;
}

bool report_passed(const anemo_record *record) {
    return strcmp(report_text(record, NULL, "status"), "passed") == 0;
}

void report_verdict(const anemo_record *record, char *text, size_t text_bytes) {
    const char *reason;
    size_t used =
        (size_t)snprintf(text, text_bytes, "%s", report_text(record, "validity", "verdict"));
    for (size_t i = 0; (reason = anemo_record_get_reason(record, i)) && used < text_bytes; i++) {
        int n = snprintf(text + used, text_bytes - used, "%s%s", i ? ", " : ": ", reason);
        used += n > 0 ? (size_t)n : 0;
    }
}

/* Digits behind the point so that at least three count. */
static int decimals(double value) {
    double size = fabs(value);
    return size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : 4;
}

void anemo_metric_text(const anemo_metric *m, char *text, size_t text_bytes) {
    static const struct {
        const char *unit, *shown;
        double at_least, factor;
    } scales[] = {
        {"s", "s", 1, 1},
        {"s", "ms", 1e-3, 1e3},
        {"s", "us", 1e-6, 1e6},
        {"s", "ns", 0, 1e9},
        {"byte/s", "GB/s", 1e8, 1e-9},
        {"byte/s", "MB/s", 0, 1e-6},
        {"op/s", "Top/s", 1e12, 1e-12},
        {"op/s", "Gop/s", 0, 1e-9},
        {"byte", "GB", 1e8, 1e-9},
        {"byte", "MB", 0, 1e-6},
    };
    const char *shown = strcmp(m->unit, "1") ? m->unit : "";
    double factor = 1;
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
        if (strcmp(m->unit, scales[i].unit) == 0 && fabs(m->value) >= scales[i].at_least) {
            shown = scales[i].shown;
            factor = scales[i].factor;
            break;
        }
    double value = factor * m->value, lo = factor * m->lo, hi = factor * m->hi;
    int n =
        snprintf(text, text_bytes, "%.*f%s%s", decimals(value), value, *shown ? " " : "", shown);
    if (lo < hi && n > 0 && (size_t)n < text_bytes)
        snprintf(text + n, text_bytes - (size_t)n, " [%.*f, %.*f]", decimals(value), lo,
                 decimals(value), hi);
}

/* ---------------------------------------------------------------- reading */

char *report_file(const char *path, size_t *n_bytes) {
    FILE *in = fopen(path, "rb");
    char *bytes = NULL;
    size_t n = 0;
    if (in && fseek(in, 0, SEEK_END) == 0) {
        long size = ftell(in);
        rewind(in);
        bytes = size > 0 ? calloc(1, (size_t)size + 1) : NULL;
        n = bytes ? fread(bytes, 1, (size_t)size, in) : 0;
    }
    if (in)
        fclose(in);
    *n_bytes = n;
    return bytes;
}

/* Same case, same solution, same machine, same build type: a newer record replaces an older one. */
static bool replaces(const anemo_record *newer, const anemo_record *older) {
    static const char *const keys[][2] = {{"", "kind"},
                                          {"case", "name"},
                                          {"case", "model"},
                                          {"case", "model_sha256"},
                                          {"case", "data_sha256"},
                                          {"case", "baseline"},
                                          {"solution", "variant"},
                                          {"solution", "weights"},
                                          {"solution", "backend"},
                                          {"machine", "id"},
                                          {"machine", "device"}};
    if (!*report_text(newer, "case", "name"))
        return false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(report_text(newer, keys[i][0], keys[i][1]),
                   report_text(older, keys[i][0], keys[i][1])) != 0)
            return false;
    return anemo_record_get_integer(newer, "machine", "device_threads") ==
           anemo_record_get_integer(older, "machine", "device_threads");
}

static bool add_record(void *ctx, anemo_record *record) {
    anemo_report *report = ctx;
    for (size_t i = 0; i < report->n; i++)
        if (replaces(record, report->records[i])) {
            anemo_record_free(report->records[i]);
            report->records[i] = anemo_record_keep(record);
            report->older++;
            return true;
        }
    if (report->n == report->capacity) {
        report->capacity = report->capacity ? 2 * report->capacity : 64;
        report->records = realloc(report->records, report->capacity * sizeof *report->records);
        if (!report->records)
            abort();
    }
    report->records[report->n++] = anemo_record_keep(record);
    return true;
}

/* Remembers the file and its hash; records < 0: a scenario. */
static anemo_status add_input(anemo_report *report, const char *path, int64_t records,
                              anemo_error *err) {
    size_t n_bytes;
    char *bytes = report_file(path, &n_bytes);
    report->input = realloc(report->input, (report->n_inputs + 1) * sizeof *report->input);
    if (!report->input)
        abort();
    report_input *in = &report->input[report->n_inputs];
    *in = (report_input){.path = strdup(path), .records = records};
    if (!bytes || !in->path) {
        free(in->path);
        free(bytes);
        return anemo_fail(err, ANEMO_E_IO, "%s: %s", path, strerror(errno));
    }
    anemo_sha256_of(bytes, n_bytes, in->sha256);
    report->n_inputs++;
    free(bytes);
    return ANEMO_OK;
}

static anemo_status read_file(anemo_report *report, const char *path, anemo_error *err) {
    anemo_record_read_report read;
    anemo_status status = anemo_record_read(path, add_record, report, &read, err);
    size_t used = strlen(report->remarks);
    if (status == ANEMO_OK && read.torn_line)
        snprintf(report->remarks + used, sizeof report->remarks - used,
                 "%s:%" PRId64 " is an unfinished line and was left out. ", path, read.torn_line);
    return status == ANEMO_OK ? add_input(report, path, read.records, err) : status;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static anemo_status read_folder(anemo_report *report, const char *folder, int depth,
                                anemo_error *err) {
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, by_name);
    if (n < 0)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: %s", folder, strerror(errno));
    anemo_status status = ANEMO_OK;
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name, *dot = strrchr(name, '.');
        struct stat info;
        char *path = NULL;
        if (asprintf(&path, "%s/%s", folder, name) < 0)
            abort();
        if (status == ANEMO_OK && name[0] != '.' && stat(path, &info) == 0) {
            if (S_ISDIR(info.st_mode) && depth < 8)
                status = read_folder(report, path, depth + 1, err);
            else if (dot && strcmp(dot, ".jsonl") == 0)
                status = read_file(report, path, err);
        }
        free(path);
        free(entries[i]);
    }
    free(entries);
    return status;
}

static anemo_status read_scenario(anemo_report *report, const char *path,
                                  const cost_question *question, anemo_error *err) {
    if (report->cost)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: a second scenario; a report is about one", path);
    anemo_status status = cost_view_open(path, question, &report->cost, err);
    if (status == ANEMO_OK)
        status = size_view_open(path, &report->cost->reference, &report->cost->scenario,
                                question->seed, &report->size, err);
    return status == ANEMO_OK ? add_input(report, path, -1, err) : status;
}

anemo_status anemo_report_read(anemo_report *report, const char *path,
                               const cost_question *question, anemo_error *err) {
    struct stat info;
    const char *dot = strrchr(path, '.');
    if (dot && strcmp(dot, ".json") == 0)
        return read_scenario(report, path, question, err);
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return read_folder(report, path, 0, err);
    return read_file(report, path, err);
}

void anemo_report_free(anemo_report *report) {
    for (size_t i = 0; i < report->n; i++)
        anemo_record_free(report->records[i]);
    for (size_t i = 0; i < report->n_inputs; i++)
        free(report->input[i].path);
    free(report->records);
    free(report->input);
    free(report->repro);
    cost_view_free(report->cost);
    size_view_free(report->size);
    *report = (anemo_report){0};
}

/* ---------------------------------------------------------------- the frame */

static void write_machine(const report_view *view, page *p) {
    static const char *const keys[][3] = {
        {"machine", "cpu", "processor"},
        {"machine", "cores", "cores"},
        {"machine", "threads", "hardware threads"},
        {"machine", "device_threads", "threads used"},
        {"machine", "isa", "instruction sets"},
        {"machine", "caches", "data caches"},
        {"machine", "memory_bytes", "memory"},
        {"machine", "memory_limit_bytes", "memory limit"},
        {"machine", "cpu_quota", "CPU quota"},
        {"machine", "huge_pages", "transparent huge pages"},
        {"machine", "governor", "governor"},
        {"machine", "boost", "boost"},
        {"machine", "virtualisation", "virtualisation"},
        {"machine", "device", "device"},
        {"machine", "kernel", "kernel"},
        {"machine", "os", "system"},
        {"build", "version", "anemo"},
        {"build", "compiler", "compiler"},
        {"build", "flags", "flags"},
        {"build", "libraries", "libraries"},
    };
    const anemo_record *last = view->records[view->n - 1];
    anemo_table *table = anemo_table_create("machine", "Machine");
    anemo_table_column(table, "what", "what");
    anemo_table_column(table, "value", "value");
    page_heading(p, 2, NULL, report_text(last, "machine", "id"));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *text = anemo_record_get_text(last, keys[i][0], keys[i][1]);
        double number = anemo_record_get_number(last, keys[i][0], keys[i][1]);
        if (!text && isnan(number))
            continue;
        anemo_table_text(table, "%s", keys[i][2]);
        if (text)
            anemo_table_text(table, "%s", text);
        else if (strstr(keys[i][1], "_bytes"))
            anemo_table_text(table, "%.1f GiB", number / (1 << 30));
        else
            anemo_table_text(table, "%g", number);
    }
    page_table(p, table);
}

static const char *reason_meaning(const char *code) {
    static const char *const meanings[][2] = {
        {"one-occasion", "one run; what differs from day to day is not in the interval"},
        {"too-few-samples", "fewer samples than the interval or percentile needs"},
        {"stopped-by-cap", "the time limit came before the wanted precision"},
        {"not-steady", "still warming up when sampling began"},
        {"noisy", "the interval is wide"},
        {"steal", "the hypervisor gave processor time to others"},
        {"interrupted", "stopped by the user"},
        {"above-ceiling", "faster than this machine's own probe allows: not believed"},
        {"not-cold", "caches may have held what should come from memory"},
        {"throttled", "the clock was lowered during the run"},
        {"on-battery", "battery operation"},
        {"accuracy-not-run", "speed without a statement about accuracy"},
        {"ledger-open", "the time ledger leaves more than 5 % of the step unattributed"},
        {"composed", "added up from measured layers, not measured whole"},
    };
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (strcmp(code, meanings[i][0]) == 0)
            return meanings[i][1];
    return "-";
}

#define REASONS_MAX 64

report_counts report_count(const anemo_record *const *records, size_t n) {
    static const char *const verdicts[] = {"VALID", "WEAK", "INVALID"};
    report_counts counts = {0};
    for (size_t i = 0; i < n; i++) {
        counts.unmeasured += !report_passed(records[i]);
        for (int v = 0; v < 3 && report_passed(records[i]); v++)
            counts.verdict[v] +=
                strcmp(report_text(records[i], "validity", "verdict"), verdicts[v]) == 0;
    }
    return counts;
}

static void write_validity(const report_view *view, page *p) {
    const char *codes[REASONS_MAX];
    int count[REASONS_MAX] = {0}, n = 0;
    report_counts counts = report_count(view->records, view->n);
    for (size_t i = 0; i < view->n; i++) {
        const char *reason;
        if (!report_passed(view->records[i]))
            continue;
        for (size_t r = 0; (reason = anemo_record_get_reason(view->records[i], r)); r++) {
            int at = 0;
            while (at < n && strcmp(codes[at], reason) != 0)
                at++;
            if (at == REASONS_MAX)
                continue;
            if (at == n)
                codes[n++] = reason;
            count[at]++;
        }
    }
    page_heading(p, 3, NULL, "Validity");
    page_text(p, "%d valid, %d weak, %d invalid; %d not measured.", counts.verdict[0],
              counts.verdict[1], counts.verdict[2], counts.unmeasured);
    anemo_table *table = anemo_table_create("reasons", "Reasons");
    anemo_table_column(table, "reason", "reason");
    anemo_table_column(table, "records", "records");
    anemo_table_column(table, "meaning", "meaning");
    for (int i = 0; i < n; i++) {
        anemo_table_text(table, "%s", codes[i]);
        anemo_table_number(table, count[i], "%.0f");
        anemo_table_text(table, "%s", reason_meaning(codes[i]));
    }
    page_table(p, table);
}

static void write_unmeasured(const report_view *view, page *p) {
    anemo_table *table = anemo_table_create("not_measured", "Not measured");
    anemo_table_column(table, "what", "what");
    anemo_table_column(table, "status", "status");
    anemo_table_column(table, "why", "why");
    for (size_t i = 0; i < view->n; i++) {
        const anemo_record *r = view->records[i];
        const char *variant = report_text(r, "solution", "variant");
        if (report_passed(r))
            continue;
        anemo_table_text(table, "%s%s%s", report_text(r, "case", "name"), *variant ? " " : "",
                         variant);
        anemo_table_text(table, "%s", report_text(r, NULL, "status"));
        anemo_table_text(table, "%s", report_text(r, NULL, "why"));
    }
    page_heading(p, 3, NULL, "Not measured, and what disturbed, with the reasons");
    if (anemo_table_rows(table) == 0)
        page_text(p, "Nothing was left out by these records.");
    page_table(p, table);
}

/* Each command once. */
static void write_repro(const report_view *view, page *p) {
    char *lines = NULL;
    size_t bytes = 0;
    FILE *all = open_memstream(&lines, &bytes);
    if (!all)
        abort();
    for (size_t i = 0; i < view->n; i++) {
        const char *repro = report_text(view->records[i], NULL, "repro");
        bool seen = !*repro;
        for (size_t j = 0; j < i && !seen; j++)
            seen = strcmp(report_text(view->records[j], NULL, "repro"), repro) == 0;
        if (!seen)
            fprintf(all, "%s\n", repro);
    }
    fclose(all);
    page_heading(p, 3, NULL, "To measure it again");
    page_command(p, "%s", lines);
    free(lines);
}

static void write_one_machine(const anemo_report *report, const char *machine, page *p) {
    report_view view = {report, calloc(report->n, sizeof *view.records), 0};
    if (!view.records)
        abort();
    for (size_t i = 0; i < report->n; i++)
        if (strcmp(report_text(report->records[i], "machine", "id"), machine) == 0)
            view.records[view.n++] = report->records[i];
    write_machine(&view, p);
    report_cost(&view, p);
    report_models(&view, p);
    report_accuracy(&view, p);
    report_kernels(&view, p);
    write_validity(&view, p);
    write_unmeasured(&view, p);
    write_repro(&view, p);
    free(view.records);
}

/* ---------------------------------------------------------------- the page */

static bool all_demo(const anemo_report *report) {
    bool any = false;
    for (size_t i = 0; i < report->n; i++) {
        bool demo = anemo_record_get_flag(report->records[i], NULL, "demo");
        bool model =
            report_is(report->records[i], "model") || report_is(report->records[i], "eval");
        if (model && !demo && !anemo_record_get_flag(report->records[i], "case", "composed"))
            return false;
        any = any || demo;
    }
    return any;
}

const char *anemo_report_mark(const anemo_report *report) {
    if (report->cost)
        return report->cost->s->example ? "EXAMPLE: made-up figures" : NULL;
    return all_demo(report) ? "DEMO: the embedded model, no basis for buying anything" : NULL;
}

static void write_inputs(const anemo_report *report, page *p) {
    anemo_table *table = anemo_table_create("inputs_read", "What this page was made from");
    anemo_table_column(table, "file", "file");
    anemo_table_column(table, "records", "records");
    anemo_table_column(table, "sha256", "SHA-256");
    for (size_t i = 0; i < report->n_inputs; i++) {
        const report_input *in = &report->input[i];
        anemo_table_text(table, "%s", in->path);
        if (in->records < 0)
            anemo_table_text(table, "scenario");
        else
            anemo_table_text(table, "%" PRId64, in->records);
        anemo_table_text(table, "%s", in->sha256);
    }
    page_heading(p, 2, "sources", "Sources");
    page_table(p, table);
    if (report->repro) {
        page_text(p, "This page again, from the same files, with anemo %s:", ANEMO_VERSION);
        page_command(p, "%s", report->repro);
    }
}

/* Record identities, so that a figure can be found again in the files. */
static void write_identities(const anemo_report *report, page *p) {
    char *lines = NULL;
    size_t bytes = 0;
    FILE *all = open_memstream(&lines, &bytes);
    if (!all)
        abort();
    for (size_t i = 0; i < report->n; i++)
        fprintf(all, "%s%s", report_text(report->records[i], NULL, "id"), (i + 1) % 8 ? " " : "\n");
    fclose(all);
    if (report->n > 0) {
        page_heading(p, 3, NULL, "Records used, by id");
        page_command(p, "%s", lines);
    }
    free(lines);
}

static void write_records(const anemo_report *report, page *p) {
    const char *first = NULL, *last = NULL;
    for (size_t i = 0; i < report->n; i++) { /* ISO times sort as text */
        const char *time = report_text(report->records[i], NULL, "time");
        first = !first || strcmp(time, first) < 0 ? time : first;
        last = !last || strcmp(time, last) > 0 ? time : last;
    }
    char older[80] = "";
    if (report->older)
        snprintf(older, sizeof older, "; %zu older ones of the same cases are not shown",
                 report->older);
    page_text(
        p,
        "%zu records from %s to %s%s. %sAn interval in brackets is the one named in the record "
        "(95 %%). Medians, never means.",
        report->n, first, last, older, report->remarks);
    for (size_t i = 0; i < report->n; i++) {
        const char *machine = report_text(report->records[i], "machine", "id");
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = strcmp(report_text(report->records[j], "machine", "id"), machine) == 0;
        if (!seen)
            write_one_machine(report, machine, p);
    }
}

int32_t anemo_report_write(const anemo_report *report, page_form form, FILE *out) {
    page p = {.out = out, .form = form, .mark = anemo_report_mark(report)};
    char title[200];
    snprintf(title, sizeof title, "anemo report%s%s", report->cost ? ": " : "",
             report->cost ? report->cost->s->name : "");
    page_begin(&p, title);
    page_links(&p, (const char *const[]){"decision", "Decision", "evidence", "Evidence", "records",
                                         "Records", "sources", "Sources",
                                         report->cost ? "scenario" : NULL, "Scenario", NULL});
    report_first_page(report, &p);
    page_heading(&p, 2, "evidence", "Evidence");
    for (int32_t i = 1; figure_at(i); i++) /* the first one stands on the first page */
        page_figure(&p, figure_at(i), report);
    if (report->cost)
        report_scenario(report, &p);
    page_heading(&p, 2, "records", "Records");
    if (report->n > 0)
        write_records(report, &p);
    else
        page_text(&p, "None were given. What was measured stands in the scenario's own files.");
    write_inputs(report, &p);
    write_identities(report, &p);
    page_end(&p);
    return p.placeholders;
}
