#include "harness/measure/bench_weight.h"

#include "harness/check/number.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- names */

static const int8_t iq4_nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};
static const int8_t mxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

typedef struct named_type {
    const char *name, *parts;
} named_type;

static const named_type file_types[] = {
    {"q4_0", "q4:g32"},       {"q4_1", "q4:g32:min"},
    {"q5_0", "q5:g32"},       {"q5_1", "q5:g32:min"},
    {"q8_0", "q8:g32"},       {"q6_k", "q6:g16:two-level"},
    {"iq4_nl", "t4:g32"},     {"q4_k", "q4:g32:two-level:min"},
    {"mxfp4", "t4:g32:e8m0"}, {"q5_k", "q5:g32:two-level:min"},
};

/* If *at begins with `word` and the part ends there, moves *at behind it. */
static bool take(const char **at, const char *word) {
    const size_t length = strlen(word);
    if (strncmp(*at, word, length) != 0 || ((*at)[length] != '\0' && (*at)[length] != ':')) {
        return false;
    }
    *at += length + ((*at)[length] == ':');
    return true;
}

/* "q4:g128:f32:zp": anemo_weight_type_name backwards. */
static bool type_of_parts(const char *at, anemo_weight_type *out) {
    static const char *const scales[] = {NULL, "f16", "f32", "e8m0", "two-level"};
    static const char *const offsets[] = {NULL, "min", "zp"};
    static const char *const codes[] = {"q4", "q5", "q6", "q8"};
    static const uint8_t bits[] = {4, 5, 6, 8};
    static const char *const groups[] = {"row", "g16", "g32", "g64", "g128"};
    static const int32_t columns[] = {0, 16, 32, 64, 128};
    *out = (anemo_weight_type){.code = ANEMO_CODE_LINEAR, .scale = ANEMO_SCALE_F16, .group = -1};
    if (take(&at, "t4")) {
        out->code = ANEMO_CODE_TABLE;
        out->bits = 4;
    }
    for (int i = 0; i < 4 && !out->bits; i++) {
        out->bits = take(&at, codes[i]) ? bits[i] : 0;
    }
    for (int i = 0; i < 5 && out->bits && out->group < 0; i++) {
        out->group = take(&at, groups[i]) ? columns[i] : -1;
    }
    for (int i = 1; i < 5; i++) {
        out->scale = take(&at, scales[i]) ? (uint8_t)i : out->scale;
    }
    for (int i = 1; i < 3; i++) {
        out->offset = take(&at, offsets[i]) ? (uint8_t)i : out->offset;
    }
    return out->group >= 0 && *at == '\0' && !(out->code == ANEMO_CODE_TABLE && out->offset);
}

bool bench_weight_type(const char *name, anemo_weight_type *out) {
    *out = (anemo_weight_type){0};
    static const char *const floats[] = {"f32", "f16", "bf16"}; /* in the order of anemo_code */
    for (int code = ANEMO_CODE_F32; code <= ANEMO_CODE_BF16; code++) {
        if (strcmp(name, floats[code]) == 0) {
            out->code = (uint8_t)code;
            out->bits = code == ANEMO_CODE_F32 ? 32 : 16;
            return true;
        }
    }
    const char *parts = name;
    for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++) {
        parts = strcmp(name, file_types[i].name) == 0 ? file_types[i].parts : parts;
    }
    if (!type_of_parts(parts, out)) {
        return false;
    }
    if (out->code == ANEMO_CODE_TABLE) {
        memcpy(out->table, out->scale == ANEMO_SCALE_E8M0 ? mxfp4 : iq4_nl, sizeof out->table);
    }
    return true;
}

void bench_fill_normal(float *x, int64_t n, double sd, uint64_t seed) {
    const double step =
        sd * 0x1p-16; /* 12 uniforms of 16 bits have variance 1 (in units of 2^16) */
    for (int64_t i = 0; i < n; i++) {
        int64_t sum = 0;
        for (int j = 0; j < 3; j++) {
            const uint64_t bits = bench_hash(seed + 3 * (uint64_t)i + (uint64_t)j);
            sum += (int64_t)((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) +
                             (bits >> 48));
        }
        x[i] = (float)((double)(sum - 6 * 0xffff) * step);
    }
}

