/* w4_n32k8 and w8_n32k4: 4-bit and 8-bit weights for the u8 x s8 dot-product instructions.
 *
 * Rows of W are packed in blocks of 32, one block after the other, so that a GEMV reads one
 * sequential stream. Inside a block, group after group of columns:
 *
 *   [zero points of all groups: 32 x u8 each, padded to 64 bytes]      only with zero points
 *   per group:  [32 scales][32 minima]                                 f16 or f32, as in the file
 *               per 8 columns k..k+7, two vectors (rows 0-15, 16-31):
 *     w4:       64 bytes: row r has bytes 4r..4r+3; low nibbles k..k+3, high nibbles k+4..k+7
 *     w8:       2 x 64 bytes: the same for k..k+3 and then k+4..k+7
 *
 * The four bytes of a row are what one 32-bit lane of vpdpbusd (sdot, mma) multiplies with four
 * activations. Codes stay unsigned; the kernel subtracts what the offset contributes, from the sums
 * that the a8 record carries. Columns are padded to 32 and rows to 32, with codes 0 and scales 0.
 * Without an offset, w4 with f16 scales takes exactly the bytes of Q4_0.
 *
 * Rejected: zero points beside the scales (they would misalign every vector), 16-row blocks (two
 * open streams per thread, and half as many operations per loaded activation). */
#ifndef ANEMO_LAYOUT_N32_H
#define ANEMO_LAYOUT_N32_H

#include "kernels/internal.h"

enum { ANEMO_N32_ROWS = 32, ANEMO_N32_K_MAX = 65536 };

typedef struct anemo_n32_shape {
    int64_t k, k_padded;
    int64_t groups, group; /* group: columns, k_padded when there is one per row */
    int32_t bits;          /* 4 or 8 */
    int32_t scale_bytes;   /* 2: f16, 4: f32 */
    bool has_minimum, has_zero;
    size_t zero_bytes;   /* of all groups of a block */
    size_t header_bytes; /* scales and minima of a group */
    size_t step_bytes;   /* codes of 32 rows x 8 columns */
    size_t block_bytes;
} anemo_n32_shape;

static inline anemo_n32_shape anemo_n32_shape_of(const anemo_weight_type *type, int64_t k) {
    anemo_n32_shape s = {.k = k, .k_padded = anemo_round_up(k, 32), .bits = type->bits};
    s.groups = anemo_weight_groups(type, k);
    s.group = type->group > 0 ? type->group : s.k_padded;
    s.scale_bytes = type->scale == ANEMO_SCALE_F16 ? 2 : 4;
    s.has_minimum = type->offset == ANEMO_OFFSET_MINIMUM;
    s.has_zero = type->offset == ANEMO_OFFSET_ZERO_POINT;
    s.zero_bytes = s.has_zero ? (size_t)anemo_round_up(32 * s.groups, 64) : 0;
    s.header_bytes = (size_t)(32 * s.scale_bytes * (s.has_minimum ? 2 : 1));
    s.step_bytes = (size_t)(32 * s.bits);
    s.block_bytes =
        s.zero_bytes + (size_t)s.groups * s.header_bytes + (size_t)(s.k_padded / 8) * s.step_bytes;
    return s;
}

/* Where group g of a block begins. */
static inline size_t anemo_n32_group_at(const anemo_n32_shape *s, int64_t g) {
    return s->zero_bytes + (size_t)g * (s->header_bytes + (size_t)(s->group / 8) * s->step_bytes);
}

#endif
