/* The command line as a person meets it: help, unknown words, numbers, outputs, exit codes. */
#include "tests/support/run_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define assert_contains(text, part) assert_non_null(strstr((text), (part)))

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
    r = program_run("--frobnicate");
    assert_int_equal(r.code, 2);
    assert_contains(r.err, "unknown option '--frobnicate'");
    program_result_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_command_prints_help_and_fails),
        cmocka_unit_test(version_says_what_was_built),
        cmocka_unit_test(unknown_words_are_usage_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
