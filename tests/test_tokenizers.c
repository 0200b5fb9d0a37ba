/* Tokenizers against the reference libraries (tests/oracle/make_tokenizer_goldens.py), against real
 * vocabularies where they are at hand, and against their own inverse. */
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

#define DATA ANEMO_TEST_DIR "/data/tokenizers/"

/* ---------------------------------------------------------------- helpers */

static json_t *goldens(void) {
    json_error_t where;
    json_t *root = json_load_file(DATA "goldens.json", JSON_ALLOW_NUL, &where);
    if (!root)
        fail_msg("goldens.json, line %d: %s", where.line, where.text);
    return root;
}

static uint64_t random_state;
static uint32_t random_below(uint32_t n) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % n;
}

/* ---------------------------------------------------------------- goldens */

/* The file itself, or a copy with a patch in the test's folder; "pairs" turns merges into arrays.
 */
static anemo_tokenizer *open_golden(const char *name, const json_t *patch, bool pairs) {
    char path[1024];
    if (strcmp(name, "default") == 0)
        return open_file(ANEMO_TEST_DIR "/../models/default/tokenizer.json");
    snprintf(path, sizeof path, DATA "%s", name);
    if (!patch && !pairs)
        return open_file(path);
    json_t *file = json_load_file(path, 0, NULL);
    json_t *model = json_incref(json_object_get(file, "model"));
    json_t *model_patch = json_object_get(patch, "model");
    json_object_update(file, (json_t *)(uintptr_t)patch);
    json_object_update(model, model_patch);
    json_object_set(file, "model", model);
    json_t *merges = json_object_get(model, "merges");
    for (size_t i = 0; pairs && i < json_array_size(merges); ++i) {
        const char *merge = json_string_value(json_array_get(merges, i));
        const char *space = strchr(merge, ' ');
        json_array_set_new(merges, i, json_pack("[s%s]", merge, (int)(space - merge), space + 1));
    }
    char *folder = test_folder_create();
    snprintf(path, sizeof path, "%s/a tokenizer", folder);
    assert_int_equal(json_dump_file(file, path, 0), 0);
    json_decref(model);
    json_decref(file);
    anemo_tokenizer *t = open_file(path);
    test_folder_remove(folder);
    return t;
}

/* One list of ids for each text; how many were compared. */
static size_t check_entry(const anemo_tokenizer *t, const json_t *texts, const json_t *entry) {
    int32_t expected[512];
    size_t compared = 0;
    const json_t *lists = json_object_get(entry, "ids");
    for (size_t i = 0; i < json_array_size(lists); ++i) {
        const json_t *text = json_array_get(texts, i), *list = json_array_get(lists, i);
        const char *bytes = json_string_value(text);
        const size_t n_bytes = json_string_length(text);
        if (json_is_true(json_object_get(entry, "lossless")))
            assert_round_trip(t, bytes, n_bytes);
        if (!json_is_array(list))
            continue;
        assert_ids(t, bytes, n_bytes, expected, read_ids(list, expected, 512));
        ++compared;
    }
    return compared;
}

static void encodes_as_the_libraries(void **state) {
    (void)state;
    json_t *root = goldens();
    const json_t *texts = json_object_get(root, "texts"),
                 *entries = json_object_get(root, "encode");
    size_t compared = 0;
    for (size_t i = 0; i < json_array_size(entries); ++i) {
        const json_t *entry = json_array_get(entries, i), *files = json_object_get(entry, "files");
        for (size_t k = 0; k < json_array_size(files); ++k) {
            const char *file = json_string_value(json_array_get(files, k));
            anemo_tokenizer *t = open_golden(file, json_object_get(entry, "patch"), false);
            compared += check_entry(t, texts, entry);
            anemo_tokenizer_close(t);
        }
    }
    json_decref(root);
    assert_true(compared > 2000);
}

