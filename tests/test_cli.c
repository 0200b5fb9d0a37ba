/* The command line as a person meets it: help, unknown words, numbers, outputs, exit codes. */
#include "harness/record/record.h"
#include "tests/support/asserts.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <glob.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Runs the arguments; expects this exit code and `part` on standard error (on standard output when
 * the code is 0). */
#define expect(code, part, ...) expect_(code, part, (const char *const[]){__VA_ARGS__, NULL})
static void expect_(int code, const char *part, const char *const *arguments) {
    program_result r = program_run_with(NULL, arguments);
    if (r.code != code)
        fail_msg("anemo %s %s: exit code %d, expected %d\n%s%s", arguments[0],
                 arguments[1] ? arguments[1] : "", r.code, code, r.out, r.err);
    assert_contains(code ? r.err : r.out, part);
    program_result_free(&r);
}

/* ---------------------------------------------------------------- before any command */

static void no_command_prints_help_and_fails(void **state) {
    (void)state;
    program_result none = program_run_with(NULL, (const char *const[]){NULL});
    assert_int_equal(none.code, 2);
    assert_string_equal(none.out, "");
    program_result help = program_run("--help");
    assert_int_equal(help.code, 0);
    assert_string_equal(help.err, "");
    assert_string_equal(help.out, none.err);
    assert_contains(help.out, "Usage: anemo COMMAND");
    program_result_free(&none);
    program_result_free(&help);
}

static void version_says_what_was_built(void **state) {
    (void)state;
    program_result r = program_run("--version");
    assert_int_equal(r.code, 0);
    assert_int_equal(strncmp(r.out, "anemo ", 6), 0);
    assert_contains(r.out, "CUDA");
    program_result_free(&r);
}

static void unknown_words_are_usage_errors(void **state) {
    (void)state;
    program_result r = program_run("frobnicate");
    assert_int_equal(r.code, 2);
    assert_contains(r.err, "'frobnicate' is not a command");
    assert_null(strstr(r.err, "did you mean"));
    program_result_free(&r);
    expect(2, "did you mean 'doctor'?", "docotr");
    expect(2, "did you mean 'report'?", "rep");
    expect(2, "unknown option '--frobnicate'", "--frobnicate");
}

/* ---------------------------------------------------------------- every command */

/* Calls `visit` with each command that --help lists: two spaces, then a lower-case word. */
static int for_each_command(void (*visit)(const char *command)) {
    program_result help = program_run("--help");
    int n = 0;
    char *save = NULL;
    for (char *line = strtok_r(help.out, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char name[32];
        if (line[0] == ' ' && sscanf(line, " %31[a-z]", name) == 1) {
            visit(name);
            n++;
        }
    }
    program_result_free(&help);
    return n;
}

static void help_is_whole(const char *command) {
    char usage[64];
    program_result r = program_run(command, "--help");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.err, "");
    snprintf(usage, sizeof usage, "Usage: anemo %s", command);
    assert_contains(r.out, usage);
    assert_contains(r.out, "Example:");
    snprintf(usage, sizeof usage, "anemo %s", command);
    assert_contains(strstr(r.out, "Example:"), usage);
    program_result other = program_run("help", command);
    assert_string_equal(r.out, other.out);
    program_result_free(&other);
    program_result_free(&r);
}

static void unknown_option_is_refused(const char *command) {
    expect(2, "--no-such-option", command, "--no-such-option");
}

static void every_command_has_help_and_refuses_nonsense(void **state) {
    (void)state;
    assert_true(for_each_command(help_is_whole) >= 3);
    for_each_command(unknown_option_is_refused);
}

