/* Does the comparison see a broken quantisation? A Q4_0 file whose scales are 10 % too large still
 * gives fluent, wrong answers; against the right Q4_0 over the same cases it must be flagged, and
 * the right one written to a file must not be. On a random model's perplexity, and on the default
 * model's own tasks where its weights are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "harness/eval/eval.h"
#include "tests/support/q4_gguf.h"
#include "tests/support/random_model.h"
#include "tests/support/run_program.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static anemo_error err;

static void ok(anemo_status status) {
    if (status != ANEMO_OK)
        fail_msg("%s: %s", anemo_status_name(status), err.text);
}

/* A model with a tokenizer that need not be its own. */
typedef struct subject {
    anemo_model *model;
    anemo_device *device;
    anemo_eval_engine engine;
} subject;

static subject open_subject(const char *path, const char *requantise,
                            const anemo_tokenizer *tokenizer) {
    subject s = {0};
    const anemo_model_options options = {.requantise = requantise, .window = -1};
    ok(anemo_model_open(path, &options, &s.model, &err));
    ok(anemo_device_create_cpu(2, NULL, &s.device, &err));
    s.engine = (anemo_eval_engine){.tokenizer = tokenizer, .info = anemo_model_describe(s.model)};
    s.engine.limits = anemo_eval_limits(s.engine.info, 256, 256);
    const anemo_plan_options plan = {.limits = s.engine.limits};
    ok(anemo_plan_create(s.model, s.device, &plan, &s.engine.plan, &err));
    return s;
}

static void close_subject(subject *s) {
    anemo_plan_free(s->engine.plan);
    anemo_device_free(s->device);
    anemo_model_close(s->model);
}

static void show(const char *what, const anemo_eval_comparison *c) {
    print_message("%-10s %-12s %8.4f -> %8.4f  difference %+.4f [%+.4f, %+.4f]  p %.2g%s\n", what,
                  c->metric, c->a, c->b, c->difference.value, c->difference.lo, c->difference.hi,
                  c->p_holm, c->different ? "  different" : "");
}

/* The right and the sabotaged file of a model. */
static void write_files(const char *model, const char *folder, char *right, char *wrong) {
    snprintf(right, 512, "%s/right.gguf", folder);
    snprintf(wrong, 512, "%s/wrong.gguf", folder);
    q4_gguf_write(model, 1.0, right);
    q4_gguf_write(model, 1.1, wrong);
}

static void score_text(const char *path, const char *requantise, const anemo_tokenizer *tokenizer,
                       const anemo_eval_text *text, anemo_eval_unit *units) {
    subject s = open_subject(path, requantise, tokenizer);
    ok(anemo_eval_windows(&s.engine, text, units, &err));
    close_subject(&s);
}

/* Perplexity of lines of text: requantised when opened against the right file, and that against the
 * wrong one. Right scales change nothing; wrong ones sharpen every prediction, which costs most
 * where the text cannot be foreseen. */
static void compare_texts(const char *model, const char *right, const char *wrong,
                          const anemo_tokenizer *tokenizer, const char *lines, size_t bytes) {
    anemo_eval_text text;
    ok(anemo_eval_text_make(tokenizer, lines, bytes, ANEMO_EVAL_LM_EVAL, 128, &text, &err));
    anemo_eval_unit *units[3];
    for (int i = 0; i < 3; i++)
        units[i] = malloc((size_t)text.n_units * sizeof *units[i]);
    score_text(model, "q4_0", tokenizer, &text, units[0]);
    score_text(right, NULL, tokenizer, &text, units[1]);
    score_text(wrong, NULL, tokenizer, &text, units[2]);
    const anemo_eval_comparison same =
        anemo_eval_compare_nll("nats/token", units[0], units[1], text.n_units);
    const anemo_eval_comparison other =
        anemo_eval_compare_nll("nats/token", units[1], units[2], text.n_units);
    show("right", &same);
    show("sabotaged", &other);
    /* The same bound either way: two requantisers may differ in a last bit, which a paired test
     * over thousands of tokens can see. */
    assert_true(fabs(same.difference.value) <= 1e-4 && same.p >= 1e-3);
    assert_true(other.different && other.p < 1e-3);
    for (int i = 0; i < 3; i++)
        free(units[i]);
    anemo_eval_text_free(&text);
}

