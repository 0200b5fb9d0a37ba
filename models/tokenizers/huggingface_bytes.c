/* tokenizer.json of byte-level BPE: GPT-2, Llama 3, Qwen, Mistral's tekken, gpt-oss.
 *
 *   normalizer      null or NFC
 *   pre_tokenizer   ByteLevel (GPT-2's own splitter), or Split by a known expression and ByteLevel
 *   decoder         ByteLevel
 *
 * Added tokens are read before the vocabulary, which may repeat them: they are special pieces with
 * their text as it stands, while the pieces of the vocabulary are spelt in the byte alphabet. */
#include "models/tokenizers/huggingface.h"

#include <stdio.h>
#include <stdlib.h>

bool anemo_hf_is_byte_level(const json_t *root) {
    const json_t *item = json_object_get(root, "pre_tokenizer");
    const json_t *list = json_object_get(item, "pretokenizers");
    if (anemo_hf_is_string(json_object_get(item, "type"), "ByteLevel"))
        return true;
    for (size_t i = 0; i < json_array_size(list); ++i)
        if (anemo_hf_is_string(json_object_get(json_array_get(list, i), "type"), "ByteLevel"))
            return true;
    return false;
}

/* ---------------------------------------------------------------- normalizer, splitter, decoder */

static anemo_status read_normalizer(anemo_hf_source *s, const json_t *item) {
    const json_t *type = json_object_get(item, "type");
    s->has_normalizer = true;
    if (!anemo_hf_is_string(type, "NFC"))
        return anemo_hf_refuse(s, "normalizer.type", type, "null or NFC beside ByteLevel");
    ANEMO_TRY(anemo_hf_only(s, "normalizer", item, "type"));
    ANEMO_TRY(anemo_normalize_available(s->path, s->err));
    s->t->nfc = true;
    return ANEMO_OK;
}

static anemo_status read_byte_level(const anemo_hf_source *s, const json_t *item, bool *use_regex) {
    bool prefix = true, trim = true;
    ANEMO_TRY(
        anemo_hf_only(s, "pre_tokenizer", item, "type add_prefix_space trim_offsets use_regex"));
    ANEMO_TRY(anemo_hf_flag(s, "ByteLevel", item, "add_prefix_space", true, &prefix));
    ANEMO_TRY(anemo_hf_flag(s, "ByteLevel", item, "trim_offsets", true, &trim)); /* offsets only */
    ANEMO_TRY(anemo_hf_flag(s, "ByteLevel", item, "use_regex", true, use_regex));
    return prefix ? anemo_hf_refuse(s, "ByteLevel.add_prefix_space",
                                    json_object_get(item, "add_prefix_space"), "false")
                  : ANEMO_OK;
}

/* {"type": "Split", "pattern": {"Regex": EXPRESSION}, "behavior": "Isolated", "invert": false}; as
 * the known expressions leave nothing out, Removed and inverted is the same. */
static anemo_status read_split(const anemo_hf_source *s, const json_t *item,
                               const anemo_split_rule **rule) {
    const json_t *pattern = json_object_get(item, "pattern"),
                 *regex = json_object_get(pattern, "Regex"),
                 *behavior = json_object_get(item, "behavior");
    bool invert = false;
    ANEMO_TRY(anemo_hf_only(s, "pre_tokenizer", item, "type pattern behavior invert"));
    ANEMO_TRY(anemo_hf_flag(s, "Split", item, "invert", false, &invert));
    if (!anemo_hf_is_string(behavior, invert ? "Removed" : "Isolated"))
        return anemo_hf_refuse(s, "Split.behavior", behavior,
                               "\"Isolated\", or \"Removed\" with invert");
    *rule = json_is_string(regex)
                ? anemo_split_rule_of_pattern(json_string_value(regex), json_string_length(regex))
                : NULL;
    return *rule ? ANEMO_OK : anemo_hf_refuse(s, "Split.pattern", pattern, anemo_split_rule_names);
}

