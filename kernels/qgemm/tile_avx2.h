/* The tile of 8-bit dot products on AVX2, shared by w4a8 and w8a8: up to 6 rows of x and 32 rows of
 * W (layout_n32.h), all in integers but for one step per activation group (32 or 128 columns).
 *
 * Where the integers end, as in tile_avx512vnni.h:
 * - without offset: y += sx sw (sum c a - 2^(bits-1) sum a), the bracket still in integers;
 * - minimum o: y += sx sw sum c a - o (sx sum a);  zero point z: the same with o = sw z.
 * Tiles of every height do the same operations in the same order for a row: its result does not
 * depend on m.
 *
 * Registers. There are 16: 12 hold sums of 6 rows x 16 rows of W, 2 the codes, 2 are for the
 * product and the broadcast. So a block is done in two halves, group by group, both reading the
 * same lines of x and neighbouring lines of W; float results stay in the first-level cache. Tall
 * and narrow is right: with the decoding of W (3 operations per 64 codes) shared by 6 rows instead
 * of 3 it costs 10 % instead of 20 %, while a broadcast costs a load only. Two rows have registers
 * for the whole width and take each 128-byte step of the stream at once; one row is gemv_avx2.h.
 *
 * Measured (Zen 4, one core, from the second-level cache, share of the best chain of the same
 * multiplications, probe_avx2.c): w4 6 rows, groups of 32: 72 %, of 128: 84 %; w8 78 % and 90 %.
 * The limit is not the two multipliers but all four pipes together: additions also land on the
 * multipliers' pipes, and no order of the two kinds gave more than 3.3 operations a cycle. The
 * distance to the probe is decoding (8 %) and what happens once per group: widening, correction,
 * conversion, scale, and reading and writing a float (20 % at 32 columns, 8 % at 128).
 *
 * Rejected, with what it gave:
 * - the inner loop in intrinsics: GCC 12 regroups the additions of a chain, Clang 14 hoists the
 *   broadcasts, and both then keep sums in memory: hence two short pieces of assembly;
 * - w8 by |w| and sign(a, w) on vpmaddubsw (exact, since |a| <= 127): the sign shares the pipes of
 *   the multipliers (one of each takes a cycle), so that 32 products need three such
 * operations, 1.5 cycles; with words two, and 1.25 cycles with the additions;
 * - w8 as two 4-bit codes, 16 h + l: 33 operations for 256 products against 32, and more decoding;
 * - 3 x 32 tiles, which broadcast half as often and decode W twice as often: w4 210 against 247
 *   GOP/s, w8 121 against 147;
 * - software prefetch of the block for several tiles (Zen 4): within 1 % or slower.
 *
 * A single tile asks for W 8 KiB ahead. On Zen 4, whose memory gave a third to a fifth as much per
 * core, that gained nothing. Zen 5, two threads, 14336 x 4096, group 32, W in memory, `anemo
 * compare` of two builds: time as a fraction of that without [95 % interval]; m = 1 by gemv_avx2.h:
 *
 *   m     w4                   w8                   (the middle of three pairs of copies)
 *   1     0.89 [0.87, 0.91]    0.92 [0.91, 0.93]
 *   2     0.89 [0.87, 0.90]    0.96 [0.94, 0.97]
 *   4     0.79 [0.78, 0.80]    0.95 [0.94, 0.96]
 *   8     0.98 [0.97, 0.99]    1.00 [1.00, 1.01]
 *   16    1.01 [1.00, 1.02]    1.00 [0.99, 1.01]
 *
 * That is in the slower of the two states of that machine's memory (gemv_avx2.h). */
#ifndef ANEMO_TILE_AVX2_H
#define ANEMO_TILE_AVX2_H

#include "kernels/qgemm/codes_avx2.h"

/* Bytes that a single tile fetches ahead of itself. */
enum { ANEMO_AVX2_NEAR = 8192 };

ANEMO_AVX2_INLINE __m256 avx2_numbers(const anemo_n32_shape *s, const uint8_t *at, int v) {
    if (s->scale_bytes == 2) {
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(at + 16 * v)));
    }
    return _mm256_loadu_ps((const float *)(const void *)(at + 32 * v));
}

/* Scales of a group's 32 rows from its header, and what its codes are offset by. */
ANEMO_AVX2_INLINE void avx2_header(const anemo_n32_shape *s, bool has_offset, const uint8_t *zeros,
                                   const uint8_t *header, __m256 scale[4], __m256 offset[4]) {
    ANEMO_AVX2_UNROLL
    for (int v = 0; v < 4; v++) {
        scale[v] = avx2_numbers(s, header, v);
        offset[v] = _mm256_setzero_ps();
        if (has_offset && s->has_minimum) {
            offset[v] = avx2_numbers(s, header + 32 * s->scale_bytes, v);
        } else if (has_offset) {
            const __m128i zero = _mm_loadl_epi64((const __m128i *)(const void *)(zeros + 8 * v));
            offset[v] = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(zero)), scale[v]);
        }
    }
}

