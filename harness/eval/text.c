/* Perplexity. A rule cuts a text into windows; each window runs from an empty session, and -log p
 * of its targets is summed per unit (chunk or document), in double.
 *
 * The interval: tokens of one unit are not independent, so the unit is what varies. The mean per
 * token is a ratio of sums; its standard error is that of a ratio estimator over units (Cochran,
 * Sampling Techniques, chapter 2), with t for units - 1 degrees. llama-perplexity's own +/- takes
 * every token as independent and is narrower. */
#include "harness/eval/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *anemo_eval_rule_name(anemo_eval_rule rule) {
    return rule == ANEMO_EVAL_LLAMA ? "llama-perplexity" : "lm-eval";
}

/* ---------------------------------------------------------------- rules */

static anemo_status add_window(anemo_eval_text *t, const int32_t *before, const int32_t *tokens,
                               int64_t n, int32_t score_from, anemo_error *err) {
    if ((t->n_windows & (t->n_windows - 1)) == 0) { /* room doubles at powers of two */
        const size_t room = t->n_windows ? 2 * (size_t)t->n_windows : 1;
        anemo_eval_window *windows = realloc(t->windows, room * sizeof *windows);
        if (!windows)
            return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the text");
        t->windows = windows;
    }
    anemo_eval_window *w = &t->windows[t->n_windows];
    *w = (anemo_eval_window){.tokens = malloc((size_t)(n + 1) * sizeof *w->tokens),
                             .n = (int32_t)n + 1,
                             .score_from = score_from,
                             .unit = t->n_units};
    if (!w->tokens)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the text");
    w->tokens[0] = *before;
    memcpy(w->tokens + 1, tokens, (size_t)n * sizeof *tokens);
    t->n_windows++;
    return ANEMO_OK;
}

/* Targets n/2 + 1 .. n-1 of every whole chunk of n, whose first token is BOS. */
static anemo_status cut_llama(const anemo_tokenizer *tokenizer, const char *text, size_t text_bytes,
                              anemo_eval_text *out, anemo_error *err) {
    const int32_t bos = anemo_tokenizer_bos(tokenizer);
    const int64_t context = out->context;
    int32_t *ids;
    size_t n;
    anemo_status status = anemo_tokenizer_encode(tokenizer, text, text_bytes, true, &ids, &n, err);
    if (status != ANEMO_OK)
        return status;
    if ((int64_t)n < 2 * context)
        status = anemo_fail(
            err, ANEMO_E_INPUT,
            "a text of %zu tokens is too short for the rule llama-perplexity with a context of "
            "%lld, which needs %lld",
            n, (long long)context, (long long)(2 * context));
    for (int64_t at = 0; status == ANEMO_OK && at + context <= (int64_t)n; at += context) {
        status = add_window(out, &bos, ids + at + 1, context - 1, (int32_t)(context / 2) + 1, err);
        out->n_units++;
    }
    free(ids);
    return status;
}

/* The pieces that Python's re.split(r"\\s+", text) gives, with ASCII white space. */
static int64_t count_words(const char *text, size_t bytes) {
    int64_t words = 1;
    for (size_t i = 0; i < bytes; i++)
        words += strchr(" \t\n\v\f\r", text[i]) && text[i] &&
                 (i == 0 || !strchr(" \t\n\v\f\r", text[i - 1]) || !text[i - 1]);
    return words;
}

/* One line: BOS and its tokens, in windows of at most `context` positions. A window is `before` and
 * the tokens behind it, of which the last is only a target. */
static anemo_status cut_document(const anemo_tokenizer *tokenizer, const char *line, size_t bytes,
                                 anemo_eval_text *out, anemo_error *err) {
    const int64_t context = out->context;
    int32_t *ids;
    size_t n;
    anemo_status status = anemo_tokenizer_encode(tokenizer, line, bytes, true, &ids, &n, err);
    if (status != ANEMO_OK)
        return status;
    for (int64_t at = 1; status == ANEMO_OK && at < (int64_t)n; at += context) {
        const int64_t left = (int64_t)n - at, size = left < context ? left : context;
        /* The last window begins earlier, so that it is full. */
        const int64_t back = at > 1 ? context - size : 0;
        status = add_window(out, &ids[at - 1 - back], ids + at - back, size + back,
                            1 + (int32_t)back, err);
    }
    free(ids);
    out->n_units++;
    out->words += count_words(line, bytes);
    out->bytes += (int64_t)bytes;
    return status;
}

static anemo_status cut_lines(const anemo_tokenizer *tokenizer, const char *text, size_t text_bytes,
                              anemo_eval_text *out, anemo_error *err) {
    anemo_status status = ANEMO_OK;
    for (const char *line = text, *end = text + text_bytes; line < end && status == ANEMO_OK;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const size_t n = (size_t)((newline ? newline : end) - line);
        if (n)
            status = cut_document(tokenizer, line, n, out, err);
        line += n + 1;
    }
    if (status == ANEMO_OK && !out->n_windows)
        status = anemo_fail(err, ANEMO_E_INPUT, "the text has no line that is not empty");
    return status;
}

