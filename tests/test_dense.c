/* add_rmsnorm, embed and sample against computations of this file (every CPU variant), and the four
 * lanes of f32x4.h that the plain C variants are made of. */
#include "harness/check/weight.h"
#include "kernels/dense/f32x4.h"
#include "tests/support/op_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---------------------------------------------------------------- f32x4 */

static float exp_of(float x) {
    return f4_exp(f4_splat(x))[0];
}

static void test_f4_exp(void **state) {
    (void)state;
    double worst = 0;
    for (double x = -87.3; x <= 88.3; x += 1.0 / 4096) {
        const double want = exp((float)x), error = fabs(exp_of((float)x) - want) / want;
        worst = error <= worst ? worst : error;
    }
    assert_true(worst <= 1.5e-7); /* 1.3 ulp */
    assert_true(exp_of(0) == 1 && exp_of(-0.0f) == 1);
    assert_true(exp_of(-88) == 0 && exp_of(-1e30f) == 0 && exp_of(-INFINITY) == 0);
    assert_true(exp_of(1000) > 2e38f && exp_of(INFINITY) < INFINITY);
    assert_true(isnan(exp_of(NAN)) && isnan(exp_of(-NAN)));
    const f32x4 mixed = f4_exp((f32x4){0, NAN, -INFINITY, 1}); /* lanes do not mix */
    assert_true(mixed[0] == 1 && isnan(mixed[1]) && mixed[2] == 0);
    assert_true(fabs(mixed[3] - exp(1)) < 1e-6);
}

static void test_f4_halves(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits += 4) {
        const uint16_t half[4] = {(uint16_t)bits, (uint16_t)(bits + 1), (uint16_t)(bits + 2),
                                  (uint16_t)(bits + 3)};
        const f32x4 f16 = f4_from_f16(half), bf16 = f4_from_bf16(half);
        for (int i = 0; i < 4; i++) {
            const int exponent = half[i] >> 10 & 31, mantissa = half[i] & 1023;
            const double size =
                exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
            const double want = half[i] & 0x8000 ? -size : size;
            const uint32_t wide = (uint32_t)half[i] << 16;
            const float lane = bf16[i];
            if (exponent == 31)
                assert_true(mantissa ? isnan(f16[i]) : isinf(f16[i]));
            else
                assert_true(f16[i] == want && !signbit(f16[i]) == !signbit(want));
            assert_memory_equal(&lane, &wide, 4);
        }
    }
}

/* Each dot product is the same number in every tile, for every tail; and nothing is read behind k.
 */
static void test_f4_dots(void **state) {
    (void)state;
    check_random random = check_random_seed(1, 0, 0);
    for (int64_t k = 0; k <= 37; k++) {
        float *rows[6];
        for (int i = 0; i < 6; i++) {
            rows[i] = op_random_floats(&random, (size_t)k + 4, 1);
            for (int64_t j = k; j < k + 4; j++)
                rows[i][j] = NAN;
        }
        const float *const b[4] = {rows[2], rows[3], rows[4], rows[5]};
        float one[4], two[2][4];
        f4_dot_2x4(rows[0], rows[1], b, k, two);
        for (int i = 0; i < 2; i++) {
            f4_dot_1x4(rows[i], b, k, one);
            assert_memory_equal(one, two[i], sizeof one);
            for (int j = 0; j < 4; j++) {
                double want = 0;
                for (int64_t l = 0; l < k; l++)
                    want += (double)rows[i][l] * b[j][l];
                assert_true(fabs(one[j] - want) <= 5e-6);
            }
        }
        for (int i = 0; i < 6; i++)
            free(rows[i]);
    }
}

/* ---------------------------------------------------------------- add_rmsnorm */

