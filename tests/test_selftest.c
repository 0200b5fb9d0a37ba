/* The self-test, tested: on beds whose noise and injected work are known, it must say that all
 * bounds hold, and on beds that break a promise it must say which. No real time is measured. */
#include "harness/compare/selftest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------- beds */

typedef struct fake {
    uint64_t random;
    double spread; /* of one sample */
    double drift;  /* of the machine, over some 40 samples */
    int64_t calls, fail_at;
} fake;

static double uniform(uint64_t *seed) {
    uint64_t z = (*seed += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) * 0x1p-53;
}

static anemo_status sample(void *ctx, int64_t units, double *ns, anemo_error *err) {
    fake *f = ctx;
    if (++f->calls == f->fail_at) {
        return anemo_fail(err, ANEMO_E_DEVICE, "no more");
    }
    const double noise =
        f->spread * sqrt(-2 * log(uniform(&f->random))) * cos(2 * M_PI * uniform(&f->random));
    const double drift = 1 + f->drift * sin((double)f->calls / 40);
    *ns = 1e4 * (double)units * drift * exp(noise);
    return ANEMO_OK;
}

static anemo_selftest_bed bed_of(fake *f) {
    return (anemo_selftest_bed){.name = "fake",
                                .unit = "rows",
                                .turns = 1,
                                .sample = sample,
                                .ctx = f,
                                .units = {{100, 100}, {100, 102}, {100, 104}, {100, 106}}};
}

static void run(const anemo_selftest_bed *bed, const int64_t *trials, anemo_selftest_counts *counts,
                anemo_selftest_bound *bounds) {
    anemo_selftest_plan plan = {.ctx = NULL};
    anemo_error err;
    memcpy(plan.trials, trials, sizeof plan.trials);
    assert_int_equal(anemo_selftest_run(bed, &plan, counts, &err), ANEMO_OK);
    for (int e = 0; e < ANEMO_SELFTEST_EFFECTS; e++) {
        assert_int_equal(counts[e].trials, trials[e]);
    }
    anemo_selftest_bounds(counts, bounds);
}

static void all_bounds_hold_on_a_calm_bed(void **state) {
    (void)state;
    fake f = {.random = 1, .spread = 0.015, .drift = 0.1};
    anemo_selftest_counts counts[ANEMO_SELFTEST_EFFECTS];
    anemo_selftest_bound bounds[ANEMO_SELFTEST_BOUNDS];
    const anemo_selftest_bed bed = bed_of(&f);
    run(&bed, anemo_selftest_trials, counts, bounds);
    for (int i = 0; i < ANEMO_SELFTEST_BOUNDS; i++) {
        if (bounds[i].state != ANEMO_BOUND_HOLDS) {
            fail_msg("%s: %lld of %lld", bounds[i].what, (long long)bounds[i].k,
                     (long long)bounds[i].n);
        }
    }
    assert_true(fabs(counts[3].ratio - 1.06) < 0.005);
    /* The drift that pairs do not see fools the rules on blocks. */
    assert_true(counts[0].rank_20 > counts[0].blocks / 4);
    assert_true(counts[0].blocks_hi - counts[0].blocks_lo >
                2 * (counts[0].pairs_hi - counts[0].pairs_lo));
}

/* Noise that hides +4 % in one turn does not in the median of 31. */
static void turns_calm_a_bed(void **state) {
    (void)state;
    static const int64_t trials[ANEMO_SELFTEST_EFFECTS] = {1, 1, 100, 1};
    for (int32_t turns = 1; turns <= 31; turns += 30) {
        fake f = {.random = 5, .spread = 0.06};
        anemo_selftest_counts counts[ANEMO_SELFTEST_EFFECTS];
        anemo_selftest_bound bounds[ANEMO_SELFTEST_BOUNDS];
        anemo_selftest_bed bed = bed_of(&f);
        bed.turns = turns;
        run(&bed, trials, counts, bounds);
        assert_int_equal(bounds[4].state, turns == 1 ? ANEMO_BOUND_MISSED : ANEMO_BOUND_HOLDS);
        assert_true(fabs(counts[2].side_ns / 1e6 - 1) < 0.05); /* not the sum of turns */
    }
}

