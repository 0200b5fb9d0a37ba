/* Reads tokenizer.json of Hugging Face tokenizers: BPE over code points, as in Llama 2 and Mistral.
 *
 * The file is a small program: normalizer, added tokens, pre-tokenizer, model, post-processor,
 * decoder, each one of many types. Accepted are the types that make SentencePiece's BPE, in both
 * spellings:
 *
 *   normalizer Prepend "\u2581" and Replace " " -> "\u2581"           (older: a prefix per segment)
 *   pre_tokenizer Metaspace, prepend_scheme first | always | never    (newer)
 *
 * (byte-level BPE: huggingface_bytes.c), and every other type, value or field is refused by name,
 * because ignoring it would give other ids without a word. The decoder must be the inverse of what
 * the encoder does. The post-processor only tells which tokens are BOS and EOS: adding BOS is the
 * caller's choice.
 *
 * Special added tokens are control tokens: never matched in a text, and merges that would spell
 * one are left out. Added tokens that are not special are matched before anything else. Where
 * Metaspace loses a leading space, see encode.c. */
#include "models/tokenizers/huggingface.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- fields */

anemo_status anemo_hf_refuse(const anemo_hf_source *s, const char *field, const json_t *value,
                             const char *accepted) {
    return anemo_fail(s->err, ANEMO_E_INPUT, "%s: %s is %s; accepted: %s", s->path, field,
                      anemo_show_json(value).text, accepted);
}

anemo_status anemo_hf_only(const anemo_hf_source *s, const char *where, const json_t *object,
                           const char *names) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        const size_t n = strlen(key);
        bool known = false;
        for (const char *name = names; *name && !known; name += strspn(name, " ")) {
            const size_t length = strcspn(name, " ");
            known = length == n && memcmp(name, key, n) == 0;
            name += length;
        }
        if (!known)
            return anemo_fail(s->err, ANEMO_E_INPUT, "%s: unknown field %s.%s; accepted: %s",
                              s->path, where, anemo_show(key).text, names);
    }
    return ANEMO_OK;
}

anemo_status anemo_hf_flag(const anemo_hf_source *s, const char *where, const json_t *object,
                           const char *name, bool missing, bool *out) {
    const json_t *value = json_object_get(object, name);
    *out = value ? json_is_true(value) : missing;
    if (!value || json_is_boolean(value))
        return ANEMO_OK;
    return anemo_fail(s->err, ANEMO_E_INPUT, "%s: %s.%s is %s; accepted: true or false", s->path,
                      where, name, anemo_show_json(value).text);
}

/* {"type": "Replace", "pattern": {"String": FROM}, "content": TO} */
static bool replaces(const json_t *item, const char *from, const char *to) {
    const json_t *pattern = json_object_get(item, "pattern");
    return json_object_size(pattern) == 1 &&
           anemo_hf_is_string(json_object_get(pattern, "String"), from) &&
           anemo_hf_is_string(json_object_get(item, "content"), to);
}

/* ---------------------------------------------------------------- normalizer, pre-tokenizer */

static anemo_status read_normalizer(anemo_hf_source *s, const json_t *item) {
    const json_t *type = json_object_get(item, "type");
    if (anemo_hf_is_string(type, "Sequence")) {
        const json_t *list = json_object_get(item, "normalizers");
        ANEMO_TRY(anemo_hf_only(s, "normalizer", item, "type normalizers"));
        if (!json_is_array(list))
            return anemo_hf_refuse(s, "normalizer.normalizers", list, "an array");
        for (size_t i = 0; i < json_array_size(list); ++i)
            ANEMO_TRY(read_normalizer(s, json_array_get(list, i)));
        return ANEMO_OK;
    }
    if (anemo_hf_is_string(type, "Prepend")) {
        ANEMO_TRY(anemo_hf_only(s, "normalizer", item, "type prepend"));
        if (!anemo_hf_is_string(json_object_get(item, "prepend"), ANEMO_SPACE_MARK) || s->prepends)
            return anemo_hf_refuse(s, "normalizer Prepend", item, "\"" ANEMO_SPACE_MARK "\", once");
        s->prepends = true;
        s->t->prefix = ANEMO_PREFIX_SEGMENT;
        return ANEMO_OK;
    }
    if (anemo_hf_is_string(type, "Replace")) {
        ANEMO_TRY(anemo_hf_only(s, "normalizer", item, "type pattern content"));
        if (!replaces(item, " ", ANEMO_SPACE_MARK))
            return anemo_hf_refuse(s, "normalizer Replace", item,
                                   "the string \" \" to \"" ANEMO_SPACE_MARK "\"");
        s->t->escape_spaces = true;
        return ANEMO_OK;
    }
    return anemo_hf_refuse(s, "normalizer.type", type, "null, Prepend, Replace, Sequence");
}

