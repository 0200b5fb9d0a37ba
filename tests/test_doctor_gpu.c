/* What `anemo doctor` makes of NVML's answers, with a library that is not NVML
 * (plugins/fake_nvml.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/support/run_program.h"

/* The capabilities of `doctor` before this GPU. */
static json_t *doctor(const char *kind) {
    char which[64];
    snprintf(which, sizeof which, "ANEMO_FAKE_NVML=%s", kind);
    const char *const environment[] = {"LD_LIBRARY_PATH=" ANEMO_NVML_DIR, which, NULL};
    const program_setting setting = {.environment = environment};
    program_result r =
        program_run_with(&setting, (const char *const[]){"doctor", "--format", "json", NULL});
    assert_int_equal(r.code, 0);
    json_t *root = json_loads(r.out, 0, NULL), *all = json_object_get(root, "capabilities");
    assert_true(json_is_array(all));
    json_incref(all);
    json_decref(root);
    program_result_free(&r);
    return all;
}

static void expect(const json_t *all, const char *name, bool available, const char *part) {
    size_t i;
    json_t *row;
    json_array_foreach(all, i, row) {
        json_t *cell;
        const char *key;
        bool named = false, gpu = false;
        json_object_foreach(row, key, cell) {
            named = named || (json_is_string(cell) && strcmp(json_string_value(cell), name) == 0);
            gpu = gpu || (json_is_string(cell) && strcmp(json_string_value(cell), "GPU") == 0);
        }
        if (named && gpu) {
            const char *detail = json_string_value(json_object_get(row, "detail"));
            assert_int_equal(json_is_true(json_object_get(row, "available")), available);
            if (!strstr(detail, part)) {
                fail_msg("%s: '%s' does not say '%s'", name, detail, part);
            }
            return;
        }
    }
    fail_msg("doctor says nothing of %s", name);
}

static void a_healthy_gpu(void **state) {
    (void)state;
    json_t *all = doctor("healthy");
    expect(all, "NVML", true, "driver 1.2.3, Fake H200");
    expect(all, "energy", true, "energy counter");
    expect(all, "power", true, "250 W now, limit 300 W of 300 W by default");
    expect(all, "clock", true, "multiprocessors 1500 of 1980 MHz, memory 3201 of 3201 MHz");
    expect(all, "throttle reasons", true, "none now");
    expect(all, "ECC", true, "on");
    expect(all, "MIG", true, "off");
    json_decref(all);
}

static void a_hot_gpu(void **state) {
    (void)state;
    json_t *all = doctor("throttled");
    expect(all, "power", true, "limit 200 W, lowered: of 300 W by default");
    expect(all, "throttle reasons", true, "throttled now: software power cap, hardware thermal");
    expect(all, "MIG", true, "on: the figures are those of a part of the GPU");
    json_decref(all);
}

static void a_silent_driver(void **state) {
    (void)state;
    json_t *all = doctor("silent");
    expect(all, "NVML", true, "driver 1.2.3");
    expect(all, "energy", false, "no energy counter");
    expect(all, "power", false, "tells no power");
    expect(all, "clock", false, "tells no clock");
    expect(all, "throttle reasons", false, "no throttle reasons");
    expect(all, "ECC", false, "no ECC mode");
    expect(all, "MIG", false, "no MIG mode");
    json_decref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_healthy_gpu),
        cmocka_unit_test(a_hot_gpu),
        cmocka_unit_test(a_silent_driver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
