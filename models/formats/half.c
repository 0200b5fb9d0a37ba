/* float to half precision, round to nearest, ties to even. */
#include "models/formats/internal.h"

uint16_t anemo_f32_f16(float value) {
    const uint32_t bits = anemo_f32_bits(value), magnitude = bits & 0x7fffffffu;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (magnitude > 0x7f800000u) /* NaN stays one */
        return sign | 0x7e00u;
    if (magnitude >= 0x477ff000u) /* 65520 and above round to infinity */
        return sign | 0x7c00u;
    if (magnitude < 0x38800000u) /* below 2^-14: adding 1/2 makes the float unit round for us */
        return sign | (uint16_t)(anemo_f32_bits(anemo_bits_f32(magnitude) + 0.5f) - 0x3f000000u);
    return sign | (uint16_t)((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13);
}
