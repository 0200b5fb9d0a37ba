/* moe_experts, fused, in the matrix tiles of AMX on bf16, for the many rows of a prompt. dispatch.h
 * says who does what. Whoever includes this has included qgemm/tile_amxbf16.h or float_amxbf16.h,
 * and defined EXPERTS_AMX_PUT(to, low, high), which writes 32 columns of h where x is read.
 *
 *   x       [chunks of d][R] of 256 columns: the rows of the tokens, gathered in sorted order once,
 *           since a tile register loads rows at a constant stride
 *   hidden  [chunks of ffn][R] of 256: h = act(gate x) up(x), as x is read, written where the
 *           second half loads it
 *
 * A task multiplies all rows of an expert, up to 512 at a time, with sixteen blocks of 32 weight
 * rows at a time (qgemm_n32.h): gate and up, then the activation, which leaves no float row of h.
 * Up to 32 rows are multiplied while the next columns are decoded (codes_amx16.h).
 *
 * The limit: a block is decoded however few rows an expert has. Speed times the VNNI tile, half of
 * Mixtral 8x7B's layer in 4 bits, 2 cores, tokens spread over 8 experts, two each. Emerald Rapids,
 * restless (with a panel for few rows, too): 32 tokens 0.86 (0.66), 64 1.10 (0.70), 128 1.15
 * (1.07), 256 1.2; in 8 bits 96 1.02 (0.79), 256 1.1. Granite Rapids, decoded through floats: 128
 * tokens 1.16, 256 1.60, 512 2.11, and 2.79 where all 512 go to two experts. */
#ifndef ANEMO_MOE_EXPERTS_FUSED_AMXBF16_H
#define ANEMO_MOE_EXPERTS_FUSED_AMXBF16_H

#include "kernels/dense/common.h"
#include "kernels/moe/dispatch.h"
#include "kernels/moe/hidden_avx512.h"
#include "kernels/moe/moe.h"

enum { EXPERTS_AMX_STRETCH = 512 };

typedef struct experts_amx_job {
    const anemo_moe_experts_problem *p;
    const anemo_moe_experts_args *a;
    const anemo_n32_form *form, *few; /* few: up to 32 rows; both take x in the same chunks */
    int64_t near;                     /* bytes that few rows ask for ahead */
    size_t x_row_bytes;
    int64_t rows; /* R, of all experts */
    uint8_t *x, *hidden;
    uint8_t *workspace; /* [threads] */
} experts_amx_job;

/* What a thread works in: [blocks][rows] of a piece. */
typedef struct experts_amx_room {
    float gate[AMX16_BLOCKS * EXPERTS_AMX_STRETCH][ANEMO_N32_COLUMNS];
    float up[AMX16_BLOCKS * EXPERTS_AMX_STRETCH][ANEMO_N32_COLUMNS];
    uint8_t panel[AMX16_PANEL_BYTES];
} experts_amx_room;

static inline size_t experts_amx_bytes(int64_t rows, int64_t k) {
    return (size_t)(anemo_ceil_div(k, AMX16_CHUNK) * rows) * AMX16_X_BYTES;
}

static inline uint8_t *experts_amx_at(uint8_t *chunks, int64_t rows, int64_t column, int64_t row) {
    return chunks + (size_t)(column / AMX16_CHUNK * rows + row) * AMX16_X_BYTES +
           2 * (size_t)(column % AMX16_CHUNK);
}

/* One record of x per sorted row. */
static inline void experts_amx_gather(void *ctx, int64_t begin, int64_t end, int thread) {
    const experts_amx_job *j = ctx;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        const size_t token = (size_t)j->a->plan.row_token[row];
        const uint8_t *record = (const uint8_t *)j->a->x + token * j->x_row_bytes;
        for (int64_t column = 0; column < j->p->d; column += AMX16_CHUNK) {
            j->form->x_chunk(record, j->p->d, column, 1.0f,
                             experts_amx_at(j->x, j->rows, column, row));
        }
    }
}

