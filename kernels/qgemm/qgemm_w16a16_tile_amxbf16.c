/* Float weights times bf16 activations, 32 x 32 tiles of AMX (tile_amx16.h), over float_n32.
 *
 * bf16 weights are multiplied where they lie: a pair of columns of 32 rows is what the tile wants.
 * A chunk that does not end with 32 columns, and one of f16 or f32, goes through the panel; those
 * two are rounded there, so that this variant is for whom it is asked for. */
#include "kernels/qgemm/pairs_avx512bf16.h"

#define AMX16_BF16 1
#include "kernels/qgemm/tile_amx16.h"

static bool lies_right(const anemo_n32_tile *t) {
    return t->type->code == ANEMO_CODE_BF16 && t->columns % AMX16_DEPTH == 0;
}

static void decode(const anemo_n32_tile *t, uint8_t *panel) {
    if (lies_right(t)) {
        return;
    }
    const int64_t pairs = bf16_pairs_of(t, panel);
    const int64_t filled = anemo_round_up(t->columns, AMX16_DEPTH) / 2;
    memset(panel + pairs * BF16_PAIR_BYTES, 0, (size_t)(filled - pairs) * BF16_PAIR_BYTES);
}

static void tile(int64_t rows, const anemo_n32_tile *t) {
    const uint8_t *block = t->block + anemo_float_n32_bytes(t->type, t->column);
    amx16_tile_rows(rows, t, lies_right(t) ? block : t->panel);
}

/* A chunk of x from `column` on; the record is padded with zeros to 32. */
static void x_chunk(const uint8_t *row, int64_t k, int64_t column, float scale, uint8_t *to) {
    (void)scale;
    const int64_t left = anemo_round_up(k, 32) - column;
    memcpy(to, row + 2 * column, (size_t)(2 * (left < AMX16_CHUNK ? left : AMX16_CHUNK)));
}

static const anemo_n32_form form = {
    .tile_rows = ANEMO_AMX_ROWS,
    .chunk = AMX16_CHUNK,
    .blocks = AMX16_BLOCKS,
    .starts_sums = true,
    .panel_bytes = AMX16_PANEL_BYTES,
    .block_bytes = anemo_float_n32_bytes,
    .decode = decode,
    .tile = tile,
    .leave = anemo_amx_leave,
    .x_chunk_bytes = AMX16_X_BYTES,
    .x_chunk = x_chunk,
};

ANEMO_N32_VARIANT(qgemm_w16a16_tile_amxbf16, form, bf16,
                  ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_BF16 | ANEMO_CPU_AMX_BF16, "float_n32",
                  INT32_MAX, "bf16 matrix tiles, 32x32; f16 and f32 rounded once per chunk")
