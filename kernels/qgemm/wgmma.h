/* Activations in shared memory as wgmma's second operand, and the numbers beside the weights:
 * integer functions that the kernel (wgmma.cuh) and the host's tests share.
 *
 * A token is a row of the K-major operand: 128 bytes, the 64 columns of a step, 8 rows one after
 * the other a pattern of 1024 bytes. With the 128-byte swizzle (PTX ISA, "Shared Memory Matrix
 * Layout") the 16-byte piece p of row r lies at piece p ^ (r % 8); the hardware does so with
 * bits 4..6 and 7..9 of the address, so a pattern begins at a multiple of 1024, and a tile of 16
 * columns is found by adding 32 bytes to the matrix's start.
 *
 * Numbering. The weights' layout (fragment.h) calls another column of W number k of a tile than the
 * instruction does: lane t owns eight columns in a row, and the instruction gives it numbers 2 t,
 * 2 t + 1, 2 t + 8 and 2 t + 9. Which register of A feeds which number cannot mend this, since
 * a lane's numbers hold only its own columns; x has to be numbered alike. Of a chunk of 32 columns,
 * word (pair of columns) 4 t + q is what lane t has in tile q / 2, register pair q % 2, so it is
 * word t of piece q of the operand: a transposition of 4 x 4 words, done on the way into shared
 * memory.
 *
 * A stage also holds, for each block of 16 rows, the numbers of the groups of its step. */
#ifndef ANEMO_WGMMA_H
#define ANEMO_WGMMA_H

#include "kernels/host_device.h"
#include "kernels/qgemm/fragment.h"

enum {
    ANEMO_WGMMA_WARPS = 16, /* of a thread block: four warpgroups */
    ANEMO_WGMMA_ROWS = ANEMO_WGMMA_WARPS * ANEMO_FRAGMENT_ROWS,
    ANEMO_WGMMA_X_BYTES = 128, /* of a token and step */
    ANEMO_WGMMA_X_WORDS = ANEMO_WGMMA_X_BYTES / 4,
    ANEMO_WGMMA_PATTERN_BYTES = 1024,
    ANEMO_WGMMA_TILES = ANEMO_FRAGMENT_K_STEP / 16, /* of a step */
    /* One thread block fills a multiprocessor; H100 and H200 (SXM) have as many. */
    ANEMO_WGMMA_WORKERS = 132
};

/* Where word `word` (columns 2 word, 2 word + 1 of the step) of a token stands. */
static ANEMO_HOST_DEVICE inline uint32_t anemo_wgmma_x_at(uint32_t token, uint32_t word) {
    const uint32_t t = word / 4 % 4, piece = word / 16 * 4 + word % 4;
    return token * ANEMO_WGMMA_X_BYTES + (piece ^ (token % 8)) * 16 + t * 4;
}

/* The matrix descriptor (PTX ISA, "Matrix Descriptor Format") of a step whose tokens begin at a
 * shared address: bits 0-13 the start, 16-29 the leading dimension's offset (unused in a swizzled
 * K-major matrix: 1), 32-45 the distance of 8 rows, all in units of 16 bytes; 49-51 the pattern's
 * offset, 0; 62-63 the swizzle, 1: 128 bytes. */
static ANEMO_HOST_DEVICE inline uint64_t anemo_wgmma_descriptor(uint32_t address) {
    const uint64_t rows_8 = ANEMO_WGMMA_PATTERN_BYTES / 16;
    return (uint64_t)((address & 0x3ffffu) >> 4) | (uint64_t)1 << 16 | rows_8 << 32 |
           (uint64_t)1 << 62;
}

/* The same from a tile of 16 columns on: 32 bytes each, which never carry out of the start. */
static ANEMO_HOST_DEVICE inline uint64_t anemo_wgmma_tile(uint64_t descriptor, uint32_t tile) {
    return descriptor + 2 * tile;
}

/* ---------------------------------------------------------------- numbers of a step's groups */

enum {
    ANEMO_WGMMA_MINIMA_AT = 128, /* scales in front: two groups of 16, 4 bytes each at most */
    ANEMO_WGMMA_ZEROS_AT = 256,
    ANEMO_WGMMA_NUMBER_BYTES = 288 /* of a block of rows */
};

/* What a lane has to know of a part's groups: once per stretch, to be small. */
typedef struct anemo_wgmma_numbers {
    int32_t shift, groups; /* chunk >> shift is its group */
    int32_t piece, pieces; /* the lane copies piece `piece` of `pieces` per group; 0: nothing */
    uint32_t from, to;     /* of group 0 in the block, and in the stage's numbers of the block */
} anemo_wgmma_numbers;

/* Lanes 0-7 copy scales, 8-15 minima, 16-23 zero points, 16 bytes each. */
static ANEMO_HOST_DEVICE inline anemo_wgmma_numbers
anemo_wgmma_numbers_of(const anemo_fragment_shape *s, int32_t lane) {
    const int32_t kind = lane / 8, piece = lane % 8;
    anemo_wgmma_numbers n = {0, (int32_t)s->groups, piece, 0, 0, 0};
    n.shift = s->group == 32 ? 0 : s->group == 64 ? 1 : s->group == 128 ? 2 : 30;
    if (kind == 0) {
        n.pieces = s->scale_bytes;
        n.from = (uint32_t)s->scales_at;
    } else if (kind == 1) {
        n.pieces = s->has_minimum ? s->scale_bytes : 0;
        n.from = (uint32_t)s->minima_at;
        n.to = ANEMO_WGMMA_MINIMA_AT;
    } else if (kind == 2) {
        n.pieces = s->has_zero ? 1 : 0;
        n.from = (uint32_t)s->zeros_at;
        n.to = ANEMO_WGMMA_ZEROS_AT;
    }
    n.from += (uint32_t)piece * 16;
    n.to += (uint32_t)piece * 16;
    return n;
}

/* Groups that a step meets and that there are. */
typedef struct anemo_wgmma_groups {
    int32_t first, count;
} anemo_wgmma_groups;

static ANEMO_HOST_DEVICE inline anemo_wgmma_groups
anemo_wgmma_groups_of(const anemo_wgmma_numbers *n, int32_t step) {
    const int32_t first = 2 * step >> n->shift, last = (2 * step + 1) >> n->shift;
    const int32_t end = last + 1 < n->groups ? last + 1 : n->groups;
    const anemo_wgmma_groups groups = {first, end > first ? end - first : 0};
    return groups;
}

/* Does the lane copy anything of these groups, and how far behind `from`? */
static ANEMO_HOST_DEVICE inline bool anemo_wgmma_copies(const anemo_wgmma_numbers *n,
                                                        anemo_wgmma_groups groups) {
    return n->piece < groups.count * n->pieces;
}
static ANEMO_HOST_DEVICE inline uint32_t anemo_wgmma_copies_at(const anemo_wgmma_numbers *n,
                                                               anemo_wgmma_groups groups) {
    return (uint32_t)(groups.first * n->pieces) * 16;
}

/* The shape with which numbers are read from a stage, as if it were a block. */
static ANEMO_HOST_DEVICE inline anemo_fragment_shape
anemo_wgmma_staged(const anemo_fragment_shape *s, anemo_wgmma_groups groups) {
    anemo_fragment_shape staged = *s;
    staged.groups = groups.count;
    staged.scales_at = 0;
    staged.minima_at = ANEMO_WGMMA_MINIMA_AT;
    staged.zeros_at = ANEMO_WGMMA_ZEROS_AT;
    return staged;
}

#endif
