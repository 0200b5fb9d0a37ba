/* What every variant of add_rmsnorm, embed and sample accepts, and what their runs check. The
 * definitions are in the *_ref.c files. */
#ifndef ANEMO_DENSE_DENSE_H
#define ANEMO_DENSE_DENSE_H

#include "kernels/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

bool anemo_add_rmsnorm_accepts(const void *problem, char *why, size_t why_bytes);
bool anemo_embed_accepts(const void *problem, char *why, size_t why_bytes);
bool anemo_sample_accepts(const void *problem, char *why, size_t why_bytes);

/* ANEMO_E_INPUT when m is out of range or the arguments contradict the problem or each other. */
anemo_status anemo_add_rmsnorm_check(const anemo_add_rmsnorm_problem *problem,
                                     const anemo_add_rmsnorm_args *args);
/* ANEMO_E_INPUT when m or a row's parameters are out of range: temperature finite and >= 0, top_p
 * in [0, 1], top_k >= 0. */
anemo_status anemo_sample_check(const anemo_sample_problem *problem, const anemo_sample_args *args);

#ifdef __cplusplus
}
#endif
#endif
