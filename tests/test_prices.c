/* Reference data: what the reader refuses, which row is in force on a day, and the imports. */
#include "harness/cost/date.h"
#include "harness/cost/price_import.h"
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

#define GOOD                                                                                       \
    "{\"schema_version\":1,\"provider\":\"p\",\"model\":\"m-2512\",\"currency\":\"USD\","          \
    "\"unit\":\"1M "                                                                               \
    "token\",\"tier\":\"standard\",\"input\":1,\"output\":2,\"class\":\"published\","              \
    "\"as_of\":\"2026-08-01\",\"source\":\"s\"}\n"
#define FACT                                                                                       \
    "{\"schema_version\":1,\"subject\":\"site\",\"what\":\"pue\",\"unit\":\"1\",\"value\":1.5,"    \
    "\"low\":1.1,\"high\":2,\"class\":\"assumed\",\"as_of\":\"2026\",\"source\":\"s\"}\n"

static int32_t day(const char *text) {
    int32_t d = 0;
    assert_true(anemo_date_parse(text, &d));
    return d;
}

static void days_are_counted_right(void **state) {
    (void)state;
    char text[16];
    assert_int_equal(day("1970-01-01"), 0);
    assert_int_equal(day("2000-03-01") - day("2000-02-28"), 2);
    assert_int_equal(day("2026-11-26"), 20783);
    assert_int_equal(day("2026"), day("2026-01-01"));
    for (int32_t d = 0; d < 60000; d += 17) {
        anemo_date_text(d, text, sizeof text);
        assert_int_equal(day(text), d);
    }
    int32_t d;
    static const char *const bad[] = {"",        "26-01-01",   "2026-13",    "2026-02-30", "2026-1",
                                      "2026-Q1", "2025-02-29", "2026/01/01", "1492-01-01", NULL};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(anemo_date_parse(bad[i], &d));
}

/* Reads `text` as a file; expects `part` in the sentence, or success when it is NULL. */
static anemo_reference read_text(const char *text, const char *part) {
    char *folder = test_folder_create(), path[600];
    anemo_reference r = {0};
    anemo_error err = {0};
    snprintf(path, sizeof path, "%s/rows.jsonl", folder);
    test_write_file(path, text, strlen(text));
    anemo_status status = anemo_reference_read(path, &r, &err);
    if (part) {
        assert_int_equal(status, ANEMO_E_INPUT);
        assert_contains(err.text, "rows.jsonl:1: ");
        assert_contains(err.text, part);
        anemo_reference_free(&r);
    } else if (status != ANEMO_OK)
        fail_msg("%s", err.text);
    test_folder_remove(folder);
    return r;
}

/* `row` with its first `from` replaced. */
static void assert_refused(const char *row, const char *from, const char *to, const char *part) {
    char text[2000];
    const char *at = strstr(row, from);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - row), row, to, at + strlen(from));
    read_text(text, part);
}

static void bad_rows_are_refused(void **state) {
    (void)state;
    assert_refused(GOOD, "{", "[", "is not JSON");
    assert_refused(GOOD, "\"schema_version\":1", "\"schema_version\":2", "schema_version 1");
    assert_refused(GOOD, "1M token", "1k token", "per '1M token'");
    assert_refused(GOOD, "m-2512", "m-latest", "alias");
    assert_refused(GOOD, "\"input\":1", "\"input\":-1", "input is -1");
    assert_refused(GOOD, "\"input\":1,", "", "input is missing");
    assert_refused(GOOD, "\"input\":1", "\"input\":\"1\"", "input is missing, or not a number");
    assert_refused(GOOD, "\"tier\"", "\"teir\"", "tier is missing");
    assert_refused(GOOD, "\"input\"", "\"inptu\":1,\"input\"", "'inptu' is not a key");
    assert_refused(GOOD, "published", "rumoured", "'rumoured'");
    assert_refused(GOOD, "published", "projected", "'projected'");
    assert_refused(GOOD, "2026-08-01", "memory", "as_of");
    assert_refused(GOOD, ",\"source\":\"s\"", "", "source is missing");
    assert_refused(GOOD, "\"class\"",
                   "\"effective_from\":\"2026-02\",\"effective_to\":\"2026-01\",\"class\"",
                   "not before");
    assert_refused(FACT, "\"low\":1.1", "\"low\":1.6", "low <= value <= high");
    assert_refused(FACT, "\"low\":1.1,", "", "come together");
    assert_refused(FACT, "1.5", "1e300", "value is 1e+300");
}

