/* Reads the vocabulary of a GGUF file under tokenizer.ggml.* keys: SentencePiece's pieces, scores
 * and types (model "llama"), or byte-level pieces and merges (model "gpt2").
 *
 * A byte-level file does not hold its splitter, only its label `pre`. The label also implies what
 * the original tokenizer does besides, and the file does not tell: llama-bpe, tekken and gpt-4o
 * take a word that is a piece as it stands, qwen2 composes text (which llama.cpp leaves out).
 *
 * What the keys leave out is what llama.cpp, which writes these files, takes for granted: byte
 * fallback if there are byte pieces, a dummy prefix unless add_space_prefix is false, white space
 * as it stands unless remove_extra_whitespaces is true. User pieces are matched in the prefixed
 * text as by SentencePiece, so that a model gives the same ids from either file; the converter
 * writes U+2581 in some of them as a bare space, which therefore means the same here. A file of
 * `anemo quantize` has the rest in keys of its own (internal.h). */
#include "models/formats/gguf.h"
#include "models/tokenizers/internal.h"

#include <inttypes.h>
#include <stdlib.h>

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

/* A string of fewer than `size` bytes; *there (may be NULL): is the key there? */
static anemo_status read_text(const gguf_file *gguf, const char *key, char *out, size_t size,
                              bool *there, anemo_error *err) {
    const gguf_value *value = gguf_find(gguf, key);
    if (there)
        *there = value != NULL;
    if (!value)
        return ANEMO_OK;
    if (value->type != GGUF_STRING || value->count >= size ||
        memchr(value->data, '\0', (size_t)value->count))
        return refuse_key(gguf, key, value, "a short string", err);
    memcpy(out, value->data, (size_t)value->count);
    out[value->count] = '\0';
    return ANEMO_OK;
}

static bool is_text(const gguf_value *value, const char *text) {
    return value && value->type == GGUF_STRING && value->count == strlen(text) &&
           memcmp(value->data, text, value->count) == 0;
}

static anemo_status read_kind(const gguf_file *gguf, bool *byte_level, anemo_error *err) {
    const gguf_value *kind = gguf_find(gguf, KEY("model"));
    if (!kind || kind->type != GGUF_STRING)
        return refuse_key(gguf, KEY("model"), kind, "\"llama\" or \"gpt2\" (a vocabulary)", err);
    *byte_level = is_text(kind, "gpt2");
    if (!*byte_level && !is_text(kind, "llama"))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: " KEY("model") " is \"%s\"; accepted: \"llama\" (SentencePiece BPE) "
                                              "and \"gpt2\" (byte-level BPE)",
                          gguf->path, anemo_show_bytes(kind->data, kind->count).text);
    return ANEMO_OK;
}

/* The type of token i, of an array already found. */
static anemo_status read_type(const gguf_file *gguf, const gguf_value *types, uint64_t i,
                              anemo_piece_type *out, anemo_error *err) {
    const uint32_t type = anemo_load_u32(types->data + 4 * i);
    if (type < ANEMO_PIECE_NORMAL || type > ANEMO_PIECE_BYTE)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: " KEY("token_type") "[%" PRIu64 "] is %" PRId32 "; accepted: 1 to 6",
                          gguf->path, i, (int32_t)type);
    *out = (anemo_piece_type)type;
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
        anemo_piece_type type = ANEMO_PIECE_HOLE;
        ANEMO_TRY(read_type(gguf, types, i, &type, err));
        ANEMO_TRY(anemo_vocabulary_put(&t->vocab, gguf->path, KEY("tokens"), (int64_t)i,
                                       (const char *)at + 8, (size_t)bytes, type,
                                       anemo_bits_f32(anemo_load_u32(scores->data + 4 * i)), err));
        t->byte_fallback |= type == ANEMO_PIECE_BYTE;
        if (type == ANEMO_PIECE_UNKNOWN && t->unknown < 0)
            t->unknown = (int32_t)i;
        at += 8 + bytes;
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- byte level */

