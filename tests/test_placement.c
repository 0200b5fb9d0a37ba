/* Where threads go, on made-up machines: packages, hardware threads, two kinds of cores, quotas. */
#include "harness/measure/machine.h"
#include "harness/measure/placement.h"

#include "anemo_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 64 };

/* hwloc numbers the PUs of these in order: core c of "pack:2 core:4 pu:2" has 2c and 2c + 1. */
static const struct {
    const char *machine, *fast;
    anemo_placement policy;
    int32_t threads;
    double quota;
    const char *cpus; /* "": refused */
} cases[] = {
    /* one per core, however many hardware threads */
    {"pack:2 core:4 pu:2", NULL, ANEMO_PLACE_SCATTER, 0, 0, "0 2 4 6 8 10 12 14"},
    {"pack:2 core:4 pu:2", NULL, ANEMO_PLACE_ONE_PER_CORE, 0, 0, "0 2 4 6 8 10 12 14"},
    {"pack:2 core:4 pu:2", NULL, ANEMO_PLACE_COMPACT, 0, 0, "0 1 2 3 4 5 6 7"},
    /* few threads: far from each other, or near */
    {"pack:2 core:4 pu:2", NULL, ANEMO_PLACE_SCATTER, 2, 0, "0 8"},
    {"pack:2 core:4 pu:2", NULL, ANEMO_PLACE_ONE_PER_CORE, 2, 0, "0 2"},
    {"pack:2 core:4 pu:2", NULL, ANEMO_PLACE_COMPACT, 3, 0, "0 1 2"},
    {"pack:2 l3:2 core:2 pu:1", NULL, ANEMO_PLACE_SCATTER, 4, 0, "0 2 4 6"},
    /* more than cores: second hardware threads, or none */
    {"pack:1 core:2 pu:2", NULL, ANEMO_PLACE_SCATTER, 3, 0, "0 2 1"},
    {"pack:1 core:2 pu:2", NULL, ANEMO_PLACE_SCATTER, 5, 0, ""},
    {"pack:1 core:2 pu:2", NULL, ANEMO_PLACE_ONE_PER_CORE, 3, 0, ""},
    /* the quota pays for so many, unless someone asks for more */
    {"pack:2 core:4 pu:2", NULL, ANEMO_PLACE_SCATTER, 0, 2.5, "0 4 8"},
    {"pack:2 core:4 pu:2", NULL, ANEMO_PLACE_COMPACT, 0, 0.5, "0"},
    {"pack:1 core:2 pu:1", NULL, ANEMO_PLACE_SCATTER, 2, 1, "0 1"},
    {"pack:1 core:2 pu:1", NULL, ANEMO_PLACE_SCATTER, 0, 16, "0 1"},
    /* hybrid: 4 fast cores with two threads each would be 0-7, 4 slow ones follow */
    {"pack:1 core:8 pu:1", "0-3", ANEMO_PLACE_FAST_CORES, 0, 0, "0 1 2 3"},
    {"pack:1 core:8 pu:1", "4-7", ANEMO_PLACE_FAST_CORES, 2, 0, "4 6"},
    {"pack:1 core:8 pu:2", "0-7", ANEMO_PLACE_FAST_CORES, 0, 0, "0 2 4 6"},
    {"pack:1 core:8 pu:1", "0-3", ANEMO_PLACE_FAST_CORES, 5, 0, ""},
    {"pack:1 core:8 pu:1", "0-3", ANEMO_PLACE_SCATTER, 0, 0, "0 1 2 3 4 5 6 7"},
    {"pack:1 core:4 pu:1", NULL, ANEMO_PLACE_FAST_CORES, 0, 0, "0 1 2 3"}, /* all alike */
};

static void policies_place_threads(void **state) {
    (void)state;
    if (!ANEMO_HAVE_HWLOC)
        skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const anemo_placement_request request = {.policy = cases[i].policy,
                                                 .n_threads = cases[i].threads,
                                                 .cpu_quota = cases[i].quota,
                                                 .synthetic = cases[i].machine,
                                                 .fast_cpus = cases[i].fast};
        int32_t cpus[MOST], n = 0;
        char text[256] = "";
        anemo_error err = {{0}};
        const anemo_status status = anemo_machine_place(&request, cpus, MOST, &n, &err);
        for (int32_t t = 0; status == ANEMO_OK && t < n; t++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d", t ? " " : "",
                     cpus[t]);
        if (strcmp(text, cases[i].cpus) != 0)
            print_error("%s, %s, %d threads: %s\n", cases[i].machine,
                        anemo_placement_names[cases[i].policy], cases[i].threads, err.text);
        assert_string_equal(text, cases[i].cpus);
        assert_int_equal(status, *cases[i].cpus ? ANEMO_OK : ANEMO_E_INPUT);
        if (status)
            assert_non_null(strstr(err.text, anemo_placement_names[cases[i].policy]));
    }
}

static void bad_machines_are_refused(void **state) {
    (void)state;
    if (!ANEMO_HAVE_HWLOC)
        skip();
    int32_t cpus[MOST], n;
    anemo_error err = {{0}};
    anemo_placement_request request = {.synthetic = "elephants:3"};
    assert_int_equal(anemo_machine_place(&request, cpus, MOST, &n, &err), ANEMO_E_INPUT);
    request = (anemo_placement_request){.policy = ANEMO_PLACE_FAST_CORES,
                                        .synthetic = "pack:1 core:4 pu:1",
                                        .fast_cpus = "the big ones"};
    assert_int_equal(anemo_machine_place(&request, cpus, MOST, &n, &err), ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "the big ones"));
}

static void this_machine_has_places(void **state) {
    (void)state;
    const int32_t allowed = anemo_machine_get()->threads_allowed;
    for (int policy = 0; anemo_placement_names[policy]; policy++) {
        int32_t cpus[4096], n = 0;
        anemo_error err = {{0}};
        anemo_placement_choose((anemo_placement)policy);
        const anemo_status status = anemo_machine_placement(0, cpus, 4096, &n, &err);
        if (policy == ANEMO_PLACE_FAST_CORES && status == ANEMO_E_UNSUPPORTED)
            continue; /* without hwloc, or where it cannot tell; the sentence says so */
        assert_int_equal(status, ANEMO_OK);
        assert_true(n >= 1 && n <= allowed);
        for (int32_t i = 0; i < n; i++)
            for (int32_t j = 0; j < i; j++)
                assert_int_not_equal(cpus[i], cpus[j]);
        assert_string_equal(anemo_placement_chosen(), anemo_placement_names[policy]);
        assert_string_equal(anemo_machine_option(), policy == 0   ? ""
                                                    : policy == 1 ? " --placement compact"
                                                    : policy == 2 ? " --placement one-per-core"
                                                                  : " --placement fast-cores");
        assert_int_equal(anemo_machine_placement(allowed + 1, cpus, 4096, &n, &err), ANEMO_E_INPUT);
    }
    anemo_placement_choose(ANEMO_PLACE_SCATTER);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(policies_place_threads),
        cmocka_unit_test(bad_machines_are_refused),
        cmocka_unit_test(this_machine_has_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
