/* swa and rope_append against computations of this file, with this file's own idea of where a key
 * lies and what its bits mean: every CPU variant. Slots without a key hold NaN throughout. */
#include "kernels/swa/kv_page.h"
#include "tests/support/op_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEQUENCES_MAX = 8 };

/* ---------------------------------------------------------------- pages, seen from outside */

static size_t vector_bytes(const anemo_kv_shape *s) {
    const size_t d = (size_t)s->head_dim;
    return s->type == ANEMO_KV_F32 ? 4 * d : s->type == ANEMO_KV_Q8 ? 4 + (d + 3) / 4 * 4 : 2 * d;
}

static size_t page_bytes(const anemo_kv_shape *s) {
    return 2 * (size_t)s->n_kv_heads * (size_t)s->page_tokens * vector_bytes(s);
}

/* Sequences of a step over a pool of their own. */
typedef struct step {
    anemo_kv_shape shape;
    int32_t n_sequences, n_pages, n_entries;
    int32_t row_start[SEQUENCES_MAX + 1], table_start[SEQUENCES_MAX];
    int64_t first[SEQUENCES_MAX], length[SEQUENCES_MAX];
    int32_t *pages;
    unsigned char *pool;
} step;

static anemo_kv_view view_of(const step *s) {
    return (anemo_kv_view){.size = sizeof(anemo_kv_view),
                           .n_sequences = s->n_sequences,
                           .row_start = s->row_start,
                           .first = s->first,
                           .length = s->length,
                           .table_start = s->table_start,
                           .pages = s->pages,
                           .pool = s->pool};
}

static unsigned char *vector_at(const step *s, int32_t sequence, int64_t position, int32_t head,
                                bool value) {
    const int64_t tokens = s->shape.page_tokens,
                  entry = position / tokens - s->first[sequence] / tokens;
    const int64_t page = s->pages[s->table_start[sequence] + entry];
    const int64_t row = ((value ? s->shape.n_kv_heads : 0) + head) * tokens + position % tokens;
    return s->pool + (size_t)page * page_bytes(&s->shape) + (size_t)row * vector_bytes(&s->shape);
}

/* A float16 from a number it holds exactly. */
static uint16_t half_bits(double value) {
    int exponent;
    const double m = frexp(fabs(value), &exponent);
    if (m == 0)
        return 0;
    return (uint16_t)((value < 0 ? 0x8000 : 0) | (exponent + 14) << 10 | (int)((2 * m - 1) * 1024));
}

static double half_value(uint16_t bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 31)
        return mantissa ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24));
}

/* Writes a random vector that the type holds exactly and says what it is. */
static void write_vector(check_random *random, const anemo_kv_shape *s, unsigned char *at,
                         double *truth) {
    const float scale = (float)(0.5 + check_random_uniform(random)) / 64;
    if (s->type == ANEMO_KV_Q8)
        memcpy(at, &scale, sizeof scale);
    for (int32_t i = 0; i < s->head_dim; i++) {
        const float x = (float)(check_random_below(random, 97) - 48) / 16;
        const int8_t code = (int8_t)(check_random_below(random, 255) - 127);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        const uint16_t half = s->type == ANEMO_KV_BF16 ? (uint16_t)(bits >> 16) : half_bits(x);
        truth[i] = s->type == ANEMO_KV_Q8 ? (double)scale * code : x;
        if (s->type == ANEMO_KV_Q8)
            memcpy(at + 4 + i, &code, 1);
        else if (s->type == ANEMO_KV_F32)
            memcpy(at + 4 * i, &x, 4);
        else
            memcpy(at + 2 * i, &half, 2);
    }
}

/* ---------------------------------------------------------------- attention over a random step */

typedef struct world {
    step s;
    double *keys[SEQUENCES_MAX], *values[SEQUENCES_MAX]; /* [length][n_kv_heads][head_dim] */
    int64_t rows;
    float *q, *sinks;
    anemo_swa_problem p;
} world;

/* history[i] keys before rows[i] new rows. Pages behind the window are gone, some of them at
 * random, and the page numbers are shuffled. */
