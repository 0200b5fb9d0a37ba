/* Tokenizer files that are wrong: each is refused with one sentence that names file and field, and
 * no mutated file does harm. */
#include "models/engine.h"
#include "tests/support/run_program.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the standard headers */
#include <cmocka.h>

#define DATA ANEMO_TEST_DIR "/data/tokenizers/"
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

static void assert_refused(const char *file, const char *expected) {
    anemo_error err = {""};
    anemo_tokenizer *t = (anemo_tokenizer *)&err;
    const anemo_status status = anemo_tokenizer_open(file, &t, &err);
    if (status != ANEMO_E_INPUT || !strstr(err.text, expected) || !strstr(err.text, "ccepted"))
        fail_msg("status %d, \"%s\"; expected a sentence with \"%s\"", (int)status, err.text,
                 expected);
    assert_null(t);
    assert_non_null(strstr(err.text, strrchr(file, '/') + 1));
    assert_null(strchr(err.text, '\n'));
}

static void assert_bytes_refused(const void *data, size_t bytes, const char *expected) {
    test_write_file(path, data, bytes);
    assert_refused(path, expected);
}

static char *read_data(const char *name, size_t *bytes) {
    char file[1024];
    snprintf(file, sizeof file, DATA "%s", name);
    char *data = test_read_file(file, bytes);
    assert_non_null(data);
    return data;
}

/* ---------------------------------------------------------------- no tokenizer at all */

static void refuses_what_is_no_tokenizer(void **state) {
    (void)state;
    char missing[1100];
    snprintf(missing, sizeof missing, "%s/missing", folder);
    assert_refused(missing, "No such file");
    assert_refused(folder, "not a regular file");
    assert_bytes_refused("", 0, "empty");
    assert_bytes_refused("plain text", 10, "byte 0x70");
    assert_bytes_refused("\0\0\0", 3, "byte 0x00");
    assert_bytes_refused("GGUF", 4, "version");
    assert_bytes_refused("GGU", 3, "byte 0x47");
}

/* ---------------------------------------------------------------- tokenizer.json */

static const char *const json_files[][2] = {
    {"{", "line 1"},
    {"\n {}", "model is missing"},
    {"{\"config\": {\"pattern\": \"\"}, \"vocab\": []}", "tekken"},
    {"{\"model\": {}, \"model\": {}}", "duplicate"},
    {"{\"model\": {\"type\": \"\xff\"}}", "UTF-8"},
    {"{\"model\": {\"vocab\": {\"a\\u0000b\": 1}}}", "u0000"},
};

