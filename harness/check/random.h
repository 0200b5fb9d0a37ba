/* Random inputs of the checker: xoshiro256**, seeded by (seed, op, case) so that a case's inputs do
 * not depend on what else is checked. */
#ifndef ANEMO_CHECK_RANDOM_H
#define ANEMO_CHECK_RANDOM_H

#include <stddef.h>
#include <stdint.h>

typedef struct check_random {
    uint64_t state[4];
} check_random;

check_random check_random_seed(uint64_t seed, uint64_t stream, uint64_t index);
uint64_t check_random_bits(check_random *random);
double check_random_uniform(check_random *random);               /* [0, 1) */
int64_t check_random_below(check_random *random, int64_t limit); /* 0 .. limit-1 */
double check_random_normal(check_random *random);                /* mean 0, sd 1 */
void check_random_fill(check_random *random, float *x, size_t n, double sd);
/* n of them, normal; NULL: no memory. */
float *check_random_floats(check_random *random, int64_t n, double sd);
void check_random_shuffle(check_random *random, int32_t *x, int64_t n);

#endif
