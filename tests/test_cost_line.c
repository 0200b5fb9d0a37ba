/* The first cost line: golden figures, what it refuses, what moves it which way. */
#include "harness/cost/cost_line.h"
#include "tests/support/asserts.h"
#include "tests/support/run_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void assert_relative(double value, double expected, double relative) {
    if (!(fabs(value - expected) <= relative * fabs(expected)))
        fail_msg("%.12g where %.12g is expected", value, expected);
}

/* The shipped file, read from beside the tests. */
static anemo_cost_assumptions shipped(void) {
    anemo_cost_assumptions a;
    anemo_error err = {0};
    if (anemo_cost_assumptions_read(ANEMO_TEST_DIR "/../results/defaults/cost.json", &a, &err))
        fail_msg("%s", err.text);
    return a;
}

static anemo_record *model_record(double lo, double value, double hi) {
    anemo_record *r = anemo_record_create(ANEMO_RECORD_MODEL);
    anemo_record_text(r, NULL, "status", "passed");
    anemo_record_text(r, "case", "model", "some model");
    anemo_record_integer(r, "case", "batch", 4);
    anemo_record_text(r, "solution", "backend", "cpu");
    anemo_record_integer(r, "machine", "cores", 10);
    anemo_record_metric(r, "throughput", "token/s", false, value, lo, hi, 30);
    return r;
}

static void capital_recovery_is_right(void **state) {
    (void)state;
    assert_relative(anemo_cost_capital_recovery(0.08, 4), 0.3019208045, 1e-9);
    assert_relative(anemo_cost_capital_recovery(0.10, 5), 0.2637974808, 1e-9);
    assert_relative(anemo_cost_capital_recovery(0, 4), 0.25, 1e-15);
}

/* 10 cores, 100 each, 4 years without interest: 250 a year. 10 W each: 876 kWh, twice for the
 * building, at 0.1: 175.2. 100 token/s half of the year: 1576.8 million. */
static void the_sum_is_right(void **state) {
    (void)state;
    const double values[] = {100, 10, 4, 0, 0.5, 0.1, 2};
    anemo_cost_assumptions a = shipped();
    anemo_cost_line line;
    anemo_error err = {0};
    for (int id = 0; id < ANEMO_COST_INPUT_COUNT; id++)
        a.input[id].value = a.input[id].low = a.input[id].high = values[id];
    anemo_record *r = model_record(50, 100, 200);
    assert_int_equal(anemo_cost_line_make(r, &a, &line, &err), ANEMO_OK);
    assert_relative(line.price, 1000, 1e-12);
    assert_relative(line.watts, 100, 1e-12);
    assert_relative(line.yearly_capital, 250, 1e-12);
    assert_relative(line.yearly_energy, 175.2, 1e-12);
    assert_relative(line.per_million, 425.2 / 1576.8, 1e-12);
    assert_relative(line.measured_lo, 0.5 * line.per_million, 1e-12);
    assert_relative(line.measured_hi, 2 * line.per_million, 1e-12);
    assert_relative(line.lo, line.measured_lo, 1e-12); /* no assumption has a range here */
    assert_relative(line.hi, line.measured_hi, 1e-12);
    anemo_record_free(r);
}

/* The range must hold the cost at every corner of the assumptions. */
static void the_range_holds_every_corner(void **state) {
    (void)state;
    const anemo_cost_assumptions a = shipped();
    anemo_cost_line whole, corner;
    anemo_error err = {0};
    double least = INFINITY, most = 0;
    anemo_record *r = model_record(9, 10, 11);
    assert_int_equal(anemo_cost_line_make(r, &a, &whole, &err), ANEMO_OK);
    for (int bits = 0; bits < 1 << ANEMO_COST_INPUT_COUNT; bits++) {
        anemo_cost_assumptions b = a;
        for (int id = 0; id < ANEMO_COST_INPUT_COUNT; id++)
            b.input[id].value = bits >> id & 1 ? a.input[id].high : a.input[id].low;
        assert_int_equal(anemo_cost_line_make(r, &b, &corner, &err), ANEMO_OK);
        least = fmin(least, corner.measured_lo);
        most = fmax(most, corner.measured_hi);
    }
    assert_relative(whole.lo, least, 1e-12);
    assert_relative(whole.hi, most, 1e-12);
    assert_true(whole.lo < whole.per_million && whole.per_million < whole.hi);
    assert_int_equal(whole.decisive, ANEMO_COST_UTILISATION);
    assert_relative(whole.decisive_hi, whole.per_million * 0.25 / 0.05, 1e-12);
    anemo_record_free(r);
}