static world world_create(check_random *random, anemo_kv_shape shape, int64_t window, bool sinks,
                          int32_t n_sequences, const int64_t *history, const int64_t *rows) {
    world w = {.s = {.shape = shape, .n_sequences = n_sequences}};
    step *s = &w.s;
    const int64_t tokens = shape.page_tokens;
    int64_t longest = 1;
    for (int32_t i = 0; i < n_sequences; i++) {
        const int64_t gone = window ? (history[i] - window + 1) / tokens : 0;
        s->row_start[i + 1] = s->row_start[i] + (int32_t)rows[i];
        s->length[i] = history[i] + rows[i];
        s->first[i] = gone > 0 ? (gone - check_random_below(random, 2)) * tokens : 0;
        s->table_start[i] = s->n_entries;
        s->n_entries += (int32_t)((s->length[i] - s->first[i] + tokens - 1) / tokens);
        longest = s->length[i] > longest ? s->length[i] : longest;
    }
    w.rows = s->row_start[n_sequences];
    s->n_pages = s->n_entries + 3;
    s->pages = op_poisoned((size_t)s->n_pages * sizeof *s->pages);
    for (int32_t i = 0; i < s->n_pages; i++)
        s->pages[i] = i;
    check_random_shuffle(random, s->pages, s->n_pages);
    s->pool = op_poisoned((size_t)s->n_pages * page_bytes(&shape));
    const size_t d = (size_t)shape.head_dim, row = d * (size_t)shape.n_kv_heads;
    for (int32_t i = 0; i < n_sequences; i++) {
        w.keys[i] = op_poisoned((size_t)s->length[i] * row * sizeof(double));
        w.values[i] = op_poisoned((size_t)s->length[i] * row * sizeof(double));
        for (int64_t p = s->first[i]; p < s->length[i]; p++)
            for (int32_t h = 0; h < shape.n_kv_heads; h++) {
                const size_t at = (size_t)p * row + (size_t)h * d;
                write_vector(random, &shape, vector_at(s, i, p, h, false), w.keys[i] + at);
                write_vector(random, &shape, vector_at(s, i, p, h, true), w.values[i] + at);
            }
    }
    w.q = op_random_floats(random, (size_t)(w.rows * shape.n_heads) * d, 1);
    w.sinks = sinks ? op_random_floats(random, (size_t)shape.n_heads, 2) : NULL;
    w.p = (anemo_swa_problem){.size = sizeof w.p,
                              .rows_max = w.rows ? w.rows : 1,
                              .sequences_max = n_sequences,
                              .context_max = longest,
                              .kv = shape,
                              .window = window,
                              .scale = (float)(1 / sqrt((double)shape.head_dim)),
                              .has_sinks = sinks};
    return w;
}

static void world_free(world *w) {
    for (int32_t i = 0; i < w->s.n_sequences; i++)
        free(w->keys[i]), free(w->values[i]);
    free(w->s.pages), free(w->s.pool), free(w->q), free(w->sinks);
}

/* What a wrong program would do, to see that the test would notice. */
typedef enum mistake { NONE, WINDOW_SHORT, WINDOW_LONG, NOT_SELF, HEADS_MODULO, NO_SINK } mistake;

static bool visible(int64_t i, int64_t j, int64_t window, mistake m) {
    const int64_t w = window + (m == WINDOW_LONG) - (m == WINDOW_SHORT);
    return j <= i - (m == NOT_SELF) && (window == 0 || i - j < w);
}

