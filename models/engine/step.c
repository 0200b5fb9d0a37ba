/* A step: validate everything, make room, upload the step's inputs, run the layers, sample.
 *
 * Rows are grouped by entry in the order given. Logit rows of entries that sample come first, so
 * that sampling sees one block. Nothing of a session changes before all entries have been found
 * good. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/arch/arch.h"
#include "models/engine/session.h"

anemo_status anemo_plan_create_host(anemo_plan *plan, anemo_error *err) {
    const size_t t = (size_t)plan->limits.tokens_per_step, s = (size_t)plan->limits.sessions;
    const size_t logits = (size_t)plan->limits.logits_rows;
    anemo_host_step *h = calloc(1, sizeof *h);
    plan->host = h;
    plan->pending = calloc(s, sizeof *plan->pending);
    if (h == NULL || plan->pending == NULL) {
        return anemo_fail(err, ANEMO_E_MEMORY, "plan: no memory for a step");
    }
    h->ids = calloc(t, sizeof *h->ids);
    h->row_start = calloc(s + 1, sizeof *h->row_start);
    h->tail_start = calloc(s + 1, sizeof *h->tail_start);
    h->table_start = calloc(s, sizeof *h->table_start);
    h->pages = calloc((size_t)plan->table_capacity, sizeof *h->pages);
    h->logit_rows = calloc(logits, sizeof *h->logit_rows);
    h->sampled = calloc(logits, sizeof *h->sampled);
    h->first = calloc(s, sizeof *h->first);
    h->length = calloc(s, sizeof *h->length);
    h->params = calloc(logits, sizeof *h->params);
    const bool copies = plan->chooser.backend != ANEMO_CPU;
    h->logits =
        copies ? calloc(logits * (size_t)plan->model->hparams.vocab, sizeof *h->logits) : NULL;
    if (h->ids == NULL || h->row_start == NULL || h->tail_start == NULL || h->table_start == NULL ||
        h->pages == NULL || h->logit_rows == NULL || h->sampled == NULL || h->first == NULL ||
        h->length == NULL || h->params == NULL || (copies && h->logits == NULL)) {
        return anemo_fail(err, ANEMO_E_MEMORY, "plan: no memory for a step of %zu tokens", t);
    }
    return ANEMO_OK;
}

void anemo_plan_free_host(anemo_plan *plan) {
    anemo_host_step *h = plan->host;
    if (h != NULL) {
        free(h->ids);
        free(h->row_start);
        free(h->tail_start);
        free(h->table_start);
        free(h->pages);
        free(h->logit_rows);
        free(h->sampled);
        free(h->first);
        free(h->length);
        free(h->params);
        free(h->logits);
    }
    free(h);
    free(plan->pending);
}

/* ---------------------------------------------------------------- validation */

static anemo_status check_entry(anemo_plan *plan, const anemo_step_entry *e, int32_t i,
                                anemo_error *err) {
    const int64_t vocab = plan->model->hparams.vocab;
    anemo_session *s = e->session;
    if (s == NULL || s->plan != plan) {
        return anemo_fail(err, ANEMO_E_INPUT, "step: entry %d has a session of another plan", i);
    }
    if (s->serial == plan->serial) {
        return anemo_fail(err, ANEMO_E_INPUT, "step: entry %d names a session a second time", i);
    }
    s->serial = plan->serial;
    if (e->n_tokens < 1 || (e->tokens == NULL && (e->n_tokens != 1 || s->sampled < 0))) {
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "step: entry %d has %d tokens%s; accepted: 1 or more, or none given after a step "
            "that sampled",
            i, e->n_tokens, e->tokens == NULL ? " and no ids" : "");
    }
    if (s->length + e->n_tokens > plan->limits.context) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "step: entry %d would reach %lld positions; the limit is %lld", i,
                          (long long)(s->length + e->n_tokens), (long long)plan->limits.context);
    }
    for (int32_t t = 0; e->tokens != NULL && t < e->n_tokens; t++) {
        if (e->tokens[t] < 0 || e->tokens[t] >= vocab) {
            return anemo_fail(err, ANEMO_E_INPUT,
                              "step: token %d of entry %d is %d; accepted: 0 to %lld", t, i,
                              e->tokens[t], (long long)vocab - 1);
        }
    }
    if (e->want == ANEMO_WANT_SAMPLE &&
        !(e->sample.temperature >= 0.0f && isfinite(e->sample.temperature))) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "step: temperature of entry %d is %g; accepted: 0 or more", i,
                          (double)e->sample.temperature);
    }
    return ANEMO_OK;
}

