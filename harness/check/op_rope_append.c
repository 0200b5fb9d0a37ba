/* rope_append: rotate q and k, write k and v into KV pages.
 *
 * Second formulation: a pair is a complex number times exp(i angle), in long double. The pages are
 * judged by themselves: the slots of this step must hold the kernel's own rotated k and the given
 * v, rounded once, and every other byte of the pool must be as before. */
#include "harness/check/op.h"
#include "harness/check/paged.h"

#include <complex.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct rope_fixture {
    anemo_rope_problem problem;
    check_paged paged;
    float *q, *k, *v, *inv_freq;
} rope_fixture;

/* ---------------------------------------------------------------- grid */

static const struct {
    int32_t heads, kv_heads, dim, rotary;
} shapes[] = {{4, 2, 32, 32},  {8, 1, 64, 64}, {3, 3, 80, 80},
              {4, 1, 128, 64}, {2, 2, 64, 16}, {4, 4, 32, 2}};
enum { SHAPES = sizeof shapes / sizeof *shapes, TYPES = 4, FORMS = 5 };

static int32_t count(void) {
    return SHAPES * TYPES * FORMS;
}

/* Rows of every kind; one sequence far out, where the angle needs its product in double, and one
 * whose early pages are freed. */
static const check_sequence batch[] = {
    {0, 1, 1}, {0, 19, 19}, {0, 40, 0}, {32, 70, 5}, {99968, 100003, 3}};
enum { BATCH = sizeof batch / sizeof *batch };

static void destroy(void *fixture) {
    rope_fixture *f = fixture;
    check_paged_free(&f->paged);
    free(f->q);
    free(f->k);
    free(f->v);
    free(f->inv_freq);
    free(f);
}

/* Slots of positions before this step hold keys, which must stay. */
static void fill_past(rope_fixture *f, check_random *random) {
    float x[256];
    for (int32_t s = 0; s < f->paged.n_sequences; s++) {
        const check_sequence *q = &f->paged.sequence[s];
        for (int64_t p = q->first; p < q->length - q->rows; p++)
            for (int32_t h = 0; h < f->problem.kv.n_kv_heads; h++) {
                unsigned char *at = f->paged.pool + check_paged_at(&f->paged, s, p, h);
                check_random_fill(random, x, (size_t)f->problem.kv.head_dim, 1);
                check_paged_encode(&f->problem.kv, x, at);
                check_paged_encode(&f->problem.kv, x, at + check_paged_value_offset(&f->paged));
            }
    }
}

static void *create(int32_t index, check_random *random, char *name, size_t name_bytes) {
    static const char *const types[] = {"f32", "f16", "bf16", "q8"};
    rope_fixture *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    const int32_t s = index % SHAPES, type = index / SHAPES % TYPES, form = index / SHAPES / TYPES;
    const int32_t n = form == 3 ? 1 : BATCH; /* one row; else the batch, all or its first parts */
    const anemo_kv_shape shape = {shapes[s].heads, shapes[s].kv_heads, shapes[s].dim,
                                  index % 2 ? 16 : 32, type};
    bool ok = check_paged_create(&f->paged, random, &shape, batch, n);
    const int64_t rows = ok ? check_paged_rows(&f->paged) : 0;
    f->problem =
        (anemo_rope_problem){.size = sizeof f->problem,
                             .rows_max = rows + index % 2,
                             .sequences_max = n + index % 3,
                             .kv = shape,
                             .rotary_dims = shapes[s].rotary,
                             .pairing = form % 2 ? ANEMO_ROPE_INTERLEAVED : ANEMO_ROPE_HALF,
                             .magnitude = form == 2 ? 1.25f : 1,
                             .temperature = form == 4 ? 0.3f : 0,
                             .temperature_period = form == 4 ? 7 : 0};
    snprintf(name, name_bytes, "rows=%lld h%d/%d d%d rotary=%d %s page%d %s%s", (long long)rows,
             shape.n_heads, shape.n_kv_heads, shape.head_dim, f->problem.rotary_dims,
             form % 2 ? "interleaved" : "half", shape.page_tokens, types[type],
             form == 2   ? " magnitude"
             : form == 4 ? " temperature"
                         : "");
    f->q = check_random_floats(random, rows * shape.n_heads * shape.head_dim, 1);
    f->k = check_random_floats(random, rows * shape.n_kv_heads * shape.head_dim, 1);
    f->v = check_random_floats(random, rows * shape.n_kv_heads * shape.head_dim, 1);
    f->inv_freq = malloc((size_t)shape.head_dim * sizeof *f->inv_freq);
    if (!ok || !f->q || !f->k || !f->v || !f->inv_freq) {
        destroy(f);
        return NULL;
    }
    for (int32_t i = 0; i < f->problem.rotary_dims / 2; i++)
        f->inv_freq[i] = (float)pow(10000, -2.0 * i / f->problem.rotary_dims);
    fill_past(f, random);
    return f;
}

