/* Tiles of 32 x 32 integer dot products on AMX, for 4-bit and 8-bit weights of any group of 32 and
 * more and activations in groups of 32, 128 or the row.
 *
 * tdpbssd multiplies a tile of 16 rows of x by 64 columns (s8) with one of 16 rows of W by the same
 * columns and adds 16 x 16 int32. Two of W serve 16 rows of x; the next 16 rows take the other
 * tile registers.
 *
 * W is decoded first (once per chunk of 512 columns, for all rows of a stretch) to a panel in L1:
 * [64 columns][rows 0-15, 16-31][16 x 4 columns][16 rows][4], which is what the second operand
 * wants. Codes are centred there (c - 2^(bits-1)), so that nothing has to be corrected; with a
 * minimum or a zero point they stay unsigned, tdpbsud multiplies them, and the sums of x come from
 * the driver. x is copied chunk by chunk, scales behind the codes: a tile of rows then lies in a
 * few pages instead of one per row.
 *
 * A segment is what has one scale of W and one of x: the shorter of the two groups, at most a
 * chunk. Its integers leave the tile registers through a buffer in L1 and join the float sums,
 *
 *     y += sx sw (sum c a)  (- sx o sum a)         sx = 1 for row activations: it multiplies last,
 *
 * one half tile behind: while the lower 16 rows multiply, the upper ones are stored, and joined
 * while they multiply the next segment (in turn: 340 cycles for 32 x 32 x 32, so: 270). A row goes
 * through the same operations in the same order whatever its tile, so its result does not depend
 * on m.
 *
 * The limit: a tdpbssd takes 16 cycles whatever the number of columns, so a segment of 32 uses half
 * of it; storing 32 x 32 sums takes 64 more, joining them 95, and little of that overlaps: 185
 * cycles in a loop of nothing else. The longer the segment, the better: groups of 32 are 1.1 to
 * 1.2 times as fast as the VNNI tile, groups of 128 1.7 to 2.1 times (Emerald Rapids, 64 and 512
 * rows, 14336 x 4096, in turns). Below 32 rows decoding is not paid back. On Granite Rapids groups
 * of 32 gain little (0.74 of VNNI at 32 rows, 0.95 and 1.05 at 128, 1.0 and 1.1 at 512), bf16 tiles
 * twice as much (tile_amxbf16.h); but these sums are those of the VNNI tile, bit for bit.
 *
 * Rejected: reading 8-bit codes as tiles straight from the layout (its vectors for rows 0-15 stand
 * at no constant stride); buffers 4 KiB apart (loads of one wait for stores to the other: 370
 * instead of 250 cycles); rows of x where they lie in their records (in L1 no slower, from L2 35
 * %); fetching x ahead by hand (8 % faster at groups of 32, 15 % slower at 128).
 *
 * Source: Intel Architecture Instruction Set Extensions Programming Reference, chapter 3 (AMX). */
#ifndef ANEMO_TILE_AMXINT8_H
#define ANEMO_TILE_AMXINT8_H

#include "kernels/qgemm/amx.h"
#include "kernels/qgemm/numbers_avx512.h"

#include <immintrin.h>

enum {
    ANEMO_AMX_CHUNK = 512,
    AMX_FROM = 128,               /* rows of x; one number, or the coarsest would be a default */
    AMX_DEPTH = 64,               /* columns of a tile */
    AMX_STEP_BYTES = 2 * 16 * 64, /* panel of 64 columns x 32 rows */
    AMX_SET_FLOATS = 64,          /* scales and offsets of a segment */
    AMX_X_BYTES = ANEMO_AMX_CHUNK + 64, /* 512 codes, up to 16 scales: an odd number of lines */
    AMX_SETS = ANEMO_AMX_CHUNK / 32,    /* segments of a chunk at most */
    AMX_CODE_BYTES = ANEMO_AMX_CHUNK / AMX_DEPTH * AMX_STEP_BYTES,
    AMX_PANEL_BYTES = AMX_CODE_BYTES + AMX_SETS * AMX_SET_FLOATS * 4
};

/* What a tile is made for; all constants. */
typedef struct anemo_amx_kind {
    int bits;
    int act_group; /* 0: one per row */
    bool has_offset;
    bool tall; /* 17 to 32 rows of x */
} anemo_amx_kind;

/* Columns that share both scales. */
ANEMO_N32_INLINE int64_t amx_segment(const anemo_n32_shape *s, int act_group) {
    const int64_t weight = s->group < ANEMO_AMX_CHUNK ? s->group : ANEMO_AMX_CHUNK;
    return act_group && act_group < weight ? act_group : weight;
}

/* ---------------------------------------------------------------- the panel */

