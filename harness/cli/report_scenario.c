/* The evidence about a scenario: the tables of `anemo cost` and `anemo size`, whole. */
#include "harness/cli/report_internal.h"

void report_scenario(const anemo_report *report, page *p) {
    const cost_view *v = report->cost;
    page_heading(p, 2, "scenario", "The scenario in numbers");
    if (v->subject < 0)
        page_text(p, "There is no verdict, so there is no break-even and no sensitivity.");
    page_table(p, cost_table_verdict(v));
    page_table(p, cost_table_options(v));
    page_table(p, cost_table_tokens(v));
    page_table(p, cost_table_break_even(v));
    page_table(p, cost_table_bars(v, ANEMO_COST_INPUTS_MAX));
    page_table(p, cost_table_evidence(v));
    page_table(p, size_table_machines(report->size));
    page_table(p, size_table_memory(report->size));
    page_table(p, cost_table_warnings(v));
    page_heading(p, 3, NULL, "Every number, and every input with its source");
    page_table(p, cost_table_explain(v));
    page_table(p, size_table_explain(report->size));
    page_table(p, cost_table_inputs(v));
}