static void values_are_strict(void **state) {
    (void)state;
    expect(2, "--tokens '3x': expected a whole number from 1 to", "run", "--tokens", "3x");
    expect(2, "--tokens ''", "run", "--tokens", "");
    expect(2, "--tokens ' 3'", "run", "--tokens", " 3");
    expect(2, "--tokens '0'", "run", "--tokens", "0");
    expect(2, "--tokens '-5'", "run", "--tokens=-5");
    expect(2, "--tokens '99999999999999999999'", "run", "--tokens", "99999999999999999999");
    expect(2, "--tokens '1e3'", "run", "--tokens", "1e3");
    expect(2, "--temperature 'nan': expected a number from 0 to 100", "run", "--temperature",
           "nan");
    expect(2, "--top-p '1.01'", "run", "--top-p", "1.01");
    expect(2, "--top-p '0.5,'", "run", "--top-p", "0.5,");
    expect(2, "--seed '-1'", "run", "--seed", "-1");
    expect(2, "--seed '18446744073709551616'", "run", "--seed", "18446744073709551616");
    expect(2, "--threads '0'", "run", "--threads", "0");
    expect(2, "--device 'tpu': expected cpu, cuda or cuda:N", "run", "--device", "tpu");
    expect(2, "'x': expected a whole number", "run", "--device", "cuda:x");
    expect(2, "--weights 'q5': expected one of q8_0, q4_0", "run", "--weights", "q5");
    expect(2, "--window 'wide': expected model, none or a number", "run", "--window", "wide");
    expect(2, "--format 'xml': expected one of text, json, csv, md", "doctor", "--format", "xml");
    expect(2, "one argument too many", "doctor", "extra");
    expect(2, "expected FILE|DIR", "report");
    expect(2, "expected --prompt", "run");
    expect(2, "requires an argument", "run", "--prompt");
    expect(2, "CPUs", "check", "--threads", "4096");
}

/* ---------------------------------------------------------------- doctor, outputs */

static void doctor_tells_machines_and_people(void **state) {
    (void)state;
    json_error_t where;
    program_result r = program_run("doctor", "--format", "json");
    assert_int_equal(r.code, 0);
    json_t *root = json_loads(r.out, JSON_REJECT_DUPLICATES, &where);
    assert_non_null(root);
    json_t *machine = json_object_get(root, "machine"), *row;
    json_t *capabilities = json_object_get(root, "capabilities");
    size_t i;
    assert_true(json_array_size(machine) > 10);
    assert_true(json_array_size(json_object_get(root, "ceilings")) >= 3);
    assert_true(json_array_size(capabilities) > 8);
    json_array_foreach(capabilities, i, row) {
        /* what is missing says why, what that costs and what helps */
        assert_true(json_is_string(json_object_get(row, "detail")));
        assert_int_equal(json_is_true(json_object_get(row, "available")),
                         json_is_null(json_object_get(row, "remedy")));
        assert_int_equal(json_is_true(json_object_get(row, "available")),
                         json_is_null(json_object_get(row, "costs")));
    }
    json_decref(root);
    program_result_free(&r);
    r = program_run_with(&(program_setting){.environment = (const char *[]){"PATH=/nowhere", NULL}},
                         (const char *[]){"doctor", NULL});
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "gnuplot: no figures");
    assert_contains(r.out, "gnuplot-nox");
    program_result_free(&r);
    expect(0, "property,value", "doctor", "--format", "csv");
    expect(0, "| property | value |", "doctor", "--format", "md");
    expect(0, "What is missing", "doctor");
}

static void outputs_are_whole_or_not_there(void **state) {
    (void)state;
    char *folder = test_folder_create();
    char path[600];
    snprintf(path, sizeof path, "%s/doctor.json", folder);
    expect(0, "", "doctor", "--format", "json", "--output", path);
    char *text = test_read_file(path, NULL);
    assert_contains(text, "\"capabilities\"");
    /* a command that fails leaves the older file alone */
    expect(2, "no records there", "report", folder, "--output", path);
    char *later = test_read_file(path, NULL);
    assert_string_equal(text, later);
    free(later);
    free(text);
    /* nor does one whose options contradict each other leave a beginning beside it */
    expect(2, "--group is for --targets", "bench", "kernel", "qgemm", "--group", "x", "--output",
           path);
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, NULL);
    assert_int_equal(n, 3); /* ., .., doctor.json */
    while (n > 0)
        free(entries[--n]);
    free(entries);
    snprintf(path, sizeof path, "%s/no/such/folder", folder);
    expect(2, "No such file or directory", "doctor", "--output", path);
    if (access("/dev/full", W_OK) == 0)
        expect(6, "cannot write /dev/full: No space left", "doctor", "--output", "/dev/full");
    test_folder_remove(folder);
}

/* ---------------------------------------------------------------- run */

/* A tiny model with the default model's tokenizer. */
static void write_model(const char *folder) {
    char path[600];
    size_t bytes;
    anemo_hparams h = tiny_hparams(4);
    h.vocab = 512;
    tiny_write_directory(folder, &h, 0);
    char *tokenizer = test_read_file(ANEMO_TEST_DIR "/../models/default/tokenizer.json", &bytes);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    test_write_file(path, tokenizer, bytes);
    free(tokenizer);
}

