#include "tests/support/gguf_write.h"

#include "tests/support/bytes.h"
#include "tests/support/run_program.h"

#include <stdio.h>

#define ALIGNMENT 32

typedef struct entry {
    char *key;
    byte_string encoded; /* key, type and value */
} entry;

struct gguf_writer {
    entry *keys;
    size_t n_keys;
    gguf_tensor_fields *tensors;
    size_t n_tensors;
    byte_string data;
};

static void append_string(byte_string *b, const char *text) {
    bytes_append_number(b, strlen(text), 8);
    bytes_append(b, text, strlen(text));
}

static void append_padding(byte_string *b) {
    while (b->n % ALIGNMENT)
        bytes_append_number(b, 0, 1);
}

gguf_writer *gguf_writer_create(void) {
    gguf_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        abort();
    return writer;
}

void gguf_writer_free(gguf_writer *writer) {
    while (writer->n_keys)
        gguf_drop(writer, writer->keys[0].key);
    free(writer->keys);
    free(writer->tensors);
    free(writer->data.bytes);
    free(writer);
}

/* ---------------------------------------------------------------- keys */

void gguf_add_raw(gguf_writer *writer, const char *key, uint32_t type, const void *value,
                  size_t bytes) {
    writer->keys = realloc(writer->keys, (writer->n_keys + 1) * sizeof *writer->keys);
    if (!writer->keys)
        abort();
    entry *e = &writer->keys[writer->n_keys++];
    *e = (entry){.key = strdup(key)};
    append_string(&e->encoded, key);
    bytes_append_number(&e->encoded, type, 4);
    bytes_append(&e->encoded, value, bytes);
}

void gguf_drop(gguf_writer *writer, const char *key) {
    for (size_t i = 0; i < writer->n_keys; ++i)
        if (strcmp(writer->keys[i].key, key) == 0) {
            free(writer->keys[i].key);
            free(writer->keys[i].encoded.bytes);
            --writer->n_keys;
            memmove(&writer->keys[i], &writer->keys[i + 1],
                    (writer->n_keys - i) * sizeof *writer->keys);
            return;
        }
    abort(); /* a test that drops nothing tests nothing */
}

static void add_buffer(gguf_writer *writer, const char *key, uint32_t type, byte_string value) {
    gguf_add_raw(writer, key, type, value.bytes, value.n);
    free(value.bytes);
}

void gguf_add_u32(gguf_writer *writer, const char *key, uint32_t value) {
    byte_string b = {0};
    bytes_append_number(&b, value, 4);
    add_buffer(writer, key, 4, b);
}

void gguf_add_f32(gguf_writer *writer, const char *key, float value) {
    uint32_t bits;
    byte_string b = {0};
    memcpy(&bits, &value, sizeof bits);
    bytes_append_number(&b, bits, 4);
    add_buffer(writer, key, 6, b);
}

void gguf_add_bool(gguf_writer *writer, const char *key, bool value) {
    gguf_add_raw(writer, key, 7, &(uint8_t){value}, 1);
}

void gguf_add_string(gguf_writer *writer, const char *key, const char *value) {
    byte_string b = {0};
    append_string(&b, value);
    add_buffer(writer, key, 8, b);
}

static byte_string array_head(uint32_t element, size_t n) {
    byte_string b = {0};
    bytes_append_number(&b, element, 4);
    bytes_append_number(&b, n, 8);
    return b;
}

void gguf_add_strings(gguf_writer *writer, const char *key, const char *const *values, size_t n) {
    byte_string b = array_head(8, n);
    for (size_t i = 0; i < n; ++i)
        append_string(&b, values[i]);
    add_buffer(writer, key, 9, b);
}

void gguf_add_f32s(gguf_writer *writer, const char *key, const float *values, size_t n) {
    byte_string b = array_head(6, n);
    for (size_t i = 0; i < n; ++i) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bytes_append_number(&b, bits, 4);
    }
    add_buffer(writer, key, 9, b);
}

void gguf_add_i32s(gguf_writer *writer, const char *key, const int32_t *values, size_t n) {
    byte_string b = array_head(5, n);
    for (size_t i = 0; i < n; ++i)
        bytes_append_number(&b, (uint32_t)values[i], 4);
    add_buffer(writer, key, 9, b);
}

/* ---------------------------------------------------------------- tensors */

void gguf_add_tensor(gguf_writer *writer, const char *name, uint32_t ggml_type, uint32_t rank,
                     const uint64_t *sizes, const void *data, size_t bytes) {
    writer->tensors = realloc(writer->tensors, (writer->n_tensors + 1) * sizeof *writer->tensors);
    if (!writer->tensors)
        abort();
    append_padding(&writer->data);
    gguf_tensor_fields *t = &writer->tensors[writer->n_tensors++];
    *t = (gguf_tensor_fields){.rank = rank, .type = ggml_type, .offset = writer->data.n};
    snprintf(t->name, sizeof t->name, "%s", name);
    memcpy(t->sizes, sizes, rank * sizeof *sizes);
    bytes_append(&writer->data, data, bytes);
}

gguf_tensor_fields *gguf_tensor(gguf_writer *writer, const char *name) {
    for (size_t i = 0; i < writer->n_tensors; ++i)
        if (strcmp(writer->tensors[i].name, name) == 0)
            return &writer->tensors[i];
    return NULL;
}

/* ---------------------------------------------------------------- the file */

uint8_t *gguf_image(const gguf_writer *writer, size_t *bytes) {
    byte_string file = {0};
    bytes_append(&file, "GGUF", 4);
    bytes_append_number(&file, 3, 4);
    bytes_append_number(&file, writer->n_tensors, 8);
    bytes_append_number(&file, writer->n_keys, 8);
    for (size_t i = 0; i < writer->n_keys; ++i)
        bytes_append(&file, writer->keys[i].encoded.bytes, writer->keys[i].encoded.n);
    for (size_t i = 0; i < writer->n_tensors; ++i) {
        const gguf_tensor_fields *t = &writer->tensors[i];
        append_string(&file, t->name);
        bytes_append_number(&file, t->rank, 4);
        for (uint32_t d = 0; d < t->rank && d < 8; ++d)
            bytes_append_number(&file, t->sizes[d], 8);
        bytes_append_number(&file, t->type, 4);
        bytes_append_number(&file, t->offset, 8);
    }
    append_padding(&file);
    bytes_append(&file, writer->data.bytes, writer->data.n);
    *bytes = file.n;
    return file.bytes;
}

void gguf_write(const gguf_writer *writer, const char *path) {
    size_t bytes;
    uint8_t *image = gguf_image(writer, &bytes);
    remove(path); /* rewriting a truncated file makes some file systems flush it */
    test_write_file(path, image, bytes);
    free(image);
}
