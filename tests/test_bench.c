/* The bench: shapes and weights, evaluation against ceilings with exact numbers, and whole small
 * runs on the embedded default model's shapes. Right kernels are measured and recorded, wrong ones
 * are caught before they are timed. No wall-clock time is asserted. Models: test_bench_model.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/measure/bench_kernel.h"
#include "tests/support/asserts.h"
#include "tests/support/run_program.h"

/* ---------------------------------------------------------------- shapes and weights */

static void test_shapes(void **state) {
    (void)state;
    int n_short = 0;
    for (int32_t i = 0; i < anemo_shape_count(); i++) {
        const bench_shape *shape = anemo_shape_at(i);
        int64_t m[ANEMO_SHAPE_ROWS];
        assert_true(anemo_shape_rows(shape->rows, m, ANEMO_SHAPE_ROWS) > 0);
        n_short += shape->is_short;
        for (int32_t j = 0; j < i; j++) {
            assert_true(shape->op != anemo_shape_at(j)->op ||
                        strcmp(shape->name, anemo_shape_at(j)->name) != 0);
        }
    }
    assert_true(n_short >= 3);
    int64_t m[3];
    assert_int_equal(anemo_shape_rows("1,4,16", m, 3), 3);
    assert_int_equal(m[2], 16);
    static const char *const bad[] = {"", "0", "1,", ",1", "1,,2", "x", "1,2,3,4", "-1", "70000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(anemo_shape_rows(bad[i], m, 3), -1);
    }
    const bench_shape shape = {.name = "mistral-7b/qkv"};
    assert_true(anemo_shape_matches(&shape, "mistral-7b"));
    assert_true(anemo_shape_matches(&shape, "mistral-7b/qkv"));
    assert_false(anemo_shape_matches(&shape, "mistral-7"));
    assert_false(anemo_shape_matches(&shape, "mistral-7b/qk"));
}

/* The presets against what the models' configurations say. */
static void test_presets(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t k, n0, n1, n2;
    } known[] = {
        {"mistral-7b/qkv", 4096, 4096, 1024, 1024}, {"mixtral-8x7b/gate_up", 4096, 14336, 14336, 0},
        {"mixtral-8x22b/o", 6144, 6144, 0, 0},      {"codestral-22b/down", 16384, 6144, 0, 0},
        {"nemo-12b/o", 4096, 5120, 0, 0},           {"nemo-12b/head", 5120, 131072, 0, 0},
        {"small-3-24b/up", 5120, 32768, 0, 0},      {"gpt-oss-20b/qkv", 2880, 4096, 512, 512},
        {"gpt-oss-20b/head", 2880, 201088, 0, 0}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const bench_shape *found = NULL;
        for (int32_t j = 0; j < anemo_shape_count(); j++) {
            if (strcmp(anemo_shape_at(j)->name, known[i].name) == 0) {
                found = anemo_shape_at(j);
            }
        }
        assert_non_null(found);
        assert_int_equal(found->op, ANEMO_OP_QGEMM);
        assert_memory_equal(found->number, &known[i].k, 4 * sizeof(int64_t));
    }
}

