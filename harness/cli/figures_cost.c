/* The queries of figures about a scenario. See figure.h. */
#include "harness/cli/cost_view.h"
#include "harness/cli/figure.h"
#include "harness/cli/size_view.h"
#include "harness/eval/interval.h"

#include <math.h>
#include <string.h>

#define BAND_VOLUMES 25
#define BAND_RANGE                                                                                 \
    4.0 /* two octaves to each side of the scenario's volume, more to show an edge                 \
         */
#define BAND_DRAWS   1000
#define TORNADO_BARS 12

static bool is_machine(const cost_view *v, int32_t o) {
    anemo_cost_role role = v->s->model.option[o].role;
    return role == ANEMO_ROLE_RENTED || role == ANEMO_ROLE_OWNED;
}

static const cost_view *view_of(const anemo_report *report, figure_data *d) {
    if (report->cost)
        snprintf(d->unit, sizeof d->unit, "%s", report->cost->s->currency);
    return report->cost;
}

/* ---------------------------------------------------------------- break-even */

void figure_query_break_even(const anemo_report *report, figure_data *d) {
    const cost_view *v = view_of(report, d);
    anemo_cost_outcome out[ANEMO_COST_OPTIONS_MAX];
    anemo_cost_draws *draws = NULL;
    anemo_money_columns(d->table, (const char *const[]){"requests", "requests a month", "p5", "5 %",
                                                        "p50", "median", "p95", "95 %", "now",
                                                        "this scenario", NULL});
    if (!v || v->subject < 0 ||
        anemo_cost_draws_create(v->s, BAND_DRAWS, v->seed, &draws, NULL) != ANEMO_OK)
        return;
    double now = v->s->x[ANEMO_G_REQUESTS];
    double edge = v->n_won > 0 ? v->won[0].lo / now : 1;
    double least = fmin(1 / BAND_RANGE, edge / 2), most = fmax(BAND_RANGE, 2 * edge);
    for (int i = 0; i < BAND_VOLUMES; i++) {
        double factor = least * pow(most / least, (double)i / (BAND_VOLUMES - 1));
        if (anemo_cost_simulate(v->s, draws, 0, factor, v->owned, NULL, out, NULL) != ANEMO_OK)
            continue;
        const anemo_cost_outcome *o = &out[v->subject];
        const double values[] = {factor * now, o->p5, o->p50, o->p95, now};
        for (int k = 0; k < 5; k++)
            anemo_table_number(d->table, values[k], "%.0f");
    }
    anemo_cost_draws_free(draws);
    int n = snprintf(d->described, sizeof d->described,
                     "%s against %s, %d draws at each volume. At the point values it saves",
                     v->s->choice[v->subject].id, v->s->choice[v->s->in_use].id, BAND_DRAWS);
    int32_t shown = v->n_won < COST_INTERVALS ? v->n_won : COST_INTERVALS;
    for (int32_t i = 0; i < shown && n < 500; i++)
        n += v->won[i].to_end ? snprintf(d->described + n, 90, "%s from %.0f requests a month on",
                                         i ? "," : "", v->won[i].lo)
                              : snprintf(d->described + n, 90, "%s from %.0f to %.0f", i ? "," : "",
                                         v->won[i].lo, v->won[i].hi);
    snprintf(d->described + n, 32, "%s.", shown ? "" : " at no volume");
}

/* ---------------------------------------------------------------- tornado */

void figure_query_tornado(const anemo_report *report, figure_data *d) {
    const cost_view *v = view_of(report, d);
    anemo_money_columns(d->table, (const char *const[]){"input", "input", "low", "saving at 10 %",
                                                        "high", "saving at 90 %", "point",
                                                        "at the point values", NULL});
    if (!v || v->subject < 0 || v->n_bars == 0)
        return;
    double point = v->outcome[v->subject].npv;
    int flips = 0;
    for (int32_t i = 0; i < v->n_bars && i < TORNADO_BARS; i++) {
        const char *key = v->s->number[v->bar[i].input].key;
        const char *from = strncmp(key, "options.", 8) == 0 ? key + 8 : strchr(key, '.') + 1;
        figure_label(d->table, "%s", from);
        anemo_table_number(d->table, v->bar[i].at_low, "%.0f");
        anemo_table_number(d->table, v->bar[i].at_high, "%.0f");
        anemo_table_number(d->table, point, "%.0f");
        flips += v->bar[i].flips;
    }
    snprintf(
        d->described, sizeof d->described,
        "Saving of %s; blue: the input at its 10 %% point, orange: at its 90 %% point. %s moves "
        "it most; %d of the %d shown change its sign (a dashed line is 0).",
        v->s->choice[v->subject].id, v->s->number[v->bar[0].input].key, flips,
        anemo_table_rows(d->table));
}

/* ---------------------------------------------------------------- utilisation */

/* Cost of a million tokens when the option's servers are busy this share of the time. */
static double cost_at(const cost_view *v, int32_t o, double utilisation) {
    const anemo_cost_scenario *s = v->s;
    const double *x = s->x;
    double now = x[ANEMO_G_REQUESTS];
    if (!is_machine(v, o)) {
        double request = anemo_cost_api_price(&s->model, o, x, 0).request;
        return request * 1e6 / (x[ANEMO_G_IN] + x[ANEMO_G_OUT]);
    }
    int32_t n = anemo_cost_servers(&s->model, o, x, now);
    n += n > 0 ? s->model.option[o].redundant_servers : 0;
    double requests = utilisation * n * anemo_cost_server_rate(&s->model, o, x) * 3600 *
                      ANEMO_COST_HOURS_PER_YEAR / 12;
    anemo_cost_year year = anemo_cost_machine_year(&s->model, o, x, requests, n);
    return anemo_cost_token_cost(&s->model, o, x, requests, &year).blended;
}

