/* cmocka.h wants these four first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/stories.h"

#include "kernels/kernel.h"
#include "tests/support/ggml_quantise.h"
#include "tests/support/gguf_write.h"
#include "tests/support/safetensors_write.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GGML_F32 0

/* ---------------------------------------------------------------- the source */

const char *stories_data_path(const char *name) {
    static char path[4096];
    const char *data = getenv("ANEMO_TEST_DATA");
    snprintf(path, sizeof path, "%s/%s", data ? data : ANEMO_TEST_DIR "/../../shared/data", name);
    return path;
}

static int64_t head_dim(const stories *s) {
    return s->d / s->heads;
}

static const float *take(const float **at, int64_t n) {
    const float *here = *at;
    *at += n;
    return here;
}

bool stories_read(stories *s) {
    FILE *f = fopen(stories_data_path("models/stories260K.bin"), "rb");
    if (!f)
        return false;
    int32_t header[7];
    assert_int_equal(fread(header, sizeof *header, 7, f), 7);
    *s = (stories){.d = header[0],
                   .ffn = header[1],
                   .layers = header[2],
                   .heads = header[3],
                   .kv_heads = header[4],
                   .vocab = header[5],
                   .context = header[6]};
    assert_true(s->vocab > 0); /* llama2.c: negative means an output matrix of its own */
    const int64_t d = s->d, kv = s->kv_heads * head_dim(s), n = s->layers, ffn = s->ffn;
    const int64_t floats = s->vocab * d + n * (2 * d + 2 * d * d + 2 * kv * d + 3 * ffn * d) + d;
    s->file = malloc((size_t)floats * sizeof *s->file);
    assert_non_null(s->file);
    assert_int_equal(fread(s->file, sizeof *s->file, (size_t)floats, f), floats);
    fclose(f);
    const float *at = s->file;
    s->embed = take(&at, s->vocab * d);
    s->attn_norm = take(&at, n * d);
    s->q = take(&at, n * d * d);
    s->k = take(&at, n * kv * d);
    s->v = take(&at, n * kv * d);
    s->o = take(&at, n * d * d);
    s->ffn_norm = take(&at, n * d);
    s->gate = take(&at, n * ffn * d);
    s->down = take(&at, n * d * ffn);
    s->up = take(&at, n * ffn * d);
    s->out_norm = take(&at, d);
    return true;
}

/* ---------------------------------------------------------------- containers */

/* Where tensors go: one of the two. */
typedef struct target {
    gguf_writer *gguf;
    safetensors_writer *hub;
    uint32_t type; /* of GGUF matrices whose rows it fits */
} target;

static void add_gguf(const target *t, const char *name, const uint64_t *sizes, uint32_t rank,
                     const float *data, size_t n) {
    byte_string bytes = {0};
    const bool fits = rank > 1 && ggml_quantise_fits(t->type, (int64_t)sizes[0]);
    const uint32_t type = fits ? t->type : GGML_F32;
    ggml_quantise(&bytes, type, data, (int64_t)n);
    gguf_add_tensor(t->gguf, name, type, rank, sizes, bytes.bytes, bytes.n);
    free(bytes.bytes);
}

/* rows 0: a vector; experts > 1: so many copies, in GGUF as one tensor with the expert slowest. */
static void add(const target *t, const char *name, int64_t rows, int64_t columns, int64_t copies,
                const float *data) {
    const size_t n = (size_t)((rows ? rows : 1) * columns);
    float *all = malloc((size_t)copies * n * sizeof *all);
    assert_non_null(all);
    for (int64_t i = 0; i < copies; i++)
        memcpy(all + (size_t)i * n, data, n * sizeof *all);
    const uint64_t sizes[] = {(uint64_t)columns, (uint64_t)rows, (uint64_t)copies};
    const int64_t shape[] = {rows, columns};
    if (t->gguf)
        add_gguf(t, name, sizes, copies > 1 ? 3 : rows ? 2 : 1, all, (size_t)copies * n);
    else
        safetensors_add(t->hub, name, "F32", rows ? 2 : 1, rows ? shape : shape + 1, all,
                        n * sizeof *all);
    free(all);
}

