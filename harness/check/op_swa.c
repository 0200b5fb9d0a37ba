/* swa: causal grouped-query attention over paged KV, with a window.
 *
 * Second formulation: keys and values are kept as dense arrays over absolute positions, never read
 * from a page; every (query, key) pair of the whole context is asked the mask's question in words,
 * "not after it, fewer than W before it", and what is masked has weight zero. Keys that exist but
 * that no row sees are large: a window one key too wide shows at once.
 *
 * Rounding: a score is a dot product over head_dim of standard deviation sqrt(sum q^2 k^2), and its
 * error e changes a softmax weight by the factor 1 + e. Where that error is of one sign for the
 * keys above the mean and of the other below, the output moves by e sum w |v - out|: that, with the
 * standard deviation for e, and sqrt(sum (w v)^2), which roundings of the weights scale with, are
 * its spread. */
#include "harness/check/op.h"
#include "harness/check/paged.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct swa_case {
    anemo_kv_shape shape;
    int64_t window;
    bool sinks;
    double sharpness; /* factor on q: 1, or large for one-hot weights */
    int32_t n_sequences;
    check_sequence sequence[CHECK_SEQUENCES];
} swa_case;

typedef struct swa_fixture {
    swa_case c;
    anemo_swa_problem problem;
    check_paged paged;
    float *q, *sinks;
    double *keys[CHECK_SEQUENCES], *values[CHECK_SEQUENCES]; /* [length, n_kv_heads, head_dim] */
} swa_fixture;

/* ---------------------------------------------------------------- grid */

enum { GRID = 320 };
static swa_case grid[GRID];
static int32_t n_grid, n_wanted;

static swa_case *put(int32_t heads, int32_t kv_heads, int32_t dim, int32_t page,
                     anemo_kv_type type) {
    static swa_case spare;
    n_wanted++;
    swa_case *c = n_grid < GRID ? &grid[n_grid++] : &spare;
    *c = (swa_case){.shape = {heads, kv_heads, dim, page, type}, .sharpness = 1};
    return c;
}

/* A sequence of `length` positions, the last `rows` of them in this step; pages that no row sees
 * are freed if `free_pages`. */
static void add_sequence(swa_case *c, int64_t length, int64_t rows, bool free_pages) {
    int64_t first = length - rows - c->window + 1; /* first key that the first row sees */
    first = c->window > 0 && first > 0 && free_pages
                ? first / c->shape.page_tokens * c->shape.page_tokens
                : 0;
    c->sequence[c->n_sequences++] = (check_sequence){first, length, rows};
}

static void put_windows(void) {
    static const int64_t windows[] = {0, 1, 2, 7, 15, 16, 17, 20, 33};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        const int64_t w = windows[i];
        const int64_t lengths[] = {w > 1 ? w - 1 : 1, w > 0 ? w : 5, w + 1, 2 * w + 7, 70};
        for (int j = 0; j < 5; j++)
            for (int form = 0; form < 3; form++) {
                const int64_t length = lengths[j];
                const int64_t rows = form == 0 ? 1 : form == 1 ? length : length < 5 ? 1 : 5;
                swa_case *c = put(4, 2, 32, 16, ANEMO_KV_F32);
                c->window = w;
                add_sequence(c, length, rows, j % 2 == 0 || j == 3);
            }
    }
}

/* Decode, prefill, a chunk, a sequence without rows, decode behind freed pages: in one step. */
static void mixed_batch(swa_case *c) {
    add_sequence(c, 37, 1, true);
    add_sequence(c, 19, 19, false);
    add_sequence(c, 11, 0, false);
    add_sequence(c, 43, 6, true);
    add_sequence(c, 90, 1, true);
}

static void put_shapes(void) {
    static const int32_t dims[] = {32, 64, 80, 128}, pages[] = {16, 32, 64, 7};
    for (int ratio = 0; ratio < 4; ratio++)
        for (int dim = 0; dim < 4; dim++)
            for (int type = ANEMO_KV_F32; type <= ANEMO_KV_Q8; type++) {
                const int32_t kv_heads = ratio == 0 ? 3 : ratio == 3 ? 1 : 2;
                swa_case *c = put(kv_heads << ratio, kv_heads, dims[dim],
                                  pages[(ratio + dim + type) % 4], (anemo_kv_type)type);
                c->window = (ratio + dim + type) % 3 ? 20 : 0;
                c->sinks = (dim + type) % 2;
                mixed_batch(c);
            }
}

