#include "harness/eval/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/eval/internal.h"

#define DEFAULT_CONTEXT 512
#define TOKENS_PER_STEP 512

/* ---------------------------------------------------------------- what the plan must hold */

/* Cuts every text, and finds the longest sequence of all. */
static anemo_status prepare(const anemo_eval_suite *suite, const anemo_tokenizer *tokenizer,
                            anemo_eval_run *run, anemo_eval_text *texts, int64_t *context,
                            anemo_error *err) {
    const int64_t most = run->info.context_max;
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

static anemo_status score(const anemo_eval_suite *suite, anemo_eval_engine *engine,
                          const anemo_eval_text *texts, anemo_eval_run *run, anemo_error *err) {
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
    for (int32_t i = 0; i < suite->n_texts && status == ANEMO_OK; i++, p.done++) {
        const int64_t n = texts[i].n_units;
        run->texts[i].n_units = n;
        run->texts[i].context = texts[i].context;
        memcpy(run->texts[i].sha256, texts[i].sha256, sizeof texts[i].sha256);
        run->texts[i].units = malloc((size_t)n * sizeof *run->texts[i].units);
        status = run->texts[i].units
                     ? anemo_eval_windows(engine, &texts[i], run->texts[i].units, err)
                     : anemo_fail(err, ANEMO_E_MEMORY, "no memory for the results");
    }
    return status;
}

static anemo_status run_model(const anemo_eval_suite *suite, anemo_model *model,
                              anemo_device *device, anemo_eval_text *texts, anemo_eval_run *run,
                              anemo_error *err) {
    int64_t context;
    run->info = *anemo_model_describe(model);
    memcpy(run->weights, run->info.weights, sizeof run->weights);
    if (run->info.synthetic)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: the weights are random, so its accuracy means nothing; a real "
                          "checkpoint is accepted",
                          suite->model);
    anemo_eval_engine engine = {.tokenizer = anemo_model_tokenizer(model, err), .info = &run->info};
    if (!engine.tokenizer)
        return ANEMO_E_INPUT;
    anemo_status status = prepare(suite, engine.tokenizer, run, texts, &context, err);
    if (status != ANEMO_OK)
        return status;
    run->limits = engine.limits = anemo_eval_limits(&run->info, context, TOKENS_PER_STEP);
    run->limits.kv_type = engine.limits.kv_type = suite->kv_type;
    const anemo_plan_options options = {
        .limits = engine.limits, .with = suite->with, .n_with = suite->n_with};
    status = anemo_plan_create(model, device, &options, &engine.plan, err);
    if (status != ANEMO_OK)
        return status;
    run->resident_bytes = anemo_plan_resident_bytes(engine.plan);
    run->choices = join_choices(engine.plan);
    status = run->choices ? score(suite, &engine, texts, run, err)
                          : anemo_fail(err, ANEMO_E_MEMORY, "no memory for the plan's choices");
    anemo_plan_free(engine.plan);
    return status;
}

anemo_status anemo_eval_suite_run(const anemo_eval_suite *suite, anemo_device *device,
                                  const char *requantise, anemo_eval_run *out, anemo_error *err) {
    const anemo_model_options options = {.requantise = requantise,
                                         .window = suite->window_given ? suite->window : -1};
    anemo_eval_text texts[ANEMO_EVAL_TEXTS] = {0};
    anemo_model *model;
    memset(out, 0, sizeof *out);
    anemo_status status = anemo_model_open(suite->model, &options, &model, err);
    if (status != ANEMO_OK)
        return status;
    status = run_model(suite, model, device, texts, out, err);
    for (int32_t i = 0; i < suite->n_texts; i++)
        anemo_eval_text_free(&texts[i]);
    anemo_model_close(model);
    if (status != ANEMO_OK)
        anemo_eval_run_free(out);
    return status;
}

void anemo_eval_run_free(anemo_eval_run *run) {
    free(run->choices);
    free(run->results);
    for (int i = 0; i < ANEMO_EVAL_TEXTS; i++)
        free(run->texts[i].units);
    memset(run, 0, sizeof *run);
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
