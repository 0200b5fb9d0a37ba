/* qgemm, quantize_act and the weight layouts against computations written here, on every size that
 * leaves a tail. Every registered CPU variant that runs on this machine is tested. */
#include "anemo_config.h"
#include "harness/check/number.h"
#include "kernels/device.h"
#include "kernels/kernel.h"
#include "support/random_weight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- running a variant */

static anemo_device *devices[2]; /* 1 and 3 threads */

static int make_devices(void **state) {
    (void)state;
    anemo_error err;
    return anemo_device_create_cpu(1, NULL, &devices[0], &err) != ANEMO_OK ||
           anemo_device_create_cpu(3, NULL, &devices[1], &err) != ANEMO_OK;
}

static int free_devices(void **state) {
    (void)state;
    anemo_device_free(devices[0]);
    anemo_device_free(devices[1]);
    return 0;
}

/* Runs with exactly the workspace it asks for, filled with NaN and guarded; one byte less must be
 * refused. */
static void run(const anemo_variant *v, anemo_device *device, const void *problem,
                const void *args) {
    enum { BEHIND = 65536 };
    anemo_exec exec = anemo_device_exec(device);
    const size_t bytes = v->workspace_bytes(problem, exec.n_threads);
    unsigned char *workspace = anemo_device_alloc(device, ANEMO_MEM_WORKSPACE, bytes + BEHIND);
    memset(workspace, 0xff, bytes + BEHIND);
    exec.workspace = workspace;
    exec.workspace_bytes = bytes;
    assert_int_equal(v->run(&exec, problem, args), ANEMO_OK);
    for (size_t i = bytes; i < bytes + BEHIND; i++) {
        assert_int_equal(workspace[i], 0xff);
    }
    if (bytes > 0) {
        exec.workspace_bytes--;
        assert_int_equal(v->run(&exec, problem, args), ANEMO_E_MEMORY);
    }
    anemo_device_dealloc(device, ANEMO_MEM_WORKSPACE, workspace, bytes + BEHIND);
}

static bool on_this_cpu(const anemo_variant *v, anemo_op op) {
    return v->op == op && v->backend == ANEMO_CPU && anemo_variant_runs_here(v, 0, NULL, 0);
}

/* The packed weight, or the weight itself when the variant names no layout. free() what *storage
 * holds. */
static const void *weight_for(const anemo_variant *v, const random_weight *w, void **storage) {
    *storage = NULL;
    if (!v->layout) {
        return &w->weight;
    }
    const anemo_layout *l = anemo_layout_find(v->layout);
    const size_t bytes = l->packed_bytes(&w->weight.type, w->weight.n, w->weight.k);
    *storage = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_int_equal(l->pack(&w->weight, 0, w->weight.n, *storage), ANEMO_OK);
    return *storage;
}

/* m records of x in format `act`, made by the reference, and the floats they stand for. */
static void *records_for(const char *act, const float *x, int64_t m, int64_t k, float *meaning) {
    const anemo_act *format = anemo_act_find(act);
    const size_t row_bytes = format->row_bytes(k);
    char *records = aligned_alloc(64, ((size_t)m * row_bytes + 63) / 64 * 64);
    memcpy(meaning, x, (size_t)(m * k) * sizeof *x);
    if (!act || strcmp(act, "f32") == 0) {
        return memcpy(records, x, (size_t)m * row_bytes);
    }
    char name[96];
    snprintf(name, sizeof name, "quantize_act_%s_ref", act);
    const anemo_quantize_act_problem p = {.size = sizeof p, .m_max = m, .k = k};
    const anemo_quantize_act_args a = {.size = sizeof a, .m = m, .x = x, .out = records};
    run(anemo_variant_find(name), devices[0], &p, &a);
    for (int64_t i = 0; i < m; i++) {
        const char *record = records + (size_t)i * row_bytes;
        for (int64_t c = 0; c < k; c++) {
            float value;
            if (strcmp(act, "f16_row") == 0) {
                memcpy(&value, record + anemo_f16_row_scale_at(k), 4);
                value *= (float)check_from_f16(((const uint16_t *)(const void *)record)[c]);
            } else if (format->code_bits == 16) {
                const uint32_t bits = (uint32_t)((const uint16_t *)(const void *)record)[c] << 16;
                memcpy(&value, &bits, 4);
            } else {
                const int64_t g = format->group > 0 ? c / format->group : 0;
                memcpy(&value, record + anemo_a8_padded_k(k) + 4 * g, 4);
                value *= (float)((const int8_t *)record)[c];
            }
            meaning[i * k + c] = value;
        }
    }
    return records;
}

