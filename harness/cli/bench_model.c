/* anemo bench model: options, and what is printed of a whole model and of a composed one. */
#include "harness/cli/bench_model.h"

#include "harness/cli/bench_cli.h"
#include "harness/cli/bench_ledger.h"
#include "harness/cli/bench_load.h"
#include "harness/cli/table.h"
#include "harness/measure/bench_kernel.h"
#include "harness/measure/composed.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct model_choices {
    anemo_composed_options composed; /* .model serves both kinds of run */
    bool force_composed, stop_given, ledger;
    const char *what_if;
    anemo_cli_load load;
} model_choices;

enum {
    KEY_PROMPT = ANEMO_CLI_KEY(20),
    KEY_TOKENS,
    KEY_BATCH,
    KEY_MODEL_WEIGHTS,
    KEY_MODEL_STOP,
    KEY_COMPOSED,
    KEY_MEMORY,
    KEY_CHUNK,
    KEY_DEPTH,
    KEY_LEDGER,
    KEY_WHAT_IF,
    KEY_KV,
    KEY_WINDOW,
    KEY_LAYERS
};

static const struct argp_option model_argp[] = {
    {"prompt", KEY_PROMPT, "N", 0, "prompt tokens P (default 128)", 0},
    {"tokens", KEY_TOKENS, "N", 0, "generated tokens n (default 32; composed 5)", 0},
    {"depth", KEY_DEPTH, "N", 0, "tokens before the decode, at least 1 (default: the prompt)", 0},
    {"batch", KEY_BATCH, "LIST", 0, "sessions decoding together (default 1,4,16)", 0},
    {"chunk", KEY_CHUNK, "N", 0, "prefill rows of one step at most (default 512)", 0},
    {"weights", KEY_MODEL_WEIGHTS, "TYPE", 0, "q8_0 or q4_0: requantise when opening", 0},
    {"stop", KEY_MODEL_STOP, "RULE", 0,
     "ci:1%, time:2s or n:50, with ,cap:10s (default ci:2%,cap:10s; composed n:8,cap:30s)", 0},
    {"composed", KEY_COMPOSED, NULL, 0,
     "add up the whole model from a few layers (synth: without :layers= does so by itself)", 0},
    {"memory", KEY_MEMORY, "GIB", 0, "limit of a composed run (default 2)", 0},
    {"kv", KEY_KV, "TYPE", 0, "keys and values in f32, f16 (default), bf16 or q8", 0},
    {"window", KEY_WINDOW, "N", 0, "keys that attention sees: model (default), none, or N", 0},
    {"ledger", KEY_LEDGER, NULL, 0, "where the time of a step goes, call by call", 0},
    {"what-if", KEY_WHAT_IF, "RULE", 0,
     "OP[@ROLE][:m=LO..HI]=VARIANT: foretell from the ledger what it changes, then measure it", 0},
    {"layers", KEY_LAYERS, "A,B,C", 0,
     "compose from these; with C the whole model, the error is that of a full run", 0},
    ANEMO_CLI_LOAD_ARGP{0}};

static void parse_batches(const char *value, anemo_bench_model_options *o) {
    o->n_batch = anemo_shape_rows(value, o->batch, ANEMO_BENCH_BATCHES);
    for (int32_t i = 0; i < o->n_batch; i++) {
        o->n_batch = o->batch[i] > BENCH_BATCH_MAX ? -1 : o->n_batch;
    }
    if (o->n_batch < 1) {
        anemo_cli_usage("--batch %s: expected up to %d numbers from 1 to %d, apart by commas",
                        value, ANEMO_BENCH_BATCHES, BENCH_BATCH_MAX);
    }
}

