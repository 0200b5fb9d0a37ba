/* anemo cost: a scenario to money and a verdict. */
#include "harness/cli/common.h"
#include "harness/cli/cost_view.h"

#include <stdlib.h>
#include <string.h>

#define SCAN_RANGE 64.0 /* volumes from 1/64 to 64 times the scenario's */
#define SCAN_STEPS 1000

typedef struct cost_options {
    const char *as_of, *folder;
    int32_t draws, max_age;
    double requests, buy, refuse, dominate;
    bool explain;
} cost_options;

enum { KEY_AS_OF = ANEMO_CLI_KEY(0), KEY_MAX_AGE, KEY_REFERENCE, KEY_DRAWS, KEY_REQUESTS };
enum { KEY_BUY = KEY_REQUESTS + 1, KEY_REFUSE, KEY_DOMINATE, KEY_EXPLAIN };

static bool option(int key, const char *value, void *context) {
    cost_options *o = context;
    switch (key) {
    case KEY_AS_OF:
        o->as_of = value;
        return true;
    case KEY_MAX_AGE:
        o->max_age = (int32_t)anemo_cli_integer("--max-age", value, 1, 36500);
        return true;
    case KEY_REFERENCE:
        o->folder = value;
        return true;
    case KEY_DRAWS:
        o->draws = (int32_t)anemo_cli_integer("--draws", value, 100, 1000000);
        return true;
    case KEY_REQUESTS:
        o->requests = anemo_cli_real("--requests", value, 1, 1e12);
        return true;
    case KEY_BUY:
        o->buy = anemo_cli_real("--buy", value, 0.5, 1);
        return true;
    case KEY_REFUSE:
        o->refuse = anemo_cli_real("--refuse", value, 0, 0.5);
        return true;
    case KEY_DOMINATE:
        o->dominate = anemo_cli_real("--dominate", value, 0.5, 1);
        return true;
    case KEY_EXPLAIN:
        o->explain = true;
        return true;
    default:
        return false;
    }
}

/* ---------------------------------------------------------------- what is computed */

static double saving_at_volume(void *context, double volume) {
    const cost_view *v = context;
    anemo_cost_model model = v->s->model;
    double x[ANEMO_COST_INPUTS_MAX];
    memcpy(x, v->s->x, sizeof x);
    x[ANEMO_G_REQUESTS] = volume;
    if (model.option[v->subject].role == ANEMO_ROLE_HYBRID)
        anemo_cost_plan_hybrid(&model, v->subject, x);
    return anemo_cost_saving_of(&model, v->s->in_use, v->subject, x);
}

static anemo_status compute(cost_view *v, anemo_error *err) {
    const anemo_cost_scenario *s = v->s;
    anemo_cost_draws *draws = NULL;
    anemo_status status = anemo_cost_draws_create(s, v->draws, v->seed, &draws, err);
    v->owned = anemo_cost_best_owned(s);
    if (status == ANEMO_OK)
        status = anemo_cost_simulate(s, draws, 0, 1, v->owned, NULL, v->outcome, err);
    if (status == ANEMO_OK) {
        anemo_cost_judge(s, v->outcome, &v->verdict);
        v->subject = v->verdict.option >= 0 ? v->verdict.option : v->owned;
    }
    if (status == ANEMO_OK && v->subject >= 0) {
        double now = s->x[ANEMO_G_REQUESTS];
        v->n_won = anemo_cost_break_even(saving_at_volume, v, now / SCAN_RANGE, now * SCAN_RANGE,
                                         SCAN_STEPS, v->won, COST_INTERVALS);
        v->n_spans = anemo_cost_verdict_spans(s, draws, SCAN_RANGE, v->span, COST_SPANS);
        v->n_bars = anemo_cost_tornado(s, v->subject, v->bar);
        anemo_cost_say_next(s, v->bar, v->n_bars, &v->verdict);
    }
    anemo_cost_draws_free(draws);
    return status;
}

/* ---------------------------------------------------------------- the command */

static void print(const cost_view *v, const anemo_cli *cli, bool explain) {
    anemo_table *t[] = {cost_table_verdict(v),
                        cost_table_options(v),
                        cost_table_tokens(v),
                        cost_table_break_even(v),
                        cost_table_bars(v, cli->format == ANEMO_FORMAT_TEXT && !explain
                                               ? 12
                                               : ANEMO_COST_INPUTS_MAX),
                        cost_table_evidence(v),
                        cost_table_warnings(v),
                        explain ? cost_table_explain(v) : NULL,
                        explain ? cost_table_inputs(v) : NULL};
    int32_t n = explain ? 9 : 7;
    anemo_table_print((const anemo_table *const *)t, n, cli->format, cli->out);
    for (int32_t i = 0; i < n; i++)
        anemo_table_free(t[i]);
}

