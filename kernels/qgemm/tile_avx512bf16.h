/* Tiles of bf16 dot products for 4-bit and 8-bit weights, shared by w4a16 and w8a16.
 *
 * One lane of vdpbf16ps adds two bf16 products to a float. Integers up to 256 are exact in bf16, so
 * the tile multiplies the *codes* (centred when there is no offset) and scales the sum of a group
 * once, in float:
 *
 *     y += s g,              g = sum (c - middle) a      no offset
 *     y += s g - o (sum a),  g = sum c a                 minimum o; zero point z: o = s z
 *
 * The weight is never rounded, only x is, by its format. A tile of 6 rows of x and 32 of W holds 12
 * sums of a group in registers; those of the row wait in L1, where each end of a group (at most 128
 * columns) fetches them. The sums of x that an offset needs are taken over 32 columns, once a call.
 *
 * 4-bit codes become bf16 in registers, for any number of rows: a byte shuffle pairs neighbouring
 * columns, and vpermw looks up sixteen values at the low five bits of a word, the upper half of the
 * table repeating the lower, so that no mask is needed. 16 operations serve 256 weights, beside 48
 * dot products of 6 rows. 8-bit codes take 44 (into the mantissa of a power of two, minus that
 * power, upper halves joined), so above 8 rows a chunk of 1024 columns is decoded to a panel in L2
 * once. Products and their order are the same in both, and so are the results.
 *
 * Measured on Zen 4 (4096 x 4096, groups of 32): 80 to 83 % of the bf16 peak at 512 rows. The rest
 * is the end of each group, 12 products, loads and stores per 192 dot products. At one row the
 * shuffles, one vector per cycle, cost as much as the memory (W4: 57 to 71 % of the bandwidth).
 *
 * Rejected: s (c - middle) rounded to bf16 in the panel (no work per group, but an error of 2^-9
 * per weight); a panel for 4-bit codes, too (52 % instead of 80 % at 16 rows, and 79 % at 512: its
 * stores cost more than decoding again); sums of even and odd columns apart, or two groups at once,
 * against the latency of the instruction at few rows (no gain, the first at 2 rows only, and 2 to 4
 * % slower at 512); software prefetch for one tile (half the speed at one row). */
#ifndef ANEMO_TILE_AVX512BF16_H
#define ANEMO_TILE_AVX512BF16_H

#include "kernels/qgemm/numbers_avx512.h"

enum {
    ANEMO_BF16_ROWS = 8, /* of the largest tile */
    ANEMO_BF16_TILE_ROWS = 6,
    ANEMO_BF16_STREAM_ROWS = 8, /* of 8-bit weights: as many as are worth decoding twice */
    ANEMO_BF16_CHUNK = 1024
};

/* Two bf16 of x, broadcast straight from memory. */
typedef int32_t anemo_bf16_pair __attribute__((may_alias, aligned(4)));

ANEMO_N32_INLINE __m512 bf16_dot(__m512 sum, __m512i w, __m512i a) {
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)a);
}

/* bf16 of c - middle for the sixteen codes c, twice. */
ANEMO_N32_INLINE __m512i bf16_table(int middle) {
    const __m512i codes =
        _mm512_and_si512(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                         _mm512_set1_epi32(15));
    const __m512 values = _mm512_cvtepi32_ps(_mm512_sub_epi32(codes, _mm512_set1_epi32(middle)));
    const __m256i words = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(values), 16));
    return _mm512_inserti64x4(_mm512_castsi256_si512(words), words, 1);
}

/* 8 columns of 16 rows to w[4], columns 2q and 2q + 1 in w[q]. */
ANEMO_N32_INLINE void bf16_from_w4(const uint8_t *at, __m512i table, __m512i w[4]) {
    const __m512i raw = _mm512_loadu_si512(at);
    const __m512i first =
        _mm512_set4_epi32((int)0x800d800c, (int)0x80098008, (int)0x80058004, (int)0x80018000);
    const __m512i second =
        _mm512_set4_epi32((int)0x800f800e, (int)0x800b800a, (int)0x80078006, (int)0x80038002);
    const __m512i a = _mm512_shuffle_epi8(raw, first), b = _mm512_shuffle_epi8(raw, second);
    w[0] = _mm512_permutexvar_epi16(a, table);
    w[1] = _mm512_permutexvar_epi16(b, table);
    w[2] = _mm512_permutexvar_epi16(_mm512_srli_epi16(a, 4), table);
    w[3] = _mm512_permutexvar_epi16(_mm512_srli_epi16(b, 4), table);
}

