/* From records and a scenario to one page, Markdown or self-contained HTML: the decision on the
 * first page in a fixed order (report_first.c), then the evidence (report_evidence.c): figures,
 * tables, what was measured on which machine, how far it can be trusted, and what was not measured
 * and why. */
#ifndef ANEMO_CLI_REPORT_H
#define ANEMO_CLI_REPORT_H

#include "harness/cli/cost_view.h"
#include "harness/cli/page.h"
#include "harness/cli/size_view.h"
#include "harness/cost/cost_line.h"
#include "harness/record/record.h"

#include <stdio.h>

/* A file that was read. */
typedef struct report_input {
    char *path;
    char sha256[65];
    int64_t records; /* -1: a scenario */
} report_input;

typedef struct anemo_report {
    anemo_record *
        *records; /* the newest of each case and solution on each machine, in file order */
    size_t n, capacity;
    size_t older;                       /* records that a newer one replaced */
    char remarks[512];                  /* of the reading: torn lines */
    anemo_cost_assumptions assumptions; /* valid when has_assumptions */
    bool has_assumptions;
    cost_view *cost; /* NULL: no scenario */
    size_view *size; /* NULL: likewise */
    report_input *input;
    size_t n_inputs;
    char *repro; /* the command that makes this page; NULL: not told */
} anemo_report;

/* Reads a file of records, every *.jsonl below a directory, or a scenario (a name that ends in
 * .json, one only). May be called again. */
anemo_status anemo_report_read(anemo_report *report, const char *path,
                               const cost_question *question, anemo_error *err);
/* Returns how many figures could not be drawn (HTML). */
int32_t anemo_report_write(const anemo_report *report, page_form form, FILE *out);
/* "EXAMPLE: ..." when the scenario is one, "DEMO: ..." when all model records are of the embedded
 * model or composed in its run; else NULL. */
const char *anemo_report_mark(const anemo_report *report);
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
