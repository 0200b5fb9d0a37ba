/* rope_append, 16 lanes at a time: rope_append_lanes.h. */
#include "kernels/swa/rope_append_lanes.h"

ROPE_APPEND_LANES(rope_append_lanes_avx512, "16 lanes; sines of 8 double angles at once")
