/* The harness measures itself: does the verdict rule keep its promises on this machine, on code
 * that is really the same and on code that really does more? A bed is something whose work comes in
 * units that can be counted: rows of a kernel, tokens of a decode. Injected work is more units in
 * side B's very loop. Every trial is a fresh sequence of pairs. */
#ifndef ANEMO_COMPARE_SELFTEST_H
#define ANEMO_COMPARE_SELFTEST_H

#include "harness/compare/compare.h"
#include "harness/measure/bench_engine.h"

/* ---------------------------------------------------------------- beds */

enum { ANEMO_SELFTEST_EFFECTS = 4 }; /* none, +2 %, +4 %, +6 % */

typedef struct anemo_selftest_bed {
    char name[96], unit[16];
    int32_t turns; /* of a pair, compare.h */
    /* Does `units` units of work; nanoseconds of one call. */
    anemo_status (*sample)(void *ctx, int64_t units, double *ns, anemo_error *err);
    void (*close)(struct anemo_selftest_bed *bed); /* NULL: nothing to free */
    void *ctx;
    int64_t units[ANEMO_SELFTEST_EFFECTS][2]; /* of sides A and B; e.g. {{8, 8}, {50, 51}, ..} */
} anemo_selftest_bed;

/* add_rmsnorm, rows of 64 floats in the second cache, about 0.15 ms a turn; the best variant that
 * runs here, checked first. */
anemo_status anemo_selftest_kernel_bed(anemo_device *device, anemo_selftest_bed *out,
                                       anemo_error *err);
/* Decode of the model at `path`, one session, tokens of forks of one prompt. */
anemo_status anemo_selftest_model_bed(anemo_device *device, const char *path,
                                      anemo_selftest_bed *out, anemo_error *err);
void anemo_selftest_bed_close(anemo_selftest_bed *bed);

/* ---------------------------------------------------------------- trials */

typedef struct anemo_selftest_counts {
    int64_t trials;
    int64_t verdict[3];             /* by anemo_compare_verdict: the rule of compare, delta 3 % */
    int64_t differs_20, differs_52; /* fixed n, 95 %: on the first 20 and 52 pairs */
    /* The rules that common tools use, on samples of their own: a block of A, then one of B. */
    int64_t blocks;           /* trials that had them */
    int64_t mean_20, mean_52; /* ratio of means above 1.05 */
    int64_t rank_20, rank_52; /* Mann and Whitney's p below 0.05 */
    double side_ns;           /* median over trials of A's median */
    double ratio;             /* median over trials of the measured ratio: the injection, as seen */
    double blocks_lo, blocks_hi, pairs_lo, pairs_hi; /* 5th and 95th percentile of the estimate at
                                                        n = 20: medians of blocks; paired */
} anemo_selftest_counts;

typedef struct anemo_selftest_plan {
    int64_t trials[ANEMO_SELFTEST_EFFECTS]; /* 300, 100, 100, 100 */
    /* done of total samples' worth; may be NULL */
    void (*progress)(void *ctx, double done, double total);
    void *ctx;
    bool (*interrupted)(void); /* may be NULL */
} anemo_selftest_plan;

extern const int64_t anemo_selftest_trials[ANEMO_SELFTEST_EFFECTS];       /* that bounds need */
extern const int64_t anemo_selftest_quick_trials[ANEMO_SELFTEST_EFFECTS]; /* in about a minute */

/* Effects take turns, so that the machine's moods meet all of them. ANEMO_E_CANCELLED: counts of
 * what was done. */
anemo_status anemo_selftest_run(const anemo_selftest_bed *bed, const anemo_selftest_plan *plan,
                                anemo_selftest_counts counts[ANEMO_SELFTEST_EFFECTS],
                                anemo_error *err);

/* ---------------------------------------------------------------- bounds */

typedef enum anemo_bound_state {
    ANEMO_BOUND_HOLDS,
    ANEMO_BOUND_MISSED,
    ANEMO_BOUND_UNDECIDED /* too few trials to say */
} anemo_bound_state;
const char *anemo_bound_state_name(anemo_bound_state state);

typedef struct anemo_selftest_bound {
    const char *what;
    bool at_least; /* the share k / n must be at least `limit`, else at most */
    bool level;    /* at most, up to chance: missed when the share's lower bound is above */
    double limit;
    int64_t k, n, needed; /* with n >= needed the share itself decides */
    double lo, hi;        /* one-sided 95 % bounds of the share (Clopper and Pearson), each */
    anemo_bound_state state;
} anemo_selftest_bound;

enum { ANEMO_SELFTEST_BOUNDS = 6 };
/* Fewer trials than needed decide only if a one-sided bound does. */
void anemo_selftest_decide(anemo_selftest_bound *bound);
void anemo_selftest_bounds(const anemo_selftest_counts counts[ANEMO_SELFTEST_EFFECTS],
                           anemo_selftest_bound bounds[ANEMO_SELFTEST_BOUNDS]);

/* ---------------------------------------------------------------- what measuring costs */

typedef struct anemo_selftest_overhead {
    char model[96];
    double parameters;
    double step_ns; /* of a decode step: median */
    anemo_clock_quality clock;
    double reads_per_step;  /* one, and two per sample of `steps` */
    int64_t steps, samples; /* steps of a sample; samples behind one record */
    double record_ns;       /* to make and write that record: median */
    double share;           /* (reads x cost + record / steps recorded) / step */
    anemo_estimate on_off;  /* paired: steps with their clock reads over steps without */
} anemo_selftest_overhead;

/* A decode step of `path` with the harness's reads and without. record_path: a file that may be
 * written and is left to the caller. */
anemo_status anemo_selftest_cost(anemo_device *device, const char *path, const char *record_path,
                                 int64_t pairs, anemo_selftest_overhead *out, anemo_error *err);

#endif
