/* The tile registers of AMX: what they have in common whatever is multiplied in them.
 *
 * Source: Intel Architecture Instruction Set Extensions Programming Reference, chapter 3. */
#ifndef ANEMO_AMX_H
#define ANEMO_AMX_H

#include <stdint.h>

enum { ANEMO_AMX_ROWS = 32 }; /* of x in a tile of sums: two registers of 16 */

/* The memory operand of ldtilecfg: 64 bytes at most to a row, 16 rows to a register. */
typedef struct anemo_amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} anemo_amx_config;

/* ldtilecfg. Not _tile_loadconfig: GCC 12's names the first 8 bytes as its operand, so that the
 * compiler may drop what was stored to the others, and the instruction faults. */
static inline void anemo_amx_load_config(const anemo_amx_config *config) {
    __asm__ volatile("ldtilecfg %0" ::"m"(*config));
}

#endif
