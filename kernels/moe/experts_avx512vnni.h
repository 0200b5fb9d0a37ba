/* The two halves of an expert on the VNNI tile (qgemm/tile_avx512vnni.h), for a range of its sorted
 * rows and a range of its columns. Who calls them, for which ranges and in which order, is what
 * moe_experts_w?a8_fused_avx512vnni.c and moe_experts_w4a8_naive_avx512vnni.c differ in.
 *
 *   x       a8 records of the tokens; row r of an expert is record row_token[r]: the tile takes six
 *           pointers, so rows are gathered without a copy
 *   hidden  [R] a8 records of h = act(gate x) up(x), in sorted order: the second half reads them in
 *           sequence. Same format as x; coded here, exactly as quantize_act would
 *
 * The first half works on whole groups of 32 or 128 hidden units, so that whoever computes a group
 * also codes it: no float row of h ever reaches memory, and there is no third pass. The floats of a
 * group (of 128: four blocks) wait on the stack.
 *
 * The heads that a tile wants of its rows (heads_avx512vnni.h) are made once per stretch of a task,
 * on the stack: the rows of an expert are gathered anew for each task, so nobody else has them.
 *
 * As in qgemm_avx512vnni.h, rows go in stretches that stay in the L2 cache beside the weights, all
 * blocks of the task pass by a stretch, and the tiles over a block share the work of fetching the
 * next one. Later stretches find the task's weights in the last cache. One or two rows on Zen 4
 * read gate and up side by side, and down in two halves (streams_avx512vnni.h): a token of Mixtral
 * 8x7B went from 69 to 92 % of the read bandwidth so. */
#ifndef ANEMO_MOE_EXPERTS_AVX512VNNI_H
#define ANEMO_MOE_EXPERTS_AVX512VNNI_H

#include "kernels/dense/common.h"
#include "kernels/moe/hidden_avx512.h"
#include "kernels/moe/moe.h"
#include "kernels/qgemm/heads_avx512vnni.h"
#include "kernels/qgemm/kernels_avx512vnni.h"

/* Most tiles of a stretch, most columns of a group, bytes of records that stay in L2, and words of
 * heads on the stack: at least one tile's. */
enum {
    EXPERTS_FIT = 16,
    EXPERTS_GROUP_MAX = 128,
    EXPERTS_STRETCH_BYTES = 384 * 1024,
    EXPERTS_HEADS = ANEMO_N32_K_MAX / 32 * 2 * VNNI_HEAD
};

typedef struct experts_job {
    const anemo_moe_experts_problem *p;
    const anemo_moe_experts_args *a;
    anemo_vnni_rows_fn tile[3];    /* of gate, up, down */
    anemo_vnni_streams_fn streams; /* of gate and up, and of two blocks of down; NULL: tiles only */
    anemo_n32_shape gate, up, down;
    int64_t group;           /* of the activation format */
    size_t x_bytes, h_bytes; /* of a record */
    uint8_t *hidden;
} experts_job;

static inline experts_job experts_job_of(const anemo_moe_experts_problem *p,
                                         const anemo_moe_experts_args *a, const anemo_act *act,
                                         const anemo_vnni_rows_fn tile[3],
                                         anemo_vnni_streams_fn streams, void *hidden) {
    const anemo_n32_shape gate = anemo_n32_shape_of(&p->gate, p->d);
    const anemo_n32_shape down = anemo_n32_shape_of(&p->down, p->ffn);
    const bool plain = memcmp(&p->gate, &p->up, sizeof p->gate) == 0 &&
                       vnni_is_plain(&gate, act->group, false) &&
                       vnni_is_plain(&down, act->group, false);
    return (experts_job){.p = p,
                         .streams = plain && vnni_wants_streams() ? streams : NULL,
                         .a = a,
                         .tile = {tile[0], tile[1], tile[2]},
                         .gate = gate,
                         .up = anemo_n32_shape_of(&p->up, p->d),
                         .down = down,
                         .group = act->group,
                         .x_bytes = act->row_bytes(p->d),
                         .h_bytes = act->row_bytes(p->ffn),
                         .hidden = hidden};
}

