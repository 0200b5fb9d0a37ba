/* swa in tiles on the matrix unit, for sm_80 and later: FlashAttention-2 (Dao 2023, "Faster
 * Attention with Better Parallelism and Work Partitioning") over paged KV, causal, with a window.
 *
 * A thread block of four warps takes a query tile (tile.h: the query heads of a KV head are rows of
 * one matrix, so a key that is loaded once serves them all) and goes through the key tiles that its
 * rows see and no other; only those at the window's ends are masked. Keys and values of 64
 * positions come into shared memory by cp.async, one tile ahead, through the page table. A warp has
 * whole rows: it multiplies them with the keys (mma.sync m16n8k16, both operands by ldmatrix),
 * keeps the softmax of its rows in registers (running maximum and sum, powers of two) and
 * multiplies the weights with the values: sums and first operands of the instruction have one
 * layout (PTX ISA, "Matrix Fragments for mma.m16n8k16"), so weights go from one product into the
 * next without leaving the thread.
 *
 * Precision. Keys and values are the page's own 16-bit numbers, exact. Queries (times scale and
 * log2 e, in float) and weights have to become 16-bit numbers, too, of the same type. Rounding each
 * to one costs 2^-9 (bf16) or 2^-12 (f16), which a float kernel may not; as a sum of terms, each of
 * which is the rounding error of those before, two f16 numbers hold 2^-24 and three bf16 ones all
 * of a float, at so many times the products. (Two bf16 ones hold 2^-18: 0.9 of the bound in the
 * check's worst case, where these come to 0.1.) Either way a warp has at least two first operands
 * that meet each second one when it has been loaded: two blocks of 16 rows, or the terms of one.
 * With a single operand of 16 rows, ldmatrix would ask for 256 bytes per product, and shared memory
 * be the limit. f16 ends at 65504 and at 2^-24: a query row is brought to 2^14 .. 2^15 by a power
 * of two, and a weight, at most 1, is multiplied by 2^15, so that weights down to 2^-39 count. bf16
 * needs neither.
 *
 * A sink joins at the end, when the row's sum is known: in the running maximum it could push all
 * weights below what f16 holds.
 *
 * A row's result depends on no other row: key tiles begin at fixed positions, and a tile of which a
 * row sees nothing changes none of its bits (its weights are 0, its factor is 1). The exception is
 * what is not a number: 0 times a value that is infinite or NaN. Within a sequence, such a value
 * reaches earlier rows in whose query tile's key tiles it lies.
 *
 * Rejected: a mask per tile from memory (the bounds are two numbers per row); more than two stages
 * (a third fits beside one thread block of a multiprocessor, not two); queries in registers (32
 * rows of 128 are 64 of them); f32 and q8 pages (an f32 key is three 16-bit terms; q8 wants a scale
 * per key and value, and a conversion between memory and shared memory).
 * Shared memory is 97 KB at head_dim 128, so that two thread blocks fit a multiprocessor of sm_90,
 * and 113 KB with three terms, which sm_86 and sm_89 (99 KB) do not have: there the launch fails.
 * Limit: the rate of mma.sync, which on sm_90 is about 62 % of wgmma's; exp2 and the registers that
 * allow only two warps per scheduler to hide it. */
#ifndef ANEMO_SWA_TILE_CUH
#define ANEMO_SWA_TILE_CUH

#include "kernels/swa/kv_page.h"
#include "kernels/swa/swa.h"
#include "kernels/swa/tile.h"
#include "kernels/warp.cuh"

