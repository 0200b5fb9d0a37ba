/* Packing and unpacking of the n32 layouts (layout_n32.h). Plain C: it runs everywhere, also where
 * the kernels that read these layouts do not. */
#include "kernels/qgemm/layout_n32.h"

#include <math.h>

static bool accepts_codes(int code, int bits, const anemo_weight_type *type, int64_t n, int64_t k,
                          char *why, size_t why_bytes) {
    if (!anemo_weight_type_valid(type, k, why, why_bytes)) {
        return false;
    }
    if (n < 1 || k > ANEMO_N32_K_MAX) {
        return anemo_refuse(why, why_bytes, "n %lld, k %lld; n from 1 and k up to %d are accepted",
                            (long long)n, (long long)k, ANEMO_N32_K_MAX);
    }
    if (type->code != code || type->bits != bits) {
        return anemo_refuse(why, why_bytes, "%s %d-bit codes are accepted",
                            code == ANEMO_CODE_TABLE ? "table" : "linear", bits);
    }
    return true;
}

/* The plain layouts: w4_n32k8 and w8_n32k4. */
static bool accepts_coarse(int bits, const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                           size_t why_bytes) {
    if (!accepts_codes(ANEMO_CODE_LINEAR, bits, type, n, k, why, why_bytes)) {
        return false;
    }
    return anemo_n32_is_plain(type) ||
           anemo_refuse(why, why_bytes,
                        "f16 or f32 scales and groups of 32, 64, 128 or one per "
                        "row are accepted");
}

/* What they leave. */
static bool accepts_fine(int bits, const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                         size_t why_bytes) {
    if (!accepts_codes(ANEMO_CODE_LINEAR, bits, type, n, k, why, why_bytes)) {
        return false;
    }
    return !anemo_n32_is_plain(type) ||
           anemo_refuse(why, why_bytes, "groups of 16, or e8m0 or two-level scales are accepted");
}

/* Codes of any kind, so that each matrix of a problem may have its own: files of experts mix them.
 */
static bool accepts_any(const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                        size_t why_bytes) {
    if (anemo_code_is_float(type)) {
        return anemo_refuse(why, why_bytes, "codes of 4, 5, 6 or 8 bits are accepted");
    }
    return accepts_codes(type->code, type->bits, type, n, k, why, why_bytes);
}

static size_t packed_bytes(const anemo_weight_type *type, int64_t n, int64_t k) {
    return (size_t)anemo_ceil_div(n, ANEMO_N32_ROWS) * anemo_n32_shape_of(type, k).block_bytes;
}

/* ---------------------------------------------------------------- scales */

/* Is it an f16? */
static bool is_half(float value) {
    const float back = anemo_f32_from_f16(anemo_f16_from_f32(value));
    return back == value || (back != back && value != value);
}

/* The power of two 2^(byte - 127), as the file has it. */
static bool put_e8m0(uint8_t *at, float value) {
    int exponent;
    const float half = frexpf(value, &exponent);
    *at = (uint8_t)(exponent + 126);
    return half == 0.5f && exponent + 126 >= 0 && exponent + 126 <= 254;
}

static bool put_number(const anemo_n32_shape *s, uint8_t *at, int64_t index, float value) {
    if (s->scale_bytes == 4) {
        memcpy(at + 4 * index, &value, 4);
        return true;
    }
    if (s->scale_bytes == 1) {
        return put_e8m0(at + index, value);
    }
    const uint16_t half = anemo_f16_from_f32(value);
    memcpy(at + 2 * index, &half, 2);
    return is_half(value);
}

static float get_half(const uint8_t *at, int64_t index) {
    uint16_t half;
    memcpy(&half, at + 2 * index, 2);
    return anemo_f32_from_f16(half);
}

static float get_number(const anemo_n32_shape *s, const uint8_t *at, int64_t index) {
    if (s->scale_bytes == 1) {
        return ldexpf(1.0f, at[index] - 127);
    }
    if (s->scale_bytes == 2) {
        return get_half(at, index);
    }
    float value;
    memcpy(&value, at + 4 * index, 4);
    return value;
}

/* value = unit * q for a whole q of 8 bits? */
static bool divides(float unit, float value, int *q) {
    const float ratio = value == 0.0f ? 0.0f : value / unit;
    *q = ratio >= -128.0f && ratio <= 127.0f ? (int)ratio : 0;
    return unit * (float)*q == value;
}

/* An f16 of which all `count` values are whole multiples; false: there is none. The largest value
 * is such a multiple itself, so one of its quotients is the unit. */
static bool common_unit(const float *values, int64_t count, float *unit) {
    float largest = 0.0f;
    for (int64_t i = 0; i < count; i++) {
        largest = fabsf(values[i]) > fabsf(largest) ? values[i] : largest;
    }
    for (int i = 1; i <= 128; i++) {
        *unit = largest / (float)(i < 128 ? i : -128);
        int q;
        bool all = is_half(*unit);
        for (int64_t g = 0; all && g < count; g++) {
            all = divides(*unit, values[g], &q);
        }
        if (all) {
            return true;
        }
    }
    return false;
}

