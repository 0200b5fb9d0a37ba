/* For the tests of single ops: the variants of an op, and running one with what it asked for. */
#ifndef ANEMO_TEST_OP_FIXTURE_H
#define ANEMO_TEST_OP_FIXTURE_H

#include "harness/check/random.h"
#include "kernels/kernel.h"

/* The variants of an op that run here on the CPU on canonical weights and float activations, the
 * reference first; fails the test if there is none. */
typedef struct op_variants {
    int32_t n;
    const anemo_variant *at[32];
} op_variants;
op_variants op_variants_of(anemo_op op);

/* Asserts that the variant accepts the problem, then runs it on a team of n_threads with exactly
 * the workspace it asked for: NaN-filled, and asserted to be all it wrote beside its arguments. */
anemo_status op_run(const anemo_variant *variant, int32_t n_threads, const void *problem,
                    const void *args);
/* The same with `bytes` fewer of workspace, if it has that many. */
anemo_status op_run_short(const anemo_variant *variant, const void *problem, const void *args,
                          size_t bytes);
bool op_refuses(const anemo_variant *variant, const void *problem);

/* malloc that fails the test, filled with 0xff: NaN as f32, f16 and bf16, -1 as an integer. */
void *op_poisoned(size_t bytes);
float *op_random_floats(check_random *random, size_t n, double sd);

/* |got - want| <= bound for every element, else the test fails naming the first; NaN fails. */
void op_assert_near(const char *what, const float *got, const double *want, size_t n, double bound);
/* The largest |got - want|; NaN anywhere gives NaN. */
double op_distance(const float *got, const double *want, size_t n);

#endif
