/* See cost_line.h. The range over all assumptions is taken at their ends: the cost is monotone in
 * each of them, so the ends of the range are at ends of the inputs. */
#include "harness/cost/cost_line.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SCHEMA         1
#define HOURS_PER_YEAR 8760.0
/* A composed run that predicts its own largest measurement worse than this is no basis. */
#define COMPOSITION_ERROR_MAX 0.25
#define SECONDS_PER_YEAR      (3600.0 * HOURS_PER_YEAR)

static const struct {
    const char *key, *name;
} inputs[ANEMO_COST_INPUT_COUNT] = {
#define ANEMO_COST_ROW(id, key, name) {key, name},
    ANEMO_COST_INPUTS(ANEMO_COST_ROW)
#undef ANEMO_COST_ROW
};

/* ---------------------------------------------------------------- assumptions */

static bool copy_text(const json_t *object, const char *key, char *text, size_t text_bytes) {
    const char *value = json_string_value(json_object_get(object, key));
    if (!value || !*value || strlen(value) >= text_bytes)
        return false;
    memcpy(text, value, strlen(value) + 1);
    return true;
}

static anemo_status read_input(const char *path, const json_t *all, int id, anemo_cost_input *out,
                               anemo_error *err) {
    const json_t *from = json_object_get(all, inputs[id].key);
    const json_t *value = json_object_get(from, "value"), *low = json_object_get(from, "low"),
                 *high = json_object_get(from, "high");
    out->name = inputs[id].name;
    if (!json_is_number(value) || !json_is_number(low) || !json_is_number(high))
        return anemo_fail(err, ANEMO_E_INPUT, "%s: inputs.%s needs the numbers value, low and high",
                          path, inputs[id].key);
    out->value = json_number_value(value);
    out->low = json_number_value(low);
    out->high = json_number_value(high);
    bool positive = id == ANEMO_COST_RATE ? out->low >= 0 : out->low > 0;
    if (!positive || !(out->low <= out->value && out->value <= out->high))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: inputs.%s: expected 0 < low <= value <= high, found %g, %g, %g",
                          path, inputs[id].key, out->low, out->value, out->high);
    if (id == ANEMO_COST_UTILISATION && out->high > 1)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: inputs.utilisation.high is %g; at most 1", path,
                          out->high);
    if (!copy_text(from, "unit", out->unit, sizeof out->unit) ||
        !copy_text(from, "class", out->class_name, sizeof out->class_name) ||
        !copy_text(from, "as_of", out->as_of, sizeof out->as_of) ||
        !copy_text(from, "source", out->source, sizeof out->source))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: inputs.%s needs the texts unit, class, as_of (15 bytes at most) and "
                          "source (319)",
                          path, inputs[id].key);
    return ANEMO_OK;
}

anemo_status anemo_cost_assumptions_read(const char *path, anemo_cost_assumptions *out,
                                         anemo_error *err) {
    json_error_t where;
    *out = (anemo_cost_assumptions){0};
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return anemo_fail(err, ANEMO_E_INPUT, "%s:%d: %s", path, where.line, where.text);
    anemo_status status = ANEMO_OK;
    if (json_integer_value(json_object_get(root, "schema_version")) != SCHEMA)
        status = anemo_fail(err, ANEMO_E_INPUT, "%s: schema_version is not %d", path, SCHEMA);
    else if (!copy_text(root, "currency", out->currency, sizeof out->currency))
        status = anemo_fail(err, ANEMO_E_INPUT,
                            "%s: currency is missing; a code such as USD is expected", path);
    for (int id = 0; id < ANEMO_COST_INPUT_COUNT && status == ANEMO_OK; id++)
        status = read_input(path, json_object_get(root, "inputs"), id, &out->input[id], err);
    json_decref(root);
    return status;
}

/* ---------------------------------------------------------------- the line */

typedef struct cost_parts {
    double price, watts, yearly_capital, yearly_energy, per_million;
} cost_parts;

/* x: one number per assumption. */
static cost_parts compute(const double *x, double cores, double tokens_per_s) {
    cost_parts c = {.price = x[ANEMO_COST_PRICE] * cores, .watts = x[ANEMO_COST_WATTS] * cores};
    c.yearly_capital =
        c.price * anemo_cost_capital_recovery(x[ANEMO_COST_RATE], x[ANEMO_COST_YEARS]);
    c.yearly_energy = c.watts / 1000 * HOURS_PER_YEAR * x[ANEMO_COST_PUE] * x[ANEMO_COST_KWH];
    double tokens = tokens_per_s * x[ANEMO_COST_UTILISATION] * SECONDS_PER_YEAR;
    c.per_million = (c.yearly_capital + c.yearly_energy) / tokens * 1e6;
    return c;
}

/* Long use and high utilisation are cheap, the rest is cheap when low. */
static double cheap_end(const anemo_cost_input *input, int id) {
    return id == ANEMO_COST_YEARS || id == ANEMO_COST_UTILISATION ? input->high : input->low;
}

