/* The contrast to moe_experts_w4a8_fused_avx512vnni: no dispatch at all. Token by token, choice by
 * choice, three matrix-vector products, the threads sharing the columns of each. The arithmetic is
 * the fused variant's at a tile height of one, which is this room's best GEMV on these weights, so
 * the two give the same bits and only the order of the work differs.
 *
 * For one token that is as good as anything. For more it reads an expert's weights again for each
 * token that chose it: time grows with the tokens where the fused variant's grows with the experts
 * touched, then with the arithmetic. This is what a loop over tokens in a script does.
 *
 * Its limit is tokens * top_k * (bytes of an expert) / bandwidth. Never picked by itself. */
#include "kernels/moe/experts_avx512vnni.h"

typedef struct naive_call {
    experts_job job;
    int32_t expert;
    int64_t row; /* sorted */
} naive_call;

static void gate_up(void *ctx, int64_t begin, int64_t end, int thread) {
    const naive_call *c = ctx;
    experts_gate_up(&c->job, c->expert, c->row, c->row + 1, begin, end, thread);
}

static void down(void *ctx, int64_t begin, int64_t end, int thread) {
    const naive_call *c = ctx;
    experts_down(&c->job, c->expert, c->row, c->row + 1, begin, end, thread);
}

extern const anemo_act anemo_act_a8_g32;

static void tile_1(int64_t mr, const anemo_vnni_tile *t, anemo_vnni_ahead ahead,
                   float out[][ANEMO_TILE_COLUMNS]) {
    (void)mr, (void)ahead;
    vnni_tile_rows(4, 32, false, 1, t, (anemo_vnni_ahead){.at = NULL}, out);
}

static bool accepts(const void *problem, char *why, size_t why_bytes) {
    return experts_accepts(problem, 32, why, why_bytes);
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    (void)n_threads;
    return experts_hidden_bytes(problem, &anemo_act_a8_g32);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_moe_experts_problem *p = problem;
    const anemo_moe_experts_args *a = args;
    if (a->tokens < 0 || a->tokens > p->tokens_max) {
        return ANEMO_E_INPUT;
    }
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads)) {
        return ANEMO_E_MEMORY;
    }
    static const anemo_vnni_rows_fn tile[3] = {tile_1, tile_1, tile_1};
    naive_call c = {.job = experts_job_of(p, a, &anemo_act_a8_g32, tile, NULL, exec->workspace)};
    for (int64_t i = 0; i < a->tokens * p->top_k; i++) {
        c.expert = a->plan.expert[i];
        c.row = a->plan.row_of[i];
        if (c.expert >= p->expert_begin && c.expert < p->expert_end) {
            exec->parallel(exec, experts_groups(&c.job), 0, gate_up, &c);
            exec->parallel(exec, experts_down_blocks(&c.job), 0, down, &c);
        }
    }
    return ANEMO_OK;
}

extern const anemo_variant anemo_moe_experts_w4a8_naive_avx512vnni;
const anemo_variant anemo_moe_experts_w4a8_naive_avx512vnni = {
    .size = sizeof(anemo_variant),
    .name = "moe_experts_w4a8_naive_avx512vnni",
    .op = ANEMO_OP_MOE_EXPERTS,
    .backend = ANEMO_CPU,
    .needs = {.cpu_features = ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VNNI},
    .layout = "w4_n32k8",
    .act = "a8_g32",
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .m_from = INT32_MAX,
    .idea = "the contrast: a GEMV per token and expert, in the order of the tokens",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
