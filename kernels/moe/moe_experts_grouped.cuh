/* moe_experts on the matrix unit, for any number of tokens, from the fragment layouts.
 *
 * Two products: gate, up and their activation into `hidden` (bf16), then down into `rows`. Each is
 * a persistent grid that finds its work in the plan's offsets (grouped.h) and a small grid that
 * joins the tiles which it cut; the host launches all four without a look at the plan.
 *
 * A tile is eight warps' rows times up to 64 tokens of one expert. A warp has two blocks of 16
 * weight rows: one of gate and the same of up, so that a fragment of x in registers meets both and
 * a lane ends with g and u of the same element; of down, two neighbours. Tokens are the 8 columns
 * of the product, so an expert's rows are padded to 8: at most 7 products of padding up to 32
 * tokens, 15 up to 64, and nothing is loaded for them.
 *
 * A stage of the pipeline holds, for CHUNKS times 32 columns, the tokens' activations (gathered
 * from where they lie, by row_token), the warps' codes, and the numbers of their groups, all
 * brought by cp.async some stages ahead. The numbers must come that way, too: read when a group
 * begins, each would cost a warp the latency of memory, once per 128 columns, and with one or two
 * thread blocks on a multiprocessor there is no other warp to run meanwhile. Codes and numbers are
 * read by the warp that brought them; the barrier of a stage is for the activations. Few tokens
 * take 16 KB of codes per stage, so that the barrier is paid half as often.
 *
 * Partial sums are exact products of codes, scaled once per group (fragment.cuh). That takes two
 * sums per output: 128 registers for 2 x 16 rows x 64 tokens, which is what makes 64 tokens the
 * most, and one thread block of 8 warps all that fits. Minima take a third sum: 32 tokens. For up
 * to 16 tokens in all a second form of the grid has only the narrow tiles, fits twice, and has more
 * loads under way.
 *
 * What limits it, and what that should give on an H200 (Mixtral 8x7B, 4 bits in groups of 128; an
 * estimate, nothing of it measured). Per multiprocessor, for 64 columns of 256 rows: 8 KB of codes
 * come from memory in 440 cycles (4.3 TB/s over 132 multiprocessors); 64 products per block of 8
 * tokens take 100 at the rate of mma.sync, 62 % of wgmma's; unpacking the codes and the rest are
 * about 150 instructions a warp, two warps a scheduler: 300. So up to 24 tokens per expert memory
 * is the limit, and at 64 the matrix units are, with 830 cycles, shared memory next to them with
 * 690.
 *
 *     1 token     182 MB at 80 % of 4.3 TB/s: 53 us, and four grids: 60 to 65 us
 *     16, 64      720 MB: 210 us and the grids; at 64 tokens some experts have 24 rows: 220 to 240
 *     256         64 rows per expert, of which some have two tiles: 450 to 550 us
 *     4096        65 to 75 % of mma.sync's rate: 6.5 to 7.5 ms
 *     bf16        32 KB instead of 8: memory up to 128 tokens, about 80 % of it; at 4096 shared
 *                 memory, which codes pass twice: 45 to 55 % of 790 TFLOP/s
 *
 * More needs wgmma, whose second operand comes from shared memory once per four warps.
 *
 * Rejected: x copied in the plan's order (a launch, two passes over it); gate and then up over the
 * same tile (x twice, and gate's sums parked); scaled weights rounded to bf16 (half the sums, less
 * exact: the next thing to try for many tokens); eight warps that split k over the same rows, for
 * decode (no tile is cut then, but each 16 rows read all of x: from 16 tokens on that is more than
 * the weights); the last to arrive adds up (atomics, and order by luck). Results depend on the cut,
 * so on the plan: not row-invariant, but the same bits for the same plan every time. */
#ifndef ANEMO_MOE_EXPERTS_GROUPED_CUH
#define ANEMO_MOE_EXPERTS_GROUPED_CUH

#include "kernels/moe/grouped.h"
#include "kernels/moe/moe.h"
#include "kernels/qgemm/fragment.cuh"
#include "kernels/warp.cuh"

