#include "harness/eval/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/eval/internal.h"

#define DEFAULT_CONTEXT 512
#define TOKENS_PER_STEP 512

/* ---------------------------------------------------------------- what the plan must hold */

/* Cuts every text, and finds the longest sequence of all. */
static anemo_status prepare(const anemo_eval_suite *suite, const anemo_eval_engine *engine,
                            anemo_eval_text *texts, int64_t *context, anemo_error *err) {
    const anemo_tokenizer *tokenizer = engine->tokenizer;
    const int64_t most = engine->info->context_max;
    *context = 1;
    anemo_status status = ANEMO_OK;
    if (suite->cases)
        status =
            anemo_eval_cases_context(tokenizer, suite->cases, &suite->rules, most, context, err);
    for (int32_t i = 0; i < suite->n_texts && status == ANEMO_OK; i++) {
        const anemo_eval_text_source *source = &suite->texts[i];
        const int64_t usual = most < DEFAULT_CONTEXT ? most : DEFAULT_CONTEXT;
        const int64_t wanted = source->context ? source->context : usual;
        char *bytes;
        size_t n;
        if (wanted > most)
            return anemo_fail(err, ANEMO_E_INPUT, "a context of %lld: the model has %lld positions",
                              (long long)wanted, (long long)most);
        status = eval_read_file(source->path, &bytes, &n, err);
        if (status != ANEMO_OK)
            return status;
        status = anemo_eval_text_make(tokenizer, bytes, n, source->rule, wanted, &texts[i], err);
        free(bytes);
        *context = *context < wanted ? wanted : *context;
    }
    return status;
}

/* All choices of the plan in one text. */
static char *join_choices(const anemo_plan *plan) {
    char *all = NULL;
    size_t bytes;
    FILE *f = open_memstream(&all, &bytes);
    if (!f)
        return NULL;
    const char *choice;
    for (int32_t i = 0; (choice = anemo_plan_choice(plan, i)); i++)
        fprintf(f, "%s%s", i ? "; " : "", choice);
    if (fclose(f)) {
        free(all);
        return NULL;
    }
    return all;
}

/* ---------------------------------------------------------------- running */

/* The parts of a run and their weight in the progress: tasks, then each text. */
typedef struct parts {
    const anemo_eval_suite *suite;
    int32_t done, n;
} parts;

static bool part_progress(void *ctx, double share) {
    const parts *p = ctx;
    return p->suite->progress(p->suite->progress_ctx, (p->done + share) / p->n);
}

/* One text: with a reference also the divergence from it. */
static anemo_status score_text(const anemo_eval_engine *reference, const anemo_eval_engine *engine,
                               const anemo_eval_text *text, anemo_eval_run *run, int32_t index,
                               anemo_error *err) {
    const size_t n = (size_t)text->n_units;
    run->texts[index].n_units = text->n_units;
    run->texts[index].context = text->context;
    run->texts[index].words = text->words;
    run->texts[index].bytes = text->bytes;
    memcpy(run->texts[index].sha256, text->sha256, sizeof text->sha256);
    run->texts[index].units = malloc(n * sizeof *run->texts[index].units);
    if (!run->texts[index].units)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the results");
    if (!reference->plan)
        return anemo_eval_windows(engine, text, run->texts[index].units, err);
    run->texts[index].divergence = malloc(n * sizeof *run->texts[index].divergence);
    if (!run->texts[index].divergence)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the results");
    return anemo_eval_windows_against(reference, engine, text, run->texts[index].units,
                                      run->texts[index].divergence, err);
}

