/* Weights as fragments of matrix instructions: the one layout of a weight on a GPU.
 *
 * Y^T = W X^T: the rows of W are the 16 rows of an m16n8k16 product, the tokens its 8 columns, so
 * weights are its first operand, which mma.sync reads from registers, and wgmma (whose four warps
 * hold 16 rows each in the same form) may. Tokens are padded to 8 instead of 16, and a weight goes
 * from memory to the register that multiplies it without passing through another thread.
 *
 * A *tile* is 16 rows x 16 columns. Lane l = 4 g + t of a warp holds 8 codes of it: register r
 * (0..3), halves lo and hi. In the instruction's own numbering they are row g + 8 (r % 2), columns
 * 2 t + half + 8 (r / 2). Which column of W is called number 2 t of the tile is free, if x is
 * numbered alike; so that a lane needs eight consecutive values of x (one 16-byte load),
 *
 *     32 columns (a *chunk*) are two tiles; lane t owns columns 8 t .. 8 t + 7;
 *     tile h of the chunk, register r, half: column 8 t + 4 h + 2 (r / 2) + half.
 *
 * A *unit* is what a warp loads at once, 16 bytes per lane, 512 in all: four tiles of 4-bit codes,
 * two of 8-bit ones, one of bf16. Within a lane's bytes of a tile:
 *
 *     w4   one word; the code of (r, half) is nibble r + 4 half: (word >> 4 r) & 0x000f000f is a
 *          pair
 *     w8   byte 2 r + half
 *     w16  two bytes at 4 r + 2 half: the words are the registers
 *
 * A *block* is 16 rows, one after the other in memory:
 *
 *     [units][scales: groups x 16][minima: the same][zero points: groups x 16 x u8]
 *
 * each part at a multiple of 16 bytes, the block at one of 128. Scales keep the file's form (f16,
 * f32). The 16 numbers of a group stand in the order 0 8 1 9 .. 7 15, so a lane's two rows are one
 * load. Columns are padded to 64 with codes 0 (x is 0 there), rows with scale 0.
 *
 * Rejected: numbering columns as the instruction does (eight 4-byte loads of x for each 64
 * columns); scales beside the codes of their group (a group of 128 would be two and an eighth
 * units); a copy for each kernel. */
#ifndef ANEMO_FRAGMENT_H
#define ANEMO_FRAGMENT_H

#include "kernels/host_device.h"
#include "kernels/kernel.h"

enum {
    ANEMO_FRAGMENT_ROWS = 16,
    ANEMO_FRAGMENT_CHUNK = 32,
    ANEMO_FRAGMENT_LANE_BYTES = 16,
    ANEMO_FRAGMENT_UNIT_BYTES = 512,
    ANEMO_FRAGMENT_K_STEP = 64 /* columns are padded to a multiple */
};

typedef struct anemo_fragment_shape {
    int64_t n, k, blocks, k_padded;
    int64_t units;         /* of a block */
    int64_t groups, group; /* group: columns, k_padded when there is one per row */
    int32_t bits, unit_k;  /* unit_k: columns of a unit */
    int32_t scale_bytes;   /* 2: f16, 4: f32, 0: none */
    bool has_minimum, has_zero;
    size_t scales_at, minima_at, zeros_at, block_bytes;
} anemo_fragment_shape;

static ANEMO_HOST_DEVICE inline int64_t anemo_fragment_up(int64_t value, int64_t to) {
    return (value + to - 1) / to * to;
}

static ANEMO_HOST_DEVICE inline anemo_fragment_shape
anemo_fragment_shape_of(const anemo_weight_type *type, int64_t n, int64_t k) {
    anemo_fragment_shape s;
    s.n = n;
    s.k = k;
    s.bits = type->bits;
    s.unit_k = 256 / type->bits;
    s.blocks = (n + ANEMO_FRAGMENT_ROWS - 1) / ANEMO_FRAGMENT_ROWS;
    s.k_padded = anemo_fragment_up(k, ANEMO_FRAGMENT_K_STEP);
    s.units = s.k_padded / s.unit_k;
    s.scale_bytes = type->scale == ANEMO_SCALE_F16 ? 2 : type->scale == ANEMO_SCALE_F32 ? 4 : 0;
    s.group = type->group > 0 ? type->group : s.k_padded;
    s.groups = s.scale_bytes == 0 ? 0 : type->group > 0 ? (k + type->group - 1) / type->group : 1;
    s.has_minimum = type->offset == ANEMO_OFFSET_MINIMUM;
    s.has_zero = type->offset == ANEMO_OFFSET_ZERO_POINT;
    const size_t numbers = (size_t)(s.groups * ANEMO_FRAGMENT_ROWS * s.scale_bytes);
    s.scales_at = (size_t)s.units * ANEMO_FRAGMENT_UNIT_BYTES;
    s.minima_at = s.scales_at + numbers;
    s.zeros_at = s.minima_at + (s.has_minimum ? numbers : 0);
    s.block_bytes = (size_t)anemo_fragment_up(
        (int64_t)s.zeros_at + (s.has_zero ? s.groups * ANEMO_FRAGMENT_ROWS : 0), 128);
    return s;
}