/* Each laid over tests/data/tokenizers/tiny.json ("model" key by key). */
static const char *const json_patches[][2] = {
    {"{\"version\": \"2.0\"}", "version is \"2.0\""},
    {"{\"truncation\": {}}", "truncation is {}"},
    {"{\"padding\": {}}", "padding is {}"},
    {"{\"surprise\": 1}", "tokenizer.surprise"},
    {"{\"normalizer\": {\"type\": \"NFKC\"}}", "normalizer.type is \"NFKC\""},
    {"{\"normalizer\": 1}", "normalizer.type is missing"},
    {"{\"normalizer\": {\"type\": \"Sequence\"}}", "normalizer.normalizers is missing"},
    {"{\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"x\"}}", "normalizer Prepend"},
    {"{\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"\u2581\"}}", "with Replace"},
    {"{\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"\u2581\", \"x\": 1}}",
     "normalizer.x"},
    {"{\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \" \"}, \"content\": "
     "\"\u2581\"}}",
     "normalizer Replace"},
    {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}}",
     "model.byte_fallback is true; accepted: false beside ByteLevel"},
    {"{\"pre_tokenizer\": {\"type\": \"Digits\"}}", "pre_tokenizer.type is \"Digits\""},
    {"{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\u2581\"}}",
     "a normalizer that prepends"},
    {"{\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"_\"}}",
     "Metaspace.replacement is \"_\""},
    {"{\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": "
     "\"\u2581\", \"prepend_scheme\": \"last\"}}",
     "Metaspace.prepend_scheme is \"last\""},
    {"{\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": "
     "\"\u2581\", \"add_prefix_space\": false}}",
     "Metaspace.add_prefix_space is false"},
    {"{\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": "
     "\"\u2581\", \"split\": 1}}",
     "pre_tokenizer.split is 1"},
    {"{\"decoder\": null}", "decoder.type is missing"},
    {"{\"decoder\": {\"type\": \"ByteLevel\"}}", "decoder.type is \"ByteLevel\""},
    {"{\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": "
     "{\"String\": \"\u2581\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": "
     "\"Fuse\"}]}}",
     "strips the space"},
    {"{\"decoder\": {\"type\": \"Metaspace\", \"replacement\": \"\u2581\"}}", "ByteFallback"},
    {"{\"decoder\": {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}}",
     "behind Fuse"},
    {"{\"decoder\": {\"type\": \"Fuse\"}}", "into a space"},
    {"{\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": "
     "\"\u2581\"}}",
     "no prefix is added"},
    {"{\"post_processor\": {\"type\": \"BertProcessing\"}}",
     "post_processor.type is \"BertProcessing\""},
    {"{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": []}}", "Sequence A"},
    {"{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {\"id\": "
     "\"B\"}}]}}",
     "post_processor.single[]"},
    {"{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
     "{\"id\": \"x\"}}], \"special_tokens\": {\"x\": {\"ids\": [300]}}}}",
     "post_processor.special_tokens"},
    {"{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
     "{\"id\": \"x\"}}, {\"SpecialToken\": {\"id\": \"x\"}}], \"special_tokens\": {\"x\": "
     "{\"ids\": [1]}}}}",
     "at most one token"},
    {"{\"model\": {\"type\": \"Unigram\"}}", "model.type is \"Unigram\""},
    {"{\"model\": {\"surprise\": 1}}", "model.surprise"},
    {"{\"model\": {\"dropout\": 0.1}}", "model.dropout is 0.1"},
    {"{\"model\": {\"continuing_subword_prefix\": \"##\"}}", "continuing_subword_prefix is"},
    {"{\"model\": {\"end_of_word_suffix\": \"</w>\"}}", "end_of_word_suffix is"},
    {"{\"model\": {\"fuse_unk\": 1}}", "model.fuse_unk is 1"},
    {"{\"model\": {\"unk_token\": \"nope\"}}", "model.unk_token is \"nope\""},
    {"{\"model\": {\"unk_token\": null, \"byte_fallback\": false}}", "neither byte_fallback nor"},
    {"{\"model\": {\"vocab\": {\"<unk>\": 0, \"\u2581\": 1}, \"merges\": []}, \"added_tokens\": "
     "[], \"post_processor\": null}",
     "with 0 byte pieces"},
    {"{\"model\": {\"vocab\": {\"<unk>\": 0, \"a\": 1}, \"merges\": [], \"byte_fallback\": "
     "false}, \"added_tokens\": [], \"post_processor\": null}",
     "U+2581"},
    {"{\"model\": {\"vocab\": {}}}", "model.vocab is {}"},
    {"{\"model\": {\"vocab\": []}}", "model.vocab is []"},
    {"{\"model\": {\"vocab\": {\"a\": 0, \"b\": 0}}}", "id 0 is both \"a\" and \"b\""},
    {"{\"model\": {\"vocab\": {\"a\": -1}}}", "id -1"},
    {"{\"model\": {\"vocab\": {\"a\": 9223372036854775807}}}", "id 9223372036854775807"},
    {"{\"model\": {\"vocab\": {\"a\": 1.5}}}", "model.vocab[\"a\"] is 1.5"},
    {"{\"model\": {\"vocab\": {\"\": 0}}}", "0 bytes"},
    {"{\"model\": {\"merges\": {}}}", "model.merges is {}"},
    {"{\"model\": {\"merges\": [\"t\"]}}", "model.merges[0] is \"t\""},
    {"{\"model\": {\"merges\": [\"t h e\"]}}", "model.merges[0] is \"t h e\""},
    {"{\"model\": {\"merges\": [[\"t\", \"h\", \"e\"]]}}", "model.merges[0]"},
    {"{\"model\": {\"merges\": [[\"t\", 1]]}}", "model.merges[0]"},
    {"{\"model\": {\"merges\": [\"t h\", \"t \u2603\"]}}", "model.merges[1]"},
    {"{\"model\": {\"merges\": [\"t h\", \"t h\"]}}", "each merge once"},
    {"{\"model\": {\"merges\": [\"<0x41> h\"]}}", "model.merges[0]"},
    {"{\"added_tokens\": 1}", "added_tokens is 1"},
    {"{\"added_tokens\": [1]}", "added_tokens[] is 1"},
    {"{\"added_tokens\": [{\"id\": 9, \"content\": \"</s>\", \"special\": true}]}", "another id"},
    {"{\"added_tokens\": [{\"id\": 2, \"content\": \"</s>\", \"special\": true}, {\"id\": 2, "
     "\"content\": \"</s>\", \"special\": true}]}",
     "there twice"},
    {"{\"added_tokens\": [{\"id\": 2, \"content\": \"new\", \"special\": true}]}", "id 2 is both"},
    {"{\"added_tokens\": [{\"id\": 900, \"content\": \"new\", \"special\": false, \"rstrip\": "
     "true}]}",
     "rstrip"},
    {"{\"added_tokens\": [{\"id\": 900, \"content\": \"new\", \"special\": false}]}", "normalized"},
    {"{\"added_tokens\": [{\"id\": 900, \"content\": \"new\", \"color\": 1}]}",
     "added_tokens[].color"},
    {"{\"added_tokens\": [{\"id\": 50, \"content\": \"<0x20>\", \"special\": true}]}",
     "\"<0x20>\""},
};

