/* rope_append against a rotation of this file, and the conversions of kv_page.h: every CPU variant.
 */
#include "kernels/swa/kv_page.h"
#include "tests/support/kv_step.h"
#include "tests/support/op_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---------------------------------------------------------------- rope_append */

typedef struct rope_case {
    anemo_rope_problem p;
    kv_step s;
    int64_t rows;
    float *q, *k, *v, *inv_freq;
} rope_case;

static anemo_status append(const anemo_variant *v, int32_t n_threads, rope_case *c) {
    const anemo_rope_args a = {.size = sizeof a,
                               .rows = c->rows,
                               .q = c->q,
                               .k = c->k,
                               .v = c->v,
                               .inv_freq = c->inv_freq,
                               .kv = kv_step_view(&c->s)};
    return op_run(v, n_threads, &c->p, &a);
}

/* Complex multiplication, element by element: out of place, long double. */
static void rotate_slowly(const anemo_rope_problem *p, const float *inv_freq, int64_t position,
                          const float *x, double *y) {
    const int32_t half = p->rotary_dims / 2;
    for (int32_t i = 0; i < p->kv.head_dim; i++) {
        const bool inside = i < p->rotary_dims, pairs = p->pairing == ANEMO_ROPE_INTERLEAVED;
        const int32_t pair = pairs ? i / 2 : i % (half ? half : 1);
        const bool second = pairs ? i % 2 : i >= half;
        const int32_t a = pairs ? 2 * pair : pair, b = pairs ? 2 * pair + 1 : pair + half;
        const long double angle = inside ? (long double)position * inv_freq[pair] : 0;
        const long double c = p->magnitude * cosl(angle), s = p->magnitude * sinl(angle);
        y[i] = !inside ? x[i] : (double)(second ? x[a] * s + x[b] * c : x[a] * c - x[b] * s);
    }
}

/* Three sequences, the middle one far along; page numbers shuffled. */
static rope_case rope_case_create(check_random *random, anemo_rope_problem p) {
    rope_case c = {.p = p, .rows = 9, .s = {.shape = p.kv, .n_pages = 12}};
    const int64_t history[4] = {0, 123456, 0, 17}, rows[4] = {5, 3, 0, 1};
    const int64_t tokens = p.kv.page_tokens;
    c.p.size = sizeof c.p;
    c.p.rows_max = 9;
    c.p.sequences_max = 4;
    for (int32_t i = 0; i < 4; i++) {
        kv_step_add(&c.s, history[i], rows[i], history[i] / tokens * tokens);
    }
    assert_true(c.s.n_entries <= c.s.n_pages);
    c.s.pages = op_poisoned((size_t)c.s.n_pages * sizeof *c.s.pages);
    for (int32_t i = 0; i < c.s.n_pages; i++)
        c.s.pages[i] = i;
    check_random_shuffle(random, c.s.pages, c.s.n_pages);
    c.s.pool = op_poisoned((size_t)c.s.n_pages * kv_step_page_bytes(&p.kv));
    c.q = op_random_floats(random, (size_t)(9 * p.kv.n_heads * p.kv.head_dim), 1);
    c.k = op_random_floats(random, (size_t)(9 * p.kv.n_kv_heads * p.kv.head_dim), 1);
    c.v = op_random_floats(random, (size_t)(9 * p.kv.n_kv_heads * p.kv.head_dim), 1);
    c.inv_freq = op_poisoned((size_t)(p.rotary_dims / 2) * sizeof(float));
    for (int32_t i = 0; i < p.rotary_dims / 2; i++)
        c.inv_freq[i] = (float)pow(10000, -2.0 * i / p.rotary_dims);
    return c;
}

static void rope_case_free(rope_case *c) {
    free(c->s.pages), free(c->s.pool), free(c->q), free(c->k), free(c->v), free(c->inv_freq);
}

/* The stored vector against the float vector it came from, by the definition of each type. */
static void check_stored(const anemo_kv_shape *s, const unsigned char *at, const float *x) {
    float scale = 0;
    for (int32_t i = 0; i < s->head_dim; i++)
        scale = fmaxf(scale, fabsf(x[i]) / 127);
    for (int32_t i = 0; i < s->head_dim; i++) {
        float f;
        uint16_t half;
        memcpy(&f, s->type == ANEMO_KV_F32 ? at + 4 * i : at, 4);
        memcpy(&half, at + 2 * i, s->type == ANEMO_KV_Q8 ? 0 : 2);
        const uint32_t wide = (uint32_t)half << 16;
        if (s->type == ANEMO_KV_F32) {
            assert_true(f == x[i]);
        } else if (s->type == ANEMO_KV_F16) {
            assert_true(fabs(kv_half_value(half) - x[i]) <= fmax(fabsf(x[i]) * 0x1p-11, 0x1p-25));
        } else if (s->type == ANEMO_KV_BF16) {
            memcpy(&f, &wide, 4);
            assert_true(fabsf(f - x[i]) <= fabsf(x[i]) * 0x1p-8f);
        } else {
            assert_true(fabsf(f - scale) <= 1e-6f * scale);
            assert_true(fabsf(f * (int8_t)at[4 + i] - x[i]) <= 0.50001f * f);
        }
    }
}

