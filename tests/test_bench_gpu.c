/* The bench on a GPU, on the emulated one (tests/emulated): kernels of every op and a model are
 * checked, timed by events around graphs, held against probes, and recorded; what cannot be is
 * refused; NVML there and not there. Its times are those of an emulation: none is asserted but to
 * be a positive number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "emulated_gpu.h"
#include "harness/measure/bench_kernel.h"
#include "harness/measure/bench_model.h"
#include "harness/measure/bench_targets.h"
#include "tests/support/asserts.h"
#include "tests/support/run_program.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAKE_NVML ANEMO_PLUGIN_DIR "/fake_nvml.so"
#define NO_NVML   "/nowhere/libnvidia-ml.so.1"

static anemo_device *gpu(void) {
    anemo_device *device = NULL;
    anemo_error err = {{0}};
    if (anemo_device_create_cuda(0, &device, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    return device;
}

/* ---------------------------------------------------------------- rotation */

/* Over the whole cycle, and into the next: every set in range, all of a round different, and at
 * least half of them between two uses of one. */
static void sets_take_turns(void **state) {
    (void)state;
    for (int64_t n = 1; n <= 40; n++) {
        for (int64_t n_args = 1; n_args <= 40; n_args++) {
            const int64_t n_calls = (n_args + n - 1) / n * n;
            int64_t last[40], uses = 0;
            for (int64_t i = 0; i < n_args; i++)
                last[i] = -1;
            for (int64_t i = 0; i < 2 * n_calls; i++) {
                const int64_t turn = bench_turn(i % n_calls, n_calls, n_args);
                assert_true(turn >= 0 && turn < n_args);
                if (last[turn] >= 0)
                    assert_true(2 * (i - last[turn]) >= n_args);
                uses += last[turn] < 0;
                last[turn] = i;
            }
            assert_true(2 * uses >= n_args);
            if (n_calls % n_args == 0)
                assert_int_equal(uses, n_args);
        }
    }
}

/* ---------------------------------------------------------------- kernels */

typedef struct seen {
    const char *op, *caches; /* of every record */
    int32_t records, impossible;
    int64_t most_calls;
    bool has_roof, watched;
} seen;

static void text_is(anemo_record *record, const char *section, const char *key, const char *value) {
    const char *text = anemo_record_get_text(record, section, key);
    if (!text || strcmp(text, value) != 0)
        fail_msg("%s.%s is %s, not %s", section ? section : "record", key, text ? text : "absent",
                 value);
}

static double metric_of(anemo_record *record, const char *name) {
    anemo_metric m;
    if (!anemo_record_find_metric(record, name, &m))
        fail_msg("no metric %s", name);
    assert_true(isfinite(m.value) && m.value > 0 && m.lo <= m.value && m.value <= m.hi);
    return m.value;
}

static void look_at_state(anemo_record *record, const seen *s) {
    if (!s->watched) {
        assert_contains(anemo_record_get_text(record, "machine", "gpu_not_watched"),
                        "is not installed");
        assert_null(anemo_record_get_text(record, "machine", "gpu_driver"));
        assert_int_equal(anemo_record_get_integer(record, "sampling", "throttled"), -1);
        assert_true(isnan(anemo_record_get_number(record, "sampling", "multiprocessor_hz")));
        return;
    }
    anemo_metric time;
    assert_true(anemo_record_find_metric(record, "time", &time));
    text_is(record, "machine", "gpu_driver", "1.2.3");
    text_is(record, "sampling", "throttle_reasons", "software power cap, hardware thermal");
    assert_int_equal(anemo_record_get_integer(record, "sampling", "throttled"), time.n);
    assert_near(anemo_record_get_number(record, "sampling", "multiprocessor_hz"), 1.5e9, 1);
    assert_near(anemo_record_get_number(record, "sampling", "gpu_watts"), 250, 1e-9);
    bool reason = false;
    const char *code;
    for (size_t i = 0; (code = anemo_record_get_reason(record, i)); i++)
        reason = reason || strcmp(code, "throttled") == 0;
    assert_true(reason);
}

