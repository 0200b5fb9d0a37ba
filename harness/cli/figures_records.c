/* The queries of figures about records. See figure.h. */
#include "harness/cli/figure.h"
#include "harness/cli/money.h"
#include "harness/cli/report_internal.h"
#include "models/engine.h"

#include <math.h>
#include <string.h>

static bool several_machines(const anemo_report *report) {
    for (size_t i = 1; i < report->n; i++)
        if (strcmp(report_text(report->records[i], "machine", "id"),
                   report_text(report->records[0], "machine", "id")) != 0)
            return true;
    return false;
}

static bool usable(const anemo_record *r, const char *kind) {
    return report_is(r, kind) && report_passed(r) &&
           strcmp(report_text(r, "validity", "verdict"), "INVALID") != 0;
}

static double value_of(const anemo_record *r, const char *metric) {
    anemo_metric m;
    return anemo_record_find_metric(r, metric, &m) ? m.value : NAN;
}

/* ---------------------------------------------------------------- latency against throughput */

void figure_query_latency(const anemo_report *report, figure_data *d) {
    bool machines = several_machines(report);
    anemo_money_columns(d->table,
                        (const char *const[]){"what", "model, form, sessions", "rate", "token/s",
                                              "tpot", "TPOT, ms", "lo", "from", "hi", "to", NULL});
    for (size_t i = 0; i < report->n; i++) {
        const anemo_record *r = report->records[i];
        anemo_metric tpot;
        double rate = value_of(r, "throughput");
        if (!usable(r, "model") || !anemo_record_find_metric(r, "tpot", &tpot) || isnan(rate))
            continue;
        const char *model = report_text(r, "case", "model"), *slash = strrchr(model, '/');
        figure_label(d->table, "%s %s x%lld%s%s%s", slash ? slash + 1 : model,
                     report_text(r, "solution", "weights"),
                     (long long)anemo_record_get_integer(r, "case", "batch"),
                     anemo_record_get_flag(r, "case", "composed") ? " composed" : "",
                     machines ? " on " : "", machines ? report_text(r, "machine", "id") : "");
        anemo_table_number(d->table, rate, "%.2f");
        anemo_table_number(d->table, 1e3 * tpot.value, "%.3f");
        anemo_table_number(d->table, 1e3 * tpot.lo, "%.3f");
        anemo_table_number(d->table, 1e3 * tpot.hi, "%.3f");
    }
    if (anemo_table_rows(d->table) > 0)
        snprintf(d->described, sizeof d->described,
                 "Lower right is better. %d point%s; each says model, form of the weights and how "
                 "many sessions decode together. Bars: the records' intervals.",
                 anemo_table_rows(d->table), anemo_table_rows(d->table) > 1 ? "s" : "");
}

/* ---------------------------------------------------------------- ledger */

static double class_time(const anemo_record *r, int class) {
    char metric[48];
    snprintf(metric, sizeof metric, "ledger/%s", anemo_phase_class_name((anemo_phase_class) class));
    double seconds = usable(r, "model") ? value_of(r, metric) : NAN;
    return isnan(seconds) ? 0 : seconds;
}

static bool has_ledger(const anemo_record *r) {
    return usable(r, "model") && value_of(r, "ledger_time") > 0 &&
           !isnan(value_of(r, "unattributed"));
}

/* Only the classes that ran: columns of zeros would be a longer legend and nothing else. */
static int32_t ledger_classes(const anemo_report *report, int32_t *class) {
    int32_t n = 0;
    for (int32_t c = 0; c < ANEMO_PHASE_CLASS_COUNT; c++)
        for (size_t i = 0; i < report->n; i++)
            if (has_ledger(report->records[i]) && class_time(report->records[i], c) > 0) {
                class[n++] = c;
                break;
            }
    return n;
}

