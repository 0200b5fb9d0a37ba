/* swa in plain C: online softmax over blocks of keys (Milakov and Gimelshein 2018; Rabe and Staats
 * 2021; FlashAttention, Dao et al. 2022), the query heads of a KV head together.
 *
 * A unit of work is a tile of up to TILE_ROWS rows of one sequence and one KV head. It walks the
 * keys that any of its rows sees, from the first row's first visible to the last row's own, in
 * blocks of KEY_BLOCK keys. Its queries are rows * (n_heads / n_kv_heads):
 *
 *   key     [KEY_BLOCK][head_dim] and value the same: in the page itself when it holds f32 and the
 *           block lies in one page, else converted into the thread's scratch, once for all queries
 *   weight  [queries][KEY_BLOCK] scores, then exp(score - max)
 *   out     [queries][head_dim] running sum, with max[queries] and sum[queries]
 *
 * What a row sees is arithmetic (kv_first_visible), never a mask: within a block each row works on
 * its own range of keys, so a slot that no row sees, inside or outside the window, is not read.
 *
 * Blocks begin at absolute positions that are multiples of KEY_BLOCK, and within a block every
 * order of summation depends on the row's own range only. So a row's bits are the same in prefill,
 * chunked prefill and decode, alone and in a batch, with any number of threads: ROW_INVARIANT.
 *
 * Rejected: splitting one sequence's keys over threads. With one unit per KV head, decode fills a
 * few cores already; more need a merge, and with it a variant of its own.
 */
#include "kernels/dense/common.h"
#include "kernels/dense/f32x4.h"
#include "kernels/swa/kv_page.h"
#include "kernels/swa/swa.h"

enum { KEY_BLOCK = 32, TILE_ROWS = 16, TILE_QUERIES = 64 };

typedef struct swa_job {
    const anemo_swa_problem *p;
    const anemo_swa_args *a;
    kv_pages pages;
    int64_t n_tiles; /* units = n_tiles * n_kv_heads */
    char *memory;    /* per thread: see scratch */
} swa_job;

/* A tile and the state of its queries. */
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

