#include "tests/support/random_model.h"

#include "kernels/kernel.h"
#include "tests/support/run_program.h"
#include "tests/support/safetensors_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    VOCAB = 485,
    D = 64,
    FFN = 32,
    LAYERS = 2,
    HEADS = 4,
    KV_HEADS = 2,
    HEAD_DIM = 16,
    EXPERTS = 4
};

typedef struct maker {
    safetensors_writer *out;
    unsigned seed;
    uint64_t drawn;
    int experts; /* 0: dense */
} maker;

static float normal(maker *m) {
    const double u = anemo_philox_uniform(m->seed, m->drawn++);
    const double v = anemo_philox_uniform(m->seed, m->drawn++);
    return (float)(sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v));
}

/* rows 0: a norm's weight, about 1. Else normal with standard deviation gain / sqrt(columns). */
static void add(maker *m, const char *name, int64_t rows, int64_t columns, double gain) {
    const size_t n = (size_t)((rows ? rows : 1) * columns);
    float *x = malloc(n * sizeof *x);
    if (!x)
        abort();
    for (size_t i = 0; i < n; i++)
        x[i] = rows ? normal(m) * (float)(gain / sqrt((double)columns)) : 1 + 0.2f * normal(m);
    const int64_t shape[] = {rows, columns};
    safetensors_add(m->out, name, "F32", rows ? 2 : 1, rows ? shape : shape + 1, x, n * sizeof *x);
    free(x);
}

static void add_ffn(maker *m, const char *prefix, const char *const part[3]) {
    char name[128];
    for (int w = 0; w < 3; w++) {
        snprintf(name, sizeof name, "%s.%s.weight", prefix, part[w]);
        add(m, name, w == 1 ? D : FFN, w == 1 ? FFN : D, 1.3);
    }
}

static void add_layer(maker *m, int layer) {
    char name[96];
#define NAME(part) (snprintf(name, sizeof name, "model.layers.%d." part ".weight", layer), name)
    add(m, NAME("input_layernorm"), 0, D, 1);
    add(m, NAME("post_attention_layernorm"), 0, D, 1);
    add(m, NAME("self_attn.q_proj"), HEADS * HEAD_DIM, D, 1.5);
    add(m, NAME("self_attn.k_proj"), KV_HEADS * HEAD_DIM, D, 1.5);
    add(m, NAME("self_attn.v_proj"), KV_HEADS * HEAD_DIM, D, 1);
    add(m, NAME("self_attn.o_proj"), D, HEADS * HEAD_DIM, 1);
    if (m->experts > 0)
        add(m, NAME("block_sparse_moe.gate"), m->experts, D, 1.5);
#undef NAME
    for (int e = 0; e < m->experts; e++) {
        snprintf(name, sizeof name, "model.layers.%d.block_sparse_moe.experts.%d", layer, e);
        add_ffn(m, name, (const char *const[]){"w1", "w2", "w3"});
    }
    snprintf(name, sizeof name, "model.layers.%d.mlp", layer);
    if (m->experts == 0)
        add_ffn(m, name, (const char *const[]){"gate_proj", "down_proj", "up_proj"});
}

static void write_model(const char *folder, unsigned seed, int context, int experts) {
    maker m = {.out = safetensors_writer_create(), .seed = seed, .experts = experts};
    char path[1024], config[1024], routing[64] = "";
    add(&m, "model.embed_tokens.weight", VOCAB, D, 3);
    add(&m, "model.norm.weight", 0, D, 1);
    add(&m, "lm_head.weight", VOCAB, D, 2);
    for (int i = 0; i < LAYERS; i++)
        add_layer(&m, i);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    safetensors_write(m.out, path);
    safetensors_writer_free(m.out);
    if (experts > 0)
        snprintf(routing, sizeof routing, "\"num_local_experts\": %d, \"num_experts_per_tok\": 2, ",
                 experts);
    const int n = snprintf(
        config, sizeof config,
        "{\"architectures\": [\"%s\"], \"model_type\": \"%s\", "
        "\"vocab_size\": %d, \"hidden_size\": %d, \"intermediate_size\": %d, "
        "\"num_hidden_layers\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
        "\"head_dim\": %d, \"hidden_act\": \"silu\", \"max_position_embeddings\": %d, "
        "\"sliding_window\": 32, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, "
        "%s\"tie_word_embeddings\": false, "
        "\"bos_token_id\": 1, \"eos_token_id\": 2}",
        experts ? "MixtralForCausalLM" : "MistralForCausalLM", experts ? "mixtral" : "mistral",
        VOCAB, D, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, context, routing);
    snprintf(path, sizeof path, "%s/config.json", folder);
    test_write_file(path, config, (size_t)n);
    size_t bytes;
    char *tokenizer = test_read_file(ANEMO_TEST_DIR "/../models/default/tokenizer.json", &bytes);
    if (!tokenizer)
        abort();
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    test_write_file(path, tokenizer, bytes);
    free(tokenizer);
}

void random_model_write_context(const char *folder, unsigned seed, int context) {
    write_model(folder, seed, context, EXPERTS);
}

void random_model_write_dense(const char *folder, unsigned seed, int context) {
    write_model(folder, seed, context, 0);
}

void random_model_write(const char *folder, unsigned seed) {
    random_model_write_context(folder, seed, 256);
}