/* One row for each step that was taken apart; a column for each class of calls, in milliseconds. */
void figure_query_ledger(const anemo_report *report, figure_data *d) {
    bool machines = several_machines(report);
    int32_t class[ANEMO_PHASE_CLASS_COUNT], n = ledger_classes(report, class);
    anemo_table_column(d->table, "what", "step");
    anemo_table_column(d->table, "step", "median of the step, ms");
    for (int32_t c = 0; c < n; c++) {
        const char *name = anemo_phase_class_name((anemo_phase_class) class[c]);
        anemo_table_column(d->table, name, name);
    }
    anemo_table_column(d->table, "unattributed", "unattributed");
    for (size_t i = 0; i < report->n; i++) {
        const anemo_record *r = report->records[i];
        if (!has_ledger(r))
            continue;
        const char *name = strstr(report_text(r, "case", "name"), "/ledger/");
        name = name ? name + strlen("/ledger/") : report_text(r, "case", "name");
        const char *model = report_text(r, "case", "model"), *slash = strrchr(model, '/');
        figure_label(d->table, "%s %.*s %s x%lld%s%s", slash ? slash + 1 : model,
                     (int)strcspn(name, "/"), name, report_text(r, "solution", "weights"),
                     (long long)anemo_record_get_integer(r, "case", "batch"),
                     machines ? " on " : "", machines ? report_text(r, "machine", "id") : "");
        anemo_table_number(d->table, 1e3 * value_of(r, "ledger_time"), "%.4f");
        for (int32_t c = 0; c < n; c++)
            anemo_table_number(d->table, 1e3 * class_time(r, class[c]), "%.4f");
        anemo_table_number(d->table, 1e3 * value_of(r, "unattributed") * value_of(r, "ledger_time"),
                           "%.4f");
    }
    int rows = anemo_table_rows(d->table);
    if (rows > 0)
        snprintf(
            d->described, sizeof d->described,
            "Milliseconds of %d step%s by class of calls; unattributed lies between calls. Each "
            "is a median of its own, so a bar need not reach the median of the step, the "
            "cross; where it is far off, the machine was not steady. Measured with the "
            "ledger, without which the headline times are.",
            rows, rows > 1 ? "s" : "");
}

/* ---------------------------------------------------------------- roofline */

static bool is_yardstick(const anemo_record *r) {
    return strstr(report_text(r, "solution", "variant"), "blas") != NULL;
}

static bool same_case(const anemo_record *a, const anemo_record *b) {
    return strcmp(report_text(a, "case", "name"), report_text(b, "case", "name")) == 0 &&
           strcmp(report_text(a, "machine", "id"), report_text(b, "machine", "id")) == 0;
}

static bool has_roof(const anemo_record *r) {
    return usable(r, "kernel") && value_of(r, "arithmetic") > 0 && value_of(r, "bandwidth") > 0 &&
           value_of(r, "roof_fraction") > 0;
}

/* The fastest of r's case among yardsticks, or among the others. */
static const anemo_record *fastest(const anemo_report *report, const anemo_record *r,
                                   bool yardstick) {
    const anemo_record *best = NULL;
    for (size_t i = 0; i < report->n; i++) {
        const anemo_record *x = report->records[i];
        if (has_roof(x) && same_case(x, r) && is_yardstick(x) == yardstick &&
            (!best || value_of(x, "time") < value_of(best, "time")))
            best = x;
    }
    return best;
}

/* The highest arithmetic peak that was probed beside the record. */
static double peak_of(const anemo_record *r) {
    double peak = NAN;
    anemo_metric m;
    for (size_t i = 0; anemo_record_get_metric(r, i, &m); i++)
        if (strncmp(m.name, "ceiling_", 8) == 0 && strcmp(m.unit, "op/s") == 0)
            peak = isnan(peak) ? m.value : fmax(peak, m.value);
    return peak;
}

