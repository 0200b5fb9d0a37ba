/* For the wrong kernels that tests/test_check.c feeds to the checker: each op is computed plainly
 * and rightly but for one named fault. Test code: it may allocate and forget about threads. */
#ifndef ANEMO_TEST_WRONG_H
#define ANEMO_TEST_WRONG_H

#include "kernels/kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static inline bool wrong_accepts(const void *problem, char *why, size_t why_bytes) {
    (void)problem, (void)why, (void)why_bytes;
    return true;
}

/* x[k] of row `row`, in float. */
static inline void wrong_row(const anemo_weight *weight, int64_t row, float *x) {
    const int64_t k = weight->k;
    uint8_t *codes = malloc((size_t)k);
    float *scales = malloc((size_t)k * 2 * sizeof *scales), *offsets = scales + k;
    weight->read_row(weight, row, x, codes, scales, offsets);
    const anemo_weight_type *type = &weight->type;
    const bool coded = type->code == ANEMO_CODE_LINEAR || type->code == ANEMO_CODE_TABLE;
    for (int64_t i = 0; coded && i < k; i++) {
        const int64_t g = type->group ? i / type->group : 0;
        const float middle = (float)(1 << (type->bits - 1));
        if (type->code == ANEMO_CODE_TABLE)
            x[i] = scales[g] * type->table[codes[i]];
        else if (type->offset == ANEMO_OFFSET_MINIMUM)
            x[i] = scales[g] * codes[i] - offsets[g];
        else
            x[i] = scales[g] * (codes[i] - (type->offset ? offsets[g] : middle));
    }
    free(codes);
    free(scales);
}

/* All rows of a weight, [n, k]; the caller frees them. */
static inline float *wrong_matrix(const anemo_weight *weight) {
    float *w = malloc((size_t)(weight->n * weight->k) * sizeof *w);
    for (int64_t row = 0; row < weight->n; row++)
        wrong_row(weight, row, w + row * weight->k);
    return w;
}

static inline float wrong_dot(const float *x, const float *w, int64_t k, bool backwards) {
    float sum = 0;
    for (int64_t i = 0; i < k; i++) {
        const int64_t at = backwards ? k - 1 - i : i;
        sum += x[at] * w[at];
    }
    return sum;
}

static inline float wrong_act_mul(int32_t activation, float g, float u) {
    if (activation == ANEMO_ACT_SILU)
        return g / (1 + expf(-g)) * u;
    g = fminf(g, 7);
    return (fmaxf(fminf(u, 7), -7) + 1) * g / (1 + expf(-1.702f * g));
}

/* One variant: NAME is "<op>_wrong_<fault>"; run calls compute(exec, problem, args, fault). */
#define WRONG_VARIANT(op_name, OP, fault_name, fault, its_traits, its_workspace)                   \
    WRONG_VARIANT_ACT(op_name, OP, fault_name, fault, its_traits, its_workspace, NULL)
#define WRONG_VARIANT_ACT(op_name, OP, fault_name, fault, its_traits, its_workspace, its_act)      \
    static anemo_status run_##fault_name(const anemo_exec *exec, const void *problem,              \
                                         const void *args) {                                       \
        return compute(exec, problem, args, fault);                                                \
    }                                                                                              \
    static const anemo_variant variant_##fault_name = {                                            \
        .size = sizeof(anemo_variant),                                                             \
        .name = #op_name "_wrong_" #fault_name,                                                    \
        .op = ANEMO_OP_##OP,                                                                       \
        .act = its_act,                                                                            \
        .traits = its_traits,                                                                      \
        .idea = "a test: " #fault_name,                                                            \
        .accepts = wrong_accepts,                                                                  \
        .workspace_bytes = its_workspace,                                                          \
        .run = run_##fault_name,                                                                   \
    };

static inline size_t wrong_no_workspace(const void *problem, int32_t n_threads) {
    (void)problem, (void)n_threads;
    return 0;
}

/* The entry of a plug-in with these variants; define WRONG_ACTS for activation formats. */
#define WRONG_PLUGIN(plugin_name, ...)                                                             \
    static const anemo_variant *const variants[] = {__VA_ARGS__};                                  \
    static const anemo_plugin plugin = {.size = sizeof(anemo_plugin),                              \
                                        .abi_major = ANEMO_ABI_MAJOR,                              \
                                        .abi_minor = ANEMO_ABI_MINOR,                              \
                                        .name = plugin_name,                                       \
                                        .n_variants = sizeof variants / sizeof *variants,          \
                                        .variants = variants,                                      \
                                        WRONG_ACTS};                                               \
    const anemo_plugin *anemo_plugin_entry(void);                                                  \
    const anemo_plugin *anemo_plugin_entry(void) {                                                 \
        return &plugin;                                                                            \
    }

#ifndef WRONG_ACTS
#define WRONG_ACTS .n_acts = 0
#endif

#endif
