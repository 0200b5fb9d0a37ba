/* Float weights (f32, f16, bf16) times float activations, 6 x 32 tiles of AVX-512 FMA.
 *
 * float_n32 gives a vector of 16 weight rows per load: f32 as it is, f16 through its conversion, a
 * bf16 pair by a shift (column k) and a mask (column k + 1). Each is multiplied with a broadcast
 * activation; nothing is rounded but the sums. Even and odd columns sum apart, which doubles the
 * chains of dependent additions: 24 of 32 registers at 6 rows, and 4 chains at one. The same tile
 * serves one row, where it reads the weights at memory speed, and many, where two loads and six
 * broadcasts feed twelve FMA.
 *
 * Measured on Zen 4 (4096 x 4096, of the roof): one row 87 to 96 %; 512 rows f32 90 %, bf16 85 %,
 * f16 78 % (its conversion takes two operations, one of them on the shuffle unit).
 *
 * Rejected: one sum per lane (2 to 4 % slower at 16 rows); decoding f16 and bf16 to a panel of f32
 * (what it saves per tile it pays in twice the bytes from L2). */
#include "kernels/qgemm/layout_float_n32.h"
#include "kernels/qgemm/qgemm_n32.h"

#include <immintrin.h>

enum { TILE_ROWS = 6, CHUNK = 1024 };

/* w[j][v]: column `column` + j, rows 16 v to 16 v + 15; f32 and f16: column by column. */
ANEMO_N32_INLINE void load_pair(anemo_code code, const uint8_t *at, __m512 w[2][2]) {
    ANEMO_N32_UNROLL
    for (int v = 0; v < 2; v++) {
        if (code == ANEMO_CODE_BF16) {
            const __m512i both = _mm512_loadu_si512(at + 64 * v);
            const __m512i odd = _mm512_set1_epi32((int)0xffff0000);
            w[0][v] = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
            w[1][v] = _mm512_castsi512_ps(_mm512_and_si512(both, odd));
        } else if (code == ANEMO_CODE_F16) {
            const void *first = at + 32 * v, *second = at + 64 + 32 * v;
            w[0][v] = _mm512_cvtph_ps(_mm256_loadu_si256(first));
            w[1][v] = _mm512_cvtph_ps(_mm256_loadu_si256(second));
        } else {
            w[0][v] = _mm512_loadu_ps(at + 64 * v);
            w[1][v] = _mm512_loadu_ps(at + 128 + 64 * v);
        }
    }
}

ANEMO_N32_INLINE void load_single(anemo_code code, const uint8_t *at, __m512 w[2]) {
    ANEMO_N32_UNROLL
    for (int v = 0; v < 2; v++) {
        if (code == ANEMO_CODE_BF16) {
            w[v] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(at + 64 * v), 16));
        } else if (code == ANEMO_CODE_F16) {
            w[v] = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(at + 32 * v)));
        } else {
            w[v] = _mm512_loadu_ps(at + 64 * v);
        }
    }
}

ANEMO_N32_INLINE void multiply(int rows, const float *const *x, int64_t column, const __m512 w[2],
                               __m512 sum[TILE_ROWS][2]) {
    ANEMO_N32_UNROLL
    for (int i = 0; i < rows; i++) {
        const __m512 a = _mm512_set1_ps(x[i][column]);
        sum[i][0] = _mm512_fmadd_ps(a, w[0], sum[i][0]);
        sum[i][1] = _mm512_fmadd_ps(a, w[1], sum[i][1]);
    }
}

ANEMO_N32_INLINE void tile(anemo_code code, int rows, const anemo_n32_tile *t) {
    const size_t pair_bytes = code == ANEMO_CODE_F32 ? 256 : 128;
    const uint8_t *at = t->block + anemo_float_n32_bytes(t->type, t->column);
    const float *x[TILE_ROWS];
    __m512 even[TILE_ROWS][2], odd[TILE_ROWS][2], w[2][2];
    ANEMO_N32_UNROLL
    for (int i = 0; i < rows; i++) {
        x[i] = (const float *)(const void *)(t->x + (size_t)i * t->x_row_bytes) + t->column;
        even[i][0] = _mm512_loadu_ps(t->sum[i]);
        even[i][1] = _mm512_loadu_ps(t->sum[i] + 16);
        odd[i][0] = odd[i][1] = _mm512_setzero_ps();
    }
    int64_t c = 0;
    for (; c + 2 <= t->columns; c += 2) {
        load_pair(code, at, w);
        anemo_n32_ahead(t, at, pair_bytes);
        multiply(rows, x, c, w[0], even);
        multiply(rows, x, c + 1, w[1], odd);
        at += pair_bytes;
    }
    if (c < t->columns) {
        load_single(code, at, w[0]);
        multiply(rows, x, c, w[0], even);
    }
    ANEMO_N32_UNROLL
    for (int i = 0; i < rows; i++) {
        _mm512_storeu_ps(t->sum[i], _mm512_add_ps(even[i][0], odd[i][0]));
        _mm512_storeu_ps(t->sum[i] + 16, _mm512_add_ps(even[i][1], odd[i][1]));
    }
}

static void tile_rows(int64_t rows, const anemo_n32_tile *t) {
    ANEMO_N32_FLOAT_TILES(rows, t, tile)
}

static const anemo_n32_form form = {
    .tile_rows = TILE_ROWS,
    .chunk = CHUNK,
    .block_bytes = anemo_float_n32_bytes,
    .tile = tile_rows,
};

ANEMO_N32_VARIANT(qgemm_wfa32_tile_avx512, form, f32, ANEMO_CPU_AVX2 | ANEMO_CPU_AVX512,
                  "float_n32", 0, "float weights as they are, 6x32 tile of FMA")
