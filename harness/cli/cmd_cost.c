/* anemo cost: a scenario to money and a verdict. */
#include "harness/cli/common.h"
#include "harness/cli/cost_view.h"

typedef struct cost_options {
    cost_question q;
    bool explain;
} cost_options;

enum { KEY_AS_OF = ANEMO_CLI_KEY(0), KEY_MAX_AGE, KEY_REFERENCE, KEY_DRAWS, KEY_REQUESTS };
enum { KEY_BUY = KEY_REQUESTS + 1, KEY_REFUSE, KEY_DOMINATE, KEY_EXPLAIN };

static bool option(int key, const char *value, void *context) {
    cost_options *o = context;
    switch (key) {
    case KEY_AS_OF:
        o->q.as_of = value;
        return true;
    case KEY_MAX_AGE:
        o->q.max_age = (int32_t)anemo_cli_integer("--max-age", value, 1, 36500);
        return true;
    case KEY_REFERENCE:
        o->q.folder = value;
        return true;
    case KEY_DRAWS:
        o->q.draws = (int32_t)anemo_cli_integer("--draws", value, 100, 1000000);
        return true;
    case KEY_REQUESTS:
        o->q.requests = anemo_cli_real("--requests", value, 1, 1e12);
        return true;
    case KEY_BUY:
        o->q.buy = anemo_cli_real("--buy", value, 0.5, 1);
        return true;
    case KEY_REFUSE:
        o->q.refuse = anemo_cli_real("--refuse", value, 0, 0.5);
        return true;
    case KEY_DOMINATE:
        o->q.dominate = anemo_cli_real("--dominate", value, 0.5, 1);
        return true;
    case KEY_EXPLAIN:
        o->explain = true;
        return true;
    default:
        return false;
    }
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
    cost_options o = {.q = cost_question_default()};
    anemo_error err = {0};
    anemo_cli cli;
    cost_view *view = NULL;
    anemo_cli_parse(&spec, argc, argv, &o, &cli);
    o.q.seed = cli.seed;
    anemo_status status = cost_view_open(cli.arguments[0], &o.q, &view, &err);
    if (status == ANEMO_OK)
        print(view, &cli, o.explain);
    int code = status != ANEMO_OK ? anemo_cli_fail(status, &err) : ANEMO_EXIT_OK;
    if (status == ANEMO_OK && view->verdict.kind == ANEMO_REFUSED) {
        anemo_cli_warn("no verdict: %s; %s", view->verdict.reason, view->verdict.next);
        code = ANEMO_EXIT_INCONCLUSIVE;
    }
    cost_view_free(view);
    return anemo_cli_close(&cli, code);
}
