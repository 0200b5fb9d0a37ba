/* Packing and unpacking of float_n32 (layout_float_n32.h), in plain C. */
#include "kernels/qgemm/layout_float_n32.h"

static bool accepts(const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                    size_t why_bytes) {
    if (!anemo_weight_type_valid(type, k, why, why_bytes)) {
        return false;
    }
    if (n < 1 || k > ANEMO_FLOAT_N32_K_MAX) {
        return anemo_refuse(why, why_bytes, "n %lld, k %lld; n from 1 and k up to %d are accepted",
                            (long long)n, (long long)k, ANEMO_FLOAT_N32_K_MAX);
    }
    if (!anemo_code_is_float(type)) {
        return anemo_refuse(why, why_bytes, "f32, f16 and bf16 weights are accepted");
    }
    return true;
}

static size_t packed_bytes(const anemo_weight_type *type, int64_t n, int64_t k) {
    return (size_t)anemo_ceil_div(n, ANEMO_FLOAT_N32_ROWS) * anemo_float_n32_bytes(type, k);
}

/* Where column c of row r lies in its block, in elements. */
static inline int64_t element_at(const anemo_weight_type *type, int64_t r, int64_t c) {
    if (type->code == ANEMO_CODE_BF16) {
        return c / 2 * 64 + 2 * r + c % 2;
    }
    return c * 32 + r;
}

static void pack_f32(const float *values, int64_t k, int64_t r, float *block) {
    for (int64_t c = 0; c < k; c++) {
        block[c * 32 + r] = values[c];
    }
}

/* False: a value is not the f16 that the type promises. */
static bool pack_f16(const float *values, int64_t k, int64_t r, uint16_t *block) {
    bool exact = true;
    for (int64_t c = 0; c < k; c++) {
        const uint16_t half = anemo_f16_from_f32(values[c]);
        const float back = anemo_f32_from_f16(half);
        block[c * 32 + r] = half;
        exact &= back == values[c] || (back != back && values[c] != values[c]);
    }
    return exact;
}

/* The upper half as it is, a NaN's payload included. */
static bool pack_bf16(const anemo_weight_type *type, const float *values, int64_t k, int64_t r,
                      uint16_t *block) {
    uint32_t lost = 0;
    for (int64_t c = 0; c < k; c++) {
        uint32_t bits;
        memcpy(&bits, values + c, sizeof bits);
        block[element_at(type, r, c)] = (uint16_t)(bits >> 16);
        lost |= bits & 0xffffu;
    }
    return lost == 0;
}

/* One stack buffer per call: pack has no workspace, and k is bounded. */
static anemo_status pack(const anemo_weight *weight, int64_t row_begin, int64_t row_end,
                         void *packed) {
    const anemo_weight_type *type = &weight->type;
    const int64_t k = weight->k;
    const size_t block_bytes = anemo_float_n32_bytes(type, k);
    float values[ANEMO_FLOAT_N32_K_MAX];
    bool exact = true;
    for (int64_t row = row_begin; row < row_end; row++) {
        void *block = (uint8_t *)packed + (size_t)(row / 32) * block_bytes;
        if (row % 32 == 0) {
            memset(block, 0, block_bytes);
        }
        weight->read_row(weight, row, values, NULL, NULL, NULL);
        if (type->code == ANEMO_CODE_F32) {
            pack_f32(values, k, row % 32, block);
        } else if (type->code == ANEMO_CODE_F16) {
            exact &= pack_f16(values, k, row % 32, block);
        } else {
            exact &= pack_bf16(type, values, k, row % 32, block);
        }
    }
    return exact ? ANEMO_OK : ANEMO_E_UNSUPPORTED;
}

static anemo_status unpack(const anemo_weight_type *type, int64_t n, int64_t k, const void *packed,
                           int64_t row, float *values, uint8_t *codes, float *scales,
                           float *offsets) {
    const void *block =
        (const uint8_t *)packed + (size_t)(row / 32) * anemo_float_n32_bytes(type, k);
    (void)codes, (void)scales, (void)offsets;
    if (row < 0 || row >= n) {
        return ANEMO_E_INPUT;
    }
    for (int64_t c = 0; c < k; c++) {
        const int64_t at = element_at(type, row % 32, c);
        if (type->code == ANEMO_CODE_F32) {
            values[c] = ((const float *)block)[at];
        } else {
            const uint16_t half = ((const uint16_t *)block)[at];
            values[c] =
                type->code == ANEMO_CODE_F16 ? anemo_f32_from_f16(half) : anemo_f32_from_bf16(half);
        }
    }
    return ANEMO_OK;
}

extern const anemo_layout anemo_layout_float_n32;
const anemo_layout anemo_layout_float_n32 = {
    .size = sizeof(anemo_layout),
    .name = "float_n32",
    .row_block = ANEMO_FLOAT_N32_ROWS,
    .accepts = accepts,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .unpack = unpack,
};