namespace gpu {

constexpr int GROUPED_WARPS = 8, GROUPED_THREADS = GROUPED_WARPS * WARP;
constexpr int GROUPED_HALVES = 2;                                 /* blocks of 16 rows of a warp */
constexpr int GROUPED_ROWS = GROUPED_WARPS * ANEMO_FRAGMENT_ROWS; /* of one half */
constexpr int GROUPED_FEW = 2;                 /* token blocks of the narrow form: 16 tokens */
constexpr int GROUPED_SHARED_BYTES = 92 << 10; /* beside 2 KB of table: what sm_86 has, too */
constexpr int GROUPED_MOST_STAGES = 6;

/* One of the two weights that a tile reads: gate and up, or down twice. */
struct grouped_weight {
    const void *const *packed; /* [n_experts] */
    const float *bias;         /* [n_experts, n] or NULL */
    anemo_fragment_shape shape;
};

struct grouped_call {
    moe_grouped work;
    grouped_weight half[GROUPED_HALVES];
    const int32_t *offset;
    const int32_t *row_token; /* NULL: record of x = sorted row */
    const unsigned char *x;   /* bf16 records */
    int64_t x_row_bytes;
    unsigned char *hidden; /* bf16 records, of gate and up */
    int64_t hidden_row_bytes;
    float *rows; /* [R, n], of down; NULL: gate and up */
    float *partials;
    int64_t slot_floats;
    int activation;
};

template <int BITS, int TOKENS, bool MINIMA> struct grouped_shape {
    static constexpr bool LONG = TOKENS <= 4 && !MINIMA; /* stages, of 16 KB of codes */
    static constexpr int CHUNKS = BITS == 4 ? (LONG ? 4 : 2) : BITS == 8 && LONG ? 2 : 1;
    static constexpr int UNITS = CHUNKS * BITS / 8;        /* of a block of rows */
    static constexpr int PIECES = 8 * TOKENS * CHUNKS * 4; /* 16 bytes of activations each */
    static constexpr int X_BYTES = PIECES * 16;
    static constexpr int CODE_BYTES = UNITS * ANEMO_FRAGMENT_UNIT_BYTES;
    static constexpr int SCALE_BYTES = CHUNKS * 64; /* a group of 32 columns, f32 */
    static constexpr int ZEROS_AT = (MINIMA ? 2 : 1) * SCALE_BYTES;
    static constexpr int NUMBER_BYTES = BITS == 16 ? 0 : ZEROS_AT + CHUNKS * 16;
    static constexpr int BLOCK_BYTES = CODE_BYTES + NUMBER_BYTES; /* of 16 rows */
    static constexpr int STAGE_BYTES = X_BYTES + GROUPED_WARPS * GROUPED_HALVES * BLOCK_BYTES;
    static constexpr int FIT = GROUPED_SHARED_BYTES / STAGE_BYTES;
    static constexpr int STAGES = FIT < GROUPED_MOST_STAGES ? FIT : GROUPED_MOST_STAGES;
    static_assert(STAGES >= 3, "a stage to read, one under way, one to fill");
};

/* ---------------------------------------------------------------- loads */

/* What a thread reads through the steps of an item. */
template <int BITS, int TOKENS, bool MINIMA> struct grouped_sources {
    using shape = grouped_shape<BITS, TOKENS, MINIMA>;
    static constexpr int OWN = (shape::PIECES + GROUPED_THREADS - 1) / GROUPED_THREADS;
    const unsigned char *x[OWN];                /* record of each own piece's token; NULL: none */
    const unsigned char *block[GROUPED_HALVES]; /* of the warp's rows; NULL: none there */
    int32_t end;                                /* chunk */
};

/* Block of 16 rows of the warp's half h. */
__device__ inline int64_t grouped_block(const grouped_call &c, const moe_grouped_item &item, int h,
                                        int warp) {
    const int64_t at = (int64_t)item.row_tile * GROUPED_WARPS + warp;
    return c.rows == nullptr ? at : at * GROUPED_HALVES + h;
}

template <int BITS, int TOKENS, bool MINIMA>
__device__ grouped_sources<BITS, TOKENS, MINIMA> grouped_sources_of(const grouped_call &c,
                                                                    const moe_grouped_item &item) {
    using shape = grouped_shape<BITS, TOKENS, MINIMA>;
    grouped_sources<BITS, TOKENS, MINIMA> from;
#pragma unroll
    for (int i = 0; i < from.OWN; i++) {
        const int token = (threadIdx.x + i * GROUPED_THREADS) / (shape::CHUNKS * 4);
        from.x[i] = nullptr;
        if (token < item.rows) {
            const int64_t row = item.row_begin + token;
            from.x[i] = c.x + (c.row_token != nullptr ? c.row_token[row] : row) * c.x_row_bytes;
        }
    }
#pragma unroll
    for (int h = 0; h < GROUPED_HALVES; h++) {
        const anemo_fragment_shape &s = c.half[h].shape;
        const int64_t block = grouped_block(c, item, h, threadIdx.x / WARP);
        from.block[h] = nullptr;
        if (block < s.blocks) {
            from.block[h] = static_cast<const unsigned char *>(c.half[h].packed[item.expert]) +
                            block * (int64_t)s.block_bytes;
        }
    }
    from.end = 2 * item.end;
    return from;
}

/* Numbers of the groups that [chunk, end) of the stage meets, into a block's part of the stage. */
template <class shape>
__device__ void grouped_load_numbers(const anemo_fragment_shape &s, const unsigned char *block,
                                     int chunk, int end, unsigned char *to) {
    const int lane = threadIdx.x % WARP, chunks = (int)s.group / ANEMO_FRAGMENT_CHUNK;
    const int first = chunk / chunks, last = (end - 1) / chunks;
    const int there = (int)s.groups - first, groups = (int)min_i64(last - first + 1, there);
    const int pieces = groups * s.scale_bytes; /* 16 numbers are so many times 16 bytes */
    const int64_t skip = (int64_t)first * ANEMO_FRAGMENT_ROWS;
    if (lane < pieces) {
        copy_async(to + lane * 16, block + s.scales_at + skip * s.scale_bytes + lane * 16);
        if (s.has_minimum) {
            copy_async(to + shape::SCALE_BYTES + lane * 16,
                       block + s.minima_at + skip * s.scale_bytes + lane * 16);
        }
    }
    if (s.has_zero && lane < groups) {
        copy_async(to + shape::ZEROS_AT + lane * 16, block + s.zeros_at + skip + lane * 16);
    }
}

/* Brings the stage of chunks [chunk, chunk + CHUNKS): an empty group of copies where there is none,
 * so that counts stay even. */
template <int BITS, int TOKENS, bool MINIMA>
__device__ void grouped_load(const grouped_call &c,
                             const grouped_sources<BITS, TOKENS, MINIMA> &from, int chunk,
                             unsigned char *stage) {
    using shape = grouped_shape<BITS, TOKENS, MINIMA>;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int end = (int)min_i64(from.end, chunk + shape::CHUNKS);
    if (chunk >= end) {
        commit_copies();
        return;
    }
#pragma unroll
    for (int i = 0; i < from.OWN; i++) {
        const int piece = threadIdx.x + i * GROUPED_THREADS;
        const int byte = piece % (shape::CHUNKS * 4) * 16;
        const int64_t at = (int64_t)chunk * 64 + byte;
        if (shape::PIECES % GROUPED_THREADS == 0 || piece < shape::PIECES) {
            unsigned char *to =
                stage + moe_grouped_token_at(shape::CHUNKS, piece / (shape::CHUNKS * 4), byte);
            if (from.x[i] != nullptr && at < c.x_row_bytes) {
                copy_async(to, from.x[i] + at);
            } else {
                *reinterpret_cast<uint4 *>(to) = make_uint4(0, 0, 0, 0);
            }
        }
    }
#pragma unroll
    for (int h = 0; h < GROUPED_HALVES; h++) {
        unsigned char *to =
            stage + shape::X_BYTES + (warp * GROUPED_HALVES + h) * shape::BLOCK_BYTES;
        if (from.block[h] == nullptr) { /* the same for the whole warp */
            continue;
        }
#pragma unroll
        for (int u = 0; u < shape::UNITS; u++) {
            const int unit = chunk * BITS / 8 + u;
            if (unit < end * BITS / 8) {
                copy_async(to + u * ANEMO_FRAGMENT_UNIT_BYTES + lane * ANEMO_FRAGMENT_LANE_BYTES,
                           from.block[h] + (int64_t)unit * ANEMO_FRAGMENT_UNIT_BYTES +
                               lane * ANEMO_FRAGMENT_LANE_BYTES);
            }
        }
        if constexpr (BITS < 16) {
            grouped_load_numbers<shape>(c.half[h].shape, from.block[h], chunk, end,
                                        to + shape::CODE_BYTES);
        }
    }
    commit_copies();
}

/* ---------------------------------------------------------------- products */

/* Before a chunk: where a group begins, the one before is added up and the numbers change. `first`
 * is the group whose numbers come first in the stage. */
template <int BITS, int TOKENS, bool MINIMA>
__device__ void grouped_enter(const anemo_fragment_shape &s, int chunk,
                              const unsigned char *numbers, int first,
                              sums<BITS, TOKENS, MINIMA> &sum) {
    using shape = grouped_shape<BITS, TOKENS, MINIMA>;
    if (BITS < 16 && chunk == sum.group_end) {
        const group_table table = {numbers, numbers + shape::SCALE_BYTES,
                                   numbers + shape::ZEROS_AT};
        const int next = sum.group + 1, g = threadIdx.x % WARP / 4;
        sum.close_group();
        sum.open_group(next, numbers_at<BITS>(s, table, next - first, next < s.groups, g));
    }
}

/* A stage into the sums of the warp's two blocks. Where the weight ends, so that a warp has but one
 * or none, it multiplies what happens to lie there: nobody reads those sums. */
template <int BITS, int TOKENS, bool MINIMA>
__device__ void grouped_multiply(const grouped_call &c,
                                 const grouped_sources<BITS, TOKENS, MINIMA> &from, int chunk0,
                                 const unsigned char *stage,
                                 sums<BITS, TOKENS, MINIMA> (&sum)[GROUPED_HALVES]) {
    using shape = grouped_shape<BITS, TOKENS, MINIMA>;
    constexpr int TILES = 16 / BITS;                       /* of a unit */
    constexpr int TOGETHER = TOKENS % 2 == 0 ? 2 : TOKENS; /* token blocks */
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const unsigned char *blocks =
        stage + shape::X_BYTES + warp * GROUPED_HALVES * shape::BLOCK_BYTES;
    int first[GROUPED_HALVES];
#pragma unroll
    for (int h = 0; h < GROUPED_HALVES; h++) {
        first[h] = sum[h].group_end == chunk0 ? sum[h].group + 1 : sum[h].group;
    }
#pragma unroll
    for (int i = 0; i < shape::CHUNKS; i++) {
        if (shape::CHUNKS > 2 && chunk0 + i >= from.end) { /* ends are even */
            break;
        }
        uint32_t a[GROUPED_HALVES][2][4]; /* two tiles of each block */
#pragma unroll
        for (int h = 0; h < GROUPED_HALVES; h++) {
            const unsigned char *block = blocks + h * shape::BLOCK_BYTES;
            grouped_enter(c.half[h].shape, chunk0 + i, block + shape::CODE_BYTES, first[h], sum[h]);
#pragma unroll
            for (int k = 0; k < 2; k++) {
                const int tile = 2 * i + k;
                const uint4 unit = *reinterpret_cast<const uint4 *>(
                    block + tile / TILES * ANEMO_FRAGMENT_UNIT_BYTES +
                    lane * ANEMO_FRAGMENT_LANE_BYTES);
                tile_registers<BITS>(unit, tile % TILES, sum[h].numbers, a[h][k]);
            }
        }
#pragma unroll
        for (int j = 0; j < TOKENS; j += TOGETHER) {
            uint4 x[TOGETHER];
#pragma unroll
            for (int l = 0; l < TOGETHER; l++) {
                x[l] = *reinterpret_cast<const uint4 *>(
                    stage + moe_grouped_token_at(shape::CHUNKS, 8 * (j + l) + g, i * 64 + t * 16));
            }
#pragma unroll
            for (int l = 0; l < 2 * GROUPED_HALVES * TOGETHER; l++) { /* one sum's are far apart */
                const int k = l / (GROUPED_HALVES * TOGETHER), h = l % GROUPED_HALVES;
                const uint4 &its = x[l / GROUPED_HALVES % TOGETHER];
                sum[h].add(c.half[h].shape, a[h][k], j + l / GROUPED_HALVES % TOGETHER,
                           {k == 0 ? its.x : its.z, k == 0 ? its.y : its.w});
            }
        }
    }
}

/* ---------------------------------------------------------------- results */

/* The sums of row `row` (of the tile's halves) and a token: out they go. */
__device__ inline void grouped_emit(const grouped_call &c, const moe_grouped_item &item, int token,
                                    int row, const float (&sum)[GROUPED_HALVES]) {
    const int64_t to = item.row_begin + token;
    float result[GROUPED_HALVES];
    int64_t column[GROUPED_HALVES];
#pragma unroll
    for (int h = 0; h < GROUPED_HALVES; h++) {
        const grouped_weight &w = c.half[h];
        column[h] = grouped_block(c, item, h, row / ANEMO_FRAGMENT_ROWS) * ANEMO_FRAGMENT_ROWS +
                    row % ANEMO_FRAGMENT_ROWS;
        const bool biased = w.bias != nullptr && column[h] < w.shape.n;
        result[h] = biased ? sum[h] + w.bias[item.expert * w.shape.n + column[h]] : sum[h];
        if (c.rows != nullptr && column[h] < w.shape.n) {
            c.rows[to * w.shape.n + column[h]] = result[h];
        }
    }
    if (c.rows == nullptr && 2 * column[0] < c.hidden_row_bytes) { /* with its padding: zeros */
        const float h =
            column[0] < c.half[0].shape.n ? activate(c.activation, result[0], result[1]) : 0.0f;
        reinterpret_cast<uint16_t *>(c.hidden + to * c.hidden_row_bytes)[column[0]] =
            static_cast<uint16_t>(pack_bf16x2(h, h));
    }
}

/* A tile's sums lie as the lanes of the product hold them: where the one of (token, row) stands,
 * but for the half, GROUPED_THREADS floats further. */
__device__ inline int grouped_sum_at(int token, int row) {
    const int thread = row / ANEMO_FRAGMENT_ROWS * WARP + row % 8 * 4 + token % 8 / 2;
    const int value = row % ANEMO_FRAGMENT_ROWS / 8 * 2 + token % 2;
    return (token / 8 * 4 + value) * GROUPED_HALVES * GROUPED_THREADS + thread;
}

/* Sums of a whole tile go through shared memory, so that a warp writes neighbouring columns; those
 * of a part of one to its slot. */
template <int BITS, int TOKENS, bool MINIMA>
__device__ void grouped_store(const grouped_call &c, const moe_grouped_item &item,
                              const sums<BITS, TOKENS, MINIMA> (&sum)[GROUPED_HALVES],
                              float *shared) {
    float *to = item.slot < 0 ? shared : c.partials + item.slot * c.slot_floats;
    __syncthreads(); /* the last stage has been read */
#pragma unroll
    for (int j = 0; j < TOKENS; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int h = 0; h < GROUPED_HALVES; h++) {
                to[((j * 4 + i) * GROUPED_HALVES + h) * GROUPED_THREADS + threadIdx.x] =
                    sum[h].total[j][i];
            }
        }
    }
}

