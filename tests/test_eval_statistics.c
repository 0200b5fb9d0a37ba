/* The figures beside the scores: intervals against published tables, tests against exact
 * arithmetic, and the promises (5 % false alarms, 80 % power at the detectable difference) by
 * simulation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "harness/eval/eval.h"

#include <math.h>
#include <string.h>

static void close_to(double value, double want, double tolerance) {
    if (!(fabs(value - want) <= tolerance))
        fail_msg("%.10g, expected %.10g within %g", value, want, tolerance);
}

/* Newcombe 1998, table I: methods 3 (Wilson) and 5 (Clopper-Pearson). */
static void test_intervals(void **state) {
    (void)state;
    static const struct {
        int64_t k, n;
        double wilson_lo, wilson_hi, exact_lo, exact_hi;
    } table[] = {{81, 263, 0.2553, 0.3662, 0.2527, 0.3676},
                 {15, 148, 0.0624, 0.1605, 0.0578, 0.1617},
                 {0, 20, 0, 0.1611, 0, 0.1684},
                 {1, 29, 0.0061, 0.1718, 0.0009, 0.1776}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const anemo_interval w = anemo_wilson(table[i].k, table[i].n);
        const anemo_interval e = anemo_clopper_pearson(table[i].k, table[i].n);
        close_to(w.value, (double)table[i].k / (double)table[i].n, 1e-15);
        close_to(w.lo, table[i].wilson_lo, 5e-5);
        close_to(w.hi, table[i].wilson_hi, 5e-5);
        close_to(e.lo, table[i].exact_lo, 5e-5);
        close_to(e.hi, table[i].exact_hi, 5e-5);
    }
    assert_true(anemo_wilson(20, 20).hi == 1 && anemo_clopper_pearson(20, 20).hi == 1);
    assert_true(isnan(anemo_wilson(0, 0).lo));
}

static void test_student(void **state) {
    (void)state;
    close_to(anemo_student_t(0.05, 1), 12.7062047, 1e-6);
    close_to(anemo_student_t(0.05, 10), 2.2281389, 1e-6);
    close_to(anemo_student_t(0.01, 30), 2.7499957, 1e-6);
    close_to(anemo_student_t(0.05, 1e6), 1.9599664, 1e-5);
    close_to(anemo_student_p(2.2281389, 10), 0.05, 1e-7);
    close_to(anemo_student_p(0, 5), 1, 1e-12);
    close_to(anemo_student_p(-3, 5), anemo_student_p(3, 5), 1e-15);
}

/* The binomial summed term by term. */
static void test_sign_test(void **state) {
    (void)state;
    for (int64_t n = 1; n <= 30; n++)
        for (int64_t k = 0; k <= n; k++) {
            const int64_t few = k < n - k ? k : n - k;
            double term = pow(0.5, (double)n), tail = 0;
            for (int64_t i = 0; i <= few; i++) {
                tail += term;
                term *= (double)(n - i) / (double)(i + 1);
            }
            close_to(anemo_sign_test(k, n), fmin(2 * tail, 1), 1e-12);
        }
    assert_true(anemo_sign_test(0, 0) == 1);
}

static void test_compare_shares(void **state) {
    (void)state;
    enum { N = 1000 };
    bool a[N], b[N];
    for (int i = 0; i < N; i++) /* 700 both, 30 only a, 70 only b, 200 neither */
        a[i] = i < 730, b[i] = i < 700 || (i >= 730 && i < 800);
    anemo_eval_comparison c = anemo_eval_compare_shares("x", a, b, N);
    assert_true(c.only_a == 30 && c.only_b == 70 && c.n == N);
    close_to(c.difference.value, 0.04, 1e-12);
    close_to(c.p, anemo_sign_test(70, 100), 1e-15);
    close_to(c.p, 7.85e-5, 1e-6);
    /* Clopper-Pearson of 70 of 100 is 0.6002 .. 0.7876 */
    close_to(c.difference.lo, (2 * 0.6002 - 1) * 0.1, 2e-5);
    close_to(c.difference.hi, (2 * 0.7876 - 1) * 0.1, 2e-5);
    /* (1.96 sqrt(0.1) + 0.8416 sqrt(0.1 - d^2)) / sqrt(1000) at its fixed point */
    close_to(c.detectable, 0.02797, 2e-5);
    assert_true(c.different);

    c = anemo_eval_compare_shares("x", a, a, N);
    assert_true(c.p == 1 && !c.different && c.difference.value == 0);
    close_to(c.difference.hi, 0.00299, 1e-5); /* no discordant pair in 1000: below 3 / 1000 */
}

static void test_holm(void **state) {
    (void)state;
    /* Holm 1979: 0.01 x 4, 0.02 x 3, 0.03 x 2 and 0.04 kept in order; NaN stays out of it. */
    anemo_eval_comparison c[5] = {{.p = 0.03}, {.p = 0.01}, {.p = 0.04}, {.p = 0.02}, {.p = NAN}};
    anemo_eval_holm(c, 4);
    close_to(c[1].p_holm, 0.04, 1e-15);
    close_to(c[3].p_holm, 0.06, 1e-15);
    close_to(c[0].p_holm, 0.06, 1e-15);
    close_to(c[2].p_holm, 0.06, 1e-15);
    assert_true(c[1].different && !c[3].different && !c[0].different && !c[2].different);
    anemo_eval_holm(c + 4, 1);
    assert_true(isnan(c[4].p_holm) && !c[4].different);
}

