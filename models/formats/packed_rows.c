/* Rows of quantised safetensors matrices as canonical weights: nothing is repacked, a row is read
 * from the tensors where they lie.
 *
 *     GPTQ    qweight u32 [in * bits / 32, out]: consecutive inputs of one output in a word, low
 * bits first; zero points u32 [groups, out * bits / 32] likewise along outputs, stored minus 1 in
 * version 1; scales [groups, out]; g_idx i32 [in]: the group of each input AWQ     qweight u32 [in,
 * out / 8]: eight outputs in a word, nibble i holding output 0, 2, 4, 6, 1, 3, 5, 7; zero points
 * [groups, out / 8] likewise; scales [groups, out] packed  weight_packed u32 [out, in * bits / 32],
 * low bits first, value + 2^(bits-1); zero points u32 [out * bits / 32, groups] along outputs, with
 * the same 2^(bits-1) int8    weight i8 [out, in], zero points i8 [out, 1] FP8     weight E4M3
 * [out, in]; a scale for all, per row, or per block MXFP4   blocks u8 [experts, rows, in / 32, 16],
 * value 2i in the low nibble and 2i + 1 in the high; scales u8 (E8M0)
 *
 * The canonical codes are those of the file; values are s * (c - z), one product in float, which is
 * exact where s is a half. Two forms have no code map in anemo and are read as float32: FP8 (whose
 * scale would have to be applied per value), and GPTQ with groups that are not runs of columns.
 * Walking down a column of qweight touches a line per word, but the next rows use the same lines.
 * Sources: ModelCloud/GPTQModel, casper-hansen/AutoAWQ, vllm-project/compressed-tensors,
 * openai/gpt-oss (layouts only). */
#include "models/formats/packed.h"

static float scale_at(const anemo_packed *p, int64_t i) {
    if (p->scale_type == ANEMO_GGML_F32)
        return anemo_bits_f32(anemo_load_u32(p->scales + 4 * i));
    const uint16_t bits = anemo_load_u16(p->scales + 2 * i);
    return p->scale_type == ANEMO_GGML_F16 ? anemo_f16_f32(bits) : anemo_bf16_f32(bits);
}

/* Where column-major words keep output `row`: the word, and the shift in it. */
static int awq_shift(int64_t row) {
    static const uint8_t nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return 4 * nibble[row % 8];
}

static uint32_t word(const uint8_t *words, int64_t i) {
    return anemo_load_u32(words + 4 * i);
}

static float scale_of(const anemo_packed *p, int64_t row, int64_t g) {
    const bool by_group = p->packing == ANEMO_PACKING_GPTQ || p->packing == ANEMO_PACKING_AWQ;
    return scale_at(p, by_group ? g * p->n + row : row * p->groups + g);
}

static float zero_of(const anemo_packed *p, int64_t row, int64_t g) {
    const int64_t per_word = 32 / p->bits;
    const uint32_t mask = (1u << p->bits) - 1;
    const int shift = (int)(row % per_word) * p->bits;
    switch (p->packing) {
    case ANEMO_PACKING_GPTQ:
        return (float)((word(p->zeros, g * (p->n / per_word) + row / per_word) >> shift & mask) +
                       (uint32_t)p->zero_add);
    case ANEMO_PACKING_AWQ:
        return (float)(word(p->zeros, g * (p->n / 8) + row / 8) >> awq_shift(row) & 15);
    case ANEMO_PACKING_PACKED:
        return (float)(word(p->zeros, row / per_word * p->groups + g) >> shift & mask);
    default: /* int8 + 128 */
        return (float)(p->zeros[row * p->groups + g] ^ 0x80);
    }
}

static void codes_of(const anemo_packed *p, int64_t row, uint8_t *codes) {
    const int64_t per_word = 32 / p->bits, words = (p->k + per_word - 1) / per_word;
    const uint32_t mask = (1u << p->bits) - 1;
    if (p->packing == ANEMO_PACKING_INT8) {
        for (int64_t i = 0; i < p->k; ++i)
            codes[i] = p->codes[row * p->k + i] ^ 0x80;
        return;
    }
    if (p->packing == ANEMO_PACKING_AWQ) {
        for (int64_t i = 0; i < p->k; ++i)
            codes[i] = word(p->codes, i * (p->n / 8) + row / 8) >> awq_shift(row) & 15;
        return;
    }
    for (int64_t w = 0; w < words; ++w) {
        uint32_t bits =
            word(p->codes, p->packing == ANEMO_PACKING_GPTQ ? w * p->n + row : row * words + w);
        for (int64_t i = w * per_word; i < (w + 1) * per_word && i < p->k; ++i, bits >>= p->bits)
            codes[i] = (uint8_t)(bits & mask);
    }
}

