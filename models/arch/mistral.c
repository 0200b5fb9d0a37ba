/* Mistral (and Llama files with the same maths): pre-norm decoder, grouped-query attention with
 * RoPE and an optional sliding window, SwiGLU feed-forward.   x += attention(norm(x)); x +=
 * ffn(norm(x)). */
#include "models/arch/arch.h"

static anemo_status resolve_layer(anemo_plan *plan, int64_t index, anemo_error *err) {
    const anemo_status status = anemo_attention_resolve(plan, index, err);
    return status == ANEMO_OK ? anemo_dense_ffn_resolve(plan, index, err) : status;
}

static anemo_status forward_layer(const anemo_plan *plan, int64_t index) {
    const anemo_status status = anemo_attention_forward(plan, index);
    return status == ANEMO_OK ? anemo_dense_ffn_forward(plan, index) : status;
}

const anemo_arch_family anemo_family_mistral = {.resolve_layer = resolve_layer,
                                                .forward_layer = forward_layer};
