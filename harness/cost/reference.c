/* See reference.h. One row is one line; a list of keys each with its place in the struct does the
 * reading, so that what is not in the list is refused. */
#include "harness/cost/reference.h"

#include "harness/cost/date.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA     1
#define LINE_MAX_  65536
#define ROWS_MAX   100000
#define PRICE_MOST 100000.0

static const char *const class_names[ANEMO_SOURCE_CLASSES] = {"measured", "quoted",  "published",
                                                              "asking",   "assumed", "projected"};

const char *anemo_class_name(anemo_class class_) {
    return class_names[class_];
}

bool anemo_class_parse(const char *text, anemo_class *class_) {
    for (int i = 0; i < ANEMO_SOURCE_CLASSES; i++)
        if (text && strcmp(text, class_names[i]) == 0) {
            *class_ = (anemo_class)i;
            return true;
        }
    return false;
}

/* ---------------------------------------------------------------- one row */

typedef struct row {
    const char *path;
    int64_t line;
    const json_t *root;
    anemo_error *err;
    anemo_status status;
    const char *seen[24]; /* keys that were taken */
    int32_t n_seen;
} row;

#define refuse(r, ...)                                                                             \
    do {                                                                                           \
        char sentence[400];                                                                        \
        snprintf(sentence, sizeof sentence, __VA_ARGS__);                                          \
        if ((r)->status == ANEMO_OK)                                                               \
            (r)->status = anemo_fail((r)->err, ANEMO_E_INPUT, "%s:%lld: %s", (r)->path,            \
                                     (long long)(r)->line, sentence);                              \
    } while (0)

static const json_t *take(row *r, const char *key) {
    if (r->n_seen < (int32_t)(sizeof r->seen / sizeof *r->seen))
        r->seen[r->n_seen++] = key;
    return json_object_get(r->root, key);
}

static void take_text(row *r, const char *key, char *text, size_t bytes, bool needed) {
    const json_t *value = take(r, key);
    text[0] = 0;
    if (!value && !needed)
        return;
    const char *s = json_string_value(value);
    if (!s || !*s || strlen(s) >= bytes)
        refuse(r, "%s is missing, or not a text of 1 to %zu bytes", key, bytes - 1);
    else
        memcpy(text, s, strlen(s) + 1);
}

static double take_number(row *r, const char *key, double least, double most, bool needed) {
    const json_t *value = take(r, key);
    if (!value && !needed)
        return NAN;
    double number = json_number_value(value);
    if (!json_is_number(value))
        refuse(r, "%s is missing, or not a number", key);
    else if (!(number >= least && number <= most))
        refuse(r, "%s is %g; accepted is %g to %g", key, number, least, most);
    return number;
}

static int32_t take_date(row *r, const char *key, int32_t absent, bool needed) {
    const json_t *value = take(r, key);
    int32_t day = absent;
    if ((value || needed) && !anemo_date_parse(json_string_value(value), &day))
        refuse(r, "%s is missing, or not a date such as 2026-09-01", key);
    return day;
}

static anemo_origin take_origin(row *r) {
    anemo_origin o = {.class_ = ANEMO_CLASS_ASSUMED};
    const char *name = json_string_value(take(r, "class"));
    if (!anemo_class_parse(name, &o.class_) || o.class_ == ANEMO_CLASS_PROJECTED)
        refuse(r, "class is '%.40s'; accepted are measured, quoted, published, asking, assumed",
               name ? name : "");
    o.as_of = take_date(r, "as_of", 0, true);
    o.from = take_date(r, "effective_from", INT32_MIN, false);
    o.to = take_date(r, "effective_to", INT32_MAX, false);
    if (!(o.from < o.to))
        refuse(r, "effective_from is not before effective_to");
    take_text(r, "source", o.source, sizeof o.source, true);
    return o;
}

static void refuse_unknown_keys(row *r) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)r->root, key, value) {
        bool known = false;
        for (int32_t i = 0; i < r->n_seen; i++)
            known |= strcmp(key, r->seen[i]) == 0;
        if (!known)
            refuse(r, "'%.60s' is not a key of such a row", key);
    }
}

bool anemo_price_is_alias(const char *model) {
    size_t n = strlen(model);
    return n >= 6 && strcmp(model + n - 6, "latest") == 0;
}

static void take_others(row *r, anemo_price *p) {
    const json_t *list = take(r, "other");
    if (list && (!json_is_array(list) || json_array_size(list) > ANEMO_OTHER_PRICES)) {
        refuse(r, "other is not a list of at most %d prices", ANEMO_OTHER_PRICES);
        return;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        anemo_other_price *o = &p->other[p->n_others++];
        row inner = {
            .path = r->path, .line = r->line, .root = json_array_get(list, i), .err = r->err};
        o->input = take_number(&inner, "input", 0, PRICE_MOST, true);
        o->output = take_number(&inner, "output", 0, PRICE_MOST, true);
        o->as_of = take_date(&inner, "as_of", 0, true);
        take_text(&inner, "source", o->source, sizeof o->source, true);
        refuse_unknown_keys(&inner);
        if (r->status == ANEMO_OK)
            r->status = inner.status;
    }
}

