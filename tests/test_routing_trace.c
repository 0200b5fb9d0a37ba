/* Routing traces: what a plan's routers chose, written by `anemo run --routing`, read by `bench
 * kernel moe_experts --routing trace:`; and the load of experts that `bench model` shows. */
#include "harness/measure/bench_model.h"
#include "harness/measure/route_watch.h"
#include "harness/measure/routing.h"
#include "tests/support/asserts.h"
#include "tests/support/random_model.h"
#include "tests/support/run_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static anemo_error err;

/* ---------------------------------------------------------------- by hand */

/* Two layers, two steps: three tokens, then one. */
static const int32_t first[2][6] = {{3, 1, 3, 0, 3, 2}, {0, 1, 0, 1, 0, 1}};
static const int32_t second[2][2] = {{2, 3}, {1, 0}};

static void test_load_by_hand(void **state) {
    (void)state;
    anemo_route_load load;
    assert_true(anemo_route_load_begin(&load, 4));
    for (int32_t l = 0; l < 2; l++)
        anemo_route_load_see(&load, l, 3, 2, first[l], NULL);
    anemo_route_load_end(&load);
    assert_int_equal(load.calls, 2);
    assert_true(load.touched == (4 + 2) / 2.0);
    assert_true(load.imbalance == (3 / 1.5 + 3 / 1.5) / 2); /* 6 rows over 4 experts: 1.5 each */
    assert_true(anemo_route_load_begin(&load, 4));
    anemo_route_load_end(&load);
    assert_true(load.calls == 0 && load.touched == 0 && load.imbalance == 0);
}

static void test_trace_by_hand(void **state) {
    (void)state;
    anemo_route_trace *trace = anemo_route_trace_create();
    for (int32_t l = 0; l < 2; l++)
        anemo_route_trace_see(trace, l, 3, 2, first[l], NULL);
    for (int32_t l = 0; l < 2; l++)
        anemo_route_trace_see(trace, l, 1, 2, second[l], NULL);
    assert_int_equal(anemo_route_trace_tokens(trace), 8);
    char *folder = test_folder_create(), path[512], option[600];
    snprintf(path, sizeof path, "%s/t", folder);
    FILE *out = fopen(path, "w");
    assert_int_equal(anemo_route_trace_write(trace, "M", out, &err), ANEMO_OK);
    fclose(out);
    size_t bytes;
    char *text = test_read_file(path, &bytes);
    assert_string_equal(text, "# experts of each token as the routers of M chose them, best first\n"
                              "# layer 0, step 0: 3 tokens\n3 1\n3 0\n3 2\n"
                              "# layer 0, step 1: 1 token\n2 3\n"
                              "# layer 1, step 0: 3 tokens\n0 1\n0 1\n0 1\n"
                              "# layer 1, step 1: 1 token\n1 0\n");
    bench_routing routing;
    snprintf(option, sizeof option, "trace:%s", path);
    assert_int_equal(bench_routing_create(option, &routing, &err), ANEMO_OK);
    assert_int_equal(routing.tokens, 8);
    assert_int_equal(routing.per_token, 2);
    const int32_t want[] = {3, 1, 3, 0, 3, 2, 2, 3, 0, 1, 0, 1, 0, 1, 1, 0};
    assert_memory_equal(routing.expert, want, sizeof want);
    bench_routing_free(&routing);
    free(text);
    anemo_route_trace_free(trace);
    test_folder_remove(folder);
}

/* ---------------------------------------------------------------- the commands */

/* The embedded model: 8 experts, 2 of them per token. */
static void test_run_and_bench(void **state) {
    (void)state;
    char *folder = test_folder_create(), path[512], option[600];
    snprintf(path, sizeof path, "%s/sort.trace", folder);
    snprintf(option, sizeof option, "trace:%s", path);
    program_result r = program_run("run", "--prompt", "sort 6075983=", "--tokens", "4", "--threads",
                                   "1", "--routing", path);
    if (r.code)
        fail_msg("%s", r.err);
    program_result_free(&r);
    bench_routing routing;
    if (bench_routing_create(option, &routing, &err))
        fail_msg("%s", err.text);
    char *text = test_read_file(path, NULL);
    int layers = 0, steps = 0;
    for (const char *at = text; (at = strstr(at, "# layer ")); at++) {
        layers += strstr(at, ", step 0:") == strchr(at, ',');
        steps += strncmp(at, "# layer 0,", 10) == 0;
    }
    assert_true(layers >= 2);
    assert_int_equal(steps, 4); /* the prompt, and three tokens that go back in */
    assert_int_equal(routing.per_token, 2);
    assert_int_equal(routing.tokens % layers, 0);
    assert_true(routing.tokens / layers > 4);
    bench_routing_free(&routing);
    free(text);
    r = program_run("bench", "kernel", "moe_experts", "--shape", "default/uniform", "--m", "4",
                    "--routing", option, "--stop", "n:2", "--threads", "1");
    if (r.code)
        fail_msg("%s%s", r.out, r.err);
    assert_contains(r.out, "routing=trace:sort.trace");
    program_result_free(&r);
    test_folder_remove(folder);
}

