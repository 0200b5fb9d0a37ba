/* Scoring against brute force: the same rules, written down a second time as one session, one
 * token, one case after the other, must give what the batched code gives, whatever the limits of
 * its plan. On a random model with the tokenizer of the default one. Then files that are refused,
 * and the command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "harness/eval/eval.h"
#include "tests/support/random_model.h"
#include "tests/support/run_program.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fixture {
    char *folder;
    anemo_model *model;
    anemo_device *device;
    const anemo_tokenizer *tokenizer;
    anemo_model_info info;
} fixture;

static anemo_error err;

static void ok(anemo_status status) {
    if (status != ANEMO_OK)
        fail_msg("%s: %s", anemo_status_name(status), err.text);
}

/* A plan with these limits, and the engine around it. */
/* Its tokens get the same bits one by one, as the slow functions below take them. */
static anemo_eval_engine engine_with(const fixture *f, int64_t tokens_per_step, int32_t sessions,
                                     int64_t logits_rows) {
    anemo_eval_engine e = {.tokenizer = f->tokenizer, .info = &f->info};
    e.limits = anemo_eval_limits(&f->info, 256, tokens_per_step);
    e.limits.sessions = sessions;
    e.limits.logits_rows = logits_rows;
    static const char *const with[] = {"batch-invariant"};
    const anemo_plan_options options = {.limits = e.limits, .with = with, .n_with = 1};
    ok(anemo_plan_create(f->model, f->device, &options, &e.plan, &err));
    return e;
}

/* ---------------------------------------------------------------- brute force */

/* Logits after one more token of a session. */
static const float *feed(const anemo_eval_engine *e, anemo_session *session, int32_t token) {
    anemo_step_result result;
    const anemo_step_entry entry = {
        .session = session, .tokens = &token, .n_tokens = 1, .want = ANEMO_WANT_LOGITS_LAST};
    ok(anemo_step_submit(e->plan, &entry, 1, &err));
    ok(anemo_step_wait(e->plan, &result, &err));
    return result.logits;
}

/* Sum of -log p of tokens[from..n), each given all before it: one session, one token a step. */
static double slow_nll(const anemo_eval_engine *e, const int32_t *tokens, int64_t from, int64_t n) {
    anemo_session *session;
    double nll = 0;
    ok(anemo_session_create(e->plan, &session, &err));
    for (int64_t i = 0; i + 1 < n; i++) {
        const float *logits = feed(e, session, tokens[i]);
        double sum = 0;
        for (int64_t v = 0; v < e->info->vocab; v++)
            sum += exp((double)logits[v]);
        if (i + 1 >= from)
            nll += log(sum) - (double)logits[tokens[i + 1]];
    }
    anemo_session_free(session);
    return nll;
}

static int32_t *encode(const fixture *f, const char *text, size_t *n) {
    int32_t *ids;
    ok(anemo_tokenizer_encode(f->tokenizer, text, strlen(text), true, &ids, n, &err));
    return ids;
}

#define SLOW_TOKENS 24

/* Greedy text after the prompt, up to SLOW_TOKENS tokens or an end token. */
static char *slow_text(const fixture *f, const anemo_eval_engine *e, const char *prompt) {
    size_t n, prompt_bytes, bytes;
    int32_t *ids = encode(f, prompt, &n);
    const size_t most = n + SLOW_TOKENS;
    ids = realloc(ids, most * sizeof *ids);
    char *head, *text;
    ok(anemo_tokenizer_decode(f->tokenizer, ids, n, &head, &prompt_bytes, &err));
    anemo_session *session;
    ok(anemo_session_create(e->plan, &session, &err));
    for (size_t i = 0; i < n && n < most; i++) {
        const float *logits = feed(e, session, ids[i]);
        int32_t best = 0;
        for (int32_t v = 1; v < f->info.vocab; v++)
            best = logits[v] > logits[best] ? v : best;
        if (i + 1 == n && best != f->info.eos[0])
            ids[n++] = best;
    }
    anemo_session_free(session);
    ok(anemo_tokenizer_decode(f->tokenizer, ids, n, &text, &bytes, &err));
    memmove(text, text + prompt_bytes, bytes - prompt_bytes + 1);
    free(head);
    free(ids);
    return text;
}

