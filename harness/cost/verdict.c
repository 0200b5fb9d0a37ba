/* See verdict.h. The rule, in this order:
 *
 *   refused      no machine whose speed is known and which meets the limits; or accuracy missing
 *   RENT, HYBRID its saving is above zero with probability `buy`, and it is cheaper than owning
 * with probability `dominate`, or owning does not reach `buy` DO NOT BUY   owning saves with
 * probability `refuse` at most; or another API than today's costs less than owning with probability
 * `dominate` BUY          owning saves with probability `buy`, its speed was measured on that
 * machine kind UNDECIDED    else
 *
 * What is wanting for BUY or HYBRID in evidence (speed measured elsewhere, accuracy open) makes it
 * UNDECIDED, and says what to measure. */
#include "harness/cost/verdict.h"

#include "harness/eval/interval.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SCAN_POINTS 25
#define SCAN_DRAWS  1000
#define COARSE      3
#define FINE        1.01

const char *anemo_verdict_name(anemo_verdict_kind kind) {
    static const char *const names[] = {"BUY",        "RENT",      "HYBRID",
                                        "DO NOT BUY", "UNDECIDED", "REFUSED"};
    return names[kind];
}

/* ---------------------------------------------------------------- what may be compared */

const char *anemo_accuracy_state_name(anemo_accuracy_state state) {
    static const char *const names[] = {"same model", "non-inferior", "inferior",
                                        "open",       "missing",      "waived"};
    return names[state];
}

/* Newcombe's interval of the difference of two shares, from their Wilson intervals. */
static void difference_of(const anemo_cost_accuracy *a, const anemo_cost_accuracy *b, double *d,
                          double *lo, double *hi) {
    anemo_interval x = anemo_wilson(a->correct, a->n), y = anemo_wilson(b->correct, b->n);
    *d = x.value - y.value;
    *lo = *d - hypot(x.value - x.lo, y.hi - y.value);
    *hi = *d + hypot(x.hi - x.value, y.value - y.lo);
}

static anemo_accuracy_state one_state(const anemo_cost_scenario *s, int32_t option, double *d,
                                      double *lo, double *hi) {
    const anemo_cost_choice *a = &s->choice[option], *b = &s->choice[s->in_use];
    *d = *lo = *hi = NAN;
    if (option == s->in_use ||
        (strcmp(a->model, b->model) == 0 && strcmp(a->provider, b->provider) == 0))
        return ANEMO_ACCURACY_SAME;
    if (a->accuracy.known && b->accuracy.known)
        difference_of(&a->accuracy, &b->accuracy, d, lo, hi);
    if (s->rule.waived_by[0])
        return ANEMO_ACCURACY_WAIVED;
    if (isnan(*d))
        return ANEMO_ACCURACY_MISSING;
    if (*lo > -s->rule.margin)
        return ANEMO_ACCURACY_NON_INFERIOR;
    return *hi < -s->rule.margin ? ANEMO_ACCURACY_INFERIOR : ANEMO_ACCURACY_OPEN;
}

anemo_accuracy_state anemo_cost_accuracy_state(const anemo_cost_scenario *s, int32_t option,
                                               double *difference, double *lo, double *hi) {
    const anemo_cost_option *o = &s->model.option[option];
    if (o->role != ANEMO_ROLE_HYBRID)
        return one_state(s, option, difference, lo, hi);
    double d, l, h; /* as good as the worse of its two models */
    anemo_accuracy_state api = one_state(s, o->api, &d, &l, &h);
    anemo_accuracy_state box = one_state(s, o->box, difference, lo, hi);
    return api == ANEMO_ACCURACY_SAME || api == ANEMO_ACCURACY_NON_INFERIOR ? box : api;
}

