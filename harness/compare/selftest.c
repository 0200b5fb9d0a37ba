/* Trials of the comparison rule, counted. What is asked of it (issue: measurements that can be
 * trusted) is written down once, in anemo_selftest_bounds. */
#include "harness/compare/selftest.h"

#include "harness/measure/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FEW = 20, MORE = 52 };

const int64_t anemo_selftest_trials[ANEMO_SELFTEST_EFFECTS] = {300, 100, 100, 100};
const int64_t anemo_selftest_quick_trials[ANEMO_SELFTEST_EFFECTS] = {24, 8, 8, 8};

/* ---------------------------------------------------------------- one trial */

/* Estimates of all trials of one effect. */
typedef struct trial_log {
    double *side_ns, *ratio, *pairs_20, *blocks_20;
    int64_t n, n_blocks;
} trial_log;

typedef struct trial_sides {
    const anemo_selftest_bed *bed;
    const int64_t *units;
} trial_sides;

static anemo_status sample_side(void *ctx, int32_t side, double *ns, anemo_error *err) {
    const trial_sides *sides = ctx;
    return sides->bed->sample(sides->bed->ctx, sides->units[side], ns, err);
}

static bool differs(const anemo_compare_result *r, int64_t n) {
    const anemo_estimate e = anemo_stats_paired_ratio(r->ns[0], r->ns[1], n, 0.95);
    return r->pairs >= n && (e.lo > 1 || e.hi < 1);
}

/* The shipped driver and rule; +2 % is asked about at a fixed n only. */
static anemo_status paired_trial(trial_sides *sides, int effect, bool (*interrupted)(void),
                                 anemo_selftest_counts *counts, trial_log *log, anemo_error *err) {
    const anemo_compare_rule rule =
        effect == 1 ? anemo_compare_rule_fixed(0.03, MORE) : anemo_compare_rule_usual();
    const anemo_compare_case c = {
        .name = sides->bed->name, .sample = sample_side, .ctx = sides, .turns = &sides->bed->turns};
    const anemo_compare_hooks hooks = {.interrupted = interrupted};
    anemo_compare_result r;
    anemo_status status = anemo_compare_run(&c, 1, &rule, &hooks, &r, err);
    if (!status && r.status) {
        status = anemo_fail(err, r.status, "%s", r.error.text);
    }
    if (!status) {
        counts->verdict[r.verdict]++;
        counts->differs_20 += differs(&r, FEW);
        counts->differs_52 += differs(&r, MORE);
        log->side_ns[log->n] = r.time_ns[0].value;
        log->pairs_20[log->n] = anemo_stats_paired_ratio(r.ns[0], r.ns[1], FEW, 0.95).value;
        log->ratio[log->n++] = r.ratio.value;
        counts->trials++;
    }
    anemo_compare_results_free(&r, 1);
    return status;
}

static double mean(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i];
    }
    return sum / (double)n;
}

/* A sample of a block: as many turns as a side has in a pair, in one piece. */
static anemo_status block_sample(void *ctx, int32_t side, double *ns, anemo_error *err) {
    const trial_sides *sides = ctx;
    anemo_status status = ANEMO_OK;
    *ns = 0;
    for (int32_t t = 0; !status && t < sides->bed->turns; t++) {
        double turn_ns = 0;
        status = sample_side(ctx, side, &turn_ns, err);
        *ns += turn_ns / sides->bed->turns;
    }
    return status;
}

/* 52 samples of A, then 52 of B. The rules at 20 see the end of the one and the start of the other:
 * blocks of 20, one behind the other. */
static anemo_status block_trial(trial_sides *sides, anemo_selftest_counts *counts, trial_log *log,
                                anemo_error *err) {
    double ns[2][MORE];
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < MORE; i++) {
            const anemo_status status = block_sample(sides, side, &ns[side][i], err);
            if (status) {
                return status;
            }
        }
    }
    const double *a = ns[0] + MORE - FEW, *b = ns[1];
    counts->mean_20 += mean(b, FEW) / mean(a, FEW) > 1.05;
    counts->mean_52 += mean(ns[1], MORE) / mean(ns[0], MORE) > 1.05;
    counts->rank_20 += anemo_mann_whitney_p(a, FEW, b, FEW) < 0.05;
    counts->rank_52 += anemo_mann_whitney_p(ns[0], MORE, ns[1], MORE) < 0.05;
    log->blocks_20[log->n_blocks++] =
        anemo_stats_median(b, FEW, 0.95).value / anemo_stats_median(a, FEW, 0.95).value;
    counts->blocks++;
    return ANEMO_OK;
}

