/* stories260K, a trained Llama-family model of 260,000 parameters, from llama2.c's own format to
 * GGUF and Hugging Face safetensors. */
#ifndef ANEMO_TEST_STORIES_H
#define ANEMO_TEST_STORIES_H

#include <stdbool.h>
#include <stdint.h>

#define STORIES_EXPERTS 4 /* at most, of the MoE forms */

/* llama2.c: seven int32 and then float32 tensors, each kind for all layers. */
typedef struct stories {
    int32_t d, ffn, layers, heads, kv_heads, vocab, context;
    float *file;
    const float *embed;                           /* [vocab, d], also the output */
    const float *attn_norm, *ffn_norm, *out_norm; /* [layers, d], [layers, d], [d] */
    const float *q, *k, *v, *o;                   /* [layers, rows, columns] */
    const float *gate, *down, *up;
} stories;

/* $ANEMO_TEST_DATA/name, else beside the source; a static buffer. */
const char *stories_data_path(const char *name);
/* False: the file is not there. s->file is malloc'ed. */
bool stories_read(stories *s);
/* experts > 0: so many copies of each feed-forward block and a router. type: a GGML type of
 * ggml_quantise, for each matrix whose rows are whole blocks; the others are F32. */
void stories_write_gguf(const stories *s, int64_t experts, uint32_t type, const char *path);
/* config.json and model.safetensors (F32) in an existing folder. */
void stories_write_hub(const stories *s, int64_t experts, const char *folder);

#endif
