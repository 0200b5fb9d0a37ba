/* Cases of the ops beside the large products: add_rmsnorm, rope_append, quantize_act, embed,
 * sample, moe_route, moe_combine. What they touch are activations, small and just written by the op
 * before, so a case is one set of arguments, warm in the caches, and has no roof
 * (bench_case.resident).
 *
 * An op is described by the fields of its arguments: name, bytes, what they hold at first, where
 * the pointer stands in the argument struct. From that follow setting up an arm (own copies of what
 * is written, the rest shared), running the reference as an arm like any other, and comparing the
 * two. In-place ops go on with what the last call left: norms and rotations keep their size. */
#include "harness/measure/bench_case.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FIELDS = 12, PAGE_TOKENS = 64, MOST_SEQUENCES = 64 };

/* How the result of an arm is held against the reference's. */
typedef enum compare { GIVEN, FLOATS, HALVES, EXACT, RECORDS } compare;

typedef struct field {
    const char *name;
    compare how;
    size_t bytes;  /* RECORDS: of the variant's activation format, known to the arm */
    size_t offset; /* of the pointer in the argument struct */
    int64_t width; /* elements per row */
    void *content; /* what it holds before a call; NULL: nothing */
} field;

typedef union any_problem {
    anemo_add_rmsnorm_problem norm;
    anemo_rope_problem rope;
    anemo_quantize_act_problem act;
    anemo_embed_problem embed;
    anemo_sample_problem sample;
    anemo_moe_route_problem route;
    anemo_moe_combine_problem combine;
} any_problem;

typedef union any_args {
    anemo_add_rmsnorm_args norm;
    anemo_rope_args rope;
    anemo_quantize_act_args act;
    anemo_embed_args embed;
    anemo_sample_args sample;
    anemo_moe_route_args route;
    anemo_moe_combine_args combine;
} any_args;

typedef struct dense_case {
    bench_case base;
    const struct dense_op *op;
    any_problem problem;
    any_args args; /* but for the pointers of fields */
    field field[MOST_FIELDS];
    int n_fields;
    bool no_memory;
    bench_weight *weight; /* embed */
} dense_case;

/* How an op makes its case, and what its float errors scale with. */
typedef struct dense_op {
    anemo_op op;
    void (*make)(dense_case *c);
    double (*magnitude)(const dense_case *c, const field *f, const float *want, int64_t i);
    double (*terms)(const dense_case *c);
} dense_op;

typedef struct dense_arm {
    bench_arm base;
    bench_output own[MOST_FIELDS]; /* copies of the fields that are written */
    bench_copies weight;           /* embed: one, as the variant reads it */
} dense_arm;

/* ---------------------------------------------------------------- fields */

/* On a line of the cache, as a device's buffers are, and zeroed. */
static void *aligned_bytes(size_t bytes) {
    const size_t whole = (bytes + 127) / 64 * 64;
    void *memory = aligned_alloc(64, whole);
    return memory ? memset(memory, 0, whole) : NULL;
}

/* A zeroed field, to be filled by the caller; NULL when there is no memory, which the case notes.
 */
static void *add_field(dense_case *c, const char *name, compare how, size_t element_bytes,
                       int64_t rows, int64_t width, size_t offset) {
    field *f = &c->field[c->n_fields++];
    *f = (field){name, how, element_bytes * (size_t)(rows * width), offset, width, NULL};
    f->content = aligned_bytes(f->bytes);
    c->no_memory = c->no_memory || !f->content;
    return f->content;
}

static void add_floats(dense_case *c, const char *name, compare how, int64_t rows, int64_t width,
                       size_t offset) {
    float *x = add_field(c, name, how, sizeof *x, rows, width, offset);
    if (x) {
        bench_fill_normal(x, rows * width, 1, c->base.setup.seed + 17 * (uint64_t)c->n_fields);
    }
}

static const field *find_field(const dense_case *c, const char *name) {
    for (int i = 0; i < c->n_fields; i++) {
        if (strcmp(c->field[i].name, name) == 0) {
            return &c->field[i];
        }
    }
    return NULL;
}

/* Where a bound needs nothing better: the element itself. */
static double own_magnitude(const dense_case *c, const field *f, const float *want, int64_t i) {
    (void)c, (void)f;
    return fabs(want[i]);
}

static double one_term(const dense_case *c) {
    (void)c;
    return 1;
}

