/* Keys of a GGUF file of architecture "llama" (Llama, Mistral and Mixtral all use it) ->
 * hyper-parameters.
 *
 * As with config.json, what changes the mathematics and is not supported is refused by name.
 * Defaults are those of the format: head_count_kv = head_count, key_length = embedding_length /
 * head_count, rope.freq_base = 10000. llama.cpp computes no sliding window for this architecture;
 * where the key is there, anemo does, because the model was trained with it. */
#include "models/formats/gguf.h"

#include <inttypes.h>
#include <stdio.h>

static const anemo_hparam_names names = {.vocab = "llama.vocab_size",
                                         .d = "llama.embedding_length",
                                         .ffn = "llama.feed_forward_length",
                                         .layers = "llama.block_count",
                                         .heads = "llama.attention.head_count",
                                         .kv_heads = "llama.attention.head_count_kv",
                                         .head_dim = "llama.attention.key_length",
                                         .experts = "llama.expert_count",
                                         .experts_per_token = "llama.expert_used_count",
                                         .window = "llama.attention.sliding_window",
                                         .context_max = "llama.context_length",
                                         .rms_eps = "llama.attention.layer_norm_rms_epsilon",
                                         .rope_theta = "llama.rope.freq_base",
                                         .bos = "tokenizer.ggml.bos_token_id",
                                         .eos = "tokenizer.ggml.eos_token_id"};

typedef struct keys {
    const gguf_file *gguf;
    anemo_error *err;
} keys;

/* ---------------------------------------------------------------- typed reads */

static bool as_real(uint32_t type, const uint8_t *p, double *out) {
    const uint64_t bits = type == GGUF_F64 ? anemo_load_u64(p) : 0;
    if (type == GGUF_F32)
        *out = anemo_bits_f32(anemo_load_u32(p));
    else if (type == GGUF_F64)
        memcpy(out, &bits, sizeof bits);
    return type == GGUF_F32 || type == GGUF_F64;
}

static anemo_shown show_value(const gguf_value *value) {
    char text[96];
    int64_t integer;
    double real;
    if (!value)
        return anemo_show("missing");
    if (value->type == GGUF_STRING)
        return anemo_show_bytes(value->data, (size_t)value->count);
    if (value->type == GGUF_ARRAY)
        snprintf(text, sizeof text, "an array of %" PRIu64 " values", value->count);
    else if (value->type == GGUF_BOOL)
        snprintf(text, sizeof text, "%s", value->data[0] ? "true" : "false");
    else if (gguf_as_int(value->type, value->data, &integer))
        snprintf(text, sizeof text, "%" PRId64, integer);
    else if (as_real(value->type, value->data, &real))
        snprintf(text, sizeof text, "%g", real);
    else
        snprintf(text, sizeof text, "%" PRIu64, anemo_load_u64(value->data));
    return anemo_show(text);
}

static anemo_status refuse(const keys *k, const char *key, const char *accepted) {
    return anemo_fail(k->err, ANEMO_E_INPUT, "%s: %s is %s; accepted: %s", k->gguf->path, key,
                      show_value(gguf_find(k->gguf, key)).text, accepted);
}

static anemo_status read_int(const keys *k, const char *key, int64_t *out) {
    const gguf_value *value = gguf_find(k->gguf, key);
    if (!value || !gguf_as_int(value->type, value->data, out))
        return refuse(k, key, "an integer");
    return ANEMO_OK;
}

static anemo_status read_int_or(const keys *k, const char *key, int64_t absent, int64_t *out) {
    *out = absent;
    return gguf_find(k->gguf, key) ? read_int(k, key, out) : ANEMO_OK;
}

static anemo_status read_real(const keys *k, const char *key, double *out) {
    const gguf_value *value = gguf_find(k->gguf, key);
    if (!value || !as_real(value->type, value->data, out))
        return refuse(k, key, "a float");
    return ANEMO_OK;
}

static bool is_text(const gguf_value *value, const char *text) {
    return value && value->type == GGUF_STRING && value->count == strlen(text) &&
           memcmp(value->data, text, strlen(text)) == 0;
}