static void check_rope(check_random *random, anemo_rope_problem p) {
    const op_variants variants = op_variants_of(ANEMO_OP_ROPE_APPEND);
    rope_case c = rope_case_create(random, p);
    const int32_t d = p.kv.head_dim, n_heads = p.kv.n_heads, n_kv = p.kv.n_kv_heads;
    const size_t nq = (size_t)(9 * n_heads * d), nk = (size_t)(9 * n_kv * d);
    const size_t pool = (size_t)c.s.n_pages * kv_step_page_bytes(&p.kv),
                 vector = kv_step_vector_bytes(&p.kv);
    double *q = op_poisoned(nq * sizeof *q), *k = op_poisoned(nk * sizeof *k);
    float *q0 = op_poisoned(nq * 4), *k0 = op_poisoned(nk * 4), *q1 = op_poisoned(nq * 4);
    unsigned char *pool1 = op_poisoned(pool), *touched = op_poisoned(pool);
    memcpy(q0, c.q, nq * 4), memcpy(k0, c.k, nk * 4);
    for (int32_t s = 0; s < 4; s++)
        for (int64_t r = c.s.row_start[s]; r < c.s.row_start[s + 1]; r++) {
            const int64_t position = c.s.length[s] - c.s.row_start[s + 1] + r;
            for (int64_t h = r * n_heads; h < (r + 1) * n_heads; h++)
                rotate_slowly(&p, c.inv_freq, position, q0 + h * d, q + h * d);
            for (int64_t h = r * n_kv; h < (r + 1) * n_kv; h++)
                rotate_slowly(&p, c.inv_freq, position, k0 + h * d, k + h * d);
        }
    for (int32_t i = 0; i < variants.n; i++)
        for (int32_t n_threads = 1; n_threads <= 3; n_threads += 2) {
            memcpy(c.q, q0, nq * 4), memcpy(c.k, k0, nk * 4);
            memset(c.s.pool, 0xff, pool);
            assert_int_equal(append(variants.at[i], n_threads, &c), ANEMO_OK);
            op_assert_near(variants.at[i]->name, c.q, q, nq, 1e-6);
            op_assert_near(variants.at[i]->name, c.k, k, nk, 1e-6);
            memcpy(touched, c.s.pool, pool);
            for (int32_t s = 0; s < 4; s++)
                for (int64_t r = c.s.row_start[s]; r < c.s.row_start[s + 1]; r++)
                    for (int32_t h = 0; h < 2 * n_kv; h++) {
                        const int64_t position = c.s.length[s] - c.s.row_start[s + 1] + r;
                        unsigned char *at = kv_step_vector(&c.s, s, position, h % n_kv, h >= n_kv);
                        const float *x = (h >= n_kv ? c.v : c.k) + (r * n_kv + h % n_kv) * d;
                        check_stored(&p.kv, at, x);
                        memset(touched + (at - c.s.pool), 0xff, vector);
                    }
            for (size_t j = 0; j < pool; j++) /* beside the rows' own slots nothing was written */
                assert_int_equal(touched[j], 0xff);
            if (n_threads == 3) {
                assert_memory_equal(pool1, c.s.pool, pool);
                assert_memory_equal(q1, c.q, nq * 4);
            }
            memcpy(pool1, c.s.pool, pool), memcpy(q1, c.q, nq * 4);
        }
    free(q), free(k), free(q0), free(k0), free(q1), free(pool1), free(touched);
    rope_case_free(&c);
}

