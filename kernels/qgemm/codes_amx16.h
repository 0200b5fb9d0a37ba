/* Codes to pairs of 16-bit floats, for the tile of tile_amx16.h: what tile_amxfp16.h and
 * tile_amxbf16.h share. AMX16_BF16 (tile_amx16.h) says which.
 *
 *     w = f16(s c - o)      codes and zero points are exact; scales of two levels and minima are
 *                           rounded to f16 first
 *
 * Nibbles. The f16 of -8 .. 7 have nothing in their low byte, so that nibbles, taken from 8, become
 * f16 by a lookup of bytes (vpermb reads only the low six bits of an index, and a table that holds
 * its 16 values four times does not mind the upper two). The columns of a pair are then 1 and 3, or
 * 0 and 2, and so on for both halves of eight, and x is copied in that order. A multiplication of
 * f16 follows. Looking up words (vpermw, two operations on Granite Rapids) is for tables.
 *
 * bf16. The exponent of an f16, three bits to the right, is one of a bf16, 112 too small: shift,
 * round, and clear what the sign left behind. w is multiplied by 2^12 in f16, so that nothing above
 * 2^-26 is subnormal, which bf16 tiles take for 0. As bf16 it is w 2^-100, so x is multiplied by
 * 2^100, and has to be below 2^28. A group that may hold a weight of 15.75, or whose scale is less
 * than an f16 can say, goes through floats instead, twice as many instructions.
 *
 * Few rows. Up to 32 rows of x there is no panel of a chunk: 32 columns are decoded while those
 * before them are multiplied, block after block in the order of memory, which is asked for evenly,
 * 4 KiB ahead (2 KiB: 5 % slower, 8 and 16: the same, nothing: 27 %).
 *
 * Rejected for few rows: two blocks of W for a tile of x (5 % in a loop of nothing else); a ring of
 * 4 or 8 pieces (slower: the two of 2 KiB fill each half of the addresses modulo 4 KiB, so that no
 * load waits for a store it does not want); x in chunks of 256 columns (each chunk's sums to memory
 * and back: 1.2 times as long). */
#ifndef ANEMO_CODES_AMX16_H
#define ANEMO_CODES_AMX16_H

#include "kernels/qgemm/fp16_avx512.h"
#include "kernels/qgemm/tile_amx16.h"
#include "kernels/qgemm/tile_avx512vnni.h"

#if AMX16_BF16
#include "kernels/qgemm/pairs_avx512bf16.h"
#endif

enum { CODES16_FEW_BLOCKS = 4 }; /* of an item of few rows */

/* ---------------------------------------------------------------- codes */

/* How codes become f16; `code` as in tile_avx512vnni.h. Nibbles come with 8 taken from them. */
typedef struct codes16 {
    __m512i table; /* of nibbles: upper bytes, four times, or (VNNI_TABLE) words, twice */
    float middle;  /* what is taken from each besides its offset */
    float largest; /* of a code's magnitude at most, once its middle is taken */
} codes16;

ANEMO_N32_INLINE codes16 codes16_of(int code, const anemo_n32_shape *s) {
    const bool table = code == VNNI_TABLE, centred = !s->has_minimum && !s->has_zero;
    float value[16];
    for (int i = 0; i < 16; i++) {
        value[i] = table ? (float)s->table[i] - 128.0f : (float)(i - 8);
    }
    const __m256i words = _mm512_cvtps_ph(_mm512_loadu_ps(value), _MM_FROUND_NO_EXC);
    const __m128i bytes = _mm256_cvtepi16_epi8(_mm256_srli_epi16(words, 8));
    codes16 c = {.table = table ? _mm512_broadcast_i64x4(words) : _mm512_broadcast_i32x4(bytes)};
    c.largest = table ? 128.0f : (float)(1 << (centred ? code - 1 : code));
    if (code == 4) {
        c.middle = centred ? 0.0f : -8.0f;
    } else {
        c.middle = !table && centred ? (float)(1 << (code - 1)) : 0.0f;
    }
    return c;
}

