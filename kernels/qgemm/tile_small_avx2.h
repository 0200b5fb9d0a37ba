/* The tile on AVX2 for what tile_avx2.h leaves: codes of 5 and 6 bits and of tables, small scales
 * (e8m0, two-level) and weight groups of 16. Activations have one scale per 32 columns. The
 * arithmetic is that of tile_avx2.h; what differs:
 *
 * - the scales of a group are found by walking through the block (layout_n32.h) and made when the
 *   group begins: 32 products of q and d, or 32 exponents;
 * - codes of 6 bits are summed in 16 bits for 8 columns only (codes_avx2.h), the wide sums of a
 *   tile meanwhile wait in the first-level cache;
 * - of groups of 16 the records lack the sums: each tile makes those of its rows, 9 operations for
 *   two groups beside the 200 of their products, and keeps no memory for them. Codes of 6 bits
 *   always go 16 columns at a time.
 *
 * One row of x walks through up to three blocks side by side, as in gemv_avx2.h. */
#ifndef ANEMO_TILE_SMALL_AVX2_H
#define ANEMO_TILE_SMALL_AVX2_H

#include "kernels/qgemm/gemv_avx2.h"

/* ---------------------------------------------------------------- scales */

/* Numbers of rows 8 v .. 8 v + 7 from 32 that stand at `at`, with their first level. */
ANEMO_AVX2_INLINE __m256 avx2_small_numbers(const anemo_n32_shape *s, __m256 first,
                                            const uint8_t *at, int v) {
    if (s->scale_bytes > 1) {
        return avx2_numbers(s, at, v);
    }
    const __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(at + 8 * v));
    if (s->two_level) {
        return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), first);
    }
    /* The exponent of a float32; 2^-127 alone is subnormal. */
    const __m256i power = _mm256_slli_epi32(_mm256_cvtepu8_epi32(bytes), 23);
    return _mm256_castsi256_ps(_mm256_max_epu32(power, _mm256_set1_epi32(0x00400000)));
}

/* A walk through a block: the group it stands at. */
typedef struct avx2_small_walk {
    anemo_n32_place at;
    __m256 first[2][4];         /* level of scales and minima under this header */
    __m256 scale[4], offset[4]; /* offset: what codes are offset by, 0, o or s z */
} avx2_small_walk;

/* Goes on to group g of `block`. */
ANEMO_AVX2_INLINE void avx2_small_next(const anemo_n32_shape *s, bool has_offset,
                                       const uint8_t *block, int64_t g, avx2_small_walk *walk) {
    anemo_n32_next_group(s, &walk->at);
    const uint8_t *header = walk->at.header, *scales = walk->at.scales;
    if (s->two_level && walk->at.sets + 1 == s->sets) {
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < 8; v++) {
            if (v < 4 || s->has_minimum) {
                walk->first[v / 4][v % 4] =
                    _mm256_cvtph_ps(_mm_loadu_si128((const void *)(header + 16 * v)));
            }
        }
    }
    ANEMO_AVX2_UNROLL
    for (int v = 0; v < 4; v++) {
        walk->scale[v] = avx2_small_numbers(s, walk->first[0][v], scales, v);
        walk->offset[v] = _mm256_setzero_ps();
        if (has_offset && s->has_minimum) {
            walk->offset[v] =
                avx2_small_numbers(s, walk->first[1][v], scales + 32 * s->scale_bytes, v);
        } else if (has_offset) {
            const __m128i zero =
                _mm_loadl_epi64((const __m128i *)(const void *)(block + 32 * g + 8 * v));
            walk->offset[v] =
                _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(zero)), walk->scale[v]);
        }
    }
}

/* ---------------------------------------------------------------- integers */

/* What a tile knows of its rows at 32 columns. */
typedef struct avx2_small_rows_at {
    int32_t total[2][ANEMO_AVX2_ROWS]; /* sums of their codes: of all, or of each 16 */
    _Alignas(32) int16_t words[ANEMO_AVX2_ROWS][ANEMO_AVX2_GROUP_MAX];
} avx2_small_rows_at;

