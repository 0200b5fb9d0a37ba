/* The tile of tile_amx16.h on f16, for weights whose scales are f16: finer than bf16, and decoded
 * in the fewest instructions, so that it serves few rows, too (codes_amx16.h).
 *
 * f16 has 11 bits: a weight is off by at most 2^-12 of itself and its offset. It is a multiple of
 * 2^-24 like its scale, so small ones lose nothing; one beyond 65504 would be infinite, and so
 * would its results. x comes as f16_row (kernel.h), scaled to its largest number, and sums are
 * scaled back: exact, by a power of two.
 *
 * 32 columns of 32 rows in 4 bits take 52 cycles to decode, 85 with two products, and 95 are what
 * reading them takes; from memory they take 150 to 170 on two cores. Granite Rapids, 14336 x 4096,
 * speed times the VNNI tile (times tile_amxbf16.h when that decoded through floats):
 *
 *              q4_0           q8_0           q4_k           q5_k           q6_k           iq4_nl
 *   m = 6      1.00           1.07           1.04           0.89           1.07           0.96
 *   m = 8      1.17           1.21           1.22           1.03           1.07           1.09
 *   m = 16     1.43           1.29           1.63           1.36           1.47           1.40
 *   m = 32     2.15 (1.90)    1.65 (2.38)    2.35 (1.84)    2.21 (2.15)    2.40 (1.87)    2.05
 *   m = 64     2.09 (1.22)    1.58 (1.39)    2.30 (1.17)    2.41 (1.43)    2.83 (1.31)    2.05
 *   m = 512    2.73 (1.05)    2.43 (1.06)    3.32 (1.05)    3.76 (1.09)    4.67 (1.07)    2.89 */
#ifndef ANEMO_TILE_AMXFP16_H
#define ANEMO_TILE_AMXFP16_H

enum {
    ANEMO_AMX_FP16_FROM = 6,      /* rows of x from which a plan takes it */
    ANEMO_AMX_FP16_FROM_OTHER = 8 /* of 5 bits and tables */
};

#define AMX16_BF16 0
#include "kernels/qgemm/codes_amx16.h"

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

/* Defines `form` for weights of n32 codes of `width` bits. */
#define ANEMO_AMX_FP16_FORM(width) ANEMO_CODES16_FORM(width, fp16_x_scale, fp16_accepts)

#define ANEMO_AMX_FP16_NEEDS (ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VBMI | ANEMO_CPU_AMX_FP16)

#endif
