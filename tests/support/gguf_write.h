/* Makes GGUF files for tests: right ones, and wrong ones through gguf_add_raw and gguf_image. */
#ifndef ANEMO_TEST_GGUF_WRITE_H
#define ANEMO_TEST_GGUF_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gguf_writer gguf_writer;

gguf_writer *gguf_writer_create(void);
void gguf_writer_free(gguf_writer *writer);

/* Keys, in the order of the calls; the same key twice makes a bad file. */
void gguf_add_u32(gguf_writer *writer, const char *key, uint32_t value);
void gguf_add_f32(gguf_writer *writer, const char *key, float value);
void gguf_add_bool(gguf_writer *writer, const char *key, bool value);
void gguf_add_string(gguf_writer *writer, const char *key, const char *value);
void gguf_add_strings(gguf_writer *writer, const char *key, const char *const *values, size_t n);
void gguf_add_f32s(gguf_writer *writer, const char *key, const float *values, size_t n);
void gguf_add_i32s(gguf_writer *writer, const char *key, const int32_t *values, size_t n);
/* Any value type number with any bytes behind it. */
void gguf_add_raw(gguf_writer *writer, const char *key, uint32_t type, const void *value,
                  size_t bytes);
/* Removes the first key of this name. */
void gguf_drop(gguf_writer *writer, const char *key);

/* sizes: fastest first, as in the file. The data is copied. */
void gguf_add_tensor(gguf_writer *writer, const char *name, uint32_t ggml_type, uint32_t rank,
                     const uint64_t *sizes, const void *data, size_t bytes);
/* What the file will say of a tensor, to make it wrong. */
typedef struct gguf_tensor_fields {
    char name[128];
    uint32_t rank, type;
    uint64_t sizes[8], offset;
} gguf_tensor_fields;
/* The tensor of this name, or NULL. */
gguf_tensor_fields *gguf_tensor(gguf_writer *writer, const char *name);

/* The whole file, malloc'ed; alignment 32. */
uint8_t *gguf_image(const gguf_writer *writer, size_t *bytes);
void gguf_write(const gguf_writer *writer, const char *path);

#endif
