/* The thread team behind anemo_exec.parallel. Two files implement it, one per build: exec_openmp.c
 * and exec_pthread.c; exec.c holds what they share. */
#ifndef ANEMO_EXEC_INTERNAL_H
#define ANEMO_EXEC_INTERNAL_H

#include "kernels/kernel.h"

#include <sched.h>
#include <stdatomic.h>

/* Where the team's threads may run. */
typedef struct anemo_binding {
    int32_t n_threads;
    const int32_t *cpus; /* [n_threads], owned by the team; NULL: not bound */
    cpu_set_t unbound;   /* the creating thread's mask before any binding */
} anemo_binding;

/* CPUs of the calling thread's affinity mask, as it was before this library bound it. */
cpu_set_t anemo_unbound_mask(void);
/* Puts the calling thread, number `thread` of the team, on its CPU, or back on the unbound mask.
 * Costs a comparison when it is there already. False: the system refused. */
bool anemo_bind_thread(const anemo_binding *binding, int32_t thread);
/* Puts the calling thread back on its unbound mask. */
void anemo_unbind_thread(void);

/* One parallel loop. */
typedef struct anemo_loop {
    anemo_task task;
    void *ctx;
    int64_t n, grain;
    _Atomic int64_t next; /* first item not yet taken, when grain > 0 */
} anemo_loop;

/* Does thread `thread` of `n_present` its share of a loop cut for `n_threads`. */
void anemo_loop_run(anemo_loop *loop, int32_t thread, int32_t n_present, int32_t n_threads);

/* Fills exec->n_threads, parallel and team. cpus is copied. */
anemo_status anemo_team_create(int32_t n_threads, const int32_t *cpus, anemo_exec *exec,
                               anemo_error *err);
void anemo_team_free(anemo_exec *exec);

#endif
