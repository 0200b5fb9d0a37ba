/* One model in one stored form, scored on tasks and texts: opens the model, makes a plan that fits
 * the cases, runs them. What `anemo eval` and `anemo demo` share. */
#ifndef ANEMO_EVAL_SUITE_H
#define ANEMO_EVAL_SUITE_H

#include "harness/eval/eval.h"
#include "harness/measure/choices.h"
#include "harness/record/record.h"

#define ANEMO_EVAL_TEXTS 8

typedef struct anemo_eval_text_source {
    const char *path; /* named in reports */
    anemo_eval_rule rule;
    int64_t context; /* 0: 512, or what the model has when that is less */
} anemo_eval_text_source;

typedef struct anemo_eval_suite {
    const char *model; /* path */
    /* Divergence on the texts from this model in this form; NULL: none. */
    const char *reference;
    const char *reference_requantise; /* NULL: as stored */
    const char *reference_label;      /* in records */
    const anemo_eval_cases *cases;    /* NULL: no tasks */
    anemo_eval_options rules;
    anemo_eval_text_source texts[ANEMO_EVAL_TEXTS];
    int32_t n_texts;
    const char *const *with; /* rules for the plan */
    int32_t n_with;
    const anemo_choices *choices; /* of this machine, for the model alone; NULL: none */
    anemo_kv_type kv_type;
    bool window_given;                         /* false: the model's */
    int64_t window;                            /* as anemo_model_options.window */
    const char *packed_cache;                  /* as in anemo_plan_options */
    bool (*progress)(void *ctx, double share); /* of this run; false cancels; may be NULL */
    void *progress_ctx;
} anemo_eval_suite;

/* What one form of the weights scored. */
typedef struct anemo_eval_run {
    char weights[32]; /* as the model says: "bf16", "q4_0" */
    char label[176];  /* in tables: the weights; the caller may put the model's name before them */
    anemo_model_info info;
    anemo_limits limits;
    char *choices; /* variants of the plan, joined by "; " */
    double resident_bytes;
    anemo_eval_result *results; /* [cases->n], NULL without cases */
    struct {
        anemo_eval_unit *units;
        anemo_eval_divergence_unit *divergence; /* NULL: there was no reference */
        int64_t n_units, context, words, bytes; /* as in anemo_eval_text */
        char sha256[65];
    } texts[ANEMO_EVAL_TEXTS];
} anemo_eval_run;

/* requantise: NULL (as stored), "q8_0" or "q4_0". Refuses synthetic models: their accuracy means
 * nothing. */
anemo_status anemo_eval_suite_run(const anemo_eval_suite *suite, anemo_device *device,
                                  const char *requantise, anemo_eval_run *out, anemo_error *err);
void anemo_eval_run_free(anemo_eval_run *run);

/* Do both runs have the same targets in every text? Another tokenizer cuts other ones. */
bool anemo_eval_suite_comparable(const anemo_eval_suite *suite, const anemo_eval_run *a,
                                 const anemo_eval_run *b);

/* Everything that b and a have in common, compared in pairs; Holm over all of it. Writes at most
 * ANEMO_EVAL_COMPARISONS + ANEMO_EVAL_TEXTS; returns how many, -1 without memory. */
int32_t anemo_eval_suite_compare(const anemo_eval_suite *suite, const anemo_eval_run *a,
                                 const anemo_eval_run *b, anemo_eval_comparison *out);

typedef struct anemo_eval_record_info {
    anemo_device *device;
    const char *repro; /* the command that does this again */
    bool demo;         /* of the embedded default model */
} anemo_eval_record_info;

/* Writes the records of a run; with a baseline also the paired differences from it. */
anemo_status anemo_eval_suite_record(const anemo_eval_suite *suite, const anemo_eval_run *run,
                                     const anemo_eval_run *baseline,
                                     const anemo_eval_record_info *info, anemo_record_sink *sink,
                                     anemo_error *err);

#endif
