/* anemo gate: what is skipped, what is measured, and the exit codes, with bases that are this very
 * program, or scripts that pass for one: they tell other hashes, or serve samples of fixed times,
 * so that no verdict here hangs on the machine's speed. */
#include "harness/gate/gate_static.h"
#include "harness/record/record.h"
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
#include <sys/stat.h>

/* Children are started without the emulator of a cross build. */
#define NEEDS_CHILDREN()                                                                           \
    do {                                                                                           \
        static const char *const prefix[] = {ANEMO_RUN_PREFIX NULL};                               \
        if (prefix[0])                                                                             \
            skip();                                                                                \
    } while (0)

static char *folder;
static char base[600], other[600];

static int set_up(void **state) {
    (void)state;
    folder = test_folder_create();
    snprintf(base, sizeof base, "%s/base", folder);
    snprintf(other, sizeof other, "%s/file", folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static program_result run(int code, const char *const *arguments) {
    program_result r = program_run_with(NULL, arguments);
    if (r.code != code) {
        print_error("exit code %d\n%s\n%s\n", r.code, r.out, r.err);
    }
    assert_int_equal(r.code, code);
    return r;
}
#define gate(code, ...)                                                                            \
    run(code, (const char *const[]){"gate", "--threads", "1", "--looks", "12", "--no-static",      \
                                    __VA_ARGS__, NULL})

static void write_script(const char *name, const char *text) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    test_write_file(path, text, strlen(text));
    assert_int_equal(chmod(path, 0755), 0);
}

/* A base whose add_rmsnorm_c has another hash, and which serves samples of `ns` each (0: those of
 * this program). */
static void write_base(const char *ns) {
    char text[2048];
    snprintf(text, sizeof text,
             "#!/bin/sh\n"
             "if [ \"$1\" = list ]; then\n"
             "  '%s' \"$@\" | sed '/\"add_rmsnorm_c\"/,/code_hash/s/\\(\"code_hash\": "
             "\"\\).\\{8\\}/\\100000000/'\n"
             "elif [ '%s' = 0 ]; then exec '%s' \"$@\"\n"
             "else\n"
             "  echo 'anemo-samples 1 add_rmsnorm/1b/norm/m=16/add_rmsnorm_c'\n"
             "  while read calls; do echo $((calls * %s)); done\n"
             "fi\n",
             ANEMO_BINARY, ns, ANEMO_BINARY, ns);
    test_write_file(base, text, strlen(text));
    assert_int_equal(chmod(base, 0755), 0);
}

/* ---------------------------------------------------------------- what is due */

static void the_same_code_is_not_measured(void **state) {
    (void)state;
    NEEDS_CHILDREN();
    program_result r = gate(0, "--base", ANEMO_BINARY);
    assert_contains(r.out, "gate: 0 measured, ");
    assert_contains(r.out, " unchanged (base ");
    assert_null(strstr(r.out, "REGRESSION"));
    program_result_free(&r);
}

static void exactly_what_changed_is_measured(void **state) {
    (void)state;
    NEEDS_CHILDREN();
    write_base("0");
    program_result r = gate(0, "--base", base, "--on-inconclusive", "warn", "--delta", "1000");
    assert_contains(r.out, "gate: 1 measured, ");
    assert_contains(r.out, "add_rmsnorm/1b/norm/m=16/");
    assert_contains(r.out, "this build against itself");
    assert_contains(r.out, "in each other's slot");
    assert_null(strstr(r.out, "qgemm_"));
    program_result_free(&r);
}

/* ---------------------------------------------------------------- verdicts */

static void a_regression_is_refused_by_name(void **state) {
    (void)state;
    NEEDS_CHILDREN();
    size_t bytes;
    char junit[600];
    snprintf(junit, sizeof junit, "%s/gate.xml", folder);
    write_base("100"); /* far less than any call takes */
    program_result r = gate(1, "--base", base, "--junit", junit, "--summary", other, "--delta",
                            "1000", "--sample", "0.01");
    assert_contains(r.out, "REGRESSION: +");
    assert_contains(r.out, " add_rmsnorm_c (add_rmsnorm/1b/norm/m=16/");
    assert_contains(r.out, "1 measured");
    program_result_free(&r);
    char *text = test_read_file(junit, &bytes);
    assert_contains(text, "failures=\"1\" errors=\"0\"");
    assert_contains(text, "<failure message=\"REGRESSION: +");
    assert_contains(text, "<skipped message=\"unchanged");
    free(text);
    text = test_read_file(other, &bytes);
    assert_contains(text, "## anemo gate: refused");
    assert_contains(text, "- REGRESSION: +");
    free(text);
}

static void what_is_faster_passes(void **state) {
    (void)state;
    NEEDS_CHILDREN();
    char summary[700];
    size_t bytes;
    snprintf(summary, sizeof summary, "GITHUB_STEP_SUMMARY=%s", other);
    write_base("1000000000"); /* a second for each call */
    const program_setting setting = {.environment = (const char *const[]){summary, NULL}};
    program_result r = program_run_with(
        &setting, (const char *const[]){"gate", "--threads", "1", "--looks", "12", "--no-static",
                                        "--base", base, "--delta", "1000", NULL});
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "1 pass");
    program_result_free(&r);
    char *text = test_read_file(other, &bytes);
    assert_contains(text, "## anemo gate: passed");
    free(text);
}

