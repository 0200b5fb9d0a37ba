/* Weights: the meaning of a code, names and sizes of types, dequantising a row. */
#include "kernels/internal.h"

#include <stdio.h>

bool anemo_weight_type_valid(const anemo_weight_type *type, int64_t k, char *why,
                             size_t why_bytes) {
    const int bits = type->bits, group = type->group;
    if (k < 1) {
        return anemo_refuse(why, why_bytes, "k is %lld; at least 1 is accepted", (long long)k);
    }
    if (anemo_code_is_float(type)) {
        const int want = type->code == ANEMO_CODE_F32 ? 32 : 16;
        if (bits != want || type->scale != ANEMO_SCALE_NONE || type->offset != ANEMO_OFFSET_NONE) {
            return anemo_refuse(why, why_bytes, "a float weight has %d bits and no scale or offset",
                                want);
        }
        return true;
    }
    if (type->code != ANEMO_CODE_LINEAR && type->code != ANEMO_CODE_TABLE) {
        return anemo_refuse(why, why_bytes, "unknown weight code %d", type->code);
    }
    if (type->scale == ANEMO_SCALE_NONE || type->scale > ANEMO_SCALE_TWO_LEVEL ||
        type->offset > ANEMO_OFFSET_ZERO_POINT) {
        return anemo_refuse(why, why_bytes, "unknown weight scale %d or offset %d", type->scale,
                            type->offset);
    }
    if (type->code == ANEMO_CODE_TABLE && (bits != 4 || type->offset != ANEMO_OFFSET_NONE)) {
        return anemo_refuse(why, why_bytes, "a table weight has 4 bits and no offset");
    }
    if (bits != 4 && bits != 5 && bits != 6 && bits != 8) {
        return anemo_refuse(why, why_bytes, "%d-bit codes; 4, 5, 6 or 8 are accepted", bits);
    }
    if (group != 0 && group != 16 && group != 32 && group != 64 && group != 128) {
        return anemo_refuse(why, why_bytes,
                            "weight group %d; 16, 32, 64, 128 or one per row are accepted", group);
    }
    return true;
}

int64_t anemo_weight_groups(const anemo_weight_type *type, int64_t k) {
    if (anemo_code_is_float(type)) {
        return 0;
    }
    return type->group > 0 ? anemo_ceil_div(k, type->group) : 1;
}

/* "f32", "bf16"; else code and bits, group, then what differs from f16 scales without offset:
 * "q4:g32", "q8:row", "q4:g32:min", "q4:g128:f32:zp", "t4:g32:e8m0" (t: a table). */
const char *anemo_weight_type_name(const anemo_weight_type *type, char *buffer,
                                   size_t buffer_bytes) {
    static const char *const floats[] = {"f32", "f16", "bf16"};
    static const char *const scales[] = {"", "", ":f32", ":e8m0", ":two-level"};
    static const char *const offsets[] = {"", ":min", ":zp"};
    if (anemo_code_is_float(type)) {
        snprintf(buffer, buffer_bytes, "%s", floats[type->code]);
        return buffer;
    }
    char group[16] = "row";
    if (type->group > 0) {
        snprintf(group, sizeof group, "g%d", (int)type->group);
    }
    snprintf(buffer, buffer_bytes, "%c%d:%s%s%s", type->code == ANEMO_CODE_TABLE ? 't' : 'q',
             type->bits, group, type->scale <= ANEMO_SCALE_TWO_LEVEL ? scales[type->scale] : ":?",
             type->offset <= ANEMO_OFFSET_ZERO_POINT ? offsets[type->offset] : ":?");
    return buffer;
}

double anemo_weight_value(const anemo_weight_type *type, uint8_t code, float scale, float offset) {
    const double s = scale;
    if (type->code == ANEMO_CODE_TABLE) {
        return s * type->table[code & 15];
    }
    switch (type->offset) {
    case ANEMO_OFFSET_MINIMUM:
        return s * code - (double)offset;
    case ANEMO_OFFSET_ZERO_POINT:
        return s * (code - (double)offset);
    default:
        return s * (code - (1 << (type->bits - 1)));
    }
}

/* codes[k] at the front, then scales and offsets for the smallest group. */
static size_t scratch_scales_at(int64_t k) {
    return (size_t)anemo_round_up(k, 64);
}

static size_t scratch_groups(int64_t k) {
    return (size_t)anemo_round_up(anemo_ceil_div(k, 16), 16);
}

size_t anemo_weight_scratch_bytes(int64_t k) {
    return scratch_scales_at(k) + 2 * scratch_groups(k) * sizeof(float);
}

void anemo_weight_row_f32(const anemo_weight *weight, int64_t row, float *values, void *scratch) {
    const anemo_weight_type *type = &weight->type;
    const int64_t k = weight->k;
    uint8_t *codes = scratch;
    float *scales = (float *)(void *)((char *)scratch + scratch_scales_at(k));
    float *offsets = scales + scratch_groups(k);
    weight->read_row(weight, row, values, codes, scales, offsets);
    if (anemo_code_is_float(type)) {
        return;
    }
    const int64_t group = type->group > 0 ? type->group : k;
    const float middle = (float)(1 << (type->bits - 1));
    for (int64_t g = 0, begin = 0; begin < k; g++, begin += group) {
        const int64_t end = begin + group < k ? begin + group : k;
        const float s = scales[g];
        if (type->code == ANEMO_CODE_TABLE) {
            for (int64_t i = begin; i < end; i++) {
                values[i] = s * type->table[codes[i] & 15];
            }
        } else if (type->offset == ANEMO_OFFSET_MINIMUM) {
            const float o = offsets[g];
            for (int64_t i = begin; i < end; i++) {
                values[i] = s * codes[i] - o;
            }
        } else {
            const float o = type->offset == ANEMO_OFFSET_ZERO_POINT ? offsets[g] : middle;
            for (int64_t i = begin; i < end; i++) {
                values[i] = s * ((float)codes[i] - o);
            }
        }
    }
}

/* Two-level (GGUF K-quants): per group 6-bit scales (8-bit with 6-bit codes) under one float16 per
 * 256 columns; minima are stored the same way again. */
double anemo_weight_type_bits(const anemo_weight_type *type, int64_t k) {
    if (anemo_code_is_float(type) || k < 1) {
        return type->bits;
    }
    static const double scale_bits[] = {0, 16, 32, 8, 0};
    const double per_weight = (double)anemo_weight_groups(type, k) / (double)k;
    double scale;
    if (type->scale == ANEMO_SCALE_TWO_LEVEL) {
        scale = (type->bits == 6 ? 8.0 : 6.0) * per_weight + 16.0 / 256.0;
    } else {
        scale = scale_bits[type->scale <= ANEMO_SCALE_TWO_LEVEL ? type->scale : 0] * per_weight;
    }
    const double offset = type->offset == ANEMO_OFFSET_MINIMUM      ? scale
                          : type->offset == ANEMO_OFFSET_ZERO_POINT ? type->bits * per_weight
                                                                    : 0.0;
    return type->bits + scale + offset;
}
