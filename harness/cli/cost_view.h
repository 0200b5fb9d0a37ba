/* What `anemo cost` prints, table by table; cmd_cost.c fills the view. */
#ifndef ANEMO_CLI_COST_VIEW_H
#define ANEMO_CLI_COST_VIEW_H

#include "harness/cli/money.h"
#include "harness/cost/breakeven.h"
#include "harness/cost/verdict.h"

#define COST_INTERVALS 12
#define COST_SPANS     12

typedef struct cost_view {
    const anemo_cost_scenario *s;
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
