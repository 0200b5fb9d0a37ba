/* add_rmsnorm in plain C: rows in parallel; the sum of squares in four vectors of four lanes, 16
 * independent sums, so that its rounding error stays that of d / 16 terms. */
#include <math.h>

#include "kernels/dense/common.h"
#include "kernels/dense/dense.h"
#include "kernels/dense/f32x4.h"

typedef struct norm_job {
    const anemo_add_rmsnorm_problem *p;
    const anemo_add_rmsnorm_args *a;
} norm_job;

static void add(float *x, const float *delta, int64_t d) {
    int64_t i = 0;
    for (; i + 4 <= d; i += 4)
        f4_store(x + i, f4_load(x + i) + f4_load(delta + i));
    for (; i < d; i++)
        x[i] += delta[i];
}

static float sum_of_squares(const float *x, int64_t d) {
    f32x4 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    int64_t i = 0;
    for (; i + 16 <= d; i += 16) {
        const f32x4 a = f4_load(x + i), b = f4_load(x + i + 4);
        const f32x4 c = f4_load(x + i + 8), e = f4_load(x + i + 12);
        s0 += a * a, s1 += b * b, s2 += c * c, s3 += e * e;
    }
    for (; i < d; i += 4) {
        const f32x4 a = i + 4 <= d ? f4_load(x + i) : f4_load_part(x + i, d - i);
        s0 += a * a;
    }
    return f4_sum((s0 + s1) + (s2 + s3));
}

static void norm_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const norm_job *job = ctx;
    const anemo_add_rmsnorm_args *a = job->a;
    const int64_t d = job->p->d;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        float *x = a->x + (a->rows ? a->rows[r] : r) * d, *y = a->y + r * d;
        if (job->p->add)
            add(x, a->delta + r * d, d);
        const float scale = 1 / sqrtf(sum_of_squares(x, d) / (float)d + job->p->eps);
        int64_t i = 0;
        for (; i + 4 <= d; i += 4)
            f4_store(y + i, f4_load(x + i) * f4_splat(scale) * f4_load(a->weight + i));
        for (; i < d; i++)
            y[i] = x[i] * scale * a->weight[i];
    }
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_add_rmsnorm_problem *p = problem;
    const anemo_add_rmsnorm_args *a = args;
    const anemo_status status = anemo_add_rmsnorm_check(p, a);
    if (status != ANEMO_OK)
        return status;
    norm_job job = {.p = p, .a = a};
    exec->parallel(exec, a->m, 16, norm_rows, &job);
    return ANEMO_OK;
}

const anemo_variant anemo_add_rmsnorm_c = {
    .size = sizeof(anemo_variant),
    .name = "add_rmsnorm_c",
    .op = ANEMO_OP_ADD_RMSNORM,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "rows in parallel, 16 partial sums",
    .accepts = anemo_add_rmsnorm_accepts,
    .workspace_bytes = no_workspace,
    .run = run,
};
