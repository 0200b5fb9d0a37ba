/* How many machines a workload needs: what fits the memory, what a replica can serve within the
 * limits (queue simulation around the engine's scheduler), and whole servers with spares. Read from
 * the "sizing" object of a machine option in a scenario file. */
#ifndef ANEMO_COST_SIZE_H
#define ANEMO_COST_SIZE_H

#include "harness/cost/scenario.h"
#include "harness/serve/simulate.h"

#define ANEMO_SIZE_WEIGHTS 8

typedef struct anemo_size_weights {
    char name[32];
    double parameters, bits; /* bits per weight, scales and zero points included */
} anemo_size_weights;

typedef struct anemo_size_spec {
    int32_t units_per_replica; /* the step times were measured on that many */
    anemo_size_weights weights[ANEMO_SIZE_WEIGHTS];
    int32_t n_weights;
    double unit_bytes, reserve_bytes, activation_bytes; /* of one unit; activations of a replica */
    int64_t layers, kv_heads, head_dim, window;
    double kv_element_bytes;
    anemo_schedule_limits limits; /* kv_pages is computed */
    anemo_step_table table;
    double in_sd_log, out_sd_log; /* spread of the lengths */
    double rack_kw, lead_days;
} anemo_size_spec;

typedef struct anemo_size {
    /* the memory of one replica, bytes */
    double memory, reserve, weights, activations, kv_free, kv_per_token, kv_per_session;
    int64_t sessions_fit; /* at the 95 % length, kept tokens only */
    bool fits;            /* at least one session */
    /* what it serves within the limits */
    double requests_per_s;
    anemo_simulation at;
    double concurrency; /* sessions at that load, by Little's law */
    char binding[64];   /* what limits it */
    /* machines */
    double peak_per_s;
    int32_t replicas, replicas_per_server, servers, redundant, spares;
    double waits; /* Erlang C over all slots at the peak */
    double kw, racks, lead_days;
} anemo_size;

/* Is there a "sizing" for this option? Then reads it. ANEMO_E_INPUT as for scenarios. */
anemo_status anemo_size_read(const char *path, const anemo_reference *reference,
                             anemo_cost_scenario *s, int32_t option, bool *present,
                             anemo_size_spec *out, anemo_error *err);
/* requests_per_s 0: it does not fit, or no load keeps the limits; `binding` says which. */
anemo_status anemo_size_compute(const anemo_cost_scenario *s, int32_t option,
                                const anemo_size_spec *spec, uint64_t seed, anemo_size *out,
                                anemo_error *err);

#endif
