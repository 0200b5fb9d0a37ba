/* The driver: which layouts and variants, which cases, and what the report says.
 *
 * Case by case rather than variant by variant: the inputs of a case, its oracle and its reference
 * serve all variants of the op. */
#include "harness/check/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const check_op *const ops[] = {
#define CHECK_OP(name) &check_op_##name,
#include "harness/check/ops.inc"
#undef CHECK_OP
};
enum { OPS = sizeof ops / sizeof *ops };

/* ---------------------------------------------------------------- the report */

static void copy_text(char *to, size_t bytes, const char *text) {
    snprintf(to, bytes, "%s", text);
}

void check_session_take(check_session *session, anemo_check_line *line, const char *case_name,
                        anemo_check_verdict verdict, double error, const char *detail) {
    if (verdict == ANEMO_CHECK_REFUSED) {
        if (!line->refused++)
            copy_text(line->refusal, sizeof line->refusal, detail);
        session->report->cases_refused++;
    } else {
        line->run++;
        session->report->cases_run++;
        if (!(error <= line->error) || !line->worst[0]) {
            line->error = error;
            copy_text(line->worst, sizeof line->worst, case_name);
        }
    }
    if (verdict == ANEMO_CHECK_FAIL) {
        session->report->cases_failed++;
        if (!line->failed++)
            snprintf(line->detail, sizeof line->detail, "%s: %s", case_name, detail);
    }
    session->done++;
    const double share = (double)session->done / (double)session->total;
    const anemo_check_case result = {line->name, case_name, verdict,
                                     error,      detail,    share < 1 ? share : 1};
    if (session->observer && !session->observer(session->ctx, &result))
        session->stopped = true;
}

bool check_session_wants(const check_session *session, const char *case_name) {
    return !session->options->case_filter || strstr(case_name, session->options->case_filter);
}

/* Knuth's multiplicative hash: no stride that could fall in step with a grid's own. */
bool check_session_leaves_out(const check_session *session, int32_t index) {
    return session->options->quick && ((uint32_t)index * 2654435761u) >> 30 != 0;
}

static void close_line(check_session *session, anemo_check_line *line) {
    anemo_check_report *report = session->report;
    if (line->verdict == ANEMO_CHECK_SKIPPED) {
        report->skipped++;
        return;
    }
    line->verdict = line->failed ? ANEMO_CHECK_FAIL : ANEMO_CHECK_PASS;
    const bool all_cases = !session->options->case_filter && !session->stopped;
    if (line->run == 0 && all_cases) {
        line->verdict = ANEMO_CHECK_FAIL;
        snprintf(line->detail, sizeof line->detail, "refuses all %d cases, the first because: %s",
                 line->refused, line->refusal);
    } else if (line->reference && line->refused) {
        line->verdict = ANEMO_CHECK_FAIL;
        snprintf(line->detail, sizeof line->detail, "a reference must take every problem: %s",
                 line->refusal);
    }
    if (line->verdict == ANEMO_CHECK_PASS)
        report->passed++;
    else
        report->failed++;
}

/* ---------------------------------------------------------------- one op */

static bool runs_on(const check_session *session, const anemo_variant *variant, char *why,
                    size_t why_bytes) {
    if (variant->backend != anemo_device_backend(session->device)) {
        snprintf(why, why_bytes, "is for %s, and this run is on %s",
                 variant->backend == ANEMO_CUDA ? "CUDA" : "the CPU",
                 anemo_device_name(session->device));
        return false;
    }
    return anemo_variant_runs_here(variant, anemo_device_capability(session->device), why,
                                   why_bytes);
}

