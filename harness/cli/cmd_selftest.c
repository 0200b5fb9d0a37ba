/* anemo selftest: the harness measures itself. */
#include "harness/cli/common.h"
#include "harness/cli/table.h"
#include "harness/compare/selftest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COST_MODEL "synth:mistral-7b:q4_0:layers=4" /* 1.1 thousand million parameters */
#define COST_LIMIT 0.005

typedef struct choices {
    bool quick;
    const char *only; /* "kernel", "model", "cost" or NULL */
} choices;

static const struct argp_option own_options[] = {
    {"quick", ANEMO_CLI_KEY(0), NULL, 0, "about a minute, with fewer trials", 0},
    {"only", ANEMO_CLI_KEY(1), "WHAT", 0, "kernel, model or cost", 0},
    {0}};

static bool option(int key, const char *value, void *context) {
    static const char *const names[] = {"kernel", "model", "cost", NULL};
    choices *c = context;
    if (key == ANEMO_CLI_KEY(0)) {
        c->quick = true;
    } else if (key == ANEMO_CLI_KEY(1)) {
        c->only = names[anemo_cli_choice("--only", value, names)];
    } else {
        return false;
    }
    return true;
}

static bool wanted(const choices *c, const char *what) {
    return !c->only || strcmp(c->only, what) == 0;
}

/* People read each table as it is done; programs one document of all at the end. */
enum { MOST_TABLES = 8 };
typedef struct printer {
    const anemo_cli *cli;
    anemo_table *kept[MOST_TABLES];
    int32_t n;
} printer;

static void print_table(printer *p, anemo_table *table) {
    if (p->cli->format != ANEMO_FORMAT_TEXT && p->cli->format != ANEMO_FORMAT_MD) {
        p->kept[p->n++] = table;
        return;
    }
    const anemo_table *tables[] = {table};
    anemo_table_print(tables, 1, p->cli->format, p->cli->out);
    fputc('\n', p->cli->out);
    fflush(p->cli->out);
    anemo_table_free(table);
}

static void print_kept(printer *p) {
    const anemo_table *tables[MOST_TABLES];
    for (int32_t i = 0; i < p->n; i++) {
        tables[i] = p->kept[i];
    }
    if (p->n) {
        anemo_table_print(tables, p->n, p->cli->format, p->cli->out);
    }
    for (int32_t i = 0; i < p->n; i++) {
        anemo_table_free(p->kept[i]);
    }
}

/* ---------------------------------------------------------------- the trials of one bed */

static int code_of(anemo_bound_state state) {
    return state == ANEMO_BOUND_HOLDS    ? ANEMO_EXIT_OK
           : state == ANEMO_BOUND_MISSED ? ANEMO_EXIT_TARGET
                                         : ANEMO_EXIT_INCONCLUSIVE;
}

static void percent_cell(anemo_table *table, double share) {
    if (isfinite(share)) {
        anemo_table_both(table, share, "%.1f %%", 100 * share);
    } else {
        anemo_table_absent(table);
    }
}

static int print_bounds(printer *out, const anemo_selftest_bed *bed,
                        const anemo_selftest_counts *counts, double took_s) {
    anemo_selftest_bound bounds[ANEMO_SELFTEST_BOUNDS];
    char title[256];
    int code = ANEMO_EXIT_OK;
    anemo_selftest_bounds(counts, bounds);
    snprintf(title, sizeof title,
             "What the rule promises (delta 3 %%, looks 52, 104, 208): %s; took %.0f s", bed->name,
             took_s);
    char key[32];
    snprintf(key, sizeof key, "bounds_%s", bed->unit);
    anemo_table *table = anemo_table_create(key, title);
    static const char *const columns[][2] = {{"what", "share of trials in which"},
                                             {"k", "seen"},
                                             {"n", "of"},
                                             {"share", "share"},
                                             {"limit", "bound"},
                                             {"lo", "95 % above"},
                                             {"hi", "95 % below"},
                                             {"needed", "needs"},
                                             {"state", "state"}};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        anemo_table_column(table, columns[i][0], columns[i][1]);
    }
    for (int i = 0; i < ANEMO_SELFTEST_BOUNDS; i++) {
        const anemo_selftest_bound *b = &bounds[i];
        anemo_table_text(table, "%s", b->what);
        anemo_table_number(table, (double)b->k, "%.0f");
        anemo_table_number(table, (double)b->n, "%.0f");
        percent_cell(table, (double)b->k / (double)b->n);
        anemo_table_both(table, b->limit, "%s %.2g %%", b->at_least ? ">=" : "<=", 100 * b->limit);
        percent_cell(table, b->lo);
        percent_cell(table, b->hi);
        anemo_table_number(table, (double)b->needed, "%.0f");
        anemo_table_text(table, "%s", anemo_bound_state_name(b->state));
        code = anemo_cli_worse(code, code_of(b->state));
    }
    print_table(out, table);
    return code;
}

static void share_cell(anemo_table *table, int64_t k, int64_t n) {
    percent_cell(table, n > 0 ? (double)k / (double)n : NAN);
}