/* Of step `step` of the 32 columns at w, rows 16 v .. 16 v + 15: pairs of columns 0 and 2, 1 and 3,
 * 4 and 6, 5 and 7, as f16. */
ANEMO_N32_INLINE void codes16_values(int code, const codes16 *c, const uint8_t *w, int step, int v,
                                     __m512i value[4]) {
    if (code == 4) {
        const __m512i upper = _mm512_set1_epi16((int16_t)0xff00);
        const __m512i line = _mm512_loadu_si512(w + 128 * step + 64 * v);
        const __m512i low = _mm512_permutexvar_epi8(line, c->table);
        const __m512i high = _mm512_permutexvar_epi8(_mm512_srli_epi16(line, 4), c->table);
        value[0] = _mm512_slli_epi16(low, 8);
        value[1] = _mm512_and_si512(low, upper);
        value[2] = _mm512_slli_epi16(high, 8);
        value[3] = _mm512_and_si512(high, upper);
        return;
    }
    if (code == VNNI_TABLE) {
        const __m512i line = _mm512_loadu_si512(w + 128 * step + 64 * v);
        const __m512i index[4] = {line, _mm512_srli_epi16(line, 8), _mm512_srli_epi16(line, 4),
                                  _mm512_srli_epi16(line, 12)};
        ANEMO_N32_UNROLL
        for (int i = 0; i < 4; i++) {
            value[i] = _mm512_permutexvar_epi16(index[i], c->table);
        }
        return;
    }
    __m512i low[2], high[2];
    vnni_decode(code, false, w, step, _mm512_setzero_si512(), low, high);
    const __m512i byte = _mm512_set1_epi16(255);
    value[0] = fp16_of_u16(_mm512_and_si512(low[v], byte));
    value[1] = fp16_of_u16(_mm512_srli_epi16(low[v], 8));
    value[2] = fp16_of_u16(_mm512_and_si512(high[v], byte));
    value[3] = fp16_of_u16(_mm512_srli_epi16(high[v], 8));
}

/* ---------------------------------------------------------------- scales */

/* 16 f16, each twice. */
ANEMO_N32_INLINE __m512i codes16_twice(__m256i words) {
    const __m512i apart = _mm512_cvtepu16_epi32(words);
    return _mm512_or_si512(apart, _mm512_slli_epi32(apart, 16));
}

