/* Tasks: runs the rules asked for, and adds up what they found per kind and level. */
#include "harness/eval/internal.h"

#include <math.h>
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

anemo_status anemo_eval_cases_context(const anemo_tokenizer *tokenizer,
                                      const anemo_eval_cases *cases, int64_t *context,
                                      anemo_error *err) {
    *context = 1;
    for (int64_t i = 0; i < cases->n; i++) {
        const anemo_eval_case *c = &cases->items[i];
        size_t longest = strlen(c->answer), n;
        for (int32_t j = 0; j < c->n_choices; j++)
            if (strlen(c->choices[j]) > longest)
                longest = strlen(c->choices[j]);
        int32_t *ids;
        const anemo_status status =
            anemo_tokenizer_encode(tokenizer, c->prompt, strlen(c->prompt), true, &ids, &n, err);
        if (status != ANEMO_OK)
            return status;
        free(ids);
        /* No token is shorter than a byte; 16 covers a stop text and what merges across the seam.
         */
        if ((int64_t)(n + longest) + 16 > *context)
            *context = (int64_t)(n + longest) + 16;
    }
    return ANEMO_OK;
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
