/* Byte-level tokenizer files that are wrong: each is refused with one sentence that names file and
 * field, and no mutated file does harm. */
#include "anemo_config.h"
#include "models/engine.h"
#include "tests/support/run_program.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* after the standard headers */
#include <cmocka.h>

#define DATA ANEMO_TEST_DIR "/data/byte_level/"
#define NAME "a file" /* says nothing of its content */
#ifndef MUTATIONS
#define MUTATIONS 400 /* of each file */
#endif

static char *folder;
static char path[1024];

static int make_folder(void **state) {
    (void)state;
    folder = test_folder_create();
    snprintf(path, sizeof path, "%s/" NAME, folder);
    return folder ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static void needs_splitter(void) {
    if (!ANEMO_HAVE_PCRE2)
        skip();
}

static void assert_refused(anemo_status expected_status, const char *expected) {
    anemo_error err = {""};
    anemo_tokenizer *t = (anemo_tokenizer *)&err;
    const anemo_status status = anemo_tokenizer_open(path, &t, &err);
    if (status != expected_status || !strstr(err.text, expected))
        fail_msg("status %d, \"%s\"; expected a sentence with \"%s\"", (int)status, err.text,
                 expected);
    assert_null(t);
    assert_non_null(strstr(err.text, NAME));
    assert_null(strchr(err.text, '\n'));
}

static char *read_data(const char *name, size_t *bytes) {
    char file[1024];
    snprintf(file, sizeof file, DATA "%s", name);
    char *data = test_read_file(file, bytes);
    assert_non_null(data);
    return data;
}

/* The patch over the file; of the objects "model" and "config" field by field. */
static void write_patched(const json_t *base, const char *patch_text) {
    json_t *file = json_deep_copy(base), *patch = json_loads(patch_text, JSON_ALLOW_NUL, NULL);
    if (!patch)
        fail_msg("no JSON: %s", patch_text);
    static const char *const parts[] = {"model", "config"};
    for (size_t i = 0; i < 2; ++i) {
        json_t *part = json_object_get(file, parts[i]), *over = json_object_get(patch, parts[i]);
        if (!json_is_object(part) || !json_is_object(over))
            continue;
        json_object_update(part, over);
        json_object_del(patch, parts[i]);
    }
    json_object_update(file, patch);
    assert_int_equal(json_dump_file(file, path, 0), 0);
    json_decref(file);
    json_decref(patch);
}

static void check_patches(const char *name, const char *const patches[][2], size_t n) {
    needs_splitter();
    char file[1024];
    snprintf(file, sizeof file, DATA "%s", name);
    json_t *base = json_load_file(file, JSON_ALLOW_NUL, NULL);
    assert_non_null(base);
    for (size_t i = 0; i < n; ++i) {
        write_patched(base, patches[i][0]);
        assert_refused(ANEMO_E_INPUT, patches[i][1]);
    }
    write_patched(base, "{}"); /* what all of them are laid over is right */
    anemo_error err;
    anemo_tokenizer *t;
    assert_int_equal(anemo_tokenizer_open(path, &t, &err), ANEMO_OK);
    anemo_tokenizer_close(t);
    json_decref(base);
}

/* ---------------------------------------------------------------- JSON */

#define SPLIT(split, bytes)                                                                        \
    "{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [" split ", " bytes "]}}"
#define REGEX(pattern, more)                                                                       \
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" pattern "\"}, " more "}"
#define GPT2                                                                                       \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| "                                            \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+"
#define ISOLATED "\"behavior\": \"Isolated\", \"invert\": false"
#define BYTES    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}"

static void refuses_tokenizer_json(void **state) {
    (void)state;
    static const char *const patches[][2] = {
        {"{\"normalizer\": {\"type\": \"NFKC\"}}",
         "normalizer.type is \"NFKC\"; accepted: null or"},
        {"{\"normalizer\": {\"type\": \"NFC\", \"x\": 1}}", "normalizer.x"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}}", "add_prefix_space is missing"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"x\": 1}}",
         "pre_tokenizer.x"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
         "\"use_regex\": 1}}",
         "use_regex is 1"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
         "\"use_regex\": false}}",
         "true without Split"},
        {SPLIT(REGEX(".*", ISOLATED), BYTES), "Split.pattern is"},
        {SPLIT(REGEX("((a+)+)+$", ISOLATED), BYTES), "the expressions of GPT-2"},
        {SPLIT(REGEX(GPT2, "\"behavior\": \"Removed\""), BYTES), "Split.behavior is \"Removed\""},
        {SPLIT(REGEX(GPT2, "\"behavior\": \"Isolated\", \"invert\": true"), BYTES),
         "Split.behavior is \"Isolated\""},
        {SPLIT(REGEX(GPT2, ISOLATED), "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}"),
         "false behind Split"},
        {SPLIT(BYTES, BYTES), "a Sequence of one Split and ByteLevel"},
        {SPLIT(BYTES, REGEX(GPT2, ISOLATED)), "a Sequence of one Split and ByteLevel"},
        {SPLIT(REGEX(GPT2, ISOLATED) ", " REGEX(GPT2, ISOLATED), BYTES), "one Split"},
        {"{\"decoder\": null}", "decoder is null; accepted: ByteLevel"},
        {"{\"decoder\": {\"type\": \"ByteFallback\"}}", "decoder is "},
        {"{\"post_processor\": {\"type\": \"Roberta\"}}", "post_processor.type is \"Roberta\""},
        {"{\"post_processor\": {\"type\": \"Sequence\"}}", "post_processor.processors is missing"},
        {"{\"model\": {\"byte_fallback\": true}}", "model.byte_fallback is true"},
        {"{\"model\": {\"vocab\": {}}}", "model.vocab is {}"},
        {"{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}}", "no piece for the byte 0x00"},
        {"{\"model\": {\"vocab\": {\"a\": -1}}}", "\"a\" has id -1"},
        {"{\"model\": {\"vocab\": {\"a\": 5000000000}}}", "has id 5000000000"},
        {"{\"model\": {\"vocab\": {\"a\": 0.5}}}", "model.vocab[\"a\"] is 0.5"},
        {"{\"model\": {\"vocab\": {\"a\": 1, \"b\": 1}}}", "each id once"},
        {"{\"model\": {\"vocab\": {\"\": 1}}}", "has 0 bytes"},
        {"{\"model\": {\"vocab\": {\"<s>\": 1}}}", "\"<s>\" has another id"},
        {"{\"model\": {\"merges\": {}}}", "model.merges is {}"},
        {"{\"model\": {\"merges\": [\"ab\"]}}", "model.merges[0] is \"ab\""},
        {"{\"model\": {\"merges\": [\"a \\u4e2d\"]}}", "model.merges[0] is"},
        {"{\"model\": {\"merges\": [\"a b c\"]}}", "model.merges[0] is"},
        {"{\"model\": {\"merges\": [[\"a\"]]}}", "model.merges[0] is"},
        {"{\"model\": {\"merges\": [[\"a\", 1]]}}", "model.merges[0] is"},
        {"{\"model\": {\"merges\": [\"t h\", \"t h\"]}}", "model.merges[1] is \"t h\""},
        {"{\"model\": {\"merges\": [\"X \\u017c\"]}}", "two pieces of model.vocab"},
        {"{\"added_tokens\": 1}", "added_tokens is 1"},
        {"{\"added_tokens\": [{\"id\": 950}]}", "an object with content and id"},
        {"{\"added_tokens\": [{\"id\": 3, \"content\": \"x!y\", \"special\": true}]}",
         "id 3 is both"},
        {"{\"added_tokens\": [{\"id\": 950, \"content\": \"x\", \"lstrip\": true}]}",
         "has lstrip true"},
        {"{\"added_tokens\": [{\"id\": 950, \"content\": \"\", \"normalized\": false}]}",
         "has 0 bytes"},
        {"{\"added_tokens\": [{\"id\": 950, \"content\": \"x\"}, {\"id\": 951, \"content\": "
         "\"x\"}]}",
         "is there twice"},
        {"{\"added_tokens\": [{\"id\": 950, \"content\": \"x\", \"color\": 1}]}",
         "added_tokens[].color"},
    };
    check_patches("tiny.json", patches, sizeof patches / sizeof *patches);
    if (ANEMO_HAVE_UTF8PROC) {
        static const char *const composing[][2] = {
            {"{\"normalizer\": {\"type\": \"NFC\"}, \"added_tokens\": [{\"id\": 950, \"content\": "
             "\"x\"}]}",
             "has normalized true"}};
        check_patches("tiny.json", composing, 1);
    }
}

