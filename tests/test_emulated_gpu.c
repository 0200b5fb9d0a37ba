/* The CUDA variants against their definitions on an emulated GPU: the kernels' own sources,
 * compiled for the processor at hand (tests/emulated/emulate.cc). What this proves is their
 * arithmetic, their addresses and their barriers; nothing is said of hardware, which has not run
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "anemo_config.h"
#include "emulated_gpu.h"
#include "harness/check/check.h"
#include "tests/support/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The sanitizers make a thread five times as slow: they see every kernel on the quick grid, of the
 * rest a little. */
enum { SHORT = ANEMO_SANITIZE };

/* cuda:0 has capability 8.0, cuda:1 9.0. */
static anemo_device *gpu(int32_t ordinal) {
    anemo_device *device = NULL;
    anemo_error err = {{0}};
    if (anemo_device_create_cuda(ordinal, &device, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    return device;
}

/* CUDA variants of an op (NULL: all) that are made for this capability: the older GPU runs what
 * asks for no more, the newer one what the older cannot. */
static int32_t cuda_variants_of(const char *op, int32_t capability) {
    int32_t n = 0;
    for (int32_t i = 0; i < anemo_variant_builtin_count(); i++) {
        const anemo_variant *v = anemo_variant_at(i);
        if (v->backend == ANEMO_CUDA && (!op || strcmp(anemo_op_name(v->op), op) == 0))
            n += (v->needs.min_capability > 80) == (capability > 80);
    }
    return n;
}

/* Every CUDA variant whose name has the filter's text in it passes, in cases whose name has that of
 * `cases` (NULL: all); prints how many cases that were, returns how many variants. */
static int32_t check_on_gpu(anemo_device *device, const char *filter, const char *kind,
                            const char *cases, bool quick) {
    const anemo_check_options options = {
        .filter = filter, .case_filter = cases, .seed = 1, .quick = quick};
    anemo_check_report report;
    anemo_error err = {{0}};
    if (anemo_check_run(device, &options, NULL, NULL, &report, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    int32_t ran = 0;
    for (int32_t i = 0; i < report.n_lines; i++) {
        const anemo_check_line *line = &report.lines[i];
        if (line->verdict == ANEMO_CHECK_SKIPPED || (kind && strcmp(line->kind, kind) != 0))
            continue;
        print_message("%s: %d cases, %d refused, error %.2f of the bound\n", line->name, line->run,
                      line->refused, line->error);
        if (line->verdict != ANEMO_CHECK_PASS)
            fail_msg("%s: %d of %d cases failed; %s", line->name, line->failed, line->run,
                     line->detail);
        ran++;
    }
    anemo_check_report_free(&report);
    return ran;
}

static void check_op_on_gpu(const char *op, bool quick) {
    anemo_device *device = gpu(0);
    const int32_t ran = check_on_gpu(device, op, op, NULL, quick);
    assert_true(ran >= 1);
    assert_int_equal(ran, cuda_variants_of(op, 80));
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
CHECK_OP_ON_GPU(quantize_act, true)

/* What the quick grid leaves out: integer products of more tokens than their small cases have, of
 * columns that stream-K cuts, and of half a step of them. */
static void integer_products_of_any_size(void **state) {
    static const char *const cases[] = {"m=33", "k=4160", "k=8256"};
    anemo_device *device = gpu(0);
    (void)state;
    for (size_t i = 0; i < (SHORT ? 1 : sizeof cases / sizeof *cases); i++)
        assert_true(check_on_gpu(device, "qgemm_w8a8row_", "qgemm", cases[i], false) >= 2);
    anemo_device_free(device);
}

/* Hopper's own variants, of all ops; qgemm in tiles also where there are several of tokens. */
static void hopper_variants_match_their_definitions(void **state) {
    (void)state;
    anemo_device *device = gpu(1);
    const int32_t ran = check_on_gpu(device, "_sm90", NULL, NULL, true);
    assert_true(ran >= 3);
    assert_int_equal(ran, cuda_variants_of(NULL, 90));
    for (int i = 0; i < 2 && !SHORT; i++)
        assert_true(check_on_gpu(device, i ? "_tile_sm80" : "_wgmma_", "qgemm", "m=150", false) >=
                    3);
    anemo_device_free(device);
}

/* ---------------------------------------------------------------- the engine */

#define BF16_ACTIVATIONS "qgemm@o=qgemm_w16a16_gemv_sm80"

/* With rounding of activations to bf16, which the GPU's other qgemm variants do: 2^-9 of each, and
 * now and then a router that chooses another expert. */
#define BF16_BOUND 0.2

/* f32 and f16 weights first, then bf16. */
static const char *const FAMILIES[] = {"mistral-full", "mistral-window", "mixtral-window",
                                       "llama3",       "ministral",      "ministral3",
                                       "qwen3-moe",    "gpt-oss"};
enum { N_FAMILIES = sizeof FAMILIES / sizeof *FAMILIES, FIRST_BF16 = 2 };

/* Logits of transformers, the prompt in pieces and, for every other family, in one step. */
static void golden_on_gpu(const char *const *families, size_t n, const char *with, double bound) {
    static const int pieces[] = {7, 1, 1, 12, 0};
    run_model_backend = ANEMO_CUDA;
    run_model_with = with;
    for (size_t i = 0; i < (SHORT ? 1 : n); i++) {
        golden g = golden_open(families[i]);
        const run_case whole = {.path = g.dir, .window = -1};
        const run_case cut = {.path = g.dir, .window = -1, .chunks = pieces};
        const run_case *const cases[] = {&cut, &whole};
        for (size_t j = 0; j <= i % 2; j++) {
            const double error = golden_error(&g, cases[j]);
            print_message("%s%s: error %.3g of the sd\n", families[i], j ? "" : " in pieces",
                          error);
            assert_true(error <= bound);
        }
        json_decref(g.json);
    }
    run_model_backend = ANEMO_CPU;
    run_model_with = NULL;
}

/* By the plan's own choice, which is float activations until the others have run on a GPU. */
static void golden_logits(void **state) {
    (void)state;
    golden_on_gpu(FAMILIES, N_FAMILIES, NULL, GOLDEN_BOUND);
}

static void golden_logits_in_bf16(void **state) {
    (void)state;
    golden_on_gpu(FAMILIES + FIRST_BF16, N_FAMILIES - FIRST_BF16, BF16_ACTIVATIONS, BF16_BOUND);
}

/* Experts on the matrix unit, by the plan that the router made on the device. */
static void golden_logits_of_grouped_experts(void **state) {
    static const char *const families[] = {"mixtral-window", "gpt-oss"};
    (void)state;
    golden_on_gpu(families, sizeof families / sizeof *families,
                  "moe_experts=moe_experts_w16a16_grouped_sm80", BF16_BOUND);
}

/* Greedy continuation through the device's own sampler; all but the first decode steps are one
 * graph launch. */
static void golden_greedy_by_graph(void **state) {
    (void)state;
    const int32_t before = emulated_graph_launches();
    run_model_backend = ANEMO_CUDA;
    golden_check_greedy("mixtral-window");
    run_model_backend = ANEMO_CPU;
    run_model_with = NULL;
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
        cmocka_unit_test(quantize_act_matches_its_definition),
        cmocka_unit_test(integer_products_of_any_size),
        cmocka_unit_test(hopper_variants_match_their_definitions),
        cmocka_unit_test(golden_logits),
        cmocka_unit_test(golden_logits_in_bf16),
        cmocka_unit_test(golden_logits_of_grouped_experts),
        cmocka_unit_test(golden_greedy_by_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
