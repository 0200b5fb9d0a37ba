/* From the records of one machine kind to the speed of another that was not measured. Pure, and
 * deliberately narrow: it refuses rather than to be wrong by an unknown amount.
 *
 * A record of `bench model` holds what a step took, and with `--ledger` what each class of calls in
 * it took. A class of arithmetic intensity I (operations per byte of memory) takes at best
 * max(1 / read, I / peak) per byte, so that on another machine it takes
 *
 *     max(1 / read', I / peak') / max(1 / read, I / peak)
 *
 * times as long, when the same code comes as near to its roof there: classes that wait for memory
 * go by the ratio of read bandwidths, those that compute by the ratio of peaks. Matrix products
 * have I = 2 rows / (bytes per weight); of experts, the rows that reach one. Attention computes in
 * the prefill and reads in decode; norms, rotation, dispatch and the rest read; the host's share
 * stays. A record without a ledger is one matrix product.
 *
 * "As near to its roof" holds within an architecture only: code for sm_90 says nothing about
 * sm_100. Scaling decode from H100 to B200 by bandwidth was optimistic by 1.7 (median) with a
 * standard deviation of the logarithm of 0.50 over 150 published pairs, and one measured kind
 * cannot tell by how much. So other architectures are refused. Within one, the deviation is our
 * assumption, 0.15, and beside it half of what telling memory from arithmetic wrongly would cost.
 */
#ifndef ANEMO_COST_PROJECT_H
#define ANEMO_COST_PROJECT_H

#include "harness/cost/reference.h"
#include "harness/record/record.h"

typedef struct anemo_machine_kind {
    char name[64];
    double read, peak;    /* byte/s, op/s in bf16, of one unit, as published */
    double memory;        /* bytes of one unit; NaN: not known */
    double cores;         /* of a CPU socket; NaN: a GPU */
    int32_t architecture; /* GPU: 10 major + minor; CPU: 256 family + model */
} anemo_machine_kind;

/* Out of the facts `bandwidth`, `peak_bf16`, `architecture`. ANEMO_E_INPUT names the missing row.
 */
anemo_status anemo_project_kind(const anemo_reference *reference, const char *subject, int32_t day,
                                anemo_machine_kind *out, anemo_error *err);
/* ANEMO_E_UNSUPPORTED: another architecture, or the same kind. */
anemo_status anemo_project_allowed(const anemo_machine_kind *from, const anemo_machine_kind *to,
                                   anemo_error *err);
/* How much longer the record's step takes on `to`. ANEMO_E_INPUT: the record is not of `from`;
 * ANEMO_E_UNSUPPORTED: it does not fit the memory of `to`. */
anemo_status anemo_project_record(const anemo_record *record, const anemo_machine_kind *from,
                                  const anemo_machine_kind *to, double *factor, anemo_error *err);
/* Standard deviation of the logarithm of that factor. */
double anemo_project_sd(const anemo_machine_kind *from, const anemo_machine_kind *to);

#endif