static void refuses_tekken(void **state) {
    (void)state;
    static const char *const patches[][2] = {
        {"{\"config\": {\"pattern\": \"a|b\"}}", "config.pattern is \"a|b\""},
        {"{\"config\": {\"pattern\": null}}", "config.pattern is null"},
        {"{\"config\": {\"version\": \"a version of many letters\"}}", "config.version is"},
        {"{\"config\": {\"default_num_special_tokens\": 3}}",
         "config.default_num_special_tokens is 3"},
        {"{\"config\": {\"default_num_special_tokens\": -1}}", "special_tokens is -1"},
        {"{\"config\": {\"default_num_special_tokens\": \"30\"}}", "special_tokens is \"30\""},
        {"{\"config\": {\"default_num_special_tokens\": 9223372036854775807}}",
         "special_tokens is 9223372036854775807"},
        {"{\"config\": {\"default_vocab_size\": 100}}", "config.default_vocab_size is 100"},
        {"{\"config\": {\"default_vocab_size\": 9223372036854775807}}",
         "config.default_vocab_size is"},
        {"{\"config\": {\"default_vocab_size\": 931}}", "vocab has 900 entries"},
        {"{\"vocab\": {}}", "vocab is {}"},
        {"{\"vocab\": [], \"config\": {\"default_vocab_size\": 286}}", "vocab has 0 entries"},
        {"{\"special_tokens\": {}}", "special_tokens is {}"},
        {"{\"special_tokens\": [1]}", "special_tokens[0] is 1"},
        {"{\"special_tokens\": [{\"rank\": 30, \"token_str\": \"a\"}]}", "special_tokens[0] is"},
        {"{\"special_tokens\": [{\"rank\": -1, \"token_str\": \"a\"}]}", "special_tokens[0] is"},
        {"{\"special_tokens\": [{\"rank\": 0, \"token_str\": \"a\\u0000\"}]}",
         "special_tokens[0] is"},
        {"{\"special_tokens\": [{\"rank\": 0, \"token_str\": \"\"}]}", "has 0 bytes"},
        {"{\"special_tokens\": [{\"rank\": 0, \"token_str\": \"a\"}, {\"rank\": 1, "
         "\"token_str\": \"a\"}]}",
         "\"a\" has the ids 0 and 1"},
        {"{\"special_tokens\": [{\"rank\": 0, \"token_str\": \"a\"}, {\"rank\": 0, "
         "\"token_str\": \"b\"}]}",
         "id 0 is both"},
        {"{\"special_tokens\": [{\"rank\": 0, \"token_str\": \"<SPECIAL_1>\"}]}",
         "\"<SPECIAL_1>\" has the ids 0 and 1"},
    };
    static const char *const entries[][2] = {
        {"{\"rank\": 1, \"token_bytes\": \"AA==\"}", "a rank that is its place"},
        {"{\"token_bytes\": \"AA==\"}", "a rank that is its place"},
        {"{\"rank\": 0}", "token_bytes in base64"},
        {"{\"rank\": 0, \"token_bytes\": 3}", "token_bytes in base64"},
        {"{\"rank\": 0, \"token_bytes\": \"\"}", "token_bytes in base64"},
        {"{\"rank\": 0, \"token_bytes\": \"AA=\"}", "token_bytes in base64"},
        {"{\"rank\": 0, \"token_bytes\": \"A===\"}", "token_bytes in base64"},
        {"{\"rank\": 0, \"token_bytes\": \"====\"}", "token_bytes in base64"},
        {"{\"rank\": 0, \"token_bytes\": \"A!==\"}", "token_bytes in base64"},
        {"{\"rank\": 0, \"token_bytes\": \"AQ==\"}", "has the ids 30 and 31"},
        {"{\"rank\": 0, \"token_bytes\": \"YWJjZGVm\"}", "no piece for the byte 0x00"},
    };
    check_patches("tiny_tekken.json", patches, sizeof patches / sizeof *patches);
    json_t *base = json_load_file(DATA "tiny_tekken.json", 0, NULL);
    for (size_t i = 0; i < sizeof entries / sizeof *entries; ++i) {
        json_t *file = json_deep_copy(base);
        json_array_set_new(json_object_get(file, "vocab"), 0, json_loads(entries[i][0], 0, NULL));
        assert_int_equal(json_dump_file(file, path, 0), 0);
        assert_refused(ANEMO_E_INPUT, entries[i][1]);
        json_decref(file);
    }
    json_decref(base);
}