static anemo_status score(const anemo_eval_suite *suite, const anemo_eval_engine *reference,
                          anemo_eval_engine *engine, const anemo_eval_text *texts,
                          anemo_eval_run *run, anemo_error *err) {
    parts p = {.suite = suite, .n = (suite->cases != NULL) + suite->n_texts};
    engine->progress = suite->progress ? part_progress : NULL;
    engine->progress_ctx = &p;
    anemo_status status = ANEMO_OK;
    if (suite->cases) {
        run->results = malloc((size_t)suite->cases->n * sizeof *run->results);
        status = run->results
                     ? anemo_eval_tasks(engine, suite->cases, &suite->rules, run->results, err)
                     : anemo_fail(err, ANEMO_E_MEMORY, "no memory for the results");
        p.done++;
    }
    for (int32_t i = 0; i < suite->n_texts && status == ANEMO_OK; i++, p.done++)
        status = score_text(reference, engine, &texts[i], run, i, err);
    return status;
}

/* A model with its plan. */
typedef struct subject {
    anemo_model *model;
    anemo_eval_engine engine;
} subject;

static void close_subject(subject *s) {
    anemo_plan_free(s->engine.plan);
    anemo_model_close(s->model);
}

static anemo_status open_model(const char *path, const char *requantise, int64_t window,
                               subject *out, anemo_error *err) {
    const anemo_model_options options = {.requantise = requantise, .window = window};
    anemo_status status = anemo_model_open(path, &options, &out->model, err);
    if (status != ANEMO_OK)
        return status;
    out->engine.info = anemo_model_describe(out->model);
    if (out->engine.info->synthetic)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: the weights are random, so its accuracy means nothing; a real "
                          "checkpoint is accepted",
                          path);
    out->engine.tokenizer = anemo_model_tokenizer(out->model, err);
    return out->engine.tokenizer ? ANEMO_OK : anemo_model_tokenizer_status(out->model);
}

static anemo_status make_plan(const anemo_eval_suite *suite, anemo_device *device, int64_t context,
                              anemo_kv_type kv_type, const anemo_choices *choices, subject *s,
                              anemo_error *err) {
    const char *const *rules;
    int32_t n_rules;
    const anemo_status fits = anemo_choices_for(choices, s->engine.info,
                                                anemo_kv_type_name(kv_type), &rules, &n_rules, err);
    if (fits != ANEMO_OK)
        return fits;
    s->engine.limits = anemo_eval_limits(s->engine.info, context, TOKENS_PER_STEP);
    s->engine.limits.kv_type = kv_type;
    const anemo_plan_options options = {.limits = s->engine.limits,
                                        .with = suite->with,
                                        .n_with = suite->n_with,
                                        .choices = rules,
                                        .n_choices = n_rules,
                                        .packed_cache = suite->packed_cache};
    return anemo_plan_create(s->model, device, &options, &s->engine.plan, err);
}

/* The reference must cut the texts as the model does, or their distributions have nothing in
 * common. */
static anemo_status same_windows(const anemo_eval_suite *suite, const anemo_eval_text *a,
                                 const anemo_eval_text *b, anemo_error *err) {
    for (int32_t i = 0; i < suite->n_texts; i++) {
        bool same = a[i].n_windows == b[i].n_windows;
        for (int64_t w = 0; same && w < a[i].n_windows; w++) {
            const anemo_eval_window *x = &a[i].windows[w], *y = &b[i].windows[w];
            same = x->n == y->n && x->score_from == y->score_from &&
                   !memcmp(x->tokens, y->tokens, (size_t)x->n * sizeof *x->tokens);
        }
        if (!same)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: %s cuts it into other tokens than the reference %s; accepted: a "
                              "reference with the same tokenizer",
                              suite->texts[i].path, suite->model, suite->reference);
    }
    return ANEMO_OK;
}

static void free_texts(anemo_eval_text texts[ANEMO_EVAL_TEXTS]) {
    for (int32_t i = 0; i < ANEMO_EVAL_TEXTS; i++)
        anemo_eval_text_free(&texts[i]);
}

