/* The interval of the median (also of a paired ratio): the number of samples below the true median
 * is Binomial(n, 1/2), so [x(r), x(n+1-r)] misses it with probability 2 P(B <= r - 1) exactly. The
 * largest r that keeps the promise is taken. A bootstrap under-covers at the n of a benchmark, a
 * t-interval is about the mean, which preemption spikes own, and Wilcoxon needs symmetry.
 * (Thompson 1936; David & Nagaraja, Order Statistics, section 7.1; Wilks 1941 for the percentile.)
 */
#include "harness/measure/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void anemo_stats_sort(double *values, int64_t n) {
    if (n > 1) {
        qsort(values, (size_t)n, sizeof *values, ascending);
    }
}

double anemo_stats_quantile(const double *sorted, int64_t n, double q) {
    if (n <= 0) {
        return NAN;
    }
    const double rank = q * (double)(n - 1);
    const int64_t below = (int64_t)floor(rank);
    const int64_t above = below + 1 < n ? below + 1 : below;
    return sorted[below] + (rank - (double)below) * (sorted[above] - sorted[below]);
}

static double log_gamma(double x) {
    int sign; /* lgamma() would write a global */
    return lgamma_r(x, &sign);
}

/* P(X = k) of X ~ Binomial(n, p), in logarithms: right to 1e-8 at a million samples. */
static double binomial_term(int64_t k, int64_t n, double p) {
    const double nd = (double)n, kd = (double)k;
    return exp(log_gamma(nd + 1) - log_gamma(kd + 1) - log_gamma(nd - kd + 1) + kd * log(p) +
               (nd - kd) * log1p(-p));
}

/* Largest r >= 1 with 2 P(B <= r - 1) <= 1 - level, or 0 when even r = 1 misses too often.
 * `miss` receives the exact probability of a miss at the r returned (at r = 1 when 0 is). */
static int64_t median_rank(int64_t n, double level, double *miss) {
    double tail = binomial_term(0, n, 0.5);
    *miss = 2 * tail;
    if (*miss > 1 - level) {
        return 0;
    }
    int64_t r = 1;
    for (; r < n / 2; r++) {
        const double next = tail + binomial_term(r, n, 0.5);
        if (2 * next > 1 - level) {
            break;
        }
        tail = next;
    }
    *miss = 2 * tail;
    return r;
}

/* Smallest n whose extremes cover the median at `level`: 2 (1/2)^n <= 1 - level. */
static int64_t median_needs(double level) {
    return (int64_t)ceil(1 - log2(1 - level));
}

anemo_estimate anemo_stats_median_sorted(const double *sorted, int64_t n, double level) {
    anemo_estimate e = {.value = NAN, .lo = NAN, .hi = NAN, .n = n, .needs = median_needs(level)};
    if (n <= 0) {
        return e;
    }
    double miss;
    const int64_t r = median_rank(n, level, &miss);
    const int64_t rank = r > 0 ? r : 1;
    e.value = anemo_stats_quantile(sorted, n, 0.5);
    e.lo = sorted[rank - 1];
    e.hi = sorted[n - rank];
    e.coverage = n < 2 ? 0 : 1 - miss;
    e.needs = r > 0 ? 0 : e.needs;
    return e;
}

anemo_estimate anemo_stats_median(const double *values, int64_t n, double level) {
    double *sorted = n > 0 ? malloc((size_t)n * sizeof *sorted) : NULL;
    if (!sorted) {
        return anemo_stats_median_sorted(NULL, 0, level);
    }
    memcpy(sorted, values, (size_t)n * sizeof *sorted);
    anemo_stats_sort(sorted, n);
    const anemo_estimate e = anemo_stats_median_sorted(sorted, n, level);
    free(sorted);
    return e;
}

anemo_estimate anemo_stats_paired_ratio(const double *a, const double *b, int64_t n, double level) {
    double *ratio = n > 0 ? malloc((size_t)n * sizeof *ratio) : NULL;
    if (!ratio) {
        return anemo_stats_median_sorted(NULL, 0, level);
    }
    for (int64_t i = 0; i < n; i++) {
        ratio[i] = b[i] / a[i];
    }
    anemo_stats_sort(ratio, n);
    anemo_estimate e = anemo_stats_median_sorted(ratio, n, level);
    if (n % 2 == 0) { /* the middle of a ratio is geometric: swapping a and b must invert it */
        e.value = sqrt(ratio[n / 2 - 1] * ratio[n / 2]);
    }
    free(ratio);
    return e;
}

anemo_percentile anemo_stats_percentile(const double *sorted, int64_t n, double p) {
    anemo_percentile out = {.value = NAN, .upper = NAN, .n = n};
    out.needs = (int64_t)ceil(log(0.05) / log(p));
    if (n < out.needs) {
        return out;
    }
    /* B ~ Binomial(n, p) samples lie below the true percentile; x(s) is at or above it unless
     * B >= s. The smallest s with P(B >= s) <= 0.05; s = n has it because of `needs`. */
    int64_t s = n;
    double above = binomial_term(n, n, p);
    while (s > 1 && above + binomial_term(s - 1, n, p) <= 0.05) {
        s--;
        above += binomial_term(s, n, p);
    }
    out.known = true;
    out.value = anemo_stats_quantile(sorted, n, p);
    out.upper = sorted[s - 1];
    return out;
}

int64_t anemo_stats_outliers(const double *sorted, int64_t n) {
    const double q1 = anemo_stats_quantile(sorted, n, 0.25);
    const double q3 = anemo_stats_quantile(sorted, n, 0.75);
    const double reach = 3 * (q3 - q1);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        count += sorted[i] < q1 - reach || sorted[i] > q3 + reach;
    }
    return count;
}
