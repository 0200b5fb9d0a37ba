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
 * The limit: vpdpbusd, multiplication and fma share two of the four vector pipes of Zen 4. Per
 * group of 32 columns and pair (row, 16 columns) these are 8 dot products and 2 float operations,
 * at most 80 % of the dot product's peak; per group of 128: 32 and 2, 94 %. The tile alone reaches
 * 78 and 90 %, with W and x from L2 as well as from L1. What the other two pipes do is free: the
 * nibbles' and/shift, the conversions, the correction as shift and subtraction (as a vpmaddwd,
 * which needs the multiplier, it cost 4 %). That is why the a8_g128 forms are faster on large m,
 * and a8_g32 (finer, more accurate) costs nothing when memory is the limit.
 *
 * Rejected: decoding a block of W to bytes first (and/shift run beside the dot products: w4 and w8
 * are equally fast in L1); tiles of 4 x 48 and 4 x 64 (the same 78 %: registers are not the limit);
 * blocking over k, so that W stays in L1 (no gain over L2); fetching from L2 to L1 by hand (none);
 * software prefetch for one tile (the stream is sequential; the hardware alone reads it faster on
 * Zen 4); signed nibbles (vpdpbusd wants one unsigned operand, and sign extension costs more than
 * the correction). The same idea with the roles of A and W swapped is XNNPACK's qd8-f32-qc4w. */
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

/* What a tile fetches into the L2 cache for later: `lines` cache lines from `at` on for each 32
 * columns. */
typedef struct anemo_vnni_ahead {
    const uint8_t *at;
    int64_t lines;
} anemo_vnni_ahead;

/* What is broadcast from an a8 record, straight from memory: four codes or a sum, and a scale. */
typedef int32_t anemo_a8_word __attribute__((may_alias, aligned(4)));
typedef float anemo_a8_scale __attribute__((may_alias, aligned(4)));

static inline int32_t vnni_word(const int8_t *at) {
    return *(const anemo_a8_word *)(const void *)at;
}
static inline float vnni_float(const int8_t *at) {
    return *(const anemo_a8_scale *)(const void *)at;
}

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
ANEMO_VNNI_INLINE void vnni_step(int bits, int mr, const uint8_t *w,
                                 const int8_t *const row[ANEMO_TILE_ROWS], int64_t column,
                                 __m512i sum[ANEMO_TILE_ROWS][2]) {
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
        const __m512i a = _mm512_set1_epi32(vnni_word(row[i] + column));
        sum[i][0] = _mm512_dpbusd_epi32(sum[i][0], w0[0], a);
        sum[i][1] = _mm512_dpbusd_epi32(sum[i][1], w0[1], a);
    }
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        const __m512i a = _mm512_set1_epi32(vnni_word(row[i] + column + 4));
        sum[i][0] = _mm512_dpbusd_epi32(sum[i][0], w1[0], a);
        sum[i][1] = _mm512_dpbusd_epi32(sum[i][1], w1[1], a);
    }
}

/* One activation group: `quads` times 32 columns from `column`, then into the floats. scale_at and
 * sum_at: where the group's scale and sum stand in a record. */
