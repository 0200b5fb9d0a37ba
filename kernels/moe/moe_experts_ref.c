/* moe_experts, the definition. For expert e in [expert_begin, expert_end) and each of its sorted
 * rows r, with x the activation of token row_token[r], all in double but for the result:
 *
 *   g = W1_e x + b1_e        u = W3_e x + b3_e       (weights decoded exactly, biases where given)
 *   h = g / (1 + exp(-g)) * u                                                        silu
 *   h = (u' + 1) g' / (1 + exp(-1.702 g')),  g' = min(g, 7), u' = clamp(u, -7, 7)    silu_clamped
 *   rows[r] = W2_e h + b2_e
 *
 * Rows of experts outside the range are not touched. An expert without rows costs nothing. NaN goes
 * through: min and clamp keep it.
 *
 * Rows are taken ROW_BLOCK at a time, so that a weight row is decoded once per block and the h of a
 * block fits a workspace that does not grow with the tokens. The threads share out the hidden
 * units, then the output elements; each sum is made by one thread from left to right.
 */
#include "kernels/dense/common.h"
#include "kernels/moe/moe.h"
#include "kernels/qgemm/epilogue.h"

enum { ROW_BLOCK = 64 };

typedef struct experts_job {
    const anemo_moe_experts_problem *p;
    const anemo_moe_experts_args *a;
    int32_t expert;
    int64_t row_begin, row_end; /* sorted rows of this expert, at most ROW_BLOCK */
    double *h;                  /* [ROW_BLOCK, ffn] */
    char *memory;               /* per thread: see scratch */
} experts_job;

/* A thread's decoded weight rows, and what read_row fills. */
typedef struct scratch {
    double *w1, *w3; /* [max(d, ffn)]; W2's rows use w1 */
    float *values, *scales, *offsets;
    uint8_t *codes;
} scratch;

static size_t scratch_bytes(const anemo_moe_experts_problem *p) {
    const size_t k = (size_t)max_i64(p->d, p->ffn);
    return align64(2 * k * sizeof(double) + 3 * k * sizeof(float) + k);
}

static scratch scratch_of(const experts_job *job, int thread) {
    const size_t k = (size_t)max_i64(job->p->d, job->p->ffn);
    scratch s;
    s.w1 = (double *)(void *)(job->memory + (size_t)thread * scratch_bytes(job->p));
    s.w3 = s.w1 + k;
    s.values = (float *)(s.w3 + k);
    s.scales = s.values + k;
    s.offsets = s.scales + k;
    s.codes = (uint8_t *)(s.offsets + k);
    return s;
}

static void decode_row(const anemo_weight *w, int64_t row, const scratch *s, double *out) {
    const int64_t group = w->type.group ? w->type.group : w->k;
    w->read_row(w, row, s->values, s->codes, s->scales, s->offsets);
    for (int64_t i = 0; i < w->k; i++) {
        if (anemo_code_is_float(&w->type)) {
            out[i] = s->values[i];
        } else {
            const float offset = w->type.offset == ANEMO_OFFSET_NONE ? 0 : s->offsets[i / group];
            out[i] = anemo_weight_value(&w->type, s->codes[i], s->scales[i / group], offset);
        }
    }
}

/* Hidden units [begin, end) of the block's rows. */
static void gate_up_act(void *ctx, int64_t begin, int64_t end, int thread) {
    const experts_job *job = ctx;
    const anemo_moe_experts_problem *p = job->p;
    const anemo_moe_experts_args *a = job->a;
    const int64_t e = job->expert, d = p->d, ffn = p->ffn;
    const scratch s = scratch_of(job, thread);
    for (int64_t j = begin; j < end; j++) {
        decode_row(a->gate[e], j, &s, s.w1);
        decode_row(a->up[e], j, &s, s.w3);
        for (int64_t r = job->row_begin; r < job->row_end; r++) {
            const float *x = (const float *)a->x + a->plan.row_token[r] * d;
            double g = p->has_bias & 1 ? a->gate_bias[e * ffn + j] : 0;
            double u = p->has_bias & 2 ? a->up_bias[e * ffn + j] : 0;
            for (int64_t i = 0; i < d; i++) {
                g += s.w1[i] * x[i];
                u += s.w3[i] * x[i];
            }
            job->h[(r - job->row_begin) * ffn + j] = anemo_act_mul_f64(p->activation, g, u);
        }
    }
}

/* Output elements [begin, end) of the block's rows. */
static void down(void *ctx, int64_t begin, int64_t end, int thread) {
    const experts_job *job = ctx;
    const anemo_moe_experts_problem *p = job->p;
    const anemo_moe_experts_args *a = job->a;
    const int64_t e = job->expert, d = p->d, ffn = p->ffn;
    const scratch s = scratch_of(job, thread);
    for (int64_t i = begin; i < end; i++) {
        decode_row(a->down[e], i, &s, s.w1);
        for (int64_t r = job->row_begin; r < job->row_end; r++) {
            const double *h = job->h + (r - job->row_begin) * ffn;
            double y = p->has_bias & 4 ? a->down_bias[e * d + i] : 0;
            for (int64_t j = 0; j < ffn; j++)
                y += s.w1[j] * h[j];
            a->rows[r * d + i] = (float)y;
        }
    }
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    const anemo_moe_experts_problem *p = problem;
    return align64(ROW_BLOCK * (size_t)p->ffn * sizeof(double)) +
           (size_t)n_threads * scratch_bytes(p);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_moe_experts_problem *p = problem;
    const anemo_moe_experts_args *a = args;
    if (a->tokens < 0 || a->tokens > p->tokens_max)
        return ANEMO_E_INPUT;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    experts_job job = {.p = p, .a = a, .h = exec->workspace};
    job.memory = (char *)exec->workspace + align64(ROW_BLOCK * (size_t)p->ffn * sizeof(double));
    for (int32_t e = p->expert_begin; e < p->expert_end; e++) {
        const int64_t end = a->plan.offset[e + 1];
        for (int64_t r = a->plan.offset[e]; r < end; r += ROW_BLOCK) {
            job.expert = e;
            job.row_begin = r;
            job.row_end = min_i64(r + ROW_BLOCK, end);
            exec->parallel(exec, p->ffn, 0, gate_up_act, &job);
            exec->parallel(exec, p->d, 0, down, &job);
        }
    }
    return ANEMO_OK;
}

const anemo_variant anemo_moe_experts_ref = {
    .size = sizeof(anemo_variant),
    .name = "moe_experts_ref",
    .op = ANEMO_OP_MOE_EXPERTS,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_REFERENCE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "the definition: every weight exact, every sum in double",
    .accepts = anemo_moe_experts_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
