/* Layout "rows": every weight row is one record, in the order a person would write it:
 *
 *   codes    float types: float[k]; else one byte per code, uint8[k]
 *   scales   float[groups], offsets float[groups] when the type has them
 *
 * each part starting at a multiple of 16 bytes. Made to be obvious, not small: a 4-bit weight takes
 * twice its file size. It is what a simple kernel, on a CPU or a GPU, needs to read any weight, and
 * what read_row writes in place. */
#ifndef ANEMO_LAYOUT_ROWS_H
#define ANEMO_LAYOUT_ROWS_H

#include "kernels/host_device.h"
#include "kernels/kernel.h"

typedef struct anemo_rows_shape {
    int64_t groups;
    size_t scales_at, offsets_at, row_bytes; /* byte offsets within a record */
} anemo_rows_shape;

static ANEMO_HOST_DEVICE inline size_t anemo_rows_align(size_t bytes) {
    return (bytes + 15) / 16 * 16;
}

static ANEMO_HOST_DEVICE inline bool anemo_rows_is_float(const anemo_weight_type *type) {
    return type->code <= ANEMO_CODE_BF16;
}

static ANEMO_HOST_DEVICE inline anemo_rows_shape anemo_rows_shape_of(const anemo_weight_type *type,
                                                                     int64_t k) {
    anemo_rows_shape s;
    const bool is_float = anemo_rows_is_float(type);
    s.groups = is_float ? 0 : type->group > 0 ? (k + type->group - 1) / type->group : 1;
    s.scales_at = anemo_rows_align((size_t)k * (is_float ? sizeof(float) : 1));
    s.offsets_at = s.scales_at + anemo_rows_align((size_t)s.groups * sizeof(float));
    s.row_bytes = s.offsets_at;
    if (type->offset != ANEMO_OFFSET_NONE) {
        s.row_bytes += anemo_rows_align((size_t)s.groups * sizeof(float));
    }
    return s;
}

/* The weight of one column of a record, decoded in float. */
static ANEMO_HOST_DEVICE inline float anemo_rows_value(const anemo_weight_type *type,
                                                       const anemo_rows_shape *shape,
                                                       const void *record, int64_t column) {
    const uint8_t *bytes = (const uint8_t *)record;
    if (shape->groups == 0) {
        return ((const float *)record)[column];
    }
    const int64_t group = type->group > 0 ? column / type->group : 0;
    const float scale = ((const float *)(const void *)(bytes + shape->scales_at))[group];
    const int code = bytes[column];
    if (type->code == ANEMO_CODE_TABLE) {
        return scale * (float)type->table[code];
    }
    if (type->offset == ANEMO_OFFSET_NONE) {
        return scale * (float)(code - (1 << (type->bits - 1)));
    }
    const float offset = ((const float *)(const void *)(bytes + shape->offsets_at))[group];
    return type->offset == ANEMO_OFFSET_MINIMUM ? scale * (float)code - offset
                                                : scale * ((float)code - offset);
}

#endif
