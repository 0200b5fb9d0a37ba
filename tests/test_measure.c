/* Statistics against exact values, and the sampler on a clock of its own: no wall-clock time is
 * asserted anywhere. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "anemo_config.h"
#include "harness/measure/capability.h"
#include "harness/measure/clock.h"
#include "harness/measure/probe.h"
#include "harness/measure/probe_form.h"
#include "harness/measure/sample.h"
#include "harness/measure/stats.h"
#include "tests/support/asserts.h"

/* ---------------------------------------------------------------- statistics */

static void test_quantile(void **state) {
    (void)state;
    const double x[] = {1, 2, 4, 8};
    assert_near(anemo_stats_quantile(x, 4, 0.5), 3, 0);
    assert_near(anemo_stats_quantile(x, 4, 0.9), 6.8, 1e-12); /* numpy.quantile */
    assert_near(anemo_stats_quantile(x, 4, 0), 1, 0);
    assert_near(anemo_stats_quantile(x, 4, 1), 8, 0);
    assert_true(isnan(anemo_stats_quantile(x, 0, 0.5)));
}

/* Ranks and coverages of the 95 % interval of the median, from exact integer binomials. */
static void test_median_interval(void **state) {
    (void)state;
    static const struct {
        int64_t n, lo_rank;
        double coverage;
    } exact[] = {{6, 1, 0.96875},
                 {7, 1, 0.984375},
                 {10, 2, 0.978515625},
                 {20, 6, 0.9586105346679688},
                 {52, 19, 0.9635165999916402},
                 {101, 41, 0.9539559330706572}};
    double x[101];
    for (int i = 0; i < 101; i++) {
        x[i] = i + 1; /* the value is the rank */
    }
    for (size_t c = 0; c < sizeof exact / sizeof *exact; c++) {
        const anemo_estimate e = anemo_stats_median_sorted(x, exact[c].n, 0.95);
        assert_int_equal(e.needs, 0);
        assert_near(e.lo, (double)exact[c].lo_rank, 0);
        assert_near(e.hi, (double)(exact[c].n + 1 - exact[c].lo_rank), 0);
        assert_near(e.coverage, exact[c].coverage, 1e-12);
    }
    const anemo_estimate few = anemo_stats_median_sorted(x, 5, 0.95);
    assert_int_equal(few.needs, 6);
    assert_near(few.value, 3, 0);
    assert_near(few.coverage, 0.9375, 1e-12);
    assert_true(isnan(anemo_stats_median(x, 0, 0.95).value));
}

static double uniform(uint64_t *seed) {
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(*seed >> 11) * 0x1p-53;
}

/* The interval's coverage is the binomial value, whatever the law: here a skewed one (median of
 * exp(4 u^3) is exp(1/2)) and one with ties. */
static void test_median_coverage(void **state) {
    (void)state;
    enum { DRAWS = 4000, N = 20 };
    uint64_t seed = 7;
    int skewed = 0, tied = 0;
    for (int d = 0; d < DRAWS; d++) {
        double x[N], t[N];
        for (int i = 0; i < N; i++) {
            x[i] = exp(4 * pow(uniform(&seed), 3));
            t[i] = floor(5 * uniform(&seed)); /* 0 .. 4, median 2 */
        }
        const anemo_estimate e = anemo_stats_median(x, N, 0.95);
        skewed += e.lo <= exp(0.5) && exp(0.5) <= e.hi;
        const anemo_estimate f = anemo_stats_median(t, N, 0.95);
        tied += f.lo <= 2 && 2 <= f.hi;
    }
    /* 4 standard deviations of a proportion of 4000 draws */
    assert_near((double)skewed / DRAWS, 0.95861, 4 * sqrt(0.95861 * 0.04139 / DRAWS));
    assert_true((double)tied / DRAWS >= 0.95);
}

static void test_percentile(void **state) {
    (void)state;
    double x[473];
    for (int i = 0; i < 473; i++) {
        x[i] = i + 1;
    }
    static const struct {
        double p;
        int64_t n, upper_rank, needs;
    } exact[] = {{0.95, 58, 0, 59},    {0.95, 59, 59, 59},  {0.95, 92, 92, 59},
                 {0.95, 93, 92, 59},   {0.99, 298, 0, 299}, {0.99, 299, 299, 299},
                 {0.99, 473, 472, 299}};
    for (size_t c = 0; c < sizeof exact / sizeof *exact; c++) {
        const anemo_percentile e = anemo_stats_percentile(x, exact[c].n, exact[c].p);
        assert_int_equal(e.needs, exact[c].needs);
        assert_int_equal(e.known, exact[c].upper_rank > 0);
        if (e.known) {
            assert_near(e.upper, (double)exact[c].upper_rank, 0);
            assert_near(e.value, 1 + exact[c].p * (double)(exact[c].n - 1), 1e-9);
        } else {
            assert_true(isnan(e.value) && isnan(e.upper));
        }
    }
}

