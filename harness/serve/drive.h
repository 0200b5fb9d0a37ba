/* Requests through the scheduler and the real engine: what a server's loop does, without a network.
 * Step by step: who has arrived, anemo_schedule_step, one engine step, who has finished. */
#ifndef ANEMO_SERVE_DRIVE_H
#define ANEMO_SERVE_DRIVE_H

#include "harness/measure/clock.h"
#include "harness/serve/schedule.h"
#include "models/engine.h"

typedef struct anemo_request {
    double arrival_s; /* scheduled, from the start of the run; ascending over the requests */
    const int32_t *prompt;
    int64_t n_prompt;      /* >= 1, without what the prefix holds */
    int64_t n_output;      /* >= 1; end tokens are ignored */
    anemo_session *prefix; /* the session begins as its fork; NULL: empty */
    anemo_sample_params sample;
    /* Filled in. Times from the start of the run; the token times are when the step that made them
     * was over. */
    int32_t *output; /* [n_output], the caller's memory */
    double *token_s; /* [n_output], the caller's memory */
    double sent_s;   /* begin of the first step that takes some of it */
    bool waited;     /* it was there when a step began that took none of it */
} anemo_request;

/* One step as it was. */
typedef struct anemo_drive_step {
    int64_t prompt_tokens, decoding; /* in it */
    double begin_s, seconds;
} anemo_drive_step;

typedef struct anemo_drive {
    anemo_plan *plan;
    anemo_schedule_limits limits;
    int64_t chunk_tokens; /* of one prompt in one step at most; 0: what the step has left */
    anemo_clock clock;
    /* Lets time pass until then; NULL: sleeps, and spins over the last part. */
    void (*wait_until)(void *ctx, double seconds);
    /* Takes the place of the engine's sampler; NULL: it samples. `position` counts outputs. */
    int32_t (*choose)(void *ctx, int32_t request, int64_t position, const float *logits);
    void (*on_step)(void *ctx, const anemo_drive_step *step);
    bool (*interrupted)(void);
    void *ctx;
} anemo_drive;

typedef struct anemo_drive_totals {
    int64_t steps, preemptions;
    int32_t finished;
    double duration_s, busy_s; /* first arrival to last token; in steps */
} anemo_drive_totals;

/* ANEMO_E_INPUT: a request that can never fit. ANEMO_E_CANCELLED: interrupted; the first
 * out->finished requests to finish are complete. */
anemo_status anemo_drive_run(const anemo_drive *drive, anemo_request *requests, int32_t n,
                             anemo_drive_totals *out, anemo_error *err);

#endif
