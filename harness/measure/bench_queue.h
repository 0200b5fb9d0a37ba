/* An arm whose calls go into a GPU's queue: a sample is one launch of a graph of n calls, so that
 * the host's launches (3 us each, more than many a kernel) are no part of it.
 *
 * Rotation. Call after call takes the next of the arm's argument sets, as on a CPU, but a graph
 * holds its arguments once and for all. So there are as many graphs of n calls as it takes to come
 * through all sets, launched in turn, and within their cycle whole rounds through the sets, all of
 * the same length or one more: at least half of the sets lie between two uses of one, and there are
 * many more of them than twice L2 holds (bench_cold_bytes).
 *
 * Lead-in. An event that is recorded in an idle queue passes at once, and the time until the graph
 * arrives would count. So the graph launched before is launched once more ahead of it, untimed:
 * while it runs, events and graph are queued. Samples of 10 ms and more do without. */
#ifndef ANEMO_BENCH_QUEUE_H
#define ANEMO_BENCH_QUEUE_H

#include "harness/measure/sample.h"

struct bench_arm;

typedef struct bench_queue {
    int64_t n;           /* calls of each graph */
    int64_t n_graphs;    /* of a cycle */
    int64_t at;          /* the next */
    anemo_graph **graph; /* [n_graphs]; NULL: not recorded yet */
} bench_queue;

/* The arm of the sampler: on a CPU plain calls; on a GPU as above, or, where its variants may not
 * be captured, calls launched one by one. */
anemo_arm bench_sampled_arm(struct bench_arm *arm);
/* "graph" or "stream"; NULL on a CPU. */
const char *bench_launch_name(const struct bench_arm *arm);
void bench_queue_free(bench_queue *queue);

/* Which of n_args argument sets call `call` of a cycle of n_calls takes. */
int64_t bench_turn(int64_t call, int64_t n_calls, int64_t n_args);

#endif
