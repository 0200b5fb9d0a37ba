/* swa against a softmax of this file, with the tests' own idea of where a key lies and what its
 * bits mean (support/kv_step.h): every CPU variant. Slots without a key hold NaN throughout. */
#include "tests/support/kv_step.h"
#include "tests/support/op_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---------------------------------------------------------------- attention over a random step */

typedef struct world {
    kv_step s;
    double *keys[KV_STEP_SEQUENCES],
        *values[KV_STEP_SEQUENCES]; /* [length][n_kv_heads][head_dim] */
    int64_t rows;
    float *q, *sinks;
    anemo_swa_problem p;
} world;

/* history[i] keys before rows[i] new rows. Pages behind the window are gone, some of them at
 * random, and the page numbers are shuffled. */
static world world_create(check_random *random, anemo_kv_shape shape, int64_t window, bool sinks,
                          int32_t n_sequences, const int64_t *history, const int64_t *rows) {
    world w = {.s = {.shape = shape}};
    kv_step *s = &w.s;
    const int64_t tokens = shape.page_tokens;
    int64_t longest = 1;
    for (int32_t i = 0; i < n_sequences; i++) {
        const int64_t gone = window ? (history[i] - window + 1) / tokens : 0;
        kv_step_add(s, history[i], rows[i],
                    gone > 0 ? (gone - check_random_below(random, 2)) * tokens : 0);
        longest = s->length[i] > longest ? s->length[i] : longest;
    }
    w.rows = s->row_start[n_sequences];
    s->n_pages = s->n_entries + 3;
    s->pages = op_poisoned((size_t)s->n_pages * sizeof *s->pages);
    for (int32_t i = 0; i < s->n_pages; i++)
        s->pages[i] = i;
    check_random_shuffle(random, s->pages, s->n_pages);
    s->pool = op_poisoned((size_t)s->n_pages * kv_step_page_bytes(&shape));
    const size_t d = (size_t)shape.head_dim, row = d * (size_t)shape.n_kv_heads;
    for (int32_t i = 0; i < n_sequences; i++) {
        w.keys[i] = op_poisoned((size_t)s->length[i] * row * sizeof(double));
        w.values[i] = op_poisoned((size_t)s->length[i] * row * sizeof(double));
        for (int64_t p = s->first[i]; p < s->length[i]; p++)
            for (int32_t h = 0; h < shape.n_kv_heads; h++) {
                const size_t at = (size_t)p * row + (size_t)h * d;
                kv_step_write(random, &shape, kv_step_vector(s, i, p, h, false), w.keys[i] + at);
                kv_step_write(random, &shape, kv_step_vector(s, i, p, h, true), w.values[i] + at);
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
                              .kv = kv_step_view(&w->s),
                              .sinks = w->sinks,
                              .out = out};
    return op_run(v, n_threads, &w->p, &a);
}

/* The variants that take keys and values of this type; one may be for f16 alone. */
static op_variants variants_for(int32_t type) {
    const op_variants all = op_variants_of(ANEMO_OP_SWA);
    anemo_swa_problem p = {.size = sizeof p,
                           .rows_max = 1,
                           .sequences_max = 1,
                           .context_max = 1,
                           .kv = {4, 2, 16, 8, type},
                           .scale = 1};
    op_variants taken = {0};
    for (int32_t i = 0; i < all.n; i++) {
        p.kv.type = type;
        if (!op_refuses(all.at[i], &p)) {
            taken.at[taken.n++] = all.at[i];
            continue;
        }
        p.kv.type = ANEMO_KV_F16;
        assert_false(op_refuses(all.at[i], &p));
    }
    assert_true(taken.n >= 2 && taken.at[0] == all.at[0]);
    return taken;
}

/* |v| <= 3 and scores of a few units: a dozen float roundings. */
static const double bound = 1e-5;

static void check_world(const world *w) {
    const op_variants variants = variants_for(w->s.shape.type);
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
    const op_variants variants = variants_for(shape.type);
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
    const op_variants variants = variants_for(shape.type);
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

static void check_sink_limits(int32_t type) {
    check_random random = check_random_seed(5, 0, 0);
    const anemo_kv_shape shape = {4, 2, 8, 8, type};
    const op_variants variants = variants_for(type);
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

static void test_swa_sink_limits(void **state) {
    (void)state;
    check_sink_limits(ANEMO_KV_F16);
    check_sink_limits(ANEMO_KV_BF16);
}

/* Large scores: only the running maximum keeps exp in range; queries of 10^6 are beyond f16. A NaN
 * in a seen key is seen. */
static void check_large_scores_and_nan(int32_t type, float size) {
    check_random random = check_random_seed(6, 0, 0);
    const anemo_kv_shape shape = {2, 1, 16, 8, type};
    const op_variants variants = variants_for(shape.type);
    world c = world_create(&random, shape, 0, false, 1, (int64_t[]){0}, (int64_t[]){70});
    const size_t row = 2 * 16, n = 70 * row;
    for (size_t i = 0; i < n; i++)
        c.q[i] *= size;
    for (int32_t i = 0; i < variants.n; i++) {
        float *out = op_poisoned(n * sizeof *out), *bad = op_poisoned(n * sizeof *bad);
        assert_int_equal(attend(&c, variants.at[i], 1, out), ANEMO_OK);
        for (size_t r = 0; r < 70; r++) /* row 0 sees itself only; all are means of values */
            for (size_t j = 0; j < row; j++)
                assert_true(fabsf(out[r * row + j]) <= 3.0001f);
        for (size_t j = 0; j < row; j++)
            assert_true(out[j] == (float)c.values[0][j % 16]);
        unsigned char *key = kv_step_vector(&c.s, 0, 40, 0, false), kept[4];
        memcpy(kept, key, sizeof kept);
        memset(key, 0xff, sizeof kept); /* NaN in every type */
        assert_int_equal(attend(&c, variants.at[i], 1, bad), ANEMO_OK);
        memcpy(key, kept, sizeof kept);
        assert_memory_equal(out, bad, 40 * row * sizeof *out);
        for (size_t j = 40 * row; j < n; j++)
            assert_true(isnan(bad[j]));
        free(out), free(bad);
    }
    world_free(&c);
}

static void test_swa_large_scores_and_nan(void **state) {
    (void)state;
    check_large_scores_and_nan(ANEMO_KV_F32, 500);
    check_large_scores_and_nan(ANEMO_KV_F16, 1e6f);
}

static void test_swa_refuses(void **state) {
    (void)state;
    check_random random = check_random_seed(7, 0, 0);
    const anemo_kv_shape shape = {4, 2, 8, 8, ANEMO_KV_F32};
    const op_variants variants = variants_for(shape.type);
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
        const anemo_swa_args a = {.rows = c.rows, .kv = kv_step_view(&c.s), .sinks = c.sinks};
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

/* ---------------------------------------------------------------- a sequence in time */

/* What two sequences will be: [2][length][heads][head_dim]. */
typedef struct timeline {
    anemo_kv_shape shape;
    int64_t length, window;
    float *q, *k, *v, *inv_freq;
} timeline;

enum { LIFE_PAGES = 128, SEQUENCE_PAGES = 32 };

/* Two sequences on their way through rope_append and swa, with pages from a small pool: a page that
 * falls behind the window is poisoned and handed out again. */
typedef struct life {
    const timeline *t;
    int64_t first[2], length[2];
    int32_t page[2][SEQUENCE_PAGES];
    int32_t spare[LIFE_PAGES], n_spare;
    unsigned char *pool;
    float *q, *k, *v, *out; /* of one step */
} life;

static int64_t q_width(const timeline *t) {
    return t->shape.n_heads * t->shape.head_dim;
}

static int64_t kv_width(const timeline *t) {
    return t->shape.n_kv_heads * t->shape.head_dim;
}

static life life_begin(const timeline *t) {
    life l = {.t = t, .n_spare = LIFE_PAGES};
    for (int32_t i = 0; i < LIFE_PAGES; i++)
        l.spare[i] = (i * 37) % LIFE_PAGES;
    l.pool = op_poisoned(LIFE_PAGES * kv_step_page_bytes(&t->shape));
    l.q = op_poisoned((size_t)(2 * t->length * q_width(t)) * sizeof *l.q);
    l.out = op_poisoned((size_t)(2 * t->length * q_width(t)) * sizeof *l.out);
    l.k = op_poisoned((size_t)(2 * t->length * kv_width(t)) * sizeof *l.k);
    l.v = op_poisoned((size_t)(2 * t->length * kv_width(t)) * sizeof *l.v);
    return l;
}

static void life_end(life *l) {
    free(l->pool), free(l->q), free(l->k), free(l->v), free(l->out);
}

static void free_behind_window(life *l, int32_t i) {
    const int64_t tokens = l->t->shape.page_tokens, window = l->t->window;
    const size_t bytes = kv_step_page_bytes(&l->t->shape);
    while (window && l->first[i] + tokens <= l->length[i] - window + 1) {
        memset(l->pool + (size_t)l->page[i][0] * bytes, 0xff, bytes);
        l->spare[l->n_spare++] = l->page[i][0];
        memmove(l->page[i], l->page[i] + 1, sizeof l->page[i] - sizeof l->page[i][0]);
        l->first[i] += tokens;
    }
}

/* `rows` more rows of sequence i: pages, inputs, and a line in the step. */
static void grow(life *l, kv_step *s, int32_t i, int64_t rows) {
    const timeline *t = l->t;
    const int64_t tokens = t->shape.page_tokens, from = i * t->length + l->length[i];
    const int64_t to = s->row_start[s->n_sequences], qw = q_width(t), kw = kv_width(t);
    free_behind_window(l, i);
    int64_t pages = (l->length[i] - l->first[i] + tokens - 1) / tokens;
    kv_step_add(s, l->length[i], rows, l->first[i]);
    l->length[i] += rows;
    for (; pages * tokens < l->length[i] - l->first[i]; pages++) {
        assert_true(l->n_spare > 0 && pages < SEQUENCE_PAGES);
        l->page[i][pages] = l->spare[--l->n_spare];
    }
    memcpy(s->pages + s->table_start[i], l->page[i], (size_t)pages * sizeof *s->pages);
    memcpy(l->q + to * qw, t->q + from * qw, (size_t)(rows * qw) * sizeof *l->q);
    memcpy(l->k + to * kw, t->k + from * kw, (size_t)(rows * kw) * sizeof *l->k);
    memcpy(l->v + to * kw, t->v + from * kw, (size_t)(rows * kw) * sizeof *l->v);
}

static void rotate_and_attend(const life *l, const kv_step *s, const anemo_variant *rope,
                              const anemo_variant *swa, int32_t n_threads) {
    const int64_t rows = s->row_start[2];
    const anemo_rope_problem rope_problem = {.size = sizeof rope_problem,
                                             .rows_max = rows,
                                             .sequences_max = 2,
                                             .kv = s->shape,
                                             .rotary_dims = s->shape.head_dim,
                                             .magnitude = 1};
    const anemo_rope_args rope_args = {.size = sizeof rope_args,
                                       .rows = rows,
                                       .q = l->q,
                                       .k = l->k,
                                       .v = l->v,
                                       .inv_freq = l->t->inv_freq,
                                       .kv = kv_step_view(s)};
    const anemo_swa_problem swa_problem = {.size = sizeof swa_problem,
                                           .rows_max = rows,
                                           .sequences_max = 2,
                                           .context_max = l->t->length,
                                           .kv = s->shape,
                                           .window = l->t->window,
                                           .scale = 0.25f};
    const anemo_swa_args swa_args = {
        .size = sizeof swa_args, .rows = rows, .q = l->q, .kv = kv_step_view(s), .out = l->out};
    assert_int_equal(op_run(rope, n_threads, &rope_problem, &rope_args), ANEMO_OK);
    assert_int_equal(op_run(swa, n_threads, &swa_problem, &swa_args), ANEMO_OK);
}

/* Steps of `chunk` rows of the first sequence and chunk + 1 of the second. out:
 * [2][length][n_heads] [head_dim]. Returns the most pages ever held. */
static int32_t live(const timeline *t, const anemo_variant *rope, const anemo_variant *swa,
                    int64_t chunk, int32_t n_threads, float *out) {
    const int64_t qw = q_width(t);
    int32_t most_pages = 0;
    life l = life_begin(t);
    while (l.length[0] < t->length || l.length[1] < t->length) {
        int32_t table[LIFE_PAGES];
        kv_step s = {.shape = t->shape, .pages = table, .pool = l.pool};
        for (int32_t i = 0; i < 2; i++) {
            const int64_t left = t->length - l.length[i];
            grow(&l, &s, i, chunk + i < left ? chunk + i : left);
        }
        most_pages = s.n_entries > most_pages ? s.n_entries : most_pages;
        rotate_and_attend(&l, &s, rope, swa, n_threads);
        for (int32_t i = 0; i < 2; i++) {
            const int64_t n = s.row_start[i + 1] - s.row_start[i];
            memcpy(out + (i * t->length + l.length[i] - n) * qw, l.out + s.row_start[i] * qw,
                   (size_t)(n * qw) * sizeof *out);
        }
    }
    life_end(&l);
    return most_pages;
}

static void test_time_and_page_reuse(void **state) {
    (void)state;
    check_random random = check_random_seed(10, 0, 0);
    const op_variants ropes = op_variants_of(ANEMO_OP_ROPE_APPEND);
    const int64_t windows[] = {0, 5, 16, 21}, chunks[] = {1, 3, 16, 40, 99};
    for (int32_t type = ANEMO_KV_F32; type <= ANEMO_KV_Q8; type++)
        for (size_t w = 0; w < 4; w++) {
            const op_variants swas = variants_for(type);
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
        cmocka_unit_test(test_swa_mixed),         cmocka_unit_test(test_swa_heads),
        cmocka_unit_test(test_swa_mistakes_show), cmocka_unit_test(test_swa_wide_window),
        cmocka_unit_test(test_swa_sink_limits),   cmocka_unit_test(test_swa_large_scores_and_nan),
        cmocka_unit_test(test_swa_refuses),       cmocka_unit_test(test_time_and_page_reuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
