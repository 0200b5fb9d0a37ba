/* Packing and unpacking of the fragment layouts (fragment.h). Plain C: it runs everywhere, also
 * where no GPU is. */
#include "kernels/internal.h"
#include "kernels/qgemm/fragment.h"

enum { K_MAX = 65536 };

static bool accepts_any(const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                        size_t why_bytes) {
    if (!anemo_weight_type_valid(type, k, why, why_bytes)) {
        return false;
    }
    return (n >= 1 && k <= K_MAX) ||
           anemo_refuse(why, why_bytes, "n %lld, k %lld; n from 1 and k up to %d are accepted",
                        (long long)n, (long long)k, K_MAX);
}

static bool accepts_codes(int bits, const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                          size_t why_bytes) {
    if (!accepts_any(type, n, k, why, why_bytes)) {
        return false;
    }
    if (type->code != ANEMO_CODE_LINEAR || type->bits != bits) {
        return anemo_refuse(why, why_bytes, "linear %d-bit codes are accepted", bits);
    }
    if ((type->scale != ANEMO_SCALE_F16 && type->scale != ANEMO_SCALE_F32) || type->group == 16) {
        return anemo_refuse(why, why_bytes,
                            "f16 or f32 scales and groups of 32, 64, 128 or one per row are "
                            "accepted");
    }
    return true;
}

static bool accepts_4(const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                      size_t why_bytes) {
    return accepts_codes(4, type, n, k, why, why_bytes);
}

static bool accepts_8(const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                      size_t why_bytes) {
    return accepts_codes(8, type, n, k, why, why_bytes);
}

static bool accepts_16(const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                       size_t why_bytes) {
    if (!accepts_any(type, n, k, why, why_bytes)) {
        return false;
    }
    return type->code == ANEMO_CODE_BF16 ||
           anemo_refuse(why, why_bytes, "bf16 weights are accepted");
}

static size_t packed_bytes(const anemo_weight_type *type, int64_t n, int64_t k) {
    const anemo_fragment_shape s = anemo_fragment_shape_of(type, n, k);
    return (size_t)s.blocks * s.block_bytes;
}

/* ---------------------------------------------------------------- one row */

static void put_code(const anemo_fragment_shape *s, uint8_t *block, int32_t row, int64_t column,
                     uint32_t code) {
    const anemo_fragment_place p = anemo_fragment_place_of(row, column);
    uint8_t *at = block + anemo_fragment_tile_at(s->bits, p.tile, p.lane);
    if (s->bits == 4) {
        const int32_t nibble = p.reg + 4 * p.half;
        at[nibble / 2] |= (uint8_t)(code << nibble % 2 * 4);
    } else if (s->bits == 8) {
        at[2 * p.reg + p.half] = (uint8_t)code;
    } else {
        const uint16_t half = (uint16_t)code;
        memcpy(at + 4 * p.reg + 2 * p.half, &half, sizeof half);
    }
}

static uint32_t get_code(const anemo_fragment_shape *s, const uint8_t *block, int32_t row,
                         int64_t column) {
    const anemo_fragment_place p = anemo_fragment_place_of(row, column);
    const uint8_t *at = block + anemo_fragment_tile_at(s->bits, p.tile, p.lane);
    if (s->bits == 4) {
        const int32_t nibble = p.reg + 4 * p.half;
        return at[nibble / 2] >> nibble % 2 * 4 & 15u;
    }
    if (s->bits == 8) {
        return at[2 * p.reg + p.half];
    }
    uint16_t half;
    memcpy(&half, at + 4 * p.reg + 2 * p.half, sizeof half);
    return half;
}

/* False: an f16 cannot hold it. */
static bool put_number(const anemo_fragment_shape *s, uint8_t *numbers, int64_t group, int32_t row,
                       float value) {
    uint8_t *at =
        numbers + (group * ANEMO_FRAGMENT_ROWS + anemo_fragment_number(row)) * s->scale_bytes;
    if (s->scale_bytes == 4) {
        memcpy(at, &value, sizeof value);
        return true;
    }
    const uint16_t half = anemo_f16_from_f32(value);
    memcpy(at, &half, sizeof half);
    const float back = anemo_f32_from_f16(half);
    return back == value || (back != back && value != value);
}

static float get_number(const anemo_fragment_shape *s, const uint8_t *numbers, int64_t group,
                        int32_t row) {
    const uint8_t *at =
        numbers + (group * ANEMO_FRAGMENT_ROWS + anemo_fragment_number(row)) * s->scale_bytes;
    if (s->scale_bytes == 4) {
        float value;
        memcpy(&value, at, sizeof value);
        return value;
    }
    uint16_t half;
    memcpy(&half, at, sizeof half);
    return anemo_f32_from_f16(half);
}

