/* Who computes what in the next step of an engine: admission, chunks of prompts, preemption. A pure
 * function of the jobs and the limits, used alike by a server, by benchmarks and by the queue
 * simulation.
 *
 * A job knows prompt + generated tokens, of which `held` have their keys and values in the cache.
 * What is missing is pending: 1 for a job that decodes, more for one whose prompt is still being
 * read. A step that takes all that is pending yields the next token. */
#ifndef ANEMO_SERVE_SCHEDULE_H
#define ANEMO_SERVE_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct anemo_schedule_limits {
    int32_t step_tokens; /* most tokens of one step, prompts and decoding together */
    int32_t sessions;    /* most jobs that hold a cache at once */
    int64_t kv_pages;    /* pages of the cache; 0: as many as needed */
    int32_t page_tokens; /* tokens of a page */
    int64_t window;      /* tokens that attention sees, 0: all; older pages are free again */
} anemo_schedule_limits;

typedef struct anemo_schedule_job {
    int64_t prompt, generated, held;
    bool running; /* holds pages */
} anemo_schedule_job;

/* jobs: unfinished ones in order of arrival. tokens[i]: how many of job i's pending tokens the next
 * step computes (0: none); preempted[i]: it gives its pages back and starts again later, with its
 * generated tokens as part of the prompt. Returns the sum of tokens.
 *
 * First every running job that decodes gets its token, oldest first; where pages run out, the
 * youngest running job is preempted. What is left of step_tokens goes to prompts that have begun,
 * then to waiting jobs, oldest first, each only when the pages of all it knows are free. Nobody
 * overtakes: a waiting job that does not fit stops those behind it. Jobs not yet preempted keep
 * their pages. A job that does not fit an empty cache never gets a token: the caller refuses it
 * (anemo_schedule_fits). */
int64_t anemo_schedule_step(const anemo_schedule_limits *limits, const anemo_schedule_job *jobs,
                            int32_t n, int32_t *tokens, bool *preempted);

/* Does a request of that many tokens in all fit the cache when it is alone? */
bool anemo_schedule_fits(const anemo_schedule_limits *limits, int64_t tokens);
/* Pages that `held` tokens occupy. */
int64_t anemo_schedule_pages(const anemo_schedule_limits *limits, int64_t held);

#endif
