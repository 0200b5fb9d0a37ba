/* The qgemm around the VNNI tile: who computes which block, and the epilogue. Included by the files
 * of the variants, which fix the kind of code.
 *
 * An item of the parallel loop is one block of 32 rows of W times a stretch of rows of x: as many
 * as stay in the L2 cache, fewer when there are not enough blocks to fill the threads. All blocks
 * go by before the next stretch begins, so x comes from L2 and each stretch reads W once more, at
 * 2 * (rows of the stretch) operations per weight: less than a tenth of the memory bandwidth.
 * Inside a block the tiles share the work of fetching the next block; so even with a few
 * tiles (m = 7..16) the weights arrive while the dot products run. A stretch's heads
 * (heads_avx512vnni.h) are made by each thread when it enters it. What a block needs beyond its
 * columns (shapes, lines to fetch, heads) is worked out once per stretch or call: at m = 1 a block
 * of 4-bit weights takes 1.7 us, and some twenty 64-bit divisions were 5 % of it. */
#ifndef ANEMO_QGEMM_AVX512VNNI_H
#define ANEMO_QGEMM_AVX512VNNI_H

#include "kernels/qgemm/epilogue.h"
#include "kernels/qgemm/heads_avx512vnni.h"
#include "kernels/qgemm/kernels_avx512vnni.h"
#include "kernels/qgemm/qgemm_internal.h"

/* Pieces of the loop per thread where memory is the limit: threads do not get the same share of it.
 * Where arithmetic is, equal halves are 2 % faster. And words between what two threads write. */
enum { VNNI_PIECES = 4, VNNI_APART = 8 };

/* So much of x stays in the L2 cache (1 MiB on Zen 4) beside two blocks of W. */
enum { VNNI_STRETCH_BYTES = 384 * 1024 };

typedef struct anemo_vnni_part {
    anemo_n32_shape shape;
    bool fine;
    int64_t head_words; /* of a tile */
    int64_t heads_at;   /* within a thread's */
} anemo_vnni_part;

typedef struct anemo_vnni_job {
    const anemo_qgemm_problem *p;
    const anemo_qgemm_args *a;
    anemo_vnni_part part[ANEMO_QGEMM_PARTS];
    size_t row_bytes;  /* of the a8 record */
    int32_t act_group; /* 0: one per row */
    int64_t rows;      /* of a tile, at most */
    int64_t blocks;    /* of 32 rows of W, over all parts */
    int64_t tiles;     /* rows of x are spread evenly over them */
    int64_t stretches; /* pieces x is cut into */
    int64_t fit;       /* tiles of a stretch, at most */
    const anemo_vnni_kernel *kernel;
    anemo_vnni_streams_fn streams; /* NULL: tiles only */
    int64_t *headed; /* per thread, VNNI_APART words apart: the stretch that its heads are of */
    int32_t *heads;  /* per thread, part and tile of a stretch */
    int64_t thread_words;
} anemo_vnni_job;

/* ---------------------------------------------------------------- heads */

/* Heads of a tile of the stretch. */
static inline int32_t *vnni_heads_at(const anemo_vnni_job *j, int thread, int32_t part,
                                     int64_t tile) {
    const anemo_vnni_part *at = &j->part[part];
    return j->heads + thread * j->thread_words + at->heads_at + tile * at->head_words;
}

/* Every thread makes its own, so that nobody waits: a few thousandths of the dot products. */
static inline void vnni_head_stretch(const anemo_vnni_job *j, int thread, int64_t first,
                                     int64_t last) {
    for (int32_t part = 0; part < j->p->n_parts; part++) {
        for (int64_t tile = first; tile < last; tile++) {
            int32_t *heads = vnni_heads_at(j, thread, part, tile - first);
            const int64_t begin = tile * j->a->m / j->tiles, end = (tile + 1) * j->a->m / j->tiles;
            for (int64_t row = begin; row < end; row++) {
                vnni_head_row(&j->part[part].shape, j->act_group,
                              (const int8_t *)j->a->x + (size_t)row * j->row_bytes, row - begin,
                              heads);
            }
        }
    }
}

