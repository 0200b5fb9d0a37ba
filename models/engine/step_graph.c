/* A decode step as one graph. Where the device can capture and every variant that is chosen for so
 * few rows may be captured, a step of one row per session is launched call by call the first time
 * (what a first launch loads may not be loaded during a capture), recorded the second time, and
 * from then on one launch.
 *
 * A recorded launch keeps its arguments. Those are the same in every step of the same form: how
 * many rows, logit rows and sampled rows; all else (ids, positions, page tables, lengths, sampling
 * parameters) lies behind pointers and is uploaded before. Forms are kept by their rows, one for
 * each number up to GRAPH_ROWS; another form of as many rows takes its place.
 *
 * Steps with prompts have too many forms to record, and are long enough not to need it. */
#include <stdlib.h>

#include "models/engine/plan.h"

enum { GRAPH_ROWS = 256 };

struct anemo_step_graph {
    int64_t logit_rows, sample_rows;
    bool seen;
    anemo_graph *graph; /* NULL: not recorded yet */
};

static bool can_record(const anemo_plan *plan) {
    return plan->chooser.backend != ANEMO_CPU && plan->on_route == NULL &&
           plan->rows == plan->n_pending && plan->rows <= GRAPH_ROWS &&
           plan->rows <= plan->graph_rows;
}

static anemo_status record(anemo_plan *plan, anemo_forward forward, anemo_graph **out,
                           anemo_error *err) {
    const anemo_status begun = anemo_capture_begin(plan->device);
    if (begun != ANEMO_OK) {
        return begun;
    }
    const anemo_status ran = forward(plan);
    const anemo_status ended = anemo_capture_end(plan->device, out, err);
    if (ran != ANEMO_OK) {
        anemo_graph_free(*out);
        *out = NULL;
    }
    return ran != ANEMO_OK ? ran : ended;
}

anemo_status anemo_plan_forward(anemo_plan *plan, anemo_forward forward, anemo_error *err) {
    if (!can_record(plan)) {
        return forward(plan);
    }
    if (plan->graphs == NULL) {
        plan->graphs = calloc(GRAPH_ROWS + 1, sizeof *plan->graphs);
        if (plan->graphs == NULL) {
            return ANEMO_E_MEMORY;
        }
    }
    struct anemo_step_graph *g = &plan->graphs[plan->rows];
    if (!g->seen || g->logit_rows != plan->n_logit_rows || g->sample_rows != plan->n_sample_rows) {
        anemo_graph_free(g->graph);
        *g = (struct anemo_step_graph){plan->n_logit_rows, plan->n_sample_rows, true, NULL};
        return forward(plan);
    }
    anemo_status status = ANEMO_OK;
    if (g->graph == NULL) {
        status = record(plan, forward, &g->graph, err);
    }
    return status == ANEMO_OK ? anemo_graph_launch(plan->device, g->graph) : status;
}

void anemo_plan_free_graphs(anemo_plan *plan) {
    for (int32_t i = 0; plan->graphs != NULL && i <= GRAPH_ROWS; i++) {
        anemo_graph_free(plan->graphs[i].graph);
    }
    free(plan->graphs);
}
