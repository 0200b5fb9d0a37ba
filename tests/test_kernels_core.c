/* The room's own foundations: names, weight types, activation formats, registry, threads, CPU
 * device, work of a problem. */
#include "kernels/device.h"
#include "kernels/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static void close_to(double got, double want, double bound) {
    if (!(fabs(got - want) <= bound)) {
        fail_msg("got %.17g, want %.17g, bound %g", got, want, bound);
    }
}

/* ---------------------------------------------------------------- names and types */

static void test_status(void **state) {
    (void)state;
    anemo_error err;
    assert_int_equal(anemo_fail(&err, ANEMO_E_INPUT, "%s: field %s is %d", "f", "n", 3),
                     ANEMO_E_INPUT);
    assert_string_equal(err.text, "f: field n is 3");
    assert_int_equal(anemo_fail(NULL, ANEMO_E_IO, "unseen"), ANEMO_E_IO);
    assert_string_equal(anemo_status_name(ANEMO_E_NUMERIC), "numeric");
}

static void test_ops(void **state) {
    (void)state;
    anemo_op op = ANEMO_OP_COUNT;
    for (int i = 0; i < ANEMO_OP_COUNT; i++) {
        assert_true(anemo_op_from_name(anemo_op_name((anemo_op)i), &op));
        assert_int_equal(op, i);
        assert_true(strlen(anemo_op_summary((anemo_op)i)) > 0);
    }
    assert_false(anemo_op_from_name("qgem", &op));
    assert_false(anemo_op_from_name(NULL, &op));
}

typedef struct type_case {
    anemo_weight_type type;
    const char *name;
    double bits; /* per weight at k = 256 */
} type_case;

static const type_case type_cases[] = {
    {{ANEMO_CODE_F32, 32}, "f32", 32},
    {{ANEMO_CODE_BF16, 16}, "bf16", 16},
    {{ANEMO_CODE_LINEAR, 4, ANEMO_SCALE_F16, 0, 32}, "q4:g32", 4.5},                      /* Q4_0 */
    {{ANEMO_CODE_LINEAR, 4, ANEMO_SCALE_F16, ANEMO_OFFSET_MINIMUM, 32}, "q4:g32:min", 5}, /* Q4_1 */
    {{ANEMO_CODE_LINEAR, 8, ANEMO_SCALE_F16, 0, 32}, "q8:g32", 8.5},                      /* Q8_0 */
    {{ANEMO_CODE_LINEAR, 8, ANEMO_SCALE_F32, 0, 0}, "q8:row:f32", 8.125},
    {{ANEMO_CODE_LINEAR, 4, ANEMO_SCALE_TWO_LEVEL, ANEMO_OFFSET_MINIMUM, 32},
     "q4:g32:two-level:min",
     4.5},                                                                              /* Q4_K */
    {{ANEMO_CODE_LINEAR, 6, ANEMO_SCALE_TWO_LEVEL, 0, 16}, "q6:g16:two-level", 6.5625}, /* Q6_K */
    {{ANEMO_CODE_TABLE, 4, ANEMO_SCALE_E8M0, 0, 32}, "t4:g32:e8m0", 4.25},              /* MXFP4 */
    {{ANEMO_CODE_LINEAR, 4, ANEMO_SCALE_F16, ANEMO_OFFSET_ZERO_POINT, 128},
     "q4:g128:zp",
     4.15625}, /* GPTQ */
};

static void test_weight_types(void **state) {
    (void)state;
    char name[64];
    for (size_t i = 0; i < sizeof type_cases / sizeof *type_cases; i++) {
        const type_case *c = &type_cases[i];
        assert_string_equal(anemo_weight_type_name(&c->type, name, sizeof name), c->name);
        close_to(anemo_weight_type_bits(&c->type, 256), c->bits, 0);
    }
    const anemo_weight_type q4 = type_cases[2].type;
    assert_int_equal(anemo_weight_groups(&q4, 33), 2);
    assert_int_equal(anemo_weight_groups(&q4, 32), 1);
    assert_int_equal(anemo_weight_groups(&type_cases[0].type, 33), 0);
    assert_int_equal(anemo_weight_groups(&type_cases[5].type, 33), 1);
}

