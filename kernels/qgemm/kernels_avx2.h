/* The AVX2 kernels of a block of 32 weight rows, by type of weight: what experts of any type
 * (moe/moe_experts_wxa8_fused_avx2.c) take from the variants of qgemm, which define them. They read
 * a8_g32. */
#ifndef ANEMO_KERNELS_AVX2_H
#define ANEMO_KERNELS_AVX2_H

#include "kernels/qgemm/gemv_avx2.h"

typedef struct anemo_avx2_kernel {
    /* out[mr][32] of mr = 2 .. 6 records and one block */
    void (*rows)(int64_t mr, const anemo_avx2_tile *t, float out[][ANEMO_AVX2_COLUMNS]);
    /* out[streams][32] of one record and 1 .. 3 blocks */
    void (*gemv)(int streams, const anemo_avx2_gemv *g, float out[][ANEMO_AVX2_COLUMNS]);
    bool digits; /* gemv reads the digits of the record (gemv_avx2.h) */
} anemo_avx2_kernel;

extern const anemo_avx2_kernel anemo_avx2_w4, anemo_avx2_w4s, anemo_avx2_w4t, anemo_avx2_w5,
    anemo_avx2_w6, anemo_avx2_w8, anemo_avx2_w8s;
extern const anemo_avx2_kernel anemo_avx2_w4g128, anemo_avx2_w8g128; /* these read a8_g128 */

/* Of a valid type; NULL: no kernel knows it. */
static inline const anemo_avx2_kernel *anemo_avx2_kernel_of(const anemo_weight_type *type) {
    static const anemo_avx2_kernel *const kernels[ANEMO_N32_KINDS + 1] = {
        [ANEMO_N32_W4] = &anemo_avx2_w4,   [ANEMO_N32_W4S] = &anemo_avx2_w4s,
        [ANEMO_N32_W4T] = &anemo_avx2_w4t, [ANEMO_N32_W5] = &anemo_avx2_w5,
        [ANEMO_N32_W6] = &anemo_avx2_w6,   [ANEMO_N32_W8] = &anemo_avx2_w8,
        [ANEMO_N32_W8S] = &anemo_avx2_w8s};
    return type->bits == 5 && type->group == 16 ? NULL : kernels[anemo_n32_kind_of(type)];
}

#endif
