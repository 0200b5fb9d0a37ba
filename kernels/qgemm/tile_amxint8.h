/* Tiles of 16 x 16 integer dot products on AMX, for 4-bit and 8-bit weights of any group of 32 and
 * more and activations in groups of 32, 128 or the row.
 *
 * tdpbssd multiplies a tile of 16 rows of x by 64 columns (s8) with one of 16 rows of W by the same
 * columns and adds 16 x 16 int32.
 *
 * W is decoded first (once per chunk of 512 columns, for all rows of a stretch) to a panel in L1:
 * [64 columns][rows 0-15, 16-31][16 x 4 columns][16 rows][4], which is what the second operand
 * wants. Codes are centred there (c - 2^(bits-1)), so that nothing has to be corrected; with a
 * minimum or a zero point they stay unsigned, tdpbsud multiplies them, and the sums of x come from
 * the driver. 4-bit codes stay where they are in the upper half of a byte, 16 times as large, for a
 * sixteenth of the scale: the sums stay exact. x is copied chunk by chunk, scales behind the codes:
 * a tile of rows then lies in a few pages instead of one per row.
 *
 * A segment is what has one scale of W and one of x: the shorter of the two groups, at most a
 * chunk. Its integers leave the tile registers through a buffer in L1 and join the float sums,
 *
 *     y += sx sw (sum c a)  (- sx o sum a)         sx = 1 for row activations: it multiplies last,
 *
 * which stay in 16 vectors for a whole chunk, while the other register multiplies the next segment.
 * A row goes through the same operations in the same order whatever its tile, so its result does
 * not depend on m; and they are those of the VNNI tile, bit for bit, so that a batch-invariant plan
 * takes both.
 *
 * The limit is storing tiles. Per segment of 32 and 16 x 16 results, in cycles, everything in L1:
 * multiplying 16, storing 15, joining 21; together 53 to 58, as nothing overlaps a tilestored
 * (storing and joining what was stored long before: 46; rings of 2 and 4 registers and buffers, and
 * addresses that share no offset of a page, make no difference). VNNI takes 88. With the panel to
 * decode that pays from 32 rows on in 4 bits and from 96 in 8. Times the VNNI tile, Granite
 * Rapids, 14336 x 4096: 4 bits 1.13 at 32 rows, 1.16 at 64, 1.37 at 512; 8 bits 1.0 at 32 to 64,
 * 1.10 at 96, 1.16 at 512. bf16 tiles have no segments and are twice as fast (tile_amxbf16.h).
 *
 * Rejected: float sums in memory beside 32 x 32 integers (0.74 of VNNI at 32 rows, 1.1 at 512);
 * reading 8-bit codes as tiles straight from the layout (its vectors for rows 0-15 stand at no
 * constant stride); rows of x where they lie in their records (in L1 no slower, from L2 35 %).
 *
 * Source: Intel Architecture Instruction Set Extensions Programming Reference, chapter 3 (AMX). */
#ifndef ANEMO_TILE_AMXINT8_H
#define ANEMO_TILE_AMXINT8_H

#include "kernels/amx.h"
#include "kernels/qgemm/numbers_avx512.h"

#include <immintrin.h>

enum {
    ANEMO_AMX_CHUNK = 512,
    AMX_FROM_W4 = 32, /* rows of x; one number, or the coarsest activations would be a default */
    AMX_FROM_W8 = 96,
    AMX_TILE_ROWS = 16,                 /* of x: their sums with 16 rows of W are 16 vectors */
    AMX_BLOCKS = 8,                     /* of 32 rows of W that take turns at a chunk of x */
    AMX_DEPTH = 64,                     /* columns of a tile */
    AMX_STEP_BYTES = 2 * 16 * 64,       /* panel of 64 columns x 32 rows */
    AMX_SET_FLOATS = 64,                /* scales and offsets of a segment */
    AMX_X_BYTES = ANEMO_AMX_CHUNK + 64, /* 512 codes, up to 16 scales: an odd number of lines */
    AMX_SETS = ANEMO_AMX_CHUNK / 32,    /* segments of a chunk at most */
    AMX_CODE_BYTES = ANEMO_AMX_CHUNK / AMX_DEPTH * AMX_STEP_BYTES,
    AMX_PANEL_BYTES = AMX_CODE_BYTES + AMX_SETS * AMX_SET_FLOATS * 4
};