static void run_generates_and_refuses(void **state) {
    (void)state;
    char *folder = test_folder_create(), variable[600];
    write_model(folder);
    program_result a = program_run("run", folder, "--prompt", "sort 312=", "--tokens", "9",
                                   "--temperature", "2", "--quiet");
    program_result b = program_run("run", folder, "--prompt", "sort 312=", "--tokens", "9",
                                   "--temperature", "2", "--quiet");
    assert_int_equal(a.code, 0);
    assert_string_equal(a.err, "");
    assert_true(strlen(a.out) > 1);
    assert_string_equal(a.out, b.out); /* the seed is fixed */
    program_result_free(&b);
    snprintf(variable, sizeof variable, "ANEMO_MODEL_DIR=%s", folder);
    const program_setting setting = {.environment = (const char *const[]){variable, NULL}};
    b = program_run_with(&setting, (const char *const[]){"run", "--prompt", "sort 312=", "--tokens",
                                                         "9", "--temperature", "2", NULL});
    assert_int_equal(b.code, 0);
    assert_string_equal(a.out, b.out);
    assert_contains(b.err, "token/s");
    program_result_free(&a);
    program_result_free(&b);
    expect(2, "nonsense", "run", folder, "--prompt", "x", "--with", "swa=nonsense");
    expect(2, "swa_ref", "run", folder, "--prompt", "x", "--with", "qgemm=swa_ref");
    expect(2, "exceed the model's context", "run", folder, "--prompt", "x", "--tokens", "1000000");
    expect(2, "/no/such/model", "run", "/no/such/model", "--prompt", "x");
    expect(2, "/no/such/plugin.so", "run", folder, "--prompt", "x", "--plugin",
           "/no/such/plugin.so");
    test_folder_remove(folder);
}

/* ---------------------------------------------------------------- report */

static anemo_record *begin(anemo_record_kind kind, const char *name) {
    anemo_record *r = anemo_record_create(kind);
    anemo_record_text(r, NULL, "status", "passed");
    anemo_record_text(r, "case", "name", name);
    return r;
}