static void test_weight_value(void **state) {
    (void)state;
    anemo_weight_type t = {ANEMO_CODE_LINEAR, 4, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE, 32};
    close_to(anemo_weight_value(&t, 3, 0.5f, 99.0f), -2.5, 0);
    t.offset = ANEMO_OFFSET_MINIMUM;
    close_to(anemo_weight_value(&t, 3, 0.5f, 0.25f), 1.25, 0);
    t.offset = ANEMO_OFFSET_ZERO_POINT;
    close_to(anemo_weight_value(&t, 3, 0.5f, 7.0f), -2.0, 0);
    t = (anemo_weight_type){ANEMO_CODE_TABLE, 4, ANEMO_SCALE_F16, 0, 32, {0, -11}};
    close_to(anemo_weight_value(&t, 1, 0.5f, 0.0f), -5.5, 0);
}

/* Codes 0, 1, 2, ... with scales 1/8 (g + 1) and offsets g + 1/2. */
static void counting_row(const anemo_weight *w, int64_t row, float *values, uint8_t *codes,
                         float *scales, float *offsets) {
    const int64_t mask = ((int64_t)1 << w->type.bits) - 1;
    for (int64_t i = 0; i < w->k; i++) {
        if (w->type.code == ANEMO_CODE_F32) {
            values[i] = (float)(row + i);
        } else {
            codes[i] = (uint8_t)((row + i) & mask);
        }
    }
    for (int64_t g = 0; g < anemo_weight_groups(&w->type, w->k); g++) {
        scales[g] = 0.125f * (float)(g + 1);
        if (w->type.offset != ANEMO_OFFSET_NONE) {
            offsets[g] = (float)g + 0.5f;
        }
    }
}

static void test_weight_row(void **state) {
    (void)state;
    const int64_t k = 161;
    float values[161];
    void *scratch = aligned_alloc(64, (anemo_weight_scratch_bytes(k) + 63) / 64 * 64);
    for (size_t i = 0; i < sizeof type_cases / sizeof *type_cases; i++) {
        anemo_weight w = {.size = sizeof w, .type = type_cases[i].type, .n = 2, .k = k};
        if (w.type.code == ANEMO_CODE_BF16) {
            continue;
        }
        w.read_row = counting_row;
        for (int j = 0; j < 16; j++) {
            w.type.table[j] = (int8_t)(j * j - 50);
        }
        anemo_weight_row_f32(&w, 1, values, scratch);
        for (int64_t c = 0; c < k; c++) {
            const int64_t g = w.type.group > 0 ? c / w.type.group : 0;
            const uint8_t code = (uint8_t)((1 + c) & (((int64_t)1 << w.type.bits) - 1));
            const double want =
                w.type.code == ANEMO_CODE_F32
                    ? (double)(1 + c)
                    : anemo_weight_value(&w.type, code, 0.125f * (float)(g + 1), (float)g + 0.5f);
            close_to(values[c], want, 0);
        }
    }
    free(scratch);
}

static void test_acts_and_kv(void **state) {
    (void)state;
    assert_int_equal(anemo_act_find(NULL)->row_bytes(33), 132);
    assert_int_equal(anemo_act_find("bf16")->row_bytes(33), 128);
    assert_int_equal(anemo_a8_padded_k(1), 128);
    assert_int_equal(anemo_a8_padded_k(128), 128);
    assert_int_equal(anemo_a8_groups(32, 129), 8);
    assert_int_equal(anemo_act_find("a8_row")->row_bytes(129), 320);  /* 256 + 8, to 64 */
    assert_int_equal(anemo_act_find("a8_g32")->row_bytes(129), 320);  /* 256 + 8 * 8 */
    assert_int_equal(anemo_act_find("a8_g128")->row_bytes(129), 320); /* 256 + 2 * 8 */
    assert_null(anemo_act_find("a8_g33"));
    assert_int_equal(anemo_kv_vector_bytes(ANEMO_KV_F32, 5), 20);
    assert_int_equal(anemo_kv_vector_bytes(ANEMO_KV_BF16, 5), 10);
    assert_int_equal(anemo_kv_vector_bytes(ANEMO_KV_Q8, 5), 12);
    assert_int_equal(anemo_kv_page_bytes(ANEMO_KV_F16, 2, 8, 64), 2 * 2 * 64 * 16);
}

/* Zero key and counter: the known answer of the Random123 distribution; the second from an
 * independent implementation of the paper. */
