/* swa on 64-bit Arm, in float: the tiles and blocks of swa_c.c (online softmax over blocks of 32
 * keys at absolute positions, what a row sees is arithmetic, never a mask), with what the portable
 * form leaves on the table:
 *
 *   fused multiply-add    swa_c must multiply and add apart (no contraction): half the operations
 *   4 queries at a time   4 queries x 4 keys of scores are 16 sums, 8 loads feed 16 operations;
 *                         4 queries x 16 columns of values likewise. swa_c takes 2 queries for keys
 *                         and one for values: 6 loads for 8, 9 for 8
 *   queries of any row    where a whole block is seen by all rows of the tile, which is all but its
 *                         two ends, the four come from several rows if a KV head has fewer than
 *                         four query heads: prefill without grouped queries shares loads, too
 *   conversions           f16 by fcvtl, bf16 by shift, q8 by widening: two or three instructions
 * per four elements, once per block for all queries of the tile
 *
 *   key     [KEY_BLOCK][head_dim] and value the same: the page itself if it holds f32 and the block
 *           lies in one page, else converted into the thread's scratch (32 KiB at head_dim 128)
 *   weight  [queries][KEY_BLOCK] scores, then exp(score - max)
 *   out     [queries][head_dim] running sum, with max[queries] and sum[queries]
 *
 * ROW_INVARIANT: a score sums its lanes in one order, whoever its neighbours are; an element of the
 * output takes the keys of a block one after the other, fused, whatever the strip; the softmax runs
 * over the row's own range. Which queries go together decides nothing but speed.
 *
 * Rejected: converting f16 while loading (saves the scratch for one query head, costs the
 * conversion once more for every four queries otherwise); fp16 arithmetic (fmla on halves doubles
 * the rate and loses the tolerance: sums over 128 products in 11 bits); a split of one sequence's
 * keys over threads (as in swa_c: KV heads x sequences x row tiles are the units of work).
 *
 * Counted on the listing, not timed: this file has run under emulation only. */
#include "kernels/dense/common.h"
#include "kernels/swa/kv_page.h"
#include "kernels/swa/swa.h"

#include <arm_neon.h>

enum { KEY_BLOCK = 32, TILE_ROWS = 16, TILE_QUERIES = 64, TOGETHER = 4 };

/* The loops over a constant number of queries must unroll, or sums move to memory. */
#if defined __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 4")
#endif
#define INLINE static inline __attribute__((always_inline))

typedef struct swa_job {
    const anemo_swa_problem *p;
    const anemo_swa_args *a;
    kv_pages pages;
    int64_t n_tiles; /* units = n_tiles * n_kv_heads */
    char *memory;    /* per thread: see scratch */
} swa_job;

/* A tile and the state of its queries: query i is head i % group of row i / group. */
typedef struct tile {
    int32_t sequence, kv_head, group; /* query heads kv_head * group .. + group - 1 */
    int64_t row_begin, n_rows;
    float *weight, *out, *max, *sum;
    float *key, *value; /* scratch for a converted block */
} tile;

static int32_t group_of(const anemo_swa_problem *p) {
    return p->kv.n_heads / p->kv.n_kv_heads;
}

/* Rows per tile: TILE_QUERIES queries where the group allows it, at least one row. */
static int64_t tile_rows(const anemo_swa_problem *p) {
    return max_i64(1, min_i64(TILE_ROWS, TILE_QUERIES / group_of(p)));
}

static size_t thread_bytes(const anemo_swa_problem *p) {
    const size_t queries = (size_t)(tile_rows(p) * group_of(p)), d = (size_t)p->kv.head_dim;
    return align64((queries * (KEY_BLOCK + d + 2) + 2 * KEY_BLOCK * d) * sizeof(float));
}

/* ---------------------------------------------------------------- a block of keys or values */

static void convert_f16(const char *vector, float *x, int32_t n) {
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint16x4_t half;
        memcpy(&half, vector + 2 * i, sizeof half);
        vst1q_f32(x + i, vcvt_f32_f16(vreinterpret_f16_u16(half)));
    }
    for (; i < n; i++)
        x[i] = kv_element_f16(vector, i);
}

static void convert_bf16(const char *vector, float *x, int32_t n) {
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint16x4_t half;
        memcpy(&half, vector + 2 * i, sizeof half);
        vst1q_f32(x + i, vreinterpretq_f32_u32(vshll_n_u16(half, 16)));
    }
    for (; i < n; i++)
        x[i] = kv_element_bf16(vector, i);
}

