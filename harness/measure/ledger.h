/* The time ledger: where the time of a step goes, by call of the forward pass.
 *
 * Every phase has clock reads of its own, at its begin and at its end (anemo_plan_mark); none is a
 * remainder. What lies between phases, between steps and in the ledger itself is what remains of
 * the sample's own two reads: it is reported as unattributed, and above LEDGER_OPEN the record is
 * marked. A kernel that calls mark from inside splits its time by itself.
 *
 * Where steps are short, reading the clock for each of their calls would be a good part of them:
 * then only one step in `every` is watched, from its first call to the next step's, and what was
 * seen stands for all. */
#ifndef ANEMO_LEDGER_H
#define ANEMO_LEDGER_H

#include "harness/measure/clock.h"
#include "models/engine.h"

#define ANEMO_LEDGER_COST 0.01 /* share of the time that clock reads may take */
#define ANEMO_LEDGER_OPEN 0.05 /* unattributed share above which a ledger does not close */

typedef struct anemo_ledger {
    anemo_clock clock;
    int32_t phase; /* under way, or ANEMO_PHASE_NONE */
    uint64_t since_ns, begin_ns;
    double ns[ANEMO_PHASES]; /* of the sample under way */
    double total_ns;         /* of the last sample */
    int64_t reads;           /* of the clock, in the sample */
    int64_t steps;           /* begun in the sample */
    /* Where one step in `every` is watched: */
    int64_t every, seen; /* 1: all of them; watched ones that are complete */
    int32_t first; /* the phase that each step enters once, before all others but the host's */
    bool watching;
    double step_ns[ANEMO_PHASES]; /* of the step under way */
} anemo_ledger;

/* Between the two, steps of `plan` are attributed; one in `every` where there are as many. */
void anemo_ledger_begin(anemo_ledger *ledger, const anemo_clock *clock, anemo_plan *plan,
                        int64_t every);
void anemo_ledger_end(anemo_ledger *ledger, anemo_plan *plan);
/* One step in how many should be watched for the reads to take about ANEMO_LEDGER_COST of the time,
 * after a sample in which all were; at least four of a sample. */
int64_t anemo_ledger_every(const anemo_ledger *ledger, double read_ns);
/* total - sum over phases, as a fraction of total. */
double anemo_ledger_unattributed(const double *phase_ns, double total_ns);

/* "qgemm@qkv", "quantize_act > qgemm@qkv", "host". */
const char *anemo_ledger_name(int32_t phase, char *text, size_t text_bytes);
/* Is the phase one that the rule "OP[@ROLE][:m=...]=VARIANT" changes: its calls, and the
 * quantisation of their inputs? */
bool anemo_ledger_meets(int32_t phase, const char *rule);

#endif
