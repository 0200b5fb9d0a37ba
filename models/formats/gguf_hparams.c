/* Keys of a GGUF file -> hyper-parameters. Architectures as llama.cpp names them: "llama" (Llama,
 * Mistral, Mixtral, Ministral 8B), "mistral3" (Ministral 3), "qwen3moe", "gpt-oss"; keys of an
 * architecture begin with its name and are written here from the dot on.
 *
 * As with config.json, what changes the mathematics and is not supported is refused by name.
 * Defaults are those of the format: head_count_kv = head_count, key_length = embedding_length /
 * head_count, rope.freq_base = 10000, gpt-oss windows on layers 0, 2, 4 ... llama.cpp computes no
 * sliding window for architecture llama; where the key is there, anemo does, because the model was
 * trained with it. Llama 3's RoPE scaling has no keys: its factors are the tensor
 * rope_freqs.weight. YaRN in a gpt-oss file is computed as the model was trained, with a ramp
 * between fractions of pairs; llama.cpp rounds them. */
#include "models/formats/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

typedef struct family {
    const char *name;
    anemo_arch arch; /* of "llama" more is decided later */
    anemo_rope_pairing pairing;
    bool yarn, mixed_layers;
} family;

static const family families[] = {
    {"llama", ANEMO_ARCH_MISTRAL, ANEMO_ROPE_INTERLEAVED, .mixed_layers = true},
    {"mistral3", ANEMO_ARCH_MINISTRAL3, ANEMO_ROPE_INTERLEAVED, .yarn = true},
    {"qwen3moe", ANEMO_ARCH_QWEN3MOE, ANEMO_ROPE_HALF, .yarn = true},
    {"gpt-oss", ANEMO_ARCH_GPTOSS, ANEMO_ROPE_HALF, .yarn = true, .mixed_layers = true},
};

#define VOCAB             ".vocab_size"
#define D                 ".embedding_length"
#define FFN               ".feed_forward_length"
#define EXPERT_FFN        ".expert_feed_forward_length"
#define LAYERS            ".block_count"
#define HEADS             ".attention.head_count"
#define KV_HEADS          ".attention.head_count_kv"
#define HEAD_DIM          ".attention.key_length"
#define VALUE_DIM         ".attention.value_length"
#define EXPERTS           ".expert_count"
#define EXPERTS_PER_TOKEN ".expert_used_count"
#define WINDOW            ".attention.sliding_window"
#define PATTERN           ".attention.sliding_window_pattern"
#define CONTEXT           ".context_length"
#define RMS_EPS           ".attention.layer_norm_rms_epsilon"
#define ROPE_THETA        ".rope.freq_base"
#define WINDOW_THETA      ".rope.freq_base_swa" /* of layers with a window */
#define ROTARY            ".rope.dimension_count"
#define SCALING           ".rope.scaling.type"
#define ORIGINAL_CONTEXT  ".rope.scaling.original_context_length"
#define TEMPERATURE       ".attention.temperature_scale"
#define PERIOD            ".attention.temperature_length"
#define BOS               "tokenizer.ggml.bos_token_id"
#define EOS               "tokenizer.ggml.eos_token_id"

typedef struct keys {
    const gguf_file *gguf;
    const family *family;
    anemo_error *err;
} keys;

typedef struct full_key {
    char text[96];
} full_key;

/* A key that begins with a dot belongs to the architecture. */
static full_key full(const keys *k, const char *key) {
    full_key result;
    snprintf(result.text, sizeof result.text, "%s%s",
             key[0] == '.' && k->family ? k->family->name : "", key);
    return result;
}

static const gguf_value *find(const keys *k, const char *key) {
    return gguf_find(k->gguf, full(k, key).text);
}

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
    return anemo_fail(k->err, ANEMO_E_INPUT, "%s: %s is %s; accepted: %s", k->gguf->path,
                      full(k, key).text, show_value(find(k, key)).text, accepted);
}

