/* Float weights times bf16 activations, 6 x 32 tiles of vdpbf16ps over float_n32.
 *
 * A 32-bit lane of the layout is a row's columns k and k + 1, which one lane of the instruction
 * multiplies with two activations, broadcast from the bf16 record: two loads, six broadcasts and
 * twelve dot products per pair of columns and tile. bf16 weights are multiplied where they lie, for
 * any number of rows; f16 and f32 are rounded once per chunk, which loses what they have over bf16,
 * so that this variant is for whom it is asked for. An odd k ends with a zero in the layout and in
 * the record. */
#include "kernels/qgemm/pairs_avx512bf16.h"

enum { TILE_ROWS = 6, CHUNK = 2048 };

/* Two bf16 of x, broadcast straight from memory. */
typedef int32_t x_pair __attribute__((may_alias, aligned(4)));

ANEMO_N32_INLINE void tile(int rows, const anemo_n32_tile *t) {
    const bool lies_right = t->type->code == ANEMO_CODE_BF16;
    const uint8_t *at =
        lies_right ? t->block + anemo_float_n32_bytes(t->type, t->column) : t->panel;
    const int64_t pairs = (t->columns + 1) / 2;
    const x_pair *x[TILE_ROWS];
    __m512 sum[TILE_ROWS][2];
    ANEMO_N32_UNROLL
    for (int i = 0; i < rows; i++) {
        x[i] = (const void *)(t->x + (size_t)i * t->x_row_bytes + 2 * t->column);
        sum[i][0] = _mm512_loadu_ps(t->sum[i]);
        sum[i][1] = _mm512_loadu_ps(t->sum[i] + 16);
    }
    for (int64_t pair = 0; pair < pairs; pair++) {
        __m512bh w0 = (__m512bh)_mm512_loadu_si512(at + 128 * pair);
        __m512bh w1 = (__m512bh)_mm512_loadu_si512(at + 128 * pair + 64);
        ANEMO_N32_KEEP(w0);
        if (lies_right) {
            anemo_n32_ahead(t, at + 128 * pair, 128);
        }
        ANEMO_N32_KEEP(w1);
        ANEMO_N32_UNROLL
        for (int i = 0; i < rows; i++) {
            const __m512bh a = (__m512bh)_mm512_set1_epi32(x[i][pair]);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], w0, a);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], w1, a);
        }
    }
    ANEMO_N32_UNROLL
    for (int i = 0; i < rows; i++) {
        _mm512_storeu_ps(t->sum[i], sum[i][0]);
        _mm512_storeu_ps(t->sum[i] + 16, sum[i][1]);
    }
}

static void tile_rows(int64_t rows, const anemo_n32_tile *t) {
    switch (rows) {
    case 1:
        tile(1, t);
        break;
    case 2:
        tile(2, t);
        break;
    case 3:
        tile(3, t);
        break;
    case 4:
        tile(4, t);
        break;
    case 5:
        tile(5, t);
        break;
    default:
        tile(6, t);
    }
}

static void decode(const anemo_n32_tile *t, uint8_t *panel) {
    if (t->type->code != ANEMO_CODE_BF16) {
        (void)bf16_pairs_of(t, panel);
    }
}

static const anemo_n32_form form = {
    .tile_rows = TILE_ROWS,
    .chunk = CHUNK,
    .panel_bytes = BF16_PAIR_BYTES / 2 * CHUNK,
    .block_bytes = anemo_float_n32_bytes,
    .decode = decode,
    .tile = tile_rows,
};

ANEMO_N32_VARIANT(qgemm_w16a16_tile_avx512bf16, form, bf16,
                  ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_BF16, "float_n32", INT32_MAX,
                  "bf16 dot products, 6x32 tile; f16 and f32 rounded once per chunk")
