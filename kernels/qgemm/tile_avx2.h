/* The tile of 8-bit dot products on AVX2, shared by w4a8 and w8a8: up to 6 rows of x and 32 rows of
 * W (layout_n32.h), all in integers but for one step per activation group (32 or 128 columns).
 *
 * 4-bit codes. vpmaddubsw multiplies 4 columns of 8 rows of W (u8) with 4 broadcast activations
 * (s8) and adds neighbours into 16 bits. A product of two is at most 2 * 15 * 127 = 3810, as codes
 * of activations lie in -127 .. 127 (the quantiser rounds x 127 / max|x|: -128 does not occur, and
 * would do no harm here: 8 * 2 * 15 * 128 = 30720). Eight of them, 30480, still fit. So 32 columns
 * are summed in 16 bits before one vpmaddwd with ones widens them: 9 multiplier operations for 256
 * products, where widening after every second one takes 12 and after every one 16.
 *
 * 8-bit codes. 2 * 255 * 127 does not fit 16 bits, vpmaddubsw would saturate. The codes are split
 * into words instead, even bytes by a mask and odd ones by a shift, and vpmaddwd multiplies them
 * with words of x, which are made once per group for all 32 rows of W. A product of two is at most
 * 64770, a group of 128 columns 4.1 million: exact in 32 bits, with nothing to prove about signs.
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

#include "anemo_config.h"
#include "kernels/qgemm/layout_n32.h"

#include <immintrin.h>

enum { ANEMO_AVX2_ROWS = 6, ANEMO_AVX2_COLUMNS = 32, ANEMO_AVX2_GROUP_MAX = 128 };

/* Bytes that a single tile fetches ahead of itself. */
enum { ANEMO_AVX2_NEAR = 8192 };

/* What a tile reads: one block of W and up to 6 a8 records. */
typedef struct anemo_avx2_tile {
    const anemo_n32_shape *shape;
    const uint8_t *block;
    const int8_t *row[ANEMO_AVX2_ROWS]; /* records; gathered rows need no copy */
    int64_t near;                       /* mr = 1: asks for W so far ahead */
    bool alone;                         /* no other tile reads the block: it asks for W ahead */
} anemo_avx2_tile;

/* What is broadcast from an a8 record, straight from memory: four codes or a sum, and a scale. */
typedef int32_t anemo_avx2_word __attribute__((may_alias, aligned(4)));
typedef float anemo_avx2_number __attribute__((may_alias, aligned(4)));

/* Every tile height, offset kind and group size is its own unrolled copy of the code below, so that
 * the accumulators stay in registers. Under the sanitizers one general copy is enough. */
#if ANEMO_SANITIZE
#define ANEMO_AVX2_INLINE static __attribute__((noinline, unused))
#define ANEMO_AVX2_UNROLL
#elif defined __clang__
#define ANEMO_AVX2_INLINE static inline __attribute__((always_inline))
#define ANEMO_AVX2_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ANEMO_AVX2_INLINE static inline __attribute__((always_inline))
#define ANEMO_AVX2_UNROLL _Pragma("GCC unroll 16")
#endif

/* 4 columns of a row of x against two vectors of codes: the inner loop, written as instructions. Of
 * 16 registers 12 are sums and 2 are codes; compilers regroup the additions, hoist the broadcasts,
 * and then keep sums in memory. */
#define ANEMO_AVX2_DOT(multiply, add, sum0, sum1, codes0, codes1, four)                            \
    do {                                                                                           \
        __m256i t_, u_;                                                                            \
        __asm__("vpbroadcastd %[a], %[t]\n\t" multiply " %[t], %[c0], %[u]\n\t" multiply           \
                " %[t], %[c1], %[t]\n\t" add " %[u], %[s0], %[s0]\n\t" add " %[t], %[s1], %[s1]"   \
                : [s0] "+x"(sum0), [s1] "+x"(sum1), [t] "=&x"(t_), [u] "=&x"(u_)                   \
                : [c0] "x"(codes0), [c1] "x"(codes1),                                              \
                  [a] "m"(*(const anemo_avx2_word *)(const void *)(four)));                        \
    } while (0)