static void take_price(row *r, anemo_price *p) {
    char unit[24];
    *p = (anemo_price){0};
    take_text(r, "provider", p->provider, sizeof p->provider, true);
    take_text(r, "model", p->model, sizeof p->model, true);
    take_text(r, "currency", p->currency, sizeof p->currency, true);
    take_text(r, "unit", unit, sizeof unit, true);
    take_text(r, "tier", p->tier, sizeof p->tier, true);
    if (strcmp(unit, "1M token") != 0)
        refuse(r, "unit is '%s'; prices are per '1M token' (a price per 1k tokens times 1000)",
               unit);
    if (anemo_price_is_alias(p->model))
        refuse(r, "model '%s' is an alias that moves; give the dated model id", p->model);
    p->bracket = take_number(r, "context_over_tokens", 1, 1e8, false);
    p->bracket = isnan(p->bracket) ? 0 : p->bracket;
    p->input = take_number(r, "input", 0, PRICE_MOST, true);
    p->cached = take_number(r, "cached_input", 0, PRICE_MOST, false);
    p->write = take_number(r, "cache_write", 0, PRICE_MOST, false);
    p->output = take_number(r, "output", 0, PRICE_MOST, true);
    p->batch_ratio = take_number(r, "batch_ratio", 0, 1, false);
    p->priority_ratio = take_number(r, "priority_ratio", 0.5, 10, false);
    p->region_eu = take_number(r, "region_ratio_eu", 0.5, 5, false);
    p->region_us = take_number(r, "region_ratio_us", 0.5, 5, false);
    p->origin = take_origin(r);
    take_others(r, p);
}

static void take_fact(row *r, anemo_fact *f) {
    *f = (anemo_fact){0};
    take_text(r, "subject", f->subject, sizeof f->subject, true);
    take_text(r, "what", f->what, sizeof f->what, true);
    take_text(r, "unit", f->unit, sizeof f->unit, true);
    take_text(r, "note", f->note, sizeof f->note, false);
    f->value = take_number(r, "value", -1e18, 1e18, true);
    f->low = take_number(r, "low", -1e18, 1e18, false);
    f->high = take_number(r, "high", -1e18, 1e18, false);
    if (isnan(f->low) != isnan(f->high))
        refuse(r, "low and high come together");
    if (isnan(f->low))
        f->low = f->high = f->value;
    if (!(f->low <= f->value && f->value <= f->high))
        refuse(r, "expected low <= value <= high, found %g, %g, %g", f->low, f->value, f->high);
    f->origin = take_origin(r);
}

/* ---------------------------------------------------------------- files */

static anemo_status grow(void **list, int32_t n, size_t bytes, anemo_error *err) {
    if (n & (n - 1)) /* room is doubled when n is a power of two */
        return ANEMO_OK;
    void *more = realloc(*list, (n ? 2 * (size_t)n : 1) * bytes);
    if (!more)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for reference data");
    *list = more;
    return ANEMO_OK;
}

static anemo_status read_row(row *r, anemo_reference *into) {
    const json_t *version = take(r, "schema_version");
    bool is_price = json_object_get(r->root, "provider") != NULL;
    anemo_status status;
    if (!json_is_object(r->root) || json_integer_value(version) != SCHEMA)
        refuse(r, "is not an object with schema_version %d", SCHEMA);
    if (r->status != ANEMO_OK)
        return r->status;
    if (is_price) {
        status = grow((void **)&into->price, into->n_prices, sizeof *into->price, r->err);
        if (status != ANEMO_OK)
            return status;
        take_price(r, &into->price[into->n_prices]);
    } else {
        status = grow((void **)&into->fact, into->n_facts, sizeof *into->fact, r->err);
        if (status != ANEMO_OK)
            return status;
        take_fact(r, &into->fact[into->n_facts]);
    }
    refuse_unknown_keys(r);
    if (r->status == ANEMO_OK) {
        into->n_prices += is_price;
        into->n_facts += !is_price;
    }
    return r->status;
}

