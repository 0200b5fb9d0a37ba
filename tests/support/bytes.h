/* A growing byte string, little-endian numbers at its end. */
#ifndef ANEMO_TEST_BYTES_H
#define ANEMO_TEST_BYTES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct byte_string {
    uint8_t *bytes; /* a NUL follows the last one */
    size_t n, capacity;
} byte_string;

static inline void bytes_append(byte_string *b, const void *bytes, size_t n) {
    if (b->n + n + 1 > b->capacity) {
        b->capacity = 2 * (b->n + n + 1);
        b->bytes = realloc(b->bytes, b->capacity);
        if (!b->bytes)
            abort();
    }
    if (n)
        memcpy(b->bytes + b->n, bytes, n);
    b->n += n;
    b->bytes[b->n] = '\0';
}

static inline void bytes_append_text(byte_string *b, const char *text) {
    bytes_append(b, text, strlen(text));
}

static inline void bytes_append_number(byte_string *b, uint64_t value, int width) {
    for (int i = 0; i < width; ++i, value >>= 8)
        bytes_append(b, &(uint8_t){(uint8_t)value}, 1);
}

#endif