static bool accurate(const anemo_cost_scenario *s, int32_t option) {
    double d, lo, hi;
    anemo_accuracy_state a = anemo_cost_accuracy_state(s, option, &d, &lo, &hi);
    return a == ANEMO_ACCURACY_SAME || a == ANEMO_ACCURACY_NON_INFERIOR ||
           a == ANEMO_ACCURACY_WAIVED;
}

const char *anemo_cost_inadmissible(const anemo_cost_scenario *s, int32_t option) {
    anemo_cost_role role = s->model.option[option].role;
    const anemo_cost_capacity *c = &s->choice[option].capacity;
    bool sensitive = s->number[ANEMO_G_SENSITIVE].value > 0;
    if (role <= ANEMO_ROLE_HOSTED)
        return sensitive && option != s->in_use ? "sensitive requests may not go there" : NULL;
    if (!c->known)
        return "its speed was not measured";
    if (c->most_in > 0 && s->x[ANEMO_G_IN] > c->most_in)
        return "requests are longer than any that was measured";
    if (c->most_out > 0 && s->x[ANEMO_G_OUT] > c->most_out)
        return "answers are longer than any that was measured";
    if ((s->limit_ttft_s > 0 && c->ttft_s == 0) || (s->limit_tpot_s > 0 && c->tpot_s == 0))
        return "its latency at that load was not measured";
    if ((s->limit_ttft_s > 0 && c->ttft_s > s->limit_ttft_s) ||
        (s->limit_tpot_s > 0 && c->tpot_s > s->limit_tpot_s))
        return "it does not meet the limits at the measured load";
    if (role == ANEMO_ROLE_RENTED && sensitive && !s->rented_holds_sensitive)
        return "sensitive requests may not go there";
    return NULL;
}

int32_t anemo_cost_best_owned(const anemo_cost_scenario *s) {
    int32_t best = -1;
    double least = INFINITY;
    anemo_cost_path path;
    for (int32_t o = 0; o < s->model.n_options; o++) {
        if (s->model.option[o].role != ANEMO_ROLE_OWNED || anemo_cost_inadmissible(s, o))
            continue;
        anemo_cost_option_path(&s->model, o, s->x, &path, NULL);
        if (path.present_value < least) {
            least = path.present_value;
            best = o;
        }
    }
    return best;
}

/* ---------------------------------------------------------------- the rule */

/* The admissible option of these roles with the largest median saving. */
static int32_t best_of(const anemo_cost_scenario *s, const anemo_cost_outcome *outcome,
                       anemo_cost_role from, anemo_cost_role to) {
    int32_t best = -1;
    for (int32_t o = 0; o < s->model.n_options; o++) {
        anemo_cost_role role = s->model.option[o].role;
        if (role < from || role > to || o == s->in_use || !outcome[o].evaluated ||
            anemo_cost_inadmissible(s, o) || !accurate(s, o) ||
            (role == ANEMO_ROLE_HYBRID && outcome[o].servers == 0)) /* an API under another name */
            continue;
        if (best < 0 || outcome[o].p50 > outcome[best].p50)
            best = o;
    }
    return best;
}

static bool dominates(const anemo_cost_scenario *s, const anemo_cost_outcome *outcome, int32_t o,
                      double owned_probability) {
    return o >= 0 && outcome[o].probability >= s->rule.buy &&
           (outcome[o].beats_owning >= s->rule.dominate || owned_probability < s->rule.buy);
}