/* Behind a barrier. */
__device__ inline void grouped_emit_all(const grouped_call &c, const moe_grouped_item &item,
                                        const float *shared) {
    for (int e = threadIdx.x; e < item.rows * GROUPED_ROWS; e += GROUPED_THREADS) {
        const int token = e / GROUPED_ROWS, row = e % GROUPED_ROWS, at = grouped_sum_at(token, row);
        grouped_emit(c, item, token, row, {shared[at], shared[at + GROUPED_THREADS]});
    }
}

template <int BITS, int TOKENS, bool MINIMA>
__device__ void grouped_item(const grouped_call &c, const moe_grouped_item &item,
                             unsigned char *shared) {
    using shape = grouped_shape<BITS, TOKENS, MINIMA>;
    const grouped_sources<BITS, TOKENS, MINIMA> from =
        grouped_sources_of<BITS, TOKENS, MINIMA>(c, item);
    const int begin = 2 * item.begin;
    sums<BITS, TOKENS, MINIMA> sum[GROUPED_HALVES];
#pragma unroll
    for (int h = 0; h < GROUPED_HALVES; h++) {
        sum[h].clear(c.half[h].shape, begin);
    }
    for (int i = 0; i < shape::STAGES - 1; i++) {
        grouped_load(c, from, begin + i * shape::CHUNKS, shared + i * shape::STAGE_BYTES);
    }
    int reads = 0, fills = shape::STAGES - 1;
    for (int chunk = begin; chunk < from.end; chunk += shape::CHUNKS) {
        wait_copies<shape::STAGES - 2>();
        __syncthreads(); /* this stage is there for all, and the one before is free */
        grouped_load(c, from, chunk + (shape::STAGES - 1) * shape::CHUNKS,
                     shared + fills * shape::STAGE_BYTES);
        grouped_multiply(c, from, chunk, shared + reads * shape::STAGE_BYTES, sum);
        reads = reads + 1 == shape::STAGES ? 0 : reads + 1;
        fills = fills + 1 == shape::STAGES ? 0 : fills + 1;
    }
    wait_copies<0>();
#pragma unroll
    for (int h = 0; h < GROUPED_HALVES; h++) {
        sum[h].close_group();
    }
    grouped_store(c, item, sum, reinterpret_cast<float *>(shared));
}

