/* The tables of `anemo cost`. See cost_view.h. */
#include "harness/cli/cost_view.h"

#include "harness/cost/date.h"
#include "harness/cost/finance.h"
#include "harness/eval/interval.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *role_text(const cost_view *v, int32_t o) {
    return anemo_cost_role_name(v->s->model.option[o].role);
}

static bool is_api(const cost_view *v, int32_t o) {
    return v->s->model.option[o].role <= ANEMO_ROLE_HOSTED;
}

static double requests(const cost_view *v) {
    return v->s->x[ANEMO_G_REQUESTS];
}

/* ---------------------------------------------------------------- the verdict */

static void line(anemo_table *t, const char *key, const char *unit, double value,
                 const char *shown) {
    anemo_table_text(t, "%s", key);
    anemo_table_number(t, value, shown);
    anemo_table_text(t, "%s", unit);
}

static void words(anemo_table *t, const char *key, const char *text) {
    anemo_table_text(t, "%s", key);
    anemo_table_text(t, "%s", text);
    anemo_table_text(t, "%s", "");
}

static void verdict_money(const cost_view *v, anemo_table *t) {
    const anemo_cost_scenario *s = v->s;
    const anemo_cost_outcome *o = &v->outcome[v->subject];
    double flow[ANEMO_COST_MONTHS_MAX + 1], bill[ANEMO_COST_MONTHS_MAX + 1];
    double x[ANEMO_COST_INPUTS_MAX];
    anemo_cost_path path, today;
    int32_t n = anemo_cost_option_path(&s->model, v->subject, s->x, &path, flow);
    anemo_cost_option_path(&s->model, s->in_use, s->x, &today, bill);
    for (int32_t m = 0; m <= n; m++)
        flow[m] = bill[m] - flow[m];
    double rate = anemo_cost_monthly_rate(s->x[ANEMO_G_RATE]);
    line(t, "cash out now", s->currency, path.purchase, "%.0f");
    line(t, "cost of the first year", s->currency, path.first_year, "%.0f");
    line(t, "today's bill, first year", s->currency, today.first_year, "%.0f");
    line(t, "saving, 5 % point", s->currency, o->p5, "%.0f");
    line(t, "saving, median", s->currency, o->p50, "%.0f");
    line(t, "saving, 95 % point", s->currency, o->p95, "%.0f");
    line(t, "saving at the point values (NPV)", s->currency, o->npv, "%.0f");
    line(t, "probability that it saves", "1", o->probability, "%.3f");
    line(t, "payback, simple", "month", anemo_cost_payback_months(flow, n + 1, 0), "%.1f");
    line(t, "payback, discounted", "month", anemo_cost_payback_months(flow, n + 1, rate), "%.1f");
    line(t, "internal rate of return", "1/year", anemo_cost_internal_rate(flow, n + 1), "%.3f");
    memcpy(x, s->x, sizeof x);
    x[ANEMO_G_REQUESTS] /= 2;
    line(t, "saving if demand is half", s->currency,
         anemo_cost_saving_of(&s->model, s->in_use, v->subject, x), "%.0f");
}

anemo_table *cost_table_verdict(const cost_view *v) {
    const anemo_cost_scenario *s = v->s;
    anemo_table *t = anemo_table_create("verdict", "Verdict");
    char text[512], day[16];
    anemo_money_columns(t, (const char *const[]){"what", "", "value", "", "unit", "", NULL});
    snprintf(text, sizeof text, "%s%s", s->example ? "EXAMPLE with made-up figures: " : "",
             s->name);
    words(t, "scenario", text);
    words(t, "verdict", anemo_verdict_name(v->verdict.kind));
    if (v->verdict.kind != v->verdict.money)
        words(t, "by money alone", anemo_verdict_name(v->verdict.money));
    words(t, "because", v->verdict.reason);
    if (v->verdict.next[0])
        words(t, "what would decide", v->verdict.next);
    if (v->subject >= 0) {
        snprintf(text, sizeof text, "%s: %s%s%s", s->choice[v->subject].id,
                 s->choice[v->subject].model, s->choice[v->subject].machine[0] ? " on " : "",
                 s->choice[v->subject].machine);
        words(t, "what", text);
    }
    snprintf(text, sizeof text, "%s: %s at %s", s->choice[s->in_use].id, s->choice[s->in_use].model,
             s->choice[s->in_use].provider);
    words(t, "against the bill of", text);
    if (v->subject >= 0)
        verdict_money(v, t);
    snprintf(text, sizeof text,
             "buy from %g %%, do not up to %g %%, dominate from %g %%; accuracy may lose %.1f "
             "points%s%s",
             100 * s->rule.buy, 100 * s->rule.refuse, 100 * s->rule.dominate, 100 * s->rule.margin,
             s->rule.waived_by[0] ? "; accuracy waived by " : "", s->rule.waived_by);
    words(t, "rule", text);
    anemo_date_text(s->day, day, sizeof day);
    snprintf(text, sizeof text, "%d draws, seed %llu, as of %s, %s", v->draws,
             (unsigned long long)v->seed, day, s->currency);
    words(t, "computed with", text);
    return t;
}

