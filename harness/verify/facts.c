/* Facts from a file of JSON Lines: each line is proved to have the keys of its kind, so that what
 * compares can read them without asking. */
#include "harness/verify/verify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 65536
#define FACTS_MAX  10000
#define IDS_MAX    100000

static const char *const kind_names[ANEMO_FACT_KINDS] = {"shape",  "file",         "tokens",
                                                         "logits", "continuation", "perplexity"};

const char *anemo_fact_kind_name(anemo_fact_kind kind) {
    return kind_names[kind];
}

/* The keys of a kind and what they are: s text, i integer >= 0, n number, b flag, I ids, N numbers,
 * R rows of numbers. */
static const struct {
    const char *key, *kinds; /* kinds: index digits */
    char type;
    bool needed;
} keys[] = {
    {"architecture", "0", 's', true},
    {"vocab", "0", 'i', true},
    {"d", "0", 'i', true},
    {"ffn", "0", 'i', true},
    {"layers", "0", 'i', true},
    {"heads", "0", 'i', true},
    {"kv_heads", "0", 'i', true},
    {"head_dim", "0", 'i', true},
    {"experts", "0", 'i', true},
    {"experts_per_token", "0", 'i', true},
    {"window", "0", 'i', false},
    {"file", "1", 's', true},
    {"bytes", "1", 'i', true},
    {"sha256", "1", 's', true},
    {"text", "25", 's', true},
    {"bos", "2", 'b', true},
    {"ids", "234", 'I', true},
    {"mean", "3", 'N', false},
    {"rows", "3", 'R', false},
    {"tolerance", "35", 'n', true},
    {"repeat", "4", 'I', false},
    {"times", "4", 'i', false},
    {"next", "4", 'I', true},
    {"weights", "5", 's', true},
    {"rule", "5", 's', true},
    {"context", "5", 'i', true},
    {"text_sha256", "5", 's', true},
    {"value", "5", 'n', true},
};

static bool is_numbers(const json_t *value, bool ids) {
    size_t i;
    json_t *item;
    if (!json_is_array(value) || !json_array_size(value) || json_array_size(value) > IDS_MAX)
        return false;
    json_array_foreach(value, i, item) if (ids ? !json_is_integer(item) ||
                                                     json_integer_value(item) < 0 ||
                                                     json_integer_value(item) > INT32_MAX
                                               : !json_is_number(item)) return false;
    return true;
}

static bool is_rows(const json_t *value) {
    size_t i;
    json_t *row;
    if (!json_is_array(value) || !json_array_size(value))
        return false;
    json_array_foreach(value, i, row) if (!is_numbers(row, false)) return false;
    return true;
}

/* What it should be, or NULL when it is. */
static const char *wrong_type(const json_t *value, char type) {
    switch (type) {
    case 's':
        return json_string_length(value) ? NULL : "a text";
    case 'i':
        return json_is_integer(value) && json_integer_value(value) >= 0 ? NULL : "an integer >= 0";
    case 'n':
        return json_is_number(value) && json_number_value(value) > 0 ? NULL : "a number > 0";
    case 'b':
        return json_is_boolean(value) ? NULL : "true or false";
    case 'I':
        return is_numbers(value, true) ? NULL : "a list of token ids";
    case 'N':
        return is_numbers(value, false) ? NULL : "a list of numbers";
    default:
        return is_rows(value) ? NULL : "a list of lists of numbers";
    }
}

static anemo_status check_keys(const char *path, int64_t line, const json_t *object, int kind,
                               anemo_error *err) {
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (!strchr(keys[i].kinds, '0' + kind))
            continue;
        const json_t *value = json_object_get(object, keys[i].key);
        const char *should = !value && !keys[i].needed ? NULL : wrong_type(value, keys[i].type);
        if (should)
            return anemo_fail(err, ANEMO_E_INPUT, "%s:%lld: \"%s\" of a %s must be %s", path,
                              (long long)line, keys[i].key, kind_names[kind], should);
    }
    const bool values = json_object_get(object, "mean") || json_object_get(object, "rows");
    if (kind == ANEMO_FACT_LOGITS && !values)
        return anemo_fail(err, ANEMO_E_INPUT, "%s:%lld: a logits needs \"mean\" or \"rows\"", path,
                          (long long)line);
    return ANEMO_OK;
}

