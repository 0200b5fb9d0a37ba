/* A tokenizer that became the vocabulary of a GGUF file gives the ids that it gave before, on
 * strings made of its own pieces, of any bytes and of both; what GGUF cannot say is left out, with
 * the reason, and lies beside the file. */
#include "anemo_config.h"
#include "models/engine.h"
#include "tests/support/run_program.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tokenizer_check.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* after the standard headers */
#include <cmocka.h>

#define BYTES   ANEMO_TEST_DIR "/data/byte_level/"
#define POINTS  ANEMO_TEST_DIR "/data/tokenizers/"
#define DEFAULT ANEMO_TEST_DIR "/../models/default/"

static anemo_error error;
static char *folder, *target;

static int make_folders(void **state) {
    (void)state;
    folder = test_folder_create();
    target = test_folder_create();
    return 0;
}

static int remove_folders(void **state) {
    (void)state;
    test_folder_remove(folder);
    test_folder_remove(target);
    return 0;
}

/* ---------------------------------------------------------------- through a file */

/* The tokenizer file `name` of the folder, beside a model with `more` rows than it has tokens. */
static anemo_tokenizer *open_source(const char *name, int more) {
    anemo_tokenizer *t = open_file(tiny_path(folder, name));
    anemo_hparams h = tiny_hparams(0);
    h.vocab = anemo_tokenizer_vocab(t) + more;
    tiny_write_directory(folder, &h, ANEMO_GGML_F32);
    return t;
}

/* target/out.gguf from the folder; the reason why it has no vocabulary, or "". */
static const char *convert(void) {
    static anemo_quantise_report report;
    error.text[0] = '\0';
    if (anemo_quantise_model(folder, tiny_path(target, "out.gguf"), "q4_0", NULL, NULL, NULL,
                             &report, &error) != ANEMO_OK)
        fail_msg("%s", error.text);
    return report.no_tokenizer.text;
}

static void check_file_beside(const char *name, bool there) {
    assert_int_equal(access(tiny_path(target, name), F_OK), there ? 0 : -1);
}

/* ---------------------------------------------------------------- strings */

static uint64_t random_state;
static uint32_t random_below(uint32_t n) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % n;
}

/* Pieces one after another (U+2581 as a space), parts of pieces, spaces, bytes. */
static size_t make_string(const anemo_tokenizer *t, char *text, size_t capacity) {
    size_t n = 0;
    const uint32_t bytes_in = random_below(8), parts = 1 + random_below(12);
    for (uint32_t i = 0; i < parts && n + 520 < capacity; ++i) {
        size_t length;
        const uint32_t id = random_below((uint32_t)anemo_tokenizer_vocab(t));
        const char *piece = anemo_tokenizer_piece(t, (int32_t)id, &length);
        if (random_below(8) < (bytes_in == 0 ? 4u : 1u))
            text[n++] = bytes_in == 0 ? (char)random_below(256) : ' ';
        if (!piece || length > 512)
            continue;
        const size_t begin = random_below(4) ? 0 : random_below((uint32_t)length);
        for (size_t k = begin; k < length; ++k) {
            const bool mark = length - k >= 3 && memcmp(piece + k, "\xe2\x96\x81", 3) == 0;
            text[n++] = mark && random_below(16) ? ' ' : piece[k];
            k += mark && text[n - 1] == ' ' ? 2 : 0;
        }
    }
    return n;
}

static void check_same_ids(const anemo_tokenizer *a, const anemo_tokenizer *b, const char *text,
                           size_t bytes) {
    const bool bos = anemo_tokenizer_bos(a) >= 0;
    const token_ids from = encode(a, text, bytes, bos);
    char *x, *y;
    size_t n, m;
    assert_ids(b, text, bytes, from.list + bos, from.n - bos);
    assert_int_equal(anemo_tokenizer_decode(a, from.list, from.n, &x, &n, &error), ANEMO_OK);
    assert_int_equal(anemo_tokenizer_decode(b, from.list, from.n, &y, &m, &error), ANEMO_OK);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
    free(from.list);
}

static void check_same_tokenizer(const anemo_tokenizer *a, const anemo_tokenizer *b, int strings) {
    static char text[8192];
    random_state = 9;
    assert_int_equal(anemo_tokenizer_bos(a), anemo_tokenizer_bos(b));
    for (int i = 0; i < strings; ++i)
        check_same_ids(a, b, text, make_string(a, text, sizeof text));
    for (int32_t id = 0; id < anemo_tokenizer_vocab(a); ++id) { /* each token alone, both ways */
        size_t n, m;
        const char *x = anemo_tokenizer_piece(a, id, &n), *y = anemo_tokenizer_piece(b, id, &m);
        if (!x)
            continue;
        assert_int_equal(n, m);
        assert_memory_equal(x, y, n);
        check_same_ids(a, b, x, n);
    }
}

