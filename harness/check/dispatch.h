/* Dispatch plans of the moe ops, for the checker: made from the list of chosen experts by counting,
 * which is not how a kernel sorts. */
#ifndef ANEMO_CHECK_DISPATCH_H
#define ANEMO_CHECK_DISPATCH_H

#include "harness/check/random.h"
#include "harness/check/trial.h"
#include "kernels/kernel.h"

/* How the tokens of a case choose. */
typedef enum check_routing {
    CHECK_ROUTE_RANDOM,
    CHECK_ROUTE_SKEWED,       /* low experts much more often */
    CHECK_ROUTE_SAME,         /* every token the same top_k experts: all others are empty */
    CHECK_ROUTE_WITHOUT_FIRST /* nobody chooses expert 0 */
} check_routing;
extern const char *const check_routing_names[4];

/* Host memory; the arrays of anemo_moe_plan. */
typedef struct check_dispatch {
    int64_t tokens;
    int32_t n_experts, top_k;
    int32_t *expert;
    float *weight;
    int32_t *count, *offset, *row_token, *row_of;
} check_dispatch;

/* tokens x top_k distinct experts and positive weights that sum to 1. NULL: no memory. */
check_dispatch *check_dispatch_create(check_random *random, check_routing routing, int64_t tokens,
                                      int32_t n_experts, int32_t top_k);
/* The plan of tokens [begin, end) of another. NULL: no memory. */
check_dispatch *check_dispatch_part(const check_dispatch *whole, int64_t begin, int64_t end);
void check_dispatch_free(check_dispatch *dispatch);
/* All but expert and weight, from expert. */
void check_dispatch_sort(check_dispatch *dispatch);
/* The plan as an input of a kernel. */
anemo_moe_plan check_dispatch_bind(const check_dispatch *dispatch, check_trial *trial);

#endif
