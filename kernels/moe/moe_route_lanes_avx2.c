/* moe_route, 4 tokens at a time: moe_route_lanes.h. */
#include "kernels/moe/moe_route_lanes.h"

MOE_ROUTE_LANES(moe_route_lanes_avx2, "4 tokens side by side, in double; counting sort")