static void write_patched(const json_t *base, const char *patch_text) {
    json_t *file = json_deep_copy(base), *patch = json_loads(patch_text, 0, NULL);
    if (!patch)
        fail_msg("no JSON: %s", patch_text);
    json_t *model = json_incref(json_object_get(file, "model"));
    json_object_update(model, json_object_get(patch, "model"));
    json_object_update(file, patch);
    json_object_set_new(file, "model", model);
    assert_int_equal(json_dump_file(file, path, 0), 0);
    json_decref(file);
    json_decref(patch);
}

static void refuses_tokenizer_json(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof json_files / sizeof *json_files; ++i)
        assert_bytes_refused(json_files[i][0], strlen(json_files[i][0]), json_files[i][1]);
    json_t *base = json_load_file(DATA "tiny.json", 0, NULL);
    assert_non_null(base);
    for (size_t i = 0; i < sizeof json_patches / sizeof *json_patches; ++i) {
        write_patched(base, json_patches[i][0]);
        assert_refused(path, json_patches[i][1]);
    }
    write_patched(base, "{}"); /* what all of them are laid over is right */
    anemo_error err;
    anemo_tokenizer *t;
    assert_int_equal(anemo_tokenizer_open(path, &t, &err), ANEMO_OK);
    anemo_tokenizer_close(t);
    json_decref(base);
}

static void refuses_deep_json(void **state) {
    (void)state;
    const size_t bytes = 200000;
    char *text = malloc(bytes);
    assert_non_null(text);
    memset(text, '[', bytes);
    memcpy(text, "{\"model\":", 9);
    assert_bytes_refused(text, bytes, "depth");
    free(text);
}

/* ---------------------------------------------------------------- SentencePiece */