/* ---------------------------------------------------------------- the grids */

/* Thread e adds up what the experts before e have. */
__device__ inline void grouped_table_of(const grouped_call &c, moe_grouped_table *table) {
    const int e = threadIdx.x, n = c.work.n_experts;
    moe_grouped_share own = {0, 0};
    if (e < n) {
        own = moe_grouped_share_of(&c.work, c.offset, e);
        table->full[e] = own.full;
        table->rest[e] = own.rest;
    }
    __syncthreads();
    moe_grouped_share before = {0, 0};
    for (int i = 0; i < e && e < n; i++) {
        before.full += table->full[i];
        before.rest += table->rest[i];
    }
    __syncthreads();
    if (e < n) {
        table->full[e] = before.full;
        table->rest[e] = before.rest;
    }
    if (e == n - 1) {
        table->full[n] = before.full + own.full;
        table->rest[n] = before.rest + own.rest;
    }
    __syncthreads();
}

template <int BITS, bool MINIMA, int WIDEST>
__global__ void __launch_bounds__(GROUPED_THREADS, WIDEST <= GROUPED_FEW ? 2 : 1)
    grouped(const __grid_constant__ grouped_call c) {
    GPU_SHARED(unsigned char, shared);
    __shared__ moe_grouped_table table; /* registers are for sums: one thread reads the list */
    __shared__ moe_grouped_cursor at;
    __shared__ moe_grouped_item item;
    __shared__ bool any;
    grouped_table_of(c, &table);
    if (threadIdx.x == 0) {
        at = moe_grouped_start(&c.work, &table, (int)blockIdx.x);
    }
    for (;;) {
        __syncthreads(); /* the item before is done, and so is its shared memory */
        if (threadIdx.x == 0) {
            any = moe_grouped_next(&c.work, &table, c.offset, &at, &item);
        }
        __syncthreads();
        if (!any) {
            break;
        }
        if (item.width == 1) {
            grouped_item<BITS, 1, MINIMA>(c, item, shared);
        } else if (item.width == 2) {
            grouped_item<BITS, 2, MINIMA>(c, item, shared);
        }
        if constexpr (WIDEST >= 4) {
            if (item.width == 3) {
                grouped_item<BITS, 3, MINIMA>(c, item, shared);
            } else if (item.width == 4) {
                grouped_item<BITS, 4, MINIMA>(c, item, shared);
            }
        }
        if constexpr (WIDEST >= 8) {
            if (item.width == 6) {
                grouped_item<BITS, 6, MINIMA>(c, item, shared);
            } else if (item.width == 8) {
                grouped_item<BITS, 8, MINIMA>(c, item, shared);
            }
        }
        if (item.slot < 0) {
            __syncthreads();
            grouped_emit_all(c, item, reinterpret_cast<const float *>(shared));
        }
    }
}