/* ---------------------------------------------------------------- side by side */

static void absent_cells(anemo_table *t, int n) {
    for (int i = 0; i < n; i++)
        anemo_table_absent(t);
}

static void option_row(const cost_view *v, int32_t o, anemo_table *t) {
    const anemo_cost_scenario *s = v->s;
    const anemo_cost_outcome *out = &v->outcome[o];
    double d, lo, hi;
    anemo_cost_path path;
    const char *why = anemo_cost_inadmissible(s, o);
    anemo_accuracy_state a = anemo_cost_accuracy_state(s, o, &d, &lo, &hi);
    anemo_table_text(t, "%s", role_text(v, o));
    anemo_table_text(t, "%s", s->choice[o].id);
    anemo_table_text(t, "%s", s->choice[o].model);
    if (!out->evaluated)
        absent_cells(t, 8);
    else {
        anemo_cost_option_path(&s->model, o, s->x, &path, NULL);
        if (is_api(v, o))
            anemo_table_absent(t);
        else
            anemo_table_number(t, path.servers_first, "%.0f");
        anemo_table_number(t, path.purchase, "%.0f");
        anemo_table_number(t, path.first_year, "%.0f");
        anemo_table_number(t, out->pv, "%.0f");
        anemo_table_number(t, out->p50, "%.0f");
        anemo_table_both(t, out->p5, "%.0f .. %.0f", out->p5, out->p95);
        anemo_table_number(t, o == s->in_use ? NAN : out->probability, "%.3f");
        anemo_table_number(t, out->beats_owning, "%.3f");
    }
    if (isnan(d))
        anemo_table_text(t, "%s", anemo_accuracy_state_name(a));
    else
        anemo_table_text(t, "%s (%+.1f, %+.1f to %+.1f points)%s", anemo_accuracy_state_name(a),
                         100 * d, 100 * lo, 100 * hi,
                         s->choice[o].accuracy.same_questions ? "" : ", third-party");
    anemo_table_text(t, "%s", why ? why : "yes");
}

/* What the table always shows, and what is missing from the scenario. */
static void missing_row(anemo_table *t, const char *role, const char *what) {
    anemo_table_text(t, "%s", role);
    anemo_table_text(t, "not in the scenario");
    anemo_table_text(t, "%s", what);
    absent_cells(t, 8);
    anemo_table_absent(t);
    anemo_table_text(t, "add an option with this role");
}

