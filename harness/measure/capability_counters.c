/* Hardware and software counters, one by one through PAPI.
 *
 * An active PAPI component does not mean usable events: in most virtual machines the library lists
 * presets and native events of which none can be started. So each event is added to a set of its
 * own, started around a known piece of work, and its value looked at. The domain is set before the
 * set is made, or context switches read 0 without a word. */
#include "harness/measure/capability_internal.h"

#include "anemo_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define GROUP       "counters"
#define COUNT_COSTS "no instructions per cycle, cache misses or branch misses beside a time"

static int perf_event_paranoid(void) {
    int level = -100;
    FILE *file = fopen("/proc/sys/kernel/perf_event_paranoid", "r");
    if (file && fscanf(file, "%d", &level) != 1)
        level = -100;
    if (file)
        fclose(file);
    return level;
}

static bool has_pmu(void) {
    static const char *const folders[] = {"cpu", "cpu_core", "armv8_pmuv3", "armv8_pmuv3_0"};
    char path[96];
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, sizeof path, "/sys/bus/event_source/devices/%s", folders[i]);
        if (access(path, F_OK) == 0)
            return true;
    }
    return false;
}

static void check_kernel(capability_list *list) {
    char detail[160];
    int level = perf_event_paranoid();
    bool allowed = level != -100 && (level <= 2 || geteuid() == 0);
    if (level == -100)
        snprintf(detail, sizeof detail, "the kernel has no perf_event interface here");
    else
        snprintf(detail, sizeof detail, "level %d%s", level,
                 level > 2    ? ": counting is refused to normal users"
                 : level == 2 ? ": user space only for normal users"
                              : "");
    anemo_capability *c = capability_add(list, GROUP, "perf_event_paranoid", allowed, detail);
    if (!allowed)
        capability_missing(c, COUNT_COSTS,
                           level == -100 ? "a kernel or container that allows perf_event_open"
                                         : "sysctl kernel.perf_event_paranoid=1");
    bool pmu = has_pmu();
    c = capability_add(list, GROUP, "processor PMU", pmu,
                       pmu ? "listed in /sys/bus/event_source/devices"
                           : "not in /sys/bus/event_source/devices: the hypervisor hides it, or "
                             "the kernel does not know this processor");
    if (!pmu)
        capability_missing(c, COUNT_COSTS,
                           "the physical machine, or a virtual one with a virtual PMU");
}

#if ANEMO_HAVE_PAPI
#include <papi.h>

typedef enum workload { COMPUTE, SLEEP, TOUCH } workload;

static const struct {
    const char *name;
    workload work;
    long long least; /* the work causes at least so many */
    const char *costs;
} events[] = {
    {"PAPI_TOT_CYC", COMPUTE, 10000, "no cycles: a clock change looks like a slower kernel"},
    {"PAPI_TOT_INS", COMPUTE, 10000, "no instructions per cycle"},
    {"PAPI_L1_DCM", COMPUTE, 0, "no misses of the first-level cache"},
    {"PAPI_L2_TCM", COMPUTE, 0, "no misses of the second-level cache"},
    {"PAPI_L3_TCM", COMPUTE, 0, "no misses of the last-level cache"},
    {"PAPI_BR_MSP", COMPUTE, 0, "no mispredicted branches"},
    {"PAPI_TLB_DM", COMPUTE, 0, "no misses of the address translation"},
    {"PAPI_STL_ICY", COMPUTE, 0, "no stalled cycles"},
    {"perf::TASK-CLOCK", COMPUTE, 1, "no processor time per thread"},
    {"perf::CONTEXT-SWITCHES", SLEEP, 3, "no context switches per thread (getrusage: process)"},
    {"perf::CPU-MIGRATIONS", COMPUTE, 0, "no migrations: an unbound thread goes unnoticed"},
    {"perf::PAGE-FAULTS", TOUCH, 16, "no page faults per thread (getrusage: process)"},
};

