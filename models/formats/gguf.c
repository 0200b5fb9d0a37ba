/* GGUF: one file with metadata, tokenizer and tensors.
 *
 *     "GGUF" u32 version  u64 tensors  u64 keys
 *     keys:    string key, u32 type, value          string = u64 length, bytes
 *     tensors: string name, u32 rank, u64 sizes[rank] (fastest first), u32 type, u64 offset
 *     padding to general.alignment (32), then the data that offsets count from
 *
 * Nothing is aligned and every count is untrusted, so all reading goes through a cursor that
 * refuses to pass the end of the file, and no count is believed before the file is long enough to
 * hold as many. Version 2 has the same widths as 3; version 1 does not. Big-endian files are not
 * marked, but their version reads as 0x03000000.
 *
 * This file is the container: typed keys and tensors. What the keys mean is in gguf_hparams.c.
 * Source: ggml-org/ggml, docs/gguf.md. */
#include "models/formats/gguf.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define NESTING_LIMIT    4
#define NAME_LIMIT       64
#define KEY_LIMIT        65535
#define ALIGNMENT_LIMIT  (1 << 20)
#define KEY_BYTES_MIN    13 /* empty key, type, one byte */
#define TENSOR_BYTES_MIN 32 /* empty name, rank, one size, type, offset */
#define RANK_LIMIT       4

typedef struct cursor {
    const anemo_mapped_file *file;
    size_t at;
    anemo_error *err;
} cursor;

/* ---------------------------------------------------------------- cursor */

static anemo_status take(cursor *c, uint64_t bytes, const char *what, const uint8_t **out) {
    const size_t left = c->file->bytes - c->at;
    if (bytes > left)
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: %s at byte %zu takes %" PRIu64 " bytes; accepted: at most %zu, "
                          "where the file ends",
                          c->file->path, what, c->at, bytes, left);
    *out = c->file->data + c->at;
    c->at += (size_t)bytes;
    return ANEMO_OK;
}

static anemo_status take_u32(cursor *c, const char *what, uint32_t *out) {
    const uint8_t *p = NULL;
    ANEMO_TRY(take(c, 4, what, &p));
    *out = anemo_load_u32(p);
    return ANEMO_OK;
}

static anemo_status take_u64(cursor *c, const char *what, uint64_t *out) {
    const uint8_t *p = NULL;
    ANEMO_TRY(take(c, 8, what, &p));
    *out = anemo_load_u64(p);
    return ANEMO_OK;
}

static anemo_status take_string(cursor *c, const char *what, const uint8_t **text, size_t *bytes) {
    uint64_t length = 0;
    ANEMO_TRY(take_u64(c, what, &length));
    ANEMO_TRY(take(c, length, what, text));
    *bytes = (size_t)length;
    return ANEMO_OK;
}

/* Names and keys: printable ASCII, so that they can be shown, compared and copied. */
static anemo_status check_name(const cursor *c, const char *what, const uint8_t *text, size_t bytes,
                               size_t limit) {
    if (bytes < 1 || bytes > limit)
        return anemo_fail(c->err, ANEMO_E_INPUT, "%s: %s has %zu bytes; accepted: 1 to %zu",
                          c->file->path, what, bytes, limit);
    for (size_t i = 0; i < bytes; ++i)
        if (text[i] < 0x20 || text[i] > 0x7e)
            return anemo_fail(c->err, ANEMO_E_INPUT,
                              "%s: %s holds byte 0x%02x; accepted: printable ASCII", c->file->path,
                              what, text[i]);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- values */

uint64_t gguf_scalar_bytes(uint32_t type) {
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof bytes ? bytes[type] : 0;
}

static anemo_status refuse_type(const cursor *c, const char *key, uint32_t type) {
    return anemo_fail(c->err, ANEMO_E_INPUT, "%s: %s has value type %" PRIu32 "; accepted: 0 to 12",
                      c->file->path, key, type);
}

static anemo_status skip_array(cursor *c, const char *key, int depth, gguf_value *value);

/* Passes over one value; `value` (may be NULL) learns where it lies. */
static anemo_status skip_value(cursor *c, const char *key, uint32_t type, int depth,
                               gguf_value *value) {
    const uint8_t *data = NULL;
    size_t bytes = (size_t)gguf_scalar_bytes(type);
    if (type == GGUF_ARRAY)
        return skip_array(c, key, depth + 1, value);
    if (type == GGUF_STRING)
        ANEMO_TRY(take_string(c, key, &data, &bytes));
    else if (bytes == 0)
        return refuse_type(c, key, type);
    else
        ANEMO_TRY(take(c, bytes, key, &data));
    if (value) {
        value->data = data;
        value->count = bytes;
    }
    return ANEMO_OK;
}

static anemo_status skip_array(cursor *c, const char *key, int depth, gguf_value *value) {
    uint32_t element = 0;
    uint64_t count = 0;
    const uint8_t *data;
    if (depth > NESTING_LIMIT)
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: %s nests arrays %d deep; accepted: at most %d", c->file->path, key,
                          depth, NESTING_LIMIT);
    ANEMO_TRY(take_u32(c, key, &element));
    ANEMO_TRY(take_u64(c, key, &count));
    const uint64_t bytes = gguf_scalar_bytes(element);
    if (value)
        *value = (gguf_value){.key = value->key,
                              .key_bytes = value->key_bytes,
                              .type = GGUF_ARRAY,
                              .element = element,
                              .count = count,
                              .data = c->file->data + c->at};
    if (bytes > 0)
        return take(c, count > UINT64_MAX / bytes ? UINT64_MAX : count * bytes, key, &data);
    if (element != GGUF_STRING && element != GGUF_ARRAY)
        return refuse_type(c, key, element);
    for (uint64_t i = 0; i < count; ++i) /* each takes 8 bytes at least: ends with the file */
        ANEMO_TRY(skip_value(c, key, element, depth, NULL));
    return ANEMO_OK;
}

