/* qgemm, the definition: y_p = x W_p^T + bias_p in double, weights by anemo_weight_value, then the
 * epilogue in double, rounded to float once. */
#include "kernels/qgemm/epilogue.h"
#include "kernels/qgemm/qgemm_internal.h"

typedef struct job {
    const anemo_qgemm_problem *p;
    const anemo_qgemm_args *a;
    char *workspace;
    size_t thread_bytes;
} job;

/* Per thread: two rows of doubles (gate and up), one of floats, and the codes and scales. */
static size_t thread_bytes(int64_t k) {
    return (size_t)anemo_round_up(20 * k + (int64_t)anemo_weight_scratch_bytes(k), 64);
}

/* row_values[k] = weight row as doubles */
static void decode(const anemo_weight *w, int64_t row, double *row_values, void *scratch) {
    const int64_t k = w->k, group = w->type.group > 0 ? w->type.group : k;
    const size_t groups = (size_t)anemo_ceil_div(k, 16);
    float *values = scratch;
    float *scales = values + k, *offsets = scales + groups;
    uint8_t *codes = (uint8_t *)(offsets + groups);
    w->read_row(w, row, values, codes, scales, offsets);
    for (int64_t i = 0; i < k; i++) {
        if (anemo_code_is_float(&w->type)) {
            row_values[i] = values[i];
        } else {
            const float offset = w->type.offset == ANEMO_OFFSET_NONE ? 0.0f : offsets[i / group];
            row_values[i] = anemo_weight_value(&w->type, codes[i], scales[i / group], offset);
        }
    }
}

static double dot(const float *x, const double *w, int64_t k) {
    double sum = 0.0;
    for (int64_t i = 0; i < k; i++) {
        sum += (double)x[i] * w[i];
    }
    return sum;
}

/* Column `row` of y for all m rows of x: one weight row, or with ACT_MUL one of each part. */
static void one_column(const job *j, anemo_qgemm_block block, double *w0, double *w1,
                       void *scratch) {
    const anemo_qgemm_problem *p = j->p;
    const anemo_qgemm_args *a = j->a;
    const int64_t k = p->k, column = block.row;
    const int32_t part = block.part;
    const bool act_mul = p->epilogue == ANEMO_EPI_ACT_MUL;
    const double bias0 = p->has_bias >> part & 1 ? a->bias[part][column] : 0.0;
    const double bias1 = act_mul && p->has_bias & 2 ? a->bias[1][column] : 0.0;
    decode(a->weight[part], column, w0, scratch);
    if (act_mul) {
        decode(a->weight[1], column, w1, scratch);
    }
    for (int64_t i = 0; i < a->m; i++) {
        const float *x = (const float *)a->x + i * k;
        float *y = a->y[part] + i * a->y_stride[part] + column;
        double result = dot(x, w0, k) + bias0;
        if (act_mul) {
            result = anemo_act_mul_f64(p->activation, result, dot(x, w1, k) + bias1);
        } else if (p->epilogue == ANEMO_EPI_ADD) {
            result += *y;
        }
        *y = (float)result;
    }
}

static void columns(void *ctx, int64_t begin, int64_t end, int thread) {
    const job *j = ctx;
    double *w0 = (double *)(void *)(j->workspace + (size_t)thread * j->thread_bytes);
    double *w1 = w0 + j->p->k;
    for (int64_t i = begin; i < end; i++) {
        one_column(j, anemo_qgemm_block_at(j->p, 1, i), w0, w1, w1 + j->p->k);
    }
}

static bool accepts(const void *problem, char *why, size_t why_bytes) {
    return anemo_qgemm_valid(problem, why, why_bytes);
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    const anemo_qgemm_problem *p = problem;
    return (size_t)n_threads * thread_bytes(p->k);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_qgemm_problem *p = problem;
    job j = {p, args, exec->workspace, thread_bytes(p->k)};
    if (exec->workspace_bytes < workspace_bytes(problem, exec->n_threads)) {
        return ANEMO_E_MEMORY;
    }
    exec->parallel(exec, anemo_qgemm_blocks(p, 1), 0, columns, &j);
    return ANEMO_OK;
}

extern const anemo_variant anemo_qgemm_ref;
const anemo_variant anemo_qgemm_ref = {
    .size = sizeof(anemo_variant),
    .name = "qgemm_ref",
    .op = ANEMO_OP_QGEMM,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_REFERENCE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "the definition, in double",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
