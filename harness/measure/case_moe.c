/* moe_experts under different routings. PLANS dispatch plans are made by the reference of moe_route
 * from logits that hold the wanted law or trace (routing.h) and used in turn, so that the routing
 * is not one draw.
 *
 * Where a call touches few experts (one token; all tokens to the same two), plan i favours experts
 * 2i and 2i + 1, and the whole layer passes between two uses of one expert: cold without copies.
 *
 * The truth is the reference on three tokens with the choices they have in plan 0. */
#include "harness/check/estimate.h"
#include "harness/check/op.h"
#include "harness/measure/bench_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLANS = 16, PICKED = 3, FEEDS = 6, PARTS = 3 };
enum { GATE, UP, DOWN };

typedef struct moe_memory { /* of one plan */
    anemo_moe_plan plan;
    int32_t *ints;
    float *weight;
} moe_memory;

typedef struct truth {
    char feed[16];
    float *rows;              /* [n_picked * top_k, d], token by token, best choice first */
    double *h_norm, *h_error; /* [n_picked * top_k]: of the inner row and of its magnitudes */
} truth;

typedef struct moe_case {
    bench_case base;
    anemo_moe_experts_problem problem;
    anemo_moe_route_problem route;
    const bench_routing *routing; /* given, or own_routing */
    bench_routing own_routing;
    bench_weight **weight; /* [PARTS * n_experts]: gate of all, up of all, down of all */
    float *x;              /* [tokens, d] */
    float *logits;         /* [tokens, n_experts] of plan 0 */
    moe_memory plans[PLANS];
    float *bias[PARTS]; /* [n_experts, ffn], [n_experts, ffn], [n_experts, d] or NULL */
    double touched;     /* experts that a call reads, on average */
    int32_t fewest;     /* that any call reads */
    double imbalance;   /* rows of the fullest expert over the mean of all, on average */
    int64_t n_picked, picked[PICKED];
    truth truths[FEEDS];
    int n_truths;
} moe_case;

typedef struct moe_arm {
    bench_arm base;
    bench_copies *copies;  /* [PARTS * n_experts] */
    const void **pointers; /* [n_copies][PARTS][n_experts] */
    void *x;
    bench_output rows; /* float [tokens * top_k, d] */
} moe_arm;

/* ---------------------------------------------------------------- plans */

static bool plan_allocate(moe_memory *m, int64_t tokens, int32_t n_experts, int32_t top_k) {
    const size_t rows = (size_t)(tokens * top_k), experts = (size_t)n_experts;
    m->ints = calloc(3 * rows + 2 * experts + 1, sizeof *m->ints);
    m->weight = calloc(rows, sizeof *m->weight);
    if (!m->ints || !m->weight) {
        return false;
    }
    m->plan = (anemo_moe_plan){.size = sizeof m->plan,
                               .expert = m->ints,
                               .weight = m->weight,
                               .row_token = m->ints + rows,
                               .row_of = m->ints + 2 * rows,
                               .count = m->ints + 3 * rows,
                               .offset = m->ints + 3 * rows + experts};
    return true;
}

static void plan_free(moe_memory *m) {
    free(m->ints);
    free(m->weight);
}

static anemo_status route(const moe_case *c, const float *logits, int64_t tokens, moe_memory *into,
                          anemo_error *err) {
    anemo_moe_route_problem problem = c->route;
    problem.tokens_max = tokens;
    if (!plan_allocate(into, tokens, problem.n_experts, problem.top_k)) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a dispatch plan");
    }
    const anemo_moe_route_args args = {
        .size = sizeof args, .tokens = tokens, .logits = logits, .plan = into->plan};
    return bench_run_reference(&c->base.setup, ANEMO_OP_MOE_ROUTE, &problem, &args, err);
}

/* Does plan i favour experts of its own, so that the layer is gone through in turn? */
static bool takes_turns(const moe_case *c) {
    return c->routing->kind == BENCH_ROUTING_SINGLE ||
           (c->routing->kind == BENCH_ROUTING_UNIFORM && c->base.m == 1);
}