static void test_rope_append(void **state) {
    (void)state;
    check_random random = check_random_seed(8, 0, 0);
    const int32_t shapes[][3] = {{4, 2, 16}, {3, 3, 6}, {6, 2, 10}, {8, 1, 64}, {2, 1, 7}};
    for (int32_t type = ANEMO_KV_F32; type <= ANEMO_KV_Q8; type++)
        for (size_t i = 0; i < 5; i++)
            for (int32_t pairing = 0; pairing < 2; pairing++)
                for (int32_t part = 0; part < 3; part++) {
                    const int32_t d = shapes[i][2];
                    const anemo_rope_problem p = {
                        .kv = {shapes[i][0], shapes[i][1], d, pairing ? 16 : 3, type},
                        .rotary_dims = part == 0   ? d / 2 * 2
                                       : part == 1 ? d / 4 * 2
                                                   : 0,
                        .pairing = pairing,
                        .magnitude = part == 1 ? 1.375f : 1};
                    check_rope(&random, p);
                }
}

/* At rope_case's far position an angle made in float instead of double misses check_rope's bound.
 */
static void test_rope_far_angles_show(void **state) {
    (void)state;
    check_random random = check_random_seed(9, 0, 0);
    const anemo_rope_problem p = {
        .kv = {1, 1, 64, 16, ANEMO_KV_F32}, .rotary_dims = 64, .magnitude = 1};
    rope_case c = rope_case_create(&random, p);
    double exact[64], largest = 0;
    rotate_slowly(&p, c.inv_freq, 123457, c.q, exact);
    for (int32_t i = 0; i < 32; i++) {
        const float angle = 123457 * c.inv_freq[i];
        const double rounded = c.q[i] * cos(angle) - c.q[i + 32] * sin(angle);
        largest = fmax(largest, fabs(rounded - exact[i]));
    }
    assert_true(largest > 1e-4);
    rope_case_free(&c);
}

/* One row at this position: q (1, 0) in every pair comes out as (cosine, sine). */
static void check_sines(const anemo_variant *v, int64_t position, float *inv_freq, int32_t n_pairs,
                        int32_t pairing) {
    const anemo_rope_problem p = {.size = sizeof p,
                                  .rows_max = 1,
                                  .sequences_max = 1,
                                  .kv = {1, 1, 2 * n_pairs, 16, ANEMO_KV_F32},
                                  .rotary_dims = 2 * n_pairs,
                                  .pairing = pairing,
                                  .magnitude = 1};
    const bool half = pairing == ANEMO_ROPE_HALF;
    int32_t page = 0;
    rope_case c = {.p = p, .rows = 1, .s = {.shape = p.kv, .n_pages = 1, .pages = &page}};
    kv_step_add(&c.s, position, 1, position / 16 * 16);
    float *memory = op_poisoned((size_t)(6 * n_pairs) * sizeof *memory);
    c.q = memory, c.k = memory + 2 * n_pairs, c.v = memory + 4 * n_pairs;
    c.s.pool = op_poisoned(kv_step_page_bytes(&p.kv));
    c.inv_freq = inv_freq;
    for (int32_t i = 0; i < 2 * n_pairs; i++)
        c.q[i] = half ? i < n_pairs : i % 2 == 0;
    memcpy(c.k, c.q, (size_t)(2 * n_pairs) * sizeof *memory);
    memcpy(c.v, c.q, (size_t)(2 * n_pairs) * sizeof *memory);
    assert_int_equal(append(v, 1, &c), ANEMO_OK);
    for (int32_t i = 0; i < n_pairs; i++) {
        const long double angle = (double)position * inv_freq[i]; /* the product is a double */
        const long double want[2] = {cosl(angle), sinl(angle)};
        for (int32_t j = 0; j < 2; j++) {
            const long double got = c.q[half ? i + j * n_pairs : 2 * i + j];
            if (!(fabsl(got - want[j]) <= fabsl(want[j]) * 0x1p-24L + 1e-11L))
                fail_msg("%s: %s of %lld * %.9g is off by %Lg", v->name, j ? "sine" : "cosine",
                         (long long)position, inv_freq[i], got - want[j]);
        }
    }
    free(memory), free(c.s.pool);
}

/* Half a last place and 1e-11, as far out as ten times the longest context, and further: quarter
 * turns (of which pi/2 in double is one), and angles beyond what two parts of pi can reduce. */
