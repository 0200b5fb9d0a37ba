/* Intervals and tests for scores: shares, discordant pairs, paired means. Exact or standard forms
 * only; every function is pure. */
#ifndef ANEMO_EVAL_INTERVAL_H
#define ANEMO_EVAL_INTERVAL_H

#include <stdint.h>

typedef struct anemo_interval {
    double value, lo, hi;
} anemo_interval;

/* k of n: the share with its 95 % Wilson score interval (Wilson 1927), which stays inside [0, 1]
 * and is right at 0 and at n too. n = 0: all NaN. */
anemo_interval anemo_wilson(int64_t k, int64_t n);

/* k of n: the share with its exact 95 % interval (Clopper and Pearson 1934). */
anemo_interval anemo_clopper_pearson(int64_t k, int64_t n);

/* Two-sided exact p of the sign test: k of n, each with probability 1/2 (McNemar's test when n
 * counts discordant pairs). 1 when n = 0. */
double anemo_sign_test(int64_t k, int64_t n);

/* Student's t with `degrees` of freedom: two-sided p of |t|, and the t that has two-sided p. */
double anemo_student_p(double t, double degrees);
double anemo_student_t(double p, double degrees);

/* I_x(a, b), the regularised incomplete beta function, a, b > 0. */
double anemo_incomplete_beta(double a, double b, double x);

#endif
