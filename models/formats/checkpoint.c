/* Opens a model directory: finds the files, maps them, and proves that the tensors which the
 * architecture needs are there, with the right shape and a type that can be computed with. After
 * that, a weight is a name, looked up by role, layer and expert.
 *
 * Nothing is ignored in silence: a tensor that no role asks for (a bias, a norm of q and k, a
 * second tower) means mathematics that this architecture does not have, so it refuses the file. */
#include "models/formats/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define CONFIG_LIMIT (1 << 20)  /* bytes of a config.json */
#define INDEX_LIMIT  (64 << 20) /* bytes of a model.safetensors.index.json */

/* A tensor's name: before [layer middle [expert after]]. */
typedef struct role_name {
    const char *before, *middle, *after;
} role_name;

struct anemo_checkpoint {
    char *path;
    anemo_hparams hparams;
    anemo_mapped_file *files;
    size_t n_files;
    anemo_tensors tensors;
    const role_name *names;
    char *tokenizer_path;
    char identity[65];
};

/* ---------------------------------------------------------------- roles */

static const struct role_info {
    bool vector, per_layer, per_expert;
    const char *shape; /* in words, for sentences */
} roles[ANEMO_T_COUNT] = {
    [ANEMO_T_EMBED] = {false, false, false, "vocabulary, hidden size"},
    [ANEMO_T_OUTPUT_NORM] = {true, false, false, "hidden size"},
    [ANEMO_T_OUTPUT] = {false, false, false, "vocabulary, hidden size"},
    [ANEMO_T_ATTN_NORM] = {true, true, false, "hidden size"},
    [ANEMO_T_Q] = {false, true, false, "heads * head_dim, hidden size"},
    [ANEMO_T_K] = {false, true, false, "kv heads * head_dim, hidden size"},
    [ANEMO_T_V] = {false, true, false, "kv heads * head_dim, hidden size"},
    [ANEMO_T_O] = {false, true, false, "hidden size, heads * head_dim"},
    [ANEMO_T_FFN_NORM] = {true, true, false, "hidden size"},
    [ANEMO_T_ROUTER] = {false, true, false, "experts, hidden size"},
    [ANEMO_T_GATE] = {false, true, true, "feed-forward size, hidden size"},
    [ANEMO_T_UP] = {false, true, true, "feed-forward size, hidden size"},
    [ANEMO_T_DOWN] = {false, true, true, "hidden size, feed-forward size"},
};

#define HF_LAYER "model.layers."
#define HF_NAMES                                                                                   \
    [ANEMO_T_EMBED] = {"model.embed_tokens.weight"},                                               \
    [ANEMO_T_OUTPUT_NORM] = {"model.norm.weight"}, [ANEMO_T_OUTPUT] = {"lm_head.weight"},          \
    [ANEMO_T_ATTN_NORM] = {HF_LAYER, ".input_layernorm.weight"},                                   \
    [ANEMO_T_Q] = {HF_LAYER, ".self_attn.q_proj.weight"},                                          \
    [ANEMO_T_K] = {HF_LAYER, ".self_attn.k_proj.weight"},                                          \
    [ANEMO_T_V] = {HF_LAYER, ".self_attn.v_proj.weight"},                                          \
    [ANEMO_T_O] = {HF_LAYER, ".self_attn.o_proj.weight"},                                          \
    [ANEMO_T_FFN_NORM] = {HF_LAYER, ".post_attention_layernorm.weight"}

static const role_name hf_mistral[ANEMO_T_COUNT] = {
    HF_NAMES,
    [ANEMO_T_GATE] = {HF_LAYER, ".mlp.gate_proj.weight"},
    [ANEMO_T_UP] = {HF_LAYER, ".mlp.up_proj.weight"},
    [ANEMO_T_DOWN] = {HF_LAYER, ".mlp.down_proj.weight"},
};

static const role_name hf_mixtral[ANEMO_T_COUNT] = {
    HF_NAMES,
    [ANEMO_T_ROUTER] = {HF_LAYER, ".block_sparse_moe.gate.weight"},
    [ANEMO_T_GATE] = {HF_LAYER, ".block_sparse_moe.experts.", ".w1.weight"},
    [ANEMO_T_UP] = {HF_LAYER, ".block_sparse_moe.experts.", ".w3.weight"},
    [ANEMO_T_DOWN] = {HF_LAYER, ".block_sparse_moe.experts.", ".w2.weight"},
};

static void make_name(const role_name *form, int64_t layer, int64_t expert, char name[128]) {
    if (!form->middle)
        snprintf(name, 128, "%s", form->before);
    else if (!form->after)
        snprintf(name, 128, "%s%" PRId64 "%s", form->before, layer, form->middle);
    else
        snprintf(name, 128, "%s%" PRId64 "%s%" PRId64 "%s", form->before, layer, form->middle,
                 expert, form->after);
}