static void test_custom_shapes(void **state) {
    (void)state;
    anemo_custom_shape c, again;
    anemo_error err = {""};
    assert_int_equal(anemo_shape_custom(ANEMO_OP_QGEMM, "m=64,k=4096,n=14336", &c, &err), ANEMO_OK);
    assert_string_equal(c.shape.name, "n=14336,k=4096");
    assert_string_equal(c.shape.rows, "64");
    assert_int_equal(c.shape.number[0], 4096);
    assert_int_equal(c.shape.number[1], 14336);
    assert_int_equal(anemo_shape_custom(ANEMO_OP_QGEMM, c.name, &again, &err), ANEMO_OK);
    assert_string_equal(again.name, c.name);
    assert_int_equal(anemo_shape_custom(ANEMO_OP_SWA, "heads=8,kv_heads=2,window=100", &c, &err),
                     ANEMO_OK);
    assert_string_equal(c.shape.name,
                        "heads=8,kv_heads=2,head_dim=128,window=100,context=0,decode=0");
    static const struct {
        anemo_op op;
        const char *text;
    } bad[] = {{ANEMO_OP_QGEMM, ""},
               {ANEMO_OP_QGEMM, "n=5"},
               {ANEMO_OP_QGEMM, "n=5,k=4,"},
               {ANEMO_OP_QGEMM, "n=5,k=4,d=3"},
               {ANEMO_OP_QGEMM, "n=5,k=0"},
               {ANEMO_OP_QGEMM, "n=5,k=7"},
               {ANEMO_OP_QGEMM, "n=5,k=4x"},
               {ANEMO_OP_QGEMM, "n=5,k=4,m=0"},
               {ANEMO_OP_MOE_EXPERTS, "d=64,ffn=64,experts=2,top_k=3"},
               {ANEMO_OP_SWA, "heads=8,kv_heads=3"},
               {ANEMO_OP_SAMPLE, "m=1"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(anemo_shape_custom(bad[i].op, bad[i].text, &c, &err), ANEMO_E_INPUT);
    }
}

static anemo_device *open_device(void) {
    anemo_device *device;
    anemo_error err = {""};
    assert_int_equal(anemo_device_create_cpu(1, NULL, &device, &err), ANEMO_OK);
    return device;
}

/* What the norms say is what the rows hold; rows differ; copies are equal. */
static void test_weights(void **state) {
    (void)state;
    enum { N = 37, K = 192 };
    anemo_device *device = open_device();
    static const char *const names[] = {"q4_0", "q8_0", "bf16"};
    for (int t = 0; t < 3; t++) {
        anemo_weight_type type;
        assert_true(bench_weight_type(names[t], &type));
        bench_weight *w = bench_weight_create(device, &type, N, K, 5);
        assert_non_null(w);
        void *scratch = malloc(anemo_weight_scratch_bytes(K));
        float row[K], first[K];
        double all_squares = 0;
        for (int r = 0; r < N; r++) {
            anemo_weight_row_f32(&w->canonical, r, row, scratch);
            double squares = 0;
            for (int i = 0; i < K; i++) {
                squares += (double)row[i] * row[i];
            }
            assert_near(sqrt(squares), w->norm[r], 1e-6 * w->norm[r]);
            assert_true(w->part_norm[r] >= w->norm[r] * (1 - 1e-12));
            if (r == 0) {
                memcpy(first, row, sizeof row);
            } else {
                assert_memory_not_equal(first, row, sizeof row);
            }
            all_squares += squares;
        }
        assert_near(sqrt(all_squares / N), 1.1, 0.5); /* sd about 1 / sqrt(K) */
        bench_copies copies;
        anemo_error err = {""};
        assert_int_equal(bench_copies_create(device, device, w, NULL, 3, &copies, &err), ANEMO_OK);
        const anemo_weight *third = copies.argument[2];
        assert_ptr_not_equal(third->data, w->canonical.data);
        anemo_weight_row_f32(third, 0, row, scratch);
        assert_memory_equal(first, row, sizeof row);
        bench_copies_free(&copies);
        bench_weight_free(w);
        free(scratch);
    }
    anemo_weight_type type;
    assert_false(bench_weight_type("q7_1", &type));
    anemo_device_free(device);
}

/* ---------------------------------------------------------------- evaluation */

/* Two batches; read 16 GB/s before, 24 between, 16 after: both are held against the mean, 20. The
 * one probe of arithmetic counts for both. */
static void test_evaluate(void **state) {
    (void)state;
    enum { N = 20 };
    anemo_probe_value values[3][ANEMO_CEILING_COUNT] = {0};
    values[0][ANEMO_CEILING_READ].per_second = 16e9;
    values[1][ANEMO_CEILING_READ].per_second = 24e9;
    values[2][ANEMO_CEILING_READ].per_second = 16e9;
    values[1][ANEMO_CEILING_INT8].per_second = 1e12;
    bench_ceilings ceilings = {.n = 3, .value = values};
    double ns[N], *arms[] = {ns};
    int32_t batch[N];
    for (int i = 0; i < N; i++) {
        ns[i] = 1e6 * (1 + 0.01 * i);
        batch[i] = i >= N / 2;
    }
    anemo_samples s = {.n_arms = 1, .n = N, .ns = arms, .batch = batch};
    bench_result r;

    bench_roof roof = {.bytes = 10e6, .ops = 1e6, .arithmetic = ANEMO_CEILING_INT8};
    assert_int_equal(bench_evaluate(&s, 0, &ceilings, &roof, &r, NULL), ANEMO_OK);
    assert_int_equal(r.binding, ANEMO_CEILING_READ); /* 0.5 ms for the bytes, 1 us for the ops */
    assert_near(r.time_s.value, 1.095e-3, 1e-12);
    assert_near(r.roof.value, (0.5 / 1.09 + 0.5 / 1.10) / 2, 1e-12);
    assert_near(r.roof.lo, 0.5 / 1.14, 1e-12); /* ranks 6 and 15 */
    assert_near(r.roof.hi, 0.5 / 1.05, 1e-12);
    assert_int_equal(r.above_ceiling, 0);
    assert_false(r.invalid);
    assert_near(r.ceiling[ANEMO_CEILING_READ], 16e9, 0);

    roof = (bench_roof){.bytes = 10e6, .ops = 1.095e9, .arithmetic = ANEMO_CEILING_INT8};
    assert_int_equal(bench_evaluate(&s, 0, &ceilings, &roof, &r, NULL), ANEMO_OK);
    assert_int_equal(r.binding, ANEMO_CEILING_INT8);
    assert_int_equal(r.above_ceiling, 10); /* half of them: noise about a ceiling is no crime */
    assert_false(r.invalid);

    roof.ops = 1.3e9; /* lower bound 1.3 / 1.14: beyond 1.05 */
    assert_int_equal(bench_evaluate(&s, 0, &ceilings, &roof, &r, NULL), ANEMO_OK);
    assert_int_equal(r.above_ceiling, N);
    assert_true(r.invalid);

    roof = (bench_roof){.ops = 1e9, .arithmetic = ANEMO_CEILING_BF16}; /* a peak not probed */
    assert_int_equal(bench_evaluate(&s, 0, &ceilings, &roof, &r, NULL), ANEMO_OK);
    assert_true(isnan(r.roof.value));
    assert_false(r.invalid);
}

/* ---------------------------------------------------------------- wrong kernels */

static const anemo_variant *reference_of(anemo_op op) {
    const anemo_variant *reference = anemo_variant_reference(op);
    assert_non_null(reference);
    return reference;
}

static size_t reference_workspace_qgemm(const void *problem, int32_t n_threads) {
    return anemo_variant_reference(ANEMO_OP_QGEMM)->workspace_bytes(problem, n_threads);
}
static size_t reference_workspace_moe(const void *problem, int32_t n_threads) {
    return anemo_variant_reference(ANEMO_OP_MOE_EXPERTS)->workspace_bytes(problem, n_threads);
}

static size_t no_workspace(const void *problem, int32_t n_threads) {
    (void)problem, (void)n_threads;
    return 0;
}

static bool accepts_all(const void *problem, char *why, size_t why_bytes) {
    (void)problem, (void)why, (void)why_bytes;
    return true;
}

static bool refuses_all(const void *problem, char *why, size_t why_bytes) {
    (void)problem;
    snprintf(why, why_bytes, "it is the wrong day");
    return false;
}

/* The reference, and then one wrong element: row 0, column 3 of the first output. */
static anemo_status one_wrong(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_qgemm_args *a = args;
    const anemo_status status = anemo_variant_reference(ANEMO_OP_QGEMM)->run(exec, problem, args);
    a->y[0][3] *= 1.001f;
    return status;
}

static anemo_status one_nan(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_qgemm_args *a = args;
    const anemo_status status = anemo_variant_reference(ANEMO_OP_QGEMM)->run(exec, problem, args);
    a->y[0][0] = NAN;
    return status;
}

static anemo_status writes_nothing(const anemo_exec *exec, const void *problem, const void *args) {
    (void)exec, (void)problem, (void)args;
    return ANEMO_OK;
}

/* Gate and up taken for each other. */
static anemo_status swapped(const anemo_exec *exec, const void *problem, const void *args) {
    anemo_moe_experts_args a = *(const anemo_moe_experts_args *)args;
    const void *const *gate = a.gate;
    a.gate = a.up;
    a.up = gate;
    return anemo_variant_reference(ANEMO_OP_MOE_EXPERTS)->run(exec, problem, &a);
}

#define WRONG(its_name, its_op, its_run, workspace, its_accepts)                                   \
    {                                                                                              \
        .size = sizeof(anemo_variant), .name = its_name, .op = its_op, .backend = ANEMO_CPU,       \
        .idea = "wrong on purpose", .accepts = its_accepts, .workspace_bytes = workspace,          \
        .run = its_run                                                                             \
    }

static const anemo_variant wrong[] = {
    WRONG("qgemm_test_one_wrong", ANEMO_OP_QGEMM, one_wrong, reference_workspace_qgemm,
          accepts_all),
    WRONG("qgemm_test_one_nan", ANEMO_OP_QGEMM, one_nan, reference_workspace_qgemm, accepts_all),
    WRONG("qgemm_test_nothing", ANEMO_OP_QGEMM, writes_nothing, no_workspace, accepts_all),
    WRONG("moe_test_swapped", ANEMO_OP_MOE_EXPERTS, swapped, reference_workspace_moe, accepts_all),
    WRONG("qgemm_test_refuses", ANEMO_OP_QGEMM, writes_nothing, no_workspace, refuses_all)};
enum { WRONG_ONES = 4 };

static int register_wrong(void **state) {
    (void)state;
    static const anemo_variant *list[WRONG_ONES + 1];
    for (int i = 0; i <= WRONG_ONES; i++) {
        list[i] = &wrong[i];
    }
    static const anemo_plugin plugin = {.size = sizeof plugin,
                                        .abi_major = ANEMO_ABI_MAJOR,
                                        .name = "test_bench",
                                        .n_variants = WRONG_ONES + 1,
                                        .variants = list};
    anemo_error err = {""};
    const anemo_status status = anemo_registry_add(&plugin, &err);
    if (status) {
        print_error("%s\n", err.text);
    }
    return status ? -1 : 0;
}

/* ---------------------------------------------------------------- whole runs */

typedef struct run_log {
    int32_t cases, measured, incorrect, refused;
    char why[256];
} run_log;

static void observe(void *ctx, const anemo_bench_table *table) {
    run_log *log = ctx;
    log->cases++;
    assert_true(table->done <= table->total);
    assert_true(table->c->work.ops > 0);
    for (int32_t i = 0; i < table->n_lines; i++) {
        const anemo_bench_line *line = &table->lines[i];
        log->measured += line->fate == ANEMO_BENCH_MEASURED;
        log->incorrect += line->fate == ANEMO_BENCH_INCORRECT;
        log->refused += line->fate == ANEMO_BENCH_REFUSED;
        if (line->fate == ANEMO_BENCH_INCORRECT) {
            assert_false(line->error <= 1);
            snprintf(log->why, sizeof log->why, "%s", line->why);
        }
        if (line->fate == ANEMO_BENCH_MEASURED) {
            assert_true(line->error <= 1);
            assert_true(line->result.time_s.value > 0);
            assert_true(line->result.roof.value > 0 && isfinite(line->result.roof.value));
            assert_true(line->result.ceiling[ANEMO_CEILING_READ] > 0);
            if (strcmp(line->variant->name, "qgemm_w4a8_tile_avx2") == 0) { /* not VNNI's */
                assert_true(line->result.ceiling[ANEMO_CEILING_INT8_AVX2_U4] > 0);
            }
        }
    }
}

static anemo_bench_kernel_options small(const char *const *names, int32_t n_names) {
    static const int64_t m[] = {3};
    anemo_bench_kernel_options o = {.names = names,
                                    .n_names = n_names,
                                    .shape = "default",
                                    .m = m,
                                    .n_m = 1,
                                    .weights = "q4_0",
                                    .caches = ANEMO_CACHES_COLD_WEIGHTS,
                                    .seed = 3};
    assert_int_equal(anemo_stop_parse("n:8,cap:60s", &o.stop, NULL), ANEMO_OK);
    return o;
}

static anemo_status run_small(const anemo_bench_kernel_options *options, const char *path,
                              run_log *log, int32_t *n_incorrect, anemo_error *err) {
    anemo_device *device = open_device();
    anemo_record_sink *sink;
    assert_int_equal(anemo_record_sink_open(path, &sink, err), ANEMO_OK);
    *log = (run_log){0};
    const anemo_status status =
        anemo_bench_kernel(device, options, sink, observe, log, n_incorrect, err);
    assert_int_equal(anemo_record_sink_close(sink, NULL), ANEMO_OK);
    anemo_device_free(device);
    return status;
}

typedef struct record_log {
    int32_t records, passed, incorrect;
} record_log;

static bool look(void *ctx, anemo_record *record) {
    record_log *log = ctx;
    const char *status = anemo_record_get_text(record, NULL, "status");
    anemo_metric metric;
    log->records++;
    if (strcmp(status, "passed") != 0) {
        assert_string_equal(status, "incorrect");
        assert_false(anemo_record_get_metric(record, 0, &metric)); /* never a time for it */
        log->incorrect++;
        return true;
    }
    log->passed++;
    static const char *const names[] = {"time",      "roof_fraction", "ceiling_read",
                                        "bandwidth", "arithmetic",    "ratio_to_best"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_true(anemo_record_find_metric(record, names[i], &metric));
        assert_true(metric.value > 0 && metric.lo <= metric.value && metric.value <= metric.hi);
    }
    assert_string_equal(anemo_record_get_text(record, "case", "cache"), "cold-weights");
    assert_non_null(anemo_record_get_text(record, "sampling", "binding_ceiling"));
    assert_non_null(strstr(anemo_record_get_text(record, NULL, "repro"), "anemo bench kernel"));
    return true;
}

/* Every op at the default model's shapes: measured, recorded, readable. */
static void test_run_and_record(void **state) {
    (void)state;
    char path[] = "/tmp/anemo_test_bench_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    static const char *const names[] = {"qgemm_c", "qgemm_ref", "moe_experts_c"};
    const anemo_bench_kernel_options options = small(names, 3);
    run_log log;
    int32_t n_incorrect;
    anemo_error err = {""};
    const anemo_status status = run_small(&options, path, &log, &n_incorrect, &err);
    if (status) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(n_incorrect, 0);
    assert_int_equal(log.cases, 3);    /* qkv, head, experts */
    assert_int_equal(log.measured, 5); /* two rivals twice, one alone */
    record_log records = {0};
    assert_int_equal(anemo_record_read(path, look, &records, NULL, &err), ANEMO_OK);
    assert_int_equal(records.records, 5);
    assert_int_equal(records.passed, 5);
    unlink(path);
}

static bool look_at_speedup(void *ctx, anemo_record *record) {
    int32_t *n = ctx;
    anemo_metric metric;
    assert_true(anemo_record_find_metric(record, "speedup", &metric));
    assert_true(metric.lo <= metric.value && metric.value <= metric.hi);
    assert_string_equal(anemo_record_get_text(record, "sampling", "baseline"), "qgemm_ref");
    assert_string_equal(anemo_record_get_text(record, "case", "shape"), "n=40,k=64");
    const char *repro = anemo_record_get_text(record, NULL, "repro");
    assert_non_null(strstr(repro, "--baseline qgemm_ref --shape n=40,k=64 --m 2"));
    if (strcmp(anemo_record_get_text(record, "solution", "variant"), "qgemm_ref") == 0) {
        assert_near(metric.value, 1, 0);
    }
    ++*n;
    return true;
}

/* A baseline runs although nobody named it, and everything is held against it. */
static void test_baseline(void **state) {
    (void)state;
    char path[] = "/tmp/anemo_test_bench_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    static const char *const names[] = {"qgemm_c"};
    anemo_bench_kernel_options options = small(names, 1);
    options.shape = "m=2,n=40,k=64";
    options.n_m = 0;
    options.baseline = "qgemm_ref";
    run_log log;
    int32_t n_incorrect, n = 0;
    anemo_error err = {""};
    assert_int_equal(run_small(&options, path, &log, &n_incorrect, &err), ANEMO_OK);
    assert_int_equal(log.measured, 2);
    assert_int_equal(anemo_record_read(path, look_at_speedup, &n, NULL, &err), ANEMO_OK);
    assert_int_equal(n, 2);
    options.baseline = "swa_c";
    assert_int_equal(run_small(&options, path, &log, &n_incorrect, &err), ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "--baseline swa_c"));
    unlink(path);
}

