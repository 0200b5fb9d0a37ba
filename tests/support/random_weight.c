#include "random_weight.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LINEAR  ANEMO_CODE_LINEAR
#define F16     ANEMO_SCALE_F16
#define F32     ANEMO_SCALE_F32
#define MINIMUM ANEMO_OFFSET_MINIMUM
#define ZERO    ANEMO_OFFSET_ZERO_POINT
const anemo_weight_type random_weight_types[] = {
    {ANEMO_CODE_F32, 32, 0, 0, 0, {0}},
    {ANEMO_CODE_F16, 16, 0, 0, 0, {0}},
    {ANEMO_CODE_BF16, 16, 0, 0, 0, {0}},
    {LINEAR, 4, F16, 0, 32, {0}},
    {LINEAR, 4, F16, MINIMUM, 32, {0}},
    {LINEAR, 4, F16, ZERO, 32, {0}},
    {LINEAR, 4, F32, 0, 64, {0}},
    {LINEAR, 4, F32, MINIMUM, 64, {0}},
    {LINEAR, 4, F16, 0, 128, {0}},
    {LINEAR, 4, F16, ZERO, 128, {0}},
    {LINEAR, 4, F32, 0, 0, {0}},
    {LINEAR, 4, F32, MINIMUM, 0, {0}},
    {LINEAR, 4, F16, 0, 16, {0}},
    {LINEAR, 5, F16, MINIMUM, 32, {0}},
    {LINEAR, 6, ANEMO_SCALE_TWO_LEVEL, 0, 16, {0}},
    {LINEAR, 8, F16, 0, 16, {0}},
    {LINEAR, 8, F16, 0, 32, {0}},
    {LINEAR, 8, F32, MINIMUM, 128, {0}},
    {LINEAR, 8, F32, 0, 0, {0}},
    {LINEAR, 8, F32, ZERO, 0, {0}},
    {ANEMO_CODE_TABLE,
     4,
     ANEMO_SCALE_E8M0,
     0,
     32,
     {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}},
    {ANEMO_CODE_TABLE,
     4,
     F16,
     0,
     32,
     {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}},
};
const int random_weight_type_count = sizeof random_weight_types / sizeof *random_weight_types;

static uint64_t mix(uint64_t seed, uint64_t index) { /* splitmix64 */
    uint64_t z = seed * 0x9e3779b97f4a7c15u + index * 0xbf58476d1ce4e5b9u + 0x94d049bb133111ebu;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

float random_float(uint64_t seed, uint64_t index) {
    return (float)(mix(seed, index) >> 40) * 0x1p-23f - 1.0f;
}

static void read_row(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                     float *scales, float *offsets) {
    const random_weight *w = weight->reader_data;
    const size_t k = (size_t)weight->k, groups = (size_t)w->groups;
    if (groups == 0) {
        memcpy(values, w->values + (size_t)row * k, k * sizeof *values);
        return;
    }
    memcpy(codes, w->codes + (size_t)row * k, k);
    memcpy(scales, w->scales + (size_t)row * groups, groups * sizeof *scales);
    if (weight->type.offset != ANEMO_OFFSET_NONE) {
        memcpy(offsets, w->offsets + (size_t)row * groups, groups * sizeof *offsets);
    }
}

/* 8-bit mantissas fit f16 and bf16; E8M0 takes powers of two; two levels 6 bits times an f16. */
static float scale_value(const anemo_weight_type *type, uint64_t bits) {
    if (type->scale == ANEMO_SCALE_TWO_LEVEL) {
        return ldexpf((float)(32 + (int)(bits & 31)), -5 - type->bits);
    }
    const int mantissa = type->scale == ANEMO_SCALE_E8M0 ? 128 : 128 + (int)(bits & 127);
    return ldexpf((float)mantissa, -7 - type->bits - (int)(bits >> 8 & 1));
}

random_weight *random_weight_create(anemo_weight_type type, int64_t n, int64_t k, uint64_t seed) {
    random_weight *w = calloc(1, sizeof *w);
    w->groups = anemo_weight_groups(&type, k);
    w->values = calloc((size_t)(n * k), sizeof *w->values);
    w->codes = calloc((size_t)(n * k), 1);
    w->scales = calloc((size_t)(n * w->groups + 1), sizeof *w->scales);
    w->offsets = calloc((size_t)(n * w->groups + 1), sizeof *w->offsets);
    for (int64_t i = 0; i < n * k; i++) {
        const uint64_t r = mix(seed, (uint64_t)i);
        w->values[i] = (float)((int)(r & 255) - 128) / 128.0f; /* exact in f16 and bf16 */
        w->codes[i] = (uint8_t)(r & ((1u << (type.bits > 8 ? 8 : type.bits)) - 1));
    }
    for (int64_t i = 0; i < n * w->groups; i++) {
        const uint64_t r = mix(seed + 1, (uint64_t)i);
        w->scales[i] = scale_value(&type, r);
        w->offsets[i] = type.offset == ANEMO_OFFSET_ZERO_POINT
                            ? (float)(r >> 32 & ((1u << type.bits) - 1))
                            : (float)((int)(r >> 32 & 255) - 100) / 256.0f;
    }
    w->weight = (anemo_weight){.size = sizeof w->weight,
                               .type = type,
                               .n = n,
                               .k = k,
                               .data = w->codes,
                               .reader_data = w,
                               .read_row = read_row};
    return w;
}

void random_weight_free(random_weight *w) {
    if (w) {
        free(w->values);
        free(w->codes);
        free(w->scales);
        free(w->offsets);
        free(w);
    }
}

static int64_t group_of(const random_weight *w, int64_t row, int64_t column) {
    return row * w->groups + (w->weight.type.group > 0 ? column / w->weight.type.group : 0);
}

/* Written out again, and not by anemo_weight_value, so that tests have a second opinion. */
double random_weight_value(const random_weight *w, int64_t row, int64_t column) {
    const anemo_weight_type *t = &w->weight.type;
    const int64_t at = row * w->weight.k + column;
    if (w->groups == 0) {
        return w->values[at];
    }
    const double c = w->codes[at], s = w->scales[group_of(w, row, column)];
    const double o = w->offsets[group_of(w, row, column)];
    if (t->code == ANEMO_CODE_TABLE) {
        return s * t->table[w->codes[at]];
    }
    return t->offset == ANEMO_OFFSET_MINIMUM      ? s * c - o
           : t->offset == ANEMO_OFFSET_ZERO_POINT ? s * (c - o)
                                                  : s * (c - ldexp(1.0, t->bits - 1));
}

double random_weight_magnitude(const random_weight *w, int64_t row, int64_t column) {
    const anemo_weight_type *t = &w->weight.type;
    if (w->groups == 0 || t->code == ANEMO_CODE_TABLE) {
        return fabs(random_weight_value(w, row, column));
    }
    const double s = fabs((double)w->scales[group_of(w, row, column)]) * ldexp(1.0, t->bits);
    const double o = fabs((double)w->offsets[group_of(w, row, column)]);
    return s + (t->offset == ANEMO_OFFSET_MINIMUM ? o : s);
}
