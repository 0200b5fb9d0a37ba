/* xoshiro256** (Blackman and Vigna 2018), seeded through splitmix64. */
#include "harness/check/random.h"

#include <math.h>
#include <stdlib.h>

static uint64_t splitmix(uint64_t *x) {
    uint64_t z = (*x += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

check_random check_random_seed(uint64_t seed, uint64_t stream, uint64_t index) {
    check_random random;
    uint64_t x = seed;
    x = splitmix(&x) ^ stream;
    x = splitmix(&x) ^ index;
    for (int i = 0; i < 4; i++)
        random.state[i] = splitmix(&x);
    return random;
}

static uint64_t rotate_left(uint64_t x, int by) {
    return (x << by) | (x >> (64 - by));
}

uint64_t check_random_bits(check_random *random) {
    uint64_t *s = random->state;
    const uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    const uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

double check_random_uniform(check_random *random) {
    return (double)(check_random_bits(random) >> 11) * 0x1p-53;
}

int64_t check_random_below(check_random *random, int64_t limit) {
    return (int64_t)(check_random_uniform(random) * (double)limit);
}

/* Box and Muller; the second value is not kept, so that every call uses the same number of draws.
 */
double check_random_normal(check_random *random) {
    double radius = sqrt(-2 * log(1 - check_random_uniform(random)));
    return radius * cos(6.283185307179586 * check_random_uniform(random));
}

void check_random_fill(check_random *random, float *x, size_t n, double sd) {
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(sd * check_random_normal(random));
}

float *check_random_floats(check_random *random, int64_t n, double sd) {
    float *x = malloc((size_t)(n ? n : 1) * sizeof *x);
    if (x)
        check_random_fill(random, x, (size_t)n, sd);
    return x;
}

void check_random_shuffle(check_random *random, int32_t *x, int64_t n) {
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = check_random_below(random, i + 1);
        int32_t swap = x[i];
        x[i] = x[j];
        x[j] = swap;
    }
}