static void test_wrong_kernels_are_not_timed(void **state) {
    (void)state;
    char path[] = "/tmp/anemo_test_bench_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (int i = 0; i < WRONG_ONES; i++) {
        const char *const names[] = {wrong[i].name};
        const anemo_bench_kernel_options options = small(names, 1);
        run_log log;
        int32_t n_incorrect;
        anemo_error err = {""};
        assert_int_equal(run_small(&options, path, &log, &n_incorrect, &err), ANEMO_OK);
        assert_true(log.cases > 0);
        assert_int_equal(n_incorrect, log.cases); /* each case caught it */
        assert_int_equal(log.measured, 0);
        assert_non_null(strstr(log.why, "times its bound"));
    }
    record_log records = {0};
    assert_int_equal(anemo_record_read(path, look, &records, NULL, NULL), ANEMO_OK);
    assert_int_equal(records.passed, 0);
    assert_true(records.incorrect >= WRONG_ONES);
    unlink(path);
}

/* The swa check at its own size: a kernel that forgets the scale is caught, the plain one is not.
 */
static anemo_status unscaled(const anemo_exec *exec, const void *problem, const void *args) {
    anemo_swa_problem p = *(const anemo_swa_problem *)problem;
    p.scale *= 1.01f;
    return anemo_variant_reference(ANEMO_OP_SWA)->run(exec, &p, args);
}