/* A scalar whose bytes cannot be any: bool is 0 or 1, a string is UTF-8. */
static anemo_status check_scalar(const cursor *c, const char *key, const gguf_value *value) {
    if (value->type == GGUF_BOOL && value->data[0] > 1)
        return anemo_fail(c->err, ANEMO_E_INPUT, "%s: %s is bool %d; accepted: 0 or 1",
                          c->file->path, key, value->data[0]);
    if (value->type != GGUF_STRING)
        return ANEMO_OK;
    json_t *checked = json_stringn((const char *)value->data, (size_t)value->count);
    if (!checked)
        return anemo_fail(c->err, ANEMO_E_INPUT, "%s: %s is not UTF-8; accepted: a UTF-8 string",
                          c->file->path, key);
    json_decref(checked);
    return ANEMO_OK;
}

static anemo_status parse_value(cursor *c, gguf_value *value) {
    const uint8_t *key = NULL;
    char what[100];
    const uint8_t *begin = c->file->data + c->at;
    ANEMO_TRY(take_string(c, "key", &key, &value->key_bytes));
    ANEMO_TRY(check_name(c, "a key", key, value->key_bytes, KEY_LIMIT));
    value->key = (const char *)key;
    snprintf(what, sizeof what, "key %s", anemo_show_bytes(key, value->key_bytes).text);
    ANEMO_TRY(take_u32(c, what, &value->type));
    ANEMO_TRY(skip_value(c, what, value->type, 0, value));
    value->begin = begin;
    value->end = c->file->data + c->at;
    return check_scalar(c, what, value);
}

static int compare_keys(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    const int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int by_key(const void *a, const void *b) {
    const gguf_value *x = a, *y = b;
    return compare_keys(x->key, x->key_bytes, y->key, y->key_bytes);
}

const gguf_value *gguf_find(const gguf_file *gguf, const char *key) {
    const gguf_value wanted = {.key = key, .key_bytes = strlen(key)};
    return gguf->n ? bsearch(&wanted, gguf->values, gguf->n, sizeof wanted, by_key) : NULL;
}

bool gguf_as_int(uint32_t type, const uint8_t *p, int64_t *out) {
    switch (type) {
    case GGUF_U8:
        *out = p[0];
        return true;
    case GGUF_I8:
        *out = (int8_t)p[0];
        return true;
    case GGUF_U16:
        *out = anemo_load_u16(p);
        return true;
    case GGUF_I16:
        *out = (int16_t)anemo_load_u16(p);
        return true;
    case GGUF_U32:
        *out = anemo_load_u32(p);
        return true;
    case GGUF_I32:
        *out = (int32_t)anemo_load_u32(p);
        return true;
    case GGUF_U64:
    case GGUF_I64:
        *out = (int64_t)anemo_load_u64(p);
        return type == GGUF_I64 || *out >= 0;
    default:
        return false;
    }
}

/* A count before anything is allocated for it: the file must be long enough to hold as many. */
static anemo_status check_count(const cursor *c, const char *what, uint64_t count,
                                size_t bytes_each) {
    const uint64_t room = (c->file->bytes - c->at) / bytes_each;
    const uint64_t limit = room < ANEMO_COUNT_LIMIT ? room : ANEMO_COUNT_LIMIT;
    if (count > limit)
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: %s is %" PRIu64 "; accepted: at most %" PRIu64
                          " (the rest of the file, and %d)",
                          c->file->path, what, count, limit, ANEMO_COUNT_LIMIT);
    return ANEMO_OK;
}

