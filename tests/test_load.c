/* Open loads: percentiles with bounds over blocks, step tables fitted to steps, files of steps, and
 * a run of a small model whose times must obey their own definitions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/measure/bench_load.h"
#include "tests/support/random_model.h"
#include "tests/support/run_program.h"

static anemo_error err;

static void assert_near(double got, double want, double relative) {
    if (!(fabs(got - want) <= relative * fabs(want) + 1e-15)) {
        fail_msg("%.17g, not %.17g", got, want);
    }
}

/* ---------------------------------------------------------------- percentiles */

static void percentiles_need_their_number(void **state) {
    (void)state;
    double x[400];
    for (int i = 0; i < 400; i++) {
        x[i] = (i * 37) % 400; /* 0 .. 399, shuffled */
    }
    assert_false(anemo_load_percentile_of(x, 58, 0.95).known);
    anemo_load_percentile p = anemo_load_percentile_of(x, 59, 0.95);
    assert_true(p.known && !p.bounded);
    assert_int_equal(p.needs, 5 * 59);
    p = anemo_load_percentile_of(x, 400, 0.95);
    assert_true(p.known && p.bounded);
    assert_near(p.value, 399 * 0.95, 1e-12); /* linear between ranks */
    assert_true(p.upper >= 370 && p.upper <= 399);
    for (int i = 0; i < 400; i++) {
        x[i] = i; /* a queue that only grows: the blocks disagree, and the bound says so */
    }
    p = anemo_load_percentile_of(x, 400, 0.5);
    assert_true(p.upper > 1.1 * p.value);
    x[7] = NAN;
    assert_false(anemo_load_percentile_of(x, 0, 0.5).known);
}

/* ---------------------------------------------------------------- step tables */

/* 2 ms + 0.1 ms per prompt token; 5 ms + 1 ms per decoding job; 3 ms shared. */
static double true_seconds(int64_t prompt, int64_t decoding) {
    const double prefill = prompt > 0 ? 2e-3 + 1e-4 * (double)prompt : 0;
    const double decode = decoding > 0 ? 5e-3 + 1e-3 * (double)decoding : 0;
    return prefill + decode - (prompt > 0 && decoding > 0 ? 1.5e-3 : 0);
}

static anemo_steps made_steps(int64_t n, double noise) {
    anemo_steps steps = {.probe_bytes_per_s = 4.25e10};
    for (int64_t i = 0; i < n; i++) {
        const double u = anemo_philox_uniform(3, (uint64_t)(3 * i));
        anemo_drive_step s = {.begin_s = (double)i};
        s.prompt_tokens = u < 0.3 ? 0 : 1 + (int64_t)(u * 255);
        s.decoding = (int64_t)(anemo_philox_uniform(3, (uint64_t)(3 * i + 1)) * 9);
        s.decoding += s.prompt_tokens + s.decoding == 0;
        s.seconds = true_seconds(s.prompt_tokens, s.decoding) *
                    (1 + noise * (anemo_philox_uniform(3, (uint64_t)(3 * i + 2)) - 0.5));
        assert_true(anemo_steps_add(&steps, &s));
    }
    return steps;
}

static void a_fit_finds_its_table(void **state) {
    (void)state;
    anemo_steps steps = made_steps(2000, 0);
    anemo_step_table table;
    assert_int_equal(anemo_steps_fit(&steps, &table, &err), ANEMO_OK);
    assert_near(anemo_steps_ratio(&steps, &table), 1, 1e-6);
    assert_near(table.shared_s, 1.5e-3, 1e-2);
    for (int64_t p = 80; p <= 250; p += 34) { /* 0 and p >= 77 occur */
        for (int64_t d = 0; d <= 8; d++) {
            assert_near(anemo_step_seconds(&table, (double)p, (double)d), true_seconds(p, d), 0.02);
        }
    }
    assert_true(isnan(anemo_step_seconds(&table, 5000, 1))); /* no extrapolation */
    anemo_steps_free(&steps);
    steps = made_steps(2000, 0.4);
    assert_int_equal(anemo_steps_fit(&steps, &table, &err), ANEMO_OK);
    assert_near(anemo_steps_ratio(&steps, &table), 1, 1e-3); /* busy times add up */
    assert_near(anemo_step_seconds(&table, 200, 4), true_seconds(200, 4), 0.05);
    anemo_steps_free(&steps);
    steps = made_steps(10, 0);
    assert_int_equal(anemo_steps_fit(&steps, &table, &err), ANEMO_E_INPUT);
    anemo_steps_free(&steps);
}

static void steps_survive_a_file(void **state) {
    (void)state;
    char *folder = test_folder_create(), path[512];
    snprintf(path, sizeof path, "%s/steps.csv", folder);
    anemo_steps steps = made_steps(50, 0.3), back;
    assert_int_equal(anemo_steps_write(&steps, path, &err), ANEMO_OK);
    assert_int_equal(anemo_steps_read(path, &back, &err), ANEMO_OK);
    assert_int_equal(back.n, 50);
    assert_near(back.probe_bytes_per_s, 4.25e10, 1e-5);
    for (int64_t i = 0; i < 50; i++) {
        assert_int_equal(back.step[i].prompt_tokens, steps.step[i].prompt_tokens);
        assert_int_equal(back.step[i].decoding, steps.step[i].decoding);
        assert_near(back.step[i].seconds, steps.step[i].seconds, 1e-6);
    }
    anemo_steps_free(&back);
    anemo_steps_free(&steps);
    static const char *const bad[] = {
        "",
        "# read_bytes_per_s=1\nbegin_s,prompt_tokens,decoding,seconds\n",
        "# read_bytes_per_s=1\nbegin_s,prompt_tokens,decoding,seconds\n0,1,1\n",
        "# read_bytes_per_s=1\nbegin_s,prompt_tokens,decoding,seconds\n0,1,1,nan\n",
        "# read_bytes_per_s=1\nbegin_s,prompt_tokens,decoding,seconds\n0,-1,1,1\n",
        "# read_bytes_per_s=1\nbegin_s,prompt_tokens,decoding,seconds\n0,0,0,1\n",
        "prompt,decoding\n1,2\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        test_write_file(path, bad[i], strlen(bad[i]));
        assert_int_equal(anemo_steps_read(path, &back, &err), ANEMO_E_INPUT);
        assert_non_null(strstr(err.text, path));
    }
    test_folder_remove(folder);
    assert_int_equal(anemo_steps_read(path, &back, &err), ANEMO_E_INPUT);
}

