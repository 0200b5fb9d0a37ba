/* anemo bench: what can be measured, and measuring it. */
#include "harness/cli/common.h"
#include "harness/cli/table.h"
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
                 "shapes: OP or VARIANT names choose, without any the short shapes run.",
        .example = "anemo bench\nanemo bench kernel\nanemo bench kernel --help",
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
    const char *shape, *weights;
    int64_t m[ANEMO_SHAPE_ROWS];
    int32_t n_m;
    anemo_stop stop;
    anemo_caches caches;
} kernel_choices;

enum { KEY_SHAPE = ANEMO_CLI_KEY(0), KEY_M, KEY_WEIGHTS, KEY_STOP, KEY_CACHES };

static const struct argp_option kernel_argp[] = {
    {"shape", KEY_SHAPE, "NAME", 0, "one shape, or all that begin with NAME/", 0},
    {"m", KEY_M, "LIST", 0, "rows (tokens, sequences), e.g. 1,16; default: the shape's own", 0},
    {"weights", KEY_WEIGHTS, "TYPE", 0, BENCH_WEIGHT_TYPES " (default q4_0)", 0},
    {"stop", KEY_STOP, "RULE", 0,
     "ci:1% (interval half width), time:2s or n:50, with ,cap:10s (default ci:2%,cap:2s)", 0},
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
    } else if (key == KEY_CACHES) {
        if (!anemo_caches_from_name(value, &c->caches)) {
            anemo_cli_usage("--caches %s: expected cold-weights, cold or warm", value);
        }
    } else {
        return false;
    }
    return true;
}

/* People read a table per case, as it is done; programs read one table of all. */
typedef struct kernel_report {
    const anemo_cli *cli;
    anemo_progress progress;
    anemo_table *all; /* JSON and CSV */
    int32_t invalid;
} kernel_report;

static bool for_people(const anemo_cli *cli) {
    return cli->format == ANEMO_FORMAT_TEXT || cli->format == ANEMO_FORMAT_MD;
}

static anemo_table *line_table(const char *title, bool all) {
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
    anemo_table_column(table, "verdict", "verdict");
    return table;
}

static void table_result(anemo_table *table, const bench_case *c, const anemo_bench_line *line) {
    const bench_result *r = &line->result;
    anemo_table_both(table, r->time_s.value, "%.1f", r->time_s.value * 1e6);
    anemo_table_both(table, r->time_s.lo, "%.1f", r->time_s.lo * 1e6);
    anemo_table_both(table, r->time_s.hi, "%.1f", r->time_s.hi * 1e6);
    anemo_table_number(table, (double)r->time_s.n, "%.0f");
    anemo_table_both(table, line->bytes_per_s, "%.1f", line->bytes_per_s * 1e-9);
    anemo_table_both(table, line->ops_per_s, "%.1f", line->ops_per_s * 1e-9);
    if (isfinite(r->roof.value)) {
        anemo_table_both(table, r->roof.value, "%.0f %%", r->roof.value * 100);
    } else {
        anemo_table_absent(table);
    }
    anemo_table_text(table, "%s", anemo_ceiling_name(r->binding));
    anemo_table_number(table, (double)r->above_ceiling, "%.0f");
    anemo_table_number(
        table, line->packed_bytes > 0 ? line->packed_bytes / c->work.weight_bytes : NAN, "%.3f");
    if (line->best) {
        anemo_table_both(table, 1, "1");
    } else {
        anemo_table_both(table, line->ratio.value, "%.2f [%.2f, %.2f]", line->ratio.value,
                         line->ratio.lo, line->ratio.hi);
    }
    anemo_table_text(table, "%s%s", r->invalid ? "INVALID: above the ceiling" : "ok",
                     line->yardstick ? " (yardstick)" : "");
}

static void table_line(anemo_table *table, const bench_case *c, const anemo_bench_line *line) {
    static const char *const fates[] = {"ok", "WRONG", "refused", "left out"};
    anemo_table_text(table, "%s", line->variant->name);
    if (line->fate == ANEMO_BENCH_MEASURED) {
        table_result(table, c, line);
        return;
    }
    for (int i = 0; i < 11; i++) {
        anemo_table_absent(table);
    }
    anemo_table_text(table, "%s: %s", fates[line->fate], line->why);
}

/* "CASE: 66.1 MB, 3.8 GOP; ceilings beside it: read 45.0 GB/s, int8 870 GOP/s" */
static void case_title(const anemo_bench_table *t, char *title, size_t title_bytes) {
    const anemo_work *w = &t->c->work;
    int at = snprintf(title, title_bytes, "%s: %.3g MB, %.3g GOP", t->c->name,
                      (w->weight_bytes + w->kv_bytes) * 1e-6, w->ops * 1e-9);
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
    char title[320];
    case_title(t, title, sizeof title);
    anemo_table *table = people ? line_table(title, false) : report->all;
    for (int32_t i = 0; i < t->n_lines; i++) {
        const anemo_bench_line *line = &t->lines[i];
        report->invalid += line->fate == ANEMO_BENCH_MEASURED && line->result.invalid;
        if (!people) {
            anemo_table_text(table, "%s", t->c->name);
        }
        table_line(table, t->c, line);
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

static int bench_kernel(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .arguments = "[OP|VARIANT...]",
        .max_arguments = 32,
        .about = "Times kernel variants on named shapes. Each is checked against the reference on "
                 "that very problem first; all variants of a case take turns, with probes of this "
                 "machine's ceilings in between. Times are medians with a 95 % interval.",
        .example = "anemo bench kernel\n"
                   "anemo bench kernel qgemm --shape mistral-7b/gate_up --m 1,16\n"
                   "anemo bench kernel my_variant qgemm_c --plugin ./mine.so --stop ci:1%",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED | ANEMO_CLI_THREADS |
                  ANEMO_CLI_DEVICE | ANEMO_CLI_PLUGIN | ANEMO_CLI_RECORD | ANEMO_CLI_QUIET,
        .options = kernel_argp,
        .option = kernel_option};
    kernel_choices own = {.weights = "q4_0", .caches = ANEMO_CACHES_COLD_WEIGHTS};
    parse_stop("ci:2%,cap:2s", &own.stop);
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &own, &cli);
    const anemo_bench_kernel_options options = {.names = cli.arguments,
                                                .n_names = cli.n_arguments,
                                                .shape = own.shape,
                                                .m = own.m,
                                                .n_m = own.n_m,
                                                .weights = own.weights,
                                                .stop = own.stop,
                                                .caches = own.caches,
                                                .seed = cli.seed,
                                                .interrupted = anemo_cli_interrupted};
    anemo_error err = {{0}};
    anemo_device *device = NULL;
    anemo_record_sink *sink = NULL;
    int32_t n_incorrect = 0;
    kernel_report report = {.cli = &cli};
    report.all = for_people(&cli) ? NULL : line_table(NULL, true);
    report.progress = anemo_progress_start(&cli, "bench kernel", 1);
    anemo_status status = anemo_cli_open_device(&cli, &device, &err);
    status = status ? status : anemo_cli_open_sink(&cli, "bench-kernel", &sink, &err);
    status = status ? status
                    : anemo_bench_kernel(device, &options, sink, kernel_observer, &report,
                                         &n_incorrect, &err);
    anemo_progress_end(&report.progress);
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
    static char kernel_title[] = "anemo bench kernel";
    if (argc > 1 && strcmp(argv[1], "kernel") == 0) {
        argv[1] = kernel_title;
        return bench_kernel(argc - 1, argv + 1);
    }
    return list_shapes(argc, argv);
}
