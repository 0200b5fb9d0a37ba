/* The list of capabilities: energy, libraries and steadiness here, counters and GPU beside. */
#include "harness/measure/capability_internal.h"

#include "anemo_config.h"
#include "harness/measure/energy.h"
#include "harness/measure/machine.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

anemo_capability *capability_add(capability_list *list, const char *group, const char *name,
                                 bool available, const char *detail) {
    static anemo_capability dropped;
    anemo_capability *c = list->n < list->max ? &list->items[list->n++] : &dropped;
    *c = (anemo_capability){.group = group, .available = available};
    snprintf(c->name, sizeof c->name, "%s", name);
    snprintf(c->detail, sizeof c->detail, "%s", detail ? detail : "");
    return c;
}

void capability_missing(anemo_capability *c, const char *costs, const char *remedy) {
    if (c->available)
        return;
    snprintf(c->costs, sizeof c->costs, "%s", costs);
    snprintf(c->remedy, sizeof c->remedy, "%s", remedy);
}

/* ---------------------------------------------------------------- energy */

static void check_rapl(capability_list *list) {
    anemo_energy_lack lack;
    anemo_energy *meter = anemo_energy_open(ANEMO_CPU, 0, NULL, &lack);
    anemo_capability *c = capability_add(list, "energy", "RAPL (powercap)", meter != NULL,
                                         meter ? anemo_energy_source(meter) : lack.reason);
    capability_missing(c, "no joules per token on the CPU; cost uses assumed watts", lack.remedy);
    anemo_energy_close(meter);
}

/* ---------------------------------------------------------------- programs */

bool anemo_program_in_path(const char *name) {
    const char *path = getenv("PATH");
    char at[PATH_MAX];
    while (path && *path) {
        const size_t bytes = strcspn(path, ":");
        snprintf(at, sizeof at, "%.*s/%s", (int)bytes, path, name);
        if (bytes && access(at, X_OK) == 0)
            return true;
        path += bytes + (path[bytes] == ':');
    }
    return false;
}

static void check_programs(capability_list *list) {
    bool found = anemo_program_in_path("gnuplot");
    anemo_capability *c =
        capability_add(list, "programs", "gnuplot", found, found ? "in PATH" : "not in PATH");
    capability_missing(c, "no figures: report shows their numbers in tables, plot gives csv only",
                       "install gnuplot-nox; no rebuild needed");
}

/* ---------------------------------------------------------------- libraries */

static void check_libraries(capability_list *list) {
    char detail[200] = "not in this build";
    anemo_capability *c;
#if ANEMO_HAVE_OPENBLAS
    static const char *const threading[] = {"sequential", "own threads (pthread)", "OpenMP"};
    char *(*config)(void);
    int (*parallel)(void);
    *(void **)&config = dlsym(RTLD_DEFAULT, "openblas_get_config");
    *(void **)&parallel = dlsym(RTLD_DEFAULT, "openblas_get_parallel");
    int kind = parallel ? parallel() : -1;
    snprintf(detail, sizeof detail, "%.120s%s%s",
             config ? config() : "linked, but it does not tell its version",
             kind >= 0 && kind <= 2 ? ", threads: " : "",
             kind >= 0 && kind <= 2 ? threading[kind] : "");
#endif
    c = capability_add(list, "libraries", "OpenBLAS", ANEMO_HAVE_OPENBLAS, detail);
    capability_missing(c, "no BLAS yardstick beside the kernels",
                       "install libopenblas-openmp-dev and rebuild");
    c = capability_add(list, "libraries", "hwloc", ANEMO_HAVE_HWLOC,
                       ANEMO_HAVE_HWLOC ? anemo_machine_get()->topology : "not in this build");
    capability_missing(c, "topology from /sys; threads are still bound one per core",
                       "install libhwloc-dev and rebuild");
    c = capability_add(list, "libraries", "PCRE2", ANEMO_HAVE_PCRE2,
                       ANEMO_HAVE_PCRE2 ? ANEMO_PCRE2_VERSION : "not in this build");
    capability_missing(c, "no byte-level tokenizers (GPT-2, Llama 3, Qwen, tekken, gpt-oss)",
                       "install libpcre2-dev and rebuild");
    c = capability_add(list, "libraries", "utf8proc", ANEMO_HAVE_UTF8PROC,
                       ANEMO_HAVE_UTF8PROC ? ANEMO_UTF8PROC_VERSION : "not in this build");
    capability_missing(c, "no tokenizers that compose text (Qwen)",
                       "install libutf8proc-dev and rebuild");
}

/* ---------------------------------------------------------------- what disturbs */

