/* What the files of models/tokenizers/ share.
 *
 * One engine serves every container. A reader (sentencepiece.c, huggingface.c, gguf_vocabulary.c)
 * fills an anemo_tokenizer with pieces, a table of merges and a few flags, or refuses the file;
 * encode.c and decode.c then know nothing of containers.
 *
 *   piece      what an id stands for, as stored ("\u2581the", "<0x0A>", "</s>")
 *   symbol     what merging works on: a piece id, or the id of a *character*, a code point that
 *              occurs inside pieces without being one (ids from vocab.n upwards, never returned)
 *   merge      (left symbol, right symbol) -> (rank, piece): the lowest rank goes first, the
 *              leftmost on ties. tokenizer.json lists its merges; for SentencePiece each piece is
 *              cut at every code point, and its rank is the place of its score. The two are the
 *              same algorithm, and one pair table is faster than looking up concatenated strings.
 *   junction   (last code point of left, first code point of right) of some merge. Between two
 *              code points that form no junction nothing can ever merge, so a text falls into short
 *              independent chunks, and a heap holds one word instead of one megabyte.
 *
 * A byte-level vocabulary (GPT-2 and its heirs; byte_level.c) is the same with bytes for code
 * points: its pieces are kept as the bytes they stand for, whatever spelling the file has, its 256
 * one-byte pieces are the symbols that text begins as, and a splitter first cuts the text into
 * words, across which nothing merges. */
#ifndef ANEMO_TOKENIZERS_INTERNAL_H
#define ANEMO_TOKENIZERS_INTERNAL_H

#include "models/engine.h"
#include "models/formats/internal.h"
#include "models/formats/json.h"
#include "models/tokenizers/splitter.h"

#define ANEMO_VOCAB_LIMIT     (1 << 22) /* ids; the largest published vocabulary has 262144 */
#define ANEMO_PIECE_LIMIT     512       /* bytes of a piece that is cut for merges */
#define ANEMO_TOKENIZER_LIMIT ((size_t)1 << 27) /* bytes of a tokenizer file */
#define ANEMO_NO_PAIR         UINT32_MAX
#define ANEMO_SPACE_MARK      "\xe2\x96\x81"   /* U+2581, which stands for a space inside pieces */
#define ANEMO_UNKNOWN_SURFACE " \xe2\x81\x87 " /* what SentencePiece shows for an unknown id */

/* Keys of a GGUF file that other programs do not know: what the file's vocabulary lacks of the
 * tokenizer that it was made from. PREFIX, "none", "first" or "segment": it is a tokenizer.json's,
 * whose added tokens cut the text before anything else. */
#define ANEMO_GGUF_PREFIX          "anemo.tokenizer.prefix"
#define ANEMO_GGUF_UNKNOWN_SURFACE "anemo.tokenizer.unknown_surface"
#define ANEMO_GGUF_VERSION         "anemo.tokenizer.version"
#define ANEMO_GGUF_EFFORT          "anemo.tokenizer.effort"
#define ANEMO_GGUF_EFFORTS         "anemo.tokenizer.efforts"

/* The numbers of SentencePiece and GGUF, and two of our own. */
typedef enum anemo_piece_type {
    ANEMO_PIECE_HOLE = 0, /* no piece has this id */
    ANEMO_PIECE_NORMAL = 1,
    ANEMO_PIECE_UNKNOWN = 2,
    ANEMO_PIECE_CONTROL = 3, /* never made from text, left out when decoding */
    ANEMO_PIECE_USER = 4,    /* matched in the text before anything else, never merged */
    ANEMO_PIECE_UNUSED = 5,  /* merges, and falls apart again in the result */
    ANEMO_PIECE_BYTE = 6,
    ANEMO_PIECE_CHARACTER = 7,
    ANEMO_PIECE_LITERAL = 8 /* byte level: decodes as it stands, never made from text */
} anemo_piece_type;

