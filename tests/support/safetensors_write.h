/* Makes safetensors files for tests: right ones from tensors, wrong ones from any header. */
#ifndef ANEMO_TEST_SAFETENSORS_WRITE_H
#define ANEMO_TEST_SAFETENSORS_WRITE_H

#include <stddef.h>
#include <stdint.h>

typedef struct safetensors_writer safetensors_writer;

safetensors_writer *safetensors_writer_create(void);
void safetensors_writer_free(safetensors_writer *writer);
/* Copies `bytes` of data; shape slowest first. */
void safetensors_add(safetensors_writer *writer, const char *name, const char *dtype, int rank,
                     const int64_t *shape, const void *data, size_t bytes);
/* The header text and the data bytes of what was added (owned by the writer, until the next add).
 */
const char *safetensors_header(safetensors_writer *writer);
const uint8_t *safetensors_data(const safetensors_writer *writer, size_t *bytes);
/* A file from a header that need not fit the data: 8 bytes of length, header, data. */
void safetensors_write_parts(const char *path, const char *header, size_t header_bytes,
                             const void *data, size_t data_bytes);
void safetensors_write(safetensors_writer *writer, const char *path);

#endif
