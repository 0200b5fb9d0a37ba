/* Where threads go. A policy says which CPUs first; all respect the process's affinity mask and the
 * cgroup's quota.
 *
 *   scatter       one thread per core, cores as far from each other as they are (packages, memory
 *                 nodes and caches in turn), before any core gets a second: for bandwidth. The
 *                 default
 *   compact       cores next to each other, every hardware thread of one before the next: what a
 *                 small share of a machine looks like
 *   one-per-core  cores next to each other, one thread on each; never a second
 *   fast-cores    as scatter, over the fastest kind of core only (hybrid processors: a step waits
 *                 for its slowest thread) */
#ifndef ANEMO_PLACEMENT_H
#define ANEMO_PLACEMENT_H

#include "kernels/kernel.h"

typedef enum anemo_placement {
    ANEMO_PLACE_SCATTER,
    ANEMO_PLACE_COMPACT,
    ANEMO_PLACE_ONE_PER_CORE,
    ANEMO_PLACE_FAST_CORES
} anemo_placement;
extern const char *const anemo_placement_names[]; /* ended by NULL */

typedef struct anemo_placement_request {
    anemo_placement policy;
    int32_t n_threads; /* 0: one per core of the policy, but not more than the quota pays for */
    double cpu_quota;  /* 0: none */
    /* A made-up machine in hwloc's notation instead of this one, "pack:2 core:4 pu:2", and which of
     * its CPUs are the fast kind, "0-7" (NULL: all alike). */
    const char *synthetic, *fast_cpus;
} anemo_placement_request;

/* CPU numbers for the threads, cpus[0..*n), *n <= max. ANEMO_E_INPUT: more threads asked for than
 * the policy has places. ANEMO_E_UNSUPPORTED: this build or machine cannot tell what the policy
 * asks about. */
anemo_status anemo_machine_place(const anemo_placement_request *request, int32_t *cpus, int32_t max,
                                 int32_t *n, anemo_error *err);
/* The same on this machine, with its quota and the chosen policy. */
anemo_status anemo_machine_placement(int32_t n_threads, int32_t *cpus, int32_t max, int32_t *n,
                                     anemo_error *err);

/* The policy of this process, before its first device is made. */
void anemo_placement_choose(anemo_placement policy);
const char *anemo_placement_chosen(void); /* its name */
/* For commands to repeat, with what --isa says: " --isa avx2 --placement compact"; "" as usual. */
const char *anemo_machine_option(void);

#endif
