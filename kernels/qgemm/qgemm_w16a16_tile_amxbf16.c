/* Float weights times bf16 activations, 32 x 32 tiles of AMX (float_amxbf16.h). f16 and f32 weights
 * are rounded, so that this variant is for whom it is asked for. */
#include "kernels/qgemm/float_amxbf16.h"

/* A chunk of x from `column` on; the record is padded with zeros to 32. */
static void x_chunk(const uint8_t *row, int64_t k, int64_t column, float scale, uint8_t *to) {
    (void)scale;
    const int64_t left = anemo_round_up(k, 32) - column;
    memcpy(to, row + 2 * column, (size_t)(2 * (left < AMX16_CHUNK ? left : AMX16_CHUNK)));
}

ANEMO_FLOAT_AMX_BF16_FORM(x_chunk, NULL)
ANEMO_N32_VARIANT(qgemm_w16a16_tile_amxbf16, form, bf16, ANEMO_FLOAT_AMX_BF16_NEEDS, "float_n32",
                  INT32_MAX, "bf16 matrix tiles, 32x32; f16 and f32 rounded once per chunk")