typedef struct anemo_piece {
    const char *text; /* with NUL behind it; points into the arena once the vocabulary is sealed */
    size_t at;        /* place in the arena */
    uint32_t bytes;
    float score;  /* SentencePiece and GGUF */
    uint8_t type; /* anemo_piece_type */
    uint8_t byte; /* ANEMO_PIECE_BYTE: its value */
} anemo_piece;

typedef struct anemo_vocabulary {
    anemo_piece *pieces;
    size_t n;   /* ids of the file: 0 .. n-1 */
    size_t all; /* with characters */
    size_t capacity;
    char *arena;
    size_t arena_bytes, arena_capacity;
    uint32_t *slots; /* open addressing by text: id + 1, 0 = free */
    size_t slot_mask, filled;
    bool bytes; /* pieces are any bytes; special ones (all but NORMAL) are looked up on their own,
                   so that one may be spelt as an ordinary piece is */
} anemo_vocabulary;

typedef struct anemo_pair {
    uint32_t left, right; /* left == ANEMO_NO_PAIR: free */
    uint32_t rank, result;
} anemo_pair;

typedef struct anemo_pairs {
    anemo_pair *slots;
    size_t mask, filled;
} anemo_pairs;

/* A piece that is matched in the text; sorted by text. */
typedef struct anemo_user_piece {
    char *text; /* owned; as it stands in the input (spaces, not U+2581) */
    size_t bytes;
    uint32_t id;
} anemo_user_piece;

/* Where a space is put before non-empty text. */
typedef enum anemo_prefix {
    ANEMO_PREFIX_NONE,
    ANEMO_PREFIX_FIRST,  /* at the beginning of the text */
    ANEMO_PREFIX_SEGMENT /* at the beginning of each segment (user_first only) */
} anemo_prefix;

struct anemo_tokenizer {
    char *path;        /* owned; as it was opened */
    char version[16];  /* tekken.json's own word; "": none */
    bool has_settings; /* tekken.json from v15 on: what a chat may set */
    char effort[16];   /* of reasoning where a chat does not say; "": it cannot be set */
    char efforts[96];  /* "none, high" */
    bool in_gguf;
    anemo_vocabulary vocab;
    anemo_pairs merges, junctions;
    anemo_user_piece *user;
    size_t n_user;
    bool user_begins[256];     /* by first byte: some user piece begins so */
    int32_t bos, eos, unknown; /* -1: none */
    char unknown_surface[32];  /* what an unknown id decodes to */
    anemo_prefix prefix;
    bool escape_spaces; /* a space is U+2581 inside pieces */
    bool user_first;    /* user pieces, as raw text, cut the text into segments before prefix and
                           merges (tokenizer.json); else they are matched in the prefixed text */
    bool user_spaces;   /* a bare space in a user piece stands for a space, too (GGUF) */
    bool trim_spaces;   /* remove_extra_whitespaces */
    bool split_words;   /* merge nothing across the start of a word (Metaspace, split) */
    bool whole_words;   /* a word that is a piece is not merged (ignore_merges) */
    bool fuse_unknown;  /* neighbouring unknown symbols are one unknown id */
    bool byte_fallback; /* then all 256 byte pieces are there */
    bool has_unused;    /* some merge makes an UNUSED piece */
    bool byte_level;
    bool nfc;                 /* byte level: text is composed (NFC) before it is split */
    anemo_splitter *splitter; /* byte level: owned */
    uint32_t byte_ids[256];
    int32_t ascii[128]; /* symbol of an ASCII character, -1: none */
    int32_t space;      /* symbol of U+2581, -1: none */
    size_t longest;     /* bytes of the longest piece */
};

/* ---------------------------------------------------------------- vocabulary.c */

/* Length of the well-formed UTF-8 sequence at `text` (n > 0 bytes left), 0 if there is none. */
size_t anemo_utf8_length(const char *text, size_t n);
bool anemo_utf8_valid(const char *text, size_t n);
/* Gives `id` a piece. Refused: an id or a text that is taken, the empty text, what is not UTF-8,
 * an id beyond ANEMO_VOCAB_LIMIT. `where` names the field in sentences. */
