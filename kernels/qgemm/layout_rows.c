#include "kernels/qgemm/layout_rows.h"

#include "kernels/internal.h"

static bool accepts(const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                    size_t why_bytes) {
    if (n < 1) {
        return anemo_refuse(why, why_bytes, "n is %lld; at least 1 is accepted", (long long)n);
    }
    return anemo_weight_type_valid(type, k, why, why_bytes);
}

static size_t packed_bytes(const anemo_weight_type *type, int64_t n, int64_t k) {
    return (size_t)n * anemo_rows_shape_of(type, k).row_bytes;
}

static anemo_status pack(const anemo_weight *w, int64_t row_begin, int64_t row_end, void *packed) {
    const anemo_rows_shape s = anemo_rows_shape_of(&w->type, w->k);
    for (int64_t row = row_begin; row < row_end; row++) {
        uint8_t *record = (uint8_t *)packed + (size_t)row * s.row_bytes;
        memset(record, 0, s.row_bytes);
        w->read_row(w, row, (void *)record, record, (void *)(record + s.scales_at),
                    (void *)(record + s.offsets_at));
    }
    return ANEMO_OK;
}

static anemo_status unpack(const anemo_weight_type *type, int64_t n, int64_t k, const void *packed,
                           int64_t row, float *values, uint8_t *codes, float *scales,
                           float *offsets) {
    const anemo_rows_shape s = anemo_rows_shape_of(type, k);
    const uint8_t *record = (const uint8_t *)packed + (size_t)row * s.row_bytes;
    if (row < 0 || row >= n) {
        return ANEMO_E_INPUT;
    }
    if (anemo_rows_is_float(type)) {
        memcpy(values, record, (size_t)k * sizeof *values);
        return ANEMO_OK;
    }
    memcpy(codes, record, (size_t)k);
    memcpy(scales, record + s.scales_at, (size_t)s.groups * sizeof *scales);
    if (type->offset != ANEMO_OFFSET_NONE) {
        memcpy(offsets, record + s.offsets_at, (size_t)s.groups * sizeof *offsets);
    }
    return ANEMO_OK;
}

const anemo_layout anemo_layout_rows = {
    .size = sizeof(anemo_layout),
    .name = "rows",
    .row_block = 1,
    .accepts = accepts,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .unpack = unpack,
};
