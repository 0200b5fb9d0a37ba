/* moe_experts: gate, up, activation, down for each expert's rows.
 *
 * Second formulation: three qgemm oracles (estimate.h) per token and chosen expert, in the order of
 * the tokens, never looking at the sorted plan. Results are compared in that order, too, so that a
 * wrong permutation shows as wrong numbers. Experts outside the range have no weights (NULL), and
 * their rows must not be touched. */
#include "harness/check/dispatch.h"
#include "harness/check/estimate.h"
#include "harness/check/op.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct experts_fixture {
    anemo_moe_experts_problem problem;
    check_dispatch *dispatch;
    float *x;                          /* [tokens, d] */
    check_weight **gate, **up, **down; /* [n_experts]; NULL outside the range */
    float *gate_bias, *up_bias, *down_bias;
} experts_fixture;

/* ---------------------------------------------------------------- grid */

typedef struct experts_case {
    int64_t tokens;
    int32_t n_experts, top_k, begin, end;
    int64_t d, ffn;
    int types; /* see weight_types */
    int32_t activation, has_bias;
    check_routing routing;
} experts_case;

enum { TYPES = 12, MIXED = 8 };
static void weight_types(int index, anemo_weight_type *gate, anemo_weight_type *up,
                         anemo_weight_type *down) {
    const anemo_weight_type q4 =
        check_weight_type_linear(4, 32, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE);
    const anemo_weight_type q8 =
        check_weight_type_linear(8, 32, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE);
    const anemo_weight_type one[TYPES] = {
        check_weight_type_float(ANEMO_CODE_F32),
        check_weight_type_float(ANEMO_CODE_BF16),
        q4,
        q8,
        check_weight_type_linear(4, 128, ANEMO_SCALE_F16, ANEMO_OFFSET_ZERO_POINT),
        check_weight_type_linear(4, 32, ANEMO_SCALE_TWO_LEVEL, ANEMO_OFFSET_MINIMUM),
        check_weight_type_linear(8, 0, ANEMO_SCALE_F32, ANEMO_OFFSET_NONE),
        check_weight_type_linear(4, 32, ANEMO_SCALE_F16, ANEMO_OFFSET_MINIMUM),
        q4,
        check_weight_type_linear(4, 32, ANEMO_SCALE_TWO_LEVEL, ANEMO_OFFSET_MINIMUM),
        check_weight_type_table(32, ANEMO_SCALE_E8M0),
        check_weight_type_linear(5, 32, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE)};
    *gate = *up = *down = one[index];
    if (index == MIXED) /* each matrix a type of its own, as some files mix them */
        *up = *down = q8;
    if (index == MIXED + 1) /* Q4_K_M */
        *down = check_weight_type_linear(6, 16, ANEMO_SCALE_TWO_LEVEL, ANEMO_OFFSET_NONE);
}

static const experts_case forms[] = {
    {1, 8, 2, 0, 8, 64, 96, 0, ANEMO_ACT_SILU, 0, CHECK_ROUTE_RANDOM},
    {2, 8, 2, 0, 8, 64, 96, 0, ANEMO_ACT_SILU, 7, CHECK_ROUTE_RANDOM},
    {9, 8, 2, 0, 8, 96, 64, 0, ANEMO_ACT_SILU, 0, CHECK_ROUTE_RANDOM},
    {33, 8, 2, 0, 8, 32, 64, 0, ANEMO_ACT_SILU, 0, CHECK_ROUTE_SKEWED},
    {17, 8, 2, 0, 8, 64, 32, 0, ANEMO_ACT_SILU, 0, CHECK_ROUTE_SAME},
    {18, 8, 1, 0, 8, 32, 96, 0, ANEMO_ACT_SILU, 3, CHECK_ROUTE_SAME},
    {7, 4, 3, 0, 4, 64, 32, 0, ANEMO_ACT_SILU_CLAMPED, 7, CHECK_ROUTE_WITHOUT_FIRST},
    {5, 4, 4, 0, 4, 32, 32, 0, ANEMO_ACT_SILU_CLAMPED, 0, CHECK_ROUTE_RANDOM},
    {12, 8, 2, 2, 5, 64, 64, 0, ANEMO_ACT_SILU, 4, CHECK_ROUTE_RANDOM},
    {6, 8, 2, 7, 8, 32, 64, 0, ANEMO_ACT_SILU, 0, CHECK_ROUTE_RANDOM},
    {6, 8, 2, 0, 4, 32, 64, 0, ANEMO_ACT_SILU, 0, CHECK_ROUTE_SAME},
    {65, 2, 1, 0, 2, 32, 32, 0, ANEMO_ACT_SILU, 1, CHECK_ROUTE_RANDOM},
    {4, 1, 1, 0, 1, 128, 128, 0, ANEMO_ACT_SILU, 0, CHECK_ROUTE_RANDOM},
    {10, 16, 4, 0, 16, 128, 160, 0, ANEMO_ACT_SILU, 0, CHECK_ROUTE_RANDOM},
    {3, 3, 2, 0, 3, 33, 47, 0, ANEMO_ACT_SILU, 7, CHECK_ROUTE_RANDOM},
    {5, 5, 2, 1, 5, 40, 17, 0, ANEMO_ACT_SILU_CLAMPED, 2, CHECK_ROUTE_SKEWED},
    {11, 4, 2, 0, 4, 200, 300, 0, ANEMO_ACT_SILU, 7, CHECK_ROUTE_RANDOM}, /* groups with a rest */
    {150, 3, 1, 0, 3, 32, 140, 0, ANEMO_ACT_SILU_CLAMPED, 7, CHECK_ROUTE_SKEWED}, /* many rows */
    {140, 1, 1, 0, 1, 64, 160, 0, ANEMO_ACT_SILU, 2, CHECK_ROUTE_SAME},           /* full tiles */
    {18, 3, 2, 0, 3, 328, 136, 0, ANEMO_ACT_SILU, 5, CHECK_ROUTE_SKEWED},         /* long rows */
    {72, 1, 1, 0, 1, 32, 96, 0, ANEMO_ACT_SILU, 0, CHECK_ROUTE_SAME},
    {18, 3, 2, 1, 3, 200, 264, 0, ANEMO_ACT_SILU_CLAMPED, 7, CHECK_ROUTE_RANDOM},
    {12, 2, 1, 0, 2, 328, 136, 0, ANEMO_ACT_SILU, 6, CHECK_ROUTE_RANDOM},
};
enum { FORMS = sizeof forms / sizeof *forms };