static void test_paired_ratio(void **state) {
    (void)state;
    double a[20], b[20];
    for (int i = 0; i < 20; i++) {
        a[i] = 100 * (1 + 0.05 * i); /* a strong drift that both arms share */
        b[i] = a[i] * (1.04 + 0.0001 * i);
    }
    const anemo_estimate e = anemo_stats_paired_ratio(a, b, 20, 0.95);
    assert_near(e.value, sqrt(1.0409 * 1.0410), 1e-9);
    assert_near(e.lo, 1.0405, 1e-9); /* ranks 6 and 15 */
    assert_near(e.hi, 1.0414, 1e-9);
    const anemo_estimate inverse = anemo_stats_paired_ratio(b, a, 20, 0.95);
    assert_near(inverse.value * e.value, 1, 1e-12);
    assert_near(inverse.lo * e.hi, 1, 1e-12);
}

static void test_outliers(void **state) {
    (void)state;
    double x[] = {10, 10.1, 10.2, 10.3, 10.4, 10.5, 10.6, 10.7, 40, 0.1};
    anemo_stats_sort(x, 10);
    assert_int_equal(anemo_stats_outliers(x, 10), 2);
    const double same[] = {3, 3, 3, 3};
    assert_int_equal(anemo_stats_outliers(same, 4), 0);
}

/* ---------------------------------------------------------------- clocks */

/* Time that passes only when the test says so, and a little with each read. */
typedef struct fake_time {
    uint64_t now_ns, read_ns, step_ns;
} fake_time;

static uint64_t fake_now(void *ctx) {
    fake_time *t = ctx;
    t->now_ns += t->read_ns;
    return t->step_ns ? t->now_ns / t->step_ns * t->step_ns : t->now_ns;
}

static anemo_clock fake_clock(fake_time *t) {
    return (anemo_clock){.name = "fake", .now_ns = fake_now, .ctx = t};
}

static void test_clock(void **state) {
    (void)state;
    fake_time fine = {.read_ns = 25}, coarse = {.read_ns = 25, .step_ns = 1000};
    const anemo_clock a = fake_clock(&fine), b = fake_clock(&coarse), raw = anemo_clock_raw();
    assert_near(anemo_clock_measure(&a).overhead_ns, 25, 0);
    assert_near(anemo_clock_measure(&a).resolution_ns, 25, 0);
    assert_near(anemo_clock_measure(&b).overhead_ns, 25, 0);
    assert_near(anemo_clock_measure(&b).resolution_ns, 1000, 0);
    const anemo_clock_quality q = anemo_clock_measure(&raw);
    assert_true(q.overhead_ns > 0 && isfinite(q.overhead_ns));
    assert_true(q.resolution_ns > 0 && isfinite(q.resolution_ns));
}

/* ---------------------------------------------------------------- stop rules */

static void test_stop_parse(void **state) {
    (void)state;
    anemo_stop stop;
    char text[64];
    assert_int_equal(anemo_stop_parse("ci:1%", &stop, NULL), ANEMO_OK);
    assert_int_equal(stop.kind, ANEMO_STOP_CI);
    assert_near(stop.relative, 0.01, 1e-15);
    assert_int_equal(anemo_stop_parse("ci:0.5%,cap:20s", &stop, NULL), ANEMO_OK);
    assert_int_equal(stop.cap_ns, 20000000000ull);
    anemo_stop_format(&stop, text, sizeof text);
    assert_string_equal(text, "ci:0.5%,cap:20s");
    assert_int_equal(anemo_stop_parse("time:250ms", &stop, NULL), ANEMO_OK);
    assert_int_equal(stop.time_ns, 250000000ull);
    assert_int_equal(anemo_stop_parse("n:50,cap:1s", &stop, NULL), ANEMO_OK);
    assert_int_equal(stop.count, 50);

    static const char *const bad[] = {
        "",    "ci:1",  "ci:%",  "ci:-1%",   "ci:nan%",    "time:2",    "time:0s", "time:2h",
        "n:0", "n:1.5", "n:50,", "n:50,cap", "n:50,cap:5", "time:infs", "ci:1%%",  "n:5,cap:1s,"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        anemo_error err = {""};
        assert_int_equal(anemo_stop_parse(bad[i], &stop, &err), ANEMO_E_INPUT);
        assert_non_null(strstr(err.text, "expected ci:"));
    }
}

