/* moe_route, moe_experts and moe_combine against computations of this file: every CPU variant. */
#include "harness/check/op.h"
#include "harness/check/weight.h"
#include "tests/support/op_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---------------------------------------------------------------- plans */

static anemo_moe_plan plan_create(int64_t tokens, int32_t n_experts, int32_t top_k) {
    const size_t rows = (size_t)tokens * (size_t)top_k, n = (size_t)n_experts;
    anemo_moe_plan plan = {.size = sizeof plan};
    plan.expert = op_poisoned(rows * sizeof(int32_t));
    plan.weight = op_poisoned(rows * sizeof(float));
    plan.count = op_poisoned(n * sizeof(int32_t));
    plan.offset = op_poisoned((n + 1) * sizeof(int32_t));
    plan.row_token = op_poisoned(rows * sizeof(int32_t));
    plan.row_of = op_poisoned(rows * sizeof(int32_t));
    return plan;
}

static void plan_free(anemo_moe_plan *plan) {
    free(plan->expert), free(plan->weight), free(plan->count);
    free(plan->offset), free(plan->row_token), free(plan->row_of);
}

/* Fills the sorted part from plan->expert, the slow and plain way. */
static void plan_sort(anemo_moe_plan *plan, int64_t tokens, int32_t n_experts, int32_t top_k) {
    int32_t row = 0;
    for (int32_t e = 0; e < n_experts; e++) {
        plan->offset[e] = row;
        for (int64_t i = 0; i < tokens * top_k; i++)
            if (plan->expert[i] == e) {
                plan->row_token[row] = (int32_t)(i / top_k);
                plan->row_of[i] = row++;
            }
        plan->count[e] = row - plan->offset[e];
    }
    plan->offset[n_experts] = row;
}

static bool same_plan(const anemo_moe_plan *a, const anemo_moe_plan *b, int64_t tokens,
                      int32_t n_experts, int32_t top_k, bool weights) {
    const size_t rows = (size_t)tokens * (size_t)top_k * 4, n = (size_t)n_experts * 4;
    return !memcmp(a->expert, b->expert, rows) && !memcmp(a->count, b->count, n) &&
           !memcmp(a->offset, b->offset, n + 4) && !memcmp(a->row_token, b->row_token, rows) &&
           !memcmp(a->row_of, b->row_of, rows) && (!weights || !memcmp(a->weight, b->weight, rows));
}

/* ---------------------------------------------------------------- moe_route */

static anemo_status route(const anemo_variant *v, int32_t n_threads,
                          const anemo_moe_route_problem *p, int64_t tokens, const float *logits,
                          const float *bias, anemo_moe_plan plan) {
    const anemo_moe_route_args a = {
        .size = sizeof a, .tokens = tokens, .logits = logits, .selection_bias = bias, .plan = plan};
    return op_run(v, n_threads, p, &a);
}

/* One token by hand: what is chosen, and the weights. */
static void expect_route(anemo_moe_route_problem p, const float *logits, const float *bias,
                         const int32_t *experts, const double *weights) {
    const op_variants variants = op_variants_of(ANEMO_OP_MOE_ROUTE);
    p.size = sizeof p;
    p.tokens_max = 1;
    for (int32_t i = 0; i < variants.n; i++) {
        anemo_moe_plan plan = plan_create(1, p.n_experts, p.top_k);
        assert_int_equal(route(variants.at[i], 1, &p, 1, logits, bias, plan), ANEMO_OK);
        for (int32_t j = 0; j < p.top_k; j++)
            assert_int_equal(plan.expert[j], experts[j]);
        op_assert_near(variants.at[i]->name, plan.weight, weights, (size_t)p.top_k, 1e-7);
        plan_free(&plan);
    }
}

static void test_route_by_hand(void **state) {
    (void)state;
    const float logits[4] = {1, 2, 3, 4}, ties[4] = {2, 5, 5, 5};
    const double all = exp(1) + exp(2) + exp(3) + exp(4);
    const anemo_moe_route_problem mixtral = {
        .n_experts = 4, .top_k = 2, .score = ANEMO_MOE_SOFTMAX, .renormalise = 1, .scale = 1};
    expect_route(mixtral, logits, NULL, (int32_t[]){3, 2},
                 (double[]){1 / (1 + exp(-1)), 1 / (1 + exp(1))});
    expect_route(mixtral, ties, NULL, (int32_t[]){1, 2}, (double[]){0.5, 0.5});
    expect_route(mixtral, (float[]){7, 7, 7, 7}, NULL, (int32_t[]){0, 1}, (double[]){0.5, 0.5});

    anemo_moe_route_problem p = mixtral;
    p.renormalise = 0;
    expect_route(p, logits, NULL, (int32_t[]){3, 2}, (double[]){exp(4) / all, exp(3) / all});
    p.scale = 2.5f;
    expect_route(p, logits, NULL, (int32_t[]){3, 2},
                 (double[]){2.5 * exp(4) / all, 2.5 * exp(3) / all});
    p = mixtral;
    p.top_k = 4;
    expect_route(p, ties, NULL, (int32_t[]){1, 2, 3, 0},
                 (double[]){1 / (3 + exp(-3)), 1 / (3 + exp(-3)), 1 / (3 + exp(-3)),
                            exp(-3) / (3 + exp(-3))});
    p.top_k = 1;
    expect_route(p, (float[]){-1e30f, 1e30f, 1e30f, 0}, NULL, (int32_t[]){1}, (double[]){1});
}