/* Thread block (b, j) joins token block j of the tile in which worker b + 1 is the first to go on.
 */
static __global__ void __launch_bounds__(GROUPED_THREADS)
    grouped_join(const __grid_constant__ grouped_call c) {
    __shared__ moe_grouped_table table;
    grouped_table_of(c, &table);
    const int j = (int)blockIdx.y;
    moe_grouped_cut cut;
    if (!moe_grouped_cut_of(&c.work, &table, c.offset, (int)blockIdx.x + 1, &cut) ||
        j >= cut.item.width) {
        return;
    }
    /* Tokens 2 k further stand k floats further. */
    const int token = 8 * j + threadIdx.x / GROUPED_ROWS, row = threadIdx.x % GROUPED_ROWS;
    const float *partials = c.partials + grouped_sum_at(token, row);
    float sum[4][GROUPED_HALVES] = {};
#pragma unroll 4
    for (int w = cut.first; w <= cut.last; w++) {
        const int64_t slot = w == cut.first ? 2 * w + 1 : 2 * w;
#pragma unroll
        for (int h = 0; h < GROUPED_HALVES; h++) {
            const float4 part = *reinterpret_cast<const float4 *>(partials + slot * c.slot_floats +
                                                                  h * GROUPED_THREADS);
            sum[0][h] += part.x;
            sum[1][h] += part.y;
            sum[2][h] += part.z;
            sum[3][h] += part.w;
        }
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
        if (token + 2 * k < cut.item.rows) {
            grouped_emit(c, cut.item, token + 2 * k, row, sum[k]);
        }
    }
}

