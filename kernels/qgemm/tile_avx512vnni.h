/* The 6 x 32 tile of u8 x s8 dot products on AVX-512 VNNI, shared by all kinds of codes.
 *
 * Weights are the unsigned operand of vpdpbusd (layout_n32.h), activations the signed one: four
 * bytes of one row of x, broadcast. A tile of up to 6 rows of x and 32 rows of W holds 12 int32 and
 * 12 float accumulators in registers. Integers accumulate over one activation group (32 or 128
 * columns, or the row) and then join the float sums:
 *
 * - without offset: y += sx sw (sum c a - 2^(bits-1) sum a); the correction is where the integers
 *   start;
 * - minimum o: y += sx sw sum c a - o (sx sum a);
 * - zero point z: the same with o = sw z.
 *
 * All tile heights do the same operations in the same order for a row, so a row's result does not
 * depend on m. The sums a8 records carry make every offset exact. A table is looked up plus 128 and
 * corrected like 8-bit codes. Where weight groups are finer than activation groups, integers join
 * per weight group with sw alone, and the activation scale multiplies once per activation group:
 * one float operation less, but the sums have to be made (heads_avx512vnni.h).
 *
 * The limit: vpdpbusd, multiplication and fma share two of the four vector pipes of Zen 4 and 5
 * (measured there: 12 dot products and n of these take as long as 12 + n of either; additions,
 * conversions, shifts and broadcasts beside 12 dot products take nothing). Per group of 32 columns
 * and pair (row, 16 columns) these are 8 dot products and 2 float operations, at most 80 % of the
 * dot product's peak; per group of 128: 32 and 2, 94 %; of groups of 32 under one activation scale
 * per row: 8 and 1, 89 %. That is why the a8_g128 and a8_row forms are faster on large m, and
 * a8_g32 (finer, more accurate) costs nothing when memory is the limit.
 *
 * Getting there, on Zen 5, 6 rows, groups of 32, W and x in L1, share of the peak:
 *
 *   scale and sum read from six records, correction shifted and subtracted    68 to 73
 *   the same, but starting at 0 (wrong results: what the correction costs)    74
 *   one line of start values and scales per group (heads_avx512vnni.h)        77 to 79.6
 *   ... and rows joining the floats one by one between the last dot products  79.6
 *
 * In qgemm at m = 512 that is 64 -> 74 % (w4) and 63 -> 73 % (w8), and 5- and 6-bit codes went from
 * 60 to 70 %: two loads and two integer operations too many at the border of a group cost more than
 * their share, because they delay the chains behind them. The rest is what a tile costs besides its
 * columns (147 cycles), W and x coming from L2 (3 %) and the next block from memory (3 %).
 *
 * Few rows. A dot product takes 4 cycles to join the next; 2 a cycle want 8 chains and reach 90 %
 * with them, 97 % with 10. So up to 3 rows have two sets of sums, one for each half of a step:
 * exact integers, so nothing changes but the time. (4 rows with 16 chains were not faster.)
 *
 * A single tile asks for W 8 KiB ahead of itself: the dot products leave the hardware's prefetcher
 * too little time. On two threads of Zen 5, 14336 x 4096, group 32, W in memory, this alone took
 * the time to 0.85 [0.82, 0.90] (w4, m = 1), 0.71 (2), 0.58 (4), 0.92 (8). 4, 16 and 32 KiB were no
 * better at 50 GB/s, and 2 and 4 KiB up to 18 % worse at 80. Reading two distant blocks in turns
 * gained as much as it lost (a plain loop gains 7 %). On Zen 4 it is the other way round: one or
 * two rows read two blocks in turns and ask for nothing (streams_avx512vnni.h).
 *
 * Rejected: decoding a block of W to bytes first (and/shift run beside the dot products: w4 and w8
 * are equally fast); tiles of 4 x 48 and 4 x 64 (the same 78 %: registers are not the limit); of
 * 8 x 32 with the floats in memory (W and x in L1 or L2, against 6 x 32: 0.84 of its speed in
 * groups of 32, 0.93 in groups of 128, and 0.70 inside qgemm, where GCC spills the rows' pointers);
 * blocking over k for L1 (on Zen 5 a tile was no faster with W in L1 than from L2; in qgemm on
 * Cascade Lake, 9 to 36 KiB of W for all tiles of a stretch and their floats in memory meanwhile,
 * 0.88 to 0.98 of the speed, beside a neighbour); fetching from L2 to L1 by hand (no gain); signed
 * nibbles (vpdpbusd wants one unsigned operand, and sign extension costs more than the correction);
 * activations as memory operands of the dot product, each loaded and broadcast twice ({1to16}),
 * which saves a third of the instructions: on Cascade Lake, where 12 dot products take 6
 * cycles, 7.1 of them instead of 6.05 with W in L1 and 8.9 instead of 7.35 in L2 (a line that comes
 * from L2 costs the loads 0.65 cycles), and in qgemm 0.88 of the speed. With a neighbour on the
 * core's other hyper-thread it is the same order, 12 against 10.4, while a probe that loads nothing
 * still does its 12 in 6.2: there no kernel reaches its share of the peak. The same idea with the
 * roles of A and W swapped is XNNPACK's qd8-f32-qc4w. */