ANEMO_VNNI_INLINE void vnni_group(int bits, int quads, bool has_offset, int mr,
                                  const int8_t *const row[ANEMO_TILE_ROWS], const uint8_t *w,
                                  int64_t column, int64_t scale_at, int64_t sum_at,
                                  const __m512 scale[2], const __m512 offset[2],
                                  anemo_vnni_ahead *ahead, __m512 y[ANEMO_TILE_ROWS][2]) {
    __m512i sum[ANEMO_TILE_ROWS][2];
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        const __m512i total = _mm512_set1_epi32(vnni_word(row[i] + sum_at));
        sum[i][0] = has_offset ? _mm512_setzero_si512()
                               : _mm512_sub_epi32(_mm512_setzero_si512(),
                                                  _mm512_slli_epi32(total, (unsigned)bits - 1));
        sum[i][1] = sum[i][0];
    }
    for (int quad = 0; quad < quads; quad++) {
        ANEMO_VNNI_UNROLL
        for (int step = 0; step < 4; step++) {
            vnni_step(bits, mr, w + step * 32 * bits, row, column + 8 * step, sum);
        }
        w += 4 * 32 * bits;
        column += 32;
        for (int line = 0; line < ahead->lines; line++) {
            _mm_prefetch((const char *)ahead->at + 64 * line, _MM_HINT_T1);
        }
        ahead->at += 64 * ahead->lines;
    }
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        const __m512 sx = _mm512_set1_ps(vnni_float(row[i] + scale_at));
        ANEMO_VNNI_UNROLL
        for (int v = 0; v < 2; v++) {
            y[i][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[i][v]), _mm512_mul_ps(scale[v], sx),
                                      y[i][v]);
        }
        if (has_offset) {
            const __m512i total = _mm512_set1_epi32(vnni_word(row[i] + sum_at));
            const __m512 sum_x = _mm512_mul_ps(_mm512_cvtepi32_ps(total), sx);
            ANEMO_VNNI_UNROLL
            for (int v = 0; v < 2; v++) {
                y[i][v] = _mm512_fnmadd_ps(sum_x, offset[v], y[i][v]);
            }
        }
    }
}

/* out[mr][32] = x[mr, k] . W[block of 32 rows, k]; bits, act_group and mr are constants. */
ANEMO_VNNI_INLINE void vnni_tile(int bits, int act_group, bool has_offset, int mr,
                                 const anemo_vnni_tile *t, anemo_vnni_ahead ahead,
                                 float out[][ANEMO_TILE_COLUMNS]) {
    const anemo_n32_shape *s = t->shape;
    const uint8_t *w = t->block + s->zero_bytes;
    const int64_t kp = anemo_round_up(s->k, 128), sums = 4 * (kp / act_group);
    const int8_t *row[ANEMO_TILE_ROWS];
    __m512 y[ANEMO_TILE_ROWS][2];
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        row[i] = t->row[i];
        y[i][0] = y[i][1] = _mm512_setzero_ps();
    }
    int64_t column = 0, scale_at = kp;
    for (int64_t g = 0; g < s->groups; g++) {
        const int64_t end = column + s->group < s->k_padded ? column + s->group : s->k_padded;
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
        for (; column < end; column += act_group) {
            const int64_t columns = end - column < act_group ? end - column : act_group;
            const int quads = act_group == 32 ? 1 : (int)(columns / 32);
            vnni_group(bits, quads, has_offset, mr, row, w, column, scale_at, scale_at + sums,
                       scale, offset, &ahead, y);
            w += quads * 4 * 32 * bits;
            scale_at += 4;
        }
        column = end;
    }
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        _mm512_storeu_ps(out[i], y[i][0]);
        _mm512_storeu_ps(out[i] + 16, y[i][1]);
    }
}

/* The same for an mr known at run time, and for both kinds of weight. */
ANEMO_VNNI_INLINE void vnni_tile_rows_ahead(int bits, int act_group, int64_t mr,
                                            const anemo_vnni_tile *t, anemo_vnni_ahead ahead,
                                            float out[][ANEMO_TILE_COLUMNS]) {
#define ANEMO_VNNI_CASE(rows)                                                                      \
    case rows:                                                                                     \
        if (t->shape->has_minimum || t->shape->has_zero) {                                         \
            vnni_tile(bits, act_group, true, rows, t, ahead, out);                                 \
        } else {                                                                                   \
            vnni_tile(bits, act_group, false, rows, t, ahead, out);                                \
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

ANEMO_VNNI_INLINE void vnni_tile_rows(int bits, int act_group, int64_t mr, const anemo_vnni_tile *t,
                                      float out[][ANEMO_TILE_COLUMNS]) {
    vnni_tile_rows_ahead(bits, act_group, mr, t, (anemo_vnni_ahead){NULL, 0}, out);
}

#endif