/* ---------------------------------------------------------------- the sampler */

typedef struct fake_arm {
    fake_time *time;
    double cost_ns, drift_per_ns, first_extra_ns;
    int64_t calls, fail_at;
    bool stop_at_100;
} fake_arm;

static bool stop_now;

static bool asked_to_stop(void) {
    return stop_now;
}

static anemo_status fake_run(void *ctx, int64_t call, anemo_error *err) {
    fake_arm *arm = ctx;
    assert_int_equal(call, arm->calls);
    if (arm->fail_at && ++arm->calls == arm->fail_at) {
        return anemo_fail(err, ANEMO_E_NUMERIC, "call %lld is wrong", (long long)call);
    }
    arm->calls += !arm->fail_at;
    double ns = arm->cost_ns * (1 + arm->drift_per_ns * (double)arm->time->now_ns);
    ns += call < 7 ? arm->first_extra_ns : 0;
    arm->time->now_ns += (uint64_t)ns;
    stop_now = arm->stop_at_100 && arm->calls >= 100;
    return ANEMO_OK;
}

static anemo_sampling fake_sampling(fake_time *time, const char *stop) {
    anemo_sampling how = {.clock = fake_clock(time)};
    assert_int_equal(anemo_stop_parse(stop, &how.stop, NULL), ANEMO_OK);
    return how;
}

static void test_order(void **state) {
    (void)state;
    static const int32_t abba[8] = {0, 1, 1, 0, 1, 0, 0, 1};
    for (int64_t round = 0; round < 4; round++) {
        int32_t order[2];
        anemo_sample_order(round, 2, order);
        assert_memory_equal(order, abba + 2 * round, sizeof order);
    }
    for (int64_t round = 0; round < 20; round++) { /* a permutation; odd rounds mirror even ones */
        int32_t even[5], order[5], seen = 0;
        anemo_sample_order(round, 5, order);
        anemo_sample_order(round - round % 2, 5, even);
        for (int i = 0; i < 5; i++) {
            seen |= 1 << order[i];
            assert_int_equal(order[i], even[round % 2 ? 4 - i : i]);
        }
        assert_int_equal(seen, 31);
    }
}

/* Drift makes B look anything in sequential blocks; paired in rounds the ratio is right. */
static void test_drift_cancels(void **state) {
    (void)state;
    fake_time time = {.read_ns = 20};
    fake_arm a = {.time = &time, .cost_ns = 1e6, .drift_per_ns = 1e-9}, b = a;
    b.cost_ns = 1.04e6;
    const anemo_arm arms[] = {{fake_run, &a}, {fake_run, &b}};
    const anemo_sampling how = fake_sampling(&time, "n:200");
    anemo_samples s;
    assert_int_equal(anemo_sample(arms, 2, &how, &s, NULL), ANEMO_OK);
    assert_int_equal(s.n, 200);
    assert_true(s.rule_met && !s.interrupted);
    assert_true(s.ns[0][199] / s.ns[0][0] > 1.2); /* the drift is there */
    const anemo_estimate e = anemo_stats_paired_ratio(s.ns[0], s.ns[1], s.n, 0.95);
    assert_near(e.value, 1.04, 1e-4);
    assert_true(e.lo <= 1.04 && 1.04 <= e.hi);
    anemo_samples_free(&s);
}

static void test_calls_and_warm_up(void **state) {
    (void)state;
    fake_time time = {.read_ns = 20};
    fake_arm fast = {.time = &time, .cost_ns = 500, .first_extra_ns = 5000}, slow = fast;
    slow.cost_ns = 2000;
    const anemo_arm arms[] = {{fake_run, &fast}, {fake_run, &slow}};
    const anemo_sampling how = fake_sampling(&time, "n:10");
    anemo_samples s;
    assert_int_equal(anemo_sample(arms, 2, &how, &s, NULL), ANEMO_OK);
    /* The first call took 5500 ns, so 4 calls reach 1000 reads of 20 ns; both arms get as many. */
    assert_int_equal(s.calls_per_sample, 4);
    assert_near(s.clock.overhead_ns, 20, 0);
    assert_true(s.steady);
    assert_true(s.warm_up_rounds >= 10); /* two windows */
    for (int i = 0; i < 10; i++) {       /* and the slow first calls are not in the samples */
        assert_near(s.ns[0][i], 505, 0);
        assert_near(s.ns[1][i], 2005, 0);
    }
    anemo_samples_free(&s);
}