namespace swa_tiles {

constexpr int WARPS = 4, THREADS = WARPS * WARP;
constexpr int CONTEXT_MAX = 1 << 30;

struct call {
    anemo_swa_args a;
    kv_pages pages;
    int64_t tiles;  /* of queries, at most */
    int32_t window; /* 0: none */
    float factor;   /* scale log2 e */
    bool has_sinks;
};

template <int TYPE, int DIM, int TERMS> struct shape {
    static constexpr int PIECES = DIM / 8, VECTOR_BYTES = DIM * 2;
    static constexpr int BLOCKS = TERMS == 1 ? 2 : 1; /* of 16 rows, of a warp */
    static constexpr int OPERANDS = BLOCKS * TERMS;   /* first ones that meet each second one */
    static constexpr int WARP_ROWS = 16 * BLOCKS, ROWS = WARPS * WARP_ROWS;
    static constexpr int QUERY_BYTES = WARPS * OPERANDS * 16 * VECTOR_BYTES;
    static constexpr int TILE_BYTES = SWA_TILE_KEYS * VECTOR_BYTES; /* keys; values again so many */
    static constexpr int STAGE_BYTES = 2 * TILE_BYTES;
    static constexpr int INVERSES_AT = QUERY_BYTES + 2 * STAGE_BYTES;
    static constexpr size_t SHARED_BYTES = INVERSES_AT + ROWS * sizeof(float);
};

/* ---------------------------------------------------------------- 16-bit numbers */

template <int TYPE> struct number;

template <> struct number<ANEMO_KV_F16> {
    static constexpr float LIFT = 15; /* weights are multiplied by 2^LIFT */
    static constexpr bool SCALED = true;
    static __device__ uint32_t pack(float lo, float hi) {
        return gpu::pack_f16x2(lo, hi);
    }
    static __device__ float low(uint32_t pair) {
        return gpu::float_of_half(static_cast<uint16_t>(pair));
    }
    static __device__ float high(uint32_t pair) {
        return gpu::float_of_half(static_cast<uint16_t>(pair >> 16));
    }
    static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        gpu::mma_f16(d, a, b);
    }
};

template <> struct number<ANEMO_KV_BF16> {
    static constexpr float LIFT = 0;
    static constexpr bool SCALED = false;
    static __device__ uint32_t pack(float lo, float hi) {
        return gpu::pack_bf16x2(lo, hi);
    }
    static __device__ float low(uint32_t pair) {
        return __uint_as_float(pair << 16);
    }
    static __device__ float high(uint32_t pair) {
        return __uint_as_float(pair & 0xffff0000u);
    }
    static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        gpu::mma_bf16(d, a, b);
    }
};

/* Two floats as TERMS pairs, whose sum they are. */
template <int TYPE, int TERMS>
__device__ void terms_of(float lo, float hi, uint32_t (&pair)[TERMS]) {
    using n = number<TYPE>;
    pair[0] = n::pack(lo, hi);
#pragma unroll
    for (int term = 1; term < TERMS; term++) {
        lo -= n::low(pair[term - 1]); /* exact */
        hi -= n::high(pair[term - 1]);
        pair[term] = n::pack(lo, hi);
    }
}

/* ---------------------------------------------------------------- rows of a block */

/* The query tile of a thread block: row r is query head `first_head` + (within + r) % group of
 * token `token` + (within + r) / group of the sequence's rows in this step. */
struct rows {
    int32_t sequence, count, token, within, group, first_head;
    int64_t first_row;       /* of the sequence, in this step */
    int32_t first, position; /* the first key there is; of the sequence's first row */

    __device__ int32_t token_of(int r) const {
        return token + static_cast<int32_t>(static_cast<uint32_t>(within + r) / group);
    }
    __device__ int64_t index_of(int r, int32_t n_heads) const { /* of q and out, in vectors */
        const auto head = static_cast<int32_t>(static_cast<uint32_t>(within + r) % group);
        return (first_row + token_of(r)) * n_heads + first_head + head;
    }
    __device__ swa_keys keys_of(int from, int to, int32_t window) const {
        return swa_keys_of(first, window, position + token_of(from), position + token_of(to));
    }
};

__device__ inline rows rows_of(const call &c, const swa_query_tile &tile, int kv_head) {
    const anemo_kv_view &view = c.a.kv;
    rows r;
    r.sequence = tile.sequence;
    r.group = c.pages.shape.n_heads / c.pages.shape.n_kv_heads;
    r.first_head = kv_head * r.group;
    r.count = static_cast<int32_t>(tile.end - tile.begin);
    r.token = static_cast<int32_t>(tile.begin / r.group);
    r.within = static_cast<int32_t>(tile.begin % r.group);
    r.first_row = view.row_start[tile.sequence];
    r.first = static_cast<int32_t>(view.first[tile.sequence]);
    r.position = static_cast<int32_t>(kv_position(&view, tile.sequence, r.first_row));
    return r;
}

