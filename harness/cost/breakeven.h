/* Where a saving is above zero: a set of intervals of the volume, since every further whole server
 * is a step down. */
#ifndef ANEMO_COST_BREAKEVEN_H
#define ANEMO_COST_BREAKEVEN_H

#include <stdbool.h>
#include <stdint.h>

typedef double (*anemo_cost_saving)(void *context, double volume);

typedef struct anemo_cost_interval {
    double lo, hi;
    bool from_start, to_end; /* the scan begins or ends inside it: its true end lies beyond */
} anemo_cost_interval;

/* Scans `points` volumes from lo to hi, evenly spaced in the logarithm, and refines every change of
 * sign by bisection to 1e-13 relative; a step is an edge like any other. Returns how many winning
 * intervals there are, of which the first `max` are in `out`. Intervals narrower than a grid step
 * (hi/lo)^(1/points) can be missed. */
int32_t anemo_cost_break_even(anemo_cost_saving saving, void *context, double lo, double hi,
                              int32_t points, anemo_cost_interval *out, int32_t max);

#endif
