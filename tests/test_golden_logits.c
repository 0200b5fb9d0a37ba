/* Golden logits of Mistral and Mixtral (tests/support/golden.h), with negative controls. These go
 * through the same files and the same code as the positive tests: the window by its option, the
 * rest by a distorted copy of the checkpoint, and the missing renormalisation, which no file can
 * express, by a wrong moe_route kernel that the test brings along as a plug-in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/checkpoint_edit.h"
#include "tests/support/golden.h"

#include <stdio.h>

static void test_mistral_full(void **state) {
    (void)state;
    golden_check_forms("mistral-full", 4);
}
static void test_mistral_window(void **state) {
    (void)state;
    golden_check_forms("mistral-window", 4);
}
static void test_mixtral_window(void **state) {
    (void)state;
    golden_check_forms("mixtral-window", 4);
}
static void test_greedy(void **state) {
    (void)state;
    golden_check_greedy("mistral-full");
    golden_check_greedy("mistral-window");
    golden_check_greedy("mixtral-window");
}
static void test_long_and_interleaved(void **state) {
    (void)state;
    golden_check_long("mistral-full");
    golden_check_long("mistral-window");
    golden_check_long("mixtral-window");
}

/* ---------------------------------------------------------------- negative controls */

static void window_controls(const char *name) {
    golden g = golden_open(name);
    run_case c = {.path = g.dir, .window = 8};
    assert_true(golden_error(&g, &c) <= GOLDEN_BOUND); /* the option itself changes nothing */
    c.window = 7;
    golden_must_miss(&g, &c, "window 7");
    c.window = 9;
    golden_must_miss(&g, &c, "window 9");
    c.window = 0;
    golden_must_miss(&g, &c, "no window");
    json_decref(g.json);
}

static void pairing_control(const char *name, int layers, int heads, int kv_heads, int head_dim) {
    golden g = golden_open(name);
    checkpoint_edit e;
    checkpoint_edit_open(&e, g.dir);
    checkpoint_edit_save(&e);
    const run_case c = {.path = e.dir, .window = -1};
    assert_true(golden_error(&g, &c) <= GOLDEN_BOUND); /* an undistorted copy is right */
    for (int i = 0; i < layers; i++) {
        char tensor[96];
        snprintf(tensor, sizeof tensor, "model.layers.%d.self_attn.q_proj.weight", i);
        checkpoint_edit_interleave(&e, tensor, heads, head_dim);
        snprintf(tensor, sizeof tensor, "model.layers.%d.self_attn.k_proj.weight", i);
        checkpoint_edit_interleave(&e, tensor, kv_heads, head_dim);
    }
    checkpoint_edit_save(&e);
    golden_must_miss(&g, &c, "other RoPE pairing");
    checkpoint_edit_close(&e);
    json_decref(g.json);
}

static void test_window_controls(void **state) {
    (void)state;
    window_controls("mistral-window");
    window_controls("mixtral-window");
}

static void test_pairing_controls(void **state) {
    (void)state;
    pairing_control("mistral-window", 3, 4, 1, 32);
    pairing_control("mixtral-window", 2, 4, 2, 24);
}

/* Two experts of one layer change places: the router still asks for them by number. */
static void test_swapped_experts(void **state) {
    (void)state;
    golden g = golden_open("mixtral-window");
    checkpoint_edit e;
    checkpoint_edit_open(&e, g.dir);
    for (int w = 1; w <= 3; w++) {
        char a[96], b[96];
        snprintf(a, sizeof a, "model.layers.0.block_sparse_moe.experts.4.w%d.weight", w);
        snprintf(b, sizeof b, "model.layers.0.block_sparse_moe.experts.7.w%d.weight", w);
        checkpoint_edit_swap(&e, a, b);
    }
    checkpoint_edit_save(&e);
    const run_case c = {.path = e.dir, .window = -1};
    golden_must_miss(&g, &c, "swapped experts");
    checkpoint_edit_close(&e);
    json_decref(g.json);
}

static void test_top_1(void **state) {
    (void)state;
    golden g = golden_open("mixtral-window");
    checkpoint_edit e;
    checkpoint_edit_open(&e, g.dir);
    checkpoint_edit_save(&e);
    checkpoint_edit_config(&e, "num_experts_per_tok", 1);
    const run_case c = {.path = e.dir, .window = -1};
    golden_must_miss(&g, &c, "top-1");
    checkpoint_edit_close(&e);
    json_decref(g.json);
}

/* The reference router, told not to renormalise. */
static anemo_status run_without_renormalisation(const anemo_exec *exec, const void *problem,
                                                const void *args) {
    anemo_moe_route_problem p = *(const anemo_moe_route_problem *)problem;
    assert_true(p.renormalise);
    p.renormalise = 0;
    return anemo_variant_reference(ANEMO_OP_MOE_ROUTE)->run(exec, &p, args);
}

static void test_no_renormalisation(void **state) {
    (void)state;
    static anemo_variant wrong;
    wrong = *anemo_variant_reference(ANEMO_OP_MOE_ROUTE);
    wrong.name = "moe_route_f32_norenorm";
    wrong.traits &= ~ANEMO_TRAIT_REFERENCE;
    wrong.idea = "wrong on purpose: does not renormalise";
    wrong.run = run_without_renormalisation;
    static const anemo_variant *const variants[] = {&wrong};
    static const anemo_plugin plugin = {.size = sizeof plugin,
                                        .abi_major = ANEMO_ABI_MAJOR,
                                        .abi_minor = ANEMO_ABI_MINOR,
                                        .name = "norenorm",
                                        .n_variants = 1,
                                        .variants = variants};
    anemo_error err = {""};
    if (anemo_registry_add(&plugin, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    golden g = golden_open("mixtral-window");
    const run_case c = {
        .path = g.dir, .window = -1, .extra_with = "moe_route=moe_route_f32_norenorm"};
    golden_must_miss(&g, &c, "no renormalisation");
    json_decref(g.json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mistral_full),
        cmocka_unit_test(test_mistral_window),
        cmocka_unit_test(test_mixtral_window),
        cmocka_unit_test(test_long_and_interleaved),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_window_controls),
        cmocka_unit_test(test_pairing_controls),
        cmocka_unit_test(test_swapped_experts),
        cmocka_unit_test(test_top_1),
        cmocka_unit_test(test_no_renormalisation),
    };
    return cmocka_run_group_tests_name("golden logits", tests, NULL, NULL);
}
