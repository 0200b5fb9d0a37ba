/* The 6 x 32 tile of u8 x s8 dot products on AVX-512 VNNI, shared by w4a8 and w8a8.
 *
 * Weights are the unsigned operand of vpdpbusd (layout_n32.h), activations the signed one: four
 * bytes of one row of x, broadcast. A tile of up to 6 rows of x and 32 rows of W holds 12 int32 and
 * 12 float accumulators in registers. Integers accumulate over one activation group (32 or 128
 * columns) and then join the float sums:
 *
 * - without offset: y += sx sw (sum c a - 2^(bits-1) sum a); the correction is where the integers
 *   start;
 * - minimum o: y += sx sw sum c a - o (sx sum a);
 * - zero point z: the same with o = sw z.
 *
 * All tile heights do the same operations in the same order for a row, so a row's result does not
 * depend on m. The sums a8 records carry make every offset exact.
 *
 * Per group of 32 columns and pair (row, 16 columns): 8 vpdpbusd and 3 float operations; per group
 * of 128: 32 and 3. That is why the a8_g128 forms are faster on large m, and a8_g32 (finer, more
 * accurate) costs nothing when memory is the limit.
 *
 * Rejected: software prefetch for few rows (the stream is sequential; the hardware alone reads it 5
 * to 10 % faster on Zen 4); signed nibbles (vpdpbusd wants one unsigned operand, and sign extension
 * costs more than the correction); decoding a block of W to bytes in L1 first (and/shift runs
 * beside the dot products). The same idea with the roles of A and W swapped is XNNPACK's
 * qd8-f32-qc4w. */
#ifndef ANEMO_TILE_AVX512VNNI_H
#define ANEMO_TILE_AVX512VNNI_H

#include "anemo_config.h"
#include "kernels/qgemm/layout_n32.h"

#include <immintrin.h>

enum { ANEMO_TILE_ROWS = 6, ANEMO_TILE_COLUMNS = 32 };

/* What a tile reads: one block of W and up to 6 a8 records. */
typedef struct anemo_vnni_tile {
    const anemo_n32_shape *shape;
    const uint8_t *block;
    const int8_t *row[ANEMO_TILE_ROWS]; /* records; gathered rows need no copy */
} anemo_vnni_tile;

/* What is broadcast from an a8 record, straight from memory: four codes or a sum, and a scale. */
typedef int32_t anemo_a8_word __attribute__((may_alias, aligned(4)));
typedef float anemo_a8_scale __attribute__((may_alias, aligned(4)));

/* Every tile height, offset kind and group size is its own unrolled copy of the code below: unless
 * the loops over rows unroll, the accumulators live in memory and the tile runs at a third of its
 * speed. Under the sanitizers one general copy is enough, and compiles ten times faster. */
#if ANEMO_SANITIZE
#define ANEMO_VNNI_INLINE static __attribute__((noinline, unused))
#define ANEMO_VNNI_UNROLL
#elif defined __clang__
#define ANEMO_VNNI_INLINE static inline __attribute__((always_inline))
#define ANEMO_VNNI_UNROLL _Pragma("unroll")
#else
#define ANEMO_VNNI_INLINE static inline __attribute__((always_inline))
#define ANEMO_VNNI_UNROLL _Pragma("GCC unroll 8")
#endif

ANEMO_VNNI_INLINE __m512 vnni_numbers(const anemo_n32_shape *s, const uint8_t *at, int half) {
    if (s->scale_bytes == 2) {
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(at + 32 * half)));
    }
    return _mm512_loadu_ps(at + 64 * half);
}

/* Adds 8 columns to the integers: w0 holds k..k+3 and w1 k+4..k+7 of 16 rows of W. */
ANEMO_VNNI_INLINE void vnni_step(int bits, int mr, const uint8_t *w, const anemo_vnni_tile *t,
                                 int64_t column, __m512i sum[ANEMO_TILE_ROWS][2]) {
    const __m512i low = _mm512_set1_epi8(15);
    __m512i w0[2], w1[2];
    ANEMO_VNNI_UNROLL
    for (int v = 0; v < 2; v++) {
        if (bits == 4) {
            const __m512i both = _mm512_loadu_si512(w + 64 * v);
            w0[v] = _mm512_and_si512(both, low);
            w1[v] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
        } else {
            w0[v] = _mm512_loadu_si512(w + 128 * v);
            w1[v] = _mm512_loadu_si512(w + 128 * v + 64);
        }
    }
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        const anemo_a8_word *a = (const anemo_a8_word *)(const void *)(t->row[i] + column);
        const __m512i a0 = _mm512_set1_epi32(a[0]), a1 = _mm512_set1_epi32(a[1]);
        sum[i][0] = _mm512_dpbusd_epi32(sum[i][0], w0[0], a0);
        sum[i][1] = _mm512_dpbusd_epi32(sum[i][1], w0[1], a0);
        sum[i][0] = _mm512_dpbusd_epi32(sum[i][0], w1[0], a1);
        sum[i][1] = _mm512_dpbusd_epi32(sum[i][1], w1[1], a1);
    }
}

