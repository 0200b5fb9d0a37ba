/* What the exporters share. */
#include "harness/record/export_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *export_text(const anemo_record *record, const char *section, const char *key) {
    const char *text = anemo_record_get_text(record, section, key);
    return text ? text : "";
}

int64_t export_integer(const anemo_record *record, const char *section, const char *key) {
    const int64_t value = anemo_record_get_integer(record, section, key);
    return value < 0 ? 0 : value;
}

bool export_passed(const anemo_record *record) {
    return strcmp(export_text(record, NULL, "status"), "passed") == 0;
}

anemo_status export_samples(const anemo_record *record, const char *metric, double **samples,
                            int64_t *n, anemo_error *err) {
    anemo_metric m;
    *samples = NULL;
    *n = 0;
    for (size_t i = 0; anemo_record_get_metric(record, i, &m); i++) {
        if (strcmp(m.name, metric) == 0) {
            return anemo_record_get_samples(record, i, samples, n, err);
        }
    }
    return ANEMO_OK;
}

void export_leave_out(anemo_export_report *report, const anemo_record *record, const char *why) {
    if (report->left_out++ == 0) {
        snprintf(report->why, sizeof report->why, "%.120s: %s", export_text(record, "case", "name"),
                 why);
    }
}

void export_mean(const double *values, int64_t n, double *mean, double *deviation) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += values[i];
    }
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        squares += (values[i] - *mean) * (values[i] - *mean);
    }
    *deviation = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
}

anemo_status export_list(anemo_record *const *records, int64_t n, const char *tool,
                         export_visitor visit, json_t **list, anemo_export_report *report,
                         anemo_error *err) {
    anemo_status status = ANEMO_OK;
    *list = json_array();
    *report = (anemo_export_report){0};
    for (int64_t i = 0; !status && i < n; i++) {
        const size_t before = json_array_size(*list);
        status = visit(records[i], *list, report, err);
        report->exported += json_array_size(*list) > before;
    }
    if (!status && report->exported == 0) {
        status = anemo_fail(err, ANEMO_E_INPUT, "no record that %s has a form for%s%s", tool,
                            report->left_out ? "; " : "", report->why);
    }
    if (status) {
        json_decref(*list);
        *list = NULL;
    }
    return status;
}

anemo_status export_write(json_t *document, FILE *out, anemo_error *err) {
    if (!document) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the export");
    }
    const bool written = json_dumpf(document, out, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) == 0;
    fputc('\n', out);
    json_decref(document);
    return written ? ANEMO_OK : anemo_fail(err, ANEMO_E_IO, "the export cannot be written");
}
