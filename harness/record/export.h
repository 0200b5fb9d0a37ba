/* Records in the forms of other tools, so that their readers, dashboards and scripts can be used on
 * them. A form says less than a record does: what it has no place for is left out and counted, and
 * what it demands and nobody measured is said in head essays of the files.
 *
 *   llama-bench        `llama-bench -o json` of llama.cpp: prefill, and decode of one session
 *   google-benchmark   the JSON that tools/compare.py of google/benchmark reads: whatever has raw
 *                      samples of a time; each is a repetition
 *   JUnit              a test case for each record */
#ifndef ANEMO_EXPORT_H
#define ANEMO_EXPORT_H

#include "harness/record/record.h"

#include <stdio.h>

typedef struct anemo_export_report {
    int64_t exported, left_out;
    char why[240]; /* of the first that was left out */
} anemo_export_report;

/* ANEMO_E_INPUT: no record has this form, or they do not go into one file; nothing was written. */
typedef anemo_status (*anemo_exporter)(anemo_record *const *records, int64_t n, FILE *out,
                                       anemo_export_report *report, anemo_error *err);

anemo_status anemo_export_llama_bench(anemo_record *const *records, int64_t n, FILE *out,
                                      anemo_export_report *report, anemo_error *err);
anemo_status anemo_export_google_benchmark(anemo_record *const *records, int64_t n, FILE *out,
                                           anemo_export_report *report, anemo_error *err);
anemo_status anemo_export_junit(anemo_record *const *records, int64_t n, FILE *out,
                                anemo_export_report *report, anemo_error *err);

#endif
