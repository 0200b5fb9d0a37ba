/* Any weight -> Q8_0 or Q4_0 blocks in memory, by the rule of quantise_rows.c: bit-identical to
 * GGML's own quantiser. */
#include "models/formats/convert.h"

#include <inttypes.h>
#include <stdlib.h>

static void store_scale(uint8_t *out, float d) {
    const uint16_t half = anemo_f32_f16(d);
    out[0] = (uint8_t)half;
    out[1] = (uint8_t)(half >> 8);
}

static void quantise_q8_0(const float *x, uint8_t *out) {
    uint8_t codes[32];
    float scale;
    anemo_quantise_linear(x, 32, 8, false, &scale, codes);
    store_scale(out, scale);
    for (int i = 0; i < 32; ++i)
        out[2 + i] = codes[i] ^ 0x80;
}

static void quantise_q4_0(const float *x, uint8_t *out) {
    uint8_t codes[32];
    float scale;
    anemo_quantise_linear(x, 32, 4, false, &scale, codes);
    store_scale(out, scale);
    for (int i = 0; i < 16; ++i)
        out[2 + i] = (uint8_t)(codes[i] | codes[i + 16] << 4);
}

static anemo_status quantise_rows(const anemo_weight *weight, uint32_t type, size_t block_bytes,
                                  uint8_t *blocks, float *row, void *scratch, anemo_error *err) {
    const float limit = type == ANEMO_GGML_Q8_0 ? 127 * 65504.0f : 8 * 65504.0f;
    for (int64_t r = 0; r < weight->n; ++r) {
        anemo_weight_row_f32(weight, r, row, scratch);
        if (!anemo_quantise_fits(row, weight->k, limit))
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