/* Byte `odd` of each lane as the float byte - middle: the byte in the mantissa of 2^(23 - 8 odd),
 * where its last bit counts 1, minus that power. */
ANEMO_N32_INLINE __m512i bf16_byte(__m512i x, int odd, int middle) {
    const __m512i byte = _mm512_set1_epi32(odd ? 0xff00 : 0xff);
    const __m512i power = _mm512_set1_epi32(odd ? 0x47000000 : 0x4b000000);
    const __m512 bias = _mm512_set1_ps((odd ? 0x1p15f : 0x1p23f) + (float)middle);
    const __m512i number = _mm512_ternarylogic_epi32(x, byte, power, 0xea); /* (x & byte) | power */
    return _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(number), bias));
}

/* 4 columns of 16 rows to w[2]. */
ANEMO_N32_INLINE void bf16_from_w8(const uint8_t *at, int middle, __m512i w[2]) {
    const __m512i raw = _mm512_loadu_si512(at), upper = _mm512_srli_epi32(raw, 16);
    const __m512i down = _mm512_set4_epi32(0x0f0e0f0e, 0x0b0a0b0a, 0x07060706, 0x03020302);
    /* Upper halves side by side: exact, the lower ones are zeros. */
    w[0] = _mm512_mask_shuffle_epi8(bf16_byte(raw, 1, middle), 0x3333333333333333,
                                    bf16_byte(raw, 0, middle), down);
    w[1] = _mm512_mask_shuffle_epi8(bf16_byte(upper, 1, middle), 0x3333333333333333,
                                    bf16_byte(upper, 0, middle), down);
}

/* A step of 8 columns x 32 rows to w[4][2]. */
ANEMO_N32_INLINE void bf16_decode_step(int bits, int middle, __m512i table, const uint8_t *at,
                                       __m512i w[4][2]) {
    ANEMO_N32_UNROLL
    for (int v = 0; v < 2; v++) {
        __m512i half[4];
        if (bits == 4) {
            bf16_from_w4(at + 64 * v, table, half);
        } else {
            bf16_from_w8(at + 128 * v, middle, half);
            bf16_from_w8(at + 128 * v + 64, middle, half + 2);
        }
        ANEMO_N32_UNROLL
        for (int q = 0; q < 4; q++) {
            w[q][v] = half[q];
        }
    }
}

/* Columns [column, column + columns), at most 128 and in one group: its numbers, its codes. */
typedef struct anemo_bf16_span {
    int64_t column, columns;
    int64_t group, within; /* of the group's columns */
    const uint8_t *header, *codes;
} anemo_bf16_span;

ANEMO_N32_INLINE void bf16_span_columns(const anemo_n32_shape *s, int64_t end,
                                        anemo_bf16_span *span) {
    const int64_t left = s->group - span->within, most = left < 128 ? left : 128;
    span->columns = end - span->column < most ? end - span->column : most;
}

ANEMO_N32_INLINE anemo_bf16_span bf16_first_span(const anemo_n32_shape *s, const uint8_t *block,
                                                 int64_t column, int64_t end) {
    anemo_bf16_span span = {.column = column, .group = column / s->group};
    span.within = column - span.group * s->group;
    span.header = block + anemo_n32_group_at(s, span.group);
    span.codes = span.header + s->header_bytes + (size_t)(span.within / 8) * s->step_bytes;
    bf16_span_columns(s, end, &span);
    return span;
}

ANEMO_N32_INLINE anemo_bf16_span bf16_next_span(const anemo_n32_shape *s, anemo_bf16_span span,
                                                int64_t end) {
    span.column += span.columns;
    span.within += span.columns;
    span.codes += (size_t)(span.columns / 8) * s->step_bytes;
    if (span.within == s->group) {
        span.group++;
        span.within = 0;
        span.header = span.codes;
        span.codes += s->header_bytes;
    }
    bf16_span_columns(s, end, &span);
    return span;
}

