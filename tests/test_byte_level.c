/* Byte-level tokenizers against the reference libraries (tests/oracle/make_byte_level_goldens.py),
 * against real vocabularies where they are at hand, and against their own inverse. */
#include "anemo_config.h"
#include "models/engine.h"
#include "tests/support/run_program.h"
#include "tests/support/test_data.h"
#include "tests/support/tokenizer_check.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the standard headers */
#include <cmocka.h>

static void needs_splitter(void) {
    if (!ANEMO_HAVE_PCRE2)
        skip();
}

/* ---------------------------------------------------------------- real files */

static void gpt2_vocabulary(void **state) {
    (void)state;
    needs_splitter();
    anemo_tokenizer *t = open_real("tokenizers/ggml-vocab-gpt-2.gguf");
    assert_int_equal(anemo_tokenizer_vocab(t), 50257);
    assert_int_equal(anemo_tokenizer_bos(t), -1);
    assert_int_equal(anemo_tokenizer_eos(t), 50256);
    check_ggml_vocabulary(t, "tokenizers/ggml-vocab-gpt-2.gguf.inp",
                          "tokenizers/ggml-vocab-gpt-2.gguf.out");
    anemo_tokenizer_close(t);
}

/* tekken.json as mistral-common ships it; the texts of 2024 belong to these ids. */
static void tekken_vocabulary(void **state) {
    (void)state;
    needs_splitter();
    anemo_tokenizer *t = open_real("tokenizers/tekken_240911.json");
    assert_int_equal(anemo_tokenizer_vocab(t), 131072);
    assert_int_equal(anemo_tokenizer_bos(t), 1);
    assert_int_equal(anemo_tokenizer_eos(t), 2);
    assert_ids(t, "Plz tekkenize me", 16, (const int32_t[]){4444, 1122, 16058, 3569, 2033, 1639},
               6);
    check_ggml_vocabulary(t, "tokenizers/ggml-vocab-2024.inp",
                          "tokenizers/ggml-vocab-tekken.gguf.out");
    anemo_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_vocabulary),
        cmocka_unit_test(tekken_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
