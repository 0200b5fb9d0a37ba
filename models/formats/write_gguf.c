/* A checkpoint -> one GGUF file. All sizes are known beforehand, so the header is written first and
 * then every tensor once, row by row: memory is one row, and the scratch to read it.
 *
 * Keys of a GGUF source are copied as they are, but those that speak of the file itself; for other
 * sources they are made from the hyper-parameters and the tokenizer. Norms and routers are F32; a
 * matrix whose rows are no whole blocks gets the type that llama.cpp would choose: Q5_0 for Q4_K,
 * Q8_0 for Q6_K, and F16 where they are no multiple of 32. */
#include "models/formats/convert.h"
#include "models/formats/gguf.h"

#include <inttypes.h>
#include <stdlib.h>

#define ALIGNMENT 32

/* ---------------------------------------------------------------- what is written */

static uint32_t type_of(const anemo_conversion *c, anemo_tensor_role role, int64_t k) {
    if (anemo_roles[role].vector || role == ANEMO_T_ROUTER)
        return ANEMO_GGML_F32;
    if (k % 32 != 0)
        return ANEMO_GGML_F16;
    if (k % 256 != 0 && c->ggml == ANEMO_GGML_Q4_K)
        return ANEMO_GGML_Q5_0;
    return k % 256 != 0 && c->ggml == ANEMO_GGML_Q6_K ? ANEMO_GGML_Q8_0 : c->ggml;
}

static size_t row_bytes_of(uint32_t type, int64_t k) {
    anemo_weight_type weight;
    int64_t block, bytes;
    const char *name;
    anemo_ggml_type(type, &weight, &block, &bytes, &name);
    return (size_t)(k / block * bytes);
}

typedef anemo_status visit(anemo_conversion *c, anemo_tensor_role role, int64_t layer,
                           const char *name, void *context);

