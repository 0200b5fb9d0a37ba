/* What the files of models/formats/ share: mapped files, tensors as they lie in a file, sentences.
 *
 * Every container parser (safetensors.c, gguf.c) turns a mapped file into a list of anemo_tensor,
 * whose bytes it has proved to lie inside the file; checkpoint.c then needs no container knowledge
 * but names. The element type of a tensor is a GGML type number for every container, because that
 * numbering is the superset; ANEMO_GGML_NONE stands for types that only safetensors knows. */
#ifndef ANEMO_FORMATS_INTERNAL_H
#define ANEMO_FORMATS_INTERNAL_H

#include "models/formats/checkpoint.h"

#include <string.h>

#define ANEMO_TRY(call)                                                                            \
    do {                                                                                           \
        const anemo_status try_status_ = (call);                                                   \
        if (try_status_ != ANEMO_OK)                                                               \
            return try_status_;                                                                    \
    } while (0)

/* ---------------------------------------------------------------- untrusted text in sentences */

/* At most 80 bytes of text from a file, control bytes shown as '?', cut at "...". Used as
 * anemo_show(name).text inside a call: the copy lives until the end of the full expression. */
typedef struct anemo_shown {
    char text[84];
} anemo_shown;
anemo_shown anemo_show_bytes(const void *bytes, size_t n);
anemo_shown anemo_show(const char *text);
/* The last 160 bytes of a path, likewise: enough to find the file, short enough for a sentence. */
typedef struct anemo_shown_path {
    char text[161];
} anemo_shown_path;
anemo_shown_path anemo_show_path(const char *path);

/* ---------------------------------------------------------------- files */

typedef struct anemo_mapped_file {
    char *path; /* as anemo_show_path() gives it, for sentences */
    const uint8_t *data;
    size_t bytes;
    int64_t mtime_ns; /* when it was mapped */
} anemo_mapped_file;

/* Maps a regular file read-only. Missing, unreadable, not a regular file, empty: ANEMO_E_INPUT. */
anemo_status anemo_map_open(const char *path, anemo_mapped_file *out, anemo_error *err);
/* anemo_checkpoint_expect() of one file. */
void anemo_map_expect(const anemo_mapped_file *file, bool in_order);
void anemo_map_close(anemo_mapped_file *file);
/* directory/name, malloc'ed; NULL without memory. */
char *anemo_join_path(const char *directory, const char *name);

/* ---------------------------------------------------------------- unaligned little-endian loads */

static inline uint16_t anemo_load_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t anemo_load_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t anemo_load_u64(const uint8_t *p) {
    return (uint64_t)anemo_load_u32(p) | (uint64_t)anemo_load_u32(p + 4) << 32;
}

/* ---------------------------------------------------------------- half precision */

static inline float anemo_bits_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline uint32_t anemo_f32_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
/* Exact. A normal number's exponent is rebiased; a subnormal one is given the exponent -14 and its
 * implied one is subtracted again, which needs no subnormal arithmetic (slow on many CPUs). No
 * table and no branch, so loops over it vectorise. */
static inline float anemo_f16_f32(uint16_t half) {
    const uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13, exponent = half & 0x7c00u;
    const uint32_t subnormal = anemo_f32_bits(anemo_bits_f32(magnitude + 0x38800000u) - 0x1p-14f);
    const uint32_t normal = magnitude + 0x38000000u + (exponent == 0x7c00u) * 0x38000000u;
    const uint32_t is_subnormal = 0u - (exponent == 0); /* masks, or the compiler makes a branch */
    return anemo_bits_f32((uint32_t)(half & 0x8000u) << 16 | (normal & ~is_subnormal) |
                          (subnormal & is_subnormal));
}
static inline float anemo_bf16_f32(uint16_t bf16) {
    return anemo_bits_f32((uint32_t)bf16 << 16);
}
/* 2^(exponent - 128): half the E8M0 scale, for tables of doubled FP4 values. Exponents 0 and 1 give
 * subnormal floats; 255, which is NaN to the OCP specification, gives 2^127, as in GGML. */
static inline float anemo_e8m0_half(uint8_t exponent) {
    return anemo_bits_f32(exponent < 2 ? 0x00200000u << exponent : (exponent - 1u) << 23);
}
/* The same for the values of a block: one of zeros only may have exponent 0, whose 2^-128 the
 * layouts cannot hold; any scale makes its values. */
