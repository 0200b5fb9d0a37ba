/* One row of x against the blocks of W on AVX2: the same operations in the same order as in
 * tile_avx2.h, arranged for reading W at the rate of the memory.
 *
 * Several blocks at once. A core that computes has fewer reads in flight than one that only reads:
 * the 448 instructions under way on Zen 5 are 1 to 3 KiB of W here and 12 KiB in a loop of
 * additions. One stream without prefetch gets 32 to 34 GB/s a core where that loop gets 43, whether
 * it could do 65 (w8 on words, from cache) or 92 (w8 on digits). What helps is that the hardware's
 * prefetcher runs ahead of every stream: a thread walks through two or three parts of its blocks
 * side by side (with ACT_MUL, gate and up). What is left of its blocks is read one by one with
 * software prefetch. w4 with fewer than 64 blocks a thread reads two streams and asks for W 4 KiB
 * ahead, which starts sooner: up to 13 % faster than three streams without, with 224 blocks 2 %
 * slower. The requests stand between the operations; together before each group they gave less (49
 * GB/s instead of 57 at 384 x 4096).
 *
 * The prefetcher presumably goes by the instruction as well as by the address, and is lost when it
 * cannot tell streams apart: pairs of neighbouring blocks gave 14 GB/s on one thread, three streams
 * of w4 read by one copy of the code in turn 17 on two. So every stream has its own, unrolled.
 *
 * 8-bit codes. All of x is split once into digits, a = 16 high + low, low in -8 .. 7 and high in
 * -8 .. 8. Then vpmaddubsw takes the codes as they are: a product of two is at most 2 * 255 * 8 =
 * 4080, and eight of them, 32640, fit 16 bits: 4 operations for 32 codes instead of 6 on words
 * (from the second-level cache 92 GB/s instead of 68). The integers are the same, and exact.
 *
 * Measured (Zen 5, 14336 x 4096, group 32, W in memory, two threads, GB/s, medians of forms that
 * took turns in one process; read: the ceiling beside it, the best of 16 short readings. A virtual
 * machine, whose memory has two states that last for seconds):
 *
 *                             w4    w8    read      w4    w8    read
 *   one stream                62    64    100       44    47    58
 *   the same, 8 KiB ahead     76    77    100       47    49    58
 *   2 streams                 78    79    100       48    51    58
 *   the same, 4 KiB ahead     79    77    100       48    49    58
 *   3 streams                 79.5  78    100       48    50    58
 *   4 streams                 80    64    100       49    46    58
 *
 * On one thread the limit is how the memory is read, not what is computed: the best forms of both
 * widths end at 40 GB/s, where a loop of additions gets 43 in the median and 45 at its best, though
 * from the second-level cache w4 does 65 and w8 92. w4 has no more to give there: 139 vector
 * operations a group (48 decode, 32 multiply, 28 add, 31 are for widening, correction, conversion
 * and scales) take 37.4 cycles, 3.7 of 4 pipes.
 *
 * With two threads w4 gets 78 to 85 % of the ceiling in both states, w8 87 to 99 % (bench kernel
 * --targets; the build before had 60 and 67 % in the fast one). The lighter w8 shows that w4 is
 * short of both: its 37 cycles of work would have to hide behind 48 of reading without a gap.
 *
 * Rejected (GB/s of w4):
 * - one stream on one thread, 38.6 with 8 KiB ahead to the first level: 2 KiB 34, 4 KiB 36, 16 KiB
 *   38.4, 64 KiB 38.5, 256 KiB 36; to the second level or non-temporal 38 to 39; each line asked
 * for twice, far and near, 32; the requests spread between the operations, the same;
 * - three streams on two threads, 78: one line a group and stream asked for 1 to 4 KiB ahead, 70;
 *   four lines, 67;
 * - a header read after its codes, a step back in the stream, 68; right before them instead of
 * those of all streams together, 2 % less;
 * - runs of 2 to 32 groups of one stream and then of the next: w8 the same or slower;
 * - the correction as a fused operation, sx s - 8 sx sum, one operation less of five: the same;
 * - high nibbles without the shift, as 16 h: a sum of two products needs 17 bits, and activations
 * in digits cost more than the shift saves. */
