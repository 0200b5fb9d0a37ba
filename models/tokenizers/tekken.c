/* Reads tekken.json, Mistral's byte-level vocabulary (Nemo and later).
 *
 *   config          pattern, default_vocab_size V, default_num_special_tokens S, version
 *   vocab           entries {rank, token_bytes in base64, token_str}, rank = place in the list
 *   special_tokens  {rank, token_str, is_control}; files up to version v7 leave them out
 *   model_settings_builder   from v15 on: which efforts of reasoning a chat may ask for
 *
 * The ids 0 .. S-1 are special, rank r is id S + r, and of the list only the first V - S entries
 * are part of the model: the file holds more. There are no merges (byte_level.c). No special token
 * is ever made from text, whatever is_control says: mistral-common has it so. */
#include "models/tokenizers/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* The special tokens of files that do not list them, in order of their ids. */
static const char *const early_special[] = {"<unk>",
                                            "<s>",
                                            "</s>",
                                            "[INST]",
                                            "[/INST]",
                                            "[AVAILABLE_TOOLS]",
                                            "[/AVAILABLE_TOOLS]",
                                            "[TOOL_RESULTS]",
                                            "[/TOOL_RESULTS]",
                                            "[TOOL_CALLS]",
                                            "[IMG]",
                                            "<pad>",
                                            "[IMG_BREAK]",
                                            "[IMG_END]",
                                            "[PREFIX]",
                                            "[MIDDLE]",
                                            "[SUFFIX]",
                                            "[SYSTEM_PROMPT]",
                                            "[/SYSTEM_PROMPT]",
                                            "[TOOL_CONTENT]"};
#define EARLY_SPECIAL ((int64_t)(sizeof early_special / sizeof *early_special))

typedef struct source {
    anemo_tokenizer *t;
    const char *path;
    anemo_error *err;
    int64_t vocab, special;
} source;

static anemo_status refuse(const source *s, const char *field, const json_t *value,
                           const char *accepted) {
    return anemo_fail(s->err, ANEMO_E_INPUT, "%s: %s is %s; accepted: %s", s->path, field,
                      anemo_show_json(value).text, accepted);
}

static anemo_status refuse_entry(const source *s, const char *list, int64_t index,
                                 const json_t *value, const char *accepted) {
    char field[64];
    snprintf(field, sizeof field, "%s[%" PRId64 "]", list, index);
    return refuse(s, field, value, accepted);
}

/* ---------------------------------------------------------------- config */

static anemo_status read_config(source *s, const json_t *config) {
    const json_t *pattern = json_object_get(config, "pattern"),
                 *size = json_object_get(config, "default_vocab_size"),
                 *special = json_object_get(config, "default_num_special_tokens");
    const anemo_split_rule *rule =
        json_is_string(pattern)
            ? anemo_split_rule_of_pattern(json_string_value(pattern), json_string_length(pattern))
            : NULL;
    if (!rule)
        return refuse(s, "config.pattern", pattern, anemo_split_rule_names);
    const json_t *version = json_object_get(config, "version");
    if (version && json_string_length(version) >= sizeof s->t->version)
        return refuse(s, "config.version", version, "a word like v3, v7, v13");
    if (json_is_string(version))
        strcpy(s->t->version, json_string_value(version));
    s->vocab = json_is_integer(size) ? json_integer_value(size) : 0;
    s->special = json_is_integer(special) ? json_integer_value(special) : -1;
    if (s->special < EARLY_SPECIAL || s->special > ANEMO_VOCAB_LIMIT / 2)
        return refuse(s, "config.default_num_special_tokens", special, "20 to 2097152");
    if (s->vocab < s->special + 256 || s->vocab > ANEMO_VOCAB_LIMIT)
        return refuse(s, "config.default_vocab_size", size,
                      "256 more than default_num_special_tokens to 4194304");
    return anemo_splitter_create(rule, s->path, &s->t->splitter, s->err);
}

