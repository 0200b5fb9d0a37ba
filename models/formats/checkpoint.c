/* Opens a model: finds the files, maps them, and proves that the tensors which the architecture
 * needs are there, with the right shape and a type that can be computed with. After that, a weight
 * is a name (roles.c), looked up by role, layer and expert.
 *
 * Nothing is ignored in silence: a tensor that no role asks for (a bias, a norm of q and k, a
 * second tower) means mathematics that this architecture does not have, so it refuses the file. */
#include "models/formats/convert.h"
#include "models/formats/gguf.h"
#include "models/formats/packed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define CONFIG_LIMIT (1 << 20)  /* bytes of a config.json */
#define INDEX_LIMIT  (64 << 20) /* bytes of a model.safetensors.index.json */

struct anemo_checkpoint {
    char *path;
    anemo_hparams hparams;
    anemo_mapped_file *files;
    size_t n_files;
    anemo_tensors tensors;
    anemo_packed *packed; /* list of the matrices that several tensors make up */
    anemo_naming naming;
    const anemo_synth_type *synth; /* NULL: the model lies in files */
    char *tokenizer_path;
    char identity[65];
    char skipped[160]; /* tensors beside the text path */
};

/* ---------------------------------------------------------------- what must be there */

/* Are the experts of this role one tensor, the expert its slowest dimension? */
static bool is_merged(const anemo_checkpoint *checkpoint, anemo_tensor_role role) {
    return anemo_roles[role].per_expert && (checkpoint->naming == ANEMO_NAMING_GGUF_MERGED ||
                                            checkpoint->naming == ANEMO_NAMING_GGUF_GPTOSS ||
                                            checkpoint->naming == ANEMO_NAMING_HF_GPTOSS);
}

/* gpt-oss in Hugging Face files: matrices as [inputs, outputs], outputs of gate and up taking
 * turns. 2: one of a pair, 1: alone, 0: as everywhere else. */
static int64_t output_step(const anemo_checkpoint *checkpoint, anemo_tensor_role role) {
    if (checkpoint->naming != ANEMO_NAMING_HF_GPTOSS || !anemo_roles[role].per_expert)
        return 0;
    return role == ANEMO_T_DOWN || role == ANEMO_T_DOWN_BIAS ? 1 : 2;
}

static int64_t second_of_pair(anemo_tensor_role role) {
    return role == ANEMO_T_UP || role == ANEMO_T_UP_BIAS;
}

/* The shape that the file should give a role; returns its rank. */
static int32_t file_shape(const anemo_checkpoint *checkpoint, anemo_tensor_role role,
                          int64_t shape[3]) {
    const bool merged = is_merged(checkpoint, role), vector = anemo_roles[role].vector;
    const int64_t step = output_step(checkpoint, role);
    int64_t n, k;
    int32_t rank = 0;
    anemo_role_shape(&checkpoint->hparams, role, &n, &k);
    if (merged)
        shape[rank++] = checkpoint->hparams.experts;
    if (step && vector) {
        shape[rank++] = step * k;
    } else if (step) {
        shape[rank++] = k;
        shape[rank++] = step * n;
    } else {
        if (!vector)
            shape[rank++] = n;
        shape[rank++] = k;
    }
    return rank;
}

static anemo_status check_shape(const anemo_checkpoint *checkpoint, const anemo_tensor *tensor,
                                anemo_tensor_role role, anemo_error *err) {
    int64_t shape[3];
    const int32_t rank = file_shape(checkpoint, role, shape);
    if (tensor->rank == rank && memcmp(tensor->shape, shape, (size_t)rank * sizeof *shape) == 0)
        return ANEMO_OK;
    return anemo_fail(
        err, ANEMO_E_INPUT, "%s: tensor %s has shape %s; accepted: %s (%s%s%s)", tensor->path,
        tensor->name, anemo_show_shape(tensor->rank, tensor->shape).text,
        anemo_show_shape(rank, shape).text, is_merged(checkpoint, role) ? "experts, " : "",
        anemo_roles[role].shape, output_step(checkpoint, role) ? ", transposed" : "");
}