#ifndef ANEMO_GEMV_AVX2_H
#define ANEMO_GEMV_AVX2_H

#include "kernels/qgemm/tile_avx2.h"

enum { ANEMO_AVX2_STREAMS = 3, ANEMO_AVX2_BESIDE = 4096, ANEMO_AVX2_MANY = 64 };

/* How many of its blocks a thread reads at once. */
static inline int avx2_streams(int bits, int64_t blocks) {
    return bits == 4 && blocks >= ANEMO_AVX2_MANY ? 3 : 2;
}

/* What is read: one a8 record, its digits (w8), and blocks of the same shape. */
typedef struct anemo_avx2_gemv {
    const anemo_n32_shape *shape;
    const int8_t *row, *digits;
    const uint8_t *block[ANEMO_AVX2_STREAMS];
} anemo_avx2_gemv;

static inline size_t avx2_digits_bytes(int64_t k) {
    return 2 * (size_t)anemo_round_up(k, 32);
}

/* Of every 32 columns 32 low digits, then 32 high ones. */
static inline void avx2_digits(const int8_t *x, int64_t k, int8_t *digits) {
    const __m256i eight = _mm256_set1_epi8(8), top = _mm256_set1_epi8(-128);
    for (int64_t c = 0; c < k; c += 32) {
        const __m256i a = avx2_load(x + c);
        /* (a + 128 + 8) / 2, which vpavgb does in 9 bits */
        const __m256i up = _mm256_avg_epu8(_mm256_xor_si256(a, top), _mm256_set1_epi8(7));
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(up, 3), _mm256_set1_epi8(31));
        const __m256i low = _mm256_and_si256(_mm256_add_epi8(a, eight), _mm256_set1_epi8(15));
        __m256i *at = (__m256i *)(void *)(digits + 2 * c);
        _mm256_storeu_si256(at, _mm256_sub_epi8(low, eight));
        _mm256_storeu_si256(at + 1, _mm256_sub_epi8(high, eight));
    }
}

/* w8: 32 columns of 32 rows of W into 16-bit sums per digit. */
ANEMO_AVX2_INLINE void avx2_w8_chunk(const uint8_t *w, const int8_t *digits, __m256i part[2][4]) {
    ANEMO_AVX2_UNROLL
    for (int quad = 0; quad < 8; quad++) {
        const __m256i low = avx2_word(digits + 4 * quad);
        const __m256i high = avx2_word(digits + 4 * quad + 32);
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < 4; v++) {
            __m256i codes =
                avx2_load(w + 256 * (quad / 2) + 64 * (quad % 2) + 128 * (v / 2) + 32 * (v % 2));
            ANEMO_AVX2_KEEP(codes);
            const __m256i p0 = _mm256_maddubs_epi16(codes, low);
            const __m256i p1 = _mm256_maddubs_epi16(codes, high);
            part[0][v] = quad == 0 ? p0 : _mm256_add_epi16(part[0][v], p0);
            part[1][v] = quad == 0 ? p1 : _mm256_add_epi16(part[1][v], p1);
            ANEMO_AVX2_KEEP(part[0][v]);
            ANEMO_AVX2_KEEP(part[1][v]);
        }
    }
}

/* Sums of one activation group, as avx2_w8_sums. */
ANEMO_AVX2_INLINE void avx2_w8_digit_sums(bool has_offset, const uint8_t *w, const int8_t *digits,
                                          int64_t columns, const int8_t *total, __m256i sum[4]) {
    const __m256i ones = _mm256_set1_epi16(1), sixteens = _mm256_set1_epi16(16);
    const __m256i centre = _mm256_slli_epi32(avx2_word(total), 7);
    ANEMO_AVX2_UNROLL
    for (int v = 0; v < 4; v++) {
        sum[v] = _mm256_setzero_si256();
        sum[v] = has_offset ? sum[v] : _mm256_sub_epi32(sum[v], centre);
    }
    for (int64_t c = 0; c < columns; c += 32) {
        __m256i part[2][4];
        avx2_w8_chunk(w + 32 * c, digits + 2 * c, part);
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < 4; v++) {
            const __m256i both = _mm256_add_epi32(_mm256_madd_epi16(part[0][v], ones),
                                                  _mm256_madd_epi16(part[1][v], sixteens));
            sum[v] = _mm256_add_epi32(sum[v], both);
        }
    }
}