/* ---------------------------------------------------------------- one case, against plain sums */

typedef struct qgemm_case {
    int32_t n_parts, has_bias, epilogue, activation;
    int64_t m, k, n[ANEMO_QGEMM_PARTS];
    anemo_weight_type type[ANEMO_QGEMM_PARTS];
} qgemm_case;

enum { GUARD = 3 }; /* floats between rows of y that must stay as they were */
static const float guard_value = 12345.0f;

typedef struct qgemm_data {
    qgemm_case c;
    anemo_qgemm_problem problem;
    random_weight *w[ANEMO_QGEMM_PARTS];
    float *bias[ANEMO_QGEMM_PARTS], *x;
} qgemm_data;

static qgemm_data data_create(qgemm_case c) {
    qgemm_data d = {.c = c};
    d.problem = (anemo_qgemm_problem){.size = sizeof d.problem,
                                      .n_parts = c.n_parts,
                                      .m_max = c.m,
                                      .k = c.k,
                                      .has_bias = c.has_bias,
                                      .epilogue = c.epilogue,
                                      .activation = c.activation};
    d.x = malloc((size_t)(c.m * c.k) * sizeof *d.x);
    for (int64_t i = 0; i < c.m * c.k; i++) {
        d.x[i] = 3.0f * random_float(1, (uint64_t)i);
    }
    for (int p = 0; p < c.n_parts; p++) {
        d.problem.n[p] = c.n[p];
        d.problem.type[p] = c.type[p];
        d.w[p] = random_weight_create(c.type[p], c.n[p], c.k, (uint64_t)(10 + p));
        d.bias[p] = malloc((size_t)c.n[p] * sizeof **d.bias);
        for (int64_t j = 0; j < c.n[p]; j++) {
            d.bias[p][j] = 5.0f * random_float((uint64_t)(20 + p), (uint64_t)j);
        }
    }
    return d;
}

static void data_free(qgemm_data *d) {
    free(d->x);
    for (int p = 0; p < d->c.n_parts; p++) {
        random_weight_free(d->w[p]);
        free(d->bias[p]);
    }
}

/* Result and error bound of part p before the epilogue. The bound: rounding of every product and of
 * partial sums, sqrt(k) of them in a random walk, with room to spare; a wrong element is orders of
 * magnitude above it. The matrix tiles of bf16 round quantised, f16 and f32 weights, each by half a
 * unit in the last of 8 binary digits at most, 2^-8 |w|; at worst all errors |x| 2^-8 |w| point one
 * way. bf16 weights are exact. Those of f16 round to 11 digits, the scale and the offset before,
 * and so do quantised ones on their way to bf16. */
static double plain_sum(const qgemm_data *d, const anemo_variant *v, const float *x, int p,
                        int64_t row, int64_t column, double *bound) {
    const bool bf16 =
        v->needs.cpu_features & ANEMO_CPU_AMX_BF16 && d->c.type[p].code != ANEMO_CODE_BF16;
    const bool f16 = (bf16 && d->c.type[p].bits <= 8) || (v->act && !strcmp(v->act, "f16_row"));
    double sum = d->c.has_bias >> p & 1 ? d->bias[p][column] : 0.0, magnitude = fabs(sum);
    double rounded = 0.0;
    for (int64_t i = 0; i < d->c.k; i++) {
        const double xi = x[row * d->c.k + i],
                     product = xi * random_weight_value(d->w[p], column, i);
        sum += product;
        magnitude += fabs(xi) * random_weight_magnitude(d->w[p], column, i);
        rounded += bf16 ? 0x1p-8 * fabs(product) : 0.0;
        rounded += f16 ? 3 * 0x1p-11 * fabs(xi) * random_weight_magnitude(d->w[p], column, i) : 0.0;
    }
    *bound = (4.0 + sqrt((double)d->c.k)) * 0x1p-24 * magnitude + rounded;
    return sum;
}

