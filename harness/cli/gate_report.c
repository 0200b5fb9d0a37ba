/* What a gate says: the table, the sentence, the job summary, JUnit. */
#include "harness/cli/gate.h"
#include "harness/cli/table.h"
#include "harness/record/junit.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const trial_names[] = {"this build against itself",
                                          "the same objects in another link order",
                                          "base and head in each other's slot"};

/* ---------------------------------------------------------------- judging */

/* A child that found its kernel wrong says so on stderr and ends with 3. */
static bool is_incorrect(const anemo_compare_result *r) {
    return r->status == ANEMO_E_NUMERIC || (r->status && strstr(r->error.text, "exit code 3"));
}

int gate_judge(gate_report *report) {
    const anemo_gate_outcome *o = report->outcome;
    int code = ANEMO_EXIT_OK;
    for (int32_t i = 0; i < o->n_due; i++) {
        const anemo_compare_result *r = &o->results[i];
        report->incorrect += is_incorrect(r);
        report->failed += r->status && !is_incorrect(r);
        if (r->status) {
            continue;
        }
        report->measured += r->pairs > 0;
        report->regressions += r->verdict == ANEMO_VERDICT_REGRESSION;
        report->passes += r->verdict == ANEMO_VERDICT_PASS;
        report->inconclusive += r->verdict == ANEMO_VERDICT_INCONCLUSIVE;
    }
    for (int32_t i = 0; i < o->n_checks; i++) {
        report->bad_checks += !o->checks[i].good;
    }
    code = report->bad_checks ? anemo_cli_worse(code, ANEMO_EXIT_ENVIRONMENT) : code;
    code = report->incorrect ? anemo_cli_worse(code, ANEMO_EXIT_INCORRECT) : code;
    code = report->regressions ? anemo_cli_worse(code, ANEMO_EXIT_TARGET) : code;
    code = report->failed ? anemo_cli_worse(code, ANEMO_EXIT_NOT_MEASURED) : code;
    return report->inconclusive && !report->warn ? anemo_cli_worse(code, ANEMO_EXIT_INCONCLUSIVE)
                                                 : code;
}

void gate_verdict_text(const gate_report *report, int32_t due, char *text, size_t text_bytes) {
    const anemo_compare_result *r = &report->outcome->results[due];
    if (r->status) {
        snprintf(text, text_bytes, "%s: %.380s", is_incorrect(r) ? "WRONG" : "NOT MEASURED",
                 r->error.text);
    } else if (!report->base->program[0]) {
        snprintf(text, text_bytes,
                 "INCONCLUSIVE: changed, and records were not measured together with this build");
    } else if (r->pairs < 1) {
        snprintf(text, text_bytes, "INCONCLUSIVE: interrupted before it was measured");
    } else {
        snprintf(text, text_bytes, "%s: %+.1f %% [%+.1f, %+.1f], %lld pairs",
                 anemo_compare_verdict_name(r->verdict), (r->ratio.value - 1) * 100,
                 (r->ratio.lo - 1) * 100, (r->ratio.hi - 1) * 100, (long long)r->pairs);
    }
}

static const char *op_of(const anemo_gate_case *c) {
    return c->variant ? anemo_op_name(c->variant->op) : "model";
}

/* ---------------------------------------------------------------- tables */

static anemo_table *due_table(const gate_report *report) {
    anemo_table *table = anemo_table_create("gate", "Changed code, base and head in turns");
    anemo_table_column(table, "case", "case");
    anemo_table_column(table, "op", "op");
    anemo_table_column(table, "variant", "variant");
    anemo_table_column(table, "verdict", "verdict");
    anemo_table_column(table, "ratio", "head / base");
    anemo_table_column(table, "ratio_lo", "95 % from");
    anemo_table_column(table, "ratio_hi", "to");
    anemo_table_column(table, "pairs", "pairs");
    anemo_table_column(table, "differs", "differs");
    anemo_table_column(table, "detectable", "detects");
    for (int32_t i = 0; i < report->outcome->n_due; i++) {
        const anemo_gate_case *c = report->outcome->due[i];
        const anemo_compare_result *r = &report->outcome->results[i];
        const bool shown = !r->status && r->pairs > 0;
        anemo_table_text(table, "%s", c->name);
        anemo_table_text(table, "%s", op_of(c));
        anemo_table_text(table, "%s", c->variant ? c->variant->name : "-");
        anemo_table_text(table, "%s",
                         is_incorrect(r) ? "WRONG"
                         : r->status     ? "NOT MEASURED"
                                         : anemo_compare_verdict_name(r->verdict));
        anemo_table_number(table, shown ? r->ratio.value : NAN, "%.4f");
        anemo_table_number(table, shown ? r->ratio.lo : NAN, "%.4f");
        anemo_table_number(table, shown ? r->ratio.hi : NAN, "%.4f");
        anemo_table_number(table, (double)r->pairs, "%.0f");
        anemo_table_flag(table, shown && r->differs);
        anemo_table_number(table, shown ? r->mde_regression : NAN, "%.3f");
    }
    return table;
}