void bench_fill_uniform(float *x, int64_t n, uint64_t seed) {
    const double step = sqrt(12.0) * 0x1p-32;
    for (int64_t i = 0; i < n; i += 2) {
        const uint64_t bits = bench_hash(seed + (uint64_t)i);
        x[i] = (float)(((double)(bits & 0xffffffff) - 0x1p31) * step);
        if (i + 1 < n) {
            x[i + 1] = (float)(((double)(bits >> 32) - 0x1p31) * step);
        }
    }
}

/* ---------------------------------------------------------------- reading */

/* Bytes of a row of codes. */
static int64_t row_bytes(const anemo_weight_type *type, int64_t k) {
    return type->bits > 4 ? k : (k + 1) / 2;
}

/* Element i of a float weight; one of 32 bits takes two halves. */
static float float_at(const bench_weight *w, int64_t i) {
    float value;
    if (w->canonical.type.code == ANEMO_CODE_F32) {
        memcpy(&value, w->halves + 2 * i, sizeof value);
        return value;
    }
    /* f16 is a float of a smaller exponent: shifted into place it lacks a factor, exactly. */
    const bool is_f16 = w->canonical.type.code == ANEMO_CODE_F16;
    const uint32_t half = w->halves[i];
    const uint32_t bits = is_f16 ? (half & 0x8000) << 16 | (half & 0x7fff) << 13 : half << 16;
    memcpy(&value, &bits, sizeof value);
    return is_f16 ? value * 0x1p112f : value;
}

static void put_float(bench_weight *w, int64_t i, float value) {
    if (w->canonical.type.code == ANEMO_CODE_F32) {
        memcpy(w->halves + 2 * i, &value, sizeof value);
    } else if (w->canonical.type.code == ANEMO_CODE_F16) {
        w->halves[i] = check_to_f16(value);
    } else {
        w->halves[i] = check_to_bf16(value);
    }
}

static size_t float_bytes(const bench_weight *w) {
    return (size_t)w->canonical.n * (size_t)w->canonical.k * w->canonical.type.bits / 8;
}

static void read_row(const anemo_weight *canonical, int64_t row, float *values, uint8_t *codes,
                     float *scales, float *offsets) {
    const bench_weight *w = canonical->reader_data;
    const int64_t k = canonical->k;
    if (w->halves) {
        for (int64_t i = 0; i < k; i++) {
            values[i] = float_at(w, row * k + i);
        }
        return;
    }
    const int64_t groups = anemo_weight_groups(&canonical->type, k);
    memcpy(scales, w->scales + row * groups, (size_t)groups * sizeof *scales);
    if (w->offsets) {
        memcpy(offsets, w->offsets + row * groups, (size_t)groups * sizeof *offsets);
    }
    const uint8_t *from = w->codes + row * row_bytes(&canonical->type, k);
    if (canonical->type.bits > 4) {
        memcpy(codes, from, (size_t)k);
        return;
    }
    for (int64_t i = 0; i < k; i++) {
        codes[i] = from[i / 2] >> (4 * (i & 1)) & 15;
    }
}

/* ---------------------------------------------------------------- making */

/* One row of floats, uniform in +-sqrt(3 / k): standard deviation 1/sqrt(k). */
static void fill_float_row(bench_weight *w, int64_t row, uint64_t seed) {
    const int64_t k = w->canonical.k;
    const double reach = sqrt(3.0 / (double)k);
    double squares = 0;
    for (int64_t i = 0; i < k; i++) {
        const float value =
            (float)(reach * (2 * bench_uniform(seed + (uint64_t)(row * k + i)) - 1));
        put_float(w, row * k + i, value);
        const double kept = float_at(w, row * k + i);
        squares += kept * kept;
    }
    w->norm[row] = w->part_norm[row] = sqrt(squares);
}

/* What a code counts without its scale and offset. */
static int64_t plain_code(const anemo_weight_type *type, uint8_t code) {
    return type->code == ANEMO_CODE_TABLE ? type->table[code] : code;
}

/* Scale and offset of a group from 64 random bits. Scales lie in [1, 2) times a power of two near
 * what makes the values' sd 1/sqrt(k), and are exact in every form: 8 significant bits; e8m0 takes
 * the power alone, two-level a power times 32 .. 63. Offsets put the middle of the codes near 0. */
