/* A checkpoint -> model.safetensors in the layout of compressed-tensors, pack-quantized
 * (config.json: hf_keys.c).
 *
 *     X.weight_packed  i32 [n, k * bits / 32], the first column in the low bits, rows padded
 *     X.weight_scale   f16 [n, groups]; f32 [n, 1] for 8 bits and one scale per row
 *     X.weight_shape   i64 [2]: n, k
 *
 * Quantised are the matrices that are torch.nn.Linear there, but for the router. The embedding has
 * no quantised form in transformers and stays floats: BF16 or F16 as the source has it, F32 where
 * the source is quantised, so that nothing is lost; a model whose output is its embedding keeps
 * both. Norms and router are F32. The header is made first; then each matrix is written once, row
 * by row, with only its scales kept. */
#include "models/formats/convert.h"
#include "models/formats/json.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- header */

typedef anemo_status visit(anemo_conversion *c, anemo_tensor_role role, int64_t layer,
                           int64_t expert, const char *name, void *context);

static anemo_status for_each(anemo_conversion *c, visit *each, void *context) {
    const anemo_hparams *h = anemo_checkpoint_hparams(c->from);
    const anemo_naming naming = anemo_hf_naming(h->arch);
    for (int role = 0; role < ANEMO_T_COUNT; ++role) {
        if (!anemo_has_role(h, (anemo_tensor_role)role) || role == ANEMO_T_ROPE_FACTORS)
            continue; /* factors stand in config.json */
        for (int64_t layer = 0; layer < anemo_role_layers(h, role); ++layer)
            for (int64_t e = 0; e < anemo_role_experts(h, role); ++e) {
                char name[ANEMO_ROLE_NAME_BYTES];
                anemo_role_name(naming, role, layer, e, name);
                ANEMO_TRY(each(c, role, layer, e, name, context));
            }
    }
    return ANEMO_OK;
}

static bool is_plain(anemo_tensor_role role) {
    return anemo_roles[role].vector || role == ANEMO_T_ROUTER || role == ANEMO_T_EMBED;
}

/* What a plain tensor is stored as. */
static anemo_status plain_code(anemo_conversion *c, anemo_tensor_role role, anemo_code *code) {
    anemo_weight w;
    *code = ANEMO_CODE_F32;
    if (role != ANEMO_T_EMBED)
        return ANEMO_OK;
    ANEMO_TRY(anemo_checkpoint_weight(c->from, role, 0, 0, &w, c->err));
    if (w.type.code == ANEMO_CODE_F16 || w.type.code == ANEMO_CODE_BF16)
        *code = w.type.code;
    return ANEMO_OK;
}

static int64_t groups_of(const anemo_conversion *c, int64_t k) {
    return c->group ? (k + c->group - 1) / c->group : 1;
}

/* 32-bit words of a row of codes. */
static int64_t words_of(const anemo_conversion *c, int64_t k) {
    return (k * c->bits + 31) / 32;
}

typedef struct header {
    json_t *root;
    int64_t offset;
} header;

static void add_entry(header *h, const char *name, const char *suffix, const char *dtype,
                      int64_t rows, int64_t columns, int64_t bytes) {
    char full[ANEMO_ROLE_NAME_BYTES + 16];
    snprintf(full, sizeof full, "%s%s", name, suffix);
    json_t *shape = rows ? json_pack("[I,I]", (json_int_t)rows, (json_int_t)columns)
                         : json_pack("[I]", (json_int_t)columns);
    json_object_set_new(h->root, full,
                        json_pack("{s:s,s:o,s:[I,I]}", "dtype", dtype, "shape", shape,
                                  "data_offsets", (json_int_t)h->offset,
                                  (json_int_t)(h->offset + bytes)));
    h->offset += bytes;
}

static anemo_status add_tensor(anemo_conversion *c, anemo_tensor_role role, int64_t layer,
                               int64_t expert, const char *name, void *context) {
    int64_t n, k;
    (void)layer, (void)expert;
    anemo_role_shape(anemo_checkpoint_hparams(c->from), role, &n, &k);
    if (is_plain(role)) {
        static const char *const dtypes[] = {
            [ANEMO_CODE_F32] = "F32", [ANEMO_CODE_F16] = "F16", [ANEMO_CODE_BF16] = "BF16"};
        anemo_code code;
        ANEMO_TRY(plain_code(c, role, &code));
        add_entry(context, name, "", dtypes[code], anemo_roles[role].vector ? 0 : n, k,
                  (code == ANEMO_CODE_F32 ? 4 : 2) * n * k);
        return ANEMO_OK;
    }
    const int64_t words = words_of(c, k), groups = groups_of(c, k);
    const bool f32 = c->bits == 8 && !c->group;
    add_entry(context, name, "_packed", "I32", n, words, 4 * n * words);
    add_entry(context, name, "_scale", f32 ? "F32" : "F16", n, groups, (f32 ? 4 : 2) * n * groups);
    add_entry(context, name, "_shape", "I64", 0, 2, 16);
    return ANEMO_OK;
}

