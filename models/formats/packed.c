/* Finds the tensors that make up each quantised matrix and proves that they fit one another: after
 * this, packed_rows.c reads without looking. The matrix is then in the list of tensors under the
 * name that an unquantised checkpoint would have given it, so that nothing else needs to know.
 *
 * Zero points and group indices decide which bytes are read, so all of them are looked at here.
 * They also say more than the configuration does: where every zero point is 2^(bits-1) the weight
 * has no offset at all, and where g_idx counts through the columns the groups are plain runs. */
#include "models/formats/packed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES 512

typedef struct finder {
    const anemo_quantisation *q;
    anemo_tensors *tensors;
    const char *base; /* "X." or, with MXFP4, "X_" */
    int base_bytes;
    const anemo_tensor *codes;
    anemo_error *err;
} finder;

/* ---------------------------------------------------------------- parts */

static anemo_tensor *part(const finder *f, const char *suffix) {
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%.*s%s", f->base_bytes, f->base, suffix);
    anemo_tensor *tensor = anemo_tensors_find(f->tensors, name);
    if (tensor)
        tensor->used = true;
    return tensor;
}

static anemo_status refuse_missing(const finder *f, const char *suffix, const char *why) {
    return anemo_fail(f->err, ANEMO_E_INPUT, "%s: tensor %s%s is missing; accepted: with it (%s)",
                      f->codes->path, anemo_show_bytes(f->base, (size_t)f->base_bytes).text, suffix,
                      why);
}

static anemo_status refuse_part(const finder *f, const anemo_tensor *tensor, const char *what,
                                const char *accepted) {
    return anemo_fail(f->err, ANEMO_E_INPUT, "%s: tensor %s has %s; accepted: %s", tensor->path,
                      anemo_show(tensor->name).text, what, accepted);
}

static bool is_type(const anemo_tensor *tensor, const char *name) {
    return strcmp(tensor->type_name, name) == 0;
}

/* "U8 [2, 3]" of a tensor, against type and shape; a dimension of 1 may be left out. */
static anemo_status check_part(const finder *f, const anemo_tensor *tensor, const char *type,
                               int32_t rank, const int64_t *shape) {
    char what[160], accepted[160];
    int64_t values = 1;
    for (int32_t i = 0; i < rank; ++i)
        values *= shape[i]; /* of existing tensors, or at most as many: no overflow */
    const bool same =
        (tensor->rank == rank &&
         (rank == 0 || memcmp(tensor->shape, shape, (size_t)rank * sizeof *shape) == 0)) ||
        (values == 1 && tensor->rank <= 1 && (tensor->rank == 0 || tensor->shape[0] == 1)) ||
        (rank == 2 && shape[1] == 1 && tensor->rank == 1 && tensor->shape[0] == shape[0]);
    if (same && (type == NULL || is_type(tensor, type)))
        return ANEMO_OK;
    snprintf(what, sizeof what, "type %s and shape %s", tensor->type_name,
             anemo_show_shape(tensor->rank, tensor->shape).text);
    snprintf(accepted, sizeof accepted, "%s %s", type ? type : "F16, BF16 or F32",
             anemo_show_shape(rank, shape).text);
    return refuse_part(f, tensor, what, accepted);
}

/* Scales of a float type, [rows, columns]. */
static anemo_status take_scales(const finder *f, anemo_packed *p, const char *suffix, int64_t rows,
                                int64_t columns) {
    const anemo_tensor *scales = part(f, suffix);
    const int64_t shape[2] = {rows, columns};
    if (!scales)
        return refuse_missing(f, suffix, "the scales");
    ANEMO_TRY(check_part(f, scales, NULL, 2, shape));
    if (scales->type != ANEMO_GGML_F16 && scales->type != ANEMO_GGML_BF16 &&
        scales->type != ANEMO_GGML_F32)
        return refuse_part(f, scales, scales->type_name, "F16, BF16 or F32 scales");
    p->scales = scales->data;
    p->scale_type = scales->type;
    p->type.scale = scales->type == ANEMO_GGML_F16 ? ANEMO_SCALE_F16 : ANEMO_SCALE_F32;
    p->canonical_bytes += scales->bytes;
    return ANEMO_OK;
}