static void fill_scale(const bench_weight *w, uint64_t bits, double power, float *scale,
                       float *offset) {
    const anemo_weight_type *type = &w->canonical.type;
    const bool two_level = type->scale == ANEMO_SCALE_TWO_LEVEL;
    double s = power * (1 + (double)(bits & 127) / 128);
    if (type->scale == ANEMO_SCALE_E8M0) {
        s = power * (double)(1 + (bits & 1));
    } else if (two_level) {
        s = power * (double)(32 + (bits & 31)) / 32;
    }
    *scale = (float)s;
    const int64_t half = (int64_t)1 << (type->bits - 1);
    if (type->offset == ANEMO_OFFSET_ZERO_POINT) {
        *offset = (float)(half - 2 + (int64_t)(bits >> 8 & 3));
    } else if (type->offset == ANEMO_OFFSET_MINIMUM) {
        *offset = (float)(power * (double)half * (double)(32 + (bits >> 8 & 31)) / 32);
    }
}

/* Codes uniform over their range (sd 2^bits / sqrt(12), or that of the table). */
static void fill_linear_row(bench_weight *w, int64_t row, uint64_t seed, uint8_t *codes,
                            float *unused) {
    const anemo_weight_type *type = &w->canonical.type;
    const int64_t k = w->canonical.k, groups = anemo_weight_groups(type, k);
    const int64_t group = type->group > 0 ? type->group : k, bytes = row_bytes(type, k);
    const uint64_t mask = type->bits == 5 || type->bits == 6
                              ? 0x0101010101010101u * (((uint64_t)1 << type->bits) - 1)
                              : ~(uint64_t)0;
    for (int64_t i = 0; i < bytes; i += 8) {
        const uint64_t bits = bench_hash(seed + (uint64_t)(row * bytes + i)) & mask;
        memcpy(w->codes + row * bytes + i, &bits, (size_t)(bytes - i < 8 ? bytes - i : 8));
    }
    double spread = (double)((int64_t)1 << type->bits) / sqrt(12.0);
    if (type->code == ANEMO_CODE_TABLE) {
        double squares = 0;
        for (int c = 0; c < 16; c++) {
            squares += (double)type->table[c] * type->table[c];
        }
        spread = sqrt(squares / 16);
    }
    const double power = exp2(floor(log2(1 / (sqrt((double)k) * spread))));
    float *scales = w->scales + row * groups;
    float *offsets = w->offsets ? w->offsets + row * groups : unused;
    for (int64_t g = 0; g < groups; g++) {
        fill_scale(w, bench_hash(~seed + (uint64_t)(row * groups + g)), power, &scales[g],
                   &offsets[g]);
    }
    read_row(&w->canonical, row, NULL, codes, unused, unused);
    double squares = 0, part_squares = 0;
    for (int64_t g = 0; g < groups; g++) {
        const double s = scales[g];
        const double shift = type->code == ANEMO_CODE_TABLE ? 0
                             : type->offset == ANEMO_OFFSET_NONE
                                 ? s * (double)(1 << (type->bits - 1))
                             : type->offset == ANEMO_OFFSET_ZERO_POINT ? s * offsets[g]
                                                                       : offsets[g];
        for (int64_t i = g * group; i < (g + 1) * group && i < k; i++) {
            const double code = s * (double)plain_code(type, codes[i]);
            squares += (code - shift) * (code - shift);
            part_squares += (fabs(code) + fabs(shift)) * (fabs(code) + fabs(shift));
        }
    }
    w->norm[row] = sqrt(squares);
    w->part_norm[row] = sqrt(part_squares);
}

typedef struct fill_job {
    bench_weight *weight;
    uint64_t seed;
    char *scratch; /* per thread */
    size_t scratch_bytes;
} fill_job;

static void fill_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const fill_job *job = ctx;
    uint8_t *codes = (uint8_t *)job->scratch + (size_t)thread * job->scratch_bytes;
    const size_t padded_k = ((size_t)job->weight->canonical.k + 63) / 64 * 64;
    float *scales = (float *)(void *)(codes + padded_k);
    for (int64_t row = begin; row < end; row++) {
        if (job->weight->halves) {
            fill_float_row(job->weight, row, job->seed);
        } else {
            fill_linear_row(job->weight, row, job->seed, codes, scales);
        }
    }
}

static void *aligned_memory(size_t bytes) {
    return bytes ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
}