static void finish(anemo_record_sink *sink, anemo_record *r) {
    anemo_error err = {0};
    if (anemo_record_write(sink, r, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    anemo_record_free(r);
}

static void write_model_record(anemo_record_sink *sink, const char *model, bool demo,
                               double tokens_per_s) {
    anemo_record *r = begin(ANEMO_RECORD_MODEL, "model/batch=4");
    anemo_record_flag(r, NULL, "demo", demo);
    anemo_record_text(r, "case", "model", model);
    anemo_record_integer(r, "case", "batch", 4);
    anemo_record_text(r, "solution", "backend", "cpu");
    anemo_record_text(r, "solution", "weights", "q4_0");
    anemo_record_metric(r, "throughput", "token/s", false, tokens_per_s, tokens_per_s - 1,
                        tokens_per_s + 1, 40);
    finish(sink, r);
}

static void write_records(const char *path) {
    anemo_record_sink *sink;
    anemo_error err = {0};
    assert_int_equal(anemo_record_sink_open(path, &sink, &err), ANEMO_OK);
    anemo_record *r = begin(ANEMO_RECORD_KERNEL, "qgemm/shape/m=4");
    anemo_record_text(r, "case", "op", "qgemm");
    anemo_record_text(r, "solution", "variant", "qgemm_plain");
    anemo_record_metric(r, "time", "s", true, 1.5e-3, 1.4e-3, 1.6e-3, 20);
    anemo_record_metric(r, "roof_fraction", "1", false, 0.5, 0.45, 0.55, 20);
    anemo_record_reason(r, "noisy", false);
    finish(sink, r);
    write_model_record(sink, "toy", true, 100);
    write_model_record(sink, "real", false, 10);
    write_model_record(sink, "real", false, 20); /* a newer run of the same case */
    r = begin(ANEMO_RECORD_EVAL, "eval/exact/sum/level=1");
    anemo_record_text(r, "case", "task", "exact");
    anemo_record_text(r, "case", "model", "real");
    anemo_record_text(r, "solution", "weights", "q4_0");
    anemo_record_metric(r, "exact", "1", false, 0.9, 0.875, 0.925, 500);
    finish(sink, r);
    r = anemo_record_create(ANEMO_RECORD_PROBE);
    anemo_record_text(r, NULL, "status", "skipped");
    anemo_record_text(r, NULL, "why", "no | such counter");
    anemo_record_text(r, "case", "name", "energy");
    finish(sink, r);
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
}

static void report_tells_what_records_say(void **state) {
    (void)state;
    char *folder = test_folder_create(), path[600];
    snprintf(path, sizeof path, "%s/machine/suite.jsonl", folder);
    write_records(path);
    program_result r = program_run("report", folder);
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "| qgemm/shape/m=4 | qgemm_plain | 1.50 ms [1.40, 1.60] | 50.0 % "
                           "[45.0, 55.0] |");
    assert_contains(r.out, "| WEAK: noisy |");
    assert_contains(r.out, "| noisy | 1 | the interval is wide |");
    assert_contains(r.out, "3 valid, 1 weak, 0 invalid; 1 not measured.");
    assert_contains(r.out, "| q4_0 | 4 | - | - | 20.0 token/s [19.0, 21.0] | - |  | VALID |");
    assert_null(strstr(r.out, "10.0 token/s"));
    assert_contains(r.out, "1 older ones");
    assert_contains(r.out, "90.0 % [87.5, 92.5]");
    assert_contains(r.out, "| energy | skipped | no \\| such counter |");
    assert_contains(r.out, "- **real** q4_0, batch 4: ");
    assert_null(strstr(r.out, "- **toy**")); /* no money from the demonstration model */
    assert_contains(r.out, "| utilisation | 0.25 |");
    program_result_free(&r);
    expect(0, "# anemo report", "report", path);
    size_t bytes;
    char *text = test_read_file(path, &bytes);
    test_write_file(path, text, bytes - 2);
    expect(0, "suite.jsonl:6 is an unfinished line", "report", folder);
    memcpy(text, "{\"schema_version\":7", 19);
    test_write_file(path, text, bytes);
    expect(2, "suite.jsonl:1: schema_version 7; this program reads 1", "report", folder);
    free(text);
    test_folder_remove(folder);
}

/* ---------------------------------------------------------------- demo */

/* The demo's file of records in FOLDER/out, or NULL. */
static char *demo_records(const char *folder) {
    char pattern[600], *path = NULL;
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/out/demo-*.jsonl", folder);
    if (glob(pattern, 0, NULL, &found) == 0)
        path = strdup(found.gl_pathv[0]);
    globfree(&found);
    return path;
}

/* Has the first step written its last record? The second one, which checks, is then under way. */
static bool doctor_is_done(void *ctx) {
    char *path = demo_records(ctx);
    char *text = path ? test_read_file(path, NULL) : NULL;
    bool done = text && strstr(text, "\n");
    free(text);
    free(path);
    return done;
}

static bool count_record(void *ctx, anemo_record *record) {
    (void)record;
    ++*(int *)ctx;
    return true;
}

static void interrupted_demo_keeps_its_records(void **state) {
    (void)state;
    char *folder = test_folder_create();
    const program_setting setting = {.environment =
                                         (const char *const[]){"ANEMO_MODEL_DIR=/nowhere", NULL},
                                     .folder = folder,
                                     .interrupt_when = doctor_is_done,
                                     .ctx = folder};
    program_result r = program_run_with(&setting, (const char *const[]){"demo", NULL});
    assert_int_equal(r.code, 130);
    assert_contains(r.out, "interrupted");
    char *path = demo_records(folder);
    anemo_record_read_report report;
    anemo_error err = {0};
    int n = 0;
    assert_non_null(path);
    assert_int_equal(anemo_record_read(path, count_record, &n, &report, &err), ANEMO_OK);
    assert_int_equal(report.torn_line, 0);
    assert_true(n >= 1);
    free(path);
    program_result_free(&r);
    test_folder_remove(folder);
}

/* --isa: what needs more is skipped and says so, what does not runs, records name the level. */
/* An op without a short shape runs all its shapes when it is named. */
static void every_op_can_be_timed_by_its_name(void **state) {
    (void)state;
    static const char *const ops[] = {"moe_combine", "moe_route", "embed"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        program_result r =
            program_run("bench", "kernel", ops[i], "--m", "1", "--stop", "n:6", "--format", "csv");
        assert_int_equal(r.code, 0);
        assert_non_null(strstr(r.out, "/m=1"));
        assert_non_null(strstr(r.out, ops[i]));
        program_result_free(&r);
    }
}

static int mentions(const char *text, const char *name) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, name)); at += strlen(name))
        n++;
    return n;
}

