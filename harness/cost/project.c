#include "harness/cost/project.h"

#include "models/engine.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SD_WITHIN_ARCHITECTURE 0.15 /* of ln time; assumed, no two kinds were measured yet */
#define BF16_BYTES             2.0

static bool known(const anemo_reference *r, const char *subject, const char *what, int32_t day,
                  double *value) {
    const anemo_fact *f = anemo_fact_find(r, subject, what, day);
    *value = f ? f->value : NAN;
    return f && f->value > 0;
}

anemo_status anemo_project_kind(const anemo_reference *reference, const char *subject, int32_t day,
                                anemo_machine_kind *out, anemo_error *err) {
    static const char *const rows[][2] = {
        {"bandwidth", "byte/s"}, {"peak_bf16", "op/s"}, {"architecture", "1"}};
    double value[3];
    for (int i = 0; i < 3; i++)
        if (!known(reference, subject, rows[i][0], day, &value[i]))
            return anemo_fail(err, ANEMO_E_INPUT,
                              "nothing is known of '%.60s' to project with; add a row with subject "
                              "%.60s, what %s, unit %s to machines.jsonl",
                              subject, subject, rows[i][0], rows[i][1]);
    *out =
        (anemo_machine_kind){.read = value[0], .peak = value[1], .architecture = (int32_t)value[2]};
    snprintf(out->name, sizeof out->name, "%s", subject);
    known(reference, subject, "memory", day, &out->memory);
    known(reference, subject, "cores", day, &out->cores);
    return ANEMO_OK;
}

anemo_status anemo_project_allowed(const anemo_machine_kind *from, const anemo_machine_kind *to,
                                   anemo_error *err) {
    if (strcmp(from->name, to->name) == 0)
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "%s is the machine kind that was measured; there is nothing to project",
                          to->name);
    if (isnan(from->cores) != isnan(to->cores))
        return anemo_fail(
            err, ANEMO_E_UNSUPPORTED,
            "records of a %s say nothing about a %s (%s, %s): measure it: anemo bench "
            "model MODEL --record FILE",
            isnan(from->cores) ? "GPU" : "CPU", isnan(to->cores) ? "GPU" : "CPU", from->name,
            to->name);
    if (from->architecture != to->architecture)
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "one measured kind, %s (architecture %" PRId32
                          "), cannot calibrate another architecture, %s (%" PRId32
                          "): rent one for an hour and run: anemo bench model MODEL --record FILE",
                          from->name, from->architecture, to->name, to->architecture);
    return ANEMO_OK;
}

double anemo_project_sd(const anemo_machine_kind *from, const anemo_machine_kind *to) {
    double misjudged = log((to->peak / from->peak) / (to->read / from->read)) / 2;
    return hypot(SD_WITHIN_ARCHITECTURE, misjudged);
}

/* ---------------------------------------------------------------- one record */

static double positive(const anemo_record *r, const char *section, const char *key, double absent) {
    double x = anemo_record_get_number(r, section, key);
    return x > 0 ? x : absent;
}

static double factor_at(double intensity, const anemo_machine_kind *from,
                        const anemo_machine_kind *to) {
    return fmax(1 / to->read, intensity / to->peak) / fmax(1 / from->read, intensity / from->peak);
}

typedef struct step {
    bool prefill;
    double rows, rows_of_one_expert, weight_bytes; /* bytes of one weight */
} step;

static step step_of(const anemo_record *r) {
    anemo_metric m;
    step s = {.prefill = anemo_record_find_metric(r, "ttft", &m)};
    double prompt = (double)anemo_record_get_integer(r, "case", "prompt_tokens");
    double chunk = (double)anemo_record_get_integer(r, "case", "chunk_tokens");
    double all = positive(r, "case", "weight_bytes", NAN);
    s.rows = s.prefill ? (chunk > 0 ? fmin(prompt, chunk) : prompt)
                       : (double)anemo_record_get_integer(r, "case", "batch");
    s.rows_of_one_expert = s.rows * positive(r, "case", "active_weight_bytes", all) / all;
    if (isnan(s.rows_of_one_expert))
        s.rows_of_one_expert = s.rows;
    s.weight_bytes = all / positive(r, "case", "parameters", NAN);
    if (isnan(s.weight_bytes))
        s.weight_bytes = BF16_BYTES;
    return s;
}

