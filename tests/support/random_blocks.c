#include "tests/support/random_blocks.h"

#include <math.h>

const uint32_t random_block_types[] = {
    ANEMO_GGML_F32,  ANEMO_GGML_F16,    ANEMO_GGML_BF16, ANEMO_GGML_Q4_0, ANEMO_GGML_Q4_1,
    ANEMO_GGML_Q5_0, ANEMO_GGML_Q5_1,   ANEMO_GGML_Q8_0, ANEMO_GGML_Q4_K, ANEMO_GGML_Q5_K,
    ANEMO_GGML_Q6_K, ANEMO_GGML_IQ4_NL, ANEMO_GGML_MXFP4};
const int random_block_type_count = sizeof random_block_types / sizeof *random_block_types;

typedef struct source {
    uint64_t seed, drawn;
} source;

static double uniform(source *s) {
    return anemo_philox_uniform(s->seed, s->drawn++);
}

static void put_half(uint8_t *at, double value) {
    const uint16_t half = anemo_f32_f16((float)value);
    at[0] = (uint8_t)half;
    at[1] = (uint8_t)(half >> 8);
}

/* Standard deviation of a uniform code, in units of the scale. */
static double spread(const anemo_weight_type *type) {
    double squares = 0;
    for (int i = 0; i < 16; ++i)
        squares += (double)type->table[i] * type->table[i] / 16;
    return type->code == ANEMO_CODE_TABLE ? sqrt(squares) : ldexp(1, type->bits) / sqrt(12);
}

static void one_float(byte_string *out, uint32_t type, double sd, source *s) {
    const float value = (float)(sd * sqrt(12) * (uniform(s) - 0.5));
    if (type == ANEMO_GGML_F32)
        bytes_append_number(out, anemo_f32_bits(value), 4);
    else if (type == ANEMO_GGML_F16)
        bytes_append_number(out, anemo_f32_f16(value), 2);
    else
        bytes_append_number(out, anemo_f32_bits(value) >> 16, 2);
}

/* Codes are all bytes; what is not a code is put over them. */
static void fill_scales(uint8_t *block, uint32_t id, double d, const anemo_weight_type *type,
                        source *s) {
    const double middle = ldexp(1, type->bits - 1);
    switch (id) {
    case ANEMO_GGML_Q4_1:
    case ANEMO_GGML_Q5_1:
        put_half(block + 2, -d * middle * (0.8 + 0.4 * uniform(s)));
        break;
    case ANEMO_GGML_Q4_K: /* random 6-bit scales and minima are 32 on average */
    case ANEMO_GGML_Q5_K:
        d /= 32;
        put_half(block + 2, d * middle);
        break;
    case ANEMO_GGML_Q6_K: /* int8 scales of both signs, a root mean square of 74 */
        put_half(block + 208, d / 74);
        return;
    case ANEMO_GGML_MXFP4:
        block[0] = (uint8_t)(128 + lrint(log2(d)) - (uniform(s) < 0.5));
        return;
    default:
        break;
    }
    put_half(block, d);
}

void random_blocks(byte_string *out, uint32_t id, int64_t n, double sd, uint64_t seed) {
    anemo_weight_type type;
    int64_t block, block_bytes;
    const char *name;
    source s = {.seed = seed};
    anemo_ggml_type(id, &type, &block, &block_bytes, &name);
    for (int64_t i = 0; i < n; i += block) {
        if (block == 1) {
            one_float(out, id, sd, &s);
            continue;
        }
        uint8_t bytes[256];
        for (int64_t j = 0; j < block_bytes; ++j)
            bytes[j] = (uint8_t)(uniform(&s) * 256);
        fill_scales(bytes, id, sd / spread(&type) * (0.7 + 0.6 * uniform(&s)), &type, &s);
        bytes_append(out, bytes, (size_t)block_bytes);
    }
}
