/* The rule that turns outcomes into one word, and the volumes at which the word changes. Pure. */
#ifndef ANEMO_COST_VERDICT_H
#define ANEMO_COST_VERDICT_H

#include "harness/cost/risk.h"

typedef enum anemo_verdict_kind {
    ANEMO_BUY,
    ANEMO_RENT,
    ANEMO_BUY_PART, /* HYBRID */
    ANEMO_DO_NOT_BUY,
    ANEMO_UNDECIDED,
    ANEMO_REFUSED /* something is missing without which nothing can be said */
} anemo_verdict_kind;
const char *anemo_verdict_name(anemo_verdict_kind kind);

/* Accuracy of an option against that of today's model. */
typedef enum anemo_accuracy_state {
    ANEMO_ACCURACY_SAME,         /* the same model */
    ANEMO_ACCURACY_NON_INFERIOR, /* lower 95 % bound of the difference above -margin */
    ANEMO_ACCURACY_INFERIOR,     /* upper bound below -margin */
    ANEMO_ACCURACY_OPEN,         /* the interval holds -margin */
    ANEMO_ACCURACY_MISSING,
    ANEMO_ACCURACY_WAIVED
} anemo_accuracy_state;
const char *anemo_accuracy_state_name(anemo_accuracy_state state);
/* difference, lo, hi: of this option's accuracy less today's, Newcombe's interval; NaN if missing.
 */
anemo_accuracy_state anemo_cost_accuracy_state(const anemo_cost_scenario *s, int32_t option,
                                               double *difference, double *lo, double *hi);
/* NULL: admissible; else why not (limits, sensitive requests, speed unknown). */
const char *anemo_cost_inadmissible(const anemo_cost_scenario *s, int32_t option);

/* A share or probability for people, "79.6 %": 0 % and 100 % only where it is that, else "under
 * 0.1 %" and "over 99.9 %". Returns text. */
const char *anemo_cost_percent(double share, char text[24]);

typedef struct anemo_verdict {
    anemo_verdict_kind kind;
    anemo_verdict_kind
        money;      /* by money alone, without asking what the speed and accuracy rest on */
    int32_t option; /* bought, rented; or the dominating one; -1: none */
    char reason[400];
    char next[400]; /* what would decide, or is missing, and the command that makes it; "" */
} anemo_verdict;

/* The best machine to own: admissible, of the lowest point cost. -1: none. */
int32_t anemo_cost_best_owned(const anemo_cost_scenario *s);
/* outcome: of anemo_cost_simulate with owned = anemo_cost_best_owned. */
void anemo_cost_judge(const anemo_cost_scenario *s, const anemo_cost_outcome *outcome,
                      anemo_verdict *verdict);

/* UNDECIDED by money: fills in `next` with the input, of those that can be measured and flip the
 * sign, that moves the saving most. bar: of anemo_cost_tornado. */
void anemo_cost_say_next(const anemo_cost_scenario *s, const anemo_cost_bar *bar, int32_t n,
                         anemo_verdict *verdict);

/* Volumes, as factors of the scenario's, between which the verdict by money is the same. */
typedef struct anemo_verdict_span {
    double lo, hi;
    anemo_verdict_kind money;
} anemo_verdict_span;
/* From 1/range to range times the volume; edges to 2 %.
 * Returns how many, at most max. */
int32_t anemo_cost_verdict_spans(const anemo_cost_scenario *s, const anemo_cost_draws *draws,
                                 double range, anemo_verdict_span *span, int32_t max);

#endif