static void test_philox(void **state) {
    (void)state;
    close_to(anemo_philox_uniform(0, 0), 0x6627e8d5p-32, 0);
    close_to(anemo_philox_uniform(0x123456789abcdef0u, 0xfedcba9876543210u), 0xef8e01b2p-32, 0);
    double sum = 0.0;
    for (uint64_t i = 0; i < 10000; i++) {
        sum += anemo_philox_uniform(7, i);
    }
    close_to(sum / 10000, 0.5, 0.015); /* 5 sigma */
}

/* Every float16, and every rounding between two neighbours: down, tie to even, up. */
static void test_f16(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        const int exponent = (int)(h >> 10);
        const double mantissa = h & 0x3ff;
        const double want =
            exponent ? ldexp(1024.0 + mantissa, exponent - 25) : ldexp(mantissa, -24);
        close_to(anemo_f32_from_f16((uint16_t)h), want, 0);
        close_to(anemo_f32_from_f16((uint16_t)(h | 0x8000)), -want, 0);
        assert_int_equal(anemo_f16_from_f32((float)want), h);
        assert_int_equal(anemo_f16_from_f32((float)-want), h | 0x8000);
        const double step = ldexp(1.0, (exponent ? exponent : 1) - 25);
        const float tie = (float)(want + step / 2);
        assert_int_equal(anemo_f16_from_f32(nextafterf(tie, 0.0f)), h);
        assert_int_equal(anemo_f16_from_f32(tie), h + (h & 1));
        assert_int_equal(anemo_f16_from_f32(nextafterf(tie, INFINITY)), h + 1);
    }
    assert_true(isinf(anemo_f32_from_f16(0xfc00)) && isnan(anemo_f32_from_f16(0x7c01)));
    assert_int_equal(anemo_f16_from_f32(-INFINITY), 0xfc00);
    assert_int_equal(anemo_f16_from_f32(1e30f), 0x7c00);
    assert_true((anemo_f16_from_f32(NAN) & 0x7fff) > 0x7c00);
}

/* ---------------------------------------------------------------- registry */

static bool any(const void *problem, char *why, size_t why_bytes) {
    (void)problem, (void)why, (void)why_bytes;
    return true;
}
static size_t no_workspace(const void *problem, int32_t n_threads) {
    (void)problem, (void)n_threads;
    return 0;
}
static anemo_status no_run(const anemo_exec *exec, const void *problem, const void *args) {
    (void)exec, (void)problem, (void)args;
    return ANEMO_OK;
}
static size_t some_bytes(int64_t k) {
    return (size_t)k;
}
static bool only_even(const anemo_weight_type *type, int64_t n, int64_t k, char *why,
                      size_t why_bytes) {
    (void)type, (void)n;
    if (k % 2 && why_bytes) {
        why[0] = 'o', why[1] = 0;
    }
    return k % 2 == 0;
}
static size_t packed_bytes(const anemo_weight_type *type, int64_t n, int64_t k) {
    (void)type;
    return (size_t)(n * k);
}
static anemo_status no_pack(const anemo_weight *weight, int64_t begin, int64_t end, void *packed) {
    (void)weight, (void)begin, (void)end, (void)packed;
    return ANEMO_OK;
}
static anemo_status no_unpack(const anemo_weight_type *type, int64_t n, int64_t k,
                              const void *packed, int64_t row, float *values, uint8_t *codes,
                              float *scales, float *offsets) {
    (void)type, (void)n, (void)k, (void)packed, (void)row;
    (void)values, (void)codes, (void)scales, (void)offsets;
    return ANEMO_OK;
}

static const anemo_variant good_variant = {.size = sizeof(anemo_variant),
                                           .name = "qgemm_test_mine",
                                           .op = ANEMO_OP_QGEMM,
                                           .layout = "test_layout",
                                           .act = "test_act",
                                           .idea = "a test",
                                           .accepts = any,
                                           .workspace_bytes = no_workspace,
                                           .run = no_run};
static const anemo_layout good_layout = {sizeof(anemo_layout), "test_layout", 1,        only_even,
                                         packed_bytes,         no_pack,       no_unpack};
static const anemo_act good_act = {sizeof(anemo_act), "test_act", -1, 8, some_bytes};

