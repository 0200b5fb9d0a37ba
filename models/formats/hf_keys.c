/* Hyper-parameters -> config.json, the inverse of hf_config.c; and which models have a Hugging Face
 * form at all for the weights that write_safetensors.c makes.
 *
 * Words are those of the published models: rope_scaling beside rope_theta (Llama 3, Qwen3-MoE),
 * rope_parameters around it (Ministral 3). A GGUF file keeps Llama 3's scaling as a quotient per
 * pair; the scaling is found again by trying what the published models have. */
#include "models/formats/convert.h"
#include "models/formats/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { PAIRS_MAX = 512 }; /* heads have at most 1024 values: hparams.c */

static const struct {
    const char *model_type, *class_name;
    const char *router; /* modules that stay floats, as compressed-tensors' `ignore` has them */
} families[ANEMO_ARCH_COUNT] = {
    [ANEMO_ARCH_MISTRAL] = {"mistral", "MistralForCausalLM", NULL},
    [ANEMO_ARCH_MIXTRAL] = {"mixtral", "MixtralForCausalLM", "re:.*block_sparse_moe.gate$"},
    [ANEMO_ARCH_LLAMA] = {"llama", "LlamaForCausalLM", NULL},
    [ANEMO_ARCH_MINISTRAL] = {"ministral", "MinistralForCausalLM", NULL},
    [ANEMO_ARCH_MINISTRAL3] = {"ministral3", "Ministral3ForCausalLM", NULL},
    [ANEMO_ARCH_QWEN3MOE] = {"qwen3_moe", "Qwen3MoeForCausalLM", "re:.*mlp.gate$"},
};

/* ---------------------------------------------------------------- what can be said */

static bool same_factors(const anemo_hparams *h, const float *wanted) {
    float made[PAIRS_MAX];
    anemo_gguf_rope_factors(h, made);
    for (int64_t i = 0; i < h->head_dim / 2; ++i)
        if (!(fabsf(made[i] - wanted[i]) <= 1e-5f * wanted[i]))
            return false;
    return true;
}

/* The quotients of a file as Llama 3's scaling: the last is the factor; low 1, high 4 and an
 * original context that is a power of two are those of every published model. */
static anemo_status find_llama3(const anemo_checkpoint *from, anemo_hparams *h, anemo_error *err) {
    float factors[PAIRS_MAX];
    const int64_t n = h->head_dim / 2;
    ANEMO_TRY(anemo_checkpoint_vector(from, ANEMO_T_ROPE_FACTORS, 0, factors, n, err));
    for (double context = 1; context <= 1 << 24; context *= 2) {
        h->rope = (anemo_rope_scaling){.kind = ANEMO_ROPE_LLAMA3,
                                       .factor = (double)factors[n - 1],
                                       .low = 1,
                                       .high = 4,
                                       .original_context = context};
        if (same_factors(h, factors))
            return ANEMO_OK;
    }
    return anemo_fail(
        err, ANEMO_E_UNSUPPORTED,
        "%s: rope_freqs.weight holds no scaling that config.json could say; accepted: "
        "a name that ends in .gguf, or Llama 3's (low_freq_factor 1, high_freq_factor "
        "4, an original context that is a power of two)",
        anemo_show_path(anemo_checkpoint_path(from)).text);
}

