#include "tests/support/q4_gguf.h"

#include "models/formats/checkpoint.h"
#include "models/formats/internal.h"
#include "tests/support/gguf_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 18 /* of 32 values: f16 scale, 16 bytes of nibbles */
#define GGML_F32    0
#define GGML_Q4_0   2

typedef struct converter {
    const anemo_checkpoint *from;
    const anemo_hparams *h;
    gguf_writer *to;
    double scale;
} converter;

static void must(anemo_status status, const anemo_error *err) {
    if (status != ANEMO_OK) {
        fprintf(stderr, "q4_gguf_write: %s\n", err->text);
        abort();
    }
}

static void add_keys(const converter *c) {
    const anemo_hparams *h = c->h;
    const struct {
        const char *key;
        int64_t value;
    } keys[] = {{"llama.vocab_size", h->vocab},
                {"llama.context_length", h->context_max},
                {"llama.embedding_length", h->d},
                {"llama.block_count", h->layers},
                {"llama.feed_forward_length", h->ffn},
                {"llama.attention.head_count", h->heads},
                {"llama.attention.head_count_kv", h->kv_heads},
                {"llama.attention.key_length", h->head_dim},
                {"llama.attention.value_length", h->head_dim},
                {"llama.rope.dimension_count", h->head_dim},
                {"llama.expert_count", h->experts},
                {"llama.expert_used_count", h->experts_per_token},
                {"llama.attention.sliding_window", h->window},
                {"tokenizer.ggml.bos_token_id", h->bos},
                {"tokenizer.ggml.eos_token_id", h->eos[0]}};
    gguf_add_string(c->to, "general.architecture", "llama");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        gguf_add_u32(c->to, keys[i].key, (uint32_t)keys[i].value);
    gguf_add_f32(c->to, "llama.attention.layer_norm_rms_epsilon", (float)h->rms_eps);
    gguf_add_f32(c->to, "llama.rope.freq_base", (float)h->rope_theta);
}

static void add(const converter *c, anemo_tensor_role role, int64_t layer, uint32_t type,
                uint32_t rank, const uint64_t *sizes, const void *data, size_t bytes) {
    char name[ANEMO_ROLE_NAME_BYTES];
    anemo_role_name(ANEMO_NAMING_GGUF_MERGED, role, layer, 0, name);
    gguf_add_tensor(c->to, name, type, rank, sizes, data, bytes);
}

static void add_vector(const converter *c, anemo_tensor_role role, int64_t layer) {
    anemo_error err;
    const uint64_t d = (uint64_t)c->h->d;
    float *x = malloc(d * sizeof *x);
    must(anemo_checkpoint_vector(c->from, role, layer, x, c->h->d, &err), &err);
    add(c, role, layer, GGML_F32, 1, &d, x, d * sizeof *x);
    free(x);
}

static void add_router(const converter *c, int64_t layer) {
    anemo_error err;
    anemo_weight w;
    must(anemo_checkpoint_weight(c->from, ANEMO_T_ROUTER, layer, 0, &w, &err), &err);
    float *x = malloc((size_t)(w.n * w.k) * sizeof *x);
    void *scratch = malloc(anemo_weight_scratch_bytes(w.k));
    for (int64_t row = 0; row < w.n; row++)
        anemo_weight_row_f32(&w, row, x + row * w.k, scratch);
    const uint64_t sizes[] = {(uint64_t)w.k, (uint64_t)w.n};
    add(c, ANEMO_T_ROUTER, layer, GGML_F32, 2, sizes, x, (size_t)(w.n * w.k) * sizeof *x);
    free(scratch);
    free(x);
}

static void scale_blocks(uint8_t *blocks, size_t bytes, double scale) {
    for (size_t at = 0; at < bytes; at += BLOCK_BYTES) {
        uint16_t half;
        memcpy(&half, blocks + at, sizeof half);
        half = anemo_f32_f16((float)(scale * anemo_f16_f32(half)));
        memcpy(blocks + at, &half, sizeof half);
    }
}

/* Rows of q and k from half-split pairs to interleaved ones. */
static void interleave(uint8_t *rows, int64_t heads, int64_t head_dim, size_t row_bytes) {
    const size_t head_bytes = (size_t)head_dim * row_bytes;
    uint8_t *old = malloc(head_bytes);
    for (int64_t head = 0; head < heads; head++, rows += head_bytes) {
        memcpy(old, rows, head_bytes);
        for (int64_t i = 0; i < head_dim; i++) {
            const int64_t from = i % 2 * (head_dim / 2) + i / 2;
            memcpy(rows + (size_t)i * row_bytes, old + (size_t)from * row_bytes, row_bytes);
        }
    }
    free(old);
}

/* All experts of a role as one tensor. */
static void add_matrix(const converter *c, anemo_tensor_role role, int64_t layer) {
    const bool moe = role == ANEMO_T_GATE || role == ANEMO_T_UP || role == ANEMO_T_DOWN;
    const int64_t copies = moe ? c->h->experts : 1;
    anemo_error err;
    anemo_weight w = {0}, q;
    uint8_t *all = NULL;
    size_t row_bytes = 0, bytes = 0;
    for (int64_t e = 0; e < copies; e++) {
        void *storage;
        must(anemo_checkpoint_weight(c->from, role, layer, e, &w, &err), &err);
        must(anemo_requantise(&w, "q4_0", &q, &storage, &err), &err);
        row_bytes = (size_t)(w.k / 32 * BLOCK_BYTES);
        bytes = row_bytes * (size_t)w.n;
        all = realloc(all, bytes * (size_t)(e + 1));
        memcpy(all + bytes * (size_t)e, storage, bytes);
        free(storage);
    }
    scale_blocks(all, bytes * (size_t)copies, c->scale);
    if (role == ANEMO_T_Q || role == ANEMO_T_K)
        interleave(all, w.n / c->h->head_dim, c->h->head_dim, row_bytes);
    const uint64_t sizes[] = {(uint64_t)w.k, (uint64_t)w.n, (uint64_t)copies};
    add(c, role, layer, GGML_Q4_0, moe ? 3 : 2, sizes, all, bytes * (size_t)copies);
    free(all);
}

void q4_gguf_write(const char *model, double scale, const char *path) {
    static const anemo_tensor_role matrices[] = {ANEMO_T_Q,    ANEMO_T_K,  ANEMO_T_V,   ANEMO_T_O,
                                                 ANEMO_T_GATE, ANEMO_T_UP, ANEMO_T_DOWN};
    anemo_error err;
    anemo_checkpoint *from;
    must(anemo_checkpoint_open(model, &from, &err), &err);
    const converter c = {from, anemo_checkpoint_hparams(from), gguf_writer_create(), scale};
    add_keys(&c);
    add_matrix(&c, ANEMO_T_EMBED, 0);
    add_vector(&c, ANEMO_T_OUTPUT_NORM, 0);
    add_matrix(&c, ANEMO_T_OUTPUT, 0);
    for (int64_t i = 0; i < c.h->layers; i++) {
        add_vector(&c, ANEMO_T_ATTN_NORM, i);
        add_vector(&c, ANEMO_T_FFN_NORM, i);
        add_router(&c, i);
        for (size_t m = 0; m < sizeof matrices / sizeof *matrices; m++)
            add_matrix(&c, matrices[m], i);
    }
    gguf_write(c.to, path);
    gguf_writer_free(c.to);
    anemo_checkpoint_close(from);
}
