/* The CUDA variants against their definitions on an emulated GPU: the kernels' own sources,
 * compiled for the processor at hand (tests/emulate/emulator.h). What this proves is their
 * arithmetic, their addresses and their barriers; nothing is said of hardware, which has not run
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "emulated_gpu.h"
#include "harness/check/check.h"
#include "tests/support/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* ---------------------------------------------------------------- the engine */

/* Logits of transformers, the prompt in one step and in pieces. */
static void golden_logits(void **state) {
    static const char *const names[] = {"mistral-full", "mistral-window", "mixtral-window",
                                        "llama3",       "ministral",      "ministral3",
                                        "qwen3-moe",    "gpt-oss"};
    static const int pieces[] = {7, 1, 1, 12, 0};
    (void)state;
    run_model_backend = ANEMO_CUDA;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        golden g = golden_open(names[i]);
        const run_case whole = {.path = g.dir, .window = -1};
        const run_case cut = {.path = g.dir, .window = -1, .chunks = pieces};
        const run_case *const cases[] = {&whole, &cut};
        for (int j = 0; j < 2; j++) {
            const double error = golden_error(&g, cases[j]);
            print_message("%s%s: error %.3g of the sd\n", names[i], j ? " in pieces" : "", error);
            assert_true(error <= GOLDEN_BOUND);
        }
        json_decref(g.json);
    }
    run_model_backend = ANEMO_CPU;
}

/* Greedy continuation through the device's own sampler; all but the first decode steps are one
 * graph launch. */
static void golden_greedy_by_graph(void **state) {
    (void)state;
    const int32_t before = emulated_graph_launches();
    run_model_backend = ANEMO_CUDA;
    golden_check_greedy("mixtral-window");
    run_model_backend = ANEMO_CPU;
    print_message("%d graph launches\n", emulated_graph_launches() - before);
    assert_true(emulated_graph_launches() - before >= 62);
}

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
        cmocka_unit_test(golden_logits),
        cmocka_unit_test(golden_greedy_by_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