/* ---------------------------------------------------------------- keys and values */

/* What a thread block has to know of its work and seldom needs, in shared memory: registers are for
 * sums. One thread goes from key tile to key tile, a tile ahead of the copies. */
struct plan {
    rows r;
    swa_keys keys, of_warp[WARPS];
    const char *key[2]; /* first key of even and of odd tiles, where pages are whole tiles */
    const int32_t *page;
    int32_t slot, tile; /* of the last key that was found */
};

__device__ inline bool by_page(const call &c) {
    return c.pages.shape.page_tokens % SWA_TILE_KEYS == 0;
}

/* The next tile's first key: one page entry for each page. Nothing behind the last tile is read. */
__device__ inline void find_key(const call &c, int kv_head, plan *p) {
    const int32_t tile = p->tile + 1;
    if (by_page(c) && tile < swa_tile_end(&p->keys)) {
        int32_t slot = p->slot + SWA_TILE_KEYS;
        const char *key = p->key[p->tile % 2] + SWA_TILE_KEYS * c.pages.vector_bytes;
        if (slot == c.pages.shape.page_tokens) {
            slot = 0;
            p->page++;
            key = static_cast<const char *>(c.a.kv.pool) + *p->page * c.pages.page_bytes +
                  static_cast<size_t>(kv_head * static_cast<int64_t>(c.pages.shape.page_tokens)) *
                      c.pages.vector_bytes;
        }
        p->key[tile % 2] = key;
        p->slot = slot;
        p->tile = tile;
    }
}

template <class S>
__device__ void make_plan(const call &c, const swa_query_tile &tile, int kv_head, plan *p) {
    const rows r = rows_of(c, tile, kv_head);
    p->r = r;
    p->keys = r.keys_of(0, r.count - 1, c.window);
    for (int warp = 0; warp < WARPS; warp++) {
        const int from = warp * S::WARP_ROWS;
        const int to = from + S::WARP_ROWS < r.count ? from + S::WARP_ROWS : r.count;
        p->of_warp[warp] = from < to ? r.keys_of(from, to - 1, c.window) : swa_keys{0, 0, 0, 0};
    }
    p->tile = swa_tile_begin(&p->keys);
    if (by_page(c)) {
        const int32_t offset = p->tile * SWA_TILE_KEYS - r.first;
        p->slot = offset % c.pages.shape.page_tokens;
        p->page =
            c.a.kv.pages + c.a.kv.table_start[r.sequence] + offset / c.pages.shape.page_tokens;
        p->key[p->tile % 2] =
            kv_key(&c.pages, r.sequence, static_cast<int64_t>(p->tile) * SWA_TILE_KEYS, kv_head);
    }
}

/* Keys and values of a tile that lies in one page and is seen from end to end. */
template <class S>
__device__ void load_full(const call &c, const char *first_key, unsigned char *stage) {
    constexpr bool ALIKE = THREADS % (8 * S::PIECES) == 0; /* a thread's rows have one row % 8 */
    const int row0 = threadIdx.x / S::PIECES, piece0 = threadIdx.x % S::PIECES;
    const char *from = first_key + row0 * c.pages.vector_bytes + piece0 * SWA_PIECE_BYTES;
    unsigned char *to = stage + swa_piece_at(S::PIECES, row0, piece0);
#pragma unroll
    for (int i = 0; i < SWA_TILE_KEYS * S::PIECES / THREADS; i++) {
        if constexpr (!ALIKE) {
            const int at = i * THREADS + static_cast<int>(threadIdx.x);
            const int row = at / S::PIECES, piece = at % S::PIECES;
            from = first_key + row * c.pages.vector_bytes + piece * SWA_PIECE_BYTES;
            to = stage + swa_piece_at(S::PIECES, row, piece);
        }
        gpu::copy_async(to, from);
        gpu::copy_async(to + S::TILE_BYTES, from + c.pages.value_offset);
        from += THREADS / S::PIECES * c.pages.vector_bytes;
        to += THREADS * SWA_PIECE_BYTES;
    }
}