/* The tokenizer file `name` that lies in the folder. */
static void check_through_gguf(const char *name, int strings) {
    anemo_tokenizer *before = open_source(name, 3);
    const char *why = convert();
    if (why[0])
        fail_msg("%s", why);
    check_file_beside(name, false);
    anemo_tokenizer *after = open_file(tiny_path(target, "out.gguf"));
    assert_int_equal(anemo_tokenizer_vocab(after), anemo_tokenizer_vocab(before) + 3);
    check_same_tokenizer(before, after, strings);
    anemo_tokenizer_close(before);
    anemo_tokenizer_close(after);
    assert_int_equal(remove(tiny_path(target, "out.gguf")), 0);
}

static void copy_to_folder(const char *from, const char *name) {
    size_t bytes;
    char *data = test_read_file(from, &bytes);
    assert_non_null(data);
    test_write_file(tiny_path(folder, name), data, bytes);
    free(data);
}

/* ---------------------------------------------------------------- what becomes a vocabulary */

static void the_default(void **state) {
    (void)state;
    copy_to_folder(DEFAULT "tokenizer.json", "tokenizer.json");
    check_through_gguf("tokenizer.json", 4000);
}

static void sentencepiece(void **state) {
    (void)state;
    static const char *const files[] = {"tiny.model", "bare.model", "trim.model"};
    for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
        char path[1024];
        snprintf(path, sizeof path, POINTS "%s", files[i]);
        copy_to_folder(path, "tokenizer.model");
        check_through_gguf("tokenizer.model", 2000);
    }
}

/* Each golden tokenizer.json goes into the file, or is refused for the reason that is due. */
static void golden_files_of_code_points(void **state) {
    (void)state;
    json_t *root = json_load_file(POINTS "goldens.json", JSON_ALLOW_NUL, NULL);
    const json_t *entries = json_object_get(root, "encode");
    size_t inside = 0, refused = 0;
    for (size_t i = 0; i < json_array_size(entries); ++i) {
        const json_t *patch = json_object_get(json_array_get(entries, i), "patch");
        if (!json_is_object(patch))
            continue;
        json_t *entry = json_pack("{s:s, s:O}", "file", "tiny.json", "patch", patch);
        write_patched(POINTS, entry, tiny_path(folder, "tokenizer.json"));
        json_decref(entry);
        anemo_tokenizer *t = open_source("tokenizer.json", 0);
        const char *why = convert();
        anemo_tokenizer_close(t);
        assert_int_equal(remove(tiny_path(target, "out.gguf")), 0);
        if (!why[0]) {
            check_through_gguf("tokenizer.json", 1000);
            ++inside;
            continue;
        }
        print_message("%s\n", why);
        assert_true(strstr(why, "ignore_merges") || strstr(why, "splits text into words") ||
                    strstr(why, "neighbouring unknown") || strstr(why, "stands for itself"));
        check_file_beside("tokenizer.json", true);
        assert_int_equal(remove(tiny_path(target, "tokenizer.json")), 0);
        ++refused;
    }
    json_decref(root);
    print_message("%zu inside, %zu beside\n", inside, refused);
    assert_true(inside >= 4 && refused >= 2);
}

static void golden_files_of_bytes(void **state) {
    (void)state;
    if (!ANEMO_HAVE_PCRE2 || !ANEMO_HAVE_UTF8PROC)
        skip();
    json_t *root = json_load_file(BYTES "goldens.json", JSON_ALLOW_NUL, NULL);
    const json_t *entries = json_object_get(root, "entries");
    size_t inside = 0;
    for (size_t i = 0; i < json_array_size(entries); ++i) {
        const json_t *entry = json_array_get(entries, i);
        const char *file = json_string_value(json_object_get(entry, "file"));
        const bool tekken = file && strcmp(file, "tiny_tekken.json") == 0;
        if (!file || strstr(file, ".gguf"))
            continue;
        const char *name = tekken ? "tekken.json" : "tokenizer.json";
        write_patched(BYTES, entry, tiny_path(folder, name));
        if (strcmp(json_string_value(json_object_get(entry, "name")), "o200k, merges") == 0) {
            anemo_tokenizer_close(open_source(name, 0)); /* the label says ignore_merges */
            assert_non_null(strstr(convert(), "a word that is a piece is merged"));
            assert_int_equal(remove(tiny_path(target, "out.gguf")), 0);
            assert_int_equal(remove(tiny_path(target, name)), 0);
        } else {
            check_through_gguf(name, 1000);
            ++inside;
        }
        assert_int_equal(remove(tiny_path(folder, name)), 0);
    }
    json_decref(root);
    assert_int_equal(inside, 7);
}

