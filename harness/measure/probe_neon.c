/* What any 64-bit Arm has: fused multiply-adds, and 8-bit products without a dot product (smull and
 * smlal2 leave 16-bit sums of two, sadalp widens them). */
#include "anemo_config.h"
#include "harness/measure/probe_form.h"

#include <arm_neon.h>

enum { CHAINS = 16 }; /* four units of latency four */

static bool fp32_neon(int64_t iterations) {
    float32x4_t one = vdupq_n_f32(1), s[CHAINS];
    for (int c = 0; c < CHAINS; c++) {
        s[c] = vdupq_n_f32((float)c);
    }
    for (int64_t i = 0; i < iterations; i++) {
        ANEMO_OPAQUE(one);
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) {
            s[c] = vfmaq_f32(s[c], one, one);
        }
    }
    bool right = true;
    for (int c = 0; c < CHAINS; c++) {
        const uint32x4_t equal = vceqq_f32(s[c], vdupq_n_f32((float)(c + iterations)));
        right = right && vminvq_u32(equal) == UINT32_MAX;
    }
    return right;
}

static bool int8_neon(int64_t iterations) {
    const int8x16_t three = vdupq_n_s8(3);
    int32x4_t s[CHAINS];
    for (int c = 0; c < CHAINS; c++) {
        s[c] = vdupq_n_s32(c);
    }
    for (int64_t i = 0; i < iterations; i++) {
        int8x16_t x = three;
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) {
            ANEMO_OPAQUE(x);
            const int16x8_t pairs = vmull_s8(vget_low_s8(x), vget_low_s8(three));
            s[c] = vpadalq_s16(s[c], vmlal_high_s8(pairs, x, three));
        }
    }
    bool right = true;
    for (int c = 0; c < CHAINS; c++) {
        const uint32x4_t equal = vceqq_s32(s[c], vdupq_n_s32(c + (int32_t)(36 * iterations)));
        right = right && vminvq_u32(equal) == UINT32_MAX;
    }
    return right;
}

const anemo_probe_form anemo_probe_forms_neon[] = {
    {.name = "fp32_neon",
     .ceiling = ANEMO_CEILING_FP32,
     .compute = fp32_neon,
     .ops_per_iteration = 2 * 4 * CHAINS},
    {.name = "int8_neon",
     .ceiling = ANEMO_CEILING_INT8,
     .compute = int8_neon,
     .ops_per_iteration = 2 * 16 * CHAINS},
    {.name = NULL},
};