/* ---------------------------------------------------------------- the host's side */

inline bool grouped_has_minima(const anemo_moe_experts_problem *p) {
    return p->gate.offset == ANEMO_OFFSET_MINIMUM || p->up.offset == ANEMO_OFFSET_MINIMUM ||
           p->down.offset == ANEMO_OFFSET_MINIMUM;
}

/* Token blocks of the widest tile, and thread blocks. */
struct grouped_form {
    int widest, workers;
};

inline grouped_form grouped_form_of(const anemo_moe_experts_problem *p, int64_t tokens) {
    if (tokens <= 8 * GROUPED_FEW) {
        return {GROUPED_FEW, 2 * MOE_GROUPED_WORKERS};
    }
    return {grouped_has_minima(p) ? 4 : 8, MOE_GROUPED_WORKERS};
}

inline moe_grouped grouped_work_of(const anemo_moe_experts_problem *p, int64_t tokens, bool down) {
    const grouped_form form = grouped_form_of(p, tokens);
    return down ? moe_grouped_of(p, tokens, form.widest, form.workers,
                                 GROUPED_ROWS * GROUPED_HALVES, p->d, p->ffn)
                : moe_grouped_of(p, tokens, form.widest, form.workers, GROUPED_ROWS, p->ffn, p->d);
}

