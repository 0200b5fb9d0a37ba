/* A test case for each record: what is wrong, slower, or missed its target is a failure; what could
 * not be measured, or is INVALID, an error; what was left out or is undecided, skipped. */
#include "harness/record/export_internal.h"
#include "harness/record/junit.h"

#include <stdlib.h>
#include <string.h>

static bool is(const anemo_record *record, const char *key, const char *value) {
    return strcmp(export_text(record, NULL, key), value) == 0;
}

static anemo_junit_outcome outcome_of(const anemo_record *record) {
    const char *validity = export_text(record, "validity", "verdict");
    if (is(record, "status", "incorrect") || is(record, "verdict", "REGRESSION") ||
        is(record, "judged", "missed")) {
        return ANEMO_JUNIT_FAILURE;
    }
    if (is(record, "status", "failed") || strcmp(validity, "INVALID") == 0) {
        return ANEMO_JUNIT_ERROR;
    }
    return export_passed(record) && !is(record, "verdict", "INCONCLUSIVE") &&
                   !is(record, "judged", "undecided")
               ? ANEMO_JUNIT_PASSED
               : ANEMO_JUNIT_SKIPPED;
}

/* "missed: time 0.00123 s [0.0012, 0.0013], n 50; WEAK: one-occasion" */
static void message_of(const anemo_record *record, char *text, size_t text_bytes) {
    static const char *const words[] = {"verdict", "judged", "why"};
    anemo_metric metric;
    const char *reason;
    size_t used = 0;
#define SAY(...)                                                                                   \
    do {                                                                                           \
        const int said = snprintf(text + used, text_bytes - used, __VA_ARGS__);                    \
        used =                                                                                     \
            said > 0 && used + (size_t)said < text_bytes ? used + (size_t)said : text_bytes - 1;   \
    } while (0)
    text[0] = '\0';
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *word = export_text(record, NULL, words[i]);
        if (*word) {
            SAY("%s%.200s", used ? ": " : "", word);
        }
    }
    if (anemo_record_get_metric(record, 0, &metric)) {
        SAY("%s%.60s %.6g %.20s [%.6g, %.6g], n %lld", used ? ": " : "", metric.name, metric.value,
            metric.unit, metric.lo, metric.hi, (long long)metric.n);
    }
    SAY("%s%.20s", used ? "; " : "", export_text(record, "validity", "verdict"));
    for (size_t i = 0; (reason = anemo_record_get_reason(record, i)); i++) {
        SAY("%s%.40s", i ? ", " : ": ", reason);
    }
#undef SAY
}

/* What the samples of its time took together; without them, as many times the median. */
static anemo_status seconds_of(const anemo_record *record, double *seconds, anemo_error *err) {
    anemo_metric time;
    double *samples;
    int64_t n;
    *seconds = 0;
    const anemo_status status = export_samples(record, "time", &samples, &n, err);
    for (int64_t i = 0; i < n; i++) {
        *seconds += samples[i];
    }
    if (!status && n == 0 && anemo_record_find_metric(record, "time", &time)) {
        *seconds = time.value * (double)time.n;
    }
    free(samples);
    return status;
}

anemo_status anemo_export_junit(anemo_record *const *records, int64_t n, FILE *out,
                                anemo_export_report *report, anemo_error *err) {
    anemo_junit_case *cases = calloc((size_t)(n ? n : 1), sizeof *cases);
    anemo_status status =
        cases ? ANEMO_OK
              : anemo_fail(err, ANEMO_E_MEMORY, "no memory for %lld test cases", (long long)n);
    *report = (anemo_export_report){0};
    for (int64_t i = 0; !status && i < n; i++) {
        const anemo_record *r = records[i];
        anemo_junit_case *c = &cases[report->exported++];
        const char *variant = export_text(r, "solution", "variant");
        c->group = export_text(r, "case", "op");
        c->group = *c->group ? c->group : export_text(r, NULL, "kind");
        c->outcome = outcome_of(r);
        snprintf(c->name, sizeof c->name, "%.220s%s%.90s", export_text(r, "case", "name"),
                 *variant ? " " : "", variant);
        message_of(r, c->message, sizeof c->message);
        status = seconds_of(r, &c->seconds, err);
    }
    if (!status) {
        anemo_junit_write(out, "anemo", cases, report->exported);
    }
    free(cases);
    return status;
}
