/* Float weights in the bf16 tiles of tile_amx16.h, over float_n32: what w16a16 and w16a32 share.
 *
 * bf16 weights are multiplied where they lie: a pair of columns of 32 rows is what the tile wants.
 * A chunk that does not end with 32 columns, and one of f16 or f32, goes through the panel; those
 * two are rounded there. */
#ifndef ANEMO_FLOAT_AMXBF16_H
#define ANEMO_FLOAT_AMXBF16_H

#include "kernels/qgemm/pairs_avx512bf16.h"

#define AMX16_BF16 1 /* AMX16_TERMS: 3 for floats, all 24 bits of them */
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

/* 16 columns of x as AMX16_TERMS terms, each what those before it leave. */
static inline void float_terms(__m512 rest, uint8_t *to) {
    for (int term = 0; term < AMX16_TERMS; term++, to += AMX16_TERM_BYTES) {
        const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(rest);
        const __m512i upper = _mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16);
        rest = _mm512_sub_ps(rest, _mm512_castsi512_ps(upper));
        _mm256_storeu_si256((void *)to, rounded);
    }
}

/* A chunk of x, of floats, from `column` on: [term][columns], zeros up to 32. */
static inline void float_x_chunk(const uint8_t *row, int64_t k, int64_t column, float scale,
                                 uint8_t *to) {
    (void)scale;
    const int64_t filled = anemo_round_up(k - column, 32);
    for (int64_t i = 0; i < AMX16_CHUNK && i < filled; i += 16) {
        const int64_t left = k - column - i;
        const __mmask16 mask = left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
        float_terms(_mm512_maskz_loadu_ps(mask, row + 4 * (column + i)), to + 2 * i);
    }
}

/* The form, with how a chunk of x is copied, and what is accepted (or NULL). */
#define ANEMO_FLOAT_AMX_BF16_FORM(x_chunk_, accepts_)                                              \
    static const anemo_n32_form form = {                                                           \
        .tile_rows = ANEMO_AMX_ROWS,                                                               \
        .chunk = AMX16_CHUNK,                                                                      \
        .blocks = AMX16_BLOCKS,                                                                    \
        .stretch = AMX16_TERMS > 1 ? 256 : 0, /* L2 holds its chunk of x, and sums */              \
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
