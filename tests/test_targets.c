/* Targets: their file is read strictly, judged by the interval, and measured as one run. No
 * wall-clock time is asserted: bounds here are so far off that any machine meets or misses them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/measure/bench_targets.h"

#include "tests/support/run_program.h"

static char folder_path[512];

static const char *write_targets(const char *text) {
    static char path[600];
    snprintf(path, sizeof path, "%s/test.targets", folder_path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    return path;
}

#define GOOD                                                                                       \
    "# a comment\n"                                                                                \
    "group first\n"                                                                                \
    "arm plain qgemm default/qkv m=3 q4_0 name=qgemm_c\n"                                          \
    "arm same qgemm default/qkv m=3 q4_0 act=f32,name=*_c\n"                                       \
    "arm wide qgemm n=40,k=64 m=2 q8_0 name=qgemm_c\n"                                             \
    "arm none qgemm default/qkv m=3 q4_0 name=qgemm_nobody\n"                                      \
    "target read plain >= 1e-9 far below  # and a remark\n"                                        \
    "target fp32 plain >= 1000 far above\n"                                                        \
    "target rate plain / same + wide <= 1e5 a ratio\n"                                             \
    "target time plain / same >= 1e5 a ratio that is too much\n"                                   \
    "target roof none >= 0.1 nobody\n"                                                             \
    "group second n:8\n"                                                                           \
    "arm a swa default - x\n"

static void test_file(void **state) {
    (void)state;
    anemo_target_file file;
    anemo_error err = {""};
    char text[2048];
    snprintf(text, sizeof text, "%s", GOOD);
    *strstr(text, "group second") = '\0';
    assert_int_equal(anemo_target_file_read(write_targets(text), &file, &err), ANEMO_OK);
    assert_int_equal(file.n_groups, 1);
    assert_int_equal(file.n_targets, 5);
    const anemo_target_group *group = &file.groups[0];
    assert_int_equal(group->n_arms, 4);
    assert_int_equal(group->arms[0].m, 3);
    assert_string_equal(group->arms[1].act, "f32");
    assert_string_equal(group->arms[2].weights, "q8_0");
    assert_string_equal(group->targets[0].text, "far below");
    assert_int_equal(group->targets[2].against[1], 2);
    assert_string_equal(group->targets[2].measure, "rate plain / same + wide");
    assert_true(group->targets[2].at_most);
    anemo_target_file_free(&file);
}

static void test_bad_files(void **state) {
    (void)state;
#define ARM "group g\narm a qgemm default/qkv m=1 q4_0 any\n"
    static const struct {
        const char *text, *says;
    } bad[] = {{"", "no target"},
               {"nonsense\n", ":1: 'nonsense'"},
               {"arm a qgemm default/qkv m=1 q4_0 any\n", ":1: an arm needs a group"},
               {"target read a >= 1 x\n", ":1: a target needs a group"},
               {"group\n", "expected: group NAME"},
               {"group g n:0\n", "stop rule"},
               {"group g\ngroup g\n", ":2: group g exists"},
               {"group g\narm a qgemm default/qkv m=1 q4_0\n", ":2: expected: arm"},
               {"group g\narm a qgemm default/qkv 1 q4_0 any\n", "expected: arm"},
               {"group g\narm a nope default/qkv m=1 q4_0 any\n", "'nope' is no op"},
               {"group g\narm a qgemm nope m=1 q4_0 any\n", "no such shape"},
               {"group g\narm a qgemm n=3 m=1 q4_0 any\n", "n= and k="},
               {"group g\narm a qgemm default/qkv m=0 q4_0 any\n", "m=0"},
               {"group g\narm a qgemm default/qkv m=1 q3 any\n", "weights 'q3'"},
               {"group g\narm a qgemm default/qkv m=1 q4_0 isa=avx2\n", "selector"},
               {"group g\narm a qgemm default/qkv m=1 q4_0 any slowly\n", "'slowly'"},
               {"group g\narm a swa mistral-7b/decode m=1 - any quantise\n", "'quantise'"},
               {"group g\narm a qgemm default/qkv m=1 q4_0 any routing=uniform\n", "'routing=uni"},
               {"group g\narm a moe_experts default/uniform m=1 q4_0 any routing=skew\n",
                "'routing=skew'"},
               {ARM "arm a qgemm default/qkv m=2 q4_0 any\n", ":3: arm a exists"},
               {ARM "target read a >= 1\n", "expected: target"},
               {ARM "target warmth a >= 1 x\n", "expected: target"},
               {ARM "target read b >= 1 x\n", "names no arm"},
               {ARM "target rate a >= 1 x\n", "names no arm"},
               {ARM "target read a / a >= 1 x\n", "names no arm"},
               {ARM "target rate a / a - a >= 1 x\n", "names no arm"},
               {ARM "target us a / a <= 1 x\n", "names no arm"},
               {ARM "target read a >= much x\n", "'much'"},
               {ARM "target read a >= 0 x\n", "'0'"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        anemo_target_file file;
        anemo_error err = {""};
        const char *path = write_targets(bad[i].text);
        assert_int_equal(anemo_target_file_read(path, &file, &err), ANEMO_E_INPUT);
        if (!strstr(err.text, bad[i].says)) {
            fail_msg("%s: '%s' does not say '%s'", bad[i].text, err.text, bad[i].says);
        }
    }
    anemo_target_file file;
    assert_int_equal(anemo_target_file_read("/nowhere/x", &file, NULL), ANEMO_E_IO);
}

/* The files of this repository can be measured: every shape and arm in them exists. */
static void test_own_files(void **state) {
    (void)state;
    static const struct {
        const char *path;
        int32_t at_least;
    } files[] = {{ANEMO_TEST_DIR "/../ci/kernel.targets", 20},
                 {ANEMO_TEST_DIR "/../ci/gpu.targets", 17}};
    for (int i = 0; i < 2; i++) {
        anemo_target_file file;
        anemo_error err = {""};
        if (anemo_target_file_read(files[i].path, &file, &err)) {
            fail_msg("%s", err.text);
        }
        assert_true(file.n_targets >= files[i].at_least);
        anemo_target_file_free(&file);
    }
}

