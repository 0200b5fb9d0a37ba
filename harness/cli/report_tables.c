/* The tables of a report: kernels, models, accuracy, cost. */
#include "harness/cli/report_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 12

static void metric_cell(anemo_table *table, const anemo_record *record, const char *name) {
    anemo_metric metric;
    char text[120];
    if (!anemo_record_find_metric(record, name, &metric)) {
        anemo_table_absent(table);
        return;
    }
    anemo_metric_text(&metric, text, sizeof text);
    anemo_table_text(table, "%s", text);
}

/* A share as "97.2 % [95.1, 98.4]". */
static void share_text(const anemo_metric *m, char *text, size_t text_bytes) {
    int n = snprintf(text, text_bytes, "%.1f %%", 100 * m->value);
    if (m->lo < m->hi)
        snprintf(text + n, text_bytes - (size_t)n, " [%.1f, %.1f]", 100 * m->lo, 100 * m->hi);
}

static void share_cell(anemo_table *table, const anemo_record *record, const char *name) {
    anemo_metric metric;
    char text[120];
    if (!anemo_record_find_metric(record, name, &metric)) {
        anemo_table_absent(table);
        return;
    }
    share_text(&metric, text, sizeof text);
    anemo_table_text(table, "%s", text);
}

static void verdict_cell(anemo_table *table, const anemo_record *record) {
    char text[256];
    report_verdict(record, text, sizeof text);
    anemo_table_text(table, "%s", text);
}

/* ---------------------------------------------------------------- kernels */

static double time_of(const anemo_record *record) {
    anemo_metric time;
    return anemo_record_find_metric(record, "time", &time) ? time.value : INFINITY;
}

static int by_case_and_time(const void *a, const void *b) {
    const anemo_record *x = *(const anemo_record *const *)a, *y = *(const anemo_record *const *)b;
    int order = strcmp(report_text(x, "case", "op"), report_text(y, "case", "op"));
    if (order == 0)
        order = strcmp(report_text(x, "case", "name"), report_text(y, "case", "name"));
    return order ? order : (time_of(x) > time_of(y)) - (time_of(x) < time_of(y));
}

static anemo_table *kernel_table(const char *op) {
    anemo_table *table = anemo_table_create("kernels", op);
    static const char *const columns[] = {"case",       "variant",     "time",
                                          "of ceiling", "binds",       "bandwidth",
                                          "arithmetic", "time / best", "validity"};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        anemo_table_column(table, columns[i], columns[i]);
    return table;
}

void report_kernels(const report_view *view, page *p) {
    const anemo_record **sorted = calloc(view->n, sizeof *sorted);
    size_t n = 0;
    if (!sorted)
        abort();
    for (size_t i = 0; i < view->n; i++)
        if (report_is(view->records[i], "kernel") && report_passed(view->records[i]))
            sorted[n++] = view->records[i];
    qsort(sorted, n, sizeof *sorted, by_case_and_time);
    if (n)
        page_heading(p, 3, NULL, "Kernels");
    if (n)
        page_text(p, "'of ceiling': fraction of what this machine's own probe, run beside the "
                     "samples, allows.");
    anemo_table *table = NULL;
    for (size_t i = 0; i < n; i++) {
        const char *op = report_text(sorted[i], "case", "op");
        bool new_op = i == 0 || strcmp(op, report_text(sorted[i - 1], "case", "op")) != 0;
        if (new_op && table)
            page_table(p, table);
        if (new_op)
            table = kernel_table(op);
        anemo_table_text(table, "%s", report_text(sorted[i], "case", "name"));
        anemo_table_text(table, "%s", report_text(sorted[i], "solution", "variant"));
        metric_cell(table, sorted[i], "time");
        share_cell(table, sorted[i], "roof_fraction");
        anemo_table_text(table, "%s", report_text(sorted[i], "sampling", "binding_ceiling"));
        metric_cell(table, sorted[i], "bandwidth");
        metric_cell(table, sorted[i], "arithmetic");
        metric_cell(table, sorted[i], "ratio_to_best");
        verdict_cell(table, sorted[i]);
    }
    if (table)
        page_table(p, table);
    free(sorted);
}

/* ---------------------------------------------------------------- models */

