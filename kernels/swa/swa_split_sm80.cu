/* swa, split over the keys: for decode, where one row per sequence must keep a GPU busy.
 *
 * A block of four warps takes one row, one KV head with up to HEADS of its query heads, and one
 * span of keys (spans.h), or all of them in turn. Eight lanes share a key: each loads 16-byte
 * pieces of it, so that a key is one line of memory, read once for all the query heads, and three
 * shuffles end a dot product. Each of the 16 groups of eight lanes keeps a softmax of its own over
 * every 16th key, in float, in registers; they are joined in shared memory when the span ends. The
 * keys and values of two positions are asked for before the first is used.
 *
 * Everything is float as in the definition, and no result depends on other rows. Rejected: tensor
 * cores for the scores (a query rounded to 16 bits misses the tolerance; three terms for one would
 * do, to be weighed on hardware), a span count by the number of rows (fills the chip better at a
 * few rows, and makes a row's last bits depend on its batch), lanes along head_dim (five shuffles
 * per key and head). Limit: bandwidth of the pages. */
#include "kernels/dense/common.h"
#include "kernels/swa/kv_page.h"
#include "kernels/swa/spans.h"
#include "kernels/swa/swa.h"
#include "kernels/warp.cuh"

namespace {

constexpr int WARPS = 4, THREADS = WARP * WARPS;
constexpr int KEY_LANES = 8, GROUPS = THREADS / KEY_LANES;
constexpr int PIECE = 8; /* elements that a lane takes at a time */
constexpr int AHEAD = 2; /* keys of a group whose loads are in flight together */

struct launch {
    anemo_swa_args a;
    kv_pages pages;
    int64_t window, spans_max;
    float scale;
    float *partial; /* split: spans' results; else NULL */
    int chunks;     /* of the query heads of a KV head */
    bool has_sinks;
};

/* ---------------------------------------------------------------- elements */

/* PIECE elements as they lie in a page. */
template <int TYPE> struct piece { uint4 word[TYPE == ANEMO_KV_F32 ? 2 : 1]; };
template <> struct piece<ANEMO_KV_Q8> { unsigned word[2]; };

template <int TYPE> __device__ void load(piece<TYPE> *p, const char *vector, int index) {
    if constexpr (TYPE == ANEMO_KV_Q8) {
        const unsigned *from = reinterpret_cast<const unsigned *>(vector) + 1 + 2 * index;
        p->word[0] = from[0];
        p->word[1] = from[1];
    } else {
        constexpr int WORDS = TYPE == ANEMO_KV_F32 ? 2 : 1;
        const uint4 *from = reinterpret_cast<const uint4 *>(vector) + WORDS * index;
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            p->word[i] = from[i];
        }
    }
}

/* q8: without its scale. */
template <int TYPE> __device__ void decode(const piece<TYPE> &p, float x[PIECE]) {
    const char *bytes = reinterpret_cast<const char *>(&p);
#pragma unroll
    for (int i = 0; i < PIECE; i++) {
        x[i] = TYPE == ANEMO_KV_Q8 ? (float)reinterpret_cast<const int8_t *>(bytes)[i]
                                   : kv_element(TYPE, bytes, i);
    }
}

/* ---------------------------------------------------------------- one group of lanes */

template <int HEADS, int PIECES> struct group_state {
    float mixed[HEADS][PIECES * PIECE];
    float most[HEADS], sum[HEADS];
};

/* Key and value of one position; `seen` is the same on the lanes of a group. */
template <int TYPE, int PIECES> struct position_data {
    piece<TYPE> key[PIECES], value[PIECES];
    float key_scale, value_scale; /* q8; else 1 */
    bool seen;
};

template <int TYPE, int PIECES>
__device__ void fetch(const launch &l, int32_t sequence, int64_t position, bool seen, int kv_head,
                      position_data<TYPE, PIECES> *x) {
    x->seen = seen;
    x->key_scale = x->value_scale = 1.0f;
    if (!seen) {
        return;
    }
    const int lane = threadIdx.x % KEY_LANES, n = l.pages.shape.head_dim / PIECE;
    const char *key = kv_key(&l.pages, sequence, position, kv_head);
    const char *value = key + l.pages.value_offset;
#pragma unroll
    for (int c = 0; c < PIECES; c++) {
        if (c * KEY_LANES + lane < n) {
            load(&x->key[c], key, c * KEY_LANES + lane);
            load(&x->value[c], value, c * KEY_LANES + lane);
        }
    }
    if (TYPE == ANEMO_KV_Q8) {
        x->key_scale = kv_q8_scale(key);
        x->value_scale = kv_q8_scale(value);
    }
}

/* exp(m - largest), 0 for what has not seen a key. */
__device__ float share(float m, float largest) {
    return m == -INFINITY ? 0.0f : expf(m - largest);
}