static const void *problem(const void *fixture) {
    return &((const rope_fixture *)fixture)->problem;
}

static int64_t rows_of(const void *fixture) {
    return check_paged_rows(&((const rope_fixture *)fixture)->paged);
}

/* ---------------------------------------------------------------- pages */

/* Is `vector` this x in the page type? q8: the scale to 4 ulp, codes to half a step and what such a
 * scale allows. */
static bool holds(const anemo_kv_shape *shape, const unsigned char *vector, const float *x) {
    unsigned char want[4 * 256];
    check_paged_encode(shape, x, want);
    if (shape->type != ANEMO_KV_Q8)
        return memcmp(vector, want,
                      anemo_kv_vector_bytes((anemo_kv_type)shape->type, shape->head_dim)) == 0;
    float scale, exact;
    memcpy(&scale, vector, sizeof scale);
    memcpy(&exact, want, sizeof exact);
    bool same = fabs((double)scale - exact) <= 0x1p-21 * exact;
    for (int32_t i = 0; i < shape->head_dim; i++) {
        const int8_t code = (int8_t)vector[sizeof scale + (size_t)i];
        same = same && fabs(code - (double)x[i] / exact) <= 0.5 + 1e-4;
    }
    return same;
}

/* The slots of rows [begin, end), after which they are put back, so that what is left of `after`
 * must equal the pool before. */
static bool slots_right(const rope_fixture *f, const check_run *run, unsigned char *after,
                        const float *k, char *fault, size_t fault_bytes) {
    const anemo_kv_shape *shape = &f->problem.kv;
    const int64_t heads = shape->n_kv_heads, dim = shape->head_dim;
    const size_t bytes = anemo_kv_vector_bytes((anemo_kv_type)shape->type, shape->head_dim);
    for (int64_t r = run->begin; r < run->end; r++) {
        int64_t position;
        const int32_t s = check_paged_sequence(&f->paged, r, &position);
        for (int32_t h = 0; h < heads; h++) {
            const size_t at = check_paged_at(&f->paged, s, position, h);
            const size_t value_at = at + check_paged_value_offset(&f->paged);
            const bool k_right = holds(shape, after + at, k + ((r - run->begin) * heads + h) * dim);
            const bool v_right = holds(shape, after + value_at, f->v + (r * heads + h) * dim);
            memcpy(after + at, f->paged.pool + at, bytes);
            memcpy(after + value_at, f->paged.pool + value_at, bytes);
            if (!k_right || !v_right) {
                snprintf(fault, fault_bytes,
                         "the page does not hold %s of row %lld, head %d, position %lld",
                         k_right ? "v" : "the rotated k", (long long)r, h, (long long)position);
                return false;
            }
        }
    }
    if (memcmp(after, f->paged.pool, f->paged.pool_bytes) == 0)
        return true;
    snprintf(fault, fault_bytes, "wrote to the pool beside the slots of this step");
    return false;
}

static anemo_status judge_pages(const rope_fixture *f, const check_run *run, const void *pool,
                                const float *k, char *fault, size_t fault_bytes) {
    unsigned char *after = malloc(f->paged.pool_bytes);
    if (!after)
        return ANEMO_E_MEMORY;
    memcpy(after, pool, f->paged.pool_bytes);
    const bool right = slots_right(f, run, after, k, fault, fault_bytes);
    free(after);
    return right ? ANEMO_OK : ANEMO_E_NUMERIC;
}

/* ---------------------------------------------------------------- execute and oracle */