#ifndef ANEMO_TILE_AVX512VNNI_H
#define ANEMO_TILE_AVX512VNNI_H

#include "anemo_config.h"
#include "kernels/prefetch.h"
#include "kernels/qgemm/layout_n32.h"

#include <immintrin.h>

enum { ANEMO_TILE_ROWS = 6, ANEMO_TILE_COLUMNS = 32 };

/* Blocks that up to so many rows may walk through side by side (streams_avx512vnni.h). */
enum { VNNI_STREAMS = 2, VNNI_STREAM_ROWS = 2 };

/* How codes lie in memory: their bits, or VNNI_TABLE. */
enum { VNNI_TABLE = 16 };

/* Words of a head for up to 8 rows, of each kind (heads_avx512vnni.h). */
enum { VNNI_HEAD = 8 };

/* What a tile reads: one block of W and up to 6 a8 records. */
typedef struct anemo_vnni_tile {
    const anemo_n32_shape *shape;
    const uint8_t *block;
    const int8_t *row[ANEMO_TILE_ROWS]; /* records; gathered rows need no copy */
    const int32_t *heads;               /* of these rows for this shape (heads_avx512vnni.h) */
} anemo_vnni_tile;

/* What a tile fetches for later: `lines` cache lines from `at` on for each 32 columns. */
typedef struct anemo_vnni_ahead {
    const uint8_t *at;
    int64_t lines;
    int64_t near;      /* bytes that one or two rows ask for ahead of themselves; 0: they do not */
    bool second_level; /* prefetch.h */
} anemo_vnni_ahead;

/* Is a single tile's W best left to the hardware's prefetcher? Measured on Zen 4 for codes of 8
 * bits, 14336 x 4096 from memory, time of asking over time of not: m = 1 1.10 to 1.43, 2 1.09
 * to 1.36, 3 1.09, 4 and 6 1.03; for codes of 4 bits, m = 1 1.03, 2 1.02, 3, 4 and 6 0.88. */
static inline bool vnni_asks_nothing(const anemo_n32_shape *s) {
    return s->bits == 8 && anemo_cpu_reads() == ANEMO_READS_UNASKED;
}

/* What a single tile fetches ahead of itself. On Granite Rapids in the second level; one row,
 * 14336 x 4096, part of the read bandwidth:
 *
 *                          q4_0     q8_0     q4_k     q6_k    (the first two in two streams)
 *   first level, 8 KiB     83       85       68       65
 *   second level, 8 KiB    79       84       71       68
 *   6 KiB                  83       85       70       71
 *   4 KiB                  87       88       71       74
 *   3 KiB                  89       90       73       72
 *   1.5 KiB                84       90       66       64 */
static inline anemo_vnni_ahead vnni_near_of(const uint8_t *block, bool asks, int64_t lines) {
    const bool second_level = anemo_cpu_reads() == ANEMO_READS_IN_STREAMS;
    const int64_t near = !asks ? 0 : second_level ? 3072 : 8192;
    return (anemo_vnni_ahead){
        .at = block + near, .lines = asks ? lines : 0, .near = near, .second_level = second_level};
}

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

/* ---------------------------------------------------------------- scales */

ANEMO_VNNI_INLINE __m512 vnni_halves(const uint8_t *at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)at));
}

ANEMO_VNNI_INLINE __m512i vnni_bytes(const uint8_t *at) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)at));
}

/* Numbers of rows 16 v .. 16 v + 15 from 32 that stand at `at`; first: of their first level. */
ANEMO_VNNI_INLINE __m512 vnni_numbers(const anemo_n32_shape *s, const uint8_t *first,
                                      const uint8_t *at, int v) {
    if (s->scale_bytes == 2) {
        return vnni_halves(at + 32 * v);
    }
    if (s->scale_bytes == 4) {
        return _mm512_loadu_ps(at + 64 * v);
    }
    if (s->two_level) {
        const __m512i q =
            _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(at + 16 * v)));
        return _mm512_mul_ps(_mm512_cvtepi32_ps(q), vnni_halves(first + 32 * v));
    }
    /* The exponent of a float32; 2^-127 alone is subnormal. */
    const __m512i power = _mm512_slli_epi32(vnni_bytes(at + 16 * v), 23);
    return _mm512_castsi512_ps(_mm512_max_epu32(power, _mm512_set1_epi32(0x00400000)));
}

/* Scales of group g, whose set stands at `at` of the block, and what multiplies the sum of
 * activations: 0, o or s z. */
