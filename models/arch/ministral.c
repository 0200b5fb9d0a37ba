/* Ministral 8B: Mistral with layers that take turns: one sees everything, the next three only a
 * sliding window. Which layer is which is the file's to say (layer_types; in GGUF
 * sliding_window_pattern). All layers share RoPE and head sizes; a session keeps every page, for
 * the layers that see everything. */
#include "models/arch/arch.h"

static anemo_status resolve_layer(anemo_plan *plan, int64_t index, anemo_error *err) {
    const anemo_status status = anemo_attention_resolve(plan, index, err);
    return status == ANEMO_OK ? anemo_dense_ffn_resolve(plan, index, err) : status;
}

static anemo_status forward_layer(const anemo_plan *plan, int64_t index) {
    const anemo_status status = anemo_attention_forward(plan, index);
    return status == ANEMO_OK ? anemo_dense_ffn_forward(plan, index) : status;
}

const anemo_arch_family anemo_family_ministral = {.resolve_layer = resolve_layer,
                                                  .forward_layer = forward_layer};