static anemo_status read_metaspace(const anemo_hf_source *s, const char *where, const json_t *item,
                                   anemo_prefix *prefix, bool *split) {
    const json_t *scheme = json_object_get(item, "prepend_scheme");
    ANEMO_TRY(anemo_hf_only(s, where, item,
                            "type replacement prepend_scheme split add_prefix_space"
                            " str_rep"));
    if (!anemo_hf_is_string(json_object_get(item, "replacement"), ANEMO_SPACE_MARK))
        return anemo_hf_refuse(s, "Metaspace.replacement", json_object_get(item, "replacement"),
                               "\"" ANEMO_SPACE_MARK "\"");
    if (!scheme || anemo_hf_is_string(scheme, "always"))
        *prefix = ANEMO_PREFIX_SEGMENT;
    else if (anemo_hf_is_string(scheme, "first"))
        *prefix = ANEMO_PREFIX_FIRST;
    else if (anemo_hf_is_string(scheme, "never"))
        *prefix = ANEMO_PREFIX_NONE;
    else
        return anemo_hf_refuse(s, "Metaspace.prepend_scheme", scheme, "first, always, never");
    bool legacy = true;
    ANEMO_TRY(
        anemo_hf_flag(s, where, item, "add_prefix_space", *prefix != ANEMO_PREFIX_NONE, &legacy));
    if (legacy != (*prefix != ANEMO_PREFIX_NONE))
        return anemo_hf_refuse(s, "Metaspace.add_prefix_space",
                               json_object_get(item, "add_prefix_space"),
                               "what prepend_scheme says");
    return anemo_hf_flag(s, where, item, "split", true, split);
}

static anemo_status read_pre_tokenizer(anemo_hf_source *s, const json_t *item) {
    const json_t *type = json_object_get(item, "type");
    if (!anemo_hf_is_string(type, "Metaspace"))
        return anemo_hf_refuse(s, "pre_tokenizer.type", type,
                               "null, Metaspace, ByteLevel, Sequence of Split and ByteLevel");
    if (s->prepends)
        return anemo_hf_refuse(s, "pre_tokenizer", item,
                               "null beside a normalizer that prepends \"" ANEMO_SPACE_MARK "\"");
    s->t->escape_spaces = true;
    return read_metaspace(s, "pre_tokenizer", item, &s->t->prefix, &s->t->split_words);
}