/* ---------------------------------------------------------------- add_rmsnorm: d, add */

static void make_norm(dense_case *c) {
    const int64_t m = c->base.m, d = c->base.shape->number[0];
    const bool add = c->base.shape->number[1] != 0;
    c->problem.norm = (anemo_add_rmsnorm_problem){
        .size = sizeof c->problem.norm, .m_max = m, .d = d, .eps = 1e-5f, .add = add};
    c->args.norm = (anemo_add_rmsnorm_args){.size = sizeof c->args.norm, .m = m};
    add_floats(c, "x", add ? EXACT : GIVEN, m, d, offsetof(anemo_add_rmsnorm_args, x));
    if (add) {
        add_floats(c, "delta", GIVEN, m, d, offsetof(anemo_add_rmsnorm_args, delta));
    }
    add_floats(c, "weight", GIVEN, 1, d, offsetof(anemo_add_rmsnorm_args, weight));
    add_field(c, "y", FLOATS, sizeof(float), m, d, offsetof(anemo_add_rmsnorm_args, y));
}

static double norm_terms(const dense_case *c) {
    return (double)c->problem.norm.d;
}

/* ---------------------------------------------------------------- rope_append: heads, kv_heads,
 * head_dim, pairing, context */

/* Up to MOST_SEQUENCES rows are one each of as many sequences, more are a chunk of one sequence. A
 * sequence has the pages that its rows write to, and no others. */
static void make_pages(dense_case *c, int64_t context) {
    const int64_t m = c->base.m, sequences = m <= MOST_SEQUENCES ? m : 1, rows = m / sequences;
    const int64_t first = context / PAGE_TOKENS * PAGE_TOKENS;
    const int64_t pages_each = (context + rows - first + PAGE_TOKENS - 1) / PAGE_TOKENS;
    const anemo_kv_shape *kv = &c->problem.rope.kv;
    int32_t *row_start = add_field(c, "row_start", GIVEN, 4, 1, sequences + 1,
                                   offsetof(anemo_rope_args, kv.row_start));
    int64_t *first_of =
        add_field(c, "first", GIVEN, 8, 1, sequences, offsetof(anemo_rope_args, kv.first));
    int64_t *length_of =
        add_field(c, "length", GIVEN, 8, 1, sequences, offsetof(anemo_rope_args, kv.length));
    int32_t *table = add_field(c, "table_start", GIVEN, 4, 1, sequences,
                               offsetof(anemo_rope_args, kv.table_start));
    int32_t *pages = add_field(c, "pages", GIVEN, 4, 1, sequences * pages_each,
                               offsetof(anemo_rope_args, kv.pages));
    const size_t page_bytes =
        anemo_kv_page_bytes(ANEMO_KV_F16, kv->n_kv_heads, kv->head_dim, PAGE_TOKENS);
    add_field(c, "pool", HALVES, 2, sequences * pages_each, (int64_t)page_bytes / 2,
              offsetof(anemo_rope_args, kv.pool));
    if (c->no_memory) {
        return;
    }
    for (int64_t s = 0; s < sequences; s++) {
        row_start[s + 1] = (int32_t)((s + 1) * rows);
        first_of[s] = first;
        length_of[s] = context + rows;
        table[s] = (int32_t)(s * pages_each);
    }
    for (int64_t i = 0; i < sequences * pages_each; i++) {
        pages[i] = (int32_t)i;
    }
    c->problem.rope.sequences_max = (int32_t)sequences;
    c->args.rope.kv.n_sequences = (int32_t)sequences;
}

static void make_rope(dense_case *c) {
    const int64_t *number = c->base.shape->number, m = c->base.m, dim = number[2];
    c->problem.rope = (anemo_rope_problem){.size = sizeof c->problem.rope,
                                           .rows_max = m,
                                           .rotary_dims = (int32_t)dim,
                                           .pairing = (int32_t)number[3],
                                           .magnitude = 1};
    c->problem.rope.kv = (anemo_kv_shape){.n_heads = (int32_t)number[0],
                                          .n_kv_heads = (int32_t)number[1],
                                          .head_dim = (int32_t)dim,
                                          .page_tokens = PAGE_TOKENS,
                                          .type = ANEMO_KV_F16};
    c->args.rope = (anemo_rope_args){.size = sizeof c->args.rope, .rows = m};
    c->args.rope.kv.size = sizeof c->args.rope.kv;
    add_floats(c, "q", FLOATS, m, number[0] * dim, offsetof(anemo_rope_args, q));
    add_floats(c, "k", FLOATS, m, number[1] * dim, offsetof(anemo_rope_args, k));
    add_floats(c, "v", GIVEN, m, number[1] * dim, offsetof(anemo_rope_args, v));
    float *inv_freq = add_field(c, "inv_freq", GIVEN, sizeof *inv_freq, 1, dim / 2,
                                offsetof(anemo_rope_args, inv_freq));
    for (int64_t i = 0; inv_freq && i < dim / 2; i++) {
        inv_freq[i] = (float)pow(1e6, -2.0 * (double)i / (double)dim);
    }
    make_pages(c, number[4]);
}

