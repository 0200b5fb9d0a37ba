/* moe_route, 8 tokens at a time: moe_route_lanes.h. */
#include "kernels/moe/moe_route_lanes.h"

MOE_ROUTE_LANES(moe_route_lanes_avx512, "8 tokens side by side, in double; counting sort")
