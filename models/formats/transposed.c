/* Weights that lie as [inputs, outputs]: y = x W, as the experts of gpt-oss in Hugging Face files.
 * Row r of the canonical weight is then a column: its values are `step * n` apart. Reading a column
 * of 16-bit values touches a cache line per value, but neighbouring rows read the same lines: k
 * lines (180 KB for k = 2880) stay in the second cache while a block of rows is packed. */
#include "models/formats/internal.h"

static const uint8_t *column(const anemo_weight *weight, int64_t row, int64_t i, size_t bytes) {
    const int64_t step = (int64_t)(uintptr_t)weight->reader_data;
    return (const uint8_t *)weight->data + (size_t)((i * weight->n + row) * step) * bytes;
}

static void read_column(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                        float *scales, float *offsets) {
    (void)codes, (void)scales, (void)offsets;
    const uint8_t code = weight->type.code;
    for (int64_t i = 0; i < weight->k; ++i) {
        const uint8_t *p = column(weight, row, i, weight->type.bits / 8u);
        values[i] = code == ANEMO_CODE_F32   ? anemo_bits_f32(anemo_load_u32(p))
                    : code == ANEMO_CODE_F16 ? anemo_f16_f32(anemo_load_u16(p))
                                             : anemo_bf16_f32(anemo_load_u16(p));
    }
}

void anemo_transposed_weight(uint32_t type, const void *data, int64_t n, int64_t k, int64_t step,
                             anemo_weight *out) {
    anemo_ggml_weight(type, data, n, k, out);
    out->reader_data = (const void *)(uintptr_t)step;
    out->read_row = read_column;
}
