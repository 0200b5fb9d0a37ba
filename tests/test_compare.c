/* The comparison library: against numpy, scipy and statsmodels, on synthetic laws of noise, and its
 * driver on sides that take what the test says. No wall-clock time is asserted anywhere. */
#include "harness/compare/compare.h"
#include "tests/support/asserts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- golden numbers */

static json_t *golden;

static int read_golden(void **state) {
    (void)state;
    golden = json_load_file(ANEMO_TEST_DIR "/data/compare/golden.json", 0, NULL);
    return golden ? 0 : -1;
}

static int drop_golden(void **state) {
    (void)state;
    json_decref(golden);
    return 0;
}

static double real_at(const json_t *array, size_t i) {
    const json_t *value = json_array_get(array, i);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* malloc'ed copy of object[key]. */
static double *reals(const json_t *object, const char *key, int64_t *n) {
    const json_t *array = json_object_get(object, key);
    *n = (int64_t)json_array_size(array);
    assert_true(*n > 0);
    double *out = malloc((size_t)*n * sizeof *out);
    for (int64_t i = 0; i < *n; i++) {
        out[i] = real_at(array, (size_t)i);
    }
    return out;
}

static void binomial_counts_are_exact(void **state) {
    (void)state;
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(golden, "at_least"), i, row) {
        const double want = real_at(row, 3);
        const double got = anemo_binomial_at_least((int64_t)real_at(row, 0),
                                                   (int64_t)real_at(row, 1), real_at(row, 2));
        assert_near(got, want, 1e-9 * fmax(want, 1e-3));
    }
    assert_true(i > 50);
    json_array_foreach(json_object_get(golden, "critical"), i, row) {
        assert_int_equal(anemo_sign_test_critical((int64_t)real_at(row, 0), real_at(row, 1)),
                         (int64_t)real_at(row, 2));
    }
    assert_true(i > 10);
    json_array_foreach(json_object_get(golden, "shares"), i, row) {
        const int64_t k = (int64_t)real_at(row, 0), n = (int64_t)real_at(row, 1);
        assert_near(anemo_share_at_least(k, n, 0.95), real_at(row, 2), 1e-9);
        assert_near(anemo_share_at_most(k, n, 0.95), real_at(row, 3), 1e-9);
    }
    assert_true(i > 5);
    assert_true(isnan(anemo_share_at_least(0, 0, 0.95)));
}

static void percentiles_are_numpys(void **state) {
    (void)state;
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(golden, "percentiles"), i, one) {
        int64_t n;
        double *x = reals(one, "samples", &n);
        anemo_stats_sort(x, n);
        const anemo_percentile p =
            anemo_stats_percentile(x, n, json_number_value(json_object_get(one, "p")));
        assert_true(p.known);
        assert_near(p.value, json_number_value(json_object_get(one, "value")), 1e-9);
        assert_near(p.upper, json_number_value(json_object_get(one, "upper")), 0);
        free(x);
    }
    assert_true(i > 10);
    double few[298] = {0};
    const anemo_percentile p = anemo_stats_percentile(few, 298, 0.99);
    assert_false(p.known);
    assert_int_equal(p.needs, 299);
}

static void mann_whitney_is_scipys(void **state) {
    (void)state;
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(golden, "mann_whitney"), i, one) {
        int64_t n_a, n_b;
        double *a = reals(one, "a", &n_a), *b = reals(one, "b", &n_b);
        assert_near(anemo_mann_whitney_p(a, n_a, b, n_b),
                    json_number_value(json_object_get(one, "p")), 1e-9);
        free(a);
        free(b);
    }
    assert_true(i > 3);
    const double same[] = {1, 1, 1};
    assert_near(anemo_mann_whitney_p(same, 3, same, 3), 1, 0);
    assert_true(isnan(anemo_mann_whitney_p(same, 3, same, 0)));
}

