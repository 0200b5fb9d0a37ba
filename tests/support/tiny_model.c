#include "tests/support/tiny_model.h"

#include "tests/support/bytes.h"
#include "tests/support/run_program.h"

#include <inttypes.h>
#include <stdio.h>

anemo_hparams tiny_hparams(int64_t experts) {
    return (anemo_hparams){.arch = experts ? ANEMO_ARCH_MIXTRAL : ANEMO_ARCH_MISTRAL,
                           .vocab = 8,
                           .d = 32,
                           .ffn = 64,
                           .layers = 1,
                           .heads = 4,
                           .kv_heads = 2,
                           .head_dim = 16,
                           .experts = experts,
                           .experts_per_token = experts ? 2 : 0,
                           .context_max = 512,
                           .rms_eps = 1e-5,
                           .rope_theta = 10000,
                           .bos = 1,
                           .eos = {2},
                           .n_eos = 1};
}

/* ---------------------------------------------------------------- values */

static uint32_t hash(uint32_t role, int64_t layer, int64_t expert, int64_t row, int64_t column) {
    uint32_t x = role;
    x = x * 1000003u + (uint32_t)layer;
    x = x * 1000003u + (uint32_t)expert;
    x = x * 1000003u + (uint32_t)row;
    x = x * 1000003u + (uint32_t)column;
    x = (x ^ x >> 15) * 0x2c1b3c6du;
    x = (x ^ x >> 12) * 0x297a2d39u;
    return x ^ x >> 15;
}

/* The scale of a block of 32: a power of two as half precision bits, 2^-2 to 2^-5. */
static uint16_t scale_bits(uint32_t role, int64_t layer, int64_t expert, int64_t row,
                           int64_t column) {
    return (uint16_t)((13 - hash(role + 100, layer, expert, row, column / 32) % 4) << 10);
}

float tiny_value(uint32_t type, anemo_tensor_role role, int64_t layer, int64_t expert, int64_t row,
                 int64_t column) {
    const uint32_t bits = hash(role, layer, expert, row, column);
    const float scale =
        1.0f / (float)(1 << (15 - (scale_bits(role, layer, expert, row, column) >> 10)));
    if (type == ANEMO_GGML_Q8_0)
        return scale * (float)((int)(bits & 255) - 128);
    if (type == ANEMO_GGML_Q4_0)
        return scale * (float)((int)(bits & 15) - 8);
    return (float)((int)(bits & 255) - 128) / 64; /* 8 bits: exact in BF16 */
}

/* n x k values of a float type. */
static void append_floats(byte_string *out, uint32_t type, anemo_tensor_role role, int64_t layer,
                          int64_t expert, int64_t n, int64_t k) {
    for (int64_t row = 0; row < n; ++row)
        for (int64_t column = 0; column < k; ++column) {
            const float value = tiny_value(type, role, layer, expert, row, column);
            uint32_t bits;
            memcpy(&bits, &value, sizeof bits);
            /* half precision of a normal number without rounding: rebias, drop 13 zero bits */
            const uint32_t magnitude = bits & 0x7fffffffu;
            const uint32_t half =
                (bits >> 16 & 0x8000u) | (magnitude ? (magnitude >> 13) - (112u << 10) : 0);
            if (type == ANEMO_GGML_F32)
                bytes_append_number(out, bits, 4);
            else
                bytes_append_number(out, type == ANEMO_GGML_F16 ? half : bits >> 16, 2);
        }
}

/* n x k values as Q8_0 or Q4_0 blocks. */
static void append_blocks(byte_string *out, uint32_t type, anemo_tensor_role role, int64_t layer,
                          int64_t expert, int64_t n, int64_t k) {
    for (int64_t row = 0; row < n; ++row)
        for (int64_t column = 0; column < k; column += 32) {
            uint32_t codes[32];
            for (int i = 0; i < 32; ++i)
                codes[i] = hash(role, layer, expert, row, column + i) & 255;
            bytes_append_number(out, scale_bits(role, layer, expert, row, column), 2);
            for (int i = 0; type == ANEMO_GGML_Q8_0 && i < 32; ++i)
                bytes_append_number(out, codes[i] - 128, 1);
            for (int i = 0; type == ANEMO_GGML_Q4_0 && i < 16; ++i)
                bytes_append_number(out, (codes[i] & 15) | (codes[i + 16] & 15) << 4, 1);
        }
}