static void the_row_in_force_is_found(void **state) {
    (void)state;
    char text[4000] = GOOD;
    /* half the price from September on, up to, not on, New Year's Day */
    strcat(text, "{\"schema_version\":1,\"provider\":\"q\",\"model\":\"n\",\"currency\":\"USD\","
                 "\"unit\":\"1M token\",\"tier\":\"standard\",\"input\":1,\"output\":2,"
                 "\"effective_to\":\"2026-09-01\",\"class\":\"published\",\"as_of\":\"2026-08-01\","
                 "\"source\":\"s\"}\n");
    strcat(text, "{\"schema_version\":1,\"provider\":\"q\",\"model\":\"n\",\"currency\":\"USD\","
                 "\"unit\":\"1M token\",\"tier\":\"standard\",\"input\":0.5,\"output\":1,"
                 "\"effective_from\":\"2026-09-01\",\"effective_to\":\"2027-01-01\","
                 "\"class\":\"published\",\"as_of\":\"2026-08-01\",\"source\":\"s\"}\n");
    anemo_reference r = read_text(text, NULL);
    assert_int_equal(r.n_prices, 3);
    assert_true(anemo_price_find(&r, "q", "n", "standard", 0, day("2026-08-31"))->input == 1);
    assert_true(anemo_price_find(&r, "q", "n", "standard", 0, day("2026-09-01"))->input == 0.5);
    assert_true(anemo_price_find(&r, "q", "n", "standard", 0, day("2026-12-31"))->input == 0.5);
    assert_null(anemo_price_find(&r, "q", "n", "standard", 0, day("2027-01-01")));
    assert_null(anemo_price_find(&r, "q", "n", "batch", 0, day("2026-09-01")));
    anemo_reference_free(&r);
}