template <int TYPE, int HEADS, int PIECES>
__device__ void take_key(const launch &l, const float (&q)[HEADS][PIECES * PIECE],
                         const position_data<TYPE, PIECES> &x, group_state<HEADS, PIECES> *s) {
    const int lane = threadIdx.x % KEY_LANES, n = l.pages.shape.head_dim / PIECE;
    float score[HEADS] = {}, element[PIECE];
#pragma unroll
    for (int c = 0; c < PIECES; c++) {
        if (x.seen && c * KEY_LANES + lane < n) {
            decode(x.key[c], element);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
#pragma unroll
                for (int i = 0; i < PIECE; i++) {
                    score[h] = fmaf(q[h][c * PIECE + i], element[i], score[h]);
                }
            }
        }
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        for (int step = KEY_LANES / 2; step > 0; step /= 2) {
            score[h] += __shfl_xor_sync(ALL_LANES, score[h], step);
        }
    }
    if (!x.seen) {
        return;
    }
    float weight[HEADS];
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        const float own = l.scale * score[h] * x.key_scale;
        const float larger = own > s->most[h] ? own : s->most[h];
        const float kept = share(s->most[h], larger);
        weight[h] = share(own, larger);
        s->most[h] = larger;
        s->sum[h] = s->sum[h] * kept + weight[h];
        weight[h] *= x.value_scale;
#pragma unroll
        for (int i = 0; i < PIECES * PIECE; i++) {
            s->mixed[h][i] *= kept;
        }
    }
#pragma unroll
    for (int c = 0; c < PIECES; c++) {
        if (c * KEY_LANES + lane < n) {
            decode(x.value[c], element);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
#pragma unroll
                for (int i = 0; i < PIECE; i++) {
                    s->mixed[h][c * PIECE + i] =
                        fmaf(weight[h], element[i], s->mixed[h][c * PIECE + i]);
                }
            }
        }
    }
}

template <int TYPE, int HEADS, int PIECES>
__device__ void walk(const launch &l, const float (&q)[HEADS][PIECES * PIECE], int32_t sequence,
                     swa_span span, int kv_head, group_state<HEADS, PIECES> *s) {
    const int group = threadIdx.x / KEY_LANES;
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        s->most[h] = -INFINITY;
        s->sum[h] = 0.0f;
#pragma unroll
        for (int i = 0; i < PIECES * PIECE; i++) {
            s->mixed[h][i] = 0.0f;
        }
    }
    const int64_t begin = span.begin / GROUPS * GROUPS; /* a key's group depends on its position */
    for (int64_t base = begin; base < span.end; base += AHEAD * GROUPS) {
        position_data<TYPE, PIECES> x[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const int64_t at = base + i * GROUPS + group;
            fetch(l, sequence, at, at >= span.begin && at < span.end, kv_head, &x[i]);
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            take_key(l, q, x[i], s);
        }
    }
}

/* ---------------------------------------------------------------- one block */

/* Merged so far, or one span's result, of one element of the output. */
struct merged {
    float mixed, most, sum;
};

/* The one order in which spans are joined. */
__device__ merged join(merged a, merged b) {
    const float larger = b.most > a.most ? b.most : a.most;
    const float of_a = share(a.most, larger), of_b = share(b.most, larger);
    return {fmaf(b.mixed, of_b, a.mixed * of_a), larger, fmaf(b.sum, of_b, a.sum * of_a)};
}

__device__ merged beginning(const launch &l, int head) {
    return {0.0f, l.has_sinks ? l.a.sinks[head] : -INFINITY, l.has_sinks ? 1.0f : 0.0f};
}

/* The groups' states in shared memory. */
template <int HEADS, int PIECES> struct joined {
    float mixed[GROUPS][HEADS][PIECES * PIECE * KEY_LANES];
    float most[GROUPS][HEADS], sum[GROUPS][HEADS];
};

template <int HEADS, int PIECES>
__device__ void publish(const group_state<HEADS, PIECES> &s, joined<HEADS, PIECES> *room) {
    const int group = threadIdx.x / KEY_LANES, lane = threadIdx.x % KEY_LANES;
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        room->most[group][h] = s.most[h];
        room->sum[group][h] = s.sum[h];
#pragma unroll
        for (int i = 0; i < PIECES * PIECE; i++) {
            const int at = (i / PIECE * KEY_LANES + lane) * PIECE + i % PIECE;
            room->mixed[group][h][at] = s.mixed[h][i];
        }
    }
}

