/* Work on more than one stream, and work that waits for the host, on the emulated GPU: the variants
 * of moe_experts that call cuBLAS for each expert. A wait that is left out must show; results must
 * be right where an expert's rows are cut; a capture must be refused, and a plan must not try one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "emulated_gpu.h"
#include "kernels/moe/moe.h"
#include "kernels/moe/pieces.h"
#include "tests/support/golden.h"
#include "tests/support/random_weight.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OVERLAPPED "moe_experts_w16a16_overlap_sm80"

static anemo_device *gpu(void) {
    anemo_device *device = NULL;
    anemo_error err = {{0}};
    if (anemo_device_create_cuda(0, &device, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    return device;
}

/* ---------------------------------------------------------------- many rows of one expert */

enum { EXPERTS = 2, D = 40, FFN = 24, TOKENS = 2 * MOE_PIECE_ROWS + 5 };

/* All tokens but three are of the second expert. */
typedef struct many {
    anemo_device *device;
    anemo_moe_experts_problem problem;
    anemo_moe_experts_args args; /* memory of the device */
    anemo_exec exec;
    random_weight *weight[3][EXPERTS];
    int32_t expert[TOKENS], row_token[TOKENS], row_of[TOKENS], count[EXPERTS], offset[EXPERTS + 1];
    uint16_t *x; /* records of bf16 */
    void *given[32];
    size_t given_bytes[32];
    int n_given;
} many;

static void *give(many *m, const void *content, size_t bytes) {
    void *memory = anemo_device_alloc(m->device, ANEMO_MEM_STEP, bytes);
    assert_non_null(memory);
    assert_true(m->n_given < 32);
    m->given[m->n_given] = memory;
    m->given_bytes[m->n_given++] = bytes;
    if (content)
        assert_int_equal(anemo_device_upload(m->device, memory, content, bytes), ANEMO_OK);
    return memory;
}

static const void *const *give_weights(many *m, int part, int64_t n, int64_t k) {
    const anemo_layout *layout = anemo_layout_find("w16_fragment");
    const anemo_weight_type *type = &m->problem.gate;
    const void *packed[EXPERTS];
    const size_t bytes = layout->packed_bytes(type, n, k);
    for (int e = 0; e < EXPERTS; e++) {
        void *host = calloc(1, bytes);
        assert_non_null(host);
        m->weight[part][e] = random_weight_create(*type, n, k, (uint64_t)(10 * part + e));
        assert_int_equal(layout->pack(&m->weight[part][e]->weight, 0, n, host), ANEMO_OK);
        packed[e] = give(m, host, bytes);
        anemo_device_synchronise(m->device, NULL);
        free(host);
    }
    return give(m, packed, sizeof packed);
}

static float bf16_value(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static void give_x(many *m) {
    const anemo_act *bf16 = anemo_act_find("bf16");
    const size_t row = bf16->row_bytes(D) / sizeof *m->x;
    m->x = calloc(TOKENS * row, sizeof *m->x);
    assert_non_null(m->x);
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t i = 0; i < D; i++) {
            const float value = random_float(5, t * D + i);
            uint32_t bits;
            memcpy(&bits, &value, sizeof bits);
            m->x[t * row + i] = (uint16_t)(bits >> 16);
        }
    m->args.x = give(m, m->x, TOKENS * row * sizeof *m->x);
}

static void give_plan(many *m) {
    anemo_moe_plan plan = {.size = sizeof plan,
                           .expert = m->expert,
                           .count = m->count,
                           .offset = m->offset,
                           .row_token = m->row_token,
                           .row_of = m->row_of};
    for (int t = 0; t < TOKENS; t++)
        m->expert[t] = t % 2000 == 7 ? 0 : 1;
    anemo_moe_plan_sort(&plan, TOKENS, EXPERTS, 1);
    assert_true(m->count[1] > 2 * MOE_PIECE_ROWS);
    m->args.plan.size = sizeof m->args.plan;
    m->args.plan.count = give(m, m->count, sizeof m->count);
    m->args.plan.offset = give(m, m->offset, sizeof m->offset);
    m->args.plan.row_token = give(m, m->row_token, sizeof m->row_token);
}