/* ---------------------------------------------------------------- a run */

static bool look(void *ctx, anemo_record *record) {
    anemo_metric m;
    ++*(int32_t *)ctx;
    assert_true(anemo_record_find_metric(record, "ttft_p95", &m));
    assert_true(anemo_record_find_metric(record, "goodput", &m));
    assert_true(anemo_record_find_metric(record, "throughput", &m));
    assert_non_null(strstr(anemo_record_get_text(record, NULL, "repro"), "--load poisson:500"));
    return true;
}

/* Prompt tokens that the steps of a run took in, whatever the time each took. */
static int64_t prompt_tokens(const char *path, int64_t n_steps) {
    anemo_steps steps;
    int64_t sum = 0;
    assert_int_equal(anemo_steps_read(path, &steps, &err), ANEMO_OK);
    assert_int_equal(steps.n, n_steps);
    assert_true(steps.probe_bytes_per_s > 0);
    for (int64_t i = 0; i < steps.n; i++)
        sum += steps.step[i].prompt_tokens;
    anemo_steps_free(&steps);
    return sum;
}

static void a_run_keeps_its_definitions(void **state) {
    (void)state;
    char *folder = test_folder_create(), records[512], steps_path[512], requests[512];
    random_model_write(folder, 3);
    snprintf(records, sizeof records, "%s/records.jsonl", folder);
    snprintf(steps_path, sizeof steps_path, "%s/steps.csv", folder);
    snprintf(requests, sizeof requests, "%s/requests.csv", folder);
    anemo_load_options o = {.spec = {.path = folder},
                            .load = {.requests_per_s = 500,
                                     .requests = 80,
                                     .in_mean = 20,
                                     .in_sd_log = 0.5,
                                     .out_mean = 6,
                                     .out_sd_log = 0.3,
                                     .seed = 5},
                            .prefix_tokens = 70,
                            .sessions = 4,
                            .step_tokens = 32,
                            .ttft_s = 1e-9,
                            .steps_path = steps_path,
                            .requests_path = requests};
    anemo_device *device;
    anemo_record_sink *sink;
    anemo_load_report shared, copied;
    assert_int_equal(anemo_device_create_cpu(2, NULL, &device, &err), ANEMO_OK);
    assert_int_equal(anemo_record_sink_open(records, &sink, &err), ANEMO_OK);
    if (anemo_bench_load(device, &o, sink, &shared, &err)) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(shared.totals.finished, 80);
    assert_true(shared.good_share == 0); /* nobody is faster than a nanosecond */
    assert_true(shared.ttft[ANEMO_LOAD_P50].value >= shared.service[ANEMO_LOAD_P50].value);
    assert_true(shared.e2e[ANEMO_LOAD_P50].value >= shared.ttft[ANEMO_LOAD_P50].value);
    assert_false(shared.ttft[ANEMO_LOAD_P99].known); /* needs 299 */
    assert_true(shared.busy_share > 0 && shared.busy_share <= 1);
    const int64_t taken_shared = prompt_tokens(steps_path, shared.totals.steps);
    o.prefix_copied = true;
    o.ttft_s = 1e9;
    if (anemo_bench_load(device, &o, sink, &copied, &err)) {
        fail_msg("%s", err.text);
    }
    assert_true(copied.good_share == 1);
    assert_near(copied.goodput_per_s, copied.requests_per_s, 1e-12);
    assert_near(copied.input_tokens_per_s * copied.totals.duration_s,
                shared.input_tokens_per_s * shared.totals.duration_s, 1e-9);
    /* Each of the 80 takes in its prefix of 70 itself; who was preempted did so once more. */
    assert_true(prompt_tokens(steps_path, copied.totals.steps) > taken_shared + 60 * 70);
    anemo_load_report_free(&shared);
    anemo_load_report_free(&copied);
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    int32_t n = 0;
    assert_int_equal(anemo_record_read(records, look, &n, NULL, &err), ANEMO_OK);
    assert_int_equal(n, 2);
    o.load.in_mean = 5000;
    assert_int_equal(anemo_bench_load(device, &o, NULL, &shared, &err), ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "context"));
    anemo_load_report_free(&shared);
    o.sessions = 64;
    assert_int_equal(anemo_bench_load(device, &o, NULL, &shared, &err), ANEMO_E_INPUT);
    anemo_load_report_free(&shared);
    anemo_device_free(device);
    test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_need_their_number),
        cmocka_unit_test(a_fit_finds_its_table),
        cmocka_unit_test(steps_survive_a_file),
        cmocka_unit_test(a_run_keeps_its_definitions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
