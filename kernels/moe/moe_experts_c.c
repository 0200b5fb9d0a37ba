/* moe_experts in plain C, float, for any canonical weight: quick enough to score a small model.
 *
 * Two parallel loops. The first makes the hidden rows h[R, ffn]: its unit of work is BLOCK hidden
 * units of one expert; the unit's gate rows and up rows are decoded once and multiplied with all
 * the expert's gathered rows (found by row_token, not copied), gate and up side by side, the
 * activation in the epilogue. The second does the same with BLOCK rows of the down matrix over h.
 * So a weight is decoded once per call by one thread, however many rows its expert has, and an
 * expert without rows is not touched.
 *
 *   panel   [2 * BLOCK][d], or [BLOCK][ffn]: decoded weight rows, one panel per thread
 *   hidden  [tokens_max * top_k][ffn], sorted order: the second loop reads contiguous rows
 *
 * Units are numbered block by block and, within a block, expert by expert, so that neighbouring
 * units belong to different experts and a hot expert is spread over all threads.
 *
 * Each result is one f4 dot product, whose order of summation is the same in every tile (f32x4.h):
 * ROW_INVARIANT. Rejected: an outer-product tile over transposed panels. It saves the
 * horizontal sums, but pays for a transposition per weight, which an expert with few rows does not
 * earn back.
 */
#include "kernels/dense/common.h"
#include "kernels/dense/f32x4.h"
#include "kernels/moe/moe.h"

enum { BLOCK = 16 };

typedef struct experts_job {
    const anemo_moe_experts_problem *p;
    const anemo_moe_experts_args *a;
    const int32_t *active; /* [n_active] experts of the range that have rows */
    int32_t n_active;
    float *hidden; /* [R, ffn] */
    char *memory;  /* per thread: panel, then decode scratch */
} experts_job;

static size_t panel_bytes(const anemo_moe_experts_problem *p) {
    return align64(BLOCK * (size_t)max_i64(2 * p->d, p->ffn) * sizeof(float));
}

static size_t thread_bytes(const anemo_moe_experts_problem *p) {
    return panel_bytes(p) + align64(anemo_weight_scratch_bytes(max_i64(p->d, p->ffn)));
}

static float *panel_of(const experts_job *job, int thread) {
    return (float *)(void *)(job->memory + (size_t)thread * thread_bytes(job->p));
}

/* panel[n][k] = rows [row, row + n) of w; `panel` is the thread's, or its second half. */
static void decode(const experts_job *job, const anemo_weight *w, int64_t row, int64_t n,
                   int thread, float *panel) {
    void *scratch = (char *)panel_of(job, thread) + panel_bytes(job->p);
    for (int64_t i = 0; i < n; i++)
        anemo_weight_row_f32(w, row + i, panel + i * w->k, scratch);
}

/* out[2][4] = the products of x0 and x1 (NULL: one row only) with panel rows j .. j+3; where the
 * panel ends, its last row stands in and the caller drops the result. */
static void tile(const float *x0, const float *x1, const float *panel, int64_t j, int64_t n,
                 int64_t k, float out[2][4]) {
    const float *w[4];
    for (int i = 0; i < 4; i++)
        w[i] = panel + min_i64(j + i, n - 1) * k;
    if (x1)
        f4_dot_2x4(x0, x1, w, k, out);
    else
        f4_dot_1x4(x0, w, k, out[0]);
}

/* y[count] = results (+ bias), count <= 4 */
static void store(float *y, f32x4 results, int64_t count) {
    memcpy(y, &results, (size_t)count * sizeof *y);
}

static f32x4 add_bias(f32x4 results, const float *bias, int64_t count) {
    return bias ? results + (count < 4 ? f4_load_part(bias, count) : f4_load(bias)) : results;
}

/* 1 / (1 + exp(-x)) with an exponential that cannot overflow: exp(x) / (1 + exp(x)) below 0. */
static f32x4 sigmoid(f32x4 x) {
    const f32x4 one = f4_splat(1), e = f4_exp((f32x4)((u32x4)x | 0x80000000u)); /* exp(-|x|) */
    return f4_select((u32x4)(x < f4_splat(0)), e, one) / (one + e);
}

static f32x4 activate(int32_t activation, f32x4 g, f32x4 u) {
    if (activation == ANEMO_ACT_SILU)
        return g * sigmoid(g) * u;
    g = f4_min(g, f4_splat(7));
    u = f4_max(f4_min(u, f4_splat(7)), f4_splat(-7));
    return (u + f4_splat(1)) * g * sigmoid(f4_splat(1.702f) * g);
}

