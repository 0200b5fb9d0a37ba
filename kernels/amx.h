/* The tile registers of AMX: what they have in common whatever is multiplied in them.
 *
 * GCC 12's _tile_loadd says nothing of the memory that it reads: what was stored for it may come
 * later, or not at all. anemo_amx_stored goes between.
 *
 * Source: Intel Architecture Instruction Set Extensions Programming Reference, chapter 3. */
#ifndef ANEMO_AMX_H
#define ANEMO_AMX_H

#include <immintrin.h>
#include <stdint.h>

enum { ANEMO_AMX_ROWS = 32 }; /* of x in a tile of sums: two registers of 16 */

/* The memory operand of ldtilecfg: 64 bytes at most to a row, 16 rows to a register. */
typedef struct anemo_amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} anemo_amx_config;

/* The shape that this thread's registers have, as its file numbers shapes; 0: none. Giving them one
 * and releasing them takes as long as 20 to 30 tdpbf16ps, so they keep it until anemo_amx_leave.
 * Each file has a variable of its own: a task leaves before it ends, so that the next, of whatever
 * file, finds none. */
static _Thread_local int64_t anemo_amx_shape;

/* ldtilecfg. Not _tile_loadconfig: GCC 12's names the first 8 bytes as its operand, so that the
 * compiler may drop what was stored to the others, and the instruction faults. */
static inline void anemo_amx_load_config(const anemo_amx_config *config) {
    __asm__ volatile("ldtilecfg %0" ::"m"(*config));
}

/* What has been stored is there for the tiles that are loaded from here on. */
static inline void anemo_amx_stored(void) {
    __asm__ volatile("" ::: "memory");
}

/* TDPFP16PS sum, a, b (VEX.128.F2.0F38.W0 5C /r): pairs of f16, added in float; subnormal numbers
 * are taken as they are. As bytes, since GCC knows it from 13 on, binutils from 2.40. */
#define ANEMO_AMX_DPFP16PS(sum, a, b)                                                              \
    __asm__ volatile(".byte 0xc4, 0xe2, %c0, 0x5c, %c1" ::"i"((~(b)&15) << 3 | 3),                 \
                     "i"(0xc0 | (sum) << 3 | (a)))

/* After a thread's last tile: gives the registers back, and makes the next one configure them. */
static inline void anemo_amx_leave(void) {
    anemo_amx_shape = 0;
    _tile_release();
}

#endif
