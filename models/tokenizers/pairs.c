/* Merges, junctions, and the seal: from pieces to tables that encoding can run on.
 *
 * SentencePiece stores no merges, only scores, and looks up concatenated strings while it encodes.
 * Here each piece P that may come from text is cut at every code point: where both parts are
 * symbols, (left, right) -> P becomes a merge whose rank is the place of P's score among all
 * scores (equal scores, equal rank). That is the same relation, computed once: SentencePiece merges
 * two neighbours iff their concatenation is a piece, and orders by score, then by position. A part
 * is a symbol if it is such a piece itself, or any single code point, since the text is cut into
 * code points first; code points that are no pieces get the ids from vocab.n upwards. */
#include "models/tokenizers/internal.h"

#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- pair table */

static size_t hash_pair(uint32_t left, uint32_t right) {
    const uint64_t key = ((uint64_t)left << 32 | right) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(key ^ key >> 32);
}

static size_t probe(const anemo_pairs *pairs, uint32_t left, uint32_t right) {
    size_t i = hash_pair(left, right) & pairs->mask;
    while (pairs->slots[i].left != ANEMO_NO_PAIR &&
           (pairs->slots[i].left != left || pairs->slots[i].right != right))
        i = (i + 1) & pairs->mask;
    return i;
}

uint32_t anemo_pairs_find(const anemo_pairs *pairs, uint32_t left, uint32_t right) {
    if (!pairs->slots)
        return ANEMO_NO_PAIR;
    const size_t i = probe(pairs, left, right);
    return pairs->slots[i].left == ANEMO_NO_PAIR ? ANEMO_NO_PAIR : (uint32_t)i;
}

static bool grow_pairs(anemo_pairs *pairs) {
    if (pairs->slots && 2 * (pairs->filled + 1) <= pairs->mask + 1)
        return true;
    const size_t n = pairs->slots ? 2 * (pairs->mask + 1) : 1024;
    anemo_pairs grown = {.slots = n < ANEMO_NO_PAIR ? malloc(n * sizeof *grown.slots) : NULL,
                         .mask = n - 1,
                         .filled = pairs->filled};
    if (!grown.slots)
        return false;
    for (size_t i = 0; i < n; ++i)
        grown.slots[i].left = ANEMO_NO_PAIR;
    for (size_t i = 0; pairs->slots && i <= pairs->mask; ++i)
        if (pairs->slots[i].left != ANEMO_NO_PAIR)
            grown.slots[probe(&grown, pairs->slots[i].left, pairs->slots[i].right)] =
                pairs->slots[i];
    free(pairs->slots);
    *pairs = grown;
    return true;
}

bool anemo_pairs_add(anemo_pairs *pairs, anemo_pair pair, bool *added) {
    if (!grow_pairs(pairs))
        return false;
    const size_t i = probe(pairs, pair.left, pair.right);
    const bool free_slot = pairs->slots[i].left == ANEMO_NO_PAIR;
    if (free_slot) {
        pairs->slots[i] = pair;
        ++pairs->filled;
    }
    if (added)
        *added = free_slot;
    return true;
}

/* ---------------------------------------------------------------- merges from scores */

static bool from_text(uint8_t type) {
    return type == ANEMO_PIECE_NORMAL || type == ANEMO_PIECE_USER || type == ANEMO_PIECE_UNUSED;
}

typedef struct ranked {
    float score;
    uint32_t id, rank;
} ranked;

static int by_score_down(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    return x->score < y->score ? 1 : x->score > y->score ? -1 : x->id < y->id ? -1 : x->id > y->id;
}

/* The pieces that may come from text, best score first, equal scores sharing a rank. */
static anemo_status rank_pieces(const anemo_tokenizer *t, const char *path, ranked **out, size_t *n,
                                anemo_error *err) {
    ranked *list = malloc((t->vocab.n + 1) * sizeof *list);
    if (!list)
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", path);
    *n = 0;
    *out = list;
    for (size_t id = 0; id < t->vocab.n; ++id) {
        const anemo_piece *piece = &t->vocab.pieces[id];
        if (!from_text(piece->type))
            continue;
        if (!isfinite(piece->score))
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: the score of piece %zu is %g; accepted: a finite number", path,
                              id, (double)piece->score);
        if (piece->bytes > ANEMO_PIECE_LIMIT && piece->type != ANEMO_PIECE_USER)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: piece %zu has %u bytes; accepted: at most %d", path, id,
                              (unsigned)piece->bytes, ANEMO_PIECE_LIMIT);
        if (piece->bytes <= ANEMO_PIECE_LIMIT) /* a longer user piece is matched, never merged */
            list[(*n)++] = (ranked){piece->score, (uint32_t)id, 0};
    }
    if (*n > 1)
        qsort(list, *n, sizeof *list, by_score_down);
    for (size_t i = 1; i < *n; ++i)
        list[i].rank = list[i - 1].rank + (list[i].score != list[i - 1].score);
    return ANEMO_OK;
}