/* 32 scales and 32 offsets of a group to set[64]. */
ANEMO_N32_INLINE void amx_decode_set(const anemo_n32_shape *s, const uint8_t *block, int64_t group,
                                     float *set) {
    const uint8_t *header = block + anemo_n32_group_at(s, group);
    for (int v = 0; v < 2; v++) {
        const __m512 scale = anemo_n32_numbers(s, header, v);
        const __m512 offset = anemo_n32_offsets(s, block, header, group, v, scale);
        _mm512_storeu_ps(set + 16 * v, scale);
        _mm512_storeu_ps(set + 32 + 16 * v, offset);
    }
}

/* 32 columns x 32 rows of codes to half a step of the panel. */
ANEMO_N32_INLINE void amx_decode_codes(int bits, bool centred, const uint8_t *codes,
                                       uint8_t *panel) {
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i middle = _mm512_set1_epi8((char)(centred ? 1 << (bits - 1) : 0));
    for (int step = 0; step < 4; step++) {
        for (int v = 0; v < 2; v++) {
            __m512i first, second;
            if (bits == 4) {
                const __m512i both = _mm512_loadu_si512(codes + 128 * step + 64 * v);
                first = _mm512_and_si512(both, low);
                second = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
            } else {
                first = _mm512_loadu_si512(codes + 256 * step + 128 * v);
                second = _mm512_loadu_si512(codes + 256 * step + 128 * v + 64);
            }
            uint8_t *to = panel + 1024 * v + 128 * step;
            _mm512_store_si512(to, _mm512_sub_epi8(first, middle));
            _mm512_store_si512(to + 64, _mm512_sub_epi8(second, middle));
        }
    }
}

ANEMO_N32_INLINE void amx_decode(int bits, int act_group, const anemo_n32_tile *t, uint8_t *panel) {
    const anemo_n32_shape s = anemo_n32_shape_of(t->type, t->k);
    const bool centred = !s.has_minimum && !s.has_zero;
    const int64_t end = anemo_round_up(t->column + t->columns, 32);
    const int64_t segment = amx_segment(&s, act_group);
    float *set = (float *)(void *)(panel + AMX_CODE_BYTES);
    for (int64_t column = t->column; column < end; column += segment) {
        amx_decode_set(&s, t->block, column / s.group, set);
        set += AMX_SET_FLOATS;
    }
    for (int64_t column = t->column; column < end; column += 32) {
        const int64_t group = column / s.group, at = column - t->column;
        const uint8_t *codes = t->block + anemo_n32_group_at(&s, group) + s.header_bytes +
                               (size_t)((column - group * s.group) / 8) * s.step_bytes;
        amx_decode_codes(bits, centred, codes,
                         panel + at / AMX_DEPTH * AMX_STEP_BYTES + at % AMX_DEPTH * 16);
    }
    if ((end - t->column) % AMX_DEPTH != 0) { /* the second half of the last step */
        uint8_t *half = panel + (end - t->column) / AMX_DEPTH * AMX_STEP_BYTES + 512;
        memset(half, 0, 512);
        memset(half + 1024, 0, 512);
    }
}

/* ---------------------------------------------------------------- tiles */

/* Tiles 0, 1: sums and 4: x of even units; 2, 3 and 5: of odd ones; 6, 7: W. */
ANEMO_N32_INLINE void amx_configure(int64_t even_rows, int64_t odd_rows, int64_t depth) {
    anemo_amx_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = i == 4 || i == 5 ? (uint16_t)depth : 64;
        c.rows[i] = (uint8_t)(i >= 6                       ? depth / 4
                              : i == 2 || i == 3 || i == 5 ? odd_rows
                                                           : even_rows);
    }
    anemo_amx_load_config(&c);
}

/* 16 rows of x times the columns of a segment of the panel, to the sums of `odd`. */
ANEMO_N32_INLINE void amx_multiply(bool odd, bool has_offset, const uint8_t *x, size_t stride,
                                   const uint8_t *panel, int64_t column, int64_t columns,
                                   int64_t depth) {
#define AMX_MULTIPLY(s0, s1, a)                                                                    \
    _tile_zero(s0);                                                                                \
    _tile_zero(s1);                                                                                \
    for (int64_t c = column; c < column + columns; c += depth) {                                   \
        const uint8_t *w = panel + c / AMX_DEPTH * AMX_STEP_BYTES + c % AMX_DEPTH * 16;            \
        _tile_loadd(6, w, 64);                                                                     \
        _tile_loadd(a, x + c, stride);                                                             \
        _tile_loadd(7, w + 1024, 64);                                                              \
        if (has_offset) {                                                                          \
            _tile_dpbsud(s0, a, 6);                                                                \
            _tile_dpbsud(s1, a, 7);                                                                \
        } else {                                                                                   \
            _tile_dpbssd(s0, a, 6);                                                                \
            _tile_dpbssd(s1, a, 7);                                                                \
        }                                                                                          \
    }
    if (odd) {
        AMX_MULTIPLY(2, 3, 5)
    } else {
        AMX_MULTIPLY(0, 1, 4)
    }
#undef AMX_MULTIPLY
}

