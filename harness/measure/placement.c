/* See placement.h. hwloc knows cores and shares them out evenly (hwloc_distrib); each set is
 * singlified, or a thread would still wander inside it. hwloc must be told to respect the affinity
 * mask (RESTRICT_TO_CPUBINDING), and it knows nothing of CPU quotas. Its kinds of CPUs are ordered
 * by efficiency, the fastest last. Without hwloc, hardware threads and cores are found in /sys;
 * which cores are fast is then not known. */
#include "harness/measure/placement.h"

#include "anemo_config.h"
#include "harness/measure/machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if ANEMO_HAVE_HWLOC
#include <hwloc.h>
#endif

const char *const anemo_placement_names[] = {"scatter", "compact", "one-per-core", "fast-cores",
                                             NULL};

/* How many threads when nobody asked: one per core, but no more than the quota pays for. */
static int32_t default_threads(int32_t cores, double quota) {
    const int32_t paid = (int32_t)(quota + 0.999);
    return quota > 0 && paid < cores ? (paid > 0 ? paid : 1) : cores;
}

static anemo_status too_many(const anemo_placement_request *request, int32_t asked, int32_t places,
                             int32_t cores, anemo_error *err) {
    return anemo_fail(err, ANEMO_E_INPUT,
                      "%d threads asked for, but %s may use %d CPUs here (%d cores)", (int)asked,
                      anemo_placement_names[request->policy], (int)places, (int)cores);
}

#if ANEMO_HAVE_HWLOC

static anemo_status load(const anemo_placement_request *request, hwloc_topology_t topology,
                         anemo_error *err) {
    if (request->synthetic) {
        if (hwloc_topology_set_synthetic(topology, request->synthetic))
            return anemo_fail(err, ANEMO_E_INPUT, "hwloc does not understand '%s'",
                              request->synthetic);
    } else {
        hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM |
                                               HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING);
    }
    return hwloc_topology_load(topology)
               ? anemo_fail(err, ANEMO_E_DEVICE, "hwloc cannot read this machine's topology")
               : ANEMO_OK;
}

/* The fast kind of a made-up machine, told to hwloc as a real one's driver would. */
static bool register_kinds(const anemo_placement_request *request, hwloc_topology_t topology) {
    hwloc_bitmap_t fast = hwloc_bitmap_alloc(), slow = hwloc_bitmap_alloc();
    bool good = fast && slow && hwloc_bitmap_list_sscanf(fast, request->fast_cpus) == 0;
    if (good) {
        hwloc_bitmap_andnot(slow, hwloc_topology_get_topology_cpuset(topology), fast);
        good = hwloc_cpukinds_register(topology, slow, 0, 0, NULL, 0) == 0 &&
               hwloc_cpukinds_register(topology, fast, 1, 0, NULL, 0) == 0;
    }
    hwloc_bitmap_free(fast);
    hwloc_bitmap_free(slow);
    return good;
}

/* Leaves of the topology what the policy may use. */
static anemo_status restrict_to_fast(const anemo_placement_request *request,
                                     hwloc_topology_t topology, anemo_error *err) {
    if (request->fast_cpus && !register_kinds(request, topology))
        return anemo_fail(err, ANEMO_E_INPUT, "the fast CPUs '%s': expected a list like 0-7",
                          request->fast_cpus);
    const int kinds = hwloc_cpukinds_get_nr(topology, 0);
    hwloc_bitmap_t fastest = hwloc_bitmap_alloc();
    int efficiency = -1;
    anemo_status status = ANEMO_OK;
    if (!fastest || kinds < 0 ||
        (kinds > 0 && hwloc_cpukinds_get_info(topology, (unsigned)kinds - 1, fastest, &efficiency,
                                              NULL, NULL, 0)))
        status = anemo_fail(err, ANEMO_E_DEVICE, "hwloc cannot tell the kinds of cores");
    else if (kinds > 1 && efficiency < 0)
        status = anemo_fail(err, ANEMO_E_UNSUPPORTED,
                            "fast-cores: hwloc finds %d kinds of cores here, and not which is "
                            "faster; bind the process with taskset instead",
                            kinds);
    else if (kinds > 1 && hwloc_topology_restrict(topology, fastest, 0))
        status = anemo_fail(err, ANEMO_E_DEVICE, "hwloc cannot restrict itself to the fast cores");
    hwloc_bitmap_free(fastest); /* one kind, or none told: all cores are alike */
    return status;
}

/* cpus[0..n): one of each of n evenly spread cores; what is above the number of cores goes to the
 * CPUs left over. false: out of memory. */
static bool scatter(hwloc_topology_t topology, int32_t cores, int32_t n, int32_t *cpus) {
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

/* In the order of the topology, `per_core` hardware threads of each core at most. */
static bool in_order(hwloc_topology_t topology, int32_t per_core, int32_t n, int32_t *cpus) {
    int32_t placed = 0, on_core = 0;
    hwloc_obj_t core = NULL;
    for (hwloc_obj_t pu = NULL;
         placed < n && (pu = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, pu));) {
        hwloc_obj_t its = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, pu);
        on_core = its && its == core ? on_core + 1 : 0;
        core = its;
        if (on_core < per_core)
            cpus[placed++] = (int32_t)pu->os_index;
    }
    return placed == n;
}

