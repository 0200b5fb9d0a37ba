/* Records: what is refused, what survives a full disk, a killed run and other writers. */
#include "harness/record/record.h"
#include "tests/support/asserts.h"
#include "tests/support/run_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char *folder;
static char path[600];

static int set_up(void **state) {
    (void)state;
    folder = test_folder_create();
    snprintf(path, sizeof path, "%s/deep/er/records.jsonl", folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

/* A record as a bench would write it; `mark` tells it from others. */
static anemo_record *sample(int64_t mark) {
    const double samples[] = {1e-3, 1.5e-3, 2e-3};
    anemo_record *r = anemo_record_create(ANEMO_RECORD_KERNEL);
    anemo_record_text(r, NULL, "status", "passed");
    anemo_record_text(r, NULL, "repro", "anemo bench kernel");
    anemo_record_text(r, "case", "op", "qgemm");
    anemo_record_integer(r, "case", "m", mark);
    anemo_record_text(r, "solution", "variant", "qgemm_ref");
    anemo_record_metric(r, "time", "s", true, 1.5e-3, 1e-3, 2e-3, 3);
    anemo_record_samples(r, samples, 3);
    anemo_record_metric(r, "tokens", "token/s", false, 10, 9, 11, 3);
    return r;
}

static void write_samples(int64_t first, int64_t n) {
    anemo_record_sink *sink;
    anemo_error err = {0};
    assert_int_equal(anemo_record_sink_open(path, &sink, &err), ANEMO_OK);
    for (int64_t i = 0; i < n; i++) {
        anemo_record *r = sample(first + i);
        assert_int_equal(anemo_record_write(sink, r, &err), ANEMO_OK);
        anemo_record_free(r);
    }
    assert_int_equal(anemo_record_sink_count(sink), n);
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
}

typedef struct seen {
    int64_t n, sum, stop_at;
    anemo_record *kept;
} seen;

static bool count(void *ctx, anemo_record *record) {
    seen *s = ctx;
    s->n++;
    s->sum += anemo_record_get_integer(record, "case", "m");
    if (!s->kept)
        s->kept = anemo_record_keep(record);
    return s->n != s->stop_at;
}

static void what_is_written_is_read(void **state) {
    (void)state;
    seen s = {0};
    anemo_record_read_report report;
    anemo_error err = {0};
    anemo_metric metric;
    write_samples(1, 3);
    write_samples(4, 1); /* appended, not overwritten */
    assert_int_equal(anemo_record_read(path, count, &s, &report, &err), ANEMO_OK);
    assert_int_equal(report.records, 4);
    assert_int_equal(report.torn_line, 0);
    assert_int_equal(s.sum, 1 + 2 + 3 + 4);
    assert_string_equal(anemo_record_get_text(s.kept, NULL, "kind"), "kernel");
    assert_string_equal(anemo_record_get_text(s.kept, "case", "op"), "qgemm");
    assert_string_equal(anemo_record_get_text(s.kept, "validity", "verdict"), "VALID");
    assert_null(anemo_record_get_reason(s.kept, 0));
    assert_true(anemo_record_get_integer(s.kept, "machine", "cores") >= 1);
    assert_non_null(anemo_record_get_text(s.kept, "machine", "id"));
    assert_non_null(anemo_record_get_text(s.kept, "build", "compiler"));
    assert_int_equal(strlen(anemo_record_get_text(s.kept, NULL, "id")), 16);
    assert_null(anemo_record_get_text(s.kept, "case", "task"));
    assert_true(isnan(anemo_record_get_number(s.kept, "case", "weight_bytes")));
    assert_true(anemo_record_find_metric(s.kept, "tokens", &metric));
    assert_false(metric.lower_is_better);
    assert_true(metric.value == 10 && metric.lo == 9 && metric.hi == 11 && metric.n == 3);
    assert_false(anemo_record_find_metric(s.kept, "watts", &metric));
    anemo_record_free(s.kept);
    s = (seen){.stop_at = 2};
    assert_int_equal(anemo_record_read(path, count, &s, NULL, &err), ANEMO_OK);
    assert_int_equal(s.n, 2);
    anemo_record_free(s.kept);
}

static bool keep_last(void *ctx, anemo_record *record) {
    anemo_record **last = ctx;
    if (*last)
        anemo_record_free(*last);
    *last = anemo_record_keep(record);
    return true;
}

static anemo_status last_samples(double **samples, int64_t *n, anemo_error *err) {
    anemo_record *last = NULL;
    assert_int_equal(anemo_record_read(path, keep_last, &last, NULL, err), ANEMO_OK);
    const anemo_status status = anemo_record_get_samples(last, 0, samples, n, err);
    anemo_record_free(last);
    return status;
}

/* Beside the records, bound to them by name and hash; a record without its file of samples is whole
 * but for them. */
static void samples_lie_beside_the_records(void **state) {
    (void)state;
    char beside[600];
    size_t bytes;
    double *samples;
    int64_t n;
    anemo_error err = {0};
    snprintf(beside, sizeof beside, "%s/deep/er/records.samples", folder);
    write_samples(1, 2);
    char *text = test_read_file(path, &bytes);
    assert_null(strstr(text, "\"samples\""));
    assert_contains(text, "\"samples_file\":\"records.samples\"");
    free(text);
    assert_int_equal(last_samples(&samples, &n, &err), ANEMO_OK);
    assert_int_equal(n, 3);
    assert_true(samples[0] == 1e-3 && samples[1] == 1.5e-3 && samples[2] == 2e-3);
    free(samples);
    text = test_read_file(beside, &bytes);
    *strrchr(text, '5') = '6'; /* the last record's second sample */
    test_write_file(beside, text, bytes);
    assert_int_equal(last_samples(&samples, &n, &err), ANEMO_E_INPUT);
    assert_contains(err.text, "not those of its hash");
    test_write_file(beside, text, bytes - 4); /* torn: the line is not there yet, others are */
    free(text);
    assert_int_equal(last_samples(&samples, &n, &err), ANEMO_OK);
    assert_int_equal(n, 0);
    write_samples(3, 1); /* mends both files */
    assert_int_equal(last_samples(&samples, &n, &err), ANEMO_OK);
    assert_int_equal(n, 3);
    free(samples);
    unlink(beside);
    assert_int_equal(last_samples(&samples, &n, &err), ANEMO_OK);
    assert_true(n == 0 && samples == NULL);
}

/* In the line of their samples, and nowhere in the record. */
static void noise_lies_beside_its_samples(void **state) {
    (void)state;
    static const double seconds[] = {1e-3, 2e-3}, switches[] = {3, NAN};
    char records[600], beside[600];
    size_t bytes;
    anemo_error err = {0};
    anemo_record_sink *sink = NULL;
    snprintf(records, sizeof records, "%s/noise.jsonl", folder);
    snprintf(beside, sizeof beside, "%s/noise.samples", folder);
    anemo_record *r = sample(0);
    anemo_record_metric(r, "noisy", "s", true, 1e-3, 1e-3, 2e-3, 2);
    anemo_record_samples(r, seconds, 2);
    anemo_record_sample_noise(r, "involuntary_switches", switches, 2);
    assert_int_equal(anemo_record_sink_open(records, &sink, &err), ANEMO_OK);
    assert_int_equal(anemo_record_write(sink, r, &err), ANEMO_OK);
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    char *text = test_read_file(beside, &bytes);
    assert_contains(text,
                    "\"samples\":[0.001,0.002],\"noise\":{\"involuntary_switches\":[3.0,null]}}");
    free(text);
    text = test_read_file(records, &bytes);
    assert_null(strstr(text, "involuntary_switches"));
    free(text);
    anemo_record_sample_noise(r, "steal_fraction", switches, 1); /* of another number of samples */
    assert_int_equal(anemo_record_sink_open(records, &sink, &err), ANEMO_OK);
    assert_int_equal(anemo_record_write(sink, r, &err), ANEMO_E_INPUT);
    assert_contains(err.text, "noise steal_fraction");
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    anemo_record_free(r);
}

static void ids_differ(void **state) {
    (void)state;
    anemo_record *r[200];
    for (int i = 0; i < 200; i++)
        r[i] = sample(i);
    for (int i = 0; i < 200; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(anemo_record_get_text(r[i], NULL, "id"),
                                    anemo_record_get_text(r[j], NULL, "id"));
    for (int i = 0; i < 200; i++)
        anemo_record_free(r[i]);
}

static void reasons_make_the_verdict(void **state) {
    (void)state;
    anemo_record *r = sample(1);
    anemo_record_reason(r, "one-occasion", false);
    anemo_record_reason(r, "one-occasion", false);
    assert_string_equal(anemo_record_get_text(r, "validity", "verdict"), "WEAK");
    assert_null(anemo_record_get_reason(r, 1));
    anemo_record_reason(r, "above-ceiling", true);
    anemo_record_reason(r, "noisy", false);
    assert_string_equal(anemo_record_get_text(r, "validity", "verdict"), "INVALID");
    assert_string_equal(anemo_record_get_reason(r, 1), "above-ceiling");
    anemo_record_free(r);
}

/* Writes `r` nowhere, expects a refusal that says `part`, frees it. */
static void assert_refused(anemo_record *r, const char *part) {
    anemo_record_sink *sink;
    anemo_error err = {0};
    assert_int_equal(anemo_record_sink_open(NULL, &sink, &err), ANEMO_OK);
    assert_int_not_equal(anemo_record_write(sink, r, &err), ANEMO_OK);
    assert_contains(err.text, part);
    assert_int_equal(anemo_record_sink_count(sink), 0);
    anemo_record_sink_close(sink, &err);
    anemo_record_free(r);
}

static void wrong_records_are_refused(void **state) {
    (void)state;
    anemo_record *r = sample(1);
    anemo_record_text(r, "case", "colour", "red");
    assert_refused(r, "case.colour");
    r = sample(1);
    anemo_record_text(r, "case", "m", "four");
    assert_refused(r, "case.m");
    r = sample(1);
    anemo_record_metric(r, "nothing", "s", true, NAN, 0, 1, 3);
    assert_refused(r, "nothing");
    r = sample(1);
    anemo_record_metric(r, "endless", "s", true, 1, 0, INFINITY, 3);
    assert_refused(r, "endless");
    r = sample(1);
    anemo_record_metric(r, "turned", "s", true, 1, 2, 0, 3);
    assert_refused(r, "turned");
    r = sample(1);
    anemo_record_number(r, "case", "weight_bytes", NAN);
    assert_refused(r, "weight_bytes");
    r = sample(1);
    anemo_record_text(r, "case", "shape", "\xff\xfe");
    assert_refused(r, "case.shape");
    r = sample(1);
    anemo_record_text(r, NULL, "status", "splendid");
    assert_refused(r, "status");
    r = sample(1); /* performance only where correctness passed */
    anemo_record_text(r, NULL, "status", "incorrect");
    anemo_record_text(r, NULL, "why", "NaN");
    assert_refused(r, "metrics");
    r = anemo_record_create(ANEMO_RECORD_KERNEL);
    assert_refused(r, "status");
    r = anemo_record_create(ANEMO_RECORD_KERNEL);
    anemo_record_text(r, NULL, "status", "skipped");
    assert_refused(r, "why");
}

/* The file's text with `text` appended must be refused at `line` with a sentence that has `part`.
 */
static void assert_unreadable(const char *text, int64_t line, const char *part) {
    size_t bytes;
    anemo_error err = {0};
    seen s = {0};
    char at[700];
    unlink(path);
    write_samples(1, 2);
    char *good = test_read_file(path, &bytes);
    char *all = malloc(bytes + strlen(text) + 1);
    memcpy(all, good, bytes);
    memcpy(all + bytes, text, strlen(text) + 1);
    test_write_file(path, all, bytes + strlen(text));
    assert_int_equal(anemo_record_read(path, count, &s, NULL, &err), ANEMO_E_INPUT);
    snprintf(at, sizeof at, "%s:%d: ", path, (int)line);
    assert_contains(err.text, at);
    assert_contains(err.text, part);
    assert_int_equal(s.n, line - 1);
    anemo_record_free(s.kept);
    free(good);
    free(all);
}

static void unreadable_lines_are_named(void **state) {
    (void)state;
    anemo_error err = {0};
    seen s = {0};
    assert_unreadable("{\"schema_version\":2}\n", 3, "schema_version 2; this program reads 1");
    assert_unreadable("{\"schema_version\":\"1\"}\n", 3, "schema_version");
    assert_unreadable("{\"time\":\"now\"}\n", 3, "schema_version");
    assert_unreadable("nonsense\n", 3, "is not a record");
    assert_unreadable("\n", 3, "is not a record");
    assert_unreadable("{\"schema_version\":1,\"schema_version\":1}\n", 3, "duplicate");
    assert_unreadable("{\"schema_version\":1,\"kind\":\"dance\"}\n", 3, "kind");
    assert_unreadable("{\"schema_version\":1,\"kind\":\"eval\",\"status\":\"passed\",\"id\":\"0\","
                      "\"time\":\"t\",\"metrics\":[{\"name\":\"x\"}],"
                      "\"validity\":{\"verdict\":\"WEAK\",\"reasons\":[]}}\n",
                      3, "metrics[0]");
    assert_unreadable("{\"schema_version\":1,\"kind\":\"eval\",\"status\":\"passed\",\"id\":\"0\","
                      "\"time\":\"t\",\"metrics\":[],\"case\":{\"m\":\"four\"},"
                      "\"validity\":{\"verdict\":\"WEAK\",\"reasons\":[]}}\n",
                      3, "case.m is not a whole number");
    assert_int_equal(anemo_record_read("/nonexistent", count, &s, NULL, &err), ANEMO_E_INPUT);
    assert_int_equal(anemo_record_read(folder, count, &s, NULL, &err), ANEMO_E_INPUT);
    assert_contains(err.text, "directory");
}

static void torn_last_line_is_told_and_mended(void **state) {
    (void)state;
    size_t bytes;
    seen s = {0};
    anemo_record_read_report report;
    anemo_error err = {0};
    write_samples(1, 3);
    char *text = test_read_file(path, &bytes);
    test_write_file(path, text, bytes - 9); /* as a power cut may leave it */
    free(text);
    assert_int_equal(anemo_record_read(path, count, &s, &report, &err), ANEMO_OK);
    assert_int_equal(report.records, 2);
    assert_int_equal(report.torn_line, 3);
    anemo_record_free(s.kept);
    write_samples(10, 1);
    s = (seen){0};
    assert_int_equal(anemo_record_read(path, count, &s, &report, &err), ANEMO_OK);
    assert_int_equal(report.torn_line, 0);
    assert_int_equal(s.sum, 1 + 2 + 10);
    anemo_record_free(s.kept);
}

static void other_peoples_files_are_left_alone(void **state) {
    (void)state;
    static const char letter[] = "Dear Sir,\nno newline at the end";
    char other[600];
    anemo_record_sink *sink;
    anemo_error err = {0};
    snprintf(other, sizeof other, "%s/letter.txt", folder);
    test_write_file(other, letter, strlen(letter));
    assert_int_equal(anemo_record_sink_open(other, &sink, &err), ANEMO_E_INPUT);
    assert_contains(err.text, "not a file of records");
    char *text = test_read_file(other, NULL);
    assert_string_equal(text, letter);
    free(text);
    assert_int_equal(anemo_record_sink_open(folder, &sink, &err), ANEMO_E_IO);
}

/* A limit on the file's size makes write(2) come back short, exactly as a full disk does. */
static void a_full_disk_loses_no_finished_record(void **state) {
    (void)state;
    struct rlimit before, limit;
    size_t bytes;
    int64_t written = 0;
    anemo_record_sink *sink;
    anemo_error err = {0}, later = {0};
    write_samples(1, 1);
    char *text = test_read_file(path, &bytes);
    free(text);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 3 * bytes + bytes / 2; /* room for three and a half */
    assert_int_equal(anemo_record_sink_open(path, &sink, &err), ANEMO_OK);
    setrlimit(RLIMIT_FSIZE, &limit);
    anemo_status status = ANEMO_OK;
    for (int i = 0; i < 6 && status == ANEMO_OK; i++) {
        anemo_record *r = sample(1);
        status = anemo_record_write(sink, r, &err);
        written += status == ANEMO_OK;
        anemo_record_free(r);
    }
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(status, ANEMO_E_IO);
    assert_contains(err.text, path);
    assert_int_equal(written, 2);
    assert_int_equal(anemo_record_sink_close(sink, &later), ANEMO_OK);
    seen s = {0};
    anemo_record_read_report report;
    assert_int_equal(anemo_record_read(path, count, &s, &report, &err), ANEMO_OK);
    assert_int_equal(report.records, 3);
    assert_int_equal(report.torn_line, 0);
    anemo_record_free(s.kept);
}

static void a_full_device_is_an_error(void **state) {
    (void)state;
    anemo_record_sink *sink;
    anemo_error err = {0};
    if (access("/dev/full", W_OK) != 0)
        skip();
    assert_int_equal(anemo_record_sink_open("/dev/full", &sink, &err), ANEMO_OK);
    anemo_record *r = sample(1);
    assert_int_equal(anemo_record_write(sink, r, &err), ANEMO_E_IO);
    assert_contains(err.text, "No space left");
    anemo_record_free(r);
    anemo_record_sink_close(sink, &err);
}

static void killed_and_parallel_writers_leave_whole_lines(void **state) {
    (void)state;
    enum { WRITERS = 4 };
    pid_t child[WRITERS];
    seen s = {0};
    anemo_record_read_report report;
    anemo_error err = {0};
    write_samples(0, 1);
    for (int w = 0; w < WRITERS; w++) {
        child[w] = fork();
        if (child[w] == 0) {
            anemo_record_sink *sink;
            anemo_record *r = sample(1);
            if (anemo_record_sink_open(path, &sink, &err) != ANEMO_OK)
                _exit(1);
            for (int i = 0; w == 0 || i < 200; i++) /* the first one goes on until it is killed */
                if (anemo_record_write(sink, r, &err) != ANEMO_OK)
                    _exit(1);
            _exit(0);
        }
    }
    for (int w = 1; w < WRITERS; w++) {
        int status;
        waitpid(child[w], &status, 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    kill(child[0], SIGKILL);
    waitpid(child[0], NULL, 0);
    assert_int_equal(anemo_record_read(path, count, &s, &report, &err), ANEMO_OK);
    /* The system may cut short the write of a killed process: that record is not whole, all others
     * are. */
    assert_true(report.torn_line == 0 || report.torn_line == report.records + 1);
    assert_true(report.records >= 1 + 3 * 200);
    anemo_record_free(s.kept);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_is_read),
        TEST(samples_lie_beside_the_records),
        TEST(noise_lies_beside_its_samples),
        TEST(ids_differ),
        TEST(reasons_make_the_verdict),
        TEST(wrong_records_are_refused),
        TEST(unreadable_lines_are_named),
        TEST(torn_last_line_is_told_and_mended),
        TEST(other_peoples_files_are_left_alone),
        TEST(a_full_disk_loses_no_finished_record),
        TEST(a_full_device_is_an_error),
        TEST(killed_and_parallel_writers_leave_whole_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