/* ---------------------------------------------------------------- real files */

static void check_real(const char *relative, const char *name) {
    char *path = test_data_path(relative);
    if (!path)
        skip();
    copy_to_folder(path, name);
    free(path);
    check_through_gguf(name, 2000);
}

static void real_sentencepiece_v1(void **state) {
    (void)state;
    check_real("tokenizers/tokenizer.model.v1", "tokenizer.model");
}

static void real_sentencepiece_v3(void **state) {
    (void)state;
    check_real("tokenizers/mistral_instruct_tokenizer_240323.model.v3", "tokenizer.model");
}

static void real_tekken(void **state) {
    (void)state;
    if (!ANEMO_HAVE_PCRE2)
        skip();
    check_real("tokenizers/tekken_240911.json", "tekken.json");
}

/* ---------------------------------------------------------------- what does not */

static void write_json(const char *patch_text) {
    json_t *patch = json_loads(patch_text, 0, NULL);
    json_t *entry = json_pack("{s:s, s:o}", "file", "tiny.json", "patch", patch);
    assert_non_null(patch);
    write_patched(POINTS, entry, tiny_path(folder, "tokenizer.json"));
    json_decref(entry);
}

/* Without a vocabulary, the file is a model whose tokenizer lies beside it. */
static void check_left_out(const char *reason) {
    const char *why = convert();
    if (!strstr(why, reason))
        fail_msg("\"%s\" is not in \"%s\"", reason, why);
    check_file_beside("tokenizer.json", true);
    anemo_checkpoint *checkpoint;
    assert_int_equal(anemo_checkpoint_open(tiny_path(target, "out.gguf"), &checkpoint, &error),
                     ANEMO_OK);
    assert_string_equal(anemo_checkpoint_tokenizer_path(checkpoint, &error),
                        tiny_path(target, "tokenizer.json"));
    anemo_checkpoint_close(checkpoint);
    assert_int_equal(remove(tiny_path(target, "out.gguf")), 0);
    assert_int_equal(remove(tiny_path(target, "tokenizer.json")), 0);
}

static void left_out_with_a_reason(void **state) {
    (void)state;
    write_json("{\"model\": {\"ignore_merges\": true}}");
    anemo_tokenizer_close(open_source("tokenizer.json", 0));
    check_left_out("ignore_merges");
    write_json("{}");
    anemo_tokenizer_close(open_source("tokenizer.json", -1));
    check_left_out("tokens for");
    anemo_hparams h = tiny_hparams(0);
    tiny_write_directory(folder, &h, ANEMO_GGML_F32);
    test_write_file(tiny_path(folder, "tokenizer.json"), "{}", 2);
    check_left_out("tokenizer.json: model is");
}

/* "ab" and "c" make "abc" while "a" and "bc" do not: no scores say that where both come up. */
static void merges_that_scores_do_not_give(void **state) {
    (void)state;
    json_t *file = json_load_file(DEFAULT "tokenizer.json", 0, NULL);
    json_t *model = json_object_get(file, "model"), *vocab = json_object_get(model, "vocab");
    static const char *const pieces[] = {"qz", "zj", "qzj"};
    const size_t n = json_object_size(vocab);
    for (size_t i = 0; i < 3; ++i)
        json_object_set_new(vocab, pieces[i], json_integer((json_int_t)(n + i)));
    json_t *merges = json_array();
    json_array_append_new(merges, json_pack("[ss]", "z", "j")); /* made first, */
    json_array_append_new(merges, json_pack("[ss]", "q", "z"));
    json_array_append_new(merges, json_pack("[ss]", "qz", "j")); /* so that this never happens */
    json_object_set_new(model, "merges", merges);
    assert_int_equal(json_dump_file(file, tiny_path(folder, "tokenizer.json"), 0), 0);
    json_decref(file);
    anemo_tokenizer_close(open_source("tokenizer.json", 0));
    check_left_out("its merges are not those of scores");
}