/* By money alone; `option` is the one that decides. */
static anemo_verdict_kind judge_money(const anemo_cost_scenario *s,
                                      const anemo_cost_outcome *outcome, int32_t owned,
                                      int32_t *option) {
    double p = outcome[owned].probability;
    int32_t api = best_of(s, outcome, ANEMO_ROLE_EQUAL, ANEMO_ROLE_HOSTED);
    int32_t rent = best_of(s, outcome, ANEMO_ROLE_RENTED, ANEMO_ROLE_RENTED);
    int32_t part = best_of(s, outcome, ANEMO_ROLE_HYBRID, ANEMO_ROLE_HYBRID);
    bool by_rent = dominates(s, outcome, rent, p), by_part = dominates(s, outcome, part, p);
    int32_t best = by_rent ? rent : by_part ? part : -1;
    if (by_rent && by_part && outcome[part].p50 > outcome[rent].p50)
        best = part;
    /* an API that beats owning, and whatever else there is */
    if (api >= 0 && outcome[api].beats_owning >= s->rule.dominate &&
        (best < 0 || outcome[api].p50 > outcome[best].p50)) {
        *option = api;
        return ANEMO_DO_NOT_BUY;
    }
    *option = best >= 0 ? best : owned;
    if (best >= 0)
        return best == rent ? ANEMO_RENT : ANEMO_BUY_PART;
    if (p >= s->rule.buy)
        return ANEMO_BUY;
    return p <= s->rule.refuse ? ANEMO_DO_NOT_BUY : ANEMO_UNDECIDED;
}

static void refuse(anemo_verdict *v, const char *reason, const char *next) {
    v->kind = v->money = ANEMO_REFUSED;
    snprintf(v->reason, sizeof v->reason, "%s", reason);
    snprintf(v->next, sizeof v->next, "%s", next);
}

/* What is missing for any verdict at all; false: nothing. */
static bool judge_missing(const anemo_cost_scenario *s, int32_t owned, anemo_verdict *v) {
    char text[400], next[400];
    double d, lo, hi;
    if (owned < 0) {
        int32_t first = 0;
        while (s->model.option[first].role != ANEMO_ROLE_OWNED)
            first++;
        const anemo_cost_choice *c = &s->choice[first];
        const char *why = anemo_cost_inadmissible(s, first);
        snprintf(text, sizeof text, "no machine to own can be judged; %s: %s", c->id, why);
        snprintf(
            next, sizeof next,
            "measure %s on %s with three prompt lengths of up to %.0f tokens: anemo bench model "
            "MODEL --prompt N --tokens %.0f --record FILE, and name FILE in capacity.records",
            c->model, c->machine, s->x[ANEMO_G_IN], s->x[ANEMO_G_OUT]);
        refuse(v, text, next);
        return true;
    }
    anemo_accuracy_state a = anemo_cost_accuracy_state(s, owned, &d, &lo, &hi);
    if (a == ANEMO_ACCURACY_MISSING) {
        const anemo_cost_choice *mine = &s->choice[owned], *theirs = &s->choice[s->in_use];
        bool own_missing = !mine->accuracy.known;
        snprintf(text, sizeof text,
                 "%s is compared with %s, and the accuracy of %s on your task is not known",
                 mine->model, theirs->model, own_missing ? mine->model : theirs->model);
        snprintf(next, sizeof next,
                 "score both on the same questions (anemo eval MODEL), put correct and n under "
                 "accuracy; or waive it by name: rule.accuracy_waived_by");
        refuse(v, text, next);
        return true;
    }
    return false;
}

/* BUY and HYBRID rest on a machine's speed and on accuracy: what these rest on. */
static void judge_evidence(const anemo_cost_scenario *s, anemo_verdict *v) {
    double d, lo, hi;
    const anemo_cost_choice *c = &s->choice[v->option];
    anemo_accuracy_state a = anemo_cost_accuracy_state(s, v->option, &d, &lo, &hi);
    if (v->money == ANEMO_DO_NOT_BUY || v->money == ANEMO_UNDECIDED)
        return;
    if (a == ANEMO_ACCURACY_INFERIOR) {
        v->kind = ANEMO_DO_NOT_BUY;
        snprintf(v->reason, sizeof v->reason,
                 "%s is less accurate than today's model by %.1f to %.1f points; by money alone it "
                 "would be %s",
                 c->model, -100 * hi, -100 * lo, anemo_verdict_name(v->money));
    } else if (a == ANEMO_ACCURACY_OPEN) {
        v->kind = ANEMO_UNDECIDED;
        snprintf(v->next, sizeof v->next,
                 "more questions: the accuracy of %s differs from today's by %.1f to %+.1f points, "
                 "and %.1f may be lost: anemo eval MODEL",
                 c->model, 100 * lo, 100 * hi, 100 * s->rule.margin);
    } else if (!c->capacity.measured_here && v->money != ANEMO_RENT) {
        v->kind = ANEMO_UNDECIDED;
        snprintf(
            v->next, sizeof v->next,
            "the speed of %s on %s was not measured on that machine kind; rent one for an hour "
            "and run: anemo bench model MODEL --record FILE",
            c->model, c->machine);
    }
}