/* One activation group: `steps` steps of 8 columns from `column`, then into the floats. */
ANEMO_VNNI_INLINE void vnni_group(int bits, int act_group, bool has_offset, int mr,
                                  const anemo_vnni_tile *t, const uint8_t *w, int64_t column,
                                  int64_t steps, const __m512 scale[2], const __m512 offset[2],
                                  __m512 y[ANEMO_TILE_ROWS][2]) {
    const anemo_n32_shape *s = t->shape;
    const int64_t kp = anemo_round_up(s->k, 128), ga = column / act_group;
    const int64_t scales_at = kp + 4 * ga, sums_at = kp + 4 * (kp / act_group) + 4 * ga;
    const __m512i centre = _mm512_set1_epi32(-(1 << (bits - 1)) & 0xffff);
    __m512i sum[ANEMO_TILE_ROWS][2];
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        const anemo_a8_word *total = (const anemo_a8_word *)(const void *)(t->row[i] + sums_at);
        /* A sum of 128 codes fits int16: one multiply-add of the words (total, sign) with
         * (-2^(bits-1), 0). */
        sum[i][0] = has_offset ? _mm512_setzero_si512()
                               : _mm512_madd_epi16(_mm512_set1_epi32(*total), centre);
        sum[i][1] = sum[i][0];
    }
    if (act_group == 32) {
        ANEMO_VNNI_UNROLL
        for (int step = 0; step < 4; step++) {
            vnni_step(bits, mr, w + step * 32 * bits, t, column + 8 * step, sum);
        }
    } else {
        for (int64_t step = 0; step < steps; step++) {
            vnni_step(bits, mr, w + step * 32 * bits, t, column + 8 * step, sum);
        }
    }
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        const __m512 sx =
            _mm512_set1_ps(*(const anemo_a8_scale *)(const void *)(t->row[i] + scales_at));
        const __m512i total =
            _mm512_set1_epi32(*(const anemo_a8_word *)(const void *)(t->row[i] + sums_at));
        ANEMO_VNNI_UNROLL
        for (int v = 0; v < 2; v++) {
            y[i][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[i][v]), _mm512_mul_ps(scale[v], sx),
                                      y[i][v]);
            if (has_offset) {
                y[i][v] = _mm512_fnmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(total), sx), offset[v],
                                           y[i][v]);
            }
        }
    }
}

/* out[mr][32] = x[mr, k] . W[block of 32 rows, k]; bits, act_group and mr are constants. */
ANEMO_VNNI_INLINE void vnni_tile(int bits, int act_group, bool has_offset, int mr,
                                 const anemo_vnni_tile *t, float out[][ANEMO_TILE_COLUMNS]) {
    const anemo_n32_shape *s = t->shape;
    const uint8_t *w = t->block + s->zero_bytes;
    __m512 y[ANEMO_TILE_ROWS][2];
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        y[i][0] = y[i][1] = _mm512_setzero_ps();
    }
    for (int64_t g = 0; g < s->groups; g++) {
        const int64_t begin = g * s->group;
        const int64_t end = begin + s->group < s->k_padded ? begin + s->group : s->k_padded;
        __m512 scale[2], offset[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        ANEMO_VNNI_UNROLL
        for (int v = 0; v < 2; v++) {
            scale[v] = vnni_numbers(s, w, v);
            if (has_offset && s->has_minimum) {
                offset[v] = vnni_numbers(s, w + 32 * s->scale_bytes, v);
            } else if (has_offset) {
                const __m128i zero =
                    _mm_loadu_si128((const __m128i *)(const void *)(t->block + 32 * g + 16 * v));
                offset[v] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(zero)), scale[v]);
            }
        }
        w += s->header_bytes;
        for (int64_t column = begin; column < end; column += act_group) {
            const int64_t columns = end - column < act_group ? end - column : act_group;
            const int64_t steps = act_group == 32 ? 4 : columns / 8;
            vnni_group(bits, act_group, has_offset, mr, t, w, column, steps, scale, offset, y);
            w += steps * 32 * bits;
        }
    }
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        _mm512_storeu_ps(out[i], y[i][0]);
        _mm512_storeu_ps(out[i] + 16, y[i][1]);
    }
}

/* The same for an mr known at run time, and for both kinds of weight. */
ANEMO_VNNI_INLINE void vnni_tile_rows(int bits, int act_group, int64_t mr, const anemo_vnni_tile *t,
                                      float out[][ANEMO_TILE_COLUMNS]) {
#define ANEMO_VNNI_CASE(rows)                                                                      \
    case rows:                                                                                     \
        if (t->shape->has_minimum || t->shape->has_zero) {                                         \
            vnni_tile(bits, act_group, true, rows, t, out);                                        \
        } else {                                                                                   \
            vnni_tile(bits, act_group, false, rows, t, out);                                       \
        }                                                                                          \
        break;
    switch (mr) {
        ANEMO_VNNI_CASE(1)
        ANEMO_VNNI_CASE(2)
        ANEMO_VNNI_CASE(3)
        ANEMO_VNNI_CASE(4)
        ANEMO_VNNI_CASE(5)
        ANEMO_VNNI_CASE(6)
    }
#undef ANEMO_VNNI_CASE
}

#endif
