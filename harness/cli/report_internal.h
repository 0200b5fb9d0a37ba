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

void report_kernels(const report_view *view, page *p);
void report_models(const report_view *view, page *p);
void report_accuracy(const report_view *view, page *p);
void report_cost(const report_view *view, page *p);
/* What may be lost: the scenario's rule.margin, else the default. */
double report_margin(const anemo_report *report);
/* "non-inferior", "inferior" or "open" of a paired difference of shares against that margin. */
const char *report_non_inferior(const anemo_metric *difference, double margin);
/* Each paired difference of exact answers in a clause, for the first page; "" without any. */
void report_paired(const anemo_report *report, char *text, size_t text_bytes);
/* The whole file and a 0 behind it, from malloc; NULL when it cannot be read or is empty. */
char *report_file(const char *path, size_t *n_bytes);

/* The first page, and the evidence about the scenario. */
void report_first_page(const anemo_report *report, page *p);
void report_first_records(const anemo_report *report, page *p); /* without a scenario */
const char *report_amount(double amount, char text[32]);        /* "-1,234,567" */
void report_scenario(const anemo_report *report, page *p);
/* VALID, WEAK, INVALID records, and what was not measured. */
typedef struct report_counts {
    int verdict[3], unmeasured;
} report_counts;
report_counts report_count(const anemo_record *const *records, size_t n);

#endif
