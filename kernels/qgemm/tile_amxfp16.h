/* The tile of tile_amx16.h on f16, for weights whose scales are f16: finer than bf16, and decoded
 * in a third of the instructions, so that it serves few rows, too.
 *
 *     w = f16(s c - o)      codes and zero points are exact; scales of two levels and minima are
 *                           rounded to f16 first
 *
 * f16 has 11 bits: a weight is off by at most 2^-12 of itself and its offset. It is a multiple of
 * 2^-24 like its scale, so small ones lose nothing; one beyond 65504 would be infinite, and so
 * would its results. x comes as f16_row (kernel.h), scaled to its largest number, and sums are
 * scaled back: exact, by a power of two.
 *
 * Decoding. The f16 of -8 .. 7 have nothing in their low byte, so that nibbles, taken from 8,
 * become f16 by a lookup of bytes (vpermb reads only the low six bits of an index, and a table that
 * holds its 16 values four times does not mind the upper two). The columns of a pair are then 1 and
 * 3, or 0 and 2, and so on for both halves of eight, and x is copied in that order. A
 * multiplication of f16 follows. Looking up words (vpermw, two operations on Granite Rapids) is for
 * tables.
 *
 * Few rows. Up to 32 rows of x there is no panel of a chunk: 32 columns are decoded while those
 * before them are multiplied, block after block in the order of memory, which is asked for evenly,
 * 4 KiB ahead (2 KiB: 5 % slower, 8 and 16: the same, nothing: 27 %). 32 columns of 32 rows in 4
 * bits take 52 cycles to decode, 85 with two products, and 95 are what reading them takes; from
 * memory they take 150 to 170 on two cores. Granite Rapids, 14336 x 4096, speed times the VNNI tile
 * (times tile_amxbf16.h):
 *
 *              q4_0           q8_0           q4_k           q5_k           q6_k           iq4_nl
 *   m = 6      1.00           1.07           1.04           0.89           1.07           0.96
 *   m = 8      1.17           1.21           1.22           1.03           1.07           1.09
 *   m = 16     1.43           1.29           1.63           1.36           1.47           1.40
 *   m = 32     2.15 (1.90)    1.65 (2.38)    2.35 (1.84)    2.21 (2.15)    2.40 (1.87)    2.05
 * (1.77) m = 64     2.09 (1.22)    1.58 (1.39)    2.30 (1.17)    2.41 (1.43)    2.83 (1.31)    2.05
 * (1.15) m = 512    2.73 (1.05)    2.43 (1.06)    3.32 (1.05)    3.76 (1.09)    4.67 (1.07)    2.89
 * (1.03)
 *
 * Rejected for few rows: two blocks of W for a tile of x (5 % in a loop of nothing else); a ring of
 * 4 or 8 pieces (slower: the two of 2 KiB fill each half of the addresses modulo 4 KiB, so that no
 * load waits for a store it does not want); x in chunks of 256 columns (each chunk's sums to memory
 * and back: 1.2 times as long). */
#ifndef ANEMO_TILE_AMXFP16_H
#define ANEMO_TILE_AMXFP16_H

#include "kernels/qgemm/tile_avx512vnni.h"

enum {
    ANEMO_AMX_FP16_FROM = 6,       /* rows of x from which a plan takes it */
    ANEMO_AMX_FP16_FROM_OTHER = 8, /* of 5 bits and tables */
    FP16_BLOCKS = 4                /* of an item of few rows */
};

#define AMX16_DP ANEMO_AMX_DPFP16PS
#include "kernels/qgemm/tile_amx16.h"

/* ---------------------------------------------------------------- codes */

/* How codes become f16; `code` as in tile_avx512vnni.h. Nibbles come with 8 taken from them. */
typedef struct fp16_codes {
    __m512i table; /* of nibbles: upper bytes, four times, or (VNNI_TABLE) words, twice */
    float middle;  /* what is taken from each besides its offset */
} fp16_codes;

