/* kv_store of kv_page.h over the lanes of lanes.h: the same bytes, NaN included.
 *
 * f16: vcvtps2ph keeps a NaN's payload, kv_page.h does not, so NaNs are first replaced. bf16: in
 * integers, not by vcvtneps2bf16, which flushes subnormals (and needs AVX512_BF16). q8: magnitudes
 * are compared as integers, where infinity and NaN are the largest. */
#ifndef ANEMO_SWA_KV_STORE_LANES_H
#define ANEMO_SWA_KV_STORE_LANES_H

#include "kernels/dense/lanes.h"
#include "kernels/swa/kv_page.h"

#if defined(__AVX512F__)
typedef __m256i halves; /* LANES 16-bit numbers */
typedef __m128i bytes;  /* LANES 8-bit numbers */
#else
typedef __m128i halves;
typedef __m128i bytes; /* the lower half of it */
#endif

static inline halves halves_from_f32(vf x) {
    const vi nan = x != x, bits = (vi)x;
    const vf safe = (vf)((nan & ((bits & INT32_MIN) | 0x7fc00000)) | (~nan & bits));
#if defined(__AVX512F__)
    return _mm512_cvtps_ph(safe, _MM_FROUND_TO_NEAREST_INT);
#else
    return _mm256_cvtps_ph(safe, _MM_FROUND_TO_NEAREST_INT);
#endif
}

static inline halves bf16_from_f32(vf x) {
    const vi nan = x != x;
    const vu bits = (vu)x, rounded = bits + 0x7fff + (bits >> 16 & 1);
    const vu upper = (((vu)nan & (bits | 0x400000)) | (~(vu)nan & rounded)) >> 16;
#if defined(__AVX512F__)
    return _mm512_cvtepi32_epi16((__m512i)upper);
#else
    return _mm_packus_epi32(_mm256_castsi256_si128((__m256i)upper),
                            _mm256_extracti128_si256((__m256i)upper, 1));
#endif
}

/* Rounded to nearest even; |x| <= 127. */
static inline bytes s8_from_f32(vf x) {
#if defined(__AVX512F__)
    return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x));
#else
    const __m256i wide = _mm256_cvtps_epi32(x);
    const __m128i half =
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    return _mm_packs_epi16(half, half);
#endif
}

static inline uint32_t largest_magnitude_bits(const float *x, int32_t n) {
    vi most = {0};
    for (int32_t i = 0; i < n; i += LANES) {
        const vi bits = (vi)vf_load_part(x + i, n - i) & INT32_MAX, more = bits > most;
        most = (more & bits) | (~more & most);
    }
    int32_t lane[LANES], largest = 0;
    memcpy(lane, &most, sizeof lane);
    for (int32_t i = 0; i < LANES; i++)
        largest = lane[i] > largest ? lane[i] : largest;
    return (uint32_t)largest;
}

static inline void store_q8(char *vector, const float *x, int32_t n) {
    const uint32_t bits = largest_magnitude_bits(x, n);
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    const bool finite = bits < 0x7f800000, zero = !finite || largest < 1e-36f;
    const float scale = !finite ? NAN : zero ? 0 : largest / 127;
    int8_t *codes = (int8_t *)vector + sizeof scale;
    memcpy(vector, &scale, sizeof scale);
    memset(codes + n, 0, (size_t)(-n & 3));
    if (zero) {
        memset(codes, 0, (size_t)n);
        return;
    }
    const vf inverse = vf_splat(127 / largest);
    for (int32_t i = 0; i < n; i += LANES) {
        const bytes code = s8_from_f32(vf_load_part(x + i, n - i) * inverse);
        memcpy(codes + i, &code, (size_t)min_i64(LANES, n - i));
    }
}

/* Writes head_dim floats into a vector of the page type. */
static inline void store_lanes(const kv_pages *pages, char *vector, const float *x) {
    const int32_t n = pages->shape.head_dim, type = pages->shape.type;
    if (type == ANEMO_KV_F32) {
        memcpy(vector, x, (size_t)n * sizeof *x);
    } else if (type == ANEMO_KV_Q8) {
        store_q8(vector, x, n);
    } else {
        for (int32_t i = 0; i < n; i += LANES) {
            const vf v = vf_load_part(x + i, n - i);
            const halves half = type == ANEMO_KV_F16 ? halves_from_f32(v) : bf16_from_f32(v);
            if (n - i >= LANES)
                memcpy(vector + 2 * i, &half, sizeof half);
            else
                memcpy(vector + 2 * i, &half, (size_t)(n - i) * 2);
        }
    }
}

#endif