static void convert(const kv_pages *pages, const char *vector, float *x) {
    const int32_t n = pages->shape.head_dim;
    int32_t i = 0;
    switch (pages->shape.type) {
    case ANEMO_KV_F32:
        memcpy(x, vector, (size_t)n * sizeof *x);
        break;
    case ANEMO_KV_F16:
        for (; i + 4 <= n; i += 4)
            f4_store(x + i, f4_from_f16(vector + 2 * i));
        for (; i < n; i++)
            x[i] = kv_element_f16(vector, i);
        break;
    case ANEMO_KV_BF16:
        for (; i + 4 <= n; i += 4)
            f4_store(x + i, f4_from_bf16(vector + 2 * i));
        for (; i < n; i++)
            x[i] = kv_element_bf16(vector, i);
        break;
    default:
        for (; i < n; i++)
            x[i] = kv_q8_scale(vector) * kv_q8_code(vector, i);
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

/* ---------------------------------------------------------------- one row's queries in one block
 */

/* weight[q][j] = scale * (query q . key j), q < group, j < n; pairs of queries share the loads. */
static void score_row(const float *query, const float *key, int64_t d, int32_t group, int64_t n,
                      float scale, float *weight) {
    for (int64_t j = 0; j < n; j += 4) {
        const float *k[4];
        for (int i = 0; i < 4; i++)
            k[i] = key + min_i64(j + i, n - 1) * d; /* behind the end: the last one again */
        for (int32_t q = 0; q < group; q += 2) {
            float s[2][4];
            if (q + 1 < group)
                f4_dot_2x4(query + q * d, query + (q + 1) * d, k, d, s);
            else
                f4_dot_1x4(query + q * d, k, d, s[0]);
            for (int32_t i = 0; i < (q + 1 < group ? 2 : 1); i++)
                f4_store(weight + (q + i) * KEY_BLOCK + j, f4_load(s[i]) * f4_splat(scale));
        }
    }
}

/* Scores to weights: the running maximum rises to the block's, weights become exp(score - max), the
 * running sum takes them in. Returns what the earlier sums must be multiplied with. */
static float soften(float *weight, int64_t n, float *max, float *sum) {
    float top = *max;
    for (int64_t j = 0; j < n; j++)
        top = weight[j] > top ? weight[j] : top;
    for (int64_t j = n; j % 4 != 0; j++)
        weight[j] = -INFINITY; /* fills the last vector: exp gives 0 */
    f32x4 total = {0};
    for (int64_t j = 0; j < n; j += 4) {
        const f32x4 w = f4_exp(f4_load(weight + j) - f4_splat(top));
        f4_store(weight + j, w);
        total += w;
    }
    const float shrink = f4_exp(f4_splat(*max - top))[0];
    *sum = *sum * shrink + f4_sum(total);
    *max = top;
    return shrink;
}

/* out[32] = out * shrink + sum over j of weight[j] value[j][32], the 32 sums in registers */
static void mix_32(float *out, float shrink, const float *weight, const float *value, int64_t d,
                   int64_t n) {
    const f32x4 a = f4_splat(shrink);
    f32x4 s0 = f4_load(out) * a, s1 = f4_load(out + 4) * a;
    f32x4 s2 = f4_load(out + 8) * a, s3 = f4_load(out + 12) * a;
    f32x4 s4 = f4_load(out + 16) * a, s5 = f4_load(out + 20) * a;
    f32x4 s6 = f4_load(out + 24) * a, s7 = f4_load(out + 28) * a;
    for (int64_t j = 0; j < n; j++, value += d) {
        const f32x4 w = f4_splat(weight[j]);
        s0 += w * f4_load(value), s1 += w * f4_load(value + 4);
        s2 += w * f4_load(value + 8), s3 += w * f4_load(value + 12);
        s4 += w * f4_load(value + 16), s5 += w * f4_load(value + 20);
        s6 += w * f4_load(value + 24), s7 += w * f4_load(value + 28);
    }
    f4_store(out, s0), f4_store(out + 4, s1), f4_store(out + 8, s2), f4_store(out + 12, s3);
    f4_store(out + 16, s4), f4_store(out + 20, s5), f4_store(out + 24, s6), f4_store(out + 28, s7);
}

/* out[d] = out * shrink + sum over j of weight[j] value[j]; every column in the order of j. */
static void mix(float *out, float shrink, const float *weight, const float *value, int64_t d,
                int64_t n) {
    int64_t i = 0;
    for (; i + 32 <= d; i += 32)
        mix_32(out + i, shrink, weight, value + i, d, n);
    for (; i + 4 <= d; i += 4) {
        f32x4 s = f4_load(out + i) * f4_splat(shrink);
        for (int64_t j = 0; j < n; j++)
            s += f4_splat(weight[j]) * f4_load(value + j * d + i);
        f4_store(out + i, s);
    }
    for (; i < d; i++) {
        float s = out[i] * shrink;
        for (int64_t j = 0; j < n; j++)
            s += weight[j] * value[j * d + i];
        out[i] = s;
    }
}

/* ---------------------------------------------------------------- a tile */

/* One block of keys [begin, end) for all rows of the tile. */
static void attend_block(const swa_job *job, const tile *t, int64_t begin, int64_t end) {
    const anemo_swa_problem *p = job->p;
    const anemo_kv_view *view = &job->a->kv;
    const int64_t d = p->kv.head_dim;
    const float *key = load_block(&job->pages, t, begin, end, 0, t->key);
    const float *value = load_block(&job->pages, t, begin, end, job->pages.value_offset, t->value);
    for (int64_t row = 0; row < t->n_rows; row++) {
        const int64_t position = kv_position(view, t->sequence, t->row_begin + row);
        const int64_t from =
            max_i64(begin, kv_first_visible(view, t->sequence, position, p->window));
        const int64_t n = min_i64(end, position + 1) - from, skip = (from - begin) * d;
        if (n <= 0)
            continue;
        const int64_t head = (t->row_begin + row) * p->kv.n_heads + (int64_t)t->kv_head * t->group;
        float *weight = t->weight + row * t->group * KEY_BLOCK;
        score_row(job->a->q + head * d, key + skip, d, t->group, n, p->scale, weight);
        for (int32_t g = 0; g < t->group; g++) {
            const int64_t query = row * t->group + g;
            const float shrink = soften(weight + g * KEY_BLOCK, n, &t->max[query], &t->sum[query]);
            mix(t->out + query * d, shrink, weight + g * KEY_BLOCK, value + skip, d, n);
        }
    }
}

static void attend_tile(const swa_job *job, const tile *t) {
    const anemo_swa_problem *p = job->p;
    const anemo_kv_view *view = &job->a->kv;
    const int64_t d = p->kv.head_dim, queries = t->n_rows * t->group;
    const float *sinks = p->has_sinks ? job->a->sinks + (int64_t)t->kv_head * t->group : NULL;
    for (int64_t i = 0; i < queries; i++) {
        t->max[i] = sinks ? sinks[i % t->group] : -INFINITY;
        t->sum[i] = sinks ? 1 : 0;
    }
    memset(t->out, 0, (size_t)(queries * d) * sizeof *t->out);

    const int64_t first = kv_position(view, t->sequence, t->row_begin);
    const int64_t begin = kv_first_visible(view, t->sequence, first, p->window);
    const int64_t end = first + t->n_rows;
    for (int64_t j = begin; j < end;) {
        const int64_t stop = min_i64(end, (j / KEY_BLOCK + 1) * KEY_BLOCK);
        attend_block(job, t, j, stop);
        j = stop;
    }
    for (int64_t i = 0; i < queries; i++) {
        const int64_t row = t->row_begin + i / t->group;
        const int64_t head = (int64_t)t->kv_head * t->group + i % t->group;
        float *out = job->a->out + (row * p->kv.n_heads + head) * d;
        for (int64_t c = 0; c < d; c++)
            out[c] = t->out[i * d + c] / t->sum[i];
    }
}

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

const anemo_variant anemo_swa_c = {
    .size = sizeof(anemo_variant),
    .name = "swa_c",
    .op = ANEMO_OP_SWA,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "online softmax over 32-key blocks, a group's heads share each key, no mask",
    .accepts = anemo_swa_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
