/* The tiles of tile.cuh on the integer matrix unit: 8-bit codes times int8, sums of 32 bits.
 *
 * The instruction is m16n8k32, unsigned times signed bytes, so codes of weights go in as they are
 * stored, and zero points come off at the end (int8.cuh). A register of its first operand holds
 * four consecutive columns of one row, where the layout has pairs of two rows (fragment.h): its
 * words of a tile are registers (0, 1) and (2, 3) of the bf16 instruction, of rows g and g + 8
 * each, so one byte permutation makes four columns of a row, and a unit of two tiles, which is a
 * chunk of 32 columns, becomes the four registers of one instruction. Its columns 4 t + i and 16 +
 * 4 t + i are then columns 8 t + i and 8 t + 4 + i of the chunk: a lane's x is eight consecutive
 * codes, one load. No layout of its own, then; four permutations per unit, shared by all tokens of
 * the tile (proof, element by element: tests/test_fragment.c).
 *
 * A step is 128 columns, 128 bytes of x as with bf16 and twice the weights. A token's bytes stand
 * 160 apart: 16 lanes that read 8 bytes each, four tokens by four lanes, then meet 32 banks. Sums
 * are exact in every order, so unlike the others this tile's results do not depend on where
 * stream-K cut: they are the same row by row.
 *
 * What limits it: as in tile.cuh a warp reads all x of its tokens for 16 rows, here 256 bytes for
 * each product of one clock, of which shared memory gives 128: at most half of the matrix unit's
 * rate. Two blocks of rows per warp would halve that, for 64 sums of a lane instead of 32. With 32
 * the kernel keeps to 128 registers, so two thread blocks fit a multiprocessor, as the schedule's
 * 264 workers suppose.
 *
 * Rejected: turning codes into signed ones (an operation per register that the instruction does
 * not need); ldmatrix (lane t gets bytes 4 t .. of 16-byte rows of x, the instruction's own
 * numbering, which is not the layout's). */
#ifndef ANEMO_TILE_INT8_CUH
#define ANEMO_TILE_INT8_CUH

#include "kernels/qgemm/int8.cuh"
#include "kernels/qgemm/tile.cuh"

namespace gpu {

constexpr int INT8 = -8; /* in place of a number of bits: 8-bit codes times a8_row */

template <int TOKENS> struct sums<INT8, TOKENS> {
    int total[TOKENS][4];

    __device__ void begin(const anemo_fragment_shape &, const unsigned char *, int64_t, int) {
#pragma unroll
        for (int j = 0; j < TOKENS; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                total[j][i] = 0;
            }
        }
    }
    /* There is one group. */
    __device__ void enter(const anemo_fragment_shape &, const unsigned char *, int64_t, int) {
    }
    __device__ void close_group() {
    }
};

struct int8_numbers {
    int8_row row[2];
    int8_token token[2];
};

template <int TOKENS> struct tile_shape<INT8, TOKENS> {
    using value = int;
    using x_piece = uint2;
    using numbers = int8_numbers;
    static constexpr int STEP = TILE_X_BYTES;
    static constexpr int CHUNKS = STEP / ANEMO_FRAGMENT_CHUNK, UNITS = CHUNKS;
    static constexpr int TOKEN_BYTES = 160;
    static constexpr int STAGES = 3, AT_ONCE = 2;
    static constexpr int X_BYTES = 8 * TOKENS * TOKEN_BYTES;
    static constexpr int W_BYTES = TILE_WARPS * TILE_BLOCKS * UNITS * ANEMO_FRAGMENT_UNIT_BYTES;
    static constexpr int STAGE_BYTES = X_BYTES + W_BYTES;
    static constexpr size_t SHARED_BYTES = (size_t)STAGES * STAGE_BYTES;
    static constexpr int VALUES = TILE_ROWS * 8 * TOKENS;

    static size_t x_row_bytes(int64_t k) {
        return anemo_a8_bytes(0, k);
    }
    static __device__ numbers numbers_of(const qgemm_call &c, int part, int64_t row,
                                         int64_t token) {
        numbers n = {};
        for (int i = 0; i < 2; i++) {
            if (row + 8 * i < c.problem.n[part]) {
                n.row[i] = int8_row_of(c.shape[part], c.weight[part], row + 8 * i);
            }
            if (token + i < c.m) {
                n.token[i] = int8_token_of(c, token + i);
            }
        }
        return n;
    }
    static __device__ float result(const numbers &n, int i, value sum) {
        return int8_result(n.row[i / 2], n.token[i % 2], sum);
    }
};

template <int TOKENS>
__device__ void tile_multiply_chunk(const anemo_fragment_shape &, const unsigned char *units,
                                    int chunk, const uint2 (&x)[TOKENS], sums<INT8, TOKENS> &sum) {
    const uint4 unit = *reinterpret_cast<const uint4 *>(units + chunk * ANEMO_FRAGMENT_UNIT_BYTES);
    const uint32_t a[4] = {
        anemo_fragment_four8(unit.x, unit.y, 0), anemo_fragment_four8(unit.x, unit.y, 1),
        anemo_fragment_four8(unit.z, unit.w, 0), anemo_fragment_four8(unit.z, unit.w, 1)};
#pragma unroll
    for (int j = 0; j < TOKENS; j++) {
        const uint32_t b[2] = {x[j].x, x[j].y};
        mma_u8s8(sum.total[j], a, b);
    }
}

} // namespace gpu

#endif