static anemo_status parse_values(cursor *c, uint64_t count, gguf_file *gguf) {
    ANEMO_TRY(check_count(c, "number of keys", count, KEY_BYTES_MIN));
    gguf->values = calloc((size_t)count + 1, sizeof *gguf->values);
    if (!gguf->values)
        return anemo_fail(c->err, ANEMO_E_MEMORY, "%s: out of memory", c->file->path);
    for (gguf->n = 0; gguf->n < count; ++gguf->n)
        ANEMO_TRY(parse_value(c, &gguf->values[gguf->n]));
    qsort(gguf->values, gguf->n, sizeof *gguf->values, by_key);
    for (size_t i = 1; i < gguf->n; ++i)
        if (by_key(&gguf->values[i - 1], &gguf->values[i]) == 0)
            return anemo_fail(
                c->err, ANEMO_E_INPUT, "%s: key %s is there twice; accepted: each key once",
                c->file->path,
                anemo_show_bytes(gguf->values[i].key, gguf->values[i].key_bytes).text);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- tensors */

/* Sizes, fastest first in the file, slowest first in anemo; their product must not overflow. */
static anemo_status parse_shape(cursor *c, const char *what, anemo_tensor *tensor,
                                uint64_t *values) {
    uint32_t rank = 0;
    ANEMO_TRY(take_u32(c, what, &rank));
    if (rank < 1 || rank > RANK_LIMIT)
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: %s has %" PRIu32 " dimensions; accepted: 1 to %d", c->file->path,
                          what, rank, RANK_LIMIT);
    tensor->rank = (int32_t)rank;
    *values = 1;
    for (uint32_t i = 0; i < rank; ++i) {
        uint64_t size = 0;
        ANEMO_TRY(take_u64(c, what, &size));
        if (size < 1 || size > INT64_MAX || __builtin_mul_overflow(*values, size, values) ||
            *values > INT64_MAX)
            return anemo_fail(c->err, ANEMO_E_INPUT,
                              "%s: %s has size %" PRIu64 " in dimension %" PRIu32
                              "; accepted: 1 and more, with a product below 2^63",
                              c->file->path, what, size, i);
        tensor->shape[rank - 1 - i] = (int64_t)size;
    }
    return ANEMO_OK;
}

/* Element type, and the bytes of that many values. */
static anemo_status parse_type(cursor *c, const char *what, anemo_tensor *tensor, uint64_t values,
                               uint64_t *bytes) {
    anemo_weight_type type;
    int64_t block, block_bytes;
    const int64_t row = tensor->shape[tensor->rank - 1];
    ANEMO_TRY(take_u32(c, what, &tensor->type));
    anemo_ggml_type(tensor->type, &type, &block, &block_bytes, &tensor->type_name);
    if (!tensor->type_name)
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: %s has element type %" PRIu32 ", which is unknown; accepted: %s",
                          c->file->path, what, tensor->type, ANEMO_ACCEPTED_TYPES);
    if (row % block != 0)
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: %s has rows of %" PRId64 " values; accepted: multiples of %" PRId64
                          " in %s",
                          c->file->path, what, row, block, tensor->type_name);
    if (__builtin_mul_overflow(values / (uint64_t)block, (uint64_t)block_bytes, bytes))
        *bytes = UINT64_MAX; /* beyond any file */
    return ANEMO_OK;
}

/* What a tensor says of its place; believed when the data section is known (place_tensors). */
typedef struct placement {
    uint64_t offset, bytes;
} placement;

static anemo_status parse_tensor(cursor *c, anemo_tensors *tensors, placement *place) {
    anemo_tensor tensor = {.path = c->file->path};
    const uint8_t *name = NULL;
    size_t name_bytes = 0;
    uint64_t values = 0;
    char what[100];
    ANEMO_TRY(take_string(c, "tensor name", &name, &name_bytes));
    ANEMO_TRY(check_name(c, "a tensor name", name, name_bytes, NAME_LIMIT));
    snprintf(what, sizeof what, "tensor %s", anemo_show_bytes(name, name_bytes).text);
    ANEMO_TRY(parse_shape(c, what, &tensor, &values));
    ANEMO_TRY(parse_type(c, what, &tensor, values, &place->bytes));
    ANEMO_TRY(take_u64(c, what, &place->offset));
    return anemo_tensors_add(tensors, &tensor, (const char *)name, name_bytes, c->err);
}

