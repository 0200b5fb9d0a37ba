/* The dispatch of the fused experts variants: who computes what, and in which order.
 *
 * Two parallel loops: gate, up and activation; then down. A task is one expert times a slice of its
 * columns, for all its rows. So
 *
 * - a weight is read from memory once per call, by one thread, however many rows its expert has; an
 *   expert without rows costs nothing, and no row is padded to a tile;
 * - tasks are taken from a counter, the largest expert's first: what is left when the first thread
 *   runs dry is a slice of the smallest expert. A hot expert is as many tasks as any other, so skew
 *   changes how long a task lasts, not how many threads find one;
 * - one token is the same code: top_k experts, cut into slices of which all threads stream some.
 *
 * A slice is up to SLICE blocks of 32 columns. Narrower, neighbouring slices share cache lines of
 * the hidden rows and each thread's stream breaks off more often; wider, the last task is waited
 * for. Slices shrink, down to one item, until each thread has TASKS of them. No result may depend
 * on the cut.
 *
 * Rejected: cutting experts by rows as well (weights would be read once per piece); one loop with a
 * counter per expert instead of two loops (the barrier between them costs half a task at most, the
 * counters a place where a thread can wait); an order of tasks that changes expert after expert, as
 * in moe_experts_c.c (two threads on one expert share its rows in the last cache). */
#ifndef ANEMO_MOE_DISPATCH_H
#define ANEMO_MOE_DISPATCH_H

#include "kernels/kernel.h"

/* Items [begin, end) of expert e for its sorted rows [row_begin, row_end), on thread `thread`. */
typedef void (*moe_half)(const void *job, int32_t e, int64_t row_begin, int64_t row_end,
                         int64_t begin, int64_t end, int thread);

typedef struct moe_dispatch {
    const int32_t *offset; /* of the plan */
    const int32_t *active; /* experts of the range that have rows, largest first */
    int64_t n_active;
    moe_half half; /* of the loop under way, as are these */
    const void *job;
    int64_t items, per_task, slices; /* of one expert */
} moe_dispatch;

/* Memory for the list of active experts. */
size_t moe_dispatch_bytes(const anemo_moe_experts_problem *p);
moe_dispatch moe_dispatch_of(const anemo_moe_experts_problem *p, const anemo_moe_plan *plan,
                             void *memory);
/* One loop over `items` of each active expert, `blocks` blocks of 32 columns to an item. */
void moe_dispatch_run(const anemo_exec *exec, moe_dispatch *d, moe_half half, const void *job,
                      int64_t items, int64_t blocks);

#endif
