#include "tests/support/safetensors_write.h"

#include "tests/support/bytes.h"
#include "tests/support/run_program.h"

#include <inttypes.h>
#include <stdio.h>

struct safetensors_writer {
    byte_string header, data;
};

safetensors_writer *safetensors_writer_create(void) {
    safetensors_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        abort();
    bytes_append_text(&writer->header, "{}");
    bytes_append_text(&writer->data, "");
    return writer;
}

void safetensors_writer_free(safetensors_writer *writer) {
    free(writer->header.bytes);
    free(writer->data.bytes);
    free(writer);
}

void safetensors_add(safetensors_writer *writer, const char *name, const char *dtype, int rank,
                     const int64_t *shape, const void *data, size_t bytes) {
    char text[512];
    byte_string *header = &writer->header;
    --header->n; /* the closing brace */
    snprintf(text, sizeof text, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", header->n > 1 ? "," : "",
             name, dtype);
    bytes_append_text(header, text);
    for (int i = 0; i < rank; ++i) {
        snprintf(text, sizeof text, "%s%" PRId64, i ? "," : "", shape[i]);
        bytes_append_text(header, text);
    }
    snprintf(text, sizeof text, "],\"data_offsets\":[%zu,%zu]}}", writer->data.n,
             writer->data.n + bytes);
    bytes_append_text(header, text);
    bytes_append(&writer->data, data, bytes);
}

const char *safetensors_header(safetensors_writer *writer) {
    return (const char *)writer->header.bytes;
}

const uint8_t *safetensors_data(const safetensors_writer *writer, size_t *bytes) {
    *bytes = writer->data.n;
    return writer->data.bytes;
}

void safetensors_write_parts(const char *path, const char *header, size_t header_bytes,
                             const void *data, size_t data_bytes) {
    byte_string file = {0};
    bytes_append_number(&file, header_bytes, 8);
    bytes_append(&file, header, header_bytes);
    bytes_append(&file, data, data_bytes);
    remove(path); /* rewriting a truncated file makes some file systems flush it */
    test_write_file(path, file.bytes, file.n);
    free(file.bytes);
}

void safetensors_write(safetensors_writer *writer, const char *path) {
    safetensors_write_parts(path, (const char *)writer->header.bytes, writer->header.n,
                            writer->data.bytes, writer->data.n);
}
