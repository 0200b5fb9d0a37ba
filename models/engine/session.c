/* Sessions: a length and a page table. Forking shares all pages; the tail page is copied when it is
 * written while shared. A sliding window gives pages back as soon as the next query cannot see
 * them, so a session's memory is bounded by the window, and page reuse is the ring buffer. */
#include "models/engine/session.h"

#include <stdlib.h>
#include <string.h>

anemo_status anemo_session_create(anemo_plan *plan, anemo_session **out, anemo_error *err) {
    *out = NULL;
    if (plan->n_sessions >= plan->limits.sessions) {
        return anemo_fail(err, ANEMO_E_INPUT, "session: %d are alive, which is the plan's limit",
                          plan->n_sessions);
    }
    anemo_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return anemo_fail(err, ANEMO_E_MEMORY, "session: no memory");
    }
    session->plan = plan;
    session->sampled = -1;
    session->serial = -1;
    plan->n_sessions++;
    *out = session;
    return ANEMO_OK;
}

anemo_status anemo_session_fork(anemo_session *session, anemo_session **out, anemo_error *err) {
    anemo_status status = anemo_session_create(session->plan, out, err);
    if (status != ANEMO_OK) {
        return status;
    }
    anemo_session *copy = *out;
    copy->pages = malloc(((size_t)session->n_pages + 1) * sizeof *copy->pages);
    if (copy->pages == NULL) {
        anemo_session_free(copy);
        *out = NULL;
        return anemo_fail(err, ANEMO_E_MEMORY, "session: no memory for a page table");
    }
    copy->capacity = session->n_pages + 1;
    copy->length = session->length;
    copy->first = session->first;
    copy->sampled = session->sampled;
    copy->n_pages = session->n_pages;
    for (int64_t i = 0; i < session->n_pages; i++) {
        copy->pages[i] = session->pages[i];
        anemo_pages_share(&session->plan->pages, session->pages[i]);
    }
    return ANEMO_OK;
}

void anemo_session_free(anemo_session *session) {
    if (session == NULL) {
        return;
    }
    for (int64_t i = 0; i < session->n_pages; i++) {
        anemo_pages_drop(&session->plan->pages, session->pages[i]);
    }
    session->plan->n_sessions--;
    free(session->pages);
    free(session);
}

int64_t anemo_session_length(const anemo_session *session) {
    return session->length;
}

/* The page that holds the next token, when it exists already and other sessions see it too. */
static bool tail_is_shared(const anemo_session *s) {
    const int64_t index = (s->length - s->first) / ANEMO_PAGE_TOKENS;
    return index < s->n_pages && anemo_pages_shared(&s->plan->pages, s->pages[index]);
}

static int64_t missing_pages(const anemo_session *s, int64_t n) {
    const int64_t wanted = (s->length + n - s->first + ANEMO_PAGE_TOKENS - 1) / ANEMO_PAGE_TOKENS;
    return wanted > s->n_pages ? wanted - s->n_pages : 0;
}

int64_t anemo_session_pages_needed(const anemo_session *session, int64_t n) {
    return missing_pages(session, n) + (tail_is_shared(session) ? 1 : 0);
}

anemo_status anemo_session_extend(anemo_session *s, int64_t n) {
    anemo_pages *pool = &s->plan->pages;
    const int64_t missing = missing_pages(s, n);
    if (s->n_pages + missing > s->capacity) {
        const int64_t capacity = 2 * (s->n_pages + missing);
        int32_t *pages = realloc(s->pages, (size_t)capacity * sizeof *pages);
        if (pages == NULL) {
            return ANEMO_E_MEMORY;
        }
        s->pages = pages;
        s->capacity = capacity;
    }
    if (tail_is_shared(s)) {
        int32_t *tail = &s->pages[(s->length - s->first) / ANEMO_PAGE_TOKENS];
        const int32_t copy = anemo_pages_take(pool);
        const anemo_status status = anemo_pages_copy(pool, copy, *tail);
        if (status != ANEMO_OK) {
            anemo_pages_drop(pool, copy);
            return status;
        }
        anemo_pages_drop(pool, *tail);
        *tail = copy;
    }
    for (int64_t i = 0; i < missing; i++) {
        s->pages[s->n_pages++] = anemo_pages_take(pool);
    }
    return ANEMO_OK;
}

void anemo_session_trim(anemo_session *s) {
    const anemo_hparams *h = &s->plan->model->hparams;
    const int64_t window = h->window;
    if (window == 0 || anemo_full_layers(h) > 0) { /* one table serves all layers */
        return;
    }
    const int64_t oldest = s->length - window + 1; /* the first key that the next query sees */
    int64_t gone = 0;
    while (gone < s->n_pages && s->first + (gone + 1) * ANEMO_PAGE_TOKENS <= oldest) {
        anemo_pages_drop(&s->plan->pages, s->pages[gone]);
        gone++;
    }
    memmove(s->pages, s->pages + gone, (size_t)(s->n_pages - gone) * sizeof *s->pages);
    s->n_pages -= gone;
    s->first += gone * ANEMO_PAGE_TOKENS;
}