static void holm_is_statsmodels(void **state) {
    (void)state;
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(golden, "holm"), i, one) {
        int64_t n;
        double *p = reals(one, "p", &n);
        bool rejected[64];
        int32_t want = 0;
        const int32_t count =
            anemo_holm(p, (int32_t)n, json_number_value(json_object_get(one, "alpha")), rejected);
        for (int64_t j = 0; j < n; j++) {
            const bool expected = real_at(json_object_get(one, "rejected"), (size_t)j) != 0;
            assert_int_equal(rejected[j], expected);
            want += expected;
        }
        assert_int_equal(count, want);
        free(p);
    }
    assert_true(i > 5);
}

/* ---------------------------------------------------------------- laws of noise */

static uint64_t random_state;

static double uniform(void) { /* in (0, 1) */
    uint64_t z = (random_state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) * 0x1p-53;
}

static double normal(void) {
    return sqrt(-2 * log(uniform())) * cos(2 * M_PI * uniform());
}

/* Of one sample with true median 1. */
static double even_noise(void) {
    return exp(0.03 * normal());
}
static double skewed_noise(void) { /* a floor and a long tail, as timings have */
    return 0.8 + 0.2 * pow(-log(uniform()) / log(2), 2);
}
static double heavy_noise(void) { /* Pareto with exponent 1: no mean, no variance */
    return 0.5 / uniform();
}
static double tied_noise(void) { /* a coarse clock: 5 steps, 1 in the middle */
    return 0.8 + 0.1 * floor(5 * uniform());
}

enum { DRAWS = 10000 };

/* Exact probability that [x(r), x(n + 1 - r)] holds the median, from scratch: sums of integers. */
static double exact_coverage(int64_t n, double level) {
    long double term = 1, total = 0, below = 0, kept = 0;
    for (int64_t k = 0; k < n; k++) {
        total += term;
        term *= (long double)(n - k) / (long double)(k + 1);
    }
    total += term;
    term = 1;
    for (int64_t r = 1; r <= n / 2; r++) {
        below += term;
        if (2 * below / total > 1 - (long double)level) {
            break;
        }
        kept = below;
        term *= (long double)(n - r + 1) / (long double)r;
    }
    return (double)(1 - 2 * kept / total);
}

static double covered(int64_t n, double (*noise)(void)) {
    double x[256];
    int64_t hits = 0;
    for (int d = 0; d < DRAWS; d++) {
        for (int64_t i = 0; i < n; i++) {
            x[i] = noise();
        }
        const anemo_estimate e = anemo_stats_median(x, n, 0.95);
        hits += e.lo <= 1 + 1e-12 && 1 - 1e-12 <= e.hi;
    }
    return (double)hits / DRAWS;
}

static void interval_covers_as_the_binomial_says(void **state) {
    (void)state;
    static const int64_t sizes[] = {6, 7, 10, 20, 52, 104, 208};
    static double (*const laws[])(void) = {even_noise, skewed_noise, heavy_noise};
    random_state = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t n = sizes[s];
        const double exact = exact_coverage(n, 0.95);
        assert_true(exact >= 0.95);
        double flat[256] = {0};
        assert_near(anemo_stats_median_sorted(flat, n, 0.95).coverage, exact, 1e-9);
        for (size_t l = 0; l < sizeof laws / sizeof *laws; l++) {
            assert_near(covered(n, laws[l]), exact, 0.006);
        }
        assert_true(covered(n, tied_noise) >= exact - 0.006); /* ties only widen it */
    }
}

/* The same of a paired ratio whose sides share a drift far larger than their difference. */
static void paired_interval_ignores_drift(void **state) {
    (void)state;
    random_state = 2;
    enum { N = 20 };
    const double exact = exact_coverage(N, 0.95);
    int64_t hits = 0, unpaired = 0;
    for (int d = 0; d < DRAWS; d++) {
        double a[N], b[N];
        for (int i = 0; i < N; i++) {
            const double drift = 1 + 0.5 * sin(0.3 * i + d);
            a[i] = drift * even_noise();
            b[i] = 1.02 * drift * even_noise();
        }
        const anemo_estimate e = anemo_stats_paired_ratio(a, b, N, 0.95);
        hits += e.lo <= 1.02 && 1.02 <= e.hi;
        const anemo_estimate m = anemo_stats_median(b, N, 0.95);
        unpaired += m.hi - m.lo > 10 * (e.hi - e.lo);
    }
    assert_near((double)hits / DRAWS, exact, 0.006);
    assert_true(unpaired > DRAWS / 2); /* else the drift was no trial */
}

