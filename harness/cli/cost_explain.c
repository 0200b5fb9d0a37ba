/* `anemo cost --explain`: every number with the formula and the numbers that it comes from. */
#include "harness/cli/cost_view.h"

#include "harness/cost/date.h"
#include "harness/cost/finance.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

anemo_table *cost_table_inputs(const cost_view *v) {
    anemo_table *t = anemo_table_create("inputs", "Every input");
    anemo_money_columns(t, (const char *const[]){"key", "input", "value", "value", "low", "low",
                                                 "high", "high", "unit", "unit", "shape", "shape",
                                                 "class", "class", "as_of", "as of", "source",
                                                 "source", NULL});
    static const char *const shapes[] = {"fixed", "uniform", "triangular", "lognormal"};
    for (int32_t i = 0; i < v->s->model.n_inputs; i++) {
        const anemo_cost_number *n = &v->s->number[i];
        char day[16];
        anemo_date_text(n->origin.as_of, day, sizeof day);
        anemo_table_text(t, "%s", n->key);
        anemo_table_number(t, n->value, "%.6g");
        anemo_table_number(t, n->low, "%.6g");
        anemo_table_number(t, n->high, "%.6g");
        anemo_table_text(t, "%s", n->unit);
        anemo_table_text(t, "%s", shapes[n->shape]);
        anemo_table_text(t, "%s", anemo_class_name(n->origin.class_));
        anemo_table_text(t, "%s", day);
        anemo_table_text(t, "%s", n->origin.source);
    }
    return t;
}

static void say(anemo_table *t, const char *option, const char *what, double value,
                const char *format, ...) __attribute__((format(printf, 5, 6)));
static void say(anemo_table *t, const char *option, const char *what, double value,
                const char *format, ...) {
    char text[300];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    anemo_table_text(t, "%s", option);
    anemo_table_text(t, "%s", what);
    anemo_table_number(t, value, "%.6g");
    anemo_table_text(t, "%s", text);
}

static void explain_api(const cost_view *v, int32_t o, anemo_table *t) {
    const anemo_cost_scenario *s = v->s;
    const double *x = s->x, *a = x + s->model.option[o].first;
    const char *id = s->choice[o].id;
    anemo_cost_api_unit u = anemo_cost_api_price(&s->model, o, x, 0);
    anemo_cost_path p;
    double cached = x[ANEMO_G_CACHED], write = fmin(x[ANEMO_G_WRITE], 1 - cached);
    say(t, id, "ratio of all prices",
        a[ANEMO_A_REGION] * a[ANEMO_A_PRIORITY] * (1 + a[ANEMO_A_RETRY]),
        "region %g x priority %g x (1 + retries %g)", a[ANEMO_A_REGION], a[ANEMO_A_PRIORITY],
        a[ANEMO_A_RETRY]);
    say(t, id, "per request", u.request,
        "ratio x [%g in x tokenizer %g x (%.3g x %g + cached %.3g x %g + written %.3g x %g) + %g "
        "out "
        "x tokenizer %g x reasoning %g x %g] / 1e6 x (1 - batchable %g x (1 - %g))%s",
        x[ANEMO_G_IN], a[ANEMO_A_K_IN], 1 - cached - write, a[ANEMO_A_P_IN], cached,
        a[ANEMO_A_P_CACHED], write, a[ANEMO_A_P_WRITE], x[ANEMO_G_OUT], a[ANEMO_A_K_OUT],
        a[ANEMO_A_REASONING], a[ANEMO_A_P_OUT], x[ANEMO_G_BATCHABLE], a[ANEMO_A_BATCH],
        s->model.option[o].cache_and_batch_stack ? "" : ", batches without the cache discount");
    anemo_cost_option_path(&s->model, o, x, &p, NULL);
    say(t, id, "first year", p.first_year,
        "12 months of requests x per request, growth %g and price decline %g a year, at least %g, "
        "and %g a month",
        x[ANEMO_G_GROWTH], a[ANEMO_A_DECLINE], a[ANEMO_A_COMMIT], a[ANEMO_A_MONTHLY]);
    say(t, id, "all years, today's money", p.present_value,
        "months 1 to %.0f, each divided by (1 + %.6g)^month", 12 * x[ANEMO_G_YEARS],
        anemo_cost_monthly_rate(x[ANEMO_G_RATE]));
}