static void attend_slowly(const world *w, mistake m, double *out) {
    const anemo_kv_shape *k = &w->s.shape;
    const int64_t d = k->head_dim;
    for (int32_t s = 0; s < w->s.n_sequences; s++)
        for (int64_t r = w->s.row_start[s]; r < w->s.row_start[s + 1]; r++)
            for (int32_t h = 0; h < k->n_heads; h++) {
                const int64_t i = w->s.length[s] - w->s.row_start[s + 1] + r;
                const int32_t g =
                    m == HEADS_MODULO ? h % k->n_kv_heads : h / (k->n_heads / k->n_kv_heads);
                double *y = out + (r * k->n_heads + h) * d;
                const float *q = w->q + (r * k->n_heads + h) * d;
                double sum = w->sinks && m != NO_SINK ? exp(w->sinks[h]) : 0;
                memset(y, 0, (size_t)d * sizeof *y);
                for (int64_t j = w->s.first[s]; j < w->s.length[s]; j++) {
                    double dot = 0;
                    if (!visible(i, j, w->p.window, m))
                        continue;
                    for (int64_t c = 0; c < d; c++)
                        dot += q[c] * w->keys[s][(j * k->n_kv_heads + g) * d + c];
                    const double weight = exp(dot * w->p.scale);
                    sum += weight;
                    for (int64_t c = 0; c < d; c++)
                        y[c] += weight * w->values[s][(j * k->n_kv_heads + g) * d + c];
                }
                for (int64_t c = 0; c < d; c++)
                    y[c] /= sum;
            }
}

static anemo_status attend(const world *w, const anemo_variant *v, int32_t n_threads, float *out) {
    const anemo_swa_args a = {.size = sizeof a,
                              .rows = w->rows,
                              .q = w->q,
                              .kv = view_of(&w->s),
                              .sinks = w->sinks,
                              .out = out};
    return op_run(v, n_threads, &w->p, &a);
}

/* |v| <= 3 and scores of a few units: a dozen float roundings. */
static const double bound = 1e-5;

static void check_world(const world *w) {
    const op_variants variants = op_variants_of(ANEMO_OP_SWA);
    const size_t n = (size_t)(w->rows * w->s.shape.n_heads * w->s.shape.head_dim);
    double *want = op_poisoned(n * sizeof *want);
    attend_slowly(w, NONE, want);
    for (int32_t i = 0; i < variants.n; i++) {
        float *one = op_poisoned(n * sizeof *one), *three = op_poisoned(n * sizeof *three);
        assert_int_equal(attend(w, variants.at[i], 1, one), ANEMO_OK);
        assert_int_equal(attend(w, variants.at[i], 3, three), ANEMO_OK);
        op_assert_near(variants.at[i]->name, one, want, n, bound);
        assert_memory_equal(one, three, n * sizeof *one);
        free(one), free(three);
    }
    free(want);
}

static const int64_t mixed_history[] = {0, 45, 0, 33, 100, 7, 64};
static const int64_t mixed_rows[] = {50, 1, 1, 20, 1, 0, 3};
enum { MIXED = 7 };

/* Prefill, chunks, decode and an absent sequence in one step: every type, page size, window. */
static void test_swa_mixed(void **state) {
    (void)state;
    check_random random = check_random_seed(1, 0, 0);
    const int64_t windows[] = {0, 1, 2, 7, 8, 9, 31, 32, 33, 100, 1000};
    const int32_t page_tokens[] = {1, 8, 12, 64};
    for (int32_t type = ANEMO_KV_F32; type <= ANEMO_KV_Q8; type++)
        for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
            for (size_t t = 0; t < sizeof page_tokens / sizeof *page_tokens; t++) {
                const anemo_kv_shape shape = {4, 2, 16, page_tokens[t], type};
                world c = world_create(&random, shape, windows[w], (w + t) % 2, MIXED,
                                       mixed_history, mixed_rows);
                check_world(&c);
                world_free(&c);
            }
}

/* Odd widths, every grouping, groups larger than a tile. */
static void test_swa_heads(void **state) {
    (void)state;
    check_random random = check_random_seed(2, 0, 0);
    const int32_t heads[][2] = {{1, 1}, {3, 3}, {6, 2}, {9, 3}, {8, 1}, {130, 1}, {32, 8}};
    const int32_t dims[] = {1, 3, 4, 10, 32, 36, 64, 100};
    for (size_t h = 0; h < 7; h++)
        for (size_t d = 0; d < 8; d++) {
            const anemo_kv_shape shape = {heads[h][0], heads[h][1], dims[d], 16, (int32_t)d % 4};
            world c = world_create(&random, shape, h % 2 ? 20 : 0, d % 3 == 0, 3,
                                   (int64_t[]){0, 40, 31}, (int64_t[]){19, 1, 2});
            check_world(&c);
            world_free(&c);
        }
}