/* hidden[r][j .. j + n) for all rows r of expert e */
static void gate_up_block(const experts_job *job, int32_t e, int64_t j, int thread) {
    const anemo_moe_experts_problem *p = job->p;
    const anemo_moe_experts_args *a = job->a;
    const int64_t d = p->d, ffn = p->ffn, n = min_i64(BLOCK, ffn - j), end = a->plan.offset[e + 1];
    const float *gate_bias = p->has_bias & 1 ? a->gate_bias + e * ffn + j : NULL;
    const float *up_bias = p->has_bias & 2 ? a->up_bias + e * ffn + j : NULL;
    float *gate = panel_of(job, thread), *up = gate + BLOCK * d;
    decode(job, a->gate[e], j, n, thread, gate);
    decode(job, a->up[e], j, n, thread, up);
    for (int64_t r = a->plan.offset[e]; r < end; r += 2) {
        const float *x0 = (const float *)a->x + a->plan.row_token[r] * d;
        const float *x1 = r + 1 < end ? (const float *)a->x + a->plan.row_token[r + 1] * d : NULL;
        for (int64_t i = 0; i < n; i += 4) {
            const int64_t count = min_i64(4, n - i);
            float g[2][4], u[2][4];
            tile(x0, x1, gate, i, n, d, g);
            tile(x0, x1, up, i, n, d, u);
            for (int64_t row = 0; row < (x1 ? 2 : 1); row++) {
                const f32x4 gb = add_bias(f4_load(g[row]), gate_bias ? gate_bias + i : NULL, count);
                const f32x4 ub = add_bias(f4_load(u[row]), up_bias ? up_bias + i : NULL, count);
                store(job->hidden + (r + row) * ffn + j + i, activate(p->activation, gb, ub),
                      count);
            }
        }
    }
}

/* rows[r][i .. i + n) for all rows r of expert e */
static void down_block(const experts_job *job, int32_t e, int64_t i, int thread) {
    const anemo_moe_experts_problem *p = job->p;
    const anemo_moe_experts_args *a = job->a;
    const int64_t d = p->d, ffn = p->ffn, n = min_i64(BLOCK, d - i), end = a->plan.offset[e + 1];
    const float *bias = p->has_bias & 4 ? a->down_bias + e * d + i : NULL;
    float *panel = panel_of(job, thread);
    decode(job, a->down[e], i, n, thread, panel);
    for (int64_t r = a->plan.offset[e]; r < end; r += 2) {
        const float *h0 = job->hidden + r * ffn, *h1 = r + 1 < end ? h0 + ffn : NULL;
        for (int64_t c = 0; c < n; c += 4) {
            const int64_t count = min_i64(4, n - c);
            float y[2][4];
            tile(h0, h1, panel, c, n, ffn, y);
            for (int64_t row = 0; row < (h1 ? 2 : 1); row++)
                store(a->rows + (r + row) * d + i + c,
                      add_bias(f4_load(y[row]), bias ? bias + c : NULL, count), count);
        }
    }
}

static void gate_up_units(void *ctx, int64_t begin, int64_t end, int thread) {
    const experts_job *job = ctx;
    for (int64_t i = begin; i < end; i++)
        gate_up_block(job, job->active[i % job->n_active], i / job->n_active * BLOCK, thread);
}

static void down_units(void *ctx, int64_t begin, int64_t end, int thread) {
    const experts_job *job = ctx;
    for (int64_t i = begin; i < end; i++)
        down_block(job, job->active[i % job->n_active], i / job->n_active * BLOCK, thread);
}

static size_t hidden_bytes(const anemo_moe_experts_problem *p) {
    return align64((size_t)p->tokens_max * (size_t)p->top_k * (size_t)p->ffn * sizeof(float));
}

static size_t active_bytes(const anemo_moe_experts_problem *p) {
    return align64((size_t)p->n_experts * sizeof(int32_t));
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    const anemo_moe_experts_problem *p = problem;
    return hidden_bytes(p) + active_bytes(p) + (size_t)n_threads * thread_bytes(p);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_moe_experts_problem *p = problem;
    const anemo_moe_experts_args *a = args;
    if (a->tokens < 0 || a->tokens > p->tokens_max)
        return ANEMO_E_INPUT;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    char *memory = exec->workspace;
    int32_t *active = (int32_t *)(void *)(memory + hidden_bytes(p)), n_active = 0;
    for (int32_t e = p->expert_begin; e < p->expert_end; e++)
        if (a->plan.offset[e + 1] > a->plan.offset[e])
            active[n_active++] = e;
    experts_job job = {.p = p, .a = a, .active = active, .n_active = n_active};
    job.hidden = (float *)(void *)memory;
    job.memory = memory + hidden_bytes(p) + active_bytes(p);
    exec->parallel(exec, n_active * anemo_ceil_div(p->ffn, BLOCK), 1, gate_up_units, &job);
    exec->parallel(exec, n_active * anemo_ceil_div(p->d, BLOCK), 1, down_units, &job);
    return ANEMO_OK;
}

const anemo_variant anemo_moe_experts_c = {
    .size = sizeof(anemo_variant),
    .name = "moe_experts_c",
    .op = ANEMO_OP_MOE_EXPERTS,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "16 weight rows decoded once for all rows of their expert; 2x4 tile of 4 lanes",
    .accepts = anemo_moe_experts_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
