/* A trained model: stories260K (Llama family: 8 query heads on 4, SwiGLU, tied output), whose
 * weights come in llama2.c's own format. The test converts them to GGUF (interleaved rotary pairs,
 * as in the source) and to Hugging Face safetensors (q and k rows in half-split order), runs both,
 * and compares with logits that an independent float64 program computed: full attention and a
 * window of 16. An MoE made of four copies of each feed-forward block must give the dense logits
 * whatever its router says, because the weights of the chosen experts sum to 1.
 *
 * Reads $ANEMO_TEST_DATA (else ../shared/data beside the source); a counted skip without it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "models/formats/checkpoint.h"
#include "tests/support/run_model.h"
#include "tests/support/run_program.h"
#include "tests/support/stories.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define BOUND    1e-4 /* absolute, on logits of about -8 .. 18 */
#define GGML_F32 0

/* ---------------------------------------------------------------- comparison */

typedef struct fixture {
    stories s;
    json_t *golden;
    char *folder;
    char gguf[512], gguf_moe[512], hub[512], hub_moe[512];
    int32_t ids[128];
    int64_t n; /* positions; ids holds one more */
} fixture;

static double worse(double error, double value, const json_t *want) {
    const double e = fabs(value - json_number_value(want));
    return e > error || isnan(e) ? e : error; /* once NaN, it stays */
}

/* The largest error of everything that the golden tells. */
static double error_of(const fixture *f, const json_t *golden, const run_result *r,
                       int *wrong_argmax) {
    double error = 0;
    *wrong_argmax = 0;
    for (int64_t i = 0; i < f->n; i++) {
        const float *row = r->logits + i * r->vocab;
        double sum = 0;
        int64_t best = 0;
        for (int64_t j = 0; j < r->vocab; j++) {
            sum += exp(row[j]); /* up to e^18: no need to shift */
            best = row[j] > row[best] ? j : best;
        }
        *wrong_argmax += best != json_integer_value(
                                     json_array_get(json_object_get(golden, "argmax"), (size_t)i));
        error =
            worse(error, log(sum), json_array_get(json_object_get(golden, "logsumexp"), (size_t)i));
        error = worse(error, log(sum) - row[f->ids[i + 1]],
                      json_array_get(json_object_get(golden, "nll_next"), (size_t)i));
        const json_t *first = json_array_get(json_object_get(golden, "logits_first8"), (size_t)i);
        for (size_t j = 0; j < 8; j++)
            error = worse(error, row[j], json_array_get(first, j));
    }
    const json_t *last = json_object_get(golden, "last_logits");
    assert_int_equal(json_array_size(last), r->vocab);
    for (size_t j = 0; j < json_array_size(last); j++)
        error =
            worse(error, r->logits[(f->n - 1) * r->vocab + (int64_t)j], json_array_get(last, j));
    return error;
}

static double run_error(const fixture *f, const char *path, int64_t window, const int *chunks,
                        const json_t *golden, int *wrong_argmax) {
    const run_case c = {.path = path, .window = window, .chunks = chunks};
    run_result r = run_model(&c, f->ids, f->n);
    const double error = error_of(f, golden, &r, wrong_argmax);
    run_result_free(&r);
    return error;
}

static const json_t *golden_of(const fixture *f, int64_t window) {
    const json_t *runs = json_object_get(f->golden, "runs");
    const json_t *run = json_object_get(runs, window ? "swa16" : "full");
    assert_int_equal(json_integer_value(json_object_get(run, "window")), window); /* null: 0 */
    return run;
}

/* ---------------------------------------------------------------- tests */

