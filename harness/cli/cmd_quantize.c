/* anemo quantize: a checkpoint in, the same model with fewer bits out. */
#include "harness/cli/common.h"
#include "models/engine.h"

#include <inttypes.h>

enum { KEY_TO };

static bool quantize_option(int key, const char *value, void *context) {
    const char **to = context;
    if (key != ANEMO_CLI_KEY(KEY_TO))
        return false;
    *to = value;
    return true;
}

static bool show_progress(void *context, double done, double total, const char *tensor) {
    anemo_progress_show(context, done / total, tensor);
    return !anemo_cli_interrupted();
}

static void describe(const anemo_cli *cli, const char *label, const anemo_model_info *info) {
    fprintf(cli->out, "%-4s %-24s %-10s %10.2f MB, %.3f bits per parameter\n", label, info->name,
            info->weights, info->weight_bytes / 1e6, 8 * info->weight_bytes / info->parameters);
}

/* Opens what was written, as anyone would: the proof that it is a model. */
static anemo_status show_result(const anemo_cli *cli, const anemo_quantise_report *report,
                                const char *to, anemo_error *err) {
    for (int i = 0; i < 2; i++) {
        anemo_model *model = NULL;
        const anemo_status status = anemo_model_open(cli->arguments[i], NULL, &model, err);
        if (status != ANEMO_OK)
            return status;
        describe(cli, i ? "to" : "from", anemo_model_describe(model));
        anemo_model_close(model);
    }
    if (report->fallbacks > 0)
        fprintf(cli->out,
                "%" PRId64 " matrices have rows that are no whole blocks of %s, and got the next "
                "larger type that fits\n",
                report->fallbacks, to);
    if (report->no_tokenizer.text[0])
        fprintf(cli->out, "no tokenizer in it: %s\n", report->no_tokenizer.text);
    return ANEMO_OK;
}

int anemo_cmd_quantize(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"to", ANEMO_CLI_KEY(KEY_TO), "TYPE", 0,
         "q4:g32, q4:g128, q8:g32, q8:row, q4_0, q4_k or q6_k", 0},
        {0}};
    static const anemo_cli_spec spec = {
        .arguments = "IN OUT",
        .min_arguments = 2,
        .max_arguments = 2,
        .about = "Writes the model IN (a directory or a .gguf file) with every matrix but the "
                 "router as TYPE. OUT is a GGUF file where its name ends in .gguf, else a new "
                 "directory of safetensors, where the embedding stays floats, as other programs "
                 "expect it there. OUT appears when it is complete, and not before.",
        .example = "  anemo quantize models/default small.gguf --to q4_0\n"
                   "  anemo quantize model.gguf small --to q4:g128",
        .shared = ANEMO_CLI_QUIET | ANEMO_CLI_THREADS,
        .options = options,
        .option = quantize_option,
    };
    const char *to = NULL;
    anemo_quantise_report report;
    anemo_error err = {0};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &to, &cli);
    if (!to)
        anemo_cli_usage("--to is missing; accepted: q4:g32, q4:g128, q8:g32, q8:row, q4_0, q4_k, "
                        "q6_k");
    anemo_cli_catch_interrupts();
    anemo_progress progress = anemo_progress_start(&cli, "quantize", 1);
    anemo_device *device = NULL;
    anemo_status status = anemo_cli_open_device(&cli, &device, &err);
    if (status == ANEMO_OK) {
        const anemo_exec exec = anemo_device_exec(device);
        status = anemo_quantise_model(cli.arguments[0], cli.arguments[1], to, &exec, show_progress,
                                      &progress, &report, &err);
    }
    anemo_device_free(device);
    anemo_progress_end(&progress);
    if (status == ANEMO_OK)
        status = show_result(&cli, &report, to, &err);
    return anemo_cli_close(&cli, status == ANEMO_OK ? ANEMO_EXIT_OK : anemo_cli_fail(status, &err));
}
