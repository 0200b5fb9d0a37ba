#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the golden files */

int64_t golden_ids(const json_t *array, int32_t *ids) {
    const size_t n = json_array_size(array);
    assert_true(n > 0 && n <= GOLDEN_MAX_TOKENS);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return (int64_t)n;
}

golden golden_open(const char *name) {
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
    g.n = golden_ids(json_object_get(g.json, "tokens"), g.tokens);
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
    if (error <= GOLDEN_BOUND && !wrong)
        return 0;
    print_error("%s/%s %s: error %.3g of the sd (bound %.3g), %lld wrong routes\n", g->dir, file,
                how, error, GOLDEN_BOUND, (long long)wrong);
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
void golden_check_forms(const char *name, int n_expected) {
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
    print_message("%s: largest error so far %.3g of the sd (bound %.3g)\n", name, worst,
                  GOLDEN_BOUND);
    assert_int_equal(n_forms, n_expected);
    json_decref(g.json);
    assert_int_equal(failures, 0);
}

/* Two sessions in the same steps, in different chunks: the short prompt, and 200 tokens over
 * several KV pages, of which a window frees all but the last ones. */
void golden_check_long(const char *name) {
    golden g = golden_open(name);
    const json_t *forms = json_object_get(g.json, "forms");
    const json_t *lng = json_object_get(g.json, "long"), *rows = json_object_get(lng, "rows");
    const json_t *form = json_array_get(forms, 0);
    int32_t tokens[GOLDEN_MAX_TOKENS];
    const int64_t n = golden_ids(json_object_get(lng, "tokens"), tokens);
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
            if (!(error / g.sd <= GOLDEN_BOUND)) {
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

/* ---------------------------------------------------------------- greedy continuation */

/* Of the first tokens of the golden, by the engine's own sampler at temperature 0. */
void golden_check_greedy(const char *name) {
    golden g = golden_open(name);
    const json_t *greedy = json_object_get(g.json, "greedy");
    const int64_t n_prompt = json_integer_value(json_object_get(greedy, "prompt"));
    int32_t want[GOLDEN_MAX_TOKENS], got[GOLDEN_MAX_TOKENS];
    const int64_t n = golden_ids(json_object_get(greedy, "ids"), want);
    size_t i;
    json_t *form;
    assert_true(n >= 64 && n_prompt > 0 && n_prompt <= g.n);
    json_array_foreach(json_object_get(g.json, "forms"), i, form) {
        if (strcmp(json_string_value(json_object_get(form, "logits")), "logits.f32"))
            continue; /* quantised: other logits */
        char path[600];
        const char *file = json_string_value(json_object_get(form, "file"));
        snprintf(path, sizeof path, "%s/%s", g.dir, file);
        const run_case c = {.path = path, .window = -1};
        run_greedy(&c, g.tokens, n_prompt, got, n);
        for (int64_t t = 0; t < n; t++)
            if (got[t] != want[t])
                fail_msg("%s: greedy token %lld is %d, transformers says %d", path, (long long)t,
                         got[t], want[t]);
    }
    json_decref(g.json);
}

/* ---------------------------------------------------------------- negative controls */

double golden_error(const golden *g, const run_case *c) {
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

void golden_must_miss(const golden *g, const run_case *c, const char *what) {
    const double error = golden_error(g, c);
    print_message("%-28s error %.3g of the sd = %.0f x the bound\n", what, error,
                  error / GOLDEN_BOUND);
    assert_true(error >= GOLDEN_CONTROL_FACTOR * GOLDEN_BOUND);
}