/* Two logits that no rounded probability tells apart are still two different logits. */
static void test_route_near_ties(void **state) {
    (void)state;
    const anemo_moe_route_problem p = {
        .n_experts = 3, .top_k = 1, .score = ANEMO_MOE_SIGMOID, .renormalise = 1, .scale = 1};
    expect_route(p, (float[]){50, nextafterf(50, 60), 0}, NULL, (int32_t[]){1}, (double[]){1});
    expect_route(p, (float[]){-200, -201, nextafterf(-200, 0)}, NULL, (int32_t[]){2},
                 (double[]){1});
}

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static void test_route_bias_chooses_only(void **state) {
    (void)state;
    anemo_moe_route_problem p = {
        .n_experts = 4, .top_k = 2, .score = ANEMO_MOE_SIGMOID, .renormalise = 1, .scale = 1};
    const float logits[4] = {0, 1, 2, 3}, bias[4] = {1, 0, 0, -1};
    const double low = sigmoid(0), high = sigmoid(2);
    /* scores 0.5 .73 .88 .95, with bias 1.5 .73 .88 -.05: 0 and 2, weights without the bias */
    expect_route(p, logits, bias, (int32_t[]){0, 2},
                 (double[]){low / (low + high), high / (low + high)});
    p.renormalise = 0;
    expect_route(p, logits, bias, (int32_t[]){0, 2}, (double[]){low, high});
    expect_route(p, logits, NULL, (int32_t[]){3, 2}, (double[]){sigmoid(3), sigmoid(2)});
    /* equal sums go to the lower index: the scores are equal, the biases too */
    expect_route(p, (float[]){1, 0, 1, 1}, (float[]){0, 0, 0.25f, 0.25f}, (int32_t[]){2, 3},
                 (double[]){sigmoid(1), sigmoid(1)});
    p.score = ANEMO_MOE_SOFTMAX;
    p.renormalise = 1;
    const double sum = exp(0) + exp(2);
    expect_route(p, logits, bias, (int32_t[]){0, 2}, (double[]){1 / sum, exp(2) / sum});
}

static void test_route_refuses_nonsense(void **state) {
    (void)state;
    const op_variants variants = op_variants_of(ANEMO_OP_MOE_ROUTE);
    anemo_moe_route_problem p = {.size = sizeof p,
                                 .tokens_max = 3,
                                 .n_experts = 4,
                                 .top_k = 2,
                                 .score = ANEMO_MOE_SOFTMAX,
                                 .renormalise = 1,
                                 .scale = 1};
    const float bad[][4] = {
        {0, 1, NAN, 2}, {0, INFINITY, 1, 2}, {-INFINITY, -INFINITY, -INFINITY, -INFINITY}};
    const float nan_bias[4] = {0, NAN, 0, 0};
    anemo_moe_plan plan = plan_create(3, 4, 2);
    for (int32_t i = 0; i < variants.n; i++) {
        const anemo_variant *v = variants.at[i];
        for (size_t j = 0; j < sizeof bad / sizeof *bad; j++)
            for (int32_t score = 0; score < 2; score++) {
                float logits[12] = {1, 2, 3, 4, 0, 0, 0, 0, 4, 3, 2, 1};
                p.score = score;
                assert_int_equal(route(v, 2, &p, 3, logits, NULL, plan), ANEMO_OK);
                memcpy(logits + 4, bad[j], sizeof bad[j]);
                assert_int_equal(route(v, 2, &p, 3, logits, NULL, plan), ANEMO_E_NUMERIC);
            }
        const float logits[4] = {1, 2, 3, 4};
        assert_int_equal(route(v, 1, &p, 1, logits, nan_bias, plan), ANEMO_E_NUMERIC);
        /* sigmoid scores that are all zero cannot be divided by their sum */
        const float far[4] = {-1000, -1000, -1000, -1000};
        p.score = ANEMO_MOE_SIGMOID;
        assert_int_equal(route(v, 1, &p, 1, far, NULL, plan), ANEMO_E_NUMERIC);
        p.renormalise = 0;
        assert_int_equal(route(v, 1, &p, 1, far, NULL, plan), ANEMO_OK);
        assert_true(plan.weight[0] == 0);
        p.renormalise = 1;
        assert_int_equal(route(v, 1, &p, 4, logits, NULL, plan), ANEMO_E_INPUT);
        const anemo_moe_route_args a = {.tokens = 1, .logits = logits, .plan = plan};
        assert_int_equal(op_run_short(v, &p, &a, 1), ANEMO_E_MEMORY);
    }
    plan_free(&plan);
    p.score = ANEMO_MOE_SOFTMAX;
    /* an expert that is switched off is chosen last, with weight 0 */
    anemo_moe_route_problem three = p;
    three.top_k = 3;
    expect_route(three, (float[]){-INFINITY, 1, -INFINITY, 1}, NULL, (int32_t[]){1, 3, 0},
                 (double[]){0.5, 0.5, 0});
}