static int set_up(void **state) {
    static fixture f;
    if (!stories_read(&f.s))
        return 0; /* each test skips */
    f.golden = json_load_file(stories_data_path("golden/stories260K.float64.json"), 0, NULL);
    assert_non_null(f.golden);
    const json_t *ids = json_object_get(f.golden, "ids");
    f.n = (int64_t)json_array_size(ids) - 1;
    assert_true(f.n > 64 && f.n < 128); /* beyond one KV page */
    for (int64_t i = 0; i <= f.n; i++)
        f.ids[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
    f.folder = test_folder_create();
    snprintf(f.gguf, sizeof f.gguf, "%s/dense.gguf", f.folder);
    snprintf(f.gguf_moe, sizeof f.gguf_moe, "%s/moe.gguf", f.folder);
    snprintf(f.hub, sizeof f.hub, "%s/dense", f.folder);
    snprintf(f.hub_moe, sizeof f.hub_moe, "%s/moe", f.folder);
    assert_int_equal(mkdir(f.hub, 0700) | mkdir(f.hub_moe, 0700), 0);
    stories_write_gguf(&f.s, 0, GGML_F32, f.gguf);
    stories_write_gguf(&f.s, STORIES_EXPERTS, GGML_F32, f.gguf_moe);
    stories_write_hub(&f.s, 0, f.hub);
    stories_write_hub(&f.s, STORIES_EXPERTS, f.hub_moe);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    if (!f)
        return 0;
    test_folder_remove(f->folder);
    json_decref(f->golden);
    free(f->s.file);
    return 0;
}

static const fixture *data_or_skip(void **state) {
    if (!*state) {
        print_message("no stories260K in $ANEMO_TEST_DATA\n");
        skip();
    }
    return *state;
}

static void check(const fixture *f, const char *what, const char *path) {
    static const int chunks[] = {13, 1, 0};
    const int64_t windows[] = {0, 16};
    for (int i = 0; i < 2; i++) {
        const json_t *golden = golden_of(f, windows[i]);
        int wrong[2];
        const double at_once = run_error(f, path, windows[i], NULL, golden, &wrong[0]);
        const double in_chunks = run_error(f, path, windows[i], chunks, golden, &wrong[1]);
        print_message("%s, window %d: error %.2g at once, %.2g in chunks\n", what, (int)windows[i],
                      at_once, in_chunks);
        assert_true(at_once <= BOUND);
        assert_true(in_chunks <= BOUND);
        assert_int_equal(wrong[0] + wrong[1], 0);
    }
}

static void test_gguf(void **state) {
    const fixture *f = data_or_skip(state);
    check(f, "GGUF", f->gguf);
}

static void test_hub(void **state) {
    const fixture *f = data_or_skip(state);
    check(f, "safetensors", f->hub);
}

static void test_copies_as_experts(void **state) {
    const fixture *f = data_or_skip(state);
    check(f, "GGUF, 4 copies as experts", f->gguf_moe);
    check(f, "safetensors, 4 copies as experts", f->hub_moe);
}

/* The golden sees one key more or less. */
static void test_wrong_windows_miss(void **state) {
    const fixture *f = data_or_skip(state);
    const int64_t wrong[] = {15, 17, 0};
    for (int i = 0; i < 3; i++) {
        int wrong_argmax;
        const double error = run_error(f, f->gguf, wrong[i], NULL, golden_of(f, 16), &wrong_argmax);
        print_message("window %d for 16: error %.2g\n", (int)wrong[i], error);
        assert_true(isfinite(error) && error >= 10 * BOUND);
    }
}

/* Negative log-likelihood per token of the golden text, by the reference kernels. */
static double mean_nll(const fixture *f, const char *path) {
    const run_case c = {.path = path, .window = 0, .reference = true};
    run_result r = run_model(&c, f->ids, f->n);
    double total = 0;
    for (int64_t i = 0; i < f->n; i++) {
        const float *row = r.logits + i * r.vocab;
        double sum = 0;
        for (int64_t j = 0; j < r.vocab; j++)
            sum += exp(row[j]);
        total += log(sum) - row[f->ids[i + 1]];
    }
    run_result_free(&r);
    return total / (double)f->n;
}

/* Every type whose blocks fit rows of 64: all but the K-quants, whose blocks have 256 values. The
 * down projection has rows of 172 values and stays F32 in every quantised form, as with other
 * writers. Bounds: what the type's rounding costs this model, two to four times over; a wrong
 * nibble order or scale costs several nats. */
static void test_weight_types(void **state) {
    const fixture *f = data_or_skip(state);
    static const struct {
        const char *name;
        uint32_t type;
        double bound; /* nats per token */
    } types[] = {{"F16", 1, 1e-3},  {"BF16", 30, 0.01},  {"Q8_0", 8, 0.01},
                 {"Q5_1", 7, 0.05}, {"Q5_0", 6, 0.05},   {"Q4_1", 3, 0.2},
                 {"Q4_0", 2, 0.2},  {"IQ4_NL", 20, 0.2}, {"MXFP4", 39, 0.4}};
    const double exact = mean_nll(f, f->gguf);
    char path[600];
    snprintf(path, sizeof path, "%s/typed.gguf", f->folder);
    print_message("%-8s perplexity %.4f\n", "F32", exp(exact));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        remove(path);
        stories_write_gguf(&f->s, 0, types[i].type, path);
        const double nll = mean_nll(f, path);
        print_message("%-8s perplexity %.4f, %+.4f nats per token (bound %.3f)\n", types[i].name,
                      exp(nll), nll - exact, types[i].bound);
        assert_true(fabs(nll - exact) <= types[i].bound);
        assert_true(nll != exact); /* it was quantised */
    }
    for (uint32_t k = 12; k <= 14; k++) {
        anemo_weight_type type;
        int64_t block, bytes;
        const char *name;
        assert_true(anemo_ggml_type(k, &type, &block, &bytes, &name));
        assert_int_not_equal(f->s.d % block, 0);
        print_message("%-8s does not fit rows of %d values\n", name, f->s.d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_hub),
        cmocka_unit_test(test_copies_as_experts),
        cmocka_unit_test(test_wrong_windows_miss),
        cmocka_unit_test(test_weight_types),
    };
    return cmocka_run_group_tests_name("stories260K", tests, set_up, tear_down);
}
