/* What the routers of a mixture chose, seen by a plan's observer (anemo_plan_observe): how the
 * tokens load the experts, and traces for `bench kernel moe_experts --routing trace:FILE`. */
#ifndef ANEMO_ROUTE_WATCH_H
#define ANEMO_ROUTE_WATCH_H

#include "models/engine.h"

#include <stdio.h>

/* ---------------------------------------------------------------- load */

/* Means over the layers of the steps that were seen. A "call" is one layer of one step. */
typedef struct anemo_route_load {
    int32_t n_experts;
    int64_t calls;
    double touched;   /* experts with at least one token */
    double imbalance; /* tokens of the fullest expert over the mean of all experts */
    /* own */
    int32_t *count; /* [n_experts] */
    double touched_sum, imbalance_sum;
} anemo_route_load;

/* false: no memory. */
bool anemo_route_load_begin(anemo_route_load *load, int32_t n_experts);
/* The observer; ctx is the anemo_route_load. */
void anemo_route_load_see(void *ctx, int32_t layer, int64_t tokens, int32_t top_k,
                          const int32_t *experts, const float *weights);
/* Makes the means and frees what is its own; without calls they are 0. */
void anemo_route_load_end(anemo_route_load *load);

/* ---------------------------------------------------------------- traces */

typedef struct anemo_route_trace anemo_route_trace;
anemo_route_trace *anemo_route_trace_create(void); /* NULL: no memory */
void anemo_route_trace_free(anemo_route_trace *trace);
/* The observer; ctx is the anemo_route_trace. */
void anemo_route_trace_see(void *ctx, int32_t layer, int64_t tokens, int32_t top_k,
                           const int32_t *experts, const float *weights);
int64_t anemo_route_trace_tokens(const anemo_route_trace *trace); /* lines so far, of all layers */
/* Layer after layer, in each step after step, so that neighbouring lines are tokens that met in one
 * call: "# layer L, step S: N tokens" and a line of experts for each token, best first.
 * ANEMO_E_MEMORY: something was seen that there was no memory for. */
anemo_status anemo_route_trace_write(const anemo_route_trace *trace, const char *model, FILE *out,
                                     anemo_error *err);

#endif
