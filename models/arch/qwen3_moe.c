/* Qwen3-MoE: every head of q and of k is RMS-normed (one weight vector for all heads) before RoPE;
 * the feed-forward is a mixture of many small experts in every layer:
 *   q = rope(norm(Wq h)), k = rope(norm(Wk h));  x += sum over the chosen e of weight_e * ffn_e(h),
 * weights = softmax over all experts, renormalised over the chosen where norm_topk_prob says so. */
#include "models/arch/arch.h"

static anemo_status resolve_layer(anemo_plan *plan, int64_t index, anemo_error *err) {
    const anemo_status status = anemo_attention_resolve(plan, index, err);
    return status == ANEMO_OK ? anemo_moe_resolve(plan, index, err) : status;
}

static anemo_status forward_layer(const anemo_plan *plan, int64_t index) {
    const anemo_status status = anemo_attention_forward(plan, index);
    return status == ANEMO_OK ? anemo_moe_forward(plan, index) : status;
}

const anemo_arch_family anemo_family_qwen3_moe = {.resolve_layer = resolve_layer,
                                                  .forward_layer = forward_layer};
