/* What a machine can do and what it must hold: bytes, seconds per token, queues, spares. Pure. */
#ifndef ANEMO_COST_CAPACITY_H
#define ANEMO_COST_CAPACITY_H

#include "kernels/kernel.h"

/* ---------------------------------------------------------------- memory */

/* Bytes of keys and values that one token needs: 2 layers kv_heads head_dim bytes_per_element. */
double anemo_kv_bytes_per_token(int64_t layers, int64_t kv_heads, int64_t head_dim,
                                double bytes_per_element);
/* Bits per weight of codes of `bits` in groups that share a scale and perhaps a zero point. */
double anemo_bits_per_weight(double bits, double scale_bits, double zero_bits, double group);
/* Distinct experts that `tokens` tokens touch when each picks top_k of `experts` uniformly:
 * E (1 - (1 - k/E)^tokens). */
double anemo_experts_touched(double experts, double top_k, double tokens);

/* ---------------------------------------------------------------- queues and spares */

/* Probability that an arrival waits in M/M/c with `offered` = arrival rate x service time
 * (Erlang C). 1 when offered >= servers. */
double anemo_erlang_c(int32_t servers, double offered);
/* Smallest number s of spares with P(Poisson(mean) > s) <= alpha, mean = units afr lead_days/365.
 */
int32_t anemo_spares(double units, double failures_per_year, double lead_days, double alpha);

/* ---------------------------------------------------------------- seconds per token */

/* One measured mix: what was served, and how many unit-seconds (GPU or machine) were busy for it.
 */
typedef struct anemo_cost_mix {
    double in_uncached, in_cached, out; /* tokens in all */
    double busy_s;
} anemo_cost_mix;

/* busy_s = in in_uncached + cached in_cached + out out, all three >= 0. */
typedef struct anemo_cost_split {
    double in, cached, out;   /* unit-seconds per token */
    double r_squared;         /* of busy_s, about its mean */
    double condition;         /* of the scaled normal matrix's root: > 50 is refused */
    double worst_residual;    /* largest |predicted / measured - 1| of the mixes */
    bool cached_was_measured; /* else cached = in, and nothing is known of a prefix cache */
} anemo_cost_split;

/* Non-negative least squares on relative errors. ANEMO_E_INPUT: fewer than three mixes, a mix that
 * is not positive, or mixes too alike to tell input from output. */
anemo_status anemo_cost_split_fit(const anemo_cost_mix *mixes, int32_t n, anemo_cost_split *out,
                                  anemo_error *err);
double anemo_cost_split_busy(const anemo_cost_split *split, double in_uncached, double in_cached,
                             double out);

#endif
