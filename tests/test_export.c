/* anemo export: each form against a real file of the tool that it is for (tests/data/export), by
 * keys and types, against its figures computed again here, and against its grammar. */
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
#include <sys/stat.h>

enum { N = 4, TOKENS = 17, PROMPT = 32 };
static const double seconds[N] = {1e-3, 1.5e-3, 1.25e-3, 4e-3};
static char *folder;
static char path[600], other[600];

/* ---------------------------------------------------------------- records to export */

static void write_record(anemo_record_sink *sink, anemo_record *r) {
    anemo_error err = {{0}};
    if (anemo_record_write(sink, r, &err) != ANEMO_OK)
        print_error("%s\n", err.text);
    assert_string_equal(err.text, "");
    anemo_record_free(r);
}

static anemo_record *model(const char *name, const char *metric, int64_t batch) {
    anemo_record *r = anemo_record_create(ANEMO_RECORD_MODEL);
    anemo_record_text(r, NULL, "status", "passed");
    anemo_record_text(r, NULL, "suite", "bench model");
    anemo_record_text(r, "case", "name", name);
    anemo_record_text(r, "case", "model", "tiny.gguf");
    anemo_record_text(r, "case", "architecture", "mixtral");
    anemo_record_number(r, "case", "parameters", 7.25e9);
    anemo_record_number(r, "case", "weight_bytes", 4.1e9);
    anemo_record_integer(r, "case", "layers", 32);
    anemo_record_integer(r, "case", "batch", batch);
    anemo_record_integer(r, "case", "prompt_tokens", PROMPT);
    anemo_record_integer(r, "case", "generated_tokens", TOKENS);
    anemo_record_integer(r, "case", "chunk_tokens", 512);
    anemo_record_text(r, "case", "kv_type", "f16");
    anemo_record_text(r, "solution", "backend", "cpu");
    anemo_record_text(r, "solution", "weights", "q4_0");
    anemo_record_integer(r, "machine", "device_threads", 2);
    anemo_record_metric(r, "time", "s", true, 1.375e-3, 1e-3, 4e-3, N);
    anemo_record_samples(r, seconds, N);
    anemo_record_metric(r, metric, "s", true, 1.375e-3, 1e-3, 4e-3, N);
    anemo_record_reason(r, "one-occasion", false);
    return r;
}

static anemo_record *kernel(const char *name, const char *status, const char *why) {
    anemo_record *r = anemo_record_create(ANEMO_RECORD_KERNEL);
    anemo_record_text(r, NULL, "status", status);
    anemo_record_text(r, NULL, "why", why);
    anemo_record_text(r, "case", "name", name);
    anemo_record_text(r, "case", "op", "qgemm");
    anemo_record_text(r, "solution", "variant", "qgemm_c");
    anemo_record_integer(r, "machine", "device_threads", 2);
    anemo_record_integer(r, "sampling", "calls_per_sample", 8);
    if (strcmp(status, "passed") == 0) {
        anemo_record_metric(r, "time", "s", true, 1.375e-3, 1e-3, 4e-3, N);
        anemo_record_samples(r, seconds, N);
        anemo_record_metric(r, "ceiling_read", "byte/s", false, 1e9, 1e9, 1e9, 1);
    }
    return r;
}