static void test_judge(void **state) {
    (void)state;
    const anemo_target least = {.bound = 0.9}, most = {.bound = 1.15, .at_most = true};
    const struct {
        double lo, hi;
        anemo_target_verdict least, most;
    } cases[] = {{0.91, 0.95, ANEMO_TARGET_MET, ANEMO_TARGET_MET},
                 {0.90, 0.95, ANEMO_TARGET_MET, ANEMO_TARGET_MET},
                 {0.85, 0.90, ANEMO_TARGET_UNDECIDED, ANEMO_TARGET_MET},
                 {0.80, 0.89, ANEMO_TARGET_MISSED, ANEMO_TARGET_MET},
                 {1.10, 1.20, ANEMO_TARGET_MET, ANEMO_TARGET_UNDECIDED},
                 {1.16, 1.20, ANEMO_TARGET_MET, ANEMO_TARGET_MISSED}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        anemo_estimate e = {
            .value = (cases[i].lo + cases[i].hi) / 2, .lo = cases[i].lo, .hi = cases[i].hi};
        assert_int_equal(anemo_target_judge(&least, &e), cases[i].least);
        assert_int_equal(anemo_target_judge(&most, &e), cases[i].most);
        e.needs = 6; /* what was seen is no interval */
        assert_int_equal(anemo_target_judge(&least, &e), ANEMO_TARGET_UNDECIDED);
    }
}

/* ---------------------------------------------------------------- a whole run */

static anemo_status writes_nothing(const anemo_exec *exec, const void *problem, const void *args) {
    (void)exec, (void)problem, (void)args;
    return ANEMO_OK;
}
static size_t no_workspace(const void *problem, int32_t n_threads) {
    (void)problem, (void)n_threads;
    return 0;
}
static bool accepts_all(const void *problem, char *why, size_t why_bytes) {
    (void)problem, (void)why, (void)why_bytes;
    return true;
}
static const anemo_variant wrong = {.size = sizeof(anemo_variant),
                                    .name = "qgemm_test_wrong",
                                    .op = ANEMO_OP_QGEMM,
                                    .idea = "fast and wrong",
                                    .accepts = accepts_all,
                                    .workspace_bytes = no_workspace,
                                    .run = writes_nothing};

typedef struct seen {
    anemo_target_verdict verdict[8];
    anemo_estimate value[8];
    int n;
} seen;

