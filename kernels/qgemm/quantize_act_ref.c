/* quantize_act, the definition of the activation formats (kernel.h: "The a8 record").
 *
 * A group that cannot be scaled is never hidden: one NaN or infinity in it makes its scale NaN (and
 * its codes 0), so that every result that reads it is NaN. A group whose largest magnitude is so
 * small that 127 / max overflows counts as zeros. */
#include "kernels/qgemm/quantize_act.h"

#include <math.h>

static void quantize_group(const float *x, int64_t count, int8_t *codes, float *scale,
                           int32_t *sum) {
    float largest = 0.0f;
    bool finite = true;
    for (int64_t i = 0; i < count; i++) {
        finite = finite && isfinite(x[i]);
        largest = fmaxf(largest, fabsf(x[i]));
    }
    if (!finite) {
        *scale = NAN;
        return;
    }
    const float inverse = 127.0f / largest;
    if (!isfinite(inverse)) {
        return;
    }
    *scale = largest / 127.0f;
    for (int64_t i = 0; i < count; i++) {
        codes[i] = (int8_t)nearbyintf(x[i] * inverse);
        *sum += codes[i];
    }
}

static void a8_record(const float *x, int64_t k, int32_t group, void *record) {
    const int64_t kp = anemo_a8_padded_k(k), groups = anemo_a8_groups(group, k);
    const int64_t columns = kp / groups;
    int8_t *codes = record;
    float *scales = (float *)(void *)(codes + kp);
    int32_t *sums = (int32_t *)(void *)(scales + groups);
    memset(record, 0, anemo_a8_bytes(group, k));
    for (int64_t g = 0; g < groups && g * columns < k; g++) {
        const int64_t begin = g * columns, rest = k - begin;
        quantize_group(x + begin, rest < columns ? rest : columns, codes + begin, scales + g,
                       sums + g);
    }
}

static void bf16_record(const float *x, int64_t k, int32_t group, void *record) {
    (void)group;
    uint16_t *out = record;
    memset(record, 0, (size_t)anemo_round_up(2 * k, 64));
    for (int64_t i = 0; i < k; i++) {
        out[i] = anemo_bf16_from_f32(x[i]);
    }
}

static void f16_row_record(const float *x, int64_t k, int32_t group, void *record) {
    (void)group;
    uint16_t *out = record;
    float *scale = (float *)(void *)((char *)record + anemo_f16_row_scale_at(k)), largest = 0.0f;
    memset(record, 0, anemo_f16_row_scale_at(k) + 64);
    for (int64_t i = 0; i < k; i++) {
        if (!isfinite(x[i])) {
            *scale = NAN;
            return;
        }
        largest = fmaxf(largest, fabsf(x[i]));
    }
    const int exponent = largest >= 0x1p-112f ? ilogbf(largest) : -112;
    *scale = ldexpf(1.0f, exponent - 14);
    for (int64_t i = 0; i < k; i++) {
        out[i] = anemo_f16_from_f32(x[i] / *scale);
    }
}

ANEMO_QUANTIZE_ACT_VARIANT(bf16, ref, bf16_record, 0, ANEMO_TRAIT_REFERENCE, "the definition")
ANEMO_QUANTIZE_ACT_VARIANT(f16_row, ref, f16_row_record, 0, ANEMO_TRAIT_REFERENCE, "the definition")
ANEMO_QUANTIZE_ACT_VARIANT(a8_row, ref, a8_record, 0, ANEMO_TRAIT_REFERENCE, "the definition")
ANEMO_QUANTIZE_ACT_VARIANT(a8_g32, ref, a8_record, 0, ANEMO_TRAIT_REFERENCE, "the definition")
ANEMO_QUANTIZE_ACT_VARIANT(a8_g128, ref, a8_record, 0, ANEMO_TRAIT_REFERENCE, "the definition")