static many *many_create(const anemo_variant *variant) {
    many *m = calloc(1, sizeof *m);
    assert_non_null(m);
    const anemo_weight_type bf16 = {.code = ANEMO_CODE_BF16, .bits = 16};
    m->device = gpu();
    m->problem = (anemo_moe_experts_problem){.size = sizeof m->problem,
                                             .tokens_max = TOKENS,
                                             .n_experts = EXPERTS,
                                             .top_k = 1,
                                             .expert_end = EXPERTS,
                                             .d = D,
                                             .ffn = FFN,
                                             .gate = bf16,
                                             .up = bf16,
                                             .down = bf16};
    m->args.size = sizeof m->args;
    m->args.tokens = TOKENS;
    m->args.gate = give_weights(m, 0, FFN, D);
    m->args.up = give_weights(m, 1, FFN, D);
    m->args.down = give_weights(m, 2, D, FFN);
    give_x(m);
    give_plan(m);
    m->args.rows = give(m, NULL, TOKENS * D * sizeof(float));
    m->exec = anemo_device_exec(m->device);
    m->exec.workspace_bytes = variant->workspace_bytes(&m->problem, 1);
    m->exec.workspace = give(m, NULL, m->exec.workspace_bytes);
    anemo_device_synchronise(m->device, NULL);
    return m;
}

static void many_free(many *m) {
    for (int i = 0; i < m->n_given; i++)
        anemo_device_dealloc(m->device, ANEMO_MEM_STEP, m->given[i], m->given_bytes[i]);
    for (int part = 0; part < 3; part++)
        for (int e = 0; e < EXPERTS; e++)
            random_weight_free(m->weight[part][e]);
    anemo_device_free(m->device);
    free(m->x);
    free(m);
}

/* Largest error of a sorted row, from the definition in double; `scale`: the largest value. */
static double row_error(const many *m, int64_t row, const float *got, double *scale) {
    const int e = row >= m->offset[1];
    const uint16_t *x =
        m->x + (size_t)m->row_token[row] * anemo_act_find("bf16")->row_bytes(D) / sizeof *x;
    double h[FFN], largest = 0;
    for (int64_t j = 0; j < FFN; j++) {
        double g = 0, u = 0;
        for (int64_t i = 0; i < D; i++) {
            g += random_weight_value(m->weight[0][e], j, i) * bf16_value(x[i]);
            u += random_weight_value(m->weight[1][e], j, i) * bf16_value(x[i]);
        }
        h[j] = g / (1 + exp(-g)) * u;
    }
    for (int64_t i = 0; i < D; i++) {
        double y = 0;
        for (int64_t j = 0; j < FFN; j++)
            y += random_weight_value(m->weight[2][e], i, j) * h[j];
        *scale = fmax(*scale, fabs(y));
        largest = fmax(largest, isnan(got[i]) ? INFINITY : fabs(got[i] - y));
    }
    return largest;
}

/* Runs it on memory that is NaN; false, and no rows, when the device found fault. */
static bool many_run(many *m, const anemo_variant *variant, float rows[TOKENS * D]) {
    const size_t bytes = TOKENS * D * sizeof *rows, room = m->exec.workspace_bytes;
    void *poison = malloc(bytes > room ? bytes : room);
    anemo_error err = {{0}};
    assert_non_null(poison);
    memset(poison, 0xff, bytes > room ? bytes : room);
    anemo_device_upload(m->device, m->exec.workspace, poison, room);
    anemo_device_upload(m->device, m->args.rows, poison, bytes);
    anemo_device_synchronise(m->device, NULL);
    free(poison);
    assert_int_equal(variant->run(&m->exec, &m->problem, &m->args), ANEMO_OK);
    if (anemo_device_synchronise(m->device, &err) != ANEMO_OK)
        return false;
    anemo_device_download(m->device, rows, m->args.rows, bytes);
    anemo_device_synchronise(m->device, NULL);
    return true;
}

static void rows_in_pieces(void **state) {
    static const char *const names[] = {"moe_experts_w16a16_cublas_sm80", OVERLAPPED};
    static float rows[TOKENS * D];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const anemo_variant *variant = anemo_variant_find(names[i]);
        assert_non_null(variant);
        many *m = many_create(variant);
        double error = 0, scale = 0;
        assert_true(many_run(m, variant, rows));
        for (int64_t r = 0; r < TOKENS; r++)
            error = fmax(error, row_error(m, r, rows + r * D, &scale));
        print_message("%s: error %.3g, largest value %.3g\n", names[i], error, scale);
        assert_true(scale > 0.1 && error < 0x1p-8 * scale); /* inner rows: 2^-9 of each */
        many_free(m);
    }
}

/* ---------------------------------------------------------------- waits */

/* With all its waits the variant gives the same rows in every order of the streams; without any one
 * of them, others in one order at least. */
