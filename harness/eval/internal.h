/* What the files of harness/eval share. */
#ifndef ANEMO_EVAL_INTERNAL_H
#define ANEMO_EVAL_INTERNAL_H

#include "harness/eval/eval.h"

/* The whole of a regular file, malloc'ed, NUL behind it. */
anemo_status eval_read_file(const char *path, char **text, size_t *bytes, anemo_error *err);

/* ---------------------------------------------------------------- batch.c */

/* A sequence of tokens to feed to one session. Rows before `rows_from` are only appended; from
 * there on each row's logits go to the callback. */
typedef struct eval_line {
    anemo_session *session;
    const int32_t *tokens;
    int32_t n, rows_from;
    int32_t done; /* 0 at first; n at the end */
} eval_line;

/* logits[vocab] after tokens[row] of lines[line]. */
typedef void (*eval_row)(void *ctx, int64_t line, int32_t row, const float *logits);

/* Feeds every line to its end, as many at once as the limits allow. */
anemo_status eval_run_lines(const anemo_eval_engine *engine, eval_line *lines, int64_t n,
                            eval_row row, void *ctx, anemo_error *err);

/* log sum exp of a row, in double: -log p(id) = this - logits[id]. */
double eval_log_sum(const float *logits, int64_t vocab);
/* KL(reference || logits) of two rows, nats. */
double eval_kl(const float *reference, const float *logits, int64_t vocab);

/* ---------------------------------------------------------------- text.c */

/* Runs n windows, each from an empty session, at most limits.sessions of them; `row` sees the rows
 * that predict a target: row r of window i predicts windows[i].tokens[r + 1]. */
anemo_status eval_run_windows(const anemo_eval_engine *engine, const anemo_eval_window *windows,
                              int64_t n, eval_row row, void *ctx, anemo_error *err);

/* A part of the whole work, for progress. */
typedef struct eval_share {
    double from, to;
} eval_share;
/* done: 0 .. 1 of this part. false: the caller wants to stop. */
bool eval_share_show(const anemo_eval_engine *engine, const eval_share *share, double done);
anemo_status eval_cancelled(anemo_error *err);

/* ---------------------------------------------------------------- exact.c, choice.c */

anemo_status eval_exact(const anemo_eval_engine *engine, const anemo_eval_cases *cases,
                        const char *stop, const eval_share *share, anemo_eval_result *results,
                        anemo_error *err);
anemo_status eval_choice(const anemo_eval_engine *engine, const anemo_eval_cases *cases,
                         const eval_share *share, anemo_eval_result *results, anemo_error *err);
/* Tokens that an answer and the stop text may need at most. */
int32_t eval_answer_room(const anemo_eval_case *c, const char *stop);

/* Mean nats per token over units, or of the differences units - minus (same tokens), with its 95 %
 * interval and, if wanted, standard error (NaN for fewer than 2 units). */
anemo_interval eval_mean(const anemo_eval_unit *minus, const anemo_eval_unit *units, int64_t n,
                         double *standard_error);

#endif
