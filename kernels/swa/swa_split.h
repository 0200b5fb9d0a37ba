/* swa in float with vectors: spans of keys, and two kernels with the same bits. One text for AVX2
 * and AVX-512 (vec_avx2.h, vec_avx512.h), included once by each variant, behind its vectors and its
 * kernel for many queries (split_tile.h). The variants of AMX bring another one (split_amx.h), of
 * other bits; what is said here of equal bits is of the other two.
 *
 * A unit of work is a tile of up to QUERIES queries (rows x the heads of one KV head) of a
 * sequence. It walks the keys that any of its rows sees, from the first row's first to the last
 * row's own, in blocks of KEY_BLOCK keys at absolute positions that are multiples of it, with an
 * online softmax per query (Milakov and Gimelshein 2018; FlashAttention, Dao et al. 2022). What a
 * row sees is arithmetic (kv_first_visible), never a mask; only in blocks at an edge are lanes of a
 * score vector set to -infinity. Scores carry scale * log2(e), so weights are powers of two.
 *
 * - Few queries (split_rows.h): lanes lie along head_dim, elements come straight from the page and
 *   are converted once for up to four heads. The scores of four heads stay together, a vector being
 *   4 heads x ROW_KEYS keys, from the join of their chains through one softmax for all four to the
 *   weights. head_dim 64 and 128 are constants. This is decode: one pass over K and V.
 * - Many queries (split_tile.h): K is transposed and V is laid out in panels as floats, once per
 *   block for all queries, and both products are register tiles of 12 x 32 (AVX2: 6 x 16).
 *
 * Both add up a score as VL chains, element i in chain i mod VL, joined as a tree: the sum that
 * lanes along head_dim give for nothing but the tree, and that a tile gets from a binary counter of
 * partial tiles in the L1 cache (15 additions per score beside 128 fused multiply-adds, on other
 * ports: the tile runs at 80 % of the peak with them). Both add weights times values in the order
 * of the keys. So whether a row comes in a prompt, a chunk or alone, its bits are the same.
 *
 * Flash-decoding's split (Dao et al. 2023) is by position: each SPAN of 512 positions gives a
 * partial (max, sum, out), and a row folds its spans in ascending order. That happens always, also
 * where one thread walks them all, so that spreading them over threads (few units, many threads:
 * their partials then wait in the workspace for a second loop) is a matter of scheduling and
 * changes no bit. ROW_INVARIANT. A span costs a fold, 0.4 % of it.
 *
 * Memory: the hardware's prefetcher gains nothing from blocks of 16 KB, K here and V there, while
 * the FMA units are busy. So lines are asked for beside the multiply-adds, 72 keys ahead, also over
 * the border of a span, and asked for again 48 and 24 keys ahead. For a core that has too many
 * misses under way drops a prefetch. Zen 5, 16 KB asked for into the idle memory, lines that were
 * not there long after (%):
 *
 *   a line every        0.4 ns   0.8   1.5   2.9   5.7
 *   into L2 (T1)          24.3   7.8   3.1   1.6   1.9
 *   into L1 (T0, NTA)      6.1   1.1   0.0   0.0   0.0
 *
 * A dropped line costs a whole latency where it is used, a repeated prefetch a slot of a load unit
 * that has nothing to do. Decode on 2 cores of Zen 5, W = 4096, 32/8 heads, d 128, f16, us, medians
 * of 120 to 150 in turns, at the two speeds the memory of that machine had, read 93 and 57 GB/s:
 *
 *   T1 once, 64 keys ahead (the last state)     260-280, sometimes 525     380-400
 *   T0 once, 64 keys ahead                      250                        390
 *   T0 72, 36                                   243                        373
 *   T0 64, 32                                   241                        376
 *   T0 72, 48, 24: as it is                     243                        341
 *   T0 64, 48, 32, 16                           246                        340
 *   T0 80, 60, 40, 20                           260                        328
 *   T0 once, 16; 32 keys ahead                  364; 287
 *   T0 once, 128 keys ahead; values during the scores and the next keys during the mix, so that
 *   all of it fits L1; lines in the order of the page: no better than once, 64 keys ahead
 *
 * Of the roof, as the harness measures it, in several runs on a machine whose memory changed its
 * speed between them: 31 to 63 % before (no window, 7168 keys: 33 to 65 %), 68 to 79 % now (73 to
 * 89 %).
 *
 * Zen 4 is the other way round: with 24 buffers for misses of the first level, prefetches into it
 * are in the way of everything else (kernels/prefetch.h), and its first level would not hold 72
 * keys and values of 128 in f16. In turns on 2 cores, of the roof: T0 72, 48, 24 keys ahead 49 %,
 * T0 48, 24 the same, T0 once 32 ahead 47, nothing 39; T1 once, 32 to 128 ahead, 80 to 88; T1 64
 * and T0 16 ahead 92; T1 72, 48, 24, as it is there, 97 (memory slow then: 26 GB/s; at 52 GB/s T1
 * once has 80).
 *
 * Units stay whole while there are SPLIT_BELOW per thread: a task per span has its prefetches over
 * the border made by another core (72 % instead of 80 % of the roof, measured on Zen 4).
 *
 * Limit: 4 heads a KV head make 4 operations per byte of f16. Per 16 keys and KV head on Zen 5, in
 * cycles, data in L2: scores 340, mix 280, softmax 33, finding blocks and prefetching 100; the
 * multiply-adds alone are 512. Reading takes 710 to 740, both together 970: they overlap by two
 * thirds. Joining chains costs the scores 70: it comes in a burst and is then in the way of the
 * next conversions; without the join they take 266, without conversions either 256, the peak.
 * Reading the same pages in the same order and computing nothing is itself some 10 % (slow memory)
 * to 25 % (fast) slower than reading straight on: every 16 KB the hardware's prefetcher starts
 * anew.
 *
 * Rejected:
 * - Transposing K for decode, too (one order of summation, no tree): about 320 shuffles per 16 keys
 *   instead of 180 operations to join chains, in a phase of their own that overlaps with nothing.
 * - A second float variant for prefill with m_from: a row's bits would depend on the batch it came
 *   in. (split_amx.h is for plans that accept it.)
 * - Products of q8's scale with every code: scale joins the score, and the weight, once per key.
 * - BF16 dot products: q and the weights rounded to 8 bits are off by 2^-9, far outside
 *   the tolerance of a float variant. A query split into two bf16 parts (16 bits) costs as many
 *   instructions as fused multiply-adds in float do, into three (24 bits, exact) half as many
 * again.
 */