/* Adds {variant, layout, act}; on refusal the sentence must contain `sentence` and nothing may have
 * been added. */
static void refused(anemo_plugin plugin, const anemo_variant *v, const anemo_layout *l,
                    const anemo_act *a, const char *sentence) {
    const int32_t before[] = {anemo_variant_count(), anemo_layout_count(), anemo_act_count()};
    anemo_error err = {{0}};
    plugin.variants = &v;
    plugin.layouts = &l;
    plugin.acts = &a;
    assert_int_equal(anemo_registry_add(&plugin, &err), ANEMO_E_INPUT);
    if (!strstr(err.text, sentence)) {
        fail_msg("'%s' lacks '%s'", err.text, sentence);
    }
    assert_int_equal(anemo_variant_count(), before[0]);
    assert_int_equal(anemo_layout_count(), before[1]);
    assert_int_equal(anemo_act_count(), before[2]);
    assert_null(anemo_layout_find("test_layout"));
}

static void test_registry(void **state) {
    (void)state;
    const anemo_plugin good = {.size = sizeof good,
                               .abi_major = ANEMO_ABI_MAJOR,
                               .name = "test",
                               .n_variants = 1,
                               .n_layouts = 1,
                               .n_acts = 1};
    anemo_plugin p = good;
    anemo_variant v = good_variant;
    anemo_layout l = good_layout;
    anemo_act a = good_act;

    p.abi_major = ANEMO_ABI_MAJOR + 1;
    refused(p, &v, &l, &a, "ABI");
    p = good, p.size = 8;
    refused(p, &v, &l, &a, "short");
    p = good, p.n_variants = -1;
    refused(p, &v, &l, &a, "negative");
    p = good, p.n_acts = 1000000;
    refused(p, &v, &l, &a, "more than");

    v.size -= 8;
    refused(good, &v, &l, &a, "short struct");
    v = good_variant, v.name = "qgemm_ref";
    refused(good, &v, &l, &a, "qgemm_ref exists");
    v = good_variant, v.name = "Bad Name";
    refused(good, &v, &l, &a, "bad name");
    v = good_variant, v.run = NULL;
    refused(good, &v, &l, &a, "lacks one of");
    v = good_variant, v.op = ANEMO_OP_COUNT;
    refused(good, &v, &l, &a, "op");
    v = good_variant, v.layout = "elsewhere";
    refused(good, &v, &l, &a, "unknown layout elsewhere");
    v = good_variant, v.act = "a9";
    refused(good, &v, &l, &a, "unknown activation format a9");
    v = good_variant, v.op = ANEMO_OP_QUANTIZE_ACT, v.act = NULL;
    refused(good, &v, &l, &a, "must name");
    v = good_variant;

    l.pack = NULL;
    refused(good, &v, &l, &a, "lacks one of");
    l = good_layout, l.row_block = 0;
    refused(good, &v, &l, &a, "row_block");
    l = good_layout;
    a.name = "f32";
    refused(good, &v, &l, &a, "f32 exists");
    a = good_act, a.row_bytes = NULL;
    refused(good, &v, &l, &a, "row_bytes");

    const anemo_variant *const twice[] = {&good_variant, &good_variant};
    const anemo_layout *const layouts[] = {&good_layout};
    const anemo_act *const acts[] = {&good_act};
    p = good, p.variants = twice, p.n_variants = 2, p.layouts = layouts, p.acts = acts;
    anemo_error err;
    assert_int_equal(anemo_registry_add(&p, &err), ANEMO_E_INPUT);
    assert_null(anemo_variant_find("qgemm_test_mine"));

    p.n_variants = 1;
    assert_int_equal(anemo_registry_add(&p, &err), ANEMO_OK);
    assert_ptr_equal(anemo_variant_find("qgemm_test_mine"), &good_variant);
    assert_ptr_equal(anemo_variant_at(anemo_variant_count() - 1), &good_variant);
    assert_ptr_equal(anemo_layout_find("test_layout"), &good_layout);
    assert_ptr_equal(anemo_act_find("test_act"), &good_act);
    assert_int_equal(anemo_registry_add(&p, &err), ANEMO_E_INPUT); /* collides with itself */

    /* its layout is asked, for every weight of the problem */
    char why[128] = "";
    anemo_qgemm_problem q = {
        .size = sizeof q, .n_parts = 1, .m_max = 1, .k = 4, .n = {1}, .type = {type_cases[0].type}};
    assert_true(anemo_variant_supports(&good_variant, 0, &q, why, sizeof why));
    q.k = 5;
    assert_false(anemo_variant_supports(&good_variant, 0, &q, why, sizeof why));
    assert_string_equal(why, "o");
    anemo_moe_experts_problem moe = {.size = sizeof moe,
                                     .d = 4,
                                     .ffn = 5,
                                     .gate = type_cases[0].type,
                                     .up = type_cases[0].type,
                                     .down = type_cases[0].type};
    anemo_variant experts = good_variant;
    experts.op = ANEMO_OP_MOE_EXPERTS;
    assert_false(anemo_variant_supports(&experts, 0, &moe, why, sizeof why)); /* down has k = 5 */
    moe.ffn = 6;
    assert_true(anemo_variant_supports(&experts, 0, &moe, why, sizeof why));
}

