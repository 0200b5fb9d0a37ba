/* Pieces by id and by text.
 *
 * The texts lie one after another in an arena, each with a NUL behind it, so that a vocabulary of
 * 32768 pieces is three allocations. While it grows, pieces hold arena offsets; the pointers are
 * set by anemo_tokenizer_seal, after which nothing moves. Lookup by text is open addressing with
 * linear probing, at most half full. */
#include "models/tokenizers/internal.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- UTF-8 */

/* Unicode 15, table 3-7: no overlong form, no surrogate, nothing beyond U+10FFFF. */
size_t anemo_utf8_length(const char *text, size_t n) {
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80)
        return 1;
    const size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n < length)
        return 0;
    const unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    const unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < length; ++i)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

bool anemo_utf8_valid(const char *text, size_t n) {
    for (size_t i = 0, length; i < n; i += length)
        if ((length = anemo_utf8_length(text + i, n - i)) == 0)
            return false;
    return true;
}

int32_t anemo_byte_value(const char *text, size_t bytes) {
    static const char digits[] = "0123456789ABCDEF";
    if (bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>' || !text[3] || !text[4])
        return -1;
    const char *high = strchr(digits, text[3]), *low = strchr(digits, text[4]);
    return high && low ? (int32_t)(16 * (high - digits) + (low - digits)) : -1;
}

/* ---------------------------------------------------------------- lookup */

/* FNV-1a, with its high half folded in because the table uses the low bits. */
static size_t hash_text(const char *text, size_t bytes) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes; ++i)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return (size_t)(hash ^ hash >> 32);
}

static bool is_apart(const anemo_vocabulary *vocab, uint8_t type) {
    return vocab->bytes && type != ANEMO_PIECE_NORMAL;
}

static int32_t find(const anemo_vocabulary *vocab, const char *text, size_t bytes, bool apart) {
    if (!vocab->slots)
        return -1;
    for (size_t i = (hash_text(text, bytes) + apart) & vocab->slot_mask; vocab->slots[i];
         i = (i + 1) & vocab->slot_mask) {
        const anemo_piece *piece = &vocab->pieces[vocab->slots[i] - 1];
        if (piece->bytes == bytes && is_apart(vocab, piece->type) == apart &&
            memcmp(vocab->arena + piece->at, text, bytes) == 0)
            return (int32_t)(vocab->slots[i] - 1);
    }
    return -1;
}

int32_t anemo_vocabulary_find(const anemo_vocabulary *vocab, const char *text, size_t bytes) {
    return find(vocab, text, bytes, false);
}

int32_t anemo_vocabulary_find_special(const anemo_vocabulary *vocab, const char *text,
                                      size_t bytes) {
    return find(vocab, text, bytes, vocab->bytes);
}

static void place(anemo_vocabulary *vocab, uint32_t id) {
    const anemo_piece *piece = &vocab->pieces[id];
    size_t i = (hash_text(vocab->arena + piece->at, piece->bytes) + is_apart(vocab, piece->type)) &
               vocab->slot_mask;
    while (vocab->slots[i])
        i = (i + 1) & vocab->slot_mask;
    vocab->slots[i] = id + 1;
    ++vocab->filled;
}

static bool grow_slots(anemo_vocabulary *vocab) {
    if (vocab->slots && 2 * (vocab->filled + 1) <= vocab->slot_mask + 1)
        return true;
    const size_t n = vocab->slots ? 2 * (vocab->slot_mask + 1) : 1024;
    uint32_t *slots = calloc(n, sizeof *slots);
    if (!slots)
        return false;
    free(vocab->slots);
    vocab->slots = slots;
    vocab->slot_mask = n - 1;
    vocab->filled = 0;
    for (size_t id = 0; id < vocab->all; ++id)
        if (vocab->pieces[id].type != ANEMO_PIECE_HOLE)
            place(vocab, (uint32_t)id);
    return true;
}

/* ---------------------------------------------------------------- growth */

static bool grow_pieces(anemo_vocabulary *vocab, size_t n) {
    if (n > vocab->capacity) {
        size_t capacity = vocab->capacity ? vocab->capacity : 1024;
        while (capacity < n)
            capacity *= 2;
        anemo_piece *pieces = realloc(vocab->pieces, capacity * sizeof *pieces);
        if (!pieces)
            return false;
        memset(pieces + vocab->capacity, 0, (capacity - vocab->capacity) * sizeof *pieces);
        vocab->pieces = pieces;
        vocab->capacity = capacity;
    }
    return true;
}

static bool append_text(anemo_vocabulary *vocab, const char *text, size_t bytes) {
    const size_t need = vocab->arena_bytes + bytes + 1;
    if (need > vocab->arena_capacity) {
        size_t capacity = vocab->arena_capacity ? vocab->arena_capacity : 16384;
        while (capacity < need)
            capacity *= 2;
        char *arena = realloc(vocab->arena, capacity);
        if (!arena)
            return false;
        vocab->arena = arena;
        vocab->arena_capacity = capacity;
    }
    memcpy(vocab->arena + vocab->arena_bytes, text, bytes);
    vocab->arena[need - 1] = '\0';
    vocab->arena_bytes = need;
    return true;
}

anemo_status anemo_vocabulary_put(anemo_vocabulary *vocab, const char *path, const char *where,
                                  int64_t id, const char *text, size_t bytes, anemo_piece_type type,
                                  float score, anemo_error *err) {
    const anemo_shown shown = anemo_show_bytes(text, bytes);
    if (id < 0 || id >= ANEMO_VOCAB_LIMIT)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: %s: \"%s\" has id %" PRId64 "; accepted: 0 to %d", path, where,
                          shown.text, id, ANEMO_VOCAB_LIMIT - 1);
    if (bytes == 0 || bytes > ANEMO_TOKENIZER_LIMIT)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: %s: the piece of id %" PRId64 " has %zu bytes; accepted: 1 or more",
                          path, where, id, bytes);
    if (!vocab->bytes && !anemo_utf8_valid(text, bytes))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: %s: the piece of id %" PRId64
                          " is not UTF-8; accepted: UTF-8, with bytes "
                          "named <0x00> to <0xFF>",
                          path, where, id);
    const int32_t taken = find(vocab, text, bytes, is_apart(vocab, (uint8_t)type));
    if (taken >= 0)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: %s: \"%s\" has the ids %d and %" PRId64
                          "; accepted: each piece once",
                          path, where, shown.text, (int)taken, id);
    if ((size_t)id < vocab->all && vocab->pieces[id].type != ANEMO_PIECE_HOLE)
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "%s: %s: id %" PRId64 " is both \"%s\" and \"%s\"; accepted: each id once", path, where,
            id, anemo_show(vocab->arena + vocab->pieces[id].at).text, shown.text);
    if (!grow_pieces(vocab, (size_t)id + 1) || !grow_slots(vocab) ||
        !append_text(vocab, text, bytes))
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", path);
    vocab->pieces[id] = (anemo_piece){.at = vocab->arena_bytes - bytes - 1,
                                      .bytes = (uint32_t)bytes,
                                      .score = score,
                                      .type = (uint8_t)type};
    if ((size_t)id >= vocab->all)
        vocab->all = (size_t)id + 1;
    if (type != ANEMO_PIECE_CHARACTER)
        vocab->n = vocab->all;
    place(vocab, (uint32_t)id);
    return ANEMO_OK;
}