static bool look(void *ctx, anemo_record *record) {
    seen *s = ctx;
    s->records++;
    text_is(record, "solution", "backend", "cuda");
    text_is(record, "machine", "device", "emulated GPU");
    text_is(record, "case", "op", s->op);
    text_is(record, "case", "cache", s->caches);
    text_is(record, "sampling", "launch", "graph");
    assert_contains(anemo_record_get_text(record, NULL, "repro"), " --device cuda");
    assert_int_equal(anemo_record_get_integer(record, "machine", "gpu_l2_bytes"),
                     -1); /* a number */
    assert_near(anemo_record_get_number(record, "machine", "gpu_l2_bytes"), 64 << 10, 0);
    if (strcmp(anemo_record_get_text(record, NULL, "status"), "failed") == 0) {
        anemo_metric none;
        assert_false(anemo_record_get_metric(record, 0, &none));
        assert_contains(anemo_record_get_text(record, NULL, "why"), "samples cannot be");
        s->impossible++;
        return true;
    }
    text_is(record, NULL, "status", "passed");
    text_is(record, "sampling", "clock", "device events");
    const int64_t calls = anemo_record_get_integer(record, "sampling", "calls_per_sample");
    assert_true(calls >= 1);
    s->most_calls = calls > s->most_calls ? calls : s->most_calls;
    metric_of(record, "time");
    metric_of(record, "ceiling_read");
    metric_of(record, "ceiling_bf16");
    if (s->has_roof) {
        assert_true(metric_of(record, "roof_fraction") < 1);
        assert_non_null(anemo_record_get_text(record, "sampling", "binding_ceiling"));
    }
    look_at_state(record, s);
    return true;
}

typedef struct fates {
    int32_t measured, impossible, wrong;
} fates;

static void count(void *ctx, const anemo_bench_table *table) {
    fates *f = ctx;
    for (int32_t i = 0; i < table->n_lines; i++) {
        const anemo_bench_line *line = &table->lines[i];
        assert_int_equal(line->variant->backend, ANEMO_CUDA);
        f->measured += line->fate == ANEMO_BENCH_MEASURED;
        f->impossible += line->fate == ANEMO_BENCH_IMPOSSIBLE;
        f->wrong += line->fate == ANEMO_BENCH_INCORRECT;
        if (line->fate == ANEMO_BENCH_INCORRECT)
            print_error("%s: %s\n", line->variant->name, line->why);
    }
}

/* One case; its records are looked at. */
static fates bench(const char *const *names, int32_t n_names, const char *shape,
                   anemo_caches caches, const char *nvml, seen *s) {
    static const int64_t one[] = {1};
    char *folder = test_folder_create(), path[512];
    anemo_device *device = gpu();
    anemo_record_sink *sink = NULL;
    anemo_error err = {{0}};
    fates f = {0};
    int32_t wrong = 0;
    anemo_bench_kernel_options o = {.names = names,
                                    .n_names = n_names,
                                    .shape = shape,
                                    .m = one,
                                    .n_m = 1,
                                    .weights = "q4_0",
                                    .caches = caches,
                                    .seed = 5,
                                    .nvml = nvml};
    snprintf(path, sizeof path, "%s/records.jsonl", folder);
    assert_int_equal(anemo_stop_parse("n:6,cap:5s", &o.stop, NULL), ANEMO_OK);
    assert_int_equal(anemo_record_sink_open(path, &sink, &err), ANEMO_OK);
    if (anemo_bench_kernel(device, &o, sink, count, &f, &wrong, &err) != ANEMO_OK)
        fail_msg("%s: %s", names[0], err.text);
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    assert_int_equal(wrong, 0);
    s->caches = anemo_caches_name(caches);
    anemo_record_read_report report;
    assert_int_equal(anemo_record_read(path, look, s, &report, &err), ANEMO_OK);
    anemo_device_free(device);
    test_folder_remove(folder);
    return f;
}