/* A rotation keeps the length of its pair, which is at most |a| + |b|. */
static double pair_length(const dense_case *c, const field *f, const float *want, int64_t i) {
    const int64_t dim = c->problem.rope.kv.head_dim, half = dim / 2, at = i % dim;
    const bool interleaved = c->problem.rope.pairing == ANEMO_ROPE_INTERLEAVED;
    const int64_t partner = interleaved ? i ^ 1 : at < half ? i + half : i - half;
    (void)f;
    return hypot(want[i], want[partner]);
}

/* ---------------------------------------------------------------- quantize_act: k */

static void make_act(dense_case *c) {
    const int64_t m = c->base.m, k = c->base.shape->number[0];
    c->problem.act =
        (anemo_quantize_act_problem){.size = sizeof c->problem.act, .m_max = m, .k = k};
    c->args.act = (anemo_quantize_act_args){.size = sizeof c->args.act, .m = m};
    add_floats(c, "x", GIVEN, m, k, offsetof(anemo_quantize_act_args, x));
    c->field[c->n_fields++] = (field){.name = "records",
                                      .how = RECORDS,
                                      .width = 1,
                                      .offset = offsetof(anemo_quantize_act_args, out)};
}

/* ---------------------------------------------------------------- embed: vocab, d */

static void make_embed(dense_case *c) {
    const int64_t m = c->base.m, vocab = c->base.shape->number[0], d = c->base.shape->number[1];
    c->problem.embed = (anemo_embed_problem){.size = sizeof c->problem.embed,
                                             .m_max = m,
                                             .vocab = vocab,
                                             .d = d,
                                             .type = c->base.setup.type};
    c->weight = bench_weight_create(bench_setup_host(&c->base.setup), &c->base.setup.type, vocab, d,
                                    c->base.setup.seed);
    c->no_memory = !c->weight;
    c->args.embed = (anemo_embed_args){.size = sizeof c->args.embed, .m = m};
    int32_t *ids = add_field(c, "ids", GIVEN, sizeof *ids, m, 1, offsetof(anemo_embed_args, ids));
    for (int64_t i = 0; ids && i < m; i++) {
        ids[i] = (int32_t)(bench_hash((uint64_t)i) % (uint64_t)vocab);
    }
    add_field(c, "y", FLOATS, sizeof(float), m, d, offsetof(anemo_embed_args, y));
}

/* A weight is s c - s 2^(bits-1): each part at most twice the row's largest value. */
static double embed_parts(const dense_case *c, const field *f, const float *want, int64_t i) {
    const float *row = want + i / f->width * f->width;
    float largest = 0;
    (void)c;
    for (int64_t j = 0; j < f->width; j++) { /* fmax on doubles crashes GCC 12 for AArch64 */
        largest = fabsf(row[j]) > largest ? fabsf(row[j]) : largest;
    }
    return 4 * (double)largest;
}

/* ---------------------------------------------------------------- sample: vocab, temperature in
 * percent, top_k, top_p in percent */