/* Any tile: what no row sees is 0, since not even its memory need be there. */
template <class S>
__device__ void load_part(const call &c, const plan &p, int32_t tile, int kv_head,
                          unsigned char *stage) {
#pragma unroll 1
    for (int at = static_cast<int>(threadIdx.x); at < SWA_TILE_KEYS * S::PIECES; at += THREADS) {
        const int row = at / S::PIECES, piece = at % S::PIECES;
        const int32_t position = tile * SWA_TILE_KEYS + row;
        unsigned char *to = stage + swa_piece_at(S::PIECES, row, piece);
        if (position >= p.keys.begin && position < p.keys.end &&
            piece < c.pages.shape.head_dim / 8) {
            const char *key = by_page(c) ? p.key[tile % 2] + row * c.pages.vector_bytes
                                         : kv_key(&c.pages, p.r.sequence, position, kv_head);
            gpu::copy_async(to, key + piece * SWA_PIECE_BYTES);
            gpu::copy_async(to + S::TILE_BYTES,
                            key + c.pages.value_offset + piece * SWA_PIECE_BYTES);
        } else {
            *reinterpret_cast<uint4 *>(to) = make_uint4(0, 0, 0, 0);
            *reinterpret_cast<uint4 *>(to + S::TILE_BYTES) = make_uint4(0, 0, 0, 0);
        }
    }
}

template <class S, int DIM>
__device__ void load_tile(const call &c, const plan &p, int32_t tile, int kv_head,
                          unsigned char *stages) {
    unsigned char *stage = stages + tile % 2 * S::STAGE_BYTES;
    if (c.pages.shape.head_dim == DIM && by_page(c) && swa_tile_is_full(&p.keys, tile)) {
        load_full<S>(c, p.key[tile % 2], stage);
    } else {
        load_part<S>(c, p, tile, kv_head, stage);
    }
    gpu::commit_copies();
}

/* ---------------------------------------------------------------- queries */

/* The warp's rows into shared memory, as terms; of f16 rows the inverse of their power of two. */
template <int TYPE, int DIM, int TERMS>
__device__ void load_queries(const call &c, const rows &r, unsigned char *shared) {
    using S = shape<TYPE, DIM, TERMS>;
    constexpr int LANES = S::PIECES <= 8 ? 8 : 16; /* of a row */
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, piece = lane % LANES;
    auto *inverses = reinterpret_cast<float *>(shared + S::INVERSES_AT);
    for (int at = lane / LANES; at < S::WARP_ROWS; at += WARP / LANES) {
        const int row = warp * S::WARP_ROWS + at;
        float x[8] = {};
        if (row < r.count && piece < c.pages.shape.head_dim / 8) {
            const auto *from = reinterpret_cast<const float4 *>(
                c.a.q + r.index_of(row, c.pages.shape.n_heads) * c.pages.shape.head_dim +
                piece * 8);
            const float4 a = from[0], b = from[1];
            const float raw[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
            for (int i = 0; i < 8; i++) {
                x[i] = raw[i] * c.factor;
            }
        }
        if constexpr (number<TYPE>::SCALED) {
            float largest = 0;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                largest = fmaxf(largest, fabsf(x[i]));
            }
            for (int step = LANES / 2; step > 0; step /= 2) {
                largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, step));
            }
            const uint32_t power = swa_query_power(__float_as_uint(largest));
            inverses[row] = __uint_as_float(swa_query_inverse(power));
#pragma unroll
            for (int i = 0; i < 8; i++) {
                x[i] *= __uint_as_float(power);
            }
        }
        if (piece < S::PIECES) {
            uint32_t word[4][TERMS];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                terms_of<TYPE>(x[2 * i], x[2 * i + 1], word[i]);
            }