static anemo_status take_zeros(const finder *f, anemo_packed *p, const anemo_tensor *zeros,
                               const char *type, int64_t rows, int64_t columns) {
    ANEMO_TRY(check_part(f, zeros, type, 2, (const int64_t[]){rows, columns}));
    p->zeros = zeros->data;
    p->canonical_bytes += zeros->bytes;
    return ANEMO_OK;
}

/* Stored zero points: all 2^(bits-1) (after what is added) means none; version 1 of GPTQ cannot
 * store 0, and readers disagree whether all ones means 0 or 2^bits. */
static anemo_status check_zeros(const finder *f, anemo_packed *p, const anemo_tensor *zeros) {
    const uint32_t mask = (1u << p->bits) - 1;
    const uint32_t middle = (1u << (p->bits - 1)) - (uint32_t)p->zero_add;
    bool plain = true;
    for (size_t at = 0; at + 4 <= zeros->bytes; at += 4) {
        uint32_t bits = anemo_load_u32(zeros->data + at);
        for (int i = 0; i < 32; i += p->bits, bits >>= p->bits) {
            plain &= (bits & mask) == middle;
            if (p->zero_add && (bits & mask) == mask)
                return anemo_fail(f->err, ANEMO_E_INPUT,
                                  "%s: tensor %s holds the zero point %u at word %zu, which stands "
                                  "for %u; accepted: 0 to %u (checkpoint_format gptq)",
                                  zeros->path, anemo_show(zeros->name).text, mask, at / 4, mask + 1,
                                  mask - 1);
        }
    }
    p->type.offset = plain ? ANEMO_OFFSET_NONE : ANEMO_OFFSET_ZERO_POINT;
    return ANEMO_OK;
}

/* g_idx: i32 [k], each a group. Runs of columns are what the type says anyway. */
static anemo_status take_order(const finder *f, anemo_packed *p, const anemo_tensor *order) {
    const int64_t group = p->type.group ? p->type.group : p->k;
    bool runs = true;
    ANEMO_TRY(check_part(f, order, "I32", 1, &p->k));
    for (int64_t i = 0; i < p->k; ++i) {
        const int32_t g = (int32_t)anemo_load_u32(order->data + 4 * i);
        runs &= g == i / group;
        if (g < 0 || g >= p->groups)
            return anemo_fail(f->err, ANEMO_E_INPUT,
                              "%s: tensor %s[%" PRId64 "] is %" PRId32 "; accepted: 0 to %" PRId64
                              " (groups - 1)",
                              order->path, anemo_show(order->name).text, i, g, p->groups - 1);
    }
    if (!runs) {
        p->order = order->data;
        p->canonical_bytes += order->bytes;
        p->type = (anemo_weight_type){.code = ANEMO_CODE_F32, .bits = 32};
    }
    return ANEMO_OK;
}

/* A bias of zeros is none: old writers added one to every matrix. Others are left over, and refused
 * by whoever asks for no such tensor. */
static void drop_zero_bias(const finder *f) {
    anemo_tensor *bias = part(f, "bias");
    for (size_t i = 0; bias && i < bias->bytes; ++i)
        if (bias->data[i] != 0) {
            bias->used = false;
            return;
        }
}

static void set_linear(const finder *f, anemo_packed *p) {
    p->bits = f->q->bits;
    p->type.code = ANEMO_CODE_LINEAR;
    p->type.bits = (uint8_t)f->q->bits;
    p->type.group = (int32_t)f->q->group;
    p->groups = f->q->group ? (p->k + f->q->group - 1) / f->q->group : 1;
}

static anemo_status check_rank(const finder *f, const char *type, int32_t rank) {
    char what[160], accepted[64];
    bool empty = false;
    for (int32_t i = 0; i < f->codes->rank; ++i)
        empty |= f->codes->shape[i] < 1 || f->codes->shape[i] > 1 << 28;
    if (f->codes->rank == rank && is_type(f->codes, type) && !empty)
        return ANEMO_OK;
    snprintf(what, sizeof what, "type %s and shape %s", f->codes->type_name,
             anemo_show_shape(f->codes->rank, f->codes->shape).text);
    snprintf(accepted, sizeof accepted, "%s with %d dimensions of 1 to 2^28", type, rank);
    return refuse_part(f, f->codes, what, accepted);
}

