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

/* NULL: no kernel knows the type. */
static inline const anemo_avx2_kernel *anemo_avx2_kernel_of(const anemo_weight_type *type) {
    const bool plain =
        (type->scale == ANEMO_SCALE_F16 || type->scale == ANEMO_SCALE_F32) && type->group % 32 == 0;
    if (type->code == ANEMO_CODE_TABLE) {
        return type->bits == 4 ? &anemo_avx2_w4t : NULL;
    }
    if (type->code != ANEMO_CODE_LINEAR || (type->group % 32 != 0 && type->group != 16)) {
        return NULL;
    }
    switch (type->bits) {
    case 4:
        return plain ? &anemo_avx2_w4 : &anemo_avx2_w4s;
    case 5:
        return type->group != 16 ? &anemo_avx2_w5 : NULL;
    case 6:
        return &anemo_avx2_w6;
    case 8:
        return plain ? &anemo_avx2_w8 : &anemo_avx2_w8s;
    default:
        return NULL;
    }
}

#endif
