/* Files that are wrong: each is refused with one sentence that names file, field and value and says
 * what is accepted; none crashes, none gives half a model. Here config.json, safetensors and their
 * index, fault by fault, each with the words that its sentence must hold; GGUF in test_bad_gguf.c,
 * damage at random in test_bad_bytes.c. */
#include "tests/support/bad_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------- config.json */

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
        {0,
         "{\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}",
         NULL,
         {"rope_scaling.low_freq_factor is missing", "a number"}},
        {0,
         "{\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":0.5,"
         "\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":64}}",
         NULL,
         {"factor is 0.5", "1 to 1e+06"}},
        {0,
         "{\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
         "\"low_freq_factor\":4,\"high_freq_factor\":4,\"original_max_position_embeddings\":64}}",
         NULL,
         {"low_freq_factor or beta_slow is 4", "below"}},
        {0,
         "{\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
         "\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":0}}",
         NULL,
         {"original context length is 0"}},
        {0,
         "{\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":8}}",
         NULL,
         {"rope_type is \"yarn\"", "\"llama3\"", "not supported yet"}},
        {0,
         "{\"model_type\":\"ministral3\",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":8}}",
         NULL,
         {"rope_scaling.original_max_position_embeddings is missing"}},
        {0,
         "{\"model_type\":\"ministral3\",\"rope_scaling\":{\"llama_4_scaling_beta\":0.1,"
         "\"original_max_position_embeddings\":0.5}}",
         NULL,
         {"original_max_position_embeddings is 0.5", "an integer"}},
        {0,
         "{\"rope_scaling\":{\"llama_4_scaling_beta\":0.1}}",
         NULL,
         {"rope_scaling.llama_4_scaling_beta is 0.1", "absent"}},
        {0,
         "{\"model_type\":\"ministral\",\"sliding_window\":8,\"layer_types\":[\"linear\"]}",
         NULL,
         {"layer_types[0] is \"linear\"", "\"sliding_attention\" or \"full_attention\""}},
        {0,
         "{\"model_type\":\"qwen3_moe\",\"moe_intermediate_size\":8,\"num_experts\":2}",
         NULL,
         {"num_experts_per_tok is missing"}},
        {0,
         "{\"model_type\":\"qwen3_moe\",\"moe_intermediate_size\":8,\"num_experts\":0,"
         "\"num_experts_per_tok\":1}",
         NULL,
         {"num_experts is 0", "1 to 4096"}},
        {0,
         "{\"model_type\":\"qwen3_moe\",\"moe_intermediate_size\":8,\"num_experts\":2,"
         "\"num_experts_per_tok\":1,\"decoder_sparse_step\":2}",
         NULL,
         {"decoder_sparse_step is 2", "1"}},
        {0,
         "{\"model_type\":\"qwen3_moe\",\"moe_intermediate_size\":8,\"num_experts\":2,"
         "\"num_experts_per_tok\":1,\"use_sliding_window\":true}",
         NULL,
         {"use_sliding_window is true", "false"}},
        {0,
         "{\"model_type\":\"gpt_oss\",\"attention_bias\":false}",
         NULL,
         {"attention_bias is false", "true"}},
        {0, "{\"model_type\":\"gpt_oss\",\"swiglu_limit\":5}", NULL, {"swiglu_limit is 5", "7"}},
        {0, "{\"model_type\":\"mistral3\"}", NULL, {"text_config is missing", "an object"}},
        {0,
         "{\"model_type\":\"mistral3\",\"text_config\":{\"model_type\":\"gemma\"}}",
         NULL,
         {"text_config.model_type is \"gemma\"", "\"ministral3\""}},
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
         {"quantization_config.bits is missing", "4 or 8"}},
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
    refused(tiny_path(folder, "absent"), "absent: there is no such model",
            "synth:PRESET|CONFIG.json:TYPE");
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

int main(void) {
    const struct CMUnitTest tests[] = {
        bad_file_test(config_fields),
        bad_file_test(config_bytes),
        bad_file_test(paths),
        bad_file_test(safetensors_headers),
        bad_file_test(safetensors_lengths),
        bad_file_test(missing_and_extra_tensors),
        bad_file_test(shards),
    };
    return cmocka_run_group_tests_name("bad files", tests, NULL, NULL);
}
