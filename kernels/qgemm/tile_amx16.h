/* The 32 x 32 tile of 16-bit floats on AMX, bf16 or f16: what tile_amxbf16.h and tile_amxfp16.h
 * share. Whoever includes this has defined AMX16_BF16, 1 for bf16 and 0 for f16, and where x has
 * more than one term, of which the sum is meant, AMX16_TERMS.
 *
 * Four such sums, of 32 rows of x and of W, stay in registers for a chunk of 256 columns, whatever
 * the groups of the weight; nothing is scaled afterwards. For that the weight itself has to be of
 * 16 bits: a chunk is decoded to a panel of pairs of columns, [columns / 2][32 rows][2], once for
 * all rows of a stretch. x is copied chunk by chunk as for tile_amxint8.h, an odd number of lines
 * apart. Every row goes through the same operations in the same order whatever its tile, so its
 * result does not depend on m.
 *
 * The limit is not the multiplication but who feeds it. Four products take 64 cycles and load 4
 * KiB; x (2 KiB of them) and the sums of a chunk (1 KiB, to and fro) come from L2, which gives some
 * 48 bytes a cycle: 24 cycles instead of 16 for 16 x 16 x 32, in a loop of nothing else. From the
 * last cache a core of a large server gets about 19 GB/s, no more than from memory, so a chunk of x
 * has to serve many rows of W while L2 holds it, and the next one is asked for meanwhile: sixteen
 * blocks take turns at it (qgemm_n32.h): 28 cycles, where one at a time takes 59, 4 take 34 and
 * 8 30. Giving the registers their shape once and not for each tile (amx.h) saves another 10,
 * asking for the next tile's sums 1.5. In qgemm a tile takes 32 to 34 of them; decoding takes a
 * tenth, and writing y another. Granite Rapids, 14336 x 4096, 512 rows, 2 cores, part of the bf16
 * peak: 17 % a block at a time with a shape for each tile, 29 eight by eight, 38 as it is. bf16
 * weights, 9 times the tile of tile_avx512bf16.h.
 *
 * Rejected: chunks of 128 and 512 columns (0.8 of the speed; the panel of 512 fills L1); 32 blocks
 * (their sums fill L2); fetching the next rows of x to L1 by hand (0.6); every tile asking for all
 * of the next chunk (0.8 for bf16 weights); x in whole tiles of 1 KiB instead of rows (8 % faster
 * in a loop of nothing else: not worth a second form of x).
 *
 * Source: Intel Architecture Instruction Set Extensions Programming Reference, chapter 3 (AMX). */
#ifndef ANEMO_TILE_AMX16_H
#define ANEMO_TILE_AMX16_H

#include "kernels/amx.h"
#include "kernels/qgemm/qgemm_n32.h"

#include <immintrin.h>

#ifndef AMX16_TERMS
#define AMX16_TERMS 1
#endif

/* Adds to 16 x 16 floats the products of 16 rows of x and 16 rows of W by 32 columns. */
#if AMX16_BF16
#define AMX16_DP(sum, a, b) _tile_dpbf16ps(sum, a, b)
#else
#define AMX16_DP ANEMO_AMX_DPFP16PS
#endif

enum {
    AMX16_CHUNK = 256,
    AMX16_BLOCKS = ANEMO_N32_BLOCKS, /* of 32 rows of W that take turns at a chunk of x */
    AMX16_DEPTH = 32,                /* columns of a tile */
    AMX16_PAIR_BYTES = 128,          /* two columns of 32 rows */
    AMX16_PANEL_BYTES = AMX16_PAIR_BYTES / 2 * AMX16_CHUNK,
    AMX16_TERM_BYTES = 2 * AMX16_CHUNK,                 /* a row of x, once per term */
    AMX16_X_BYTES = AMX16_TERMS * AMX16_TERM_BYTES + 64 /* an odd number of lines */
};

/* Tiles 0 to 3: sums of rows 0-15 and 16-31 of x times rows 0-15 and 16-31 of W; 4, 5: x; 6, 7: W.
 */
