/* The tile of tile_amx16.h on bf16, for weights of any group: what w4a16, w8a16 and w16a16 share.
 *
 *     w = bf16(s c - o)     one rounding, of at most 2^-8; codes, scales and offsets are exact
 *
 * so a product is off by two roundings, of x and of w, 0.0016 of it each (root mean square), where
 * an 8-bit activation is off by up to max|x| / 254 of its group: 0.005 of x for normal x in groups
 * of 32. It is the more accurate of the two. bf16 weights need no panel, their layout float_n32 is
 * one already.
 *
 * Why not integers: there, sums have to leave the tile registers at the end of each group, which
 * for groups of 32 costs three times the multiplication (tile_amxint8.h). Here a group costs
 * nothing, and bf16 has half the rate of int8.
 *
 * Decoding 32 x 32 weights takes as long as 70 rows of x, half of it on the one port that shuffles,
 * so it is worth its while from 32 to 64 rows on, where a plan takes it (before tile_amxfp16.h,
 * where that fits); a batch-invariant plan does not, since a token's bits would depend on the batch
 * it came in. Granite Rapids, 14336 x 4096, times the VNNI tile:
 *
 *              q4_0    q8_0    q4_k    q5_k    q6_k    mxfp4
 *   m = 32     1.10    0.68    1.23    0.96    1.21    1.23
 *   m = 64     1.69    1.05    1.98    1.69    2.12    1.91
 *   m = 128    2.22    1.62    2.68    2.54    3.14    2.60
 *   m = 512    2.64    2.25    3.24    3.58    4.33    3.32 */
#ifndef ANEMO_TILE_AMXBF16_H
#define ANEMO_TILE_AMXBF16_H

#include "kernels/qgemm/pairs_avx512bf16.h"
#include "kernels/qgemm/tile_avx512vnni.h"

#define AMX16_DP(sum, a, b) _tile_dpbf16ps(sum, a, b)
#include "kernels/qgemm/tile_amx16.h"

enum {
    ANEMO_AMX_BF16_FROM_W8 = 64, /* rows of x from which a plan takes it: plain codes */
    ANEMO_AMX_BF16_FROM_W4 = 48, /* and 5 bits */
    ANEMO_AMX_BF16_FROM_OTHER = 32
};

/* ---------------------------------------------------------------- the panel */

/* How columns of 16 rows become floats; `code` as in tile_avx512vnni.h. */
typedef struct amx_codes {
    int code;
    __m512 value;  /* of nibbles: what a lookup gives */
    __m512 middle; /* what is taken from each */
} amx_codes;

ANEMO_N32_INLINE amx_codes amx_codes_of(int code, const anemo_n32_shape *s) {
    amx_codes c = {.code = code, .middle = _mm512_setzero_ps()};
    c.value = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    if (code == VNNI_TABLE) {
        c.value = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)s->table)));
        c.value = _mm512_sub_ps(c.value, _mm512_set1_ps(128.0f));
    } else if (!s->has_minimum && !s->has_zero) {
        c.middle = _mm512_set1_ps((float)(1 << (s->bits - 1)));
    }
    return c;
}

/* Codes of step `step` of the 32 columns at w, rows 16 v .. 16 v + 15: as they lie for nibbles,
 * which a lookup finds in the low four bits of a lane, else a byte each, columns 0-3 and 4-7. */
ANEMO_N32_INLINE void amx_load(int code, const uint8_t *w, int step, int v, __m512i codes[2]) {
    if (code == 4 || code == VNNI_TABLE) {
        codes[0] = _mm512_loadu_si512(w + 128 * step + 64 * v);
        codes[1] = _mm512_srli_epi32(codes[0], 4);
        return;
    }
    __m512i low[2], high[2];
    vnni_decode(code, false, w, step, _mm512_setzero_si512(), low, high);
    codes[0] = low[v];
    codes[1] = high[v];
}

/* s c - o of a column: byte `byte` of each lane. */
ANEMO_N32_INLINE __m512 amx_column(const amx_codes *c, __m512i codes, int byte, __m512 scale,
                                   __m512 shift) {
    codes = _mm512_srli_epi32(codes, (unsigned)(8 * byte));
    const __m512 value = c->code == 4 || c->code == VNNI_TABLE
                             ? _mm512_permutexvar_ps(codes, c->value)
                             : _mm512_cvtepi32_ps(_mm512_and_si512(codes, _mm512_set1_epi32(255)));
    return _mm512_fmsub_ps(value, scale, shift);
}

