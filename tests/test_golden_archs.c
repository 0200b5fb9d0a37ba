/* Golden logits of the families beside Mistral and Mixtral (tests/support/golden.h): Llama 3,
 * Ministral 8B, and so on, each with the mistakes that are its own. A control is a distorted copy
 * of the checkpoint, or, where no file can express the mistake, a wrong kernel from a plug-in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/checkpoint_edit.h"
#include "tests/support/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_family(const char *name, int n_forms) {
    golden_check_forms(name, n_forms);
    golden_check_long(name);
    golden_check_greedy(name);
}

/* A copy of the golden's checkpoint and its untouched logits. */
typedef struct control {
    golden g;
    checkpoint_edit e;
} control;

static control control_open(const char *name) {
    control c = {.g = golden_open(name)};
    checkpoint_edit_open(&c.e, c.g.dir);
    checkpoint_edit_save(&c.e);
    return c;
}

static void control_close(control *c, const char *what) {
    const run_case run = {.path = c->e.dir, .window = -1};
    checkpoint_edit_save(&c->e);
    golden_must_miss(&c->g, &run, what);
    checkpoint_edit_close(&c->e);
    json_decref(c->g.json);
}

/* One value of config.json is another one. */
static void config_control(const char *name, const char *key, const char *json, const char *what) {
    control c = control_open(name);
    checkpoint_edit_json(&c.e, key, json);
    control_close(&c, what);
}

/* ---------------------------------------------------------------- Llama 3 */

static void test_llama3(void **state) {
    (void)state;
    check_family("llama3", 2);
    config_control("llama3", "rope_scaling", "null", "no RoPE scaling");
    config_control("llama3", "rope_scaling.factor", "4", "factor 4 for 8");
    config_control("llama3", "rope_scaling.high_freq_factor", "1.001", "no blending");
}

/* ---------------------------------------------------------------- Ministral 8B */

static void test_ministral(void **state) {
    (void)state;
    check_family("ministral", 2);
    config_control("ministral", "layer_types",
                   "[\"sliding_attention\", \"sliding_attention\", \"sliding_attention\"]",
                   "windows on all layers");
    config_control("ministral", "layer_types",
                   "[\"full_attention\", \"full_attention\", \"full_attention\"]", "no windows");
    config_control("ministral", "layer_types",
                   "[\"sliding_attention\", \"full_attention\", \"sliding_attention\"]",
                   "another pattern");
    config_control("ministral", "sliding_window", "7", "window 7");
    config_control("ministral", "sliding_window", "9", "window 9");
}

/* ---------------------------------------------------------------- wrong kernels */

/* The reference of an op with its problem changed: mistakes that no file can express. */
static anemo_status norm_nothing(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_add_rmsnorm_problem *p = problem;
    const anemo_add_rmsnorm_args *a = args;
    (void)exec;
    memcpy(a->y, a->x, (size_t)(a->m * p->d) * sizeof *a->y);
    return ANEMO_OK;
}

/* One row of W, times x, plus a bias. */
static double product(const anemo_weight *w, int64_t row, const double *x, float bias,
                      float *values, void *scratch) {
    double sum = bias;
    anemo_weight_row_f32(w, row, values, scratch);
    for (int64_t i = 0; i < w->k; i++)
        sum += (double)values[i] * x[i];
    return sum;
}

/* gpt-oss's experts without the clamps. */
static anemo_status unclamped_experts(const anemo_exec *exec, const void *problem,
                                      const void *args) {
    const anemo_moe_experts_problem *p = problem;
    const anemo_moe_experts_args *a = args;
    const int64_t d = p->d, ffn = p->ffn;
    double x[64], h[64];
    float values[64];
    _Alignas(64) unsigned char scratch[4096];
    (void)exec;
    assert_int_equal(p->activation, ANEMO_ACT_SILU_CLAMPED);
    assert_true(d <= 64 && ffn <= 64 && anemo_weight_scratch_bytes(64) <= sizeof scratch);
    for (int64_t e = 0; e < p->n_experts; e++)
        for (int64_t r = a->plan.offset[e]; r < a->plan.offset[e + 1]; r++) {
            for (int64_t i = 0; i < d; i++)
                x[i] = ((const float *)a->x)[a->plan.row_token[r] * d + i];
            for (int64_t j = 0; j < ffn; j++) {
                const double g =
                    product(a->gate[e], j, x, a->gate_bias[e * ffn + j], values, scratch);
                const double u = product(a->up[e], j, x, a->up_bias[e * ffn + j], values, scratch);
                h[j] = (u + 1) * g / (1 + exp(-1.702 * g));
            }
            for (int64_t i = 0; i < d; i++)
                a->rows[r * d + i] =
                    (float)product(a->down[e], i, h, a->down_bias[e * d + i], values, scratch);
        }
    return ANEMO_OK;
}