/* sum[blocks][rows] = x W^T for a matrix [.., k]. */
static inline void experts_amx_product(const experts_amx_job *j, const anemo_weight_type *type,
                                       const void *packed, int64_t k, uint8_t *x,
                                       const anemo_n32_piece *at, float (*sum)[ANEMO_N32_COLUMNS],
                                       uint8_t *panel) {
    const anemo_qgemm_problem p = {.k = k, .n_parts = 1, .type = {*type}};
    const anemo_qgemm_args a = {.m = j->rows, .weight = {packed}};
    const anemo_n32_job product = {.form = at->rows > ANEMO_AMX_ROWS ? j->form : j->few,
                                   .p = &p,
                                   .a = &a,
                                   .x_chunks = x,
                                   .near = j->near};
    n32_product(&product, *at, sum, panel);
}

/* hidden[row, row + n), columns of `block`. */
static inline void experts_amx_hidden(const experts_amx_job *j, int32_t e, int64_t block,
                                      int64_t row, int64_t n, float gate[][ANEMO_N32_COLUMNS],
                                      float up[][ANEMO_N32_COLUMNS]) {
    const anemo_moe_experts_problem *p = j->p;
    const float *gate_bias = p->has_bias & 1 ? j->a->gate_bias : NULL;
    const float *up_bias = p->has_bias & 2 ? j->a->up_bias : NULL;
    const int64_t column = block * ANEMO_N32_COLUMNS;
    __m512 gb[2], ub[2], h[2];
    for (int v = 0; v < 2; v++) {
        gb[v] = hidden_bias(gate_bias, e, p->ffn, column + 16 * v);
        ub[v] = hidden_bias(up_bias, e, p->ffn, column + 16 * v);
    }
    for (int64_t i = 0; i < n; i++) {
        for (int v = 0; v < 2; v++) {
            h[v] = hidden_activate(p->activation,
                                   _mm512_add_ps(_mm512_loadu_ps(gate[i] + 16 * v), gb[v]),
                                   _mm512_add_ps(_mm512_loadu_ps(up[i] + 16 * v), ub[v]));
        }
        EXPERTS_AMX_PUT(experts_amx_at(j->hidden, j->rows, column, row + i), h[0], h[1]);
    }
}

/* rows[row, row + n), columns of `block`. */
static inline void experts_amx_store(const experts_amx_job *j, int32_t e, int64_t block,
                                     int64_t row, int64_t n, float sum[][ANEMO_N32_COLUMNS]) {
    const float *bias = j->p->has_bias & 4 ? j->a->down_bias : NULL;
    const int64_t d = j->p->d;
    for (int v = 0; v < 2; v++) {
        const int64_t column = block * ANEMO_N32_COLUMNS + 16 * v;
        const __m512 shift = hidden_bias(bias, e, d, column);
        for (int64_t i = 0; i < n; i++) {
            _mm512_mask_storeu_ps(j->a->rows + (row + i) * d + column, hidden_mask(d - column),
                                  _mm512_add_ps(_mm512_loadu_ps(sum[i] + 16 * v), shift));
        }
    }
}

/* The next piece of rows [row_begin, row_end) and blocks [begin, end), row after row of a stretch;
 * a piece of no rows stands before the first. */
static inline bool experts_amx_next(anemo_n32_piece *at, int64_t row_begin, int64_t row_end,
                                    int64_t begin, int64_t end) {
    if (at->rows > 0 && at->block + at->blocks < end) {
        at->block += at->blocks;
    } else {
        at->row = at->rows > 0 ? at->row + at->rows : row_begin;
        at->block = begin;
    }
    const int64_t left = row_end - at->row, pieces = anemo_ceil_div(left, EXPERTS_AMX_STRETCH);
    at->rows = pieces > 0 ? anemo_ceil_div(left, pieces) : 0;
    at->blocks = min_i64(AMX16_BLOCKS, end - at->block);
    return at->rows > 0;
}

static inline void experts_amx_gate_up(const void *ctx, int32_t e, int64_t row_begin,
                                       int64_t row_end, int64_t begin, int64_t end, int thread) {
    const experts_amx_job *j = ctx;
    const anemo_moe_experts_problem *p = j->p;
    experts_amx_room *room = (experts_amx_room *)(void *)j->workspace + thread;
    anemo_n32_piece at = {0};
    while (experts_amx_next(&at, row_begin, row_end, begin, end)) {
        experts_amx_product(j, &p->gate, j->a->gate[e], p->d, j->x, &at, room->gate, room->panel);
        experts_amx_product(j, &p->up, j->a->up[e], p->d, j->x, &at, room->up, room->panel);
        for (int64_t b = 0; b < at.blocks; b++) {
            experts_amx_hidden(j, e, at.block + b, at.row, at.rows, room->gate + b * at.rows,
                               room->up + b * at.rows);
        }
    }
    j->form->leave();
}