static void do_work(workload work) {
    volatile double sum = 1;
    struct timespec wait = {0, 200000};
    char *pages;
    switch (work) {
    case COMPUTE:
        for (int i = 0; i < 100000; i++)
            sum = sum * 1.0000001 + 1e-9;
        return;
    case SLEEP:
        for (int i = 0; i < 3; i++)
            nanosleep(&wait, NULL);
        return;
    case TOUCH:
        pages = aligned_alloc(4096, 4 << 20);
        for (size_t i = 0; pages && i < 4 << 20; i += 4096)
            *(volatile char *)(pages + i) = 1;
        free(pages);
        return;
    }
}

/* Counts one event around its work; PAPI_OK or PAPI's error, the count in *value. */
static int count_event(const char *name, workload work, long long *value) {
    int set = PAPI_NULL, code = PAPI_create_eventset(&set);
    if (code != PAPI_OK)
        return code;
    if ((code = PAPI_add_named_event(set, name)) == PAPI_OK) {
        if ((code = PAPI_start(set)) == PAPI_OK) {
            do_work(work);
            code = PAPI_stop(set, value);
        }
        PAPI_cleanup_eventset(set);
    }
    PAPI_destroy_eventset(&set);
    return code;
}

static const char *remedy_for(const char *event, int code) {
    if (strncmp(event, "perf::", 6) == 0)
        return "a kernel or container that allows perf_event_open; "
               "sysctl kernel.perf_event_paranoid=1";
    return !has_pmu() ? "the physical machine, or a virtual one with a virtual PMU"
           : code == PAPI_ENOEVNT
               ? "another processor: this one has no such event (papi_avail lists what it has)"
               : "sysctl kernel.perf_event_paranoid=1";
}

static void check_event(capability_list *list, size_t i) {
    char detail[160];
    long long value = 0;
    int code = count_event(events[i].name, events[i].work, &value);
    bool works = code == PAPI_OK && value >= events[i].least;
    if (works)
        snprintf(detail, sizeof detail, "counts (%lld in a test)", value);
    else if (code == PAPI_OK)
        snprintf(detail, sizeof detail, "starts, but reads %lld where at least %lld happened",
                 value, events[i].least);
    else
        snprintf(detail, sizeof detail, "%s", PAPI_strerror(code));
    anemo_capability *c = capability_add(list, GROUP, events[i].name, works, detail);
    capability_missing(c, events[i].costs, remedy_for(events[i].name, code));
}

/* What PAPI_library_init says the first time. PAPI is never shut down: to initialise it
 * again after that crashed in libpapi 7.0.0 on a Cascade Lake (not on AMD's Zen). */
static int init_papi(void) {
    static int version;
    if (!version)
        version = PAPI_library_init(PAPI_VER_CURRENT);
    return version;
}

static void check_papi(capability_list *list) {
    char detail[160];
    const int version = init_papi();
    if (version != PAPI_VER_CURRENT) {
        snprintf(detail, sizeof detail, "library and header disagree (%s)",
                 version > 0 ? "another version was found at run time" : PAPI_strerror(version));
        capability_missing(capability_add(list, GROUP, "PAPI", false, detail), COUNT_COSTS,
                           "reinstall libpapi and rebuild");
        return;
    }
    PAPI_set_debug(PAPI_QUIET);
    if (PAPI_set_domain(PAPI_DOM_ALL) != PAPI_OK)
        PAPI_set_domain(PAPI_DOM_USER);
    snprintf(detail, sizeof detail, "version %d.%d.%d", PAPI_VERSION_MAJOR(version),
             PAPI_VERSION_MINOR(version), PAPI_VERSION_REVISION(version));
    capability_add(list, GROUP, "PAPI", true, detail);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        check_event(list, i);
}

#else

static void check_papi(capability_list *list) {
    capability_missing(capability_add(list, GROUP, "PAPI", false, "not in this build"), COUNT_COSTS,
                       "install libpapi-dev and rebuild");
}

#endif

void capability_counters(capability_list *list) {
    check_kernel(list);
    check_papi(list);
}
