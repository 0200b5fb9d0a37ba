/* `bench model --load`: a whole model under an open load. Requests arrive when they arrive, whether
 * the engine is ready or not; the scheduler that the simulation uses (serve/schedule.h) puts them
 * into steps; the definitions are those of DESIGN section 4. */
#ifndef ANEMO_BENCH_LOAD_H
#define ANEMO_BENCH_LOAD_H

#include "harness/measure/bench_engine.h"
#include "harness/serve/steps.h"

#define ANEMO_LOAD_DEFINITIONS                                                                     \
    "s scheduled arrival, q first step that takes some of it, f first token, l last token, n "     \
    "tokens. TTFT = f-s (service: f-q), TPOT = (l-f)/(n-1), ITL = gaps between tokens, E2E = "     \
    "l-s. "                                                                                        \
    "Goodput: requests/s that meet every limit given. A bound is the one-sided 95 % one over "     \
    "blocks of requests in order of arrival, as requests under load wait for each other."

typedef struct anemo_load_options {
    bench_engine_spec spec; /* path, requantise, with, kv_type, window */
    anemo_load load;
    int64_t prefix_tokens; /* that all requests share, computed once; 0: none */
    bool prefix_copied;    /* each request computes the prefix itself: to compare */
    int32_t sessions;      /* at once at most */
    int32_t step_tokens;
    int64_t kv_tokens;                      /* 0: sessions * longest request */
    double ttft_s, tpot_s;                  /* limits of goodput; 0: none */
    const char *steps_path, *requests_path; /* CSV files, or NULL */
    bool demo;
    bool (*interrupted)(void);
} anemo_load_options;

/* A percentile under load. */
typedef struct anemo_load_percentile {
    bool known;   /* enough requests for the value */
    bool bounded; /* and for its bound */
    double value, upper;
    int64_t n, needs; /* needs: requests for the bound */
} anemo_load_percentile;

enum { ANEMO_LOAD_P50, ANEMO_LOAD_P95, ANEMO_LOAD_P99, ANEMO_LOAD_PERCENTILES };
extern const double anemo_load_share[ANEMO_LOAD_PERCENTILES];

typedef struct anemo_load_report {
    anemo_model_info info;
    anemo_drive_totals totals;
    anemo_load_percentile ttft[ANEMO_LOAD_PERCENTILES], service[ANEMO_LOAD_PERCENTILES],
        tpot[ANEMO_LOAD_PERCENTILES], itl[ANEMO_LOAD_PERCENTILES], e2e[ANEMO_LOAD_PERCENTILES];
    double requests_per_s, output_tokens_per_s, input_tokens_per_s, goodput_per_s, good_share;
    double busy_share, waited_share;
    double probe_bytes_per_s; /* read bandwidth, the median of those before and after */
    double resident_bytes, peak_rss_bytes;
    int64_t kv_pages, kv_pages_most; /* of the pool; in use at once at most */
    char *choices;
} anemo_load_report;

anemo_status anemo_bench_load(anemo_device *device, const anemo_load_options *options,
                              anemo_record_sink *sink, anemo_load_report *out, anemo_error *err);
void anemo_load_report_free(anemo_load_report *report);

/* values in order of arrival. */
anemo_load_percentile anemo_load_percentile_of(const double *values, int64_t n, double p);

#endif