static void test_route_accepts(void **state) {
    (void)state;
    const anemo_variant *v = op_variants_of(ANEMO_OP_MOE_ROUTE).at[0];
    const anemo_moe_route_problem good = {
        .size = sizeof good, .tokens_max = 1, .n_experts = 8, .top_k = 2, .scale = 1};
    assert_false(op_refuses(v, &good));
    anemo_moe_route_problem p = good;
    p.top_k = 9;
    assert_true(op_refuses(v, &p));
    p.top_k = 0;
    assert_true(op_refuses(v, &p));
    p = good, p.n_experts = 0;
    assert_true(op_refuses(v, &p));
    p = good, p.score = 2;
    assert_true(op_refuses(v, &p));
    p = good, p.scale = NAN;
    assert_true(op_refuses(v, &p));
    p = good, p.tokens_max = INT32_MAX;
    assert_true(op_refuses(v, &p)); /* row numbers would not fit 32 bits */
}

/* Choice and weights of one token in the plainest way: sort all experts by (value, index). */
static void route_slowly(const anemo_moe_route_problem *p, const float *logits, const float *bias,
                         int32_t *expert, double *weight) {
    const int32_t n = p->n_experts;
    double score[256], value[256], all = 0, chosen = 0;
    int32_t order[256];
    for (int32_t e = 0; e < n; e++)
        all += exp(logits[e]);
    for (int32_t e = 0; e < n; e++) {
        score[e] = p->score == ANEMO_MOE_SIGMOID ? sigmoid(logits[e]) : exp(logits[e]) / all;
        value[e] = bias ? score[e] + bias[e] : logits[e];
        int32_t at = e;
        for (; at > 0 && value[order[at - 1]] < value[e]; at--)
            order[at] = order[at - 1];
        order[at] = e;
    }
    for (int32_t j = 0; j < p->top_k; j++)
        chosen += score[order[j]];
    for (int32_t j = 0; j < p->top_k; j++) {
        expert[j] = order[j];
        weight[j] = score[order[j]] / (p->renormalise ? chosen : 1) * p->scale;
    }
}

/* Random tokens; `steps` > 0 rounds logits to that many values, so that most choices are ties. */
static void check_route(check_random *random, anemo_moe_route_problem p, int64_t tokens, int steps,
                        bool biased) {
    const op_variants variants = op_variants_of(ANEMO_OP_MOE_ROUTE);
    const size_t rows = (size_t)tokens * (size_t)p.top_k;
    float *logits = op_random_floats(random, (size_t)(tokens * p.n_experts), 2);
    float *bias = biased ? op_random_floats(random, (size_t)p.n_experts, 0.3) : NULL;
    for (int64_t i = 0; steps && i < tokens * p.n_experts; i++)
        logits[i] = (float)check_random_below(random, steps);
    p.size = sizeof p;
    p.tokens_max = tokens + 5;
    anemo_moe_plan want = plan_create(tokens, p.n_experts, p.top_k);
    double *weight = op_poisoned(rows * sizeof *weight);
    for (int64_t t = 0; t < tokens; t++)
        route_slowly(&p, logits + t * p.n_experts, bias, want.expert + t * p.top_k,
                     weight + t * p.top_k);
    plan_sort(&want, tokens, p.n_experts, p.top_k);
    for (int32_t i = 0; i < variants.n; i++) {
        anemo_moe_plan one = plan_create(tokens, p.n_experts, p.top_k);
        anemo_moe_plan three = plan_create(tokens, p.n_experts, p.top_k);
        assert_int_equal(route(variants.at[i], 1, &p, tokens, logits, bias, one), ANEMO_OK);
        assert_int_equal(route(variants.at[i], 3, &p, tokens, logits, bias, three), ANEMO_OK);
        assert_true(same_plan(&one, &want, tokens, p.n_experts, p.top_k, false));
        assert_true(same_plan(&one, &three, tokens, p.n_experts, p.top_k, true));
        op_assert_near(variants.at[i]->name, one.weight, weight, rows, 2e-7 * fmax(1, p.scale));
        plan_free(&one), plan_free(&three);
    }
    plan_free(&want);
    free(weight), free(logits), free(bias);
}

static void test_route_random(void **state) {
    (void)state;
    check_random random = check_random_seed(1, 2, 3);
    const int32_t experts[] = {1, 2, 8, 60, 128}, top_k[] = {1, 2, 4, 8};
    const int64_t tokens[] = {0, 1, 7, 150};
    for (size_t e = 0; e < 5; e++)
        for (size_t k = 0; k < 4; k++)
            for (size_t t = 0; t < 4; t++)
                for (int mode = 0; mode < 8; mode++) {
                    const anemo_moe_route_problem p = {.n_experts = experts[e],
                                                       .top_k = top_k[k],
                                                       .score = mode & 1,
                                                       .renormalise = mode >> 1 & 1,
                                                       .scale = mode & 1 ? 2.5f : 1};
                    if (p.top_k > p.n_experts)
                        continue;
                    check_route(&random, p, tokens[t], 0, mode >> 2);
                    check_route(&random, p, tokens[t], 3, false);
                }
}