static anemo_table *check_table(const gate_report *report) {
    anemo_table *table = anemo_table_create(
        "canaries", "Canaries: ratios at 99 % that must not leave the threshold");
    anemo_table_column(table, "trial", "trial");
    anemo_table_column(table, "case", "case");
    anemo_table_column(table, "ratio", "ratio");
    anemo_table_column(table, "ratio_lo", "99 % from");
    anemo_table_column(table, "ratio_hi", "to");
    anemo_table_column(table, "good", "good");
    for (int32_t i = 0; i < report->outcome->n_checks; i++) {
        const anemo_gate_check *check = &report->outcome->checks[i];
        anemo_table_text(table, "%s%s%s", trial_names[check->trial], check->status ? ": " : "",
                         check->status ? check->error.text : "");
        anemo_table_text(table, "%s", check->c->name);
        anemo_table_number(table, check->status ? NAN : check->ratio.value, "%.4f");
        anemo_table_number(table, check->status ? NAN : check->ratio.lo, "%.4f");
        anemo_table_number(table, check->status ? NAN : check->ratio.hi, "%.4f");
        anemo_table_flag(table, check->good);
    }
    return table;
}

/* Static figures: not times; equal or not. Only what changed, and what could not be compared. */
static anemo_table *static_table(const gate_report *report) {
    anemo_table *table = anemo_table_create("static", "Static: compared exactly, no performance");
    anemo_table_column(table, "what", "what");
    anemo_table_column(table, "base", "base");
    anemo_table_column(table, "head", "head");
    anemo_table_column(table, "skipped", "not compared because");
    for (int32_t i = 0; i < report->figures->n; i++) {
        const anemo_gate_figure *f = &report->figures->figure[i];
        const char *const texts[] = {f->skipped[0] ? "" : f->base, f->skipped[0] ? "" : f->head,
                                     f->skipped};
        anemo_table_text(table, "%s", f->what);
        for (int t = 0; t < 3; t++) {
            if (texts[t][0]) {
                anemo_table_text(table, "%s", texts[t]);
            } else {
                anemo_table_absent(table);
            }
        }
    }
    return table;
}

/* ---------------------------------------------------------------- the sentence */

static void print_sentence(const gate_report *r, FILE *out) {
    fprintf(out, "gate: %d measured, %d unchanged", r->measured, r->plan->n_unchanged);
    const struct {
        int32_t n;
        const char *what;
    } counts[] = {{r->regressions, "REGRESSION"},
                  {r->passes, "pass"},
                  {r->inconclusive, "inconclusive"},
                  {r->incorrect, "WRONG"},
                  {r->failed, "not measured"},
                  {r->plan->n_new, "new"},
                  {r->figures->different, "static figures differ"},
                  {r->bad_checks, "canaries left the threshold: this says nothing of the change"}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (counts[i].n) {
            fprintf(out, ", %d %s", counts[i].n, counts[i].what);
        }
    }
    fprintf(out, " (base %s, threshold %.3g %%)\n", r->base->what, r->rule->delta * 100);
}

static void print_guilty(const gate_report *report, FILE *out, const char *before) {
    char text[512];
    for (int32_t i = 0; i < report->outcome->n_due; i++) {
        const anemo_compare_result *r = &report->outcome->results[i];
        if (r->status || r->verdict == ANEMO_VERDICT_REGRESSION) {
            const anemo_gate_case *c = report->outcome->due[i];
            gate_verdict_text(report, i, text, sizeof text);
            fprintf(out, "%s%s %s (%s)\n", before, text, c->variant ? c->variant->name : "decode",
                    c->name);
        }
    }
}

void gate_print(const gate_report *report) {
    FILE *out = report->cli->out;
    anemo_table *tables[3];
    int32_t n = 0;
    const bool people =
        report->cli->format == ANEMO_FORMAT_TEXT || report->cli->format == ANEMO_FORMAT_MD;
    anemo_table *all[3] = {due_table(report), check_table(report), static_table(report)};
    for (int i = 0; i < 3; i++) {
        if (!people || anemo_table_rows(all[i]) > 0) {
            tables[n++] = all[i];
        }
    }
    anemo_table_print((const anemo_table *const *)tables, n, report->cli->format, out);
    for (int i = 0; i < 3; i++) {
        anemo_table_free(all[i]);
    }
    if (!people) {
        return;
    }
    if (n) {
        fputc('\n', out);
    }
    if (report->no_relinked && report->outcome->n_checks) {
        fputs("canary in another link order: left out, no anemo_relinked beside this program\n",
              out);
    }
    print_guilty(report, out, "");
    print_sentence(report, out);
}

/* ---------------------------------------------------------------- files */

static anemo_status written(FILE *file, const char *path, anemo_error *err) {
    const bool good = !ferror(file);
    return fclose(file) == 0 && good
               ? ANEMO_OK
               : anemo_fail(err, ANEMO_E_IO, "%s: cannot be written: %s", path, strerror(errno));
}

