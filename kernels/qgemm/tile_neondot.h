/* What multiplies in the tile of tile_neon.h where the processor has the dot product (FEAT_DotProd,
 * any Armv8.2 server core since 2018): sdot by element. A vector holds four codes of four rows of
 * W, one lane of 16 loaded activations holds the four that meet them, and each lane of the sum is
 * one row of W: no horizontal sum, no shuffle.
 *
 * sdot is signed by signed. 4-bit codes 0 .. 15 are as good signed as unsigned; the centre -8 is
 * then subtracted through the sum of the activations, as on x86. 8-bit codes get their top bit
 * flipped, which makes them c - 128: for weights without an offset that is the centre already, for
 * the others 128 times the sum of the activations comes back on top. At most 128 columns of 128 *
 * 127 join one int32: exact.
 *
 * Rejected: usdot, which needs no flip. It comes with i8mm only, and there the matrix product does
 * twice the work (tile_neoni8mm.h). */
#ifndef ANEMO_TILE_NEONDOT_H
#define ANEMO_TILE_NEONDOT_H

#include "kernels/qgemm/tile_neon.h"

#define ANEMO_NEON_NEEDS ANEMO_CPU_NEON_DOT

/* 16 columns of four rows of W: w[j] holds columns 4j .. 4j + 3. */
ANEMO_NEON_INLINE void neondot_unpack(int bits, const uint8_t *step, int v, int8x16_t w[4]) {
    ANEMO_NEON_UNROLL
    for (int half = 0; half < 2; half++) {
        const uint8_t *at = neon_codes(bits, step + half * 32 * bits, v);
        const uint8x16_t first = vld1q_u8(at);
        if (bits == 4) {
            w[2 * half] = vreinterpretq_s8_u8(vandq_u8(first, vdupq_n_u8(15)));
            w[2 * half + 1] = vreinterpretq_s8_u8(vshrq_n_u8(first, 4));
        } else {
            const uint8x16_t flip = vdupq_n_u8(128);
            w[2 * half] = vreinterpretq_s8_u8(veorq_u8(first, flip));
            w[2 * half + 1] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at + 64), flip));
        }
    }
}

/* All columns of the group for the vectors v .. v + nv - 1. */
ANEMO_NEON_INLINE void neondot_strip(int bits, int mr, int nv, const anemo_neon_tile *t,
                                     const anemo_neon_group *g, int v,
                                     float out[][ANEMO_NEON_COLUMNS]) {
    int32x4_t sum[ANEMO_NEON_ROWS][ANEMO_NEON_VECTORS];
    ANEMO_NEON_UNROLL
    for (int i = 0; i < mr; i++) {
        ANEMO_NEON_UNROLL
        for (int u = 0; u < nv; u++) {
            sum[i][u] = vdupq_n_s32(g->start[i]);
        }
    }
    for (int64_t c = 0; c < g->columns; c += 16) {
        const uint8_t *step = g->codes + c * 4 * bits;
        int8x16_t a[ANEMO_NEON_ROWS];
        ANEMO_NEON_UNROLL
        for (int i = 0; i < mr; i++) {
            a[i] = vld1q_s8(t->row[i] + g->column + c);
        }
        ANEMO_NEON_UNROLL
        for (int u = 0; u < nv; u++) {
            int8x16_t w[4];
            neondot_unpack(bits, step, v + u, w);
            ANEMO_NEON_UNROLL
            for (int i = 0; i < mr; i++) {
                sum[i][u] = vdotq_laneq_s32(sum[i][u], w[0], a[i], 0);
            }
            ANEMO_NEON_UNROLL
            for (int i = 0; i < mr; i++) {
                sum[i][u] = vdotq_laneq_s32(sum[i][u], w[1], a[i], 1);
            }
            ANEMO_NEON_UNROLL
            for (int i = 0; i < mr; i++) {
                sum[i][u] = vdotq_laneq_s32(sum[i][u], w[2], a[i], 2);
            }
            ANEMO_NEON_UNROLL
            for (int i = 0; i < mr; i++) {
                sum[i][u] = vdotq_laneq_s32(sum[i][u], w[3], a[i], 3);
            }
        }
    }
    neon_end_strip(mr, nv, t->shape, g, v, sum, out);
}

ANEMO_NEON_INLINE void neon_group(int bits, int mr, const anemo_neon_tile *t, anemo_neon_group *g,
                                  float out[][ANEMO_NEON_COLUMNS]) {
    const bool has_offset = t->shape->has_minimum || t->shape->has_zero;
    const int nv = mr == 1 ? 8 : mr <= 4 ? 4 : 2;
    neon_begin_group(mr, t, (bits == 8 ? 128 : 0) - (has_offset ? 0 : 1 << (bits - 1)), g);
    for (int v = 0; v < ANEMO_NEON_VECTORS; v += nv) {
        neondot_strip(bits, mr, nv, t, g, v, out);
    }
}

#endif
