#include "harness/cli/bench_ledger.h"

#include "harness/cli/table.h"

#include <math.h>
#include <stdio.h>

static const char *line_name(int32_t batch, char *text, size_t text_bytes) {
    if (batch == 0) {
        snprintf(text, text_bytes, "prefill");
    } else {
        snprintf(text, text_bytes, "decode, batch %d", batch);
    }
    return text;
}

static void estimate_cell(anemo_table *table, const anemo_estimate *e, bool percent) {
    if (!isfinite(e->value)) {
        anemo_table_absent(table);
    } else if (percent) {
        anemo_table_both(table, e->value, "%+.1f %% [%+.1f, %+.1f]", e->value * 100, e->lo * 100,
                         e->hi * 100);
    } else {
        anemo_table_both(table, e->value, "%.3f [%.3f, %.3f]", e->value, e->lo, e->hi);
    }
}

/* Rows: the phases that ran, class by class; a pair of columns for each line. */
static anemo_table *phase_table(const anemo_ledger_report *r, const char *title) {
    anemo_table *table = anemo_table_create("ledger", title);
    char key[64], heading[80], name[64];
    anemo_table_column(table, "class", "class");
    anemo_table_column(table, "call", "call");
    for (int32_t l = 0; l < r->n_lines; l++) {
        line_name(r->line[l].batch, name, sizeof name);
        snprintf(key, sizeof key, "time_s_batch_%d", r->line[l].batch);
        snprintf(heading, sizeof heading, "%s, us", name);
        anemo_table_column(table, key, heading);
        snprintf(key, sizeof key, "share_batch_%d", r->line[l].batch);
        anemo_table_column(table, key, "share");
    }
    for (int c = 0; c < ANEMO_PHASE_CLASS_COUNT; c++) {
        for (int32_t p = 0; p < ANEMO_PHASES; p++) {
            bool ran = false;
            for (int32_t l = 0; l < r->n_lines; l++) {
                ran = ran || r->line[l].share[p] > 0;
            }
            if ((int)anemo_phase_describe(p).class != c || !ran) {
                continue;
            }
            anemo_table_text(table, "%s", anemo_phase_class_name((anemo_phase_class)c));
            anemo_table_text(table, "%s", anemo_ledger_name(p, name, sizeof name));
            for (int32_t l = 0; l < r->n_lines; l++) {
                const double s = r->line[l].phase_s[p], share = r->line[l].share[p];
                anemo_table_both(table, s, "%.2f", s * 1e6);
                anemo_table_both(table, share, "%.1f %%", share * 100);
            }
        }
    }
    return table;
}

static anemo_table *closing_table(const anemo_ledger_report *r) {
    anemo_table *table = anemo_table_create("closing", "What the ledger leaves, and what it costs");
    char name[64];
    anemo_table_column(table, "what", "what");
    anemo_table_column(table, "time_s", "time, us");
    anemo_table_column(table, "ledger_time_s", "with ledger, us");
    anemo_table_column(table, "ledger_ratio", "ratio");
    anemo_table_column(table, "unattributed", "unattributed");
    anemo_table_column(table, "samples", "n");
    anemo_table_column(table, "closes", "closes");
    anemo_table_column(table, "watched", "of steps, watched 1 in");
    for (int32_t l = 0; l < r->n_lines; l++) {
        const anemo_ledger_line *line = &r->line[l];
        anemo_table_text(table, "%s", line_name(line->batch, name, sizeof name));
        anemo_table_both(table, line->plain_s.value, "%.2f", line->plain_s.value * 1e6);
        anemo_table_both(table, line->ledger_s.value, "%.2f", line->ledger_s.value * 1e6);
        estimate_cell(table, &line->ratio, false);
        estimate_cell(table, &line->unattributed, true);
        anemo_table_number(table, (double)line->plain_s.n, "%.0f");
        anemo_table_text(table, "%s", line->open ? "no: more than 5 %" : "yes");
        anemo_table_number(table, (double)line->every, "%.0f");
    }
    return table;
}

static anemo_table *what_if_table(const anemo_ledger_report *r, const char *rule) {
    char title[256], name[64];
    snprintf(title, sizeof title, "What if %s", rule);
    anemo_table *table = anemo_table_create("what_if", title);
    anemo_table_column(table, "what", "what");
    anemo_table_column(table, "calls", "its calls, time / base");
    anemo_table_column(table, "tokens_per_s_base", "tokens/s");
    anemo_table_column(table, "tokens_per_s_foretold", "foretold");
    anemo_table_column(table, "tokens_per_s_measured", "measured");
    anemo_table_column(table, "foretold", "step foretold / base");
    anemo_table_column(table, "measured", "step measured / base");
    anemo_table_column(table, "error", "error of foretold");
    for (int32_t l = 0; l < r->n_lines; l++) {
        const anemo_what_if_line *w = &r->what_if[l];
        anemo_table_text(table, "%s", line_name(r->line[l].batch, name, sizeof name));
        estimate_cell(table, &w->calls, false);
        for (int i = 0; i < 3; i++) {
            anemo_table_number(table, w->tokens_per_s[i], "%.5g");
        }
        estimate_cell(table, &w->foretold, false);
        estimate_cell(table, &w->measured, false);
        estimate_cell(table, &w->error, true);
    }
    return table;
}

static void print_report(const anemo_cli *cli, const anemo_ledger_report *r, const char *rule) {
    char title[512];
    snprintf(title, sizeof title,
             "%s: where the time goes, per prefill of %lld tokens and per decode step; weights %s",
             r->info.name, (long long)r->prompt_tokens, r->info.weights);
    anemo_table *table[3] = {phase_table(r, title), closing_table(r), NULL};
    int32_t n = 2;
    if (r->has_what_if) {
        table[n++] = what_if_table(r, rule);
    }
    anemo_table_print((const anemo_table *const *)table, n, cli->format, cli->out);
    if (cli->format == ANEMO_FORMAT_TEXT || cli->format == ANEMO_FORMAT_MD) {
        fputs("\nEvery call has clock reads of its own; unattributed: what lies between them. "
              "Ratios are paired, round by round.\n",
              cli->out);
    }
    for (int32_t i = 0; i < n; i++) {
        anemo_table_free(table[i]);
    }
}

anemo_status anemo_cli_ledger(const anemo_cli *cli, const anemo_bench_model_options *options,
                              const char *rule, anemo_device *device, anemo_record_sink *sink,
                              bool *open, anemo_error *err) {
    anemo_ledger_report report;
    const anemo_status status = anemo_bench_ledger(device, options, rule, sink, &report, err);
    if (report.n_lines) {
        print_report(cli, &report, rule);
    }
    for (int32_t i = 0; i < report.n_lines; i++) {
        *open = *open || report.line[i].open;
    }
    anemo_ledger_report_free(&report);
    return status;
}
