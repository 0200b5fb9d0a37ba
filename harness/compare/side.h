/* The sides of a comparison, and two of them made a case of compare.h: kernels on one problem,
 * decodes of a model, another program that serves samples. */
#ifndef ANEMO_COMPARE_SIDE_H
#define ANEMO_COMPARE_SIDE_H

#include "harness/compare/compare.h"
#include "harness/measure/bench_engine.h"
#include "harness/measure/bench_kernel.h"

#include <stdio.h>

/* One side: makes `calls` calls and returns the nanoseconds of all together. */
typedef struct anemo_side anemo_side;
struct anemo_side {
    anemo_status (*sample)(anemo_side *side, int64_t calls, double *ns, anemo_error *err);
    void (*close)(anemo_side *side); /* frees it */
};

/* ---------------------------------------------------------------- two sides in turns */

typedef struct anemo_side_pair {
    anemo_side *side[2];
    double sample_ns; /* a pair has at least this of each side: the more, the calmer the ratio */
    int64_t calls;    /* of a turn, the same on both sides */
    int32_t turns;    /* of a pair: ANEMO_PAIR_TURNS, fewer where a call takes long */
    int64_t warm_up_rounds;
    bool steady; /* warm-up ended because two windows agreed, not by its cap */
} anemo_side_pair;

enum { ANEMO_PAIR_TURNS = 5 };

/* Chooses `calls` and `turns` so that a pair has sample_ns of the faster side, and runs both in
 * turns until two windows of rounds agree within 2 %, at most about half a second. */
anemo_status anemo_side_pair_warm_up(anemo_side_pair *pair, anemo_error *err);
/* anemo_compare_case.sample with a pair as ctx; nanoseconds of one call. */
anemo_status anemo_side_pair_sample(void *pair, int32_t side, double *ns, anemo_error *err);
void anemo_side_pair_close(anemo_side_pair *pair); /* both sides */

/* ---------------------------------------------------------------- kernels */

typedef struct anemo_kernel_problem {
    const bench_shape *shape;
    int64_t m;
    const char *weights, *routing; /* as `bench kernel` takes them; routing NULL: the shape's */
    anemo_caches caches;           /* WARM or COLD_WEIGHTS */
    uint64_t seed;
} anemo_kernel_problem;

/* One case with its inputs, and up to two arms on it. */
typedef struct anemo_kernel_bed anemo_kernel_bed;
anemo_status anemo_kernel_bed_open(anemo_device *device, const anemo_kernel_problem *problem,
                                   anemo_kernel_bed **out, anemo_error *err);
/* Sets the variant up and checks it against the reference on this very problem: ANEMO_E_NUMERIC:
 * it is wrong. The bed outlives its sides. */
anemo_status anemo_kernel_side_open(anemo_kernel_bed *bed, const anemo_variant *variant,
                                    anemo_side **out, anemo_error *err);
const bench_case *anemo_kernel_bed_case(const anemo_kernel_bed *bed);
void anemo_kernel_bed_close(anemo_kernel_bed *bed);

/* ---------------------------------------------------------------- models */

/* One call decodes spec->generated_tokens - 1 tokens of spec->batch_max sessions. */
anemo_status anemo_model_side_open(anemo_device *device, const bench_engine_spec *spec,
                                   anemo_side **out, anemo_error *err);
const bench_engine *anemo_model_side_engine(const anemo_side *side);

/* ---------------------------------------------------------------- another program */

/* A side in a process of its own. The program is started with `arguments` (the first is its name,
 * NULL ends them) and speaks, on its standard input and output:
 *     it       "anemo-samples 1 WHAT\n"   once it is ready; WHAT names what it measures
 *     we       "CALLS\n"                  a number
 *     it       "NS\n"                     nanoseconds of those calls, or "error SENTENCE\n"
 * until its input ends. Its threads spin for some microseconds after a parallel loop, or waking
 * them would be most of a small kernel's time, and sleep while the other side's turn lasts. Its
 * addresses are not drawn at random, where the system lets us ask for that: both sides lie alike.
 * Where in physical memory they lie is drawn for each process, so that a comparison opens them
 * ANEMO_CHILD_OPENINGS times a look (compare.h). ANEMO_E_INPUT: it cannot be started or does not
 * speak so. */
enum { ANEMO_CHILD_OPENINGS = 4 };
anemo_status anemo_child_side_open(const char *const *arguments, anemo_side **out,
                                   anemo_error *err);
const char *anemo_child_side_what(const anemo_side *side);
/* The other end: serves `side` as above until `in` ends. ANEMO_E_IO: the lines are not such. */
anemo_status anemo_side_serve(anemo_side *side, const char *what, FILE *in, FILE *out,
                              anemo_error *err);

#endif