/* Steps first and first + 1 of the 32 columns at w, rows 16 v .. 16 v + 15, in one group. */
ANEMO_N32_INLINE uint8_t *amx_decode_16(const amx_codes *c, const uint8_t *w, int first, int v,
                                        __m512 scale, __m512 offset, uint8_t *to) {
    const __m512 shift = _mm512_fmadd_ps(scale, c->middle, offset); /* exact: one is 0 */
    ANEMO_N32_UNROLL
    for (int step = first; step < first + 2; step++) {
        __m512i codes[2];
        amx_load(c->code, w, step, v, codes);
        ANEMO_N32_UNROLL
        for (int column = 0; column < 8; column += 2, to += BF16_PAIR_BYTES) {
            const __m512i four = codes[column / 4];
            _mm512_store_si512(to, bf16_pair(amx_column(c, four, column % 4, scale, shift),
                                             amx_column(c, four, column % 4 + 1, scale, shift)));
        }
    }
    return to;
}

/* The columns of a chunk, rounded up to 32: the layout ends with codes and scales of 0. */
ANEMO_N32_INLINE void amx_decode_codes_bf16(int code, const anemo_n32_tile *t, uint8_t *panel) {
    const anemo_n32_shape s = *t->shape;
    const amx_codes c = amx_codes_of(code, &s);
    const bool has_offset = s.has_minimum || s.has_zero;
    anemo_n32_place at = anemo_n32_place_at(&s, t->block, t->column);
    int64_t group = t->column / s.group, left = s.group - t->column % s.group;
    __m512 scale[2], offset[2];
    vnni_scales(&s, t->block, at.header, at.scales, group, has_offset, scale, offset);
    for (int64_t column = 0; column < t->columns; column += 32) {
        uint8_t *to[2] = {panel, panel + 64};
        ANEMO_N32_UNROLL
        for (int half = 0; half < 2; half++) {
            if (left == 0 && group + 1 < s.groups) {
                anemo_n32_next_group(&s, &at);
                vnni_scales(&s, t->block, at.header, at.scales, ++group, has_offset, scale, offset);
                left = s.group;
            }
            for (int v = 0; v < 2; v++) {
                to[v] = amx_decode_16(&c, at.w, 2 * half, v, scale[v], offset[v], to[v]);
            }
            left -= left > 16 ? 16 : left;
        }
        at.w += 4 * s.step_bytes;
        panel += 16 * BF16_PAIR_BYTES;
    }
}

/* ---------------------------------------------------------------- the variant */

/* A chunk of x from `column` on; the record is padded with zeros to 32. */
static inline void amx16_x_chunk(const uint8_t *row, int64_t k, int64_t column, float scale,
                                 uint8_t *to) {
    (void)scale;
    const int64_t left = anemo_round_up(k, 32) - column;
    memcpy(to, row + 2 * column, (size_t)(2 * (left < AMX16_CHUNK ? left : AMX16_CHUNK)));
}

/* Defines `form` for weights of n32 codes of `width` bits. */
#define ANEMO_AMX_BF16_FORM(width)                                                                 \
    static size_t block_bytes(const anemo_weight_type *type, int64_t k) {                          \
        return anemo_n32_shape_of(type, k).block_bytes;                                            \
    }                                                                                              \
    static void decode(const anemo_n32_tile *t, uint8_t *panel) {                                  \
        amx_decode_codes_bf16(width, t, panel);                                                    \
    }                                                                                              \
    static void tile(int64_t rows, const anemo_n32_tile *t) {                                      \
        amx16_tile_rows(rows, t, t->panel);                                                        \
    }                                                                                              \
    static const anemo_n32_form form = {                                                           \
        .tile_rows = ANEMO_AMX_ROWS,                                                               \
        .chunk = AMX16_CHUNK,                                                                      \
        .blocks = AMX16_BLOCKS,                                                                    \
        .starts_sums = true,                                                                       \
        .panel_bytes = AMX16_PANEL_BYTES,                                                          \
        .of_codes = true,                                                                          \
        .block_bytes = block_bytes,                                                                \
        .decode = decode,                                                                          \
        .tile = tile,                                                                              \
        .leave = anemo_amx_leave,                                                                  \
        .x_chunk_bytes = AMX16_X_BYTES,                                                            \
        .x_chunk = amx16_x_chunk,                                                                  \
    };

#define ANEMO_AMX_BF16_NEEDS (ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_BF16 | ANEMO_CPU_AMX_BF16)

#endif
