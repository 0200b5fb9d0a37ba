/* quantize_act in plain C.
 *
 * Magnitudes are compared as integers: with the sign bit cleared, float bits order like the
 * numbers, and NaN and infinity lie above them all, so one maximum also tells whether the group is
 * finite. Rounding half to even is the addition of 1.5 * 2^23, whose low bits are then the code. */
#include "kernels/qgemm/quantize_act.h"

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static const uint32_t infinity_bits = 0x7f800000u;

static uint32_t largest_magnitude_bits(const float *x, int64_t count) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t b = bits_of(x[i]) & 0x7fffffffu;
        largest = b > largest ? b : largest;
    }
    return largest;
}

static int32_t encode(const float *x, int64_t count, float inverse, int8_t *codes) {
    const float magic = 0x1.8p23f;
    int32_t sum = 0;
    for (int64_t i = 0; i < count; i++) {
        const float shifted = x[i] * inverse + magic;
        const int32_t code = (int32_t)(bits_of(shifted) - bits_of(magic));
        codes[i] = (int8_t)code;
        sum += code;
    }
    return sum;
}

static void a8_record(const float *x, int64_t k, int32_t group, void *record) {
    const int64_t kp = anemo_a8_padded_k(k), groups = anemo_a8_groups(group, k);
    const int64_t columns = kp / groups;
    int8_t *codes = record;
    float *scales = (float *)(void *)(codes + kp);
    int32_t *sums = (int32_t *)(void *)(scales + groups);
    memset(codes + k, 0, anemo_a8_bytes(group, k) - (size_t)k);
    for (int64_t g = 0; g < groups && g * columns < k; g++) {
        const int64_t begin = g * columns;
        const int64_t count = k - begin < columns ? k - begin : columns;
        const uint32_t largest_bits = largest_magnitude_bits(x + begin, count);
        const float largest = float_of(largest_bits), inverse = 127.0f / largest;
        if (largest_bits >= infinity_bits) {
            scales[g] = float_of(0x7fc00000u); /* NaN */
            memset(codes + begin, 0, (size_t)count);
        } else if (bits_of(inverse) >= infinity_bits) {
            memset(codes + begin, 0, (size_t)count);
        } else {
            scales[g] = largest / 127.0f;
            sums[g] = encode(x + begin, count, inverse, codes + begin);
        }
    }
}

static void bf16_record(const float *x, int64_t k, int32_t group, void *record) {
    (void)group;
    uint16_t *out = record;
    for (int64_t i = 0; i < k; i++) {
        out[i] = anemo_bf16_from_f32(x[i]);
    }
    memset(out + k, 0, (size_t)(anemo_round_up(2 * k, 64) - 2 * k));
}

static void f16_row_record(const float *x, int64_t k, int32_t group, void *record) {
    (void)group;
    uint16_t *out = record;
    const float inverse = anemo_f16_row_begin(largest_magnitude_bits(x, k), k, record);
    for (int64_t i = 0; inverse != 0.0f && i < k; i++) {
        out[i] = anemo_f16_from_f32(x[i] * inverse);
    }
}

ANEMO_QUANTIZE_ACT_VARIANT(bf16, c, bf16_record, 0, 0, "plain C")
ANEMO_QUANTIZE_ACT_VARIANT(f16_row, c, f16_row_record, 0, 0, "plain C")
ANEMO_QUANTIZE_ACT_VARIANT(a8_row, c, a8_record, 0, 0, "plain C")
ANEMO_QUANTIZE_ACT_VARIANT(a8_g32, c, a8_record, 0, 0, "plain C")
ANEMO_QUANTIZE_ACT_VARIANT(a8_g128, c, a8_record, 0, 0, "plain C")