static anemo_status read_int(const keys *k, const char *key, int64_t *out) {
    const gguf_value *value = find(k, key);
    if (!value || !gguf_as_int(value->type, value->data, out))
        return refuse(k, key, "an integer");
    return ANEMO_OK;
}

static anemo_status read_int_or(const keys *k, const char *key, int64_t absent, int64_t *out) {
    *out = absent;
    return find(k, key) ? read_int(k, key, out) : ANEMO_OK;
}

static anemo_status read_real(const keys *k, const char *key, double *out) {
    const gguf_value *value = find(k, key);
    if (!value || !as_real(value->type, value->data, out))
        return refuse(k, key, "a float");
    return ANEMO_OK;
}

static anemo_status read_real_or(const keys *k, const char *key, double absent, double *out) {
    *out = absent;
    return find(k, key) ? read_real(k, key, out) : ANEMO_OK;
}

static bool is_text(const gguf_value *value, const char *text) {
    return value && value->type == GGUF_STRING && value->count == strlen(text) &&
           memcmp(value->data, text, strlen(text)) == 0;
}

/* A number, or an array with one for each layer. A plan has one size of each buffer and KV page for
 * all layers, and no family needs more: layers that differ are refused, with the first that does.
 */
static anemo_status read_per_layer(const keys *k, const char *key, int64_t layers, int64_t *out) {
    const gguf_value *value = find(k, key);
    if (!value || value->type != GGUF_ARRAY)
        return read_int(k, key, out);
    const uint64_t bytes = gguf_scalar_bytes(value->element);
    if (bytes == 0 || value->count == 0 || !gguf_as_int(value->element, value->data, out))
        return refuse(k, key, "an integer, or an array of integers, one per layer");
    if (value->count != (uint64_t)layers)
        return anemo_fail(k->err, ANEMO_E_INPUT,
                          "%s: %s is an array of %" PRIu64 " values; accepted: an integer, or one "
                          "per layer (block_count is %" PRId64 ")",
                          k->gguf->path, full(k, key).text, value->count, layers);
    for (uint64_t layer = 1; layer < value->count; ++layer) {
        int64_t other = 0;
        if (!gguf_as_int(value->element, value->data + layer * bytes, &other))
            return refuse(k, key, "an integer, or an array of integers, one per layer");
        if (other != *out)
            return anemo_fail(k->err, ANEMO_E_INPUT,
                              "%s: %s is %" PRId64 " in layer 0 and %" PRId64 " in layer %" PRIu64
                              "; accepted: the same number in every layer (others are not "
                              "supported yet)",
                              k->gguf->path, full(k, key).text, *out, other, layer);
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- what is not supported */

static anemo_status require_text(const keys *k, const char *key, const char *text,
                                 const char *accepted) {
    const gguf_value *value = find(k, key);
    return !value || is_text(value, text) ? ANEMO_OK : refuse(k, key, accepted);
}

/* Numeric keys that must be absent or have this value, and bools that must be absent or true. */
static anemo_status refuse_unsupported(const keys *k) {
    static const struct {
        const char *key;
        double accepted;
        const char *text;
    } numbers[] = {
        {".rope.scale_linear", 1, "1 (linear scaling is not supported)"},
        {".expert_shared_count", 0, "0 (shared experts are not supported yet)"},
        {".expert_weights_scale", 1, "1"},
        {".expert_gating_func", 1, "1 (softmax)"},
        {".expert_weights_norm", 1, "true"},
        {".attention.causal", 1, "true"},
        {".attention.scale", 0, "absent (1 / sqrt(key_length))"},
        {".logit_scale", 1, "absent"},
        {".residual_scale", 1, "absent"},
        {".embedding_scale", 1, "absent"},
        {".rope.scaling.yarn_ext_factor", 1, "1"},
        {".rope.scaling.yarn_attn_factor", 1, "1"},
        {".rope.scaling.attn_factor", 1, "1"},
        {".attn_logit_softcapping", 0, "absent"},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; ++i) {
        const gguf_value *value = find(k, numbers[i].key);
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
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- rope */

/* llama.cpp's magnitude of cos and sin: 1 + 0.1 ln(factor), divided by the same with the log
 * multiplier, which Mistral's files set to 1 and others leave out. */
static anemo_status read_yarn(const keys *k, anemo_rope_scaling *rope) {
    double log_multiplier;
    ANEMO_TRY(read_real(k, ".rope.scaling.factor", &rope->factor));
    ANEMO_TRY(read_real_or(k, ".rope.scaling.yarn_beta_slow", 1, &rope->low));
    ANEMO_TRY(read_real_or(k, ".rope.scaling.yarn_beta_fast", 32, &rope->high));
    ANEMO_TRY(read_real_or(k, ".rope.scaling.yarn_log_multiplier", 0, &log_multiplier));
    int64_t original = 0;
    ANEMO_TRY(read_int(k, ORIGINAL_CONTEXT, &original));
    const double part = rope->factor > 1 ? 0.1 * log(rope->factor) : 0;
    rope->kind = ANEMO_ROPE_YARN;
    rope->truncate = k->family->arch != ANEMO_ARCH_GPTOSS;
    rope->original_context = (double)original;
    rope->magnitude = (1 + part) / (1 + log_multiplier * part);
    return ANEMO_OK;
}

static anemo_status read_temperature(const keys *k, anemo_hparams *h) {
    if (!find(k, TEMPERATURE))
        return ANEMO_OK;
    if (h->arch != ANEMO_ARCH_MINISTRAL3)
        return refuse(k, TEMPERATURE, "absent, but for architecture mistral3");
    ANEMO_TRY(read_real(k, TEMPERATURE, &h->temperature));
    return read_int(k, find(k, PERIOD) ? PERIOD : ORIGINAL_CONTEXT, &h->temperature_period);
}

static anemo_status read_rope(const keys *k, const anemo_tensors *tensors, anemo_hparams *h) {
    double of_windows;
    ANEMO_TRY(read_real_or(k, ROPE_THETA, 10000, &h->rope_theta));
    ANEMO_TRY(read_real_or(k, WINDOW_THETA, h->rope_theta, &of_windows));
    if (of_windows != h->rope_theta)
        return refuse(k, WINDOW_THETA, "absent, or the value of rope.freq_base");
    h->rope_pairing = (int32_t)k->family->pairing;
    const gguf_value *type = find(k, SCALING);
    if (type && k->family->yarn && is_text(type, "yarn")) {
        ANEMO_TRY(read_yarn(k, &h->rope));
    } else if (type && !is_text(type, "none")) {
        return refuse(k, SCALING,
                      k->family->yarn
                          ? "none or yarn (other scaled RoPE is not supported yet)"
                          : "none, or factors in rope_freqs.weight (other scaled RoPE is not "
                            "supported yet)");
    } else {
        double factor;
        ANEMO_TRY(read_real_or(k, ".rope.scaling.factor", 1, &factor));
        if (factor != 1)
            return refuse(k, ".rope.scaling.factor", "1 where no scaling type is given");
    }
    if (h->arch == ANEMO_ARCH_MISTRAL && anemo_tensors_find(tensors, "rope_freqs.weight")) {
        h->arch = ANEMO_ARCH_LLAMA;
        h->rope.kind = ANEMO_ROPE_FACTORS;
    }
    return read_temperature(k, h);
}

/* ---------------------------------------------------------------- windows */

/* sliding_window_pattern: a bool per layer, true = windowed; or a period of which the last layer
 * sees everything (1: all layers do; 0: none). */
static anemo_status read_pattern(const keys *k, anemo_hparams *h) {
    static const char accepted[] = "an integer from 0, or one bool per layer";
    const gguf_value *value = find(k, PATTERN);
    if (value && value->type == GGUF_ARRAY) {
        if (value->element != GGUF_BOOL || value->count != (uint64_t)h->layers)
            return refuse(k, PATTERN, accepted);
        for (int64_t layer = 0; layer < h->layers; ++layer)
            if (!value->data[layer])
                anemo_set_full_layer(h, layer);
        return ANEMO_OK;
    }
    int64_t period = h->arch == ANEMO_ARCH_GPTOSS ? 2 : 0;
    if (value)
        ANEMO_TRY(read_int(k, PATTERN, &period));
    if (period < 0)
        return refuse(k, PATTERN, accepted);
    for (int64_t layer = period - 1; period > 0 && layer < h->layers; layer += period)
        anemo_set_full_layer(h, layer);
    return ANEMO_OK;
}

static anemo_status read_windows(const keys *k, anemo_hparams *h) {
    ANEMO_TRY(h->arch == ANEMO_ARCH_GPTOSS ? read_int(k, WINDOW, &h->window)
                                           : read_int_or(k, WINDOW, 0, &h->window));
    if (h->window == 0 && find(k, PATTERN))
        return refuse(k, PATTERN, "absent without sliding_window (it tells mixed layers apart)");
    if (h->window <= 0 || h->layers < 1 || h->layers > ANEMO_LAYERS_MAX)
        return ANEMO_OK; /* no window; or anemo_hparams_check() says what is wrong */
    if (!k->family->mixed_layers)
        return find(k, PATTERN)
                   ? refuse(k, PATTERN, "absent (the layers of this architecture agree)")
                   : ANEMO_OK;
    ANEMO_TRY(read_pattern(k, h));
    const int64_t n_full = anemo_full_layers(h);
    if (n_full == h->layers) {
        h->window = 0; /* and a window that the user asks for is one of all layers */
        memset(h->full_layers, 0, sizeof h->full_layers);
    } else if (n_full > 0 && h->arch == ANEMO_ARCH_MISTRAL) {
        h->arch = ANEMO_ARCH_MINISTRAL;
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- reading */

static anemo_status read_heads(const keys *k, anemo_hparams *h) {
    int64_t value_length = 0, rotary = 0;
    ANEMO_TRY(read_per_layer(k, HEADS, h->layers, &h->heads));
    h->kv_heads = h->heads;
    if (find(k, KV_HEADS))
        ANEMO_TRY(read_per_layer(k, KV_HEADS, h->layers, &h->kv_heads));
    if (!find(k, HEAD_DIM) && (h->heads < 1 || h->d % h->heads != 0))
        return refuse(k, HEADS,
                      "a divisor of embedding_length where attention.key_length is absent");
    ANEMO_TRY(read_int_or(k, HEAD_DIM, h->d / (h->heads ? h->heads : 1), &h->head_dim));
    ANEMO_TRY(read_int_or(k, VALUE_DIM, h->head_dim, &value_length));
    ANEMO_TRY(read_int_or(k, ROTARY, h->head_dim, &rotary));
    if (value_length != h->head_dim)
        return refuse(k, VALUE_DIM, "the value of attention.key_length");
    if (rotary != h->head_dim)
        return refuse(k, ROTARY, "the head size (partial rotation is not supported yet)");
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
    return read_int_or(k, VOCAB, rows, &h->vocab);
}

static anemo_status read_token(const keys *k, const char *key, int32_t *out) {
    int64_t id = -1;
    ANEMO_TRY(read_int_or(k, key, -1, &id));
    if (id < -1 || id > INT32_MAX || (id == -1 && find(k, key)))
        return refuse(k, key, "a token id");
    *out = (int32_t)id;
    return ANEMO_OK;
}

static anemo_status read_tokens(const keys *k, anemo_hparams *h) {
    static const char *const ends[] = {EOS, "tokenizer.ggml.eot_token_id"};
    ANEMO_TRY(read_token(k, BOS, &h->bos));
    for (size_t i = 0; i < sizeof ends / sizeof *ends; ++i) {
        int32_t id = -1;
        ANEMO_TRY(read_token(k, ends[i], &id));
        if (id >= 0 && (h->n_eos == 0 || h->eos[0] != id))
            h->eos[h->n_eos++] = id;
    }
    return ANEMO_OK;
}

/* The words of this file, for sentences. */
static anemo_status check(const keys *k, const anemo_hparams *h, bool own_ffn) {
    const full_key vocab = full(k, VOCAB), d = full(k, D), layers = full(k, LAYERS);
    const full_key ffn = full(k, own_ffn ? EXPERT_FFN : FFN), heads = full(k, HEADS);
    const full_key kv_heads = full(k, KV_HEADS), head_dim = full(k, HEAD_DIM);
    const full_key experts = full(k, EXPERTS), experts_per_token = full(k, EXPERTS_PER_TOKEN);
    const full_key window = full(k, WINDOW), context_max = full(k, CONTEXT);
    const full_key rms_eps = full(k, RMS_EPS), rope_theta = full(k, ROPE_THETA);
    const anemo_hparam_names names = {.vocab = vocab.text,
                                      .d = d.text,
                                      .ffn = ffn.text,
                                      .layers = layers.text,
                                      .heads = heads.text,
                                      .kv_heads = kv_heads.text,
                                      .head_dim = head_dim.text,
                                      .experts = experts.text,
                                      .experts_per_token = experts_per_token.text,
                                      .window = window.text,
                                      .context_max = context_max.text,
                                      .rms_eps = rms_eps.text,
                                      .rope_theta = rope_theta.text,
                                      .bos = BOS,
                                      .eos = EOS};
    return anemo_hparams_check(k->gguf->path, &names, h, k->err);
}

static anemo_status read_all(const keys *k, const anemo_tensors *tensors, anemo_hparams *h) {
    const bool moe = h->arch == ANEMO_ARCH_QWEN3MOE || h->arch == ANEMO_ARCH_GPTOSS;
    ANEMO_TRY(refuse_unsupported(k));
    ANEMO_TRY(read_int(k, D, &h->d));
    ANEMO_TRY(read_int(k, LAYERS, &h->layers));
    ANEMO_TRY(read_per_layer(k, moe ? EXPERT_FFN : FFN, h->layers, &h->ffn));
    ANEMO_TRY(read_int(k, CONTEXT, &h->context_max));
    ANEMO_TRY(read_real(k, RMS_EPS, &h->rms_eps));
    ANEMO_TRY(read_heads(k, h));
    ANEMO_TRY(moe ? read_int(k, EXPERTS, &h->experts) : read_int_or(k, EXPERTS, 0, &h->experts));
    if (h->experts && h->arch == ANEMO_ARCH_MISTRAL)
        h->arch = ANEMO_ARCH_MIXTRAL;
    if (h->experts)
        ANEMO_TRY(read_int(k, EXPERTS_PER_TOKEN, &h->experts_per_token));
    ANEMO_TRY(read_rope(k, tensors, h));
    ANEMO_TRY(read_windows(k, h));
    ANEMO_TRY(read_vocabulary(k, tensors, h));
    ANEMO_TRY(read_tokens(k, h));
    return check(k, h, moe);
}

anemo_status gguf_hparams(const gguf_file *gguf, const anemo_tensors *tensors, anemo_hparams *out,
                          anemo_error *err) {
    keys k = {.gguf = gguf, .err = err};
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < sizeof families / sizeof *families; ++i)
        if (is_text(gguf_find(gguf, "general.architecture"), families[i].name))
            k.family = &families[i];
    if (!k.family)
        return refuse(&k, "general.architecture",
                      "llama (Llama, Mistral, Mixtral, Ministral 8B), mistral3 (Ministral 3), "
                      "qwen3moe, gpt-oss");
    out->arch = k.family->arch;
    ANEMO_TRY(require_text(&k, "general.type", "model", "model"));
    return read_all(&k, tensors, out);
}
