/* Floats -> codes.
 *
 * Linear, symmetric:
 *     8 bits  d = max|x| / 127                 q = round(x / d), halves away from zero
 *     4, 5    d = (x of largest |x|) / -2^(b-1)   q = min(2^b - 1, trunc(x / d + 2^(b-1) + 1/2)):
 *             the largest value is exact
 * x / d is x times the float reciprocal, in float, without contraction; codes are made with the
 * float d, and only then is d stored as half: so Q4_0 and Q8_0 are bit-identical to GGML's
 * (tests/oracle/make_requantise_golden.py), and any group size follows the same rule.
 *
 * Q4_K and Q6_K are not GGML's search. A group tries a few scales around the one that its range
 * asks for; for the codes of each, the best scale (and minimum) has a closed form, least squares;
 * the one of least error stays. Scales are then rounded to their 6 or 8 bits under the block's
 * half, and the codes are made once more with what the file will hold. Source of the linear rule:
 * ggml-org/ggml, ggml-quants.c, quantize_row_*_ref. */
#include "models/formats/convert.h"

#include <math.h>

/* 1 / d, or 0 where d is too small for a finite reciprocal: its half is 0, so are the values. */
static float reciprocal(float d) {
    const float r = d == 0 ? 0 : 1.0f / d;
    return isfinite(r) ? r : 0;
}

static float to_half(float value) {
    return anemo_f16_f32(anemo_f32_f16(value));
}

void anemo_quantise_linear(const float *x, int64_t n, int bits, bool f32, float *scale,
                           uint8_t *codes) {
    float largest = 0;
    for (int64_t i = 0; i < n; ++i)
        largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    const int middle = 1 << (bits - 1), most = (1 << bits) - 1;
    const float d = bits == 8 ? fabsf(largest) / 127 : largest / (float)-middle;
    const float inverse = reciprocal(d);
    for (int64_t i = 0; i < n; ++i) {
        const int q = bits == 8 ? (int)roundf(x[i] * inverse) + 128
                                : (int)(x[i] * inverse + ((float)middle + 0.5f));
        codes[i] = (uint8_t)(q < most ? q : most);
    }
    *scale = f32 ? d : to_half(d);
}

bool anemo_quantise_fits(const float *x, int64_t k, float limit) {
    for (int64_t i = 0; i < k; ++i)
        if (!(fabsf(x[i]) <= limit)) /* NaN has no place either */
            return false;
    return true;
}

static int clamp(float value, int low, int high) {
    const float rounded = roundf(value);
    return rounded < (float)low ? low : rounded > (float)high ? high : (int)rounded;
}

static void put_half(uint8_t *at, float value) {
    const uint16_t half = anemo_f32_f16(value);
    at[0] = (uint8_t)half;
    at[1] = (uint8_t)(half >> 8);
}

/* ---------------------------------------------------------------- Q6_K */

/* The best scale of 16 values with codes -32 .. 31. */
static float scale_6(const float *x) {
    float largest = 0, best = 0;
    double least = HUGE_VAL;
    for (int i = 0; i < 16; ++i)
        largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    for (int step = -4; step <= 4 && largest != 0; ++step) {
        const float inverse = reciprocal(largest / (-32 + 0.25f * (float)step));
        double xq = 0, qq = 0, error = 0;
        for (int i = 0; i < 16; ++i) {
            const int q = clamp(x[i] * inverse, -32, 31);
            xq += (double)x[i] * q;
            qq += (double)q * q;
        }
        const float d = qq > 0 ? (float)(xq / qq) : 0;
        for (int i = 0; i < 16; ++i) {
            const double e = x[i] - (double)d * clamp(x[i] * inverse, -32, 31);
            error += e * e;
        }
        best = error < least ? d : best;
        least = error < least ? error : least;
    }
    return best;
}

static void block_6(const float *x, uint8_t *out) {
    float scales[16], largest = 0;
    uint8_t q[256];
    for (int g = 0; g < 16; ++g) {
        scales[g] = scale_6(x + 16 * g);
        largest = fabsf(scales[g]) > largest ? fabsf(scales[g]) : largest;
    }
    const float d = to_half(largest / 127), inverse = reciprocal(d);
    for (int g = 0; g < 16; ++g) {
        const int s = clamp(scales[g] * inverse, -128, 127);
        const float each = reciprocal(d * (float)s);
        out[192 + g] = (uint8_t)(int8_t)s;
        for (int i = 0; i < 16; ++i)
            q[16 * g + i] = (uint8_t)(clamp(x[16 * g + i] * each, -32, 31) + 32);
    }
    put_half(out + 208, d);
    for (int half = 0; half < 2; ++half)
        for (int i = 0; i < 32; ++i) {
            const uint8_t *c = q + 128 * half + i;
            out[64 * half + i] = (uint8_t)((c[0] & 15) | (c[64] & 15) << 4);
            out[64 * half + 32 + i] = (uint8_t)((c[32] & 15) | (c[96] & 15) << 4);
            out[128 + 32 * half + i] =
                (uint8_t)(c[0] >> 4 | c[32] >> 4 << 2 | c[64] >> 4 << 4 | c[96] >> 4 << 6);
        }
}

