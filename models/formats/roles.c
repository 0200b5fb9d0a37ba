/* The tensors of an architecture: what each container calls them, and their shapes.
 *
 * Hugging Face and GGUF agree on what a layer holds and on nothing else: names differ, and GGUF
 * files keep a layer's experts either as one tensor (ffn_gate_exps) or, older ones, one by one. A
 * name is therefore a row of a table, and a container is a table. */
#include "models/formats/internal.h"

#include <inttypes.h>
#include <stdio.h>

const anemo_role_info anemo_roles[ANEMO_T_COUNT] = {
    [ANEMO_T_EMBED] = {false, false, false, "vocabulary, hidden size"},
    [ANEMO_T_OUTPUT_NORM] = {true, false, false, "hidden size"},
    [ANEMO_T_OUTPUT] = {false, false, false, "vocabulary, hidden size"},
    [ANEMO_T_ATTN_NORM] = {true, true, false, "hidden size"},
    [ANEMO_T_Q] = {false, true, false, "heads * head_dim, hidden size"},
    [ANEMO_T_K] = {false, true, false, "kv_heads * head_dim, hidden size"},
    [ANEMO_T_V] = {false, true, false, "kv_heads * head_dim, hidden size"},
    [ANEMO_T_O] = {false, true, false, "hidden size, heads * head_dim"},
    [ANEMO_T_FFN_NORM] = {true, true, false, "hidden size"},
    [ANEMO_T_ROUTER] = {false, true, false, "experts, hidden size"},
    [ANEMO_T_GATE] = {false, true, true, "feed-forward size, hidden size"},
    [ANEMO_T_UP] = {false, true, true, "feed-forward size, hidden size"},
    [ANEMO_T_DOWN] = {false, true, true, "hidden size, feed-forward size"},
};

void anemo_role_shape(const anemo_hparams *h, anemo_tensor_role role, int64_t *n, int64_t *k) {
    const int64_t q = h->heads * h->head_dim, kv = h->kv_heads * h->head_dim;
    const int64_t shapes[ANEMO_T_COUNT][2] = {
        [ANEMO_T_EMBED] = {h->vocab, h->d},
        [ANEMO_T_OUTPUT_NORM] = {1, h->d},
        [ANEMO_T_OUTPUT] = {h->vocab, h->d},
        [ANEMO_T_ATTN_NORM] = {1, h->d},
        [ANEMO_T_Q] = {q, h->d},
        [ANEMO_T_K] = {kv, h->d},
        [ANEMO_T_V] = {kv, h->d},
        [ANEMO_T_O] = {h->d, q},
        [ANEMO_T_FFN_NORM] = {1, h->d},
        [ANEMO_T_ROUTER] = {h->experts, h->d},
        [ANEMO_T_GATE] = {h->ffn, h->d},
        [ANEMO_T_UP] = {h->ffn, h->d},
        [ANEMO_T_DOWN] = {h->d, h->ffn},
    };
    *n = shapes[role][0];
    *k = shapes[role][1];
}

/* ---------------------------------------------------------------- names */

/* before [layer middle [expert after]] */
typedef struct role_name {
    const char *before, *middle, *after;
} role_name;

#define HF "model.layers."
#define HF_COMMON                                                                                  \
    [ANEMO_T_EMBED] = {"model.embed_tokens.weight"},                                               \
    [ANEMO_T_OUTPUT_NORM] = {"model.norm.weight"}, [ANEMO_T_OUTPUT] = {"lm_head.weight"},          \
    [ANEMO_T_ATTN_NORM] = {HF, ".input_layernorm.weight"},                                         \
    [ANEMO_T_Q] = {HF, ".self_attn.q_proj.weight"},                                                \
    [ANEMO_T_K] = {HF, ".self_attn.k_proj.weight"},                                                \
    [ANEMO_T_V] = {HF, ".self_attn.v_proj.weight"},                                                \
    [ANEMO_T_O] = {HF, ".self_attn.o_proj.weight"},                                                \
    [ANEMO_T_FFN_NORM] = {HF, ".post_attention_layernorm.weight"}

#define BLK "blk."
#define GGUF_COMMON                                                                                \
    [ANEMO_T_EMBED] = {"token_embd.weight"}, [ANEMO_T_OUTPUT_NORM] = {"output_norm.weight"},       \
    [ANEMO_T_OUTPUT] = {"output.weight"}, [ANEMO_T_ATTN_NORM] = {BLK, ".attn_norm.weight"},        \
    [ANEMO_T_Q] = {BLK, ".attn_q.weight"}, [ANEMO_T_K] = {BLK, ".attn_k.weight"},                  \
    [ANEMO_T_V] = {BLK, ".attn_v.weight"}, [ANEMO_T_O] = {BLK, ".attn_output.weight"},             \
    [ANEMO_T_FFN_NORM] = {BLK, ".ffn_norm.weight"},                                                \
    [ANEMO_T_ROUTER] = {BLK, ".ffn_gate_inp.weight"}

