#include "harness/measure/bench_weight.h"

#include "harness/check/number.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

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
    out->code = ANEMO_CODE_LINEAR;
    out->scale = ANEMO_SCALE_F16;
    out->offset = ANEMO_OFFSET_NONE;
    out->group = 32;
    out->bits = strcmp(name, "q4_0") == 0 ? 4 : 8;
    return out->bits == 4 || strcmp(name, "q8_0") == 0;
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
    (void)offsets; /* none of these types has any */
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
    if (canonical->type.bits == 8) {
        memcpy(codes, w->codes + row * k, (size_t)k);
        return;
    }
    const uint8_t *packed = w->codes + row * (k / 2);
    for (int64_t i = 0; i < k / 2; i++) {
        codes[2 * i] = packed[i] & 15;
        codes[2 * i + 1] = packed[i] >> 4;
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

/* Sums over one group of c' = c - middle: of c'^2 and of (c + middle)^2. */
static void group_squares(const uint8_t *codes, int64_t n, int bits, double *values,
                          double *parts) {
    const int64_t middle = (int64_t)1 << (bits - 1);
    int64_t v = 0, p = 0;
    for (int64_t i = 0; i < n; i++) {
        v += (codes[i] - middle) * (codes[i] - middle);
        p += (codes[i] + middle) * (codes[i] + middle);
    }
    *values = (double)v;
    *parts = (double)p;
}

/* Codes uniform over their range (sd 2^bits / sqrt(12)); scales of 8 significant bits around what
 * makes the values' sd 1/sqrt(k). */
static void fill_linear_row(bench_weight *w, int64_t row, uint64_t seed, uint8_t *codes,
                            float *scratch_scales) {
    const anemo_weight_type *type = &w->canonical.type;
    const int64_t k = w->canonical.k, groups = anemo_weight_groups(type, k);
    const int64_t group = type->group > 0 ? type->group : k;
    const int64_t row_bytes = k * type->bits / 8;
    for (int64_t i = 0; i < row_bytes; i += 8) {
        const uint64_t bits = bench_hash(seed + (uint64_t)(row * row_bytes + i));
        memcpy(w->codes + row * row_bytes + i, &bits,
               (size_t)(row_bytes - i < 8 ? row_bytes - i : 8));
    }
    const double middle = sqrt(12.0 / (double)k) / (double)((int64_t)1 << type->bits);
    const double power = exp2(floor(log2(middle)));
    for (int64_t g = 0; g < groups; g++) {
        const uint64_t bits = bench_hash(~seed + (uint64_t)(row * groups + g));
        w->scales[row * groups + g] = (float)(power * (1 + (double)(bits & 127) / 128));
    }
    read_row(&w->canonical, row, NULL, codes, scratch_scales, NULL);
    double squares = 0, part_squares = 0;
    for (int64_t g = 0; g < groups; g++) {
        const int64_t columns = k - g * group < group ? k - g * group : group;
        const double s = scratch_scales[g];
        double values, parts;
        group_squares(codes + g * group, columns, type->bits, &values, &parts);
        squares += s * s * values;
        part_squares += s * s * parts;
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
    const size_t cells = (size_t)c->n * (size_t)c->k;
    const bool is_float = c->type.code != ANEMO_CODE_LINEAR;
    const size_t code_bytes = is_float ? 0 : cells * c->type.bits / 8;
    const size_t scale_bytes =
        (size_t)c->n * (size_t)anemo_weight_groups(&c->type, c->k) * sizeof(float);
    w->norm = calloc((size_t)c->n, sizeof *w->norm);
    w->part_norm = calloc((size_t)c->n, sizeof *w->part_norm);
    w->codes = aligned_memory(code_bytes);
    w->halves = aligned_memory(is_float ? float_bytes(w) : 0);
    w->scales = aligned_memory(scale_bytes);
    w->memory_bytes = code_bytes + (is_float ? float_bytes(w) : 0) + scale_bytes;
    return w->norm && w->part_norm && (is_float ? w->halves != NULL : w->codes && w->scales);
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

bench_weight *bench_weight_create(anemo_device *device, const anemo_weight_type *type, int64_t n,
                                  int64_t k, uint64_t seed) {
    bench_weight *w = create_unfilled(type, n, k);
    if (!w) {
        return NULL;
    }
    const anemo_exec exec = anemo_device_exec(device);
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
    const size_t cells = (size_t)c->n * (size_t)c->k;
    if (w->halves) {
        memcpy(w->halves, from->halves, float_bytes(w));
    } else {
        memcpy(w->codes, from->codes, cells * c->type.bits / 8);
        memcpy(w->scales, from->scales,
               (size_t)c->n * (size_t)anemo_weight_groups(&c->type, c->k) * sizeof(float));
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

static anemo_status make_copy(bench_copies *copies, bench_weight *weight, int64_t index) {
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
    pack_job job = {.weight = weight, .layout = copies->layout, .packed = packed};
    const int64_t block = copies->layout->row_block;
    const int64_t blocks = (weight->canonical.n + block - 1) / block;
    const anemo_exec exec = anemo_device_exec(copies->device);
    exec.parallel(&exec, blocks, 0, pack_blocks, &job);
    return (anemo_status)atomic_load(&job.failed);
}

anemo_status bench_copies_create(anemo_device *device, bench_weight *weight,
                                 const anemo_layout *layout, int64_t n_copies, bench_copies *out,
                                 anemo_error *err) {
    *out = (bench_copies){.device = device, .layout = layout, .n_copies = n_copies};
    out->bytes = bench_copy_bytes(weight, layout);
    out->argument = calloc((size_t)n_copies, sizeof *out->argument);
    out->packed = calloc((size_t)n_copies, sizeof *out->packed);
    out->clones = calloc((size_t)n_copies, sizeof *out->clones);
    anemo_status status = out->argument && out->packed && out->clones ? ANEMO_OK : ANEMO_E_MEMORY;
    for (int64_t i = 0; !status && i < n_copies; i++) {
        status = make_copy(out, weight, i);
    }
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