/* tokenizer.ggml.pre -> the splitter and what goes with it. */
static anemo_status read_pre(anemo_tokenizer *t, const gguf_file *gguf, bool *adds_bos,
                             anemo_error *err) {
    const gguf_value *pre = gguf_find(gguf, KEY("pre"));
    const anemo_split_rule *rule =
        pre && pre->type == GGUF_STRING
            ? anemo_split_rule_of_pre((const char *)pre->data, pre->count)
            : NULL;
    if (!rule && pre && pre->type == GGUF_STRING)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: " KEY("pre") " is \"%s\"; accepted: %s",
                          gguf->path, anemo_show_bytes(pre->data, pre->count).text,
                          anemo_split_pre_names);
    if (!rule)
        return refuse_key(gguf, KEY("pre"), pre, anemo_split_pre_names, err);
    t->whole_words = anemo_split_rule_whole_words(rule);
    t->nfc = anemo_split_rule_nfc(rule);
    *adds_bos = anemo_split_rule_adds_bos(rule);
    if (t->nfc)
        ANEMO_TRY(anemo_normalize_available(gguf->path, err));
    return anemo_splitter_create(rule, gguf->path, &t->splitter, err);
}

/* Normal pieces are spelt in the byte alphabet, all others as they stand. */
static anemo_status read_byte_piece(anemo_tokenizer *t, const gguf_file *gguf, uint64_t id,
                                    const char *text, uint64_t bytes, anemo_piece_type type,
                                    anemo_error *err) {
    char *decoded = malloc(bytes + 1);
    if (!decoded)
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", gguf->path);
    const ptrdiff_t n =
        type == ANEMO_PIECE_NORMAL ? anemo_alphabet_bytes(text, (size_t)bytes, decoded) : -1;
    if (type != ANEMO_PIECE_CONTROL && type != ANEMO_PIECE_USER && n < 0)
        type = ANEMO_PIECE_LITERAL;
    const anemo_status status = anemo_vocabulary_put(
        &t->vocab, gguf->path, KEY("tokens"), (int64_t)id, n < 0 ? text : decoded,
        n < 0 ? (size_t)bytes : (size_t)n, type, 0, err);
    free(decoded);
    return status;
}

static anemo_status read_byte_pieces(anemo_tokenizer *t, const gguf_file *gguf, anemo_error *err) {
    const gguf_value *tokens, *types;
    ANEMO_TRY(find_array(gguf, KEY("tokens"), GGUF_STRING, 0, "an array of 1 to 4194304 strings",
                         &tokens, err));
    ANEMO_TRY(find_array(gguf, KEY("token_type"), GGUF_I32, tokens->count,
                         "an array of i32, one for each token", &types, err));
    const uint8_t *at = tokens->data;
    for (uint64_t i = 0; i < tokens->count; ++i) {
        const uint64_t bytes = anemo_load_u64(at);
        anemo_piece_type type = ANEMO_PIECE_HOLE;
        ANEMO_TRY(read_type(gguf, types, i, &type, err));
        ANEMO_TRY(read_byte_piece(t, gguf, i, (const char *)at + 8, bytes, type, err));
        at += 8 + bytes;
    }
    return ANEMO_OK;
}

static anemo_status read_merges(anemo_tokenizer *t, const gguf_file *gguf, anemo_error *err) {
    const gguf_value *merges = gguf_find(gguf, KEY("merges"));
    if (!merges || merges->type != GGUF_ARRAY || merges->element != GGUF_STRING ||
        merges->count >= UINT32_MAX)
        return refuse_key(gguf, KEY("merges"), merges, "an array of strings \"left right\"", err);
    const uint8_t *at = merges->data;
    for (uint64_t i = 0; i < merges->count; ++i) {
        const uint64_t bytes = anemo_load_u64(at);
        const char *left = (const char *)at + 8;
        const char *space = bytes ? memchr(left, ' ', (size_t)bytes) : NULL;
        int32_t result = -1;
        bool added = true;
        if (space)
            ANEMO_TRY(anemo_merge_by_name(t, gguf->path, left, (size_t)(space - left), space + 1,
                                          (size_t)(left + bytes - space - 1), (uint32_t)i, &result,
                                          &added, err));
        if (result < 0 || !added)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: " KEY("merges") "[%" PRIu64 "] is \"%s\"; accepted: two tokens "
                                                   "whose joint is one, too, each pair once",
                              gguf->path, i, anemo_show_bytes(left, (size_t)bytes).text);
        at += 8 + bytes;
    }
    return ANEMO_OK;
}

static anemo_status read_byte_level(anemo_tokenizer *t, const gguf_file *gguf, anemo_error *err) {
    bool adds_bos = false;
    t->byte_level = t->vocab.bytes = t->user_first = true;
    ANEMO_TRY(read_pre(t, gguf, &adds_bos, err));
    ANEMO_TRY(read_byte_pieces(t, gguf, err));
    ANEMO_TRY(read_bool(gguf, KEY("add_bos_token"), adds_bos, &adds_bos, err));
    ANEMO_TRY(read_id(gguf, &t->vocab, KEY("bos_token_id"), &t->bos, err));
    ANEMO_TRY(read_id(gguf, &t->vocab, KEY("eos_token_id"), &t->eos, err));
    if (!adds_bos)
        t->bos = -1;
    ANEMO_TRY(read_merges(t, gguf, err));
    return anemo_tokenizer_seal(t, gguf->path, err);
}