static void check_clock_control(capability_list *list, const anemo_machine *m) {
    char detail[160];
    bool steady = strcmp(m->governor, "performance") == 0;
    if (m->governor[0])
        snprintf(detail, sizeof detail, "governor %s%s%s", m->governor,
                 m->boost[0] ? ", boost " : "", m->boost);
    else
        snprintf(detail, sizeof detail, "the kernel shows no cpufreq here%s",
                 strcmp(m->virtualisation, "none") ? " (the host decides)" : "");
    anemo_capability *c = capability_add(list, "steadiness", "fixed frequency", steady, detail);
    capability_missing(c, "clocks may drift: samples are interleaved and judged beside a probe",
                       m->governor[0] ? "cpupower frequency-set -g performance"
                                      : "set the governor on the host, or compare in turns only");
}

/* The setting, and what comes of it: are 8 MiB that ask for huge pages given them? */
static void check_huge_pages(capability_list *list, const anemo_machine *m) {
    enum { MIB = 1 << 20, ASKED = 8 * MIB, ALIGN = 2 * MIB };
    char detail[160];
    const int64_t before = anemo_machine_huge_bytes();
    char *memory =
        mmap(NULL, ASKED + ALIGN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int64_t got = 0;
    if (memory != MAP_FAILED) {
        char *aligned = memory + (ALIGN - (uintptr_t)memory % ALIGN) % ALIGN;
        madvise(aligned, ASKED, MADV_HUGEPAGE);
        memset(aligned, 1, ASKED);
        got = anemo_machine_huge_bytes() - before;
        munmap(memory, ASKED + ALIGN);
    }
    const bool told = before >= 0,
               set = strcmp(m->huge_pages, "always") == 0 || strcmp(m->huge_pages, "madvise") == 0;
    if (!m->huge_pages[0])
        snprintf(detail, sizeof detail, "the kernel has no transparent ones");
    else if (told)
        snprintf(detail, sizeof detail, "transparent: %s; %d of %d MiB asked for were given",
                 m->huge_pages, (int)(got / MIB), ASKED / MIB);
    else
        snprintf(detail, sizeof detail, "transparent: %s; the kernel does not tell what was given",
                 m->huge_pages);
    anemo_capability *c = capability_add(list, "steadiness", "huge pages",
                                         set && (!told || got >= ASKED / 2), detail);
    capability_missing(c, "address translation slows reading of large weights",
                       set ? "free memory: it is too fragmented for huge pages"
                           : "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
}

static void check_machine(capability_list *list, const anemo_machine *m) {
    char detail[160];
    bool bare = strcmp(m->virtualisation, "none") == 0;
    snprintf(detail, sizeof detail, "%s",
             bare                   ? "no hypervisor"
             : m->virtualisation[0] ? m->virtualisation
                                    : "cannot be told on this processor");
    anemo_capability *c = capability_add(list, "steadiness", "physical machine", bare, detail);
    capability_missing(c, "neighbours share caches and memory; topology is the hypervisor's",
                       "bare metal, or a dedicated instance with pinned CPUs");
    bool all = m->cpu_quota == 0 && m->threads_allowed == m->threads;
    snprintf(detail, sizeof detail, "%d of %d CPUs", m->threads_allowed, m->threads);
    if (m->cpu_quota > 0)
        snprintf(detail + strlen(detail), sizeof detail - strlen(detail), ", quota %.2f CPUs",
                 m->cpu_quota);
    c = capability_add(list, "steadiness", "whole machine", all, detail);
    capability_missing(c, "the figures are those of a part of the machine",
                       "run outside the cgroup or taskset that limits this process");
    check_huge_pages(list, m);
    c = capability_add(list, "steadiness", "mains power", !m->on_battery,
                       m->on_battery ? "on battery" : "yes");
    capability_missing(c, "clocks and limits are those of battery operation", "plug it in");
}

static void check_load(capability_list *list, const anemo_machine *m) {
    double load[1];
    char detail[96];
    if (getloadavg(load, 1) != 1)
        return;
    bool quiet = load[0] < 0.25 * m->threads + 0.25;
    snprintf(detail, sizeof detail, "load %.2f on %d CPUs", load[0], m->threads);
    anemo_capability *c = capability_add(list, "steadiness", "nothing else running", quiet, detail);
    capability_missing(c, "times vary; ratios stay usable because rivals take turns",
                       "stop other work before measuring");
}

int32_t anemo_capabilities(anemo_capability *items, int32_t max) {
    capability_list list = {items, 0, max};
    const anemo_machine *m = anemo_machine_get();
    check_load(&list, m); /* first: the rest makes load of its own */
    check_machine(&list, m);
    check_clock_control(&list, m);
    capability_counters(&list);
    check_rapl(&list);
    capability_gpu(&list);
    check_libraries(&list);
    check_programs(&list);
    return list.n;
}
