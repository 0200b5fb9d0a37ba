/* See risk.h. */
#include "harness/cost/risk.h"

#include "harness/check/random.h"
#include "harness/measure/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SWITCH_STEPS 96 /* between the value and each end of what the input can take */

/* ---------------------------------------------------------------- distributions */

/* Inverse of the normal distribution: Acklam's rational approximation, 1.2e-9 relative. */
static double normal_quantile(double p) {
    static const double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,
                               -2.759285104469687e+02, 1.383577518672690e+02,
                               -3.066479806614716e+01, 2.506628277459239e+00};
    static const double b[] = {-5.447609879822406e+01, 1.615858368580409e+02,
                               -1.556989798598866e+02, 6.680131188771972e+01,
                               -1.328068155288572e+01};
    static const double c[] = {-7.784894002430293e-03, -3.223964580411365e-01,
                               -2.400758277161838e+00, -2.549732539343734e+00,
                               4.374664141464968e+00,  2.938163982698783e+00};
    static const double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                               3.754408661907416e+00};
    if (p > 0.5)
        return -normal_quantile(1 - p);
    if (p < 0.02425) {
        double q = sqrt(-2 * log(p));
        return (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
               ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
    }
    double q = p - 0.5, r = q * q;
    return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
           (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
}

static double triangular_quantile(const anemo_cost_number *n, double p) {
    double width = n->high - n->low, left = n->value - n->low;
    if (p * width <= left)
        return n->low + sqrt(p * width * left);
    return n->high - sqrt((1 - p) * width * (n->high - n->value));
}

/* Each side has its own spread, so that value is the median and low and high are 5 and 95 %. */
static double lognormal_quantile(const anemo_cost_number *n, double p) {
    double z = normal_quantile(p) / 1.6448536269514722;
    double end = z < 0 ? n->value / n->low : n->high / n->value;
    return n->value * pow(end, z);
}

double anemo_cost_quantile(const anemo_cost_number *n, double p) {
    double x = n->value;
    if (n->shape == ANEMO_SHAPE_UNIFORM)
        x = n->low + p * (n->high - n->low);
    if (n->shape == ANEMO_SHAPE_TRIANGULAR)
        x = triangular_quantile(n, p);
    if (n->shape == ANEMO_SHAPE_LOGNORMAL)
        x = lognormal_quantile(n, p);
    return fmin(fmax(x, n->least), n->most);
}

/* ---------------------------------------------------------------- draws */

struct anemo_cost_draws {
    int32_t n, n_columns;
    int32_t input[ANEMO_COST_INPUTS_MAX];
    double *column[ANEMO_COST_INPUTS_MAX];
};

static const char *last_part(const char *key) {
    const char *option = strncmp(key, "options.", 8) == 0 ? strchr(key + 8, '.') : NULL;
    return option ? option : key;
}

static bool one_row(const anemo_cost_number *a, const anemo_cost_number *b) {
    return a->from_reference && b->from_reference && a->low == b->low && a->high == b->high &&
           a->value == b->value && strcmp(last_part(a->key), last_part(b->key)) == 0 &&
           strcmp(a->origin.source, b->origin.source) == 0;
}

static anemo_status fill_column(anemo_cost_draws *d, const anemo_cost_number *n, uint64_t seed,
                                int32_t index, int32_t *order, anemo_error *err) {
    check_random random = check_random_seed(seed, 0xc057, (uint64_t)index);
    double *column = malloc((size_t)d->n * sizeof *column);
    if (!column)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %d draws", d->n);
    d->input[d->n_columns] = index;
    d->column[d->n_columns++] = column;
    for (int32_t i = 0; i < d->n; i++)
        order[i] = i;
    check_random_shuffle(&random, order, d->n);
    for (int32_t i = 0; i < d->n; i++) {
        double u = (order[i] + check_random_uniform(&random)) / d->n;
        column[i] = anemo_cost_quantile(n, fmin(fmax(u, 1e-9), 1 - 1e-9));
    }
    return ANEMO_OK;
}

anemo_status anemo_cost_draws_create(const anemo_cost_scenario *s, int32_t n, uint64_t seed,
                                     anemo_cost_draws **out, anemo_error *err) {
    anemo_cost_draws *d = calloc(1, sizeof *d);
    int32_t *order = malloc((size_t)n * sizeof *order);
    anemo_status status = ANEMO_OK;
    if (!d || !order)
        status = anemo_fail(err, ANEMO_E_MEMORY, "no memory for %d draws", n);
    else
        d->n = n;
    for (int32_t i = 0; i < s->model.n_inputs && status == ANEMO_OK; i++) {
        const anemo_cost_number *number = &s->number[i];
        int32_t like = i;
        for (int32_t k = 0; k < i && like == i; k++)
            if (one_row(&s->number[k], number))
                like = k; /* the same stream gives the same draws */
        if (number->shape != ANEMO_SHAPE_FIXED) {
            status = fill_column(d, number, seed, like, order, err);
            if (status == ANEMO_OK)
                d->input[d->n_columns - 1] = i;
        }
    }
    free(order);
    if (status != ANEMO_OK) {
        anemo_cost_draws_free(d);
        d = NULL;
    }
    *out = d;
    return status;
}

void anemo_cost_draws_free(anemo_cost_draws *draws) {
    for (int32_t i = 0; draws && i < draws->n_columns; i++)
        free(draws->column[i]);
    free(draws);
}

/* ---------------------------------------------------------------- Monte Carlo */

double anemo_cost_saving_of(const anemo_cost_model *model, int32_t in_use, int32_t option,
                            const double *x) {
    anemo_cost_path bill, own;
    anemo_cost_option_path(model, in_use, x, &bill, NULL);
    anemo_cost_option_path(model, option, x, &own, NULL);
    return bill.present_value - own.present_value;
}

static bool can_evaluate(const anemo_cost_scenario *s, int32_t option) {
    return s->model.option[option].role <= ANEMO_ROLE_HOSTED || s->choice[option].capacity.known;
}

static double share_above_zero(const double *x, int32_t n, int32_t from, int32_t step) {
    int32_t above = 0, all = 0;
    for (int32_t i = from; i < n; i += step, all++)
        above += x[i] > 0;
    return (double)above / all;
}

/* Median of the draws, put in order only as far as that needs (Hoare's selection). */
static double median_of(double *x, int32_t n) {
    int32_t lo = 0, hi = n - 1, k = (n - 1) / 2;
    while (lo < hi) {
        double pivot = x[lo + (hi - lo) / 2];
        int32_t i = lo, j = hi;
        while (i <= j) {
            while (x[i] < pivot)
                i++;
            while (x[j] > pivot)
                j--;
            if (i <= j) {
                double kept = x[i];
                x[i++] = x[j];
                x[j--] = kept;
            }
        }
        if (k <= j)
            hi = j;
        else if (k >= i)
            lo = i;
        else
            break;
    }
    return x[k];
}

static void summarise(const double *saving, const double *owned, int32_t n, double *scratch,
                      bool brief, anemo_cost_outcome *o) {
    o->probability = share_above_zero(saving, n, 0, 1);
    int32_t better = 0;
    for (int32_t i = 0; i < n && owned; i++)
        better += saving[i] > owned[i];
    o->beats_owning = owned ? (double)better / n : NAN;
    memcpy(scratch, saving, (size_t)n * sizeof *scratch);
    if (brief) {
        o->p50 = median_of(scratch, n);
        return;
    }
    for (int half = 0; half < 2; half++) {
        int32_t m = 0;
        for (int32_t i = half; i < n; i += 2)
            scratch[m++] = saving[i];
        anemo_stats_sort(scratch, m);
        o->half_p50[half] = anemo_stats_quantile(scratch, m, 0.5);
        o->half_probability[half] = share_above_zero(saving, n, half, 2);
    }
    memcpy(scratch, saving, (size_t)n * sizeof *scratch);
    anemo_stats_sort(scratch, n);
    o->p5 = anemo_stats_quantile(scratch, n, 0.05);
    o->p50 = anemo_stats_quantile(scratch, n, 0.5);
    o->p95 = anemo_stats_quantile(scratch, n, 0.95);
}

static void draw_savings(const anemo_cost_scenario *s, const anemo_cost_draws *d,
                         const anemo_cost_model *model, const bool *wanted, int32_t n,
                         double volume, double *saving) {
    double x[ANEMO_COST_INPUTS_MAX];
    anemo_cost_path path;
    memcpy(x, s->x, sizeof x);
    x[ANEMO_G_REQUESTS] = s->x[ANEMO_G_REQUESTS] * volume;
    for (int32_t i = 0; i < n; i++) {
        for (int32_t c = 0; c < d->n_columns; c++)
            x[d->input[c]] = d->column[c][i] * (d->input[c] == ANEMO_G_REQUESTS ? volume : 1);
        anemo_cost_option_path(model, s->in_use, x, &path, NULL);
        double bill = path.present_value;
        for (int32_t o = 0; o < model->n_options; o++) {
            if (!wanted[o])
                continue;
            anemo_cost_option_path(model, o, x, &path, NULL);
            saving[(size_t)o * (size_t)n + (size_t)i] = bill - path.present_value;
        }
    }
}

anemo_status anemo_cost_simulate(const anemo_cost_scenario *s, const anemo_cost_draws *draws,
                                 int32_t n, double volume, int32_t owned, const bool *only,
                                 anemo_cost_outcome *outcome, anemo_error *err) {
    anemo_cost_model model = s->model;
    bool wanted[ANEMO_COST_OPTIONS_MAX];
    double x[ANEMO_COST_INPUTS_MAX];
    anemo_cost_path path;
    n = n > 0 && n < draws->n ? n : draws->n;
    size_t rows = (size_t)model.n_options, width = (size_t)n;
    double *saving = calloc((rows + 1) * width, sizeof *saving);
    if (!saving)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %d draws", n);
    memcpy(x, s->x, sizeof x);
    x[ANEMO_G_REQUESTS] *= volume;
    for (int32_t o = 0; o < model.n_options; o++) {
        wanted[o] = can_evaluate(s, o) && (!only || only[o]);
        if (model.option[o].role == ANEMO_ROLE_HYBRID && wanted[o])
            anemo_cost_plan_hybrid(&model, o, x);
    }
    draw_savings(s, draws, &model, wanted, n, volume, saving);
    for (int32_t o = 0; o < model.n_options; o++) {
        outcome[o] = (anemo_cost_outcome){.evaluated = wanted[o]};
        if (!outcome[o].evaluated)
            continue;
        anemo_cost_option_path(&model, o, x, &path, NULL);
        outcome[o].pv = path.present_value;
        outcome[o].servers = path.servers_first;
        outcome[o].npv = anemo_cost_saving_of(&model, s->in_use, o, x);
        summarise(saving + (size_t)o * width, owned >= 0 ? saving + (size_t)owned * width : NULL, n,
                  saving + rows * width, only != NULL, &outcome[o]);
    }
    free(saving);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- tornado and switching values */

typedef struct probe {
    const anemo_cost_scenario *s;
    int32_t option, input;
    double x[ANEMO_COST_INPUTS_MAX];
} probe;

static double saving_at(probe *p, double value) {
    double kept = p->x[p->input];
    p->x[p->input] = value;
    double saving = anemo_cost_saving_of(&p->s->model, p->s->in_use, p->option, p->x);
    p->x[p->input] = kept;
    return saving;
}

static double bisect(probe *p, double a, double at_a, double b) {
    for (int i = 0; i < 60 && fabs(b - a) > 1e-9 * fabs(a + b); i++) {
        double mid = (a + b) / 2, at = saving_at(p, mid);
        if ((at > 0) == (at_a > 0))
            a = mid;
        else
            b = mid;
    }
    return (a + b) / 2;
}

/* The nearest change of sign from the value towards `end`, in steps that grow; NaN: none. */
static double switching_towards(probe *p, double value, double at_value, double end) {
    double before = value, at_before = at_value;
    for (int i = 1; i <= SWITCH_STEPS; i++) {
        double share = (double)i / SWITCH_STEPS, to;
        if (value > 0 && end > value)
            to = value * pow(fmin(end / value, 1e4), share);
        else
            to = value + (end - value) * share;
        double at = saving_at(p, to);
        if ((at > 0) != (at_before > 0))
            return bisect(p, before, at_before, to);
        before = to;
        at_before = at;
    }
    return NAN;
}

static double nearest(double value, double a, double b) {
    if (isnan(a) || isnan(b))
        return isnan(a) ? b : a;
    return fabs(log((fabs(a) + 1e-12) / (fabs(value) + 1e-12))) <
                   fabs(log((fabs(b) + 1e-12) / (fabs(value) + 1e-12)))
               ? a
               : b;
}

static int wider(const void *a, const void *b) {
    const anemo_cost_bar *x = a, *y = b;
    double wx = fabs(x->at_high - x->at_low), wy = fabs(y->at_high - y->at_low);
    if (wx != wy)
        return wx < wy ? 1 : -1;
    return (x->input > y->input) - (x->input < y->input);
}

static void add_bars(probe *p, int32_t option, double base, anemo_cost_bar *bar, int32_t *n) {
    const anemo_cost_scenario *s = p->s;
    int32_t first, count = anemo_cost_option_inputs(s, option, &first);
    for (int32_t i = first; i < first + count; i++) {
        const anemo_cost_number *number = &s->number[i];
        anemo_cost_bar b = {.input = i};
        p->input = i;
        b.low = anemo_cost_quantile(number, 0.1);
        b.high = anemo_cost_quantile(number, 0.9);
        b.at_low = number->shape == ANEMO_SHAPE_FIXED ? base : saving_at(p, b.low);
        b.at_high = number->shape == ANEMO_SHAPE_FIXED ? base : saving_at(p, b.high);
        b.flips = (b.at_low > 0) != (b.at_high > 0);
        double down = switching_towards(p, number->value, base, number->least);
        double up = switching_towards(p, number->value, base, number->most);
        b.switching = nearest(number->value, down, up);
        if (b.at_low != b.at_high || !isnan(b.switching))
            bar[(*n)++] = b;
    }
}

int32_t anemo_cost_tornado(const anemo_cost_scenario *s, int32_t option, anemo_cost_bar *bar) {
    const anemo_cost_option *o = &s->model.option[option];
    probe p = {.s = s, .option = option};
    int32_t n = 0;
    memcpy(p.x, s->x, sizeof p.x);
    double base = anemo_cost_saving_of(&s->model, s->in_use, option, p.x);
    add_bars(&p, -1, base, bar, &n);
    add_bars(&p, s->in_use, base, bar, &n);
    if (o->role == ANEMO_ROLE_HYBRID) {
        add_bars(&p, o->box, base, bar, &n);
        if (o->api != s->in_use)
            add_bars(&p, o->api, base, bar, &n);
    } else if (option != s->in_use)
        add_bars(&p, option, base, bar, &n);
    qsort(bar, (size_t)n, sizeof *bar, wider);
    return n;
}
