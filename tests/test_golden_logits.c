/* Golden logits: the whole engine against Hugging Face transformers (float32, eager), on the tiny
 * random checkpoints of tests/data/models, which tests/oracle/make_model_goldens.py wrote.
 *
 * Bound: the largest difference over all positions and ids is at most 1e-4 of the logits' standard
 * deviation (which is at least 1). Each negative control, a mistake that an engine might well make,
 * must miss that bound by ten times or more; otherwise the goldens would not see it. The controls
 * go through the same files and the same code as the positive tests: the window by its option, the
 * rest by a distorted copy of the checkpoint, and the missing renormalisation, which no file can
 * express, by a wrong moe_route kernel that the test brings along as a plug-in.
 *
 * Quantised files are compared with transformers on the dequantised weights, so those runs force
 * the reference variants: what quantised activations change is a question of accuracy, not of
 * correctness. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/checkpoint_edit.h"
#include "tests/support/run_model.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOUND          1e-4
#define CONTROL_FACTOR 10
#define MAX_TOKENS     256

/* ---------------------------------------------------------------- the golden files */

typedef struct golden {
    char dir[512];
    json_t *json;
    int64_t vocab;
    double sd;
    int32_t tokens[MAX_TOKENS];
    int64_t n;
} golden;

static int64_t read_ids(const json_t *array, int32_t *ids) {
    const size_t n = json_array_size(array);
    assert_true(n > 0 && n <= MAX_TOKENS);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return (int64_t)n;
}

static golden golden_open(const char *name) {
    golden g;
    snprintf(g.dir, sizeof g.dir, "%s/data/models/%s", ANEMO_TEST_DIR, name);
    char path[600];
    snprintf(path, sizeof path, "%s/golden.json", g.dir);
    g.json = json_load_file(path, 0, NULL);
    if (!g.json)
        fail_msg("cannot read %s", path);
    g.vocab = json_integer_value(json_object_get(g.json, "vocab"));
    g.sd = json_number_value(json_object_get(g.json, "sd"));
    assert_true(g.sd >= 1);
    g.n = read_ids(json_object_get(g.json, "tokens"), g.tokens);
    return g;
}

static float *read_floats(const golden *g, const json_t *file, int64_t rows) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", g->dir, json_string_value(file));
    const size_t n = (size_t)(rows * g->vocab);
    float *x = malloc((n + 1) * sizeof *x);
    FILE *f = fopen(path, "rb");
    assert_non_null(x);
    assert_non_null(f);
    assert_int_equal(fread(x, sizeof *x, n + 1, f), n); /* exactly n */
    fclose(f);
    return x;
}

/* Each layer and token chooses the oracle's experts in the oracle's order. */
static int64_t wrong_routes(const json_t *routes, const run_result *r) {
    int64_t wrong = 0;
    for (size_t layer = 0; layer < json_array_size(routes); layer++) {
        const json_t *tokens = json_array_get(routes, layer);
        assert_int_equal(json_array_size(tokens), r->n);
        for (int64_t t = 0; t < r->n; t++)
            for (size_t k = 0; k < RUN_TOP_K; k++) {
                const json_t *id = json_array_get(json_array_get(tokens, (size_t)t), k);
                wrong += json_integer_value(id) !=
                         r->routes[((int64_t)layer * r->n + t) * RUN_TOP_K + (int64_t)k];
            }
    }
    return wrong;
}

/* ---------------------------------------------------------------- positive tests */

static const int SEVEN[] = {7, 0}, SIXTEEN[] = {16, 0}, ONE[] = {1, 0},
                 MIXED[] = {11, 1, 1, 5, 2, 0};
static const struct {
    const char *name;
    const int *sizes;
} CHUNKS[] = {{"at once", NULL},
              {"in chunks of 7", SEVEN},
              {"in chunks of 16", SIXTEEN},
              {"token by token", ONE},
              {"in chunks of 11, 1, 1, 5, 2", MIXED}};