/* ---------------------------------------------------------------- where a code stands */

typedef struct anemo_fragment_place {
    int32_t lane, reg, half;
    int64_t tile; /* of the block, counting along k */
} anemo_fragment_place;

static ANEMO_HOST_DEVICE inline anemo_fragment_place anemo_fragment_place_of(int32_t row,
                                                                             int64_t column) {
    const int32_t c = (int32_t)(column % ANEMO_FRAGMENT_CHUNK);
    anemo_fragment_place p;
    p.lane = row % 8 * 4 + c / 8;
    p.reg = row / 8 + c % 4 / 2 * 2;
    p.half = c % 2;
    p.tile = column / ANEMO_FRAGMENT_CHUNK * 2 + c / 4 % 2;
    return p;
}

/* The inverse: row of the block, column of W. */
static ANEMO_HOST_DEVICE inline int32_t anemo_fragment_row(int32_t lane, int32_t reg) {
    return lane / 4 + reg % 2 * 8;
}
static ANEMO_HOST_DEVICE inline int64_t anemo_fragment_column(int64_t tile, int32_t lane,
                                                              int32_t reg, int32_t half) {
    return tile / 2 * ANEMO_FRAGMENT_CHUNK + lane % 4 * 8 + tile % 2 * 4 + reg / 2 * 2 + half;
}

/* Where the lane's bytes of a tile begin in a block; `bits` bytes of them. */
static ANEMO_HOST_DEVICE inline size_t anemo_fragment_tile_at(int32_t bits, int64_t tile,
                                                              int32_t lane) {
    const int64_t tiles = 16 / bits; /* of a unit */
    return (size_t)(tile / tiles * ANEMO_FRAGMENT_UNIT_BYTES + lane * ANEMO_FRAGMENT_LANE_BYTES +
                    tile % tiles * bits);
}

/* Place of a row's number among the 16 of a group. */
static ANEMO_HOST_DEVICE inline int32_t anemo_fragment_number(int32_t row) {
    return row % 8 * 2 + row / 8;
}

/* ---------------------------------------------------------------- codes to operands */

/* Register r of a 4-bit tile: two bf16 numbers 128 + code (0x43 is the exponent of 128, whose unit
 * is then one). */
#define ANEMO_FRAGMENT_PAIR4_MASK 0x000f000fu
#define ANEMO_FRAGMENT_PAIR4_BITS 0x43004300u
static ANEMO_HOST_DEVICE inline uint32_t anemo_fragment_pair4(uint32_t word, int32_t reg) {
    return (word >> (4 * reg) & ANEMO_FRAGMENT_PAIR4_MASK) | ANEMO_FRAGMENT_PAIR4_BITS;
}

/* -(128 + zero) twice: added to the pair above it leaves code - zero, exactly. */
static ANEMO_HOST_DEVICE inline uint32_t anemo_fragment_zero4(uint32_t zero) {
    return (0x4300u | zero | 0x8000u) * 0x00010001u;
}

/* Four 8-bit codes of consecutive columns: `low` and `high` are the two words of a lane's tile,
 * `row` 0 is row g and 1 is row g + 8. Tile h of chunk i gives columns 32 i + 8 t + 4 h .. + 3. */
static ANEMO_HOST_DEVICE inline uint32_t anemo_fragment_four8(uint32_t low, uint32_t high,
                                                              int32_t row) {
    return row == 0 ? (low & 0xffffu) | high << 16 : low >> 16 | (high & 0xffff0000u);
}

/* 2^23 + an 8-bit code, as the bits of a float: its unit is one. */
static ANEMO_HOST_DEVICE inline uint32_t anemo_fragment_float8(uint32_t code) {
    return 0x4b000000u | code;
}

#endif