static int32_t count(void) {
    return FORMS * TYPES;
}

/* ---------------------------------------------------------------- fixture */

static void free_weights(check_weight **weights, int32_t n) {
    for (int32_t e = 0; weights && e < n; e++)
        check_weight_free(weights[e]);
    free(weights);
}

static void destroy(void *fixture) {
    experts_fixture *f = fixture;
    free_weights(f->gate, f->problem.n_experts);
    free_weights(f->up, f->problem.n_experts);
    free_weights(f->down, f->problem.n_experts);
    check_dispatch_free(f->dispatch);
    free(f->x);
    free(f->gate_bias);
    free(f->up_bias);
    free(f->down_bias);
    free(f);
}

static check_weight **make_weights(const anemo_moe_experts_problem *p, check_random *random,
                                   const anemo_weight_type *type, int64_t n, int64_t k, double sd) {
    check_weight **w = calloc((size_t)p->n_experts, sizeof *w);
    bool ok = w != NULL;
    for (int32_t e = p->expert_begin; ok && e < p->expert_end; e++)
        ok = (w[e] = check_weight_create(random, type, n, k, sd / sqrt((double)k))) != NULL;
    if (!ok) {
        free_weights(w, p->n_experts);
        return NULL;
    }
    return w;
}

static bool fill(experts_fixture *f, const experts_case *c, check_random *random) {
    const anemo_moe_experts_problem *p = &f->problem;
    const int64_t n = p->n_experts;
    /* Gate and up of sd 1, or 4 where the clamp at 7 is to be met; rows of sd about 1 again. */
    const double in = c->activation == ANEMO_ACT_SILU_CLAMPED ? 4 : 1;
    f->dispatch = check_dispatch_create(random, c->routing, c->tokens, c->n_experts, c->top_k);
    f->x = check_random_floats(random, c->tokens * p->d, 1);
    f->gate = make_weights(p, random, &p->gate, p->ffn, p->d, in);
    f->up = make_weights(p, random, &p->up, p->ffn, p->d, in);
    f->down = make_weights(p, random, &p->down, p->d, p->ffn, 2 / (in * in));
    bool ok = f->dispatch && f->x && f->gate && f->up && f->down;
    if (p->has_bias & 1)
        ok = (f->gate_bias = check_random_floats(random, n * p->ffn, 1)) && ok;
    if (p->has_bias & 2)
        ok = (f->up_bias = check_random_floats(random, n * p->ffn, 1)) && ok;
    if (p->has_bias & 4)
        ok = (f->down_bias = check_random_floats(random, n * p->d, 1)) && ok;
    return ok;
}

