/* The machine: what a number was measured on, and where threads go.
 *
 * Sources: hwloc when the build has it, else /sys and /proc; CPUID for the hypervisor. What could
 * not be read is empty, 0 or -1 as said; absent is never guessed. */
#ifndef ANEMO_MACHINE_H
#define ANEMO_MACHINE_H

#include "kernels/kernel.h"

/* CPU numbers for `n_threads` threads (0: one per core), spread over the cores that the process may
 * use, one per core before any core gets a second. *n is what was placed: at most `max`, and with
 * n_threads 0 not more than the cgroup's CPU quota rounded up. ANEMO_E_INPUT: more threads asked
 * for than CPUs allowed. */
anemo_status anemo_machine_placement(int32_t n_threads, int32_t *cpus, int32_t max, int32_t *n,
                                     anemo_error *err);

/* CPUs' worth of time per second that the cgroup grants; 0 = no quota. */
double anemo_machine_cpu_quota(void);

#endif