static anemo_status check_type(const anemo_checkpoint *checkpoint, const anemo_tensor *tensor,
                               anemo_tensor_role role, anemo_error *err) {
    anemo_weight_type type;
    int64_t block = 0, block_bytes;
    const char *name;
    const bool known = (tensor->packed && !anemo_roles[role].vector) ||
                       anemo_ggml_type(tensor->type, &type, &block, &block_bytes, &name);
    const bool floats = anemo_roles[role].vector || output_step(checkpoint, role);
    if (!known || (floats && block > 1))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: tensor %s has type %s, which is not supported here; accepted: %s",
                          tensor->path, tensor->name, tensor->type_name,
                          floats ? "F32, F16, BF16" : ANEMO_ACCEPTED_TYPES);
    return ANEMO_OK;
}

static anemo_status check_role(anemo_checkpoint *checkpoint, anemo_tensor_role role, int64_t layer,
                               int64_t expert, anemo_error *err) {
    char name[ANEMO_ROLE_NAME_BYTES];
    anemo_role_name(checkpoint->naming, role, layer, expert, name);
    anemo_tensor *tensor = anemo_tensors_find(&checkpoint->tensors, name);
    if (!tensor)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: tensor %s is missing; accepted: files with every tensor of the "
                          "architecture",
                          anemo_show_path(checkpoint->path).text, name);
    tensor->used = true;
    ANEMO_TRY(check_type(checkpoint, tensor, role, err));
    return check_shape(checkpoint, tensor, role, err);
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
        if (!anemo_has_role(h, (anemo_tensor_role)role))
            continue;
        const int64_t layers = anemo_roles[role].per_layer ? h->layers : 1;
        const int64_t experts =
            anemo_roles[role].per_expert && h->experts && !is_merged(checkpoint, role) ? h->experts
                                                                                       : 1;
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
                              anemo_arch_name(h->arch));
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- opening a directory */

static bool is_file(const char *path) {
    struct stat info;
    return path && stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

/* Maps a path as the next file of the checkpoint. Earlier anemo_mapped_file pointers are invalid
 * then; what they point to is not. */
static anemo_status map_path(anemo_checkpoint *checkpoint, const char *path, size_t limit,
                             anemo_mapped_file **out, anemo_error *err) {
    anemo_mapped_file *files =
        realloc(checkpoint->files, (checkpoint->n_files + 1) * sizeof *files);
    if (files)
        checkpoint->files = files;
    if (!path || !files)
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory",
                          anemo_show_path(checkpoint->path).text);
    *out = &files[checkpoint->n_files];
    ANEMO_TRY(anemo_map_open(path, *out, err));
    ++checkpoint->n_files;
    if ((*out)->bytes > limit)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: the file has %zu bytes; accepted: at most %zu",
                          (*out)->path, (*out)->bytes, limit);
    return ANEMO_OK;
}

/* Maps a file of the model's directory. */
static anemo_status map_next(anemo_checkpoint *checkpoint, const char *name, size_t limit,
                             anemo_mapped_file **out, anemo_error *err) {
    char *path = anemo_join_path(checkpoint->path, name);
    const anemo_status status = map_path(checkpoint, path, limit, out, err);
    free(path);
    return status;
}

static anemo_status open_weights(anemo_checkpoint *checkpoint, const char *name, anemo_sha256 *sha,
                                 anemo_error *err) {
    anemo_mapped_file *file = NULL;
    size_t header_bytes = 0;
    ANEMO_TRY(map_next(checkpoint, name, SIZE_MAX, &file, err));
    ANEMO_TRY(anemo_safetensors_parse(file, &checkpoint->tensors, &header_bytes, err));
    anemo_sha256_update(sha, file->data, header_bytes);
    return ANEMO_OK;
}