static double expected(const qgemm_data *d, const anemo_variant *v, const float *x, int p,
                       int64_t row, int64_t column, double before, double *bound) {
    double g = plain_sum(d, v, x, p, row, column, bound), up_bound;
    if (d->c.epilogue == ANEMO_EPI_STORE) {
        return g;
    }
    if (d->c.epilogue == ANEMO_EPI_ADD) {
        *bound += 0x1p-23 * (fabs(before) + fabs(g));
        return before + g;
    }
    double u = plain_sum(d, v, x, 1, row, column, &up_bound);
    double gated, slope = 1.2; /* of g sigmoid(a g), at most 1.1 */
    if (d->c.activation == ANEMO_ACT_SILU_CLAMPED) {
        g = fmin(g, 7.0);
        u = fmax(fmin(u, 7.0), -7.0) + 1.0;
        gated = g / (1.0 + exp(-1.702 * g));
    } else {
        gated = g / (1.0 + exp(-g));
    }
    *bound = slope * fabs(u) * *bound + fabs(gated) * up_bound + 0x1p-20 * fabs(u * gated);
    return u * gated;
}

static float *y_create(int64_t m, int64_t n) {
    float *y = malloc((size_t)(m * (n + GUARD)) * sizeof *y);
    for (int64_t i = 0; i < m * (n + GUARD); i++) {
        y[i] = i % (n + GUARD) < n ? (float)(i % 17) : guard_value;
    }
    return y;
}

static void check_part(const qgemm_data *d, const anemo_variant *v, const float *x, int p,
                       const float *y) {
    const int64_t n = d->c.n[p], stride = n + GUARD;
    for (int64_t i = 0; i < d->c.m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double bound;
            const double want = expected(d, v, x, p, i, j, (double)((i * stride + j) % 17), &bound);
            if (!(fabs(y[i * stride + j] - want) <= bound)) {
                char type[64];
                fail_msg("%s %s m %lld k %lld n %lld epilogue %d: part %d [%lld, %lld] is %.9g, "
                         "want %.9g, bound %.3g",
                         v->name, anemo_weight_type_name(&d->c.type[p], type, sizeof type),
                         (long long)d->c.m, (long long)d->c.k, (long long)n, d->c.epilogue, p,
                         (long long)i, (long long)j, y[i * stride + j], want, bound);
            }
        }
        for (int64_t j = n; j < stride; j++) {
            assert_true(y[i * stride + j] == guard_value);
        }
    }
}

/* False when the variant refuses the case. */
static bool check_case(const anemo_variant *v, const qgemm_data *d) {
    char why[160] = "";
    if (!anemo_variant_supports(v, 0, &d->problem, why, sizeof why)) {
        assert_true(strlen(why) > 0);
        return false;
    }
    float *meaning = malloc((size_t)(d->c.m * d->c.k) * sizeof *meaning);
    void *records = records_for(v->act, d->x, d->c.m, d->c.k, meaning);
    void *storage[ANEMO_QGEMM_PARTS];
    anemo_qgemm_args a = {.size = sizeof a, .m = d->c.m, .x = records};
    for (int p = 0; p < d->c.n_parts; p++) {
        a.weight[p] = weight_for(v, d->w[p], &storage[p]);
        a.bias[p] = d->c.has_bias >> p & 1 ? d->bias[p] : NULL;
        a.y_stride[p] = d->c.n[p] + GUARD;
    }
    const int written = d->c.epilogue == ANEMO_EPI_ACT_MUL ? 1 : d->c.n_parts;
    for (int t = 0; t < 2; t++) {
        for (int p = 0; p < written; p++) {
            a.y[p] = y_create(d->c.m, d->c.n[p]);
        }
        run(v, devices[t], &d->problem, &a);
        for (int p = 0; p < written; p++) {
            check_part(d, v, meaning, p, a.y[p]);
            free(a.y[p]);
        }
    }
    for (int p = 0; p < d->c.n_parts; p++) {
        free(storage[p]);
    }
    free(records);
    free(meaning);
    return true;
}

/* ---------------------------------------------------------------- tests of qgemm */

typedef void (*variant_test)(const anemo_variant *v);