static void one_case(check_session *session, const check_op *op, void *fixture, const char *name,
                     check_expectations *expectations, anemo_check_line *line) {
    const anemo_variant *variant = anemo_variant_find(line->name);
    char why[160] = "";
    check_outcome outcome = {0};
    if (!anemo_variant_supports(variant, anemo_device_capability(session->device),
                                op->problem(fixture), why, sizeof why)) {
        check_session_take(session, line, name, ANEMO_CHECK_REFUSED, 0, why);
        return;
    }
    check_variant(session, op, fixture, expectations, variant, &outcome);
    check_session_take(session, line, name, outcome.failed ? ANEMO_CHECK_FAIL : ANEMO_CHECK_PASS,
                       outcome.error, outcome.detail);
}

static bool belongs(const anemo_check_line *line, anemo_op op) {
    return line->verdict != ANEMO_CHECK_SKIPPED && strcmp(line->kind, anemo_op_name(op)) == 0;
}

/* Case `index` for every line of the op; or, of the cases that a quick run leaves out, for the
 * lines that have run nothing yet. */
static anemo_status all_variants(check_session *session, const check_op *op, int32_t index,
                                 bool idle_only) {
    anemo_check_report *report = session->report;
    if (check_session_leaves_out(session, index) != idle_only)
        return ANEMO_OK;
    check_random random =
        check_random_seed(session->options->seed, (uint64_t)op->op, (uint64_t)index);
    char name[128] = "";
    void *fixture = op->create(index, &random, name, sizeof name);
    check_expectations *expectations = check_expectations_create();
    anemo_status status = fixture && expectations ? ANEMO_OK : ANEMO_E_MEMORY;
    const bool wanted = status == ANEMO_OK && check_session_wants(session, name);
    for (int32_t i = 0; wanted && i < report->n_lines && !session->stopped; i++) {
        anemo_check_line *line = &report->lines[i];
        if (belongs(line, op->op) && !(idle_only && line->run))
            one_case(session, op, fixture, name, expectations, line);
    }
    check_expectations_free(expectations);
    if (fixture)
        op->destroy(fixture);
    return status;
}

static bool any_idle(const anemo_check_report *report, anemo_op op) {
    for (int32_t i = 0; i < report->n_lines; i++)
        if (belongs(&report->lines[i], op) && report->lines[i].run == 0)
            return true;
    return false;
}

static bool any_of(const anemo_check_report *report, anemo_op op) {
    for (int32_t i = 0; i < report->n_lines; i++)
        if (belongs(&report->lines[i], op))
            return true;
    return false;
}

static anemo_status check_one_op(check_session *session, const check_op *op) {
    anemo_status status = ANEMO_OK;
    const int32_t n = any_of(session->report, op->op) ? op->count() : 0;
    for (int32_t i = 0; i < n && status == ANEMO_OK && !session->stopped; i++)
        status = all_variants(session, op, i, false);
    /* A quick run may have left out all that a narrow variant takes. */
    const bool more = session->options->quick && !session->options->case_filter;
    for (int32_t i = 0; more && i < n && status == ANEMO_OK && !session->stopped; i++)
        if (any_idle(session->report, op->op))
            status = all_variants(session, op, i, true);
    return status;
}

/* ---------------------------------------------------------------- all of it */

static bool matches(const anemo_check_options *options, const char *name) {
    return !options->filter || strstr(name, options->filter) != NULL;
}

/* For progress: an upper bound where cases are picked by name. */
static int64_t planned_cases(const check_session *session) {
    int64_t cases = 1;
    for (int32_t i = 0; i < session->report->n_lines; i++) {
        const anemo_check_line *line = &session->report->lines[i];
        if (strcmp(line->kind, "layout") == 0)
            cases += check_layout_cases();
        for (int j = 0; j < OPS; j++)
            if (belongs(line, ops[j]->op))
                cases += ops[j]->count();
    }
    return session->options->quick ? cases / 4 + 1 : cases;
}