/* ---------------------------------------------------------------- exact match */

#define N_EXACT 24
#define STOP    "e"

/* Every third case gets the right answer (what greedy generation gives before the stop text), the
 * others one that is too short or has one wrong letter. Returns how many are right. */
static int exact_cases(const fixture *f, const anemo_eval_engine *e, anemo_eval_case *cases,
                       bool *want) {
    int right = 0;
    for (int i = 0; i < N_EXACT; i++) {
        char prompt[64];
        snprintf(prompt, sizeof prompt, i % 2 ? "sum %d+%d=" : "know %d red, %d blue", 7 * i + 3,
                 i);
        char *text = slow_text(f, e, prompt);
        const size_t n = strcspn(text, STOP); /* of one letter */
        const bool stopped = text[n];
        text[n] = 0;
        want[i] = stopped && n > 0 && i % 3 == 0;
        if (!n)
            strcpy(text, "x");
        else if (i % 3 == 1)
            text[n - 1] = text[n - 1] == 'z' ? 'y' : 'z';
        else if (i % 3 == 2)
            text[n - 1] = 0;
        if (!*text)
            strcpy(text, "x");
        cases[i] = (anemo_eval_case){
            .kind = strdup("k"), .level = 1, .prompt = strdup(prompt), .answer = text};
        right += want[i];
    }
    return right;
}

static void free_cases(anemo_eval_case *cases, int n) {
    for (int i = 0; i < n; i++) {
        free(cases[i].kind);
        free(cases[i].prompt);
        free(cases[i].answer);
        for (int j = 0; j < cases[i].n_choices; j++)
            free(cases[i].choices[j]);
    }
}

static void test_exact(void **state) {
    const fixture *f = *state;
    const anemo_eval_options options = {.exact = true, .stop = STOP};
    const struct {
        int64_t tokens_per_step;
        int32_t sessions;
        int64_t logits_rows;
    } limits[] = {{256, 64, 64}, {5, 3, 2}, {1, 1, 1}};
    anemo_eval_case items[N_EXACT];
    bool want[N_EXACT];
    anemo_eval_engine slow = engine_with(f, 64, 2, 64);
    const int right = exact_cases(f, &slow, items, want);
    anemo_plan_free(slow.plan);
    print_message("%d of %d greedy texts are answers\n", right, N_EXACT);
    assert_true(right >= 3);
    const anemo_eval_cases cases = {.items = items, .n = N_EXACT};
    for (int l = 0; l < 3; l++) {
        anemo_eval_engine e =
            engine_with(f, limits[l].tokens_per_step, limits[l].sessions, limits[l].logits_rows);
        anemo_eval_result results[N_EXACT];
        ok(anemo_eval_tasks(&e, &cases, &options, results, &err));
        for (int i = 0; i < N_EXACT; i++) {
            if (results[i].exact != want[i])
                fail_msg("case %d of limits %d: \"%s\" -> \"%s\"", i, l, items[i].prompt,
                         items[i].answer);
            assert_true(results[i].generated > 0);
        }
        anemo_plan_free(e.plan);
    }
    free_cases(items, N_EXACT);
}

/* ---------------------------------------------------------------- multiple choice */

#define N_CHOICE 8

/* Prompts with and without trailing spaces; choices of unequal length. */
static void choice_cases(anemo_eval_case *cases) {
    static const char *const prompts[] = {"know Ada red, Ben blue. Ada",
                                          "sort 3120=", "know Ada red, Ben blue. Ben  "};
    static const char *const choices[] = {
        " red", "0123", " blue", "ABCDEFG (", " lime green", "9", "\xc3\xa9t\xc3\xa9 7", " "};
    for (int i = 0; i < N_CHOICE; i++) {
        anemo_eval_case *c = &cases[i];
        *c = (anemo_eval_case){.kind = strdup("k"),
                               .level = 1 + i % 2,
                               .prompt = strdup(prompts[i % 3]),
                               .answer = strdup("x"),
                               .n_choices = 3 + i % 2,
                               .gold = i % 3};
        for (int j = 0; j < c->n_choices; j++)
            c->choices[j] = strdup(choices[(3 * i + j) % 7]);
    }
}