static void make_sample(dense_case *c) {
    const int64_t *number = c->base.shape->number, m = c->base.m;
    c->problem.sample =
        (anemo_sample_problem){.size = sizeof c->problem.sample, .m_max = m, .vocab = number[0]};
    c->args.sample = (anemo_sample_args){.size = sizeof c->args.sample, .m = m};
    add_floats(c, "logits", GIVEN, m, number[0], offsetof(anemo_sample_args, logits));
    anemo_sample_params *params =
        add_field(c, "params", GIVEN, sizeof *params, m, 1, offsetof(anemo_sample_args, params));
    float *logits = c->field[0].content;
    for (int64_t i = 0; !c->no_memory && i < m * number[0]; i++) {
        logits[i] *= 3; /* a language model's spread */
    }
    for (int64_t i = 0; !c->no_memory && i < m; i++) {
        params[i] = (anemo_sample_params){.temperature = (float)number[1] / 100,
                                          .top_k = (int32_t)number[2],
                                          .top_p = (float)number[3] / 100,
                                          .seed = c->base.setup.seed,
                                          .counter = (uint64_t)i};
    }
    add_field(c, "ids", EXACT, sizeof(int32_t), m, 1, offsetof(anemo_sample_args, ids));
}

/* ---------------------------------------------------------------- moe_route: experts, top_k,
 * score, renormalise */

static void make_route(dense_case *c) {
    const int64_t *number = c->base.shape->number, m = c->base.m;
    const int64_t experts = number[0], k = number[1];
    c->problem.route = (anemo_moe_route_problem){.size = sizeof c->problem.route,
                                                 .tokens_max = m,
                                                 .n_experts = (int32_t)experts,
                                                 .top_k = (int32_t)k,
                                                 .score = (int32_t)number[2],
                                                 .renormalise = (int32_t)number[3],
                                                 .scale = 1};
    c->args.route = (anemo_moe_route_args){.size = sizeof c->args.route, .tokens = m};
    c->args.route.plan.size = sizeof c->args.route.plan;
    add_floats(c, "logits", GIVEN, m, experts, offsetof(anemo_moe_route_args, logits));
    add_field(c, "expert", EXACT, 4, m, k, offsetof(anemo_moe_route_args, plan.expert));
    add_field(c, "weight", FLOATS, 4, m, k, offsetof(anemo_moe_route_args, plan.weight));
    add_field(c, "count", EXACT, 4, 1, experts, offsetof(anemo_moe_route_args, plan.count));
    add_field(c, "offset", EXACT, 4, 1, experts + 1, offsetof(anemo_moe_route_args, plan.offset));
    add_field(c, "row_token", EXACT, 4, m, k, offsetof(anemo_moe_route_args, plan.row_token));
    add_field(c, "row_of", EXACT, 4, m, k, offsetof(anemo_moe_route_args, plan.row_of));
}

/* exp of a difference D of logits is off by u |D|; normal logits are within 6 of their mean. */
static double route_magnitude(const dense_case *c, const field *f, const float *want, int64_t i) {
    (void)c, (void)f;
    return fabs(want[i]) * (1 + 12);
}

static double route_terms(const dense_case *c) {
    return c->problem.route.n_experts;
}

/* ---------------------------------------------------------------- moe_combine: d, top_k */

/* Rows of a token lie where a sort by expert might put them: apart. */
static void make_combine(dense_case *c) {
    const int64_t m = c->base.m, d = c->base.shape->number[0], k = c->base.shape->number[1];
    c->problem.combine = (anemo_moe_combine_problem){
        .size = sizeof c->problem.combine, .tokens_max = m, .d = d, .top_k = (int32_t)k};
    c->args.combine = (anemo_moe_combine_args){.size = sizeof c->args.combine, .tokens = m};
    c->args.combine.plan.size = sizeof c->args.combine.plan;
    add_floats(c, "rows", GIVEN, m * k, d, offsetof(anemo_moe_combine_args, rows));
    add_floats(c, "weight", GIVEN, m, k, offsetof(anemo_moe_combine_args, plan.weight));
    int32_t *row_of =
        add_field(c, "row_of", GIVEN, 4, m, k, offsetof(anemo_moe_combine_args, plan.row_of));
    for (int64_t i = 0; row_of && i < m * k; i++) {
        row_of[i] = (int32_t)(i % k * m + i / k);
    }
    add_field(c, "y", FLOATS, sizeof(float), m, d, offsetof(anemo_moe_combine_args, y));
}

static double combine_magnitude(const dense_case *c, const field *f, const float *want, int64_t i) {
    const float *rows = find_field(c, "rows")->content, *weight = find_field(c, "weight")->content;
    const int32_t *row_of = find_field(c, "row_of")->content;
    const int64_t t = i / f->width, k = c->problem.combine.top_k;
    double sum = 0;
    (void)want;
    for (int64_t j = t * k; j < (t + 1) * k; j++) {
        sum += fabs((double)weight[j] * rows[row_of[j] * f->width + i % f->width]);
    }
    return sum;
}