/* The symbol of a part of a piece, -1: it can never stand in a text on its own. */
static int32_t part_symbol(const anemo_vocabulary *vocab, const char *text, size_t bytes) {
    const int32_t id = anemo_vocabulary_find(vocab, text, bytes);
    if (id < 0 || anemo_utf8_length(text, bytes) == bytes)
        return id;
    return from_text(vocab->pieces[id].type) ? id : -1;
}

static anemo_status add_characters(anemo_tokenizer *t, const char *path, const char *text,
                                   size_t bytes, anemo_error *err) {
    for (size_t i = 0, n; i < bytes; i += n) {
        n = anemo_utf8_length(text + i, bytes - i);
        if (anemo_vocabulary_find(&t->vocab, text + i, n) < 0)
            ANEMO_TRY(anemo_vocabulary_put(&t->vocab, path, "characters", (int64_t)t->vocab.all,
                                           text + i, n, ANEMO_PIECE_CHARACTER, 0, err));
    }
    return ANEMO_OK;
}

static anemo_status cut_piece(anemo_tokenizer *t, const char *path, const ranked *piece,
                              anemo_error *err) {
    char text[ANEMO_PIECE_LIMIT]; /* a copy: adding characters moves the arena */
    const size_t bytes = t->vocab.pieces[piece->id].bytes;
    memcpy(text, t->vocab.arena + t->vocab.pieces[piece->id].at, bytes);
    ANEMO_TRY(add_characters(t, path, text, bytes, err));
    for (size_t cut = anemo_utf8_length(text, bytes); cut < bytes;
         cut += anemo_utf8_length(text + cut, bytes - cut)) {
        const int32_t left = part_symbol(&t->vocab, text, cut);
        const int32_t right = left < 0 ? -1 : part_symbol(&t->vocab, text + cut, bytes - cut);
        if (right >= 0 && !anemo_pairs_add(&t->merges,
                                           (anemo_pair){.left = (uint32_t)left,
                                                        .right = (uint32_t)right,
                                                        .rank = piece->rank,
                                                        .result = piece->id},
                                           NULL))
            return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", path);
    }
    return ANEMO_OK;
}

anemo_status anemo_merges_from_scores(anemo_tokenizer *t, const char *path, anemo_error *err) {
    ranked *list = NULL;
    size_t n = 0;
    anemo_status status = rank_pieces(t, path, &list, &n, err);
    for (size_t i = 0; i < n && status == ANEMO_OK; ++i)
        status = cut_piece(t, path, &list[i], err);
    free(list);
    return status;
}

/* ---------------------------------------------------------------- seal */

static size_t last_character(const char *text, size_t bytes) {
    size_t at = bytes - 1;
    while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80)
        --at;
    return at;
}

/* The symbols on both sides of the seam of a merge, -1: no symbol. */
static void seam_symbols(const anemo_tokenizer *t, const anemo_piece *left,
                         const anemo_piece *right, int32_t *a, int32_t *b) {
    if (t->byte_level) {
        *a = (int32_t)t->byte_ids[(unsigned char)left->text[left->bytes - 1]];
        *b = (int32_t)t->byte_ids[(unsigned char)right->text[0]];
        return;
    }
    const size_t at = last_character(left->text, left->bytes);
    *a = anemo_vocabulary_find(&t->vocab, left->text + at, left->bytes - at);
    *b =
        anemo_vocabulary_find(&t->vocab, right->text, anemo_utf8_length(right->text, right->bytes));
}

static bool find_junctions(anemo_tokenizer *t) {
    for (size_t i = 0; t->merges.slots && i <= t->merges.mask; ++i) {
        const anemo_pair *merge = &t->merges.slots[i];
        if (merge->left == ANEMO_NO_PAIR)
            continue;
        t->has_unused |= t->vocab.pieces[merge->result].type == ANEMO_PIECE_UNUSED;
        int32_t a, b;
        seam_symbols(t, &t->vocab.pieces[merge->left], &t->vocab.pieces[merge->right], &a, &b);
        /* Where one is no symbol, the merge cannot happen. */
        if (a >= 0 && b >= 0 &&
            !anemo_pairs_add(&t->junctions, (anemo_pair){(uint32_t)a, (uint32_t)b, 0, 0}, NULL))
            return false;
    }
    return true;
}

