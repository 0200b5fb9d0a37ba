/* Inside of `anemo quantize`: quantised rows, and the two containers they are written to. */
#ifndef ANEMO_FORMATS_CONVERT_H
#define ANEMO_FORMATS_CONVERT_H

#include "models/engine.h"
#include "models/formats/internal.h"

#include <stdio.h>

/* ---------------------------------------------------------------- rows */

/* Symmetric linear codes of `n` values under one scale, by the rule of GGML's Q4_0, Q5_0 and Q8_0;
 * codes are canonical (unsigned). *scale: as stored, a half (in a float) or, with f32, a float.
 * 4 and 5 bits: the largest magnitude is exact; 8 bits: max / 127. */
void anemo_quantise_linear(const float *x, int64_t n, int bits, bool f32, float *scale,
                           uint8_t *codes);
/* Are all values numbers whose scale such a type can hold? */
bool anemo_quantise_fits(const float *x, int64_t k, float limit);
/* A row of k values (multiple of 256) as Q4_K or Q6_K blocks, by least squares over a few scales.
 */
void anemo_quantise_q4_k(const float *x, int64_t k, uint8_t *out);
void anemo_quantise_q6_k(const float *x, int64_t k, uint8_t *out);
/* Is this weight stored as rows of exactly that GGML type? */
bool anemo_ggml_is(const anemo_weight *weight, uint32_t type);

/* ---------------------------------------------------------------- a conversion */

typedef struct anemo_conversion {
    const anemo_checkpoint *from;
    const char *to; /* the target as asked for */
    uint32_t ggml;  /* GGUF: the type; else ANEMO_GGML_NONE */
    int bits;       /* of linear codes */
    int64_t group;  /* safetensors: columns per scale, 0: row */
    FILE *file;
    const char *path; /* of the file being written */
    anemo_error *err;
    const anemo_exec *exec; /* threads that make rows; NULL: the caller's alone */
    /* Called after each matrix; false: stop (ANEMO_E_CANCELLED). NULL: nobody asks. */
    bool (*progress)(void *context, double done, double total, const char *tensor);
    void *context;
    double done, total; /* values of matrices */
    int64_t fallbacks;  /* matrices that got another type because their rows do not fit */
    const struct anemo_gguf_vocabulary *vocabulary; /* of a GGUF; NULL: it gets none */
} anemo_conversion;

anemo_status anemo_conversion_put(anemo_conversion *c, const void *data, size_t bytes);
/* Zeros up to the next multiple of `alignment` of *at. */
anemo_status anemo_conversion_pad(anemo_conversion *c, uint64_t *at, uint64_t alignment);
anemo_status anemo_conversion_step(anemo_conversion *c, int64_t values, const char *tensor);
/* Row of the checkpoint that is row `row` of a matrix in a container of this rope pairing. */
int64_t anemo_conversion_row(const anemo_hparams *h, anemo_tensor_role role, int64_t row,
                             int32_t pairing);
/* Number of layers and of experts of a role (1 where it has none). */
int64_t anemo_role_layers(const anemo_hparams *h, anemo_tensor_role role);
int64_t anemo_role_experts(const anemo_hparams *h, anemo_tensor_role role);

anemo_status anemo_write_gguf(anemo_conversion *c);
/* A little-endian number as GGUF has it. */
anemo_status anemo_gguf_put_number(anemo_conversion *c, uint64_t value, int bytes);
anemo_status anemo_gguf_put_string(anemo_conversion *c, const char *text);

/* gguf_put.c: the keys of a file, which are counted before they are written. */
typedef struct anemo_gguf_keys {
    anemo_conversion *c; /* NULL: they are only counted */
    const char *arch;    /* stands before a key that begins with a dot */
    uint64_t n;
    anemo_status status; /* of the first failure, after which nothing is written */
} anemo_gguf_keys;

void anemo_gguf_key_u32(anemo_gguf_keys *keys, const char *key, int64_t value);
void anemo_gguf_key_f32(anemo_gguf_keys *keys, const char *key, double value);
void anemo_gguf_key_bool(anemo_gguf_keys *keys, const char *key, bool value);
void anemo_gguf_key_text(anemo_gguf_keys *keys, const char *key, const char *value);
/* Key and head of an array; its elements follow, if this is true. */
bool anemo_gguf_key_array(anemo_gguf_keys *keys, const char *key, uint32_t element, int64_t n);
void anemo_gguf_element(anemo_gguf_keys *keys, uint64_t value, int bytes);
void anemo_gguf_element_text(anemo_gguf_keys *keys, const char *text, size_t bytes);

/* gguf_keys.c: what an architecture is called and how it lies in GGUF. */
int32_t anemo_gguf_pairing(const anemo_hparams *h);
anemo_naming anemo_gguf_naming(const anemo_hparams *h);
bool anemo_gguf_has_role(const anemo_hparams *h, anemo_tensor_role role);
/* [head_dim / 2]: rope_freqs.weight of a model whose file has no such tensor. */
void anemo_gguf_rope_factors(const anemo_hparams *h, float *out);
/* Refuses by name what no key can say. */
anemo_status anemo_gguf_expressible(const anemo_checkpoint *from, anemo_error *err);
void anemo_gguf_model_keys(anemo_gguf_keys *keys, const anemo_hparams *h);
/* synth_vocabulary.c: a vocabulary of `vocab` made-up tokens. */
enum { ANEMO_SYNTH_VOCABULARY_LEAST = 286 };
void anemo_gguf_synth_vocabulary_keys(anemo_gguf_keys *keys, int64_t vocab);
/* tokenizers/write_gguf_vocabulary.c: the vocabulary of a tokenizer, with `rows` tokens, those of
 * the embedding. ANEMO_E_UNSUPPORTED and the reason where keys cannot say what this tokenizer does.
 * It points into `tokenizer`. */
typedef struct anemo_gguf_vocabulary anemo_gguf_vocabulary;
anemo_status anemo_gguf_vocabulary_make(const anemo_tokenizer *tokenizer, int64_t rows,
                                        anemo_gguf_vocabulary **out, anemo_error *err);
void anemo_gguf_vocabulary_keys(const anemo_gguf_vocabulary *vocabulary, anemo_gguf_keys *keys);
void anemo_gguf_vocabulary_free(anemo_gguf_vocabulary *vocabulary);
/* The weights; config.json is anemo_write_config's (hf_keys.c). */
anemo_status anemo_write_safetensors(anemo_conversion *c);
anemo_status anemo_write_config(anemo_conversion *c);
/* Refuses by name what no Hugging Face form says. */
anemo_status anemo_hf_expressible(const anemo_checkpoint *from, anemo_error *err);

/* checkpoint.c: the first file, where the checkpoint is a GGUF; else NULL. */
const anemo_mapped_file *anemo_checkpoint_gguf(const anemo_checkpoint *checkpoint);

#endif
