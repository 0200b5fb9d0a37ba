/* Mixtral: Mistral's attention, and a feed-forward of E experts of which each token uses the top k:
 *   x += attention(norm(x)); h = norm(x); x += sum over the chosen e of weight_e * ffn_e(h),
 * weights = softmax over all experts, restricted to the chosen and renormalised. */
#include "models/arch/arch.h"

static anemo_status resolve_layer(anemo_plan *plan, int64_t index, anemo_error *err) {
    const anemo_status status = anemo_attention_resolve(plan, index, err);
    return status == ANEMO_OK ? anemo_moe_resolve(plan, index, err) : status;
}

static anemo_status forward_layer(const anemo_plan *plan, int64_t index) {
    const anemo_status status = anemo_attention_forward(plan, index);
    return status == ANEMO_OK ? anemo_moe_forward(plan, index) : status;
}

const anemo_arch_family anemo_family_mixtral = {.resolve_layer = resolve_layer,
                                                .forward_layer = forward_layer};
