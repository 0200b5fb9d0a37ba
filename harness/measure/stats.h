/* Statistics of timings: medians, order-statistic intervals, percentiles with their bound, paired
 * ratios. Nothing here assumes a distribution: timings are skewed, heavy-tailed and tied, so every
 * interval is exact binomial counting on ranks (valid for any continuous law; ties make it wider,
 * never narrower). Independence of samples is assumed: that is what interleaving is for. */
#ifndef ANEMO_STATS_H
#define ANEMO_STATS_H

#include <stdbool.h>
#include <stdint.h>

/* Ascending, in place. */
void anemo_stats_sort(double *values, int64_t n);

/* Quantile q in [0, 1] of ascending values, linear between ranks ((n - 1) q, as numpy does). NaN
 * when n = 0. */
double anemo_stats_quantile(const double *sorted, int64_t n, double q);

/* An estimate with its interval. `needs` > 0: n samples are too few for an interval at this level,
 * `needs` would do; then lo and hi are the extremes of what was seen and `coverage` says what they
 * are worth. */
typedef struct anemo_estimate {
    double value, lo, hi;
    double coverage; /* exact probability that [lo, hi] holds the true median; 0 when n < 2 */
    int64_t n, needs;
} anemo_estimate;

/* Median of ascending values with the narrowest symmetric order-statistic interval whose exact
 * coverage is at least `level` (0.95). At 95 % n >= 6. */
anemo_estimate anemo_stats_median_sorted(const double *sorted, int64_t n, double level);
/* The same for values in any order; sorts a copy. n = 0 or no memory: value NaN. */
anemo_estimate anemo_stats_median(const double *values, int64_t n, double level);

/* Median of b[i] / a[i], with the interval that inverts the exact sign test. All values > 0. */
anemo_estimate anemo_stats_paired_ratio(const double *a, const double *b, int64_t n, double level);

/* A percentile p (0.95, 0.99) of latencies. It is shown only when n >= ln(0.05) / ln(p): fewer
 * samples cannot bound it. `upper` is the one-sided 95 % bound, an order statistic. */
typedef struct anemo_percentile {
    bool known;
    double value, upper; /* NaN unless known */
    int64_t n, needs;    /* needs: the n from which on it is known */
} anemo_percentile;
anemo_percentile anemo_stats_percentile(const double *sorted, int64_t n, double p);

/* How many values lie beyond 3 interquartile ranges outside the quartiles. They are counted, never
 * dropped. */
int64_t anemo_stats_outliers(const double *sorted, int64_t n);

#endif