static int set_up(void **state) {
    (void)state;
    anemo_error err = {{0}};
    anemo_record_sink *sink;
    folder = test_folder_create();
    snprintf(path, sizeof path, "%s/records.jsonl", folder);
    snprintf(other, sizeof other, "%s/out", folder);
    assert_int_equal(anemo_record_sink_open(path, &sink, &err), ANEMO_OK);
    write_record(sink, model("model/prefill", "ttft", 1));
    write_record(sink, model("model/decode", "tpot", 1));
    write_record(sink, model("model/decode/batch=4", "tpot", 4));
    anemo_record *missed = kernel("qgemm/a", "passed", NULL);
    anemo_record_text(missed, NULL, "judged", "missed");
    write_record(sink, missed);
    anemo_record *above = kernel("qgemm/b", "passed", NULL);
    anemo_record_reason(above, "above-ceiling", true);
    write_record(sink, above);
    write_record(sink, kernel("qgemm/c", "incorrect", "row 1, \"column\" 2: <off>, by\na lot & |"));
    write_record(sink, kernel("qgemm/d", "skipped", "no time"));
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static program_result run(int code, const char *const *arguments) {
    program_result r = program_run_with(NULL, arguments);
    if (r.code != code)
        print_error("exit code %d\n%s\n%s\n", r.code, r.out, r.err);
    assert_int_equal(r.code, code);
    return r;
}
#define export_as(code, ...) run(code, (const char *const[]){"export", path, __VA_ARGS__, NULL})

/* ---------------------------------------------------------------- against a real file */

static json_t *real_file(const char *name) {
    char at[600];
    snprintf(at, sizeof at, "%s/data/export/%s", ANEMO_TEST_DIR, name);
    json_t *document = json_load_file(at, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(document);
    return document;
}

static bool listed(const char *key, const char *const *list) {
    for (; *list; list++)
        if (strcmp(key, *list) == 0)
            return true;
    return false;
}

/* The same keys and types, but for those that ours may lack, or has besides. */
static void same_form(const json_t *ours, const json_t *real, const char *const *lacks,
                      const char *const *besides) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)real, key, value) {
        const json_t *own = json_object_get(ours, key);
        if (!own && !listed(key, lacks))
            fail_msg("the key %s is missing", key);
        if (own && json_is_boolean(own) != json_is_boolean(value))
            fail_msg("%s is a boolean in one only", key);
        if (own && !json_is_boolean(own) && json_typeof(own) != json_typeof(value))
            fail_msg("%s has the type %d, not %d", key, json_typeof(own), json_typeof(value));
        if (own && json_is_array(own) && json_array_size(own) && json_array_size(value))
            assert_int_equal(json_is_number(json_array_get(own, 0)),
                             json_is_number(json_array_get(value, 0)));
    }
    json_object_foreach((json_t *)ours, key, value) {
        if (!json_object_get(real, key) && !listed(key, besides))
            fail_msg("the key %s is not in the real file", key);
    }
}

static int64_t integer(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-9 * fabs(want)))
        fail_msg("%.12g is not %.12g", got, want);
}

/* ---------------------------------------------------------------- llama-bench */

/* steps: of one sample, per which `seconds` are; tokens of the whole test. */
static void check_test(const json_t *entry, double steps, double tokens) {
    double rates = 0, ns = 0, spread = 0;
    const json_t *raw = json_object_get(entry, "samples_ns");
    assert_int_equal(json_array_size(raw), N);
    for (int i = 0; i < N; i++) {
        near((double)json_integer_value(json_array_get(raw, (size_t)i)), seconds[i] * steps * 1e9);
        rates += tokens / (seconds[i] * steps) / N;
        ns += seconds[i] * steps * 1e9 / N;
    }
    for (int i = 0; i < N; i++)
        spread += pow(tokens / (seconds[i] * steps) - rates, 2) / (N - 1);
    near(number(entry, "avg_ts"), rates);
    near(number(entry, "stddev_ts"), sqrt(spread));
    near((double)integer(entry, "avg_ns"), ns);
}

static void llama_bench_has_the_real_form(void **state) {
    (void)state;
    static const char *const none[] = {NULL}, *const older[] = {"use_mmap", NULL};
    program_result r = export_as(0, "--to", "llama-bench");
    assert_contains(r.err, "5 of 7 records left out, the first: model/decode/batch=4: several");
    json_t *ours = json_loads(r.out, JSON_REJECT_DUPLICATES, NULL);
    json_t *real = real_file("llama-bench.json");
    assert_int_equal(json_array_size(ours), 2);
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < json_array_size(real); j++)
            same_form(json_array_get(ours, i), json_array_get(real, j), none, older);
    const json_t *prefill = json_array_get(ours, 0), *decode = json_array_get(ours, 1);
    assert_int_equal(integer(prefill, "n_prompt"), PROMPT);
    assert_int_equal(integer(prefill, "n_gen"), 0);
    assert_int_equal(integer(prefill, "n_depth"), 0);
    check_test(prefill, 1, PROMPT);
    assert_int_equal(integer(decode, "n_prompt"), 0);
    assert_int_equal(integer(decode, "n_gen"), TOKENS - 1);
    assert_int_equal(integer(decode, "n_depth"), PROMPT);
    check_test(decode, TOKENS - 1, TOKENS - 1);
    assert_int_equal(integer(decode, "model_n_params"), 7250000000);
    assert_string_equal(json_string_value(json_object_get(decode, "model_type")),
                        "mixtral 7.25 B q4_0");
    json_decref(ours);
    json_decref(real);
    program_result_free(&r);
}

/* ---------------------------------------------------------------- google-benchmark */

