/* Between the files of the driver. */
#ifndef ANEMO_CHECK_INTERNAL_H
#define ANEMO_CHECK_INTERNAL_H

#include "harness/check/check.h"
#include "harness/check/op.h"

/* One call of anemo_check_run. */
typedef struct check_session {
    anemo_device *one;    /* a CPU with one thread: where references run */
    anemo_device *device; /* where variants run: `one`, or the caller's GPU */
    anemo_device *team;   /* CPU: several threads; GPU: NULL */
    const anemo_check_options *options;
    anemo_check_observer observer;
    void *ctx;
    anemo_check_report *report;
    int64_t done, total; /* cases, all lines together */
    bool stopped;
} check_session;

/* Counts a case in its line and shows it to the observer. */
void check_session_take(check_session *session, anemo_check_line *line, const char *case_name,
                        anemo_check_verdict verdict, double error, const char *detail);
/* Does --case want it? Does a quick run leave out case `index` of a grid? */
bool check_session_wants(const check_session *session, const char *case_name);
bool check_session_leaves_out(const check_session *session, int32_t index);

/* Everything that is to be said of one variant in one case. */
typedef struct check_expectations check_expectations;
check_expectations *check_expectations_create(void);
void check_expectations_free(check_expectations *expectations);
void check_variant(check_session *session, const check_op *op, void *fixture,
                   check_expectations *expectations, const anemo_variant *variant,
                   check_outcome *outcome);

int32_t check_layout_cases(void);
/* All cases of one layout: unpack(pack(W)) == W. */
anemo_status check_layout(check_session *session, const anemo_layout *layout,
                          anemo_check_line *line);

#endif
