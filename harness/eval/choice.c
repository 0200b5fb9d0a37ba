/* Multiple choice: log-likelihoods of the choices after one common prompt.
 *
 * The prompt runs once; each choice goes on from a fork of its session, so that a case costs the
 * tokens of the prompt plus those of the choices. Cases are taken in groups that fill the sessions
 * of the plan: first all prompts, then all choices. Tokens are split as lm-evaluation-harness does
 * it (api/model.py, _encode_pair): trailing spaces of the prompt move to the choice, and the
 * choice's tokens are those of prompt + choice behind the prompt's. */
#include "harness/eval/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct pair_case {
    int32_t *prompt;
    int32_t n_prompt;
    int32_t *tail[ANEMO_EVAL_CHOICES]; /* tokens of each choice, at least one */
    int32_t n_tail[ANEMO_EVAL_CHOICES];
    double nll[ANEMO_EVAL_CHOICES];
    anemo_session *session;
} pair_case;

/* A choice being run from a fork of its case's session. */
typedef struct fork_of {
    pair_case *pair;
    int32_t choice;
} fork_of;

typedef struct group {
    const anemo_eval_engine *engine;
    pair_case *pairs;
    int64_t n;
    fork_of *forks;
    eval_line *lines;
} group;

/* ---------------------------------------------------------------- tokens */

static anemo_status encode_tail(const anemo_tokenizer *tokenizer, const anemo_eval_case *c,
                                const char *choice, pair_case *pair, int32_t index,
                                anemo_error *err) {
    const size_t prompt_bytes = strlen(c->prompt), bytes = prompt_bytes + strlen(choice);
    char *whole = malloc(bytes + 1);
    int32_t *ids = NULL;
    size_t n = 0;
    if (!whole)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a case");
    memcpy(whole, c->prompt, prompt_bytes);
    strcpy(whole + prompt_bytes, choice);
    const bool bos = anemo_tokenizer_bos(tokenizer) >= 0;
    anemo_status status = anemo_tokenizer_encode(tokenizer, whole, bytes, bos, &ids, &n, err);
    free(whole);
    if (status != ANEMO_OK)
        return status;
    if (n <= (size_t)pair->n_prompt) {
        free(ids);
        return anemo_fail(err, ANEMO_E_INPUT,
                          "the choice \"%s\" has no token of its own after \"%s\"", choice,
                          c->prompt);
    }
    pair->n_tail[index] = (int32_t)n - pair->n_prompt;
    memmove(ids, ids + pair->n_prompt, (size_t)pair->n_tail[index] * sizeof *ids);
    pair->tail[index] = ids;
    return ANEMO_OK;
}

static anemo_status encode_pair(const anemo_tokenizer *tokenizer, const anemo_eval_case *c,
                                pair_case *pair, anemo_error *err) {
    size_t bytes = strlen(c->prompt), n;
    while (bytes && strchr(" \t\n\r\f\v", c->prompt[bytes - 1]))
        bytes--;
    const bool bos = anemo_tokenizer_bos(tokenizer) >= 0;
    anemo_status status =
        anemo_tokenizer_encode(tokenizer, c->prompt, bytes, bos, &pair->prompt, &n, err);
    if (status == ANEMO_OK && !n)
        status =
            anemo_fail(err, ANEMO_E_INPUT,
                       "a case has an empty prompt, and the tokenizer has no BOS to begin with");
    if (status != ANEMO_OK)
        return status;
    pair->n_prompt = (int32_t)n;
    for (int32_t i = 0; i < c->n_choices && status == ANEMO_OK; i++)
        status = encode_tail(tokenizer, c, c->choices[i], pair, i, err);
    return status;
}

static void pair_free(pair_case *pair) {
    free(pair->prompt);
    for (int i = 0; i < ANEMO_EVAL_CHOICES; i++)
        free(pair->tail[i]);
    anemo_session_free(pair->session);
}

/* ---------------------------------------------------------------- running a group */

/* The last row of a prompt predicts the first token of every choice. */
static void on_prompt(void *ctx, int64_t line, int32_t row, const float *logits) {
    group *g = ctx;
    pair_case *pair = &g->pairs[line];
    const double sum = eval_log_sum(logits, g->engine->info->vocab);
    (void)row;
    for (int32_t i = 0; i < ANEMO_EVAL_CHOICES && pair->tail[i]; i++)
        pair->nll[i] = sum - (double)logits[pair->tail[i][0]];
}

static void on_choice(void *ctx, int64_t line, int32_t row, const float *logits) {
    group *g = ctx;
    const fork_of *f = &g->forks[line];
    const double sum = eval_log_sum(logits, g->engine->info->vocab);
    f->pair->nll[f->choice] += sum - (double)logits[f->pair->tail[f->choice][row + 1]];
}

static anemo_status run_prompts(group *g, anemo_error *err) {
    anemo_status status = ANEMO_OK;
    for (int64_t i = 0; i < g->n && status == ANEMO_OK; i++) {
        pair_case *pair = &g->pairs[i];
        status = anemo_session_create(g->engine->plan, &pair->session, err);
        g->lines[i] = (eval_line){.session = pair->session,
                                  .tokens = pair->prompt,
                                  .n = pair->n_prompt,
                                  .rows_from = pair->n_prompt - 1};
    }
    return status == ANEMO_OK ? eval_run_lines(g->engine, g->lines, g->n, on_prompt, g, err)
                              : status;
}