const char *anemo_cost_percent(double share, char text[24]) {
    const bool edge = fabs(share - round(share)) < 1e-9; /* sums come so near */
    if (!edge && share >= 0.9995)
        snprintf(text, 24, "over 99.9 %%");
    else if (!edge && share < 0.0005)
        snprintf(text, 24, "under 0.1 %%");
    else
        snprintf(text, 24, edge ? "%.0f %%" : "%.1f %%", 100 * share);
    return text;
}

static void say_reason(const anemo_cost_scenario *s, const anemo_cost_outcome *outcome,
                       int32_t owned, anemo_verdict *v) {
    const anemo_cost_outcome *o = &outcome[v->option], *own = &outcome[owned];
    const char *id = s->choice[v->option].id;
    char saves[24], beats[24];
    if (v->money == ANEMO_DO_NOT_BUY && v->option != owned)
        snprintf(v->reason, sizeof v->reason,
                 "%s costs less than owning with probability %s (rule: %g %%)", id,
                 anemo_cost_percent(o->beats_owning, beats), 100 * s->rule.dominate);
    else if (v->money == ANEMO_RENT || v->money == ANEMO_BUY_PART)
        snprintf(v->reason, sizeof v->reason,
                 "%s saves with probability %s (rule: %g %%), and is cheaper than owning with "
                 "probability %s",
                 id, anemo_cost_percent(o->probability, saves), 100 * s->rule.buy,
                 anemo_cost_percent(o->beats_owning, beats));
    else
        snprintf(v->reason, sizeof v->reason,
                 "owning %s saves with probability %s (rule: buy from %g %%, do not up to %g %%)",
                 s->choice[owned].id, anemo_cost_percent(own->probability, saves),
                 100 * s->rule.buy, 100 * s->rule.refuse);
}

void anemo_cost_judge(const anemo_cost_scenario *s, const anemo_cost_outcome *outcome,
                      anemo_verdict *v) {
    int32_t owned = anemo_cost_best_owned(s);
    *v = (anemo_verdict){.option = -1};
    if (judge_missing(s, owned, v))
        return;
    v->money = v->kind = judge_money(s, outcome, owned, &v->option);
    say_reason(s, outcome, owned, v);
    judge_evidence(s, v);
}

void anemo_cost_say_next(const anemo_cost_scenario *s, const anemo_cost_bar *bar, int32_t n,
                         anemo_verdict *v) {
    static const struct {
        const char *part, *how;
    } ways[] = {
        {"workload.", "count it in a month of your own logs"},
        {".tokenizer", "tokenize a sample of your own text with both tokenizers"},
        {".reasoning", "read the usage of a day's requests"},
        {".capacity.", "anemo bench model MODEL --record FILE on three days, on that machine"},
        {"_power", "read the meter while anemo bench model runs"},
        {"_price", "ask for a quotation"},
        {"price.", "ask for a contract with that price"},
        {"site.", "ask your accounts"},
    };
    if (v->kind != ANEMO_UNDECIDED || v->next[0])
        return;
    for (int32_t i = 0; i < n; i++)
        for (size_t k = 0; bar[i].flips && k < sizeof ways / sizeof *ways; k++) {
            const anemo_cost_number *x = &s->number[bar[i].input];
            if (!strstr(x->key, ways[k].part) || strstr(x->key, "price_decline") ||
                strstr(x->key, "workload.growth")) /* nobody can measure the future */
                continue;
            snprintf(v->next, sizeof v->next,
                     "%s (%s): the saving is 0 at %.4g, within its range of %.4g to %.4g; %s",
                     x->key, x->what, bar[i].switching, x->low, x->high, ways[k].how);
            return;
        }
    snprintf(
        v->next, sizeof v->next,
        "no single measurement would: several inputs together leave it open, the first of them "
        "is %s",
        n > 0 ? s->number[bar[0].input].key : "none");
}

