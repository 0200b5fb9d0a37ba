/* Rows of GGML block types as canonical weights (kernel.h: anemo_weight).
 *
 * Also the float types of safetensors, whose rows are the same bytes. A row is a whole number of
 * blocks, blocks follow one another without padding, and nothing is aligned: a tensor starts where
 * the file's writer put it, so every multi-byte field is loaded bytewise or by memcpy.
 *
 *     32 values; in the nibble bytes, byte j holds value j in its low half and j + 16 in its high
 *     Q4_0   f16 d, 16 nibble bytes                     v = d * (c - 8)
 *     Q4_1   f16 d, f16 m, 16 nibble bytes              v = d * c + m
 *     Q5_0   f16 d, u32 h, 16 nibble bytes              v = d * (c - 16), c's fifth bit is bit j of
 * h Q5_1   f16 d, f16 m, u32 h, 16 nibble bytes       v = d * c + m Q8_0   f16 d, int8 q[32] v = d
 * * q IQ4_NL f16 d, 16 nibble bytes                     v = d * table[c] MXFP4  u8 e, 16 nibble
 * bytes                      v = 2^(e - 128) * table[c]; the table holds twice the FP4 values,
 * which are whole then 256 values (K-quants): groups of 32, or of 16 in Q6_K, have small scales
 * under one f16 Q4_K   f16 d, f16 dmin, 12 bytes of 6-bit scales and minima, 128 nibble bytes: 32
 * bytes hold 64 values, the first 32 in the low halves  v = d sc * c - dmin m Q5_K   the same with
 * 32 bytes of fifth bits before the nibbles: bit g of byte j belongs to value j of group g Q6_K 128
 * bytes of low nibbles, 64 bytes of high bit pairs, int8 sc[16], f16 d v = d sc * (c - 32)
 *
 * Canonical codes are unsigned with an implied offset of 2^(bits-1), so Q8_0 gives q + 128; a
 * minimum is subtracted, so Q4_1 gives -m. The products d sc and dmin m are exact in float (11 by
 * at most 8 significant bits), hence so is everything a reader delivers: values are bit-equal to
 * those of the `gguf` package (tests/oracle/make_dequantised_golden.py).
 * Source: ggml-org/ggml, ggml-common.h (block structs) and ggml-quants.c (dequantisation). */
#include "models/formats/convert.h"

typedef void row_reader(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                        float *scales, float *offsets);
typedef void block_reader(const uint8_t *block, uint8_t *codes, float *scales, float *offsets);

/* ---------------------------------------------------------------- floats */

static const uint8_t *row_at(const anemo_weight *weight, int64_t row, size_t row_bytes) {
    return (const uint8_t *)weight->data + (size_t)row * row_bytes;
}

static void read_f32(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                     float *scales, float *offsets) {
    (void)codes, (void)scales, (void)offsets;
    const uint8_t *p = row_at(weight, row, (size_t)weight->k * 4);
    for (int64_t i = 0; i < weight->k; ++i)
        values[i] = anemo_bits_f32(anemo_load_u32(p + 4 * i));
}

static void read_f16(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                     float *scales, float *offsets) {
    (void)codes, (void)scales, (void)offsets;
    const uint8_t *p = row_at(weight, row, (size_t)weight->k * 2);
    for (int64_t i = 0; i < weight->k; ++i)
        values[i] = anemo_f16_f32(anemo_load_u16(p + 2 * i));
}

static void read_bf16(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                      float *scales, float *offsets) {
    (void)codes, (void)scales, (void)offsets;
    const uint8_t *p = row_at(weight, row, (size_t)weight->k * 2);
    for (int64_t i = 0; i < weight->k; ++i)
        values[i] = anemo_bf16_f32(anemo_load_u16(p + 2 * i));
}

/* ---------------------------------------------------------------- blocks of 32 */

static float half_at(const uint8_t *p) {
    return anemo_f16_f32(anemo_load_u16(p));
}

static void nibbles(const uint8_t *p, uint8_t *codes) {
    for (int i = 0; i < 16; ++i) {
        codes[i] = p[i] & 15;
        codes[i + 16] = p[i] >> 4;
    }
}

static void fifth_bits(uint32_t high, uint8_t *codes) {
    for (int i = 0; i < 32; ++i)
        codes[i] |= (uint8_t)((high >> i & 1) << 4);
}

static void block_q8_0(const uint8_t *p, uint8_t *codes, float *scales, float *offsets) {
    (void)offsets;
    scales[0] = half_at(p);
    for (int i = 0; i < 32; ++i)
        codes[i] = p[2 + i] ^ 0x80; /* int8 + 128 */
}

static void block_q4_0(const uint8_t *p, uint8_t *codes, float *scales, float *offsets) {
    (void)offsets;
    scales[0] = half_at(p);
    nibbles(p + 2, codes);
}

