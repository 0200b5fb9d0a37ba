/* Opening by content, ids to text, and the small questions. */
#include "models/tokenizers/internal.h"

#include <stdio.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- open and close */

typedef anemo_status (*reader)(anemo_tokenizer *t, const anemo_mapped_file *file, anemo_error *err);

static size_t skip_white(const anemo_mapped_file *file, size_t i) {
    while (i < file->bytes && file->data[i] && strchr(" \t\r\n", file->data[i]))
        ++i;
    return i;
}

/* tekken.json says how many of its tokens are special. */
static bool is_tekken(const anemo_mapped_file *file) {
    static const char key[] = "\"default_num_special_tokens\"";
    return memmem(file->data, file->bytes, key, sizeof key - 1) != NULL;
}

/* A JSON object begins with '{' and '"' or '}', white space aside. A SentencePiece model is a
 * protobuf message whose first field has a number from 1 to 5 and a length; for number 1 that tag
 * is a line feed, and a length of 123 reads '{', but what follows then is no '"'. */
static reader reader_of(const anemo_mapped_file *file) {
    const size_t brace = skip_white(file, 0);
    if (brace < file->bytes && file->data[brace] == '{') {
        const size_t next = skip_white(file, brace + 1);
        if (next == file->bytes || file->data[next] == '"' || file->data[next] == '}')
            return is_tekken(file) ? anemo_read_tekken : anemo_read_tokenizer_json;
    }
    const uint8_t tag = file->data[0];
    return (tag & 7) == 2 && tag >> 3 >= 1 && tag >> 3 <= 5 ? anemo_read_sentencepiece : NULL;
}

static anemo_status read_file(anemo_tokenizer *t, const anemo_mapped_file *file, anemo_error *err) {
    if (t->in_gguf)
        return anemo_read_gguf_vocabulary(t, file, err); /* with its weights, of any size */
    if (file->bytes > ANEMO_TOKENIZER_LIMIT)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: %zu bytes; accepted: a tokenizer of at most %zu",
                          file->path, file->bytes, ANEMO_TOKENIZER_LIMIT);
    const reader read = reader_of(file);
    if (!read)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: begins with byte 0x%02x; accepted: tokenizer.json, tekken.json, a "
                          "SentencePiece model, or GGUF",
                          file->path, file->data[0]);
    return read(t, file, err);
}

anemo_status anemo_tokenizer_open(const char *path, anemo_tokenizer **out, anemo_error *err) {
    *out = NULL;
    anemo_mapped_file file;
    ANEMO_TRY(anemo_map_open(path, &file, err));
    anemo_tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        anemo_map_close(&file);
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", path);
    }
    t->bos = t->eos = t->unknown = t->space = -1;
    t->path = strdup(path);
    t->in_gguf = file.bytes >= 4 && memcmp(file.data, "GGUF", 4) == 0;
    const anemo_status status =
        t->path ? read_file(t, &file, err)
                : anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", file.path);
    anemo_map_close(&file);
    if (status == ANEMO_OK)
        *out = t;
    else
        anemo_tokenizer_close(t);
    return status;
}

void anemo_tokenizer_close(anemo_tokenizer *tokenizer) {
    if (!tokenizer)
        return;
    for (size_t i = 0; i < tokenizer->n_user; ++i)
        free(tokenizer->user[i].text);
    free(tokenizer->path);
    free(tokenizer->user);
    anemo_splitter_free(tokenizer->splitter);
    free(tokenizer->merges.slots);
    free(tokenizer->junctions.slots);
    free(tokenizer->vocab.pieces);
    free(tokenizer->vocab.arena);
    free(tokenizer->vocab.slots);
    free(tokenizer);
}

/* ---------------------------------------------------------------- questions */

int32_t anemo_tokenizer_vocab(const anemo_tokenizer *tokenizer) {
    return (int32_t)tokenizer->vocab.n;
}

int32_t anemo_tokenizer_bos(const anemo_tokenizer *tokenizer) {
    return tokenizer->bos;
}

int32_t anemo_tokenizer_eos(const anemo_tokenizer *tokenizer) {
    return tokenizer->eos;
}