ANEMO_N32_INLINE __m512i codes16_rounded(__m512 x) {
    return codes16_twice(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* A number as f16, 32 times. */
ANEMO_N32_INLINE __m512i codes16_set1(float x) {
    return codes16_rounded(_mm512_set1_ps(x));
}

/* A walk through a block, 32 columns at a time. */
typedef struct codes16_walk {
    const anemo_n32_shape *s;
    const uint8_t *block;
    anemo_n32_place at;
    int64_t group, left;        /* columns left in the group */
    __m512i scale[2], shift[2]; /* f16: times AMX16_SCALE, where bf16 is to come of it */
    bool wide;                  /* floats are needed for this group */
} codes16_walk;

#define AMX16_SCALE    (AMX16_BF16 ? 4096.0f : 1.0f)
#define AMX16_LIMIT    15.75f /* weights below it stay within f16 when scaled, and rounded to bf16 */
#define AMX16_SMALLEST 0x1p-20f /* scales above it keep 11 bits, and their products, too */

/* Scales of the walk's group that stand before it as f16. */
ANEMO_N32_INLINE void codes16_plain_scales(const codes16 *c, codes16_walk *walk) {
    const __m512i middle = codes16_set1(c->middle);
    ANEMO_N32_UNROLL
    for (int v = 0; v < 2; v++) {
        walk->scale[v] =
            codes16_twice(_mm256_loadu_si256((const void *)(walk->at.scales + 32 * v)));
        if (AMX16_BF16) {
            walk->scale[v] = fp16_mul(walk->scale[v], codes16_set1(AMX16_SCALE));
        }
        walk->shift[v] = fp16_mul(walk->scale[v], middle);
    }
    if (AMX16_BF16) { /* as bits, which order numbers, infinity and NaN */
        const __m512i limit = codes16_set1(AMX16_LIMIT / c->largest);
        const __m512i magnitude =
            _mm512_and_si512(_mm512_loadu_si512(walk->at.scales), _mm512_set1_epi16(0x7fff));
        walk->wide = _mm512_cmpgt_epu16_mask(magnitude, limit) != 0;
    }
}

/* Scales of the walk's group, and what is taken from each product, or code where it is a zero
 * point. */
ANEMO_N32_INLINE void codes16_scales(const codes16 *c, codes16_walk *walk) {
    const anemo_n32_shape *s = walk->s;
    const bool has_offset = s->has_minimum || s->has_zero;
    const __m512 middle = _mm512_set1_ps(c->middle), up = _mm512_set1_ps(AMX16_SCALE);
    __m512 scale[2], offset[2];
    vnni_scales(s, walk->block, walk->at.header, walk->at.scales, walk->group, has_offset, scale,
                offset);
    __mmask16 wide = 0;
    ANEMO_N32_UNROLL
    for (int v = 0; v < 2; v++) {
        const __m512 most = _mm512_fmadd_ps(_mm512_abs_ps(scale[v]), _mm512_set1_ps(c->largest),
                                            _mm512_abs_ps(offset[v]));
        wide |= _mm512_cmp_ps_mask(most, _mm512_set1_ps(AMX16_LIMIT), _CMP_NLE_UQ);
        wide |= _mm512_mask_cmp_ps_mask(
            _mm512_cmp_ps_mask(scale[v], _mm512_setzero_ps(), _CMP_NEQ_UQ), _mm512_abs_ps(scale[v]),
            _mm512_set1_ps(AMX16_SMALLEST), _CMP_LT_OQ);
        const __m512 scaled = _mm512_mul_ps(scale[v], up);
        walk->scale[v] = codes16_rounded(scaled);
        walk->shift[v] =
            codes16_rounded(_mm512_fmadd_ps(scaled, middle, _mm512_mul_ps(offset[v], up)));
        if (s->has_zero) {
            const __m512i zero = vnni_bytes(walk->block + 32 * walk->group + 16 * v);
            walk->shift[v] = codes16_rounded(_mm512_add_ps(_mm512_cvtepi32_ps(zero), middle));
        }
    }
    walk->wide = AMX16_BF16 && wide;
}

ANEMO_N32_INLINE void codes16_next_group(const codes16 *c, codes16_walk *walk) {
    if (walk->left == 0 && walk->group + 1 < walk->s->groups) {
        anemo_n32_next_group(walk->s, &walk->at);
        walk->group++;
        walk->left = walk->s->group;
        codes16_scales(c, walk);
    }
}

/* From `column` on, a multiple of 32. plain: each 32 columns are a group and follow their f16
 * scales, as vnni_is_plain says. */
ANEMO_N32_INLINE codes16_walk codes16_walk_from(bool plain, const codes16 *c,
                                                const anemo_n32_shape *s, const uint8_t *block,
                                                int64_t column) {
    codes16_walk walk = {.s = s, .block = block, .at = anemo_n32_place_at(s, block, column)};
    if (plain) {
        walk.at.w = walk.at.header;
        return walk;
    }
    walk.group = column / s->group;
    walk.left = s->group - column % s->group;
    codes16_scales(c, &walk);
    return walk;
}

/* ---------------------------------------------------------------- pairs */

#if AMX16_BF16
/* Column `byte` of each four of 16 rows, as s c - o. */
ANEMO_N32_INLINE __m512 codes16_column(__m512i codes, int byte, __m512 scale, __m512 shift) {
    codes = _mm512_srli_epi32(codes, (unsigned)(8 * byte));
    codes = _mm512_and_si512(codes, _mm512_set1_epi32(255));
    return _mm512_fmsub_ps(_mm512_cvtepi32_ps(codes), scale, shift);
}

/* Steps first and first + 1 of the walk's 32 columns, 32 rows, from floats rounded once. */
static __attribute__((noinline, unused)) void codes16_wide_16(int code, const codes16_walk *walk,
                                                              int first, uint8_t *to) {
    const anemo_n32_shape *s = walk->s;
    const bool is_table = code == VNNI_TABLE, has_offset = s->has_minimum || s->has_zero;
    const int middle = is_table ? 128 : has_offset ? 0 : 1 << (code - 1);
    const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)s->table));
    const __m512 down = _mm512_set1_ps(0x1p-100f);
    __m512 scale[2], shift[2];
    vnni_scales(s, walk->block, walk->at.header, walk->at.scales, walk->group, has_offset, scale,
                shift);
    for (int v = 0; v < 2; v++) {
        scale[v] = _mm512_mul_ps(scale[v], down);
        shift[v] = _mm512_fmadd_ps(scale[v], _mm512_set1_ps((float)middle),
                                   _mm512_mul_ps(shift[v], down)); /* exact: one is 0 */
    }
    for (int step = first; step < first + 2; step++) {
        __m512i codes[2][2];
        vnni_decode(code, false, walk->at.w, step, table, codes[0], codes[1]);
        ANEMO_N32_UNROLL
        for (int i = 0; i < 8; i++) {
            const int v = i / 4, half = i / 2 % 2, odd = i % 2;
            const __m512i four = codes[half][v];
            _mm512_store_si512(to + (4 * step + i % 4) * AMX16_PAIR_BYTES + 64 * v,
                               bf16_pair(codes16_column(four, odd, scale[v], shift[v]),
                                         codes16_column(four, odd + 2, scale[v], shift[v])));
        }
    }
}
#endif

