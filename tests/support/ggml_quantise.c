#include "tests/support/ggml_quantise.h"

#include <math.h>

static bool type_of(uint32_t id, anemo_weight_type *type, int64_t *block) {
    int64_t bytes;
    const char *name;
    return anemo_ggml_type(id, type, block, &bytes, &name) && *block <= 32;
}

bool ggml_quantise_fits(uint32_t id, int64_t k) {
    anemo_weight_type type;
    int64_t block;
    return type_of(id, &type, &block) && k % block == 0;
}

/* Scale and offset of a block as the file will hold them. */
static void choose_scale(const anemo_weight_type *type, const float *x, float *scale,
                         float *offset) {
    float low = x[0], high = x[0];
    for (int i = 1; i < 32; ++i) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    const float most = -low > high ? low : high; /* the largest, with its sign */
    float d = most / -(float)(1 << (type->bits - 1));
    *offset = 0;
    if (type->scale == ANEMO_SCALE_E8M0) { /* the largest doubled FP4 value is 12 */
        *scale = most == 0 ? ldexpf(1, -127) : ldexpf(1, (int)ceil(log2(fabs(most) / 12.0)));
        return;
    }
    if (type->code == ANEMO_CODE_TABLE)
        d = most / type->table[0];
    if (type->offset == ANEMO_OFFSET_MINIMUM) {
        d = (high - low) / (float)((1 << type->bits) - 1);
        *offset = -anemo_f16_f32(anemo_f32_f16(low));
    }
    *scale = anemo_f16_f32(anemo_f32_f16(d));
}

static void choose_codes(const anemo_weight_type *type, const float *x, float scale, float offset,
                         uint8_t *codes) {
    for (int i = 0; i < 32; ++i) {
        double best = HUGE_VAL;
        for (int c = 0; c < 1 << type->bits; ++c) {
            const double error = fabs(anemo_weight_value(type, (uint8_t)c, scale, offset) - x[i]);
            codes[i] = error < best ? (uint8_t)c : codes[i];
            best = error < best ? error : best;
        }
    }
}

static void put_block(byte_string *out, const anemo_weight_type *type, const float *x) {
    float scale, offset;
    uint8_t codes[32] = {0};
    uint32_t fifth = 0;
    choose_scale(type, x, &scale, &offset);
    choose_codes(type, x, scale, offset, codes);
    if (type->scale == ANEMO_SCALE_E8M0)
        bytes_append_number(out, (uint64_t)(ilogbf(scale) + 128), 1);
    else
        bytes_append_number(out, anemo_f32_f16(scale), 2);
    if (type->offset == ANEMO_OFFSET_MINIMUM)
        bytes_append_number(out, anemo_f32_f16(-offset), 2);
    for (int i = 0; i < 32; ++i)
        fifth |= (uint32_t)(codes[i] >> 4 & 1) << i;
    if (type->bits == 5)
        bytes_append_number(out, fifth, 4);
    for (int i = 0; type->bits == 8 && i < 32; ++i)
        bytes_append_number(out, codes[i] ^ 0x80u, 1);
    for (int i = 0; type->bits < 8 && i < 16; ++i)
        bytes_append_number(out, (codes[i] & 15u) | (codes[i + 16] & 15u) << 4, 1);
}

static void put_float(byte_string *out, uint32_t id, float value) {
    if (id == ANEMO_GGML_F32)
        bytes_append_number(out, anemo_f32_bits(value), 4);
    else if (id == ANEMO_GGML_F16)
        bytes_append_number(out, anemo_f32_f16(value), 2);
    else /* bfloat16, cut */
        bytes_append_number(out, anemo_f32_bits(value) >> 16, 2);
}

void ggml_quantise(byte_string *out, uint32_t id, const float *values, int64_t n) {
    anemo_weight_type type;
    int64_t block;
    type_of(id, &type, &block);
    for (int64_t i = 0; i < n; i += block)
        if (block == 1)
            put_float(out, id, values[i]);
        else
            put_block(out, &type, values + i);
}
