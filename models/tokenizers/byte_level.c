/* Byte-level BPE, as GPT-2 began it: the alphabet, and merges that no list names.
 *
 * Files spell pieces in an alphabet of 256 printable characters, one for each byte: those of
 * Latin-1 that can be seen stand for themselves, the other 68 bytes for U+0100 onwards, in order.
 * tekken.json and tiktoken have no merges at all: two neighbours merge if their concatenation is a
 * piece, the lowest id first. Each cut of each piece into two pieces is therefore a merge, and
 * encode.c runs on the same table for all of them. */
#include "models/tokenizers/internal.h"

#include <stdlib.h>

/* ---------------------------------------------------------------- alphabet */

static bool stands_for_itself(uint32_t c) {
    return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xff && c != 0xad);
}

/* The byte of a code point, -1: none. */
static int32_t alphabet_byte(uint32_t c) {
    if (c < 0x100)
        return stands_for_itself(c) ? (int32_t)c : -1;
    uint32_t nth = 0x100;
    for (uint32_t byte = 0; byte < 0x100; ++byte)
        if (!stands_for_itself(byte) && nth++ == c)
            return (int32_t)byte;
    return -1;
}

ptrdiff_t anemo_alphabet_bytes(const char *text, size_t bytes, char *out) {
    ptrdiff_t n = 0;
    for (size_t i = 0; i < bytes; ++n) {
        uint32_t c = (unsigned char)text[i++];
        if (c >= 0x80) { /* all of the alphabet lies below U+0800 */
            if (c < 0xc2 || c > 0xdf || i == bytes || ((unsigned char)text[i] & 0xc0) != 0x80)
                return -1;
            c = (c & 0x1f) << 6 | ((unsigned char)text[i++] & 0x3f);
        }
        const int32_t byte = alphabet_byte(c);
        if (byte < 0)
            return -1;
        out[n] = (char)byte;
    }
    return n;
}

/* The code point of a byte. */
static uint32_t byte_letter(uint32_t byte) {
    uint32_t before = 0;
    for (uint32_t b = 0; b < byte; ++b)
        before += !stands_for_itself(b);
    return stands_for_itself(byte) ? byte : 0x100 + before;
}

size_t anemo_alphabet_spell(const char *text, size_t bytes, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; ++i) {
        const uint32_t c = byte_letter((unsigned char)text[i]);
        if (c >= 0x80)
            out[n++] = (char)(0xc0 | c >> 6);
        out[n++] = (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
    }
    return n;
}

/* ---------------------------------------------------------------- merges */

anemo_status anemo_merge_by_name(anemo_tokenizer *t, const char *path, const char *left,
                                 size_t left_bytes, const char *right, size_t right_bytes,
                                 uint32_t rank, int32_t *result, bool *added, anemo_error *err) {
    char room[256];
    const size_t need = left_bytes + right_bytes;
    char *joined = need <= sizeof room ? room : malloc(need);
    if (!joined)
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", path);
    *result = -1;
    *added = true;
    const ptrdiff_t a = anemo_alphabet_bytes(left, left_bytes, joined);
    const ptrdiff_t b = a > 0 ? anemo_alphabet_bytes(right, right_bytes, joined + a) : -1;
    bool fits = true;
    if (b > 0) {
        const int32_t left_id = anemo_vocabulary_find(&t->vocab, joined, (size_t)a);
        const int32_t right_id = anemo_vocabulary_find(&t->vocab, joined + a, (size_t)b);
        *result = anemo_vocabulary_find(&t->vocab, joined, (size_t)(a + b));
        if (left_id < 0 || right_id < 0)
            *result = -1;
        else if (*result >= 0)
            fits = anemo_pairs_add(
                &t->merges,
                (anemo_pair){(uint32_t)left_id, (uint32_t)right_id, rank, (uint32_t)*result},
                added);
    }
    if (joined != room)
        free(joined);
    return fits ? ANEMO_OK : anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", path);
}

anemo_status anemo_merges_from_ids(anemo_tokenizer *t, const char *path, anemo_error *err) {
    for (size_t id = 0; id < t->vocab.n; ++id) {
        const anemo_piece *piece = &t->vocab.pieces[id];
        const char *text = t->vocab.arena + piece->at;
        if (piece->type != ANEMO_PIECE_NORMAL)
            continue;
        if (piece->bytes > ANEMO_PIECE_LIMIT)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: piece %zu has %u bytes; accepted: at most %d", path, id,
                              (unsigned)piece->bytes, ANEMO_PIECE_LIMIT);
        for (size_t cut = 1; cut < piece->bytes; ++cut) {
            const int32_t left = anemo_vocabulary_find(&t->vocab, text, cut);
            const int32_t right =
                left < 0 ? -1 : anemo_vocabulary_find(&t->vocab, text + cut, piece->bytes - cut);
            if (right >= 0 && !anemo_pairs_add(&t->merges,
                                               (anemo_pair){(uint32_t)left, (uint32_t)right,
                                                            (uint32_t)id, (uint32_t)id},
                                               NULL))
                return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", path);
        }
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- bytes */

anemo_status anemo_find_byte_symbols(anemo_tokenizer *t, const char *path, anemo_error *err) {
    for (int value = 0; value < 256; ++value) {
        const int32_t id = anemo_vocabulary_find(&t->vocab, &(char){(char)value}, 1);
        if (id < 0)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: no piece for the byte 0x%02X alone; accepted: a byte-level "
                              "vocabulary with all 256",
                              path, (unsigned)value);
        t->byte_ids[value] = (uint32_t)id;
    }
    return ANEMO_OK;
}
