#include "harness/cli/compare.h"
#include "harness/cli/table.h"

#include <math.h>

#define DEPENDENT 0.3 /* autocorrelation from which a reader must be told */

static anemo_table *result_table(const char *title) {
    anemo_table *table = anemo_table_create("comparison", title);
    anemo_table_column(table, "case", "case");
    anemo_table_column(table, "a_s", "A, us");
    anemo_table_column(table, "b_s", "B, us");
    anemo_table_column(table, "ratio", "B / A");
    anemo_table_column(table, "ratio_lo", "from");
    anemo_table_column(table, "ratio_hi", "to");
    anemo_table_column(table, "pairs", "pairs");
    anemo_table_column(table, "differs", "differs");
    anemo_table_column(table, "verdict", "verdict");
    anemo_table_column(table, "p_regression", "p");
    anemo_table_column(table, "p_needed", "needed");
    anemo_table_column(table, "mde_regression", "detectable");
    anemo_table_column(table, "mde_differs", "differing");
    anemo_table_column(table, "autocorrelation", "autocorr.");
    anemo_table_column(table, "outliers_a", "outliers A");
    anemo_table_column(table, "outliers_b", "B");
    anemo_table_column(table, "remark", "remark");
    return table;
}

static void remark_cell(anemo_table *table, const anemo_compare_result *r, bool steady) {
    const bool dependent = r->autocorrelation > DEPENDENT;
    if (r->status) {
        anemo_table_text(table, "not measured: %s", r->error.text);
    } else if (r->ratio.needs) {
        anemo_table_text(table, "needs %lld pairs", (long long)r->ratio.needs);
    } else if (dependent || !steady) {
        anemo_table_text(table, "%s%s%s", steady ? "" : "not steady after warm-up",
                         dependent && !steady ? "; " : "",
                         dependent ? "pairs depend on each other: the interval is too narrow" : "");
    } else {
        anemo_table_absent(table);
    }
}

static void result_row(anemo_table *table, const char *name, bool steady,
                       const anemo_compare_result *r) {
    anemo_table_text(table, "%s", name);
    if (r->status || r->pairs == 0) {
        for (int i = 0; i < 15; i++) {
            anemo_table_absent(table);
        }
        remark_cell(table, r, steady);
        return;
    }
    const bool known = !r->ratio.needs;
    for (int side = 0; side < 2; side++) {
        anemo_table_both(table, r->time_ns[side].value * 1e-9, "%.2f",
                         r->time_ns[side].value * 1e-3);
    }
    anemo_table_number(table, r->ratio.value, "%.4f");
    anemo_table_number(table, known ? r->ratio.lo : NAN, "%.4f");
    anemo_table_number(table, known ? r->ratio.hi : NAN, "%.4f");
    anemo_table_number(table, (double)r->pairs, "%.0f");
    anemo_table_flag(table, r->differs);
    anemo_table_text(table, "%s", anemo_compare_verdict_name(r->verdict));
    anemo_table_number(table, r->p_regression, "%.2g");
    anemo_table_number(table, r->p_needed, "%.2g");
    anemo_table_number(table, r->mde_regression, "%.3f");
    anemo_table_number(table, r->mde_differs, "%.3f");
    anemo_table_number(table, r->autocorrelation, "%.2f");
    anemo_table_number(table, (double)r->outliers[0], "%.0f");
    anemo_table_number(table, (double)r->outliers[1], "%.0f");
    remark_cell(table, r, steady);
}

static void print_rule(const anemo_cli *cli, const anemo_compare_rule *rule) {
    fprintf(cli->out,
            "\nPairs in turns, AB BA BA AB; above 1, B is slower. Interval: exact sign test, "
            "%g %% at all looks together (",
            100 * rule->level);
    for (int32_t i = 0; i < rule->n_looks; i++) {
        fprintf(cli->out, "%s%lld", i ? ", " : "", (long long)rule->look[i]);
    }
    fprintf(cli->out,
            " pairs). REGRESSION: \"ratio <= %g\" is rejected (one-sided, %g %% over table and "
            "looks, Holm). PASS: the interval lies below %g. Else INCONCLUSIVE. Detectable, "
            "differing: the smallest ratio that 80 %% of such runs would call REGRESSION, or "
            "differing.\n",
            1 + rule->delta, 100 * rule->alpha, 1 + rule->delta);
}

static void print_noise(const anemo_cli *cli, const anemo_noise *noise) {
    fprintf(cli->out, "Noise:");
    if (noise->involuntary_switches >= 0) {
        fprintf(cli->out, " %lld involuntary switches;", (long long)noise->involuntary_switches);
    }
    const struct {
        double value, scale;
        const char *unit, *what;
    } known[] = {{noise->busy_fraction, 100, " %", "of all CPU time used"},
                 {noise->steal_fraction, 100, " %", "stolen"},
                 {noise->pressure_fraction, 100, " %", "of the time some task waited for a CPU"},
                 {noise->frequency_khz, 1e-6, " GHz", "clock"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (isfinite(known[i].value)) {
            fprintf(cli->out, " %.3g%s %s;", known[i].value * known[i].scale, known[i].unit,
                    known[i].what);
        } else {
            fprintf(cli->out, " %s: not told here;", known[i].what);
        }
    }
    fputc('\n', cli->out);
}

void compare_print(const anemo_cli *cli, const anemo_compare_rule *rule, const char *a,
                   const char *b, char (*names)[256], const bool *steady, int32_t n,
                   const anemo_compare_result *results, const anemo_noise *noise) {
    char title[1024];
    snprintf(title, sizeof title, "A = %s, B = %s", a, b);
    anemo_table *table = result_table(title);
    for (int32_t i = 0; i < n; i++) {
        result_row(table, names[i], steady[i], &results[i]);
    }
    const anemo_table *tables[] = {table};
    anemo_table_print(tables, 1, cli->format, cli->out);
    anemo_table_free(table);
    if (cli->format == ANEMO_FORMAT_TEXT || cli->format == ANEMO_FORMAT_MD) {
        print_rule(cli, rule);
        print_noise(cli, noise);
    }
}