static void take_load(moe_case *c, const anemo_moe_plan *plan) {
    const int32_t n = c->problem.n_experts;
    int32_t most = 0, touched = 0;
    for (int32_t e = 0; e < n; e++) {
        touched += plan->count[e] > 0;
        most = plan->count[e] > most ? plan->count[e] : most;
    }
    c->touched += touched / (double)PLANS;
    c->fewest = c->fewest == 0 || touched < c->fewest ? touched : c->fewest;
    c->imbalance += most / ((double)plan->offset[n] / n) / PLANS;
}

static anemo_status make_plans(moe_case *c, anemo_error *err) {
    const size_t cells = (size_t)(c->base.m * c->problem.n_experts);
    float *logits = malloc(cells * sizeof *logits);
    c->logits = malloc(cells * sizeof *logits);
    anemo_status status = logits && c->logits
                              ? ANEMO_OK
                              : anemo_fail(err, ANEMO_E_MEMORY, "no memory for the routing");
    for (int i = 0; !status && i < PLANS; i++) {
        status = bench_routing_logits(c->routing, c->base.m, c->problem.n_experts, c->problem.top_k,
                                      i, takes_turns(c), c->base.setup.seed, logits, err);
        if (i == 0) {
            memcpy(c->logits, logits, cells * sizeof *logits);
        }
        status = status ? status : route(c, logits, c->base.m, &c->plans[i], err);
        if (!status) {
            take_load(c, &c->plans[i].plan);
        }
    }
    free(logits);
    return status;
}

/* ---------------------------------------------------------------- the case */

static void destroy(bench_case *base) {
    moe_case *c = (moe_case *)base;
    for (int i = 0; c->weight && i < PARTS * c->problem.n_experts; i++) {
        bench_weight_free(c->weight[i]);
    }
    for (int i = 0; i < PLANS; i++) {
        plan_free(&c->plans[i]);
    }
    for (int t = 0; t < c->n_truths; t++) {
        free(c->truths[t].rows);
        free(c->truths[t].h_norm);
        free(c->truths[t].h_error);
    }
    for (int i = 0; i < PARTS; i++) {
        free(c->bias[i]);
    }
    bench_routing_free(&c->own_routing);
    free(c->weight);
    free(c->x);
    free(c->logits);
    free(c);
}

static anemo_status make_weights(moe_case *c, anemo_error *err) {
    const anemo_moe_experts_problem *p = &c->problem;
    c->weight = calloc((size_t)(PARTS * p->n_experts), sizeof *c->weight);
    c->x = malloc((size_t)(c->base.m * p->d) * sizeof *c->x);
    bool good = c->weight && c->x;
    for (int i = 0; good && i < PARTS * p->n_experts; i++) {
        const bool down = i / p->n_experts == DOWN;
        c->weight[i] = bench_weight_create(bench_setup_host(&c->base.setup), &c->base.setup.type,
                                           down ? p->d : p->ffn, down ? p->ffn : p->d,
                                           c->base.setup.seed + 200 + (uint64_t)i);
        good = c->weight[i] != NULL;
    }
    for (int i = 0; i < PARTS && p->has_bias; i++) {
        const int64_t cells = p->n_experts * (i == DOWN ? p->d : p->ffn);
        c->bias[i] = malloc((size_t)cells * sizeof **c->bias);
        good = good && c->bias[i];
        if (good) {
            bench_fill_normal(c->bias[i], cells, 0.5, c->base.setup.seed + 100 + (uint64_t)i);
        }
    }
    if (!good) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the experts of %s",
                          c->base.shape->name);
    }
    bench_fill_normal(c->x, c->base.m * p->d, 1, c->base.setup.seed);
    return ANEMO_OK;
}

/* Canonical bytes of one expert. */
static double expert_bytes(const moe_case *c) {
    const anemo_moe_experts_problem *p = &c->problem;
    const double cells = (double)p->d * (double)p->ffn;
    return cells / 8 *
           (2 * anemo_weight_type_bits(&p->gate, p->d) + anemo_weight_type_bits(&p->down, p->ffn));
}