static void a_base_that_dies_is_something_not_measured(void **state) {
    (void)state;
    NEEDS_CHILDREN();
    write_base("no"); /* not a number: the shell's arithmetic fails */
    program_result r = gate(5, "--base", base);
    assert_contains(r.out, "NOT MEASURED");
    program_result_free(&r);
}

/* ---------------------------------------------------------------- records as a base */

static void records_prove_but_do_not_judge(void **state) {
    (void)state;
    char file[600];
    snprintf(file, sizeof file, "%s/base.jsonl", folder);
    program_result r = run(0, (const char *const[]){"bench", "kernel", "add_rmsnorm_c", "--shape",
                                                    "1b/norm", "--m", "1", "--stop", "n:6",
                                                    "--threads", "1", "--record", file, NULL});
    program_result_free(&r);
    r = gate(4, "--base", file, "--filter", "add_rmsnorm");
    assert_contains(r.out, "gate: 0 measured, 1 unchanged");
    assert_contains(r.out, "inconclusive");
    assert_null(strstr(r.out, "PASS"));
    program_result_free(&r);
    r = gate(0, "--base", file, "--filter", "add_rmsnorm", "--on-inconclusive", "warn");
    program_result_free(&r);
    r = gate(0, "--base", file, "--filter", "add_rmsnorm_c");
    assert_contains(r.out, "gate: 0 measured, 1 unchanged");
    program_result_free(&r);
}

/* ---------------------------------------------------------------- bad input */

static void bad_input_is_one_sentence(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {{"quark 1b/norm 1 warm\n", ":1: the first word is 'quark'"},
               {"\n# a comment\nswa nowhere/at 1 warm\n", ":3: the shape is 'nowhere/at'"},
               {"qgemm n=0,k=1 1 warm\n", "expected numbers"},
               {"add_rmsnorm 1b/norm 0 warm\n", ":1: M is '0'"},
               {"add_rmsnorm 1b/norm 1 cold\n", ":1: the fourth word is 'cold'"},
               {"add_rmsnorm 1b/norm 1\n", "OP SHAPE M"},
               {"model default 1 1 1\n", "TOKENS >= 2"},
               {"model default 1\n", "PROMPT TOKENS BATCH"},
               {"# nothing\n", "no case"}};
    write_script("base", "#!/bin/sh\nexit 1\n"); /* tells no hashes: everything would be due */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        test_write_file(other, bad[i].text, strlen(bad[i].text));
        program_result r = gate(2, "--base", base, "--cases", other);
        assert_contains(r.err, bad[i].says);
        program_result_free(&r);
    }
    program_result r = run(2, (const char *const[]){"gate", NULL});
    assert_contains(r.err, "--base is missing");
    program_result_free(&r);
    r = gate(2, "--base", "no-such-revision-or-build");
    assert_contains(r.err, "no revision");
    program_result_free(&r);
    test_write_file(other, "add_rmsnorm 1b/norm 1 warm\n", 27);
    r = gate(2, "--base", base, "--cases", other, "--filter", "nothing has this");
    program_result_free(&r);
    r = gate(2, "--base", base, "--on-inconclusive", "shrug");
    program_result_free(&r);
    r = gate(2, "--base", "/nowhere/at.jsonl");
    program_result_free(&r);
    test_write_file(other, "not a record\n", 13);
    snprintf(base, sizeof base, "%s/bad.jsonl", folder);
    test_write_file(base, "not a record\n", 13);
    r = gate(2, "--base", base);
    assert_contains(r.err, "bad.jsonl:1");
    program_result_free(&r);
}

