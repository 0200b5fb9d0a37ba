/* The tensors of an architecture: what each container calls them, and their shapes.
 *
 * Hugging Face and GGUF agree on what a layer holds and on nothing else: names differ, and GGUF
 * files keep a layer's experts either as one tensor (ffn_gate_exps) or, older ones, one by one. A
 * name is therefore a row of a table, and a container is a table. gpt-oss differs once more: its
 * Hugging Face files keep all experts of a layer as [experts, inputs, outputs], with the outputs of
 * gate and up taking turns; both roles name that one tensor. */
#include "models/formats/internal.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    LLAMA = 1 << ANEMO_ARCH_LLAMA,
    QWEN3MOE = 1 << ANEMO_ARCH_QWEN3MOE,
    GPTOSS = 1 << ANEMO_ARCH_GPTOSS
};

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
    [ANEMO_T_Q_NORM] = {true, true, false, "head_dim", QWEN3MOE},
    [ANEMO_T_K_NORM] = {true, true, false, "head_dim", QWEN3MOE},
    [ANEMO_T_Q_BIAS] = {true, true, false, "heads * head_dim", GPTOSS},
    [ANEMO_T_K_BIAS] = {true, true, false, "kv_heads * head_dim", GPTOSS},
    [ANEMO_T_V_BIAS] = {true, true, false, "kv_heads * head_dim", GPTOSS},
    [ANEMO_T_O_BIAS] = {true, true, false, "hidden size", GPTOSS},
    [ANEMO_T_SINKS] = {true, true, false, "heads", GPTOSS},
    [ANEMO_T_ROUTER_BIAS] = {true, true, false, "experts", GPTOSS},
    [ANEMO_T_GATE_BIAS] = {true, true, true, "feed-forward size", GPTOSS},
    [ANEMO_T_UP_BIAS] = {true, true, true, "feed-forward size", GPTOSS},
    [ANEMO_T_DOWN_BIAS] = {true, true, true, "hidden size", GPTOSS},
    [ANEMO_T_ROPE_FACTORS] = {true, false, false, "head_dim / 2", LLAMA},
};

bool anemo_has_role(const anemo_hparams *h, anemo_tensor_role role) {
    const uint32_t families = anemo_roles[role].families;
    if (families != 0 && !(families >> h->arch & 1))
        return false;
    switch (role) {
    case ANEMO_T_OUTPUT:
        return !h->tied;
    case ANEMO_T_ROUTER:
        return h->experts > 0;
    case ANEMO_T_ROPE_FACTORS:
        return h->rope.kind == ANEMO_ROPE_FACTORS;
    default:
        return true;
    }
}

int64_t anemo_role_values(const anemo_hparams *h, anemo_tensor_role role) {
    int64_t n, k;
    anemo_role_shape(h, role, &n, &k);
    return anemo_roles[role].vector ? (anemo_roles[role].per_expert ? h->experts : 1) * k : 0;
}

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
        [ANEMO_T_Q_NORM] = {1, h->head_dim},
        [ANEMO_T_K_NORM] = {1, h->head_dim},
        [ANEMO_T_Q_BIAS] = {1, q},
        [ANEMO_T_K_BIAS] = {1, kv},
        [ANEMO_T_V_BIAS] = {1, kv},
        [ANEMO_T_O_BIAS] = {1, h->d},
        [ANEMO_T_SINKS] = {1, h->heads},
        [ANEMO_T_ROUTER_BIAS] = {1, h->experts},
        [ANEMO_T_GATE_BIAS] = {1, h->ffn},
        [ANEMO_T_UP_BIAS] = {1, h->ffn},
        [ANEMO_T_DOWN_BIAS] = {1, h->d},
        [ANEMO_T_ROPE_FACTORS] = {1, h->head_dim / 2},
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
    [ANEMO_T_ROUTER] = {BLK, ".ffn_gate_inp.weight"},                                              \
    [ANEMO_T_Q_NORM] = {BLK, ".attn_q_norm.weight"},                                               \
    [ANEMO_T_K_NORM] = {BLK, ".attn_k_norm.weight"},                                               \
    [ANEMO_T_ROPE_FACTORS] = {"rope_freqs.weight"}