ANEMO_VNNI_INLINE void vnni_scales(const anemo_n32_shape *s, const uint8_t *block,
                                   const uint8_t *header, const uint8_t *at, int64_t g,
                                   bool has_offset, __m512 scale[2], __m512 offset[2]) {
    ANEMO_VNNI_UNROLL
    for (int v = 0; v < 2; v++) {
        scale[v] = vnni_numbers(s, header, at, v);
        offset[v] = _mm512_setzero_ps();
        if (has_offset && s->has_minimum) {
            offset[v] = vnni_numbers(s, header + 64, at + 32 * s->scale_bytes, v);
        } else if (has_offset) {
            const __m512i zero = vnni_bytes(block + 32 * g + 16 * v);
            offset[v] = _mm512_mul_ps(_mm512_cvtepi32_ps(zero), scale[v]);
        }
    }
}

/* ---------------------------------------------------------------- integers */

/* Bit `bit` of each byte moved to bit 4; the others hold anything. Shifts want constants. */
ANEMO_VNNI_INLINE __m512i vnni_to_fifth(__m512i bits, int bit) {
    switch (bit) {
    case 0:
        return _mm512_slli_epi16(bits, 4);
    case 1:
        return _mm512_slli_epi16(bits, 3);
    case 2:
        return _mm512_slli_epi16(bits, 2);
    case 3:
        return _mm512_slli_epi16(bits, 1);
    case 4:
        return bits;
    case 5:
        return _mm512_srli_epi16(bits, 1);
    case 6:
        return _mm512_srli_epi16(bits, 2);
    default:
        return _mm512_srli_epi16(bits, 3);
    }
}

/* A line of W. In halves where few rows read it from memory: Zen 4 reads on faster so (prefetch.h).
 */
ANEMO_VNNI_INLINE __m512i vnni_line(bool halves, const uint8_t *at) {
    if (!halves) {
        return _mm512_loadu_si512(at);
    }
    __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)at);
    __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(at + 32));
    __asm__("" : "+v"(low), "+v"(high)); /* or GCC makes one load of the two */
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* Codes of 8 columns: w0 holds k..k+3 and w1 k+4..k+7 of 2 x 16 rows of W, from step `step` of the
 * 32 columns at w. */
ANEMO_VNNI_INLINE void vnni_decode(int code, bool halves, const uint8_t *w, int step, __m512i table,
                                   __m512i w0[2], __m512i w1[2]) {
    const __m512i low = _mm512_set1_epi8(15), fifth = _mm512_set1_epi8(16);
    if (code == 6) {
        const __m512i six = _mm512_set1_epi8(63);
        const __m512i a = vnni_line(halves, w + 192 * step);
        const __m512i b = vnni_line(halves, w + 192 * step + 64);
        const __m512i c = vnni_line(halves, w + 192 * step + 128);
        w0[0] = _mm512_and_si512(a, six);
        w0[1] = _mm512_and_si512(b, six);
        w1[0] = _mm512_and_si512(c, six);
        /* 0xf8: x | (y & z) */
        __m512i high = _mm512_and_si512(_mm512_srli_epi16(a, 6), _mm512_set1_epi8(3));
        high = _mm512_ternarylogic_epi32(high, _mm512_srli_epi16(b, 4), _mm512_set1_epi8(12), 0xf8);
        w1[1] =
            _mm512_ternarylogic_epi32(high, _mm512_srli_epi16(c, 2), _mm512_set1_epi8(48), 0xf8);
        return;
    }
    ANEMO_VNNI_UNROLL
    for (int v = 0; v < 2; v++) {
        if (code == 8) {
            w0[v] = vnni_line(halves, w + 256 * step + 128 * v);
            w1[v] = vnni_line(halves, w + 256 * step + 128 * v + 64);
            continue;
        }
        const uint8_t *nibbles = w + (code == 5 ? 128 : 0) + 128 * step + 64 * v;
        const __m512i both = vnni_line(halves, nibbles);
        w0[v] = _mm512_and_si512(both, low);
        w1[v] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
        if (code == 5) {
            const __m512i bits = _mm512_loadu_si512(w + 64 * v);
            w0[v] = _mm512_ternarylogic_epi32(w0[v], vnni_to_fifth(bits, 2 * step), fifth, 0xf8);
            w1[v] =
                _mm512_ternarylogic_epi32(w1[v], vnni_to_fifth(bits, 2 * step + 1), fifth, 0xf8);
        } else if (code == VNNI_TABLE) {
            w0[v] = _mm512_shuffle_epi8(table, w0[v]);
            w1[v] = _mm512_shuffle_epi8(table, w1[v]);
        }
    }
}

/* The integers of a tile. Few rows are too few chains for the latency of vpdpbusd; they have two
 * sets, one for w0 and one for w1. */
typedef struct vnni_integers {
    __m512i sum[2][ANEMO_TILE_ROWS][2];
} vnni_integers;

#define VNNI_SETS(mr) ((mr) <= 3 ? 2 : 1)

/* Few enough rows that reading W from memory is all that matters: they read it in halves of a line.
 */
#define VNNI_HALVES(mr) ((mr) <= 2)