static void test_registered(void **state) {
    (void)state;
    for (int32_t i = 0; i < anemo_variant_count(); i++) {
        const anemo_variant *v = anemo_variant_at(i);
        assert_int_equal(v->size, sizeof *v);
        assert_ptr_equal(anemo_variant_find(v->name), v); /* names are unique */
        assert_true(strncmp(v->name, anemo_op_name(v->op), strlen(anemo_op_name(v->op))) == 0);
        assert_non_null(anemo_act_find(v->act));
        assert_true(!v->layout || anemo_layout_find(v->layout));
    }
    assert_null(anemo_variant_at(-1));
    assert_null(anemo_variant_at(anemo_variant_count()));
    assert_null(anemo_variant_find("qgemm"));
    assert_string_equal(anemo_variant_reference(ANEMO_OP_QGEMM)->name, "qgemm_ref");
}

static void test_runs_here(void **state) {
    (void)state;
    char why[128];
    anemo_variant v = good_variant;
    v.needs.cpu_features = 1u << 30; /* no such feature */
    assert_false(anemo_variant_runs_here(&v, 0, why, sizeof why));
    v = good_variant, v.backend = ANEMO_CUDA, v.needs.min_capability = 80;
    assert_false(anemo_variant_runs_here(&v, 0, why, sizeof why));
    assert_false(anemo_variant_runs_here(&v, 75, why, sizeof why));
    assert_non_null(strstr(why, "8.0"));
    assert_true(anemo_variant_runs_here(&v, 90, why, sizeof why));
    v.needs.exact_capability = 90;
    assert_true(anemo_variant_runs_here(&v, 90, why, sizeof why));
    assert_false(anemo_variant_runs_here(&v, 100, why, sizeof why));
}

/* ---------------------------------------------------------------- threads and device */

enum { ITEMS = 10007 };
typedef struct visits {
    _Atomic int32_t count[ITEMS];
    _Atomic int32_t bad_thread;
    int32_t n_threads;
    int64_t grain, n;
    const int32_t *cpus;
} visits;

static void visit(void *ctx, int64_t begin, int64_t end, int thread) {
    visits *v = ctx;
    const bool wrong_cpu = v->cpus && sched_getcpu() != v->cpus[thread];
    const bool wrong_piece = v->grain > 0 && end - begin != v->grain && end != v->n;
    if (thread < 0 || thread >= v->n_threads || wrong_cpu || wrong_piece) {
        atomic_fetch_add(&v->bad_thread, 1);
    }
    for (int64_t i = begin; i < end; i++) {
        atomic_fetch_add(&v->count[i], 1);
    }
}

static void every_item_once(anemo_device *device, int32_t n_threads, const int32_t *cpus) {
    static visits v;
    const int64_t sizes[] = {0, 1, 2, 3, 64, ITEMS}, grains[] = {0, 1, 7, 100000};
    const anemo_exec exec = anemo_device_exec(device);
    assert_int_equal(exec.n_threads, n_threads);
    for (int s = 0; s < 6; s++) {
        for (int g = 0; g < 4; g++) {
            memset(&v, 0, sizeof v);
            v.n_threads = n_threads, v.grain = grains[g], v.n = sizes[s], v.cpus = cpus;
            exec.parallel(&exec, sizes[s], grains[g], visit, &v);
            for (int64_t i = 0; i < ITEMS; i++) {
                assert_int_equal(v.count[i], i < sizes[s]);
            }
            assert_int_equal(v.bad_thread, 0);
        }
    }
}

