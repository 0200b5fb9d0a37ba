/* Text to ids.
 *
 * The text becomes a stream of symbols: user pieces, code points, bytes. Symbols that no merge can
 * touch (user pieces, bytes) are frozen: their id carries a bit that no table contains. The stream
 * is cut wherever two neighbours form no junction (internal.h), and each chunk is merged with a
 * linked list and a binary heap: O(n log n) also for a megabyte of one letter. A heap entry is
 * trusted only if the two symbols it was made for still stand there.
 *
 * Two choices where lossless and the reference libraries part, made so that decode(encode(x)) is x
 * for every byte string if the vocabulary has byte pieces:
 *   - a U+2581 in the text, which SentencePiece takes for a space, becomes its three byte tokens,
 *     like any other character outside the vocabulary; so does each byte that is not UTF-8, which
 *     SentencePiece replaces by U+FFFD;
 *   - Hugging Face's Metaspace puts no prefix before a text that begins with a space, and so loses
 *     that space; here it always does, as SentencePiece, on which these models were trained, does.
 * A byte-level vocabulary needs neither: all of a text is in it. Where the file asks for NFC,
 * decoding gives the composed text.
 *
 * BPE: Sennrich et al., arXiv:1508.07909; SentencePiece: Kudo and Richardson, arXiv:1808.06226. */
#include "models/tokenizers/internal.h"

#include <stdlib.h>

#define FROZEN     UINT32_C(0x80000000)
#define GONE       UINT32_MAX /* merged into its left neighbour */
#define TEXT_LIMIT ((size_t)1 << 30)

typedef struct symbol {
    uint32_t id;
    int32_t previous, next; /* -1: none */
} symbol;

typedef struct candidate {
    uint64_t order; /* rank << 32 | position of the left symbol */
    uint32_t merge; /* slot */
} candidate;

typedef struct encoder {
    const anemo_tokenizer *t;
    int32_t *ids;
    size_t n_ids, id_capacity;
    symbol *symbols;
    size_t n_symbols, symbol_capacity;
    candidate *heap; /* as many entries as two per symbol: more never wait */
    size_t n_heap;
    uint32_t *falls_apart;  /* has_unused: by piece, slot + 1 of the merge last seen for it */
    anemo_split_walk *walk; /* byte level */
    anemo_status failed;    /* of splitting or normalising, with its sentence in err */
    anemo_error *err;
    bool after_unknown;
    bool out_of_memory; /* set once; all else then does nothing */
} encoder;

/* ---------------------------------------------------------------- ids out */

static void emit(encoder *e, uint32_t id) {
    const bool unknown = (int32_t)id == e->t->unknown;
    const bool fused = unknown && e->after_unknown && e->t->fuse_unknown;
    e->after_unknown = unknown;
    if (fused || e->out_of_memory)
        return;
    if (e->n_ids == e->id_capacity) {
        const size_t capacity = e->id_capacity ? 2 * e->id_capacity : 64;
        int32_t *ids = realloc(e->ids, capacity * sizeof *ids);
        if (!ids) {
            e->out_of_memory = true;
            return;
        }
        e->ids = ids;
        e->id_capacity = capacity;
    }
    e->ids[e->n_ids++] = (int32_t)id;
}

static void emit_symbol(encoder *e, uint32_t id) {
    if (id & FROZEN) {
        emit(e, id & ~FROZEN);
        return;
    }
    const anemo_piece *piece = &e->t->vocab.pieces[id];
    if (piece->type == ANEMO_PIECE_UNUSED && e->falls_apart && e->falls_apart[id]) {
        const anemo_pair *merge = &e->t->merges.slots[e->falls_apart[id] - 1];
        emit_symbol(e, merge->left); /* both are shorter, so this ends */
        emit_symbol(e, merge->right);
    } else if (piece->type == ANEMO_PIECE_NORMAL || piece->type == ANEMO_PIECE_USER ||
               piece->type == ANEMO_PIECE_UNUSED) {
        emit(e, id);
    } else if (e->t->byte_fallback) { /* a character, or a control piece of one code point */
        for (size_t i = 0; i < piece->bytes; ++i)
            emit(e, e->t->byte_ids[(unsigned char)piece->text[i]]);
    } else {
        emit(e, (uint32_t)e->t->unknown);
    }
}

