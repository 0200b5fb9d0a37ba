/* Small things that the variants of moe, swa and dense share. */
#ifndef ANEMO_DENSE_COMMON_H
#define ANEMO_DENSE_COMMON_H

#include "kernels/internal.h"

/* Larger numbers are not sizes of a model; the limit keeps every byte count within int64. */
#define ANEMO_DIM_MAX ((int64_t)1 << 24)

/* Bytes rounded up to a cache line, so that threads' pieces of a workspace do not share one. */
static ANEMO_HOST_DEVICE inline size_t align64(size_t bytes) {
    return (bytes + 63) & ~(size_t)63;
}

static ANEMO_HOST_DEVICE inline int64_t min_i64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static ANEMO_HOST_DEVICE inline int64_t max_i64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* For variants that need no workspace. */
static inline size_t no_workspace(const void *problem, int32_t n_threads) {
    (void)problem, (void)n_threads;
    return 0;
}

#endif