static void append_matrix(byte_string *out, uint32_t type, anemo_tensor_role role, int64_t layer,
                          int64_t expert, int64_t n, int64_t k) {
    if (type == ANEMO_GGML_Q8_0 || type == ANEMO_GGML_Q4_0)
        append_blocks(out, type, role, layer, expert, n, k);
    else
        append_floats(out, type, role, layer, expert, n, k);
}

/* ---------------------------------------------------------------- models */

/* Calls `add` for each tensor that a model of this naming has. */
typedef struct tiny_tensor {
    const char *name;
    anemo_tensor_role role;
    int64_t layer, expert; /* expert -1: all of them in one tensor */
} tiny_tensor;

static void for_each_tensor(const anemo_hparams *h, anemo_naming naming,
                            void (*add)(void *writer, const anemo_hparams *h, uint32_t type,
                                        const tiny_tensor *tensor),
                            void *writer, uint32_t type) {
    for (int role = 0; role < ANEMO_T_COUNT; ++role) {
        const anemo_role_info *info = &anemo_roles[role];
        const bool merged = info->per_expert && naming == ANEMO_NAMING_GGUF_MERGED;
        const int64_t layers = info->per_layer ? h->layers : 1;
        const int64_t experts = info->per_expert && h->experts && !merged ? h->experts : 1;
        if (!anemo_has_role(h, (anemo_tensor_role)role))
            continue;
        for (int64_t layer = 0; layer < layers; ++layer)
            for (int64_t expert = 0; expert < experts; ++expert) {
                char name[ANEMO_ROLE_NAME_BYTES];
                anemo_role_name(naming, role, layer, expert, name);
                add(writer, h, type, &(tiny_tensor){name, role, layer, merged ? -1 : expert});
            }
    }
}

static void add_safetensors(void *writer, const anemo_hparams *h, uint32_t type,
                            const tiny_tensor *t) {
    byte_string data = {0};
    int64_t shape[2];
    anemo_role_shape(h, t->role, &shape[0], &shape[1]);
    const bool vector = anemo_roles[t->role].vector;
    append_matrix(&data, type, t->role, t->layer, t->expert, shape[0], shape[1]);
    safetensors_add(writer, t->name,
                    type == ANEMO_GGML_F32   ? "F32"
                    : type == ANEMO_GGML_F16 ? "F16"
                                             : "BF16",
                    vector ? 1 : 2, shape + vector, data.bytes, data.n);
    free(data.bytes);
}

uint32_t tiny_gguf_type(uint32_t type, anemo_tensor_role role) {
    return anemo_roles[role].vector || role == ANEMO_T_ROUTER ? ANEMO_GGML_F32 : type;
}

static void add_gguf(void *writer, const anemo_hparams *h, uint32_t model_type,
                     const tiny_tensor *t) {
    byte_string data = {0};
    int64_t n, k;
    anemo_role_shape(h, t->role, &n, &k);
    const uint32_t type = tiny_gguf_type(model_type, t->role);
    const uint64_t sizes[3] = {(uint64_t)k, (uint64_t)n, (uint64_t)h->experts};
    const uint32_t rank = anemo_roles[t->role].vector ? 1 : t->expert < 0 ? 3 : 2;
    for (int64_t e = t->expert < 0 ? 0 : t->expert;
         e < (t->expert < 0 ? h->experts : t->expert + 1); ++e)
        append_matrix(&data, type, t->role, t->layer, e, n, k);
    gguf_add_tensor(writer, t->name, type, rank, sizes, data.bytes, data.n);
    free(data.bytes);
}

safetensors_writer *tiny_safetensors(const anemo_hparams *h, uint32_t type) {
    safetensors_writer *writer = safetensors_writer_create();
    for_each_tensor(h, h->experts ? ANEMO_NAMING_HF_MIXTRAL : ANEMO_NAMING_HF, add_safetensors,
                    writer, type);
    return writer;
}