static void reads_merges_as_pairs(void **state) {
    (void)state;
    json_t *root = goldens();
    const json_t *entries = json_object_get(root, "encode");
    for (size_t i = 0; i < json_array_size(entries); ++i) {
        const json_t *entry = json_array_get(entries, i);
        if (strcmp(json_string_value(json_object_get(entry, "name")), "prepend") != 0)
            continue;
        anemo_tokenizer *t = open_golden("tiny.json", NULL, true);
        assert_true(check_entry(t, json_object_get(root, "texts"), entry) > 150);
        anemo_tokenizer_close(t);
        json_decref(root);
        return;
    }
    fail_msg("goldens.json has no entry \"prepend\"");
}

static void decodes_as_the_libraries(void **state) {
    (void)state;
    json_t *root = goldens();
    const json_t *entries = json_object_get(root, "decode");
    size_t compared = 0;
    for (size_t i = 0; i < json_array_size(entries); ++i) {
        const json_t *entry = json_array_get(entries, i), *files = json_object_get(entry, "files");
        const json_t *cases = json_object_get(entry, "cases");
        for (size_t k = 0; k < json_array_size(files); ++k) {
            anemo_tokenizer *t =
                open_golden(json_string_value(json_array_get(files, k)), NULL, false);
            for (size_t c = 0; c < json_array_size(cases); ++c, ++compared) {
                int32_t list[64];
                const json_t *text = json_object_get(json_array_get(cases, c), "text");
                const size_t n =
                    read_ids(json_object_get(json_array_get(cases, c), "ids"), list, 64);
                assert_decodes(t, list, n, json_string_value(text), json_string_length(text));
            }
            anemo_tokenizer_close(t);
        }
    }
    json_decref(root);
    assert_true(compared >= 200);
}

/* ---------------------------------------------------------------- what holds for every container
 */

static const char *const containers[] = {DATA "tiny.model", DATA "tiny.gguf", DATA "tiny.json"};

static void puts_bos_first_once(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; ++i) {
        anemo_tokenizer *t = open_file(containers[i]);
        assert_int_equal(anemo_tokenizer_bos(t), 1);
        assert_int_equal(anemo_tokenizer_eos(t), 2);
        const token_ids with = encode(t, "<s>the text", 11, true),
                        without = encode(t, "<s>the text", 11, false);
        assert_int_equal(with.n, without.n + 1);
        assert_int_equal(with.list[0], 1);
        assert_memory_equal(with.list + 1, without.list, without.n * sizeof(int32_t));
        assert_decodes(t, with.list, with.n, "<s>the text", 11);
        const token_ids only = encode(t, "", 0, true), nothing = encode(t, "", 0, false);
        assert_int_equal(only.n, 1);
        assert_int_equal(only.list[0], 1);
        assert_int_equal(nothing.n, 0);
        assert_non_null(nothing.list);
        free(with.list);
        free(without.list);
        free(only.list);
        free(nothing.list);
        anemo_tokenizer_close(t);
    }
}

static void text_never_becomes_control(void **state) {
    (void)state;
    static const char *const texts[] = {
        "</s>", "<s>", "<unk>", "[INST]", "a[/INST]b", "\xe2\x98\xba", "x\xe2\x98\xba\xe2\x98\xba"};
    for (size_t i = 0; i < 3; ++i) {
        anemo_tokenizer *t = open_file(containers[i]);
        const int32_t control[] = {id_of(t, "<unk>"),   id_of(t, "<s>"),
                                   id_of(t, "</s>"),    id_of(t, "[INST]"),
                                   id_of(t, "[/INST]"), id_of(t, "\xe2\x98\xba")};
        for (size_t k = 0; k < sizeof texts / sizeof *texts; ++k) {
            const token_ids out = encode(t, texts[k], strlen(texts[k]), false);
            for (size_t j = 0; j < out.n; ++j)
                for (size_t c = 0; c < sizeof control / sizeof *control; ++c)
                    assert_int_not_equal(out.list[j], control[c]);
            assert_decodes(t, out.list, out.n, texts[k], strlen(texts[k]));
            free(out.list);
        }
        anemo_tokenizer_close(t);
    }
}