static double dear_end(const anemo_cost_input *input, int id) {
    return id == ANEMO_COST_YEARS || id == ANEMO_COST_UTILISATION ? input->low : input->high;
}

static anemo_status refuse(const anemo_record *record, anemo_metric *rate, anemo_error *err) {
    const char *kind = anemo_record_get_text(record, NULL, "kind");
    const char *status = anemo_record_get_text(record, NULL, "status");
    const char *verdict = anemo_record_get_text(record, "validity", "verdict");
    const char *backend = anemo_record_get_text(record, "solution", "backend");
    const char *id = anemo_record_get_text(record, NULL, "id");
    if (strcmp(kind, "model") != 0)
        return anemo_fail(err, ANEMO_E_INPUT, "record %s: is of a %s; cost needs a model", id,
                          kind);
    if (anemo_record_get_flag(record, NULL, "demo") &&
        !anemo_record_get_flag(record, "case", "composed"))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "record %s: is of the embedded default model, which nobody would buy a "
                          "machine for; no cost is computed from it",
                          id);
    if (strcmp(status, "passed") != 0 || strcmp(verdict, "INVALID") == 0)
        return anemo_fail(err, ANEMO_E_INPUT, "record %s: is %s and %s; no cost from it", id,
                          status, verdict);
    if (!backend || strcmp(backend, "cpu") != 0)
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "record %s: ran on %s; the first cost line knows prices per CPU core only", id,
            backend ? backend : "an unnamed device");
    if (!anemo_record_find_metric(record, "throughput", rate) ||
        strcmp(rate->unit, "token/s") != 0 || !(rate->lo > 0))
        return anemo_fail(err, ANEMO_E_INPUT, "record %s: has no throughput in token/s above 0",
                          id);
    anemo_metric error;
    if (anemo_record_find_metric(record, "composition_error", &error) &&
        !(fabs(error.value) <= COMPOSITION_ERROR_MAX))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "record %s: the composition missed its own test by %.0f %% (at most %.0f "
                          "%% for a cost): measure again with nothing else running",
                          id, 100 * fabs(error.value), 100 * COMPOSITION_ERROR_MAX);
    if (!(anemo_record_get_integer(record, "machine", "cores") > 0))
        return anemo_fail(err, ANEMO_E_INPUT, "record %s: machine.cores is missing", id);
    return ANEMO_OK;
}

static void name_line(const anemo_record *record, anemo_cost_line *out) {
    const char *model = anemo_record_get_text(record, "case", "model");
    const char *weights = anemo_record_get_text(record, "solution", "weights");
    const char *machine = anemo_record_get_text(record, "machine", "id");
    snprintf(out->model, sizeof out->model, "%s", model ? model : "");
    snprintf(out->weights, sizeof out->weights, "%s", weights ? weights : "");
    snprintf(out->machine, sizeof out->machine, "%s", machine ? machine : "");
    out->batch = anemo_record_get_integer(record, "case", "batch");
    out->composed = anemo_record_get_flag(record, "case", "composed");
}

anemo_status anemo_cost_line_make(const anemo_record *record,
                                  const anemo_cost_assumptions *assumptions, anemo_cost_line *out,
                                  anemo_error *err) {
    anemo_metric rate;
    double value[ANEMO_COST_INPUT_COUNT], cheap[ANEMO_COST_INPUT_COUNT];
    double dear[ANEMO_COST_INPUT_COUNT], widest = 0;
    anemo_status status = refuse(record, &rate, err);
    if (status != ANEMO_OK)
        return status;
    *out = (anemo_cost_line){.tokens_per_s = rate.value,
                             .cores = anemo_record_get_integer(record, "machine", "cores")};
    name_line(record, out);
    double cores = (double)out->cores;
    for (int id = 0; id < ANEMO_COST_INPUT_COUNT; id++) {
        const anemo_cost_input *input = &assumptions->input[id];
        value[id] = input->value;
        cheap[id] = cheap_end(input, id);
        dear[id] = dear_end(input, id);
    }
    cost_parts c = compute(value, cores, rate.value);
    out->price = c.price;
    out->watts = c.watts;
    out->yearly_capital = c.yearly_capital;
    out->yearly_energy = c.yearly_energy;
    out->per_million = c.per_million;
    out->measured_lo = compute(value, cores, rate.hi).per_million;
    out->measured_hi = compute(value, cores, rate.lo).per_million;
    out->lo = compute(cheap, cores, rate.hi).per_million;
    out->hi = compute(dear, cores, rate.lo).per_million;
    for (int id = 0; id < ANEMO_COST_INPUT_COUNT; id++) {
        double kept = value[id];
        value[id] = cheap[id];
        double lo = compute(value, cores, rate.value).per_million;
        value[id] = dear[id];
        double hi = compute(value, cores, rate.value).per_million;
        value[id] = kept;
        if (hi - lo > widest) {
            widest = hi - lo;
            out->decisive = (anemo_cost_input_id)id;
            out->decisive_lo = lo;
            out->decisive_hi = hi;
        }
    }
    return ANEMO_OK;
}
