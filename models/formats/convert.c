/* anemo quantize: a checkpoint in another weight type and container.
 *
 * Everything is written under a temporary name beside the target, which gets its own name only when
 * the last byte is on the disk: an interrupted run leaves nothing that looks finished, and what can
 * be removed is. Weights stream from the mapped source to the file; memory is a row, and for
 * safetensors the scales of a matrix. */
#include "models/formats/convert.h"
#include "models/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    uint32_t ggml; /* NONE: there is no such GGUF type */
    int bits;
    int64_t group;
    bool safetensors;
} targets[] = {
    {"q4:g32", ANEMO_GGML_Q4_0, 4, 32, true}, {"q4:g128", ANEMO_GGML_NONE, 4, 128, true},
    {"q8:g32", ANEMO_GGML_Q8_0, 8, 32, true}, {"q8:row", ANEMO_GGML_NONE, 8, 0, true},
    {"q4_0", ANEMO_GGML_Q4_0, 4, 32, false},  {"q4_k", ANEMO_GGML_Q4_K, 4, 32, false},
    {"q6_k", ANEMO_GGML_Q6_K, 6, 16, false},
};

const char *anemo_quantise_target(int32_t index) {
    const int32_t n = (int32_t)(sizeof targets / sizeof *targets);
    return index >= 0 && index < n ? targets[index].name : NULL;
}

/* ---------------------------------------------------------------- writing */

anemo_status anemo_conversion_put(anemo_conversion *c, const void *data, size_t bytes) {
    if (bytes == 0 || fwrite(data, 1, bytes, c->file) == bytes)
        return ANEMO_OK;
    return anemo_fail(c->err, ANEMO_E_IO, "%s: cannot write: %s", c->path, strerror(errno));
}

anemo_status anemo_conversion_pad(anemo_conversion *c, uint64_t *at, uint64_t alignment) {
    static const uint8_t zeros[64];
    const uint64_t end = (*at + alignment - 1) / alignment * alignment, n = end - *at;
    *at = end;
    return anemo_conversion_put(c, zeros, (size_t)n);
}

anemo_status anemo_conversion_step(anemo_conversion *c, int64_t values, const char *tensor) {
    c->done += (double)values;
    if (!c->progress || c->progress(c->context, c->done, c->total, tensor))
        return ANEMO_OK;
    return anemo_fail(c->err, ANEMO_E_CANCELLED, "%s: interrupted; nothing was kept", c->path);
}

/* Half-split row (h, half, i) is interleaved row (h, 2 i + half). */
int64_t anemo_conversion_row(const anemo_hparams *h, anemo_tensor_role role, int64_t row,
                             int32_t pairing) {
    if ((role != ANEMO_T_Q && role != ANEMO_T_K) || h->rope_pairing == pairing)
        return row;
    const int64_t i = row % h->head_dim, head = row - i, half = h->head_dim / 2;
    return head +
           (pairing == ANEMO_ROPE_INTERLEAVED ? i / 2 + i % 2 * half : i % half * 2 + i / half);
}

int64_t anemo_role_layers(const anemo_hparams *h, anemo_tensor_role role) {
    return anemo_roles[role].per_layer ? h->layers : 1;
}

int64_t anemo_role_experts(const anemo_hparams *h, anemo_tensor_role role) {
    return anemo_roles[role].per_expert && h->experts ? h->experts : 1;
}

/* Opens path, writes, and makes sure that it is on the disk. */
static anemo_status write_file(anemo_conversion *c, const char *path,
                               anemo_status (*write)(anemo_conversion *c)) {
    c->path = path;
    c->file = fopen(path, "wbx");
    if (!c->file)
        return anemo_fail(c->err, ANEMO_E_IO, "%s: cannot create: %s", anemo_show_path(path).text,
                          strerror(errno));
    anemo_status status = write(c);
    const bool flushed = fflush(c->file) == 0 && fsync(fileno(c->file)) == 0;
    const bool closed = fclose(c->file) == 0;
    if (status == ANEMO_OK && !(flushed && closed))
        status = anemo_fail(c->err, ANEMO_E_IO, "%s: cannot write: %s", anemo_show_path(path).text,
                            strerror(errno));
    if (status != ANEMO_OK)
        remove(path);
    return status;
}

/* ---------------------------------------------------------------- tokenizer beside the weights */

static const char *const tokenizer_files[] = {"tokenizer.json",          "tekken.json",
                                              "tokenizer.model",         "tokenizer_config.json",
                                              "special_tokens_map.json", "generation_config.json"};
