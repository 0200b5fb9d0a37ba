/* What both thread teams share: cutting a loop into pieces, and binding threads to CPUs.
 *
 * Thread 0 of a team is the thread that calls `parallel`, and OpenMP's workers are shared by all
 * teams of the process. So a thread remembers where it is bound and moves only when the team it
 * works for says otherwise; freeing a team gives the caller its own mask back. */
#include "kernels/exec_internal.h"

static _Thread_local int32_t bound_cpu = -1;
static _Thread_local cpu_set_t mask_before_binding; /* meaningful while bound_cpu >= 0 */

cpu_set_t anemo_unbound_mask(void) {
    if (bound_cpu >= 0) {
        return mask_before_binding;
    }
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) != 0) { /* more CPUs than cpu_set_t holds */
        CPU_ZERO(&mask);
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            CPU_SET(cpu, &mask);
        }
    }
    return mask;
}

bool anemo_bind_thread(const anemo_binding *binding, int32_t thread) {
    const int32_t cpu = binding->cpus ? binding->cpus[thread] : -1;
    if (cpu == bound_cpu) {
        return true;
    }
    cpu_set_t mask = binding->unbound;
    if (cpu >= 0) {
        CPU_ZERO(&mask);
        CPU_SET(cpu, &mask);
    }
    if (sched_setaffinity(0, sizeof mask, &mask) != 0) {
        return false;
    }
    mask_before_binding = binding->unbound;
    bound_cpu = cpu;
    return true;
}

void anemo_unbind_thread(void) {
    if (bound_cpu >= 0) {
        sched_setaffinity(0, sizeof mask_before_binding, &mask_before_binding);
        bound_cpu = -1;
    }
}

void anemo_loop_run(anemo_loop *loop, int32_t thread, int32_t n_present, int32_t n_threads) {
    if (loop->grain > 0) {
        for (;;) {
            const int64_t begin =
                atomic_fetch_add_explicit(&loop->next, loop->grain, memory_order_relaxed);
            if (begin >= loop->n) {
                return;
            }
            const int64_t rest = loop->n - begin;
            loop->task(loop->ctx, begin, begin + (rest < loop->grain ? rest : loop->grain), thread);
        }
    }
    /* Equal pieces; if the runtime gave fewer threads, each takes several. */
    const int64_t each = loop->n / n_threads, extra = loop->n % n_threads;
    for (int64_t piece = thread; piece < n_threads; piece += n_present) {
        const int64_t begin = piece * each + (piece < extra ? piece : extra);
        const int64_t end = begin + each + (piece < extra);
        if (begin < end) {
            loop->task(loop->ctx, begin, end, thread);
        }
    }
}