static void test_swa_check(void **state) {
    (void)state;
    const anemo_variant *reference = reference_of(ANEMO_OP_SWA);
    anemo_variant bad = *reference;
    bad.name = "swa_test_scale";
    bad.run = unscaled;
    bad.traits = 0;
    anemo_device *device = open_device();
    static const bench_shape shape = {ANEMO_OP_SWA, "test/swa", "1",
                                      "",           false,      {4, 2, 32, 100, 300, 0}};
    bench_setup setup = {.device = device, .weights = "q4_0", .seed = 2};
    bench_case *c;
    bench_arm *arm;
    bench_verdict verdict;
    anemo_error err = {""};
    assert_int_equal(bench_op_swa.create(&shape, 9, &setup, &c, &err), ANEMO_OK);
    assert_true(c->work.kv_bytes > 0);
    assert_int_equal(bench_op_swa.arm_create(c, anemo_variant_find("swa_c"), &arm, &err), ANEMO_OK);
    assert_int_equal(bench_op_swa.check(arm, &verdict, &err), ANEMO_OK);
    assert_true(verdict.error <= 1);
    bench_op_swa.arm_destroy(arm);
    assert_int_equal(bench_op_swa.arm_create(c, &bad, &arm, &err), ANEMO_OK);
    assert_int_equal(bench_op_swa.check(arm, &verdict, &err), ANEMO_OK);
    assert_true(verdict.error > 10);
    bench_op_swa.arm_destroy(arm);
    bench_op_swa.destroy(c);
    anemo_device_free(device);
}

