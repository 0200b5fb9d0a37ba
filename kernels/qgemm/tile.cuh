/* qgemm in tiles on the matrix unit, stream-K, for sm_80 and later.
 *
 * A thread block's tile is 128 weight rows x 8 TOKENS tokens: eight warps with a block of 16
 * rows each and all tokens, so that a dequantised fragment meets TOKENS products at once. Per
 * step, 64 columns, weights and activations come into shared memory by cp.async, STAGES steps
 * ahead; a warp's weights are its own, 16 bytes per lane at the lane's place, so only activations
 * need the barrier. A token's 128 bytes of a step stand 144 apart. Of eight lanes that read 16
 * bytes each, four of one token and four of the next, six then meet in a bank with another, and a
 * read takes two turns; 192 bytes would part them all, for a third more shared memory: to be
 * measured, as is a swizzle (moe_grouped_token_at).
 *
 * What the products are of is the matter of tile_shape and sums: here bf16 activations, of which a
 * step has 64 columns; tile_int8.cuh brings int8, 128 columns.
 *
 * Work is cut by stream-K (schedule.h): a stretch of a tile's steps at a time; partial tiles go to
 * the workspace in the order in which lanes hold them, and tile_finish adds them in the order of
 * k. With ACT_MUL gate and up are two runs over the same stretch, so that a lane ends with both.
 *
 * Rejected: tiles of 64 columns of weights for each warp (twice the traffic from shared memory per
 * product); a lock per tile (a thread block would wait for another, and the order of adding be the
 * order of coming). */
#ifndef ANEMO_TILE_CUH
#define ANEMO_TILE_CUH

#include "kernels/qgemm/fragment.cuh"