static void *create(int32_t index, check_random *random, char *name, size_t name_bytes) {
    experts_fixture *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    const experts_case *c = &forms[index % FORMS];
    f->problem = (anemo_moe_experts_problem){.size = sizeof f->problem,
                                             .tokens_max = c->tokens + index % 3,
                                             .n_experts = c->n_experts,
                                             .top_k = c->top_k,
                                             .expert_begin = c->begin,
                                             .expert_end = c->end,
                                             .d = c->d,
                                             .ffn = c->ffn,
                                             .activation = c->activation,
                                             .has_bias = c->has_bias};
    weight_types(index / FORMS, &f->problem.gate, &f->problem.up, &f->problem.down);
    char gate[48], down[48];
    snprintf(name, name_bytes, "tokens=%lld experts=%d..%d/%d top=%d d=%lld ffn=%lld %s/%s%s%s %s",
             (long long)c->tokens, c->begin, c->end, c->n_experts, c->top_k, (long long)c->d,
             (long long)c->ffn, anemo_weight_type_name(&f->problem.gate, gate, sizeof gate),
             anemo_weight_type_name(&f->problem.down, down, sizeof down),
             c->activation ? " clamped" : "", c->has_bias ? " bias" : "",
             check_routing_names[c->routing]);
    if (!fill(f, c, random)) {
        destroy(f);
        return NULL;
    }
    return f;
}

static const void *problem(const void *fixture) {
    return &((const experts_fixture *)fixture)->problem;
}

static int64_t rows(const void *fixture) {
    return ((const experts_fixture *)fixture)->dispatch->tokens;
}

static bool in_range(const anemo_moe_experts_problem *p, int32_t expert) {
    return expert >= p->expert_begin && expert < p->expert_end;
}

/* ---------------------------------------------------------------- execute */

/* The array of weights that the kernel gets, itself in backend memory. */
static const void *const *bind_weights(const experts_fixture *f, check_weight **weights,
                                       const check_run *run, check_trial *trial) {
    const int32_t n = f->problem.n_experts;
    const void **bound = calloc((size_t)n, sizeof *bound);
    if (!bound) {
        trial->no_memory = true;
        return NULL;
    }
    for (int32_t e = 0; e < n; e++)
        if (weights[e])
            bound[e] = check_trial_weight(trial, run->variant->layout, &weights[e]->canonical);
    const void *const *array =
        check_trial_in(trial, "array of weights", bound, (size_t)n * sizeof *bound);
    free(bound);
    return array;
}

/* [tokens, top_k d] in the order of the tokens; rows outside the range are 0 there, and poison in
 * what the kernel was given. */
static anemo_status collect(const experts_fixture *f, const check_dispatch *part,
                            const float *sorted, check_result *result, char *fault,
                            size_t fault_bytes) {
    const int64_t d = f->problem.d, choices = part->tokens * part->top_k;
    float *to = check_result_add(result, "rows", CHECK_FLOAT, true, part->tokens, part->top_k * d);
    unsigned char *poison = malloc((size_t)d * sizeof *to);
    anemo_status status = to && poison ? ANEMO_OK : ANEMO_E_MEMORY;
    if (poison)
        check_poison(poison, (size_t)d * sizeof *to);
    for (int64_t i = 0; status == ANEMO_OK && i < choices; i++) {
        const float *row = sorted + part->row_of[i] * d;
        if (in_range(&f->problem, part->expert[i])) {
            memcpy(to + i * d, row, (size_t)d * sizeof *to);
        } else if (memcmp(row, poison, (size_t)d * sizeof *to) != 0) {
            snprintf(fault, fault_bytes, "wrote row %d of expert %d, which is not in its range",
                     part->row_of[i], part->expert[i]);
            status = ANEMO_E_NUMERIC;
        }
    }
    free(poison);
    return status;
}

static anemo_status run_part(const experts_fixture *f, const check_run *run,
                             const check_dispatch *part, const void *x, size_t x_bytes,
                             check_result *result, char *fault, size_t fault_bytes) {
    const anemo_moe_experts_problem *p = &f->problem;
    const size_t experts = (size_t)p->n_experts * sizeof(float);
    check_trial trial;
    check_trial_begin(&trial, run->device);
    trial.mark = run->mark;
    anemo_moe_experts_args args = {.size = sizeof args, .tokens = part->tokens};
    args.x = check_trial_in(&trial, "x", x, x_bytes);
    args.plan = check_dispatch_bind(part, &trial);
    args.gate = bind_weights(f, f->gate, run, &trial);
    args.up = bind_weights(f, f->up, run, &trial);
    args.down = bind_weights(f, f->down, run, &trial);
    args.gate_bias = check_trial_in(&trial, "gate_bias", f->gate_bias, experts * (size_t)p->ffn);
    args.up_bias = check_trial_in(&trial, "up_bias", f->up_bias, experts * (size_t)p->ffn);
    args.down_bias = check_trial_in(&trial, "down_bias", f->down_bias, experts * (size_t)p->d);
    args.rows =
        check_trial_out(&trial, "rows", (size_t)(part->tokens * p->top_k * p->d) * sizeof(float));
    anemo_status status = check_trial_run(&trial, run->variant, p, &args);
    if (status == ANEMO_OK)
        status = collect(f, part, check_trial_after(&trial, args.rows), result, fault, fault_bytes);
    else
        snprintf(fault, fault_bytes, "%s", trial.fault);
    check_trial_end(&trial);
    return status;
}