#pragma unroll
            for (int term = 0; term < TERMS; term++) {
                const int operand = TERMS == 1 ? at / 16 : term;
                const int to = (warp * S::OPERANDS + operand) * 16 + at % 16;
                *reinterpret_cast<uint4 *>(shared + swa_piece_at(S::PIECES, to, piece)) =
                    make_uint4(word[0][term], word[1][term], word[2][term], word[3][term]);
            }
        }
    }
}

/* ---------------------------------------------------------------- one warp, one key tile */

template <int TYPE, int DIM, int TERMS> struct warp_state {
    using S = shape<TYPE, DIM, TERMS>;
    using N = number<TYPE>;
    static constexpr int COLUMNS = SWA_TILE_KEYS / 8; /* of eight keys each */

    float mixed[S::BLOCKS][DIM / 8][4]; /* sums of weighted values, times 2^LIFT */
    float most[S::BLOCKS][2];           /* largest score of rows g and g + 8, as scores stand */
    float sum[S::BLOCKS][2];            /* of this lane's weights, times 2^LIFT */

    __device__ void clear() {
#pragma unroll
        for (int b = 0; b < S::BLOCKS; b++) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                most[b][h] = -INFINITY;
                sum[b][h] = 0;
            }
#pragma unroll
            for (int n = 0; n < DIM / 8; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    mixed[b][n][i] = 0;
                }
            }
        }
    }

    /* What the scores of row g + 8 h of block b are multiplied by. */
    __device__ float inverse_of(const unsigned char *shared, int b, int h) const {
        const auto *inverses = reinterpret_cast<const float *>(shared + S::INVERSES_AT);
        const int warp = threadIdx.x / WARP, g = threadIdx.x % WARP / 4;
        return N::SCALED ? inverses[warp * S::WARP_ROWS + b * 16 + g + 8 * h] : 1.0f;
    }

    /* score = queries x keys. */
    __device__ void multiply_keys(const unsigned char *queries, const unsigned char *keys,
                                  float (&score)[S::BLOCKS][COLUMNS][4]) const {
        /* matrices of queries: rows 0, 8, 0, 8; columns 0, 0, 8, 8; of keys: 0, 0, 8, 8; 0, 8, 0, 8
         */
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        const unsigned char *query =
            queries + (warp * S::OPERANDS * 16 + lane % 16) * S::VECTOR_BYTES;
        const unsigned char *key = keys + (lane % 8 + lane / 16 * 8) * S::VECTOR_BYTES;
        const int query_piece = swa_lane_piece(S::PIECES, lane % 8, lane / 16);
        const int key_piece = swa_lane_piece(S::PIECES, lane % 8, lane / 8 % 2);
#pragma unroll
        for (int b = 0; b < S::BLOCKS; b++) {
#pragma unroll
            for (int n = 0; n < COLUMNS; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    score[b][n][i] = 0;
                }
            }
        }
