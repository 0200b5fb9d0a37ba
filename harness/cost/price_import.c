/* See price_import.h. Five lists, five readers: each only walks to a model and names where its
 * numbers stand; what a row needs is checked once, in add(). */
#include "harness/cost/price_import.h"

#include "harness/cost/date.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *anemo_price_format_name(anemo_price_format format) {
    static const char *const names[ANEMO_PRICES_FORMAT_COUNT] = {
        "litellm", "genai-prices", "models-dev", "llm-prices", "openrouter"};
    return names[format];
}

typedef struct import {
    anemo_reference *into;
    anemo_price_import_report *report;
    int32_t day;
    const char *source;
    bool no_memory;
} import;

/* A number, or a text that is one (OpenRouter), else NaN. */
static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (json_is_string(value)) {
        char *end;
        const char *text = json_string_value(value);
        double x = strtod(text, &end);
        return *text && !*end ? x : NAN;
    }
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static anemo_price blank(const import *im, const char *provider, const char *model) {
    anemo_price p = {.tier = "standard", .currency = "USD"};
    snprintf(p.provider, sizeof p.provider, "%s", provider ? provider : "");
    snprintf(p.model, sizeof p.model, "%s", model ? model : "");
    p.input = p.cached = p.write = p.output = NAN;
    p.batch_ratio = p.priority_ratio = p.region_eu = p.region_us = NAN;
    p.origin = (anemo_origin){
        .class_ = ANEMO_CLASS_PUBLISHED, .as_of = im->day, .from = INT32_MIN, .to = INT32_MAX};
    snprintf(p.origin.source, sizeof p.origin.source, "%s", im->source);
    return p;
}

static bool plausible(double price) {
    return price >= 0 && price < 100000;
}

static void add(import *im, const anemo_price *p) {
    anemo_reference *r = im->into;
    if (anemo_price_is_alias(p->model)) {
        im->report->aliases++;
        return;
    }
    if (!p->provider[0] || !p->model[0] || !plausible(p->input) || !plausible(p->output) ||
        (p->input == 0 && p->output == 0) || !(p->origin.from < p->origin.to)) {
        im->report->without_price++;
        return;
    }
    if ((r->n_prices & (r->n_prices - 1)) == 0) {
        void *more = realloc(r->price, (r->n_prices ? 2 * (size_t)r->n_prices : 1) * sizeof *p);
        if (!more) {
            im->no_memory = true;
            return;
        }
        r->price = more;
    }
    r->price[r->n_prices++] = *p;
    im->report->taken++;
}

static double ratio(double part, double whole) {
    double x = part / whole;
    return isfinite(x) && x > 0 ? x : NAN;
}

/* ---------------------------------------------------------------- litellm: USD per token */

static void litellm_bracket(import *im, const json_t *m, const anemo_price *base) {
    static const int brackets[] = {128, 200, 256, 272, 512};
    char key[80];
    for (size_t i = 0; i < sizeof brackets / sizeof *brackets; i++) {
        anemo_price p = *base;
        snprintf(key, sizeof key, "input_cost_per_token_above_%dk_tokens", brackets[i]);
        p.input = 1e6 * number(m, key);
        snprintf(key, sizeof key, "output_cost_per_token_above_%dk_tokens", brackets[i]);
        p.output = 1e6 * number(m, key);
        if (isnan(p.input) || isnan(p.output))
            continue;
        snprintf(key, sizeof key, "cache_read_input_token_cost_above_%dk_tokens", brackets[i]);
        p.cached = 1e6 * number(m, key);
        p.write = p.batch_ratio = p.priority_ratio = NAN;
        p.bracket = 1000.0 * brackets[i];
        add(im, &p);
    }
}

