/* Exact match by greedy generation, continuously batched: a fixed set of slots, each with one case;
 * when a case's verdict is fixed, the slot takes the next one, so that a long answer holds nobody
 * up. Each step decodes one token of every slot that generates and gives what is left of the step
 * to prompts.
 *
 * A verdict is fixed at an end token, at the stop text, or as soon as the text can no longer become
 * the answer: the result is the same as if generation had gone on, and wrong answers cost no more
 * than right ones. */
#include "harness/eval/internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct slot {
    anemo_session *session; /* NULL: free */
    int64_t at;             /* case */
    int32_t *ids;           /* prompt, then what was generated; room for n_most */
    int32_t n_prompt, fed, n, n_most;
    char *prompt_text; /* decoded; what is generated begins behind it */
    size_t prompt_bytes;
} slot;

typedef struct runner {
    const anemo_eval_engine *engine;
    const anemo_eval_cases *cases;
    const char *stop;
    anemo_eval_result *results;
    slot *slots;
    int32_t n_slots;
    int64_t next, finished;
    anemo_step_entry *entries;
    anemo_step_result *step_results;
    int32_t *entry_slot;
} runner;

static void slot_free(slot *s) {
    anemo_session_free(s->session);
    free(s->ids);
    free(s->prompt_text);
    memset(s, 0, sizeof *s);
}

/* ---------------------------------------------------------------- beginning and ending a case */

static anemo_status begin(runner *r, slot *s, int64_t at, anemo_error *err) {
    const anemo_tokenizer *tokenizer = r->engine->tokenizer;
    const anemo_eval_case *c = &r->cases->items[at];
    const bool bos = anemo_tokenizer_bos(tokenizer) >= 0;
    int32_t *ids = NULL;
    size_t n = 0;
    anemo_status status =
        anemo_tokenizer_encode(tokenizer, c->prompt, strlen(c->prompt), bos, &ids, &n, err);
    if (status != ANEMO_OK)
        return status;
    s->at = at;
    s->ids = ids;
    s->n = s->n_prompt = (int32_t)n;
    /* A token adds at least a byte to a text that may still be right; a few may add none. */
    s->n_most = s->n + eval_answer_room(c, r->stop);
    if (s->n_most > r->engine->limits.context)
        s->n_most = (int32_t)r->engine->limits.context;
    if (!n || s->n_most <= s->n)
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "a prompt of %d tokens, \"%.60s...\", with a context of %lld: at least one "
            "token must be there and one must fit behind it",
            s->n, c->prompt, (long long)r->engine->limits.context);
    int32_t *longer = realloc(ids, (size_t)s->n_most * sizeof *ids);
    if (!longer)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a case");
    s->ids = longer;
    status = anemo_tokenizer_decode(tokenizer, s->ids, n, &s->prompt_text, &s->prompt_bytes, err);
    return status == ANEMO_OK ? anemo_session_create(r->engine->plan, &s->session, err) : status;
}

static bool is_end(const anemo_model_info *info, int32_t id) {
    for (int32_t i = 0; i < info->n_eos; i++)
        if (info->eos[i] == id)
            return true;
    return false;
}

typedef enum verdict { VERDICT_OPEN, VERDICT_WRONG, VERDICT_RIGHT } verdict;

/* The verdict on `text`, generated so far: `ended` by an end token or not. */
static verdict judge(const char *text, const char *answer, const char *stop, bool ended) {
    const size_t n = strlen(text), n_answer = strlen(answer);
    const char *cut = stop ? strstr(text, stop) : NULL;
    if (cut)
        return (size_t)(cut - text) == n_answer && !strncmp(text, answer, n_answer) ? VERDICT_RIGHT
                                                                                    : VERDICT_WRONG;
    if (ended)
        return strcmp(text, answer) ? VERDICT_WRONG : VERDICT_RIGHT;
    if (n <= n_answer)
        return strncmp(text, answer, n) ? VERDICT_WRONG : VERDICT_OPEN;
    /* The answer, and then perhaps the beginning of the stop text. */
    return stop && !strncmp(text, answer, n_answer) && !strncmp(text + n_answer, stop, n - n_answer)
               ? VERDICT_OPEN
               : VERDICT_WRONG;
}