static anemo_status place(const anemo_placement_request *request, hwloc_topology_t topology,
                          int32_t *cpus, int32_t max, int32_t *n, anemo_error *err) {
    const int32_t allowed = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
    int32_t cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
    cores = cores > 0 ? cores : allowed;
    const bool single = request->policy == ANEMO_PLACE_ONE_PER_CORE;
    int32_t places = single ? cores : allowed;
    places = places < max ? places : max;
    *n = request->n_threads > 0 ? request->n_threads : default_threads(cores, request->cpu_quota);
    if (*n > places)
        return too_many(request, *n, places, cores, err);
    const bool good = single ? in_order(topology, 1, *n, cpus)
                      : request->policy == ANEMO_PLACE_COMPACT
                          ? in_order(topology, INT32_MAX, *n, cpus)
                          : scatter(topology, cores, *n, cpus);
    return good ? ANEMO_OK
                : anemo_fail(err, ANEMO_E_DEVICE, "hwloc cannot place %d threads as %s", (int)*n,
                             anemo_placement_names[request->policy]);
}

anemo_status anemo_machine_place(const anemo_placement_request *request, int32_t *cpus, int32_t max,
                                 int32_t *n, anemo_error *err) {
    hwloc_topology_t topology;
    anemo_machine_get(); /* reads the affinity mask, which binding is about to change */
    if (hwloc_topology_init(&topology))
        return anemo_fail(err, ANEMO_E_MEMORY, "hwloc: no memory for the topology");
    anemo_status status = load(request, topology, err);
    if (status == ANEMO_OK && request->policy == ANEMO_PLACE_FAST_CORES)
        status = restrict_to_fast(request, topology, err);
    if (status == ANEMO_OK)
        status = place(request, topology, cpus, max, n, err);
    hwloc_topology_destroy(topology);
    return status;
}

#else

/* Is this the lowest-numbered allowed CPU of its core? *first is that CPU. Unknown topology: yes.
 */
static bool first_of_core(int cpu, const cpu_set_t *allowed, int *first) {
    char path[96], text[256] = "";
    *first = cpu;
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
            if (CPU_ISSET((int)sibling, allowed)) {
                *first = (int)sibling;
                return sibling == cpu;
            }
        at += *at == ',';
    }
    return true;
}

/* order[0..return): first threads of cores, then the rest; or core by core. */
static int32_t order_cpus(const cpu_set_t *allowed, bool core_by_core, int32_t *order,
                          int32_t *cores) {
    int32_t found = 0;
    int first;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, allowed) || !first_of_core(cpu, allowed, &first))
            continue;
        order[found++] = cpu;
        for (int other = cpu + 1; core_by_core && other < CPU_SETSIZE; other++)
            if (CPU_ISSET(other, allowed) && !first_of_core(other, allowed, &first) && first == cpu)
                order[found++] = other;
        ++*cores;
    }
    for (int cpu = 0; !core_by_core && cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, allowed) && !first_of_core(cpu, allowed, &first))
            order[found++] = cpu;
    return found;
}

anemo_status anemo_machine_place(const anemo_placement_request *request, int32_t *cpus, int32_t max,
                                 int32_t *n, anemo_error *err) {
    cpu_set_t allowed;
    anemo_machine_get(); /* reads the affinity mask, which binding is about to change */
    if (request->synthetic || request->policy == ANEMO_PLACE_FAST_CORES)
        return anemo_fail(
            err, ANEMO_E_UNSUPPORTED, "%s needs hwloc: install libhwloc-dev and rebuild",
            request->synthetic ? "a made-up machine" : anemo_placement_names[request->policy]);
    if (sched_getaffinity(0, sizeof allowed, &allowed))
        return anemo_fail(err, ANEMO_E_DEVICE, "cannot read which CPUs this process may use");
    int32_t order[CPU_SETSIZE], cores = 0;
    const bool compact = request->policy == ANEMO_PLACE_COMPACT;
    const bool single = request->policy == ANEMO_PLACE_ONE_PER_CORE;
    const int32_t found = order_cpus(&allowed, compact, order, &cores);
    int32_t places = single ? cores : found;
    places = places < max ? places : max;
    *n = request->n_threads > 0 ? request->n_threads : default_threads(cores, request->cpu_quota);
    if (*n > places)
        return too_many(request, *n, places, cores, err);
    const bool spread = !compact && !single && *n < cores;
    for (int32_t i = 0; i < *n; i++) /* evenly over the cores, then the rest in order */
        cpus[i] = order[spread ? (int32_t)((int64_t)i * cores / *n) : i];
    return ANEMO_OK;
}

#endif

static anemo_placement chosen = ANEMO_PLACE_SCATTER;

void anemo_placement_choose(anemo_placement policy) {
    chosen = policy;
}

const char *anemo_placement_chosen(void) {
    return anemo_placement_names[chosen];
}

const char *anemo_machine_option(void) {
    static char text[80];
    const bool usual = chosen == ANEMO_PLACE_SCATTER;
    snprintf(text, sizeof text, "%s%s%s", anemo_isa_option(), usual ? "" : " --placement ",
             usual ? "" : anemo_placement_chosen());
    return text;
}

anemo_status anemo_machine_placement(int32_t n_threads, int32_t *cpus, int32_t max, int32_t *n,
                                     anemo_error *err) {
    const anemo_placement_request request = {
        .policy = chosen, .n_threads = n_threads, .cpu_quota = anemo_machine_cpu_quota()};
    return anemo_machine_place(&request, cpus, max, n, err);
}
