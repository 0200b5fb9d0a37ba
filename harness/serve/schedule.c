/* See schedule.h.
 *
 * Decoding goes first because a token that waits is felt by someone who already reads; prompts
 * share the rest, so that one long prompt delays nobody by more than a step. The youngest is
 * preempted: it has the least to lose, and the oldest always finishes, which is why nothing can
 * starve. */
#include "harness/serve/schedule.h"

int64_t anemo_schedule_pages(const anemo_schedule_limits *limits, int64_t held) {
    int64_t kept = held;
    if (limits->window > 0 && kept > limits->window + limits->page_tokens - 1)
        kept = limits->window + limits->page_tokens - 1; /* the window may begin inside a page */
    return (kept + limits->page_tokens - 1) / limits->page_tokens;
}

bool anemo_schedule_fits(const anemo_schedule_limits *limits, int64_t tokens) {
    return limits->kv_pages == 0 || anemo_schedule_pages(limits, tokens) <= limits->kv_pages;
}

typedef struct pages {
    const anemo_schedule_limits *limits;
    int64_t used;
} pages;

static bool can_take(const pages *p, int64_t more) {
    return p->limits->kv_pages == 0 || p->used + more <= p->limits->kv_pages;
}

static int64_t growth(const pages *p, const anemo_schedule_job *job, int64_t tokens) {
    return anemo_schedule_pages(p->limits, job->held + tokens) -
           anemo_schedule_pages(p->limits, job->running ? job->held : 0);
}

static int64_t pending(const anemo_schedule_job *job) {
    return job->prompt + job->generated - job->held;
}

/* Frees the pages of the youngest running job behind `keep` until `more` fit. */
static bool make_room(pages *p, const anemo_schedule_job *jobs, int32_t n, int32_t keep,
                      int64_t more, int32_t *tokens, bool *preempted) {
    for (int32_t i = n - 1; i > keep && !can_take(p, more); i--) {
        if (!jobs[i].running || preempted[i])
            continue;
        preempted[i] = true;
        tokens[i] = 0;
        p->used -= anemo_schedule_pages(p->limits, jobs[i].held);
    }
    return can_take(p, more);
}

int64_t anemo_schedule_step(const anemo_schedule_limits *limits, const anemo_schedule_job *jobs,
                            int32_t n, int32_t *tokens, bool *preempted) {
    pages p = {.limits = limits};
    int64_t budget = limits->step_tokens, total = 0;
    int32_t sessions = 0;
    bool any_preempted = false;
    for (int32_t i = 0; i < n; i++) {
        tokens[i] = 0;
        preempted[i] = false;
        sessions += jobs[i].running;
        p.used += jobs[i].running ? anemo_schedule_pages(limits, jobs[i].held) : 0;
    }
    for (int32_t i = 0; i < n && budget > 0; i++) { /* decoding */
        if (!jobs[i].running || preempted[i] || pending(&jobs[i]) != 1)
            continue;
        int64_t more = growth(&p, &jobs[i], 1);
        if (!make_room(&p, jobs, n, i, more, tokens, preempted))
            continue; /* it waits for an older one */
        p.used += more;
        tokens[i] = 1;
        budget--;
    }
    for (int32_t i = 0; i < n; i++) {
        any_preempted |= preempted[i];
        sessions -= preempted[i];
    }
    for (int pass = 0; pass < 2; pass++) /* prompts that have begun, then new ones */
        for (int32_t i = 0; i < n && budget > 0; i++) {
            const anemo_schedule_job *job = &jobs[i];
            bool begun = job->running;
            if (begun != (pass == 0) || preempted[i] || tokens[i] > 0 || pending(job) < 1)
                continue;
            int64_t chunk = pending(job) < budget ? pending(job) : budget;
            /* a new job is let in only when all that it knows fits, and nobody had to leave */
            int64_t more = growth(&p, job, begun ? chunk : pending(job));
            if (!begun && (any_preempted || sessions >= limits->sessions || !can_take(&p, more)))
                break;
            if (begun && !can_take(&p, more))
                continue;
            p.used += more;
            tokens[i] = (int32_t)chunk;
            budget -= chunk;
            sessions += !begun;
        }
    for (int32_t i = 0; i < n; i++)
        total += tokens[i];
    return total;
}
