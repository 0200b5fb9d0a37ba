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

static uint64_t type_of(int64_t id) {
    return id == 0 ? UNKNOWN : id < CONTROLS ? CONTROL : id < FIRST_WORD ? BYTE : NORMAL;
}

void anemo_gguf_synth_vocabulary_keys(anemo_gguf_keys *keys, int64_t vocab) {
    char token[WORD_BYTES];
    anemo_gguf_key_text(keys, "tokenizer.ggml.model", "llama");
    anemo_gguf_key_u32(keys, "tokenizer.ggml.unknown_token_id", 0);
    anemo_gguf_key_u32(keys, "tokenizer.ggml.bos_token_id", 1);
    anemo_gguf_key_u32(keys, "tokenizer.ggml.eos_token_id", 2);
    if (anemo_gguf_key_array(keys, "tokenizer.ggml.tokens", GGUF_STRING, vocab))
        for (int64_t id = 0; id < vocab; ++id) {
            make_token(id, token);
            anemo_gguf_element_text(keys, token, strlen(token));
        }
    if (anemo_gguf_key_array(keys, "tokenizer.ggml.scores", GGUF_F32, vocab))
        for (int64_t id = 0; id < vocab; ++id)
            anemo_gguf_element(keys, anemo_f32_bits(id < FIRST_WORD ? 0 : (float)(FIRST_WORD - id)),
                               4);
    if (anemo_gguf_key_array(keys, "tokenizer.ggml.token_type", GGUF_I32, vocab))
        for (int64_t id = 0; id < vocab; ++id)
            anemo_gguf_element(keys, type_of(id), 4);
}