/* ---------------------------------------------------------------- moe_experts */

typedef struct experts_case {
    anemo_moe_experts_problem p;
    int64_t tokens;
    float *x;
    anemo_moe_plan plan;
    check_weight **weight[3]; /* gate, up, down: [n_experts] */
    const void **pointer[3];
    float *bias[3];
    double *want; /* [R, d] in sorted order */
} experts_case;

typedef enum routing { ROUTING_RANDOM, ROUTING_ONE_EXPERT, ROUTING_SOME_EMPTY } routing;

static void choose_experts(check_random *random, experts_case *c, routing how) {
    const int32_t n = c->p.n_experts, k = c->p.top_k;
    for (int64_t t = 0; t < c->tokens; t++) {
        int32_t order[64];
        for (int32_t e = 0; e < n; e++)
            order[e] = e;
        if (how !=
            ROUTING_ONE_EXPERT) /* SOME_EMPTY: only the first k + 1 experts are ever chosen */
            check_random_shuffle(random, order, how == ROUTING_SOME_EMPTY ? k + 1 : n);
        memcpy(c->plan.expert + t * k, order, (size_t)k * sizeof *order);
    }
    plan_sort(&c->plan, c->tokens, n, k);
}

static double act_mul(int32_t activation, double g, double u) {
    if (activation == ANEMO_ACT_SILU)
        return g * sigmoid(g) * u;
    g = fmin(g, 7);
    u = fmax(fmin(u, 7), -7);
    return (u + 1) * g * sigmoid(1.702 * g);
}

/* Token by token, choice by choice; not sorted, not shared. */
static void experts_slowly(experts_case *c) {
    const int64_t d = c->p.d, ffn = c->p.ffn;
    double *h = op_poisoned((size_t)ffn * sizeof *h);
    for (int64_t i = 0; i < c->tokens * c->p.top_k; i++) {
        const int32_t e = c->plan.expert[i];
        const float *x = c->x + i / c->p.top_k * d;
        double *y = c->want + c->plan.row_of[i] * d;
        for (int64_t j = 0; j < ffn; j++) {
            double g = c->bias[0] ? c->bias[0][e * ffn + j] : 0;
            double u = c->bias[1] ? c->bias[1][e * ffn + j] : 0;
            for (int64_t l = 0; l < d; l++) {
                g += c->weight[0][e]->dense[j * d + l] * x[l];
                u += c->weight[1][e]->dense[j * d + l] * x[l];
            }
            h[j] = act_mul(c->p.activation, g, u);
        }
        for (int64_t l = 0; l < d; l++) {
            y[l] = c->bias[2] ? c->bias[2][e * d + l] : 0;
            for (int64_t j = 0; j < ffn; j++)
                y[l] += c->weight[2][e]->dense[l * ffn + j] * h[j];
        }
    }
    free(h);
}

static experts_case experts_case_create(check_random *random, anemo_moe_experts_problem p,
                                        int64_t tokens, routing how) {
    experts_case c = {.p = p, .tokens = tokens};
    const int64_t d = p.d, ffn = p.ffn;
    const anemo_weight_type types[3] = {p.gate, p.up, p.down};
    c.p.size = sizeof c.p;
    c.p.tokens_max = tokens ? tokens : 1;
    c.p.expert_end = p.expert_end ? p.expert_end : p.n_experts;
    c.x = op_random_floats(random, (size_t)(tokens * d), 1);
    c.plan = plan_create(tokens, p.n_experts, p.top_k);
    choose_experts(random, &c, how);
    for (int i = 0; i < 3; i++) {
        const int64_t n = i < 2 ? ffn : d, k = i < 2 ? d : ffn;
        c.weight[i] = op_poisoned((size_t)p.n_experts * sizeof *c.weight[i]);
        c.pointer[i] = op_poisoned((size_t)p.n_experts * sizeof *c.pointer[i]);
        for (int32_t e = 0; e < p.n_experts; e++) {
            c.weight[i][e] = check_weight_create(random, &types[i], n, k, 1.5 / sqrt((double)k));
            assert_non_null(c.weight[i][e]);
            c.pointer[i][e] = &c.weight[i][e]->canonical;
        }
        if (p.has_bias >> i & 1)
            c.bias[i] = op_random_floats(random, (size_t)(p.n_experts * n), 0.5);
    }
    c.want = op_poisoned((size_t)(tokens * p.top_k * d) * sizeof *c.want);
    experts_slowly(&c);
    return c;
}

static void experts_case_free(experts_case *c) {
    for (int i = 0; i < 3; i++) {
        for (int32_t e = 0; e < c->p.n_experts; e++)
            check_weight_free(c->weight[i][e]);
        free(c->weight[i]), free(c->pointer[i]), free(c->bias[i]);
    }
    plan_free(&c->plan);
    free(c->x), free(c->want);
}

