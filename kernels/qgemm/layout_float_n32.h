/* float_n32: float weights for register tiles that hold one weight row per lane.
 *
 * Rows of W are packed in blocks of 32, one block after the other, so that a GEMV reads one
 * sequential stream. Inside a block, column after column:
 *
 *   f32    per column          32 x 4 bytes: rows 0-31
 *   f16    per column          32 x 2 bytes: rows 0-31
 *   bf16   per two columns     32 x 4 bytes: row r has its columns k and k+1 side by side
 *
 * The pair of a bf16 row is what one 32-bit lane of vdpbf16ps multiplies with two activations; for
 * float activations a shift makes a float of column k and a mask one of k+1, so that one resident
 * form serves both. f16 is converted by an instruction that wants the rows side by side. An odd k
 * gives the last bf16 pair a zero; rows are padded to 32 with zeros. Values are never rounded.
 *
 * Rejected: f16 in pairs like bf16 (a shuffle more per conversion); blocks of 16 rows (half the
 * work per broadcast activation). */
#ifndef ANEMO_LAYOUT_FLOAT_N32_H
#define ANEMO_LAYOUT_FLOAT_N32_H

#include "kernels/internal.h"

enum { ANEMO_FLOAT_N32_ROWS = 32, ANEMO_FLOAT_N32_K_MAX = 65536 };

/* Bytes of `columns` columns of a block (an odd number of bf16 columns ends with a zero). */
static inline size_t anemo_float_n32_bytes(const anemo_weight_type *type, int64_t columns) {
    const size_t per_pair = type->code == ANEMO_CODE_F32 ? 256 : 128;
    const size_t last = type->code == ANEMO_CODE_BF16 ? 128 : per_pair / 2;
    return (size_t)(columns / 2) * per_pair + (size_t)(columns % 2) * last;
}

#endif