static anemo_status check_entries(anemo_plan *plan, const anemo_step_entry *entries, int32_t n,
                                  anemo_error *err) {
    int64_t rows = 0, logits = 0, pages = 0;
    plan->serial++;
    if (n < 1 || n > plan->limits.sessions) {
        return anemo_fail(err, ANEMO_E_INPUT, "step: %d entries; accepted: 1 to %d", n,
                          plan->limits.sessions);
    }
    for (int32_t i = 0; i < n; i++) {
        const anemo_status status = check_entry(plan, &entries[i], i, err);
        if (status != ANEMO_OK) {
            return status;
        }
        rows += entries[i].n_tokens;
        logits += anemo_wanted_rows(&entries[i]);
        pages += anemo_session_pages_needed(entries[i].session, entries[i].n_tokens);
    }
    if (rows > plan->limits.tokens_per_step || logits > plan->limits.logits_rows) {
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "step: %lld tokens and %lld logit rows; the plan's limits are %lld and %lld",
            (long long)rows, (long long)logits, (long long)plan->limits.tokens_per_step,
            (long long)plan->limits.logits_rows);
    }
    if (pages > plan->pages.n_free) {
        return anemo_fail(err, ANEMO_E_MEMORY, "step: %lld KV pages are needed, %d are free",
                          (long long)pages, plan->pages.n_free);
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- inputs */

static void assign_logit_rows(anemo_plan *plan, bool sampling) {
    anemo_host_step *h = plan->host;
    const int32_t *start = plan->has_tail ? h->tail_start : h->row_start;
    for (int32_t i = 0; i < plan->n_pending; i++) {
        anemo_pending *p = &plan->pending[i];
        const int64_t n = anemo_wanted_rows(&p->entry);
        if (n == 0 || (p->entry.want == ANEMO_WANT_SAMPLE) != sampling) {
            continue;
        }
        p->logit_row = plan->n_logit_rows;
        for (int64_t r = 0; r < n; r++) {
            h->params[plan->n_logit_rows] = p->entry.sample;
            h->logit_rows[plan->n_logit_rows++] = (int32_t)(start[i + 1] - n + r);
        }
    }
}

static anemo_status fill_host(anemo_plan *plan, const anemo_step_entry *entries, int32_t n,
                              int64_t *table) {
    anemo_host_step *h = plan->host;
    plan->rows = 0;
    plan->n_pending = n;
    *table = 0;
    for (int32_t i = 0; i < n; i++) {
        const anemo_step_entry *e = &entries[i];
        anemo_session *s = e->session;
        const anemo_status status = anemo_session_extend(s, e->n_tokens);
        if (status != ANEMO_OK) {
            return status;
        }
        plan->pending[i].entry = *e;
        plan->pending[i].logit_row = -1;
        h->row_start[i] = (int32_t)plan->rows;
        h->first[i] = s->first;
        h->length[i] = s->length + e->n_tokens;
        h->table_start[i] = (int32_t)*table;
        memcpy(h->pages + *table, s->pages, (size_t)s->n_pages * sizeof *h->pages);
        *table += s->n_pages;
        for (int32_t t = 0; t < e->n_tokens; t++) {
            h->ids[plan->rows++] = e->tokens != NULL ? e->tokens[t] : s->sampled;
        }
    }
    h->row_start[n] = (int32_t)plan->rows;
    anemo_tail_set(plan);
    plan->n_logit_rows = 0;
    assign_logit_rows(plan, true);
    plan->n_sample_rows = plan->n_logit_rows;
    assign_logit_rows(plan, false);
    return ANEMO_OK;
}

static anemo_status upload(anemo_plan *plan, int64_t table) {
    const anemo_host_step *h = plan->host;
    const anemo_buffers *b = &plan->buf;
    const size_t n = (size_t)plan->n_pending, i32 = sizeof(int32_t), i64 = sizeof(int64_t);
    const struct {
        void *to;
        const void *from;
        size_t bytes;
    } copies[] = {
        {b->ids, h->ids, (size_t)plan->rows * i32},
        {b->row_start, h->row_start, (n + 1) * i32},
        {b->tail_start, h->tail_start, plan->has_tail ? (n + 1) * i32 : 0},
        {b->table_start, h->table_start, n * i32},
        {b->pages, h->pages, (size_t)table * i32},
        {b->logit_rows, h->logit_rows, (size_t)plan->n_logit_rows * i32},
        {b->first, h->first, n * i64},
        {b->length, h->length, n * i64},
        {b->params, h->params, (size_t)plan->n_logit_rows * sizeof *h->params},
    };
    anemo_status status = ANEMO_OK;
    for (size_t i = 0; i < sizeof copies / sizeof *copies && status == ANEMO_OK; i++) {
        status = anemo_device_upload(plan->device, copies[i].to, copies[i].from, copies[i].bytes);
    }
    plan->view = (anemo_kv_view){.size = sizeof plan->view,
                                 .n_sequences = plan->n_pending,
                                 .row_start = b->row_start,
                                 .first = b->first,
                                 .length = b->length,
                                 .table_start = b->table_start,
                                 .pages = b->pages};
    return status;
}

/* ---------------------------------------------------------------- forward */

static anemo_status embed_rows(const anemo_plan *plan) {
    const anemo_buffers *b = &plan->buf;
    const anemo_variant *variant = anemo_choice_variant(&plan->embed, plan->rows);
    const anemo_matrix *table = &plan->embed_matrix;
    const anemo_embed_args args = {
        .size = sizeof args,
        .m = plan->rows,
        .ids = b->ids,
        .weight = variant->layout != NULL ? table->packed : (const void *)&table->canonical,
        .y = b->x};
    return anemo_plan_run(plan, &plan->embed, plan->rows, &args);
}

static anemo_status head(const anemo_plan *plan) {
    const anemo_buffers *b = &plan->buf;
    const int64_t m = plan->n_logit_rows;
    if (m == 0) {
        return ANEMO_OK;
    }
    const anemo_add_rmsnorm_args norm = {.size = sizeof norm,
                                         .m = m,
                                         .x = b->x,
                                         .weight = plan->output_norm,
                                         .rows = b->logit_rows,
                                         .y = b->head};
    anemo_status status = anemo_plan_run(plan, &plan->head_norm, m, &norm);
    if (status == ANEMO_OK) {
        status = anemo_plan_run_gemm(
            plan, &plan->output, m, b->head, (const anemo_matrix *const[]){&plan->output_matrix},
            (float *const[]){b->logits}, (const int64_t[]){plan->model->hparams.vocab});
    }
    if (status == ANEMO_OK && plan->n_sample_rows > 0) {
        const anemo_sample_args args = {.size = sizeof args,
                                        .m = plan->n_sample_rows,
                                        .logits = b->logits,
                                        .params = b->params,
                                        .ids = b->sampled};
        status = anemo_plan_run(plan, &plan->sample, plan->n_sample_rows, &args);
    }
    return status;
}

static anemo_status forward(const anemo_plan *plan) {
    anemo_status status = embed_rows(plan);
    for (int64_t i = 0; i < plan->model->hparams.layers && status == ANEMO_OK; i++) {
        status = plan->family->forward_layer(plan, i);
    }
    return status == ANEMO_OK ? head(plan) : status;
}

/* Everything before the first kernel. *accepted: the entries were good and rows are taken. */
static anemo_status prepare(anemo_plan *plan, const anemo_step_entry *entries, int32_t n_entries,
                            bool *accepted, anemo_error *err) {
    int64_t table;
    anemo_status status = check_entries(plan, entries, n_entries, err);
    *accepted = status == ANEMO_OK;
    if (status == ANEMO_OK) {
        status = fill_host(plan, entries, n_entries, &table);
    }
    return status == ANEMO_OK ? upload(plan, table) : status;
}

anemo_status anemo_step_submit(anemo_plan *plan, const anemo_step_entry *entries, int32_t n_entries,
                               anemo_error *err) {
    bool accepted;
    if (plan->n_pending != 0) {
        return anemo_fail(err, ANEMO_E_INPUT, "step: the step before has not been waited for");
    }
    anemo_plan_enter(plan, ANEMO_PHASE_HOST);
    anemo_status status = prepare(plan, entries, n_entries, &accepted, err);
    anemo_plan_enter(plan, ANEMO_PHASE_NONE);
    if (!accepted) {
        return status;
    }
    if (status == ANEMO_OK) {
        status = anemo_plan_forward(plan, forward, err);
    }
    if (status != ANEMO_OK) {
        plan->n_pending = 0;
        return anemo_fail(err, status, "step: a call failed (%s) after %lld rows were accepted",
                          anemo_status_name(status), (long long)plan->rows);
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- results */

static anemo_status fetch(anemo_plan *plan, const float **logits, anemo_error *err) {
    anemo_host_step *h = plan->host;
    const size_t vocab = (size_t)plan->model->hparams.vocab;
    anemo_status status = anemo_device_download(plan->device, h->sampled, plan->buf.sampled,
                                                (size_t)plan->n_sample_rows * sizeof *h->sampled);
    *logits = plan->buf.logits;
    if (status == ANEMO_OK && h->logits != NULL) {
        const size_t skipped = (size_t)plan->n_sample_rows * vocab;
        const size_t n = (size_t)plan->n_logit_rows * vocab - skipped;
        *logits = h->logits;
        status = anemo_device_download(plan->device, h->logits + skipped,
                                       plan->buf.logits + skipped, n * sizeof *h->logits);
    }
    return status == ANEMO_OK ? anemo_device_synchronise(plan->device, err) : status;
}

static bool has_nan(const float *values, int64_t n) {
    bool nan = false;
    for (int64_t i = 0; i < n; i++) {
        nan |= isnan(values[i]);
    }
    return nan;
}

anemo_status anemo_step_wait(anemo_plan *plan, anemo_step_result *results, anemo_error *err) {
    const int64_t vocab = plan->model->hparams.vocab;
    const int32_t n = plan->n_pending;
    const float *logits;
    if (n == 0) {
        return anemo_fail(err, ANEMO_E_INPUT, "step: nothing was submitted");
    }
    plan->n_pending = 0;
    anemo_plan_enter(plan, ANEMO_PHASE_HOST);
    anemo_status status = fetch(plan, &logits, err);
    bool nan = false;
    for (int32_t i = 0; i < n && status == ANEMO_OK; i++) {
        const anemo_pending *p = &plan->pending[i];
        anemo_session *s = p->entry.session;
        anemo_step_result *r = &results[i];
        *r = (anemo_step_result){.id = -1};
        s->length += p->entry.n_tokens;
        s->sampled = -1;
        anemo_session_trim(s);
        if (p->entry.want == ANEMO_WANT_SAMPLE) {
            r->id = s->sampled = plan->host->sampled[p->logit_row];
            nan |= r->id < 0;
        } else if (p->entry.want != ANEMO_WANT_NONE) {
            r->rows = anemo_wanted_rows(&p->entry);
            r->logits = logits + p->logit_row * vocab;
            nan |= has_nan(r->logits, r->rows * vocab);
        }
    }
    anemo_plan_enter(plan, ANEMO_PHASE_NONE);
    return nan ? anemo_fail(err, ANEMO_E_NUMERIC, "step: logits with NaN") : status;
}