ANEMO_N32_INLINE void amx16_configure(int64_t upper, int64_t lower) {
    const int64_t shape = upper * 64 + lower;
    if (anemo_amx_shape == shape) {
        return;
    }
    anemo_amx_shape = shape;
    anemo_amx_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = (uint8_t)(i >= 6 ? 16 : i == 2 || i == 3 || i == 5 ? lower : upper);
    }
    anemo_amx_load_config(&c);
}

/* The eighth `step` of the next tile's sums. */
ANEMO_N32_INLINE void amx16_ask_sums(const float *sums, int64_t step) {
    ANEMO_N32_UNROLL
    for (int row = 0; row < 4; row++) {
        _mm_prefetch((const char *)(sums + 32 * (4 * step + row)), _MM_HINT_T0);
        _mm_prefetch((const char *)(sums + 32 * (4 * step + row) + 16), _MM_HINT_T0);
    }
}

/* The sums of a tile to its registers: zeros where the first chunk begins. */
ANEMO_N32_INLINE void amx16_load_sums(bool tall, const anemo_n32_tile *t) {
    const float *upper = t->sum[0], *lower = t->sum[0] + 16 * 32;
    if (t->column == 0) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, upper, 128);
        _tile_loadd(1, upper + 16, 128);
        if (tall) {
            _tile_loadd(2, lower, 128);
            _tile_loadd(3, lower + 16, 128);
        }
    }
}

ANEMO_N32_INLINE void amx16_store_sums(bool tall, const anemo_n32_tile *t) {
    float *upper = t->sum[0], *lower = t->sum[0] + 16 * 32;
    _tile_stored(0, upper, 128);
    _tile_stored(1, upper + 16, 128);
    if (tall) {
        _tile_stored(2, lower, 128);
        _tile_stored(3, lower + 16, 128);
    }
}

/* 32 columns: pairs of them at x, rows x_stride apart, and at w. */
ANEMO_N32_INLINE void amx16_step(bool tall, const uint8_t *x, size_t x_stride, const uint8_t *w) {
    _tile_loadd(6, w, AMX16_PAIR_BYTES);
    ANEMO_N32_UNROLL
    for (int term = 0; term < AMX16_TERMS; term++, x += AMX16_TERM_BYTES) {
        _tile_loadd(4, x, x_stride);
        AMX16_DP(0, 4, 6);
        if (term == 0) {
            _tile_loadd(7, w + 64, AMX16_PAIR_BYTES);
        }
        AMX16_DP(1, 4, 7);
        if (tall) {
            _tile_loadd(5, x + 16 * x_stride, x_stride);
            AMX16_DP(2, 5, 6);
            AMX16_DP(3, 5, 7);
        }
    }
}

/* t->sum += x W^T over the chunk; w: its pairs of columns, filled up to 32 columns. */
ANEMO_N32_INLINE void amx16_tile(bool tall, int64_t rows, const anemo_n32_tile *t,
                                 const uint8_t *w) {
    const uint8_t *x = t->x;
    amx16_configure(tall ? 16 : rows, tall ? rows - 16 : 1);
    anemo_amx_stored();
    amx16_load_sums(tall, t);
    for (int64_t column = 0; column < t->columns; column += AMX16_DEPTH) {
        amx16_step(tall, x, t->x_row_bytes, w);
        anemo_n32_ask(t, (size_t)column / AMX16_DEPTH, AMX16_CHUNK / AMX16_DEPTH);
        amx16_ask_sums(t->sum[rows], column / AMX16_DEPTH);
        x += 2 * AMX16_DEPTH;
        w += AMX16_DEPTH / 2 * AMX16_PAIR_BYTES;
    }
    amx16_store_sums(tall, t);
}

ANEMO_N32_INLINE void amx16_tile_rows(int64_t rows, const anemo_n32_tile *t, const uint8_t *w) {
    if (rows > 16) {
        amx16_tile(true, rows, t, w);
    } else {
        amx16_tile(false, rows, t, w);
    }
}

#endif
