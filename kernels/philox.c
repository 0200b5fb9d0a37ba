#include "kernels/philox.h"

double anemo_philox_uniform(uint64_t seed, uint64_t counter) {
    return philox_uniform(seed, counter);
}