namespace gpu {

constexpr int TILE_WARPS = 8, TILE_BLOCKS = 1; /* blocks of 16 rows of a warp */
constexpr int TILE_THREADS = TILE_WARPS * WARP;
constexpr int TILE_ROWS = TILE_WARPS * TILE_BLOCKS * ANEMO_FRAGMENT_ROWS;
constexpr int TILE_X_BYTES = 128; /* of a token and step */

/* Nothing but the sums makes a result. */
struct tile_no_numbers {};

/* Shared memory, steps and results for weights of BITS bits times bf16. */
template <int BITS, int TOKENS> struct tile_shape {
    using value = float;             /* of a sum */
    using x_piece = uint4;           /* a lane's activations of a chunk */
    using numbers = tile_no_numbers; /* that results need */
    static constexpr int STEP = 64;  /* columns; TILE_X_BYTES of activations */
    static constexpr int CHUNKS = STEP / ANEMO_FRAGMENT_CHUNK;
    static constexpr int TOKEN_BYTES = 144;
    static constexpr int UNITS = BITS / 4; /* of a step and block */
    static constexpr int STAGES = BITS == 4 ? 4 : BITS == 8 ? 3 : 2;
    static constexpr int AT_ONCE = 0; /* thread blocks of a multiprocessor; 0: as registers allow */
    static constexpr int X_BYTES = 8 * TOKENS * TOKEN_BYTES;
    static constexpr int W_BYTES = TILE_WARPS * TILE_BLOCKS * UNITS * ANEMO_FRAGMENT_UNIT_BYTES;
    static constexpr int STAGE_BYTES = X_BYTES + W_BYTES;
    static constexpr size_t SHARED_BYTES = (size_t)STAGES * STAGE_BYTES;
    static constexpr int VALUES = TILE_ROWS * 8 * TOKENS; /* of a partial tile, one half */

    static size_t x_row_bytes(int64_t k) {
        return (size_t)anemo_fragment_up(2 * k, 64);
    }
    /* Of rows row, row + 8 and tokens token, token + 1; values 0 .. 3 of a lane in this order. */
    static __device__ numbers numbers_of(const qgemm_call &, int, int64_t, int64_t) {
        return {};
    }
    static __device__ float result(const numbers &, int, value sum) {
        return sum;
    }
};

/* Brings one step into a stage: an empty group where there is none, so that counts stay even. */
template <int BITS, int TOKENS>
__device__ void tile_load(const qgemm_call &c, int part, int64_t row_tile, int64_t token0,
                          int64_t step, bool any, unsigned char *stage) {
    using shape = tile_shape<BITS, TOKENS>;
    const anemo_fragment_shape &s = c.shape[part];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (any) {
        constexpr int PIECES = TILE_X_BYTES / 16;
        for (int i = threadIdx.x; i < 8 * TOKENS * PIECES; i += TILE_THREADS) {
            const int token = i / PIECES, piece = i % PIECES;
            unsigned char *to = stage + token * shape::TOKEN_BYTES + piece * 16;
            const int64_t at = step * TILE_X_BYTES + piece * 16;
            if (token0 + token < c.m && at < c.x_row_bytes) {
                copy_async(to, c.x + (token0 + token) * c.x_row_bytes + at);
            } else {
                *reinterpret_cast<uint4 *>(to) = make_uint4(0, 0, 0, 0);
            }
        }
        for (int b = 0; b < TILE_BLOCKS; b++) {
            const int64_t in_tile = warp * TILE_BLOCKS + b;
            const int64_t block = row_tile * (TILE_ROWS / ANEMO_FRAGMENT_ROWS) + in_tile;
            for (int u = 0; u < shape::UNITS && block < s.blocks; u++) {
                if (shape::STEP > ANEMO_FRAGMENT_K_STEP && step * shape::UNITS + u >= s.units) {
                    break; /* half a step: what is there meets zeros of x */
                }
                copy_async(stage + shape::X_BYTES +
                               (in_tile * shape::UNITS + u) * ANEMO_FRAGMENT_UNIT_BYTES +
                               lane * ANEMO_FRAGMENT_LANE_BYTES,
                           c.weight[part] + block * (int64_t)s.block_bytes +
                               (step * shape::UNITS + u) * ANEMO_FRAGMENT_UNIT_BYTES +
                               lane * ANEMO_FRAGMENT_LANE_BYTES);
            }
        }
    }
    commit_copies();
}

/* A chunk of a block: two tiles of the step's units, which begin at this lane's place. */
template <int BITS, int TOKENS>
__device__ void tile_multiply_chunk(const anemo_fragment_shape &s, const unsigned char *units,
                                    int chunk, const uint4 (&x)[TOKENS], sums<BITS, TOKENS> &sum) {
    constexpr int TILES = 16 / BITS;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int tile = chunk * 2 + h;
        const uint4 unit =
            *reinterpret_cast<const uint4 *>(units + tile / TILES * ANEMO_FRAGMENT_UNIT_BYTES);
        sum.multiply(s, unit, tile % TILES, h, x);
    }
}

/* One step of a stage into the sums of the warp's blocks. */
template <int BITS, int TOKENS>
__device__ void tile_multiply(const qgemm_call &c, int part, int64_t row_tile, int64_t step,
                              const unsigned char *stage, sums<BITS, TOKENS> (&sum)[TILE_BLOCKS]) {
    using shape = tile_shape<BITS, TOKENS>;
    using x_piece = typename shape::x_piece;
    const anemo_fragment_shape &s = c.shape[part];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int chunk = 0; chunk < shape::CHUNKS; chunk++) {
        x_piece x[TOKENS];
#pragma unroll
        for (int j = 0; j < TOKENS; j++) {
            x[j] = *reinterpret_cast<const x_piece *>(stage + (8 * j + g) * shape::TOKEN_BYTES +
                                                      (chunk * 4 + t) * (int)sizeof(x_piece));
        }
#pragma unroll
        for (int b = 0; b < TILE_BLOCKS; b++) {
            const int64_t in_tile = warp * TILE_BLOCKS + b;
            const int64_t row_block = row_tile * (TILE_ROWS / ANEMO_FRAGMENT_ROWS) + in_tile;
            if (row_block >= s.blocks) { /* the same for the whole warp */
                continue;
            }
            sum[b].enter(s, c.weight[part] + row_block * (int64_t)s.block_bytes,
                         step * shape::CHUNKS + chunk, g);
            tile_multiply_chunk(s,
                                stage + shape::X_BYTES +
                                    in_tile * shape::UNITS * ANEMO_FRAGMENT_UNIT_BYTES +
                                    lane * ANEMO_FRAGMENT_LANE_BYTES,
                                chunk, x, sum[b]);
        }
    }
}

