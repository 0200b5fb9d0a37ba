/* How far a model's distributions are from those of a reference: the Kullback-Leibler divergence
 * KL(reference || model) = sum p (ln p - ln q) per token, and how often both have the same token on
 * top. It sees damage that perplexity hides, which only looks at the one token that came.
 *
 * Both models run the same windows in turns, so that the reference's logits are kept for a few
 * windows only (KEPT_BYTES); llama-perplexity keeps them in a file, rounded to 16 bits, and leaves
 * out p below e^-16, so its divergence of a model from itself is not 0. Here it is: every sum is in
 * double over all tokens. */
#include "harness/eval/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_BYTES ((int64_t)256 << 20)

typedef struct pairing {
    const anemo_eval_window *windows; /* of the lines in progress */
    int64_t vocab;
    int64_t *first; /* kept row of each line's first target */
    float *kept;    /* the reference's logits, [rows, vocab] */
    anemo_eval_unit *units;
    anemo_eval_divergence_unit *divergence;
} pairing;

static float *kept_row(const pairing *p, int64_t line, int32_t row) {
    return p->kept + (p->first[line] + row + 1 - p->windows[line].score_from) * p->vocab;
}

static void keep_row(void *ctx, int64_t line, int32_t row, const float *logits) {
    const pairing *p = ctx;
    memcpy(kept_row(p, line, row), logits, (size_t)p->vocab * sizeof *logits);
}

static int64_t largest(const float *logits, int64_t n) {
    int64_t at = 0;
    for (int64_t i = 1; i < n; i++)
        at = logits[i] > logits[at] ? i : at;
    return at;
}

double eval_kl(const float *reference, const float *logits, int64_t vocab) {
    const double log_p = eval_log_sum(reference, vocab), log_q = eval_log_sum(logits, vocab);
    double kl = 0;
    for (int64_t i = 0; i < vocab; i++) {
        const double ln_p = (double)reference[i] - log_p, p = exp(ln_p);
        if (p > 0)
            kl += p * (ln_p - ((double)logits[i] - log_q));
    }
    return kl;
}

static void compare_row(void *ctx, int64_t line, int32_t row, const float *logits) {
    const pairing *p = ctx;
    const anemo_eval_window *w = &p->windows[line];
    const float *reference = kept_row(p, line, row);
    anemo_eval_unit *unit = &p->units[w->unit];
    anemo_eval_divergence_unit *d = &p->divergence[w->unit];
    const double kl = eval_kl(reference, logits, p->vocab);
    unit->nll += eval_log_sum(logits, p->vocab) - (double)logits[w->tokens[row + 1]];
    unit->tokens++;
    d->kl += kl;
    d->kl_max = fmax(d->kl_max, kl);
    d->same_top += largest(reference, p->vocab) == largest(logits, p->vocab);
    d->tokens++;
}

static int64_t targets(const anemo_eval_window *w) {
    return w->n - w->score_from;
}

/* How many of the windows from `at` on go together: as many as both have sessions for and as fit
 * into KEPT_BYTES, but one at least. Fills p->first; *rows: what they need. */
static int64_t next_batch(pairing *p, const anemo_eval_text *text, int64_t at, int64_t sessions,
                          int64_t *rows) {
    const int64_t room = KEPT_BYTES / (p->vocab * (int64_t)sizeof(float));
    int64_t n = 0;
    *rows = 0;
    while (n < sessions && at + n < text->n_windows &&
           (n == 0 || *rows + targets(&text->windows[at + n]) <= room)) {
        p->first[n] = *rows;
        *rows += targets(&text->windows[at + n++]);
    }
    return n;
}

static anemo_status run_batch(pairing *p, const anemo_eval_engine *reference,
                              const anemo_eval_engine *engine, int64_t n, int64_t rows,
                              anemo_error *err) {
    p->kept = malloc((size_t)(rows * p->vocab) * sizeof *p->kept);
    if (!p->kept)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the logits of the reference");
    anemo_status status = eval_run_windows(reference, p->windows, n, keep_row, p, err);
    if (status == ANEMO_OK)
        status = eval_run_windows(engine, p->windows, n, compare_row, p, err);
    free(p->kept);
    return status;
}

anemo_status anemo_eval_windows_against(const anemo_eval_engine *reference,
                                        const anemo_eval_engine *engine,
                                        const anemo_eval_text *text, anemo_eval_unit *units,
                                        anemo_eval_divergence_unit *divergence, anemo_error *err) {
    const int64_t a = reference->limits.sessions, b = engine->limits.sessions;
    const int64_t sessions = a < b ? a : b;
    pairing p = {.vocab = engine->info->vocab, .units = units, .divergence = divergence};
    const eval_share whole = {0, 1};
    if (reference->info->vocab != p.vocab)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s has %lld tokens, the reference %s has %lld; accepted: the same",
                          engine->info->name, (long long)p.vocab, reference->info->name,
                          (long long)reference->info->vocab);
    memset(units, 0, (size_t)text->n_units * sizeof *units);
    memset(divergence, 0, (size_t)text->n_units * sizeof *divergence);
    p.first = malloc((size_t)sessions * sizeof *p.first);
    anemo_status status = p.first ? ANEMO_OK : ANEMO_E_MEMORY;
    for (int64_t i = 0, n, rows; i < text->n_windows && status == ANEMO_OK; i += n) {
        n = next_batch(&p, text, i, sessions, &rows);
        p.windows = text->windows + i;
        status = run_batch(&p, reference, engine, n, rows, err);
        if (status == ANEMO_OK &&
            !eval_share_show(engine, &whole, (double)(i + n) / (double)text->n_windows))
            status = eval_cancelled(err);
    }
    free(p.first);
    return status;
}

/* ---------------------------------------------------------------- figures */

anemo_divergence anemo_eval_divergence(const anemo_eval_divergence_unit *units, int64_t n) {
    anemo_divergence d = {.units = n};
    anemo_eval_unit *values = malloc(2 * (size_t)n * sizeof *values); /* kl, then same_top */
    if (!values)
        return (anemo_divergence){.kl = {NAN, NAN, NAN}, .same_top = {NAN, NAN, NAN}};
    for (int64_t i = 0; i < n; i++) {
        values[i] = (anemo_eval_unit){units[i].kl, units[i].tokens};
        values[n + i] = (anemo_eval_unit){(double)units[i].same_top, units[i].tokens};
        d.kl_max = fmax(d.kl_max, units[i].kl_max);
        d.tokens += units[i].tokens;
    }
    d.kl = eval_mean(NULL, values, n, NULL);
    d.same_top = eval_mean(NULL, values + n, n, NULL);
    d.same_top.lo = fmax(d.same_top.lo, 0);
    d.same_top.hi = fmin(d.same_top.hi, 1);
    free(values);
    return d;
}
