/* Float weights (f32, f16, bf16) times float activations, tiles of AVX2 FMA over float_n32.
 *
 * Sixteen registers hold twelve sums, whatever the shape: up to 3 rows of x take all 32 rows of W
 * at once (3 x 4 vectors), so that few rows read each weight once and in order; 4 to 6 rows take
 * two halves of 16 (6 x 2 vectors) one after the other, the second from L2, where the broadcast of
 * an activation serves two products instead of four but a load of weights six instead of three.
 * Lanes and the order of columns are the same in both, and so are the results.
 *
 * Weights are kept in their registers. Loaded again for each product, which is what GCC makes of
 * them, they cost Zen 1, whose loads take 16 bytes, 15 % of the time of 6 rows.
 *
 * Rejected: a 4 x 3 vector shape (24 rows of W do not divide a block); on Zen 1, where tiles stop
 * at 60 to 70 % of the multipliers even with W in the second-level cache: chunks of 128 to 512
 * columns, asking for W 0.5 to 2 KiB ahead in the first level (within 5 %). */
#include "kernels/qgemm/layout_float_n32.h"
#include "kernels/qgemm/qgemm_n32.h"

#include <immintrin.h>

enum { TILE_ROWS = 6, FULL_ROWS = 3, CHUNK = 1024 };

/* Column `odd` of the pair at `at`: its rows 8 v to 8 v + 7. */
ANEMO_N32_INLINE __m256 load_rows(anemo_code code, const uint8_t *at, int odd, int v) {
    if (code == ANEMO_CODE_BF16) {
        const __m256i both = _mm256_loadu_si256((const void *)(at + 32 * v));
        return _mm256_castsi256_ps(odd ? _mm256_and_si256(both, _mm256_set1_epi32((int)0xffff0000))
                                       : _mm256_slli_epi32(both, 16));
    }
    if (code == ANEMO_CODE_F16) {
        return _mm256_cvtph_ps(_mm_loadu_si128((const void *)(at + 64 * odd + 16 * v)));
    }
    return _mm256_loadu_ps((const void *)(at + 128 * odd + 32 * v));
}

ANEMO_N32_INLINE void multiply(anemo_code code, int rows, int vectors, const float *const *x,
                               int64_t column, const uint8_t *at, int odd,
                               __m256 sum[TILE_ROWS][4]) {
    __m256 w[4];
    ANEMO_N32_UNROLL
    for (int v = 0; v < vectors; v++) {
        w[v] = load_rows(code, at, odd, v);
        ANEMO_N32_KEEP(w[v]);
    }
    ANEMO_N32_UNROLL
    for (int i = 0; i < rows; i++) {
        const __m256 a = _mm256_broadcast_ss(x[i] + column);
        ANEMO_N32_UNROLL
        for (int v = 0; v < vectors; v++) {
            sum[i][v] = _mm256_fmadd_ps(a, w[v], sum[i][v]);
        }
    }
}

/* The weight rows from 8 first on, 8 vectors of them. */
ANEMO_N32_INLINE void part_tile(anemo_code code, int rows, int vectors, int first,
                                const anemo_n32_tile *t) {
    const int64_t pair_bytes = code == ANEMO_CODE_F32 ? 256 : 128;
    const int vector_bytes = code == ANEMO_CODE_F16 ? 16 : 32;
    const uint8_t *at = t->block + anemo_float_n32_bytes(t->type, t->column) + first * vector_bytes;
    const float *x[TILE_ROWS];
    __m256 sum[TILE_ROWS][4];
    ANEMO_N32_UNROLL
    for (int i = 0; i < rows; i++) {
        x[i] = (const float *)(const void *)(t->x + (size_t)i * t->x_row_bytes) + t->column;
        ANEMO_N32_UNROLL
        for (int v = 0; v < vectors; v++) {
            sum[i][v] = _mm256_loadu_ps(t->sum[i] + 8 * (first + v));
        }
    }
    int64_t c = 0;
    for (; c + 2 <= t->columns; c += 2) {
        anemo_n32_ahead(t, at, (size_t)pair_bytes);
        multiply(code, rows, vectors, x, c, at, 0, sum);
        multiply(code, rows, vectors, x, c + 1, at, 1, sum);
        at += pair_bytes;
    }
    if (c < t->columns) {
        multiply(code, rows, vectors, x, c, at, 0, sum);
    }
    ANEMO_N32_UNROLL
    for (int i = 0; i < rows; i++) {
        ANEMO_N32_UNROLL
        for (int v = 0; v < vectors; v++) {
            _mm256_storeu_ps(t->sum[i] + 8 * (first + v), sum[i][v]);
        }
    }
}

ANEMO_N32_INLINE void tile(anemo_code code, int rows, const anemo_n32_tile *t) {
    if (rows <= FULL_ROWS) {
        part_tile(code, rows, 4, 0, t);
    } else {
        part_tile(code, rows, 2, 0, t);
        part_tile(code, rows, 2, 2, t);
    }
}

static void tile_rows(int64_t rows, const anemo_n32_tile *t) {
    ANEMO_N32_FLOAT_TILES(rows, t, tile)
}

static const anemo_n32_form form = {
    .tile_rows = TILE_ROWS,
    .chunk = CHUNK,
    .stream_rows = 4 * FULL_ROWS,
    .stream_tile_rows = FULL_ROWS,
    .block_bytes = anemo_float_n32_bytes,
    .tile = tile_rows,
};

ANEMO_N32_VARIANT(qgemm_wfa32_tile_avx2, form, f32, ANEMO_CPU_AVX2, "float_n32", 0,
                  "float weights as they are, tiles of 12 FMA")