/* The hyper-parameters as config.json will say them. */
static anemo_status express(const anemo_checkpoint *from, anemo_hparams *h, anemo_error *err) {
    *h = *anemo_checkpoint_hparams(from);
    const anemo_shown_path path = anemo_show_path(anemo_checkpoint_path(from));
    if (!families[h->arch].model_type)
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "%s: %s cannot be written as safetensors (Hugging Face files keep the "
                          "experts of a layer in one tensor, of floats or MXFP4); accepted: a name "
                          "that ends in .gguf",
                          path.text, anemo_arch_name(h->arch));
    if (h->window > 0 && (h->arch == ANEMO_ARCH_LLAMA || h->arch == ANEMO_ARCH_QWEN3MOE))
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "%s: a window of %" PRId64 " in %s has no word in config.json; accepted: "
                          "a name that ends in .gguf, or models without one",
                          path.text, h->window, anemo_arch_name(h->arch));
    if (h->window > 0 && anemo_full_layers(h) > 0 && h->arch != ANEMO_ARCH_MINISTRAL)
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "%s: layers with and without a window in %s have no word in config.json; "
                          "accepted: a name that ends in .gguf, or models whose layers agree",
                          path.text, anemo_arch_name(h->arch));
    if (h->temperature != 0 && h->rope.kind == ANEMO_ROPE_YARN &&
        (double)h->temperature_period != h->rope.original_context)
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "%s: the period of the query temperature is %" PRId64
                          "; accepted: a name that ends in .gguf, or the original context %g, for "
                          "which config.json has the same word",
                          path.text, h->temperature_period, h->rope.original_context);
    return h->rope.kind == ANEMO_ROPE_FACTORS ? find_llama3(from, h, err) : ANEMO_OK;
}

anemo_status anemo_hf_expressible(const anemo_checkpoint *from, anemo_error *err) {
    anemo_hparams h;
    return express(from, &h, err);
}

/* ---------------------------------------------------------------- quantization_config */

static json_t *quantisation_of(const anemo_conversion *c, const anemo_hparams *h) {
    json_t *weights = json_pack("{s:i,s:s,s:b,s:s}", "num_bits", c->bits, "type", "int",
                                "symmetric", 1, "strategy", c->group ? "group" : "channel");
    json_t *ignore = json_array();
    if (c->group)
        json_object_set_new(weights, "group_size", json_integer(c->group));
    if (families[h->arch].router)
        json_array_append_new(ignore, json_string(families[h->arch].router));
    if (h->tied)
        json_array_append_new(ignore, json_string("lm_head"));
    return json_pack("{s:s,s:s,s:s,s:o,s:{s:{s:[s],s:o,s:n}}}", "quant_method",
                     "compressed-tensors", "format", "pack-quantized", "quantization_status",
                     "compressed", "ignore", ignore, "config_groups", "group_0", "targets",
                     "Linear", "weights", weights, "input_activations");
}

/* ---------------------------------------------------------------- parts of the model */

/* A float that came from a GGUF file, as the shortest decimal number that is the same float. */
static double shortest(double value) {
    char text[32];
    if (value != (double)(float)value)
        return value;
    for (int digits = 1; digits <= 9; ++digits) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if ((float)strtod(text, NULL) == (float)value)
            break;
    }
    return strtod(text, NULL);
}

static void set_real(json_t *object, const char *key, double value) {
    json_object_set_new(object, key, json_real(shortest(value)));
}

static void set_sizes(json_t *config, const anemo_hparams *h) {
    const bool qwen = h->arch == ANEMO_ARCH_QWEN3MOE;
    const struct {
        const char *key;
        int64_t value;
        bool there;
    } numbers[] = {
        {"vocab_size", h->vocab, true},
        {"hidden_size", h->d, true},
        {"intermediate_size", h->ffn, true}, /* Qwen3-MoE: of dense layers, which it lacks */
        {"moe_intermediate_size", h->ffn, qwen},
        {"num_hidden_layers", h->layers, true},
        {"num_attention_heads", h->heads, true},
        {"num_key_value_heads", h->kv_heads, true},
        {"head_dim", h->head_dim, true},
        {"max_position_embeddings", h->context_max, true},
        {qwen ? "num_experts" : "num_local_experts", h->experts, h->experts > 0},
        {"num_experts_per_tok", h->experts_per_token, h->experts > 0},
        {"bos_token_id", h->bos, h->bos >= 0},
    };
    json_t *ends = json_array();
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; ++i)
        if (numbers[i].there)
            json_object_set_new(config, numbers[i].key, json_integer(numbers[i].value));
    for (int32_t i = 0; i < h->n_eos; ++i)
        json_array_append_new(ends, json_integer(h->eos[i]));
    json_object_set_new(config, "eos_token_id", ends);
    if (!qwen)
        return;
    json_object_set_new(config, "norm_topk_prob", json_boolean(!h->raw_weights));
    json_object_set_new(config, "decoder_sparse_step", json_integer(1));
    json_object_set_new(config, "mlp_only_layers", json_array());
}