static void each_qgemm(variant_test test) {
    int tested = 0;
    for (int32_t i = 0; i < anemo_variant_count(); i++) {
        if (on_this_cpu(anemo_variant_at(i), ANEMO_OP_QGEMM)) {
            test(anemo_variant_at(i));
            tested++;
        }
    }
    assert_true(tested >= 2); /* reference and plain C run everywhere */
}

static void all_types(const anemo_variant *v) {
    int accepted = 0;
    for (int t = 0; t < random_weight_type_count; t++) {
        const int64_t ks[] = {1, 31, 100, 161, 384};
        for (int s = 0; s < 5; s++) {
            const anemo_weight_type type = random_weight_types[t];
            qgemm_data d = data_create((qgemm_case){
                .n_parts = 1, .m = 1 + s % 3, .k = ks[s], .n = {5 + 15 * s}, .type = {type}});
            accepted += check_case(v, &d);
            data_free(&d);
        }
    }
    assert_true(accepted >= 5);
    if (v->traits & ANEMO_TRAIT_REFERENCE) {
        assert_int_equal(accepted, 5 * random_weight_type_count);
    }
}

static void test_types(void **state) {
    (void)state;
    each_qgemm(all_types);
}

/* A type that v accepts as part p, or false. */
static bool some_type(const anemo_variant *v, int p, anemo_weight_type *type) {
    int seen = 0;
    for (int t = 0; t < ANEMO_QGEMM_PARTS * random_weight_type_count; t++) {
        anemo_qgemm_problem q = {.size = sizeof q, .n_parts = 1, .m_max = 1, .k = 96, .n = {8}};
        q.type[0] = random_weight_types[t % random_weight_type_count];
        if (anemo_variant_supports(v, 0, &q, NULL, 0) && seen++ == p) {
            *type = q.type[0];
            return true;
        }
    }
    return false;
}

static void all_epilogues(const anemo_variant *v) {
    for (int e = 0; e < 24; e++) {
        qgemm_case c = {.epilogue = e % 3, .activation = e / 3 % 2, .m = 1 + e % 8, .k = 97};
        c.n_parts = c.epilogue == ANEMO_EPI_ACT_MUL ? 2 : 1 + e / 6 % 3;
        c.has_bias = (5 * e / 3) & ((1 << c.n_parts) - 1);
        for (int p = 0; p < c.n_parts; p++) {
            c.n[p] = c.epilogue == ANEMO_EPI_ACT_MUL ? 45 : 33 - 16 * p;
            assert_true(some_type(v, p, &c.type[p]));
        }
        qgemm_data d = data_create(c);
        assert_true(check_case(v, &d));
        data_free(&d);
    }
}

static void test_epilogues(void **state) {
    (void)state;
    each_qgemm(all_epilogues);
}

/* Every m around the tile heights, every n around the tile widths. */
static void all_tails(const anemo_variant *v) {
    anemo_weight_type type;
    assert_true(some_type(v, 1, &type));
    for (int64_t m = 1; m <= 19; m++) {
        const int64_t n = 1 + 7 * m % 67, k = 1 + 53 * m % 300;
        qgemm_data d =
            data_create((qgemm_case){.n_parts = 1, .m = m, .k = k, .n = {n}, .type = {type}});
        assert_true(check_case(v, &d));
        data_free(&d);
    }
}

static void test_tails(void **state) {
    (void)state;
    each_qgemm(all_tails);
}

/* Bit for bit: the rows of m = 13 on one thread are those computed alone on three. */
static void row_invariance(const anemo_variant *v) {
    if (!(v->traits & ANEMO_TRAIT_ROW_INVARIANT)) {
        return;
    }
    enum { M = 13, N = 75, K = 205 };
    qgemm_case c = {
        .n_parts = 2, .m = M, .k = K, .n = {N, N}, .epilogue = ANEMO_EPI_ACT_MUL, .has_bias = 3};
    assert_true(some_type(v, 0, &c.type[0]) && some_type(v, 1, &c.type[1]));
    qgemm_data d = data_create(c);
    float *meaning = malloc(M * K * sizeof *meaning), together[M * N], alone[N];
    const size_t row_bytes = anemo_act_find(v->act)->row_bytes(K);
    char *records = records_for(v->act, d.x, M, K, meaning);
    void *storage[2];
    anemo_qgemm_args a = {.size = sizeof a,
                          .m = M,
                          .x = records,
                          .bias = {d.bias[0], d.bias[1]},
                          .y = {together},
                          .y_stride = {N}};
    a.weight[0] = weight_for(v, d.w[0], &storage[0]);
    a.weight[1] = weight_for(v, d.w[1], &storage[1]);
    run(v, devices[0], &d.problem, &a);
    a.m = 1;
    a.y[0] = alone;
    for (int i = 0; i < M; i++) {
        a.x = records + (size_t)i * row_bytes;
        run(v, devices[1], &d.problem, &a);
        assert_memory_equal(alone, together + i * N, sizeof alone);
    }
    free(storage[0]);
    free(storage[1]);
    free(records);
    free(meaning);
    data_free(&d);
}