/* The quickest variant of each op, and what is not the quickest but a graph of several kernels. */
static void every_op_is_timed(void **state) {
    (void)state;
    static const struct {
        const char *op, *name, *other, *shape;
        bool has_roof;
    } cases[] = {
        {"qgemm", "qgemm_w4a16_gemv_sm80", "qgemm_wxa32_warp_sm80", "n=64,k=128", true},
        {"moe_experts", "moe_experts_wxa32_warp_sm80", "moe_experts_w4a32_fused_sm80",
         "d=64,ffn=64,experts=4", true},
        {"swa", "swa_warp_sm80", "swa_split_sm80",
         "heads=4,kv_heads=2,head_dim=64,context=100,decode=1", true},
        {"add_rmsnorm", "add_rmsnorm_block_sm80", NULL, "1b/norm", false},
        {"rope_append", "rope_append_block_sm80", NULL, "1b/rope", false},
        {"quantize_act", "quantize_act_bf16_sm80", "quantize_act_a8_g32_sm80", "1b/act", false},
        {"sample", "sample_block_sm80", NULL, "1b/greedy", false},
        {"moe_route", "moe_route_warp_sm80", NULL, "mixtral-8x7b/route", false},
        {"moe_combine", "moe_combine_thread_sm80", NULL, "mixtral-8x7b/combine", false}};
    int64_t most_calls = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const names[] = {cases[i].name, cases[i].other};
        const int32_t n = cases[i].other ? 2 : 1;
        seen s = {.op = cases[i].op, .has_roof = cases[i].has_roof};
        const fates f = bench(names, n, cases[i].shape, ANEMO_CACHES_COLD_WEIGHTS, NO_NVML, &s);
        assert_int_equal(f.measured, n);
        assert_int_equal(s.records, n);
        most_calls = s.most_calls > most_calls ? s.most_calls : most_calls;
    }
    assert_true(most_calls > 1); /* a graph of several */
}

/* An embedding has no small shape by name: only its arm. */
static void an_embedding_is_right(void **state) {
    (void)state;
    static const bench_shape shape = {ANEMO_OP_EMBED, "test/embed", "1", "", false, {64, 96}};
    anemo_device *device = gpu();
    anemo_device *host = NULL;
    anemo_error err = {{0}};
    assert_int_equal(anemo_device_create_cpu(1, NULL, &host, &err), ANEMO_OK);
    bench_setup setup = {.device = device, .host = host, .weights = "q4_0", .seed = 3};
    assert_true(bench_weight_type("q4_0", &setup.type));
    bench_case *c;
    bench_arm *arm;
    bench_verdict verdict;
    assert_int_equal(bench_op_embed.create(&shape, 3, &setup, &c, &err), ANEMO_OK);
    const anemo_variant *v = anemo_variant_find("embed_block_sm80");
    if (bench_op_embed.arm_create(c, v, &arm, &err) || bench_op_embed.check(arm, &verdict, &err))
        fail_msg("%s", err.text);
    assert_true(verdict.error <= 1);
    bench_op_embed.arm_destroy(arm);
    bench_op_embed.destroy(c);
    assert_true(anemo_device_held_bytes(device, ANEMO_MEM_STEP) == 0);
    assert_true(anemo_device_held_bytes(device, ANEMO_MEM_WEIGHTS) == 0);
    anemo_device_free(device);
    anemo_device_free(host);
}

static const char *const one_gemv[] = {"qgemm_w4a16_gemv_sm80"};

static void caches_have_their_name(void **state) {
    (void)state;
    static const anemo_caches all[] = {ANEMO_CACHES_WARM, ANEMO_CACHES_COLD};
    for (int i = 0; i < 2; i++) {
        seen s = {.op = "qgemm", .has_roof = true};
        const fates f = bench(one_gemv, 1, "n=64,k=128", all[i], NO_NVML, &s);
        assert_int_equal(f.measured, 1);
        assert_true(all[i] == ANEMO_CACHES_WARM || s.most_calls == 1);
    }
}

static void throttling_is_counted(void **state) {
    (void)state;
    setenv("ANEMO_FAKE_NVML", "throttled", 1);
    seen s = {.op = "qgemm", .has_roof = true, .watched = true};
    const fates f = bench(one_gemv, 1, "n=64,k=128", ANEMO_CACHES_WARM, FAKE_NVML, &s);
    assert_int_equal(f.measured, 1);
    unsetenv("ANEMO_FAKE_NVML");
}

