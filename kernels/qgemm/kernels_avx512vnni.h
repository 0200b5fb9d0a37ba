/* The AVX-512 VNNI kernels of a block of 32 weight rows, by type of weight: what experts of any
 * type (moe/moe_experts_wxa8_fused_avx512vnni.c) take from the variants of qgemm, which define
 * them. */
#ifndef ANEMO_KERNELS_AVX512VNNI_H
#define ANEMO_KERNELS_AVX512VNNI_H

#include "kernels/qgemm/streams_avx512vnni.h"

/* out[mr][32]: vnni_tile_rows of fixed code and activation group */
typedef void (*anemo_vnni_rows_fn)(int64_t mr, const anemo_vnni_tile *t, anemo_vnni_ahead ahead,
                                   float out[][ANEMO_TILE_COLUMNS]);

typedef struct anemo_vnni_kernel {
    anemo_vnni_rows_fn rows, fine; /* fine: weight groups are finer than activation groups */
    anemo_vnni_streams_fn streams;
} anemo_vnni_kernel;

/* These read a8_g32; */
extern const anemo_vnni_kernel anemo_vnni_w4, anemo_vnni_w4s, anemo_vnni_w4t, anemo_vnni_w5,
    anemo_vnni_w6, anemo_vnni_w8, anemo_vnni_w8s;
/* a8_g128; a8_row. */
extern const anemo_vnni_kernel anemo_vnni_w4g128, anemo_vnni_w8g128, anemo_vnni_w4row,
    anemo_vnni_w8row;

/* Of a valid type; NULL: floats. */
static inline const anemo_vnni_kernel *anemo_vnni_kernel_of(const anemo_weight_type *type) {
    static const anemo_vnni_kernel *const kernels[ANEMO_N32_KINDS + 1] = {
        [ANEMO_N32_W4] = &anemo_vnni_w4,   [ANEMO_N32_W4S] = &anemo_vnni_w4s,
        [ANEMO_N32_W4T] = &anemo_vnni_w4t, [ANEMO_N32_W5] = &anemo_vnni_w5,
        [ANEMO_N32_W6] = &anemo_vnni_w6,   [ANEMO_N32_W8] = &anemo_vnni_w8,
        [ANEMO_N32_W8S] = &anemo_vnni_w8s};
    return kernels[anemo_n32_kind_of(type)];
}

#endif
