/* moe_combine, 8 lanes at a time: moe_combine_lanes.h. */
#include "kernels/moe/moe_combine_lanes.h"

MOE_COMBINE_LANES(moe_combine_lanes_avx2, "8 lanes along d, 32 sums in registers")
