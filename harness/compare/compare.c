/* The table's loop: at each look every undecided case is sampled up to that number of pairs, then
 * the table is judged as a whole, because Holm needs all p-values of a look together. Which side of
 * a turn comes first is drawn by lot: then a sign test of equal sides is exact whatever the machine
 * does in time. In a fixed order (AB BA BA AB) something that comes every few samples, such as a
 * timer, hits the same side again and again. */
#include "harness/compare/compare.h"

#include "harness/measure/bench_weight.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the rule */

anemo_compare_rule anemo_compare_rule_usual(void) {
    return (anemo_compare_rule){
        .delta = 0.03, .alpha = 0.05, .level = 0.95, .n_looks = 3, .look = {52, 104, 208}};
}

anemo_compare_rule anemo_compare_rule_fixed(double delta, int64_t n) {
    return (anemo_compare_rule){
        .delta = delta, .alpha = 0.05, .level = 0.95, .n_looks = 1, .look = {n}};
}

anemo_status anemo_compare_looks_parse(const char *text, anemo_compare_rule *rule,
                                       anemo_error *err) {
    int64_t looks[ANEMO_COMPARE_LOOKS];
    int32_t n = 0;
    const char *at = text;
    bool good = true;
    for (bool more = true; good && more; at++) {
        char *end;
        const long long value = strtoll(at, &end, 10);
        good = *at >= '0' && *at <= '9' && n < ANEMO_COMPARE_LOOKS && value >= 6 &&
               value <= 100000 && (n == 0 || value > looks[n - 1]) && (*end == ',' || *end == 0);
        if (good) {
            looks[n++] = value;
            more = *end == ',';
            at = end;
        }
    }
    if (!good) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "looks '%s': expected 1 to %d ascending numbers of pairs from 6 to "
                          "100000, apart by commas, for example 52,104,208",
                          text, ANEMO_COMPARE_LOOKS);
    }
    memcpy(rule->look, looks, sizeof looks);
    rule->n_looks = n;
    return ANEMO_OK;
}

double anemo_compare_look_alpha(const anemo_compare_rule *rule) {
    return rule->alpha / rule->n_looks;
}

double anemo_compare_look_level(const anemo_compare_rule *rule) {
    return 1 - (1 - rule->level) / rule->n_looks;
}

const char *anemo_compare_verdict_name(anemo_compare_verdict verdict) {
    static const char *const names[] = {"INCONCLUSIVE", "PASS", "REGRESSION"};
    return names[verdict];
}

/* ---------------------------------------------------------------- sampling one case */

static anemo_status make_room(anemo_compare_result *r, int64_t pairs, anemo_error *err) {
    for (int side = 0; side < 2 && pairs > r->capacity; side++) {
        double *ns = realloc(r->ns[side], (size_t)pairs * sizeof *ns);
        if (!ns) {
            return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %lld pairs", (long long)pairs);
        }
        r->ns[side] = ns;
    }
    r->capacity = pairs > r->capacity ? pairs : r->capacity;
    return ANEMO_OK;
}

/* Side 0 or 1, by lot. */
static int32_t first_side(void) {
    static uint64_t lots;
    return (int32_t)(bench_hash(lots++) >> 63);
}

static anemo_status one_turn(const anemo_compare_case *c, double ns[2], anemo_error *err) {
    const int32_t first = first_side();
    for (int i = 0; i < 2; i++) {
        const int32_t side = i ? 1 - first : first;
        ns[side] = NAN;
        const anemo_status status = c->sample(c->ctx, side, &ns[side], err);
        if (status) {
            return status;
        }
        if (!(ns[side] > 0 && isfinite(ns[side]))) {
            return anemo_fail(err, ANEMO_E_NUMERIC, "%s: side %c took %g ns", c->name, 'A' + side,
                              ns[side]);
        }
    }
    return ANEMO_OK;
}

static anemo_status one_pair(const anemo_compare_case *c, anemo_compare_result *r) {
    const int32_t turns = c->turns ? *c->turns : 1;
    double ns[2][ANEMO_COMPARE_TURNS];
    if (turns < 1 || turns > ANEMO_COMPARE_TURNS) {
        return anemo_fail(&r->error, ANEMO_E_INPUT, "%s: %d turns a pair; 1 to %d are possible",
                          c->name, turns, ANEMO_COMPARE_TURNS);
    }
    for (int32_t t = 0; t < turns; t++) {
        double turn[2];
        const anemo_status status = one_turn(c, turn, &r->error);
        if (status) {
            return status;
        }
        ns[0][t] = turn[0];
        ns[1][t] = turn[1];
    }
    for (int side = 0; side < 2; side++) {
        anemo_stats_sort(ns[side], turns);
        r->ns[side][r->pairs] = anemo_stats_quantile(ns[side], turns, 0.5);
    }
    r->pairs++;
    return ANEMO_OK;
}