ANEMO_N32_INLINE void amx_spill(bool odd, int32_t (*sums)[32]) {
    if (odd) {
        _tile_stored(2, sums[0], 128);
        _tile_stored(3, sums[0] + 16, 128);
    } else {
        _tile_stored(0, sums[0], 128);
        _tile_stored(1, sums[0] + 16, 128);
    }
}

/* A float that stands behind the codes of a chunk of x. */
typedef float anemo_amx_float __attribute__((may_alias, aligned(4)));

/* What joins the float sums: up to 16 rows of x times a segment of columns, from column 0 of the
 * row. */
typedef struct anemo_amx_unit {
    int64_t row, rows, column, columns;
    const float *set;
} anemo_amx_unit;

/* t->sum += scales times the integers of a unit. */
ANEMO_N32_INLINE void amx_join(anemo_amx_kind kind, const anemo_n32_tile *t, anemo_amx_unit unit,
                               const int32_t (*sums)[32]) {
    const __m512 scale[2] = {_mm512_loadu_ps(unit.set), _mm512_loadu_ps(unit.set + 16)};
    const size_t stride = t->x_row_bytes;
    const uint8_t *x_scale = t->x + (size_t)unit.row * stride + ANEMO_AMX_CHUNK;
    x_scale += kind.act_group ? 4 * ((unit.column - t->column) / kind.act_group) : 0;
    float *y = t->sum[unit.row];
    for (int64_t i = 0; i < unit.rows; i++, y += 32, x_scale += stride) {
        __m512 s0 = scale[0], s1 = scale[1];
        const __m512 sx = _mm512_set1_ps(*(const anemo_amx_float *)(const void *)x_scale);
        if (kind.act_group) {
            s0 = _mm512_mul_ps(s0, sx);
            s1 = _mm512_mul_ps(s1, sx);
        }
        __m512 y0 = _mm512_loadu_ps(y), y1 = _mm512_loadu_ps(y + 16);
        y0 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums[i])), s0, y0);
        y1 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums[i] + 16)), s1, y1);
        if (kind.has_offset) {
            const float *x_sums = t->x_sums + (unit.row + i) * anemo_ceil_div(t->k, 32);
            float total = 0.0f; /* exact: integers below 2^24 */
            for (int64_t c = unit.column; c < unit.column + unit.columns; c += 32) {
                total += x_sums[c / 32];
            }
            __m512 sum_x = _mm512_set1_ps(total);
            sum_x = kind.act_group ? _mm512_mul_ps(sum_x, sx) : sum_x;
            y0 = _mm512_fnmadd_ps(sum_x, _mm512_loadu_ps(unit.set + 32), y0);
            y1 = _mm512_fnmadd_ps(sum_x, _mm512_loadu_ps(unit.set + 48), y1);
        }
        _mm512_storeu_ps(y, y0);
        _mm512_storeu_ps(y + 16, y1);
    }
}

/* Row activations: their scale, once all columns are summed. */
ANEMO_N32_INLINE void amx_finish(int64_t rows, const anemo_n32_tile *t) {
    const uint8_t *x_scale = t->x + ANEMO_AMX_CHUNK;
    for (int64_t i = 0; i < rows; i++, x_scale += t->x_row_bytes) {
        const __m512 sx = _mm512_set1_ps(*(const anemo_amx_float *)(const void *)x_scale);
        _mm512_storeu_ps(t->sum[i], _mm512_mul_ps(_mm512_loadu_ps(t->sum[i]), sx));
        _mm512_storeu_ps(t->sum[i] + 16, _mm512_mul_ps(_mm512_loadu_ps(t->sum[i] + 16), sx));
    }
}

ANEMO_N32_INLINE anemo_amx_unit amx_unit_at(const anemo_n32_tile *t, int64_t rows, int64_t segment,
                                            int64_t u) {
    const int64_t halves = rows > 16 ? 2 : 1, half = u % halves, columns = t->columns;
    anemo_amx_unit unit = {.row = 16 * half, .column = u / halves * segment};
    unit.rows = half ? rows - 16 : rows > 16 ? 16 : rows;
    unit.columns = columns - unit.column < segment ? columns - unit.column : segment;
    unit.set =
        (const float *)(const void *)(t->panel + AMX_CODE_BYTES) + u / halves * AMX_SET_FLOATS;
    return unit;
}

