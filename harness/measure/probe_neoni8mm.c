/* usmmla: 2 x 8 times 8 x 2 of u8 x s8, 32 products added to four 32-bit lanes. */
#include "anemo_config.h"
#include "harness/measure/probe_form.h"

#include <arm_neon.h>

enum { CHAINS = 16 };

static bool int8_neoni8mm(int64_t iterations) {
    uint8x16_t x = vdupq_n_u8(3);
    const int8x16_t y = vdupq_n_s8(5);
    int32x4_t s[CHAINS];
    for (int c = 0; c < CHAINS; c++) {
        s[c] = vdupq_n_s32(c);
    }
    for (int64_t i = 0; i < iterations; i++) {
        ANEMO_OPAQUE(x);
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) {
            s[c] = vusmmlaq_s32(s[c], x, y);
        }
    }
    bool right = true;
    for (int c = 0; c < CHAINS; c++) {
        const uint32x4_t equal = vceqq_s32(s[c], vdupq_n_s32(c + (int32_t)(120 * iterations)));
        right = right && vminvq_u32(equal) == UINT32_MAX;
    }
    return right;
}

const anemo_probe_form anemo_probe_forms_neoni8mm[] = {
    {.name = "int8_neoni8mm",
     .ceiling = ANEMO_CEILING_INT8,
     .needs = ANEMO_CPU_NEON_I8MM,
     .compute = int8_neoni8mm,
     .ops_per_iteration = 2 * 32 * CHAINS},
    {.name = NULL},
};
