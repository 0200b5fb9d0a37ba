/* The activation between the two halves of an expert, LANES numbers (8 or 16, defined by whoever
 * includes this) at a time; the compiler makes of these vectors what it has. */
#ifndef ANEMO_ACTIVATE_LANES_H
#define ANEMO_ACTIVATE_LANES_H

#include "kernels/kernel.h"

#include <string.h>

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));

static inline vec vec_load(const void *at) {
    vec v;
    memcpy(&v, at, sizeof v);
    return v;
}

static inline uvec uvec_load(const void *at) {
    uvec v;
    memcpy(&v, at, sizeof v);
    return v;
}

static inline vec vec_splat(float x) {
    return x - (vec){0};
}

static inline vec vec_select(uvec mask, vec a, vec b) {
    return (vec)((mask & (uvec)a) | (~mask & (uvec)b));
}

/* exp(x) for x <= 0: 0 below the normal range; the polynomial of dense/f32x4.h. NaN stays NaN. */
static inline vec vec_exp(vec x) {
    const vec round = vec_splat(0x1.8p23f), least = vec_splat(-87.33f);
    const uvec too_low = (uvec)(x < least);
    x = vec_select(too_low, least, x);
    const vec shifted = x * 0x1.715476p0f + round, n = shifted - round;
    const vec r = (x - n * 0x1.62ep-1f) - n * 0x1.0bfbe8p-15f;
    vec y = r * (1.0f / 5040) + 1.0f / 720;
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = (y * r) * r + r + 1.0f;
    const uvec power = ((uvec)shifted << 23) + 0x3f800000u;
    return (vec)((uvec)(y * (vec)power) & ~too_low);
}

/* 1 / (1 + exp(-x)), as exp(x) / (1 + exp(x)) below 0 so that nothing overflows */
static inline vec vec_sigmoid(vec x) {
    const vec e = vec_exp((vec)((uvec)x | 0x80000000u));
    return vec_select((uvec)(x < 0.0f), e, vec_splat(1)) / (e + 1.0f);
}

/* act(g) u as in moe_experts_ref.c */
static inline vec vec_activate(int32_t activation, vec g, vec u) {
    const vec seven = vec_splat(7);
    if (activation == ANEMO_ACT_SILU) {
        return g * vec_sigmoid(g) * u;
    }
    g = vec_select((uvec)(g > seven), seven, g);
    u = vec_select((uvec)(u > seven), seven, u);
    u = vec_select((uvec)(u < -seven), -seven, u);
    return (u + 1.0f) * g * vec_sigmoid(g * 1.702f);
}

#endif