static void test_rope_sines(void **state) {
    (void)state;
    enum { PAIRS = 37 };
    const op_variants variants = op_variants_of(ANEMO_OP_ROPE_APPEND);
    const int64_t positions[] = {0,
                                 1,
                                 2,
                                 63,
                                 4095,
                                 131072,
                                 1310720,
                                 1310719,
                                 833719,
                                 INT64_C(1) << 30,
                                 1 << 29,
                                 INT64_C(1) << 31,
                                 (INT64_C(1) << 40) + 12345};
    float inv_freq[PAIRS];
    for (int32_t i = 0; i < PAIRS; i++)
        inv_freq[i] = (float)pow(1e6, -(double)i / PAIRS);
    inv_freq[PAIRS - 1] = (float)1.5707963267948966;
    inv_freq[PAIRS - 2] = 3.9999998f;
    inv_freq[PAIRS - 3] = 1e-30f;
    for (int32_t i = 0; i < variants.n; i++)
        for (size_t j = 0; j < sizeof positions / sizeof *positions; j++)
            for (int32_t pairing = 0; pairing < 2; pairing++)
                check_sines(variants.at[i], positions[j], inv_freq, PAIRS, pairing);
}

static void test_rope_refuses(void **state) {
    (void)state;
    const op_variants variants = op_variants_of(ANEMO_OP_ROPE_APPEND);
    for (int32_t i = 0; i < variants.n; i++) {
        const anemo_rope_problem good = {.kv = {2, 1, 8, 16, ANEMO_KV_F16},
                                         .rows_max = 4,
                                         .sequences_max = 1,
                                         .rotary_dims = 8,
                                         .magnitude = 1};
        assert_false(op_refuses(variants.at[i], &good));
        anemo_rope_problem p = good;
        p.rotary_dims = 10;
        assert_true(op_refuses(variants.at[i], &p));
        p.rotary_dims = 3;
        assert_true(op_refuses(variants.at[i], &p));
        p = good, p.pairing = 2;
        assert_true(op_refuses(variants.at[i], &p));
        p = good, p.magnitude = NAN;
        assert_true(op_refuses(variants.at[i], &p));
    }
}

/* ---------------------------------------------------------------- conversions */

/* Every finite half against its neighbour: the middle goes to the even one, a step beside it to the
 * nearer one. */
static void test_f16_rounding(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x7c00; bits++) {
        const double here = kv_half_value((uint16_t)bits);
        const double next = bits == 0x7bff ? 65536 : kv_half_value((uint16_t)(bits + 1));
        const float middle = (float)((here + next) / 2); /* 12 bits: exact in float */
        const uint32_t even = bits & 1 ? bits + 1 : bits;
        assert_true(anemo_f32_from_f16((uint16_t)bits) == (float)here);
        assert_true(anemo_f32_from_f16((uint16_t)(bits | 0x8000)) == (float)-here);
        assert_int_equal(anemo_f16_from_f32((float)here), bits);
        assert_int_equal(anemo_f16_from_f32(middle), even);
        assert_int_equal(anemo_f16_from_f32(-middle), even | 0x8000);
        assert_int_equal(anemo_f16_from_f32(nextafterf(middle, 0)), bits);
        assert_int_equal(anemo_f16_from_f32(nextafterf(middle, INFINITY)), bits + 1);
    }
    assert_int_equal(anemo_f16_from_f32(1e30f), 0x7c00);
    assert_int_equal(anemo_f16_from_f32(-INFINITY), 0xfc00);
    assert_true(anemo_f32_from_f16(0x7c00) == INFINITY && anemo_f32_from_f16(0xfc00) == -INFINITY);
    assert_true(isnan(anemo_f32_from_f16(0x7e00)) && isnan(anemo_f32_from_f16(0xfc01)));
    assert_true(isnan(anemo_f32_from_f16(anemo_f16_from_f32(NAN))));
    assert_int_equal(anemo_f16_from_f32(-0.0f), 0x8000);
    assert_int_equal(anemo_f16_from_f32(0x1p-26f), 0);
    assert_int_equal(anemo_f16_from_f32(-0x1.8p-26f), 0x8000);
    assert_int_equal(anemo_f16_from_f32(0x1.8p-25f), 1);
}

/* Stores one vector x[5] through the op's own store (no rotation) and hands back its bytes. */
static void store_five(int32_t type, const float *x, unsigned char *bytes) {
    const anemo_kv_shape shape = {1, 1, 5, 1, type};
    const kv_pages pages = kv_pages_of(&shape, &(anemo_kv_view){0});
    memset(bytes, 0xff, 24);
    kv_store(&pages, (char *)bytes, x);
    assert_int_equal(pages.vector_bytes, kv_step_vector_bytes(&shape));
    assert_int_equal(bytes[kv_step_vector_bytes(&shape)], 0xff);
}

