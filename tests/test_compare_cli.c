/* anemo compare, as a person meets it: what it takes, what it refuses, what it says. Samples are
 * few and short; no verdict of a real measurement is asserted. */
#include "harness/record/record.h"
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

#define expect(code, part, ...) expect_(code, part, (const char *const[]){__VA_ARGS__, NULL})
static void expect_(int code, const char *part, const char *const *arguments) {
    program_result r = program_run_with(NULL, arguments);
    if (r.code != code || !strstr(code ? r.err : r.out, part)) {
        fail_msg("anemo %s %s: exit code %d, expected %d and '%s'\n%s%s", arguments[0],
                 arguments[1] ? arguments[1] : "", r.code, code, part, r.out, r.err);
    }
    program_result_free(&r);
}

#define SHORT "--looks", "8,10", "--sample", "0.02", "--threads", "1"
#define NORM  "--caches", "warm", "--shape", "1b/norm"

/* The rows of --format json. */
static json_t *rows_of(const char *const *arguments, const char *table) {
    program_result r = program_run_with(NULL, arguments);
    if (r.code != 0) {
        fail_msg("exit code %d: %s", r.code, r.err);
    }
    json_error_t where;
    json_t *root = json_loads(r.out, 0, &where), *rows = json_object_get(root, table);
    assert_true(json_is_array(rows));
    json_incref(rows);
    json_decref(root);
    program_result_free(&r);
    return rows;
}

static double number_of(const json_t *row, const char *key) {
    assert_true(json_is_number(json_object_get(row, key)));
    return json_number_value(json_object_get(row, key));
}

static void check_row(const json_t *row) {
    const double ratio = number_of(row, "ratio"), pairs = number_of(row, "pairs");
    const char *verdict = json_string_value(json_object_get(row, "verdict"));
    assert_true(number_of(row, "a_s") > 0 && number_of(row, "b_s") > 0);
    assert_true(number_of(row, "ratio_lo") <= ratio && ratio <= number_of(row, "ratio_hi"));
    assert_true(pairs == 8 || pairs == 10); /* a look at 6 has no interval of 97.5 % */
    assert_non_null(verdict);
    assert_true(strcmp(verdict, "PASS") != 0 || number_of(row, "ratio_hi") < 1.03);
    assert_true(strcmp(verdict, "REGRESSION") != 0 ||
                number_of(row, "p_regression") <= number_of(row, "p_needed"));
}

static void variants_are_compared(void **state) {
    (void)state;
    json_t *rows =
        rows_of((const char *const[]){"compare", "add_rmsnorm_c", "add_rmsnorm_ref", NORM, "--m",
                                      "1,3", SHORT, "--format", "json", NULL},
                "comparison");
    assert_int_equal(json_array_size(rows), 2);
    for (size_t i = 0; i < 2; i++) {
        check_row(json_array_get(rows, i));
    }
    json_decref(rows);
    expect(0, "B is slower", "compare", "add_rmsnorm_c", "add_rmsnorm_ref", NORM, SHORT);
}

/* Far beyond every noise: a reference in double against the kernel it defines, and the reverse. */
static void a_difference_has_a_direction(void **state) {
    (void)state;
    static const char *const sides[2][2] = {{"qgemm_c", "qgemm_ref"}, {"qgemm_ref", "qgemm_c"}};
    double ratio[2];
    for (int i = 0; i < 2; i++) {
        json_t *rows = rows_of((const char *const[]){"compare", sides[i][0], sides[i][1], "--shape",
                                                     "n=64,k=256", "--m", "2", "--caches", "warm",
                                                     SHORT, "--format", "json", NULL},
                               "comparison");
        ratio[i] = number_of(json_array_get(rows, 0), "ratio");
        json_decref(rows);
    }
    assert_true((ratio[0] > 1) != (ratio[1] > 1));
}

static void models_are_compared(void **state) {
    (void)state;
    json_t *rows = rows_of((const char *const[]){"compare", "default", "default", "--with-b",
                                                 "add_rmsnorm=add_rmsnorm_c", "--prompt", "4",
                                                 "--tokens", "3", SHORT, "--format", "json", NULL},
                           "comparison");
    check_row(json_array_get(rows, 0));
    json_decref(rows);
}

