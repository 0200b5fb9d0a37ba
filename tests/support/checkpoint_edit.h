/* Distorted copies of an HF checkpoint (config.json and one model.safetensors), for negative
 * controls: a copy in a temporary directory whose bytes are then edited in place. */
#ifndef TEST_CHECKPOINT_EDIT_H
#define TEST_CHECKPOINT_EDIT_H

#include <stddef.h>
#include <stdint.h>

typedef struct checkpoint_edit {
    char *dir;
    unsigned char *file; /* the whole model.safetensors; written by _save */
    size_t file_bytes;
} checkpoint_edit;

void checkpoint_edit_open(checkpoint_edit *e, const char *checkpoint_dir);
/* Where a tensor lies in e->file. */
unsigned char *checkpoint_edit_tensor(checkpoint_edit *e, const char *name, size_t *bytes);
void checkpoint_edit_swap(checkpoint_edit *e, const char *name_a, const char *name_b);
/* Rows of a q or k matrix from half-split to interleaved order, as if the file had the other rotary
 * pairing. */
void checkpoint_edit_interleave(checkpoint_edit *e, const char *name, int heads, int head_dim);
/* Sets one integer of the copy's config.json. */
void checkpoint_edit_config(checkpoint_edit *e, const char *key, int64_t value);
/* Sets a value of the copy's config.json to this JSON; the path is "key" or "object.key". The key
 * must be there. */
void checkpoint_edit_json(checkpoint_edit *e, const char *path, const char *json);
void checkpoint_edit_save(checkpoint_edit *e);
/* Removes the temporary directory. */
void checkpoint_edit_close(checkpoint_edit *e);

#endif
