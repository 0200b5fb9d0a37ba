/* A model: an open checkpoint, its tokenizer, and what it says of itself. Requantised forms
 * ("q8_0", "q4_0") are made here, once, when the model is opened: a plan cannot tell them from a
 * file in that form. */
#include "models/engine/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const anemo_tensor_role LAYER_MATRICES[] = {ANEMO_T_Q,  ANEMO_T_K,      ANEMO_T_V,
                                                   ANEMO_T_O,  ANEMO_T_ROUTER, ANEMO_T_GATE,
                                                   ANEMO_T_UP, ANEMO_T_DOWN};

static bool is_expert_matrix(anemo_tensor_role role) {
    return role == ANEMO_T_GATE || role == ANEMO_T_UP || role == ANEMO_T_DOWN;
}

/* Calls `visit` for each matrix of the model: embedding, output, then layer by layer, expert by
 * expert. */
typedef anemo_status (*matrix_visitor)(anemo_model *model, int64_t index, anemo_tensor_role role,
                                       int64_t layer, int64_t expert, void *ctx, anemo_error *err);

static anemo_status visit_matrices(anemo_model *model, matrix_visitor visit, void *ctx,
                                   anemo_error *err) {
    const anemo_hparams *h = &model->hparams;
    const int64_t experts = h->experts > 0 ? h->experts : 1;
    int64_t index = 0;
    anemo_status status = visit(model, index++, ANEMO_T_EMBED, 0, 0, ctx, err);
    if (status == ANEMO_OK) {
        status = visit(model, index++, ANEMO_T_OUTPUT, 0, 0, ctx, err);
    }
    for (int64_t layer = 0; layer < h->layers; layer++) {
        for (size_t r = 0; r < sizeof LAYER_MATRICES / sizeof *LAYER_MATRICES; r++) {
            const anemo_tensor_role role = LAYER_MATRICES[r];
            if (role == ANEMO_T_ROUTER && h->experts == 0) {
                continue;
            }
            for (int64_t e = 0; e < (is_expert_matrix(role) ? experts : 1); e++) {
                if (status == ANEMO_OK) {
                    status = visit(model, index++, role, layer, e, ctx, err);
                }
            }
        }
    }
    return status;
}

/* Position of a matrix in the order of visit_matrices. */
static int64_t matrix_index(const anemo_hparams *h, anemo_tensor_role role, int64_t layer,
                            int64_t expert) {
    if (role == ANEMO_T_EMBED || role == ANEMO_T_OUTPUT) {
        return role == ANEMO_T_OUTPUT;
    }
    const int64_t experts = h->experts > 0 ? h->experts : 1;
    const int64_t routers = h->experts > 0 ? 1 : 0;
    int64_t at = 2 + layer * (4 + routers + 3 * experts);
    switch (role) {
    case ANEMO_T_Q:
    case ANEMO_T_K:
    case ANEMO_T_V:
    case ANEMO_T_O:
        return at + (role - ANEMO_T_Q);
    case ANEMO_T_ROUTER:
        return at + 4;
    default:
        return at + 4 + routers + (role - ANEMO_T_GATE) * experts + expert;
    }
}

anemo_status anemo_model_weight(const anemo_model *model, anemo_tensor_role role, int64_t layer,
                                int64_t expert, anemo_weight *out, anemo_error *err) {
    if (model->requantised != NULL) {
        const anemo_weight *w =
            &model->requantised[matrix_index(&model->hparams, role, layer, expert)];
        if (w->size != 0) {
            *out = *w;
            return ANEMO_OK;
        }
    }
    return anemo_checkpoint_weight(model->checkpoint, role, layer, expert, out, err);
}

static anemo_status count_matrix(anemo_model *model, int64_t index, anemo_tensor_role role,
                                 int64_t layer, int64_t expert, void *ctx, anemo_error *err) {
    (void)role, (void)layer, (void)expert, (void)ctx, (void)err;
    model->n_requantised = index + 1;
    return ANEMO_OK;
}

/* The router stays as it is: it decides, and it is tiny. A tied output is the embedding's own
 * storage. */
static anemo_status requantise_matrix(anemo_model *model, int64_t index, anemo_tensor_role role,
                                      int64_t layer, int64_t expert, void *ctx, anemo_error *err) {
    if (role == ANEMO_T_ROUTER) {
        return ANEMO_OK;
    }
    if (role == ANEMO_T_OUTPUT && model->hparams.tied) {
        model->requantised[index] = model->requantised[0];
        return ANEMO_OK;
    }
    anemo_weight weight;
    anemo_status status =
        anemo_checkpoint_weight(model->checkpoint, role, layer, expert, &weight, err);
    if (status != ANEMO_OK) {
        return status;
    }
    return anemo_requantise(&weight, ctx, &model->requantised[index], &model->storage[index], err);
}

