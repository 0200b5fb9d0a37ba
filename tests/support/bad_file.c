#include "tests/support/bad_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *folder;

int bad_file_set_up(void **state) {
    (void)state;
    folder = test_folder_create();
    return 0;
}

int bad_file_tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

void rewrite(const char *path, const void *data, size_t bytes) {
    remove(path);
    test_write_file(path, data, bytes);
}

static void check_sentence(const char *text) {
    assert_in_range(strlen(text), 20, sizeof((anemo_error *)0)->text - 2); /* not cut */
    assert_non_null(strstr(text, "; accepted: "));
    for (const char *c = text; *c; ++c)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            fail_msg("control byte in: %s", text);
}

void check_refusal(const char *path, const char *const *words, size_t n_words) {
    anemo_checkpoint *checkpoint = (anemo_checkpoint *)&folder;
    anemo_error error = {""};
    const anemo_status status = anemo_checkpoint_open(path, &checkpoint, &error);
    if (status != ANEMO_E_INPUT)
        fail_msg("%s: %s %s, wanted: %s", path, anemo_status_name(status), error.text,
                 n_words ? words[0] : "");
    assert_null(checkpoint);
    check_sentence(error.text);
    for (size_t i = 0; i < n_words; ++i)
        if (words[i] && !strstr(error.text, words[i]))
            fail_msg("no '%s' in: %s", words[i], error.text);
}

bool open_and_read(const char *path) {
    anemo_checkpoint *checkpoint = NULL;
    anemo_error error = {""};
    const anemo_status status = anemo_checkpoint_open(path, &checkpoint, &error);
    if (status != ANEMO_OK) {
        assert_int_equal(status, ANEMO_E_INPUT);
        check_sentence(error.text);
        return false;
    }
    const anemo_hparams *h = anemo_checkpoint_hparams(checkpoint);
    for (int role = 0; role < ANEMO_T_COUNT; ++role)
        for (int64_t layer = 0; layer < (anemo_roles[role].per_layer ? h->layers : 1); ++layer)
            for (int64_t e = 0; e < (anemo_roles[role].per_expert && h->experts ? h->experts : 1);
                 ++e) {
                if (role != ANEMO_T_OUTPUT && !anemo_has_role(h, (anemo_tensor_role)role))
                    continue;
                anemo_weight weight;
                float *row = malloc((size_t)(h->d + h->ffn + h->heads * h->head_dim) * 4);
                void *scratch =
                    malloc(anemo_weight_scratch_bytes(h->d + h->ffn + h->heads * h->head_dim));
                if (anemo_roles[role].vector)
                    anemo_checkpoint_vector(checkpoint, role, layer, row, h->d, &error);
                else {
                    assert_int_equal(
                        anemo_checkpoint_weight(checkpoint, role, layer, e, &weight, &error), 0);
                    for (int64_t r = 0; r < weight.n; ++r)
                        anemo_weight_row_f32(&weight, r, row, scratch);
                }
                free(row);
                free(scratch);
            }
    anemo_checkpoint_close(checkpoint);
    return true;
}
void write_model(int64_t experts) {
    const anemo_hparams h = tiny_hparams(experts);
    tiny_write_directory(folder, &h, ANEMO_GGML_F32);
}

gguf_writer *gguf_model(int64_t experts) {
    const anemo_hparams h = tiny_hparams(experts);
    return tiny_gguf(&h, experts ? ANEMO_NAMING_GGUF_MERGED : ANEMO_NAMING_GGUF, ANEMO_GGML_F32);
}

json_t *write_sharded(const char *file) {
    const anemo_hparams h = tiny_hparams(0);
    safetensors_writer *model = tiny_safetensors(&h, ANEMO_GGML_F32);
    json_t *header = json_loads(safetensors_header(model), 0, NULL), *tensor, *map = json_object();
    const char *name;
    write_model(0);
    remove(tiny_path(folder, "model.safetensors"));
    safetensors_write(model, tiny_path(folder, file));
    json_object_foreach(header, name, tensor) json_object_set_new(map, name, json_string(file));
    json_decref(header);
    safetensors_writer_free(model);
    return json_pack("{s:o}", "weight_map", map);
}

void write_index(json_t *index) {
    char *text = json_dumps(index, 0);
    rewrite(tiny_path(folder, "model.safetensors.index.json"), text, strlen(text));
    free(text);
}