/* Every tensor in the order of the file; the experts of a layer are one. */
static anemo_status for_each(anemo_conversion *c, visit *each, void *context) {
    const anemo_hparams *h = anemo_checkpoint_hparams(c->from);
    const anemo_naming naming = anemo_gguf_naming(h);
    for (int role = 0; role < ANEMO_T_COUNT; ++role)
        for (int64_t layer = 0;
             anemo_gguf_has_role(h, (anemo_tensor_role)role) && layer < anemo_role_layers(h, role);
             ++layer) {
            char name[ANEMO_ROLE_NAME_BYTES];
            anemo_role_name(naming, role, layer, 0, name);
            ANEMO_TRY(each(c, role, layer, name, context));
        }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- header */

/* Keys that describe the file, not the model: written anew, or of no meaning in one file. */
static bool is_of_file(const gguf_value *value) {
    static const char *const keys[] = {"general.file_type", "general.quantization_version",
                                       "general.alignment"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; ++i)
        if (value->key_bytes == strlen(keys[i]) &&
            memcmp(value->key, keys[i], value->key_bytes) == 0)
            return true;
    return value->key_bytes > 6 && memcmp(value->key, "split.", 6) == 0;
}

static int compare_begin(const void *a, const void *b) {
    const gguf_value *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* llama.cpp's numbers for "mostly" files. */
static int64_t file_type(uint32_t ggml) {
    return ggml == ANEMO_GGML_F32    ? 0
           : ggml == ANEMO_GGML_F16  ? 1
           : ggml == ANEMO_GGML_BF16 ? 32
           : ggml == ANEMO_GGML_Q4_0 ? 2
           : ggml == ANEMO_GGML_Q8_0 ? 7
           : ggml == ANEMO_GGML_Q4_K ? 14 /* Q4_K_S: one type throughout */
                                     : 18;
}

static void put_file_keys(anemo_gguf_keys *keys, uint32_t ggml) {
    anemo_gguf_key_u32(keys, "general.file_type", file_type(ggml));
    anemo_gguf_key_u32(keys, "general.quantization_version", 2);
}

static anemo_status copy_keys(anemo_conversion *c, gguf_file *gguf) {
    anemo_gguf_keys keys = {.c = c};
    uint64_t n = 2;
    qsort(gguf->values, gguf->n, sizeof *gguf->values, compare_begin); /* order of the source */
    for (size_t i = 0; i < gguf->n; ++i)
        n += !is_of_file(&gguf->values[i]);
    ANEMO_TRY(anemo_gguf_put_number(c, n, 8));
    for (size_t i = 0; i < gguf->n; ++i)
        if (!is_of_file(&gguf->values[i]))
            ANEMO_TRY(anemo_conversion_put(c, gguf->values[i].begin,
                                           (size_t)(gguf->values[i].end - gguf->values[i].begin)));
    put_file_keys(&keys, c->ggml);
    return keys.status;
}

static void put_made_keys(anemo_gguf_keys *keys, const anemo_conversion *c) {
    const anemo_hparams *h = anemo_checkpoint_hparams(c->from);
    anemo_gguf_model_keys(keys, h);
    if (anemo_checkpoint_synthetic(c->from))
        anemo_gguf_synth_vocabulary_keys(keys, h->vocab);
    else if (c->vocabulary)
        anemo_gguf_vocabulary_keys(c->vocabulary, keys);
    else if (h->bos >= 0)
        anemo_gguf_key_u32(keys, "tokenizer.ggml.bos_token_id", h->bos);
    put_file_keys(keys, c->ggml);
}

static anemo_status make_keys(anemo_conversion *c) {
    anemo_gguf_keys counted = {0}, keys = {.c = c};
    put_made_keys(&counted, c);
    ANEMO_TRY(anemo_gguf_put_number(c, counted.n, 8));
    put_made_keys(&keys, c);
    return keys.status;
}

/* ---------------------------------------------------------------- tensors */

static anemo_status count_tensor(anemo_conversion *c, anemo_tensor_role role, int64_t layer,
                                 const char *name, void *context) {
    (void)c, (void)role, (void)layer, (void)name;
    ++*(uint64_t *)context;
    return ANEMO_OK;
}

static anemo_status put_info(anemo_conversion *c, anemo_tensor_role role, int64_t layer,
                             const char *name, void *context) {
    const anemo_hparams *h = anemo_checkpoint_hparams(c->from);
    uint64_t *offset = context;
    int64_t n, k;
    (void)layer;
    anemo_role_shape(h, role, &n, &k);
    const int64_t experts = anemo_role_experts(h, role);
    const bool vector = anemo_roles[role].vector;
    const int rank = (vector ? 1 : 2) + (anemo_roles[role].per_expert && h->experts > 0);
    const uint64_t sizes[3] = {(uint64_t)k, (uint64_t)(vector ? experts : n), (uint64_t)experts};
    const uint32_t type = type_of(c, role, k);
    ANEMO_TRY(anemo_gguf_put_string(c, name));
    ANEMO_TRY(anemo_gguf_put_number(c, (uint64_t)rank, 4));
    for (int i = 0; i < rank; ++i)
        ANEMO_TRY(anemo_gguf_put_number(c, sizes[i], 8));
    ANEMO_TRY(anemo_gguf_put_number(c, type, 4));
    ANEMO_TRY(anemo_gguf_put_number(c, *offset, 8));
    *offset += (uint64_t)(n * experts) * row_bytes_of(type, k);
    *offset = (*offset + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return ANEMO_OK;
}

/* A row of linear codes as blocks of Q4_0, Q5_0 or Q8_0. */
static void pack_blocks(uint32_t type, int64_t k, const uint8_t *codes, const float *scales,
                        uint8_t *out) {
    for (int64_t b = 0; b < k / 32; ++b, codes += 32) {
        const uint16_t half = anemo_f32_f16(scales[b]);
        *out++ = (uint8_t)half;
        *out++ = (uint8_t)(half >> 8);
        for (int i = 0; type == ANEMO_GGML_Q5_0 && i < 4; ++i, ++out) {
            *out = 0;
            for (int j = 0; j < 8; ++j)
                *out |= (uint8_t)((codes[8 * i + j] >> 4) << j);
        }
        for (int i = 0; type == ANEMO_GGML_Q8_0 && i < 32; ++i)
            *out++ = codes[i] ^ 0x80;
        for (int i = 0; type != ANEMO_GGML_Q8_0 && i < 16; ++i)
            *out++ = (uint8_t)((codes[i] & 15) | (codes[i + 16] & 15) << 4);
    }
}

/* BF16 is cut, not rounded: the values that reach it (synth.c) have no more bits. */
static void pack_floats(uint32_t type, int64_t k, const float *x, uint8_t *out) {
    for (int64_t i = 0; i < k; ++i) {
        const uint32_t bits = type == ANEMO_GGML_F16    ? anemo_f32_f16(x[i])
                              : type == ANEMO_GGML_BF16 ? anemo_f32_bits(x[i]) >> 16
                                                        : anemo_f32_bits(x[i]);
        for (int b = 0; b < (type == ANEMO_GGML_F32 ? 4 : 2); ++b)
            *out++ = (uint8_t)(bits >> 8 * b);
    }
}

/* Buffers of one row. */
typedef struct row_buffers {
    float *values, *scales;
    uint8_t *codes, *out;
    void *scratch;
} row_buffers;

static void free_buffers(row_buffers *b) {
    free(b->values);
    free(b->scales);
    free(b->codes);
    free(b->out);
    free(b->scratch);
}

static bool make_buffers(row_buffers *b, int64_t k) {
    const size_t n = (size_t)k;
    *b = (row_buffers){malloc(n * 4), malloc(n * 4), malloc(n), malloc(n * 4 + 256),
                       malloc(anemo_weight_scratch_bytes(k))};
    return b->values && b->scales && b->codes && b->out && b->scratch;
}

static int bits_of(uint32_t type) {
    return type == ANEMO_GGML_Q8_0 ? 8 : type == ANEMO_GGML_Q5_0 ? 5 : 4;
}

/* Largest magnitude whose scale is a finite half. */
static float limit_of(uint32_t type) {
    switch (type) {
    case ANEMO_GGML_F32:
    case ANEMO_GGML_BF16:
        return 3.4028235e38f;
    case ANEMO_GGML_F16:
        return 65504;
    case ANEMO_GGML_Q8_0:
        return 127 * 65504.0f;
    default:
        return 8 * 65504.0f;
    }
}

/* Row `row` of `w` as bytes of `type`. What is stored in that form already is taken as it is. */
static anemo_status make_row(anemo_conversion *c, const anemo_weight *w, uint32_t type, int64_t row,
                             const char *name, row_buffers *b) {
    anemo_weight_type target;
    int64_t block, bytes;
    const char *type_name;
    anemo_ggml_type(type, &target, &block, &bytes, &type_name);
    const size_t row_bytes = row_bytes_of(type, w->k);
    if (anemo_ggml_is(w, type)) {
        memcpy(b->out, (const uint8_t *)w->data + (size_t)row * row_bytes, row_bytes);
        return ANEMO_OK;
    }
    const bool linear = block == 32;
    if (linear && memcmp(&target, &w->type, sizeof target) == 0) {
        w->read_row(w, row, NULL, b->codes, b->scales, NULL);
        pack_blocks(type, w->k, b->codes, b->scales, b->out);
        return ANEMO_OK;
    }
    anemo_weight_row_f32(w, row, b->values, b->scratch);
    if (!anemo_quantise_fits(b->values, w->k, limit_of(type)))
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: tensor %s holds in row %" PRId64
                          " a value that is not a number or beyond %g; accepted: what %s can hold",
                          anemo_show_path(anemo_checkpoint_path(c->from)).text, name, row,
                          (double)limit_of(type), type_name);
    for (int64_t g = 0; linear && g < w->k / 32; ++g)
        anemo_quantise_linear(b->values + 32 * g, 32, bits_of(type), false, &b->scales[g],
                              b->codes + 32 * g);
    if (linear)
        pack_blocks(type, w->k, b->codes, b->scales, b->out);
    else if (type == ANEMO_GGML_Q4_K)
        anemo_quantise_q4_k(b->values, w->k, b->out);
    else if (type == ANEMO_GGML_Q6_K)
        anemo_quantise_q6_k(b->values, w->k, b->out);
    else
        pack_floats(type, w->k, b->values, b->out);
    return ANEMO_OK;
}

/* Rows that are made at once, by all threads, and then written in order. What a thread cannot make
 * is made again by the caller, for its sentence. */
typedef struct row_block {
    const anemo_conversion *c;
    const anemo_weight *w;
    const char *name;
    anemo_tensor_role role;
    uint32_t type;
    int64_t first;
    row_buffers *buffers; /* of each thread */
    uint8_t *out;
    int64_t failed; /* the first row that could not be made, or INT64_MAX */
} row_block;

static anemo_status make_row_of(const row_block *block, anemo_conversion *c, int64_t row,
                                row_buffers *b) {
    const anemo_hparams *h = anemo_checkpoint_hparams(c->from);
    const int64_t from = anemo_conversion_row(h, block->role, row, anemo_gguf_pairing(h));
    return make_row(c, block->w, block->type, from, block->name, b);
}

static void make_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    row_block *block = ctx;
    row_buffers *b = &block->buffers[thread];
    const size_t bytes = row_bytes_of(block->type, block->w->k);
    anemo_error unseen;
    anemo_conversion own = *block->c;
    own.err = &unseen;
    for (int64_t i = begin; i < end; ++i) {
        if (make_row_of(block, &own, block->first + i, b) == ANEMO_OK) {
            memcpy(block->out + (size_t)i * bytes, b->out, bytes);
            continue;
        }
        int64_t least = __atomic_load_n(&block->failed, __ATOMIC_RELAXED);
        while (block->first + i < least &&
               !__atomic_compare_exchange_n(&block->failed, &least, block->first + i, false,
                                            __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        }
    }
}

/* Rows of about a megabyte: enough for all threads, little beside a tensor. */
static int64_t rows_at_once(const anemo_conversion *c, size_t row_bytes) {
    const int64_t rows = (int64_t)((1u << 20) / row_bytes) + 1;
    return c->exec ? rows : 1;
}

static anemo_status put_rows(anemo_conversion *c, row_block *block) {
    const size_t bytes = row_bytes_of(block->type, block->w->k);
    const int64_t most = rows_at_once(c, bytes);
    block->out = malloc((size_t)most * bytes);
    if (!block->out)
        return anemo_fail(c->err, ANEMO_E_MEMORY, "%s: out of memory", c->path);
    anemo_status status = ANEMO_OK;
    for (int64_t n; block->first < block->w->n && status == ANEMO_OK; block->first += n) {
        n = block->w->n - block->first < most ? block->w->n - block->first : most;
        if (c->exec)
            c->exec->parallel(c->exec, n, 8, make_rows, block);
        else
            make_rows(block, 0, n, 0);
        status = block->failed == INT64_MAX
                     ? anemo_conversion_put(c, block->out, (size_t)n * bytes)
                     : make_row_of(block, c, block->failed, &block->buffers[0]);
    }
    free(block->out);
    return status;
}

static anemo_status put_matrix(anemo_conversion *c, anemo_tensor_role role, int64_t layer,
                               int64_t expert, const char *name, uint32_t type, row_buffers *b) {
    anemo_weight w;
    ANEMO_TRY(anemo_checkpoint_weight(c->from, role, layer, expert, &w, c->err));
    row_block block = {.c = c,
                       .w = &w,
                       .name = name,
                       .role = role,
                       .type = type,
                       .buffers = b,
                       .failed = INT64_MAX};
    ANEMO_TRY(put_rows(c, &block));
    c->fallbacks += type != c->ggml && role != ANEMO_T_ROUTER;
    return anemo_conversion_step(c, w.n * w.k, name);
}

/* A vector of all experts together, in the order of the file's pairs. */
static anemo_status put_vector(anemo_conversion *c, anemo_tensor_role role, int64_t layer) {
    const anemo_hparams *h = anemo_checkpoint_hparams(c->from);
    int64_t n, k;
    anemo_role_shape(h, role, &n, &k);
    const int64_t total = k * anemo_role_experts(h, role);
    float *values = malloc((size_t)total * 4);
    uint8_t *out = malloc((size_t)total * 4);
    anemo_status status =
        values && out ? ANEMO_OK : anemo_fail(c->err, ANEMO_E_MEMORY, "%s: out of memory", c->path);
    if (status == ANEMO_OK && role == ANEMO_T_ROPE_FACTORS && h->rope.kind == ANEMO_ROPE_LLAMA3)
        anemo_gguf_rope_factors(h, values);
    else if (status == ANEMO_OK)
        status = anemo_checkpoint_vector(c->from, role, layer, values, total, c->err);
    if (status == ANEMO_OK) {
        pack_floats(ANEMO_GGML_F32, total, values, out);
        status = anemo_conversion_put(c, out, (size_t)total * 4);
    }
    free(values);
    free(out);
    return status;
}

static anemo_status put_tensor(anemo_conversion *c, anemo_tensor_role role, int64_t layer,
                               const char *name, void *context) {
    const anemo_hparams *h = anemo_checkpoint_hparams(c->from);
    uint64_t *offset = context;
    int64_t n, k;
    const int32_t n_threads = c->exec ? c->exec->n_threads : 1;
    row_buffers *b = calloc((size_t)n_threads, sizeof *b);
    anemo_role_shape(h, role, &n, &k);
    const uint32_t type = type_of(c, role, k);
    const int64_t experts = anemo_role_experts(h, role);
    anemo_status status = ANEMO_OK;
    for (int32_t t = 0; t < n_threads && status == ANEMO_OK; ++t)
        if (!b || !make_buffers(&b[t], k))
            status = anemo_fail(c->err, ANEMO_E_MEMORY, "%s: out of memory", c->path);
    if (status == ANEMO_OK && anemo_roles[role].vector)
        status = put_vector(c, role, layer);
    for (int64_t e = 0; e < experts && status == ANEMO_OK && !anemo_roles[role].vector; ++e)
        status = put_matrix(c, role, layer, e, name, type, b);
    for (int32_t t = 0; b && t < n_threads; ++t)
        free_buffers(&b[t]);
    free(b);
    *offset += (uint64_t)(n * experts) * row_bytes_of(type, k);
    return status == ANEMO_OK ? anemo_conversion_pad(c, offset, ALIGNMENT) : status;
}

/* ---------------------------------------------------------------- the file */

static anemo_status put_keys(anemo_conversion *c) {
    const anemo_mapped_file *source = anemo_checkpoint_gguf(c->from);
    anemo_tensors tensors = {0};
    gguf_file gguf;
    if (!source)
        return make_keys(c);
    anemo_status status = gguf_parse(source, &gguf, &tensors, c->err);
    if (status == ANEMO_OK) {
        status = copy_keys(c, &gguf);
        gguf_free(&gguf);
    }
    anemo_tensors_free(&tensors);
    return status;
}

anemo_status anemo_write_gguf(anemo_conversion *c) {
    uint64_t n_tensors = 0, offset = 0, at = 0;
    ANEMO_TRY(for_each(c, count_tensor, &n_tensors));
    ANEMO_TRY(anemo_conversion_put(c, "GGUF", 4));
    ANEMO_TRY(anemo_gguf_put_number(c, 3, 4));
    ANEMO_TRY(anemo_gguf_put_number(c, n_tensors, 8));
    ANEMO_TRY(put_keys(c));
    ANEMO_TRY(for_each(c, put_info, &offset));
    at = (uint64_t)ftello(c->file);
    ANEMO_TRY(anemo_conversion_pad(c, &at, ALIGNMENT));
    at = 0;
    return for_each(c, put_tensor, &at);
}