static inline float anemo_e8m0_scale(uint8_t exponent, bool any) {
    return anemo_e8m0_half(exponent == 0 && !any ? 1 : exponent);
}
#define ANEMO_FP4_DOUBLED 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12
uint16_t anemo_f32_f16(float value); /* round to nearest, ties to even; overflow gives infinity */

/* ---------------------------------------------------------------- tensors */

enum {
    ANEMO_GGML_F32 = 0,
    ANEMO_GGML_F16 = 1,
    ANEMO_GGML_Q4_0 = 2,
    ANEMO_GGML_Q4_1 = 3,
    ANEMO_GGML_Q5_0 = 6,
    ANEMO_GGML_Q5_1 = 7,
    ANEMO_GGML_Q8_0 = 8,
    ANEMO_GGML_Q4_K = 12,
    ANEMO_GGML_Q5_K = 13,
    ANEMO_GGML_Q6_K = 14,
    ANEMO_GGML_IQ4_NL = 20,
    ANEMO_GGML_BF16 = 30,
    ANEMO_GGML_MXFP4 = 39
};
#define ANEMO_GGML_NONE   UINT32_MAX
#define ANEMO_TENSOR_RANK 8
#define ANEMO_COUNT_LIMIT 1000000
#define ANEMO_ACCEPTED_TYPES                                                                       \
    "F32, F16, BF16, and in GGUF Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_NL and MXFP4"

struct anemo_packed;

typedef struct anemo_tensor {
    char *name; /* owned */
    const char *type_name;
    const char *path; /* of its file, owned by the file */
    const uint8_t *data;
    size_t bytes;
    uint32_t type; /* GGML number or ANEMO_GGML_NONE */
    int32_t rank;
    int64_t shape[ANEMO_TENSOR_RANK]; /* slowest dimension first */
    bool used;                        /* asked for by the architecture */
    /* A matrix that several tensors make up (packed.h), or NULL; then data and bytes are unused. */
    const struct anemo_packed *packed;
} anemo_tensor;

typedef struct anemo_tensors {
    anemo_tensor *items;
    size_t n, capacity;
} anemo_tensors;

/* Appends a copy of `tensor`, whose `name` (name_bytes long, without NUL inside) is copied too. */
anemo_status anemo_tensors_add(anemo_tensors *tensors, const anemo_tensor *tensor, const char *name,
                               size_t name_bytes, anemo_error *err);
/* Sorts by name for _find and refuses two tensors of one name. */
anemo_status anemo_tensors_index(anemo_tensors *tensors, anemo_error *err);
anemo_tensor *anemo_tensors_find(const anemo_tensors *tensors, const char *name);
/* Sorts by address in the file, empty tensors first: neighbours are then neighbours in the file. */
void anemo_tensors_by_position(anemo_tensor *items, size_t n);
void anemo_tensors_free(anemo_tensors *tensors);
/* "[64, 128]" */
anemo_shown anemo_show_shape(int32_t rank, const int64_t *shape);

/* The canonical weight over `n` rows of k values of a supported GGML type at `data`. */
void anemo_ggml_weight(uint32_t type, const void *data, int64_t n, int64_t k, anemo_weight *out);

/* The canonical weight [n, k] over columns of a row-major [k, step * n] matrix of float values:
 * row r is column r * step (data points at the first). */
void anemo_transposed_weight(uint32_t type, const void *data, int64_t n, int64_t k, int64_t step,
                             anemo_weight *out);

/* Multimodal checkpoints: gives the text path's tensors the names of a text model, takes the
 * vision tower's out of the list, and says what was taken out. Indexes anew. */
anemo_status anemo_text_tensors(anemo_tensors *tensors, char *skipped, size_t skipped_bytes,
                                anemo_error *err);

/* ---------------------------------------------------------------- sha256 */

typedef struct anemo_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
} anemo_sha256;
void anemo_sha256_init(anemo_sha256 *sha);
void anemo_sha256_update(anemo_sha256 *sha, const void *data, size_t bytes);
void anemo_sha256_hex(anemo_sha256 *sha, char hex[65]); /* finishes */