enum { TOKENIZER_FILES = 6, GGUF_TOKENIZER_FILES = 3 };

static anemo_status copy_bytes(anemo_conversion *c, const char *from) {
    FILE *in = fopen(from, "rb");
    char some[65536];
    size_t n = 0;
    anemo_status status = ANEMO_OK;
    if (!in)
        return anemo_fail(c->err, ANEMO_E_IO, "%s: cannot read: %s", anemo_show_path(from).text,
                          strerror(errno));
    while (status == ANEMO_OK && (n = fread(some, 1, sizeof some, in)) > 0)
        status = anemo_conversion_put(c, some, n);
    if (status == ANEMO_OK && ferror(in))
        status = anemo_fail(c->err, ANEMO_E_IO, "%s: cannot read", anemo_show_path(from).text);
    fclose(in);
    return status;
}

/* Copies what there is of the first n files; one that lies there already is kept. */
static anemo_status copy_tokenizer(anemo_conversion *c, const char *from, const char *to, int n) {
    anemo_status status = ANEMO_OK;
    for (int i = 0; i < n && status == ANEMO_OK; ++i) {
        char *source = anemo_join_path(from, tokenizer_files[i]);
        char *path = anemo_join_path(to, tokenizer_files[i]);
        if (!source || !path)
            status = anemo_fail(c->err, ANEMO_E_MEMORY, "%s: out of memory", to);
        else if (access(source, R_OK) == 0 && (c->file = fopen(path, "wbx"))) {
            c->path = path;
            status = copy_bytes(c, source);
            if (fclose(c->file) != 0 && status == ANEMO_OK)
                status =
                    anemo_fail(c->err, ANEMO_E_IO, "%s: cannot write: %s", path, strerror(errno));
        }
        free(source);
        free(path);
    }
    return status;
}

static bool is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* With its slash, malloc'ed; NULL: out of memory. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? strndup(path, (size_t)(slash - path + 1)) : strdup("./");
}

/* Copies the first n tokenizer files of the source, from its directory or from beside its GGUF. */
static anemo_status copy_source_tokenizer(anemo_conversion *c, const char *to, int n) {
    anemo_error unseen;
    const char *path = anemo_checkpoint_path(c->from);
    const char *tokenizer = anemo_checkpoint_tokenizer_path(c->from, &unseen);
    if (is_directory(path))
        return copy_tokenizer(c, path, to, n);
    if (!tokenizer || strcmp(tokenizer, path) == 0)
        return ANEMO_OK; /* it has none, or one inside */
    char *from = folder_of(tokenizer);
    const anemo_status status = from ? copy_tokenizer(c, from, to, n)
                                     : anemo_fail(c->err, ANEMO_E_MEMORY, "%s: out of memory", to);
    free(from);
    return status;
}

/* ---------------------------------------------------------------- targets */

static anemo_status convert_to_gguf(anemo_conversion *c, const char *out, const char *temporary) {
    ANEMO_TRY(write_file(c, temporary, anemo_write_gguf));
    if (!c->vocabulary) {
        char *folder = folder_of(out);
        const anemo_status status =
            folder ? copy_source_tokenizer(c, folder, GGUF_TOKENIZER_FILES)
                   : anemo_fail(c->err, ANEMO_E_MEMORY, "%s: out of memory", out);
        free(folder);
        ANEMO_TRY(status);
    }
    if (rename(temporary, out) == 0)
        return ANEMO_OK;
    const int error = errno;
    remove(temporary);
    return anemo_fail(c->err, ANEMO_E_IO, "%s: cannot rename to it: %s", anemo_show_path(out).text,
                      strerror(error));
}

static void remove_folder(const char *folder) {
    static const char *const files[] = {"model.safetensors", "config.json"};
    for (int i = 0; i < 2 + TOKENIZER_FILES; ++i) {
        char *path = anemo_join_path(folder, i < 2 ? files[i] : tokenizer_files[i - 2]);
        if (path)
            remove(path);
        free(path);
    }
    rmdir(folder);
}

static anemo_status fill_folder(anemo_conversion *c, const char *folder) {
    char *weights = anemo_join_path(folder, "model.safetensors");
    char *config = anemo_join_path(folder, "config.json");
    anemo_status status = ANEMO_OK;
    if (!weights || !config)
        status = anemo_fail(c->err, ANEMO_E_MEMORY, "%s: out of memory", folder);
    if (status == ANEMO_OK)
        status = write_file(c, weights, anemo_write_safetensors);
    if (status == ANEMO_OK)
        status = write_file(c, config, anemo_write_config);
    if (status == ANEMO_OK)
        status = copy_source_tokenizer(c, folder, TOKENIZER_FILES);
    free(weights);
    free(config);
    return status;
}