#pragma unroll
        for (int k = 0; k < DIM / 16; k++) {
            uint32_t a[S::OPERANDS][4];
#pragma unroll
            for (int o = 0; o < S::OPERANDS; o++) {
                gpu::load_matrix(a[o], query + (query_piece ^ 32 * k) + o * 16 * S::VECTOR_BYTES);
            }
#pragma unroll
            for (int n = 0; n < COLUMNS; n += 2) {
                uint32_t pair[4];
                gpu::load_matrix(pair, key + (key_piece ^ 32 * k) + n * 8 * S::VECTOR_BYTES);
                const uint32_t b0[2] = {pair[0], pair[1]}, b1[2] = {pair[2], pair[3]};
#pragma unroll
                for (int o = 0; o < S::OPERANDS; o++) {
                    N::multiply(score[o / TERMS][n], a[o], b0);
                    N::multiply(score[o / TERMS][n + 1], a[o], b1);
                }
            }
        }
    }

    /* Of keys that a row does not see: -infinity. */
    __device__ void mask(const rows &r, int32_t window, int32_t tile,
                         float (&score)[S::BLOCKS][COLUMNS][4]) const {
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4;
#pragma unroll
        for (int b = 0; b < S::BLOCKS; b++) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int row = warp * S::WARP_ROWS + b * 16 + g + 8 * h;
                const swa_keys keys = r.keys_of(row, row, window);
                const int32_t base = tile * SWA_TILE_KEYS + lane % 4 * 2;
#pragma unroll
                for (int n = 0; n < COLUMNS; n++) {
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const int32_t key = base + 8 * n + i;
                        if (key < keys.begin || key >= keys.end) {
                            score[b][n][2 * h + i] = -INFINITY;
                        }
                    }
                }
            }
        }
    }

    /* Scores to weights; what was summed before is brought to the new maximum. */
    __device__ void soften(const unsigned char *shared, float (&score)[S::BLOCKS][COLUMNS][4]) {
#pragma unroll
        for (int b = 0; b < S::BLOCKS; b++) {
            float kept[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float inverse = inverse_of(shared, b, h);
                float larger = most[b][h];
#pragma unroll
                for (int n = 0; n < COLUMNS; n++) {
                    larger = fmaxf(larger, fmaxf(score[b][n][2 * h], score[b][n][2 * h + 1]));
                }
                larger = fmaxf(larger, __shfl_xor_sync(ALL_LANES, larger, 1));
                larger = fmaxf(larger, __shfl_xor_sync(ALL_LANES, larger, 2));
                const float base = larger == -INFINITY ? 0 : larger * inverse;
                kept[h] = larger == most[b][h]
                              ? 1
                              : gpu::exp2_approximate(fmaf(most[b][h], inverse, -base));
                most[b][h] = larger;
                float own = 0;
#pragma unroll
                for (int n = 0; n < COLUMNS; n++) {
#pragma unroll
                    for (int i = 2 * h; i < 2 * h + 2; i++) {
                        score[b][n][i] =
                            gpu::exp2_approximate(fmaf(score[b][n][i], inverse, N::LIFT - base));
                        own += score[b][n][i];
                    }
                }
                sum[b][h] = fmaf(sum[b][h], kept[h], own);
            }
            if (__any_sync(ALL_LANES, kept[0] != 1 || kept[1] != 1)) {
#pragma unroll
                for (int n = 0; n < DIM / 8; n++) {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        mixed[b][n][i] *= kept[i / 2];
                    }
                }
            }
        }
    }

    /* mixed += weights x values. */
    __device__ void multiply_values(const float (&weight)[S::BLOCKS][COLUMNS][4],
                                    const unsigned char *values) {
        /* matrices: keys 0, 8, 0, 8; columns 0, 0, 8, 8 */
        const int lane = threadIdx.x % WARP;
        const unsigned char *value = values + lane % 16 * S::VECTOR_BYTES;
        const int piece = swa_lane_piece(S::PIECES, lane % 8, lane / 16);
#pragma unroll
        for (int k = 0; k < SWA_TILE_KEYS / 16; k++) {
            uint32_t a[S::OPERANDS][4];
#pragma unroll
            for (int b = 0; b < S::BLOCKS; b++) {
#pragma unroll
                for (int i = 0; i < 4; i++) { /* rows g, g + 8, g, g + 8; keys 0, 0, 8, 8 */
                    const float(&w)[4] = weight[b][2 * k + i / 2];
                    uint32_t pair[TERMS];
                    terms_of<TYPE>(w[i % 2 * 2], w[i % 2 * 2 + 1], pair);
#pragma unroll
                    for (int term = 0; term < TERMS; term++) {
                        a[b * TERMS + term][i] = pair[term];
                    }
                }
            }
#pragma unroll
            for (int n = 0; n < DIM / 8; n += 2) {
                uint32_t pair[4];
                gpu::load_matrix_transposed(pair,
                                            value + (piece ^ 16 * n) + k * 16 * S::VECTOR_BYTES);
                const uint32_t b0[2] = {pair[0], pair[1]}, b1[2] = {pair[2], pair[3]};
#pragma unroll
                for (int o = 0; o < S::OPERANDS; o++) {
                    N::multiply(mixed[o / TERMS][n], a[o], b0);
                    N::multiply(mixed[o / TERMS][n + 1], a[o], b1);
                }
            }
        }
    }

    __device__ void take(const call &c, const rows &r, const swa_keys &keys, int32_t tile,
                         const unsigned char *shared, const unsigned char *stage) {
        float score[S::BLOCKS][COLUMNS][4];
        multiply_keys(shared, stage, score);
        if (!swa_tile_is_open(&keys, tile)) {
            mask(r, c.window, tile, score);
        }
        soften(shared, score);
        multiply_values(score, stage + S::TILE_BYTES);
    }

    /* The sums of four lanes and the sink join; means go out. */
    __device__ void finish(const call &c, const rows &r, const unsigned char *shared) {
        const anemo_kv_shape &kv = c.pages.shape;
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4;
#pragma unroll
        for (int b = 0; b < S::BLOCKS; b++) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int row = warp * S::WARP_ROWS + b * 16 + g + 8 * h;
                float total = sum[b][h];
                total += __shfl_xor_sync(ALL_LANES, total, 1);
                total += __shfl_xor_sync(ALL_LANES, total, 2);
                if (row >= r.count) {
                    continue;
                }
                const int64_t index = r.index_of(row, kv.n_heads);
                float factor = 1;
                if (c.has_sinks) {
                    const float sink = c.a.sinks[index % kv.n_heads] * 1.44269504f;
                    const float own = most[b][h] * inverse_of(shared, b, h),
                                larger = fmaxf(own, sink);
                    factor = exp2f(own - larger);
                    total = fmaf(total, factor, exp2f(sink - larger + N::LIFT));
                }
                factor /= total;
                float *out = c.a.out + index * kv.head_dim + lane % 4 * 2;
#pragma unroll
                for (int n = 0; n < DIM / 8; n++) {
                    if (n < kv.head_dim / 8) {
                        *reinterpret_cast<float2 *>(out + 8 * n) = {
                            mixed[b][n][2 * h] * factor, mixed[b][n][2 * h + 1] * factor};
                    }
                }
            }
        }
    }
};