/* Where successive pairs depend on each other, the promise is broken, by so much, and the result
 * says that it may be: autocorrelation. */
static void autocorrelation_costs_coverage(void **state) {
    (void)state;
    random_state = 3;
    enum { N = 52 };
    static const struct {
        double rho, least, most;
    } trials[] = {{0, 0.957, 0.970}, {0.2, 0.91, 0.94}, {0.5, 0.80, 0.86}, {0.8, 0.55, 0.66}};
    for (size_t t = 0; t < sizeof trials / sizeof *trials; t++) {
        int64_t hits = 0;
        double seen = 0;
        for (int d = 0; d < DRAWS; d++) {
            double a[N], b[N], x = normal();
            for (int i = 0; i < N; i++) {
                a[i] = 100;
                b[i] = 100 * exp(0.02 * x);
                x = trials[t].rho * x + sqrt(1 - trials[t].rho * trials[t].rho) * normal();
            }
            const anemo_estimate e = anemo_stats_paired_ratio(a, b, N, 0.95);
            hits += e.lo <= 1 && 1 <= e.hi;
            if (d < 500) {
                anemo_compare_result r = {.pairs = N, .ns = {a, b}, .p_needed = 0.05};
                const anemo_compare_rule rule = anemo_compare_rule_fixed(0.03, N);
                anemo_compare_describe(&r, &rule);
                seen += r.autocorrelation / 500;
            }
        }
        const double coverage = (double)hits / DRAWS;
        print_message("n = %d, autocorrelation %.1f (seen as %.2f): nominal 95 %% covers %.1f %%\n",
                      N, trials[t].rho, seen, 100 * coverage);
        assert_true(trials[t].least <= coverage && coverage <= trials[t].most);
        assert_near(seen, trials[t].rho, 0.12); /* biased down at so few pairs */
    }
}

static void fewer_than_six_say_so(void **state) {
    (void)state;
    double a[] = {1, 1, 1, 1, 1, 1}, b[] = {2, 2, 2, 2, 2, 2};
    for (int64_t n = 0; n <= 6; n++) {
        anemo_compare_result r = {.pairs = n, .ns = {a, b}, .p_needed = 0.05};
        const anemo_compare_rule rule = anemo_compare_rule_fixed(0.03, n);
        anemo_compare_describe(&r, &rule);
        assert_int_equal(r.ratio.needs, n < 6 ? 6 : 0);
        assert_int_equal(r.differs, n == 6);
    }
}

/* ---------------------------------------------------------------- the driver */

/* A case whose B takes `ratio` times as long as its A, with noise, and a fault when told. */
typedef struct fake_case {
    double ratio;
    double (*noise)(void);
    int64_t calls, fail_at, stop_at;
    int opened, closed;
    char order[64];
} fake_case;

static bool stop_now;

static anemo_status fake_sample(void *ctx, int32_t side, double *ns, anemo_error *err) {
    fake_case *c = ctx;
    if (c->calls < 32) {
        c->order[c->calls] = (char)('A' + side);
    }
    c->calls++;
    stop_now = c->stop_at && c->calls >= c->stop_at;
    if (c->calls == c->fail_at) {
        return anemo_fail(err, ANEMO_E_IO, "the child has gone");
    }
    *ns = 1e5 * (side ? c->ratio : 1) * (c->noise ? c->noise() : 1);
    return ANEMO_OK;
}

static anemo_status fake_open(void *ctx, anemo_error *err) {
    (void)err;
    ((fake_case *)ctx)->opened++;
    return ANEMO_OK;
}

static void fake_close(void *ctx) {
    ((fake_case *)ctx)->closed++;
}

