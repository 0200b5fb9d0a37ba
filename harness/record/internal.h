/* Shared by the files of harness/record/ only. */
#ifndef ANEMO_RECORD_INTERNAL_H
#define ANEMO_RECORD_INTERNAL_H

#include "harness/record/record.h"

#include <jansson.h>

struct anemo_record {
    json_t *root; /* the record as it is written */
    int32_t references;
    char *folder;        /* of the file it was read from, where its samples lie; NULL: not read */
    anemo_error problem; /* first mistake made while building; "" = none */
};

typedef enum field_type { FIELD_TEXT, FIELD_NUMBER, FIELD_INTEGER, FIELD_FLAG } field_type;

/* The type of a field of fields.inc; false: it is not there. section "" = top level. */
bool record_field(const char *section, const char *key, field_type *type);
/* Does this JSON value have the type? */
bool record_type_is(field_type type, const json_t *value);
const char *record_type_name(field_type type);
/* Checks a whole record: status, metrics, known fields. `why` gets one sentence. */
bool record_valid(const json_t *root, char *why, size_t why_bytes);

#endif
