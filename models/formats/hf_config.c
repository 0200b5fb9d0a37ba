/* config.json of a Hugging Face directory -> hyper-parameters.
 *
 * Two rules. What changes the mathematics and is not supported is refused by name, never ignored:
 * RoPE scaling, biases, another activation, layers of mixed attention. And what has
 * no safe default is required: rope_theta above all, for which published readers disagree (1e4 and
 * 1e6). Where transformers defines a default that files rely on, it is followed: an absent
 * sliding_window means 4096 in a mistral file and none elsewhere, an absent head_dim is hidden_size
 * / num_attention_heads, an absent tie_word_embeddings is false. */
#include "models/formats/json.h"

#include <stdlib.h>

#define MISTRAL_DEFAULT_WINDOW 4096 /* transformers' MistralConfig */

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
    json_t *root;
    const char *model_type;
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
    const json_t *value = field(c, name);
    if (value && !json_is_boolean(value))
        return refuse(c, name, value, "true or false");
    *out = value ? json_is_true(value) : absent;
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- rope */

/* rope_scaling (transformers 4) or rope_parameters (5): only the unscaled form. */
static anemo_status check_rope_object(const config *c, const char *name, const json_t *object) {
    char where[64];
    if (!json_is_object(object))
        return refuse(c, name, object, "an object or null");
    const json_t *type = json_object_get(object, "rope_type");
    snprintf(where, sizeof where, "%s.%s", name, type ? "rope_type" : "type");
    if (!type)
        type = json_object_get(object, "type");
    if (type && (!json_is_string(type) || strcmp(json_string_value(type), "default") != 0))
        return refuse(c, where, type, "\"default\" (scaled RoPE is not supported yet)");
    if (!type && json_object_get(object, "factor"))
        return refuse(c, name, object, "a rope_type beside factor");
    const json_t *partial = json_object_get(object, "partial_rotary_factor");
    snprintf(where, sizeof where, "%s.partial_rotary_factor", name);
    if (partial && json_number_value(partial) != 1.0)
        return refuse(c, where, partial, "1 (partial rotation is not supported yet)");
    return ANEMO_OK;
}