/* Row r of the first level (`second`: minima behind scales) and of its groups' multiples. */
static bool put_two_level(const anemo_n32_shape *s, uint8_t *header, int64_t r, int64_t count,
                          bool second, const float *values) {
    float unit;
    const bool exact = common_unit(values, count, &unit);
    const uint16_t half = anemo_f16_from_f32(unit);
    memcpy(header + (second ? 64 : 0) + 2 * r, &half, 2);
    for (int64_t i = 0; exact && i < count; i++) {
        int q = 0;
        divides(unit, values[i], &q);
        header[anemo_n32_scales_at(s, i) + (second ? 32 : 0) + (size_t)r] = (uint8_t)(int8_t)q;
    }
    return exact;
}

static float get_two_level(const uint8_t *header, const uint8_t *at, int64_t r, bool second) {
    const int q = (int8_t)at[(second ? 32 : 0) + r];
    return get_half(header + (second ? 64 : 0), r) * (float)q;
}

/* Scales and minima of row r's groups in the unit that begins with group g. */
static bool put_header(const anemo_n32_shape *s, uint8_t *header, int64_t r, int64_t g,
                       const float *scales, const float *offsets) {
    const int64_t count = s->groups - g < s->sets ? s->groups - g : s->sets;
    bool exact = true;
    if (s->two_level) {
        exact = put_two_level(s, header, r, count, false, scales + g);
        return (!s->has_minimum || put_two_level(s, header, r, count, true, offsets + g)) && exact;
    }
    for (int64_t i = g; i < g + count; i++) {
        uint8_t *at = header + anemo_n32_scales_at(s, i);
        exact &= put_number(s, at, r, scales[i]);
        if (s->has_minimum) {
            exact &= put_number(s, at, 32 + r, offsets[i]);
        }
    }
    return exact;
}

/* ---------------------------------------------------------------- codes */

/* Four codes, a byte each, and where they join what is there: whatever the machine's byte order,
 * since nothing is carried from byte to byte. */
static uint32_t four_at(const uint8_t *codes) {
    uint32_t four;
    memcpy(&four, codes, 4);
    return four;
}

static void join_four(uint8_t *at, uint32_t four) {
    four |= four_at(at);
    memcpy(at, &four, 4);
}

/* 32 columns of row r, to or from their 128 * bits bytes, of which those of the row are 0 before.
 */
static void put_codes(int bits, uint8_t *at, int64_t r, const uint8_t *codes) {
    const int64_t v = r / 16, lane = r % 16 * 4;
    uint32_t fifth = 0;
    for (int step = 0; step < 4; step++) {
        const uint32_t first = four_at(codes + 8 * step), second = four_at(codes + 8 * step + 4);
        if (bits == 8) {
            join_four(at + 256 * step + 128 * v + lane, first);
            join_four(at + 256 * step + 128 * v + 64 + lane, second);
        } else if (bits == 6) {
            uint8_t *three = at + 192 * step + lane;
            join_four(three + 64 * v, first);
            for (int i = 0; v == 1 && i < 3; i++) {
                join_four(three + 64 * i, (second >> (2 * i) & 0x03030303) << 6);
            }
            join_four(three + 128, v == 0 ? second : 0);
        } else {
            join_four(at + (bits == 5 ? 128 : 0) + 128 * step + 64 * v + lane,
                      (first & 0x0f0f0f0f) | (second & 0x0f0f0f0f) << 4);
            fifth |= (first >> 4 & 0x01010101) << (2 * step);
            fifth |= (second >> 4 & 0x01010101) << (2 * step + 1);
        }
    }
    if (bits == 5) {
        join_four(at + 64 * v + lane, fifth);
    }
}

static void get_codes(int bits, const uint8_t *at, int64_t r, uint8_t *codes) {
    const int64_t v = r / 16, lane = r % 16 * 4;
    for (int column = 0; column < 32; column++) {
        const int step = column / 8, second = column / 4 % 2, j = column % 4;
        if (bits == 8) {
            codes[column] = at[256 * step + 128 * v + 64 * second + lane + j];
        } else if (bits == 6) {
            const uint8_t *three = at + 192 * step + lane + j;
            const int high = three[0] >> 6 | three[64] >> 6 << 2 | three[128] >> 6 << 4;
            codes[column] = second && v ? (uint8_t)high : three[64 * (2 * second + v)] & 63;
        } else {
            const uint8_t nibbles = at[(bits == 5 ? 128 : 0) + 128 * step + 64 * v + lane + j];
            const int fifth = bits == 5 ? at[64 * v + lane + j] >> (2 * step + second) & 1 : 0;
            codes[column] = (uint8_t)((nibbles >> (4 * second) & 15) | fifth << 4);
        }
    }
}