/* Operations per byte of a class; INFINITY: it computes; 0: it waits for memory. */
static double intensity_of(const step *s, anemo_phase_class class) {
    switch (class) {
    case ANEMO_PHASE_CLASS_QKV:
    case ANEMO_PHASE_CLASS_ATTENTION_OUT:
    case ANEMO_PHASE_CLASS_ROUTER:
        return 2 * s->rows / s->weight_bytes;
    case ANEMO_PHASE_CLASS_EXPERTS:
        return 2 * s->rows_of_one_expert / s->weight_bytes;
    case ANEMO_PHASE_CLASS_OUTPUT: /* of the prompt, the last position only */
        return 2 * (s->prefill ? 1 : s->rows) / s->weight_bytes;
    case ANEMO_PHASE_CLASS_ATTENTION:
        return s->prefill ? 1e30 : 0;
    default:
        return 0;
    }
}

static anemo_status same_kind(const anemo_record *r, const anemo_machine_kind *from,
                              anemo_error *err) {
    int64_t gpu = anemo_record_get_integer(r, "machine", "gpu_capability");
    int64_t cpu = 256 * anemo_record_get_integer(r, "machine", "family") +
                  anemo_record_get_integer(r, "machine", "model");
    int64_t architecture = isnan(from->cores) ? gpu : cpu;
    int64_t sockets = anemo_record_get_integer(r, "machine", "sockets");
    int64_t cores = anemo_record_get_integer(r, "machine", "cores");
    if (architecture != from->architecture || (!isnan(from->cores) && gpu > 0))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "record %s is not of a %s: its architecture is %" PRId64 ", not %" PRId32,
                          anemo_record_get_text(r, NULL, "id"), from->name, architecture,
                          from->architecture);
    if (!isnan(from->cores) && (double)cores != from->cores * (double)sockets)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "record %s was made on %" PRId64
                          " cores; a whole %s has %.0f, and a part of a "
                          "machine says too little about it",
                          anemo_record_get_text(r, NULL, "id"), cores, from->name, from->cores);
    return ANEMO_OK;
}

anemo_status anemo_project_record(const anemo_record *record, const anemo_machine_kind *from,
                                  const anemo_machine_kind *to, double *factor, anemo_error *err) {
    anemo_status status = same_kind(record, from, err);
    double resident = positive(record, "solution", "resident_bytes", 0), sum = 0, whole = 0;
    if (status != ANEMO_OK)
        return status;
    if (resident > to->memory)
        return anemo_fail(err, ANEMO_E_UNSUPPORTED, "%.3g GB do not fit the %.3g GB of a %s",
                          resident / 1e9, to->memory / 1e9, to->name);
    const step s = step_of(record);
    for (int c = 0; c < ANEMO_PHASE_CLASS_COUNT; c++) {
        char name[48];
        anemo_metric m;
        snprintf(name, sizeof name, "ledger/%s", anemo_phase_class_name((anemo_phase_class)c));
        if (!anemo_record_find_metric(record, name, &m))
            continue;
        whole += m.value;
        sum += m.value * (c == ANEMO_PHASE_CLASS_HOST
                              ? 1
                              : factor_at(intensity_of(&s, (anemo_phase_class)c), from, to));
    }
    *factor =
        whole > 0 ? sum / whole : factor_at(intensity_of(&s, ANEMO_PHASE_CLASS_EXPERTS), from, to);
    return ANEMO_OK;
}
