/* GGUF models in several files, as llama.cpp's gguf-split writes them: BASE-00001-of-00003.gguf and
 * so on. Each file is a whole GGUF with split.no (from 0) and split.count; the keys of the model
 * are in the first, the tensors in any. The name is the only link from one file to the next, so it
 * must follow the pattern, and what the keys say must agree with it. */
#include "models/formats/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SPLIT_LIMIT 9999
#define TAIL        "-00001-of-00001.gguf"

/* A key that is absent, or is no integer, gives `absent` or a refusal. */
static anemo_status read_key(const gguf_file *gguf, const char *key, int64_t absent, int64_t *out,
                             anemo_error *err) {
    const gguf_value *value = gguf_find(gguf, key);
    *out = absent;
    if (!value || gguf_as_int(value->type, value->data, out))
        return ANEMO_OK;
    return anemo_fail(err, ANEMO_E_INPUT, "%s: %s has value type %" PRIu32 "; accepted: an integer",
                      gguf->path, key, value->type);
}

static void write_tail(char tail[sizeof TAIL + 16], int64_t no, int64_t count) {
    snprintf(tail, sizeof TAIL + 16, "-%05d-of-%05d.gguf", (int)(no + 1), (int)count);
}

static bool ends_with_part(const char *path, int64_t no, int64_t count) {
    char tail[sizeof TAIL + 16];
    const size_t n = strlen(path), m = sizeof TAIL - 1;
    write_tail(tail, no, count);
    return n > m && strcmp(path + n - m, tail) == 0;
}

anemo_status gguf_split_count(const gguf_file *gguf, const char *path, int64_t *count,
                              anemo_error *err) {
    char tail[sizeof TAIL + 16];
    int64_t no = 0;
    ANEMO_TRY(read_key(gguf, "split.count", 0, count, err));
    ANEMO_TRY(read_key(gguf, "split.no", 0, &no, err));
    if (*count < 0 || *count > SPLIT_LIMIT)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: split.count is %" PRId64 "; accepted: 0 to %d",
                          gguf->path, *count, SPLIT_LIMIT);
    *count = *count == 0 ? 1 : *count; /* merged files say 0 */
    if (no != 0)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: split.no is %" PRId64 "; accepted: 0, the first of the %" PRId64
                          " files (open that one)",
                          gguf->path, no, *count);
    write_tail(tail, 0, *count);
    if (*count > 1 && !ends_with_part(path, 0, *count))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: split.count is %" PRId64 "; accepted: more than one file only where "
                          "the name ends in %s, beside the others",
                          gguf->path, *count, tail);
    return ANEMO_OK;
}

char *gguf_split_path(const char *path, int64_t no, int64_t count) {
    const size_t kept = strlen(path) - (sizeof TAIL - 1);
    char *other = malloc(kept + sizeof TAIL + 16);
    if (other) {
        memcpy(other, path, kept);
        write_tail(other + kept, no, count);
    }
    return other;
}

anemo_status gguf_split_check(const gguf_file *part, int64_t no, int64_t count, anemo_error *err) {
    int64_t said_no = 0, said_count = 0;
    ANEMO_TRY(read_key(part, "split.no", -1, &said_no, err));
    ANEMO_TRY(read_key(part, "split.count", -1, &said_count, err));
    if (said_no == no && said_count == count)
        return ANEMO_OK;
    return anemo_fail(err, ANEMO_E_INPUT,
                      "%s: split.no is %" PRId64 " and split.count %" PRId64 "; accepted: %" PRId64
                      " and %" PRId64 ", as the file's name says",
                      part->path, said_no, said_count, no, count);
}

anemo_status gguf_split_check_tensors(const gguf_file *gguf, size_t n_tensors, anemo_error *err) {
    int64_t said = 0;
    ANEMO_TRY(read_key(gguf, "split.tensors.count", (int64_t)n_tensors, &said, err));
    if (said == (int64_t)n_tensors)
        return ANEMO_OK;
    return anemo_fail(err, ANEMO_E_INPUT,
                      "%s: split.tensors.count is %" PRId64 "; accepted: %zu, the tensors of all "
                      "files",
                      gguf->path, said, n_tensors);
}
