/* Where threads go: one per core, spread over the machine, inside the process's own affinity mask.
 *
 * hwloc knows cores and shares them out evenly (hwloc_distrib), which is good for bandwidth; each
 * set is singlified, or a thread would still wander inside it. It must be told to respect the
 * affinity mask (RESTRICT_TO_CPUBINDING), and it knows nothing of CPU quotas.
 * Without hwloc the first thread of each core is found in /sys. */
#include "harness/measure/machine.h"

#include "anemo_config.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if ANEMO_HAVE_HWLOC
#include <hwloc.h>
#endif

/* How many threads when nobody asked: one per core, but no more than the quota pays for. */
static int32_t default_threads(int32_t cores) {
    double quota = anemo_machine_cpu_quota();
    int32_t paid = (int32_t)(quota + 0.999);
    return quota > 0 && paid < cores ? (paid > 0 ? paid : 1) : cores;
}

static anemo_status too_many(int32_t asked, int32_t allowed, int32_t cores, anemo_error *err) {
    return anemo_fail(err, ANEMO_E_INPUT,
                      "%d threads asked for, but this process may use %d CPUs (%d cores)",
                      (int)asked, (int)allowed, (int)cores);
}

#if ANEMO_HAVE_HWLOC

/* cpus[0..n): one of each of n evenly spread cores; what is above the number of cores goes to the
 * CPUs left over. false: out of memory. */
static bool spread(hwloc_topology_t topology, int32_t cores, int32_t n, int32_t *cpus) {
    int32_t on_cores = n < cores ? n : cores, placed = 0;
    hwloc_obj_t root = hwloc_get_root_obj(topology), pu = NULL;
    hwloc_bitmap_t *sets = calloc((size_t)on_cores, sizeof *sets), used = hwloc_bitmap_alloc();
    int depth = hwloc_get_type_or_below_depth(topology, HWLOC_OBJ_CORE);
    bool ok =
        sets && used && hwloc_distrib(topology, &root, 1, sets, (unsigned)on_cores, depth, 0) == 0;
    for (int32_t i = 0; ok && i < on_cores; i++) {
        hwloc_bitmap_singlify(sets[i]);
        cpus[placed] = hwloc_bitmap_first(sets[i]);
        if (!hwloc_bitmap_isset(used, (unsigned)cpus[placed]))
            hwloc_bitmap_set(used, (unsigned)cpus[placed++]);
        hwloc_bitmap_free(sets[i]);
    }
    while (ok && placed < n && (pu = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, pu)))
        if (!hwloc_bitmap_isset(used, pu->os_index))
            cpus[placed++] = (int32_t)pu->os_index;
    hwloc_bitmap_free(used);
    free(sets);
    return ok && placed == n;
}

anemo_status anemo_machine_placement(int32_t n_threads, int32_t *cpus, int32_t max, int32_t *n,
                                     anemo_error *err) {
    hwloc_topology_t topology;
    anemo_machine_get(); /* reads the affinity mask, which binding is about to change */
    if (hwloc_topology_init(&topology))
        return anemo_fail(err, ANEMO_E_MEMORY, "hwloc: no memory for the topology");
    hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM |
                                           HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING);
    anemo_status status = ANEMO_OK;
    if (hwloc_topology_load(topology)) {
        status = anemo_fail(err, ANEMO_E_DEVICE, "hwloc cannot read this machine's topology");
    } else {
        int32_t allowed = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
        int32_t cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
        if (cores <= 0)
            cores = allowed;
        *n = n_threads > 0 ? n_threads : default_threads(cores);
        if (*n > allowed || *n > max)
            status = too_many(*n, allowed < max ? allowed : max, cores, err);
        else if (!spread(topology, cores, *n, cpus))
            status = anemo_fail(err, ANEMO_E_DEVICE, "hwloc cannot spread %d threads", (int)*n);
    }
    hwloc_topology_destroy(topology);
    return status;
}

#else

/* Is this the lowest-numbered allowed CPU of its core? Unknown topology: yes. */
static bool first_of_core(int cpu, const cpu_set_t *allowed) {
    char path[96], text[256] = "";
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *file = fopen(path, "r");
    if (!file)
        return true;
    bool read = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    for (char *at = text; read && *at >= '0' && *at <= '9';) { /* "0,4" or "0-1" */
        long low = strtol(at, &at, 10), high = low;
        if (*at == '-')
            high = strtol(at + 1, &at, 10);
        for (long sibling = low; sibling <= high && sibling < CPU_SETSIZE; sibling++)
            if (CPU_ISSET((int)sibling, allowed))
                return sibling == cpu;
        at += *at == ',';
    }
    return true;
}

anemo_status anemo_machine_placement(int32_t n_threads, int32_t *cpus, int32_t max, int32_t *n,
                                     anemo_error *err) {
    cpu_set_t allowed;
    anemo_machine_get(); /* reads the affinity mask, which binding is about to change */
    if (sched_getaffinity(0, sizeof allowed, &allowed))
        return anemo_fail(err, ANEMO_E_DEVICE, "cannot read which CPUs this process may use");
    int32_t order[CPU_SETSIZE], found = 0, cores = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
            if (CPU_ISSET(cpu, &allowed) && first_of_core(cpu, &allowed) == (pass == 0))
                order[found++] = cpu;
        if (pass == 0)
            cores = found;
    }
    *n = n_threads > 0 ? n_threads : default_threads(cores);
    if (*n > found || *n > max)
        return too_many(*n, found < max ? found : max, cores, err);
    for (int32_t i = 0; i < *n; i++) /* evenly over the cores, then the rest in order */
        cpus[i] = order[*n < cores ? (int32_t)((int64_t)i * cores / *n) : i];
    return ANEMO_OK;
}

#endif