/* numbers: d, ffn, experts, top_k, routing, clamped (and with biases) */
static void set_shape(moe_case *c) {
    const bench_shape *shape = c->base.shape;
    const anemo_weight_type type = c->base.setup.type;
    const int64_t m = c->base.m;
    const bool clamped = shape->number[5] != 0;
    c->problem =
        (anemo_moe_experts_problem){.size = sizeof c->problem,
                                    .tokens_max = m,
                                    .n_experts = (int32_t)shape->number[2],
                                    .top_k = (int32_t)shape->number[3],
                                    .expert_end = (int32_t)shape->number[2],
                                    .d = shape->number[0],
                                    .ffn = shape->number[1],
                                    .gate = type,
                                    .up = type,
                                    .down = type,
                                    .activation = clamped ? ANEMO_ACT_SILU_CLAMPED : ANEMO_ACT_SILU,
                                    .has_bias = clamped ? 7 : 0};
    c->route = (anemo_moe_route_problem){.size = sizeof c->route,
                                         .tokens_max = m,
                                         .n_experts = c->problem.n_experts,
                                         .top_k = c->problem.top_k,
                                         .renormalise = 1,
                                         .scale = 1};
    const int64_t wanted[PICKED] = {0, m - 1, m / 2};
    for (int i = 0; i < PICKED; i++) {
        if (i == 0 || (wanted[i] != c->picked[c->n_picked - 1] && wanted[i] != 0)) {
            c->picked[c->n_picked++] = wanted[i];
        }
    }
}

static anemo_status set_routing(moe_case *c, anemo_error *err) {
    static const char *const own[] = {"uniform", "zipf:1", "single"};
    c->routing = c->base.setup.routing ? c->base.setup.routing : &c->own_routing;
    return c->base.setup.routing
               ? ANEMO_OK
               : bench_routing_create(own[c->base.shape->number[4]], &c->own_routing, err);
}

/* Names the case, and says how its tokens are spread. */
static void describe(moe_case *c) {
    const char *routing = c->base.setup.routing ? c->routing->name : NULL;
    snprintf(c->base.name, sizeof c->base.name, "moe_experts/%s%s%s/m=%lld/w=%s",
             c->base.shape->name, routing ? "/routing=" : "", routing ? routing : "",
             (long long)c->base.m, c->base.setup.weights);
    snprintf(c->base.remark, sizeof c->base.remark, "%.3g of %d experts, max/mean load %.3g",
             c->touched, c->problem.n_experts, c->imbalance);
}

static anemo_status create(const bench_shape *shape, int64_t m, const bench_setup *setup,
                           bench_case **out, anemo_error *err) {
    moe_case *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a case");
    }
    c->base = (bench_case){.ops = &bench_op_moe, .setup = *setup, .shape = shape, .m = m};
    c->base.problem = &c->problem;
    set_shape(c);
    anemo_status status = set_routing(c, err);
    status = status ? status : make_plans(c, err);
    status = status ? status : make_weights(c, err);
    if (status) {
        destroy(&c->base);
        return status;
    }
    describe(c);
    c->base.work = anemo_op_work(ANEMO_OP_MOE_EXPERTS, &c->problem, m, 0);
    c->base.work.weight_bytes = c->touched * expert_bytes(c); /* what these plans really touch */
    c->base.least_weight_bytes = c->fewest * expert_bytes(c);
    *out = &c->base;
    return ANEMO_OK;
}

static void record(const bench_case *base, anemo_record *r) {
    const moe_case *c = (const moe_case *)base;
    anemo_record_integer(r, "case", "tokens", base->m);
    anemo_record_integer(r, "case", "experts", c->problem.n_experts);
    anemo_record_integer(r, "case", "top_k", c->problem.top_k);
    anemo_record_integer(r, "case", "d", c->problem.d);
    anemo_record_integer(r, "case", "ffn", c->problem.ffn);
    anemo_record_text(r, "case", "routing", c->routing->name);
    anemo_record_number(r, "case", "experts_touched", c->touched);
    anemo_record_number(r, "case", "load_max_over_mean", c->imbalance);
}