static void put_special(void) {
    for (int type = ANEMO_KV_F32; type <= ANEMO_KV_Q8; type++)
        for (int form = 0; form < 4; form++) {
            swa_case *c = put(4, 2, 64, 16, (anemo_kv_type)type);
            c->sharpness = form % 2 ? 60 : 0; /* one key takes all; all keys the same */
            c->sinks = form >= 2;
            c->window = 12;
            mixed_batch(c);
        }
    for (int w = 0; w < 4; w++) { /* a longer past, window not a multiple of anything */
        swa_case *c = put(8, 2, 64, 64, ANEMO_KV_F16);
        c->window = w == 0 ? 0 : 97 + w;
        add_sequence(c, 301, 1, true);
        add_sequence(c, 260, 33, true);
    }
    for (int w = 0; w < 4; w++) { /* past lengths at which a kernel may cut the keys into spans */
        swa_case *c = put(w % 2 ? 3 : 4, w % 2 ? 3 : 1, w < 2 ? 16 : 33, 48, (anemo_kv_type)w);
        c->window = w < 2 ? 0 : 1023 + w;
        c->sinks = w == 1;
        add_sequence(c, 1100, 3, true);
        add_sequence(c, 1030, 12, true);
        add_sequence(c, 513, 1, true);
    }
    for (int w = 0; w < 3; w++) { /* pages of several key tiles, groups that do not divide a tile */
        swa_case *c = put(w == 2 ? 6 : 5, w == 2 ? 2 : 1, w == 2 ? 72 : 128, w == 2 ? 192 : 128,
                          w == 1 ? ANEMO_KV_BF16 : ANEMO_KV_F16);
        c->window = w == 1 ? 0 : 150;
        c->sinks = w == 0;
        add_sequence(c, 420, 33, true);
        add_sequence(c, 70, 0, false);
        add_sequence(c, 260, 1, true);
    }
    swa_case *c = put(4, 1, 32, 64, ANEMO_KV_BF16); /* more rows than a tile takes */
    c->window = 40;
    add_sequence(c, 150, 131, false);
}

static int32_t count(void) {
    if (n_grid == 0) {
        put_windows();
        put_shapes();
        put_special();
    }
    return n_wanted == n_grid ? n_grid : 0; /* a grid that lost cases is none */
}

static void name_case(const swa_case *c, char *name, size_t name_bytes) {
    static const char *const types[] = {"f32", "f16", "bf16", "q8"};
    int at = snprintf(name, name_bytes, "h%d/%d d%d page%d %s W=%lld%s%s", c->shape.n_heads,
                      c->shape.n_kv_heads, c->shape.head_dim, c->shape.page_tokens,
                      types[c->shape.type], (long long)c->window, c->sinks ? " sinks" : "",
                      c->sharpness > 1   ? " sharp"
                      : c->sharpness < 1 ? " flat"
                                         : "");
    for (int32_t s = 0; s < c->n_sequences && at > 0 && (size_t)at < name_bytes; s++)
        at += snprintf(name + at, name_bytes - (size_t)at, " %lld@%lld..%lld",
                       (long long)c->sequence[s].rows, (long long)c->sequence[s].first,
                       (long long)c->sequence[s].length);
}

/* ---------------------------------------------------------------- fixture */

static void destroy(void *fixture) {
    swa_fixture *f = fixture;
    check_paged_free(&f->paged);
    for (int32_t s = 0; s < CHECK_SEQUENCES; s++) {
        free(f->keys[s]);
        free(f->values[s]);
    }
    free(f->q);
    free(f->sinks);
    free(f);
}

/* One vector: random, stored in its page, and kept as what the page gives back. */
static void put_vector(swa_fixture *f, check_random *random, double sd, size_t at, double *dense) {
    float x[256];
    check_random_fill(random, x, (size_t)f->c.shape.head_dim, sd);
    check_paged_encode(&f->c.shape, x, f->paged.pool + at);
    check_paged_decode(&f->c.shape, f->paged.pool + at, dense);
}