static void check_norm(check_random *random, int64_t m, int64_t d, int mode) {
    const op_variants variants = op_variants_of(ANEMO_OP_ADD_RMSNORM);
    const bool add = mode == 1, gather = mode == 2;
    const int64_t source = gather ? 11 : m; /* rows of x */
    const size_t nx = (size_t)(source * d), n = (size_t)(m * d);
    const float eps = mode == 1 ? 0.25f : 1e-5f;
    float *x0 = op_random_floats(random, nx, 3), *weight = op_random_floats(random, (size_t)d, 1);
    float *delta = add ? op_random_floats(random, nx, 1) : NULL;
    int32_t *rows = gather ? op_poisoned((size_t)m * sizeof *rows) : NULL;
    double *want = op_poisoned(n * sizeof *want), *sum = op_poisoned(nx * sizeof *sum);
    for (size_t i = 0; i < nx; i++)
        sum[i] = x0[i] + (add ? (double)delta[i] : 0);
    for (int64_t r = 0; r < m; r++) {
        if (gather)
            rows[r] = (int32_t)check_random_below(random, source);
        const double *x = sum + (gather ? rows[r] : r) * d;
        double squares = 0;
        for (int64_t i = 0; i < d; i++)
            squares += x[i] * x[i];
        for (int64_t i = 0; i < d; i++)
            want[r * d + i] = x[i] / sqrt(squares / (double)d + eps) * weight[i];
    }
    const anemo_add_rmsnorm_problem p = {
        .size = sizeof p, .m_max = m + 1, .d = d, .eps = eps, .add = add};
    for (int32_t i = 0; i < variants.n; i++) {
        float *y[2], *x = op_poisoned(nx * sizeof *x);
        for (int j = 0; j < 2; j++) {
            y[j] = op_poisoned(n * sizeof(float));
            memcpy(x, x0, nx * sizeof *x);
            const anemo_add_rmsnorm_args a = {.size = sizeof a,
                                              .m = m,
                                              .x = x,
                                              .delta = delta,
                                              .weight = weight,
                                              .rows = rows,
                                              .y = y[j]};
            assert_int_equal(op_run(variants.at[i], j ? 3 : 1, &p, &a), ANEMO_OK);
            for (size_t l = 0; l < nx; l++) /* the sum is a float sum, exactly */
                assert_true(x[l] == (add ? x0[l] + delta[l] : x0[l]));
        }
        op_assert_near(variants.at[i]->name, y[0], want, n, 5e-6);
        assert_memory_equal(y[0], y[1], n * sizeof(float));
        free(x), free(y[0]), free(y[1]);
    }
    free(x0), free(weight), free(delta), free(rows), free(want), free(sum);
}

static void test_add_rmsnorm(void **state) {
    (void)state;
    check_random random = check_random_seed(2, 0, 0);
    const int64_t widths[] = {1, 3, 4, 15, 16, 17, 31, 64, 100, 1023, 4096};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (int mode = 0; mode < 3; mode++) {
            check_norm(&random, 1, widths[w], mode);
            check_norm(&random, 37, widths[w], mode);
        }
    check_norm(&random, 0, 8, 0);
}

static void test_add_rmsnorm_zero_and_refusals(void **state) {
    (void)state;
    const op_variants variants = op_variants_of(ANEMO_OP_ADD_RMSNORM);
    float x[8] = {0}, weight[8] = {1, 1, 1, 1, 1, 1, 1, 1}, delta[8] = {0}, y[8];
    const int32_t rows[1] = {0};
    for (int32_t i = 0; i < variants.n; i++) {
        const anemo_variant *v = variants.at[i];
        anemo_add_rmsnorm_problem p = {.size = sizeof p, .m_max = 1, .d = 8, .eps = 1e-6f};
        anemo_add_rmsnorm_args a = {.size = sizeof a, .m = 1, .x = x, .weight = weight, .y = y};
        assert_int_equal(op_run(v, 1, &p, &a), ANEMO_OK);
        for (int j = 0; j < 8; j++)
            assert_true(y[j] == 0);
        p.add = 1; /* no delta; delta with gathered rows; too many rows */
        assert_int_equal(op_run(v, 1, &p, &a), ANEMO_E_INPUT);
        a.delta = delta, a.rows = rows;
        assert_int_equal(op_run(v, 1, &p, &a), ANEMO_E_INPUT);
        a.rows = NULL, a.m = 2;
        assert_int_equal(op_run(v, 1, &p, &a), ANEMO_E_INPUT);
        p.eps = -1;
        assert_true(op_refuses(v, &p));
        p.eps = NAN;
        assert_true(op_refuses(v, &p));
        p.eps = 0, p.d = 0;
        assert_true(op_refuses(v, &p));
    }
}

/* ---------------------------------------------------------------- embed */