/* ---------------------------------------------------------------- arms */

static void arm_destroy(bench_arm *base) {
    moe_arm *arm = (moe_arm *)base;
    const moe_case *c = (const moe_case *)base->c;
    for (int i = 0; arm->copies && i < PARTS * c->problem.n_experts; i++) {
        bench_copies_free(&arm->copies[i]);
    }
    free(arm->copies);
    free(arm->pointers);
    bench_arm_release(base);
    free((void *)base->args);
    free(arm);
}

static anemo_status pack_weights(moe_arm *arm, int64_t *n_copies, anemo_error *err) {
    const moe_case *c = (const moe_case *)arm->base.c;
    const int32_t experts = c->problem.n_experts, n = PARTS * experts;
    const char *name = arm->base.variant->layout;
    const anemo_layout *layout = name ? anemo_layout_find(name) : NULL;
    double layer_bytes = 0;
    for (int i = 0; i < n; i++) {
        layer_bytes += (double)bench_copy_bytes(c->weight[i], layout);
    }
    const double call_bytes = layer_bytes * c->touched / experts;
    arm->base.packed_bytes = layout ? call_bytes : 0;
    const double cold_bytes = (double)c->base.setup.cold_bytes;
    const double between_uses =
        takes_turns(c) && layer_bytes >= cold_bytes ? layer_bytes : call_bytes;
    *n_copies = (int64_t)fmax(1, ceil(cold_bytes / between_uses));
    arm->copies = calloc((size_t)n, sizeof *arm->copies);
    arm->pointers = calloc((size_t)(*n_copies * n), sizeof *arm->pointers);
    if (!arm->copies || !arm->pointers) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %s", arm->base.variant->name);
    }
    for (int i = 0; i < n; i++) {
        const anemo_status status =
            bench_copies_create(arm->base.device, bench_setup_host(&c->base.setup), c->weight[i],
                                layout, *n_copies, &arm->copies[i], err);
        if (status) {
            return status;
        }
        for (int64_t k = 0; k < *n_copies; k++) {
            arm->pointers[k * n + i] = arm->copies[i].argument[k];
        }
    }
    return ANEMO_OK;
}

/* The plan's arrays, for the arm's device to read. */
static anemo_moe_plan place_plan(moe_arm *arm, const moe_memory *m, bool *good) {
    const moe_case *c = (const moe_case *)arm->base.c;
    const size_t rows = (size_t)(c->base.m * c->problem.top_k) * sizeof(int32_t);
    const size_t experts = (size_t)c->problem.n_experts * sizeof(int32_t);
    anemo_moe_plan plan = m->plan;
    plan.expert = bench_arm_put(&arm->base, plan.expert, rows, good);
    plan.weight = bench_arm_put(&arm->base, plan.weight, rows, good);
    plan.row_token = bench_arm_put(&arm->base, plan.row_token, rows, good);
    plan.row_of = bench_arm_put(&arm->base, plan.row_of, rows, good);
    plan.count = bench_arm_put(&arm->base, plan.count, experts, good);
    plan.offset = bench_arm_put(&arm->base, plan.offset, experts + sizeof(int32_t), good);
    return plan;
}

/* What the calls share; plans[PLANS] and the pointers to weights are placed, too. */
static anemo_moe_experts_args place_shared(moe_arm *arm, int64_t n_copies, anemo_moe_plan *plans,
                                           const void *const **pointers, bool *good) {
    const moe_case *c = (const moe_case *)arm->base.c;
    const anemo_moe_experts_problem *p = &c->problem;
    const float *bias[PARTS];
    for (int i = 0; i < PARTS; i++) {
        const size_t cells = (size_t)(p->n_experts * (i == DOWN ? p->d : p->ffn));
        bias[i] = bench_arm_put(&arm->base, c->bias[i], cells * sizeof(float), good);
    }
    for (int i = 0; i < PLANS; i++) {
        plans[i] = place_plan(arm, &c->plans[i], good);
    }
    *pointers = bench_arm_put(&arm->base, arm->pointers,
                              (size_t)(n_copies * PARTS * p->n_experts) * sizeof(void *), good);
    return (anemo_moe_experts_args){.size = sizeof(anemo_moe_experts_args),
                                    .tokens = c->base.m,
                                    .x = arm->x,
                                    .gate_bias = bias[GATE],
                                    .up_bias = bias[UP],
                                    .down_bias = bias[DOWN],
                                    .rows = arm->rows.device};
}