static anemo_status read_fact(const char *path, int64_t line, json_t *object, anemo_fact *out,
                              anemo_error *err) {
    static const char *const common[] = {"checkpoint", "what", "class", "as_of", "source"};
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        if (!json_string_length(json_object_get(object, common[i])))
            return anemo_fail(err, ANEMO_E_INPUT, "%s:%lld: \"%s\" must be a text", path,
                              (long long)line, common[i]);
    const char *what = json_string_value(json_object_get(object, "what"));
    int kind = 0;
    while (kind < ANEMO_FACT_KINDS && strcmp(kind_names[kind], what))
        kind++;
    if (kind == ANEMO_FACT_KINDS)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s:%lld: \"what\" is \"%.40s\"; accepted: shape, file, tokens, logits, "
                          "continuation, perplexity",
                          path, (long long)line, what);
    *out = (anemo_fact){.kind = (anemo_fact_kind)kind,
                        .checkpoint = json_string_value(json_object_get(object, "checkpoint")),
                        .source = json_string_value(json_object_get(object, "source")),
                        .as_of = json_string_value(json_object_get(object, "as_of")),
                        .json = object};
    return check_keys(path, line, object, kind, err);
}

static anemo_status add_line(const char *path, int64_t number, const char *line, size_t n,
                             anemo_facts *facts, anemo_error *err) {
    json_error_t wrong;
    json_t *object = json_loadb(line, n, JSON_REJECT_DUPLICATES, &wrong);
    if (!json_is_object(object)) {
        json_decref(object);
        return anemo_fail(err, ANEMO_E_INPUT, "%s:%lld: not a JSON object%s%s", path,
                          (long long)number, object ? "" : ": ", object ? "" : wrong.text);
    }
    anemo_fact *items =
        facts->n < FACTS_MAX ? realloc(facts->items, ((size_t)facts->n + 1) * sizeof *items) : NULL;
    if (!items) {
        json_decref(object);
        return facts->n < FACTS_MAX
                   ? anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for %d facts", path, facts->n)
                   : anemo_fail(err, ANEMO_E_INPUT, "%s: more than %d facts", path, FACTS_MAX);
    }
    facts->items = items;
    facts->items[facts->n++] = (anemo_fact){.json = object};
    return read_fact(path, number, object, &facts->items[facts->n - 1], err);
}

/* A line without its end: its bytes, or -1 where there is none, or LINE_BYTES + 1 for all that are
 * longer, which are not read to their end (it may be a device). */
static int64_t read_line(FILE *f, char *line) {
    int64_t n = 0;
    int c;
    while ((c = getc(f)) != EOF && c != '\n') {
        if (n == LINE_BYTES)
            return LINE_BYTES + 1;
        line[n++] = (char)c;
    }
    line[n] = '\0';
    return c == EOF && n == 0 ? -1 : n;
}

anemo_status anemo_facts_load(const char *path, anemo_facts *out, anemo_error *err) {
    *out = (anemo_facts){0};
    FILE *f = fopen(path, "r");
    char *line = malloc(LINE_BYTES + 1);
    anemo_status status = ANEMO_OK;
    if (!f || !line)
        status = anemo_fail(err, f ? ANEMO_E_MEMORY : ANEMO_E_INPUT, "%s: %s", path,
                            f ? "no memory for a line" : strerror(errno));
    int64_t n = 0;
    for (int64_t number = 1; status == ANEMO_OK && (n = read_line(f, line)) >= 0; number++) {
        if (n > LINE_BYTES)
            status = anemo_fail(err, ANEMO_E_INPUT, "%s:%lld: longer than %d bytes", path,
                                (long long)number, LINE_BYTES);
        else if ((int64_t)strspn(line, " \t\r") < n)
            status = add_line(path, number, line, (size_t)n, out, err);
    }
    if (status == ANEMO_OK && ferror(f))
        status = anemo_fail(err, ANEMO_E_INPUT, "%s: %s", path, strerror(errno));
    free(line);
    if (f)
        fclose(f);
    if (status != ANEMO_OK)
        anemo_facts_free(out);
    return status;
}

void anemo_facts_free(anemo_facts *facts) {
    for (int32_t i = 0; i < facts->n; i++)
        json_decref(facts->items[i].json);
    free(facts->items);
    *facts = (anemo_facts){0};
}
