/* config.json of a Hugging Face directory -> hyper-parameters.
 *
 * Two rules. What changes the mathematics and is not supported is refused by name, never ignored:
 * a RoPE scaling that the family does not have, biases, another activation, layers of
 * mixed attention where all should agree. And what has no safe default is required: rope_theta
 * above all, for which published readers disagree (1e4 and 1e6). Where transformers defines a
 * default that files rely on, it is followed: an absent sliding_window means 4096 in a mistral and
 * a ministral file, 128 in gpt_oss, none elsewhere; an absent head_dim is hidden_size /
 * num_attention_heads, an absent tie_word_embeddings is false, gpt_oss layers alternate where
 * layer_types does not say.
 *
 * A multimodal file (mistral3; llava with a pixtral tower) keeps the language model's fields in
 * text_config; tokens and tying may stand beside it. */
#include "models/formats/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct family {
    const char *model_type;
    anemo_arch arch;
    int64_t default_window; /* transformers' */
    bool mixed_layers;      /* layer_types may differ */
    bool llama3, yarn;      /* RoPE scalings that it knows */
} family;

static const family families[] = {
    {"mistral", ANEMO_ARCH_MISTRAL, .default_window = 4096},
    {"mixtral", ANEMO_ARCH_MIXTRAL},
    {"llama", ANEMO_ARCH_LLAMA, .llama3 = true},
    {"ministral", ANEMO_ARCH_MINISTRAL, .default_window = 4096, .mixed_layers = true},
    {"ministral3", ANEMO_ARCH_MINISTRAL3, .yarn = true},
    {"qwen3_moe", ANEMO_ARCH_QWEN3MOE, .yarn = true},
    {"gpt_oss", ANEMO_ARCH_GPTOSS, .default_window = 128, .mixed_layers = true, .yarn = true},
};

static const anemo_hparam_names names = {.vocab = "vocab_size",
                                         .d = "hidden_size",
                                         .ffn = "intermediate_size",
                                         .layers = "num_hidden_layers",
                                         .heads = "num_attention_heads",
                                         .kv_heads = "num_key_value_heads",
                                         .head_dim = "head_dim",
                                         .experts = "num_local_experts",
                                         .experts_per_token = "num_experts_per_tok",
                                         .window = "sliding_window",
                                         .context_max = "max_position_embeddings",
                                         .rms_eps = "rms_norm_eps",
                                         .rope_theta = "rope_theta",
                                         .bos = "bos_token_id",
                                         .eos = "eos_token_id"};

typedef struct config {
    const char *path;
    json_t *root;  /* the language model's object */
    json_t *outer; /* the whole file where that is text_config, else NULL */
    const family *family;
    anemo_error *err;
} config;

static anemo_status refuse(const config *c, const char *field, const json_t *value,
                           const char *accepted) {
    return anemo_fail(c->err, ANEMO_E_INPUT, "%s: %s is %s; accepted: %s", c->path, field,
                      anemo_show_json(value).text, accepted);
}

/* The field, or NULL when it is absent or null. */
static json_t *field(const config *c, const char *name) {
    json_t *value = json_object_get(c->root, name);
    return json_is_null(value) ? NULL : value;
}

/* The field, in a multimodal file also beside text_config. */
static json_t *field_or_outer(const config *c, const char *name) {
    json_t *value = field(c, name);
    if (!value && c->outer)
        value = json_object_get(c->outer, name);
    return json_is_null(value) ? NULL : value;
}

static anemo_status read_int(const config *c, const char *name, int64_t *out) {
    const json_t *value = json_object_get(c->root, name);
    if (!json_is_integer(value))
        return refuse(c, name, value, "an integer");
    *out = json_integer_value(value);
    return ANEMO_OK;
}

static anemo_status read_int_or(const config *c, const char *name, int64_t absent, int64_t *out) {
    *out = absent;
    return field(c, name) ? read_int(c, name, out) : ANEMO_OK;
}

static anemo_status read_bool_or(const config *c, const char *name, bool absent, bool *out) {
    const json_t *value = field_or_outer(c, name);
    if (value && !json_is_boolean(value))
        return refuse(c, name, value, "true or false");
    *out = value ? json_is_true(value) : absent;
    return ANEMO_OK;
}

/* A field that must be absent or this boolean: anything else is other mathematics. */
static anemo_status require_bool(const config *c, const char *name, bool absent, bool wanted) {
    bool value = absent;
    ANEMO_TRY(read_bool_or(c, name, absent, &value));
    return value == wanted ? ANEMO_OK : refuse(c, name, field(c, name), wanted ? "true" : "false");
}