#define LAYERS "layers."
#define MISTRAL_COMMON                                                                             \
    [ANEMO_T_EMBED] = {"tok_embeddings.weight"}, [ANEMO_T_OUTPUT_NORM] = {"norm.weight"},          \
    [ANEMO_T_OUTPUT] = {"output.weight"},                                                          \
    [ANEMO_T_ATTN_NORM] = {LAYERS, ".attention_norm.weight"},                                      \
    [ANEMO_T_Q] = {LAYERS, ".attention.wq.weight"},                                                \
    [ANEMO_T_K] = {LAYERS, ".attention.wk.weight"},                                                \
    [ANEMO_T_V] = {LAYERS, ".attention.wv.weight"},                                                \
    [ANEMO_T_O] = {LAYERS, ".attention.wo.weight"},                                                \
    [ANEMO_T_FFN_NORM] = {LAYERS, ".ffn_norm.weight"}

static const role_name role_names[][ANEMO_T_COUNT] = {
    [ANEMO_NAMING_HF] = {HF_COMMON, [ANEMO_T_GATE] = {HF, ".mlp.gate_proj.weight"},
                         [ANEMO_T_UP] = {HF, ".mlp.up_proj.weight"},
                         [ANEMO_T_DOWN] = {HF, ".mlp.down_proj.weight"}},
    [ANEMO_NAMING_HF_MIXTRAL] =
        {HF_COMMON, [ANEMO_T_ROUTER] = {HF, ".block_sparse_moe.gate.weight"},
         [ANEMO_T_GATE] = {HF, ".block_sparse_moe.experts.", ".w1.weight"},
         [ANEMO_T_UP] = {HF, ".block_sparse_moe.experts.", ".w3.weight"},
         [ANEMO_T_DOWN] = {HF, ".block_sparse_moe.experts.", ".w2.weight"}},
    [ANEMO_NAMING_GGUF] =
        {GGUF_COMMON, [ANEMO_T_GATE] = {BLK, ".ffn_gate.weight"},
         [ANEMO_T_UP] = {BLK, ".ffn_up.weight"}, [ANEMO_T_DOWN] = {BLK, ".ffn_down.weight"}},
    [ANEMO_NAMING_GGUF_EXPERTS] = {GGUF_COMMON, [ANEMO_T_GATE] = {BLK, ".ffn_gate.", ".weight"},
                                   [ANEMO_T_UP] = {BLK, ".ffn_up.", ".weight"},
                                   [ANEMO_T_DOWN] = {BLK, ".ffn_down.", ".weight"}},
    [ANEMO_NAMING_GGUF_MERGED] = {GGUF_COMMON, [ANEMO_T_GATE] = {BLK, ".ffn_gate_exps.weight"},
                                  [ANEMO_T_UP] = {BLK, ".ffn_up_exps.weight"},
                                  [ANEMO_T_DOWN] = {BLK, ".ffn_down_exps.weight"}},
    [ANEMO_NAMING_MISTRAL] = {MISTRAL_COMMON, [ANEMO_T_GATE] = {LAYERS, ".feed_forward.w1.weight"},
                              [ANEMO_T_UP] = {LAYERS, ".feed_forward.w3.weight"},
                              [ANEMO_T_DOWN] = {LAYERS, ".feed_forward.w2.weight"}},
    [ANEMO_NAMING_MISTRAL_MOE] =
        {MISTRAL_COMMON, [ANEMO_T_ROUTER] = {LAYERS, ".feed_forward.gate.weight"},
         [ANEMO_T_GATE] = {LAYERS, ".feed_forward.experts.", ".w1.weight"},
         [ANEMO_T_UP] = {LAYERS, ".feed_forward.experts.", ".w3.weight"},
         [ANEMO_T_DOWN] = {LAYERS, ".feed_forward.experts.", ".w2.weight"}},
};

void anemo_role_name(anemo_naming naming, anemo_tensor_role role, int64_t layer, int64_t expert,
                     char name[ANEMO_ROLE_NAME_BYTES]) {
    const role_name *form = &role_names[naming][role];
    const size_t bytes = ANEMO_ROLE_NAME_BYTES;
    if (!form->middle)
        snprintf(name, bytes, "%s", form->before);
    else if (!form->after)
        snprintf(name, bytes, "%s%" PRId64 "%s", form->before, layer, form->middle);
    else
        snprintf(name, bytes, "%s%" PRId64 "%s%" PRId64 "%s", form->before, layer, form->middle,
                 expert, form->after);
}
