/* What every variant of the three moe ops accepts, and the checks each run makes. The definitions
 * of the ops are in moe_route_ref.c, moe_experts_ref.c and moe_combine_ref.c. */
#ifndef ANEMO_MOE_MOE_H
#define ANEMO_MOE_MOE_H

#include "kernels/kernel.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Every legal problem; each says in `why` which field is out of range. */
bool anemo_moe_route_accepts(const void *problem, char *why, size_t why_bytes);
bool anemo_moe_experts_accepts(const void *problem, char *why, size_t why_bytes);
bool anemo_moe_combine_accepts(const void *problem, char *why, size_t why_bytes);

/* The last step of moe_route, from plan->expert to the rest of the plan but for the weights:
 * counts, offsets, and the stable counting sort. Serial, O(tokens * top_k + n_experts). */
void anemo_moe_plan_sort(anemo_moe_plan *plan, int64_t tokens, int32_t n_experts, int32_t top_k);

#ifdef __cplusplus
}
#endif
#endif