/* ---------------------------------------------------------------- rope */

/* A number of the object `name`; `absent` where it is not there, NAN: it is required. */
static anemo_status read_rope_number(const config *c, const char *name, const json_t *object,
                                     const char *key, double absent, double *out) {
    const json_t *value = json_object_get(object, key);
    char where[96];
    *out = absent;
    if (!isnan(absent) && (!value || json_is_null(value)))
        return ANEMO_OK;
    snprintf(where, sizeof where, "%s.%s", name, key);
    if (!json_is_number(value))
        return refuse(c, where, value, "a number");
    *out = json_number_value(value);
    return ANEMO_OK;
}

static anemo_status read_llama3(const config *c, const char *name, const json_t *object,
                                anemo_rope_scaling *rope) {
    rope->kind = ANEMO_ROPE_LLAMA3;
    ANEMO_TRY(read_rope_number(c, name, object, "factor", NAN, &rope->factor));
    ANEMO_TRY(read_rope_number(c, name, object, "low_freq_factor", NAN, &rope->low));
    ANEMO_TRY(read_rope_number(c, name, object, "high_freq_factor", NAN, &rope->high));
    return read_rope_number(c, name, object, "original_max_position_embeddings", NAN,
                            &rope->original_context);
}

/* The magnitude of cos and sin: attention_factor, or the ratio that mscale and mscale_all_dim give
 * (both or none), or 0.1 ln(factor) + 1. */
static anemo_status read_yarn(const config *c, const char *name, const json_t *object,
                              anemo_rope_scaling *rope) {
    double mscale, all_dim;
    const json_t *truncate = json_object_get(object, "truncate");
    if (truncate && !json_is_boolean(truncate))
        return refuse(c, "rope truncate", truncate, "true or false");
    rope->kind = ANEMO_ROPE_YARN;
    rope->truncate = !truncate || json_is_true(truncate);
    ANEMO_TRY(read_rope_number(c, name, object, "factor", NAN, &rope->factor));
    ANEMO_TRY(read_rope_number(c, name, object, "beta_slow", 1, &rope->low));
    ANEMO_TRY(read_rope_number(c, name, object, "beta_fast", 32, &rope->high));
    ANEMO_TRY(read_rope_number(c, name, object, "original_max_position_embeddings", NAN,
                               &rope->original_context));
    ANEMO_TRY(read_rope_number(c, name, object, "mscale", 0, &mscale));
    ANEMO_TRY(read_rope_number(c, name, object, "mscale_all_dim", 0, &all_dim));
    ANEMO_TRY(read_rope_number(c, name, object, "attention_factor", 0, &rope->magnitude));
    if (rope->magnitude == 0 && rope->factor > 1) {
        const double part = 0.1 * log(rope->factor);
        rope->magnitude =
            mscale != 0 && all_dim != 0 ? (mscale * part + 1) / (all_dim * part + 1) : part + 1;
    }
    return ANEMO_OK;
}

/* The query temperature of Ministral 3 stands among the RoPE parameters. */
static anemo_status read_temperature(const config *c, const char *name, const json_t *object,
                                     anemo_hparams *h) {
    const json_t *beta = json_object_get(object, "llama_4_scaling_beta");
    double period;
    char where[96];
    if (!beta || json_is_null(beta))
        return ANEMO_OK;
    snprintf(where, sizeof where, "%s.llama_4_scaling_beta", name);
    if (h->arch != ANEMO_ARCH_MINISTRAL3)
        return refuse(c, where, beta, "absent, but for model_type ministral3");
    ANEMO_TRY(read_rope_number(c, name, object, "llama_4_scaling_beta", NAN, &h->temperature));
    ANEMO_TRY(read_rope_number(c, name, object, "original_max_position_embeddings", NAN, &period));
    if (!(period >= 1 && period <= INT32_MAX && period == floor(period)))
        return refuse(c, "original_max_position_embeddings",
                      json_object_get(object, "original_max_position_embeddings"),
                      "an integer from 1 to 2^31 - 1");
    h->temperature_period = (int64_t)period;
    return ANEMO_OK;
}

