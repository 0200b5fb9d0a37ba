/* What tests of tokenizers share: calls that fail the test with the sentence of the error, and the
 * input and output files that come with llama.cpp's vocabularies. */
#include "tests/support/tokenizer_check.h"

#include "tests/support/run_program.h"
#include "tests/support/test_data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the standard headers */
#include <cmocka.h>

anemo_tokenizer *open_file(const char *path) {
    anemo_error err = {""};
    anemo_tokenizer *t = NULL;
    if (anemo_tokenizer_open(path, &t, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    return t;
}

token_ids encode(const anemo_tokenizer *t, const char *text, size_t bytes, bool add_bos) {
    anemo_error err = {""};
    token_ids out = {0};
    if (anemo_tokenizer_encode(t, text, bytes, add_bos, &out.list, &out.n, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    return out;
}

void assert_decodes(const anemo_tokenizer *t, const int32_t *list, size_t n, const char *text,
                    size_t bytes) {
    anemo_error err = {""};
    char *back = NULL;
    size_t back_bytes = 0;
    if (anemo_tokenizer_decode(t, list, n, &back, &back_bytes, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    if (back_bytes != bytes || memcmp(back, text, bytes) != 0)
        fail_msg("decodes to \"%s\" (%zu bytes), not to \"%.*s\" (%zu)", back, back_bytes,
                 (int)bytes, text, bytes);
    assert_int_equal(back[back_bytes], '\0');
    free(back);
}

void assert_round_trip(const anemo_tokenizer *t, const char *text, size_t bytes) {
    const token_ids out = encode(t, text, bytes, false);
    assert_decodes(t, out.list, out.n, text, bytes);
    free(out.list);
}

void assert_ids(const anemo_tokenizer *t, const char *text, size_t bytes, const int32_t *expected,
                size_t n) {
    const token_ids out = encode(t, text, bytes, false);
    if (out.n != n || memcmp(out.list, expected, n * sizeof *expected) != 0) {
        for (size_t i = 0; i < n || i < out.n; ++i)
            print_error("%zu: %d, expected %d\n", i, i < out.n ? (int)out.list[i] : -1,
                        i < n ? (int)expected[i] : -1);
        fail_msg("other ids for \"%.*s\"", (int)bytes, text);
    }
    free(out.list);
}

size_t read_ids(const json_t *list, int32_t *out, size_t capacity) {
    const size_t n = json_array_size(list);
    assert_true(n <= capacity);
    for (size_t i = 0; i < n; ++i)
        out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

int32_t id_of(const anemo_tokenizer *t, const char *piece) {
    for (int32_t id = 0; id < anemo_tokenizer_vocab(t); ++id) {
        size_t bytes;
        const char *text = anemo_tokenizer_piece(t, id, &bytes);
        if (text && bytes == strlen(piece) && memcmp(text, piece, bytes) == 0)
            return id;
    }
    fail_msg("no piece %s", piece);
    return -1;
}

anemo_tokenizer *open_real(const char *relative) {
    char *path = test_data_path(relative);
    if (!path)
        skip();
    anemo_tokenizer *t = open_file(path);
    free(path);
    return t;
}

char *read_real(const char *relative, size_t *bytes) {
    char *path = test_data_path(relative);
    if (!path)
        skip();
    char *text = test_read_file(path, bytes);
    assert_non_null(text);
    free(path);
    return text;
}

void check_ggml_vocabulary(const anemo_tokenizer *t, const char *input_file,
                           const char *output_file) {
    static const char separator[] = "\n__ggml_vocab_test__\n";
    size_t bytes, same = 0;
    char *inputs = read_real(input_file, &bytes);
    char *outputs = read_real(output_file, &bytes);
    char *input = inputs, *line = outputs;
    for (char *end; (end = strstr(input, separator)) != NULL; input = end + strlen(separator)) {
        int32_t expected[512];
        size_t n = 0;
        for (; *line != '\n' && *line; ++n) {
            assert_true(n < 512);
            expected[n] = (int32_t)strtol(line, &line, 10);
            while (*line == ' ')
                ++line;
        }
        line += *line == '\n';
        assert_ids(t, input, (size_t)(end - input), expected, n);
        assert_round_trip(t, input, (size_t)(end - input));
        ++same;
    }
    assert_int_equal(same, 46);
    assert_int_equal(*line, '\0');
    free(inputs);
    free(outputs);
}

void write_patched(const char *data, const json_t *entry, const char *path) {
    const char *name = json_string_value(json_object_get(entry, "file"));
    const json_t *patch = json_object_get(entry, "patch"), *pre = json_object_get(entry, "pre");
    char source[1024];
    snprintf(source, sizeof source, "%s%s", data, name);
    if (json_is_object(patch)) {
        json_t *file = json_load_file(source, JSON_ALLOW_NUL, NULL);
        json_t *model = json_incref(json_object_get(file, "model"));
        json_object_update(file, (json_t *)(uintptr_t)patch);
        json_object_update(model, json_object_get(patch, "model"));
        if (model)
            json_object_set(file, "model", model);
        assert_int_equal(json_dump_file(file, path, 0), 0);
        json_decref(model);
        json_decref(file);
    } else {
        size_t bytes;
        char *file = test_read_file(source, &bytes);
        assert_non_null(file);
        char *at = pre ? memmem(file, bytes, "gpt-4o", 6) : NULL;
        if (pre) {
            assert_non_null(at);
            assert_int_equal(json_string_length(pre), 6);
            memcpy(at, json_string_value(pre), 6);
        }
        test_write_file(path, file, bytes);
        free(file);
    }
}

anemo_tokenizer *open_patched(const char *data, const json_t *entry) {
    char path[1024];
    char *folder = test_folder_create();
    snprintf(path, sizeof path, "%s/a tokenizer", folder);
    write_patched(data, entry, path);
    anemo_tokenizer *t = open_file(path);
    test_folder_remove(folder);
    return t;
}
