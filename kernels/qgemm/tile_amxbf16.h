/* Tiles of 32 x 32 bf16 dot products on AMX, for weights of any group: what w4a16, w8a16 and w16a16
 * share.
 *
 * tdpbf16ps multiplies a tile of 16 rows of x by 32 columns with one of 16 rows of W by the same
 * columns and adds to 16 x 16 floats. Four such sums, of 32 rows of x and of W, stay in registers
 * for a chunk of 256 columns, whatever the groups of the weight; nothing is scaled afterwards.
 *
 * For that the weight itself has to be bf16. A chunk is decoded to a panel of pairs of columns,
 * [columns / 2][32 rows][2], once for all rows of a stretch:
 *
 *     w = bf16(s c - o)     one rounding, of at most 2^-8; codes, scales and offsets are exact
 *
 * so a product is off by two roundings, of x and of w, 0.0016 of it each (root mean square), where
 * an 8-bit activation is off by up to max|x| / 254 of its group: 0.005 of x for normal x in groups
 * of 32. It is the more accurate of the two. bf16 weights need no panel, their layout float_n32 is
 * one already. x is copied chunk by chunk as for tile_amxint8.h, an odd number of lines apart.
 * Every row goes through the same operations in the same order whatever its tile, so its result
 * does not depend on m.
 *
 * Why not integers: there, sums have to leave the tile registers at the end of each group, which
 * for groups of 32 costs three times the multiplication (tile_amxint8.h). Here a group costs
 * nothing, and bf16 has half the rate of int8.
 *
 * The limit is not the multiplication but who feeds it. Four tdpbf16ps take 64 cycles and load 4
 * KiB: two thirds of the peak with everything in L1 and L2. From the last cache a core of a large
 * server gets about 19 GB/s, no more than from memory, so a chunk of x has to serve many rows of W
 * while L2 holds it, and the next one is asked for meanwhile: eight blocks take turns at it
 * (qgemm_n32.h). Granite Rapids, 14336 x 4096, 512 rows, 2 cores, part of the bf16 peak: 17 % a
 * block at a time, 27 eight by eight, 29 to 31 with the asking. That is 2.2 (4-bit) and 1.9 times
 * (8-bit) the VNNI tile and 1.2 times what VNNI could do at most; bf16 weights, 9 times the tile of
 * tile_avx512bf16.h. Decoding 32 x 32 weights takes as long as some 70 rows of x, so it is worth
 * its while from 64 rows on. No plan takes it by itself: with other kernels for fewer rows, a
 * token's bits would depend on the batch it came in. `--with` does, for the rows it names, and
 * `anemo tune` may choose it.
 *
 * Rejected: chunks of 128 and 512 columns (0.8 of the speed; the panel of 512 fills L1), 4 or 16
 * blocks (0.92, 1.0); fetching the next rows of x to L1 by hand (0.6); every tile asking for all of
 * the next chunk (0.8 for bf16 weights); x in whole tiles of 1 KiB instead of rows (8 % faster in a
 * loop of nothing else: not worth a second form of x).
 *
 * Source: Intel Architecture Instruction Set Extensions Programming Reference, chapter 3 (AMX). */
#ifndef ANEMO_TILE_AMXBF16_H
#define ANEMO_TILE_AMXBF16_H

#include "kernels/qgemm/amx.h"
#include "kernels/qgemm/numbers_avx512.h"

enum {
    AMX_BF16_CHUNK = 256,
    AMX_BF16_BLOCKS = 8,       /* of 32 rows of W that take turns at a chunk of x */
    AMX_BF16_DEPTH = 32,       /* columns of a tile */
    AMX_BF16_PAIR_BYTES = 128, /* two columns of 32 rows */
    AMX_BF16_PANEL_BYTES = 64 * AMX_BF16_CHUNK, /* a chunk of 32 rows */
    AMX_BF16_X_BYTES = 2 * AMX_BF16_CHUNK + 64  /* an odd number of lines */
};

/* ---------------------------------------------------------------- the panel */

/* Two columns of 16 rows, rounded to pairs of bf16. */
ANEMO_N32_INLINE __m512i amx_pair(__m512 even, __m512 odd) {
    const __m512i apart = (__m512i)_mm512_cvtne2ps_pbh(odd, even); /* all even ones, all odd ones */
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, apart);
}

/* Column c of 8, of 16 rows. */
ANEMO_N32_INLINE __m512 amx_code(int bits, const uint8_t *step, int half, int c) {
    if (bits == 4) { /* a lookup reads the low four bits of a lane: no mask, no conversion */
        const __m512 value = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        const __m512i codes = _mm512_loadu_si512(step + 64 * half);
        return _mm512_permutexvar_ps(_mm512_srli_epi32(codes, (unsigned)(8 * (c % 4) + c / 4 * 4)),
                                     value);
    }
    const __m512i codes = _mm512_loadu_si512(step + 128 * half + 64 * (c / 4));
    const __m512i byte = _mm512_srli_epi32(codes, (unsigned)(8 * (c % 4)));
    return _mm512_cvtepi32_ps(_mm512_and_si512(byte, _mm512_set1_epi32(255)));
}