/* Groups of hidden units, and blocks of output columns: what the two halves are cut into. */
static inline int64_t experts_groups(const experts_job *j) {
    return anemo_ceil_div(j->p->ffn, j->group);
}

static inline int64_t experts_down_blocks(const experts_job *j) {
    return anemo_ceil_div(j->p->d, ANEMO_N32_ROWS);
}

static inline const uint8_t *experts_block(const void *packed, const anemo_n32_shape *s,
                                           int64_t block) {
    return (const uint8_t *)packed + (size_t)block * s->block_bytes;
}

/* The rows of a task, spread evenly over tiles, and the tiles over stretches. */
typedef struct experts_span {
    int64_t row, rows, tiles, stretches;
    int64_t first, last; /* tiles of the stretch under way */
    int64_t head_words;  /* of a tile */
} experts_span;

/* For tiles of one matrix, or of two on the same rows. */
static inline experts_span experts_span_of(const experts_job *j, const anemo_n32_shape *shape,
                                           const anemo_n32_shape *other, int64_t row_begin,
                                           int64_t row_end, size_t row_bytes) {
    const int group = (int)j->group;
    const bool fine = vnni_is_fine(shape, group) || vnni_is_fine(other, group);
    const int64_t rows = VNNI_ROWS(group, fine);
    experts_span s = {.row = row_begin, .rows = row_end - row_begin};
    const int64_t in_cache = EXPERTS_STRETCH_BYTES / (rows * (int64_t)row_bytes);
    s.head_words = max_i64(vnni_head_words(shape, group), vnni_head_words(other, group));
    const int64_t fit = min_i64(min_i64(in_cache, EXPERTS_FIT), EXPERTS_HEADS / s.head_words);
    s.tiles = anemo_ceil_div(s.rows, rows);
    s.stretches = anemo_ceil_div(s.tiles, max_i64(1, fit));
    return s;
}

static inline void experts_stretch(experts_span *s, int64_t stretch) {
    s->first = stretch * s->tiles / s->stretches;
    s->last = (stretch + 1) * s->tiles / s->stretches;
}

/* First row of a tile. */
static inline int64_t experts_tile_at(const experts_span *s, int64_t tile) {
    return s->row + tile * s->rows / s->tiles;
}

/* The rows of a tile: records row_token[row] of x, or in their own order. */
static inline anemo_vnni_tile experts_rows(const experts_span *s, int64_t tile, const uint8_t *x,
                                           size_t row_bytes, const int32_t *row_token) {
    const int64_t row = experts_tile_at(s, tile), mr = experts_tile_at(s, tile + 1) - row;
    anemo_vnni_tile t = {.shape = NULL};
    for (int64_t i = 0; i < mr; i++) {
        const int64_t record = row_token ? row_token[row + i] : row + i;
        t.row[i] = (const int8_t *)x + (size_t)record * row_bytes;
    }
    return t;
}

/* Are the rows of a task few enough for streams? */
static inline bool experts_stream(const experts_job *j, const experts_span *s) {
    return j->streams && s->rows <= VNNI_STREAM_ROWS;
}

/* Heads of the stretch's tiles for weights of this shape. */
static inline void experts_make_heads(const experts_job *j, const anemo_n32_shape *shape,
                                      const experts_span *s, const uint8_t *x, size_t row_bytes,
                                      const int32_t *row_token, int32_t heads[EXPERTS_HEADS]) {
    for (int64_t tile = s->first; tile < s->last; tile++) {
        const anemo_vnni_tile t = experts_rows(s, tile, x, row_bytes, row_token);
        const int64_t mr = experts_tile_at(s, tile + 1) - experts_tile_at(s, tile);
        for (int64_t i = 0; i < mr; i++) {
            vnni_head_row(shape, (int)j->group, t.row[i], i,
                          heads + (tile - s->first) * s->head_words);
        }
    }
}