static void google_benchmark_has_the_real_form(void **state) {
    (void)state;
    /* what was not measured, or is no setting of ours */
    static const char *const lacks[] = {"mhz_per_cpu", "cpu_scaling_enabled", "load_avg",
                                        "aslr_enabled", NULL};
    static const char *const besides[] = {"anemo_cpu_time", "mhz_per_cpu", "cpu_scaling_enabled",
                                          NULL};
    static const char *const none[] = {NULL};
    program_result r = export_as(0, "--to", "google-benchmark", "--filter", "qgemm");
    assert_contains(r.err, "2 of 4 records left out, the first: qgemm/c: it has no time");
    json_t *ours = json_loads(r.out, JSON_REJECT_DUPLICATES, NULL);
    json_t *real = real_file("google-benchmark.json");
    same_form(json_object_get(ours, "context"), json_object_get(real, "context"), lacks, besides);
    assert_int_equal(integer(json_object_get(ours, "context"), "json_schema_version"), 1);
    const json_t *list = json_object_get(ours, "benchmarks");
    assert_int_equal(json_array_size(list), 2 * (N + 1));
    size_t i, j, compared = 0;
    json_t *a, *b;
    json_array_foreach(list, i, a) {
        const json_t *kind = json_object_get(a, "aggregate_name");
        json_array_foreach(json_object_get(real, "benchmarks"), j, b) {
            const json_t *its = json_object_get(b, "aggregate_name");
            if (kind ? its && json_equal(kind, its) : !its) {
                same_form(a, b, none, none);
                compared++;
            }
        }
        assert_string_equal(json_string_value(json_object_get(a, "run_name")),
                            i <= N ? "qgemm/a/qgemm_c" : "qgemm/b/qgemm_c");
        near(number(a, "real_time"), (kind ? 1.375e-3 : seconds[i % (N + 1)]) * 1e9);
        assert_int_equal(integer(a, "repetitions"), N);
    }
    assert_true(compared >= 2 * (N + 1));
    json_decref(ours);
    json_decref(real);
    program_result_free(&r);
}

/* ---------------------------------------------------------------- JUnit */

/* Every tag is closed in order, attributes are quoted, and no raw < & stands in a text. */
static void well_formed(const char *xml) {
    char open[8][32];
    int depth = 0;
    const char *at = strchr(xml, '\n');
    for (; *at; at++) {
        if (*at == '&')
            assert_true(strncmp(at, "&lt;", 4) == 0 || strncmp(at, "&gt;", 4) == 0 ||
                        strncmp(at, "&amp;", 5) == 0 || strncmp(at, "&quot;", 6) == 0);
        if (*at != '<')
            continue;
        const bool closes = at[1] == '/';
        const char *name = at + 1 + closes, *end = at;
        bool quoted = false;
        for (end = name; *end && (quoted || *end != '>'); end++) {
            quoted ^= *end == '"';
            assert_true(*end != '<');
        }
        assert_true(*end == '>' && !quoted);
        const int bytes = (int)strcspn(name, " />");
        if (closes) {
            assert_true(depth > 0 && strncmp(open[depth - 1], name, (size_t)bytes) == 0);
            depth--;
        } else if (end[-1] != '/') {
            assert_true(depth < 8 && bytes < 32);
            snprintf(open[depth++], sizeof *open, "%.*s", bytes, name);
        }
    }
    assert_int_equal(depth, 0);
}

static void junit_counts_and_escapes(void **state) {
    (void)state;
    program_result r = export_as(0, "--to", "junit");
    well_formed(r.out);
    assert_contains(r.out, "<testsuite name=\"anemo\" tests=\"7\" failures=\"2\" errors=\"1\" "
                           "skipped=\"1\" ");
    assert_contains(r.out, "<testcase classname=\"anemo.qgemm\" name=\"qgemm/a qgemm_c\" "
                           "time=\"0.007750\"><failure message=\"missed: time 0.001375 s");
    assert_contains(r.out, "<error message=\"time 0.001375 s [0.001, 0.004], n 4; INVALID: "
                           "above-ceiling\"/>");
    assert_contains(r.out, "row 1, &quot;column&quot; 2: &lt;off&gt;, by a lot &amp; |");
    assert_contains(r.out, "<skipped message=\"no time");
    assert_contains(r.out, "WEAK: one-occasion</system-out>");
    program_result_free(&r);
}

/* ---------------------------------------------------------------- CSV and Markdown */

