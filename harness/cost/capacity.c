/* See capacity.h.
 *
 * The split is fitted on relative errors: every row is divided by its busy time, so that a long mix
 * does not drown a short one. With two or three unknowns the non-negative optimum is found by
 * trying every set of unknowns held at zero (at most seven), which is exact, where an iterative
 * NNLS would have to be trusted. The condition number is that of the columns scaled to length one:
 * it measures whether the mixes differ enough, not which units they are in. */
#include "harness/cost/capacity.h"

#include <math.h>

double anemo_kv_bytes_per_token(int64_t layers, int64_t kv_heads, int64_t head_dim,
                                double bytes_per_element) {
    return 2.0 * (double)layers * (double)kv_heads * (double)head_dim * bytes_per_element;
}

double anemo_bits_per_weight(double bits, double scale_bits, double zero_bits, double group) {
    return bits + (scale_bits + zero_bits) / group;
}

double anemo_experts_touched(double experts, double top_k, double tokens) {
    return experts * (1 - pow(1 - top_k / experts, tokens));
}

double anemo_erlang_c(int32_t servers, double offered) {
    if (!(offered < servers))
        return 1;
    double blocked = 1; /* Erlang B by its recurrence */
    for (int32_t c = 1; c <= servers; c++)
        blocked = offered * blocked / (c + offered * blocked);
    return servers * blocked / (servers - offered * (1 - blocked));
}

int32_t anemo_spares(double units, double failures_per_year, double lead_days, double alpha) {
    double mean = units * failures_per_year * lead_days / 365;
    double term = exp(-mean), sum = term;
    int32_t s = 0;
    while (1 - sum > alpha && s < 100000) {
        term *= mean / ++s;
        sum += term;
    }
    return s;
}

/* ---------------------------------------------------------------- the split */

#define UNKNOWNS      3
#define CONDITION_MAX 50.0

double anemo_cost_split_busy(const anemo_cost_split *split, double in_uncached, double in_cached,
                             double out) {
    return split->in * in_uncached + split->cached * in_cached + split->out * out;
}

typedef struct normal_equations {
    double matrix[UNKNOWNS][UNKNOWNS], right[UNKNOWNS];
} normal_equations;

/* Solves for the unknowns in `set` (bits); false when they are not determined. */
static bool solve(const normal_equations *e, uint32_t set, double *x) {
    double a[UNKNOWNS][UNKNOWNS + 1];
    int index[UNKNOWNS], n = 0;
    for (int i = 0; i < UNKNOWNS; i++) {
        x[i] = 0;
        if (set >> i & 1)
            index[n++] = i;
    }
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++)
            a[i][j] = e->matrix[index[i]][index[j]];
        a[i][n] = e->right[index[i]];
    }
    for (int p = 0; p < n; p++) { /* symmetric and positive: no pivoting */
        if (!(a[p][p] > 1e-13))
            return false;
        for (int i = 0; i < n; i++) {
            if (i == p)
                continue;
            double factor = a[i][p] / a[p][p];
            for (int j = p; j <= n; j++)
                a[i][j] -= factor * a[p][j];
        }
    }
    for (int i = 0; i < n; i++)
        x[index[i]] = a[i][n] / a[i][i];
    return true;
}

/* Largest over smallest singular value of the columns in `set`: Jacobi on their Gram matrix, whose
 * diagonal is 1. */
static double condition_of(const normal_equations *e, uint32_t set) {
    double g[UNKNOWNS][UNKNOWNS];
    double most = 0, least = INFINITY;
    for (int i = 0; i < UNKNOWNS; i++)
        for (int j = 0; j < UNKNOWNS; j++)
            g[i][j] = e->matrix[i][j];
    for (int sweep = 0; sweep < 30; sweep++)
        for (int p = 0; p < UNKNOWNS; p++)
            for (int q = p + 1; q < UNKNOWNS; q++) {
                if (!(set >> p & 1) || !(set >> q & 1) || g[p][q] == 0)
                    continue;
                double angle = 0.5 * atan2(2 * g[p][q], g[q][q] - g[p][p]);
                double c = cos(angle), s = sin(angle);
                for (int k = 0; k < UNKNOWNS; k++) {
                    double kp = g[k][p], kq = g[k][q];
                    g[k][p] = c * kp - s * kq;
                    g[k][q] = s * kp + c * kq;
                }
                for (int k = 0; k < UNKNOWNS; k++) {
                    double pk = g[p][k], qk = g[q][k];
                    g[p][k] = c * pk - s * qk;
                    g[q][k] = s * pk + c * qk;
                }
            }
    for (int i = 0; i < UNKNOWNS; i++)
        if (set >> i & 1) {
            most = fmax(most, g[i][i]);
            least = fmin(least, g[i][i]);
        }
    return least > 0 ? sqrt(most / least) : INFINITY;
}

