/* Tasks: runs the rules asked for, and adds up what they found per kind and level. */
#include "harness/eval/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int32_t eval_answer_room(const anemo_eval_case *c, const char *stop) {
    const size_t bytes = strlen(c->answer) + (stop ? strlen(stop) : 0);
    return bytes < 1 << 20 ? (int32_t)bytes + 4 : 1 << 20;
}

bool eval_share_show(const anemo_eval_engine *engine, const eval_share *share, double done) {
    return !engine->progress ||
           engine->progress(engine->progress_ctx, share->from + done * (share->to - share->from));
}

/* Tokens of prompt + answer, and a sentence when they are too many. */
static anemo_status count_tokens(const anemo_tokenizer *tokenizer, const char *prompt,
                                 const char *answer, int64_t context_max, int64_t *n,
                                 anemo_error *err) {
    char *whole;
    int32_t *ids;
    size_t count;
    const int bytes = asprintf(&whole, "%s%s", prompt, answer);
    if (bytes < 0)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a case");
    const anemo_status status =
        anemo_tokenizer_encode(tokenizer, whole, (size_t)bytes, true, &ids, &count, err);
    free(whole);
    if (status != ANEMO_OK)
        return status;
    free(ids);
    *n = (int64_t)count;
    if (*n > context_max)
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "the case \"%.60s...\" has %lld tokens with its answer; the model has %lld "
            "positions",
            prompt, (long long)*n, (long long)context_max);
    return ANEMO_OK;
}

anemo_status anemo_eval_cases_context(const anemo_tokenizer *tokenizer,
                                      const anemo_eval_cases *cases,
                                      const anemo_eval_options *options, int64_t context_max,
                                      int64_t *context, anemo_error *err) {
    anemo_status status = ANEMO_OK;
    *context = 1;
    for (int64_t i = 0; i < cases->n && status == ANEMO_OK; i++) {
        const anemo_eval_case *c = &cases->items[i];
        int64_t n = 0;
        if (options->exact) {
            status = count_tokens(tokenizer, c->prompt, c->answer, context_max, &n, err);
            n +=
                eval_answer_room(c, options->stop); /* also for what is wrong, or split otherwise */
            *context = n > *context ? n : *context;
        }
        for (int32_t j = 0; j < c->n_choices && options->choice && status == ANEMO_OK; j++) {
            status = count_tokens(tokenizer, c->prompt, c->choices[j], context_max, &n, err);
            *context = n > *context ? n : *context;
        }
    }
    *context = *context < context_max ? *context : context_max;
    return status;
}

anemo_status anemo_eval_tasks(const anemo_eval_engine *engine, const anemo_eval_cases *cases,
                              const anemo_eval_options *options, anemo_eval_result *results,
                              anemo_error *err) {
    const double half = options->exact && options->choice ? 0.5 : 1;
    const eval_share exact = {0, half}, choice = {1 - half, 1};
    anemo_status status = ANEMO_OK;
    memset(results, 0, (size_t)cases->n * sizeof *results);
    if (options->exact)
        status = eval_exact(engine, cases, options->stop, &exact, results, err);
    if (options->choice && status == ANEMO_OK)
        status = eval_choice(engine, cases, &choice, results, err);
    return status;
}

/* ---------------------------------------------------------------- adding up */

typedef struct tally {
    int64_t n, exact, n_choice, choice, choice_norm;
    double nll;
} tally;

static bool same_group(const anemo_eval_case *a, const anemo_eval_case *b) {
    return a->level == b->level && !strcmp(a->kind, b->kind);
}

static void count(tally *t, const anemo_eval_result *r) {
    t->n++;
    t->exact += r->exact;
    if (!r->answer_tokens)
        return;
    t->n_choice++;
    t->choice += r->choice;
    t->choice_norm += r->choice_norm;
    t->nll += r->answer_nll;
}

static anemo_eval_score score_of(const char *kind, int32_t level, const tally *t) {
    return (anemo_eval_score){.kind = kind,
                              .level = level,
                              .n = t->n,
                              .n_choice = t->n_choice,
                              .exact = anemo_wilson(t->exact, t->n),
                              .choice = anemo_wilson(t->choice, t->n_choice),
                              .choice_norm = anemo_wilson(t->choice_norm, t->n_choice),
                              .answer_nll = t->n_choice ? t->nll / (double)t->n_choice : NAN};
}

int32_t anemo_eval_scores(const anemo_eval_cases *cases, const anemo_eval_result *results,
                          anemo_eval_score *scores, int32_t most) {
    int32_t n = 0;
    tally all = {0};
    for (int64_t i = 0; i < cases->n; i++)
        count(&all, &results[i]);
    for (int64_t i = 0; i < cases->n && n + 1 < most; i++) {
        const anemo_eval_case *c = &cases->items[i];
        bool seen = false;
        for (int32_t s = 0; s < n && !seen; s++)
            seen = scores[s].level == c->level && !strcmp(scores[s].kind, c->kind);
        if (seen)
            continue;
        tally t = {0};
        for (int64_t j = i; j < cases->n; j++)
            if (same_group(c, &cases->items[j]))
                count(&t, &results[j]);
        scores[n++] = score_of(c->kind, c->level, &t);
    }
    if (n < most)
        scores[n++] = score_of("all", 0, &all);
    return n;
}
