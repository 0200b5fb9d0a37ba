/* Experts of codes of any width, table or scale on 8-bit activations with AVX2; each matrix may
 * have a type of its own, as files of K-quants mix them. The kernels of a block are those of qgemm
 * (qgemm/kernels_avx2.h), the dispatch is in dispatch.h; here they meet.
 *
 *   x       a8_g32 records of the tokens; row r of an expert is record row_token[r]: a tile takes
 *           six pointers, so rows are gathered without a copy
 *   hidden  [R] a8_g32 records of h = act(gate x) up(x), in sorted order; each block of 32 hidden
 *           units is a group, coded by who computes it exactly as quantize_act would, so no float
 *           row of h reaches memory
 *
 * As in qgemm_avx2.h, several blocks go over the rows together, as many as leave half of a typical
 * second-level cache to them. One row, where the memory is the limit, reads gate and up side by
 * side, and down in two or three streams. */
#define LANES 8
#include "kernels/moe/activate_lanes.h"

#include "kernels/dense/common.h"
#include "kernels/moe/dispatch.h"
#include "kernels/moe/moe.h"
#include "kernels/qgemm/a8_group_avx2.h"
#include "kernels/qgemm/kernels_avx2.h"

enum { COLUMNS = ANEMO_AVX2_COLUMNS, ROWS = ANEMO_AVX2_ROWS, TOGETHER_BYTES = 512 * 1024 };

extern const anemo_act anemo_act_a8_g32;

/* A matrix of all experts. */
typedef struct experts_matrix {
    const anemo_avx2_kernel *kernel;
    const void *const *packed; /* [experts] */
    const float *bias;         /* [experts, n] or NULL */
    anemo_n32_shape shape;
    int64_t n;
} experts_matrix;

typedef struct experts_job {
    const anemo_moe_experts_problem *p;
    const anemo_moe_experts_args *a;
    experts_matrix gate, up, down;
    bool alike;              /* gate and up have the same type */
    size_t x_bytes, h_bytes; /* of a record */
    uint8_t *hidden;
} experts_job;

static experts_matrix matrix_of(const anemo_weight_type *type, const void *const *packed,
                                const float *bias, int64_t n, int64_t k) {
    return (experts_matrix){.kernel = anemo_avx2_kernel_of(type),
                            .packed = packed,
                            .bias = bias,
                            .shape = anemo_n32_shape_of(type, k),
                            .n = n};
}

static const uint8_t *block_at(const experts_matrix *m, int32_t e, int64_t block) {
    return (const uint8_t *)m->packed[e] + (size_t)block * m->shape.block_bytes;
}

/* out[mr][32] += bias of `block`. */
static void add_bias(const experts_matrix *m, int32_t e, int64_t block, int64_t mr,
                     float out[][COLUMNS]) {
    const int64_t column = block * COLUMNS, n = min_i64(COLUMNS, m->n - column);
    for (int64_t i = 0; m->bias && i < mr; i++) {
        for (int64_t c = 0; c < n; c++) {
            out[i][c] += m->bias[e * m->n + column + c];
        }
    }
}

/* ---------------------------------------------------------------- rows */

/* The rows of a task, spread evenly over tiles. */
typedef struct experts_rows {
    int64_t begin, n, tiles;
} experts_rows;

static experts_rows rows_of(int64_t row_begin, int64_t row_end) {
    const int64_t n = row_end - row_begin;
    return (experts_rows){row_begin, n, anemo_ceil_div(n, ROWS)};
}

static int64_t tile_at(const experts_rows *r, int64_t tile) {
    return r->begin + tile * r->n / r->tiles;
}

static const int8_t *x_record(const experts_job *j, int64_t row) {
    return (const int8_t *)j->a->x + (size_t)j->a->plan.row_token[row] * j->x_bytes;
}

static const int8_t *h_record(const experts_job *j, int64_t row) {
    return (const int8_t *)j->hidden + (size_t)row * j->h_bytes;
}

/* out[mr][32] = rows of a tile times a block of m. */
static void multiply(const experts_matrix *m, int32_t e, int64_t block, int64_t mr,
                     anemo_avx2_tile *t, float out[][COLUMNS]) {
    t->shape = &m->shape;
    t->block = block_at(m, e, block);
    m->kernel->rows(mr, t, out);
}

/* One record times blocks first, first + step, ... */
static void multiply_one(const experts_matrix *m, int32_t e, int64_t first, int64_t step,
                         int streams, const int8_t *row, const int8_t *digits,
                         float out[][COLUMNS]) {
    anemo_avx2_gemv g = {.shape = &m->shape, .row = row, .digits = digits};
    for (int i = 0; i < streams; i++) {
        g.block[i] = block_at(m, e, first + step * i);
    }
    m->kernel->gemv(streams, &g, out);
}

/* ---------------------------------------------------------------- gate, up */

/* Group `block` of hidden row `row` from g and u, without bias. After a row's last group come the
 * zeros up to the record's padding. */