/* Each classic mistake misses the bound by far, so the tests above can fail. */
static void test_swa_mistakes_show(void **state) {
    (void)state;
    check_random random = check_random_seed(3, 0, 0);
    const anemo_kv_shape shape = {4, 2, 16, 8, ANEMO_KV_F32};
    const op_variants variants = op_variants_of(ANEMO_OP_SWA);
    for (int32_t i = 0; i < variants.n; i++)
        for (mistake m = WINDOW_SHORT; m <= NO_SINK; m++) {
            world c =
                world_create(&random, shape, 12, m == NO_SINK, MIXED, mixed_history, mixed_rows);
            for (int32_t s = 0; m == WINDOW_LONG && s < MIXED; s++)
                if (c.s.first[s] > 0) { /* the extra key must exist for a wrong window to find it */
                    world_free(&c);
                    const int64_t history[1] = {0}, rows[1] = {40};
                    c = world_create(&random, shape, 12, false, 1, history, rows);
                    break;
                }
            const size_t n = (size_t)(c.rows * 4 * 16);
            float *out = op_poisoned(n * sizeof *out);
            double *wrong = op_poisoned(n * sizeof *wrong);
            assert_int_equal(attend(&c, variants.at[i], 2, out), ANEMO_OK);
            attend_slowly(&c, m, wrong);
            assert_true(!(op_distance(out, wrong, n) <= 1000 * bound));
            free(out), free(wrong);
            world_free(&c);
        }
}

/* A window that reaches behind every key is no window, to the bit; so is one of exactly the length.
 */
static void test_swa_wide_window(void **state) {
    (void)state;
    check_random random = check_random_seed(4, 0, 0);
    const anemo_kv_shape shape = {4, 2, 32, 16, ANEMO_KV_F16};
    const op_variants variants = op_variants_of(ANEMO_OP_SWA);
    world c = world_create(&random, shape, 0, false, MIXED, mixed_history, mixed_rows);
    const size_t n = (size_t)(c.rows * 4 * 32), bytes = n * sizeof(float);
    for (int32_t i = 0; i < variants.n; i++) {
        float *full = op_poisoned(bytes), *wide = op_poisoned(bytes);
        c.p.window = 0;
        assert_int_equal(attend(&c, variants.at[i], 1, full), ANEMO_OK);
        for (int64_t window = 101; window <= INT32_MAX; window += INT32_MAX - 101) {
            c.p.window = window;
            assert_int_equal(attend(&c, variants.at[i], 1, wide), ANEMO_OK);
            assert_memory_equal(full, wide, bytes);
        }
        c.p.window = 100; /* sequence 4 has 101 keys: now one is out of sight */
        assert_int_equal(attend(&c, variants.at[i], 1, wide), ANEMO_OK);
        assert_memory_not_equal(full, wide, bytes);
        free(full), free(wide);
    }
    world_free(&c);
}

static void test_swa_sink_limits(void **state) {
    (void)state;
    check_random random = check_random_seed(5, 0, 0);
    const anemo_kv_shape shape = {4, 2, 8, 8, ANEMO_KV_BF16};
    const op_variants variants = op_variants_of(ANEMO_OP_SWA);
    world c = world_create(&random, shape, 10, true, MIXED, mixed_history, mixed_rows);
    const size_t n = (size_t)(c.rows * 4 * 8);
    double *want = op_poisoned(n * sizeof *want);
    for (int32_t i = 0; i < variants.n; i++) {
        float *out = op_poisoned(n * sizeof *out);
        for (int h = 0; h < 4; h++)
            c.sinks[h] = -INFINITY; /* no sink at all */
        attend_slowly(&c, NO_SINK, want);
        assert_int_equal(attend(&c, variants.at[i], 1, out), ANEMO_OK);
        op_assert_near(variants.at[i]->name, out, want, n, bound);
        for (int h = 0; h < 4; h++)
            c.sinks[h] = 300; /* beyond what exp can say in float: everything goes into the sink */
        memset(want, 0, n * sizeof *want);
        assert_int_equal(attend(&c, variants.at[i], 1, out), ANEMO_OK);
        op_assert_near(variants.at[i]->name, out, want, n, 1e-30);
        free(out);
    }
    free(want);
    world_free(&c);
}