static void print_rules(printer *out, const anemo_selftest_bed *bed,
                        const anemo_selftest_counts *counts) {
    static const char *const effects[] = {"same code", "+2 %", "+4 %", "+6 %"};
    char key[32];
    snprintf(key, sizeof key, "rules_%s", bed->unit);
    anemo_table *table = anemo_table_create(
        key, "Injected work, as seen; and what other rules say on as many samples, in blocks");
    static const char *const columns[][2] = {
        {"effect", "effect"},       {"units_a", "A"},
        {"units_b", "B"},           {"side_s", "A, us"},
        {"injected_s", "more, us"}, {"ratio", "B / A seen"},
        {"trials", "trials"},       {"pass", "PASS"},
        {"regression", "REGR."},    {"differs_20", "differs, 20 pairs"},
        {"differs_52", "52"},       {"rank_20", "blocks: Mann-Whitney 20"},
        {"rank_52", "52"},          {"mean_20", "mean > 1.05, 20"},
        {"mean_52", "52"},          {"pairs", "5..95 % of estimates, 20 pairs"},
        {"blocks", "blocks of 20"}};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        anemo_table_column(table, columns[i][0], columns[i][1]);
    }
    for (int e = 0; e < ANEMO_SELFTEST_EFFECTS; e++) {
        const anemo_selftest_counts *c = &counts[e];
        const double extra = (double)bed->units[e][1] / (double)bed->units[e][0] - 1;
        anemo_table_text(table, "%s", effects[e]);
        anemo_table_text(table, "%lld %s", (long long)bed->units[e][0], bed->unit);
        anemo_table_number(table, (double)bed->units[e][1], "%.0f");
        anemo_table_both(table, c->side_ns * 1e-9, "%.2f", c->side_ns * 1e-3);
        anemo_table_both(table, c->side_ns * extra * 1e-9, "%.2f", c->side_ns * extra * 1e-3);
        anemo_table_number(table, c->ratio, "%.4f");
        anemo_table_number(table, (double)c->trials, "%.0f");
        share_cell(table, c->verdict[ANEMO_VERDICT_PASS], c->trials);
        share_cell(table, c->verdict[ANEMO_VERDICT_REGRESSION], c->trials);
        share_cell(table, c->differs_20, c->trials);
        share_cell(table, c->differs_52, c->trials);
        share_cell(table, c->rank_20, c->blocks);
        share_cell(table, c->rank_52, c->blocks);
        share_cell(table, c->mean_20, c->blocks);
        share_cell(table, c->mean_52, c->blocks);
        anemo_table_text(table, "%.3f..%.3f", c->pairs_lo, c->pairs_hi);
        if (c->blocks) {
            anemo_table_text(table, "%.3f..%.3f", c->blocks_lo, c->blocks_hi);
        } else {
            anemo_table_absent(table);
        }
    }
    print_table(out, table);
}

static void show(void *ctx, double done, double total) {
    anemo_progress_show(ctx, done / total, "trials");
}

/* Runs and closes the bed. */
static int run_bed(printer *out, const choices *own, anemo_selftest_bed *bed, anemo_error *err) {
    anemo_selftest_counts counts[ANEMO_SELFTEST_EFFECTS];
    anemo_progress progress = anemo_progress_start(out->cli, bed->unit, 1);
    anemo_selftest_plan plan = {
        .progress = show, .ctx = &progress, .interrupted = anemo_cli_interrupted};
    memcpy(plan.trials, own->quick ? anemo_selftest_quick_trials : anemo_selftest_trials,
           sizeof plan.trials);
    const anemo_clock clock = anemo_clock_raw();
    const uint64_t begin_ns = anemo_clock_now(&clock);
    const anemo_status status = anemo_selftest_run(bed, &plan, counts, err);
    const double took_s = (double)(anemo_clock_now(&clock) - begin_ns) * 1e-9;
    int code = ANEMO_EXIT_OK;
    anemo_progress_end(&progress);
    if (!status || status == ANEMO_E_CANCELLED) {
        code = print_bounds(out, bed, counts, took_s);
        print_rules(out, bed, counts);
    }
    anemo_selftest_bed_close(bed);
    return status ? anemo_cli_worse(code, anemo_cli_fail(status, err)) : code;
}

/* ---------------------------------------------------------------- what measuring costs */

