/* Any weight -> GGML blocks, as GGML's own quantiser makes them.
 *
 *     Q8_0  d = max|x| / 127            q = round(x / d), halves away from zero
 *     Q4_0  d = (x of largest |x|) / -8 q = min(15, trunc(x / d + 8.5)): the largest value is exact
 *
 * x / d is x times the float reciprocal, in float, without contraction; codes are made with the
 * float d, and only then is d stored as half. Bit-identical to the `gguf` package's quantize()
 * (tests/oracle/make_requantise_golden.py).
 * Source: ggml-org/ggml, ggml-quants.c, quantize_row_q4_0_ref and quantize_row_q8_0_ref. */
#include "models/formats/internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static void store_scale(uint8_t *out, float d) {
    const uint16_t half = anemo_f32_f16(d);
    out[0] = (uint8_t)half;
    out[1] = (uint8_t)(half >> 8);
}

/* 1 / d, or 0 where d is too small for a finite reciprocal: its half is 0, so are the values. */
static float reciprocal(float d) {
    const float r = d == 0 ? 0 : 1.0f / d;
    return isfinite(r) ? r : 0;
}

static void quantise_q8_0(const float *x, uint8_t *out) {
    float max = 0;
    for (int i = 0; i < 32; ++i)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    const float d = max / 127, inverse = reciprocal(d);
    store_scale(out, d);
    for (int i = 0; i < 32; ++i)
        out[2 + i] = (uint8_t)(int8_t)roundf(x[i] * inverse);
}

static void quantise_q4_0(const float *x, uint8_t *out) {
    float largest = 0;
    for (int i = 0; i < 32; ++i)
        largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    const float d = largest / -8, inverse = reciprocal(d);
    store_scale(out, d);
    for (int i = 0; i < 16; ++i) {
        const int low = (int)(x[i] * inverse + 8.5f), high = (int)(x[i + 16] * inverse + 8.5f);
        out[2 + i] = (uint8_t)((low < 15 ? low : 15) | (high < 15 ? high : 15) << 4);
    }
}

/* The largest |x| whose scale is a finite half; NaN has none. */
static bool fits(const float *x, int64_t k, float limit) {
    for (int64_t i = 0; i < k; ++i)
        if (!(fabsf(x[i]) <= limit))
            return false;
    return true;
}

static anemo_status quantise_rows(const anemo_weight *weight, uint32_t type, size_t block_bytes,
                                  uint8_t *blocks, float *row, void *scratch, anemo_error *err) {
    const float limit = type == ANEMO_GGML_Q8_0 ? 127 * 65504.0f : 8 * 65504.0f;
    for (int64_t r = 0; r < weight->n; ++r) {
        anemo_weight_row_f32(weight, r, row, scratch);
        if (!fits(row, weight->k, limit))
            return anemo_fail(err, ANEMO_E_INPUT,
                              "requantise: row %" PRId64 " holds a value that is not a number or "
                              "beyond %g; accepted: values that a half-precision scale can hold",
                              r, limit);
        for (int64_t b = 0; b < weight->k / 32; ++b, blocks += block_bytes)
            (type == ANEMO_GGML_Q8_0 ? quantise_q8_0 : quantise_q4_0)(row + 32 * b, blocks);
    }
    return ANEMO_OK;
}

anemo_status anemo_requantise(const anemo_weight *weight, const char *type, anemo_weight *out,
                              void **storage, anemo_error *err) {
    const bool q8 = strcmp(type, "q8_0") == 0;
    const uint32_t id = q8 ? ANEMO_GGML_Q8_0 : ANEMO_GGML_Q4_0;
    const size_t block_bytes = q8 ? 34 : 18;
    *storage = NULL;
    if (!q8 && strcmp(type, "q4_0") != 0)
        return anemo_fail(err, ANEMO_E_INPUT, "requantise: type is \"%s\"; accepted: q8_0, q4_0",
                          anemo_show(type).text);
    if (weight->k % 32 != 0)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "requantise: rows have %" PRId64 " values; accepted: multiples of 32",
                          weight->k);
    uint8_t *blocks = malloc((size_t)weight->n * (size_t)(weight->k / 32) * block_bytes);
    float *row = malloc((size_t)weight->k * sizeof *row);
    void *scratch = malloc(anemo_weight_scratch_bytes(weight->k));
    anemo_status status;
    if (blocks && row && scratch)
        status = quantise_rows(weight, id, block_bytes, blocks, row, scratch, err);
    else
        status = anemo_fail(err, ANEMO_E_MEMORY, "requantise: out of memory");
    free(row);
    free(scratch);
    if (status != ANEMO_OK) {
        free(blocks);
        return status;
    }
    anemo_ggml_weight(id, blocks, weight->n, weight->k, out);
    *storage = blocks;
    return ANEMO_OK;
}