/* Call i uses plan i % PLANS and copy i % n_copies; with a whole number of rounds through both. */
static anemo_status make_args(moe_arm *arm, int64_t n_copies, anemo_error *err) {
    const moe_case *c = (const moe_case *)arm->base.c;
    const anemo_moe_experts_problem *p = &c->problem;
    anemo_moe_plan plans[PLANS];
    const void *const *pointers = NULL;
    arm->base.n_args = n_copies * PLANS;
    arm->base.args_bytes = sizeof(anemo_moe_experts_args);
    anemo_moe_experts_args *args = calloc((size_t)arm->base.n_args, sizeof *args);
    arm->base.args = (const char *)args;
    arm->x = bench_arm_records(&arm->base, c->x, c->base.m, p->d);
    bool good = args && arm->x &&
                bench_arm_output(&arm->base, ANEMO_MEM_STEP,
                                 (size_t)(c->base.m * p->top_k * p->d) * sizeof(float), &arm->rows);
    anemo_moe_experts_args shared = {0};
    if (good) {
        shared = place_shared(arm, n_copies, plans, &pointers, &good);
    }
    if (!good) {
        return anemo_fail(err, ANEMO_E_MEMORY,
                          "%s: no memory for arguments, or activation format "
                          "'%s' is unknown",
                          arm->base.variant->name,
                          arm->base.variant->act ? arm->base.variant->act : "f32");
    }
    for (int64_t i = 0; i < arm->base.n_args; i++) {
        const void *const *of_copy = pointers + i % n_copies * PARTS * p->n_experts;
        args[i] = shared;
        args[i].plan = plans[i % PLANS];
        args[i].gate = of_copy + GATE * p->n_experts;
        args[i].up = of_copy + UP * p->n_experts;
        args[i].down = of_copy + DOWN * p->n_experts;
    }
    return ANEMO_OK;
}

static anemo_status arm_create(bench_case *base, const anemo_variant *variant, bench_arm **out,
                               anemo_error *err) {
    moe_arm *arm = calloc(1, sizeof *arm);
    int64_t n_copies = 1;
    *out = NULL;
    if (!arm) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %s", variant->name);
    }
    anemo_status status = bench_arm_begin(&arm->base, base, variant, err);
    status = status ? status : pack_weights(arm, &n_copies, err);
    status = status ? status : make_args(arm, n_copies, err);
    if (status) {
        arm_destroy(&arm->base);
        return status;
    }
    *out = &arm->base;
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- the truth */

/* Norms of the inner row h = act(W1 x) (W3 x) of one token and expert, and of what its errors scale
 * with, from the reference of qgemm. */
