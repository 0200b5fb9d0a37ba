#include "tests/support/checkpoint_edit.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/support/run_program.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void path_of(char *path, size_t path_bytes, const char *dir, const char *file) {
    assert_true(snprintf(path, path_bytes, "%s/%s", dir, file) < (int)path_bytes);
}

void checkpoint_edit_open(checkpoint_edit *e, const char *checkpoint_dir) {
    char path[1024];
    size_t config_bytes;
    memset(e, 0, sizeof *e);
    e->dir = test_folder_create();
    path_of(path, sizeof path, checkpoint_dir, "config.json");
    char *config = test_read_file(path, &config_bytes);
    assert_non_null(config);
    path_of(path, sizeof path, e->dir, "config.json");
    test_write_file(path, config, config_bytes);
    free(config);
    path_of(path, sizeof path, checkpoint_dir, "model.safetensors");
    e->file = (unsigned char *)test_read_file(path, &e->file_bytes);
    assert_non_null(e->file);
}

unsigned char *checkpoint_edit_tensor(checkpoint_edit *e, const char *name, size_t *bytes) {
    uint64_t header_bytes;
    memcpy(&header_bytes, e->file, sizeof header_bytes);
    assert_true(header_bytes + 8 < e->file_bytes);
    json_t *header = json_loadb((const char *)e->file + 8, (size_t)header_bytes, 0, NULL);
    json_int_t begin = -1, end = -1;
    if (json_unpack(header, "{s{s[II]}}", name, "data_offsets", &begin, &end))
        fail_msg("no tensor %s", name);
    json_decref(header);
    *bytes = (size_t)(end - begin);
    return e->file + 8 + header_bytes + begin;
}

void checkpoint_edit_swap(checkpoint_edit *e, const char *name_a, const char *name_b) {
    size_t bytes, bytes_b;
    unsigned char *a = checkpoint_edit_tensor(e, name_a, &bytes);
    unsigned char *b = checkpoint_edit_tensor(e, name_b, &bytes_b);
    assert_int_equal(bytes, bytes_b);
    assert_memory_not_equal(a, b, bytes);
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char keep = a[i];
        a[i] = b[i];
        b[i] = keep;
    }
}

void checkpoint_edit_interleave(checkpoint_edit *e, const char *name, int heads, int head_dim) {
    size_t bytes;
    unsigned char *rows = checkpoint_edit_tensor(e, name, &bytes);
    const size_t row = bytes / (size_t)(heads * head_dim);
    unsigned char *old = malloc(bytes);
    assert_non_null(old);
    memcpy(old, rows, bytes);
    for (int h = 0; h < heads; h++)
        for (int half = 0; half < 2; half++)
            for (int i = 0; i < head_dim / 2; i++)
                memcpy(rows + (size_t)(h * head_dim + 2 * i + half) * row,
                       old + (size_t)(h * head_dim + half * head_dim / 2 + i) * row, row);
    free(old);
}

void checkpoint_edit_json(checkpoint_edit *e, const char *key, const char *text) {
    char path[1024], outer[64] = "";
    path_of(path, sizeof path, e->dir, "config.json");
    json_t *config = json_load_file(path, 0, NULL), *object = config;
    assert_non_null(config);
    const char *dot = strchr(key, '.');
    if (dot) {
        assert_true((size_t)(dot - key) < sizeof outer);
        memcpy(outer, key, (size_t)(dot - key));
        object = json_object_get(config, outer);
        key = dot + 1;
    }
    assert_non_null(json_object_get(object, key));
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    json_object_set_new(object, key, value);
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
}

void checkpoint_edit_config(checkpoint_edit *e, const char *key, int64_t value) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    checkpoint_edit_json(e, key, text);
}

void checkpoint_edit_save(checkpoint_edit *e) {
    char path[1024];
    path_of(path, sizeof path, e->dir, "model.safetensors");
    test_write_file(path, e->file, e->file_bytes);
}

void checkpoint_edit_close(checkpoint_edit *e) {
    test_folder_remove(e->dir);
    free(e->file);
}
