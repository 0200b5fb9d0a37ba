/* moe_experts, fused, on AVX-512 VNNI: what w4a8 and w8a8 share. The arithmetic is in
 * experts_avx512vnni.h, the dispatch in dispatch.h; here they meet. The workspace holds the records
 * of h, then the dispatch's list. */
#ifndef ANEMO_MOE_EXPERTS_FUSED_AVX512VNNI_H
#define ANEMO_MOE_EXPERTS_FUSED_AVX512VNNI_H

#include "kernels/moe/dispatch.h"
#include "kernels/moe/experts_avx512vnni.h"

static inline size_t experts_fused_workspace(const anemo_moe_experts_problem *p,
                                             const anemo_act *act) {
    return experts_hidden_bytes(p, act) + moe_dispatch_bytes(p);
}

static inline anemo_status experts_fused_run(const anemo_exec *exec,
                                             const anemo_moe_experts_problem *p,
                                             const anemo_moe_experts_args *a, const anemo_act *act,
                                             const anemo_vnni_rows_fn tile[3],
                                             anemo_vnni_streams_fn streams) {
    if (a->tokens < 0 || a->tokens > p->tokens_max) {
        return ANEMO_E_INPUT;
    }
    if (exec->workspace_bytes < experts_fused_workspace(p, act)) {
        return ANEMO_E_MEMORY;
    }
    uint8_t *memory = exec->workspace;
    const experts_job job = experts_job_of(p, a, act, tile, streams, memory);
    moe_dispatch d = moe_dispatch_of(p, &a->plan, memory + experts_hidden_bytes(p, act));
    moe_dispatch_run(exec, &d, experts_gate_up, &job, experts_groups(&job),
                     job.group / ANEMO_N32_ROWS);
    moe_dispatch_run(exec, &d, experts_down, &job, experts_down_blocks(&job), 1);
    return ANEMO_OK;
}

/* Defines the variant `id` for weights of `width` bits, reading a8_gGROUP. */
#define ANEMO_EXPERTS_FUSED(id, width, group_, layout_, idea_)                                     \
    extern const anemo_act anemo_act_a8_g##group_;                                                 \
    static void tile_##group_(int64_t mr, const anemo_vnni_tile *t, anemo_vnni_ahead ahead,        \
                              float out[][ANEMO_TILE_COLUMNS]) {                                   \
        vnni_tile_rows(width, group_, false, mr, t, ahead, out);                                   \
    }                                                                                              \
    static void streams_##group_(int64_t mr, const anemo_vnni_tile *t,                             \
                                 const uint8_t *const block[VNNI_STREAMS],                         \
                                 float out[][ANEMO_TILE_COLUMNS]) {                                \
        vnni_streams_plain_rows(width, group_ / 32, true, mr, t, block, out);                      \
    }                                                                                              \
    static bool accepts_##group_(const void *problem, char *why, size_t why_bytes) {               \
        return experts_accepts(problem, group_, why, why_bytes);                                   \
    }                                                                                              \
    static size_t workspace_##group_(const void *problem, int32_t n_threads) {                     \
        (void)n_threads;                                                                           \
        return experts_fused_workspace(problem, &anemo_act_a8_g##group_);                          \
    }                                                                                              \
    static anemo_status run_##group_(const anemo_exec *exec, const void *problem,                  \
                                     const void *args) {                                           \
        static const anemo_vnni_rows_fn tile[3] = {tile_##group_, tile_##group_, tile_##group_};   \
        return experts_fused_run(exec, problem, args, &anemo_act_a8_g##group_, tile,               \
                                 streams_##group_);                                                \
    }                                                                                              \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_MOE_EXPERTS,                                                                \
        .backend = ANEMO_CPU,                                                                      \
        .needs = {.cpu_features = ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VNNI},                       \
        .layout = layout_,                                                                         \
        .act = "a8_g" #group_,                                                                     \
        .traits = ANEMO_TRAIT_ROW_INVARIANT,                                                       \
        .idea = idea_,                                                                             \
        .accepts = accepts_##group_,                                                               \
        .workspace_bytes = workspace_##group_,                                                     \
        .run = run_##group_,                                                                       \
    };

#endif