anemo_table *cost_table_options(const cost_view *v) {
    const anemo_cost_scenario *s = v->s;
    static const char *const what[ANEMO_ROLE_COUNT] = {"today's bill",
                                                       "a closed model of equal accuracy",
                                                       "the same open model hosted by others",
                                                       "rented machines",
                                                       "owned machines",
                                                       "owned machines and an API"};
    anemo_table *t = anemo_table_create("options", "Side by side");
    anemo_money_columns(t, (const char *const[]){"role",
                                                 "role",
                                                 "id",
                                                 "option",
                                                 "model",
                                                 "model",
                                                 "servers",
                                                 "servers",
                                                 "purchase",
                                                 "purchase",
                                                 "first_year",
                                                 "first year",
                                                 "present_value",
                                                 "all years, today's money",
                                                 "saving_p50",
                                                 "saving, median",
                                                 "saving_p5",
                                                 "5 .. 95 %",
                                                 "probability",
                                                 "saves",
                                                 "beats_owning",
                                                 "beats owning",
                                                 "accuracy",
                                                 "accuracy",
                                                 "admissible",
                                                 "may be chosen",
                                                 NULL});
    /* doing nothing: this month's bill for ever */
    double month = requests(v) * anemo_cost_api_price(&s->model, s->in_use, s->x, 0).request;
    const double *a = s->x + s->model.option[s->in_use].first;
    month = fmax(month, a[ANEMO_A_COMMIT]) + a[ANEMO_A_MONTHLY];
    anemo_table_text(t, "today");
    anemo_table_text(t, "do nothing");
    anemo_table_text(t, "%s", s->choice[s->in_use].model);
    anemo_table_absent(t);
    anemo_table_number(t, 0, "%.0f");
    anemo_table_number(t, 12 * month, "%.0f");
    absent_cells(t, 5);
    anemo_table_text(t, "same model");
    anemo_table_text(t, "yes");
    for (int role = 0; role < ANEMO_ROLE_COUNT; role++) {
        int32_t n = 0;
        for (int32_t o = 0; o < s->model.n_options; o++)
            if (s->model.option[o].role == (anemo_cost_role)role) {
                option_row(v, o, t);
                n++;
            }
        if (n == 0)
            missing_row(t, anemo_cost_role_name((anemo_cost_role)role), what[role]);
    }
    return t;
}

/* ---------------------------------------------------------------- tokens, requests, right answers
 */

static double per_correct(const cost_view *v, int32_t o, double per_request) {
    const anemo_cost_accuracy *a = &v->s->choice[o].accuracy;
    return a->known && a->correct > 0 ? per_request * (double)a->n / (double)a->correct : NAN;
}

/* A request and what its wrong answers cost, at site.error_loss each. */
static double with_errors(const cost_view *v, int32_t o, double per_request) {
    const anemo_cost_accuracy *a = &v->s->choice[o].accuracy;
    double loss = v->s->x[ANEMO_G_ERROR_LOSS];
    return a->known && loss > 0 ? per_request + (1 - (double)a->correct / (double)a->n) * loss
                                : NAN;
}

/* What one wrong answer has to cost for today's model to be worth its price beside this option: the
 * saving per request over the answers lost per request. NaN: one of the two is better in both. */
static double indifferent(const cost_view *v, int32_t o, double per_request) {
    const anemo_cost_scenario *s = v->s;
    const anemo_cost_accuracy *a = &s->choice[o].accuracy, *b = &s->choice[s->in_use].accuracy;
    if (o == s->in_use || !a->known || !b->known)
        return NAN;
    double saved = anemo_cost_api_price(&s->model, s->in_use, s->x, 0).request - per_request;
    double lost = (double)b->correct / (double)b->n - (double)a->correct / (double)a->n;
    return saved * lost > 0 ? saved / lost : NAN;
}

static void token_row(const cost_view *v, int32_t o, const char *basis, bool comparable,
                      const double *cost, anemo_table *t) {
    anemo_table_text(t, "%s", v->s->choice[o].id);
    anemo_table_text(t, "%s", basis);
    for (int i = 0; i < 4; i++)
        anemo_table_number(t, cost[i], "%.4f");
    anemo_table_number(t, cost[4], "%.6f");
    anemo_table_number(t, per_correct(v, o, cost[4]), "%.6f");
    anemo_table_number(t, with_errors(v, o, cost[4]), "%.6f");
    anemo_table_number(t, comparable ? indifferent(v, o, cost[4]) : NAN, "%.4f");
}

static void machine_tokens(const cost_view *v, int32_t o, anemo_table *t) {
    const anemo_cost_scenario *s = v->s;
    int32_t n = anemo_cost_servers(&s->model, o, s->x, requests(v));
    n += n > 0 ? s->model.option[o].redundant_servers : 0;
    anemo_cost_year y = anemo_cost_machine_year(&s->model, o, s->x, requests(v), n);
    anemo_cost_tokens k = anemo_cost_token_cost(&s->model, o, s->x, requests(v), &y);
    double cost[] = {k.in, k.cached, k.out, k.blended, k.request};
    token_row(v, o, "reservation-based", true, cost, t);
    for (int i = 0; i < 5; i++)
        cost[i] *= k.usage_factor;
    token_row(v, o, "usage-based: idle hours left out, not comparable with an API price", false,
              cost, t);
}