/* Byte tokens of what is not UTF-8, and of a U+2581 in the text, exactly. */
static void bytes_outside_text(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
        const char *pieces[6];
    } cases[] = {
        {"\xff", 1, {"\xe2\x96\x81", "<0xFF>"}},
        {"\xc3", 1, {"\xe2\x96\x81", "<0xC3>"}},
        {"\xc0\x80", 2, {"\xe2\x96\x81", "<0xC0>", "<0x80>"}},               /* overlong */
        {"\xed\xa0\x80", 3, {"\xe2\x96\x81", "<0xED>", "<0xA0>", "<0x80>"}}, /* surrogate */
        {"\xf4\x90\x80\x80", 4, {"\xe2\x96\x81", "<0xF4>", "<0x90>", "<0x80>", "<0x80>"}},
        {"\xe2\x96\x81", 3, {"\xe2\x96\x81", "<0xE2>", "<0x96>", "<0x81>"}},
        {"\xe2\x96", 2, {"\xe2\x96\x81", "<0xE2>", "<0x96>"}},
        {"\0", 1, {"\xe2\x96\x81", "<0x00>"}},
    };
    for (size_t i = 0; i < 3; ++i) {
        anemo_tokenizer *t = open_file(containers[i]);
        for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k) {
            int32_t expected[6];
            size_t n = 0;
            for (; n < 6 && cases[k].pieces[n]; ++n)
                expected[n] = id_of(t, cases[k].pieces[n]);
            assert_ids(t, cases[k].text, cases[k].bytes, expected, n);
            assert_round_trip(t, cases[k].text, cases[k].bytes);
        }
        anemo_tokenizer_close(t);
    }
}

/* Bytes at random, and fragments that bait the prefix, the merges and the user pieces. */
static void every_byte_string_comes_back(void **state) {
    (void)state;
    static const char *const bait[] = {" ",
                                       "\xe2\x96\x81",
                                       "\xe2",
                                       "\x96",
                                       "\x81",
                                       "the",
                                       "th",
                                       "<s",
                                       "<sep>",
                                       "==",
                                       "x==",
                                       "\n",
                                       " <fill>",
                                       "\xff",
                                       "\xf0\x9f\x99\x82",
                                       "<0x41>",
                                       "]",
                                       "[INST]"};
    random_state = 1;
    for (size_t i = 0; i < 4; ++i) {
        anemo_tokenizer *t = i < 3 ? open_file(containers[i]) : open_file(DATA "bare.model");
        for (int run = 0; run < 4000; ++run) {
            char text[512];
            size_t bytes = 0;
            const bool pieces = random_below(2) == 0;
            for (uint32_t n = random_below(40); n > 0; --n) {
                if (pieces) {
                    const char *part = bait[random_below(sizeof bait / sizeof *bait)];
                    memcpy(text + bytes, part, strlen(part));
                    bytes += strlen(part);
                } else {
                    text[bytes++] = (char)random_below(256);
                }
            }
            assert_round_trip(t, text, bytes);
        }
        anemo_tokenizer_close(t);
    }
}

/* A million equal letters are one chunk: quadratic work would run into the test's time limit. */
static void long_runs(void **state) {
    (void)state;
    const size_t bytes = 1000000;
    char *text = malloc(bytes);
    assert_non_null(text);
    for (size_t i = 0; i < 3; ++i) {
        anemo_tokenizer *t = open_file(containers[i]);
        static const char *const patterns[] = {" ", "t", "th", "=", "the "};
        for (size_t k = 0; k < sizeof patterns / sizeof *patterns; ++k) {
            for (size_t b = 0; b < bytes; ++b)
                text[b] = patterns[k][b % strlen(patterns[k])];
            assert_round_trip(t, text, bytes);
        }
        anemo_tokenizer_close(t);
    }
    free(text);
}

