/* anemo bench: what can be measured, and measuring it. */
#include "harness/cli/bench_cli.h"
#include "harness/cli/bench_model.h"
#include "harness/cli/bench_peers.h"
#include "harness/cli/table.h"
#include "harness/cli/targets.h"
#include "harness/measure/bench_kernel.h"

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

enum { MOST_NAMES = 64 };

typedef struct kernel_choices {
    const char *shape, *weights, *baseline, *routing, *targets, *group, *with;
    const char *name[MOST_NAMES]; /* arguments, and of --with */
    int32_t n_names;
    char words[2048]; /* that --with's lie in */
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
    KEY_GROUP,
    KEY_WITH
};

static const struct argp_option kernel_argp[] = {
    {"shape", KEY_SHAPE, "NAME", 0,
     "one shape, all that begin with NAME/, or 'all'; or numbers: n=14336,k=4096 (qgemm), "
     "d=4096,ffn=14336 (moe_experts), heads=32,kv_heads=8 (swa), each also m=ROWS",
     0},
    {"m", KEY_M, "LIST", 0, "rows (tokens, sequences), e.g. 1,16; default: the shape's own", 0},
    {"weights", KEY_WEIGHTS, "TYPE", 0, BENCH_WEIGHT_TYPES " (default q4_0)", 0},
    {"with", KEY_WITH, "all|LIST", 0,
     "LIST: exactly these variants, apart by commas; all: also plain C and what is far too slow",
     0},
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

static bool kernel_option(int key, const char *value, void *context) {
    kernel_choices *c = context;
    if (key == KEY_SHAPE) {
        c->shape = value;
    } else if (key == KEY_M) {
        c->n_m = anemo_cli_rows(value, c->m);
    } else if (key == KEY_WEIGHTS) {
        c->weights = value;
    } else if (key == KEY_STOP) {
        anemo_cli_stop(value, &c->stop);
        c->stop_given = true;
    } else if (key == KEY_WITH) {
        c->with = value;
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
    bool gpu;         /* then the table also says what clock it had and whether it was held back */
    char lack[256];   /* why it cannot say that; "": it can */
    anemo_table *all; /* JSON and CSV */
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
    if (report->lack[0] && anemo_cli_for_people(report->cli)) {
        fprintf(report->cli->out, "Clock, throttling and power of the GPU: not read, %s\n",
                report->lack);
    }
}

static anemo_table *line_table(const kernel_report *report, const char *title, bool all) {
    const char *baseline = report->baseline;
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
    if (report->gpu) {
        anemo_table_column(table, "multiprocessor_hz", "SM, MHz");
        anemo_table_column(table, "throttled", "throttled");
        anemo_table_column(table, "watts", "W");
    }
    anemo_table_column(table, "error_of_bound", "error / bound");
    anemo_table_column(table, "verdict", "verdict");
    return table;
}

static void table_ratio(anemo_table *table, const anemo_estimate *e) {
    if (isfinite(e->value)) {
        anemo_table_both(table, e->value, "%.2f [%.2f, %.2f]", e->value, e->lo, e->hi);
    } else {
        anemo_table_absent(table);
    }
}

static void table_gpu(anemo_table *table, const bench_gpu_state *gpu) {
    if (gpu->watched && isfinite(gpu->multiprocessor_hz)) {
        anemo_table_both(table, gpu->multiprocessor_hz, "%.0f", gpu->multiprocessor_hz * 1e-6);
    } else {
        anemo_table_absent(table);
    }
    anemo_table_number(table, gpu->throttle_told ? (double)gpu->throttled : NAN, "%.0f");
    anemo_table_number(table, gpu->watched ? gpu->watts : NAN, "%.0f");
}

static void table_result(const kernel_report *report, anemo_table *table, const bench_case *c,
                         const anemo_bench_line *line) {
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
    if (report->baseline) {
        table_ratio(table, &line->speedup);
    }
    if (report->gpu) {
        table_gpu(table, &r->gpu);
    }
    anemo_table_number(table, line->error, "%.2g");
    anemo_table_text(table, "%s%s%s", r->invalid ? "INVALID: above the ceiling" : "ok",
                     line->yardstick ? ", yardstick" : "",
                     r->time_s.needs ? ANEMO_CLI_NEEDS_SIX : "");
}

static void table_line(const kernel_report *report, anemo_table *table, const bench_case *c,
                       const anemo_bench_line *line) {
    static const char *const fates[] = {"ok", "WRONG", "refused", "left out", "IMPOSSIBLE"};
    anemo_table_text(table, "%s", line->variant->name);
    if (line->fate == ANEMO_BENCH_MEASURED) {
        table_result(report, table, c, line);
        return;
    }
    for (int i = 0; i < 11 + (report->baseline != NULL) + 3 * report->gpu; i++) {
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
    const bool people = anemo_cli_for_people(report->cli);
    char title[512];
    case_title(t, title, sizeof title);
    anemo_table *table = people ? line_table(report, title, false) : report->all;
    if (t->gpu->host && !t->gpu->watch) {
        snprintf(report->lack, sizeof report->lack, "%s", t->gpu->lack);
    }
    for (int32_t i = 0; i < t->n_lines; i++) {
        const anemo_bench_line *line = &t->lines[i];
        report->invalid += (line->fate == ANEMO_BENCH_MEASURED && line->result.invalid) ||
                           line->fate == ANEMO_BENCH_IMPOSSIBLE;
        if (people && (line->fate == ANEMO_BENCH_REFUSED || line->fate == ANEMO_BENCH_LEFT_OUT)) {
            add_remark(report, line);
            continue;
        }
        if (!people) {
            anemo_table_text(table, "%s", t->c->name);
        }
        table_line(report, table, t->c, line);
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
        own->routing || own->with || own->caches != ANEMO_CACHES_COLD_WEIGHTS) {
        anemo_cli_usage("--targets %s says what is measured; beside it only --group, --stop and "
                        "shared options are taken",
                        own->targets);
    }
    const bool given = own->stop_given;
    if (!given) {
        anemo_cli_stop("ci:1%,cap:4s", &own->stop);
    }
    const anemo_targets_options options = {.filter = own->group,
                                           .stop = own->stop,
                                           .stop_given = given,
                                           .seed = cli->seed,
                                           .interrupted = anemo_cli_interrupted};
    return anemo_cli_close(cli, anemo_cli_targets(cli, own->targets, &options));
}

/* Is the op of `v` among those that the arguments are of? */
static bool is_measured(const anemo_cli *cli, const anemo_variant *v) {
    for (int32_t i = 0; i < cli->n_arguments; i++) {
        const anemo_variant *other = anemo_variant_find(cli->arguments[i]);
        if (other ? other->op == v->op : strcmp(cli->arguments[i], anemo_op_name(v->op)) == 0) {
            return true;
        }
    }
    return cli->n_arguments == 0;
}

static void take_names(const anemo_cli *cli, kernel_choices *own) {
    char *rest = NULL;
    for (int32_t i = 0; i < cli->n_arguments; i++) {
        own->name[own->n_names++] = cli->arguments[i];
    }
    if (!own->with || strcmp(own->with, "all") == 0) {
        return;
    }
    if (strlen(own->with) >= sizeof own->words) {
        anemo_cli_usage("--with: a list of more than %zu bytes", sizeof own->words - 1);
    }
    strcpy(own->words, own->with);
    for (char *word = strtok_r(own->words, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        const anemo_variant *v = anemo_variant_find(word);
        if (!v || !is_measured(cli, v)) {
            anemo_cli_usage("--with %s: %s; expected all, or variants apart by commas", word,
                            v ? "no variant of the op that is measured"
                              : "no variant; `anemo list variants` shows them");
        }
        if (own->n_names == MOST_NAMES) {
            anemo_cli_usage("--with: more than %d names", MOST_NAMES);
        }
        own->name[own->n_names++] = v->name;
    }
    if (own->n_names == cli->n_arguments) {
        anemo_cli_usage("--with '%s': expected all, or variants apart by commas", own->with);
    }
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
                   "anemo bench kernel swa --with all\n"
                   "anemo bench kernel moe_experts --shape mixtral-8x7b --device cuda\n"
                   "anemo bench kernel my_variant qgemm_c --plugin ./mine.so --stop ci:1%",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED | ANEMO_CLI_THREADS |
                  ANEMO_CLI_ISA | ANEMO_CLI_DEVICE | ANEMO_CLI_PLUGIN | ANEMO_CLI_RECORD |
                  ANEMO_CLI_QUIET,
        .options = kernel_argp,
        .option = kernel_option};
    kernel_choices own = {.caches = ANEMO_CACHES_COLD_WEIGHTS};
    anemo_cli_stop("ci:2%,cap:2s", &own.stop);
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &own, &cli);
    if (own.targets) {
        return bench_targets(&cli, &own);
    }
    if (own.group) {
        anemo_cli_usage("--group is for --targets");
    }
    take_names(&cli, &own);
    const anemo_bench_kernel_options options = {.names = own.name,
                                                .n_names = own.n_names,
                                                .all = own.with && strcmp(own.with, "all") == 0,
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
    kernel_report report = {
        .cli = &cli, .baseline = own.baseline, .gpu = cli.backend == ANEMO_CUDA};
    report.all = anemo_cli_for_people(&cli) ? NULL : line_table(&report, NULL, true);
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

int anemo_cmd_bench(int argc, char **argv) {
    static char kernel_title[] = "anemo bench kernel", model_title[] = "anemo bench model",
                peers_title[] = "anemo bench peers";
    if (argc > 1 && strcmp(argv[1], "kernel") == 0) {
        argv[1] = kernel_title;
        return bench_kernel(argc - 1, argv + 1);
    }
    if (argc > 1 && strcmp(argv[1], "model") == 0) {
        argv[1] = model_title;
        return anemo_cli_bench_model(argc - 1, argv + 1);
    }
    if (argc > 1 && strcmp(argv[1], "peers") == 0) {
        argv[1] = peers_title;
        return anemo_cli_bench_peers(argc - 1, argv + 1);
    }
    return list_shapes(argc, argv);
}
