/* qgemm for many rows on Hopper: wgmma with the weights in registers, stream-K; sm_90a alone.
 *
 * Y^T = W X^T as in tile.cuh, but four warps multiply together: the 16 rows of a warp are its
 * quarter of the 64 rows of wgmma's first operand, which may come from registers, in the same form
 * as mma.sync's. So the one layout of the weights (fragment.h) serves here too: a weight goes from
 * memory through its own lane to the register that multiplies it. Tokens are the instruction's N.
 *
 * A thread block, 16 warps, has a tile of 256 weight rows x N tokens (32, 64 or 128). Per step, 64
 * columns, weights, their groups' numbers and activations come into shared memory by cp.async,
 * STAGES - 2 steps ahead (wgmma.h has the places). Activations are copied in pairs of columns,
 * 4 bytes, because the numbering of columns has to follow the weights': a warp copies one token's
 * 128 bytes to one row of 128 bytes, so both sides are whole lines and no banks meet; it costs four
 * times the instructions of 16-byte copies, 8 for each thread and step where N is 128.
 *
 * Weights are multiplied with their scale before the product, and rounded to bf16 once: what
 * dequantise + cuBLAS computes, with its error. Sums of codes that are scaled once per group, as
 * tile.cuh has them, would be more exact, but need a second set of N / 2 sums per thread, and N / 2
 * fma for each group of two instructions (groups of 32): as many as dequantising costs in all, and
 * wgmma must be drained first. Scaling 4-bit codes takes two fma of bf16 pairs (split_scale).
 *
 * Overlap: the registers of a tile of 16 columns are a buffer of two. While wgmma reads the one,
 * the next tile is dequantised into the other; wait<1> then frees the first. No wgmma is waited for
 * within a stretch but the one before the last. At a step's barrier the last wgmma of the step
 * before may still run, so the stage that is loaded after it is the one of two steps before.
 *
 * What limits it, on an H100 (2048 fma per cycle and multiprocessor, so that a step of 256 x 128 x
 * 64 takes 1024 cycles of the matrix unit, at 1.7 GHz): instructions. Counted in what CUDA 13.0's
 * ptxas makes of it, a warp issues about 285 per step with 4 bits in groups of 32, N = 128, of
 * which 64 to 80 dequantise, 60 are for two groups' scales, 70 for copies; about 50 fewer with
 * groups of 128, 250 with N = 64, 260 with 8 bits, 118 with bf16. A scheduler has four warps: 1140
 * slots per 1024 cycles, 0.9 of the matrix unit at best. Shared memory: wgmma reads its second
 * operand once per warpgroup, 64 bytes per cycle at any N, half of what there is. L2: 24 KiB per
 * 1024 cycles, where 128 x 128 tiles would want 40 bytes per cycle. If a quarter is lost to
 * latencies, m = 4096 reaches 0.65 of 990 TFLOP/s. At m = 64 (N = 64) memory needs 546 cycles for a
 * step (4.5 bits per weight, 3.35 TB/s), the matrix unit 512, issue 1000: 0.55 of the roof with
 * groups of 32, 0.65 with 128. bf16 weights want 48 KiB of L2 for a step, 48 bytes per cycle: there
 * cuBLAS should be better. To be tried first on hardware: activations through registers (below),
 * steps of 128 columns.
 *
 * Rejected: TMA for activations (copies whole 16-byte pieces, which the numbering forbids; with an
 * activation format that is numbered so it would be the better way); exchanging weights between
 * lanes instead (8 to 32 shuffles per step and warp); activations through registers (four 16-byte
 * loads are the transposition for nothing, but nothing then is on its way while wgmma is issued);
 * two warpgroups with 256 tokens (activations would be read from L2 half as often, weights twice as
 * often: 36 bytes per cycle); warps that only copy (without TMA the instructions are the same,
 * whoever issues them); whole tiles first and stream-K for the rest only (fewer partial sums: 132
 * workers x 2 x 128 KiB, at m = 4096 5 % of the time; to be tried when there is hardware).
 *
 * Not seen on hardware yet: everything. From the PTX ISA are the descriptor, the forms of operands
 * and the order of fences; that a tile is found by adding 32 bytes to a descriptor's start within
 * a swizzled row is what CUTLASS and DeepGEMM do. */
#ifndef ANEMO_WGMMA_CUH
#define ANEMO_WGMMA_CUH

#include "kernels/qgemm/tile.cuh"
#include "kernels/qgemm/wgmma.h"