/* ---------------------------------------------------------------- rows */

/* codes has k_padded entries. False: a scale or offset is not what the type promises. */
static bool pack_row(const anemo_n32_shape *s, int64_t r, const uint8_t *codes, const float *scales,
                     const float *offsets, uint8_t *block) {
    bool exact = true;
    for (int64_t g = 0; s->has_zero && g < s->groups; g++) {
        const bool small = offsets[g] >= 0.0f && offsets[g] <= 255.0f;
        block[32 * g + r] = small ? (uint8_t)offsets[g] : 0;
        exact &= offsets[g] == (float)block[32 * g + r];
    }
    for (int64_t g = 0, begin = 0; begin < s->k_padded; g += s->sets, begin += s->unit) {
        uint8_t *at = block + anemo_n32_group_at(s, g);
        exact &= put_header(s, at, r, g, scales, offsets);
        at += s->header_bytes;
        for (int64_t c = begin; c < begin + s->unit && c < s->k_padded; c += 32) {
            put_codes(s->bits, at, r, codes + c);
            at += 4 * s->step_bytes;
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
    float scales[ANEMO_N32_K_MAX / 16], offsets[ANEMO_N32_K_MAX / 16];
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

static void get_scales(const anemo_n32_shape *s, const uint8_t *block, int64_t r, float *scales,
                       float *offsets) {
    for (int64_t g = 0; g < s->groups; g++) {
        const uint8_t *header = block + anemo_n32_group_at(s, g);
        const uint8_t *at = header + anemo_n32_scales_at(s, g);
        scales[g] = s->two_level ? get_two_level(header, at, r, false) : get_number(s, at, r);
        if (s->has_minimum) {
            offsets[g] =
                s->two_level ? get_two_level(header, at, r, true) : get_number(s, at, 32 + r);
        } else if (s->has_zero) {
            offsets[g] = block[32 * g + r];
        }
    }
}

static anemo_status unpack(const anemo_weight_type *type, int64_t n, int64_t k, const void *packed,
                           int64_t row, float *values, uint8_t *codes, float *scales,
                           float *offsets) {
    const anemo_n32_shape s = anemo_n32_shape_of(type, k);
    const uint8_t *block = (const uint8_t *)packed + (size_t)(row / 32) * s.block_bytes;
    (void)values;
    if (row < 0 || row >= n) {
        return ANEMO_E_INPUT;
    }
    get_scales(&s, block, row % 32, scales, offsets);
    for (int64_t g = 0, begin = 0; begin < k; g += s.sets, begin += s.unit) {
        const uint8_t *at = block + anemo_n32_group_at(&s, g) + s.header_bytes;
        for (int64_t c = begin; c < begin + s.unit && c < k; c += 32) {
            uint8_t some[32];
            get_codes(s.bits, at, row % 32, some);
            memcpy(codes + c, some, (size_t)(k - c < 32 ? k - c : 32));
            at += 4 * s.step_bytes;
        }
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- the layouts */

#define ANEMO_N32_LAYOUT(id, how)                                                                  \
    static bool id##_accepts(const anemo_weight_type *type, int64_t n, int64_t k, char *why,       \
                             size_t why_bytes) {                                                   \
        return how;                                                                                \
    }                                                                                              \
    extern const anemo_layout anemo_layout_##id;                                                   \
    const anemo_layout anemo_layout_##id = {                                                       \
        .size = sizeof(anemo_layout),                                                              \
        .name = #id,                                                                               \
        .row_block = ANEMO_N32_ROWS,                                                               \
        .accepts = id##_accepts,                                                                   \
        .packed_bytes = packed_bytes,                                                              \
        .pack = pack,                                                                              \
        .unpack = unpack,                                                                          \
    };

ANEMO_N32_LAYOUT(w4_n32k8, accepts_coarse(4, type, n, k, why, why_bytes))
ANEMO_N32_LAYOUT(w8_n32k4, accepts_coarse(8, type, n, k, why, why_bytes))
ANEMO_N32_LAYOUT(w4s_n32k8, accepts_fine(4, type, n, k, why, why_bytes))
ANEMO_N32_LAYOUT(w8s_n32k4, accepts_fine(8, type, n, k, why, why_bytes))
ANEMO_N32_LAYOUT(w5_n32k8, accepts_codes(ANEMO_CODE_LINEAR, 5, type, n, k, why, why_bytes))
ANEMO_N32_LAYOUT(w6_n32k8, accepts_codes(ANEMO_CODE_LINEAR, 6, type, n, k, why, why_bytes))
ANEMO_N32_LAYOUT(w4t_n32k8, accepts_codes(ANEMO_CODE_TABLE, 4, type, n, k, why, why_bytes))
ANEMO_N32_LAYOUT(wx_n32, accepts_any(type, n, k, why, why_bytes))
