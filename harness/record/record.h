/* Records: JSON Lines, one object per case x variant x run, append-only (DESIGN section 5).
 *
 * A record is built field by field and written at once: one write(2) of one whole line, so that a
 * killed run or a full disk leaves every finished record readable and nothing half-written.
 * fields.inc is the one list of what a record may contain; writing a field that is not in it is an
 * error, and reading refuses unknown schema versions. */
#ifndef ANEMO_RECORD_H
#define ANEMO_RECORD_H

#include "kernels/kernel.h"

typedef enum anemo_record_kind {
    ANEMO_RECORD_KERNEL,
    ANEMO_RECORD_MODEL,
    ANEMO_RECORD_ENDPOINT,
    ANEMO_RECORD_EVAL,
    ANEMO_RECORD_PROBE
} anemo_record_kind;

typedef struct anemo_record anemo_record;

/* Fills in schema_version, id, time, machine and build. */
anemo_record *anemo_record_create(anemo_record_kind kind);
void anemo_record_free(anemo_record *record);

/* section: "case", "solution" or NULL for the top level ("status", "repro", "demo"). */
void anemo_record_text(anemo_record *record, const char *section, const char *key,
                       const char *value);
void anemo_record_number(anemo_record *record, const char *section, const char *key, double value);
void anemo_record_integer(anemo_record *record, const char *section, const char *key,
                          int64_t value);
void anemo_record_flag(anemo_record *record, const char *section, const char *key, bool value);

/* lo, hi: interval of the value (equal to it when there is none); n: samples behind it. NaN is
 * refused at write. */
void anemo_record_metric(anemo_record *record, const char *name, const char *unit,
                         bool lower_is_better, double value, double lo, double hi, int64_t n);
/* A reason makes the verdict WEAK, an invalidating one INVALID; without any it is VALID. */
void anemo_record_reason(anemo_record *record, const char *code, bool invalidates);

/* Where records go. path NULL: nowhere. The file is made when missing; parents too. */
typedef struct anemo_record_sink anemo_record_sink;
anemo_status anemo_record_sink_open(const char *path, anemo_record_sink **out, anemo_error *err);
anemo_status anemo_record_sink_close(anemo_record_sink *sink, anemo_error *err);
/* Appends one line; a short write (full disk) is undone by truncation to the line before. */
anemo_status anemo_record_write(anemo_record_sink *sink, const anemo_record *record,
                                anemo_error *err);

#endif