/* ---------------------------------------------------------------- packings */

static anemo_status find_gptq(const finder *f, anemo_packed *p) {
    const int64_t per_word = 32 / f->q->bits;
    ANEMO_TRY(check_rank(f, "I32", 2));
    p->k = f->codes->shape[0] * per_word;
    p->n = f->codes->shape[1];
    set_linear(f, p);
    p->zero_add = f->q->zero_minus_1;
    ANEMO_TRY(take_scales(f, p, "scales", p->groups, p->n));
    const anemo_tensor *zeros = part(f, "qzeros"), *order = part(f, "g_idx");
    if (!zeros)
        return refuse_missing(f, "qzeros", "the zero points");
    if (p->n % per_word != 0)
        return refuse_part(f, f->codes, "a last dimension that is no multiple of the word",
                           "outputs in whole words of zero points");
    ANEMO_TRY(take_zeros(f, p, zeros, "I32", p->groups, p->n / per_word));
    ANEMO_TRY(check_zeros(f, p, zeros));
    drop_zero_bias(f);
    if (!order && f->q->act_order)
        return refuse_missing(f, "g_idx", "desc_act is true");
    return order ? take_order(f, p, order) : ANEMO_OK;
}

static anemo_status find_awq(const finder *f, anemo_packed *p) {
    ANEMO_TRY(check_rank(f, "I32", 2));
    p->k = f->codes->shape[0];
    p->n = f->codes->shape[1] * 8;
    set_linear(f, p);
    ANEMO_TRY(take_scales(f, p, "scales", p->groups, p->n));
    const anemo_tensor *zeros = part(f, "qzeros");
    if (!zeros)
        return refuse_missing(f, "qzeros", "the zero points");
    ANEMO_TRY(take_zeros(f, p, zeros, "I32", p->groups, p->n / 8));
    return check_zeros(f, p, zeros);
}

/* weight_shape, which says how many columns the last word holds. */
static anemo_status take_shape(const finder *f, anemo_packed *p) {
    const anemo_tensor *shape = part(f, "weight_shape");
    const int64_t per_word = 32 / f->q->bits, two = 2;
    if (!shape)
        return refuse_missing(f, "weight_shape", "the shape before packing");
    const bool wide = is_type(shape, "I64");
    ANEMO_TRY(check_part(f, shape, wide ? "I64" : "I32", 1, &two));
    const uint8_t *at = shape->data;
    p->n = wide ? (int64_t)anemo_load_u64(at) : (int32_t)anemo_load_u32(at);
    p->k = wide ? (int64_t)anemo_load_u64(at + 8) : (int32_t)anemo_load_u32(at + 4);
    if (p->n != f->codes->shape[0] || p->k < 1 || p->k > f->codes->shape[1] * per_word ||
        (p->k + per_word - 1) / per_word != f->codes->shape[1])
        return anemo_fail(f->err, ANEMO_E_INPUT,
                          "%s: tensor %s holds [%" PRId64 ", %" PRId64
                          "]; accepted: the shape whose %d-bit codes fill %s",
                          shape->path, anemo_show(shape->name).text, p->n, p->k, f->q->bits,
                          anemo_show_shape(2, f->codes->shape).text);
    return ANEMO_OK;
}

static anemo_status find_compressed(const finder *f, anemo_packed *p) {
    const int64_t per_word = 32 / f->q->bits;
    ANEMO_TRY(check_rank(f, "I32", 2));
    ANEMO_TRY(take_shape(f, p));
    set_linear(f, p);
    ANEMO_TRY(take_scales(f, p, "weight_scale", p->n, p->groups));
    const anemo_tensor *zeros = part(f, "weight_zero_point"), *order = part(f, "weight_g_idx");
    if (zeros) {
        ANEMO_TRY(take_zeros(f, p, zeros, "I32", (p->n + per_word - 1) / per_word, p->groups));
        p->type.offset = ANEMO_OFFSET_ZERO_POINT;
    }
    return order ? take_order(f, p, order) : ANEMO_OK;
}

