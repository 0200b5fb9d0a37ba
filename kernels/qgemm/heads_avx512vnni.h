/* What the VNNI tile needs to know of its rows once per group, gathered from up to 6 a8 records.
 *
 * A head belongs to a tile of rows and a group of columns (of weights or of activations, whichever
 * is shorter), VNNI_HEAD words long, or twice that where the activations have a scale per group:
 *
 *   word[8]    per row: without an offset, -2^(bits-1) sum a, where the integers start; with one,
 *              the float that multiplies the offset, sx sum a, or sum a in fine groups
 *   scale[8]   per row: sx
 *
 * Read straight from the records, a group costs the tile 24 loads from 12 streams and 12 shifts and
 * subtractions between one chain of dot products and the next. On Zen 5 the 6 x 32 tile at groups
 * of 32, all in the L1 cache, reached 68 to 73 % of the dot products' peak that way, and with one
 * line per group beside the codes 79.6 %, where the ports allow 80 %. Making the heads is one pass
 * over the records' tails per stretch of rows and thread. */
#ifndef ANEMO_HEADS_AVX512VNNI_H
#define ANEMO_HEADS_AVX512VNNI_H

#include "kernels/qgemm/tile_avx512vnni.h"

#include <string.h>

/* Weight groups are finer than activation groups: the records lack their sums. */
static inline bool vnni_is_fine(const anemo_n32_shape *s, int act_group) {
    return s->groups > 1 && (act_group == 0 || s->group < act_group);
}

static inline bool vnni_has_offset(const anemo_n32_shape *s) {
    return s->has_minimum || s->has_zero;
}

static inline int64_t vnni_heads_of(const anemo_n32_shape *s, int act_group) {
    return vnni_is_fine(s, act_group) ? s->groups
           : act_group                ? anemo_ceil_div(s->k_padded, act_group)
                                      : 1;
}

/* Words that the heads of a tile take: whole cache lines. */
static inline int64_t vnni_head_words(const anemo_n32_shape *s, int act_group) {
    const int64_t each = vnni_is_fine(s, act_group) ? VNNI_HEAD : 2 * VNNI_HEAD;
    return anemo_round_up(vnni_heads_of(s, act_group) * each, 16);
}

/* The word for a sum of activations. */
static inline int32_t vnni_head_word(const anemo_n32_shape *s, int32_t total) {
    if (vnni_has_offset(s)) {
        const float sum = (float)total;
        int32_t word;
        memcpy(&word, &sum, sizeof word);
        return word;
    }
    return -total * (1 << (s->is_table ? 7 : s->bits - 1));
}

/* Row i of a tile in fine groups. Codes are added 64 at a time; their sixteens are the 128-bit
 * lanes. */
static inline void vnni_fine_head(const anemo_n32_shape *s, const int8_t *row, int64_t i,
                                  int32_t *heads) {
    const __m512i ones = _mm512_set1_epi8(1);
    int32_t total = 0;
    int64_t left = s->group;
    for (int64_t column = 0; column < s->k; column += 64) {
        const __m512i codes = _mm512_loadu_si512(row + column);
        __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, codes);
        sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, _MM_PERM_CDAB));
        sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, _MM_PERM_BADC));
        int32_t lane[16];
        _mm512_storeu_si512(lane, sum);
        for (int64_t l = 0; l < 4 && column + 16 * l < s->k; l++) {
            total += lane[4 * l];
            left -= 16;
            if (left == 0) {
                heads[i] = vnni_head_word(s, total);
                heads += VNNI_HEAD;
                total = 0;
                left = s->group;
            }
        }
    }
    if (left < s->group) {
        heads[i] = vnni_head_word(s, total);
    }
}

/* Row i of a tile, to its heads. `heads`: room for vnni_head_words(s, act_group). */
static inline void vnni_head_row(const anemo_n32_shape *s, int act_group, const int8_t *row,
                                 int64_t i, int32_t *heads) {
    if (vnni_is_fine(s, act_group)) {
        vnni_fine_head(s, row, i, heads);
        return;
    }
    const bool has_offset = vnni_has_offset(s);
    const int64_t kp = anemo_round_up(s->k, 128), n = vnni_heads_of(s, act_group);
    const int8_t *scales = row + kp, *sums = scales + 4 * (act_group ? kp / act_group : 1);
    const __m128i shift = _mm_cvtsi32_si128(s->is_table ? 7 : s->bits - 1);
    for (int64_t g = 0; g < n; g += 16, heads += 16 * 2 * VNNI_HEAD) {
        const int count = n - g < 16 ? (int)(n - g) : 16;
        const __mmask16 mask = (__mmask16)(0xffff >> (16 - count));
        const __m512 scale = _mm512_maskz_loadu_ps(mask, scales + 4 * g);
        const __m512i sum = _mm512_maskz_loadu_epi32(mask, sums + 4 * g);
        const __m512i start =
            _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_sll_epi32(sum, shift));
        const __m512 offset = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
        int32_t word[16];
        int32_t factor[16];
        _mm512_storeu_si512(word, has_offset ? _mm512_castps_si512(offset) : start);
        _mm512_storeu_si512(factor, _mm512_castps_si512(scale));
        for (int j = 0; j < count; j++) {
            heads[j * 2 * VNNI_HEAD + i] = word[j];
            heads[j * 2 * VNNI_HEAD + VNNI_HEAD + i] = factor[j];
        }
    }
}

#endif