static double combine_terms(const dense_case *c) {
    return c->problem.combine.top_k;
}

/* ---------------------------------------------------------------- the case */

static const dense_op dense_ops[] = {
    {ANEMO_OP_ADD_RMSNORM, make_norm, own_magnitude, norm_terms},
    {ANEMO_OP_ROPE_APPEND, make_rope, pair_length, one_term},
    {ANEMO_OP_QUANTIZE_ACT, make_act, own_magnitude, one_term},
    {ANEMO_OP_EMBED, make_embed, embed_parts, one_term},
    {ANEMO_OP_SAMPLE, make_sample, own_magnitude, one_term},
    {ANEMO_OP_MOE_ROUTE, make_route, route_magnitude, route_terms},
    {ANEMO_OP_MOE_COMBINE, make_combine, combine_magnitude, combine_terms}};

static void destroy(bench_case *base) {
    dense_case *c = (dense_case *)base;
    for (int i = 0; i < c->n_fields; i++) {
        free(c->field[i].content);
    }
    bench_weight_free(c->weight);
    free(c);
}

static anemo_status create(const bench_op *ops, const bench_shape *shape, int64_t m,
                           const bench_setup *setup, bench_case **out, anemo_error *err) {
    dense_case *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a case");
    }
    c->base = (bench_case){.ops = ops, .setup = *setup, .shape = shape, .m = m, .resident = true};
    c->base.problem = &c->problem;
    for (size_t i = 0; i < sizeof dense_ops / sizeof *dense_ops; i++) {
        if (dense_ops[i].op == ops->op) {
            c->op = &dense_ops[i];
        }
    }
    c->op->make(c);
    if (c->no_memory) {
        destroy(&c->base);
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the inputs of %s at m = %lld",
                          shape->name, (long long)m);
    }
    snprintf(c->base.name, sizeof c->base.name, "%s/%s/m=%lld", anemo_op_name(ops->op), shape->name,
             (long long)m);
    c->base.work = anemo_op_work(ops->op, &c->problem, m, 0);
    *out = &c->base;
    return ANEMO_OK;
}

static void record(const bench_case *base, anemo_record *r) {
    const dense_case *c = (const dense_case *)base;
    const any_problem *p = &c->problem;
    anemo_record_integer(r, "case", "m", base->m);
    switch (base->ops->op) {
    case ANEMO_OP_ADD_RMSNORM:
        anemo_record_integer(r, "case", "d", p->norm.d);
        break;
    case ANEMO_OP_ROPE_APPEND:
        anemo_record_integer(r, "case", "heads", p->rope.kv.n_heads);
        anemo_record_integer(r, "case", "kv_heads", p->rope.kv.n_kv_heads);
        anemo_record_integer(r, "case", "head_dim", p->rope.kv.head_dim);
        anemo_record_integer(r, "case", "context", base->shape->number[4]);
        anemo_record_text(r, "case", "kv_type", "f16");
        break;
    case ANEMO_OP_QUANTIZE_ACT:
        anemo_record_integer(r, "case", "k", p->act.k);
        break;
    case ANEMO_OP_EMBED:
        anemo_record_integer(r, "case", "vocab", p->embed.vocab);
        anemo_record_integer(r, "case", "d", p->embed.d);
        break;
    case ANEMO_OP_SAMPLE:
        anemo_record_integer(r, "case", "vocab", p->sample.vocab);
        break;
    case ANEMO_OP_MOE_ROUTE:
        anemo_record_integer(r, "case", "experts", p->route.n_experts);
        anemo_record_integer(r, "case", "top_k", p->route.top_k);
        break;
    default:
        anemo_record_integer(r, "case", "d", p->combine.d);
        anemo_record_integer(r, "case", "top_k", p->combine.top_k);
    }
}

/* ---------------------------------------------------------------- arms */

static void arm_destroy(bench_arm *base) {
    dense_arm *arm = (dense_arm *)base;
    bench_copies_free(&arm->weight);
    bench_arm_release(base);
    free((void *)base->args);
    free(arm);
}

static size_t field_bytes(const dense_arm *arm, const field *f) {
    const dense_case *c = (const dense_case *)arm->base.c;
    if (f->how != RECORDS) {
        return f->bytes;
    }
    return (size_t)c->base.m * anemo_act_find(arm->base.variant->act)->row_bytes(c->problem.act.k);
}