static void test_embed(void **state) {
    (void)state;
    check_random random = check_random_seed(3, 0, 0);
    const op_variants variants = op_variants_of(ANEMO_OP_EMBED);
    for (int32_t t = 0; t < check_weight_type_count(); t++) {
        const anemo_weight_type type = check_weight_type_at(t);
        const int64_t d = 256, vocab = 20, m = 50;
        check_weight *w = check_weight_create(&random, &type, vocab, d, 1);
        assert_non_null(w);
        int32_t ids[50];
        float *y = op_poisoned((size_t)(m * d) * sizeof *y);
        for (int64_t i = 0; i < m; i++)
            ids[i] = (int32_t)check_random_below(&random, vocab);
        ids[0] = 0, ids[1] = (int32_t)vocab - 1;
        const anemo_embed_problem p = {
            .size = sizeof p, .m_max = m, .vocab = vocab, .d = d, .type = type};
        const anemo_embed_args a = {
            .size = sizeof a, .m = m, .ids = ids, .weight = &w->canonical, .y = y};
        for (int32_t i = 0; i < variants.n; i++)
            for (int32_t threads = 1; threads <= 3; threads += 2) {
                memset(y, 0xff, (size_t)(m * d) * sizeof *y);
                assert_int_equal(op_run(variants.at[i], threads, &p, &a), ANEMO_OK);
                for (int64_t r = 0; r < m; r++)
                    for (int64_t j = 0; j < d; j++) {
                        const int64_t at = ids[r] * d + j;
                        assert_true(fabs(y[r * d + j] - w->dense[at]) <= 2e-7 * w->parts[at]);
                    }
            }
        free(y);
        check_weight_free(w);
    }
    const anemo_embed_problem bad = {.m_max = 1, .vocab = 0, .d = 4, .type = {0, 32}};
    assert_true(op_refuses(variants.at[0], &bad));
}

/* ---------------------------------------------------------------- sample */

static void sample(const anemo_variant *v, int32_t n_threads, int64_t m, int64_t vocab,
                   const float *logits, const anemo_sample_params *params, int32_t *ids) {
    const anemo_sample_problem p = {.size = sizeof p, .m_max = m, .vocab = vocab};
    const anemo_sample_args a = {
        .size = sizeof a, .m = m, .logits = logits, .params = params, .ids = ids};
    assert_int_equal(op_run(v, n_threads, &p, &a), ANEMO_OK);
}

static int32_t sample_one(const anemo_variant *v, int64_t vocab, const float *logits,
                          anemo_sample_params params) {
    int32_t id = -7;
    sample(v, 1, 1, vocab, logits, &params, &id);
    return id;
}

static void test_sample_argmax(void **state) {
    (void)state;
    const op_variants variants = op_variants_of(ANEMO_OP_SAMPLE);
    const anemo_sample_params greedy = {.temperature = 0, .top_p = 1};
    const anemo_sample_params warm = {.temperature = 1, .top_p = 1, .seed = 5};
    for (int32_t i = 0; i < variants.n; i++) {
        const anemo_variant *v = variants.at[i];
        assert_int_equal(sample_one(v, 5, (float[]){1, 3, 2, 3, 3}, greedy), 1);
        assert_int_equal(sample_one(v, 3, (float[]){-5, -4, -4}, greedy), 1);
        assert_int_equal(sample_one(v, 1, (float[]){-INFINITY}, greedy), -1);
        assert_int_equal(sample_one(v, 3, (float[]){-INFINITY, INFINITY, 9}, greedy), 1);
        assert_int_equal(sample_one(v, 3, (float[]){-0.0f, 0, -1}, greedy), 0);
        for (int place = 0; place < 4; place++) {
            float logits[4] = {9, 1, 2, 3};
            logits[place] = NAN;
            assert_int_equal(sample_one(v, 4, logits, greedy), -1);
            assert_int_equal(sample_one(v, 4, logits, warm), -1);
        }
        assert_int_equal(sample_one(v, 2, (float[]){-INFINITY, -INFINITY}, warm), -1);
        assert_int_equal(sample_one(v, 3, (float[]){-INFINITY, 1, -INFINITY}, warm), 1);
        assert_int_equal(sample_one(v, 3, (float[]){3e38f, INFINITY, 0}, warm), 1);
    }
}

/* Longer than any block that a variant may take at a time: the largest, its equal further on, and a
 * NaN at the places where vectors and blocks begin and end. */
