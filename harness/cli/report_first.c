/* The first page of a report about a scenario: nine items in the order in which a buyer asks, each
 * one sentence or two, then the break-even figure. report_first_records.c is its twin for records
 * alone. A sentence says a number only with what it is of; every word about certainty comes from
 * the rule. */
#include "harness/cli/figure.h"
#include "harness/cli/report_internal.h"
#include "harness/cost/date.h"
#include "harness/cost/finance.h"
#include "harness/eval/interval.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 2000

/* "-1,234,567" */
const char *report_amount(double amount, char text[32]) {
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%.0f", fabs(amount)), used = 0;
    if (amount <= -0.5)
        text[used++] = '-';
    for (int i = 0; i < n && used < 30; i++) {
        if (i && (n - i) % 3 == 0)
            text[used++] = ',';
        text[used++] = digits[i];
    }
    text[used] = 0;
    return text;
}

/* Appends to a text of TEXT_BYTES; cut at its end. */
static void add(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(char *text, const char *format, ...) {
    size_t used = strlen(text);
    va_list list;
    va_start(list, format);
    vsnprintf(text + used, TEXT_BYTES - used, format, list);
    va_end(list);
}

static bool is_api(const cost_view *v, int32_t o) {
    return v->s->model.option[o].role <= ANEMO_ROLE_HOSTED;
}

/* The machines of an option: its own, or those of a hybrid; -1: none. */
static int32_t machines_of(const cost_view *v, int32_t o) {
    if (o < 0 || is_api(v, o))
        return -1;
    return v->s->model.option[o].role == ANEMO_ROLE_HYBRID ? v->s->model.option[o].box : o;
}

static const char *plural(double n) {
    return n == 1 ? "" : "s";
}

/* ---------------------------------------------------------------- 1: the verdict */

/* "2 servers (l40s-48gb, 4 units each) for MODEL": what would be bought, rented or used. */
static void say_what(const cost_view *v, int32_t o, const anemo_cost_path *path, char *text) {
    const anemo_cost_scenario *s = v->s;
    const anemo_cost_choice *c = &s->choice[o];
    const anemo_cost_option *option = &s->model.option[o];
    if (is_api(v, o)) {
        add(text, "%s at %s instead of machines", c->model, c->provider);
        return;
    }
    int32_t box = machines_of(v, o);
    add(text, "%s %d server%s (%s, %d unit%s each) for %s",
        option->role == ANEMO_ROLE_RENTED ? "renting" : "buying", path->servers_first,
        plural(path->servers_first), s->choice[box].machine, s->model.option[box].units_per_server,
        plural(s->model.option[box].units_per_server), s->choice[box].model);
    char left[24];
    if (option->role == ANEMO_ROLE_HYBRID)
        add(text, ", and %s at %s for what they leave (%s of the first month's requests)",
            s->choice[option->api].model, s->choice[option->api].provider,
            anemo_cost_percent(1 - path->machine_share, left));
}

static void first_verdict(const cost_view *v, page *p) {
    const anemo_cost_scenario *s = v->s;
    const anemo_cost_choice *today = &s->choice[s->in_use];
    char text[TEXT_BYTES] = "", a[32], b[32], lead[64];
    anemo_cost_path path;
    snprintf(lead, sizeof lead, "%s.", anemo_verdict_name(v->verdict.kind));
    if (v->subject < 0) {
        page_first(p, lead, "%s.", v->verdict.reason);
        return;
    }
    const anemo_cost_outcome *o = &v->outcome[v->subject];
    anemo_cost_option_path(&s->model, v->subject, s->x, &path, NULL);
    say_what(v, v->subject, &path, text);
    add(text, ": %s %s now, and a median %s of %s %s over %g years, against the bill of %s at %s",
        report_amount(path.purchase, a), s->currency, o->p50 < 0 ? "loss" : "saving",
        report_amount(fabs(o->p50), b), s->currency, s->x[ANEMO_G_YEARS], today->model,
        today->provider);
    if (v->verdict.kind != v->verdict.money)
        add(text, "; by money alone it would be %s", anemo_verdict_name(v->verdict.money));
    page_first(p, lead, "%s%s. Because %s.", strncmp(text, "buying", 6) == 0 ? "On " : "", text,
               v->verdict.reason);
}

/* ---------------------------------------------------------------- 2, 3: money, what turns it */

static void first_money(const cost_view *v, page *p) {
    const anemo_cost_scenario *s = v->s;
    char text[TEXT_BYTES] = "", a[7][32], saves[24];
    double flow[ANEMO_COST_MONTHS_MAX + 1], bill[ANEMO_COST_MONTHS_MAX + 1];
    double x[ANEMO_COST_INPUTS_MAX];
    anemo_cost_path path, today;
    const anemo_cost_outcome *o = &v->outcome[v->subject];
    int32_t n = anemo_cost_option_path(&s->model, v->subject, s->x, &path, flow);
    anemo_cost_option_path(&s->model, s->in_use, s->x, &today, bill);
    for (int32_t m = 0; m <= n; m++)
        flow[m] = bill[m] - flow[m];
    double payback =
        anemo_cost_payback_months(flow, n + 1, anemo_cost_monthly_rate(s->x[ANEMO_G_RATE]));
    memcpy(x, s->x, sizeof x);
    x[ANEMO_G_REQUESTS] /= 2;
    double half = anemo_cost_saving_of(&s->model, s->in_use, v->subject, x);
    add(text,
        "cash out now %s; cost of the first year %s (today's bill: %s); saving over %g years %s "
        "(median; 5 %% point %s, 95 %% point %s); it saves with probability %s; ",
        report_amount(path.purchase, a[0]), report_amount(path.first_year, a[1]),
        report_amount(today.first_year, a[2]), s->x[ANEMO_G_YEARS], report_amount(o->p50, a[3]),
        report_amount(o->p5, a[4]), report_amount(o->p95, a[5]),
        anemo_cost_percent(o->probability, saves));
    if (path.purchase > 0 && isnan(payback))
        add(text, "it is never paid back at the point values; ");
    else if (path.purchase > 0)
        add(text, "paid back after %.0f months (discounted, at the point values); ", payback);
    else
        add(text, "nothing is bought, so there is no payback; ");
    add(text,
        half < 0 ? "if demand is half, it loses %s." : "if demand is half, it still saves %s.",
        report_amount(fabs(half), a[6]));
    char lead[32];
    snprintf(lead, sizeof lead, "Money, in %s:", s->currency);
    page_first(p, lead, "%s", text);
}

/* Shares in percent, large numbers with commas, the unit behind them. */
static void say_value(char *text, const anemo_cost_number *n, double value) {
    char amount[32];
    if (strcmp(n->unit, "1/year") == 0)
        add(text, "%.1f %% a year", 100 * value);
    else if (strcmp(n->unit, "1") == 0 && n->most <= 1)
        add(text, "%.1f %%", 100 * value);
    else if (strcmp(n->unit, "1") == 0)
        add(text, "%.3g", value);
    else if (fabs(value) >= 1000)
        add(text, "%s %s", report_amount(value, amount), n->unit);
    else
        add(text, "%.4g %s", value, n->unit);
}

static void first_switching(const cost_view *v, page *p) {
    char text[TEXT_BYTES] = "";
    int shown = 0;
    for (int32_t i = 0; i < v->n_bars && shown < 3; i++) {
        const anemo_cost_bar *b = &v->bar[i];
        const anemo_cost_number *n = &v->s->number[b->input];
        if (isnan(b->switching))
            continue;
        add(text, "%s%s (%s) at ", shown ? "; " : "", n->what, n->key);
        say_value(text, n, b->switching);
        add(text, " instead of ");
        say_value(text, n, n->value);
        add(text, ", %s its range of ", b->flips ? "within" : "outside");
        say_value(text, n, n->low);
        add(text, " to ");
        say_value(text, n, n->high);
        shown++;
    }
    if (shown)
        page_first(p, "The saving becomes 0 with:", "%s. Each alone, the others unmoved.", text);
    else
        page_first(p,
                   "The saving becomes 0 with:", "no single input at any value that it can take.");
}

/* ---------------------------------------------------------------- 4, 5: limits, accuracy */

static void say_limit(char *text, const char *name, double limit, double measured) {
    if (limit <= 0)
        add(text, "no limit on %s; ", name);
    else if (measured <= 0)
        add(text, "%s of at most %g s asked, not measured; ", name, limit);
    else
        add(text, "%s %g s of at most %g s: %s; ", name, measured, limit,
            measured <= limit ? "met" : "not met");
}

static void first_limits(const cost_view *v, page *p) {
    const anemo_cost_scenario *s = v->s;
    int32_t box = machines_of(v, v->subject);
    char text[TEXT_BYTES] = "";
    anemo_cost_path path;
    if (box < 0) {
        page_first(p, "Limits:",
                   "an API promises none; its latency was not measured. No machine is "
                   "sized, so there is no utilisation and no spare.");
        return;
    }
    const anemo_cost_capacity *c = &s->choice[box].capacity;
    say_limit(text, "p95 time to first token", s->limit_ttft_s, c->ttft_s);
    say_limit(text, "p95 time per output token", s->limit_tpot_s, c->tpot_s);
    anemo_cost_option_path(&s->model, v->subject, s->x, &path, NULL);
    anemo_cost_year year = anemo_cost_machine_year(
        &s->model, box, s->x, s->x[ANEMO_G_REQUESTS] * path.machine_share, path.servers_first);
    add(text,
        "machines busy %.1f %% of the time; sized for the peak with %.0f %% headroom; %d server%s "
        "more than that (N+%d).",
        100 * year.utilisation, 100 * s->x[ANEMO_G_HEADROOM],
        s->model.option[box].redundant_servers, plural(s->model.option[box].redundant_servers),
        s->model.option[box].redundant_servers);
    page_first(p, "Limits, use, spare:", "%s", text);
}

static void first_accuracy(const anemo_report *report, page *p) {
    const cost_view *v = report->cost;
    const anemo_cost_scenario *s = v->s;
    char text[TEXT_BYTES] = "", paired[TEXT_BYTES];
    for (int32_t o = 0; o < s->model.n_options; o++) {
        const anemo_cost_accuracy *a = &s->choice[o].accuracy;
        bool told = false;
        for (int32_t k = 0; k < o && !told; k++)
            told = strcmp(s->choice[k].model, s->choice[o].model) == 0;
        if (told || s->model.option[o].role == ANEMO_ROLE_HYBRID)
            continue;
        add(text, "%s%s ", *text ? "; " : "", s->choice[o].model);
        if (!a->known) {
            add(text, "not known");
            continue;
        }
        anemo_interval share = anemo_wilson(a->correct, a->n);
        add(text, "%.1f %% [%.1f, %.1f] of %lld%s", 100 * share.value, 100 * share.lo,
            100 * share.hi, (long long)a->n, a->same_questions ? "" : " (third-party score)");
    }
    report_paired(report, paired, sizeof paired);
    page_first(p, "Accuracy, with 95 % intervals:", "%s. It may lose %.1f points%s%s.%s%s%s", text,
               100 * s->rule.margin, s->rule.waived_by[0] ? "; waived by " : "", s->rule.waived_by,
               paired[0] ? " Paired, from the records: " : "", paired, paired[0] ? "." : "");
}

/* ---------------------------------------------------------------- 6, 7: what it rests on, how old
 */

static void first_evidence(const anemo_report *report, page *p) {
    const cost_view *v = report->cost;
    int32_t box = machines_of(v, v->subject);
    box = box < 0 ? v->owned : box;
    char text[TEXT_BYTES] = "", shares[TEXT_BYTES] = "", percent[24];
    double share[ANEMO_SOURCE_CLASSES] = {0};
    report_counts n = report_count((const anemo_record *const *)report->records, report->n);
    if (box < 0 || !v->s->choice[box].capacity.known) {
        page_first(p, "Evidence:", "no machine of this scenario has a known speed.");
        return;
    }
    const anemo_cost_capacity *c = &v->s->choice[box].capacity;
    cost_evidence_shares(v, box, share);
    for (int k = 0; k < ANEMO_SOURCE_CLASSES; k++)
        if (share[k] > 0 || k == ANEMO_CLASS_MEASURED || k == ANEMO_CLASS_PROJECTED)
            add(shares, "%s%s %s", *shares ? ", " : "", anemo_cost_percent(share[k], percent),
                anemo_class_name((anemo_class)k));
    add(text, "of the yearly cost of %s %s. Its speed was measured on %s%s, with %s, %s; ",
        v->s->choice[box].id, shares, c->machine[0] ? c->machine : "a machine that is not told",
        c->measured_here ? ""
        : c->projected   ? " and projected to this machine kind, of which nothing was measured"
                         : ", which is not that machine kind",
        c->engine[0] ? c->engine : "an engine that is not told",
        c->last_day[0] ? c->last_day : "on a day that is not told");
    if (c->valid + c->weak > 0)
        add(text, "%d VALID and %d WEAK records behind it", c->valid, c->weak);
    else
        add(text, "no record behind it has a validity");
    if (report->n > 0)
        add(text, "; on this page %d VALID, %d WEAK, %d INVALID", n.verdict[0], n.verdict[1],
            n.verdict[2]);
    page_first(p, "Evidence:", "%s.", text);
    page_shares(p, shares, share, ANEMO_SOURCE_CLASSES);
}

static void first_ages(const cost_view *v, page *p) {
    const anemo_cost_scenario *s = v->s;
    char text[TEXT_BYTES] = "", today[16];
    anemo_date_text(s->day, today, sizeof today);
    for (int32_t o = 0; o < s->model.n_options; o++) {
        anemo_cost_role role = s->model.option[o].role;
        if (role == ANEMO_ROLE_HYBRID)
            continue;
        int32_t price = s->model.option[o].first;
        price += is_api(v, o)               ? (int32_t)ANEMO_A_P_IN
                 : role == ANEMO_ROLE_OWNED ? (int32_t)ANEMO_B_SERVER
                                            : (int32_t)ANEMO_B_HOURLY;
        const anemo_origin *from = &s->number[price].origin;
        add(text, "%s%s %d days (%s)", *text ? ", " : "", s->choice[o].id, s->day - from->as_of,
            anemo_class_name(from->class_));
    }
    page_first(p, "Age of the prices", "on %s: %s.", today, text);
}

/* ---------------------------------------------------------------- the page */

static void first_next(const anemo_report *report, page *p) {
    const cost_view *v = report->cost;
    if (v->verdict.next[0])
        page_first(p, "What would change our mind:", "%s.", v->verdict.next);
    else if (v->n_bars > 0 && !isnan(v->bar[0].switching))
        page_first(
            p, "What would change our mind:",
            "%s (%s) at %.4g or beyond; ask for it in writing or count it, and run this again.",
            v->s->number[v->bar[0].input].what, v->s->number[v->bar[0].input].key,
            v->bar[0].switching);
    else
        page_first(p, "What would change our mind:", "other inputs, several together.");
    page_command(p, "anemo cost %s --explain", report->input[0].path);
}

void report_first_page(const anemo_report *report, page *p) {
    page_heading(p, 2, "decision", "Decision");
    if (!report->cost) {
        report_first_records(report, p);
        return;
    }
    const cost_view *v = report->cost;
    first_verdict(v, p);
    if (v->subject >= 0) {
        first_money(v, p);
        first_switching(v, p);
        first_limits(v, p);
    }
    first_accuracy(report, p);
    first_evidence(report, p);
    first_ages(v, p);
    page_first(p, "Left out:", "%s.", COST_LEFT_OUT);
    first_next(report, p);
    page_figure(p, figure_at(0), report);
}