static void test_row_invariance(void **state) {
    (void)state;
    each_qgemm(row_invariance);
}

/* Largest and smallest codes against +-127 throughout, where 16-bit sums are fullest: a kernel that
 * adds one product too many before it widens them saturates or wraps here, far outside the bound.
 */
static void extremes(const anemo_variant *v) {
    enum { M = 8, N = 40, K = 288 };
    int accepted = 0;
    for (int t = 0; t < random_weight_type_count; t++) {
        const anemo_weight_type type = random_weight_types[t];
        qgemm_data d =
            data_create((qgemm_case){.n_parts = 1, .m = M, .k = K, .n = {N}, .type = {type}});
        for (int64_t i = 0; i < N * K && type.code == ANEMO_CODE_LINEAR; i++) {
            d.w[0]->codes[i] = (uint8_t)(i / K % 2 ? 0 : (1 << type.bits) - 1);
        }
        for (int64_t i = 0; i < M * K; i++) {
            const int64_t row = i / K, column = i % K; /* of one sign; then in runs of 1, 2, 4 .. */
            d.x[i] = row < 2 ? 1 - 2 * (float)row : 1 - 2 * (float)(column >> (row - 2) & 1);
        }
        accepted += check_case(v, &d);
        data_free(&d);
    }
    assert_true(accepted >= 1);
}

static void test_extremes(void **state) {
    (void)state;
    each_qgemm(extremes);
}

/* Groups side by side whose scales are far apart, or 0: each has to be right. Two levels, which
 * share one, differ by row. */
static void scales_apart(const anemo_variant *v) {
    enum { N = 40, K = 160 };
    const int exponent[4] = {-8, 0, 9, 0};
    for (int t = 0; t < random_weight_type_count; t++) {
        for (int64_t m = 8; m <= 33; m += 25) { /* few rows, and more than one tile */
            const anemo_weight_type type = random_weight_types[t];
            qgemm_data d =
                data_create((qgemm_case){.n_parts = 1, .m = m, .k = K, .n = {N}, .type = {type}});
            const int64_t groups = type.code == ANEMO_CODE_LINEAR ? d.w[0]->groups : 0;
            for (int64_t i = 0; i < N * groups; i++) {
                const bool two_level = type.scale == ANEMO_SCALE_TWO_LEVEL;
                const int64_t at = i / groups / 3 + (two_level ? 0 : i % groups);
                const bool zero = at % 4 == 3 && !two_level && type.scale != ANEMO_SCALE_E8M0;
                const float factor = zero ? 0.0f : ldexpf(1.0f, exponent[at % 4]);
                d.w[0]->scales[i] *= factor;
                d.w[0]->offsets[i] *= type.offset == ANEMO_OFFSET_MINIMUM ? factor : 1.0f;
            }
            check_case(v, &d);
            data_free(&d);
        }
    }
}

static void test_scales(void **state) {
    (void)state;
    each_qgemm(scales_apart);
}

/* A NaN in one row of x makes that row NaN and no other. */
static void nan_row(const anemo_variant *v) {
    enum { M = 7, N = 40, K = 96 };
    anemo_weight_type type;
    assert_true(some_type(v, 0, &type));
    qgemm_data d =
        data_create((qgemm_case){.n_parts = 1, .m = M, .k = K, .n = {N}, .type = {type}});
    d.x[4 * K + 50] = NAN;
    float meaning[M * K], y[M * N];
    void *storage, *records = records_for(v->act, d.x, M, K, meaning);
    anemo_qgemm_args a = {.size = sizeof a, .m = M, .x = records, .y = {y}, .y_stride = {N}};
    a.weight[0] = weight_for(v, d.w[0], &storage);
    run(v, devices[0], &d.problem, &a);
    for (int i = 0; i < M * N; i++) {
        assert_true(isnan(y[i]) == (i / N == 4));
    }
    free(storage);
    free(records);
    data_free(&d);
}

