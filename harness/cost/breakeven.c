/* See breakeven.h. */
#include "harness/cost/breakeven.h"

#include <math.h>

/* win(a) differs from win(b), a < b: the volume between them where it changes. */
static double edge(anemo_cost_saving saving, void *context, double a, double b, bool at_a) {
    for (int i = 0; i < 100 && b - a > 1e-13 * b; i++) {
        double mid = sqrt(a * b);
        if ((saving(context, mid) > 0) == at_a)
            a = mid;
        else
            b = mid;
    }
    return at_a ? a : b; /* the side on which it wins */
}

int32_t anemo_cost_break_even(anemo_cost_saving saving, void *context, double lo, double hi,
                              int32_t points, anemo_cost_interval *out, int32_t max) {
    double step = pow(hi / lo, 1.0 / (points - 1)), before = lo;
    anemo_cost_interval now = {.lo = lo, .from_start = true};
    bool wins = saving(context, lo) > 0;
    int32_t n = 0;
    for (int32_t i = 1; i < points; i++) {
        double v = i == points - 1 ? hi : lo * pow(step, i);
        bool win = saving(context, v) > 0;
        if (win != wins) {
            double at = edge(saving, context, before, v, wins);
            if (win)
                now = (anemo_cost_interval){.lo = at};
            else {
                now.hi = at;
                if (n < max)
                    out[n] = now;
                n++;
            }
        }
        wins = win;
        before = v;
    }
    if (wins) {
        now.hi = hi;
        now.to_end = true;
        if (n < max)
            out[n] = now;
        n++;
    }
    return n;
}