static bool asked_to_stop(void) {
    return stop_now;
}

enum { MOST_CASES = 32 };

static anemo_status run_fakes(fake_case *fakes, int32_t n, const anemo_compare_rule *rule,
                              anemo_compare_result *results) {
    anemo_compare_case cases[MOST_CASES];
    anemo_error err;
    const anemo_compare_hooks hooks = {.interrupted = asked_to_stop};
    stop_now = false;
    for (int32_t i = 0; i < n; i++) {
        cases[i] = (anemo_compare_case){.name = "fake",
                                        .sample = fake_sample,
                                        .open = fake_open,
                                        .close = fake_close,
                                        .ctx = &fakes[i]};
    }
    return anemo_compare_run(cases, n, rule, &hooks, results, &err);
}

/* Of the 16 pairs that are remembered, each of which has both sides. */
static int pairs_begun_by_a(const fake_case *c) {
    int n = 0;
    for (int i = 0; i < 32; i += 2) {
        assert_int_equal(c->order[i] + c->order[i + 1], 'A' + 'B');
        n += c->order[i] == 'A';
    }
    return n;
}

static void verdicts_and_looks(void **state) {
    (void)state;
    random_state = 4;
    fake_case fakes[] = {{.ratio = 1, .noise = even_noise},
                         {.ratio = 1.15, .noise = even_noise},
                         {.ratio = 1.03, .noise = even_noise},
                         {.ratio = 0.8},
                         {.ratio = 1.03}};
    const anemo_compare_rule rule = anemo_compare_rule_usual();
    anemo_compare_result r[5];
    int begins_with_a = 0;
    assert_int_equal(run_fakes(fakes, 5, &rule, r), ANEMO_OK);
    static const anemo_compare_verdict want[] = {ANEMO_VERDICT_PASS, ANEMO_VERDICT_REGRESSION,
                                                 ANEMO_VERDICT_INCONCLUSIVE, ANEMO_VERDICT_PASS,
                                                 ANEMO_VERDICT_INCONCLUSIVE};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(r[i].verdict, want[i]);
        assert_int_equal(r[i].decided, want[i] != ANEMO_VERDICT_INCONCLUSIVE);
        assert_int_equal(fakes[i].calls, 2 * r[i].pairs);
        assert_int_equal(r[i].pairs, rule.look[r[i].look]);
        assert_int_equal(fakes[i].opened, fakes[i].closed);
        assert_int_equal(fakes[i].opened, r[i].look + 1);
        begins_with_a += pairs_begun_by_a(&fakes[i]);
        assert_near(r[i].ratio.value, fakes[i].ratio, 0.02);
        assert_near(r[i].time_ns[0].value, 1e5, 2e3);
    }
    assert_in_range(begins_with_a, 20, 60); /* of 80, by lot */
    assert_int_equal(r[1].pairs, 52);
    assert_int_equal(r[2].pairs, 208);
    assert_true(r[1].differs && r[1].mde_regression > 1.03 && r[1].mde_regression < 1.1);
    assert_near(r[4].ratio.hi, 1.03, 1e-12);      /* on the threshold itself: neither */
    assert_near(r[3].mde_regression, 1.03, 1e-9); /* no noise: whatever is beyond delta */
    anemo_compare_results_free(r, 5);
}

/* 10 ns, every fifth turn of a side 1000. */
static anemo_status spiky_sample(void *ctx, int32_t side, double *ns, anemo_error *err) {
    int64_t *calls = ctx;
    (void)err;
    *ns = ++calls[side] % 5 == 0 ? 1000 : 10;
    return ANEMO_OK;
}

