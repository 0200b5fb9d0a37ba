/* Files that are wrong: each is refused with one sentence that names file, field and value and says
 * what is accepted; none crashes, none gives half a model.
 *
 * First the faults one by one, each with the words that its sentence must hold; then sweeps over
 * small valid files (every truncation, every bit of every header byte, random damage), where a file
 * may still be valid by chance, and is then read to its last value. */
#include "models/formats/gguf.h"
#include "tests/support/bytes.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char *folder;

static int set_up(void **state) {
    (void)state;
    folder = test_folder_create();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

/* A new file each time: truncating an old one and writing it again makes some file systems flush to
 * the disk, which would take minutes over all files here. */
static void rewrite(const char *path, const void *data, size_t bytes) {
    remove(path);
    test_write_file(path, data, bytes);
}

/* ---------------------------------------------------------------- what a refusal must be */

static void check_sentence(const char *text) {
    assert_in_range(strlen(text), 20, sizeof((anemo_error *)0)->text - 2); /* not cut */
    assert_non_null(strstr(text, "; accepted: "));
    for (const char *c = text; *c; ++c)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            fail_msg("control byte in: %s", text);
}

static void check_refusal(const char *path, const char *const *words, size_t n_words) {
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

#define refused(path, ...)                                                                         \
    check_refusal(path, (const char *const[]){__VA_ARGS__},                                        \
                  COUNT(((const char *const[]){__VA_ARGS__})))

/* Opens; if it is a model, reads all of it. */
static bool open_and_read(const char *path) {
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
                anemo_weight weight;
                float *row = malloc((size_t)(h->d + h->ffn + h->heads * h->head_dim) * 4);
                void *scratch =
                    malloc(anemo_weight_scratch_bytes(h->d + h->ffn + h->heads * h->head_dim));
                if (anemo_roles[role].vector)
                    anemo_checkpoint_vector(checkpoint, role, layer, row, h->d, &error);
                else if (role != ANEMO_T_ROUTER || h->experts) {
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

/* ---------------------------------------------------------------- config.json */

static void write_model(int64_t experts) {
    const anemo_hparams h = tiny_hparams(experts);
    tiny_write_directory(folder, &h, ANEMO_GGML_F32);
}

static void write_config(const void *text, size_t bytes) {
    rewrite(tiny_path(folder, "config.json"), text, bytes);
}

/* The tiny config with `edits` merged in and `drop` left out. */
static void edit_config(int64_t experts, const char *edits, const char *drop) {
    const anemo_hparams h = tiny_hparams(experts);
    char *text = tiny_config(&h);
    json_t *config = json_loads(text, 0, NULL), *changes = json_loads(edits, 0, NULL);
    assert_non_null(changes);
    json_object_update(config, changes);
    if (drop)
        assert_int_equal(json_object_del(config, drop), 0);
    char *edited = json_dumps(config, 0);
    write_config(edited, strlen(edited));
    free(edited);
    json_decref(changes);
    json_decref(config);
    free(text);
}

static void config_fields(void **state) {
    (void)state;
    static const struct {
        int64_t experts;
        const char *edits, *drop, *words[3];
    } cases[] = {
        {0, "{}", "model_type", {"model_type is missing", "\"mistral\""}},
        {0, "{\"model_type\":\"gpt2\"}", NULL, {"model_type is \"gpt2\"", "\"mixtral\""}},
        {0, "{\"model_type\":\"Mistral\"}", NULL, {"model_type is \"Mistral\""}},
        {0, "{\"model_type\":7}", NULL, {"model_type is 7"}},
        {0, "{\"model_type\":null}", NULL, {"model_type is null"}},
        {0, "{}", "vocab_size", {"vocab_size is missing", "an integer"}},
        {0, "{}", "hidden_size", {"hidden_size is missing"}},
        {0, "{}", "intermediate_size", {"intermediate_size is missing"}},
        {0, "{}", "num_hidden_layers", {"num_hidden_layers is missing"}},
        {0, "{}", "num_attention_heads", {"num_attention_heads is missing"}},
        {0, "{}", "num_key_value_heads", {"num_key_value_heads is missing"}},
        {0, "{}", "max_position_embeddings", {"max_position_embeddings is missing"}},
        {0, "{}", "rms_norm_eps", {"rms_norm_eps is missing", "a number"}},
        {0, "{}", "rope_theta", {"rope_theta is missing", "1000000"}},
        {0, "{\"rope_theta\":null}", NULL, {"rope_theta is missing"}},
        {0, "{\"rope_parameters\":{}}", "rope_theta", {"rope_theta is missing"}},
        {3, "{}", "num_local_experts", {"num_local_experts is missing"}},
        {3, "{}", "num_experts_per_tok", {"num_experts_per_tok is missing"}},
        {0, "{\"hidden_size\":\"32\"}", NULL, {"hidden_size is \"32\"", "an integer"}},
        {0, "{\"hidden_size\":32.0}", NULL, {"hidden_size is 32.0", "an integer"}},
        {0, "{\"hidden_size\":true}", NULL, {"hidden_size is true"}},
        {0, "{\"hidden_size\":[32]}", NULL, {"hidden_size is [32]"}},
        {0, "{\"hidden_size\":0}", NULL, {"hidden_size is 0", "1 to 1048576"}},
        {0, "{\"hidden_size\":-32}", NULL, {"hidden_size is -32", "1 to 1048576"}},
        {0, "{\"hidden_size\":9223372036854775807}", NULL, {"hidden_size is 9223372036854775807"}},
        {0, "{\"vocab_size\":0}", NULL, {"vocab_size is 0"}},
        {0, "{\"vocab_size\":2147483648}", NULL, {"vocab_size is 2147483648"}},
        {0, "{\"intermediate_size\":-1}", NULL, {"intermediate_size is -1"}},
        {0, "{\"intermediate_size\":99999999}", NULL, {"intermediate_size is 99999999"}},
        {0, "{\"num_hidden_layers\":0}", NULL, {"num_hidden_layers is 0", "1 to 4096"}},
        {0, "{\"num_hidden_layers\":1000000}", NULL, {"num_hidden_layers is 1000000"}},
        {0, "{\"num_attention_heads\":0}", NULL, {"num_attention_heads is 0"}},
        {0, "{\"num_attention_heads\":-4}", NULL, {"num_attention_heads is -4"}},
        {0, "{\"num_attention_heads\":0}", "head_dim", {"num_attention_heads is 0"}},
        {0, "{\"num_attention_heads\":-4}", "head_dim", {"num_attention_heads is -4"}},
        {0, "{\"num_attention_heads\":3}", NULL, {"num_key_value_heads is 2", "divisor", "= 3"}},
        {0, "{\"num_attention_heads\":3}", "head_dim", {"num_attention_heads is 3", "hidden_size"}},
        {0, "{\"num_key_value_heads\":0}", NULL, {"num_key_value_heads is 0"}},
        {0, "{\"num_key_value_heads\":-2}", NULL, {"num_key_value_heads is -2"}},
        {0, "{\"num_key_value_heads\":8}", NULL, {"num_key_value_heads is 8", "divisor", "= 4"}},
        {0, "{\"head_dim\":0}", NULL, {"head_dim is 0"}},
        {0, "{\"head_dim\":15}", NULL, {"head_dim is 15", "even"}},
        {0, "{\"head_dim\":100000}", NULL, {"head_dim is 100000"}},
        {0, "{\"head_dim\":\"16\"}", NULL, {"head_dim is \"16\""}},
        {0, "{\"max_position_embeddings\":0}", NULL, {"max_position_embeddings is 0"}},
        {0, "{\"max_position_embeddings\":1e9}", NULL, {"max_position_embeddings is 1000000000.0"}},
        {0, "{\"rms_norm_eps\":0}", NULL, {"rms_norm_eps is 0", "above 0"}},
        {0, "{\"rms_norm_eps\":-1e-5}", NULL, {"rms_norm_eps is -1e-05"}},
        {0, "{\"rms_norm_eps\":1}", NULL, {"rms_norm_eps is 1"}},
        {0, "{\"rms_norm_eps\":\"1e-5\"}", NULL, {"rms_norm_eps is \"1e-5\""}},
        {0, "{\"rope_theta\":0}", NULL, {"rope_theta is 0", "1 to 1e12"}},
        {0, "{\"rope_theta\":-10000}", NULL, {"rope_theta is -10000"}},
        {0, "{\"rope_theta\":1e300}", NULL, {"rope_theta is 1e+300"}},
        {0, "{\"rope_theta\":\"10000\"}", NULL, {"rope_theta is \"10000\""}},
        {0,
         "{\"rope_parameters\":{\"rope_theta\":5}}",
         NULL,
         {"rope_theta is 10000", "rope_param"}},
        {0, "{\"rope_parameters\":3}", NULL, {"rope_parameters is 3", "an object"}},
        {0,
         "{\"rope_parameters\":{\"rope_theta\":1e4,\"rope_type\":\"yarn\"}}",
         NULL,
         {"rope_parameters.rope_type is \"yarn\"", "\"default\"", "not supported yet"}},
        {0,
         "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}",
         NULL,
         {"rope_scaling.type is \"linear\"", "\"default\""}},
        {0,
         "{\"rope_scaling\":{\"rope_type\":\"llama3\"}}",
         NULL,
         {"rope_scaling.rope_type is \"llama3\""}},
        {0, "{\"rope_scaling\":{\"type\":5}}", NULL, {"rope_scaling.type is 5"}},
        {0, "{\"rope_scaling\":{\"factor\":2}}", NULL, {"rope_scaling is {\"factor\":2}"}},
        {0, "{\"rope_scaling\":\"linear\"}", NULL, {"rope_scaling is \"linear\""}},
        {0,
         "{\"rope_scaling\":{\"partial_rotary_factor\":0.5}}",
         NULL,
         {"rope_scaling.partial_rotary_factor is 0.5"}},
        {0, "{\"partial_rotary_factor\":0.5}", NULL, {"partial_rotary_factor is 0.5"}},
        {0, "{\"sliding_window\":-1}", NULL, {"sliding_window is -1", "0 to 2147483647"}},
        {0, "{\"sliding_window\":\"4096\"}", NULL, {"sliding_window is \"4096\"", "null"}},
        {0, "{\"sliding_window\":[4096]}", NULL, {"sliding_window is [4096]"}},
        {0, "{\"sliding_window\":4294967296}", NULL, {"sliding_window is 4294967296"}},
        {0, "{\"model_type\":\"llama\",\"sliding_window\":64}", NULL, {"sliding_window is 64"}},
        {0, "{\"layer_types\":\"full_attention\"}", NULL, {"layer_types is \"full_attention\""}},
        {0, "{\"layer_types\":[]}", NULL, {"layer_types is []"}},
        {0,
         "{\"layer_types\":[\"sliding_attention\"]}",
         NULL,
         {"layer_types[0] is \"sliding_attention\"", "\"full_attention\"", "mixed"}},
        {0, "{\"tie_word_embeddings\":1}", NULL, {"tie_word_embeddings is 1", "true or false"}},
        {0, "{\"attention_bias\":true}", NULL, {"attention_bias is true", "false"}},
        {0, "{\"mlp_bias\":true}", NULL, {"mlp_bias is true"}},
        {0, "{\"mlp_bias\":\"no\"}", NULL, {"mlp_bias is \"no\""}},
        {0, "{\"hidden_act\":\"gelu\"}", NULL, {"hidden_act is \"gelu\"", "\"silu\""}},
        {0, "{\"hidden_act\":5}", NULL, {"hidden_act is 5"}},
        {0,
         "{\"quantization_config\":{\"quant_method\":\"gptq\"}}",
         NULL,
         {"quantization_config.quant_method is \"gptq\"", "BF16"}},
        {0, "{\"quantization_config\":{}}", NULL, {"quantization_config.quant_method is missing"}},
        {0, "{\"bos_token_id\":8}", NULL, {"bos_token_id is 8", "0 to 7"}},
        {0, "{\"bos_token_id\":-1}", NULL, {"bos_token_id is -1"}},
        {0, "{\"bos_token_id\":[1]}", NULL, {"bos_token_id is [1]"}},
        {0, "{\"eos_token_id\":8}", NULL, {"eos_token_id is 8", "0 to 7"}},
        {0, "{\"eos_token_id\":[2,99]}", NULL, {"eos_token_id is 99"}},
        {0, "{\"eos_token_id\":[2,\"3\"]}", NULL, {"eos_token_id is \"3\""}},
        {0, "{\"eos_token_id\":4294967298}", NULL, {"eos_token_id is 4294967298"}},
        {0, "{\"eos_token_id\":[1,1,1,1,1,1,1,1,1]}", NULL, {"eos_token_id is [1,1,", "at most 8"}},
        {3, "{\"num_local_experts\":0}", NULL, {"num_local_experts is 0", "1 to 4096"}},
        {3, "{\"num_local_experts\":100000}", NULL, {"num_local_experts is 100000"}},
        {3, "{\"num_experts_per_tok\":0}", NULL, {"num_experts_per_tok is 0", "1 to 3"}},
        {3, "{\"num_experts_per_tok\":4}", NULL, {"num_experts_per_tok is 4", "1 to 3"}},
        /* the config is right but the weights say otherwise */
        {0,
         "{\"vocab_size\":9}",
         NULL,
         {"model.safetensors: tensor model.embed_tokens.weight has shape [8, 32]",
          "accepted: [9, 32] (vocabulary, hidden size)"}},
        {0,
         "{\"num_key_value_heads\":4}",
         NULL,
         {"model.layers.0.self_attn.k_proj.weight has shape [32, 32]",
          "accepted: [64, 32] (kv_heads * head_dim, hidden size)"}},
        {0,
         "{\"num_hidden_layers\":2}",
         NULL,
         {"tensor model.layers.1.input_layernorm.weight is "
          "missing"}},
        {3, "{\"num_local_experts\":4}", NULL, {"gate.weight has shape [3, 32]", "[4, 32]"}},
        {3,
         "{\"num_local_experts\":2}",
         NULL,
         {"gate.weight has shape [3, 32]", "[2, 32] (experts, hidden size)"}},
        {3, "{\"model_type\":\"mistral\"}", NULL, {"mlp.gate_proj.weight is missing"}},
        {0,
         "{\"model_type\":\"mixtral\",\"num_local_experts\":2,\"num_experts_per_tok\":1}",
         NULL,
         {"block_sparse_moe.gate.weight is missing"}},
    };
    for (size_t i = 0; i < COUNT(cases); ++i) {
        if (i == 0 || cases[i].experts != cases[i - 1].experts)
            write_model(cases[i].experts);
        edit_config(cases[i].experts, cases[i].edits, cases[i].drop);
        check_refusal(folder, cases[i].words, COUNT(cases[i].words));
        refused(folder, strstr(cases[i].words[0], "tensor") || strstr(cases[i].words[0], "weight")
                            ? folder
                            : "config.json: ");
    }
}

static void config_bytes(void **state) {
    (void)state;
    const anemo_hparams h = tiny_hparams(0);
    char *right = tiny_config(&h);
    const size_t bytes = strlen(right);
    write_model(0);
    for (size_t n = 1; n < bytes; ++n) {
        write_config(right, n);
        refused(folder, "config.json: line 1");
    }
    write_config(right, 0);
    refused(folder, "config.json: is empty", "a readable regular file");
    write_config("[]", 2);
    refused(folder, "config.json: is []", "one JSON object");
    write_config("\"mistral\"", 9);
    refused(folder, "config.json: is \"mistral\"");
    static const char *const texts[][2] = {
        {"{\"hidden_size\":32,\"hidden_size\":32}", "duplicate object key"},
        {"{\"model_type\":\"mis\xfftral\"}", "unable to decode byte 0xff"},
        {"{\"model_type\":\"\xc0\x80\"}", "unable to decode byte 0xc0"},
        {"{\"hidden_size\":99999999999999999999}", "too big integer"},
        {"{\"rms_norm_eps\":1e999}", "real number overflow"},
        {"{} trailing", "end of file expected"},
        {"{'hidden_size':32}", "string or '}' expected"},
        {"\xef\xbb\xbf{}", "invalid token"},
    };
    for (size_t i = 0; i < COUNT(texts); ++i) {
        write_config(texts[i][0], strlen(texts[i][0]));
        refused(folder, "config.json: line 1", texts[i][1], "one JSON object in UTF-8");
    }
    write_config("{\"a\":1}\0", 8);
    refused(folder, "config.json: line 1");
    byte_string deep = {0};
    for (int i = 0; i < 5000; ++i)
        bytes_append_text(&deep, "{\"a\":");
    write_config(deep.bytes, deep.n);
    refused(folder, "maximum parsing depth reached");
    deep.n = 0;
    while (deep.n <= 1 << 20)
        bytes_append_text(&deep,
                          "                                                                ");
    write_config(deep.bytes, deep.n);
    refused(folder, "config.json: the file has 1048640 bytes", "at most 1048576");
    free(deep.bytes);
    free(right);
}

static void paths(void **state) {
    (void)state;
    char *config = strdup(tiny_path(folder, "config.json"));
    refused(tiny_path(folder, "absent"), "absent: there is no such model", "synth:PRESET:TYPE");
    refused("", "there is no such model");
    refused(folder, "config.json: No such file or directory");
    mkdir(config, 0777);
    refused(folder, "config.json: is not a regular file");
    rmdir(config);
    assert_int_equal(mkfifo(config, 0666), 0);
    refused(folder, "config.json: is not a regular file");
    unlink(config);
    write_model(0);
    remove(tiny_path(folder, "model.safetensors"));
    refused(folder, folder, "no weights", "model.safetensors.index.json");
    write_model(0);
    refused(config, "config.json: magic is 7b 22 6d 6f", "GGUF", "directory");
    refused(tiny_path(folder, "model.safetensors"), "magic is", "opened by its directory");
    /* a path that would fill the sentence keeps its end */
    char path[2000];
    memset(path, 'x', sizeof path);
    strcpy(path + sizeof path - 8, "/a\x1b[2Jb");
    refused(path, "xxx", "there is no such model");
    free(config);
}

/* ---------------------------------------------------------------- safetensors */

/* The tiny model's header with the first `old` replaced by `new`, over the unchanged data. */
static void edit_header(safetensors_writer *model, const char *old, const char *new_text) {
    const char *header = safetensors_header(model), *at = strstr(header, old);
    byte_string edited = {0};
    size_t data_bytes;
    const uint8_t *data = safetensors_data(model, &data_bytes);
    if (!at)
        fail_msg("the header has no %s", old);
    bytes_append(&edited, header, (size_t)(at - header));
    bytes_append_text(&edited, new_text);
    bytes_append_text(&edited, at + strlen(old));
    safetensors_write_parts(tiny_path(folder, "model.safetensors"), (const char *)edited.bytes,
                            edited.n, data, data_bytes);
    free(edited.bytes);
}

#define EMBED                                                                                      \
    "\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":[8,32],\"data_offsets\":[0,1024]}"
#define NORM "\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[1024,1152]}"
#define NORM_OF(dtype, shape, offsets)                                                             \
    "\"model.norm.weight\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void safetensors_headers(void **state) {
    (void)state;
    static const struct {
        const char *old, *new_text, *words[3];
    } cases[] = {
        {NORM, NORM_OF("\"F33\"", "[32]", "[1024,1152]"), {"dtype is \"F33\"", "BF16"}},
        {NORM, NORM_OF("\"f32\"", "[32]", "[1024,1152]"), {"dtype is \"f32\""}},
        {NORM, NORM_OF("32", "[32]", "[1024,1152]"), {"dtype is 32"}},
        {NORM, NORM_OF("null", "[32]", "[1024,1152]"), {"dtype is null"}},
        {NORM, NORM_OF("\"I32\"", "[32]", "[1024,1152]"), {"has type I32", "F32, F16, BF16"}},
        {NORM, NORM_OF("\"F64\"", "[16]", "[1024,1152]"), {"has type F64"}},
        {NORM, NORM_OF("\"F8_E4M3\"", "[128]", "[1024,1152]"), {"has type F8_E4M3"}},
        {NORM, NORM_OF("\"F4\"", "[256]", "[1024,1152]"), {"has type F4"}},
        {NORM, NORM_OF("\"F4\"", "[255]", "[1024,1152]"), {"shape is [255]", "whole bytes"}},
        {NORM,
         NORM_OF("\"BF16\"", "[64]", "[1024,1152]"),
         {"has shape [64]", "[32] (hidden size)"}},
        {NORM,
         NORM_OF("\"F32\"", "[31]", "[1024,1152]"),
         {"data_offsets is [1024,1152]", "124 bytes"}},
        {NORM, NORM_OF("\"F32\"", "[33]", "[1024,1152]"), {"data_offsets", "132 bytes"}},
        {NORM, NORM_OF("\"F32\"", "[1,32]", "[1024,1152]"), {"has shape [1, 32]"}},
        {NORM, NORM_OF("\"F32\"", "[]", "[1024,1152]"), {"data_offsets", "4 bytes"}},
        {NORM, NORM_OF("\"F32\"", "32", "[1024,1152]"), {"shape is 32", "an array"}},
        {NORM, NORM_OF("\"F32\"", "[32.0]", "[1024,1152]"), {"shape is [32.0]"}},
        {NORM, NORM_OF("\"F32\"", "[\"32\"]", "[1024,1152]"), {"shape is [\"32\"]"}},
        {NORM, NORM_OF("\"F32\"", "[-32]", "[1024,1152]"), {"shape is [-32]", "0 or more"}},
        {NORM, NORM_OF("\"F32\"", "[-4,-8]", "[1024,1152]"), {"shape is [-4,-8]"}},
        {NORM,
         NORM_OF("\"F32\"", "[1,1,1,1,1,1,1,1,32]", "[1024,1152]"),
         {"shape is [1,1,", "at most 8"}},
        /* products that wrap to 32 in 64 bits */
        {NORM,
         NORM_OF("\"F32\"", "[4611686018427387904,8]", "[1024,1152]"),
         {"shape is [4611686018427387904,8]", "64 bits"}},
        {NORM,
         NORM_OF("\"F32\"", "[4294967296,4294967296,32]", "[1024,1152]"),
         {"shape is [4294967296", "64 bits"}},
        {NORM, NORM_OF("\"F32\"", "[32]", "[1152,1024]"), {"data_offsets is [1152,1024]", "begin"}},
        {NORM, NORM_OF("\"F32\"", "[32]", "[-128,0]"), {"data_offsets is [-128,0]"}},
        {NORM, NORM_OF("\"F32\"", "[32]", "[1024]"), {"data_offsets is [1024]"}},
        {NORM,
         NORM_OF("\"F32\"", "[32]", "[1024,1152,1280]"),
         {"data_offsets is [1024,1152,1280]"}},
        {NORM, NORM_OF("\"F32\"", "[32]", "{}"), {"data_offsets is {}"}},
        {NORM, NORM_OF("\"F32\"", "[32]", "[1024,\"1152\"]"), {"data_offsets is [1024,\"1152\"]"}},
        {NORM, NORM_OF("\"F32\"", "[32]", "[1024.0,1152.0]"), {"data_offsets is [1024.0,1152.0]"}},
        {NORM,
         NORM_OF("\"F32\"", "[32]", "[9223372036854775679,9223372036854775807]"),
         {"data_offsets is [9223372036854775679", "data bytes"}},
        {NORM, NORM_OF("\"F32\"", "[32]", "[1020,1148]"), {"begin at 1020", "an overlap", "1024"}},
        {NORM, NORM_OF("\"F32\"", "[32]", "[1028,1156]"), {"begin at 1028", "a hole", "1024"}},
        {NORM, NORM_OF("\"F32\"", "[32]", "[0,128]"), {"an overlap"}},
        {NORM, "\"model.norm.weight\":[]", {"model.norm.weight is []", "an object"}},
        {NORM, "\"model.norm.weight\":{}", {"model.norm.weight: dtype is missing"}},
        {NORM,
         "\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[32]}",
         {"data_offsets is missing"}},
        {NORM,
         "\"model.norm.weight\":{\"dtype\":\"F32\",\"data_offsets\":[1024,1152]}",
         {"shape is missing"}},
        {NORM,
         "\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[1024,1152],"
         "\"codec\":\"zip\"}",
         {"has 4 fields"}},
        {NORM,
         "\"model.norm.weight\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[32],"
         "\"data_offsets\":[1024,1152]}",
         {"header line 1", "duplicate object key"}},
        {NORM, EMBED, {"duplicate object key", "each key once"}},
        {EMBED ",", "", {"tensor model.norm.weight: data_offsets begin at 1024", "a hole"}},
        {"model.norm.weight", "model.norm.wEight", {"tensor model.norm.weight is missing"}},
        {"model.norm.weight", "model.norm.we\xffght", {"unable to decode byte 0xff"}},
        {"model.norm.weight", "a\\u0000b", {"\\u0000"}},
        {"model.norm.weight", "a\\u001b[2J\\u0007", {"tensor model.norm.weight is missing"}},
        {"{", "{\"__metadata__\":5,", {"__metadata__ is 5", "strings"}},
        {"{", "{\"__metadata__\":{\"format\":5},", {"__metadata__.format is 5", "a string"}},
        {"{", " {", {"header starts with byte 0x20", "0x7b"}},
        {"{", "[{", {"header starts with byte 0x5b"}},
        {"{\"model", "{\"model\":{\"model", {"header line 1"}},
    };
    const anemo_hparams h = tiny_hparams(0);
    safetensors_writer *model = tiny_safetensors(&h, ANEMO_GGML_F32);
    write_model(0);
    for (size_t i = 0; i < COUNT(cases); ++i) {
        edit_header(model, cases[i].old, cases[i].new_text);
        check_refusal(folder, cases[i].words, COUNT(cases[i].words));
        refused(folder, strstr(cases[i].words[0], "is missing") ? folder : "model.safetensors: ");
    }
    /* what the format allows stays allowed */
    edit_header(model, "{", "{\"__metadata__\":{\"format\":\"pt\"},");
    assert_true(open_and_read(folder));
    edit_header(model, "\"F32\",\"shape\":[8,32]", "\"F32\" , \"shape\" : [8,32]");
    assert_true(open_and_read(folder));
    safetensors_writer_free(model);
}

static void safetensors_lengths(void **state) {
    (void)state;
    const anemo_hparams h = tiny_hparams(0);
    safetensors_writer *model = tiny_safetensors(&h, ANEMO_GGML_F32);
    const char *path = tiny_path(folder, "model.safetensors");
    size_t bytes;
    write_model(0);
    uint8_t *right = (uint8_t *)test_read_file(path, &bytes);
    static const struct {
        uint64_t length;
        const char *words[2];
    } cases[] = {
        {0, {"header length is 0", "accepted: 2 to"}},
        {1, {"header length is 1;"}},
        {UINT64_MAX, {"header length is 18446744073709551615"}},
        {UINT64_MAX - 7, {"header length is 18446744073709551608"}},
        {UINT64_C(1) << 63, {"header length is 9223372036854775808"}},
        {UINT64_C(1) << 31, {"header length is 2147483648"}},
        {50000000, {"header length is 50000000"}},
        {2, {"header line 1"}},
    };
    for (size_t i = 0; i < COUNT(cases); ++i) {
        uint8_t *wrong = malloc(bytes);
        memcpy(wrong, right, bytes);
        for (int b = 0; b < 8; ++b)
            wrong[b] = (uint8_t)(cases[i].length >> 8 * b);
        rewrite(path, wrong, bytes);
        check_refusal(folder, cases[i].words, COUNT(cases[i].words));
        free(wrong);
    }
    /* a file that is long enough (sparse), so that only the format's own limit speaks */
    rewrite(path, "\1\xe1\xf5\5\0\0\0\0{", 9);
    assert_int_equal(truncate(path, 200000000), 0);
    refused(folder, "header length is 100000001", "2 to 100000000");
    byte_string longer = {0};
    bytes_append(&longer, right, bytes);
    bytes_append_number(&longer, 0, 1);
    rewrite(path, longer.bytes, longer.n);
    refused(folder, "model.safetensors: the file has 1 bytes after its last tensor", "accepted: 0");
    for (size_t n = 0; n < bytes; n += n < 4096 ? 1 : 97) {
        rewrite(path, right, n);
        refused(folder, "model.safetensors: ");
    }
    free(longer.bytes);
    free(right);
    safetensors_writer_free(model);
}

/* Each tensor of each architecture left out, in both containers; one too many. */
static void missing_and_extra_tensors(void **state) {
    (void)state;
    for (int experts = 0; experts <= 3; experts += 3) {
        const anemo_hparams h = tiny_hparams(experts);
        safetensors_writer *model = tiny_safetensors(&h, ANEMO_GGML_F32);
        json_t *header = json_loads(safetensors_header(model), 0, NULL), *tensor;
        const char *name;
        write_model(experts);
        json_object_foreach(header, name, tensor) {
            char old[160], words[160];
            snprintf(old, sizeof old, "\"%s\"", name);
            snprintf(words, sizeof words, "%s: tensor %s is missing", folder, name);
            edit_header(model, old, "\"lost\"");
            refused(folder, words);
        }
        json_decref(header);
        safetensors_writer_free(model);
        gguf_writer *gguf =
            tiny_gguf(&h, experts ? ANEMO_NAMING_GGUF_MERGED : ANEMO_NAMING_GGUF, ANEMO_GGML_F32);
        const char *path = tiny_path(folder, "lost.gguf");
        for (int role = 0; role < ANEMO_T_COUNT; ++role) {
            char role_name[ANEMO_ROLE_NAME_BYTES], words[200];
            anemo_role_name(experts ? ANEMO_NAMING_GGUF_MERGED : ANEMO_NAMING_GGUF, role, 0, 0,
                            role_name);
            gguf_tensor_fields *fields = gguf_tensor(gguf, role_name);
            if (!fields || role == ANEMO_T_OUTPUT) /* without output.weight: tied */
                continue;
            strcpy(fields->name, "lost");
            gguf_write(gguf, path);
            strcpy(fields->name, role_name);
            /* the merged gate is also what says that experts are merged */
            snprintf(words, sizeof words, "tensor %s is missing",
                     role == ANEMO_T_GATE && experts ? "blk.0.ffn_gate.0.weight" : role_name);
            refused(path, path, words);
        }
        gguf_writer_free(gguf);
    }
    safetensors_writer *extra;
    static const char *const names[] = {"model.layers.0.self_attn.q_proj.bias",
                                        "model.layers.0.self_attn.q_norm.weight",
                                        "model.layers.1.input_layernorm.weight", "score.weight"};
    for (size_t i = 0; i < COUNT(names); ++i) {
        const anemo_hparams h = tiny_hparams(0);
        write_model(0);
        extra = tiny_safetensors(&h, ANEMO_GGML_F32);
        safetensors_add(extra, names[i], "F32", 1, (const int64_t[]){1}, "\0\0\0", 4);
        safetensors_write(extra, tiny_path(folder, "model.safetensors"));
        safetensors_writer_free(extra);
        refused(folder, "model.safetensors: tensor ", names[i], "not part of the architecture");
    }
}

/* ---------------------------------------------------------------- shards */

/* A model whose only shard is `file`, listed in the index as it should be. */
static json_t *write_sharded(const char *file) {
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

static void write_index(json_t *index) {
    char *text = json_dumps(index, 0);
    rewrite(tiny_path(folder, "model.safetensors.index.json"), text, strlen(text));
    free(text);
}

static void shards(void **state) {
    (void)state;
    static const struct {
        const char *tensor, *file; /* JSON */
        const char *words[3];
    } cases[] = {
        {"lm_head.weight", "\"absent.safetensors\"", {"absent.safetensors: No such file"}},
        {"lm_head.weight",
         "\"b.safetensors\"",
         {"weight_map.lm_head.weight is b.safetensors", "in a.safetensors"}},
        {"ghost.weight",
         "\"a.safetensors\"",
         {"weight_map.ghost.weight is a.safetensors", "in no shard"}},
        {"lm_head.weight", "\"../a.safetensors\"", {"\"../a.safetensors\"", "same directory"}},
        {"lm_head.weight", "\"/etc/passwd\"", {"\"/etc/passwd\"", "same directory"}},
        {"lm_head.weight", "\"x/a.safetensors\"", {"\"x/a.safetensors\""}},
        {"lm_head.weight", "\"..\"", {"weight_map.lm_head.weight is \"..\""}},
        {"lm_head.weight", "\".hidden\"", {"\".hidden\""}},
        {"lm_head.weight", "\"a..safetensors\"", {"\"a..safetensors\"", "same directory"}},
        {"lm_head.weight", "\"\"", {"weight_map.lm_head.weight is \"\""}},
        {"lm_head.weight", "7", {"weight_map.lm_head.weight is 7"}},
        {"lm_head.weight", "null", {"weight_map.lm_head.weight is null"}},
    };
    for (size_t i = 0; i < COUNT(cases); ++i) {
        json_t *index = write_sharded("a.safetensors");
        json_t *file = json_loads(cases[i].file, JSON_DECODE_ANY, NULL);
        safetensors_writer *empty = safetensors_writer_create(); /* a valid file of no tensors */
        safetensors_write(empty, tiny_path(folder, "b.safetensors"));
        safetensors_writer_free(empty);
        write_index(index);
        assert_true(open_and_read(folder));
        json_object_set_new(json_object_get(index, "weight_map"), cases[i].tensor, file);
        write_index(index);
        check_refusal(folder, cases[i].words, COUNT(cases[i].words));
        json_decref(index);
    }
    json_t *index = write_sharded("a.safetensors");
    json_object_del(json_object_get(index, "weight_map"), "lm_head.weight");
    write_index(index);
    refused(folder, "a.safetensors: tensor lm_head.weight is not in weight_map");
    json_decref(index);

    /* one tensor in two shards */
    const anemo_hparams h = tiny_hparams(0);
    index = write_sharded("a.safetensors");
    safetensors_writer *twice = tiny_safetensors(&h, ANEMO_GGML_F32);
    safetensors_write(twice, tiny_path(folder, "b.safetensors"));
    safetensors_writer_free(twice);
    json_object_set_new(json_object_get(index, "weight_map"), "model.norm.weight",
                        json_string("b.safetensors"));
    write_index(index);
    refused(folder, "is there twice", "a.safetensors", "b.safetensors");
    json_decref(index);

    static const char *const indices[][2] = {
        {"{}", "weight_map is missing"},
        {"{\"weight_map\":[]}", "weight_map is []"},
        {"{\"weight_map\":{}}", "weight_map names 0 files"},
        {"{\"weight_map\":{\"a\":\"x\",\"a\":\"x\"}}", "duplicate object key"},
        {"{\"weight_map\":{\"a\xff\":\"x\"}}", "unable to decode byte 0xff"},
        {"{\"weight_map\":", "line 1"},
        {"[]", "is []"},
    };
    for (size_t i = 0; i < COUNT(indices); ++i) {
        rewrite(tiny_path(folder, "model.safetensors.index.json"), indices[i][0],
                strlen(indices[i][0]));
        refused(folder, "model.safetensors.index.json: ", indices[i][1]);
    }
}

/* ---------------------------------------------------------------- GGUF */

static gguf_writer *gguf_model(int64_t experts) {
    const anemo_hparams h = tiny_hparams(experts);
    return tiny_gguf(&h, experts ? ANEMO_NAMING_GGUF_MERGED : ANEMO_NAMING_GGUF, ANEMO_GGML_F32);
}

static void gguf_keys(void **state) {
    (void)state;
    static const struct {
        int64_t experts;
        const char *drop;
        char kind; /* u u32, f f32, s string, b bool, - nothing */
        const char *key;
        double number;
        const char *text, *words[3];
    } cases[] = {
        {0, "general.architecture", '-', "", 0, "", {"general.architecture is missing", "llama"}},
        {0, "general.architecture", 's', "general.architecture", 0, "gpt2", {"is gpt2", "llama"}},
        {0, "general.architecture", 'u', "general.architecture", 3, "", {"architecture is 3"}},
        {0, NULL, 's', "general.type", 0, "adapter", {"general.type is adapter", "model"}},
        {0, NULL, 'u', "split.count", 3, "", {"split.count is 3", "not supported yet"}},
        {0, NULL, 's', "split.count", 0, "3", {"split.count is 3", "an integer"}},
        {0, "llama.embedding_length", '-', "", 0, "", {"llama.embedding_length is missing"}},
        {0,
         "llama.embedding_length",
         'f',
         "llama.embedding_length",
         32,
         "",
         {"length is 32", "int"}},
        {0,
         "llama.embedding_length",
         'u',
         "llama.embedding_length",
         0,
         "",
         {"length is 0", "1 to"}},
        {0,
         "llama.embedding_length",
         'u',
         "llama.embedding_length",
         4294967295,
         "",
         {"4294967295"}},
        {0, "llama.feed_forward_length", '-', "", 0, "", {"llama.feed_forward_length is missing"}},
        {0, "llama.feed_forward_length", 'u', "llama.feed_forward_length", 0, "", {"length is 0"}},
        {0, "llama.block_count", '-', "", 0, "", {"llama.block_count is missing"}},
        {0, "llama.block_count", 'u', "llama.block_count", 0, "", {"block_count is 0"}},
        {0, "llama.block_count", 'u', "llama.block_count", 5000, "", {"block_count is 5000"}},
        {0,
         "llama.block_count",
         'u',
         "llama.block_count",
         2,
         "",
         {"blk.1.attn_norm.weight is mis"}},
        {0, "llama.context_length", '-', "", 0, "", {"llama.context_length is missing"}},
        {0,
         "llama.attention.head_count",
         '-',
         "",
         0,
         "",
         {"llama.attention.head_count is missing"}},
        {0, "llama.attention.head_count", 'u', "llama.attention.head_count", 0, "", {"count is 0"}},
        {0,
         "llama.attention.head_count",
         'u',
         "llama.attention.head_count",
         3,
         "",
         {"kv is 2", "3"}},
        {0, "llama.attention.head_count_kv", 'u', "llama.attention.head_count_kv", 0, "", {"is 0"}},
        {0, "llama.attention.head_count_kv", '-', "", 0, "", {"attn_k.weight has shape [32, 32]"}},
        {0, "llama.attention.key_length", 'u', "llama.attention.key_length", 15, "", {"is 15"}},
        {0, "llama.attention.key_length", '-', "", 0, "", {"attn_q.weight has shape", "[32, 32]"}},
        {0, NULL, 'u', "llama.attention.value_length", 8, "", {"value_length is 8"}},
        {0, NULL, 'u', "llama.rope.dimension_count", 8, "", {"dimension_count is 8", "partial"}},
        {0, NULL, 's', "llama.rope.scaling.type", 0, "yarn", {"scaling.type is yarn", "none"}},
        {0, NULL, 'f', "llama.rope.scaling.factor", 4, "", {"scaling.factor is 4"}},
        {0, NULL, 'f', "llama.rope.scale_linear", 4, "", {"scale_linear is 4"}},
        {0, NULL, 's', "llama.rope.scale_linear", 4, "1", {"scale_linear is 1"}},
        {0, "llama.rope.freq_base", 'f', "llama.rope.freq_base", 0, "", {"freq_base is 0"}},
        {0, "llama.rope.freq_base", 'f', "llama.rope.freq_base", -1, "", {"freq_base is -1"}},
        {0,
         "llama.rope.freq_base",
         'u',
         "llama.rope.freq_base",
         9,
         "",
         {"freq_base is 9", "float"}},
        {0, "llama.attention.layer_norm_rms_epsilon", '-', "", 0, "", {"rms_epsilon is missing"}},
        {0,
         "llama.attention.layer_norm_rms_epsilon",
         'f',
         "llama.attention.layer_norm_rms_epsilon",
         2,
         "",
         {"rms_epsilon is 2"}},
        {0, NULL, 's', "llama.attention.sliding_window", 0, "4096", {"sliding_window is 4096"}},
        {0, NULL, 'u', "llama.attention.sliding_window", 4294967295, "", {"window is 4294967295"}},
        {0, NULL, 'u', "llama.attention.sliding_window_pattern", 4, "", {"pattern is 4", "mixed"}},
        {0, NULL, 'b', "llama.attention.causal", 0, "", {"causal is false", "true"}},
        {0, NULL, 'f', "llama.attention.scale", 0.5, "", {"attention.scale is 0.5"}},
        {0, NULL, 'f', "llama.logit_scale", 0.5, "", {"logit_scale is 0.5"}},
        {0, NULL, 'u', "llama.expert_count", 4, "", {"llama.expert_used_count is missing"}},
        {3, "llama.expert_used_count", '-', "", 0, "", {"llama.expert_used_count is missing"}},
        {3, "llama.expert_used_count", 'u', "llama.expert_used_count", 4, "", {"is 4", "1 to 3"}},
        {3, "llama.expert_used_count", 'u', "llama.expert_used_count", 0, "", {"is 0"}},
        {3, "llama.expert_count", 'u', "llama.expert_count", 4, "", {"[3, 32]", "[4, 32]"}},
        {3, "llama.expert_count", 'u', "llama.expert_count", 99999, "", {"expert_count is 99999"}},
        {3, "llama.expert_count", '-', "", 0, "", {"blk.0.ffn_gate.weight is missing"}},
        {3, NULL, 'u', "llama.expert_shared_count", 1, "", {"expert_shared_count is 1"}},
        {3, NULL, 'u', "llama.expert_gating_func", 2, "", {"expert_gating_func is 2", "softmax"}},
        {3, NULL, 'f', "llama.expert_weights_scale", 2.5, "", {"expert_weights_scale is 2.5"}},
        {3, NULL, 'b', "llama.expert_weights_norm", 0, "", {"expert_weights_norm is false"}},
        {0, "llama.vocab_size", 'u', "llama.vocab_size", 0, "", {"llama.vocab_size is 0"}},
        {0, "llama.vocab_size", 'u', "llama.vocab_size", 9, "", {"[8, 32]", "[9, 32]"}},
        {0,
         "tokenizer.ggml.bos_token_id",
         'u',
         "tokenizer.ggml.bos_token_id",
         8,
         "",
         {"is 8", "7"}},
        {0,
         "tokenizer.ggml.eos_token_id",
         'u',
         "tokenizer.ggml.eos_token_id",
         8,
         "",
         {"is 8", "7"}},
        {0, NULL, 'u', "tokenizer.ggml.eot_token_id", 4294967295, "", {"eot_token_id is 429496"}},
        {0, NULL, 'u', "llama.block_count", 1, "", {"key llama.block_count is there twice"}},
        {0, NULL, 'u', "general.alignment", 0, "", {"general.alignment is 0", "power of two"}},
        {0, NULL, 'u', "general.alignment", 24, "", {"general.alignment is 24", "power of two"}},
        {0, NULL, 'u', "general.alignment", 2147483648, "", {"alignment is 2147483648"}},
        {0, NULL, 's', "general.alignment", 0, "32", {"general.alignment is 0 (value type 8)"}},
        {0, NULL, 's', "general.name", 0, "\xff\xfe", {"general.name is not UTF-8"}},
        {0, NULL, 's', "llama.\xc3\xa9", 0, "x", {"a key holds byte 0xc3", "printable ASCII"}},
        {0, NULL, 's', "llama.\n", 0, "x", {"a key holds byte 0x0a"}},
        {0, NULL, 's', "", 0, "x", {"a key has 0 bytes"}},
    };
    const char *path = tiny_path(folder, "bad.gguf");
    for (size_t i = 0; i < COUNT(cases); ++i) {
        gguf_writer *writer = gguf_model(cases[i].experts);
        if (cases[i].drop)
            gguf_drop(writer, cases[i].drop);
        if (cases[i].kind == 'u')
            gguf_add_u32(writer, cases[i].key, (uint32_t)cases[i].number);
        else if (cases[i].kind == 'f')
            gguf_add_f32(writer, cases[i].key, (float)cases[i].number);
        else if (cases[i].kind == 'b')
            gguf_add_bool(writer, cases[i].key, cases[i].number != 0);
        else if (cases[i].kind == 's')
            gguf_add_string(writer, cases[i].key, cases[i].text);
        gguf_write(writer, path);
        gguf_writer_free(writer);
        check_refusal(path, cases[i].words, COUNT(cases[i].words));
        refused(path, "bad.gguf: ");
    }
}

/* Values whose bytes are wrong: unknown types, arrays too long, too deep, of unknown things. */
static void gguf_values(void **state) {
    (void)state;
#define ARRAY_OF(type, count) type "\0\0\0" count
#define COUNT_1               "\1\0\0\0\0\0\0\0"
#define NESTED                ARRAY_OF("\11", COUNT_1)
    static const struct {
        uint32_t type;
        const char *bytes;
        size_t n;
        const char *words[3];
    } cases[] = {
        {13, "\0", 1, {"key x has value type 13", "0 to 12"}},
        {0xffffffff, "\0", 1, {"value type 4294967295"}},
        {7, "\2", 1, {"key x is bool 2", "0 or 1"}},
        {8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, {"key x", "18446744073709551615 bytes", "ends"}},
        {8, "\0\0\0\0\0\0\0\x80", 8, {"9223372036854775808 bytes"}},
        {8, "\0\0\0\0\1\0\0\0", 8, {"4294967296 bytes"}},
        {9, ARRAY_OF("\15", COUNT_1), 12, {"key x has value type 13"}},
        {9, ARRAY_OF("\0", "\xff\xff\xff\xff\xff\xff\xff\xff"), 12, {"18446744073709551615 bytes"}},
        {9, ARRAY_OF("\4", "\1\0\0\0\0\0\0\x40"), 12, {"key x at byte", "18446744073709551615"}},
        {9, ARRAY_OF("\14", "\0\0\0\0\0\0\0\x20"), 12, {"key x at byte", "18446744073709551615"}},
        {9, ARRAY_OF("\10", "\xff\xff\xff\xff\xff\xff\xff\x7f"), 12, {"key x at byte", "ends"}},
        {9, NESTED NESTED NESTED NESTED NESTED, 60, {"key x nests arrays 5 deep", "at most 4"}},
    };
    const char *path = tiny_path(folder, "bad.gguf");
    for (size_t i = 0; i < COUNT(cases); ++i) {
        gguf_writer *writer = gguf_model(0);
        gguf_add_raw(writer, "x", cases[i].type, cases[i].bytes, cases[i].n);
        gguf_write(writer, path);
        gguf_writer_free(writer);
        check_refusal(path, cases[i].words, COUNT(cases[i].words));
    }
    /* arrays where numbers are wanted */
    const int32_t uneven[2] = {2, 1};
    gguf_writer *writer = gguf_model(0);
    gguf_drop(writer, "llama.attention.head_count_kv");
    gguf_add_i32s(writer, "llama.attention.head_count_kv", uneven, 2);
    gguf_write(writer, path);
    refused(path, "head_count_kv is an array of 2 values", "the same number for every layer");
    gguf_drop(writer, "llama.attention.head_count_kv");
    gguf_add_i32s(writer, "llama.attention.head_count_kv", uneven, 0);
    gguf_write(writer, path);
    refused(path, "head_count_kv is an array of 0 values");
    gguf_drop(writer, "llama.attention.head_count_kv");
    gguf_add_f32s(writer, "llama.attention.head_count_kv", (const float[]){2}, 1);
    gguf_write(writer, path);
    refused(path, "head_count_kv is an array of 1 values", "32-bit integers");
    gguf_drop(writer, "llama.attention.head_count_kv");
    gguf_add_raw(writer, "llama.attention.head_count_kv", 10, "\0\0\0\0\0\0\0\x80", 8);
    gguf_write(writer, path);
    refused(path, "head_count_kv is 9223372036854775808", "an integer");
    gguf_drop(writer, "llama.attention.head_count_kv");
    gguf_add_raw(writer, "llama.attention.head_count_kv", 11, "\xff\xff\xff\xff\xff\xff\xff\xff",
                 8);
    gguf_write(writer, path);
    refused(path, "head_count_kv is -1", "1 to");
    gguf_writer_free(writer);
}

static void gguf_tensors(void **state) {
    (void)state;
    enum { NAME, RANK, TYPE, SIZE, OFFSET };
    static const struct {
        int field, index;
        uint64_t value;
        const char *words[3];
    } cases[] = {
        {RANK, 0, 0, {"tensor output_norm.weight has 0 dimensions", "1 to 4"}},
        {RANK, 0, 5, {"has 5 dimensions"}},
        {RANK, 0, 4294967295, {"has 4294967295 dimensions"}},
        {TYPE, 0, 1000, {"element type 1000, which is unknown", "Q4_0"}},
        {TYPE, 0, 4, {"element type 4"}},
        {TYPE, 0, 24, {"has type I8, which is not supported", "F32, F16, BF16"}},
        {TYPE, 0, 8, {"has type Q8_0, which is not supported"}},
        {TYPE, 0, 14, {"rows of 32 values", "multiples of 256 in Q6_K"}},
        {TYPE, 0, 28, {"overlaps tensor"}},
        {SIZE, 0, 31, {"has shape [31]", "[32] (hidden size)"}},
        {SIZE, 0, 0, {"has size 0 in dimension 0"}},
        {SIZE, 0, UINT64_MAX, {"has size 18446744073709551615"}},
        {SIZE, 0, UINT64_C(1) << 62, {"offset", "accepted: an end within"}},
        {SIZE, 0, 1 << 20, {"4194304 bytes", "data bytes of the file"}},
        {OFFSET, 0, 1, {"offset 1;", "multiples of general.alignment = 32"}},
        {OFFSET, 0, 0, {"overlaps tensor"}},
        {OFFSET, 0, UINT64_MAX - 31, {"has offset 18446744073709551584"}},
        {OFFSET, 0, UINT64_C(1) << 40, {"has offset 1099511627776 and 128 bytes"}},
    };
    const char *path = tiny_path(folder, "bad.gguf");
    for (size_t i = 0; i < COUNT(cases); ++i) {
        gguf_writer *writer = gguf_model(0);
        gguf_tensor_fields *fields = gguf_tensor(writer, "output_norm.weight");
        if (cases[i].field == RANK)
            fields->rank = (uint32_t)cases[i].value;
        else if (cases[i].field == TYPE)
            fields->type = (uint32_t)cases[i].value;
        else if (cases[i].field == SIZE)
            fields->sizes[cases[i].index] = cases[i].value;
        else
            fields->offset = cases[i].value;
        gguf_write(writer, path);
        gguf_writer_free(writer);
        check_refusal(path, cases[i].words, COUNT(cases[i].words));
        refused(path, "bad.gguf: ");
    }
    /* sizes whose product overflows */
    gguf_writer *writer = gguf_model(0);
    gguf_tensor_fields *fields = gguf_tensor(writer, "blk.0.attn_q.weight");
    fields->sizes[0] = fields->sizes[1] = UINT64_C(1) << 32;
    gguf_write(writer, path);
    refused(path, "blk.0.attn_q.weight has size 4294967296 in dimension 1", "below 2^63");
    fields->sizes[0] = 64;
    fields->sizes[1] = 32; /* [64, 32] in GGUF order is [32, 64] */
    gguf_write(writer, path);
    refused(path, "blk.0.attn_q.weight has shape [32, 64]; accepted: [64, 32]");
    fields->sizes[0] = 32;
    fields->sizes[1] = 64;
    /* names */
    strcpy(fields->name, "output_norm.weight");
    gguf_write(writer, path);
    refused(path, "tensor output_norm.weight is there twice");
    strcpy(fields->name, "");
    gguf_write(writer, path);
    refused(path, "a tensor name has 0 bytes", "1 to 64");
    memset(fields->name, 'x', 65);
    fields->name[65] = '\0';
    gguf_write(writer, path);
    refused(path, "a tensor name has 65 bytes");
    strcpy(fields->name, "blk.0.attn_\xff");
    gguf_write(writer, path);
    refused(path, "a tensor name holds byte 0xff");
    strcpy(fields->name, "rope_freqs.weight");
    gguf_write(writer, path);
    refused(path, "tensor blk.0.attn_q.weight is missing");
    strcpy(fields->name, "blk.0.attn_q.weight");
    gguf_add_tensor(writer, "rope_freqs.weight", 0, 1, (const uint64_t[]){1}, "\0\0\0", 4);
    gguf_write(writer, path);
    refused(path, "tensor rope_freqs.weight is not part of the architecture");
    gguf_writer_free(writer);
}

static void gguf_heads(void **state) {
    (void)state;
    static const struct {
        size_t at;
        const char *bytes;
        size_t n;
        const char *words[2];
    } cases[] = {
        {0, "GGML", 4, {"magic is 47 47 4d 4c", "47 47 55 46"}},
        {0, "FUGG", 4, {"magic is 46 55 47 47"}},
        {4, "\1\0\0\0", 4, {"version is 1;", "2 and 3"}},
        {4, "\4\0\0\0", 4, {"version is 4;"}},
        {4, "\0\0\0\0", 4, {"version is 0;"}},
        {4, "\0\0\0\3", 4, {"version is 50331648 (a big-endian file)"}},
        {8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, {"number of tensors is 18446744073709551615"}},
        {8, "\0\0\0\1\0\0\0\0", 8, {"number of tensors is 16777216", "the rest of the file"}},
        {8, "\0\0\0\0\0\0\0\0", 8, {"tensor token_embd.weight is missing"}},
        {16, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, {"number of keys is 18446744073709551615"}},
        {16, "\0\0\0\0\1\0\0\0", 8, {"number of keys is 4294967296"}},
        {24, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, {"key at byte 32 takes 18446744073709551615"}},
    };
    const char *path = tiny_path(folder, "bad.gguf");
    gguf_writer *writer = gguf_model(0);
    size_t bytes;
    uint8_t *right = gguf_image(writer, &bytes);
    gguf_writer_free(writer);
    for (size_t i = 0; i < COUNT(cases); ++i) {
        uint8_t *wrong = malloc(bytes);
        memcpy(wrong, right, bytes);
        memcpy(wrong + cases[i].at, cases[i].bytes, cases[i].n);
        rewrite(path, wrong, bytes);
        check_refusal(path, cases[i].words, COUNT(cases[i].words));
        refused(path, "bad.gguf: ");
        free(wrong);
    }
    /* a file that is long enough (sparse), so that only the absolute limit speaks */
    rewrite(path, "GGUF\3\0\0\0\1\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0", 24);
    assert_int_equal(truncate(path, (off_t)1 << 36), 0);
    refused(path, "number of keys is 16777216", "at most 1000000");
    right[4] = 2; /* the same widths: read */
    rewrite(path, right, bytes);
    assert_true(open_and_read(path));
    for (size_t n = 0; n < bytes; n += n < 4096 ? 1 : 97) {
        rewrite(path, right, n);
        refused(path, "bad.gguf: ");
    }
    free(right);
}

/* ---------------------------------------------------------------- sweeps */

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Every bit of every byte before `header_bytes`, and random damage: overwritten, removed and
 * doubled stretches. `opened` is what anemo opens, `file` what is damaged. Returns how many were
 * refused. */
static int sweep(const char *opened, const char *file, size_t header_bytes, int n_random) {
    size_t bytes;
    uint8_t *right = (uint8_t *)test_read_file(file, &bytes);
    uint8_t *wrong = malloc(2 * bytes);
    uint64_t seed = 88172645463325252u;
    int n_refused = 0;
    assert_true(open_and_read(opened));
    const int fd = open(file, O_WRONLY);
    for (size_t i = 0; i < header_bytes; ++i) {
        for (int bit = 0; bit < 8; ++bit) {
            const uint8_t flipped = right[i] ^ (uint8_t)(1 << bit);
            assert_int_equal(pwrite(fd, &flipped, 1, (off_t)i), 1);
            n_refused += !open_and_read(opened);
        }
        assert_int_equal(pwrite(fd, &right[i], 1, (off_t)i), 1);
    }
    close(fd);
    for (int i = 0; i < n_random; ++i) {
        size_t n = bytes;
        memcpy(wrong, right, bytes);
        const size_t at = next_random(&seed) % header_bytes;
        const size_t stretch = 1 + next_random(&seed) % 16;
        const uint64_t kind = next_random(&seed) % 4;
        const size_t from = next_random(&seed) % header_bytes;
        if (kind == 0) {
            for (size_t j = at; j < at + stretch && j < n; ++j)
                wrong[j] = (uint8_t)next_random(&seed);
        } else if (kind == 1) {
            memset(wrong + at, next_random(&seed) % 2 ? 0xff : 0,
                   stretch < n - at ? stretch : n - at);
        } else if (kind == 2 && at + stretch < n) {
            memmove(wrong + at, wrong + at + stretch, n - at - stretch);
            n -= stretch;
        } else {
            memmove(wrong + at + stretch, wrong + at, n - at);
            memcpy(wrong + at, right + from, from + stretch < bytes ? stretch : bytes - from);
            n += stretch;
        }
        rewrite(file, wrong, n);
        n_refused += !open_and_read(opened);
    }
    free(right);
    free(wrong);
    return n_refused;
}

/* Every beginning of a file, laid against a page that may not be touched: reading one byte past the
 * end is a crash here, where a mapped file would have hidden it in the rest of its last page. */
static void no_byte_past_the_end(void **state) {
    (void)state;
    const anemo_hparams h = tiny_hparams(3);
    gguf_writer *writer = tiny_gguf(&h, ANEMO_NAMING_GGUF_MERGED, ANEMO_GGML_Q4_0);
    gguf_add_strings(writer, "tokenizer.ggml.tokens", (const char *const[]){"a", "bc"}, 2);
    size_t bytes[2];
    uint8_t *files[2] = {gguf_image(writer, &bytes[0]), NULL};
    gguf_writer_free(writer);
    tiny_write_directory(folder, &h, ANEMO_GGML_BF16);
    files[1] = (uint8_t *)test_read_file(tiny_path(folder, "model.safetensors"), &bytes[1]);

    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = 64 * page;
    assert_true(bytes[0] < room && bytes[1] < room);
    uint8_t *memory =
        mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    assert_int_equal(mprotect(memory + room, page, PROT_NONE), 0);
    for (int kind = 0; kind < 2; ++kind)
        for (size_t n = 0; n <= bytes[kind]; ++n) {
            anemo_mapped_file file = {"guarded", memory + room - n, n};
            anemo_tensors tensors = {0};
            gguf_file gguf = {0};
            size_t header_bytes;
            memcpy(memory + room - n, files[kind], n);
            const anemo_status status =
                kind == 0 ? gguf_parse(&file, &gguf, &tensors, NULL)
                          : anemo_safetensors_parse(&file, &tensors, &header_bytes, NULL);
            assert_int_equal(status, n == bytes[kind] ? ANEMO_OK : ANEMO_E_INPUT);
            gguf_free(&gguf);
            anemo_tensors_free(&tensors);
        }
    munmap(memory, room + page);
    free(files[0]);
    free(files[1]);
}

static void sweep_safetensors(void **state) {
    (void)state;
    const anemo_hparams h = tiny_hparams(0);
    tiny_write_directory(folder, &h, ANEMO_GGML_BF16);
    safetensors_writer *model = tiny_safetensors(&h, ANEMO_GGML_BF16);
    const size_t header = 8 + strlen(safetensors_header(model));
    safetensors_writer_free(model);
    char *weights = strdup(tiny_path(folder, "model.safetensors"));
    char *config = strdup(tiny_path(folder, "config.json"));
    char *text = tiny_config(&h);
    /* nearly every bit of a header matters; in a config most values must still fit the weights */
    assert_true(sweep(folder, weights, header, 3000) > (int)(header * 8 * 95 / 100));
    tiny_write_directory(folder, &h, ANEMO_GGML_BF16);
    assert_true(sweep(folder, config, strlen(text), 2000) > (int)(strlen(text) * 8 * 7 / 10));
    free(text);
    free(config);
    free(weights);
}

static void sweep_index(void **state) {
    (void)state;
    json_t *index = write_sharded("a.safetensors");
    write_index(index);
    char *text = json_dumps(index, 0);
    json_decref(index);
    char *file = strdup(tiny_path(folder, "model.safetensors.index.json"));
    assert_true(sweep(folder, file, strlen(text), 1000) > (int)(strlen(text) * 8 * 9 / 10));
    free(file);
    free(text);
}

static void sweep_gguf(void **state) {
    (void)state;
    for (int experts = 0; experts <= 3; experts += 3) {
        const anemo_hparams h = tiny_hparams(experts);
        gguf_writer *writer =
            tiny_gguf(&h, experts ? ANEMO_NAMING_GGUF_MERGED : ANEMO_NAMING_GGUF, ANEMO_GGML_Q4_0);
        gguf_add_strings(writer, "tokenizer.ggml.tokens", (const char *const[]){"a", "bc"}, 2);
        char *path = strdup(tiny_path(folder, "sweep.gguf"));
        size_t bytes;
        free(gguf_image(writer, &bytes));
        gguf_write(writer, path);
        gguf_writer_free(writer);
        const size_t header = bytes < 2000 ? bytes : 2000; /* and the first of the data */
        assert_true(sweep(path, path, header, 3000) > (int)(header * 8 / 2));
        free(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(config_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(config_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(paths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(safetensors_headers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(safetensors_lengths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(missing_and_extra_tensors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(shards, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gguf_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gguf_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gguf_tensors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gguf_heads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_byte_past_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sweep_safetensors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sweep_index, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sweep_gguf, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("bad files", tests, NULL, NULL);
}
