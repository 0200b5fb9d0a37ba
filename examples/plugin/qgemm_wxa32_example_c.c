/* A qgemm variant of your own, in one file that needs nothing but kernels/kernel.h.
 *
 * y = x W^T for weights of any type and float activations: each weight row is decoded once, then
 * multiplied with every row of x. It is right, not fast: a place to start from.
 *
 *     work item = one row of W (with ACT_MUL: that row of gate and of up)
 *     workspace = per thread: two decoded rows, and what read_row fills
 *
 * The laws of a kernel (kernel.h): it allocates nothing, prints nothing, reads no clock. Memory
 * comes from the workspace, whose size is asked for beforehand; what it cannot do it refuses in
 * accepts(), never in run(). */
#include "kernels/kernel.h"

#include <math.h>
#include <stdio.h>

/* ---------------------------------------------------------------- one weight row */

/* What read_row fills, and the row decoded: all of k elements. */
typedef struct row_memory {
    float *decoded0, *decoded1, *scales, *offsets;
    uint8_t *codes;
} row_memory;

static size_t thread_bytes(int64_t k) {
    return ((size_t)k * (4 * sizeof(float) + 1) + 63) / 64 * 64;
}

static row_memory thread_memory(void *workspace, int thread, int64_t k) {
    float *at = (float *)(void *)((char *)workspace + (size_t)thread * thread_bytes(k));
    return (row_memory){at, at + k, at + 2 * k, at + 3 * k, (uint8_t *)(at + 4 * k)};
}

/* decoded[k] = row `row` of W. */
static void decode(const anemo_weight *weight, int64_t row, const row_memory *m, float *decoded) {
    const anemo_weight_type *type = &weight->type;
    weight->read_row(weight, row, decoded, m->codes, m->scales, m->offsets);
    if (type->code != ANEMO_CODE_LINEAR && type->code != ANEMO_CODE_TABLE)
        return; /* float codes: read_row has filled `decoded` */
    const float middle = (float)(1 << (type->bits - 1));
    for (int64_t i = 0; i < weight->k; i++) {
        const int64_t g = type->group > 0 ? i / type->group : 0;
        const float s = m->scales[g], c = m->codes[i];
        if (type->code == ANEMO_CODE_TABLE)
            decoded[i] = s * type->table[m->codes[i]];
        else if (type->offset == ANEMO_OFFSET_MINIMUM)
            decoded[i] = s * c - m->offsets[g];
        else
            decoded[i] = s * (c - (type->offset == ANEMO_OFFSET_NONE ? middle : m->offsets[g]));
    }
}

/* Always summed in this order, whatever m and the threads are: that is ROW_INVARIANT. */
static float dot(const float *x, const float *w, int64_t k) {
    float sum[4] = {0};
    for (int64_t i = 0; i < k; i++)
        sum[i % 4] += x[i] * w[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* ---------------------------------------------------------------- the op */

static float activate(int32_t activation, float g, float u) {
    if (activation == ANEMO_ACT_SILU)
        return g / (1 + expf(-g)) * u;
    g = fminf(g, 7);
    u = fmaxf(fminf(u, 7), -7);
    return (u + 1) * g / (1 + expf(-1.702f * g));
}

typedef struct job {
    const anemo_qgemm_problem *problem;
    const anemo_qgemm_args *args;
    void *workspace;
} job;

static void one_column(const job *j, int part, int64_t column, const row_memory *m) {
    const anemo_qgemm_problem *p = j->problem;
    const anemo_qgemm_args *a = j->args;
    const bool act_mul = p->epilogue == ANEMO_EPI_ACT_MUL;
    decode(a->weight[part], column, m, m->decoded0);
    if (act_mul)
        decode(a->weight[1], column, m, m->decoded1);
    for (int64_t i = 0; i < a->m; i++) {
        const float *x = (const float *)a->x + i * p->k;
        float *y = a->y[part] + i * a->y_stride[part] + column;
        float result = dot(x, m->decoded0, p->k);
        if (p->has_bias >> part & 1)
            result += a->bias[part][column];
        if (act_mul) {
            const float bias = p->has_bias & 2 ? a->bias[1][column] : 0;
            result = activate(p->activation, result, dot(x, m->decoded1, p->k) + bias);
        }
        *y = p->epilogue == ANEMO_EPI_ADD ? *y + result : result;
    }
}

static void columns(void *ctx, int64_t begin, int64_t end, int thread) {
    const job *j = ctx;
    const row_memory m = thread_memory(j->workspace, thread, j->problem->k);
    for (int64_t item = begin; item < end; item++) {
        int64_t column = item;
        int part = 0;
        while (column >= j->problem->n[part]) /* the parts lie one behind the other */
            column -= j->problem->n[part++];
        one_column(j, part, column, &m);
    }
}

/* ---------------------------------------------------------------- the contract */

static bool accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_qgemm_problem *p = problem;
    if (p->size >= sizeof *p)
        return true; /* every type and shape */
    snprintf(why, why_bytes, "the problem is of another version of kernel.h");
    return false;
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    return (size_t)n_threads * thread_bytes(((const anemo_qgemm_problem *)problem)->k);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_qgemm_problem *p = problem;
    job j = {p, args, exec->workspace};
    if (exec->workspace_bytes < workspace_bytes(problem, exec->n_threads))
        return ANEMO_E_MEMORY;
    int64_t items = p->n[0]; /* ACT_MUL: part 1 goes with part 0 */
    for (int part = 1; part < p->n_parts && p->epilogue != ANEMO_EPI_ACT_MUL; part++)
        items += p->n[part];
    exec->parallel(exec, items, 0, columns, &j);
    return ANEMO_OK;
}

static const anemo_variant variant = {
    .size = sizeof(anemo_variant),
    .name = "qgemm_wxa32_example_c",
    .op = ANEMO_OP_QGEMM,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "example plug-in: decode a row, multiply it with every x",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};

static const anemo_variant *const variants[] = {&variant};

static const anemo_plugin plugin = {
    .size = sizeof(anemo_plugin),
    .abi_major = ANEMO_ABI_MAJOR,
    .abi_minor = ANEMO_ABI_MINOR,
    .name = "example",
    .n_variants = 1,
    .variants = variants,
};

/* The one symbol that anemo looks up. */
const anemo_plugin *anemo_plugin_entry(void);
const anemo_plugin *anemo_plugin_entry(void) {
    return &plugin;
}
