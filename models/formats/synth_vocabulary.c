/* The vocabulary of a synthetic model in a file: made up, but valid, so that any engine that reads
 * SentencePiece vocabularies of GGUF loads the file and encodes any text with it.
 *
 *     0 <unk>   1 <s>   2 </s>   3 .. 258 the bytes   259 .. all words over 27 letters
 *
 * The letters are U+2581, which stands for a space, and a to z. Words come by length and, within
 * one length, in order: numbers written in base 27. Every prefix of a word stands before it, so
 * that each can be merged from two shorter ones, and earlier words have higher scores, as in a
 * vocabulary that was trained. */
#include "models/formats/convert.h"
#include "models/formats/gguf.h"

#include <stdio.h>

enum { CONTROLS = 3, BYTES = 256, FIRST_WORD = CONTROLS + BYTES, LETTERS = 27 };
_Static_assert((int)ANEMO_SYNTH_VOCABULARY_LEAST == (int)FIRST_WORD + (int)LETTERS,
               "the least vocabulary has every letter");

enum { UNKNOWN = 2, NORMAL = 1, CONTROL = 3, BYTE = 6 }; /* GGUF's token types */
enum { WORD_LETTERS = 8, WORD_BYTES = 3 * WORD_LETTERS + 1 };

/* The word number `index`, counted from 0 over all lengths. */
static void spell(int64_t index, char word[WORD_BYTES]) {
    int64_t words = LETTERS, length = 1;
    for (; index >= words; ++length, words *= LETTERS)
        index -= words;
    for (; length > 0; --length) {
        words /= LETTERS;
        const int64_t letter = index / words % LETTERS;
        if (letter == 0)
            word = stpcpy(word, "\u2581");
        else
            *word++ = (char)('a' + letter - 1);
    }
    *word = '\0';
}

static void make_token(int64_t id, char token[WORD_BYTES]) {
    static const char *const controls[CONTROLS] = {"<unk>", "<s>", "</s>"};
    if (id < CONTROLS)
        strcpy(token, controls[id]);
    else if (id < FIRST_WORD)
        snprintf(token, WORD_BYTES, "<0x%02X>", (unsigned)(id - CONTROLS) & 255u);
    else
        spell(id - FIRST_WORD, token);
}

static anemo_status put_array(anemo_conversion *c, const char *key, uint32_t element, int64_t n) {
    ANEMO_TRY(anemo_gguf_put_string(c, key));
    ANEMO_TRY(anemo_gguf_put_number(c, GGUF_ARRAY, 4));
    ANEMO_TRY(anemo_gguf_put_number(c, element, 4));
    return anemo_gguf_put_number(c, (uint64_t)n, 8);
}

static anemo_status put_arrays(anemo_conversion *c, int64_t vocab) {
    char token[WORD_BYTES];
    ANEMO_TRY(put_array(c, "tokenizer.ggml.tokens", GGUF_STRING, vocab));
    for (int64_t id = 0; id < vocab; ++id) {
        make_token(id, token);
        ANEMO_TRY(anemo_gguf_put_string(c, token));
    }
    ANEMO_TRY(put_array(c, "tokenizer.ggml.scores", GGUF_F32, vocab));
    for (int64_t id = 0; id < vocab; ++id) {
        const float score = id < FIRST_WORD ? 0 : (float)(FIRST_WORD - id);
        ANEMO_TRY(anemo_gguf_put_number(c, anemo_f32_bits(score), 4));
    }
    ANEMO_TRY(put_array(c, "tokenizer.ggml.token_type", GGUF_I32, vocab));
    for (int64_t id = 0; id < vocab; ++id)
        ANEMO_TRY(anemo_gguf_put_number(c,
                                        id == 0           ? UNKNOWN
                                        : id < CONTROLS   ? CONTROL
                                        : id < FIRST_WORD ? BYTE
                                                          : NORMAL,
                                        4));
    return ANEMO_OK;
}

anemo_status anemo_write_synth_vocabulary(anemo_conversion *c, int64_t vocab) {
    static const struct {
        const char *key;
        uint32_t id;
    } ids[] = {{"tokenizer.ggml.unknown_token_id", 0},
               {"tokenizer.ggml.bos_token_id", 1},
               {"tokenizer.ggml.eos_token_id", 2}};
    ANEMO_TRY(anemo_gguf_put_string(c, "tokenizer.ggml.model"));
    ANEMO_TRY(anemo_gguf_put_number(c, GGUF_STRING, 4));
    ANEMO_TRY(anemo_gguf_put_string(c, "llama"));
    for (size_t i = 0; i < sizeof ids / sizeof *ids; ++i) {
        ANEMO_TRY(anemo_gguf_put_string(c, ids[i].key));
        ANEMO_TRY(anemo_gguf_put_number(c, GGUF_U32, 4));
        ANEMO_TRY(anemo_gguf_put_number(c, ids[i].id, 4));
    }
    return put_arrays(c, vocab);
}