namespace gpu {

constexpr int WGMMA_WARPS = ANEMO_WGMMA_WARPS, WGMMA_ROWS = ANEMO_WGMMA_ROWS;
constexpr int WGMMA_THREADS = WGMMA_WARPS * WARP;
constexpr int WGMMA_PATTERN = ANEMO_WGMMA_PATTERN_BYTES;

template <int BITS, int TOKENS> struct wgmma_shape { /* TOKENS: blocks of 8, as in tile.cuh */
    static constexpr int N = 8 * TOKENS;
    static constexpr int UNITS = BITS / 4; /* of a step and block of rows */
    static constexpr int STAGES = BITS == 4 ? 6 : BITS == 8 ? 5 : 4;
    static constexpr int AHEAD = STAGES - 2;
    static constexpr int W_AT = N * ANEMO_WGMMA_X_BYTES;
    static constexpr int NUMBERS_AT = W_AT + WGMMA_WARPS * UNITS * ANEMO_FRAGMENT_UNIT_BYTES;
    static constexpr int END = NUMBERS_AT + WGMMA_WARPS * ANEMO_WGMMA_NUMBER_BYTES;
    static constexpr int STAGE_BYTES = (END + WGMMA_PATTERN - 1) / WGMMA_PATTERN * WGMMA_PATTERN;
    static constexpr size_t SHARED_BYTES = (size_t)STAGES * STAGE_BYTES;
    static constexpr int FLOATS = WGMMA_ROWS * N; /* of a partial tile, one half */
    static_assert(N % WGMMA_WARPS == 0 && SHARED_BYTES <= 227u << 10);
    static_assert(FLOATS * sizeof(float) <= SHARED_BYTES); /* results pass through it */
};

/* What a lane copies in a stretch. */
struct wgmma_place {
    const unsigned char *x;       /* of the warp's first token, the lane's word */
    const unsigned char *weights; /* of the warp's rows, the lane's 16 bytes */
    const unsigned char *numbers_from;
    int x_bytes, tokens; /* of a record; of the tile, that there are */
    anemo_wgmma_numbers numbers;
};

/* Rows that there are not are read as the part's first: nobody reads their results. */
__device__ inline wgmma_place wgmma_place_of(const qgemm_call &c, int part, int64_t row_tile,
                                             int64_t token0, int tokens) {
    const anemo_fragment_shape &s = c.shape[part];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int64_t row_block = row_tile * WGMMA_WARPS + warp;
    const unsigned char *block =
        c.weight[part] + (row_block < s.blocks ? row_block : 0) * (int64_t)s.block_bytes;
    wgmma_place place;
    place.x = c.x + (token0 + warp) * c.x_row_bytes + lane * 4;
    place.x_bytes = (int)c.x_row_bytes;
    place.tokens = (int)(c.m - token0 < tokens ? c.m - token0 : tokens);
    place.weights = block + lane * ANEMO_FRAGMENT_LANE_BYTES;
    place.numbers = anemo_wgmma_numbers_of(&s, lane);
    place.numbers_from = block + place.numbers.from;
    return place;
}

/* Brings one step into a stage; zeros for columns and tokens that are not there. */
template <int BITS, int TOKENS>
__device__ inline void wgmma_load(const wgmma_place &place, int step, unsigned char *stage) {
    using shape = wgmma_shape<BITS, TOKENS>;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const bool there = step * ANEMO_WGMMA_X_BYTES + lane * 4 < place.x_bytes;
    const unsigned char *from = place.x + step * ANEMO_WGMMA_X_BYTES;
    unsigned char *to = stage + anemo_wgmma_x_at(warp, lane); /* 16 tokens: two patterns */
#pragma unroll 4
    for (int token = 0; token < shape::N; token += WGMMA_WARPS) {
        copy_async_4(to + token * ANEMO_WGMMA_X_BYTES, from, there && token + warp < place.tokens);
        from += WGMMA_WARPS * place.x_bytes;
    }
#pragma unroll
    for (int u = 0; u < shape::UNITS; u++) {
        copy_async(stage + shape::W_AT + (warp * shape::UNITS + u) * ANEMO_FRAGMENT_UNIT_BYTES +
                       lane * ANEMO_FRAGMENT_LANE_BYTES,
                   place.weights + (step * shape::UNITS + u) * ANEMO_FRAGMENT_UNIT_BYTES);
    }
    if constexpr (BITS < 16) {
        const anemo_wgmma_numbers &n = place.numbers;
        const anemo_wgmma_groups groups = anemo_wgmma_groups_of(&n, step);
        if (anemo_wgmma_copies(&n, groups)) {
            copy_async(stage + shape::NUMBERS_AT + warp * ANEMO_WGMMA_NUMBER_BYTES + n.to,
                       place.numbers_from + anemo_wgmma_copies_at(&n, groups));
        }
    }
}

#if GPU_HAS_WGMMA

/* One step of a stage: four tiles, each issued as soon as it is dequantised. */
template <int BITS, int TOKENS>
__device__ inline void
wgmma_multiply(const anemo_fragment_shape &s, const anemo_wgmma_numbers &of_lane, int step,
               const unsigned char *stage, uint32_t (&a)[2][4], float (&d)[4 * TOKENS]) {
    using shape = wgmma_shape<BITS, TOKENS>;
    constexpr int TILES = 16 / BITS; /* of a unit */
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const uint64_t x = anemo_wgmma_descriptor(shared_address(stage));
    const anemo_wgmma_groups groups = anemo_wgmma_groups_of(&of_lane, step);
    const anemo_fragment_shape staged = anemo_wgmma_staged(&s, groups);
    group_numbers numbers = {};
    split_scale split = {};
    uint4 unit = {};
#pragma unroll
    for (int tile = 0; tile < ANEMO_WGMMA_TILES; tile++) {
        uint32_t(&registers)[4] = a[tile % 2];
        if (BITS < 16 && (tile == 0 || (tile == 2 && of_lane.shift == 0))) {
            numbers = numbers_of<BITS>(staged,
                                       stage + shape::NUMBERS_AT + warp * ANEMO_WGMMA_NUMBER_BYTES,
                                       tile / 2, lane / 4);
            split = split_scale_of(numbers);
        }
        if (tile % TILES == 0) {
            unit = *reinterpret_cast<const uint4 *>(stage + shape::W_AT +
                                                    (warp * shape::UNITS + tile / TILES) *
                                                        ANEMO_FRAGMENT_UNIT_BYTES +
                                                    lane * ANEMO_FRAGMENT_LANE_BYTES);
        }
        scaled_registers<BITS>(unit, tile % TILES, numbers, split, s.has_minimum, registers);
        wgmma_fence(registers);
        wgmma_bf16<shape::N>(d, registers, anemo_wgmma_tile(x, tile));
        wgmma_commit();
        wgmma_wait<1>(); /* the tile before: its registers are free */
    }
}

/* Sums of a stretch of one part's rows. */
template <int BITS, int TOKENS>
__device__ inline void wgmma_stretch(const qgemm_call &c, int part, int64_t row_tile,
                                     int64_t token0, int begin, int end, unsigned char *shared,
                                     float (&d)[4 * TOKENS]) {
    using shape = wgmma_shape<BITS, TOKENS>;
    constexpr int LAST = (shape::STAGES - 1) * shape::STAGE_BYTES;
    const anemo_fragment_shape &s = c.shape[part];
    const wgmma_place place = wgmma_place_of(c, part, row_tile, token0, shape::N);
    uint32_t a[2][4];
#pragma unroll
    for (int i = 0; i < 4 * TOKENS; i++) {
        d[i] = 0.0f;
    }
    wgmma_settle(d);
    __syncthreads(); /* stages are free: the stretch before has been read */
    for (int i = 0; i < shape::AHEAD; i++) {
        if (begin + i < end) {
            wgmma_load<BITS, TOKENS>(place, begin + i, shared + i * shape::STAGE_BYTES);
        }
        commit_copies(); /* an empty group where there is nothing, so that counts stay even */
    }
    int now = 0, next = shape::AHEAD * shape::STAGE_BYTES; /* where stages begin */
    for (int step = begin; step < end; step++) {
        wait_copies<shape::AHEAD - 1>();
        fence_async_proxy();
        __syncthreads(); /* this step is there for all, the step before the last one is read */
        if (step + shape::AHEAD < end) {
            wgmma_load<BITS, TOKENS>(place, step + shape::AHEAD, shared + next);
        }
        commit_copies();
        wgmma_multiply<BITS, TOKENS>(s, place.numbers, step, shared + now, a, d);
        now += now == LAST ? -LAST : shape::STAGE_BYTES;
        next += next == LAST ? -LAST : shape::STAGE_BYTES;
    }
    wait_copies<0>();
    wgmma_wait<0>();
    wgmma_settle(d);
}

/* Of a tile that is not whole to its partial sums; else through shared memory, every thread its
 * own, for the end of the work is long, and would be written out for every register. */
template <int BITS, int TOKENS>
__device__ inline void wgmma_put(const qgemm_call &c, const tile_place &place, float *partial,
                                 int half, unsigned char *shared, const float (&d)[4 * TOKENS]) {
    float *values = reinterpret_cast<float *>(shared);
    if (partial != nullptr) {
        values = partial + half * wgmma_shape<BITS, TOKENS>::FLOATS;
    }
    __syncthreads(); /* stages are free */
#pragma unroll
    for (int index = 0; index < 4 * TOKENS; index++) {
        values[tile_value_at(threadIdx.x, index)] = d[index];
    }
    if (partial == nullptr) {
#pragma unroll 4
        for (int index = 0; index < 4 * TOKENS; index++) {
            tile_put<WGMMA_ROWS, TOKENS>(c, place, half, index,
                                         values[tile_value_at(threadIdx.x, index)]);
        }
    }
}

#endif

template <int BITS, int TOKENS>
__global__ void __launch_bounds__(WGMMA_THREADS, 1)
    wgmma(const __grid_constant__ qgemm_call c, const __grid_constant__ anemo_stream stream,
          int64_t row_tiles, float *partials) {
#if GPU_HAS_WGMMA
    GPU_SHARED_SWIZZLED(shared);
    const int halves = c.problem.epilogue == ANEMO_EPI_ACT_MUL ? 2 : 1;
    const int64_t w = blockIdx.x;
    const anemo_piece piece = anemo_piece_of(stream.tiles * stream.steps, stream.workers, w);
    for (int64_t at = piece.begin; at < piece.end;) {
        const anemo_stretch stretch = anemo_stretch_at(&stream, w, at);
        const tile_place place = tile_place_of(c, stretch.tile, row_tiles, WGMMA_ROWS, TOKENS);
        float *partial = stretch.slot < 0
                             ? nullptr
                             : partials + stretch.slot * 2 * wgmma_shape<BITS, TOKENS>::FLOATS;
        float d[4 * TOKENS];
        for (int half = 0; half < halves; half++) {
            wgmma_stretch<BITS, TOKENS>(c, place.part + half, place.row_tile, place.token0,
                                        (int)stretch.begin, (int)stretch.end, shared, d);
            wgmma_put<BITS, TOKENS>(c, place, partial, half, shared, d);
        }
        at += stretch.end - stretch.begin;
    }
#else
    no_such_instruction();
#endif
}

/* ---------------------------------------------------------------- the host's side */

/* Blocks of 8 tokens of a tile for m rows. */
inline int wgmma_tokens(int64_t m) {
    return m <= 32 ? 4 : m <= 64 ? 8 : 16;
}

/* Two slots of two halves for each worker that there can be; any m up to m_max may come. */
inline size_t wgmma_workspace(const void *problem, int32_t) {
    const auto *p = static_cast<const anemo_qgemm_problem *>(problem);
    return (size_t)ANEMO_WGMMA_WORKERS * 4 * WGMMA_ROWS * 8 * wgmma_tokens(p->m_max) *
           sizeof(float);
}

template <int BITS, int TOKENS>
anemo_status wgmma_launch(const anemo_exec *exec, const anemo_qgemm_problem *p,
                          const anemo_qgemm_args *a) {
    const int64_t row_tiles = anemo_row_blocks(p, WGMMA_ROWS);
    const anemo_stream stream =
        anemo_stream_among(ANEMO_WGMMA_WORKERS, row_tiles * anemo_up_div(a->m, 8 * TOKENS),
                           anemo_up_div(p->k, ANEMO_FRAGMENT_K_STEP));
    const qgemm_call c = qgemm_call_of(p, a, (size_t)anemo_fragment_up(2 * p->k, 64));
    auto *partials = static_cast<float *>(exec->workspace);
    const anemo_status status =
        launch(wgmma<BITS, TOKENS>, dim3((unsigned)stream.workers), dim3(WGMMA_THREADS),
               wgmma_shape<BITS, TOKENS>::SHARED_BYTES, exec, c, stream, row_tiles, partials);
    return status != ANEMO_OK ? status
                              : launch(tile_finish<BITS, TOKENS, WGMMA_ROWS>,
                                       dim3((unsigned)stream.tiles), dim3(WGMMA_THREADS), 0, exec,
                                       c, stream, row_tiles, static_cast<const float *>(partials));
}

template <int BITS>
anemo_status wgmma_run(const anemo_exec *exec, const void *problem, const void *args) {
    const auto *p = static_cast<const anemo_qgemm_problem *>(problem);
    const auto *a = static_cast<const anemo_qgemm_args *>(args);
    if (a->m == 0) {
        return ANEMO_OK;
    }
    if (exec->workspace_bytes < wgmma_workspace(problem, 1)) {
        return ANEMO_E_MEMORY;
    }
    switch (wgmma_tokens(a->m)) {
    case 4:
        return wgmma_launch<BITS, 4>(exec, p, a);
    case 8:
        return wgmma_launch<BITS, 8>(exec, p, a);
    default:
        return wgmma_launch<BITS, 16>(exec, p, a);
    }
}

} // namespace gpu

#endif