inline int64_t grouped_slot_floats(int widest) {
    return (int64_t)GROUPED_HALVES * GROUPED_ROWS * 8 * widest;
}

inline size_t grouped_record_bytes(int64_t k) {
    return (size_t)anemo_fragment_up(2 * k, 64);
}

inline size_t grouped_hidden_bytes(const anemo_moe_experts_problem *p, int64_t tokens) {
    return (size_t)anemo_fragment_up((int64_t)grouped_record_bytes(p->ffn) * tokens * p->top_k,
                                     256);
}

inline int64_t grouped_partial_bytes(const anemo_moe_experts_problem *p, int64_t tokens) {
    const int64_t workers = max_i64(grouped_work_of(p, tokens, false).workers,
                                    grouped_work_of(p, tokens, true).workers);
    return (int64_t)sizeof(float) * 2 * workers *
           grouped_slot_floats(grouped_form_of(p, tokens).widest);
}

inline size_t grouped_workspace(const void *problem, int32_t) {
    const auto *p = static_cast<const anemo_moe_experts_problem *>(problem);
    const int64_t few = min_i64(p->tokens_max, 8 * GROUPED_FEW);
    return grouped_hidden_bytes(p, p->tokens_max) +
           (size_t)max_i64(grouped_partial_bytes(p, p->tokens_max), grouped_partial_bytes(p, few));
}

inline bool grouped_accepts(const void *problem, char *why, size_t why_bytes) {
    const auto *p = static_cast<const anemo_moe_experts_problem *>(problem);
    if (!anemo_moe_experts_accepts(problem, why, why_bytes)) {
        return false;
    }
    return p->expert_end - p->expert_begin <= MOE_GROUPED_EXPERTS_MAX ||
           anemo_refuse(why, why_bytes, "%d experts of a range; up to %d are accepted",
                        p->expert_end - p->expert_begin, MOE_GROUPED_EXPERTS_MAX);
}

inline grouped_weight grouped_weight_of(const void *const *packed, const float *bias, bool biased,
                                        const anemo_weight_type *type, int64_t n, int64_t k) {
    return {packed, biased ? bias : nullptr, anemo_fragment_shape_of(type, n, k)};
}

