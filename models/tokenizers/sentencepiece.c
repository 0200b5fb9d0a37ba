/* Reads a SentencePiece model of type BPE: a protobuf message, walked here field by field.
 *
 *   ModelProto      1 pieces (repeated), 2 trainer_spec, 3 normalizer_spec, 4 self_test_data,
 *                   5 denormalizer_spec, from 200 extensions
 *   SentencePiece   1 piece (string), 2 score (float), 3 type (1..6, anemo_piece_type)
 *   TrainerSpec     3 model_type (1 unigram, 2 BPE), 24 treat_whitespace_as_suffix,
 *                   35 byte_fallback, 44 unk_surface, 46 bos_piece, 47 eos_piece; the other fields
 *                   say how the model was trained
 *   NormalizerSpec  1 name, 2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces,
 *                   5 escape_whitespaces, 6 normalization_rule_tsv
 *
 * Fields and defaults: sentencepiece_model.proto of google/sentencepiece. Defaults count: a model
 * without model_type is unigram, one without remove_extra_whitespaces removes them. */
#include "models/tokenizers/internal.h"

#include <inttypes.h>
#include <stdio.h>

/* ---------------------------------------------------------------- protobuf */

typedef struct message {
    const uint8_t *at, *end;
} message;

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

typedef struct field {
    uint64_t number;
    int wire;
    uint64_t value;      /* VARINT, FIXED32, FIXED64 */
    const uint8_t *data; /* BYTES */
    size_t bytes;
} field;

