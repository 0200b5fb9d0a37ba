/* params.json, which lies beside Mistral's consolidated.safetensors -> hyper-parameters.
 *
 * The file says less than config.json and has no version, so every key is either known here or
 * refused by name. What it leaves open: rope_theta, which is required, because published readers
 * differ in its default (1e4 and 1e6); the context, 32768 where neither max_position_embeddings nor
 * max_seq_len is there, as in all Mistral models of that age; and the ids of beginning and end of
 * text, which are 1 and 2 in every Mistral tokenizer. The window comes as number, as string, or as
 * a list that repeats over the layers, and some files spell the key _sliding_window.
 * Rows of q and k are in interleaved pairs. Source: mistralai/mistral-inference, args.py. */
#include "models/formats/json.h"
#include "models/formats/packed.h"

#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_CONTEXT 32768

static const anemo_hparam_names names = {.vocab = "vocab_size",
                                         .d = "dim",
                                         .ffn = "hidden_dim",
                                         .layers = "n_layers",
                                         .heads = "n_heads",
                                         .kv_heads = "n_kv_heads",
                                         .head_dim = "head_dim",
                                         .experts = "moe.num_experts",
                                         .experts_per_token = "moe.num_experts_per_tok",
                                         .window = "sliding_window",
                                         .context_max = "max_position_embeddings",
                                         .rms_eps = "norm_eps",
                                         .rope_theta = "rope_theta",
                                         .bos = "bos",
                                         .eos = "eos"};

typedef struct params {
    const char *path;
    json_t *root;
    anemo_error *err;
} params;

static anemo_status refuse(const params *p, const char *field, const json_t *value,
                           const char *accepted) {
    return anemo_fail(p->err, ANEMO_E_INPUT, "%s: %s is %s; accepted: %s", p->path, field,
                      anemo_show_json(value).text, accepted);
}

/* Keys that are read; all others that are not null change something that is not computed. */
static anemo_status check_keys(const params *p) {
    static const char *const known[] = {"dim",
                                        "n_layers",
                                        "head_dim",
                                        "hidden_dim",
                                        "n_heads",
                                        "n_kv_heads",
                                        "norm_eps",
                                        "vocab_size",
                                        "rope_theta",
                                        "sliding_window",
                                        "_sliding_window",
                                        "moe",
                                        "tied_embeddings",
                                        "max_position_embeddings",
                                        "max_seq_len",
                                        "max_batch_size",
                                        "quantization"};
    const char *key;
    json_t *value;
    json_object_foreach(p->root, key, value) {
        bool found = json_is_null(value) || json_is_false(value);
        for (size_t i = 0; i < sizeof known / sizeof *known; ++i)
            found |= strcmp(key, known[i]) == 0;
        if (!found)
            return refuse(p, anemo_show(key).text, value, "absent (not supported here)");
    }
    return ANEMO_OK;
}

static anemo_status read_int(const params *p, const json_t *object, const char *field,
                             const char *shown, int64_t *out) {
    const json_t *value = json_object_get(object, field);
    if (!json_is_integer(value))
        return refuse(p, shown, value, "an integer");
    *out = json_integer_value(value);
    return ANEMO_OK;
}

static anemo_status read_number(const params *p, const char *field, const char *accepted,
                                double *out) {
    const json_t *value = json_object_get(p->root, field);
    if (!json_is_number(value))
        return refuse(p, field, value, accepted);
    *out = json_number_value(value);
    return ANEMO_OK;
}

/* A number, or the decimal digits of one. */
static bool window_of(const json_t *value, int64_t *out) {
    const char *text = json_string_value(value);
    const size_t n = text ? strlen(text) : 0;
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    if (n < 1 || n > 10 || strspn(text, "0123456789") != n)
        return false;
    *out = strtoll(text, NULL, 10);
    return true;
}