static void test_nan(void **state) {
    (void)state;
    each_qgemm(nan_row);
}

static void refusals(const anemo_variant *v) {
    char why[160];
    const anemo_weight_type f32 = random_weight_types[0];
    const anemo_qgemm_problem good = {
        .size = sizeof good, .n_parts = 2, .m_max = 1, .k = 8, .n = {8, 8}, .type = {f32, f32}};
    for (int bad = 0; bad < 8; bad++) {
        anemo_qgemm_problem p = good;
        switch (bad) {
        case 0:
            p.n_parts = 4;
            break;
        case 1:
            p.k = 0;
            break;
        case 2:
            p.m_max = 0;
            break;
        case 3:
            p.n[1] = 0;
            break;
        case 4:
            p.epilogue = 3;
            break;
        case 5:
            p.epilogue = ANEMO_EPI_ACT_MUL, p.n[1] = 9;
            break;
        case 6:
            p.has_bias = 4;
            break;
        default:
            p.type[1].bits = 16; /* f32 of 16 bits */
            break;
        }
        why[0] = 0;
        assert_false(anemo_variant_supports(v, 0, &p, why, sizeof why));
        assert_true(strlen(why) > 0);
    }
}

static void test_refusals(void **state) {
    (void)state;
    each_qgemm(refusals);
}

/* The variants this machine must have tested, so that a registration lost is noticed. */
static void test_present(void **state) {
    (void)state;
    const uint32_t vnni = ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VNNI;
    assert_non_null(anemo_variant_find("qgemm_ref"));
    assert_non_null(anemo_variant_find("qgemm_c"));
    assert_true(ANEMO_HAVE_OPENBLAS == (anemo_variant_find("qgemm_openblas") != NULL));
    if (anemo_cpu_features() & ANEMO_CPU_AVX2) {
        assert_true(on_this_cpu(anemo_variant_find("qgemm_w4a8_tile_avx2"), ANEMO_OP_QGEMM));
        assert_true(on_this_cpu(anemo_variant_find("qgemm_w8a8_tile_avx2"), ANEMO_OP_QGEMM));
    }
    if ((anemo_cpu_features() & vnni) == vnni) {
        assert_true(on_this_cpu(anemo_variant_find("qgemm_w4a8_tile_avx512vnni"), ANEMO_OP_QGEMM));
        assert_true(on_this_cpu(anemo_variant_find("qgemm_w8a8_tile_avx512vnni"), ANEMO_OP_QGEMM));
    } else {
        skip();
    }
}

/* ---------------------------------------------------------------- layouts */

static void check_layout(const anemo_layout *l, anemo_weight_type type, int64_t n, int64_t k) {
    enum { TAIL = 64 };
    random_weight *w = random_weight_create(type, n, k, (uint64_t)(n * 1000 + k));
    const size_t bytes = l->packed_bytes(&type, n, k);
    char *packed = aligned_alloc(64, (bytes + TAIL + 63) / 64 * 64);
    char *twice = aligned_alloc(64, (bytes + TAIL + 63) / 64 * 64);
    memset(packed, 0x5a, bytes + TAIL);
    memset(twice, 0xa5, bytes + TAIL);
    assert_int_equal(l->pack(&w->weight, 0, n, packed), ANEMO_OK);
    int64_t half = n / 2 / l->row_block * l->row_block; /* and in two ranges, last one first */
    assert_int_equal(l->pack(&w->weight, half, n, twice), ANEMO_OK);
    assert_int_equal(l->pack(&w->weight, 0, half, twice), ANEMO_OK);
    assert_memory_equal(packed, twice, bytes);
    for (size_t i = 0; i < TAIL; i++) {
        assert_true((unsigned char)packed[bytes + i] == 0x5a);
    }
    const size_t groups = (size_t)w->groups;
    float *values = malloc((size_t)k * 4), *scales = malloc(groups * 4 + 4);
    float *offsets = malloc(groups * 4 + 4);
    uint8_t *codes = malloc((size_t)k);
    for (int64_t row = 0; row < n; row++) {
        assert_int_equal(l->unpack(&type, n, k, packed, row, values, codes, scales, offsets),
                         ANEMO_OK);
        if (groups == 0) {
            assert_memory_equal(values, w->values + row * k, (size_t)k * 4);
            continue;
        }
        assert_memory_equal(codes, w->codes + row * k, (size_t)k);
        assert_memory_equal(scales, w->scales + (size_t)row * groups, groups * 4);
        if (type.offset != ANEMO_OFFSET_NONE) {
            assert_memory_equal(offsets, w->offsets + (size_t)row * groups, groups * 4);
        }
    }
    free(values);
    free(scales);
    free(offsets);
    free(codes);
    free(packed);
    free(twice);
    random_weight_free(w);
}