/* RFC 4180: the next field into `field`; ends at ',', CR LF (*last), or fails. */
static const char *next_field(const char *at, char *field, size_t bytes, bool *last) {
    size_t n = 0;
    const bool quoted = *at == '"';
    at += quoted;
    for (; quoted ? at[0] != '"' || at[1] == '"' : !strchr(",\r", *at); at++) {
        assert_true(*at && (quoted || (*at != '"' && *at != '\n')));
        at += quoted && *at == '"';
        assert_true(n + 1 < bytes);
        field[n++] = *at;
    }
    field[n] = '\0';
    at += quoted;
    *last = *at == '\r';
    assert_true(*last ? at[1] == '\n' : *at == ',');
    return at + 1 + *last;
}

static void csv_is_rfc_4180(void **state) {
    (void)state;
    program_result r = export_as(0, "--to", "csv");
    enum { COLUMNS = 21, ROWS = 1 + 3 * 2 + 2 * 2 + 2 };
    char field[1024], head[COLUMNS][64];
    const char *at = r.out;
    int64_t rows = 0, found = 0;
    for (; *at; rows++) {
        bool last = false;
        int column = 0;
        for (; !last; column++) {
            assert_true(column < COLUMNS);
            at = next_field(at, field, sizeof field, &last);
            if (rows == 0)
                snprintf(head[column], sizeof head[column], "%.60s", field);
            else if (strcmp(head[column], "why") == 0 && field[0] == 'r')
                found += strcmp(field, "row 1, \"column\" 2: <off>, by\na lot & |") == 0;
            else if (strcmp(head[column], "value") == 0 && rows == 1)
                near(strtod(field, NULL), 1.375e-3);
        }
        assert_int_equal(column, COLUMNS);
    }
    assert_int_equal(rows, ROWS);
    assert_int_equal(found, 1);
    program_result_free(&r);
}

static void markdown_is_one_table(void **state) {
    (void)state;
    program_result r = export_as(0, "--to", "md");
    int64_t lines = 0;
    for (const char *at = r.out; *at; lines++) {
        int bars = 0;
        for (; *at != '\n'; at++) {
            if (*at == '\\')
                at++; /* and what it escapes */
            else
                bars += *at == '|';
        }
        at++;
        assert_int_equal(bars, 8);
    }
    assert_int_equal(lines, 2 + 3 * 2 + 2 + 2);
    assert_contains(r.out, "| 1.38 ms [1.00, 4.00] |");
    assert_contains(r.out, "incorrect |");
    assert_null(strstr(r.out, "ceiling_read"));
    program_result_free(&r);
}

/* ---------------------------------------------------------------- bad input */

static void refuse(const char *says, const char *file, ...) {
    const char *arguments[12] = {"export", file, "--output", other};
    struct stat there;
    int n = 4;
    va_list list;
    va_start(list, file);
    while ((arguments[n] = va_arg(list, const char *)))
        n++;
    va_end(list);
    program_result r = run(2, arguments);
    assert_contains(r.err, says);
    assert_int_equal(strlen(r.out), 0);
    assert_int_not_equal(stat(other, &there), 0); /* nothing half done */
    program_result_free(&r);
}

static void bad_input_is_one_sentence(void **state) {
    (void)state;
    char bad[700];
    snprintf(bad, sizeof bad, "%s/bad.jsonl", folder);
    test_write_file(bad, "{\"schema_version\": 1}\n", 22);
    refuse("--to is missing", path, NULL);
    refuse("expected one of csv, md, llama-bench", path, "--to", "xls", NULL);
    refuse("No such file", "/nowhere/at.jsonl", "--to", "csv", NULL);
    refuse("a scenario; expected records", "some.json", "--to", "csv", NULL);
    refuse("bad.jsonl:1", bad, "--to", "csv", NULL);
    refuse("no records with a case named nothing", path, "--to", "csv", "--filter", "nothing",
           NULL);
    refuse("no record that llama-bench has a form for; qgemm/a", path, "--to", "llama-bench",
           "--filter", "qgemm", NULL);
    refuse("no record that google-benchmark has a form for", path, "--to", "google-benchmark",
           "--filter", "qgemm/d", NULL);
}

int main(void) {
#define WITH_RECORDS(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_RECORDS(llama_bench_has_the_real_form),
        WITH_RECORDS(google_benchmark_has_the_real_form),
        WITH_RECORDS(junit_counts_and_escapes),
        WITH_RECORDS(csv_is_rfc_4180),
        WITH_RECORDS(markdown_is_one_table),
        WITH_RECORDS(bad_input_is_one_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
