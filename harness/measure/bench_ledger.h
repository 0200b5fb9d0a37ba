/* Ledgers of a whole model, and what they foretell.
 *
 * For the prefill and for each batch size, samples with the ledger take turns with samples without
 * it, so that its cost is a ratio of the same run. With a rule (`--what-if`), a second plan that
 * obeys it takes its turns too, and of each round
 *
 *     foretold = step of the base * (ledger - its calls that the rule changes + the same calls of
 *                                    the second plan) / ledger
 *
 * where the step ran without a ledger, and ledger and calls are what the two ledgers timed in
 * place. What the second plan's steps then took shows what the sum leaves out: caches left
 * otherwise, calls that the rule does not name. */
#ifndef ANEMO_BENCH_LEDGER_H
#define ANEMO_BENCH_LEDGER_H

#include "harness/measure/bench_model.h"
#include "harness/measure/ledger.h"

typedef struct anemo_ledger_line {
    int32_t batch;                    /* 0: prefill */
    anemo_estimate plain_s, ledger_s; /* per prefill or decode step, without and with the ledger */
    anemo_estimate ratio;             /* ledger / plain, paired */
    int64_t every;                    /* one step in so many was watched */
    double phase_s[ANEMO_PHASES]; /* median over the rounds, per prefill or step; 0: never ran */
    double share[ANEMO_PHASES];   /* of the time of all rounds */
    anemo_estimate unattributed;  /* share of each round */
    bool open;                    /* beyond ANEMO_LEDGER_OPEN */
} anemo_ledger_line;

typedef struct anemo_what_if_line {
    anemo_estimate calls;    /* the rule's calls: second plan / base */
    anemo_estimate foretold; /* step time / base's */
    anemo_estimate measured; /* step time / base's */
    anemo_estimate error;    /* foretold / measured - 1, round by round */
    double tokens_per_s[3];  /* base, foretold, measured */
} anemo_what_if_line;

typedef struct anemo_ledger_report {
    anemo_model_info info;
    int64_t prompt_tokens, generated_tokens, chunk_tokens;
    char *choices[2]; /* base, what if */
    anemo_ledger_line line[1 + ANEMO_BENCH_BATCHES];
    anemo_what_if_line what_if[1 + ANEMO_BENCH_BATCHES];
    int32_t n_lines;
    bool has_what_if;
} anemo_ledger_report;

/* rule: NULL, or what the second plan obeys besides options->spec.with. One record per line of the
 * base. */
anemo_status anemo_bench_ledger(anemo_device *device, const anemo_bench_model_options *options,
                                const char *rule, anemo_record_sink *sink, anemo_ledger_report *out,
                                anemo_error *err);
void anemo_ledger_report_free(anemo_ledger_report *report);

#endif
