#include "harness/serve/drive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SPIN_S 0.0005 /* of a wait: a sleep may be late by about as much */

/* A request that has arrived and is not done. */
typedef struct active {
    int32_t request;
    anemo_session *session; /* NULL: it waits */
} active;

typedef struct loop {
    const anemo_drive *drive;
    anemo_request *request;
    int32_t n, next; /* next: not yet arrived */
    active *active;
    anemo_schedule_job *job; /* [n_jobs], in order of arrival, as active */
    int32_t n_jobs;
    int32_t *tokens;
    bool *preempted;
    anemo_step_entry *entry;
    anemo_step_result *result;
    int32_t *step_tokens; /* token ids of the step */
    uint64_t start_ns;
    anemo_drive_totals *totals;
    anemo_error *err;
} loop;

static double now_s(const loop *l) {
    return (double)(anemo_clock_now(&l->drive->clock) - l->start_ns) * 1e-9;
}

static void wait_until(const loop *l, double seconds) {
    if (l->drive->wait_until) {
        l->drive->wait_until(l->drive->ctx, seconds);
        return;
    }
    const double rest = seconds - now_s(l) - SPIN_S;
    if (rest > 0) {
        const struct timespec t = {.tv_sec = (time_t)rest,
                                   .tv_nsec = (long)((rest - floor(rest)) * 1e9)};
        nanosleep(&t, NULL);
    }
    while (now_s(l) < seconds) {
    }
}

static void arrive(loop *l) {
    const double now = now_s(l);
    while (l->next < l->n && l->request[l->next].arrival_s <= now) {
        anemo_request *r = &l->request[l->next];
        r->waited = false;
        r->sent_s = NAN;
        l->job[l->n_jobs] = (anemo_schedule_job){.prompt = r->n_prompt};
        l->active[l->n_jobs++] = (active){.request = l->next++};
    }
}

/* ---------------------------------------------------------------- one step */

static int32_t known_token(const anemo_request *r, int64_t at) {
    return at < r->n_prompt ? r->prompt[at] : r->output[at - r->n_prompt];
}

static void cap_chunks(loop *l) {
    for (int32_t i = 0; l->drive->chunk_tokens > 0 && i < l->n_jobs; i++) {
        if (l->tokens[i] > l->drive->chunk_tokens) {
            l->tokens[i] = (int32_t)l->drive->chunk_tokens;
        }
    }
}

/* Opens and closes sessions as the schedule says. */
static anemo_status admit(loop *l) {
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0; i < l->n_jobs; i++) {
        if (l->preempted[i]) {
            anemo_session_free(l->active[i].session);
            l->active[i].session = NULL;
        }
    }
    for (int32_t i = 0; !status && i < l->n_jobs; i++) {
        active *a = &l->active[i];
        anemo_request *r = &l->request[a->request];
        if (l->tokens[i] > 0 && !a->session) {
            status = r->prefix ? anemo_session_fork(r->prefix, &a->session, l->err)
                               : anemo_session_create(l->drive->plan, &a->session, l->err);
        }
    }
    return status;
}

static int32_t fill_entries(loop *l, anemo_drive_step *step) {
    int32_t n = 0, at = 0;
    for (int32_t i = 0; i < l->n_jobs; i++) {
        const anemo_schedule_job *job = &l->job[i];
        const anemo_request *r = &l->request[l->active[i].request];
        const int64_t pending = job->prompt + job->generated - job->held;
        if (l->tokens[i] == 0) {
            continue;
        }
        l->entry[n] = (anemo_step_entry){.session = l->active[i].session,
                                         .tokens = l->step_tokens + at,
                                         .n_tokens = l->tokens[i],
                                         .sample = r->sample};
        l->entry[n].sample.counter = r->sample.counter + (uint64_t)job->generated;
        if (l->tokens[i] == pending) {
            l->entry[n].want = l->drive->choose ? ANEMO_WANT_LOGITS_LAST : ANEMO_WANT_SAMPLE;
        }
        for (int32_t t = 0; t < l->tokens[i]; t++) {
            l->step_tokens[at++] = known_token(r, job->held + t);
        }
        step->decoding += job->running && pending == 1;
        step->prompt_tokens += job->running && pending == 1 ? 0 : l->tokens[i];
        n++;
    }
    return n;
}

/* ---------------------------------------------------------------- after a step */

/* The next token of job i; false: it was the last one. */
static bool take_token(loop *l, int32_t i, const anemo_step_result *result, double now) {
    anemo_schedule_job *job = &l->job[i];
    anemo_request *r = &l->request[l->active[i].request];
    const int64_t position = job->generated++;
    r->output[position] = l->drive->choose ? l->drive->choose(l->drive->ctx, l->active[i].request,
                                                              position, result->logits)
                                           : result->id;
    r->token_s[position] = now;
    return job->generated < r->n_output;
}