/* Half-split row (h, half, i) is interleaved row (h, 2 i + half). */
static float *half_split(const float *rows, int64_t heads, int64_t hd, int64_t columns) {
    float *out = malloc((size_t)(heads * hd * columns) * sizeof *out);
    assert_non_null(out);
    for (int64_t h = 0; h < heads; h++)
        for (int64_t half = 0; half < 2; half++)
            for (int64_t i = 0; i < hd / 2; i++)
                memcpy(out + (h * hd + half * hd / 2 + i) * columns,
                       rows + (h * hd + 2 * i + half) * columns, (size_t)columns * sizeof *out);
    return out;
}

/* Any router: distinct rows, so that tokens choose different experts. */
static void fill_router(float *router, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        router[i] = (float)anemo_philox_uniform(7, (uint64_t)i) - 0.5f;
}

static void add_gguf_layer(const target *t, const stories *s, int64_t i, int64_t experts) {
    const int64_t d = s->d, kv = s->kv_heads * head_dim(s), ffn = s->ffn;
    const char *tail = experts ? "_exps" : "";
    const int64_t copies = experts ? experts : 1;
    char name[64];
#define NAME(pattern) (snprintf(name, sizeof name, "blk.%d." pattern ".weight", (int)i), name)
    add(t, NAME("attn_norm"), 0, d, 1, s->attn_norm + i * d);
    add(t, NAME("ffn_norm"), 0, d, 1, s->ffn_norm + i * d);
    add(t, NAME("attn_q"), d, d, 1, s->q + i * d * d);
    add(t, NAME("attn_k"), kv, d, 1, s->k + i * kv * d);
    add(t, NAME("attn_v"), kv, d, 1, s->v + i * kv * d);
    add(t, NAME("attn_output"), d, d, 1, s->o + i * d * d);
#undef NAME
#define NAME(part) (snprintf(name, sizeof name, "blk.%d." part "%s.weight", (int)i, tail), name)
    add(t, NAME("ffn_gate"), ffn, d, copies, s->gate + i * ffn * d);
    add(t, NAME("ffn_up"), ffn, d, copies, s->up + i * ffn * d);
    add(t, NAME("ffn_down"), d, ffn, copies, s->down + i * d * ffn);
#undef NAME
    if (experts) {
        float router[STORIES_EXPERTS * 256];
        fill_router(router, experts * d);
        snprintf(name, sizeof name, "blk.%d.ffn_gate_inp.weight", (int)i);
        add(t, name, experts, d, 1, router);
    }
}

void stories_write_gguf(const stories *s, int64_t experts, uint32_t type, const char *path) {
    gguf_writer *w = gguf_writer_create();
    const target t = {.gguf = w, .type = type};
    gguf_add_string(w, "general.architecture", "llama");
    gguf_add_u32(w, "llama.vocab_size", (uint32_t)s->vocab);
    gguf_add_u32(w, "llama.context_length", (uint32_t)s->context);
    gguf_add_u32(w, "llama.embedding_length", (uint32_t)s->d);
    gguf_add_u32(w, "llama.block_count", (uint32_t)s->layers);
    gguf_add_u32(w, "llama.feed_forward_length", (uint32_t)s->ffn);
    gguf_add_u32(w, "llama.attention.head_count", (uint32_t)s->heads);
    gguf_add_u32(w, "llama.attention.head_count_kv", (uint32_t)s->kv_heads);
    gguf_add_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_add_u32(w, "llama.rope.dimension_count", (uint32_t)head_dim(s));
    gguf_add_f32(w, "llama.rope.freq_base", 10000.0f);
    if (experts) {
        gguf_add_u32(w, "llama.expert_count", (uint32_t)experts);
        gguf_add_u32(w, "llama.expert_used_count", 2);
    }
    add(&t, "token_embd.weight", s->vocab, s->d, 1, s->embed);
    add(&t, "output_norm.weight", 0, s->d, 1, s->out_norm);
    for (int64_t i = 0; i < s->layers; i++)
        add_gguf_layer(&t, s, i, experts);
    gguf_write(w, path);
    gguf_writer_free(w);
}