static void apply(const cost_options *o, anemo_cost_scenario *s) {
    if (o->buy > 0)
        s->rule.buy = o->buy;
    if (o->refuse >= 0)
        s->rule.refuse = o->refuse;
    if (o->dominate > 0)
        s->rule.dominate = o->dominate;
    if (o->requests > 0) { /* its range moves along */
        anemo_cost_number *n = &s->number[ANEMO_G_REQUESTS];
        double factor = o->requests / n->value;
        n->value = o->requests;
        n->low *= factor;
        n->high *= factor;
        s->x[ANEMO_G_REQUESTS] = o->requests;
        for (int32_t i = 0; i < s->model.n_options; i++)
            if (s->model.option[i].role == ANEMO_ROLE_HYBRID)
                anemo_cost_plan_hybrid(&s->model, i, s->x);
    }
}

static const struct argp_option options[] = {
    {"as-of", KEY_AS_OF, "DATE", 0, "prices and ages as on that day (default: today)", 0},
    {"max-age", KEY_MAX_AGE, "DAYS", 0, "warn of figures older than this (default 90)", 0},
    {"reference", KEY_REFERENCE, "FOLDER", 0, "prices.jsonl, machines.jsonl, site.jsonl", 0},
    {"draws", KEY_DRAWS, "N", 0, "of the Monte Carlo (default 10000)", 0},
    {"requests", KEY_REQUESTS, "N", 0, "a month, instead of the scenario's", 0},
    {"buy", KEY_BUY, "P", 0, "buy from this probability of saving on (default 0.8)", 0},
    {"refuse", KEY_REFUSE, "P", 0, "do not buy up to this one (default 0.2)", 0},
    {"dominate", KEY_DOMINATE, "P", 0, "another way is better from this one on (default 0.8)", 0},
    {"explain", KEY_EXPLAIN, NULL, 0, "every number with its formula, every input with its source",
     0},
    {0}};

int anemo_cmd_cost(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .arguments = "SCENARIO.json",
        .min_arguments = 1,
        .max_arguments = 1,
        .about =
            "Money and a verdict for one scenario: today's bill, the same open model hosted by "
            "others, a closed model of equal accuracy, rented and owned machines, and owned ones "
            "with an API, side by side; BUY, RENT, HYBRID, DO NOT BUY or UNDECIDED by a printed "
            "rule. The keys of a scenario stand in harness/cost/README.md, two worked ones in "
            "results/examples. Exit code 4: refused, something must be measured first.",
        .example = "  anemo cost results/examples/mixed.json --as-of 2026-11-26\n"
                   "  anemo cost my.json --explain --format md --output cost.md",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED,
        .options = options,
        .option = option};
    cost_options o = {.draws = 10000, .max_age = 90, .refuse = -1};
    anemo_reference reference = {0};
    anemo_error err = {0};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &o, &cli);
    anemo_cost_scenario *s = calloc(1, sizeof *s);
    cost_view *view = calloc(1, sizeof *view);
    anemo_status status = s && view ? ANEMO_OK : ANEMO_E_MEMORY;
    int32_t today = anemo_money_day(o.as_of);
    if (status == ANEMO_OK)
        status = anemo_money_reference(o.folder, &reference, &err);
    if (status == ANEMO_OK)
        status = anemo_cost_scenario_read(cli.arguments[0], &reference, today, o.max_age, s, &err);
    if (status == ANEMO_OK) {
        apply(&o, s);
        *view = (cost_view){.s = s, .draws = o.draws, .seed = cli.seed, .subject = -1, .owned = -1};
        status = compute(view, &err);
    }
    if (status == ANEMO_OK)
        print(view, &cli, o.explain);
    int code = status != ANEMO_OK ? anemo_cli_fail(status, &err) : ANEMO_EXIT_OK;
    if (status == ANEMO_OK && view->verdict.kind == ANEMO_REFUSED) {
        anemo_cli_warn("no verdict: %s; %s", view->verdict.reason, view->verdict.next);
        code = ANEMO_EXIT_INCONCLUSIVE;
    }
    anemo_reference_free(&reference);
    free(view);
    free(s);
    return anemo_cli_close(&cli, code);
}