/* Scores of +-2000: only the running maximum keeps exp in range. A NaN in a seen key is seen. */
static void test_swa_large_scores_and_nan(void **state) {
    (void)state;
    check_random random = check_random_seed(6, 0, 0);
    const anemo_kv_shape shape = {2, 1, 16, 8, ANEMO_KV_F32};
    const op_variants variants = op_variants_of(ANEMO_OP_SWA);
    world c = world_create(&random, shape, 0, false, 1, (int64_t[]){0}, (int64_t[]){70});
    const size_t row = 2 * 16, n = 70 * row;
    for (size_t i = 0; i < n; i++)
        c.q[i] *= 500;
    for (int32_t i = 0; i < variants.n; i++) {
        float *out = op_poisoned(n * sizeof *out), *bad = op_poisoned(n * sizeof *bad);
        assert_int_equal(attend(&c, variants.at[i], 1, out), ANEMO_OK);
        for (size_t r = 0; r < 70; r++) /* row 0 sees itself only; all are means of values */
            for (size_t j = 0; j < row; j++)
                assert_true(fabsf(out[r * row + j]) <= 3.0001f);
        for (size_t j = 0; j < row; j++)
            assert_true(out[j] == (float)c.values[0][j % 16]);
        float *key = (float *)(void *)vector_at(&c.s, 0, 40, 0, false);
        const float kept = key[5];
        key[5] = NAN;
        assert_int_equal(attend(&c, variants.at[i], 1, bad), ANEMO_OK);
        key[5] = kept;
        assert_memory_equal(out, bad, 40 * row * sizeof *out);
        for (size_t j = 40 * row; j < n; j++)
            assert_true(isnan(bad[j]));
        free(out), free(bad);
    }
    world_free(&c);
}

static void test_swa_refuses(void **state) {
    (void)state;
    check_random random = check_random_seed(7, 0, 0);
    const anemo_kv_shape shape = {4, 2, 8, 8, ANEMO_KV_F32};
    const op_variants variants = op_variants_of(ANEMO_OP_SWA);
    world c = world_create(&random, shape, 4, true, 2, (int64_t[]){20, 0}, (int64_t[]){2, 3});
    float *out = op_poisoned((size_t)(c.rows * 32) * sizeof *out);
    for (int32_t i = 0; i < variants.n; i++) {
        const anemo_variant *v = variants.at[i];
        world bad = c;
        bad.rows = 4; /* row_start says 5 */
        assert_int_equal(attend(&bad, v, 1, out), ANEMO_E_INPUT);
        bad = c, bad.s.first[0] = 4; /* no multiple of the page */
        assert_int_equal(attend(&bad, v, 1, out), ANEMO_E_INPUT);
        bad = c, bad.s.first[1] = 8; /* behind its own rows */
        assert_int_equal(attend(&bad, v, 1, out), ANEMO_E_INPUT);
        bad = c, bad.p.context_max = 21;
        assert_int_equal(attend(&bad, v, 1, out), ANEMO_E_INPUT);
        bad = c, bad.sinks = NULL;
        assert_int_equal(attend(&bad, v, 1, out), ANEMO_E_INPUT);
        const anemo_swa_args a = {.rows = c.rows, .kv = view_of(&c.s), .sinks = c.sinks};
        assert_int_equal(op_run_short(v, &c.p, &a, 1), ANEMO_E_MEMORY);
        anemo_swa_problem p = c.p;
        p.window = -1;
        assert_true(op_refuses(v, &p));
        p = c.p, p.kv.n_heads = 5;
        assert_true(op_refuses(v, &p));
        p = c.p, p.kv.type = 4;
        assert_true(op_refuses(v, &p));
        p = c.p, p.scale = INFINITY;
        assert_true(op_refuses(v, &p));
    }
    free(out);
    world_free(&c);
}

