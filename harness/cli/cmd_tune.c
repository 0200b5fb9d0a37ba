/* anemo tune: measures the variants of every call of a model on this machine, and writes which are
 * the fastest to a file that `--choices` takes. */
#include "harness/cli/bench_cli.h"
#include "harness/cli/table.h"
#include "harness/measure/tune.h"

#include <inttypes.h>
#include <math.h>

typedef struct tune_choices {
    anemo_tune_options tune;
    char stop[64];
} tune_choices;

enum { KEY_STOP = ANEMO_CLI_KEY(0), KEY_WEIGHTS, KEY_KV, KEY_WINDOW, KEY_DEPTH };

static bool tune_option(int key, const char *value, void *context) {
    static const char *const types[] = {"q8_0", "q4_0", NULL};
    anemo_tune_options *o = &((tune_choices *)context)->tune;
    switch (key) {
    case KEY_STOP:
        anemo_cli_stop(value, &o->stop);
        return true;
    case KEY_WEIGHTS:
        o->requantise = types[anemo_cli_choice("--weights", value, types)];
        return true;
    case KEY_KV:
        o->kv_type = anemo_cli_kv_type("--kv", value);
        return true;
    case KEY_WINDOW:
        o->window_given = true;
        o->window = anemo_cli_window("--window", value);
        return true;
    case KEY_DEPTH:
        o->depth = anemo_cli_integer("--depth", value, 1, 1 << 20);
        return true;
    default:
        return false;
    }
}

static void show_progress(void *ctx, double done, double total, const char *what) {
    anemo_progress_show(ctx, total > 0 ? done / total : 0, what);
}

/* ---------------------------------------------------------------- the table */

static void ratio_cell(anemo_table *table, const anemo_estimate *e) {
    if (isfinite(e->value)) {
        anemo_table_both(table, e->value, "%.3f [%.3f, %.3f]%s", e->value, e->lo, e->hi,
                         e->needs ? ANEMO_CLI_NEEDS_SIX : "");
    } else {
        anemo_table_absent(table);
    }
}

static void entry_row(anemo_table *table, const anemo_choices_entry *e, bool with_problem) {
    anemo_table_text(table, "%s%s%s", anemo_op_name(e->op), e->role[0] ? "@" : "", e->role);
    if (with_problem) {
        anemo_table_text(table, "%s", e->problem);
    }
    if (e->m_hi == INT64_MAX) {
        anemo_table_text(table, "%" PRId64 "..", e->m_lo);
    } else {
        anemo_table_text(table, "%" PRId64 "..%" PRId64, e->m_lo, e->m_hi);
    }
    anemo_table_number(table, (double)e->m, "%.0f");
    anemo_table_text(table, "%s", e->variant->name);
    anemo_table_text(table, "%s", e->variant == e->default_variant ? "default" : "chosen");
    anemo_table_both(table, e->time_s.value, "%.2f", e->time_s.value * 1e6);
    anemo_table_both(table, e->time_s.lo, "%.2f", e->time_s.lo * 1e6);
    anemo_table_both(table, e->time_s.hi, "%.2f", e->time_s.hi * 1e6);
    anemo_table_number(table, (double)e->time_s.n, "%.0f");
    if (e->variant == e->default_variant) {
        anemo_table_number(table, 1, "%.0f");
    } else {
        ratio_cell(table, &e->ratio);
    }
    if (e->runner_up) {
        anemo_table_text(table, "%s", e->runner_up->name);
    } else {
        anemo_table_absent(table);
    }
    ratio_cell(table, &e->runner_up_ratio);
}

static void print_report(const anemo_cli *cli, const anemo_tune_report *r, const char *kv_type,
                         FILE *out) {
    char title[320];
    snprintf(title, sizeof title,
             "%s, weights %s, keys and values %s, %s: another variant than the default in %d of %d "
             "cells",
             r->info.name, r->info.weights, kv_type,
             r->cold ? "weights from memory" : "weights in the caches", r->n_chosen, r->n_entries);
    anemo_table *table = anemo_table_create("choices", title);
    static const char *const columns[][2] = {{"call", "call"},
                                             {"problem", "problem"},
                                             {"rows", "rows"},
                                             {"m", "at"},
                                             {"variant", "variant"},
                                             {"fate", "is the"},
                                             {"time_s", "time, us"},
                                             {"time_lo_s", "95 % from"},
                                             {"time_hi_s", "to"},
                                             {"samples", "n"},
                                             {"ratio", "time / default"},
                                             {"runner_up", "runner-up"},
                                             {"runner_up_ratio", "its time / this"}};
    const bool people = anemo_cli_for_people(cli); /* for whom it would be too wide */
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        if (i != 1 || !people) {
            anemo_table_column(table, columns[i][0], columns[i][1]);
        }
    }
    for (int32_t i = 0; i < r->n_entries; i++) {
        entry_row(table, &r->entries[i], !people);
    }
    const anemo_table *tables[] = {table};
    anemo_table_print(tables, 1, cli->format, out);
    anemo_table_free(table);
    for (int32_t i = 0; people && i < r->n_remarks; i++) {
        fprintf(out, "%s%s\n", i ? "" : "\n", r->remarks[i]);
    }
}