static void the_shipped_rows_are_sound(void **state) {
    (void)state;
    anemo_reference r;
    anemo_error err = {0};
    if (anemo_reference_read_folder(ANEMO_TEST_DIR "/../results/reference", &r, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    assert_true(r.n_prices >= 50 && r.n_facts >= 150);
    const anemo_price *p =
        anemo_price_find(&r, "openai", "gpt-5.6-terra", "standard", 0, day("2026-11-26"));
    assert_non_null(p);
    assert_int_equal(p->n_others, 1); /* another list has the price before the cut */
    assert_non_null(anemo_price_bracket(&r, p, day("2026-11-26")));
    const anemo_fact *f = anemo_fact_find(&r, "hgx-h100-8", "server_price", day("2026-11-26"));
    assert_true(f && f->value == 317000 && f->origin.class_ == ANEMO_CLASS_QUOTED);
    for (int32_t i = 0; i < r.n_facts; i++) /* memory is told as what it is */
        if (strncmp(r.fact[i].origin.source, "our assumption", 14) == 0)
            assert_int_equal(r.fact[i].origin.class_, ANEMO_CLASS_ASSUMED);
    anemo_reference_free(&r);
}

/* ---------------------------------------------------------------- imports */

static anemo_reference import_text(anemo_price_format format, const char *text,
                                   anemo_price_import_report *report) {
    char *folder = test_folder_create(), path[600];
    anemo_reference r = {0};
    anemo_error err = {0};
    snprintf(path, sizeof path, "%s/list.json", folder);
    test_write_file(path, text, strlen(text));
    if (anemo_price_import(path, format, day("2026-08-01"), "list", &r, report, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    test_folder_remove(folder);
    for (int32_t i = 0; i < r.n_prices; i++) { /* what is written can be read */
        char *line = anemo_price_json(&r.price[i]), *whole = malloc(strlen(line) + 2);
        sprintf(whole, "%s\n", line);
        anemo_reference back = read_text(whole, NULL);
        assert_true(fabs(back.price[0].input / r.price[i].input - 1) < 1e-11);
        assert_int_equal(back.price[0].origin.from, r.price[i].origin.from);
        anemo_reference_free(&back);
        free(whole);
        free(line);
    }
    return r;
}

static void every_list_is_understood(void **state) {
    (void)state;
    anemo_price_import_report report;
    anemo_reference r = import_text(
        ANEMO_PRICES_LITELLM,
        "{\"sample_spec\":{},\"e\":{\"mode\":\"embedding\",\"input_cost_per_token\":1e-6},"
        "\"x/m\":{\"mode\":\"chat\",\"litellm_provider\":\"x\",\"input_cost_per_token\":2e-6,"
        "\"output_cost_per_token\":8e-6,\"input_cost_per_token_batches\":1e-6,"
        "\"input_cost_per_token_above_200k_tokens\":4e-6,"
        "\"output_cost_per_token_above_200k_tokens\":1.2e-5},"
        "\"m-latest\":{\"mode\":\"chat\",\"litellm_provider\":\"x\",\"input_cost_per_token\":2e-6,"
        "\"output_cost_per_token\":8e-6}}",
        &report);
    assert_int_equal(report.taken, 2);
    assert_int_equal(report.aliases, 1);
    assert_true(fabs(r.price[0].input - 2) < 1e-9 && fabs(r.price[0].batch_ratio - 0.5) < 1e-9);
    assert_true(r.price[1].bracket == 200000 && fabs(r.price[1].output - 12) < 1e-9);
    anemo_reference_free(&r);
    r = import_text(
        ANEMO_PRICES_GENAI_PRICES,
        "[{\"id\":\"g\",\"models\":[{\"id\":\"a\",\"prices_checked\":\"2026-07-01\",\"prices\":"
        "{\"input_mtok\":{\"base\":1,\"tiers\":[{\"start\":200000,\"price\":2}]},"
        "\"output_mtok\":{\"base\":5,\"tiers\":[{\"start\":200000,\"price\":9}]}}},"
        "{\"id\":\"b\",\"prices\":[{\"prices\":{\"input_mtok\":3,\"output_mtok\":4}},{"
        "\"constraint\":"
        "{\"start_date\":\"2026-09-01\"},\"prices\":{\"input_mtok\":1,\"output_mtok\":2}}]}]}]",
        &report);
    assert_int_equal(r.n_prices, 4);
    assert_true(r.price[1].bracket == 200000 && r.price[1].output == 9);
    assert_int_equal(r.price[0].origin.as_of, day("2026-07-01"));
    assert_true(r.price[2].origin.to == day("2026-09-01") &&
                r.price[3].origin.from == day("2026-09"));
    anemo_reference_free(&r);
    r = import_text(ANEMO_PRICES_MODELS_DEV,
                    "{\"ovh\":{\"models\":{\"m\":{\"cost\":{\"input\":0.4,\"output\":0.5,"
                    "\"cache_read\":0.1}},\"free\":{\"cost\":{\"input\":0,\"output\":0}}}}}",
                    &report);
    assert_true(r.n_prices == 1 && report.without_price == 1 && r.price[0].cached == 0.1);
    anemo_reference_free(&r);
    r = import_text(ANEMO_PRICES_LLM_PRICES,
                    "{\"vendor\":\"v\",\"models\":[{\"id\":\"m\",\"price_history\":[{\"input\":1,"
                    "\"output\":2,\"input_cached\":null,\"from_date\":null,\"to_date\":"
                    "\"2026-07-30\"},{\"input\":0.2,\"output\":1,\"from_date\":\"2026-07-30\","
                    "\"to_date\":null}]}]}",
                    &report);
    assert_true(r.n_prices == 2 && r.price[0].origin.to == r.price[1].origin.from);
    anemo_reference_free(&r);
    r = import_text(ANEMO_PRICES_OPENROUTER,
                    "{\"data\":[{\"id\":\"a/b\",\"pricing\":{\"prompt\":\"0.000002\","
                    "\"completion\":\"0.00001\",\"input_cache_read\":\"0.0000002\"}}]}",
                    &report);
    assert_true(fabs(r.price[0].input - 2) < 1e-9 && fabs(r.price[0].cached - 0.2) < 1e-9);
    anemo_reference_free(&r);
}

static void the_command_lists_and_judges_age(void **state) {
    (void)state;
    program_result r = program_run("prices", "list", "--filter", "gpt-5.6-luna", "--as-of",
                                   "2026-11-26", "--format", "csv");
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "openai,gpt-5.6-luna,USD,");
    program_result_free(&r);
    r = program_run("prices", "check", "--as-of", "2026-11-26", "--max-age", "30");
    assert_int_equal(r.code, 1);
    assert_contains(r.out, "stale");
    assert_contains(r.out, "conflict");
    program_result_free(&r);
    r = program_run("prices", "check", "--as-of", "2026-08-03", "--max-age", "30", "--filter",
                    "gpt-5.6");
    assert_int_equal(r.code, 0);
    program_result_free(&r);
    r = program_run("prices", "check", "--as-of", "yesterday");
    assert_int_equal(r.code, 2);
    assert_contains(r.err, "expected a date");
    program_result_free(&r);
    r = program_run("prices", "import", "llm-prices", ANEMO_TEST_DIR "/test_prices.c");
    assert_int_equal(r.code, 2);
    program_result_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(days_are_counted_right),
        cmocka_unit_test(bad_rows_are_refused),
        cmocka_unit_test(the_row_in_force_is_found),
        cmocka_unit_test(the_shipped_rows_are_sound),
        cmocka_unit_test(every_list_is_understood),
        cmocka_unit_test(the_command_lists_and_judges_age),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
