/* anemo bench: what can be measured, and measuring it. */
#include "harness/cli/bench_ledger.h"
#include "harness/cli/bench_load.h"
#include "harness/cli/bench_peers.h"
#include "harness/cli/common.h"
#include "harness/cli/table.h"
#include "harness/cli/targets.h"
#include "harness/measure/bench_kernel.h"
#include "harness/measure/composed.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- anemo bench */

static anemo_table *shape_table(void) {
    anemo_table *table = anemo_table_create("shapes", "Shapes of `anemo bench kernel`");
    anemo_table_column(table, "op", "op");
    anemo_table_column(table, "shape", "shape");
    anemo_table_column(table, "rows", "rows (--m)");
    anemo_table_column(table, "short", "short");
    anemo_table_column(table, "what", "what");
    for (int32_t i = 0; i < anemo_shape_count(); i++) {
        const bench_shape *shape = anemo_shape_at(i);
        anemo_table_text(table, "%s", anemo_op_name(shape->op));
        anemo_table_text(table, "%s", shape->name);
        anemo_table_text(table, "%s", shape->rows);
        anemo_table_flag(table, shape->is_short);
        anemo_table_text(table, "%s", shape->what);
    }
    return table;
}

static int list_shapes(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .about = "Lists what can be measured. `anemo bench kernel` times kernel variants on named "
                 "shapes, `anemo bench model` a whole model; each has its own --help.",
        .example = "anemo bench\nanemo bench kernel\nanemo bench model",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, NULL, &cli);
    anemo_table *shapes = shape_table();
    const anemo_table *tables[] = {shapes};
    anemo_table_print(tables, 1, cli.format, cli.out);
    anemo_table_free(shapes);
    return anemo_cli_close(&cli, ANEMO_EXIT_OK);
}

/* ---------------------------------------------------------------- anemo bench kernel */

typedef struct kernel_choices {
    const char *shape, *weights, *baseline, *routing, *targets, *group;
    int64_t m[ANEMO_SHAPE_ROWS];
    int32_t n_m;
    anemo_stop stop;
    bool stop_given;
    anemo_caches caches;
} kernel_choices;

enum {
    KEY_SHAPE = ANEMO_CLI_KEY(0),
    KEY_M,
    KEY_WEIGHTS,
    KEY_STOP,
    KEY_CACHES,
    KEY_BASELINE,
    KEY_ROUTING,
    KEY_TARGETS,
    KEY_GROUP
};

static const struct argp_option kernel_argp[] = {
    {"shape", KEY_SHAPE, "NAME", 0,
     "one shape, all that begin with NAME/, or 'all'; or numbers: n=14336,k=4096 (qgemm), "
     "d=4096,ffn=14336 (moe_experts), heads=32,kv_heads=8 (swa), each also m=ROWS",
     0},
    {"m", KEY_M, "LIST", 0, "rows (tokens, sequences), e.g. 1,16; default: the shape's own", 0},
    {"weights", KEY_WEIGHTS, "TYPE", 0, BENCH_WEIGHT_TYPES " (default q4_0)", 0},
    {"stop", KEY_STOP, "RULE", 0,
     "ci:1% (interval half width), time:2s or n:50, with ,cap:10s (default ci:2%,cap:2s)", 0},
    {"baseline", KEY_BASELINE, "VARIANT", 0, "show the speed-up over it; it always runs too", 0},
    {"routing", KEY_ROUTING, "LAW", 0, "moe_experts: " BENCH_ROUTINGS "; default: the shape's own",
     0},
    {"targets", KEY_TARGETS, "FILE", 0,
     "measure and judge the targets of FILE (ci/kernel.targets) instead; exit 1: one is missed", 0},
    {"group", KEY_GROUP, "TEXT", 0, "with --targets: only groups with TEXT in their name", 0},
    {"caches", KEY_CACHES, "HOW", 0,
     "cold-weights (default): weights and KV from memory; cold: everything; warm", 0},
    {0}};

static void parse_stop(const char *value, anemo_stop *stop) {
    anemo_error err = {{0}};
    if (anemo_stop_parse(value, stop, &err) != ANEMO_OK) {
        anemo_cli_usage("--stop: %s", err.text);
    }
}