static anemo_status read_pre_tokenizer(anemo_hf_source *s, const json_t *item) {
    const anemo_split_rule *rule = NULL;
    const json_t *list = json_object_get(item, "pretokenizers"), *last = item;
    bool use_regex = true;
    if (list) {
        const json_t *split = json_array_get(list, 0);
        ANEMO_TRY(anemo_hf_only(s, "pre_tokenizer", item, "type pretokenizers"));
        if (!anemo_hf_is_string(json_object_get(item, "type"), "Sequence") ||
            json_array_size(list) != 2 ||
            !anemo_hf_is_string(json_object_get(split, "type"), "Split"))
            return anemo_hf_refuse(s, "pre_tokenizer", item,
                                   "a Sequence of one Split and ByteLevel");
        ANEMO_TRY(read_split(s, split, &rule));
        last = json_array_get(list, 1);
    }
    if (!anemo_hf_is_string(json_object_get(last, "type"), "ByteLevel"))
        return anemo_hf_refuse(s, "pre_tokenizer", item, "ByteLevel as its last part");
    ANEMO_TRY(read_byte_level(s, last, &use_regex));
    if (use_regex == (rule != NULL))
        return anemo_hf_refuse(s, "ByteLevel.use_regex", json_object_get(last, "use_regex"),
                               rule ? "false behind Split" : "true without Split");
    return anemo_splitter_create(rule ? rule : anemo_split_rule_gpt2(), s->path, &s->t->splitter,
                                 s->err);
}

static anemo_status check_decoder(const anemo_hf_source *s, const json_t *decoder) {
    if (!anemo_hf_is_string(json_object_get(decoder, "type"), "ByteLevel"))
        return anemo_hf_refuse(s, "decoder", decoder, "ByteLevel, as in pre_tokenizer");
    return anemo_hf_only(s, "decoder", decoder, "type add_prefix_space trim_offsets use_regex");
}

/* ---------------------------------------------------------------- pieces */

static anemo_status refuse_added(const anemo_hf_source *s, const json_t *content,
                                 const char *what) {
    return anemo_fail(s->err, ANEMO_E_INPUT, "%s: added_tokens: %s %s", s->path,
                      anemo_show_json(content).text, what);
}

static anemo_status read_added_token(const anemo_hf_source *s, const json_t *token) {
    static const char *const matching[] = {"single_word", "lstrip", "rstrip", "normalized"};
    const json_t *content = json_object_get(token, "content"), *id = json_object_get(token, "id");
    ANEMO_TRY(anemo_hf_only(s, "added_tokens[]", token,
                            "id content single_word lstrip rstrip normalized special"));
    if (!json_is_string(content) || !json_is_integer(id))
        return anemo_hf_refuse(s, "added_tokens[]", token, "an object with content and id");
    bool special = false;
    ANEMO_TRY(anemo_hf_flag(s, "added_tokens[]", token, "special", false, &special));
    for (size_t i = 0; i < 4 && !special; ++i) { /* a special one is never matched */
        bool set = false;
        ANEMO_TRY(anemo_hf_flag(s, "added_tokens[]", token, matching[i], i == 3, &set));
        if (set && (i < 3 || s->has_normalizer)) {
            char what[80];
            snprintf(what, sizeof what, "has %s true; accepted: false", matching[i]);
            return refuse_added(s, content, what);
        }
    }
    const char *text = json_string_value(content);
    if (anemo_vocabulary_find_special(&s->t->vocab, text, strlen(text)) >= 0)
        return refuse_added(s, content, "is there twice; accepted: once");
    return anemo_vocabulary_put(&s->t->vocab, s->path, "added_tokens", json_integer_value(id), text,
                                strlen(text), special ? ANEMO_PIECE_CONTROL : ANEMO_PIECE_USER, 0,
                                s->err);
}

/* A piece in the byte alphabet; one outside it stands for itself and no text becomes it. */
static anemo_status read_piece(const anemo_hf_source *s, const char *name, int64_t id,
                               char *buffer) {
    const size_t bytes = strlen(name);
    const int32_t added = anemo_vocabulary_find_special(&s->t->vocab, name, bytes);
    if (added >= 0 && added == id)
        return ANEMO_OK;
    if (added >= 0)
        return anemo_fail(s->err, ANEMO_E_INPUT,
                          "%s: added_tokens: \"%s\" has another id in model.vocab; accepted: the "
                          "same",
                          s->path, anemo_show(name).text);
    const ptrdiff_t n = anemo_alphabet_bytes(name, bytes, buffer);
    return anemo_vocabulary_put(&s->t->vocab, s->path, "model.vocab", id, n < 0 ? name : buffer,
                                n < 0 ? bytes : (size_t)n,
                                n < 0 ? ANEMO_PIECE_LITERAL : ANEMO_PIECE_NORMAL, 0, s->err);
}