static void a_noisy_bed_misses_the_effects(void **state) {
    (void)state;
    fake f = {.random = 2, .spread = 0.3};
    anemo_selftest_counts counts[ANEMO_SELFTEST_EFFECTS];
    anemo_selftest_bound bounds[ANEMO_SELFTEST_BOUNDS];
    const anemo_selftest_bed bed = bed_of(&f);
    run(&bed, anemo_selftest_trials, counts, bounds);
    assert_int_equal(bounds[0].state, ANEMO_BOUND_HOLDS); /* noise makes no regressions */
    assert_int_equal(bounds[1].state, ANEMO_BOUND_MISSED);
    assert_int_equal(bounds[2].state, ANEMO_BOUND_HOLDS); /* nor passes */
    assert_int_equal(bounds[4].state, ANEMO_BOUND_MISSED);
    assert_int_equal(bounds[5].state, ANEMO_BOUND_MISSED);
}

/* Same code that is not the same, and injected work that is not there. */
static void broken_promises_are_named(void **state) {
    (void)state;
    fake f = {.random = 3, .spread = 0.01};
    anemo_selftest_counts counts[ANEMO_SELFTEST_EFFECTS];
    anemo_selftest_bound bounds[ANEMO_SELFTEST_BOUNDS];
    anemo_selftest_bed bed = bed_of(&f);
    bed.units[0][1] = 107;
    bed.units[2][1] = 100;
    bed.units[3][1] = 100;
    run(&bed, anemo_selftest_trials, counts, bounds);
    assert_int_equal(bounds[0].state, ANEMO_BOUND_MISSED);
    assert_int_equal(bounds[1].state, ANEMO_BOUND_MISSED);
    assert_int_equal(bounds[2].state, ANEMO_BOUND_MISSED);
    assert_int_equal(bounds[3].state, ANEMO_BOUND_MISSED);
    assert_int_equal(bounds[4].state, ANEMO_BOUND_MISSED);
    assert_int_equal(bounds[5].state, ANEMO_BOUND_HOLDS);
}

static void few_trials_say_so(void **state) {
    (void)state;
    fake f = {.random = 4, .spread = 0.01};
    anemo_selftest_counts counts[ANEMO_SELFTEST_EFFECTS];
    anemo_selftest_bound bounds[ANEMO_SELFTEST_BOUNDS];
    const anemo_selftest_bed bed = bed_of(&f);
    run(&bed, anemo_selftest_quick_trials, counts, bounds);
    for (int i = 0; i < ANEMO_SELFTEST_BOUNDS; i++) {
        assert_int_not_equal(bounds[i].state, ANEMO_BOUND_MISSED);
    }
    assert_int_equal(bounds[0].state, ANEMO_BOUND_UNDECIDED);
}

