/* `anemo tune`: every call of a model's plan, at every range of rows, with each variant that takes
 * it; what is measured, and what is chosen.
 *
 * A cell is one problem of one role at one number of rows. It is measured as `bench kernel` would:
 * random weights of the call's type and size, each variant right on that very problem first, then
 * all in turns, times as medians, ratios to the default's paired. Quantising the input is part of
 * the call where a variant wants it. Weights are cold unless those that a token of the model reads
 * would stay in the caches.
 *
 * Measured are the variants that read activations in a format no coarser than the default's: what a
 * model says is not to change for the sake of speed.
 *
 * Left out, too, are those that read weights as their file holds them: what would be timed is the
 * reader of the bench's weights and not that of the file.
 *
 * A variant takes the default's place where the whole interval of its ratio lies below 1. Another
 * layout than the default's serves all rows of a role, so it is taken only when none of the role's
 * cells is slower with it beyond the interval, and one is faster. Of what remains, the role's
 * smallest geometric mean wins. */
#ifndef ANEMO_TUNE_H
#define ANEMO_TUNE_H

#include "harness/measure/choices.h"
#include "harness/measure/sample.h"

/* ---------------------------------------------------------------- choosing */

enum { ANEMO_TUNE_VARIANTS = 32 };

typedef struct anemo_tune_line {
    const anemo_variant *variant;
    anemo_estimate time_s, ratio; /* time over the default's, paired */
    int32_t arm;                  /* of the cell's samples */
} anemo_tune_line;

typedef struct anemo_tune_cell {
    int64_t m_lo, m_hi, m;
    const void *problem;
    char problem_text[160];
    const anemo_variant *default_variant;
    anemo_tune_line lines[ANEMO_TUNE_VARIANTS]; /* the default's is among them */
    int32_t n_lines;
    anemo_samples samples;
} anemo_tune_cell;

/* chosen[n]: indices into the cells' lines. Cells of one role; those with the same m_lo get the
 * same variant, unless all of them keep their defaults. */
void anemo_tune_decide(const anemo_tune_cell *cells, int32_t n, int32_t *chosen);

/* ---------------------------------------------------------------- the run */

typedef struct anemo_tune_options {
    const char *path, *requantise; /* as anemo_model_open takes them */
    bool window_given;
    int64_t window;
    const char *kv_type; /* NULL: f16 */
    int64_t depth;       /* positions before the new ones, of attention; 0: 1024 */
    const char *filter;  /* only calls "OP@ROLE" with this in them; NULL: all */
    anemo_stop stop;     /* of each cell */
    uint64_t seed;
    bool (*interrupted)(void);
    void (*progress)(void *ctx, double done, double total, const char *what); /* may be NULL */
    void *progress_ctx;
} anemo_tune_options;

typedef struct anemo_tune_report {
    anemo_model_info info;
    bool cold;
    anemo_choices_entry *entries;
    int32_t n_entries, n_chosen;    /* n_chosen: other variants than the default */
    char (*remarks)[300];           /* calls that keep their default unmeasured, and why */
    int32_t n_remarks, n_incorrect; /* variants whose check failed, a remark each */
} anemo_tune_report;

/* ANEMO_E_CANCELLED: interrupted; *out holds the roles that were finished. */
anemo_status anemo_tune(anemo_device *device, const anemo_tune_options *options,
                        anemo_tune_report *out, anemo_error *err);
void anemo_tune_report_free(anemo_tune_report *report);

#endif