static void with_chooses_variants(void **state) {
    (void)state;
    program_result r = program_run("bench", "kernel", "add_rmsnorm", "--shape", "1b/norm", "--m",
                                   "1", "--stop", "n:6", "--with", "all", "--quiet");
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "add_rmsnorm_c ");
    assert_null(strstr(r.err, "to time it"));
    assert_null(strstr(r.out, "to time it"));
    program_result_free(&r);
    r = program_run("bench", "kernel", "qgemm", "--shape", "n=40,k=64,m=1", "--stop", "n:6",
                    "--with", "qgemm_c,qgemm_ref", "--format", "csv", "--quiet");
    assert_int_equal(r.code, 0);
    assert_int_equal(mentions(r.out, ",qgemm_"), 2);
    program_result_free(&r);
    expect(2, "--with qgemm_x: no variant", "bench", "kernel", "qgemm", "--with", "qgemm_x");
    expect(2, "no variant of the op that is measured", "bench", "kernel", "qgemm", "--with",
           "swa_c");
    expect(2, "expected all, or variants", "bench", "kernel", "qgemm", "--with", ",");
}

static void isa_can_be_held_down(void **state) {
    (void)state;
    expect(2, "expected baseline, avx2, avx512 or native", "check", "--isa", "sse9");
    program_result r = program_run("check", "--isa", "baseline", "--quick", "--filter",
                                   "quantize_act_a8_row", "--format", "json", "--threads", "1");
    assert_int_equal(r.code, 0);
    json_t *root = json_loads(r.out, 0, NULL);
    assert_non_null(root);
    json_t *lines = json_object_get(root, "checks"), *line;
    size_t i;
    int ran = 0, held_down = 0;
    json_array_foreach(lines, i, line) {
        const char *name = json_string_value(json_object_get(line, "name"));
        const char *verdict = json_string_value(json_object_get(line, "verdict"));
        const bool gpu = strstr(name, "_sm80") || strstr(name, "_sm90");
        const bool more = gpu || strstr(name, "avx") || strstr(name, "neon");
        assert_string_equal(verdict, more ? "skipped" : "ok");
        if (more) {
            const char *detail = json_string_value(json_object_get(line, "detail"));
            const bool absent = strstr(detail, "this processor has no") != NULL;
            assert_contains(detail, gpu ? "CUDA" : absent ? "has no" : "by request without");
            held_down += !gpu && !absent;
        }
        ran += !more;
    }
    assert_true(ran >= 2);
#ifdef __x86_64__
    assert_true(held_down > 0 || !__builtin_cpu_supports("avx2"));
#endif
    json_decref(root);
    program_result_free(&r);

    char *folder = test_folder_create(), path[512];
    snprintf(path, sizeof path, "%s/records.jsonl", folder);
    r = program_run("bench", "kernel", "qgemm", "--isa", "baseline", "--shape", "n=40,k=64,m=1",
                    "--stop", "n:6", "--threads", "1", "--record", path);
    assert_int_equal(r.code, 0);
    assert_null(strstr(r.out, "avx"));
    char *records = test_read_file(path, NULL);
    assert_non_null(records);
    assert_contains(records, "\"isa\":\"baseline\"");
    assert_contains(records, "--isa baseline\"");
    free(records);
    program_result_free(&r);
    test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_command_prints_help_and_fails),
        cmocka_unit_test(version_says_what_was_built),
        cmocka_unit_test(unknown_words_are_usage_errors),
        cmocka_unit_test(every_command_has_help_and_refuses_nonsense),
        cmocka_unit_test(values_are_strict),
        cmocka_unit_test(doctor_tells_machines_and_people),
        cmocka_unit_test(outputs_are_whole_or_not_there),
        cmocka_unit_test(run_generates_and_refuses),
        cmocka_unit_test(report_tells_what_records_say),
        cmocka_unit_test(interrupted_demo_keeps_its_records),
        cmocka_unit_test(every_op_can_be_timed_by_its_name),
        cmocka_unit_test(with_chooses_variants),
        cmocka_unit_test(isa_can_be_held_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
