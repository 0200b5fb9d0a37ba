/* `bench model`: TTFT, TPOT, throughput and prefill rate of a whole model, by the definitions of
 * DESIGN section 4, each also as a fraction of what the adjacent probes allow. */
#ifndef ANEMO_BENCH_MODEL_H
#define ANEMO_BENCH_MODEL_H

#include "harness/measure/bench_engine.h"
#include "harness/measure/bench_gpu.h"
#include "harness/measure/energy.h"

/* Printed with the numbers. */
#define ANEMO_MODEL_DEFINITIONS                                                                    \
    "s scheduled, f first token, l last token, n tokens, P prompt tokens, B sessions in one "      \
    "step. "                                                                                       \
    "TTFT = f-s; prefill = P/(f-s); TPOT = (l-f)/(n-1); ITL = gap between two tokens; throughput " \
    "= B (n-1)/(l-f). In process, greedy, end tokens ignored."

enum { ANEMO_BENCH_BATCHES = 16 };

typedef struct anemo_bench_model_options {
    bench_engine_spec spec; /* batch_max is set from `batch` */
    int64_t batch[ANEMO_BENCH_BATCHES];
    int32_t n_batch;
    anemo_stop stop;
    bool demo;                  /* marks the records: no basis for money */
    int32_t ordinal;            /* of the GPU, for its energy counter */
    anemo_energy_places energy; /* where counters are looked for; {0}: the usual places */
    bool (*interrupted)(void);
} anemo_bench_model_options;

/* An end-to-end number of one arm. `result` is per prefill, or per decode step. */
typedef struct anemo_bench_model_line {
    int32_t batch; /* 0: prefill */
    bench_result result;
    anemo_estimate tokens_per_s; /* prefill: P / (f - s); decode: B (n - 1) / (l - f) */
    double bytes_per_s, ops_per_s;
    anemo_percentile itl_s[2];       /* decode: p95, p99 of the gaps */
    anemo_estimate joules_per_token; /* value NaN: not counted, see energy_lack */
    /* Of a mixture: seen in one more prefill or sample of decode steps, which is not timed. */
    anemo_route_load load;
} anemo_bench_model_line;

typedef struct anemo_bench_model_report {
    anemo_model_info info;
    int64_t prompt_tokens, generated_tokens, chunk_tokens;
    double resident_bytes, peak_rss_bytes;
    bool on_gpu;        /* times are the host's, from submitting a step to having its results */
    char gpu_lack[200]; /* why the GPU's clock and throttling were not read; "": they were */
    char energy_source[200];                              /* "" : no counter */
    anemo_energy_lack energy_lack;                        /* why, and what helps */
    char *choices;                                        /* the plan's, "; " between */
    anemo_bench_model_line line[1 + ANEMO_BENCH_BATCHES]; /* prefill first */
    int32_t n_lines;
} anemo_bench_model_report;

/* One record per line. ANEMO_E_CANCELLED: interrupted; *out then holds what was measured. */
anemo_status anemo_bench_model(anemo_device *device, const anemo_bench_model_options *options,
                               anemo_record_sink *sink, anemo_bench_model_report *out,
                               anemo_error *err);
void anemo_bench_model_report_free(anemo_bench_model_report *report);

/* Are token counts and batch sizes in range? And the largest batch. */
anemo_status anemo_bench_model_check(const anemo_bench_model_options *options, anemo_error *err);
int32_t anemo_bench_model_batch_max(const anemo_bench_model_options *options);
/* value -> amount / value: rates from times; the interval's ends change places. */
anemo_estimate anemo_rate_of(const anemo_estimate *time, double amount);
/* The plan's choices joined by "; ", malloc'ed; NULL: no memory. */
char *anemo_plan_choices(const anemo_plan *plan);
/* Peak resident set of this process. */
double anemo_peak_rss_bytes(void);
/* The fields of "case" and "solution" that describe model and plan. */
void bench_record_model(anemo_record *record, const bench_engine *engine, const char *choices,
                        double resident_bytes);
/* Of a mixture whose load was seen: its experts, and the load as metrics. */
void bench_record_load(anemo_record *record, const anemo_model_info *info,
                       const anemo_route_load *load);

#endif
