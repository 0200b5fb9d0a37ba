/* Narrow number formats by arithmetic on the value, not on the bits: x = f * 2^e is scaled so that
 * one unit is the last place of the target, and rint() rounds half to even. Slow, short, and
 * nothing like the shifts of the kernels. */
#include "harness/check/number.h"

#include <math.h>

/* A format with `mantissa` stored bits, smallest normal exponent `least`, largest exponent `most`.
 */
static uint16_t encode(double x, int mantissa, int least, int most) {
    const uint16_t sign = signbit(x) ? 0x8000u : 0;
    const uint16_t infinity = (uint16_t)((most - least + 2) << mantissa);
    if (isnan(x))
        return (uint16_t)(sign | infinity | (1u << (mantissa - 1)));
    if (isinf(x))
        return sign | infinity;
    if (x == 0)
        return sign;
    int exponent = ilogb(x);
    if (exponent < least)
        exponent = least;
    /* Units of the last place: below 2^(mantissa+1), which is reached by rounding up only. */
    double units = rint(ldexp(fabs(x), mantissa - exponent));
    if (ldexp(units, exponent - mantissa) >= ldexp(1, most + 1))
        return sign | infinity;
    /* (exponent - least) whole binades below, plus the units: carries go to the next binade. */
    return (uint16_t)(sign | (((unsigned)(exponent - least) << mantissa) + (unsigned)units));
}

static double decode(uint16_t bits, int mantissa, int least, int most) {
    const int exponent = (bits & 0x7FFF) >> mantissa;
    const int fraction = bits & ((1 << mantissa) - 1);
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == most - least + 2)
        return fraction ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, least - mantissa);
    return sign * ldexp((1 << mantissa) + fraction, exponent - 1 + least - mantissa);
}

uint16_t check_to_f16(double x) {
    return encode(x, 10, -14, 15);
}
double check_from_f16(uint16_t bits) {
    return decode(bits, 10, -14, 15);
}
uint16_t check_to_bf16(double x) {
    return encode(x, 7, -126, 127);
}
double check_from_bf16(uint16_t bits) {
    return decode(bits, 7, -126, 127);
}