static void test_sample_argmax_places(void **state) {
    (void)state;
    enum { VOCAB = 4133 };
    static const int32_t places[] = {0,    1,    7,    8,    15,   16,   31,   63,   64,
                                     1023, 1024, 1025, 2047, 2048, 4095, 4096, 4111, VOCAB - 1};
    enum { PLACES = sizeof places / sizeof *places };
    const op_variants variants = op_variants_of(ANEMO_OP_SAMPLE);
    const anemo_sample_params greedy = {.temperature = 0, .top_p = 1};
    float *logits = op_poisoned(VOCAB * sizeof *logits);
    for (int32_t i = 0; i < VOCAB; i++)
        logits[i] = -1 - (float)(i % 5);
    for (int32_t i = 0; i < variants.n; i++)
        for (int32_t j = 0; j < PLACES; j++) {
            const anemo_variant *v = variants.at[i];
            const float was = logits[places[j]], later = logits[places[PLACES - 1 - j / 2]];
            logits[places[j]] = NAN;
            assert_int_equal(sample_one(v, VOCAB, logits, greedy), -1);
            logits[places[j]] = logits[places[PLACES - 1 - j / 2]] = 0.5f;
            const int32_t other = places[PLACES - 1 - j / 2];
            assert_int_equal(sample_one(v, VOCAB, logits, greedy),
                             places[j] < other ? places[j] : other);
            logits[other] = later;
            logits[places[j]] = was;
        }
    free(logits);
}

/* The tokens that 4000 draws hit, as bits; vocab <= 8. */
static uint32_t support(const anemo_variant *v, int64_t vocab, const float *logits,
                        anemo_sample_params params) {
    enum { DRAWS = 4000 };
    static anemo_sample_params each[DRAWS];
    static int32_t ids[DRAWS];
    float *rows = op_poisoned((size_t)(DRAWS * vocab) * sizeof *rows);
    uint32_t hit = 0;
    for (int i = 0; i < DRAWS; i++) {
        each[i] = params;
        each[i].counter = (uint64_t)i;
        memcpy(rows + i * vocab, logits, (size_t)vocab * sizeof *rows);
    }
    sample(v, 2, DRAWS, vocab, rows, each, ids);
    for (int i = 0; i < DRAWS; i++) {
        assert_true(ids[i] >= 0 && ids[i] < vocab);
        hit |= 1u << ids[i];
    }
    free(rows);
    return hit;
}

static void test_sample_top_k_and_top_p(void **state) {
    (void)state;
    const op_variants variants = op_variants_of(ANEMO_OP_SAMPLE);
    /* weights 1/2, 1/4, 1/8, 1/8 in another order; exact in double, so that edges are edges */
    const float l2 = (float)log(2), l[4] = {0, 2 * l2, 0, l2}, equal[4] = {2, 2, 2, 2};
    const anemo_sample_params all = {.temperature = 1, .top_p = 1, .seed = 77};
    for (int32_t i = 0; i < variants.n; i++) {
        const anemo_variant *v = variants.at[i];
        anemo_sample_params s = all;
        assert_int_equal(support(v, 4, l, s), 0xf);
        for (s.top_k = 1; s.top_k <= 5; s.top_k++) { /* ties at the cut: the lower index stays */
            const uint32_t kept[6] = {0, 2, 2 | 8, 2 | 8 | 1, 15, 15};
            assert_int_equal(support(v, 4, l, s), kept[s.top_k]);
            const uint32_t first[6] = {0, 1, 3, 7, 15, 15};
            assert_int_equal(support(v, 4, equal, s), first[s.top_k]);
        }
        s.top_k = INT32_MAX;
        assert_int_equal(support(v, 4, l, s), 0xf);
        s = all;
        const float p[] = {0, 0.25f, 0.26f, 0.5f, 0.51f, 0.75f, 0.76f, 1};
        const uint32_t kept[] = {1, 1, 3, 3, 7, 7, 15, 15}; /* of four equal ones */
        for (int j = 0; j < 8; j++) {
            s.top_p = p[j];
            assert_int_equal(support(v, 4, equal, s), kept[j]);
        }
        s.top_p = 0.49f;
        assert_int_equal(support(v, 4, l, s), 2);
        s.top_p = 0.51f;
        assert_int_equal(support(v, 4, l, s), 2 | 8);
        s.top_p = 0.9f;
        assert_int_equal(support(v, 4, l, s), 15);
        /* top_p counts within top_k: 1/2 of (1/2 + 1/4) is 2/3 */
        s.top_k = 2, s.top_p = 0.6f;
        assert_int_equal(support(v, 4, l, s), 2);
        s.top_p = 0.7f;
        assert_int_equal(support(v, 4, l, s), 2 | 8);
        /* temperature comes before top_p: at 1/8 the best has nearly everything, at 8 a third */
        s = all, s.top_p = 0.9f, s.temperature = 0.125f;
        assert_int_equal(support(v, 4, l, s), 2);
        s.top_p = 0.4f, s.temperature = 8;
        assert_int_equal(support(v, 4, l, s), 2 | 8);
        s.temperature = 1e-30f, s.top_p = 1;
        assert_int_equal(support(v, 4, l, s), 2);
    }
}