static anemo_status inner_norms(const moe_case *c, int32_t expert, const float *x, double *h_norm,
                                double *h_error, anemo_error *err) {
    const anemo_moe_experts_problem *p = &c->problem;
    const bench_weight *gate = c->weight[GATE * p->n_experts + expert];
    const bench_weight *up = c->weight[UP * p->n_experts + expert];
    float *y = malloc(2 * (size_t)p->ffn * sizeof *y);
    if (!y) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the reference");
    }
    const anemo_qgemm_problem problem = {.size = sizeof problem,
                                         .n_parts = 2,
                                         .m_max = 1,
                                         .k = p->d,
                                         .n = {p->ffn, p->ffn},
                                         .type = {p->gate, p->up},
                                         .has_bias = p->has_bias & 3};
    const anemo_qgemm_args args = {.size = sizeof args,
                                   .m = 1,
                                   .x = x,
                                   .weight = {&gate->canonical, &up->canonical},
                                   .bias = {p->has_bias ? c->bias[GATE] + expert * p->ffn : NULL,
                                            p->has_bias ? c->bias[UP] + expert * p->ffn : NULL},
                                   .y = {y, y + p->ffn},
                                   .y_stride = {p->ffn, p->ffn}};
    const anemo_status status =
        bench_run_reference(&c->base.setup, ANEMO_OP_QGEMM, &problem, &args, err);
    double x_squares = 0, squares = 0, errors = 0;
    for (int64_t i = 0; i < p->d; i++) {
        x_squares += (double)x[i] * x[i];
    }
    const double scale = sqrt(x_squares / (double)p->d);
    for (int64_t i = 0; !status && i < p->ffn; i++) {
        const check_estimate g = {y[i], fabs(y[i]) + scale * gate->part_norm[i],
                                  scale * gate->norm[i]};
        const float v = y[p->ffn + i];
        const check_estimate u = {v, fabs(v) + scale * up->part_norm[i], scale * up->norm[i]};
        const check_estimate h = check_act_mul((anemo_activation)p->activation, g, u);
        squares += h.value * h.value;
        errors += h.magnitude * h.magnitude;
    }
    *h_norm = sqrt(squares);
    *h_error = sqrt(errors);
    free(y);
    return status;
}

/* The picked tokens alone: their logits give the same choices, in a small plan of their own. */
static anemo_status truth_rows(const moe_case *c, truth *t, const float *x, anemo_error *err) {
    const anemo_moe_experts_problem *p = &c->problem;
    const int64_t n = c->n_picked, k = p->top_k, d = p->d;
    float logits[PICKED * 64];
    moe_memory memory = {0};
    float *sorted = malloc((size_t)(n * k * d) * sizeof *sorted);
    const void **weights = calloc((size_t)(PARTS * p->n_experts), sizeof *weights);
    anemo_status status = sorted && weights && p->n_experts <= 64
                              ? ANEMO_OK
                              : anemo_fail(err, ANEMO_E_MEMORY, "no memory for the reference");
    for (int64_t i = 0; !status && i < n; i++) {
        memcpy(logits + i * p->n_experts, c->logits + c->picked[i] * p->n_experts,
               (size_t)p->n_experts * sizeof *logits);
    }
    for (int i = 0; !status && i < PARTS * p->n_experts; i++) {
        weights[i] = &c->weight[i]->canonical;
    }
    status = status ? status : route(c, logits, n, &memory, err);
    if (!status) {
        anemo_moe_experts_problem problem = *p;
        problem.tokens_max = n;
        const anemo_moe_experts_args args = {.size = sizeof args,
                                             .tokens = n,
                                             .x = x,
                                             .plan = memory.plan,
                                             .gate = weights + GATE * p->n_experts,
                                             .up = weights + UP * p->n_experts,
                                             .down = weights + DOWN * p->n_experts,
                                             .gate_bias = c->bias[GATE],
                                             .up_bias = c->bias[UP],
                                             .down_bias = c->bias[DOWN],
                                             .rows = sorted};
        status = bench_run_reference(&c->base.setup, ANEMO_OP_MOE_EXPERTS, &problem, &args, err);
    }
    for (int64_t i = 0; !status && i < n * k; i++) {
        memcpy(t->rows + i * d, sorted + memory.plan.row_of[i] * d, (size_t)d * sizeof *sorted);
        status = inner_norms(c, memory.plan.expert[i], x + i / k * d, &t->h_norm[i], &t->h_error[i],
                             err);
    }
    plan_free(&memory);
    free(sorted);
    free(weights);
    return status;
}

