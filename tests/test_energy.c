/* Energy counters: a made-up powercap tree whose counters a thread moves, and a library that passes
 * for NVML. */
#include "harness/measure/energy.h"
#include "harness/measure/nvml.h"
#include "harness/measure/sample.h"
#include "tests/support/asserts.h"
#include "tests/support/run_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char *folder;
static anemo_energy_places places;

static int set_up(void **state) {
    (void)state;
    folder = test_folder_create();
    places = (anemo_energy_places){.powercap = folder};
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static void put(const char *zone, const char *file, long long value, const char *text) {
    char path[700], number[40];
    snprintf(path, sizeof path, "%s/%s", folder, zone);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", folder, zone, file);
    snprintf(number, sizeof number, "%lld", value);
    text = text ? text : number;
    test_write_file(path, text, strlen(text));
}

static void zone(const char *entry, const char *name, long long uj) {
    put(entry, "name", 0, name);
    put(entry, "energy_uj", uj, NULL);
    put(entry, "max_energy_range_uj", 1000000000, NULL);
}

/* Moves the first package while a meter is opened: a counter that stands still is refused. */
static atomic_bool moving;
static void *move(void *ctx) {
    for (long long uj = 1; atomic_load(&moving); uj++) {
        char path[700], next[700], number[40];
        const struct timespec wait = {0, 2000000};
        snprintf(path, sizeof path, "%s/intel-rapl:0/energy_uj", folder);
        snprintf(next, sizeof next, "%s/next", folder);
        snprintf(number, sizeof number, "%lld", uj);
        test_write_file(next, number, strlen(number));
        rename(next, path); /* never seen half written */
        nanosleep(&wait, NULL);
    }
    return ctx;
}

static anemo_energy *open_moving(anemo_energy_lack *lack) {
    pthread_t thread;
    atomic_store(&moving, true);
    assert_int_equal(pthread_create(&thread, NULL, move, NULL), 0);
    anemo_energy *meter = anemo_energy_open(ANEMO_CPU, 0, &places, lack);
    atomic_store(&moving, false);
    pthread_join(thread, NULL);
    return meter;
}

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-9 * fabs(want) + 1e-12))
        fail_msg("%.12g is not %.12g", got, want);
}

static void packages_and_memory_are_added(void **state) {
    (void)state;
    anemo_energy_lack lack;
    zone("intel-rapl:0", "package-0\n", 0);
    zone("intel-rapl:0:0", "core\n", 0);
    zone("intel-rapl:0:1", "dram\n", 500);
    zone("intel-rapl:1", "package-1\n", 900);
    zone("intel-rapl:2", "psys\n", 0);
    zone("intel-rapl-mmio:0", "package-0\n", 0);
    anemo_energy *meter = open_moving(&lack);
    assert_non_null(meter);
    assert_string_equal(lack.reason, "");
    const double before = anemo_energy_joules(meter);
    const char *source = anemo_energy_source(meter);
    assert_contains(source, "RAPL ");
    assert_contains(source, "package-0");
    assert_contains(source, "package-1");
    assert_contains(source, "dram");
    assert_null(strstr(source, "core"));
    assert_null(strstr(source, "psys"));
    put("intel-rapl:0:0", "energy_uj", 700000000, NULL); /* inside package 0: not counted */
    put("intel-rapl-mmio:0", "energy_uj", 700000000, NULL);
    put("intel-rapl:2", "energy_uj", 700000000, NULL);
    near(anemo_energy_joules(meter) - before, 0);
    put("intel-rapl:0:1", "energy_uj", 500 + 2000000, NULL);
    put("intel-rapl:1", "energy_uj", 900 + 3000000, NULL);
    near(anemo_energy_joules(meter) - before, 5);
    put("intel-rapl:1", "energy_uj", 1000000, NULL); /* it has wrapped around */
    near(anemo_energy_joules(meter) - before, 5 + 1000 - 2.0009);
    put("intel-rapl:0", "energy_uj", 0, "gone");
    assert_true(isnan(anemo_energy_joules(meter))); /* absent is not zero */
    anemo_energy_close(meter);
}

