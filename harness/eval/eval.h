/* Scores of a model on texts and tasks with known answers, and whether two scores of the same cases
 * differ.
 *
 * Three ways of scoring, each a named rule, so that a figure can be compared with other programs':
 *   exact    greedy generation from the prompt until an end token or the stop text; right iff the
 * text is the answer, byte for byte choice   log-likelihood of each choice after the prompt,
 * tokenised as lm-evaluation-harness does (trailing spaces of the prompt move to the choice; the
 * choice's tokens are those of prompt + choice behind the prompt's); `acc` takes the largest sum,
 * `acc_norm` the largest sum per character; ties: the first text     perplexity: the chunk rule of
 * llama-perplexity, or one document per line
 *
 * All of them run many sessions in each step. Two runs over the same cases are compared pair by
 * pair, which is far more sensitive than comparing two intervals: most of the noise is which cases
 * were drawn, and that cancels. */
#ifndef ANEMO_EVAL_H
#define ANEMO_EVAL_H

#include "harness/eval/interval.h"
#include "models/engine.h"

/* ---------------------------------------------------------------- the engine that is scored */

typedef struct anemo_eval_engine {
    anemo_plan *plan;
    const anemo_tokenizer *tokenizer; /* NULL will do for anemo_eval_windows */
    const anemo_model_info *info;
    anemo_limits limits; /* what the plan was made with */
    /* Called between steps with the share done, 0 .. 1; false cancels (ANEMO_E_CANCELLED). May be
     * NULL. */
    bool (*progress)(void *ctx, double share);
    void *progress_ctx;
} anemo_eval_engine;

/* Limits for scoring sequences of at most `context` tokens with at most `tokens_per_step` rows a
 * step: as many sessions as are of use and fit into 2 GiB of keys and values. */
anemo_limits anemo_eval_limits(const anemo_model_info *info, int64_t context,
                               int64_t tokens_per_step);

/* ---------------------------------------------------------------- tasks */

#define ANEMO_EVAL_CHOICES 26

typedef struct anemo_eval_case {
    char *kind;
    int32_t level;
    char *prompt, *answer;
    char *choices[ANEMO_EVAL_CHOICES]; /* in the order of the file */
    int32_t n_choices;                 /* 0: no multiple choice */
    int32_t gold;                      /* choices[gold] is right */
} anemo_eval_case;

typedef struct anemo_eval_filter {
    const char *kinds;               /* "sum,copy"; NULL: all */
    int32_t level_least, level_most; /* 0, 0: all */
    int64_t limit;                   /* first cases of each kind and level; 0: all */
} anemo_eval_filter;

typedef struct anemo_eval_cases {
    anemo_eval_case *items;
    int64_t n;
    char sha256[65]; /* of the bytes of all files read, in the order of their names */
} anemo_eval_cases;

/* path: a .jsonl file, or a directory whose *.jsonl are all read, in the order of their names. Each
 * line is an object {kind, level, prompt, answer[, choices, gold]}. ANEMO_E_INPUT names file, line,
 * field, and what is accepted. */
anemo_status anemo_eval_cases_load(const char *path, const anemo_eval_filter *filter,
                                   anemo_eval_cases *out, anemo_error *err);
void anemo_eval_cases_free(anemo_eval_cases *cases);

typedef struct anemo_eval_options {
    bool exact, choice; /* which rules */
    const char *stop;   /* generation also ends where this text appears (not part of the answer);
                           NULL: none */
} anemo_eval_options;

typedef struct anemo_eval_result {
    bool exact;               /* exact */
    bool choice, choice_norm; /* choice: acc, acc_norm */
    double answer_nll;        /* choice: -log p(gold choice | prompt), nats */
    int32_t answer_tokens;    /* choice: tokens of the gold choice */
    int32_t generated;        /* exact: tokens generated until the verdict was fixed */
} anemo_eval_result;

/* Positions that the longest case needs under these rules: what to give to anemo_eval_limits.
 * ANEMO_E_INPUT names a case whose right answer does not fit into context_max. */
anemo_status anemo_eval_cases_context(const anemo_tokenizer *tokenizer,
                                      const anemo_eval_cases *cases,
                                      const anemo_eval_options *options, int64_t context_max,
                                      int64_t *context, anemo_error *err);
/* results[cases->n]; cases without choices are left out of `choice` (answer_tokens 0). */
anemo_status anemo_eval_tasks(const anemo_eval_engine *engine, const anemo_eval_cases *cases,
                              const anemo_eval_options *options, anemo_eval_result *results,
                              anemo_error *err);

/* Scores of one kind and level. */
typedef struct anemo_eval_score {
    const char *kind; /* of cases, or "all" */
    int32_t level;    /* 0: all levels */
    int64_t n, n_choice;
    anemo_interval exact, choice, choice_norm; /* 95 % Wilson */
    double answer_nll;                         /* nats per answer, mean */
} anemo_eval_score;

/* Scores of all kinds and levels, in the order of the file, and of everything at the end. Returns
 * their number; writes at most `most`. */
#define ANEMO_EVAL_SCORES 256 /* kinds x levels that reports have room for */
int32_t anemo_eval_scores(const anemo_eval_cases *cases, const anemo_eval_result *results,
                          anemo_eval_score *scores, int32_t most);

/* ---------------------------------------------------------------- text */

