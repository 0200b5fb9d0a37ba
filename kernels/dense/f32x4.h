/* Four floats at a time, for the plain C variants.
 *
 * GNU vector extensions instead of trust in the auto-vectoriser: GCC at -O2 leaves loops of unknown
 * length scalar, and without fast-math no compiler may split a sum over lanes. Sixteen bytes is
 * what every x86-64 and AArch64 baseline has, so these files need no ISA suffix.
 *
 * Every product below sums in the same order whatever the tile: lane l takes the elements
 * l, l + 4, l + 8, ..., then (lane 0 + lane 1) + (lane 2 + lane 3). A result therefore depends on
 * its own two vectors only, not on the neighbours it was computed with. That is what makes a
 * variant ROW_INVARIANT.
 */
#ifndef ANEMO_DENSE_F32X4_H
#define ANEMO_DENSE_F32X4_H

#include <stdint.h>
#include <string.h>

typedef float f32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint16_t u16x4 __attribute__((vector_size(8)));

static inline f32x4 f4_load(const float *x) {
    f32x4 v;
    memcpy(&v, x, sizeof v);
    return v;
}

static inline void f4_store(float *x, f32x4 v) {
    memcpy(x, &v, sizeof v);
}

/* The first n (< 4) floats; the other lanes are 0. */
static inline f32x4 f4_load_part(const float *x, int64_t n) {
    f32x4 v = {0};
    memcpy(&v, x, (size_t)n * sizeof *x);
    return v;
}

static inline f32x4 f4_splat(float x) {
    return (f32x4){x, x, x, x};
}

static inline float f4_sum(f32x4 v) {
    return (v[0] + v[1]) + (v[2] + v[3]);
}

/* mask ? a : b, lane by lane; a mask lane is all ones or all zeros. */
static inline f32x4 f4_select(u32x4 mask, f32x4 a, f32x4 b) {
    return (f32x4)((mask & (u32x4)a) | (~mask & (u32x4)b));
}

/* The smaller and the larger; a NaN in v stays NaN. */
static inline f32x4 f4_min(f32x4 v, f32x4 limit) {
    return f4_select((u32x4)(v > limit), limit, v);
}

static inline f32x4 f4_max(f32x4 v, f32x4 limit) {
    return f4_select((u32x4)(v < limit), limit, v);
}

/* Four bfloat16 or float16 numbers, exactly; x needs no alignment. */
static inline f32x4 f4_from_bf16(const void *x) {
    u16x4 half;
    memcpy(&half, x, sizeof half);
    return (f32x4)(__builtin_convertvector(half, u32x4) << 16);
}

static inline f32x4 f4_from_f16(const void *x) {
    u16x4 half;
    memcpy(&half, x, sizeof half);
    const u32x4 bits = __builtin_convertvector(half, u32x4);
    const u32x4 magnitude = (bits & 0x7fffu) << 13;
    const u32x4 special = (u32x4)(magnitude >= 0x0f800000u) & 0x7f800000u; /* infinity, NaN */
    const f32x4 value = (f32x4)magnitude * f4_splat(0x1p112f); /* bias 127 - 15; subnormals, too */
    return (f32x4)((u32x4)value | special | (bits & 0x8000u) << 16);
}

/* exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2) / 2. Taylor's series to r^7 leaves a
 * relative 5e-9 there, so rounding (about 1 ulp) is the whole error. x < -87.33 gives 0 (below the
 * normal range), x > 88.37 gives exp(88.37) = 2.4e38, NaN stays NaN. Not libm's expf: this one
 * costs a sixth and gives the same bits on every machine. */
