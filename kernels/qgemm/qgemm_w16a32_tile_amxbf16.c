/* bf16 weights times float activations, 32 x 32 tiles of AMX (float_amxbf16.h).
 *
 * Weights are multiplied as they are. An activation becomes three terms of bf16, each what those
 * before it leave: 24 bits, all that a float has, down to 2^-126, where bf16 tiles count nothing.
 * Products are exact, and sums are of float, so the result is as good as a float tile's, but not
 * its bits: a plan that may not depend on the batch leaves it out. An infinite activation makes its
 * row NaN, as what it leaves is. Emerald Rapids, restless, 14336 x 4096, speed times
 * qgemm_wfa32_tile_avx512 (of 6 rows): 6 rows 0.91, 8 1.27, 12 1.45, 16 1.70, 32 1.72, 64 2.1, 512
 * 1.6 to 2.1 beside a neighbour on the matrix unit; 64 % of the read bandwidth at 8 rows, where
 * rounded activations reach 80; error 0.10 to 0.22 of the bound of a float product, where that has
 * 0.37. 512 rows take 2.3 times w16a16's, where items of 512 rows and not 256 took 2.5: the chunk
 * of x is three times as large. */
#define AMX16_TERMS 3
#include "kernels/qgemm/float_amxbf16.h"

static bool accepts_form(const anemo_qgemm_problem *p, char *why, size_t why_bytes) {
    for (int32_t i = 0; i < p->n_parts; i++) {
        if (p->type[i].code != ANEMO_CODE_BF16) {
            return anemo_refuse(why, why_bytes, "bf16 weights are accepted");
        }
    }
    return true;
}

ANEMO_FLOAT_AMX_BF16_FORM(float_x_chunk, accepts_form)
ANEMO_N32_VARIANT_OF(qgemm_w16a32_tile_amxbf16, form, f32, 0, ANEMO_FLOAT_AMX_BF16_NEEDS,
                     "float_n32", 7,
                     "bf16 weights as they are, floats in three bf16 terms, bf16 tiles, 32x32")