static void nvml_may_not_know_the_gpu(void **state) {
    (void)state;
    char lack[200];
    anemo_device *device = gpu();
    setenv("ANEMO_FAKE_NVML", "elsewhere", 1);
    assert_null(anemo_gpu_watch_open(device, FAKE_NVML, lack, sizeof lack));
    assert_contains(lack, "does not know the GPU at 0000:01:00.0");
    assert_null(anemo_gpu_watch_open(device, NO_NVML, lack, sizeof lack));
    assert_contains(lack, "is not installed");
    setenv("ANEMO_FAKE_NVML", "silent", 1);
    anemo_gpu_watch *watch = anemo_gpu_watch_open(device, FAKE_NVML, lack, sizeof lack);
    assert_non_null(watch);
    const anemo_gpu_state told = anemo_gpu_watch_read(watch);
    assert_true(isnan(told.multiprocessor_hz) && isnan(told.watts) && !told.throttle_told);
    anemo_gpu_watch_close(watch);
    unsetenv("ANEMO_FAKE_NVML");
    anemo_device_free(device);
}

/* ---------------------------------------------------------------- targets */

typedef struct judged {
    anemo_target_verdict verdict[4];
    double value[4];
    int n;
} judged;

static void take_verdict(void *ctx, const anemo_target_line *line) {
    judged *j = ctx;
    assert_true(j->n < 4);
    if (line->variant)
        assert_contains(line->variant, "_sm80");
    j->verdict[j->n] = line->verdict;
    j->value[j->n++] = line->value.value;
}

static bool look_at_target(void *ctx, anemo_record *record) {
    int32_t *n = ctx;
    anemo_metric m;
    text_is(record, "solution", "backend", "cuda");
    if (anemo_record_find_metric(record, "measured", &m) && strcmp(m.unit, "us") == 0)
        ++*n;
    return true;
}

/* A CPU's variants do not fit; of two that do one is chosen; a call takes between a nanosecond and
 * a second; both absolute measures are of the same time. */
static void targets_are_judged(void **state) {
    (void)state;
    static const char text[] = "group g\n"
                               "arm a qgemm n=64,k=128 m=1 q4_0 name=*_w4a16_gemv_*\n"
                               "arm none qgemm n=64,k=128 m=1 q4_0 name=*_avx2\n"
                               "target us a <= 1e-3 too much\n"
                               "target tops a <= 1e5 little\n"
                               "target read a >= 1e-9 far below\n"
                               "target us none <= 1 nobody\n";
    char *folder = test_folder_create(), path[512], records[512];
    snprintf(path, sizeof path, "%s/test.targets", folder);
    snprintf(records, sizeof records, "%s/records.jsonl", folder);
    test_write_file(path, text, sizeof text - 1);
    anemo_device *device = gpu();
    anemo_target_file file;
    anemo_record_sink *sink;
    anemo_targets_options options = {.seed = 3};
    anemo_error err = {{0}};
    judged j = {.n = 0};
    int32_t wrong, n = 0;
    assert_int_equal(anemo_target_file_read(path, &file, &err), ANEMO_OK);
    assert_int_equal(anemo_record_sink_open(records, &sink, &err), ANEMO_OK);
    assert_int_equal(anemo_stop_parse("n:6,cap:5s", &options.stop, &err), ANEMO_OK);
    if (anemo_bench_targets(device, &file, &options, sink, take_verdict, &j, &wrong, &err))
        fail_msg("%s", err.text);
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    assert_int_equal(j.n, 4);
    assert_int_equal(j.verdict[0], ANEMO_TARGET_MISSED);
    assert_int_equal(j.verdict[1], ANEMO_TARGET_MET);
    assert_int_equal(j.verdict[2], ANEMO_TARGET_MET);
    assert_int_equal(j.verdict[3], ANEMO_TARGET_NOT_MEASURED);
    assert_true(j.value[0] > 1e-3 && j.value[0] < 1e6);
    assert_near(j.value[0] * j.value[1] / (2 * 64 * 128 * 1e-6), 1, 1e-9);
    anemo_record_read_report report;
    assert_int_equal(anemo_record_read(records, look_at_target, &n, &report, &err), ANEMO_OK);
    assert_int_equal(n, 1);
    anemo_target_file_free(&file);
    anemo_device_free(device);
    test_folder_remove(folder);
}

/* ---------------------------------------------------------------- what cannot be */

