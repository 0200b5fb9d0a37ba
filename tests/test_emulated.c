/* Every CUDA kernel against its definition, run by the emulator (emulate/emulator.h) on the
 * checker's own grid. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/run_program.h"

static void cuda_kernels_are_right_in_the_emulator(void **state) {
    (void)state;
#ifndef ANEMO_EMULATED
    print_message("[   INFO   ] no emulator in this build: no C++ compiler, or a sanitizer\n");
    skip();
#else
    program_result r =
        program_run("check", "--plugin", ANEMO_EMULATED, "--filter", "emulated_", "--quick");
    const char *summary = strstr(r.out, "check: ");
    if (r.code != 0 || !summary) {
        print_message("%s\n%s\n", r.out, r.err);
    }
    assert_int_equal(r.code, 0);
    assert_non_null(summary);
    assert_null(strstr(r.out, "check: 0 variants"));
    print_message("[   INFO   ] %s", summary);
    program_result_free(&r);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(cuda_kernels_are_right_in_the_emulator)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