static anemo_status place_tensors(const cursor *c, const placement *places, size_t data_at,
                                  uint32_t alignment, anemo_tensor *items, size_t n) {
    const size_t data_bytes = data_at < c->file->bytes ? c->file->bytes - data_at : 0;
    for (size_t i = 0; i < n; ++i) {
        anemo_tensor *tensor = &items[i];
        const placement *place = &places[i];
        if (place->offset % alignment != 0)
            return anemo_fail(c->err, ANEMO_E_INPUT,
                              "%s: tensor %s has offset %" PRIu64
                              "; accepted: multiples of general.alignment = %" PRIu32,
                              tensor->path, tensor->name, place->offset, alignment);
        if (place->offset > data_bytes || place->bytes > data_bytes - place->offset)
            return anemo_fail(c->err, ANEMO_E_INPUT,
                              "%s: tensor %s has offset %" PRIu64 " and %" PRIu64
                              " bytes; accepted: an end within the %zu data bytes of the file",
                              tensor->path, tensor->name, place->offset, place->bytes, data_bytes);
        tensor->data = c->file->data + data_at + place->offset;
        tensor->bytes = (size_t)place->bytes;
    }
    anemo_tensors_by_position(items, n);
    for (size_t i = 1; i < n; ++i)
        if (items[i].data < items[i - 1].data + items[i - 1].bytes)
            return anemo_fail(c->err, ANEMO_E_INPUT,
                              "%s: tensor %s overlaps tensor %s; accepted: offsets that do not",
                              c->file->path, items[i].name, items[i - 1].name);
    return ANEMO_OK;
}

static anemo_status parse_alignment(const cursor *c, const gguf_file *gguf, uint32_t *alignment) {
    const gguf_value *value = gguf_find(gguf, "general.alignment");
    *alignment = 32;
    if (!value)
        return ANEMO_OK;
    *alignment = value->type == GGUF_U32 ? anemo_load_u32(value->data) : 0;
    if (*alignment == 0 || (*alignment & (*alignment - 1)) || *alignment > ALIGNMENT_LIMIT)
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: general.alignment is %" PRIu32 " (value type %" PRIu32
                          "); accepted: a u32 power of two, at most %d",
                          c->file->path, *alignment, value->type, ALIGNMENT_LIMIT);
    return ANEMO_OK;
}

static anemo_status parse_tensors(cursor *c, uint64_t count, gguf_file *gguf,
                                  anemo_tensors *tensors) {
    uint32_t alignment = 1;
    ANEMO_TRY(parse_alignment(c, gguf, &alignment));
    ANEMO_TRY(check_count(c, "number of tensors", count, TENSOR_BYTES_MIN));
    placement *places = calloc((size_t)count + 1, sizeof *places);
    if (!places)
        return anemo_fail(c->err, ANEMO_E_MEMORY, "%s: out of memory", c->file->path);
    const size_t first = tensors->n; /* of this file; a split model has several */
    anemo_status status = ANEMO_OK;
    for (uint64_t i = 0; i < count && status == ANEMO_OK; ++i)
        status = parse_tensor(c, tensors, &places[i]);
    gguf->header_bytes = c->at;
    const size_t data_at = (c->at + alignment - 1) / alignment * alignment;
    if (status == ANEMO_OK && count > 0)
        status = place_tensors(c, places, data_at, alignment, tensors->items + first,
                               tensors->n - first);
    free(places);
    return status == ANEMO_OK ? anemo_tensors_index(tensors, c->err) : status;
}

/* ---------------------------------------------------------------- the file */

static anemo_status parse_head(cursor *c, uint64_t *n_tensors, uint64_t *n_values) {
    const uint8_t *magic = NULL;
    uint32_t version = 0;
    ANEMO_TRY(take(c, 4, "magic", &magic));
    if (memcmp(magic, "GGUF", 4) != 0)
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: magic is %02x %02x %02x %02x; accepted: 47 47 55 46 (\"GGUF\"; a "
                          "safetensors model is opened by its directory)",
                          c->file->path, magic[0], magic[1], magic[2], magic[3]);
    ANEMO_TRY(take_u32(c, "version", &version));
    if (version != 2 && version != 3)
        return anemo_fail(c->err, ANEMO_E_INPUT, "%s: version is %" PRIu32 "%s; accepted: 2 and 3",
                          c->file->path, version,
                          version != 0 && version % (1 << 24) == 0 ? " (a big-endian file)" : "");
    ANEMO_TRY(take_u64(c, "number of tensors", n_tensors));
    return take_u64(c, "number of keys", n_values);
}

anemo_status gguf_parse(const anemo_mapped_file *file, gguf_file *out, anemo_tensors *tensors,
                        anemo_error *err) {
    cursor c = {.file = file, .err = err};
    uint64_t n_tensors = 0, n_values = 0;
    memset(out, 0, sizeof *out);
    out->path = file->path;
    anemo_status status = parse_head(&c, &n_tensors, &n_values);
    if (status == ANEMO_OK)
        status = parse_values(&c, n_values, out);
    if (status == ANEMO_OK)
        status = parse_tensors(&c, n_tensors, out, tensors);
    if (status != ANEMO_OK)
        gguf_free(out);
    return status;
}

void gguf_free(gguf_file *gguf) {
    free(gguf->values);
    memset(gguf, 0, sizeof *gguf);
}
