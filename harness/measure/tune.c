/* See tune.h. A plan is made only to learn its calls and what it would run by itself; it is gone
 * before the first cell is measured. */
#include "harness/measure/tune.h"

#include "harness/measure/bench_kernel.h"
#include "harness/measure/machine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANGES = 16, MOST_CELLS = 64, PLAN_ROWS = 512, PLAN_LOGITS = 64, DEPTH = 1024 };
#define TOO_SLOW                                                                                   \
    2.0 /* a variant whose best of three calls is this many times the fastest's is out */

/* Where the ranges of rows end, and what the last one is measured at. */
static const int64_t borders[] = {1, 4, 16, 64, INT64_MAX};
#define LAST_ROWS        256
#define MOST_DECODE_ROWS 16 /* of attention: up to here one row of as many sequences */

typedef struct call {
    anemo_op op;
    char role[24];
    void *problem; /* a copy */
    int64_t m_max;
    /* Ranges of rows, and what the plan would run in each. */
    struct {
        int64_t lo, hi, m;
        const anemo_variant *variant;
    } range[MOST_RANGES];
    int32_t n_ranges;
    bool done;
} call;

typedef struct session {
    anemo_device *device;
    bench_gpu gpu;
    const anemo_tune_options *options;
    anemo_tune_report *report;
    const char *kv_type;
    int64_t depth;
    anemo_clock clock;
    call *calls;
    int32_t n_calls, n_done, n_total; /* cells */
    anemo_error *err;
} session;

static bool interrupted(const session *s) {
    return s->options->interrupted && s->options->interrupted();
}

static void label_of(const call *c, char *text, size_t bytes) {
    snprintf(text, bytes, "%s%s%s", anemo_op_name(c->op), c->role[0] ? "@" : "", c->role);
}

