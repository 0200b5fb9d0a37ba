/* One number of a scenario: value, range, unit, origin. See scenario.h.
 *
 * A number is an object {value, low, high, shape, unit, class, as_of, source}, of which only value
 * is a must, or, where no money is in its unit, a bare number. What names no origin has the
 * scenario's own. Money must name its unit, so that per 1k and per 1M tokens cannot be mixed up,
 * and another currency is exchanged at the dated rate of site.jsonl. */
#include "harness/cost/date.h"
#include "harness/cost/scenario_internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void scenario_refuse(scenario_reader *r, const char *format, ...) {
    char sentence[440];
    va_list list;
    va_start(list, format);
    vsnprintf(sentence, sizeof sentence, format, list);
    va_end(list);
    if (r->status == ANEMO_OK)
        r->status = anemo_fail(r->err, ANEMO_E_INPUT, "%s: %s", r->path, sentence);
}

void scenario_warn(scenario_reader *r, const char *format, ...) {
    anemo_cost_scenario *s = r->s;
    if (s->n_warnings == ANEMO_COST_WARNINGS)
        return;
    va_list list;
    va_start(list, format);
    vsnprintf(s->warning[s->n_warnings++], sizeof *s->warning, format, list);
    va_end(list);
}

void scenario_keys(scenario_reader *r, const json_t *object, const char *where, const char *known) {
    const char *key;
    json_t *value;
    if (!json_is_object(object)) {
        scenario_refuse(r, "%s is missing, or not an object", where);
        return;
    }
    json_object_foreach((json_t *)object, key, value) {
        size_t n = strlen(key);
        const char *at = known;
        while ((at = strstr(at, key)) &&
               !((at == known || at[-1] == ' ') && (at[n] == ' ' || at[n] == 0)))
            at++;
        if (!at || n == 0)
            scenario_refuse(r, "%s: '%.60s' is not one of its keys: %s", where, key, known);
    }
}

void scenario_text(scenario_reader *r, const json_t *object, const char *where, const char *key,
                   char *text, size_t bytes, bool needed) {
    const json_t *value = json_object_get(object, key);
    const char *s = json_string_value(value);
    text[0] = 0;
    if (!value && !needed)
        return;
    if (!s || !*s || strlen(s) >= bytes)
        scenario_refuse(r, "%s.%s is missing, or not a text of 1 to %zu bytes", where, key,
                        bytes - 1);
    else
        memcpy(text, s, strlen(s) + 1);
}

double scenario_plain(scenario_reader *r, const json_t *object, const char *where, const char *key,
                      double least, double most, double absent) {
    const json_t *value = json_object_get(object, key);
    if (!value)
        return absent;
    double x = json_number_value(value);
    if (!json_is_number(value))
        scenario_refuse(r, "%s.%s is not a number", where, key);
    else if (!(x >= least && x <= most))
        scenario_refuse(r, "%s.%s is %g; accepted is %g to %g", where, key, x, least, most);
    return x;
}

anemo_origin scenario_origin(scenario_reader *r, const json_t *object, const char *where) {
    anemo_origin o = r->origin;
    const json_t *class_ = json_object_get(object, "class"),
                 *as_of = json_object_get(object, "as_of");
    if (class_ && !anemo_class_parse(json_string_value(class_), &o.class_))
        scenario_refuse(r,
                        "%s.class is none of measured, quoted, published, asking, assumed, "
                        "projected",
                        where);
    if (as_of && !anemo_date_parse(json_string_value(as_of), &o.as_of))
        scenario_refuse(r, "%s.as_of is not a date such as 2026-09-01", where);
    if (json_object_get(object, "source"))
        scenario_text(r, object, where, "source", o.source, sizeof o.source, true);
    return o;
}