/* ---------------------------------------------------------------- special tokens */

static anemo_status put_special(const source *s, int64_t id, const char *text) {
    return anemo_vocabulary_put(&s->t->vocab, s->path, "special_tokens", id, text, strlen(text),
                                ANEMO_PIECE_CONTROL, 0, s->err);
}

static anemo_status read_special(const source *s, const json_t *list) {
    if (list && !json_is_null(list) && !json_is_array(list))
        return refuse(s, "special_tokens", list, "an array or null");
    for (size_t i = 0; i < json_array_size(list); ++i) {
        const json_t *entry = json_array_get(list, i), *rank = json_object_get(entry, "rank"),
                     *text = json_object_get(entry, "token_str");
        if (!json_is_integer(rank) || !json_is_string(text) ||
            strlen(json_string_value(text)) != json_string_length(text) ||
            json_integer_value(rank) < 0 || json_integer_value(rank) >= s->special)
            return refuse_entry(s, "special_tokens", (int64_t)i, entry,
                                "token_str and a rank below default_num_special_tokens");
        ANEMO_TRY(put_special(s, json_integer_value(rank), json_string_value(text)));
    }
    for (int64_t id = 0; id < EARLY_SPECIAL && json_array_size(list) == 0; ++id)
        ANEMO_TRY(put_special(s, id, early_special[id]));
    for (int64_t id = 0; id < s->special; ++id) {
        char filler[32];
        snprintf(filler, sizeof filler, "<SPECIAL_%" PRId64 ">", id);
        if ((size_t)id >= s->t->vocab.n || s->t->vocab.pieces[id].type == ANEMO_PIECE_HOLE)
            ANEMO_TRY(put_special(s, id, filler));
    }
    s->t->bos = anemo_vocabulary_find_special(&s->t->vocab, "<s>", 3);
    s->t->eos = anemo_vocabulary_find_special(&s->t->vocab, "</s>", 4);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- settings of a chat */

static bool is_effort(const json_t *value) {
    static const char *const words[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
    const char *word = json_string_value(value);
    for (size_t i = 0; word && i < sizeof words / sizeof *words; ++i)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

/* reasoning_effort: {values, default}. json_schema is for answers in a schema, which chats here do
 * not ask for. */
static anemo_status read_settings(source *s, const json_t *builder) {
    static const char accepted[] = "null, or values and among them a default, of none, minimal, "
                                   "low, medium, high, xhigh, max";
    const char *key;
    json_t *field;
    if (!builder || json_is_null(builder))
        return ANEMO_OK;
    if (!json_is_object(builder))
        return refuse(s, "model_settings_builder", builder, "an object");
    json_object_foreach((json_t *)(uintptr_t)builder, key, field) {
        if (strcmp(key, "reasoning_effort") != 0 && strcmp(key, "json_schema") != 0 &&
            !json_is_null(field))
            return refuse(s, "model_settings_builder", builder, "reasoning_effort, json_schema");
    }
    const json_t *effort = json_object_get(builder, "reasoning_effort");
    s->t->has_settings = true;
    if (!effort || json_is_null(effort))
        return ANEMO_OK;
    const json_t *values = json_object_get(effort, "values"),
                 *first = json_object_get(effort, "default");
    bool among = false, known = is_effort(first) && json_array_size(values) <= 7;
    for (size_t i = 0; i < json_array_size(values) && known; ++i) {
        const json_t *value = json_array_get(values, i);
        known = is_effort(value);
        among = among || json_equal(value, first);
        if (known)
            sprintf(s->t->efforts + strlen(s->t->efforts), "%s%s", i ? ", " : "",
                    json_string_value(value));
    }
    if (!known || !among)
        return refuse(s, "model_settings_builder.reasoning_effort", effort, accepted);
    strcpy(s->t->effort, json_string_value(first));
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- pieces */

static int32_t digit_value(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int32_t)(at - digits) : -1;
}

/* Whole groups of four, padded by '='. Returns the number of bytes, -1: not base64. */
static ptrdiff_t decode_base64(const char *text, size_t n, char *out) {
    ptrdiff_t bytes = 0;
    size_t padding = 0;
    while (padding < 2 && padding < n && text[n - 1 - padding] == '=')
        ++padding;
    if (n == 0 || n % 4 != 0)
        return -1;
    uint32_t bits = 0;
    for (size_t i = 0; i < n; ++i) {
        const int32_t value = i < n - padding ? digit_value(text[i]) : 0;
        if (value < 0)
            return -1;
        bits = bits << 6 | (uint32_t)value;
        for (size_t k = 0; i % 4 == 3 && k < 3 - (i + 1 == n ? padding : 0); ++k)
            out[bytes++] = (char)(bits >> (16 - 8 * k) & 0xff);
    }
    return bytes;
}

static anemo_status read_piece(const source *s, int64_t rank, const json_t *entry) {
    const json_t *given = json_object_get(entry, "rank"),
                 *base64 = json_object_get(entry, "token_bytes");
    char bytes[ANEMO_PIECE_LIMIT];
    const size_t n = json_string_length(base64);
    if (!json_is_integer(given) || json_integer_value(given) != rank)
        return refuse_entry(s, "vocab", rank, entry, "a rank that is its place in the list");
    if (!json_is_string(base64) || n > sizeof bytes / 3 * 4)
        return refuse_entry(s, "vocab", rank, entry, "token_bytes in base64, at most 510 bytes");
    const ptrdiff_t n_bytes = decode_base64(json_string_value(base64), n, bytes);
    if (n_bytes <= 0)
        return refuse_entry(s, "vocab", rank, entry, "token_bytes in base64");
    return anemo_vocabulary_put(&s->t->vocab, s->path, "vocab", s->special + rank, bytes,
                                (size_t)n_bytes, ANEMO_PIECE_NORMAL, 0, s->err);
}

static anemo_status read_pieces(const source *s, const json_t *vocab) {
    const int64_t n = s->vocab - s->special;
    if ((int64_t)json_array_size(vocab) < n)
        return anemo_fail(s->err, ANEMO_E_INPUT,
                          "%s: vocab has %zu entries; accepted: at least %" PRId64
                          " (default_vocab_size - default_num_special_tokens)",
                          s->path, json_array_size(vocab), n);
    for (int64_t rank = 0; rank < n; ++rank)
        ANEMO_TRY(read_piece(s, rank, json_array_get(vocab, (size_t)rank)));
    return ANEMO_OK;
}

static anemo_status read_root(source *s, const json_t *root) {
    const json_t *config = json_object_get(root, "config"), *vocab = json_object_get(root, "vocab");
    if (!json_is_object(config))
        return refuse(s, "config", config, "an object");
    if (!json_is_array(vocab))
        return refuse(s, "vocab", vocab, "an array");
    ANEMO_TRY(read_config(s, config));
    ANEMO_TRY(read_special(s, json_object_get(root, "special_tokens")));
    ANEMO_TRY(read_settings(s, json_object_get(root, "model_settings_builder")));
    ANEMO_TRY(read_pieces(s, vocab));
    ANEMO_TRY(anemo_merges_from_ids(s->t, s->path, s->err));
    return anemo_tokenizer_seal(s->t, s->path, s->err);
}

anemo_status anemo_read_tekken(anemo_tokenizer *t, const anemo_mapped_file *file,
                               anemo_error *err) {
    json_t *root = anemo_json_object_nul(file->path, file->data, file->bytes, err);
    if (!root)
        return ANEMO_E_INPUT;
    source s = {.t = t, .path = file->path, .err = err};
    t->byte_level = t->vocab.bytes = t->whole_words = t->user_first = true;
    const anemo_status status = read_root(&s, root);
    json_decref(root);
    return status;
}
