/* The gate: did this change make anything slower? A policy around compare.h.
 *
 *   1  What cannot have changed is not measured: a case whose variant has the same code hash in
 *      both builds is UNCHANGED, and so is a model when the whole engine has (code_hash.h). All
 *      other cases are due, model cases whenever anything in the engine or any kernel changed.
 *   2  Canaries, in the same job: this build against itself, and against the same objects linked in
 *      another order. Slot swap: base and head change places, and the ratio must invert. If the
 *      99 % interval of a canary lies outside 1 / (1 + delta) .. 1 + delta, or the swapped ratio's
 *      does not meet the other's, the job says nothing about the change.
 *   3  Each due case is served by the two builds as processes and sampled in turns.
 *
 * A base that is a file of records can prove cases unchanged; what it cannot do is PASS or REGRESS
 * one, because it was not measured together with this build: those stay INCONCLUSIVE. */
#ifndef ANEMO_GATE_H
#define ANEMO_GATE_H

#include "harness/compare/side.h"

#include <limits.h>

/* ---------------------------------------------------------------- the base */

typedef struct anemo_gate_hash {
    char name[96], hash[65]; /* of a variant, or "engine" */
    int64_t code_bytes;      /* -1: not known */
} anemo_gate_hash;

typedef struct anemo_gate_base {
    char what[160];         /* for people: "REV (abc123)", a path */
    char program[PATH_MAX]; /* "": records */
    char scratch[PATH_MAX]; /* removed by close; "": none */
    char repository[PATH_MAX];
    anemo_gate_hash *hashes;
    int32_t n_hashes; /* 0: a build that does not tell; everything is due */
} anemo_gate_base;

/* An executable file, a folder with an executable `anemo` in it, a file of records (*.jsonl), or a
 * revision of the git repository around the working directory, which is built in a scratch folder
 * with the settings of the build that `head` (this program) lies in. ANEMO_E_INPUT: none of these.
 * ANEMO_E_DEVICE: it could not be built; the sentence names the log, which is then kept. */
anemo_status anemo_gate_base_open(const char *what, const char *head, anemo_gate_base *out,
                                  anemo_error *err);
void anemo_gate_base_close(anemo_gate_base *base);
/* NULL: unknown. */
const anemo_gate_hash *anemo_gate_hash_of(const anemo_gate_base *base, const char *name);

/* Runs a program to its end; *out (may be NULL: not wanted) is what it printed, \0-terminated, free
 * it. folder NULL: here; log NULL: its stderr is ours. Returns its exit code, 128 + signal, or -1:
 * it could not be started. */
int anemo_gate_capture(const char *const *arguments, const char *folder, const char *log,
                       char **out);

/* ---------------------------------------------------------------- cases */

typedef enum anemo_gate_state {
    ANEMO_GATE_DUE,
    ANEMO_GATE_UNCHANGED, /* proven by the hash */
    ANEMO_GATE_NEW,       /* a variant that the base has not */
} anemo_gate_state;

typedef struct anemo_gate_case {
    char name[256];
    anemo_gate_state state;
    const anemo_variant *variant; /* NULL: a model's decode */
    char shape[96], weights[24], caches[16];
    char model[PATH_MAX]; /* "": the embedded one */
    int64_t m, prompt, tokens, batch;
} anemo_gate_case;

enum { ANEMO_GATE_CASES = 512 };

typedef struct anemo_gate_plan {
    anemo_gate_case *cases;
    int32_t n, n_due, n_unchanged, n_new;
} anemo_gate_plan;

/* The cases that are taken without a file. */
extern const char anemo_gate_usual_cases[];

/* One line each, # begins a comment:
 *     OP SHAPE M[,M...] warm|cold-weights     every variant of the op that runs here, with the
 * first weight type that it takes model MODEL PROMPT TOKENS BATCH         decode; MODEL "default"
 * is the embedded one filter NULL: all; else only cases with it in their name. all: also what is
 * unchanged is due. ANEMO_E_INPUT "NAME:LINE: ...". Free the plan. */
anemo_status anemo_gate_plan_make(const char *name, const char *text, const char *filter, bool all,
                                  anemo_device *device, uint64_t seed, const anemo_gate_base *base,
                                  anemo_gate_plan *out, anemo_error *err);
void anemo_gate_plan_free(anemo_gate_plan *plan);

/* ---------------------------------------------------------------- measuring */

typedef struct anemo_gate_setting {
    const char *head, *relinked; /* programs; relinked NULL: there is none */
    const anemo_gate_base *base;
    const char *default_model; /* path of the embedded one: both builds decode the same files */
    const char *callgrind_isa; /* --isa for counting instructions: what valgrind knows */
    bool has_cuda;             /* this build has CUDA code */
    anemo_compare_rule rule;
    double sample_ns;
    int32_t threads; /* 0: one per core */
    uint64_t seed;
    anemo_compare_hooks hooks;
} anemo_gate_setting;

typedef enum anemo_gate_trial {
    ANEMO_GATE_SAME,
    ANEMO_GATE_RELINKED,
    ANEMO_GATE_SWAPPED
} anemo_gate_trial;

/* A canary or a swap. */
typedef struct anemo_gate_check {
    anemo_gate_trial trial;
    const anemo_gate_case *c;
    anemo_status status;
    anemo_error error;
    anemo_estimate ratio;  /* 99 %; of a swap: the inverse of what was measured */
    anemo_estimate direct; /* of a swap: the ratio of the case itself, 99 % */
    bool good;
} anemo_gate_check;

enum { ANEMO_GATE_CHECKS = 6 };

typedef struct anemo_gate_outcome {
    anemo_compare_result *results; /* [n_due] in the order of the plan's due cases */
    const anemo_gate_case **due;
    int32_t n_due;
    anemo_gate_check checks[ANEMO_GATE_CHECKS];
    int32_t n_checks;
} anemo_gate_outcome;

/* Measures what is due, and the canaries if anything is. ANEMO_E_CANCELLED: interrupted; *out holds
 * what was measured. Free it in any case. */
anemo_status anemo_gate_measure(const anemo_gate_plan *plan, const anemo_gate_setting *setting,
                                anemo_gate_outcome *out, anemo_error *err);
void anemo_gate_outcome_free(anemo_gate_outcome *outcome);

/* Is a canary's interval acceptable: does any of it lie within 1 / (1 + delta) .. 1 + delta? */
bool anemo_gate_canary_good(const anemo_estimate *ratio, double delta);
/* Do the intervals of a case and of its swap, inverted, come within 1 + delta of each other? The
 * two are measured one after the other, so the machine may have drifted in between. */
bool anemo_gate_swap_good(const anemo_estimate *direct, const anemo_estimate *inverted,
                          double delta);

#endif
