/* embed, 16 lanes at a time: embed_lanes.h. */
#include "kernels/dense/embed_lanes.h"

EMBED_LANES(embed_lanes_avx512, "rows in parallel, 16 codes at a time")
