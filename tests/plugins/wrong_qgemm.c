/* qgemm with faults. */
#define WRONG_ACTS .n_acts = 1, .acts = acts
#include "tests/plugins/wrong.h"

typedef enum fault {
    NOTHING,
    NANS,
    ZEROS,
    SCALED,
    SCALED_A_LITTLE,
    ONE_ELEMENT,
    PAST_THE_END,
    BETWEEN_ROWS,
    NO_BIAS,
    K_TAIL,
    NEIGHBOUR_COLUMN,
    STORES_INSTEAD,
    READS_POISON,
    READS_PAST_X,
    ROWS_DEPEND,
    THREADS_DEPEND,
    RUNS_DEPEND,
    CHANGES_X,
    LITTLE_WORKSPACE,
    RETURNS_ERROR
} fault;

static size_t small_workspace(const void *problem, int32_t n_threads) {
    (void)problem, (void)n_threads;
    return 64;
}

static void spoil(const anemo_qgemm_args *a, int64_t n, fault f) {
    float *last = a->y[0] + (a->m - 1) * a->y_stride[0] + n - 1;
    if (f == ONE_ELEMENT)
        *last += 0.25f; /* a quarter of a standard deviation */
    if (f == PAST_THE_END)
        last[1] = 1;
    if (f == BETWEEN_ROWS && a->m > 1 && a->y_stride[0] > n)
        a->y[0][n] = 1;
    static int calls;
    if (f == RUNS_DEPEND && ++calls % 2)
        a->y[0][0] = nextafterf(a->y[0][0], INFINITY);
    if (f == CHANGES_X)
        ((float *)(uintptr_t)a->x)[0] += 1;
}

static float finish(const anemo_qgemm_problem *p, float result, float before, fault f) {
    if (f == NANS)
        return NAN;
    if (f == ZEROS)
        return 0;
    if (p->epilogue == ANEMO_EPI_ADD && f != STORES_INSTEAD)
        result += before;
    return f == SCALED ? 1.1f * result : f == SCALED_A_LITTLE ? 1.00001f * result : result;
}

/* Weight row j of part p, whose matrix is w, times row i of x, with its bias. */
static float product(const anemo_exec *exec, const anemo_qgemm_problem *p,
                     const anemo_qgemm_args *a, int part, int64_t i, int64_t j, const float *w,
                     fault f) {
    const float *x = (const float *)a->x + i * p->k;
    const int64_t column = f == NEIGHBOUR_COLUMN && p->n[part] > 1 && j < 2 ? 1 - j : j;
    const int64_t k = f == K_TAIL && p->k > 4 ? p->k / 4 * 4 - 1 : p->k;
    const bool backwards =
        (f == ROWS_DEPEND && a->m > 2) || (f == THREADS_DEPEND && exec->n_threads > 1);
    float result = wrong_dot(x, w + column * p->k, k, backwards);
    if (f == READS_POISON)
        result += ((const float *)exec->workspace)[0];
    if (f == READS_PAST_X && i == a->m - 1)
        result += 1e-3f * x[p->k];
    return p->has_bias >> part & 1 && f != NO_BIAS ? result + a->bias[part][j] : result;
}

static anemo_status compute(const anemo_exec *exec, const anemo_qgemm_problem *p,
                            const anemo_qgemm_args *a, fault f) {
    const bool act_mul = p->epilogue == ANEMO_EPI_ACT_MUL;
    float *w[ANEMO_QGEMM_PARTS];
    for (int part = 0; part < p->n_parts; part++)
        w[part] = wrong_matrix(a->weight[part]);
    for (int part = 0; part < (act_mul ? 1 : p->n_parts); part++)
        for (int64_t i = 0; i < a->m; i++)
            for (int64_t j = 0; j < p->n[part]; j++) {
                float *y = a->y[part] + i * a->y_stride[part] + j;
                float result = product(exec, p, a, part, i, j, w[part], f);
                if (act_mul)
                    result =
                        wrong_act_mul(p->activation, result, product(exec, p, a, 1, i, j, w[1], f));
                *y = finish(p, result, *y, f);
            }
    for (int part = 0; part < p->n_parts; part++)
        free(w[part]);
    if (f == LITTLE_WORKSPACE)
        memset(exec->workspace, 0, 128);
    spoil(a, p->n[0], f);
    return f == RETURNS_ERROR ? ANEMO_E_NUMERIC : ANEMO_OK;
}