/* Have two matrices the same heads of a row? */
static inline bool experts_heads_alike(const experts_job *j, const anemo_n32_shape *a,
                                       const anemo_n32_shape *b) {
    const int group = (int)j->group;
    return vnni_has_offset(a) == vnni_has_offset(b) && a->bits == b->bits &&
           a->is_table == b->is_table && vnni_is_fine(a, group) == vnni_is_fine(b, group) &&
           (!vnni_is_fine(a, group) || a->group == b->group);
}

/* What a tile over a block fetches: its share of block `next`, or, alone, the lines a little
 * ahead of it in block `at`. */
static inline anemo_vnni_ahead experts_ahead(const experts_span *s, int64_t tile,
                                             const void *packed, const anemo_n32_shape *shape,
                                             int64_t at, int64_t next) {
    const int64_t quads = shape->k_padded / 32, n = s->last - s->first;
    const int64_t lines = anemo_ceil_div((int64_t)shape->block_bytes / 64, quads * n);
    if (n < 2) {
        return vnni_near_of(experts_block(packed, shape, at), !vnni_asks_nothing(shape), lines);
    }
    if (next < 0) {
        return (anemo_vnni_ahead){.at = packed};
    }
    return (anemo_vnni_ahead){.at = experts_block(packed, shape, next) +
                                    64 * lines * quads * (tile - s->first),
                              .lines = lines,
                              .second_level = anemo_cpu_prefetches_to_second_level()};
}

/* The block after `block` in [begin, end): the first again for the next stretch, -1 after all. */
static inline int64_t experts_next(int64_t block, int64_t begin, int64_t end, bool last_stretch) {
    return block + 1 < end ? block + 1 : last_stretch ? -1 : begin;
}

/* out[i][0..32) = h of block `block` for the rows of a tile, out rows `stride` floats apart. */
static inline void experts_gate_up_tile(const experts_job *j, int32_t e, const experts_span *s,
                                        const int32_t *gate_heads, const int32_t *up_heads,
                                        int64_t tile, int64_t block, int64_t next, float *out,
                                        int64_t stride) {
    const anemo_moe_experts_args *a = j->a;
    const int64_t row = experts_tile_at(s, tile), mr = experts_tile_at(s, tile + 1) - row;
    const float *gate_bias = j->p->has_bias & 1 ? a->gate_bias : NULL;
    const float *up_bias = j->p->has_bias & 2 ? a->up_bias : NULL;
    float g[2 * ANEMO_TILE_ROWS][ANEMO_TILE_COLUMNS], (*u)[ANEMO_TILE_COLUMNS] = g + mr;
    anemo_vnni_tile t = experts_rows(s, tile, a->x, j->x_bytes, a->plan.row_token);
    const uint8_t *const at[VNNI_STREAMS] = {experts_block(a->gate[e], &j->gate, block),
                                             experts_block(a->up[e], &j->up, block)};
    t.shape = &j->gate;
    t.block = at[0];
    t.heads = gate_heads + (tile - s->first) * s->head_words;
    if (experts_stream(j, s)) {
        j->streams(mr, &t, at, g);
    } else {
        j->tile[0](mr, &t, experts_ahead(s, tile, a->gate[e], &j->gate, block, next), g);
        t.shape = &j->up;
        t.block = at[1];
        t.heads = up_heads + (tile - s->first) * s->head_words;
        j->tile[1](mr, &t, experts_ahead(s, tile, a->up[e], &j->up, block, next), u);
    }
    for (int64_t c = 0; c < ANEMO_TILE_COLUMNS; c += 16) {
        const int64_t column = block * ANEMO_N32_ROWS + c;
        const __m512 gb = hidden_bias(gate_bias, e, j->p->ffn, column);
        const __m512 ub = hidden_bias(up_bias, e, j->p->ffn, column);
        for (int64_t i = 0; i < mr; i++) {
            const __m512 gate = _mm512_add_ps(_mm512_loadu_ps(&g[i][c]), gb);
            const __m512 up = _mm512_add_ps(_mm512_loadu_ps(&u[i][c]), ub);
            _mm512_storeu_ps(out + i * stride + c, hidden_activate(j->p->activation, gate, up));
        }
    }
}

