/* From records to one Markdown page: what was measured on which machine, how far it can be trusted,
 * kernels, models, accuracy, cost, and what was not measured and why. */
#ifndef ANEMO_CLI_REPORT_H
#define ANEMO_CLI_REPORT_H

#include "harness/cost/cost_line.h"
#include "harness/record/record.h"

#include <stdio.h>

typedef struct anemo_report {
    anemo_record *
        *records; /* the newest of each case and solution on each machine, in file order */
    size_t n, capacity;
    size_t older;                       /* records that a newer one replaced */
    char remarks[512];                  /* of the reading: torn lines */
    anemo_cost_assumptions assumptions; /* valid when has_assumptions */
    bool has_assumptions;
} anemo_report;

/* Reads a file of records, or every *.jsonl below a directory. May be called again. */
anemo_status anemo_report_read(anemo_report *report, const char *path, anemo_error *err);
void anemo_report_write(const anemo_report *report, FILE *out);
void anemo_report_free(anemo_report *report);

/* One line for people: "1.52 ms [1.49, 1.60]", the interval only where there is one. */
void anemo_metric_text(const anemo_metric *metric, char *text, size_t text_bytes);
/* "3.31 USD per million generated tokens [3.18, 3.45]", the interval that of the measurement; and
 * "0.48 to 45 with every assumption at its end, most by utilisation". */
void anemo_cost_text(const anemo_cost_line *line, const anemo_cost_assumptions *assumptions,
                     char *text, size_t text_bytes);
void anemo_cost_range_text(const anemo_cost_line *line, const anemo_cost_assumptions *assumptions,
                           char *text, size_t text_bytes);

#endif