static bool read_varint(message *m, uint64_t *value) {
    *value = 0;
    for (unsigned shift = 0; shift < 70 && m->at < m->end; shift += 7) {
        const uint8_t byte = *m->at++;
        if (shift == 63 && byte > 1)
            return false; /* beyond 64 bits */
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* The next field; false at the end (*why NULL) and where the message is broken (*why says how). */
static bool next_field(message *m, field *f, const char **why) {
    *f = (field){0};
    *why = NULL;
    if (m->at == m->end)
        return false;
    uint64_t tag;
    *why = "a tag that is no varint";
    if (!read_varint(m, &tag))
        return false;
    f->number = tag >> 3;
    f->wire = (int)(tag & 7);
    *why = f->number == 0 ? "a field of number 0" : "a field of an unknown wire type";
    if (f->number == 0 ||
        (f->wire != VARINT && f->wire != FIXED64 && f->wire != BYTES && f->wire != FIXED32))
        return false;
    if (f->wire == FIXED32 || f->wire == FIXED64) {
        const size_t width = f->wire == FIXED32 ? 4 : 8;
        *why = "a number that ends behind its message";
        if ((size_t)(m->end - m->at) < width)
            return false;
        f->value = width == 4 ? anemo_load_u32(m->at) : anemo_load_u64(m->at);
        m->at += width;
    } else {
        *why = "a varint that is too long or ends behind its message";
        if (!read_varint(m, &f->value))
            return false;
    }
    if (f->wire == BYTES) {
        *why = "a length that reaches behind its message";
        if (f->value > (size_t)(m->end - m->at))
            return false;
        f->data = m->at;
        f->bytes = (size_t)f->value;
        m->at += f->bytes;
    }
    *why = NULL;
    return true;
}

/* ---------------------------------------------------------------- what the model says */

typedef struct model {
    anemo_tokenizer *t;
    const anemo_mapped_file *file;
    anemo_error *err;
    int64_t n_pieces;
    uint64_t model_type;
    bool whitespace_as_suffix, byte_fallback;
    bool dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
    field bos_piece, eos_piece, unk_surface; /* data NULL: the default */
} model;

static anemo_status broken(const model *m, const char *where, const char *why) {
    return anemo_fail(m->err, ANEMO_E_INPUT, "%s: %s: %s; accepted: a whole SentencePiece model",
                      m->file->path, where, why);
}

static anemo_status wrong_wire(const model *m, const char *where, const field *f) {
    return anemo_fail(m->err, ANEMO_E_INPUT,
                      "%s: %s: field %" PRIu64
                      " has wire type %d; accepted: the types of sentencepiece_model.proto",
                      m->file->path, where, f->number, f->wire);
}

/* One SentencePiece message. */
static anemo_status read_piece(model *m, message piece) {
    char where[40];
    snprintf(where, sizeof where, "pieces[%" PRId64 "]", m->n_pieces);
    field f, text = {0};
    uint64_t type = ANEMO_PIECE_NORMAL;
    float score = 0;
    const char *why;
    while (next_field(&piece, &f, &why)) {
        const int wire = f.number == 1 ? BYTES : f.number == 2 ? FIXED32 : VARINT;
        if (f.number <= 3 && f.wire != wire)
            return wrong_wire(m, where, &f);
        if (f.number == 1)
            text = f;
        else if (f.number == 2)
            score = anemo_bits_f32((uint32_t)f.value);
        else if (f.number == 3)
            type = f.value;
        else if (f.number < 200)
            return anemo_fail(m->err, ANEMO_E_INPUT,
                              "%s: %s: unknown field %" PRIu64 "; accepted: piece, score, type",
                              m->file->path, where, f.number);
    }
    if (why)
        return broken(m, where, why);
    if (type < ANEMO_PIECE_NORMAL || type > ANEMO_PIECE_BYTE)
        return anemo_fail(m->err, ANEMO_E_INPUT, "%s: %s: type is %" PRIu64 "; accepted: 1 to 6",
                          m->file->path, where, type);
    if (type == ANEMO_PIECE_UNKNOWN) {
        if (m->t->unknown >= 0)
            return anemo_fail(m->err, ANEMO_E_INPUT,
                              "%s: pieces %d and %" PRId64 " are of type unknown; accepted: one",
                              m->file->path, (int)m->t->unknown, m->n_pieces);
        m->t->unknown = (int32_t)m->n_pieces;
    }
    return anemo_vocabulary_put(&m->t->vocab, m->file->path, "pieces", m->n_pieces++,
                                text.data ? (const char *)text.data : "", text.bytes,
                                (anemo_piece_type)type, score, m->err);
}

static anemo_status read_trainer(model *m, message spec) {
    field f;
    const char *why;
    while (next_field(&spec, &f, &why)) {
        const bool number = f.number == 3 || f.number == 24 || f.number == 35;
        const bool string = f.number == 44 || f.number == 46 || f.number == 47;
        if ((number && f.wire != VARINT) || (string && f.wire != BYTES))
            return wrong_wire(m, "trainer_spec", &f);
        if (f.number == 3)
            m->model_type = f.value;
        else if (f.number == 24)
            m->whitespace_as_suffix = f.value != 0;
        else if (f.number == 35)
            m->byte_fallback = f.value != 0;
        else if (f.number == 44)
            m->unk_surface = f;
        else if (f.number == 46)
            m->bos_piece = f;
        else if (f.number == 47)
            m->eos_piece = f;
    }
    return why ? broken(m, "trainer_spec", why) : ANEMO_OK;
}

/* normalizer_spec, or denormalizer_spec: neither may change the text but for spaces. */
static anemo_status read_normalizer(model *m, message spec, const char *where, bool flags) {
    field f;
    const char *why;
    while (next_field(&spec, &f, &why)) {
        const bool string = f.number == 1 || f.number == 2 || f.number == 6;
        if ((string && f.wire != BYTES) || (f.number >= 3 && f.number <= 5 && f.wire != VARINT))
            return wrong_wire(m, where, &f);
        if (f.number == 1 && f.bytes > 0 && (f.bytes != 8 || memcmp(f.data, "identity", 8) != 0))
            return anemo_fail(m->err, ANEMO_E_INPUT, "%s: %s.name is \"%s\"; accepted: identity",
                              m->file->path, where, anemo_show_bytes(f.data, f.bytes).text);
        if ((f.number == 2 || f.number == 6) && f.bytes > 0)
            return anemo_fail(
                m->err, ANEMO_E_INPUT,
                "%s: %s.%s has %zu bytes; accepted: none (normalizer identity)", m->file->path,
                where, f.number == 2 ? "precompiled_charsmap" : "normalization_rule_tsv", f.bytes);
        if (f.number > 6 && f.number < 200)
            return anemo_fail(m->err, ANEMO_E_INPUT,
                              "%s: %s: unknown field %" PRIu64 "; accepted: 1 to 6", m->file->path,
                              where, f.number);
        if (flags && f.number == 3)
            m->dummy_prefix = f.value != 0;
        else if (flags && f.number == 4)
            m->remove_extra_whitespaces = f.value != 0;
        else if (flags && f.number == 5)
            m->escape_whitespaces = f.value != 0;
    }
    return why ? broken(m, where, why) : ANEMO_OK;
}

static anemo_status read_model(model *m) {
    message all = {m->file->data, m->file->data + m->file->bytes};
    field f;
    const char *why;
    while (next_field(&all, &f, &why)) {
        if (f.number >= 1 && f.number <= 5 && f.wire != BYTES)
            return wrong_wire(m, "model", &f);
        const message inner = {f.data, f.data ? f.data + f.bytes : NULL};
        if (f.number == 1)
            ANEMO_TRY(read_piece(m, inner));
        else if (f.number == 2)
            ANEMO_TRY(read_trainer(m, inner));
        else if (f.number == 3)
            ANEMO_TRY(read_normalizer(m, inner, "normalizer_spec", true));
        else if (f.number == 5)
            ANEMO_TRY(read_normalizer(m, inner, "denormalizer_spec", false));
        else if (f.number > 5 && f.number < 200)
            return anemo_fail(m->err, ANEMO_E_INPUT,
                              "%s: unknown field %" PRIu64 " of the model; accepted: 1 to 5",
                              m->file->path, f.number);
    }
    return why ? broken(m, "model", why) : ANEMO_OK;
}

/* ---------------------------------------------------------------- from the model to flags */

static int32_t control_piece(const model *m, const field *name, const char *fallback) {
    const anemo_vocabulary *vocab = &m->t->vocab;
    const int32_t id = name->data
                           ? anemo_vocabulary_find(vocab, (const char *)name->data, name->bytes)
                           : anemo_vocabulary_find(vocab, fallback, strlen(fallback));
    return id >= 0 && vocab->pieces[id].type == ANEMO_PIECE_CONTROL ? id : -1;
}

static anemo_status check_model(const model *m) {
    static const char *const types[] = {"unknown", "unigram", "BPE", "word", "char"};
    if (m->model_type != 2)
        return anemo_fail(m->err, ANEMO_E_INPUT,
                          "%s: trainer_spec.model_type is %" PRIu64 " (%s); accepted: 2 (BPE)",
                          m->file->path, m->model_type,
                          types[m->model_type < 5 ? m->model_type : 0]);
    if (m->whitespace_as_suffix)
        return anemo_fail(m->err, ANEMO_E_INPUT,
                          "%s: trainer_spec.treat_whitespace_as_suffix is true; accepted: false",
                          m->file->path);
    if (!m->escape_whitespaces)
        return anemo_fail(m->err, ANEMO_E_INPUT,
                          "%s: normalizer_spec.escape_whitespaces is false; accepted: true",
                          m->file->path);
    if (m->t->unknown < 0)
        return anemo_fail(m->err, ANEMO_E_INPUT,
                          "%s: none of %" PRId64 " pieces is of type unknown; accepted: one",
                          m->file->path, m->n_pieces);
    if (m->unk_surface.bytes >= sizeof m->t->unknown_surface)
        return anemo_fail(m->err, ANEMO_E_INPUT,
                          "%s: trainer_spec.unk_surface has %zu bytes; accepted: at most %zu",
                          m->file->path, m->unk_surface.bytes, sizeof m->t->unknown_surface - 1);
    return ANEMO_OK;
}

anemo_status anemo_read_sentencepiece(anemo_tokenizer *t, const anemo_mapped_file *file,
                                      anemo_error *err) {
    model m = {.t = t,
               .file = file,
               .err = err,
               .model_type = 1,
               .dummy_prefix = true,
               .remove_extra_whitespaces = true,
               .escape_whitespaces = true};
    ANEMO_TRY(read_model(&m));
    ANEMO_TRY(check_model(&m));
    t->bos = control_piece(&m, &m.bos_piece, "<s>");
    t->eos = control_piece(&m, &m.eos_piece, "</s>");
    if (m.unk_surface.data)
        memcpy(t->unknown_surface, m.unk_surface.data, m.unk_surface.bytes);
    else
        strcpy(t->unknown_surface, ANEMO_UNKNOWN_SURFACE);
    t->byte_fallback = m.byte_fallback;
    t->fuse_unknown = true;
    t->escape_spaces = true;
    t->trim_spaces = m.remove_extra_whitespaces;
    t->prefix = m.dummy_prefix ? ANEMO_PREFIX_FIRST : ANEMO_PREFIX_NONE;
    ANEMO_TRY(anemo_merges_from_scores(t, file->path, err));
    return anemo_tokenizer_seal(t, file->path, err);
}