static anemo_status put_header(anemo_conversion *c) {
    header h = {.root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt")};
    uint8_t length[8];
    anemo_status status = for_each(c, add_tensor, &h);
    char *text = json_dumps(h.root, JSON_COMPACT);
    json_decref(h.root);
    if (!text)
        return anemo_fail(c->err, ANEMO_E_MEMORY, "%s: out of memory", c->path);
    const size_t bytes = strlen(text), padded = (bytes + 7) / 8 * 8;
    for (int i = 0; i < 8; ++i)
        length[i] = (uint8_t)((uint64_t)padded >> 8 * i);
    if (status == ANEMO_OK)
        status = anemo_conversion_put(c, length, 8);
    if (status == ANEMO_OK)
        status = anemo_conversion_put(c, text, bytes);
    if (status == ANEMO_OK)
        status = anemo_conversion_put(c, "       ", padded - bytes);
    free(text);
    return status;
}

/* ---------------------------------------------------------------- tensors */

typedef struct buffers {
    float *values, *scales; /* [k], [n * groups] */
    uint8_t *codes, *out;   /* [k padded to 8] */
    void *scratch;
} buffers;

static void put_little(uint8_t *at, uint32_t bits, int bytes) {
    for (int i = 0; i < bytes; ++i)
        at[i] = (uint8_t)(bits >> 8 * i);
}

/* Codes and scales of a row; what is stored in that form already is taken as it is. */
static anemo_status make_row(anemo_conversion *c, const anemo_weight *w, int64_t row,
                             const char *name, buffers *b, float *scales) {
    const anemo_weight_type target = {.code = ANEMO_CODE_LINEAR,
                                      .bits = (uint8_t)c->bits,
                                      .scale = c->group       ? ANEMO_SCALE_F16
                                               : c->bits == 8 ? ANEMO_SCALE_F32
                                                              : ANEMO_SCALE_F16,
                                      .group = (int32_t)c->group};
    const bool f32 = target.scale == ANEMO_SCALE_F32;
    if (memcmp(&target, &w->type, sizeof target) == 0) {
        w->read_row(w, row, NULL, b->codes, scales, NULL);
        return ANEMO_OK;
    }
    const float limit = f32 ? 3.4028235e38f : (c->bits == 8 ? 127 : 8) * 65504.0f;
    anemo_weight_row_f32(w, row, b->values, b->scratch);
    if (!anemo_quantise_fits(b->values, w->k, limit))
        return anemo_fail(c->err, ANEMO_E_INPUT,
                          "%s: tensor %s holds in row %" PRId64
                          " a value that is not a number or beyond %g; accepted: what %s can hold",
                          anemo_show_path(anemo_checkpoint_path(c->from)).text, name, row,
                          (double)limit, c->to);
    const int64_t group = c->group ? c->group : w->k;
    for (int64_t g = 0, at = 0; at < w->k; ++g, at += group)
        anemo_quantise_linear(b->values + at, at + group < w->k ? group : w->k - at, c->bits, f32,
                              &scales[g], b->codes + at);
    return ANEMO_OK;
}

static anemo_status put_codes(anemo_conversion *c, int64_t k, buffers *b) {
    const int64_t words = words_of(c, k), codes = words * 32 / c->bits;
    memset(b->codes + k, 0, (size_t)(codes - k));
    if (c->bits == 8)
        return anemo_conversion_put(c, b->codes, (size_t)codes);
    for (int64_t i = 0; i < 4 * words; ++i)
        b->out[i] = (uint8_t)(b->codes[2 * i] | b->codes[2 * i + 1] << 4);
    return anemo_conversion_put(c, b->out, (size_t)(4 * words));
}

static anemo_status put_scales(anemo_conversion *c, const float *scales, int64_t n) {
    const bool f32 = c->bits == 8 && !c->group;
    uint8_t some[1024];
    for (int64_t i = 0; i < n;) {
        int used = 0;
        for (; i < n && used < (int)sizeof some; ++i, used += f32 ? 4 : 2)
            put_little(some + used, f32 ? anemo_f32_bits(scales[i]) : anemo_f32_f16(scales[i]),
                       f32 ? 4 : 2);
        ANEMO_TRY(anemo_conversion_put(c, some, (size_t)used));
    }
    return ANEMO_OK;
}

static anemo_status put_shape(anemo_conversion *c, int64_t n, int64_t k) {
    uint8_t shape[16] = {0};
    put_little(shape, (uint32_t)n, 4); /* sizes are below 2^31: hparams.c */
    put_little(shape + 8, (uint32_t)k, 4);
    return anemo_conversion_put(c, shape, sizeof shape);
}

static anemo_status put_quantised(anemo_conversion *c, anemo_tensor_role role,
                                  const anemo_weight *w, const char *name, buffers *b) {
    const anemo_hparams *h = anemo_checkpoint_hparams(c->from);
    const int64_t groups = groups_of(c, w->k);
    for (int64_t row = 0; row < w->n; ++row) {
        const int64_t from = anemo_conversion_row(h, role, row, ANEMO_ROPE_HALF);
        ANEMO_TRY(make_row(c, w, from, name, b, b->scales + row * groups));
        ANEMO_TRY(put_codes(c, w->k, b));
    }
    ANEMO_TRY(put_scales(c, b->scales, w->n * groups));
    return put_shape(c, w->n, w->k);
}

/* Exact: the values of a 16-bit form came from it. */
static anemo_status put_floats(anemo_conversion *c, anemo_code code, const float *x, int64_t k,
                               buffers *b) {
    const int bytes = code == ANEMO_CODE_F32 ? 4 : 2;
    for (int64_t i = 0; i < k; ++i)
        put_little(b->out + bytes * i,
                   code == ANEMO_CODE_F16    ? anemo_f32_f16(x[i])
                   : code == ANEMO_CODE_BF16 ? anemo_f32_bits(x[i]) >> 16
                                             : anemo_f32_bits(x[i]),
                   bytes);
    return anemo_conversion_put(c, b->out, (size_t)(bytes * k));
}

static anemo_status put_parts(anemo_conversion *c, anemo_tensor_role role, int64_t layer,
                              int64_t expert, const char *name, int64_t k, buffers *b) {
    anemo_weight w;
    if (anemo_roles[role].vector) {
        ANEMO_TRY(anemo_checkpoint_vector(c->from, role, layer, b->values, k, c->err));
        return put_floats(c, ANEMO_CODE_F32, b->values, k, b);
    }
    ANEMO_TRY(anemo_checkpoint_weight(c->from, role, layer, expert, &w, c->err));
    if (is_plain(role)) {
        anemo_code code;
        ANEMO_TRY(plain_code(c, role, &code));
        for (int64_t row = 0; row < w.n; ++row) {
            anemo_weight_row_f32(&w, row, b->values, b->scratch);
            ANEMO_TRY(put_floats(c, code, b->values, k, b));
        }
    } else {
        ANEMO_TRY(put_quantised(c, role, &w, name, b));
    }
    return anemo_conversion_step(c, w.n * w.k, name);
}

static anemo_status put_tensor(anemo_conversion *c, anemo_tensor_role role, int64_t layer,
                               int64_t expert, const char *name, void *context) {
    int64_t n, k;
    (void)context;
    anemo_role_shape(anemo_checkpoint_hparams(c->from), role, &n, &k);
    const size_t width = (size_t)k;
    buffers b = {malloc(4 * width), malloc((size_t)(n * groups_of(c, k)) * 4), malloc(width + 8),
                 malloc(4 * width + 8), malloc(anemo_weight_scratch_bytes(k))};
    const anemo_status status =
        b.values && b.scales && b.codes && b.out && b.scratch
            ? put_parts(c, role, layer, expert, name, k, &b)
            : anemo_fail(c->err, ANEMO_E_MEMORY, "%s: out of memory", c->path);
    free(b.values);
    free(b.scales);
    free(b.codes);
    free(b.out);
    free(b.scratch);
    return status;
}

anemo_status anemo_write_safetensors(anemo_conversion *c) {
    ANEMO_TRY(put_header(c));
    return for_each(c, put_tensor, NULL);
}
