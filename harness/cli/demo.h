/* Shared by demo*.c only: the steps of `anemo demo` and what they pass on to each other. */
#ifndef ANEMO_CLI_DEMO_H
#define ANEMO_CLI_DEMO_H

#include "harness/cli/common.h"
#include "harness/cli/report.h"
#include "harness/record/record.h"

typedef enum demo_fate { DEMO_OK, DEMO_SKIPPED, DEMO_FAILED } demo_fate;

typedef struct demo {
    anemo_cli *cli;
    anemo_device *device;
    anemo_record_sink *sink;
    char model[4096];       /* the embedded model; "" when there is none, and then: */
    anemo_error no_model;   /* where it was looked for */
    char report_path[4200]; /* of the page of the last step, without .html and .md */
    char why[400];          /* of a step that was skipped or failed */
    int code;               /* exit code of what failed, the worst of all */
} demo;

/* A step prints its own lines, two spaces in, and says how it went; `why` otherwise. */
demo_fate demo_doctor(demo *d);
demo_fate demo_check(demo *d);
demo_fate demo_kernels(demo *d);
demo_fate demo_model(demo *d);
demo_fate demo_accuracy(demo *d);
demo_fate demo_composed(demo *d);
demo_fate demo_cost(demo *d);
demo_fate demo_report(demo *d);

/* why and code from a status; returns FAILED. */
demo_fate demo_fail(demo *d, anemo_status status, const anemo_error *err);
demo_fate demo_skip(demo *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