/* A small case of each op of case_dense.c: every variant here passes its check, and the reference
 * with one number off by a little does not. */
static const struct {
    const bench_op *op;
    bench_shape shape;
} dense_cases[] = {
    {&bench_op_add_rmsnorm, {ANEMO_OP_ADD_RMSNORM, "test/norm", "1", "", false, {100, 1}}},
    {&bench_op_add_rmsnorm, {ANEMO_OP_ADD_RMSNORM, "test/plain", "1", "", false, {100, 0}}},
    {&bench_op_rope_append, {ANEMO_OP_ROPE_APPEND, "test/rope", "1", "", false, {4, 2, 32, 0, 99}}},
    {&bench_op_rope_append, {ANEMO_OP_ROPE_APPEND, "test/gguf", "1", "", false, {4, 2, 32, 1, 99}}},
    {&bench_op_quantize_act, {ANEMO_OP_QUANTIZE_ACT, "test/act", "1", "", false, {200}}},
    {&bench_op_embed, {ANEMO_OP_EMBED, "test/embed", "1", "", false, {64, 96}}},
    {&bench_op_sample, {ANEMO_OP_SAMPLE, "test/top-p", "1", "", false, {500, 70, 40, 90}}},
    {&bench_op_moe_route, {ANEMO_OP_MOE_ROUTE, "test/route", "1", "", false, {8, 2, 0, 1}}},
    {&bench_op_moe_combine, {ANEMO_OP_MOE_COMBINE, "test/combine", "1", "", false, {96, 2}}}};