/* Pearson's statistic of 20,000 draws against the exact distribution of the kept tokens. */
static double chi_square(const anemo_variant *v, const float *logits, int64_t vocab,
                         const anemo_sample_params *params, const double *want) {
    enum { DRAWS = 20000, AT_ONCE = 500 };
    static anemo_sample_params each[AT_ONCE];
    static int32_t ids[AT_ONCE];
    int64_t hits[64] = {0};
    float *rows = op_poisoned((size_t)(AT_ONCE * vocab) * sizeof *rows);
    for (int i = 0; i < AT_ONCE; i++)
        memcpy(rows + i * vocab, logits, (size_t)vocab * sizeof *rows);
    for (int i = 0; i < DRAWS; i += AT_ONCE) {
        for (int j = 0; j < AT_ONCE; j++) {
            each[j] = *params;
            each[j].counter = (uint64_t)(i + j);
        }
        sample(v, 1, AT_ONCE, vocab, rows, each, ids);
        for (int j = 0; j < AT_ONCE; j++)
            hits[ids[j]]++;
    }
    double sum = 0;
    for (int64_t i = 0; i < vocab; i++) {
        const double expected = want[i] * DRAWS;
        if (expected > 0)
            sum += (hits[i] - expected) * (hits[i] - expected) / expected;
        else
            assert_int_equal(hits[i], 0);
    }
    free(rows);
    return sum;
}

static void test_sample_distribution(void **state) {
    (void)state;
    check_random random = check_random_seed(4, 0, 0);
    const op_variants variants = op_variants_of(ANEMO_OP_SAMPLE);
    enum { VOCAB = 40, KEPT = 12 };
    float *logits = op_random_floats(&random, VOCAB, 1);
    for (int32_t top_k = 0; top_k <= KEPT; top_k += KEPT) {
        const anemo_sample_params params = {
            .temperature = 0.8f, .top_p = 1, .top_k = top_k, .seed = 123456789};
        double want[VOCAB], all = 0;
        for (int i = 0; i < VOCAB; i++) {
            int larger = 0;
            for (int j = 0; j < VOCAB; j++)
                larger += logits[j] > logits[i];
            want[i] = top_k && larger >= top_k ? 0 : exp(logits[i] / 0.8);
            all += want[i];
        }
        for (int i = 0; i < VOCAB; i++)
            want[i] /= all;
        /* degrees of freedom 39 and 11: the 0.1 % points are 72.1 and 31.3; the seed is fixed */
        const double limit = top_k ? 31.3 : 72.1;
        for (int32_t i = 0; i < variants.n; i++)
            assert_true(chi_square(variants.at[i], logits, VOCAB, &params, want) <= limit);
        /* the test can fail: a temperature of 0.9 instead of 0.8 is found out */
        anemo_sample_params wrong = params;
        wrong.temperature = 0.9f;
        assert_true(chi_square(variants.at[0], logits, VOCAB, &wrong, want) > limit);
    }
    free(logits);
}

/* All variants draw the same tokens, one thread or three, whatever the restriction; and a draw
 * depends on its own row, seed and counter only. */
