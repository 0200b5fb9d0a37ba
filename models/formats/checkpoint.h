/* A checkpoint: hyper-parameters and named tensors of a model, whatever container they came in.
 *
 * Files are untrusted: every length, offset, shape and count is validated before use; a bad file
 * gives one sentence naming file, field, value and what is accepted, and no half-open checkpoint.
 * Weight data is mapped, not copied: a file must not be truncated while it is open. */
#ifndef ANEMO_CHECKPOINT_H
#define ANEMO_CHECKPOINT_H

#include "kernels/kernel.h"

typedef struct anemo_checkpoint anemo_checkpoint;

typedef enum anemo_arch {
    ANEMO_ARCH_MISTRAL, /* and GGUF Llama files with the same maths */
    ANEMO_ARCH_MIXTRAL,
    ANEMO_ARCH_LLAMA,      /* Llama 3: scaled RoPE */
    ANEMO_ARCH_MINISTRAL,  /* Ministral 8B: windowed and full layers */
    ANEMO_ARCH_MINISTRAL3, /* YaRN, query temperature */
    ANEMO_ARCH_QWEN3MOE,   /* norms of q and k */
    ANEMO_ARCH_GPTOSS,     /* alternating window, sinks, biases, clamped activation */
    ANEMO_ARCH_COUNT
} anemo_arch;
const char *anemo_arch_name(anemo_arch arch); /* "mistral", "gpt-oss" */

/* How the frequencies theta^(-2i/d) are changed (models/engine/rope.c). */
typedef enum anemo_rope_kind {
    ANEMO_ROPE_PLAIN,
    ANEMO_ROPE_LLAMA3, /* low, high: low_freq_factor, high_freq_factor */
    ANEMO_ROPE_YARN,   /* low, high: beta_slow, beta_fast */
    ANEMO_ROPE_FACTORS /* each divided by a factor of the file: GGUF's rope_freqs.weight */
} anemo_rope_kind;
typedef struct anemo_rope_scaling {
    int32_t kind;  /* anemo_rope_kind */
    bool truncate; /* YaRN: the ramp begins and ends at whole pairs */
    double factor, low, high, original_context;
    double magnitude; /* of cos and sin; 0 means 1 */
} anemo_rope_scaling;

#define ANEMO_LAYERS_MAX 4096

typedef struct anemo_hparams {
    anemo_arch arch;
    int64_t vocab, d, ffn, layers, heads, kv_heads, head_dim;
    int64_t experts, experts_per_token; /* 0, 0: dense */
    int64_t window;                     /* 0 = none; of the layers that have one */
    int64_t context_max;
    double rms_eps, rope_theta;
    int32_t rope_pairing;       /* anemo_rope_pairing: of the container */
    bool tied;                  /* output matrix = embedding */
    int32_t bos, eos[8], n_eos; /* bos -1: none */
    anemo_rope_scaling rope;
    bool multimodal;  /* the text path of a larger checkpoint: anemo_text_tensors() */
    bool raw_weights; /* MoE: the chosen experts' weights are not renormalised */
    /* q *= 1 + temperature * ln(1 + floor(position / temperature_period)); 0 = not */
    double temperature;
    int64_t temperature_period;
    uint8_t full_layers[ANEMO_LAYERS_MAX / 8]; /* bit: this layer has no window */
} anemo_hparams;

int64_t anemo_layer_window(const anemo_hparams *hparams, int64_t layer); /* 0 = none */
int64_t anemo_full_layers(const anemo_hparams *hparams);                 /* without a window */
void anemo_set_full_layer(anemo_hparams *hparams, int64_t layer);

typedef enum anemo_tensor_role {
    ANEMO_T_EMBED,       /* [vocab, d] */
    ANEMO_T_OUTPUT_NORM, /* [d] */
    ANEMO_T_OUTPUT,      /* [vocab, d]; tied: the embedding */
    ANEMO_T_ATTN_NORM,   /* [d] */
    ANEMO_T_Q,           /* [heads * head_dim, d] */
    ANEMO_T_K,           /* [kv_heads * head_dim, d] */
    ANEMO_T_V,           /* [kv_heads * head_dim, d] */
    ANEMO_T_O,           /* [d, heads * head_dim] */
    ANEMO_T_FFN_NORM,    /* [d] */
    ANEMO_T_ROUTER,      /* [experts, d] */
    ANEMO_T_GATE,        /* [ffn, d]     (w1), per expert when MoE */
    ANEMO_T_UP,          /* [ffn, d]     (w3) */
    ANEMO_T_DOWN,        /* [d, ffn]     (w2) */
    /* Vectors that only some families have. */
    ANEMO_T_Q_NORM,       /* [head_dim], of each head */
    ANEMO_T_K_NORM,       /* [head_dim] */
    ANEMO_T_Q_BIAS,       /* [heads * head_dim] */
    ANEMO_T_K_BIAS,       /* [kv_heads * head_dim] */
    ANEMO_T_V_BIAS,       /* [kv_heads * head_dim] */
    ANEMO_T_O_BIAS,       /* [d] */
    ANEMO_T_SINKS,        /* [heads] */
    ANEMO_T_ROUTER_BIAS,  /* [experts] */
    ANEMO_T_GATE_BIAS,    /* [experts, ffn] */
    ANEMO_T_UP_BIAS,      /* [experts, ffn] */
    ANEMO_T_DOWN_BIAS,    /* [experts, d] */
    ANEMO_T_ROPE_FACTORS, /* [head_dim / 2], one for the model */
    ANEMO_T_COUNT
} anemo_tensor_role;