static void builds_are_compared(void **state) {
    (void)state;
    json_t *rows = rows_of((const char *const[]){"compare", ANEMO_BINARY, ANEMO_BINARY, "--variant",
                                                 "add_rmsnorm_c", NORM, "--m", "1", SHORT,
                                                 "--format", "json", NULL},
                           "comparison");
    check_row(json_array_get(rows, 0));
    json_decref(rows);
    rows = rows_of((const char *const[]){"compare", ANEMO_BINARY, ANEMO_BINARY, "--prompt", "4",
                                         "--tokens", "3", SHORT, "--format", "json", NULL},
                   "comparison");
    check_row(json_array_get(rows, 0));
    json_decref(rows);
    expect(2, "serves no samples", "compare", ANEMO_BINARY, "/bin/true", SHORT);
    expect(2, "serves no samples: it said", "compare", "/bin/echo", "/bin/echo", SHORT);
}

static void copy(const char *from, const char *to) {
    size_t bytes;
    char *content = test_read_file(from, &bytes);
    assert_non_null(content);
    FILE *out = fopen(to, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(content, 1, bytes, out), bytes);
    assert_int_equal(fclose(out), 0);
    free(content);
}

/* The same names in both, so that no process could load the two. */
static void plugins_are_compared(void **state) {
    (void)state;
    static const char *const prefix[] = {ANEMO_RUN_PREFIX NULL};
    if (prefix[0])
        skip(); /* the program starts itself */
    char *folder = test_folder_create(), other[600];
    const char *right = ANEMO_PLUGIN_DIR "/right.so";
    snprintf(other, sizeof other, "%s/other.so", folder);
    copy(right, other);
    json_t *rows =
        rows_of((const char *const[]){"compare", right, other, "--shape", "n=64,k=256", "--m",
                                      "1,2", "--caches", "warm", SHORT, "--format", "json", NULL},
                "comparison");
    assert_int_equal(json_array_size(rows), 2);
    check_row(json_array_get(rows, 0));
    json_decref(rows);
    expect(0, "qgemm_wxa32_example_c", "compare", right, other, "--variant",
           "qgemm_wxa32_example_c", "--shape", "n=64,k=256", "--m", "1", "--caches", "warm", SHORT);
    expect(2, "serves no samples", "compare", right, ANEMO_PLUGIN_DIR "/wrong_dense.so", "--shape",
           "n=64,k=256", "--m", "1", SHORT);
    expect(2, "expected two of a kind", "compare", right, "qgemm_c");
    expect(2, "concern models", "compare", right, other, "--tokens", "3");
    expect(2, "No such file", "compare", "no.so", other);
    test_folder_remove(folder);
}

static void what_is_wrong_is_not_timed(void **state) {
    (void)state;
    expect(3, "is wrong on", "compare", "--plugin", ANEMO_PLUGIN_DIR "/wrong_dense.so",
           "add_rmsnorm_c", "add_rmsnorm_wrong_sum_not_mean", NORM, "--m", "2", SHORT);
}

static void wrong_usage_says_what_is_right(void **state) {
    (void)state;
    expect(2, "expected A and B", "compare", "qgemm_c");
    expect(2, "expected A B", "compare");
    expect(2, "is no variant, no file of records", "compare", "nonsense", "qgemm_c");
    expect(2, "two of a kind", "compare", "qgemm_c", "a.jsonl");
    expect(2, "not comparable", "compare", "qgemm_c", "add_rmsnorm_c");
    expect(2, "52,104,208", "compare", "qgemm_c", "qgemm_ref", "--looks", "5");
    expect(2, "--delta", "compare", "qgemm_c", "qgemm_ref", "--delta", "three");
    expect(2, "--sample", "compare", "qgemm_c", "qgemm_ref", "--sample", "0");
    expect(2, "cold-weights or warm", "compare", "qgemm_c", "qgemm_ref", "--caches", "cold");
    expect(2, "no bench shape", "compare", "qgemm_c", "qgemm_ref", "--shape", "none");
    expect(2, "concern models", "compare", "qgemm_c", "qgemm_ref", "--tokens", "5");
    expect(2, "concern variants", "compare", "default", "default", "--m", "5");
    expect(2, "--variant concerns builds", "compare", "qgemm_c", "qgemm_ref", "--variant",
           "qgemm_c");
    expect(2, "take no options", "compare", "a.jsonl", "b.jsonl", "--m", "1");
    expect(2, "is no variant", "compare", ANEMO_BINARY, ANEMO_BINARY, "--variant", "nonsense");
    expect(2, "weights 'q99'", "compare", "qgemm_c", "qgemm_ref", "--weights", "q99", "--shape",
           "n=64,k=64", "--m", "1");
}

