/* 4-bit codes of a 16-entry table (IQ4_NL, MXFP4, NF4) times 8-bit activations, 6 x 32 tiles of
 * vpdpbusd (tile_avx512vnni.h). vpshufb looks the nibbles up, in the table plus 128, because the
 * weights are the unsigned operand; the sum of the activations takes the 128 back, exactly. */
#include "kernels/qgemm/qgemm_avx512vnni.h"

ANEMO_VNNI_VARIANT(
    qgemm_w4ta8_tile_avx512vnni, w4t, VNNI_TABLE, g32, 32, "w4t_n32k8",
    "table codes by vpshufb, u8 x s8 dot products, 6x32 tile, one scale per 32 activations")