/* Events that tell a ten millionth of the time: nobody reads 4.6 KB in so little. */
static void impossible_times_are_refused(void **state) {
    (void)state;
    emulated_graph_rate(1e-7);
    seen s = {.op = "qgemm", .has_roof = true};
    const fates f = bench(one_gemv, 1, "n=64,k=128", ANEMO_CACHES_COLD, NO_NVML, &s);
    emulated_graph_rate(1);
    assert_int_equal(f.impossible, 1);
    assert_int_equal(f.measured, 0);
    assert_int_equal(s.records, 1);
    assert_int_equal(s.impossible, 1);
}

/* 100 samples of 10 us; one of them at the floor, or just below it. */
static void the_floor_is_exact(void **state) {
    (void)state;
    enum { N = 100 };
    double ns[N], *arms[] = {ns};
    int32_t batch[N] = {0};
    for (int i = 0; i < N; i++)
        ns[i] = 1e4;
    const anemo_samples samples = {.n_arms = 1, .n = N, .ns = arms, .batch = batch};
    bench_ceilings ceilings = {.peak = {[ANEMO_CEILING_READ] = 1e12, [ANEMO_CEILING_BF16] = 1e15}};
    bench_roof roof = {
        .bytes = 9e6, .certain_bytes = 8e6, .ops = 1e9, .arithmetic = ANEMO_CEILING_BF16};
    bench_result r;
    ns[7] = 8000;
    assert_int_equal(bench_evaluate(&samples, 0, &ceilings, &roof, &r, NULL), ANEMO_OK);
    assert_int_equal(r.impossible, 0);
    assert_false(r.invalid);
    ns[7] = 7999;
    assert_int_equal(bench_evaluate(&samples, 0, &ceilings, &roof, &r, NULL), ANEMO_OK);
    assert_int_equal(r.impossible, 1);
    assert_true(r.invalid);
    assert_string_equal(r.defect,
                        "1 of 100 samples cannot be: 7.999 us, and the hardware needs 8 us "
                        "for 8 MB at its peak of 1000 GB/s");
    roof.certain_bytes = 0; /* warm: only arithmetic, 1 us */
    assert_int_equal(bench_evaluate(&samples, 0, &ceilings, &roof, &r, NULL), ANEMO_OK);
    assert_int_equal(r.impossible, 0);
    roof.ops = 1.1e10;
    assert_int_equal(bench_evaluate(&samples, 0, &ceilings, &roof, &r, NULL), ANEMO_OK);
    assert_int_equal(r.impossible, N);
    assert_contains(r.defect, "GOP/s");
}

/* ---------------------------------------------------------------- probes */