/* The arrays, unfilled; false: no memory. */
static bool allocate(bench_weight *w) {
    const anemo_weight *c = &w->canonical;
    const bool is_float = c->type.code < ANEMO_CODE_LINEAR;
    const size_t code_bytes = is_float ? 0 : (size_t)(c->n * row_bytes(&c->type, c->k));
    const size_t scale_bytes =
        (size_t)c->n * (size_t)anemo_weight_groups(&c->type, c->k) * sizeof(float);
    w->norm = calloc((size_t)c->n, sizeof *w->norm);
    w->part_norm = calloc((size_t)c->n, sizeof *w->part_norm);
    w->codes = aligned_memory(code_bytes);
    w->halves = aligned_memory(is_float ? float_bytes(w) : 0);
    w->scales = aligned_memory(scale_bytes);
    const bool has_offset = c->type.offset != ANEMO_OFFSET_NONE;
    w->offsets = aligned_memory(has_offset ? scale_bytes : 0);
    w->memory_bytes =
        code_bytes + (is_float ? float_bytes(w) : 0) + scale_bytes * (has_offset ? 2 : 1);
    return w->norm && w->part_norm && (!has_offset || w->offsets) &&
           (is_float ? w->halves != NULL : w->codes && w->scales);
}

static bench_weight *create_unfilled(const anemo_weight_type *type, int64_t n, int64_t k) {
    bench_weight *w = calloc(1, sizeof *w);
    if (!w) {
        return NULL;
    }
    w->canonical = (anemo_weight){.size = sizeof(anemo_weight),
                                  .type = *type,
                                  .n = n,
                                  .k = k,
                                  .reader_data = w,
                                  .read_row = read_row};
    w->canonical.canonical_bytes =
        (size_t)((double)n * (double)k * anemo_weight_type_bits(type, k) / 8);
    if (!allocate(w)) {
        bench_weight_free(w);
        return NULL;
    }
    w->canonical.data = w->codes ? (const void *)w->codes : w->halves;
    return w;
}

bench_weight *bench_weight_create(anemo_device *host, const anemo_weight_type *type, int64_t n,
                                  int64_t k, uint64_t seed) {
    bench_weight *w = create_unfilled(type, n, k);
    if (!w) {
        return NULL;
    }
    const anemo_exec exec = anemo_device_exec(host);
    fill_job job = {.weight = w, .seed = bench_hash(seed)};
    job.scratch_bytes = ((size_t)k + 63) / 64 * 64 + (size_t)k * sizeof(float);
    job.scratch_bytes = (job.scratch_bytes + 63) / 64 * 64;
    job.scratch = aligned_memory((size_t)exec.n_threads * job.scratch_bytes);
    if (!job.scratch) {
        bench_weight_free(w);
        return NULL;
    }
    exec.parallel(&exec, n, 0, fill_rows, &job);
    free(job.scratch);
    return w;
}

void bench_weight_free(bench_weight *weight) {
    if (!weight) {
        return;
    }
    free(weight->codes);
    free(weight->halves);
    free(weight->scales);
    free(weight->offsets);
    free(weight->norm);
    free(weight->part_norm);
    free(weight);
}

/* ---------------------------------------------------------------- copies */

static bench_weight *clone(const bench_weight *from) {
    bench_weight *w = create_unfilled(&from->canonical.type, from->canonical.n, from->canonical.k);
    if (!w) {
        return NULL;
    }
    const anemo_weight *c = &from->canonical;
    if (w->halves) {
        memcpy(w->halves, from->halves, float_bytes(w));
    } else {
        const size_t scale_bytes =
            (size_t)c->n * (size_t)anemo_weight_groups(&c->type, c->k) * sizeof(float);
        memcpy(w->codes, from->codes, (size_t)(c->n * row_bytes(&c->type, c->k)));
        memcpy(w->scales, from->scales, scale_bytes);
        if (w->offsets) {
            memcpy(w->offsets, from->offsets, scale_bytes);
        }
    }
    memcpy(w->norm, from->norm, (size_t)c->n * sizeof *w->norm);
    memcpy(w->part_norm, from->part_norm, (size_t)c->n * sizeof *w->part_norm);
    return w;
}

typedef struct pack_job {
    const bench_weight *weight;
    const anemo_layout *layout;
    void *packed;
    atomic_int failed; /* the first anemo_status that was not OK */
} pack_job;

static void pack_blocks(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    pack_job *job = ctx;
    const int64_t n = job->weight->canonical.n, block = job->layout->row_block;
    const int64_t last = end * block < n ? end * block : n;
    const anemo_status status =
        job->layout->pack(&job->weight->canonical, begin * block, last, job->packed);
    if (status) {
        atomic_store(&job->failed, (int)status);
    }
}

