/* A matrix unit at its peak: 16 x 16 sums of a row of 64 bytes each. Four accumulators over two
 * tiles of either operand, as a kernel would use them; the tiles are loaded once, the units alone
 * are asked. Included by probe_amxint8.c and probe_amxbf16.c, which say what is multiplied. */
#ifndef ANEMO_PROBE_AMX_H
#define ANEMO_PROBE_AMX_H

#include "anemo_config.h"
#include "harness/measure/probe_form.h"

#include <immintrin.h>
#include <string.h>

enum { AMX_SUMS = 4, AMX_ROWS = 16, AMX_ROW_BYTES = 64 };

typedef struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_config;

static inline void amx_begin(const void *ones) {
    amx_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.rows[i] = AMX_ROWS;
        config.row_bytes[i] = AMX_ROW_BYTES;
    }
    /* Not _tile_loadconfig: GCC 12's names only the first 8 bytes as its operand, and what was
     * stored to the others may be dropped. */
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, ones, AMX_ROW_BYTES);
    _tile_loadd(5, ones, AMX_ROW_BYTES);
    _tile_loadd(6, ones, AMX_ROW_BYTES);
    _tile_loadd(7, ones, AMX_ROW_BYTES);
}

/* Defines bool NAME(iterations) for the instruction that multiplies factors, all `one`, into sums.
 */
#define AMX_PROBE(name, multiply, factor, one, sum)                                                \
    static bool name(int64_t iterations) {                                                         \
        enum { DEPTH = AMX_ROW_BYTES / sizeof(factor) };                                           \
        factor ones[AMX_ROWS * DEPTH];                                                             \
        sum sums[AMX_SUMS][AMX_ROWS * 16];                                                         \
        for (int i = 0; i < AMX_ROWS * DEPTH; i++) {                                               \
            ones[i] = one;                                                                         \
        }                                                                                          \
        amx_begin(ones);                                                                           \
        for (int64_t i = 0; i < iterations; i++) {                                                 \
            multiply(0, 4, 6);                                                                     \
            multiply(1, 4, 7);                                                                     \
            multiply(2, 5, 6);                                                                     \
            multiply(3, 5, 7);                                                                     \
        }                                                                                          \
        _tile_stored(0, sums[0], AMX_ROW_BYTES);                                                   \
        _tile_stored(1, sums[1], AMX_ROW_BYTES);                                                   \
        _tile_stored(2, sums[2], AMX_ROW_BYTES);                                                   \
        _tile_stored(3, sums[3], AMX_ROW_BYTES);                                                   \
        _tile_release();                                                                           \
        bool right = true;                                                                         \
        for (int i = 0; i < AMX_SUMS * AMX_ROWS * 16; i++) {                                       \
            right = right &&                                                                       \
                    sums[i / (AMX_ROWS * 16)][i % (AMX_ROWS * 16)] == (sum)(DEPTH * iterations);   \
        }                                                                                          \
        return right;                                                                              \
    }

#define AMX_OPS(factor) (2.0 * AMX_SUMS * AMX_ROWS * 16 * AMX_ROW_BYTES / sizeof(factor))

#endif
