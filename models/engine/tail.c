/* The rows that the last layer goes on with. Once its keys and values are written, nobody reads a
 * row whose logits are not wanted: not its attention, its feed-forward, its place in the residual
 * stream. A prompt wants the logits of its last row, and all chunks but the last of a long one want
 * none, so that in a model of L layers a good part of 1/L of the work is left out.
 *
 * An entry wants the logits of its last rows, therefore the kept rows are the ends of the entries,
 * in order, and attention sees them through a view with another row_start. No row's result depends
 * on which others are kept where the variants are ROW_INVARIANT.
 *
 * Steps in which every session has one row (which a GPU records as a graph) and steps whose routing
 * is observed keep all rows. */
#include "models/engine/session.h"

void anemo_tail_set(anemo_plan *plan) {
    anemo_host_step *h = plan->host;
    int64_t at = 0;
    for (int32_t i = 0; i < plan->n_pending; i++) {
        h->tail_start[i] = (int32_t)at;
        at += anemo_wanted_rows(&plan->pending[i].entry);
    }
    h->tail_start[plan->n_pending] = (int32_t)at;
    plan->tail_rows = at;
    plan->has_tail = at < plan->rows && plan->rows > plan->n_pending && plan->on_route == NULL;
}

int64_t anemo_layer_rows(const anemo_plan *plan, int64_t layer) {
    return plan->has_tail && layer == plan->model->hparams.layers - 1 ? plan->tail_rows
                                                                      : plan->rows;
}

/* to [tail_rows, width] = the kept rows of from [rows, width]. */
static anemo_status take(const anemo_plan *plan, const float *from, int64_t width, float *to) {
    const anemo_host_step *h = plan->host;
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0; i < plan->n_pending && status == ANEMO_OK; i++) {
        const int64_t n = h->tail_start[i + 1] - h->tail_start[i];
        if (n > 0) {
            status = anemo_device_copy(plan->device, to + h->tail_start[i] * width,
                                       from + (h->row_start[i + 1] - n) * width,
                                       (size_t)(n * width) * sizeof *to);
        }
    }
    return status;
}

anemo_status anemo_tail_take(const anemo_plan *plan, const float *q, float *to) {
    const anemo_hparams *hp = &plan->model->hparams;
    const anemo_buffers *b = &plan->buf;
    anemo_plan_enter(plan, ANEMO_PHASE_HOST);
    anemo_status status = take(plan, q, hp->heads * hp->head_dim, to);
    if (status == ANEMO_OK) {
        status = take(plan, b->x, hp->d, b->h); /* by way of h: source and target may overlap */
    }
    if (status == ANEMO_OK && plan->tail_rows > 0) {
        status = anemo_device_copy(plan->device, b->x, b->h,
                                   (size_t)(plan->tail_rows * hp->d) * sizeof *b->x);
    }
    anemo_plan_enter(plan, ANEMO_PHASE_NONE);
    return status;
}
