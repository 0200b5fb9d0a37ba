/* The quantize_act family: each format has a reference (quantize_act_ref.c), plain C
 * (quantize_act_c.c) and, for some, a vector variant. The results are bit-exact by definition, so
 * they differ in speed alone. A file holds one way of computing for all formats; the variant's
 * name is quantize_act_<format>_<way>. */
#ifndef ANEMO_QUANTIZE_ACT_H
#define ANEMO_QUANTIZE_ACT_H

#include "kernels/internal.h"

/* Writes one record; `group` is that of the format (0: one scale per row). */
typedef void (*anemo_quantize_row_fn)(const float *x, int64_t k, int32_t group, void *record);

static inline bool anemo_quantize_act_accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_quantize_act_problem *p = problem;
    if (p->size < sizeof *p || p->m_max < 1 || p->k < 1) {
        return anemo_refuse(why, why_bytes,
                            "quantize_act: short problem, or m_max %lld, k %lld; at least 1 each",
                            (long long)p->m_max, (long long)p->k);
    }
    return true;
}

static inline size_t anemo_quantize_act_workspace(const void *problem, int32_t n_threads) {
    (void)problem, (void)n_threads;
    return 0;
}

/* The scale of an f16_row record whose largest magnitude has these bits, and its inverse: powers of
 * two, both normal. Bits of infinity and NaN have none. */
static inline void anemo_f16_row_scale_of(uint32_t largest_bits, float *scale, float *inverse) {
    const uint32_t exponent = largest_bits >> 23 > 15 ? largest_bits >> 23 : 15;
    const uint32_t bits[2] = {(exponent - 14) << 23, (268 - exponent) << 23};
    memcpy(scale, &bits[0], sizeof *scale);
    memcpy(inverse, &bits[1], sizeof *inverse);
}

/* Begins an f16_row record of k codes from its largest magnitude: zeros behind them, and the scale.
 * Returns what a number times gives its code; 0: the row has an infinity or NaN, and the record is
 * written. */
static inline float anemo_f16_row_begin(uint32_t largest_bits, int64_t k, void *record) {
    const size_t scale_at = anemo_f16_row_scale_at(k);
    char *to = record;
    float *scale = (float *)(void *)(to + scale_at), inverse;
    memset(to + 2 * k, 0, scale_at + 64 - 2 * (size_t)k);
    if (largest_bits >= 0x7f800000u) {
        memset(to, 0, 2 * (size_t)k);
        *scale = __builtin_nanf("");
        return 0.0f;
    }
    anemo_f16_row_scale_of(largest_bits, scale, &inverse);
    return inverse;
}

typedef struct anemo_quantize_job {
    const anemo_quantize_act_args *a;
    int64_t k;
    int32_t group;
    size_t row_bytes;
    anemo_quantize_row_fn row;
} anemo_quantize_job;

static inline void anemo_quantize_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const anemo_quantize_job *j = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        j->row(j->a->x + i * j->k, j->k, j->group, (char *)j->a->out + (size_t)i * j->row_bytes);
    }
}

static inline anemo_status anemo_quantize_act_run(const anemo_exec *exec, const void *problem,
                                                  const void *args, const anemo_act *act,
                                                  anemo_quantize_row_fn row) {
    const anemo_quantize_act_problem *p = problem;
    const anemo_quantize_act_args *a = args;
    anemo_quantize_job job = {a, p->k, act->group, act->row_bytes(p->k), row};
    exec->parallel(exec, a->m, 0, anemo_quantize_rows, &job);
    return ANEMO_OK;
}

/* Defines the run function and the variant quantize_act_FORMAT_WAY. */
#define ANEMO_QUANTIZE_ACT_VARIANT(format, way, row_function, cpu_needs, more_traits, what)        \
    extern const anemo_act anemo_act_##format;                                                     \
    static anemo_status run_##format(const anemo_exec *exec, const void *problem,                  \
                                     const void *args) {                                           \
        return anemo_quantize_act_run(exec, problem, args, &anemo_act_##format, row_function);     \
    }                                                                                              \
    extern const anemo_variant anemo_quantize_act_##format##_##way;                                \
    const anemo_variant anemo_quantize_act_##format##_##way = {                                    \
        .size = sizeof(anemo_variant),                                                             \
        .name = "quantize_act_" #format "_" #way,                                                  \
        .op = ANEMO_OP_QUANTIZE_ACT,                                                               \
        .backend = ANEMO_CPU,                                                                      \
        .needs = {.cpu_features = cpu_needs},                                                      \
        .act = #format,                                                                            \
        .traits = (more_traits) | ANEMO_TRAIT_ROW_INVARIANT,                                       \
        .idea = what,                                                                              \
        .accepts = anemo_quantize_act_accepts,                                                     \
        .workspace_bytes = anemo_quantize_act_workspace,                                           \
        .run = run_##format,                                                                       \
    };

#endif
