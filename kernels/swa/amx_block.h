/* How a block of keys lies in the matrix tiles of AMX (split_amx.h), whatever numbers they hold. */
#ifndef ANEMO_SWA_AMX_BLOCK_H
#define ANEMO_SWA_AMX_BLOCK_H

#include "kernels/amx.h"
#include "kernels/swa/split_rows.h"

enum {
    STRIP = 2 * VL,
    HALF = 16, /* queries, keys or columns of a tile register */
    AMX_TILE_BYTES = 1024
};

/* The key of a slot; NULL where there is none. */
SWA_INLINE const char *key_of(const key_block *b, int slot) {
    return slot < b->lo || slot >= b->hi ? NULL : b->key[slot];
}

#endif