/* ---------------------------------------------------------------- one thread block */

template <int TYPE, int DIM, int TERMS>
__global__ void __launch_bounds__(THREADS, 2) attend(const __grid_constant__ call c) {
    using S = shape<TYPE, DIM, TERMS>;
    GPU_SHARED(unsigned char, shared);
    __shared__ plan p;
    unsigned char *const stages = shared + S::QUERY_BYTES;
    const int kv_head = static_cast<int>(blockIdx.x / c.tiles), warp = threadIdx.x / WARP;
    const int32_t group = c.pages.shape.n_heads / c.pages.shape.n_kv_heads;
    /* from the last, which see the most keys */
    const swa_query_tile tile =
        swa_query_tile_at(c.a.kv.row_start, c.a.kv.n_sequences, group, S::ROWS,
                          c.tiles - 1 - static_cast<int64_t>(blockIdx.x % c.tiles));
    if (tile.sequence < 0) {
        return;
    }
    if (threadIdx.x == 0) {
        make_plan<S>(c, tile, kv_head, &p);
    }
    __syncthreads();
    int32_t t = swa_tile_begin(&p.keys);
    load_tile<S, DIM>(c, p, t, kv_head, stages);
    if (threadIdx.x == 0) {
        find_key(c, kv_head, &p);
    }
    load_queries<TYPE, DIM, TERMS>(c, p.r, shared);
    __syncwarp();
    warp_state<TYPE, DIM, TERMS> state;
    state.clear();
    for (const int32_t end = swa_tile_end(&p.keys); t < end; t++) {
        gpu::wait_copies<0>();
        __syncthreads(); /* tile t is there for all, and the stage of the one before is free */
        if (t + 1 < end) {
            load_tile<S, DIM>(c, p, t + 1, kv_head, stages);
        }
        if (threadIdx.x == 0) {
            find_key(c, kv_head, &p); /* of tile t + 2, in the place of tile t's */
        }
        const swa_keys &own = p.of_warp[warp];
        if (t >= swa_tile_begin(&own) && t < swa_tile_end(&own)) {
            state.take(c, p.r, own, t, shared, stages + t % 2 * S::STAGE_BYTES);
        }
    }
    state.finish(c, p.r, shared);
}