static anemo_status run_experts(const experts_case *c, const anemo_variant *v, int32_t n_threads,
                                float *rows) {
    const anemo_moe_experts_args a = {.size = sizeof a,
                                      .tokens = c->tokens,
                                      .x = c->x,
                                      .plan = c->plan,
                                      .gate = c->pointer[0],
                                      .up = c->pointer[1],
                                      .down = c->pointer[2],
                                      .gate_bias = c->bias[0],
                                      .up_bias = c->bias[1],
                                      .down_bias = c->bias[2],
                                      .rows = rows};
    return op_run(v, n_threads, &c->p, &a);
}

static double largest(const double *x, size_t n) {
    double max = 0;
    for (size_t i = 0; i < n; i++)
        max = fmax(max, fabs(x[i]));
    return max;
}

/* Every variant: rows of the expert range right, the others untouched, three threads as one. The
 * bound: float sums of k terms of like size err by about sqrt(k) 2^-24 of the result's scale. */
static void check_experts(check_random *random, anemo_moe_experts_problem p, int64_t tokens,
                          routing how) {
    const op_variants variants = op_variants_of(ANEMO_OP_MOE_EXPERTS);
    experts_case c = experts_case_create(random, p, tokens, how);
    const int64_t d = p.d, begin = c.plan.offset[c.p.expert_begin] * d;
    const int64_t end = c.plan.offset[c.p.expert_end] * d, n = tokens * p.top_k * d;
    const double bound = 1e-5 * largest(c.want, (size_t)n);
    for (int32_t i = 0; i < variants.n; i++) {
        float *one = op_poisoned((size_t)n * sizeof *one);
        float *three = op_poisoned((size_t)n * sizeof *three);
        assert_int_equal(run_experts(&c, variants.at[i], 1, one), ANEMO_OK);
        assert_int_equal(run_experts(&c, variants.at[i], 3, three), ANEMO_OK);
        op_assert_near(variants.at[i]->name, one + begin, c.want + begin, (size_t)(end - begin),
                       bound);
        assert_memory_equal(one, three, (size_t)n * sizeof *one);
        for (int64_t j = 0; j < n; j++)
            if (j < begin || j >= end)
                assert_true(isnan(one[j]));
        free(one), free(three);
    }
    experts_case_free(&c);
}

static anemo_moe_experts_problem small_experts(void) {
    const anemo_weight_type f32 = check_weight_type_float(ANEMO_CODE_F32);
    return (anemo_moe_experts_problem){
        .n_experts = 8, .top_k = 2, .d = 24, .ffn = 40, .gate = f32, .up = f32, .down = f32};
}

static void test_experts_sizes(void **state) {
    (void)state;
    check_random random = check_random_seed(4, 5, 6);
    const int64_t widths[][2] = {{1, 1}, {5, 7}, {16, 16}, {33, 70}, {66, 19}, {128, 256}};
    const int64_t tokens[] = {0, 1, 2, 3, 17, 64, 150};
    for (size_t w = 0; w < 6; w++)
        for (size_t t = 0; t < 7; t++)
            for (int how = ROUTING_RANDOM; how <= ROUTING_SOME_EMPTY; how++) {
                anemo_moe_experts_problem p = small_experts();
                p.d = widths[w][0];
                p.ffn = widths[w][1];
                p.n_experts = w == 5 ? 4 : 8;
                check_experts(&random, p, tokens[t], (routing)how);
            }
}

static void test_experts_bias_activation_range(void **state) {
    (void)state;
    check_random random = check_random_seed(7, 8, 9);
    for (int mode = 0; mode < 16; mode++) {
        anemo_moe_experts_problem p = small_experts();
        p.has_bias = mode & 7;
        p.activation = mode >> 3;
        check_experts(&random, p, 20, ROUTING_RANDOM);
        p.expert_begin = mode % 5;
        p.expert_end = p.expert_begin + mode % 4; /* 0: all experts from expert_begin on */
        check_experts(&random, p, 20, ROUTING_RANDOM);
    }
    anemo_moe_experts_problem p = small_experts();
    p.expert_begin = p.expert_end = 3; /* a rank without experts does nothing */
    check_experts(&random, p, 9, ROUTING_RANDOM);
}

static void test_experts_weight_types(void **state) {
    (void)state;
    check_random random = check_random_seed(10, 11, 12);
    for (int32_t i = 0; i < check_weight_type_count(); i++) {
        anemo_moe_experts_problem p = small_experts();
        p.gate = check_weight_type_at(i);
        p.up = check_weight_type_at((i + 1) % check_weight_type_count());
        p.down = check_weight_type_at((i + 2) % check_weight_type_count());
        p.d = 128, p.ffn = 256, p.n_experts = 3;
        check_experts(&random, p, 5, ROUTING_RANDOM);
    }
}