/* Asks for W `near` ahead of the columns that are about to be read, and for a line more: headers
 * are not counted. Behind the last block this is memory that nobody reads. */
ANEMO_AVX2_INLINE void avx2_near(int bits, const uint8_t *w, int64_t near, int64_t columns) {
    for (int64_t c = 0; c < columns; c += 32) {
        const char *at = (const char *)w + near + 4 * bits * c;
        ANEMO_AVX2_UNROLL
        for (int line = 0; line < 2 * bits; line++) {
            _mm_prefetch(at + 64 * line, _MM_HINT_T0);
        }
    }
    _mm_prefetch((const char *)w + near - 64, _MM_HINT_T0);
}

ANEMO_AVX2_INLINE void avx2_w4_chunk(int mr, int across, const uint8_t *w, const anemo_avx2_tile *t,
                                     int64_t column, __m256i sum[ANEMO_AVX2_ROWS][4]) {
    if (across == 4) {
        avx2_w4_whole(mr, w, t, column, sum);
    } else {
        avx2_bytes_run(4, false, mr, across, w, 0, 8, NULL, t, column, sum);
    }
}

/* Sums of one activation group, with the correction of weights without offset. */
ANEMO_AVX2_INLINE void avx2_w4_sums(bool has_offset, int mr, int across, const uint8_t *w,
                                    const anemo_avx2_tile *t, int64_t column, int64_t columns,
                                    int64_t sums_at, __m256i sum[ANEMO_AVX2_ROWS][4]) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i part[ANEMO_AVX2_ROWS][4];
    avx2_w4_chunk(mr, across, w, t, column, part);
    ANEMO_AVX2_UNROLL
    for (int i = 0; i < mr; i++) {
        const __m256i centre = _mm256_slli_epi32(avx2_word(t->row[i] + sums_at), 3);
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < across; v++) {
            sum[i][v] = _mm256_madd_epi16(part[i][v], ones);
            sum[i][v] = has_offset ? sum[i][v] : _mm256_sub_epi32(sum[i][v], centre);
        }
    }
    for (int64_t c = 32; c < columns; c += 32) {
        avx2_w4_chunk(mr, across, w + 16 * c, t, column + c, part);
        ANEMO_AVX2_UNROLL
        for (int i = 0; i < mr; i++) {
            ANEMO_AVX2_UNROLL
            for (int v = 0; v < across; v++) {
                sum[i][v] = _mm256_add_epi32(sum[i][v], _mm256_madd_epi16(part[i][v], ones));
            }
        }
    }
}

ANEMO_AVX2_INLINE void avx2_w8_sums(bool has_offset, int mr, int across, const uint8_t *w,
                                    const anemo_avx2_tile *t, int64_t columns, int64_t sums_at,
                                    int16_t words[ANEMO_AVX2_ROWS][ANEMO_AVX2_GROUP_MAX],
                                    __m256i sum[ANEMO_AVX2_ROWS][4]) {
    ANEMO_AVX2_UNROLL
    for (int i = 0; i < mr; i++) {
        const __m256i centre = _mm256_slli_epi32(avx2_word(t->row[i] + sums_at), 7);
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < across; v++) {
            sum[i][v] = _mm256_setzero_si256();
            sum[i][v] = has_offset ? sum[i][v] : _mm256_sub_epi32(sum[i][v], centre);
        }
    }
    for (int64_t c = 0; c < columns; c += 32) {
        avx2_words_run(8, false, mr, across, w + 32 * c, 0, 8, NULL, words, c, sum);
    }
}

/* An activation group: its columns within the weight group that ends at `end`, and where a record
 * of kp columns has its scale and its sum. */
typedef struct avx2_act_group {
    int64_t columns, scale_at, sum_at;
} avx2_act_group;

ANEMO_AVX2_INLINE avx2_act_group avx2_act_group_at(int act_group, int64_t kp, int64_t column,
                                                   int64_t end) {
    const int64_t left = end - column, scale_at = kp + 4 * (column / act_group);
    return (avx2_act_group){act_group == 32    ? 32
                            : left < act_group ? left
                                               : act_group,
                            scale_at, scale_at + 4 * (kp / act_group)};
}

/* y += what the integer sums of one group are worth; `totals`: of the rows' codes, or NULL: they
 * stand in the records. */