static anemo_status make_lines(check_session *session, anemo_error *err) {
    anemo_check_report *report = session->report;
    const int32_t most = anemo_layout_count() + anemo_variant_count();
    report->lines = calloc((size_t)most + 1, sizeof *report->lines);
    if (!report->lines)
        return anemo_fail(err, ANEMO_E_MEMORY, "check: no memory for the report");
    for (int32_t i = 0; i < anemo_layout_count(); i++)
        if (matches(session->options, anemo_layout_at(i)->name))
            report->lines[report->n_lines++] =
                (anemo_check_line){.name = anemo_layout_at(i)->name, .kind = "layout"};
    for (int32_t i = 0; i < anemo_variant_count(); i++) {
        const anemo_variant *variant = anemo_variant_at(i);
        if (!matches(session->options, variant->name))
            continue;
        anemo_check_line *line = &report->lines[report->n_lines++];
        *line = (anemo_check_line){.name = variant->name,
                                   .kind = anemo_op_name(variant->op),
                                   .reference = variant->traits & ANEMO_TRAIT_REFERENCE};
        if (!runs_on(session, variant, line->detail, sizeof line->detail))
            line->verdict = ANEMO_CHECK_SKIPPED;
    }
    session->total = planned_cases(session);
    if (report->n_lines == 0)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "--filter '%s' matches no variant and no layout; 'anemo list variants' "
                          "names them",
                          session->options->filter ? session->options->filter : "");
    return ANEMO_OK;
}

/* One thread is the rule and the team the exception. Unless a number was asked for, the team has
 * one thread more than the caller's device, thus more than processors: work is then cut unevenly,
 * and OpenMP's workers do not spin between loops, which on a busy machine turns two seconds into
 * two minutes. For the same reason nobody is bound. */
static anemo_status make_devices(check_session *session, anemo_device *device, anemo_error *err) {
    const int32_t cores = anemo_device_exec(device).n_threads;
    const int32_t asked = session->options->threads, usual = cores > 1 ? cores + 1 : 3;
    anemo_status status = anemo_device_create_cpu(1, NULL, &session->one, err);
    const bool cpu = anemo_device_backend(device) == ANEMO_CPU;
    session->device = cpu ? session->one : device;
    if (status == ANEMO_OK && cpu)
        status = anemo_device_create_cpu(asked > 1 ? asked : usual, NULL, &session->team, err);
    return status;
}

static anemo_status check_all(check_session *session, anemo_error *err) {
    anemo_status status = ANEMO_OK;
    anemo_check_report *report = session->report;
    for (int32_t i = 0; i < report->n_lines && status == ANEMO_OK && !session->stopped; i++)
        if (strcmp(report->lines[i].kind, "layout") == 0)
            status =
                check_layout(session, anemo_layout_find(report->lines[i].name), &report->lines[i]);
    for (int i = 0; i < OPS && status == ANEMO_OK && !session->stopped; i++)
        status = check_one_op(session, ops[i]);
    if (status != ANEMO_OK)
        return anemo_fail(err, status, "check: no memory for a case");
    for (int32_t i = 0; i < report->n_lines; i++)
        close_line(session, &report->lines[i]);
    if (session->stopped)
        return anemo_fail(err, ANEMO_E_CANCELLED, "check: stopped");
    if (session->options->case_filter && report->cases_run + report->cases_refused == 0)
        return anemo_fail(err, ANEMO_E_INPUT, "--case '%s' matches no case",
                          session->options->case_filter);
    return ANEMO_OK;
}

anemo_status anemo_check_run(anemo_device *device, const anemo_check_options *options,
                             anemo_check_observer observer, void *ctx, anemo_check_report *report,
                             anemo_error *err) {
    check_session session = {
        .device = device, .options = options, .observer = observer, .ctx = ctx, .report = report};
    *report = (anemo_check_report){0};
    anemo_status status = make_devices(&session, device, err);
    if (status == ANEMO_OK)
        status = make_lines(&session, err);
    if (status == ANEMO_OK)
        status = check_all(&session, err);
    anemo_device_free(session.team);
    anemo_device_free(session.one);
    return status;
}

void anemo_check_report_free(anemo_check_report *report) {
    free(report->lines);
    *report = (anemo_check_report){0};
}