/* t->sum += scale g (- offset sum of x) */
ANEMO_N32_INLINE void bf16_join(bool has_offset, int rows, const anemo_n32_shape *s,
                                const anemo_n32_tile *t, const anemo_bf16_span *span,
                                const __m512 g[ANEMO_BF16_ROWS][2]) {
    __m512 scale[2], offset[2];
    ANEMO_N32_UNROLL
    for (int v = 0; v < 2; v++) {
        scale[v] = anemo_n32_numbers(s, span->header, v);
        if (has_offset) {
            offset[v] = anemo_n32_offsets(s, t->block, span->header, span->group, v, scale[v]);
        }
    }
    ANEMO_N32_UNROLL
    for (int i = 0; i < rows; i++) {
        float total = 0.0f;
        if (has_offset) {
            const float *sums = t->x_sums + i * anemo_ceil_div(t->k, 32);
            for (int64_t c = span->column; c < span->column + span->columns; c += 32) {
                total += sums[c / 32];
            }
        }
        ANEMO_N32_UNROLL
        for (int v = 0; v < 2; v++) {
            float *at = t->sum[i] + 16 * v;
            __m512 y = _mm512_fmadd_ps(g[i][v], scale[v], _mm512_loadu_ps(at));
            if (has_offset) {
                y = _mm512_fnmadd_ps(_mm512_set1_ps(total), offset[v], y);
            }
            _mm512_storeu_ps(at, y);
        }
    }
}

/* What a tile is made for; all constants. */
typedef struct anemo_bf16_kind {
    int bits;
    bool has_offset;
    bool panel; /* codes come decoded */
    int rows;
} anemo_bf16_kind;

/* g += x W^T over 8 columns. `x` is the first row at these columns; at: codes, or the panel. */
ANEMO_N32_INLINE void bf16_step(anemo_bf16_kind kind, __m512i table, const uint8_t *at,
                                const uint8_t *x, size_t x_row_bytes,
                                __m512 g[ANEMO_BF16_ROWS][2]) {
    const int middle = kind.has_offset ? 0 : 1 << (kind.bits - 1);
    __m512i w[4][2];
    if (!kind.panel) {
        bf16_decode_step(kind.bits, middle, table, at, w);
    }
    ANEMO_N32_UNROLL
    for (int q = 0; q < 4; q++) {
        if (kind.panel) {
            w[q][0] = _mm512_loadu_si512(at + 128 * q);
            w[q][1] = _mm512_loadu_si512(at + 128 * q + 64);
            ANEMO_N32_KEEP(w[q][0]);
            ANEMO_N32_KEEP(w[q][1]);
        }
        ANEMO_N32_UNROLL
        for (int i = 0; i < kind.rows; i++) {
            const uint8_t *pair = x + (size_t)i * x_row_bytes + 4 * q;
            const __m512i a = _mm512_set1_epi32(*(const anemo_bf16_pair *)(const void *)pair);
            g[i][0] = bf16_dot(g[i][0], w[q][0], a);
            g[i][1] = bf16_dot(g[i][1], w[q][1], a);
        }
    }
}

ANEMO_N32_INLINE void bf16_tile(anemo_bf16_kind kind, const anemo_n32_tile *t) {
    const anemo_n32_shape s = *t->shape;
    const __m512i table = bf16_table(kind.has_offset ? 0 : 1 << (kind.bits - 1));
    const int64_t end = anemo_round_up(t->column + t->columns, 32);
    anemo_bf16_span span = bf16_first_span(&s, t->block, t->column, end);
    for (; span.column < end; span = bf16_next_span(&s, span, end)) {
        const uint8_t *at = kind.panel ? t->panel + 64 * (span.column - t->column) : span.codes;
        const uint8_t *x = t->x + 2 * span.column;
        __m512 g[ANEMO_BF16_ROWS][2];
        ANEMO_N32_UNROLL
        for (int i = 0; i < kind.rows; i++) {
            g[i][0] = g[i][1] = _mm512_setzero_ps();
        }
        for (int64_t c = 0; c < span.columns; c += 8) {
            anemo_n32_ahead(t, span.codes + 4 * c * kind.bits, 32 * (size_t)kind.bits);
            bf16_step(kind, table, at, x + 2 * c, t->x_row_bytes, g);
            at += kind.panel ? 512 : 32 * kind.bits;
        }
        bf16_join(kind.has_offset, kind.rows, &s, t, &span, g);
    }
}

