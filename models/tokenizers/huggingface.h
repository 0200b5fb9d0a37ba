/* What the two readers of tokenizer.json share. */
#ifndef ANEMO_TOKENIZERS_HUGGINGFACE_H
#define ANEMO_TOKENIZERS_HUGGINGFACE_H

#include "models/tokenizers/internal.h"

typedef struct anemo_hf_source {
    anemo_tokenizer *t;
    const char *path;
    anemo_error *err;
    bool has_normalizer, prepends;
    bool decodes_mark, decodes_bytes, fuses, strips; /* what the decoder does */
} anemo_hf_source;

/* "PATH: FIELD is VALUE; accepted: ACCEPTED", ANEMO_E_INPUT */
anemo_status anemo_hf_refuse(const anemo_hf_source *s, const char *field, const json_t *value,
                             const char *accepted);
/* Every key of `object` is one of `names`, which are separated by spaces. */
anemo_status anemo_hf_only(const anemo_hf_source *s, const char *where, const json_t *object,
                           const char *names);
anemo_status anemo_hf_flag(const anemo_hf_source *s, const char *where, const json_t *object,
                           const char *name, bool missing, bool *out);

static inline bool anemo_hf_is_null(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return !value || json_is_null(value);
}
static inline bool anemo_hf_is_string(const json_t *value, const char *text) {
    return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

/* ---------------------------------------------------------------- huggingface_bytes.c */

/* Is the file's pre_tokenizer one of byte-level BPE? */
bool anemo_hf_is_byte_level(const json_t *root);
/* normalizer, pre_tokenizer, decoder, model.vocab, added_tokens, model.merges; model flags are
 * read, the post-processor and the seal remain. */
anemo_status anemo_hf_read_byte_level(anemo_hf_source *s, const json_t *root);

#endif