/* The reference sees what the model sees, in f32, whatever the others are asked to. */
static anemo_status open_reference(const anemo_eval_suite *suite, anemo_device *device,
                                   const anemo_eval_text *texts, int64_t context, subject *out,
                                   anemo_error *err) {
    anemo_eval_text own[ANEMO_EVAL_TEXTS] = {0};
    anemo_eval_suite only_texts = *suite;
    int64_t unused;
    only_texts.cases = NULL;
    anemo_status status = open_model(suite->reference, suite->reference_requantise, -1, out, err);
    if (status == ANEMO_OK)
        status = prepare(&only_texts, &out->engine, own, &unused, err);
    if (status == ANEMO_OK)
        status = same_windows(suite, texts, own, err);
    if (status == ANEMO_OK)
        status = make_plan(suite, device, context, ANEMO_KV_F32, NULL, out, err);
    free_texts(own);
    return status;
}

static anemo_status run_subject(const anemo_eval_suite *suite, anemo_device *device,
                                subject *reference, subject *s, anemo_eval_text *texts,
                                anemo_eval_run *run, anemo_error *err) {
    int64_t context;
    run->info = *s->engine.info;
    memcpy(run->weights, run->info.weights, sizeof run->weights);
    memcpy(run->label, run->info.weights, sizeof run->weights);
    anemo_status status = prepare(suite, &s->engine, texts, &context, err);
    if (status == ANEMO_OK)
        status = make_plan(suite, device, context, suite->kv_type, suite->choices, s, err);
    if (status != ANEMO_OK)
        return status;
    run->limits = s->engine.limits;
    run->resident_bytes = anemo_plan_resident_bytes(s->engine.plan);
    run->choices = join_choices(s->engine.plan);
    if (!run->choices)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the plan's choices");
    if (suite->reference && suite->n_texts)
        status = open_reference(suite, device, texts, context, reference, err);
    return status == ANEMO_OK ? score(suite, &reference->engine, &s->engine, texts, run, err)
                              : status;
}

anemo_status anemo_eval_suite_run(const anemo_eval_suite *suite, anemo_device *device,
                                  const char *requantise, anemo_eval_run *out, anemo_error *err) {
    anemo_eval_text texts[ANEMO_EVAL_TEXTS] = {0};
    subject s = {0}, reference = {0};
    memset(out, 0, sizeof *out);
    anemo_status status =
        open_model(suite->model, requantise, suite->window_given ? suite->window : -1, &s, err);
    if (status == ANEMO_OK)
        status = run_subject(suite, device, &reference, &s, texts, out, err);
    close_subject(&reference);
    close_subject(&s);
    free_texts(texts);
    if (status != ANEMO_OK)
        anemo_eval_run_free(out);
    return status;
}

void anemo_eval_run_free(anemo_eval_run *run) {
    free(run->choices);
    free(run->results);
    for (int i = 0; i < ANEMO_EVAL_TEXTS; i++) {
        free(run->texts[i].units);
        free(run->texts[i].divergence);
    }
    memset(run, 0, sizeof *run);
}

bool anemo_eval_suite_comparable(const anemo_eval_suite *suite, const anemo_eval_run *a,
                                 const anemo_eval_run *b) {
    for (int32_t i = 0; i < suite->n_texts; i++) {
        if (a->texts[i].n_units != b->texts[i].n_units)
            return false;
        for (int64_t u = 0; u < a->texts[i].n_units; u++)
            if (a->texts[i].units[u].tokens != b->texts[i].units[u].tokens)
                return false;
    }
    return true;
}

int32_t anemo_eval_suite_compare(const anemo_eval_suite *suite, const anemo_eval_run *a,
                                 const anemo_eval_run *b, anemo_eval_comparison *out) {
    int32_t n = 0;
    if (suite->cases)
        n = anemo_eval_compare(suite->cases, &suite->rules, a->results, b->results, out);
    if (n < 0)
        return n;
    for (int32_t i = 0; i < suite->n_texts; i++)
        out[n++] = anemo_eval_compare_nll("nats per token", a->texts[i].units, b->texts[i].units,
                                          a->texts[i].n_units);
    anemo_eval_holm(out, n);
    return n;
}
