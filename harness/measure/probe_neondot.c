/* sdot: four s8 x s8 products added to each 32-bit lane. */
#include "anemo_config.h"
#include "harness/measure/probe_form.h"

#include <arm_neon.h>

enum { CHAINS = 16 };

static bool int8_neondot(int64_t iterations) {
    int8x16_t x = vdupq_n_s8(3), y = vdupq_n_s8(5);
    int32x4_t s[CHAINS];
    for (int c = 0; c < CHAINS; c++) {
        s[c] = vdupq_n_s32(c);
    }
    for (int64_t i = 0; i < iterations; i++) {
        ANEMO_OPAQUE(x);
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) {
            s[c] = vdotq_s32(s[c], x, y);
        }
    }
    bool right = true;
    for (int c = 0; c < CHAINS; c++) {
        const uint32x4_t equal = vceqq_s32(s[c], vdupq_n_s32(c + (int32_t)(60 * iterations)));
        right = right && vminvq_u32(equal) == UINT32_MAX;
    }
    return right;
}

const anemo_probe_form anemo_probe_forms_neondot[] = {
    {.name = "int8_neondot",
     .ceiling = ANEMO_CEILING_INT8,
     .needs = ANEMO_CPU_NEON_DOT,
     .compute = int8_neondot,
     .ops_per_iteration = 2 * 16 * CHAINS},
    {.name = NULL},
};