/* To a directory go tokenizer files, from a directory or from beside a GGUF, and no vocabulary. */
static void directories(void **state) {
    (void)state;
    anemo_quantise_report report;
    copy_to_folder(DEFAULT "tokenizer.json", "tokenizer.json");
    anemo_tokenizer_close(open_source("tokenizer.json", 0));
    assert_string_equal(convert(), "");
    assert_int_equal(anemo_quantise_model(tiny_path(target, "out.gguf"), tiny_path(target, "a"),
                                          "q8:row", NULL, NULL, NULL, &report, &error),
                     ANEMO_OK);
    assert_non_null(strstr(report.no_tokenizer.text, "is not written as tokenizer.json"));
    check_file_beside("a/tokenizer.json", false);
    assert_int_equal(remove(tiny_path(target, "out.gguf")), 0);
    write_json("{\"model\": {\"ignore_merges\": true}}");
    anemo_tokenizer_close(open_source("tokenizer.json", 0));
    assert_non_null(strstr(convert(), "ignore_merges"));
    assert_int_equal(anemo_quantise_model(tiny_path(target, "out.gguf"), tiny_path(target, "b"),
                                          "q8:row", NULL, NULL, NULL, &report, &error),
                     ANEMO_OK);
    assert_string_equal(report.no_tokenizer.text, "");
    check_file_beside("b/tokenizer.json", true);
}

/* ---------------------------------------------------------------- the keys */

static void chats_and_versions(void **state) {
    (void)state;
    if (!ANEMO_HAVE_PCRE2)
        skip();
    static const char template[] = "{\"chat_template\": \"{{ '[INST]' }}\"}";
    copy_to_folder(BYTES "tiny_tekken.json", "tekken.json");
    test_write_file(tiny_path(folder, "tokenizer_config.json"), template, sizeof template - 1);
    anemo_tokenizer *before = open_source("tekken.json", 0);
    assert_string_equal(convert(), "");
    size_t bytes;
    char *file = test_read_file(tiny_path(target, "out.gguf"), &bytes);
    assert_non_null(memmem(file, bytes, "tokenizer.chat_template", 23));
    assert_non_null(memmem(file, bytes, "{{ '[INST]' }}", 14));
    anemo_tokenizer *after = open_file(tiny_path(target, "out.gguf"));
    const anemo_chat_message message = {.role = "user", .text = "the text", .bytes = 8};
    const anemo_chat_options options = {0};
    anemo_chat a, b;
    assert_int_equal(anemo_chat_encode(before, &options, &message, 1, &a, &error), ANEMO_OK);
    assert_int_equal(anemo_chat_encode(after, &options, &message, 1, &b, &error), ANEMO_OK);
    assert_string_equal(a.template_name, b.template_name);
    assert_int_equal(a.n_ids, b.n_ids);
    assert_memory_equal(a.ids, b.ids, a.n_ids * sizeof *a.ids);
    free(a.ids);
    free(b.ids);
    free(file);
    anemo_tokenizer_close(before);
    anemo_tokenizer_close(after);
}

static void bad_keys_of_our_own(void **state) {
    (void)state;
    copy_to_folder(DEFAULT "tokenizer.json", "tokenizer.json");
    anemo_tokenizer *t = open_source("tokenizer.json", 0);
    assert_string_equal(convert(), "");
    const char *path = tiny_path(target, "out.gguf");
    size_t bytes;
    char *file = test_read_file(path, &bytes);
    char *word = memmem(file, bytes, "segment", 7);
    assert_non_null(word);
    memcpy(word, "sideway", 7);
    test_write_file(path, file, bytes);
    anemo_tokenizer *none;
    assert_int_equal(anemo_tokenizer_open(path, &none, &error), ANEMO_E_INPUT);
    assert_non_null(strstr(error.text, "anemo.tokenizer.prefix is \"sideway\"; accepted: none"));
    memcpy(word, "segment", 7);
    char *adds = memmem(file, bytes, "add_bos_token", 13);
    assert_non_null(adds);
    adds[13 + 4] = 0; /* behind the type: false */
    test_write_file(path, file, bytes);
    anemo_tokenizer *without = open_file(path);
    assert_true(anemo_tokenizer_bos(t) >= 0);
    assert_int_equal(anemo_tokenizer_bos(without), -1);
    anemo_tokenizer_close(without);
    anemo_tokenizer_close(t);
    free(file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folders, remove_folders)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_default),
        TEST(sentencepiece),
        TEST(golden_files_of_code_points),
        TEST(golden_files_of_bytes),
        TEST(real_sentencepiece_v1),
        TEST(real_sentencepiece_v3),
        TEST(real_tekken),
        TEST(left_out_with_a_reason),
        TEST(merges_that_scores_do_not_give),
        TEST(directories),
        TEST(chats_and_versions),
        TEST(bad_keys_of_our_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
