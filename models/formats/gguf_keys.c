/* Hyper-parameters -> keys of a GGUF file, the inverse of gguf_hparams.c; and what else differs
 * between architectures there: names of tensors, the order of rotated rows.
 *
 * Llama 3's RoPE scaling has no keys: its quotients are written as the tensor rope_freqs.weight.
 * YaRN's magnitude is written as the multiplier that llama.cpp computes it from. */
#include "models/formats/convert.h"
#include "models/formats/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name;
    anemo_rope_pairing pairing;
} architectures[ANEMO_ARCH_COUNT] = {
    [ANEMO_ARCH_MISTRAL] = {"llama", ANEMO_ROPE_INTERLEAVED},
    [ANEMO_ARCH_MIXTRAL] = {"llama", ANEMO_ROPE_INTERLEAVED},
    [ANEMO_ARCH_LLAMA] = {"llama", ANEMO_ROPE_INTERLEAVED},
    [ANEMO_ARCH_MINISTRAL] = {"llama", ANEMO_ROPE_INTERLEAVED},
    [ANEMO_ARCH_MINISTRAL3] = {"mistral3", ANEMO_ROPE_INTERLEAVED},
    [ANEMO_ARCH_QWEN3MOE] = {"qwen3moe", ANEMO_ROPE_HALF},
    [ANEMO_ARCH_GPTOSS] = {"gpt-oss", ANEMO_ROPE_HALF},
};

int32_t anemo_gguf_pairing(const anemo_hparams *h) {
    return (int32_t)architectures[h->arch].pairing;
}

anemo_naming anemo_gguf_naming(const anemo_hparams *h) {
    return h->arch == ANEMO_ARCH_GPTOSS ? ANEMO_NAMING_GGUF_GPTOSS
           : h->experts                 ? ANEMO_NAMING_GGUF_MERGED
                                        : ANEMO_NAMING_GGUF;
}

bool anemo_gguf_has_role(const anemo_hparams *h, anemo_tensor_role role) {
    return role == ANEMO_T_ROPE_FACTORS
               ? h->rope.kind == ANEMO_ROPE_FACTORS || h->rope.kind == ANEMO_ROPE_LLAMA3
               : anemo_has_role(h, role);
}

/* Plain frequency over scaled one, for each pair (models/engine/rope.c). */
void anemo_gguf_rope_factors(const anemo_hparams *h, float *out) {
    const anemo_rope_scaling *r = &h->rope;
    for (int64_t i = 0; i < h->head_dim / 2; ++i) {
        const double f = pow(h->rope_theta, -2.0 * (double)i / (double)h->head_dim);
        const double turns = r->original_context * f / 6.283185307179586476925;
        const double kept = fmin(fmax((turns - r->low) / (r->high - r->low), 0), 1);
        out[i] = (float)(1 / (kept + (1 - kept) / r->factor));
    }
}

anemo_status anemo_gguf_expressible(const anemo_checkpoint *from, anemo_error *err) {
    const anemo_hparams *h = anemo_checkpoint_hparams(from);
    const anemo_shown_path path = anemo_show_path(anemo_checkpoint_path(from));
    if (h->raw_weights)
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "%s: norm_topk_prob is false, which GGUF cannot say; accepted: true",
                          path.text);
    if (h->n_eos > 2)
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "%s: the model has %d end tokens; accepted: at most 2 in GGUF", path.text,
                          h->n_eos);
    if (h->rope.kind == ANEMO_ROPE_YARN && h->rope.truncate != (h->arch != ANEMO_ARCH_GPTOSS))
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "%s: YaRN's truncate is %s, which GGUF cannot say; accepted: false for "
                          "gpt-oss, true for others",
                          path.text, h->rope.truncate ? "true" : "false");
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- keys */

/* Keys are counted before they are written. */
typedef struct key_list {
    anemo_conversion *c; /* NULL: they are only counted */
    const char *arch;
    uint64_t n;
    anemo_status status;
} key_list;

/* Key and type; a key that begins with a dot belongs to the architecture. false: no value is to
 * follow. */
static bool begin(key_list *list, const char *key, uint32_t type) {
    char full[96];
    ++list->n;
    if (!list->c || list->status != ANEMO_OK)
        return false;
    snprintf(full, sizeof full, "%s%s", key[0] == '.' ? list->arch : "", key);
    list->status = anemo_gguf_put_string(list->c, full);
    if (list->status == ANEMO_OK)
        list->status = anemo_gguf_put_number(list->c, type, 4);
    return list->status == ANEMO_OK;
}