/* ---------------------------------------------------------------- the host's side */

/* EXACT: as many terms as float needs. */
template <int TYPE, bool EXACT> constexpr int TERMS_OF = !EXACT ? 1 : TYPE == ANEMO_KV_F16 ? 2 : 3;

template <bool EXACT>
int64_t tiles_of(const anemo_swa_problem &p, int64_t rows, int32_t sequences) {
    constexpr int ROWS = shape<ANEMO_KV_F16, 64, TERMS_OF<ANEMO_KV_F16, EXACT>>::ROWS;
    static_assert(ROWS == shape<ANEMO_KV_BF16, 64, TERMS_OF<ANEMO_KV_BF16, EXACT>>::ROWS, "");
    return swa_query_tiles_max(rows, sequences, p.kv.n_heads / p.kv.n_kv_heads, ROWS);
}

template <bool EXACT> bool accepts(const void *problem, char *why, size_t why_bytes) {
    const auto *p = static_cast<const anemo_swa_problem *>(problem);
    if (!anemo_swa_accepts(problem, why, why_bytes)) {
        return false;
    }
    if (p->kv.type != ANEMO_KV_F16 && p->kv.type != ANEMO_KV_BF16) {
        return anemo_refuse(why, why_bytes,
                            "keys and values are %s, the matrix unit takes f16 or bf16",
                            anemo_kv_type_name(static_cast<anemo_kv_type>(p->kv.type)));
    }
    if (p->kv.head_dim % 8 != 0 || p->kv.head_dim > 128) {
        return anemo_refuse(why, why_bytes, "head_dim %d is no multiple of 8 up to 128",
                            p->kv.head_dim);
    }
    if (p->context_max > CONTEXT_MAX) {
        return anemo_refuse(why, why_bytes, "context_max %lld is above %d",
                            static_cast<long long>(p->context_max), CONTEXT_MAX);
    }
    return grid_fits(tiles_of<EXACT>(*p, p->rows_max, p->sequences_max) * p->kv.n_kv_heads, why,
                     why_bytes);
}

template <int TYPE, int DIM, int TERMS> anemo_status start(const anemo_exec *exec, const call &c) {
    return gpu::launch(attend<TYPE, DIM, TERMS>,
                       static_cast<unsigned>(c.tiles * c.pages.shape.n_kv_heads), THREADS,
                       shape<TYPE, DIM, TERMS>::SHARED_BYTES, exec, c);
}

template <int TYPE, bool EXACT> anemo_status start_any(const anemo_exec *exec, const call &c) {
    constexpr int TERMS = TERMS_OF<TYPE, EXACT>;
    const int32_t d = c.pages.shape.head_dim;
    return d <= 64   ? start<TYPE, 64, TERMS>(exec, c)
           : d <= 96 ? start<TYPE, 96, TERMS>(exec, c)
                     : start<TYPE, 128, TERMS>(exec, c);
}

template <bool EXACT>
anemo_status run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const auto *p = static_cast<const anemo_swa_problem *>(problem);
    const auto *a = static_cast<const anemo_swa_args *>(arguments);
    if (a->rows < 0 || a->rows > p->rows_max || (p->has_sinks && a->sinks == nullptr)) {
        return ANEMO_E_INPUT;
    }
    if (a->rows == 0) {
        return ANEMO_OK;
    }
    const call c = {*a,
                    kv_pages_of(&p->kv, &a->kv),
                    tiles_of<EXACT>(*p, a->rows, a->kv.n_sequences),
                    static_cast<int32_t>(p->window < CONTEXT_MAX ? p->window : CONTEXT_MAX),
                    static_cast<float>(p->scale * 1.4426950408889634),
                    p->has_sinks != 0};
    return p->kv.type == ANEMO_KV_F16 ? start_any<ANEMO_KV_F16, EXACT>(exec, c)
                                      : start_any<ANEMO_KV_BF16, EXACT>(exec, c);
}

} // namespace swa_tiles

#endif