static void probes_find_ceilings(void **state) {
    (void)state;
    anemo_device *device = gpu();
    anemo_probe *probe = NULL;
    anemo_error err = {{0}};
    const anemo_clock clock = anemo_clock_raw();
    if (anemo_probe_create(device, &clock, 0, &probe, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    assert_true(anemo_probe_buffer_bytes(probe) >= 16 * anemo_device_cache_bytes(device));
    static const struct {
        anemo_ceiling ceiling;
        const char *form;
    } there[] = {{ANEMO_CEILING_READ, "read_"},
                 {ANEMO_CEILING_FP32, "fp32_fma_sm80"},
                 {ANEMO_CEILING_BF16, "bf16_"}};
    for (size_t i = 0; i < sizeof there / sizeof *there; i++) {
        anemo_probe_value value;
        if (anemo_probe_measure(probe, there[i].ceiling, &value, &err) != ANEMO_OK)
            fail_msg("%s", err.text);
        assert_true(value.per_second > 0 && isfinite(value.per_second));
        assert_contains(value.form, there[i].form);
        print_message("%s: %.3g/s by %s\n", anemo_ceiling_name(there[i].ceiling), value.per_second,
                      value.form);
    }
    anemo_probe_value value;
    anemo_probe_pace pace;
    assert_int_equal(anemo_probe_measure(probe, ANEMO_CEILING_INT8_AMX, &value, &err), ANEMO_OK);
    assert_null(value.form);
    assert_int_equal(anemo_probe_measure_pace(probe, ANEMO_CEILING_FP32, &pace, &err), ANEMO_OK);
    assert_null(pace.form);
    assert_int_equal(anemo_probe_evict(probe, &err), ANEMO_OK);
    anemo_probe_free(probe);
    for (int use = 0; use < ANEMO_MEM_USES; use++)
        assert_true(anemo_device_held_bytes(device, (anemo_memory_use)use) == 0);
    anemo_device_free(device);
}

/* What the data sheets of an A100 and an H100 say, from what their drivers tell. */
static void peaks_are_those_of_data_sheets(void **state) {
    (void)state;
    anemo_device *device = gpu();
    bench_gpu g;
    anemo_error err = {{0}};
    assert_int_equal(bench_gpu_open(device, NO_NVML, &g, &err), ANEMO_OK);
    assert_near(bench_gpu_peak(&g, ANEMO_CEILING_READ), 2 * 1.2e9 * 5120 / 8, 1);
    assert_near(bench_gpu_peak(&g, ANEMO_CEILING_BF16), 2048 * 1.4e9, 1); /* one multiprocessor */
    assert_near(bench_gpu_peak(&g, ANEMO_CEILING_INT8), 4096 * 1.4e9, 1);
    bench_gpu_close(&g);
    assert_int_equal(bench_gpu_open(device, FAKE_NVML, &g, &err), ANEMO_OK); /* higher clocks */
    assert_near(bench_gpu_peak(&g, ANEMO_CEILING_READ), 2 * 3.201e9 * 5120 / 8, 1);
    assert_near(bench_gpu_peak(&g, ANEMO_CEILING_BF16), 2048 * 1.98e9, 1);
    bench_gpu_close(&g);
    anemo_device_free(device);
}

/* ---------------------------------------------------------------- a model */

static bool look_at_model(void *ctx, anemo_record *record) {
    int32_t *n = ctx;
    ++*n;
    text_is(record, NULL, "status", "passed");
    text_is(record, "solution", "backend", "cuda");
    text_is(record, "sampling", "clock", "CLOCK_MONOTONIC_RAW");
    assert_contains(anemo_record_get_text(record, "machine", "gpu_not_watched"), "not installed");
    assert_contains(anemo_record_get_text(record, NULL, "repro"), " --device cuda");
    metric_of(record, "time");
    metric_of(record, "ceiling_bf16");
    return true;
}

static void a_model_is_timed(void **state) {
    (void)state;
    char *folder = test_folder_create(), path[512];
    anemo_device *device = gpu();
    anemo_record_sink *sink = NULL;
    anemo_error err = {{0}};
    anemo_bench_model_options o = {
        .spec = {.path = "synth:mistral-7b:q4_0:d=64:ffn=64:heads=2:kv_heads=1:head_dim=32:"
                         "layers=1:vocab=128",
                 .prompt_tokens = 3,
                 .generated_tokens = 3,
                 .seed = 1},
        .batch = {1, 2},
        .n_batch = 2,
        .energy.nvml = NO_NVML};
    anemo_bench_model_report report;
    snprintf(path, sizeof path, "%s/records.jsonl", folder);
    assert_int_equal(anemo_stop_parse("n:6,cap:5s", &o.stop, NULL), ANEMO_OK);
    assert_int_equal(anemo_record_sink_open(path, &sink, &err), ANEMO_OK);
    const int32_t before = emulated_graph_launches();
    if (anemo_bench_model(device, &o, sink, &report, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    assert_true(emulated_graph_launches() > before + 6); /* decode steps */
    assert_true(report.on_gpu);
    assert_contains(report.gpu_lack, "is not installed");
    assert_int_equal(report.n_lines, 3);
    anemo_bench_model_report_free(&report);
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    int32_t n = 0;
    anemo_record_read_report read;
    assert_int_equal(anemo_record_read(path, look_at_model, &n, &read, &err), ANEMO_OK);
    assert_int_equal(n, 3);
    anemo_device_free(device);
    test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_take_turns),
        cmocka_unit_test(every_op_is_timed),
        cmocka_unit_test(an_embedding_is_right),
        cmocka_unit_test(caches_have_their_name),
        cmocka_unit_test(throttling_is_counted),
        cmocka_unit_test(nvml_may_not_know_the_gpu),
        cmocka_unit_test(targets_are_judged),
        cmocka_unit_test(impossible_times_are_refused),
        cmocka_unit_test(the_floor_is_exact),
        cmocka_unit_test(probes_find_ceilings),
        cmocka_unit_test(peaks_are_those_of_data_sheets),
        cmocka_unit_test(a_model_is_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
