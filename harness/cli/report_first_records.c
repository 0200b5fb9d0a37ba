/* The first page when there are records and no scenario: the same nine questions; what records
 * alone cannot answer is said, with the command that can. */
#include "harness/cli/report_internal.h"

#include <math.h>
#include <string.h>

/* The cheapest cost line that the records give; false: none, and then why. */
static bool cheapest_line(const anemo_report *report, anemo_cost_line *out, anemo_error *why) {
    anemo_cost_line line;
    bool found = false;
    snprintf(why->text, sizeof why->text, "there is no record of a whole model that may be one");
    for (size_t i = 0; i < report->n; i++)
        if (report_is(report->records[i], "model") &&
            anemo_cost_line_make(report->records[i], &report->assumptions, &line, why) ==
                ANEMO_OK &&
            (!found || line.per_million < out->per_million)) {
            *out = line;
            found = true;
        }
    return found;
}

static void first_line(const anemo_report *report, page *p) {
    anemo_cost_line line;
    anemo_error why = {0};
    char text[200], range[200], a[32];
    if (!cheapest_line(report, &line, &why)) {
        page_first(p, "NO VERDICT.",
                   "Records alone say nothing about a purchase: which bill it is "
                   "compared with, for how many requests, stands in a scenario. "
                   "No cost line either: %s.",
                   why.text);
        page_first(p, "Money:", "not known.");
        page_first(p, "What moves it most:", "not known.");
        return;
    }
    const anemo_cost_assumptions *x = &report->assumptions;
    const anemo_cost_input *decisive = &x->input[line.decisive];
    anemo_cost_text(&line, x, text, sizeof text);
    anemo_cost_range_text(&line, x, range, sizeof range);
    page_first(p, "NO VERDICT.",
               "Records alone say nothing about a purchase: which bill it is compared "
               "with, for how many requests, stands in a scenario. A first cost "
               "line: %s in %s%s, %s.",
               line.model, line.weights, line.composed ? " (composed)" : "", text);
    page_first(p, "Money:",
               "%s %s a year for %lld cores that do %.1f token/s; %s. No saving, "
               "probability or payback without a bill to compare with.",
               report_amount(line.yearly_capital + line.yearly_energy, a), x->currency,
               (long long)line.cores, line.tokens_per_s, range);
    page_first(p, "What moves it most:", "%s: %.3g %s per million tokens at %g, %.3g at %g (%s).",
               decisive->name, line.decisive_lo, x->currency, decisive->low, line.decisive_hi,
               decisive->high, strcmp(decisive->unit, "1") ? decisive->unit : "a share");
}

static void first_accuracy(const anemo_report *report, page *p) {
    char text[1000] = "", paired[1000];
    size_t used = 0;
    report_paired(report, paired, sizeof paired);
    for (size_t i = 0; i < report->n && used + 1 < sizeof text; i++) {
        const anemo_record *r = report->records[i];
        anemo_metric m;
        if (!report_is(r, "eval") || !report_passed(r) ||
            strcmp(report_text(r, "case", "task_kind"), "all") != 0 ||
            !anemo_record_find_metric(r, "exact", &m))
            continue;
        used +=
            (size_t)snprintf(text + used, sizeof text - used,
                             "%s%s in %s %.1f %% [%.1f, %.1f] of %lld", used ? "; " : "",
                             report_text(r, "case", "model"), report_text(r, "solution", "weights"),
                             100 * m.value, 100 * m.lo, 100 * m.hi, (long long)m.n);
    }
    if (!used) {
        page_first(
            p, "Accuracy, with 95 % intervals:", "not measured; anemo eval MODEL --record FILE.");
        return;
    }
    page_first(
        p, "Accuracy, with 95 % intervals:", "%s. Paired, where %.1f points may be lost: %s.", text,
        100 * report_margin(report),
        paired[0] ? paired : "not measured; anemo eval MODEL --weights FORM,FORM --record FILE");
}

static void first_evidence(const anemo_report *report, page *p) {
    report_counts n = report_count((const anemo_record *const *)report->records, report->n);
    const anemo_record *last = report->n ? report->records[report->n - 1] : NULL;
    page_first(p, "Evidence:",
               "measured on %s with anemo %s, last on %.10s; %d VALID, %d WEAK, %d "
               "INVALID, %d not measured. Every price is an assumption.",
               last ? report_text(last, "machine", "id") : "nothing",
               last ? report_text(last, "build", "version") : "-",
               last ? report_text(last, NULL, "time") : "-", n.verdict[0], n.verdict[1],
               n.verdict[2], n.unmeasured);
}

void report_first_records(const anemo_report *report, page *p) {
    first_line(report, p);
    page_first(p, "Limits, use, spare:",
               "no limits were set; the cost line assumes machines busy %.0f %% of the time and no "
               "spare; whole machines and spares come from anemo size SCENARIO.json.",
               100 * report->assumptions.input[ANEMO_COST_UTILISATION].value);
    first_accuracy(report, p);
    first_evidence(report, p);
    page_first(p, "Age of the prices:", "%s as of %s (%s).",
               report->assumptions.input[ANEMO_COST_PRICE].name,
               report->assumptions.input[ANEMO_COST_PRICE].as_of,
               report->assumptions.input[ANEMO_COST_PRICE].class_name);
    page_first(p, "Left out:",
               "staff, space, maintenance, licences, spare machines, residual value; "
               "prompts are counted as free.");
    page_first(p, "What would change our mind:",
               "a scenario with your volume, your bill and a machine "
               "that was measured:");
    page_command(p, "anemo report SCENARIO.json FILE... --output report.html");
    page_text(p, "No break-even figure: it needs a scenario.");
}
