/* Float weights in the bf16 tiles of tile_amx16.h, over float_n32: what w16a16 and w16a32 share.
 *
 * bf16 weights are multiplied where they lie: a pair of columns of 32 rows is what the tile wants.
 * A chunk that does not end with 32 columns, and one of f16 or f32, goes through the panel; those
 * two are rounded there. */
#ifndef ANEMO_FLOAT_AMXBF16_H
#define ANEMO_FLOAT_AMXBF16_H

#include "kernels/qgemm/pairs_avx512bf16.h"

#define AMX16_BF16 1
#include "kernels/qgemm/tile_amx16.h"

static bool float_lies_right(const anemo_n32_tile *t) {
    return t->type->code == ANEMO_CODE_BF16 && t->columns % AMX16_DEPTH == 0;
}

static void float_decode(const anemo_n32_tile *t, uint8_t *panel) {
    if (float_lies_right(t)) {
        return;
    }
    const int64_t pairs = bf16_pairs_of(t, panel);
    const int64_t filled = anemo_round_up(t->columns, AMX16_DEPTH) / 2;
    memset(panel + pairs * BF16_PAIR_BYTES, 0, (size_t)(filled - pairs) * BF16_PAIR_BYTES);
}

static void float_tile(int64_t rows, const anemo_n32_tile *t) {
    const uint8_t *block = t->block + anemo_float_n32_bytes(t->type, t->column);
    amx16_tile_rows(rows, t, float_lies_right(t) ? block : t->panel);
}

/* The form, with how a chunk of x is copied, and what is accepted (or NULL). */
#define ANEMO_FLOAT_AMX_BF16_FORM(x_chunk_, accepts_)                                              \
    static const anemo_n32_form form = {                                                           \
        .tile_rows = ANEMO_AMX_ROWS,                                                               \
        .chunk = AMX16_CHUNK,                                                                      \
        .blocks = AMX16_BLOCKS, \
        .starts_sums = true,                                                                       \
        .panel_bytes = AMX16_PANEL_BYTES,                                                          \
        .block_bytes = anemo_float_n32_bytes,                                                      \
        .decode = float_decode,                                                                    \
        .tile = float_tile,                                                                        \
        .leave = anemo_amx_leave,                                                                  \
        .x_chunk_bytes = AMX16_X_BYTES,                                                            \
        .x_chunk = x_chunk_,                                                                       \
        .accepts = accepts_,                                                                       \
    };

#define ANEMO_FLOAT_AMX_BF16_NEEDS (ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_BF16 | ANEMO_CPU_AMX_BF16)

#endif