static anemo_status execute(void *fixture, const check_run *run, check_result *result, char *fault,
                            size_t fault_bytes) {
    const experts_fixture *f = fixture;
    const int64_t d = f->problem.d;
    size_t x_bytes;
    void *x = check_act_input(run, f->x + run->begin * d, run->end - run->begin, d, &x_bytes);
    check_dispatch *part = check_dispatch_part(f->dispatch, run->begin, run->end);
    anemo_status status = ANEMO_E_UNSUPPORTED;
    if (x && part)
        status = run_part(f, run, part, x, x_bytes, result, fault, fault_bytes);
    check_dispatch_free(part);
    free(x);
    return status;
}

/* ---------------------------------------------------------------- oracle */

typedef struct scratch {
    double *x;                          /* [d] */
    double *h, *h_magnitude, *h_spread; /* [ffn] */
} scratch;

static double bias_at(const float *bias, int64_t row, int64_t columns, int64_t i) {
    return bias ? bias[row * columns + i] : 0;
}

/* h = act(gate x) (up x); returns the largest |h|. */
static double inner_row(const experts_fixture *f, int32_t e, const scratch *s) {
    const int64_t ffn = f->problem.ffn;
    double largest = 0;
    for (int64_t j = 0; j < ffn; j++) {
        const check_estimate g =
            check_dot(f->gate[e], j, s->x, NULL, bias_at(f->gate_bias, e, ffn, j));
        const check_estimate u = check_dot(f->up[e], j, s->x, NULL, bias_at(f->up_bias, e, ffn, j));
        const check_estimate h = check_act_mul((anemo_activation)f->problem.activation, g, u);
        s->h[j] = h.value;
        s->h_magnitude[j] = h.magnitude;
        s->h_spread[j] = h.spread;
        largest = fmax(largest, fabs(h.value));
    }
    return largest;
}

/* The spread of an output: its own terms, what gate and up hand on, and an inner row that is coded
 * in steps of its largest element (tolerance.inc: max|h| counts as 6 rms). */
static double outer_spread(const check_weight *down, int64_t row, const scratch *s, double own,
                           double largest) {
    double handed_on = 0, norm = 0;
    for (int64_t j = 0; j < down->k; j++) {
        const double w = down->dense[row * down->k + j];
        handed_on += s->h_spread[j] * w * s->h_spread[j] * w;
        norm += w * w;
    }
    return sqrt(fmax(own * own, largest * largest / 36 * norm) + handed_on);
}

static void outer_row(const experts_fixture *f, int32_t e, const scratch *s, double largest,
                      float *y, check_scale *scale) {
    const int64_t d = f->problem.d, ffn = f->problem.ffn;
    for (int64_t i = 0; i < d; i++) {
        const check_estimate r =
            check_dot(f->down[e], i, s->h, s->h_magnitude, bias_at(f->down_bias, e, d, i));
        y[i] = (float)r.value;
        scale[i] = (check_scale){r.magnitude, (double)(d > ffn ? d : ffn),
                                 outer_spread(f->down[e], i, s, r.spread, largest)};
    }
}

static anemo_status oracle(void *fixture, const char *feed, check_result *result) {
    const experts_fixture *f = fixture;
    const check_dispatch *plan = f->dispatch;
    const int64_t d = f->problem.d, ffn = f->problem.ffn, k = plan->top_k;
    float *x = check_act_through(feed, f->x, plan->tokens, d);
    double *memory = malloc((size_t)(d + 3 * ffn) * sizeof *memory);
    float *y = check_result_add(result, "rows", CHECK_FLOAT, true, plan->tokens, k * d);
    check_scale *scale = y ? check_result_scale(result) : NULL;
    const bool ok = x && memory && scale;
    const scratch s = {memory, memory + d, memory + d + ffn, memory + d + 2 * ffn};
    for (int64_t i = 0; ok && i < plan->tokens * k; i++) {
        const int32_t e = plan->expert[i];
        for (int64_t j = 0; j < d; j++)
            s.x[j] = x[i / k * d + j];
        if (in_range(&f->problem, e))
            outer_row(f, e, &s, inner_row(f, e, &s), y + i * d, scale + i * d);
    }
    free(memory);
    free(x);
    return ok ? ANEMO_OK : ANEMO_E_UNSUPPORTED;
}

const check_op check_op_moe_experts = {.op = ANEMO_OP_MOE_EXPERTS,
                                       .count = count,
                                       .create = create,
                                       .destroy = destroy,
                                       .problem = problem,
                                       .rows = rows,
                                       .execute = execute,
                                       .oracle = oracle};
