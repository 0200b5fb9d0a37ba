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

#define DATA ANEMO_TEST_DIR "/data/byte_level/"

static void needs_splitter(void) {
    if (!ANEMO_HAVE_PCRE2)
        skip();
}

/* ---------------------------------------------------------------- nasty strings */

#define TEXT_MAX 2048

/* The goldens and the parts of which the strings are made. */
typedef struct golden {
    json_t *root;
    const json_t *points, *fragments;
    uint64_t state; /* of the generator */
} golden;

static golden open_goldens(void) {
    json_error_t where;
    golden g = {.root = json_load_file(DATA "goldens.json", JSON_ALLOW_NUL, &where)};
    if (!g.root)
        fail_msg("goldens.json, line %d: %s", where.line, where.text);
    g.points = json_object_get(g.root, "points");
    g.fragments = json_object_get(g.root, "fragments");
    g.state = (uint64_t)json_integer_value(json_object_get(g.root, "seed"));
    return g;
}

static uint32_t below(golden *g, size_t n) {
    g->state = g->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((g->state >> 33) % n);
}

static size_t put_code_point(char *to, uint32_t c) {
    const size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6)
        to[i] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)(first[n] | c);
    return n;
}

/* The next string, as the script has it; *utf8: nothing but UTF-8 in it. */
static size_t next_string(golden *g, char text[TEXT_MAX], bool *utf8) {
    const uint32_t mode = below(g, 4);
    size_t bytes = 0;
    *utf8 = mode != 3;
    for (uint32_t n = 1 + below(g, 20); n > 0; --n) {
        const uint32_t kind = mode == 3 ? below(g, 3) : mode < 2 ? mode : below(g, 2);
        assert_true(bytes + 64 < TEXT_MAX);
        if (kind == 0) {
            const json_t *c = json_array_get(g->points, below(g, json_array_size(g->points)));
            bytes += put_code_point(text + bytes, (uint32_t)json_integer_value(c));
        } else if (kind == 1) {
            const json_t *part =
                json_array_get(g->fragments, below(g, json_array_size(g->fragments)));
            memcpy(text + bytes, json_string_value(part), json_string_length(part));
            bytes += json_string_length(part);
        } else {
            text[bytes++] = (char)below(g, 256);
        }
    }
    return bytes;
}

static uint64_t add_ids(uint64_t hash, token_ids ids) {
    for (size_t i = 0; i < ids.n; ++i)
        hash = (hash ^ (uint32_t)ids.list[i]) * UINT64_C(0x100000001b3);
    return (hash ^ UINT32_MAX) * UINT64_C(0x100000001b3);
}

/* All strings give the ids of the entry; each comes back, composed where the tokenizer composes. */
static void check_strings(const anemo_tokenizer *t, const json_t *entry, bool any_bytes,
                          bool composes) {
    golden g = open_goldens();
    const json_t *shown = json_object_get(entry, "ids");
    const json_int_t n = json_integer_value(json_object_get(g.root, "strings"));
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    size_t compared = 0;
    for (json_int_t i = 0; i < n; ++i) {
        char text[TEXT_MAX];
        bool utf8;
        const size_t bytes = next_string(&g, text, &utf8);
        if (!utf8 && !any_bytes)
            continue;
        const token_ids ids = encode(t, text, bytes, false);
        if (compared < json_array_size(shown)) {
            int32_t expected[TEXT_MAX];
            const size_t k = read_ids(json_array_get(shown, compared), expected, TEXT_MAX);
            assert_ids(t, text, bytes, expected, k);
        }
        if (!composes)
            assert_decodes(t, ids.list, ids.n, text, bytes);
        hash = add_ids(hash, ids);
        free(ids.list);
        ++compared;
    }
    char hex[17];
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)hash);
    if (strcmp(hex, json_string_value(json_object_get(entry, "hash"))) != 0)
        fail_msg("%s: hash %s over %zu strings, expected %s",
                 json_string_value(json_object_get(entry, "name")), hex, compared,
                 json_string_value(json_object_get(entry, "hash")));
    assert_true(compared > 10000);
    json_decref(g.root);
}

static void nasty_strings(void **state) {
    (void)state;
    needs_splitter();
    golden g = open_goldens();
    const json_t *entries = json_object_get(g.root, "entries");
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(entries); ++i) {
        const json_t *entry = json_array_get(entries, i);
        const bool composes =
            json_object_get(json_object_get(entry, "patch"), "normalizer") != NULL;
        if (!json_object_get(entry, "file") || (composes && !ANEMO_HAVE_UTF8PROC))
            continue;
        anemo_tokenizer *t = open_patched(DATA, entry);
        check_strings(t, entry, true, composes);
        anemo_tokenizer_close(t);
        ++n;
    }
    json_decref(g.root);
    assert_true(n >= (ANEMO_HAVE_UTF8PROC ? 10 : 9));
}