static bool import_litellm(import *im, const json_t *root) {
    const char *name;
    json_t *m;
    json_object_foreach((json_t *)root, name, m) {
        const char *mode = json_string_value(json_object_get(m, "mode"));
        if (strcmp(name, "sample_spec") == 0 || (mode && strcmp(mode, "chat") != 0))
            continue;
        const char *slash = strrchr(name, '/');
        anemo_price p = blank(im, json_string_value(json_object_get(m, "litellm_provider")),
                              slash ? slash + 1 : name);
        p.input = 1e6 * number(m, "input_cost_per_token");
        p.output = 1e6 * number(m, "output_cost_per_token");
        p.cached = 1e6 * number(m, "cache_read_input_token_cost");
        p.write = 1e6 * number(m, "cache_creation_input_token_cost");
        p.batch_ratio = ratio(1e6 * number(m, "input_cost_per_token_batches"), p.input);
        p.priority_ratio = ratio(1e6 * number(m, "input_cost_per_token_priority"), p.input);
        p.region_eu = number(m, "regional_processing_uplift_multiplier_eu");
        p.region_us = number(m, "regional_processing_uplift_multiplier_us");
        add(im, &p);
        litellm_bracket(im, m, &p);
    }
    return json_is_object(root);
}

/* ---------------------------------------------------------------- genai-prices: USD per million */

/* A price is a number, or {base, tiers: [{start, price}]}; tier -1 is the base. */
static double genai_price(const json_t *prices, const char *key, int tier, double *start) {
    const json_t *value = json_object_get(prices, key);
    if (!json_is_object(value))
        return tier < 0 ? number(prices, key) : NAN;
    if (tier < 0)
        return number(value, "base");
    const json_t *t = json_array_get(json_object_get(value, "tiers"), (size_t)tier);
    *start = number(t, "start");
    return number(t, "price");
}

static void genai_row(import *im, anemo_price p, const json_t *prices) {
    for (int tier = -1; tier < 4; tier++) {
        double start = 0;
        p.output = genai_price(prices, "output_mtok", tier, &start);
        p.cached = genai_price(prices, "cache_read_mtok", tier, &start);
        p.write = genai_price(prices, "cache_write_mtok", tier, &start);
        p.input = genai_price(prices, "input_mtok", tier, &start);
        p.bracket = start;
        if (tier < 0 || (!isnan(p.input) && start > 0))
            add(im, &p);
    }
}

static void genai_model(import *im, const char *provider, const json_t *m) {
    const json_t *prices = json_object_get(m, "prices"), *entry;
    anemo_price p = blank(im, provider, json_string_value(json_object_get(m, "id")));
    anemo_date_parse(json_string_value(json_object_get(m, "prices_checked")), &p.origin.as_of);
    if (!json_is_array(prices)) {
        genai_row(im, p, prices);
        return;
    }
    size_t i, n = json_array_size(prices);
    for (i = 0; i < n; i++) { /* each from its start date on, until the next one's */
        entry = json_array_get(prices, i);
        const json_t *rule = json_object_get(entry, "constraint");
        const json_t *later = json_object_get(json_array_get(prices, i + 1), "constraint");
        const char *from = json_string_value(json_object_get(rule, "start_date"));
        if (rule && !from)
            continue; /* by the time of day: no row of ours */
        p.origin.from = INT32_MIN;
        p.origin.to = INT32_MAX;
        anemo_date_parse(from, &p.origin.from);
        anemo_date_parse(json_string_value(json_object_get(later, "start_date")), &p.origin.to);
        genai_row(im, p, json_object_get(entry, "prices"));
    }
}

static bool import_genai(import *im, const json_t *root) {
    const json_t *providers = json_is_object(root) ? json_object_get(root, "providers") : root;
    size_t i, j;
    json_t *provider, *m;
    json_array_foreach((json_t *)providers, i, provider)
        json_array_foreach(json_object_get(provider, "models"), j, m)
            genai_model(im, json_string_value(json_object_get(provider, "id")), m);
    return json_is_array(providers);
}

/* ---------------------------------------------------------------- models.dev: USD per million */

static bool import_models_dev(import *im, const json_t *root) {
    const char *provider, *name;
    json_t *entry, *m;
    json_object_foreach((json_t *)root, provider, entry) {
        json_object_foreach(json_object_get(entry, "models"), name, m) {
            const json_t *cost = json_object_get(m, "cost");
            anemo_price p = blank(im, provider, name);
            p.input = number(cost, "input");
            p.output = number(cost, "output");
            p.cached = number(cost, "cache_read");
            p.write = number(cost, "cache_write");
            add(im, &p);
        }
    }
    return json_is_object(root);
}

/* ---------------------------------------------------------------- llm-prices: USD per million */

