/* From a fragment of weights to sums, for all kernels that read the fragment layouts.
 *
 * Codes minus their zero point are small whole numbers, which bf16 holds exactly, so the matrix
 * unit multiplies *codes* with activations and its float sums are scaled once per group: more
 * exact than rounding scaled weights to bf16, and cheaper as soon as a fragment meets few tokens.
 * A minimum is subtracted times the sum of the group's activations, which is one more product,
 * with a matrix of ones. */
#ifndef ANEMO_FRAGMENT_CUH
#define ANEMO_FRAGMENT_CUH

#include "kernels/activate.cuh"
#include "kernels/gpu.cuh"
#include "kernels/qgemm/fragment.h"
#include "kernels/qgemm/schedule.h"

namespace gpu {

/* What a launch of any qgemm kernel gets. */
struct qgemm_call {
    anemo_qgemm_problem problem;
    anemo_fragment_shape shape[ANEMO_QGEMM_PARTS];
    const unsigned char *weight[ANEMO_QGEMM_PARTS];
    const float *bias[ANEMO_QGEMM_PARTS]; /* NULL: none */
    float *y[ANEMO_QGEMM_PARTS];
    int64_t y_stride[ANEMO_QGEMM_PARTS];
    const unsigned char *x; /* records of the variant's format */
    int64_t x_row_bytes, m;
};

inline qgemm_call qgemm_call_of(const anemo_qgemm_problem *p, const anemo_qgemm_args *a,
                                size_t x_row_bytes) {
    qgemm_call c = {};
    c.problem = *p;
    for (int i = 0; i < p->n_parts; i++) {
        c.shape[i] = anemo_fragment_shape_of(&p->type[i], p->n[i], p->k);
        c.weight[i] = static_cast<const unsigned char *>(a->weight[i]);
        c.bias[i] = (p->has_bias >> i & 1) != 0 ? a->bias[i] : nullptr;
        c.y[i] = a->y[i];
        c.y_stride[i] = a->y_stride[i];
    }
    c.x = static_cast<const unsigned char *>(a->x);
    c.x_row_bytes = static_cast<int64_t>(x_row_bytes);
    c.m = a->m;
    return c;
}

/* ---------------------------------------------------------------- activations */

/* Columns 8 t .. 8 t + 7 of chunk `chunk` of a token's record; zeros behind its end. */
__device__ inline uint4 load_x(const qgemm_call &c, int64_t token, int64_t chunk, int t) {
    if (token >= c.m || chunk * 64 >= c.x_row_bytes) {
        return make_uint4(0, 0, 0, 0);
    }
    return *reinterpret_cast<const uint4 *>(c.x + token * c.x_row_bytes + chunk * 64 + t * 16);
}

/* ---------------------------------------------------------------- scales of a group */

struct group_numbers {
    float scale[2], minimum[2]; /* of rows g and g + 8 */
    uint32_t minus_zero[2];     /* 4 bits: a bf16 pair */
    float zero[2];              /* 8 bits: 2^23 + zero */
};

__device__ inline void two_numbers(const unsigned char *numbers, int bytes, int64_t at,
                                   float (&out)[2]) {
    if (bytes == 2) {
        const uint32_t pair = *reinterpret_cast<const uint32_t *>(numbers + 2 * at);
        out[0] = float_of_half(static_cast<uint16_t>(pair));
        out[1] = float_of_half(static_cast<uint16_t>(pair >> 16));
    } else {
        const float2 pair = *reinterpret_cast<const float2 *>(numbers + 4 * at);
        out[0] = pair.x;
        out[1] = pair.y;
    }
}

/* Where the numbers of groups stand, one behind the other: in memory, or in a copy of some. */
struct group_table {
    const unsigned char *scales, *minima, *zeros;
};

/* Those of a table's group `index`, for rows g and g + 8; `there`: it is no padding, whose numbers
 * are all 0. */
template <int BITS>
__device__ inline group_numbers numbers_at(const anemo_fragment_shape &s, const group_table &from,
                                           int64_t index, bool there, int g) {
    group_numbers n = {};
    const int64_t at = index * ANEMO_FRAGMENT_ROWS + 2 * g;
    uint32_t zeros[2] = {1u << (BITS - 1), 1u << (BITS - 1)};
    if (there) {
        two_numbers(from.scales, s.scale_bytes, at, n.scale);
        if (s.has_minimum) {
            two_numbers(from.minima, s.scale_bytes, at, n.minimum);
            zeros[0] = zeros[1] = 0;
        } else if (s.has_zero) {
            zeros[0] = from.zeros[at];
            zeros[1] = from.zeros[at + 1];
        }
    }
    for (int i = 0; i < 2; i++) {
        n.minus_zero[i] = anemo_fragment_zero4(zeros[i] & 15);
        n.zero[i] = __uint_as_float(anemo_fragment_float8(zeros[i]));
    }
    return n;
}

template <int BITS>
__device__ inline group_numbers numbers_of(const anemo_fragment_shape &s,
                                           const unsigned char *block, int64_t group, int g) {
    const group_table all = {block + s.scales_at, block + s.minima_at, block + s.zeros_at};
    return numbers_at<BITS>(s, all, group, group < s.groups, g);
}

/* ---------------------------------------------------------------- registers of a tile */

/* Tile `tile` (a constant) of a lane's 16 bytes, as the product's first operand. */
template <int BITS>
__device__ inline void tile_registers(const uint4 &unit, int tile, const group_numbers &n,
                                      uint32_t (&a)[4]) {
    const uint32_t words[4] = {unit.x, unit.y, unit.z, unit.w};
#pragma unroll
    for (int r = 0; r < 4; r++) {
        if constexpr (BITS == 4) {
            const uint32_t pair =
                and_or(words[tile] >> 4 * r, ANEMO_FRAGMENT_PAIR4_MASK, ANEMO_FRAGMENT_PAIR4_BITS);
            a[r] = add_bf16x2(pair, n.minus_zero[r % 2]);
        } else if constexpr (BITS == 8) {
            const uint32_t pair = words[2 * tile + r / 2] >> r % 2 * 16;
            const float lo = __uint_as_float(anemo_fragment_float8(pair & 255u));
            const float hi = __uint_as_float(anemo_fragment_float8(pair >> 8 & 255u));
            a[r] = pack_bf16x2(lo - n.zero[r % 2], hi - n.zero[r % 2]);
        } else {
            a[r] = words[r];
        }
    }
}

/* Two weights from their codes minus zero point, rounded once to bf16. */
__device__ inline uint32_t scaled_pair(float lo, float hi, float scale, float minimum) {
    return pack_bf16x2(fmaf(scale, lo, -minimum), fmaf(scale, hi, -minimum));
}

/* The scale of a group as two bf16 numbers, twice each: a code times `rest` is exact with a scale
 * of 11 bits (f16) and 4-bit codes, and behind the last place of the result otherwise, so code
 * times scale is rounded once. */
struct split_scale {
    uint32_t head[2], rest[2]; /* of rows g and g + 8 */
};
__device__ inline split_scale split_scale_of(const group_numbers &n) {
    split_scale split;
    for (int i = 0; i < 2; i++) {
        split.head[i] = pack_bf16x2(n.scale[i], n.scale[i]);
        const float rest = n.scale[i] - __uint_as_float(split.head[i] << 16);
        split.rest[i] = pack_bf16x2(rest, rest);
    }
    return split;
}

/* Tile `tile` of a lane's 16 bytes as bf16 weights: what dequantise.cuh would write. */
template <int BITS>
__device__ inline void scaled_registers(const uint4 &unit, int tile, const group_numbers &n,
                                        const split_scale &split, bool has_minimum,
                                        uint32_t (&a)[4]) {
    constexpr uint32_t MINUS_0 = 0x80008000u;
    const uint32_t words[4] = {unit.x, unit.y, unit.z, unit.w};
    if constexpr (BITS != 8) {
        tile_registers<BITS>(unit, tile, n, a);
    }
    if (BITS == 4 && !has_minimum) {
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const uint32_t rest = fma_bf16x2(a[r], split.rest[r % 2], MINUS_0);
            a[r] = fma_bf16x2(a[r], split.head[r % 2], rest);
        }
        return;
    }
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const int row = r % 2;
        if constexpr (BITS == 8) {
            const uint32_t pair = words[2 * tile + r / 2] >> row * 16;
            const float lo = __uint_as_float(anemo_fragment_float8(pair & 255u));
            const float hi = __uint_as_float(anemo_fragment_float8(pair >> 8 & 255u));
            a[r] = scaled_pair(lo - n.zero[row], hi - n.zero[row], n.scale[row], n.minimum[row]);
        } else if constexpr (BITS == 4) {
            a[r] = scaled_pair(__uint_as_float(a[r] << 16), __uint_as_float(a[r] & 0xffff0000u),
                               n.scale[row], n.minimum[row]);
        }
    }
}

