/* Weights in blocks of 32 rows for the u8 x s8 dot-product instructions.
 *
 * Rows of W are packed in blocks of 32, one block after the other, so that a GEMV reads one
 * sequential stream. Inside a block, unit after unit of columns:
 *
 *   [zero points of all groups: 32 x u8 each, padded to 64 bytes]      only with zero points
 *   per unit:  [header: scales and minima of its groups, padded to 64 bytes]
 *              [codes: 128 * bits bytes per 32 columns]
 *
 * Codes. The four bytes of a row are what one 32-bit lane of vpdpbusd (sdot, mma) multiplies with
 * four activations. A vector holds 16 rows, row r in bytes 4r .. 4r+3. Per 8 columns k..k+7, for
 * rows 0-15 and then 16-31:
 *
 *   w4_n32k8, w4s, w4t   low nibbles k..k+3, high nibbles k+4..k+7
 *   w8_n32k4, w8s        a vector for k..k+3 and one for k+4..k+7
 *   w5_n32k8             as w4; the fifth bits of 32 columns stand before them in two vectors (rows
 *                        0-15, 16-31): bit 2s of a byte belongs to k+8s.., bit 2s+1 to k+8s+4..
 *   w6_n32k8             three vectors hold four: the low 6 bits of each are k..k+3 of rows 0-15
 * and 16-31 and k+4..k+7 of rows 0-15; the 2 high bits together, lowest first, are k+4..k+7 of rows
 * 16-31
 *
 * wx_n32 is whichever of these a matrix's type asks for: the layout of experts of mixed types.
 *
 * Codes stay unsigned; the kernel subtracts what the offset contributes, from the sums that the a8
 * record carries. Columns are padded to 32 and rows to 32, with codes 0 and scales 0.
 *
 * Scales. w4_n32k8 and w8_n32k4: f16 or f32 as in the file, groups of 32 columns and more; a unit
 * is a group: [32 scales][32 minima]. Without an offset, w4 with f16 scales takes exactly the bytes
 * of Q4_0. The others take every form of scale and group. Small ones share a header, so that codes
 * stay aligned: a unit is 32 columns for f16 and f32, 256 for
 *
 *   e8m0        [32 x u8 exponents] per group
 *   two-level   [32 f16 d][32 f16 d of minima], then [32 x s8 q][32 x u8 q of minima] per group;
 *               scale = d q. The reader delivers the products; d and q are found again by trying
 *               divisors (any pair that gives the same floats will do). Q6_K keeps its bytes; Q4_K
 *               and Q5_K, whose q have 6 bits in the file, take 2.8 and 2.3 % more.
 *
 * Rejected: zero points beside the scales (they would misalign every vector), 16-row blocks (two
 * open streams per thread, and half as many operations per loaded activation); f32 products for
 * two-level scales (Q4_K would take a third more); fifth bits as 64-bit masks (kmov from memory
 * costs a cycle of the dot products, a vector shift does not). */
#ifndef ANEMO_LAYOUT_N32_H
#define ANEMO_LAYOUT_N32_H

#include "kernels/internal.h"

enum { ANEMO_N32_ROWS = 32, ANEMO_N32_K_MAX = 65536, ANEMO_N32_UNIT = 256 };

typedef struct anemo_n32_shape {
    int64_t k, k_padded;
    int64_t groups, group; /* group: columns, k_padded when there is one per row */
    int64_t unit, sets;    /* columns under one header, groups in it */
    int32_t bits;          /* 4, 5, 6 or 8 */
    int32_t scale_bytes;   /* 2: f16, 4: f32, 1: e8m0 or the second level */
    bool has_minimum, has_zero, two_level, is_table;
    uint8_t table[16];   /* of 4-bit tables: values + 128 */
    size_t zero_bytes;   /* of all groups of a block */
    size_t level_bytes;  /* of the first level, at the front of a header */
    size_t set_bytes;    /* scales and minima of a group */
    size_t header_bytes; /* of a unit */
    size_t step_bytes;   /* codes of 32 rows x 8 columns */
    size_t block_bytes;
} anemo_n32_shape;

