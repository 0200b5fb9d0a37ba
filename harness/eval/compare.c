/* Do two runs over the same cases differ? Pair by pair.
 *
 * Shares: cases that both get right or both get wrong say nothing about the difference; among the
 * discordant ones either side is equally likely if there is none (McNemar 1947, in its exact form).
 * Given the number m of discordant cases, the difference is (2 theta - 1) m / n with theta the
 * share that only b got right, so theta's exact interval carries over. Means: Student's t over the
 * paired differences, per unit. */
#include "harness/eval/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEVEL   0.05
#define Z_LEVEL 1.959963984540054 /* two-sided 5 % */
#define Z_POWER 0.841621233572914 /* 80 % */

/* The difference d that the test sees with 80 % power when a share `discordant` of the pairs
 * differ: the fixed point of d sqrt(n) = z_level sqrt(discordant) + z_power sqrt(discordant - d^2)
 * (Connor 1987). */
static double detectable_share(double discordant, int64_t n) {
    double d = 0;
    for (int i = 0; i < 50; i++)
        d = (Z_LEVEL * sqrt(discordant) + Z_POWER * sqrt(fmax(discordant - d * d, 0))) /
            sqrt((double)n);
    return fmin(d, 1);
}

anemo_eval_comparison anemo_eval_compare_shares(const char *metric, const bool *a, const bool *b,
                                                int64_t n) {
    anemo_eval_comparison c = {.metric = metric, .n = n};
    int64_t right_a = 0, right_b = 0;
    for (int64_t i = 0; i < n; i++) {
        right_a += a[i];
        right_b += b[i];
        c.only_a += a[i] && !b[i];
        c.only_b += b[i] && !a[i];
    }
    const double nd = (double)n;
    const int64_t m = c.only_a + c.only_b;
    c.a = (double)right_a / nd;
    c.b = (double)right_b / nd;
    c.p = c.p_holm = anemo_sign_test(c.only_b, m);
    /* No discordant pair: their share is below 3 / n (95 %), and so is the difference, either way.
     */
    const double unseen = 1 - pow(LEVEL, 1 / nd);
    if (m) {
        const anemo_interval theta = anemo_clopper_pearson(c.only_b, m);
        const double scale = (double)m / nd;
        c.difference =
            (anemo_interval){c.b - c.a, (2 * theta.lo - 1) * scale, (2 * theta.hi - 1) * scale};
    } else {
        c.difference = (anemo_interval){0, -unseen, unseen};
    }
    c.detectable = detectable_share(m ? (double)m / nd : unseen, n);
    c.different = c.p < LEVEL;
    return c;
}

anemo_eval_comparison anemo_eval_compare_nll(const char *metric, const anemo_eval_unit *a,
                                             const anemo_eval_unit *b, int64_t n) {
    anemo_eval_comparison c = {
        .metric = metric, .n = n, .p = NAN, .p_holm = NAN, .only_a = -1, .only_b = -1};
    const anemo_interval mean_a = eval_mean(NULL, a, n, NULL), mean_b = eval_mean(NULL, b, n, NULL);
    double error;
    c.a = mean_a.value;
    c.b = mean_b.value;
    c.difference = eval_mean(a, b, n, &error);
    c.detectable = NAN;
    if (n < 2)
        return c;
    const double t = c.difference.value / error;
    c.p = c.p_holm = error > 0 ? anemo_student_p(t, (double)n - 1) : c.difference.value == 0;
    c.detectable = (anemo_student_t(LEVEL, (double)n - 1) + Z_POWER) * error;
    c.different = c.p < LEVEL;
    return c;
}

void anemo_eval_holm(anemo_eval_comparison *comparisons, int32_t n) {
    /* Step down: the k-th smallest p times (n - k), never below the one before. Few, so quadratic.
     */
    for (int32_t i = 0; i < n; i++) {
        double adjusted = 0;
        for (int32_t j = 0; j < n; j++) {
            if (!(comparisons[j].p <= comparisons[i].p))
                continue;
            int32_t smaller = 0;
            for (int32_t k = 0; k < n; k++)
                smaller += comparisons[k].p < comparisons[j].p;
            adjusted = fmax(adjusted, comparisons[j].p * (n - smaller));
        }
        comparisons[i].p_holm = isnan(comparisons[i].p) ? NAN : fmin(adjusted, 1);
        comparisons[i].different = comparisons[i].p_holm < LEVEL;
    }
}

int32_t anemo_eval_compare(const anemo_eval_cases *cases, const anemo_eval_options *options,
                           const anemo_eval_result *a, const anemo_eval_result *b,
                           anemo_eval_comparison *out) {
    const size_t n = (size_t)cases->n;
    bool *flags_a = malloc(n), *flags_b = malloc(n);
    anemo_eval_unit *nll_a = malloc(n * sizeof *nll_a), *nll_b = malloc(n * sizeof *nll_b);
    int32_t count = -1;
    if (flags_a && flags_b && nll_a && nll_b) {
        count = 0;
        if (options->exact) {
            for (size_t i = 0; i < n; i++)
                flags_a[i] = a[i].exact, flags_b[i] = b[i].exact;
            out[count++] = anemo_eval_compare_shares("exact", flags_a, flags_b, cases->n);
        }
        int64_t m = 0;
        for (size_t i = 0; i < n && options->choice; i++) {
            if (!a[i].answer_tokens || !b[i].answer_tokens)
                continue;
            flags_a[m] = a[i].choice, flags_b[m] = b[i].choice;
            nll_a[m] = (anemo_eval_unit){a[i].answer_nll, 1};
            nll_b[m++] = (anemo_eval_unit){b[i].answer_nll, 1};
        }
        if (m) {
            out[count++] = anemo_eval_compare_shares("choice acc", flags_a, flags_b, m);
            out[count++] = anemo_eval_compare_nll("answer nats", nll_a, nll_b, m);
        }
        anemo_eval_holm(out, count);
    }
    free(flags_a);
    free(flags_b);
    free(nll_a);
    free(nll_b);
    return count;
}