static void test_sample_agreement(void **state) {
    (void)state;
    check_random random = check_random_seed(5, 0, 0);
    const op_variants variants = op_variants_of(ANEMO_OP_SAMPLE);
    const int64_t sizes[] = {1, 2, 3, 17, 1000, 5001};
    for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
        const int64_t vocab = sizes[n], m = 120;
        float *logits = op_random_floats(&random, (size_t)(m * vocab), 2);
        anemo_sample_params params[120];
        int32_t want[120], got[120], before[120];
        for (int64_t i = 0; i < m; i++) {
            params[i] = (anemo_sample_params){.temperature = i % 5 ? 0.3f * (float)(i % 5) : 0,
                                              .top_p = i % 3 ? 0.35f * (float)(i % 4) : 1,
                                              .top_k = i % 2 ? (int32_t)(i % 11) * 7 : 0,
                                              .seed = check_random_bits(&random),
                                              .counter = check_random_bits(&random)};
            params[i].top_p = params[i].top_p > 1 ? 1 : params[i].top_p;
            for (int64_t j = 0; i % 7 == 0 && j < vocab; j++)
                logits[i * vocab + j] = roundf(logits[i * vocab + j]); /* many ties */
        }
        sample(variants.at[0], 1, m, vocab, logits, params, want);
        for (int32_t i = 0; i < variants.n; i++) {
            sample(variants.at[i], 3, m, vocab, logits, params, got);
            assert_memory_equal(got, want, sizeof want);
            sample(variants.at[i], 1, 50, vocab, logits + 60 * vocab, params + 60, before);
            assert_memory_equal(before, want + 60, 50 * sizeof *want);
        }
        free(logits);
    }
}

/* The two ends of the generator's range (counters found by search): at u = 0 the first token that
 * has a weight, not the first token; at u = 1 - 2^-32 the last that has one. */
static void test_sample_ends_of_range(void **state) {
    (void)state;
    const op_variants variants = op_variants_of(ANEMO_OP_SAMPLE);
    const anemo_sample_params low = {.temperature = 1, .top_p = 1, .counter = 5145262111};
    const anemo_sample_params high = {.temperature = 1, .top_p = 1, .counter = 9339129252};
    const float logits[5] = {-INFINITY, -1, 0, -1, -INFINITY};
    assert_true(anemo_philox_uniform(0, low.counter) == 0);
    assert_true(anemo_philox_uniform(0, high.counter) == 1 - 0x1p-32);
    for (int32_t i = 0; i < variants.n; i++) {
        assert_int_equal(sample_one(variants.at[i], 5, logits, low), 1);
        assert_int_equal(sample_one(variants.at[i], 5, logits, high), 3);
    }
}

static void test_sample_refuses(void **state) {
    (void)state;
    const op_variants variants = op_variants_of(ANEMO_OP_SAMPLE);
    const anemo_sample_params bad[] = {{.temperature = -1, .top_p = 1},
                                       {.temperature = NAN, .top_p = 1},
                                       {.temperature = INFINITY, .top_p = 1},
                                       {.temperature = 1, .top_p = -0.1f},
                                       {.temperature = 1, .top_p = 1.1f},
                                       {.temperature = 1, .top_p = NAN},
                                       {.temperature = 1, .top_p = 1, .top_k = -1}};
    const float logits[2] = {0, 1};
    const anemo_sample_problem p = {.size = sizeof p, .m_max = 1, .vocab = 2};
    for (int32_t i = 0; i < variants.n; i++) {
        int32_t id = -7;
        for (size_t j = 0; j < sizeof bad / sizeof *bad; j++) {
            const anemo_sample_args a = {.m = 1, .logits = logits, .params = &bad[j], .ids = &id};
            assert_int_equal(op_run(variants.at[i], 1, &p, &a), ANEMO_E_INPUT);
        }
        assert_int_equal(id, -7);
        const anemo_sample_params good = {.temperature = 1, .top_p = 1};
        const anemo_sample_args a = {.m = 1, .logits = logits, .params = &good, .ids = &id};
        assert_int_equal(op_run_short(variants.at[i], &p, &a, 1), ANEMO_E_MEMORY);
        const anemo_sample_problem none = {.m_max = 1, .vocab = 0};
        assert_true(op_refuses(variants.at[i], &none));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f4_exp),
        cmocka_unit_test(test_f4_halves),
        cmocka_unit_test(test_f4_dots),
        cmocka_unit_test(test_add_rmsnorm),
        cmocka_unit_test(test_add_rmsnorm_zero_and_refusals),
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_sample_argmax),
        cmocka_unit_test(test_sample_argmax_places),
        cmocka_unit_test(test_sample_top_k_and_top_p),
        cmocka_unit_test(test_sample_distribution),
        cmocka_unit_test(test_sample_agreement),
        cmocka_unit_test(test_sample_ends_of_range),
        cmocka_unit_test(test_sample_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