static anemo_status read_vocab(const anemo_hf_source *s, json_t *vocab) {
    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return anemo_hf_refuse(s, "model.vocab", vocab, "an object of pieces and ids");
    const char *piece;
    json_t *id;
    json_object_foreach(vocab, piece, id) {
        if (!json_is_integer(id))
            return anemo_fail(s->err, ANEMO_E_INPUT,
                              "%s: model.vocab[\"%s\"] is %s; accepted: an id", s->path,
                              anemo_show(piece).text, anemo_show_json(id).text);
        char *buffer = malloc(strlen(piece) + 1);
        if (!buffer)
            return anemo_fail(s->err, ANEMO_E_MEMORY, "%s: out of memory", s->path);
        const anemo_status status = read_piece(s, piece, json_integer_value(id), buffer);
        free(buffer);
        ANEMO_TRY(status);
    }
    return ANEMO_OK;
}

/* "left right" or ["left", "right"] */
static anemo_status read_merge(const anemo_hf_source *s, size_t index, const json_t *merge) {
    const bool pair = json_is_array(merge) && json_array_size(merge) == 2;
    const char *left = json_string_value(pair ? json_array_get(merge, 0) : merge);
    const char *space = left && !pair ? strchr(left, ' ') : NULL;
    const char *right = pair    ? json_string_value(json_array_get(merge, 1))
                        : space ? space + 1
                                : NULL;
    char field[48];
    snprintf(field, sizeof field, "model.merges[%zu]", index);
    if (!left || !right)
        return anemo_hf_refuse(s, field, merge, "\"left right\" or [\"left\", \"right\"]");
    int32_t result;
    bool added;
    ANEMO_TRY(anemo_merge_by_name(s->t, s->path, left,
                                  space ? (size_t)(space - left) : strlen(left), right,
                                  strlen(right), (uint32_t)index, &result, &added, s->err));
    if (result < 0)
        return anemo_hf_refuse(s, field, merge,
                               "two pieces of model.vocab whose joint is one, too");
    return added ? ANEMO_OK : anemo_hf_refuse(s, field, merge, "each merge once");
}

anemo_status anemo_hf_read_byte_level(anemo_hf_source *s, const json_t *root) {
    const json_t *model = json_object_get(root, "model"),
                 *added = json_object_get(root, "added_tokens"),
                 *merges = json_object_get(model, "merges");
    if (s->t->byte_fallback)
        return anemo_hf_refuse(s, "model.byte_fallback", json_object_get(model, "byte_fallback"),
                               "false beside ByteLevel");
    s->t->fuse_unknown = false; /* nothing is unknown */
    if (!anemo_hf_is_null(root, "normalizer"))
        ANEMO_TRY(read_normalizer(s, json_object_get(root, "normalizer")));
    ANEMO_TRY(read_pre_tokenizer(s, json_object_get(root, "pre_tokenizer")));
    ANEMO_TRY(check_decoder(s, json_object_get(root, "decoder")));
    if (!anemo_hf_is_null(root, "added_tokens") && !json_is_array(added))
        return anemo_hf_refuse(s, "added_tokens", added, "an array");
    for (size_t i = 0; i < json_array_size(added); ++i)
        ANEMO_TRY(read_added_token(s, json_array_get(added, i)));
    ANEMO_TRY(read_vocab(s, json_object_get(model, "vocab")));
    if (!json_is_array(merges) || json_array_size(merges) >= UINT32_MAX)
        return anemo_hf_refuse(s, "model.merges", merges, "an array");
    for (size_t i = 0; i < json_array_size(merges); ++i)
        ANEMO_TRY(read_merge(s, i, json_array_get(merges, i)));
    return ANEMO_OK;
}
