/* 4-bit codes of a 16-entry table (IQ4_NL, MXFP4, NF4) times 8-bit activations, 6 x 16 tiles
 * (tile_small_avx2.h): vpshufb looks the nibbles up. Tables that span less than 32 are multiplied
 * as bytes, by vpmaddubsw with 16-bit sums of 16 columns, others as words by vpmaddwd. Zen 1, 4096
 * x 4096, MXFP4 as bytes over as words: one row 1.37, two 1.61, six 1.39, 96 1.41. */
#include "kernels/qgemm/qgemm_avx2.h"

/* Functions of their own: in one, GCC 12 keeps the sums of the wide form in the wrong registers
 * (1.2 times as slow). */
static __attribute__((noinline)) void wide_rows(int64_t mr, const anemo_avx2_tile *t,
                                                float out[][ANEMO_AVX2_COLUMNS]) {
    avx2_small_rows(AVX2_TABLE, mr, t, out);
}

static __attribute__((noinline)) void narrow_rows(int64_t mr, const anemo_avx2_tile *t,
                                                  float out[][ANEMO_AVX2_COLUMNS]) {
    anemo_avx2_tile narrow = *t;
    narrow.centre = 128 - avx2_table_least(t->shape);
    avx2_small_rows(AVX2_NARROW_TABLE, mr, &narrow, out);
}

static void rows_32(int64_t mr, const anemo_avx2_tile *t, float out[][ANEMO_AVX2_COLUMNS]) {
    (avx2_table_is_narrow(t->shape) ? narrow_rows : wide_rows)(mr, t, out);
}

static void gemv_32(int streams, const anemo_avx2_gemv *g, float out[][ANEMO_AVX2_COLUMNS]) {
    if (avx2_table_is_narrow(g->shape)) {
        avx2_small_streams(AVX2_NARROW_TABLE, streams, g, out);
    } else {
        avx2_small_streams(AVX2_TABLE, streams, g, out);
    }
}

ANEMO_AVX2_DEFINE(qgemm_w4ta8_tile_avx2, w4t, 32, true, false, "w4t_n32k8",
                  "table codes by vpshufb, as bytes where they fit, one scale per 32 activations")