/* ---------------------------------------------------------------- GGUF */

static void refuses_gguf(void **state) {
    (void)state;
    needs_splitter();
    static const struct {
        const char *key;
        size_t at; /* bytes behind the key; -1 = its last letter */
        const char *bytes;
        size_t n;
        const char *expected;
    } edits[] = {
        {"tokenizer.ggml.model", 12, "gpt3", 4, "tokenizer.ggml.model is \"gpt3\""},
        {"tokenizer.ggml.pre", (size_t)-1, "?", 1,
         "tokenizer.ggml.pre is missing; accepted: gpt-2"},
        {"tokenizer.ggml.pre", 12, "gpt-5z", 6,
         "tokenizer.ggml.pre is \"gpt-5z\"; accepted: gpt-2"},
        {"tokenizer.ggml.pre", 0, "\x04", 1, ""},
        {"tokenizer.ggml.tokens", (size_t)-1, "?", 1, "tokenizer.ggml.tokens is missing"},
        {"tokenizer.ggml.token_type", (size_t)-1, "?", 1, "tokenizer.ggml.token_type is missing"},
        {"tokenizer.ggml.token_type", 16, "\x09", 1, "token_type[0] is 9"},
        {"tokenizer.ggml.token_type", 16, "\x03", 1, "no piece for the byte 0x00"},
        {"tokenizer.ggml.merges", (size_t)-1, "?", 1, "tokenizer.ggml.merges is missing"},
        {"tokenizer.ggml.merges", 24, "!", 1, "tokenizer.ggml.merges[0] is \"!"},
        {"tokenizer.ggml.bos_token_id", 4, "\xff\xff", 2, "bos_token_id is 65535"},
        {"tokenizer.ggml.eos_token_id", 4, "\xff\xff\xff\xff", 4, "eos_token_id is 4294967295"},
    };
    for (size_t i = 0; i < sizeof edits / sizeof *edits; ++i) {
        size_t bytes;
        char *file = read_data("tiny.gguf", &bytes);
        char *at = memmem(file, bytes, edits[i].key, strlen(edits[i].key));
        assert_non_null(at);
        memcpy(at + strlen(edits[i].key) + (ptrdiff_t)edits[i].at, edits[i].bytes, edits[i].n);
        test_write_file(path, file, bytes);
        assert_refused(ANEMO_E_INPUT, edits[i].expected);
        free(file);
    }
}