static bool model_option(int key, const char *value, void *context) {
    static const char *const types[] = {"q8_0", "q4_0", NULL};
    model_choices *c = context;
    anemo_bench_model_options *o = &c->composed.model;
    if (key == KEY_PROMPT) {
        o->spec.prompt_tokens = anemo_cli_integer("--prompt", value, 1, 1 << 20);
    } else if (key == KEY_TOKENS) {
        o->spec.generated_tokens = anemo_cli_integer("--tokens", value, 2, 1 << 20);
    } else if (key == KEY_CHUNK) {
        o->spec.chunk_tokens = anemo_cli_integer("--chunk", value, 1, 1 << 16);
    } else if (key == KEY_DEPTH) {
        o->spec.depth_tokens = anemo_cli_integer("--depth", value, 1, 1 << 20);
    } else if (key == KEY_BATCH) {
        parse_batches(value, o);
    } else if (key == KEY_MODEL_WEIGHTS) {
        o->spec.requantise = types[anemo_cli_choice("--weights", value, types)];
    } else if (key == KEY_MODEL_STOP) {
        anemo_cli_stop(value, &o->stop);
        c->stop_given = true;
    } else if (key == KEY_COMPOSED) {
        c->force_composed = true;
    } else if (key == KEY_MEMORY) {
        c->composed.memory_bytes = anemo_cli_real("--memory", value, 0.1, 1e6) * (1 << 30);
    } else if (key == KEY_KV) {
        o->spec.kv_type = anemo_cli_kv_type("--kv", value);
    } else if (key == KEY_WINDOW) {
        o->spec.window_given = true;
        o->spec.window = anemo_cli_window("--window", value);
    } else if (key == KEY_LAYERS) {
        if (anemo_shape_rows(value, c->composed.counts, ANEMO_COMPOSED_COUNTS) !=
            ANEMO_COMPOSED_COUNTS) {
            anemo_cli_usage("--layers %s: expected three ascending numbers, apart by commas",
                            value);
        }
    } else if (key == KEY_LEDGER) {
        c->ledger = true;
    } else if (key == KEY_WHAT_IF) {
        c->what_if = value;
    } else {
        return anemo_cli_load_option(key, value, &c->load);
    }
    return true;
}

static void model_columns(anemo_table *table) {
    anemo_table_column(table, "what", "what");
    anemo_table_column(table, "batch", "batch");
    anemo_table_column(table, "time_s", "time, ms");
    anemo_table_column(table, "time_lo_s", "95 % from");
    anemo_table_column(table, "time_hi_s", "to");
    anemo_table_column(table, "samples", "n");
    anemo_table_column(table, "tokens_per_s", "tokens/s");
    anemo_table_column(table, "tokens_per_s_lo", "from");
    anemo_table_column(table, "tokens_per_s_hi", "to");
    anemo_table_column(table, "roof_fraction", "of roof");
    anemo_table_column(table, "binding", "roof");
}

static void fraction_cell(anemo_table *table, double fraction) {
    if (isfinite(fraction)) {
        anemo_table_both(table, fraction, "%.1f %%", fraction * 100);
    } else {
        anemo_table_absent(table);
    }
}

/* The cells that both kinds of run share; batch 0 is the prefill. */
static void model_cells(anemo_table *table, int32_t batch, const bench_result *r,
                        const anemo_estimate *rate) {
    anemo_table_text(table, "%s", batch ? "TPOT" : "TTFT");
    anemo_table_number(table, batch ? batch : 1, "%.0f");
    anemo_table_both(table, r->time_s.value, "%.3f", r->time_s.value * 1e3);
    anemo_table_both(table, r->time_s.lo, "%.3f", r->time_s.lo * 1e3);
    anemo_table_both(table, r->time_s.hi, "%.3f", r->time_s.hi * 1e3);
    anemo_table_number(table, (double)r->time_s.n, "%.0f");
    anemo_table_number(table, rate->value, "%.5g");
    anemo_table_number(table, rate->lo, "%.5g");
    anemo_table_number(table, rate->hi, "%.5g");
    fraction_cell(table, r->roof.value);
    anemo_table_text(table, "%s%s%s", anemo_ceiling_name(r->binding),
                     r->invalid ? ", INVALID: above the ceiling" : "",
                     r->time_s.needs ? ANEMO_CLI_NEEDS_SIX : "");
}

static void itl_cell(anemo_table *table, const anemo_percentile *p) {
    if (p->known) {
        anemo_table_both(table, p->value, "%.3f (< %.3f)", p->value * 1e3, p->upper * 1e3);
    } else if (p->needs > 0) {
        anemo_table_text(table, "needs %lld", (long long)p->needs);
    } else {
        anemo_table_absent(table);
    }
}