static void put_u32(key_list *list, const char *key, int64_t value) {
    if (begin(list, key, GGUF_U32))
        list->status = anemo_gguf_put_number(list->c, (uint64_t)value, 4);
}

static void put_f32(key_list *list, const char *key, double value) {
    if (begin(list, key, GGUF_F32))
        list->status = anemo_gguf_put_number(list->c, anemo_f32_bits((float)value), 4);
}

static void put_text(key_list *list, const char *key, const char *value) {
    if (begin(list, key, GGUF_STRING))
        list->status = anemo_gguf_put_string(list->c, value);
}

static void put_sizes(key_list *list, const anemo_hparams *h) {
    put_u32(list, ".vocab_size", h->vocab);
    put_u32(list, ".context_length", h->context_max);
    put_u32(list, ".embedding_length", h->d);
    put_u32(list, ".block_count", h->layers);
    put_u32(list, ".feed_forward_length", h->ffn);
    if (h->arch == ANEMO_ARCH_QWEN3MOE || h->arch == ANEMO_ARCH_GPTOSS)
        put_u32(list, ".expert_feed_forward_length", h->ffn);
    put_u32(list, ".attention.head_count", h->heads);
    put_u32(list, ".attention.head_count_kv", h->kv_heads);
    put_u32(list, ".attention.key_length", h->head_dim);
    put_u32(list, ".attention.value_length", h->head_dim);
    put_u32(list, ".rope.dimension_count", h->head_dim);
    if (h->experts > 0) {
        put_u32(list, ".expert_count", h->experts);
        put_u32(list, ".expert_used_count", h->experts_per_token);
    }
}

/* One bool per layer, true = windowed, where layers differ. */
static void put_windows(key_list *list, const anemo_hparams *h) {
    if (h->window <= 0)
        return;
    put_u32(list, ".attention.sliding_window", h->window);
    if (anemo_full_layers(h) == 0 && h->arch != ANEMO_ARCH_GPTOSS)
        return;
    if (!begin(list, ".attention.sliding_window_pattern", GGUF_ARRAY))
        return;
    list->status = anemo_gguf_put_number(list->c, GGUF_BOOL, 4);
    if (list->status == ANEMO_OK)
        list->status = anemo_gguf_put_number(list->c, (uint64_t)h->layers, 8);
    for (int64_t layer = 0; layer < h->layers && list->status == ANEMO_OK; ++layer)
        list->status = anemo_gguf_put_number(list->c, anemo_layer_window(h, layer) > 0, 1);
}

static void put_rope(key_list *list, const anemo_hparams *h) {
    const anemo_rope_scaling *r = &h->rope;
    put_f32(list, ".rope.freq_base", h->rope_theta);
    if (r->kind == ANEMO_ROPE_YARN) {
        const double part = r->factor > 1 ? 0.1 * log(r->factor) : 0;
        const double magnitude = r->magnitude != 0 ? r->magnitude : 1;
        put_text(list, ".rope.scaling.type", "yarn");
        put_f32(list, ".rope.scaling.factor", r->factor);
        put_u32(list, ".rope.scaling.original_context_length", (int64_t)r->original_context);
        put_f32(list, ".rope.scaling.yarn_beta_slow", r->low);
        put_f32(list, ".rope.scaling.yarn_beta_fast", r->high);
        if (part > 0 && magnitude != 1 + part)
            put_f32(list, ".rope.scaling.yarn_log_multiplier", ((1 + part) / magnitude - 1) / part);
    }
    if (h->temperature != 0) {
        put_f32(list, ".attention.temperature_scale", h->temperature);
        put_u32(list, ".attention.temperature_length", h->temperature_period);
    }
}

static void put_all(key_list *list, const anemo_hparams *h) {
    put_text(list, "general.architecture", list->arch);
    put_f32(list, ".attention.layer_norm_rms_epsilon", h->rms_eps);
    put_sizes(list, h);
    put_windows(list, h);
    put_rope(list, h);
    if (h->bos >= 0)
        put_u32(list, "tokenizer.ggml.bos_token_id", h->bos);
    if (h->n_eos > 0)
        put_u32(list, "tokenizer.ggml.eos_token_id", h->eos[0]);
    if (h->n_eos > 1)
        put_u32(list, "tokenizer.ggml.eot_token_id", h->eos[1]);
}

anemo_status anemo_gguf_put_model_keys(anemo_conversion *c, uint64_t *n) {
    const anemo_hparams *h = anemo_checkpoint_hparams(c->from);
    key_list list = {.arch = architectures[h->arch].name};
    if (!n)
        list.c = c;
    put_all(&list, h);
    if (n)
        *n = list.n;
    return list.status;
}
