/* Rows of GGML block types as canonical weights (kernel.h: anemo_weight).
 *
 * Also the float types of safetensors, whose rows are the same bytes. A row is a whole number of
 * blocks, blocks follow one another without padding, and nothing is aligned: a tensor starts where
 * the file's writer put it, so every multi-byte field is loaded bytewise or by memcpy.
 *
 *     Q8_0  32 values, 34 bytes: f16 d, int8 q[32]            v = d * q
 *     Q4_0  32 values, 18 bytes: f16 d, 16 bytes; byte j holds value j in its low nibble and
 *           value j + 16 in its high one                      v = d * (nibble - 8)
 *
 * Canonical codes are unsigned with an implied offset of 2^(bits-1): Q8_0 stores q + 128.
 * Source: ggml-org/ggml, ggml-common.h (block structs) and ggml-quants.c (dequantisation). */
#include "models/formats/internal.h"

typedef struct ggml_type {
    uint32_t id;
    const char *name;
    int16_t block, block_bytes;
    uint8_t code, bits; /* bits 0: known by name and size, not computed with */
} ggml_type;

static const ggml_type ggml_types[] = {
    {0, "F32", 1, 4, ANEMO_CODE_F32, 32},
    {1, "F16", 1, 2, ANEMO_CODE_F16, 16},
    {2, "Q4_0", 32, 18, ANEMO_CODE_LINEAR, 4},
    {3, "Q4_1", 32, 20},
    {6, "Q5_0", 32, 22},
    {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34, ANEMO_CODE_LINEAR, 8},
    {9, "Q8_1", 32, 36},
    {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},
    {12, "Q4_K", 256, 144},
    {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},
    {15, "Q8_K", 256, 292},
    {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98},
    {19, "IQ1_S", 256, 50},
    {20, "IQ4_NL", 32, 18},
    {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},
    {23, "IQ4_XS", 256, 136},
    {24, "I8", 1, 1},
    {25, "I16", 1, 2},
    {26, "I32", 1, 4},
    {27, "I64", 1, 8},
    {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},
    {30, "BF16", 1, 2, ANEMO_CODE_BF16, 16},
    {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},
    {39, "MXFP4", 32, 17},
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
    if (!found || found->bits == 0)
        return false;
    type->code = found->code;
    type->bits = found->bits;
    type->scale = found->block > 1 ? ANEMO_SCALE_F16 : ANEMO_SCALE_NONE;
    type->group = found->block > 1 ? found->block : 0;
    return true;
}

/* ---------------------------------------------------------------- readers */

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

static void read_q8_0(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                      float *scales, float *offsets) {
    (void)values, (void)offsets;
    const int64_t blocks = weight->k / 32;
    const uint8_t *p = row_at(weight, row, (size_t)blocks * 34);
    for (int64_t b = 0; b < blocks; ++b, p += 34, codes += 32) {
        scales[b] = anemo_f16_f32(anemo_load_u16(p));
        for (int i = 0; i < 32; ++i)
            codes[i] = p[2 + i] ^ 0x80; /* int8 + 128 */
    }
}

static void read_q4_0(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                      float *scales, float *offsets) {
    (void)values, (void)offsets;
    const int64_t blocks = weight->k / 32;
    const uint8_t *p = row_at(weight, row, (size_t)blocks * 18);
    for (int64_t b = 0; b < blocks; ++b, p += 18, codes += 32) {
        scales[b] = anemo_f16_f32(anemo_load_u16(p));
        for (int i = 0; i < 16; ++i) {
            codes[i] = p[2 + i] & 15;
            codes[i + 16] = p[2 + i] >> 4;
        }
    }
}

void anemo_ggml_weight(uint32_t id, const void *data, int64_t n, int64_t k, anemo_weight *out) {
    int64_t block, block_bytes;
    const char *name;
    memset(out, 0, sizeof *out);
    out->size = sizeof *out;
    anemo_ggml_type(id, &out->type, &block, &block_bytes, &name);
    out->n = n;
    out->k = k;
    out->data = data;
    out->canonical_bytes = (size_t)n * (size_t)(k / block) * (size_t)block_bytes;
    out->read_row = id == ANEMO_GGML_F32    ? read_f32
                    : id == ANEMO_GGML_F16  ? read_f16
                    : id == ANEMO_GGML_BF16 ? read_bf16
                    : id == ANEMO_GGML_Q8_0 ? read_q8_0
                                            : read_q4_0;
}
