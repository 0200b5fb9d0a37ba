/* Synthetic models: the shape of a real one, weights from a counter hash.
 *
 *     synth:mixtral-8x7b:q4_0:layers=4          (synth_uri.c reads the name)
 *
 * Latency and throughput of a model depend on shapes and types, not on what it learned, so a row
 * is generated when it is read and nothing is stored. Bits come from splitmix64 over (seed, role,
 * layer, expert, row, counter): any row in any order by any thread gives the same bits, at about
 * one hash per 8 to 16 codes, so that packing a 7B layer takes a fraction of a second.
 *
 * Values have mean 0 and a standard deviation of 1/sqrt(k) (embedding: 1), so that a row product
 * with a normalised input has deviation about 1 and the residual stream grows like the square root
 * of the depth: finite through any number of layers. The zero mean is not a nicety: codes 0..15
 * with offset 8 average -1/2, which makes every output share one component that grows with each
 * layer until the router sends every token to the same expert. Code 0 is therefore replaced by the
 * middle code. Norms are 1. In quantised types the router stays F32, as in published files. */
#include "models/formats/internal.h"

#include <math.h>

#define SEED UINT64_C(0x616e656d6f) /* "anemo" */

/* ---------------------------------------------------------------- bits */

/* splitmix64 (Steele, Lea, Flood 2014): a bijection whose output over a counter passes BigCrush. */
static inline uint64_t mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* The tensor's key travels in the weight itself, so that a weight needs no storage. Its lowest bit
 * says that the values have deviation 1 (the embedding). */
static uint64_t tensor_key(anemo_tensor_role role, int64_t layer, int64_t expert) {
    const uint64_t key = mix(mix(mix(SEED + (uint64_t)role) + (uint64_t)layer) + (uint64_t)expert);
    return (key & ~UINT64_C(1)) | (role == ANEMO_T_EMBED);
}

static uint64_t row_key(const anemo_weight *weight, int64_t row) {
    return mix((uintptr_t)weight->reader_data + (uint64_t)row);
}

static double deviation(const anemo_weight *weight) {
    return (uintptr_t)weight->reader_data & 1 ? 1.0 : 1.0 / sqrt((double)weight->k);
}

/* Bytes of x that are 0 become `middle`; every byte of x is below 2^bits. */
static inline uint64_t no_zero(uint64_t x, int bits, uint64_t middle) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t low = x & (ones * ((1u << (bits - 1)) - 1)), high = x >> (bits - 1) & ones;
    const uint64_t some = (low + ones * ((1u << (bits - 1)) - 1)) >> (bits - 1) & ones;
    return x + ((ones ^ (some | high)) * middle);
}

/* ---------------------------------------------------------------- rows */

/* Odd integers -255 .. 255 times a power of two: 8 significant bits, exact in BF16 and F16. */
static void read_float(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                       float *scales, float *offsets) {
    (void)codes, (void)scales, (void)offsets;
    const double unit_deviation = 147.8; /* sqrt((256^2 - 1) / 3) */
    const uint64_t key = row_key(weight, row);
    const float unit = (float)exp2(round(log2(deviation(weight) / unit_deviation)));
    uint8_t bytes[64];
    for (int64_t begin = 0; begin < weight->k; begin += 64) {
        const int64_t n = weight->k - begin < 64 ? weight->k - begin : 64;
        for (int i = 0; i < 8; ++i) {
            const uint64_t bits = mix(key + (uint64_t)(begin / 8 + i));
            memcpy(bytes + 8 * i, &bits, 8);
        }
        for (int64_t i = 0; i < n; ++i)
            values[begin + i] = (float)(2 * bytes[i] - 255) * unit;
    }
}

/* One scale per group: the base in half precision, its bits moved by up to 1/8 of an octave's. */
static void make_scales(const anemo_weight *weight, uint64_t key, double code_deviation,
                        float *scales) {
    const int64_t groups = weight->k / weight->type.group;
    const uint16_t base = anemo_f32_f16((float)(deviation(weight) / code_deviation));
    for (int64_t g = 0; g < groups; ++g) {
        const uint64_t bits = mix(~key + (uint64_t)g);
        scales[g] = anemo_f16_f32((uint16_t)(base - 128 + (int)(bits & 255)));
    }
}

static void read_q4(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                    float *scales, float *offsets) {
    (void)values, (void)offsets;
    const double code_deviation = 4.18; /* -7..7, 0 twice: sqrt(280 / 16) */
    const uint64_t key = row_key(weight, row), nibbles = UINT64_C(0x0f0f0f0f0f0f0f0f);
    make_scales(weight, key, code_deviation, scales);
    for (int64_t i = 0; i < weight->k / 16; ++i) {
        const uint64_t bits = mix(key + (uint64_t)i);
        const uint64_t low = no_zero(bits & nibbles, 4, 8);
        const uint64_t high = no_zero(bits >> 4 & nibbles, 4, 8);
        memcpy(codes + 16 * i, &low, 8);
        memcpy(codes + 16 * i + 8, &high, 8);
    }
}

static void read_q8(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                    float *scales, float *offsets) {
    (void)values, (void)offsets;
    const double code_deviation = 73.5; /* -127..127, 0 twice */
    const uint64_t key = row_key(weight, row);
    make_scales(weight, key, code_deviation, scales);
    for (int64_t i = 0; i < weight->k / 8; ++i) {
        const uint64_t bits = no_zero(mix(key + (uint64_t)i), 8, 128);
        memcpy(codes + 8 * i, &bits, 8);
    }
}

void anemo_synth_weight(const anemo_synth_type *type, anemo_tensor_role role, int64_t layer,
                        int64_t expert, int64_t n, int64_t k, anemo_weight *out) {
    const anemo_weight_type f32 = {ANEMO_CODE_F32, 32};
    memset(out, 0, sizeof *out);
    out->size = sizeof *out;
    out->type = role == ANEMO_T_ROUTER && type->type.group ? f32 : type->type;
    out->n = n;
    out->k = k;
    out->canonical_bytes =
        (size_t)((double)n * (double)k * anemo_weight_type_bits(&out->type, k) / 8);
    out->reader_data = (const void *)(uintptr_t)tensor_key(role, layer, expert);
    out->read_row = out->type.bits == 4 ? read_q4 : out->type.bits == 8 ? read_q8 : read_float;
}