#define ANEMO_AVX2_DOT_FIRST(multiply, sum0, sum1, codes0, codes1, four)                           \
    __asm__("vpbroadcastd %[a], %[s1]\n\t" multiply " %[s1], %[c0], %[s0]\n\t" multiply            \
            " %[s1], %[c1], %[s1]"                                                                 \
            : [s0] "=&x"(sum0), [s1] "=&x"(sum1)                                                   \
            : [c0] "x"(codes0), [c1] "x"(codes1),                                                  \
              [a] "m"(*(const anemo_avx2_word *)(const void *)(four)))

/* Compilers know that integer additions may be regrouped, and make of a chain of them a tree for
 * which there are no registers. This keeps the chain. */
#define ANEMO_AVX2_KEEP(v) __asm__("" : "+x"(v))

/* From here on the results live in memory and the halves of a block are a loop: v and what lies in
 * memory are hidden from the compiler, which would unroll it and keep in registers what it cannot.
 * Up to ANEMO_AVX2_TOGETHER rows there are registers for the results as well. */
#if defined __clang__
#define ANEMO_AVX2_TOGETHER 1
#else
#define ANEMO_AVX2_TOGETHER 2
#endif
#define ANEMO_AVX2_APART(v) __asm__ volatile("" : "+r"(v) : : "memory")

/* Vectors of 8 rows of W that a tile of mr rows takes at once: 4 are a whole block. */
#define ANEMO_AVX2_ACROSS(mr) ((mr) <= 2 ? 4 : 2)

ANEMO_AVX2_INLINE __m256i avx2_load(const void *at) {
    return _mm256_loadu_si256((const __m256i *)at);
}

ANEMO_AVX2_INLINE __m256i avx2_word(const void *at) {
    return _mm256_set1_epi32(*(const anemo_avx2_word *)at);
}

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

/* w4: 32 columns of 16 rows of W, into 16-bit sums of 8 products of two. */
ANEMO_AVX2_INLINE void avx2_w4_half(int mr, const uint8_t *w, const anemo_avx2_tile *t,
                                    int64_t column, __m256i sum[ANEMO_AVX2_ROWS][4]) {
    const __m256i low = _mm256_set1_epi8(15);
    ANEMO_AVX2_UNROLL
    for (int quad = 0; quad < 8; quad++) {
        __m256i codes[2];
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < 2; v++) {
            const __m256i both = avx2_load(w + 128 * (quad / 2) + 32 * v);
            codes[v] = _mm256_and_si256(quad % 2 ? _mm256_srli_epi16(both, 4) : both, low);
        }
        ANEMO_AVX2_UNROLL
        for (int i = 0; i < mr; i++) {
            const int8_t *four = t->row[i] + column + 4 * quad;
            if (quad == 0) {
                ANEMO_AVX2_DOT_FIRST("vpmaddubsw", sum[i][0], sum[i][1], codes[0], codes[1], four);
            } else {
                ANEMO_AVX2_DOT("vpmaddubsw", "vpaddw", sum[i][0], sum[i][1], codes[0], codes[1],
                               four);
            }
        }
    }
}

/* The same of 32 rows of W and one or two of x, which leave registers for 128 bytes at once. */
ANEMO_AVX2_INLINE void avx2_w4_whole(int mr, const uint8_t *w, const anemo_avx2_tile *t,
                                     int64_t column, __m256i sum[ANEMO_AVX2_ROWS][4]) {
    const __m256i low = _mm256_set1_epi8(15);
    ANEMO_AVX2_UNROLL
    for (int step = 0; step < 4; step++) {
        __m256i a[2][2];
        ANEMO_AVX2_UNROLL
        for (int i = 0; i < mr; i++) {
            a[i][0] = avx2_word(t->row[i] + column + 8 * step);
            a[i][1] = avx2_word(t->row[i] + column + 8 * step + 4);
        }
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < 4; v++) {
            if (mr == 1 && t->near && v % 2 == 0) {
                _mm_prefetch((const char *)w + t->near + 128 * step + 32 * v, _MM_HINT_T0);
            }
            __m256i both = avx2_load(w + 128 * step + 32 * v);
            ANEMO_AVX2_KEEP(both);
            const __m256i w0 = _mm256_and_si256(both, low);
            const __m256i w1 = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
            ANEMO_AVX2_UNROLL
            for (int i = 0; i < mr; i++) {
                const __m256i p0 = _mm256_maddubs_epi16(w0, a[i][0]);
                const __m256i p1 = _mm256_maddubs_epi16(w1, a[i][1]);
                sum[i][v] = step == 0 ? p0 : _mm256_add_epi16(sum[i][v], p0);
                ANEMO_AVX2_KEEP(sum[i][v]);
                sum[i][v] = _mm256_add_epi16(sum[i][v], p1);
                ANEMO_AVX2_KEEP(sum[i][v]);
            }
        }
    }
}