static void convert_q8(const char *vector, float *x, int32_t n) {
    const float scale = kv_q8_scale(vector);
    const int8_t *codes = (const int8_t *)vector + sizeof scale;
    int32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const int16x8_t wide = vmovl_s8(vld1_s8(codes + i));
        const float32x4_t low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
        const float32x4_t high = vcvtq_f32_s32(vmovl_high_s16(wide));
        vst1q_f32(x + i, vmulq_n_f32(low, scale));
        vst1q_f32(x + i + 4, vmulq_n_f32(high, scale));
    }
    for (; i < n; i++)
        x[i] = scale * kv_q8_code(vector, i);
}

static void convert(const kv_pages *pages, const char *vector, float *x) {
    const int32_t n = pages->shape.head_dim;
    switch (pages->shape.type) {
    case ANEMO_KV_F32:
        memcpy(x, vector, (size_t)n * sizeof *x);
        break;
    case ANEMO_KV_F16:
        convert_f16(vector, x, n);
        break;
    case ANEMO_KV_BF16:
        convert_bf16(vector, x, n);
        break;
    default:
        convert_q8(vector, x, n);
    }
}

/* The vectors of positions [begin, end), `offset` bytes behind the keys, as [end -
 * begin][head_dim]. */
static const float *load_block(const kv_pages *pages, const tile *t, int64_t begin, int64_t end,
                               size_t offset, float *scratch) {
    if (pages->shape.type == ANEMO_KV_F32 && kv_positions_left(pages, begin) >= end - begin)
        return (const float *)(const void *)(kv_key(pages, t->sequence, begin, t->kv_head) +
                                             offset);
    float *x = scratch;
    for (int64_t j = begin; j < end;) {
        const char *vector = kv_key(pages, t->sequence, j, t->kv_head) + offset;
        const int64_t stop = min_i64(end, j + kv_positions_left(pages, j));
        for (; j < stop; j++, vector += pages->vector_bytes, x += pages->shape.head_dim)
            convert(pages, vector, x);
    }
    return scratch;
}

/* ---------------------------------------------------------------- scores */

/* (lane 0 + lane 1) + (lane 2 + lane 3) of each */
INLINE float32x4_t sums_of(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d) {
    return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
}

/* weight[q][0 .. 3] = scale * (query[q] . k[0 .. 3]), q < nq: a constant */
INLINE void score_4_keys(int nq, const float *const *query, const float *const k[4], int64_t d,
                         float scale, float *weight) {
    float32x4_t s[TOGETHER][4];
    UNROLL
    for (int q = 0; q < nq; q++)
        s[q][0] = s[q][1] = s[q][2] = s[q][3] = vdupq_n_f32(0);
    int64_t i = 0;
    for (; i + 4 <= d; i += 4) {
        float32x4_t x[TOGETHER];
        UNROLL
        for (int q = 0; q < nq; q++)
            x[q] = vld1q_f32(query[q] + i);
        UNROLL
        for (int j = 0; j < 4; j++) {
            const float32x4_t y = vld1q_f32(k[j] + i);
            UNROLL
            for (int q = 0; q < nq; q++)
                s[q][j] = vfmaq_f32(s[q][j], x[q], y);
        }
    }
    UNROLL
    for (int q = 0; q < nq; q++) {
        float32x4_t four = sums_of(s[q][0], s[q][1], s[q][2], s[q][3]);
        for (int64_t r = i; r < d; r++) {
            const float32x4_t y = {k[0][r], k[1][r], k[2][r], k[3][r]};
            four = vfmaq_n_f32(four, y, query[q][r]);
        }
        vst1q_f32(weight + q * KEY_BLOCK, vmulq_n_f32(four, scale));
    }
}

INLINE void score_queries(int nq, const float *const *query, const float *key, int64_t d, int64_t n,
                          float scale, float *weight) {
    for (int64_t j = 0; j < n; j += 4) {
        const float *k[4];
        for (int i = 0; i < 4; i++)
            k[i] = key + min_i64(j + i, n - 1) * d; /* behind the end: the last one again */
        score_4_keys(nq, query, k, d, scale, weight + j);
    }
}

/* ---------------------------------------------------------------- softmax */