/* ---------------------------------------------------------------- roles */

typedef struct anemo_role_info {
    bool vector, per_layer, per_expert;
    const char *shape; /* in words, for sentences */
    uint32_t families; /* bit: anemo_arch that has it; 0 = all */
} anemo_role_info;
extern const anemo_role_info anemo_roles[ANEMO_T_COUNT];
/* Rows and columns of a role; a vector is one row. */
void anemo_role_shape(const anemo_hparams *h, anemo_tensor_role role, int64_t *n, int64_t *k);

typedef enum anemo_naming {
    ANEMO_NAMING_HF,
    ANEMO_NAMING_HF_MIXTRAL,
    ANEMO_NAMING_HF_QWEN3MOE,
    ANEMO_NAMING_HF_GPTOSS, /* experts merged, [input, output], gate and up interleaved */
    ANEMO_NAMING_GGUF,
    ANEMO_NAMING_GGUF_EXPERTS, /* each expert a tensor */
    ANEMO_NAMING_GGUF_MERGED,  /* the experts of a layer in one tensor, expert slowest */
    ANEMO_NAMING_GGUF_GPTOSS,
    ANEMO_NAMING_MISTRAL, /* consolidated.safetensors */
    ANEMO_NAMING_MISTRAL_MOE
} anemo_naming;
anemo_naming anemo_hf_naming(anemo_arch arch); /* of Hugging Face's safetensors */
#define ANEMO_ROLE_NAME_BYTES 128
void anemo_role_name(anemo_naming naming, anemo_tensor_role role, int64_t layer, int64_t expert,
                     char name[ANEMO_ROLE_NAME_BYTES]);

/* ---------------------------------------------------------------- containers */

/* Sanity limits of every hyper-parameter, shared by all containers. */
typedef struct anemo_hparam_names { /* the container's words, for sentences */
    const char *vocab, *d, *ffn, *layers, *heads, *kv_heads, *head_dim, *experts,
        *experts_per_token, *window, *context_max, *rms_eps, *rope_theta, *bos, *eos;
} anemo_hparam_names;
anemo_status anemo_hparams_check(const char *path, const anemo_hparam_names *names,
                                 const anemo_hparams *hparams, anemo_error *err);

/* config.json -> hparams (rope_pairing HALF); of a multimodal model its text_config. */
anemo_status anemo_hf_config(const char *path, const void *json, size_t bytes, anemo_hparams *out,
                             anemo_error *err);

/* Validates a mapped safetensors file and appends its tensors; *header_bytes is what identity
 * covers. */
anemo_status anemo_safetensors_parse(const anemo_mapped_file *file, anemo_tensors *tensors,
                                     size_t *header_bytes, anemo_error *err);
/* The sorted distinct shard names of an index, and for each tensor its shard. */
typedef struct anemo_shard_index {
    char **names;
    size_t n;
    void *weight_map; /* json_t */
} anemo_shard_index;
anemo_status anemo_shard_index_parse(const char *path, const void *json, size_t bytes,
                                     anemo_shard_index *out, anemo_error *err);
/* Every tensor where weight_map says, nothing else in the shards. */
anemo_status anemo_shard_index_check(const anemo_shard_index *index, const char *path,
                                     const anemo_tensors *tensors, anemo_error *err);
void anemo_shard_index_free(anemo_shard_index *index);

/* ---------------------------------------------------------------- synthetic models */

#define ANEMO_SYNTH_PREFIX "synth:"
#define ANEMO_SYNTH_FORM   "synth:PRESET|CONFIG.json:TYPE[:layers=N][:d=N]..."
typedef struct anemo_synth_type {
    const char *name;
    anemo_weight_type type;
    uint32_t ggml; /* the same in a GGUF file, or ANEMO_GGML_NONE */
} anemo_synth_type;
/* uri starts with the prefix. */
anemo_status anemo_synth_parse(const char *uri, anemo_hparams *out, const anemo_synth_type **type,
                               anemo_error *err);
/* The role's matrix [n, k]; needs no storage and no checkpoint. */
void anemo_synth_weight(const anemo_synth_type *type, anemo_tensor_role role, int64_t layer,
                        int64_t expert, int64_t n, int64_t k, anemo_weight *out);

#endif
