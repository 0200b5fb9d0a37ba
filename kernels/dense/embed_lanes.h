/* embed over the lanes of lanes.h: rows in parallel. What a row's bits mean is known to read_row
 * alone, so a variant without a layout gets codes and scales, and its part is
 *
 *   y = s * (c - o)    or    s * c - o    or    s * table[c]
 *
 * per group, LANES codes at a time; a table of 16 is looked up by a permutation. Rows of floats
 * come ready from read_row. Limit: read_row, which costs several times as much; a packed layout of
 * the embedding would save that at the price of a second resident copy wherever the output matrix
 * is tied to it. */
#ifndef ANEMO_DENSE_EMBED_LANES_H
#define ANEMO_DENSE_EMBED_LANES_H

#include "kernels/dense/dense.h"
#include "kernels/dense/lanes.h"

typedef struct embed_job {
    const anemo_embed_problem *p;
    const anemo_embed_args *a;
    char *memory; /* per thread: codes, scales, offsets */
} embed_job;

/* Codes padded by a vector: the last ones of a row are read as whole vectors. */
static inline size_t code_bytes(const anemo_embed_problem *p) {
    return align64((size_t)(p->d + LANES));
}

static inline size_t thread_bytes(const anemo_embed_problem *p) {
    const size_t groups = (size_t)anemo_weight_groups(&p->type, p->d);
    return anemo_code_is_float(&p->type) ? 0 : code_bytes(p) + align64(2 * groups * sizeof(float));
}

/* The 16 numbers of a code map. */
typedef struct code_map {
#if defined(__AVX512F__)
    __m512 numbers;
#else
    __m256 lower, upper;
#endif
} code_map;

static inline code_map code_map_of(const anemo_weight_type *type) {
    float number[16];
    for (int i = 0; i < 16; i++)
        number[i] = type->table[i];
#if defined(__AVX512F__)
    return (code_map){_mm512_loadu_ps(number)};
#else
    return (code_map){_mm256_loadu_ps(number), _mm256_loadu_ps(number + 8)};
#endif
}

static inline vf look_up(const code_map *map, const uint8_t *codes) {
#if defined(__AVX512F__)
    const __m512i index = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)codes));
    return _mm512_permutexvar_ps(index, map->numbers); /* takes the lowest 4 bits */
#else
    const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)codes));
    const __m256 low = _mm256_permutevar8x32_ps(map->lower, index);
    const __m256 high = _mm256_permutevar8x32_ps(map->upper, index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
#endif
}

/* One group: y[0 .. n). */
static inline void decode_table(const code_map *map, const uint8_t *codes, float scale, int64_t n,
                                float *y) {
    for (int64_t i = 0; i < n; i += LANES)
        vf_store_part(y + i, vf_splat(scale) * look_up(map, codes + i), n - i);
}

static inline void decode_minimum(const uint8_t *codes, float scale, float offset, int64_t n,
                                  float *y) {
    for (int64_t i = 0; i < n; i += LANES)
        vf_store_part(y + i, vf_splat(scale) * vf_from_u8(codes + i) - vf_splat(offset), n - i);
}

static inline void decode_linear(const uint8_t *codes, float scale, float zero, int64_t n,
                                 float *y) {
    for (int64_t i = 0; i < n; i += LANES)
        vf_store_part(y + i, vf_splat(scale) * (vf_from_u8(codes + i) - vf_splat(zero)), n - i);
}

static void decode_row(const anemo_weight_type *type, int64_t d, const uint8_t *codes,
                       const float *scales, const float *offsets, float *y) {
    const int64_t group = type->group > 0 ? type->group : d;
    const float middle = (float)(1 << (type->bits - 1));
    const code_map map = code_map_of(type);
    for (int64_t g = 0, begin = 0; begin < d; g++, begin += group) {
        const int64_t n = min_i64(group, d - begin);
        if (type->code == ANEMO_CODE_TABLE)
            decode_table(&map, codes + begin, scales[g], n, y + begin);
        else if (type->offset == ANEMO_OFFSET_MINIMUM)
            decode_minimum(codes + begin, scales[g], offsets[g], n, y + begin);
        else if (type->offset == ANEMO_OFFSET_ZERO_POINT)
            decode_linear(codes + begin, scales[g], offsets[g], n, y + begin);
        else
            decode_linear(codes + begin, scales[g], middle, n, y + begin);
    }
}

static void embed_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const embed_job *job = ctx;
    const anemo_embed_problem *p = job->p;
    const anemo_weight *w = job->a->weight;
    uint8_t *codes = (uint8_t *)job->memory + (size_t)thread * thread_bytes(p);
    float *scales = (float *)(void *)(codes + code_bytes(p));
    float *offsets = scales + anemo_weight_groups(&p->type, p->d);
    for (int64_t r = begin; r < end; r++) {
        float *y = job->a->y + r * p->d;
        w->read_row(w, job->a->ids[r], y, codes, scales, offsets);
        if (!anemo_code_is_float(&p->type))
            decode_row(&p->type, p->d, codes, scales, offsets, y);
    }
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    return (size_t)n_threads * thread_bytes(problem);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_embed_problem *p = problem;
    const anemo_embed_args *a = args;
    if (a->m < 0 || a->m > p->m_max)
        return ANEMO_E_INPUT;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    embed_job job = {.p = p, .a = a, .memory = exec->workspace};
    exec->parallel(exec, a->m, lanes_grain(p->d), embed_rows, &job);
    return ANEMO_OK;
}

#define EMBED_LANES(name, what)                                                                    \
    LANES_VARIANT(name, ANEMO_OP_EMBED, anemo_embed_accepts, workspace_bytes, run, what)

#endif
