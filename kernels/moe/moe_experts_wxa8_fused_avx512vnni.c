/* Experts of codes of any width, table or scale on 8-bit activations with AVX-512 VNNI; each matrix
 * may have a type of its own, as files of K-quants mix them. The tiles are those of qgemm
 * (qgemm/kernels_avx512vnni.h), what surrounds them is in experts_fused_avx512vnni.h. */
#include "kernels/moe/experts_fused_avx512vnni.h"

extern const anemo_act anemo_act_a8_g32;

static bool accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_moe_experts_problem *p = problem;
    if (!anemo_moe_experts_accepts(p, why, why_bytes)) {
        return false;
    }
    if (!anemo_vnni_kernel_of(&p->gate) || !anemo_vnni_kernel_of(&p->up) ||
        !anemo_vnni_kernel_of(&p->down)) {
        return anemo_refuse(why, why_bytes, "codes of 4, 5, 6 or 8 bits are accepted");
    }
    return true;
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    (void)n_threads;
    return experts_fused_workspace(problem, &anemo_act_a8_g32);
}

static anemo_vnni_rows_fn tile_of(const anemo_weight_type *type, int64_t k) {
    const anemo_vnni_kernel *kernel = anemo_vnni_kernel_of(type);
    const anemo_n32_shape shape = anemo_n32_shape_of(type, k);
    return vnni_is_fine(&shape, 32) ? kernel->fine : kernel->rows;
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_moe_experts_problem *p = problem;
    const anemo_vnni_rows_fn tile[3] = {tile_of(&p->gate, p->d), tile_of(&p->up, p->d),
                                        tile_of(&p->down, p->ffn)};
    return experts_fused_run(exec, p, args, &anemo_act_a8_g32, tile, NULL);
}

extern const anemo_variant anemo_moe_experts_wxa8_fused_avx512vnni;
const anemo_variant anemo_moe_experts_wxa8_fused_avx512vnni = {
    .size = sizeof(anemo_variant),
    .name = "moe_experts_wxa8_fused_avx512vnni",
    .op = ANEMO_OP_MOE_EXPERTS,
    .backend = ANEMO_CPU,
    .needs = {.cpu_features = ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VNNI},
    .layout = "wx_n32",
    .act = "a8_g32",
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea =
        "codes of any type, u8 x s8 tiles, one task per expert and column slice, h coded in the "
        "task",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
