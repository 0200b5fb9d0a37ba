/* rope_append, 8 lanes at a time: rope_append_lanes.h. */
#include "kernels/swa/rope_append_lanes.h"

ROPE_APPEND_LANES(rope_append_lanes_avx2, "8 lanes; sines of 4 double angles at once")