/* A protobuf message may be continued: each tail behind tests/data/tokenizers/tiny.model. */
static const struct {
    const char *tail;
    size_t bytes;
    const char *expected;
} tails[] = {
#define TAIL(bytes, expected)                                                                      \
    { bytes, sizeof(bytes) - 1, expected }
    TAIL("\x12\x02\x18\x01", "trainer_spec.model_type is 1 (unigram)"),
    TAIL("\x12\x02\x18\x09", "trainer_spec.model_type is 9"),
    TAIL("\x12\x03\xc0\x01\x01", "treat_whitespace_as_suffix"),
    TAIL("\x12\x03\x98\x02\x00", "byte_fallback is false with 256"),
    TAIL("\x12\x02\x1a\x00", "trainer_spec: field 3 has wire type 2"),
    TAIL("\x12\x23\xe2\x02\x20 0123456789012345678901234567890", "unk_surface has 32 bytes"),
    TAIL("\x1a\x06\x0a\x04nfkc", "normalizer_spec.name is \"nfkc\""),
    TAIL("\x1a\x03\x12\x01x", "normalizer_spec.precompiled_charsmap has 1"),
    TAIL("\x1a\x03\x32\x01x", "normalizer_spec.normalization_rule_tsv has 1"),
    TAIL("\x1a\x02\x28\x00", "normalizer_spec.escape_whitespaces is false"),
    TAIL("\x1a\x02\x38\x01", "normalizer_spec: unknown field 7"),
    TAIL("\x1a\x02\x1a\x00", "normalizer_spec: field 3 has wire type 2"),
    TAIL("\x2a\x03\x12\x01x", "denormalizer_spec.precompiled_charsmap"),
    TAIL("\x32\x00", "unknown field 6"),
    TAIL("\x0a\x00", "has 0 bytes"),
    TAIL("\x0a\x03\x0a\x01t", "\"t\" has the ids"),
    TAIL("\x0a\x06\x0a\x02zz\x18\x07", "type is 7"),
    TAIL("\x0a\x06\x0a\x02zz\x18\x00", "type is 0"),
    TAIL("\x0a\x06\x0a\x02zz\x18\x02", "of type unknown"),
    TAIL("\x0a\x06\x0a\x02zz\x18\x06", "byte piece"),
    TAIL("\x0a\x03\x0a\x01\xff", "not UTF-8"),
    TAIL("\x0a\x04\x0a\x02\xc0\x80", "not UTF-8"),         /* overlong */
    TAIL("\x0a\x05\x0a\x03\xe0\x80\x80", "not UTF-8"),     /* overlong */
    TAIL("\x0a\x05\x0a\x03\xed\xa0\x80", "not UTF-8"),     /* surrogate */
    TAIL("\x0a\x06\x0a\x04\xf4\x90\x80\x80", "not UTF-8"), /* beyond U+10FFFF */
    TAIL("\x0a\x05\x0a\x03\xe2\x96t", "not UTF-8"),
    TAIL("\x0a\x09\x0a\x02zz\x15\x00\x00\xc0\x7f", "is nan"),
    TAIL("\x0a\x09\x0a\x02zz\x15\x00\x00\x80\x7f", "is inf"),
    TAIL("\x0a\x02\x20\x01", "unknown field 4"),
    TAIL("\x0a\x02\x08\x01", "field 1 has wire type 0"),
    TAIL("\x08\x01", "model: field 1 has wire type 0"),
    TAIL("\x0b", "unknown wire type"),
    TAIL("\x02\x00", "field of number 0"),
    TAIL("\x0a", "varint"),
    TAIL("\x0a\x05zz", "length that reaches behind"),
    TAIL("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "length that reaches behind"),
    TAIL("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "varint"),
    TAIL("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "varint"),
    TAIL("\xff", "tag"),
    TAIL("\x0a\x03\x15\x00\x00", "number that ends behind"),
#undef TAIL
};

static void refuses_sentencepiece(void **state) {
    (void)state;
    size_t bytes;
    char *model = read_data("tiny.model", &bytes), *longer = malloc(bytes + 64);
    assert_non_null(longer);
    memcpy(longer, model, bytes);
    for (size_t i = 0; i < sizeof tails / sizeof *tails; ++i) {
        memcpy(longer + bytes, tails[i].tail, tails[i].bytes);
        assert_bytes_refused(longer, bytes + tails[i].bytes, tails[i].expected);
    }
    assert_bytes_refused("\x0a\x03\x0a\x01t", 5, "model_type is 1");
    assert_bytes_refused("\x12\x02\x18\x02", 4, "of type unknown");
    free(longer);
    free(model);
}

/* ---------------------------------------------------------------- GGUF */

static uint8_t *behind(char *data, size_t bytes, const char *key) {
    char *found = memmem(data, bytes, key, strlen(key));
    assert_non_null(found);
    return (uint8_t *)found + strlen(key); /* value type u32, value */
}

static void refuses_gguf_vocabularies(void **state) {
    (void)state;
    static const struct {
        const char *key;
        size_t at; /* bytes behind the key; -1 = its last letter */
        const char *bytes;
        size_t n;
        const char *expected;
    } edits[] = {
        {"tokenizer.ggml.model", 12, "gpt2x", 5, "tokenizer.ggml.model is \"gpt2x\""},
        {"tokenizer.ggml.model", (size_t)-1, "?", 1, "tokenizer.ggml.model is missing"},
        {"tokenizer.ggml.tokens", (size_t)-1, "?", 1, "tokenizer.ggml.tokens is missing"},
        {"tokenizer.ggml.scores", (size_t)-1, "?", 1, "tokenizer.ggml.scores is missing"},
        {"tokenizer.ggml.scores", 4, "\x05", 1, "tokenizer.ggml.scores has value type 9"},
        {"tokenizer.ggml.token_type", (size_t)-1, "?", 1, "tokenizer.ggml.token_type is missing"},
        {"tokenizer.ggml.token_type", 16, "\x09", 1, "token_type[0] is 9"},
        {"tokenizer.ggml.token_type", 16, "\xff\xff\xff\xff", 4, "token_type[0] is -1"},
        {"tokenizer.ggml.scores", 16 + 4 * 600, "\x00\x00\xc0\x7f", 4, "is nan"},
        {"tokenizer.ggml.bos_token_id", 0, "\x06", 1, "bos_token_id has value type 6"},
        {"tokenizer.ggml.bos_token_id", 4, "\xff\xff", 2, "bos_token_id is 65535"},
        {"tokenizer.ggml.eos_token_id", 4, "\xff\xff\xff\xff", 4, "eos_token_id is 4294967295"},
        {"tokenizer.ggml.unknown_token_id", 4, "\xbc\x02", 2, "unknown_token_id is 700"},
        {"tokenizer.ggml.add_space_prefix", 0, "\x00", 1, "add_space_prefix has value type 0"},
        {"tokenizer.ggml.tokens", 24, "\xff", 1, "not UTF-8"},
    };
    for (size_t i = 0; i < sizeof edits / sizeof *edits; ++i) {
        size_t bytes;
        char *file = read_data("tiny.gguf", &bytes);
        memcpy(behind(file, bytes, edits[i].key) + (ptrdiff_t)edits[i].at, edits[i].bytes,
               edits[i].n);
        assert_bytes_refused(file, bytes, edits[i].expected);
        free(file);
    }
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
        "the function <sep> x===1  </s>\n\xff\xe2\x96\x81\xf0\x9f\x99\x82[INST]";
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

static const char *const files[] = {"tiny.model", "trim.model", "tiny.gguf", "tiny.json"};

static void truncated_files(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
        size_t bytes, opened = 0, tried = 0;
        char *file = read_data(files[i], &bytes);
        for (size_t n = 1; n < bytes; n += 1 + bytes / 500, ++tried) {
            test_write_file(path, file, n);
            opened += survives();
        }
        /* A protobuf message may end between two fields, after trainer_spec; GGUF and JSON may
         * lack their last padding or line feed. */
        if (opened > 2)
            fail_msg("%zu of %zu truncated copies of %s open", opened, tried, files[i]);
        free(file);
    }
}

static void mutated_files(void **state) {
    (void)state;
    random_state = 7;
    for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
        size_t bytes, opened = 0;
        char *file = read_data(files[i], &bytes), *copy = malloc(bytes);
        assert_non_null(copy);
        for (int run = 0; run < MUTATIONS; ++run) {
            memcpy(copy, file, bytes);
            for (uint32_t edits = 1 + random_below(4); edits > 0; --edits) {
                const size_t at = random_below((uint32_t)bytes);
                const size_t from = random_below((uint32_t)bytes);
                if (random_below(2))
                    copy[at] = (char)random_below(256);
                else if (random_below(2))
                    copy[at] = (char)(copy[at] ^ 1 << random_below(8));
                else
                    for (size_t k = random_below(16); k > 0; --k)
                        copy[(at + k) % bytes] = file[(from + k) % bytes];
            }
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
        cmocka_unit_test(refuses_what_is_no_tokenizer),
        cmocka_unit_test(refuses_tokenizer_json),
        cmocka_unit_test(refuses_deep_json),
        cmocka_unit_test(refuses_sentencepiece),
        cmocka_unit_test(refuses_gguf_vocabularies),
        cmocka_unit_test(truncated_files),
        cmocka_unit_test(mutated_files),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