anemo_status anemo_eval_text_make(const anemo_tokenizer *tokenizer, const char *text,
                                  size_t text_bytes, anemo_eval_rule rule, int64_t context,
                                  anemo_eval_text *out, anemo_error *err) {
    memset(out, 0, sizeof *out);
    if (anemo_tokenizer_bos(tokenizer) < 0)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "the tokenizer has no BOS token, which both rules begin with");
    if (context < 4 || context > INT32_MAX / 2)
        return anemo_fail(err, ANEMO_E_INPUT, "a context of %lld: at least 4 is needed",
                          (long long)context);
    out->context = context;
    out->rule = rule;
    anemo_sha256_of(text, text_bytes, out->sha256);
    const anemo_status status = rule == ANEMO_EVAL_LLAMA
                                    ? cut_llama(tokenizer, text, text_bytes, out, err)
                                    : cut_lines(tokenizer, text, text_bytes, out, err);
    if (status != ANEMO_OK)
        anemo_eval_text_free(out);
    return status;
}

void anemo_eval_text_free(anemo_eval_text *text) {
    for (int64_t i = 0; i < text->n_windows; i++)
        free(text->windows[i].tokens);
    free(text->windows);
    memset(text, 0, sizeof *text);
}

/* ---------------------------------------------------------------- running */

typedef struct scoring {
    const anemo_eval_engine *engine;
    const anemo_eval_window *windows; /* of the lines in progress */
    anemo_eval_unit *units;
} scoring;

static void on_row(void *ctx, int64_t line, int32_t row, const float *logits) {
    const scoring *s = ctx;
    const anemo_eval_window *w = &s->windows[line];
    anemo_eval_unit *unit = &s->units[w->unit];
    unit->nll += eval_log_sum(logits, s->engine->info->vocab) - (double)logits[w->tokens[row + 1]];
    unit->tokens++;
}

anemo_status eval_run_windows(const anemo_eval_engine *engine, const anemo_eval_window *windows,
                              int64_t n, eval_row row, void *ctx, anemo_error *err) {
    eval_line *lines = calloc((size_t)n, sizeof *lines);
    if (!lines)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %lld sessions", (long long)n);
    anemo_status status = ANEMO_OK;
    for (int64_t i = 0; i < n && status == ANEMO_OK; i++) {
        const anemo_eval_window *w = &windows[i];
        /* The last token is only a target; row r predicts token r + 1. */
        lines[i] = (eval_line){.tokens = w->tokens, .n = w->n - 1, .rows_from = w->score_from - 1};
        status = anemo_session_create(engine->plan, &lines[i].session, err);
    }
    if (status == ANEMO_OK)
        status = eval_run_lines(engine, lines, n, row, ctx, err);
    for (int64_t i = 0; i < n; i++)
        anemo_session_free(lines[i].session);
    free(lines);
    return status;
}

anemo_status anemo_eval_windows(const anemo_eval_engine *engine, const anemo_eval_text *text,
                                anemo_eval_unit *units, anemo_error *err) {
    const int64_t at_once = engine->limits.sessions;
    scoring s = {.engine = engine, .units = units};
    const eval_share whole = {0, 1};
    memset(units, 0, (size_t)text->n_units * sizeof *units);
    anemo_status status = ANEMO_OK;
    for (int64_t i = 0; i < text->n_windows && status == ANEMO_OK; i += at_once) {
        const int64_t n = text->n_windows - i < at_once ? text->n_windows - i : at_once;
        s.windows = text->windows + i;
        status = eval_run_windows(engine, s.windows, n, on_row, &s, err);
        if (status == ANEMO_OK &&
            !eval_share_show(engine, &whole, (double)(i + n) / (double)text->n_windows))
            status = eval_cancelled(err);
    }
    return status;
}

/* ---------------------------------------------------------------- figures */

anemo_interval eval_mean(const anemo_eval_unit *minus, const anemo_eval_unit *units, int64_t n,
                         double *standard_error) {
    double nll = 0, tokens = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        nll += units[i].nll - (minus ? minus[i].nll : 0);
        tokens += (double)units[i].tokens;
    }
    const double mean = nll / tokens, nd = (double)n;
    for (int64_t i = 0; i < n; i++) {
        const double value = units[i].nll - (minus ? minus[i].nll : 0);
        squares +=
            (value - mean * (double)units[i].tokens) * (value - mean * (double)units[i].tokens);
    }
    const double error = n > 1 ? sqrt(squares * nd / (nd - 1)) / tokens : NAN;
    const double half = n > 1 ? anemo_student_t(0.05, nd - 1) * error : NAN;
    if (standard_error)
        *standard_error = error;
    return (anemo_interval){mean, mean - half, mean + half};
}

anemo_perplexity anemo_eval_perplexity(const anemo_eval_unit *units, int64_t n) {
    anemo_perplexity p = {.units = n};
    for (int64_t i = 0; i < n; i++)
        p.tokens += units[i].tokens;
    p.nll = eval_mean(NULL, units, n, NULL);
    p.perplexity = (anemo_interval){exp(p.nll.value), exp(p.nll.lo), exp(p.nll.hi)};
    return p;
}