/* lm-evaluation-harness' pair: trailing spaces move to the choice; its tokens are those behind the
 * prompt's. */
static double slow_choice(const fixture *f, const anemo_eval_engine *e, const char *prompt,
                          const char *choice, int32_t *n_tokens) {
    char head[128], whole[256];
    size_t n = strlen(prompt), n_head, n_whole;
    while (n && prompt[n - 1] == ' ')
        n--;
    snprintf(head, sizeof head, "%.*s", (int)n, prompt);
    snprintf(whole, sizeof whole, "%s%s", prompt, choice);
    int32_t *head_ids = encode(f, head, &n_head), *whole_ids = encode(f, whole, &n_whole);
    memcpy(whole_ids, head_ids, n_head * sizeof *head_ids);
    *n_tokens = (int32_t)(n_whole - n_head);
    const double nll = slow_nll(e, whole_ids, (int64_t)n_head, (int64_t)n_whole);
    free(head_ids);
    free(whole_ids);
    return nll;
}

static int characters(const char *text) {
    int n = 0;
    for (text += *text == ' '; *text; text++)
        n += (*text & 0xc0) != 0x80;
    return n ? n : 1;
}

/* What the rules say of one case. */
static anemo_eval_result slow_case(const fixture *f, const anemo_eval_engine *e,
                                   const anemo_eval_case *c) {
    anemo_eval_result r = {0};
    double least = INFINITY, least_norm = INFINITY;
    for (int j = 0; j < c->n_choices; j++) {
        int32_t tokens;
        const double nll = slow_choice(f, e, c->prompt, c->choices[j], &tokens);
        if (j == c->gold)
            r.answer_nll = nll, r.answer_tokens = tokens;
        if (nll < least)
            least = nll, r.choice = j == c->gold;
        if (nll / characters(c->choices[j]) < least_norm)
            least_norm = nll / characters(c->choices[j]), r.choice_norm = j == c->gold;
    }
    return r;
}

static void test_choice(void **state) {
    const fixture *f = *state;
    const anemo_eval_options options = {.choice = true};
    const struct {
        int64_t tokens_per_step;
        int32_t sessions;
        int64_t logits_rows;
    } limits[] = {{256, 64, 64}, {3, 2, 2}, {7, 6, 1}};
    anemo_eval_case items[N_CHOICE];
    anemo_eval_result want[N_CHOICE];
    choice_cases(items);
    anemo_eval_engine slow = engine_with(f, 64, 2, 64);
    int right = 0, otherwise = 0;
    for (int i = 0; i < N_CHOICE; i++) {
        want[i] = slow_case(f, &slow, &items[i]);
        right += want[i].choice;
        otherwise += want[i].choice != want[i].choice_norm;
    }
    anemo_plan_free(slow.plan);
    print_message("%d of %d right, norm differs in %d\n", right, N_CHOICE, otherwise);
    assert_true(right > 0 && right < N_CHOICE && otherwise > 0);
    const anemo_eval_cases cases = {.items = items, .n = N_CHOICE};
    for (int l = 0; l < 3; l++) {
        anemo_eval_engine e =
            engine_with(f, limits[l].tokens_per_step, limits[l].sessions, limits[l].logits_rows);
        anemo_eval_result results[N_CHOICE];
        ok(anemo_eval_tasks(&e, &cases, &options, results, &err));
        for (int i = 0; i < N_CHOICE; i++) {
            if (!(fabs(results[i].answer_nll - want[i].answer_nll) <= 1e-4))
                fail_msg("case %d of limits %d: %.6f nats, expected %.6f", i, l,
                         results[i].answer_nll, want[i].answer_nll);
            assert_int_equal(results[i].answer_tokens, want[i].answer_tokens);
            assert_int_equal(results[i].choice, want[i].choice);
            assert_int_equal(results[i].choice_norm, want[i].choice_norm);
        }
        anemo_plan_free(e.plan);
    }
    free_cases(items, N_CHOICE);
}

/* ---------------------------------------------------------------- perplexity */