ANEMO_N32_INLINE fp16_codes fp16_codes_of(int code, const anemo_n32_shape *s) {
    const bool table = code == VNNI_TABLE, centred = !s->has_minimum && !s->has_zero;
    int16_t value[16];
    for (int16_t i = 0; i < 16; i++) {
        value[i] = table ? (int16_t)(s->table[i] - 128) : (int16_t)(i - 8);
    }
    const __m256i words = _mm256_castph_si256(
        _mm256_cvtepi16_ph(_mm256_loadu_si256((const __m256i *)(const void *)value)));
    const __m128i bytes = _mm256_cvtepi16_epi8(_mm256_srli_epi16(words, 8));
    fp16_codes c = {.table = table ? _mm512_broadcast_i64x4(words) : _mm512_broadcast_i32x4(bytes)};
    if (code == 4) {
        c.middle = centred ? 0.0f : -8.0f;
    } else {
        c.middle = !table && centred ? (float)(1 << (code - 1)) : 0.0f;
    }
    return c;
}

/* Of step `step` of the 32 columns at w, rows 16 v .. 16 v + 15: pairs of columns 0 and 2, 1 and 3,
 * 4 and 6, 5 and 7. */
ANEMO_N32_INLINE void fp16_values(int code, const fp16_codes *c, const uint8_t *w, int step, int v,
                                  __m512h value[4]) {
    if (code == 4) {
        const __m512i upper = _mm512_set1_epi16((int16_t)0xff00);
        const __m512i line = _mm512_loadu_si512(w + 128 * step + 64 * v);
        const __m512i low = _mm512_permutexvar_epi8(line, c->table);
        const __m512i high = _mm512_permutexvar_epi8(_mm512_srli_epi16(line, 4), c->table);
        value[0] = _mm512_castsi512_ph(_mm512_slli_epi16(low, 8));
        value[1] = _mm512_castsi512_ph(_mm512_and_si512(low, upper));
        value[2] = _mm512_castsi512_ph(_mm512_slli_epi16(high, 8));
        value[3] = _mm512_castsi512_ph(_mm512_and_si512(high, upper));
        return;
    }
    if (code == VNNI_TABLE) {
        const __m512i line = _mm512_loadu_si512(w + 128 * step + 64 * v);
        const __m512i index[4] = {line, _mm512_srli_epi16(line, 8), _mm512_srli_epi16(line, 4),
                                  _mm512_srli_epi16(line, 12)};
        ANEMO_N32_UNROLL
        for (int i = 0; i < 4; i++) {
            value[i] = _mm512_castsi512_ph(_mm512_permutexvar_epi16(index[i], c->table));
        }
        return;
    }
    __m512i low[2], high[2];
    vnni_decode(code, false, w, step, _mm512_setzero_si512(), low, high);
    const __m512i byte = _mm512_set1_epi16(255);
    value[0] = _mm512_cvtepu16_ph(_mm512_and_si512(low[v], byte));
    value[1] = _mm512_cvtepu16_ph(_mm512_srli_epi16(low[v], 8));
    value[2] = _mm512_cvtepu16_ph(_mm512_and_si512(high[v], byte));
    value[3] = _mm512_cvtepu16_ph(_mm512_srli_epi16(high[v], 8));
}

/* ---------------------------------------------------------------- scales */

/* 16 f16, each twice. */
ANEMO_N32_INLINE __m512h fp16_twice(__m256i words) {
    const __m512i apart = _mm512_cvtepu16_epi32(words);
    return _mm512_castsi512_ph(_mm512_or_si512(apart, _mm512_slli_epi32(apart, 16)));
}