/* Written fields as they are before a call: what is only written, poisoned. */
static anemo_status reset_fields(const dense_arm *arm, anemo_error *err) {
    const dense_case *c = (const dense_case *)arm->base.c;
    const bool rope = c->base.ops->op == ANEMO_OP_ROPE_APPEND;
    anemo_status status = ANEMO_OK;
    for (int i = 0; !status && i < c->n_fields; i++) {
        const field *f = &c->field[i];
        const bench_output *own = &arm->own[i];
        const bool read = f->how != GIVEN && (rope || strcmp(f->name, "x") == 0);
        if (own->host && read) {
            memcpy(own->host, f->content, own->bytes);
        } else if (own->host) {
            memset(own->host, 0xff, own->bytes);
        }
        status = own->host ? bench_output_push(&arm->base, own, err) : ANEMO_OK;
    }
    return status;
}

static anemo_status place_weight(dense_arm *arm, any_args *args, anemo_error *err) {
    const dense_case *c = (const dense_case *)arm->base.c;
    const char *name = arm->base.variant->layout;
    if (!c->weight) {
        return ANEMO_OK;
    }
    const anemo_status status =
        bench_copies_create(arm->base.device, bench_setup_host(&c->base.setup), c->weight,
                            name ? anemo_layout_find(name) : NULL, 1, &arm->weight, err);
    args->embed.weight = status ? NULL : arm->weight.argument[0];
    return status;
}

static anemo_status make_args(dense_arm *arm, anemo_error *err) {
    dense_case *c = (dense_case *)arm->base.c;
    any_args *args = malloc(sizeof *args);
    bool good = args != NULL;
    arm->base.args = (const char *)args;
    arm->base.args_bytes = sizeof *args;
    arm->base.n_args = 1;
    if (good) {
        *args = c->args;
    }
    for (int i = 0; good && i < c->n_fields; i++) {
        const field *f = &c->field[i];
        void *at = NULL;
        if (f->how == GIVEN) {
            at = bench_arm_put(&arm->base, f->content, f->bytes, &good);
        } else {
            good = bench_arm_output(&arm->base, ANEMO_MEM_STEP, field_bytes(arm, f), &arm->own[i]);
            at = arm->own[i].device;
        }
        memcpy((char *)args + f->offset, &at, sizeof at);
    }
    if (!good) {
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for arguments",
                          arm->base.variant->name);
    }
    const anemo_status status = place_weight(arm, args, err);
    return status ? status : reset_fields(arm, err);
}

static anemo_status arm_create(bench_case *base, const anemo_variant *variant, bench_arm **out,
                               anemo_error *err) {
    dense_arm *arm = calloc(1, sizeof *arm);
    *out = NULL;
    if (!arm) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %s", variant->name);
    }
    anemo_status status = bench_arm_begin(&arm->base, base, variant, err);
    status = status ? status : make_args(arm, err);
    if (status) {
        arm_destroy(&arm->base);
        return status;
    }
    *out = &arm->base;
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- check */

static void judge_floats(const dense_case *c, const field *f, const float *got, const float *want,
                         bench_judge *judge) {
    const double terms = c->op->terms(c);
    for (int64_t i = 0; i < (int64_t)(f->bytes / sizeof *got); i++) {
        const double magnitude = c->op->magnitude(c, f, want, i) + 0x1p-100;
        bench_judge_take(judge, f->name, i / f->width, i % f->width, got[i], want[i], magnitude,
                         terms, 1);
    }
}

static double value_of_half(uint16_t bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const double size = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return exponent == 31 ? (double)NAN : bits & 0x8000 ? -size : size;
}

/* Keys in f16 are numbers within the float bound, each rounded once more: a last place apart. */
static void judge_halves(const field *f, const uint16_t *got, const uint16_t *want,
                         bench_judge *judge) {
    const double place = 0x1p-10 / (0x1p-24 * (judge->a + judge->b)), largest_pair = 8;
    for (int64_t i = 0; i < (int64_t)(f->bytes / sizeof *got); i++) {
        const double w = value_of_half(want[i]);
        bench_judge_take(judge, f->name, i / f->width, i % f->width, value_of_half(got[i]), w,
                         place * fabs(w) + largest_pair, 1, 1);
    }
}

