/* tdpbssd: 16 x 16 sums of 64 products each. Four accumulators over two tiles of either operand,
 * as a kernel would use them; the tiles are loaded once, the units alone are asked. */
#include "anemo_config.h"
#include "harness/measure/probe_form.h"

#include <immintrin.h>
#include <string.h>

enum { SUMS = 4, ROWS = 16, DEPTH = 64 };

typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

static bool int8_amx(int64_t iterations) {
    tile_config config = {.palette = 1};
    int8_t ones[ROWS * DEPTH];
    int32_t sums[ROWS * 16];
    for (int i = 0; i < 8; i++) {
        config.rows[i] = ROWS;
        config.row_bytes[i] = DEPTH;
    }
    memset(ones, 1, sizeof ones);
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, ones, DEPTH);
    _tile_loadd(5, ones, DEPTH);
    _tile_loadd(6, ones, DEPTH);
    _tile_loadd(7, ones, DEPTH);
    for (int64_t i = 0; i < iterations; i++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    bool right = true;
#define HOLDS(tile)                                                                                \
    _tile_stored(tile, sums, DEPTH);                                                               \
    for (int i = 0; i < ROWS * 16; i++) {                                                          \
        right = right && sums[i] == (int32_t)(DEPTH * iterations);                                 \
    }
    HOLDS(0)
    HOLDS(1)
    HOLDS(2)
    HOLDS(3)
#undef HOLDS
    _tile_release();
    return right;
}

const anemo_probe_form anemo_probe_forms_amxint8[] = {
    {.name = "int8_amx",
     .ceiling = ANEMO_CEILING_INT8_AMX,
     .needs = ANEMO_CPU_AVX512 | ANEMO_CPU_AMX_INT8,
     .compute = int8_amx,
     .ops_per_iteration = 2.0 * SUMS * ROWS * 16 * DEPTH,
     .vectors_per_iteration = SUMS},
    {.name = NULL},
};