/* Sums of a stretch of one part's rows. */
template <int BITS, int TOKENS>
__device__ void tile_stretch(const qgemm_call &c, int part, int64_t row_tile, int64_t token0,
                             int64_t begin, int64_t end, unsigned char *shared,
                             sums<BITS, TOKENS> (&sum)[TILE_BLOCKS]) {
    using shape = tile_shape<BITS, TOKENS>;
    const anemo_fragment_shape &s = c.shape[part];
    const int warp = threadIdx.x / WARP, g = threadIdx.x % WARP / 4;
#pragma unroll
    for (int b = 0; b < TILE_BLOCKS; b++) {
        const int64_t block = row_tile * (TILE_ROWS / ANEMO_FRAGMENT_ROWS) + warp * TILE_BLOCKS + b;
        const int64_t there = block < s.blocks ? block : 0; /* numbers of rows that nobody reads */
        sum[b].begin(s, c.weight[part] + there * (int64_t)s.block_bytes, begin * shape::CHUNKS, g);
    }
    __syncthreads(); /* stages are free: the stretch before has been read */
    for (int i = 0; i < shape::STAGES - 1; i++) {
        tile_load<BITS, TOKENS>(c, part, row_tile, token0, begin + i, begin + i < end,
                                shared + i * shape::STAGE_BYTES);
    }
    for (int64_t step = begin; step < end; step++) {
        wait_copies<shape::STAGES - 2>();
        __syncthreads(); /* this step is there for all, and the stage of the one before is free */
        const int64_t ahead = step + shape::STAGES - 1;
        tile_load<BITS, TOKENS>(c, part, row_tile, token0, ahead, ahead < end,
                                shared + (ahead - begin) % shape::STAGES * shape::STAGE_BYTES);
        tile_multiply<BITS, TOKENS>(c, part, row_tile, step,
                                    shared + (step - begin) % shape::STAGES * shape::STAGE_BYTES,
                                    sum);
    }
    wait_copies<0>();
#pragma unroll
    for (int b = 0; b < TILE_BLOCKS; b++) {
        sum[b].close_group();
    }
}

/* Row (of the tile) and token of value i of token block j of block b of this thread. */
struct tile_spot {
    int row, token;
};
__device__ inline tile_spot tile_spot_of(int thread, int b, int j, int i) {
    const int warp = thread / WARP, lane = thread % WARP;
    return {(warp * TILE_BLOCKS + b) * ANEMO_FRAGMENT_ROWS + lane / 4 + i / 2 * 8,
            8 * j + lane % 4 * 2 + i % 2};
}

/* Where a thread's values begin in a partial tile: neighbouring threads side by side. */
__device__ inline int64_t tile_value_at(int thread, int index) {
    return (int64_t)index * blockDim.x + thread;
}

/* Gate's result waits for up's where its product will stand: the same thread reads it again, and
 * registers are short. */
__device__ inline void hold(const qgemm_call &c, int64_t token, int64_t column, float value) {
    if (token < c.m && column < c.problem.n[0]) {
        c.y[0][token * c.y_stride[0] + column] = value;
    }
}
__device__ inline float held(const qgemm_call &c, int64_t token, int64_t column) {
    const bool there = token < c.m && column < c.problem.n[0];
    return there ? c.y[0][token * c.y_stride[0] + column] : 0.0f;
}

struct tile_place {
    int part;
    int64_t row_tile, token0;
};
/* Of tiles of `rows` x 8 tokens. */
__device__ inline tile_place tile_place_of(const qgemm_call &c, int64_t tile, int64_t row_tiles,
                                           int rows, int tokens) {
    const anemo_row_block at = anemo_row_block_at(&c.problem, rows, tile % row_tiles);
    return {at.part, at.block, tile / row_tiles * 8 * tokens};
}

