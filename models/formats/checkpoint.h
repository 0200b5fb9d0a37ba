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
    ANEMO_ARCH_MISTRAL,
    ANEMO_ARCH_MIXTRAL
} anemo_arch; /* Llama files with the same maths are MISTRAL */

typedef struct anemo_hparams {
    anemo_arch arch;
    int64_t vocab, d, ffn, layers, heads, kv_heads, head_dim;
    int64_t experts, experts_per_token; /* 0, 0: dense */
    int64_t window;                     /* 0 = none */
    int64_t context_max;
    double rms_eps, rope_theta;
    int32_t rope_pairing;       /* anemo_rope_pairing: of the container */
    bool tied;                  /* output matrix = embedding */
    int32_t bos, eos[8], n_eos; /* bos -1: none */
} anemo_hparams;

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
    ANEMO_T_COUNT
} anemo_tensor_role;

/* path: HF directory, .gguf file, or "synth:PRESET:TYPE[:layers=N]" (synth.c). All
 * hyper-parameters, and that every tensor the architecture needs is there with the right shape and
 * a supported type, are checked here. */
anemo_status anemo_checkpoint_open(const char *path, anemo_checkpoint **out, anemo_error *err);
void anemo_checkpoint_close(anemo_checkpoint *checkpoint);
const anemo_hparams *anemo_checkpoint_hparams(const anemo_checkpoint *checkpoint);
const char *anemo_checkpoint_path(const anemo_checkpoint *checkpoint);
bool anemo_checkpoint_synthetic(const anemo_checkpoint *checkpoint);
/* sha256 (hex, 64 + NUL) over config and weight headers (all shards, in order of name; of a .gguf
 * everything before the data): identity, not integrity. "" for synth. */
const char *anemo_checkpoint_identity(const anemo_checkpoint *checkpoint);
/* The file that holds the tokenizer (the .gguf itself, tokenizer.json, tokenizer.model), or NULL
 * and why. */
const char *anemo_checkpoint_tokenizer_path(const anemo_checkpoint *checkpoint, anemo_error *why);

/* A matrix as canonical weight; layer and expert are ignored where the role has none. Valid until
 * close. */
anemo_status anemo_checkpoint_weight(const anemo_checkpoint *checkpoint, anemo_tensor_role role,
                                     int64_t layer, int64_t expert, anemo_weight *out,
                                     anemo_error *err);
/* A vector (norms), converted to float. */
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