/* exp(x) as in f32x4.h, fused: 2^n exp(r), |r| <= ln(2) / 2, Taylor's series to r^7. Below -87.33
 * it is 0; above 0 it is never asked. NaN stays NaN. */
static float32x4_t exp_4(float32x4_t x) {
    const float32x4_t round = vdupq_n_f32(0x1.8p23f); /* leaves the integer in the low bits */
    const uint32x4_t too_low = vcltq_f32(x, vdupq_n_f32(-87.33f));
    x = vmaxq_f32(x, vdupq_n_f32(-87.33f));
    const float32x4_t shifted = vfmaq_n_f32(round, x, 0x1.715476p0f);
    const float32x4_t n = vsubq_f32(shifted, round);
    float32x4_t r = vfmsq_n_f32(x, n, 0x1.62ep-1f);
    r = vfmsq_n_f32(r, n, 0x1.0bfbe8p-15f);
    float32x4_t y = vfmaq_n_f32(vdupq_n_f32(1.0f / 720), r, 1.0f / 5040);
    y = vfmaq_f32(vdupq_n_f32(1.0f / 120), y, r);
    y = vfmaq_f32(vdupq_n_f32(1.0f / 24), y, r);
    y = vfmaq_f32(vdupq_n_f32(1.0f / 6), y, r);
    y = vfmaq_f32(vdupq_n_f32(0.5f), y, r);
    y = vaddq_f32(vfmaq_f32(r, vmulq_f32(y, r), r), vdupq_n_f32(1));
    const uint32x4_t power =
        vaddq_u32(vshlq_n_u32(vreinterpretq_u32_f32(shifted), 23), vdupq_n_u32(0x3f800000u));
    y = vmulq_f32(y, vreinterpretq_f32_u32(power));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), too_low));
}

/* Scores to weights: the running maximum rises to the block's, weights become exp(score - max), the
 * running sum takes them in. Returns what the earlier sums must be multiplied with. */
static float soften(float *weight, int64_t n, float *max, float *sum) {
    float32x4_t most = vdupq_n_f32(*max);
    for (int64_t j = n; j % 4 != 0; j++)
        weight[j] = -INFINITY; /* fills the last vector: exp gives 0 */
    for (int64_t j = 0; j < n; j += 4)
        most = vmaxnmq_f32(most, vld1q_f32(weight + j)); /* NaN shows in the sum */
    const float top = vmaxnmvq_f32(most);
    float32x4_t total = vdupq_n_f32(0);
    for (int64_t j = 0; j < n; j += 4) {
        const float32x4_t w = exp_4(vsubq_f32(vld1q_f32(weight + j), vdupq_n_f32(top)));
        vst1q_f32(weight + j, w);
        total = vaddq_f32(total, w);
    }
    const float shrink = vgetq_lane_f32(exp_4(vdupq_n_f32(*max - top)), 0);
    *sum = *sum * shrink + vaddvq_f32(total);
    *max = top;
    return shrink;
}

/* ---------------------------------------------------------------- values */

/* out[q][16] = out * shrink + sum over j of weight[q][j] value[j][16] for nq queries, the sums in
 * registers. */
INLINE void mix_16(int nq, float *out, int64_t d, const float *shrink, const float *weight,
                   const float *value, int64_t n) {
    float32x4_t s[TOGETHER][4];
    UNROLL
    for (int q = 0; q < nq; q++) {
        UNROLL
        for (int c = 0; c < 4; c++)
            s[q][c] = vmulq_n_f32(vld1q_f32(out + q * d + 4 * c), shrink[q]);
    }
    for (int64_t j = 0; j < n; j++, value += d) {
        const float32x4_t v0 = vld1q_f32(value), v1 = vld1q_f32(value + 4);
        const float32x4_t v2 = vld1q_f32(value + 8), v3 = vld1q_f32(value + 12);
        UNROLL
        for (int q = 0; q < nq; q++) {
            const float w = weight[q * KEY_BLOCK + j];
            s[q][0] = vfmaq_n_f32(s[q][0], v0, w);
            s[q][1] = vfmaq_n_f32(s[q][1], v1, w);
            s[q][2] = vfmaq_n_f32(s[q][2], v2, w);
            s[q][3] = vfmaq_n_f32(s[q][3], v3, w);
        }
    }
    UNROLL
    for (int q = 0; q < nq; q++) {
        UNROLL
        for (int c = 0; c < 4; c++)
            vst1q_f32(out + q * d + 4 * c, s[q][c]);
    }
}

