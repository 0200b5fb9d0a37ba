/* anemo synth: a model of a true shape with random weights, as a file that other engines read. */
#include "harness/cli/common.h"
#include "models/engine.h"

static bool show_progress(void *context, double done, double total, const char *tensor) {
    anemo_progress_show(context, done / total, tensor);
    return !anemo_cli_interrupted();
}

/* Opens what was written, as anyone would: the proof that it is a model. */
static anemo_status show_result(const anemo_cli *cli, anemo_error *err) {
    anemo_model *model = NULL;
    const anemo_status status = anemo_model_open(cli->arguments[1], NULL, &model, err);
    if (status != ANEMO_OK) {
        return status;
    }
    const anemo_model_info *info = anemo_model_describe(model);
    fprintf(cli->out, "%s: %s, %s, %lld layers, %.1f million parameters, %.2f MB; random weights\n",
            cli->arguments[1], info->architecture, info->weights, (long long)info->layers,
            info->parameters / 1e6, info->weight_bytes / 1e6);
    anemo_model_close(model);
    return ANEMO_OK;
}

int anemo_cmd_synth(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .arguments = "URI OUT.gguf",
        .min_arguments = 2,
        .max_arguments = 2,
        .about =
            "Writes a synthetic model to a GGUF file: a true shape, random weights, and a "
            "vocabulary made for it, so that other engines can be timed on the very same file. URI "
            "is synth:SHAPE:TYPE[:NAME=N]...; SHAPE a preset (`anemo list models`) or a path to a "
            "config.json; TYPE q4_0, q8_0, bf16, f16 or f32; NAME one of layers, d, ffn, heads, "
            "kv_heads, head_dim, vocab, experts, top_k, window, context. OUT appears when it is "
            "complete, and not before.",
        .example = "  anemo synth synth:dense-1b:q4_0 1b-q4_0.gguf\n"
                   "  anemo synth synth:mistral-7b:q8_0:layers=8:ffn=8192 small.gguf",
        .shared = ANEMO_CLI_QUIET,
    };
    anemo_error err = {0};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, NULL, &cli);
    anemo_cli_catch_interrupts();
    anemo_progress progress = anemo_progress_start(&cli, "synth", 1);
    anemo_status status =
        anemo_synth_model(cli.arguments[0], cli.arguments[1], show_progress, &progress, &err);
    anemo_progress_end(&progress);
    if (status == ANEMO_OK) {
        status = show_result(&cli, &err);
    }
    return anemo_cli_close(&cli, status == ANEMO_OK ? ANEMO_EXIT_OK : anemo_cli_fail(status, &err));
}