static void add_hub_ffn(const target *t, const stories *s, int64_t i, int64_t experts) {
    const int64_t d = s->d, ffn = s->ffn;
    const char *const dense[] = {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
    const char *const moe[] = {"w1", "w3", "w2"};
    const float *const data[] = {s->gate + i * ffn * d, s->up + i * ffn * d, s->down + i * d * ffn};
    char name[96];
    for (int64_t e = 0; e < (experts ? experts : 1); e++)
        for (int part = 0; part < 3; part++) {
            if (experts)
                snprintf(name, sizeof name, "model.layers.%d.block_sparse_moe.experts.%d.%s.weight",
                         (int)i, (int)e, moe[part]);
            else
                snprintf(name, sizeof name, "model.layers.%d.%s.weight", (int)i, dense[part]);
            add(t, name, part < 2 ? ffn : d, part < 2 ? d : ffn, 1, data[part]);
        }
    if (experts) {
        float router[STORIES_EXPERTS * 256];
        fill_router(router, experts * d);
        snprintf(name, sizeof name, "model.layers.%d.block_sparse_moe.gate.weight", (int)i);
        add(t, name, experts, d, 1, router);
    }
}

static void add_hub_layer(const target *t, const stories *s, int64_t i, int64_t experts) {
    const int64_t d = s->d, hd = head_dim(s), kv = s->kv_heads * hd;
    float *q = half_split(s->q + i * d * d, s->heads, hd, d);
    float *k = half_split(s->k + i * kv * d, s->kv_heads, hd, d);
    char name[96];
#define NAME(part) (snprintf(name, sizeof name, "model.layers.%d." part ".weight", (int)i), name)
    add(t, NAME("input_layernorm"), 0, d, 1, s->attn_norm + i * d);
    add(t, NAME("post_attention_layernorm"), 0, d, 1, s->ffn_norm + i * d);
    add(t, NAME("self_attn.q_proj"), d, d, 1, q);
    add(t, NAME("self_attn.k_proj"), kv, d, 1, k);
    add(t, NAME("self_attn.v_proj"), kv, d, 1, s->v + i * kv * d);
    add(t, NAME("self_attn.o_proj"), d, d, 1, s->o + i * d * d);
#undef NAME
    add_hub_ffn(t, s, i, experts);
    free(q);
    free(k);
}

void stories_write_hub(const stories *s, int64_t experts, const char *folder) {
    const target t = {.hub = safetensors_writer_create()};
    char path[600];
    add(&t, "model.embed_tokens.weight", s->vocab, s->d, 1, s->embed);
    add(&t, "model.norm.weight", 0, s->d, 1, s->out_norm);
    for (int64_t i = 0; i < s->layers; i++)
        add_hub_layer(&t, s, i, experts);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    safetensors_write(t.hub, path);
    safetensors_writer_free(t.hub);
    json_t *config = json_pack("{ss s[s] si si si si si si si sf sf sb sn si si}", "model_type",
                               experts ? "mixtral" : "mistral", "architectures",
                               experts ? "MixtralForCausalLM" : "MistralForCausalLM", "hidden_size",
                               s->d, "intermediate_size", s->ffn, "num_hidden_layers", s->layers,
                               "num_attention_heads", s->heads, "num_key_value_heads", s->kv_heads,
                               "vocab_size", s->vocab, "max_position_embeddings", s->context,
                               "rms_norm_eps", 1e-5, "rope_theta", 10000.0, "tie_word_embeddings",
                               1, "sliding_window", "bos_token_id", 1, "eos_token_id", 2);
    assert_non_null(config);
    if (experts) {
        json_object_set_new(config, "num_local_experts", json_integer(experts));
        json_object_set_new(config, "num_experts_per_tok", json_integer(2));
    }
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
}
