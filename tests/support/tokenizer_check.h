/* What tests of tokenizers share. */
#ifndef ANEMO_TESTS_TOKENIZER_CHECK_H
#define ANEMO_TESTS_TOKENIZER_CHECK_H

#include "models/engine.h"

#include <jansson.h>

typedef struct token_ids {
    int32_t *list;
    size_t n;
} token_ids;

/* Each fails the test where the library refuses. */
anemo_tokenizer *open_file(const char *path);
token_ids encode(const anemo_tokenizer *t, const char *text, size_t bytes, bool add_bos);
void assert_decodes(const anemo_tokenizer *t, const int32_t *list, size_t n, const char *text,
                    size_t bytes);
void assert_round_trip(const anemo_tokenizer *t, const char *text, size_t bytes);
void assert_ids(const anemo_tokenizer *t, const char *text, size_t bytes, const int32_t *expected,
                size_t n);
size_t read_ids(const json_t *list, int32_t *out, size_t capacity);
int32_t id_of(const anemo_tokenizer *t, const char *piece);

/* Files under $ANEMO_TEST_DATA; where one is absent the test is skipped. */
anemo_tokenizer *open_real(const char *relative);
char *read_real(const char *relative, size_t *bytes);
/* The 46 texts of an input file give the ids of the output file, and come back. */
void check_ggml_vocabulary(const anemo_tokenizer *t, const char *input_file,
                           const char *output_file);

/* DATA's entry.file with entry.patch over it (of "model" field by field), or with entry.pre in
 * place of "gpt-4o"; opened, from a folder that is gone when this returns. */
void write_patched(const char *data, const json_t *entry, const char *path);
anemo_tokenizer *open_patched(const char *data, const json_t *entry);

#endif