static anemo_status find_int8(const finder *f, anemo_packed *p) {
    ANEMO_TRY(check_rank(f, "I8", 2));
    p->n = f->codes->shape[0];
    p->k = f->codes->shape[1];
    set_linear(f, p);
    ANEMO_TRY(take_scales(f, p, "weight_scale", p->n, p->groups));
    const anemo_tensor *zeros = part(f, "weight_zero_point");
    if (zeros) {
        ANEMO_TRY(take_zeros(f, p, zeros, "I8", p->n, p->groups));
        p->type.offset = ANEMO_OFFSET_ZERO_POINT;
    }
    part(f, "input_scale"); /* of activations, which a variant quantises in its own way */
    return ANEMO_OK;
}

static anemo_status find_fp8(const finder *f, anemo_packed *p) {
    const int64_t *block = f->q->block;
    ANEMO_TRY(check_rank(f, "F8_E4M3", 2));
    p->n = f->codes->shape[0];
    p->k = f->codes->shape[1];
    p->groups = 1;
    static const char *const names[] = {"weight_scale", "weight_scale_inv", "qscale_weight"};
    const char *name = names[0];
    const anemo_tensor *scales = NULL;
    for (int i = 0; i < 3 && !scales; ++i)
        scales = part(f, name = names[i]);
    int64_t rows = 1;
    if (block[0]) {
        rows = (p->n + block[0] - 1) / block[0];
        p->groups = (p->k + block[1] - 1) / block[1];
        p->block_rows = block[0];
        p->block_columns = block[1];
    } else if (scales && scales->rank > 0 && scales->shape[0] == p->n && p->n > 1) {
        rows = p->n;
        p->block_rows = 1;
    }
    ANEMO_TRY(take_scales(f, p, scales ? name : names[0], rows, p->groups));
    p->type = (anemo_weight_type){.code = ANEMO_CODE_F32, .bits = 32};
    static const char *const activations[] = {"input_scale", "activation_scale", "qscale_act"};
    for (int i = 0; i < 3; ++i)
        part(f, activations[i]);
    return ANEMO_OK;
}