/* What a tile is made for; all constants. */
typedef struct anemo_amx_kind {
    int act_group; /* 0: one per row */
    bool has_offset;
    int height; /* rows of x at most: 8 or 16 */
} anemo_amx_kind;

/* Columns that share both scales. */
ANEMO_N32_INLINE int64_t amx_segment(const anemo_n32_shape *s, int act_group) {
    const int64_t weight = s->group < ANEMO_AMX_CHUNK ? s->group : ANEMO_AMX_CHUNK;
    return act_group && act_group < weight ? act_group : weight;
}

/* ---------------------------------------------------------------- the panel */

/* 32 scales, of what the panel holds, and 32 offsets of a group to set[64]. */
ANEMO_N32_INLINE void amx_decode_set(int bits, const anemo_n32_shape *s, const uint8_t *block,
                                     const uint8_t *header, int64_t group, float *set) {
    for (int v = 0; v < 2; v++) {
        const __m512 scale = anemo_n32_numbers(s, header, v);
        const __m512 offset = anemo_n32_offsets(s, block, header, group, v, scale);
        const __m512 step = _mm512_set1_ps(bits == 4 ? 1.0f / 16 : 1.0f);
        _mm512_storeu_ps(set + 16 * v, _mm512_mul_ps(scale, step));
        _mm512_storeu_ps(set + 32 + 16 * v, offset);
    }
}

/* (codes & mask) ^ flip */
ANEMO_N32_INLINE __m512i amx_masked(__m512i codes, __m512i mask, __m512i flip) {
    return _mm512_ternarylogic_epi32(codes, mask, flip, 0x6a);
}

/* 32 columns x 32 rows of codes to half a step of the panel. */
ANEMO_N32_INLINE void amx_decode_codes(int bits, bool centred, const uint8_t *codes,
                                       uint8_t *panel) {
    const __m512i mask = _mm512_set1_epi8((char)(bits == 4 ? 0xf0 : 0xff));
    const __m512i flip = _mm512_set1_epi8((char)(centred ? 0x80 : 0));
    for (int step = 0; step < 4; step++) {
        for (int v = 0; v < 2; v++) {
            __m512i first, second;
            if (bits == 4) {
                second = _mm512_loadu_si512(codes + 128 * step + 64 * v);
                first = _mm512_slli_epi16(second, 4);
            } else {
                first = _mm512_loadu_si512(codes + 256 * step + 128 * v);
                second = _mm512_loadu_si512(codes + 256 * step + 128 * v + 64);
            }
            uint8_t *to = panel + 1024 * v + 128 * step;
            _mm512_store_si512(to, amx_masked(first, mask, flip));
            _mm512_store_si512(to + 64, amx_masked(second, mask, flip));
        }
    }
}

ANEMO_N32_INLINE void amx_decode(int bits, int act_group, const anemo_n32_tile *t, uint8_t *panel) {
    const anemo_n32_shape s = *t->shape;
    const bool centred = !s.has_minimum && !s.has_zero;
    const int64_t columns = anemo_round_up(t->columns, 32), segment = amx_segment(&s, act_group);
    anemo_n32_place at = anemo_n32_place_at(&s, t->block, t->column);
    int64_t group = t->column / s.group, left = s.group - t->column % s.group, of_segment = 0;
    float *set = (float *)(void *)(panel + AMX_CODE_BYTES);
    for (int64_t column = 0; column < columns; column += 32) {
        if (left == 0) {
            anemo_n32_next_group(&s, &at);
            group++;
            left = s.group;
        }
        if (of_segment == 0) {
            amx_decode_set(bits, &s, t->block, at.header, group, set);
            set += AMX_SET_FLOATS;
            of_segment = segment;
        }
        amx_decode_codes(bits, centred, at.w,
                         panel + column / AMX_DEPTH * AMX_STEP_BYTES + column % AMX_DEPTH * 16);
        at.w += 4 * s.step_bytes;
        left -= 32;
        of_segment -= 32;
    }
    if (columns % AMX_DEPTH != 0) { /* the second half of the last step */
        uint8_t *half = panel + columns / AMX_DEPTH * AMX_STEP_BYTES + 512;
        memset(half, 0, 512);
        memset(half + 1024, 0, 512);
    }
}

/* ---------------------------------------------------------------- tiles */