/* Which of the two comes first takes turns too. */
static anemo_status one_trial(const anemo_selftest_bed *bed, int effect, int64_t trial,
                              const anemo_selftest_plan *plan, anemo_selftest_counts *counts,
                              trial_log *log, anemo_error *err) {
    trial_sides sides = {bed, bed->units[effect]};
    const bool blocks = effect == 0 || effect == 2; /* false alarms, and one power */
    anemo_status status = blocks && trial % 2 ? block_trial(&sides, counts, log, err) : ANEMO_OK;
    status = status ? status : paired_trial(&sides, effect, plan->interrupted, counts, log, err);
    if (!status && blocks && trial % 2 == 0) {
        status = block_trial(&sides, counts, log, err);
    }
    return status;
}

/* ---------------------------------------------------------------- all trials */

static double sorted_quantile(double *x, int64_t n, double q) {
    anemo_stats_sort(x, n);
    return anemo_stats_quantile(x, n, q);
}

static void summarise(anemo_selftest_counts *counts, trial_log *log) {
    counts->side_ns = sorted_quantile(log->side_ns, log->n, 0.5);
    counts->ratio = sorted_quantile(log->ratio, log->n, 0.5);
    counts->pairs_lo = sorted_quantile(log->pairs_20, log->n, 0.05);
    counts->pairs_hi = sorted_quantile(log->pairs_20, log->n, 0.95);
    counts->blocks_lo = sorted_quantile(log->blocks_20, log->n_blocks, 0.05);
    counts->blocks_hi = sorted_quantile(log->blocks_20, log->n_blocks, 0.95);
}

static bool log_create(trial_log *log, int64_t trials) {
    double *memory = calloc((size_t)(4 * trials + 1), sizeof *memory);
    *log = (trial_log){.side_ns = memory,
                       .ratio = memory + trials,
                       .pairs_20 = memory + 2 * trials,
                       .blocks_20 = memory + 3 * trials};
    return memory != NULL;
}

/* Runs the bed for a while untimed, so that the first trial finds what the others find. */
static anemo_status warm_up(const anemo_selftest_bed *bed, anemo_error *err) {
    double spent_ns = 0, ns = 0;
    anemo_status status = ANEMO_OK;
    for (int i = 0; !status && (i < 20 || (spent_ns < 3e8 && i < 100000)); i++) {
        status = bed->sample(bed->ctx, bed->units[0][0], &ns, err);
        spent_ns += ns;
    }
    return status;
}

anemo_status anemo_selftest_run(const anemo_selftest_bed *bed, const anemo_selftest_plan *plan,
                                anemo_selftest_counts counts[ANEMO_SELFTEST_EFFECTS],
                                anemo_error *err) {
    trial_log log[ANEMO_SELFTEST_EFFECTS] = {{0}};
    int64_t most = 0;
    double total = 0, done = 0;
    anemo_status status = ANEMO_OK;
    for (int e = 0; e < ANEMO_SELFTEST_EFFECTS; e++) {
        counts[e] = (anemo_selftest_counts){0};
        most = plan->trials[e] > most ? plan->trials[e] : most;
        total += (double)(plan->trials[e] * bed->units[e][0]);
        if (!log_create(&log[e], plan->trials[e])) {
            status = anemo_fail(err, ANEMO_E_MEMORY, "no memory for %lld trials",
                                (long long)plan->trials[e]);
        }
    }
    status = status ? status : warm_up(bed, err);
    for (int64_t t = 0; !status && t < most; t++) {
        for (int e = 0; !status && e < ANEMO_SELFTEST_EFFECTS; e++) {
            const int64_t due = (t + 1) * plan->trials[e] / most;
            if (counts[e].trials >= due) {
                continue;
            }
            status = one_trial(bed, e, counts[e].trials, plan, &counts[e], &log[e], err);
            done += (double)bed->units[e][0];
            if (plan->progress) {
                plan->progress(plan->ctx, done, total);
            }
            if (!status && plan->interrupted && plan->interrupted()) {
                status = anemo_fail(err, ANEMO_E_CANCELLED, "interrupted");
            }
        }
    }
    for (int e = 0; e < ANEMO_SELFTEST_EFFECTS; e++) {
        if (log[e].side_ns) {
            summarise(&counts[e], &log[e]);
        }
        free(log[e].side_ns);
    }
    return status;
}