static void bounds_are_decided_as_they_say(void **state) {
    (void)state;
    const struct {
        anemo_selftest_bound bound;
        anemo_bound_state want;
    } cases[] = {
        {{.limit = 2.0 / 300, .k = 2, .n = 300, .needed = 300}, ANEMO_BOUND_HOLDS},
        {{.limit = 2.0 / 300, .k = 3, .n = 300, .needed = 300}, ANEMO_BOUND_MISSED},
        {{.limit = 2.0 / 300, .k = 0, .n = 299, .needed = 300}, ANEMO_BOUND_UNDECIDED},
        {{.limit = 2.0 / 300, .k = 0, .n = 0, .needed = 300}, ANEMO_BOUND_UNDECIDED},
        {{.limit = 2.0 / 300, .k = 4, .n = 20, .needed = 300}, ANEMO_BOUND_MISSED},
        {{.limit = 0.9, .at_least = true, .k = 90, .n = 100, .needed = 100}, ANEMO_BOUND_HOLDS},
        {{.limit = 0.9, .at_least = true, .k = 89, .n = 100, .needed = 100}, ANEMO_BOUND_MISSED},
        {{.limit = 0.9, .at_least = true, .k = 28, .n = 28, .needed = 100}, ANEMO_BOUND_UNDECIDED},
        {{.limit = 0.9, .at_least = true, .k = 29, .n = 29, .needed = 100}, ANEMO_BOUND_HOLDS},
        {{.limit = 0.9, .at_least = true, .k = 5, .n = 10, .needed = 100}, ANEMO_BOUND_MISSED},
        {{.limit = 0.0414, .level = true, .k = 18, .n = 300, .needed = 300}, ANEMO_BOUND_HOLDS},
        {{.limit = 0.0414, .level = true, .k = 20, .n = 300, .needed = 300}, ANEMO_BOUND_MISSED},
        {{.limit = 0.0414, .level = true, .k = 1, .n = 24, .needed = 300}, ANEMO_BOUND_UNDECIDED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        anemo_selftest_bound b = cases[i].bound;
        anemo_selftest_decide(&b);
        if (b.state != cases[i].want) {
            fail_msg("bound %zu: %s", i, anemo_bound_state_name(b.state));
        }
    }
}

static int64_t asked;
static bool stop_soon(void) {
    return ++asked > 5000;
}

static void failures_and_interrupts_come_through(void **state) {
    (void)state;
    fake f = {.random = 5, .spread = 0.01, .fail_at = 2000};
    anemo_selftest_counts counts[ANEMO_SELFTEST_EFFECTS];
    anemo_selftest_bound bounds[ANEMO_SELFTEST_BOUNDS];
    const anemo_selftest_bed bed = bed_of(&f);
    anemo_selftest_plan plan = {.ctx = NULL};
    anemo_error err;
    memcpy(plan.trials, anemo_selftest_trials, sizeof plan.trials);
    assert_int_equal(anemo_selftest_run(&bed, &plan, counts, &err), ANEMO_E_DEVICE);
    assert_string_equal(err.text, "no more");
    f.fail_at = 0;
    asked = 0;
    plan.interrupted = stop_soon;
    assert_int_equal(anemo_selftest_run(&bed, &plan, counts, &err), ANEMO_E_CANCELLED);
    assert_true(counts[0].trials > 0 && counts[0].trials < 300);
    anemo_selftest_bounds(counts, bounds);
    assert_int_equal(bounds[0].state, ANEMO_BOUND_UNDECIDED);
}

/* The bed of the kernel does what it says: more rows, more work, the same results. */
static void real_beds_open_and_run(void **state) {
    (void)state;
    anemo_device *device = NULL;
    anemo_error err;
    assert_int_equal(anemo_device_create_cpu(1, NULL, &device, &err), ANEMO_OK);
    anemo_selftest_bed bed;
    double ns = 0;
    assert_int_equal(anemo_selftest_kernel_bed(device, &bed, &err), ANEMO_OK);
    assert_int_equal(bed.sample(bed.ctx, bed.units[3][1], &ns, &err), ANEMO_OK);
    assert_true(ns > 0);
    anemo_selftest_bed_close(&bed);
    assert_int_equal(anemo_selftest_model_bed(device, "synth:tiny:q4_0", &bed, &err), ANEMO_OK);
    assert_int_equal(bed.sample(bed.ctx, bed.units[3][1], &ns, &err), ANEMO_OK);
    assert_int_equal(bed.sample(bed.ctx, bed.units[0][0], &ns, &err), ANEMO_OK);
    assert_true(ns > 0);
    anemo_selftest_bed_close(&bed);
    assert_int_equal(anemo_selftest_model_bed(device, "/nowhere", &bed, &err), ANEMO_E_INPUT);
    anemo_selftest_overhead cost;
    char path[] = "/tmp/anemo-test-cost.XXXXXX";
    const int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(anemo_selftest_cost(device, "synth:tiny:q4_0", path, 6, &cost, &err),
                     ANEMO_OK);
    assert_true(cost.step_ns > 0 && cost.record_ns > 0 && cost.clock.overhead_ns > 0);
    assert_true(fabs(cost.share - (1.375 * cost.clock.overhead_ns + cost.record_ns / 160) /
                                      cost.step_ns) < 1e-12);
    close(file);
    unlink(path);
    anemo_device_free(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_bounds_hold_on_a_calm_bed),
        cmocka_unit_test(a_noisy_bed_misses_the_effects),
        cmocka_unit_test(broken_promises_are_named),
        cmocka_unit_test(few_trials_say_so),
        cmocka_unit_test(bounds_are_decided_as_they_say),
        cmocka_unit_test(failures_and_interrupts_come_through),
        cmocka_unit_test(real_beds_open_and_run),
        cmocka_unit_test(turns_calm_a_bed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