static anemo_status convert_to_folder(anemo_conversion *c, const char *out, const char *temporary) {
    if (mkdir(temporary, 0777) != 0)
        return anemo_fail(c->err, ANEMO_E_IO, "%s: cannot create: %s",
                          anemo_show_path(temporary).text, strerror(errno));
    anemo_status status = fill_folder(c, temporary);
    if (status == ANEMO_OK && rename(temporary, out) != 0)
        status = anemo_fail(c->err, ANEMO_E_IO, "%s: cannot rename to it: %s",
                            anemo_show_path(out).text, strerror(errno));
    if (status != ANEMO_OK)
        remove_folder(temporary);
    return status;
}

/* ---------------------------------------------------------------- the door */

static bool ends_in_gguf(const char *path) {
    const size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".gguf") == 0;
}

static anemo_status choose_target(const char *to, const char *out, anemo_conversion *c) {
    const bool gguf = ends_in_gguf(out);
    for (size_t i = 0; i < sizeof targets / sizeof *targets; ++i) {
        if (strcmp(to, targets[i].name) != 0)
            continue;
        if (gguf ? targets[i].ggml == ANEMO_GGML_NONE : !targets[i].safetensors)
            return anemo_fail(c->err, ANEMO_E_INPUT, "%s: there is no %s in %s; accepted: %s",
                              anemo_show_path(out).text, to, gguf ? "GGUF" : "safetensors",
                              gguf ? "a directory, or q4:g32, q8:g32, q4_0, q4_k, q6_k"
                                   : "a name that ends in .gguf, or q4:g32, q4:g128, q8:g32, "
                                     "q8:row");
        c->to = targets[i].name;
        c->ggml = gguf ? targets[i].ggml : ANEMO_GGML_NONE;
        c->bits = targets[i].bits;
        c->group = targets[i].group;
        return ANEMO_OK;
    }
    return anemo_fail(c->err, ANEMO_E_INPUT,
                      "--to is \"%s\"; accepted: q4:g32, q4:g128, q8:g32, q8:row, q4_0, q4_k, q6_k",
                      anemo_show(to).text);
}

static anemo_status refuse_existing(const char *out, anemo_error *err) {
    struct stat info;
    return lstat(out, &info) != 0
               ? ANEMO_OK
               : anemo_fail(err, ANEMO_E_INPUT, "%s: it is there already; accepted: a new name",
                            anemo_show_path(out).text);
}

static anemo_status check_architecture(const anemo_conversion *c) {
    if (c->ggml != ANEMO_GGML_NONE)
        return anemo_checkpoint_gguf(c->from) ? ANEMO_OK : anemo_gguf_expressible(c->from, c->err);
    return anemo_hf_expressible(c->from, c->err);
}

static anemo_status check_source(const anemo_conversion *c) {
    if (anemo_checkpoint_synthetic(c->from))
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: it is synthetic; accepted: models in files (anemo synth writes one)",
                          anemo_checkpoint_path(c->from));
    return check_architecture(c);
}

static anemo_status check_synthetic(anemo_conversion *c) {
    const anemo_synth_type *type = anemo_checkpoint_synthetic(c->from);
    const char *path = anemo_checkpoint_path(c->from);
    const anemo_hparams *h = anemo_checkpoint_hparams(c->from);
    if (!type)
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: it lies in files; accepted: " ANEMO_SYNTH_FORM,
                          anemo_show_path(path).text);
    if (type->ggml == ANEMO_GGML_NONE)
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: there is no %s in GGUF; accepted: q4_0, q8_0, bf16, f16, f32", path,
                          type->name);
    if (h->vocab < ANEMO_SYNTH_VOCABULARY_LEAST)
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: the vocabulary has %" PRId64 " tokens; accepted: %d and more, for "
                          "bytes and letters",
                          path, h->vocab, ANEMO_SYNTH_VOCABULARY_LEAST);
    c->ggml = type->ggml;
    return check_architecture(c);
}