static inline anemo_n32_shape anemo_n32_shape_of(const anemo_weight_type *type, int64_t k) {
    anemo_n32_shape s = {.k = k, .k_padded = anemo_round_up(k, 32), .bits = type->bits};
    const bool small = type->scale == ANEMO_SCALE_E8M0 || type->scale == ANEMO_SCALE_TWO_LEVEL;
    const int64_t least = small ? ANEMO_N32_UNIT : 32;
    s.groups = anemo_weight_groups(type, k);
    s.group = type->group > 0 ? type->group : s.k_padded;
    s.unit = s.group > least || type->group == 0 ? s.group : least;
    s.sets = s.unit / s.group;
    s.scale_bytes = small ? 1 : type->scale == ANEMO_SCALE_F16 ? 2 : 4;
    s.has_minimum = type->offset == ANEMO_OFFSET_MINIMUM;
    s.has_zero = type->offset == ANEMO_OFFSET_ZERO_POINT;
    s.two_level = type->scale == ANEMO_SCALE_TWO_LEVEL;
    s.is_table = type->code == ANEMO_CODE_TABLE;
    for (int i = 0; i < 16; i++) {
        s.table[i] = (uint8_t)(type->table[i] + 128);
    }
    const int64_t numbers = s.has_minimum ? 64 : 32;
    s.zero_bytes = s.has_zero ? (size_t)anemo_round_up(32 * s.groups, 64) : 0;
    s.level_bytes = s.two_level ? (size_t)(2 * numbers) : 0;
    s.set_bytes = (size_t)(numbers * s.scale_bytes);
    s.header_bytes = s.level_bytes + (size_t)anemo_round_up((int64_t)s.set_bytes * s.sets, 64);
    s.step_bytes = (size_t)(32 * s.bits);
    s.block_bytes = s.zero_bytes + (size_t)anemo_ceil_div(s.k_padded, s.unit) * s.header_bytes +
                    (size_t)(s.k_padded / 8) * s.step_bytes;
    return s;
}

/* The layouts by name, for whoever has a kernel for each (experts of mixed types). */
typedef enum anemo_n32_kind {
    ANEMO_N32_W4,
    ANEMO_N32_W4S,
    ANEMO_N32_W4T,
    ANEMO_N32_W5,
    ANEMO_N32_W6,
    ANEMO_N32_W8,
    ANEMO_N32_W8S,
    ANEMO_N32_KINDS /* floats */
} anemo_n32_kind;

/* w4_n32k8 and w8_n32k4 have f16 or f32 scales and groups of 32 and more; the others leave it to
 * them. */
static inline bool anemo_n32_is_plain(const anemo_weight_type *type) {
    return (type->scale == ANEMO_SCALE_F16 || type->scale == ANEMO_SCALE_F32) && type->group != 16;
}

/* Of a valid type. */
static inline anemo_n32_kind anemo_n32_kind_of(const anemo_weight_type *type) {
    const bool plain = anemo_n32_is_plain(type);
    if (type->code != ANEMO_CODE_LINEAR) {
        return type->code == ANEMO_CODE_TABLE ? ANEMO_N32_W4T : ANEMO_N32_KINDS;
    }
    return type->bits == 4   ? plain ? ANEMO_N32_W4 : ANEMO_N32_W4S
           : type->bits == 5 ? ANEMO_N32_W5
           : type->bits == 6 ? ANEMO_N32_W6
           : plain           ? ANEMO_N32_W8
                             : ANEMO_N32_W8S;
}

/* Where the header of group g's unit begins in a block; the codes follow it. */
static ANEMO_HOST_DEVICE inline size_t anemo_n32_group_at(const anemo_n32_shape *s, int64_t g) {
    const int64_t unit = g / s->sets;
    return s->zero_bytes + (size_t)unit * (s->header_bytes + (size_t)(s->unit / 8) * s->step_bytes);
}

/* Where the scales of group g stand in its header; its minima follow. */
static ANEMO_HOST_DEVICE inline size_t anemo_n32_scales_at(const anemo_n32_shape *s, int64_t g) {
    return s->level_bytes + (size_t)(g % s->sets) * s->set_bytes;
}

/* Where a walk through a block stands. */
typedef struct anemo_n32_place {
    const uint8_t *w, *header, *scales; /* codes; the header and scales of their group */
    int64_t sets;                       /* left under this header */
} anemo_n32_place;

/* Goes on to the next group, or under the next header, which stands at w. */
static inline void anemo_n32_next_group(const anemo_n32_shape *s, anemo_n32_place *at) {
    at->scales += s->set_bytes;
    if (at->sets == 0) {
        at->header = at->w;
        at->scales = at->w + s->level_bytes;
        at->w += s->header_bytes;
        at->sets = s->sets;
    }
    at->sets--;
}

/* The place of a column that is a multiple of 32. */
static inline anemo_n32_place anemo_n32_place_at(const anemo_n32_shape *s, const uint8_t *block,
                                                 int64_t column) {
    const int64_t group = column / s->group, unit = group / s->sets * s->unit;
    anemo_n32_place at = {.header = block + anemo_n32_group_at(s, group)};
    at.scales = at.header + anemo_n32_scales_at(s, group);
    at.w = at.header + s->header_bytes + (size_t)((column - unit) / 8) * s->step_bytes;
    at.sets = s->sets - 1 - group % s->sets;
    return at;
}

#endif