static anemo_status find_truth(moe_case *c, const char *feed, const truth **out, anemo_error *err) {
    for (int i = 0; i < c->n_truths; i++) {
        if (strcmp(c->truths[i].feed, feed) == 0) {
            *out = &c->truths[i];
            return ANEMO_OK;
        }
    }
    if (c->n_truths == FEEDS) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED, "more than %d activation formats in one case",
                          FEEDS);
    }
    truth *t = &c->truths[c->n_truths++]; /* destroy() frees what it gets, whatever happens here */
    const int64_t rows = c->n_picked * c->problem.top_k, d = c->problem.d;
    t->rows = malloc((size_t)(rows * d) * sizeof *t->rows);
    t->h_norm = malloc((size_t)rows * sizeof *t->h_norm);
    t->h_error = malloc((size_t)rows * sizeof *t->h_error);
    float *picked = malloc((size_t)(c->n_picked * d) * sizeof *picked), *x = NULL;
    if (t->rows && t->h_norm && t->h_error && picked) {
        for (int64_t i = 0; i < c->n_picked; i++) {
            memcpy(picked + i * d, c->x + c->picked[i] * d, (size_t)d * sizeof *picked);
        }
        x = check_act_through(feed, picked, c->n_picked, d);
    }
    const anemo_status status =
        x ? truth_rows(c, t, x, err)
          : anemo_fail(err, ANEMO_E_MEMORY,
                       "no memory for the reference, or activation format '%s' is unknown", feed);
    if (!status) {
        snprintf(t->feed, sizeof t->feed, "%s", feed);
    }
    free(x);
    free(picked);
    *out = t;
    return status;
}

/* ---------------------------------------------------------------- check */

static void judge(const moe_case *c, const float *rows, const truth *t, bench_judge *judge) {
    const anemo_moe_experts_problem *p = &c->problem;
    const int64_t k = p->top_k, d = p->d;
    const double terms = (double)(d > p->ffn ? d : p->ffn);
    for (int64_t i = 0; i < c->n_picked * k; i++) {
        const int64_t at = c->picked[i / k] * k + i % k; /* [token, choice] of plan 0 */
        const int64_t row = c->plans[0].plan.row_of[at];
        const bench_weight *down = c->weight[DOWN * p->n_experts + c->plans[0].plan.expert[at]];
        for (int64_t j = 0; j < d; j++) {
            const double want = t->rows[i * d + j];
            const double spread = t->h_norm[i] * down->norm[j] / sqrt((double)p->ffn);
            const double magnitude =
                fabs(want) + (t->h_norm[i] * down->part_norm[j] + t->h_error[i] * down->norm[j]) /
                                 sqrt((double)p->ffn);
            bench_judge_take(judge, "rows", row, j, rows[row * d + j], want, magnitude, terms,
                             spread);
        }
    }
    for (int64_t i = 0; i < c->base.m * k * d; i++) { /* also in rows that were not picked */
        if (!isfinite(rows[i])) {
            bench_judge_take(judge, "rows", i / d, i % d, rows[i], 0, 1, 1, 1);
        }
    }
}

static anemo_status check(bench_arm *base, bench_verdict *out, anemo_error *err) {
    moe_arm *arm = (moe_arm *)base;
    moe_case *c = (moe_case *)base->c;
    const bool reference = base->variant->traits & ANEMO_TRAIT_REFERENCE;
    const truth *t = NULL;
    const char *feed = base->variant->act && !reference ? base->variant->act : "f32";
    anemo_status status = find_truth(c, feed, &t, err);
    memset(arm->rows.host, 0xff, arm->rows.bytes);
    status = status ? status : bench_output_push(base, &arm->rows, err);
    status = status ? status : bench_arm_run(base, 0, err);
    status = status ? status : bench_output_pull(base, &arm->rows, err);
    if (!status) {
        bench_judge j = bench_judge_of(base->variant);
        judge(c, arm->rows.host, t, &j);
        bench_judge_end(&j, out);
    }
    return status;
}

static anemo_status quantise(bench_arm *base, anemo_error *err) {
    const moe_case *c = (const moe_case *)base->c;
    return bench_arm_quantises(base, c->x, ((moe_arm *)base)->x, c->base.m, c->problem.d, err);
}

const bench_op bench_op_moe = {
    .op = ANEMO_OP_MOE_EXPERTS,
    .create = create,
    .destroy = destroy,
    .arm_create = arm_create,
    .arm_destroy = arm_destroy,
    .check = check,
    .record = record,
    .quantise = quantise,
};