void anemo_selftest_bed_close(anemo_selftest_bed *bed) {
    if (bed->close) {
        bed->close(bed);
    }
    *bed = (anemo_selftest_bed){.ctx = NULL};
}

/* ---------------------------------------------------------------- bounds */

const char *anemo_bound_state_name(anemo_bound_state state) {
    static const char *const names[] = {"holds", "MISSED", "too few trials to say"};
    return names[state];
}

void anemo_selftest_decide(anemo_selftest_bound *b) {
    b->lo = anemo_share_at_least(b->k, b->n, 0.95);
    b->hi = anemo_share_at_most(b->k, b->n, 0.95);
    const double share = (double)b->k / (double)b->n;
    b->state = ANEMO_BOUND_UNDECIDED;
    if (b->n <= 0) {
        return;
    }
    if (b->level) {
        b->state = b->lo > b->limit      ? ANEMO_BOUND_MISSED
                   : b->n >= b->needed   ? ANEMO_BOUND_HOLDS
                   : !(b->hi > b->limit) ? ANEMO_BOUND_HOLDS
                                         : ANEMO_BOUND_UNDECIDED;
    } else if (b->n >= b->needed) {
        const bool good = b->at_least ? share >= b->limit : share <= b->limit;
        b->state = good ? ANEMO_BOUND_HOLDS : ANEMO_BOUND_MISSED;
    } else if (b->at_least ? b->lo >= b->limit : b->hi <= b->limit) {
        b->state = ANEMO_BOUND_HOLDS;
    } else if (b->at_least ? b->hi < b->limit : b->lo > b->limit) {
        b->state = ANEMO_BOUND_MISSED;
    }
}

void anemo_selftest_bounds(const anemo_selftest_counts c[ANEMO_SELFTEST_EFFECTS],
                           anemo_selftest_bound bounds[ANEMO_SELFTEST_BOUNDS]) {
    /* What an interval of 20 pairs misses, exactly: 4.1 %. */
    double flat[FEW] = {0};
    const double nominal = 1 - anemo_stats_median_sorted(flat, FEW, 0.95).coverage;
    const int64_t *needed = anemo_selftest_trials;
    const anemo_selftest_bound all[ANEMO_SELFTEST_BOUNDS] = {
        {.what = "same code is called REGRESSION",
         .limit = 2.0 / 300,
         .k = c[0].verdict[ANEMO_VERDICT_REGRESSION],
         .n = c[0].trials,
         .needed = needed[0]},
        {.what = "+6 % is called REGRESSION",
         .at_least = true,
         .limit = 0.90,
         .k = c[3].verdict[ANEMO_VERDICT_REGRESSION],
         .n = c[3].trials,
         .needed = needed[3]},
        {.what = "+4 % is called PASS",
         .limit = 0.025,
         .k = c[2].verdict[ANEMO_VERDICT_PASS],
         .n = c[2].trials,
         .needed = needed[2]},
        {.what = "same code differs at 20 pairs (its nominal level)",
         .level = true,
         .limit = nominal,
         .k = c[0].differs_20,
         .n = c[0].trials,
         .needed = needed[0]},
        {.what = "+4 % differs at 20 pairs",
         .at_least = true,
         .limit = 0.80,
         .k = c[2].differs_20,
         .n = c[2].trials,
         .needed = needed[2]},
        {.what = "+2 % differs at 52 pairs",
         .at_least = true,
         .limit = 0.75,
         .k = c[1].differs_52,
         .n = c[1].trials,
         .needed = needed[1]},
    };
    memcpy(bounds, all, sizeof all);
    for (int i = 0; i < ANEMO_SELFTEST_BOUNDS; i++) {
        anemo_selftest_decide(&bounds[i]);
    }
}