anemo_status anemo_vocabulary_put(anemo_vocabulary *vocab, const char *path, const char *where,
                                  int64_t id, const char *text, size_t bytes, anemo_piece_type type,
                                  float score, anemo_error *err);
/* The id of a text, -1: none. */
int32_t anemo_vocabulary_find(const anemo_vocabulary *vocab, const char *text, size_t bytes);
/* The id of a special piece of a byte-level vocabulary, of any piece of others; -1: none. */
int32_t anemo_vocabulary_find_special(const anemo_vocabulary *vocab, const char *text,
                                      size_t bytes);
/* The value of "<0x0A>", -1: not the name of a byte. */
int32_t anemo_byte_value(const char *text, size_t bytes);

/* ---------------------------------------------------------------- pairs.c */

/* Slot index, ANEMO_NO_PAIR: none. */
uint32_t anemo_pairs_find(const anemo_pairs *pairs, uint32_t left, uint32_t right);
/* *added (may be NULL): false where the pair was there already, which then stays as it is. False:
 * out of memory. */
bool anemo_pairs_add(anemo_pairs *pairs, anemo_pair pair, bool *added);
/* Every cut of every piece that may come from text becomes a merge, ranked by score. */
anemo_status anemo_merges_from_scores(anemo_tokenizer *t, const char *path, anemo_error *err);
/* After pieces, flags and merges: byte ids, junctions, user pieces, lookup tables; refuses a
 * vocabulary that cannot do what the flags say. */
anemo_status anemo_tokenizer_seal(anemo_tokenizer *t, const char *path, anemo_error *err);

/* ---------------------------------------------------------------- byte_level.c */

/* The printable spelling of byte-level files ("\u0120the" is " the") to the bytes it stands for;
 * out has room for `bytes`. Returns their number, -1: a character outside the alphabet of 256. */
ptrdiff_t anemo_alphabet_bytes(const char *text, size_t bytes, char *out);
/* The way back; out has room for twice `bytes`. Returns the length of the spelling. */
size_t anemo_alphabet_spell(const char *text, size_t bytes, char *out);
/* Every cut of every NORMAL piece of which both parts are such pieces becomes a merge, ranked by
 * id: what tiktoken does when it looks up concatenations. */
anemo_status anemo_merges_from_ids(anemo_tokenizer *t, const char *path, anemo_error *err);
/* The merge of two pieces named in the printable spelling. *result -1: one of the three is no
 * NORMAL piece. */
anemo_status anemo_merge_by_name(anemo_tokenizer *t, const char *path, const char *left,
                                 size_t left_bytes, const char *right, size_t right_bytes,
                                 uint32_t rank, int32_t *result, bool *added, anemo_error *err);
/* Finds the 256 one-byte pieces; refuses a vocabulary without one. */
anemo_status anemo_find_byte_symbols(anemo_tokenizer *t, const char *path, anemo_error *err);

/* ---------------------------------------------------------------- normalize.c */

/* Valid UTF-8 in, composed (NFC) UTF-8 out, malloc'ed; *out NULL where the text is ASCII, which is
 * composed already. ANEMO_E_LIBRARY in a build without utf8proc, naming the package. */
anemo_status anemo_normalize_nfc(const char *text, size_t bytes, char **out, size_t *out_bytes,
                                 anemo_error *err);
/* The same refusal, when a file is opened. */
anemo_status anemo_normalize_available(const char *path, anemo_error *err);

/* ---------------------------------------------------------------- readers */

/* Each fills a zeroed tokenizer up to and including the seal; the caller frees it in any case. */
anemo_status anemo_read_sentencepiece(anemo_tokenizer *t, const anemo_mapped_file *file,
                                      anemo_error *err);
anemo_status anemo_read_tokenizer_json(anemo_tokenizer *t, const anemo_mapped_file *file,
                                       anemo_error *err);
anemo_status anemo_read_gguf_vocabulary(anemo_tokenizer *t, const anemo_mapped_file *file,
                                        anemo_error *err);
anemo_status anemo_read_tekken(anemo_tokenizer *t, const anemo_mapped_file *file, anemo_error *err);

#endif