/* ---------------------------------------------------------------- merging */

static void sift_down(candidate *heap, size_t n, size_t i) {
    const candidate moving = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1].order < heap[child].order)
            ++child;
        if (moving.order <= heap[child].order)
            break;
        heap[i] = heap[child];
    }
    heap[i] = moving;
}

static void sift_up(candidate *heap, size_t i) {
    const candidate moving = heap[i];
    for (; i > 0 && moving.order < heap[(i - 1) / 2].order; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = moving;
}

/* Appends the merge of the symbol at `left` with its neighbour, if there is one. */
static bool append_candidate(encoder *e, int32_t left) {
    const symbol *a = &e->symbols[left];
    const uint32_t slot = anemo_pairs_find(&e->t->merges, a->id, e->symbols[a->next].id);
    if (slot == ANEMO_NO_PAIR)
        return false;
    const anemo_pair *merge = &e->t->merges.slots[slot];
    e->heap[e->n_heap++] = (candidate){(uint64_t)merge->rank << 32 | (uint32_t)left, slot};
    if (e->falls_apart && e->t->vocab.pieces[merge->result].type == ANEMO_PIECE_UNUSED)
        e->falls_apart[merge->result] = slot + 1;
    return true;
}

static void merge_at(encoder *e, int32_t at, uint32_t result) {
    symbol *left = &e->symbols[at], *right = &e->symbols[left->next];
    left->id = result;
    left->next = right->next;
    right->id = GONE;
    if (left->next >= 0)
        e->symbols[left->next].previous = at;
    if (left->previous >= 0 && append_candidate(e, left->previous))
        sift_up(e->heap, e->n_heap - 1);
    if (left->next >= 0 && append_candidate(e, at))
        sift_up(e->heap, e->n_heap - 1);
}

static void merge_chunk(encoder *e) {
    const int32_t n = (int32_t)e->n_symbols;
    for (int32_t i = 0; i < n; ++i) {
        e->symbols[i].previous = i - 1;
        e->symbols[i].next = i + 1 < n ? i + 1 : -1;
    }
    e->n_heap = 0;
    for (int32_t i = 0; i + 1 < n; ++i)
        append_candidate(e, i);
    for (size_t i = e->n_heap / 2; i-- > 0;)
        sift_down(e->heap, e->n_heap, i);
    while (e->n_heap > 0) {
        const candidate best = e->heap[0];
        e->heap[0] = e->heap[--e->n_heap];
        if (e->n_heap > 0)
            sift_down(e->heap, e->n_heap, 0);
        const int32_t at = (int32_t)(uint32_t)best.order;
        const anemo_pair *merge = &e->t->merges.slots[best.merge];
        const symbol *left = &e->symbols[at];
        if (left->id == merge->left && left->next >= 0 && e->symbols[left->next].id == merge->right)
            merge_at(e, at, merge->result);
    }
}

/* Merges and emits what is pending. */
static void flush(encoder *e) {
    if (e->n_symbols == 0 || e->out_of_memory)
        return;
    if (e->n_symbols == 1) {
        emit_symbol(e, e->symbols[0].id);
    } else {
        merge_chunk(e);
        for (int32_t i = 0; i >= 0; i = e->symbols[i].next)
            emit_symbol(e, e->symbols[i].id);
    }
    e->n_symbols = 0;
}

/* ---------------------------------------------------------------- text to symbols */

static bool grow_symbols(encoder *e) {
    const size_t capacity = e->symbol_capacity ? 2 * e->symbol_capacity : 256;
    symbol *symbols = realloc(e->symbols, capacity * sizeof *symbols);
    if (symbols)
        e->symbols = symbols;
    candidate *heap = realloc(e->heap, 2 * capacity * sizeof *heap);
    if (heap)
        e->heap = heap;
    e->out_of_memory = !symbols || !heap;
    if (!e->out_of_memory)
        e->symbol_capacity = capacity;
    return !e->out_of_memory;
}

static void push(encoder *e, uint32_t id) {
    /* Pieces that fall apart remember the merge last seen in the whole text: no chunks then. */
    if (e->n_symbols > 0 && !e->falls_apart &&
        anemo_pairs_find(&e->t->junctions, e->symbols[e->n_symbols - 1].id, id) == ANEMO_NO_PAIR)
        flush(e);
    if (e->out_of_memory || (e->n_symbols == e->symbol_capacity && !grow_symbols(e)))
        return;
    e->symbols[e->n_symbols++].id = id;
}

static void push_outside(encoder *e, const char *text, size_t bytes) {
    if (e->t->byte_fallback)
        for (size_t i = 0; i < bytes; ++i)
            push(e, e->t->byte_ids[(unsigned char)text[i]] | FROZEN);
    else
        push(e, (uint32_t)e->t->unknown | FROZEN);
}

/* One code point, or one byte that begins none; returns its length. */
static size_t push_character(encoder *e, const char *text, size_t n) {
    const anemo_tokenizer *t = e->t;
    size_t length = 1;
    int32_t id = -1;
    if (*text == ' ' && t->escape_spaces) {
        id = t->space;
    } else if ((unsigned char)*text < 0x80) {
        id = t->ascii[(unsigned char)*text];
    } else if ((length = anemo_utf8_length(text, n)) == 0) {
        length = 1;
    } else {
        id = anemo_vocabulary_find(&t->vocab, text, length);
        if (id == t->space && t->escape_spaces && t->byte_fallback)
            id = -1; /* a U+2581 of the text itself */
    }
    if (id >= 0)
        push(e, (uint32_t)id);
    else
        push_outside(e, text, length);
    return length;
}

/* The longest user piece that begins at `text`: its index, *length bytes; -1: none. Narrows the
 * sorted list byte by byte; of pieces with a common beginning the shorter stands first. */
static ptrdiff_t match_user(const anemo_tokenizer *t, const char *text, size_t n, size_t *length) {
    ptrdiff_t found = -1;
    size_t low = 0, high = t->user_begins[(unsigned char)*text] ? t->n_user : 0;
    for (size_t k = 0; k < n && low < high; ++k) {
        const unsigned char c = (unsigned char)text[k];
        for (size_t end = high; low < end;) { /* first piece longer than k with a byte >= c there */
            const size_t middle = low + (end - low) / 2;
            const anemo_user_piece *piece = &t->user[middle];
            if (piece->bytes <= k || (unsigned char)piece->text[k] < c)
                low = middle + 1;
            else
                end = middle;
        }
        for (size_t begin = low; begin < high;) { /* first piece with a byte > c there */
            const size_t middle = begin + (high - begin) / 2;
            if ((unsigned char)t->user[middle].text[k] <= c)
                begin = middle + 1;
            else
                high = middle;
        }
        if (low < high && t->user[low].bytes == k + 1) {
            found = (ptrdiff_t)low;
            *length = k + 1;
        }
    }
    return found;
}

/* ---------------------------------------------------------------- tokenizer.json */

/* The piece that a whole word is, -1: none. Written with U+2581 the word is at most three times as
 * long, and no longer than the longest piece if it is one. */
static int32_t whole_word(const anemo_tokenizer *t, const char *text, size_t n, bool prefix,
                          char *buffer) {
    size_t used = 0;
    for (size_t i = 0; i < n + prefix; ++i) {
        const char c = i < prefix ? ' ' : text[i - prefix];
        const bool mark = c == ' ' && t->escape_spaces;
        if (used + (mark ? 3 : 1) > t->longest)
            return -1;
        memcpy(buffer + used, mark ? ANEMO_SPACE_MARK : &c, mark ? 3 : 1);
        used += mark ? 3 : 1;
        if (used >= 3 && !mark && t->escape_spaces && t->byte_fallback &&
            memcmp(buffer + used - 3, ANEMO_SPACE_MARK, 3) == 0)
            return -1; /* a U+2581 of the text itself */
    }
    const int32_t id = anemo_vocabulary_find(&t->vocab, buffer, used);
    return id >= 0 && t->vocab.pieces[id].type == ANEMO_PIECE_NORMAL ? id : -1;
}

static void encode_word(encoder *e, const char *text, size_t n, bool prefix, char *buffer) {
    const int32_t whole = e->t->whole_words ? whole_word(e->t, text, n, prefix, buffer) : -1;
    if (whole >= 0) {
        push(e, (uint32_t)whole | FROZEN);
    } else {
        if (prefix)
            push(e, (uint32_t)e->t->space);
        for (size_t i = 0; i < n;)
            i += push_character(e, text + i, n - i);
    }
    flush(e);
}

static void encode_segment(encoder *e, const char *text, size_t n, bool prefix, char *buffer) {
    size_t begin = 0;
    for (size_t i = 0; e->t->split_words && i < n; ++i) {
        if (text[i] != ' ' || (i == 0 && !prefix))
            continue;
        encode_word(e, text + begin, i - begin, prefix && begin == 0, buffer);
        prefix = false;
        begin = i;
    }
    encode_word(e, text + begin, n - begin, prefix, buffer);
}

/* ---------------------------------------------------------------- byte level */

static void encode_byte_word(encoder *e, const char *text, size_t n) {
    const int32_t whole =
        e->t->whole_words && n <= e->t->longest ? anemo_vocabulary_find(&e->t->vocab, text, n) : -1;
    if (whole >= 0) {
        emit(e, (uint32_t)whole);
        return;
    }
    for (size_t i = 0; i < n; ++i)
        push(e, e->t->byte_ids[(unsigned char)text[i]]);
    flush(e);
}

/* Valid UTF-8: normalised, cut into words. */
static void encode_words(encoder *e, const char *text, size_t n) {
    char *composed = NULL;
    if (e->t->nfc)
        e->failed = anemo_normalize_nfc(text, n, &composed, &n, e->err);
    if (composed)
        text = composed;
    for (size_t at = 0; at < n && e->failed == ANEMO_OK && !e->out_of_memory;) {
        size_t end = at;
        e->failed = anemo_split_next(e->walk, text, n, at, &end, e->err);
        if (e->failed == ANEMO_OK)
            encode_byte_word(e, text + at, end - at);
        at = end;
    }
    free(composed);
}

/* What is not UTF-8 cannot be split: each such byte is a word. */
static void encode_bytes(encoder *e, const char *text, size_t n) {
    size_t begin = 0;
    for (size_t i = 0, length; i <= n && e->failed == ANEMO_OK; i += length) {
        length = i < n ? anemo_utf8_length(text + i, n - i) : 0;
        if (length > 0)
            continue;
        if (i > begin)
            encode_words(e, text + begin, i - begin);
        if (i < n)
            emit(e, e->t->byte_ids[(unsigned char)text[i]]);
        begin = i + 1;
        length = 1;
    }
}

static void encode_segments(encoder *e, const char *text, size_t n) {
    char *buffer = malloc(e->t->longest + 1);
    e->out_of_memory |= !buffer;
    size_t begin = 0;
    for (size_t i = 0; i <= n && !e->out_of_memory && e->failed == ANEMO_OK;) {
        size_t length = 1;
        const ptrdiff_t user = i < n ? match_user(e->t, text + i, n - i, &length) : -1;
        if (i > begin && (user >= 0 || i == n)) {
            const bool prefix = e->t->prefix == ANEMO_PREFIX_SEGMENT ||
                                (e->t->prefix == ANEMO_PREFIX_FIRST && begin == 0);
            if (e->t->byte_level)
                encode_bytes(e, text + begin, i - begin);
            else
                encode_segment(e, text + begin, i - begin, prefix, buffer);
        }
        if (user >= 0) {
            emit(e, e->t->user[user].id);
            begin = i + length;
        }
        i += length;
    }
    free(buffer);
}

/* ---------------------------------------------------------------- SentencePiece */

/* The text with its prefix, and with trim_spaces without leading, trailing and repeated spaces;
 * malloc'ed, NULL without memory. Without byte pieces a U+2581 of the text cannot be told from a
 * space: it is one, but one that is only trimmed at the end, as SentencePiece has it. */
static char *prepare(const anemo_tokenizer *t, const char *text, size_t n, size_t *prepared_bytes) {
    char *prepared = malloc(n + 1);
    if (!prepared)
        return NULL;
    size_t used = 0, i = 0;
    while (t->trim_spaces && i < n && text[i] == ' ')
        ++i;
    if (i < n && t->prefix != ANEMO_PREFIX_NONE)
        prepared[used++] = ' ';
    for (bool after_space = false; i < n;) {
        const bool space = text[i] == ' ';
        const bool mark =
            !t->byte_fallback && n - i >= 3 && memcmp(text + i, ANEMO_SPACE_MARK, 3) == 0;
        if (!(t->trim_spaces && space && after_space))
            prepared[used++] = mark ? ' ' : text[i];
        after_space = space;
        i += mark ? 3 : 1;
    }
    while (t->trim_spaces && used > 0 && prepared[used - 1] == ' ')
        --used;
    *prepared_bytes = used;
    return prepared;
}

static void encode_stream(encoder *e, const char *text, size_t n) {
    size_t bytes = 0;
    char *prepared = prepare(e->t, text, n, &bytes);
    e->out_of_memory |= !prepared;
    for (size_t i = 0; i < bytes && !e->out_of_memory;) {
        size_t length;
        const ptrdiff_t user = match_user(e->t, prepared + i, bytes - i, &length);
        if (user >= 0)
            push(e, e->t->user[user].id | FROZEN);
        i += user >= 0 ? length : push_character(e, prepared + i, bytes - i);
    }
    flush(e);
    free(prepared);
}

/* ---------------------------------------------------------------- the door */

anemo_status anemo_tokenizer_encode(const anemo_tokenizer *tokenizer, const char *text,
                                    size_t text_bytes, bool add_bos, int32_t **ids, size_t *n_ids,
                                    anemo_error *err) {
    *ids = NULL;
    *n_ids = 0;
    if (text_bytes > TEXT_LIMIT)
        return anemo_fail(err, ANEMO_E_INPUT, "a text of %zu bytes; accepted: at most %zu",
                          text_bytes, TEXT_LIMIT);
    if (add_bos && tokenizer->bos < 0)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "BOS is asked for, but the tokenizer has no such token");
    encoder e = {.t = tokenizer, .err = err};
    if (tokenizer->has_unused) {
        e.falls_apart = calloc(tokenizer->vocab.n, sizeof *e.falls_apart);
        e.out_of_memory = !e.falls_apart;
    }
    if (tokenizer->byte_level && !(e.walk = anemo_split_begin(tokenizer->splitter)))
        e.out_of_memory = true;
    e.out_of_memory |= !(e.ids = malloc(sizeof *e.ids)); /* never NULL, also for no ids at all */
    e.id_capacity = 1;
    if (add_bos)
        emit(&e, (uint32_t)tokenizer->bos);
    if (tokenizer->user_first)
        encode_segments(&e, text, text_bytes);
    else
        encode_stream(&e, text, text_bytes);
    free(e.symbols);
    free(e.heap);
    free(e.falls_apart);
    anemo_split_end(e.walk);
    if (e.failed != ANEMO_OK) {
        free(e.ids);
        return e.failed;
    }
    if (e.out_of_memory) {
        free(e.ids);
        return anemo_fail(err, ANEMO_E_MEMORY, "out of memory encoding %zu bytes", text_bytes);
    }
    *ids = e.ids;
    *n_ids = e.n_ids;
    return ANEMO_OK;
}
