/* safetensors: an 8-byte little-endian header length N, N bytes of JSON, the tensor bytes.
 *
 *     {"__metadata__": {"format": "pt"},
 *      "model.norm.weight": {"dtype": "BF16", "shape": [64], "data_offsets": [0, 128]}, ...}
 *
 * Offsets count from byte 8 + N. The format's own rules are strict and are all enforced, because
 * each one that is not becomes a way to smuggle bytes past a checker: the header starts with `{`,
 * keys are unique, tensors cover the buffer without overlap or hole and end where the file ends,
 * and shape times element size equals the byte count, without overflow. Types that anemo cannot
 * compute with are legal in a file; checkpoint.c refuses them only where a weight needs one.
 *
 * Source: huggingface/safetensors, README "Format" and the reference reader's validation. */
#include "models/formats/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define HEADER_LIMIT 100000000 /* the reference reader's */

static const struct element_type {
    const char *name;
    uint32_t bits;
    uint32_t ggml;
} element_types[] = {
    {"F32", 32, ANEMO_GGML_F32},         {"F16", 16, ANEMO_GGML_F16},
    {"BF16", 16, ANEMO_GGML_BF16},       {"F64", 64, ANEMO_GGML_NONE},
    {"F8_E4M3", 8, ANEMO_GGML_NONE},     {"F8_E5M2", 8, ANEMO_GGML_NONE},
    {"F8_E8M0", 8, ANEMO_GGML_NONE},     {"F8_E4M3FNUZ", 8, ANEMO_GGML_NONE},
    {"F8_E5M2FNUZ", 8, ANEMO_GGML_NONE}, {"F6_E2M3", 6, ANEMO_GGML_NONE},
    {"F6_E3M2", 6, ANEMO_GGML_NONE},     {"F4", 4, ANEMO_GGML_NONE},
    {"I64", 64, ANEMO_GGML_NONE},        {"I32", 32, ANEMO_GGML_NONE},
    {"I16", 16, ANEMO_GGML_NONE},        {"I8", 8, ANEMO_GGML_NONE},
    {"U64", 64, ANEMO_GGML_NONE},        {"U32", 32, ANEMO_GGML_NONE},
    {"U16", 16, ANEMO_GGML_NONE},        {"U8", 8, ANEMO_GGML_NONE},
    {"BOOL", 8, ANEMO_GGML_NONE},        {"C64", 64, ANEMO_GGML_NONE},
};

/* One tensor entry while it is being checked. */
typedef struct entry {
    const char *path, *name; /* name as in the JSON tree */
    json_t *object;
    anemo_error *err;
} entry;

static anemo_status refuse(const entry *e, const char *field, const json_t *value,
                           const char *accepted) {
    return anemo_fail(e->err, ANEMO_E_INPUT, "%s: tensor %s: %s is %s; accepted: %s", e->path,
                      anemo_show(e->name).text, field, anemo_show_json(value).text, accepted);
}

static anemo_status parse_dtype(const entry *e, const struct element_type **type) {
    const json_t *value = json_object_get(e->object, "dtype");
    if (json_is_string(value))
        for (size_t i = 0; i < sizeof element_types / sizeof *element_types; ++i)
            if (strcmp(json_string_value(value), element_types[i].name) == 0) {
                *type = &element_types[i];
                return ANEMO_OK;
            }
    return refuse(e, "dtype", value, "a safetensors type such as \"F32\", \"F16\" or \"BF16\"");
}