static anemo_status find_mxfp4(const finder *f, anemo_packed *p) {
    static const int8_t table[16] = {ANEMO_FP4_DOUBLED};
    const anemo_tensor *scales = part(f, "scales");
    const int64_t *shape = f->codes->shape;
    ANEMO_TRY(check_rank(f, "U8", 4));
    if (shape[3] != 16)
        return refuse_part(f, f->codes, "a last dimension other than 16", "blocks of 16 bytes");
    if (!scales)
        return refuse_missing(f, "scales", "the scales");
    ANEMO_TRY(check_part(f, scales, "U8", 3, shape));
    p->matrices = shape[0];
    p->n = shape[1];
    p->k = shape[2] * 32;
    p->pairs = f->base_bytes > 13 && memcmp(f->base + f->base_bytes - 13, "gate_up_proj_", 13) == 0;
    if (p->pairs && p->n % 2 != 0)
        return refuse_part(f, f->codes, "an odd number of rows", "gate and up in turns");
    p->type = (anemo_weight_type){
        .code = ANEMO_CODE_TABLE, .bits = 4, .scale = ANEMO_SCALE_E8M0, .group = 32};
    memcpy(p->type.table, table, sizeof table);
    p->scales = scales->data;
    p->canonical_bytes = (f->codes->bytes + scales->bytes) / (size_t)p->matrices;
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- all of them */

static const struct {
    const char *codes; /* suffix of the tensor that holds them */
    anemo_status (*find)(const finder *f, anemo_packed *p);
} packings[] = {
    [ANEMO_PACKING_GPTQ] = {".qweight", find_gptq},
    [ANEMO_PACKING_AWQ] = {".qweight", find_awq},
    [ANEMO_PACKING_PACKED] = {".weight_packed", find_compressed},
    [ANEMO_PACKING_INT8] = {".weight", find_int8},
    [ANEMO_PACKING_FP8] = {".weight", find_fp8},
    [ANEMO_PACKING_MXFP4] = {"_blocks", find_mxfp4},
};

/* Does this tensor hold the codes of a matrix? .weight does only with a code's type. */
static bool holds_codes(const anemo_tensor *tensor, anemo_packing packing) {
    const size_t n = strlen(tensor->name), m = strlen(packings[packing].codes);
    if (n <= m || n >= NAME_BYTES - 32 || strcmp(tensor->name + n - m, packings[packing].codes))
        return false;
    return packing == ANEMO_PACKING_INT8  ? is_type(tensor, "I8")
           : packing == ANEMO_PACKING_FP8 ? is_type(tensor, "F8_E4M3")
                                          : true;
}

/* The matrix as a tensor of its own: X.weight [n, k], or X [experts, k, n], as the unpacked
 * checkpoint has it. An X.weight of codes is it itself. */
static anemo_status add_matrix(const finder *f, const anemo_packed *p, anemo_tensors *added) {
    char name[NAME_BYTES];
    const bool experts = p->packing == ANEMO_PACKING_MXFP4;
    anemo_tensor tensor = {.path = f->codes->path,
                           .type_name = f->codes->type_name,
                           .type = ANEMO_GGML_NONE,
                           .rank = experts ? 3 : 2,
                           .shape = {p->n, p->k},
                           .packed = p};
    if (experts) {
        tensor.shape[0] = p->matrices;
        tensor.shape[1] = p->k;
        tensor.shape[2] = p->n;
    }
    snprintf(name, sizeof name, "%.*s%s", f->base_bytes - experts, f->base,
             experts ? "" : "weight");
    anemo_tensor *same = anemo_tensors_find(f->tensors, name);
    if (same == f->codes) {
        same->packed = p;
        return ANEMO_OK;
    }
    return anemo_tensors_add(added, &tensor, name, strlen(name), f->err);
}

static anemo_status find_matrix(finder *f, anemo_tensor *codes, anemo_packed **list,
                                anemo_tensors *added) {
    anemo_packed *p = calloc(1, sizeof *p);
    if (!p)
        return anemo_fail(f->err, ANEMO_E_MEMORY, "%s: out of memory", codes->path);
    p->next = *list;
    *list = p;
    p->packing = f->q->packing;
    p->matrices = 1;
    p->codes = codes->data;
    p->canonical_bytes = codes->bytes;
    f->codes = codes;
    f->base = codes->name;
    f->base_bytes = (int)(strlen(codes->name) - strlen(packings[p->packing].codes) + 1);
    codes->used = p->packing != ANEMO_PACKING_INT8 && p->packing != ANEMO_PACKING_FP8;
    ANEMO_TRY(packings[p->packing].find(f, p));
    return add_matrix(f, p, added);
}

anemo_status anemo_packed_find(const anemo_quantisation *q, anemo_tensors *tensors,
                               anemo_packed **list, anemo_error *err) {
    finder f = {.q = q, .tensors = tensors, .err = err};
    anemo_tensors added = {0};
    anemo_status status = ANEMO_OK;
    if (q->packing == ANEMO_PACKING_NONE)
        return ANEMO_OK;
    for (size_t i = 0; i < tensors->n && status == ANEMO_OK; ++i)
        if (holds_codes(&tensors->items[i], q->packing))
            status = find_matrix(&f, &tensors->items[i], list, &added);
    for (size_t i = 0; i < added.n && status == ANEMO_OK; ++i)
        status = anemo_tensors_add(tensors, &added.items[i], added.items[i].name,
                                   strlen(added.items[i].name), err);
    anemo_tensors_free(&added);
    return status == ANEMO_OK ? anemo_tensors_index(tensors, err) : status;
}

void anemo_packed_free(anemo_packed *list) {
    while (list) {
        anemo_packed *next = list->next;
        free(list);
        list = next;
    }
}