#ifndef ANEMO_SWA_SWA_SPLIT_H
#define ANEMO_SWA_SWA_SPLIT_H

#include "kernels/swa/split_rows.h"
#include "kernels/swa/swa.h"

enum {
    SPAN = 512,          /* positions whose partial result is one term of a row's sum */
    TILED_FROM = 16,     /* queries, from which keys are packed */
    SPLIT_BELOW = 4,     /* units per thread, under which they are split into tasks of spans */
    SPLIT_TASKS = 8,     /* tasks per thread then, or a few more */
    SLOT_BYTES = 1 << 20 /* per thread, for the spans' partial results */
};

/* Online softmax of some queries: max and sum of weights, [queries], and out[queries][dp]. */
typedef struct state {
    float *max, *sum, *out;
} state;

/* A thread's memory, in floats from its start. */
typedef struct plan {
    int64_t group, rows, queries; /* heads of a KV head; rows and queries of a tile at most */
    int64_t dq, dp;               /* head_dim rounded up to VL, and to 2 VL */
    int64_t q;                    /* [queries][dq], times scale * log2(e) */
    int64_t packed;               /* the same in split_tile.h's layout */
    int64_t s, shrink;            /* [queries][KEY_BLOCK], [queries] */
    int64_t keys, values, stash;  /* of attend_many */
    int64_t span, total;          /* states */
    int64_t floats;               /* all of it */
} plan;

typedef struct split_job {
    const anemo_swa_problem *p;
    const anemo_swa_args *a;
    plan plan;
    kv_pages pages;
    vectors x;
    fetch ahead;              /* of the first row of a tile */
    int64_t n_tiles, n_spans; /* of all sequences; of the tile with most */
    int64_t slot_queries;     /* of the largest tile */
    int64_t task_spans;       /* of a task, where units are split */
    float *memory;            /* [thread][plan.floats] */
    float *slots;             /* [unit][n_spans] states, where units are split */
} split_job;

/* Rows of one sequence and one KV head. Query i is head i % group of row i / group. */
typedef struct tile {
    int32_t sequence, kv_head;
    int64_t row_begin, n_rows, n_queries;
    int64_t position;   /* of the first row */
    int64_t begin, end; /* keys that any of the rows sees */
} tile;

/* ---------------------------------------------------------------- memory */