static void test_bf16_and_q8_rounding(void **state) {
    (void)state;
    unsigned char at[24];
    const float ties[5] = {1 + 0x1p-8f, 1 + 0x3p-8f, -1 - 0x1p-8f, 1 + 0x1.02p-8f, FLT_MAX};
    const uint16_t want[5] = {0x3f80, 0x3f82, 0xbf80, 0x3f81, 0x7f80};
    store_five(ANEMO_KV_BF16, ties, at);
    assert_memory_equal(at, want, sizeof want);

    const float halves[5] = {127, 0.5f, 1.5f, -2.5f, -126.5f};
    const int8_t codes[5] = {127, 0, 2, -2, -126};
    float scale;
    store_five(ANEMO_KV_Q8, halves, at);
    memcpy(&scale, at, 4);
    assert_true(scale == 1);
    assert_memory_equal(at + 4, codes, 5);
    assert_memory_equal(at + 9, "\0\0\0", 3); /* padding */

    store_five(ANEMO_KV_Q8, (float[]){0, -0.0f, 0, 0, 1e-38f}, at);
    memcpy(&scale, at, 4);
    assert_true(scale == 0);
    assert_memory_equal(at + 4, "\0\0\0\0\0", 5);
    store_five(ANEMO_KV_Q8, (float[]){-3e38f, 1e38f, 0, 0, 0}, at);
    memcpy(&scale, at, 4);
    assert_true(scale == 3e38f / 127 && (int8_t)at[4] == -127 && (int8_t)at[5] == 42);
    const float bad[2] = {NAN, -INFINITY};
    for (int i = 0; i < 2; i++) { /* cannot be said in q8: reads as NaN, not as a number */
        store_five(ANEMO_KV_Q8, (float[]){1, 2, bad[i], 3, 4}, at);
        memcpy(&scale, at, 4);
        assert_true(isnan(scale));
    }
}

/* Every variant writes the pages of kv_page.h to the last bit: v with payloads of NaN, infinities,
 * subnormals, values between two halves and beyond the largest, at every place of a vector. */
static void test_pages_to_the_bit(void **state) {
    (void)state;
    enum { DIM = 41 };
    const op_variants variants = op_variants_of(ANEMO_OP_ROPE_APPEND);
    const uint32_t special[] = {0x7fc00000, 0x7f800001, 0xffbfffff, 0x7fffffff, 0xff800000,
                                0x7f800000, 0x00000001, 0x807fffff, 0x477fefff, 0x477ff000,
                                0xc77fffff, 0x33000000, 0x33000001, 0x387fe000, 0x3f808000,
                                0x3f818000, 0x7f7fffff, 0x80000000, 0x3f801000, 0x3f803000};
    enum { SPECIALS = sizeof special / sizeof *special };
    float q[DIM] = {0}, k[DIM] = {0}, v[DIM];
    for (int32_t type = ANEMO_KV_F32; type <= ANEMO_KV_Q8; type++)
        for (int32_t shift = 0; shift < 2 * SPECIALS; shift++) {
            const anemo_kv_shape shape = {1, 1, DIM, 1, type};
            const anemo_rope_problem p = {
                .size = sizeof p, .rows_max = 1, .sequences_max = 1, .kv = shape, .magnitude = 1};
            for (int32_t i = 0; i < DIM; i++) { /* q8: numbers only, in the second half of shifts */
                const bool plain = shift >= SPECIALS;
                const uint32_t bits = special[(i + shift) % SPECIALS];
                memcpy(&v[i], &bits, sizeof bits);
                v[i] = plain ? (float)(i * 7 % 51) - 25.5f : v[i];
            }
            int32_t page = 0;
            unsigned char pool[8 * DIM + 16], want[4 * DIM + 8];
            const kv_pages pages = kv_pages_of(&shape, &(anemo_kv_view){0});
            kv_store(&pages, (char *)want, v);
            for (int32_t i = 0; i < variants.n; i++) {
                rope_case c = {.p = p, .rows = 1, .q = q, .k = k, .v = v};
                c.s = (kv_step){.shape = shape, .n_pages = 1, .pages = &page, .pool = pool};
                kv_step_add(&c.s, 0, 1, 0);
                memset(pool, 0xff, sizeof pool);
                assert_int_equal(append(variants.at[i], 1, &c), ANEMO_OK);
                assert_memory_equal(pool + pages.vector_bytes, want, pages.vector_bytes);
                assert_int_equal(pool[2 * pages.vector_bytes], 0xff);
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rope_append),          cmocka_unit_test(test_rope_far_angles_show),
        cmocka_unit_test(test_rope_sines),           cmocka_unit_test(test_pages_to_the_bit),
        cmocka_unit_test(test_rope_refuses),         cmocka_unit_test(test_f16_rounding),
        cmocka_unit_test(test_bf16_and_q8_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
