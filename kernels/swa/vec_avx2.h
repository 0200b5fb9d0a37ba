/* Eight floats at a time, and what swa_split.h needs to know about them: vec_avx512.h in half the
 * width and with half the registers. */
#ifndef ANEMO_SWA_VEC_AVX2_H
#define ANEMO_SWA_VEC_AVX2_H

#include "kernels/swa/vec.h"

typedef __m256 vf;

enum {
    VL = 8,       /* lanes, and chains of a score's sum */
    VL_LOG2 = 3,  /* levels of the tree that joins the chains */
    ROW_KEYS = 2, /* keys at once in a row's scores: 2 x 4 heads are 8 sums in registers */
    ROW_COLS = 2, /* vectors of a value at once in a row's mix: 8 sums again */
    TILE_ROWS = 6 /* queries of a register tile of 2 VL columns: 12 sums */
};

SWA_INLINE vf v_zero(void) {
    return _mm256_setzero_ps();
}
SWA_INLINE vf v_splat(float x) {
    return _mm256_set1_ps(x);
}
SWA_INLINE vf v_load(const float *x) {
    return _mm256_loadu_ps(x);
}
SWA_INLINE void v_store(float *x, vf v) {
    _mm256_storeu_ps(x, v);
}
SWA_INLINE vf v_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
SWA_INLINE vf v_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
SWA_INLINE vf v_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
SWA_INLINE vf v_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
/* The larger; b where either is NaN. */
SWA_INLINE vf v_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}

SWA_INLINE float v_first(vf v) {
    return _mm256_cvtss_f32(v);
}
SWA_INLINE float v_largest(vf v) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
SWA_INLINE float v_sum(vf v) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

/* 2^x for x <= 0 as in vec_avx512.h, but that below 2^-126 it is 0. */
SWA_INLINE vf v_exp2(vf x) {
    const vf lowest = _mm256_set1_ps(-126.0f);
    const vf too_low = _mm256_cmp_ps(x, lowest, _CMP_LT_OQ);
    x = _mm256_max_ps(lowest, x);
    const vf n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const vf f = _mm256_sub_ps(x, n);
    vf y;
    SWA_EXP2_FRACTION(y, f, _mm256_fmadd_ps, _mm256_set1_ps);
    const __m256i power =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_andnot_ps(too_low, _mm256_mul_ps(y, _mm256_castsi256_ps(power)));
}

/* Lanes whose slot j + lane lies in [lo, hi) from x, the others -infinity. */
SWA_INLINE vf v_within(vf x, int j, int lo, int hi) {
    const __m256i slot =
        _mm256_add_epi32(_mm256_set1_epi32(j), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256i inside = _mm256_and_si256(_mm256_cmpgt_epi32(slot, _mm256_set1_epi32(lo - 1)),
                                            _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), slot));
    return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), x, _mm256_castsi256_ps(inside));
}

/* ---------------------------------------------------------------- elements of the KV types */

/* Elements i .. i + VL - 1; q8 codes without their scale. */
SWA_INLINE vf v_elements(int type, const char *x, int64_t i) {
    switch (type) {
    case ANEMO_KV_F32:
        return _mm256_loadu_ps((const float *)(const void *)(x + 4 * i));
    case ANEMO_KV_F16:
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(x + 2 * i)));
    case ANEMO_KV_BF16:
        return _mm256_castsi256_ps(_mm256_slli_epi32(
            _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(x + 2 * i))),
            16));
    default:
        return _mm256_cvtepi32_ps(
            _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(x + i))));
    }
}

/* The first n (< VL) of them, then zeros; reads nothing behind. */
SWA_INLINE vf v_elements_part(int type, const char *x, int64_t i, int64_t n) {
    const size_t bytes = type == ANEMO_KV_F32 ? 4 : type == ANEMO_KV_Q8 ? 1 : 2;
    char part[4 * VL] = {0};
    memcpy(part, x + (size_t)i * bytes, (size_t)n * bytes);
    return v_elements(type, part, 0);
}

/* ---------------------------------------------------------------- sums of chains */

/* a and b: of heads h and h + 1. Chains c + 4 join c: [a: 4 chains, b: 4]. */
SWA_INLINE vf v_fold(vf a, vf b) {
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

/* Two of v_fold, of two keys: [first head: chains 0 1 of either key; second head]. */
SWA_INLINE vf v_fold_pairs(vf a, vf b) {
    const __m256d x = _mm256_castps_pd(a), y = _mm256_castps_pd(b);
    return _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(x, y)),
                         _mm256_castpd_ps(_mm256_unpackhi_pd(x, y)));
}