/* The first byte that differs, by row, as an error beyond any bound. */
static void judge_bytes(const field *f, size_t bytes, const uint8_t *got, const uint8_t *want,
                        bench_judge *judge) {
    for (size_t i = 0; i < bytes; i++) {
        if (got[i] != want[i]) {
            bench_judge_take(judge, f->name, (int64_t)i / f->width, (int64_t)i % f->width, NAN, 0,
                             1, 1, 1);
            return;
        }
    }
    bench_judge_take(judge, f->name, 0, 0, 0, 0, 1, 1, 1);
}

static void judge_arm(const dense_arm *arm, const dense_arm *truth, bench_verdict *out) {
    const dense_case *c = (const dense_case *)arm->base.c;
    bench_judge judge = bench_judge_of(arm->base.variant);
    judge.a = judge.a > 0 ? judge.a : 1; /* exact ops have no tolerance; 0 / 0 would be NaN */
    for (int i = 0; i < c->n_fields; i++) {
        const field *f = &c->field[i];
        if (f->how == FLOATS) {
            judge_floats(c, f, arm->own[i].host, truth->own[i].host, &judge);
        } else if (f->how == HALVES) {
            judge_halves(f, arm->own[i].host, truth->own[i].host, &judge);
        } else if (f->how != GIVEN) {
            judge_bytes(f, field_bytes(arm, f), arm->own[i].host, truth->own[i].host, &judge);
        }
    }
    judge.mean = 0;
    bench_judge_end(&judge, out);
}

static anemo_status pull_fields(const dense_arm *arm, anemo_error *err) {
    anemo_status status = ANEMO_OK;
    for (int i = 0; !status && i < MOST_FIELDS; i++) {
        status = arm->own[i].host ? bench_output_pull(&arm->base, &arm->own[i], err) : ANEMO_OK;
    }
    return status;
}

/* quantize_act has a reference for each format. */
static const anemo_variant *reference_of(const anemo_variant *variant) {
    char name[64];
    if (variant->op != ANEMO_OP_QUANTIZE_ACT) {
        return anemo_variant_reference(variant->op);
    }
    snprintf(name, sizeof name, "quantize_act_%s_ref", variant->act);
    return anemo_variant_find(name);
}

static anemo_status check(bench_arm *base, bench_verdict *out, anemo_error *err) {
    const anemo_variant *reference = reference_of(base->variant);
    bench_arm *truth = NULL;
    if (!reference) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED, "%s has no reference in this build",
                          base->variant->name);
    }
    anemo_status status = arm_create(base->c, reference, &truth, err);
    status = status ? status : bench_arm_run(truth, 0, err);
    status = status ? status : reset_fields((dense_arm *)base, err);
    status = status ? status : bench_arm_run(base, 0, err);
    status = status ? status : pull_fields((dense_arm *)base, err);
    if (!status) {
        judge_arm((const dense_arm *)base, (const dense_arm *)truth, out);
    }
    if (truth) {
        arm_destroy(truth);
    }
    return status;
}

/* ---------------------------------------------------------------- one bench_op each */

#define DENSE_BENCH_OP(name, id)                                                                   \
    static anemo_status create_##name(const bench_shape *shape, int64_t m,                         \
                                      const bench_setup *setup, bench_case **out,                  \
                                      anemo_error *err) {                                          \
        return create(&bench_op_##name, shape, m, setup, out, err);                                \
    }                                                                                              \
    const bench_op bench_op_##name = {.op = id,                                                    \
                                      .create = create_##name,                                     \
                                      .destroy = destroy,                                          \
                                      .arm_create = arm_create,                                    \
                                      .arm_destroy = arm_destroy,                                  \
                                      .check = check,                                              \
                                      .record = record};

DENSE_BENCH_OP(add_rmsnorm, ANEMO_OP_ADD_RMSNORM)
DENSE_BENCH_OP(rope_append, ANEMO_OP_ROPE_APPEND)
DENSE_BENCH_OP(quantize_act, ANEMO_OP_QUANTIZE_ACT)
DENSE_BENCH_OP(embed, ANEMO_OP_EMBED)
DENSE_BENCH_OP(sample, ANEMO_OP_SAMPLE)
DENSE_BENCH_OP(moe_route, ANEMO_OP_MOE_ROUTE)
DENSE_BENCH_OP(moe_combine, ANEMO_OP_MOE_COMBINE)
