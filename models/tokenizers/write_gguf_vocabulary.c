/* A tokenizer -> keys of a GGUF file: the inverse of gguf_vocabulary.c, and only where it is one.
 *
 * model "llama", code points: pieces, scores, types. SentencePiece has scores; a tokenizer.json has
 * merges, each with its rank, and the score of a piece becomes minus the rank of the merge that
 * makes it. GGUF's rule then merges more pairs, any two whose joint is a piece. Whether that
 * changes anything is decided piece by piece: on any text the two rules go the same way up to the
 * first pair that only one of them knows; nothing has crossed the borders of its joint by then, so
 * that the joint, alone, would have come to the same pair. The texts of the pieces are therefore
 * all that need be tried.
 *
 * model "gpt2", bytes: pieces in the byte alphabet, merges in order, a label for the splitter.
 * tekken.json has no merges; of all cuts of a piece the one is written that its text alone comes
 * to, by the same reasoning the only one that ever happens.
 *
 * What GGUF has no key for and its readers take for granted (gguf_vocabulary.c) is refused where it
 * does not hold, except what only matters here and has keys of its own, anemo.tokenizer.*. Ids of
 * the embedding that have no piece are spelt [PADn] and unused, as llama.cpp's converter does. */
#include "models/formats/convert.h"
#include "models/formats/gguf.h"
#include "models/tokenizers/chat.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define KEY(name) "tokenizer.ggml." name

struct anemo_gguf_vocabulary {
    const anemo_tokenizer *t;
    int64_t rows;
    float *scores;      /* code points: [rows] */
    anemo_pair *merges; /* bytes: [n_merges], the first to be made first */
    size_t n_merges;
    char *chat; /* template, or NULL */
};

static anemo_status refuse(const anemo_tokenizer *t, const char *what, anemo_error *err) {
    return anemo_fail(err, ANEMO_E_UNSUPPORTED, "%s: %s, which a vocabulary in GGUF cannot say",
                      anemo_show_path(t->path).text, what);
}

static anemo_status out_of_memory(const anemo_tokenizer *t, anemo_error *err) {
    return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", anemo_show_path(t->path).text);
}

/* ---------------------------------------------------------------- a piece alone */

/* NULL: no piece has this id. */
static const anemo_piece *piece_of(const anemo_tokenizer *t, int64_t id) {
    const anemo_piece *piece = (size_t)id < t->vocab.n ? &t->vocab.pieces[id] : NULL;
    return piece && piece->type != ANEMO_PIECE_HOLE ? piece : NULL;
}

static uint32_t type_of(const anemo_piece *piece) {
    return !piece                               ? ANEMO_PIECE_UNUSED
           : piece->type == ANEMO_PIECE_LITERAL ? ANEMO_PIECE_NORMAL
                                                : piece->type;
}

/* The text of a piece as symbols; 0: one of its code points is none, or it is too long. */
static size_t cut(const anemo_tokenizer *t, const char *text, size_t bytes, uint32_t *symbols) {
    size_t n = 0;
    for (size_t i = 0, length; i < bytes && bytes <= ANEMO_PIECE_LIMIT; i += length) {
        length = t->byte_level ? 1 : anemo_utf8_length(text + i, bytes - i);
        const int32_t id = t->byte_level ? (int32_t)t->byte_ids[(unsigned char)text[i]]
                                         : anemo_vocabulary_find(&t->vocab, text + i, length);
        if (id < 0)
            return 0;
        symbols[n++] = (uint32_t)id;
    }
    return n;
}

/* The merge that ends in the piece when its own text is encoded: a slot; ANEMO_NO_PAIR where that
 * ends in something else, or begins with the piece. */
static uint32_t last_merge(const anemo_tokenizer *t, uint32_t id) {
    uint32_t symbols[ANEMO_PIECE_LIMIT], slot = ANEMO_NO_PAIR;
    const anemo_piece *piece = &t->vocab.pieces[id];
    size_t n = cut(t, t->vocab.arena + piece->at, piece->bytes, symbols);
    while (n > 1) {
        size_t at = 0;
        slot = ANEMO_NO_PAIR;
        for (size_t i = 0; i + 1 < n; ++i) {
            const uint32_t found = anemo_pairs_find(&t->merges, symbols[i], symbols[i + 1]);
            if (found != ANEMO_NO_PAIR &&
                (slot == ANEMO_NO_PAIR ||
                 t->merges.slots[found].rank < t->merges.slots[slot].rank)) {
                slot = found;
                at = i;
            }
        }
        if (slot == ANEMO_NO_PAIR)
            return slot;
        symbols[at] = t->merges.slots[slot].result;
        memmove(symbols + at + 1, symbols + at + 2, (n - at - 2) * sizeof *symbols);
        --n;
    }
    return n == 1 && symbols[0] == id ? slot : ANEMO_NO_PAIR;
}