ANEMO_N32_INLINE void amx_tile(anemo_amx_kind kind, int64_t rows, const anemo_n32_tile *t) {
    _Alignas(64) int32_t sums[2][16][32];
    const anemo_n32_shape s = anemo_n32_shape_of(t->type, t->k);
    const int64_t columns = t->columns, segment = amx_segment(&s, kind.act_group);
    const int64_t depth = segment % AMX_DEPTH == 0 || segment >= columns ? AMX_DEPTH : 32;
    const uint8_t *codes = t->block + (size_t)(t->column / 8) * s.step_bytes;
    const uint8_t *x = t->x, *low = x + 16 * t->x_row_bytes;
    anemo_amx_unit even = {.rows = kind.tall ? 16 : rows}, odd = {.row = 16, .rows = rows - 16};
    even.set = odd.set = (const float *)(const void *)(t->panel + AMX_CODE_BYTES);
    amx_configure(even.rows, kind.tall ? odd.rows : 1, depth);
    for (int64_t column = 0; column < columns; column += segment) {
        const int64_t part = columns - column < segment ? columns - column : segment;
        amx_multiply(false, kind.has_offset, x, t->x_row_bytes, t->panel, column, part, depth);
        if (column > 0) {
            amx_join(kind, t, even, (const int32_t(*)[32])sums[0]);
            even.set += AMX_SET_FLOATS;
        }
        if (kind.tall && column > 0) {
            amx_spill(true, sums[1]);
        }
        even.column = t->column + column;
        even.columns = part;
        if (kind.tall) {
            amx_multiply(true, kind.has_offset, low, t->x_row_bytes, t->panel, column, part, depth);
            if (column > 0) {
                amx_join(kind, t, odd, (const int32_t(*)[32])sums[1]);
                odd.set += AMX_SET_FLOATS;
            }
            odd.column = even.column;
            odd.columns = part;
        }
        amx_spill(false, sums[0]);
        anemo_n32_ahead(t, codes + (size_t)(column / 8) * s.step_bytes,
                        (size_t)(part / 8) * s.step_bytes);
    }
    if (kind.tall) {
        amx_spill(true, sums[1]);
    }
    _tile_release();
    amx_join(kind, t, even, (const int32_t(*)[32])sums[0]);
    if (kind.tall) {
        amx_join(kind, t, odd, (const int32_t(*)[32])sums[1]);
    }
    if (kind.act_group == 0 && t->column + t->columns >= t->k) {
        amx_finish(rows, t);
    }
}

ANEMO_N32_INLINE void amx_tile_rows(int bits, int act_group, int64_t rows,
                                    const anemo_n32_tile *t) {
    const bool has_offset = t->type->offset != ANEMO_OFFSET_NONE;
    if (rows > 16 && has_offset) {
        amx_tile((anemo_amx_kind){bits, act_group, true, true}, rows, t);
    } else if (rows > 16) {
        amx_tile((anemo_amx_kind){bits, act_group, false, true}, rows, t);
    } else if (has_offset) {
        amx_tile((anemo_amx_kind){bits, act_group, true, false}, rows, t);
    } else {
        amx_tile((anemo_amx_kind){bits, act_group, false, false}, rows, t);
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
        amx_tile_rows(width, group_, rows, t);                                                     \
    }                                                                                              \
    static void decode_##act_(const anemo_n32_tile *t, uint8_t *panel) {                           \
        amx_decode(width, group_, t, panel);                                                       \
    }                                                                                              \
    static void chunk_##act_(const uint8_t *row, int64_t k, int64_t column, uint8_t *to) {         \
        amx_x_chunk(group_, row, k, column, to);                                                   \
    }                                                                                              \
    static bool accepts_##act_(const anemo_qgemm_problem *p, char *why, size_t why_bytes) {        \
        return amx_accepts(p, group_, why, why_bytes);                                             \
    }                                                                                              \
    static const anemo_n32_form form_##act_ = {                                                    \
        .tile_rows = ANEMO_AMX_ROWS,                                                               \
        .chunk = ANEMO_AMX_CHUNK,                                                                  \
        .panel_bytes = AMX_PANEL_BYTES,                                                            \
        .wants_x_sums = true,                                                                      \
        .block_bytes = amx_block_bytes,                                                            \
        .decode = decode_##act_,                                                                   \
        .tile = tile_##act_,                                                                       \
        .x_sums = amx_x_sums,                                                                      \
        .x_chunk_bytes = AMX_X_BYTES,                                                              \
        .x_chunk = chunk_##act_,                                                                   \
        .accepts = accepts_##act_,                                                                 \
    };                                                                                             \
    ANEMO_N32_VARIANT(id, form_##act_, a8_##act_, ANEMO_CPU_AVX512 | ANEMO_CPU_AMX_INT8, layout_,  \
                      AMX_FROM, idea_)

#endif