static void a_pair_is_the_median_of_its_turns(void **state) {
    (void)state;
    int64_t calls[2] = {0, 0};
    int32_t turns = 5;
    const anemo_compare_case one = {
        .name = "turns", .sample = spiky_sample, .ctx = calls, .turns = &turns};
    const anemo_compare_rule rule = anemo_compare_rule_fixed(0.03, 6);
    anemo_compare_result r;
    anemo_error err;
    assert_int_equal(anemo_compare_run(&one, 1, &rule, NULL, &r, &err), ANEMO_OK);
    for (int side = 0; side < 2; side++) {
        assert_int_equal(calls[side], 5 * 6);
        for (int64_t i = 0; i < 6; i++) {
            assert_true(r.ns[side][i] == 10);
        }
    }
    anemo_compare_results_free(&r, 1);
    for (turns = 0; turns <= ANEMO_COMPARE_TURNS + 1; turns += ANEMO_COMPARE_TURNS + 1) {
        assert_int_equal(anemo_compare_run(&one, 1, &rule, NULL, &r, &err), ANEMO_OK);
        assert_int_equal(r.status, ANEMO_E_INPUT);
        anemo_compare_results_free(&r, 1);
    }
}

/* A bad place in memory costs a tenth and stays until the case is opened again. */
static anemo_status placed_sample(void *ctx, int32_t side, double *ns, anemo_error *err) {
    fake_case *c = ctx;
    (void)err;
    c->calls++;
    *ns = 1e5 * (side && c->opened % 4 == 1 ? 1.1 : 1) * pow(even_noise(), 0.2);
    return ANEMO_OK;
}

static void one_bad_opening_does_not_decide(void **state) {
    (void)state;
    random_state = 9;
    const anemo_compare_hooks hooks = {.interrupted = asked_to_stop};
    for (int32_t openings = 0; openings <= 4; openings += 4) {
        fake_case c = {.ratio = 1};
        const anemo_compare_case one = {.name = "placed",
                                        .sample = placed_sample,
                                        .open = fake_open,
                                        .close = fake_close,
                                        .ctx = &c};
        anemo_compare_rule rule = anemo_compare_rule_usual();
        anemo_compare_result r;
        anemo_error err;
        rule.openings = openings;
        stop_now = false;
        assert_int_equal(anemo_compare_run(&one, 1, &rule, &hooks, &r, &err), ANEMO_OK);
        assert_int_equal(r.verdict, openings ? ANEMO_VERDICT_PASS : ANEMO_VERDICT_REGRESSION);
        assert_int_equal(c.calls, 2 * r.pairs);
        assert_int_equal(c.opened, openings ? 4 * (r.look + 1) : 1);
        assert_int_equal(c.opened, c.closed);
        anemo_compare_results_free(&r, 1);
    }
}

static void failures_stay_with_their_case(void **state) {
    (void)state;
    fake_case fakes[] = {{.ratio = 1.2, .fail_at = 11}, {.ratio = 1.2}, {.ratio = NAN}};
    const anemo_compare_rule rule = anemo_compare_rule_usual();
    anemo_compare_result r[3];
    assert_int_equal(run_fakes(fakes, 3, &rule, r), ANEMO_OK);
    assert_int_equal(r[0].status, ANEMO_E_IO);
    assert_string_equal(r[0].error.text, "the child has gone");
    assert_int_equal(r[0].verdict, ANEMO_VERDICT_INCONCLUSIVE);
    assert_int_equal(r[0].pairs, 5);
    assert_int_equal(r[1].verdict, ANEMO_VERDICT_REGRESSION);
    assert_near(r[1].p_needed, 0.05 / 3 / 3, 1e-12); /* the failed ones count in the table */
    assert_int_equal(r[2].status, ANEMO_E_NUMERIC);  /* NaN is no time */
    assert_int_equal(fakes[0].opened, fakes[0].closed);
    anemo_compare_results_free(r, 3);
}

static void an_interrupt_ends_it(void **state) {
    (void)state;
    fake_case fakes[] = {{.ratio = 1.2}, {.ratio = 1.2, .stop_at = 40}, {.ratio = 1}};
    const anemo_compare_rule rule = anemo_compare_rule_usual();
    anemo_compare_result r[3];
    assert_int_equal(run_fakes(fakes, 3, &rule, r), ANEMO_E_CANCELLED);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(r[i].verdict, ANEMO_VERDICT_INCONCLUSIVE);
    }
    assert_int_equal(r[1].pairs, 20);
    assert_int_equal(r[2].pairs, 0);
    assert_near(r[1].ratio.value, 1.2, 1e-9);
    assert_int_equal(fakes[1].opened, fakes[1].closed);
    anemo_compare_results_free(r, 3);
}