/* ---------------------------------------------------------------- canaries */

static anemo_estimate interval(double lo, double hi) {
    return (anemo_estimate){.value = (lo + hi) / 2, .lo = lo, .hi = hi, .n = 52};
}

static void canaries_and_swaps_are_judged(void **state) {
    (void)state;
    const struct {
        double lo, hi;
        bool good;
    } canary[] = {{0.99, 1.01, true}, {0.9, 1.1, true},  {1.02, 1.2, true}, {1.04, 1.2, false},
                  {0.8, 0.95, false}, {0.8, 0.98, true}, {NAN, NAN, false}};
    for (size_t i = 0; i < sizeof canary / sizeof *canary; i++) {
        const anemo_estimate e = interval(canary[i].lo, canary[i].hi);
        assert_int_equal(anemo_gate_canary_good(&e, 0.03), canary[i].good);
    }
    const anemo_estimate slow = interval(1.05, 1.1), fast = interval(0.9, 0.95),
                         same = interval(1.08, 1.2), near = interval(1.12, 1.2),
                         none = interval(NAN, NAN);
    assert_true(anemo_gate_swap_good(&slow, &same, 0.03));
    assert_true(anemo_gate_swap_good(&slow, &near, 0.03)); /* drift within the threshold */
    assert_false(anemo_gate_swap_good(&slow, &near, 0.01));
    assert_false(anemo_gate_swap_good(&slow, &fast, 0.03)); /* the ratio did not invert */
    assert_false(anemo_gate_swap_good(&slow, &none, 0.03));
}

/* ---------------------------------------------------------------- static figures */

/* A program that tells a signature and leaves a record of so many resident bytes; with
 * `instructions` and `registers` for the tools that are run on it. */
static void write_program(const char *name, const char *signature, double resident) {
    char text[1024], records[600];
    anemo_error err = {{0}};
    anemo_record_sink *sink;
    snprintf(records, sizeof records, "%s/%s.jsonl", folder, name);
    remove(records);
    assert_int_equal(anemo_record_sink_open(records, &sink, &err), ANEMO_OK);
    anemo_record *r = anemo_record_create(ANEMO_RECORD_MODEL);
    anemo_record_text(r, NULL, "status", "passed");
    anemo_record_number(r, "solution", "resident_bytes", resident);
    assert_int_equal(anemo_record_write(sink, r, &err), ANEMO_OK);
    anemo_record_free(r);
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    snprintf(text, sizeof text,
             "#!/bin/sh\n"
             "if [ $1 = check ]; then echo signature,rows; echo %s; exit 0; fi\n"
             "while [ $# -gt 1 ]; do [ $1 = --record ] && cp '%s' $2; shift; done\n",
             signature, records);
    write_script(name, text);
}

static const anemo_gate_figure *figure(const anemo_gate_figures *all, const char *what) {
    for (int32_t i = 0; i < all->n; i++)
        if (strstr(all->figure[i].what, what))
            return &all->figure[i];
    return NULL;
}