/* ---------------------------------------------------------------- code points */

/* Is a word ever begun inside a merge? */
static bool merges_spaces(const anemo_tokenizer *t) {
    for (size_t i = 0; t->junctions.slots && i <= t->junctions.mask; ++i)
        if (t->junctions.slots[i].left != ANEMO_NO_PAIR &&
            (int32_t)t->junctions.slots[i].right == t->space)
            return true;
    return false;
}

static anemo_status check_characters(const anemo_tokenizer *t, anemo_error *err) {
    if (!t->escape_spaces)
        return refuse(t, "a space stands for itself in its pieces", err);
    if (t->whole_words)
        return refuse(t, "a word that is a piece is not merged (ignore_merges)", err);
    if (t->split_words && merges_spaces(t))
        return refuse(t, "it splits text into words which its merges would join", err);
    if (t->merges.filled > 1u << 24)
        return refuse(t, "it has more merges than there are scores", err);
    if (!t->byte_fallback && !t->fuse_unknown)
        return refuse(t, "neighbouring unknown characters are several tokens", err);
    for (size_t id = 0; id < t->vocab.n && !t->user_first; ++id) {
        const anemo_piece *piece = piece_of(t, (int64_t)id);
        if (piece && piece->type == ANEMO_PIECE_USER && memchr(piece->text, ' ', piece->bytes))
            return refuse(t, "a piece holds a bare space that matches nothing", err);
    }
    return ANEMO_OK;
}

/* NAN: nothing makes the piece. */
static float score_of(const anemo_tokenizer *t, int64_t id) {
    const anemo_piece *piece = piece_of(t, id);
    if (!piece)
        return NAN;
    if (!t->user_first)
        return piece->score;
    const uint32_t slot = last_merge(t, (uint32_t)id);
    return slot == ANEMO_NO_PAIR ? NAN : -(float)t->merges.slots[slot].rank;
}

/* Pieces that nothing makes, and ids without one, come last. */
static void make_scores(const anemo_gguf_vocabulary *v) {
    float least = 0;
    for (int64_t id = 0; id < v->rows; ++id) {
        v->scores[id] = score_of(v->t, id);
        least = v->scores[id] < least ? v->scores[id] : least;
    }
    for (int64_t id = 0; id < v->rows; ++id)
        if (isnan(v->scores[id]))
            v->scores[id] = least - 1;
}

static void spell_padding(int64_t id, char out[32]) {
    snprintf(out, 32, "[PAD%lld]", (long long)id);
}

/* The pieces as a reader of the file will have them. */
static anemo_status put_pieces(const anemo_gguf_vocabulary *v, anemo_tokenizer *read,
                               anemo_error *err) {
    for (int64_t id = 0; id < v->rows; ++id) {
        const anemo_piece *piece = piece_of(v->t, id);
        char padding[32];
        spell_padding(id, padding);
        ANEMO_TRY(anemo_vocabulary_put(&read->vocab, v->t->path, KEY("tokens"), id,
                                       piece ? piece->text : padding,
                                       piece ? piece->bytes : strlen(padding),
                                       (anemo_piece_type)type_of(piece), v->scores[id], err));
    }
    return anemo_merges_from_scores(read, v->t->path, err);
}

static anemo_status check_merges(const anemo_gguf_vocabulary *v, anemo_error *err) {
    anemo_tokenizer *read = calloc(1, sizeof *read);
    if (!read)
        return out_of_memory(v->t, err);
    anemo_status status = put_pieces(v, read, err);
    for (int64_t id = 0; id < v->rows && status == ANEMO_OK; ++id) {
        const anemo_piece *piece = piece_of(v->t, id);
        const bool made = piece && last_merge(v->t, (uint32_t)id) != ANEMO_NO_PAIR;
        /* The text of an added token is cut out before anything is merged. */
        const bool added = v->t->user_first && piece && piece->type == ANEMO_PIECE_USER;
        if (!added && made != (last_merge(read, (uint32_t)id) != ANEMO_NO_PAIR))
            status = refuse(v->t, "its merges are not those of scores", err);
    }
    anemo_tokenizer_close(read);
    return status;
}

/* ---------------------------------------------------------------- bytes */

static int by_rank(const void *a, const void *b) {
    const anemo_pair *x = a, *y = b;
    return x->rank != y->rank   ? (x->rank > y->rank) - (x->rank < y->rank)
           : x->left != y->left ? (x->left > y->left) - (x->left < y->left)
                                : (x->right > y->right) - (x->right < y->right);
}

