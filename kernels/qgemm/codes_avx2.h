/* Codes of W times codes of x in integers on AVX2: what the tiles and the GEMV of all widths share
 * (layout_n32.h has how codes lie).
 *
 * Codes as bytes. vpmaddubsw multiplies 4 columns of 8 rows of W (u8) with 4 broadcast activations
 * (s8) and adds neighbours into 16 bits. Activations lie in -127 .. 127 (the quantiser rounds x 127
 * / max|x|: -128 does not occur, and would do no harm here), so that a product of two is at most
 * 2 * 15 * 127 = 3810 for 4 bits, 7874 for 5, 16002 for 6: eight, four and two of them fit. So 32,
 * 16 or 8 columns are summed in 16 bits before one vpmaddwd with ones widens them: for 256 products
 * 9, 10 or 12 multiplier operations, where widening after every one takes 16.
 *
 * Tables that span less than 32 (MXFP4: -12 to 12) are codes of 5 bits that begin at their least
 * value.
 *
 * Codes as words. 8 bits, and what other tables hold plus 128: 2 * 255 * 127 does not fit 16 bits,
 * vpmaddubsw would saturate. The codes are split into words instead, even bytes by a mask and odd
 * ones by a shift, and vpmaddwd multiplies them with words of x, which are made once per group for
 * all 32 rows of W: 16 operations for 256 products. A product of two is at most 64770, a group of
 * 128 columns 4.1 million: exact in 32 bits, with nothing to prove about signs. */
#ifndef ANEMO_CODES_AVX2_H
#define ANEMO_CODES_AVX2_H

#include "anemo_config.h"
#include "kernels/qgemm/layout_n32.h"

#include <immintrin.h>

enum { ANEMO_AVX2_ROWS = 6, ANEMO_AVX2_COLUMNS = 32, ANEMO_AVX2_GROUP_MAX = 128 };

/* How codes lie in memory: their bits, or tables; a narrow one spans less than 32. */
enum { AVX2_TABLE = 16, AVX2_NARROW_TABLE = 17 };