static bool kernel_option(int key, const char *value, void *context) {
    kernel_choices *c = context;
    if (key == KEY_SHAPE) {
        c->shape = value;
    } else if (key == KEY_M) {
        c->n_m = anemo_shape_rows(value, c->m, ANEMO_SHAPE_ROWS);
        if (c->n_m < 1) {
            anemo_cli_usage("--m %s: expected up to %d numbers from 1 to 65536, apart by commas",
                            value, ANEMO_SHAPE_ROWS);
        }
    } else if (key == KEY_WEIGHTS) {
        c->weights = value;
    } else if (key == KEY_STOP) {
        parse_stop(value, &c->stop);
        c->stop_given = true;
    } else if (key == KEY_TARGETS) {
        c->targets = value;
    } else if (key == KEY_GROUP) {
        c->group = value;
    } else if (key == KEY_BASELINE) {
        c->baseline = value;
    } else if (key == KEY_ROUTING) {
        c->routing = value;
    } else if (key == KEY_CACHES) {
        if (!anemo_caches_from_name(value, &c->caches)) {
            anemo_cli_usage("--caches %s: expected cold-weights, cold or warm", value);
        }
    } else {
        return false;
    }
    return true;
}

enum { MOST_REMARKS = 64 };

/* People read a table per case, as it is done, and at the end what was left out and why, each once;
 * programs read one table of all. */
typedef struct kernel_report {
    const anemo_cli *cli;
    anemo_progress progress;
    const char *baseline; /* or NULL */
    anemo_table *all;     /* JSON and CSV */
    int32_t invalid, n_remarks;
    char remark[MOST_REMARKS][320];
} kernel_report;

static void add_remark(kernel_report *report, const anemo_bench_line *line) {
    char text[sizeof *report->remark];
    snprintf(text, sizeof text, "%s: %s", line->variant->name, line->why);
    for (int32_t i = 0; i < report->n_remarks; i++) {
        if (strcmp(report->remark[i], text) == 0) {
            return;
        }
    }
    if (report->n_remarks < MOST_REMARKS) {
        memcpy(report->remark[report->n_remarks++], text, sizeof text);
    }
}

static void print_remarks(const kernel_report *report) {
    for (int32_t i = 0; i < report->n_remarks; i++) {
        fprintf(report->cli->out, "%s  %s\n", i ? "" : "Left out\n", report->remark[i]);
    }
}

static bool for_people(const anemo_cli *cli) {
    return cli->format == ANEMO_FORMAT_TEXT || cli->format == ANEMO_FORMAT_MD;
}

static anemo_table *line_table(const char *title, const char *baseline, bool all) {
    char over[96];
    anemo_table *table = anemo_table_create("kernels", title);
    if (all) {
        anemo_table_column(table, "case", "case");
    }
    anemo_table_column(table, "variant", "variant");
    anemo_table_column(table, "time_s", "time, us");
    anemo_table_column(table, "time_lo_s", "95 % from");
    anemo_table_column(table, "time_hi_s", "to");
    anemo_table_column(table, "samples", "n");
    anemo_table_column(table, "bytes_per_s", "GB/s");
    anemo_table_column(table, "ops_per_s", "GOP/s");
    anemo_table_column(table, "roof_fraction", "of roof");
    anemo_table_column(table, "binding", "roof");
    anemo_table_column(table, "above_ceiling", "above");
    anemo_table_column(table, "packed_over_file", "packed");
    anemo_table_column(table, "ratio_to_best", "time / best");
    if (baseline) {
        snprintf(over, sizeof over, "speed-up over %s", baseline);
        anemo_table_column(table, "speedup", over);
    }
    anemo_table_column(table, "error_of_bound", "error / bound");
    anemo_table_column(table, "verdict", "verdict");
    return table;
}

/* Below six samples the interval is only what was seen. */
#define NEEDS_SIX ", needs 6 samples"

static void table_ratio(anemo_table *table, const anemo_estimate *e) {
    if (isfinite(e->value)) {
        anemo_table_both(table, e->value, "%.2f [%.2f, %.2f]", e->value, e->lo, e->hi);
    } else {
        anemo_table_absent(table);
    }
}

