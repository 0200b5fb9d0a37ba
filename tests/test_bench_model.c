/* 'bench model': its rooflines by hand, a whole run over a small random model and what is recorded
 * of it, and composition from a few layers. No wall-clock time is asserted. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/measure/bench_kernel.h"
#include "harness/measure/composed.h"
#include "tests/support/asserts.h"
#include "tests/support/random_model.h"
#include "tests/support/run_program.h"

static anemo_device *open_device(void) {
    anemo_device *device;
    anemo_error err = {""};
    assert_int_equal(anemo_device_create_cpu(1, NULL, &device, &err), ANEMO_OK);
    return device;
}

static void test_model_roofs(void **state) {
    (void)state;
    anemo_model_info info = {.vocab = 1000,
                             .d = 64,
                             .ffn = 128,
                             .layers = 3,
                             .heads = 4,
                             .kv_heads = 2,
                             .head_dim = 16,
                             .active_parameters = 1e6,
                             .active_weight_bytes = 5e5};
    bench_engine e = {.info = &info};
    e.spec = (bench_engine_spec){
        .prompt_tokens = 100, .generated_tokens = 20, .chunk_tokens = 64, .kv_type = "f16"};
    /* 110 positions of K and V in f16 in 3 layers, for each of 4 sessions. */
    bench_roof roof = bench_decode_roof(&e, 4);
    assert_near(roof.bytes, 5e5 + 4 * 110.0 * 2 * 2 * 2 * 16 * 3, 1e-6);
    assert_near(roof.ops, 4 * (2e6 + 4 * 110.0 * 4 * 16 * 3), 1e-6);
    info.window = 50; /* no more than the window is read */
    assert_near(bench_decode_roof(&e, 1).bytes, 5e5 + 50.0 * 2 * 2 * 2 * 16 * 3, 1e-6);
    roof = bench_prefill_roof(&e); /* two chunks read the weights twice; logits for one row,
                                       which alone leaves the last layer */
    assert_near(roof.bytes, 1e6, 1e-6);
    assert_near(roof.ops, 100 * (2e6 - 128e3) + 128e3 - 99 * 2.0 * 64 * (64 + 3 * 128), 1e-6);
    /* 2 of 8 experts are active: 8 tokens touch 8 (1 - 0.75^8) of them. */
    info.window = 0;
    info.experts = 8;
    info.experts_per_token = 2;
    assert_near(bench_prefill_roof(&e).ops,
                100 * (2e6 - 128e3) + 128e3 - 99 * 2.0 * 64 * (64 + 3 * 128 * 2 + 8), 1e-6);
    const double all = 3.0 * 64 * 128 * 3 * 8 * 0.5;
    const double more = (1 - pow(0.75, 8) - 0.25) * all;
    assert_near(bench_decode_roof(&e, 8).bytes, 5e5 + more + 8 * 110.0 * 2 * 2 * 2 * 16 * 3, 1e-3);
}

/* Steps are held against what serves their rows: a prompt in other instructions than a token. */
static void test_arithmetic_by_rows(void **state) {
    (void)state;
    const char *const with[] = {"qgemm:m=8..=qgemm_w16a16_tile_avx512bf16"};
    const anemo_variant *v = anemo_variant_find("qgemm_w16a16_tile_avx512bf16");
    if (!v || (v->needs.cpu_features & ~anemo_cpu_features())) {
        skip();
    }
    char *folder = test_folder_create();
    random_model_write(folder, 3);
    anemo_device *device = open_device();
    anemo_error err = {""};
    for (int32_t n_with = 0; n_with <= 1; n_with++) {
        const bench_engine_spec spec = {.path = folder,
                                        .with = with,
                                        .n_with = n_with,
                                        .prompt_tokens = 20,
                                        .generated_tokens = 4,
                                        .chunk_tokens = 16,
                                        .batch_max = 2,
                                        .kv_type = "f16"};
        bench_engine *e;
        if (bench_engine_open(device, &spec, &e, &err)) {
            fail_msg("%s", err.text);
        }
        const anemo_ceiling prompt = n_with ? ANEMO_CEILING_BF16 : ANEMO_CEILING_FP32;
        assert_int_equal(bench_engine_arithmetic(e, 7), ANEMO_CEILING_FP32);
        assert_int_equal(bench_engine_arithmetic(e, 8), prompt);
        assert_int_equal(bench_prefill_roof(e).arithmetic, prompt);
        assert_int_equal(bench_decode_roof(e, 2).arithmetic, ANEMO_CEILING_FP32);
        bench_engine_close(e);
    }
    anemo_device_free(device);
    test_folder_remove(folder);
}

