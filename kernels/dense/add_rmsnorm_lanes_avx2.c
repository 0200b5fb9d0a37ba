/* add_rmsnorm, 8 lanes at a time: add_rmsnorm_lanes.h. */
#include "kernels/dense/add_rmsnorm_lanes.h"

ADD_RMSNORM_LANES(add_rmsnorm_lanes_avx2, "8 lanes along d, 32 partial sums")
