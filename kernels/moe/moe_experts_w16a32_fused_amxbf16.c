/* Experts of bf16 weights on floats, in matrix tiles (experts_fused_amxbf16.h): x and h in three
 * terms of bf16, as in qgemm_w16a32_tile_amxbf16.c. Emerald Rapids, half of Mixtral 8x7B's layer, 8
 * tokens spread evenly 1.26 [1.17, 1.35] times the tile on floats, 16 1.41, 32 1.90, 64 1.85, 128
 * 1.77, 512 1.84 [1.73, 2.01]. */
#define AMX16_TERMS 3
#include "kernels/qgemm/float_amxbf16.h"

static inline void put(uint8_t *to, __m512 low, __m512 high) {
    float_terms(low, to);
    float_terms(high, to + 32);
}

#define EXPERTS_AMX_PUT put
#include "kernels/moe/experts_fused_amxbf16.h"

static bool accepts_bf16(const void *problem, char *why, size_t why_bytes) {
    const anemo_moe_experts_problem *p = problem;
    if (!anemo_moe_experts_accepts(problem, why, why_bytes)) {
        return false;
    }
    if (p->gate.code != ANEMO_CODE_BF16 || p->up.code != ANEMO_CODE_BF16 ||
        p->down.code != ANEMO_CODE_BF16) {
        return anemo_refuse(why, why_bytes, "bf16 weights are accepted");
    }
    return true;
}

ANEMO_FLOAT_AMX_BF16_FORM(float_x_chunk, NULL)
ANEMO_EXPERTS_AMX_BF16(moe_experts_w16a32_fused_amxbf16, form, f32, 0, accepts_bf16, "float_n32", 2,
                       "bf16 weights as they are, floats in three bf16 terms, bf16 matrix tiles, "
                       "one task per expert and column slice")
