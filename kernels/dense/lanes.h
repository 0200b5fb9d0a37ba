/* Vectors of the widest kind the including file is compiled for: 8 lanes with AVX2, 16 with
 * AVX-512. The dense ops do the same few things per element on either, so each is written once over
 * these names (<op>_lanes.h) and compiled twice (<op>_lanes_avx2.c, <op>_lanes_avx512.c).
 *
 *   vf  LANES floats      vh  LANES / 2 floats      vd  LANES / 2 doubles      vi  LANES int32
 *
 * The types are GNU vectors: + - * and comparisons are the language's, and are not contracted
 * (-ffp-contract=off); what needs an instruction of its own is a function here. Ends of rows are
 * masked, not looped over: an element's result is the same in whatever lane it falls, which is what
 * makes these variants ROW_INVARIANT. On AVX2 the masked store is slow (microcode on AMD), so
 * vf_load_part and vf_store_part first ask whether the vector is whole; that branch is foreseen. */
#ifndef ANEMO_DENSE_LANES_H
#define ANEMO_DENSE_LANES_H

#include <immintrin.h>

#include "kernels/dense/common.h"

#if defined(__AVX512F__)
enum { LANES = 16 };
#define LANES_NEEDS ANEMO_CPU_AVX512
#define LANES_WAY   "avx512"
typedef __m512 vf;
typedef __m256 vh;
typedef __m512d vd;
#else
enum { LANES = 8 };
#define LANES_NEEDS ANEMO_CPU_AVX2
#define LANES_WAY   "avx2"
typedef __m256 vf;
typedef __m128 vh;
typedef __m256d vd;
#endif
enum { HALF_LANES = LANES / 2 };
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));
typedef int64_t vl __attribute__((vector_size(4 * LANES)));

/* Defines the variant <stem>_avx2 or <stem>_avx512 from the including file's accepts,
 * workspace_bytes and run. */
#define LANES_VARIANT(name_token, op_id, accepts_fn, workspace_fn, run_fn, what)                   \
    extern const anemo_variant anemo_##name_token;                                                 \
    const anemo_variant anemo_##name_token = {                                                     \
        .size = sizeof(anemo_variant),                                                             \
        .name = #name_token,                                                                       \
        .op = op_id,                                                                               \
        .backend = ANEMO_CPU,                                                                      \
        .needs = {.cpu_features = LANES_NEEDS},                                                    \
        .traits = ANEMO_TRAIT_ROW_INVARIANT,                                                       \
        .idea = what,                                                                              \
        .accepts = accepts_fn,                                                                     \
        .workspace_bytes = workspace_fn,                                                           \
        .run = run_fn,                                                                             \
    };

/* Rows of a loop of whole rows that are worth a thread of their own: about 5 us of work against the
 * 1 to 2 us of a fork. Fewer rows than that run on the caller (exec.parallel with grain >= n), so a
 * decode step has no forks in its dense ops. */
static inline int64_t lanes_grain(int64_t elements_per_row) {
    return max_i64(1, 32768 / max_i64(1, elements_per_row));
}

/* ---------------------------------------------------------------- masks */

#if defined(__AVX512F__)
static inline __mmask16 lanes_mask(int64_t n) {
    return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1u);
}
#else
static inline __m256i lanes_mask(int64_t n) {
    static const int32_t window[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(window + 8 - min_i64(n, 8)));
}
#endif

/* ---------------------------------------------------------------- floats */

static inline vf vf_splat(float x) {
#if defined(__AVX512F__)
    return _mm512_set1_ps(x);
#else
    return _mm256_set1_ps(x);
#endif
}

static inline vi vi_splat(int32_t x) {
#if defined(__AVX512F__)
    return (vi)_mm512_set1_epi32(x);
#else
    return (vi)_mm256_set1_epi32(x);
#endif
}

static inline vf vf_load(const float *x) {
#if defined(__AVX512F__)
    return _mm512_loadu_ps(x);
#else
    return _mm256_loadu_ps(x);
#endif
}

static inline void vf_store(float *x, vf v) {
#if defined(__AVX512F__)
    _mm512_storeu_ps(x, v);
#else
    _mm256_storeu_ps(x, v);
#endif
}

/* The first n floats (all, if there are more than lanes); the other lanes are 0. */
static inline vf vf_load_part(const float *x, int64_t n) {
    if (n >= LANES)
        return vf_load(x);
#if defined(__AVX512F__)
    return _mm512_maskz_loadu_ps(lanes_mask(n), x);
#else
    return _mm256_maskload_ps(x, lanes_mask(n));
#endif
}

static inline void vf_store_part(float *x, vf v, int64_t n) {
    if (n >= LANES) {
        vf_store(x, v);
        return;
    }
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(x, lanes_mask(n), v);
#else
    _mm256_maskstore_ps(x, lanes_mask(n), v);
#endif
}

/* a * b + c, rounded once; and c - a * b. */
static inline vf vf_fma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#else
    return _mm256_fmadd_ps(a, b, c);
#endif
}

static inline vf vf_fnma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
    return _mm512_fnmadd_ps(a, b, c);
#else
    return _mm256_fnmadd_ps(a, b, c);
#endif
}

/* Always in the same order: halves onto each other. */
static inline float vf_sum(vf v) {
#if defined(__AVX512F__)
    const __m256 upper = _mm512_extractf32x8_ps(v, 1);
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), upper);
#else
    const __m256 eight = v;
#endif
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}

/* LANES unsigned bytes as floats; reads no more. */
static inline vf vf_from_u8(const uint8_t *x) {
#if defined(__AVX512F__)
    return _mm512_cvtepi32_ps(
        _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)x)));
#else
    return _mm256_cvtepi32_ps(
        _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)x)));
#endif
}

