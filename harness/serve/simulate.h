/* A deterministic queue simulation: the scheduler that the engine uses, with step times from a
 * table instead of an engine. One replica; the same seed gives the same arrivals and lengths. */
#ifndef ANEMO_SERVE_SIMULATE_H
#define ANEMO_SERVE_SIMULATE_H

#include "harness/serve/schedule.h"
#include "kernels/kernel.h"

#define ANEMO_STEP_POINTS 32

/* Seconds of a step = prefill(prompt tokens in it) + decode(jobs that decode in it), each linear
 * between measured points, flat below the first one, and unknown above the last one. A step that
 * has both reads the weights once: `shared_s`, at most the smaller part, is taken off. 0 where it
 * was not measured: on the careful side. */
typedef struct anemo_step_curve {
    int32_t n;
    double x[ANEMO_STEP_POINTS], seconds[ANEMO_STEP_POINTS]; /* x ascending */
} anemo_step_curve;

typedef struct anemo_step_table {
    anemo_step_curve prefill, decode;
    double shared_s;
} anemo_step_table;
/* NAN above the last point: no extrapolation. 0 at 0. */
double anemo_step_seconds(const anemo_step_table *table, double prompt_tokens, double decoding);

typedef struct anemo_load {
    double requests_per_s; /* Poisson arrivals */
    int32_t requests;
    double in_mean,
        in_sd_log; /* lognormal lengths of that mean; sd of the logarithm, 0: all alike */
    double out_mean, out_sd_log;
    int64_t in_max, out_max; /* longer ones are cut; 0: never */
    uint64_t seed;
} anemo_load;

/* One request of a load: what the engine gets, too. */
typedef struct anemo_load_request {
    double arrival_s;
    int64_t prompt, output;
} anemo_load_request;
/* out: [load->requests], in order of arrival. */
void anemo_load_draw(const anemo_load *load, anemo_load_request *out);

typedef struct anemo_simulation {
    double ttft_p50_s, ttft_p95_s, tpot_p50_s, tpot_p95_s; /* from arrival; over n - 1 tokens */
    double duration_s, busy_share;                         /* first arrival to last token */
    double waited_share; /* requests that were not in the first step after they came */
    bool growing;        /* the queue was still getting longer at the end: no steady load */
    int64_t steps, preemptions;
    int32_t finished;
} anemo_simulation;

/* ANEMO_E_INPUT: a request that can never fit, or a step above the table. */
anemo_status anemo_simulate(const anemo_schedule_limits *limits, const anemo_step_table *table,
                            const anemo_load *load, anemo_simulation *out, anemo_error *err);

/* The largest arrival rate at which both p95 keep their limits (0: no limit) and the queue
 * does not grow, by bisection to 1 %
 * between what surely works and what surely does not; 0 when none does. *at: the simulation there.
 */
anemo_status anemo_simulate_capacity(const anemo_schedule_limits *limits,
                                     const anemo_step_table *table, const anemo_load *load,
                                     double ttft_s, double tpot_s, double *requests_per_s,
                                     anemo_simulation *at, anemo_error *err);

#endif
