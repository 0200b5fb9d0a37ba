/* cmocka.h wants these four first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/run_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RULES (ANEMO_OP_COUNT + 2)

/* A session, how far it is, and where its results go. */
typedef struct timeline {
    anemo_session *session;
    const int32_t *tokens;
    const int *chunks;
    int64_t n, done;
    int next_chunk;
    int32_t step_tokens; /* of the step in progress */
    run_result *result;
} timeline;

/* The observer sees the rows of all sessions of a step, in the order of the entries. */
typedef struct observed {
    timeline *lines[2];
    int n_lines;
} observed;

anemo_backend run_model_backend = ANEMO_CPU;
const char *run_model_with;

static void ok(anemo_status status, const anemo_error *err, const char *what, const char *path) {
    if (status != ANEMO_OK)
        fail_msg("%s: %s: %s: %s", path, what, anemo_status_name(status), err->text);
}

static anemo_device *create_device(const char *path) {
    anemo_error err = {""};
    anemo_device *device = NULL;
    ok(run_model_backend == ANEMO_CPU ? anemo_device_create_cpu(2, NULL, &device, &err)
                                      : anemo_device_create_cuda(0, &device, &err),
       &err, "device_create", path);
    return device;
}

static void on_route(void *ctx, int32_t layer, int64_t tokens, int32_t top_k,
                     const int32_t *experts, const float *weights) {
    const observed *o = ctx;
    (void)weights;
    assert_true(layer >= 0 && layer < RUN_ROUTE_LAYERS && top_k <= RUN_TOP_K);
    int64_t row = 0;
    for (int i = 0; i < o->n_lines; i++) {
        const timeline *t = o->lines[i];
        run_result *r = t->result;
        r->top_k = top_k;
        for (int64_t j = 0; j < t->step_tokens; j++, row++)
            for (int32_t k = 0; k < top_k; k++)
                r->routes[(layer * r->n + t->done + j) * RUN_TOP_K + k] = experts[row * top_k + k];
    }
    assert_int_equal(row, tokens);
}

static run_result result_create(int64_t n, const anemo_model_info *info) {
    run_result r = {.n = n, .vocab = info->vocab, .layers = info->layers};
    assert_true(info->layers <= RUN_ROUTE_LAYERS);
    const size_t n_routes = (size_t)(info->layers * n) * RUN_TOP_K;
    r.logits = malloc((size_t)(n * info->vocab) * sizeof *r.logits);
    r.routes = malloc(n_routes * sizeof *r.routes);
    assert_non_null(r.logits);
    assert_non_null(r.routes);
    for (size_t i = 0; i < n_routes; i++)
        r.routes[i] = -1;
    return r;
}

void run_result_free(run_result *r) {
    free(r->logits);
    free(r->routes);
    memset(r, 0, sizeof *r);
}

static int32_t chunk_size(timeline *t) {
    if (!t->chunks)
        return (int32_t)(t->n - t->done);
    if (!t->chunks[t->next_chunk])
        t->next_chunk = 0;
    const int64_t size = t->chunks[t->next_chunk++];
    return (int32_t)(size < t->n - t->done ? size : t->n - t->done);
}

/* One step of every timeline that is not finished. */
static void step(anemo_plan *plan, const run_case *c, observed *o, timeline *lines, int n_lines) {
    anemo_step_entry entries[2];
    anemo_step_result results[2];
    anemo_error err = {""};
    o->n_lines = 0;
    for (int i = 0; i < n_lines; i++) {
        timeline *t = &lines[i];
        if (t->done == t->n)
            continue;
        t->step_tokens = chunk_size(t);
        entries[o->n_lines] = (anemo_step_entry){.session = t->session,
                                                 .tokens = t->tokens + t->done,
                                                 .n_tokens = t->step_tokens,
                                                 .want = ANEMO_WANT_LOGITS_ALL};
        o->lines[o->n_lines++] = t;
    }
    ok(anemo_step_submit(plan, entries, o->n_lines, &err), &err, "step_submit", c->path);
    ok(anemo_step_wait(plan, results, &err), &err, "step_wait", c->path);
    for (int i = 0; i < o->n_lines; i++) {
        timeline *t = o->lines[i];
        assert_int_equal(results[i].rows, t->step_tokens);
        memcpy(t->result->logits + t->done * t->result->vocab, results[i].logits,
               (size_t)(t->step_tokens * t->result->vocab) * sizeof(float));
        t->done += t->step_tokens;
        assert_int_equal(anemo_session_length(t->session), t->done);
    }
}

/* "OP=REFERENCE" for every op that the model has. */
static int32_t reference_rules(const anemo_model_info *info, char text[][96], const char **rules) {
    int32_t n = 0;
    for (int op = 0; op < ANEMO_OP_COUNT; op++) {
        const bool moe =
            op == ANEMO_OP_MOE_ROUTE || op == ANEMO_OP_MOE_EXPERTS || op == ANEMO_OP_MOE_COMBINE;
        /* References read float activations, so nothing is quantised and nothing sampled here. */
        if (op == ANEMO_OP_QUANTIZE_ACT || op == ANEMO_OP_SAMPLE || (moe && !info->experts))
            continue;
        const anemo_variant *v = anemo_variant_reference((anemo_op)op);
        assert_non_null(v);
        snprintf(text[n], 96, "%s=%s", anemo_op_name((anemo_op)op), v->name);
        rules[n] = text[n];
        n++;
    }
    return n;
}