template <int HEADS, int PIECES>
__device__ merged sum_groups(const joined<HEADS, PIECES> &room, int h, int element) {
    float most = -INFINITY;
    for (int g = 0; g < GROUPS; g++) {
        most = room.most[g][h] > most ? room.most[g][h] : most;
    }
    merged m = {0.0f, most, 0.0f};
    for (int g = 0; g < GROUPS; g++) {
        const float factor = share(room.most[g][h], most);
        m.mixed = fmaf(room.mixed[g][h][element], factor, m.mixed);
        m.sum = fmaf(room.sum[g][h], factor, m.sum);
    }
    return m;
}

template <int HEADS, int PIECES>
__device__ void load_queries(const launch &l, int64_t row, int first_head, int n_heads,
                             float (&q)[HEADS][PIECES * PIECE]) {
    const int lane = threadIdx.x % KEY_LANES, d = l.pages.shape.head_dim;
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        const float *from = l.a.q + (row * l.pages.shape.n_heads + first_head + h) * d;
#pragma unroll
        for (int i = 0; i < PIECES * PIECE; i++) {
            const int at = (i / PIECE * KEY_LANES + lane) * PIECE + i % PIECE;
            q[h][i] = h < n_heads && at < d ? from[at] : 0.0f;
        }
    }
}

