/* A few rows of x against two blocks of W side by side: the operations of the tiles in the
 * same order, arranged for reading W at the rate of the memory on Zen 4, and on Intel's cores with
 * matrix tiles (prefetch.h), which want each stream asked for besides.
 *
 * A core that computes has fewer reads in flight than one that only reads, and the hardware's
 * prefetcher runs ahead of every stream by itself. So a thread walks through the two halves of its
 * blocks at once (with ACT_MUL, gate and up) and asks for nothing there. GB/s on two cores of Zen
 * 4, 14336 x 4096, group 32, W in memory, forms that took turns in one process, at the two speeds
 * the memory of that virtual machine had (read: 33 and 60 GB/s):
 *
 *                                     w4, m = 1   m = 2    w8, m = 1      m = 2
 *   one stream, 8 KiB ahead           30.6        29.3     30.3 / 41.3    30.9 / 39
 *   the same, W in halves of a line   30.0                 29.7 / 35
 *   in halves, nothing asked for      31.0        29.9     32.8 / 47      32.7 / 46
 *   2 streams, whole lines            32.7        31.2     30.1 / 42      33.5
 *   2 streams, 4 KiB ahead            30.3        27.1
 *   2 streams in halves: as it is     33.5                 33.3 / 57.4
 *   3 streams in halves               33.3                 32.5 / 49.8
 *
 * Other weights than plain ones are read so where it was measured, on Granite Rapids, in the second
 * level; 14336 x 4096, GB/s of 40: m = 1 q4_k 29.6 -> 32.5, q5_k 27.0 -> 31.9, q6_k 29.6 -> 31.5;
 * m = 2 27.8 -> 31.3, 26.9 -> 31.4, 27.2 -> 31.2. There a header's lines are asked for, too.
 *
 * Halves: two loads of 32 bytes and one instruction to join them read 8-bit codes 1.3 times as fast
 * as one load of the whole line where the memory is fast, presumably because the prefetcher sees
 * each line twice. Zen 5 was faster with one stream and 8 KiB ahead (tile_avx512vnni.h). */
#ifndef ANEMO_STREAMS_AVX512VNNI_H
#define ANEMO_STREAMS_AVX512VNNI_H

#include "kernels/qgemm/tile_avx512vnni.h"

typedef void (*anemo_vnni_streams_fn)(int64_t mr, const anemo_vnni_tile *t,
                                      const uint8_t *const block[VNNI_STREAMS],
                                      float out[][ANEMO_TILE_COLUMNS]);

/* Does this processor read few rows' weights best so? */
static inline bool vnni_wants_streams(void) {
    return anemo_cpu_prefetches_to_second_level();
}

/* out[stream * mr + row][32] = x[mr, k] . W[32 rows of block[stream], k]; t->block is not used. */
ANEMO_VNNI_INLINE void vnni_streams_plain(int code, int quads, bool scaled, int mr,
                                          const anemo_vnni_tile *t,
                                          const uint8_t *const block[VNNI_STREAMS],
                                          anemo_vnni_ahead ahead, float out[][ANEMO_TILE_COLUMNS]) {
    const int64_t k = t->shape->k, quad_bytes = code == VNNI_TABLE ? 512 : 128 * code;
    const __m512i table = vnni_table_of(code, t->shape);
    const __m512 offset[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    const int8_t *row[ANEMO_TILE_ROWS];
    const uint8_t *w[VNNI_STREAMS] = {block[0], block[1]};
    const int32_t *head = t->heads;
    __m512 y[VNNI_STREAMS][ANEMO_TILE_ROWS][2];
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        row[i] = t->row[i];
        y[0][i][0] = y[0][i][1] = y[1][i][0] = y[1][i][1] = _mm512_setzero_ps();
    }
    for (int64_t column = 0; column < k; column += 32 * quads) {
        ANEMO_VNNI_UNROLL
        for (int b = 0; b < VNNI_STREAMS; b++) {
            const __m512 scale[2] = {vnni_halves(w[b]), vnni_halves(w[b] + 32)};
            vnni_near_header(mr, t->shape, w[b], 0, &ahead);
            vnni_group(code, quads, false, scaled, mr, row, w[b] + 64, quad_bytes, column, table,
                       head, scale, offset, &ahead, y[b]);
            w[b] += 64 + quads * quad_bytes;
        }
        head += scaled ? 2 * VNNI_HEAD : VNNI_HEAD;
    }
    ANEMO_VNNI_UNROLL
    for (int b = 0; b < VNNI_STREAMS; b++) {
        vnni_store_plain(scaled, mr, row, k, y[b], out + b * mr);
    }
}

/* What streams ask for ahead of themselves. */
static inline anemo_vnni_ahead vnni_streams_ahead(const uint8_t *block) {
    return vnni_near_of(block, anemo_cpu_reads() != ANEMO_READS_UNASKED, 0);
}

/* The same for an mr known at run time, 1 or 2, and weights that vnni_is_plain knows. */
ANEMO_VNNI_INLINE void vnni_streams_plain_rows(int code, int quads, bool scaled, int64_t mr,
                                               const anemo_vnni_tile *t,
                                               const uint8_t *const block[VNNI_STREAMS],
                                               float out[][ANEMO_TILE_COLUMNS]) {
    const anemo_vnni_ahead ahead = vnni_streams_ahead(block[0]);
    if (mr == 1) {
        vnni_streams_plain(code, quads, scaled, 1, t, block, ahead, out);
    } else {
        vnni_streams_plain(code, quads, scaled, 2, t, block, ahead, out);
    }
}

/* For other weights: as the tiles do it. */
ANEMO_VNNI_INLINE void vnni_streams_other(int code, int act_group, bool fine, bool has_offset,
                                          int mr, const anemo_vnni_tile *t,
                                          const uint8_t *const block[VNNI_STREAMS],
                                          float out[][ANEMO_TILE_COLUMNS]) {
    const anemo_vnni_ahead ahead = vnni_streams_ahead(block[0]);
    const int64_t apart = (intptr_t)block[1] - (intptr_t)block[0]; /* of two objects, perhaps */
    anemo_vnni_tile first = *t;
    first.block = block[0];
    if (fine) {
        vnni_tile_fine(code, act_group, has_offset, VNNI_STREAMS, mr, &first, apart, ahead, out);
    } else {
        vnni_tile(code, act_group, has_offset, VNNI_STREAMS, mr, &first, apart, ahead, out);
    }
}

/* For all kinds of weight and 1 or 2 rows. */
ANEMO_VNNI_INLINE void vnni_streams_rows(int code, int act_group, bool fine, int64_t mr,
                                         const anemo_vnni_tile *t,
                                         const uint8_t *const block[VNNI_STREAMS],
                                         float out[][ANEMO_TILE_COLUMNS]) {
    const bool has_offset = t->shape->has_minimum || t->shape->has_zero;
    if (vnni_is_plain(t->shape, act_group, fine)) {
        vnni_streams_plain_rows(code, fine ? 1 : act_group / 32, !fine, mr, t, block, out);
    } else if (has_offset && mr == 1) {
        vnni_streams_other(code, act_group, fine, true, 1, t, block, out);
    } else if (has_offset) {
        vnni_streams_other(code, act_group, fine, true, 2, t, block, out);
    } else if (mr == 1) {
        vnni_streams_other(code, act_group, fine, false, 1, t, block, out);
    } else {
        vnni_streams_other(code, act_group, fine, false, 2, t, block, out);
    }
}

#endif