/* The last columns, fewer than 16, of one query; every column in the order of j, fused. */
static void mix_rest(float *out, float shrink, const float *weight, const float *value, int64_t d,
                     int64_t columns, int64_t n) {
    int64_t i = 0;
    for (; i + 4 <= columns; i += 4) {
        float32x4_t s = vmulq_n_f32(vld1q_f32(out + i), shrink);
        for (int64_t j = 0; j < n; j++)
            s = vfmaq_n_f32(s, vld1q_f32(value + j * d + i), weight[j]);
        vst1q_f32(out + i, s);
    }
    for (; i < columns; i++) {
        float s = out[i] * shrink;
        for (int64_t j = 0; j < n; j++)
            s = fmaf(weight[j], value[j * d + i], s);
        out[i] = s;
    }
}

INLINE void mix_queries(int nq, float *out, const float *shrink, const float *weight,
                        const float *value, int64_t d, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= d; i += 16)
        mix_16(nq, out + i, d, shrink, weight, value + i, n);
    for (int q = 0; q < nq && i < d; q++)
        mix_rest(out + q * d + i, shrink[q], weight + q * KEY_BLOCK, value + i, d, d - i, n);
}

/* ---------------------------------------------------------------- a tile */

/* Queries first .. first + nq - 1 of the tile, which all see the same n keys. */
INLINE void attend_together(int nq, const swa_job *job, const tile *t, int64_t first,
                            const float *key, const float *value, int64_t n) {
    const anemo_swa_problem *p = job->p;
    const int64_t d = p->kv.head_dim;
    const float *query[TOGETHER];
    float shrink[TOGETHER], *weight = t->weight + first * KEY_BLOCK;
    for (int q = 0; q < nq; q++) {
        const int64_t row = t->row_begin + (first + q) / t->group;
        const int64_t head = (int64_t)t->kv_head * t->group + (first + q) % t->group;
        query[q] = job->a->q + (row * p->kv.n_heads + head) * d;
    }
    score_queries(nq, query, key, d, n, p->scale, weight);
    for (int q = 0; q < nq; q++)
        shrink[q] = soften(weight + q * KEY_BLOCK, n, &t->max[first + q], &t->sum[first + q]);
    mix_queries(nq, t->out + first * d, shrink, weight, value, d, n);
}

/* Queries [first, end) of the tile, which all see the same n keys. */
static void attend_queries(const swa_job *job, const tile *t, int64_t first, int64_t end,
                           const float *key, const float *value, int64_t n) {
    for (; end - first >= 4; first += 4)
        attend_together(4, job, t, first, key, value, n);
    switch (end - first) {
    case 3:
        attend_together(3, job, t, first, key, value, n);
        break;
    case 2:
        attend_together(2, job, t, first, key, value, n);
        break;
    case 1:
        attend_together(1, job, t, first, key, value, n);
        break;
    default:
        break;
    }
}

/* One block of keys [begin, end) for all rows of the tile; rows that see the same of it go
 * together. */
static void attend_block(const swa_job *job, const tile *t, int64_t begin, int64_t end) {
    const anemo_swa_problem *p = job->p;
    const anemo_kv_view *view = &job->a->kv;
    const float *key = load_block(&job->pages, t, begin, end, 0, t->key);
    const float *value = load_block(&job->pages, t, begin, end, job->pages.value_offset, t->value);
    const int64_t position = kv_position(view, t->sequence, t->row_begin);
    for (int64_t row = 0, next; row < t->n_rows; row = next) {
        int64_t from = 0, to = 0;
        for (next = row; next < t->n_rows; next++) {
            const int64_t at = position + next;
            const int64_t first = kv_first_visible(view, t->sequence, at, p->window);
            const int64_t next_from = max_i64(begin, first), next_to = min_i64(end, at + 1);
            if (next > row && (next_from != from || next_to != to))
                break;
            from = next_from, to = next_to;
        }
        const int64_t skip = (from - begin) * p->kv.head_dim;
        if (to > from)
            attend_queries(job, t, row * t->group, next * t->group, key + skip, value + skip,
                           to - from);
    }
}