static anemo_status take_token(runner *r, slot *s, int32_t id, anemo_error *err) {
    const anemo_eval_case *c = &r->cases->items[s->at];
    const bool ended = is_end(r->engine->info, id);
    if (!ended)
        s->ids[s->n++] = id;
    char *text;
    size_t bytes;
    const anemo_status status =
        anemo_tokenizer_decode(r->engine->tokenizer, s->ids, (size_t)s->n, &text, &bytes, err);
    if (status != ANEMO_OK)
        return status;
    /* A NUL or a changed prompt can only be wrong. */
    const bool sound = bytes >= s->prompt_bytes && strlen(text) == bytes &&
                       !memcmp(text, s->prompt_text, s->prompt_bytes);
    verdict v = sound ? judge(text + s->prompt_bytes, c->answer, r->stop, ended) : VERDICT_WRONG;
    free(text);
    if (v == VERDICT_OPEN && s->n == s->n_most)
        v = VERDICT_WRONG;
    if (v != VERDICT_OPEN) {
        r->results[s->at].exact = v == VERDICT_RIGHT;
        r->results[s->at].generated = s->n - s->n_prompt + ended;
        r->finished++;
        slot_free(s);
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- steps */

static void add_entry(runner *r, int32_t *n, int32_t slot_index, const int32_t *tokens,
                      int32_t n_tokens, bool sample) {
    r->entry_slot[*n] = slot_index;
    r->entries[(*n)++] = (anemo_step_entry){.session = r->slots[slot_index].session,
                                            .tokens = tokens,
                                            .n_tokens = n_tokens,
                                            .want = sample ? ANEMO_WANT_SAMPLE : ANEMO_WANT_NONE};
}

/* First one token of everything that generates, then prompts. Slots are no more than rows, so
 * decoding fits. */
static int32_t fill_step(runner *r) {
    int64_t left = r->engine->limits.tokens_per_step;
    int32_t n = 0;
    for (int32_t i = 0; i < r->n_slots; i++)
        if (r->slots[i].session && r->slots[i].fed >= r->slots[i].n_prompt) {
            add_entry(r, &n, i, NULL, 1, true);
            left--;
        }
    for (int32_t i = 0; i < r->n_slots && left > 0; i++) {
        slot *s = &r->slots[i];
        if (!s->session || s->fed >= s->n_prompt)
            continue;
        const int32_t rest = s->n_prompt - s->fed;
        const int32_t size = rest < left ? rest : (int32_t)left;
        add_entry(r, &n, i, s->ids + s->fed, size, size == rest);
        left -= size;
    }
    return n;
}

static anemo_status step(runner *r, anemo_error *err) {
    const int32_t n = fill_step(r);
    anemo_status status = anemo_step_submit(r->engine->plan, r->entries, n, err);
    if (status == ANEMO_OK)
        status = anemo_step_wait(r->engine->plan, r->step_results, err);
    for (int32_t e = 0; e < n && status == ANEMO_OK; e++) {
        slot *s = &r->slots[r->entry_slot[e]];
        s->fed += r->entries[e].n_tokens;
        if (r->entries[e].want == ANEMO_WANT_SAMPLE)
            status = take_token(r, s, r->step_results[e].id, err);
    }
    return status;
}

static anemo_status run(runner *r, const eval_share *share, anemo_error *err) {
    const int64_t n = r->cases->n;
    while (r->finished < n) {
        for (int32_t i = 0; i < r->n_slots && r->next < n; i++) {
            if (r->slots[i].session)
                continue;
            const anemo_status status = begin(r, &r->slots[i], r->next++, err);
            if (status != ANEMO_OK)
                return status;
        }
        const anemo_status status = step(r, err);
        if (status != ANEMO_OK)
            return status;
        if (!eval_share_show(r->engine, share, (double)r->finished / (double)n))
            return eval_cancelled(err);
    }
    return ANEMO_OK;
}

anemo_status eval_exact(const anemo_eval_engine *engine, const anemo_eval_cases *cases,
                        const char *stop, const eval_share *share, anemo_eval_result *results,
                        anemo_error *err) {
    const anemo_limits *limits = &engine->limits;
    int64_t n_slots = limits->sessions;
    n_slots = n_slots < limits->tokens_per_step ? n_slots : limits->tokens_per_step;
    n_slots = limits->logits_rows && limits->logits_rows < n_slots ? limits->logits_rows : n_slots;
    runner r = {.engine = engine,
                .cases = cases,
                .stop = stop,
                .results = results,
                .slots = calloc((size_t)n_slots, sizeof *r.slots),
                .n_slots = (int32_t)n_slots,
                .entries = malloc((size_t)n_slots * sizeof *r.entries),
                .step_results = malloc((size_t)n_slots * sizeof *r.step_results),
                .entry_slot = malloc((size_t)n_slots * sizeof *r.entry_slot)};
    anemo_status status =
        r.slots && r.entries && r.step_results && r.entry_slot
            ? run(&r, share, err)
            : anemo_fail(err, ANEMO_E_MEMORY, "no memory for %d sessions", r.n_slots);
    for (int32_t i = 0; r.slots && i < r.n_slots; i++)
        slot_free(&r.slots[i]);
    free(r.slots);
    free(r.entries);
    free(r.step_results);
    free(r.entry_slot);
    return status;
}