/* Runs the first n forks and frees their sessions. */
static anemo_status run_forks(group *g, int64_t n, anemo_error *err) {
    anemo_status status = ANEMO_OK;
    for (int64_t i = 0; i < n; i++)
        g->lines[i].session = NULL;
    for (int64_t i = 0; i < n && status == ANEMO_OK; i++) {
        const fork_of *f = &g->forks[i];
        anemo_session *session = NULL;
        status = anemo_session_fork(f->pair->session, &session, err);
        g->lines[i] = (eval_line){.session = session,
                                  .tokens = f->pair->tail[f->choice],
                                  .n = f->pair->n_tail[f->choice] - 1};
    }
    if (status == ANEMO_OK)
        status = eval_run_lines(g->engine, g->lines, n, on_choice, g, err);
    for (int64_t i = 0; i < n; i++)
        anemo_session_free(g->lines[i].session);
    return status;
}

/* All choices of more than one token, as many at once as there are sessions left. */
static anemo_status run_choices(group *g, anemo_error *err) {
    const int64_t most = g->engine->limits.sessions - g->n;
    int64_t n = 0;
    for (int64_t i = 0; i < g->n; i++)
        for (int32_t j = 0; j < ANEMO_EVAL_CHOICES && g->pairs[i].tail[j]; j++) {
            if (g->pairs[i].n_tail[j] > 1)
                g->forks[n++] = (fork_of){&g->pairs[i], j};
            if (n == most) {
                const anemo_status status = run_forks(g, n, err);
                if (status != ANEMO_OK)
                    return status;
                n = 0;
            }
        }
    return run_forks(g, n, err);
}

/* ---------------------------------------------------------------- verdicts */

/* Unicode characters, without a leading space: that one separates the choice from the prompt and is
 * no part of it. */
static double characters(const char *text) {
    int64_t n = 0;
    for (text += *text == ' '; *text; text++)
        n += (*text & 0xC0) != 0x80;
    return n > 0 ? (double)n : 1;
}

static void judge(const anemo_eval_case *c, const pair_case *pair, anemo_eval_result *result) {
    int32_t best = 0, best_norm = 0;
    for (int32_t i = 1; i < c->n_choices; i++) {
        if (pair->nll[i] < pair->nll[best])
            best = i;
        if (pair->nll[i] / characters(c->choices[i]) <
            pair->nll[best_norm] / characters(c->choices[best_norm]))
            best_norm = i;
    }
    result->choice = best == c->gold;
    result->choice_norm = best_norm == c->gold;
    result->answer_nll = pair->nll[c->gold];
    result->answer_tokens = pair->n_tail[c->gold];
}

static anemo_status score_group(group *g, const anemo_eval_case *cases, anemo_eval_result *results,
                                anemo_error *err) {
    anemo_status status = ANEMO_OK;
    memset(g->pairs, 0, (size_t)g->n * sizeof *g->pairs);
    for (int64_t i = 0; i < g->n && status == ANEMO_OK; i++)
        status = encode_pair(g->engine->tokenizer, &cases[i], &g->pairs[i], err);
    if (status == ANEMO_OK)
        status = run_prompts(g, err);
    if (status == ANEMO_OK)
        status = run_choices(g, err);
    for (int64_t i = 0; i < g->n; i++) {
        if (status == ANEMO_OK && cases[i].n_choices)
            judge(&cases[i], &g->pairs[i], &results[i]);
        pair_free(&g->pairs[i]);
    }
    return status;
}

anemo_status eval_choice(const anemo_eval_engine *engine, const anemo_eval_cases *cases,
                         const eval_share *share, anemo_eval_result *results, anemo_error *err) {
    int32_t most_choices = 0;
    for (int64_t i = 0; i < cases->n; i++)
        if (cases->items[i].n_choices > most_choices)
            most_choices = cases->items[i].n_choices;
    const int32_t sessions = engine->limits.sessions;
    if (sessions < 2)
        return anemo_fail(err, ANEMO_E_INPUT, "multiple choice needs a plan of 2 sessions, not %d",
                          sessions);
    const int64_t at_once = sessions / (1 + most_choices) > 0 ? sessions / (1 + most_choices) : 1;
    group g = {.engine = engine,
               .pairs = malloc((size_t)at_once * sizeof *g.pairs),
               .forks = malloc((size_t)sessions * sizeof *g.forks),
               .lines = malloc((size_t)sessions * sizeof *g.lines)};
    anemo_status status =
        g.pairs && g.forks && g.lines
            ? ANEMO_OK
            : anemo_fail(err, ANEMO_E_MEMORY, "no memory for %d sessions", sessions);
    for (int64_t i = 0; i < cases->n && status == ANEMO_OK; i += at_once) {
        g.n = cases->n - i < at_once ? cases->n - i : at_once;
        status = score_group(&g, cases->items + i, results + i, err);
        if (status == ANEMO_OK &&
            !eval_share_show(engine, share, (double)(i + g.n) / (double)cases->n))
            status = eval_cancelled(err);
    }
    free(g.pairs);
    free(g.forks);
    free(g.lines);
    return status;
}
