/* A file of choices: which variants `anemo tune` found fastest on one machine, for one shape of
 * model. JSON, one object:
 *
 *     {"schema_version": 1, "kind": "choices",
 *      "machine": {"id", "isa", "backend", "threads"},
 *      "build": {"version", "code_hash"},
 *      "model": {"name", "architecture", "weights", "kv_type", "vocab", "d", "ffn", "heads",
 *                "kv_heads", "head_dim", "experts", "experts_per_token", "window"},
 *      "sampling": {"stop", "cache", "seed"},
 *      "entries": [{"op", "role", "m_lo", "m_hi", "m", "problem", "default", "variant",
 *                   "time_s", "time_lo_s", "time_hi_s", "samples",
 *                   "ratio", "ratio_lo", "ratio_hi",
 *                   "runner_up", "runner_up_ratio", "runner_up_ratio_lo", "runner_up_ratio_hi"}]}
 *
 * m_hi null: no end. ratio: time over the default's; runner_up and its time over the chosen one's
 * are null where nothing else was measured.
 *
 * A file is untrusted. It is refused where it cannot hold: on another machine, ISA level, backend
 * or shape of model, or when it names variants that are not there. Where its times may no longer
 * hold, with other kernels or another number of threads, it is taken and `warning` says so. */
#ifndef ANEMO_CHOICES_H
#define ANEMO_CHOICES_H

#include "harness/measure/stats.h"
#include "harness/record/record.h"
#include "kernels/device.h"
#include "models/engine.h"

#include <stdio.h>

enum { ANEMO_CHOICES_SCHEMA = 1, ANEMO_CHOICES_ENTRIES = 1024 };

/* ---------------------------------------------------------------- writing */

typedef struct anemo_choices_entry {
    anemo_op op;
    char role[24];         /* "" where the op has one */
    int64_t m_lo, m_hi, m; /* m_hi INT64_MAX: no end; m: where it was measured */
    char problem[160];
    const anemo_variant *default_variant, *variant, *runner_up; /* runner_up NULL: none */
    anemo_estimate time_s, ratio, runner_up_ratio;
} anemo_choices_entry;

typedef struct anemo_choices_head {
    const anemo_model_info *info;
    const char *kv_type, *stop, *cache;
    uint64_t seed;
} anemo_choices_head;

anemo_status anemo_choices_write(const anemo_choices_head *head, anemo_device *device,
                                 const anemo_choices_entry *entries, int32_t n, FILE *out,
                                 anemo_error *err);

/* "OP@ROLE:m=LO..HI=VARIANT" */
void anemo_choices_rule(const anemo_choices_entry *entry, char *text, size_t bytes);

/* ---------------------------------------------------------------- reading */

typedef struct anemo_choices {
    char path[1024], sha256[65];
    char warning[512]; /* "": none */
    /* What it is for. */
    char architecture[32], weights[32], kv_type[8];
    int64_t vocab, d, ffn, heads, kv_heads, head_dim, experts, experts_per_token, window;
    /* Rules where another variant than the default was chosen; those of ops that touch keys and
     * values stand last, from n_common on. */
    char (*text)[192];
    const char **rules;
    int32_t n_rules, n_common, n_entries;
} anemo_choices;

/* ANEMO_E_INPUT: file, field and value in one sentence. */
anemo_status anemo_choices_read(const char *path, anemo_device *device, anemo_choices **out,
                                anemo_error *err);
void anemo_choices_free(anemo_choices *choices);
/* Fields of "solution": name and hash of the file. choices NULL: none. */
void anemo_choices_record(const anemo_choices *choices, anemo_record *record);
/* Its rules for a plan of this model with keys and values of this type. choices NULL: none.
 * ANEMO_E_INPUT: made for another shape of model. */
anemo_status anemo_choices_for(const anemo_choices *choices, const anemo_model_info *info,
                               const char *kv_type, const char *const **rules, int32_t *n_rules,
                               anemo_error *err);

#endif