/* rope_scaling (transformers 4) or rope_parameters (5). */
static anemo_status read_rope_object(const config *c, const char *name, const json_t *object,
                                     anemo_hparams *h) {
    char where[64], accepted[128];
    if (!json_is_object(object))
        return refuse(c, name, object, "an object or null");
    const json_t *type = json_object_get(object, "rope_type");
    snprintf(where, sizeof where, "%s.%s", name, type ? "rope_type" : "type");
    if (!type)
        type = json_object_get(object, "type");
    if (!type && json_object_get(object, "factor"))
        return refuse(c, name, object, "a rope_type beside factor");
    const char *kind = type ? json_string_value(type) : "default";
    const bool llama3 = kind && c->family->llama3 && strcmp(kind, "llama3") == 0;
    const bool yarn = kind && c->family->yarn && strcmp(kind, "yarn") == 0;
    if (!kind || (!llama3 && !yarn && strcmp(kind, "default") != 0)) {
        snprintf(accepted, sizeof accepted,
                 "\"default\"%s%s for model_type %s (other scaled "
                 "RoPE is not supported yet)",
                 c->family->llama3 ? " or \"llama3\"" : "", c->family->yarn ? " or \"yarn\"" : "",
                 c->family->model_type);
        return refuse(c, where, type, accepted);
    }
    const json_t *partial = json_object_get(object, "partial_rotary_factor");
    snprintf(where, sizeof where, "%s.partial_rotary_factor", name);
    if (partial && json_number_value(partial) != 1.0)
        return refuse(c, where, partial, "1 (partial rotation is not supported yet)");
    if ((llama3 || yarn) && h->rope.kind != ANEMO_ROPE_PLAIN)
        return refuse(c, name, object, "one scaling, in rope_parameters or in rope_scaling");
    ANEMO_TRY(read_temperature(c, name, object, h));
    return llama3 ? read_llama3(c, name, object, &h->rope)
           : yarn ? read_yarn(c, name, object, &h->rope)
                  : ANEMO_OK;
}

static anemo_status read_rope(const config *c, anemo_hparams *h) {
    const json_t *parameters = field(c, "rope_parameters"), *scaling = field(c, "rope_scaling");
    const json_t *plain = field(c, "rope_theta"), *partial = field(c, "partial_rotary_factor");
    if (scaling)
        ANEMO_TRY(read_rope_object(c, "rope_scaling", scaling, h));
    if (parameters)
        ANEMO_TRY(read_rope_object(c, "rope_parameters", parameters, h));
    if (partial && json_number_value(partial) != 1.0)
        return refuse(c, "partial_rotary_factor", partial,
                      "1 (partial rotation is not supported yet)");
    const json_t *nested = parameters ? json_object_get(parameters, "rope_theta") : NULL;
    const json_t *theta = nested ? nested : plain;
    if (!json_is_number(theta))
        return refuse(
            c, "rope_theta", theta,
            "a number, as rope_theta or rope_parameters.rope_theta (models differ: 10000, "
            "1000000, ...)");
    if (nested && plain && json_number_value(plain) != json_number_value(nested))
        return refuse(c, "rope_theta", plain, "the value of rope_parameters.rope_theta");
    h->rope_theta = json_number_value(theta);
    h->rope_pairing = ANEMO_ROPE_HALF;
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- window */

#define FULL    "full_attention"
#define SLIDING "sliding_attention"

/* layer_types: what the window says for every layer, or, in families that mix them, layer by
 * layer. */
static anemo_status read_layer_types(const config *c, anemo_hparams *h) {
    const char *uniform = h->window > 0 ? SLIDING : FULL;
    json_t *types = field(c, "layer_types");
    const json_t *type;
    size_t i;
    if (types && (!json_is_array(types) || json_array_size(types) != (size_t)h->layers))
        return refuse(c, "layer_types", types, "an array of num_hidden_layers strings");
    if (!types && h->arch == ANEMO_ARCH_GPTOSS)
        for (int64_t layer = 1; layer < h->layers; layer += 2)
            anemo_set_full_layer(h, layer);
    json_array_foreach(types, i, type) {
        const char *word = json_is_string(type) ? json_string_value(type) : "";
        const bool full = strcmp(word, FULL) == 0;
        if (strcmp(word, uniform) != 0 && !(c->family->mixed_layers && full))
            return anemo_fail(c->err, ANEMO_E_INPUT,
                              "%s: layer_types[%zu] is %s; accepted: \"%s\"%s", c->path, i,
                              anemo_show_json(type).text, uniform,
                              c->family->mixed_layers && h->window > 0
                                  ? " or \"" FULL "\""
                                  : " for every layer, as sliding_window says (mixed layers are "
                                    "not supported here)");
        if (full && h->window > 0)
            anemo_set_full_layer(h, (int64_t)i);
    }
    if (h->window > 0 && anemo_full_layers(h) == h->layers) {
        h->window = 0; /* and a window that the user asks for is one of all layers */
        memset(h->full_layers, 0, sizeof h->full_layers);
    }
    return ANEMO_OK;
}

static anemo_status read_window(const config *c, anemo_hparams *h) {
    const json_t *value = json_object_get(c->root, "sliding_window");
    h->window = 0;
    if (h->arch ==
        ANEMO_ARCH_QWEN3MOE) /* the window counts only where use_sliding_window says so */
        ANEMO_TRY(require_bool(c, "use_sliding_window", false, false));
    else if (json_is_integer(value))
        h->window = json_integer_value(value);
    else if (!value)
        h->window = c->family->default_window;
    else if (!json_is_null(value))
        return refuse(c, "sliding_window", value, "an integer or null");
    if (h->window != 0 && h->arch == ANEMO_ARCH_LLAMA)
        return refuse(c, "sliding_window", value, "null for model_type llama");
    if (h->window < 0 || h->layers < 1 || h->layers > ANEMO_LAYERS_MAX)
        return ANEMO_OK; /* anemo_hparams_check() says it */
    return read_layer_types(c, h);
}

/* ---------------------------------------------------------------- the rest */

static anemo_status read_token(const config *c, const char *name, const json_t *value,
                               int32_t *out) {
    const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id > INT32_MAX)
        return refuse(c, name, value, "a token id, 0 to vocab_size - 1");
    *out = (int32_t)id;
    return ANEMO_OK;
}

