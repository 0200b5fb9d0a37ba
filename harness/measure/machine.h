/* The machine: what a number was measured on. Where threads go: placement.h.
 *
 * Sources: hwloc when the build has it, else /sys and /proc; CPUID for the hypervisor. What could
 * not be read is empty, 0 or -1 as said; absent is never guessed. */
#ifndef ANEMO_MACHINE_H
#define ANEMO_MACHINE_H

#include "kernels/kernel.h"

typedef struct anemo_cache {
    int32_t level;
    int64_t bytes;   /* of one instance */
    int32_t count;   /* instances in the machine; 0 = unknown */
    int32_t threads; /* hardware threads that share one */
} anemo_cache;

#define ANEMO_CACHES 4 /* L1 data, L2, L3, L4 */

typedef struct anemo_machine {
    char id[80];   /* "amd-epyc-2c-5f1c09": readable, and a hash over what makes machines differ */
    char cpu[128]; /* model name */
    char arch[16]; /* "x86_64" */
    int32_t family, model, stepping; /* -1: not told */
    char microcode[32];
    uint32_t cpu_features;                       /* ANEMO_CPU_* */
    int32_t sockets, cores, threads, numa_nodes; /* online; threads are hardware threads */
    int32_t threads_allowed;                     /* by this process's affinity mask */
    double cpu_quota;                            /* CPUs that the cgroup grants; 0 = no quota */
    anemo_cache cache[ANEMO_CACHES];
    int32_t caches;
    char topology[32]; /* who said so: "hwloc API 2.8.0" or "sysfs" */
    int64_t memory_bytes, memory_available_bytes;
    int64_t memory_limit_bytes;  /* the cgroup's; 0 = none */
    char huge_pages[16];         /* transparent: always, madvise, never */
    int64_t huge_pages_reserved; /* of the default size */
    char governor[32];           /* "" where the kernel does not tell (most virtual machines) */
    char boost[8];               /* "on", "off" or "" */
    int64_t frequency_max_khz;   /* 0 = not told */
    char virtualisation[48];     /* "KVM", ...; "none"; "" = not known */
    char container[32];          /* "docker", ...; "" = none seen */
    bool on_battery;
    char kernel[80], os[80];
} anemo_machine;

/* Read at the first call and kept, but for memory_available_bytes, which is read at each. Not
 * thread-safe at the first call. */
const anemo_machine *anemo_machine_get(void);

/* Bytes of this process that now lie in huge pages; -1 where the kernel does not tell. */
int64_t anemo_machine_huge_bytes(void);

/* The names of the bits of cpu_features, "avx2 avx512 ..."; "" for none. */
void anemo_machine_feature_names(uint32_t features, char *text, size_t text_bytes);

/* As on a lesser processor from now on: variants, layouts and probes see only what `level` has
 * ("baseline"; "avx2"; "avx512": without VNNI and BF16; "native": everything). Before the first
 * device is made. A BLAS chooses for itself. ANEMO_E_INPUT: another level, or one that this
 * processor does not reach. */
anemo_status anemo_isa_limit(const char *level, anemo_error *err);
const char *anemo_isa_level(void);  /* the level in force */
const char *anemo_isa_option(void); /* for commands to repeat: " --isa avx2"; "" when native */

/* CPUs' worth of time per second that the cgroup grants; 0 = no quota. */
double anemo_machine_cpu_quota(void);

#endif
