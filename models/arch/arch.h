/* One readable file per model family: which calls a layer makes, and in which order. The blocks
 * that families share are in blocks.c. The forward pass is written once, over ops and buffers; CPU
 * and CUDA differ only in the plan's choices. */
#ifndef ANEMO_ARCH_H
#define ANEMO_ARCH_H

#include "models/engine/plan.h"

typedef struct anemo_arch_family {
    /* Loads, resolves and packs one layer. */
    anemo_status (*resolve_layer)(anemo_plan *plan, int64_t index, anemo_error *err);
    /* Runs one layer on plan->buf.x for the rows of the step. */
    anemo_status (*forward_layer)(const anemo_plan *plan, int64_t index);
} anemo_arch_family;

extern const anemo_arch_family anemo_family_mistral, anemo_family_mixtral, anemo_family_llama,
    anemo_family_ministral, anemo_family_ministral3, anemo_family_qwen3_moe, anemo_family_gpt_oss;
const anemo_arch_family *anemo_arch_family_of(anemo_arch arch);

/* Blocks. resolve fills the layer's matrices and calls; forward adds the block's output to
 * plan->buf.x. Norms of q and k, biases and sinks are used where the family has such tensors
 * (anemo_has_role). */
anemo_status anemo_attention_resolve(anemo_plan *plan, int64_t index, anemo_error *err);
anemo_status anemo_attention_forward(const anemo_plan *plan, int64_t index);
anemo_status anemo_dense_ffn_resolve(anemo_plan *plan, int64_t index, anemo_error *err);
anemo_status anemo_dense_ffn_forward(const anemo_plan *plan, int64_t index);
anemo_status anemo_moe_resolve(anemo_plan *plan, int64_t index, anemo_error *err);
anemo_status anemo_moe_forward(const anemo_plan *plan, int64_t index);

#endif
