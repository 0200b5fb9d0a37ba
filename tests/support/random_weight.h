/* Random canonical weights in memory, for tests: exactly representable scales, every offset kind.
 */
#ifndef ANEMO_TEST_RANDOM_WEIGHT_H
#define ANEMO_TEST_RANDOM_WEIGHT_H

#include "kernels/kernel.h"

typedef struct random_weight {
    anemo_weight weight;
    int64_t groups;
    float *values;           /* [n, k] float codes */
    uint8_t *codes;          /* [n, k] */
    float *scales, *offsets; /* [n, groups] */
} random_weight;

random_weight *random_weight_create(anemo_weight_type type, int64_t n, int64_t k, uint64_t seed);
void random_weight_free(random_weight *w);
/* Value and an upper bound of the magnitudes that a kernel may add up to reach it. */
double random_weight_value(const random_weight *w, int64_t row, int64_t column);
double random_weight_magnitude(const random_weight *w, int64_t row, int64_t column);

/* The weight types that tests go through. */
extern const anemo_weight_type random_weight_types[];
extern const int random_weight_type_count;

/* Uniform in [-1, 1), the same for the same (seed, index). */
float random_float(uint64_t seed, uint64_t index);

#endif