ANEMO_AVX2_INLINE void avx2_small_prepare(int code, bool fine, int mr, const anemo_avx2_tile *t,
                                          int64_t column, int64_t sums_at, avx2_small_rows_at *x) {
    ANEMO_AVX2_UNROLL
    for (int i = 0; i < mr; i++) {
        if (!fine) {
            x->total[0][i] = *(const anemo_avx2_word *)(const void *)(t->row[i] + sums_at);
            continue;
        }
        const __m256i codes = avx2_load(t->row[i] + column);
        __m256i sum = _mm256_maddubs_epi16(_mm256_set1_epi8(1), codes);
        sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(1)); /* a lane is 16 columns */
        sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32(sum, 0x4e));
        sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32(sum, 0xb1));
        x->total[0][i] = _mm_cvtsi128_si32(_mm256_castsi256_si128(sum));
        x->total[1][i] = _mm_cvtsi128_si32(_mm256_extracti128_si256(sum, 1));
    }
    if (AVX2_AS_WORDS(code)) {
        avx2_words(mr, t, column, 32, x->words);
    }
}

/* Sums of `quads` quads, from number `first` of the 32 columns at w and `column`, with the
 * correction of weights without offset. */
ANEMO_AVX2_INLINE void avx2_small_sums(int code, bool upper, bool has_offset, int mr, int across,
                                       const uint8_t *w, int first, int quads, const uint8_t *table,
                                       const anemo_avx2_tile *t, int64_t column,
                                       avx2_small_rows_at *x, const int32_t *total,
                                       __m256i sum[ANEMO_AVX2_ROWS][4]) {
    const __m256i ones = _mm256_set1_epi16(1);
    const int shift = code == AVX2_TABLE ? 7 : code - 1;
    ANEMO_AVX2_UNROLL
    for (int i = 0; i < mr; i++) {
        const __m256i codes = avx2_word(total + i);
        const __m256i centre = code == AVX2_NARROW_TABLE
                                   ? _mm256_mullo_epi32(codes, _mm256_set1_epi32(t->centre))
                                   : _mm256_slli_epi32(codes, shift);
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < across; v++) {
            sum[i][v] = _mm256_setzero_si256();
            sum[i][v] = has_offset ? sum[i][v] : _mm256_sub_epi32(sum[i][v], centre);
        }
    }
    if (AVX2_AS_WORDS(code)) {
        avx2_words_run(code, upper, mr, across, w, first, quads, table, x->words, 0, sum);
        return;
    }
    ANEMO_AVX2_UNROLL
    for (int run = 0; run < quads; run += AVX2_RUN(code)) {
        __m256i part[ANEMO_AVX2_ROWS][4];
        avx2_bytes_run(code, upper, mr, across, w, first + run,
                       quads < AVX2_RUN(code) ? quads : AVX2_RUN(code), table, t, column, part);
        ANEMO_AVX2_UNROLL
        for (int i = 0; i < mr; i++) {
            ANEMO_AVX2_UNROLL
            for (int v = 0; v < across; v++) {
                sum[i][v] = _mm256_add_epi32(sum[i][v], _mm256_madd_epi16(part[i][v], ones));
            }
        }
    }
}

/* ---------------------------------------------------------------- tiles */

