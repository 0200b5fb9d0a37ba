/* What the files of this room share among themselves. Nothing here is part of the plug-in ABI, and
 * no other room includes it. */
#ifndef ANEMO_KERNELS_INTERNAL_H
#define ANEMO_KERNELS_INTERNAL_H

#include "kernels/host_device.h"
#include "kernels/kernel.h"

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes why a problem is refused (why may be NULL) and returns false, so that
 * `return anemo_refuse(...)` reads well in an `accepts`. */
bool anemo_refuse(char *why, size_t why_bytes, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Is this a meaningful weight type for rows of k? Says why not. */
bool anemo_weight_type_valid(const anemo_weight_type *type, int64_t k, char *why, size_t why_bytes);

static inline bool anemo_code_is_float(const anemo_weight_type *type) {
    return type->code <= ANEMO_CODE_BF16;
}

/* The weight matrices of a problem: the one place that knows where each op keeps them. Returns how
 * many (0..3), or -1 when the problem is malformed (a wrong count of parts). */
typedef struct anemo_problem_weight {
    const anemo_weight_type *type;
    int64_t n, k;
} anemo_problem_weight;
int32_t anemo_problem_weights(anemo_op op, const void *problem, anemo_problem_weight out[3]);

/* Brand string of the processor, trimmed ("AMD EPYC 9354"), or the architecture's name. */
void anemo_cpu_brand(char *name, size_t name_bytes);

/* How this processor likes to read weights and KV from memory (prefetch.h). */
typedef enum anemo_cpu_reading {
    ANEMO_READS_IN_FIRST_LEVEL, /* lines that are needed much later are asked for there */
    ANEMO_READS_IN_STREAMS,     /* in the second level, and few rows read W in two streams */
    ANEMO_READS_UNASKED,        /* likewise, but W is left to the hardware's prefetcher there */
    ANEMO_READINGS
} anemo_cpu_reading;
anemo_cpu_reading anemo_cpu_reads(void);
static inline bool anemo_cpu_prefetches_to_second_level(void) {
    return anemo_cpu_reads() != ANEMO_READS_IN_FIRST_LEVEL;
}

static ANEMO_HOST_DEVICE inline int64_t anemo_ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
static ANEMO_HOST_DEVICE inline int64_t anemo_round_up(int64_t a, int64_t b) {
    return anemo_ceil_div(a, b) * b;
}

/* bfloat16: the upper half of a float32, rounded to nearest even; NaN stays a (quiet) NaN. */
static ANEMO_HOST_DEVICE inline uint16_t anemo_bf16_from_f32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
static ANEMO_HOST_DEVICE inline float anemo_f32_from_bf16(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* float16 in software (the baseline has no conversion instruction), rounded to nearest even; NaN
 * stays NaN. Subnormals are scaled by an exact multiplication. */
static ANEMO_HOST_DEVICE inline float anemo_f32_from_f16(uint16_t half) {
    const uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13;
    uint32_t bits = magnitude + ((magnitude >= 0x0f800000u) ? 0x70000000u : 0x38000000u);
    float value;
    if (magnitude < 0x00800000u) { /* zero and subnormal: mantissa * 2^-24 */
        value = (float)(half & 0x7fffu) * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
    }
    bits |= (uint32_t)(half & 0x8000u) << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static ANEMO_HOST_DEVICE inline uint16_t anemo_f16_from_f32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) {
        return sign | 0x7e00u;
    }
    if (bits >= 0x477ff000u) { /* 65520 and above round to infinity */
        return sign | 0x7c00u;
    }
    if (bits < 0x38800000u) { /* below 2^-14: adding 0.5 leaves the subnormal in the low bits */
        float magnitude;
        memcpy(&magnitude, &bits, sizeof magnitude);
        magnitude += 0.5f;
        memcpy(&bits, &magnitude, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    bits += 0xfffu + (bits >> 13 & 1u);
    return (uint16_t)(sign | (bits - 0x38000000u) >> 13);
}

#ifdef __cplusplus
}
#endif
#endif