ANEMO_AVX2_INLINE void avx2_add_group(bool has_offset, int mr, int across, const anemo_avx2_tile *t,
                                      int64_t scales_at, int64_t sums_at, const int32_t *totals,
                                      const __m256 *scale, const __m256 *offset,
                                      __m256i sum[ANEMO_AVX2_ROWS][4], int first,
                                      __m256 y[ANEMO_AVX2_ROWS][4]) {
    ANEMO_AVX2_UNROLL
    for (int i = 0; i < mr; i++) {
        const __m256 sx =
            _mm256_set1_ps(*(const anemo_avx2_number *)(const void *)(t->row[i] + scales_at));
        const __m256i codes = totals ? avx2_word(totals + i) : avx2_word(t->row[i] + sums_at);
        const __m256 total = _mm256_mul_ps(_mm256_cvtepi32_ps(codes), sx);
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < across; v++) {
            const __m256 value = _mm256_cvtepi32_ps(sum[i][v]);
            __m256 r = y[i][first + v];
            r = _mm256_fmadd_ps(value, _mm256_mul_ps(scale[first + v], sx), r);
            y[i][first + v] = has_offset ? _mm256_fnmadd_ps(total, offset[first + v], r) : r;
        }
    }
}

/* out[mr][32] = x[mr, k] . W[block of 32 rows, k]; bits, act_group and mr are constants. */
ANEMO_AVX2_INLINE void avx2_tile(int bits, int act_group, bool has_offset, int mr,
                                 const anemo_avx2_tile *t, float out[][ANEMO_AVX2_COLUMNS]) {
    const anemo_n32_shape *s = t->shape;
    const int across = ANEMO_AVX2_ACROSS(mr);
    const int64_t kp = anemo_round_up(s->k, 128);
    const uint8_t *w = t->block + s->zero_bytes;
    __m256 y[ANEMO_AVX2_ROWS][4];
    ANEMO_AVX2_UNROLL
    for (int i = 0; i < mr; i++) {
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < 4; v++) {
            y[i][v] = _mm256_setzero_ps();
        }
    }
    for (int64_t g = 0; g < s->groups; g++) {
        const int64_t begin = g * s->group;
        const int64_t end = begin + s->group < s->k_padded ? begin + s->group : s->k_padded;
        __m256 scale[4], offset[4];
        avx2_header(s, has_offset, t->block + 32 * g, w, scale, offset);
        w += s->header_bytes;
        for (int64_t column = begin; column < end; column += act_group) {
            const avx2_act_group a = avx2_act_group_at(act_group, kp, column, end);
            _Alignas(32) int16_t words[ANEMO_AVX2_ROWS][ANEMO_AVX2_GROUP_MAX];
            if (t->alone) {
                avx2_near(bits, w, ANEMO_AVX2_NEAR, a.columns);
            }
            if (bits == 8) {
                avx2_words(mr, t, column, a.columns, words);
            }
            for (int v = 0; v < 4; v += across) {
                if (mr > ANEMO_AVX2_TOGETHER) {
                    ANEMO_AVX2_APART(v);
                }
                __m256i sum[ANEMO_AVX2_ROWS][4];
                if (bits == 4) {
                    avx2_w4_sums(has_offset, mr, across, w + 32 * v, t, column, a.columns, a.sum_at,
                                 sum);
                } else {
                    avx2_w8_sums(has_offset, mr, across, w + 64 * v, t, a.columns, a.sum_at, words,
                                 sum);
                }
                avx2_add_group(has_offset, mr, across, t, a.scale_at, a.sum_at, NULL, scale, offset,
                               sum, v, y);
            }
            w += a.columns * 4 * bits;
        }
    }
    ANEMO_AVX2_UNROLL
    for (int i = 0; i < mr; i++) {
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < 4; v++) {
            _mm256_storeu_ps(out[i] + 8 * v, y[i][v]);
        }
    }
}

/* The same for an mr known at run time (2 to 6), and for both kinds of weight. */
ANEMO_AVX2_INLINE void avx2_tile_rows(int bits, int act_group, int64_t mr, const anemo_avx2_tile *t,
                                      float out[][ANEMO_AVX2_COLUMNS]) {
#define ANEMO_AVX2_CASE(rows)                                                                      \
    case rows:                                                                                     \
        if (t->shape->has_minimum || t->shape->has_zero) {                                         \
            avx2_tile(bits, act_group, true, rows, t, out);                                        \
        } else {                                                                                   \
            avx2_tile(bits, act_group, false, rows, t, out);                                       \
        }                                                                                          \
        break;
    switch (mr) {
        ANEMO_AVX2_CASE(2)
        ANEMO_AVX2_CASE(3)
        ANEMO_AVX2_CASE(4)
        ANEMO_AVX2_CASE(5)
        ANEMO_AVX2_CASE(6)
    }
#undef ANEMO_AVX2_CASE
}

#endif
