/* add_rmsnorm, 16 lanes at a time: add_rmsnorm_lanes.h. */
#include "kernels/dense/add_rmsnorm_lanes.h"

ADD_RMSNORM_LANES(add_rmsnorm_lanes_avx512, "16 lanes along d, 64 partial sums")