ANEMO_AVX2_INLINE void avx2_w4_chunk(int mr, int across, const uint8_t *w, const anemo_avx2_tile *t,
                                     int64_t column, __m256i sum[ANEMO_AVX2_ROWS][4]) {
    if (across == 4) {
        avx2_w4_whole(mr, w, t, column, sum);
    } else {
        avx2_w4_half(mr, w, t, column, sum);
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

/* w8: the codes of a row of x as words, 32 columns after the other: 8 pairs (k, k+2), of every 4
 * columns one, then the 8 pairs (k+1, k+3). */
ANEMO_AVX2_INLINE void avx2_w8_words(int mr, const anemo_avx2_tile *t, int64_t column,
                                     int64_t columns,
                                     int16_t words[ANEMO_AVX2_ROWS][ANEMO_AVX2_GROUP_MAX]) {
    ANEMO_AVX2_UNROLL
    for (int i = 0; i < mr; i++) {
        for (int64_t c = 0; c < columns; c += 32) {
            const __m256i x = avx2_load(t->row[i] + column + c);
            const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
            _mm256_store_si256((__m256i *)(void *)(words[i] + c), even);
            _mm256_store_si256((__m256i *)(void *)(words[i] + c + 16), _mm256_srai_epi16(x, 8));
        }
    }
}

ANEMO_AVX2_INLINE void avx2_w8_sums(bool has_offset, int mr, int across, const uint8_t *w,
                                    const anemo_avx2_tile *t, int64_t columns, int64_t sums_at,
                                    int16_t words[ANEMO_AVX2_ROWS][ANEMO_AVX2_GROUP_MAX],
                                    __m256i sum[ANEMO_AVX2_ROWS][4]) {
    const __m256i low = _mm256_set1_epi16(255);
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
        ANEMO_AVX2_UNROLL
        for (int half = 0; half < 16; half++) { /* 4 columns, two of them at a time */
            const int quad = half / 2;
            __m256i codes[4];
            ANEMO_AVX2_UNROLL
            for (int v = 0; v < across; v++) {
                const __m256i four = avx2_load(w + 32 * c + 256 * (quad / 2) + 64 * (quad % 2) +
                                               128 * (v / 2) + 32 * (v % 2));
                codes[v] = half % 2 ? _mm256_srli_epi16(four, 8) : _mm256_and_si256(four, low);
            }
            ANEMO_AVX2_UNROLL
            for (int i = 0; i < mr; i++) {
                const int16_t *two = words[i] + c + 2 * quad + 16 * (half % 2);
                ANEMO_AVX2_UNROLL
                for (int v = 0; v < across; v += 2) {
                    ANEMO_AVX2_DOT("vpmaddwd", "vpaddd", sum[i][v], sum[i][v + 1], codes[v],
                                   codes[v + 1], two);
                }
            }
        }
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

/* y += what the integer sums of one activation group are worth. */
ANEMO_AVX2_INLINE void avx2_add_group(bool has_offset, int mr, int across, const anemo_avx2_tile *t,
                                      int64_t scales_at, int64_t sums_at, const __m256 *scale,
                                      const __m256 *offset, __m256i sum[ANEMO_AVX2_ROWS][4],
                                      int first, __m256 y[ANEMO_AVX2_ROWS][4]) {
    ANEMO_AVX2_UNROLL
    for (int i = 0; i < mr; i++) {
        const __m256 sx =
            _mm256_set1_ps(*(const anemo_avx2_number *)(const void *)(t->row[i] + scales_at));
        const __m256 total = _mm256_mul_ps(_mm256_cvtepi32_ps(avx2_word(t->row[i] + sums_at)), sx);
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
                avx2_w8_words(mr, t, column, a.columns, words);
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
                avx2_add_group(has_offset, mr, across, t, a.scale_at, a.sum_at, scale, offset, sum,
                               v, y);
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
