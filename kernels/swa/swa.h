/* What every variant of swa and rope_append accepts, and what their runs check. The definitions are
 * in swa_ref.c and rope_append_ref.c. */
#ifndef ANEMO_SWA_SWA_H
#define ANEMO_SWA_SWA_H

#include "kernels/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

bool anemo_swa_accepts(const void *problem, char *why, size_t why_bytes);
bool anemo_rope_append_accepts(const void *problem, char *why, size_t why_bytes);

/* ANEMO_E_INPUT when the arguments break the problem's bounds or the view contradicts itself:
 * row_start ascends from 0 to rows, and for each sequence with rows 0 <= first <= its first row's
 * position, first is a multiple of page_tokens, and (swa) length <= context_max. */
anemo_status anemo_swa_check(const anemo_swa_problem *problem, const anemo_swa_args *args);
/* What q is multiplied by at this position. */
double anemo_rope_temperature(const anemo_rope_problem *problem, int64_t position);
anemo_status anemo_rope_append_check(const anemo_rope_problem *problem,
                                     const anemo_rope_args *args);

#ifdef __cplusplus
}
#endif
#endif
