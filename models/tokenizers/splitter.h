/* Cutting a text into words, across which a byte-level tokenizer merges nothing. */
#ifndef ANEMO_TOKENIZERS_SPLITTER_H
#define ANEMO_TOKENIZERS_SPLITTER_H

#include "kernels/kernel.h"

typedef struct anemo_splitter anemo_splitter; /* immutable once made */
typedef struct anemo_split_walk anemo_split_walk;

/* A known way to cut, by one of the names that files have for it; NULL: unknown. */
typedef struct anemo_split_rule anemo_split_rule;
const anemo_split_rule *anemo_split_rule_of_pattern(const char *pattern, size_t bytes);
/* tokenizer.ggml.pre: "gpt-2", "llama-bpe", ... */
const anemo_split_rule *anemo_split_rule_of_pre(const char *pre, size_t bytes);
const char *anemo_split_rule_pre(const anemo_split_rule *rule);
const anemo_split_rule *anemo_split_rule_gpt2(void);
/* What GGUF leaves out of a vocabulary: is a word that is a piece taken as it stands, and does BOS
 * stand before a text? */
bool anemo_split_rule_whole_words(const anemo_split_rule *rule);
bool anemo_split_rule_adds_bos(const anemo_split_rule *rule);
bool anemo_split_rule_nfc(const anemo_split_rule *rule);
/* "GPT-2, Llama 3, ..." and "gpt-2, llama-bpe, ...": for sentences. */
extern const char anemo_split_rule_names[], anemo_split_pre_names[];

/* ANEMO_E_LIBRARY, naming `path` and the package, in a build without PCRE2. */
anemo_status anemo_splitter_create(const anemo_split_rule *rule, const char *path,
                                   anemo_splitter **out, anemo_error *err);
const anemo_split_rule *anemo_splitter_rule(const anemo_splitter *splitter);
void anemo_splitter_free(anemo_splitter *splitter);

/* The working memory of one text; NULL without memory. */
anemo_split_walk *anemo_split_begin(const anemo_splitter *splitter);
/* The word of text[0, bytes), valid UTF-8, that begins at `at` < bytes ends at *end > at. */
anemo_status anemo_split_next(anemo_split_walk *walk, const char *text, size_t bytes, size_t at,
                              size_t *end, anemo_error *err);
void anemo_split_end(anemo_split_walk *walk);

#endif