/* ---------------------------------------------------------------- records */

static char *folder;

static int make_folder(void **state) {
    (void)state;
    folder = test_folder_create();
    return folder ? 0 : -1;
}

static int drop_folder(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static char *path_of(const char *name) {
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void measure(const char *path, const char *variant) {
    expect(0, variant, "bench", "kernel", variant, NORM, "--m", "1", "--stop", "n:8", "--threads",
           "1", "--record", path);
}

static void files_apart_are_never_judged(void **state) {
    (void)state;
    char *a = path_of("a.jsonl"), *b = path_of("b.jsonl"), *c = path_of("c.jsonl");
    measure(a, "add_rmsnorm_c");
    measure(b, "add_rmsnorm_c");
    measure(c, "add_rmsnorm_ref");
    const char *const arguments[] = {"compare", a, b, NULL};
    program_result r = program_run_with(NULL, arguments);
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.err, "not measured together"));
    assert_non_null(strstr(r.out, "INCONCLUSIVE"));
    assert_null(strstr(r.out, "PASS"));
    assert_null(strstr(r.out, "REGRESSION"));
    program_result_free(&r);
    expect(2, "no case and variant in common", "compare", a, c);
    expect(2, "none.jsonl", "compare", a, path_of("none.jsonl"));
    test_write_file(path_of("bad.jsonl"), "{}\n", 3);
    expect(2, "bad.jsonl:1: schema_version", "compare", a, path_of("bad.jsonl"));
}

static bool keep_first(void *ctx, anemo_record *record) {
    *(anemo_record **)ctx = anemo_record_keep(record);
    return false;
}

static void a_comparison_is_recorded(void **state) {
    (void)state;
    char *path = path_of("compare.jsonl");
    expect(0, "add_rmsnorm", "compare", "add_rmsnorm_c", "add_rmsnorm_ref", NORM, "--m", "1", SHORT,
           "--record", path);
    anemo_record *record = NULL;
    anemo_metric ratio, time, baseline;
    assert_int_equal(anemo_record_read(path, keep_first, &record, NULL, NULL), ANEMO_OK);
    assert_non_null(record);
    assert_string_equal(anemo_record_get_text(record, "sampling", "baseline"), "add_rmsnorm_c");
    assert_string_equal(anemo_record_get_text(record, "solution", "variant"), "add_rmsnorm_ref");
    assert_string_equal(anemo_record_get_text(record, "sampling", "looks"), "8,10");
    assert_non_null(anemo_record_get_text(record, NULL, "verdict"));
    assert_string_equal(anemo_record_get_text(record, NULL, "repro"),
                        "anemo compare add_rmsnorm_c add_rmsnorm_ref --shape 1b/norm --m 1 "
                        "--caches warm --weights q4_0 --looks 8,10 --delta 3 --seed 1");
    assert_true(anemo_record_find_metric(record, "ratio", &ratio));
    assert_true(anemo_record_find_metric(record, "time", &time));
    assert_true(anemo_record_find_metric(record, "baseline_time", &baseline));
    assert_true(ratio.n == time.n && (ratio.n == 8 || ratio.n == 10));
    anemo_record_free(record);
}

/* ---------------------------------------------------------------- the self-test */

static void selftest_counts_and_says_what_it_cannot_say(void **state) {
    (void)state;
    expect(2, "expected measurement", "selftest", "everything");
    expect(2, "expected measurement", "selftest");
    expect(2, "--only", "selftest", "measurement", "--only", "endpoint");
    program_result r =
        program_run("selftest", "measurement", "--quick", "--only", "kernel", "--format", "json");
    assert_true(r.code == 0 || r.code == 1 || r.code == 4); /* as the machine is */
    json_t *root = json_loads(r.out, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(root, "bounds_rows")), 6);
    assert_int_equal(json_array_size(json_object_get(root, "rules_rows")), 4);
    json_decref(root);
    program_result_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variants_are_compared),
        cmocka_unit_test(a_difference_has_a_direction),
        cmocka_unit_test(models_are_compared),
        cmocka_unit_test(builds_are_compared),
        cmocka_unit_test(plugins_are_compared),
        cmocka_unit_test(what_is_wrong_is_not_timed),
        cmocka_unit_test(wrong_usage_says_what_is_right),
        cmocka_unit_test(files_apart_are_never_judged),
        cmocka_unit_test(a_comparison_is_recorded),
        cmocka_unit_test(selftest_counts_and_says_what_it_cannot_say),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
