/* Shared by report*.c only: the sections of one machine's records. */
#ifndef ANEMO_CLI_REPORT_INTERNAL_H
#define ANEMO_CLI_REPORT_INTERNAL_H

#include "harness/cli/report.h"
#include "harness/cli/table.h"

/* Records of one machine. */
typedef struct report_view {
    const anemo_report *report;
    const anemo_record **records;
    size_t n;
} report_view;

/* Is it of this kind and, with passed, worth a table? */
bool report_is(const anemo_record *record, const char *kind);
bool report_passed(const anemo_record *record);
/* The field, or "". */
const char *report_text(const anemo_record *record, const char *section, const char *key);
/* "VALID", "WEAK: one-occasion, noisy" */
void report_verdict(const anemo_record *record, char *text, size_t text_bytes);
void report_print(anemo_table *table, FILE *out); /* prints it unless empty, and frees it */

void report_kernels(const report_view *view, FILE *out);
void report_models(const report_view *view, FILE *out);
void report_accuracy(const report_view *view, FILE *out);
void report_cost(const report_view *view, FILE *out);

#endif
