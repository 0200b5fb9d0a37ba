/* The CUDA variants against their definitions on an emulated GPU: the kernels' own sources,
 * compiled for the processor at hand (tests/emulated/emulate.cc). What this proves is their
 * arithmetic, their addresses and their barriers; nothing is said of hardware, which has not run
 * them. */
#include "emulated_gpu.h"
#include "harness/check/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static anemo_device *gpu(void) {
    anemo_device *device = NULL;
    anemo_error err = {{0}};
    if (anemo_device_create_cuda(0, &device, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    return device;
}

/* Every variant of the op that is emulated passes; prints how many cases that were. */
static void check_op_on_gpu(const char *op, bool quick) {
    anemo_device *device = gpu();
    const anemo_check_options options = {.filter = op, .seed = 1, .quick = quick};
    anemo_check_report report;
    anemo_error err = {{0}};
    if (anemo_check_run(device, &options, NULL, NULL, &report, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    int32_t ran = 0;
    for (int32_t i = 0; i < report.n_lines; i++) {
        const anemo_check_line *line = &report.lines[i];
        if (line->verdict == ANEMO_CHECK_SKIPPED || strcmp(line->kind, op) != 0)
            continue;
        print_message("%s: %d cases, %d refused, error %.2f of the bound\n", line->name, line->run,
                      line->refused, line->error);
        if (line->verdict != ANEMO_CHECK_PASS)
            fail_msg("%s: %d of %d cases failed; %s", line->name, line->failed, line->run,
                     line->detail);
        ran++;
    }
    assert_true(ran >= 1);
    anemo_check_report_free(&report);
    anemo_device_free(device);
}

#define CHECK_OP_ON_GPU(op, quick)                                                                 \
    static void op##_matches_its_definition(void **state) {                                        \
        (void)state;                                                                               \
        check_op_on_gpu(#op, quick);                                                               \
    }
CHECK_OP_ON_GPU(add_rmsnorm, false)
CHECK_OP_ON_GPU(embed, false)
CHECK_OP_ON_GPU(sample, true)
CHECK_OP_ON_GPU(rope_append, false)
CHECK_OP_ON_GPU(swa, true)
CHECK_OP_ON_GPU(moe_route, true)
CHECK_OP_ON_GPU(moe_experts, true)
CHECK_OP_ON_GPU(moe_combine, false)
CHECK_OP_ON_GPU(qgemm, true)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add_rmsnorm_matches_its_definition),
        cmocka_unit_test(embed_matches_its_definition),
        cmocka_unit_test(sample_matches_its_definition),
        cmocka_unit_test(rope_append_matches_its_definition),
        cmocka_unit_test(swa_matches_its_definition),
        cmocka_unit_test(moe_route_matches_its_definition),
        cmocka_unit_test(moe_experts_matches_its_definition),
        cmocka_unit_test(moe_combine_matches_its_definition),
        cmocka_unit_test(qgemm_matches_its_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