static void explain_speed(const cost_view *v, int32_t o, anemo_table *t) {
    const anemo_cost_scenario *s = v->s;
    const double *x = s->x, *b = x + s->model.option[o].first;
    const char *id = s->choice[o].id;
    const anemo_cost_capacity *c = &s->choice[o].capacity;
    if (c->mixes)
        say(t, id, "machine time per token", b[ANEMO_B_S_IN],
            "fitted from %d mixes: in %.4g, cached %.4g, out %.4g s; R2 %.4f, worst miss %.1f %%, "
            "condition %.3g",
            c->mixes, b[ANEMO_B_S_IN], b[ANEMO_B_S_CACHED], b[ANEMO_B_S_OUT], c->split.r_squared,
            100 * c->split.worst_residual, c->split.condition);
    if (c->projected)
        say(t, id, "deviation of the projection", c->projected_sd,
            "of ln speed: 0.15, assumed, and half of ln (ratio of peaks / ratio of bandwidths), "
            "squares added");
    double seconds = anemo_cost_unit_seconds(&s->model, o, x);
    say(t, id, "machine time per request", seconds,
        "[%g in x ((1 - %g) x %.4g + %g x %.4g) + %g out x %.4g] s / speed %g", x[ANEMO_G_IN],
        x[ANEMO_G_CACHED], b[ANEMO_B_S_IN], x[ANEMO_G_CACHED], b[ANEMO_B_S_CACHED], x[ANEMO_G_OUT],
        b[ANEMO_B_S_OUT], b[ANEMO_B_SPEED]);
    say(t, id, "requests per second of a server", anemo_cost_server_rate(&s->model, o, x),
        "%d units / %.4g s", s->model.option[o].units_per_server, seconds);
    say(t, id, "requests per second at the peak",
        anemo_cost_peak_rate(&s->model, x, x[ANEMO_G_REQUESTS]),
        "%g a month / (730 h x 3600 s) x max((1 - batchable %g) x busiest hour %.3g, 1) x burst %g",
        x[ANEMO_G_REQUESTS], x[ANEMO_G_BATCHABLE], s->model.profile[ANEMO_COST_HOURS_OF_WEEK - 1],
        x[ANEMO_G_BURST]);
    say(t, id, "servers",
        anemo_cost_servers(&s->model, o, x, x[ANEMO_G_REQUESTS]) +
            s->model.option[o].redundant_servers,
        "peak / (rate of a server x (1 - headroom %g)), rounded up, + %d redundant",
        x[ANEMO_G_HEADROOM], s->model.option[o].redundant_servers);
}