static void run(const run_case *c, timeline *lines, int n_lines) {
    anemo_error err = {""};
    anemo_model *model = NULL;
    anemo_device *device;
    anemo_plan *plan = NULL;
    const anemo_model_options options = {.requantise = c->requantise, .window = c->window};
    ok(anemo_model_open(c->path, &options, &model, &err), &err, "model_open", c->path);
    const anemo_model_info *info = anemo_model_describe(model);
    device = create_device(c->path);

    char text[MAX_RULES][96];
    const char *rules[MAX_RULES];
    const int32_t n_references =
        c->reference && run_model_backend == ANEMO_CPU ? reference_rules(info, text, rules) : 0;
    int32_t n_rules = n_references;
    if (c->extra_with)
        rules[n_rules++] = c->extra_with;
    if (run_model_with && !n_references)
        rules[n_rules++] = run_model_with;
    observed o = {.n_lines = 0};
    int64_t longest = 0, rows = 0;
    for (int i = 0; i < n_lines; i++) {
        *lines[i].result = result_create(lines[i].n, info);
        longest = lines[i].n > longest ? lines[i].n : longest;
        rows += lines[i].n;
    }
    const anemo_plan_options plan_options = {.limits = {.tokens_per_step = rows,
                                                        .sessions = n_lines,
                                                        .context = longest,
                                                        .kv_type = ANEMO_KV_F32},
                                             .with = rules,
                                             .n_with = n_rules,
                                             .on_route = info->experts ? on_route : NULL,
                                             .on_route_ctx = &o};
    ok(anemo_plan_create(model, device, &plan_options, &plan, &err), &err, "plan_create", c->path);
    for (int i = 0; i < n_lines; i++)
        ok(anemo_session_create(plan, &lines[i].session, &err), &err, "session_create", c->path);
    for (bool more = true; more;) {
        step(plan, c, &o, lines, n_lines);
        more = false;
        for (int i = 0; i < n_lines; i++)
            more = more || lines[i].done < lines[i].n;
    }
    for (int i = 0; i < n_lines; i++)
        anemo_session_free(lines[i].session);
    anemo_plan_free(plan);
    anemo_device_free(device);
    anemo_model_close(model);
}

run_result run_model(const run_case *c, const int32_t *tokens, int64_t n) {
    run_result r;
    timeline line = {.tokens = tokens, .chunks = c->chunks, .n = n, .result = &r};
    run(c, &line, 1);
    return r;
}

void run_two(const run_case *c, const int32_t *a_tokens, int64_t n_a, const int *b_chunks,
             const int32_t *b_tokens, int64_t n_b, run_result *a, run_result *b) {
    timeline lines[2] = {{.tokens = a_tokens, .chunks = c->chunks, .n = n_a, .result = a},
                         {.tokens = b_tokens, .chunks = b_chunks, .n = n_b, .result = b}};
    run(c, lines, 2);
}

void run_greedy(const run_case *c, const int32_t *prompt, int64_t n_prompt, int32_t *ids,
                int64_t n) {
    anemo_error err = {""};
    anemo_model *model = NULL;
    anemo_device *device;
    anemo_plan *plan = NULL;
    anemo_session *session = NULL;
    const anemo_model_options options = {.requantise = c->requantise, .window = c->window};
    ok(anemo_model_open(c->path, &options, &model, &err), &err, "model_open", c->path);
    device = create_device(c->path);
    const anemo_plan_options plan_options = {.limits = {.tokens_per_step = n_prompt,
                                                        .sessions = 1,
                                                        .context = n_prompt + n,
                                                        .kv_type = ANEMO_KV_F32},
                                             .with = &run_model_with,
                                             .n_with = run_model_with != NULL};
    ok(anemo_plan_create(model, device, &plan_options, &plan, &err), &err, "plan_create", c->path);
    ok(anemo_session_create(plan, &session, &err), &err, "session_create", c->path);
    for (int64_t i = 0; i < n; i++) {
        const anemo_step_entry entry = {.session = session,
                                        .tokens = i ? NULL : prompt,
                                        .n_tokens = i ? 1 : (int32_t)n_prompt,
                                        .want = ANEMO_WANT_SAMPLE};
        anemo_step_result result;
        ok(anemo_step_submit(plan, &entry, 1, &err), &err, "step_submit", c->path);
        ok(anemo_step_wait(plan, &result, &err), &err, "step_wait", c->path);
        ids[i] = result.id;
    }
    anemo_session_free(session);
    anemo_plan_free(plan);
    anemo_device_free(device);
    anemo_model_close(model);
}

double largest_difference(const float *a, const float *b, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        if (!isfinite(d))
            return INFINITY;
        largest = d > largest ? d : largest;
    }
    return largest;
}

double standard_deviation(const float *x, int64_t n) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    for (int64_t i = 0; i < n; i++)
        squares += (x[i] - sum / (double)n) * (x[i] - sum / (double)n);
    return sqrt(squares / (double)n);
}
