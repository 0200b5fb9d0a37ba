/* anemo report: records to one Markdown page. */
#include "harness/cli/common.h"
#include "harness/cli/report.h"

int anemo_cmd_report(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .arguments = "FILE|DIR...",
        .min_arguments = 1,
        .max_arguments = 100,
        .about = "Makes one Markdown page from records: machines, models, accuracy, cost, kernels, "
                 "validity, and what was not measured and why. A directory means every .jsonl file "
                 "below it.",
        .example = "  anemo report out/ --output report.md\n  anemo report results/",
        .shared = ANEMO_CLI_OUTPUT,
    };
    anemo_report report = {0};
    anemo_error err = {0};
    anemo_cli cli;
    char path[4096];
    anemo_cli_parse(&spec, argc, argv, NULL, &cli);
    anemo_status status = anemo_cli_defaults("cost.json", path, sizeof path, &err);
    if (status == ANEMO_OK)
        status = anemo_cost_assumptions_read(path, &report.assumptions, &err);
    report.has_assumptions = status == ANEMO_OK;
    for (int32_t i = 0; i < cli.n_arguments && status == ANEMO_OK; i++)
        status = anemo_report_read(&report, cli.arguments[i], &err);
    if (status == ANEMO_OK && report.n == 0)
        status = anemo_fail(&err, ANEMO_E_INPUT, "%s: no records there", cli.arguments[0]);
    if (status == ANEMO_OK)
        anemo_report_write(&report, cli.out);
    anemo_report_free(&report);
    int code = status == ANEMO_OK ? ANEMO_EXIT_OK : anemo_cli_fail(status, &err);
    return anemo_cli_close(&cli, code);
}