/* Adds the name unless it is there; false when there is no room. */
static bool add_name(const char **names, int *n, int max, const char *name) {
    for (int i = 0; i < *n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    if (*n == max)
        return false;
    names[(*n)++] = name;
    return true;
}

/* The figures of a model record that a table shows, in this order, where any record has them. */
static const char *const model_metrics[][2] = {
    {"ttft", "TTFT"},           {"prefill_rate", "prefill"},
    {"tpot", "TPOT"},           {"throughput", "throughput"},
    {"itl_p95", "ITL p95"},     {"itl_p99", "ITL p99"},
    {"bandwidth", "bandwidth"}, {"composition_error", "composition error"}};
#define MODEL_METRICS (int)(sizeof model_metrics / sizeof *model_metrics)

/* The only share among them is an error. */
static void figure_cell(anemo_table *table, const anemo_record *record, const char *name) {
    if (strcmp(name, "composition_error") == 0)
        share_cell(table, record, name);
    else
        metric_cell(table, record, name);
}

static bool of_model(const anemo_record *r, const char *model) {
    return report_is(r, "model") && report_passed(r) &&
           strcmp(report_text(r, "case", "model"), model) == 0;
}

static void model_row(anemo_table *table, const anemo_record *r, const bool *shown) {
    static const char *const sizes[] = {"batch", "prompt_tokens", "generated_tokens"};
    anemo_table_text(table, "%s%s", report_text(r, "solution", "weights"),
                     anemo_record_get_flag(r, "case", "composed") ? " (composed)" : "");
    for (int i = 0; i < 3; i++) {
        int64_t size = anemo_record_get_integer(r, "case", sizes[i]);
        anemo_table_number(table, size < 0 ? NAN : (double)size, "%.0f");
    }
    for (int i = 0; i < MODEL_METRICS; i++)
        if (shown[i])
            figure_cell(table, r, model_metrics[i][0]);
    share_cell(table, r, "roof_fraction");
    anemo_table_text(table, "%s", report_text(r, "sampling", "binding_ceiling"));
    verdict_cell(table, r);
}

static void one_model(const report_view *view, const char *model, page *p) {
    bool shown[MODEL_METRICS] = {false}, demo = false, composed = false;
    anemo_metric metric;
    for (size_t i = 0; i < view->n; i++) {
        const anemo_record *r = view->records[i];
        if (!of_model(r, model))
            continue;
        demo = demo || anemo_record_get_flag(r, NULL, "demo");
        composed = composed || anemo_record_get_flag(r, "case", "composed");
        for (int m = 0; m < MODEL_METRICS; m++)
            shown[m] = shown[m] || anemo_record_find_metric(r, model_metrics[m][0], &metric);
    }
    anemo_table *table = anemo_table_create("model", model);
    static const char *const first[] = {"weights", "batch", "prompt", "new"};
    for (int i = 0; i < 4; i++)
        anemo_table_column(table, first[i], first[i]);
    for (int i = 0; i < MODEL_METRICS; i++)
        if (shown[i])
            anemo_table_column(table, model_metrics[i][0], model_metrics[i][1]);
    anemo_table_column(table, "roof_fraction", "of ceiling");
    anemo_table_column(table, "binding_ceiling", "binds");
    anemo_table_column(table, "validity", "validity");
    for (size_t i = 0; i < view->n; i++)
        if (of_model(view->records[i], model))
            model_row(table, view->records[i], shown);
    page_table(p, table);
    if (composed)
        page_text(p, "Composed: the whole model added up from a few measured layers of its true "
                     "shape with random weights; speed only, accuracy does not apply.");
    else if (demo)
        page_text(p, "The embedded demonstration model: a small model that proves the chain; no "
                     "basis for buying anything.");
}

void report_models(const report_view *view, page *p) {
    bool titled = false;
    for (size_t i = 0; i < view->n; i++) {
        const anemo_record *r = view->records[i];
        bool seen = false;
        if (!report_is(r, "model") || !report_passed(r))
            continue;
        const char *model = report_text(r, "case", "model");
        for (size_t j = 0; j < i && !seen; j++)
            seen = of_model(view->records[j], model);
        if (seen)
            continue;
        if (!titled) {
            page_heading(p, 3, NULL, "Models");
            page_text(p, "TTFT: submission to first token. TPOT: (last - first token) / (tokens - "
                         "1).");
        }
        titled = true;
        one_model(view, model, p);
    }
}

/* ---------------------------------------------------------------- accuracy */

/* The record of this task, kind, level and form of the weights; NULL when there is none. */
static const anemo_record *find_score(const report_view *view, const anemo_record *like,
                                      const char *weights) {
    static const char *const same[] = {"model", "task", "name", "data_sha256"};
    for (size_t i = 0; i < view->n; i++) {
        const anemo_record *r = view->records[i];
        bool found = report_is(r, "eval") && report_passed(r) &&
                     strcmp(report_text(r, "solution", "weights"), weights) == 0;
        for (size_t s = 0; s < sizeof same / sizeof *same && found; s++)
            found =
                strcmp(report_text(r, "case", same[s]), report_text(like, "case", same[s])) == 0;
        if (found)
            return r;
    }
    return NULL;
}

static bool of_task(const anemo_record *r, const char *task) {
    return report_is(r, "eval") && report_passed(r) &&
           strcmp(report_text(r, "case", "task"), task) == 0;
}

/* One table of a task: a row per case, a column per form of the weights. */
static void accuracy_table(const report_view *view, const char *task, const char *metric_name,
                           const char *title, page *p) {
    const char *forms[COLUMNS_MAX];
    int n = 0;
    for (size_t i = 0; i < view->n; i++)
        if (of_task(view->records[i], task))
            add_name(forms, &n, COLUMNS_MAX, report_text(view->records[i], "solution", "weights"));
    anemo_table *table = anemo_table_create(task, title);
    anemo_table_column(table, "model", "model");
    anemo_table_column(table, "case", "case");
    anemo_table_column(table, "n", "n");
    for (int f = 0; f < n; f++)
        anemo_table_column(table, forms[f], forms[f]);
    for (size_t i = 0; n > 0 && i < view->n; i++) {
        const anemo_record *r = view->records[i];
        anemo_metric metric;
        if (!of_task(r, task) || find_score(view, r, report_text(r, "solution", "weights")) != r)
            continue;
        bool first = true; /* the row belongs to the first form that has it */
        for (int f = 0; f < n && first; f++) {
            const anemo_record *other = find_score(view, r, forms[f]);
            if (other) {
                first = other == r;
                break;
            }
        }
        if (!first || !anemo_record_find_metric(r, metric_name, &metric))
            continue;
        anemo_table_text(table, "%s", report_text(r, "case", "model"));
        anemo_table_text(table, "%s", report_text(r, "case", "name"));
        anemo_table_number(table, (double)metric.n, "%.0f");
        for (int f = 0; f < n; f++) {
            const anemo_record *score = find_score(view, r, forms[f]);
            if (score && strcmp(task, "perplexity") != 0)
                share_cell(table, score, metric_name);
            else if (score)
                metric_cell(table, score, metric_name);
            else
                anemo_table_absent(table);
        }
    }
    page_table(p, table);
}

double report_margin(const anemo_report *report) {
    return report->cost ? report->cost->s->rule.margin : ANEMO_COST_MARGIN;
}

const char *report_non_inferior(const anemo_metric *d, double margin) {
    return d->lo > -margin ? "non-inferior" : d->hi < -margin ? "inferior" : "open";
}

void report_paired(const anemo_report *report, char *text, size_t text_bytes) {
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < report->n && used + 1 < text_bytes; i++) {
        const anemo_record *r = report->records[i];
        anemo_metric d;
        const char *name = strrchr(report_text(r, "case", "name"), '/');
        if (!of_task(r, "difference") || !name || strcmp(name, "/exact") != 0 ||
            !anemo_record_find_metric(r, "difference", &d))
            continue;
        int n = snprintf(text + used, text_bytes - used,
                         "%s%s in %s against %s on the same %lld questions: %+.1f points "
                         "[%+.1f, %+.1f], %s",
                         used ? "; " : "", report_text(r, "case", "model"),
                         report_text(r, "solution", "weights"), report_text(r, "case", "baseline"),
                         (long long)d.n, 100 * d.value, 100 * d.lo, 100 * d.hi,
                         report_non_inferior(&d, report_margin(report)));
        used += n > 0 ? (size_t)n : 0;
    }
}