enum { DENSE_CASES = sizeof dense_cases / sizeof *dense_cases };

static const anemo_variant *unspoilt;
static bool spoil_pages; /* of rope_append, not its rows */

static anemo_status spoilt(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_status status = unspoilt->run(exec, problem, args);
    switch (unspoilt->op) {
    case ANEMO_OP_ADD_RMSNORM:
        ((const anemo_add_rmsnorm_args *)args)->y[7] *= 1.0001f;
        break;
    case ANEMO_OP_ROPE_APPEND:
        if (spoil_pages) { /* the key of position 99, slot 35 of its page */
            ((uint16_t *)((const anemo_rope_args *)args)->kv.pool)[35 * 32 + 3] ^= 8;
        } else {
            ((const anemo_rope_args *)args)->k[3] += 0.0001f;
        }
        break;
    case ANEMO_OP_QUANTIZE_ACT:
        ((uint8_t *)((const anemo_quantize_act_args *)args)->out)[199] ^= 1;
        break;
    case ANEMO_OP_EMBED:
        ((const anemo_embed_args *)args)->y[95] += 0.01f;
        break;
    case ANEMO_OP_SAMPLE:
        ((const anemo_sample_args *)args)->ids[2] ^= 1;
        break;
    case ANEMO_OP_MOE_ROUTE:
        ((const anemo_moe_route_args *)args)->plan.weight[1] *= 1.0001f;
        break;
    default:
        ((const anemo_moe_combine_args *)args)->y[95] += 0.0001f;
    }
    return status;
}

static double error_of(const bench_op *op, bench_case *c, const anemo_variant *variant) {
    bench_arm *arm;
    bench_verdict verdict;
    anemo_error err = {""};
    if (op->arm_create(c, variant, &arm, &err) || op->check(arm, &verdict, &err)) {
        fail_msg("%s: %s", variant->name, err.text);
    }
    op->arm_destroy(arm);
    return verdict.error;
}

static void check_dense_case(anemo_device *device, const bench_op *op, const bench_shape *shape,
                             int64_t m) {
    bench_setup setup = {.device = device, .weights = "q4_0", .seed = 3};
    bench_case *c;
    anemo_error err = {""};
    assert_true(bench_weight_type("q4_0", &setup.type));
    assert_int_equal(op->create(shape, m, &setup, &c, &err), ANEMO_OK);
    assert_true(bench_case_bytes(c) > 0 && c->resident);
    for (int32_t i = 0; i < anemo_variant_count(); i++) {
        const anemo_variant *v = anemo_variant_at(i);
        if (v->op != shape->op || !anemo_variant_supports(v, 0, c->problem, NULL, 0)) {
            continue;
        }
        assert_true(error_of(op, c, v) <= 1);
        anemo_variant bad = *v;
        unspoilt = v;
        bad.run = spoilt;
        for (int pages = 0; pages <= (shape->op == ANEMO_OP_ROPE_APPEND); pages++) {
            spoil_pages = pages != 0;
            assert_true(error_of(op, c, &bad) > 1);
        }
    }
    op->destroy(c);
}