static bool fill_sequence(swa_fixture *f, int32_t s, check_random *random) {
    const check_sequence *q = &f->c.sequence[s];
    const int64_t heads = f->c.shape.n_kv_heads, dim = f->c.shape.head_dim;
    const size_t elements = (size_t)(q->length * heads * dim);
    f->keys[s] = calloc(elements, sizeof(double));
    f->values[s] = calloc(elements, sizeof(double));
    if (!f->keys[s] || !f->values[s])
        return false;
    const int64_t seen_from = f->c.window > 0 ? q->length - q->rows - f->c.window + 1 : 0;
    for (int64_t p = q->first; p < q->length; p++)
        for (int32_t h = 0; h < heads; h++) {
            const size_t at = check_paged_at(&f->paged, s, p, h);
            const int64_t dense = (p * heads + h) * dim;
            const double k_sd = p < seen_from ? 4 : 1, v_sd = p < seen_from ? 50 : 1;
            put_vector(f, random, k_sd, at, f->keys[s] + dense);
            put_vector(f, random, v_sd, at + check_paged_value_offset(&f->paged),
                       f->values[s] + dense);
        }
    return true;
}

static void *create(int32_t index, check_random *random, char *name, size_t name_bytes) {
    count();
    swa_fixture *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->c = grid[index];
    const anemo_kv_shape *shape = &f->c.shape;
    name_case(&f->c, name, name_bytes);
    bool ok = check_paged_create(&f->paged, random, shape, f->c.sequence, f->c.n_sequences);
    int64_t longest = 0;
    for (int32_t s = 0; ok && s < f->c.n_sequences; s++) {
        ok = fill_sequence(f, s, random);
        longest = f->c.sequence[s].length > longest ? f->c.sequence[s].length : longest;
    }
    const int64_t rows = ok ? check_paged_rows(&f->paged) : 0;
    f->problem = (anemo_swa_problem){.size = sizeof f->problem,
                                     .rows_max = rows + index % 3,
                                     .sequences_max = f->c.n_sequences + index % 2,
                                     .context_max = longest + index % 5,
                                     .kv = *shape,
                                     .window = f->c.window,
                                     .scale = 1 / sqrtf((float)shape->head_dim),
                                     .has_sinks = f->c.sinks};
    f->q = check_random_floats(random, rows * shape->n_heads * shape->head_dim, f->c.sharpness);
    if (f->c.sinks) /* from one that hardly counts to one that outweighs the keys */
        f->sinks = check_random_floats(random, shape->n_heads, 3);
    if (!ok || !f->q || (f->c.sinks && !f->sinks)) {
        destroy(f);
        return NULL;
    }
    return f;
}

static const void *problem(const void *fixture) {
    return &((const swa_fixture *)fixture)->problem;
}

static int64_t rows_of(const void *fixture) {
    return check_paged_rows(&((const swa_fixture *)fixture)->paged);
}

static anemo_status execute(void *fixture, const check_run *run, check_result *result, char *fault,
                            size_t fault_bytes) {
    const swa_fixture *f = fixture;
    const int64_t rows = run->end - run->begin;
    const int64_t width = (int64_t)f->c.shape.n_heads * f->c.shape.head_dim;
    const size_t row_bytes = (size_t)width * sizeof(float);
    check_trial trial;
    check_trial_begin(&trial, run->device);
    trial.mark = run->mark;
    anemo_swa_args args = {.size = sizeof args, .rows = rows};
    args.q = check_trial_in(&trial, "q", f->q + run->begin * width, (size_t)rows * row_bytes);
    args.kv = check_paged_bind(&f->paged, &trial, run->begin, run->end, false);
    args.sinks =
        check_trial_in(&trial, "sinks", f->sinks, (size_t)f->c.shape.n_heads * sizeof(float));
    args.out = check_trial_out(&trial, "out", (size_t)rows * row_bytes);
    anemo_status status = check_trial_run(&trial, run->variant, &f->problem, &args);
    if (status != ANEMO_OK)
        snprintf(fault, fault_bytes, "%s", trial.fault);
    else if (!check_result_copy(result, "out", CHECK_FLOAT, true, rows, width,
                                check_trial_after(&trial, args.out), row_bytes))
        status = ANEMO_E_MEMORY;
    check_trial_end(&trial);
    return status;
}

/* ---------------------------------------------------------------- oracle */