static void test_layouts(void **state) {
    (void)state;
    const int64_t ns[] = {1, 31, 32, 33, 130}, ks[] = {1, 8, 33, 128, 129, 160, 300};
    for (int32_t i = 0; i < anemo_layout_count(); i++) {
        const anemo_layout *l = anemo_layout_at(i);
        int checked = 0;
        for (int c = 0; c < 35 * random_weight_type_count; c++) {
            const anemo_weight_type type = random_weight_types[c / 35];
            const int64_t n = ns[c % 5], k = ks[c / 5 % 7];
            char why[160] = "";
            if (l->accepts(&type, n, k, why, sizeof why)) {
                check_layout(l, type, n, k);
                checked++;
            } else {
                assert_true(strlen(why) > 0);
            }
        }
        assert_true(checked > 0);
    }
    assert_non_null(anemo_layout_find("w4_n32k8"));
    assert_non_null(anemo_layout_find("w8_n32k4"));
}

/* Q4_0 takes the bytes of its file; packing never rounds a scale or a zero point. */
static void test_layout_w4(void **state) {
    (void)state;
    const anemo_layout *l = anemo_layout_find("w4_n32k8");
    anemo_weight_type type = {ANEMO_CODE_LINEAR, 4, ANEMO_SCALE_F16, 0, 32, {0}};
    assert_int_equal(l->packed_bytes(&type, 4096, 4096), 4096 / 32 * 18 * 4096);
    random_weight *w = random_weight_create(type, 32, 64, 1);
    void *packed = aligned_alloc(64, l->packed_bytes(&type, 32, 64));
    w->scales[17] = 0.1f;
    assert_int_equal(l->pack(&w->weight, 0, 32, packed), ANEMO_E_UNSUPPORTED);
    free(packed);
    random_weight_free(w);
    type.offset = ANEMO_OFFSET_ZERO_POINT;
    w = random_weight_create(type, 32, 64, 1);
    packed = aligned_alloc(64, l->packed_bytes(&type, 32, 64));
    assert_int_equal(l->pack(&w->weight, 0, 32, packed), ANEMO_OK);
    w->offsets[3] = 7.5f;
    assert_int_equal(l->pack(&w->weight, 0, 32, packed), ANEMO_E_UNSUPPORTED);
    free(packed);
    random_weight_free(w);
}

/* ---------------------------------------------------------------- quantize_act */

enum { QM = 12, QK_MAX = 300 };

/* Rows of ordinary numbers, ties, zeros, tiny and huge values, infinity and NaN. */
static void quantise_input(float *x, int64_t k) {
    for (int64_t i = 0; i < QM * k; i++) {
        const int64_t row = i / k, c = i % k;
        const float r = random_float(5, (uint64_t)i);
        const float kinds[QM] = {r,
                                 r * 1e-3f,
                                 c ? (float)(c % 127) + 0.5f : 127.0f, /* ties */
                                 0.0f,
                                 r * 1e-37f, /* around where 127 / max overflows */
                                 r * 1e-44f,
                                 r * 3e38f,
                                 c == k / 2 ? INFINITY : r,
                                 c == k - 1 ? NAN : r,
                                 c == 0 ? -1000.0f : r,
                                 r < 0 ? -0.0f : r,
                                 c % 2 ? -(float)c : (float)c};
        x[i] = kinds[row];
    }
}