static void assert_refused(anemo_record *r, const char *part) {
    const anemo_cost_assumptions a = shipped();
    anemo_cost_line line;
    anemo_error err = {0};
    assert_int_equal(anemo_cost_line_make(r, &a, &line, &err), ANEMO_E_INPUT);
    assert_contains(err.text, part);
    anemo_record_free(r);
}

static void what_is_no_basis_is_refused(void **state) {
    (void)state;
    const anemo_cost_assumptions a = shipped();
    anemo_cost_line line;
    anemo_error err = {0};
    anemo_record *r = model_record(9, 10, 11);
    anemo_record_flag(r, NULL, "demo", true);
    anemo_record_flag(r, "case", "composed", true);
    assert_int_equal(anemo_cost_line_make(r, &a, &line, &err), ANEMO_OK);
    anemo_record_free(r);
    r = model_record(9, 10, 11);
    anemo_record_flag(r, NULL, "demo", true);
    assert_refused(r, "embedded default model");
    r = model_record(9, 10, 11);
    anemo_record_reason(r, "above-ceiling", true);
    assert_refused(r, "INVALID");
    r = model_record(9, 10, 11);
    anemo_record_metric(r, "composition_error", "1", true, -0.26, -0.3, 0.1, 30);
    assert_refused(r, "missed its own test by 26 %");
    r = model_record(0, 0, 0);
    assert_refused(r, "throughput");
    r = model_record(9, 10, 11);
    anemo_record_text(r, "solution", "backend", "cuda");
    assert_refused(r, "cuda");
    r = anemo_record_create(ANEMO_RECORD_KERNEL);
    anemo_record_text(r, NULL, "status", "passed");
    assert_refused(r, "kernel");
}

/* The shipped file with `from` replaced by `to` must be refused with a sentence that has `part`. */
static void assert_unreadable(const char *from, const char *to, const char *part) {
    char *text = test_read_file(ANEMO_TEST_DIR "/../results/defaults/cost.json", NULL);
    char *at = strstr(text, from), path[600];
    anemo_cost_assumptions a;
    anemo_error err = {0};
    assert_non_null(at);
    char *folder = test_folder_create();
    char *changed = calloc(1, strlen(text) + strlen(to) + 1);
    memcpy(changed, text, (size_t)(at - text));
    strcat(changed, to);
    strcat(changed, at + strlen(from));
    snprintf(path, sizeof path, "%s/cost.json", folder);
    test_write_file(path, changed, strlen(changed));
    assert_int_equal(anemo_cost_assumptions_read(path, &a, &err), ANEMO_E_INPUT);
    assert_contains(err.text, path);
    assert_contains(err.text, part);
    free(changed);
    free(text);
    test_folder_remove(folder);
}

static void bad_assumptions_are_refused(void **state) {
    (void)state;
    assert_unreadable("{", "", "cost.json:");
    assert_unreadable("\"schema_version\": 1", "\"schema_version\": 2", "schema_version");
    assert_unreadable("\"currency\": \"USD\"", "\"currency\": 1", "currency");
    assert_unreadable("\"value\": 182", "\"value\": \"182\"", "server_price_per_core");
    assert_unreadable("\"value\": 182", "\"value\": 999", "low <= value <= high");
    assert_unreadable("\"low\": 104", "\"low\": -104", "low <= value <= high");
    assert_unreadable("\"high\": 0.6", "\"high\": 1.6", "utilisation.high");
    assert_unreadable("\"kwh_price\"", "\"kwh\"", "kwh_price");
    assert_unreadable("\"class\": \"assumed\"", "\"class\": null", "class");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(capital_recovery_is_right),
        cmocka_unit_test(the_sum_is_right),
        cmocka_unit_test(the_range_holds_every_corner),
        cmocka_unit_test(what_is_no_basis_is_refused),
        cmocka_unit_test(bad_assumptions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