static bool import_llm_prices(import *im, const json_t *root) {
    const json_t *models = json_object_get(root, "models");
    const char *vendor = json_string_value(json_object_get(root, "vendor"));
    size_t i, j;
    json_t *m, *entry;
    json_array_foreach((json_t *)models, i, m)
        json_array_foreach(json_object_get(m, "price_history"), j, entry) {
        anemo_price p = blank(im, vendor, json_string_value(json_object_get(m, "id")));
        p.input = number(entry, "input");
        p.output = number(entry, "output");
        p.cached = number(entry, "input_cached");
        anemo_date_parse(json_string_value(json_object_get(entry, "from_date")), &p.origin.from);
        anemo_date_parse(json_string_value(json_object_get(entry, "to_date")), &p.origin.to);
        add(im, &p);
    }
    return vendor && json_is_array(models);
}

/* ---------------------------------------------------------------- OpenRouter: USD per token, text
 */

static bool import_openrouter(import *im, const json_t *root) {
    const json_t *models = json_object_get(root, "data");
    size_t i;
    json_t *m;
    json_array_foreach((json_t *)models, i, m) {
        const json_t *pricing = json_object_get(m, "pricing");
        anemo_price p = blank(im, "openrouter", json_string_value(json_object_get(m, "id")));
        p.input = 1e6 * number(pricing, "prompt");
        p.output = 1e6 * number(pricing, "completion");
        p.cached = 1e6 * number(pricing, "input_cache_read");
        p.write = 1e6 * number(pricing, "input_cache_write");
        add(im, &p);
    }
    return json_is_array(models);
}

/* ---------------------------------------------------------------- the whole */

anemo_status anemo_price_import(const char *path, anemo_price_format format, int32_t day,
                                const char *source, anemo_reference *into,
                                anemo_price_import_report *report, anemo_error *err) {
    static bool (*const readers[ANEMO_PRICES_FORMAT_COUNT])(import *, const json_t *) = {
        import_litellm, import_genai, import_models_dev, import_llm_prices, import_openrouter};
    json_error_t where;
    *report = (anemo_price_import_report){0};
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return anemo_fail(err, ANEMO_E_INPUT, "%s:%d: %s", path, where.line, where.text);
import im = {.into = into, .report = report, .day = day, .source = source };
    bool formed = readers[format](&im, root);
    json_decref(root);
    if (im.no_memory)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for prices");
    if (!formed || report->taken == 0)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: no price in it that is of the form of %s (%d aliases, %d models "
                          "without a price)",
                          path, anemo_price_format_name(format), report->aliases,
                          report->without_price);
    return ANEMO_OK;
}

static void set_number(json_t *object, const char *key, double value) {
    if (!isnan(value))
        json_object_set_new(object, key, json_real(value));
}

static void set_date(json_t *object, const char *key, int32_t day, int32_t absent) {
    char text[16];
    if (day == absent)
        return;
    anemo_date_text(day, text, sizeof text);
    json_object_set_new(object, key, json_string(text));
}

char *anemo_price_json(const anemo_price *p) {
    json_t *o = json_object();
    json_object_set_new(o, "schema_version", json_integer(1));
    json_object_set_new(o, "provider", json_string(p->provider));
    json_object_set_new(o, "model", json_string(p->model));
    json_object_set_new(o, "currency", json_string(p->currency));
    json_object_set_new(o, "unit", json_string("1M token"));
    json_object_set_new(o, "tier", json_string(p->tier));
    set_number(o, "context_over_tokens", p->bracket > 0 ? p->bracket : NAN);
    set_number(o, "input", p->input);
    set_number(o, "cached_input", p->cached);
    set_number(o, "cache_write", p->write);
    set_number(o, "output", p->output);
    set_number(o, "batch_ratio", p->batch_ratio);
    set_number(o, "priority_ratio", p->priority_ratio);
    set_number(o, "region_ratio_eu", p->region_eu);
    set_number(o, "region_ratio_us", p->region_us);
    set_date(o, "effective_from", p->origin.from, INT32_MIN);
    set_date(o, "effective_to", p->origin.to, INT32_MAX);
    json_object_set_new(o, "class", json_string(anemo_class_name(p->origin.class_)));
    set_date(o, "as_of", p->origin.as_of, INT32_MIN);
    json_object_set_new(o, "source", json_string(p->origin.source));
    char *text = json_dumps(o, JSON_REAL_PRECISION(12) | JSON_PRESERVE_ORDER);
    json_decref(o);
    return text;
}