static anemo_status check_mixes(const anemo_cost_mix *mixes, int32_t n, anemo_error *err) {
    if (n < 3)
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "mixes: %d of them; the cost of input and of output can be told apart from "
            "3 on, each with another ratio of the two",
            n);
    for (int32_t i = 0; i < n; i++)
        if (!(mixes[i].busy_s > 0) || !(mixes[i].in_uncached >= 0) || !(mixes[i].in_cached >= 0) ||
            !(mixes[i].out >= 0) || !isfinite(mixes[i].busy_s) ||
            !(mixes[i].in_uncached + mixes[i].in_cached + mixes[i].out > 0))
            return anemo_fail(err, ANEMO_E_INPUT,
                              "mixes[%d]: %g + %g tokens in, %g out, %g s busy; tokens must not be "
                              "negative and the time must be above 0",
                              i, mixes[i].in_uncached, mixes[i].in_cached, mixes[i].out,
                              mixes[i].busy_s);
    return ANEMO_OK;
}

/* Rows divided by their time, columns by their length, which goes to `length`. */
static normal_equations normal_of(const anemo_cost_mix *mixes, int32_t n, double *length) {
    normal_equations e = {0};
    for (int32_t i = 0; i < n; i++) {
        const double row[UNKNOWNS] = {mixes[i].in_uncached / mixes[i].busy_s,
                                      mixes[i].in_cached / mixes[i].busy_s,
                                      mixes[i].out / mixes[i].busy_s};
        for (int a = 0; a < UNKNOWNS; a++) {
            e.right[a] += row[a];
            for (int b = 0; b < UNKNOWNS; b++)
                e.matrix[a][b] += row[a] * row[b];
        }
    }
    for (int a = 0; a < UNKNOWNS; a++)
        length[a] = sqrt(e.matrix[a][a]);
    for (int a = 0; a < UNKNOWNS; a++) {
        e.right[a] /= length[a] > 0 ? length[a] : 1;
        for (int b = 0; b < UNKNOWNS; b++)
            e.matrix[a][b] /= (length[a] > 0 ? length[a] : 1) * (length[b] > 0 ? length[b] : 1);
    }
    return e;
}

static double squared_error(const normal_equations *e, const double *x, int32_t n) {
    double sum = n;
    for (int a = 0; a < UNKNOWNS; a++) {
        sum -= 2 * x[a] * e->right[a];
        for (int b = 0; b < UNKNOWNS; b++)
            sum += x[a] * e->matrix[a][b] * x[b];
    }
    return sum;
}

static void judge_fit(const anemo_cost_mix *mixes, int32_t n, anemo_cost_split *out) {
    double mean = 0, total = 0, left = 0;
    for (int32_t i = 0; i < n; i++)
        mean += mixes[i].busy_s / n;
    for (int32_t i = 0; i < n; i++) {
        double busy =
            anemo_cost_split_busy(out, mixes[i].in_uncached, mixes[i].in_cached, mixes[i].out);
        total += (mixes[i].busy_s - mean) * (mixes[i].busy_s - mean);
        left += (mixes[i].busy_s - busy) * (mixes[i].busy_s - busy);
        out->worst_residual = fmax(out->worst_residual, fabs(busy / mixes[i].busy_s - 1));
    }
    out->r_squared = total > 0 ? 1 - left / total : NAN;
}

anemo_status anemo_cost_split_fit(const anemo_cost_mix *mixes, int32_t n, anemo_cost_split *out,
                                  anemo_error *err) {
    double length[UNKNOWNS], best[UNKNOWNS] = {0}, x[UNKNOWNS], least = INFINITY;
    *out = (anemo_cost_split){0};
    anemo_status status = check_mixes(mixes, n, err);
    if (status != ANEMO_OK)
        return status;
    normal_equations e = normal_of(mixes, n, length);
    out->cached_was_measured = length[1] > 0;
    uint32_t all = out->cached_was_measured ? 7 : 5;
    out->condition = condition_of(&e, all);
    if (!(out->condition <= CONDITION_MAX))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "mixes: they are too alike (condition %.3g, at most %g): measure mixes "
                          "with other ratios of input%s to output",
                          out->condition, CONDITION_MAX,
                          out->cached_was_measured ? ", of cached input" : "");
    for (uint32_t set = 1; set <= all; set++) {
        if (set & ~all || !solve(&e, set, x) || x[0] < 0 || x[1] < 0 || x[2] < 0)
            continue;
        double error = squared_error(&e, x, n);
        if (error < least) {
            least = error;
            for (int a = 0; a < UNKNOWNS; a++)
                best[a] = x[a];
        }
    }
    out->in = length[0] > 0 ? best[0] / length[0] : 0;
    out->out = length[2] > 0 ? best[2] / length[2] : 0;
    out->cached = out->cached_was_measured ? best[1] / length[1] : out->in;
    judge_fit(mixes, n, out);
    return ANEMO_OK;
}