anemo_status gate_write_summary(const gate_report *report, int code, const char *path,
                                anemo_error *err) {
    FILE *out = fopen(path, "a");
    if (!out) {
        return anemo_fail(err, ANEMO_E_IO, "%s: %s", path, strerror(errno));
    }
    fprintf(out, "## anemo gate: %s\n\n",
            code == ANEMO_EXIT_OK             ? "passed"
            : code == ANEMO_EXIT_TARGET       ? "refused"
            : code == ANEMO_EXIT_INCORRECT    ? "wrong results"
            : code == ANEMO_EXIT_INCONCLUSIVE ? "inconclusive"
                                              : "not measured");
    print_sentence(report, out);
    fputc('\n', out);
    print_guilty(report, out, "- ");
    fputc('\n', out);
    anemo_table *all[3] = {due_table(report), check_table(report), static_table(report)};
    for (int i = 0; i < 3; i++) {
        if (anemo_table_rows(all[i]) > 0) {
            anemo_table_print((const anemo_table *const *)&all[i], 1, ANEMO_FORMAT_MD, out);
            fputc('\n', out);
        }
        anemo_table_free(all[i]);
    }
    return written(out, path, err);
}

static double seconds_of(const anemo_compare_result *r) {
    double sum = 0;
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; r->ns[side] && i < r->pairs; i++) {
            sum += r->ns[side][i];
        }
    }
    return sum * 1e-9;
}

static anemo_junit_outcome outcome_of(const gate_report *report,
                                      const anemo_compare_result *result) {
    return result->verdict == ANEMO_VERDICT_REGRESSION || is_incorrect(result) ? ANEMO_JUNIT_FAILURE
           : result->status                                                    ? ANEMO_JUNIT_ERROR
           : result->verdict == ANEMO_VERDICT_PASS                             ? ANEMO_JUNIT_PASSED
           : report->warn                                                      ? ANEMO_JUNIT_SKIPPED
                          : ANEMO_JUNIT_FAILURE;
}

static int32_t junit_cases(const gate_report *r, anemo_junit_case *cases) {
    int32_t n = 0;
    for (int32_t i = 0; i < r->plan->n; i++) {
        const anemo_gate_case *c = &r->plan->cases[i];
        if (c->state != ANEMO_GATE_DUE) {
            cases[n] = (anemo_junit_case){.group = op_of(c), .outcome = ANEMO_JUNIT_SKIPPED};
            snprintf(cases[n].name, sizeof cases[n].name, "%s", c->name);
            snprintf(cases[n++].message, sizeof cases->message, "%s",
                     c->state == ANEMO_GATE_NEW ? "new: the base has no such variant"
                                                : "unchanged: the same code in both builds");
        }
    }
    for (int32_t i = 0; i < r->outcome->n_due; i++) {
        const anemo_gate_case *c = r->outcome->due[i];
        const anemo_compare_result *result = &r->outcome->results[i];
        cases[n] = (anemo_junit_case){
            .group = op_of(c), .outcome = outcome_of(r, result), .seconds = seconds_of(result)};
        snprintf(cases[n].name, sizeof cases[n].name, "%s", c->name);
        gate_verdict_text(r, i, cases[n++].message, sizeof cases->message);
    }
    for (int32_t i = 0; i < r->figures->n; i++) { /* shown, never judged */
        const anemo_gate_figure *f = &r->figures->figure[i];
        cases[n] = (anemo_junit_case){
            .group = "static", .outcome = f->skipped[0] ? ANEMO_JUNIT_SKIPPED : ANEMO_JUNIT_PASSED};
        snprintf(cases[n].name, sizeof cases[n].name, "%s", f->what);
        if (f->skipped[0]) {
            snprintf(cases[n++].message, sizeof cases->message, "%s", f->skipped);
        } else {
            snprintf(cases[n++].message, sizeof cases->message, "base %s, head %s", f->base,
                     f->head);
        }
    }
    for (int32_t i = 0; i < r->outcome->n_checks; i++) {
        const anemo_gate_check *check = &r->outcome->checks[i];
        cases[n] = (anemo_junit_case){
            .group = "canary", .outcome = check->good ? ANEMO_JUNIT_PASSED : ANEMO_JUNIT_ERROR};
        snprintf(cases[n].name, sizeof cases[n].name, "%s: %s", trial_names[check->trial],
                 check->c->name);
        snprintf(cases[n++].message, sizeof cases->message, "%.500s",
                 check->status ? check->error.text
                 : check->good ? ""
                               : "the ratio left the threshold");
    }
    return n;
}

anemo_status gate_write_junit(const gate_report *report, const char *path, anemo_error *err) {
    const size_t most = (size_t)(report->plan->n + report->outcome->n_checks + report->figures->n);
    anemo_junit_case *cases = calloc(most, sizeof *cases);
    FILE *out = cases ? fopen(path, "w") : NULL;
    if (!out) {
        free(cases);
        return anemo_fail(err, ANEMO_E_IO, "%s: %s", path, strerror(errno));
    }
    anemo_junit_write(out, "anemo.gate", cases, junit_cases(report, cases));
    free(cases);
    return written(out, path, err);
}
