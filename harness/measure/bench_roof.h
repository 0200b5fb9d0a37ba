/* From samples and the probes beside them to a result: medians with intervals, the fraction of the
 * ceiling that binds, and what is to be said about their validity. Kernels and models share it. */
#ifndef ANEMO_BENCH_ROOF_H
#define ANEMO_BENCH_ROOF_H

#include "harness/measure/probe.h"
#include "harness/measure/sample.h"
#include "harness/record/record.h"

/* The least that one call must do, hence the least time it can take. */
typedef struct bench_roof {
    double bytes, ops;        /* from memory; arithmetic. 0: does not bind */
    double certain_bytes;     /* of `bytes`: not only on average. 0: none */
    anemo_ceiling arithmetic; /* which peak the ops are held against */
} bench_roof;

/* Probes taken between the batches of a sampling run. */
typedef struct bench_ceilings {
    anemo_probe *probe;
    uint32_t wanted; /* bit per anemo_ceiling */
    int64_t n, capacity;
    anemo_probe_value (*value)[ANEMO_CEILING_COUNT]; /* [n] */
    double peak[ANEMO_CEILING_COUNT]; /* that no hardware of this kind passes; 0: not known */
} bench_ceilings;

bench_ceilings bench_ceilings_of(anemo_probe *probe);
void bench_ceilings_want(bench_ceilings *ceilings, anemo_ceiling ceiling);
void bench_ceilings_reset(bench_ceilings *ceilings); /* before another run */
void bench_ceilings_free(bench_ceilings *ceilings);
/* The sampler's `between`; ctx is the bench_ceilings. */
anemo_status bench_ceilings_measure(void *ctx, int64_t batch, anemo_error *err);
/* The sampler's `evict`; same ctx. */
anemo_status bench_ceilings_evict(void *ctx, anemo_error *err);
/* From the two probes around the batch: of arithmetic the higher, which interference only ever
 * lowers; of reading the mean, as the memory of a shared machine is now fast, now slow for seconds
 * (here 50 and 85 GB/s), kernels and probes alike. 0: absent. */
double bench_ceiling_beside(const bench_ceilings *ceilings, anemo_ceiling ceiling, int64_t batch);

/* Medians over the samples; NaN: not told. */
typedef struct bench_gpu_state {
    bool watched, throttle_told;
    double multiprocessor_hz, lowest_hz, memory_hz, watts;
    int64_t throttled; /* samples, counted and not dropped */
    uint64_t throttle; /* bits of any of them */
} bench_gpu_state;

typedef struct bench_result {
    anemo_estimate time_s; /* of one call */
    int64_t outliers;      /* counted, not dropped */
    anemo_estimate roof;   /* fraction of the binding ceiling; NaN when no ceiling is known */
    anemo_ceiling binding;
    int64_t above_ceiling;               /* samples faster than their ceiling allows */
    double ceiling[ANEMO_CEILING_COUNT]; /* median of the probes beside the run; 0: not probed */
    bool invalid;                        /* the roof's lower bound is above 1.05 */
    /* Samples that took less time than the data sheet's peaks allow: a defect of the measurement,
     * which `defect` puts in a sentence. Then no figure of the result is to be used. */
    int64_t impossible;
    char defect[240];
    bench_gpu_state gpu;
    bool small_probe; /* memory was short: the read probe's buffer is below twice the last cache */
} bench_result;

/* Of arm `arm` of the run; ceilings hold its probes. */
anemo_status bench_evaluate(const anemo_samples *samples, int32_t arm,
                            const bench_ceilings *ceilings, const bench_roof *roof,
                            bench_result *out, anemo_error *err);

/* "sampling" fields, time and ceiling metrics (with raw samples), and the reasons for doubt. */
void bench_record_result(anemo_record *record, const anemo_samples *samples, int32_t arm,
                         const anemo_sampling *how, const bench_result *result);

/* What of it this machine tells; the rest stays absent. */
void bench_record_noise(anemo_record *record, const anemo_noise *noise);

#endif