static bool is_interrupted(const anemo_compare_hooks *hooks) {
    return hooks->interrupted && hooks->interrupted();
}

/* One opening: up to `pairs`, or until interrupted. */
static void sample_opened(const anemo_compare_case *c, anemo_compare_result *r, int64_t pairs,
                          const anemo_compare_hooks *hooks) {
    r->status = c->open ? c->open(c->ctx, &r->error) : ANEMO_OK;
    if (r->status) {
        return;
    }
    while (!r->status && r->pairs < pairs && !is_interrupted(hooks)) {
        r->status = one_pair(c, r);
    }
    if (c->close) {
        c->close(c->ctx);
    }
}

/* Up to `pairs`: what is missing, in equal shares. */
static void sample_to(const anemo_compare_case *c, anemo_compare_result *r, int64_t pairs,
                      int32_t openings, const anemo_compare_hooks *hooks) {
    const int64_t from = r->pairs;
    const int32_t shares = openings > 1 ? openings : 1;
    r->status = make_room(r, pairs, &r->error);
    for (int32_t i = 1; !r->status && i <= shares && !is_interrupted(hooks); i++) {
        const int64_t until = from + (pairs - from) * i / shares;
        if (until > r->pairs) {
            sample_opened(c, r, until, hooks);
        }
    }
}

/* ---------------------------------------------------------------- the table */

static bool wants_more(const anemo_compare_result *r) {
    return !r->status && !r->decided;
}

/* false: interrupted. */
static bool take_look(const anemo_compare_case *cases, int32_t n, const anemo_compare_rule *rule,
                      int32_t look, const anemo_compare_hooks *hooks,
                      anemo_compare_result *results) {
    const int64_t pairs = rule->look[look];
    for (int32_t i = 0; i < n; i++) {
        anemo_compare_result *r = &results[i];
        if (!wants_more(r)) {
            continue;
        }
        sample_to(&cases[i], r, pairs, rule->openings, hooks);
        if (is_interrupted(hooks)) {
            return false;
        }
        if (!r->status) {
            r->look = look;
            anemo_compare_describe(r, rule);
        }
        if (hooks->progress) {
            hooks->progress(hooks->ctx, i, r->pairs, rule->look[rule->n_looks - 1]);
        }
    }
    anemo_compare_judge(results, n, rule, look);
    for (int32_t i = 0; n > 1 && i < n; i++) { /* again: what would be found depends on p_needed */
        if (!results[i].status && results[i].look == look) {
            anemo_compare_describe(&results[i], rule);
        }
    }
    return true;
}

anemo_status anemo_compare_run(const anemo_compare_case *cases, int32_t n,
                               const anemo_compare_rule *rule, const anemo_compare_hooks *hooks,
                               anemo_compare_result *results, anemo_error *err) {
    static const anemo_compare_hooks none;
    const double one = anemo_compare_look_alpha(rule);
    for (int32_t i = 0; i < n; i++) {
        results[i] = (anemo_compare_result){.look = -1, .p_needed = one / n};
        anemo_compare_describe(&results[i], rule);
    }
    bool undecided = n > 0;
    for (int32_t look = 0; look < rule->n_looks && undecided; look++) {
        if (!take_look(cases, n, rule, look, hooks ? hooks : &none, results)) {
            for (int32_t i = 0; i < n; i++) {
                if (wants_more(&results[i])) {
                    anemo_compare_describe(&results[i], rule);
                }
            }
            return anemo_fail(err, ANEMO_E_CANCELLED, "interrupted");
        }
        undecided = false;
        for (int32_t i = 0; i < n; i++) {
            undecided = undecided || wants_more(&results[i]);
        }
    }
    return ANEMO_OK;
}

void anemo_compare_results_free(anemo_compare_result *results, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        free(results[i].ns[0]);
        free(results[i].ns[1]);
        results[i].ns[0] = results[i].ns[1] = NULL;
    }
}