/* ---------------------------------------------------------------- volumes at which it changes */

static anemo_verdict_kind kind_at(const anemo_cost_scenario *s, const anemo_cost_draws *draws,
                                  int32_t n, double volume, int32_t owned) {
    anemo_cost_outcome outcome[ANEMO_COST_OPTIONS_MAX];
    bool deciding[ANEMO_COST_OPTIONS_MAX];
    int32_t option;
    for (int32_t o = 0; o < s->model.n_options; o++) /* the others cannot be chosen */
        deciding[o] = o == owned || (o != s->in_use && !anemo_cost_inadmissible(s, o) &&
                                     accurate(s, o) && s->model.option[o].role != ANEMO_ROLE_OWNED);
    if (anemo_cost_simulate(s, draws, n, volume, owned, deciding, outcome, NULL) != ANEMO_OK)
        return ANEMO_REFUSED;
    return judge_money(s, outcome, owned, &option);
}

/* Narrows (a, b), below which the verdict is `kind`. A thousand draws bring it near; then every
 * draw counts, and since these may see the change a little further off, the bracket first grows. */
static void narrow(const anemo_cost_scenario *s, const anemo_cost_draws *draws, int32_t owned,
                   anemo_verdict_kind kind, double *a, double *b) {
    for (int k = 0; k < COARSE; k++) {
        double mid = sqrt(*a * *b);
        *(kind_at(s, draws, SCAN_DRAWS, mid, owned) == kind ? a : b) = mid;
    }
    bool below = kind_at(s, draws, 0, *a, owned) == kind;
    bool above = kind_at(s, draws, 0, *b, owned) != kind;
    for (double step = 1.04; step < 1.5 && !(below && above); step *= step) {
        if (!below) {
            *b = *a;
            above = true;
            *a /= step;
            below = kind_at(s, draws, 0, *a, owned) == kind;
        } else {
            *a = *b;
            *b *= step;
            above = kind_at(s, draws, 0, *b, owned) != kind;
        }
    }
    while (below && above && *b > FINE * *a) {
        double mid = sqrt(*a * *b);
        *(kind_at(s, draws, 0, mid, owned) == kind ? a : b) = mid;
    }
}

int32_t anemo_cost_verdict_spans(const anemo_cost_scenario *s, const anemo_cost_draws *draws,
                                 double range, anemo_verdict_span *span, int32_t max) {
    int32_t owned = anemo_cost_best_owned(s), n = 0;
    double before = 1 / range;
    if (owned < 0)
        return 0;
    span[0] = (anemo_verdict_span){before, range, kind_at(s, draws, SCAN_DRAWS, before, owned)};
    for (int32_t i = 1; i < SCAN_POINTS && n < max - 1; i++) {
        double v = pow(range, 2.0 * i / (SCAN_POINTS - 1) - 1), a = before, b = v;
        anemo_verdict_kind kind = kind_at(s, draws, SCAN_DRAWS, v, owned);
        before = v;
        if (kind == span[n].money)
            continue;
        narrow(s, draws, owned, span[n].money, &a, &b);
        span[n].hi = sqrt(a * b);
        n++;
        span[n] = (anemo_verdict_span){span[n - 1].hi, range, kind};
    }
    return n + 1;
}