typedef struct hook_log {
    int64_t batches, evictions;
} hook_log;

static anemo_status log_batch(void *ctx, int64_t batch, anemo_error *err) {
    (void)err;
    hook_log *log = ctx;
    assert_int_equal(batch, log->batches);
    log->batches++;
    return ANEMO_OK;
}

static anemo_status log_eviction(void *ctx, anemo_error *err) {
    (void)err;
    ((hook_log *)ctx)->evictions++;
    return ANEMO_OK;
}

/* Every batch of rounds lies between two calls of `between`; cold samples are evicted one by one.
 */
static void test_batches_and_eviction(void **state) {
    (void)state;
    fake_time time = {.read_ns = 20};
    fake_arm a = {.time = &time, .cost_ns = 1e6};
    const anemo_arm arm = {fake_run, &a};
    hook_log log = {0};
    anemo_sampling how = fake_sampling(&time, "n:100");
    how.between = log_batch;
    how.evict = log_eviction;
    how.hooks_ctx = &log;
    how.batch_ns = 10 * 1000000;
    how.caches = ANEMO_CACHES_COLD;
    anemo_samples s;
    assert_int_equal(anemo_sample(&arm, 1, &how, &s, NULL), ANEMO_OK);
    assert_int_equal(s.n, 100);
    assert_int_equal(s.calls_per_sample, 1);
    assert_int_equal(log.evictions, s.n + s.warm_up_rounds);
    assert_int_equal(log.batches, s.batch[99] + 2);
    assert_true(s.batch[99] >= 9);
    for (int i = 1; i < 100; i++) {
        assert_true(s.batch[i] == s.batch[i - 1] || s.batch[i] == s.batch[i - 1] + 1);
    }
    double switches = 0;
    assert_int_equal(s.n_batches, s.batch[99] + 1); /* what disturbed each batch, and each sample */
    for (int i = 0; i < 100; i++) {
        assert_true(s.switches[0][i] >= 0);
        switches += s.switches[0][i];
        const anemo_noise *noise = &s.batch_noise[s.batch[i]];
        assert_true(noise->involuntary_switches >= 0);
        assert_false(noise->pressure_fraction < 0);
        assert_false(noise->steal_fraction < 0 || noise->steal_fraction > 1);
    }
    assert_true(switches <= (double)s.noise.involuntary_switches);
    anemo_samples_free(&s);
}

static void test_stop_rules(void **state) {
    (void)state;
    fake_time time = {.read_ns = 20};
    fake_arm a = {.time = &time, .cost_ns = 1e6};
    const anemo_arm arm = {fake_run, &a};
    anemo_samples s;

    anemo_sampling how = fake_sampling(&time, "time:50ms"); /* 1 ms each */
    assert_int_equal(anemo_sample(&arm, 1, &how, &s, NULL), ANEMO_OK);
    assert_int_equal(s.n, 50);
    anemo_samples_free(&s);

    a.calls = 0;
    how = fake_sampling(&time, "ci:1%"); /* no spread: the first look is enough */
    assert_int_equal(anemo_sample(&arm, 1, &how, &s, NULL), ANEMO_OK);
    assert_int_equal(s.n, 10);
    assert_true(s.rule_met);
    anemo_samples_free(&s);

    a.calls = 0;
    a.drift_per_ns = 1e-8; /* 1 % a sample: ci:1% is never met, the cap ends it and says so */
    how = fake_sampling(&time, "ci:1%,cap:100ms");
    assert_int_equal(anemo_sample(&arm, 1, &how, &s, NULL), ANEMO_OK);
    assert_false(s.rule_met);
    assert_true(s.n >= 6);
    anemo_samples_free(&s);
}

