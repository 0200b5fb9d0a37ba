/* The scheduler's promises, and the queue simulation against what can be computed by hand. */
#include "harness/serve/simulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#define JOBS 40

static uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* Random queues, run until everybody is done: limits hold in each step, nobody overtakes or
 * starves. */
static void limits_hold_and_everybody_finishes(void **state) {
    (void)state;
    int64_t preemptions = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t r = seed;
        anemo_schedule_limits l = {.step_tokens = 1 + (int32_t)(next_random(&r) % 64),
                                   .sessions = 1 + (int32_t)(next_random(&r) % 12),
                                   .kv_pages = 8 + next_random(&r) % 40,
                                   .page_tokens = 16,
                                   .window = seed % 3 ? 0 : 64};
        anemo_schedule_job job[JOBS];
        int64_t want[JOBS];
        int32_t tokens[JOBS], n = JOBS, steps = 0;
        bool preempted[JOBS];
        for (int i = 0; i < JOBS; i++) {
            job[i] = (anemo_schedule_job){.prompt = 1 + next_random(&r) % 90};
            want[i] = 1 + next_random(&r) % 30;
            assert_true(anemo_schedule_fits(&l, job[i].prompt + want[i]));
        }
        while (n > 0) {
            int64_t sum = anemo_schedule_step(&l, job, n, tokens, preempted), used = 0, total = 0;
            int32_t sessions = 0, kept = 0;
            bool someone_waits = false;
            assert_true(sum > 0 && sum <= l.step_tokens);
            assert_true(tokens[0] > 0 || l.step_tokens < n); /* the oldest is never passed over */
            for (int i = 0; i < n; i++) {
                int64_t pending = job[i].prompt + job[i].generated - job[i].held;
                assert_true(tokens[i] >= 0 && tokens[i] <= pending);
                assert_false(preempted[i] && (tokens[i] > 0 || !job[i].running));
                bool was_waiting = !job[i].running;
                assert_false(was_waiting && tokens[i] > 0 && someone_waits);
                someone_waits |= was_waiting && tokens[i] == 0;
                total += tokens[i];
                preemptions += preempted[i];
                if (preempted[i]) {
                    job[i].running = false;
                    job[i].held = 0;
                } else if (tokens[i] > 0) {
                    job[i].running = true;
                    job[i].held += tokens[i];
                    job[i].generated += job[i].held == job[i].prompt + job[i].generated;
                }
                sessions += job[i].running;
                used += job[i].running ? anemo_schedule_pages(&l, job[i].held) : 0;
            }
            assert_int_equal(total, sum);
            assert_true(used <= l.kv_pages && sessions <= l.sessions);
            for (int i = 0; i < n; i++)
                if (job[i].generated < want[i]) {
                    job[kept] = job[i];
                    want[kept++] = want[i];
                }
            n = kept;
            assert_true(++steps < 200000);
        }
    }
    assert_true(preemptions > 100); /* the case was met */
}

static void decoding_goes_first_and_prompts_share_the_rest(void **state) {
    (void)state;
    const anemo_schedule_limits l = {.step_tokens = 10, .sessions = 4, .page_tokens = 16};
    const anemo_schedule_job job[] = {
        {100, 0, 95, true}, {5, 3, 7, true}, {50, 0, 0, false}, {9, 0, 0, false}};
    int32_t tokens[4];
    bool preempted[4];
    assert_int_equal(anemo_schedule_step(&l, job, 4, tokens, preempted), 10);
    assert_int_equal(tokens[0], 5);
    assert_int_equal(tokens[1], 1);
    assert_int_equal(tokens[2], 4);
    assert_int_equal(tokens[3], 0);
}

static void a_window_bounds_the_pages(void **state) {
    (void)state;
    const anemo_schedule_limits l = {.page_tokens = 64, .window = 4096, .kv_pages = 65};
    assert_int_equal(anemo_schedule_pages(&l, 100), 2);
    assert_int_equal(anemo_schedule_pages(&l, 1000000), 65);
    assert_true(anemo_schedule_fits(&l, 1000000));
}

/* ---------------------------------------------------------------- simulation */

/* Prompts 1 ms a token, a decode step 10 ms whatever the number of sequences. */
static const anemo_step_table table = {.prefill = {2, {1, 1000}, {0.001, 1.0}},
                                       .decode = {2, {1, 64}, {0.010, 0.010}}};
static const anemo_schedule_limits roomy = {.step_tokens = 1000, .sessions = 64, .page_tokens = 64};

static void a_lonely_request_takes_what_its_steps_take(void **state) {
    (void)state;
    anemo_load load = {.requests_per_s = 1e-3, .requests = 50, .in_mean = 200, .out_mean = 11};
    anemo_simulation s;
    anemo_error err = {0};
    assert_int_equal(anemo_simulate(&roomy, &table, &load, &s, &err), ANEMO_OK);
    assert_true(fabs(s.ttft_p50_s - 0.2) < 1e-9 && fabs(s.ttft_p95_s - 0.2) < 1e-9);
    assert_true(fabs(s.tpot_p95_s - 0.010) < 1e-9);
    assert_true(s.finished == 50 && s.waited_share == 0 && s.preemptions == 0);
    assert_int_equal(s.steps, 50 * 11);
}

/* P(wait <= t) in M/D/1 with service time d and load rho (Erlang 1909). */
static double md1(double t, double rho, double d) {
    double sum = 0, factorial = 1;
    for (int k = 0; k <= (int)(t / d); k++) {
        double x = rho / d * (t - k * d);
        factorial *= k > 0 ? k : 1;
        sum += pow(-x, k) / factorial * exp(x);
    }
    return (1 - rho) * sum;
}

