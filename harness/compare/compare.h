/* Is B slower than A? Two sides of a case are sampled in turns, pair by pair, and judged at looks
 * that were fixed beforehand. It knows no kernels: a case is a callback that runs one side once and
 * says how long that took.
 *
 *     static anemo_status sample(void *ctx, int32_t side, double *ns, anemo_error *err);
 *     const anemo_compare_case cases[] = {{.name = "qgemm/...", .sample = sample, .ctx = &mine}};
 *     const anemo_compare_rule rule = anemo_compare_rule_usual();
 *     anemo_compare_result results[1];
 *     status = anemo_compare_run(cases, 1, &rule, NULL, results, &err);
 *     ... results[0].verdict, .ratio, .differs, .mde_regression ...
 *     anemo_compare_results_free(results, 1);
 *
 * Two separate answers come back (DESIGN section 4):
 *   differs   the interval of the ratio B / A excludes 1: a statement about the world
 *   verdict   against a practical threshold delta, a statement about what to do:
 *     REGRESSION    "ratio <= 1 + delta" is rejected by a one-sided exact sign test, Holm over the
 *                   table and alpha split over the looks: of all tables without a case beyond
 *                   delta, at most `alpha` hold one REGRESSION or more
 *     PASS          the interval lies below 1 + delta: of cases at or beyond delta, at most
 *                   (1 - level) / 2 pass
 *     INCONCLUSIVE  neither, at the last look
 * A case stops at the look that decides it. Samples of the same pair, the same look and all looks
 * may depend on each other through the machine's drift as they like; pairs are taken to be
 * independent given it, and `autocorrelation` shows where that is doubtful. */
#ifndef ANEMO_COMPARE_H
#define ANEMO_COMPARE_H

#include "harness/measure/stats.h"
#include "kernels/kernel.h"

/* ---------------------------------------------------------------- the rule, fixed beforehand */

enum { ANEMO_COMPARE_LOOKS = 8, ANEMO_COMPARE_TURNS = 31 };

typedef struct anemo_compare_rule {
    double delta; /* 0.03: B may be 3 % slower */
    double alpha; /* 0.05: of REGRESSION, over the table and all looks */
    double level; /* 0.95: of the interval, at all looks together */
    int32_t n_looks;
    int64_t look[ANEMO_COMPARE_LOOKS]; /* pairs, ascending */
    /* The pairs of a look are shared out over so many openings of the case (0: one): where a
     * process lies in memory moves a small kernel by some per cent for as long as it lives, and
     * pairs of one opening share that. */
    int32_t openings;
} anemo_compare_rule;

/* delta 3 %, alpha 5 %, level 95 %, looks at 52, 104 and 208 pairs. */
anemo_compare_rule anemo_compare_rule_usual(void);
/* One look at n pairs. */
anemo_compare_rule anemo_compare_rule_fixed(double delta, int64_t n);
/* "52,104,208" into the rule. ANEMO_E_INPUT: not 1 to 8 ascending numbers from 6 to 100000. */
anemo_status anemo_compare_looks_parse(const char *text, anemo_compare_rule *rule,
                                       anemo_error *err);
/* What each look may spend: equal shares. */
double anemo_compare_look_alpha(const anemo_compare_rule *rule); /* of alpha */
double anemo_compare_look_level(const anemo_compare_rule *rule); /* of the interval at one look */

/* ---------------------------------------------------------------- running a table */

typedef enum anemo_compare_verdict {
    ANEMO_VERDICT_INCONCLUSIVE,
    ANEMO_VERDICT_PASS,
    ANEMO_VERDICT_REGRESSION
} anemo_compare_verdict;
const char *anemo_compare_verdict_name(anemo_compare_verdict verdict); /* "REGRESSION" */

typedef struct anemo_compare_case {
    const char *name;
    /* Runs side 0 (A) or 1 (B) once and returns nanoseconds > 0. The caller has warmed it up and
     * chosen what "once" is: the same number of calls on both sides. */
    anemo_status (*sample)(void *ctx, int32_t side, double *ns, anemo_error *err);
    /* Around each turn of the case, rule.openings a look; both may be NULL. What open() failed to
     * open, close() is not called for. */
    anemo_status (*open)(void *ctx, anemo_error *err);
    void (*close)(void *ctx);
    void *ctx;
    /* Turns of a pair, 1 to ANEMO_COMPARE_TURNS; read after open(). NULL: one. A side's time in a
     * pair is the median of its turns. On a virtual machine most turns are calm (half of them
     * within 0.4 %) and some meet a neighbour (a tenth are off by 5 to 15 %): the median of five
     * turns of 0.1 ms then told +2 % apart in 98 of 100 pairs, their mean, or one turn of 0.5 ms,
     * in 80. */
    const int32_t *turns;
} anemo_compare_case;