/* A float that stands behind the codes of a chunk of x. */
typedef float anemo_amx_float __attribute__((may_alias, aligned(4)));

/* Up to 16 rows of x times 16 of W. */
typedef struct anemo_amx_half {
    const anemo_n32_tile *tile;
    int64_t rows, segment, depth; /* depth: columns of a tile register */
    const uint8_t *codes;         /* of the panel */
    const float *sets;
    const float (*totals)[AMX_TILE_ROWS]; /* of x by segment and row, where W has an offset */
} anemo_amx_half;

/* Tiles 0, 1: sums; 4, 5: x; 6, 7: W. */
ANEMO_N32_INLINE void amx_configure(int64_t rows, int64_t depth) {
    const int64_t shape = rows * 128 + depth;
    if (anemo_amx_shape == shape) {
        return;
    }
    anemo_amx_shape = shape;
    anemo_amx_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = i == 4 || i == 5 ? (uint16_t)depth : 64;
        c.rows[i] = (uint8_t)(i >= 6 ? depth / 4 : rows);
    }
    anemo_amx_load_config(&c);
}

/* Segment `at` to sums c, through a and b. */
#define AMX_MULTIPLY(c, a, b, kind, half, at)                                                      \
    do {                                                                                           \
        const anemo_n32_tile *t_ = (half)->tile;                                                   \
        int64_t column_ = (at) * (half)->segment;                                                  \
        const int64_t left_ = t_->columns - column_;                                               \
        const int64_t end_ = column_ + ((half)->segment < left_ ? (half)->segment : left_);        \
        _tile_zero(c);                                                                             \
        do {                                                                                       \
            _tile_loadd(b,                                                                         \
                        (half)->codes + column_ / AMX_DEPTH * AMX_STEP_BYTES +                     \
                            column_ % AMX_DEPTH * 16,                                              \
                        64);                                                                       \
            _tile_loadd(a, t_->x + column_, AMX_X_BYTES);                                          \
            if ((kind).has_offset) {                                                               \
                _tile_dpbsud(c, a, b);                                                             \
            } else {                                                                               \
                _tile_dpbssd(c, a, b);                                                             \
            }                                                                                      \
            column_ += (half)->depth;                                                              \
        } while ((kind).act_group != 32 && column_ < end_);                                        \
    } while (0)

/* totals[segment][row] of x; exact: integers below 2^24. */
static inline void amx_totals(const anemo_amx_half *half, float (*totals)[AMX_TILE_ROWS]) {
    const anemo_n32_tile *t = half->tile;
    for (int64_t column = 0; column < t->columns; column += half->segment, totals++) {
        const int64_t left = t->columns - column;
        const int64_t end = column + (half->segment < left ? half->segment : left);
        for (int64_t i = 0; i < AMX_TILE_ROWS; i++) {
            const int64_t row = i < half->rows ? i : half->rows - 1;
            const float *x_sums = t->x_sums + row * anemo_ceil_div(t->k, 32) + t->column / 32;
            float total = 0.0f;
            for (int64_t c = column; c < end; c += 32) {
                total += x_sums[c / 32];
            }
            (*totals)[i] = total;
        }
    }
}

/* y += scales times the integers of a segment; rows that are not there repeat the last one. */
ANEMO_N32_INLINE void amx_join(anemo_amx_kind kind, int64_t rows, const anemo_amx_half *half,
                               int64_t at, const int32_t (*sums)[16], __m512 y[AMX_TILE_ROWS]) {
    const float *set = half->sets + at * AMX_SET_FLOATS;
    const __m512 scale = _mm512_loadu_ps(set), offset = _mm512_loadu_ps(set + 32);
    const uint8_t *x_scale = half->tile->x + ANEMO_AMX_CHUNK;
    x_scale += kind.act_group ? 4 * (at * half->segment / kind.act_group) : 0;
    ANEMO_N32_UNROLL
    for (int i = 0; i < kind.height; i++) {
        const uint8_t *number = x_scale + (i < rows ? i : rows - 1) * AMX_X_BYTES;
        const __m512 sx = _mm512_set1_ps(*(const anemo_amx_float *)(const void *)number);
        const __m512 s = kind.act_group ? _mm512_mul_ps(scale, sx) : scale;
        y[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums[i])), s, y[i]);
        if (kind.has_offset) {
            __m512 total = _mm512_set1_ps(half->totals[at][i]);
            total = kind.act_group ? _mm512_mul_ps(total, sx) : total;
            y[i] = _mm512_fnmadd_ps(total, offset, y[i]);
        }
    }
}