static void load_cells(anemo_table *table, const anemo_route_load *load) {
    if (load->calls > 0) {
        anemo_table_both(table, load->touched, "%.3g of %d", load->touched, load->n_experts);
        anemo_table_number(table, load->imbalance, "%.3g");
    } else {
        anemo_table_absent(table);
        anemo_table_absent(table);
    }
}

/* Behind the other columns, of a mixture alone. */
static void load_columns(anemo_table *table, const anemo_model_info *info) {
    if (info->experts > 0) {
        anemo_table_column(table, "experts_touched", "experts");
        anemo_table_column(table, "load_max_over_mean", "max/mean");
    }
}

static void print_load(const anemo_model_info *info, FILE *out) {
    if (info->experts > 0) {
        fprintf(out, "Experts: those with a token in a step, and tokens of the fullest over the "
                     "mean of all; means over layers and steps, in a run beside the timed ones.\n");
    }
}

static void print_ceilings(const bench_result *r, FILE *out) {
    fputs("Ceilings beside it:", out);
    for (int c = 0; c < ANEMO_CEILING_COUNT; c++) {
        if (r->ceiling[c] > 0) {
            fprintf(out, " %s %.3g %s", anemo_ceiling_name((anemo_ceiling)c), r->ceiling[c] * 1e-9,
                    c == ANEMO_CEILING_READ ? "GB/s" : "GOP/s");
        }
    }
    fputc('\n', out);
}

static void print_energy(const anemo_bench_model_report *r, FILE *out) {
    if (r->energy_source[0]) {
        fprintf(out, "Energy: %s\n", r->energy_source);
    } else {
        fprintf(out, "Energy: not counted, %s; helps: %s\n", r->energy_lack.reason,
                r->energy_lack.remedy);
    }
}

static void print_gpu(const anemo_bench_model_report *r, FILE *out) {
    if (!r->on_gpu) {
        return;
    }
    fprintf(out,
            "Times: the host's clock, from submitting a step to having its results; decode "
            "steps are launched as one graph each where the plan's variants may be captured.\n");
    const bench_gpu_state *gpu = &r->line[r->n_lines - 1].result.gpu;
    if (r->gpu_lack[0]) {
        fprintf(out, "Clock, throttling and power of the GPU: not read, %s\n", r->gpu_lack);
    } else if (isfinite(gpu->multiprocessor_hz)) {
        fprintf(out,
                "GPU in the last line: multiprocessors at %.0f MHz (lowest %.0f), %.0f W, %lld "
                "of its samples throttled\n",
                gpu->multiprocessor_hz * 1e-6, gpu->lowest_hz * 1e-6, gpu->watts,
                (long long)gpu->throttled);
    }
}

static void print_choices(const char *choices, FILE *out) {
    fputs("Plan:", out);
    for (const char *at = choices; at && *at;) {
        const size_t bytes = strcspn(at, ";");
        fprintf(out, "\n  %.*s", (int)bytes, at);
        at += bytes + (at[bytes] == ';');
        at += strspn(at, " ");
    }
    fputc('\n', out);
}

static void print_model(const anemo_cli *cli, const anemo_bench_model_report *r) {
    char title[512];
    snprintf(title, sizeof title,
             "%s: %s, %.4g M parameters (%.4g M active), weights %s; P = %lld, n = %lld; resident "
             "%.1f MB, peak %.1f MB",
             r->info.name, r->info.architecture, r->info.parameters * 1e-6,
             r->info.active_parameters * 1e-6, r->info.weights, (long long)r->prompt_tokens,
             (long long)r->generated_tokens, r->resident_bytes * 1e-6, r->peak_rss_bytes * 1e-6);
    anemo_table *table = anemo_table_create("model", title);
    model_columns(table);
    anemo_table_column(table, "itl_p95_s", "ITL p95, ms");
    anemo_table_column(table, "itl_p99_s", "ITL p99, ms");
    anemo_table_column(table, "joules_per_token", "J/token");
    load_columns(table, &r->info);
    for (int32_t i = 0; i < r->n_lines; i++) {
        const anemo_bench_model_line *line = &r->line[i];
        model_cells(table, line->batch, &line->result, &line->tokens_per_s);
        itl_cell(table, &line->itl_s[0]);
        itl_cell(table, &line->itl_s[1]);
        anemo_table_number(table, line->joules_per_token.value, "%.3g");
        if (r->info.experts > 0) {
            load_cells(table, &line->load);
        }
    }
    const anemo_table *tables[] = {table};
    anemo_table_print(tables, 1, cli->format, cli->out);
    anemo_table_free(table);
    if (anemo_cli_for_people(cli)) {
        fprintf(cli->out, "\n%s\n", ANEMO_MODEL_DEFINITIONS);
        print_ceilings(&r->line[0].result, cli->out);
        print_energy(r, cli->out);
        print_gpu(r, cli->out);
        print_load(&r->info, cli->out);
        print_choices(r->choices, cli->out);
    }
}