/* ---------------------------------------------------------------- the command */

static anemo_status finish(const anemo_cli *cli, const tune_choices *own, anemo_device *device,
                           const anemo_tune_report *report, anemo_error *err) {
    char stop[64];
    anemo_stop_format(&own->tune.stop, stop, sizeof stop);
    const char *kv_type = own->tune.kv_type ? own->tune.kv_type : "f16";
    const anemo_choices_head head = {
        .info = &report->info,
        .kv_type = kv_type,
        .stop = stop,
        .cache = anemo_caches_name(report->cold ? ANEMO_CACHES_COLD_WEIGHTS : ANEMO_CACHES_WARM),
        .seed = own->tune.seed};
    if (cli->output) {
        print_report(cli, report, kv_type, stdout);
    } else if (!cli->quiet) {
        print_report(cli, report, kv_type, stderr);
    }
    return anemo_choices_write(&head, device, report->entries, report->n_entries, cli->out, err);
}

int anemo_cmd_tune(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"stop", KEY_STOP, "RULE", 0,
         "when a cell is measured: ci:1%, time:2s or n:50, with ,cap:10s (default ci:2%,cap:2s)",
         0},
        {"weights", KEY_WEIGHTS, "TYPE", 0, "q8_0 or q4_0: requantise when opening", 0},
        {"kv", KEY_KV, "TYPE", 0, "keys and values in f32, f16 (default), bf16 or q8", 0},
        {"window", KEY_WINDOW, "N", 0, "keys that attention sees: model (default), none, or N", 0},
        {"depth", KEY_DEPTH, "N", 0, "positions that attention sees before the new ones (1024)", 0},
        {0}};
    static const anemo_cli_spec spec = {
        .arguments = "[MODEL]",
        .max_arguments = 1,
        .about = "Measures, for every op, role and range of rows (1, 2..4, 5..16, 17..64, 65..) of "
                 "MODEL's plan, the variants that take it, in turns, each checked first, and "
                 "writes a file of choices for this machine (standard output without --output). A "
                 "variant takes the place of the default only where it is faster beyond the "
                 "interval. run, eval and bench model take the file with --choices.",
        .example =
            "anemo tune --output choices.json\n"
            "anemo tune ./Mistral-7B-v0.3 --weights q4_0 --kv f32 -o 7b.json\n"
            "anemo run ./Mistral-7B-v0.3 --weights q4_0 --choices 7b.json --prompt 'The sea'",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED | ANEMO_CLI_THREADS |
                  ANEMO_CLI_ISA | ANEMO_CLI_DEVICE | ANEMO_CLI_FILTER | ANEMO_CLI_PLUGIN |
                  ANEMO_CLI_QUIET,
        .options = options,
        .option = tune_option};
    tune_choices own = {.tune = {.interrupted = anemo_cli_interrupted}};
    anemo_cli_stop("ci:2%,cap:2s", &own.tune.stop);
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &own, &cli);
    anemo_cli_catch_interrupts();
    own.tune.seed = cli.seed;
    own.tune.filter = cli.filter;
    anemo_error err = {{0}};
    char path[4096];
    bool embedded;
    anemo_device *device = NULL;
    anemo_tune_report report = {0};
    anemo_progress progress = anemo_progress_start(&cli, "tune", 1);
    own.tune.progress = show_progress;
    own.tune.progress_ctx = &progress;
    anemo_status status = anemo_cli_find_model(cli.n_arguments ? cli.arguments[0] : NULL, path,
                                               sizeof path, &embedded, &err);
    own.tune.path = path;
    status = status ? status : anemo_cli_open_device(&cli, &device, &err);
    status = status ? status : anemo_tune(device, &own.tune, &report, &err);
    anemo_progress_end(&progress);
    int code = report.n_incorrect ? ANEMO_EXIT_INCORRECT : ANEMO_EXIT_OK;
    if (status && status != ANEMO_E_CANCELLED) {
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
        cli.discard = true;
    } else {
        code = status ? anemo_cli_worse(code, ANEMO_EXIT_INTERRUPTED) : code;
        const anemo_status written = finish(&cli, &own, device, &report, &err);
        if (written) {
            code = anemo_cli_worse(code, anemo_cli_fail(written, &err));
        }
    }
    anemo_tune_report_free(&report);
    anemo_device_free(device);
    return anemo_cli_close(&cli, code);
}