static void set_windows(json_t *config, const anemo_hparams *h) {
    if (h->arch == ANEMO_ARCH_LLAMA)
        return; /* which has no such word */
    json_object_set_new(config, "sliding_window",
                        h->window ? json_integer(h->window) : json_null());
    if (h->arch == ANEMO_ARCH_QWEN3MOE)
        json_object_set_new(config, "use_sliding_window", json_false());
    if (h->arch != ANEMO_ARCH_MINISTRAL || h->window == 0)
        return;
    json_t *types = json_array();
    for (int64_t layer = 0; layer < h->layers; ++layer)
        json_array_append_new(types, json_string(anemo_layer_window(h, layer) ? "sliding_attention"
                                                                              : "full_attention"));
    json_object_set_new(config, "layer_types", types);
}

static void set_context(json_t *object, double context) {
    json_object_set_new(object, "original_max_position_embeddings",
                        context == floor(context) ? json_integer((json_int_t)context)
                                                  : json_real(context));
}

/* The magnitude of YaRN's cos and sin is always written, so that nothing hangs on a default. */
static json_t *rope_object(const anemo_hparams *h) {
    const anemo_rope_scaling *r = &h->rope;
    const bool llama3 = r->kind == ANEMO_ROPE_LLAMA3, yarn = r->kind == ANEMO_ROPE_YARN;
    json_t *object = json_pack("{s:s}", "rope_type", llama3 ? "llama3" : yarn ? "yarn" : "default");
    if (llama3 || yarn) {
        set_real(object, "factor", r->factor);
        set_real(object, llama3 ? "low_freq_factor" : "beta_slow", r->low);
        set_real(object, llama3 ? "high_freq_factor" : "beta_fast", r->high);
        set_context(object, r->original_context);
    }
    if (yarn && r->magnitude != 0)
        json_object_set_new(object, "attention_factor", json_real(r->magnitude));
    if (yarn && !r->truncate)
        json_object_set_new(object, "truncate", json_false());
    if (h->temperature != 0) {
        set_real(object, "llama_4_scaling_beta", h->temperature);
        set_context(object, (double)h->temperature_period);
    }
    return object;
}

static void set_rope(json_t *config, const anemo_hparams *h) {
    json_t *object = rope_object(h);
    if (h->arch == ANEMO_ARCH_MINISTRAL3) {
        set_real(object, "rope_theta", h->rope_theta);
        json_object_set_new(config, "rope_parameters", object);
        return;
    }
    set_real(config, "rope_theta", h->rope_theta);
    if (h->rope.kind == ANEMO_ROPE_PLAIN)
        json_decref(object);
    else
        json_object_set_new(config, "rope_scaling", object);
}

/* ---------------------------------------------------------------- the file */

anemo_status anemo_write_config(anemo_conversion *c) {
    anemo_hparams h;
    ANEMO_TRY(express(c->from, &h, c->err));
    json_t *config =
        json_pack("{s:[s],s:s,s:s,s:b,s:s}", "architectures", families[h.arch].class_name,
                  "model_type", families[h.arch].model_type, "hidden_act", "silu",
                  "tie_word_embeddings", h.tied, "torch_dtype", "float16");
    set_real(config, "rms_norm_eps", h.rms_eps);
    set_sizes(config, &h);
    set_windows(config, &h);
    set_rope(config, &h);
    json_object_set_new(config, "quantization_config", quantisation_of(c, &h));
    char *text = config ? json_dumps(config, JSON_INDENT(1)) : NULL;
    anemo_status status = text ? anemo_conversion_put(c, text, strlen(text))
                               : anemo_fail(c->err, ANEMO_E_MEMORY, "%s: out of memory", c->path);
    if (status == ANEMO_OK)
        status = anemo_conversion_put(c, "\n", 1);
    free(text);
    json_decref(config);
    return status;
}