static void a_missing_wait_shows(void **state) {
    static float want[TOKENS * D], got[TOKENS * D];
    const anemo_variant *variant = anemo_variant_find(OVERLAPPED);
    int64_t waits = 0, seen = 0;
    (void)state;
    assert_non_null(variant);
    many *m = many_create(variant);
    for (int32_t order = 0; order < emulated_stream_orders(); order++) {
        const int64_t before = emulated_waits();
        emulated_stream_order(order);
        assert_true(many_run(m, variant, order == 0 ? want : got));
        assert_true(order == 0 || memcmp(want, got, sizeof got) == 0);
        waits = emulated_waits() - before;
    }
    assert_int_equal(waits, 21); /* 12 products: 11 wait to be filled, 10 are waited for */
    for (int64_t dropped = 0; dropped < waits; dropped++) {
        bool same = true;
        for (int32_t order = 0; order < emulated_stream_orders() && same; order++) {
            emulated_stream_order(order);
            emulated_drop_wait(emulated_waits() + dropped);
            same = many_run(m, variant, got) && memcmp(want, got, sizeof got) == 0;
        }
        if (same)
            print_message("without wait %lld nothing shows\n", (long long)dropped);
        seen += !same;
    }
    emulated_drop_wait(-1);
    emulated_stream_order(-1);
    many_free(m);
    print_message("%lld waits, %lld missed when left out\n", (long long)waits, (long long)seen);
    assert_int_equal(seen, waits);
}

/* ---------------------------------------------------------------- captures */

/* The wait for the host is refused while a graph is captured, with nothing recorded. */
static void a_capture_is_refused(void **state) {
    static const char *const names[] = {"moe_experts_w16a16_cublas_sm80", OVERLAPPED};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const anemo_variant *variant = anemo_variant_find(names[i]);
        assert_non_null(variant);
        assert_int_equal(variant->traits & ANEMO_TRAIT_CAPTURABLE, 0);
        many *m = many_create(variant);
        anemo_graph *graph = NULL;
        anemo_error err = {{0}};
        assert_int_equal(anemo_capture_begin(m->device), ANEMO_OK);
        assert_int_equal(variant->run(&m->exec, &m->problem, &m->args), ANEMO_E_UNSUPPORTED);
        assert_int_equal(anemo_capture_end(m->device, &graph, &err), ANEMO_OK);
        anemo_graph_free(graph);
        assert_int_equal(variant->run(&m->exec, &m->problem, &m->args), ANEMO_OK);
        assert_int_equal(anemo_device_synchronise(m->device, &err), ANEMO_OK);
        many_free(m);
    }
}

static int32_t launches_with(const char *with) {
    const int32_t before = emulated_graph_launches();
    run_model_backend = ANEMO_CUDA;
    run_model_with = with;
    golden_check_greedy("mixtral-window");
    run_model_backend = ANEMO_CPU;
    run_model_with = NULL;
    return emulated_graph_launches() - before;
}

/* A copy of a variant that says it may not be captured: as the choice for more rows than a decode
 * step has it leaves the graph alone, as the choice for all of them it does not. */
static void a_plan_captures_what_it_may(void **state) {
    static anemo_variant bound;
    static const anemo_variant *const variants[] = {&bound};
    const anemo_plugin plugin = {.size = sizeof plugin,
                                 .abi_major = ANEMO_ABI_MAJOR,
                                 .abi_minor = ANEMO_ABI_MINOR,
                                 .name = "bound",
                                 .n_variants = 1,
                                 .variants = variants};
    anemo_error err = {{0}};
    (void)state;
    bound = *anemo_variant_find("add_rmsnorm_block_sm80");
    bound.name = "add_rmsnorm_bound_sm80";
    bound.traits &= ~ANEMO_TRAIT_CAPTURABLE;
    if (anemo_registry_add(&plugin, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    assert_true(launches_with("add_rmsnorm:m=2..=add_rmsnorm_bound_sm80") >= 62);
    assert_int_equal(launches_with("add_rmsnorm=add_rmsnorm_bound_sm80"), 0);
}

/* ---------------------------------------------------------------- the engine */

/* Logits of transformers with the experts by cuBLAS: rounding of activations to bf16, and now and
 * then a router that chooses another expert. */
static void golden_logits_of_experts(void **state) {
    static const char *const families[] = {"mixtral-window", "qwen3-moe", "gpt-oss"};
    static const int pieces[] = {7, 1, 1, 12, 0};
    (void)state;
    run_model_backend = ANEMO_CUDA;
    run_model_with = "moe_experts=" OVERLAPPED;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        golden g = golden_open(families[i]);
        const run_case cut = {.path = g.dir, .window = -1, .chunks = pieces};
        const double error = golden_error(&g, &cut);
        print_message("%s: error %.3g of the sd\n", families[i], error);
        assert_true(error <= 0.2);
        json_decref(g.json);
    }
    run_model_backend = ANEMO_CPU;
    run_model_with = NULL;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_wait_shows),     cmocka_unit_test(rows_in_pieces),
        cmocka_unit_test(a_capture_is_refused),     cmocka_unit_test(a_plan_captures_what_it_may),
        cmocka_unit_test(golden_logits_of_experts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