static int64_t lines(int64_t floats) { /* whole cache lines */
    return anemo_round_up(floats, 16);
}

static int64_t state_floats(int64_t queries, int64_t dp) {
    return 2 * lines(queries) + lines(queries * dp);
}

static state state_at(float *at, int64_t queries) {
    return (state){at, at + lines(queries), at + 2 * lines(queries)};
}

static plan plan_of(const anemo_swa_problem *p) {
    plan m = {.group = p->kv.n_heads / p->kv.n_kv_heads};
    m.rows = max_i64(1, QUERIES / m.group);
    m.queries = m.rows * m.group;
    m.dq = anemo_round_up(p->kv.head_dim, VL);
    m.dp = anemo_round_up(p->kv.head_dim, STRIP);
    const int64_t padded = anemo_round_up(m.queries, MANY_PAD);
    m.q = 0;
    m.packed = m.q + lines(m.queries * m.dq);
    m.s = m.packed + lines(packed_floats(padded, m.dq, m.dp));
    m.shrink = m.s + padded * KEY_BLOCK;
    m.keys = m.shrink + lines(m.queries);
    m.values = m.keys + lines(keys_floats(m.dq, m.dp));
    m.stash = m.values + KEY_BLOCK * m.dp;
    m.span = m.stash + STASH_FLOATS;
    m.total = m.span + state_floats(m.queries, m.dp);
    m.floats = m.total + state_floats(m.queries, m.dp);
    return m;
}

static void clear(state s, int64_t queries, int64_t dp) {
    for (int64_t i = 0; i < queries; i++) {
        s.max[i] = -INFINITY;
        s.sum[i] = 0;
    }
    memset(s.out, 0, (size_t)(queries * dp) * sizeof *s.out);
}

/* ---------------------------------------------------------------- a block of keys */

/* Finds the keys of slots `first` and on, before position `later`; behind, the last one stays. */
static void find_keys(const split_job *job, const tile *t, int first, int64_t later, key_block *b) {
    const kv_pages *pages = &job->pages;
    const size_t skip = pages->shape.type == ANEMO_KV_Q8 ? sizeof(float) : 0;
    const int end = (int)min_i64(later - b->begin, KEY_BLOCK + AHEAD);
    int j = first;
    while (j < end) {
        const char *vector = kv_key(pages, t->sequence, b->begin + j, t->kv_head) + skip;
        const int64_t left = kv_positions_left(pages, b->begin + j);
        const int stop = (int)min_i64(end, j + left);
        for (; j < stop; j++, vector += pages->vector_bytes)
            b->key[j] = vector;
    }
    for (; j < KEY_BLOCK + AHEAD; j++)
        b->key[j] = b->key[j - 1];
}

/* The first block of the keys from `begin` on. */
static void first_block(const split_job *job, const tile *t, int64_t begin, int64_t later,
                        key_block *b) {
    const int lo = (int)(begin % KEY_BLOCK);
    b->begin = begin - lo;
    find_keys(job, t, lo, later, b);
    for (int j = 0; j < lo; j++)
        b->key[j] = b->key[lo];
}

/* The first keys and values, which no block before could ask for. */
static void prefetch_first(const split_job *job, const tile *t) {
    key_block b;
    first_block(job, t, t->begin, t->end, &b);
    for (int i = 0; i < AGAIN; i++)
        for (size_t at = 0; at < job->x.bytes; at += 64) {
            const char *key = b.key[t->begin - b.begin + i] + at;
            _mm_prefetch(key, _MM_HINT_T0);
            _mm_prefetch(key + job->x.value_offset, _MM_HINT_T0);
        }
}

static void next_block(const split_job *job, const tile *t, int64_t later, key_block *b) {
    memmove(b->key, b->key + KEY_BLOCK, AHEAD * sizeof *b->key);
    b->begin += KEY_BLOCK;
    find_keys(job, t, AHEAD, later, b);
}

static void load_scales(const vectors *x, key_block *b) {
    for (int j = b->lo; j < b->hi; j++) {
        b->key_scale[j] = kv_q8_scale(b->key[j] - sizeof(float));
        b->value_scale[j] = kv_q8_scale(b->key[j] + x->value_offset - sizeof(float));
    }
}

