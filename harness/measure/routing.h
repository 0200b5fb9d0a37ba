/* Which experts the tokens of a bench go to: laws, and recorded traces.
 *
 *   uniform      every expert as likely as another
 *   zipf:S       expert i in proportion to 1 / (i + 1)^S
 *   single       all tokens of a call to the same top_k experts
 *   skew:R       the first half of the experts get R times the rows of the others, at equal rows in
 * all trace:FILE   what a router chose; harness/README.md says how such a file looks
 *
 * Laws become logits of which moe_route's choice obeys the law, so that plans are made by the op
 * that makes them in a model. */
#ifndef ANEMO_BENCH_ROUTING_H
#define ANEMO_BENCH_ROUTING_H

#include "kernels/kernel.h"

#define BENCH_ROUTINGS "uniform, zipf:S (S 0 to 8), single, skew:R (R 1 to 1000) or trace:FILE"

typedef enum bench_routing_kind {
    BENCH_ROUTING_UNIFORM,
    BENCH_ROUTING_ZIPF,
    BENCH_ROUTING_SINGLE,
    BENCH_ROUTING_SKEW,
    BENCH_ROUTING_TRACE
} bench_routing_kind;

typedef struct bench_routing {
    bench_routing_kind kind;
    double number; /* of zipf and skew */
    char name[64]; /* "zipf:1.2"; of a trace the file's name without its folders */
    /* trace: expert[tokens][per_token], best first */
    int32_t *expert;
    int64_t tokens;
    int32_t per_token;
} bench_routing;

/* ANEMO_E_INPUT: what is accepted instead, or the line of a trace that is wrong. */
anemo_status bench_routing_create(const char *text, bench_routing *out, anemo_error *err);
void bench_routing_free(bench_routing *routing);

/* logits[tokens, n_experts] of plan number `plan`; with `in_turn` (laws only) plan i favours
 * experts of its own, so that a few calls go through all of them. A trace is gone through from
 * plan to plan, from the start again where it ends. ANEMO_E_INPUT: a trace of other experts, or a
 * skew that n_experts and top_k do not allow. */
anemo_status bench_routing_logits(const bench_routing *routing, int64_t tokens, int32_t n_experts,
                                  int32_t top_k, int plan, bool in_turn, uint64_t seed,
                                  float *logits, anemo_error *err);

#endif