/* Adds 4 columns of rows first .. last-1. */
ANEMO_VNNI_INLINE void vnni_dot(int first, int last, const int8_t *const row[ANEMO_TILE_ROWS],
                                int64_t column, const __m512i w[2],
                                __m512i sum[ANEMO_TILE_ROWS][2]) {
    ANEMO_VNNI_UNROLL
    for (int i = first; i < last; i++) {
        const __m512i a = _mm512_set1_epi32(vnni_word(row[i] + column));
        sum[i][0] = _mm512_dpbusd_epi32(sum[i][0], w[0], a);
        sum[i][1] = _mm512_dpbusd_epi32(sum[i][1], w[1], a);
    }
}

/* One or two rows are a single tile: it asks for what it reads a little later, line by line. */
#define VNNI_ALONE(mr) ((mr) <= 2)

ANEMO_VNNI_INLINE void vnni_near(int code, int mr, const uint8_t *w, int step,
                                 const anemo_vnni_ahead *ahead) {
    const int quad_bytes = code == VNNI_TABLE ? 512 : 128 * code;
    if (!VNNI_ALONE(mr) || ahead->near == 0) {
        return;
    }
    ANEMO_VNNI_UNROLL
    for (int line = quad_bytes * step / 256; line < quad_bytes * (step + 1) / 256; line++) {
        anemo_prefetch_far(w + ahead->near + 64 * line, ahead->second_level);
    }
}

/* The share of a header's lines that goes with its group number `set`. */
ANEMO_VNNI_INLINE void vnni_near_header(int mr, const anemo_n32_shape *s, const uint8_t *header,
                                        int64_t set, const anemo_vnni_ahead *ahead) {
    if (!VNNI_ALONE(mr) || ahead->near == 0) {
        return;
    }
    for (size_t at = 64 * (size_t)set; at < s->header_bytes; at += 64 * (size_t)s->sets) {
        anemo_prefetch_far(header + ahead->near + at, ahead->second_level);
    }
}

/* A quarter of the lines that belong to 32 columns, after each of their steps: in one burst, some
 * of the requests would be dropped. */
ANEMO_VNNI_INLINE void vnni_fetch(int mr, int step, anemo_vnni_ahead *ahead) {
    if (VNNI_ALONE(mr)) {
        return;
    }
    for (int64_t line = step; line < ahead->lines; line += 4) {
        anemo_prefetch_far(ahead->at, ahead->second_level);
        ahead->at += 64;
    }
}

/* Decodes a step and adds it. */
ANEMO_VNNI_INLINE void vnni_one(int code, int mr, const int8_t *const row[ANEMO_TILE_ROWS],
                                const uint8_t *w, int64_t column, int step, __m512i table,
                                anemo_vnni_ahead *ahead, vnni_integers *n) {
    __m512i w0[2], w1[2];
    vnni_decode(code, VNNI_HALVES(mr), w, step, table, w0, w1);
    vnni_near(code, mr, w, step, ahead);
    vnni_dot(0, mr, row, column + 8 * step, w0, n->sum[0]);
    vnni_dot(0, mr, row, column + 8 * step + 4, w1, n->sum[VNNI_SETS(mr) - 1]);
    vnni_fetch(mr, step, ahead);
    if (code == 5) { /* GCC would decode all steps first, and spill them */
        __asm__ volatile("" ::: "memory");
    }
}

/* Steps first .. last-1 of the 32 columns at w and `column`. Not a loop, so that `step` is a
 * constant before anything else happens. */
ANEMO_VNNI_INLINE void vnni_steps(int code, int mr, const int8_t *const row[ANEMO_TILE_ROWS],
                                  const uint8_t *w, int64_t column, int first, int last,
                                  __m512i table, anemo_vnni_ahead *ahead, vnni_integers *n) {
    if (first == 0) {
        vnni_one(code, mr, row, w, column, 0, table, ahead, n);
    }
    if (first == 0 && last > 1) {
        vnni_one(code, mr, row, w, column, 1, table, ahead, n);
    }
    if (last > 2) {
        vnni_one(code, mr, row, w, column, 2, table, ahead, n);
    }
    if (last > 3) {
        vnni_one(code, mr, row, w, column, 3, table, ahead, n);
    }
}

/* Where the integers start: at the head's word, or at 0 where an offset corrects them. */
ANEMO_VNNI_INLINE void vnni_start(bool has_offset, int mr, const int32_t *head, vnni_integers *n) {
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        n->sum[0][i][0] = n->sum[0][i][1] =
            has_offset ? _mm512_setzero_si512() : _mm512_set1_epi32(head[i]);
        if (VNNI_SETS(mr) == 2) {
            n->sum[1][i][0] = n->sum[1][i][1] = _mm512_setzero_si512();
        }
    }
}

ANEMO_VNNI_INLINE __m512 vnni_total(int mr, const vnni_integers *n, int i, int v) {
    return _mm512_cvtepi32_ps(
        VNNI_SETS(mr) == 2 ? _mm512_add_epi32(n->sum[0][i][v], n->sum[1][i][v]) : n->sum[0][i][v]);
}

