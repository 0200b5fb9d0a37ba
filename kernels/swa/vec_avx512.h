/* Sixteen floats at a time, and what swa_split.h needs to know about them. vec_avx2.h says the same
 * with eight; everything else of the variants is one text, compiled twice. */
#ifndef ANEMO_SWA_VEC_AVX512_H
#define ANEMO_SWA_VEC_AVX512_H

#include "kernels/swa/vec.h"

typedef __m512 vf;

enum {
    VL = 16,       /* lanes, and chains of a score's sum */
    VL_LOG2 = 4,   /* levels of the tree that joins the chains */
    ROW_KEYS = 4,  /* keys at once in a row's scores: 4 x 4 heads are 16 sums in registers */
    ROW_COLS = 4,  /* vectors of a value at once in a row's mix: 16 sums again */
    TILE_ROWS = 12 /* queries of a register tile of 2 VL columns: 24 sums */
};

SWA_INLINE vf v_zero(void) {
    return _mm512_setzero_ps();
}
SWA_INLINE vf v_splat(float x) {
    return _mm512_set1_ps(x);
}
SWA_INLINE vf v_load(const float *x) {
    return _mm512_loadu_ps(x);
}
SWA_INLINE void v_store(float *x, vf v) {
    _mm512_storeu_ps(x, v);
}
SWA_INLINE vf v_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
SWA_INLINE vf v_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
SWA_INLINE vf v_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
SWA_INLINE vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
/* The larger; b where either is NaN. */
SWA_INLINE vf v_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}

SWA_INLINE float v_first(vf v) {
    return _mm512_cvtss_f32(v);
}
SWA_INLINE float v_largest(vf v) {
    return _mm512_reduce_max_ps(v);
}
SWA_INLINE float v_sum(vf v) {
    return _mm512_reduce_add_ps(v);
}

/* 2^x for x < 128 to about an ulp, 2^0 = 1 exactly; NaN stays NaN; what would be subnormal is 0:
 * making one costs an Intel core some 150 cycles. */
SWA_INLINE vf v_exp2(vf x) {
    const vf least = _mm512_set1_ps(-126.0f);
    const __mmask16 normal = _mm512_cmp_ps_mask(x, least, _CMP_NLT_UQ);
    x = _mm512_max_ps(least, x);
    const vf n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const vf f = _mm512_sub_ps(x, n);
    vf y;
    SWA_EXP2_FRACTION(y, f, _mm512_fmadd_ps, _mm512_set1_ps);
    return _mm512_maskz_scalef_ps(normal, y, n);
}

/* Lanes whose slot j + lane lies in [lo, hi) from x, the others -infinity. */
SWA_INLINE vf v_within(vf x, int j, int lo, int hi) {
    const uint64_t below_hi = hi >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << hi) - 1;
    const uint64_t mask = below_hi & ~(uint64_t)0 << lo;
    return _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), (__mmask16)(mask >> j), x);
}

/* ---------------------------------------------------------------- elements of the KV types */

/* Elements i .. i + VL - 1; q8 codes without their scale. */
SWA_INLINE vf v_elements(int type, const char *x, int64_t i) {
    switch (type) {
    case ANEMO_KV_F32:
        return _mm512_loadu_ps(x + 4 * i);
    case ANEMO_KV_F16:
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(x + 2 * i)));
    case ANEMO_KV_BF16:
        return _mm512_castsi512_ps(_mm512_slli_epi32(
            _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(x + 2 * i))),
            16));
    default:
        return _mm512_cvtepi32_ps(
            _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(x + i))));
    }
}

/* The first n (< VL) of them, then zeros; reads nothing behind. */
SWA_INLINE vf v_elements_part(int type, const char *x, int64_t i, int64_t n) {
    const __mmask16 m = (__mmask16)((1u << n) - 1);
    switch (type) {
    case ANEMO_KV_F32:
        return _mm512_maskz_loadu_ps(m, x + 4 * i);
    case ANEMO_KV_F16:
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, x + 2 * i));
    case ANEMO_KV_BF16:
        return _mm512_castsi512_ps(
            _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, x + 2 * i)), 16));
    default:
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, x + i)));
    }
}

/* ---------------------------------------------------------------- sums of chains */

/* a and b: of heads h and h + 1. Chains c + 8 join c, then c + 4 join c: [a: 4 chains, b: 4]. */
SWA_INLINE __m256 v_fold(vf a, vf b) {
    const __m256 x = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m256 y = _mm256_add_ps(_mm512_castps512_ps256(b), _mm512_extractf32x8_ps(b, 1));
    return _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31));
}

/* Two of v_fold: [a: chains 0 1, b: chains 0 1] of the first head, then of the second. */
SWA_INLINE __m256 v_fold_pairs(__m256 a, __m256 b) {
    const __m256d x = _mm256_castps_pd(a), y = _mm256_castps_pd(b);
    return _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(x, y)),
                         _mm256_castpd_ps(_mm256_unpackhi_pd(x, y)));
}

/* s[h * stride + key] = the sum of all chains of sum[h][key]; heads is 1, 2 or 4, and what is not
 * computed is 0 */