/* A token's rows depend on nothing but the token: alone, in a batch, beside a NaN. */
static void test_experts_rows_are_their_own(void **state) {
    (void)state;
    check_random random = check_random_seed(13, 14, 15);
    const op_variants variants = op_variants_of(ANEMO_OP_MOE_EXPERTS);
    anemo_moe_experts_problem p = small_experts();
    p.has_bias = 7;
    experts_case c = experts_case_create(&random, p, 30, ROUTING_RANDOM);
    const int64_t d = p.d, n = 30 * 2 * d;
    for (int32_t i = 0; i < variants.n; i++) {
        const anemo_variant *v = variants.at[i];
        float *all = op_poisoned((size_t)n * sizeof *all), *part = op_poisoned((size_t)(2 * d) * 4);
        assert_int_equal(run_experts(&c, v, 2, all), ANEMO_OK);
        for (int64_t t = 0; v->traits & ANEMO_TRAIT_ROW_INVARIANT && t < c.tokens; t++) {
            experts_case alone = c;
            alone.tokens = 1;
            alone.x = c.x + t * d;
            alone.plan = plan_create(1, p.n_experts, 2);
            memcpy(alone.plan.expert, c.plan.expert + 2 * t, 2 * sizeof(int32_t));
            plan_sort(&alone.plan, 1, p.n_experts, 2);
            assert_int_equal(run_experts(&alone, v, 1, part), ANEMO_OK);
            for (int j = 0; j < 2; j++)
                assert_memory_equal(part + alone.plan.row_of[j] * d,
                                    all + c.plan.row_of[2 * t + j] * d, (size_t)d * 4);
            plan_free(&alone.plan);
        }
        const float kept = c.x[7 * d + 3];
        float *with_nan = op_poisoned((size_t)n * sizeof *with_nan);
        c.x[7 * d + 3] = NAN;
        for (int32_t activation = 0; activation < 2; activation++) {
            c.p.activation = activation;
            assert_int_equal(run_experts(&c, v, 2, with_nan), ANEMO_OK);
            for (int64_t r = 0; r < 60; r++)
                for (int64_t l = 0; l < d; l++)
                    assert_int_equal(isnan(with_nan[r * d + l]) != 0, c.plan.row_token[r] == 7);
        }
        c.p.activation = ANEMO_ACT_SILU;
        c.x[7 * d + 3] = kept;
        free(all), free(part), free(with_nan);
    }
    experts_case_free(&c);
}

/* The case as a variant with a layout and an activation format wants it. */
static experts_case packed_for(const experts_case *c, const anemo_variant *v) {
    const anemo_layout *layout = anemo_layout_find(v->layout);
    experts_case packed = *c;
    size_t bytes;
    packed.x = check_act_encode(v->act ? v->act : "f32", c->x, c->tokens, c->p.d, &bytes);
    assert_non_null(packed.x);
    for (int i = 0; i < 3; i++) {
        packed.pointer[i] = op_poisoned((size_t)c->p.n_experts * sizeof *packed.pointer[i]);
        for (int32_t e = 0; e < c->p.n_experts; e++) {
            const anemo_weight *w = &c->weight[i][e]->canonical;
            void *memory =
                aligned_alloc(64, (layout->packed_bytes(&w->type, w->n, w->k) + 63) & ~(size_t)63);
            assert_int_equal(layout->pack(w, 0, w->n, memory), ANEMO_OK);
            packed.pointer[i][e] = memory;
        }
    }
    return packed;
}

static void packed_free(experts_case *packed) {
    for (int i = 0; i < 3; i++) {
        for (int32_t e = 0; e < packed->p.n_experts; e++)
            free((void *)packed->pointer[i][e]);
        free(packed->pointer[i]);
    }
    free(packed->x);
}

static void expect_nan_of_token(const experts_case *c, const float *rows, int32_t token) {
    for (int64_t r = 0; r < c->tokens * c->p.top_k; r++)
        for (int64_t l = 0; l < c->p.d; l++)
            assert_int_equal(isnan(rows[r * c->p.d + l]) != 0, c->plan.row_token[r] == token);
}

/* Variants with a layout: the same bits for any number of threads and from every dispatch of one
 * arithmetic (fused and naive), and a NaN stays with its token. */