/* Rows and columns of a role; a vector is one row. */
static void role_shape(const anemo_hparams *h, anemo_tensor_role role, int64_t *n, int64_t *k) {
    *n = 1;
    *k = h->d;
    switch (role) {
    case ANEMO_T_EMBED:
    case ANEMO_T_OUTPUT:
        *n = h->vocab;
        break;
    case ANEMO_T_Q:
        *n = h->heads * h->head_dim;
        break;
    case ANEMO_T_K:
    case ANEMO_T_V:
        *n = h->kv_heads * h->head_dim;
        break;
    case ANEMO_T_O:
        *n = h->d;
        *k = h->heads * h->head_dim;
        break;
    case ANEMO_T_ROUTER:
        *n = h->experts;
        break;
    case ANEMO_T_GATE:
    case ANEMO_T_UP:
        *n = h->ffn;
        break;
    case ANEMO_T_DOWN:
        *n = h->d;
        *k = h->ffn;
        break;
    default:
        break;
    }
}

/* ---------------------------------------------------------------- what must be there */

static anemo_status check_shape(const anemo_checkpoint *checkpoint, const anemo_tensor *tensor,
                                anemo_tensor_role role, anemo_error *err) {
    int64_t expected[2];
    role_shape(&checkpoint->hparams, role, &expected[0], &expected[1]);
    const int32_t rank = roles[role].vector ? 1 : 2;
    const int64_t *shape = expected + 2 - rank;
    if (tensor->rank == rank && memcmp(tensor->shape, shape, (size_t)rank * sizeof *shape) == 0)
        return ANEMO_OK;
    return anemo_fail(err, ANEMO_E_INPUT, "%s: tensor %s has shape %s; accepted: %s (%s)",
                      tensor->path, tensor->name,
                      anemo_show_shape(tensor->rank, tensor->shape).text,
                      anemo_show_shape(rank, shape).text, roles[role].shape);
}

static anemo_status check_type(const anemo_tensor *tensor, anemo_tensor_role role,
                               anemo_error *err) {
    anemo_weight_type type;
    int64_t block, block_bytes;
    const char *name;
    const bool known = anemo_ggml_type(tensor->type, &type, &block, &block_bytes, &name);
    if (!known || (roles[role].vector && block > 1))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: tensor %s has type %s, which is not supported here; accepted: %s",
                          tensor->path, tensor->name, tensor->type_name,
                          roles[role].vector ? "F32, F16, BF16" : ANEMO_ACCEPTED_TYPES);
    return ANEMO_OK;
}

static anemo_status check_role(anemo_checkpoint *checkpoint, anemo_tensor_role role, int64_t layer,
                               int64_t expert, anemo_error *err) {
    char name[128];
    make_name(&checkpoint->names[role], layer, expert, name);
    anemo_tensor *tensor = anemo_tensors_find(&checkpoint->tensors, name);
    if (!tensor)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: tensor %s is missing; accepted: files with every tensor of the "
                          "architecture",
                          anemo_path_tail(checkpoint->path), name);
    tensor->used = true;
    ANEMO_TRY(check_type(tensor, role, err));
    return check_shape(checkpoint, tensor, role, err);
}

static bool has_role(const anemo_hparams *h, anemo_tensor_role role) {
    return !(role == ANEMO_T_OUTPUT && h->tied) && !(role == ANEMO_T_ROUTER && h->experts == 0);
}

/* Tensors that may be there without a role: they hold nothing that is not known otherwise. */
static bool is_redundant(const anemo_hparams *h, const char *name) {
    static const char inv_freq[] = ".self_attn.rotary_emb.inv_freq"; /* old Llama files */
    const size_t n = strlen(name), m = sizeof inv_freq - 1;
    return (n > m && strcmp(name + n - m, inv_freq) == 0) ||
           (h->tied && strcmp(name, "lm_head.weight") == 0);
}

