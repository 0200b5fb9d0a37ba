/* The description of a qgemm variant that reads a fragment layout and bf16 activations. */
#ifndef ANEMO_QGEMM_VARIANT_CUH
#define ANEMO_QGEMM_VARIANT_CUH

#include "kernels/qgemm/qgemm_internal.h"

/* All parts are of one layout: the registry has asked it about every weight already. */
#define GPU_QGEMM_VARIANT_FOR(capability, exactly, id, its_layout, more_traits, least_rows, what,  \
                              workspace, runs)                                                     \
    extern "C" {                                                                                   \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_QGEMM,                                                                      \
        .backend = ANEMO_CUDA,                                                                     \
        .needs = {.cpu_features = 0, .min_capability = capability, .exact_capability = exactly},   \
        .layout = its_layout,                                                                      \
        .act = "bf16",                                                                             \
        .traits = ANEMO_TRAIT_CAPTURABLE | (more_traits),                                          \
        .m_from = least_rows,                                                                      \
        .idea = what,                                                                              \
        .accepts =                                                                                 \
            [](const void *problem, char *why, size_t why_bytes) {                                 \
                return anemo_qgemm_valid(static_cast<const anemo_qgemm_problem *>(problem), why,   \
                                         why_bytes);                                               \
            },                                                                                     \
        .workspace_bytes = workspace,                                                              \
        .run = runs,                                                                               \
    };                                                                                             \
    }

#define GPU_QGEMM_VARIANT(id, its_layout, more_traits, least_rows, what, workspace, runs)          \
    GPU_QGEMM_VARIANT_FOR(80, 0, id, its_layout, more_traits, least_rows, what, workspace, runs)

#endif
