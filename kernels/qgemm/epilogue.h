/* The last step of every qgemm: bias, then STORE, ADD or ACT_MUL. Variants compute a row of
 * results and hand it over; the arithmetic here is the same for all of them, and does not depend on
 * where a tile ended. */
#ifndef ANEMO_QGEMM_EPILOGUE_H
#define ANEMO_QGEMM_EPILOGUE_H

#include "kernels/kernel.h"

#include <math.h>

static inline double anemo_act_mul_f64(int32_t activation, double g, double u) {
    if (activation == ANEMO_ACT_SILU_CLAMPED) {
        g = g > 7.0 ? 7.0 : g; /* written so that NaN stays NaN */
        u = u > 7.0 ? 7.0 : u < -7.0 ? -7.0 : u;
        return (u + 1.0) * g / (1.0 + exp(-1.702 * g));
    }
    return g / (1.0 + exp(-g)) * u;
}

static inline uint32_t anemo_float_bits(float value) {
    return ((union {
               float value;
               uint32_t bits;
           }){value})
        .bits;
}
static inline float anemo_bits_float(uint32_t bits) {
    return ((union {
               uint32_t bits;
               float value;
           }){bits})
        .value;
}

/* exp(x) within 3 ulp, without a call or a branch: the loop over a row becomes vectors of whatever
 * its file may use. 2^n exp(r) with n = round(x / ln 2) and |r| <= ln(2) / 2, Taylor to r^7; the
 * power in two halves, so that infinity and 0 are reached. NaN stays NaN. */
static inline float anemo_exp_f32(float x) {
    const float magic = 0x1.8p23f; /* a sum with it holds the integer in its low bits */
    x = x > 104.0f ? 104.0f : x;
    x = x < -104.0f ? -104.0f : x;
    const float shifted = x * 0x1.715476p0f + magic, n = shifted - magic;
    const float r = (x - n * 0x1.62ep-1f) - n * 0x1.0bfbe8p-15f;
    float y = r * (1.0f / 5040) + 1.0f / 720;
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    const int32_t power = (int32_t)anemo_float_bits(shifted) - 0x4b400000; /* the bits of magic */
    const float half = anemo_bits_float((uint32_t)((power >> 1) + 127) << 23);
    return y * half * anemo_bits_float((uint32_t)(power - (power >> 1) + 127) << 23);
}

static inline float anemo_act_mul_f32(int32_t activation, float g, float u) {
    if (activation == ANEMO_ACT_SILU_CLAMPED) {
        g = g > 7.0f ? 7.0f : g;
        u = u > 7.0f ? 7.0f : u < -7.0f ? -7.0f : u;
        return (u + 1.0f) * g / (1.0f + anemo_exp_f32(-1.702f * g));
    }
    return g / (1.0f + anemo_exp_f32(-g)) * u;
}

/* y_part[row, column .. column + count) from results[count]; not for ACT_MUL. */
static inline void anemo_epilogue_row(const anemo_qgemm_problem *p, const anemo_qgemm_args *a,
                                      int32_t part, int64_t row, int64_t column, int64_t count,
                                      const float *results) {
    float *y = a->y[part] + row * a->y_stride[part] + column;
    const float *bias = p->has_bias >> part & 1 ? a->bias[part] + column : NULL;
    for (int64_t j = 0; j < count; j++) {
        const float r = bias ? results[j] + bias[j] : results[j];
        y[j] = p->epilogue == ANEMO_EPI_ADD ? y[j] + r : r;
    }
}

/* y_0[row, column ..) = act(gate) * up. Bias first, then a loop without conditions. */
static inline void anemo_epilogue_act_mul(const anemo_qgemm_problem *p, const anemo_qgemm_args *a,
                                          int64_t row, int64_t column, int64_t count, float *gate,
                                          float *up) {
    float *const y = a->y[0] + row * a->y_stride[0] + column;
    float *const result[2] = {gate, up};
    for (int32_t part = 0; part < 2; part++) {
        const float *bias = p->has_bias >> part & 1 ? a->bias[part] + column : NULL;
        for (int64_t j = 0; bias && j < count; j++) {
            result[part][j] += bias[j];
        }
    }
    if (p->activation == ANEMO_ACT_SILU_CLAMPED) {
        for (int64_t j = 0; j < count; j++) {
            y[j] = anemo_act_mul_f32(ANEMO_ACT_SILU_CLAMPED, gate[j], up[j]);
        }
    } else {
        for (int64_t j = 0; j < count; j++) {
            y[j] = anemo_act_mul_f32(ANEMO_ACT_SILU, gate[j], up[j]);
        }
    }
}

#endif