static void observe(void *ctx, const anemo_target_line *line) {
    seen *s = ctx;
    assert_true(s->n < 8);
    s->verdict[s->n] = line->verdict;
    s->value[s->n++] = line->value;
    assert_true(line->done <= line->total);
    if (line->verdict == ANEMO_TARGET_NOT_MEASURED) {
        assert_true(line->why[0] != '\0');
    } else {
        assert_string_equal(line->variant, "qgemm_c");
    }
}

typedef struct counts {
    int arms, targets, skipped;
} counts;

static bool count(void *ctx, anemo_record *record) {
    counts *c = ctx;
    anemo_metric metric;
    const char *suite = anemo_record_get_text(record, NULL, "suite");
    if (strcmp(suite, "kernel targets") != 0) {
        c->arms++;
        assert_true(anemo_record_find_metric(record, "time", &metric));
        return true;
    }
    c->targets++;
    assert_non_null(anemo_record_get_text(record, "case", "target"));
    if (strcmp(anemo_record_get_text(record, NULL, "status"), "skipped") == 0) {
        c->skipped++;
        assert_false(anemo_record_find_metric(record, "measured", &metric));
    } else {
        assert_non_null(anemo_record_get_text(record, NULL, "judged"));
        assert_true(anemo_record_find_metric(record, "measured", &metric));
    }
    return true;
}

static void test_run(void **state) {
    (void)state;
    char text[2048], records[600];
    snprintf(text, sizeof text, "%s", GOOD);
    char *second = strstr(text, "group second");
    snprintf(second, sizeof text - (size_t)(second - text),
             "group second\narm wrong qgemm default/qkv m=3 q4_0 name=qgemm_test_*\n"
             "target roof wrong >= 0.1 a wrong one\n");
    snprintf(records, sizeof records, "%s/records.jsonl", folder_path);
    anemo_target_file file;
    anemo_error err = {""};
    anemo_record_sink *sink;
    anemo_device *device;
    assert_int_equal(anemo_target_file_read(write_targets(text), &file, &err), ANEMO_OK);
    assert_int_equal(anemo_device_create_cpu(1, NULL, &device, &err), ANEMO_OK);
    assert_int_equal(anemo_record_sink_open(records, &sink, &err), ANEMO_OK);
    anemo_targets_options options = {.seed = 3};
    assert_int_equal(anemo_stop_parse("n:8,cap:60s", &options.stop, &err), ANEMO_OK);
    seen s = {.n = 0};
    int32_t n_incorrect;
    const anemo_status status =
        anemo_bench_targets(device, &file, &options, sink, observe, &s, &n_incorrect, &err);
    if (status) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(s.n, 6);
    assert_int_equal(s.verdict[0], ANEMO_TARGET_MET);
    assert_int_equal(s.verdict[1], ANEMO_TARGET_MISSED);
    assert_int_equal(s.verdict[2], ANEMO_TARGET_MET);
    assert_int_equal(s.verdict[3], ANEMO_TARGET_MISSED);
    assert_int_equal(s.verdict[4], ANEMO_TARGET_NOT_MEASURED);
    assert_int_equal(s.verdict[5], ANEMO_TARGET_NOT_MEASURED);
    assert_int_equal(n_incorrect, 1);                             /* caught, and not timed */
    assert_true(s.value[3].value > 0.1 && s.value[3].value < 10); /* the same code twice */
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    counts c = {0};
    assert_int_equal(anemo_record_read(records, count, &c, NULL, &err), ANEMO_OK);
    assert_int_equal(c.arms, 3);
    assert_int_equal(c.targets, 6);
    assert_int_equal(c.skipped, 2);
    options.filter = "no such group";
    assert_int_equal(
        anemo_bench_targets(device, &file, &options, NULL, observe, &s, &n_incorrect, &err),
        ANEMO_E_INPUT);
    anemo_target_file_free(&file);
    anemo_device_free(device);
}

static int set_up(void **state) {
    (void)state;
    static const anemo_variant *list[] = {&wrong};
    static const anemo_plugin plugin = {.size = sizeof plugin,
                                        .abi_major = ANEMO_ABI_MAJOR,
                                        .name = "test_targets",
                                        .n_variants = 1,
                                        .variants = list};
    char *folder = test_folder_create();
    snprintf(folder_path, sizeof folder_path, "%s", folder);
    *state = folder;
    return anemo_registry_add(&plugin, NULL) == ANEMO_OK ? 0 : -1;
}

static int tear_down(void **state) {
    test_folder_remove(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file), cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_own_files), cmocka_unit_test(test_judge), cmocka_unit_test(test_run)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