static void table_result(anemo_table *table, const bench_case *c, const anemo_bench_line *line,
                         bool baseline) {
    const bench_result *r = &line->result;
    anemo_table_both(table, r->time_s.value, "%.2f", r->time_s.value * 1e6);
    anemo_table_both(table, r->time_s.lo, "%.2f", r->time_s.lo * 1e6);
    anemo_table_both(table, r->time_s.hi, "%.2f", r->time_s.hi * 1e6);
    anemo_table_number(table, (double)r->time_s.n, "%.0f");
    anemo_table_both(table, line->bytes_per_s, "%.1f", line->bytes_per_s * 1e-9);
    anemo_table_both(table, line->ops_per_s, "%.1f", line->ops_per_s * 1e-9);
    if (isfinite(r->roof.value)) {
        anemo_table_both(table, r->roof.value, "%.0f %%", r->roof.value * 100);
        anemo_table_text(table, "%s", anemo_ceiling_name(r->binding));
    } else {
        anemo_table_absent(table);
        anemo_table_absent(table);
    }
    anemo_table_number(table, (double)r->above_ceiling, "%.0f");
    anemo_table_number(
        table, line->packed_bytes > 0 ? line->packed_bytes / c->work.weight_bytes : NAN, "%.3f");
    if (line->best) {
        anemo_table_both(table, 1, "1");
    } else {
        table_ratio(table, &line->ratio);
    }
    if (baseline) {
        table_ratio(table, &line->speedup);
    }
    anemo_table_number(table, line->error, "%.2g");
    anemo_table_text(table, "%s%s%s", r->invalid ? "INVALID: above the ceiling" : "ok",
                     line->yardstick ? ", yardstick" : "", r->time_s.needs ? NEEDS_SIX : "");
}

static void table_line(anemo_table *table, const bench_case *c, const anemo_bench_line *line,
                       bool baseline) {
    static const char *const fates[] = {"ok", "WRONG", "refused", "left out"};
    anemo_table_text(table, "%s", line->variant->name);
    if (line->fate == ANEMO_BENCH_MEASURED) {
        table_result(table, c, line, baseline);
        return;
    }
    for (int i = 0; i < 11 + baseline; i++) {
        anemo_table_absent(table);
    }
    anemo_table_number(table, line->error, "%.2g");
    anemo_table_text(table, "%s: %s", fates[line->fate], line->why);
}

/* "CASE: 66.1 MB, 3.8 GOP; ceilings beside it: read 45.0 GB/s, int8 870 GOP/s" */
static void case_title(const anemo_bench_table *t, char *title, size_t title_bytes) {
    const anemo_work *w = &t->c->work;
    int at = snprintf(title, title_bytes, "%s: %s%s%.3g MB, %.3g GOP", t->c->name, t->c->remark,
                      t->c->remark[0] ? "; " : "", bench_case_bytes(t->c) * 1e-6, w->ops * 1e-9);
    for (int32_t i = 0; i < t->n_lines; i++) {
        if (t->lines[i].fate != ANEMO_BENCH_MEASURED) {
            continue;
        }
        const char *before = "; ceilings beside it: ";
        for (int c = 0; c < ANEMO_CEILING_COUNT; c++) {
            const double value = t->lines[i].result.ceiling[c] * 1e-9;
            if (value > 0 && at > 0 && (size_t)at < title_bytes) {
                at += snprintf(title + at, title_bytes - (size_t)at, "%s%s %.3g %s", before,
                               anemo_ceiling_name((anemo_ceiling)c), value,
                               c == ANEMO_CEILING_READ ? "GB/s" : "GOP/s");
                before = ", ";
            }
        }
        return;
    }
}

static void kernel_observer(void *ctx, const anemo_bench_table *t) {
    kernel_report *report = ctx;
    const bool people = for_people(report->cli);
    char title[512];
    case_title(t, title, sizeof title);
    anemo_table *table = people ? line_table(title, report->baseline, false) : report->all;
    for (int32_t i = 0; i < t->n_lines; i++) {
        const anemo_bench_line *line = &t->lines[i];
        report->invalid += line->fate == ANEMO_BENCH_MEASURED && line->result.invalid;
        if (people && (line->fate == ANEMO_BENCH_REFUSED || line->fate == ANEMO_BENCH_LEFT_OUT)) {
            add_remark(report, line);
            continue;
        }
        if (!people) {
            anemo_table_text(table, "%s", t->c->name);
        }
        table_line(table, t->c, line, report->baseline != NULL);
    }
    if (people) {
        anemo_progress_end(&report->progress);
        const anemo_table *tables[] = {table};
        anemo_table_print(tables, 1, report->cli->format, report->cli->out);
        fputc('\n', report->cli->out);
        fflush(report->cli->out);
        anemo_table_free(table);
    }
    anemo_progress_show(&report->progress, (double)t->done / t->total, t->c->name);
}

