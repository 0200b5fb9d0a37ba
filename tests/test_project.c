/* Projection to machine kinds that were not measured: the factors by hand, what is refused, and
 * that no purchase ever rests on one. */
#include "harness/cost/date.h"
#include "harness/cost/project.h"
#include "harness/cost/verdict.h"
#include "tests/support/run_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PURCHASE ANEMO_TEST_DIR "/../results/examples/purchase.json"
#define OWNED    4 /* of its options: hgx-h200-8 */

static anemo_reference reference;
static int32_t day;

static int open_reference(void **state) {
    (void)state;
    return !anemo_date_parse("2026-11-26", &day) ||
           anemo_reference_read_folder(ANEMO_TEST_DIR "/../results/reference", &reference, NULL);
}

static int close_reference(void **state) {
    (void)state;
    anemo_reference_free(&reference);
    return 0;
}

static anemo_machine_kind kind(const char *subject) {
    anemo_machine_kind k = {0};
    anemo_error err = {0};
    if (anemo_project_kind(&reference, subject, day, &k, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    return k;
}

/* Of a dense model with 2 bytes per weight on an H100; batch 0: a prefill. */
static anemo_record *record_of(int64_t prompt, int64_t batch, double seconds) {
    anemo_record *r = anemo_record_create(ANEMO_RECORD_MODEL);
    anemo_record_text(r, NULL, "status", "passed");
    anemo_record_integer(r, "case", "prompt_tokens", prompt);
    anemo_record_integer(r, "case", "generated_tokens", 1024);
    anemo_record_integer(r, "case", "batch", batch ? batch : 1);
    anemo_record_number(r, "case", "parameters", 7e9);
    anemo_record_number(r, "case", "weight_bytes", 14e9);
    anemo_record_number(r, "case", "active_weight_bytes", 14e9);
    anemo_record_number(r, "solution", "resident_bytes", 15e9);
    anemo_record_integer(r, "machine", "gpu_capability", 90);
    anemo_record_metric(r, batch ? "tpot" : "ttft", "s", true, seconds, seconds, seconds, 30);
    return r;
}

static void add_class(anemo_record *r, const char *class, double seconds) {
    char name[48];
    snprintf(name, sizeof name, "ledger/%s", class);
    anemo_record_metric(r, name, "s", true, seconds, seconds, seconds, 30);
}

/* Frees the record. */
static double factor_of(anemo_record *r, const char *from, const char *to) {
    const anemo_machine_kind a = kind(from), b = kind(to);
    anemo_error err = {0};
    double factor = NAN;
    if (anemo_project_record(r, &a, &b, &factor, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    anemo_record_free(r);
    return factor;
}

static void near(double got, double wanted) {
    if (!(fabs(got - wanted) < 1e-9 * wanted))
        fail_msg("%.12g, expected %.12g", got, wanted);
}

/* H100 to H200: 3.35 to 4.8 TB/s, the same 989 Top/s, so the ridge moves from 295 to 206 operations
 * per byte. */
static void steps_go_by_what_they_wait_for(void **state) {
    (void)state;
    const char *a = "h100-sxm-80gb", *b = "h200-sxm-141gb";
    near(factor_of(record_of(512, 16, 0.01), a, b), 3.35 / 4.8);
    near(factor_of(record_of(2048, 0, 0.01), a, b), 1);
    near(factor_of(record_of(512, 250, 0.01), a, b), 250 / 989e12 * 3.35e12); /* between them */
    near(factor_of(record_of(512, 16, 0.01), a, a), 1);
    near(factor_of(record_of(2048, 0, 0.01), a, "h100-pcie-80gb"), 989 / 756.5);
    near(anemo_project_sd(&(anemo_machine_kind){.read = 1, .peak = 1},
                          &(anemo_machine_kind){.read = 2, .peak = 2}),
         0.15);
    assert_true(anemo_project_sd(&(anemo_machine_kind){.read = 1, .peak = 1},
                                 &(anemo_machine_kind){.read = 2, .peak = 1}) > 0.37);
}

static void classes_go_each_their_way(void **state) {
    (void)state;
    const char *a = "h100-sxm-80gb", *b = "h200-sxm-141gb";
    anemo_record *r = record_of(2048, 0, 1); /* a prefill */
    add_class(r, "launch/host", 0.1);
    add_class(r, "qkv", 0.2);       /* computes */
    add_class(r, "attention", 0.2); /* computes */
    add_class(r, "norms", 0.3);     /* reads */
    add_class(r, "output", 0.2);    /* one row: reads */
    near(factor_of(r, a, b), 0.5 + 0.5 * 3.35 / 4.8);
    r = record_of(2048, 256, 1); /* a decode step */
    add_class(r, "attention", 0.5);
    add_class(r, "experts", 0.5); /* 256 rows: between the ridges */
    near(factor_of(r, a, b), 0.5 * 3.35 / 4.8 + 0.5 * 256 / 989e12 * 3.35e12);
    r = record_of(2048, 256, 1); /* of 256 rows 64 reach an expert */
    anemo_record_number(r, "case", "active_weight_bytes", 3.5e9);
    add_class(r, "experts", 1);
    near(factor_of(r, a, b), 3.35 / 4.8);
}

static void refused(const char *from, const char *to, anemo_record *r, const char *part) {
    anemo_machine_kind a, b;
    anemo_error err = {0};
    double factor;
    anemo_status status = anemo_project_kind(&reference, from, day, &a, &err);
    if (!status)
        status = anemo_project_kind(&reference, to, day, &b, &err);
    if (!status)
        status = anemo_project_allowed(&a, &b, &err);
    if (!status && r)
        status = anemo_project_record(r, &a, &b, &factor, &err);
    anemo_record_free(r);
    if (status == ANEMO_OK || !strstr(err.text, part))
        fail_msg("%s to %s: status %d, '%s' is not in '%s'", from, to, (int)status, part, err.text);
}

static void what_cannot_be_known_is_refused(void **state) {
    (void)state;
    const char *a = "h100-sxm-80gb", *b = "h200-sxm-141gb";
    refused(a, "b200-sxm-180gb", NULL, "cannot calibrate another architecture");
    refused(a, "epyc-9755", NULL, "say nothing about a CPU");
    refused("epyc-9755", a, NULL, "say nothing about a GPU");
    refused("epyc-9654", "epyc-9755", NULL, "cannot calibrate another architecture");
    refused(a, a, NULL, "nothing to project");
    refused(a, "mi300x", NULL, "what peak_bf16, unit op/s to machines.jsonl");
    refused("abacus", b, NULL, "what bandwidth, unit byte/s");
    anemo_record *r = record_of(512, 1, 0.01);
    anemo_record_integer(r, "machine", "gpu_capability", 80);
    refused(a, b, r, "its architecture is 80, not 90");
    r = record_of(512, 1, 0.01);
    anemo_record_number(r, "solution", "resident_bytes", 90e9);
    refused(b, a, r, "do not fit");
    r = record_of(512, 1, 0.01); /* a CPU of the right kind, two of its cores */
    anemo_record_integer(r, "machine", "gpu_capability", 0);
    anemo_record_integer(r, "machine", "family", 26);
    anemo_record_integer(r, "machine", "model", 2);
    anemo_record_integer(r, "machine", "sockets", 1);
    anemo_record_integer(r, "machine", "cores", 2);
    refused("epyc-9755", "epyc-9575f", r, "made on 2 cores; a whole epyc-9755 has 128");
}

/* ---------------------------------------------------------------- in a scenario */

/* The purchase with this capacity, beside records of an H100. The folder is the caller's. */
static char *scenario_with(json_t *capacity, char *path, size_t path_bytes) {
    static const int64_t prompts[] = {512, 2048, 8192};
    char *folder = test_folder_create(), *text = test_read_file(PURCHASE, NULL);
    anemo_record_sink *sink;
    snprintf(path, path_bytes, "%s/h100.jsonl", folder);
    assert_int_equal(anemo_record_sink_open(path, &sink, NULL), ANEMO_OK);
    for (int i = 0; i < 4; i++) {
        anemo_record *r =
            i < 3 ? record_of(prompts[i], 0, 2e-5 * (double)prompts[i]) : record_of(512, 16, 0.02);
        assert_int_equal(anemo_record_write(sink, r, NULL), ANEMO_OK);
        anemo_record_free(r);
    }
    assert_int_equal(anemo_record_sink_close(sink, NULL), ANEMO_OK);
    json_t *root = json_loads(text, 0, NULL);
    json_object_set_new(json_array_get(json_object_get(root, "options"), OWNED), "capacity",
                        capacity);
    snprintf(path, path_bytes, "%s/s.json", folder);
    json_dump_file(root, path, 0);
    json_decref(root);
    free(text);
    return folder;
}

static void no_purchase_rests_on_a_projection(void **state) {
    (void)state;
    char path[600];
    char *folder = scenario_with(json_pack("{s:i, s:s, s:[s]}", "batch", 16, "project_from",
                                           "h100-sxm-80gb", "records", "h100.jsonl"),
                                 path, sizeof path);
    anemo_cost_scenario *s = calloc(1, sizeof *s);
    anemo_error err = {0};
    if (anemo_cost_scenario_read(path, &reference, day, 90, s, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    const anemo_cost_capacity *c = &s->choice[OWNED].capacity;
    int32_t first = s->model.option[OWNED].first;
    near(s->x[first + ANEMO_B_S_IN], 2e-5);
    near(s->x[first + ANEMO_B_S_OUT], 0.02 / 16 * 3.35 / 4.8);
    for (int i = ANEMO_B_S_IN; i <= ANEMO_B_SPEED; i++)
        assert_int_equal(s->number[first + i].origin.class_, ANEMO_CLASS_PROJECTED);
    assert_true(c->projected && !c->measured_here && c->projected_sd > 0.15);
    assert_true(s->number[first + ANEMO_B_SPEED].low < exp(-1.6 * c->projected_sd));
    assert_int_equal(anemo_cost_best_owned(s), OWNED);
    anemo_cost_outcome out[ANEMO_COST_OPTIONS_MAX] = {0};
    for (int32_t percent = 0; percent <= 100; percent++) {
        anemo_verdict v;
        out[OWNED].probability = percent / 100.0;
        anemo_cost_judge(s, out, &v);
        assert_int_not_equal(v.kind, ANEMO_BUY);
        if (percent >= 80) {
            assert_int_equal(v.money, ANEMO_BUY);
            assert_int_equal(v.kind, ANEMO_UNDECIDED);
            assert_non_null(strstr(v.next, "rent one for an hour"));
        }
    }
    program_result r = program_run("cost", path, "--as-of", "2026-11-26", "--draws", "200");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "(projected to that machine kind)"));
    assert_non_null(strstr(r.out, "projected from h100-sxm-80gb to hgx-h200-8"));
    program_result_free(&r);
    r = program_run("report", path, "--as-of", "2026-11-26", "--draws", "200");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "% projected"));
    assert_non_null(strstr(r.out, "and projected to this machine kind, of which nothing"));
    assert_non_null(strstr(r.out, "deviation of the projection"));
    program_result_free(&r);
    free(s);
    test_folder_remove(folder);
}

static void scenarios_that_cannot_project_are_refused(void **state) {
    (void)state;
    const struct {
        json_t *capacity;
        const char *part;
    } cases[] = {
        {json_pack("{s:s}", "project_from", "h100-sxm-80gb"),
         "on it run: anemo bench model MODEL --ledger"},
        {json_pack("{s:s, s:[s], s:s}", "project_from", "h100-sxm-80gb", "records", "h100.jsonl",
                   "class", "measured"),
         "neither mixes nor class"},
        {json_pack("{s:s, s:[s], s:i}", "project_from", "h100-sxm-80gb", "records", "h100.jsonl",
                   "units", 2),
         "several units"},
        {json_pack("{s:s, s:[s]}", "project_from", "a100-sxm-80gb", "records", "h100.jsonl"),
         "cannot calibrate another architecture"},
        {json_pack("{s:s, s:[s]}", "project_from", "hgx-h200-8", "records", "h100.jsonl"),
         "nothing to project"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[600];
        char *folder = scenario_with(cases[i].capacity, path, sizeof path);
        anemo_cost_scenario *s = calloc(1, sizeof *s);
        anemo_error err = {0};
        assert_int_equal(anemo_cost_scenario_read(path, &reference, day, 90, s, &err),
                         ANEMO_E_INPUT);
        if (!strstr(err.text, cases[i].part))
            fail_msg("'%s' is not in '%s'", cases[i].part, err.text);
        free(s);
        test_folder_remove(folder);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_go_by_what_they_wait_for),
        cmocka_unit_test(classes_go_each_their_way),
        cmocka_unit_test(what_cannot_be_known_is_refused),
        cmocka_unit_test(no_purchase_rests_on_a_projection),
        cmocka_unit_test(scenarios_that_cannot_project_are_refused),
    };
    return cmocka_run_group_tests(tests, open_reference, close_reference);
}