double scenario_exchange(scenario_reader *r, const char *from) {
    const char *to = r->s->currency;
    double rate[2] = {1, 1};
    const char *code[2] = {from, to};
    if (strcmp(from, to) == 0)
        return 1;
    for (int i = 0; i < 2; i++) {
        if (strcmp(code[i], "USD") == 0)
            continue;
        const anemo_fact *f = anemo_fact_find(r->reference, code[i], "rate", r->s->day);
        if (!f) {
            scenario_refuse(r,
                            "no exchange rate of the currency '%.10s' is known; add a row with "
                            "subject %.10s, what rate, unit USD/%.10s to site.jsonl",
                            code[i], code[i], code[i]);
            return NAN;
        }
        char day[16];
        anemo_date_text(f->origin.as_of, day, sizeof day);
        rate[i] = f->value;
        bool told = false;
        char text[240];
        snprintf(text, sizeof text, "exchange rate: 1 %s = %g USD (%s, %s: %.100s)", code[i],
                 f->value, anemo_class_name(f->origin.class_), day, f->origin.source);
        for (int32_t k = 0; k < r->s->n_warnings; k++)
            told |= strcmp(r->s->warning[k], text) == 0;
        if (!told)
            scenario_warn(r, "%s", text);
    }
    return rate[0] / rate[1];
}

/* The unit of the scenario's number against the model's; money: the factor to our currency. */
static double unit_factor(scenario_reader *r, const anemo_cost_number *n, const char *unit) {
    char code[4] = "";
    if (strcmp(unit, n->unit) == 0)
        return 1;
    bool money = strncmp(n->unit, r->s->currency, 3) == 0 && n->unit[3] == '/';
    const char *rest = n->unit + 3;
    if (money && strlen(unit) > 3 && strcmp(unit + 3, rest) == 0) {
        memcpy(code, unit, 3);
        return scenario_exchange(r, code);
    }
    scenario_refuse(r, "%s: unit is '%.30s'; it is counted in %s", n->key, unit, n->unit);
    return NAN;
}

static void read_shape(scenario_reader *r, const json_t *value, anemo_cost_number *n) {
    static const char *const names[] = {"fixed", "uniform", "triangular", "lognormal"};
    const json_t *asked = json_object_get(value, "shape");
    n->shape = n->low < n->high ? ANEMO_SHAPE_TRIANGULAR : ANEMO_SHAPE_FIXED;
    if (!asked)
        return;
    for (int i = 0; i < 4; i++)
        if (json_is_string(asked) && strcmp(json_string_value(asked), names[i]) == 0) {
            if ((i == ANEMO_SHAPE_FIXED) != !(n->low < n->high))
                scenario_refuse(r, "%s: shape %s does not go with low %g and high %g", n->key,
                                names[i], n->low, n->high);
            if (i == ANEMO_SHAPE_LOGNORMAL && !(n->low > 0 && n->low < n->value))
                scenario_refuse(r, "%s: a lognormal needs 0 < low < value < high", n->key);
            n->shape = (anemo_shape)i;
            return;
        }
    scenario_refuse(r, "%s: shape is none of fixed, uniform, triangular, lognormal", n->key);
}

void scenario_number(scenario_reader *r, const json_t *value, int32_t index) {
    anemo_cost_number *n = &r->s->number[index];
    double factor = 1;
    bool money = strncmp(n->unit, r->s->currency, 3) == 0 && n->unit[3] == '/';
    n->origin = r->origin;
    n->from_reference = false;
    if (json_is_number(value)) {
        n->value = n->low = n->high = json_number_value(value);
        if (money)
            scenario_refuse(r, "%s is a bare number; money needs {\"value\": %g, \"unit\": \"%s\"}",
                            n->key, n->value, n->unit);
    } else {
        scenario_keys(r, value, n->key, "value low high shape unit class as_of source note");
        const json_t *v = json_object_get(value, "value");
        const char *unit = json_string_value(json_object_get(value, "unit"));
        if (!json_is_number(v))
            scenario_refuse(r, "%s.value is missing, or not a number", n->key);
        if (money && !unit)
            scenario_refuse(r, "%s.unit is missing; expected %s", n->key, n->unit);
        if (unit)
            factor = unit_factor(r, n, unit);
        n->value = json_number_value(v);
        n->low = scenario_plain(r, value, n->key, "low", -1e15, n->value, n->value);
        n->high = scenario_plain(r, value, n->key, "high", n->value, 1e15, n->value);
        n->origin = scenario_origin(r, value, n->key);
    }
    n->value *= factor;
    n->low *= factor;
    n->high *= factor;
    read_shape(r, value, n);
    if (!(n->low >= n->least && n->high <= n->most))
        scenario_refuse(r, "%s is %g (%g to %g); accepted is %g to %g %s", n->key, n->value, n->low,
                        n->high, n->least, n->most, n->unit);
}