template <int TYPE, int HEADS, int PIECES>
__global__ void __launch_bounds__(THREADS) attend(const __grid_constant__ launch l) {
    constexpr int ELEMENTS = HEADS * PIECES * PIECE * KEY_LANES / THREADS; /* of a thread */
    __shared__ joined<HEADS, PIECES> room;
    const anemo_kv_shape &shape = l.pages.shape;
    const int per_kv_head = shape.n_heads / shape.n_kv_heads, d = shape.head_dim;
    const int chunk = blockIdx.x % l.chunks, kv_head = blockIdx.x / l.chunks % shape.n_kv_heads;
    const int64_t row = blockIdx.x / l.chunks / shape.n_kv_heads;
    const int first_head = kv_head * per_kv_head + chunk * HEADS;
    const int n_heads = (int)min_i64(HEADS, per_kv_head - chunk * HEADS);
    const int32_t sequence = kv_sequence_of_row(&l.a.kv, row);
    const int64_t position = kv_position(&l.a.kv, sequence, row);
    const int64_t first = kv_first_visible(&l.a.kv, sequence, position, l.window);
    const int64_t spans = swa_span_count(first, position);
    const bool split = l.partial != nullptr;

    float q[HEADS][PIECES * PIECE];
    load_queries<HEADS, PIECES>(l, row, first_head, n_heads, q);
    merged all[ELEMENTS];
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++) {
        const int h = (e * THREADS + threadIdx.x) / d;
        all[e] = h < n_heads ? beginning(l, first_head + h) : merged{0.0f, 0.0f, 0.0f};
    }
    for (int64_t i = blockIdx.y; i < spans; i += gridDim.y) {
        group_state<HEADS, PIECES> state;
        walk<TYPE>(l, q, sequence, swa_span_at(first, position, i), kv_head, &state);
        publish(state, &room);
        __syncthreads();
#pragma unroll
        for (int e = 0; e < ELEMENTS; e++) {
            const int at = e * THREADS + threadIdx.x, h = at / d, element = at % d;
            if (h >= n_heads) {
                continue;
            }
            const merged m = sum_groups(room, h, element);
            if (split) {
                float *to = l.partial +
                            swa_partial_at(row, shape.n_heads, first_head + h, l.spans_max, i, d);
                to[element] = m.mixed;
                to[d] = m.most;
                to[d + 1] = m.sum;
            } else {
                all[e] = join(all[e], m);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int e = 0; e < ELEMENTS && !split; e++) {
        const int at = e * THREADS + threadIdx.x, h = at / d;
        if (h < n_heads) {
            l.a.out[(row * shape.n_heads + first_head + h) * d + at % d] =
                all[e].mixed / all[e].sum;
        }
    }
}

/* The second launch of a split: a warp per row and head. */
__global__ void __launch_bounds__(THREADS) merge(const __grid_constant__ launch l) {
    const anemo_kv_shape &shape = l.pages.shape;
    const int64_t index = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    const int64_t row = index / shape.n_heads;
    const int head = (int)(index % shape.n_heads), d = shape.head_dim;
    if (row >= l.a.rows) {
        return;
    }
    const int32_t sequence = kv_sequence_of_row(&l.a.kv, row);
    const int64_t position = kv_position(&l.a.kv, sequence, row);
    const int64_t first = kv_first_visible(&l.a.kv, sequence, position, l.window);
    const int64_t spans = swa_span_count(first, position);
    for (int element = threadIdx.x % WARP; element < d; element += WARP) {
        merged all = beginning(l, head);
        for (int64_t i = 0; i < spans; i++) {
            const float *from =
                l.partial + swa_partial_at(row, shape.n_heads, head, l.spans_max, i, d);
            all = join(all, {from[element], from[d], from[d + 1]});
        }
        l.a.out[(row * shape.n_heads + head) * d + element] = all.mixed / all.sum;
    }
}

/* ---------------------------------------------------------------- launching */

/* Query heads that a block takes: as many as the registers hold. */
int heads_of(const anemo_kv_shape &shape) {
    return shape.head_dim > 128 ? 2 : 4;
}

int64_t spans_max_of(const anemo_swa_problem &p) {
    return swa_spans_max(p.window, p.context_max);
}

bool accepts(const void *problem, char *why, size_t why_bytes) {
    const auto *p = static_cast<const anemo_swa_problem *>(problem);
    if (!anemo_swa_accepts(problem, why, why_bytes)) {
        return false;
    }
    if (p->kv.head_dim % PIECE != 0 || p->kv.head_dim > 256) {
        return anemo_refuse(why, why_bytes, "head_dim %d is no multiple of %d up to 256",
                            p->kv.head_dim, PIECE);
    }
    if (spans_max_of(*p) > 65535) {
        return anemo_refuse(why, why_bytes, "context_max %lld is above %lld",
                            (long long)p->context_max, (long long)65535 * SWA_SPAN);
    }
    return grid_fits(p->rows_max * p->kv.n_heads, why, why_bytes);
}

size_t workspace_bytes(const void *problem, int32_t) {
    const auto *p = static_cast<const anemo_swa_problem *>(problem);
    const int64_t spans_max = spans_max_of(*p), rows = swa_split_rows(spans_max, p->rows_max);
    return (size_t)swa_partial_at(rows, p->kv.n_heads, 0, spans_max, 0, p->kv.head_dim) *
           sizeof(float);
}

template <int TYPE> anemo_status start(const launch &l, dim3 grid, const anemo_exec *exec) {
    const int d = l.pages.shape.head_dim;
    if (d <= 64) {
        return gpu::launch(attend<TYPE, 4, 1>, grid, THREADS, 0, exec, l);
    }
    return d <= 128 ? gpu::launch(attend<TYPE, 4, 2>, grid, THREADS, 0, exec, l)
                    : gpu::launch(attend<TYPE, 2, 4>, grid, THREADS, 0, exec, l);
}

anemo_status start_any(const launch &l, dim3 grid, const anemo_exec *exec) {
    switch (l.pages.shape.type) {
    case ANEMO_KV_F32:
        return start<ANEMO_KV_F32>(l, grid, exec);
    case ANEMO_KV_F16:
        return start<ANEMO_KV_F16>(l, grid, exec);
    case ANEMO_KV_BF16:
        return start<ANEMO_KV_BF16>(l, grid, exec);
    default:
        return start<ANEMO_KV_Q8>(l, grid, exec);
    }
}

anemo_status run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const auto *p = static_cast<const anemo_swa_problem *>(problem);
    const auto *a = static_cast<const anemo_swa_args *>(arguments);
    if (a->rows < 0 || a->rows > p->rows_max || (p->has_sinks && a->sinks == nullptr)) {
        return ANEMO_E_INPUT;
    }
    if (exec->workspace_bytes < workspace_bytes(p, 1)) {
        return ANEMO_E_MEMORY;
    }
    if (a->rows == 0) {
        return ANEMO_OK;
    }
    const int64_t spans_max = spans_max_of(*p);
    const bool split = spans_max > 1 && a->rows <= swa_split_rows(spans_max, p->rows_max);
    const int per_kv_head = p->kv.n_heads / p->kv.n_kv_heads, heads = heads_of(p->kv);
    const launch l = {*a,
                      kv_pages_of(&p->kv, &a->kv),
                      p->window,
                      spans_max,
                      p->scale,
                      split ? static_cast<float *>(exec->workspace) : nullptr,
                      (per_kv_head + heads - 1) / heads,
                      p->has_sinks != 0};
    const dim3 grid((unsigned)(a->rows * p->kv.n_kv_heads * l.chunks),
                    split ? (unsigned)spans_max : 1);
    const anemo_status status = start_any(l, grid, exec);
    if (status != ANEMO_OK || !split) {
        return status;
    }
    const int64_t blocks = anemo_ceil_div(a->rows * p->kv.n_heads, WARPS);
    return gpu::launch(merge, (unsigned)blocks, THREADS, 0, exec, l);
}

} // namespace

extern "C" {
extern const anemo_variant anemo_swa_split_sm80;
const anemo_variant anemo_swa_split_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "swa_split_sm80",
    .op = ANEMO_OP_SWA,
    .backend = ANEMO_CUDA,
    .needs = {.min_capability = 80},
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "spans of 256 keys spread over blocks, up to four query heads per key read",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
}