/* Nothing is left behind where there is nothing to write, or nowhere. */
static void test_refused(void **state) {
    (void)state;
    char *folder = test_folder_create(), model[512], path[512];
    snprintf(model, sizeof model, "%s/dense.gguf", folder);
    snprintf(path, sizeof path, "%s/t", folder);
    program_result r = program_run("synth", "synth:tiny:q4_0:layers=1:vocab=1000", model);
    if (r.code)
        fail_msg("%s", r.err);
    program_result_free(&r);
    r = program_run("run", model, "--prompt", "x", "--tokens", "1", "--routing", path);
    assert_int_equal(r.code, 2);
    assert_contains(r.err, "has no experts");
    assert_int_equal(access(path, F_OK), -1);
    program_result_free(&r);
    r = program_run("run", "--prompt", "x", "--tokens", "1", "--routing", "/nowhere/t");
    assert_int_equal(r.code, 6);
    assert_contains(r.err, "--routing /nowhere/t: No such file");
    program_result_free(&r);
    test_folder_remove(folder);
}

static void test_bench_model_shows_load(void **state) {
    (void)state;
    char *folder = test_folder_create(), records[512];
    random_model_write(folder, 3);
    snprintf(records, sizeof records, "%s/r.jsonl", folder);
    program_result r =
        program_run("bench", "model", folder, "--prompt", "12", "--tokens", "3", "--batch", "1,4",
                    "--stop", "n:2", "--threads", "1", "--record", records);
    if (r.code != 0 && r.code != 5)
        fail_msg("%s%s", r.out, r.err);
    assert_contains(r.out, "experts  max/mean");
    assert_contains(r.out, " of 4 ");
    assert_contains(r.out, "Experts: those with a token in a step");
    char *text = test_read_file(records, NULL);
    assert_contains(text, "\"experts_touched\"");
    assert_contains(text, "\"load_max_over_mean\"");
    free(text);
    program_result_free(&r);
    r = program_run("bench", "model",
                    "synth:mixtral-8x7b:q4_0:d=64:ffn=128:heads=4:kv_heads=2:head_dim=16:vocab=512",
                    "--prompt", "4", "--tokens", "3", "--batch", "1", "--stop", "n:2", "--threads",
                    "1");
    if (r.code != 0 && r.code != 5)
        fail_msg("%s%s", r.out, r.err);
    assert_contains(r.out, "composed");
    assert_contains(r.out, "2 of 8         4"); /* of one token: 2 experts, 1 over 2/8 */
    program_result_free(&r);
    test_folder_remove(folder);
}

/* One token goes to as many experts as the model gives it, and each of those has one row. */
static void test_load_of_one_token(void **state) {
    (void)state;
    char *folder = test_folder_create();
    random_model_write(folder, 3);
    anemo_device *device;
    assert_int_equal(anemo_device_create_cpu(1, NULL, &device, &err), ANEMO_OK);
    const anemo_bench_model_options options = {
        .spec = {.path = folder, .prompt_tokens = 12, .generated_tokens = 3},
        .batch = {1, 4},
        .n_batch = 2,
        .stop = {.kind = ANEMO_STOP_COUNT, .count = 2}};
    anemo_bench_model_report report;
    anemo_record_sink *sink;
    assert_int_equal(anemo_record_sink_open(NULL, &sink, &err), ANEMO_OK);
    if (anemo_bench_model(device, &options, sink, &report, &err))
        fail_msg("%s", err.text);
    const double k = (double)report.info.experts_per_token, n = (double)report.info.experts;
    assert_true(report.line[1].load.calls == 2 * report.info.layers);
    assert_true(report.line[1].load.touched == k);
    assert_true(report.line[1].load.imbalance == n / k);
    assert_true(report.line[2].load.touched >= k && report.line[2].load.touched <= n);
    assert_true(report.line[0].load.calls == report.info.layers);
    anemo_bench_model_report_free(&report);
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    anemo_device_free(device);
    test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_by_hand),           cmocka_unit_test(test_trace_by_hand),
        cmocka_unit_test(test_run_and_bench),          cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bench_model_shows_load), cmocka_unit_test(test_load_of_one_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