static void finish(const swa_job *job, const tile *t) {
    const anemo_swa_problem *p = job->p;
    const int64_t d = p->kv.head_dim;
    for (int64_t i = 0; i < t->n_rows * t->group; i++) {
        const int64_t row = t->row_begin + i / t->group;
        const int64_t head = (int64_t)t->kv_head * t->group + i % t->group;
        float *out = job->a->out + (row * p->kv.n_heads + head) * d;
        for (int64_t c = 0; c < d; c++)
            out[c] = t->out[i * d + c] / t->sum[i];
    }
}

static void attend_tile(const swa_job *job, const tile *t) {
    const anemo_swa_problem *p = job->p;
    const anemo_kv_view *view = &job->a->kv;
    const int64_t queries = t->n_rows * t->group;
    const float *sinks = p->has_sinks ? job->a->sinks + (int64_t)t->kv_head * t->group : NULL;
    for (int64_t i = 0; i < queries; i++) {
        t->max[i] = sinks ? sinks[i % t->group] : -INFINITY;
        t->sum[i] = sinks ? 1 : 0;
    }
    memset(t->out, 0, (size_t)(queries * p->kv.head_dim) * sizeof *t->out);
    const int64_t first = kv_position(view, t->sequence, t->row_begin);
    const int64_t begin = kv_first_visible(view, t->sequence, first, p->window);
    const int64_t end = first + t->n_rows;
    for (int64_t j = begin; j < end;) {
        const int64_t stop = min_i64(end, (j / KEY_BLOCK + 1) * KEY_BLOCK);
        attend_block(job, t, j, stop);
        j = stop;
    }
    finish(job, t);
}

/* ---------------------------------------------------------------- units of work */

/* Sets sequence and rows of tile `index`, counting each sequence's tiles from its first row. */
static void find_tile(const swa_job *job, int64_t index, tile *t) {
    const anemo_kv_view *view = &job->a->kv;
    const int64_t rows = tile_rows(job->p);
    for (int32_t s = 0; s < view->n_sequences; s++) {
        const int64_t n_rows = view->row_start[s + 1] - view->row_start[s];
        const int64_t n_tiles = anemo_ceil_div(n_rows, rows);
        if (index < n_tiles) {
            t->sequence = s;
            t->row_begin = view->row_start[s] + index * rows;
            t->n_rows = min_i64(rows, n_rows - index * rows);
            return;
        }
        index -= n_tiles;
    }
}

/* Units [begin, end): KV head by KV head, each from its last tile, which sees the most keys. */
static void attend_units(void *ctx, int64_t begin, int64_t end, int thread) {
    const swa_job *job = ctx;
    const anemo_swa_problem *p = job->p;
    const int64_t d = p->kv.head_dim, queries = tile_rows(p) * group_of(p);
    tile t = {.group = group_of(p)};
    t.key = (float *)(void *)(job->memory + (size_t)thread * thread_bytes(p));
    t.value = t.key + KEY_BLOCK * d;
    t.weight = t.value + KEY_BLOCK * d;
    t.out = t.weight + queries * KEY_BLOCK;
    t.max = t.out + queries * d;
    t.sum = t.max + queries;
    for (int64_t unit = begin; unit < end; unit++) {
        t.kv_head = (int32_t)(unit / job->n_tiles);
        find_tile(job, job->n_tiles - 1 - unit % job->n_tiles, &t);
        attend_tile(job, &t);
    }
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    return (size_t)n_threads * thread_bytes(problem);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_swa_problem *p = problem;
    const anemo_swa_args *a = args;
    const anemo_status status = anemo_swa_check(p, a);
    if (status != ANEMO_OK)
        return status;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    swa_job job = {.p = p, .a = a, .pages = kv_pages_of(&p->kv, &a->kv)};
    job.memory = exec->workspace;
    for (int32_t s = 0; s < a->kv.n_sequences; s++)
        job.n_tiles += anemo_ceil_div(a->kv.row_start[s + 1] - a->kv.row_start[s], tile_rows(p));
    exec->parallel(exec, job.n_tiles * p->kv.n_kv_heads, 1, attend_units, &job);
    return ANEMO_OK;
}

const anemo_variant anemo_swa_f32_tile_neon = {
    .size = sizeof(anemo_variant),
    .name = "swa_f32_tile_neon",
    .op = ANEMO_OP_SWA,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "fused, 4 queries of any row share each key and value; not yet run on hardware",
    .accepts = anemo_swa_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
