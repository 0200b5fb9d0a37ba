/* The thread team on OpenMP: the only file that knows it. OpenMP, because OpenBLAS and other
 * libraries then share one pool, and because its workers spin briefly between two loops, which a
 * decode step of some hundred short loops needs. */
#include "kernels/exec_internal.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

static void parallel(const anemo_exec *exec, int64_t n, int64_t grain, anemo_task task, void *ctx) {
    const anemo_binding *binding = exec->team;
    const int32_t n_threads = exec->n_threads;
    anemo_loop loop = {.task = task, .ctx = ctx, .n = n, .grain = grain};
    anemo_bind_thread(binding, 0); /* before the fork: new workers inherit the caller's mask */
    if (n_threads == 1 || n <= 1 || n <= grain) { /* one piece: not worth a fork */
        anemo_loop_run(&loop, 0, 1, 1);
        return;
    }
#pragma omp parallel num_threads(n_threads)
    {
        const int32_t thread = omp_get_thread_num();
        anemo_bind_thread(binding, thread);
        anemo_loop_run(&loop, thread, omp_get_num_threads(), n_threads);
    }
}

/* Starts the workers and says how many there are and how many could not be bound. */
static void probe(const anemo_binding *binding, int32_t *present, int32_t *unbound) {
    int32_t failures = !anemo_bind_thread(binding, 0), count = 1;
#pragma omp parallel num_threads(binding->n_threads) reduction(+ : failures) shared(count)
    {
        const int32_t thread = omp_get_thread_num();
        if (thread > 0 && !anemo_bind_thread(binding, thread)) {
            failures++;
        }
#pragma omp single
        count = omp_get_num_threads();
    }
    *present = count;
    *unbound = failures;
}

anemo_status anemo_team_create(int32_t n_threads, const int32_t *cpus, anemo_exec *exec,
                               anemo_error *err) {
    const size_t cpu_bytes = cpus ? (size_t)n_threads * sizeof *cpus : 0;
    anemo_binding *binding = malloc(sizeof *binding + cpu_bytes);
    if (!binding) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a team of %d threads", n_threads);
    }
    *binding = (anemo_binding){.n_threads = n_threads, .unbound = anemo_unbound_mask()};
    if (cpus) {
        binding->cpus = memcpy(binding + 1, cpus, cpu_bytes);
    }
    exec->n_threads = n_threads;
    exec->parallel = parallel;
    exec->team = binding;
    int32_t present, unbound;
    probe(binding, &present, &unbound);
    if (present != n_threads || unbound > 0) {
        anemo_team_free(exec);
        return anemo_fail(err, ANEMO_E_INPUT,
                          "threads: %d asked for, OpenMP gives %d, and %d cannot be bound to their "
                          "CPU; fewer threads (OMP_THREAD_LIMIT?) or permitted CPUs are accepted",
                          n_threads, present, unbound);
    }
    return ANEMO_OK;
}

void anemo_team_free(anemo_exec *exec) {
    anemo_unbind_thread();
    free(exec->team);
    exec->team = NULL;
}