static void static_figures_are_compared_exactly(void **state) {
    (void)state;
    NEEDS_CHILDREN();
    char head[600], path[1200];
    anemo_error err = {{0}};
    anemo_gate_figures all;
    anemo_gate_hash hashes[] = {{.name = "no_such_variant", .code_bytes = 77}};
    anemo_gate_base there = {.hashes = hashes, .n_hashes = 1};
    const char *before = getenv("PATH");
    snprintf(head, sizeof head, "%s/head", folder);
    snprintf(there.program, sizeof there.program, "%s", base);
    anemo_gate_setting setting = {
        .head = head, .base = &there, .default_model = "m", .callgrind_isa = "avx2"};
    write_program("base", "abc,440", 1000);
    write_program("head", "abc,440", 1000);
    /* without the tools: skips with their names */
    setenv("PATH", "/nowhere", 1);
    assert_int_equal(anemo_gate_figures_take(&setting, &all, &err), ANEMO_OK);
    setenv("PATH", before, 1);
    assert_non_null(figure(&all, "instructions"));
    assert_string_equal(figure(&all, "instructions")->skipped, "base: valgrind is not in PATH");
    assert_string_equal(figure(&all, "CUDA")->skipped, "this build has no CUDA code");
    assert_string_equal(figure(&all, "no_such_variant")->head, "gone");
    anemo_gate_figures_free(&all);
    /* with them: what they say of each program, by its name; only what differs is kept */
    write_script("valgrind", "#!/bin/sh\n"
                             "for a; do case $a in */base) echo '==1== Collected : 1234567' >&2;;\n"
                             "*/head) echo '==1== Collected : 1234568' >&2;; esac; done\n");
    write_script("cuobjdump", "#!/bin/sh\n"
                              "printf ' Function one:\\n  REG:24 STACK:0 LOCAL:0\\n'\n"
                              "case $2 in *head) n=16 p=8d7de512;; *) n=0 p=2551ed8d;; esac\n"
                              "f=_ZN58_GLOBAL__N__${p}_25_x_sm80_cu_f1a312af8norm_rowE\n"
                              "printf \" Function $f:\\n  REG:32 STACK:0 LOCAL:0\\n\"\n"
                              "[ $n = 0 ] && printf ' Function old:\\n  REG:8 LOCAL:0\\n'\n"
                              "printf \" Function two:\\n  REG:255 STACK:0 LOCAL:$n\\n\"\n"
                              "[ $n = 0 ] || printf ' Function new:\\n  REG:9 LOCAL:0\\n'\n");
    write_program("head", "abd,440", 1008);
    snprintf(path, sizeof path, "%s:%s", folder, before);
    setenv("PATH", path, 1);
    setting.has_cuda = true;
    there.n_hashes = 0;
    assert_int_equal(anemo_gate_figures_take(&setting, &all, &err), ANEMO_OK);
    setenv("PATH", before, 1);
    assert_int_equal(all.compared, 8);
    assert_int_equal(all.different, 6);
    assert_int_equal(all.n, 6);
    assert_string_equal(figure(&all, "signature")->base, "abc,440");
    assert_string_equal(figure(&all, "signature")->head, "abd,440");
    assert_string_equal(figure(&all, "bytes held")->head, "1008");
    assert_string_equal(figure(&all, "instructions")->base, "1234567");
    assert_string_equal(figure(&all, "instructions")->head, "1234568");
    assert_non_null(strstr(figure(&all, "spills of two")->head, "LOCAL:16"));
    assert_null(figure(&all, "spills of one"));
    assert_null(figure(&all, "norm_row")); /* another folder is no other function */
    assert_string_equal(figure(&all, "spills of old")->head, "gone");
    assert_string_equal(figure(&all, "spills of new")->base, "not there");
    anemo_gate_figures_free(&all);
    /* a program that fails is a skip with a reason, and no figure */
    write_script("head", "#!/bin/sh\nexit 3\n");
    assert_int_equal(anemo_gate_figures_take(&setting, &all, &err), ANEMO_OK);
    assert_string_equal(figure(&all, "signature")->skipped,
                        "head: check --signature ended with exit code 3");
    anemo_gate_figures_free(&all);
}

/* What is counted under callgrind is a command that this program takes. */
static void the_counted_decode_is_a_command(void **state) {
    (void)state;
    program_result r =
        run(0, (const char *const[]){"run", "--prompt", "max of 3 5 2 =", "--tokens", "4", "--isa",
                                     "baseline", "--threads", "1", NULL});
    assert_true(r.out[0] != '\0');
    program_result_free(&r);
}

/* ---------------------------------------------------------------- the signature */

static void the_signature_is_the_same_on_every_instruction_set(void **state) {
    (void)state;
    program_result one = run(0, (const char *const[]){"check", "--signature", "--isa", "baseline",
                                                      "--format", "csv", NULL});
    program_result other_one = run(0, (const char *const[]){"check", "--signature", "--threads",
                                                            "1", "--format", "csv", NULL});
    assert_string_equal(one.out, other_one.out);
    assert_contains(one.out, ",600,440"); /* 2 experts, 4 layers, 55 rows; and what else it holds */
    program_result_free(&one);
    program_result_free(&other_one);
}

int main(void) {
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(the_same_code_is_not_measured),
        WITH_FOLDER(exactly_what_changed_is_measured),
        WITH_FOLDER(a_regression_is_refused_by_name),
        WITH_FOLDER(what_is_faster_passes),
        WITH_FOLDER(a_base_that_dies_is_something_not_measured),
        WITH_FOLDER(records_prove_but_do_not_judge),
        WITH_FOLDER(bad_input_is_one_sentence),
        cmocka_unit_test(canaries_and_swaps_are_judged),
        WITH_FOLDER(static_figures_are_compared_exactly),
        cmocka_unit_test(the_counted_decode_is_a_command),
        cmocka_unit_test(the_signature_is_the_same_on_every_instruction_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