static void block_q4_1(const uint8_t *p, uint8_t *codes, float *scales, float *offsets) {
    scales[0] = half_at(p);
    offsets[0] = -half_at(p + 2);
    nibbles(p + 4, codes);
}

static void block_q5_0(const uint8_t *p, uint8_t *codes, float *scales, float *offsets) {
    (void)offsets;
    scales[0] = half_at(p);
    nibbles(p + 6, codes);
    fifth_bits(anemo_load_u32(p + 2), codes);
}

static void block_q5_1(const uint8_t *p, uint8_t *codes, float *scales, float *offsets) {
    scales[0] = half_at(p);
    offsets[0] = -half_at(p + 2);
    nibbles(p + 8, codes);
    fifth_bits(anemo_load_u32(p + 4), codes);
}

static void block_mxfp4(const uint8_t *p, uint8_t *codes, float *scales, float *offsets) {
    (void)offsets;
    nibbles(p + 1, codes);
    int any = 0;
    for (int i = 0; i < 16; ++i)
        any |= p[1 + i] & 0x77; /* codes 0 and 8 are zeros */
    scales[0] = anemo_e8m0_scale(p[0], any != 0);
}

/* ---------------------------------------------------------------- blocks of 256 */

/* The eight 6-bit scales and minima of 12 bytes. */
static void scales_6(const uint8_t *p, float d, float d_min, float *scales, float *offsets) {
    for (int g = 0; g < 8; ++g) {
        int scale = p[g] & 63, minimum = g < 4 ? p[g + 4] & 63 : 0;
        if (g >= 4) {
            scale = (p[g + 4] & 15) | p[g - 4] >> 6 << 4;
            minimum = p[g + 4] >> 4 | p[g] >> 6 << 4;
        }
        scales[g] = d * (float)scale;
        offsets[g] = d_min * (float)minimum;
    }
}

static void nibbles_64(const uint8_t *p, uint8_t *codes) {
    for (int half = 0; half < 4; ++half, p += 32, codes += 64)
        for (int i = 0; i < 32; ++i) {
            codes[i] = p[i] & 15;
            codes[i + 32] = p[i] >> 4;
        }
}

static void block_q4_k(const uint8_t *p, uint8_t *codes, float *scales, float *offsets) {
    scales_6(p + 4, half_at(p), half_at(p + 2), scales, offsets);
    nibbles_64(p + 16, codes);
}

static void block_q5_k(const uint8_t *p, uint8_t *codes, float *scales, float *offsets) {
    scales_6(p + 4, half_at(p), half_at(p + 2), scales, offsets);
    nibbles_64(p + 48, codes);
    for (int i = 0; i < 256; ++i)
        codes[i] |= (uint8_t)((p[16 + i % 32] >> (i / 32) & 1) << 4);
}

static void block_q6_k(const uint8_t *p, uint8_t *codes, float *scales, float *offsets) {
    const uint8_t *low = p, *high = p + 128;
    const float d = half_at(p + 208);
    (void)offsets;
    for (int half = 0; half < 2; ++half, low += 64, high += 32, codes += 128)
        for (int i = 0; i < 32; ++i) {
            codes[i] = (uint8_t)((low[i] & 15) | (high[i] & 3) << 4);
            codes[i + 32] = (uint8_t)((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4);
            codes[i + 64] = (uint8_t)(low[i] >> 4 | (high[i] >> 4 & 3) << 4);
            codes[i + 96] = (uint8_t)(low[i + 32] >> 4 | high[i] >> 6 << 4);
        }
    for (int g = 0; g < 16; ++g)
        scales[g] = d * (float)(int8_t)p[192 + g];
}

/* ---------------------------------------------------------------- rows of blocks */

static inline void read_blocks(const anemo_weight *weight, int64_t row, uint8_t *codes,
                               float *scales, float *offsets, int block, int block_bytes,
                               block_reader *read) {
    const int64_t blocks = weight->k / block, groups = block / weight->type.group;
    const uint8_t *p = row_at(weight, row, (size_t)(blocks * block_bytes));
    const bool offset = weight->type.offset != ANEMO_OFFSET_NONE;
    for (int64_t b = 0; b < blocks; ++b)
        read(p + b * block_bytes, codes + b * block, scales + b * groups,
             offset ? offsets + b * groups : NULL);
}

#define ROW_READER(name, block, block_bytes)                                                       \
    static void read_##name(const anemo_weight *weight, int64_t row, float *values,                \
                            uint8_t *codes, float *scales, float *offsets) {                       \
        (void)values;                                                                              \
        read_blocks(weight, row, codes, scales, offsets, block, block_bytes, block_##name);        \
    }
ROW_READER(q4_0, 32, 18) /* and IQ4_NL, which has another table */
ROW_READER(q4_1, 32, 20)
ROW_READER(q5_0, 32, 22)
ROW_READER(q5_1, 32, 24)
ROW_READER(q8_0, 32, 34)
ROW_READER(mxfp4, 32, 17)
ROW_READER(q4_k, 256, 144)
ROW_READER(q5_k, 256, 176)
ROW_READER(q6_k, 256, 210)

/* ---------------------------------------------------------------- types */

typedef struct ggml_type {
    uint32_t id;
    const char *name;
    int16_t block, block_bytes;
    row_reader *read; /* NULL: known by name and size, not computed with */
    anemo_weight_type type;
} ggml_type;

#define FLOAT(code, bits)                                                                          \
    {                                                                                              \
        code, bits, ANEMO_SCALE_NONE, ANEMO_OFFSET_NONE, 0, {                                      \
            0                                                                                      \
        }                                                                                          \
    }
#define LINEAR(bits, scale, offset, group)                                                         \
    {                                                                                              \
        ANEMO_CODE_LINEAR, bits, ANEMO_SCALE_##scale, ANEMO_OFFSET_##offset, group, {              \
            0                                                                                      \
        }                                                                                          \
    }