/* Value `index` of the thread, of one half of a whole tile, to the end of the work. */
template <int ROWS, int TOKENS>
__device__ inline void tile_put(const qgemm_call &c, const tile_place &place, int half, int index,
                                float value) {
    const bool act_mul = c.problem.epilogue == ANEMO_EPI_ACT_MUL;
    const tile_spot spot =
        tile_spot_of(threadIdx.x, index / 4 / TOKENS, index / 4 % TOKENS, index % 4);
    const int64_t token = place.token0 + spot.token;
    const int64_t row = place.row_tile * ROWS + spot.row;
    if (act_mul && half == 0) {
        hold(c, token, row, value);
    } else {
        finish(c, place.part, token, row, act_mul ? held(c, token, row) : value, value);
    }
}

/* Rows and tokens of values 0 .. 3 of token block j of block b of this thread. */
template <class SHAPE, int ROWS>
__device__ typename SHAPE::numbers tile_numbers(const qgemm_call &c, int part,
                                                const tile_place &place, int b, int j) {
    const tile_spot first = tile_spot_of(threadIdx.x, b, j, 0);
    return SHAPE::numbers_of(c, part, place.row_tile * ROWS + first.row,
                             place.token0 + first.token);
}

template <int BITS, int TOKENS>
__global__ void __launch_bounds__(TILE_THREADS, (tile_shape<BITS, TOKENS>::AT_ONCE))
    tile(const __grid_constant__ qgemm_call c, const __grid_constant__ anemo_stream stream,
         int64_t row_tiles, typename tile_shape<BITS, TOKENS>::value *partials) {
    using shape = tile_shape<BITS, TOKENS>;
    GPU_SHARED(unsigned char, shared);
    const bool act_mul = c.problem.epilogue == ANEMO_EPI_ACT_MUL;
    const int64_t w = blockIdx.x;
    const anemo_piece piece = anemo_piece_of(stream.tiles * stream.steps, stream.workers, w);
    for (int64_t at = piece.begin; at < piece.end;) {
        const anemo_stretch stretch = anemo_stretch_at(&stream, w, at);
        const tile_place place = tile_place_of(c, stretch.tile, row_tiles, TILE_ROWS, TOKENS);
        typename shape::value *partial = partials + stretch.slot * 2 * shape::VALUES;
        sums<BITS, TOKENS> sum[TILE_BLOCKS];
        for (int half = 0; half < (act_mul ? 2 : 1); half++) {
            typename shape::numbers numbers = {};
            tile_stretch<BITS, TOKENS>(c, place.part + half, place.row_tile, place.token0,
                                       stretch.begin, stretch.end, shared, sum);
#pragma unroll
            for (int index = 0; index < TILE_BLOCKS * TOKENS * 4; index++) {
                const int b = index / 4 / TOKENS, j = index / 4 % TOKENS, i = index % 4;
                const typename shape::value value = sum[b].total[j][i];
                if (stretch.slot >= 0) {
                    partial[half * shape::VALUES + tile_value_at(threadIdx.x, index)] = value;
                    continue;
                }
                if (i == 0) {
                    numbers = tile_numbers<shape, TILE_ROWS>(c, place.part + half, place, b, j);
                }
                tile_put<TILE_ROWS, TOKENS>(c, place, half, index,
                                            shape::result(numbers, i, value));
            }
        }
        at += stretch.end - stretch.begin;
    }
}