/* s[h * stride + key] = the sum of all chains of sum[h][key]; heads is 1, 2 or 4, and what is not
 * computed is 0 */
SWA_INLINE void v_store_scores(vf sum[4][ROW_KEYS], int heads, float *s, int64_t stride) {
    const vf a = v_fold_pairs(v_fold(sum[0][0], sum[1][0]), v_fold(sum[0][1], sum[1][1]));
    const vf b = v_fold_pairs(v_fold(sum[2][0], sum[3][0]), v_fold(sum[2][1], sum[3][1]));
    const vf all = _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xdd));
    const __m128 even = _mm256_castps256_ps128(all), odd = _mm256_extractf128_ps(all, 1);
    _mm_storel_pi((__m64 *)(void *)s, even);
    if (heads > 1)
        _mm_storel_pi((__m64 *)(void *)(s + stride), odd);
    if (heads > 2) {
        _mm_storeh_pi((__m64 *)(void *)(s + 2 * stride), even);
        _mm_storeh_pi((__m64 *)(void *)(s + 3 * stride), odd);
    }
}

/* Sums of all chains: lane h * 2 + key. */
SWA_INLINE vf v_join(vf sum[4][ROW_KEYS]) {
    const vf a = v_fold_pairs(v_fold(sum[0][0], sum[2][0]), v_fold(sum[0][1], sum[2][1]));
    const vf b = v_fold_pairs(v_fold(sum[1][0], sum[3][0]), v_fold(sum[1][1], sum[3][1]));
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xdd));
}

/* ---------------------------------------------------------------- four heads in a vector */

/* x[h] in the lanes of head h. */
SWA_INLINE vf v_heads(const float *x) {
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(x)),
                                    _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}
/* x[h] = the first lane of head h. */
SWA_INLINE void v_heads_store(float *x, vf v) {
    _mm_storeu_ps(x, _mm_shuffle_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1), 0x88));
}
/* x[key] in the lanes of a key. */
SWA_INLINE vf v_keys(const float *x) {
    return _mm256_castpd_ps(_mm256_broadcast_sd((const double *)(const void *)x));
}
SWA_INLINE vf v_heads_max(vf v) {
    return _mm256_max_ps(v, _mm256_permute_ps(v, 0xb1));
}
/* In the order of v_sum's last step. */
SWA_INLINE vf v_heads_sum(vf v) {
    return _mm256_add_ps(v, _mm256_permute_ps(v, 0xb1));
}
/* 2^(a - b), and 1 where b is not greater (both may be -infinity). */
SWA_INLINE vf v_exp2_or_one(vf a, vf b) {
    return _mm256_blendv_ps(_mm256_set1_ps(1), v_exp2(v_sub(a, b)),
                            _mm256_cmp_ps(b, a, _CMP_GT_OQ));
}
/* Lanes of keys whose slot j + key lies in [lo, hi) from x, the others -infinity. */
SWA_INLINE vf v_within_keys(vf x, int j, int lo, int hi) {
    const __m256i slot =
        _mm256_add_epi32(_mm256_set1_epi32(j), _mm256_setr_epi32(0, 1, 0, 1, 0, 1, 0, 1));
    const __m256i inside = _mm256_and_si256(_mm256_cmpgt_epi32(slot, _mm256_set1_epi32(lo - 1)),
                                            _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), slot));
    return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), x, _mm256_castsi256_ps(inside));
}

/* Row i of the 8 x 8 floats becomes column i. */
SWA_INLINE void v_transpose(vf x[VL]) {
    vf y[VL];
    SWA_UNROLL
    for (int i = 0; i < VL; i += 2) {
        y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    SWA_UNROLL
    for (int i = 0; i < VL; i += 4) {
        SWA_UNROLL
        for (int j = 0; j < 2; j++) {
            x[i + 2 * j] = _mm256_shuffle_ps(y[i + j], y[i + 2 + j], 0x44);
            x[i + 2 * j + 1] = _mm256_shuffle_ps(y[i + j], y[i + 2 + j], 0xee);
        }
    }
    /* x[4 r + c]: half g holds column 4 g + c of rows 4 r .. 4 r + 3 */
    SWA_UNROLL
    for (int c = 0; c < 4; c++) {
        y[c] = _mm256_permute2f128_ps(x[c], x[4 + c], 0x20);
        y[4 + c] = _mm256_permute2f128_ps(x[c], x[4 + c], 0x31);
    }
    SWA_UNROLL
    for (int i = 0; i < VL; i++)
        x[i] = y[i];
}

#endif
