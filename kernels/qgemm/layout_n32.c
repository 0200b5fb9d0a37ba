/* Packing and unpacking of w4_n32k8 and w8_n32k4 (layout_n32.h). Plain C: it runs everywhere, also
 * where the kernels that read these layouts do not. */
#include "kernels/qgemm/layout_n32.h"

static bool accepts(int bits, const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                    size_t why_bytes) {
    if (!anemo_weight_type_valid(type, k, why, why_bytes)) {
        return false;
    }
    if (n < 1 || k > ANEMO_N32_K_MAX) {
        return anemo_refuse(why, why_bytes, "n %lld, k %lld; n from 1 and k up to %d are accepted",
                            (long long)n, (long long)k, ANEMO_N32_K_MAX);
    }
    if (type->code != ANEMO_CODE_LINEAR || type->bits != bits) {
        return anemo_refuse(why, why_bytes, "linear %d-bit codes are accepted", bits);
    }
    if (type->scale != ANEMO_SCALE_F16 && type->scale != ANEMO_SCALE_F32) {
        return anemo_refuse(why, why_bytes, "f16 or f32 scales are accepted");
    }
    if (type->group == 16) {
        return anemo_refuse(why, why_bytes, "groups of 32, 64, 128 or one per row are accepted");
    }
    return true;
}

static bool w4_accepts(const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                       size_t why_bytes) {
    return accepts(4, type, n, k, why, why_bytes);
}

static bool w8_accepts(const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                       size_t why_bytes) {
    return accepts(8, type, n, k, why, why_bytes);
}

static size_t packed_bytes(const anemo_weight_type *type, int64_t n, int64_t k) {
    return (size_t)anemo_ceil_div(n, ANEMO_N32_ROWS) * anemo_n32_shape_of(type, k).block_bytes;
}

static bool put_number(const anemo_n32_shape *s, uint8_t *at, int64_t index, float value) {
    if (s->scale_bytes == 4) {
        memcpy(at + 4 * index, &value, 4);
        return true;
    }
    const uint16_t half = anemo_f16_from_f32(value);
    const float back = anemo_f32_from_f16(half);
    memcpy(at + 2 * index, &half, 2);
    return back == value || (back != back && value != value);
}

static float get_number(const anemo_n32_shape *s, const uint8_t *at, int64_t index) {
    float value;
    if (s->scale_bytes == 4) {
        memcpy(&value, at + 4 * index, 4);
        return value;
    }
    uint16_t half;
    memcpy(&half, at + 2 * index, 2);
    return anemo_f32_from_f16(half);
}

/* Eight columns of row r, to or from the step's 32 x 8 codes. */
static void put_codes(int bits, uint8_t *step, int64_t r, const uint8_t *codes) {
    uint8_t *at = step + (r / 16) * (16 * bits) + r % 16 * 4;
    for (int j = 0; j < 4; j++) {
        if (bits == 4) {
            at[j] = (uint8_t)((codes[j] & 15) | codes[j + 4] << 4);
        } else {
            at[j] = codes[j];
            at[64 + j] = codes[j + 4];
        }
    }
}

static void get_codes(int bits, const uint8_t *step, int64_t r, uint8_t *codes) {
    const uint8_t *at = step + (r / 16) * (16 * bits) + r % 16 * 4;
    for (int j = 0; j < 4; j++) {
        codes[j] = bits == 4 ? at[j] & 15 : at[j];
        codes[j + 4] = bits == 4 ? at[j] >> 4 : at[64 + j];
    }
}

/* codes has k_padded entries. False: a scale or offset is not what the type promises. */
static bool pack_row(const anemo_n32_shape *s, int64_t r, const uint8_t *codes, const float *scales,
                     const float *offsets, uint8_t *block) {
    bool exact = true;
    for (int64_t g = 0; g < s->groups; g++) {
        uint8_t *group = block + anemo_n32_group_at(s, g);
        exact &= put_number(s, group, r, scales[g]);
        if (s->has_minimum) {
            exact &= put_number(s, group, 32 + r, offsets[g]);
        } else if (s->has_zero) {
            const bool small = offsets[g] >= 0.0f && offsets[g] <= 255.0f;
            block[32 * g + r] = small ? (uint8_t)offsets[g] : 0;
            exact &= offsets[g] == (float)block[32 * g + r];
        }
        const int64_t first = g * s->group;
        uint8_t *step = group + s->header_bytes;
        for (int64_t c = 0; c < s->group && first + c < s->k_padded; c += 8) {
            put_codes(s->bits, step, r, codes + first + c);
            step += s->step_bytes;
        }
    }
    return exact;
}

/* One stack buffer per call: pack has no workspace, and k is bounded. A scale that is not the f16,
 * or a zero point that is not the small integer, that the weight's type promises is
 * ANEMO_E_UNSUPPORTED: packing never rounds. */
static anemo_status pack(const anemo_weight *weight, int64_t row_begin, int64_t row_end,
                         void *packed) {
    const anemo_n32_shape s = anemo_n32_shape_of(&weight->type, weight->k);
    uint8_t codes[ANEMO_N32_K_MAX];
    float scales[ANEMO_N32_K_MAX / 32], offsets[ANEMO_N32_K_MAX / 32];
    bool exact = true;
    for (int64_t row = row_begin; row < row_end; row++) {
        uint8_t *block = (uint8_t *)packed + (size_t)(row / 32) * s.block_bytes;
        if (row % 32 == 0) {
            memset(block, 0, s.block_bytes);
        }
        weight->read_row(weight, row, NULL, codes, scales, offsets);
        memset(codes + s.k, 0, (size_t)(s.k_padded - s.k));
        exact &= pack_row(&s, row % 32, codes, scales, offsets, block);
    }
    return exact ? ANEMO_OK : ANEMO_E_UNSUPPORTED;
}

static anemo_status unpack(const anemo_weight_type *type, int64_t n, int64_t k, const void *packed,
                           int64_t row, float *values, uint8_t *codes, float *scales,
                           float *offsets) {
    const anemo_n32_shape s = anemo_n32_shape_of(type, k);
    const uint8_t *block = (const uint8_t *)packed + (size_t)(row / 32) * s.block_bytes;
    const int64_t r = row % 32;
    (void)values;
    if (row < 0 || row >= n) {
        return ANEMO_E_INPUT;
    }
    for (int64_t g = 0; g < s.groups; g++) {
        const uint8_t *group = block + anemo_n32_group_at(&s, g), *step = group + s.header_bytes;
        scales[g] = get_number(&s, group, r);
        if (s.has_minimum) {
            offsets[g] = get_number(&s, group, 32 + r);
        } else if (s.has_zero) {
            offsets[g] = block[32 * g + r];
        }
        for (int64_t c = g * s.group; c < k && c < (g + 1) * s.group; c += 8) {
            uint8_t eight[8];
            get_codes(s.bits, step, r, eight);
            memcpy(codes + c, eight, (size_t)(k - c < 8 ? k - c : 8));
            step += s.step_bytes;
        }
    }
    return ANEMO_OK;
}

extern const anemo_layout anemo_layout_w4_n32k8, anemo_layout_w8_n32k4;
const anemo_layout anemo_layout_w4_n32k8 = {
    .size = sizeof(anemo_layout),
    .name = "w4_n32k8",
    .row_block = ANEMO_N32_ROWS,
    .accepts = w4_accepts,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .unpack = unpack,
};
const anemo_layout anemo_layout_w8_n32k4 = {
    .size = sizeof(anemo_layout),
    .name = "w8_n32k4",
    .row_block = ANEMO_N32_ROWS,
    .accepts = w8_accepts,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .unpack = unpack,
};