template <int BITS, bool MINIMA, int WIDEST>
anemo_status grouped_launch(const anemo_exec *exec, const grouped_call &c) {
    const dim3 threads(GROUPED_THREADS);
    const anemo_status status = launch(grouped<BITS, MINIMA, WIDEST>, dim3(c.work.workers), threads,
                                       GROUPED_SHARED_BYTES, exec, c);
    return status == ANEMO_OK && c.work.workers > 1
               ? launch(grouped_join, dim3(c.work.workers - 1, c.work.widest), threads, 0, exec, c)
               : status;
}

template <int BITS>
anemo_status grouped_launch_form(const anemo_exec *exec, const grouped_call &c, bool minima) {
    if constexpr (BITS < 16) {
        if (minima) {
            return c.work.widest == GROUPED_FEW ? grouped_launch<BITS, true, GROUPED_FEW>(exec, c)
                                                : grouped_launch<BITS, true, 4>(exec, c);
        }
    }
    return c.work.widest == GROUPED_FEW ? grouped_launch<BITS, false, GROUPED_FEW>(exec, c)
                                        : grouped_launch<BITS, false, 8>(exec, c);
}

template <int BITS>
anemo_status grouped_run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const auto *p = static_cast<const anemo_moe_experts_problem *>(problem);
    const auto *a = static_cast<const anemo_moe_experts_args *>(arguments);
    if (a->tokens < 0 || a->tokens > p->tokens_max) {
        return ANEMO_E_INPUT;
    }
    if (exec->workspace_bytes < grouped_workspace(p, 1)) {
        return ANEMO_E_MEMORY;
    }
    if (a->tokens == 0 || p->expert_begin == p->expert_end) {
        return ANEMO_OK;
    }
    grouped_call c = {};
    c.work = grouped_work_of(p, a->tokens, false);
    c.half[0] = grouped_weight_of(a->gate, a->gate_bias, p->has_bias & 1, &p->gate, p->ffn, p->d);
    c.half[1] = grouped_weight_of(a->up, a->up_bias, p->has_bias & 2, &p->up, p->ffn, p->d);
    c.offset = a->plan.offset;
    c.row_token = a->plan.row_token;
    c.x = static_cast<const unsigned char *>(a->x);
    c.x_row_bytes = (int64_t)grouped_record_bytes(p->d);
    c.hidden = static_cast<unsigned char *>(exec->workspace);
    c.hidden_row_bytes = (int64_t)grouped_record_bytes(p->ffn);
    c.partials = reinterpret_cast<float *>(c.hidden + grouped_hidden_bytes(p, a->tokens));
    c.slot_floats = grouped_slot_floats(c.work.widest);
    c.activation = p->activation;
    const bool minima = grouped_has_minima(p);
    const anemo_status status = grouped_launch_form<BITS>(exec, c, minima);
    if (status != ANEMO_OK) {
        return status;
    }
    c.work = grouped_work_of(p, a->tokens, true);
    c.half[0] = c.half[1] =
        grouped_weight_of(a->down, a->down_bias, p->has_bias & 4, &p->down, p->d, p->ffn);
    c.row_token = nullptr;
    c.x = c.hidden;
    c.x_row_bytes = c.hidden_row_bytes;
    c.rows = a->rows;
    return grouped_launch_form<BITS>(exec, c, minima);
}

} // namespace gpu

/* The description of a variant that reads a fragment layout and bf16 activations. */
#define GPU_MOE_EXPERTS_GROUPED(id, bits, its_layout, what)                                        \
    extern "C" {                                                                                   \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_MOE_EXPERTS,                                                                \
        .backend = ANEMO_CUDA,                                                                     \
        .needs = {.cpu_features = 0, .min_capability = 80, .exact_capability = 0},                 \
        .layout = its_layout,                                                                      \
        .act = "bf16",                                                                             \
        .traits = ANEMO_TRAIT_CAPTURABLE,                                                          \
        .idea = what,                                                                              \
        .accepts = gpu::grouped_accepts,                                                           \
        .workspace_bytes = gpu::grouped_workspace,                                                 \
        .run = gpu::grouped_run<bits>,                                                             \
    };                                                                                             \
    }

#endif