static void settle(loop *l, double begin, double now) {
    int32_t kept = 0, entry = 0;
    for (int32_t i = 0; i < l->n_jobs; i++) {
        anemo_schedule_job *job = &l->job[i];
        anemo_request *r = &l->request[l->active[i].request];
        bool goes_on = true;
        if (l->preempted[i]) {
            job->running = false;
            job->held = 0;
            l->totals->preemptions++;
        } else if (l->tokens[i] > 0) {
            r->sent_s = isnan(r->sent_s) ? begin : r->sent_s;
            job->running = true;
            job->held += l->tokens[i];
            if (job->held == job->prompt + job->generated) {
                goes_on = take_token(l, i, &l->result[entry], now);
            }
            entry++;
        } else if (!job->running) {
            r->waited = true;
        }
        if (!goes_on) {
            anemo_session_free(l->active[i].session);
            l->totals->finished++;
            continue;
        }
        l->job[kept] = *job;
        l->active[kept++] = l->active[i];
    }
    l->n_jobs = kept;
}

static anemo_status step(loop *l) {
    anemo_drive_step seen = {.begin_s = now_s(l)};
    if (anemo_schedule_step(&l->drive->limits, l->job, l->n_jobs, l->tokens, l->preempted) == 0) {
        const anemo_request *r = &l->request[l->active[0].request];
        return anemo_fail(l->err, ANEMO_E_INPUT,
                          "request %d of %lld prompt and %lld output tokens does not fit the cache "
                          "of %lld pages",
                          l->active[0].request, (long long)r->n_prompt, (long long)r->n_output,
                          (long long)l->drive->limits.kv_pages);
    }
    cap_chunks(l);
    anemo_status status = admit(l);
    const int32_t n = status ? 0 : fill_entries(l, &seen);
    status = status ? status : anemo_step_submit(l->drive->plan, l->entry, n, l->err);
    status = status ? status : anemo_step_wait(l->drive->plan, l->result, l->err);
    const double now = now_s(l);
    seen.seconds = now - seen.begin_s;
    if (!status) {
        settle(l, seen.begin_s, now);
        l->totals->steps++;
        l->totals->busy_s += seen.seconds;
        if (l->drive->on_step) {
            l->drive->on_step(l->drive->ctx, &seen);
        }
    }
    return status;
}

static anemo_status run(loop *l) {
    anemo_status status = ANEMO_OK;
    while (!status && l->totals->finished < l->n) {
        if (l->drive->interrupted && l->drive->interrupted()) {
            return ANEMO_E_CANCELLED;
        }
        if (l->n_jobs == 0 && l->request[l->next].arrival_s > now_s(l)) {
            wait_until(l, l->request[l->next].arrival_s);
        }
        arrive(l);
        status = l->n_jobs > 0 ? step(l) : ANEMO_OK;
    }
    l->totals->duration_s = now_s(l) - l->request[0].arrival_s;
    return status;
}

anemo_status anemo_drive_run(const anemo_drive *drive, anemo_request *requests, int32_t n,
                             anemo_drive_totals *out, anemo_error *err) {
    const size_t count = (size_t)(n > 0 ? n : 1);
    loop l = {.drive = drive, .request = requests, .n = n, .totals = out, .err = err};
    *out = (anemo_drive_totals){0};
    l.active = calloc(count, sizeof *l.active);
    l.job = calloc(count, sizeof *l.job);
    l.tokens = calloc(count, sizeof *l.tokens);
    l.preempted = calloc(count, sizeof *l.preempted);
    l.entry = calloc(count, sizeof *l.entry);
    l.result = calloc(count, sizeof *l.result);
    l.step_tokens = calloc((size_t)drive->limits.step_tokens, sizeof *l.step_tokens);
    anemo_status status = ANEMO_OK;
    if (!(l.active && l.job && l.tokens && l.preempted && l.entry && l.result && l.step_tokens)) {
        status = anemo_fail(err, ANEMO_E_MEMORY, "no memory for %d requests", n);
    }
    if (!status && n > 0) {
        l.start_ns = anemo_clock_now(&drive->clock);
        status = run(&l);
    }
    for (int32_t i = 0; l.active && i < l.n_jobs; i++) {
        anemo_session_free(l.active[i].session);
    }
    free(l.active);
    free(l.job);
    free(l.tokens);
    free(l.preempted);
    free(l.entry);
    free(l.result);
    free(l.step_tokens);
    return status;
}
