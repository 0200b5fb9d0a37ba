/* Llama 3 (and 2): pre-norm decoder, grouped-query attention, SwiGLU, no biases, no window.
 *   x += attention(norm(x)); x += ffn(norm(x)).
 * From 3.1 on its rotary frequencies are slowed down by wavelength for the longer context
 * (models/engine/rope.c); in GGUF the factors are a tensor. */
#include "models/arch/arch.h"

static anemo_status resolve_layer(anemo_plan *plan, int64_t index, anemo_error *err) {
    const anemo_status status = anemo_attention_resolve(plan, index, err);
    return status == ANEMO_OK ? anemo_dense_ffn_resolve(plan, index, err) : status;
}

static anemo_status forward_layer(const anemo_plan *plan, int64_t index) {
    const anemo_status status = anemo_attention_forward(plan, index);
    return status == ANEMO_OK ? anemo_dense_ffn_forward(plan, index) : status;
}

const anemo_arch_family anemo_family_llama = {.resolve_layer = resolve_layer,
                                              .forward_layer = forward_layer};