/* Codes group g of rows [row, row + n) from h[n][group]; after a row's last group come the zeros up
 * to the record's padding. */
static inline void experts_code_group(const experts_job *j, int64_t row, int64_t n, int64_t g,
                                      const float *h) {
    const int64_t ffn = j->p->ffn, group = j->group, kp = anemo_a8_padded_k(ffn);
    const int64_t groups = kp / group, left = ffn - g * group;
    for (int64_t i = 0; i < n; i++) {
        int8_t *codes = (int8_t *)(j->hidden + (size_t)(row + i) * j->h_bytes);
        float *scales = (float *)(void *)(codes + kp);
        int32_t *sums = (int32_t *)(void *)(scales + groups);
        hidden_quantise(h + i * group, min_i64(left, group), group, codes + g * group, scales + g,
                        sums + g);
        for (int64_t pad = g + 1; left <= group && pad < groups; pad++) {
            memset(codes + pad * group, 0, (size_t)group);
            scales[pad] = 0.0f;
            sums[pad] = 0;
        }
    }
}

/* hidden[row_begin .. row_end), groups [group_begin, group_end) */
static inline void experts_gate_up(const void *ctx, int32_t e, int64_t row_begin, int64_t row_end,
                                   int64_t group_begin, int64_t group_end, int thread) {
    (void)thread;
    const experts_job *j = ctx;
    const int64_t blocks = j->group / ANEMO_N32_ROWS, begin = group_begin * blocks;
    const int64_t end = min_i64(group_end * blocks, anemo_ceil_div(j->p->ffn, ANEMO_N32_ROWS));
    float h[EXPERTS_FIT * ANEMO_TILE_ROWS * EXPERTS_GROUP_MAX];
    _Alignas(64) int32_t gate_heads[EXPERTS_HEADS], other_heads[EXPERTS_HEADS];
    const bool alike = experts_heads_alike(j, &j->gate, &j->up);
    const anemo_moe_experts_args *a = j->a;
    experts_span s = experts_span_of(j, &j->gate, &j->up, row_begin, row_end, j->x_bytes);
    for (int64_t stretch = 0; stretch < s.stretches; stretch++) {
        experts_stretch(&s, stretch);
        experts_make_heads(j, &j->gate, &s, a->x, j->x_bytes, a->plan.row_token, gate_heads);
        if (!alike) {
            experts_make_heads(j, &j->up, &s, a->x, j->x_bytes, a->plan.row_token, other_heads);
        }
        const int64_t row = experts_tile_at(&s, s.first), n = experts_tile_at(&s, s.last) - row;
        for (int64_t block = begin; block < end; block++) {
            const int64_t next = experts_next(block, begin, end, stretch + 1 == s.stretches);
            float *at = h + block % blocks * ANEMO_N32_ROWS;
            for (int64_t tile = s.first; tile < s.last; tile++) {
                experts_gate_up_tile(j, e, &s, gate_heads, alike ? gate_heads : other_heads, tile,
                                     block, next, at + (experts_tile_at(&s, tile) - row) * j->group,
                                     j->group);
            }
            if ((block + 1) % blocks == 0 || block + 1 == end) {
                experts_code_group(j, row, n, block / blocks, h);
            }
        }
    }
}

/* rows[row ..][block] = out, with the bias. */
static inline void experts_down_store(const experts_job *j, int32_t e, int64_t row, int64_t mr,
                                      int64_t block, float out[][ANEMO_TILE_COLUMNS]) {
    const float *bias = j->p->has_bias & 4 ? j->a->down_bias : NULL;
    const int64_t d = j->p->d;
    for (int64_t c = 0; c < ANEMO_TILE_COLUMNS; c += 16) {
        const int64_t column = block * ANEMO_N32_ROWS + c;
        const __m512 shift = hidden_bias(bias, e, d, column);
        for (int64_t i = 0; i < mr; i++) {
            _mm512_mask_storeu_ps(j->a->rows + (row + i) * d + column, hidden_mask(d - column),
                                  _mm512_add_ps(_mm512_loadu_ps(&out[i][c]), shift));
        }
    }
}