/* f16 as tiles take them. One in eight lies between two bf16: those of odd columns are rounded
 * down, the others up, or a row would be too large by 0.0003. */
ANEMO_N32_INLINE __m512i codes16_pair(__m512i w, int odd) {
    if (!AMX16_BF16) {
        return w;
    }
    const __m512i shifted = odd ? _mm512_srai_epi16(_mm512_add_epi16(w, _mm512_set1_epi16(3)), 3)
                                : _mm512_mulhrs_epi16(w, _mm512_set1_epi16(1 << 12));
    return _mm512_and_si512(shifted, _mm512_set1_epi16((int16_t)0x8fff));
}

/* Step `step` of the walk's 32 columns, 32 rows, in one group. */
ANEMO_N32_INLINE void codes16_decode_8(int code, const codes16 *c, const codes16_walk *walk,
                                       int step, uint8_t *to) {
    ANEMO_N32_UNROLL
    for (int v = 0; v < 2; v++) {
        __m512i value[4];
        codes16_values(code, c, walk->at.w, step, v, value);
        ANEMO_N32_UNROLL
        for (int i = 0; i < 4; i++) {
            const __m512i w = walk->s->has_zero
                                  ? fp16_mul(fp16_sub(value[i], walk->shift[v]), walk->scale[v])
                                  : fp16_fmsub(value[i], walk->scale[v], walk->shift[v]);
            _mm512_store_si512(to + (4 * step + i) * AMX16_PAIR_BYTES + 64 * v,
                               codes16_pair(w, i % 2));
        }
    }
}

/* Steps first and first + 1. */
ANEMO_N32_INLINE void codes16_decode_16(int code, const codes16 *c, const codes16_walk *walk,
                                        int first, uint8_t *to) {
#if AMX16_BF16
    if (walk->wide) {
        codes16_wide_16(code, walk, first, to);
        return;
    }
#endif
    codes16_decode_8(code, c, walk, first, to);
    codes16_decode_8(code, c, walk, first + 1, to);
}

/* The next 32 columns of 32 rows as pairs to `to`; the layout ends with codes and scales of 0. */
ANEMO_N32_INLINE void codes16_decode_32(int code, bool plain, const codes16 *c, codes16_walk *walk,
                                        uint8_t *to) {
    if (plain) {
        walk->at.scales = walk->at.w;
        walk->at.w += 64;
        codes16_plain_scales(c, walk);
    }
    ANEMO_N32_UNROLL
    for (int half = 0; half < 2; half++) {
        if (!plain) { /* groups are of 16 columns at least */
            codes16_next_group(c, walk);
            walk->left -= walk->left > 16 ? 16 : walk->left;
        }
        codes16_decode_16(code, c, walk, 2 * half, to);
    }
    walk->at.w += code == VNNI_TABLE ? 512 : 128 * code;
}