static const char TEXT[] =
    "sum 12+30=42\nknow Ada red, Ben blue. Ada red\n\ncopy "
    "ABCDEFGHIJKLMNOPQRST=ABCDEFGHIJKLMNOPQRST\n"
    "sort 4310298=0123489\nturn WXYZ=ZYXW\nmax 12 99 31=99\nhave Ada3, Ben4; Ada+2. Ada5\n"
    "close ([{<=>}])\nsum 7+8=15\nknow Cleo sand, Tia brown, Ada lime. Tia brown";

static void test_llama_rule(void **state) {
    const fixture *f = *state;
    enum { CONTEXT = 32 };
    anemo_eval_text text;
    size_t n;
    int32_t *ids = encode(f, TEXT, &n);
    ok(anemo_eval_text_make(f->tokenizer, TEXT, strlen(TEXT), ANEMO_EVAL_LLAMA, CONTEXT, &text,
                            &err));
    assert_int_equal(text.n_units, (int64_t)n / CONTEXT); /* the rest is left out */
    assert_true(text.n_units >= 4 && n % CONTEXT);
    anemo_eval_engine e = engine_with(f, 19, 3, 5);
    anemo_eval_unit *units = calloc((size_t)text.n_units, sizeof *units);
    ok(anemo_eval_windows(&e, &text, units, &err));
    for (int64_t c = 0; c < text.n_units; c++) {
        int32_t chunk[CONTEXT];
        memcpy(chunk, ids + c * CONTEXT, sizeof chunk);
        chunk[0] = anemo_tokenizer_bos(f->tokenizer);
        assert_int_equal(units[c].tokens, CONTEXT - CONTEXT / 2 - 1); /* 255 of 512 */
        assert_true(fabs(units[c].nll - slow_nll(&e, chunk, CONTEXT / 2 + 1, CONTEXT)) <= 1e-4);
    }
    free(units);
    free(ids);
    anemo_plan_free(e.plan);
    anemo_eval_text_free(&text);
    assert_int_equal(
        anemo_eval_text_make(f->tokenizer, TEXT, 40, ANEMO_EVAL_LLAMA, CONTEXT, &text, &err),
        ANEMO_E_INPUT); /* fewer than two chunks */
    assert_non_null(strstr(err.text, "too short"));
}

/* get_rolling_token_windows of lm-evaluation-harness, and its sum over them: every token of a line
 * once, in windows of at most `context`, the last of which is full. */
static double slow_rolling(const anemo_eval_engine *e, const int32_t *ids, int64_t n,
                           int64_t context) {
    const int32_t *tokens = ids + 1; /* ids[0] is BOS, the prefix token */
    const int64_t length = n - 1, first = length < context ? length : context;
    double nll = slow_nll(e, ids, 1, first + 1);
    for (int64_t predicted = first, size; predicted < length; predicted += size) {
        size = length - predicted < context ? length - predicted : context;
        const int64_t end = predicted + size, begin = end - context - 1;
        nll += slow_nll(e, tokens + begin, end - size - begin, end - begin);
    }
    return nll;
}

/* Every token of every line once; a long line goes on as lm-evaluation-harness has it. */
static void test_document_rule(void **state) {
    const fixture *f = *state;
    enum { CONTEXT = 12 };
    anemo_eval_text text;
    ok(anemo_eval_text_make(f->tokenizer, TEXT, strlen(TEXT), ANEMO_EVAL_LM_EVAL, CONTEXT, &text,
                            &err));
    assert_int_equal(text.n_units, 10); /* the empty line is none */
    assert_true(text.n_windows > text.n_units);
    anemo_eval_engine e = engine_with(f, 64, 5, 64);
    anemo_eval_unit units[10];
    ok(anemo_eval_windows(&e, &text, units, &err));
    assert_int_equal(text.bytes, (int64_t)strlen(TEXT) - 10); /* ten newlines */
    assert_int_equal(text.words, 37);
    const char *line = TEXT;
    for (int64_t u = 0; u < 10; u++) {
        line += *line == '\n';
        char copy[256];
        const size_t bytes = strcspn(line, "\n");
        snprintf(copy, sizeof copy, "%.*s", (int)bytes, line);
        line += bytes + (line[bytes] == '\n');
        size_t n;
        int32_t *ids = encode(f, copy, &n);
        const double nll = slow_rolling(&e, ids, (int64_t)n, CONTEXT);
        assert_int_equal(units[u].tokens, n - 1);
        if (!(fabs(units[u].nll - nll) <= 1e-4))
            fail_msg("document %d: %.6f nats, expected %.6f", (int)u, units[u].nll, nll);
        free(ids);
    }
    anemo_plan_free(e.plan);
    anemo_eval_text_free(&text);
}