void anemo_quantise_q6_k(const float *x, int64_t k, uint8_t *out) {
    for (int64_t b = 0; b < k / 256; ++b)
        block_6(x + 256 * b, out + 210 * b);
}

/* ---------------------------------------------------------------- Q4_K */

/* The best scale and minimum (v = s c - m, m >= 0) for given codes of 32 values; their error. */
static double fit(const float *x, const uint8_t *q, float *s, float *m) {
    double sq = 0, sqq = 0, sx = 0, sxq = 0, error = 0;
    for (int i = 0; i < 32; ++i) {
        sq += q[i];
        sqq += (double)q[i] * q[i];
        sx += x[i];
        sxq += (double)x[i] * q[i];
    }
    const double determinant = 32 * sqq - sq * sq;
    double scale = determinant > 0 ? (32 * sxq - sx * sq) / determinant : 0;
    double minimum = determinant > 0 ? -(sqq * sx - sq * sxq) / determinant : -sx / 32;
    if (minimum < 0) {
        minimum = 0;
        scale = sqq > 0 ? sxq / sqq : 0;
    }
    scale = scale < 0 ? 0 : scale;
    *s = (float)scale;
    *m = (float)minimum;
    for (int i = 0; i < 32; ++i) {
        const double e = x[i] - (scale * q[i] - minimum);
        error += e * e;
    }
    return error;
}

static void codes_4(const float *x, float s, float m, uint8_t *q) {
    const float inverse = reciprocal(s);
    for (int i = 0; i < 32; ++i)
        q[i] = (uint8_t)clamp((x[i] + m) * inverse, 0, 15);
}

static void scale_4(const float *x, float *s, float *m) {
    float low = 0, high = 0;
    double least = HUGE_VAL;
    *s = *m = 0;
    for (int i = 0; i < 32; ++i) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    for (int step = -4; step <= 8; ++step) {
        uint8_t q[32];
        float scale, minimum;
        codes_4(x, (high - low) / (15 + 0.25f * (float)step), -low, q);
        const double error = fit(x, q, &scale, &minimum);
        *s = error < least ? scale : *s;
        *m = error < least ? minimum : *m;
        least = error < least ? error : least;
    }
}

static void block_4(const float *x, uint8_t *out) {
    float s[8], m[8], most_s = 0, most_m = 0;
    int qs[8], qm[8];
    for (int g = 0; g < 8; ++g) {
        scale_4(x + 32 * g, &s[g], &m[g]);
        most_s = s[g] > most_s ? s[g] : most_s;
        most_m = m[g] > most_m ? m[g] : most_m;
    }
    const float d = to_half(most_s / 63), d_min = to_half(most_m / 63);
    memset(out, 0, 144);
    put_half(out, d);
    put_half(out + 2, d_min);
    for (int g = 0; g < 8; ++g) {
        uint8_t q[32];
        qs[g] = clamp(s[g] * reciprocal(d), 0, 63);
        qm[g] = clamp(m[g] * reciprocal(d_min), 0, 63);
        codes_4(x + 32 * g, d * (float)qs[g], d_min * (float)qm[g], q);
        for (int i = 0; i < 32; ++i)
            out[16 + g / 2 * 32 + i] |= (uint8_t)(q[i] << (4 * (g % 2)));
    }
    uint8_t *packed = out + 4;
    for (int g = 0; g < 4; ++g) {
        packed[g] = (uint8_t)(qs[g] | qs[g + 4] >> 4 << 6);
        packed[g + 4] = (uint8_t)(qm[g] | qm[g + 4] >> 4 << 6);
        packed[g + 8] = (uint8_t)((qs[g + 4] & 15) | (qm[g + 4] & 15) << 4);
    }
}

void anemo_quantise_q4_k(const float *x, int64_t k, uint8_t *out) {
    for (int64_t b = 0; b < k / 256; ++b)
        block_4(x + 256 * b, out + 144 * b);
}