static void test_interrupt_and_failure(void **state) {
    (void)state;
    fake_time time = {.read_ns = 20};
    fake_arm a = {.time = &time, .cost_ns = 1e6, .stop_at_100 = true};
    const anemo_arm arm = {fake_run, &a};
    anemo_sampling how = fake_sampling(&time, "n:1000");
    how.interrupted = asked_to_stop;
    anemo_samples s;
    assert_int_equal(anemo_sample(&arm, 1, &how, &s, NULL), ANEMO_OK);
    assert_true(s.interrupted && !s.rule_met);
    assert_int_equal(s.n + s.warm_up_rounds, 100); /* what was measured is kept */
    anemo_samples_free(&s);

    fake_arm broken = {.time = &time, .cost_ns = 1e6, .fail_at = 40};
    const anemo_arm bad = {fake_run, &broken};
    how.interrupted = NULL;
    anemo_error err = {""};
    assert_int_equal(anemo_sample(&bad, 1, &how, &s, &err), ANEMO_E_NUMERIC);
    assert_string_equal(err.text, "call 39 is wrong");
    assert_null(s.ns);
}

static void test_noise_is_read(void **state) {
    (void)state;
    const anemo_arm arm = {fake_run, &(fake_arm){.time = &(fake_time){0}, .cost_ns = 1e6}};
    anemo_sampling how = fake_sampling(((fake_arm *)arm.ctx)->time, "n:20");
    anemo_samples s;
    assert_int_equal(anemo_sample(&arm, 1, &how, &s, NULL), ANEMO_OK);
    assert_true(s.noise.involuntary_switches >= 0);
    assert_true(isnan(s.noise.steal_fraction) ||
                (s.noise.steal_fraction >= 0 && s.noise.steal_fraction <= 1));
    anemo_samples_free(&s);
}

/* ---------------------------------------------------------------- probes */

/* Every read form this machine has sums the same words to the same sum, tails of slices included.
 */
static void test_read_forms_agree(void **state) {
    (void)state;
    enum { WORDS = 3 * 4 * ANEMO_PROBE_BLOCK_BYTES / 8 };
    uint64_t *data = aligned_alloc(64, WORDS * 8), sum = 0;
    assert_non_null(data);
    for (uint64_t i = 0; i < WORDS; i++) {
        data[i] = i * 0x9e3779b97f4a7c15ull;
        sum += data[i];
    }
    const anemo_probe_form *const tables[] = {
        anemo_probe_forms_c,
#if ANEMO_X86
        anemo_probe_forms_avx2,
        anemo_probe_forms_avx512,
#endif
    };
    int run = 0;
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        for (const anemo_probe_form *form = tables[t]; form->name; form++) {
            if (form->read && !(form->needs & ~anemo_cpu_features())) {
                assert_true(form->read(data, WORDS * 8) == sum);
                data[WORDS - 1]++; /* and it does look at the last word */
                assert_true(form->read(data, WORDS * 8) == sum + 1);
                data[WORDS - 1]--;
                run++;
            }
        }
    }
    assert_true(run >= 5);
    free(data);
}

/* Two threads, 100 units a turn. Side by side they do 2 turns in 100 ns; a thread that was sent to
 * sleep lends nothing to a window it slept through. */
static void test_rate(void **state) {
    (void)state;
    anemo_probe_turn t[2][3] = {{{0, 100, true}, {100, 200, true}},
                                {{50, 150, true}, {150, 250, true}}};
    assert_near(anemo_probe_rate(t[0], 2, 2, 3, 100, 1), 2e9, 1);
    assert_near(anemo_probe_rate(t[0], 1, 2, 3, 100, 1), 1e9, 1);
    /* Thread 0 begins and thread 1 ends alone: rates 1.5, 2, 2, 1.5. */
    assert_near(anemo_probe_rate(t[0], 2, 2, 3, 100, 0.5), 1.5e9, 1);
    assert_near(anemo_probe_rate(t[0], 2, 2, 3, 100, 0), 1.5e9, 1);
    t[1][0] = (anemo_probe_turn){0, 10000, true};     /* asleep while thread 0 worked, */
    t[1][1] = (anemo_probe_turn){10000, 10100, true}; /* working when thread 0 was done */
    assert_near(anemo_probe_rate(t[0], 2, 2, 3, 100, 1), 1.01e9, 1);
    assert_near(anemo_probe_rate(t[0], 2, 2, 3, 100, 0), 3e7, 1);
}

/* A VNNI probe that does not start an instruction a cycle is badly compiled (it once was, for
 * Cascade Lake, at 0.6). Tried again, since neighbours can take part of a core. */