static void test_experts_packed(void **state) {
    (void)state;
    check_random random = check_random_seed(19, 20, 21);
    const anemo_weight_type types[] = {
        check_weight_type_linear(4, 128, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE),
        check_weight_type_linear(8, 128, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE),
        check_weight_type_float(ANEMO_CODE_BF16)};
    for (int type = 0; type < 3; type++) {
        anemo_moe_experts_problem p = small_experts();
        p.gate = p.up = p.down = types[type];
        p.d = 200, p.ffn = 300, p.has_bias = 7, p.activation = type % 2, p.n_experts = 4;
        experts_case c = experts_case_create(&random, p, 130, ROUTING_ONE_EXPERT);
        const size_t n = 130 * 2 * 200;
        float *one = op_poisoned(n * sizeof *one), *rows = op_poisoned(n * sizeof *rows);
        float *same = op_poisoned(n * sizeof *same); /* of the first that reads a8_g32 */
        bool has_same = false;
        for (int32_t i = 0; i < anemo_variant_count(); i++) {
            const anemo_variant *v = anemo_variant_at(i);
            if (v->op != ANEMO_OP_MOE_EXPERTS || v->backend != ANEMO_CPU || !v->layout ||
                !anemo_variant_supports(v, 0, &c.p, NULL, 0))
                continue;
            experts_case packed = packed_for(&c, v);
            assert_int_equal(run_experts(&packed, v, 1, one), ANEMO_OK);
            assert_int_equal(run_experts(&packed, v, 3, rows), ANEMO_OK);
            assert_memory_equal(rows, one, n * sizeof *rows);
            if (v->act && strcmp(v->act, "a8_g32") == 0) {
                if (has_same)
                    assert_memory_equal(one, same, n * sizeof *one);
                memcpy(same, one, n * sizeof *same);
                has_same = true;
            }
            packed_free(&packed);
            const float kept = c.x[7 * p.d + 3];
            c.x[7 * p.d + 3] = NAN;
            packed = packed_for(&c, v);
            assert_int_equal(run_experts(&packed, v, 2, rows), ANEMO_OK);
            expect_nan_of_token(&c, rows, 7);
            c.x[7 * p.d + 3] = kept;
            packed_free(&packed);
        }
        free(one), free(rows), free(same);
        experts_case_free(&c);
    }
}

static atomic_int rows_read;

static void count_and_read(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                           float *scales, float *offsets) {
    const anemo_weight *real = weight->reader_data;
    atomic_fetch_add(&rows_read, 1);
    real->read_row(real, row, values, codes, scales, offsets);
}

/* Decoding is paid once per weight row and call, and not at all for an expert without rows. */
static void test_experts_decode_once(void **state) {
    (void)state;
    check_random random = check_random_seed(16, 17, 18);
    const anemo_variant *v = anemo_variant_find("moe_experts_c");
    anemo_moe_experts_problem p = small_experts();
    experts_case c = experts_case_create(&random, p, 50, ROUTING_SOME_EMPTY);
    anemo_weight counting[3][8];
    for (int i = 0; i < 3; i++)
        for (int32_t e = 0; e < 8; e++) {
            counting[i][e] = c.weight[i][e]->canonical;
            counting[i][e].reader_data = &c.weight[i][e]->canonical;
            counting[i][e].read_row = count_and_read;
            c.pointer[i][e] =
                e < 3 ? &counting[i][e] : NULL; /* of experts 3 .. 7 nothing is read */
        }
    float *rows = op_poisoned((size_t)(100 * p.d) * sizeof *rows);
    atomic_store(&rows_read, 0);
    assert_int_equal(run_experts(&c, v, 3, rows), ANEMO_OK);
    assert_int_equal(atomic_load(&rows_read), 3 * (2 * p.ffn + p.d));
    op_assert_near("counted", rows, c.want, (size_t)(100 * p.d),
                   1e-5 * largest(c.want, (size_t)(100 * p.d)));
    free(rows);
    experts_case_free(&c);
}

static void test_experts_silu_tails(void **state) {
    (void)state;
    /* one hidden unit, gate weight 1, up weight 1, down weight 1: rows = act(x) * x for any x */
    const float values[] = {-1e30f, -1000, -90, -88, -20, -1e-3f, 0,
                            1e-30f, 3,     7,   8,   88,  90,     1e18f};
    const op_variants variants = op_variants_of(ANEMO_OP_MOE_EXPERTS);
    check_random random = check_random_seed(19, 20, 21);
    anemo_moe_experts_problem p = small_experts();
    p.n_experts = p.top_k = 1, p.d = p.ffn = 1;
    for (int32_t activation = 0; activation < 2; activation++)
        for (size_t j = 0; j < sizeof values / sizeof *values; j++) {
            p.activation = activation;
            experts_case c = experts_case_create(&random, p, 1, ROUTING_RANDOM);
            c.x[0] = values[j];
            for (int i = 0; i < 3; i++)
                c.weight[i][0]->values[0] = 1, c.weight[i][0]->dense[0] = 1;
            experts_slowly(&c);
            for (int32_t i = 0; i < variants.n; i++) {
                float y;
                assert_int_equal(run_experts(&c, variants.at[i], 1, &y), ANEMO_OK);
                op_assert_near(variants.at[i]->name, &y, c.want, 1, 1e-6 * fabs(c.want[0]) + 1e-30);
            }
            for (int32_t i = 0; i < anemo_variant_count(); i++) {
                const anemo_variant *v = anemo_variant_at(i);
                float y;
                if (v->op != ANEMO_OP_MOE_EXPERTS || v->backend != ANEMO_CPU || !v->layout ||
                    !anemo_variant_supports(v, 0, &c.p, NULL, 0))
                    continue;
                experts_case packed = packed_for(&c, v);
                assert_int_equal(run_experts(&packed, v, 1, &y), ANEMO_OK);
                op_assert_near(v->name, &y, c.want, 1, 1e-6 * fabs(c.want[0]) + 1e-30);
                packed_free(&packed);
            }
            experts_case_free(&c);
        }
}

