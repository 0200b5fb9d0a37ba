/* Is this file the published checkpoint that it looks like, and do we read it as its makers do?
 *
 * Facts (results/reference/checkpoints.jsonl) say what is published about a checkpoint: its shape,
 * the SHA-256 of a file, token ids, logits, continuations, perplexities, each with source and date.
 * A model is a candidate for a checkpoint when all its shape fits; only a SHA-256 identifies it,
 * because fine-tuned models have their base's shape. Whatever is published and applies is then
 * compared. */
#ifndef ANEMO_VERIFY_H
#define ANEMO_VERIFY_H

#include "models/engine.h"

#include <jansson.h>

typedef enum anemo_fact_kind {
    ANEMO_FACT_SHAPE,        /* fields of anemo_model_info, by their names */
    ANEMO_FACT_FILE,         /* file, bytes, sha256 */
    ANEMO_FACT_TOKENS,       /* text, bos, ids */
    ANEMO_FACT_LOGITS,       /* ids; mean: of each position, or rows: its first values; tolerance */
    ANEMO_FACT_CONTINUATION, /* ids, repeat, times: the prompt; next: greedy */
    ANEMO_FACT_PERPLEXITY, /* weights, rule, context, text, text_sha256, value, tolerance (share) */
    ANEMO_FACT_KINDS
} anemo_fact_kind;
const char *anemo_fact_kind_name(anemo_fact_kind kind);

typedef struct anemo_fact {
    anemo_fact_kind kind;
    const char *checkpoint, *source, *as_of; /* of json */
    json_t *json;
} anemo_fact;

typedef struct anemo_facts {
    anemo_fact *items;
    int32_t n;
} anemo_facts;

/* ANEMO_E_INPUT names file, line, key and what is accepted. */
anemo_status anemo_facts_load(const char *path, anemo_facts *out, anemo_error *err);
void anemo_facts_free(anemo_facts *facts);

typedef enum anemo_verify_verdict {
    ANEMO_VERIFY_AGREES,
    ANEMO_VERIFY_DIFFERS,
    ANEMO_VERIFY_NOT_RUN /* `here` says why */
} anemo_verify_verdict;

typedef struct anemo_verify_line {
    const anemo_fact *fact;
    anemo_verify_verdict verdict;
    char published[96], here[192];
} anemo_verify_line;

typedef struct anemo_verify_options {
    const char *path;        /* of the model */
    const char *text;        /* for perplexities; NULL: they are not run */
    const char *const *with; /* rules for the plan */
    int32_t n_with;
} anemo_verify_options;

typedef struct anemo_verify_report {
    anemo_model_info info;
    char checkpoint[64];      /* "": unknown */
    bool identified;          /* by SHA-256; else by its shape alone */
    char others[256];         /* more checkpoints of this shape, joined by ", " */
    anemo_verify_line *lines; /* of `checkpoint` */
    int32_t n_lines;
} anemo_verify_report;

anemo_status anemo_verify(const anemo_verify_options *options, const anemo_facts *facts,
                          anemo_device *device, anemo_verify_report *out, anemo_error *err);
void anemo_verify_report_free(anemo_verify_report *report);

#endif