static inline void experts_amx_down(const void *ctx, int32_t e, int64_t row_begin, int64_t row_end,
                                    int64_t begin, int64_t end, int thread) {
    const experts_amx_job *j = ctx;
    const anemo_moe_experts_problem *p = j->p;
    experts_amx_room *room = (experts_amx_room *)(void *)j->workspace + thread;
    anemo_n32_piece at = {0};
    while (experts_amx_next(&at, row_begin, row_end, begin, end)) {
        experts_amx_product(j, &p->down, j->a->down[e], p->ffn, j->hidden, &at, room->gate,
                            room->panel);
        for (int64_t b = 0; b < at.blocks; b++) {
            experts_amx_store(j, e, at.block + b, at.row, at.rows, room->gate + b * at.rows);
        }
    }
    j->form->leave();
}

static inline size_t experts_amx_workspace(const anemo_moe_experts_problem *p, int32_t n_threads) {
    const int64_t rows = p->tokens_max * p->top_k;
    return experts_amx_bytes(rows, p->d) + experts_amx_bytes(rows, p->ffn) + moe_dispatch_bytes(p) +
           (size_t)n_threads * sizeof(experts_amx_room);
}

static inline anemo_status experts_amx_run(const anemo_exec *exec,
                                           const anemo_moe_experts_problem *p,
                                           const anemo_moe_experts_args *a, const anemo_act *act,
                                           const anemo_n32_form *form) {
    if (a->tokens < 0 || a->tokens > p->tokens_max) {
        return ANEMO_E_INPUT;
    }
    if (exec->workspace_bytes < experts_amx_workspace(p, exec->n_threads)) {
        return ANEMO_E_MEMORY;
    }
    anemo_n32_form few = form->few ? *form->few : *form;
    few.chunk = form->chunk;
    few.x_chunk_bytes = form->x_chunk_bytes;
    experts_amx_job j = {.p = p,
                         .a = a,
                         .form = form,
                         .few = &few,
                         .near = n32_near(),
                         .x_row_bytes = act->row_bytes(p->d),
                         .rows = a->tokens * p->top_k,
                         .x = exec->workspace};
    j.hidden = j.x + experts_amx_bytes(j.rows, p->d);
    j.workspace = j.hidden + experts_amx_bytes(j.rows, p->ffn);
    moe_dispatch d = moe_dispatch_of(
        p, &a->plan, j.workspace + (size_t)exec->n_threads * sizeof(experts_amx_room));
    exec->parallel(exec, j.rows, 0, experts_amx_gather, &j);
    moe_dispatch_run(exec, &d, experts_amx_gate_up, &j, anemo_ceil_div(p->ffn, ANEMO_N32_COLUMNS),
                     1);
    moe_dispatch_run(exec, &d, experts_amx_down, &j, anemo_ceil_div(p->d, ANEMO_N32_COLUMNS), 1);
    return ANEMO_OK;
}

/* Defines the variant `id` of the anemo_n32_form `form_`, a default from so many rows of an expert
 * on. */
#define ANEMO_EXPERTS_AMX_BF16(id, form_, act_, traits_, accepts_, layout_, rows_from, idea_)      \
    extern const anemo_act anemo_act_##act_;                                                       \
    static size_t workspace_##id(const void *problem, int32_t n_threads) {                         \
        return experts_amx_workspace(problem, n_threads);                                          \
    }                                                                                              \
    static anemo_status run_##id(const anemo_exec *exec, const void *problem, const void *args) {  \
        return experts_amx_run(exec, problem, args, &anemo_act_##act_, &(form_));                  \
    }                                                                                              \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_MOE_EXPERTS,                                                                \
        .backend = ANEMO_CPU,                                                                      \
        .needs = {.cpu_features = ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VBMI |                       \
                                  ANEMO_CPU_AVX512_BF16 | ANEMO_CPU_AMX_BF16},                     \
        .layout = layout_,                                                                         \
        .act = #act_,                                                                              \
        .traits = traits_,                                                                         \
        .m_from = rows_from,                                                                       \
        .idea = idea_,                                                                             \
        .accepts = accepts_,                                                                       \
        .workspace_bytes = workspace_##id,                                                         \
        .run = run_##id,                                                                           \
    };

#endif