static anemo_variant wrong_norm, wrong_experts;

static int register_wrong(void **state) {
    (void)state;
    static const anemo_variant *const variants[] = {&wrong_norm, &wrong_experts};
    static const anemo_plugin plugin = {.size = sizeof plugin,
                                        .abi_major = ANEMO_ABI_MAJOR,
                                        .abi_minor = ANEMO_ABI_MINOR,
                                        .name = "wrong_archs",
                                        .n_variants = 2,
                                        .variants = variants};
    anemo_error err = {""};
    wrong_norm = *anemo_variant_reference(ANEMO_OP_ADD_RMSNORM);
    wrong_norm.name = "add_rmsnorm_f32_nothing";
    wrong_norm.run = norm_nothing;
    wrong_experts = *anemo_variant_reference(ANEMO_OP_MOE_EXPERTS);
    wrong_experts.name = "moe_experts_wxa32_unclamped";
    wrong_experts.run = unclamped_experts;
    wrong_norm.traits = wrong_experts.traits = 0;
    return anemo_registry_add(&plugin, &err) == ANEMO_OK ? 0 : -1;
}

static void kernel_control(const char *name, const char *with, const char *what) {
    golden g = golden_open(name);
    const run_case run = {.path = g.dir, .window = -1, .extra_with = with};
    golden_must_miss(&g, &run, what);
    json_decref(g.json);
}

/* ---------------------------------------------------------------- Qwen3-MoE */

static void test_qwen3_moe(void **state) {
    (void)state;
    check_family("qwen3-moe", 2);
    kernel_control("qwen3-moe", "add_rmsnorm@q=add_rmsnorm_f32_nothing", "no norm of q");
    kernel_control("qwen3-moe", "add_rmsnorm@k=add_rmsnorm_f32_nothing", "no norm of k");
    config_control("qwen3-moe", "norm_topk_prob", "false", "no renormalisation");
    config_control("qwen3-moe", "num_experts_per_tok", "1", "top-1");
    control c = control_open("qwen3-moe");
    checkpoint_edit_swap(&c.e, "model.layers.0.self_attn.q_norm.weight",
                         "model.layers.0.self_attn.k_norm.weight");
    control_close(&c, "norms of q and k swapped");
}

/* ---------------------------------------------------------------- gpt-oss */

/* All bytes of a bf16 tensor become this value. */
static void fill_control(const char *tensor, uint16_t bf16, const char *what) {
    control c = control_open("gpt-oss");
    size_t bytes;
    unsigned char *data = checkpoint_edit_tensor(&c.e, tensor, &bytes);
    for (size_t i = 0; i + 1 < bytes; i += 2)
        memcpy(data + i, &bf16, sizeof bf16);
    control_close(&c, what);
}

/* Gate and up change places: all outputs of a pair. */
static void pair_control(void) {
    control c = control_open("gpt-oss");
    size_t bytes;
    unsigned char *data =
        checkpoint_edit_tensor(&c.e, "model.layers.0.mlp.experts.gate_up_proj", &bytes);
    for (size_t i = 0; i + 3 < bytes; i += 4) {
        unsigned char first[2];
        memcpy(first, data + i, 2);
        memcpy(data + i, data + i + 2, 2);
        memcpy(data + i + 2, first, 2);
    }
    control_close(&c, "gate and up swapped");
}