static void print_composed(const anemo_cli *cli, const anemo_composed_report *r) {
    char title[512];
    snprintf(title, sizeof title,
             "%s, composed: %lld layers added up from %lld, %lld and %lld; P = %lld; %.2f GB of "
             "weights, %.2f GB resident here",
             r->info.name, (long long)r->info.layers, (long long)r->counts[0],
             (long long)r->counts[1], (long long)r->counts[2], (long long)r->prompt_tokens,
             r->info.weight_bytes * 1e-9, r->resident_bytes * 1e-9);
    anemo_table *table = anemo_table_create("composed", title);
    model_columns(table);
    anemo_table_column(table, "layer_s", "layer, ms");
    anemo_table_column(table, "rest_s", "rest, ms");
    anemo_table_column(table, "composition_error", "error");
    load_columns(table, &r->info);
    for (int32_t i = 0; i < r->n_lines; i++) {
        const anemo_composed_line *line = &r->line[i];
        model_cells(table, line->batch, &line->result, &line->tokens_per_s);
        anemo_table_both(table, line->layer_s.value, "%.3f", line->layer_s.value * 1e3);
        anemo_table_both(table, line->rest_s.value, "%.3f", line->rest_s.value * 1e3);
        anemo_table_both(table, line->error.value, "%+.1f %% [%+.1f, %+.1f]",
                         line->error.value * 100, line->error.lo * 100, line->error.hi * 100);
        if (r->info.experts > 0) {
            load_cells(table, &line->load);
        }
    }
    const anemo_table *tables[] = {table};
    anemo_table_print(tables, 1, cli->format, cli->out);
    anemo_table_free(table);
    if (anemo_cli_for_people(cli)) {
        fprintf(
            cli->out,
            "\n%s\nerror: time at %lld layers, predicted from %lld and %lld, against measured.\n",
            ANEMO_MODEL_DEFINITIONS, (long long)r->counts[2], (long long)r->counts[0],
            (long long)r->counts[1]);
        print_load(&r->info, cli->out);
        print_ceilings(&r->line[0].result, cli->out);
        print_choices(r->choices, cli->out);
    }
}

/* Defaults that differ between the two kinds of run. */
static void complete_choices(model_choices *own, bool composed) {
    anemo_bench_model_options *o = &own->composed.model;
    if (o->spec.generated_tokens == 0) {
        o->spec.generated_tokens = composed ? 5 : 32;
    }
    if (!own->stop_given) {
        anemo_cli_stop(composed ? "n:8,cap:30s" : "ci:2%,cap:10s", &o->stop);
    }
}