static bool sees(int64_t query, int64_t key, int64_t window) {
    const bool not_after = key <= query;
    const bool near = window == 0 || query - key < window;
    return not_after && near;
}

/* Of the scores of one row and head, at most: how far off one may be, in units of the rounding of
 * its terms, and the standard deviation of one. */
typedef struct score_scale {
    double off, sd;
} score_scale;

/* weight[length] of the keys, 0 where masked. */
static score_scale softmax(const swa_fixture *f, int64_t row, int32_t head, int32_t s,
                           int64_t position, double *weight) {
    const anemo_kv_shape *shape = &f->c.shape;
    const int64_t dim = shape->head_dim, group = shape->n_heads / shape->n_kv_heads;
    const float *q = f->q + (row * shape->n_heads + head) * dim;
    const int64_t length = f->c.sequence[s].length;
    double total = 0, most = f->sinks ? f->sinks[head] : -INFINITY;
    score_scale scale = {0, 0};
    for (int64_t j = 0; j < length; j++) {
        weight[j] = -INFINITY;
        if (j < f->c.sequence[s].first || !sees(position, j, f->c.window))
            continue;
        const double *k = f->keys[s] + (j * shape->n_kv_heads + head / group) * dim;
        double score = 0, squares = 0;
        for (int64_t i = dim - 1; i >= 0; i--) {
            score += q[i] * k[i];
            squares += q[i] * k[i] * q[i] * k[i];
        }
        weight[j] = score * f->problem.scale;
        const double sd = sqrt(squares) * f->problem.scale;
        scale.sd = fmax(scale.sd, sd);
        scale.off = fmax(scale.off, sd + fabs(weight[j]));
        most = fmax(most, weight[j]);
    }
    for (int64_t j = 0; j < length; j++)
        total += weight[j] = exp(weight[j] - most);
    if (f->sinks)
        total += exp(f->sinks[head] - most);
    for (int64_t j = 0; j < length; j++)
        weight[j] /= total;
    return scale;
}

static void one_head(const swa_fixture *f, int64_t row, int32_t head, double *weight, float *out,
                     check_scale *scale) {
    const anemo_kv_shape *shape = &f->c.shape;
    const int64_t dim = shape->head_dim, group = shape->n_heads / shape->n_kv_heads;
    int64_t position;
    const int32_t s = check_paged_sequence(&f->paged, row, &position);
    const int64_t length = f->c.sequence[s].length;
    const score_scale score = softmax(f, row, head, s, position, weight);
    const int64_t stride = shape->n_kv_heads * dim;
    for (int64_t i = 0; i < dim; i++) {
        const double *v = f->values[s] + head / group * dim + i;
        double sum = 0, size = 0, squares = 0, away = 0;
        for (int64_t j = 0; j < length; j++) {
            const double part = weight[j] * v[j * stride];
            sum += part;
            size += fabs(part);
            squares += part * part;
        }
        for (int64_t j = 0; j < length; j++)
            away += weight[j] * fabs(v[j * stride] - sum);
        out[i] = (float)sum;
        scale[i] = (check_scale){size * (1 + 2 * score.off), (double)(dim + length),
                                 score.sd * away + sqrt(squares)};
    }
}

static anemo_status oracle(void *fixture, const char *feed, check_result *result) {
    const swa_fixture *f = fixture;
    const int64_t rows = check_paged_rows(&f->paged), heads = f->c.shape.n_heads;
    const int64_t dim = f->c.shape.head_dim;
    (void)feed;
    float *out = check_result_add(result, "out", CHECK_FLOAT, true, rows, heads * dim);
    check_scale *scale = out ? check_result_scale(result) : NULL;
    double *weight = malloc((size_t)f->problem.context_max * sizeof *weight);
    for (int64_t i = 0; weight && scale && i < rows * heads; i++)
        one_head(f, i / heads, (int32_t)(i % heads), weight, out + i * dim, scale + i * dim);
    free(weight);
    return scale && weight ? ANEMO_OK : ANEMO_E_MEMORY;
}

const check_op check_op_swa = {.op = ANEMO_OP_SWA,
                               .count = count,
                               .create = create,
                               .destroy = destroy,
                               .problem = problem,
                               .rows = rows_of,
                               .execute = execute,
                               .oracle = oracle};
