/* Runs a checkpoint over given tokens in several ways and hands back the logits of every position:
 * what golden tests compare. Any failure is a failed test, with the engine's own sentence. */
#ifndef TEST_RUN_MODEL_H
#define TEST_RUN_MODEL_H

#include "models/engine.h"

#define RUN_ROUTE_LAYERS 8
#define RUN_TOP_K        2

typedef struct run_case {
    const char *path;
    const char *requantise;
    int64_t window;         /* as in anemo_model_options */
    bool reference;         /* every op by its reference variant; else what the plan chooses */
    const char *extra_with; /* one more rule, or NULL */
    /* Sizes of the steps, taken in turn and over again; ends with 0. NULL: everything in one step.
     */
    const int *chunks;
} run_case;

typedef struct run_result {
    int64_t n, vocab, layers, top_k;
    float *logits;   /* [n, vocab] */
    int32_t *routes; /* [layers, n, RUN_TOP_K], -1 where there is no router */
} run_result;

/* Where models run from now on: the CPU, unless a test has brought a GPU. There are no references
 * on a GPU: what would run by them runs by what the plan chooses. */
extern anemo_backend run_model_backend;
/* One more --with rule of every run from now on but those by references, or NULL. */
extern const char *run_model_with;

/* Logits after each of tokens[0..n). */
run_result run_model(const run_case *c, const int32_t *tokens, int64_t n);
/* Two sessions of one plan in the same steps, each in its own chunks (of a.chunks and b_chunks). */
void run_two(const run_case *c, const int32_t *a_tokens, int64_t n_a, const int *b_chunks,
             const int32_t *b_tokens, int64_t n_b, run_result *a, run_result *b);
/* Greedy continuation of n ids, the prompt in one step, then each id from the one sampled before.
 */
void run_greedy(const run_case *c, const int32_t *prompt, int64_t n_prompt, int32_t *ids,
                int64_t n);
void run_result_free(run_result *r);

/* The largest |a - b|; NaN and infinity make it infinite. */
double largest_difference(const float *a, const float *b, int64_t n);
double standard_deviation(const float *x, int64_t n);

#endif
