/* A parsed GGUF file: its keys (pointing into the mapped file) and its tensors. */
#ifndef ANEMO_FORMATS_GGUF_H
#define ANEMO_FORMATS_GGUF_H

#include "models/formats/internal.h"

typedef enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64
} gguf_type;

typedef struct gguf_value {
    const char *key; /* not NUL-terminated */
    size_t key_bytes;
    uint32_t type, element;     /* gguf_type; element: of an array */
    uint64_t count;             /* array: elements; string: bytes */
    const uint8_t *data;        /* unaligned; of an array: its first element */
    const uint8_t *begin, *end; /* the whole entry: key, type, value */
} gguf_value;

typedef struct gguf_file {
    const char *path;
    gguf_value *values; /* sorted by key */
    size_t n;
    size_t header_bytes; /* everything before the padding of the data section */
} gguf_file;

/* Validates the container, appends its tensors and indexes all of them by name. */
anemo_status gguf_parse(const anemo_mapped_file *file, gguf_file *out, anemo_tensors *tensors,
                        anemo_error *err);
void gguf_free(gguf_file *gguf);
const gguf_value *gguf_find(const gguf_file *gguf, const char *key);
/* Bytes of a scalar type; 0 for strings, arrays and unknown types. */
uint64_t gguf_scalar_bytes(uint32_t type);
/* A scalar of `type` at `p` as integer; false for floats and what does not fit. */
bool gguf_as_int(uint32_t type, const uint8_t *p, int64_t *out);

/* Split models: BASE-00001-of-0000N.gguf holds the keys, split.no and split.count number all files.
 * How many files the model has (1: not split); refuses a file that is not the first. */
anemo_status gguf_split_count(const gguf_file *gguf, const char *path, int64_t *count,
                              anemo_error *err);
/* The path of file `no` (from 0) of the `count` that belong to `path`, malloc'ed. */
char *gguf_split_path(const char *path, int64_t no, int64_t count);
/* Is `part` file `no` of `count`? */
anemo_status gguf_split_check(const gguf_file *part, int64_t no, int64_t count, anemo_error *err);
/* split.tensors.count of the first file against the tensors found in all of them. */
anemo_status gguf_split_check_tensors(const gguf_file *gguf, size_t n_tensors, anemo_error *err);

/* The keys of architecture "llama" -> hparams (rope_pairing INTERLEAVED); `tensors` decides what
 * the keys leave open: the vocabulary and whether the output matrix is tied. */
anemo_status gguf_hparams(const gguf_file *gguf, const anemo_tensors *tensors, anemo_hparams *out,
                          anemo_error *err);

#endif