static void pieces_and_ids_out_of_range(void **state) {
    (void)state;
    anemo_tokenizer *t = open_file(DATA "tiny.model");
    anemo_error err = {""};
    char *text;
    size_t bytes;
    const int32_t vocab = anemo_tokenizer_vocab(t);
    assert_null(anemo_tokenizer_piece(t, -1, &bytes));
    assert_null(anemo_tokenizer_piece(t, vocab, &bytes));
    assert_string_equal(anemo_tokenizer_piece(t, 2, &bytes), "</s>");
    assert_int_equal(bytes, 4);
    const int32_t wrong[] = {5, vocab, -1, INT32_MIN, INT32_MAX};
    for (size_t i = 1; i < 5; ++i) {
        const int32_t list[] = {5, wrong[i]};
        assert_int_equal(anemo_tokenizer_decode(t, list, 2, &text, &bytes, &err), ANEMO_E_INPUT);
        assert_null(text);
        assert_non_null(strstr(err.text, "token 1 of 2"));
    }
    anemo_tokenizer_close(t);
    anemo_tokenizer_close(NULL);
}

/* ---------------------------------------------------------------- real files */

static void llama_spm_vocabulary(void **state) {
    (void)state;
    anemo_tokenizer *t = open_real("tokenizers/ggml-vocab-llama-spm.gguf");
    check_ggml_vocabulary(t, "tokenizers/ggml-vocab-llama-spm.gguf.inp",
                          "tokenizers/ggml-vocab-llama-spm.gguf.out");
    anemo_tokenizer_close(t);
}

/* tokenizer.json of Mistral 7B v0.3 and the SentencePiece model of the same vocabulary (their
 * control tokens differ, their text pieces do not): equal ids, and the text comes back. */
static void mistral_v3_in_both_forms(void **state) {
    (void)state;
    static const struct {
        const char *path;
        size_t tokens; /* these ids, by sentencepiece 0.2.3 */
        uint64_t fnv1a;
    } texts[] = {{"text/tinyshakespeare.txt", 361972, UINT64_C(0x90bf071668df88e6)},
                 {"text/wiki.test.raw", 328879, UINT64_C(0x8f96ecd8bec7784c)}};
    anemo_tokenizer *spm = open_real("tokenizers/mistral_instruct_tokenizer_240323.model.v3");
    anemo_tokenizer *json = open_real("checkpoints/mistral-7b-instruct-v0.3/tokenizer.json");
    assert_int_equal(anemo_tokenizer_vocab(spm), 32768);
    assert_int_equal(anemo_tokenizer_vocab(json), 32768);
    for (size_t i = 0; i < 2; ++i) {
        size_t bytes;
        char *text = read_real(texts[i].path, &bytes);
        const token_ids a = encode(spm, text, bytes, false), b = encode(json, text, bytes, false);
        assert_int_equal(a.n, texts[i].tokens);
        assert_int_equal(b.n, a.n);
        assert_memory_equal(a.list, b.list, a.n * sizeof *a.list);
        uint64_t hash = UINT64_C(0xcbf29ce484222325);
        for (size_t k = 0; k < a.n; ++k)
            hash = (hash ^ (uint32_t)a.list[k]) * UINT64_C(0x100000001b3);
        assert_true(hash == texts[i].fnv1a);
        assert_decodes(spm, a.list, a.n, text, bytes);
        assert_decodes(json, b.list, b.n, text, bytes);
        free(a.list);
        free(b.list);
        free(text);
    }
    anemo_tokenizer_close(spm);
    anemo_tokenizer_close(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_as_the_libraries),     cmocka_unit_test(reads_merges_as_pairs),
        cmocka_unit_test(decodes_as_the_libraries),     cmocka_unit_test(puts_bos_first_once),
        cmocka_unit_test(text_never_becomes_control),   cmocka_unit_test(bytes_outside_text),
        cmocka_unit_test(every_byte_string_comes_back), cmocka_unit_test(long_runs),
        cmocka_unit_test(pieces_and_ids_out_of_range),  cmocka_unit_test(llama_spm_vocabulary),
        cmocka_unit_test(mistral_v3_in_both_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
