#include "harness/cli/targets.h"

#include "harness/cli/table.h"

#include <math.h>
#include <string.h>

enum { MOST_REMARKS = 64 };

typedef struct report {
    const anemo_cli *cli;
    anemo_progress progress;
    anemo_table *table;
    int32_t count[4]; /* per verdict */
    int32_t n_remarks;
    char remark[MOST_REMARKS][400];
} report;

static anemo_table *target_table(void) {
    anemo_table *table = anemo_table_create("targets", "Targets");
    anemo_table_column(table, "group", "group");
    anemo_table_column(table, "target", "what");
    anemo_table_column(table, "bound", "target");
    anemo_table_column(table, "value", "measured");
    anemo_table_column(table, "lo", "95 % from");
    anemo_table_column(table, "hi", "to");
    anemo_table_column(table, "samples", "n");
    anemo_table_column(table, "verdict", "verdict");
    anemo_table_column(table, "measure", "of");
    anemo_table_column(table, "variant", "variant");
    anemo_table_column(table, "case", "case");
    return table;
}

/* Fractions of a ceiling in percent, ratios as they are. */
static void table_value(anemo_table *table, bool share, double value) {
    if (!isfinite(value)) {
        anemo_table_absent(table);
    } else if (share) {
        anemo_table_both(table, value, "%.1f %%", value * 100);
    } else {
        anemo_table_both(table, value, "%.3f", value);
    }
}

static void observe(void *ctx, const anemo_target_line *line) {
    report *r = ctx;
    const anemo_target *target = line->target;
    const bool share = target->kind < ANEMO_TARGET_RATE;
    const char *sign = target->at_most ? "<=" : ">=";
    r->count[line->verdict]++;
    anemo_table_text(r->table, "%s", line->group->name);
    anemo_table_text(r->table, "%s", target->text);
    if (share) {
        anemo_table_both(r->table, target->bound, "%s %.0f %%", sign, target->bound * 100);
    } else {
        anemo_table_both(r->table, target->bound, "%s %.2f", sign, target->bound);
    }
    table_value(r->table, share, line->value.value);
    table_value(r->table, share, line->value.lo);
    table_value(r->table, share, line->value.hi);
    anemo_table_number(r->table, line->value.n ? (double)line->value.n : NAN, "%.0f");
    anemo_table_text(r->table, "%s", anemo_target_verdict_name(line->verdict));
    anemo_table_text(r->table, "%s", target->measure);
    if (line->variant) {
        anemo_table_text(r->table, "%s", line->variant);
    } else {
        anemo_table_absent(r->table);
    }
    anemo_table_text(r->table, "%s", line->case_name);
    if (line->why[0] && r->n_remarks < MOST_REMARKS) {
        snprintf(r->remark[r->n_remarks++], sizeof *r->remark, "%s: %s: %s", target->text,
                 anemo_target_verdict_name(line->verdict), line->why);
    }
    anemo_progress_show(&r->progress, (double)line->done / line->total, line->group->name);
}

static anemo_table *summary_table(const report *r) {
    anemo_table *table = anemo_table_create("summary", NULL);
    for (int v = 0; v < 4; v++) {
        anemo_table_column(table, anemo_target_verdict_name((anemo_target_verdict)v),
                           anemo_target_verdict_name((anemo_target_verdict)v));
    }
    for (int v = 0; v < 4; v++) {
        anemo_table_number(table, r->count[v], "%.0f");
    }
    return table;
}

static void print_report(const report *r) {
    FILE *out = r->cli->out;
    if (r->cli->format != ANEMO_FORMAT_TEXT && r->cli->format != ANEMO_FORMAT_MD) {
        anemo_table *summary = summary_table(r);
        const anemo_table *tables[] = {r->table, summary};
        anemo_table_print(tables, 2, r->cli->format, out);
        anemo_table_free(summary);
        return;
    }
    const anemo_table *tables[] = {r->table};
    anemo_table_print(tables, 1, r->cli->format, out);
    fprintf(out, "\n");
    for (int32_t i = 0; i < r->n_remarks; i++) {
        fprintf(out, "%s\n", r->remark[i]);
    }
    fprintf(out, "targets: %d met, %d missed, %d undecided, %d not measured\n",
            r->count[ANEMO_TARGET_MET], r->count[ANEMO_TARGET_MISSED],
            r->count[ANEMO_TARGET_UNDECIDED], r->count[ANEMO_TARGET_NOT_MEASURED]);
}

static int code_of(const report *r, int32_t n_incorrect) {
    int code = n_incorrect ? ANEMO_EXIT_INCORRECT : ANEMO_EXIT_OK;
    code = r->count[ANEMO_TARGET_MISSED] ? anemo_cli_worse(code, ANEMO_EXIT_TARGET) : code;
    code =
        r->count[ANEMO_TARGET_NOT_MEASURED] ? anemo_cli_worse(code, ANEMO_EXIT_NOT_MEASURED) : code;
    return r->count[ANEMO_TARGET_UNDECIDED] ? anemo_cli_worse(code, ANEMO_EXIT_INCONCLUSIVE) : code;
}

int anemo_cli_judge(const anemo_cli *cli, const char *suite, anemo_cli_measure measure,
                    void *what) {
    anemo_error err = {{0}};
    anemo_device *device = NULL;
    anemo_record_sink *sink = NULL;
    int32_t n_incorrect = 0;
    report r = {.cli = cli, .table = target_table()};
    r.progress = anemo_progress_start(cli, "targets", 1);
    anemo_status status = anemo_cli_open_device(cli, &device, &err);
    status = status ? status : anemo_cli_open_sink(cli, suite, &sink, &err);
    status = status ? status : measure(device, sink, observe, &r, what, &n_incorrect, &err);
    anemo_progress_end(&r.progress);
    if (anemo_table_rows(r.table) > 0) {
        print_report(&r);
    }
    int code = code_of(&r, n_incorrect);
    if (status) {
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    }
    if (sink && (status = anemo_record_sink_close(sink, &err))) {
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    }
    anemo_table_free(r.table);
    anemo_device_free(device);
    return code;
}

typedef struct kernel_targets {
    const anemo_target_file *file;
    const anemo_targets_options *options;
} kernel_targets;

static anemo_status measure_kernels(anemo_device *device, anemo_record_sink *sink,
                                    anemo_target_observer observer, void *ctx, void *what,
                                    int32_t *n_incorrect, anemo_error *err) {
    const kernel_targets *k = what;
    return anemo_bench_targets(device, k->file, k->options, sink, observer, ctx, n_incorrect, err);
}

int anemo_cli_targets(const anemo_cli *cli, const char *path,
                      const anemo_targets_options *options) {
    anemo_error err = {{0}};
    anemo_target_file file;
    const anemo_status status = anemo_target_file_read(path, &file, &err);
    if (status) {
        return anemo_cli_fail(status, &err);
    }
    kernel_targets what = {.file = &file, .options = options};
    const int code = anemo_cli_judge(cli, "kernel-targets", measure_kernels, &what);
    anemo_target_file_free(&file);
    return code;
}
