/* moe_combine, 16 lanes at a time: moe_combine_lanes.h. */
#include "kernels/moe/moe_combine_lanes.h"

MOE_COMBINE_LANES(moe_combine_lanes_avx512, "16 lanes along d, 64 sums in registers")
