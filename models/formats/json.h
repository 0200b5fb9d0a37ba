/* JSON of untrusted files: parsed with duplicates refused, values shown in sentences. */
#ifndef ANEMO_FORMATS_JSON_H
#define ANEMO_FORMATS_JSON_H

#include "models/formats/internal.h"

#include <jansson.h>

/* One JSON object; `part` names what is parsed ("", "header "). NULL: err says where it breaks. */
json_t *anemo_json_object(const char *path, const char *part, const void *bytes, size_t n,
                          anemo_error *err);
/* The same, but strings may hold U+0000: use json_string_length(). */
json_t *anemo_json_object_nul(const char *path, const void *bytes, size_t n, anemo_error *err);
/* A value in short, "missing" for NULL. */
anemo_shown anemo_show_json(const json_t *value);

#endif
