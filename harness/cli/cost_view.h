/* What is known of a scenario (the view), and what `anemo cost` and `anemo report` show of it,
 * table by table. */
#ifndef ANEMO_CLI_COST_VIEW_H
#define ANEMO_CLI_COST_VIEW_H

#include "harness/cli/money.h"
#include "harness/cost/breakeven.h"
#include "harness/cost/verdict.h"

#define COST_INTERVALS 12
#define COST_SPANS     12

/* What is asked: the options that `cost`, `report` and `plot` share. */
typedef struct cost_question {
    const char *as_of, *folder; /* NULL: today; the reference data of this program */
    int32_t draws, max_age;
    uint64_t seed;
    double requests, buy, dominate; /* 0: the scenario's */
    double refuse;                  /* -1: the scenario's */
} cost_question;
cost_question cost_question_default(void);

typedef struct cost_view {
    const anemo_cost_scenario *s; /* the one below */
    anemo_cost_scenario scenario;
    anemo_reference reference;
    anemo_cost_outcome outcome[ANEMO_COST_OPTIONS_MAX];
    anemo_verdict verdict;
    int32_t owned;   /* the machine that the rule compares with; -1 */
    int32_t subject; /* what the verdict, break-even and bars are about; -1: nothing */
    int32_t draws;
    uint64_t seed;
    anemo_cost_interval won[COST_INTERVALS]; /* requests per month */
    int32_t n_won;
    anemo_verdict_span span[COST_SPANS];
    int32_t n_spans;
    anemo_cost_bar bar[ANEMO_COST_INPUTS_MAX];
    int32_t n_bars;
} cost_view;

/* Reads and computes. *out is to be freed whatever the status. */
anemo_status cost_view_open(const char *path, const cost_question *question, cost_view **out,
                            anemo_error *err);
void cost_view_free(cost_view *view);
/* Saving of the view's subject at the point values, at that many requests a month (breakeven.h). */
double cost_saving_at_volume(void *view, double requests);

/* What the model does not count. */
#define COST_LEFT_OUT                                                                              \
    "taxes, financing beyond the discount rate, the cost of moving, of an interruption, and of "   \
    "what your data are worth to others"
/* Shares of a machine option's yearly cost by the worst class of what each part rests on: adds up
 * to
 * 1. share: ANEMO_SOURCE_CLASSES zeros. */
void cost_evidence_shares(const cost_view *v, int32_t option, double *share);

anemo_table *cost_table_verdict(const cost_view *v);
anemo_table *cost_table_options(const cost_view *v);
anemo_table *cost_table_tokens(const cost_view *v);
anemo_table *cost_table_break_even(const cost_view *v);
anemo_table *cost_table_bars(const cost_view *v, int32_t most);
anemo_table *cost_table_evidence(const cost_view *v);
anemo_table *cost_table_warnings(const cost_view *v);
anemo_table *cost_table_inputs(const cost_view *v);
anemo_table *cost_table_explain(const cost_view *v);

#endif
