/* Composed runs: a model that this machine cannot hold, or that would take too long, added up from
 * a few of its layers at their true shape.
 *
 * synth:PRESET:TYPE is opened at three layer counts L1 < L2 < L3, all resident, all timed in turn
 * in every round: t(L) = rest + L * layer. Of each round
 *
 *     total = t(L1) + (N - L1) (t(L3) - t(L1)) / (L3 - L1)       N: layers of the whole model
 *
 * is one sample, so that the interval of the total is that of paired samples. The composition is
 * put to the test in the same rounds: t(L3) is predicted from L1 and L2 alone, and the error of
 * that is reported. Where layers differ in their window in a pattern (gpt-oss: every other one sees
 * everything), the counts lie whole periods of it apart, and so does the whole model, so that a
 * "layer" of the slope is the mean of a period. A layer and the output matrix are each larger than
 * the caches, so each step reads its weights from memory as the whole model would. */
#ifndef ANEMO_COMPOSED_H
#define ANEMO_COMPOSED_H

#include "harness/measure/bench_model.h"

enum { ANEMO_COMPOSED_COUNTS = 3 };

typedef struct anemo_composed_options {
    anemo_bench_model_options model; /* spec.path: "synth:PRESET:TYPE", without :layers= */
    double memory_bytes;             /* at most, probes included; 0: 2 GiB */
    /* Ascending, at most the model's layers; all 0: as far apart as memory allows. With the last
     * one the whole model, the error is that against a full run. */
    int64_t counts[ANEMO_COMPOSED_COUNTS];
} anemo_composed_options;

typedef struct anemo_composed_line {
    int32_t batch;       /* 0: prefill of P tokens; else one decode step of `batch` sessions */
    bench_result result; /* of the whole model */
    anemo_estimate tokens_per_s;
    anemo_estimate layer_s, rest_s;
    anemo_estimate error;  /* predicted / measured time at L3, minus 1 */
    anemo_route_load load; /* of a mixture: in the layers that were run */
} anemo_composed_line;

typedef struct anemo_composed_report {
    anemo_model_info info; /* of the whole model */
    int64_t counts[ANEMO_COMPOSED_COUNTS];
    int64_t prompt_tokens, generated_tokens;
    double resident_bytes; /* of all three plans */
    char *choices;
    anemo_composed_line line[1 + ANEMO_BENCH_BATCHES]; /* prefill first */
    int32_t n_lines;
} anemo_composed_report;

/* Can the path be composed: "synth:" without ":layers="? */
bool anemo_is_composable(const char *path);

/* ANEMO_E_MEMORY, with the figures, when even the smallest set of layers does not fit. */
anemo_status anemo_composed_run(anemo_device *device, const anemo_composed_options *options,
                                anemo_record_sink *sink, anemo_composed_report *out,
                                anemo_error *err);
void anemo_composed_report_free(anemo_composed_report *report);

/* The shortest period of a pattern of n layers; n when nothing repeats. */
int64_t anemo_composed_period(const bool *full, int64_t n);
/* counts for a set {1, a, b} of a homogeneous model: whole periods apart from each other and from
 * `layers`. */
void anemo_composed_spread(const int64_t *set, int64_t period, int64_t layers, int64_t *counts);
/* The arithmetic of one round, for times at the three counts. */
double anemo_composed_total(const int64_t *counts, const double *t, int64_t layers);
double anemo_composed_error(const int64_t *counts, const double *t);

#endif