static anemo_status requantise_all(anemo_model *model, const char *type, anemo_error *err) {
    anemo_status status = visit_matrices(model, count_matrix, NULL, err);
    model->requantised = calloc((size_t)model->n_requantised, sizeof *model->requantised);
    model->storage = calloc((size_t)model->n_requantised, sizeof *model->storage);
    if (model->requantised == NULL || model->storage == NULL) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %lld requantised matrices",
                          (long long)model->n_requantised);
    }
    char writable_type[16];
    snprintf(writable_type, sizeof writable_type, "%s", type);
    return status == ANEMO_OK ? visit_matrices(model, requantise_matrix, writable_type, err)
                              : status;
}

/* Sums up parameters and bytes, and finds the type that holds most bytes. */
typedef struct tally {
    struct {
        char name[32];
        double bytes;
    } type[8];
    int n_types;
} tally;

static anemo_status tally_matrix(anemo_model *model, int64_t index, anemo_tensor_role role,
                                 int64_t layer, int64_t expert, void *ctx, anemo_error *err) {
    (void)index;
    tally *t = ctx;
    anemo_model_info *info = &model->info;
    if (role == ANEMO_T_OUTPUT && model->hparams.tied) {
        info->active_parameters += (double)info->vocab * (double)info->d;
        info->active_weight_bytes += info->weight_bytes; /* the embedding came first */
        return ANEMO_OK;
    }
    anemo_weight w;
    anemo_status status = anemo_model_weight(model, role, layer, expert, &w, err);
    if (status != ANEMO_OK) {
        return status;
    }
    const double bytes = (double)w.canonical_bytes, count = (double)w.n * (double)w.k;
    double active = role == ANEMO_T_EMBED ? 0.0 : 1.0;
    if (is_expert_matrix(role) && info->experts > 0) {
        active = (double)info->experts_per_token / (double)info->experts;
    }
    info->parameters += count;
    info->weight_bytes += bytes;
    model->resident_bytes += count * anemo_weight_type_bits(&w.type, w.k) / 8;
    info->active_parameters += active * count;
    info->active_weight_bytes += active * bytes;
    char name[32];
    anemo_weight_type_name(&w.type, name, sizeof name);
    int i = 0;
    while (i < t->n_types && strcmp(t->type[i].name, name) != 0) {
        i++;
    }
    if (i < (int)(sizeof t->type / sizeof *t->type)) {
        t->n_types += i == t->n_types;
        memcpy(t->type[i].name, name, sizeof name);
        t->type[i].bytes += bytes;
    }
    return ANEMO_OK;
}

static const char *base_name(const char *path) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    const char *slash = memrchr(path, '/', end);
    return slash != NULL && slash + 1 < path + end ? slash + 1 : path;
}

/* Norms, biases and sinks: few, but parameters. */
static void count_vectors(anemo_model *model) {
    const anemo_hparams *h = &model->hparams;
    anemo_model_info *info = &model->info;
    for (int r = 0; r < ANEMO_T_COUNT; r++) {
        const anemo_tensor_role role = (anemo_tensor_role)r;
        if (role == ANEMO_T_ROPE_FACTORS || !anemo_has_role(h, role)) {
            continue;
        }
        const bool per_model = role == ANEMO_T_OUTPUT_NORM;
        const double n = (double)anemo_role_values(h, role) * (double)(per_model ? 1 : h->layers);
        const bool of_experts =
            role == ANEMO_T_GATE_BIAS || role == ANEMO_T_UP_BIAS || role == ANEMO_T_DOWN_BIAS;
        info->parameters += n;
        info->active_parameters +=
            of_experts ? n * (double)h->experts_per_token / (double)h->experts : n;
    }
}