static double worst; /* error of all runs so far, in units of the sd */

static int check(const golden *g, const char *file, const char *how, const json_t *routes,
                 const run_result *r, const float *want) {
    const double error = largest_difference(r->logits, want, r->n * r->vocab) / g->sd;
    const int64_t wrong = routes ? wrong_routes(routes, r) : 0;
    worst = error > worst ? error : worst;
    if (error <= BOUND && !wrong)
        return 0;
    print_error("%s/%s %s: error %.3g of the sd (bound %.3g), %lld wrong routes\n", g->dir, file,
                how, error, BOUND, (long long)wrong);
    return 1;
}

static int check_form(const golden *g, const json_t *form, bool reference) {
    const char *file = json_string_value(json_object_get(form, "file"));
    const json_t *routes = json_object_get(form, "routes");
    float *want = read_floats(g, json_object_get(form, "logits"), g->n);
    char path[600];
    snprintf(path, sizeof path, "%s/%s", g->dir, file);
    run_case c = {.path = strcmp(file, ".") ? path : g->dir, .window = -1, .reference = reference};
    int failures = 0;
    for (size_t i = 0; i < sizeof CHUNKS / sizeof *CHUNKS; i++) {
        c.chunks = CHUNKS[i].sizes;
        run_result r = run_model(&c, g->tokens, g->n);
        assert_int_equal(r.vocab, g->vocab);
        failures += check(g, file, CHUNKS[i].name, routes, &r, want);
        run_result_free(&r);
    }
    free(want);
    return failures;
}

/* Every file, every way of cutting the prompt. */
static void check_all_forms(const char *name) {
    golden g = golden_open(name);
    size_t i;
    json_t *form;
    int failures = 0, n_forms = 0;
    json_array_foreach(json_object_get(g.json, "forms"), i, form) {
        const char *logits = json_string_value(json_object_get(form, "logits"));
        failures += check_form(&g, form, true);
        if (!strcmp(logits, "logits.f32")) /* float weights: what the plan chooses by itself, too */
            failures += check_form(&g, form, false);
        n_forms++;
    }
    print_message("%s: largest error so far %.3g of the sd (bound %.3g)\n", name, worst, BOUND);
    assert_int_equal(n_forms, 4);
    json_decref(g.json);
    assert_int_equal(failures, 0);
}

/* Two sessions in the same steps, in different chunks: the short prompt, and 200 tokens over
 * several KV pages, of which a window frees all but the last ones. */
static void check_interleaved_and_long(const char *name) {
    golden g = golden_open(name);
    const json_t *forms = json_object_get(g.json, "forms");
    const json_t *lng = json_object_get(g.json, "long"), *rows = json_object_get(lng, "rows");
    const json_t *form = json_array_get(forms, 0);
    int32_t tokens[MAX_TOKENS];
    const int64_t n = read_ids(json_object_get(lng, "tokens"), tokens);
    const int64_t n_rows = (int64_t)json_array_size(rows);
    float *want = read_floats(&g, json_object_get(form, "logits"), g.n);
    float *want_long = read_floats(&g, json_object_get(lng, "logits"), n_rows);
    int failures = 0;
    for (size_t i = 0; i < sizeof CHUNKS / sizeof *CHUNKS; i++) {
        const run_case c = {.path = g.dir, .window = -1, .chunks = MIXED};
        run_result a, b;
        run_two(&c, g.tokens, g.n, CHUNKS[i].sizes, tokens, n, &a, &b);
        failures +=
            check(&g, ".", "beside another session", json_object_get(form, "routes"), &a, want);
        for (int64_t r = 0; r < n_rows; r++) {
            const int64_t at = json_integer_value(json_array_get(rows, (size_t)r));
            const double error =
                largest_difference(b.logits + at * g.vocab, want_long + r * g.vocab, g.vocab);
            if (!(error / g.sd <= BOUND)) {
                print_error("%s: 200 tokens %s: position %lld: error %.3g of the sd\n", g.dir,
                            CHUNKS[i].name, (long long)at, error / g.sd);
                failures++;
            }
        }
        run_result_free(&a);
        run_result_free(&b);
    }
    free(want);
    free(want_long);
    json_decref(g.json);
    assert_int_equal(failures, 0);
}