/* What a tile reads: one block of W and up to 6 a8 records. */
typedef struct anemo_avx2_tile {
    const anemo_n32_shape *shape;
    const uint8_t *block;
    const int8_t *row[ANEMO_AVX2_ROWS]; /* records; gathered rows need no copy */
    int64_t near;                       /* mr = 1: asks for W so far ahead */
    int32_t centre;                     /* what narrow tables are offset by */
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

/* ---------------------------------------------------------------- decoding */

/* Are codes multiplied as words? */
#define AVX2_AS_WORDS(code) ((code) == 8 || (code) == AVX2_TABLE)

/* Quads of columns whose products fit 16-bit sums. */
#define AVX2_RUN(code) ((code) == 4 ? 8 : (code) == 6 ? 2 : 4)

/* Bytes of 32 columns. */
#define AVX2_QUADS_BYTES(code) ((code) >= AVX2_TABLE ? 512 : 128 * (code))

/* From half of a block to the other. Codes of 6 bits have none: their rows 16 to 31 are decoded
 * otherwise, `upper`. */
#define AVX2_HALF_BYTES(code) ((code) == 8 ? 128 : (code) == 6 ? 0 : 64)

/* Bit `bit` of each byte moved to bit 4; the others hold anything. */
ANEMO_AVX2_INLINE __m256i avx2_to_fifth(__m256i bits, int bit) {
    return bit < 4 ? _mm256_slli_epi16(bits, 4 - bit) : _mm256_srli_epi16(bits, bit - 4);
}

/* Columns 4..7 of 8 of 6-bit rows 16 to 31: the high bits of the three lines that hold the rest. */
ANEMO_AVX2_INLINE __m256i avx2_high_bits(const uint8_t *at) {
    const __m256i a = _mm256_and_si256(_mm256_srli_epi16(avx2_load(at), 6), _mm256_set1_epi8(3));
    const __m256i b =
        _mm256_and_si256(_mm256_srli_epi16(avx2_load(at + 64), 4), _mm256_set1_epi8(12));
    const __m256i c =
        _mm256_and_si256(_mm256_srli_epi16(avx2_load(at + 128), 2), _mm256_set1_epi8(48));
    return _mm256_or_si256(_mm256_or_si256(a, b), c);
}

/* Codes of quad `quad` of the 32 columns at w: 4 columns of 8 rows of W, the v-th of a half (or of
 * the block). `table` is looked up. */
ANEMO_AVX2_INLINE __m256i avx2_codes(int code, bool upper, const uint8_t *w, int quad, int v,
                                     const uint8_t *table) {
    const __m256i low = _mm256_set1_epi8(15);
    const int step = quad / 2, second = quad % 2;
    if (code == 8) {
        return avx2_load(w + 256 * step + 64 * second + 128 * (v / 2) + 32 * (v % 2));
    }
    if (code == 6) {
        const uint8_t *at = w + 192 * step + 32 * (v % 2);
        const bool other = upper || v >= 2;
        if (other && second) {
            return avx2_high_bits(at);
        }
        return _mm256_and_si256(avx2_load(at + (other ? 64 : 128 * second)), _mm256_set1_epi8(63));
    }
    const __m256i both = avx2_load(w + (code == 5 ? 128 : 0) + 128 * step + 32 * v);
    const __m256i nibble = _mm256_and_si256(second ? _mm256_srli_epi16(both, 4) : both, low);
    if (code == 5) {
        const __m256i fifth = avx2_to_fifth(avx2_load(w + 32 * v), quad);
        return _mm256_or_si256(nibble, _mm256_and_si256(fifth, _mm256_set1_epi8(16)));
    }
    return code >= AVX2_TABLE ? _mm256_shuffle_epi8(avx2_load(table), nibble) : nibble;
}

/* ---------------------------------------------------------------- as bytes */

/* `quads` quads, from number `first` of the 32 columns at w and `column`, into 16-bit sums. */
ANEMO_AVX2_INLINE void avx2_bytes_run(int code, bool upper, int mr, int across, const uint8_t *w,
                                      int first, int quads, const uint8_t *table,
                                      const anemo_avx2_tile *t, int64_t column,
                                      __m256i sum[ANEMO_AVX2_ROWS][4]) {
    ANEMO_AVX2_UNROLL
    for (int quad = 0; quad < quads; quad++) {
        __m256i codes[4];
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < across; v++) {
            codes[v] = avx2_codes(code, upper, w, first + quad, v, table);
        }
        ANEMO_AVX2_UNROLL
        for (int i = 0; i < mr; i++) {
            const int8_t *four = t->row[i] + column + 4 * (first + quad);
            ANEMO_AVX2_UNROLL
            for (int v = 0; v < across; v += 2) {
                if (quad == 0) {
                    ANEMO_AVX2_DOT_FIRST("vpmaddubsw", sum[i][v], sum[i][v + 1], codes[v],
                                         codes[v + 1], four);
                } else {
                    ANEMO_AVX2_DOT("vpmaddubsw", "vpaddw", sum[i][v], sum[i][v + 1], codes[v],
                                   codes[v + 1], four);
                }
            }
        }
    }
}

/* All 32 columns of 32 rows of W with 4 bits and one or two of x, which leave registers for 128
 * bytes at once. */
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

/* ---------------------------------------------------------------- as words */

/* The codes of a row of x as words, 32 columns after the other: 8 pairs (k, k+2), of every 4
 * columns one, then the 8 pairs (k+1, k+3). */
ANEMO_AVX2_INLINE void avx2_words(int mr, const anemo_avx2_tile *t, int64_t column, int64_t columns,
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

/* `quads` quads, from number `first` of the 32 columns at w, whose words begin at `column`, added
 * to 32-bit sums. */
ANEMO_AVX2_INLINE void avx2_words_run(int code, bool upper, int mr, int across, const uint8_t *w,
                                      int first, int quads, const uint8_t *table,
                                      int16_t words[ANEMO_AVX2_ROWS][ANEMO_AVX2_GROUP_MAX],
                                      int64_t column, __m256i sum[ANEMO_AVX2_ROWS][4]) {
    ANEMO_AVX2_UNROLL
    for (int half = 2 * first; half < 2 * (first + quads); half++) { /* two columns of four */
        __m256i codes[4];
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < across; v++) {
            const __m256i four = avx2_codes(code, upper, w, half / 2, v, table);
            codes[v] = half % 2 ? _mm256_srli_epi16(four, 8)
                                : _mm256_and_si256(four, _mm256_set1_epi16(255));
        }
        ANEMO_AVX2_UNROLL
        for (int i = 0; i < mr; i++) {
            const int16_t *two = words[i] + column + 2 * (half / 2) + 16 * (half % 2);
            ANEMO_AVX2_UNROLL
            for (int v = 0; v < across; v += 2) {
                ANEMO_AVX2_DOT("vpmaddwd", "vpaddd", sum[i][v], sum[i][v + 1], codes[v],
                               codes[v + 1], two);
            }
        }
    }
}

#endif