static inline f32x4 f4_exp(f32x4 x) {
    const f32x4 round = f4_splat(0x1.8p23f); /* adding it leaves the integer in the low bits */
    const u32x4 too_low = (u32x4)(x < f4_splat(-87.33f));
    x = f4_max(f4_min(x, f4_splat(88.37f)), f4_splat(-87.33f));
    const f32x4 shifted = x * f4_splat(0x1.715476p0f) + round;
    const f32x4 n = shifted - round;
    const f32x4 r = (x - n * f4_splat(0x1.62ep-1f)) - n * f4_splat(0x1.0bfbe8p-15f);
    f32x4 y = r * f4_splat(1.0f / 5040) + f4_splat(1.0f / 720);
    y = y * r + f4_splat(1.0f / 120);
    y = y * r + f4_splat(1.0f / 24);
    y = y * r + f4_splat(1.0f / 6);
    y = y * r + f4_splat(0.5f);
    y = (y * r) * r + r + f4_splat(1.0f);
    const u32x4 power = ((u32x4)shifted << 23) + 0x3f800000u;
    return (f32x4)((u32x4)(y * (f32x4)power) & ~too_low);
}

/* out[j] = a . b[j] over k elements, j = 0 .. 3 */
static inline void f4_dot_1x4(const float *a, const float *const b[4], int64_t k, float out[4]) {
    const float *const b0 = b[0], *const b1 = b[1], *const b2 = b[2], *const b3 = b[3];
    f32x4 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    int64_t i = 0;
    for (; i + 4 <= k; i += 4) {
        const f32x4 x = f4_load(a + i);
        s0 += x * f4_load(b0 + i);
        s1 += x * f4_load(b1 + i);
        s2 += x * f4_load(b2 + i);
        s3 += x * f4_load(b3 + i);
    }
    if (i < k) {
        const f32x4 x = f4_load_part(a + i, k - i);
        s0 += x * f4_load_part(b0 + i, k - i);
        s1 += x * f4_load_part(b1 + i, k - i);
        s2 += x * f4_load_part(b2 + i, k - i);
        s3 += x * f4_load_part(b3 + i, k - i);
    }
    out[0] = f4_sum(s0), out[1] = f4_sum(s1), out[2] = f4_sum(s2), out[3] = f4_sum(s3);
}

/* out[r][j] = a[r] . b[j], r = 0, 1: each load of b serves two rows, the eight sums stay in
 * registers */
static inline void f4_dot_2x4(const float *a0, const float *a1, const float *const b[4], int64_t k,
                              float out[2][4]) {
    const float *const b0 = b[0], *const b1 = b[1], *const b2 = b[2], *const b3 = b[3];
    f32x4 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, t0 = {0}, t1 = {0}, t2 = {0}, t3 = {0};
    int64_t i = 0;
    for (; i + 4 <= k; i += 4) {
        const f32x4 x = f4_load(a0 + i), y = f4_load(a1 + i);
        const f32x4 w0 = f4_load(b0 + i), w1 = f4_load(b1 + i);
        s0 += x * w0, t0 += y * w0;
        s1 += x * w1, t1 += y * w1;
        const f32x4 w2 = f4_load(b2 + i), w3 = f4_load(b3 + i);
        s2 += x * w2, t2 += y * w2;
        s3 += x * w3, t3 += y * w3;
    }
    if (i < k) {
        const f32x4 x = f4_load_part(a0 + i, k - i), y = f4_load_part(a1 + i, k - i);
        const f32x4 w0 = f4_load_part(b0 + i, k - i), w1 = f4_load_part(b1 + i, k - i);
        const f32x4 w2 = f4_load_part(b2 + i, k - i), w3 = f4_load_part(b3 + i, k - i);
        s0 += x * w0, t0 += y * w0;
        s1 += x * w1, t1 += y * w1;
        s2 += x * w2, t2 += y * w2;
        s3 += x * w3, t3 += y * w3;
    }
    out[0][0] = f4_sum(s0), out[0][1] = f4_sum(s1), out[0][2] = f4_sum(s2), out[0][3] = f4_sum(s3);
    out[1][0] = f4_sum(t0), out[1][1] = f4_sum(t1), out[1][2] = f4_sum(t2), out[1][3] = f4_sum(t3);
}

#endif