/* ---------------------------------------------------------------- what a build lacks */

static void names_the_missing_library(void **state) {
    (void)state;
    static const char *const files[] = {"tiny.json", "tiny_tekken.json", "tiny.gguf"};
    if (ANEMO_HAVE_PCRE2 && ANEMO_HAVE_UTF8PROC)
        skip();
    for (size_t i = 0; i < 3 && !ANEMO_HAVE_PCRE2; ++i) {
        size_t bytes;
        char *file = read_data(files[i], &bytes);
        test_write_file(path, file, bytes);
        assert_refused(ANEMO_E_LIBRARY, "install libpcre2-dev and rebuild");
        free(file);
    }
    if (!ANEMO_HAVE_UTF8PROC) {
        json_t *base = json_load_file(DATA "tiny.json", 0, NULL);
        write_patched(base, "{\"normalizer\": {\"type\": \"NFC\"}}");
        assert_refused(ANEMO_E_LIBRARY, "install libutf8proc-dev and rebuild");
        json_decref(base);
    }
}

/* ---------------------------------------------------------------- beside a model */

/* The embedded model's weights with a vocabulary that has more tokens than they have rows. */
static void refuses_what_does_not_fit_the_embedding(void **state) {
    (void)state;
    needs_splitter();
    static const char *const weights[] = {"config.json", "model.safetensors"};
    char from[1024], to[1024];
    for (size_t i = 0; i < 2; ++i) {
        snprintf(from, sizeof from, ANEMO_TEST_DIR "/../models/default/%s", weights[i]);
        snprintf(to, sizeof to, "%s/%s", folder, weights[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    snprintf(to, sizeof to, "%s/tekken.json", folder);
    size_t bytes;
    char *file = read_data("tiny_tekken.json", &bytes);
    test_write_file(to, file, bytes);
    free(file);
    program_result run = program_run("run", folder, "--prompt", "a");
    assert_int_equal(run.code, 2);
    if (!strstr(run.err, "tekken.json: vocabulary has 880 tokens, the model only"))
        fail_msg("%s", run.err);
    program_result_free(&run);
    unlink(to);
}

/* ---------------------------------------------------------------- truncation and mutation */

static uint64_t random_state;
static uint32_t random_below(uint32_t n) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % n;
}

/* Opens what lies at `path`; a file that opens must then work on any text. */
static bool survives(void) {
    static const char text[] =
        "the function <tool> x===1 DON'T  </s>\n\xff\xe2\x96\xf0\x9f\x99\x82";
    anemo_error err = {""};
    anemo_tokenizer *t;
    const anemo_status status = anemo_tokenizer_open(path, &t, &err);
    if (status != ANEMO_OK) {
        if (status != ANEMO_E_INPUT || !strstr(err.text, NAME) || strlen(err.text) < 20)
            fail_msg("status %d, \"%s\"", (int)status, err.text);
        return false;
    }
    int32_t *list;
    size_t n, bytes;
    char *back;
    assert_int_equal(anemo_tokenizer_encode(t, text, sizeof text - 1, false, &list, &n, &err),
                     ANEMO_OK);
    assert_int_equal(anemo_tokenizer_decode(t, list, n, &back, &bytes, &err), ANEMO_OK);
    free(list);
    free(back);
    anemo_tokenizer_close(t);
    return true;
}

static const char *const files[] = {"tiny.json", "tiny_tekken.json", "tiny.gguf"};

static void truncated_files(void **state) {
    (void)state;
    needs_splitter();
    for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
        size_t bytes, opened = 0, tried = 0;
        char *file = read_data(files[i], &bytes);
        for (size_t n = 1; n < bytes; n += 1 + bytes / 300, ++tried) {
            test_write_file(path, file, n);
            opened += survives();
        }
        if (opened > 2) /* without the last padding or line feed */
            fail_msg("%zu of %zu truncated copies of %s open", opened, tried, files[i]);
        free(file);
    }
}

static void mutated_files(void **state) {
    (void)state;
    needs_splitter();
    random_state = 9;
    for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
        size_t bytes, opened = 0;
        char *file = read_data(files[i], &bytes), *copy = malloc(bytes);
        assert_non_null(copy);
        for (int run = 0; run < MUTATIONS; ++run) {
            memcpy(copy, file, bytes);
            for (uint32_t edits = 1 + random_below(3); edits > 0; --edits)
                copy[random_below((uint32_t)bytes)] = (char)random_below(256);
            test_write_file(path, copy, bytes);
            opened += survives();
        }
        assert_true(opened < MUTATIONS); /* some edits are seen */
        free(copy);
        free(file);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_tokenizer_json),
        cmocka_unit_test(refuses_tekken),
        cmocka_unit_test(refuses_gguf),
        cmocka_unit_test(names_the_missing_library),
        cmocka_unit_test(refuses_what_does_not_fit_the_embedding),
        cmocka_unit_test(truncated_files),
        cmocka_unit_test(mutated_files),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