SWA_INLINE void v_store_scores(vf sum[4][ROW_KEYS], int heads, float *s, int64_t stride) {
    SWA_UNROLL
    for (int h = 0; h < heads; h += 2) {
        const __m256 a =
            v_fold_pairs(v_fold(sum[h][0], sum[h + 1][0]), v_fold(sum[h][1], sum[h + 1][1]));
        const __m256 b =
            v_fold_pairs(v_fold(sum[h][2], sum[h + 1][2]), v_fold(sum[h][3], sum[h + 1][3]));
        const __m256 all =
            _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xdd));
        _mm_storeu_ps(s + h * stride, _mm256_castps256_ps128(all));
        if (h + 1 < heads)
            _mm_storeu_ps(s + (h + 1) * stride, _mm256_extractf128_ps(all, 1));
    }
}

/* Heads h (a) and h + 2 (b), [a: chains c and c + 8 joined, c < 8; b] */
SWA_INLINE vf v_join_halves(vf a, vf b) {
    return _mm512_add_ps(_mm512_mask_blend_ps(0xff00, a, b), _mm512_shuffle_f32x4(a, b, 0x4e));
}

/* Sums of all chains: lane h * 4 + key. */
SWA_INLINE vf v_join(vf sum[4][ROW_KEYS]) {
    vf x[ROW_KEYS];
    SWA_UNROLL
    for (int i = 0; i < ROW_KEYS; i++) { /* a 128-bit lane per head, of 4 chains */
        const vf a = v_join_halves(sum[0][i], sum[1][i]), b = v_join_halves(sum[2][i], sum[3][i]);
        x[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    SWA_UNROLL
    for (int i = 0; i < ROW_KEYS; i += 2) { /* 2 chains of 2 keys */
        const __m512d a = _mm512_castps_pd(x[i]), b = _mm512_castps_pd(x[i + 1]);
        x[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    return _mm512_add_ps(_mm512_shuffle_ps(x[0], x[2], 0x88), _mm512_shuffle_ps(x[0], x[2], 0xdd));
}

/* ---------------------------------------------------------------- four heads in a vector */

/* x[h] in the lanes of head h. */
SWA_INLINE vf v_heads(const float *x) {
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
                                 _mm512_castps128_ps512(_mm_loadu_ps(x)));
}
/* x[h] = the first lane of head h. */
SWA_INLINE void v_heads_store(float *x, vf v) {
    _mm_storeu_ps(x,
                  _mm512_castps512_ps128(_mm512_permutexvar_ps(
                      _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12), v)));
}
/* x[key] in the lanes of a key. */
SWA_INLINE vf v_keys(const float *x) {
    return _mm512_broadcast_f32x4(_mm_loadu_ps(x));
}
SWA_INLINE vf v_heads_max(vf v) {
    v = _mm512_max_ps(v, _mm512_permute_ps(v, 0x4e));
    return _mm512_max_ps(v, _mm512_permute_ps(v, 0xb1));
}
/* In the order of v_sum's last two steps. */
SWA_INLINE vf v_heads_sum(vf v) {
    v = _mm512_add_ps(v, _mm512_permute_ps(v, 0x4e));
    return _mm512_add_ps(v, _mm512_permute_ps(v, 0xb1));
}
/* 2^(a - b), and 1 where b is not greater (both may be -infinity). */
SWA_INLINE vf v_exp2_or_one(vf a, vf b) {
    return _mm512_mask_mov_ps(_mm512_set1_ps(1), _mm512_cmp_ps_mask(b, a, _CMP_GT_OQ),
                              v_exp2(v_sub(a, b)));
}
/* Lanes of keys whose slot j + key lies in [lo, hi) from x, the others -infinity. */
SWA_INLINE vf v_within_keys(vf x, int j, int lo, int hi) {
    const uint64_t below_hi = hi >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << hi) - 1;
    const uint64_t mask = (below_hi & ~(uint64_t)0 << lo) >> j & 0xf;
    return _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), (__mmask16)(mask * 0x1111), x);
}

/* Row i of the 16 x 16 floats becomes column i. */
SWA_INLINE void v_transpose(vf x[VL]) {
    vf y[VL];
    SWA_UNROLL
    for (int i = 0; i < VL; i += 2) {
        y[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    SWA_UNROLL
    for (int i = 0; i < VL; i += 4) {
        SWA_UNROLL
        for (int j = 0; j < 2; j++) {
            const __m512d a = _mm512_castps_pd(y[i + j]), b = _mm512_castps_pd(y[i + 2 + j]);
            x[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            x[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    /* x[4 r + c]: lane group g holds columns 4 g + c of rows 4 r .. 4 r + 3 */
    SWA_UNROLL
    for (int c = 0; c < 4; c++) {
        const vf a = _mm512_shuffle_f32x4(x[c], x[4 + c], 0x44);
        const vf b = _mm512_shuffle_f32x4(x[c], x[4 + c], 0xee);
        const vf d = _mm512_shuffle_f32x4(x[8 + c], x[12 + c], 0x44);
        const vf e = _mm512_shuffle_f32x4(x[8 + c], x[12 + c], 0xee);
        y[c] = _mm512_shuffle_f32x4(a, d, 0x88);
        y[4 + c] = _mm512_shuffle_f32x4(a, d, 0xdd);
        y[8 + c] = _mm512_shuffle_f32x4(b, e, 0x88);
        y[12 + c] = _mm512_shuffle_f32x4(b, e, 0xdd);
    }
    SWA_UNROLL
    for (int i = 0; i < VL; i++)
        x[i] = y[i];
}

#endif