#define TABLE(scale, ...)                                                                          \
    {                                                                                              \
        ANEMO_CODE_TABLE, 4, ANEMO_SCALE_##scale, ANEMO_OFFSET_NONE, 32, {                         \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static const ggml_type ggml_types[] = {
    {0, "F32", 1, 4, read_f32, FLOAT(ANEMO_CODE_F32, 32)},
    {1, "F16", 1, 2, read_f16, FLOAT(ANEMO_CODE_F16, 16)},
    {2, "Q4_0", 32, 18, read_q4_0, LINEAR(4, F16, NONE, 32)},
    {3, "Q4_1", 32, 20, read_q4_1, LINEAR(4, F16, MINIMUM, 32)},
    {6, "Q5_0", 32, 22, read_q5_0, LINEAR(5, F16, NONE, 32)},
    {7, "Q5_1", 32, 24, read_q5_1, LINEAR(5, F16, MINIMUM, 32)},
    {8, "Q8_0", 32, 34, read_q8_0, LINEAR(8, F16, NONE, 32)},
    {9, "Q8_1", 32, 36},
    {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},
    {12, "Q4_K", 256, 144, read_q4_k, LINEAR(4, TWO_LEVEL, MINIMUM, 32)},
    {13, "Q5_K", 256, 176, read_q5_k, LINEAR(5, TWO_LEVEL, MINIMUM, 32)},
    {14, "Q6_K", 256, 210, read_q6_k, LINEAR(6, TWO_LEVEL, NONE, 16)},
    {15, "Q8_K", 256, 292},
    {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98},
    {19, "IQ1_S", 256, 50},
    {20, "IQ4_NL", 32, 18, read_q4_0,
     TABLE(F16, -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)},
    {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},
    {23, "IQ4_XS", 256, 136},
    {24, "I8", 1, 1},
    {25, "I16", 1, 2},
    {26, "I32", 1, 4},
    {27, "I64", 1, 8},
    {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},
    {30, "BF16", 1, 2, read_bf16, FLOAT(ANEMO_CODE_BF16, 16)},
    {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},
    {39, "MXFP4", 32, 17, read_mxfp4, TABLE(E8M0, ANEMO_FP4_DOUBLED)},
    {40, "NVFP4", 64, 36},
    {41, "Q1_0", 128, 18},
};

static const ggml_type *find(uint32_t id) {
    for (size_t i = 0; i < sizeof ggml_types / sizeof *ggml_types; ++i)
        if (ggml_types[i].id == id)
            return &ggml_types[i];
    return NULL;
}

bool anemo_ggml_type(uint32_t id, anemo_weight_type *type, int64_t *block, int64_t *block_bytes,
                     const char **name) {
    const ggml_type *found = find(id);
    memset(type, 0, sizeof *type);
    *block = found ? found->block : 0;
    *block_bytes = found ? found->block_bytes : 0;
    *name = found ? found->name : NULL;
    if (!found || !found->read)
        return false;
    *type = found->type;
    return true;
}

void anemo_ggml_weight(uint32_t id, const void *data, int64_t n, int64_t k, anemo_weight *out) {
    const ggml_type *found = find(id);
    memset(out, 0, sizeof *out);
    out->size = sizeof *out;
    out->type = found->type;
    out->n = n;
    out->k = k;
    out->data = data;
    out->canonical_bytes = (size_t)n * (size_t)(k / found->block) * (size_t)found->block_bytes;
    out->read_row = found->read;
}

bool anemo_ggml_is(const anemo_weight *weight, uint32_t id) {
    const ggml_type *found = find(id);
    return found && found->read == weight->read_row &&
           memcmp(&found->type, &weight->type, sizeof weight->type) == 0;
}
