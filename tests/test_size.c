/* From workload and limits to machines: the budget adds up, limits bind, what cannot be is refused.
 */
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
#define GPU      "example-owned-gpu"

/* mixed.json with the first `from` replaced (NULL: as it is), run by `size`. */
static program_result run_edited(const char *from, const char *to) {
    char path[600], *folder = test_folder_create();
    char *text = test_read_file(EXAMPLES "mixed.json", NULL), *out;
    out = calloc(1, strlen(text) + 1000);
    const char *at = from ? strstr(text, from) : text;
    assert_non_null(at);
    snprintf(out, strlen(text) + 1000, "%.*s%s%s", (int)(at - text), text, from ? to : "",
             at + (from ? strlen(from) : 0));
    snprintf(path, sizeof path, "%s/s.json", folder);
    test_write_file(path, out, strlen(out));
    program_result r =
        program_run("size", path, "--as-of", "2026-11-26", "--format", "json", "--explain");
    free(out);
    free(text);
    test_folder_remove(folder);
    return r;
}

static double field(const json_t *root, const char *id, const char *key) {
    const json_t *table = json_object_get(root, "machines");
    for (size_t i = 0; i < json_array_size(table); i++) {
        const json_t *row = json_array_get(table, i);
        if (strcmp(json_string_value(json_object_get(row, "id")), id) == 0) {
            const json_t *value = json_object_get(row, key);
            return json_is_number(value) ? json_number_value(value) : NAN;
        }
    }
    fail_msg("no row of %s", id);
    return NAN;
}

static json_t *sized(const char *from, const char *to) {
    program_result r = run_edited(from, to);
    if (r.code != 0)
        fail_msg("exit code %d: %s", r.code, r.err);
    json_t *root = json_loads(r.out, 0, NULL);
    assert_non_null(root);
    program_result_free(&r);
    return root;
}

static void the_memory_budget_adds_up(void **state) {
    (void)state;
    json_t *root = sized(NULL, NULL);
    const json_t *table = json_object_get(root, "memory");
    double sum = 0, left = NAN, session = NAN;
    for (size_t i = 0; i < json_array_size(table); i++) {
        const json_t *row = json_array_get(table, i);
        const char *what = json_string_value(json_object_get(row, "what"));
        double bytes = json_number_value(json_object_get(row, "bytes"));
        if (strcmp(json_string_value(json_object_get(row, "id")), GPU) != 0)
            continue;
        if (strncmp(what, "left", 4) == 0)
            left = bytes;
        else if (strncmp(what, "one session", 11) == 0)
            session = bytes;
        else
            sum += bytes;
    }
    /* 48.3 - 3.5 - 45.1e9 x 4.125 / 8 - 1.6e9 x 8.125 / 8 - 1.5, in GB */
    assert_true(fabs(left - (48.3e9 - 3.5e9 - 23.2546875e9 - 1.625e9 - 1.5e9)) < 1e6);
    assert_true(fabs(sum - left) < 1);
    assert_true(field(root, GPU, "sessions_fit") == floor(left / session));
    json_decref(root);
}

static void machines_follow_from_the_load(void **state) {
    (void)state;
    json_t *root = sized(NULL, NULL);
    double rate = field(root, GPU, "requests_per_s"), peak = field(root, GPU, "peak_per_s");
    double replicas = field(root, GPU, "replicas"), servers = field(root, GPU, "servers");
    assert_true(rate > 0.1 && field(root, GPU, "p95_ttft_s") <= 2 &&
                field(root, GPU, "p95_tpot_s") <= 0.08);
    assert_true(replicas == ceil(peak / (0.8 * rate)) && servers == ceil(replicas / 4));
    assert_true(field(root, GPU, "redundant") == 1 && field(root, GPU, "kw") > 0.5);
    /* a processor that needs longer than the limit for one prompt serves nobody */
    assert_true(isnan(field(root, "example-owned-cpu", "requests_per_s")));
    json_t *twice =
        sized("\"requests_per_month\": {\"value\": 2000000, \"low\": 1400000, \"high\": "
              "2800000}",
              "\"requests_per_month\": 8000000");
    assert_true(fabs(field(twice, GPU, "peak_per_s") / peak - 4) < 1e-6);
    assert_true(field(twice, GPU, "servers") > 3 * servers - 1);
    json_t *loose = sized("\"p95_ttft_s\": 2.0, \"p95_tpot_s\": 0.08",
                          "\"p95_ttft_s\": 8.0, \"p95_tpot_s\": 0.3");
    assert_true(field(loose, GPU, "requests_per_s") > rate);
    assert_true(field(loose, "example-owned-cpu", "requests_per_s") > 0);
    json_decref(loose);
    json_decref(twice);
    json_decref(root);
}

static void a_window_saves_memory(void **state) {
    (void)state;
    json_t *all = sized(NULL, NULL);
    json_t *windowed =
        sized("\"kv_element_bytes\": 2", "\"kv_element_bytes\": 2, \"window\": 1024");
    assert_true(field(windowed, GPU, "sessions_fit") > 3 * field(all, GPU, "sessions_fit"));
    json_decref(all);
    json_decref(windowed);
}

static void assert_refused(const char *from, const char *to, int code, const char *part) {
    program_result r = run_edited(from, to);
    if (r.code != code)
        fail_msg("%s -> %s: exit code %d, expected %d: %s", from, to, r.code, code, r.err);
    assert_contains(code == 0 ? r.out : r.err, part);
    program_result_free(&r);
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    assert_refused("\"p95_ttft_s\": 2.0", "\"p95_ttft_s\": 0.01", 4, "no machine of the scenario");
    assert_refused("4.51e10, \"bits\": 4.125", "4.51e10, \"bits\": 16", 4, "no machine");
    assert_refused("\"step_tokens\": 1024", "\"step_tokens\": 4096", 2, "above what was measured");
    assert_refused("\"step_tokens\": 1024", "\"steptokens\": 1024", 2, "'steptokens'");
    assert_refused("\"sessions\": 48,", "", 2, "sessions is missing");
    assert_refused("[[1, 0.022], [4, 0.030]", "[[4, 0.022], [1, 0.030]", 2, "decode[1]");
    assert_refused("[64, 0.045]", "[64, -1]", 2, "prefill[0]");
    assert_refused("\"units_per_replica\": 1", "\"units_per_replica\": 8", 2,
                   "nothing is known of replicas across servers");
    assert_refused("\"bits\": 4.125", "\"bits\": 4125", 2, "bits is 4125");
    assert_refused("\"layers\": 32, ", "", 2, "layers is missing");
}

static void both_examples_in_every_format(void **state) {
    (void)state;
    static const char *const formats[] = {"text", "json", "csv", "md"};
    static const char *const files[] = {EXAMPLES "mixed.json", EXAMPLES "purchase.json"};
    for (int f = 0; f < 2; f++)
        for (int i = 0; i < 4; i++) {
            program_result r = program_run("size", files[f], "--as-of", "2026-11-26", "--format",
                                           formats[i], "--explain");
            assert_int_equal(r.code, 0);
            assert_contains(r.out, "left for keys and values");
            assert_contains(r.out, "simulated requests");
            program_result_free(&r);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_memory_budget_adds_up),
        cmocka_unit_test(machines_follow_from_the_load),
        cmocka_unit_test(a_window_saves_memory),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(both_examples_in_every_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