ANEMO_N32_INLINE __m512h fp16_rounded(__m512 x) {
    return fp16_twice(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* A walk through a block, 32 columns at a time. */
typedef struct fp16_walk {
    const anemo_n32_shape *s;
    const uint8_t *block;
    anemo_n32_place at;
    int64_t group, left; /* columns left in the group */
    __m512h scale[2], shift[2];
} fp16_walk;

/* Scales of the walk's group, and what is taken from each product, or code where it is a zero
 * point.
 */
ANEMO_N32_INLINE void fp16_scales(bool plain, const fp16_codes *c, fp16_walk *walk) {
    const anemo_n32_shape *s = walk->s;
    const bool has_offset = s->has_minimum || s->has_zero;
    __m512 scale[2], offset[2];
    if (plain) {
        const __m512h middle = _mm512_set1_ph((_Float16)c->middle);
        for (int v = 0; v < 2; v++) {
            walk->scale[v] =
                fp16_twice(_mm256_loadu_si256((const __m256i *)(walk->at.scales + 32 * v)));
            walk->shift[v] = _mm512_mul_ph(walk->scale[v], middle);
        }
        return;
    }
    vnni_scales(s, walk->block, walk->at.header, walk->at.scales, walk->group, has_offset, scale,
                offset);
    const __m512 middle = _mm512_set1_ps(c->middle);
    for (int v = 0; v < 2; v++) {
        walk->scale[v] = fp16_rounded(scale[v]);
        walk->shift[v] = fp16_rounded(_mm512_fmadd_ps(scale[v], middle, offset[v]));
        if (s->has_zero) {
            const __m512i zero = vnni_bytes(walk->block + 32 * walk->group + 16 * v);
            walk->shift[v] = fp16_rounded(_mm512_add_ps(_mm512_cvtepi32_ps(zero), middle));
        }
    }
}

ANEMO_N32_INLINE void fp16_next_group(const fp16_codes *c, fp16_walk *walk) {
    if (walk->left == 0 && walk->group + 1 < walk->s->groups) {
        anemo_n32_next_group(walk->s, &walk->at);
        walk->group++;
        walk->left = walk->s->group;
        fp16_scales(false, c, walk);
    }
}

/* From `column` on, a multiple of 32. plain: each 32 columns are a group and follow their f16
 * scales, as vnni_is_plain says. */
ANEMO_N32_INLINE fp16_walk fp16_walk_from(bool plain, const fp16_codes *c, const anemo_n32_shape *s,
                                          const uint8_t *block, int64_t column) {
    fp16_walk walk = {.s = s, .block = block, .at = anemo_n32_place_at(s, block, column)};
    if (plain) {
        walk.at.w = walk.at.header;
        return walk;
    }
    walk.group = column / s->group;
    walk.left = s->group - column % s->group;
    fp16_scales(false, c, &walk);
    return walk;
}

/* Step `step` of the walk's 32 columns, 32 rows, in one group. */
ANEMO_N32_INLINE void fp16_decode_8(int code, const fp16_codes *c, const fp16_walk *walk, int step,
                                    uint8_t *to) {
    ANEMO_N32_UNROLL
    for (int v = 0; v < 2; v++) {
        __m512h value[4];
        fp16_values(code, c, walk->at.w, step, v, value);
        ANEMO_N32_UNROLL
        for (int i = 0; i < 4; i++) {
            const __m512h w =
                walk->s->has_zero
                    ? _mm512_mul_ph(_mm512_sub_ph(value[i], walk->shift[v]), walk->scale[v])
                    : _mm512_fmsub_ph(value[i], walk->scale[v], walk->shift[v]);
            _mm512_store_ph(to + (4 * step + i) * AMX16_PAIR_BYTES + 64 * v, w);
        }
    }
}

/* The next 32 columns of 32 rows as pairs to `to`; the layout ends with codes and scales of 0. */
ANEMO_N32_INLINE void fp16_decode_32(int code, bool plain, const fp16_codes *c, fp16_walk *walk,
                                     uint8_t *to) {
    if (plain) {
        walk->at.scales = walk->at.w;
        walk->at.w += 64;
        fp16_scales(true, c, walk);
    }
    ANEMO_N32_UNROLL
    for (int step = 0; step < 4; step++) {
        if (!plain && step % 2 == 0) { /* groups are of 16 columns at least */
            fp16_next_group(c, walk);
            walk->left -= walk->left > 16 ? 16 : walk->left;
        }
        fp16_decode_8(code, c, walk, step, to);
    }
    walk->at.w += code == VNNI_TABLE ? 512 : 128 * code;
}

ANEMO_N32_INLINE void fp16_decode_as(int code, bool plain, const anemo_n32_shape *s,
                                     const anemo_n32_tile *t, uint8_t *panel) {
    const fp16_codes c = fp16_codes_of(code, s);
    fp16_walk walk = fp16_walk_from(plain, &c, s, t->block, t->column);
    for (int64_t column = 0; column < t->columns; column += AMX16_DEPTH) {
        fp16_decode_32(code, plain, &c, &walk, panel);
        panel += AMX16_DEPTH / 2 * AMX16_PAIR_BYTES;
    }
}

ANEMO_N32_INLINE void fp16_decode(int code, const anemo_n32_tile *t, uint8_t *panel) {
    const anemo_n32_shape s = *t->shape;
    if (vnni_is_plain(&s, 32, false)) {
        fp16_decode_as(code, true, &s, t, panel);
    } else {
        fp16_decode_as(code, false, &s, t, panel);
    }
}

/* ---------------------------------------------------------------- few rows */

/* Asks for what lies `ahead` of [from, to). */
ANEMO_N32_INLINE void fp16_ask(const uint8_t *from, const uint8_t *to, int64_t ahead) {
    for (const uint8_t *at = from; ahead != 0 && at < to; at += 64) {
        _mm_prefetch((const char *)(at + ahead), _MM_HINT_T1);
    }
}

/* t->sum = x W^T over all columns, decoding as it goes. */
ANEMO_N32_INLINE void fp16_stream(int code, bool plain, bool tall, int64_t rows,
                                  const anemo_n32_shape *s, const anemo_n32_tile *t) {
    _Alignas(64) uint8_t ring[2][AMX16_DEPTH / 2 * AMX16_PAIR_BYTES];
    const fp16_codes c = fp16_codes_of(code, s);
    fp16_walk walk = fp16_walk_from(plain, &c, s, t->block, t->column);
    const uint8_t *x = t->x;
    amx16_configure(tall ? 16 : rows, tall ? rows - 16 : 1);
    anemo_amx_stored();
    amx16_load_sums(tall, t);
    fp16_decode_32(code, plain, &c, &walk, ring[0]);
    for (int64_t column = 0; column < t->columns; column += AMX16_DEPTH) {
        const int64_t at = column / AMX16_DEPTH;
        if (column + AMX16_DEPTH < t->columns) {
            const uint8_t *from = walk.at.w;
            fp16_decode_32(code, plain, &c, &walk, ring[(at + 1) & 1]);
            fp16_ask(from, walk.at.w, t->ahead);
        }
        anemo_amx_stored();
        amx16_step(tall, x, t->x_row_bytes, ring[at & 1]);
        x += t->x_chunk_bytes;
    }
    amx16_store_sums(tall, t);
}

ANEMO_N32_INLINE void fp16_stream_rows(int code, bool plain, int64_t rows, const anemo_n32_shape *s,
                                       const anemo_n32_tile *t) {
    if (rows > 16) {
        fp16_stream(code, plain, true, rows, s, t);
    } else {
        fp16_stream(code, plain, false, rows, s, t);
    }
}

ANEMO_N32_INLINE void fp16_tile_few(int code, int64_t rows, const anemo_n32_tile *t) {
    const anemo_n32_shape s = *t->shape;
    if (vnni_is_plain(&s, 32, false)) {
        fp16_stream_rows(code, true, rows, &s, t);
    } else {
        fp16_stream_rows(code, false, rows, &s, t);
    }
}

/* ---------------------------------------------------------------- the variant */

/* `columns` of x from `column` on, in the order of fp16_values; the record is padded with zeros to
 * 32. */
static inline void fp16_x_columns(const uint8_t *row, int64_t k, int64_t column, int64_t columns,
                                  uint8_t *to) {
    const int64_t left = anemo_round_up(k, 32) - column;
    const __m512i order =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
    for (int64_t i = 0; i < left && i < columns; i += 32) {
        const __m512i x = _mm512_loadu_si512(row + 2 * (column + i));
        _mm512_storeu_si512(to + 2 * i, _mm512_shuffle_epi8(x, order));
    }
}

static inline void fp16_x_chunk(const uint8_t *row, int64_t k, int64_t column, float scale,
                                uint8_t *to) {
    (void)scale; /* the codes are scaled already */
    fp16_x_columns(row, k, column, AMX16_CHUNK, to);
}

static inline void fp16_x_few(const uint8_t *row, int64_t k, int64_t column, float scale,
                              uint8_t *to) {
    (void)scale; /* the codes are scaled already */
    fp16_x_columns(row, k, column, AMX16_DEPTH, to);
}

static inline float fp16_x_scale(const uint8_t *row, int64_t k) {
    return *(const float *)(const void *)(row + anemo_f16_row_scale_at(k));
}

/* Weights must be within f16. */
static inline bool fp16_accepts(const anemo_qgemm_problem *p, char *why, size_t why_bytes) {
    for (int32_t i = 0; i < p->n_parts; i++) {
        const anemo_weight_type *type = &p->type[i];
        if (type->scale != ANEMO_SCALE_F16 && type->scale != ANEMO_SCALE_TWO_LEVEL) {
            return anemo_refuse(why, why_bytes, "scales wider than f16 are not accepted");
        }
    }
    return true;
}

/* Defines `form` for weights of n32 codes of `width` bits, and what serves few rows. */
#define ANEMO_AMX_FP16_FORM(width)                                                                 \
    static size_t block_bytes(const anemo_weight_type *type, int64_t k) {                          \
        return anemo_n32_shape_of(type, k).block_bytes;                                            \
    }                                                                                              \
    static void decode(const anemo_n32_tile *t, uint8_t *panel) {                                  \
        fp16_decode(width, t, panel);                                                              \
    }                                                                                              \
    static void tile(int64_t rows, const anemo_n32_tile *t) {                                      \
        amx16_tile_rows(rows, t, t->panel);                                                        \
    }                                                                                              \
    static void tile_few(int64_t rows, const anemo_n32_tile *t) {                                  \
        fp16_tile_few(width, rows, t);                                                             \
    }                                                                                              \
    static const anemo_n32_form few = {                                                            \
        .tile_rows = ANEMO_AMX_ROWS,                                                               \
        .chunk = AMX16_DEPTH,                                                                      \
        .blocks = FP16_BLOCKS,                                                                     \
        .whole = true,                                                                             \
        .starts_sums = true,                                                                       \
        .of_codes = true,                                                                          \
        .block_bytes = block_bytes,                                                                \
        .tile = tile_few,                                                                          \
        .leave = anemo_amx_leave,                                                                  \
        .x_chunk_bytes = 2 * AMX16_DEPTH,                                                          \
        .x_chunk = fp16_x_few,                                                                     \
        .x_scale = fp16_x_scale,                                                                   \
    };                                                                                             \
    static const anemo_n32_form form = {                                                           \
        .few = &few,                                                                               \
        .tile_rows = ANEMO_AMX_ROWS,                                                               \
        .chunk = AMX16_CHUNK,                                                                      \
        .blocks = AMX16_BLOCKS,                                                                    \
        .starts_sums = true,                                                                       \
        .panel_bytes = AMX16_PANEL_BYTES,                                                          \
        .of_codes = true,                                                                          \
        .block_bytes = block_bytes,                                                                \
        .decode = decode,                                                                          \
        .tile = tile,                                                                              \
        .leave = anemo_amx_leave,                                                                  \
        .x_chunk_bytes = AMX16_X_BYTES,                                                            \
        .x_chunk = fp16_x_chunk,                                                                   \
        .x_scale = fp16_x_scale,                                                                   \
        .accepts = fp16_accepts,                                                                   \
    };

#define ANEMO_AMX_FP16_NEEDS (ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VBMI | ANEMO_CPU_AMX_FP16)

#endif
