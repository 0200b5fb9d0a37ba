/* All of it rests on the incomplete beta function: it is the tail of the binomial (Clopper-Pearson,
 * the sign test) and of Student's t. Computed by Lentz's continued fraction (Numerical Recipes,
 * section 6.4), about 1e-14 relative for the arguments that occur here; quantiles by bisection,
 * because they are needed a few times per report. */
#include "harness/eval/interval.h"

#include <math.h>

static double log_gamma(double x) {
    int sign; /* lgamma() would write a global */
    return lgamma_r(x, &sign);
}

static double away_from_zero(double x) {
    return fabs(x) < 1e-300 ? 1e-300 : x;
}

static double beta_fraction(double a, double b, double x) {
    double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), h = d;
    for (int m = 1; m <= 10000; m++) {
        const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1 / away_from_zero(1 + even * d);
        c = away_from_zero(1 + even / c);
        h *= d * c;
        const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / away_from_zero(1 + odd * d);
        c = away_from_zero(1 + odd / c);
        h *= d * c;
        if (fabs(d * c - 1) < 1e-15)
            break;
    }
    return h;
}

double anemo_incomplete_beta(double a, double b, double x) {
    if (x <= 0)
        return 0;
    if (x >= 1)
        return 1;
    const double front =
        exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log1p(-x));
    /* The fraction converges fast below the mean; above it, its mirror image does. */
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

/* The x with I_x(a, b) = p. */
static double beta_quantile(double a, double b, double p) {
    double lo = 0, hi = 1;
    for (int i = 0; i < 200 && hi - lo > 1e-15; i++) {
        const double mid = (lo + hi) / 2;
        if (anemo_incomplete_beta(a, b, mid) < p)
            lo = mid;
        else
            hi = mid;
    }
    return (lo + hi) / 2;
}

anemo_interval anemo_wilson(int64_t k, int64_t n) {
    if (n <= 0)
        return (anemo_interval){NAN, NAN, NAN};
    const double z = 1.959963984540054, nd = (double)n, p = (double)k / nd;
    const double centre = (p + z * z / (2 * nd)) / (1 + z * z / nd);
    const double half = z / (1 + z * z / nd) * sqrt(p * (1 - p) / nd + z * z / (4 * nd * nd));
    /* At the ends the interval touches the value exactly; rounding must not put it beside. */
    return (anemo_interval){p, k == 0 ? 0 : centre - half, k == n ? 1 : centre + half};
}

anemo_interval anemo_clopper_pearson(int64_t k, int64_t n) {
    if (n <= 0)
        return (anemo_interval){NAN, NAN, NAN};
    const double kd = (double)k, nd = (double)n;
    return (anemo_interval){kd / nd, k == 0 ? 0 : beta_quantile(kd, nd - kd + 1, 0.025),
                            k == n ? 1 : beta_quantile(kd + 1, nd - kd, 0.975)};
}

double anemo_sign_test(int64_t k, int64_t n) {
    const int64_t few = k < n - k ? k : n - k;
    if (n <= 0 || 2 * few == n)
        return 1;
    /* P(X <= few) of Binomial(n, 1/2) */
    return 2 * anemo_incomplete_beta((double)(n - few), (double)few + 1, 0.5);
}

double anemo_student_p(double t, double degrees) {
    return anemo_incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
}

double anemo_student_t(double p, double degrees) {
    const double x = beta_quantile(degrees / 2, 0.5, p);
    return sqrt(degrees * (1 - x) / x);
}