size_t bench_copy_bytes(const bench_weight *weight, const anemo_layout *layout) {
    const anemo_weight *w = &weight->canonical;
    return layout ? layout->packed_bytes(&w->type, w->n, w->k) : weight->memory_bytes;
}

static anemo_status pack_into(const bench_copies *copies, const bench_weight *weight,
                              void *packed) {
    pack_job job = {.weight = weight, .layout = copies->layout, .packed = packed};
    const int64_t block = copies->layout->row_block;
    const int64_t blocks = (weight->canonical.n + block - 1) / block;
    const anemo_exec exec = anemo_device_exec(copies->host);
    exec.parallel(&exec, blocks, 0, pack_blocks, &job);
    return (anemo_status)atomic_load(&job.failed);
}

/* Packed by the host, then brought over. */
static anemo_status pack_across(const bench_copies *copies, const bench_weight *weight,
                                void *packed) {
    void *staging = aligned_memory(copies->bytes);
    if (!staging) {
        return ANEMO_E_MEMORY;
    }
    memset(staging, 0, copies->bytes);
    anemo_status status = pack_into(copies, weight, staging);
    status = status ? status : anemo_device_upload(copies->device, packed, staging, copies->bytes);
    const anemo_status waited = anemo_device_synchronise(copies->device, NULL);
    free(staging);
    return status ? status : waited;
}

static anemo_status make_copy(bench_copies *copies, bench_weight *weight, int64_t index) {
    const bool is_host = anemo_device_backend(copies->device) == ANEMO_CPU;
    if (!copies->layout && !is_host) {
        return ANEMO_E_UNSUPPORTED;
    }
    if (!copies->layout) {
        copies->clones[index] = index == 0 ? weight : clone(weight);
        copies->argument[index] = copies->clones[index] ? &copies->clones[index]->canonical : NULL;
        return copies->clones[index] ? ANEMO_OK : ANEMO_E_MEMORY;
    }
    void *packed = anemo_device_alloc(copies->device, ANEMO_MEM_WEIGHTS, copies->bytes);
    if (!packed) {
        return ANEMO_E_MEMORY;
    }
    copies->packed[index] = packed;
    copies->argument[index] = packed;
    if (is_host) {
        return pack_into(copies, weight, packed);
    }
    return index == 0 ? pack_across(copies, weight, packed)
                      : anemo_device_copy(copies->device, packed, copies->packed[0], copies->bytes);
}

anemo_status bench_copies_create(anemo_device *device, anemo_device *host, bench_weight *weight,
                                 const anemo_layout *layout, int64_t n_copies, bench_copies *out,
                                 anemo_error *err) {
    *out = (bench_copies){.device = device, .host = host, .layout = layout, .n_copies = n_copies};
    out->bytes = bench_copy_bytes(weight, layout);
    out->argument = calloc((size_t)n_copies, sizeof *out->argument);
    out->packed = calloc((size_t)n_copies, sizeof *out->packed);
    out->clones = calloc((size_t)n_copies, sizeof *out->clones);
    anemo_status status = out->argument && out->packed && out->clones ? ANEMO_OK : ANEMO_E_MEMORY;
    for (int64_t i = 0; !status && i < n_copies; i++) {
        status = make_copy(out, weight, i);
    }
    status = status ? status : anemo_device_synchronise(device, NULL);
    if (status) {
        bench_copies_free(out);
        return anemo_fail(err, status,
                          "%s: %lld copies of a weight [%lld, %lld], %zu bytes each: %s",
                          layout ? layout->name : "canonical", (long long)n_copies,
                          (long long)weight->canonical.n, (long long)weight->canonical.k,
                          bench_copy_bytes(weight, layout), anemo_status_name(status));
    }
    return ANEMO_OK;
}

void bench_copies_free(bench_copies *copies) {
    for (int64_t i = 0; i < copies->n_copies; i++) {
        if (copies->packed && copies->packed[i]) {
            anemo_device_dealloc(copies->device, ANEMO_MEM_WEIGHTS, copies->packed[i],
                                 copies->bytes);
        }
        if (copies->clones && i > 0) { /* the first is not ours */
            bench_weight_free(copies->clones[i]);
        }
    }
    free(copies->argument);
    free(copies->packed);
    free(copies->clones);
    *copies = (bench_copies){0};
}