static void differences(const report_view *view, page *p) {
    double margin = report_margin(view->report);
    char against[64];
    snprintf(against, sizeof against, "may lose %.1f points", 100 * margin);
    anemo_table *table =
        anemo_table_create("differences", "Paired differences between forms of the weights");
    static const char *const columns[] = {"model",      "what", "against",  "weights",
                                          "difference", "n",    "p (Holm)", "differs"};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        anemo_table_column(table, columns[i], columns[i]);
    anemo_table_column(table, "non_inferior", against);
    for (size_t i = 0; i < view->n; i++) {
        const anemo_record *r = view->records[i];
        anemo_metric difference, holm;
        char text[120];
        if (!of_task(r, "difference") || !anemo_record_find_metric(r, "difference", &difference))
            continue;
        bool has_p = anemo_record_find_metric(r, "p_holm", &holm);
        anemo_table_text(table, "%s", report_text(r, "case", "model"));
        anemo_table_text(table, "%s", report_text(r, "case", "name"));
        anemo_table_text(table, "%s", report_text(r, "case", "baseline"));
        anemo_table_text(table, "%s", report_text(r, "solution", "weights"));
        if (strcmp(difference.unit, "1") == 0)
            snprintf(text, sizeof text, "%+.2f points [%+.2f, %+.2f]", 100 * difference.value,
                     100 * difference.lo, 100 * difference.hi);
        else
            anemo_metric_text(&difference, text, sizeof text);
        anemo_table_text(table, "%s", text);
        anemo_table_number(table, (double)difference.n, "%.0f");
        anemo_table_number(table, has_p ? holm.value : NAN, "%.2g");
        if (has_p)
            anemo_table_text(table, "%s", holm.value < 0.05 ? "yes" : "not shown");
        else
            anemo_table_absent(table);
        if (strcmp(difference.unit, "1") == 0)
            anemo_table_text(table, "%s", report_non_inferior(&difference, margin));
        else
            anemo_table_absent(table);
    }
    page_table(p, table);
}