#define GGUF_MERGED                                                                                \
    [ANEMO_T_GATE] = {BLK, ".ffn_gate_exps.weight"}, [ANEMO_T_UP] = {BLK, ".ffn_up_exps.weight"},  \
    [ANEMO_T_DOWN] = {BLK, ".ffn_down_exps.weight"}

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
    [ANEMO_NAMING_HF_QWEN3MOE] = {HF_COMMON, [ANEMO_T_Q_NORM] = {HF, ".self_attn.q_norm.weight"},
                                  [ANEMO_T_K_NORM] = {HF, ".self_attn.k_norm.weight"},
                                  [ANEMO_T_ROUTER] = {HF, ".mlp.gate.weight"},
                                  [ANEMO_T_GATE] = {HF, ".mlp.experts.", ".gate_proj.weight"},
                                  [ANEMO_T_UP] = {HF, ".mlp.experts.", ".up_proj.weight"},
                                  [ANEMO_T_DOWN] = {HF, ".mlp.experts.", ".down_proj.weight"}},
    [ANEMO_NAMING_HF_GPTOSS] =
        {HF_COMMON, [ANEMO_T_Q_BIAS] = {HF, ".self_attn.q_proj.bias"},
         [ANEMO_T_K_BIAS] = {HF, ".self_attn.k_proj.bias"},
         [ANEMO_T_V_BIAS] = {HF, ".self_attn.v_proj.bias"},
         [ANEMO_T_O_BIAS] = {HF, ".self_attn.o_proj.bias"},
         [ANEMO_T_SINKS] = {HF, ".self_attn.sinks"}, [ANEMO_T_ROUTER] = {HF, ".mlp.router.weight"},
         [ANEMO_T_ROUTER_BIAS] = {HF, ".mlp.router.bias"},
         [ANEMO_T_GATE] = {HF, ".mlp.experts.gate_up_proj"},
         [ANEMO_T_UP] = {HF, ".mlp.experts.gate_up_proj"},
         [ANEMO_T_DOWN] = {HF, ".mlp.experts.down_proj"},
         [ANEMO_T_GATE_BIAS] = {HF, ".mlp.experts.gate_up_proj_bias"},
         [ANEMO_T_UP_BIAS] = {HF, ".mlp.experts.gate_up_proj_bias"},
         [ANEMO_T_DOWN_BIAS] = {HF, ".mlp.experts.down_proj_bias"}},
    [ANEMO_NAMING_GGUF] =
        {GGUF_COMMON, [ANEMO_T_GATE] = {BLK, ".ffn_gate.weight"},
         [ANEMO_T_UP] = {BLK, ".ffn_up.weight"}, [ANEMO_T_DOWN] = {BLK, ".ffn_down.weight"}},
    [ANEMO_NAMING_GGUF_EXPERTS] = {GGUF_COMMON, [ANEMO_T_GATE] = {BLK, ".ffn_gate.", ".weight"},
                                   [ANEMO_T_UP] = {BLK, ".ffn_up.", ".weight"},
                                   [ANEMO_T_DOWN] = {BLK, ".ffn_down.", ".weight"}},
    [ANEMO_NAMING_GGUF_MERGED] = {GGUF_COMMON, GGUF_MERGED},
    [ANEMO_NAMING_GGUF_GPTOSS] = {[ANEMO_T_EMBED] = {"token_embd.weight"},
                                  [ANEMO_T_OUTPUT_NORM] = {"output_norm.weight"},
                                  [ANEMO_T_OUTPUT] = {"output.weight"},
                                  [ANEMO_T_ATTN_NORM] = {BLK, ".attn_norm.weight"},
                                  [ANEMO_T_Q] = {BLK, ".attn_q.weight"},
                                  [ANEMO_T_K] = {BLK, ".attn_k.weight"},
                                  [ANEMO_T_V] = {BLK, ".attn_v.weight"},
                                  [ANEMO_T_O] = {BLK, ".attn_output.weight"},
                                  [ANEMO_T_FFN_NORM] = {BLK, ".post_attention_norm.weight"},
                                  [ANEMO_T_ROUTER] = {BLK, ".ffn_gate_inp.weight"},
                                  [ANEMO_T_Q_BIAS] = {BLK, ".attn_q.bias"},
                                  [ANEMO_T_K_BIAS] = {BLK, ".attn_k.bias"},
                                  [ANEMO_T_V_BIAS] = {BLK, ".attn_v.bias"},
                                  [ANEMO_T_O_BIAS] = {BLK, ".attn_output.bias"},
                                  [ANEMO_T_SINKS] = {BLK, ".attn_sinks.weight"},
                                  [ANEMO_T_ROUTER_BIAS] = {BLK, ".ffn_gate_inp.bias"},
                                  [ANEMO_T_GATE_BIAS] = {BLK, ".ffn_gate_exps.bias"},
                                  [ANEMO_T_UP_BIAS] = {BLK, ".ffn_up_exps.bias"},
                                  [ANEMO_T_DOWN_BIAS] = {BLK, ".ffn_down_exps.bias"},
                                  GGUF_MERGED},
    [ANEMO_NAMING_MISTRAL] = {MISTRAL_COMMON, [ANEMO_T_GATE] = {LAYERS, ".feed_forward.w1.weight"},
                              [ANEMO_T_UP] = {LAYERS, ".feed_forward.w3.weight"},
                              [ANEMO_T_DOWN] = {LAYERS, ".feed_forward.w2.weight"}},
    [ANEMO_NAMING_MISTRAL_MOE] =
        {MISTRAL_COMMON, [ANEMO_T_ROUTER] = {LAYERS, ".feed_forward.gate.weight"},
         [ANEMO_T_GATE] = {LAYERS, ".feed_forward.experts.", ".w1.weight"},
         [ANEMO_T_UP] = {LAYERS, ".feed_forward.experts.", ".w3.weight"},
         [ANEMO_T_DOWN] = {LAYERS, ".feed_forward.experts.", ".w2.weight"}},
};

anemo_naming anemo_hf_naming(anemo_arch arch) {
    switch (arch) {
    case ANEMO_ARCH_MIXTRAL:
        return ANEMO_NAMING_HF_MIXTRAL;
    case ANEMO_ARCH_QWEN3MOE:
        return ANEMO_NAMING_HF_QWEN3MOE;
    case ANEMO_ARCH_GPTOSS:
        return ANEMO_NAMING_HF_GPTOSS;
    default:
        return ANEMO_NAMING_HF;
    }
}

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