/* KL and top-1 of one target after another, from probabilities. */
static void slow_divergence(const anemo_eval_engine *a, const anemo_eval_engine *b,
                            const anemo_eval_window *w, double *kl, int64_t *same_top) {
    anemo_session *s, *t;
    const int64_t vocab = a->info->vocab;
    ok(anemo_session_create(a->plan, &s, &err));
    ok(anemo_session_create(b->plan, &t, &err));
    for (int32_t i = 0; i + 1 < w->n; i++) {
        const float *x = feed(a, s, w->tokens[i]), *y = feed(b, t, w->tokens[i]);
        double sum_x = 0, sum_y = 0, row = 0;
        int64_t top_x = 0, top_y = 0;
        for (int64_t v = 0; v < vocab; v++) {
            sum_x += exp((double)x[v]), sum_y += exp((double)y[v]);
            top_x = x[v] > x[top_x] ? v : top_x;
            top_y = y[v] > y[top_y] ? v : top_y;
        }
        for (int64_t v = 0; v < vocab; v++) {
            const double p = exp((double)x[v]) / sum_x, q = exp((double)y[v]) / sum_y;
            row += p * log(p / q);
        }
        if (i + 1 >= w->score_from)
            *kl += row, *same_top += top_x == top_y;
    }
    anemo_session_free(s);
    anemo_session_free(t);
}

static void test_divergence(void **state) {
    const fixture *f = *state;
    fixture q4 = *f;
    const anemo_model_options options = {.requantise = "q4_0", .window = -1};
    ok(anemo_model_open(f->folder, &options, &q4.model, &err));
    anemo_eval_text text;
    ok(anemo_eval_text_make(f->tokenizer, TEXT, strlen(TEXT), ANEMO_EVAL_LLAMA, 32, &text, &err));
    anemo_eval_engine a = engine_with(f, 19, 3, 5), b = engine_with(&q4, 23, 2, 7);
    anemo_eval_unit *units = calloc((size_t)text.n_units, sizeof *units);
    anemo_eval_unit *alone = calloc((size_t)text.n_units, sizeof *alone);
    anemo_eval_divergence_unit *d = calloc((size_t)text.n_units, sizeof *d);
    ok(anemo_eval_windows(&b, &text, alone, &err));
    ok(anemo_eval_windows_against(&a, &b, &text, units, d, &err));
    double total = 0;
    for (int64_t u = 0; u < text.n_units; u++) {
        double kl = 0;
        int64_t same_top = 0;
        slow_divergence(&a, &b, &text.windows[u], &kl, &same_top);
        assert_true(fabs(units[u].nll - alone[u].nll) <= 1e-4);
        if (!(fabs(d[u].kl - kl) <= 1e-4) || d[u].same_top != same_top || d[u].tokens != 15)
            fail_msg("chunk %d: KL %.6f, expected %.6f", (int)u, d[u].kl, kl);
        assert_true(d[u].kl_max <= d[u].kl && d[u].kl_max >= d[u].kl / 15);
        total += kl;
    }
    const anemo_divergence all = anemo_eval_divergence(d, text.n_units);
    assert_true(all.kl.value > 1e-5 && all.kl.lo < all.kl.value && all.kl.hi > all.kl.value);
    assert_true(fabs(all.kl.value * (double)all.tokens - total) <= 1e-3);
    assert_true(all.same_top.value > 0 && all.same_top.value < 1);
    /* From itself: exactly nothing. */
    ok(anemo_eval_windows_against(&a, &a, &text, units, d, &err));
    const anemo_divergence none = anemo_eval_divergence(d, text.n_units);
    assert_true(none.kl.value == 0 && none.kl_max == 0 && none.same_top.value == 1);
    free(units);
    free(alone);
    free(d);
    anemo_plan_free(a.plan);
    anemo_plan_free(b.plan);
    anemo_eval_text_free(&text);
    anemo_model_close(q4.model);
}