typedef struct anemo_compare_result {
    /* Not OK: sampling failed, `error` says how, and nothing below but pairs and ns holds. The
     * other cases go on; it still counts in the table of Holm. */
    anemo_status status;
    anemo_error error;
    anemo_compare_verdict verdict;
    bool decided; /* at look `look`; else that was the last one and it is INCONCLUSIVE */
    int32_t look; /* index of the last look taken; -1: none (interrupted before it) */
    int64_t pairs;
    anemo_estimate ratio;      /* B / A, paired; its interval holds at all looks together */
    bool differs;              /* that interval excludes 1; false below the pairs that it needs */
    double p_regression;       /* exact one-sided sign test of ratio <= 1 + delta */
    double p_needed;           /* at or below which it would be, or was, rejected at this look */
    double mde_regression;     /* smallest ratio that 80 % of such runs would call REGRESSION */
    double mde_differs;        /* smallest ratio > 1 at which 80 % of such runs differ; NaN: none */
    double autocorrelation;    /* of successive pairs, lag 1, of ranks; NaN below 10 pairs */
    anemo_estimate time_ns[2]; /* medians of the sides by themselves */
    int64_t outliers[2];
    double *ns[2]; /* [pairs] raw samples in the order of the pairs */
    int64_t capacity;
} anemo_compare_result;

typedef struct anemo_compare_hooks {
    /* After each look of each case, and before the table is judged at it. */
    void (*progress)(void *ctx, int32_t case_index, int64_t pairs, int64_t pairs_most);
    bool (*interrupted)(void); /* polled after each pair */
    void *ctx;
} anemo_compare_hooks;

/* Runs all cases to their verdicts; hooks NULL: none. ANEMO_OK also when cases failed: look at
 * their status. ANEMO_E_CANCELLED: interrupted, undecided cases are judged on what they have as
 * INCONCLUSIVE. results[n] is filled in any case; free it. */
anemo_status anemo_compare_run(const anemo_compare_case *cases, int32_t n,
                               const anemo_compare_rule *rule, const anemo_compare_hooks *hooks,
                               anemo_compare_result *results, anemo_error *err);
void anemo_compare_results_free(anemo_compare_result *results, int32_t n);

/* ---------------------------------------------------------------- the pure parts */

/* Everything of a result that follows from its pairs at look index `look`, without the verdict:
 * ratio, differs, p_regression, mde (with p_needed as it stands), autocorrelation, times. */
void anemo_compare_describe(anemo_compare_result *result, const anemo_compare_rule *rule);

/* Judges the table at one look: decides REGRESSION and PASS for those of the n results that are
 * undecided and OK, whose p_regression and ratio describe their pairs. Holm: with R of the n cases
 * REGRESSION already, the smallest p is held against look_alpha / (n - R), and so on upwards. The
 * first null hypothesis to be rejected wrongly meets at most look_alpha / (number of true ones);
 * summed over those and the looks that is alpha. */
void anemo_compare_judge(anemo_compare_result *results, int32_t n, const anemo_compare_rule *rule,
                         int32_t look);

/* P(X >= k) of X ~ Binomial(n, p), exact. */
double anemo_binomial_at_least(int64_t k, int64_t n, double p);
/* One-sided exact sign test that the median of b / a is at most `limit`: P(Binomial(n, 1/2) >= how
 * many ratios are above it). A ratio equal to the limit speaks against rejection. */
double anemo_sign_test_above(const double *a, const double *b, int64_t n, double limit);
/* Fewest of n ratios above the limit that reject at level `alpha`; n + 1: none can. */
int64_t anemo_sign_test_critical(int64_t n, double alpha);
/* Holm's step-down test at family-wise level alpha; rejected[i] for each p[i]. Returns how many. */
int32_t anemo_holm(const double *p, int32_t n, double alpha, bool *rejected);
/* Clopper and Pearson's one-sided bounds of a share, k of n, at `level`. */
double anemo_share_at_least(int64_t k, int64_t n, double level);
double anemo_share_at_most(int64_t k, int64_t n, double level);

/* Mann and Whitney's test that two unpaired samples come from one law: two-sided p, normal
 * approximation with corrections for ties and continuity (fine from 8 a side). It is here to be
 * shown beside the paired rule, as the rule that drifting machines fool. NaN: no memory. */
double anemo_mann_whitney_p(const double *a, int64_t n_a, const double *b, int64_t n_b);

#endif