/* ---------------------------------------------------------------- blocks */

/* The stretch under way. */
typedef struct vnni_stretch {
    int64_t index, first, last;       /* tiles */
    int64_t lines[ANEMO_QGEMM_PARTS]; /* of W that a tile fetches for each 32 columns */
} vnni_stretch;

static inline vnni_stretch vnni_stretch_of(const anemo_vnni_job *j, int64_t index) {
    vnni_stretch s = {.index = index};
    s.first = index * j->tiles / j->stretches;
    s.last = (index + 1) * j->tiles / j->stretches;
    for (int32_t part = 0; part < j->p->n_parts; part++) {
        const anemo_n32_shape *shape = &j->part[part].shape;
        s.lines[part] = anemo_ceil_div((int64_t)shape->block_bytes / 64,
                                       shape->k_padded / 32 * (s.last - s.first));
    }
    return s;
}

/* What one of the tiles over a block fetches: an equal share of the next block, which lies right
 * behind; a single tile the lines a little ahead of it (behind the last block this asks for memory
 * that nobody reads, which is harmless). */
static inline anemo_vnni_ahead vnni_ahead(const uint8_t *block, const anemo_n32_shape *shape,
                                          const vnni_stretch *s, int64_t tile, int64_t lines) {
    const int64_t share = 64 * lines * (shape->k_padded / 32) * (tile - s->first);
    if (s->last - s->first == 1) {
        return vnni_near_of(block, !vnni_asks_nothing(shape), lines);
    }
    return (anemo_vnni_ahead){.at = block + shape->block_bytes + share,
                              .lines = lines,
                              .second_level = anemo_cpu_prefetches_to_second_level()};
}

/* anemo_epilogue_row for a whole tile, in vectors: the same additions in the same order. */
static inline void vnni_store(const anemo_vnni_job *j, anemo_qgemm_block b, int64_t row, int64_t mr,
                              float out[][ANEMO_TILE_COLUMNS]) {
    const bool add = j->p->epilogue == ANEMO_EPI_ADD;
    for (int v = 0; v < 2 && 16 * v < b.rows; v++) {
        const int64_t count = b.rows - 16 * v;
        const __mmask16 mask = count < 16 ? (__mmask16)((1u << count) - 1) : 0xffff;
        const bool has_bias = j->p->has_bias >> b.part & 1;
        const __m512 bias = has_bias
                                ? _mm512_maskz_loadu_ps(mask, j->a->bias[b.part] + b.row + 16 * v)
                                : _mm512_setzero_ps();
        float *y = j->a->y[b.part] + row * j->a->y_stride[b.part] + b.row + 16 * v;
        for (int64_t i = 0; i < mr; i++, y += j->a->y_stride[b.part]) {
            __m512 r = _mm512_loadu_ps(out[i] + 16 * v);
            r = has_bias ? _mm512_add_ps(r, bias) : r;
            r = add ? _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), r) : r;
            _mm512_mask_storeu_ps(y, mask, r);
        }
    }
}

static inline void vnni_one_tile(const anemo_vnni_job *j, int thread, anemo_qgemm_block b,
                                 const vnni_stretch *s, int64_t tile) {
    const bool act_mul = j->p->epilogue == ANEMO_EPI_ACT_MUL;
    const int64_t row = tile * j->a->m / j->tiles, mr = (tile + 1) * j->a->m / j->tiles - row;
    float out[2][ANEMO_TILE_ROWS][ANEMO_TILE_COLUMNS];
    anemo_vnni_tile t;
    for (int64_t i = 0; i < mr; i++) {
        t.row[i] = (const int8_t *)j->a->x + (size_t)(row + i) * j->row_bytes;
    }
    for (int part = b.part; part <= (act_mul ? 1 : b.part); part++) {
        t.shape = &j->part[part].shape;
        t.block = (const uint8_t *)j->a->weight[part] +
                  (size_t)(b.row / ANEMO_N32_ROWS) * t.shape->block_bytes;
        t.heads = vnni_heads_at(j, thread, part, tile - s->first);
        const anemo_vnni_ahead ahead = vnni_ahead(t.block, t.shape, s, tile, s->lines[part]);
        (j->part[part].fine ? j->kernel->fine : j->kernel->rows)(mr, &t, ahead,
                                                                 out[act_mul ? part : 0]);
    }
    if (!act_mul) {
        vnni_store(j, b, row, mr, out[0]);
        return;
    }
    for (int64_t i = 0; i < mr; i++) {
        anemo_epilogue_act_mul(j->p, j->a, row + i, b.row, b.rows, out[0][i], out[1][i]);
    }
}

