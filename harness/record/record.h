/* Records: JSON Lines, one object per case x variant x run, append-only (DESIGN section 5).
 *
 * A record is built field by field and written at once: one write(2) of one whole line, so that a
 * killed run or a full disk leaves every finished record readable and nothing half-written.
 * fields.inc is the one list of what a record may contain; writing a field that is not in it is an
 * error, and reading refuses unknown schema versions.
 *
 *     {"schema_version": 1, "id": "9f...", "time": "2026-11-22T10:00:00.123Z", "kind": "kernel",
 *      "status": "passed", "case": {...}, "solution": {...}, "sampling": {...},
 *      "metrics": [{"name": "time", "unit": "s", "better": "lower", "value": 1e-3, "lo": 9e-4,
 *                   "hi": 1.1e-3, "n": 25, "samples": [...]}, ...],
 *      "validity": {"verdict": "WEAK", "reasons": ["one-occasion"]},
 *      "machine": {...}, "build": {...}, "repro": "anemo bench kernel ..."} */
#ifndef ANEMO_RECORD_H
#define ANEMO_RECORD_H

#include "kernels/device.h"
#include "kernels/kernel.h"

#define ANEMO_RECORD_SCHEMA 1

typedef enum anemo_record_kind {
    ANEMO_RECORD_KERNEL,
    ANEMO_RECORD_MODEL,
    ANEMO_RECORD_ENDPOINT,
    ANEMO_RECORD_EVAL,
    ANEMO_RECORD_PROBE
} anemo_record_kind;
const char *anemo_record_kind_name(anemo_record_kind kind); /* "kernel" */

typedef struct anemo_record anemo_record;

/* ---------------------------------------------------------------- building */

/* Fills in schema_version, id, time, machine and build. NULL when there is no memory; the functions
 * below then do nothing, and writing says so. */
anemo_record *anemo_record_create(anemo_record_kind kind);
void anemo_record_free(anemo_record *record);

/* section: "case", "solution", "sampling", "machine", or NULL for the top level ("status", "why",
 * "repro", "demo"). A wrong section, key or type is remembered and refused at write. NULL and ""
 * leave a text out: absent is not empty. `status` must be set: "passed", or "incorrect",
 * "unsupported", "skipped", "failed" with a `why` and without metrics. */
void anemo_record_text(anemo_record *record, const char *section, const char *key,
                       const char *value);
void anemo_record_number(anemo_record *record, const char *section, const char *key, double value);
void anemo_record_integer(anemo_record *record, const char *section, const char *key,
                          int64_t value);
void anemo_record_flag(anemo_record *record, const char *section, const char *key, bool value);

/* What the case ran on: solution.backend, machine.device and, on a GPU, its capability. */
void anemo_record_device(anemo_record *record, anemo_device *device);

/* lo, hi: interval of the value (equal to it when there is none); n: samples behind it. NaN is
 * refused at write. SI units: "s", "token/s", "byte/s", "1". */
void anemo_record_metric(anemo_record *record, const char *name, const char *unit,
                         bool lower_is_better, double value, double lo, double hi, int64_t n);
/* Raw samples of the metric added last. Written to a file, they go to one beside it: NAME.samples
 * for NAME.jsonl, JSON Lines of {schema_version, id, metric, unit, samples, noise}; the metric then
 * holds "samples_file" and "samples_sha256", the hash of that line. */
void anemo_record_samples(anemo_record *record, const double *samples, size_t n);
/* What was noted beside each of those samples, in their order: goes to the same line, as noise.KEY.
 * NaN: not told there (null in the file). n must be that of the samples. */
void anemo_record_sample_noise(anemo_record *record, const char *key, const double *values,
                               size_t n);
/* A reason makes the verdict WEAK, an invalidating one INVALID; without any it is VALID. A code
 * comes once however often it is given. */
void anemo_record_reason(anemo_record *record, const char *code, bool invalidates);

/* ---------------------------------------------------------------- writing */

/* Where records go. path NULL: nowhere. The file is made when missing; parents too. A file that is
 * not one of records is refused; a last line that a crash has torn is cut off. */
typedef struct anemo_record_sink anemo_record_sink;
anemo_status anemo_record_sink_open(const char *path, anemo_record_sink **out, anemo_error *err);
anemo_status anemo_record_sink_close(anemo_record_sink *sink, anemo_error *err);
const char *anemo_record_sink_path(const anemo_record_sink *sink); /* NULL: nowhere */
int64_t anemo_record_sink_count(const anemo_record_sink *sink);    /* records written */
/* Appends one line; a short write (full disk) is undone by truncation to the line before. The
 * record is checked even when the sink goes nowhere. */
anemo_status anemo_record_write(anemo_record_sink *sink, const anemo_record *record,
                                anemo_error *err);

/* ---------------------------------------------------------------- reading */

typedef struct anemo_metric {
    const char *name, *unit;
    bool lower_is_better;
    double value, lo, hi;
    int64_t n;
} anemo_metric;

/* false stops the reading (not an error). The record is the reader's; it ends with the call unless
 * it is kept. */
typedef bool (*anemo_record_visitor)(void *ctx, anemo_record *record);

typedef struct anemo_record_read_report {
    int64_t records;
    int64_t torn_line; /* 1-based number of an unfinished last line, which is left out; 0 = none */
} anemo_record_read_report;

/* Reads a file of records in order. ANEMO_E_INPUT "FILE:LINE: ...": not JSON, no record, another
 * schema version, a field of the wrong type. Unknown fields are passed over. */
anemo_status anemo_record_read(const char *path, anemo_record_visitor visit, void *ctx,
                               anemo_record_read_report *report, anemo_error *err);
/* Keeps a record beyond the visit; anemo_record_free gives it back. */
anemo_record *anemo_record_keep(anemo_record *record);

/* section as above, or "build" or "validity"; NULL, NAN and -1 when absent. */
const char *anemo_record_get_text(const anemo_record *record, const char *section, const char *key);
double anemo_record_get_number(const anemo_record *record, const char *section, const char *key);
int64_t anemo_record_get_integer(const anemo_record *record, const char *section, const char *key);
bool anemo_record_get_flag(const anemo_record *record, const char *section, const char *key);
const char *anemo_record_get_reason(const anemo_record *record, size_t index); /* NULL at the end */
bool anemo_record_get_metric(const anemo_record *record, size_t index, anemo_metric *metric);
bool anemo_record_find_metric(const anemo_record *record, const char *name, anemo_metric *metric);
/* Raw samples of a metric, in its unit: *samples[*n], free it; *n 0 and NULL: none were kept, or
 * the file that holds them is not beside the record's. ANEMO_E_INPUT: they are not those of the
 * record's hash. */
anemo_status anemo_record_get_samples(const anemo_record *record, size_t index, double **samples,
                                      int64_t *n, anemo_error *err);

#endif