static anemo_status read_tokens(const config *c, anemo_hparams *h) {
    const json_t *bos = field_or_outer(c, "bos_token_id");
    const json_t *eos = field_or_outer(c, "eos_token_id"), *item;
    const int32_t room = (int32_t)(sizeof h->eos / sizeof *h->eos);
    size_t i;
    h->bos = -1;
    h->n_eos = 0;
    if (bos)
        ANEMO_TRY(read_token(c, "bos_token_id", bos, &h->bos));
    if (eos && !json_is_array(eos)) {
        h->n_eos = 1;
        return read_token(c, "eos_token_id", eos, &h->eos[0]);
    }
    if (json_array_size(eos) > (size_t)room)
        return refuse(c, "eos_token_id", eos, "at most 8 token ids");
    json_array_foreach(eos, i, item) {
        ANEMO_TRY(read_token(c, "eos_token_id", item, &h->eos[h->n_eos]));
        ++h->n_eos;
    }
    return ANEMO_OK;
}

/* Features that would change the result and are not computed. */
static anemo_status refuse_unsupported(const config *c, const anemo_hparams *h) {
    const bool gpt_oss = h->arch == ANEMO_ARCH_GPTOSS;
    const json_t *act = field(c, "hidden_act"), *limit = field(c, "swiglu_limit");
    const json_t *alpha = field(c, "swiglu_alpha");
    if (act && (!json_is_string(act) || strcmp(json_string_value(act), "silu") != 0))
        return refuse(c, "hidden_act", act, "\"silu\"");
    ANEMO_TRY(require_bool(c, "attention_bias", gpt_oss, gpt_oss));
    ANEMO_TRY(require_bool(c, "mlp_bias", false, false));
    if (gpt_oss && limit && json_number_value(limit) != 7)
        return refuse(c, "swiglu_limit", limit, "7");
    if (gpt_oss && alpha && json_number_value(alpha) != 1.702)
        return refuse(c, "swiglu_alpha", alpha, "1.702");
    return ANEMO_OK;
}

/* Qwen3-MoE can mix dense layers and experts; published models do not. */
static anemo_status read_qwen3_moe(const config *c, anemo_hparams *h) {
    const json_t *step = field(c, "decoder_sparse_step"), *dense = field(c, "mlp_only_layers");
    bool renormalised = false;
    if (step && json_integer_value(step) != 1)
        return refuse(c, "decoder_sparse_step", step, "1 (experts in every layer)");
    if (dense && json_array_size(dense) != 0)
        return refuse(c, "mlp_only_layers", dense, "an empty array (experts in every layer)");
    ANEMO_TRY(read_bool_or(c, "norm_topk_prob", false, &renormalised));
    h->raw_weights = !renormalised;
    return ANEMO_OK;
}

