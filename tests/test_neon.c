/* Arm only: every variant of the ladder is here and chosen by what the processor says, and the two
 * integer instructions give the same bits, which is what lets a plan change between them with the
 * number of rows. */
#include "anemo_config.h"
#include "kernels/device.h"
#include "kernels/kernel.h"
#include "support/random_weight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

/* What a variant needs is what decides, and nothing else does. */
static void test_present(void **state) {
    (void)state;
    const struct {
        const char *name;
        uint32_t needs;
    } ladder[] = {{"qgemm_w4a8_tile_neondot", ANEMO_CPU_NEON_DOT},
                  {"qgemm_w8a8_tile_neondot", ANEMO_CPU_NEON_DOT},
                  {"qgemm_w4a8_tile_neoni8mm", ANEMO_CPU_NEON_I8MM},
                  {"qgemm_w8a8_tile_neoni8mm", ANEMO_CPU_NEON_I8MM},
                  {"swa_f32_tile_neon", 0}};
    for (size_t i = 0; i < sizeof ladder / sizeof *ladder; i++) {
        const anemo_variant *v = anemo_variant_find(ladder[i].name);
        char why[160] = "";
        assert_non_null(v);
        assert_int_equal(v->needs.cpu_features & ladder[i].needs, ladder[i].needs);
        const bool have = (anemo_cpu_features() & v->needs.cpu_features) == v->needs.cpu_features;
        assert_int_equal(anemo_variant_runs_here(v, 0, why, sizeof why), have);
        assert_true(have == (why[0] == 0));
    }
}

static void *multiply(const char *name, anemo_device *device, const anemo_qgemm_problem *p,
                      const void *x, const random_weight *w) {
    const anemo_variant *v = anemo_variant_find(name);
    const anemo_layout *l = anemo_layout_find(v->layout);
    const anemo_exec exec = anemo_device_exec(device);
    const size_t bytes = l->packed_bytes(&w->weight.type, p->n[0], p->k);
    void *packed = aligned_alloc(64, (bytes + 63) / 64 * 64);
    float *y = malloc((size_t)(p->m_max * p->n[0]) * sizeof *y);
    assert_int_equal(l->pack(&w->weight, 0, p->n[0], packed), ANEMO_OK);
    const anemo_qgemm_args a = {.size = sizeof a,
                                .m = p->m_max,
                                .x = x,
                                .weight = {packed},
                                .y = {y},
                                .y_stride = {p->n[0]}};
    assert_int_equal(v->run(&exec, p, &a), ANEMO_OK);
    free(packed);
    return y;
}

/* Returns 1 if the two variants take the case. */
static int same_bits(const char *dot, const char *i8mm, anemo_device *device,
                     anemo_weight_type type, int64_t m) {
    enum { N = 37, K = 300 };
    const anemo_variant *v = anemo_variant_find(dot);
    const anemo_qgemm_problem p = {
        .size = sizeof p, .n_parts = 1, .m_max = m, .k = K, .n = {N}, .type = {type}};
    if (!anemo_variant_supports(v, 0, &p, NULL, 0)) {
        assert_false(anemo_variant_supports(anemo_variant_find(i8mm), 0, &p, NULL, 0));
        return 0;
    }
    float x[16 * K];
    for (int64_t i = 0; i < m * K; i++) {
        x[i] = random_float(7, (uint64_t)i);
    }
    char *records = aligned_alloc(64, 16 * 1024);
    const anemo_variant *quantize = anemo_variant_find(
        anemo_act_find(v->act)->group == 32 ? "quantize_act_a8_g32_c" : "quantize_act_a8_g128_c");
    const anemo_quantize_act_problem qp = {.size = sizeof qp, .m_max = m, .k = K};
    const anemo_quantize_act_args qa = {.size = sizeof qa, .m = m, .x = x, .out = records};
    const anemo_exec exec = anemo_device_exec(device);
    assert_int_equal(quantize->run(&exec, &qp, &qa), ANEMO_OK);
    random_weight *w = random_weight_create(type, N, K, 11);
    float *one = multiply(dot, device, &p, records, w);
    float *other = multiply(i8mm, device, &p, records, w);
    assert_memory_equal(one, other, (size_t)(m * N) * sizeof *one);
    free(one);
    free(other);
    free(records);
    random_weight_free(w);
    return 1;
}

static void test_same_bits(void **state) {
    static const char *const pairs[][2] = {
        {"qgemm_w4a8_tile_neondot", "qgemm_w4a8_tile_neoni8mm"},
        {"qgemm_w4a8g128_tile_neondot", "qgemm_w4a8g128_tile_neoni8mm"},
        {"qgemm_w8a8_tile_neondot", "qgemm_w8a8_tile_neoni8mm"},
        {"qgemm_w8a8g128_tile_neondot", "qgemm_w8a8g128_tile_neoni8mm"}};
    (void)state;
    if (!anemo_variant_runs_here(anemo_variant_find(pairs[0][1]), 0, NULL, 0)) {
        skip();
    }
    anemo_device *device;
    anemo_error err;
    assert_int_equal(anemo_device_create_cpu(2, NULL, &device, &err), ANEMO_OK);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        int compared = 0;
        for (int t = 0; t < random_weight_type_count; t++) {
            for (int64_t m = 1; m <= 11; m++) {
                compared += same_bits(pairs[i][0], pairs[i][1], device, random_weight_types[t], m);
            }
        }
        assert_true(compared >= 22);
    }
    anemo_device_free(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_present),
        cmocka_unit_test(test_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