static bool stop_at_once(void *ctx, double share) {
    *(double *)ctx = share;
    return false;
}

static void test_cancel(void **state) {
    const fixture *f = *state;
    double share = -1;
    anemo_eval_case items[N_CHOICE];
    anemo_eval_result results[N_CHOICE];
    choice_cases(items);
    const anemo_eval_cases cases = {.items = items, .n = N_CHOICE};
    const anemo_eval_options options = {.exact = true, .choice = true};
    anemo_eval_engine e = engine_with(f, 64, 5, 64);
    e.progress = stop_at_once;
    e.progress_ctx = &share;
    assert_int_equal(anemo_eval_tasks(&e, &cases, &options, results, &err), ANEMO_E_CANCELLED);
    assert_true(share >= 0 && share < 0.5);
    anemo_session *sessions[5]; /* nothing is left over: all can be made again */
    for (int i = 0; i < 5; i++)
        ok(anemo_session_create(e.plan, &sessions[i], &err));
    for (int i = 0; i < 5; i++)
        anemo_session_free(sessions[i]);
    anemo_plan_free(e.plan);
    free_cases(items, N_CHOICE);
}

/* ---------------------------------------------------------------- task files */

static const char GOOD[] =
    "{\"kind\": \"a\", \"level\": 1, \"prompt\": \"p\", \"answer\": \"x\"}\n\n"
    "{\"kind\": \"a\", \"level\": 2, \"prompt\": \"q\", \"answer\": \"x\", \"choices\": [\"x\", "
    "\"y\"], \"gold\": 1}\n"
    "{\"kind\": \"a\", \"level\": 2, \"prompt\": \"r\", \"answer\": \"x\"}\n"
    "{\"kind\": \"b\", \"level\": 3, \"prompt\": \"\", \"answer\": \"x\"}";

static int64_t load(const char *folder, const anemo_eval_filter *filter) {
    anemo_eval_cases cases;
    ok(anemo_eval_cases_load(folder, filter, &cases, &err));
    const int64_t n = cases.n;
    assert_int_equal(strlen(cases.sha256), 64);
    anemo_eval_cases_free(&cases);
    return n;
}

static void test_task_files(void **state) {
    (void)state;
    char *folder = test_folder_create(), path[512];
    snprintf(path, sizeof path, "%s/one.jsonl", folder);
    test_write_file(path, GOOD, strlen(GOOD));
    assert_int_equal(load(folder, NULL), 4);
    assert_int_equal(load(path, NULL), 4);
    assert_int_equal(load(path, &(anemo_eval_filter){.kinds = "c,b"}), 1);
    assert_int_equal(load(path, &(anemo_eval_filter){.level_least = 2, .level_most = 3}), 3);
    assert_int_equal(load(path, &(anemo_eval_filter){.limit = 1}), 3);
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"{\"kind\": 3}", "\"kind\""},
        {"{\"kind\": \"a\", \"kind\": \"a\"}", "duplicate"},
        {"[1]", "not a JSON object"},
        {"{\"kind\": \"a\", \"level\": 0}", "\"level\""},
        {"{\"kind\": \"a\", \"level\": 1, \"prompt\": \"\\u0000\", \"answer\": \"x\"}",
         "one.jsonl:1"},
        {"{\"kind\": \"a\", \"level\": 1, \"prompt\": \"p\"}", "\"answer\""},
        {"{\"kind\": \"a\", \"level\": 1, \"prompt\": \"p\", \"answer\": \"\xff\"}", "one.jsonl:1"},
        {"{\"kind\": \"a\", \"level\": 1, \"prompt\": \"p\", \"answer\": \"x\", \"gold\": 0}",
         "\"choices\""},
        {"{\"kind\": \"a\", \"level\": 1, \"prompt\": \"p\", \"answer\": \"x\", \"choices\": "
         "[\"x\", "
         "\"y\"], \"gold\": 2}",
         "\"gold\""},
        {"", "no case"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        anemo_eval_cases cases;
        test_write_file(path, bad[i].text, strlen(bad[i].text));
        assert_int_equal(anemo_eval_cases_load(path, NULL, &cases, &err), ANEMO_E_INPUT);
        if (!strstr(err.text, bad[i].says) || !strstr(err.text, "one.jsonl"))
            fail_msg("\"%s\" does not speak of %s", err.text, bad[i].says);
        assert_null(cases.items);
    }
    test_folder_remove(folder);
}

