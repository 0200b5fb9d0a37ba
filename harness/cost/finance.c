/* See finance.h. */
#include "harness/cost/finance.h"

#include <math.h>

double anemo_cost_capital_recovery(double rate, double years) {
    if (rate == 0)
        return 1 / years;
    double growth = pow(1 + rate, years);
    return rate * growth / (growth - 1);
}

double anemo_cost_monthly_rate(double rate) {
    return pow(1 + rate, 1.0 / 12) - 1;
}

double anemo_cost_present_value(const double *flow, int32_t n, double monthly_rate) {
    double sum = 0, factor = 1;
    for (int32_t m = 0; m < n; m++, factor /= 1 + monthly_rate)
        sum += flow[m] * factor;
    return sum;
}

double anemo_cost_payback_months(const double *flow, int32_t n, double monthly_rate) {
    double sum = 0, factor = 1, payback = NAN;
    for (int32_t m = 0; m < n; m++, factor /= 1 + monthly_rate) {
        double step = flow[m] * factor;
        if (sum + step < 0)
            payback = NAN;
        else if (sum < 0)
            payback = m - 1 + -sum / step;
        else if (m == 0)
            payback = 0;
        sum += step;
    }
    return payback;
}

double anemo_cost_internal_rate(const double *flow, int32_t n) {
    double before = 0;
    int32_t changes = 0;
    for (int32_t m = 0; m < n; m++) {
        if (flow[m] == 0)
            continue;
        changes += before * flow[m] < 0;
        before = flow[m] > 0 ? 1 : -1;
    }
    if (changes != 1)
        return NAN;
    double lo = -0.99, hi = 100;
    double at_lo = anemo_cost_present_value(flow, n, anemo_cost_monthly_rate(lo));
    double at_hi = anemo_cost_present_value(flow, n, anemo_cost_monthly_rate(hi));
    if (!(at_lo * at_hi <= 0))
        return NAN;
    for (int i = 0; i < 200; i++) {
        double mid = (lo + hi) / 2;
        double at = anemo_cost_present_value(flow, n, anemo_cost_monthly_rate(mid));
        if (at * at_lo > 0)
            lo = mid;
        else
            hi = mid;
    }
    return (lo + hi) / 2;
}