/* The language model's object. */
static anemo_status find_text(config *c, anemo_hparams *h) {
    const json_t *type = json_object_get(c->root, "model_type");
    const json_t *tower = json_object_get(json_object_get(c->root, "vision_config"), "model_type");
    const char *name = json_is_string(type) ? json_string_value(type) : "";
    const char *vision = json_is_string(tower) ? json_string_value(tower) : "";
    if (strcmp(name, "mistral3") != 0 &&
        !(strcmp(name, "llava") == 0 && strcmp(vision, "pixtral") == 0))
        return ANEMO_OK;
    json_t *text = json_object_get(c->root, "text_config");
    if (!json_is_object(text))
        return refuse(c, "text_config", text, "an object, in a multimodal model");
    c->outer = c->root;
    c->root = text;
    h->multimodal = true;
    return ANEMO_OK;
}

static anemo_status read_architecture(config *c, anemo_hparams *h) {
    ANEMO_TRY(find_text(c, h));
    const json_t *type = json_object_get(c->root, "model_type");
    const char *name = json_is_string(type) ? json_string_value(type) : "";
    for (size_t i = 0; i < sizeof families / sizeof *families; ++i)
        if (strcmp(families[i].model_type, name) == 0)
            c->family = &families[i];
    if (!c->family)
        return refuse(c, c->outer ? "text_config.model_type" : "model_type", type,
                      "\"mistral\", \"mixtral\", \"llama\", \"ministral\", \"ministral3\", "
                      "\"qwen3_moe\", \"gpt_oss\", and \"mistral3\" around one of them");
    h->arch = c->family->arch;
    return ANEMO_OK;
}

static anemo_status read_sizes(const config *c, const anemo_hparam_names *words, anemo_hparams *h) {
    ANEMO_TRY(read_int(c, "vocab_size", &h->vocab));
    ANEMO_TRY(read_int(c, "hidden_size", &h->d));
    ANEMO_TRY(read_int(c, words->ffn, &h->ffn));
    ANEMO_TRY(read_int(c, "num_hidden_layers", &h->layers));
    ANEMO_TRY(read_int(c, "num_attention_heads", &h->heads));
    if (h->arch == ANEMO_ARCH_LLAMA)
        ANEMO_TRY(read_int_or(c, "num_key_value_heads", h->heads, &h->kv_heads));
    else
        ANEMO_TRY(read_int(c, "num_key_value_heads", &h->kv_heads));
    if (!field(c, "head_dim") && (h->heads < 1 || h->d % h->heads != 0))
        return refuse(c, "num_attention_heads", field(c, "num_attention_heads"),
                      "a divisor of hidden_size where head_dim is absent");
    ANEMO_TRY(read_int_or(c, "head_dim", h->d / (h->heads ? h->heads : 1), &h->head_dim));
    ANEMO_TRY(read_int(c, "max_position_embeddings", &h->context_max));
    if (h->arch == ANEMO_ARCH_MIXTRAL || h->arch == ANEMO_ARCH_QWEN3MOE ||
        h->arch == ANEMO_ARCH_GPTOSS) {
        ANEMO_TRY(read_int(c, words->experts, &h->experts));
        ANEMO_TRY(read_int(c, words->experts_per_token, &h->experts_per_token));
    }
    if (h->arch == ANEMO_ARCH_QWEN3MOE)
        ANEMO_TRY(read_qwen3_moe(c, h));
    const json_t *eps = json_object_get(c->root, "rms_norm_eps");
    if (!json_is_number(eps))
        return refuse(c, "rms_norm_eps", eps, "a number");
    h->rms_eps = json_number_value(eps);
    return ANEMO_OK;
}

static anemo_status read_all(config *c, anemo_hparams *h) {
    ANEMO_TRY(read_architecture(c, h));
    anemo_hparam_names words = names;
    if (h->arch == ANEMO_ARCH_QWEN3MOE) {
        words.ffn = "moe_intermediate_size";
        words.experts = "num_experts";
    }
    ANEMO_TRY(refuse_unsupported(c, h));
    ANEMO_TRY(read_sizes(c, &words, h));
    ANEMO_TRY(read_rope(c, h));
    ANEMO_TRY(read_window(c, h));
    ANEMO_TRY(read_bool_or(c, "tie_word_embeddings", false, &h->tied));
    ANEMO_TRY(read_tokens(c, h));
    return anemo_hparams_check(c->path, &words, h, c->err);
}

anemo_status anemo_hf_config(const char *path, const void *json, size_t bytes, anemo_hparams *out,
                             anemo_error *err) {
    config c = {.path = path, .err = err};
    memset(out, 0, sizeof *out);
    c.root = anemo_json_object(path, "", json, bytes, err);
    if (!c.root)
        return ANEMO_E_INPUT;
    json_t *whole = c.root;
    const anemo_status status = read_all(&c, out);
    json_decref(whole);
    return status;
}
