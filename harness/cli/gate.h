/* What the files of `anemo gate` share. */
#ifndef ANEMO_CLI_GATE_H
#define ANEMO_CLI_GATE_H

#include "harness/cli/common.h"
#include "harness/gate/gate_static.h"

typedef struct gate_report {
    const anemo_cli *cli;
    const anemo_gate_base *base;
    const anemo_gate_plan *plan;
    const anemo_gate_outcome *outcome;
    const anemo_gate_figures *figures; /* static ones; empty when nothing was due */
    const anemo_compare_rule *rule;
    bool warn;        /* --on-inconclusive warn */
    bool no_relinked; /* this program has no relinked twin beside it */
    /* counts, filled by gate_judge */
    int32_t measured, regressions, passes, inconclusive, failed, incorrect, bad_checks;
} gate_report;

/* Counts, and the exit code that follows (DESIGN section 6). */
int gate_judge(gate_report *report);
void gate_print(const gate_report *report);
/* Markdown, appended: a job summary. */
anemo_status gate_write_summary(const gate_report *report, int code, const char *path,
                                anemo_error *err);
/* JUnit XML: one test case each. */
anemo_status gate_write_junit(const gate_report *report, const char *path, anemo_error *err);

/* "REGRESSION: +8.1 % [+7.5, +8.8]", or what else became of a due case. */
void gate_verdict_text(const gate_report *report, int32_t due, char *text, size_t text_bytes);

#endif