ANEMO_N32_INLINE void codes16_decode_as(int code, bool plain, const anemo_n32_shape *s,
                                        const anemo_n32_tile *t, uint8_t *panel) {
    const codes16 c = codes16_of(code, s);
    codes16_walk walk = codes16_walk_from(plain, &c, s, t->block, t->column);
    for (int64_t column = 0; column < t->columns; column += AMX16_DEPTH) {
        codes16_decode_32(code, plain, &c, &walk, panel);
        panel += AMX16_DEPTH / 2 * AMX16_PAIR_BYTES;
    }
}

ANEMO_N32_INLINE void codes16_decode(int code, const anemo_n32_tile *t, uint8_t *panel) {
    const anemo_n32_shape s = *t->shape;
    if (vnni_is_plain(&s, 32, false)) {
        codes16_decode_as(code, true, &s, t, panel);
    } else {
        codes16_decode_as(code, false, &s, t, panel);
    }
}

/* ---------------------------------------------------------------- few rows */

/* Asks for what lies `ahead` of [from, to). */
ANEMO_N32_INLINE void codes16_ask(const uint8_t *from, const uint8_t *to, int64_t ahead) {
    for (const uint8_t *at = from; ahead != 0 && at < to; at += 64) {
        _mm_prefetch((const char *)(at + ahead), _MM_HINT_T1);
    }
}

/* t->sum = x W^T over all columns, decoding as it goes. */
ANEMO_N32_INLINE void codes16_stream(int code, bool plain, bool tall, int64_t rows,
                                     const anemo_n32_shape *s, const anemo_n32_tile *t) {
    _Alignas(64) uint8_t ring[2][AMX16_DEPTH / 2 * AMX16_PAIR_BYTES];
    const codes16 c = codes16_of(code, s);
    codes16_walk walk = codes16_walk_from(plain, &c, s, t->block, t->column);
    const int64_t pieces = t->x_columns / AMX16_DEPTH; /* of a chunk of x */
    const uint8_t *x = t->x;
    int64_t left = pieces;
    amx16_configure(tall ? 16 : rows, tall ? rows - 16 : 1);
    anemo_amx_stored();
    amx16_load_sums(tall, t);
    codes16_decode_32(code, plain, &c, &walk, ring[0]);
    for (int64_t column = 0; column < t->columns; column += AMX16_DEPTH) {
        const int64_t at = column / AMX16_DEPTH;
        if (column + AMX16_DEPTH < t->columns) {
            const uint8_t *from = walk.at.w;
            codes16_decode_32(code, plain, &c, &walk, ring[(at + 1) & 1]);
            codes16_ask(from, walk.at.w, t->ahead);
        }
        anemo_amx_stored();
        amx16_step(tall, x, t->x_row_bytes, ring[at & 1]);
        const bool ends = --left == 0;
        x += ends ? t->x_chunk_bytes - 2 * (size_t)(t->x_columns - AMX16_DEPTH) : 2 * AMX16_DEPTH;
        left = ends ? pieces : left;
    }
    amx16_store_sums(tall, t);
}

ANEMO_N32_INLINE void codes16_stream_rows(int code, bool plain, int64_t rows,
                                          const anemo_n32_shape *s, const anemo_n32_tile *t) {
    if (rows > 16) {
        codes16_stream(code, plain, true, rows, s, t);
    } else {
        codes16_stream(code, plain, false, rows, s, t);
    }
}

ANEMO_N32_INLINE void codes16_tile_few(int code, int64_t rows, const anemo_n32_tile *t) {
    const anemo_n32_shape s = *t->shape;
    if (vnni_is_plain(&s, 32, false)) {
        codes16_stream_rows(code, true, rows, &s, t);
    } else {
        codes16_stream_rows(code, false, rows, &s, t);
    }
}

