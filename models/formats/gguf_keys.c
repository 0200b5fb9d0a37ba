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

static void put_sizes(anemo_gguf_keys *keys, const anemo_hparams *h) {
    anemo_gguf_key_u32(keys, ".vocab_size", h->vocab);
    anemo_gguf_key_u32(keys, ".context_length", h->context_max);
    anemo_gguf_key_u32(keys, ".embedding_length", h->d);
    anemo_gguf_key_u32(keys, ".block_count", h->layers);
    anemo_gguf_key_u32(keys, ".feed_forward_length", h->ffn);
    if (h->arch == ANEMO_ARCH_QWEN3MOE || h->arch == ANEMO_ARCH_GPTOSS)
        anemo_gguf_key_u32(keys, ".expert_feed_forward_length", h->ffn);
    anemo_gguf_key_u32(keys, ".attention.head_count", h->heads);
    anemo_gguf_key_u32(keys, ".attention.head_count_kv", h->kv_heads);
    anemo_gguf_key_u32(keys, ".attention.key_length", h->head_dim);
    anemo_gguf_key_u32(keys, ".attention.value_length", h->head_dim);
    anemo_gguf_key_u32(keys, ".rope.dimension_count", h->head_dim);
    if (h->experts > 0) {
        anemo_gguf_key_u32(keys, ".expert_count", h->experts);
        anemo_gguf_key_u32(keys, ".expert_used_count", h->experts_per_token);
    }
}

/* One bool per layer, true = windowed, where layers differ. */
static void put_windows(anemo_gguf_keys *keys, const anemo_hparams *h) {
    if (h->window <= 0)
        return;
    anemo_gguf_key_u32(keys, ".attention.sliding_window", h->window);
    if (anemo_full_layers(h) == 0 && h->arch != ANEMO_ARCH_GPTOSS)
        return;
    if (anemo_gguf_key_array(keys, ".attention.sliding_window_pattern", GGUF_BOOL, h->layers))
        for (int64_t layer = 0; layer < h->layers; ++layer)
            anemo_gguf_element(keys, anemo_layer_window(h, layer) > 0, 1);
}

static void put_rope(anemo_gguf_keys *keys, const anemo_hparams *h) {
    const anemo_rope_scaling *r = &h->rope;
    anemo_gguf_key_f32(keys, ".rope.freq_base", h->rope_theta);
    if (r->kind == ANEMO_ROPE_YARN) {
        const double part = r->factor > 1 ? 0.1 * log(r->factor) : 0;
        const double magnitude = r->magnitude != 0 ? r->magnitude : 1;
        anemo_gguf_key_text(keys, ".rope.scaling.type", "yarn");
        anemo_gguf_key_f32(keys, ".rope.scaling.factor", r->factor);
        anemo_gguf_key_u32(keys, ".rope.scaling.original_context_length",
                           (int64_t)r->original_context);
        anemo_gguf_key_f32(keys, ".rope.scaling.yarn_beta_slow", r->low);
        anemo_gguf_key_f32(keys, ".rope.scaling.yarn_beta_fast", r->high);
        if (part > 0 && magnitude != 1 + part)
            anemo_gguf_key_f32(keys, ".rope.scaling.yarn_log_multiplier",
                               ((1 + part) / magnitude - 1) / part);
    }
    if (h->temperature != 0) {
        anemo_gguf_key_f32(keys, ".attention.temperature_scale", h->temperature);
        anemo_gguf_key_u32(keys, ".attention.temperature_length", h->temperature_period);
    }
}

void anemo_gguf_model_keys(anemo_gguf_keys *keys, const anemo_hparams *h) {
    keys->arch = architectures[h->arch].name;
    anemo_gguf_key_text(keys, "general.architecture", keys->arch);
    anemo_gguf_key_f32(keys, ".attention.layer_norm_rms_epsilon", h->rms_eps);
    put_sizes(keys, h);
    put_windows(keys, h);
    put_rope(keys, h);
    if (h->n_eos > 0)
        anemo_gguf_key_u32(keys, "tokenizer.ggml.eos_token_id", h->eos[0]);
    if (h->n_eos > 1)
        anemo_gguf_key_u32(keys, "tokenizer.ggml.eot_token_id", h->eos[1]);
}