/* path: HF directory, .gguf file, or "synth:PRESET:TYPE..." (synth_uri.c). All
 * hyper-parameters, and that every tensor the architecture needs is there with the right shape and
 * a supported type, are checked here. */
anemo_status anemo_checkpoint_open(const char *path, anemo_checkpoint **out, anemo_error *err);
void anemo_checkpoint_close(anemo_checkpoint *checkpoint);
/* How weights will be read: everything in order (as it is after opening), or here and there a row,
 * so that the kernel need not read ahead. Advice: values are the same either way. */
void anemo_checkpoint_expect(const anemo_checkpoint *checkpoint, bool in_order);
const anemo_hparams *anemo_checkpoint_hparams(const anemo_checkpoint *checkpoint);
const char *anemo_checkpoint_path(const anemo_checkpoint *checkpoint);
/* What a synthetic model is made of; NULL: it lies in files. */
const struct anemo_synth_type *anemo_checkpoint_synthetic(const anemo_checkpoint *checkpoint);
/* sha256 (hex, 64 + NUL) over config and weight headers (all shards, in order of name; of a .gguf
 * everything before the data): identity, not integrity. "" for synth. */
const char *anemo_checkpoint_identity(const anemo_checkpoint *checkpoint);
/* A line for each mapped file of the model: name, bytes, time of its last change in ns; and its
 * identity. What is kept beside a model holds only while this text is the same. malloc'ed; NULL
 * without memory. */
char *anemo_checkpoint_stamp(const anemo_checkpoint *checkpoint);
/* The file that holds the tokenizer (the .gguf itself, tokenizer.json, tokenizer.model), or NULL
 * and why. */
const char *anemo_checkpoint_tokenizer_path(const anemo_checkpoint *checkpoint, anemo_error *why);

/* A matrix as canonical weight; layer and expert are ignored where the role has none. Valid until
 * close. */
anemo_status anemo_checkpoint_weight(const anemo_checkpoint *checkpoint, anemo_tensor_role role,
                                     int64_t layer, int64_t expert, anemo_weight *out,
                                     anemo_error *err);
/* Does a model with these hyper-parameters have this role? */
bool anemo_has_role(const anemo_hparams *hparams, anemo_tensor_role role);
/* Values of a vector role, all experts together; 0 for a matrix. */
int64_t anemo_role_values(const anemo_hparams *hparams, anemo_tensor_role role);
/* What was left out of a multimodal checkpoint, whose text path this is: "vision_tower.* (218
 * tensors), ..."; "" when nothing was. */
const char *anemo_checkpoint_skipped(const anemo_checkpoint *checkpoint);
/* A vector (norms, biases, sinks), converted to float; n = anemo_role_values(). */
anemo_status anemo_checkpoint_vector(const anemo_checkpoint *checkpoint, anemo_tensor_role role,
                                     int64_t layer, float *out, int64_t n, anemo_error *err);

/* A GGML type by number: its weight type, values and bytes of a block, and name. false: not
 * supported; then block, bytes and name are still set where the type is known, else 0 and NULL. */
bool anemo_ggml_type(uint32_t ggml_type, anemo_weight_type *type, int64_t *block,
                     int64_t *block_bytes, const char **name);

/* Requantises a weight into freshly allocated GGML blocks: "q8_0" or "q4_0" (k % 32 == 0 required),
 * bit-identical to GGML's own quantiser; ANEMO_E_INPUT where a value is not finite or too large.
 * *storage is malloc'ed and owned by the caller; *out reads from it. */
anemo_status anemo_requantise(const anemo_weight *weight, const char *type, anemo_weight *out,
                              void **storage, anemo_error *err);

#endif