anemo_table *cost_table_tokens(const cost_view *v) {
    const anemo_cost_scenario *s = v->s;
    anemo_table *t = anemo_table_create("tokens", "Cost per million tokens, per request, per right "
                                                  "answer");
    anemo_money_columns(t, (const char *const[]){"id",
                                                 "option",
                                                 "basis",
                                                 "basis",
                                                 "input",
                                                 "input",
                                                 "cached_input",
                                                 "cached",
                                                 "output",
                                                 "output",
                                                 "blended",
                                                 "blended",
                                                 "request",
                                                 "request",
                                                 "correct",
                                                 "right answer",
                                                 "with_errors",
                                                 "request and its wrong answers",
                                                 "indifferent",
                                                 "a wrong answer that evens it out",
                                                 NULL});
    for (int32_t o = 0; o < s->model.n_options; o++) {
        if (!v->outcome[o].evaluated || s->model.option[o].role == ANEMO_ROLE_HYBRID)
            continue;
        if (!is_api(v, o)) {
            machine_tokens(v, o, t);
            continue;
        }
        anemo_cost_api_unit u = anemo_cost_api_price(&s->model, o, s->x, 0);
        double blended = u.request * 1e6 / (s->x[ANEMO_G_IN] + s->x[ANEMO_G_OUT]);
        const double cost[] = {u.input, u.cached, u.output, blended, u.request};
        token_row(v, o, "price, with this workload's ratios", true, cost, t);
    }
    return t;
}

/* ---------------------------------------------------------------- volumes */

anemo_table *cost_table_break_even(const cost_view *v) {
    anemo_table *t = anemo_table_create("break_even", "Break-even, in requests per month");
    char title[128];
    anemo_money_columns(
        t, (const char *const[]){"what", "what", "from", "from", "to", "to", "note", "note", NULL});
    for (int32_t i = 0; i < v->n_won && i < COST_INTERVALS; i++) {
        const anemo_cost_interval *w = &v->won[i];
        snprintf(title, sizeof title, "%s saves at the point values", v->s->choice[v->subject].id);
        anemo_table_text(t, "%s", title);
        anemo_table_number(t, w->lo, "%.0f");
        anemo_table_number(t, w->hi, "%.0f");
        anemo_table_text(t, "%s", w->to_end ? "and beyond the last volume looked at" : "");
    }
    for (int32_t i = 0; i < v->n_spans; i++) {
        anemo_table_text(t, "verdict by money: %s", anemo_verdict_name(v->span[i].money));
        anemo_table_number(t, v->span[i].lo * requests(v), "%.0f");
        anemo_table_number(t, v->span[i].hi * requests(v), "%.0f");
        anemo_table_text(t, "%s", v->span[i].lo <= 1 && 1 <= v->span[i].hi ? "this scenario" : "");
    }
    return t;
}

/* ---------------------------------------------------------------- sensitivity */

anemo_table *cost_table_bars(const cost_view *v, int32_t most) {
    const anemo_cost_scenario *s = v->s;
    anemo_table *t = anemo_table_create("sensitivity", "What moves the saving, widest first");
    anemo_money_columns(t, (const char *const[]){"input",
                                                 "input",
                                                 "what",
                                                 "what",
                                                 "value",
                                                 "value",
                                                 "unit",
                                                 "unit",
                                                 "low",
                                                 "10 %",
                                                 "high",
                                                 "90 %",
                                                 "saving_at_low",
                                                 "saving at 10 %",
                                                 "saving_at_high",
                                                 "at 90 %",
                                                 "flips",
                                                 "flips",
                                                 "switching",
                                                 "saving is 0 at",
                                                 "class",
                                                 "class",
                                                 NULL});
    for (int32_t i = 0; i < v->n_bars && i < most; i++) {
        const anemo_cost_bar *b = &v->bar[i];
        const anemo_cost_number *n = &s->number[b->input];
        anemo_table_text(t, "%s", n->key);
        anemo_table_text(t, "%s", n->what);
        anemo_table_number(t, n->value, "%.4g");
        anemo_table_text(t, "%s", n->unit);
        anemo_table_number(t, b->low, "%.4g");
        anemo_table_number(t, b->high, "%.4g");
        anemo_table_number(t, b->at_low, "%.0f");
        anemo_table_number(t, b->at_high, "%.0f");
        anemo_table_flag(t, b->flips);
        anemo_table_number(t, b->switching, "%.4g");
        anemo_table_text(t, "%s", anemo_class_name(n->origin.class_));
    }
    return t;
}

