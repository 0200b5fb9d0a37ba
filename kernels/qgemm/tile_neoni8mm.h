/* What multiplies in the tile of tile_neon.h where the processor has the 8-bit matrix product
 * (FEAT_I8MM: Neoverse V1 and N2, Graviton 3, Apple M2): usmmla, 2 rows of W x 8 columns times 8
 * columns x 2 rows of x, unsigned by signed, 32 products where the dot product does 16.
 *
 * It wants 8 bytes of a row side by side, where the layout has 4. No layout of its own is needed:
 * the order of columns within a dot product is free if both sides agree. One zip of 32-bit lanes
 * over two steps (16 columns k ..) puts row r's bytes of both steps side by side, before unpacking:
 *
 *   w4: lower nibbles  k..k+3, k+8..k+11      upper nibbles  k+4..k+7, k+12..k+15
 *   w8: zip of the first halves: the same     of the second halves: the same
 *
 * and the activations follow: one unzip of 32-bit lanes over two rows of x gives these two orders
 * for both rows, stored once per activation group (at most 1 KiB on the stack) and used by all 32
 * rows of W. Zipping after unpacking would keep the natural order and take 8 instead of 6
 * instructions for four operands. A sum holds [w0 a0, w0 a1, w1 a0, w1 a1]; at the end of a group
 * one more unzip makes four rows of W per vector of it, and the floats go on as there. Codes
 * are the unsigned operand: no flip, the centre is subtracted through the sum of the activations.
 *
 * With one row of x half of usmmla's work is for nothing, so a plan takes it from two rows on, and
 * the bits of a row are the same on either side. */
#ifndef ANEMO_TILE_NEONI8MM_H
#define ANEMO_TILE_NEONI8MM_H

#include "kernels/qgemm/tile_neon.h"

#define ANEMO_NEON_NEEDS (ANEMO_CPU_NEON_DOT | ANEMO_CPU_NEON_I8MM)

enum { ANEMO_NEON_PAIRS = ANEMO_NEON_ROWS / 2, ANEMO_NEON_GROUP_MAX = 128 };

/* x of one activation group: per 16 columns, per pair of rows, the two operands described above. */
typedef int8_t anemo_neon_pack[ANEMO_NEON_GROUP_MAX / 16][ANEMO_NEON_PAIRS][2][16];

ANEMO_NEON_INLINE void neoni8mm_pack(int mr, const anemo_neon_tile *t, const anemo_neon_group *g,
                                     anemo_neon_pack pack) {
    for (int64_t c = 0; c < g->columns; c += 16) {
        ANEMO_NEON_UNROLL
        for (int i = 0; i < mr; i += 2) {
            const int second = i + 1 < mr ? i + 1 : i; /* an odd row goes twice, read once */
            const int32x4_t a0 = vreinterpretq_s32_s8(vld1q_s8(t->row[i] + g->column + c));
            const int32x4_t a1 = vreinterpretq_s32_s8(vld1q_s8(t->row[second] + g->column + c));
            vst1q_s8(pack[c / 16][i / 2][0], vreinterpretq_s8_s32(vuzp1q_s32(a0, a1)));
            vst1q_s8(pack[c / 16][i / 2][1], vreinterpretq_s8_s32(vuzp2q_s32(a0, a1)));
        }
    }
}