static anemo_status execute(void *fixture, const check_run *run, check_result *result, char *fault,
                            size_t fault_bytes) {
    const rope_fixture *f = fixture;
    const anemo_kv_shape *shape = &f->problem.kv;
    const int64_t rows = run->end - run->begin, q_width = shape->n_heads * shape->head_dim;
    const int64_t k_width = shape->n_kv_heads * shape->head_dim;
    const size_t q_row = (size_t)q_width * 4, k_row = (size_t)k_width * 4, n = (size_t)rows;
    check_trial trial;
    check_trial_begin(&trial, run->device);
    trial.mark = run->mark;
    anemo_rope_args args = {.size = sizeof args, .rows = rows};
    args.q = check_trial_inout(&trial, "q", f->q + run->begin * q_width, n * q_row);
    args.k = check_trial_inout(&trial, "k", f->k + run->begin * k_width, n * k_row);
    args.v = check_trial_in(&trial, "v", f->v + run->begin * k_width, n * k_row);
    args.inv_freq = check_trial_in(&trial, "inv_freq", f->inv_freq,
                                   (size_t)f->problem.rotary_dims / 2 * sizeof(float));
    args.kv = check_paged_bind(&f->paged, &trial, run->begin, run->end, true);
    anemo_status status = check_trial_run(&trial, run->variant, &f->problem, &args);
    if (status != ANEMO_OK) {
        snprintf(fault, fault_bytes, "%s", trial.fault);
    } else {
        const float *k = check_trial_after(&trial, args.k);
        status =
            judge_pages(f, run, check_trial_after(&trial, args.kv.pool), k, fault, fault_bytes);
        if (!check_result_copy(result, "q", CHECK_FLOAT, true, rows, q_width,
                               check_trial_after(&trial, args.q), q_row) ||
            !check_result_copy(result, "k", CHECK_FLOAT, true, rows, k_width, k, k_row))
            status = ANEMO_E_MEMORY;
    }
    check_trial_end(&trial);
    return status;
}

/* Of q (`heat`): the temperature, one more product after the rotation. */
static void rotate(const rope_fixture *f, int64_t position, bool heat, const float *x, float *y,
                   check_scale *scale) {
    const anemo_rope_problem *p = &f->problem;
    const int32_t pairs = p->rotary_dims / 2;
    const double turns =
        heat && p->temperature != 0 ? floor((double)position / (double)p->temperature_period) : 0;
    const double factor = 1 + (double)p->temperature * log1p(turns);
    for (int32_t i = 0; i < p->kv.head_dim; i++) {
        y[i] = (float)(x[i] * factor); /* what is not rotated and not scaled is exact */
        if (turns > 0)
            scale[i] = (check_scale){fabs(x[i]) * factor, 1, fabs(x[i]) * factor};
    }
    for (int32_t i = 0; i < pairs; i++) {
        const int32_t a = p->pairing == ANEMO_ROPE_HALF ? i : 2 * i;
        const int32_t b = p->pairing == ANEMO_ROPE_HALF ? i + pairs : 2 * i + 1;
        const long double angle = (double)position * (double)f->inv_freq[i];
        const complex long double turned = ((long double)x[a] + I * (long double)x[b]) *
                                           cexpl(I * angle) * (long double)(p->magnitude * factor);
        y[a] = (float)creall(turned);
        y[b] = (float)cimagl(turned);
        const double size = (fabs(x[a]) + fabs(x[b])) * p->magnitude * factor;
        scale[a] = scale[b] = (check_scale){size, 1, size};
    }
}

static bool rotate_all(const rope_fixture *f, const char *name, bool heat, const float *x,
                       int32_t heads, check_result *result) {
    const int64_t rows = check_paged_rows(&f->paged), dim = f->problem.kv.head_dim;
    float *y = check_result_add(result, name, CHECK_FLOAT, true, rows, heads * dim);
    check_scale *scale = y ? check_result_scale(result) : NULL;
    for (int64_t i = 0; scale && i < rows * heads; i++) {
        int64_t position;
        check_paged_sequence(&f->paged, i / heads, &position);
        rotate(f, position, heat, x + i * dim, y + i * dim, scale + i * dim);
    }
    return scale != NULL;
}

static anemo_status oracle(void *fixture, const char *feed, check_result *result) {
    const rope_fixture *f = fixture;
    (void)feed;
    return rotate_all(f, "q", true, f->q, f->problem.kv.n_heads, result) &&
                   rotate_all(f, "k", false, f->k, f->problem.kv.n_kv_heads, result)
               ? ANEMO_OK
               : ANEMO_E_MEMORY;
}

const check_op check_op_rope_append = {.op = ANEMO_OP_ROPE_APPEND,
                                       .count = count,
                                       .create = create,
                                       .destroy = destroy,
                                       .problem = problem,
                                       .rows = rows_of,
                                       .execute = execute,
                                       .oracle = oracle};