/* `what`: at most 200 bytes. */
static anemo_status remark(session *s, const char *label, const char *what) {
    anemo_tune_report *r = s->report;
    void *grown = realloc(r->remarks, ((size_t)r->n_remarks + 1) * sizeof *r->remarks);
    if (!grown) {
        return anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for a remark");
    }
    r->remarks = grown;
    snprintf(r->remarks[r->n_remarks++], sizeof *r->remarks, "%.80s: %.200s", label, what);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- the calls of the plan */

/* Ends where a border is, where the plan changes its variant, and at m_max. */
static void cut_ranges(const anemo_plan *plan, int32_t index, call *c) {
    int64_t lo = 1;
    for (size_t b = 0; b < sizeof borders / sizeof *borders && lo <= c->m_max; b++) {
        while (lo <= borders[b] && lo <= c->m_max && c->n_ranges < MOST_RANGES) {
            const anemo_variant *v = anemo_plan_call_variant(plan, index, lo);
            int64_t hi = lo;
            while (hi < borders[b] && hi < c->m_max &&
                   anemo_plan_call_variant(plan, index, hi + 1) == v) {
                hi++;
            }
            const bool last = hi == c->m_max;
            c->range[c->n_ranges].lo = lo;
            c->range[c->n_ranges].hi = last ? INT64_MAX : hi;
            c->range[c->n_ranges].m = hi > LAST_ROWS && lo <= LAST_ROWS ? LAST_ROWS : hi;
            c->range[c->n_ranges++].variant = v;
            lo = hi + 1;
        }
    }
}

static anemo_status list_calls(session *s, const anemo_plan *plan) {
    anemo_plan_call p;
    int32_t n = 0;
    while (anemo_plan_call_at(plan, n, &p)) {
        n++;
    }
    s->calls = calloc((size_t)n + 1, sizeof *s->calls);
    for (int32_t i = 0; s->calls && i < n && anemo_plan_call_at(plan, i, &p); i++) {
        char label[64];
        call *c = &s->calls[s->n_calls];
        *c = (call){.op = p.op, .m_max = p.m_max};
        snprintf(c->role, sizeof c->role, "%s", p.role);
        label_of(c, label, sizeof label);
        if (p.op == ANEMO_OP_QUANTIZE_ACT || /* timed within its consumers */
            (s->options->filter && !strstr(label, s->options->filter))) {
            continue;
        }
        c->problem = malloc(p.problem_bytes);
        if (!c->problem) {
            return anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for the calls of a plan");
        }
        memcpy(c->problem, p.problem, p.problem_bytes);
        cut_ranges(plan, i, c);
        s->n_total += c->n_ranges;
        s->n_calls++;
    }
    return s->calls ? ANEMO_OK : anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for a plan's calls");
}

/* The model and a plan of it that obeys `rules`; both are the caller's, also on an error. */
static anemo_status open_plan(const session *s, const char *const *rules, int32_t n_rules,
                              anemo_model **model, anemo_plan **plan) {
    const anemo_tune_options *o = s->options;
    const anemo_model_options how = {.requantise = o->requantise,
                                     .window = o->window_given ? o->window : -1};
    anemo_kv_type kv_type;
    if (!anemo_kv_type_from_name(s->kv_type, &kv_type)) {
        return anemo_fail(s->err, ANEMO_E_INPUT, "KV type '%s': expected f32, f16, bf16 or q8",
                          s->kv_type);
    }
    const anemo_status status = anemo_model_open(o->path, &how, model, s->err);
    if (status) {
        return status;
    }
    const int64_t most = anemo_model_describe(*model)->context_max;
    const int64_t context = most < PLAN_ROWS ? most : PLAN_ROWS;
    const anemo_plan_options options = {.limits = {.tokens_per_step = context,
                                                   .sessions = MOST_DECODE_ROWS,
                                                   .context = context,
                                                   .kv_tokens = 2 * context,
                                                   .kv_type = kv_type,
                                                   .logits_rows = PLAN_LOGITS},
                                        .choices = rules,
                                        .n_choices = n_rules};
    return anemo_plan_create(*model, s->device, &options, plan, s->err);
}

static anemo_status read_plan(session *s) {
    anemo_model *model = NULL;
    anemo_plan *plan = NULL;
    anemo_status status = open_plan(s, NULL, 0, &model, &plan);
    if (!status) {
        const anemo_model_info *info = anemo_model_describe(model);
        s->report->info = *info;
        s->report->cold =
            info->active_weight_bytes > 2.0 * (double)anemo_device_cache_bytes(s->device);
        s->depth = info->context_max < s->depth ? info->context_max : s->depth;
        status = list_calls(s, plan);
    }
    anemo_plan_free(plan);
    anemo_model_close(model);
    if (!status && s->n_calls == 0) {
        return anemo_fail(s->err, ANEMO_E_INPUT, "--filter %s: %s has no such call",
                          s->options->filter ? s->options->filter : "", s->report->info.name);
    }
    return status;
}

/* What was chosen must make a plan: nobody is to find out later. */
static anemo_status try_choices(const session *s) {
    const anemo_tune_report *r = s->report;
    char(*text)[192] = calloc((size_t)r->n_entries + 1, sizeof *text);
    const char **rules = calloc((size_t)r->n_entries + 1, sizeof *rules);
    anemo_model *model = NULL;
    anemo_plan *plan = NULL;
    int32_t n = 0;
    for (int32_t i = 0; text && rules && i < r->n_entries; i++) {
        if (r->entries[i].variant != r->entries[i].default_variant) {
            anemo_choices_rule(&r->entries[i], text[n], sizeof *text);
            rules[n] = text[n];
            n++;
        }
    }
    anemo_status status =
        text && rules ? ANEMO_OK : anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for the choices");
    if (!status && n > 0) {
        status = open_plan(s, rules, n, &model, &plan);
    }
    anemo_plan_free(plan);
    anemo_model_close(model);
    free(text);
    free(rules);
    return status;
}

/* ---------------------------------------------------------------- problems as bench shapes */

static bool same_type(const anemo_weight_type *a, const anemo_weight_type *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

typedef struct form {
    bench_shape shape;
    anemo_weight_type type; /* of the weights, if the op has any */
    char text[160];
} form;

static const char *form_qgemm(const anemo_qgemm_problem *p, form *f) {
    static const char *const epilogues[] = {
        [ANEMO_EPI_STORE] = "store", [ANEMO_EPI_ADD] = "add", [ANEMO_EPI_ACT_MUL] = "act_mul"};
    char name[64];
    int at = snprintf(f->text, sizeof f->text, "k=%lld n=", (long long)p->k);
    f->shape.number[0] = p->k;
    f->shape.number[4] = p->epilogue;
    f->type = p->type[0];
    for (int32_t i = 0; i < p->n_parts; i++) {
        if (!same_type(&p->type[i], &f->type)) {
            return "its weights are of several types, which no bench has";
        }
        f->shape.number[1 + i] = p->n[i];
        at += snprintf(f->text + at, sizeof f->text - (size_t)at, "%s%lld", i ? "+" : "",
                       (long long)p->n[i]);
    }
    snprintf(f->text + at, sizeof f->text - (size_t)at, " %s weights=%s%s", epilogues[p->epilogue],
             anemo_weight_type_name(&f->type, name, sizeof name), p->has_bias ? " bias" : "");
    return NULL;
}

static const char *form_experts(const anemo_moe_experts_problem *p, form *f) {
    char name[64];
    const bool clamped = p->activation == ANEMO_ACT_SILU_CLAMPED;
    f->type = p->gate;
    if (!same_type(&p->gate, &p->up) || !same_type(&p->gate, &p->down)) {
        return "its weights are of several types, which no bench has";
    }
    const int64_t number[] = {p->d, p->ffn, p->n_experts, p->top_k, BENCH_ROUTING_UNIFORM, clamped};
    memcpy(f->shape.number, number, sizeof number);
    snprintf(f->text, sizeof f->text, "d=%lld ffn=%lld experts=%d top_k=%d weights=%s%s",
             (long long)p->d, (long long)p->ffn, p->n_experts, p->top_k,
             anemo_weight_type_name(&f->type, name, sizeof name), clamped ? " clamped" : "");
    return NULL;
}

static void form_swa(const session *s, const anemo_swa_problem *p, int64_t m, form *f) {
    const bool decode = m <= MOST_DECODE_ROWS;
    const int64_t context = !decode && m > s->depth ? m : s->depth;
    const int64_t number[] = {p->kv.n_heads, p->kv.n_kv_heads, p->kv.head_dim, p->window,
                              context,       decode,           p->kv.type};
    memcpy(f->shape.number, number, sizeof number);
    snprintf(f->text, sizeof f->text,
             "heads=%d kv_heads=%d head_dim=%d window=%lld kv=%s, %s at depth %lld", p->kv.n_heads,
             p->kv.n_kv_heads, p->kv.head_dim, (long long)p->window,
             anemo_kv_type_name((anemo_kv_type)p->kv.type),
             decode ? "one row of each sequence" : "rows of one sequence", (long long)context);
}

static void form_rope(const session *s, const anemo_rope_problem *p, form *f) {
    const int64_t number[] = {p->kv.n_heads, p->kv.n_kv_heads, p->kv.head_dim, p->pairing,
                              s->depth};
    memcpy(f->shape.number, number, sizeof number);
    snprintf(f->text, sizeof f->text, "heads=%d kv_heads=%d head_dim=%d pairing=%s", p->kv.n_heads,
             p->kv.n_kv_heads, p->kv.head_dim,
             p->pairing == ANEMO_ROPE_HALF ? "half" : "interleaved");
}

static void form_small(const call *c, form *f) {
    int64_t *number = f->shape.number;
    if (c->op == ANEMO_OP_ADD_RMSNORM) {
        const anemo_add_rmsnorm_problem *p = c->problem;
        number[0] = p->d;
        number[1] = p->add;
        snprintf(f->text, sizeof f->text, "d=%lld%s", (long long)p->d, p->add ? " add" : "");
    } else if (c->op == ANEMO_OP_SAMPLE) {
        const anemo_sample_problem *p = c->problem;
        number[0] = p->vocab;
        number[3] = 100;
        snprintf(f->text, sizeof f->text, "vocab=%lld greedy", (long long)p->vocab);
    } else if (c->op == ANEMO_OP_MOE_ROUTE) {
        const anemo_moe_route_problem *p = c->problem;
        number[0] = p->n_experts;
        number[1] = p->top_k;
        number[2] = p->score;
        number[3] = p->renormalise;
        snprintf(f->text, sizeof f->text, "experts=%d top_k=%d", p->n_experts, p->top_k);
    } else if (c->op == ANEMO_OP_MOE_COMBINE) {
        const anemo_moe_combine_problem *p = c->problem;
        number[0] = p->d;
        number[1] = p->top_k;
        snprintf(f->text, sizeof f->text, "d=%lld top_k=%d", (long long)p->d, p->top_k);
    }
}

/* NULL, or why the call cannot be put on a bench. */
static const char *form_of(const session *s, const call *c, int64_t m, form *f) {
    *f = (form){.shape = {.op = c->op,
                          .name = c->role[0] ? c->role : "tune",
                          .rows = "1",
                          .what = "a call of a plan"}};
    bench_weight_type("f32", &f->type);
    switch (c->op) {
    case ANEMO_OP_QGEMM:
        return form_qgemm(c->problem, f);
    case ANEMO_OP_MOE_EXPERTS:
        return form_experts(c->problem, f);
    case ANEMO_OP_SWA:
        form_swa(s, c->problem, m, f);
        return NULL;
    case ANEMO_OP_ROPE_APPEND:
        form_rope(s, c->problem, f);
        return NULL;
    case ANEMO_OP_EMBED: {
        const anemo_embed_problem *p = c->problem;
        char name[64];
        f->shape.number[0] = p->vocab;
        f->shape.number[1] = p->d;
        f->type = p->type;
        snprintf(f->text, sizeof f->text, "vocab=%lld d=%lld weights=%s", (long long)p->vocab,
                 (long long)p->d, anemo_weight_type_name(&f->type, name, sizeof name));
        return NULL;
    }
    default:
        form_small(c, f);
        return f->text[0] ? NULL : "the op has no bench";
    }
}

/* ---------------------------------------------------------------- one cell */

typedef struct cell_run {
    bench_case *c;
    bench_arm *arms[ANEMO_TUNE_VARIANTS];
    double call_ns[ANEMO_TUNE_VARIANTS];
} cell_run;

static bool has_weights(anemo_op op) {
    return op == ANEMO_OP_QGEMM || op == ANEMO_OP_MOE_EXPERTS || op == ANEMO_OP_EMBED;
}

/* How much of the activations a format keeps: speed alone must not make a model coarser. */
static int act_rank(const char *act) {
    static const char *const finest_first[] = {"f32",    "f16_row", "bf16",
                                               "a8_g32", "a8_g128", "a8_row"};
    for (int i = 0; act && i < (int)(sizeof finest_first / sizeof *finest_first); i++) {
        if (strcmp(act, finest_first[i]) == 0) {
            return i;
        }
    }
    return act ? 100 : 0;
}

static bool keeps_as_much(const anemo_variant *v, const anemo_variant *as) {
    const bool same = v->act && as->act && strcmp(v->act, as->act) == 0;
    return same || act_rank(v->act) < act_rank(as->act) || (act_rank(v->act) == 0 && !as->act);
}

/* Every variant that takes both the plan's problem and the bench's; the default first. */
static void choose_lines(const session *s, const cell_run *run, anemo_tune_cell *cell) {
    const int32_t capability = anemo_device_capability(s->device);
    cell->lines[cell->n_lines++] = (anemo_tune_line){.variant = cell->default_variant};
    for (int32_t i = 0; i < anemo_variant_count() && cell->n_lines < ANEMO_TUNE_VARIANTS; i++) {
        const anemo_variant *v = anemo_variant_at(i);
        if (v->op == run->c->ops->op && v != cell->default_variant &&
            v->backend == anemo_device_backend(s->device) && !(v->traits & ANEMO_TRAIT_REFERENCE) &&
            keeps_as_much(v, cell->default_variant) && (v->layout || !has_weights(v->op)) &&
            anemo_variant_supports(v, capability, cell->problem, NULL, 0) &&
            anemo_variant_supports(v, capability, run->c->problem, NULL, 0)) {
            cell->lines[cell->n_lines++] = (anemo_tune_line){.variant = v};
        }
    }
}

static anemo_status prepare_line(session *s, cell_run *run, const anemo_variant *v, int32_t i,
                                 bool *wrong) {
    const bench_op *ops = run->c->ops;
    bench_verdict verdict;
    anemo_status status = ops->arm_create(run->c, v, &run->arms[i], s->err);
    status = status ? status : ops->check(run->arms[i], &verdict, s->err);
    if (status) {
        return status;
    }
    *wrong = !(verdict.error <= 1);
    if (*wrong) {
        char text[240];
        snprintf(text, sizeof text, "error %.3g times its bound at %s", verdict.error,
                 verdict.detail);
        s->report->n_incorrect++;
        return remark(s, v->name, text);
    }
    if (v->act && strcmp(v->act, "f32") != 0 && ops->quantise) {
        status = ops->quantise(run->arms[i], s->err);
    }
    return status ? status
                  : bench_best_call(&s->clock, bench_gpu_timer(&s->gpu), run->arms[i],
                                    &run->call_ns[i], s->err);
}

/* Drops line i, keeping the order. */
static void drop_line(cell_run *run, anemo_tune_cell *cell, int32_t i) {
    if (run->arms[i]) {
        run->c->ops->arm_destroy(run->arms[i]);
    }
    cell->n_lines--;
    for (int32_t k = i; k < cell->n_lines; k++) {
        cell->lines[k] = cell->lines[k + 1];
        run->arms[k] = run->arms[k + 1];
        run->call_ns[k] = run->call_ns[k + 1];
    }
    run->arms[cell->n_lines] = NULL;
}

static anemo_status prepare_lines(session *s, cell_run *run, anemo_tune_cell *cell) {
    double fastest_ns = INFINITY;
    for (int32_t i = 0; i < cell->n_lines;) {
        bool wrong = false;
        const anemo_variant *v = cell->lines[i].variant;
        const anemo_status status = prepare_line(s, run, v, i, &wrong);
        if (status) {
            return status;
        }
        if (wrong && v == cell->default_variant) {
            return anemo_fail(s->err, ANEMO_E_NUMERIC, "%s, which the plan runs, is wrong: %s",
                              v->name, s->report->remarks[s->report->n_remarks - 1]);
        }
        if (wrong) {
            drop_line(run, cell, i);
            continue;
        }
        fastest_ns = fmin(fastest_ns, run->call_ns[i++]);
    }
    for (int32_t i = cell->n_lines - 1; i > 0; i--) {
        if (run->call_ns[i] > TOO_SLOW * fastest_ns) {
            drop_line(run, cell, i);
        }
    }
    return ANEMO_OK;
}

static anemo_status time_lines(session *s, cell_run *run, anemo_tune_cell *cell) {
    anemo_arm arms[ANEMO_TUNE_VARIANTS];
    for (int32_t i = 0; i < cell->n_lines; i++) {
        arms[i] = bench_sampled_arm(run->arms[i]);
        cell->lines[i].arm = i;
    }
    const anemo_sampling how = {.clock = s->clock,
                                .timer = bench_gpu_timer(&s->gpu),
                                .stop = s->options->stop,
                                .caches =
                                    s->report->cold ? ANEMO_CACHES_COLD_WEIGHTS : ANEMO_CACHES_WARM,
                                .interrupted = s->options->interrupted};
    const anemo_status status = anemo_sample(arms, cell->n_lines, &how, &cell->samples, s->err);
    for (int32_t i = 0; !status && i < cell->n_lines; i++) {
        anemo_tune_line *line = &cell->lines[i];
        double *const *ns = cell->samples.ns;
        line->ratio = anemo_stats_paired_ratio(ns[0], ns[i], cell->samples.n, 0.95);
        line->time_s = anemo_stats_median(ns[i], cell->samples.n, 0.95);
        line->time_s.value *= 1e-9;
        line->time_s.lo *= 1e-9;
        line->time_s.hi *= 1e-9;
    }
    return status;
}

static anemo_status measure_cell(session *s, const call *c, int32_t range, const form *f,
                                 anemo_tune_cell *cell) {
    char weights[64];
    const bench_setup setup = {.device = s->device,
                               .host = s->gpu.host,
                               .weights = anemo_weight_type_name(&f->type, weights, sizeof weights),
                               .type = f->type,
                               .seed = s->options->seed,
                               .cold_bytes = s->report->cold ? bench_cool_bytes(s->device) : 0};
    cell_run run = {0};
    cell->m_lo = c->range[range].lo;
    cell->m_hi = c->range[range].hi;
    cell->m = c->range[range].m;
    cell->problem = c->problem;
    cell->default_variant = c->range[range].variant;
    snprintf(cell->problem_text, sizeof cell->problem_text, "%s", f->text);
    anemo_status status = bench_op_find(c->op)->create(&f->shape, cell->m, &setup, &run.c, s->err);
    if (status) {
        return status;
    }
    choose_lines(s, &run, cell);
    status = prepare_lines(s, &run, cell);
    status = status ? status : time_lines(s, &run, cell);
    for (int32_t i = 0; i < ANEMO_TUNE_VARIANTS; i++) {
        if (run.arms[i]) {
            run.c->ops->arm_destroy(run.arms[i]);
        }
    }
    run.c->ops->destroy(run.c);
    return status ? status : interrupted(s) ? ANEMO_E_CANCELLED : ANEMO_OK;
}

/* ---------------------------------------------------------------- one role */

static anemo_choices_entry entry_of(const call *c, const anemo_tune_cell *cell, int32_t chosen) {
    const anemo_tune_line *line = &cell->lines[chosen];
    anemo_choices_entry e = {.op = c->op,
                             .m_lo = cell->m_lo,
                             .m_hi = cell->m_hi,
                             .m = cell->m,
                             .default_variant = cell->default_variant,
                             .variant = line->variant,
                             .time_s = line->time_s,
                             .ratio = line->ratio,
                             .runner_up_ratio = {.value = NAN, .lo = NAN, .hi = NAN}};
    const anemo_tune_line *second = NULL;
    snprintf(e.role, sizeof e.role, "%s", c->role);
    snprintf(e.problem, sizeof e.problem, "%s", cell->problem_text);
    for (int32_t i = 0; i < cell->n_lines; i++) {
        const anemo_tune_line *other = &cell->lines[i];
        if (i != chosen && (!second || other->ratio.value < second->ratio.value)) {
            second = other;
        }
    }
    if (second) {
        e.runner_up = second->variant;
        e.runner_up_ratio = anemo_stats_paired_ratio(
            cell->samples.ns[line->arm], cell->samples.ns[second->arm], cell->samples.n, 0.95);
    }
    return e;
}

static anemo_status keep_entries(session *s, const call *c, const anemo_tune_cell *cells,
                                 int32_t n) {
    anemo_tune_report *r = s->report;
    int32_t chosen[MOST_CELLS];
    void *grown = realloc(r->entries, (size_t)(r->n_entries + n) * sizeof *r->entries);
    if (!grown) {
        return anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for choices");
    }
    r->entries = grown;
    anemo_tune_decide(cells, n, chosen);
    for (int32_t i = 0; i < n; i++) {
        r->entries[r->n_entries] = entry_of(c, &cells[i], chosen[i]);
        r->n_chosen += r->entries[r->n_entries].variant != cells[i].default_variant;
        r->n_entries++;
    }
    return ANEMO_OK;
}

/* By rows, then by problem, as anemo_tune_decide wants them: the calls of a role share their ranges
 * unless their defaults change at different rows. */
static int by_rows(const void *a, const void *b) {
    const anemo_tune_cell *x = a, *y = b;
    return (x->m_lo > y->m_lo) - (x->m_lo < y->m_lo);
}

static bool same_ranges(const call *a, const call *b) {
    bool same = a->n_ranges == b->n_ranges;
    for (int32_t i = 0; same && i < a->n_ranges; i++) {
        same = a->range[i].lo == b->range[i].lo && a->range[i].hi == b->range[i].hi;
    }
    return same;
}

/* Why the role of calls[first] cannot be tuned; NULL: it can. */
static const char *objection(const session *s, int32_t first, int32_t *n_cells) {
    const call *c = &s->calls[first];
    form f;
    *n_cells = 0;
    for (int32_t i = first; i < s->n_calls; i++) {
        const call *other = &s->calls[i];
        if (other->op != c->op || strcmp(other->role, c->role) != 0) {
            continue;
        }
        const char *why = form_of(s, other, 1, &f);
        if (why) {
            return why;
        }
        if (has_weights(c->op) && !other->range[0].variant->layout) {
            return "reads the weights through their file's own reader, which no bench has";
        }
        if (!same_ranges(c, other)) {
            return "layers differ, and change their variants at different rows";
        }
        *n_cells += other->n_ranges;
    }
    return *n_cells > MOST_CELLS ? "too many different layers" : NULL;
}

static anemo_status measure_role(session *s, int32_t first, anemo_tune_cell *cells, int32_t *n) {
    const call *c = &s->calls[first];
    char label[64];
    anemo_status status = ANEMO_OK;
    label_of(c, label, sizeof label);
    for (int32_t i = first; i < s->n_calls; i++) {
        call *other = &s->calls[i];
        if (other->op != c->op || strcmp(other->role, c->role) != 0) {
            continue;
        }
        for (int32_t r = 0; !status && r < other->n_ranges; r++) {
            form f;
            char what[96];
            snprintf(what, sizeof what, "%s m=%lld", label, (long long)other->range[r].m);
            if (s->options->progress) {
                s->options->progress(s->options->progress_ctx, s->n_done++, s->n_total, what);
            }
            form_of(s, other, other->range[r].m, &f);
            status = measure_cell(s, other, r, &f, &cells[(*n)++]);
        }
        other->done = true;
    }
    return status;
}

static anemo_status tune_role(session *s, int32_t first) {
    const call *c = &s->calls[first];
    char label[64];
    int32_t n = 0, n_cells;
    label_of(c, label, sizeof label);
    const char *why = objection(s, first, &n_cells);
    if (why) {
        for (int32_t i = first; i < s->n_calls; i++) {
            s->calls[i].done = s->calls[i].done ||
                               (s->calls[i].op == c->op && strcmp(s->calls[i].role, c->role) == 0);
        }
        char text[240];
        snprintf(text, sizeof text, "keeps its default: %s", why);
        return remark(s, label, text);
    }
    anemo_tune_cell *cells = calloc((size_t)n_cells, sizeof *cells);
    if (!cells) {
        return anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for the cells of %s", label);
    }
    anemo_status status = measure_role(s, first, cells, &n);
    qsort(cells, (size_t)n, sizeof *cells, by_rows);
    status = status ? status : keep_entries(s, c, cells, n);
    for (int32_t i = 0; i < n; i++) {
        anemo_samples_free(&cells[i].samples);
    }
    free(cells);
    return status;
}

/* ---------------------------------------------------------------- the run */

anemo_status anemo_tune(anemo_device *device, const anemo_tune_options *options,
                        anemo_tune_report *out, anemo_error *err) {
    *out = (anemo_tune_report){0};
    session s = {.device = device,
                 .options = options,
                 .report = out,
                 .kv_type = options->kv_type ? options->kv_type : "f16",
                 .depth = options->depth ? options->depth : DEPTH,
                 .clock = anemo_clock_raw(),
                 .err = err};
    anemo_status status = bench_gpu_open(device, NULL, &s.gpu, err);
    status = status ? status : read_plan(&s);
    for (int32_t i = 0; !status && i < s.n_calls; i++) {
        status = s.calls[i].done ? ANEMO_OK : tune_role(&s, i);
    }
    status = status ? status : try_choices(&s);
    for (int32_t i = 0; i < s.n_calls; i++) {
        free(s.calls[i].problem);
    }
    free(s.calls);
    bench_gpu_close(&s.gpu);
    return status;
}

void anemo_tune_report_free(anemo_tune_report *report) {
    free(report->entries);
    free(report->remarks);
    *report = (anemo_tune_report){0};
}