static void explain_machine(const cost_view *v, int32_t o, anemo_table *t) {
    const anemo_cost_scenario *s = v->s;
    const double *x = s->x, *b = x + s->model.option[o].first;
    const char *id = s->choice[o].id;
    int32_t n = anemo_cost_servers(&s->model, o, x, x[ANEMO_G_REQUESTS]);
    n += n > 0 ? s->model.option[o].redundant_servers : 0;
    anemo_cost_year y = anemo_cost_machine_year(&s->model, o, x, x[ANEMO_G_REQUESTS], n);
    explain_speed(v, o, t);
    say(t, id, "utilisation", y.utilisation, "mean rate / (%d servers x rate of a server)", n);
    if (s->model.option[o].role == ANEMO_ROLE_OWNED) {
        say(t, id, "capital recovery factor",
            anemo_cost_capital_recovery(x[ANEMO_G_RATE], x[ANEMO_G_YEARS]),
            "r (1+r)^n / ((1+r)^n - 1), r %g, n %g", x[ANEMO_G_RATE], x[ANEMO_G_YEARS]);
        say(t, id, "capital, a year", y.capital, "%d x %g x (1 - residual %g / (1+r)^n) x factor",
            n, b[ANEMO_B_SERVER], b[ANEMO_B_RESIDUAL]);
        say(t, id, "network, a year", y.network, "%d x %g x %g x factor", n, b[ANEMO_B_SERVER],
            b[ANEMO_B_NETWORK]);
        say(t, id, "power of a server, W", anemo_cost_server_watts(&s->model, o, x, y.utilisation),
            "(%d units x (%g + (%g - %g) x utilisation) + host %g) / supply %g",
            s->model.option[o].units_per_server, b[ANEMO_B_IDLE], b[ANEMO_B_BUSY], b[ANEMO_B_IDLE],
            b[ANEMO_B_HOST], b[ANEMO_B_PSU]);
        say(t, id, "energy, a year", y.energy,
            "%d x kW x 8760 h x PUE %g x %g, and a charge for the peak of %g", n, x[ANEMO_G_PUE],
            x[ANEMO_G_KWH], x[ANEMO_G_DEMAND]);
        say(t, id, "space, a year", y.space, "peak kW x 1.1 x %g x 12", x[ANEMO_G_COLO]);
        say(t, id, "maintenance, a year", y.upkeep, "%d x %g x %g", n, b[ANEMO_B_SERVER],
            b[ANEMO_B_UPKEEP]);
        say(t, id, "failures, a year", y.failures, "%d x %d units x %g x %g", n,
            s->model.option[o].units_per_server, b[ANEMO_B_FAILURES], b[ANEMO_B_UNIT]);
    } else {
        say(t, id, "rent, a year", y.rent, "%d x %d units x %g x 8760 h x share %g", n,
            s->model.option[o].units_per_server, b[ANEMO_B_HOURLY], b[ANEMO_B_ON_SHARE]);
    }
    say(t, id, "software, a year", y.software, "units x %g", b[ANEMO_B_SOFTWARE]);
    say(t, id, "staff, a year", y.staff, "(%g + %d x %g) posts x %g x share %g", x[ANEMO_G_FTE], n,
        x[ANEMO_G_FTE_EACH], x[ANEMO_G_FTE_COST], b[ANEMO_B_STAFF]);
    say(t, id, "other, a year", y.other, "as given");
    say(t, id, "the year", y.total, "the sum of these");
    say(t, id, "cost of a unit and hour", y.hourly_per_unit, "the year / (8760 h x units)");
    anemo_cost_tokens k = anemo_cost_token_cost(&s->model, o, x, x[ANEMO_G_REQUESTS], &y);
    say(t, id, "share of machine time: input", k.in_share, "uncached input x its time, over all");
    say(t, id, "share of machine time: cached", k.cached_share,
        "cached input x its time, over all");
    say(t, id, "share of machine time: output", k.out_share, "output x its time, over all");
    say(t, id, "per million input", k.in, "the year x its share / uncached input a year x 1e6");
    say(t, id, "per million output", k.out, "the year x its share / output a year x 1e6");
    say(t, id, "per request", k.request, "the year / (12 x %g requests)", x[ANEMO_G_REQUESTS]);
}

static void explain_hybrid(const cost_view *v, int32_t o, anemo_table *t) {
    const anemo_cost_scenario *s = v->s;
    const anemo_cost_option *h = &s->model.option[o];
    const char *id = s->choice[o].id;
    anemo_cost_path p;
    anemo_cost_option_path(&s->model, o, s->x, &p, NULL);
    say(t, id, "servers", h->servers,
        "of every number from what the sensitive share %g needs up to all, the cheapest over the "
        "years",
        s->x[ANEMO_G_SENSITIVE]);
    say(t, id, "share of requests on machines", p.machine_share,
        "hours of the week below the machines' capacity, and the capacity in the others; the rest "
        "goes to %s",
        s->choice[h->api].id);
    say(t, id, "all years, today's money", p.present_value, "machines and bills, month by month");
}

anemo_table *cost_table_explain(const cost_view *v) {
    anemo_table *t = anemo_table_create("explain", "Every number explained");
    anemo_money_columns(t, (const char *const[]){"id", "option", "what", "what", "value", "value",
                                                 "formula", "is", NULL});
    for (int32_t o = 0; o < v->s->model.n_options; o++) {
        anemo_cost_role role = v->s->model.option[o].role;
        if (!v->outcome[o].evaluated)
            continue;
        if (role <= ANEMO_ROLE_HOSTED)
            explain_api(v, o, t);
        else if (role == ANEMO_ROLE_HYBRID)
            explain_hybrid(v, o, t);
        else
            explain_machine(v, o, t);
        if (o != v->s->in_use) {
            say(t, v->s->choice[o].id, "saving at the point values", v->outcome[o].npv,
                "all years of %s less all years of this", v->s->choice[v->s->in_use].id);
            say(t, v->s->choice[o].id, "probability that it saves", v->outcome[o].probability,
                "share of %d draws (halves: %.3f and %.3f) in which the saving is above 0",
                v->draws, v->outcome[o].half_probability[0], v->outcome[o].half_probability[1]);
        }
    }
    return t;
}
