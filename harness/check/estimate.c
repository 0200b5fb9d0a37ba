/* Values with what their errors scale with. */
#include "harness/check/estimate.h"

#include <math.h>

check_estimate check_dot(const check_weight *weight, int64_t row, const double *x,
                         const double *x_magnitude, double bias) {
    const double *w = weight->dense + row * weight->k, *parts = weight->parts + row * weight->k;
    double sum = 0, squares = 0, part_squares = 0, error_squares = 0;
    for (int64_t i = weight->k - 1; i >= 0; i--) {
        sum += x[i] * w[i];
        squares += x[i] * w[i] * x[i] * w[i];
        part_squares += x[i] * parts[i] * x[i] * parts[i];
        if (x_magnitude)
            error_squares += x_magnitude[i] * w[i] * x_magnitude[i] * w[i];
    }
    check_estimate e = {.value = sum + bias, .spread = sqrt(squares)};
    e.magnitude = sqrt(part_squares) + sqrt(error_squares) + fabs(bias) + fabs(e.value);
    return e;
}

/* act(g) = g s(g), s = 1 / (1 + exp(-rate g)), with slope s + rate g s (1 - s). The factor `up` is
 * u, or clamp(u) + 1. Limits have slopes of at most 1. exp() of rate g is off by u |rate g| through
 * its argument, which counts as far as exp still matters: 1 - s. */
check_estimate check_act_mul(anemo_activation activation, check_estimate g, check_estimate u) {
    const bool clamped = activation == ANEMO_ACT_SILU_CLAMPED;
    const double rate = clamped ? 1.702 : 1;
    const double gate = clamped ? fmin(g.value, 7) : g.value;
    const double up = clamped ? fmax(fmin(u.value, 7), -7) + 1 : u.value;
    const double s = 1 / (1 + exp(-rate * gate));
    const double act = gate * s, slope = fabs(s + rate * gate * s * (1 - s));
    check_estimate e = {.value = act * up};
    e.magnitude = slope * fabs(up) * g.magnitude + fabs(act) * u.magnitude +
                  fabs(e.value) * (1 + fabs(rate * gate) * (1 - s));
    e.spread = slope * fabs(up) * g.spread + fabs(act) * u.spread;
    return e;
}