static void test_quantise_variants(void **state) {
    (void)state;
    int tested = 0;
    for (int32_t v = 0; v < anemo_variant_count(); v++) {
        const anemo_variant *variant = anemo_variant_at(v);
        if (!on_this_cpu(variant, ANEMO_OP_QUANTIZE_ACT)) {
            continue;
        }
        char name[96];
        snprintf(name, sizeof name, "quantize_act_%s_ref", variant->act);
        const anemo_variant *reference = anemo_variant_find(name);
        assert_non_null(reference);
        const int64_t ks[] = {1, 15, 32, 33, 100, 128, 129, 256, QK_MAX};
        for (int s = 0; s < 9; s++) {
            const size_t bytes = QM * anemo_act_find(variant->act)->row_bytes(ks[s]);
            float x[QM * QK_MAX];
            char *want = malloc(bytes), *got = malloc(bytes + 1);
            quantise_input(x, ks[s]);
            memset(want, 0x11, bytes);
            memset(got, 0xee, bytes + 1);
            const anemo_quantize_act_problem p = {.size = sizeof p, .m_max = QM, .k = ks[s]};
            anemo_quantize_act_args a = {.size = sizeof a, .m = QM, .x = x, .out = want};
            run(reference, devices[0], &p, &a);
            a.out = got;
            run(variant, devices[s % 2], &p, &a);
            assert_memory_equal(got, want, bytes);
            assert_true((unsigned char)got[bytes] == 0xee);
            free(want);
            free(got);
            tested++;
        }
    }
    assert_true(tested >= 8 * 9);
}

/* The a8 record, computed once more by hand. */
static void test_quantise_by_hand(void **state) {
    (void)state;
    enum { K = 33 };
    float x[K] = {0};
    x[0] = -2.0f, x[1] = 1.0f, x[2] = 0.5f / 63.5f, x[3] = 1.5f / 63.5f, x[32] = 4.0f;
    char record[64 * 4];
    assert_int_equal(anemo_act_find("a8_g32")->row_bytes(K), 192); /* 128 + 4 * 8, to 64 */
    const anemo_quantize_act_problem p = {.size = sizeof p, .m_max = 1, .k = K};
    const anemo_quantize_act_args a = {.size = sizeof a, .m = 1, .x = x, .out = record};
    run(anemo_variant_find("quantize_act_a8_g32_ref"), devices[0], &p, &a);
    const int8_t *codes = (const int8_t *)record;
    float scales[4];
    int32_t sums[4];
    memcpy(scales, record + 128, sizeof scales);
    memcpy(sums, record + 144, sizeof sums);
    assert_int_equal(codes[0], -127);
    assert_int_equal(codes[1], 64); /* 63.5 to even */
    assert_int_equal(codes[2], 0);  /* 0.5 to even */
    assert_int_equal(codes[3], 2);  /* 1.5 to even */
    assert_int_equal(codes[32], 127);
    assert_true(scales[0] == 2.0f / 127.0f && scales[1] == 4.0f / 127.0f && scales[2] == 0.0f);
    assert_int_equal(sums[0], -127 + 64 + 2);
    assert_int_equal(sums[1], 127);
    assert_int_equal(sums[3], 0);

    uint16_t half[32];
    const float y[4] = {1.00390625f, 1.01171875f, -INFINITY, NAN}; /* ties down and up */
    const anemo_quantize_act_problem q = {.size = sizeof q, .m_max = 1, .k = 4};
    const anemo_quantize_act_args b = {.size = sizeof b, .m = 1, .x = y, .out = half};
    run(anemo_variant_find("quantize_act_bf16_ref"), devices[0], &q, &b);
    assert_int_equal(half[0], 0x3f80);
    assert_int_equal(half[1], 0x3f82);
    assert_int_equal(half[2], 0xff80);
    assert_true((half[3] & 0x7f80) == 0x7f80 && (half[3] & 0x7f) != 0);
    assert_int_equal(half[4], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_present),          cmocka_unit_test(test_types),
        cmocka_unit_test(test_epilogues),        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_row_invariance),   cmocka_unit_test(test_nan),
        cmocka_unit_test(test_refusals),         cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_layout_w4),        cmocka_unit_test(test_quantise_variants),
        cmocka_unit_test(test_quantise_by_hand), cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_scales),
    };
    return cmocka_run_group_tests(tests, make_devices, free_devices);
}
