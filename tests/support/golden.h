/* Golden logits: the whole engine against Hugging Face transformers (float32, eager), on the tiny
 * random checkpoints of tests/data/models, which tests/oracle/make_model_goldens.py wrote.
 *
 * Bound: the largest difference over all positions and ids is at most 1e-4 of the logits' standard
 * deviation (which is at least 1). Each negative control, a mistake that an engine might well make,
 * must miss that bound by ten times or more; otherwise the goldens would not see it.
 *
 * Quantised files are compared with transformers on the dequantised weights, so those runs force
 * the reference variants: what quantised activations change is a question of accuracy, not of
 * correctness. */
#ifndef TEST_GOLDEN_H
#define TEST_GOLDEN_H

#include "tests/support/run_model.h"

#include <jansson.h>

#define GOLDEN_BOUND          1e-4
#define GOLDEN_CONTROL_FACTOR 10
#define GOLDEN_MAX_TOKENS     256

typedef struct golden {
    char dir[512];
    json_t *json; /* golden.json; json_decref when done */
    int64_t vocab;
    double sd;
    int32_t tokens[GOLDEN_MAX_TOKENS];
    int64_t n;
} golden;

golden golden_open(const char *name);
int64_t golden_ids(const json_t *array, int32_t *ids);

/* Every file, every way of cutting the prompt; float files also by what the plan chooses by itself.
 * The golden must have n_expected files. */
void golden_check_forms(const char *name, int n_expected);
/* Two sessions in the same steps, in different chunks: the short prompt, and 200 tokens. */
void golden_check_long(const char *name);
/* The greedy continuation, of every float file. */
void golden_check_greedy(const char *name);

/* The error of the directory's logits, in units of their standard deviation. */
double golden_error(const golden *g, const run_case *c);
/* It must be beyond the bound, by the factor. */
void golden_must_miss(const golden *g, const run_case *c, const char *what);

#endif