void tiny_gguf_keys(gguf_writer *writer, const anemo_hparams *h) {
    gguf_add_string(writer, "general.architecture", "llama");
    gguf_add_u32(writer, "llama.vocab_size", (uint32_t)h->vocab);
    gguf_add_u32(writer, "llama.context_length", (uint32_t)h->context_max);
    gguf_add_u32(writer, "llama.embedding_length", (uint32_t)h->d);
    gguf_add_u32(writer, "llama.feed_forward_length", (uint32_t)h->ffn);
    gguf_add_u32(writer, "llama.block_count", (uint32_t)h->layers);
    gguf_add_u32(writer, "llama.attention.head_count", (uint32_t)h->heads);
    gguf_add_u32(writer, "llama.attention.head_count_kv", (uint32_t)h->kv_heads);
    gguf_add_u32(writer, "llama.attention.key_length", (uint32_t)h->head_dim);
    gguf_add_f32(writer, "llama.attention.layer_norm_rms_epsilon", (float)h->rms_eps);
    gguf_add_f32(writer, "llama.rope.freq_base", (float)h->rope_theta);
    gguf_add_u32(writer, "tokenizer.ggml.bos_token_id", (uint32_t)h->bos);
    gguf_add_u32(writer, "tokenizer.ggml.eos_token_id", (uint32_t)h->eos[0]);
    if (h->window)
        gguf_add_u32(writer, "llama.attention.sliding_window", (uint32_t)h->window);
    if (h->experts) {
        gguf_add_u32(writer, "llama.expert_count", (uint32_t)h->experts);
        gguf_add_u32(writer, "llama.expert_used_count", (uint32_t)h->experts_per_token);
    }
}

gguf_writer *tiny_gguf(const anemo_hparams *h, anemo_naming naming, uint32_t type) {
    gguf_writer *writer = gguf_writer_create();
    tiny_gguf_keys(writer, h);
    for_each_tensor(h, naming, add_gguf, writer, type);
    return writer;
}

char *tiny_config(const anemo_hparams *h) {
    byte_string text = {0};
    char line[1024];
    snprintf(line, sizeof line,
             "{\"model_type\":\"%s\",\"vocab_size\":%" PRId64 ",\"hidden_size\":%" PRId64
             ",\"intermediate_size\":%" PRId64 ",\"num_hidden_layers\":%" PRId64
             ",\"num_attention_heads\":%" PRId64 ",\"num_key_value_heads\":%" PRId64
             ",\"head_dim\":%" PRId64 ",\"max_position_embeddings\":%" PRId64
             ",\"rms_norm_eps\":%g,\"rope_theta\":%g,\"tie_word_embeddings\":%s"
             ",\"bos_token_id\":%d,\"eos_token_id\":%d,\"sliding_window\":%" PRId64,
             h->experts ? "mixtral" : "mistral", h->vocab, h->d, h->ffn, h->layers, h->heads,
             h->kv_heads, h->head_dim, h->context_max, h->rms_eps, h->rope_theta,
             h->tied ? "true" : "false", h->bos, h->eos[0], h->window);
    bytes_append_text(&text, line);
    snprintf(line, sizeof line,
             ",\"num_local_experts\":%" PRId64 ",\"num_experts_per_tok\":%" PRId64, h->experts,
             h->experts_per_token);
    if (h->experts)
        bytes_append_text(&text, line);
    bytes_append_text(&text, "}");
    return (char *)text.bytes;
}

const char *tiny_path(const char *folder, const char *name) {
    static char paths[4][600];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

void tiny_write_directory(const char *folder, const anemo_hparams *h, uint32_t type) {
    char *config = tiny_config(h);
    safetensors_writer *weights = tiny_safetensors(h, type);
    remove(tiny_path(folder, "config.json"));
    test_write_file(tiny_path(folder, "config.json"), config, strlen(config));
    safetensors_write(weights, tiny_path(folder, "model.safetensors"));
    safetensors_writer_free(weights);
    free(config);
}