static void test_dense_checks(void **state) {
    (void)state;
    anemo_device *device = open_device();
    for (int i = 0; i < DENSE_CASES; i++) {
        check_dense_case(device, dense_cases[i].op, &dense_cases[i].shape, 3);
    }
    anemo_device_free(device);
}

static bool at_once(void) {
    return true;
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *name, *shape, *weights, *says;
    } bad[] = {{"qgemm_nope", "default", "q4_0", "neither an op nor a variant"},
               {"embed", "default", "q4_0", "no bench shape 'default'"},
               {"qgemm", "nope", "q4_0", "no bench shape 'nope'"},
               {"qgemm", "default", "q3", "expected q4_0"},
               {"qgemm_test_refuses", "default", "q4_0", "it is the wrong day"}};
    run_log log;
    int32_t n_incorrect;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        anemo_bench_kernel_options options = small(&bad[i].name, 1);
        options.shape = bad[i].shape;
        options.weights = bad[i].weights;
        anemo_error err = {""};
        assert_int_equal(run_small(&options, NULL, &log, &n_incorrect, &err), ANEMO_E_INPUT);
        assert_non_null(strstr(err.text, bad[i].says));
        assert_int_equal(log.measured, 0);
    }
    static const char *const plain[] = {"qgemm_c"};
    anemo_bench_kernel_options options = small(plain, 1);
    options.interrupted = at_once;
    assert_int_equal(run_small(&options, NULL, &log, &n_incorrect, NULL), ANEMO_E_CANCELLED);
    assert_int_equal(log.cases, 1); /* what was begun is finished with what there is */
}

/* ---------------------------------------------------------------- routing */

static anemo_status read_trace(const char *text, bench_routing *routing, anemo_error *err) {
    char path[] = "trace:/tmp/anemo_test_trace_XXXXXX";
    const int fd = mkstemp(path + 6);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    const anemo_status status = bench_routing_create(path, routing, err);
    unlink(path + 6);
    return status;
}

static void test_routing_texts(void **state) {
    (void)state;
    static const char *const good[] = {"uniform", "single", "zipf:0", "zipf:1.2", "skew:4"};
    static const char *const bad[] = {"",       "zipf",     "zipf:",    "zipf:9",  "zipf:-1",
                                      "zipf:x", "zipf:1 2", "skew:0.5", "uniform2"};
    bench_routing r;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(bench_routing_create(good[i], &r, NULL), ANEMO_OK);
        assert_string_equal(r.name, good[i]);
    }
    anemo_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(bench_routing_create(bad[i], &r, &err), ANEMO_E_INPUT);
        assert_non_null(strstr(err.text, "skew:R"));
    }
    assert_int_equal(bench_routing_create("trace:/nowhere/at/all", &r, &err), ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "/nowhere/at/all"));
    static const char *const bad_traces[] = {
        "",       "# nothing\n", "3 3\n",  "1 2\n3\n", "1, ,2\n", "1 2,\n",    "[1 2\n",
        "1 2]\n", "1 -2\n",      "1 +2\n", "a\n",      "1.5 2\n", "1 70000\n", "1 2 x\n"};
    for (size_t i = 0; i < sizeof bad_traces / sizeof *bad_traces; i++) {
        assert_int_equal(read_trace(bad_traces[i], &r, &err), ANEMO_E_INPUT);
        assert_null(r.expert);
    }
    assert_int_equal(read_trace("1 2\n3 3\n", &r, &err), ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, ":2: "));
}