/* A file of targets says itself what is measured. */
static int bench_targets(anemo_cli *cli, kernel_choices *own) {
    if (cli->n_arguments || own->shape || own->n_m || own->weights || own->baseline ||
        own->routing || own->caches != ANEMO_CACHES_COLD_WEIGHTS) {
        anemo_cli_usage("--targets %s says what is measured; beside it only --group, --stop and "
                        "shared options are taken",
                        own->targets);
    }
    const bool given = own->stop_given;
    if (!given) {
        parse_stop("ci:1%,cap:4s", &own->stop);
    }
    const anemo_targets_options options = {.filter = own->group,
                                           .stop = own->stop,
                                           .stop_given = given,
                                           .seed = cli->seed,
                                           .interrupted = anemo_cli_interrupted};
    return anemo_cli_close(cli, anemo_cli_targets(cli, own->targets, &options));
}

static int bench_kernel(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .arguments = "[OP|VARIANT...]",
        .max_arguments = 32,
        .about = "Times kernel variants on named shapes. Each is checked against the reference on "
                 "that very problem first; all variants of a case take turns, with probes of this "
                 "machine's ceilings in between. Times are medians with a 95 % interval. An OP "
                 "stands for all its variants but plain C beside faster ones and what is far too "
                 "slow; if VARIANTs are named, exactly these run.",
        .example = "anemo bench kernel\n"
                   "anemo bench kernel qgemm --shape mistral-7b/gate_up --m 1,16\n"
                   "anemo bench kernel qgemm --shape n=14336,k=4096 --m 1,2,4 --baseline qgemm_c\n"
                   "anemo bench kernel my_variant qgemm_c --plugin ./mine.so --stop ci:1%",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED | ANEMO_CLI_THREADS |
                  ANEMO_CLI_ISA | ANEMO_CLI_DEVICE | ANEMO_CLI_PLUGIN | ANEMO_CLI_RECORD |
                  ANEMO_CLI_QUIET,
        .options = kernel_argp,
        .option = kernel_option};
    kernel_choices own = {.caches = ANEMO_CACHES_COLD_WEIGHTS};
    parse_stop("ci:2%,cap:2s", &own.stop);
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &own, &cli);
    if (own.targets) {
        return bench_targets(&cli, &own);
    }
    if (own.group) {
        anemo_cli_usage("--group is for --targets");
    }
    const anemo_bench_kernel_options options = {.names = cli.arguments,
                                                .n_names = cli.n_arguments,
                                                .shape = own.shape,
                                                .baseline = own.baseline,
                                                .routing = own.routing,
                                                .m = own.m,
                                                .n_m = own.n_m,
                                                .weights = own.weights ? own.weights : "q4_0",
                                                .stop = own.stop,
                                                .caches = own.caches,
                                                .seed = cli.seed,
                                                .interrupted = anemo_cli_interrupted};
    anemo_error err = {{0}};
    anemo_device *device = NULL;
    anemo_record_sink *sink = NULL;
    int32_t n_incorrect = 0;
    kernel_report report = {.cli = &cli, .baseline = own.baseline};
    report.all = for_people(&cli) ? NULL : line_table(NULL, own.baseline, true);
    report.progress = anemo_progress_start(&cli, "bench kernel", 1);
    anemo_status status = anemo_cli_open_device(&cli, &device, &err);
    status = status ? status : anemo_cli_open_sink(&cli, "bench-kernel", &sink, &err);
    status = status ? status
                    : anemo_bench_kernel(device, &options, sink, kernel_observer, &report,
                                         &n_incorrect, &err);
    anemo_progress_end(&report.progress);
    print_remarks(&report);
    if (report.all) {
        const anemo_table *tables[] = {report.all};
        anemo_table_print(tables, 1, cli.format, cli.out);
        anemo_table_free(report.all);
    }
    int code = n_incorrect ? ANEMO_EXIT_INCORRECT : ANEMO_EXIT_OK;
    if (!code && report.invalid) {
        code = ANEMO_EXIT_NOT_MEASURED; /* a number that cannot be is no number */
    }
    if (status) {
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    }
    if (sink && (status = anemo_record_sink_close(sink, &err))) {
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    }
    anemo_device_free(device);
    return anemo_cli_close(&cli, code);
}