static void put_hidden(const experts_job *j, int64_t row, int64_t block, float *g, float *u) {
    const int64_t ffn = j->p->ffn, kp = anemo_a8_padded_k(ffn), groups = kp / COLUMNS;
    const int64_t n = min_i64(COLUMNS, ffn - block * COLUMNS), begin = block * COLUMNS;
    int8_t *codes = (int8_t *)j->hidden + (size_t)row * j->h_bytes;
    float *scales = (float *)(void *)(codes + kp);
    int32_t *sums = (int32_t *)(void *)(scales + groups);
    for (int64_t c = 0; c < COLUMNS; c += LANES) {
        const vec h = vec_activate(j->p->activation, vec_load(g + c), vec_load(u + c));
        memcpy(g + c, &h, sizeof h);
    }
    a8_group(g, n, codes + begin, scales + block, sums + block);
    for (int64_t pad = block + 1; begin + COLUMNS >= ffn && pad < groups; pad++) {
        memset(codes + pad * COLUMNS, 0, COLUMNS);
        scales[pad] = 0.0f;
        sums[pad] = 0;
    }
}

static void hidden_tile(const experts_job *j, int32_t e, int64_t block, int64_t row, int64_t mr,
                        float g[][COLUMNS], float u[][COLUMNS]) {
    add_bias(&j->gate, e, block, mr, g);
    add_bias(&j->up, e, block, mr, u);
    for (int64_t i = 0; i < mr; i++) {
        put_hidden(j, row + i, block, g[i], u[i]);
    }
}

static void gate_up_one(const experts_job *j, int32_t e, int64_t row, int64_t begin, int64_t end) {
    const int8_t *x = x_record(j, row);
    _Alignas(32) int8_t digits[2 * ANEMO_N32_K_MAX];
    float out[2][COLUMNS];
    if (j->gate.kernel->digits || j->up.kernel->digits) {
        avx2_digits(x, j->p->d, digits);
    }
    for (int64_t block = begin; block < end; block++) {
        if (j->alike) {
            anemo_avx2_gemv g = {.shape = &j->gate.shape, .row = x, .digits = digits};
            g.block[0] = block_at(&j->gate, e, block);
            g.block[1] = block_at(&j->up, e, block);
            j->gate.kernel->gemv(2, &g, out);
        } else {
            multiply_one(&j->gate, e, block, 0, 1, x, digits, out);
            multiply_one(&j->up, e, block, 0, 1, x, digits, out + 1);
        }
        hidden_tile(j, e, block, row, 1, out, out + 1);
    }
}

static void gate_up_tile(const experts_job *j, int32_t e, const experts_rows *r, int64_t tile,
                         int64_t block) {
    const int64_t row = tile_at(r, tile), mr = tile_at(r, tile + 1) - row;
    float g[ROWS][COLUMNS], u[ROWS][COLUMNS];
    anemo_avx2_tile t = {.alone = r->tiles == 1};
    for (int64_t i = 0; i < mr; i++) {
        t.row[i] = x_record(j, row + i);
    }
    multiply(&j->gate, e, block, mr, &t, g);
    multiply(&j->up, e, block, mr, &t, u);
    hidden_tile(j, e, block, row, mr, g, u);
}

static int64_t together(size_t block_bytes) {
    return max_i64(1, TOGETHER_BYTES / (int64_t)block_bytes);
}

static void gate_up(const void *job, int32_t e, int64_t row_begin, int64_t row_end, int64_t begin,
                    int64_t end, int thread) {
    const experts_job *j = job;
    const experts_rows r = rows_of(row_begin, row_end);
    const int64_t step = together(j->gate.shape.block_bytes + j->up.shape.block_bytes);
    (void)thread;
    if (r.n == 1) {
        gate_up_one(j, e, row_begin, begin, end);
        return;
    }
    for (; begin < end; begin += step) {
        const int64_t stop = min_i64(end, begin + step);
        for (int64_t tile = 0; tile < r.tiles; tile++) {
            for (int64_t block = begin; block < stop; block++) {
                gate_up_tile(j, e, &r, tile, block);
            }
        }
    }
}

/* ---------------------------------------------------------------- down */

static void put_rows(const experts_job *j, int32_t e, int64_t block, int64_t row, int64_t mr,
                     float out[][COLUMNS]) {
    const int64_t d = j->p->d, column = block * COLUMNS, n = min_i64(COLUMNS, d - column);
    add_bias(&j->down, e, block, mr, out);
    for (int64_t i = 0; i < mr; i++) {
        memcpy(j->a->rows + (row + i) * d + column, out[i], (size_t)n * sizeof(float));
    }
}