static anemo_status read_window(const params *p, anemo_hparams *h) {
    const char *field = "sliding_window";
    json_t *value = json_object_get(p->root, field), *item;
    size_t i;
    if (!value || json_is_null(value))
        value = json_object_get(p->root, field = "_sliding_window");
    h->window = 0;
    if (!value || json_is_null(value) || window_of(value, &h->window))
        return ANEMO_OK;
    const size_t n = json_array_size(value);
    if (n < 1 || h->layers < 1 || (size_t)h->layers % n != 0)
        return refuse(p, field, value,
                      "a number, a string of digits, or a list of them that n_layers is a multiple "
                      "of");
    json_array_foreach(value, i, item) {
        int64_t window = 0;
        if (!json_is_null(item) && !window_of(item, &window))
            return refuse(p, field, value, "a list of numbers");
        if (i > 0 && window != h->window)
            return refuse(p, field, value,
                          "the same window for every layer (mixed layers are not supported here)");
        h->window = window;
    }
    return ANEMO_OK;
}

static anemo_status read_moe(const params *p, anemo_hparams *h) {
    const json_t *moe = json_object_get(p->root, "moe");
    h->arch = ANEMO_ARCH_MISTRAL;
    if (!moe || json_is_null(moe))
        return ANEMO_OK;
    if (!json_is_object(moe) || json_object_size(moe) != 2)
        return refuse(p, "moe", moe, "an object of num_experts and num_experts_per_tok");
    h->arch = ANEMO_ARCH_MIXTRAL;
    ANEMO_TRY(read_int(p, moe, "num_experts", names.experts, &h->experts));
    return read_int(p, moe, "num_experts_per_tok", names.experts_per_token, &h->experts_per_token);
}

static anemo_status read_context(const params *p, anemo_hparams *h) {
    static const char *const fields[] = {"max_position_embeddings", "max_seq_len"};
    h->context_max = DEFAULT_CONTEXT;
    for (size_t i = 0; i < 2; ++i)
        if (json_object_get(p->root, fields[i]))
            return read_int(p, p->root, fields[i], fields[i], &h->context_max);
    return ANEMO_OK;
}

static anemo_status read_all(const params *p, anemo_hparams *h) {
    const json_t *tied = json_object_get(p->root, "tied_embeddings");
    const struct {
        const char *name;
        int64_t *out;
    } sizes[] = {{"dim", &h->d},           {"n_layers", &h->layers}, {"head_dim", &h->head_dim},
                 {"hidden_dim", &h->ffn},  {"n_heads", &h->heads},   {"n_kv_heads", &h->kv_heads},
                 {"vocab_size", &h->vocab}};
    ANEMO_TRY(check_keys(p));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i)
        ANEMO_TRY(read_int(p, p->root, sizes[i].name, sizes[i].name, sizes[i].out));
    ANEMO_TRY(read_number(p, "norm_eps", "a number", &h->rms_eps));
    ANEMO_TRY(read_number(p, "rope_theta", "a number (models differ: 10000, 1000000, ...)",
                          &h->rope_theta));
    ANEMO_TRY(read_moe(p, h));
    ANEMO_TRY(read_window(p, h));
    ANEMO_TRY(read_context(p, h));
    if (tied && !json_is_boolean(tied))
        return refuse(p, "tied_embeddings", tied, "true or false");
    h->tied = json_is_true(tied);
    h->rope_pairing = ANEMO_ROPE_INTERLEAVED;
    h->bos = 1;
    h->eos[0] = 2;
    h->n_eos = 1;
    return anemo_hparams_check(p->path, &names, h, p->err);
}

static anemo_status read_quantisation(const params *p, anemo_quantisation *q) {
    const json_t *object = json_object_get(p->root, "quantization");
    const char *format = json_string_value(json_object_get(object, "qformat_weight"));
    memset(q, 0, sizeof *q);
    if (!object || json_is_null(object))
        return ANEMO_OK;
    if (!format || strcmp(format, "fp8_e4m3") != 0)
        return refuse(p, "quantization", object, "qformat_weight \"fp8_e4m3\"");
    q->packing = ANEMO_PACKING_FP8;
    q->bits = 8;
    return ANEMO_OK;
}

anemo_status anemo_params_json(const char *path, const void *json, size_t bytes, anemo_hparams *out,
                               anemo_quantisation *quantisation, anemo_error *err) {
    params p = {.path = path, .err = err};
    memset(out, 0, sizeof *out);
    p.root = anemo_json_object(path, "", json, bytes, err);
    if (!p.root)
        return ANEMO_E_INPUT;
    anemo_status status = read_all(&p, out);
    if (status == ANEMO_OK)
        status = read_quantisation(&p, quantisation);
    json_decref(p.root);
    return status;
}
