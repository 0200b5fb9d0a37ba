/* Results in normal form, and the sentence of a failure. */
#include "harness/check/op.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t element_bytes(check_kind kind) {
    return kind == CHECK_BYTES ? 1 : 4;
}

void *check_result_add(check_result *result, const char *name, check_kind kind, bool per_row,
                       int64_t rows, int64_t columns) {
    if (result->n_fields == CHECK_FIELDS)
        return NULL;
    const size_t n = (size_t)(rows * columns);
    void *data = calloc(n ? n : 1, element_bytes(kind));
    if (data)
        result->fields[result->n_fields++] =
            (check_field){name, kind, per_row, rows, columns, data, NULL};
    return data;
}

check_scale *check_result_scale(check_result *result) {
    check_field *field = &result->fields[result->n_fields - 1];
    const size_t n = (size_t)(field->rows * field->columns);
    return field->scale = calloc(n ? n : 1, sizeof *field->scale);
}

bool check_result_copy(check_result *result, const char *name, check_kind kind, bool per_row,
                       int64_t rows, int64_t columns, const void *from, size_t stride_bytes) {
    unsigned char *to = check_result_add(result, name, kind, per_row, rows, columns);
    const size_t row_bytes = (size_t)columns * element_bytes(kind);
    for (int64_t r = 0; to && r < rows; r++)
        memcpy(to + (size_t)r * row_bytes, (const unsigned char *)from + (size_t)r * stride_bytes,
               row_bytes);
    return to != NULL;
}

void check_result_free(check_result *result) {
    for (int32_t f = 0; f < result->n_fields; f++) {
        free(result->fields[f].data);
        free(result->fields[f].scale);
    }
    result->n_fields = 0;
}

void check_outcome_fail(check_outcome *outcome, double error, const char *format, ...) {
    if (!(error <= outcome->error))
        outcome->error = isnan(error) ? INFINITY : error;
    if (outcome->failed)
        return;
    outcome->failed = true;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(outcome->detail, sizeof outcome->detail, format, arguments);
    va_end(arguments);
}