static anemo_bench_model_options small_model(const char *path) {
    anemo_bench_model_options o = {
        .spec = {.path = path, .prompt_tokens = 20, .generated_tokens = 12, .seed = 4},
        .batch = {1, 3},
        .n_batch = 2,
        .demo = true};
    assert_int_equal(anemo_stop_parse("n:6,cap:60s", &o.stop, NULL), ANEMO_OK);
    return o;
}

static bool look_at_model(void *ctx, anemo_record *record) {
    int32_t *n = ctx;
    anemo_metric time, rate;
    const int64_t batch = anemo_record_get_integer(record, "case", "batch");
    assert_true(anemo_record_get_flag(record, NULL, "demo"));
    assert_non_null(strstr(anemo_record_get_text(record, "solution", "choices"), "qgemm"));
    assert_true(anemo_record_get_number(record, "solution", "resident_bytes") > 0);
    if (*n == 0) {
        assert_true(anemo_record_find_metric(record, "ttft", &time));
        assert_true(anemo_record_find_metric(record, "prefill_rate", &rate));
        assert_near(rate.value * time.value, 20, 1e-6);
    } else {
        assert_true(anemo_record_find_metric(record, "tpot", &time));
        assert_true(anemo_record_find_metric(record, "throughput", &rate));
        assert_near(rate.value * time.value, (double)batch, 1e-6);
        assert_near(rate.lo * time.hi, (double)batch, 1e-6);
        assert_true(anemo_record_find_metric(record, "itl_p95", &time)); /* 66 gaps */
        assert_false(anemo_record_find_metric(record, "itl_p99", &time));
    }
    ++*n;
    return true;
}