/* What does not fit into the model is refused before anything runs; what fits gets room for its
 * answer. */
static void test_context(void **state) {
    const fixture *f = *state;
    char prompt[400], answer[] = "0123456789";
    memset(prompt, 'Q', sizeof prompt); /* letters are tokens of their own */
    anemo_eval_case item = {.kind = answer, .level = 1, .prompt = prompt, .answer = answer};
    const anemo_eval_cases cases = {.items = &item, .n = 1};
    const anemo_eval_options options = {.exact = true};
    int64_t context, n;
    size_t count;
    prompt[100] = 0;
    free(encode(f, prompt, &count));
    n = (int64_t)count;
    ok(anemo_eval_cases_context(f->tokenizer, &cases, &options, 256, &context, &err));
    assert_true(context >= n + 11 && context <= 256); /* the answer and an end token */
    ok(anemo_eval_cases_context(f->tokenizer, &cases, &options, n + 10, &context, &err));
    assert_int_equal(context, n + 10);
    assert_int_equal(
        anemo_eval_cases_context(f->tokenizer, &cases, &options, n + 9, &context, &err),
        ANEMO_E_INPUT);
    assert_non_null(strstr(err.text, "positions"));
}

static void test_limits(void **state) {
    (void)state;
    /* Mistral 7B: 256 KiB of f32 keys and values a token, 16 sessions of 512 in 2 GiB. */
    const anemo_model_info big = {.vocab = 32000, .layers = 32, .kv_heads = 8, .head_dim = 128};
    anemo_limits l = anemo_eval_limits(&big, 512, 512);
    assert_int_equal(l.sessions, 16);
    assert_int_equal(l.logits_rows, 512);
    l = anemo_eval_limits(&big, 32768, 512);
    assert_int_equal(l.sessions, 2);
    const anemo_model_info wide = {.vocab = 262144, .layers = 1, .kv_heads = 1, .head_dim = 64};
    l = anemo_eval_limits(&wide, 512, 256);
    assert_int_equal(l.sessions, 128);
    assert_int_equal(l.logits_rows, 64); /* 64 MiB */
}

/* ---------------------------------------------------------------- the command */

static void test_command(void **state) {
    const fixture *f = *state;
    char tasks[512], text[512], records[512];
    snprintf(tasks, sizeof tasks, "%s/t.jsonl", f->folder);
    snprintf(text, sizeof text, "%s/t.txt", f->folder);
    snprintf(records, sizeof records, "%s/r.jsonl", f->folder);
    test_write_file(tasks, GOOD, strlen(GOOD));
    test_write_file(text, TEXT, strlen(TEXT));
    program_result r = program_run("eval", f->folder, "--tasks", tasks, "--text", text, "--weights",
                                   "stored,q8_0,stored", "--format", "json", "--record", records);
    if (r.code)
        fail_msg("exit %d: %s", r.code, r.err);
    json_t *out = json_loads(r.out, 0, NULL);
    assert_non_null(out);
    /* a/1, a/2, b/3 and all, of three forms */
    assert_int_equal(json_array_size(json_object_get(out, "scores")), 12);
    assert_int_equal(json_array_size(json_object_get(out, "perplexity")), 3);
    const json_t *differences = json_object_get(out, "differences");
    assert_int_equal(json_array_size(differences), 8); /* exact, choice, answer nats, text, twice */
    for (size_t i = 4; i < 8; i++)                     /* the same form again: nothing at all */
        assert_true(
            json_number_value(json_object_get(json_array_get(differences, i), "difference")) == 0);
    json_decref(out);
    program_result_free(&r);
    size_t bytes;
    char *lines = test_read_file(records, &bytes);
    assert_non_null(lines);
    int n = 0;
    for (const char *at = lines; (at = strstr(at, "\"kind\":\"eval\"")); at++)
        n++;
    assert_int_equal(n, 3 * (4 + 2 + 1) + 2 * 4); /* exact 4, choice 2, text 1; differences 4 */
    free(lines);
}