/* Plan by plan through the trace, and from its start again. */
static void test_routing_trace(void **state) {
    (void)state;
    enum { TOKENS = 2, EXPERTS = 8, TOP_K = 2 };
    bench_routing r;
    anemo_error err = {""};
    assert_int_equal(read_trace("# a layer\n3 5\n[1, 0]\n\n 7,2", &r, &err), ANEMO_OK);
    assert_int_equal(r.tokens, 3);
    assert_int_equal(r.per_token, TOP_K);
    static const int32_t want[2 * TOKENS][TOP_K] = {{3, 5}, {1, 0}, {7, 2}, {3, 5}};
    for (int plan = 0; plan < 2; plan++) {
        float logits[TOKENS * EXPERTS];
        assert_int_equal(
            bench_routing_logits(&r, TOKENS, EXPERTS, TOP_K, plan, false, 1, logits, &err),
            ANEMO_OK);
        for (int t = 0; t < TOKENS; t++) {
            const float *row = logits + t * EXPERTS;
            const int32_t *chosen = want[plan * TOKENS + t];
            for (int e = 0; e < EXPERTS; e++) {
                assert_true(e == chosen[0] || row[e] < row[chosen[0]]);
                assert_true(e == chosen[0] || e == chosen[1] || row[e] < row[chosen[1]]);
            }
        }
    }
    float logits[TOKENS * EXPERTS];
    assert_int_equal(bench_routing_logits(&r, 1, EXPERTS, 3, 0, false, 1, logits, &err),
                     ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "2 experts per token, but the shape has 3"));
    assert_int_equal(bench_routing_logits(&r, 2, 5, TOP_K, 0, false, 1, logits, &err),
                     ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "expert 5"));
    bench_routing_free(&r);
}

/* Each token gets its experts, all different, and the first half of them R times the rows. */
static void test_routing_skew(void **state) {
    (void)state;
    enum { TOKENS = 8000, EXPERTS = 8, TOP_K = 2 };
    bench_routing r;
    anemo_error err = {""};
    assert_int_equal(bench_routing_create("skew:4", &r, &err), ANEMO_OK);
    float *logits = malloc((size_t)TOKENS * EXPERTS * sizeof *logits);
    assert_int_equal(bench_routing_logits(&r, TOKENS, EXPERTS, TOP_K, 0, false, 1, logits, &err),
                     ANEMO_OK);
    double rows[EXPERTS] = {0};
    for (int t = 0; t < TOKENS; t++) {
        int chosen = 0;
        for (int e = 0; e < EXPERTS; e++) {
            chosen += logits[t * EXPERTS + e] > 0;
            rows[e] += logits[t * EXPERTS + e] > 0;
        }
        assert_int_equal(chosen, TOP_K);
    }
    for (int e = 0; e < EXPERTS; e++) { /* 0.4 and 0.1 of the tokens; 5 sd of a binomial are 220 */
        assert_near(rows[e], TOKENS * (e < EXPERTS / 2 ? 0.4 : 0.1), 220);
    }
    assert_int_equal(bench_routing_logits(&r, 1, 4, 3, 0, false, 1, logits, &err), ANEMO_E_INPUT);
    free(logits);
}

/* A whole run under a routing of its own says so, and how full the experts were. */
static void see_routing(void *ctx, const anemo_bench_table *table) {
    observe(ctx, table);
    assert_non_null(strstr(table->c->name, "default/uniform/routing=single/m=3"));
    assert_string_equal(table->c->remark, "2 of 8 experts, max/mean load 4");
}

static void test_routing_run(void **state) {
    (void)state;
    static const char *const names[] = {"moe_experts_c", "qgemm_c"};
    anemo_bench_kernel_options options = small(names, 1);
    options.routing = "single";
    run_log log = {0};
    int32_t n_incorrect;
    anemo_error err = {""};
    anemo_device *device = open_device();
    anemo_record_sink *sink;
    assert_int_equal(anemo_record_sink_open(NULL, &sink, &err), ANEMO_OK);
    assert_int_equal(
        anemo_bench_kernel(device, &options, sink, see_routing, &log, &n_incorrect, &err),
        ANEMO_OK);
    assert_int_equal(log.cases, 1);
    assert_int_equal(log.measured, 1);
    options.routing = "zipf";
    assert_int_equal(anemo_bench_kernel(device, &options, sink, observe, &log, &n_incorrect, &err),
                     ANEMO_E_INPUT);
    options.names = names + 1;
    options.routing = "single";
    assert_int_equal(anemo_bench_kernel(device, &options, sink, observe, &log, &n_incorrect, &err),
                     ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "concerns moe_experts"));
    assert_int_equal(anemo_record_sink_close(sink, NULL), ANEMO_OK);
    anemo_device_free(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_custom_shapes), cmocka_unit_test(test_weights),
        cmocka_unit_test(test_evaluate),      cmocka_unit_test(test_run_and_record),
        cmocka_unit_test(test_baseline),      cmocka_unit_test(test_wrong_kernels_are_not_timed),
        cmocka_unit_test(test_swa_check),     cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_routing_texts), cmocka_unit_test(test_routing_trace),
        cmocka_unit_test(test_routing_skew),  cmocka_unit_test(test_routing_run),
        cmocka_unit_test(test_dense_checks),
    };
    return cmocka_run_group_tests(tests, register_wrong, NULL);
}