static void what_is_missing_says_why_and_what_helps(void **state) {
    (void)state;
    anemo_energy_lack lack;
    assert_null(anemo_energy_open(ANEMO_CPU, 0, &places, &lack));
    assert_contains(lack.reason, "has no energy zone");
    assert_true(strlen(lack.remedy) > 10);
    const anemo_energy_places nowhere = {.powercap = "/nowhere", .nvml = "/nowhere/nvml.so"};
    assert_null(anemo_energy_open(ANEMO_CPU, 0, &nowhere, &lack));
    assert_contains(lack.reason, "is not there");
    zone("intel-rapl:0", "package-0\n", 5);
    assert_null(anemo_energy_open(ANEMO_CPU, 0, &places, &lack)); /* nobody moves it */
    assert_contains(lack.reason, "RAPL package-0 does not count");
    assert_null(anemo_energy_open(ANEMO_CUDA, 0, &nowhere, &lack));
    assert_contains(lack.reason, "is not installed");
    assert_contains(lack.remedy, "NVIDIA driver");
    if (geteuid() != 0) {
        char path[700];
        snprintf(path, sizeof path, "%s/intel-rapl:0/energy_uj", folder);
        assert_int_equal(chmod(path, 0), 0);
        assert_null(anemo_energy_open(ANEMO_CPU, 0, &places, &lack));
        assert_contains(lack.reason, "root only");
        assert_contains(lack.remedy, "chmod a+r");
    }
}

static void nvml_is_read(void **state) {
    (void)state;
    anemo_energy_lack lack;
    anemo_nvml *nvml;
    anemo_error err = {{0}};
    double joules, watts, limit, hz;
    const anemo_energy_places fake = {.nvml = ANEMO_PLUGIN_DIR "/fake_nvml.so"};
    assert_int_equal(anemo_nvml_open(fake.nvml, &nvml, &err), ANEMO_OK);
    assert_string_equal(anemo_nvml_driver(nvml), "1.2.3");
    assert_true(anemo_nvml_device(nvml, 0) && !anemo_nvml_device(nvml, 1));
    assert_true(anemo_nvml_power(nvml, 0, &watts, &limit) && watts == 250 && limit == 300);
    assert_true(anemo_nvml_clock(nvml, 0, ANEMO_NVML_MULTIPROCESSORS, &hz) && hz == 1.5e9);
    assert_false(anemo_nvml_energy(nvml, 1, &joules));
    anemo_nvml_close(nvml);
    anemo_energy *meter = anemo_energy_open(ANEMO_CUDA, 0, &fake, &lack);
    assert_non_null(meter);
    assert_string_equal(anemo_energy_source(meter), "NVML");
    const double first = anemo_energy_joules(meter);
    near(anemo_energy_joules(meter) - first, 1);
    anemo_energy_close(meter);
    assert_null(anemo_energy_open(ANEMO_CUDA, 1, &fake, &lack));
    assert_contains(lack.reason, "GPU 1 has no energy counter");
    setenv("ANEMO_FAKE_NVML", "still", 1);
    assert_null(anemo_energy_open(ANEMO_CUDA, 0, &fake, &lack));
    assert_contains(lack.reason, "NVML does not count");
    unsetenv("ANEMO_FAKE_NVML");
    anemo_nvml *other;
    assert_int_equal(anemo_nvml_open(ANEMO_PLUGIN_DIR "/wrong_qgemm.so", &other, &err),
                     ANEMO_E_UNSUPPORTED);
    assert_contains(err.text, "has no nvmlInit_v2");
}

/* ---------------------------------------------------------------- in the sampler */

/* Each arm spends joules of its own while it runs; nothing else does. */
static double spent;
static anemo_status spend(void *ctx, int64_t call, anemo_error *err) {
    (void)call, (void)err;
    spent += *(const double *)ctx;
    return ANEMO_OK;
}

static anemo_status spend_between(void *ctx, int64_t batch, anemo_error *err) {
    (void)ctx, (void)batch, (void)err;
    spent += 1000;
    return ANEMO_OK;
}

static double read_spent(void *ctx) {
    (void)ctx;
    return spent;
}

static void each_arm_gets_its_own_joules(void **state) {
    (void)state;
    static double cost[2] = {3, 7};
    const anemo_arm arms[2] = {{.run = spend, .ctx = &cost[0]}, {.run = spend, .ctx = &cost[1]}};
    const anemo_sampling how = {
        .clock = anemo_clock_raw(),
        .stop = {.kind = ANEMO_STOP_COUNT, .count = 9, .cap_ns = 1000000000},
        .between = spend_between,
        .joules = read_spent,
        .calls_per_sample = 4};
    anemo_samples samples;
    anemo_error err = {{0}};
    assert_int_equal(anemo_sample(arms, 2, &how, &samples, &err), ANEMO_OK);
    assert_int_equal(samples.n, 9);
    for (int arm = 0; arm < 2; arm++)
        for (int64_t i = 0; i < samples.n; i++)
            near(samples.joules[arm][i], cost[arm]);
    anemo_samples_free(&samples);
}

int main(void) {
#define WITH_TREE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_TREE(packages_and_memory_are_added),
        WITH_TREE(what_is_missing_says_why_and_what_helps),
        cmocka_unit_test(nvml_is_read),
        cmocka_unit_test(each_arm_gets_its_own_joules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
