/* The JSON of google/benchmark (json_schema_version 1), as its tools/compare.py reads it: every raw
 * sample is one repetition of a benchmark, and the median an aggregate. The name is the case and
 * the variant that ran.
 *
 * The form demands a CPU time beside every real time. anemo measures none, so cpu_time repeats
 * real_time, and the context says so ("anemo_cpu_time"). One file has one context, so the records
 * must come from one machine. */
#include "harness/record/export_internal.h"

#include <stdlib.h>
#include <string.h>

static json_t *context_of(const anemo_record *record) {
    const char *governor = export_text(record, "machine", "governor");
    const double hz = anemo_record_get_number(record, "sampling", "frequency_hz");
    const char *type = export_text(record, "build", "type");
    json_t *context = json_pack(
        "{s:s, s:s, s:s, s:I, s:[], s:s, s:s, s:i, s:s}", "date", export_text(record, NULL, "time"),
        "host_name", export_text(record, "machine", "id"), "executable", "anemo", "num_cpus",
        (json_int_t)export_integer(record, "machine", "threads"), "caches", "library_version",
        export_text(record, "build", "version"), "library_build_type",
        strcmp(type, "Debug") == 0 ? "debug" : "release", "json_schema_version", 1,
        "anemo_cpu_time", "not measured: cpu_time repeats real_time");
    if (context && hz > 0) { /* absent is not zero */
        json_object_set_new(context, "mhz_per_cpu", json_integer((json_int_t)(hz * 1e-6 + 0.5)));
    }
    if (context && *governor) {
        json_object_set_new(context, "cpu_scaling_enabled",
                            json_boolean(strcmp(governor, "performance") != 0));
    }
    return context;
}

static json_t *name_of(const anemo_record *record) {
    const char *variant = export_text(record, "solution", "variant");
    return json_sprintf("%s%s%s", export_text(record, "case", "name"), *variant ? "/" : "",
                        variant);
}

/* One entry: a repetition (index >= 0), or the median of n of them. */
static json_t *entry_of(const anemo_record *record, int64_t index, int64_t n, double ns,
                        int64_t family) {
    json_t *run_name = name_of(record);
    const char *name = json_string_value(run_name);
    const int64_t calls = export_integer(record, "sampling", "calls_per_sample");
    json_t *entry =
        json_pack("{s:o, s:I, s:i, s:O, s:s, s:I, s:I}", "name",
                  json_sprintf(index < 0 ? "%s_median" : "%s", name ? name : ""), "family_index",
                  (json_int_t)family, "per_family_instance_index", 0, "run_name", run_name,
                  "run_type", index < 0 ? "aggregate" : "iteration", "repetitions", (json_int_t)n,
                  "threads", (json_int_t)export_integer(record, "machine", "device_threads"));
    json_decref(run_name);
    if (entry && index < 0) {
        json_object_set_new(entry, "aggregate_name", json_string("median"));
        json_object_set_new(entry, "aggregate_unit", json_string("time"));
    } else if (entry) {
        json_object_set_new(entry, "repetition_index", json_integer(index));
    }
    if (entry) {
        json_object_set_new(entry, "iterations", json_integer(index < 0 ? n : calls ? calls : 1));
        json_object_set_new(entry, "real_time", json_real(ns));
        json_object_set_new(entry, "cpu_time", json_real(ns));
        json_object_set_new(entry, "time_unit", json_string("ns"));
    }
    return entry;
}

static anemo_status visit(const anemo_record *record, json_t *list, anemo_export_report *report,
                          anemo_error *err) {
    anemo_metric time;
    double *samples;
    int64_t n;
    if (!export_passed(record) || !anemo_record_find_metric(record, "time", &time)) {
        export_leave_out(report, record, "it has no time");
        return ANEMO_OK;
    }
    const anemo_status status = export_samples(record, "time", &samples, &n, err);
    if (status || n == 0) {
        export_leave_out(report, record, "its raw samples are not here");
        return status;
    }
    bool good = true;
    for (int64_t i = 0; good && i < n; i++) {
        good = json_array_append_new(
                   list, entry_of(record, i, n, samples[i] * 1e9, report->exported)) == 0;
    }
    good = good && json_array_append_new(
                       list, entry_of(record, -1, n, time.value * 1e9, report->exported)) == 0;
    free(samples);
    return good ? ANEMO_OK
                : anemo_fail(err, ANEMO_E_MEMORY, "no memory for the export of %.160s",
                             export_text(record, "case", "name"));
}

anemo_status anemo_export_google_benchmark(anemo_record *const *records, int64_t n, FILE *out,
                                           anemo_export_report *report, anemo_error *err) {
    json_t *list;
    for (int64_t i = 1; i < n; i++) {
        const char *first = export_text(records[0], "machine", "id");
        const char *other = export_text(records[i], "machine", "id");
        if (strcmp(first, other) != 0) {
            return anemo_fail(err, ANEMO_E_INPUT,
                              "records of the machines %.80s and %.80s: a google-benchmark file is "
                              "of one machine",
                              first, other);
        }
    }
    const anemo_status status =
        export_list(records, n, "google-benchmark", visit, &list, report, err);
    return status ? status
                  : export_write(json_pack("{s:o, s:o}", "context", context_of(records[0]),
                                           "benchmarks", list),
                                 out, err);
}