static void test_mistral_full(void **state) {
    (void)state;
    check_all_forms("mistral-full");
}
static void test_mistral_window(void **state) {
    (void)state;
    check_all_forms("mistral-window");
}
static void test_mixtral_window(void **state) {
    (void)state;
    check_all_forms("mixtral-window");
}
static void test_long_and_interleaved(void **state) {
    (void)state;
    check_interleaved_and_long("mistral-full");
    check_interleaved_and_long("mistral-window");
    check_interleaved_and_long("mixtral-window");
}

/* ---------------------------------------------------------------- negative controls */

static double error_of(const golden *g, const run_case *c) {
    float *want = read_floats(
        g, json_object_get(json_array_get(json_object_get(g->json, "forms"), 0), "logits"), g->n);
    run_result r = run_model(c, g->tokens, g->n);
    for (int64_t i = 0; i < r.n * r.vocab; i++)
        assert_true(isfinite(r.logits[i])); /* wrong, but numbers: NaN would "miss" any bound */
    const double error = largest_difference(r.logits, want, r.n * r.vocab) / g->sd;
    run_result_free(&r);
    free(want);
    return error;
}

static void must_miss(const golden *g, const run_case *c, const char *what) {
    const double error = error_of(g, c);
    print_message("%-28s error %.3g of the sd = %.0f x the bound\n", what, error, error / BOUND);
    assert_true(error >= CONTROL_FACTOR * BOUND);
}

static void window_controls(const char *name) {
    golden g = golden_open(name);
    run_case c = {.path = g.dir, .window = 8};
    assert_true(error_of(&g, &c) <= BOUND); /* the option itself changes nothing */
    c.window = 7;
    must_miss(&g, &c, "window 7");
    c.window = 9;
    must_miss(&g, &c, "window 9");
    c.window = 0;
    must_miss(&g, &c, "no window");
    json_decref(g.json);
}

static void pairing_control(const char *name, int layers, int heads, int kv_heads, int head_dim) {
    golden g = golden_open(name);
    checkpoint_edit e;
    checkpoint_edit_open(&e, g.dir);
    checkpoint_edit_save(&e);
    const run_case c = {.path = e.dir, .window = -1};
    assert_true(error_of(&g, &c) <= BOUND); /* an undistorted copy is right */
    for (int i = 0; i < layers; i++) {
        char tensor[96];
        snprintf(tensor, sizeof tensor, "model.layers.%d.self_attn.q_proj.weight", i);
        checkpoint_edit_interleave(&e, tensor, heads, head_dim);
        snprintf(tensor, sizeof tensor, "model.layers.%d.self_attn.k_proj.weight", i);
        checkpoint_edit_interleave(&e, tensor, kv_heads, head_dim);
    }
    checkpoint_edit_save(&e);
    must_miss(&g, &c, "other RoPE pairing");
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
    must_miss(&g, &c, "swapped experts");
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
    must_miss(&g, &c, "top-1");
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
    must_miss(&g, &c, "no renormalisation");
    json_decref(g.json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mistral_full),       cmocka_unit_test(test_mistral_window),
        cmocka_unit_test(test_mixtral_window),     cmocka_unit_test(test_long_and_interleaved),
        cmocka_unit_test(test_window_controls),    cmocka_unit_test(test_pairing_controls),
        cmocka_unit_test(test_swapped_experts),    cmocka_unit_test(test_top_1),
        cmocka_unit_test(test_no_renormalisation),
    };
    return cmocka_run_group_tests_name("golden logits", tests, NULL, NULL);
}