static anemo_status read_front(anemo_hf_source *s, const json_t *root) {
    if (!anemo_hf_is_null(root, "normalizer")) {
        s->has_normalizer = true;
        ANEMO_TRY(read_normalizer(s, json_object_get(root, "normalizer")));
    }
    if (!anemo_hf_is_null(root, "pre_tokenizer"))
        ANEMO_TRY(read_pre_tokenizer(s, json_object_get(root, "pre_tokenizer")));
    if (s->prepends && !s->t->escape_spaces)
        return anemo_hf_refuse(s, "normalizer", json_object_get(root, "normalizer"),
                               "Prepend together with Replace");
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- decoder */

static anemo_status read_strip(anemo_hf_source *s, const json_t *item) {
    const json_t *start = json_object_get(item, "start"), *stop = json_object_get(item, "stop");
    ANEMO_TRY(anemo_hf_only(s, "decoder", item, "type content start stop"));
    const bool known = anemo_hf_is_string(json_object_get(item, "content"), " ") &&
                       json_is_integer(start) && json_integer_value(start) >= 0 &&
                       json_integer_value(start) <= 1 && json_is_integer(stop) &&
                       json_integer_value(stop) == 0;
    if (!known || !s->fuses) /* unfused, it would strip every token */
        return anemo_hf_refuse(s, "decoder Strip", item,
                               "content \" \", start 0 or 1, stop 0, behind Fuse");
    s->strips = json_integer_value(start) == 1;
    return ANEMO_OK;
}

static anemo_status read_decoder(anemo_hf_source *s, const json_t *item) {
    const json_t *type = json_object_get(item, "type");
    if (anemo_hf_is_string(type, "Sequence")) {
        const json_t *list = json_object_get(item, "decoders");
        ANEMO_TRY(anemo_hf_only(s, "decoder", item, "type decoders"));
        if (!json_is_array(list))
            return anemo_hf_refuse(s, "decoder.decoders", list, "an array");
        for (size_t i = 0; i < json_array_size(list); ++i)
            ANEMO_TRY(read_decoder(s, json_array_get(list, i)));
        return ANEMO_OK;
    }
    if (anemo_hf_is_string(type, "Replace")) {
        ANEMO_TRY(anemo_hf_only(s, "decoder", item, "type pattern content"));
        if (!replaces(item, ANEMO_SPACE_MARK, " "))
            return anemo_hf_refuse(s, "decoder Replace", item,
                                   "the string \"" ANEMO_SPACE_MARK "\" to \" \"");
        s->decodes_mark = true;
    } else if (anemo_hf_is_string(type, "ByteFallback")) {
        ANEMO_TRY(anemo_hf_only(s, "decoder", item, "type"));
        s->decodes_bytes = true;
    } else if (anemo_hf_is_string(type, "Fuse")) {
        ANEMO_TRY(anemo_hf_only(s, "decoder", item, "type"));
        s->fuses = true;
    } else if (anemo_hf_is_string(type, "Strip")) {
        return read_strip(s, item);
    } else if (anemo_hf_is_string(type, "Metaspace")) {
        anemo_prefix prefix = ANEMO_PREFIX_NONE;
        bool split = false;
        ANEMO_TRY(read_metaspace(s, "decoder", item, &prefix, &split));
        s->decodes_mark = true;
        s->strips = prefix != ANEMO_PREFIX_NONE;
    } else {
        return anemo_hf_refuse(s, "decoder.type", type,
                               "Sequence, Replace, ByteFallback, Fuse, Strip, Metaspace");
    }
    return ANEMO_OK;
}

static anemo_status check_decoder(anemo_hf_source *s, const json_t *decoder) {
    ANEMO_TRY(read_decoder(s, decoder));
    if (s->decodes_mark != s->t->escape_spaces)
        return anemo_hf_refuse(s, "decoder", decoder,
                               s->t->escape_spaces
                                   ? "one that turns \"" ANEMO_SPACE_MARK "\" into a space"
                                   : "one that leaves \"" ANEMO_SPACE_MARK "\" alone");
    if (s->strips != (s->t->prefix != ANEMO_PREFIX_NONE))
        return anemo_hf_refuse(s, "decoder", decoder,
                               s->strips ? "one without Strip where no prefix is added"
                                         : "one that strips the space that is added as prefix");
    if (s->t->byte_fallback && !s->decodes_bytes)
        return anemo_hf_refuse(s, "decoder", decoder,
                               "one with ByteFallback, as model.byte_fallback is true");
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- model */

static anemo_status read_model_flags(anemo_hf_source *s, const json_t *model) {
    const json_t *type = json_object_get(model, "type");
    if (!anemo_hf_is_string(type, "BPE"))
        return anemo_hf_refuse(s, "model.type", type, "BPE");
    ANEMO_TRY(anemo_hf_only(
        s, "model", model,
        "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk "
        "byte_fallback ignore_merges vocab merges"));
    const json_t *dropout = json_object_get(model, "dropout");
    if (!anemo_hf_is_null(model, "dropout") &&
        !(json_is_number(dropout) && json_number_value(dropout) == 0))
        return anemo_hf_refuse(s, "model.dropout", dropout, "null");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; ++i)
        if (!anemo_hf_is_null(model, affixes[i]) &&
            !anemo_hf_is_string(json_object_get(model, affixes[i]), ""))
            return anemo_hf_refuse(s, affixes[i], json_object_get(model, affixes[i]), "null");
    ANEMO_TRY(anemo_hf_flag(s, "model", model, "fuse_unk", false, &s->t->fuse_unknown));
    ANEMO_TRY(anemo_hf_flag(s, "model", model, "byte_fallback", false, &s->t->byte_fallback));
    return anemo_hf_flag(s, "model", model, "ignore_merges", false, &s->t->whole_words);
}

static anemo_status read_vocab(anemo_hf_source *s, const json_t *model) {
    json_t *vocab = json_object_get(model, "vocab");
    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return anemo_hf_refuse(s, "model.vocab", vocab, "an object of pieces and ids");
    const char *piece;
    json_t *id;
    json_object_foreach(vocab, piece, id) {
        const size_t bytes = strlen(piece);
        if (!json_is_integer(id))
            return anemo_fail(s->err, ANEMO_E_INPUT,
                              "%s: model.vocab[\"%s\"] is %s; accepted: an id", s->path,
                              anemo_show(piece).text, anemo_show_json(id).text);
        const bool byte = s->t->byte_fallback && anemo_byte_value(piece, bytes) >= 0;
        ANEMO_TRY(anemo_vocabulary_put(&s->t->vocab, s->path, "model.vocab", json_integer_value(id),
                                       piece, bytes, byte ? ANEMO_PIECE_BYTE : ANEMO_PIECE_NORMAL,
                                       0, s->err));
    }
    if (anemo_hf_is_null(model, "unk_token"))
        return ANEMO_OK;
    const json_t *unk = json_object_get(model, "unk_token");
    const char *name = json_is_string(unk) ? json_string_value(unk) : "";
    s->t->unknown = anemo_vocabulary_find(&s->t->vocab, name, strlen(name));
    if (s->t->unknown < 0 || strlen(name) >= sizeof s->t->unknown_surface)
        return anemo_hf_refuse(s, "model.unk_token", unk, "null or a short piece of model.vocab");
    s->t->vocab.pieces[s->t->unknown].type = ANEMO_PIECE_UNKNOWN;
    strcpy(s->t->unknown_surface, name);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- added tokens */

static anemo_status refuse_added(const anemo_hf_source *s, const json_t *token, const char *what) {
    return anemo_fail(s->err, ANEMO_E_INPUT, "%s: added_tokens: %s %s", s->path,
                      anemo_show_json(json_object_get(token, "content")).text, what);
}

/* What may not be ignored in a token that is matched in the text. */
static anemo_status check_matched(const anemo_hf_source *s, const json_t *token) {
    static const char *const flags[] = {"single_word", "lstrip", "rstrip"};
    bool set = false;
    for (size_t i = 0; i < 3; ++i) {
        ANEMO_TRY(anemo_hf_flag(s, "added_tokens[]", token, flags[i], false, &set));
        if (set) {
            char what[80];
            snprintf(what, sizeof what, "has %s true; accepted: false", flags[i]);
            return refuse_added(s, token, what);
        }
    }
    ANEMO_TRY(anemo_hf_flag(s, "added_tokens[]", token, "normalized", true, &set));
    return set && s->has_normalizer
               ? refuse_added(s, token, "is matched in normalized text; accepted: normalized false")
               : ANEMO_OK;
}

static anemo_status read_added_token(anemo_hf_source *s, const json_t *token) {
    const json_t *content = json_object_get(token, "content"), *id = json_object_get(token, "id");
    ANEMO_TRY(anemo_hf_only(s, "added_tokens[]", token,
                            "id content single_word lstrip rstrip normalized special"));
    if (!json_is_string(content) || !json_is_integer(id))
        return anemo_hf_refuse(s, "added_tokens[]", token, "an object with content and id");
    bool special = false;
    ANEMO_TRY(anemo_hf_flag(s, "added_tokens[]", token, "special", false, &special));
    if (!special)
        ANEMO_TRY(check_matched(s, token));
    const char *text = json_string_value(content);
    /* Raw text with U+2581 becomes byte tokens (encode.c), so such a token cannot be matched. */
    const bool matched = !s->t->escape_spaces || !strstr(text, ANEMO_SPACE_MARK);
    const anemo_piece_type type = special   ? ANEMO_PIECE_CONTROL
                                  : matched ? ANEMO_PIECE_USER
                                            : ANEMO_PIECE_NORMAL;
    const int32_t known = anemo_vocabulary_find(&s->t->vocab, text, strlen(text));
    if (known < 0)
        return anemo_vocabulary_put(&s->t->vocab, s->path, "added_tokens", json_integer_value(id),
                                    text, strlen(text), type, 0, s->err);
    anemo_piece *piece = &s->t->vocab.pieces[known];
    if (json_integer_value(id) != known)
        return refuse_added(s, token, "has another id in model.vocab; accepted: the same");
    if (piece->type == ANEMO_PIECE_CONTROL || piece->type == ANEMO_PIECE_USER)
        return refuse_added(s, token, "is there twice; accepted: once");
    if (piece->type == ANEMO_PIECE_BYTE || (piece->type == ANEMO_PIECE_UNKNOWN && !special))
        return refuse_added(s, token, "is a byte piece, or the unknown piece and not special");
    piece->type = (uint8_t)type;
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- merges */

/* "left right" or ["left", "right"]. */
static bool merge_parts(const json_t *merge, const char **left, size_t *left_bytes,
                        const char **right, size_t *right_bytes) {
    if (json_is_array(merge)) {
        *left = json_string_value(json_array_get(merge, 0));
        *right = json_string_value(json_array_get(merge, 1));
        if (json_array_size(merge) != 2 || !*left || !*right)
            return false;
        *left_bytes = strlen(*left);
    } else {
        *left = json_string_value(merge);
        const char *space = *left ? strchr(*left, ' ') : NULL;
        if (!space || strchr(space + 1, ' '))
            return false;
        *left_bytes = (size_t)(space - *left);
        *right = space + 1;
    }
    *right_bytes = strlen(*right);
    return true;
}

static anemo_status read_merge(anemo_hf_source *s, size_t index, const json_t *merge) {
    const anemo_vocabulary *vocab = &s->t->vocab;
    char field[48];
    snprintf(field, sizeof field, "model.merges[%zu]", index);
    const char *left, *right;
    size_t left_bytes, right_bytes;
    if (!merge_parts(merge, &left, &left_bytes, &right, &right_bytes))
        return anemo_hf_refuse(s, field, merge, "\"left right\" or [\"left\", \"right\"]");
    char *joined = malloc(left_bytes + right_bytes + 1);
    if (!joined)
        return anemo_fail(s->err, ANEMO_E_MEMORY, "%s: out of memory", s->path);
    memcpy(joined, left, left_bytes);
    memcpy(joined + left_bytes, right, right_bytes);
    const int32_t ids[3] = {anemo_vocabulary_find(vocab, left, left_bytes),
                            anemo_vocabulary_find(vocab, right, right_bytes),
                            anemo_vocabulary_find(vocab, joined, left_bytes + right_bytes)};
    free(joined);
    bool control = false;
    for (size_t i = 0; i < 3; ++i) {
        if (ids[i] < 0)
            return anemo_hf_refuse(s, field, merge,
                                   "two pieces of model.vocab whose joint is one, too");
        const uint8_t type = vocab->pieces[ids[i]].type;
        if (type == ANEMO_PIECE_BYTE || type == ANEMO_PIECE_UNKNOWN)
            return anemo_hf_refuse(s, field, merge, "no byte pieces and not the unknown piece");
        control |= type == ANEMO_PIECE_CONTROL;
    }
    bool added = true;
    if (!control && !anemo_pairs_add(&s->t->merges,
                                     (anemo_pair){.left = (uint32_t)ids[0],
                                                  .right = (uint32_t)ids[1],
                                                  .rank = (uint32_t)index,
                                                  .result = (uint32_t)ids[2]},
                                     &added))
        return anemo_fail(s->err, ANEMO_E_MEMORY, "%s: out of memory", s->path);
    return added ? ANEMO_OK : anemo_hf_refuse(s, field, merge, "each merge once");
}

/* ---------------------------------------------------------------- post-processor */

/* The one id of the special token that a template names. */
static anemo_status template_token(const anemo_hf_source *s, const json_t *processor,
                                   const json_t *token, int32_t *out) {
    const json_t *name = json_object_get(token, "id");
    const json_t *special = json_object_get(json_object_get(processor, "special_tokens"),
                                            json_is_string(name) ? json_string_value(name) : "");
    const json_t *ids = json_object_get(special, "ids"), *id = json_array_get(ids, 0);
    const json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
    if (json_array_size(ids) != 1 || value < 0 || (size_t)value >= s->t->vocab.n ||
        s->t->vocab.pieces[value].type != ANEMO_PIECE_CONTROL)
        return anemo_hf_refuse(s, "post_processor.special_tokens", special,
                               "for each token of the template one id of a special added token");
    if (*out >= 0)
        return anemo_hf_refuse(s, "post_processor.single", json_object_get(processor, "single"),
                               "at most one token before and one behind the text");
    *out = (int32_t)value;
    return ANEMO_OK;
}

static anemo_status read_post_processor(anemo_hf_source *s, const json_t *processor) {
    const json_t *type = json_object_get(processor, "type");
    const json_t *single = json_object_get(processor, "single");
    if (anemo_hf_is_string(type, "ByteLevel"))
        return ANEMO_OK; /* offsets only */
    if (anemo_hf_is_string(type, "Sequence")) {
        const json_t *list = json_object_get(processor, "processors");
        for (size_t i = 0; i < json_array_size(list); ++i)
            ANEMO_TRY(read_post_processor(s, json_array_get(list, i)));
        return json_is_array(list)
                   ? ANEMO_OK
                   : anemo_hf_refuse(s, "post_processor.processors", list, "an array");
    }
    if (!anemo_hf_is_string(type, "TemplateProcessing"))
        return anemo_hf_refuse(s, "post_processor.type", type,
                               "null, TemplateProcessing, ByteLevel, Sequence");
    bool behind = false;
    for (size_t i = 0; i < json_array_size(single); ++i) {
        const json_t *item = json_array_get(single, i);
        const json_t *token = json_object_get(item, "SpecialToken");
        if (token) {
            ANEMO_TRY(template_token(s, processor, token, behind ? &s->t->eos : &s->t->bos));
        } else if (!behind && anemo_hf_is_string(
                                  json_object_get(json_object_get(item, "Sequence"), "id"), "A")) {
            behind = true;
        } else {
            return anemo_hf_refuse(s, "post_processor.single[]", item,
                                   "SpecialToken, or Sequence A once");
        }
    }
    return behind ? ANEMO_OK
                  : anemo_hf_refuse(s, "post_processor.single", single, "an array with Sequence A");
}

/* Where the template does not say it, the names that are in use. */
static void default_control(const anemo_tokenizer *t, const char *name, int32_t *id) {
    const int32_t found =
        *id < 0 ? anemo_vocabulary_find_special(&t->vocab, name, strlen(name)) : -1;
    if (found >= 0 && t->vocab.pieces[found].type == ANEMO_PIECE_CONTROL)
        *id = found;
}

/* ---------------------------------------------------------------- the whole file */

static anemo_status read_top(const anemo_hf_source *s, const json_t *root) {
    if (!json_is_object(json_object_get(root, "model")))
        return anemo_hf_refuse(s, "model", json_object_get(root, "model"),
                               "an object (in tekken.json: config and vocab)");
    ANEMO_TRY(anemo_hf_only(s, "tokenizer", root,
                            "version truncation padding added_tokens normalizer pre_tokenizer "
                            "post_processor decoder model"));
    const json_t *version = json_object_get(root, "version");
    if (version && !anemo_hf_is_string(version, "1.0"))
        return anemo_hf_refuse(s, "version", version, "\"1.0\"");
    if (!anemo_hf_is_null(root, "truncation"))
        return anemo_hf_refuse(s, "truncation", json_object_get(root, "truncation"), "null");
    if (!anemo_hf_is_null(root, "padding"))
        return anemo_hf_refuse(s, "padding", json_object_get(root, "padding"), "null");
    return ANEMO_OK;
}

static anemo_status read_lists(anemo_hf_source *s, const json_t *root) {
    const json_t *added = json_object_get(root, "added_tokens");
    const json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
    if (!anemo_hf_is_null(root, "added_tokens") && !json_is_array(added))
        return anemo_hf_refuse(s, "added_tokens", added, "an array");
    for (size_t i = 0; i < json_array_size(added); ++i)
        ANEMO_TRY(read_added_token(s, json_array_get(added, i)));
    if (!json_is_array(merges) || json_array_size(merges) >= UINT32_MAX)
        return anemo_hf_refuse(s, "model.merges", merges, "an array");
    for (size_t i = 0; i < json_array_size(merges); ++i)
        ANEMO_TRY(read_merge(s, i, json_array_get(merges, i)));
    return ANEMO_OK;
}

static anemo_status read_characters(anemo_hf_source *s, const json_t *root) {
    const json_t *model = json_object_get(root, "model");
    ANEMO_TRY(read_front(s, root));
    ANEMO_TRY(read_model_flags(s, model));
    ANEMO_TRY(check_decoder(s, json_object_get(root, "decoder")));
    ANEMO_TRY(read_vocab(s, model));
    return read_lists(s, root);
}

static anemo_status read_bytes(anemo_hf_source *s, const json_t *root) {
    s->t->byte_level = s->t->vocab.bytes = true;
    ANEMO_TRY(read_model_flags(s, json_object_get(root, "model")));
    return anemo_hf_read_byte_level(s, root);
}

static anemo_status read_root(anemo_hf_source *s, const json_t *root) {
    static const char *const eos[] = {"</s>", "<|end_of_text|>", "<|return|>", "<|endoftext|>"};
    ANEMO_TRY(read_top(s, root));
    const bool bytes = anemo_hf_is_byte_level(root);
    ANEMO_TRY(bytes ? read_bytes(s, root) : read_characters(s, root));
    if (!anemo_hf_is_null(root, "post_processor"))
        ANEMO_TRY(read_post_processor(s, json_object_get(root, "post_processor")));
    if (!bytes) /* a byte-level one puts BOS before a text only if the template says so */
        default_control(s->t, "<s>", &s->t->bos);
    for (size_t i = 0; i < (bytes ? sizeof eos / sizeof *eos : 1); ++i)
        default_control(s->t, eos[i], &s->t->eos);
    return anemo_tokenizer_seal(s->t, s->path, s->err);
}

anemo_status anemo_read_tokenizer_json(anemo_tokenizer *t, const anemo_mapped_file *file,
                                       anemo_error *err) {
    json_t *root = anemo_json_object(file->path, "", file->data, file->bytes, err);
    if (!root)
        return ANEMO_E_INPUT;
    anemo_hf_source s = {.t = t, .path = file->path, .err = err};
    t->user_first = true;
    const anemo_status status = read_root(&s, root);
    json_decref(root);
    return status;
}