/* Slots of the block that row r of the tile sees: [*from, *to), possibly none. */
static void visible_slots(const split_job *job, const tile *t, const key_block *b, int64_t r,
                          int *from, int *to) {
    const int64_t position = t->position + r;
    const int64_t first = kv_first_visible(&job->pages.view, t->sequence, position, job->p->window);
    *from = (int)min_i64(max_i64(first - b->begin, b->lo), KEY_BLOCK);
    *to = (int)max_i64(min_i64(position + 1 - b->begin, b->hi), 0);
}

/* ---------------------------------------------------------------- few rows, many rows */

static void rows_on_block(const split_job *job, const tile *t, const key_block *b, float *m,
                          state s) {
    const plan *at = &job->plan;
    for (int64_t r = 0; r < t->n_rows; r++) {
        const int64_t i = r * at->group;
        int from, to;
        visible_slots(job, t, b, r, &from, &to);
        if (from < to)
            attend_row(&job->x, b, r == 0 ? job->ahead : FETCH_NOTHING, from, to, at->group,
                       m + at->q + i * at->dq, at->dq, m + at->s, m + at->shrink, s.max + i,
                       s.sum + i, s.out + i * at->dp, at->dp);
    }
}

static void tile_on_block(const split_job *job, const tile *t, const key_block *b, float *m,
                          state s) {
    const plan *at = &job->plan;
    int from[QUERIES], to[QUERIES];
    for (int64_t r = 0; r < t->n_rows; r++)
        visible_slots(job, t, b, r, &from[r], &to[r]);
    const many_queries queries = {.rows = t->n_rows,
                                  .group = at->group,
                                  .n = t->n_queries,
                                  .dq = at->dq,
                                  .dp = at->dp,
                                  .from = from,
                                  .to = to,
                                  .packed = m + at->packed,
                                  .s = m + at->s,
                                  .shrink = m + at->shrink,
                                  .keys = m + at->keys,
                                  .values = m + at->values,
                                  .stash = m + at->stash,
                                  .max = s.max,
                                  .sum = s.sum,
                                  .out = s.out};
    attend_many(&job->x, b, &queries);
}

/* ---------------------------------------------------------------- spans */

/* state of the tile's queries over the keys [begin, end), which lie in one span. The same thread
 * goes on with keys up to `later`, which are worth a prefetch. */
static void attend_span(const split_job *job, const tile *t, int64_t begin, int64_t end,
                        int64_t later, float *m, state s) {
    const bool tiled = t->n_queries >= TILED_FROM, scaled = job->x.type == ANEMO_KV_Q8;
    key_block b = {0};
    clear(s, t->n_queries, job->plan.dp);
    first_block(job, t, begin, later, &b);
    for (; b.begin < end; next_block(job, t, later, &b)) {
        b.lo = (int)max_i64(begin - b.begin, 0);
        b.hi = (int)min_i64(end - b.begin, KEY_BLOCK);
        if (scaled)
            load_scales(&job->x, &b);
        if (tiled)
            tile_on_block(job, t, &b, m, s);
        else
            rows_on_block(job, t, &b, m, s);
    }
}

/* total takes in a span's state; a query that saw none of its keys is left as it was. */
static void fold(state total, state span, int64_t queries, int64_t dp) {
    for (int64_t i = 0; i < queries; i++) {
        if (span.max[i] == -INFINITY && span.sum[i] == 0)
            continue;
        if (total.max[i] == -INFINITY && total.sum[i] == 0) { /* what the fold below would give */
            total.max[i] = span.max[i];
            total.sum[i] = span.sum[i];
            for (int64_t c = i * dp; c < (i + 1) * dp; c += VL)
                v_store(total.out + c, v_add(v_load(span.out + c), v_zero()));
            continue;
        }
        const float max = total.max[i] > span.max[i] ? total.max[i] : span.max[i];
        const vf a = v_exp2(v_splat(total.max[i] - max)), b = v_exp2(v_splat(span.max[i] - max));
        total.max[i] = max;
        total.sum[i] = total.sum[i] * v_first(a) + span.sum[i] * v_first(b);
        for (int64_t c = i * dp; c < (i + 1) * dp; c += VL)
            v_store(total.out + c, v_fma(v_load(span.out + c), b, v_mul(v_load(total.out + c), a)));
    }
}