/* The lines of an item that no single tile before it has asked for. */
static inline void vnni_fetch_first(const anemo_vnni_job *j, int64_t item) {
    const anemo_qgemm_block b = anemo_qgemm_block_at(j->p, ANEMO_N32_ROWS, item % j->blocks);
    const uint8_t *block = (const uint8_t *)j->a->weight[b.part] +
                           (size_t)(b.row / ANEMO_N32_ROWS) * j->part[b.part].shape.block_bytes;
    const int64_t near = vnni_near_of(block, true, 0).near;
    for (int64_t at = 0; at < near; at += 64) {
        anemo_prefetch_far(block + at, false);
    }
}

/* Blocks `item` and item + apart of W, or with ACT_MUL gate and up of block `item`. */
static inline void vnni_stream_item(const anemo_vnni_job *j, int thread, int64_t item,
                                    int64_t apart) {
    const bool act_mul = j->p->epilogue == ANEMO_EPI_ACT_MUL;
    const int64_t mr = j->a->m;
    float out[VNNI_STREAMS * VNNI_STREAM_ROWS][ANEMO_TILE_COLUMNS];
    const uint8_t *block[VNNI_STREAMS];
    anemo_qgemm_block b[VNNI_STREAMS];
    anemo_vnni_tile t = {.shape = &j->part[0].shape, .heads = vnni_heads_at(j, thread, 0, 0)};
    for (int64_t i = 0; i < mr; i++) {
        t.row[i] = (const int8_t *)j->a->x + (size_t)i * j->row_bytes;
    }
    for (int s = 0; s < VNNI_STREAMS; s++) {
        b[s] = anemo_qgemm_block_at(j->p, ANEMO_N32_ROWS, item + (act_mul ? 0 : s * apart));
        b[s].part = act_mul ? s : b[s].part;
        block[s] = (const uint8_t *)j->a->weight[b[s].part] +
                   (size_t)(b[s].row / ANEMO_N32_ROWS) * t.shape->block_bytes;
    }
    j->streams(mr, &t, block, out);
    if (!act_mul) {
        vnni_store(j, b[0], 0, mr, out);
        vnni_store(j, b[1], 0, mr, out + mr);
        return;
    }
    for (int64_t i = 0; i < mr; i++) {
        anemo_epilogue_act_mul(j->p, j->a, i, b[0].row, b[0].rows, out[i], out[mr + i]);
    }
}

/* Returns the first item that is left for tiles. */
static inline int64_t vnni_stream_items(const anemo_vnni_job *j, int64_t begin, int64_t end,
                                        int thread) {
    const int64_t each =
        j->p->epilogue == ANEMO_EPI_ACT_MUL ? end - begin : (end - begin) / VNNI_STREAMS;
    int64_t *headed = j->headed + thread * VNNI_APART;
    if (*headed != 0) {
        vnni_head_stretch(j, thread, 0, 1);
        *headed = 0;
    }
    for (int64_t i = 0; i < each; i++) {
        vnni_stream_item(j, thread, begin + i, each);
    }
    return j->p->epilogue == ANEMO_EPI_ACT_MUL ? end : begin + VNNI_STREAMS * each;
}

/* Can W be read as streams: few rows, and all parts of the same type? On Zen 4 only plain ones were
 * measured. */
static inline bool vnni_streams_fit(const anemo_vnni_job *j) {
    bool fit = vnni_wants_streams() && j->a->m > 0 && j->a->m <= VNNI_STREAM_ROWS &&
               (anemo_cpu_reads() == ANEMO_READS_IN_STREAMS ||
                vnni_is_plain(&j->part[0].shape, j->act_group, j->part[0].fine));
    for (int32_t i = 1; i < j->p->n_parts; i++) {
        fit = fit && memcmp(&j->p->type[i], &j->p->type[0], sizeof j->p->type[0]) == 0;
    }
    return fit;
}

