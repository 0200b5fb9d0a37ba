/* What the qgemm variants share. */
#ifndef ANEMO_QGEMM_INTERNAL_H
#define ANEMO_QGEMM_INTERNAL_H

#include "kernels/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Is the problem well formed (sizes, parts, epilogue, weight types)? Every `accepts` begins so. */
bool anemo_qgemm_valid(const anemo_qgemm_problem *problem, char *why, size_t why_bytes);

/* Blocks of `rows` weight rows over all parts, the unit of work of a parallel loop. With ACT_MUL
 * parts 0 and 1 go together, and only part 0 is counted. */
typedef struct anemo_qgemm_block {
    int32_t part;
    int64_t row;  /* first weight row */
    int64_t rows; /* at most `rows` */
} anemo_qgemm_block;
int64_t anemo_qgemm_blocks(const anemo_qgemm_problem *problem, int64_t rows);
anemo_qgemm_block anemo_qgemm_block_at(const anemo_qgemm_problem *problem, int64_t rows,
                                       int64_t index);

#ifdef __cplusplus
}
#endif
#endif