static anemo_status open_shards(anemo_checkpoint *checkpoint, const char *index_name,
                                anemo_sha256 *sha, anemo_error *err) {
    anemo_mapped_file *file = NULL;
    anemo_shard_index index;
    ANEMO_TRY(map_next(checkpoint, index_name, INDEX_LIMIT, &file, err));
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

static bool has_file(const anemo_checkpoint *checkpoint, const char *name) {
    char *path = anemo_join_path(checkpoint->path, name);
    const bool found = is_file(path);
    free(path);
    return found;
}

/* "model" or "consolidated": names of the single file and of the index of several. */
typedef struct weight_files {
    const char *single, *index;
} weight_files;
static const weight_files hf_files = {"model.safetensors", "model.safetensors.index.json"};
static const weight_files mistral_files = {"consolidated.safetensors",
                                           "consolidated.safetensors.index.json"};

static anemo_status open_single_or_shards(anemo_checkpoint *checkpoint, const weight_files *files,
                                          anemo_sha256 *sha, anemo_error *err) {
    if (has_file(checkpoint, files->single)) { /* as transformers does, when both are there */
        ANEMO_TRY(open_weights(checkpoint, files->single, sha, err));
        return anemo_tensors_index(&checkpoint->tensors, err);
    }
    if (has_file(checkpoint, files->index))
        return open_shards(checkpoint, files->index, sha, err);
    return anemo_fail(err, ANEMO_E_INPUT, "%s: no weights; accepted: %s, or %s with its shards",
                      anemo_show_path(checkpoint->path).text, files->single, files->index);
}

/* In `folder`. */
static void find_tokenizer(anemo_checkpoint *checkpoint, const char *folder) {
    static const char *const names[] = {"tokenizer.json", "tekken.json", "tokenizer.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !checkpoint->tokenizer_path; ++i) {
        char *path = anemo_join_path(folder, names[i]);
        if (is_file(path))
            checkpoint->tokenizer_path = path;
        else
            free(path);
    }
}

static anemo_status open_directory(anemo_checkpoint *checkpoint, anemo_error *err) {
    anemo_mapped_file *file = NULL;
    anemo_sha256 sha;
    anemo_quantisation quantisation;
    ANEMO_TRY(map_next(checkpoint, "config.json", CONFIG_LIMIT, &file, err));
    ANEMO_TRY(anemo_hf_config(file->path, file->data, file->bytes, &checkpoint->hparams, err));
    ANEMO_TRY(anemo_quantisation_parse(file->path, file->data, file->bytes, &quantisation, err));
    anemo_sha256_init(&sha);
    anemo_sha256_update(&sha, file->data, file->bytes);
    ANEMO_TRY(open_single_or_shards(checkpoint, &hf_files, &sha, err));
    anemo_sha256_hex(&sha, checkpoint->identity);
    if (checkpoint->hparams.multimodal)
        ANEMO_TRY(anemo_text_tensors(&checkpoint->tensors, checkpoint->skipped,
                                     sizeof checkpoint->skipped, err));
    if (checkpoint->hparams.multimodal) /* the flag's default changed with transformers' versions */
        checkpoint->hparams.tied = !anemo_tensors_find(&checkpoint->tensors, "lm_head.weight");
    ANEMO_TRY(anemo_packed_find(&quantisation, &checkpoint->tensors, &checkpoint->packed, err));
    checkpoint->naming = anemo_hf_naming(checkpoint->hparams.arch);
    ANEMO_TRY(check_tensors(checkpoint, err));
    find_tokenizer(checkpoint, checkpoint->path);
    return ANEMO_OK;
}

/* Mistral's own form. Directories often hold both; then the Hugging Face one is read. */
static bool is_consolidated(const anemo_checkpoint *checkpoint) {
    return has_file(checkpoint, "params.json") &&
           (has_file(checkpoint, mistral_files.single) ||
            has_file(checkpoint, mistral_files.index)) &&
           !has_file(checkpoint, hf_files.single) && !has_file(checkpoint, hf_files.index);
}

static anemo_status open_consolidated(anemo_checkpoint *checkpoint, anemo_error *err) {
    anemo_mapped_file *file = NULL;
    anemo_sha256 sha;
    anemo_quantisation quantisation;
    ANEMO_TRY(map_next(checkpoint, "params.json", CONFIG_LIMIT, &file, err));
    ANEMO_TRY(anemo_params_json(file->path, file->data, file->bytes, &checkpoint->hparams,
                                &quantisation, err));
    anemo_sha256_init(&sha);
    anemo_sha256_update(&sha, file->data, file->bytes);
    ANEMO_TRY(open_single_or_shards(checkpoint, &mistral_files, &sha, err));
    anemo_sha256_hex(&sha, checkpoint->identity);
    ANEMO_TRY(anemo_packed_find(&quantisation, &checkpoint->tensors, &checkpoint->packed, err));
    checkpoint->naming =
        checkpoint->hparams.experts ? ANEMO_NAMING_MISTRAL_MOE : ANEMO_NAMING_MISTRAL;
    ANEMO_TRY(check_tensors(checkpoint, err));
    find_tokenizer(checkpoint, checkpoint->path);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- opening a GGUF file */

/* The other files of a split model; `sha` takes their headers. */
static anemo_status open_gguf_parts(anemo_checkpoint *checkpoint, const gguf_file *gguf,
                                    anemo_sha256 *sha, anemo_error *err) {
    int64_t count = 1;
    ANEMO_TRY(gguf_split_count(gguf, checkpoint->path, &count, err));
    for (int64_t no = 1; no < count; ++no) {
        anemo_mapped_file *file = NULL;
        gguf_file part;
        char *path = gguf_split_path(checkpoint->path, no, count);
        anemo_status status = map_path(checkpoint, path, SIZE_MAX, &file, err);
        free(path);
        ANEMO_TRY(status);
        ANEMO_TRY(gguf_parse(file, &part, &checkpoint->tensors, err));
        status = gguf_split_check(&part, no, count, err);
        anemo_sha256_update(sha, file->data, part.header_bytes);
        gguf_free(&part);
        ANEMO_TRY(status);
    }
    return count > 1 ? gguf_split_check_tensors(gguf, checkpoint->tensors.n, err) : ANEMO_OK;
}

/* A file without a vocabulary: as `anemo quantize` writes it where GGUF cannot say what the
 * tokenizer of the directory does, which then lies beside it. */
static anemo_status find_tokenizer_beside(anemo_checkpoint *checkpoint, const gguf_file *gguf,
                                          anemo_error *err) {
    const char *slash = strrchr(checkpoint->path, '/');
    char *folder =
        slash ? strndup(checkpoint->path, (size_t)(slash - checkpoint->path + 1)) : strdup("./");
    if (!folder)
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", gguf->path);
    find_tokenizer(checkpoint, folder);
    free(folder);
    return ANEMO_OK;
}

static anemo_status read_gguf(anemo_checkpoint *checkpoint, const anemo_mapped_file *file,
                              const gguf_file *gguf, anemo_error *err) {
    anemo_sha256 sha;
    anemo_sha256_init(&sha);
    anemo_sha256_update(&sha, file->data, gguf->header_bytes);
    ANEMO_TRY(open_gguf_parts(checkpoint, gguf, &sha, err));
    ANEMO_TRY(gguf_hparams(gguf, &checkpoint->tensors, &checkpoint->hparams, err));
    if (checkpoint->hparams.arch == ANEMO_ARCH_GPTOSS)
        checkpoint->naming = ANEMO_NAMING_GGUF_GPTOSS;
    else if (!checkpoint->hparams.experts)
        checkpoint->naming = ANEMO_NAMING_GGUF;
    else if (anemo_tensors_find(&checkpoint->tensors, "blk.0.ffn_gate_exps.weight"))
        checkpoint->naming = ANEMO_NAMING_GGUF_MERGED;
    else
        checkpoint->naming = ANEMO_NAMING_GGUF_EXPERTS;
    ANEMO_TRY(check_tensors(checkpoint, err));
    anemo_sha256_hex(&sha, checkpoint->identity);
    if (!gguf_find(gguf, "tokenizer.ggml.tokens"))
        return find_tokenizer_beside(checkpoint, gguf, err);
    checkpoint->tokenizer_path = strdup(checkpoint->path);
    return checkpoint->tokenizer_path
               ? ANEMO_OK
               : anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", gguf->path);
}

static anemo_status open_gguf(anemo_checkpoint *checkpoint, anemo_error *err) {
    anemo_mapped_file *file = NULL;
    gguf_file gguf;
    ANEMO_TRY(map_path(checkpoint, checkpoint->path, SIZE_MAX, &file, err));
    ANEMO_TRY(gguf_parse(file, &gguf, &checkpoint->tensors, err));
    const anemo_status status = read_gguf(checkpoint, file, &gguf, err);
    gguf_free(&gguf);
    return status;
}

/* ---------------------------------------------------------------- the public door */

static anemo_status open_any(anemo_checkpoint *checkpoint, anemo_error *err) {
    static const char prefix[] = ANEMO_SYNTH_PREFIX;
    const char *path = checkpoint->path;
    struct stat info;
    if (strncmp(path, prefix, sizeof prefix - 1) == 0)
        return anemo_synth_parse(path, &checkpoint->hparams, &checkpoint->synth, err);
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return is_consolidated(checkpoint) ? open_consolidated(checkpoint, err)
                                           : open_directory(checkpoint, err);
    if (is_file(path))
        return open_gguf(checkpoint, err);
    return anemo_fail(err, ANEMO_E_INPUT,
                      "%s: there is no such model; accepted: a directory with config.json and "
                      "model.safetensors (or params.json and consolidated.safetensors), a .gguf "
                      "file, or " ANEMO_SYNTH_FORM,
                      anemo_show_path(path).text);
}

anemo_status anemo_checkpoint_open(const char *path, anemo_checkpoint **out, anemo_error *err) {
    anemo_checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    *out = NULL;
    if (checkpoint)
        checkpoint->path = strdup(path);
    if (!checkpoint || !checkpoint->path) {
        free(checkpoint);
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", anemo_show_path(path).text);
    }
    const anemo_status status = open_any(checkpoint, err);
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
    anemo_packed_free(checkpoint->packed);
    for (size_t i = 0; i < checkpoint->n_files; ++i)
        anemo_map_close(&checkpoint->files[i]);
    free(checkpoint->files);
    free(checkpoint->tokenizer_path);
    free(checkpoint->path);
    free(checkpoint);
}

void anemo_checkpoint_expect(const anemo_checkpoint *checkpoint, bool in_order) {
    for (size_t i = 0; i < checkpoint->n_files; ++i)
        anemo_map_expect(&checkpoint->files[i], in_order);
}

const anemo_hparams *anemo_checkpoint_hparams(const anemo_checkpoint *checkpoint) {
    return &checkpoint->hparams;
}

const char *anemo_checkpoint_path(const anemo_checkpoint *checkpoint) {
    return checkpoint->path;
}

char *anemo_checkpoint_stamp(const anemo_checkpoint *checkpoint) {
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    if (!f)
        return NULL;
    fprintf(f, "identity %s\n", checkpoint->identity);
    for (size_t i = 0; i < checkpoint->n_files; ++i) {
        const anemo_mapped_file *file = &checkpoint->files[i];
        const char *slash = strrchr(file->path, '/');
        fprintf(f, "file %s %zu %lld\n", slash ? slash + 1 : file->path, file->bytes,
                (long long)file->mtime_ns);
    }
    if (fclose(f) == 0)
        return text;
    free(text);
    return NULL;
}

const anemo_mapped_file *anemo_checkpoint_gguf(const anemo_checkpoint *checkpoint) {
    return checkpoint->naming >= ANEMO_NAMING_GGUF && checkpoint->naming <= ANEMO_NAMING_GGUF_GPTOSS
               ? &checkpoint->files[0]
               : NULL;
}

const anemo_synth_type *anemo_checkpoint_synthetic(const anemo_checkpoint *checkpoint) {
    return checkpoint->synth;
}

const char *anemo_checkpoint_skipped(const anemo_checkpoint *checkpoint) {
    return checkpoint->skipped;
}

const char *anemo_checkpoint_identity(const anemo_checkpoint *checkpoint) {
    return checkpoint->identity;
}

const char *anemo_checkpoint_tokenizer_path(const anemo_checkpoint *checkpoint, anemo_error *why) {
    if (checkpoint->synth)
        anemo_fail(why, ANEMO_E_INPUT, "%s: synthetic models have no tokenizer", checkpoint->path);
    else if (!checkpoint->tokenizer_path)
        anemo_fail(why, ANEMO_E_INPUT,
                   "%s: tokenizer is missing; accepted: tokenizer.json or tokenizer.model in the "
                   "directory, tokenizer.ggml.tokens in a .gguf file (or those beside it)",
                   anemo_show_path(checkpoint->path).text);
    return checkpoint->tokenizer_path;
}

/* A role that the model lacks, or an index out of range, is the caller's error. */
static anemo_status check_request(const anemo_checkpoint *checkpoint, anemo_tensor_role role,
                                  int64_t layer, int64_t expert, bool vector, anemo_error *err) {
    const anemo_hparams *h = &checkpoint->hparams;
    const bool known = (unsigned)role < ANEMO_T_COUNT;
    const bool has = known && (role == ANEMO_T_OUTPUT || anemo_has_role(h, role));
    if (has && anemo_roles[role].vector == vector &&
        (!anemo_roles[role].per_layer || (layer >= 0 && layer < h->layers)) &&
        (!anemo_roles[role].per_expert || !h->experts || (expert >= 0 && expert < h->experts)))
        return ANEMO_OK;
    return anemo_fail(err, ANEMO_E_INPUT,
                      "%s: there is no %s of role %d in layer %" PRId64 ", expert %" PRId64,
                      anemo_show_path(checkpoint->path).text, vector ? "vector" : "matrix",
                      (int)role, layer, expert);
}

/* All tensors were found and checked when the model was opened. */
static const anemo_tensor *tensor_of(const anemo_checkpoint *checkpoint, anemo_tensor_role role,
                                     int64_t layer, int64_t expert) {
    char name[ANEMO_ROLE_NAME_BYTES];
    if (role == ANEMO_T_OUTPUT && checkpoint->hparams.tied)
        role = ANEMO_T_EMBED;
    anemo_role_name(checkpoint->naming, role, layer, expert, name);
    return anemo_tensors_find(&checkpoint->tensors, name);
}

anemo_status anemo_checkpoint_weight(const anemo_checkpoint *checkpoint, anemo_tensor_role role,
                                     int64_t layer, int64_t expert, anemo_weight *out,
                                     anemo_error *err) {
    int64_t n, k;
    ANEMO_TRY(check_request(checkpoint, role, layer, expert, false, err));
    anemo_role_shape(&checkpoint->hparams, role, &n, &k);
    if (!anemo_roles[role].per_layer)
        layer = 0;
    if (!anemo_roles[role].per_expert || !checkpoint->hparams.experts)
        expert = 0;
    if (checkpoint->synth) {
        if (role == ANEMO_T_OUTPUT && checkpoint->hparams.tied)
            role = ANEMO_T_EMBED;
        anemo_synth_weight(checkpoint->synth, role, layer, expert, n, k, out);
        return ANEMO_OK;
    }
    const anemo_tensor *tensor = tensor_of(checkpoint, role, layer, expert);
    if (tensor->packed) {
        anemo_packed_weight(tensor->packed, expert, second_of_pair(role), out);
        return ANEMO_OK;
    }
    const int64_t step = output_step(checkpoint, role);
    if (step)
        anemo_transposed_weight(tensor->type, tensor->data, n, k, step, out);
    else
        anemo_ggml_weight(tensor->type, tensor->data, n, k, out);
    if (is_merged(checkpoint, role)) {
        const size_t matrix = out->canonical_bytes, value = out->type.bits / 8u;
        const size_t of_expert = (size_t)expert * matrix * (size_t)(step ? step : 1);
        out->data =
            tensor->data + of_expert + (step == 2 ? (size_t)second_of_pair(role) * value : 0);
    }
    return ANEMO_OK;
}

/* Synthetic vectors do as little as possible: norms of 1, sinks and biases of 0. */
static float synthetic_value(anemo_tensor_role role) {
    return role == ANEMO_T_ATTN_NORM || role == ANEMO_T_FFN_NORM || role == ANEMO_T_OUTPUT_NORM ||
                   role == ANEMO_T_Q_NORM || role == ANEMO_T_K_NORM
               ? 1.0f
               : 0.0f;
}

anemo_status anemo_checkpoint_vector(const anemo_checkpoint *checkpoint, anemo_tensor_role role,
                                     int64_t layer, float *out, int64_t n, anemo_error *err) {
    anemo_weight row;
    ANEMO_TRY(check_request(checkpoint, role, layer, 0, true, err));
    const int64_t values = anemo_role_values(&checkpoint->hparams, role);
    if (n != values)
        return anemo_fail(err, ANEMO_E_INPUT, "%s: the vector has %" PRId64 " values, not %" PRId64,
                          anemo_show_path(checkpoint->path).text, values, n);
    if (checkpoint->synth) {
        for (int64_t i = 0; i < n; ++i)
            out[i] = synthetic_value(role);
        return ANEMO_OK;
    }
    const anemo_tensor *tensor = tensor_of(checkpoint, role, layer, 0);
    if (output_step(checkpoint, role) != 2) {
        anemo_ggml_weight(tensor->type, tensor->data, 1, n, &row);
        row.read_row(&row, 0, out, NULL, NULL, NULL);
        return ANEMO_OK;
    }
    /* Every second value: the columns of an [n, 2] matrix. */
    anemo_transposed_weight(tensor->type, tensor->data, 1, n, 2, &row);
    row.data = tensor->data + (size_t)second_of_pair(role) * row.type.bits / 8;
    row.read_row(&row, 0, out, NULL, NULL, NULL);
    return ANEMO_OK;
}