/* The sinks join, and the sums become means. */
static void finish(const split_job *job, const tile *t, state total) {
    const anemo_swa_problem *p = job->p;
    const plan *at = &job->plan;
    const int64_t d = p->kv.head_dim;
    for (int64_t i = 0; i < t->n_queries; i++) {
        const int64_t head = t->kv_head * at->group + i % at->group;
        float *out = job->a->out + ((t->row_begin + i / at->group) * p->kv.n_heads + head) * d;
        float keep = 1, sum = total.sum[i];
        if (p->has_sinks) {
            const float sink = job->a->sinks[head] * 0x1.715476p0f;
            const float max = sink > total.max[i] ? sink : total.max[i];
            keep = v_first(v_exp2(v_splat(total.max[i] - max)));
            sum = sum * keep + v_first(v_exp2(v_splat(sink - max)));
        }
        const float factor = keep / sum;
        for (int64_t c = 0; c < d; c++)
            out[c] = total.out[i * at->dp + c] * factor;
    }
}

/* ---------------------------------------------------------------- units of work */

/* Tile `index`, counting each sequence's tiles from its first row. */
static tile find_tile(const split_job *job, int64_t index, int32_t kv_head) {
    const anemo_kv_view *view = &job->pages.view;
    const int64_t rows = job->plan.rows;
    tile t = {.kv_head = kv_head};
    for (;; t.sequence++) {
        const int64_t n_rows = view->row_start[t.sequence + 1] - view->row_start[t.sequence];
        const int64_t n_tiles = anemo_ceil_div(n_rows, rows);
        if (index < n_tiles) {
            t.row_begin = view->row_start[t.sequence] + index * rows;
            t.n_rows = min_i64(rows, n_rows - index * rows);
            break;
        }
        index -= n_tiles;
    }
    t.n_queries = t.n_rows * job->plan.group;
    t.position = kv_position(view, t.sequence, t.row_begin);
    t.begin = kv_first_visible(view, t.sequence, t.position, job->p->window);
    t.end = t.position + t.n_rows;
    return t;
}

static int64_t spans_of(const tile *t) {
    return (t->end - 1) / SPAN - t->begin / SPAN + 1;
}

/* Queries of the tile, scaled and padded; packed too where that is used. */
static void load_queries(const split_job *job, const tile *t, float *m) {
    const anemo_swa_problem *p = job->p;
    const plan *at = &job->plan;
    const int64_t d = p->kv.head_dim;
    const float factor = (float)(p->scale * 1.4426950408889634); /* log2(e): weights are 2^score */
    for (int64_t i = 0; i < t->n_queries; i++) {
        const int64_t head = t->kv_head * at->group + i % at->group;
        const float *q = job->a->q + ((t->row_begin + i / at->group) * p->kv.n_heads + head) * d;
        float *to = m + at->q + i * at->dq;
        for (int64_t c = 0; c < d; c++)
            to[c] = q[c] * factor;
        for (int64_t c = d; c < at->dq; c++)
            to[c] = 0;
    }
    if (t->n_queries >= TILED_FROM)
        pack_queries(m + at->q, t->n_queries, at->dq, m + at->packed);
}

/* Keys of the tile's span `index`, the first being 0. */
static void span_range(const tile *t, int64_t index, int64_t *begin, int64_t *end) {
    const int64_t start = (t->begin / SPAN + index) * SPAN;
    *begin = max_i64(start, t->begin);
    *end = min_i64(start + SPAN, t->end);
}

/* Units, KV head by KV head, each from its last tile, which sees the most keys. */
static tile unit_tile(const split_job *job, int64_t unit) {
    return find_tile(job, job->n_tiles - 1 - unit % job->n_tiles, (int32_t)(unit / job->n_tiles));
}

static void attend_units(void *ctx, int64_t begin, int64_t end, int thread) {
    const split_job *job = ctx;
    float *m = job->memory + thread * job->plan.floats;
    for (int64_t unit = begin; unit < end; unit++) {
        const tile t = unit_tile(job, unit);
        prefetch_first(job, &t);
        const state span = state_at(m + job->plan.span, job->plan.queries);
        const state total = state_at(m + job->plan.total, job->plan.queries);
        load_queries(job, &t, m);
        clear(total, t.n_queries, job->plan.dp);
        for (int64_t i = 0; i < spans_of(&t); i++) {
            int64_t from, to;
            span_range(&t, i, &from, &to);
            attend_span(job, &t, from, to, t.end, m, span);
            fold(total, span, t.n_queries, job->plan.dp);
        }
        finish(job, &t, total);
    }
    leave_many();
}

static state slot_of(const split_job *job, int64_t unit, int64_t span) {
    const int64_t floats = state_floats(job->slot_queries, job->plan.dp);
    return state_at(job->slots + (unit * job->n_spans + span) * floats, job->slot_queries);
}