static void check_vnni_pace(anemo_probe *probe, anemo_probe_pace pace) {
    anemo_error err;
    for (int i = 0; i < 20 && pace.per_cycle < 0.97; i++) {
        assert_int_equal(anemo_probe_measure_pace(probe, ANEMO_CEILING_INT8, &pace, &err),
                         ANEMO_OK);
    }
    print_message("%s: %.3f a cycle at %.2f GHz\n", pace.form, pace.per_cycle, pace.hz * 1e-9);
#if !ANEMO_SANITIZE
    assert_true(pace.per_cycle >= 0.97);
#endif
}

static void test_ceilings(void **state) {
    (void)state;
    anemo_device *device;
    anemo_probe *probe;
    anemo_error err = {""};
    const anemo_clock clock = anemo_clock_raw();
    assert_int_equal(anemo_device_create_cpu(2, NULL, &device, &err), ANEMO_OK);
    assert_int_equal(anemo_probe_create(device, &clock, 4 << 20, &probe, &err), ANEMO_OK);
    assert_int_equal(anemo_probe_buffer_bytes(probe), 4 << 20);
    for (int c = 0; c < ANEMO_CEILING_COUNT; c++) {
        anemo_probe_value value;
        assert_int_equal(anemo_probe_measure(probe, (anemo_ceiling)c, &value, &err), ANEMO_OK);
        const uint32_t needs = c == ANEMO_CEILING_BF16           ? ANEMO_CPU_AVX512_BF16
                               : c == ANEMO_CEILING_INT8_AVX2_U4 ? ANEMO_CPU_AVX2
                               : c == ANEMO_CEILING_INT8_AVX2_U8 ? ANEMO_CPU_AVX2
                               : c == ANEMO_CEILING_INT8_AMX     ? ANEMO_CPU_AMX_INT8
                               : c == ANEMO_CEILING_BF16_AMX     ? ANEMO_CPU_AMX_BF16
                                                                 : 0;
        if (needs & ~anemo_cpu_features()) {
            assert_null(value.form); /* absent, not zero */
            continue;
        }
        assert_non_null(value.form);
        assert_int_equal(strncmp(value.form, anemo_ceiling_name((anemo_ceiling)c), 4), 0);
        assert_true(value.per_second > 0 && isfinite(value.per_second));
        anemo_probe_pace pace;
        assert_int_equal(anemo_probe_measure_pace(probe, (anemo_ceiling)c, &pace, &err), ANEMO_OK);
        assert_int_equal(pace.form != NULL, pace.per_cycle > 0 && pace.hz > 0);
        if (c == ANEMO_CEILING_INT8 && anemo_cpu_features() & ANEMO_CPU_AVX512_VNNI) {
            assert_non_null(strstr(pace.form, "vnni"));
            check_vnni_pace(probe, pace);
        }
    }
    assert_int_equal(anemo_probe_evict(probe, &err), ANEMO_OK);
    anemo_probe_free(probe);
    anemo_device_free(device);
}

/* ---------------------------------------------------------------- what can be measured */

/* The demo asks twice. */
static void test_capabilities_twice(void **state) {
    (void)state;
    static anemo_capability lists[2][ANEMO_CAPABILITIES_MAX];
    const int32_t n = anemo_capabilities(lists[0], ANEMO_CAPABILITIES_MAX);
    assert_true(n > 10);
    assert_int_equal(anemo_capabilities(lists[1], ANEMO_CAPABILITIES_MAX), n);
    for (int32_t i = 0; i < n; i++) {
        assert_string_equal(lists[0][i].name, lists[1][i].name);
        assert_true(lists[0][i].detail[0] && lists[1][i].detail[0]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantile),
        cmocka_unit_test(test_median_interval),
        cmocka_unit_test(test_median_coverage),
        cmocka_unit_test(test_percentile),
        cmocka_unit_test(test_paired_ratio),
        cmocka_unit_test(test_outliers),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_stop_parse),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_drift_cancels),
        cmocka_unit_test(test_calls_and_warm_up),
        cmocka_unit_test(test_batches_and_eviction),
        cmocka_unit_test(test_stop_rules),
        cmocka_unit_test(test_interrupt_and_failure),
        cmocka_unit_test(test_noise_is_read),
        cmocka_unit_test(test_read_forms_agree),
        cmocka_unit_test(test_ceilings),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_capabilities_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
