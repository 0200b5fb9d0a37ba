/* The sampler: times callbacks without knowing what they compute.
 *
 * One or more arms run in rounds; each round times every arm once, in an order that alternates
 * (ABBA BAAB for two), so that drift of the machine falls on all arms alike and round i of one arm
 * is paired with round i of the others. Raw samples are kept; outliers are counted, never dropped.
 */
#ifndef ANEMO_SAMPLE_H
#define ANEMO_SAMPLE_H

#include "harness/measure/clock.h"
#include "harness/measure/gpu_watch.h"
#include "harness/measure/noise.h"
#include "harness/measure/stats.h"
#include "kernels/kernel.h"

/* ---------------------------------------------------------------- when to stop, what is cold */

typedef enum anemo_stop_kind { ANEMO_STOP_CI, ANEMO_STOP_TIME, ANEMO_STOP_COUNT } anemo_stop_kind;

typedef struct anemo_stop {
    anemo_stop_kind kind;
    double relative;  /* CI: half width of every arm's 95 % interval / median, at most */
    uint64_t time_ns; /* TIME: sampling time, warm-up and probes not included */
    int64_t count;    /* COUNT: rounds */
    uint64_t cap_ns;  /* whatever the rule says, no further round begins after this */
} anemo_stop;

/* "ci:1%", "time:2s", "time:500ms", "n:50", each with ",cap:TIME" behind it if wanted (default: ci
 * 10 s, n 60 s, time itself). ANEMO_E_INPUT says what is accepted. */
anemo_status anemo_stop_parse(const char *text, anemo_stop *out, anemo_error *err);
void anemo_stop_format(const anemo_stop *stop, char *text, size_t text_bytes);

typedef enum anemo_caches {
    ANEMO_CACHES_WARM,         /* every call finds what the call before left */
    ANEMO_CACHES_COLD_WEIGHTS, /* weights from memory, activations warm: decode. The arm rotates
                                  copies by `call` */
    ANEMO_CACHES_COLD          /* `evict` runs before every sample, one call per sample */
} anemo_caches;
const char *anemo_caches_name(anemo_caches caches); /* "warm", "cold-weights", "cold" */
bool anemo_caches_from_name(const char *name, anemo_caches *out);

/* ---------------------------------------------------------------- sampling */

typedef struct anemo_arm {
    /* One timed call; `call` counts this arm's calls from 0, warm-up included. */
    anemo_status (*run)(void *ctx, int64_t call, anemo_error *err);
    void *ctx;
    /* Untimed, before each sample; may be NULL. */
    anemo_status (*prepare)(void *ctx, anemo_error *err);
    /* Of an arm whose calls wait in a device's queue. ready: untimed, before a sample of the calls
     * first .. first + n - 1; queue: all of them, in place of `run`. Both or neither. */
    anemo_status (*ready)(void *ctx, int64_t first, int64_t n, anemo_error *err);
    anemo_status (*queue)(void *ctx, int64_t first, int64_t n, anemo_error *err);
} anemo_arm;

/* Times a stretch by other means than a clock that is read before and after: on a device's own
 * time line (event_timer.h). */
typedef struct anemo_timer {
    const char *name;
    anemo_status (*begin)(void *ctx, anemo_error *err);
    anemo_status (*end)(void *ctx, double *ns, anemo_error *err); /* waits for the stretch's end */
    void *ctx;
    anemo_clock_quality quality;
    double least_ns; /* a sample of several calls is to last at least so long */
} anemo_timer;

typedef struct anemo_sampling {
    anemo_clock clock;
    const anemo_timer *timer; /* NULL: the clock */
    anemo_gpu_watch *watch;   /* read beside each sample, while it runs; NULL: nobody watches */
    anemo_stop stop;
    anemo_caches caches;
    anemo_status (*evict)(void *ctx, anemo_error *err); /* untimed; only for CACHES_COLD */
    /* Untimed: before the first batch of rounds, between batches, and after the last. batch counts
     * from 0, so that batch b of rounds lies between the calls b and b + 1: the place for probes.
     */
    anemo_status (*between)(void *ctx, int64_t batch, anemo_error *err);
    /* Joules spent so far, read outside the timed stretch of each sample; NULL: nobody counts. */
    double (*joules)(void *ctx);
    void *joules_ctx;
    void *hooks_ctx;           /* of evict and between */
    uint64_t batch_ns;         /* 0: 150 ms */
    uint64_t warm_up_ns;       /* at most; 0: 300 ms */
    int64_t calls_per_sample;  /* 0: so many that a sample lasts 1000 reads of clock or timer */
    bool (*interrupted)(void); /* true: end after this round; may be NULL */
} anemo_sampling;

typedef struct anemo_samples {
    int32_t n_arms;
    int64_t n;             /* rounds */
    double **ns;           /* [n_arms][n]: nanoseconds per call */
    double **joules;       /* [n_arms][n]: per call, NaN where not told; NULL: nobody counts */
    double **switches;     /* [n_arms][n]: involuntary ones of this process; NaN: not told */
    anemo_gpu_state **gpu; /* [n_arms][n]: during the sample; NULL: nobody watches */
    int32_t *batch;        /* [n]: the batch of each round */
    /* [n_batches], of each batch's rounds: what the system counts in ticks of 10 ms is not told of
     * single samples. */
    anemo_noise *batch_noise;
    int32_t n_batches;
    int64_t calls_per_sample; /* the same for all arms: another count would bias their ratio */
    int64_t warm_up_rounds;
    bool steady;      /* warm-up ended because two windows agreed, not by its cap */
    bool rule_met;    /* the stop rule was met, not the cap */
    bool interrupted; /* what is here is what was measured until then */
    double sampling_ns;
    anemo_clock_quality clock;
    anemo_noise noise;
} anemo_samples;

/* ANEMO_OK also when interrupted. An arm's or hook's failure is passed on; then *out is empty. */
anemo_status anemo_sample(const anemo_arm *arms, int32_t n_arms, const anemo_sampling *how,
                          anemo_samples *out, anemo_error *err);
void anemo_samples_free(anemo_samples *samples);

/* order[i] = the arm at place i of this round: pairs of rounds are each other's mirror image, and
 * each pair starts one arm later. */
void anemo_sample_order(int64_t round, int32_t n_arms, int32_t *order);

#endif