/* A number, or an array that repeats one number for each layer. */
static anemo_status read_per_layer(const keys *k, const char *key, int64_t *out) {
    const gguf_value *value = gguf_find(k->gguf, key);
    if (!value || value->type != GGUF_ARRAY)
        return read_int(k, key, out);
    const size_t bytes = value->element == GGUF_U32 || value->element == GGUF_I32 ? 4 : 0;
    if (bytes == 0 || value->count == 0 || !gguf_as_int(value->element, value->data, out))
        return refuse(k, key, "an integer, or an array of 32-bit integers, one per layer");
    for (uint64_t i = 1; i < value->count; ++i) {
        int64_t other = 0;
        gguf_as_int(value->element, value->data + i * bytes, &other);
        if (other != *out)
            return refuse(k, key, "the same number for every layer (others are not supported yet)");
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- what is not supported */

static anemo_status require_text(const keys *k, const char *key, const char *text,
                                 const char *accepted) {
    const gguf_value *value = gguf_find(k->gguf, key);
    return !value || is_text(value, text) ? ANEMO_OK : refuse(k, key, accepted);
}

/* Numeric keys that must be absent or have this value, and bools that must be absent or true. */
static anemo_status refuse_unsupported(const keys *k) {
    static const struct {
        const char *key;
        double accepted;
        const char *text;
    } numbers[] = {
        {"llama.rope.scale_linear", 1, "1 (scaled RoPE is not supported yet)"},
        {"llama.rope.scaling.factor", 1, "1 (scaled RoPE is not supported yet)"},
        {"llama.expert_shared_count", 0, "0 (shared experts are not supported yet)"},
        {"llama.expert_weights_scale", 1, "1"},
        {"llama.expert_gating_func", 1, "1 (softmax)"},
        {"llama.expert_weights_norm", 1, "true"},
        {"llama.attention.causal", 1, "true"},
        {"llama.attention.scale", 0, "absent (1 / sqrt(key_length))"},
        {"llama.logit_scale", 1, "absent"},
        {"llama.residual_scale", 1, "absent"},
        {"llama.embedding_scale", 1, "absent"},
        {"llama.attention.temperature_scale", 0, "absent"},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; ++i) {
        const gguf_value *value = gguf_find(k->gguf, numbers[i].key);
        int64_t integer = 0;
        double real = 0;
        if (!value)
            continue;
        const bool number = as_real(value->type, value->data, &real);
        if (!number &&
            gguf_as_int(value->type == GGUF_BOOL ? GGUF_U8 : value->type, value->data, &integer))
            real = (double)integer;
        else if (!number)
            return refuse(k, numbers[i].key, numbers[i].text);
        if (real != numbers[i].accepted)
            return refuse(k, numbers[i].key, numbers[i].text);
    }
    if (gguf_find(k->gguf, "llama.attention.sliding_window_pattern"))
        return refuse(k, "llama.attention.sliding_window_pattern",
                      "absent (mixed layers are not supported yet)");
    return require_text(k, "llama.rope.scaling.type", "none",
                        "none (scaled RoPE is not supported yet)");
}

/* ---------------------------------------------------------------- reading */

static anemo_status read_heads(const keys *k, anemo_hparams *h) {
    int64_t value_length = 0, rotary = 0;
    ANEMO_TRY(read_per_layer(k, names.heads, &h->heads));
    h->kv_heads = h->heads;
    if (gguf_find(k->gguf, names.kv_heads))
        ANEMO_TRY(read_per_layer(k, names.kv_heads, &h->kv_heads));
    if (!gguf_find(k->gguf, names.head_dim) && (h->heads < 1 || h->d % h->heads != 0))
        return refuse(k, names.heads,
                      "a divisor of llama.embedding_length where "
                      "llama.attention.key_length is absent");
    ANEMO_TRY(read_int_or(k, names.head_dim, h->d / (h->heads ? h->heads : 1), &h->head_dim));
    ANEMO_TRY(read_int_or(k, "llama.attention.value_length", h->head_dim, &value_length));
    ANEMO_TRY(read_int_or(k, "llama.rope.dimension_count", h->head_dim, &rotary));
    if (value_length != h->head_dim)
        return refuse(k, "llama.attention.value_length", "the value of llama.attention.key_length");
    if (rotary != h->head_dim)
        return refuse(k, "llama.rope.dimension_count",
                      "the head size (partial rotation is not supported yet)");
    return ANEMO_OK;
}

static anemo_status read_vocabulary(const keys *k, const anemo_tensors *tensors, anemo_hparams *h) {
    const anemo_tensor *embedding = anemo_tensors_find(tensors, "token_embd.weight");
    const int64_t rows = embedding && embedding->rank == 2 ? embedding->shape[0] : 0;
    h->tied = !anemo_tensors_find(tensors, "output.weight");
    if (!embedding)
        return anemo_fail(k->err, ANEMO_E_INPUT,
                          "%s: tensor token_embd.weight is missing; accepted: files with weights, "
                          "not only a vocabulary",
                          k->gguf->path);
    return read_int_or(k, names.vocab, rows, &h->vocab);
}

static anemo_status read_token(const keys *k, const char *key, int32_t *out) {
    int64_t id = -1;
    ANEMO_TRY(read_int_or(k, key, -1, &id));
    if (id < -1 || id > INT32_MAX || (id == -1 && gguf_find(k->gguf, key)))
        return refuse(k, key, "a token id");
    *out = (int32_t)id;
    return ANEMO_OK;
}

static anemo_status read_tokens(const keys *k, anemo_hparams *h) {
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id"};
    ANEMO_TRY(read_token(k, names.bos, &h->bos));
    for (size_t i = 0; i < sizeof ends / sizeof *ends; ++i) {
        int32_t id = -1;
        ANEMO_TRY(read_token(k, ends[i], &id));
        if (id >= 0 && (h->n_eos == 0 || h->eos[0] != id))
            h->eos[h->n_eos++] = id;
    }
    return ANEMO_OK;
}

static anemo_status read_all(const keys *k, const anemo_tensors *tensors, anemo_hparams *h) {
    ANEMO_TRY(refuse_unsupported(k));
    ANEMO_TRY(read_int(k, names.d, &h->d));
    ANEMO_TRY(read_per_layer(k, names.ffn, &h->ffn));
    ANEMO_TRY(read_int(k, names.layers, &h->layers));
    ANEMO_TRY(read_int(k, names.context_max, &h->context_max));
    ANEMO_TRY(read_real(k, names.rms_eps, &h->rms_eps));
    ANEMO_TRY(read_heads(k, h));
    h->rope_theta = 10000;
    h->rope_pairing = ANEMO_ROPE_INTERLEAVED;
    if (gguf_find(k->gguf, names.rope_theta))
        ANEMO_TRY(read_real(k, names.rope_theta, &h->rope_theta));
    ANEMO_TRY(read_int_or(k, names.window, 0, &h->window));
    ANEMO_TRY(read_int_or(k, names.experts, 0, &h->experts));
    h->arch = h->experts ? ANEMO_ARCH_MIXTRAL : ANEMO_ARCH_MISTRAL;
    if (h->experts)
        ANEMO_TRY(read_int(k, names.experts_per_token, &h->experts_per_token));
    ANEMO_TRY(read_vocabulary(k, tensors, h));
    ANEMO_TRY(read_tokens(k, h));
    return anemo_hparams_check(k->gguf->path, &names, h, k->err);
}

anemo_status gguf_hparams(const gguf_file *gguf, const anemo_tensors *tensors, anemo_hparams *out,
                          anemo_error *err) {
    const keys k = {gguf, err};
    memset(out, 0, sizeof *out);
    if (!is_text(gguf_find(gguf, "general.architecture"), "llama"))
        return refuse(&k, "general.architecture", "llama (Llama, Mistral and Mixtral)");
    ANEMO_TRY(require_text(&k, "general.type", "model", "model"));
    return read_all(&k, tensors, out);
}