void figure_query_roofline(const anemo_report *report, figure_data *d) {
    anemo_money_columns(d->table, (const char *const[]){
                                      "case", "case", "variant", "best variant", "intensity",
                                      "operations per byte", "best", "best, Gop/s", "yardstick",
                                      "BLAS, Gop/s", "roof", "roof of the case, Gop/s", "read_roof",
                                      "read, GB/s", "peak_roof", "peak, Gop/s", NULL});
    for (size_t i = 0; i < report->n; i++) {
        const anemo_record *r = report->records[i];
        if (!has_roof(r) || fastest(report, r, false) != r)
            continue;
        const anemo_record *blas = fastest(report, r, true);
        double rate = value_of(r, "arithmetic") / 1e9;
        figure_label(d->table, "%s", report_text(r, "case", "name"));
        figure_label(d->table, "%s", report_text(r, "solution", "variant"));
        anemo_table_number(d->table, value_of(r, "arithmetic") / value_of(r, "bandwidth"), "%.3g");
        anemo_table_number(d->table, rate, "%.4g");
        anemo_table_number(d->table, blas ? value_of(blas, "arithmetic") / 1e9 : NAN, "%.4g");
        anemo_table_number(d->table, rate / value_of(r, "roof_fraction"), "%.4g");
        anemo_table_number(d->table, value_of(r, "ceiling_read") / 1e9, "%.4g");
        anemo_table_number(d->table, peak_of(r) / 1e9, "%.4g");
    }
    if (anemo_table_rows(d->table) > 0)
        snprintf(
            d->described, sizeof d->described,
            "%d cases. A point on its cross does all that this machine can do for it; the roof "
            "is that of this machine's own probes, run beside the samples. Bytes are those of "
            "the file's form of the weights.",
            anemo_table_rows(d->table));
}

/* ---------------------------------------------------------------- accuracy against cost */

/* The decode speed of this model in this form: of several batches the one with the most tokens/s.
 */
static const anemo_record *speed_of(const anemo_report *report, const anemo_record *score) {
    const anemo_record *best = NULL;
    for (size_t i = 0; i < report->n; i++) {
        const anemo_record *r = report->records[i];
        if (usable(r, "model") && value_of(r, "throughput") > 0 &&
            strcmp(report_text(r, "case", "model"), report_text(score, "case", "model")) == 0 &&
            strcmp(report_text(r, "solution", "weights"),
                   report_text(score, "solution", "weights")) == 0 &&
            (!best || value_of(r, "throughput") > value_of(best, "throughput")))
            best = r;
    }
    return best;
}

void figure_query_accuracy(const anemo_report *report, figure_data *d) {
    anemo_money_columns(d->table, (const char *const[]){"what", "form", "cost",
                                                        "core-seconds per 1000 tokens", "accuracy",
                                                        "correct, %", "lo", "95 % from", "hi", "to",
                                                        "n", "questions", NULL});
    for (size_t i = 0; i < report->n; i++) {
        const anemo_record *r = report->records[i];
        anemo_metric exact;
        if (!usable(r, "eval") || strcmp(report_text(r, "case", "task_kind"), "all") != 0 ||
            !anemo_record_find_metric(r, "exact", &exact))
            continue;
        const anemo_record *speed = speed_of(report, r);
        if (!speed)
            continue;
        double cores = (double)anemo_record_get_integer(speed, "machine", "device_threads");
        figure_label(d->table, "%s", report_text(r, "solution", "weights"));
        anemo_table_number(d->table, cores * 1e3 / value_of(speed, "throughput"), "%.4g");
        anemo_table_number(d->table, 100 * exact.value, "%.1f");
        anemo_table_number(d->table, 100 * exact.lo, "%.1f");
        anemo_table_number(d->table, 100 * exact.hi, "%.1f");
        anemo_table_number(d->table, (double)exact.n, "%.0f");
    }
    if (anemo_table_rows(d->table) > 0)
        snprintf(
            d->described, sizeof d->described,
            "Upper left is better: exact answers against the machine time of a thousand "
            "generated tokens at the most sessions that were measured. Forms whose speed was not "
            "measured are left out; paired differences stand under Accuracy.");
}
