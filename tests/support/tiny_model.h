/* Complete models of a few kilobytes whose every value is known, in every container and type. */
#ifndef ANEMO_TEST_TINY_MODEL_H
#define ANEMO_TEST_TINY_MODEL_H

#include "models/formats/internal.h"
#include "tests/support/gguf_write.h"
#include "tests/support/safetensors_write.h"

/* 1 layer, d 32, ffn 64, 4 heads on 2, head_dim 16, vocabulary 8; `experts` 0 (dense) or a number
 * of which 2 are used. */
anemo_hparams tiny_hparams(int64_t experts);

/* What a file of this GGML type holds at [row, column]: exact in each of the types. */
float tiny_value(uint32_t type, anemo_tensor_role role, int64_t layer, int64_t expert, int64_t row,
                 int64_t column);
/* The type that a role has in a tiny GGUF of `type`: norms and router are F32. */
uint32_t tiny_gguf_type(uint32_t type, anemo_tensor_role role);

char *tiny_config(const anemo_hparams *h); /* config.json, malloc'ed */
safetensors_writer *tiny_safetensors(const anemo_hparams *h, uint32_t type);
void tiny_gguf_keys(gguf_writer *writer, const anemo_hparams *h);
gguf_writer *tiny_gguf(const anemo_hparams *h, anemo_naming naming, uint32_t type);

/* folder/config.json and folder/model.safetensors */
void tiny_write_directory(const char *folder, const anemo_hparams *h, uint32_t type);
/* folder/name; returns the path in a static buffer, the last four of which are valid */
const char *tiny_path(const char *folder, const char *name);

#endif
