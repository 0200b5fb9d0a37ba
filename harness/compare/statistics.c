/* Counting on ranks, exactly: the number of ratios above their median is Binomial(n, 1/2) whatever
 * their law, so tests and intervals need neither symmetry nor normality, which timings have not.
 * (Dixon & Mood 1946 for the sign test; Holm 1979; Clopper & Pearson 1934; Mann & Whitney 1947.
 * Equal shares of alpha over the looks are Bonferroni's: exact joint boundaries would win a few
 * per cent of the pairs and cost the reader a dynamic programme to believe.) */
#include "harness/compare/compare.h"

#include "harness/eval/interval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POWER 0.8 /* of "found" in the minimum detectable effects */

/* ---------------------------------------------------------------- binomial */

double anemo_binomial_at_least(int64_t k, int64_t n, double p) {
    if (k <= 0) {
        return 1;
    }
    return k > n ? 0 : anemo_incomplete_beta((double)k, (double)(n - k + 1), p);
}

int64_t anemo_sign_test_critical(int64_t n, double alpha) {
    int64_t lo = 0, hi = n + 1; /* at hi the tail is <= alpha, at lo it is not */
    while (hi - lo > 1) {
        const int64_t mid = lo + (hi - lo) / 2;
        if (anemo_binomial_at_least(mid, n, 0.5) <= alpha) {
            hi = mid;
        } else {
            lo = mid;
        }
    }
    return hi;
}

double anemo_sign_test_above(const double *a, const double *b, int64_t n, double limit) {
    int64_t above = 0;
    for (int64_t i = 0; i < n; i++) {
        above += b[i] / a[i] > limit;
    }
    return anemo_binomial_at_least(above, n, 0.5);
}