static void test_parallel(void **state) {
    (void)state;
    for (int32_t n_threads = 1; n_threads <= 5; n_threads += 2) {
        anemo_device *device;
        anemo_error err;
        assert_int_equal(anemo_device_create_cpu(n_threads, NULL, &device, &err), ANEMO_OK);
        for (int repeat = 0; repeat < 20; repeat++) {
            every_item_once(device, n_threads, NULL);
        }
        anemo_device_free(device);
    }
}

static void test_binding(void **state) {
    (void)state;
    cpu_set_t before, after;
    anemo_error err;
    anemo_device *bound, *free_device;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    int32_t allowed[CPU_SETSIZE], n = 0, forbidden = -1;
    for (int32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &before)) {
            allowed[n++] = cpu;
        } else {
            forbidden = cpu;
        }
    }
    const int32_t cpus[] = {allowed[n - 1], allowed[0], allowed[n / 2]};
    assert_int_equal(anemo_device_create_cpu(3, cpus, &bound, &err), ANEMO_OK);
    assert_int_equal(anemo_device_create_cpu(0, NULL, &free_device, &err), ANEMO_OK);
    every_item_once(bound, 3, cpus);
    every_item_once(free_device, n, NULL); /* the mask before binding counts, not the bound one */
    every_item_once(bound, 3, cpus);
    anemo_device_free(bound);
    anemo_device_free(free_device);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
    if (forbidden >= 0) {
        assert_int_equal(anemo_device_create_cpu(1, &forbidden, &bound, &err), ANEMO_E_INPUT);
        assert_non_null(strstr(err.text, "not among"));
    }
}

static void test_device(void **state) {
    (void)state;
    anemo_device *device;
    anemo_error err;
    assert_int_equal(anemo_device_create_cpu(1, NULL, &device, &err), ANEMO_OK);
    assert_int_equal(anemo_device_backend(device), ANEMO_CPU);
    assert_int_equal(anemo_device_capability(device), 0);
    assert_true(strlen(anemo_device_name(device)) > 0);
    const size_t sizes[] = {0, 1, 100, 4096, (2 << 20) - 1, 2 << 20, (5 << 20) + 3};
    size_t held = 0;
    char *memory[7];
    for (int i = 0; i < 7; i++) {
        memory[i] = anemo_device_alloc(device, ANEMO_MEM_STEP, sizes[i]);
        assert_non_null(memory[i]);
        assert_int_equal((uintptr_t)memory[i] % 64, 0);
        for (size_t b = 0; b < sizes[i]; b++) {
            assert_true(memory[i][b] == 0);
        }
        memset(memory[i], 1, sizes[i]);
        held += sizes[i];
        assert_int_equal(anemo_device_held_bytes(device, ANEMO_MEM_STEP), held);
    }
    assert_int_equal(anemo_device_held_bytes(device, ANEMO_MEM_KV), 0);
    assert_null(anemo_device_alloc(device, ANEMO_MEM_KV, SIZE_MAX));
    assert_int_equal(anemo_device_copy(device, memory[6], memory[5], 1 << 20), ANEMO_OK);
    for (int i = 0; i < 7; i++) {
        anemo_device_dealloc(device, ANEMO_MEM_STEP, memory[i], sizes[i]);
    }
    assert_int_equal(anemo_device_held_bytes(device, ANEMO_MEM_STEP), 0);
    assert_int_equal(anemo_device_peak_bytes(device), held);

    anemo_event *start = anemo_event_create(device), *stop = anemo_event_create(device);
    double ns = -1.0;
    assert_int_equal(anemo_event_elapsed_ns(start, stop, &ns), ANEMO_E_INPUT); /* not recorded */
    assert_int_equal(anemo_event_record(device, start), ANEMO_OK);
    assert_int_equal(anemo_event_record(device, stop), ANEMO_OK);
    assert_int_equal(anemo_event_elapsed_ns(start, stop, &ns), ANEMO_OK);
    assert_true(ns >= 0.0);
    anemo_event_free(start);
    anemo_event_free(stop);
    anemo_graph *graph;
    assert_int_equal(anemo_capture_begin(device), ANEMO_E_UNSUPPORTED);
    assert_int_equal(anemo_capture_end(device, &graph, &err), ANEMO_E_UNSUPPORTED);
    assert_null(graph);
    anemo_device_free(device);
}

