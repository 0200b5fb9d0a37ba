/* embed, 8 lanes at a time: embed_lanes.h. */
#include "kernels/dense/embed_lanes.h"

EMBED_LANES(embed_lanes_avx2, "rows in parallel, 8 codes at a time")