/* ---------------------------------------------------------------- rope_append */

typedef struct rope_case {
    anemo_rope_problem p;
    step s;
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
                               .kv = view_of(&c->s)};
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
    rope_case c = {.p = p, .rows = 9, .s = {.shape = p.kv, .n_sequences = 4, .n_pages = 12}};
    const int64_t history[4] = {0, 123456, 0, 17}, rows[4] = {5, 3, 0, 1};
    const int64_t tokens = p.kv.page_tokens;
    c.p.size = sizeof c.p;
    c.p.rows_max = 9;
    c.p.sequences_max = 4;
    for (int32_t i = 0; i < 4; i++) {
        c.s.row_start[i + 1] = c.s.row_start[i] + (int32_t)rows[i];
        c.s.length[i] = history[i] + rows[i];
        c.s.first[i] = history[i] / tokens * tokens;
        c.s.table_start[i] = c.s.n_entries;
        c.s.n_entries += (int32_t)((c.s.length[i] - c.s.first[i] + tokens - 1) / tokens);
    }
    assert_true(c.s.n_entries <= c.s.n_pages);
    c.s.pages = op_poisoned((size_t)c.s.n_pages * sizeof *c.s.pages);
    for (int32_t i = 0; i < c.s.n_pages; i++)
        c.s.pages[i] = i;
    check_random_shuffle(random, c.s.pages, c.s.n_pages);
    c.s.pool = op_poisoned((size_t)c.s.n_pages * page_bytes(&p.kv));
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
            assert_true(fabs(half_value(half) - x[i]) <= fmax(fabsf(x[i]) * 0x1p-11, 0x1p-25));
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
    const size_t pool = (size_t)c.s.n_pages * page_bytes(&p.kv), vector = vector_bytes(&p.kv);
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
                        unsigned char *at = vector_at(&c.s, s, position, h % n_kv, h >= n_kv);
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
        const double here = half_value((uint16_t)bits);
        const double next = bits == 0x7bff ? 65536 : half_value((uint16_t)(bits + 1));
        const float middle = (float)((here + next) / 2); /* 12 bits: exact in float */
        const uint32_t even = bits & 1 ? bits + 1 : bits;
        assert_true(kv_f32_from_f16((uint16_t)bits) == (float)here);
        assert_true(kv_f32_from_f16((uint16_t)(bits | 0x8000)) == (float)-here);
        assert_int_equal(kv_f16_from_f32((float)here), bits);
        assert_int_equal(kv_f16_from_f32(middle), even);
        assert_int_equal(kv_f16_from_f32(-middle), even | 0x8000);
        assert_int_equal(kv_f16_from_f32(nextafterf(middle, 0)), bits);
        assert_int_equal(kv_f16_from_f32(nextafterf(middle, INFINITY)), bits + 1);
    }
    assert_int_equal(kv_f16_from_f32(1e30f), 0x7c00);
    assert_int_equal(kv_f16_from_f32(-INFINITY), 0xfc00);
    assert_true(kv_f32_from_f16(0x7c00) == INFINITY && kv_f32_from_f16(0xfc00) == -INFINITY);
    assert_true(isnan(kv_f32_from_f16(0x7e00)) && isnan(kv_f32_from_f16(0xfc01)));
    assert_true(isnan(kv_f32_from_f16(kv_f16_from_f32(NAN))));
    assert_int_equal(kv_f16_from_f32(-0.0f), 0x8000);
    assert_int_equal(kv_f16_from_f32(0x1p-26f), 0);
    assert_int_equal(kv_f16_from_f32(-0x1.8p-26f), 0x8000);
    assert_int_equal(kv_f16_from_f32(0x1.8p-25f), 1);
}

