/* Inside of models/: a session and the host side of a step. */
#ifndef ANEMO_SESSION_H
#define ANEMO_SESSION_H

#include "models/engine/plan.h"

struct anemo_session {
    anemo_plan *plan;
    int64_t length; /* tokens so far */
    int64_t first;  /* position of the first slot of pages[0] */
    int32_t *pages; /* [n_pages]; position p lies in pages[(p - first) / ANEMO_PAGE_TOKENS] */
    int64_t n_pages, capacity;
    int32_t sampled; /* id sampled by the last step, or -1 */
    int64_t serial;  /* of the last step that named this session */
};

/* One entry of the step in flight. */
typedef struct anemo_pending {
    anemo_step_entry entry;
    int64_t logit_row; /* its first row of logits */
} anemo_pending;

/* Step inputs on the host, in the shapes of anemo_buffers. */
typedef struct anemo_host_step {
    int32_t *ids, *row_start, *tail_start, *table_start, *pages, *logit_rows, *sampled;
    int64_t *first, *length;
    anemo_sample_params *params;
    float *logits; /* NULL on the CPU, where logits are read in place */
} anemo_host_step;

/* Rows of logits that it wants: those of its last tokens. */
static inline int64_t anemo_wanted_rows(const anemo_step_entry *e) {
    return e->want == ANEMO_WANT_NONE ? 0 : e->want == ANEMO_WANT_LOGITS_ALL ? e->n_tokens : 1;
}

/* Pages that n more tokens need: new ones, and a copy of a shared tail page. */
int64_t anemo_session_pages_needed(const anemo_session *session, int64_t n);
/* Makes room for n more tokens; needs anemo_session_pages_needed free pages. */
anemo_status anemo_session_extend(anemo_session *session, int64_t n);
/* Gives back the pages that no later query can see. */
void anemo_session_trim(anemo_session *session);

#endif