/* One thread block per tile: nothing to do where one worker had all of it. */
template <int BITS, int TOKENS, int ROWS = TILE_ROWS>
__global__ void __launch_bounds__(ROWS / ANEMO_FRAGMENT_ROWS / TILE_BLOCKS * WARP)
    tile_finish(const __grid_constant__ qgemm_call c, const __grid_constant__ anemo_stream stream,
                int64_t row_tiles, const typename tile_shape<BITS, TOKENS>::value *partials) {
    using shape = tile_shape<BITS, TOKENS>;
    constexpr int VALUES = ROWS * 8 * TOKENS;
    const int64_t first = blockIdx.x * stream.steps;
    const int64_t begin = anemo_stream_worker(&stream, first);
    const int64_t end = anemo_stream_worker(&stream, first + stream.steps - 1);
    const tile_place place = tile_place_of(c, blockIdx.x, row_tiles, ROWS, TOKENS);
    if (begin == end) {
        return;
    }
    for (int four = 0; four < TILE_BLOCKS * TOKENS; four++) { /* values of a lane side by side */
        const int b = four / TOKENS, j = four % TOKENS;
        float result[2][4] = {};
#pragma unroll
        for (int half = 0; half < 2; half++) {
            if (half == 1 && c.problem.epilogue != ANEMO_EPI_ACT_MUL) {
                break;
            }
            const typename shape::numbers numbers =
                tile_numbers<shape, ROWS>(c, place.part + half, place, b, j);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                typename shape::value sum = 0;
                for (int64_t w = begin; w <= end;
                     w++) { /* the first began the tile, the others go on */
                    const int64_t slot = w == begin ? 2 * w + 1 : 2 * w;
                    sum += partials[(slot * 2 + half) * VALUES +
                                    tile_value_at(threadIdx.x, 4 * four + i)];
                }
                result[half][i] = shape::result(numbers, i, sum);
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const tile_spot spot = tile_spot_of(threadIdx.x, b, j, i);
            finish(c, place.part, place.token0 + spot.token, place.row_tile * ROWS + spot.row,
                   result[0][i], result[1][i]);
        }
    }
}

/* ---------------------------------------------------------------- the host's side */

constexpr int TILE_FEW = 2, TILE_MANY = 8; /* token blocks of a tile: 16 or 64 tokens */

inline anemo_stream tile_stream_of(const anemo_qgemm_problem *p, int64_t m, int tokens,
                                   int64_t step_columns, int64_t *row_tiles) {
    *row_tiles = anemo_row_blocks(p, TILE_ROWS);
    return anemo_stream_of(*row_tiles * anemo_up_div(m, 8 * tokens),
                           anemo_up_div(p->k, step_columns));
}

/* Two slots of two halves for each worker that there can be. */
inline size_t tile_workspace(const void *problem, int32_t) {
    const auto *p = static_cast<const anemo_qgemm_problem *>(problem);
    const int tokens = p->m_max <= 8 * TILE_FEW ? TILE_FEW : TILE_MANY;
    return (size_t)ANEMO_STREAM_WORKERS * 4 * TILE_ROWS * 8 * tokens * sizeof(float);
}

template <int BITS, int TOKENS>
anemo_status tile_launch(const anemo_exec *exec, const anemo_qgemm_problem *p,
                         const anemo_qgemm_args *a) {
    using shape = tile_shape<BITS, TOKENS>;
    int64_t row_tiles;
    const anemo_stream stream = tile_stream_of(p, a->m, TOKENS, shape::STEP, &row_tiles);
    const qgemm_call c = qgemm_call_of(p, a, shape::x_row_bytes(p->k));
    auto *partials = static_cast<typename shape::value *>(exec->workspace);
    const anemo_status status =
        launch(tile<BITS, TOKENS>, dim3((unsigned)stream.workers), dim3(TILE_THREADS),
               shape::SHARED_BYTES, exec, c, stream, row_tiles, partials);
    return status != ANEMO_OK ? status
                              : launch(tile_finish<BITS, TOKENS>, dim3((unsigned)stream.tiles),
                                       dim3(TILE_THREADS), 0, exec, c, stream, row_tiles,
                                       static_cast<const typename shape::value *>(partials));
}

template <int BITS>
anemo_status tile_run(const anemo_exec *exec, const void *problem, const void *args) {
    const auto *p = static_cast<const anemo_qgemm_problem *>(problem);
    const auto *a = static_cast<const anemo_qgemm_args *>(args);
    if (a->m == 0) {
        return ANEMO_OK;
    }
    if (exec->workspace_bytes < tile_workspace(problem, 1)) {
        return ANEMO_E_MEMORY;
    }
    return a->m <= 8 * TILE_FEW ? tile_launch<BITS, TILE_FEW>(exec, p, a)
                                : tile_launch<BITS, TILE_MANY>(exec, p, a);
}

} // namespace gpu

#endif