/* Tasks [begin, end), each some spans of a unit, into their slots. */
static void attend_tasks(void *ctx, int64_t begin, int64_t end, int thread) {
    const split_job *job = ctx;
    const int64_t tasks = anemo_ceil_div(job->n_spans, job->task_spans); /* of a unit */
    float *m = job->memory + thread * job->plan.floats;
    for (int64_t task = begin; task < end; task++) {
        const int64_t unit = task / tasks, first = task % tasks * job->task_spans;
        const tile t = unit_tile(job, unit);
        const int64_t stop = min_i64(first + job->task_spans, spans_of(&t));
        if (first >= stop)
            continue;
        int64_t from, to, later;
        span_range(&t, stop - 1, &from, &later);
        load_queries(job, &t, m);
        for (int64_t span = first; span < stop; span++) {
            span_range(&t, span, &from, &to);
            attend_span(job, &t, from, to, later, m, slot_of(job, unit, span));
        }
    }
    leave_many();
}

static void merge_units(void *ctx, int64_t begin, int64_t end, int thread) {
    const split_job *job = ctx;
    float *m = job->memory + thread * job->plan.floats;
    for (int64_t unit = begin; unit < end; unit++) {
        const tile t = unit_tile(job, unit);
        const state total = state_at(m + job->plan.total, job->plan.queries);
        clear(total, t.n_queries, job->plan.dp);
        for (int64_t span = 0; span < spans_of(&t); span++)
            fold(total, slot_of(job, unit, span), t.n_queries, job->plan.dp);
        finish(job, &t, total);
    }
}

/* ---------------------------------------------------------------- the op */

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    const plan m = plan_of(problem);
    return (size_t)n_threads * ((size_t)m.floats * sizeof(float) + SLOT_BYTES);
}

/* Are there too few units for the threads, and is there memory for the spans of all of them? */
static bool wants_split(const split_job *job, int32_t n_threads) {
    const int64_t units = job->n_tiles * job->p->kv.n_kv_heads;
    const int64_t slot = state_floats(job->slot_queries, job->plan.dp) * (int64_t)sizeof(float);
    return n_threads > 1 && units < (int64_t)SPLIT_BELOW * n_threads && job->n_spans > 1 &&
           slot * units * job->n_spans <= (int64_t)n_threads * SLOT_BYTES;
}

static void count_tiles(split_job *job) {
    const anemo_kv_view *view = &job->pages.view;
    for (int32_t s = 0; s < view->n_sequences; s++) {
        const int64_t n_rows = view->row_start[s + 1] - view->row_start[s];
        const int64_t rows = min_i64(n_rows, job->plan.rows);
        job->n_tiles += anemo_ceil_div(n_rows, job->plan.rows);
        job->slot_queries = max_i64(job->slot_queries, rows * job->plan.group);
    }
    for (int64_t i = 0; i < job->n_tiles; i++) {
        const tile t = find_tile(job, i, 0);
        job->n_spans = max_i64(job->n_spans, spans_of(&t));
    }
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_swa_problem *p = problem;
    const anemo_swa_args *a = args;
    const anemo_status status = anemo_swa_check(p, a);
    if (status != ANEMO_OK)
        return status;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    split_job job = {.p = p, .a = a, .plan = plan_of(p), .pages = kv_pages_of(&p->kv, &a->kv)};
    job.x = (vectors){.type = p->kv.type,
                      .d = p->kv.head_dim,
                      .value_offset = job.pages.value_offset,
                      .bytes = job.pages.vector_bytes};
    job.ahead = anemo_cpu_prefetches_to_second_level() ? FETCH_SECOND_LEVEL : FETCH_FIRST_LEVEL;
    job.memory = exec->workspace;
    job.slots = job.memory + exec->n_threads * job.plan.floats;
    count_tiles(&job);
    const int64_t units = job.n_tiles * p->kv.n_kv_heads;
    if (wants_split(&job, exec->n_threads)) {
        job.task_spans = max_i64(1, units * job.n_spans / (SPLIT_TASKS * exec->n_threads));
        exec->parallel(exec, units * anemo_ceil_div(job.n_spans, job.task_spans), 1, attend_tasks,
                       &job);
        exec->parallel(exec, units, 1, merge_units, &job);
    } else {
        exec->parallel(exec, units, 1, attend_units, &job);
    }
    return ANEMO_OK;
}

#endif