void figure_query_utilisation(const anemo_report *report, figure_data *d) {
    static const double shares[] = {0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2,
                                    0.3,  0.4,  0.5,  0.6,  0.7,  0.8, 0.9,  1};
    const cost_view *v = view_of(report, d);
    int machines = 0;
    anemo_table_column(d->table, "utilisation", "utilisation, %");
    anemo_table_column(d->table, "now", "this scenario, %");
    if (!v || v->subject < 0)
        return;
    int32_t box = v->s->model.option[v->subject].role == ANEMO_ROLE_HYBRID
                      ? v->s->model.option[v->subject].box
                      : v->subject;
    box = is_machine(v, box) ? box : v->owned;
    for (int32_t o = 0; o < v->s->model.n_options; o++) {
        machines += is_machine(v, o) && v->outcome[o].evaluated;
        if (v->outcome[o].evaluated && v->s->model.option[o].role != ANEMO_ROLE_HYBRID)
            anemo_table_column(d->table, v->s->choice[o].id, v->s->choice[o].id);
    }
    if (machines == 0 || box < 0)
        return;
    int32_t n = anemo_cost_servers(&v->s->model, box, v->s->x, v->s->x[ANEMO_G_REQUESTS]) +
                v->s->model.option[box].redundant_servers;
    double now = anemo_cost_machine_year(&v->s->model, box, v->s->x, v->s->x[ANEMO_G_REQUESTS], n)
                     .utilisation;
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        anemo_table_number(d->table, 100 * shares[i], "%.0f");
        anemo_table_number(d->table, 100 * now, "%.1f");
        for (int32_t o = 0; o < v->s->model.n_options; o++)
            if (v->outcome[o].evaluated && v->s->model.option[o].role != ANEMO_ROLE_HYBRID)
                anemo_table_number(d->table, cost_at(v, o, shares[i]), "%.3f");
    }
    snprintf(
        d->described, sizeof d->described,
        "Whole year's cost over all tokens. Machines cost less per token the more they do, APIs "
        "the same. This scenario keeps %s busy %.1f %% of the time.",
        v->s->choice[box].id, 100 * now);
}

/* ---------------------------------------------------------------- memory */

void figure_query_memory(const anemo_report *report, figure_data *d) {
    const size_view *v = report->size;
    anemo_money_columns(
        d->table, (const char *const[]){"option", "option", "reserve", "reserve, GB", "weights",
                                        "weights, GB", "activations", "activations, GB", "sessions",
                                        "keys and values at the load, GB", "free",
                                        "free for keys and values, GB", NULL});
    if (!v || v->judged == 0)
        return;
    for (int32_t o = 0; o < v->s->model.n_options; o++) {
        const anemo_size *z = &v->option[o].size;
        if (!v->option[o].present)
            continue;
        double used = fmin(z->concurrency * z->kv_per_session, fmax(z->kv_free, 0));
        const double bytes[] = {z->reserve, z->weights, z->activations, used,
                                fmax(z->kv_free - used, 0)};
        figure_label(d->table, "%s", v->s->choice[o].id);
        for (int k = 0; k < 5; k++)
            anemo_table_number(d->table, bytes[k] / 1e9, "%.2f");
    }
    snprintf(d->described, sizeof d->described,
             "Memory of the units that hold one copy of the model, for %d option%s.", v->judged,
             v->judged > 1 ? "s" : "");
}

/* ---------------------------------------------------------------- options */

/* Of one request: its API price, or the whole year over all requests. */
static double request_cost(const cost_view *v, int32_t o) {
    const anemo_cost_scenario *s = v->s;
    double now = s->x[ANEMO_G_REQUESTS];
    if (is_machine(v, o)) {
        int32_t n = anemo_cost_servers(&s->model, o, s->x, now);
        n += n > 0 ? s->model.option[o].redundant_servers : 0;
        anemo_cost_year year = anemo_cost_machine_year(&s->model, o, s->x, now, n);
        return year.total / (12 * now);
    }
    if (s->model.option[o].role == ANEMO_ROLE_HYBRID)
        return NAN; /* two models: no one accuracy */
    return anemo_cost_api_price(&s->model, o, s->x, 0).request;
}

void figure_query_options(const anemo_report *report, figure_data *d) {
    const cost_view *v = view_of(report, d);
    anemo_money_columns(d->table,
                        (const char *const[]){"option", "option", "request", "per request",
                                              "accuracy", "correct, %", "lo", "95 % from", "hi",
                                              "to", "n", "questions", NULL});
    for (int32_t o = 0; v && o < v->s->model.n_options; o++) {
        const anemo_cost_accuracy *a = &v->s->choice[o].accuracy;
        double request = v->outcome[o].evaluated ? request_cost(v, o) : NAN;
        if (!a->known || !isfinite(request))
            continue;
        anemo_interval share = anemo_wilson(a->correct, a->n);
        figure_label(d->table, "%s", v->s->choice[o].id);
        anemo_table_number(d->table, request, "%.6f");
        anemo_table_number(d->table, 100 * share.value, "%.1f");
        anemo_table_number(d->table, 100 * share.lo, "%.1f");
        anemo_table_number(d->table, 100 * share.hi, "%.1f");
        anemo_table_number(d->table, (double)a->n, "%.0f");
    }
    if (anemo_table_rows(d->table) > 0)
        snprintf(
            d->described, sizeof d->described,
            "Upper left is better. Bars: 95 %% intervals (Wilson). Machines: the whole year over "
            "all requests; hybrids answer with two models and are left out.");
}