static inline void experts_down_tile(const experts_job *j, int32_t e, const experts_span *s,
                                     const int32_t *heads, int64_t tile, int64_t block,
                                     int64_t next) {
    const int64_t row = experts_tile_at(s, tile), mr = experts_tile_at(s, tile + 1) - row;
    float out[ANEMO_TILE_ROWS][ANEMO_TILE_COLUMNS];
    anemo_vnni_tile t = experts_rows(s, tile, j->hidden, j->h_bytes, NULL);
    t.shape = &j->down;
    t.block = experts_block(j->a->down[e], &j->down, block);
    t.heads = heads + (tile - s->first) * s->head_words;
    j->tile[2](mr, &t, experts_ahead(s, tile, j->a->down[e], &j->down, block, next), out);
    experts_down_store(j, e, row, mr, block, out);
}

/* All rows of the task, few, on blocks `block` and block + apart. */
static inline void experts_down_stream(const experts_job *j, int32_t e, const experts_span *s,
                                       const int32_t *heads, int64_t block, int64_t apart) {
    float out[VNNI_STREAMS * VNNI_STREAM_ROWS][ANEMO_TILE_COLUMNS];
    const uint8_t *const at[VNNI_STREAMS] = {experts_block(j->a->down[e], &j->down, block),
                                             experts_block(j->a->down[e], &j->down, block + apart)};
    anemo_vnni_tile t = experts_rows(s, 0, j->hidden, j->h_bytes, NULL);
    t.shape = &j->down;
    t.heads = heads;
    j->streams(s->rows, &t, at, out);
    experts_down_store(j, e, s->row, s->rows, block, out);
    experts_down_store(j, e, s->row, s->rows, block + apart, out + s->rows);
}

/* rows[row_begin .. row_end), blocks [begin, end) of 32 columns */
static inline void experts_down(const void *ctx, int32_t e, int64_t row_begin, int64_t row_end,
                                int64_t begin, int64_t end, int thread) {
    (void)thread;
    const experts_job *j = ctx;
    _Alignas(64) int32_t heads[EXPERTS_HEADS];
    experts_span s = experts_span_of(j, &j->down, &j->down, row_begin, row_end, j->h_bytes);
    for (int64_t stretch = 0; stretch < s.stretches; stretch++) {
        experts_stretch(&s, stretch);
        experts_make_heads(j, &j->down, &s, j->hidden, j->h_bytes, NULL, heads);
        const int64_t pairs = experts_stream(j, &s) ? (end - begin) / VNNI_STREAMS : 0;
        for (int64_t i = 0; i < pairs; i++) {
            experts_down_stream(j, e, &s, heads, begin + i, pairs);
        }
        for (int64_t block = begin + VNNI_STREAMS * pairs; block < end; block++) {
            const int64_t next = experts_next(block, begin, end, stretch + 1 == s.stretches);
            for (int64_t tile = s.first; tile < s.last; tile++) {
                experts_down_tile(j, e, &s, heads, tile, block, next);
            }
        }
    }
}

/* Weight groups must be multiples of the activation group; the layout checks the rest. */
static inline bool experts_accepts(const anemo_moe_experts_problem *p, int32_t act_group, char *why,
                                   size_t why_bytes) {
    if (!anemo_moe_experts_accepts(p, why, why_bytes)) {
        return false;
    }
    const anemo_weight_type *types[] = {&p->gate, &p->up, &p->down};
    for (int i = 0; i < 3; i++) {
        if (types[i]->group % act_group != 0) {
            return anemo_refuse(why, why_bytes,
                                "weight group %d; multiples of %d or one per row are accepted",
                                (int)types[i]->group, (int)act_group);
        }
    }
    return true;
}

static inline size_t experts_hidden_bytes(const anemo_moe_experts_problem *p,
                                          const anemo_act *act) {
    return (size_t)p->tokens_max * (size_t)p->top_k * act->row_bytes(p->ffn);
}

#endif
