/* Money over time. Rates are per year unless a name says otherwise; flows are per month, flow[0] at
 * the purchase, flow[m] at the end of month m. */
#ifndef ANEMO_COST_FINANCE_H
#define ANEMO_COST_FINANCE_H

#include <stdint.h>

/* The constant yearly payment that repays 1 with interest over `years`; 1 / years without interest.
 */
double anemo_cost_capital_recovery(double rate, double years);
/* (1 + rate)^(1/12) - 1 */
double anemo_cost_monthly_rate(double rate);
/* Sum of flow[m] / (1 + monthly_rate)^m over m = 0..n-1. */
double anemo_cost_present_value(const double *flow, int32_t n, double monthly_rate);
/* First month at whose end the flows so far, discounted, reach 0 and stay there, with the share of
 * the month that it took; NaN when they never do. monthly_rate 0: simple payback. */
double anemo_cost_payback_months(const double *flow, int32_t n, double monthly_rate);
/* Internal rate of return per year by bisection on [-0.99, 100]. NaN when the flows change sign
 * other than once: then there is none, or more than one. */
double anemo_cost_internal_rate(const double *flow, int32_t n);

#endif
