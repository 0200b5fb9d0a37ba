/* Jansson does the parsing: it refuses bytes that are not UTF-8, numbers out of range, nesting
 * beyond 2048, and (asked to) duplicate keys. */
#include "models/formats/json.h"

#include <stdlib.h>

static json_t *load(const char *path, const char *part, const void *bytes, size_t n, size_t flags,
                    anemo_error *err) {
    json_error_t where;
    json_t *root = json_loadb(bytes, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | flags, &where);
    if (!root) {
        anemo_fail(err, ANEMO_E_INPUT,
                   "%s: %sline %d, column %d: %s; accepted: one JSON object in UTF-8 with each key "
                   "once",
                   path, part, where.line, where.column, anemo_show(where.text).text);
        return NULL;
    }
    if (!json_is_object(root)) {
        anemo_fail(err, ANEMO_E_INPUT, "%s: %sis %s; accepted: one JSON object", path, part,
                   anemo_show_json(root).text);
        json_decref(root);
        return NULL;
    }
    return root;
}

json_t *anemo_json_object(const char *path, const char *part, const void *bytes, size_t n,
                          anemo_error *err) {
    return load(path, part, bytes, n, 0, err);
}

json_t *anemo_json_object_nul(const char *path, const void *bytes, size_t n, anemo_error *err) {
    return load(path, "", bytes, n, JSON_ALLOW_NUL, err);
}

/* json_dump's sink: keeps the first bytes and then stops the dump. */
typedef struct shown_sink {
    char text[81]; /* one more than is shown, so that a cut shows as such */
    size_t n;
} shown_sink;

static int keep_first(const char *bytes, size_t n, void *context) {
    shown_sink *sink = context;
    const size_t room = sizeof sink->text - sink->n;
    memcpy(sink->text + sink->n, bytes, n < room ? n : room);
    sink->n += n < room ? n : room;
    return n < room ? 0 : -1;
}

anemo_shown anemo_show_json(const json_t *value) {
    shown_sink sink = {.n = 0};
    if (!value)
        return anemo_show("missing");
    json_dump_callback(value, keep_first, &sink, JSON_ENCODE_ANY | JSON_COMPACT);
    return anemo_show_bytes(sink.text, sink.n);
}