/* The columns of a chunk, rounded up to 32: the layout ends with codes and scales of 0. */
ANEMO_N32_INLINE void amx_decode_codes_bf16(int bits, const anemo_n32_tile *t, uint8_t *panel) {
    const anemo_n32_shape s = anemo_n32_shape_of(t->type, t->k);
    const __m512 middle =
        _mm512_set1_ps(s.has_minimum || s.has_zero ? 0.0f : (float)(1 << (bits - 1)));
    for (int64_t column = t->column; column < t->column + t->columns; column += 32) {
        const int64_t group = column / s.group;
        const uint8_t *header = t->block + anemo_n32_group_at(&s, group);
        const uint8_t *codes =
            header + s.header_bytes + (size_t)((column - group * s.group) / 8) * s.step_bytes;
        for (int v = 0; v < 2; v++) {
            const __m512 scale = anemo_n32_numbers(&s, header, v);
            const __m512 offset = anemo_n32_offsets(&s, t->block, header, group, v, scale);
            const __m512 shift = _mm512_fmadd_ps(scale, middle, offset); /* exact: one is 0 */
            uint8_t *to = panel + 64 * v;
            for (int step = 0; step < 4; step++) {
                ANEMO_N32_UNROLL
                for (int c = 0; c < 8; c += 2) {
                    const uint8_t *at = codes + (size_t)step * s.step_bytes;
                    const __m512 even = _mm512_fmsub_ps(amx_code(bits, at, v, c), scale, shift);
                    const __m512 odd = _mm512_fmsub_ps(amx_code(bits, at, v, c + 1), scale, shift);
                    _mm512_store_si512(to, amx_pair(even, odd));
                    to += AMX_BF16_PAIR_BYTES;
                }
            }
        }
        panel += 16 * AMX_BF16_PAIR_BYTES;
    }
}

/* ---------------------------------------------------------------- tiles */

/* Tiles 0 to 3: sums of rows 0-15 and 16-31 of x times rows 0-15 and 16-31 of W; 4, 5: x; 6, 7: W.
 */
ANEMO_N32_INLINE void amx_configure_bf16(int64_t upper, int64_t lower) {
    anemo_amx_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = (uint8_t)(i >= 6 ? 16 : i == 2 || i == 3 || i == 5 ? lower : upper);
    }
    _tile_loadconfig(&c);
}

/* t->sum += x W^T over the chunk; w: its pairs of columns, filled up to 32 columns. */
ANEMO_N32_INLINE void amx_tile_bf16(bool tall, int64_t rows, const anemo_n32_tile *t,
                                    const uint8_t *w) {
    const uint8_t *x = t->x;
    const size_t x_stride = t->x_row_bytes, w_stride = AMX_BF16_PAIR_BYTES;
    float *upper = t->sum[0], *lower = t->sum[0] + 16 * 32;
    amx_configure_bf16(tall ? 16 : rows, tall ? rows - 16 : 1);
    _tile_loadd(0, upper, 128);
    _tile_loadd(1, upper + 16, 128);
    if (tall) {
        _tile_loadd(2, lower, 128);
        _tile_loadd(3, lower + 16, 128);
    }
    for (int64_t column = 0; column < t->columns; column += AMX_BF16_DEPTH) {
        _tile_loadd(6, w, w_stride);
        _tile_loadd(4, x, x_stride);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, w + 64, w_stride);
        _tile_dpbf16ps(1, 4, 7);
        if (tall) {
            _tile_loadd(5, x + 16 * x_stride, x_stride);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        anemo_n32_ask(t, column / AMX_BF16_DEPTH, AMX_BF16_CHUNK / AMX_BF16_DEPTH);
        x += 2 * AMX_BF16_DEPTH;
        w += AMX_BF16_DEPTH / 2 * AMX_BF16_PAIR_BYTES;
    }
    _tile_stored(0, upper, 128);
    _tile_stored(1, upper + 16, 128);
    if (tall) {
        _tile_stored(2, lower, 128);
        _tile_stored(3, lower + 16, 128);
    }
    _tile_release();
}

ANEMO_N32_INLINE void amx_tile_rows_bf16(int64_t rows, const anemo_n32_tile *t, const uint8_t *w) {
    if (rows > 16) {
        amx_tile_bf16(true, rows, t, w);
    } else {
        amx_tile_bf16(false, rows, t, w);
    }
}

/* ---------------------------------------------------------------- the variant */

/* A chunk of x from `column` on; the record is padded with zeros to 32. */
static inline void amx_x_chunk_bf16(const uint8_t *row, int64_t k, int64_t column, uint8_t *to) {
    const int64_t left = anemo_round_up(k, 32) - column;
    memcpy(to, row + 2 * column, (size_t)(2 * (left < AMX_BF16_CHUNK ? left : AMX_BF16_CHUNK)));
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
        amx_tile_rows_bf16(rows, t, t->panel);                                                     \
    }                                                                                              \
    static const anemo_n32_form form = {                                                           \
        .tile_rows = ANEMO_AMX_ROWS,                                                               \
        .chunk = AMX_BF16_CHUNK,                                                                   \
        .blocks = AMX_BF16_BLOCKS,                                                                 \
        .panel_bytes = AMX_BF16_PANEL_BYTES,                                                       \
        .block_bytes = block_bytes,                                                                \
        .decode = decode,                                                                          \
        .tile = tile,                                                                              \
        .x_chunk_bytes = AMX_BF16_X_BYTES,                                                         \
        .x_chunk = amx_x_chunk_bf16,                                                               \
    };

#define ANEMO_AMX_BF16_NEEDS (ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_BF16 | ANEMO_CPU_AMX_BF16)

#endif