/* ---------------------------------------------------------------- doubles */

static inline vd vd_splat(double x) {
#if defined(__AVX512F__)
    return _mm512_set1_pd(x);
#else
    return _mm256_set1_pd(x);
#endif
}

static inline vd vd_load(const double *x) {
#if defined(__AVX512F__)
    return _mm512_loadu_pd(x);
#else
    return _mm256_loadu_pd(x);
#endif
}

static inline void vd_store(double *x, vd v) {
#if defined(__AVX512F__)
    _mm512_storeu_pd(x, v);
#else
    _mm256_storeu_pd(x, v);
#endif
}

static inline vd vd_fma(vd a, vd b, vd c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_pd(a, b, c);
#else
    return _mm256_fmadd_pd(a, b, c);
#endif
}

static inline vd vd_fnma(vd a, vd b, vd c) {
#if defined(__AVX512F__)
    return _mm512_fnmadd_pd(a, b, c);
#else
    return _mm256_fnmadd_pd(a, b, c);
#endif
}

/* mask ? a : b; a mask lane is all ones or all zeros, as comparisons of vectors give it. */
static inline vd vd_select(vl mask, vd a, vd b) {
    return (vd)((mask & (vl)a) | (~mask & (vl)b));
}

/* x == y ? a : b. On AVX-512 GCC makes a vector of a comparison's mask before it selects; this does
 * not. */
static inline vd vd_if_equal(vd x, vd y, vd a, vd b) {
#if defined(__AVX512F__)
    return _mm512_mask_mov_pd(b, _mm512_cmp_pd_mask(x, y, _CMP_EQ_OQ), a);
#else
    return _mm256_blendv_pd(b, a, _mm256_cmp_pd(x, y, _CMP_EQ_OQ));
#endif
}

/* x within low .. high; NaN gives low. */
static inline vd vd_clamp(vd x, double low, double high) {
#if defined(__AVX512F__)
    return _mm512_min_pd(_mm512_max_pd(x, vd_splat(low)), vd_splat(high));
#else
    return _mm256_min_pd(_mm256_max_pd(x, vd_splat(low)), vd_splat(high));
#endif
}

static inline vd vd_from_f32(vh v) {
#if defined(__AVX512F__)
    return _mm512_cvtps_pd(v);
#else
    return _mm256_cvtps_pd(v);
#endif
}

static inline vh vd_to_f32(vd v) {
#if defined(__AVX512F__)
    return _mm512_cvtpd_ps(v);
#else
    return _mm256_cvtpd_ps(v);
#endif
}

/* Always in the same order. */
static inline double vd_sum(vd v) {
#if defined(__AVX512F__)
    const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
#else
    const __m256d four = v;
#endif
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

/* ---------------------------------------------------------------- half vectors */

static inline vh vh_load(const float *x) {
#if defined(__AVX512F__)
    return _mm256_loadu_ps(x);
#else
    return _mm_loadu_ps(x);
#endif
}

static inline void vh_store(float *x, vh v) {
#if defined(__AVX512F__)
    _mm256_storeu_ps(x, v);
#else
    _mm_storeu_ps(x, v);
#endif
}

/* The first n floats (all, if there are more); the other lanes are 0. */
static inline vh vh_load_part(const float *x, int64_t n) {
    if (n >= HALF_LANES)
        return vh_load(x);
#if defined(__AVX512F__)
    return _mm256_maskz_loadu_ps((__mmask8)lanes_mask(n), x);
#else
    return _mm_maskload_ps(x, _mm256_castsi256_si128(lanes_mask(n)));
#endif
}

/* Each float twice in a row. */
static inline vf vh_twice(vh v) {
#if defined(__AVX512F__)
    const __m512i pairs = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(pairs, _mm512_castps256_ps512(v));
#else
    const __m256i pairs = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(v), pairs);
#endif
}

/* Neighbours exchanged: 1, 0, 3, 2, ... */
static inline vf vf_swap_pairs(vf v) {
#if defined(__AVX512F__)
    return _mm512_permute_ps(v, 0xb1);
#else
    return _mm256_permute_ps(v, 0xb1);
#endif
}

/* ---------------------------------------------------------------- exp */

/* y * 2^n, rounded once more where that is subnormal; n whole, |n| <= 1100. */
static inline vd vd_scale(vd y, vd n) {
#if defined(__AVX512F__)
    return _mm512_scalef_pd(y, n);
#else
    const vd round = vd_splat(0x1.8p52); /* adding it leaves the integer in the low bits */
    const vd shifted = vd_fma(n, vd_splat(0.5), round), half = shifted - round;
    const vl first = (vl)shifted, second = (vl)((n - half) + round);
    return y * (vd)((first + 1023) << 52) * (vd)((second + 1023) << 52);
#endif
}

/* exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2) / 2. Taylor's series to r^11 leaves a
 * relative 7e-15 there. Results may be subnormal, and are infinite above 709.78. NaN does not
 * stay NaN. */
static inline vd vd_exp(vd x) {
    static const double series[] = {
        1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
        1.0 / 120,      1.0 / 24,      1.0 / 6,      0.5,         1,          1};
    const vd round = vd_splat(0x1.8p52);
    x = vd_clamp(x, -746, 710);
    const vd n = vd_fma(x, vd_splat(0x1.71547652b82fep0), round) - round;
    const vd r = vd_fnma(n, vd_splat(0x1.abc9e3b39803fp-56), /* ln 2 in two parts */
                         vd_fnma(n, vd_splat(0x1.62e42fefa39efp-1), x));
    vd y = vd_splat(series[0]);
    for (size_t i = 1; i < sizeof series / sizeof *series; i++)
        y = vd_fma(y, r, vd_splat(series[i]));
    return vd_scale(y, n);
}

#endif