static void test_random_model(void **state) {
    (void)state;
    char *folder = test_folder_create(), right[512], wrong[512], sums[8192];
    size_t n = 0;
    for (int i = 0; i < 300; i++)
        n += (size_t)snprintf(sums + n, sizeof sums - n, "sum %d+%d=%d\n", 17 * i, 11 * i % 97,
                              17 * i + 11 * i % 97);
    random_model_write(folder, 11);
    write_files(folder, folder, right, wrong);
    anemo_tokenizer *tokenizer;
    ok(anemo_tokenizer_open(ANEMO_TEST_DIR "/../models/default/tokenizer.json", &tokenizer, &err));
    compare_texts(folder, right, wrong, tokenizer, sums, n);
    anemo_tokenizer_close(tokenizer);
    test_folder_remove(folder);
}

/* ---------------------------------------------------------------- the default model */

static anemo_eval_result *score_tasks(const char *path, const char *requantise,
                                      const anemo_tokenizer *tokenizer,
                                      const anemo_eval_cases *cases,
                                      const anemo_eval_options *options) {
    anemo_eval_result *results = malloc((size_t)cases->n * sizeof *results);
    subject s = open_subject(path, requantise, tokenizer);
    ok(anemo_eval_tasks(&s.engine, cases, options, results, &err));
    close_subject(&s);
    return results;
}

/* Any difference flagged? */
static bool flagged(const char *what, const anemo_eval_cases *cases,
                    const anemo_eval_options *options, const anemo_eval_result *a,
                    const anemo_eval_result *b) {
    anemo_eval_comparison c[ANEMO_EVAL_COMPARISONS];
    const int32_t n = anemo_eval_compare(cases, options, a, b, c);
    assert_int_equal(n, ANEMO_EVAL_COMPARISONS);
    bool any = false;
    for (int32_t i = 0; i < n; i++) {
        show(what, &c[i]);
        any = any || c[i].different;
    }
    return any;
}

/* Whole lines from the beginning of a file, as many as fit. */
static size_t first_lines(const char *path, char *lines, size_t room) {
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(lines, 1, room, f);
    fclose(f);
    while (n > 0 && lines[n - 1] != '\n')
        n--;
    return n;
}

static void test_default_model(void **state) {
    (void)state;
    const char *asked = getenv("ANEMO_MODEL_DIR");
    const char *model = asked ? asked : ANEMO_TEST_DIR "/../models/default";
    char path[600], tasks[500], right[512], wrong[512];
    snprintf(path, sizeof path, "%s/model.safetensors", model);
    snprintf(tasks, sizeof tasks, "%s/tasks", model);
    if (access(path, R_OK) || access(tasks, R_OK)) {
        print_message("no weights or no tasks in %s\n", model);
        skip();
    }
    char *folder = test_folder_create();
    write_files(model, folder, right, wrong);
    snprintf(path, sizeof path, "%s/tokenizer.json", model);
    anemo_tokenizer *tokenizer;
    ok(anemo_tokenizer_open(path, &tokenizer, &err));
    anemo_eval_cases cases;
    ok(anemo_eval_cases_load(tasks, &(anemo_eval_filter){.limit = 10}, &cases, &err));
    const anemo_eval_options options = {.exact = true, .choice = true};
    anemo_eval_result *inner = score_tasks(model, "q4_0", tokenizer, &cases, &options);
    anemo_eval_result *honest = score_tasks(right, NULL, tokenizer, &cases, &options);
    anemo_eval_result *broken = score_tasks(wrong, NULL, tokenizer, &cases, &options);
    const bool same = flagged("right", &cases, &options, inner, honest);
    (void)flagged("sabotaged", &cases, &options, honest,
                  broken); /* shown: few cases see little of it */
    free(inner);
    free(honest);
    free(broken);
    anemo_eval_cases_free(&cases);
    assert_false(same);
    snprintf(path, sizeof path, "%s/heldout.txt", tasks);
    char *lines = malloc(1 << 16);
    const size_t bytes = first_lines(path, lines, 1 << 16);
    compare_texts(model, right, wrong, tokenizer, lines, bytes);
    free(lines);
    anemo_tokenizer_close(tokenizer);
    test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_model),
        cmocka_unit_test(test_default_model),
    };
    return cmocka_run_group_tests_name("eval sabotage", tests, NULL, NULL);
}
