/* Ministral 3: Mistral with YaRN frequencies and a query temperature,
 *   q *= 1 + beta ln(1 + floor(position / C)),  C = the pretraining context,
 * which is 1 up to position C and counters the flattening of softmax over more and more keys. Both
 * are the rope_append op's. */
#include "models/arch/arch.h"

static anemo_status resolve_layer(anemo_plan *plan, int64_t index, anemo_error *err) {
    const anemo_status status = anemo_attention_resolve(plan, index, err);
    return status == ANEMO_OK ? anemo_dense_ffn_resolve(plan, index, err) : status;
}

static anemo_status forward_layer(const anemo_plan *plan, int64_t index) {
    const anemo_status status = anemo_attention_forward(plan, index);
    return status == ANEMO_OK ? anemo_dense_ffn_forward(plan, index) : status;
}

const anemo_arch_family anemo_family_ministral3 = {.resolve_layer = resolve_layer,
                                                   .forward_layer = forward_layer};