static void print_cost(printer *out, const anemo_selftest_overhead *o, anemo_bound_state state) {
    char title[256];
    snprintf(
        title, sizeof title,
        "What measuring costs: decode of %s (%.2g parameters), samples of %lld steps, a record "
        "of %lld samples",
        o->model, o->parameters, (long long)o->steps, (long long)o->samples);
    anemo_table *table = anemo_table_create("cost", title);
    static const char *const columns[][2] = {{"step_s", "step, ms"},
                                             {"read_s", "clock read, ns"},
                                             {"resolution_s", "resolution, ns"},
                                             {"reads_per_step", "reads per step"},
                                             {"record_s", "record, us"},
                                             {"share", "clock and record of a step"},
                                             {"limit", "bound"},
                                             {"on_off", "with / without reads, paired"},
                                             {"on_off_hi", "at most"},
                                             {"state", "state"}};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        anemo_table_column(table, columns[i][0], columns[i][1]);
    }
    anemo_table_both(table, o->step_ns * 1e-9, "%.3f", o->step_ns * 1e-6);
    anemo_table_both(table, o->clock.overhead_ns * 1e-9, "%.1f", o->clock.overhead_ns);
    anemo_table_both(table, o->clock.resolution_ns * 1e-9, "%.1f", o->clock.resolution_ns);
    anemo_table_number(table, o->reads_per_step, "%.3f");
    anemo_table_both(table, o->record_ns * 1e-9, "%.0f", o->record_ns * 1e-3);
    anemo_table_both(table, o->share, "%.5f %%", 100 * o->share);
    anemo_table_both(table, COST_LIMIT, "<= %.1f %%", 100 * COST_LIMIT);
    anemo_table_number(table, o->on_off.value, "%.5f");
    anemo_table_number(table, o->on_off.needs ? NAN : o->on_off.hi, "%.5f");
    anemo_table_text(table, "%s", anemo_bound_state_name(state));
    print_table(out, table);
}

static int run_cost(printer *out, const choices *own, anemo_device *device, anemo_error *err) {
    anemo_selftest_overhead o;
    const char *folder = getenv("TMPDIR");
    char path[4096], samples[4096];
    folder = folder && *folder ? folder : "/tmp";
    snprintf(path, sizeof path, "%s/anemo-selftest-%ld.jsonl", folder, (long)getpid());
    snprintf(samples, sizeof samples, "%s/anemo-selftest-%ld.samples", folder, (long)getpid());
    const anemo_status status =
        anemo_selftest_cost(device, COST_MODEL, path, own->quick ? 12 : 52, &o, err);
    unlink(path);
    unlink(samples); /* the raw ones lie beside the records */
    if (status) {
        return anemo_cli_fail(status, err);
    }
    const anemo_bound_state state = o.share <= COST_LIMIT ? ANEMO_BOUND_HOLDS : ANEMO_BOUND_MISSED;
    print_cost(out, &o, state);
    return code_of(state);
}

/* ---------------------------------------------------------------- the command */

static int measure(printer *out, const choices *own, anemo_device *one_thread, anemo_error *err) {
    anemo_selftest_bed bed;
    char model[4096];
    int code = ANEMO_EXIT_OK;
    anemo_status status = ANEMO_OK;
    if (wanted(own, "kernel")) {
        status = anemo_selftest_kernel_bed(one_thread, &bed, err);
        code = anemo_cli_worse(code,
                               status ? anemo_cli_fail(status, err) : run_bed(out, own, &bed, err));
    }
    if (wanted(own, "model") && !anemo_cli_interrupted()) {
        status = anemo_cli_default_model(model, sizeof model, err);
        status = status ? status : anemo_selftest_model_bed(one_thread, model, &bed, err);
        code = anemo_cli_worse(code,
                               status ? anemo_cli_fail(status, err) : run_bed(out, own, &bed, err));
    }
    if (wanted(own, "cost") && !anemo_cli_interrupted()) {
        code = anemo_cli_worse(code, run_cost(out, own, one_thread, err));
    }
    return code;
}

int anemo_cmd_selftest(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .arguments = "measurement",
        .min_arguments = 1,
        .max_arguments = 1,
        .about =
            "Does the comparison rule keep its promises on this machine? Many fresh comparisons "
            "of a kernel and of a model's decode, with themselves and with 2, 4 and 6 % more "
            "rows or tokens, counted; beside them the rules that compare blocks. Then what the "
            "clock and records cost. Needs a quiet machine and up to twelve minutes. Exit code "
            "0: all bounds hold; 1: one is missed; 4: too few trials to say (--quick).",
        .example = "anemo selftest measurement --quick\n"
                   "anemo selftest measurement\n"
                   "anemo selftest measurement --only kernel --format md",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_THREADS | ANEMO_CLI_ISA |
                  ANEMO_CLI_QUIET,
        .options = own_options,
        .option = option};
    choices own = {.quick = false};
    anemo_cli cli;
    anemo_error err = {{0}};
    anemo_device *device = NULL;
    anemo_cli_parse(&spec, argc, argv, &own, &cli);
    if (strcmp(cli.arguments[0], "measurement") != 0) {
        anemo_cli_usage("'%s': expected measurement", cli.arguments[0]);
    }
    cli.threads = cli.threads ? cli.threads : 1; /* the other cores take what disturbs */
    const anemo_status status = anemo_cli_open_device(&cli, &device, &err);
    printer out = {.cli = &cli};
    const int code = status ? anemo_cli_fail(status, &err) : measure(&out, &own, device, &err);
    print_kept(&out);
    anemo_device_free(device);
    return anemo_cli_close(&cli, code);
}