/* ---------------------------------------------------------------- the layout */

static bool pack_numbers(const anemo_fragment_shape *s, uint8_t *block, int32_t row,
                         const float *scales, const float *offsets) {
    bool exact = true;
    for (int64_t g = 0; g < s->groups; g++) {
        exact &= put_number(s, block + s->scales_at, g, row, scales[g]);
        if (s->has_minimum) {
            exact &= put_number(s, block + s->minima_at, g, row, offsets[g]);
        }
        if (s->has_zero) {
            const float zero = offsets[g];
            const bool whole = zero >= 0.0f && zero < (float)(1 << s->bits);
            const uint8_t code = whole ? (uint8_t)zero : 0;
            block[s->zeros_at + (size_t)(g * ANEMO_FRAGMENT_ROWS + anemo_fragment_number(row))] =
                code;
            exact &= (float)code == zero;
        }
    }
    return exact;
}

/* One stack buffer per call: pack has no workspace, and k is bounded. What the type promises and
 * the layout's form cannot hold is ANEMO_E_UNSUPPORTED: packing never rounds. */
static anemo_status pack(const anemo_weight *weight, int64_t row_begin, int64_t row_end,
                         void *packed) {
    const anemo_fragment_shape s = anemo_fragment_shape_of(&weight->type, weight->n, weight->k);
    float values[K_MAX], scales[K_MAX / 32], offsets[K_MAX / 32];
    uint8_t codes[K_MAX];
    bool exact = true;
    for (int64_t row = row_begin; row < row_end; row++) {
        const int32_t in_block = (int32_t)(row % ANEMO_FRAGMENT_ROWS);
        uint8_t *block = (uint8_t *)packed + (size_t)(row / ANEMO_FRAGMENT_ROWS) * s.block_bytes;
        if (in_block == 0) {
            memset(block, 0, s.block_bytes);
        }
        weight->read_row(weight, row, values, codes, scales, offsets);
        for (int64_t c = 0; c < s.k; c++) {
            uint32_t bits = 0;
            if (s.bits == 16) {
                memcpy(&bits, values + c, sizeof bits);
                exact &= (bits & 0xffffu) == 0;
            }
            put_code(&s, block, in_block, c, s.bits == 16 ? bits >> 16 : codes[c]);
        }
        exact &= pack_numbers(&s, block, in_block, scales, offsets);
    }
    return exact ? ANEMO_OK : ANEMO_E_UNSUPPORTED;
}

static anemo_status unpack(const anemo_weight_type *type, int64_t n, int64_t k, const void *packed,
                           int64_t row, float *values, uint8_t *codes, float *scales,
                           float *offsets) {
    const anemo_fragment_shape s = anemo_fragment_shape_of(type, n, k);
    const int32_t in_block = (int32_t)(row % ANEMO_FRAGMENT_ROWS);
    if (row < 0 || row >= n) {
        return ANEMO_E_INPUT;
    }
    const uint8_t *block =
        (const uint8_t *)packed + (size_t)(row / ANEMO_FRAGMENT_ROWS) * s.block_bytes;
    for (int64_t c = 0; c < k; c++) {
        const uint32_t code = get_code(&s, block, in_block, c);
        if (s.bits == 16) {
            values[c] = anemo_f32_from_bf16((uint16_t)code);
        } else {
            codes[c] = (uint8_t)code;
        }
    }
    for (int64_t g = 0; g < s.groups; g++) {
        scales[g] = get_number(&s, block + s.scales_at, g, in_block);
        if (s.has_minimum) {
            offsets[g] = get_number(&s, block + s.minima_at, g, in_block);
        } else if (s.has_zero) {
            offsets[g] = block[s.zeros_at +
                               (size_t)(g * ANEMO_FRAGMENT_ROWS + anemo_fragment_number(in_block))];
        }
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- the layouts */

#define ANEMO_FRAGMENT_LAYOUT(id, accepts_its)                                                     \
    extern const anemo_layout anemo_layout_##id;                                                   \
    const anemo_layout anemo_layout_##id = {                                                       \
        .size = sizeof(anemo_layout),                                                              \
        .name = #id,                                                                               \
        .row_block = ANEMO_FRAGMENT_ROWS,                                                          \
        .accepts = accepts_its,                                                                    \
        .packed_bytes = packed_bytes,                                                              \
        .pack = pack,                                                                              \
        .unpack = unpack,                                                                          \
    };

ANEMO_FRAGMENT_LAYOUT(w4_fragment, accepts_4)
ANEMO_FRAGMENT_LAYOUT(w8_fragment, accepts_8)
ANEMO_FRAGMENT_LAYOUT(w16_fragment, accepts_16)
