/* add_rmsnorm, the definition. With `add`, x += delta first (rounded to float: x is memory). Then
 * y = x / sqrt(mean(x^2) + eps) * weight, in double, rounded once. With `rows`, row i of y is made
 * from row rows[i] of x; rows may repeat, and `add` must be 0. y must not overlap x or delta. */
#include <math.h>

#include "kernels/dense/common.h"
#include "kernels/dense/dense.h"

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_add_rmsnorm_problem *p = problem;
    const anemo_add_rmsnorm_args *a = args;
    (void)exec;
    const anemo_status status = anemo_add_rmsnorm_check(p, a);
    if (status != ANEMO_OK)
        return status;
    for (int64_t r = 0; r < a->m; r++) {
        float *x = a->x + (a->rows ? a->rows[r] : r) * p->d;
        double squares = 0;
        for (int64_t i = 0; i < p->d; i++) {
            if (p->add)
                x[i] += a->delta[r * p->d + i];
            squares += (double)x[i] * x[i];
        }
        const double root = sqrt(squares / (double)p->d + p->eps);
        for (int64_t i = 0; i < p->d; i++)
            a->y[r * p->d + i] = (float)(x[i] / root * a->weight[i]);
    }
    return ANEMO_OK;
}

const anemo_variant anemo_add_rmsnorm_ref = {
    .size = sizeof(anemo_variant),
    .name = "add_rmsnorm_ref",
    .op = ANEMO_OP_ADD_RMSNORM,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_REFERENCE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "the definition, in double",
    .accepts = anemo_add_rmsnorm_accepts,
    .workspace_bytes = no_workspace,
    .run = run,
};