/* out[streams][32] = x . W[32 rows of every block]; bits, act_group and streams are constants. */
ANEMO_AVX2_INLINE void avx2_gemv(int bits, int act_group, bool has_offset, int streams,
                                 const anemo_avx2_gemv *j, float out[][ANEMO_AVX2_COLUMNS]) {
    const anemo_n32_shape *s = j->shape;
    const int64_t kp = anemo_round_up(s->k, 128);
    const anemo_avx2_tile t = {
        .shape = s, .row = {j->row}, .near = bits == 4 && streams == 2 ? ANEMO_AVX2_BESIDE : 0};
    const uint8_t *w[ANEMO_AVX2_STREAMS];
    __m256 y[ANEMO_AVX2_STREAMS][ANEMO_AVX2_ROWS][4];
    ANEMO_AVX2_UNROLL
    for (int b = 0; b < streams; b++) {
        w[b] = j->block[b] + s->zero_bytes;
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < 4; v++) {
            y[b][0][v] = _mm256_setzero_ps();
        }
    }
    for (int64_t g = 0; g < s->groups; g++) {
        const int64_t begin = g * s->group;
        const int64_t end = begin + s->group < s->k_padded ? begin + s->group : s->k_padded;
        __m256 scale[ANEMO_AVX2_STREAMS][4], offset[ANEMO_AVX2_STREAMS][4];
        ANEMO_AVX2_UNROLL
        for (int b = 0; b < streams; b++) {
            avx2_header(s, has_offset, j->block[b] + 32 * g, w[b], scale[b], offset[b]);
            if (bits == 4 && streams == 2) {
                _mm_prefetch((const char *)w[b] + ANEMO_AVX2_BESIDE, _MM_HINT_T0);
            }
            w[b] += s->header_bytes;
        }
        for (int64_t column = begin; column < end; column += act_group) {
            const avx2_act_group a = avx2_act_group_at(act_group, kp, column, end);
            ANEMO_AVX2_UNROLL
            for (int b = 0; b < streams; b++) {
                __m256i sum[ANEMO_AVX2_ROWS][4];
                if (streams == 1) {
                    avx2_near(bits, w[b], ANEMO_AVX2_NEAR, a.columns);
                }
                if (bits == 4) {
                    avx2_w4_sums(has_offset, 1, 4, w[b], &t, column, a.columns, a.sum_at, sum);
                } else {
                    avx2_w8_digit_sums(has_offset, w[b], j->digits + 2 * column, a.columns,
                                       j->row + a.sum_at, sum[0]);
                }
                avx2_add_group(has_offset, 1, 4, &t, a.scale_at, a.sum_at, NULL, scale[b],
                               offset[b], sum, 0, y[b]);
                w[b] += a.columns * 4 * bits;
            }
        }
    }
    ANEMO_AVX2_UNROLL
    for (int b = 0; b < streams; b++) {
        ANEMO_AVX2_UNROLL
        for (int v = 0; v < 4; v++) {
            _mm256_storeu_ps(out[b] + 8 * v, y[b][0][v]);
        }
    }
}

/* The same for streams known at run time, and for both kinds of weight. */
ANEMO_AVX2_INLINE void avx2_gemv_streams(int bits, int act_group, int streams,
                                         const anemo_avx2_gemv *j,
                                         float out[][ANEMO_AVX2_COLUMNS]) {
#define ANEMO_AVX2_CASE(n)                                                                         \
    case n:                                                                                        \
        if (j->shape->has_minimum || j->shape->has_zero) {                                         \
            avx2_gemv(bits, act_group, true, n, j, out);                                           \
        } else {                                                                                   \
            avx2_gemv(bits, act_group, false, n, j, out);                                          \
        }                                                                                          \
        break;
    switch (streams) {
        ANEMO_AVX2_CASE(1)
        ANEMO_AVX2_CASE(2)
        ANEMO_AVX2_CASE(3)
    }
#undef ANEMO_AVX2_CASE
}

#endif