const char *anemo_tokenizer_piece(const anemo_tokenizer *tokenizer, int32_t id, size_t *bytes) {
    const bool there = id >= 0 && (size_t)id < tokenizer->vocab.n;
    *bytes = there ? tokenizer->vocab.pieces[id].bytes : 0;
    return there ? tokenizer->vocab.pieces[id].text : NULL;
}

/* ---------------------------------------------------------------- ids to text */

typedef struct decoded {
    char *text;
    size_t bytes, capacity;
} decoded;

static bool append(decoded *out, const char *text, size_t bytes) {
    if (out->capacity - out->bytes <= bytes) { /* one more, for the NUL */
        size_t capacity = out->capacity ? out->capacity : 64;
        while (capacity <= out->bytes + bytes)
            capacity *= 2;
        char *grown = realloc(out->text, capacity);
        if (!grown)
            return false;
        out->text = grown;
        out->capacity = capacity;
    }
    memcpy(out->text + out->bytes, text, bytes);
    out->bytes += bytes;
    out->text[out->bytes] = '\0';
    return true;
}

/* A piece of ordinary text, U+2581 back to a space; `strip` leaves out one at its beginning. */
static bool append_piece(decoded *out, const anemo_tokenizer *t, const anemo_piece *piece,
                         bool strip) {
    const char *text = piece->text, *const end = text + piece->bytes;
    if (!t->escape_spaces)
        return append(out, text, piece->bytes);
    if (strip && end - text >= 3 && memcmp(text, ANEMO_SPACE_MARK, 3) == 0)
        text += 3;
    else if (strip && t->user_spaces && piece->type == ANEMO_PIECE_USER && *text == ' ')
        ++text;
    for (const char *mark; (mark = memmem(text, (size_t)(end - text), ANEMO_SPACE_MARK, 3)) != NULL;
         text = mark + 3)
        if (!append(out, text, (size_t)(mark - text)) || !append(out, " ", 1))
            return false;
    return append(out, text, (size_t)(end - text));
}

/* *prefixed: a space at the beginning of the next piece is the one that encoding puts there. With
 * trim_spaces the text has no leading space at all. */
static bool append_id(decoded *out, const anemo_tokenizer *t, const anemo_piece *piece,
                      bool *prefixed) {
    const bool strip = *prefixed;
    if (piece->type == ANEMO_PIECE_CONTROL)
        return true;
    *prefixed = false;
    if (piece->type == ANEMO_PIECE_BYTE)
        return append(out, (const char *)&piece->byte, 1);
    if (piece->type == ANEMO_PIECE_UNKNOWN)
        return append(out, t->unknown_surface, strlen(t->unknown_surface));
    if (piece->type == ANEMO_PIECE_USER && t->user_first) {
        *prefixed = t->prefix == ANEMO_PREFIX_SEGMENT;
        return append(out, piece->text, piece->bytes);
    }
    const bool fits = append_piece(out, t, piece, strip);
    *prefixed = t->trim_spaces && out->bytes == 0;
    return fits;
}

anemo_status anemo_tokenizer_decode(const anemo_tokenizer *tokenizer, const int32_t *ids,
                                    size_t n_ids, char **text, size_t *text_bytes,
                                    anemo_error *err) {
    *text = NULL;
    *text_bytes = 0;
    decoded out = {0};
    bool fits = append(&out, "", 0),
         prefixed = tokenizer->prefix != ANEMO_PREFIX_NONE || tokenizer->trim_spaces;
    for (size_t i = 0; i < n_ids && fits; ++i) {
        const bool there = ids[i] >= 0 && (size_t)ids[i] < tokenizer->vocab.n;
        const anemo_piece *piece = there ? &tokenizer->vocab.pieces[ids[i]] : NULL;
        if (!there || piece->type == ANEMO_PIECE_HOLE) {
            free(out.text);
            return anemo_fail(err, ANEMO_E_INPUT,
                              "token %zu of %zu has id %d; accepted: an id of the vocabulary (%zu)",
                              i, n_ids, (int)ids[i], tokenizer->vocab.n);
        }
        fits = append_id(&out, tokenizer, piece, &prefixed);
    }
    if (!fits) {
        free(out.text);
        return anemo_fail(err, ANEMO_E_MEMORY, "out of memory decoding %zu tokens", n_ids);
    }
    *text = out.text;
    *text_bytes = out.bytes;
    return ANEMO_OK;
}