/* Stores one vector x[5] through the op's own store (no rotation) and hands back its bytes. */
static void store_five(int32_t type, const float *x, unsigned char *bytes) {
    const anemo_kv_shape shape = {1, 1, 5, 1, type};
    const kv_pages pages = kv_pages_of(&shape, &(anemo_kv_view){0});
    memset(bytes, 0xff, 24);
    kv_store(&pages, (char *)bytes, x);
    assert_int_equal(pages.vector_bytes, vector_bytes(&shape));
    assert_int_equal(bytes[vector_bytes(&shape)], 0xff);
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

/* ---------------------------------------------------------------- a sequence in time */

/* Two sequences run through rope_append and swa in steps of `chunk` rows each (the second of
 * chunk + 1), pages coming from a small pool: a page that falls behind the window is poisoned and
 * handed out again. out: [2][length][n_heads][head_dim]. Returns the most pages ever held. */
typedef struct timeline {
    anemo_kv_shape shape;
    int64_t length, window;
    float *q, *k, *v, *inv_freq; /* [2][length][...] */
} timeline;

typedef struct held {
    int64_t first, length;
    int32_t page[64];
} held;

static void free_behind(const timeline *t, held *h, step *s, int32_t *spare, int32_t *n_spare) {
    const int64_t tokens = t->shape.page_tokens;
    while (t->window && h->first + tokens <= h->length - t->window + 1) {
        memset(s->pool + (size_t)h->page[0] * page_bytes(&t->shape), 0xff, page_bytes(&t->shape));
        spare[(*n_spare)++] = h->page[0];
        memmove(h->page, h->page + 1, sizeof h->page - sizeof *h->page);
        h->first += tokens;
    }
}

static int32_t live(const timeline *t, const anemo_variant *rope, const anemo_variant *swa,
                    int64_t chunk, int32_t n_threads, float *out) {
    const anemo_kv_shape *k = &t->shape;
    const int64_t tokens = k->page_tokens, qw = k->n_heads * k->head_dim;
    const int64_t kw = k->n_kv_heads * k->head_dim;
    int32_t spare[128], n_spare = 128, most = 0;
    for (int32_t i = 0; i < 128; i++)
        spare[i] = (i * 37) % 128;
    held h[2] = {0};
    int32_t table[128];
    step s = {.shape = *k, .n_sequences = 2, .pages = table};
    s.pool = op_poisoned(128 * page_bytes(k));
    float *q = op_poisoned((size_t)(2 * t->length * qw) * 4),
          *o = op_poisoned((size_t)(2 * t->length * qw) * 4);
    float *key = op_poisoned((size_t)(2 * t->length * kw) * 4),
          *value = op_poisoned((size_t)(2 * t->length * kw) * 4);
    while (h[0].length < t->length || h[1].length < t->length) {
        s.n_entries = 0;
        int64_t rows = 0;
        for (int32_t i = 0; i < 2; i++) {
            const int64_t left = t->length - h[i].length,
                          take = chunk + i < left ? chunk + i : left;
            const int64_t from = i * t->length + h[i].length;
            free_behind(t, &h[i], &s, spare, &n_spare);
            memcpy(q + rows * qw, t->q + from * qw, (size_t)(take * qw) * 4);
            memcpy(key + rows * kw, t->k + from * kw, (size_t)(take * kw) * 4);
            memcpy(value + rows * kw, t->v + from * kw, (size_t)(take * kw) * 4);
            int64_t pages = (h[i].length - h[i].first + tokens - 1) / tokens;
            for (h[i].length += take; pages * tokens < h[i].length - h[i].first; pages++) {
                assert_true(n_spare > 0 && pages < 64);
                h[i].page[pages] = spare[--n_spare];
            }
            s.row_start[i + 1] = s.row_start[i] + (int32_t)take;
            s.first[i] = h[i].first, s.length[i] = h[i].length;
            s.table_start[i] = s.n_entries;
            memcpy(table + s.n_entries, h[i].page, (size_t)pages * sizeof *table);
            s.n_entries += (int32_t)pages;
            rows += take;
        }
        most = s.n_entries > most ? s.n_entries : most;
        rope_case r = {.p = {.size = sizeof r.p,
                             .rows_max = rows,
                             .sequences_max = 2,
                             .kv = *k,
                             .rotary_dims = k->head_dim,
                             .magnitude = 1},
                       .s = s,
                       .rows = rows,
                       .q = q,
                       .k = key,
                       .v = value,
                       .inv_freq = t->inv_freq};
        assert_int_equal(append(rope, n_threads, &r), ANEMO_OK);
        world w = {.s = s, .rows = rows, .q = q};
        w.p = (anemo_swa_problem){.size = sizeof w.p,
                                  .rows_max = rows,
                                  .sequences_max = 2,
                                  .context_max = t->length,
                                  .kv = *k,
                                  .window = t->window,
                                  .scale = 0.25f};
        assert_int_equal(attend(&w, swa, n_threads, o), ANEMO_OK);
        for (int32_t i = 0; i < 2; i++) {
            const int64_t n = s.row_start[i + 1] - s.row_start[i];
            memcpy(out + (i * t->length + h[i].length - n) * qw, o + s.row_start[i] * qw,
                   (size_t)(n * qw) * 4);
        }
    }
    free(s.pool), free(q), free(o), free(key), free(value);
    return most;
}

static void test_time_and_page_reuse(void **state) {
    (void)state;
    check_random random = check_random_seed(10, 0, 0);
    const op_variants ropes = op_variants_of(ANEMO_OP_ROPE_APPEND);
    const op_variants swas = op_variants_of(ANEMO_OP_SWA);
    const int64_t windows[] = {0, 5, 16, 21}, chunks[] = {1, 3, 16, 40, 99};
    for (int32_t type = ANEMO_KV_F32; type <= ANEMO_KV_Q8; type++)
        for (size_t w = 0; w < 4; w++) {
            timeline t = {.shape = {4, 2, 16, 8, type}, .length = 100, .window = windows[w]};
            const size_t n = 2 * 100 * 64, bytes = n * sizeof(float);
            t.q = op_random_floats(&random, n, 1);
            t.k = op_random_floats(&random, n / 2, 1);
            t.v = op_random_floats(&random, n / 2, 1);
            t.inv_freq = op_random_floats(&random, 8, 0.3);
            float *want = op_poisoned(bytes), *got = op_poisoned(bytes);
            double *wide = op_poisoned(n * sizeof *wide);
            for (int32_t i = 0; i < swas.n; i++) {
                const anemo_variant *v = swas.at[i], *r = ropes.at[i % ropes.n];
                live(&t, r, v, 1000, 1, want); /* all at once */
                for (size_t j = 0; j < n; j++)
                    wide[j] = want[j];
                for (size_t c = 0; c < 5; c++) {
                    const int32_t pages = live(&t, r, v, chunks[c], 1 + (int32_t)c % 3, got);
                    op_assert_near(v->name, got, wide, n, bound);
                    if (v->traits & ANEMO_TRAIT_ROW_INVARIANT)
                        assert_memory_equal(got, want, bytes);
                    if (t.window) /* memory is bounded by window and chunk, not by the length */
                        assert_true(pages <= 2 * ((t.window + chunks[c] + 1) / 8 + 2));
                }
            }
            free(t.q), free(t.k), free(t.v), free(t.inv_freq), free(want), free(got), free(wide);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_swa_mixed),
        cmocka_unit_test(test_swa_heads),
        cmocka_unit_test(test_swa_mistakes_show),
        cmocka_unit_test(test_swa_wide_window),
        cmocka_unit_test(test_swa_sink_limits),
        cmocka_unit_test(test_swa_large_scores_and_nan),
        cmocka_unit_test(test_swa_refuses),
        cmocka_unit_test(test_rope_append),
        cmocka_unit_test(test_rope_far_angles_show),
        cmocka_unit_test(test_rope_refuses),
        cmocka_unit_test(test_f16_rounding),
        cmocka_unit_test(test_bf16_and_q8_rounding),
        cmocka_unit_test(test_time_and_page_reuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
