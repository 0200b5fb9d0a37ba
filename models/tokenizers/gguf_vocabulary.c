/* Reads the vocabulary of a GGUF file: SentencePiece's pieces, scores and types under
 * tokenizer.ggml.* keys.
 *
 * What the keys leave out is what llama.cpp, which writes these files, takes for granted: byte
 * fallback if there are byte pieces, a dummy prefix unless add_space_prefix is false, white space
 * as it stands unless remove_extra_whitespaces is true. User pieces are matched in the prefixed
 * text as by SentencePiece, so that a model gives the same ids from either file; the converter
 * writes U+2581 in some of them as a bare space, which therefore means the same here. */
#include "models/formats/gguf.h"
#include "models/tokenizers/internal.h"

#include <inttypes.h>

#define KEY(name) "tokenizer.ggml." name

static anemo_status refuse_key(const gguf_file *gguf, const char *key, const gguf_value *value,
                               const char *accepted, anemo_error *err) {
    if (!value)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: %s is missing; accepted: %s", gguf->path, key,
                          accepted);
    return anemo_fail(err, ANEMO_E_INPUT,
                      "%s: %s has value type %" PRIu32 " and %" PRIu64 " %s; accepted: %s",
                      gguf->path, key, value->type, value->count,
                      value->type == GGUF_ARRAY ? "elements" : "bytes", accepted);
}

static anemo_status find_array(const gguf_file *gguf, const char *key, uint32_t element,
                               uint64_t count, const char *accepted, const gguf_value **out,
                               anemo_error *err) {
    const gguf_value *value = *out = gguf_find(gguf, key);
    const bool fits = value && value->type == GGUF_ARRAY && value->element == element &&
                      (count == 0 ? value->count > 0 && value->count <= ANEMO_VOCAB_LIMIT
                                  : value->count == count);
    return fits ? ANEMO_OK : refuse_key(gguf, key, value, accepted, err);
}

static anemo_status read_bool(const gguf_file *gguf, const char *key, bool missing, bool *out,
                              anemo_error *err) {
    const gguf_value *value = gguf_find(gguf, key);
    if (value && value->type != GGUF_BOOL)
        return refuse_key(gguf, key, value, "a bool", err);
    *out = value ? value->data[0] != 0 : missing;
    return ANEMO_OK;
}

/* A token id; *out stays -1 where the key is missing. */
static anemo_status read_id(const gguf_file *gguf, const anemo_vocabulary *vocab, const char *key,
                            int32_t *out, anemo_error *err) {
    const gguf_value *value = gguf_find(gguf, key);
    if (!value)
        return ANEMO_OK;
    if (value->type != GGUF_U32 && value->type != GGUF_I32)
        return refuse_key(gguf, key, value, "a u32", err);
    const uint32_t id = anemo_load_u32(value->data);
    if (id >= vocab->n)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: %s is %" PRIu32 "; accepted: below %zu, the "
                          "number of tokens",
                          gguf->path, key, id, vocab->n);
    *out = (int32_t)id;
    return ANEMO_OK;
}

static anemo_status check_kind(const gguf_file *gguf, anemo_error *err) {
    const gguf_value *kind = gguf_find(gguf, KEY("model"));
    if (!kind || kind->type != GGUF_STRING)
        return refuse_key(gguf, KEY("model"), kind, "\"llama\" (a vocabulary)", err);
    if (kind->count != 5 || memcmp(kind->data, "llama", 5) != 0)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: " KEY("model") " is \"%s\"; accepted: \"llama\" (SentencePiece BPE; "
                                              "byte-level BPE, gpt2, is not supported yet)",
                          gguf->path, anemo_show_bytes(kind->data, kind->count).text);
    return ANEMO_OK;
}

static anemo_status read_pieces(anemo_tokenizer *t, const gguf_file *gguf, anemo_error *err) {
    const gguf_value *tokens, *scores, *types;
    ANEMO_TRY(find_array(gguf, KEY("tokens"), GGUF_STRING, 0, "an array of 1 to 4194304 strings",
                         &tokens, err));
    ANEMO_TRY(find_array(gguf, KEY("scores"), GGUF_F32, tokens->count,
                         "an array of f32, one for each token", &scores, err));
    ANEMO_TRY(find_array(gguf, KEY("token_type"), GGUF_I32, tokens->count,
                         "an array of i32, one for each token", &types, err));
    const uint8_t *at = tokens->data; /* u64 length and bytes, proved to lie in the file */
    for (uint64_t i = 0; i < tokens->count; ++i) {
        const uint64_t bytes = anemo_load_u64(at);
        const uint32_t type = anemo_load_u32(types->data + 4 * i);
        if (type < ANEMO_PIECE_NORMAL || type > ANEMO_PIECE_BYTE)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: " KEY("token_type") "[%" PRIu64 "] is %" PRId32
                                                       "; accepted: 1 to 6",
                              gguf->path, i, (int32_t)type);
        ANEMO_TRY(anemo_vocabulary_put(&t->vocab, gguf->path, KEY("tokens"), (int64_t)i,
                                       (const char *)at + 8, (size_t)bytes, (anemo_piece_type)type,
                                       anemo_bits_f32(anemo_load_u32(scores->data + 4 * i)), err));
        t->byte_fallback |= type == ANEMO_PIECE_BYTE;
        if (type == ANEMO_PIECE_UNKNOWN && t->unknown < 0)
            t->unknown = (int32_t)i;
        at += 8 + bytes;
    }
    return ANEMO_OK;
}

static anemo_status read_vocabulary(anemo_tokenizer *t, const gguf_file *gguf, anemo_error *err) {
    bool prefix = true;
    ANEMO_TRY(check_kind(gguf, err));
    ANEMO_TRY(read_pieces(t, gguf, err));
    ANEMO_TRY(read_id(gguf, &t->vocab, KEY("bos_token_id"), &t->bos, err));
    ANEMO_TRY(read_id(gguf, &t->vocab, KEY("eos_token_id"), &t->eos, err));
    ANEMO_TRY(read_id(gguf, &t->vocab, KEY("unknown_token_id"), &t->unknown, err));
    ANEMO_TRY(read_bool(gguf, KEY("add_space_prefix"), true, &prefix, err));
    ANEMO_TRY(read_bool(gguf, KEY("remove_extra_whitespaces"), false, &t->trim_spaces, err));
    strcpy(t->unknown_surface, ANEMO_UNKNOWN_SURFACE);
    t->prefix = prefix ? ANEMO_PREFIX_FIRST : ANEMO_PREFIX_NONE;
    t->escape_spaces = true;
    t->user_spaces = true;
    t->fuse_unknown = true;
    ANEMO_TRY(anemo_merges_from_scores(t, gguf->path, err));
    return anemo_tokenizer_seal(t, gguf->path, err);
}

anemo_status anemo_read_gguf_vocabulary(anemo_tokenizer *t, const anemo_mapped_file *file,
                                        anemo_error *err) {
    gguf_file gguf;
    anemo_tensors tensors = {0};
    anemo_status status = gguf_parse(file, &gguf, &tensors, err);
    if (status == ANEMO_OK) {
        status = read_vocabulary(t, &gguf, err);
        gguf_free(&gguf);
    }
    anemo_tensors_free(&tensors);
    return status;
}