/* 16 (fine) or 32 columns of a block, `half` of the 32 at w and `column`, to the floats y. */
ANEMO_AVX2_INLINE void avx2_small_piece(int code, bool fine, int half, bool has_offset, int mr,
                                        const uint8_t *w, const uint8_t *table,
                                        const anemo_avx2_tile *t, int64_t column, int64_t scale_at,
                                        avx2_small_rows_at *x, const __m256 scale[4],
                                        const __m256 offset[4], __m256 y[ANEMO_AVX2_ROWS][4]) {
    const int across = ANEMO_AVX2_ACROSS(mr), first = 4 * half, quads = fine ? 4 : 8;
    __m256i sum[ANEMO_AVX2_ROWS][4];
    if (code == 6 && across == 2) { /* the halves of a block are decoded otherwise: no loop */
        avx2_small_sums(code, false, has_offset, mr, across, w, first, quads, table, t, column, x,
                        x->total[half], sum);
        avx2_add_group(has_offset, mr, across, t, scale_at, 0, x->total[half], scale, offset, sum,
                       0, y);
        __asm__ volatile("" : : : "memory");
        avx2_small_sums(code, true, has_offset, mr, across, w, first, quads, table, t, column, x,
                        x->total[half], sum);
        avx2_add_group(has_offset, mr, across, t, scale_at, 0, x->total[half], scale, offset, sum,
                       2, y);
        return;
    }
    for (int v = 0; v < 4; v += across) {
        if (mr > ANEMO_AVX2_TOGETHER) {
            ANEMO_AVX2_APART(v);
        }
        avx2_small_sums(code, false, has_offset, mr, across, w + AVX2_HALF_BYTES(code) * (v / 2),
                        first, quads, table, t, column, x, x->total[half], sum);
        avx2_add_group(has_offset, mr, across, t, scale_at, 0, x->total[half], scale, offset, sum,
                       v, y);
    }
}

/* Walks through blocks of one shape, side by side. */
typedef struct avx2_small_walks {
    avx2_small_walk of[ANEMO_AVX2_STREAMS];
    int64_t groups, left; /* begun; columns left of the last */
} avx2_small_walks;

/* The next 16 or 32 columns of each block, `half` of the 32 that begin at `column`. */
ANEMO_AVX2_INLINE void avx2_small_step(int code, bool fine, int half, bool has_offset, int streams,
                                       int mr, const uint8_t *table, const anemo_avx2_tile *t,
                                       const uint8_t *const *block, int64_t column,
                                       int64_t scale_at, avx2_small_rows_at *x,
                                       avx2_small_walks *walks,
                                       __m256 y[ANEMO_AVX2_STREAMS][ANEMO_AVX2_ROWS][4]) {
    const anemo_n32_shape *s = t->shape;
    const bool begins = walks->left == 0;
    if (begins && walks->groups == s->groups) {
        return; /* padding behind the last group of 16 */
    }
    walks->left = (begins ? s->group : walks->left) - (fine ? 16 : 32);
    walks->groups += begins;
    ANEMO_AVX2_UNROLL
    for (int b = 0; b < streams; b++) {
        avx2_small_walk *walk = &walks->of[b];
        if (begins) {
            avx2_small_next(s, has_offset, block[b], walks->groups - 1, walk);
        }
        if (half == 0 && (streams > 1 ? t->near != 0 : t->alone)) {
            avx2_near(s->bits, walk->at.w, streams > 1 ? t->near : ANEMO_AVX2_NEAR, 32);
        }
        avx2_small_piece(code, fine, half, has_offset, mr, walk->at.w, table, t, column, scale_at,
                         x, walk->scale, walk->offset, y[b]);
    }
}

/* The least value of a table plus 128; of codes it is nobody's. */
static inline uint8_t avx2_table_least(const anemo_n32_shape *s) {
    uint8_t least = 255;
    for (int i = 0; i < 16; i++) {
        least = s->table[i] < least ? s->table[i] : least;
    }
    return least;
}

static inline bool avx2_table_is_narrow(const anemo_n32_shape *s) {
    const int most = avx2_table_least(s) + 31;
    for (int i = 0; i < 16; i++) {
        if (s->table[i] > most) {
            return false;
        }
    }
    return true;
}

/* out[stream * mr + row][32] = x[mr, k] . W[32 rows, k] of each block; code, fine (16 columns at a
 * time), streams and mr are constants. */