static void down_one(const experts_job *j, int32_t e, int64_t row, int64_t begin, int64_t end) {
    const int8_t *h = h_record(j, row);
    _Alignas(32) int8_t digits[2 * ANEMO_N32_K_MAX];
    float out[ANEMO_AVX2_STREAMS][COLUMNS];
    const int streams = avx2_streams(j->down.shape.bits, end - begin);
    const int64_t each = (end - begin) / streams;
    if (j->down.kernel->digits) {
        avx2_digits(h, j->p->ffn, digits);
    }
    for (int64_t block = begin; block < begin + each; block++) {
        multiply_one(&j->down, e, block, each, streams, h, digits, out);
        for (int i = 0; i < streams; i++) {
            put_rows(j, e, block + each * i, row, 1, out + i);
        }
    }
    for (int64_t block = begin + each * streams; block < end; block++) {
        multiply_one(&j->down, e, block, 0, 1, h, digits, out);
        put_rows(j, e, block, row, 1, out);
    }
}

static void down_tile(const experts_job *j, int32_t e, const experts_rows *r, int64_t tile,
                      int64_t block) {
    const int64_t row = tile_at(r, tile), mr = tile_at(r, tile + 1) - row;
    float out[ROWS][COLUMNS];
    anemo_avx2_tile t = {.alone = r->tiles == 1};
    for (int64_t i = 0; i < mr; i++) {
        t.row[i] = h_record(j, row + i);
    }
    multiply(&j->down, e, block, mr, &t, out);
    put_rows(j, e, block, row, mr, out);
}

static void down(const void *job, int32_t e, int64_t row_begin, int64_t row_end, int64_t begin,
                 int64_t end, int thread) {
    const experts_job *j = job;
    const experts_rows r = rows_of(row_begin, row_end);
    const int64_t step = together(j->down.shape.block_bytes);
    (void)thread;
    if (r.n == 1) {
        down_one(j, e, row_begin, begin, end);
        return;
    }
    for (; begin < end; begin += step) {
        const int64_t stop = min_i64(end, begin + step);
        for (int64_t tile = 0; tile < r.tiles; tile++) {
            for (int64_t block = begin; block < stop; block++) {
                down_tile(j, e, &r, tile, block);
            }
        }
    }
}

/* ---------------------------------------------------------------- the variant */

static bool accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_moe_experts_problem *p = problem;
    if (!anemo_moe_experts_accepts(p, why, why_bytes)) {
        return false;
    }
    const anemo_weight_type *types[] = {&p->gate, &p->up, &p->down};
    for (int i = 0; i < 3; i++) {
        if (!anemo_avx2_kernel_of(types[i])) {
            return anemo_refuse(why, why_bytes,
                                "codes in groups of multiples of 32, of 16 (but for 5 bits) or one "
                                "per row are accepted");
        }
    }
    return true;
}

static size_t hidden_bytes(const anemo_moe_experts_problem *p) {
    return (size_t)p->tokens_max * (size_t)p->top_k * anemo_act_a8_g32.row_bytes(p->ffn);
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    const anemo_moe_experts_problem *p = problem;
    (void)n_threads;
    return hidden_bytes(p) + moe_dispatch_bytes(p);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_moe_experts_problem *p = problem;
    const anemo_moe_experts_args *a = args;
    if (a->tokens < 0 || a->tokens > p->tokens_max) {
        return ANEMO_E_INPUT;
    }
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads)) {
        return ANEMO_E_MEMORY;
    }
    uint8_t *memory = exec->workspace;
    const experts_job job = {
        .p = p,
        .a = a,
        .gate = matrix_of(&p->gate, a->gate, p->has_bias & 1 ? a->gate_bias : NULL, p->ffn, p->d),
        .up = matrix_of(&p->up, a->up, p->has_bias & 2 ? a->up_bias : NULL, p->ffn, p->d),
        .down = matrix_of(&p->down, a->down, p->has_bias & 4 ? a->down_bias : NULL, p->d, p->ffn),
        .alike = memcmp(&p->gate, &p->up, sizeof p->gate) == 0,
        .x_bytes = anemo_act_a8_g32.row_bytes(p->d),
        .h_bytes = anemo_act_a8_g32.row_bytes(p->ffn),
        .hidden = memory};
    moe_dispatch d = moe_dispatch_of(p, &a->plan, memory + hidden_bytes(p));
    moe_dispatch_run(exec, &d, gate_up, &job, anemo_ceil_div(p->ffn, COLUMNS), 1);
    moe_dispatch_run(exec, &d, down, &job, anemo_ceil_div(p->d, COLUMNS), 1);
    return ANEMO_OK;
}

extern const anemo_variant anemo_moe_experts_wxa8_fused_avx2;
const anemo_variant anemo_moe_experts_wxa8_fused_avx2 = {
    .size = sizeof(anemo_variant),
    .name = "moe_experts_wxa8_fused_avx2",
    .op = ANEMO_OP_MOE_EXPERTS,
    .backend = ANEMO_CPU,
    .needs = {.cpu_features = ANEMO_CPU_AVX2},
    .layout = "wx_n32",
    .act = "a8_g32",
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea =
        "codes of any type, u8 x s8 tiles, one task per expert and column slice, h coded in the "
        "task",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