static anemo_status find_bytes(anemo_tokenizer *t, const char *path, anemo_error *err) {
    size_t found = 0;
    for (size_t id = 0; id < t->vocab.n; ++id) {
        anemo_piece *piece = &t->vocab.pieces[id];
        if (piece->type != ANEMO_PIECE_BYTE)
            continue;
        const int32_t value = anemo_byte_value(piece->text, piece->bytes);
        if (value < 0)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: byte piece %zu is \"%s\"; accepted: <0x00> to <0xFF>", path, id,
                              anemo_show(piece->text).text);
        piece->byte = (uint8_t)value;
        t->byte_ids[value] = (uint32_t)id;
        ++found; /* texts are distinct, so 256 found means all of them */
    }
    if (t->byte_fallback && found != 256)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: byte_fallback is true with %zu byte pieces; accepted: all 256", path,
                          found);
    if (!t->byte_fallback && found > 0)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: byte_fallback is false with %zu byte pieces; accepted: none", path,
                          found);
    if (!t->byte_fallback && t->unknown < 0)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: neither byte_fallback nor an unknown piece; accepted: at least one, "
                          "for characters outside the vocabulary",
                          path);
    return ANEMO_OK;
}

static int by_text(const void *a, const void *b) {
    const anemo_user_piece *x = a, *y = b;
    const int order = memcmp(x->text, y->text, x->bytes < y->bytes ? x->bytes : y->bytes);
    return order ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* As it stands in a text: U+2581 back to a space, unless the file has raw text. */
static bool user_text(const anemo_tokenizer *t, const anemo_piece *piece, anemo_user_piece *out) {
    out->text = malloc(piece->bytes + 1);
    if (!out->text)
        return false;
    for (size_t i = 0; i < piece->bytes;) {
        const bool mark = t->escape_spaces && !t->user_first && piece->bytes - i >= 3 &&
                          memcmp(piece->text + i, ANEMO_SPACE_MARK, 3) == 0;
        out->text[out->bytes++] = mark ? ' ' : piece->text[i];
        i += mark ? 3 : 1;
    }
    return true;
}

static bool find_user_pieces(anemo_tokenizer *t) {
    size_t n = 0;
    for (size_t id = 0; id < t->vocab.n; ++id)
        n += t->vocab.pieces[id].type == ANEMO_PIECE_USER;
    t->user = n ? calloc(n, sizeof *t->user) : NULL;
    if (n && !t->user)
        return false;
    for (size_t id = 0; id < t->vocab.n; ++id) {
        const anemo_piece *piece = &t->vocab.pieces[id];
        if (piece->type != ANEMO_PIECE_USER)
            continue;
        /* SentencePiece matches behind the escaping of spaces: a bare one can match nothing. */
        if (!t->user_first && !t->user_spaces && memchr(piece->text, ' ', piece->bytes))
            continue;
        anemo_user_piece *user = &t->user[t->n_user++];
        user->id = (uint32_t)id;
        if (!user_text(t, piece, user))
            return false;
        t->user_begins[(unsigned char)user->text[0]] = true;
    }
    if (t->n_user > 1)
        qsort(t->user, t->n_user, sizeof *t->user, by_text);
    return true;
}

anemo_status anemo_tokenizer_seal(anemo_tokenizer *t, const char *path, anemo_error *err) {
    for (size_t id = 0; id < t->vocab.all; ++id) {
        anemo_piece *piece = &t->vocab.pieces[id];
        piece->text = piece->type == ANEMO_PIECE_HOLE ? NULL : t->vocab.arena + piece->at;
        if (piece->bytes > t->longest)
            t->longest = piece->bytes;
    }
    ANEMO_TRY(t->byte_level ? anemo_find_byte_symbols(t, path, err) : find_bytes(t, path, err));
    t->space = anemo_vocabulary_find(&t->vocab, ANEMO_SPACE_MARK, 3);
    if (t->escape_spaces && (t->space < 0 || t->vocab.pieces[t->space].type != ANEMO_PIECE_NORMAL))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: no normal piece U+2581, which stands for a space; accepted: a "
                          "vocabulary with it",
                          path);
    for (int c = 0; c < 128 && !t->byte_level; ++c)
        t->ascii[c] = anemo_vocabulary_find(&t->vocab, &(char){(char)c}, 1);
    if (!find_junctions(t) || !find_user_pieces(t))
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", path);
    return ANEMO_OK;
}