ANEMO_NEON_INLINE uint8x16_t neoni8mm_zip1(uint8x16_t a, uint8x16_t b) {
    return vreinterpretq_u8_u32(vzip1q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}
ANEMO_NEON_INLINE uint8x16_t neoni8mm_zip2(uint8x16_t a, uint8x16_t b) {
    return vreinterpretq_u8_u32(vzip2q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}

/* 16 columns of four rows of W: w[half][pair of rows] */
ANEMO_NEON_INLINE void neoni8mm_unpack(int bits, const uint8_t *step, int v, uint8x16_t w[2][2]) {
    const uint8_t *first = neon_codes(bits, step, v);
    const uint8_t *second = neon_codes(bits, step + 32 * bits, v);
    const uint8x16_t a = vld1q_u8(first), b = vld1q_u8(second);
    const uint8x16_t rows01 = neoni8mm_zip1(a, b), rows23 = neoni8mm_zip2(a, b);
    if (bits == 4) {
        const uint8x16_t low = vdupq_n_u8(15);
        w[0][0] = vandq_u8(rows01, low), w[0][1] = vandq_u8(rows23, low);
        w[1][0] = vshrq_n_u8(rows01, 4), w[1][1] = vshrq_n_u8(rows23, 4);
    } else {
        const uint8x16_t c = vld1q_u8(first + 64), d = vld1q_u8(second + 64);
        w[0][0] = rows01, w[0][1] = rows23;
        w[1][0] = neoni8mm_zip1(c, d), w[1][1] = neoni8mm_zip2(c, d);
    }
}

/* All columns of the group for the vectors v .. v + nv - 1. */
ANEMO_NEON_INLINE void neoni8mm_strip(int bits, int mr, int nv, const anemo_neon_tile *t,
                                      const anemo_neon_group *g, const anemo_neon_pack pack, int v,
                                      float out[][ANEMO_NEON_COLUMNS]) {
    const int pairs = (mr + 1) / 2;
    int32x4_t square[ANEMO_NEON_PAIRS][ANEMO_NEON_VECTORS][2];
    int32x4_t sum[ANEMO_NEON_ROWS][ANEMO_NEON_VECTORS];
    ANEMO_NEON_UNROLL
    for (int p = 0; p < pairs; p++) {
        const int second = 2 * p + 1 < mr ? 2 * p + 1 : 2 * p;
        const int32x4_t start =
            vzip1q_s32(vdupq_n_s32(g->start[2 * p]), vdupq_n_s32(g->start[second]));
        ANEMO_NEON_UNROLL
        for (int u = 0; u < nv; u++) {
            square[p][u][0] = square[p][u][1] = start;
        }
    }
    for (int64_t c = 0; c < g->columns; c += 16) {
        const uint8_t *step = g->codes + c * 4 * bits;
        ANEMO_NEON_UNROLL
        for (int u = 0; u < nv; u++) {
            uint8x16_t w[2][2];
            neoni8mm_unpack(bits, step, v + u, w);
            ANEMO_NEON_UNROLL
            for (int half = 0; half < 2; half++) {
                ANEMO_NEON_UNROLL
                for (int p = 0; p < pairs; p++) {
                    const int8x16_t a = vld1q_s8(pack[c / 16][p][half]);
                    square[p][u][0] = vusmmlaq_s32(square[p][u][0], w[half][0], a);
                    square[p][u][1] = vusmmlaq_s32(square[p][u][1], w[half][1], a);
                }
            }
        }
    }
    ANEMO_NEON_UNROLL
    for (int i = 0; i < mr; i++) {
        ANEMO_NEON_UNROLL
        for (int u = 0; u < nv; u++) {
            const int32x4_t rows01 = square[i / 2][u][0], rows23 = square[i / 2][u][1];
            sum[i][u] = i % 2 ? vuzp2q_s32(rows01, rows23) : vuzp1q_s32(rows01, rows23);
        }
    }
    neon_end_strip(mr, nv, t->shape, g, v, sum, out);
}

ANEMO_NEON_INLINE void neon_group(int bits, int mr, const anemo_neon_tile *t, anemo_neon_group *g,
                                  float out[][ANEMO_NEON_COLUMNS]) {
    const bool has_offset = t->shape->has_minimum || t->shape->has_zero;
    const int nv = mr <= 4 ? 4 : 2;
    anemo_neon_pack pack;
    neon_begin_group(mr, t, has_offset ? 0 : -(1 << (bits - 1)), g);
    neoni8mm_pack(mr, t, g, pack);
    for (int v = 0; v < ANEMO_NEON_VECTORS; v += nv) {
        neoni8mm_strip(bits, mr, nv, t, g, pack, v, out);
    }
}

#endif