static void test_experts_refuses(void **state) {
    (void)state;
    check_random random = check_random_seed(22, 23, 24);
    const op_variants variants = op_variants_of(ANEMO_OP_MOE_EXPERTS);
    experts_case c = experts_case_create(&random, small_experts(), 4, ROUTING_RANDOM);
    float *rows = op_poisoned((size_t)(8 * c.p.d) * sizeof *rows);
    for (int32_t i = 0; i < variants.n; i++) {
        const anemo_moe_experts_args a = {.tokens = 5, .plan = c.plan, .rows = rows};
        assert_int_equal(op_run(variants.at[i], 1, &c.p, &a), ANEMO_E_INPUT);
        const anemo_moe_experts_args fits = {.tokens = 4, .plan = c.plan, .rows = rows};
        assert_int_equal(op_run_short(variants.at[i], &c.p, &fits, 1), ANEMO_E_MEMORY);
        anemo_moe_experts_problem p = c.p;
        p.expert_end = 9;
        assert_true(op_refuses(variants.at[i], &p));
        p = c.p, p.expert_begin = 5, p.expert_end = 4;
        assert_true(op_refuses(variants.at[i], &p));
        p = c.p, p.activation = 2;
        assert_true(op_refuses(variants.at[i], &p));
        p = c.p, p.ffn = 0;
        assert_true(op_refuses(variants.at[i], &p));
        p = c.p, p.down.bits = 3;
        assert_true(op_refuses(variants.at[i], &p));
    }
    free(rows);
    experts_case_free(&c);
}

/* ---------------------------------------------------------------- moe_combine */

static void check_combine(check_random *random, int64_t tokens, int64_t d, int32_t top_k,
                          int mode) {
    const op_variants variants = op_variants_of(ANEMO_OP_MOE_COMBINE);
    const size_t n = (size_t)(tokens * d), r = (size_t)(tokens * top_k);
    const bool accumulate = mode & 1, in_place = mode == 4; /* 4: y is the shared expert's output */
    float *rows = op_random_floats(random, r * (size_t)d, 1), *old = op_random_floats(random, n, 1);
    float *shared = mode & 2 ? op_random_floats(random, n, 1) : NULL;
    anemo_moe_plan plan = plan_create(tokens, 1, top_k);
    check_random_fill(random, plan.weight, r, 1);
    for (size_t i = 0; i < r; i++)
        plan.row_of[i] = (int32_t)i;
    check_random_shuffle(random, plan.row_of, (int64_t)r);
    double *want = op_poisoned(n * sizeof *want);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < d; i++) {
            double *y = &want[t * d + i];
            *y = (accumulate || in_place ? old[t * d + i] : 0) + (shared ? shared[t * d + i] : 0);
            for (int32_t j = 0; j < top_k; j++)
                *y += (double)plan.weight[t * top_k + j] * rows[plan.row_of[t * top_k + j] * d + i];
        }
    const anemo_moe_combine_problem p = {.size = sizeof p,
                                         .tokens_max = tokens + 1,
                                         .d = d,
                                         .top_k = top_k,
                                         .accumulate = accumulate};
    for (int32_t i = 0; i < variants.n; i++) {
        float *y[2];
        for (int j = 0; j < 2; j++) {
            y[j] = op_poisoned(n * sizeof(float));
            if (accumulate || in_place)
                memcpy(y[j], old, n * sizeof(float));
            const anemo_moe_combine_args a = {.size = sizeof a,
                                              .tokens = tokens,
                                              .rows = rows,
                                              .shared = in_place ? y[j] : shared,
                                              .plan = plan,
                                              .y = y[j]};
            assert_int_equal(op_run(variants.at[i], j ? 3 : 1, &p, &a), ANEMO_OK);
        }
        op_assert_near(variants.at[i]->name, y[0], want, n, 5e-6);
        assert_memory_equal(y[0], y[1], n * sizeof(float));
        free(y[0]), free(y[1]);
    }
    plan_free(&plan);
    free(rows), free(old), free(shared), free(want);
}

static void test_combine(void **state) {
    (void)state;
    check_random random = check_random_seed(25, 26, 27);
    for (int mode = 0; mode <= 4; mode++) {
        check_combine(&random, 1, 1, 1, mode);
        check_combine(&random, 5, 7, 2, mode);
        check_combine(&random, 33, 64, 2, mode);
        check_combine(&random, 100, 19, 8, mode);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route_by_hand),
        cmocka_unit_test(test_route_near_ties),
        cmocka_unit_test(test_route_bias_chooses_only),
        cmocka_unit_test(test_route_refuses_nonsense),
        cmocka_unit_test(test_route_accepts),
        cmocka_unit_test(test_route_random),
        cmocka_unit_test(test_experts_sizes),
        cmocka_unit_test(test_experts_bias_activation_range),
        cmocka_unit_test(test_experts_weight_types),
        cmocka_unit_test(test_experts_rows_are_their_own),
        cmocka_unit_test(test_experts_packed),
        cmocka_unit_test(test_experts_decode_once),
        cmocka_unit_test(test_experts_silu_tails),
        cmocka_unit_test(test_experts_refuses),
        cmocka_unit_test(test_combine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