/* The p with P(X >= k) = tail; k in 1 .. n. */
static double share_for_tail(int64_t k, int64_t n, double tail) {
    double lo = 0, hi = 1;
    for (int i = 0; i < 100; i++) {
        const double mid = (lo + hi) / 2;
        if (anemo_binomial_at_least(k, n, mid) < tail) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return (lo + hi) / 2;
}

double anemo_share_at_least(int64_t k, int64_t n, double level) {
    return n <= 0 ? NAN : k <= 0 ? 0 : share_for_tail(k, n, 1 - level);
}

double anemo_share_at_most(int64_t k, int64_t n, double level) {
    return n <= 0 ? NAN : k >= n ? 1 : share_for_tail(k + 1, n, level);
}

/* ---------------------------------------------------------------- Holm */

static int by_value(const void *a, const void *b) {
    const double *x = *(const double *const *)a, *y = *(const double *const *)b;
    return (*x > *y) - (*x < *y);
}

/* Step-down from the smallest p: p(j) against alpha / (family - j), ending at the first that is not
 * rejected; `before` of the family are rejected already. needed[i]: what p[i] was held against, or
 * would have been next. No memory: nothing is rejected. */
static int32_t step_down(const double *p, int32_t n, int32_t family, int32_t before, double alpha,
                         bool *rejected, double *needed) {
    const double **sorted = n > 0 ? malloc((size_t)n * sizeof(*sorted)) : NULL;
    for (int32_t i = 0; i < n; i++) {
        rejected[i] = false;
        needed[i] = alpha / (family - before);
        if (sorted) {
            sorted[i] = &p[i];
        }
    }
    if (!sorted) {
        return 0;
    }
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    int32_t count = 0;
    for (bool more = true; more && count < n; count += more) {
        const double limit = alpha / (family - before - count);
        for (int32_t j = count; j < n; j++) {
            needed[sorted[j] - p] = limit;
        }
        more = *sorted[count] <= limit;
        rejected[sorted[count] - p] = more;
    }
    free(sorted);
    return count;
}

int32_t anemo_holm(const double *p, int32_t n, double alpha, bool *rejected) {
    double *needed = n > 0 ? malloc((size_t)n * sizeof *needed) : NULL;
    const int32_t count = needed ? step_down(p, n, n, 0, alpha, rejected, needed) : 0;
    for (int32_t i = 0; !needed && i < n; i++) {
        rejected[i] = false;
    }
    free(needed);
    return count;
}

/* ---------------------------------------------------------------- the verdict */

typedef struct open_cases {
    int32_t *index;
    double *p, *needed;
    bool *rejected;
    int32_t n, before;
} open_cases;

static bool gather(const anemo_compare_result *results, int32_t n, open_cases *open) {
    *open = (open_cases){.index = malloc((size_t)n * sizeof(int32_t)),
                         .p = malloc((size_t)n * sizeof(double)),
                         .needed = malloc((size_t)n * sizeof(double)),
                         .rejected = malloc((size_t)n * sizeof(bool))};
    if (!open->index || !open->p || !open->needed || !open->rejected) {
        return false;
    }
    for (int32_t i = 0; i < n; i++) {
        const anemo_compare_result *r = &results[i];
        open->before += r->decided && r->verdict == ANEMO_VERDICT_REGRESSION;
        if (!r->status && !r->decided) {
            open->index[open->n] = i;
            open->p[open->n++] = r->p_regression;
        }
    }
    return true;
}

void anemo_compare_judge(anemo_compare_result *results, int32_t n, const anemo_compare_rule *rule,
                         int32_t look) {
    open_cases open = {0};
    if (n > 0 && gather(results, n, &open)) { /* without memory nothing is decided */
        step_down(open.p, open.n, n, open.before, anemo_compare_look_alpha(rule), open.rejected,
                  open.needed);
        for (int32_t i = 0; i < open.n; i++) {
            anemo_compare_result *r = &results[open.index[i]];
            r->look = look;
            r->p_needed = open.needed[i];
            if (open.rejected[i]) {
                r->verdict = ANEMO_VERDICT_REGRESSION;
            } else if (!r->ratio.needs && r->ratio.hi < 1 + rule->delta) {
                r->verdict = ANEMO_VERDICT_PASS;
            }
            r->decided = r->verdict != ANEMO_VERDICT_INCONCLUSIVE;
        }
    }
    free(open.index);
    free(open.p);
    free(open.needed);
    free(open.rejected);
}

/* ---------------------------------------------------------------- describing the pairs */

/* The ratio at which `power` of runs of n pairs, spread as these are, find their median above
 * `limit` with `critical` counts or more: so far must the sorted log ratios shift that the share
 * above the limit is what a binomial needs. */
static double detectable(const double *sorted_log, int64_t n, int64_t critical, double limit) {
    if (n < 1 || critical > n) {
        return NAN;
    }
    const double share = share_for_tail(critical, n, POWER);
    const double centre = anemo_stats_quantile(sorted_log, n, 0.5);
    return limit * exp(centre - anemo_stats_quantile(sorted_log, n, 1 - share));
}

/* Spearman's: of each value's rank with the next one's. rank[i] of the i-th pair. */
static double successive_correlation(const double *rank, int64_t n) {
    if (n < 10) {
        return NAN;
    }
    double mean = 0, square = 0, product = 0;
    for (int64_t i = 0; i < n; i++) {
        mean += rank[i] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        square += (rank[i] - mean) * (rank[i] - mean);
        product += i ? (rank[i] - mean) * (rank[i - 1] - mean) : 0;
    }
    return square > 0 ? product / square : 0;
}

/* Middle rank of ties, from the sorted values. */
static double rank_in(const double *sorted, int64_t n, double value) {
    int64_t lo = 0, hi = n; /* first not below */
    while (lo < hi) {
        const int64_t mid = lo + (hi - lo) / 2;
        if (sorted[mid] < value) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    int64_t last = lo;
    while (last + 1 < n && sorted[last + 1] == value) {
        last++;
    }
    return (double)(lo + last) / 2;
}

static void describe_sides(anemo_compare_result *r, double *scratch) {
    for (int side = 0; side < 2; side++) {
        memcpy(scratch, r->ns[side], (size_t)r->pairs * sizeof *scratch);
        anemo_stats_sort(scratch, r->pairs);
        r->time_ns[side] = anemo_stats_median_sorted(scratch, r->pairs, 0.95);
        r->outliers[side] = anemo_stats_outliers(scratch, r->pairs);
    }
}

void anemo_compare_describe(anemo_compare_result *r, const anemo_compare_rule *rule) {
    const int64_t n = r->pairs;
    const double level = anemo_compare_look_level(rule);
    r->ratio = anemo_stats_paired_ratio(r->ns[0], r->ns[1], n, level);
    r->differs = !r->ratio.needs && (r->ratio.lo > 1 || r->ratio.hi < 1);
    r->p_regression = n ? anemo_sign_test_above(r->ns[0], r->ns[1], n, 1 + rule->delta) : 1;
    r->mde_regression = r->mde_differs = r->autocorrelation = NAN;
    r->time_ns[0] = r->time_ns[1] = anemo_stats_median_sorted(NULL, 0, 0.95);
    double *logs = n ? malloc((size_t)n * sizeof *logs) : NULL;
    double *scratch = n ? malloc((size_t)n * sizeof *scratch) : NULL;
    if (logs && scratch) {
        describe_sides(r, scratch);
        for (int64_t i = 0; i < n; i++) {
            scratch[i] = logs[i] = log(r->ns[1][i] / r->ns[0][i]);
        }
        anemo_stats_sort(logs, n);
        for (int64_t i = 0; i < n; i++) {
            scratch[i] = rank_in(logs, n, scratch[i]);
        }
        r->autocorrelation = successive_correlation(scratch, n);
        r->mde_regression =
            detectable(logs, n, anemo_sign_test_critical(n, r->p_needed), 1 + rule->delta);
        r->mde_differs = detectable(logs, n, anemo_sign_test_critical(n, (1 - level) / 2), 1);
    }
    free(logs);
    free(scratch);
}

/* ---------------------------------------------------------------- the rule to be warned of */

double anemo_mann_whitney_p(const double *a, int64_t n_a, const double *b, int64_t n_b) {
    const int64_t n = n_a + n_b;
    double *all = n_a > 0 && n_b > 0 ? malloc((size_t)n * sizeof *all) : NULL;
    if (!all) {
        return NAN;
    }
    memcpy(all, a, (size_t)n_a * sizeof *all);
    memcpy(all + n_a, b, (size_t)n_b * sizeof *all);
    anemo_stats_sort(all, n);
    double rank_sum = 0, ties = 0;
    for (int64_t i = 0; i < n_a; i++) {
        rank_sum += rank_in(all, n, a[i]) + 1;
    }
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && all[end] == all[i]; end++) {
        }
        const double t = (double)(end - i);
        ties += t * t * t - t;
    }
    free(all);
    const double x = (double)n_a, y = (double)n_b, N = (double)n;
    const double u = rank_sum - x * (x + 1) / 2;
    const double variance = x * y / 12 * (N + 1 - ties / (N * (N - 1)));
    if (!(variance > 0)) {
        return 1; /* all the same */
    }
    const double z = (fabs(u - x * y / 2) - 0.5) / sqrt(variance);
    return z <= 0 ? 1 : erfc(z / sqrt(2));
}
