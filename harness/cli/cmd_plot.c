/* anemo plot: one figure. */
#include "harness/cli/figure.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_AS_OF = ANEMO_CLI_KEY(0), KEY_DRAWS, KEY_TO };

typedef enum plot_form { PLOT_SVG, PLOT_PNG, PLOT_CSV, PLOT_FORMS } plot_form;
static const char *const forms[] = {"svg", "png", "csv", NULL};

typedef struct plot_options {
    cost_question q;
    int form; /* -1: as the output's name ends */
} plot_options;

static bool option(int key, const char *value, void *context) {
    plot_options *o = context;
    if (key == KEY_AS_OF)
        o->q.as_of = value;
    else if (key == KEY_DRAWS)
        o->q.draws = (int32_t)anemo_cli_integer("--draws", value, 100, 1000000);
    else if (key == KEY_TO)
        o->form = anemo_cli_choice("--format", value, forms);
    else
        return false;
    return true;
}

/* By --format, else by the end of the output's name, else svg. */
static anemo_status find_form(const plot_options *o, const anemo_cli *cli, plot_form *form,
                              anemo_error *err) {
    const char *dot = cli->output ? strrchr(cli->output, '.') : NULL;
    *form = o->form >= 0 ? (plot_form)o->form : PLOT_SVG;
    if (o->form >= 0 || !dot)
        return ANEMO_OK;
    for (int f = 0; f < PLOT_FORMS; f++)
        if (strcmp(dot + 1, forms[f]) == 0) {
            *form = (plot_form)f;
            return ANEMO_OK;
        }
    return anemo_fail(err, ANEMO_E_INPUT,
                      "--output '%s': expected a name that ends in .svg, .png or .csv, or --format",
                      cli->output);
}

static anemo_status find_figure(const char *name, const figure **f, anemo_error *err) {
    char names[300] = "";
    *f = figure_find(name);
    for (int32_t i = 0; figure_at(i); i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? ", " : "",
                 figure_at(i)->name);
    return *f ? ANEMO_OK
              : anemo_fail(err, ANEMO_E_INPUT, "figure '%s': expected one of %s", name, names);
}

static anemo_status plot(const figure *f, const anemo_report *report, plot_form form, FILE *out,
                         anemo_error *err) {
    figure_data data;
    char *bytes = NULL;
    size_t n = 0;
    figure_ask(f, report, &data);
    anemo_status status = ANEMO_OK;
    if (!data.described[0])
        status = anemo_fail(err, ANEMO_E_INPUT, "figure %s: nothing to draw; it needs %s", f->name,
                            f->needs);
    else if (form == PLOT_CSV)
        anemo_table_print((const anemo_table *const[]){data.table}, 1, ANEMO_FORMAT_CSV, out);
    else
        status = figure_draw(f, &data, anemo_report_mark(report), forms[form], &bytes, &n, err);
    if (bytes)
        fwrite(bytes, 1, n, out);
    free(bytes);
    anemo_table_free(data.table);
    return status;
}

int anemo_cmd_plot(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"format", KEY_TO, "FORMAT", 0, "svg, png or csv (default: as the output's name ends)", 0},
        {"as-of", KEY_AS_OF, "DATE", 0, "prices as on that day (default: today)", 0},
        {"draws", KEY_DRAWS, "N", 0, "of the Monte Carlo of a scenario (default 10000)", 0},
        {0}};
    static const anemo_cli_spec spec = {
        .arguments = "NAME FILE|DIR|SCENARIO.json...",
        .min_arguments = 2,
        .max_arguments = 100,
        .about = "Draws one figure of the report: break_even, options, tornado, utilisation or "
                 "memory of a scenario; latency, ledger, roofline or accuracy of records. gnuplot "
                 "draws; "
                 "csv gives the numbers without it.",
        .example = "  anemo plot tornado results/examples/mixed.json -o tornado.svg\n"
                   "  anemo plot roofline results/ -o roofline.png",
        .shared = ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED,
        .options = options,
        .option = option,
    };
    plot_options o = {.q = cost_question_default(), .form = -1};
    anemo_report report = {0};
    anemo_error err = {0};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &o, &cli);
    o.q.seed = cli.seed;
    const figure *f;
    plot_form form;
    anemo_status status = find_figure(cli.arguments[0], &f, &err);
    if (status == ANEMO_OK)
        status = find_form(&o, &cli, &form, &err);
    for (int32_t i = 1; i < cli.n_arguments && status == ANEMO_OK; i++)
        status = anemo_report_read(&report, cli.arguments[i], &o.q, &err);
    if (status == ANEMO_OK)
        status = plot(f, &report, form, cli.out, &err);
    anemo_report_free(&report);
    return anemo_cli_close(&cli, status == ANEMO_OK ? ANEMO_EXIT_OK : anemo_cli_fail(status, &err));
}