/* Does this merge share its rank with a neighbour in order? */
static bool is_shared(const anemo_pair *sorted, size_t n, size_t i) {
    return (i > 0 && sorted[i - 1].rank == sorted[i].rank) ||
           (i + 1 < n && sorted[i + 1].rank == sorted[i].rank);
}

static anemo_status make_merges(anemo_gguf_vocabulary *v, anemo_error *err) {
    const anemo_tokenizer *t = v->t;
    anemo_pair *all = malloc((t->merges.filled + 1) * sizeof *all);
    v->merges = malloc((t->merges.filled + 1) * sizeof *v->merges);
    size_t n = 0;
    for (size_t i = 0; all && t->merges.slots && i <= t->merges.mask; ++i)
        if (t->merges.slots[i].left != ANEMO_NO_PAIR)
            all[n++] = t->merges.slots[i];
    if (n > 1)
        qsort(all, n, sizeof *all, by_rank);
    for (size_t i = 0; v->merges && i < n; ++i) {
        const uint32_t slot = is_shared(all, n, i) ? last_merge(t, all[i].result) : ANEMO_NO_PAIR;
        if (!is_shared(all, n, i) ||
            (slot != ANEMO_NO_PAIR && by_rank(&t->merges.slots[slot], &all[i]) == 0))
            v->merges[v->n_merges++] = all[i];
    }
    const bool fits = all && v->merges;
    free(all);
    return fits ? ANEMO_OK : out_of_memory(t, err);
}