#define WRONG(name, fault) WRONG_VARIANT(qgemm, QGEMM, name, fault, 0, small_workspace)
#define INVARIANT(name, fault)                                                                     \
    WRONG_VARIANT(qgemm, QGEMM, name, fault, ANEMO_TRAIT_ROW_INVARIANT, small_workspace)
WRONG(nothing, NOTHING) /* the control: right */
WRONG(nan, NANS)
WRONG(zeros, ZEROS)
WRONG(scale, SCALED)
WRONG(one_element, ONE_ELEMENT)
WRONG(past_the_end, PAST_THE_END)
WRONG(between_rows, BETWEEN_ROWS)
WRONG(no_bias, NO_BIAS)
WRONG(k_tail, K_TAIL)
WRONG(neighbour_column, NEIGHBOUR_COLUMN)
WRONG(stores_instead, STORES_INSTEAD)
WRONG(reads_poison, READS_POISON)
WRONG(reads_past_x, READS_PAST_X)
INVARIANT(rows_depend, ROWS_DEPEND)
INVARIANT(threads_depend, THREADS_DEPEND)
WRONG(runs_depend, RUNS_DEPEND)
WRONG(changes_x, CHANGES_X)
WRONG(little_workspace, LITTLE_WORKSPACE)
WRONG(returns_error, RETURNS_ERROR)

static bool refuses(const void *problem, char *why, size_t why_bytes) {
    (void)problem;
    strncpy(why, "it never works", why_bytes);
    return false;
}
static const anemo_variant variant_refuses = {.size = sizeof(anemo_variant),
                                              .name = "qgemm_wrong_refuses",
                                              .op = ANEMO_OP_QGEMM,
                                              .idea = "a test",
                                              .accepts = refuses,
                                              .workspace_bytes = wrong_no_workspace,
                                              .run = run_nothing};
static const anemo_variant variant_elsewhere = {.size = sizeof(anemo_variant),
                                                .name = "qgemm_wrong_elsewhere",
                                                .op = ANEMO_OP_QGEMM,
                                                .idea = "a test",
                                                .backend = ANEMO_CUDA,
                                                .needs = {.min_capability = 80},
                                                .accepts = refuses,
                                                .workspace_bytes = wrong_no_workspace,
                                                .run = run_nothing};
/* Good enough for a float variant, not for a definition. */
WRONG_VARIANT(qgemm, QGEMM, as_reference, SCALED_A_LITTLE, ANEMO_TRAIT_REFERENCE, small_workspace)

/* An input format of its own, which the checker cannot write: it says so and does not pass it. */
static size_t own_row_bytes(int64_t k) {
    return (size_t)k * sizeof(float);
}
static const anemo_act own_act = {sizeof(anemo_act), "own_format", -1, 32, own_row_bytes};
static const anemo_act *const acts[] = {&own_act};
static const anemo_variant variant_format = {.size = sizeof(anemo_variant),
                                             .name = "qgemm_wrong_format",
                                             .op = ANEMO_OP_QGEMM,
                                             .act = "own_format",
                                             .idea = "a test",
                                             .accepts = wrong_accepts,
                                             .workspace_bytes = small_workspace,
                                             .run = run_nothing};

WRONG_PLUGIN("wrong_qgemm", &variant_nothing, &variant_nan, &variant_zeros, &variant_scale,
             &variant_one_element, &variant_past_the_end, &variant_between_rows, &variant_no_bias,
             &variant_k_tail, &variant_neighbour_column, &variant_stores_instead,
             &variant_reads_poison, &variant_reads_past_x, &variant_rows_depend,
             &variant_threads_depend, &variant_runs_depend, &variant_changes_x,
             &variant_little_workspace, &variant_returns_error, &variant_refuses,
             &variant_elsewhere, &variant_as_reference, &variant_format)