ANEMO_N32_INLINE void bf16_tile_rows(int bits, int64_t rows, const anemo_n32_tile *t) {
    const bool has_offset = t->type->offset != ANEMO_OFFSET_NONE;
#define ANEMO_BF16_CASE(n, panel)                                                                  \
    case n:                                                                                        \
        if (has_offset) {                                                                          \
            bf16_tile((anemo_bf16_kind){bits, true, panel, n}, t);                                 \
        } else {                                                                                   \
            bf16_tile((anemo_bf16_kind){bits, false, panel, n}, t);                                \
        }                                                                                          \
        break;
    if (t->panel == NULL) {
        switch (rows) {
            ANEMO_BF16_CASE(1, false)
            ANEMO_BF16_CASE(2, false)
            ANEMO_BF16_CASE(3, false)
            ANEMO_BF16_CASE(4, false)
            ANEMO_BF16_CASE(5, false)
            ANEMO_BF16_CASE(6, false)
            ANEMO_BF16_CASE(7, false)
            ANEMO_BF16_CASE(8, false)
        }
    } else {
        switch (rows) {
            ANEMO_BF16_CASE(1, true)
            ANEMO_BF16_CASE(2, true)
            ANEMO_BF16_CASE(3, true)
            ANEMO_BF16_CASE(4, true)
            ANEMO_BF16_CASE(5, true)
            ANEMO_BF16_CASE(6, true)
        }
    }
#undef ANEMO_BF16_CASE
}

/* panel[columns / 2][32]: pairs of columns, as float_n32 holds bf16. */
ANEMO_N32_INLINE void bf16_decode(int bits, const anemo_n32_tile *t, uint8_t *panel) {
    const anemo_n32_shape s = *t->shape;
    const int middle = t->type->offset != ANEMO_OFFSET_NONE ? 0 : 1 << (bits - 1);
    const __m512i table = bf16_table(middle);
    const int64_t end = anemo_round_up(t->column + t->columns, 32);
    anemo_bf16_span span = bf16_first_span(&s, t->block, t->column, end);
    for (; span.column < end; span = bf16_next_span(&s, span, end)) {
        for (int64_t c = 0; c < span.columns; c += 8) {
            __m512i w[4][2];
            bf16_decode_step(bits, middle, table, span.codes + 4 * c * bits, w);
            ANEMO_N32_UNROLL
            for (int q = 0; q < 4; q++) {
                _mm512_storeu_si512(panel + 128 * q, w[q][0]);
                _mm512_storeu_si512(panel + 128 * q + 64, w[q][1]);
            }
            panel += 512;
        }
    }
}

/* sums[k / 32 rounded up]; the record is padded with zeros to 32 columns. */
static inline void bf16_x_sums(const uint8_t *row, int64_t k, float *sums) {
    const __m512i odd = _mm512_set1_epi32((int)0xffff0000);
    for (int64_t b = 0; b < anemo_ceil_div(k, 32); b++) {
        const __m512i pairs = _mm512_loadu_si512(row + 64 * b);
        sums[b] =
            _mm512_reduce_add_ps(_mm512_add_ps(_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)),
                                               _mm512_castsi512_ps(_mm512_and_si512(pairs, odd))));
    }
}

static inline size_t bf16_block_bytes(const anemo_weight_type *type, int64_t k) {
    return anemo_n32_shape_of(type, k).block_bytes;
}

/* Defines the variant NAME for weights of `width` bits. It rounds x, so no plan picks it unasked.
 */
#define ANEMO_BF16_VARIANT(id, width, layout_, idea_)                                              \
    static void tile_rows(int64_t rows, const anemo_n32_tile *t) {                                 \
        bf16_tile_rows(width, rows, t);                                                            \
    }                                                                                              \
    static void decode(const anemo_n32_tile *t, uint8_t *panel) {                                  \
        bf16_decode(width, t, panel);                                                              \
    }                                                                                              \
    static const anemo_n32_form form = {                                                           \
        .tile_rows = ANEMO_BF16_TILE_ROWS,                                                         \
        .chunk = ANEMO_BF16_CHUNK,                                                                 \
        .stream_rows = width == 4 ? INT64_MAX : ANEMO_BF16_STREAM_ROWS,                            \
        .stream_tile_rows = width == 4 ? ANEMO_BF16_TILE_ROWS : ANEMO_BF16_STREAM_ROWS,            \
        .panel_bytes = width == 4 ? 0 : 64 * ANEMO_BF16_CHUNK,                                     \
        .wants_x_sums = true,                                                                      \
        .of_codes = true,                                                                          \
        .block_bytes = bf16_block_bytes,                                                           \
        .decode = decode,                                                                          \
        .tile = tile_rows,                                                                         \
        .x_sums = bf16_x_sums,                                                                     \
    };                                                                                             \
    ANEMO_N32_VARIANT(id, form, bf16, ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_BF16, layout_,           \
                      INT32_MAX, idea_)

#endif