static anemo_status read_rope(const config *c, anemo_hparams *h) {
    const json_t *parameters = field(c, "rope_parameters"), *scaling = field(c, "rope_scaling");
    const json_t *plain = field(c, "rope_theta"), *partial = field(c, "partial_rotary_factor");
    if (scaling)
        ANEMO_TRY(check_rope_object(c, "rope_scaling", scaling));
    if (parameters)
        ANEMO_TRY(check_rope_object(c, "rope_parameters", parameters));
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

/* layer_types, where it is written, must say one thing for all layers. */
static anemo_status check_layer_types(const config *c, const anemo_hparams *h) {
    const char *expected = h->window > 0 ? "sliding_attention" : "full_attention";
    json_t *types = field(c, "layer_types");
    const json_t *type;
    size_t i;
    if (types && (!json_is_array(types) || json_array_size(types) != (size_t)h->layers))
        return refuse(c, "layer_types", types, "an array of num_hidden_layers strings");
    json_array_foreach(types, i, type) {
        if (!json_is_string(type) || strcmp(json_string_value(type), expected) != 0)
            return anemo_fail(c->err, ANEMO_E_INPUT,
                              "%s: layer_types[%zu] is %s; accepted: \"%s\" for every layer, as "
                              "sliding_window says (mixed layers are not supported yet)",
                              c->path, i, anemo_show_json(type).text, expected);
    }
    return ANEMO_OK;
}

static anemo_status read_window(const config *c, anemo_hparams *h) {
    const bool mistral = strcmp(c->model_type, "mistral") == 0;
    const json_t *value = json_object_get(c->root, "sliding_window");
    h->window = 0;
    if (json_is_integer(value))
        h->window = json_integer_value(value);
    else if (!value)
        h->window = mistral ? MISTRAL_DEFAULT_WINDOW : 0;
    else if (!json_is_null(value))
        return refuse(c, "sliding_window", value, "an integer or null");
    if (h->window != 0 && strcmp(c->model_type, "llama") == 0)
        return refuse(c, "sliding_window", value, "null for model_type llama");
    return check_layer_types(c, h);
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
    const json_t *bos = field(c, "bos_token_id"), *eos = field(c, "eos_token_id"), *item;
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
static anemo_status refuse_unsupported(const config *c) {
    static const char *const biases[] = {"attention_bias", "mlp_bias"};
    const json_t *act = field(c, "hidden_act");
    if (act && (!json_is_string(act) || strcmp(json_string_value(act), "silu") != 0))
        return refuse(c, "hidden_act", act, "\"silu\"");
    for (size_t i = 0; i < sizeof biases / sizeof *biases; ++i) {
        bool bias = false;
        ANEMO_TRY(read_bool_or(c, biases[i], false, &bias));
        if (bias)
            return refuse(c, biases[i], field(c, biases[i]), "false (biases are not supported)");
    }
    return ANEMO_OK;
}

static anemo_status read_architecture(config *c, anemo_hparams *h) {
    const json_t *type = json_object_get(c->root, "model_type");
    c->model_type = json_is_string(type) ? json_string_value(type) : "";
    if (strcmp(c->model_type, "mistral") == 0 || strcmp(c->model_type, "llama") == 0)
        h->arch = ANEMO_ARCH_MISTRAL;
    else if (strcmp(c->model_type, "mixtral") == 0)
        h->arch = ANEMO_ARCH_MIXTRAL;
    else
        return refuse(c, "model_type", type, "\"mistral\", \"mixtral\" or \"llama\"");
    return ANEMO_OK;
}

static anemo_status read_sizes(const config *c, anemo_hparams *h) {
    ANEMO_TRY(read_int(c, "vocab_size", &h->vocab));
    ANEMO_TRY(read_int(c, "hidden_size", &h->d));
    ANEMO_TRY(read_int(c, "intermediate_size", &h->ffn));
    ANEMO_TRY(read_int(c, "num_hidden_layers", &h->layers));
    ANEMO_TRY(read_int(c, "num_attention_heads", &h->heads));
    if (strcmp(c->model_type, "llama") == 0)
        ANEMO_TRY(read_int_or(c, "num_key_value_heads", h->heads, &h->kv_heads));
    else
        ANEMO_TRY(read_int(c, "num_key_value_heads", &h->kv_heads));
    if (!field(c, "head_dim") && (h->heads < 1 || h->d % h->heads != 0))
        return refuse(c, "num_attention_heads", field(c, "num_attention_heads"),
                      "a divisor of hidden_size where head_dim is absent");
    ANEMO_TRY(read_int_or(c, "head_dim", h->d / (h->heads ? h->heads : 1), &h->head_dim));
    ANEMO_TRY(read_int(c, "max_position_embeddings", &h->context_max));
    if (h->arch == ANEMO_ARCH_MIXTRAL) {
        ANEMO_TRY(read_int(c, "num_local_experts", &h->experts));
        ANEMO_TRY(read_int(c, "num_experts_per_tok", &h->experts_per_token));
    }
    const json_t *eps = json_object_get(c->root, "rms_norm_eps");
    if (!json_is_number(eps))
        return refuse(c, "rms_norm_eps", eps, "a number");
    h->rms_eps = json_number_value(eps);
    return ANEMO_OK;
}

static anemo_status read_all(config *c, anemo_hparams *h) {
    ANEMO_TRY(read_architecture(c, h));
    ANEMO_TRY(refuse_unsupported(c));
    ANEMO_TRY(read_sizes(c, h));
    ANEMO_TRY(read_rope(c, h));
    ANEMO_TRY(read_window(c, h));
    ANEMO_TRY(read_bool_or(c, "tie_word_embeddings", false, &h->tied));
    ANEMO_TRY(read_tokens(c, h));
    return anemo_hparams_check(c->path, &names, h, c->err);
}

anemo_status anemo_hf_config(const char *path, const void *json, size_t bytes, anemo_hparams *out,
                             anemo_error *err) {
    config c = {.path = path, .err = err};
    memset(out, 0, sizeof *out);
    c.root = anemo_json_object(path, "", json, bytes, err);
    if (!c.root)
        return ANEMO_E_INPUT;
    const anemo_status status = read_all(&c, out);
    json_decref(c.root);
    return status;
}
