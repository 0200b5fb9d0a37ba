/* Layouts with faults, for 8-bit weights with one f32 scale per row: codes as they are, row after
 * row, then the scales. */
#include "kernels/kernel.h"

#include <stdlib.h>
#include <string.h>

typedef enum fault { NOTHING, LOSES_A_BIT, PAST_THE_END, NEEDS_ALL_ROWS, WRONG_SCALE } fault;

static bool accepts(const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                    size_t why_bytes) {
    (void)n, (void)k;
    if (type->code == ANEMO_CODE_LINEAR && type->bits == 8 && type->group == 0 &&
        type->offset == ANEMO_OFFSET_NONE)
        return true;
    strncpy(why, "only q8:row without offset", why_bytes);
    return false;
}

static size_t packed_bytes(const anemo_weight_type *type, int64_t n, int64_t k) {
    (void)type;
    return (size_t)(n * k) + (size_t)n * sizeof(float);
}

static void pack_row(const anemo_weight *w, int64_t row, unsigned char *packed, fault f) {
    unsigned char *codes = packed + row * w->k;
    float scale, offset;
    w->read_row(w, row, NULL, codes, &scale, &offset);
    if (f == LOSES_A_BIT)
        codes[w->k - 1] &= 0xFE;
    if (f == WRONG_SCALE)
        scale *= 1.1f;
    memcpy(packed + w->n * w->k + row * (int64_t)sizeof scale, &scale, sizeof scale);
}

static anemo_status pack(const anemo_weight *w, int64_t begin, int64_t end, void *packed, fault f) {
    if (f == NEEDS_ALL_ROWS)
        memset(packed, 0, packed_bytes(&w->type, w->n, w->k)); /* wipes what others have packed */
    for (int64_t row = begin; row < end; row++)
        pack_row(w, row, packed, f);
    if (f == PAST_THE_END)
        ((unsigned char *)packed)[packed_bytes(&w->type, w->n, w->k)] = 1;
    return ANEMO_OK;
}

static anemo_status unpack(const anemo_weight_type *type, int64_t n, int64_t k, const void *packed,
                           int64_t row, float *values, uint8_t *codes, float *scales,
                           float *offsets) {
    (void)type, (void)values, (void)offsets;
    memcpy(codes, (const unsigned char *)packed + row * k, (size_t)k);
    memcpy(scales, (const unsigned char *)packed + n * k + row * (int64_t)sizeof *scales,
           sizeof *scales);
    return ANEMO_OK;
}

#define LAYOUT(fault_name, fault)                                                                  \
    static anemo_status pack_##fault_name(const anemo_weight *w, int64_t begin, int64_t end,       \
                                          void *packed) {                                          \
        return pack(w, begin, end, packed, fault);                                                 \
    }                                                                                              \
    static const anemo_layout layout_##fault_name = {                                              \
        sizeof(anemo_layout), "layout_wrong_" #fault_name, 1,     accepts,                         \
        packed_bytes,         pack_##fault_name,           unpack};
LAYOUT(nothing, NOTHING) /* the control: right */
LAYOUT(loses_a_bit, LOSES_A_BIT)
LAYOUT(past_the_end, PAST_THE_END)
LAYOUT(needs_all_rows, NEEDS_ALL_ROWS)
LAYOUT(wrong_scale, WRONG_SCALE)

static const anemo_layout *const layouts[] = {&layout_nothing, &layout_loses_a_bit,
                                              &layout_past_the_end, &layout_needs_all_rows,
                                              &layout_wrong_scale};
static const anemo_plugin plugin = {.size = sizeof(anemo_plugin),
                                    .abi_major = ANEMO_ABI_MAJOR,
                                    .abi_minor = ANEMO_ABI_MINOR,
                                    .name = "wrong_layout",
                                    .n_layouts = sizeof layouts / sizeof *layouts,
                                    .layouts = layouts};
const anemo_plugin *anemo_plugin_entry(void);
const anemo_plugin *anemo_plugin_entry(void) {
    return &plugin;
}