/* ---------------------------------------------------------------- promises, by simulation */

static double uniform(uint64_t *counter) {
    return anemo_philox_uniform(42, (*counter)++);
}

static double normal(uint64_t *counter) {
    const double u = uniform(counter), v = uniform(counter);
    return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
}

/* One pair of runs: documents of unequal length, whose difference per token is `shift` plus noise.
 */
static anemo_eval_comparison simulate_nll(uint64_t *counter, double shift) {
    enum { N = 60 };
    anemo_eval_unit a[N], b[N];
    for (int i = 0; i < N; i++) {
        const int64_t tokens = 5 + (int64_t)(30 * uniform(counter));
        const double n = (double)tokens;
        a[i] = (anemo_eval_unit){n * (2 + normal(counter)), tokens};
        b[i] = (anemo_eval_unit){a[i].nll + n * shift + sqrt(n) * 0.3 * normal(counter), tokens};
    }
    return anemo_eval_compare_nll("x", a, b, N);
}

static void test_nll_promises(void **state) {
    (void)state;
    enum { TRIALS = 3000 };
    uint64_t counter = 0;
    int alarms = 0, covered = 0, found = 0;
    double detectable = 0;
    for (int i = 0; i < TRIALS; i++) {
        const anemo_eval_comparison c = simulate_nll(&counter, 0);
        alarms += c.different;
        covered += c.difference.lo <= 0 && c.difference.hi >= 0;
        detectable += c.detectable / TRIALS;
    }
    for (int i = 0; i < TRIALS; i++)
        found += simulate_nll(&counter, detectable).different;
    print_message("false alarms %.3f, coverage %.3f, power %.3f\n", alarms / (double)TRIALS,
                  covered / (double)TRIALS, found / (double)TRIALS);
    close_to(alarms / (double)TRIALS, 0.05, 0.016); /* 4 standard errors of 3000 trials */
    assert_int_equal(alarms + covered, TRIALS);
    close_to(found / (double)TRIALS, 0.80, 0.03);
}

static anemo_eval_comparison simulate_shares(uint64_t *counter, double only_a, double only_b) {
    enum { N = 400 };
    bool a[N], b[N];
    for (int i = 0; i < N; i++) {
        const double u = uniform(counter);
        a[i] = u < only_a || u > 0.5;
        b[i] = (u >= only_a && u < only_a + only_b) || u > 0.5;
    }
    return anemo_eval_compare_shares("x", a, b, N);
}

/* The exact test is conservative: at most 5 % alarms, and a little less than 80 % power. */
static void test_share_promises(void **state) {
    (void)state;
    enum { TRIALS = 2000 };
    uint64_t counter = 1 << 20;
    int alarms = 0, missed = 0, found = 0;
    double detectable = 0;
    for (int i = 0; i < TRIALS; i++) {
        const anemo_eval_comparison c = simulate_shares(&counter, 0.06, 0.06);
        alarms += c.different;
        missed += c.difference.lo > 0 || c.difference.hi < 0;
        detectable += c.detectable / TRIALS;
    }
    for (int i = 0; i < TRIALS; i++)
        found += simulate_shares(&counter, 0.06 - detectable / 2, 0.06 + detectable / 2).different;
    print_message("false alarms %.3f, interval misses %.3f, power %.3f\n", alarms / (double)TRIALS,
                  missed / (double)TRIALS, found / (double)TRIALS);
    assert_true(alarms <= TRIALS * 0.05 && missed <= TRIALS * 0.05);
    assert_true(found >= TRIALS * 0.70 && found <= TRIALS * 0.85);
}

/* A mean of unequal documents weighs tokens, not documents. */
static void test_perplexity(void **state) {
    (void)state;
    const anemo_eval_unit units[] = {{10, 5}, {3, 10}, {7, 5}};
    const anemo_perplexity p = anemo_eval_perplexity(units, 3);
    assert_true(p.tokens == 20 && p.units == 3);
    close_to(p.nll.value, 1, 1e-12);
    close_to(p.perplexity.value, exp(1), 1e-12);
    /* residuals 5, -7, 2: se = sqrt(78 * 3 / 2) / 20 */
    close_to(p.nll.hi - 1, 4.3026527 * sqrt(117) / 20, 1e-6);
    assert_true(isnan(anemo_eval_perplexity(units, 1).nll.lo));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intervals),      cmocka_unit_test(test_student),
        cmocka_unit_test(test_sign_test),      cmocka_unit_test(test_compare_shares),
        cmocka_unit_test(test_holm),           cmocka_unit_test(test_nll_promises),
        cmocka_unit_test(test_share_promises), cmocka_unit_test(test_perplexity),
    };
    return cmocka_run_group_tests_name("eval statistics", tests, NULL, NULL);
}