static anemo_status check_bytes(const anemo_tokenizer *t, anemo_error *err) {
    const anemo_split_rule *rule = anemo_splitter_rule(t->splitter);
    for (size_t id = 0; id < t->vocab.n; ++id)
        if (type_of(piece_of(t, (int64_t)id)) == ANEMO_PIECE_NORMAL &&
            t->vocab.pieces[id].bytes > ANEMO_PIECE_LIMIT)
            return refuse(t, "a piece has more than 512 bytes", err);
    if (t->whole_words != anemo_split_rule_whole_words(rule))
        return refuse(t,
                      t->whole_words ? "a word that is a piece is not merged (ignore_merges), "
                                       "unlike elsewhere with this splitter"
                                     : "a word that is a piece is merged, unlike elsewhere with "
                                       "this splitter",
                      err);
    if (t->nfc != anemo_split_rule_nfc(rule))
        return refuse(t,
                      t->nfc ? "it composes text (NFC), unlike others with this splitter"
                             : "it does not compose text (NFC), unlike others with this splitter",
                      err);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- making */

static anemo_status make(anemo_gguf_vocabulary *v, anemo_error *err) {
    const anemo_tokenizer *t = v->t;
    if ((int64_t)t->vocab.n > v->rows) {
        char what[96];
        snprintf(what, sizeof what, "it has %zu tokens for %lld rows of the embedding", t->vocab.n,
                 (long long)v->rows);
        return refuse(t, what, err);
    }
    for (int64_t id = 0; id < v->rows; ++id) {
        char padding[32];
        spell_padding(id, padding);
        if (!piece_of(t, id) &&
            anemo_vocabulary_find_special(&t->vocab, padding, strlen(padding)) >= 0)
            return refuse(t, "a piece is spelt like the ids that have none, [PADn]", err);
    }
    ANEMO_TRY(anemo_chat_template_text(t, &v->chat, err));
    if (t->byte_level) {
        ANEMO_TRY(check_bytes(t, err));
        return make_merges(v, err);
    }
    ANEMO_TRY(check_characters(t, err));
    v->scores = malloc((size_t)v->rows * sizeof *v->scores);
    if (!v->scores)
        return out_of_memory(t, err);
    make_scores(v);
    return check_merges(v, err);
}

anemo_status anemo_gguf_vocabulary_make(const anemo_tokenizer *tokenizer, int64_t rows,
                                        anemo_gguf_vocabulary **out, anemo_error *err) {
    anemo_gguf_vocabulary *v = *out = calloc(1, sizeof *v);
    if (!v)
        return out_of_memory(tokenizer, err);
    v->t = tokenizer;
    v->rows = rows;
    const anemo_status status = make(v, err);
    if (status != ANEMO_OK) {
        anemo_gguf_vocabulary_free(v);
        *out = NULL;
    }
    return status;
}

void anemo_gguf_vocabulary_free(anemo_gguf_vocabulary *vocabulary) {
    if (!vocabulary)
        return;
    free(vocabulary->scores);
    free(vocabulary->merges);
    free(vocabulary->chat);
    free(vocabulary);
}

/* ---------------------------------------------------------------- keys */

/* Of a piece of bytes in their alphabet. */
enum { SPELT_BYTES = 2 * ANEMO_PIECE_LIMIT };

static void put_text(anemo_gguf_keys *keys, const anemo_tokenizer *t, const anemo_piece *piece) {
    char spelt[SPELT_BYTES];
    if (t->byte_level && piece->type == ANEMO_PIECE_NORMAL)
        anemo_gguf_element_text(keys, spelt,
                                anemo_alphabet_spell(piece->text, piece->bytes, spelt));
    else
        anemo_gguf_element_text(keys, piece->text, piece->bytes);
}

static void put_tokens(const anemo_gguf_vocabulary *v, anemo_gguf_keys *keys) {
    char padding[32];
    if (anemo_gguf_key_array(keys, KEY("tokens"), GGUF_STRING, v->rows))
        for (int64_t id = 0; id < v->rows; ++id) {
            const anemo_piece *piece = piece_of(v->t, id);
            spell_padding(id, padding);
            if (piece)
                put_text(keys, v->t, piece);
            else
                anemo_gguf_element_text(keys, padding, strlen(padding));
        }
    if (anemo_gguf_key_array(keys, KEY("token_type"), GGUF_I32, v->rows))
        for (int64_t id = 0; id < v->rows; ++id)
            anemo_gguf_element(keys, type_of(piece_of(v->t, id)), 4);
}

static void put_merges(const anemo_gguf_vocabulary *v, anemo_gguf_keys *keys) {
    char text[2 * SPELT_BYTES + 1];
    if (!anemo_gguf_key_array(keys, KEY("merges"), GGUF_STRING, (int64_t)v->n_merges))
        return;
    for (size_t i = 0; i < v->n_merges; ++i) {
        const anemo_piece *left = &v->t->vocab.pieces[v->merges[i].left],
                          *right = &v->t->vocab.pieces[v->merges[i].right];
        size_t n = anemo_alphabet_spell(left->text, left->bytes, text);
        text[n++] = ' ';
        n += anemo_alphabet_spell(right->text, right->bytes, text + n);
        anemo_gguf_element_text(keys, text, n);
    }
}

static void put_characters(const anemo_gguf_vocabulary *v, anemo_gguf_keys *keys) {
    static const char *const prefixes[] = {"none", "first", "segment"};
    const anemo_tokenizer *t = v->t;
    anemo_gguf_key_text(keys, KEY("model"), "llama");
    anemo_gguf_key_text(keys, KEY("pre"), "default");
    put_tokens(v, keys);
    if (anemo_gguf_key_array(keys, KEY("scores"), GGUF_F32, v->rows))
        for (int64_t id = 0; id < v->rows; ++id)
            anemo_gguf_element(keys, anemo_f32_bits(v->scores[id]), 4);
    anemo_gguf_key_bool(keys, KEY("add_space_prefix"), t->prefix != ANEMO_PREFIX_NONE);
    if (t->trim_spaces)
        anemo_gguf_key_bool(keys, KEY("remove_extra_whitespaces"), true);
    if (t->unknown >= 0)
        anemo_gguf_key_u32(keys, KEY("unknown_token_id"), t->unknown);
    if (t->user_first)
        anemo_gguf_key_text(keys, ANEMO_GGUF_PREFIX, prefixes[t->prefix]);
    if (strcmp(t->unknown_surface, ANEMO_UNKNOWN_SURFACE) != 0)
        anemo_gguf_key_text(keys, ANEMO_GGUF_UNKNOWN_SURFACE, t->unknown_surface);
}

static void put_bytes(const anemo_gguf_vocabulary *v, anemo_gguf_keys *keys) {
    anemo_gguf_key_text(keys, KEY("model"), "gpt2");
    anemo_gguf_key_text(keys, KEY("pre"),
                        anemo_split_rule_pre(anemo_splitter_rule(v->t->splitter)));
    put_tokens(v, keys);
    put_merges(v, keys);
}

void anemo_gguf_vocabulary_keys(const anemo_gguf_vocabulary *vocabulary, anemo_gguf_keys *keys) {
    const anemo_tokenizer *t = vocabulary->t;
    if (t->byte_level)
        put_bytes(vocabulary, keys);
    else
        put_characters(vocabulary, keys);
    if (t->bos >= 0)
        anemo_gguf_key_u32(keys, KEY("bos_token_id"), t->bos);
    anemo_gguf_key_bool(keys, KEY("add_bos_token"), t->bos >= 0);
    if (vocabulary->chat)
        anemo_gguf_key_text(keys, "tokenizer.chat_template", vocabulary->chat);
    if (*t->version)
        anemo_gguf_key_text(keys, ANEMO_GGUF_VERSION, t->version);
    if (t->has_settings)
        anemo_gguf_key_text(keys, ANEMO_GGUF_EFFORTS, t->efforts);
    if (*t->effort)
        anemo_gguf_key_text(keys, ANEMO_GGUF_EFFORT, t->effort);
}