/* ---------------------------------------------------------------- x */

/* 32 columns of x in the order of codes16_values. */
ANEMO_N32_INLINE __m512i codes16_x_order(__m512i x) {
    return _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9,
                                                                       12, 13, 10, 11, 14, 15)));
}

#if AMX16_BF16
/* 32 columns from floats. */
ANEMO_N32_INLINE __m512i codes16_x_of(__m512 low, __m512 high) {
    const __m512 up = _mm512_set1_ps(0x1p100f);
    low = _mm512_mul_ps(low, up);
    high = _mm512_mul_ps(high, up);
    return codes16_x_order((__m512i)_mm512_cvtne2ps_pbh(high, low));
}

/* 32 columns of a record. */
ANEMO_N32_INLINE __m512i codes16_x(const uint8_t *record) {
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)record));
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(record + 32)));
    return codes16_x_of(_mm512_castsi512_ps(_mm512_slli_epi32(low, 16)),
                        _mm512_castsi512_ps(_mm512_slli_epi32(high, 16)));
}
#else
ANEMO_N32_INLINE __m512i codes16_x(const uint8_t *record) {
    return codes16_x_order(_mm512_loadu_si512(record));
}
#endif

/* Up to `columns` of x from `column` on; the record is padded with zeros to 32. */
static inline void codes16_x_columns(const uint8_t *row, int64_t k, int64_t column, int64_t columns,
                                     uint8_t *to) {
    const int64_t left = anemo_round_up(k, 32) - column;
    for (int64_t i = 0; i < left && i < columns; i += 32) {
        _mm512_storeu_si512(to + 2 * i, codes16_x(row + 2 * (column + i)));
    }
}

static inline void codes16_x_chunk(const uint8_t *row, int64_t k, int64_t column, float scale,
                                   uint8_t *to) {
    (void)scale; /* records are scaled already */
    codes16_x_columns(row, k, column, AMX16_CHUNK, to);
}

static inline void codes16_x_few(const uint8_t *row, int64_t k, int64_t column, float scale,
                                 uint8_t *to) {
    (void)scale;
    codes16_x_columns(row, k, column, AMX16_DEPTH, to);
}

/* ---------------------------------------------------------------- the form */

/* Defines `form` for weights of n32 codes of `width` bits, and what serves few rows. */
#define ANEMO_CODES16_FORM(width, x_scale_, accepts_)                                              \
    static size_t block_bytes(const anemo_weight_type *type, int64_t k) {                          \
        return anemo_n32_shape_of(type, k).block_bytes;                                            \
    }                                                                                              \
    static void decode(const anemo_n32_tile *t, uint8_t *panel) {                                  \
        codes16_decode(width, t, panel);                                                           \
    }                                                                                              \
    static void tile(int64_t rows, const anemo_n32_tile *t) {                                      \
        amx16_tile_rows(rows, t, t->panel);                                                        \
    }                                                                                              \
    static void tile_few(int64_t rows, const anemo_n32_tile *t) {                                  \
        codes16_tile_few(width, rows, t);                                                          \
    }                                                                                              \
    static const anemo_n32_form few = {                                                            \
        .tile_rows = ANEMO_AMX_ROWS,                                                               \
        .chunk = AMX16_DEPTH,                                                                      \
        .blocks = CODES16_FEW_BLOCKS,                                                              \
        .whole = true,                                                                             \
        .starts_sums = true,                                                                       \
        .of_codes = true,                                                                          \
        .block_bytes = block_bytes,                                                                \
        .tile = tile_few,                                                                          \
        .leave = anemo_amx_leave,                                                                  \
        .x_chunk_bytes = 2 * AMX16_DEPTH,                                                          \
        .x_chunk = codes16_x_few,                                                                  \
        .x_scale = x_scale_,                                                                       \
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
        .x_chunk = codes16_x_chunk,                                                                \
        .x_scale = x_scale_,                                                                       \
        .accepts = accepts_,                                                                       \
    };

#endif