/* ---------------------------------------------------------------- anemo bench model */

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
        parse_stop(value, &o->stop);
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
                     r->time_s.needs ? NEEDS_SIX : "");
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
    for (int32_t i = 0; i < r->n_lines; i++) {
        const anemo_bench_model_line *line = &r->line[i];
        model_cells(table, line->batch, &line->result, &line->tokens_per_s);
        itl_cell(table, &line->itl_s[0]);
        itl_cell(table, &line->itl_s[1]);
        anemo_table_number(table, line->joules_per_token.value, "%.3g");
    }
    const anemo_table *tables[] = {table};
    anemo_table_print(tables, 1, cli->format, cli->out);
    anemo_table_free(table);
    if (for_people(cli)) {
        fprintf(cli->out, "\n%s\n", ANEMO_MODEL_DEFINITIONS);
        print_ceilings(&r->line[0].result, cli->out);
        print_energy(r, cli->out);
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
    for (int32_t i = 0; i < r->n_lines; i++) {
        const anemo_composed_line *line = &r->line[i];
        model_cells(table, line->batch, &line->result, &line->tokens_per_s);
        anemo_table_both(table, line->layer_s.value, "%.3f", line->layer_s.value * 1e3);
        anemo_table_both(table, line->rest_s.value, "%.3f", line->rest_s.value * 1e3);
        anemo_table_both(table, line->error.value, "%+.1f %% [%+.1f, %+.1f]",
                         line->error.value * 100, line->error.lo * 100, line->error.hi * 100);
    }
    const anemo_table *tables[] = {table};
    anemo_table_print(tables, 1, cli->format, cli->out);
    anemo_table_free(table);
    if (for_people(cli)) {
        fprintf(
            cli->out,
            "\n%s\nerror: time at %lld layers, predicted from %lld and %lld, against measured.\n",
            ANEMO_MODEL_DEFINITIONS, (long long)r->counts[2], (long long)r->counts[0],
            (long long)r->counts[1]);
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
        parse_stop(composed ? "n:8,cap:30s" : "ci:2%,cap:10s", &o->stop);
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

static int bench_model(int argc, char **argv) {
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
                  ANEMO_CLI_RECORD | ANEMO_CLI_QUIET,
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
    bool invalid = false;
    anemo_status status = anemo_cli_find_model(cli.n_arguments > 0 ? cli.arguments[0] : NULL, path,
                                               sizeof path, &o->demo, &err);
    o->spec.path = path;
    status = status ? status : anemo_cli_open_device(&cli, &device, &err);
    status = status ? status : anemo_cli_open_sink(&cli, "bench-model", &sink, &err);
    status = status ? status : run_model(&cli, &own, device, sink, &invalid, &err);
    int code = invalid ? ANEMO_EXIT_NOT_MEASURED : ANEMO_EXIT_OK;
    if (status) {
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    }
    if (sink && (status = anemo_record_sink_close(sink, &err))) {
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    }
    anemo_device_free(device);
    return anemo_cli_close(&cli, code);
}

int anemo_cmd_bench(int argc, char **argv) {
    static char kernel_title[] = "anemo bench kernel", model_title[] = "anemo bench model",
                peers_title[] = "anemo bench peers";
    if (argc > 1 && strcmp(argv[1], "kernel") == 0) {
        argv[1] = kernel_title;
        return bench_kernel(argc - 1, argv + 1);
    }
    if (argc > 1 && strcmp(argv[1], "model") == 0) {
        argv[1] = model_title;
        return bench_model(argc - 1, argv + 1);
    }
    if (argc > 1 && strcmp(argv[1], "peers") == 0) {
        argv[1] = peers_title;
        return anemo_cli_bench_peers(argc - 1, argv + 1);
    }
    return list_shapes(argc, argv);
}