static void read_coded(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                       float *scales, float *offsets) {
    const anemo_packed *p = weight->reader_data;
    (void)values;
    codes_of(p, row, codes);
    for (int64_t g = 0; g < p->groups; ++g) {
        scales[g] = scale_of(p, row, g);
        if (p->type.offset == ANEMO_OFFSET_ZERO_POINT)
            offsets[g] = zero_of(p, row, g);
    }
}

/* Groups that are no runs of columns: values, by the group of each column. */
static void read_ordered(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                         float *scales, float *offsets) {
    const anemo_packed *p = weight->reader_data;
    const int64_t per_word = 32 / p->bits, words = (p->k + per_word - 1) / per_word;
    const uint32_t mask = (1u << p->bits) - 1;
    (void)codes, (void)scales, (void)offsets;
    for (int64_t i = 0; i < p->k; ++i) {
        const int64_t g = (int32_t)word(p->order, i), w = i / per_word;
        const int64_t at = p->packing == ANEMO_PACKING_GPTQ ? w * p->n + row : row * words + w;
        const uint32_t code = word(p->codes, at) >> (i % per_word * p->bits) & mask;
        const float zero = p->zeros ? zero_of(p, row, g) : (float)(1 << (p->bits - 1));
        values[i] = scale_of(p, row, g) * ((float)code - zero);
    }
}

/* E4M3 without infinities: exponent bias 7; all ones is NaN. */
static float fp8_value(uint8_t bits) {
    const uint32_t magnitude = bits & 0x7fu, sign = (uint32_t)(bits & 0x80u) << 24;
    if (magnitude == 0x7f)
        return anemo_bits_f32(0x7fc00000u | sign);
    /* as a float of exponent -120 + e, scaled back: exact, subnormals too */
    const float value = anemo_bits_f32(magnitude << 20) * 0x1p120f;
    return anemo_bits_f32(anemo_f32_bits(value) | sign);
}

static void read_fp8(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                     float *scales, float *offsets) {
    const anemo_packed *p = weight->reader_data;
    const int64_t rows = p->block_rows ? p->block_rows : p->n;
    const int64_t columns = p->block_columns ? p->block_columns : p->k;
    (void)codes, (void)scales, (void)offsets;
    for (int64_t begin = 0, g = 0; begin < p->k; begin += columns, ++g) {
        const float scale = scale_at(p, row / rows * p->groups + g);
        for (int64_t i = begin; i < begin + columns && i < p->k; ++i)
            values[i] = fp8_value(p->codes[row * p->k + i]) * scale;
    }
}

static void read_mxfp4(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                       float *scales, float *offsets) {
    const anemo_packed *p = weight->reader_data;
    const int64_t blocks = p->k / 32;
    const int64_t first = ((const uint8_t *)weight->data - p->codes) / (blocks * 16);
    const int64_t at = (first + row * (p->pairs ? 2 : 1)) * blocks;
    (void)values, (void)offsets;
    for (int64_t b = 0; b < blocks; ++b, codes += 32) {
        const uint8_t exponent = p->scales[at + b];
        int any = 0;
        for (int i = 0; i < 16; ++i) {
            const uint8_t two = p->codes[(at + b) * 16 + i];
            codes[2 * i] = two & 15;
            codes[2 * i + 1] = two >> 4;
            any |= two & 0x77;
        }
        scales[b] = anemo_e8m0_scale(exponent, any != 0);
    }
}

void anemo_packed_weight(const anemo_packed *p, int64_t matrix, bool second, anemo_weight *out) {
    const int64_t parts = p->pairs ? 2 : 1;
    memset(out, 0, sizeof *out);
    out->size = sizeof *out;
    out->type = p->type;
    out->n = p->n / parts;
    out->k = p->k;
    out->data = p->codes;
    out->reader_data = p;
    out->canonical_bytes = p->canonical_bytes / (size_t)parts;
    if (p->packing == ANEMO_PACKING_MXFP4) {
        out->data = p->codes + (matrix * p->n + second) * (p->k / 2);
        out->read_row = read_mxfp4;
    } else if (p->packing == ANEMO_PACKING_FP8) {
        out->read_row = read_fp8;
    } else {
        out->read_row = p->order ? read_ordered : read_coded;
    }
}