static void test_bench_model(void **state) {
    (void)state;
    char *folder = test_folder_create(), path[512];
    random_model_write(folder, 3);
    snprintf(path, sizeof path, "%s/records.jsonl", folder);
    anemo_device *device = open_device();
    anemo_record_sink *sink;
    anemo_bench_model_report report;
    anemo_error err = {""};
    assert_int_equal(anemo_record_sink_open(path, &sink, &err), ANEMO_OK);
    anemo_bench_model_options options = small_model(folder);
    const anemo_status status = anemo_bench_model(device, &options, sink, &report, &err);
    if (status) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(report.n_lines, 3);
    for (int i = 0; i < 3; i++) {
        const anemo_bench_model_line *line = &report.line[i];
        assert_int_equal(line->batch, i == 0 ? 0 : options.batch[i - 1]);
        assert_int_equal(line->result.time_s.n, 6);
        assert_true(line->result.time_s.value > 0);
        assert_true(line->result.roof.value > 0);
        assert_int_equal(line->itl_s[0].known, i > 0);
    }
    anemo_bench_model_report_free(&report);
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    int32_t n = 0;
    assert_int_equal(anemo_record_read(path, look_at_model, &n, NULL, &err), ANEMO_OK);
    assert_int_equal(n, 3);

    static const char *const rule[] = {"qgemm=qgemm_nope"};
    const struct {
        int64_t prompt, tokens, batch;
        const char *const *with;
        const char *says;
    } bad[] = {{1 << 20, 5, 1, NULL, "context"},
               {5, 1, 1, NULL, "at least 1 and 2"},
               {5, 5, 0, NULL, "batch 0"},
               {5, 5, 1, rule, "qgemm_nope"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        options = small_model(folder);
        options.spec.prompt_tokens = bad[i].prompt;
        options.spec.generated_tokens = bad[i].tokens;
        options.batch[0] = bad[i].batch;
        options.spec.with = bad[i].with;
        options.spec.n_with = bad[i].with != NULL;
        assert_int_equal(anemo_bench_model(device, &options, NULL, &report, &err), ANEMO_E_INPUT);
        assert_non_null(strstr(err.text, bad[i].says));
        anemo_bench_model_report_free(&report);
    }
    anemo_device_free(device);
    test_folder_remove(folder);
}

/* t(L) = 7 + 3 L is composed without error; a layer that costs more the more there are shows. */
static void test_composition(void **state) {
    (void)state;
    const int64_t counts[] = {1, 3, 6};
    const double straight[] = {10, 16, 25};
    assert_near(anemo_composed_total(counts, straight, 32), 7 + 3 * 32, 1e-9);
    assert_near(anemo_composed_error(counts, straight), 0, 1e-12);
    const double bent[] = {10, 16, 26};
    assert_near(anemo_composed_total(counts, bent, 32), 10 + 31 * 3.2, 1e-9);
    assert_near(anemo_composed_error(counts, bent), 25.0 / 26 - 1, 1e-12);
    /* Every other layer sees everything and costs 5 instead of 3: whole periods leave no error. */
    static const bool alternating[] = {false, true, false, true, false, true, false},
                      alike[] = {true, true, true}, mixed[] = {true, false, false, false};
    assert_int_equal(anemo_composed_period(alternating, 7), 2);
    assert_int_equal(anemo_composed_period(alike, 3), 1);
    assert_int_equal(anemo_composed_period(mixed, 4), 4);
    for (int64_t layers = 24; layers <= 25; layers++) {
        const int64_t set[] = {1, 2, 4};
        int64_t c[3];
        double t[3];
        anemo_composed_spread(set, 2, layers, c);
        for (int i = 0; i < 3; i++) {
            assert_int_equal((layers - c[i]) % 2, 0);
            t[i] = 7 + 3.0 * (double)((c[i] + 1) / 2) + 5.0 * (double)(c[i] / 2);
        }
        assert_near(anemo_composed_total(c, t, layers),
                    7 + 3.0 * (double)((layers + 1) / 2) + 5.0 * (double)(layers / 2), 1e-9);
        assert_near(anemo_composed_error(c, t), 0, 1e-12);
    }
    assert_true(anemo_is_composable("synth:mistral-7b:q4_0"));
    assert_false(anemo_is_composable("synth:mistral-7b:q4_0:layers=2"));
    assert_false(anemo_is_composable("./synth"));

    anemo_device *device = open_device();
    anemo_composed_report report;
    anemo_composed_options options = {.model = small_model("synth:mistral-7b:q4_0"),
                                      .memory_bytes = 200e6};
    anemo_error err = {""};
    assert_int_equal(anemo_composed_run(device, &options, NULL, &report, &err), ANEMO_E_MEMORY);
    assert_non_null(strstr(err.text, "the limit is 0.2 GiB"));
    anemo_composed_report_free(&report);
    memcpy(options.counts, (int64_t[]){1, 3, 33}, sizeof options.counts);
    assert_int_equal(anemo_composed_run(device, &options, NULL, &report, &err), ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "ascending"));
    anemo_composed_report_free(&report);
    options.model.spec.path = "synth:nothing:q4_0";
    assert_int_equal(anemo_composed_run(device, &options, NULL, &report, &err), ANEMO_E_INPUT);
    anemo_composed_report_free(&report);
    anemo_device_free(device);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_roofs),
        cmocka_unit_test(test_arithmetic_by_rows),
        cmocka_unit_test(test_bench_model),
        cmocka_unit_test(test_composition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
