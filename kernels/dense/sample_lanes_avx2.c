/* sample, 8 lanes at a time: sample_lanes.h. */
#include "kernels/dense/sample_lanes.h"

SAMPLE_LANES(sample_lanes_avx2, "8 lanes; quickselect to the cut, masses computed when needed")
