/* JUnit XML, as CI systems read it: one suite, one test case each. Counts stand at its head, so
 * the cases are handed over all at once. Text is escaped; what XML cannot hold becomes a blank. */
#ifndef ANEMO_JUNIT_H
#define ANEMO_JUNIT_H

#include "kernels/kernel.h"

#include <stdio.h>

typedef enum anemo_junit_outcome {
    ANEMO_JUNIT_PASSED,
    ANEMO_JUNIT_FAILURE, /* wrong, slower, a target missed */
    ANEMO_JUNIT_ERROR,   /* it could not be found out */
    ANEMO_JUNIT_SKIPPED
} anemo_junit_outcome;

typedef struct anemo_junit_case {
    const char *group; /* "qgemm": the class name is SUITE.GROUP */
    char name[320];
    char message[512]; /* of a case that passed: its output; "": none */
    double seconds;
    anemo_junit_outcome outcome;
} anemo_junit_case;

/* suite: "anemo.gate". */
void anemo_junit_write(FILE *out, const char *suite, const anemo_junit_case *cases, int64_t n);

#endif