/* Tokens run from an empty session; targets are tokens[score_from] .. tokens[n-1], each given all
 * before it. */
typedef struct anemo_eval_window {
    int32_t *tokens;
    int32_t n, score_from; /* 1 <= score_from <= n */
    int64_t unit;          /* chunk or document that it belongs to */
} anemo_eval_window;

typedef enum anemo_eval_rule {
    /* "llama-perplexity": the whole text tokenised once, BOS in front; chunks of `context` that do
     * not overlap, the rest left out; the first token of each chunk replaced by BOS; the targets
     * behind the first half scored. */
    ANEMO_EVAL_LLAMA,
    /* "lm-eval": loglikelihood_rolling of lm-evaluation-harness. Every line is a document: BOS,
     * then the line without its newline; every token scored once, BOS and end not. Empty lines are
     * left out. A document longer than the context goes on in a new window that sees one token of
     * the old; the last window sees as much of the old as fits into the context. */
    ANEMO_EVAL_LM_EVAL
} anemo_eval_rule;
const char *anemo_eval_rule_name(anemo_eval_rule rule); /* "llama-perplexity", "lm-eval" */

typedef struct anemo_eval_text {
    anemo_eval_window *windows;
    int64_t n_windows, n_units;
    int64_t context;
    anemo_eval_rule rule;
    char sha256[65]; /* of the text */
    /* LM_EVAL: of the scored documents, as its word_perplexity and bits_per_byte count them (the
     * pieces between runs of white space); else 0. */
    int64_t words, bytes;
} anemo_eval_text;

/* ANEMO_E_INPUT when the text is too short for the rule, or the tokenizer has no BOS. */
anemo_status anemo_eval_text_make(const anemo_tokenizer *tokenizer, const char *text,
                                  size_t text_bytes, anemo_eval_rule rule, int64_t context,
                                  anemo_eval_text *out, anemo_error *err);
void anemo_eval_text_free(anemo_eval_text *text);

/* What one unit cost: sum of -log p over its targets, nats. */
typedef struct anemo_eval_unit {
    double nll;
    int64_t tokens;
} anemo_eval_unit;

/* units[text->n_units], filled. */
anemo_status anemo_eval_windows(const anemo_eval_engine *engine, const anemo_eval_text *text,
                                anemo_eval_unit *units, anemo_error *err);

/* How far a model is from a reference in one unit: over its targets, the sum and the largest of
 * KL(reference || model) in nats, and how often both hold the same token likeliest. */
typedef struct anemo_eval_divergence_unit {
    double kl, kl_max;
    int64_t same_top, tokens;
} anemo_eval_divergence_unit;

/* As anemo_eval_windows, and beside it the divergence from `reference`, which runs the same windows
 * in turns with it: logits are never kept for more than a few windows. Both must have this text's
 * vocabulary. */
anemo_status anemo_eval_windows_against(const anemo_eval_engine *reference,
                                        const anemo_eval_engine *engine,
                                        const anemo_eval_text *text, anemo_eval_unit *units,
                                        anemo_eval_divergence_unit *divergence, anemo_error *err);

typedef struct anemo_divergence {
    anemo_interval kl, same_top; /* per token; 95 %, t over units */
    double kl_max;
    int64_t tokens, units;
} anemo_divergence;
anemo_divergence anemo_eval_divergence(const anemo_eval_divergence_unit *units, int64_t n);

typedef struct anemo_perplexity {
    anemo_interval nll,
        perplexity; /* 95 %: t over units, tokens of one unit not taken as independent */
    int64_t tokens, units;
} anemo_perplexity;
anemo_perplexity anemo_eval_perplexity(const anemo_eval_unit *units, int64_t n);

/* ---------------------------------------------------------------- two runs over the same cases */

typedef struct anemo_eval_comparison {
    const char *metric;
    int64_t n;                 /* pairs */
    double a, b;               /* the two values */
    anemo_interval difference; /* b - a, 95 % */
    double p;                  /* two-sided; exact for shares, Student's t for means */
    double p_holm;             /* after anemo_eval_holm */
    double detectable; /* smallest |difference| that would be seen 4 times in 5 at the 5 % level */
    int64_t only_a, only_b; /* shares: cases that only one got right; means: -1 */
    bool different;         /* p_holm < 0.05 */
} anemo_eval_comparison;

/* Shares right: exact McNemar test; the interval is that of the sign test on the discordant cases.
 */
anemo_eval_comparison anemo_eval_compare_shares(const char *metric, const bool *a, const bool *b,
                                                int64_t n);
/* Mean nats per token (per answer when all units have tokens 1) of two runs with equal `tokens`. */
anemo_eval_comparison anemo_eval_compare_nll(const char *metric, const anemo_eval_unit *a,
                                             const anemo_eval_unit *b, int64_t n);
/* Holm's correction over the comparisons of one table; sets p_holm and different. */
void anemo_eval_holm(anemo_eval_comparison *comparisons, int32_t n);

/* exact, choice acc and answer nats of two results over the same cases, as far as both have them,
 * Holm applied. Writes at most 3; returns how many, or -1 without memory. */
#define ANEMO_EVAL_COMPARISONS 3
int32_t anemo_eval_compare(const anemo_eval_cases *cases, const anemo_eval_options *options,
                           const anemo_eval_result *a, const anemo_eval_result *b,
                           anemo_eval_comparison *out);

#endif