ANEMO_AVX2_INLINE void avx2_small_tile(int code, bool fine, bool has_offset, int streams, int mr,
                                       const anemo_avx2_tile *t, const uint8_t *const *block,
                                       float out[][ANEMO_AVX2_COLUMNS]) {
    const anemo_n32_shape *s = t->shape;
    const int64_t kp = anemo_round_up(s->k, 128);
    _Alignas(32) uint8_t table[32];
    for (int i = 0; code >= AVX2_TABLE && i < 32; i++) {
        const int least = code == AVX2_NARROW_TABLE ? 128 - t->centre : 0;
        table[i] = (uint8_t)(s->table[i % 16] - least);
    }
    avx2_small_walks walks = {.groups = 0};
    __m256 y[ANEMO_AVX2_STREAMS][ANEMO_AVX2_ROWS][4];
    ANEMO_AVX2_UNROLL
    for (int b = 0; b < streams; b++) {
        walks.of[b].at.w = block[b] + s->zero_bytes;
        for (int i = 0; i < mr; i++) {
            y[b][i][0] = y[b][i][1] = y[b][i][2] = y[b][i][3] = _mm256_setzero_ps();
        }
    }
    for (int64_t column = 0; column < s->k_padded; column += 32) {
        const int64_t scale_at = kp + column / 8;
        avx2_small_rows_at x;
        avx2_small_prepare(code, fine, mr, t, column, scale_at + kp / 8, &x);
        avx2_small_step(code, fine, 0, has_offset, streams, mr, table, t, block, column, scale_at,
                        &x, &walks, y);
        if (fine) {
            avx2_small_step(code, fine, 1, has_offset, streams, mr, table, t, block, column,
                            scale_at, &x, &walks, y);
        }
        ANEMO_AVX2_UNROLL
        for (int b = 0; b < streams; b++) {
            walks.of[b].at.w += AVX2_QUADS_BYTES(code);
        }
    }
    for (int b = 0; b < streams * mr; b++) {
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < 4; v++) {
            _mm256_storeu_ps(out[b] + 8 * v, y[b / mr][b % mr][v]);
        }
    }
}

/* The forms of a code: codes of 6 bits go 16 columns at a time, of 5 bits 32, the others as their
 * groups are. */
ANEMO_AVX2_INLINE void avx2_small_form(int code, int streams, int mr, const anemo_avx2_tile *t,
                                       const uint8_t *const *block,
                                       float out[][ANEMO_AVX2_COLUMNS]) {
    const bool has_offset = t->shape->has_minimum || t->shape->has_zero;
    const bool fine = code == 6 || (code != 5 && t->shape->group == 16);
    if (has_offset && fine) {
        avx2_small_tile(code, code != 5, true, streams, mr, t, block, out);
    } else if (has_offset) {
        avx2_small_tile(code, code == 6, true, streams, mr, t, block, out);
    } else if (fine) {
        avx2_small_tile(code, code != 5, false, streams, mr, t, block, out);
    } else {
        avx2_small_tile(code, code == 6, false, streams, mr, t, block, out);
    }
}

/* For an mr known at run time, 2 to 6. */
ANEMO_AVX2_INLINE void avx2_small_rows(int code, int64_t mr, const anemo_avx2_tile *t,
                                       float out[][ANEMO_AVX2_COLUMNS]) {
#define ANEMO_AVX2_CASE(rows)                                                                      \
    case rows:                                                                                     \
        avx2_small_form(code, 1, rows, t, &t->block, out);                                         \
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

/* For streams known at run time, and one row. */
ANEMO_AVX2_INLINE void avx2_small_streams(int code, int streams, const anemo_avx2_gemv *j,
                                          float out[][ANEMO_AVX2_COLUMNS]) {
    anemo_avx2_tile t = {.shape = j->shape, .row = {j->row}, .alone = true};
    t.centre = 128 - avx2_table_least(j->shape);
    t.near = streams == 2 ? ANEMO_AVX2_BESIDE : 0;
#define ANEMO_AVX2_CASE(n)                                                                         \
    case n:                                                                                        \
        avx2_small_form(code, n, 1, &t, j->block, out);                                            \
        break;
    switch (streams) {
        ANEMO_AVX2_CASE(1)
        ANEMO_AVX2_CASE(2)
        ANEMO_AVX2_CASE(3)
    }
#undef ANEMO_AVX2_CASE
}

#endif