/* ---------------------------------------------------------------- evidence */

static anemo_class worst(const cost_view *v, const int32_t *inputs, int n) {
    anemo_class c = ANEMO_CLASS_MEASURED;
    for (int i = 0; i < n; i++)
        if (v->s->number[inputs[i]].origin.class_ > c)
            c = v->s->number[inputs[i]].origin.class_;
    return c;
}

void cost_evidence_shares(const cost_view *v, int32_t o, double *share) {
    const anemo_cost_scenario *s = v->s;
    int32_t f = s->model.option[o].first, n = anemo_cost_servers(&s->model, o, s->x, requests(v));
    n += n > 0 ? s->model.option[o].redundant_servers : 0;
    anemo_cost_year y = anemo_cost_machine_year(&s->model, o, s->x, requests(v), n);
    const struct {
        double cost;
        int32_t input[5];
        int n;
    } part[] = {
        {y.capital, {f + ANEMO_B_SERVER, f + ANEMO_B_RESIDUAL, ANEMO_G_RATE, f + ANEMO_B_S_IN}, 4},
        {y.network, {f + ANEMO_B_NETWORK, f + ANEMO_B_SERVER}, 2},
        {y.rent, {f + ANEMO_B_HOURLY, f + ANEMO_B_S_IN}, 2},
        {y.energy, {ANEMO_G_KWH, ANEMO_G_PUE, f + ANEMO_B_BUSY, f + ANEMO_B_HOST}, 4},
        {y.space, {ANEMO_G_COLO, f + ANEMO_B_BUSY}, 2},
        {y.upkeep, {f + ANEMO_B_UPKEEP, f + ANEMO_B_SERVER}, 2},
        {y.failures, {f + ANEMO_B_FAILURES, f + ANEMO_B_UNIT}, 2},
        {y.software, {f + ANEMO_B_SOFTWARE}, 1},
        {y.staff, {ANEMO_G_FTE, ANEMO_G_FTE_COST}, 2},
        {y.other, {ANEMO_G_LUMP}, 1},
    };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        share[worst(v, part[i].input, part[i].n)] += part[i].cost / y.total;
}

anemo_table *cost_table_evidence(const cost_view *v) {
    const anemo_cost_scenario *s = v->s;
    anemo_table *t = anemo_table_create("evidence", "What the yearly cost of machines rests on");
    anemo_money_columns(
        t, (const char *const[]){"id",        "option",    "measured",    "measured",
                                 "quoted",    "quoted",    "published",   "published",
                                 "asking",    "asking",    "assumed",     "assumed",
                                 "projected", "projected", "measured_on", "speed measured on",
                                 "mixes",     "mixes",     "occasions",   "occasions",
                                 NULL});
    for (int32_t o = 0; o < s->model.n_options; o++) {
        double share[ANEMO_SOURCE_CLASSES] = {0};
        char percent[24];
        const anemo_cost_capacity *c = &s->choice[o].capacity;
        if (is_api(v, o) || !c->known || s->model.option[o].role == ANEMO_ROLE_HYBRID)
            continue;
        cost_evidence_shares(v, o, share);
        anemo_table_text(t, "%s", s->choice[o].id);
        for (int k = 0; k < ANEMO_SOURCE_CLASSES; k++)
            anemo_table_both(t, share[k], "%s", anemo_cost_percent(share[k], percent));
        anemo_table_text(t, "%s%s", c->machine[0] ? c->machine : "not told",
                         c->measured_here ? ""
                         : c->projected   ? " (projected to that machine kind)"
                                          : " (not measured on that machine kind)");
        anemo_table_number(t, c->mixes, "%.0f");
        anemo_table_number(t, c->occasions, "%.0f");
    }
    return t;
}

anemo_table *cost_table_warnings(const cost_view *v) {
    anemo_table *t = anemo_table_create("warnings", "Beside the verdict");
    anemo_table_column(t, "warning", "warning");
    for (int32_t i = 0; i < v->s->n_warnings; i++)
        anemo_table_text(t, "%s", v->s->warning[i]);
    anemo_table_text(t, "left out: %s", COST_LEFT_OUT);
    return t;
}