/* ---------------------------------------------------------------- SentencePiece */

/* What `anemo quantize` adds. */
static anemo_status read_own_keys(anemo_tokenizer *t, const gguf_file *gguf, anemo_error *err) {
    static const char *const words[] = {"none", "first", "segment"};
    char word[16] = "";
    ANEMO_TRY(read_text(gguf, ANEMO_GGUF_UNKNOWN_SURFACE, t->unknown_surface,
                        sizeof t->unknown_surface, NULL, err));
    ANEMO_TRY(read_text(gguf, ANEMO_GGUF_PREFIX, word, sizeof word, &t->user_first, err));
    for (int i = 0; i < 3 && t->user_first; ++i)
        if (strcmp(word, words[i]) == 0) {
            t->prefix = (anemo_prefix)i;
            t->user_spaces = false;
            return ANEMO_OK;
        }
    return t->user_first
               ? anemo_fail(err, ANEMO_E_INPUT,
                            "%s: " ANEMO_GGUF_PREFIX " is \"%s\"; accepted: none, first, segment",
                            gguf->path, anemo_show(word).text)
               : ANEMO_OK;
}

static anemo_status read_sentencepiece(anemo_tokenizer *t, const gguf_file *gguf,
                                       anemo_error *err) {
    bool prefix = true, adds_bos = true;
    ANEMO_TRY(read_pieces(t, gguf, err));
    ANEMO_TRY(read_bool(gguf, KEY("add_bos_token"), true, &adds_bos, err));
    ANEMO_TRY(read_id(gguf, &t->vocab, KEY("bos_token_id"), &t->bos, err));
    ANEMO_TRY(read_id(gguf, &t->vocab, KEY("eos_token_id"), &t->eos, err));
    ANEMO_TRY(read_id(gguf, &t->vocab, KEY("unknown_token_id"), &t->unknown, err));
    ANEMO_TRY(read_bool(gguf, KEY("add_space_prefix"), true, &prefix, err));
    ANEMO_TRY(read_bool(gguf, KEY("remove_extra_whitespaces"), false, &t->trim_spaces, err));
    if (!adds_bos)
        t->bos = -1;
    strcpy(t->unknown_surface, ANEMO_UNKNOWN_SURFACE);
    t->prefix = prefix ? ANEMO_PREFIX_FIRST : ANEMO_PREFIX_NONE;
    t->escape_spaces = true;
    t->user_spaces = true;
    t->fuse_unknown = true;
    ANEMO_TRY(read_own_keys(t, gguf, err));
    ANEMO_TRY(anemo_merges_from_scores(t, gguf->path, err));
    return anemo_tokenizer_seal(t, gguf->path, err);
}

/* ---------------------------------------------------------------- the file */

/* What a tekken.json says of chats. */
static anemo_status read_chat_keys(anemo_tokenizer *t, const gguf_file *gguf, anemo_error *err) {
    ANEMO_TRY(read_text(gguf, ANEMO_GGUF_VERSION, t->version, sizeof t->version, NULL, err));
    ANEMO_TRY(read_text(gguf, ANEMO_GGUF_EFFORT, t->effort, sizeof t->effort, NULL, err));
    return read_text(gguf, ANEMO_GGUF_EFFORTS, t->efforts, sizeof t->efforts, &t->has_settings,
                     err);
}

anemo_status anemo_read_gguf_vocabulary(anemo_tokenizer *t, const anemo_mapped_file *file,
                                        anemo_error *err) {
    gguf_file gguf;
    anemo_tensors tensors = {0};
    anemo_status status = gguf_parse(file, &gguf, &tensors, err);
    if (status == ANEMO_OK) {
        bool byte_level = false;
        status = read_kind(&gguf, &byte_level, err);
        if (status == ANEMO_OK)
            status = read_chat_keys(t, &gguf, err);
        if (status == ANEMO_OK)
            status =
                byte_level ? read_byte_level(t, &gguf, err) : read_sentencepiece(t, &gguf, err);
        gguf_free(&gguf);
    }
    anemo_tensors_free(&tensors);
    return status;
}