/* Shape, and the bytes that it needs. */
static anemo_status parse_shape(const entry *e, const struct element_type *type,
                                anemo_tensor *tensor, uint64_t *bytes) {
    json_t *shape = json_object_get(e->object, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > ANEMO_TENSOR_RANK)
        return refuse(e, "shape", shape, "an array of at most 8 sizes");
    tensor->rank = (int32_t)json_array_size(shape);
    uint64_t bits = type->bits;
    for (int32_t i = 0; i < tensor->rank; ++i) {
        const json_t *size = json_array_get(shape, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return refuse(e, "shape", shape, "sizes that are integers, 0 or more");
        tensor->shape[i] = json_integer_value(size);
        if (__builtin_mul_overflow(bits, (uint64_t)tensor->shape[i], &bits))
            return refuse(e, "shape", shape, "sizes whose product fits in 64 bits");
    }
    if (bits % 8 != 0)
        return refuse(e, "shape", shape, "sizes that make whole bytes of the dtype");
    *bytes = bits / 8;
    return ANEMO_OK;
}

static anemo_status parse_offsets(const entry *e, uint64_t shape_bytes, size_t buffer_bytes,
                                  size_t *begin, size_t *end) {
    char accepted[128];
    json_t *offsets = json_object_get(e->object, "data_offsets");
    snprintf(accepted, sizeof accepted, "[begin, end] with 0 <= begin <= end <= %zu (data bytes)",
             buffer_bytes);
    if (!json_is_array(offsets) || json_array_size(offsets) != 2)
        return refuse(e, "data_offsets", offsets, accepted);
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (!json_is_integer(first) || !json_is_integer(last) || json_integer_value(first) < 0 ||
        json_integer_value(last) < json_integer_value(first) ||
        (uint64_t)json_integer_value(last) > buffer_bytes)
        return refuse(e, "data_offsets", offsets, accepted);
    *begin = (size_t)json_integer_value(first);
    *end = (size_t)json_integer_value(last);
    snprintf(accepted, sizeof accepted, "%" PRIu64 " bytes, which shape and dtype need",
             shape_bytes);
    if (*end - *begin != shape_bytes)
        return refuse(e, "data_offsets", offsets, accepted);
    return ANEMO_OK;
}

static anemo_status parse_entry(const entry *e, const uint8_t *buffer, size_t buffer_bytes,
                                anemo_tensors *tensors) {
    anemo_tensor tensor = {.path = e->path};
    const struct element_type *type = NULL;
    uint64_t shape_bytes = 0;
    size_t begin = 0, end = 0;
    if (!json_is_object(e->object))
        return anemo_fail(e->err, ANEMO_E_INPUT,
                          "%s: tensor %s is %s; accepted: an object with dtype, shape and "
                          "data_offsets",
                          e->path, anemo_show(e->name).text, anemo_show_json(e->object).text);
    ANEMO_TRY(parse_dtype(e, &type));
    ANEMO_TRY(parse_shape(e, type, &tensor, &shape_bytes));
    ANEMO_TRY(parse_offsets(e, shape_bytes, buffer_bytes, &begin, &end));
    if (json_object_size(e->object) != 3)
        return anemo_fail(e->err, ANEMO_E_INPUT,
                          "%s: tensor %s has %zu fields; accepted: dtype, shape and data_offsets",
                          e->path, anemo_show(e->name).text, json_object_size(e->object));
    tensor.type = type->ggml;
    tensor.type_name = type->name;
    tensor.data = buffer + begin;
    tensor.bytes = end - begin;
    return anemo_tensors_add(tensors, &tensor, e->name, strlen(e->name), e->err);
}

static anemo_status check_metadata(const char *path, json_t *metadata, anemo_error *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: __metadata__ is %s; accepted: an object of strings", path,
                          anemo_show_json(metadata).text);
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value))
            return anemo_fail(err, ANEMO_E_INPUT, "%s: __metadata__.%s is %s; accepted: a string",
                              path, anemo_show(key).text, anemo_show_json(value).text);
    }
    return ANEMO_OK;
}

/* The file's tensors, sorted by position, must touch each other and end with the file. */
static anemo_status check_cover(const anemo_mapped_file *file, const uint8_t *buffer,
                                anemo_tensor *items, size_t n, anemo_error *err) {
    const uint8_t *end = buffer;
    anemo_tensors_by_position(items, n);
    for (size_t i = 0; i < n; end = items[i].data + items[i].bytes, ++i)
        if (items[i].data != end)
            return anemo_fail(
                err, ANEMO_E_INPUT,
                "%s: tensor %s: data_offsets begin at %zu, which leaves %s; accepted: "
                "%zu, where the tensor before it ends",
                file->path, anemo_show(items[i].name).text, (size_t)(items[i].data - buffer),
                items[i].data < end ? "an overlap" : "a hole", (size_t)(end - buffer));
    if (end != file->data + file->bytes)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: the file has %zu bytes after its last tensor; accepted: 0",
                          file->path, (size_t)(file->data + file->bytes - end));
    return ANEMO_OK;
}

static anemo_status parse_header(const anemo_mapped_file *file, json_t *root, size_t header_bytes,
                                 anemo_tensors *tensors, anemo_error *err) {
    const uint8_t *buffer = file->data + header_bytes;
    const size_t first = tensors->n;
    const char *name;
    json_t *object;
    json_object_foreach(root, name, object) {
        const entry e = {file->path, name, object, err};
        if (strcmp(name, "__metadata__") == 0)
            ANEMO_TRY(check_metadata(file->path, object, err));
        else
            ANEMO_TRY(parse_entry(&e, buffer, file->bytes - header_bytes, tensors));
    }
    return check_cover(file, buffer, tensors->items ? tensors->items + first : NULL,
                       tensors->n - first, err);
}

anemo_status anemo_safetensors_parse(const anemo_mapped_file *file, anemo_tensors *tensors,
                                     size_t *header_bytes, anemo_error *err) {
    const uint64_t limit = file->bytes < 8 ? 0 : file->bytes - 8;
    const uint64_t length = file->bytes < 8 ? 0 : anemo_load_u64(file->data);
    if (file->bytes < 8)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: the file has %zu bytes; accepted: 8 bytes of header length first",
                          file->path, file->bytes);
    if (length < 2 || length > limit || length > HEADER_LIMIT)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: header length is %" PRIu64 "; accepted: 2 to %" PRIu64
                          " (file size - 8, at most %d)",
                          file->path, length, limit < HEADER_LIMIT ? limit : HEADER_LIMIT,
                          HEADER_LIMIT);
    if (file->data[8] != '{')
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: header starts with byte 0x%02x; accepted: 0x7b, an opening brace",
                          file->path, file->data[8]);
    json_t *root = anemo_json_object(file->path, "header ", file->data + 8, (size_t)length, err);
    if (!root)
        return ANEMO_E_INPUT;
    *header_bytes = 8 + (size_t)length;
    const anemo_status status = parse_header(file, root, *header_bytes, tensors, err);
    json_decref(root);
    return status;
}
