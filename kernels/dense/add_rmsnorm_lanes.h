/* add_rmsnorm over the lanes of lanes.h: rows in parallel, two passes over a row.
 *
 * Pass 1 adds, stores x and squares it into four vectors of sums (64 or 32 partial sums, so the
 * rounding error is that of d / 64 terms); pass 2 multiplies by the weight. Between them a row of
 * d = 4096 lies in L1 and L2 (16 KiB each of x, delta, weight, y); holding it in registers, the
 * only way to save a pass, ends at d = 512. FMA replaces the product and the sum of plain C.
 *
 * Rejected: splitting one row over threads. A row of 4096 takes 0.6 us, a fork at least 1 us.
 * Limit: 4 loads and 2 stores per vector, bound by L2 from d = 2048 on. */
#ifndef ANEMO_DENSE_ADD_RMSNORM_LANES_H
#define ANEMO_DENSE_ADD_RMSNORM_LANES_H

#include <math.h>

#include "kernels/dense/dense.h"
#include "kernels/dense/lanes.h"

typedef struct norm_job {
    const anemo_add_rmsnorm_problem *p;
    const anemo_add_rmsnorm_args *a;
} norm_job;

/* x[0 .. n) at most LANES of them, after += delta unless that is NULL. */
static inline vf added(float *x, const float *delta, int64_t n) {
    vf v = vf_load_part(x, n);
    if (delta) {
        v += vf_load_part(delta, n);
        vf_store_part(x, v, n);
    }
    return v;
}

/* Inlined with delta known to be NULL or not. */
static inline float add_and_square(float *x, const float *delta, int64_t d) {
    vf s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    int64_t i = 0;
    for (; i + 4 * LANES <= d; i += 4 * LANES) {
        const float *more = delta ? delta + i : NULL;
        const vf a = added(x + i, more, LANES);
        const vf b = added(x + i + LANES, more ? more + LANES : NULL, LANES);
        const vf c = added(x + i + 2 * LANES, more ? more + 2 * LANES : NULL, LANES);
        const vf e = added(x + i + 3 * LANES, more ? more + 3 * LANES : NULL, LANES);
        s0 = vf_fma(a, a, s0), s1 = vf_fma(b, b, s1);
        s2 = vf_fma(c, c, s2), s3 = vf_fma(e, e, s3);
    }
    for (; i < d; i += LANES) {
        const vf a = added(x + i, delta ? delta + i : NULL, d - i);
        s0 = vf_fma(a, a, s0);
    }
    return vf_sum((s0 + s1) + (s2 + s3));
}

static void norm_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const norm_job *job = ctx;
    const anemo_add_rmsnorm_args *a = job->a;
    const int64_t d = job->p->d;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        float *x = a->x + (a->rows ? a->rows[r] : r) * d, *y = a->y + r * d;
        const float squares =
            job->p->add ? add_and_square(x, a->delta + r * d, d) : add_and_square(x, NULL, d);
        const vf scale = vf_splat(1 / sqrtf(squares / (float)d + job->p->eps));
        for (int64_t i = 0; i < d; i += LANES)
            vf_store_part(y + i,
                          vf_load_part(x + i, d - i) * scale * vf_load_part(a->weight + i, d - i),
                          d - i);
    }
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_add_rmsnorm_problem *p = problem;
    const anemo_add_rmsnorm_args *a = args;
    const anemo_status status = anemo_add_rmsnorm_check(p, a);
    if (status != ANEMO_OK)
        return status;
    norm_job job = {.p = p, .a = a};
    exec->parallel(exec, a->m, lanes_grain(p->d), norm_rows, &job);
    return ANEMO_OK;
}

#define ADD_RMSNORM_LANES(name, what)                                                              \
    LANES_VARIANT(name, ANEMO_OP_ADD_RMSNORM, anemo_add_rmsnorm_accepts, no_workspace, run, what)

#endif