void report_accuracy(const report_view *view, page *p) {
    bool any = false;
    for (size_t i = 0; i < view->n && !any; i++)
        any = report_is(view->records[i], "eval") && report_passed(view->records[i]);
    if (!any)
        return;
    page_heading(p, 3, NULL, "Accuracy");
    accuracy_table(view, "exact", "exact", "Exact match", p);
    accuracy_table(view, "choice", "acc", "Multiple choice", p);
    accuracy_table(view, "perplexity", "perplexity", "Perplexity", p);
    differences(view, p);
}

/* ---------------------------------------------------------------- cost */

/* Cents below 10, whole units above. */
static const char *money(double amount, char text[32]) {
    snprintf(text, 32, "%.*f", amount < 10 ? 2 : 0, amount);
    return text;
}

void anemo_cost_text(const anemo_cost_line *line, const anemo_cost_assumptions *assumptions,
                     char *text, size_t text_bytes) {
    char amount[3][32];
    int n = snprintf(text, text_bytes, "%s %s per million generated tokens",
                     money(line->per_million, amount[0]), assumptions->currency);
    if (line->measured_lo < line->measured_hi)
        snprintf(text + n, text_bytes - (size_t)n, " [%s, %s]", money(line->measured_lo, amount[1]),
                 money(line->measured_hi, amount[2]));
    else
        snprintf(text + n, text_bytes - (size_t)n, " (too few samples for an interval)");
}

void anemo_cost_range_text(const anemo_cost_line *line, const anemo_cost_assumptions *assumptions,
                           char *text, size_t text_bytes) {
    char amount[2][32];
    snprintf(text, text_bytes, "%s to %s with every assumption at its end, most by %s",
             money(line->lo, amount[0]), money(line->hi, amount[1]),
             assumptions->input[line->decisive].name);
}

static void assumptions_table(const anemo_cost_assumptions *a, page *p) {
    anemo_table *table = anemo_table_create("assumptions", "Assumptions of the cost line");
    static const char *const columns[] = {"what", "value", "from",  "to",
                                          "unit", "class", "as of", "source"};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        anemo_table_column(table, columns[i], columns[i]);
    for (int id = 0; id < ANEMO_COST_INPUT_COUNT; id++) {
        anemo_table_text(table, "%s", a->input[id].name);
        anemo_table_number(table, a->input[id].value, "%g");
        anemo_table_number(table, a->input[id].low, "%g");
        anemo_table_number(table, a->input[id].high, "%g");
        anemo_table_text(table, "%s", a->input[id].unit);
        anemo_table_text(table, "%s", a->input[id].class_name);
        anemo_table_text(table, "%s", a->input[id].as_of);
        anemo_table_text(table, "%s", a->input[id].source);
    }
    page_table(p, table);
}

void report_cost(const report_view *view, page *p) {
    anemo_cost_line line;
    char text[200], range[200];
    bool titled = false;
    if (!view->report->has_assumptions)
        return;
    const anemo_cost_assumptions *a = &view->report->assumptions;
    for (size_t i = 0; i < view->n; i++) {
        if (anemo_cost_line_make(view->records[i], a, &line, NULL) != ANEMO_OK)
            continue;
        if (!titled)
            page_heading(p, 3, NULL, "First cost line");
        titled = true;
        anemo_cost_text(&line, a, text, sizeof text);
        anemo_cost_range_text(&line, a, range, sizeof range);
        page_item(p, line.model,
                  "%s%s, batch %" PRId64 ": %s; %s. From %.2f token/s on %" PRId64
                  " cores that cost %.0f %s and draw %.0f W: %.0f %s a year, of which %.0f "
                  "electricity.",
                  line.weights, line.composed ? ", composed" : "", line.batch, text, range,
                  line.tokens_per_s, line.cores, line.price, a->currency, line.watts,
                  line.yearly_capital + line.yearly_energy, a->currency, line.yearly_energy);
    }
    if (!titled)
        return;
    page_text(p, "Left out: staff, space, maintenance, licences, spare machines, residual value; "
                 "prompts are counted as free.");
    assumptions_table(a, p);
}