/* ---------------------------------------------------------------- sums */

/* 16 rows x 8 TOKENS tokens: lane 4 g + t has of each 8 tokens rows g, g, g + 8, g + 8 at tokens
 * 2 t, 2 t + 1, twice. Without MINIMA no weight may have any: fewer registers. */
template <int BITS, int TOKENS, bool MINIMA = (BITS < 16)> struct sums {
    float total[TOKENS][4];
    float part[TOKENS][4], ones[MINIMA ? TOKENS : 1][4]; /* of the open group: codes times x, x */
    group_numbers numbers;
    int32_t group, group_end, chunks_of_group; /* group_end: first chunk behind the open group */

    /* From `chunk` on; the first enter() opens its group. */
    __device__ void clear(const anemo_fragment_shape &s, int64_t chunk) {
#pragma unroll
        for (int j = 0; j < TOKENS; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                total[j][i] = 0.0f;
            }
        }
        chunks_of_group = (int32_t)(s.group / ANEMO_FRAGMENT_CHUNK);
        open_group((int32_t)chunk / chunks_of_group - 1, group_numbers{});
        group_end = (int32_t)chunk;
    }

    __device__ void begin(const anemo_fragment_shape &s, const unsigned char *block, int64_t chunk,
                          int g) {
        clear(s, chunk);
        enter(s, block, chunk, g);
    }

    __device__ void open_group(int32_t new_group, const group_numbers &its) {
        group = new_group;
        group_end = (group + 1) * chunks_of_group;
#pragma unroll
        for (int j = 0; j < TOKENS; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                part[j][i] = 0.0f;
                if constexpr (MINIMA) {
                    ones[j][i] = 0.0f;
                }
            }
        }
        numbers = its;
    }

    __device__ void close_group() {
#pragma unroll
        for (int j = 0; j < TOKENS; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if constexpr (BITS == 16) {
                    total[j][i] += part[j][i];
                } else {
                    total[j][i] = fmaf(numbers.scale[i / 2], part[j][i], total[j][i]);
                    if constexpr (MINIMA) {
                        total[j][i] = fmaf(-numbers.minimum[i / 2], ones[j][i], total[j][i]);
                    }
                }
            }
        }
    }

    /* Before the first tile of a chunk. */
    __device__ void enter(const anemo_fragment_shape &s, const unsigned char *block, int64_t chunk,
                          int g) {
        if (BITS < 16 && chunk == group_end) {
            const int32_t next = group + 1;
            close_group();
            open_group(next, numbers_of<BITS>(s, block, next, g));
        }
    }

    /* A tile's registers times those of token block j. */
    __device__ void add(const anemo_fragment_shape &s, const uint32_t (&a)[4], int j,
                        const uint32_t (&b)[2]) {
        constexpr uint32_t ONES[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
        mma_bf16(part[j], a, b);
        if constexpr (MINIMA) {
            if (s.has_minimum) {
                mma_bf16(ones[j], ONES, b);
            }
        }
    }

    /* Tile `tile` of a lane's unit, number h of its chunk, times x (load_x) of its tokens. */
    __device__ void multiply(const anemo_fragment_shape &s, const uint4 &unit, int tile, int h,
                             const uint4 (&x)[TOKENS]) {
        uint32_t a[4];
        tile_registers<BITS>(unit, tile, numbers, a);
#pragma unroll
        for (int j = 0; j < TOKENS; j++) {
            add(s, a, j, {h == 0 ? x[j].x : x[j].z, h == 0 ? x[j].y : x[j].w});
        }
    }
};

/* ---------------------------------------------------------------- the end of every kernel */

/* Bias and epilogue of one result; `up` only with ACT_MUL. */
__device__ inline void finish(const qgemm_call &c, int part, int64_t token, int64_t column,
                              float result, float up) {
    if (token >= c.m || column >= c.problem.n[part]) {
        return;
    }
    float *y = c.y[part] + token * c.y_stride[part] + column;
    result += c.bias[part] != nullptr ? c.bias[part][column] : 0.0f;
    if (c.problem.epilogue == ANEMO_EPI_ACT_MUL) {
        up += c.bias[1] != nullptr ? c.bias[1][column] : 0.0f;
        *y = activate(c.problem.activation, result, up);
    } else {
        *y = c.problem.epilogue == ANEMO_EPI_ADD ? *y + result : result;
    }
}

} // namespace gpu

#endif