/* t->sum += the chunk, of rows 16 v .. 16 v + 15 of W. */
ANEMO_N32_INLINE void amx_half_tile(anemo_amx_kind kind, int64_t rows, const anemo_n32_tile *t,
                                    const anemo_amx_half *half, int v) {
    _Alignas(64) int32_t sums[2][AMX_TILE_ROWS][16];
    __m512 y[AMX_TILE_ROWS];
    const int64_t segments = anemo_ceil_div(t->columns, half->segment);
    ANEMO_N32_UNROLL
    for (int i = 0; i < kind.height; i++) {
        y[i] = _mm512_setzero_ps();
        if (i < rows && t->column > 0) {
            y[i] = _mm512_loadu_ps(t->sum[i] + 16 * v);
        }
    }
    anemo_amx_stored();
    for (int64_t at = 0; at <= segments; at += 2) {
        if (at < segments) {
            AMX_MULTIPLY(0, 4, 6, kind, half, at);
        }
        if (at > 0) {
            amx_join(kind, rows, half, at - 1, (const int32_t(*)[16])sums[1], y);
        }
        if (kind.act_group != 32 && at == 0) {
            anemo_n32_ask(t, (size_t)v, 2);
        } else if (kind.act_group == 32 && at < AMX_SETS) {
            anemo_n32_ask(t, (size_t)(at / 2 + v * AMX_SETS / 2), AMX_SETS);
        }
        if (at < segments) {
            _tile_stored(0, sums[0], 64);
            if (at + 1 < segments) {
                AMX_MULTIPLY(1, 5, 7, kind, half, at + 1);
            }
            amx_join(kind, rows, half, at, (const int32_t(*)[16])sums[0], y);
            if (at + 1 < segments) {
                _tile_stored(1, sums[1], 64);
            }
        }
    }
    const bool finish = kind.act_group == 0 && t->column + t->columns >= t->k;
    ANEMO_N32_UNROLL
    for (int i = 0; i < kind.height; i++) {
        if (i < rows) {
            const uint8_t *x_scale = t->x + i * AMX_X_BYTES + ANEMO_AMX_CHUNK;
            const float sx = finish ? *(const anemo_amx_float *)(const void *)x_scale : 1.0f;
            _mm512_storeu_ps(t->sum[i] + 16 * v, _mm512_mul_ps(y[i], _mm512_set1_ps(sx)));
        }
    }
}

ANEMO_N32_INLINE void amx_tile(anemo_amx_kind kind, int64_t rows, const anemo_n32_tile *t) {
    const anemo_n32_shape s = *t->shape;
    anemo_amx_half half = {.tile = t, .rows = rows};
    half.segment = kind.act_group == 32 ? 32 : amx_segment(&s, kind.act_group);
    half.depth = half.segment % AMX_DEPTH == 0 || half.segment >= t->columns ? AMX_DEPTH : 32;
    half.depth = kind.act_group == 32 ? 32 : half.depth;
    half.codes = t->panel;
    half.sets = (const float *)(const void *)(t->panel + AMX_CODE_BYTES);
    float totals[AMX_SETS][AMX_TILE_ROWS];
    if (kind.has_offset) {
        amx_totals(&half, totals);
        half.totals = (const float(*)[AMX_TILE_ROWS])totals;
    }
    amx_configure(rows, half.depth);
    for (int v = 0; v < 2; v++) {
        amx_half_tile(kind, rows, t, &half, v);
        half.codes += 1024;
        half.sets += 16;
    }
}

ANEMO_N32_INLINE void amx_tile_rows(int act_group, bool has_offset, int64_t rows,
                                    const anemo_n32_tile *t) {
    if (rows == 16) {
        amx_tile((anemo_amx_kind){act_group, has_offset, 16}, 16, t);
    } else if (rows > 8) {
        amx_tile((anemo_amx_kind){act_group, has_offset, 16}, rows, t);
    } else {
        amx_tile((anemo_amx_kind){act_group, has_offset, 8}, rows, t);
    }
}

/* ---------------------------------------------------------------- the variant */