static inline void vnni_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const anemo_vnni_job *j = ctx;
    int64_t *headed = j->headed + thread * VNNI_APART, block = begin % j->blocks;
    vnni_stretch s = vnni_stretch_of(j, begin / j->blocks);
    if (j->streams) {
        begin = block = vnni_stream_items(j, begin, end, thread);
    } else if (j->tiles == 1) {
        vnni_fetch_first(j, begin);
    }
    for (int64_t item = begin; item < end; item++, block++) {
        if (block == j->blocks) {
            block = 0;
            s = vnni_stretch_of(j, s.index + 1);
        }
        if (s.index != *headed) {
            vnni_head_stretch(j, thread, s.first, s.last);
            *headed = s.index;
        }
        const anemo_qgemm_block b = anemo_qgemm_block_at(j->p, ANEMO_N32_ROWS, block);
        for (int64_t tile = s.first; tile < s.last; tile++) {
            vnni_one_tile(j, thread, b, &s, tile);
        }
    }
}

/* ---------------------------------------------------------------- the variant */

/* What is known at plan time. */
static inline anemo_vnni_job vnni_job_of(const anemo_qgemm_problem *p, const anemo_act *act) {
    anemo_vnni_job j = {.p = p, .row_bytes = act->row_bytes(p->k), .rows = ANEMO_TILE_ROWS};
    j.act_group = act->group;
    for (int32_t i = 0; i < p->n_parts; i++) {
        anemo_vnni_part *part = &j.part[i];
        part->shape = anemo_n32_shape_of(&p->type[i], p->k);
        part->fine = vnni_is_fine(&part->shape, j.act_group);
        part->head_words = vnni_head_words(&part->shape, j.act_group);
        if (j.rows > VNNI_ROWS(j.act_group, part->fine)) {
            j.rows = VNNI_ROWS(j.act_group, part->fine);
        }
    }
    const int64_t fit = VNNI_STRETCH_BYTES / (j.rows * (int64_t)j.row_bytes);
    const int64_t tiles = anemo_ceil_div(p->m_max, j.rows);
    j.fit = fit < 1 ? 1 : fit < tiles ? fit : tiles;
    for (int32_t i = 0; i < p->n_parts; i++) {
        j.part[i].heads_at = j.thread_words;
        j.thread_words += j.fit * j.part[i].head_words;
    }
    return j;
}

/* Weight groups are multiples of the activation group, or halves of 32, or there is but one
 * activation group. */
static inline bool anemo_vnni_accepts(const anemo_qgemm_problem *p, int32_t act_group, char *why,
                                      size_t why_bytes) {
    if (!anemo_qgemm_valid(p, why, why_bytes)) {
        return false;
    }
    for (int32_t i = 0; i < p->n_parts; i++) {
        const int32_t group = p->type[i].group;
        if (group % (act_group ? act_group : 32) != 0 && !(act_group == 32 && group == 16)) {
            return anemo_refuse(why, why_bytes,
                                "weight group %d; multiples of %d or one per row are accepted",
                                (int)group, act_group ? act_group : 32);
        }
    }
    return true;
}

static inline size_t anemo_vnni_workspace(const anemo_qgemm_problem *p, const anemo_act *act,
                                          int32_t n_threads) {
    const anemo_vnni_job j = vnni_job_of(p, act);
    return (size_t)n_threads *
           (VNNI_APART * sizeof *j.headed + (size_t)j.thread_words * sizeof *j.heads);
}