/* The entry of a real file, or a skip. */
static void check_real(const char *relative, bool any_bytes) {
    if (any_bytes)
        needs_splitter();
    anemo_tokenizer *t = open_real(relative);
    golden g = open_goldens();
    const json_t *entries = json_object_get(g.root, "entries"), *found = NULL;
    for (size_t i = 0; i < json_array_size(entries); ++i) {
        const char *real = json_string_value(json_object_get(json_array_get(entries, i), "real"));
        if (real && strcmp(real, relative) == 0)
            found = json_array_get(entries, i);
    }
    assert_non_null(found);
    check_strings(t, found, any_bytes, false);
    json_decref(g.root);
    anemo_tokenizer_close(t);
}

static void nasty_strings_tekken_240718(void **state) {
    (void)state;
    check_real("tokenizers/tekken_240718.json", true);
}

static void nasty_strings_tekken_240911(void **state) {
    (void)state;
    check_real("tokenizers/tekken_240911.json", true);
}

static void nasty_strings_gpt2(void **state) {
    (void)state;
    check_real("tokenizers/ggml-vocab-gpt-2.gguf", true);
}

static void nasty_strings_sentencepiece_v1(void **state) {
    (void)state;
    check_real("tokenizers/tokenizer.model.v1", false);
}

static void nasty_strings_sentencepiece_v3(void **state) {
    (void)state;
    check_real("tokenizers/mistral_instruct_tokenizer_240323.model.v3", false);
}

/* ---------------------------------------------------------------- what holds for every container
 */

static const char *const containers[] = {DATA "tiny.json", DATA "tiny_tekken.json",
                                         DATA "tiny.gguf"};

static void puts_bos_first_once(void **state) {
    (void)state;
    needs_splitter();
    for (size_t i = 0; i < 3; ++i) {
        anemo_tokenizer *t = open_file(containers[i]);
        const int32_t bos = id_of(t, "<s>");
        /* GGUF: gpt-4o says nothing of BOS, so none stands before a text */
        assert_int_equal(anemo_tokenizer_bos(t), i == 2 ? -1 : bos);
        assert_int_equal(anemo_tokenizer_eos(t), id_of(t, "</s>"));
        const token_ids without = encode(t, "<s>the text", 11, false);
        if (i < 2) {
            const token_ids with = encode(t, "<s>the text", 11, true);
            assert_int_equal(with.n, without.n + 1);
            assert_int_equal(with.list[0], bos);
            assert_memory_equal(with.list + 1, without.list, without.n * sizeof(int32_t));
            free(with.list);
        }
        for (size_t k = 0; k < without.n; ++k)
            assert_int_not_equal(without.list[k], bos);
        free(without.list);
        anemo_tokenizer_close(t);
    }
}

static void text_never_becomes_control(void **state) {
    (void)state;
    needs_splitter();
    static const char *const texts[] = {"</s>",   "<s>",       "<unk>",
                                        "[INST]", "a[/INST]b", "<s> [INST] x [/INST]</s>"};
    static const char *const control[] = {"<unk>", "<s>", "</s>", "[INST]", "[/INST]"};
    for (size_t i = 0; i < 3; ++i) {
        anemo_tokenizer *t = open_file(containers[i]);
        for (size_t k = 0; k < sizeof texts / sizeof *texts; ++k) {
            const token_ids out = encode(t, texts[k], strlen(texts[k]), false);
            for (size_t j = 0; j < out.n; ++j)
                for (size_t c = 0; c < 5; ++c)
                    assert_int_not_equal(out.list[j], id_of(t, control[c]));
            assert_decodes(t, out.list, out.n, texts[k], strlen(texts[k]));
            free(out.list);
        }
        anemo_tokenizer_close(t);
    }
}

/* A million equal letters are one word: quadratic work would run into the test's time limit. */
static void long_runs(void **state) {
    (void)state;
    needs_splitter();
    const size_t bytes = 1000000;
    char *text = malloc(bytes);
    assert_non_null(text);
    static const char *const patterns[] = {" ",   "t", "th",   "=",       "the ",
                                           "\n ", "T", "\xff", "\xd0\x96"};
    for (size_t i = 0; i < 3; ++i) {
        anemo_tokenizer *t = open_file(containers[i]);
        for (size_t k = 0; k < sizeof patterns / sizeof *patterns; ++k) {
            for (size_t b = 0; b < bytes; ++b)
                text[b] = patterns[k][b % strlen(patterns[k])];
            assert_round_trip(t, text, bytes);
        }
        anemo_tokenizer_close(t);
    }
    free(text);
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
        cmocka_unit_test(nasty_strings),
        cmocka_unit_test(nasty_strings_tekken_240718),
        cmocka_unit_test(nasty_strings_tekken_240911),
        cmocka_unit_test(nasty_strings_gpt2),
        cmocka_unit_test(nasty_strings_sentencepiece_v1),
        cmocka_unit_test(nasty_strings_sentencepiece_v3),
        cmocka_unit_test(puts_bos_first_once),
        cmocka_unit_test(text_never_becomes_control),
        cmocka_unit_test(long_runs),
        cmocka_unit_test(gpt2_vocabulary),
        cmocka_unit_test(tekken_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