anemo_status anemo_reference_read(const char *path, anemo_reference *into, anemo_error *err) {
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t bytes;
    anemo_status status = ANEMO_OK;
    if (!file)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: %s", path, strerror(errno));
    for (int64_t n = 1; status == ANEMO_OK && (bytes = getline(&line, &capacity, file)) > 0; n++) {
        json_error_t where;
        if (bytes > LINE_MAX_ || n > ROWS_MAX) {
            status = anemo_fail(err, ANEMO_E_INPUT, "%s:%lld: at most %d rows of %d bytes are read",
                                path, (long long)n, ROWS_MAX, LINE_MAX_);
            break;
        }
        json_t *root = json_loadb(line, (size_t)bytes, JSON_REJECT_DUPLICATES, &where);
        if (!root) {
            status = anemo_fail(err, ANEMO_E_INPUT, "%s:%lld: is not JSON: %s", path, (long long)n,
                                where.text);
            break;
        }
        row r = {.path = path, .line = n, .root = root, .err = err};
        status = read_row(&r, into);
        json_decref(root);
    }
    if (status == ANEMO_OK && ferror(file))
        status = anemo_fail(err, ANEMO_E_IO, "%s: %s", path, strerror(errno));
    free(line);
    fclose(file);
    return status;
}

static bool same_row(const anemo_price *a, const anemo_price *b) {
    return strcmp(a->provider, b->provider) == 0 && strcmp(a->model, b->model) == 0 &&
           strcmp(a->tier, b->tier) == 0 && a->bracket == b->bracket;
}

/* Two prices of one source for one day contradict each other. */
static anemo_status check_prices(const char *folder, const anemo_reference *r, anemo_error *err) {
    for (int32_t i = 0; i < r->n_prices; i++)
        for (int32_t j = i + 1; j < r->n_prices; j++) {
            const anemo_price *a = &r->price[i], *b = &r->price[j];
            if (!same_row(a, b) || strcmp(a->origin.source, b->origin.source) != 0 ||
                a->origin.as_of != b->origin.as_of)
                continue;
            /* an open row ends where a later one with a date begins */
            bool apart = a->origin.to <= b->origin.from || b->origin.to <= a->origin.from;
            if (!apart)
                return anemo_fail(err, ANEMO_E_INPUT,
                                  "%s: two rows of one source and date give %s %s a price for the "
                                  "same day",
                                  folder, a->provider, a->model);
        }
    return ANEMO_OK;
}

anemo_status anemo_reference_read_folder(const char *folder, anemo_reference *into,
                                         anemo_error *err) {
    static const char *const names[] = {"prices.jsonl", "machines.jsonl", "site.jsonl"};
    char path[4096];
    *into = (anemo_reference){0};
    anemo_status status = ANEMO_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && status == ANEMO_OK; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        status = anemo_reference_read(path, into, err);
    }
    if (status == ANEMO_OK)
        status = check_prices(folder, into, err);
    if (status != ANEMO_OK)
        anemo_reference_free(into);
    return status;
}

void anemo_reference_free(anemo_reference *reference) {
    free(reference->price);
    free(reference->fact);
    *reference = (anemo_reference){0};
}

/* ---------------------------------------------------------------- finding */

static bool in_force(const anemo_origin *o, int32_t day) {
    return o->from <= day && day < o->to;
}

const anemo_price *anemo_price_find(const anemo_reference *r, const char *provider,
                                    const char *model, const char *tier, double bracket,
                                    int32_t day) {
    const anemo_price *best = NULL;
    for (int32_t i = 0; i < r->n_prices; i++) {
        const anemo_price *p = &r->price[i];
        if (strcmp(p->provider, provider) != 0 || strcmp(p->model, model) != 0 ||
            strcmp(p->tier, tier) != 0 || p->bracket != bracket || !in_force(&p->origin, day))
            continue;
        if (!best || p->origin.as_of > best->origin.as_of)
            best = p;
    }
    return best;
}

const anemo_price *anemo_price_bracket(const anemo_reference *r, const anemo_price *base,
                                       int32_t day) {
    const anemo_price *best = NULL;
    for (int32_t i = 0; i < r->n_prices; i++) {
        const anemo_price *p = &r->price[i];
        if (p->bracket > 0 && strcmp(p->provider, base->provider) == 0 &&
            strcmp(p->model, base->model) == 0 && strcmp(p->tier, base->tier) == 0 &&
            in_force(&p->origin, day) && (!best || p->origin.as_of > best->origin.as_of))
            best = p;
    }
    return best;
}

const anemo_fact *anemo_fact_find(const anemo_reference *r, const char *subject, const char *what,
                                  int32_t day) {
    const anemo_fact *best = NULL;
    for (int32_t i = 0; i < r->n_facts; i++) {
        const anemo_fact *f = &r->fact[i];
        if (strcmp(f->subject, subject) != 0 || strcmp(f->what, what) != 0 ||
            !in_force(&f->origin, day))
            continue;
        if (!best || f->origin.class_ < best->origin.class_ ||
            (f->origin.class_ == best->origin.class_ && f->origin.as_of > best->origin.as_of))
            best = f;
    }
    return best;
}