static anemo_status check_tensors(anemo_checkpoint *checkpoint, anemo_error *err) {
    const anemo_hparams *h = &checkpoint->hparams;
    for (int role = 0; role < ANEMO_T_COUNT; ++role) {
        if (!has_role(h, role))
            continue;
        const int64_t layers = roles[role].per_layer ? h->layers : 1;
        const int64_t experts = roles[role].per_expert && h->experts ? h->experts : 1;
        for (int64_t layer = 0; layer < layers; ++layer)
            for (int64_t expert = 0; expert < experts; ++expert)
                ANEMO_TRY(check_role(checkpoint, role, layer, expert, err));
    }
    for (size_t i = 0; i < checkpoint->tensors.n; ++i) {
        const anemo_tensor *tensor = &checkpoint->tensors.items[i];
        if (!tensor->used && !is_redundant(h, tensor->name))
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: tensor %s is not part of the architecture; accepted: the "
                              "tensors of %" PRId64 " plain %s layers",
                              tensor->path, anemo_show(tensor->name).text, h->layers,
                              h->arch == ANEMO_ARCH_MIXTRAL ? "mixtral" : "mistral");
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- opening a directory */

static bool is_file(const char *path) {
    struct stat info;
    return path && stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

/* Maps directory/name as the next file of the checkpoint. */
static anemo_status map_next(anemo_checkpoint *checkpoint, const char *name, size_t limit,
                             anemo_mapped_file **out, anemo_error *err) {
    char *path = anemo_join_path(checkpoint->path, name);
    anemo_mapped_file *files =
        realloc(checkpoint->files, (checkpoint->n_files + 1) * sizeof *files);
    if (files)
        checkpoint->files = files;
    if (!path || !files) {
        free(path);
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", name);
    }
    *out = &files[checkpoint->n_files];
    const anemo_status status = anemo_map_open(path, *out, err);
    free(path);
    if (status != ANEMO_OK)
        return status;
    ++checkpoint->n_files;
    if ((*out)->bytes > limit)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: the file has %zu bytes; accepted: at most %zu",
                          (*out)->path, (*out)->bytes, limit);
    return ANEMO_OK;
}

static anemo_status open_weights(anemo_checkpoint *checkpoint, const char *name, anemo_sha256 *sha,
                                 anemo_error *err) {
    anemo_mapped_file *file;
    size_t header_bytes;
    ANEMO_TRY(map_next(checkpoint, name, SIZE_MAX, &file, err));
    ANEMO_TRY(anemo_safetensors_parse(file, &checkpoint->tensors, &header_bytes, err));
    anemo_sha256_update(sha, file->data, header_bytes);
    return ANEMO_OK;
}

static anemo_status open_shards(anemo_checkpoint *checkpoint, anemo_sha256 *sha, anemo_error *err) {
    anemo_mapped_file *file;
    anemo_shard_index index;
    ANEMO_TRY(map_next(checkpoint, "model.safetensors.index.json", INDEX_LIMIT, &file, err));
    const char *index_path = file->path; /* outlives the move of checkpoint->files */
    ANEMO_TRY(anemo_shard_index_parse(index_path, file->data, file->bytes, &index, err));
    anemo_status status = ANEMO_OK;
    for (size_t i = 0; i < index.n && status == ANEMO_OK; ++i)
        status = open_weights(checkpoint, index.names[i], sha, err);
    if (status == ANEMO_OK)
        status = anemo_tensors_index(&checkpoint->tensors, err);
    if (status == ANEMO_OK)
        status = anemo_shard_index_check(&index, index_path, &checkpoint->tensors, err);
    anemo_shard_index_free(&index);
    return status;
}

static anemo_status open_single_or_shards(anemo_checkpoint *checkpoint, anemo_sha256 *sha,
                                          anemo_error *err) {
    char *single = anemo_join_path(checkpoint->path, "model.safetensors");
    char *index = anemo_join_path(checkpoint->path, "model.safetensors.index.json");
    anemo_status status;
    if (is_file(single)) { /* as transformers does, when both are there */
        status = open_weights(checkpoint, "model.safetensors", sha, err);
        if (status == ANEMO_OK)
            status = anemo_tensors_index(&checkpoint->tensors, err);
    } else if (is_file(index)) {
        status = open_shards(checkpoint, sha, err);
    } else {
        status = anemo_fail(err, ANEMO_E_INPUT,
                            "%s: no weights; accepted: model.safetensors, or "
                            "model.safetensors.index.json with its shards",
                            anemo_path_tail(checkpoint->path));
    }
    free(single);
    free(index);
    return status;
}

static void find_tokenizer(anemo_checkpoint *checkpoint) {
    static const char *const names[] = {"tokenizer.json", "tokenizer.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !checkpoint->tokenizer_path; ++i) {
        char *path = anemo_join_path(checkpoint->path, names[i]);
        if (is_file(path))
            checkpoint->tokenizer_path = path;
        else
            free(path);
    }
}

static anemo_status open_directory(anemo_checkpoint *checkpoint, anemo_error *err) {
    anemo_mapped_file *file;
    anemo_sha256 sha;
    ANEMO_TRY(map_next(checkpoint, "config.json", CONFIG_LIMIT, &file, err));
    ANEMO_TRY(anemo_hf_config(file->path, file->data, file->bytes, &checkpoint->hparams, err));
    anemo_sha256_init(&sha);
    anemo_sha256_update(&sha, file->data, file->bytes);
    ANEMO_TRY(open_single_or_shards(checkpoint, &sha, err));
    anemo_sha256_hex(&sha, checkpoint->identity);
    checkpoint->names = checkpoint->hparams.experts ? hf_mixtral : hf_mistral;
    ANEMO_TRY(check_tensors(checkpoint, err));
    find_tokenizer(checkpoint);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- the public door */

anemo_status anemo_checkpoint_open(const char *path, anemo_checkpoint **out, anemo_error *err) {
    struct stat info;
    *out = NULL;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: is not a model; accepted: a directory with config.json and "
                          "model.safetensors",
                          anemo_show(anemo_path_tail(path)).text);
    anemo_checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    if (checkpoint)
        checkpoint->path = strdup(path);
    if (!checkpoint || !checkpoint->path) {
        free(checkpoint);
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", anemo_path_tail(path));
    }
    const anemo_status status = open_directory(checkpoint, err);
    if (status == ANEMO_OK)
        *out = checkpoint;
    else
        anemo_checkpoint_close(checkpoint);
    return status;
}

void anemo_checkpoint_close(anemo_checkpoint *checkpoint) {
    if (!checkpoint)
        return;
    anemo_tensors_free(&checkpoint->tensors);
    for (size_t i = 0; i < checkpoint->n_files; ++i)
        anemo_map_close(&checkpoint->files[i]);
    free(checkpoint->files);
    free(checkpoint->tokenizer_path);
    free(checkpoint->path);
    free(checkpoint);
}

const anemo_hparams *anemo_checkpoint_hparams(const anemo_checkpoint *checkpoint) {
    return &checkpoint->hparams;
}

const char *anemo_checkpoint_path(const anemo_checkpoint *checkpoint) {
    return checkpoint->path;
}

bool anemo_checkpoint_synthetic(const anemo_checkpoint *checkpoint) {
    (void)checkpoint;
    return false;
}

const char *anemo_checkpoint_identity(const anemo_checkpoint *checkpoint) {
    return checkpoint->identity;
}

const char *anemo_checkpoint_tokenizer_path(const anemo_checkpoint *checkpoint, anemo_error *why) {
    if (!checkpoint->tokenizer_path)
        anemo_fail(why, ANEMO_E_INPUT,
                   "%s: no tokenizer; accepted: tokenizer.json or tokenizer.model in the directory",
                   anemo_path_tail(checkpoint->path));
    return checkpoint->tokenizer_path;
}

/* The role's tensor. A role that the model lacks, or an index out of range, is the caller's error.
 */
static anemo_status find_tensor(const anemo_checkpoint *checkpoint, anemo_tensor_role role,
                                int64_t layer, int64_t expert, const anemo_tensor **out,
                                anemo_error *err) {
    const anemo_hparams *h = &checkpoint->hparams;
    if (role == ANEMO_T_OUTPUT && h->tied)
        role = ANEMO_T_EMBED;
    const bool in_range =
        (unsigned)role < ANEMO_T_COUNT && has_role(h, role) &&
        (!roles[role].per_layer || (layer >= 0 && layer < h->layers)) &&
        (!roles[role].per_expert || !h->experts || (expert >= 0 && expert < h->experts));
    char name[128] = "";
    if (in_range)
        make_name(&checkpoint->names[role], layer, expert, name);
    *out = in_range ? anemo_tensors_find(&checkpoint->tensors, name) : NULL;
    if (!*out)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: no tensor for role %d, layer %" PRId64 ", expert %" PRId64,
                          anemo_path_tail(checkpoint->path), (int)role, layer, expert);
    return ANEMO_OK;
}

anemo_status anemo_checkpoint_weight(const anemo_checkpoint *checkpoint, anemo_tensor_role role,
                                     int64_t layer, int64_t expert, anemo_weight *out,
                                     anemo_error *err) {
    const anemo_tensor *tensor;
    int64_t n, k;
    ANEMO_TRY(find_tensor(checkpoint, role, layer, expert, &tensor, err));
    role_shape(&checkpoint->hparams, role, &n, &k);
    anemo_ggml_weight(tensor->type, tensor->data, n, k, out);
    return ANEMO_OK;
}

anemo_status anemo_checkpoint_vector(const anemo_checkpoint *checkpoint, anemo_tensor_role role,
                                     int64_t layer, float *out, int64_t n, anemo_error *err) {
    const anemo_tensor *tensor;
    anemo_weight row;
    ANEMO_TRY(find_tensor(checkpoint, role, layer, 0, &tensor, err));
    if (!roles[role].vector || tensor->shape[0] != n)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: tensor %s is not a vector of %" PRId64 " values",
                          tensor->path, tensor->name, n);
    anemo_ggml_weight(tensor->type, tensor->data, 1, n, &row);
    row.read_row(&row, 0, out, NULL, NULL, NULL);
    return ANEMO_OK;
}