/* ---------------------------------------------------------------- work */

static void test_qgemm_work(void **state) {
    (void)state;
    const anemo_weight_type q4 = type_cases[2].type;
    anemo_qgemm_problem p = {.size = sizeof p,
                             .n_parts = 2,
                             .m_max = 9,
                             .k = 64,
                             .n = {8, 8},
                             .type = {q4, q4},
                             .has_bias = 2,
                             .epilogue = ANEMO_EPI_ACT_MUL};
    anemo_work w = anemo_op_work(ANEMO_OP_QGEMM, &p, 3, 0);
    close_to(w.weight_bytes, 2 * 8 * 64 * 4.5 / 8 + 4 * 8, 0);
    close_to(w.act_bytes, 4 * 3 * 64 + 4 * 3 * 8, 0);
    close_to(w.ops, 2.0 * 3 * 64 * 16, 0);
    p.epilogue = ANEMO_EPI_ADD;
    w = anemo_op_work(ANEMO_OP_QGEMM, &p, 3, 0);
    close_to(w.act_bytes, 4 * 3 * 64 + 2 * 4 * 3 * 16, 0);
}

static void test_moe_work(void **state) {
    (void)state;
    const anemo_weight_type bf16 = type_cases[1].type;
    const anemo_moe_experts_problem p = {.size = sizeof p,
                                         .tokens_max = 8,
                                         .n_experts = 8,
                                         .top_k = 2,
                                         .expert_end = 8,
                                         .d = 16,
                                         .ffn = 32,
                                         .gate = bf16,
                                         .up = bf16,
                                         .down = bf16};
    const anemo_work one = anemo_op_work(ANEMO_OP_MOE_EXPERTS, &p, 1, 0);
    close_to(one.weight_bytes, 2 * 3 * 16 * 32 * 2, 1e-9); /* one token touches top_k experts */
    close_to(one.ops, 2 * 2 * 3 * 16 * 32, 1e-9);
    const anemo_work two = anemo_op_work(ANEMO_OP_MOE_EXPERTS, &p, 2, 0);
    close_to(two.weight_bytes, 8 * (1 - 0.75 * 0.75) * 3 * 16 * 32 * 2, 1e-9);
}

/* Against counting visible keys one by one. */
static void test_swa_work(void **state) {
    (void)state;
    const anemo_kv_shape kv = {.n_heads = 4, .n_kv_heads = 2, .head_dim = 8, .type = ANEMO_KV_F16};
    for (int64_t window = 0; window <= 12; window++) {
        for (int64_t rows = 1; rows <= 9; rows++) {
            for (int64_t context = rows; context <= 14; context++) {
                anemo_swa_problem p = {
                    .size = sizeof p, .sequences_max = 2, .kv = kv, .window = window};
                double keys = 0, lowest = 1e9;
                for (int64_t r = 0; r < rows; r++) {
                    const int64_t i = context - rows + r;
                    for (int64_t j = 0; j <= i; j++) {
                        if (window == 0 || i - j < window) {
                            keys += 1;
                            lowest = j < lowest ? (double)j : lowest;
                        }
                    }
                }
                const anemo_work w = anemo_op_work(ANEMO_OP_SWA, &p, 2 * rows, context);
                close_to(w.ops, 2 * keys * 4 * 8 * 4, 1e-9);
                close_to(w.kv_bytes, 2 * ((double)context - lowest) * 2 * 2 * 16, 1e-9);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status),       cmocka_unit_test(test_ops),
        cmocka_unit_test(test_weight_types), cmocka_unit_test(test_weight_value),
        cmocka_unit_test(test_weight_row),   cmocka_unit_test(test_acts_and_kv),
        cmocka_unit_test(test_f16),          cmocka_unit_test(test_philox),
        cmocka_unit_test(test_registered),   cmocka_unit_test(test_registry),
        cmocka_unit_test(test_runs_here),    cmocka_unit_test(test_parallel),
        cmocka_unit_test(test_binding),      cmocka_unit_test(test_device),
        cmocka_unit_test(test_qgemm_work),   cmocka_unit_test(test_moe_work),
        cmocka_unit_test(test_swa_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
