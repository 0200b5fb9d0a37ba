/* From a scenario file to a verdict: risk, rule, break-even, what is refused, and the command. */
#include "harness/cost/date.h"
#include "harness/cost/verdict.h"
#include "harness/record/record.h"
#include "tests/support/asserts.h"
#include "tests/support/run_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXAMPLES ANEMO_TEST_DIR "/../results/examples/"
#define AS_OF    "--as-of", "2026-11-26"
#define DRAWS    20000

static anemo_reference reference;

static int open_reference(void **state) {
    (void)state;
    return anemo_reference_read_folder(ANEMO_TEST_DIR "/../results/reference", &reference, NULL);
}

static int close_reference(void **state) {
    (void)state;
    anemo_reference_free(&reference);
    return 0;
}

static anemo_cost_scenario *read_scenario(const char *path) {
    anemo_cost_scenario *s = calloc(1, sizeof *s);
    anemo_error err = {0};
    int32_t day;
    assert_true(anemo_date_parse("2026-11-26", &day));
    if (anemo_cost_scenario_read(path, &reference, day, 90, s, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    return s;
}

/* ---------------------------------------------------------------- risk */

static void quantiles_are_those_of_the_shapes(void **state) {
    (void)state;
    anemo_cost_number n = {.value = 2, .low = 1, .high = 4, .least = 0, .most = 100};
    n.shape = ANEMO_SHAPE_UNIFORM;
    assert_true(fabs(anemo_cost_quantile(&n, 0.25) - 1.75) < 1e-12);
    n.shape = ANEMO_SHAPE_TRIANGULAR; /* a third of the area is left of the mode */
    assert_true(fabs(anemo_cost_quantile(&n, 1.0 / 3) - 2) < 1e-12);
    assert_true(fabs(anemo_cost_quantile(&n, 1) - 4) < 1e-12);
    n.shape = ANEMO_SHAPE_LOGNORMAL;
    assert_true(fabs(anemo_cost_quantile(&n, 0.5) - 2) < 1e-8);
    assert_true(fabs(anemo_cost_quantile(&n, 0.05) - 1) < 1e-7);
    assert_true(fabs(anemo_cost_quantile(&n, 0.95) - 4) < 1e-7);
    n.most = 3;
    assert_true(anemo_cost_quantile(&n, 0.95) == 3);
}

static void simulate(const anemo_cost_scenario *s, uint64_t seed, anemo_cost_outcome *out) {
    anemo_cost_draws *draws;
    assert_int_equal(anemo_cost_draws_create(s, DRAWS, seed, &draws, NULL), ANEMO_OK);
    assert_int_equal(anemo_cost_simulate(s, draws, 0, 1, anemo_cost_best_owned(s), NULL, out, NULL),
                     ANEMO_OK);
    anemo_cost_draws_free(draws);
}

static void halves_agree_and_seeds_repeat(void **state) {
    (void)state;
    static const char *const files[] = {EXAMPLES "mixed.json", EXAMPLES "purchase.json"};
    for (int f = 0; f < 2; f++) {
        anemo_cost_scenario *s = read_scenario(files[f]);
        anemo_cost_outcome a[ANEMO_COST_OPTIONS_MAX], b[ANEMO_COST_OPTIONS_MAX];
        simulate(s, 1, a);
        simulate(s, 1, b);
        for (int32_t o = 0; o < s->model.n_options; o++) {
            double width = a[o].p95 - a[o].p5;
            assert_true(a[o].evaluated);
            assert_true(fabs(a[o].half_p50[0] - a[o].half_p50[1]) <= 0.02 * width);
            assert_true(fabs(a[o].half_probability[0] - a[o].half_probability[1]) <= 0.02);
            assert_true(a[o].p5 <= a[o].p50 && a[o].p50 <= a[o].p95);
            assert_true(a[o].p50 == b[o].p50 && a[o].probability == b[o].probability);
            assert_true(o == s->in_use || width > 0);
        }
        simulate(s, 2, b); /* another seed: other draws, the same answer */
        int32_t owned = anemo_cost_best_owned(s);
        assert_true(a[owned].p50 != b[owned].p50);
        assert_true(fabs(a[owned].probability - b[owned].probability) < 0.02);
        free(s);
    }
}

static void fixed_inputs_give_the_point_value(void **state) {
    (void)state;
    anemo_cost_scenario *s = read_scenario(EXAMPLES "mixed.json");
    anemo_cost_outcome out[ANEMO_COST_OPTIONS_MAX];
    for (int32_t i = 0; i < s->model.n_inputs; i++)
        s->number[i].shape = ANEMO_SHAPE_FIXED;
    simulate(s, 1, out);
    for (int32_t o = 0; o < s->model.n_options; o++) {
        assert_true(out[o].p5 == out[o].p95 && out[o].p50 == out[o].npv);
        assert_true(out[o].probability == (out[o].npv > 0));
    }
    free(s);
}

static void bars_and_switching_values_are_right(void **state) {
    (void)state;
    anemo_cost_scenario *s = read_scenario(EXAMPLES "purchase.json");
    static anemo_cost_bar bar[ANEMO_COST_INPUTS_MAX];
    int32_t owned = anemo_cost_best_owned(s), n = anemo_cost_tornado(s, owned, bar), switched = 0;
    double before = INFINITY;
    assert_true(n > 20);
    for (int32_t i = 0; i < n; i++) {
        double width = fabs(bar[i].at_high - bar[i].at_low), x[ANEMO_COST_INPUTS_MAX];
        assert_true(width <= before);
        before = width;
        memcpy(x, s->x, sizeof x);
        if (isnan(bar[i].switching))
            continue;
        switched++; /* just below and just above it the sign differs */
        double at = bar[i].switching, step = fabs(at) * 1e-6 + 1e-9;
        x[bar[i].input] = at - step;
        double lo = anemo_cost_saving_of(&s->model, s->in_use, owned, x);
        x[bar[i].input] = at + step;
        double hi = anemo_cost_saving_of(&s->model, s->in_use, owned, x);
        if ((lo > 0) == (hi > 0) && bar[i].input != ANEMO_G_YEARS)
            fail_msg("%s does not switch at %g: %g, %g", s->number[bar[i].input].key, at, lo, hi);
    }
    assert_true(switched >= 8);
    free(s);
}

/* ---------------------------------------------------------------- the command */

static json_t *run_json(const char *path, const char *requests) {
    program_result r =
        requests ? program_run("cost", path, AS_OF, "--format", "json", "--requests", requests)
                 : program_run("cost", path, AS_OF, "--format", "json");
    if (r.code != 0)
        fail_msg("exit code %d: %s", r.code, r.err);
    json_t *root = json_loads(r.out, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    program_result_free(&r);
    return root;
}

/* "value" of the row "what" in the table of the verdict. */
static const json_t *said(const json_t *root, const char *what) {
    const json_t *table = json_object_get(root, "verdict");
    for (size_t i = 0; i < json_array_size(table); i++) {
        const json_t *row = json_array_get(table, i);
        if (strcmp(json_string_value(json_object_get(row, "what")), what) == 0)
            return json_object_get(row, "value");
    }
    return NULL;
}

static const char *money_verdict(const json_t *root) {
    const json_t *money = said(root, "by money alone");
    return json_string_value(money ? money : said(root, "verdict"));
}

/* Walks through the printed spans: just inside both ends the verdict is the printed one. */
static void sweep(const char *path, int least_spans) {
    json_t *root = run_json(path, NULL);
    const json_t *table = json_object_get(root, "break_even");
    int spans = 0;
    for (size_t i = 0; i < json_array_size(table); i++) {
        const json_t *row = json_array_get(table, i);
        const char *what = json_string_value(json_object_get(row, "what"));
        double from = json_number_value(json_object_get(row, "from"));
        double to = json_number_value(json_object_get(row, "to"));
        if (strncmp(what, "verdict by money: ", 18) != 0)
            continue;
        spans++;
        const double volumes[] = {from * 1.04, sqrt(from * to), to / 1.04};
        for (int k = 0; k < 3 && to > 1.1 * from; k++) {
            char text[32];
            snprintf(text, sizeof text, "%.0f", volumes[k]);
            json_t *at = run_json(path, text);
            if (strcmp(money_verdict(at), what + 18) != 0)
                fail_msg("%s requests: %s, but %s is printed from %g to %g", text,
                         money_verdict(at), what + 18, from, to);
            json_decref(at);
        }
    }
    assert_true(spans >= least_spans);
    json_decref(root);
}

static void the_verdict_flips_only_at_the_printed_edges(void **state) {
    (void)state;
    sweep(EXAMPLES "mixed.json", 3);
    sweep(EXAMPLES "purchase.json", 2);
}

static void examples_never_say_buy(void **state) {
    (void)state;
    static const char *const files[] = {EXAMPLES "mixed.json", EXAMPLES "purchase.json"};
    for (int f = 0; f < 2; f++) {
        json_t *root = run_json(files[f], NULL);
        assert_contains(json_string_value(said(root, "scenario")), "EXAMPLE with made-up figures");
        assert_string_not_equal(json_string_value(said(root, "verdict")), "BUY");
        assert_true(strlen(json_string_value(said(root, "what would decide"))) > 20);
        json_decref(root);
        /* every option of an example says so in its id; no class but assumed stands in it */
        char *text = test_read_file(files[f], NULL);
        json_t *file = json_loads(text, 0, NULL);
        const json_t *options = json_object_get(file, "options");
        for (size_t i = 0; i < json_array_size(options); i++)
            assert_int_equal(
                strncmp(json_string_value(json_object_get(json_array_get(options, i), "id")),
                        "example-", 8),
                0);
        assert_null(strstr(text, "\"measured\""));
        json_decref(file);
        free(text);
    }
}

static void every_role_and_format_is_there(void **state) {
    (void)state;
    static const char *const formats[] = {"text", "json", "csv", "md"};
    for (int i = 0; i < 4; i++) {
        program_result r = program_run("cost", EXAMPLES "mixed.json", AS_OF, "--explain", "--draws",
                                       "1000", "--format", formats[i]);
        static const char *const parts[] = {"do nothing",
                                            "in_use",
                                            "equal",
                                            "hosted",
                                            "rented",
                                            "owned",
                                            "hybrid",
                                            "usage-based",
                                            "recovery",
                                            "residual",
                                            "example-owned-cpu",
                                            "our assumption, replace it",
                                            "exchange rate"};
        assert_int_equal(r.code, 0);
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
            assert_contains(r.out, parts[k]);
        program_result_free(&r);
    }
}

/* ---------------------------------------------------------------- the price of a wrong answer */

static double cell(const json_t *rows, size_t row, const char *column) {
    const json_t *value = json_object_get(json_array_get(rows, row), column);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* At the price that evens them out, today's model and another cost the same with their errors. */
static void wrong_answers_have_a_price(void **state) {
    (void)state;
    char path[600], *folder = test_folder_create();
    double price = NAN; /* none is given in the first round */
    for (int round = 0; round < 2; round++) {
        json_t *root = json_load_file(EXAMPLES "mixed.json", 0, NULL);
        if (round)
            json_object_set_new(json_object_get(root, "site"), "error_loss",
                                json_pack("{s:f, s:s}", "value", price, "unit", "EUR/error"));
        snprintf(path, sizeof path, "%s/s.json", folder);
        json_dump_file(root, path, 0);
        json_decref(root);
        program_result r = program_run("cost", path, AS_OF, "--draws", "200", "--format", "json");
        assert_int_equal(r.code, 0);
        json_t *out = json_loads(r.out, 0, NULL), *rows = json_object_get(out, "tokens");
        if (round == 0) { /* row 0: today's, 1: the smaller closed one, 3444 and 3384 of 4000 */
            price = cell(rows, 1, "indifferent");
            double saved = cell(rows, 0, "request") - cell(rows, 1, "request");
            assert_true(fabs(price - saved / (60.0 / 4000)) < 1e-6);
            assert_true(isnan(cell(rows, 0, "indifferent")) && isnan(cell(rows, 0, "with_errors")));
            assert_true(isnan(cell(rows, 2, "indifferent"))); /* cheaper and better */
        } else {
            double today = cell(rows, 0, "with_errors");
            assert_true(today > cell(rows, 0, "request"));
            assert_true(fabs(cell(rows, 1, "with_errors") / today - 1) < 1e-6);
            assert_true(cell(rows, 2, "with_errors") < today);
        }
        json_decref(out);
        program_result_free(&r);
    }
    test_folder_remove(folder);
}

/* ---------------------------------------------------------------- what is refused */

/* The scenario with `from` replaced by `to` (every time), run; expects the code and the part. */
static void edited(const char *file, const char *from, const char *to, int code, const char *part) {
    char path[600], *folder = test_folder_create();
    snprintf(path, sizeof path, EXAMPLES "%s", file);
    char *text = test_read_file(path, NULL), *at = text, *next;
    char *out = calloc(1, 20 * strlen(text) + 1000);
    assert_non_null(strstr(text, from));
    while ((next = strstr(at, from))) {
        strncat(out, at, (size_t)(next - at));
        strcat(out, to);
        at = next + strlen(from);
    }
    strcat(out, at);
    snprintf(path, sizeof path, "%s/s.json", folder);
    test_write_file(path, out, strlen(out));
    program_result r = program_run("cost", path, AS_OF, "--draws", "200");
    if (r.code != code)
        fail_msg("%s -> %s: exit code %d, expected %d\n%s", from, to, r.code, code, r.err);
    assert_contains(r.err, part);
    program_result_free(&r);
    free(text);
    free(out);
    test_folder_remove(folder);
}

static void bad_scenarios_are_refused(void **state) {
    (void)state;
    const char *m = "mixed.json";
    edited(m, "\"schema_version\": 1", "\"schema_version\": 9", 2, "schema_version");
    edited(m, "\"currency\": \"EUR\"", "\"currency\": \"XYZ\"", 2, "'XYZ'");
    edited(m, "\"currency\": \"EUR\"", "\"currency\": \"eur\"", 2, "three letters");
    edited(m, "\"value\": 2000000, \"low\"", "\"value\": -5, \"low\"", 2, "requests_per_month");
    edited(m, "\"low\": 1400000", "\"low\": 2400000", 2, "low is 2.4e+06");
    edited(m, "\"tokens_in\": {\"value\": 1800", "\"tokens_in\": {\"valeu\": 1800", 2, "'valeu'");
    edited(m, "\"sensitive_share\": 0.3", "\"sensitive_share\": 30", 2, "sensitive_share is 30");
    edited(m, "\"profile\": \"office\"", "\"profile\": \"moon\"", 2, "168 weights");
    edited(m, "\"EUR/server\"", "\"EUR/rack\"", 2, "counted in EUR/server");
    edited(m, "\"EUR/server\"", "\"QQQ/server\"", 2, "'QQQ'");
    edited(m, ", \"unit\": \"EUR/server\"", "", 2, "unit is missing");
    edited(m, "gpt-5.4\"", "gpt-latest\"", 2, "alias");
    edited(m, "gpt-5.4\"", "gpt-0\"", 2, "no price row of 'gpt-0'");
    edited(m, "\"role\": \"in_use\"", "\"role\": \"equal\"", 2, "exactly one is today's bill");
    edited(m, "\"role\": \"in_use\"", "\"role\": \"inuse\"", 2, "accepted are in_use");
    edited(m, "\"id\": \"example-hosted\"", "\"id\": \"example-closed\"", 2, "twice");
    edited(m, "\"cached_share\": {\"value\": 0.3, \"low\": 0.15, \"high\": 0.45}",
           "\"cached_share\": 0.6, \"cache_write_share\": 0.5", 2, "more than the whole input");
    edited(m, "\"price_decline\": {",
           "\"price\": {\"input\": {\"value\": 2, \"unit\": \"EUR/1k token\"}},"
           " \"price_decline\": {",
           2, "counted in EUR/1M token");
    edited(m, "\"price_decline\": {", "\"price\": {\"input\": 2}, \"price_decline\": {", 2,
           "bare number");
    edited(m, "\"tokens_in\": 512, \"tokens_out\": 512", "\"tokens_in\": 4096, \"tokens_out\": 512",
           2, "too alike");
    edited(m, "\"role\"", "\"roel\"", 2, "role is missing");
    edited(m, "{", "[", 2, "s.json:");
}

static void missing_measurements_refuse_the_verdict(void **state) {
    (void)state;
    edited("mixed.json", "\"p95_ttft_s\": 2.0", "\"p95_ttft_s\": 0.1", 4, "meet the limits");
    edited("mixed.json", "\"value\": 1800, \"low\": 1500, \"high\": 2200",
           "\"value\": 9000, \"low\": 8000, \"high\": 10000", 4,
           "longer than any that was measured");
    edited("purchase.json",
           "\"accuracy\": {\"correct\": 2992, \"n\": 4000, \"same_questions\": true}",
           "\"note\": \"none\"", 4, "accuracy of devstral-2-123b-instruct-2512");
    edited("purchase.json", "\"capacity\"", "\"note\": \"\", \"capacity\"", 0, "");
    /* waived by name, there is a verdict again */
    edited("purchase.json", "\"options\"",
           "\"rule\": {\"accuracy_waived_by\": \"A. Buyer\"}, \"options\"", 0, "");
}

static void the_rule_is_kept(void **state) {
    (void)state;
    anemo_cost_scenario *s = read_scenario(EXAMPLES "purchase.json");
    anemo_cost_outcome out[ANEMO_COST_OPTIONS_MAX];
    anemo_verdict v;
    simulate(s, 1, out);
    int32_t owned = anemo_cost_best_owned(s);
    assert_true(owned >= 0);
    const struct {
        double p;
        bool here;
        anemo_verdict_kind kind, money;
    } cases[] = {{0.81, true, ANEMO_BUY, ANEMO_BUY},
                 {0.81, false, ANEMO_UNDECIDED, ANEMO_BUY},
                 {0.79, true, ANEMO_UNDECIDED, ANEMO_UNDECIDED},
                 {0.21, true, ANEMO_UNDECIDED, ANEMO_UNDECIDED},
                 {0.19, true, ANEMO_DO_NOT_BUY, ANEMO_DO_NOT_BUY},
                 {0.19, false, ANEMO_DO_NOT_BUY, ANEMO_DO_NOT_BUY}};
    for (int32_t o = 0; o < s->model.n_options; o++)
        out[o].probability = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        out[owned].probability = cases[i].p;
        s->choice[owned].capacity.measured_here = cases[i].here;
        anemo_cost_judge(s, out, &v);
        assert_int_equal(v.kind, cases[i].kind);
        assert_int_equal(v.money, cases[i].money);
    }
    s->choice[owned].accuracy.correct = 2000; /* half right, today's model three quarters */
    out[owned].probability = 0.99;
    s->choice[owned].capacity.measured_here = true;
    anemo_cost_judge(s, out, &v);
    assert_int_equal(v.kind, ANEMO_DO_NOT_BUY);
    assert_contains(v.reason, "less accurate");
    free(s);
}

/* 99.8 % is not certain, and 79.6 % does not meet a rule of 80 %. */
static void shares_are_not_rounded_onto_certainty(void **state) {
    (void)state;
    static const struct {
        double share;
        const char *text;
    } cases[] = {{0, "0 %"},
                 {1, "100 %"},
                 {0.998, "99.8 %"},
                 {0.796, "79.6 %"},
                 {0.0004, "under 0.1 %"},
                 {0.0005, "0.1 %"},
                 {0.9994, "99.9 %"},
                 {0.9996, "over 99.9 %"},
                 {0.5, "50.0 %"},
                 {1 + 1e-15, "100 %"}};
    char text[24];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(anemo_cost_percent(cases[i].share, text), cases[i].text);
    anemo_cost_scenario *s = read_scenario(EXAMPLES "purchase.json");
    anemo_cost_outcome out[ANEMO_COST_OPTIONS_MAX];
    anemo_verdict v;
    simulate(s, 1, out);
    for (int32_t o = 0; o < s->model.n_options; o++)
        out[o].probability = 0;
    out[anemo_cost_best_owned(s)].probability = 0.9976;
    anemo_cost_judge(s, out, &v);
    assert_contains(v.reason, "with probability 99.8 % (rule: buy from 80 %");
    free(s);
}

/* ---------------------------------------------------------------- speed from files */

static void files_of_vllm_are_taken(void **state) {
    (void)state;
    char *folder = test_folder_create(), path[600], *text;
    for (int i = 0; i < 3; i++) {
        static const double in[] = {1024, 8192, 2048}, out[] = {1024, 512, 256};
        char body[512];
        double seconds = 1000 * (in[i] * 3e-5 + out[i] * 4e-4);
        snprintf(path, sizeof path, "%s/vllm%d.json", folder, i);
        snprintf(body, sizeof body,
                 "{\"date\": \"2026-11-0%d\", \"completed\": 1000, \"total_input_tokens\": %.0f, "
                 "\"total_output_tokens\": %.0f, \"duration\": %.17g, \"p95_ttft_ms\": 400}",
                 i + 1, 1000 * in[i], 1000 * out[i], seconds);
        test_write_file(path, body, strlen(body));
    }
    text = test_read_file(EXAMPLES "purchase.json", NULL);
    json_t *root = json_loads(text, 0, NULL);
    json_t *option = json_array_get(json_object_get(root, "options"), 4);
    json_object_set_new(option, "capacity",
                        json_pack("{s:s, s:i, s:[s, s, s]}", "machine", "hgx-h200-8", "units", 8,
                                  "records", "vllm0.json", "vllm1.json", "vllm2.json"));
    snprintf(path, sizeof path, "%s/s.json", folder);
    json_dump_file(root, path, 0);
    anemo_cost_scenario *s = read_scenario(path);
    int32_t first = s->model.option[4].first;
    assert_true(fabs(s->x[first + ANEMO_B_S_IN] / (8 * 3e-5) - 1) < 1e-9);
    assert_true(fabs(s->x[first + ANEMO_B_S_OUT] / (8 * 4e-4) - 1) < 1e-9);
    assert_true(s->choice[4].capacity.measured_here && s->choice[4].capacity.ttft_s == 0.4);
    assert_int_equal(s->choice[4].capacity.occasions, 3); /* three days */
    assert_false(s->choice[4].capacity.default_sd);
    assert_int_equal(s->number[first + ANEMO_B_S_IN].origin.class_, ANEMO_CLASS_MEASURED);
    free(s);
    json_object_set_new(json_object_get(option, "capacity"), "records",
                        json_pack("[s, s]", "vllm0.json", "vllm1.json"));
    json_dump_file(root, path, 0);
    program_result r = program_run("cost", path, AS_OF);
    assert_int_equal(r.code, 2);
    assert_contains(r.err, "from 3 on");
    program_result_free(&r);
    json_decref(root);
    free(text);
    test_folder_remove(folder);
}

static anemo_record *model_record(bool demo, int64_t prompt, int64_t batch, double seconds) {
    anemo_record *r = anemo_record_create(ANEMO_RECORD_MODEL);
    anemo_record_text(r, NULL, "status", "passed");
    anemo_record_flag(r, NULL, "demo", demo);
    anemo_record_integer(r, "case", "prompt_tokens", prompt);
    anemo_record_integer(r, "case", "generated_tokens", 1024);
    anemo_record_integer(r, "case", "batch", batch ? batch : 1);
    anemo_record_metric(r, batch ? "tpot" : "ttft", "s", true, seconds, seconds, seconds, 30);
    return r;
}

static void records_of_anemo_are_taken_and_the_demo_is_not(void **state) {
    (void)state;
    for (int demo = 0; demo < 2; demo++) {
        char *folder = test_folder_create(), path[600], machine[80];
        anemo_record_sink *sink;
        snprintf(path, sizeof path, "%s/model.jsonl", folder);
        assert_int_equal(anemo_record_sink_open(path, &sink, NULL), ANEMO_OK);
        static const int64_t prompts[] = {512, 2048, 8192};
        for (int i = 0; i < 4; i++) {
            anemo_record *r = i < 3 ? model_record(demo, prompts[i], 0, 2e-3 * (double)prompts[i])
                                    : model_record(demo, 512, 16, 0.4);
            snprintf(machine, sizeof machine, "%s", anemo_record_get_text(r, "machine", "id"));
            assert_int_equal(anemo_record_write(sink, r, NULL), ANEMO_OK);
            anemo_record_free(r);
        }
        assert_int_equal(anemo_record_sink_close(sink, NULL), ANEMO_OK);
        char *text = test_read_file(EXAMPLES "purchase.json", NULL);
        json_t *root = json_loads(text, 0, NULL);
        json_t *option = json_array_get(json_object_get(root, "options"), 4);
        json_object_set_new(option, "capacity",
                            json_pack("{s:i, s:[s]}", "batch", 16, "records", "model.jsonl"));
        snprintf(path, sizeof path, "%s/s.json", folder);
        json_dump_file(root, path, 0);
        program_result r = program_run("cost", path, AS_OF, "--draws", "200");
        assert_int_equal(r.code, demo ? 2 : 0);
        if (demo)
            assert_contains(r.err, "embedded demo model");
        else {
            anemo_cost_scenario *s = read_scenario(path);
            int32_t first = s->model.option[4].first;
            assert_true(fabs(s->x[first + ANEMO_B_S_IN] - 2e-3) < 1e-12);
            assert_true(fabs(s->x[first + ANEMO_B_S_OUT] - 0.4 / 16) < 1e-12);
            assert_string_equal(s->choice[4].capacity.machine, machine);
            assert_false(s->choice[4].capacity.measured_here); /* here is no hgx-h200-8 */
            free(s);
        }
        program_result_free(&r);
        json_decref(root);
        free(text);
        test_folder_remove(folder);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_those_of_the_shapes),
        cmocka_unit_test(halves_agree_and_seeds_repeat),
        cmocka_unit_test(fixed_inputs_give_the_point_value),
        cmocka_unit_test(bars_and_switching_values_are_right),
        cmocka_unit_test(the_verdict_flips_only_at_the_printed_edges),
        cmocka_unit_test(examples_never_say_buy),
        cmocka_unit_test(every_role_and_format_is_there),
        cmocka_unit_test(wrong_answers_have_a_price),
        cmocka_unit_test(bad_scenarios_are_refused),
        cmocka_unit_test(missing_measurements_refuse_the_verdict),
        cmocka_unit_test(the_rule_is_kept),
        cmocka_unit_test(shares_are_not_rounded_onto_certainty),
        cmocka_unit_test(files_of_vllm_are_taken),
        cmocka_unit_test(records_of_anemo_are_taken_and_the_demo_is_not),
    };
    return cmocka_run_group_tests(tests, open_reference, close_reference);
}
