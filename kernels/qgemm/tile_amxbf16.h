/* The tile of tile_amx16.h on bf16, for weights of any group, where tile_amxfp16.h does not fit.
 *
 *     w = bf16(f16(s c - o))    off by 2^-8 of itself at most; x as a bf16 record
 *
 * so a product is off by two roundings, of x and of w, 0.0016 of it each (root mean square), where
 * an 8-bit activation is off by up to max|x| / 254 of its group: 0.005 of x for normal x in groups
 * of 32. It is the more accurate of the two.
 *
 * Why not integers: there, sums have to leave the tile registers at the end of each group, which
 * for groups of 32 costs three times the multiplication (tile_amxint8.h). Here a group costs
 * nothing, and bf16 has half the rate of int8.
 *
 * Where a plan takes it a token's bits depend on the batch it came in; a batch-invariant plan does
 * not. Emerald Rapids with a restless neighbour, 14336 x 4096, speed times the VNNI tile (times
 * decoding through floats, of which nine operations made 32 weights and now five and a half do):
 *
 *              q4_0           q8_0           q4_k    q5_k    q6_k    mxfp4    iq4_nl
 *   m = 8      0.89           0.90           0.85    0.70    0.84    0.86     0.77
 *   m = 16     1.32 (1.86)    1.05 (1.62)    1.57    1.32    1.44    1.36     1.24
 *   m = 32     1.47 (1.68)    1.35 (1.82)    2.08    1.68    1.83    1.57     1.39
 *   m = 64     1.28 (1.11)    1.26 (0.97)
 *   m = 512    1.61 (0.99)    1.40
 *
 * Granite Rapids, through floats: 512 rows 2.64 times the VNNI tile in q4_0, 2.25 in q8_0, 3.24 in
 * q4_k, 4.33 in q6_k. */
#ifndef ANEMO_TILE_AMXBF16_H
#define ANEMO_TILE_AMXBF16_H

#define AMX16_BF16 1
#include "kernels/qgemm/codes_amx16.h"

enum {
    ANEMO_AMX_BF16_FROM = 16, /* rows of x from which a plan takes it */
    ANEMO_AMX_BF16_FROM_W8 = 32
};

/* Defines `form` for weights of n32 codes of `width` bits. */
#define ANEMO_AMX_BF16_FORM(width) ANEMO_CODES16_FORM(width, NULL, NULL)

#define ANEMO_AMX_BF16_NEEDS                                                                       \
    (ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VBMI | ANEMO_CPU_AVX512_BF16 | ANEMO_CPU_AMX_BF16)

#endif