static double matrix_values(const anemo_hparams *h) {
    double total = 0;
    for (int role = 0; role < ANEMO_T_COUNT; ++role) {
        int64_t n, k;
        anemo_role_shape(h, role, &n, &k);
        if (!anemo_roles[role].vector && anemo_has_role(h, (anemo_tensor_role)role))
            total += (double)n * (double)k * (double)anemo_role_layers(h, role) *
                     (double)anemo_role_experts(h, role);
    }
    return total;
}

static anemo_status convert(anemo_conversion *c, const char *out) {
    char temporary[4096];
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/')
        --n;
    if (n > sizeof temporary - 32 ||
        snprintf(temporary, sizeof temporary, "%.*s.partial-%ld", (int)n, out, (long)getpid()) < 0)
        return anemo_fail(c->err, ANEMO_E_INPUT, "%s: the name is too long; accepted: %zu bytes",
                          anemo_show_path(out).text, sizeof temporary - 32);
    c->total = matrix_values(anemo_checkpoint_hparams(c->from));
    return c->ggml != ANEMO_GGML_NONE ? convert_to_gguf(c, out, temporary)
                                      : convert_to_folder(c, out, temporary);
}

anemo_status anemo_synth_model(const char *uri, const char *out, anemo_quantise_progress progress,
                               void *context, anemo_error *err) {
    anemo_conversion c = {.progress = progress, .context = context, .err = err};
    anemo_checkpoint *from = NULL;
    ANEMO_TRY(refuse_existing(out, err));
    if (!ends_in_gguf(out))
        return anemo_fail(err, ANEMO_E_INPUT, "%s: accepted: a name that ends in .gguf",
                          anemo_show_path(out).text);
    ANEMO_TRY(anemo_checkpoint_open(uri, &from, err));
    c.from = from;
    anemo_status status = check_synthetic(&c);
    if (status == ANEMO_OK)
        status = convert(&c, out);
    anemo_checkpoint_close(from);
    return status;
}

/* With the tokenizer of a directory as vocabulary, if it can be one: if not, *why. */
static anemo_status convert_with_vocabulary(anemo_conversion *c, const char *out,
                                            anemo_error *why) {
    const char *path = anemo_checkpoint_tokenizer_path(c->from, why);
    anemo_tokenizer *tokenizer = NULL;
    anemo_gguf_vocabulary *vocabulary = NULL;
    if (path && anemo_tokenizer_open(path, &tokenizer, why) == ANEMO_OK &&
        anemo_gguf_vocabulary_make(tokenizer, anemo_checkpoint_hparams(c->from)->vocab, &vocabulary,
                                   why) == ANEMO_OK)
        c->vocabulary = vocabulary;
    const anemo_status status = convert(c, out);
    anemo_gguf_vocabulary_free(vocabulary);
    anemo_tokenizer_close(tokenizer);
    return status;
}

/* A directory gets the source's tokenizer files; the vocabulary of a GGUF is none. */
static anemo_status convert_to_directory(anemo_conversion *c, const char *out, anemo_error *why) {
    const char *path = anemo_checkpoint_tokenizer_path(c->from, why);
    if (path && strcmp(path, anemo_checkpoint_path(c->from)) == 0)
        anemo_fail(why, ANEMO_E_UNSUPPORTED,
                   "%s: its vocabulary is not written as tokenizer.json; the original's can be put "
                   "beside the weights",
                   anemo_show_path(path).text);
    return convert(c, out);
}

anemo_status anemo_quantise_model(const char *in, const char *out, const char *to,
                                  const anemo_exec *exec, anemo_quantise_progress progress,
                                  void *context, anemo_quantise_report *report, anemo_error *err) {
    anemo_conversion c = {.exec = exec, .progress = progress, .context = context, .err = err};
    anemo_checkpoint *from = NULL;
    *report = (anemo_quantise_report){0};
    ANEMO_TRY(choose_target(to, out, &c));
    ANEMO_TRY(refuse_existing(out, err));
    ANEMO_TRY(anemo_checkpoint_open(in, &from, err));
    c.from = from;
    anemo_status status = check_source(&c);
    if (status == ANEMO_OK && c.ggml == ANEMO_GGML_NONE)
        status = convert_to_directory(&c, out, &report->no_tokenizer);
    else if (status == ANEMO_OK && anemo_checkpoint_gguf(from))
        status = convert(&c, out); /* with the keys of the source */
    else if (status == ANEMO_OK)
        status = convert_with_vocabulary(&c, out, &report->no_tokenizer);
    report->fallbacks = c.fallbacks;
    anemo_checkpoint_close(from);
    return status;
}
