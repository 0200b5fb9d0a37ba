/* anemo report: records and a scenario to one page. */
#include "harness/cli/common.h"
#include "harness/cli/report.h"

#include <stdlib.h>
#include <string.h>

typedef struct report_options {
    cost_question q;
    page_form form;
    bool form_given;
} report_options;

enum { KEY_AS_OF = ANEMO_CLI_KEY(0), KEY_DRAWS, KEY_FORM };

static bool option(int key, const char *value, void *context) {
    static const char *const forms[] = {"md", "html", NULL};
    report_options *o = context;
    if (key == KEY_AS_OF) {
        o->q.as_of = value;
        return true;
    }
    if (key == KEY_DRAWS) {
        o->q.draws = (int32_t)anemo_cli_integer("--draws", value, 100, 1000000);
        return true;
    }
    if (key != KEY_FORM)
        return false;
    o->form = anemo_cli_choice("--format", value, forms) == 1 ? PAGE_HTML : PAGE_MD;
    o->form_given = true;
    return true;
}

/* The command line again, for the page. */
static char *command_line(int argc, char **argv) {
    char *line = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&line, &bytes);
    if (!out)
        abort();
    fputs("anemo report", out);
    for (int i = 1; i < argc; i++)
        fprintf(out, strpbrk(argv[i], " '\"$") ? " '%s'" : " %s", argv[i]);
    fclose(out);
    return line;
}

static anemo_status read_all(const anemo_cli *cli, const cost_question *q, anemo_report *report,
                             anemo_error *err) {
    char path[4096];
    anemo_status status = anemo_cli_defaults("cost.json", path, sizeof path, err);
    if (status == ANEMO_OK)
        status = anemo_cost_assumptions_read(path, &report->assumptions, err);
    report->has_assumptions = status == ANEMO_OK;
    for (int32_t i = 0; i < cli->n_arguments && status == ANEMO_OK; i++)
        status = anemo_report_read(report, cli->arguments[i], q, err);
    if (status == ANEMO_OK && report->n == 0 && !report->cost)
        status = anemo_fail(err, ANEMO_E_INPUT, "%s: no records there", cli->arguments[0]);
    return status;
}

int anemo_cmd_report(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"format", KEY_FORM, "FORMAT", 0, "md or html (default: as the output's name ends, md)", 0},
        {"as-of", KEY_AS_OF, "DATE", 0, "prices and ages as on that day (default: today)", 0},
        {"draws", KEY_DRAWS, "N", 0, "of the Monte Carlo of a scenario (default 10000)", 0},
        {0}};
    static const anemo_cli_spec spec = {
        .arguments = "FILE|DIR|SCENARIO.json...",
        .min_arguments = 1,
        .max_arguments = 100,
        .about =
            "Makes one page from records, a scenario, or both: the decision first, in an order "
            "that "
            "never changes, then the evidence. HTML is one file that asks nothing of the network, "
            "with figures when gnuplot is here. A directory means every .jsonl file below it; a "
            "name that ends in .json is a scenario, as for 'anemo cost'.",
        .example = "  anemo report results/examples/mixed.json --as-of 2026-11-26 -o mixed.html\n"
                   "  anemo report out/ --output report.md\n"
                   "  anemo report my.json results/ -o report.html",
        .shared = ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED,
        .options = options,
        .option = option,
    };
    report_options o = {.q = cost_question_default()};
    anemo_report report = {0};
    anemo_error err = {0};
    anemo_cli cli;
    report.repro = command_line(argc, argv);
    anemo_cli_parse(&spec, argc, argv, &o, &cli);
    o.q.seed = cli.seed;
    size_t n = cli.output ? strlen(cli.output) : 0;
    if (!o.form_given && n > 5 && strcmp(cli.output + n - 5, ".html") == 0)
        o.form = PAGE_HTML;
    anemo_status status = read_all(&cli, &o.q, &report, &err);
    int32_t placeholders = status == ANEMO_OK ? anemo_report_write(&report, o.form, cli.out) : 0;
    int code = status == ANEMO_OK ? ANEMO_EXIT_OK : anemo_cli_fail(status, &err);
    if (placeholders)
        anemo_cli_warn(
            "%d figures could not be drawn; their places say why, their numbers are there",
            placeholders);
    anemo_report_free(&report);
    return anemo_cli_close(&cli, code);
}