/* ---------------------------------------------------------------- groups */

/* The integers of row i join its floats. `scaled`: the head has the activations' scale, else they
 * are left without. */
ANEMO_VNNI_INLINE void vnni_join(bool has_offset, bool scaled, int mr, int i, const int32_t *head,
                                 const vnni_integers *n, const __m512 scale[2],
                                 const __m512 offset[2], __m512 y[ANEMO_TILE_ROWS][2]) {
    __m512 factor[2] = {scale[0], scale[1]};
    if (scaled) {
        const __m512 sx = _mm512_set1_ps(vnni_float((const int8_t *)(head + VNNI_HEAD + i)));
        factor[0] = _mm512_mul_ps(scale[0], sx);
        factor[1] = _mm512_mul_ps(scale[1], sx);
    }
    y[i][0] = _mm512_fmadd_ps(vnni_total(mr, n, i, 0), factor[0], y[i][0]);
    y[i][1] = _mm512_fmadd_ps(vnni_total(mr, n, i, 1), factor[1], y[i][1]);
    if (has_offset) {
        const __m512 sum = _mm512_set1_ps(vnni_float((const int8_t *)(head + i)));
        y[i][0] = _mm512_fnmadd_ps(sum, offset[0], y[i][0]);
        y[i][1] = _mm512_fnmadd_ps(sum, offset[1], y[i][1]);
    }
}

/* The last step of a group: row after row joins the floats while the next is still being added, so
 * that conversions and additions stand among dot products. */
ANEMO_VNNI_INLINE void vnni_last(int code, bool has_offset, bool scaled, int mr,
                                 const int8_t *const row[ANEMO_TILE_ROWS], const uint8_t *w,
                                 int64_t column, int step, __m512i table, const int32_t *head,
                                 const anemo_vnni_ahead *ahead, vnni_integers *n,
                                 const __m512 scale[2], const __m512 offset[2],
                                 __m512 y[ANEMO_TILE_ROWS][2]) {
    __m512i w0[2], w1[2];
    vnni_decode(code, VNNI_HALVES(mr), w, step, table, w0, w1);
    vnni_near(code, mr, w, step, ahead);
    vnni_dot(0, mr, row, column + 8 * step, w0, n->sum[0]);
    ANEMO_VNNI_UNROLL
    for (int i = 0; i <= mr; i++) {
        if (i < mr) {
            vnni_dot(i, i + 1, row, column + 8 * step + 4, w1, n->sum[VNNI_SETS(mr) - 1]);
        }
        if (i > 0) {
            vnni_join(has_offset, scaled, mr, i - 1, head, n, scale, offset, y);
        }
    }
}

/* 32 columns of a group that goes on behind them. */
ANEMO_VNNI_INLINE void vnni_quad(int code, int mr, const int8_t *const row[ANEMO_TILE_ROWS],
                                 const uint8_t *w, int64_t column, __m512i table,
                                 anemo_vnni_ahead *ahead, vnni_integers *n) {
    vnni_steps(code, mr, row, w, column, 0, 4, table, ahead, n);
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) { /* GCC would copy them all once per turn */
        __asm__("" : "+v"(n->sum[0][i][0]), "+v"(n->sum[0][i][1]));
    }
}

/* `quads` times 32 columns of one group, from w and `column`, then into the floats. */
ANEMO_VNNI_INLINE void vnni_group(int code, int quads, bool has_offset, bool scaled, int mr,
                                  const int8_t *const row[ANEMO_TILE_ROWS], const uint8_t *w,
                                  int64_t quad_bytes, int64_t column, __m512i table,
                                  const int32_t *head, const __m512 scale[2],
                                  const __m512 offset[2], anemo_vnni_ahead *ahead,
                                  __m512 y[ANEMO_TILE_ROWS][2]) {
    vnni_integers n;
    vnni_start(has_offset, mr, head, &n);
    if (__builtin_constant_p(quads) && quads == 4) { /* straight: a loop's copies cost 3 % */
        vnni_quad(code, mr, row, w, column, table, ahead, &n);
        vnni_quad(code, mr, row, w + quad_bytes, column + 32, table, ahead, &n);
        vnni_quad(code, mr, row, w + 2 * quad_bytes, column + 64, table, ahead, &n);
        w += 3 * quad_bytes;
        column += 96;
    } else {
        for (int quad = 1; quad < quads; quad++, w += quad_bytes, column += 32) {
            vnni_quad(code, mr, row, w, column, table, ahead, &n);
        }
    }
    vnni_steps(code, mr, row, w, column, 0, 3, table, ahead, &n);
    vnni_last(code, has_offset, scaled, mr, row, w, column, 3, table, head, ahead, &n, scale,
              offset, y);
    vnni_fetch(mr, 3, ahead);
}

