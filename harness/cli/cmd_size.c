/* anemo size: workload and limits to machines. */
#include "harness/cli/common.h"
#include "harness/cli/size_view.h"

#include <stdlib.h>

typedef struct size_options {
    const char *as_of, *folder;
    bool explain;
} size_options;

enum { KEY_AS_OF = ANEMO_CLI_KEY(0), KEY_REFERENCE, KEY_EXPLAIN };

static bool option(int key, const char *value, void *context) {
    size_options *o = context;
    switch (key) {
    case KEY_AS_OF:
        o->as_of = value;
        return true;
    case KEY_REFERENCE:
        o->folder = value;
        return true;
    case KEY_EXPLAIN:
        o->explain = true;
        return true;
    default:
        return false;
    }
}

/* ---------------------------------------------------------------- the command */

int anemo_cmd_size(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"as-of", KEY_AS_OF, "DATE", 0, "facts as on that day (default: today)", 0},
        {"reference", KEY_REFERENCE, "FOLDER", 0, "prices.jsonl, machines.jsonl, site.jsonl", 0},
        {"explain", KEY_EXPLAIN, NULL, 0, "every number with its formula", 0},
        {0}};
    static const anemo_cli_spec spec = {
        .arguments = "SCENARIO.json",
        .min_arguments = 1,
        .max_arguments = 1,
        .about =
            "How many machines a workload needs within its limits: for each machine option with a "
            "\"sizing\", the memory budget, the load that a replica serves (a deterministic queue "
            "simulation around the scheduler, with measured step times), replicas, servers, "
            "redundant ones, spare units, power and racks. Exit code 4: no machine can.",
        .example = "  anemo size results/examples/mixed.json --as-of 2026-11-26 --explain",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED,
        .options = options,
        .option = option};
    size_options o = {0};
    anemo_reference reference = {0};
    anemo_error err = {0};
    anemo_cli cli;
    size_view *view = NULL;
    anemo_cli_parse(&spec, argc, argv, &o, &cli);
    anemo_cost_scenario *s = calloc(1, sizeof *s);
    anemo_status status = s ? anemo_money_reference(o.folder, &reference, &err) : ANEMO_E_MEMORY;
    if (status == ANEMO_OK)
        status = anemo_cost_scenario_read(cli.arguments[0], &reference, anemo_money_day(o.as_of),
                                          90, s, &err);
    if (status == ANEMO_OK)
        status = size_view_open(cli.arguments[0], &reference, s, cli.seed, &view, &err);
    if (status == ANEMO_OK && view->judged == 0)
        status = anemo_fail(&err, ANEMO_E_INPUT,
                            "%s: no machine option has a \"sizing\"; its keys stand in "
                            "harness/cost/README.md",
                            cli.arguments[0]);
    if (status == ANEMO_OK) {
        anemo_table *t[] = {size_table_memory(view), size_table_machines(view),
                            o.explain ? size_table_explain(view) : NULL};
        anemo_table_print((const anemo_table *const *)t, o.explain ? 3 : 2, cli.format, cli.out);
        for (int i = 0; i < 3; i++)
            anemo_table_free(t[i]);
    }
    int code = status == ANEMO_OK ? ANEMO_EXIT_OK : anemo_cli_fail(status, &err);
    if (status == ANEMO_OK && view->possible == 0) {
        anemo_cli_warn(
            "no machine of the scenario fits the model and meets the limits; see what each "
            "is limited by");
        code = ANEMO_EXIT_INCONCLUSIVE;
    }
    size_view_free(view);
    anemo_reference_free(&reference);
    free(s);
    return anemo_cli_close(&cli, code);
}