static void test_gpt_oss(void **state) {
    (void)state;
    check_family("gpt-oss", 2);
    fill_control("model.layers.0.self_attn.sinks", 0xc6c3, "no sinks (-25000)");
    fill_control("model.layers.0.self_attn.sinks", 0, "sinks of 0");
    fill_control("model.layers.0.self_attn.q_proj.bias", 0, "no bias of q");
    fill_control("model.layers.1.self_attn.k_proj.bias", 0, "no bias of k");
    fill_control("model.layers.0.self_attn.v_proj.bias", 0, "no bias of v");
    fill_control("model.layers.0.self_attn.o_proj.bias", 0, "no bias of o");
    fill_control("model.layers.0.mlp.router.bias", 0, "no bias of the router");
    fill_control("model.layers.0.mlp.experts.gate_up_proj_bias", 0, "no bias of gate and up");
    fill_control("model.layers.0.mlp.experts.down_proj_bias", 0, "no bias of down");
    pair_control();
    kernel_control("gpt-oss", "moe_experts=moe_experts_wxa32_unclamped", "no clamp");
    config_control("gpt-oss", "layer_types", "[\"full_attention\", \"sliding_attention\"]",
                   "windows on odd layers");
    config_control("gpt-oss", "sliding_window", "7", "window 7");
    config_control("gpt-oss", "sliding_window", "9", "window 9");
    config_control("gpt-oss", "rope_scaling", "null", "no YaRN");
    config_control("gpt-oss", "rope_scaling.truncate", "true", "YaRN between whole pairs");
}

/* The bytes of a tensor of the MXFP4 checkpoint, changed one by one. */
static void mxfp4_control(const char *tensor, unsigned char (*change)(unsigned char),
                          const char *what) {
    control c = control_open("gpt-oss-mxfp4");
    size_t bytes;
    unsigned char *data = checkpoint_edit_tensor(&c.e, tensor, &bytes);
    for (size_t i = 0; i < bytes; i++)
        data[i] = change(data[i]);
    control_close(&c, what);
}

static unsigned char swap_nibbles(unsigned char byte) {
    return (unsigned char)(byte >> 4 | byte << 4);
}

static unsigned char one_more(unsigned char byte) {
    return (unsigned char)(byte + 1);
}

/* As it is published: experts in MXFP4, from Hugging Face files end to end; the golden knows no
 * rounding of activations. */
static void test_gpt_oss_mxfp4(void **state) {
    (void)state;
    run_model_with = "moe_experts=moe_experts_c";
    check_family("gpt-oss-mxfp4", 2);
    mxfp4_control("model.layers.0.mlp.experts.gate_up_proj_blocks", swap_nibbles,
                  "nibbles of gate and up swapped");
    mxfp4_control("model.layers.1.mlp.experts.down_proj_blocks", swap_nibbles,
                  "nibbles of down swapped");
    mxfp4_control("model.layers.0.mlp.experts.down_proj_scales", one_more,
                  "scales of down doubled");
    run_model_with = NULL;
}

/* ---------------------------------------------------------------- Ministral 3 */

static void test_ministral3(void **state) {
    (void)state;
    check_family("ministral3", 2);
    config_control("ministral3", "rope_parameters.rope_type", "\"default\"", "no YaRN");
    config_control("ministral3", "rope_parameters.llama_4_scaling_beta", "0", "no temperature");
    config_control("ministral3", "rope_parameters.mscale", "0", "magnitude of YaRN itself");
    config_control("ministral3", "rope_parameters.beta_slow", "0.25", "beta_slow 1/4 for 1");
}

/* ---------------------------------------------------------------- multimodal */

static void test_multimodal(void **state) {
    (void)state;
    check_family("mistral3-vision", 1);
    golden g = golden_open("mistral3-vision");
    anemo_model *model = NULL;
    anemo_error err = {""};
    assert_int_equal(anemo_model_open(g.dir, NULL, &model, &err), ANEMO_OK);
    const anemo_model_info *info = anemo_model_describe(model);
    print_message("skipped: %s\n", info->skipped);
    assert_string_equal(info->architecture, "mistral");
    assert_string_equal(info->skipped,
                        "vision_tower.* (11 tensors), multi_modal_projector.* (4 tensors)");
    anemo_model_close(model);
    json_decref(g.json);
    control c = control_open("mistral3-vision");
    checkpoint_edit_swap(&c.e, "language_model.model.layers.0.self_attn.k_proj.weight",
                         "language_model.model.layers.1.self_attn.k_proj.weight");
    control_close(&c, "layers swapped");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama3),        cmocka_unit_test(test_ministral),
        cmocka_unit_test(test_qwen3_moe),     cmocka_unit_test(test_gpt_oss),
        cmocka_unit_test(test_gpt_oss_mxfp4), cmocka_unit_test(test_ministral3),
        cmocka_unit_test(test_multimodal),
    };
    return cmocka_run_group_tests_name("golden logits of more families", tests, register_wrong,
                                       NULL);
}