/* Two directories and a reference: one line each in the summary, and the divergence of all but the
 * first. */
static void test_command_against(void **state) {
    const fixture *f = *state;
    char text[512], records[512];
    snprintf(text, sizeof text, "%s/t.txt", f->folder);
    snprintf(records, sizeof records, "%s/a.jsonl", f->folder);
    test_write_file(text, TEXT, strlen(TEXT));
    program_result r = program_run("eval", f->folder, "--text", text, "--weights", "stored,q4_0",
                                   "--against", "stored", "--format", "json", "--record", records);
    if (r.code)
        fail_msg("exit %d: %s", r.code, r.err);
    json_t *out = json_loads(r.out, 0, NULL);
    assert_non_null(out);
    assert_int_equal(json_array_size(json_object_get(out, "summary")), 2);
    const json_t *divergence = json_object_get(out, "divergence");
    assert_int_equal(json_array_size(divergence), 1);
    const double kl = json_number_value(json_object_get(json_array_get(divergence, 0), "kl"));
    const double second = json_number_value(
        json_object_get(json_array_get(json_object_get(out, "summary"), 1), "kl"));
    assert_true(kl > 1e-5 && kl == second);
    json_decref(out);
    program_result_free(&r);
    size_t bytes;
    char *lines = test_read_file(records, &bytes);
    assert_non_null(strstr(lines, "\"name\":\"kl\""));
    assert_non_null(strstr(lines, "\"name\":\"same_top\""));
    free(lines);
    r = program_run("eval", f->folder, "--text", text, "--against",
                    ANEMO_TEST_DIR "/data/models/mixtral-window");
    assert_int_equal(r.code, 2);
    program_result_free(&r);
}

static void test_command_refuses(void **state) {
    const fixture *f = *state;
    const struct {
        const char *arguments[8]; /* ended by NULL */
        const char *says;
    } wrong[] = {
        {{"eval", f->folder}, "--tasks"},
        {{"eval", f->folder, "--text", "/nonexistent"}, "/nonexistent"},
        {{"eval", f->folder, "--weights", "q5_1", "--text", "x"}, "q8_0"},
        {{"eval", f->folder, "--level", "3..1", "--tasks", "x"}, "--level"},
        {{"eval", f->folder, "--stop", "", "--tasks", "x"}, "--stop"},
        {{"eval", "/nonexistent", "--text", "/dev/null"}, "/nonexistent"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        program_result r = program_run_with(NULL, wrong[i].arguments);
        if (r.code != 2 || !strstr(r.err, wrong[i].says))
            fail_msg("case %d: exit %d: %s", (int)i, r.code, r.err);
        program_result_free(&r);
    }
}

/* ---------------------------------------------------------------- main */

static int set_up(void **state) {
    static fixture f;
    f.folder = test_folder_create();
    random_model_write(f.folder, 5);
    const anemo_model_options options = {.window = -1};
    ok(anemo_model_open(f.folder, &options, &f.model, &err));
    f.info = *anemo_model_describe(f.model);
    f.tokenizer = anemo_model_tokenizer(f.model, &err);
    assert_non_null(f.tokenizer);
    ok(anemo_device_create_cpu(2, NULL, &f.device, &err));
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    anemo_device_free(f->device);
    anemo_model_close(f->model);
    test_folder_remove(f->folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),      cmocka_unit_test(test_choice),
        cmocka_unit_test(test_llama_rule), cmocka_unit_test(test_document_rule),
        cmocka_unit_test(test_cancel),     cmocka_unit_test(test_task_files),
        cmocka_unit_test(test_context),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_command),    cmocka_unit_test(test_command_refuses),
        cmocka_unit_test(test_divergence), cmocka_unit_test(test_command_against),
    };
    return cmocka_run_group_tests_name("eval", tests, set_up, tear_down);
}