/* At the worst allowed ratio, 1 + delta itself, looking three times must not cost more than was
 * promised; looking with all of alpha each time does, or this trial would show nothing. */
static void alpha_is_kept_over_the_looks(void **state) {
    (void)state;
    random_state = 5;
    const anemo_compare_rule rule = anemo_compare_rule_usual();
    anemo_compare_rule greedy = rule;
    int64_t regressions = 0, passes = 0, greedy_hits = 0;
    for (int d = 0; d < DRAWS; d++) {
        fake_case fake = {.ratio = 1.03, .noise = even_noise};
        anemo_compare_result r;
        assert_int_equal(run_fakes(&fake, 1, &rule, &r), ANEMO_OK);
        regressions += r.verdict == ANEMO_VERDICT_REGRESSION;
        passes += r.verdict == ANEMO_VERDICT_PASS;
        bool hit = false;
        for (int32_t k = 0; k < 3 && r.pairs == 208; k++) {
            hit = hit || anemo_sign_test_above(r.ns[0], r.ns[1], greedy.look[k], 1.03) <= 0.05;
        }
        greedy_hits += hit || r.verdict == ANEMO_VERDICT_REGRESSION;
        anemo_compare_results_free(&r, 1);
    }
    print_message("at 1 + delta: REGRESSION %.2f %% (promised 5), PASS %.2f %% (promised 2.5), "
                  "alpha spent anew at each look %.2f %%\n",
                  100.0 * regressions / DRAWS, 100.0 * passes / DRAWS, 100.0 * greedy_hits / DRAWS);
    /* The promise, plus four standard deviations of 10,000 draws. */
    assert_true(regressions <= (0.05 + 4 * sqrt(0.05 * 0.95 / DRAWS)) * DRAWS);
    assert_true(passes <= (0.025 + 4 * sqrt(0.025 * 0.975 / DRAWS)) * DRAWS);
    assert_true(regressions >= 0.015 * DRAWS && passes >= 0.005 * DRAWS); /* nor useless */
    assert_true(greedy_hits > 0.07 * DRAWS);
}

/* A table of many cases at 1 + delta: at most alpha of the tables hold a REGRESSION. One case far
 * beyond it in each table is found all the same and hands its share on. */
static void holm_keeps_the_table(void **state) {
    (void)state;
    random_state = 6;
    enum { CASES = 20, TABLES = 500 };
    const anemo_compare_rule rule = anemo_compare_rule_usual();
    int64_t false_tables = 0, found = 0, unadjusted = 0;
    for (int t = 0; t < TABLES; t++) {
        fake_case fakes[CASES];
        anemo_compare_result r[CASES];
        for (int i = 0; i < CASES; i++) {
            fakes[i] = (fake_case){.ratio = i ? 1.03 : 1.10, .noise = even_noise};
        }
        assert_int_equal(run_fakes(fakes, CASES, &rule, r), ANEMO_OK);
        bool wrong = false, alone = false;
        for (int i = 1; i < CASES; i++) {
            wrong = wrong || r[i].verdict == ANEMO_VERDICT_REGRESSION;
            alone = alone || r[i].p_regression <= 0.05 / 3;
        }
        false_tables += wrong;
        unadjusted += alone;
        found += r[0].verdict == ANEMO_VERDICT_REGRESSION;
        anemo_compare_results_free(r, CASES);
    }
    print_message("20 cases: %.2f %% of tables with a false REGRESSION (promised 5; without Holm "
                  "%.0f), +10 %% found in %.1f %%\n",
                  100.0 * false_tables / TABLES, 100.0 * unadjusted / TABLES,
                  100.0 * found / TABLES);
    assert_true(false_tables <= (0.05 + 4 * sqrt(0.05 * 0.95 / TABLES)) * TABLES);
    assert_true(unadjusted > 0.1 * TABLES);
    assert_true(found >= 0.99 * TABLES);
}