/* sums[k / 32 rounded up] of the codes. */
static inline void amx_x_sums(const uint8_t *row, int64_t k, float *sums) {
    for (int64_t b = 0; b < anemo_ceil_div(k, 32); b++) {
        const __m512i codes =
            _mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)(row + 32 * b)));
        const __m512i pairs = _mm512_madd_epi16(codes, _mm512_set1_epi16(1));
        sums[b] = (float)_mm512_reduce_add_epi32(pairs);
    }
}

/* 512 codes from `column` on and the scales of their groups, of which one per row has only one. */
static inline void amx_x_chunk(int act_group, const uint8_t *row, int64_t k, int64_t column,
                               uint8_t *to) {
    const int64_t kp = anemo_a8_padded_k(k), left = kp - column;
    const int64_t columns = left < ANEMO_AMX_CHUNK ? left : ANEMO_AMX_CHUNK;
    memcpy(to, row + column, (size_t)columns);
    memset(to + columns, 0, (size_t)(ANEMO_AMX_CHUNK - columns));
    if (act_group) {
        memcpy(to + ANEMO_AMX_CHUNK, row + kp + 4 * (column / act_group),
               (size_t)(4 * columns / act_group));
    } else {
        memcpy(to + ANEMO_AMX_CHUNK, row + kp, 4);
    }
}

static inline size_t amx_block_bytes(const anemo_weight_type *type, int64_t k) {
    return anemo_n32_shape_of(type, k).block_bytes;
}

static inline bool amx_accepts(const anemo_qgemm_problem *p, int32_t act_group, char *why,
                               size_t why_bytes) {
    for (int32_t i = 0; i < p->n_parts; i++) {
        const int32_t group = p->type[i].group;
        if (group % 32 != 0 || (act_group && group % act_group != 0 && act_group % group != 0)) {
            return anemo_refuse(why, why_bytes,
                                "weight group %d; multiples of 32 or one per row are accepted",
                                (int)group);
        }
    }
    return true;
}

/* Defines the variant `id` for codes of `width` bits reading activations a8_ACT. */
#define ANEMO_AMX_VARIANT(id, width, act_, group_, layout_, idea_)                                 \
    static void tile_##act_(int64_t rows, const anemo_n32_tile *t) {                               \
        if (t->type->offset != ANEMO_OFFSET_NONE) {                                                \
            amx_tile_rows(group_, true, rows, t);                                                  \
        } else {                                                                                   \
            amx_tile_rows(group_, false, rows, t);                                                 \
        }                                                                                          \
    }                                                                                              \
    static void decode_##act_(const anemo_n32_tile *t, uint8_t *panel) {                           \
        amx_decode(width, group_, t, panel);                                                       \
    }                                                                                              \
    static void chunk_##act_(const uint8_t *row, int64_t k, int64_t column, float scale,           \
                             uint8_t *to) {                                                        \
        (void)scale;                                                                               \
        amx_x_chunk(group_, row, k, column, to);                                                   \
    }                                                                                              \
    static bool accepts_##act_(const anemo_qgemm_problem *p, char *why, size_t why_bytes) {        \
        return amx_accepts(p, group_, why, why_bytes);                                             \
    }                                                                                              \
    static const anemo_n32_form form_##act_ = {                                                    \
        .tile_rows = AMX_TILE_ROWS,                                                                \
        .chunk = ANEMO_AMX_CHUNK,                                                                  \
        .blocks = AMX_BLOCKS,                                                                      \
        .starts_sums = true,                                                                       \
        .panel_bytes = AMX_PANEL_BYTES,                                                            \
        .wants_x_sums = true,                                                                      \
        .of_codes = true,                                                                          \
        .block_bytes = amx_block_bytes,                                                            \
        .decode = decode_##act_,                                                                   \
        .tile = tile_##act_,                                                                       \
        .leave = anemo_amx_leave,                                                                  \
        .x_sums = amx_x_sums,                                                                      \
        .x_chunk_bytes = AMX_X_BYTES,                                                              \
        .x_chunk = chunk_##act_,                                                                   \
        .accepts = accepts_##act_,                                                                 \
    };                                                                                             \
    ANEMO_N32_VARIANT(id, form_##act_, a8_##act_, ANEMO_CPU_AVX512 | ANEMO_CPU_AMX_INT8, layout_,  \
                      AMX_FROM_W##width, idea_)

#endif
