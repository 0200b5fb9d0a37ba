/* Reading records for a report, and its frame: machine, validity, what was not measured. See
 * report.h; the tables of kernels, models, accuracy and cost are in report_tables.c. */
#include "harness/cli/report_internal.h"

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

void report_print(anemo_table *table, FILE *out) {
    const anemo_table *const one = table;
    if (anemo_table_rows(table) > 0) {
        anemo_table_print(&one, 1, ANEMO_FORMAT_MD, out);
        fputc('\n', out);
    }
    anemo_table_free(table);
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

static anemo_status read_file(anemo_report *report, const char *path, anemo_error *err) {
    anemo_record_read_report read;
    anemo_status status = anemo_record_read(path, add_record, report, &read, err);
    size_t used = strlen(report->remarks);
    if (status == ANEMO_OK && read.torn_line)
        snprintf(report->remarks + used, sizeof report->remarks - used,
                 "%s:%" PRId64 " is an unfinished line and was left out. ", path, read.torn_line);
    return status;
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

anemo_status anemo_report_read(anemo_report *report, const char *path, anemo_error *err) {
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return read_folder(report, path, 0, err);
    return read_file(report, path, err);
}

void anemo_report_free(anemo_report *report) {
    for (size_t i = 0; i < report->n; i++)
        anemo_record_free(report->records[i]);
    free(report->records);
    *report = (anemo_report){0};
}

/* ---------------------------------------------------------------- the frame */

static void write_machine(const report_view *view, FILE *out) {
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
    anemo_table *table = anemo_table_create("machine", NULL);
    anemo_table_column(table, "what", "machine");
    anemo_table_column(table, "value", report_text(last, "machine", "id"));
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
    report_print(table, out);
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
        {"composed", "added up from measured layers, not measured whole"},
    };
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (strcmp(code, meanings[i][0]) == 0)
            return meanings[i][1];
    return "-";
}

#define REASONS_MAX 64

static void write_validity(const report_view *view, FILE *out) {
    static const char *const verdicts[] = {"VALID", "WEAK", "INVALID"};
    const char *codes[REASONS_MAX];
    int verdict_count[3] = {0}, count[REASONS_MAX] = {0}, n = 0, unmeasured = 0;
    for (size_t i = 0; i < view->n; i++) {
        const char *reason;
        if (!report_passed(view->records[i])) {
            unmeasured++;
            continue;
        }
        for (int v = 0; v < 3; v++)
            verdict_count[v] +=
                strcmp(report_text(view->records[i], "validity", "verdict"), verdicts[v]) == 0;
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
    fprintf(out, "## Validity\n\n%d valid, %d weak, %d invalid; %d not measured.\n\n",
            verdict_count[0], verdict_count[1], verdict_count[2], unmeasured);
    anemo_table *table = anemo_table_create("reasons", NULL);
    anemo_table_column(table, "reason", "reason");
    anemo_table_column(table, "records", "records");
    anemo_table_column(table, "meaning", "meaning");
    for (int i = 0; i < n; i++) {
        anemo_table_text(table, "%s", codes[i]);
        anemo_table_number(table, count[i], "%.0f");
        anemo_table_text(table, "%s", reason_meaning(codes[i]));
    }
    report_print(table, out);
}

static void write_unmeasured(const report_view *view, FILE *out) {
    anemo_table *table = anemo_table_create("not_measured", NULL);
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
    fputs("## Not measured, and what disturbed, with the reasons\n\n", out);
    if (anemo_table_rows(table) == 0)
        fputs("Nothing was left out by these records.\n\n", out);
    report_print(table, out);
}

/* Each command once. */
static void write_repro(const report_view *view, FILE *out) {
    fputs("## To measure it again\n\n", out);
    for (size_t i = 0; i < view->n; i++) {
        const char *repro = report_text(view->records[i], NULL, "repro");
        bool seen = !*repro;
        for (size_t j = 0; j < i && !seen; j++)
            seen = strcmp(report_text(view->records[j], NULL, "repro"), repro) == 0;
        if (!seen)
            fprintf(out, "    %s\n", repro);
    }
    fputc('\n', out);
}

static void write_one_machine(const anemo_report *report, const char *machine, FILE *out) {
    report_view view = {report, calloc(report->n, sizeof *view.records), 0};
    if (!view.records)
        abort();
    for (size_t i = 0; i < report->n; i++)
        if (strcmp(report_text(report->records[i], "machine", "id"), machine) == 0)
            view.records[view.n++] = report->records[i];
    write_machine(&view, out);
    report_cost(&view, out);
    report_models(&view, out);
    report_accuracy(&view, out);
    report_kernels(&view, out);
    write_validity(&view, out);
    write_unmeasured(&view, out);
    write_repro(&view, out);
    free(view.records);
}

void anemo_report_write(const anemo_report *report, FILE *out) {
    const char *first = NULL, *last = NULL;
    for (size_t i = 0; i < report->n; i++) { /* ISO times sort as text */
        const char *time = report_text(report->records[i], NULL, "time");
        first = !first || strcmp(time, first) < 0 ? time : first;
        last = !last || strcmp(time, last) > 0 ? time : last;
    }
    fprintf(out, "# anemo report\n\n%zu records", report->n);
    if (report->n)
        fprintf(out, " from %s to %s", first, last);
    if (report->older)
        fprintf(out, "; %zu older ones of the same cases are not shown", report->older);
    fprintf(out,
            ". %s\n\nAn interval in brackets is the one named in the record (95 %%). Medians, "
            "never means.\n\n",
            report->remarks);
    for (size_t i = 0; i < report->n; i++) {
        const char *machine = report_text(report->records[i], "machine", "id");
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = strcmp(report_text(report->records[j], "machine", "id"), machine) == 0;
        if (!seen)
            write_one_machine(report, machine, out);
    }
}