/* A weight group of 16: one half, `first` 0 or 2, of the 32 columns at w and `column`. */
ANEMO_VNNI_INLINE void vnni_half(int code, bool has_offset, int mr,
                                 const int8_t *const row[ANEMO_TILE_ROWS], const uint8_t *w,
                                 int64_t column, int first, __m512i table, const int32_t *head,
                                 const __m512 scale[2], const __m512 offset[2],
                                 anemo_vnni_ahead *ahead, __m512 part[ANEMO_TILE_ROWS][2]) {
    vnni_integers n;
    vnni_start(has_offset, mr, head, &n);
    if (first == 0) {
        vnni_steps(code, mr, row, w, column, 0, 1, table, ahead, &n);
        vnni_last(code, has_offset, false, mr, row, w, column, 1, table, head, ahead, &n, scale,
                  offset, part);
    } else {
        vnni_steps(code, mr, row, w, column, 2, 3, table, ahead, &n);
        vnni_last(code, has_offset, false, mr, row, w, column, 3, table, head, ahead, &n, scale,
                  offset, part);
    }
}

/* ---------------------------------------------------------------- tiles */

ANEMO_VNNI_INLINE __m512i vnni_table_of(int code, const anemo_n32_shape *s) {
    return code == VNNI_TABLE
               ? _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)s->table))
               : _mm512_setzero_si512();
}

/* out[stream * mr + row][32] = x[mr, k] . W[32 rows, k] of the block `stream` times `apart` bytes
 * behind t->block, where a weight group is one or more activation groups; code, act_group (0: one
 * per row), streams and mr are constants. */
ANEMO_VNNI_INLINE void vnni_tile(int code, int act_group, bool has_offset, int streams, int mr,
                                 const anemo_vnni_tile *t, int64_t apart, anemo_vnni_ahead ahead,
                                 float out[][ANEMO_TILE_COLUMNS]) {
    const anemo_n32_shape *s = t->shape;
    const int64_t quad_bytes = code == VNNI_TABLE ? 512 : 128 * code;
    const __m512i table = vnni_table_of(code, s);
    const int8_t *row[ANEMO_TILE_ROWS];
    const int32_t *head = t->heads;
    __m512 y[VNNI_STREAMS][ANEMO_TILE_ROWS][2];
    anemo_n32_place at = {.w = t->block + s->zero_bytes};
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        row[i] = t->row[i];
        y[0][i][0] = y[0][i][1] = y[1][i][0] = y[1][i][1] = _mm512_setzero_ps();
    }
    int64_t column = 0;
    for (int64_t g = 0; g < s->groups; g++) {
        const int64_t end = column + s->group < s->k_padded ? column + s->group : s->k_padded;
        __m512 scale[VNNI_STREAMS][2], offset[VNNI_STREAMS][2];
        anemo_n32_next_group(s, &at);
        ANEMO_VNNI_UNROLL
        for (int b = 0; b < streams; b++) {
            vnni_near_header(mr, s, at.header + b * apart, at.sets, &ahead);
            vnni_scales(s, t->block + b * apart, at.header + b * apart, at.scales + b * apart, g,
                        has_offset, scale[b], offset[b]);
        }
        while (column < end) {
            const int64_t columns =
                act_group && end - column > act_group ? act_group : end - column;
            const int quads = act_group == 32 ? 1 : (int)(columns / 32);
            ANEMO_VNNI_UNROLL
            for (int b = 0; b < streams; b++) {
                vnni_group(code, quads, has_offset, true, mr, row, at.w + b * apart, quad_bytes,
                           column, table, head, scale[b], offset[b], &ahead, y[b]);
            }
            head += 2 * VNNI_HEAD;
            at.w += quads * quad_bytes;
            column += 32 * quads;
        }
    }
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < streams * mr; i++) {
        _mm512_storeu_ps(out[i], y[i / mr][i % mr][0]);
        _mm512_storeu_ps(out[i] + 16, y[i / mr][i % mr][1]);
    }
}

/* Is this the common case that vnni_tile_plain knows: whole groups, each under a header of f16
 * scales and with one head: of act_group columns, or of 32 under one activation scale per row? */
static inline bool vnni_is_plain(const anemo_n32_shape *s, int act_group, bool fine) {
    return s->scale_bytes == 2 && !s->has_minimum && !s->has_zero && s->sets == 1 &&
           s->group == (act_group ? act_group : 32) && s->k % s->group == 0 &&
           fine == (act_group == 0);
}

/* out = y, times the rows' scales where the groups left them out. */
ANEMO_VNNI_INLINE void vnni_store_plain(bool scaled, int mr,
                                        const int8_t *const row[ANEMO_TILE_ROWS], int64_t k,
                                        __m512 y[ANEMO_TILE_ROWS][2],
                                        float out[][ANEMO_TILE_COLUMNS]) {
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        const __m512 sx =
            _mm512_set1_ps(scaled ? 1.0f : vnni_float(row[i] + anemo_round_up(k, 128)));
        _mm512_storeu_ps(out[i], scaled ? y[i][0] : _mm512_mul_ps(y[i][0], sx));
        _mm512_storeu_ps(out[i] + 16, scaled ? y[i][1] : _mm512_mul_ps(y[i][1], sx));
    }
}