/* The effect that is printed as detectable is found in 80 % of runs. */
static void minimum_detectable_effect_is_true(void **state) {
    (void)state;
    random_state = 7;
    const anemo_compare_rule rule = anemo_compare_rule_fixed(0.03, 208);
    double mde = 0, mde_differs = 0;
    for (int d = 0; d < 400; d++) {
        fake_case fake = {.ratio = 1, .noise = skewed_noise};
        anemo_compare_result r;
        assert_int_equal(run_fakes(&fake, 1, &rule, &r), ANEMO_OK);
        mde += r.mde_regression / 400;
        mde_differs += r.mde_differs / 400;
        anemo_compare_results_free(&r, 1);
    }
    int found = 0, differ = 0;
    for (int d = 0; d < 2000; d++) {
        fake_case slow = {.ratio = mde, .noise = skewed_noise};
        fake_case other = {.ratio = mde_differs, .noise = skewed_noise};
        anemo_compare_result r;
        assert_int_equal(run_fakes(&slow, 1, &rule, &r), ANEMO_OK);
        found += r.verdict == ANEMO_VERDICT_REGRESSION;
        anemo_compare_results_free(&r, 1);
        assert_int_equal(run_fakes(&other, 1, &rule, &r), ANEMO_OK);
        differ += r.differs;
        anemo_compare_results_free(&r, 1);
    }
    print_message("detectable %.3f: found in %.1f %%; differing %.3f: in %.1f %%\n", mde,
                  found / 20.0, mde_differs, differ / 20.0);
    assert_near(found / 2000.0, 0.8, 0.06);
    assert_near(differ / 2000.0, 0.8, 0.06);
}

static void looks_are_read_strictly(void **state) {
    (void)state;
    anemo_compare_rule rule = anemo_compare_rule_usual();
    assert_int_equal(anemo_compare_looks_parse("20", &rule, NULL), ANEMO_OK);
    assert_int_equal(rule.n_looks, 1);
    assert_int_equal(anemo_compare_looks_parse("6,10,100000", &rule, NULL), ANEMO_OK);
    assert_int_equal(rule.n_looks, 3);
    assert_int_equal(rule.look[2], 100000);
    static const char *const bad[] = {"",
                                      "5",
                                      "52,52",
                                      "52,104,",
                                      ",52",
                                      "52;104",
                                      "100001",
                                      "1e3",
                                      " 52",
                                      "104,52",
                                      "-52",
                                      "+52",
                                      "6,7,8,9,10,11,12,13,14",
                                      "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        anemo_error err = {""};
        assert_int_equal(anemo_compare_looks_parse(bad[i], &rule, &err), ANEMO_E_INPUT);
        assert_non_null(strstr(err.text, "52,104,208"));
        assert_int_equal(rule.n_looks, 3); /* untouched */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binomial_counts_are_exact),
        cmocka_unit_test(percentiles_are_numpys),
        cmocka_unit_test(mann_whitney_is_scipys),
        cmocka_unit_test(holm_is_statsmodels),
        cmocka_unit_test(interval_covers_as_the_binomial_says),
        cmocka_unit_test(paired_interval_ignores_drift),
        cmocka_unit_test(autocorrelation_costs_coverage),
        cmocka_unit_test(fewer_than_six_say_so),
        cmocka_unit_test(verdicts_and_looks),
        cmocka_unit_test(a_pair_is_the_median_of_its_turns),
        cmocka_unit_test(one_bad_opening_does_not_decide),
        cmocka_unit_test(failures_stay_with_their_case),
        cmocka_unit_test(an_interrupt_ends_it),
        cmocka_unit_test(alpha_is_kept_over_the_looks),
        cmocka_unit_test(holm_keeps_the_table),
        cmocka_unit_test(minimum_detectable_effect_is_true),
        cmocka_unit_test(looks_are_read_strictly),
    };
    return cmocka_run_group_tests(tests, read_golden, drop_golden);
}