static double md1_quantile(double p, double rho, double d) {
    double lo = 0, hi = 2;
    while (hi - lo > 1e-9) {
        double mid = (lo + hi) / 2;
        *(md1(mid, rho, d) < p ? &lo : &hi) = mid;
    }
    return lo;
}

/* One session and one output token: a queue whose waits are known. */
static void one_session_is_a_single_server_queue(void **state) {
    (void)state;
    const anemo_schedule_limits one = {.step_tokens = 1000, .sessions = 1, .page_tokens = 64};
    anemo_load load = {.requests = 100000, .in_mean = 100, .out_mean = 1, .seed = 3};
    anemo_simulation s;
    for (int i = 0; i < 3; i++) {
        double rho = (const double[]){0.6, 0.7, 0.8}[i];
        load.requests_per_s = rho / 0.1;
        assert_int_equal(anemo_simulate(&one, &table, &load, &s, NULL), ANEMO_OK);
        assert_true(fabs(s.busy_share - rho) < 0.01);
        assert_true(fabs(s.ttft_p50_s - 0.1 - md1_quantile(0.5, rho, 0.1)) < 0.01);
        assert_true(fabs(s.ttft_p95_s / (0.1 + md1_quantile(0.95, rho, 0.1)) - 1) < 0.05);
    }
}

static void the_same_seed_repeats_and_load_delays(void **state) {
    (void)state;
    anemo_load load = {.requests_per_s = 2,
                       .requests = 500,
                       .in_mean = 200,
                       .in_sd_log = 0.5,
                       .out_mean = 20,
                       .out_sd_log = 0.5,
                       .seed = 7};
    anemo_simulation a, b;
    double before = 0;
    anemo_simulate(&roomy, &table, &load, &a, NULL);
    anemo_simulate(&roomy, &table, &load, &b, NULL);
    assert_memory_equal(&a, &b, sizeof a);
    for (load.requests_per_s = 0.5; load.requests_per_s < 4.5; load.requests_per_s *= 1.5) {
        assert_int_equal(anemo_simulate(&roomy, &table, &load, &a, NULL), ANEMO_OK);
        assert_true(a.ttft_p95_s > before);
        before = a.ttft_p95_s;
    }
}

static void capacity_keeps_the_limits_and_is_near_the_edge(void **state) {
    (void)state;
    anemo_load load = {.requests = 600, .in_mean = 200, .out_mean = 20, .seed = 1};
    anemo_simulation at, more;
    double rate, looser;
    assert_int_equal(anemo_simulate_capacity(&roomy, &table, &load, 1.0, 0.1, &rate, &at, NULL),
                     ANEMO_OK);
    assert_true(rate > 0.5 && rate < 5); /* a prompt alone takes 0.2 s */
    assert_true(at.ttft_p95_s <= 1.0 && at.tpot_p95_s <= 0.1);
    load.requests_per_s = 1.05 * rate;
    assert_int_equal(anemo_simulate(&roomy, &table, &load, &more, NULL), ANEMO_OK);
    assert_true(more.ttft_p95_s > 0.9 || more.tpot_p95_s > 0.09);
    anemo_simulate_capacity(&roomy, &table, &load, 3.0, 0.3, &looser, &at, NULL);
    assert_true(looser >= rate);
    anemo_simulate_capacity(&roomy, &table, &load, 0.1, 0.1, &rate, &at, NULL);
    assert_true(rate == 0); /* no prompt is read in 0.1 s */
    /* without limits: what can be served for ever, 1 / (0.2 s + 20 steps shared by those who
     * decode) */
    load.requests = 3000;
    assert_int_equal(anemo_simulate_capacity(&roomy, &table, &load, 0, 0, &rate, &at, NULL),
                     ANEMO_OK);
    assert_false(at.growing);
    assert_true(rate > 3.5 && rate < 5);
    load.requests_per_s = 6;
    assert_int_equal(anemo_simulate(&roomy, &table, &load, &more, NULL), ANEMO_OK);
    assert_true(more.growing);
}

static void what_was_not_measured_is_refused(void **state) {
    (void)state;
    anemo_load load = {.requests_per_s = 1, .requests = 10, .in_mean = 3000, .out_mean = 5};
    anemo_schedule_limits wide = roomy, tight = roomy;
    anemo_simulation s;
    anemo_error err = {0};
    wide.step_tokens = 4000;
    assert_int_equal(anemo_simulate(&wide, &table, &load, &s, &err), ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "above what was measured"));
    tight.kv_pages = 10;
    assert_int_equal(anemo_simulate(&tight, &table, &load, &s, &err), ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "does not fit the cache"));
    assert_true(isnan(anemo_step_seconds(&table, 2000, 0)));
    assert_true(fabs(anemo_step_seconds(&table, 500.5, 3) - 0.5105) < 1e-9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_hold_and_everybody_finishes),
        cmocka_unit_test(decoding_goes_first_and_prompts_share_the_rest),
        cmocka_unit_test(a_window_bounds_the_pages),
        cmocka_unit_test(a_lonely_request_takes_what_its_steps_take),
        cmocka_unit_test(one_session_is_a_single_server_queue),
        cmocka_unit_test(the_same_seed_repeats_and_load_delays),
        cmocka_unit_test(capacity_keeps_the_limits_and_is_near_the_edge),
        cmocka_unit_test(what_was_not_measured_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