/* The same result as vnni_tile or vnni_tile_fine: nothing but one group after the other. */
ANEMO_VNNI_INLINE void vnni_tile_plain(int code, int quads, bool scaled, int mr,
                                       const anemo_vnni_tile *t, anemo_vnni_ahead ahead,
                                       float out[][ANEMO_TILE_COLUMNS]) {
    const int64_t k = t->shape->k;
    const int64_t quad_bytes = code == VNNI_TABLE ? 512 : 128 * code;
    const __m512i table = vnni_table_of(code, t->shape);
    const __m512 offset[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    const int8_t *row[ANEMO_TILE_ROWS];
    const uint8_t *w = t->block;
    const int32_t *head = t->heads;
    __m512 y[ANEMO_TILE_ROWS][2];
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < mr; i++) {
        row[i] = t->row[i];
        y[i][0] = y[i][1] = _mm512_setzero_ps();
    }
    for (int64_t column = 0; column < k; column += 32 * quads) {
        const __m512 scale[2] = {vnni_halves(w), vnni_halves(w + 32)};
        vnni_near_header(mr, t->shape, w, 0, &ahead);
        vnni_group(code, quads, false, scaled, mr, row, w + 64, quad_bytes, column, table, head,
                   scale, offset, &ahead, y);
        head += scaled ? 2 * VNNI_HEAD : VNNI_HEAD;
        w += 64 + quads * quad_bytes;
    }
    vnni_store_plain(scaled, mr, row, k, y, out);
}

/* 32 columns of groups of 16, from `g` and `column` on, to the floats of each stream. */
ANEMO_VNNI_INLINE void vnni_sixteens(int code, bool has_offset, int streams, int mr,
                                     const anemo_vnni_tile *t, int64_t apart,
                                     const int8_t *const row[ANEMO_TILE_ROWS], int64_t g,
                                     int64_t column, __m512i table, const int32_t *head,
                                     anemo_n32_place *at, anemo_vnni_ahead *ahead,
                                     __m512 part[VNNI_STREAMS][ANEMO_TILE_ROWS][2]) {
    const anemo_n32_shape *s = t->shape;
    const uint8_t *w = at->w;
    ANEMO_VNNI_UNROLL
    for (int half = 0; half < 2; half++) {
        if (g + half == s->groups) {
            continue;
        }
        if (half > 0) {
            anemo_n32_next_group(s, at);
        }
        ANEMO_VNNI_UNROLL
        for (int b = 0; b < streams; b++) {
            __m512 scale[2], offset[2];
            vnni_near_header(mr, s, at->header + b * apart, at->sets, ahead);
            vnni_scales(s, t->block + b * apart, at->header + b * apart, at->scales + b * apart,
                        g + half, has_offset, scale, offset);
            vnni_half(code, has_offset, mr, row, w + b * apart, column, 2 * half, table,
                      head + half * VNNI_HEAD, scale, offset, ahead, part[b]);
        }
    }
    vnni_fetch(mr, 1, ahead);
    vnni_fetch(mr, 3, ahead);
}

/* The same where weight groups are finer: groups of 16 under act_group 32, or any under act_group
 * 0. The floats of an activation group gather in `part` and are then scaled. */
