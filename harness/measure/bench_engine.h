/* A model made ready for timing: opened, planned, with prompts prefilled; and the two things that
 * are timed on it. All of it goes through models/engine.h, as a server would.
 *
 *   prefill   one request of P prompt tokens, from scheduling (s) to its first token (f): TTFT
 *   decode    B sessions that have their first token decode n - 1 more each, all in one step per
 *             token: from f to l. Each sample starts from forks of the same prefilled sessions, so
 *             every sample decodes at the same context. */
#ifndef ANEMO_BENCH_ENGINE_H
#define ANEMO_BENCH_ENGINE_H

#include "harness/measure/bench_roof.h"
#include "harness/measure/choices.h"
#include "harness/measure/route_watch.h"
#include "models/engine.h"

enum { BENCH_BATCH_MAX = 256 };

typedef struct bench_engine_spec {
    const char *path;       /* as anemo_model_open takes it */
    const char *requantise; /* NULL, "q8_0", "q4_0" */
    const char *const *with;
    int32_t n_with;
    const anemo_choices *choices; /* of this machine; NULL: none */
    int64_t prompt_tokens;        /* P >= 1 */
    int64_t generated_tokens;     /* n >= 2, the first included */
    int64_t depth_tokens;         /* before the decode; 0: the prompt */
    int64_t chunk_tokens;         /* prefill rows of one step at most; 0 = 512 */
    int32_t batch_max;            /* 1 .. BENCH_BATCH_MAX */
    uint64_t seed;                /* of the prompts */
    const char *kv_type;          /* "f32", "f16", "bf16", "q8"; NULL: f16 */
    bool window_given;            /* false: the model's */
    int64_t window;               /* as anemo_model_options.window */
} bench_engine_spec;

typedef struct bench_engine {
    bench_engine_spec spec;
    anemo_device *device;
    anemo_clock clock;
    anemo_model *model;
    const anemo_model_info *info;
    anemo_plan *plan;
    int32_t *prompts;      /* [batch_max, prompt_stride]: different ones, from the seed */
    int64_t prompt_stride; /* the longer of P and depth */
    anemo_session **base;  /* [batch_max] at the depth, first token sampled */
    anemo_session **work;  /* [batch_max] of the sample under way, whichever arm's */
    bool cold; /* a step reads more weights than twice the last cache: bandwidth can bind */
} bench_engine;

/* Opens, plans and prefills batch_max sessions. ANEMO_E_INPUT: also when P + n is beyond the
 * model's context. */
anemo_status bench_engine_open(anemo_device *device, const bench_engine_spec *spec,
                               bench_engine **out, anemo_error *err);
void bench_engine_close(bench_engine *engine);
/* The peak that steps of so many rows are held against: the fastest of those that the plan's
 * variants for their products with matrices are (bench_arithmetic_of); float's without a plan. */
anemo_ceiling bench_engine_arithmetic(const bench_engine *engine, int64_t rows);
/* Positions of KV that its sessions need. */
int64_t bench_engine_kv_tokens(const bench_engine_spec *spec);
/* All that the device's account holds: weights, KV, workspace, of every plan on it. */
double bench_resident_bytes(const anemo_device *device);

anemo_arm bench_prefill_arm(bench_engine *engine);

typedef struct bench_decode {
    bench_engine *engine;
    int32_t batch;
    anemo_step_entry entry[BENCH_BATCH_MAX];
    anemo_step_result result[BENCH_BATCH_MAX];
    /* Gaps between tokens (ITL) of every sample, warm-up included: [n_gaps], n - 1 per sample. */
    double *gap_ns;
    int64_t n_gaps, capacity;
} bench_decode;
anemo_arm bench_decode_arm(bench_decode *decode, bench_engine *engine, int32_t batch);
void bench_decode_end(bench_decode *decode);

/* Runs the arm of a prefill or a decode once more, untimed, with the routers watched. Nothing for a
 * dense model. */
anemo_status bench_route_load(bench_engine *engine, const anemo_arm *arm, anemo_route_load *load,
                              anemo_error *err);

/* The least that a prefill of P tokens, and one decode step of `batch` sessions, must read and
 * compute: weights touched once (experts as expected under uniform routing), KV within the window
 * in its type, products of active parameters and of attention. */
bench_roof bench_prefill_roof(const bench_engine *engine);
bench_roof bench_decode_roof(const bench_engine *engine, int32_t batch);
/* The same without the bytes where the weights stay in a cache: memory is no ceiling then. */
bench_roof bench_binding_roof(const bench_engine *engine, bench_roof roof);

#endif