static anemo_status describe(anemo_model *model, const char *path, const char *requantise,
                             anemo_error *err) {
    const anemo_hparams *h = &model->hparams;
    anemo_model_info *info = &model->info;
    info->synthetic = anemo_checkpoint_synthetic(model->checkpoint) != NULL;
    snprintf(info->name, sizeof info->name, "%s", info->synthetic ? path : base_name(path));
    info->name[strcspn(info->name, "/")] = '\0';
    snprintf(info->architecture, sizeof info->architecture, "%s", anemo_arch_name(h->arch));
    snprintf(info->skipped, sizeof info->skipped, "%s",
             anemo_checkpoint_skipped(model->checkpoint));
    snprintf(info->source_sha256, sizeof info->source_sha256, "%s",
             anemo_checkpoint_identity(model->checkpoint));
    info->vocab = h->vocab, info->d = h->d, info->ffn = h->ffn, info->layers = h->layers;
    info->heads = h->heads, info->kv_heads = h->kv_heads, info->head_dim = h->head_dim;
    info->experts = h->experts, info->experts_per_token = h->experts_per_token;
    info->window = h->window, info->full_layers = anemo_full_layers(h);
    info->context_max = h->context_max;
    info->bos = h->bos, info->n_eos = h->n_eos;
    memcpy(info->eos, h->eos, sizeof info->eos);
    tally t = {.n_types = 0};
    anemo_status status = visit_matrices(model, tally_matrix, &t, err);
    count_vectors(model);
    int most = 0;
    for (int i = 1; i < t.n_types; i++) {
        most = t.type[i].bytes > t.type[most].bytes ? i : most;
    }
    snprintf(info->weights, sizeof info->weights, "%s",
             requantise != NULL ? requantise : t.type[most].name);
    return status;
}

static void find_tokenizer(anemo_model *model) {
    const char *path = anemo_checkpoint_tokenizer_path(model->checkpoint, &model->tokenizer_why);
    model->tokenizer_status =
        path != NULL ? anemo_tokenizer_open(path, &model->tokenizer, &model->tokenizer_why)
                     : ANEMO_E_INPUT;
    if (model->tokenizer_status == ANEMO_OK &&
        anemo_tokenizer_vocab(model->tokenizer) > model->hparams.vocab) {
        model->tokenizer_status =
            anemo_fail(&model->tokenizer_why, ANEMO_E_INPUT,
                       "%s: vocabulary has %d tokens, the model only %lld", path,
                       anemo_tokenizer_vocab(model->tokenizer), (long long)model->hparams.vocab);
        anemo_tokenizer_close(model->tokenizer);
        model->tokenizer = NULL;
    }
}

static anemo_status check_options(const anemo_model_options *options, anemo_error *err) {
    const char *type = options->requantise;
    if (type != NULL && strcmp(type, "q8_0") != 0 && strcmp(type, "q4_0") != 0) {
        return anemo_fail(err, ANEMO_E_INPUT, "weights: requantise to %s; accepted: q8_0, q4_0",
                          type);
    }
    if (options->window < -1) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "window: %lld; accepted: -1 (the model's), 0 (none), N > 0",
                          (long long)options->window);
    }
    return ANEMO_OK;
}

anemo_status anemo_model_open(const char *path, const anemo_model_options *options,
                              anemo_model **out, anemo_error *err) {
    const anemo_model_options defaults = {.window = -1};
    options = options != NULL ? options : &defaults;
    *out = NULL;
    anemo_status status = check_options(options, err);
    if (status != ANEMO_OK) {
        return status;
    }
    anemo_model *model = calloc(1, sizeof *model);
    if (model == NULL) {
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory to open it", path);
    }
    status = anemo_checkpoint_open(path, &model->checkpoint, err);
    if (status == ANEMO_OK) {
        model->hparams = *anemo_checkpoint_hparams(model->checkpoint);
        model->hparams.window = options->window >= 0 ? options->window : model->hparams.window;
        snprintf(model->requantised_as, sizeof model->requantised_as, "%s",
                 options->requantise != NULL ? options->requantise : "");
        status = options->requantise != NULL ? requantise_all(model, options->requantise, err)
                                             : ANEMO_OK;
    }
    if (status == ANEMO_OK) {
        status = describe(model, path, options->requantise, err);
    }
    if (status != ANEMO_OK) {
        anemo_model_close(model);
        return status;
    }
    find_tokenizer(model);
    *out = model;
    return ANEMO_OK;
}

void anemo_model_close(anemo_model *model) {
    if (model == NULL) {
        return;
    }
    for (int64_t i = 0; model->storage != NULL && i < model->n_requantised; i++) {
        free(model->storage[i]);
    }
    free(model->storage);
    free(model->requantised);
    anemo_tokenizer_close(model->tokenizer);
    anemo_checkpoint_close(model->checkpoint);
    free(model);
}

const char *anemo_model_architecture(int32_t index) {
    return index >= 0 && index < ANEMO_ARCH_COUNT ? anemo_arch_name((anemo_arch)index) : NULL;
}

const anemo_model_info *anemo_model_describe(const anemo_model *model) {
    return &model->info;
}

const anemo_tokenizer *anemo_model_tokenizer(const anemo_model *model, anemo_error *why) {
    if (model->tokenizer == NULL && why != NULL) {
        *why = model->tokenizer_why;
    }
    return model->tokenizer;
}

anemo_status anemo_model_tokenizer_status(const anemo_model *model) {
    return model->tokenizer_status;
}