ANEMO_VNNI_INLINE void vnni_tile_fine(int code, int act_group, bool has_offset, int streams, int mr,
                                      const anemo_vnni_tile *t, int64_t apart,
                                      anemo_vnni_ahead ahead, float out[][ANEMO_TILE_COLUMNS]) {
    const anemo_n32_shape *s = t->shape;
    const int64_t kp = anemo_round_up(s->k, 128);
    const int64_t span = act_group || s->group == 16 ? 32 : s->group;
    const int64_t quad_bytes = code == VNNI_TABLE ? 512 : 128 * code;
    const __m512i table = vnni_table_of(code, s);
    const int8_t *row[ANEMO_TILE_ROWS];
    const int32_t *head = t->heads;
    __m512 y[VNNI_STREAMS][ANEMO_TILE_ROWS][2], part[VNNI_STREAMS][ANEMO_TILE_ROWS][2];
    anemo_n32_place at = {.w = t->block + s->zero_bytes};
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < VNNI_STREAMS * mr; i++) {
        row[i % mr] = t->row[i % mr];
        y[i / mr][i % mr][0] = y[i / mr][i % mr][1] = _mm512_setzero_ps();
        part[i / mr][i % mr][0] = part[i / mr][i % mr][1] = _mm512_setzero_ps();
    }
    int64_t g = 0, scale_at = kp;
    for (int64_t column = 0; column < s->k_padded; column += span) {
        const int64_t end = column + span < s->k_padded ? column + span : s->k_padded;
        anemo_n32_next_group(s, &at);
        if (s->group == 16) {
            vnni_sixteens(code, has_offset, streams, mr, t, apart, row, g, column, table, head, &at,
                          &ahead, part);
            head += g + 1 < s->groups ? 2 * VNNI_HEAD : VNNI_HEAD;
            g += 2;
        } else {
            ANEMO_VNNI_UNROLL
            for (int b = 0; b < streams; b++) {
                __m512 scale[2], offset[2];
                vnni_near_header(mr, s, at.header + b * apart, at.sets, &ahead);
                vnni_scales(s, t->block + b * apart, at.header + b * apart, at.scales + b * apart,
                            g, has_offset, scale, offset);
                vnni_group(code, (int)((end - column) / 32), has_offset, false, mr, row,
                           at.w + b * apart, quad_bytes, column, table, head, scale, offset, &ahead,
                           part[b]);
            }
            head += VNNI_HEAD;
            g++;
        }
        at.w += (end - column) / 32 * quad_bytes;
        if (act_group == 32) {
            ANEMO_VNNI_UNROLL
            for (int i = 0; i < streams * mr; i++) {
                const __m512 sx = _mm512_set1_ps(vnni_float(row[i % mr] + scale_at));
                __m512 *to = y[i / mr][i % mr], *from = part[i / mr][i % mr];
                to[0] = _mm512_fmadd_ps(from[0], sx, to[0]);
                to[1] = _mm512_fmadd_ps(from[1], sx, to[1]);
                from[0] = from[1] = _mm512_setzero_ps();
            }
            scale_at += 4;
        }
    }
    ANEMO_VNNI_UNROLL
    for (int i = 0; i < streams * mr; i++) {
        __m512 *to = y[i / mr][i % mr];
        if (act_group == 0) {
            const __m512 sx = _mm512_set1_ps(vnni_float(row[i % mr] + kp));
            to[0] = _mm512_mul_ps(part[i / mr][i % mr][0], sx);
            to[1] = _mm512_mul_ps(part[i / mr][i % mr][1], sx);
        }
        _mm512_storeu_ps(out[i], to[0]);
        _mm512_storeu_ps(out[i] + 16, to[1]);
    }
}

/* ---------------------------------------------------------------- all kinds of weight */

/* The tile for an mr known at run time. */
#define ANEMO_VNNI_CASES(tile)                                                                     \
    switch (mr) {                                                                                  \
    case 1:                                                                                        \
        tile(1);                                                                                   \
        break;                                                                                     \
    case 2:                                                                                        \
        tile(2);                                                                                   \
        break;                                                                                     \
    case 3:                                                                                        \
        tile(3);                                                                                   \
        break;                                                                                     \
    case 4:                                                                                        \
        tile(4);                                                                                   \
        break;                                                                                     \
    case 5:                                                                                        \
        tile(5);                                                                                   \
        break;                                                                                     \
    case 6:                                                                                        \
        tile(6);                                                                                   \
        break;                                                                                     \
    }

/* Rows of a tile, at most: the floats of an activation group that weight groups are finer than are
 * a third set, and 4 rows keep them in registers. */
#define VNNI_ROWS(act_group, fine) ((fine) && (act_group) != 0 ? 4 : ANEMO_TILE_ROWS)

/* fine: weight groups are finer than act_group. mr <= VNNI_ROWS(act_group, fine). */
ANEMO_VNNI_INLINE void vnni_tile_rows(int code, int act_group, bool fine, int64_t mr,
                                      const anemo_vnni_tile *t, anemo_vnni_ahead ahead,
                                      float out[][ANEMO_TILE_COLUMNS]) {
#define ANEMO_VNNI_PLAIN(rows)                                                                     \
    vnni_tile_plain(code, fine ? 1 : act_group / 32, !fine, rows, t, ahead, out)
#define ANEMO_VNNI_GENERAL(has_offset, rows)                                                       \
    if (fine && (rows) <= VNNI_ROWS(act_group, fine)) {                                            \
        vnni_tile_fine(code, act_group, has_offset, 1, rows, t, 0, ahead, out);                    \
    } else if (!fine) {                                                                            \
        vnni_tile(code, act_group, has_offset, 1, rows, t, 0, ahead, out);                         \
    }
#define ANEMO_VNNI_OFFSET(rows)  ANEMO_VNNI_GENERAL(true, rows)
#define ANEMO_VNNI_CENTRED(rows) ANEMO_VNNI_GENERAL(false, rows)
    if (vnni_is_plain(t->shape, act_group, fine)) {
        ANEMO_VNNI_CASES(ANEMO_VNNI_PLAIN)
    } else if (t->shape->has_minimum || t->shape->has_zero) {
        ANEMO_VNNI_CASES(ANEMO_VNNI_OFFSET)
    } else {
        ANEMO_VNNI_CASES(ANEMO_VNNI_CENTRED)
    }
#undef ANEMO_VNNI_PLAIN
#undef ANEMO_VNNI_GENERAL
#undef ANEMO_VNNI_OFFSET
#undef ANEMO_VNNI_CENTRED
}

#endif
