/* The checker: every registered variant and layout against its definition.
 *
 * For each op there is a grid of small problems that holds the edges (tails of every size, windows
 * of W-1, W and W+1 keys, empty experts, ties, reused pages). A case makes fresh random inputs from
 * the seed; outputs and workspace are poisoned with NaN and fenced by canaries; the reference
 * (double accumulation) and the variant compute it; every element must satisfy
 *     !(|difference| <= bound) == false
 * with the bounds of tolerance.inc. The reference itself is held against a second, independently
 * written formulation of the op that lives here.
 *
 * A case runs on one thread, on several and, where the variant claims ROW_INVARIANT, row by
 * row: those must agree bit for bit. A variant that refuses a case is counted with its reason; one
 * that refuses all of them fails. */
#ifndef ANEMO_CHECK_H
#define ANEMO_CHECK_H

#include "kernels/device.h"
#include "kernels/kernel.h"

typedef struct anemo_check_options {
    const char *filter;      /* part of a variant's or layout's name; NULL: all of them */
    const char *case_filter; /* part of a case's name; NULL: all of them */
    uint64_t seed;           /* inputs depend on seed and case, not on what else is checked */
    bool quick;              /* every fourth case of each grid */
    int32_t threads;         /* of the team that runs beside one thread; below 2: one more than the
                                device has */
} anemo_check_options;

typedef enum anemo_check_verdict {
    ANEMO_CHECK_PASS,
    ANEMO_CHECK_FAIL,
    ANEMO_CHECK_REFUSED, /* a case that the variant does not take */
    ANEMO_CHECK_SKIPPED  /* a variant that cannot run on this machine or device */
} anemo_check_verdict;

/* One case of one variant or layout. */
typedef struct anemo_check_case {
    const char *subject;   /* name of the variant or layout */
    const char *case_name; /* "m=3 k=256 n=19 q4:g32 bias" */
    anemo_check_verdict verdict;
    double error;       /* largest error as a fraction of its bound; INFINITY: no number at all */
    const char *detail; /* what failed and where, or why it was refused; "" otherwise */
    double done;        /* share of the whole run, 0 .. 1 */
} anemo_check_case;

/* Called after each case; false stops the run (ANEMO_E_CANCELLED). */
typedef bool (*anemo_check_observer)(void *ctx, const anemo_check_case *result);

/* What became of one variant or layout. */
typedef struct anemo_check_line {
    const char *name;
    const char *kind;  /* an op's name, or "layout" */
    bool reference;    /* held against the second formulation */
    int32_t run;       /* cases that ran */
    int32_t failed;    /* of those */
    int32_t refused;   /* cases that it does not take */
    double error;      /* largest error of all cases as a fraction of its bound */
    char worst[128];   /* the case where */
    char detail[320];  /* first failure, or why it was skipped, or refused everything */
    char refusal[160]; /* reason of the first refusal */
    anemo_check_verdict verdict;
} anemo_check_line;

typedef struct anemo_check_report {
    anemo_check_line *lines; /* layouts, then variants in registry order */
    int32_t n_lines;
    int32_t passed, failed, skipped;                /* lines */
    int64_t cases_run, cases_failed, cases_refused; /* over all lines */
} anemo_check_report;

/* Checks what runs on `device`; references run on the CPU. ANEMO_OK also when something is wrong:
 * see report->failed. ANEMO_E_INPUT: nothing matches the filter. The report must be freed. */
anemo_status anemo_check_run(anemo_device *device, const anemo_check_options *options,
                             anemo_check_observer observer, void *ctx, anemo_check_report *report,
                             anemo_error *err);
void anemo_check_report_free(anemo_check_report *report);

/* The tolerance table, for people: |error| <= 2^-24 (a + b sqrt(terms)) magnitude + c spread. */
typedef struct anemo_check_tolerance {
    anemo_op op;
    const char *class_name; /* which variants: "REFERENCE", or by activation format */
    double a, b, c, mean, end_to_end;
    const char *why; /* the derivation */
} anemo_check_tolerance;
int32_t anemo_check_tolerance_count(void);
anemo_check_tolerance anemo_check_tolerance_at(int32_t index);

#endif