static anemo_status run_model(const anemo_cli *cli, model_choices *own, anemo_device *device,
                              anemo_record_sink *sink, bool *invalid, anemo_error *err) {
    const char *path = own->composed.model.spec.path;
    const bool watch = own->ledger || own->what_if, whole = watch || own->load.detail;
    const bool composed = own->force_composed || (anemo_is_composable(path) && !whole);
    if (whole && own->force_composed) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "--ledger, --what-if and --load need a whole model, not --composed: name "
                          "fewer layers with :layers=N");
    }
    if (composed && !anemo_is_composable(path)) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "--composed %s: only synth:PRESET:TYPE without :layers= can be composed",
                          path);
    }
    complete_choices(own, composed);
    anemo_status status;
    if (own->load.detail) {
        own->load.options.spec = own->composed.model.spec;
        own->load.options.load.seed = cli->seed;
        own->load.options.demo = own->composed.model.demo;
        return anemo_cli_load_run(cli, &own->load, device, sink, err);
    }
    if (watch) {
        return anemo_cli_ledger(cli, &own->composed.model, own->what_if, device, sink, invalid,
                                err);
    }
    if (composed) {
        anemo_composed_report report;
        status = anemo_composed_run(device, &own->composed, sink, &report, err);
        if (report.n_lines) {
            print_composed(cli, &report);
        }
        for (int32_t i = 0; i < report.n_lines; i++) {
            *invalid = *invalid || report.line[i].result.invalid;
        }
        anemo_composed_report_free(&report);
        return status;
    }
    anemo_bench_model_report report;
    own->composed.model.ordinal = cli->ordinal;
    status = anemo_bench_model(device, &own->composed.model, sink, &report, err);
    if (report.n_lines && report.info.skipped[0]) {
        anemo_cli_warn("%s: only the text path is run; left out: %s", report.info.name,
                       report.info.skipped);
    }
    if (report.n_lines) {
        print_model(cli, &report);
    }
    for (int32_t i = 0; i < report.n_lines; i++) {
        *invalid = *invalid || report.line[i].result.invalid;
    }
    anemo_bench_model_report_free(&report);
    return status;
}

int anemo_cli_bench_model(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .arguments = "[MODEL]",
        .max_arguments = 1,
        .about = "Times a whole model: time to first token, time per token and throughput at "
                 "several batch sizes, in turn and beside this machine's ceilings. Without MODEL: "
                 "the embedded default. synth:PRESET:TYPE is composed from a few true-shape "
                 "layers.",
        .example = "anemo bench model\n"
                   "anemo bench model ./Mistral-7B-v0.3 --weights q4_0 --prompt 512\n"
                   "anemo bench model synth:mistral-7b:q4_0\n"
                   "anemo bench model --with qgemm=qgemm_c\n"
                   "anemo bench model --ledger --batch 1\n"
                   "anemo bench model --what-if swa=swa_c\n"
                   "anemo bench model --load poisson:20 --requests 400 --ttft 0.2",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED | ANEMO_CLI_THREADS |
                  ANEMO_CLI_ISA | ANEMO_CLI_DEVICE | ANEMO_CLI_PLUGIN | ANEMO_CLI_WITH |
                  ANEMO_CLI_CHOICES | ANEMO_CLI_RECORD | ANEMO_CLI_QUIET,
        .options = model_argp,
        .option = model_option};
    model_choices own = {.composed.model = {.spec.prompt_tokens = 128,
                                            .batch = {1, 4, 16},
                                            .n_batch = 3,
                                            .interrupted = anemo_cli_interrupted},
                         .load = ANEMO_CLI_LOAD_DEFAULTS};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &own, &cli);
    anemo_bench_model_options *o = &own.composed.model;
    o->spec.seed = cli.seed;
    o->spec.with = cli.with;
    o->spec.n_with = cli.n_with;
    anemo_error err = {{0}};
    char path[4096];
    anemo_device *device = NULL;
    anemo_record_sink *sink = NULL;
    anemo_choices *choices = NULL;
    bool invalid = false;
    anemo_status status = anemo_cli_find_model(cli.n_arguments > 0 ? cli.arguments[0] : NULL, path,
                                               sizeof path, &o->demo, &err);
    o->spec.path = path;
    status = status ? status : anemo_cli_open_device(&cli, &device, &err);
    status = status ? status
                    : anemo_cli_open_choices(
                          &cli, device, o->spec.kv_type ? o->spec.kv_type : "f16", &choices, &err);
    o->spec.choices = choices;
    status = status ? status : anemo_cli_open_sink(&cli, "bench-model", &sink, &err);
    status = status ? status : run_model(&cli, &own, device, sink, &invalid, &err);
    int code = invalid ? ANEMO_EXIT_NOT_MEASURED : ANEMO_EXIT_OK;
    if (status) {
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    }
    if (sink && (status = anemo_record_sink_close(sink, &err))) {
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    }
    anemo_choices_free(choices);
    anemo_device_free(device);
    return anemo_cli_close(&cli, code);
}