static inline anemo_status anemo_vnni_run(const anemo_exec *exec, const anemo_qgemm_problem *p,
                                          const anemo_qgemm_args *a, const anemo_act *act,
                                          const anemo_vnni_kernel *kernel) {
    anemo_vnni_job j = vnni_job_of(p, act);
    j.a = a;
    j.kernel = kernel;
    if (a->m < 0 || a->m > p->m_max) {
        return ANEMO_E_INPUT;
    }
    if (exec->workspace_bytes < anemo_vnni_workspace(p, act, exec->n_threads)) {
        return ANEMO_E_MEMORY;
    }
    j.headed = exec->workspace;
    j.heads = (int32_t *)(void *)(j.headed + exec->n_threads * VNNI_APART);
    for (int32_t thread = 0; thread < exec->n_threads; thread++) {
        j.headed[thread * VNNI_APART] = -1;
    }
    j.blocks = anemo_qgemm_blocks(p, ANEMO_N32_ROWS);
    j.tiles = anemo_ceil_div(a->m, j.rows);
    const int64_t for_cache = anemo_ceil_div(j.tiles, j.fit);
    const int64_t for_threads =
        exec->n_threads == 1 ? 1 : anemo_ceil_div(4 * (int64_t)exec->n_threads, j.blocks);
    j.stretches = for_cache > for_threads ? for_cache : for_threads;
    j.stretches = j.stretches < j.tiles ? j.stretches : j.tiles;
    j.streams = vnni_streams_fit(&j) ? kernel->streams : NULL;
    const int64_t items = j.blocks * j.stretches;
    const int64_t piece = anemo_ceil_div(items, (int64_t)VNNI_PIECES * exec->n_threads);
    exec->parallel(exec, items, j.tiles == 1 ? piece : 0, vnni_items, &j);
    return ANEMO_OK;
}

/* Defines the variant `id` for codes of this kind (their bits, or VNNI_TABLE) reading activations
 * a8_ACT, whose groups are `group_`, and its anemo_vnni_KERNEL. */
#define ANEMO_VNNI_VARIANT(id, kernel_, code_, act_, group_, layout_, idea_)                       \
    extern const anemo_act anemo_act_a8_##act_;                                                    \
    static void rows_##act_(int64_t mr, const anemo_vnni_tile *t, anemo_vnni_ahead ahead,          \
                            float out[][ANEMO_TILE_COLUMNS]) {                                     \
        vnni_tile_rows(code_, group_, false, mr, t, ahead, out);                                   \
    }                                                                                              \
    static void fine_##act_(int64_t mr, const anemo_vnni_tile *t, anemo_vnni_ahead ahead,          \
                            float out[][ANEMO_TILE_COLUMNS]) {                                     \
        vnni_tile_rows(code_, group_, true, mr, t, ahead, out);                                    \
    }                                                                                              \
    static void streams_##act_(int64_t mr, const anemo_vnni_tile *t,                               \
                               const uint8_t *const block[VNNI_STREAMS],                           \
                               float out[][ANEMO_TILE_COLUMNS]) {                                  \
        vnni_streams_rows(code_, group_, vnni_is_fine(t->shape, group_), mr, t, block, out);       \
    }                                                                                              \
    const anemo_vnni_kernel anemo_vnni_##kernel_ = {rows_##act_, fine_##act_, streams_##act_};     \
    static bool accepts_##act_(const void *problem, char *why, size_t why_bytes) {                 \
        return anemo_vnni_accepts(problem, group_, why, why_bytes);                                \
    }                                                                                              \
    static size_t workspace_##act_(const void *problem, int32_t n_threads) {                       \
        return anemo_vnni_workspace(problem, &anemo_act_a8_##act_, n_threads);                     \
    }                                                                                              \
    static anemo_status run_##act_(const anemo_exec *exec, const void *problem,                    \
                                   const void *args) {                                             \
        return anemo_vnni_run(exec, problem, args, &anemo_act_a8_##act_, &anemo_vnni_##kernel_);   \
    }                                                                                              \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_QGEMM,                                                                      \
        .backend = ANEMO_CPU,                                                                      \
        .needs = {.cpu_features = ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VNNI},                       \
        .layout = layout_,                                                                         \
        .act = "a8_" #act_,                                                                        \
        .traits = ANEMO_TRAIT_ROW_INVARIANT,                                                       \
        .idea = idea_,                                                                             \
        .accepts = accepts_##act_,                                                                 \
        .workspace_bytes = workspace_##act_,                                                       \
        .run = run_##act_,                                                                         \
    };

#endif
