/* gpt-oss: layers with and without a sliding window in turn; biases on q, k, v, o, router and
 * experts; in each head a learned sink joins the softmax's denominator, as a key with a score and
 * no value; the experts' activation is clamped: (min(max(u, -7), 7) + 1) * g * sigmoid(1.702 g), g
 * clamped from above at 7, weights = softmax over the chosen experts only, which is softmax over
 * all, renormalised. YaRN with a ramp between fractions of pairs. */
#include "models/arch/arch.h"

static anemo_status resolve_layer(anemo_plan *plan, int64_t index, anemo_error *err) {
    const anemo_status status = anemo_attention_resolve(plan, index, err);
    return status == ANEMO_OK ? anemo_moe_resolve(plan, index, err) : status;
}

static anemo_status forward_layer(const anemo_plan *plan, int64_t index) {
    const anemo_status status = anemo_attention_forward(plan, index);
    return status == ANEMO_OK ? anemo_moe_forward(plan, index) : status;
}

const anemo_arch_family anemo_family_gpt_oss = {.resolve_layer = resolve_layer,
                                                .forward_layer = forward_layer};
